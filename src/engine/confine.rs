//! Who a program runs as and what it may use: identity, limits and resources, by their Linux names.

use std::fmt;
use std::path::PathBuf;

/// Who a program runs as.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Identity {
    /// User, by name or number; the server's own if none.
    pub user: Option<String>,
    /// Group, by name or number; that of the user if none.
    pub group: Option<String>,
    /// Supplementary groups, beside those the user is a member of.
    pub groups: Vec<String>,
    /// File mode bits it does not give (`umask(2)`).
    pub umask: Option<u32>,
    /// Scheduling priority, -20 to 19 (`setpriority(2)`).
    pub nice: Option<i32>,
    /// Priority of its disk accesses (`ioprio_set(2)`).
    pub ionice: Option<IoPriority>,
    /// How readily the kernel kills it for memory, -1000 to 1000 (`proc_pid_oom_score_adj(5)`).
    pub oom_score_adj: Option<i32>,
    /// No program it runs gives it more rights (`PR_SET_NO_NEW_PRIVS`).
    pub no_new_privs: bool,
    /// Rights beyond those of its user, and no others ever.
    pub capabilities: Option<Capabilities>,
    /// What is its root directory.
    pub chroot: Option<PathBuf>,
}

/// Class and level of disk accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoPriority {
    /// Before all others; level 0 to 7.
    Realtime(u8),
    /// As usual; level 0 to 7.
    BestEffort(u8),
    /// When nobody else wants the disk.
    Idle,
}

impl IoPriority {
    /// Reads `realtime:0`, `best-effort:7`, `best-effort` or `idle`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (class, level) = text.split_once(':').unwrap_or((text, "4"));
        let level = level.parse().ok().filter(|level: &u8| *level < 8)?;
        match class {
            "realtime" => Some(Self::Realtime(level)),
            "best-effort" => Some(Self::BestEffort(level)),
            class => (class == "idle" && text == class).then_some(Self::Idle),
        }
    }
}

impl fmt::Display for IoPriority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Realtime(level) => write!(f, "realtime:{level}"),
            Self::BestEffort(level) => write!(f, "best-effort:{level}"),
            Self::Idle => f.write_str("idle"),
        }
    }
}

/// A set of capabilities (`capabilities(7)`), one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(pub u64);

/// Capabilities by their number.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

impl Capabilities {
    /// Adds the capability of that name, with or without `CAP_`, in any case. False if there is none.
    pub fn add(&mut self, name: &str) -> bool {
        let name = name.to_ascii_uppercase();
        let name = name.strip_prefix("CAP_").unwrap_or(&name);
        let found = CAPABILITIES.iter().position(|known| *known == name);
        self.0 |= found.map_or(0, |number| 1 << number);
        found.is_some()
    }

    /// Their names.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        let set = (0..CAPABILITIES.len()).filter(|number| self.0 & (1 << number) != 0);
        set.map(|number| format!("CAP_{}", CAPABILITIES[number]))
            .collect()
    }
}

/// What is limited for a process (`getrlimit(2)`), in the order of a written file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "their names say it")]
pub enum Rlimit {
    As,
    Core,
    Cpu,
    Data,
    Fsize,
    Locks,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

impl Rlimit {
    /// All of them, with their names.
    pub const ALL: [(Self, &str); 16] = [
        (Self::As, "as"),
        (Self::Core, "core"),
        (Self::Cpu, "cpu"),
        (Self::Data, "data"),
        (Self::Fsize, "fsize"),
        (Self::Locks, "locks"),
        (Self::Memlock, "memlock"),
        (Self::Msgqueue, "msgqueue"),
        (Self::Nice, "nice"),
        (Self::Nofile, "nofile"),
        (Self::Nproc, "nproc"),
        (Self::Rss, "rss"),
        (Self::Rtprio, "rtprio"),
        (Self::Rttime, "rttime"),
        (Self::Sigpending, "sigpending"),
        (Self::Stack, "stack"),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(known, _)| *known == self);
        found.map_or("", |(_, name)| name)
    }
}

/// A limit: soft and hard; none is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What is limited.
    pub what: Rlimit,
    /// The limit in force.
    pub soft: Option<u64>,
    /// How far the program may raise it.
    pub hard: Option<u64>,
}

impl Limit {
    /// Reads `soft` or `soft:hard`, each a number or `unlimited`.
    #[must_use]
    pub fn parse(what: Rlimit, text: &str) -> Option<Self> {
        let one = |text: &str| match text.trim() {
            "unlimited" | "infinity" => Some(None),
            number => number.parse().ok().map(Some),
        };
        let (soft, hard) = text.split_once(':').unwrap_or((text, text));
        let (soft, hard) = (one(soft)?, one(hard)?);
        let fits = match (soft, hard) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(soft), Some(hard)) => soft <= hard,
        };
        fits.then_some(Self { what, soft, hard })
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |n| n.to_string());
        f.write_str(&text(self.soft))?;
        if self.soft != self.hard {
            write!(f, ":{}", text(self.hard))?;
        }
        Ok(())
    }
}

/// What a service may use together, as cgroup v2 limits and shares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Resources {
    /// Bytes of memory; beyond them the kernel kills.
    pub memory_max: Option<u64>,
    /// Bytes of memory; beyond them it is slowed down.
    pub memory_high: Option<u64>,
    /// Processes and threads.
    pub pids_max: Option<u64>,
    /// Its share of the processors, 1 to 10000; 100 is usual.
    pub cpu_weight: Option<u64>,
    /// Percent of one processor.
    pub cpu_max: Option<u64>,
    /// Its share of the disks, 1 to 10000; 100 is usual.
    pub io_weight: Option<u64>,
}

/// Reads a number of bytes: `1048576`, `512K`, `64M`, `2G` or `1T`, in powers of 1024.
#[must_use]
pub fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim().to_ascii_uppercase();
    let unit = unit
        .strip_suffix("IB")
        .or(unit.strip_suffix('B'))
        .unwrap_or(&unit);
    let shift = 10
        * ["", "K", "M", "G", "T"]
            .iter()
            .position(|known| *known == unit)?;
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_file_are_read_and_written_alike() {
        for text in ["realtime:0", "best-effort:7", "idle"] {
            let read = IoPriority::parse(text).map(|priority| priority.to_string());
            assert_eq!(read.as_deref(), Some(text));
        }
        for text in ["idle:3", "best-effort:8", "best-effort:", "fast"] {
            assert_eq!(IoPriority::parse(text), None, "{text}");
        }
        for text in ["1024", "1024:4096", "0:unlimited", "unlimited"] {
            let read = Limit::parse(Rlimit::Nofile, text).map(|limit| limit.to_string());
            assert_eq!(read.as_deref(), Some(text));
        }
        for text in ["", "5:4", "unlimited:5", "-1", "1:2:3", "many"] {
            assert_eq!(Limit::parse(Rlimit::Nofile, text), None, "{text}");
        }
        assert_eq!(bytes("64M"), Some(64 << 20));
        assert_eq!(bytes("1 KiB"), Some(1024));
        assert_eq!(bytes("99999999999T"), None);
        let mut set = Capabilities(0);
        assert!(set.add("cap_net_bind_service") && set.add("CHOWN") && !set.add("CAP_FLY"));
        assert_eq!(set.names(), ["CAP_CHOWN", "CAP_NET_BIND_SERVICE"]);
    }
}
