//! A service as it is meant: what a service file says, checked and valid by construction.
//!
//! The engine decides by links, policy and timeouts; the rest (the program, its output, its
//! probe) is carried along for the shell that carries out the engine's actions.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use super::Signal;

/// Everything a service file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Unique name: one or more of `[A-Za-z0-9._-]`.
    pub name: Rc<str>,
    /// A program to run, or a target (a name for a group of services).
    pub kind: Kind,
    /// When the service is started without being asked for.
    pub status: Status,
    /// Who the service belongs to; bulk commands leave `system` alone.
    pub class: Class,
    /// Its failure for good is the machine's.
    pub critical: bool,
    /// What it has to do with other services.
    pub links: Links,
    /// What follows when its process ends, and how long things may take.
    pub lifecycle: Lifecycle,
    /// How its health is probed, if at all.
    pub health: Option<Health>,
    /// What is kept of its output.
    pub logging: Logging,
}

/// What stands behind a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No process: running as soon as its requirements are.
    Target,
    /// A program.
    Program(Box<Program>),
}

/// A program and what it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// What is run.
    pub exec: Exec,
    /// Working directory; the server's own if none.
    pub dir: Option<PathBuf>,
    /// The terminal that is its input, output and controlling terminal; none: output is kept.
    pub tty: Option<PathBuf>,
    /// Added to the server's environment.
    pub env: BTreeMap<String, String>,
    /// Runs once to its end; dependents wait for success.
    pub oneshot: bool,
    /// TCP ports it listens on: nobody else may hold one when it starts.
    pub ports: Vec<u16>,
    /// Kill the process that holds one of `ports`, or matches a filter, rather than wait for it.
    pub kill_others: bool,
    /// It waits while a process runs whose name contains one of these (case-insensitive).
    pub process_filters: Vec<String>,
}

/// What `exec` says. A line with shell syntax is run by `/bin/sh -c`, plain words directly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exec {
    /// A command line as a string.
    Line(String),
    /// Program and arguments; never empty.
    Words(Vec<String>),
}

/// `status` of a service file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Status {
    /// Started when the server starts or the file appears.
    #[default]
    Start,
    /// Started on request only.
    Stop,
    /// Started on request only.
    Ignore,
}

/// `class` of a service file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Class {
    /// An ordinary service.
    #[default]
    User,
    /// Part of the machine; bulk commands pass it by.
    System,
}

/// Names of other services, by what they mean to this one. They need not exist.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Links {
    /// Start only while those are up; go down before them.
    pub requires: Vec<Rc<str>>,
    /// If those are starting too, start after them.
    pub after: Vec<Rc<str>>,
    /// Start those along; nothing else.
    pub wants: Vec<Rc<str>>,
    /// Never up at the same time as those.
    pub conflicts: Vec<Rc<str>>,
}

/// Policy: what the engine does when, and how long it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifecycle {
    /// When a process that ended is started again.
    pub restart: RestartPolicy,
    /// First delay before a restart; doubled each time.
    pub restart_delay: Duration,
    /// The delay grows no further.
    pub restart_delay_max: Duration,
    /// Restarts in a row before the service has failed for good; 0 = no end.
    pub max_restarts: u32,
    /// A process that lived this long has its restarts forgotten.
    pub stability_period: Duration,
    /// Time from fork until the program is running.
    pub start_timeout: Duration,
    /// Time from the stop signal until SIGKILL.
    pub stop_timeout: Duration,
    /// The signal that asks the service to stop.
    pub stop_signal: Signal,
    /// Which of its processes a stop is for.
    pub kill_mode: KillMode,
    /// It goes on when an initramfs hands over to the real root.
    pub survive_switch_root: bool,
}

/// `restart` of a service file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RestartPolicy {
    /// Whenever it ends by itself (a oneshot: only when it failed).
    Always,
    /// When it ends with a status other than 0, or by a signal.
    #[default]
    OnFailure,
    /// Never.
    Never,
}

/// `kill_mode` of a service file: which processes a stop ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum KillMode {
    /// All of the service, wherever it fled.
    #[default]
    Tree,
    /// The main process's process group.
    Group,
    /// The main process only.
    Main,
}

/// `[health]` of a service file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// How and what is probed.
    pub probe: Probe,
    /// Time between probes.
    pub interval: Duration,
    /// A probe that takes longer has failed.
    pub timeout: Duration,
    /// Failures in a row that make the service unhealthy.
    pub retries: u32,
    /// Time before the first probe.
    pub start_period: Duration,
}

/// A health probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Connect to `host:port`.
    Tcp(String),
    /// GET a URL and read the status.
    Http {
        /// The URL.
        url: String,
        /// The status that is healthy.
        expect_status: u16,
    },
    /// Run a command line; exit status 0 is healthy.
    Exec(String),
}

/// `[logging]` of a service file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// Lines of output kept in memory.
    pub buffer_lines: usize,
    /// Accepted for later use.
    pub file: Option<PathBuf>,
    /// Accepted for later use.
    pub forward: Option<String>,
}

impl Exec {
    /// What it begins with: the program, as far as one can tell without a shell.
    #[must_use]
    pub fn first_word(&self) -> &str {
        match self {
            Self::Line(line) => line.split_whitespace().next().unwrap_or(line),
            Self::Words(words) => words.first().map_or("", String::as_str),
        }
    }
}

impl Spec {
    /// The program, unless it is a target.
    #[must_use]
    pub fn program(&self) -> Option<&Program> {
        match &self.kind {
            Kind::Target => None,
            Kind::Program(program) => Some(program),
        }
    }

    /// Has it no process of its own?
    #[must_use]
    pub fn is_target(&self) -> bool {
        matches!(self.kind, Kind::Target)
    }

    /// Does it run once, to its end?
    #[must_use]
    pub fn is_oneshot(&self) -> bool {
        self.program().is_some_and(|program| program.oneshot)
    }

    /// The ports it declares.
    #[must_use]
    pub fn ports(&self) -> &[u16] {
        self.program().map_or(&[], |program| &program.ports)
    }

    /// A target with every default, and no links.
    #[must_use]
    pub fn target(name: &str) -> Self {
        Self {
            name: name.into(),
            kind: Kind::Target,
            status: Status::default(),
            class: Class::default(),
            critical: false,
            links: Links::default(),
            lifecycle: Lifecycle::default(),
            health: None,
            logging: Logging::default(),
        }
    }

    /// A program with every default, and no links.
    #[must_use]
    pub fn new(name: &str, exec: Exec) -> Self {
        let program = Program {
            exec,
            dir: None,
            tty: None,
            env: BTreeMap::new(),
            oneshot: false,
            ports: Vec::new(),
            kill_others: false,
            process_filters: Vec::new(),
        };
        Self {
            kind: Kind::Program(Box::new(program)),
            ..Self::target(name)
        }
    }
}

/// The defaults of zinit 0.3.9, so that a file means what it meant.
impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            restart: RestartPolicy::default(),
            restart_delay: Duration::from_secs(1),
            restart_delay_max: Duration::from_secs(300),
            max_restarts: 10,
            stability_period: Duration::from_secs(30),
            start_timeout: Duration::from_secs(30),
            stop_timeout: Duration::from_secs(10),
            stop_signal: Signal::TERM,
            kill_mode: KillMode::default(),
            survive_switch_root: false,
        }
    }
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            buffer_lines: 1000,
            file: None,
            forward: None,
        }
    }
}
