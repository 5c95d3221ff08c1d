//! A request against what is: answered at once, or turned into what the reactor has to do.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;

use super::methods;
use super::view::{Note, Said};
use super::wire::{Code, Refusal, Request};
use crate::api::LogStream;
use crate::engine::{Command, ServiceId, Spec, Supervisor, Table, Time};

/// What a reading request may look at.
pub struct Scene<'a> {
    /// The services.
    pub all: &'a Supervisor,
    /// The time.
    pub now: Time,
    /// What processes outside hold services back, as last seen.
    pub obstacles: &'a Table<String>,
    /// What the last probes brought.
    pub notes: &'a Table<Note>,
    /// What services say of themselves.
    pub said: &'a Table<Said>,
    /// Services whose definition is in memory only.
    pub ephemeral: &'a BTreeMap<Rc<str>, Rc<Spec>>,
}

/// What is to be done for a request.
#[derive(Debug)]
pub enum Todo {
    /// Answer.
    Answer(Value),
    /// Hand a command to the engine, and answer with what comes of it.
    Command {
        /// The command.
        command: Command,
        /// How long the answer may take; none: answer at once.
        wait: Option<Option<Duration>>,
        /// How the outcome is told.
        form: Form,
    },
    /// Something the machine must be asked for.
    Ask(Ask),
}

/// How the outcome of a command is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// `{"ok": true}`, with the state where it was waited for; an error otherwise.
    Ok {
        /// Whose state.
        service: ServiceId,
        /// Its name, for when it is gone.
        name: String,
        /// Whether it was waited for.
        state: bool,
    },
    /// The names of a bulk command.
    Bulk(Bulk),
    /// What a reload changed, and what is wrong with files.
    Reload {
        /// Files that could not be used.
        errors: Vec<String>,
        /// What is odd in files that could.
        warnings: Vec<String>,
    },
}

/// What was done to many services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bulk {
    /// They were started.
    Started,
    /// They were stopped.
    Stopped,
    /// They were deleted.
    Deleted,
}

/// What only the machine, or the configuration, can answer.
#[derive(Debug)]
pub enum Ask {
    /// `service.get`.
    Get(ServiceId),
    /// `service.set`.
    Set(Value),
    /// `service.delete`: a command that deletes files too.
    Delete(ServiceId, Option<Duration>),
    /// `service.delete_all`.
    DeleteAll(Option<Option<Duration>>),
    /// `service.reload`.
    Reload,
    /// `service.stats`.
    Stats(ServiceId),
    /// `service.children`.
    Children(ServiceId),
    /// `service.why`.
    Why(ServiceId),
    /// `logs.*`.
    Logs(LogQuery),
    /// `logs.follow` and `events.follow`.
    Follow(FollowQuery),
    /// `debug.record`.
    DebugRecord,
    /// `debug.state`.
    DebugState,
    /// `debug.process_tree`.
    ProcessTree(ServiceId),
    /// `system.*`.
    System(SystemVerb),
    /// `xinet.*`.
    Xinet(Xinet),
}

/// What `xinet.*` asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Xinet {
    /// `xinet.set`.
    Set(Value),
    /// `xinet.delete`.
    Delete(String),
    /// `xinet.list`.
    List,
    /// `xinet.status`.
    Status(String),
    /// `xinet.status_all`.
    StatusAll,
}

/// What `system.*` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SystemVerb {
    /// End the server.
    Shutdown {
        /// With this exit status.
        code: u8,
    },
    /// Switch the machine off.
    Poweroff,
    /// Restart the machine.
    Reboot,
    /// Halt the machine.
    Halt,
    /// Start the kernel that was loaded.
    Kexec,
    /// Hand over from an initramfs.
    SwitchRoot {
        /// The mounted new root.
        root: String,
        /// What is to be PID 1 there.
        init: String,
    },
}

impl SystemVerb {
    /// As its method is called.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Shutdown { .. } => "Shutdown",
            Self::Poweroff => "Poweroff",
            Self::Reboot => "Reboot",
            Self::Halt => "Halt",
            Self::Kexec => "Kexec",
            Self::SwitchRoot { .. } => "Switching the root is",
        }
    }
}

/// Which lines of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogQuery {
    /// Of these services, or of all.
    pub services: Option<Vec<ServiceId>>,
    /// So many, the last ones.
    pub lines: usize,
    /// Of this stream only.
    pub stream: Option<LogStream>,
    /// Not older than this, in Unix milliseconds.
    pub since_ms: u64,
    /// As what.
    pub shape: LogShape,
}

/// What a connection is to be told of from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowQuery {
    /// What.
    pub of: Stream,
    /// Of these services, or of all; those of them that exist.
    pub names: Option<Vec<String>>,
    /// Those of them that exist.
    pub services: Option<Vec<ServiceId>>,
    /// So many lines of the past first.
    pub lines: usize,
    /// Of this stream only.
    pub stream: Option<LogStream>,
    /// Lines of the past not older than this, in Unix milliseconds.
    pub since_ms: u64,
}

/// What can be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Lines of output.
    Logs,
    /// Changes of state and health.
    Events,
}

/// As what lines are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogShape {
    /// `<timestamp_ms> [<stream>] <content>`.
    Text,
    /// Objects.
    Object,
}

/// Decides what is to be done for `request`.
///
/// # Errors
/// A refusal, if the request can't be understood or names what is not there.
pub fn dispatch(request: &Request, scene: &Scene<'_>) -> Result<Todo, Refusal> {
    match methods::find(&request.method) {
        Some(method) => (method.run)(&request.params, scene),
        None => Err(Refusal::new(Code::MethodNotFound, "unknown method")),
    }
}
