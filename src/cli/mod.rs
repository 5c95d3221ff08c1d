//! The shell client, and the command line of the one binary.
//!
//! Two levels: what was *typed* (`args`, driven by the table in [`commands`]) and what is *meant*
//! ([`Invocation`]). The client half sends what is meant over one connection and shows the answer.
//!
//! | file        | noun                                                        |
//! |-------------|-------------------------------------------------------------|
//! | `commands`  | the table: every command and flag, once                     |
//! | `args`      | argv to what was typed                                      |
//! | `meaning`   | what was typed to an [`Invocation`]                         |
//! | `sysv`      | `shutdown` as other systems have it                         |
//! | `usage`     | what was wrong with the line, in one sentence               |
//! | `help`      | help texts, written from the table                          |
//! | `client`    | the connection                                              |
//! | `failure`   | what went wrong on the way, and its exit code               |
//! | `act`       | requests that read, and the ones about the server           |
//! | `change`    | requests that change services, and waiting for them         |
//! | `add`       | a service definition from a file or from flags              |
//! | `progress`  | the one line that shows what is being waited for            |
//! | `render`    | answers to text                                             |
//! | `screen`    | the two output streams                                      |
//! | `exit`      | exit codes                                                  |
//!
//! It never reads service files (but the one given to `add-service`), and never panics on output.

mod act;
mod add;
mod args;
mod change;
pub mod commands;
mod environment;
pub mod exit;
mod failure;
mod help;
mod logs;
mod meaning;
mod progress;
mod render;
mod screen;
mod sysv;
mod usage;
mod xinet;

use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

pub use add::NewService;
pub use args::parse;
pub use environment::Env;
pub use screen::Screen;
pub use usage::UsageError;
pub use xinet::Xinet;

/// What a command line means.
#[derive(Debug, Clone, PartialEq)]
pub enum Invocation {
    /// Run the server.
    Server(ServerOptions),
    /// Run as PID 1 of a machine or a container.
    Init(InitOptions),
    /// Check service files without a server.
    Check(CheckOptions),
    /// Print this text.
    Help(String),
    /// Print the version.
    Version,
    /// Ask a running server.
    Client(ClientOptions, Request),
}

/// How the server is to run.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerOptions {
    /// Where the service files are.
    pub config_dir: PathBuf,
    /// Where the files of the system's own services are; they come first.
    pub system_dir: Option<PathBuf>,
    /// The socket to listen on.
    pub socket: PathBuf,
    /// The file that says who may do what.
    pub access: PathBuf,
    /// `error`, `warn`, `info`, `debug`, `trace` or `off`.
    pub log_level: String,
    /// Behave as the server of a machine's PID 1.
    pub pid1_mode: bool,
}

/// How PID 1 is to run. What is not told here, a machine is told by its kernel's command line.
#[derive(Debug, Clone, PartialEq)]
pub struct InitOptions {
    /// It is a container's, whatever it looks like.
    pub container: bool,
    /// Where the service files are.
    pub config_dir: PathBuf,
    /// Where the files of the system's own services are; they come first.
    pub system_dir: PathBuf,
    /// The socket to listen on.
    pub socket: PathBuf,
    /// The file that says who may do what.
    pub access: PathBuf,
    /// The level of the log.
    pub log_level: Option<String>,
    /// Lines of output begin with the name of their service.
    pub prefix: bool,
    /// How long all services together may take to stop.
    pub grace: Option<Duration>,
    /// The command of a container.
    pub main: Option<Vec<String>>,
    /// What else was typed: a kernel hands words on that it does not know.
    pub words: Vec<String>,
}

/// What `zinit check` is to look at.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckOptions {
    /// A directory or a file.
    pub path: PathBuf,
    /// The directory whose services are known to those too.
    pub system: Option<PathBuf>,
    /// Answer as JSON.
    pub json: bool,
}

/// What an offline check of service files found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CheckResult {
    /// How many files were read.
    pub checked: usize,
    /// What keeps a file from being used, each `path:line:column: error: …`.
    pub errors: Vec<String>,
    /// What is doubtful.
    pub warnings: Vec<String>,
}

/// What all client commands share.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientOptions {
    /// The server's socket.
    pub socket: PathBuf,
    /// Print answers as JSON, one line each.
    pub json: bool,
}

/// What the client is to ask for.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// All services with their states.
    List,
    /// One service's state.
    Status(String),
    /// What a service waits for.
    Why(String),
    /// All services with their dependencies.
    Tree,
    /// The last lines a service wrote.
    Logs(LogsWanted),
    /// What happens to services, as it happens; to all if none are named.
    Watch(Vec<String>),
    /// A service's memory and processor use.
    Stats(String),
    /// A service's processes below the main one.
    Children(String),
    /// Whether the server answers.
    Ping,
    /// What the engine was told last and what it did, as a text that replays it.
    DebugRecord,
    /// The server's view of everything, as text.
    DebugState,
    /// A service's process tree, as text.
    DebugProcesses(String),
    /// Start, stop, restart or remove services, one after the other.
    Change {
        /// What to do with them.
        verb: Verb,
        /// The services.
        names: Vec<String>,
        /// How long to stay.
        patience: Patience,
    },
    /// Start, stop or delete all user services.
    All {
        /// What to do with them.
        verb: Bulk,
        /// How long to stay.
        patience: Patience,
    },
    /// Send a signal.
    Kill {
        /// The service.
        name: String,
        /// The signal as it was typed; none means TERM.
        signal: Option<String>,
    },
    /// Wait until a service is in a state.
    Await {
        /// The service.
        name: String,
        /// `running`, `stopped` or `exited`.
        goal: String,
        /// Give up after this long.
        within: Option<Duration>,
    },
    /// Create or replace a service.
    Add(NewService),
    /// The same, in the server's memory alone.
    AddEphemeral(NewService),
    /// Something about proxies.
    Xinet(Xinet),
    /// Read the service files again.
    Reload,
    /// Have services read their own configuration again.
    Refresh(Vec<String>),
    /// Stop the server and all services.
    Shutdown {
        /// The server's exit status.
        code: u8,
        /// How long to stay.
        patience: Patience,
    },
    /// End the machine's run.
    Machine(MachineEnd, Patience),
    /// End it at once, past the server.
    Force(MachineEnd),
    /// Hand over from an initramfs.
    SwitchRoot {
        /// Where the new root is mounted.
        root: String,
        /// What is to be PID 1 there.
        init: Option<String>,
    },
    /// Whether all services, or these, are as they should be.
    Health(Vec<String>),
}

/// Which lines of output.
#[derive(Debug, Clone, PartialEq)]
pub struct LogsWanted {
    /// Of these services; of all if there are none.
    pub names: Vec<String>,
    /// How many lines at most, the last ones.
    pub lines: u64,
    /// Only `stdout`, `stderr` or `syslog`.
    pub stream: Option<String>,
    /// Not older than this.
    pub since: Option<Since>,
    /// Go on as lines come.
    pub follow: bool,
}

/// A time in the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// So long ago.
    Ago(Duration),
    /// At this Unix millisecond.
    At(u64),
}

/// What can be done with named services.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verb {
    /// Bring up.
    Start {
        /// With what it requires and wants.
        deps: bool,
    },
    /// Bring down.
    Stop,
    /// Bring down and up again.
    Restart,
    /// Bring down and forget, file and all.
    Remove,
}

/// What can be done with all user services.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bulk {
    /// Bring up.
    Start,
    /// Bring down.
    Stop,
    /// Bring down and forget, files and all.
    Delete,
}

/// How a machine's run ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MachineEnd {
    /// Power off.
    PowerOff,
    /// Reboot.
    Reboot,
    /// Halt, with the power on.
    Halt,
    /// Start the kernel that was loaded.
    Kexec,
}

/// What a client may need of the system, beside the server.
pub struct Powers {
    /// Tells PID 1 by a signal, if it is zinit.
    pub signal_first: fn(MachineEnd) -> std::io::Result<()>,
    /// Ends the machine's run at once.
    pub force: fn(MachineEnd) -> std::io::Result<()>,
}

/// How long a command that changes something stays.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Patience {
    /// Until the server has taken note.
    TakenNote,
    /// Until it is done or has failed, or this long.
    Done {
        /// No bound when none.
        within: Option<Duration>,
    },
}

impl Request {
    /// The service file that is to be read before this is asked.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        if let Self::Add(NewService::File(path)) | Self::AddEphemeral(NewService::File(path)) = self
        {
            return Some(path);
        }
        None
    }

    /// The file is read, and says this.
    pub fn define(&mut self, definition: serde_json::Value) {
        if let Self::Add(service) | Self::AddEphemeral(service) = self {
            *service = NewService::Definition(definition);
        }
    }
}

/// Asks the server on behalf of the shell; answers go to standard output, complaints to standard error.
pub fn run(options: &ClientOptions, request: &Request, powers: &Powers) -> ExitCode {
    on_terminal(|screen| run_on(options, request, powers, screen))
}

/// [`run`] with the output streams given.
pub fn run_on(
    options: &ClientOptions,
    request: &Request,
    powers: &Powers,
    screen: &mut Screen<'_>,
) -> u8 {
    act::run(options, request, powers, screen)
}

/// Prints what is wrong with a service file that was to be added; a failure if that is all there is.
pub fn report_file(problems: &[String], usable: bool) -> ExitCode {
    on_terminal(|screen| {
        for problem in problems {
            screen.complain(problem);
        }
        if usable { exit::OK } else { exit::FAILED }
    })
}

/// Prints what [`parse`] rejected; `zinit` alone gets the whole help.
pub fn report_usage(error: &UsageError) -> ExitCode {
    on_terminal(|screen| usage::report(error, screen))
}

/// Prints a help text.
pub fn print_help(text: &str) -> ExitCode {
    on_terminal(|screen| failure::settle(screen.text(text), screen))
}

/// Prints name and version.
pub fn print_version() -> ExitCode {
    print_help(concat!("zinit ", env!("CARGO_PKG_VERSION")))
}

/// Prints what a check of service files found; a failure when there is an error among it.
pub fn report_check(options: &CheckOptions, result: &CheckResult) -> ExitCode {
    on_terminal(|screen| report_check_on(options, result, screen))
}

/// [`report_check`] with the output streams given.
pub fn report_check_on(
    options: &CheckOptions,
    result: &CheckResult,
    screen: &mut Screen<'_>,
) -> u8 {
    let shown = render::check(screen, options.json, result);
    let code = failure::settle(shown, screen);
    if result.errors.is_empty() {
        code
    } else {
        exit::FAILED
    }
}

fn on_terminal(work: impl FnOnce(&mut Screen<'_>) -> u8) -> ExitCode {
    let stdout = std::io::stdout();
    let out_is_terminal = stdout.is_terminal();
    // A list of a thousand services is one write, not a thousand.
    let mut out = BufWriter::new(stdout.lock());
    let mut err = std::io::stderr();
    let err_is_terminal = err.is_terminal();
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let mut screen = Screen {
        out: &mut out,
        err: &mut err as &mut dyn Write,
        out_is_terminal,
        err_is_terminal,
        color: out_is_terminal && !no_color,
        line_shown: false,
    };
    let code = work(&mut screen);
    match screen.out.flush() {
        Err(_) if code != exit::OK => ExitCode::from(code),
        flushed => ExitCode::from(failure::settle(flushed, &mut screen).max(code)),
    }
}
