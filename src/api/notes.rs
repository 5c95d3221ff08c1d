//! What streams tell.

use super::macros::objects;
use super::{LogStream, State, Word};

objects! { OBJECTS:
    /// A line of output.
    LogLine {
        /// When it was written, in Unix milliseconds.
        timestamp_ms: u64,
        /// By which service.
        service: String,
        /// Where.
        stream: LogStream,
        /// The line.
        content: String,
    }

    /// A service is in another state.
    StateChange {
        /// Which.
        service: String,
        /// It was.
        from: Word,
        /// It is.
        to: Word,
        /// The same as an object.
        state: State,
        /// When, in Unix milliseconds.
        timestamp_ms: u64,
    }

    /// A service is healthy now, or is not.
    HealthChange {
        /// Which.
        service: String,
        /// Is it?
        healthy: bool,
        /// When, in Unix milliseconds.
        timestamp_ms: u64,
    }

    /// A service is no more.
    Removal {
        /// Which.
        service: String,
        /// When, in Unix milliseconds.
        timestamp_ms: u64,
    }

    /// Whoever reads was too slow.
    Gap {
        /// So many lines or events are lost.
        lost: u64,
    }
}

/// All that streams tell, each with its type. What begins as the method that began the stream is of that.
pub const NOTES: &[(&str, &str)] = &[
    ("events.gap", "Gap"),
    ("events.health", "HealthChange"),
    ("events.removed", "Removal"),
    ("events.state", "StateChange"),
    ("logs.gap", "Gap"),
    ("logs.line", "LogLine"),
];
