//! What can go wrong on the way to an answer.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

/// Why there is no answer, or not the one that was hoped for.
#[derive(Debug)]
pub enum Error {
    /// No socket there, or nobody behind it.
    NotListening(PathBuf, io::Error),
    /// There is a socket, but not for us.
    Unreachable(PathBuf, io::Error),
    /// The connection broke.
    Connection(io::Error),
    /// The server closed the connection first.
    Closed,
    /// No answer in this time. What was asked may still be done.
    Timeout(Duration),
    /// An answer that makes no sense.
    Nonsense,
    /// An answer longer than any sensible one.
    TooLong,
    /// The server says no.
    Refused(Refusal),
}

/// The server's no.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The kind; [`crate::api::Code`] has those there are.
    pub code: i64,
    /// One sentence, for people.
    pub message: String,
    /// More, for programs; null if there is none.
    pub data: Value,
}

impl Refusal {
    /// How a wait ended otherwise than asked: `failed`, `blocked`, `superseded`, `removed` or `timeout`.
    #[must_use]
    pub fn outcome(&self) -> Option<&str> {
        self.data["outcome"].as_str()
    }

    /// All that is wrong with a definition.
    pub fn errors(&self) -> impl Iterator<Item = &str> {
        let errors = self.data["errors"].as_array().into_iter().flatten();
        errors.map(|error| error.as_str().unwrap_or_default())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotListening(path, error) => {
                write!(f, "nothing listens on {}: {error}", path.display())
            }
            Self::Unreachable(path, error) => {
                write!(f, "cannot connect to {}: {error}", path.display())
            }
            Self::Connection(error) => write!(f, "the connection to the server broke: {error}"),
            Self::Closed => f.write_str("the server closed the connection before it answered"),
            Self::Timeout(after) => {
                let after = seconds(*after);
                write!(f, "the server did not answer within {after}")
            }
            Self::Nonsense => {
                f.write_str("the server's answer is no JSON-RPC; is that zinit's socket?")
            }
            Self::TooLong => f.write_str("the server's answer is longer than 64 MiB"),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.errors().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotListening(_, error)
            | Self::Unreachable(_, error)
            | Self::Connection(error) => Some(error),
            Self::Closed | Self::Timeout(_) | Self::Nonsense | Self::TooLong | Self::Refused(_) => {
                None
            }
        }
    }
}

/// `5 s`, `500 ms`.
pub(crate) fn seconds(time: Duration) -> String {
    match time.subsec_millis() {
        0 => format!("{} s", time.as_secs()),
        _ => format!("{} ms", time.as_millis()),
    }
}
