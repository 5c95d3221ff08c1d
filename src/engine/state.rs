//! What is true of a service, and what is wanted of it.

use super::spec::{Hook, SuccessExit};
use super::{Exit, Pid, SpawnError, Time};

/// What is true of a service. A variant holds all that is true in it and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Down, and nothing is to be said about how it came there.
    Inactive,
    /// Wanted up, and held back.
    Blocked {
        /// By what.
        hold: Hold,
    },
    /// Its hook before the start runs.
    Preparing {
        /// When that is too late; none when the hook has succeeded.
        until: Option<Time>,
    },
    /// Its process was asked for; the answer is due from the shell.
    Forking,
    /// Its process exists and is on its way to the program.
    Spawning {
        /// The process.
        pid: Pid,
        /// When it was forked.
        since: Time,
        /// When it is too late.
        fail_at: Time,
    },
    /// Its program runs and is not ready yet.
    Starting {
        /// The main process.
        pid: Pid,
        /// Since when the program runs.
        since: Time,
        /// What it waits for.
        awaits: Awaits,
        /// When it is too late.
        fail_at: Time,
    },
    /// Up.
    Running {
        /// The main process; a target has none.
        pid: Option<Pid>,
        /// Since when.
        since: Time,
    },
    /// Its main process has been told to end.
    Stopping {
        /// The main process.
        pid: Pid,
        /// Why, unless it was asked for.
        failure: Option<Failure>,
        /// What it was told with.
        force: Force,
        /// When the next stronger means is used.
        kill_at: Time,
    },
    /// Its main process has ended; what it left behind is being ended too.
    Clearing {
        /// How the main process ended.
        end: End,
        /// What the rest was told with.
        force: Force,
        /// When the next stronger means is used.
        kill_at: Time,
        /// What left it behind.
        round: Round,
    },
    /// All of it has ended; its hook after the stop runs.
    Trailing {
        /// How the main process ended.
        end: End,
        /// When that is too late.
        until: Time,
    },
    /// Ended, and to be started again.
    Backoff {
        /// When.
        until: Time,
        /// How it ended.
        end: End,
    },
    /// Ended as it should or as it was told to.
    Exited {
        /// How.
        end: End,
    },
    /// Ended as it should not, and not to be started again by itself.
    Failed {
        /// Why.
        why: Failure,
    },
}

/// What a program that runs is not up without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaits {
    /// It has to be ready, as its spec says.
    Readiness,
    /// The hook that is run then has to succeed.
    Hook,
}

/// What is being cleared up after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// The main process.
    Main,
    /// The hook after the stop.
    Hook,
}

/// What holds back a service that is wanted up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Something it needs or follows is on its way up.
    Waiting,
    /// Something it requires is not up and not on its way.
    Stuck,
    /// It requires a name that nothing has.
    Missing,
    /// It requires itself, by whatever detour.
    Cycle,
    /// A service it conflicts with is up.
    Conflict,
    /// A service that declares the same port is up.
    Port,
    /// A process outside holds its port or matches its filter.
    Obstructed {
        /// When to look again.
        until: Time,
    },
}

/// Why a service failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Its process ended with this status.
    ExitCode(i32),
    /// Its process was killed by this signal.
    Signal(i32),
    /// Its process did not become its program.
    Spawn(SpawnError),
    /// It took longer than `start_timeout_ms`.
    StartTimeout,
    /// It did not even end when killed.
    StopTimeout,
    /// It ended with success before it was ready.
    Unready,
    /// It was unhealthy this many times in a row.
    Health {
        /// So often.
        attempts: u32,
    },
    /// It did not say in time that it is well.
    Watchdog,
    /// It said itself that it is not well.
    Trouble,
    /// The kernel killed it, because its cgroup had no memory left.
    OutOfMemory,
    /// A hook failed.
    Hook {
        /// Which.
        hook: Hook,
        /// How.
        fault: Fault,
    },
}

/// How a hook failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its process ended like that.
    Ended(Exit),
    /// It did not become its program.
    NotRun(SpawnError),
    /// It took too long.
    TimedOut,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to.
    Asked(Exit),
    /// By itself, as it should.
    Success(Exit),
    /// As it should not.
    Failure(Failure),
}

/// The means a stop has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// The stop hook.
    Hook,
    /// The stop signal.
    Polite,
    /// SIGKILL.
    Kill,
}

/// What is wanted of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Up.
    Up,
    /// Down, then up.
    Cycle,
    /// Down.
    Down,
    /// Down until somebody connects to one of its sockets.
    Call,
    /// Down, then removed.
    Gone,
}

impl State {
    /// The main process, if there is one.
    #[must_use]
    pub const fn pid(self) -> Option<Pid> {
        match self {
            Self::Spawning { pid, .. }
            | Self::Starting { pid, .. }
            | Self::Stopping { pid, .. } => Some(pid),
            Self::Running { pid, .. } => pid,
            Self::Inactive
            | Self::Blocked { .. }
            | Self::Preparing { .. }
            | Self::Forking
            | Self::Clearing { .. }
            | Self::Trailing { .. }
            | Self::Backoff { .. }
            | Self::Exited { .. }
            | Self::Failed { .. } => None,
        }
    }

    /// Since when its process exists (a target: since when it is up), while it is not told to end.
    #[must_use]
    pub const fn since(self) -> Option<Time> {
        match self {
            Self::Spawning { since, .. }
            | Self::Starting { since, .. }
            | Self::Running { since, .. } => Some(since),
            Self::Inactive
            | Self::Blocked { .. }
            | Self::Preparing { .. }
            | Self::Forking
            | Self::Stopping { .. }
            | Self::Clearing { .. }
            | Self::Trailing { .. }
            | Self::Backoff { .. }
            | Self::Exited { .. }
            | Self::Failed { .. } => None,
        }
    }

    /// Does the program of a service run, and has it not been told to end?
    #[must_use]
    pub const fn has_program(self) -> bool {
        match self {
            Self::Starting { .. } | Self::Running { pid: Some(_), .. } => true,
            Self::Inactive
            | Self::Blocked { .. }
            | Self::Preparing { .. }
            | Self::Forking
            | Self::Spawning { .. }
            | Self::Running { pid: None, .. }
            | Self::Stopping { .. }
            | Self::Clearing { .. }
            | Self::Trailing { .. }
            | Self::Backoff { .. }
            | Self::Exited { .. }
            | Self::Failed { .. } => false,
        }
    }

    /// When the state ends by itself.
    #[must_use]
    pub const fn deadline(self) -> Option<Time> {
        match self {
            Self::Spawning { fail_at, .. } | Self::Starting { fail_at, .. } => Some(fail_at),
            Self::Stopping { kill_at, .. } | Self::Clearing { kill_at, .. } => Some(kill_at),
            Self::Preparing { until } => until,
            Self::Backoff { until, .. }
            | Self::Trailing { until, .. }
            | Self::Blocked {
                hold: Hold::Obstructed { until },
            } => Some(until),
            Self::Inactive
            | Self::Blocked { .. }
            | Self::Forking
            | Self::Running { .. }
            | Self::Exited { .. }
            | Self::Failed { .. } => None,
        }
    }

    /// Is it held back by something outside?
    #[must_use]
    pub const fn is_obstructed(self) -> bool {
        matches!(
            self,
            Self::Blocked {
                hold: Hold::Obstructed { .. }
            }
        )
    }

    /// Does the service have, or is it about to have, processes (a target: is it up)?
    #[must_use]
    pub const fn is_active(self) -> bool {
        match self {
            Self::Preparing { .. }
            | Self::Forking
            | Self::Spawning { .. }
            | Self::Starting { .. }
            | Self::Running { .. }
            | Self::Stopping { .. }
            | Self::Clearing { .. }
            | Self::Trailing { .. } => true,
            Self::Inactive
            | Self::Blocked { .. }
            | Self::Backoff { .. }
            | Self::Exited { .. }
            | Self::Failed { .. } => false,
        }
    }
}

impl End {
    /// Of a process that ended by itself.
    pub(super) fn of(exit: Exit, success: &SuccessExit) -> Self {
        match exit {
            exit if success.contains(exit) => Self::Success(exit),
            Exit::Code(code) => Self::Failure(Failure::ExitCode(code)),
            Exit::Signal(signal) => Self::Failure(Failure::Signal(signal)),
            Exit::OutOfMemory => Self::Failure(Failure::OutOfMemory),
        }
    }

    /// How the process ended, if that is what it is about.
    #[must_use]
    pub const fn exit(self) -> Option<Exit> {
        match self {
            Self::Asked(exit) | Self::Success(exit) => Some(exit),
            Self::Failure(Failure::ExitCode(code)) => Some(Exit::Code(code)),
            Self::Failure(Failure::Signal(signal)) => Some(Exit::Signal(signal)),
            Self::Failure(Failure::OutOfMemory) => Some(Exit::OutOfMemory),
            Self::Failure(
                Failure::Spawn(_)
                | Failure::StartTimeout
                | Failure::StopTimeout
                | Failure::Unready
                | Failure::Health { .. }
                | Failure::Watchdog
                | Failure::Trouble
                | Failure::Hook { .. },
            ) => None,
        }
    }

    /// The exit status, if there was one.
    #[must_use]
    pub const fn code(self) -> Option<i32> {
        match self.exit() {
            Some(Exit::Code(code)) => Some(code),
            Some(Exit::Signal(_) | Exit::OutOfMemory) | None => None,
        }
    }

    /// Did it end by itself, as it should?
    #[must_use]
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Success(_))
    }
}
