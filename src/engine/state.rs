//! What is true of a service, and what is wanted of it.

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
        /// Its exit status; none if a signal ended it.
        code: Option<i32>,
    },
    /// Ended as it should not, and not to be started again by itself.
    Failed {
        /// Why.
        why: Failure,
    },
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
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to.
    Asked(Exit),
    /// By itself, with status 0.
    Success,
    /// As it should not.
    Failure(Failure),
}

/// The means a stop has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
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
    /// Down, then removed.
    Gone,
}

impl State {
    /// The main process, if there is one.
    #[must_use]
    pub const fn pid(self) -> Option<Pid> {
        match self {
            Self::Spawning { pid, .. } | Self::Stopping { pid, .. } => Some(pid),
            Self::Running { pid, .. } => pid,
            Self::Inactive
            | Self::Blocked { .. }
            | Self::Forking
            | Self::Clearing { .. }
            | Self::Backoff { .. }
            | Self::Exited { .. }
            | Self::Failed { .. } => None,
        }
    }

    /// Since when its process exists (a target: since when it is up), while it is not told to end.
    #[must_use]
    pub const fn since(self) -> Option<Time> {
        match self {
            Self::Spawning { since, .. } | Self::Running { since, .. } => Some(since),
            Self::Inactive
            | Self::Blocked { .. }
            | Self::Forking
            | Self::Stopping { .. }
            | Self::Clearing { .. }
            | Self::Backoff { .. }
            | Self::Exited { .. }
            | Self::Failed { .. } => None,
        }
    }

    /// When the state ends by itself.
    #[must_use]
    pub const fn deadline(self) -> Option<Time> {
        match self {
            Self::Spawning { fail_at, .. } => Some(fail_at),
            Self::Stopping { kill_at, .. } | Self::Clearing { kill_at, .. } => Some(kill_at),
            Self::Backoff { until, .. }
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

    /// Does the service have, or is it about to have, processes (a target: is it up)?
    #[must_use]
    pub const fn is_active(self) -> bool {
        match self {
            Self::Forking
            | Self::Spawning { .. }
            | Self::Running { .. }
            | Self::Stopping { .. }
            | Self::Clearing { .. } => true,
            Self::Inactive
            | Self::Blocked { .. }
            | Self::Backoff { .. }
            | Self::Exited { .. }
            | Self::Failed { .. } => false,
        }
    }
}

impl End {
    pub(super) fn of(exit: Exit) -> Self {
        match exit {
            Exit::Code(0) => Self::Success,
            Exit::Code(code) => Self::Failure(Failure::ExitCode(code)),
            Exit::Signal(signal) => Self::Failure(Failure::Signal(signal)),
        }
    }

    /// The exit status, if there was one.
    #[must_use]
    pub const fn code(self) -> Option<i32> {
        match self {
            Self::Asked(Exit::Code(code)) | Self::Failure(Failure::ExitCode(code)) => Some(code),
            Self::Success => Some(0),
            Self::Asked(Exit::Signal(_)) | Self::Failure(_) => None,
        }
    }
}
