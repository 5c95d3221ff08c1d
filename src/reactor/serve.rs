//! Clients' requests: taken in turns, handed on, answered.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;

use super::clients::ClientId;
use super::place::Place;
use super::{Asker, Reactor, command};
use crate::api::{Granted, to_value};
use crate::engine::{Command, Event, Patience, Spec, Ticket, Time};
use crate::rpc::{self, Code, Form, Refusal, Scene, Todo};
use crate::sys::{clock, reserve};

/// Requests in one turn, of all clients together; each has one at least.
const REQUESTS_A_TURN: usize = 64;

/// What may happen again and again is told of no more often than this.
const TOLD_SPAN: Duration = Duration::from_secs(10);

impl Reactor {
    pub(super) fn accept(&mut self) {
        let token = |slot| Place::Client(slot).token();
        for _ in 0..self.clients.a_turn() {
            let Some(door) = &self.door else { return };
            match door.listener.socket.accept() {
                Ok((stream, _)) => match self.clients.add(stream, self.poll.registry(), token) {
                    Ok(evicted) => evicted.into_iter().for_each(|client| self.hung_up(client)),
                    Err(error) => self.note_refused(&error),
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // Out of descriptors: one idle client makes room, and the rest has to wait.
                    self.note_refused(&error);
                    let Some(client) = self.clients.evict() else {
                        self.connections_wait = true;
                        return;
                    };
                    self.hung_up(client);
                }
            }
        }
        self.more_connections = true;
    }

    fn note_refused(&mut self, error: &io::Error) {
        if is_to_be_told(&mut self.refusal_told) {
            log::warn!("a connection can't be taken, or only in the place of another: {error}");
        }
    }

    pub(super) fn client_event(&mut self, slot: usize, gone: bool) {
        let Some(client) = self.clients.at(slot) else {
            return;
        };
        self.clients.readable(client);
        self.clients.come_back(client);
        if gone {
            self.listens_no_more(client);
        }
    }

    /// Somebody who sent and left is not answered, but what was asked is done; only the wait for it
    /// is of no use.
    fn listens_no_more(&mut self, client: ClientId) {
        if self.is_follower(client) {
            self.hung_up(client);
        } else {
            self.forget_tickets(client);
        }
    }

    /// All clients that have something to do. They share the turn, so that many who ask without end
    /// do not make it long for the others.
    pub(super) fn serve_all(&mut self) {
        let busy = self.clients.take_busy();
        let share = (REQUESTS_A_TURN / busy.len().max(1)).max(1);
        for client in busy {
            self.serve(client, share);
        }
    }

    fn serve(&mut self, client: ClientId, share: usize) {
        if !self.clients.read(client) {
            return self.hung_up(client);
        }
        for _ in 0..share {
            let Some(request) = self.clients.next_request(client) else {
                break;
            };
            self.request(client, request);
        }
        if !self.clients.write(client, self.poll.registry()) {
            return self.hung_up(client);
        }
        if self.clients.is_deaf(client) {
            self.listens_no_more(client);
        }
        if self.clients.is_runnable(client) {
            self.clients.come_back(client);
        }
    }

    fn request(&mut self, client: ClientId, request: Result<rpc::Request, Refusal>) {
        let request = match request {
            Ok(request) => request,
            // Nobody knows which id a line that is no request had.
            Err(refusal) => {
                return self
                    .clients
                    .answer(client, Some(&Value::from(0)), &Err(refusal));
            }
        };
        if let Err(refusal) = self.admits(client, &request) {
            return self
                .clients
                .answer(client, request.id.as_ref(), &Err(refusal));
        }
        if let Some(answer) = self.about_template(&request) {
            return self.clients.answer(client, request.id.as_ref(), &answer);
        }
        let scene = Scene {
            all: &self.supervisor,
            now: clock::now(),
            obstacles: &self.obstacles,
            notes: self.errands.notes(),
            said: &self.said,
            ephemeral: self.files.ephemeral(),
        };
        let todo = rpc::dispatch(&request, &scene);
        let answer = match todo {
            Ok(Todo::Answer(value)) => Ok(self.shown_to(client, &request, value)),
            Ok(Todo::Command {
                command,
                wait,
                form,
            }) => {
                return self.command(client, request.id, command, wait, form);
            }
            Ok(Todo::Ask(ask)) => match self.ask(client, request.id.as_ref(), ask) {
                Some(answer) => answer,
                None => return,
            },
            Err(refusal) => Err(refusal),
        };
        self.clients.answer(client, request.id.as_ref(), &answer);
    }

    /// A start may be for an instance that is not there yet, and a removal for a template, which is
    /// no service. An answer, if that is all.
    fn about_template(&mut self, request: &rpc::Request) -> Option<Result<Value, Refusal>> {
        let name = request.params.get("name")?.as_str()?;
        if !name.contains('@') || self.supervisor.find(name).is_some() {
            return None;
        }
        match request.method.as_str() {
            "service.start" | "service.restart" if !self.supervisor.is_closing() => {
                let all = &self.supervisor;
                match self.files.ask_for(name, |name| all.find(name).is_some()) {
                    Ok(made) => {
                        self.put(made);
                        None
                    }
                    Err(text) => Some(Err(Refusal::new(Code::Internal, text))),
                }
            }
            "service.delete" | "service.remove" if self.files.is_of_template(name) => {
                let deleted = self.files.delete(&[Rc::from(name)]);
                let done = deleted.map(|()| to_value(&Granted { ok: true }));
                Some(done.map_err(|text| Refusal::new(Code::Internal, text)))
            }
            _ => None,
        }
    }

    /// Adds services, or gives them other definitions.
    pub(super) fn put(&mut self, specs: Vec<Spec>) {
        let names: Vec<_> = specs.iter().map(|spec| Rc::clone(&spec.name)).collect();
        for spec in specs {
            let spec = Rc::new(spec);
            self.inbox.push_back(command(Command::Put { spec }));
        }
        self.handle_inbox();
        let ids = names.iter().filter_map(|name| self.supervisor.find(name));
        let ids: Vec<_> = ids.collect();
        self.open_sockets_of(&ids);
    }

    /// Hands a command to the engine; the client is answered by its ticket.
    pub(super) fn command(
        &mut self,
        client: ClientId,
        request: Option<Value>,
        command: Command,
        wait: Option<Option<Duration>>,
        form: Form,
    ) {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        let now = clock::now();
        let patience = match wait {
            None => Patience::None,
            Some(timeout) => Patience::Until(timeout.map(|timeout| now + timeout)),
        };
        self.clients.wait(client);
        self.tickets.push(Asker {
            ticket,
            client,
            request,
            form,
        });
        self.inbox.push_back(Event::Command {
            ticket: Some(ticket),
            patience,
            command,
        });
        self.handle_inbox();
    }

    /// The system gave no more memory, and some of the reserve was needed: what can be done without
    /// goes, so that it does not happen again.
    pub(super) fn spare_memory(&mut self) {
        self.runs.spare_memory();
        if !reserve::hold() {
            for client in self.clients.large() {
                self.hung_up(client);
            }
            reserve::hold();
        }
        if is_to_be_told(&mut self.shortage_told) {
            log::error!(
                "there is no more memory: only the last lines of each service are kept, and \
                 clients that keep much waiting may be let go"
            );
        }
    }

    pub(super) fn hung_up(&mut self, client: ClientId) {
        self.clients.remove(client);
        self.stop_following(client);
        self.forget_tickets(client);
    }

    fn forget_tickets(&mut self, client: ClientId) {
        if let Some(place) = self.tickets.iter().position(|asker| asker.client == client) {
            let Asker { ticket, .. } = self.tickets.swap_remove(place);
            self.inbox.push_back(Event::HungUp { ticket });
            self.handle_inbox();
            // If it is still there after all, it may go on; if not, the next write will tell.
            self.clients
                .answer(client, None, &Err(Refusal::new(Code::Internal, "")));
        }
    }
}

/// Was it told of long ago, or never? It is told of now, then.
fn is_to_be_told(told: &mut Option<Time>) -> bool {
    let now = clock::now();
    let is_due = told.is_none_or(|at| now.since(at) >= TOLD_SPAN);
    if is_due {
        *told = Some(now);
    }
    is_due
}
