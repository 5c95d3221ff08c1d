//! What can go wrong on the way to an answer, what to say about it, and with which code to exit.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::exit;
use super::screen::Screen;

/// What kept a request from being answered.
pub(super) enum Failure {
    /// No socket, or nobody behind it.
    NotListening(PathBuf, io::Error),
    /// There is a socket, but not for us.
    Unreachable(PathBuf, io::Error),
    /// The connection broke.
    Connection(io::Error),
    /// The server closed the connection first.
    Closed,
    /// No answer in time.
    Unanswered(Duration),
    /// It said it would end, and is still there.
    StillThere(Duration),
    /// An answer that makes no sense.
    Nonsense,
    /// An answer longer than any sensible one.
    TooLong,
    /// The server says no.
    Refused(Refusal),
    /// The service file was not read.
    Unread(PathBuf),
    /// The machine could not be ended by force.
    Force(io::Error),
    /// The answer could not be printed.
    Output(io::Error),
}

/// The server's no.
pub(super) struct Refusal {
    pub(super) code: i64,
    pub(super) message: String,
    pub(super) data: Value,
}

/// What the server answers when it knows no such method.
const METHOD_NOT_FOUND: i64 = -32601;

impl Refusal {
    /// How a wait ended otherwise than asked: `failed`, `blocked`, `superseded` or `timeout`.
    pub(super) fn outcome(&self) -> Option<&str> {
        self.data["outcome"].as_str()
    }

    /// Whether there is no such service.
    pub(super) fn is_about_the_name(&self) -> bool {
        self.message.starts_with("service not found")
    }

    /// As it came, for those who read JSON.
    pub(super) fn json(&self) -> Value {
        json!({ "error": { "code": self.code, "message": self.message, "data": self.data } })
    }

    /// Whether the server is no PID 1, or too old to know what that would mean.
    pub(super) fn is_about_pid_1(&self) -> bool {
        self.code == METHOD_NOT_FOUND || self.message.contains("PID 1")
    }
}

impl From<io::Error> for Failure {
    /// Only printing is left to `?`; the connection maps its own errors.
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotListening(path, error) => {
                write!(f, "nothing listens on {}: {error}", path.display())?;
                f.write_str("\nIs the zinit server running? Start it with: zinit server")
            }
            Self::Force(error) => write!(f, "the kernel does not do it: {error}"),
            Self::Unreachable(path, error) => {
                write!(f, "cannot connect to {}: {error}", path.display())?;
                f.write_str("\nTry it as the user the server runs as.")
            }
            Self::Connection(error) => write!(f, "the connection to the server broke: {error}"),
            Self::Closed => f.write_str("the server closed the connection before it answered"),
            Self::Unanswered(after) => {
                write!(f, "the server did not answer within {}", seconds(*after))
            }
            Self::StillThere(after) => {
                write!(f, "the server is still stopping after {}", seconds(*after))?;
                f.write_str("\nIt goes on; see how things stand: zinit list")
            }
            Self::Nonsense => {
                f.write_str("the server's answer is no JSON-RPC; is that zinit's socket?")
            }
            Self::TooLong => f.write_str("the server's answer is longer than 64 MiB"),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Unread(path) => write!(f, "Failed to read {}", path.display()),
            Self::Output(error) => write!(f, "cannot write the output: {error}"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for error in self.data["errors"].as_array().into_iter().flatten() {
            write!(f, "\n  {}", error.as_str().unwrap_or_default())?;
        }
        if self.is_about_the_name() {
            f.write_str("\nSee which services there are: zinit list")?;
        }
        Ok(())
    }
}

/// `5 s`, `500 ms`.
fn seconds(time: Duration) -> String {
    match time.subsec_millis() {
        0 => format!("{} s", time.as_secs()),
        _ => format!("{} ms", time.as_millis()),
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
    if matches!(failure, Failure::NotListening(..)) {
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
