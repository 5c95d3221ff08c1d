//! Who a child becomes, and what it may use: between fork and exec, in the child.
//!
//! Names are looked up here and not in the server: a user database may be on a disk that hangs. The
//! child is single-threaded as the server is, so it may allocate.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;

use nix::libc;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Group, Uid, User, chdir, chroot, getgrouplist, setgid, setgroups, setuid};

use super::process::Misstep;
use crate::engine::Step;
use crate::engine::confine::{Capabilities, Identity, IoPriority, Limit, Rlimit};

/// Largest file of variables that is read.
const ENV_FILE_MAX_BYTES: u64 = 1 << 20;

/// Capabilities there can be.
const CAPABILITY_BITS: u32 = 64;

/// Who a program is to be, with every name looked up.
#[derive(Default)]
pub(super) struct Who {
    uid: Option<Uid>,
    gid: Option<Gid>,
    groups: Vec<Gid>,
    user: Option<User>,
}

impl Who {
    /// Looks the names up.
    pub(super) fn of(identity: &Identity) -> Result<Self, Misstep> {
        let unknown = |step| Misstep::new(step, nix::Error::ENOENT);
        let mut who = Self::default();
        if let Some(name) = &identity.user {
            let wrong = |errno| Misstep::new(Step::Setuid, errno);
            who.user = match name.parse::<u32>() {
                Ok(number) => User::from_uid(Uid::from_raw(number)).unwrap_or(None),
                Err(_) => Some(
                    User::from_name(name)
                        .map_err(wrong)?
                        .ok_or_else(|| unknown(Step::Setuid))?,
                ),
            };
            let number = name.parse().map(Uid::from_raw).ok();
            who.uid = who.user.as_ref().map(|user| user.uid).or(number);
            // A number without an entry is a group of its own, rather than root's.
            let own = who.uid.map(|uid| Gid::from_raw(uid.as_raw()));
            who.gid = who.user.as_ref().map(|user| user.gid).or(own);
        }
        if let Some(name) = &identity.group {
            who.gid = Some(group(name, 0)?);
        }
        if let (Some(user), Some(gid)) = (&who.user, who.gid) {
            let name = CString::new(user.name.as_str()).unwrap_or_default();
            let listed = getgrouplist(&name, gid);
            who.groups = listed.map_err(|errno| Misstep::new(Step::Setgid, errno))?;
        }
        for (item, name) in (1..).zip(&identity.groups) {
            let more = group(name, item)?;
            if !who.groups.contains(&more) {
                who.groups.push(more);
            }
        }
        // Who it is already it need not become, which is more than many may.
        let is_own = who
            .uid
            .is_none_or(|uid| uid == Uid::current() && !uid.is_root());
        let same_group = who.gid.is_none_or(|gid| gid == Gid::current());
        if is_own && same_group && identity.groups.is_empty() {
            who = Self {
                user: who.user,
                ..Self::default()
            };
        }
        Ok(who)
    }

    /// Is it anybody else than the server?
    pub(super) fn is_somebody(&self) -> bool {
        self.uid.is_some() || self.gid.is_some() || !self.groups.is_empty()
    }

    pub(super) fn uid(&self) -> Option<Uid> {
        self.uid
    }

    /// What a user finds in its environment.
    pub(super) fn variables(&self) -> Vec<CString> {
        let Some(user) = &self.user else {
            return Vec::new();
        };
        let one = |name: &str, value: &[u8]| {
            let mut bytes = format!("{name}=").into_bytes();
            bytes.extend(value);
            CString::new(bytes).unwrap_or_default()
        };
        vec![
            one("HOME", user.dir.as_os_str().as_bytes()),
            one("USER", user.name.as_bytes()),
            one("LOGNAME", user.name.as_bytes()),
            one("SHELL", user.shell.as_os_str().as_bytes()),
        ]
    }

    /// Becomes it, with these capabilities and no others if there are any.
    pub(super) fn become_it(
        &self,
        capabilities: Option<Capabilities>,
        no_new_privs: bool,
    ) -> Result<(), Misstep> {
        let of = |step| move |errno| Misstep::new(step, errno);
        if self.is_somebody() {
            setgroups(&self.groups).map_err(of(Step::Setgid))?;
        }
        if let Some(gid) = self.gid {
            setgid(gid).map_err(of(Step::Setgid))?;
        }
        if let Some(set) = capabilities {
            bound(set).map_err(of(Step::Capabilities))?;
        }
        if let Some(uid) = self.uid {
            setuid(uid).map_err(of(Step::Setuid))?;
        }
        if let Some(set) = capabilities {
            hold(set).map_err(of(Step::Capabilities))?;
        }
        if no_new_privs {
            prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map_err(of(Step::Capabilities))?;
        }
        Ok(())
    }
}

fn group(name: &str, item: u8) -> Result<Gid, Misstep> {
    if let Ok(number) = name.parse() {
        return Ok(Gid::from_raw(number));
    }
    let misstep = |errno| Misstep {
        item,
        ..Misstep::new(Step::Setgid, errno)
    };
    let found = Group::from_name(name).map_err(misstep)?;
    found
        .map(|group| group.gid)
        .ok_or_else(|| misstep(nix::Error::ENOENT))
}

/// What can be set while the child still has the server's rights, in its order.
pub(super) fn prepare(identity: &Identity, limits: &[Limit]) -> Result<(), Misstep> {
    if let Some(adjust) = identity.oom_score_adj {
        let written = File::options()
            .write(true)
            .open("/proc/self/oom_score_adj")
            .and_then(|mut file| file.write_all(adjust.to_string().as_bytes()));
        written.map_err(|error| Misstep::of(Step::OomScore, &error))?;
    }
    for (item, limit) in (0..).zip(limits) {
        set_limit(limit).map_err(|errno| Misstep {
            item,
            ..Misstep::new(Step::Limits, errno)
        })?;
    }
    if let Some(nice) = identity.nice {
        // SAFETY: setpriority takes plain numbers.
        let set = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
        nix::Error::result(set).map_err(|errno| Misstep::new(Step::Priority, errno))?;
    }
    if let Some(priority) = identity.ionice {
        let (class, level) = match priority {
            IoPriority::Realtime(level) => (1, level),
            IoPriority::BestEffort(level) => (2, level),
            IoPriority::Idle => (3, 0),
        };
        let word = class << 13 | libc::c_int::from(level);
        // SAFETY: ioprio_set takes plain numbers; 1 means a process.
        let set = unsafe { libc::syscall(libc::SYS_ioprio_set, 1, 0, word) };
        nix::Error::result(set).map_err(|errno| Misstep::new(Step::Priority, errno))?;
    }
    if let Some(mask) = identity.umask {
        umask(Mode::from_bits_truncate(mask as libc::mode_t));
    }
    Ok(())
}

/// Makes that directory its root.
pub(super) fn enter_root(identity: &Identity) -> Result<(), Misstep> {
    let Some(dir) = &identity.chroot else {
        return Ok(());
    };
    chroot(dir)
        .and_then(|()| chdir("/"))
        .map_err(|errno| Misstep::new(Step::Chroot, errno))
}

fn set_limit(limit: &Limit) -> nix::Result<()> {
    let what = match limit.what {
        Rlimit::As => libc::RLIMIT_AS,
        Rlimit::Core => libc::RLIMIT_CORE,
        Rlimit::Cpu => libc::RLIMIT_CPU,
        Rlimit::Data => libc::RLIMIT_DATA,
        Rlimit::Fsize => libc::RLIMIT_FSIZE,
        Rlimit::Locks => libc::RLIMIT_LOCKS,
        Rlimit::Memlock => libc::RLIMIT_MEMLOCK,
        Rlimit::Msgqueue => libc::RLIMIT_MSGQUEUE,
        Rlimit::Nice => libc::RLIMIT_NICE,
        Rlimit::Nofile => libc::RLIMIT_NOFILE,
        Rlimit::Nproc => libc::RLIMIT_NPROC,
        Rlimit::Rss => libc::RLIMIT_RSS,
        Rlimit::Rtprio => libc::RLIMIT_RTPRIO,
        Rlimit::Rttime => libc::RLIMIT_RTTIME,
        Rlimit::Sigpending => libc::RLIMIT_SIGPENDING,
        Rlimit::Stack => libc::RLIMIT_STACK,
    };
    let value = |limit: Option<u64>| limit.unwrap_or(libc::RLIM_INFINITY);
    let limits = libc::rlimit {
        rlim_cur: value(limit.soft),
        rlim_max: value(limit.hard),
    };
    // SAFETY: `limits` is valid for reading.
    nix::Error::result(unsafe { libc::setrlimit(what, &raw const limits) }).map(drop)
}

/// Nothing it ever runs has other capabilities than these (`capabilities(7)`, bounding set); and
/// they outlive a change of user.
fn bound(set: Capabilities) -> nix::Result<()> {
    for number in 0..CAPABILITY_BITS {
        if set.0 & (1 << number) == 0 {
            match prctl(libc::PR_CAPBSET_DROP, number.into(), 0) {
                Ok(()) => {}
                // The kernel knows no such capability, nor any after it.
                Err(nix::Error::EINVAL) => break,
                Err(errno) => return Err(errno),
            }
        }
    }
    prctl(libc::PR_SET_KEEPCAPS, 1, 0)
}

/// Has these capabilities and passes them on to its program, whatever the file of that says
/// (ambient set).
fn hold(set: Capabilities) -> nix::Result<()> {
    /// The third version of the structures of `capset(2)`.
    const VERSION: u32 = 0x2008_0522;
    #[expect(clippy::cast_possible_truncation, reason = "a half each")]
    let halves = [set.0 as u32, (set.0 >> 32) as u32];
    let head: [u32; 2] = [VERSION, 0];
    // Effective, permitted, inheritable; once for each half.
    let data: [u32; 6] = [
        halves[0], halves[0], halves[0], halves[1], halves[1], halves[1],
    ];
    // SAFETY: both arrays have the layout that capset reads, and live until it returns.
    let done = unsafe { libc::syscall(libc::SYS_capset, head.as_ptr(), data.as_ptr()) };
    nix::Error::result(done)?;
    for number in 0..CAPABILITY_BITS {
        if set.0 & (1 << number) != 0 {
            prctl(
                libc::PR_CAP_AMBIENT,
                libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong,
                number.into(),
            )?;
        }
    }
    Ok(())
}

fn prctl(option: libc::c_int, two: libc::c_ulong, three: libc::c_ulong) -> nix::Result<()> {
    let zero: libc::c_ulong = 0;
    // SAFETY: these options of prctl take plain numbers.
    nix::Error::result(unsafe { libc::prctl(option, two, three, zero, zero) }).map(drop)
}

/// The variables of a file: `NAME=value` lines, as shells and systemd's `EnvironmentFile` write
/// them.
pub(super) fn variables_of(path: &str, item: u8) -> Result<Vec<CString>, Misstep> {
    let (path, optional) = match path.strip_prefix('-') {
        Some(path) => (path, true),
        None => (path, false),
    };
    let mut bytes = Vec::new();
    let read = File::options()
        .read(true)
        .open(path)
        .and_then(|file| file.take(ENV_FILE_MAX_BYTES).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(parse_variables(&bytes)),
        Err(_) if optional => Ok(Vec::new()),
        Err(error) => Err(Misstep {
            item,
            ..Misstep::of(Step::EnvFile, &error)
        }),
    }
}

/// One variable a line. Blank lines and those that begin with `#` or `;` are passed over; a value
/// may stand in quotes of either kind, and a backslash in double quotes takes the next character
/// as it is.
#[must_use]
pub fn parse_variables(bytes: &[u8]) -> Vec<CString> {
    let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let told = lines.filter(|line| !line.is_empty() && !matches!(line[0], b'#' | b';'));
    let one = |line: &[u8]| {
        let line = line.strip_prefix(b"export ").unwrap_or(line);
        let equals = line.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (line[..equals].trim_ascii(), &line[equals + 1..]);
        if name.is_empty() {
            return None;
        }
        let mut entry = name.to_vec();
        entry.push(b'=');
        entry.extend(unquoted(value.trim_ascii()));
        CString::new(entry).ok()
    };
    told.filter_map(one).collect()
}

fn unquoted(value: &[u8]) -> Vec<u8> {
    match value {
        [b'\'', inner @ .., b'\''] => inner.to_vec(),
        [b'"', inner @ .., b'"'] => {
            let mut text = Vec::new();
            let mut bytes = inner.iter();
            while let Some(byte) = bytes.next() {
                let escaped = (*byte == b'\\').then(|| bytes.next()).flatten();
                text.push(*escaped.unwrap_or(byte));
            }
            text
        }
        plain => plain.to_vec(),
    }
}

/// Each name once: of two the later one counts.
pub(super) fn merged(all: Vec<CString>) -> Vec<CString> {
    let mut seen = std::collections::BTreeSet::new();
    let mut kept: Vec<CString> = Vec::with_capacity(all.len());
    for entry in all.into_iter().rev() {
        let name = entry.to_bytes().split(|byte| *byte == b'=').next();
        if seen.insert(name.unwrap_or_default().to_vec()) {
            kept.push(entry);
        }
    }
    kept.reverse();
    kept
}

/// Lets a user open its own output again by its name under `/proc/self/fd`, as web servers do.
pub(super) fn give_output(uid: Uid) {
    for number in [1, 2] {
        // SAFETY: fchown takes plain numbers; what can't be given is just not.
        unsafe { libc::fchown(number, uid.as_raw(), libc::gid_t::MAX) };
    }
}

/// Enters a cgroup, by its open directory.
pub(super) fn enter_cgroup(directory: &File) -> Result<(), Misstep> {
    let path = format!("/proc/self/fd/{}/cgroup.procs", directory.as_raw_fd());
    let entered = File::options()
        .write(true)
        .open(path)
        .and_then(|mut procs| procs.write_all(b"0"));
    entered.map_err(|error| Misstep::of(Step::Cgroup, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_variables_is_read_as_shells_write_it() {
        let text = b"# remark\n\nA=1\n export B = two words \nC=\"x \\\"y\\\" \\\\\"\nD='$A'\n;no\nbad\n=no\nE=\r\nA=2\n";
        let found = parse_variables(text);
        let found: Vec<&str> = found
            .iter()
            .filter_map(|entry| entry.to_str().ok())
            .collect();
        assert_eq!(
            found,
            ["A=1", "B=two words", "C=x \"y\" \\", "D=$A", "E=", "A=2"]
        );
        let entries = ["A=1", "B=x", "A=2"].map(|text| CString::new(text).unwrap());
        let merged = merged(entries.to_vec());
        assert_eq!(
            merged,
            ["B=x", "A=2"].map(|text| CString::new(text).unwrap())
        );
    }
}
