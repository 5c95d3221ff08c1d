//! Streams: lines of output and changes of state, to clients that asked to be told of them. Each has
//! a connection for that alone. One that does not read in time is told how much it missed.

use std::rc::Rc;

use serde_json::Value;

use super::Reactor;
use super::asks::told;
use super::clients::ClientId;
use super::sinks::Tapped;
use crate::api::{Gap, Granted, HealthChange, LogLine, LogStream, Removal, StateChange, to_value};
use crate::engine::{ServiceId, State};
use crate::rpc::{FollowQuery, LogQuery, LogShape, Stream as Of, note, view};
use crate::sys::clock;

/// Who is to be told of what.
#[derive(Debug)]
pub(super) struct Follower {
    client: ClientId,
    of: Of,
    /// Of these services, or of all.
    names: Option<Vec<String>>,
    stream: Option<LogStream>,
    /// What it has missed.
    lost: u64,
}

impl Follower {
    fn is_for(&self, of: Of, name: &str, stream: Option<LogStream>) -> bool {
        let named = self.names.as_ref().is_none_or(|names| {
            let mut names = names.iter();
            names.any(|known| known == name)
        });
        let streamed = self.stream.is_none_or(|wanted| stream == Some(wanted));
        self.of == of && named && streamed
    }
}

impl Reactor {
    /// From now on this connection is told of what happens, after what has happened already.
    pub(super) fn follow(&mut self, client: ClientId, request: Option<&Value>, query: FollowQuery) {
        // What is still to be told to others is not told to this one: it has it from the past.
        self.distribute();
        let granted = to_value(&Granted { ok: true });
        self.clients.answer(client, request, &Ok(granted));
        let past = match query.of {
            Of::Logs => self.logs(&LogQuery {
                services: query.services,
                lines: query.lines,
                stream: query.stream,
                since_ms: query.since_ms,
                shape: LogShape::Object,
            }),
            Of::Events => Value::Null,
        };
        for line in past.as_array().into_iter().flatten() {
            self.clients.tell(client, &note("logs.line", line), true);
        }
        self.clients.wait(client);
        self.followers.push(Follower {
            client,
            of: query.of,
            names: query.names,
            stream: query.stream,
            lost: 0,
        });
        self.tap();
    }

    /// Is this a connection that is only told of things?
    pub(super) fn is_follower(&self, client: ClientId) -> bool {
        self.followers.iter().any(|known| known.client == client)
    }

    /// Who is told of things, and of which services.
    pub(super) fn streams(&self) -> Vec<(ClientId, Option<Vec<String>>)> {
        let each = self.followers.iter();
        each.map(|one| (one.client, one.names.clone())).collect()
    }

    /// It is not there any more.
    pub(super) fn stop_following(&mut self, client: ClientId) {
        self.followers.retain(|known| known.client != client);
        self.tap();
    }

    fn tap(&mut self) {
        let any = self.followers.iter().any(|known| known.of == Of::Logs);
        self.runs.sinks.tap(any);
    }

    /// Tells of the lines that have come in, and of gaps as soon as that can be told.
    pub(super) fn distribute(&mut self) {
        if self.followers.is_empty() {
            return;
        }
        for line in self.runs.sinks.take_tap() {
            let (name, stream) = (Rc::clone(&line.name), told(line.stream));
            self.tell(Of::Logs, &name, Some(stream), "logs.line", || shown(line));
        }
        for (name, stream, count) in self.runs.sinks.take_missed() {
            let mut followers = self.followers.iter_mut();
            let stream = Some(told(stream));
            while let Some(follower) = followers.find(|one| one.is_for(Of::Logs, &name, stream)) {
                follower.lost += count;
            }
        }
        for follower in &mut self.followers {
            follower.lost = match follower.lost {
                0 => 0,
                lost if self
                    .clients
                    .tell(follower.client, &gap(follower.of, lost), false) =>
                {
                    0
                }
                lost => lost,
            };
        }
    }

    /// Tells all whom it concerns. It is only put in words if somebody has room for it.
    fn tell(
        &mut self,
        of: Of,
        name: &str,
        stream: Option<LogStream>,
        method: &str,
        params: impl FnOnce() -> Value,
    ) {
        let mut params = Some(params);
        let mut bytes: Vec<u8> = Vec::new();
        for follower in &mut self.followers {
            if !follower.is_for(of, name, stream) {
                continue;
            }
            if !self.clients.has_room(follower.client) {
                follower.lost += 1;
                continue;
            }
            if let Some(params) = params.take() {
                bytes = note(method, &params());
            }
            if follower.lost > 0 {
                let lost = std::mem::take(&mut follower.lost);
                self.clients.tell(follower.client, &gap(of, lost), true);
            }
            self.clients.tell(follower.client, &bytes, true);
        }
    }

    /// A service is in another state.
    pub(super) fn announce(&mut self, service: ServiceId, from: State, to: State) {
        if !self.followers.iter().any(|known| known.of == Of::Events) {
            return;
        }
        let Some(found) = self.supervisor.service(service) else {
            return;
        };
        let name = Rc::clone(&found.spec().name);
        let state = view::state_in(&self.supervisor, service, found.spec(), to);
        let (from, to) = (view::word(from), view::word(to));
        let change = StateChange {
            service: name.to_string(),
            from,
            to,
            state,
            timestamp_ms: clock::unix_ms(),
        };
        // Steps within what the wire calls one state are no news.
        if from != to {
            self.tell(Of::Events, &name, None, "events.state", || {
                to_value(&change)
            });
        }
    }

    /// A service is healthy now, or is not.
    pub(super) fn announce_health(&mut self, service: ServiceId, healthy: bool) {
        let name = self.name(service);
        let change = HealthChange {
            service: name.to_string(),
            healthy,
            timestamp_ms: clock::unix_ms(),
        };
        self.tell(Of::Events, &name, None, "events.health", || {
            to_value(&change)
        });
    }

    /// A service is no more.
    pub(super) fn announce_removal(&mut self, name: &str) {
        let removal = Removal {
            service: name.to_owned(),
            timestamp_ms: clock::unix_ms(),
        };
        self.tell(Of::Events, name, None, "events.removed", || {
            to_value(&removal)
        });
    }
}

fn shown(line: Tapped) -> Value {
    to_value(&LogLine {
        timestamp_ms: line.at_ms,
        service: line.name.to_string(),
        stream: told(line.stream),
        content: line.content,
    })
}

fn gap(of: Of, lost: u64) -> Vec<u8> {
    let method = match of {
        Of::Logs => "logs.gap",
        Of::Events => "events.gap",
    };
    note(method, &to_value(&Gap { lost }))
}
