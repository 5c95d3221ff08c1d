//! A service as it is meant: what a service file says, checked and valid by construction.
//!
//! The engine decides by links, policy and timeouts; the rest (the program, its output, its
//! probe) is carried along for the shell that carries out the engine's actions.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use super::address::Address;
use super::confine::{Identity, Limit, Resources};
use super::{Exit, Signal};

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
    /// What follows when it has ended for good.
    pub sequel: Sequel,
    /// What makes it ready.
    pub readiness: Readiness,
    /// How long it may be silent; it has to say that it is well more often. None: no matter.
    pub watchdog: Option<Duration>,
    /// How its health is probed, if at all.
    pub health: Option<Health>,
    /// What is run beside its program.
    pub hooks: Hooks,
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
    /// Who it runs as.
    pub identity: Identity,
    /// What each of its processes may use.
    pub limits: Vec<Limit>,
    /// What all of them may use together.
    pub resources: Resources,
    /// Added to its environment.
    pub env: BTreeMap<String, String>,
    /// Files of variables; one with a `-` in front need not be there.
    pub env_file: Vec<String>,
    /// Has it the server's environment too? None: unless the server is PID 1 of a machine.
    pub env_inherit: Option<bool>,
    /// Runs once to its end; dependents wait for success.
    pub oneshot: bool,
    /// TCP ports it listens on: nobody else may hold one when it starts.
    pub ports: Vec<u16>,
    /// Kill the process that holds one of `ports`, or matches a filter, rather than wait for it.
    pub kill_others: bool,
    /// It waits while a process runs whose name contains one of these (case-insensitive).
    pub process_filters: Vec<String>,
    /// Sockets that are opened for it, and that it finds open.
    pub sockets: Sockets,
}

/// `[socket]` of a service file.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Sockets {
    /// Where is listened.
    pub listen: Vec<Address>,
    /// What it knows them by (`LISTEN_FDNAMES`); the name of the service where there is none.
    pub names: Vec<String>,
    /// Mode of a Unix socket.
    pub mode: Option<u32>,
    /// It is started when somebody connects, not before.
    pub activation: bool,
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
    /// The signal that has it read its configuration anew.
    pub reload_signal: Option<Signal>,
    /// Which ends of its process are a success.
    pub success_exit: SuccessExit,
    /// Whoever requires it goes down and comes back with it when it is restarted by policy.
    pub restart_dependents: bool,
    /// It goes on when an initramfs hands over to the real root.
    pub survive_switch_root: bool,
}

/// Exit statuses and signals that are a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuccessExit {
    codes: [u64; 4],
    signals: u64,
}

impl SuccessExit {
    /// Nothing is.
    pub const NONE: Self = Self {
        codes: [0; 4],
        signals: 0,
    };

    /// With this end among them.
    #[must_use]
    pub const fn with(mut self, exit: Exit) -> Self {
        match exit {
            Exit::Code(code) => {
                let code = (code & 0xff) as usize;
                self.codes[code / 64] |= 1 << (code % 64);
            }
            Exit::Signal(signal) => self.signals |= 1 << (signal & 63),
            Exit::OutOfMemory => {}
        }
        self
    }

    /// Is this end one?
    #[must_use]
    pub fn contains(&self, exit: Exit) -> bool {
        self.all().any(|known| known == exit)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = Exit> {
        let codes = (0..256).filter(|code| self.codes[code / 64] & (1 << (code % 64)) != 0);
        let codes = codes.filter_map(|code| i32::try_from(code).ok());
        let signals = (0..64).filter(|signal| self.signals & (1 << signal) != 0);
        codes.map(Exit::Code).chain(signals.map(Exit::Signal))
    }
}

/// What follows when a service has ended for good.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Sequel {
    /// After a failure.
    pub on_failure: Follow,
    /// After a success.
    pub on_exit: Follow,
}

/// One thing that may follow.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Follow {
    /// Nothing.
    #[default]
    Nothing,
    /// Everything is stopped, and the server, container or machine ends.
    Shutdown,
    /// Everything is stopped, and the machine starts anew.
    Reboot,
    /// A shell on the console of a machine.
    Shell,
    /// Another service is started.
    Start(Rc<str>),
}

/// `type` of `[readiness]`: what makes a service ready, so that others may rely on it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Readiness {
    /// Its program runs.
    #[default]
    Spawn,
    /// Its program has ended with success: a oneshot.
    Exit,
    /// A first probe found it healthy.
    Health,
    /// It says so by `sd_notify(3)`.
    Notify,
    /// It writes a newline to this descriptor.
    Fd(i32),
    /// It writes a line of output that contains this text.
    Log(String),
}

/// `[hooks]` of a service file.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Hooks {
    /// Before its program; a failure keeps it from starting.
    pub pre_start: Option<HookSpec>,
    /// When it is ready, before others may rely on it.
    pub post_start: Option<HookSpec>,
    /// Instead of the stop signal, which follows if the program outlives it.
    pub stop: Option<HookSpec>,
    /// When all of it has ended.
    pub post_stop: Option<HookSpec>,
    /// To have it read its configuration anew.
    pub reload: Option<HookSpec>,
}

/// A hook: what is run, and how long that may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookSpec {
    /// What is run.
    pub exec: Exec,
    /// It is killed when it takes longer.
    pub timeout: Duration,
}

/// Which hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields of `Hooks` say it")]
pub enum Hook {
    PreStart,
    PostStart,
    Stop,
    PostStop,
    Reload,
}

impl Hook {
    /// Its key in a file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PreStart => "pre_start",
            Self::PostStart => "post_start",
            Self::Stop => "stop",
            Self::PostStop => "post_stop",
            Self::Reload => "reload",
        }
    }
}

impl Hooks {
    /// That one, if there is one.
    #[must_use]
    pub fn get(&self, hook: Hook) -> Option<&HookSpec> {
        match hook {
            Hook::PreStart => self.pre_start.as_ref(),
            Hook::PostStart => self.post_start.as_ref(),
            Hook::Stop => self.stop.as_ref(),
            Hook::PostStop => self.post_stop.as_ref(),
            Hook::Reload => self.reload.as_ref(),
        }
    }
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
    /// What follows when it is unhealthy.
    pub on_unhealthy: OnUnhealthy,
}

/// `on_unhealthy` of a service file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnUnhealthy {
    /// It is stopped, and the restart policy says what comes next.
    #[default]
    Restart,
    /// It is only told.
    Report,
}

/// A health probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Connect to `host:port` or `unix:/path`.
    Tcp(String),
    /// GET a URL and read the status.
    Http {
        /// The URL.
        url: String,
        /// The statuses that are healthy.
        expect: Expect,
    },
    /// Run a command line; exit status 0 is healthy.
    Exec(String),
}

/// HTTP statuses that are healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect(pub Vec<Statuses>);

/// One status, or all that begin with a digit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statuses {
    /// This one.
    One(u16),
    /// `2xx`: two hundred to two hundred and ninety-nine.
    Class(u16),
}

impl Expect {
    /// Is this status healthy?
    #[must_use]
    pub fn allows(&self, status: u16) -> bool {
        self.0.iter().any(|known| match known {
            Statuses::One(one) => *one == status,
            Statuses::Class(class) => status / 100 == *class,
        })
    }
}

/// `[logging]` of a service file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// Lines of output kept in memory.
    pub buffer_lines: usize,
    /// Where its output is written too.
    pub file: Option<PathBuf>,
    /// Bytes of that file before it is rotated; 0 = never.
    pub max_size: u64,
    /// How many rotated files are kept.
    pub max_files: u32,
    /// Mode of the file.
    pub mode: u32,
    /// Where its output goes on to.
    pub forward: Option<String>,
    /// As what.
    pub forward_format: Format,
}

/// `forward_format` of a service file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Format {
    /// The line as it is.
    Raw,
    /// The name of the service before it.
    #[default]
    Prefixed,
    /// An object.
    Json,
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

    /// Is it started when somebody connects?
    #[must_use]
    pub fn is_activated(&self) -> bool {
        self.program()
            .is_some_and(|program| program.sockets.activation)
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
            sequel: Sequel::default(),
            readiness: Readiness::default(),
            watchdog: None,
            health: None,
            hooks: Hooks::default(),
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
            identity: Identity::default(),
            limits: Vec::new(),
            resources: Resources::default(),
            env: BTreeMap::new(),
            env_file: Vec::new(),
            env_inherit: None,
            oneshot: false,
            ports: Vec::new(),
            kill_others: false,
            process_filters: Vec::new(),
            sockets: Sockets::default(),
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
            reload_signal: None,
            success_exit: SuccessExit::NONE.with(Exit::Code(0)),
            restart_dependents: false,
            survive_switch_root: false,
        }
    }
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            buffer_lines: 1000,
            file: None,
            max_size: 10 << 20,
            max_files: 5,
            mode: 0o640,
            forward: None,
            forward_format: Format::default(),
        }
    }
}
