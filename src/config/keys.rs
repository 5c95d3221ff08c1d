//! Every key of a service or target file: one table for the diagnosis, the written file and the manual.
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
pub const SERVICE_SECTIONS: [&str; 5] =
    ["service", "dependencies", "lifecycle", "health", "logging"];

/// The sections of a target file.
pub const TARGET_SECTIONS: [&str; 2] = ["target", "dependencies"];

/// All keys.
pub const KEYS: &[Key] = &[
    key(
        "service",
        "name",
        REQUIRED,
        "name",
        "unique name of the service",
    ),
    key(
        "service",
        "exec",
        REQUIRED,
        "string or array of strings",
        "what is run",
    ),
    key("service", "dir", "none", "path", "working directory"),
    key(
        "service",
        "tty",
        "none",
        "path",
        "terminal it has as input, output and controlling terminal",
    ),
    key(
        "service",
        "oneshot",
        "false",
        "boolean",
        "runs once to its end",
    ),
    key(
        "service",
        "status",
        "start",
        "start, stop or ignore",
        "whether it is started by itself",
    ),
    key(
        "service",
        "class",
        "user",
        "user or system",
        "whether bulk commands touch it",
    ),
    key(
        "service",
        "critical",
        "false",
        "boolean",
        "its failure for good is the machine's",
    ),
    key(
        "service",
        "ports",
        "empty",
        "array of port numbers",
        "TCP ports nobody else may hold",
    ),
    key(
        "service",
        "kill_others",
        "false",
        "boolean",
        "kill who is in the way",
    ),
    key(
        "service",
        "process_filters",
        "empty",
        "array of strings",
        "processes it waits for to be gone",
    ),
    key(
        "service",
        "env",
        "empty",
        "table of strings",
        "added to the environment",
    ),
    key(
        "target",
        "name",
        REQUIRED,
        "name",
        "unique name of the target",
    ),
    key(
        "target",
        "status",
        "start",
        "start, stop or ignore",
        "whether it is started by itself",
    ),
    key(
        "target",
        "class",
        "user",
        "user or system",
        "whether bulk commands touch it",
    ),
    key(
        "target",
        "critical",
        "false",
        "boolean",
        "its failure for good is the machine's",
    ),
    key(
        "dependencies",
        "after",
        "empty",
        "array of names",
        "start after those, if they start too",
    ),
    key(
        "dependencies",
        "requires",
        "empty",
        "array of names",
        "start and need those",
    ),
    key(
        "dependencies",
        "wants",
        "empty",
        "array of names",
        "start those along",
    ),
    key(
        "dependencies",
        "conflicts",
        "empty",
        "array of names",
        "never up together with those",
    ),
    key(
        "lifecycle",
        "restart",
        "on-failure",
        "always, on-failure or never",
        "when it is started again",
    ),
    key(
        "lifecycle",
        "restart_delay_ms",
        "1000",
        "milliseconds",
        "first delay before a restart",
    ),
    key(
        "lifecycle",
        "restart_delay_max_ms",
        "300000",
        "milliseconds",
        "the delay doubles up to this",
    ),
    key(
        "lifecycle",
        "max_restarts",
        "10",
        "number",
        "restarts in a row; 0 is no limit",
    ),
    key(
        "lifecycle",
        "stability_period_ms",
        "30000",
        "milliseconds",
        "a run this long forgets restarts",
    ),
    key(
        "lifecycle",
        "start_timeout_ms",
        "30000",
        "milliseconds",
        "time from fork to a running program",
    ),
    key(
        "lifecycle",
        "stop_timeout_ms",
        "10000",
        "milliseconds",
        "time from the stop signal to SIGKILL",
    ),
    key(
        "lifecycle",
        "stop_signal",
        "SIGTERM",
        "signal",
        "asks the service to stop",
    ),
    key(
        "lifecycle",
        "kill_mode",
        "tree",
        "tree, group or main",
        "which processes a stop ends",
    ),
    key(
        "lifecycle",
        "survive_switch_root",
        "false",
        "boolean",
        "goes on when an initramfs hands over",
    ),
    key(
        "health",
        "type",
        REQUIRED,
        "tcp, http or exec",
        "how health is probed",
    ),
    key("health", "target", REQUIRED, "string", "what is probed"),
    key(
        "health",
        "expect_status",
        "200",
        "number",
        "the HTTP status that is healthy",
    ),
    key(
        "health",
        "interval_ms",
        "10000",
        "milliseconds",
        "time between probes",
    ),
    key(
        "health",
        "timeout_ms",
        "5000",
        "milliseconds",
        "a longer probe has failed",
    ),
    key(
        "health",
        "retries",
        "3",
        "number",
        "failures in a row that count",
    ),
    key(
        "health",
        "start_period_ms",
        "0",
        "milliseconds",
        "time before the first probe",
    ),
    key(
        "logging",
        "buffer_lines",
        "1000",
        "number",
        "lines of output kept in memory",
    ),
    key("logging", "file", "none", "path", "accepted, not used yet"),
    key(
        "logging",
        "forward",
        "none",
        "string",
        "accepted, not used yet",
    ),
];

/// Is that key of that section in the table?
pub(super) fn is_known(section: &str, name: &str) -> bool {
    KEYS.iter()
        .any(|key| key.section == section && key.name == name)
}

const fn key(
    section: &'static str,
    name: &'static str,
    default: &'static str,
    kind: &'static str,
    about: &'static str,
) -> Key {
    Key {
        section,
        name,
        default,
        kind,
        about,
    }
}
