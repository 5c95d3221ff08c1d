//! Every key of a service, target or proxy file: one table for the diagnosis, the written file and
//! the manual.
//!
//! The order is that of a written file. A test compares the table with what the mirror in
//! `file.rs` reads and writes, another with the manual page, so none of the three can drift.

/// One key of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The section it stands in, without brackets.
    pub section: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What an absent key means: a value, `none`, `empty`, or [`REQUIRED`].
    pub default: &'static str,
    /// What may stand there, with its unit.
    pub kind: &'static str,
    /// What it is for, in one line.
    pub about: &'static str,
}

/// The [`Key::default`] of a key that its section must have.
pub const REQUIRED: &str = "required";

/// The sections of a service file.
pub const SERVICE_SECTIONS: [&str; 10] = [
    "service",
    "dependencies",
    "lifecycle",
    "readiness",
    "health",
    "hooks",
    "limits",
    "resources",
    "socket",
    "logging",
];

/// The sections of a target file.
pub const TARGET_SECTIONS: [&str; 2] = ["target", "dependencies"];

/// The sections of a proxy file.
pub const XINET_SECTIONS: [&str; 1] = ["xinet"];

/// All keys.
pub const KEYS: &[Key] = &[
    service("name", REQUIRED, "name", "unique name of the service"),
    service(
        "exec",
        REQUIRED,
        "string or array of strings",
        "what is run",
    ),
    service("dir", "none", "path", "working directory"),
    service(
        "tty",
        "none",
        "path",
        "terminal it has as input, output and controlling terminal",
    ),
    service("user", "none", "name or number", "who it runs as"),
    service(
        "group",
        "none",
        "name or number",
        "its group; that of the user if absent",
    ),
    service(
        "groups",
        "empty",
        "array of names or numbers",
        "supplementary groups, beside those of the user",
    ),
    service(
        "umask",
        "none",
        "octal string",
        "file mode bits it does not give",
    ),
    service("nice", "none", "-20 to 19", "scheduling priority"),
    service(
        "ionice",
        "none",
        "idle, best-effort:0 to 7 or realtime:0 to 7",
        "priority of disk accesses",
    ),
    service(
        "oom_score_adj",
        "none",
        "-1000 to 1000",
        "how readily the kernel kills it for memory",
    ),
    service(
        "no_new_privs",
        "false",
        "boolean",
        "no program gives it more rights",
    ),
    service(
        "capabilities",
        "none",
        "array of capabilities",
        "rights beyond its user's, and no others",
    ),
    service("chroot", "none", "path", "its root directory"),
    service("oneshot", "false", "boolean", "runs once to its end"),
    service(
        "status",
        "start",
        "start, stop or ignore",
        "whether it is started by itself",
    ),
    service(
        "class",
        "user",
        "user or system",
        "whether bulk commands touch it",
    ),
    service(
        "critical",
        "false",
        "boolean",
        "its failure for good is the machine's",
    ),
    service(
        "ports",
        "empty",
        "array of port numbers",
        "TCP ports nobody else may hold",
    ),
    service("kill_others", "false", "boolean", "kill who is in the way"),
    service(
        "process_filters",
        "empty",
        "array of strings",
        "processes it waits for to be gone",
    ),
    service(
        "env_file",
        "empty",
        "path or array of paths",
        "files of variables; - in front: may be missing",
    ),
    service(
        "env_inherit",
        "none",
        "boolean",
        "has it the server's environment too",
    ),
    service(
        "env",
        "empty",
        "table of strings",
        "added to the environment",
    ),
    target("name", REQUIRED, "name", "unique name of the target"),
    target(
        "status",
        "start",
        "start, stop or ignore",
        "whether it is started by itself",
    ),
    target(
        "class",
        "user",
        "user or system",
        "whether bulk commands touch it",
    ),
    target(
        "critical",
        "false",
        "boolean",
        "its failure for good is the machine's",
    ),
    dependencies(
        "after",
        "empty",
        "array of names",
        "start after those, if they start too",
    ),
    dependencies(
        "requires",
        "empty",
        "array of names",
        "start and need those",
    ),
    dependencies("wants", "empty", "array of names", "start those along"),
    dependencies(
        "conflicts",
        "empty",
        "array of names",
        "never up together with those",
    ),
    lifecycle(
        "restart",
        "on-failure",
        "always, on-failure or never",
        "when it is started again",
    ),
    lifecycle(
        "restart_delay_ms",
        "1000",
        "milliseconds",
        "first delay before a restart",
    ),
    lifecycle(
        "restart_delay_max_ms",
        "300000",
        "milliseconds",
        "the delay doubles up to this",
    ),
    lifecycle(
        "max_restarts",
        "10",
        "number",
        "restarts in a row; 0 is no limit",
    ),
    lifecycle(
        "stability_period_ms",
        "30000",
        "milliseconds",
        "a run this long forgets restarts",
    ),
    lifecycle(
        "start_timeout_ms",
        "30000",
        "milliseconds",
        "time from fork to a running program",
    ),
    lifecycle(
        "stop_timeout_ms",
        "10000",
        "milliseconds",
        "time from the stop signal to SIGKILL",
    ),
    lifecycle(
        "stop_signal",
        "SIGTERM",
        "signal",
        "asks the service to stop",
    ),
    lifecycle(
        "kill_mode",
        "tree",
        "tree, group or main",
        "which processes a stop ends",
    ),
    lifecycle(
        "reload_signal",
        "none",
        "signal",
        "has it read its configuration anew",
    ),
    lifecycle(
        "success_exit",
        "0",
        "array of exit statuses and signals",
        "ends that are a success",
    ),
    lifecycle(
        "restart_dependents",
        "false",
        "boolean",
        "restarts who requires it along with it",
    ),
    lifecycle(
        "on_failure",
        "nothing",
        "nothing, shutdown, reboot, shell or start:NAME",
        "what follows its failure for good",
    ),
    lifecycle(
        "on_exit",
        "nothing",
        "nothing, shutdown, reboot, shell or start:NAME",
        "what follows its end with success",
    ),
    lifecycle(
        "survive_switch_root",
        "false",
        "boolean",
        "goes on when an initramfs hands over",
    ),
    readiness(
        "type",
        "spawn, health or exit",
        "spawn, exit, health, notify, fd or log",
        "what makes it ready",
    ),
    readiness(
        "fd",
        "none",
        "3 to 1023",
        "descriptor for type fd; 3 if absent",
    ),
    readiness(
        "text",
        "none",
        "string",
        "part of a line of output for type log",
    ),
    readiness(
        "watchdog_ms",
        "0",
        "milliseconds",
        "it pings at least so often; 0 is no watchdog",
    ),
    health(
        "type",
        REQUIRED,
        "tcp, http or exec",
        "how health is probed",
    ),
    health("target", REQUIRED, "string", "what is probed"),
    health(
        "expect_status",
        "200",
        "number, 2xx, or an array of those",
        "the HTTP statuses that are healthy",
    ),
    health(
        "interval_ms",
        "10000",
        "milliseconds",
        "time between probes",
    ),
    health(
        "timeout_ms",
        "5000",
        "milliseconds",
        "a longer probe has failed",
    ),
    health("retries", "3", "number", "failures in a row that count"),
    health(
        "start_period_ms",
        "0",
        "milliseconds",
        "time before the first probe",
    ),
    health(
        "on_unhealthy",
        "restart",
        "restart or report",
        "what follows",
    ),
    hooks(
        "pre_start",
        "none",
        "string or array of strings",
        "run before the program",
    ),
    hooks(
        "pre_start_timeout_ms",
        "30000",
        "milliseconds",
        "a longer hook is killed",
    ),
    hooks(
        "post_start",
        "none",
        "string or array of strings",
        "run when it is ready",
    ),
    hooks(
        "post_start_timeout_ms",
        "30000",
        "milliseconds",
        "a longer hook is killed",
    ),
    hooks(
        "stop",
        "none",
        "string or array of strings",
        "run instead of the stop signal",
    ),
    hooks(
        "stop_timeout_ms",
        "30000",
        "milliseconds",
        "a longer hook is killed",
    ),
    hooks(
        "post_stop",
        "none",
        "string or array of strings",
        "run when all of it has ended",
    ),
    hooks(
        "post_stop_timeout_ms",
        "30000",
        "milliseconds",
        "a longer hook is killed",
    ),
    hooks(
        "reload",
        "none",
        "string or array of strings",
        "has it read its configuration anew",
    ),
    hooks(
        "reload_timeout_ms",
        "30000",
        "milliseconds",
        "a longer hook is killed",
    ),
    limits("as", "none", "soft or soft:hard", "bytes of address space"),
    limits("core", "none", "soft or soft:hard", "bytes of a core file"),
    limits(
        "cpu",
        "none",
        "soft or soft:hard",
        "seconds of processor time",
    ),
    limits("data", "none", "soft or soft:hard", "bytes of data segment"),
    limits(
        "fsize",
        "none",
        "soft or soft:hard",
        "bytes of a file it writes",
    ),
    limits("locks", "none", "soft or soft:hard", "file locks"),
    limits(
        "memlock",
        "none",
        "soft or soft:hard",
        "bytes of locked memory",
    ),
    limits(
        "msgqueue",
        "none",
        "soft or soft:hard",
        "bytes of message queues",
    ),
    limits(
        "nice",
        "none",
        "soft or soft:hard",
        "20 minus the least nice value",
    ),
    limits("nofile", "none", "soft or soft:hard", "descriptors"),
    limits(
        "nproc",
        "none",
        "soft or soft:hard",
        "processes of its user",
    ),
    limits(
        "rss",
        "none",
        "soft or soft:hard",
        "without effect since Linux 2.4.30",
    ),
    limits("rtprio", "none", "soft or soft:hard", "real-time priority"),
    limits(
        "rttime",
        "none",
        "soft or soft:hard",
        "microseconds of real-time run",
    ),
    limits("sigpending", "none", "soft or soft:hard", "queued signals"),
    limits("stack", "none", "soft or soft:hard", "bytes of stack"),
    resources(
        "memory_max",
        "none",
        "bytes, K, M, G or T",
        "memory; beyond it the kernel kills",
    ),
    resources(
        "memory_high",
        "none",
        "bytes, K, M, G or T",
        "memory; beyond it it is slowed down",
    ),
    resources("pids_max", "none", "number", "processes and threads"),
    resources(
        "cpu_weight",
        "none",
        "1 to 10000",
        "share of the processors; 100 is usual",
    ),
    resources(
        "cpu_max",
        "none",
        "percent",
        "processor time; 100% is one processor",
    ),
    resources(
        "io_weight",
        "none",
        "1 to 10000",
        "share of the disks; 100 is usual",
    ),
    socket(
        "listen",
        "empty",
        "address or array of addresses",
        "sockets that are opened for it, and that it finds open",
    ),
    socket(
        "names",
        "empty",
        "array of strings",
        "what it knows them by; else the name of the service",
    ),
    socket(
        "mode",
        "none",
        "octal string",
        "mode of a Unix socket; 0666 if absent",
    ),
    socket(
        "activation",
        "false",
        "boolean",
        "started when somebody connects, not before",
    ),
    logging(
        "buffer_lines",
        "1000",
        "number",
        "lines of output kept in memory",
    ),
    logging("file", "none", "path", "where its output is written too"),
    logging(
        "max_size",
        "10485760",
        "bytes, K, M, G or T",
        "a larger file is rotated; 0 is never",
    ),
    logging("max_files", "5", "number", "rotated files that are kept"),
    logging("mode", "0640", "octal string", "mode of the file"),
    logging(
        "forward",
        "none",
        "syslog, unix:PATH, udp:ADDRESS, kmsg, console or stdout",
        "where its output goes on to",
    ),
    logging(
        "forward_format",
        "prefixed",
        "raw, prefixed or json",
        "as what, but to syslog",
    ),
    xinet("name", REQUIRED, "name", "unique name of the proxy"),
    xinet(
        "listen",
        REQUIRED,
        "address or array of addresses",
        "where it listens",
    ),
    xinet("backend", REQUIRED, "address", "where the service listens"),
    xinet(
        "service",
        REQUIRED,
        "name",
        "the service it starts and stops",
    ),
    xinet(
        "connect_timeout",
        "30",
        "seconds",
        "a client may wait so long for the service",
    ),
    xinet(
        "idle_timeout",
        "0",
        "seconds",
        "without a client for so long, the service is stopped; 0 is never",
    ),
    xinet(
        "single_connection",
        "false",
        "boolean",
        "one client at a time; others are turned away",
    ),
];

/// Is that key of that section in the table?
pub(super) fn is_known(section: &str, name: &str) -> bool {
    KEYS.iter()
        .any(|key| key.section == section && key.name == name)
}

/// A function for each section, so that a key is a line.
macro_rules! sections {
    ($($section:ident)*) => {
        $(const fn $section(
            name: &'static str,
            default: &'static str,
            kind: &'static str,
            about: &'static str,
        ) -> Key {
            let section = stringify!($section);
            Key { section, name, default, kind, about }
        })*
    };
}

sections! {
    service target dependencies lifecycle readiness health hooks limits resources socket logging
    xinet
}
