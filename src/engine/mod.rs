//! The half that decides, and nothing else: pure state, driven by events, answering with actions.
//!
//! This module is the border. The shell (`reactor`) turns what happened on the machine into an
//! [`Event`], hands it to [`Supervisor::handle`] and carries out each [`Action`] that comes back.
//! The engine never asks the time, never touches a descriptor or a file, never logs and never
//! rolls dice: the same events give the same actions, so a history can be replayed.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

mod address;
mod budget;
mod care;
mod command;
pub mod confine;
mod errand;
mod gate;
mod graph;
pub mod proxy;
mod pull;
mod restart;
mod service;
mod settle;
mod signal;
mod snapshot;
pub mod spec;
mod state;
mod supervisor;
mod table;
mod time;
mod timer;
mod waiter;

pub use address::Address;
pub use care::{Care, Health, Refresh};
pub use graph::{Graph, LinkKind, cycles};
pub use proxy::ProxySpec;
pub use restart::Restarts;
pub use service::Service;
pub use signal::{Signal, UnknownSignal};
pub use snapshot::{Kept, Snapshot, Waiting};
pub use spec::Spec;
use spec::{Follow, Hook};
pub use state::{Awaits, End, Failure, Fault, Force, Hold, Round, State, Want};
pub use supervisor::{Phase, Supervisor};
pub use table::Table;
pub use time::Time;
pub use timer::TimerWheel;
pub use waiter::{Goal, Verdict};

/// A process, by its number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(i32);

impl Pid {
    /// The process of that number; only positive numbers are one (0 and less mean groups).
    #[must_use]
    pub const fn new(number: i32) -> Option<Self> {
        if number > 0 { Some(Self(number)) } else { None }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A service for as long as it exists. The generation makes an id of a removed service stale
/// rather than somebody else's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId {
    index: u32,
    generation: u32,
}

impl ServiceId {
    /// Where it stands in the table of services; reused after removal.
    #[must_use]
    pub const fn index(self) -> usize {
        self.index as usize
    }
}

impl ServiceId {
    /// Its place and generation, as [`Self::parts`] gave them.
    #[must_use]
    pub const fn from_parts(index: u32, generation: u32) -> Self {
        Self { index, generation }
    }

    /// Its place and generation.
    #[must_use]
    pub const fn parts(self) -> (u32, u32) {
        (self.index, self.generation)
    }
}

impl fmt::Debug for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}.{}", self.index, self.generation)
    }
}

/// Names a question of the shell's; the answer carries it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Code(i32),
    /// Killed by the signal of this number (also real-time ones).
    Signal(i32),
    /// Killed by the kernel because its cgroup had no memory left.
    OutOfMemory,
}

/// A piece of work done for a service beside its main process: a probe or a hook. Numbers count
/// up for each service, so what comes of one can never be taken for another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ErrandId(pub u32);

/// What an errand is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Is the service healthy?
    Probe,
    /// A hook of the service.
    Hook(Hook),
}

/// What came of an errand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// It went well.
    Success,
    /// It did not: a connection or an answer was not as it should be.
    Failed,
    /// Its process ended like that.
    Ended(Exit),
    /// Its process could not be had.
    NotRun(SpawnError),
}

/// Where on the way from fork to a running program it went wrong, and the kernel's word for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpawnError {
    /// What was being done.
    pub step: Step,
    /// `errno(3)` of it.
    pub errno: i32,
    /// Which of several it was about, such as the third limit: 2.
    pub item: u8,
}

/// A step from fork to exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Making the process and its pipes.
    Fork,
    /// Its own session.
    Session,
    /// Its standard descriptors.
    Stdio,
    /// Its terminal.
    Terminal,
    /// Reading a file of its environment.
    EnvFile,
    /// Its cgroup.
    Cgroup,
    /// Its resource limits.
    Limits,
    /// Its priorities.
    Priority,
    /// Its `oom_score_adj`.
    OomScore,
    /// Its root directory.
    Chroot,
    /// Its groups.
    Setgid,
    /// Its user.
    Setuid,
    /// Its capabilities.
    Capabilities,
    /// Opening the sockets it is to find.
    Sockets,
    /// Its working directory.
    Chdir,
    /// Running the program.
    Exec,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// Somebody asks for something.
    Command {
        /// Who is answered, exactly once; nobody if none.
        ticket: Option<Ticket>,
        /// When the answer is due.
        patience: Patience,
        /// What is asked.
        command: Command,
    },
    /// Whoever holds this ticket is not there any more; nobody is to be answered.
    HungUp {
        /// The ticket.
        ticket: Ticket,
    },
    /// A spawn got its process, which is now on its way to the program.
    Forked {
        /// For this service.
        service: ServiceId,
        /// The process.
        pid: Pid,
    },
    /// A spawn got no process.
    ForkFailed {
        /// For this service.
        service: ServiceId,
        /// Why.
        error: SpawnError,
        /// The machine was out of something; it says nothing about the service.
        scarce: bool,
    },
    /// A spawn was not tried: a process outside holds its port or matches its filter.
    Obstructed {
        /// For this service.
        service: ServiceId,
    },
    /// The program of this process runs.
    Started {
        /// The process.
        pid: Pid,
    },
    /// This process could not become its program; its exit follows.
    ExecFailed {
        /// The process.
        pid: Pid,
        /// Why.
        error: SpawnError,
    },
    /// This process says that its service is ready.
    Ready {
        /// The main process.
        pid: Pid,
    },
    /// This process asks for more time to start or to stop.
    Extend {
        /// The main process.
        pid: Pid,
        /// From now.
        by: Duration,
    },
    /// A signal that this process was to be sent was only sent now; its time begins now.
    Signalled {
        /// The main process.
        pid: Pid,
    },
    /// This process says that it is well.
    Ping {
        /// The main process.
        pid: Pid,
    },
    /// This process wants to be watched: it will say that it is well within this time.
    Watch {
        /// The main process.
        pid: Pid,
        /// How long it may be silent.
        within: Duration,
    },
    /// This process says that it is not well.
    Trouble {
        /// The main process.
        pid: Pid,
    },
    /// The main process has handed over to another one, which is a child of ours.
    Handover {
        /// The main process.
        pid: Pid,
        /// The one that is it from now on.
        to: Pid,
    },
    /// An errand is done.
    Returned {
        /// For this service.
        service: ServiceId,
        /// Which one.
        errand: ErrandId,
        /// What came of it.
        report: Report,
    },
    /// A child has ended. It is not collected yet, so its number still means it.
    Exited {
        /// The process.
        pid: Pid,
        /// How it ended.
        exit: Exit,
    },
    /// After a sweep: nothing of the service is left.
    Cleared {
        /// The service.
        service: ServiceId,
    },
    /// Somebody connects to a socket of this service.
    Called {
        /// The service.
        service: ServiceId,
    },
    /// The deadline the engine named has come.
    Deadline,
}

/// When a command is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// As soon as it is taken on.
    None,
    /// When what was asked is done or can't be done, or at this time.
    Until(Option<Time>),
}

/// What can be asked of the engine.
#[derive(Clone, Debug)]
pub enum Command {
    /// Bring it up.
    Start {
        /// The service.
        service: ServiceId,
        /// And what it requires and wants.
        deps: bool,
    },
    /// Bring it down, dependents first.
    Stop {
        /// The service.
        service: ServiceId,
    },
    /// Down and up again, and so the dependents that were up.
    Restart {
        /// The service.
        service: ServiceId,
    },
    /// Send a signal; nothing else changes.
    Signal {
        /// The service.
        service: ServiceId,
        /// The signal.
        signal: Signal,
    },
    /// Have it read its own configuration anew, by its hook or signal for that.
    Refresh {
        /// The service.
        service: ServiceId,
    },
    /// Change nothing; answer when it is so.
    Wait {
        /// The service.
        service: ServiceId,
        /// What is waited for.
        goal: Goal,
    },
    /// Stop it and its dependents, and forget them.
    Remove {
        /// The service.
        service: ServiceId,
    },
    /// Start every service with `status = "start"` that is not `class = "system"`.
    StartAll,
    /// Stop every service that is not `class = "system"`.
    StopAll,
    /// Remove every service that is not `class = "system"`.
    RemoveAll,
    /// Add a service or give an existing one a new spec.
    Put {
        /// The service as it is meant now.
        spec: Rc<Spec>,
    },
    /// Make the services these, and no others but `keep`.
    Reload {
        /// The services as they are meant now.
        specs: Vec<Rc<Spec>>,
        /// Names that stay as they are.
        keep: Vec<Rc<str>>,
        /// Start new ones whose status says so. A machine that boots starts them by `Boot`.
        start: bool,
    },
    /// Start these and what they require and want; answered when each is up or can't be for now.
    Boot {
        /// The services.
        services: Vec<ServiceId>,
    },
    /// Stop everything in order, then halt. Asked again: stop waiting politely.
    Shutdown {
        /// All stops together may take this long: each has a share of what is left, by how many
        /// have to stop after it.
        within: Option<Duration>,
        /// Leave those up that survive a switch of root, and what they require.
        spare: bool,
    },
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Action {
    /// Start a process for the service. Answered, when its turn comes, by `Forked`, `ForkFailed` or
    /// `Obstructed`.
    Spawn {
        /// The service.
        service: ServiceId,
    },
    /// Send `signal` to the service's processes as its `kill_mode` says, the main one included.
    /// If that can't be done soon, no `Deadline` is told before, and `Signalled` after it.
    KillTree {
        /// The service.
        service: ServiceId,
        /// Its main process, which is not collected.
        pid: Pid,
        /// The signal.
        signal: Signal,
    },
    /// The main process has ended: send `signal` to what it left behind. Answered by `Cleared`,
    /// in the same turn or when the last of it is gone. A sweep asked for again is the same sweep
    /// with a stronger signal, answered once. What can't be killed is given up some time; a
    /// `Spawn` of the service ends its sweep, which must not be answered any more.
    Sweep {
        /// The service.
        service: ServiceId,
        /// The signal.
        signal: Signal,
    },
    /// Send a signal a user asked for to the main process's group.
    Signal {
        /// Its main process, which is not collected.
        pid: Pid,
        /// The signal.
        signal: Signal,
    },
    /// A connection to one of its sockets starts the service from now on, or does not any more.
    Attend {
        /// The service.
        service: ServiceId,
        /// Which of the two.
        awaits: bool,
    },
    /// Send its `reload_signal` to the main process.
    Refresh {
        /// Its main process, which is not collected.
        pid: Pid,
        /// The signal.
        signal: Signal,
    },
    /// Run an errand. Answered by `Returned`, unless it is recalled before.
    Errand {
        /// For this service.
        service: ServiceId,
        /// Its number.
        errand: ErrandId,
        /// What it is.
        what: Errand,
    },
    /// End an errand and all its processes; it is not to be answered any more.
    Recall {
        /// For this service.
        service: ServiceId,
        /// Its number.
        errand: ErrandId,
    },
    /// A service is healthy now, or is not.
    Health {
        /// The service.
        service: ServiceId,
        /// Is it?
        healthy: bool,
    },
    /// A service has ended for good, and this follows for the machine.
    Sequel {
        /// The service.
        service: ServiceId,
        /// What: never nothing, nor the start of a service.
        follow: Follow,
        /// How it ended.
        end: End,
    },
    /// A service is in another state.
    Changed {
        /// The service.
        service: ServiceId,
        /// Before.
        from: State,
        /// Now.
        to: State,
    },
    /// A critical service has failed for good. It does not come while everything is being stopped.
    CriticalFailed {
        /// The service.
        service: ServiceId,
    },
    /// A service is no more; its id is stale.
    Removed {
        /// The id it had.
        service: ServiceId,
        /// Its name.
        name: Rc<str>,
    },
    /// The answer to a command.
    Reply {
        /// Who asked.
        ticket: Ticket,
        /// What came of it.
        outcome: Outcome,
    },
    /// Everything is down, as asked.
    Halt,
    /// An event that cannot be. Nothing was changed by it.
    Anomaly {
        /// What was wrong.
        what: &'static str,
        /// With which service.
        service: Option<ServiceId>,
    },
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done; or, without patience, taken on.
    Done,
    /// It did not come about.
    Not(Verdict),
    /// There is no such service (any more).
    Unknown,
    /// A signal for a service without a process.
    NotRunning,
    /// It has neither hook nor signal to read its configuration anew.
    NoReload,
    /// Everything is being stopped; nothing new is started.
    ShuttingDown,
    /// What a bulk command was for, and what did not come about.
    Bulk {
        /// The services.
        services: Vec<Rc<str>>,
        /// Those for which it did not come about.
        failed: Vec<(ServiceId, Verdict)>,
    },
    /// What a reload changed.
    Reloaded {
        /// New services.
        added: Vec<Rc<str>>,
        /// Services that are gone or going.
        removed: Vec<Rc<str>>,
        /// Services with a new spec.
        changed: Vec<Rc<str>>,
        /// Names whose new spec was refused: a service cannot become a target, nor a target one.
        refused: Vec<Rc<str>>,
    },
}
