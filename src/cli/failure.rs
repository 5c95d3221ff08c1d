//! What can go wrong on the way to an answer, what to say about it, and with which code to exit.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::exit;
use super::screen::Screen;
use crate::api::Code;
use crate::client::{Error, Refusal, seconds};

/// What kept a request from being answered.
pub(super) enum Failure {
    /// The server did not answer, or says no.
    Server(Error),
    /// It said it would end, and is still there.
    StillThere(Duration),
    /// The service file was not read.
    Unread(PathBuf),
    /// The machine could not be ended by force.
    Force(io::Error),
    /// The answer could not be printed.
    Output(io::Error),
}

/// Whether there is no such service.
pub(super) fn is_about_the_name(refusal: &Refusal) -> bool {
    refusal.message.starts_with("service not found")
}

/// Whether the server is no PID 1, or too old to know what that would mean.
pub(super) fn is_about_pid_1(refusal: &Refusal) -> bool {
    refusal.code == i64::from(Code::MethodNotFound as i32) || refusal.message.contains("PID 1")
}

/// As it came, for those who read JSON.
pub(super) fn json_of(refusal: &Refusal) -> Value {
    let Refusal {
        code,
        message,
        data,
    } = refusal;
    json!({ "error": { "code": code, "message": message, "data": data } })
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Server(error)
    }
}

impl From<io::Error> for Failure {
    /// Only printing is left to `?`; the client has errors of its own.
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(error) => {
                error.fmt(f)?;
                f.write_str(advice(error))
            }
            Self::Force(error) => write!(f, "the kernel does not do it: {error}"),
            Self::StillThere(after) => {
                write!(f, "the server is still stopping after {}", seconds(*after))?;
                f.write_str("\nIt goes on; see how things stand: zinit list")
            }
            Self::Unread(path) => write!(f, "Failed to read {}", path.display()),
            Self::Output(error) => write!(f, "cannot write the output: {error}"),
        }
    }
}

/// A line about what to do, if something can be done.
fn advice(error: &Error) -> &'static str {
    match error {
        Error::NotListening(..) => "\nIs the zinit server running? Start it with: zinit server",
        Error::Unreachable(..) => "\nTry it as the user the server runs as.",
        Error::Refused(refusal) => advice_on(refusal),
        Error::Connection(_)
        | Error::Closed
        | Error::Timeout(_)
        | Error::Nonsense
        | Error::TooLong => "",
    }
}

/// The same for a refusal.
pub(super) fn advice_on(refusal: &Refusal) -> &'static str {
    if is_about_the_name(refusal) {
        "\nSee which services there are: zinit list"
    } else {
        ""
    }
}

/// Of a request that is carried out though nobody may read any more what comes of it.
pub(super) fn unheard(told: io::Result<()>) -> io::Result<()> {
    match told {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        told => told,
    }
}

/// Says what went wrong; the exit code that goes with it.
pub(super) fn report(failure: &Failure, screen: &mut Screen<'_>) -> u8 {
    if let Failure::Output(error) = failure
        && error.kind() == io::ErrorKind::BrokenPipe
    {
        // `zinit list | head -1`: the reader has what it wanted.
        return exit::OK;
    }
    screen.complain(&format!("Error: {failure}"));
    if matches!(failure, Failure::Server(Error::NotListening(..))) {
        exit::NOT_LISTENING
    } else {
        exit::FAILED
    }
}

/// The exit code of something that only prints.
pub(super) fn settle(printed: io::Result<()>, screen: &mut Screen<'_>) -> u8 {
    match printed {
        Ok(()) => exit::OK,
        Err(error) => report(&Failure::Output(error), screen),
    }
}
