//! What the server is to the system it runs on, and how its own run ends.

use std::time::Duration;

use crate::config::Level;
use crate::sys::machine::Verb;
use crate::sys::switch::SwitchRoot;

/// What the server is to the system it runs on.
#[derive(Clone, Debug)]
pub enum Role {
    /// A program like any other.
    Server,
    /// PID 1 of a machine.
    Machine(Machine),
    /// The first program of a container.
    Container(Container),
}

/// How a machine is to be brought up.
#[derive(Clone, Debug)]
pub struct Machine {
    /// How far to go before a shell is offered.
    pub level: Level,
    /// Boot this and what it needs, not everything.
    pub target: Option<String>,
    /// Why this is not the first attempt.
    pub crashed: Option<String>,
    /// How long the kernel took until PID 1 was run.
    pub kernel: Duration,
    /// How long all services together may take to stop.
    pub grace: Duration,
}

/// What a container is to run, and how.
#[derive(Clone, Debug)]
pub struct Container {
    /// The command whose end is the container's.
    pub main: Option<Vec<String>>,
    /// Lines of output begin with the name of their service.
    pub prefix: bool,
    /// How long all services together may take to stop.
    pub grace: Duration,
}

/// What comes when everything is down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The server ends with this status.
    Exit(u8),
    /// The machine's run ends.
    Machine {
        /// How.
        verb: Verb,
        /// Nothing more is waited for.
        hurry: bool,
    },
    /// An initramfs hands over.
    Switch(SwitchRoot),
}

impl Role {
    /// How long all stops together may take.
    #[must_use]
    pub(super) fn grace(&self) -> Option<Duration> {
        match self {
            Self::Server => None,
            Self::Machine(machine) => Some(machine.grace),
            // The last SIGKILL, and what is then still to be read and written, need some of it.
            Self::Container(container) => Some(container.grace * 9 / 10),
        }
    }
}
