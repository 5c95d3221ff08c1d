//! Connections that tell what happens, as it happens.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::connection::Connection;
use super::error::Error;
use crate::api::{Gap, HealthChange, LogLine, Removal, StateChange};

/// What is told of output.
#[derive(Clone, Debug, PartialEq)]
pub enum LogNote {
    /// A line.
    Line(LogLine),
    /// Lines were lost, as they were not read in time.
    Gap(Gap),
}

/// What is told of services.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// One is in another state.
    State(StateChange),
    /// One is healthy now, or is not.
    Health(HealthChange),
    /// One is no more.
    Removed(Removal),
    /// Events were lost, as they were not read in time.
    Gap(Gap),
}

/// What the server tells, for as long as it is there. It is read by iterating.
pub struct Stream<T> {
    connection: Connection,
    /// None: it is of a kind that is not known here.
    read: fn(&str, Value) -> Result<Option<T>, Error>,
}

impl<T> Stream<T> {
    /// The next, or an error of [`Error::Timeout`] if none comes within `limit`; none at the end of the
    /// server.
    ///
    /// # Errors
    /// If the connection broke, or what comes makes no sense.
    pub fn next_within(&mut self, limit: Duration) -> Result<Option<T>, Error> {
        self.receive(Some(limit))
    }

    fn receive(&mut self, limit: Option<Duration>) -> Result<Option<T>, Error> {
        while let Some(mut note) = self.connection.note(limit)? {
            let params = note.get_mut("params").map(Value::take).unwrap_or_default();
            let method = note["method"].as_str().ok_or(Error::Nonsense)?;
            if let Some(told) = (self.read)(method, params)? {
                return Ok(Some(told));
            }
        }
        Ok(None)
    }
}

impl<T> Iterator for Stream<T> {
    type Item = Result<T, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.receive(None).transpose()
    }
}

pub(super) fn of_logs(connection: Connection) -> Stream<LogNote> {
    let read = |method: &str, params| {
        Ok(match method {
            "logs.line" => Some(LogNote::Line(typed(params)?)),
            "logs.gap" => Some(LogNote::Gap(typed(params)?)),
            _ => None,
        })
    };
    Stream { connection, read }
}

pub(super) fn of_events(connection: Connection) -> Stream<Event> {
    let read = |method: &str, params| {
        Ok(match method {
            "events.state" => Some(Event::State(typed(params)?)),
            "events.health" => Some(Event::Health(typed(params)?)),
            "events.removed" => Some(Event::Removed(typed(params)?)),
            "events.gap" => Some(Event::Gap(typed(params)?)),
            _ => None,
        })
    };
    Stream { connection, read }
}

/// A value as what it should be.
pub(super) fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    serde_json::from_value(value).map_err(|_| Error::Nonsense)
}
