//! Connections: bytes in, one request at a time, answers out in order. Each has its share of a
//! turn, and a bound on what it may leave lying about.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use serde_json::Value;

use crate::rpc::{Code, Frames, Incoming, Line, MAX_LINE_BYTES, Refusal, Request, parse, reply};
use crate::sys::peer::Peer;

/// Connections at once. With all in use, the one that was idle longest makes room.
const MOST_CLIENTS: usize = 256;

/// Bytes of answers that may wait to be read before no further request is taken.
const OUTPUT_PAUSE_BYTES: usize = 256 << 10;

/// Bytes of answers to one batch; what is asked beyond them is not done.
const BATCH_BYTES: usize = 8 << 20;

/// Bytes read from one client in one turn.
const READ_BYTES: usize = 16 << 10;

/// Who asks: a place in the table, and who is there now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ClientId {
    slot: usize,
    serial: u64,
}

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Clients {
    slots: Vec<Option<Client>>,
    serial: u64,
    /// Who may have something to do though nothing new has come.
    busy: Vec<ClientId>,
    /// Counts up; orders clients by when they were last heard.
    moment: u64,
}

#[derive(Debug)]
struct Client {
    serial: u64,
    stream: UnixStream,
    token: Token,
    /// It takes no more for now, and we are told when it does. Else we are not: a follower that
    /// reads would wake us up each time.
    full: bool,
    frames: Frames,
    /// The descriptor may hold more.
    readable: bool,
    /// The peer sends no more.
    ended: bool,
    /// A request is being worked on; the next one waits.
    waiting: bool,
    /// Requests of a batch that were not taken yet.
    rest: VecDeque<Result<Request, Refusal>>,
    /// Answers of a batch, if it is one.
    batch: Option<Vec<u8>>,
    output: Vec<u8>,
    written: usize,
    heard: u64,
    peer: Peer,
}

impl Clients {
    /// Takes on a connection; gives who had to go for it.
    ///
    /// # Errors
    /// If it can't be polled, or if nobody can go for it.
    pub(super) fn add(
        &mut self,
        mut stream: UnixStream,
        registry: &Registry,
        token: impl Fn(usize) -> Token,
    ) -> io::Result<Option<ClientId>> {
        let evicted = if self.slots.iter().flatten().count() >= MOST_CLIENTS {
            self.evict()
        } else {
            None
        };
        let slot = match self.slots.iter().position(Option::is_none) {
            Some(slot) => slot,
            None if self.slots.len() < MOST_CLIENTS => {
                self.slots.push(None);
                self.slots.len() - 1
            }
            None => return Err(io::ErrorKind::ResourceBusy.into()),
        };
        let token = token(slot);
        registry.register(&mut stream, token, Interest::READABLE)?;
        let peer = Peer::of(&stream)?;
        self.serial += 1;
        self.moment += 1;
        self.slots[slot] = Some(Client {
            serial: self.serial,
            stream,
            token,
            full: false,
            frames: Frames::default(),
            readable: true,
            ended: false,
            waiting: false,
            rest: VecDeque::new(),
            batch: None,
            output: Vec::new(),
            written: 0,
            heard: self.moment,
            peer,
        });
        self.busy.push(ClientId {
            slot,
            serial: self.serial,
        });
        Ok(evicted)
    }

    /// Drops the client that was heard of longest ago; one whose request is being worked on only
    /// if there is no other.
    pub(super) fn evict(&mut self) -> Option<ClientId> {
        let all = self.slots.iter().enumerate();
        let all = all.filter_map(|(slot, client)| Some((slot, client.as_ref()?)));
        let (slot, _) = all.min_by_key(|(_, client)| (client.waiting, client.heard))?;
        let client = self.slots[slot].take()?;
        Some(ClientId {
            slot,
            serial: client.serial,
        })
    }

    /// Who is at this place.
    #[must_use]
    pub(super) fn at(&self, slot: usize) -> Option<ClientId> {
        let client = self.slots.get(slot)?.as_ref()?;
        Some(ClientId {
            slot,
            serial: client.serial,
        })
    }

    /// Readiness has changed: there may be more to read.
    pub(super) fn readable(&mut self, id: ClientId) {
        if let Some(client) = self.client(id) {
            client.readable = true;
        }
    }

    /// The next request of this client, if it may have one now. Reads at most its share.
    pub(super) fn next_request(&mut self, id: ClientId) -> Option<Result<Request, Refusal>> {
        let moment = self.moment + 1;
        let client = self.client(id)?;
        if client.waiting || client.output.len() - client.written > OUTPUT_PAUSE_BYTES {
            return None;
        }
        if let Some(request) = client.rest.pop_front() {
            return Some(request);
        }
        client.close_batch();
        let line = client
            .frames
            .next_line()
            .or_else(|| client.ended.then(|| client.frames.finish()).flatten())?;
        client.heard = moment;
        self.moment = moment;
        let client = self.client(id)?;
        match line {
            Line::TooLong => {
                let text = format!(
                    "a request is at most {MAX_LINE_BYTES} bytes long; this one was dropped"
                );
                Some(Err(Refusal::new(Code::Parse, text)))
            }
            Line::Whole(line) => match parse(&line) {
                Incoming::One(request) => Some(request),
                Incoming::Batch(requests) => {
                    client.rest = requests.into();
                    client.batch = Some(Vec::new());
                    client.rest.pop_front()
                }
            },
        }
    }

    /// Reads what has come. False if the connection is gone.
    pub(super) fn read(&mut self, id: ClientId) -> bool {
        let Some(client) = self.client(id) else {
            return false;
        };
        let mut buffer = [0; READ_BYTES];
        let wants = client.readable && !client.ended && !client.waiting && client.rest.is_empty();
        if !wants || client.frames.pending() > MAX_LINE_BYTES {
            return true;
        }
        match client.stream.read(&mut buffer) {
            Ok(0) => client.ended = true,
            Ok(count) => client.frames.push(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => client.readable = false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
        true
    }

    /// The request at hand will be answered later.
    pub(super) fn wait(&mut self, id: ClientId) {
        if let Some(client) = self.client(id) {
            client.waiting = true;
        }
    }

    /// Answers the request at hand. A notification is done with without a word.
    pub(super) fn answer(
        &mut self,
        id: ClientId,
        request: Option<&Value>,
        answer: &Result<Value, Refusal>,
    ) {
        let Some(client) = self.client(id) else {
            return;
        };
        client.waiting = false;
        if let Some(request) = request {
            match &mut client.batch {
                Some(batch) => {
                    batch.push(if batch.is_empty() { b'[' } else { b',' });
                    reply(request, answer, batch);
                    if batch.len() > BATCH_BYTES && !client.rest.is_empty() {
                        let text =
                            format!("the answers to a batch are longer than {BATCH_BYTES} bytes");
                        client.rest = VecDeque::from([Err(Refusal::new(Code::Internal, text))]);
                    }
                }
                None => {
                    reply(request, answer, &mut client.output);
                    client.output.push(b'\n');
                }
            }
        }
        self.come_back(id);
    }

    /// Tells a client something it did not ask for just now, unless too much waits for it already.
    /// Says whether it is told.
    pub(super) fn tell(&mut self, id: ClientId, bytes: &[u8], anyhow: bool) -> bool {
        let Some(client) = self.client(id) else {
            return false;
        };
        if !anyhow && client.output.len() - client.written > OUTPUT_PAUSE_BYTES {
            return false;
        }
        client.output.extend_from_slice(bytes);
        self.come_back(id);
        true
    }

    /// May a client be told more than it has read so far?
    pub(super) fn has_room(&mut self, id: ClientId) -> bool {
        self.client(id)
            .is_some_and(|client| client.output.len() - client.written <= OUTPUT_PAUSE_BYTES)
    }

    /// Is this request one of several that came as one?
    pub(super) fn is_batch(&mut self, id: ClientId) -> bool {
        self.client(id).is_some_and(|client| client.batch.is_some())
    }

    /// Writes what can be written. False if the connection is gone, or has nothing left to do.
    pub(super) fn write(&mut self, id: ClientId, registry: &Registry) -> bool {
        let Some(client) = self.client(id) else {
            return false;
        };
        if client.rest.is_empty() && !client.waiting {
            client.close_batch();
        }
        while client.written < client.output.len() {
            match client.stream.write(&client.output[client.written..]) {
                Ok(0) => return false,
                Ok(count) => client.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    client.give_back();
                    return client.watch_room(true, registry);
                }
                Err(_) => return false,
            }
        }
        client.output = Vec::new();
        client.written = 0;
        client.watch_room(false, registry) && !client.is_done()
    }

    /// Has this client something to do right away?
    pub(super) fn is_runnable(&mut self, id: ClientId) -> bool {
        self.client(id).is_some_and(|client| {
            let may = !client.waiting && client.output.len() - client.written <= OUTPUT_PAUSE_BYTES;
            may && (client.readable && !client.ended
                || !client.rest.is_empty()
                || client.frames.pending() > 0)
        })
    }

    /// Come back to this client in the next turn.
    pub(super) fn come_back(&mut self, id: ClientId) {
        if !self.busy.contains(&id) {
            self.busy.push(id);
        }
    }

    /// Takes the clients that have something to do.
    pub(super) fn take_busy(&mut self) -> Vec<ClientId> {
        std::mem::take(&mut self.busy)
    }

    /// Is there any?
    #[must_use]
    pub(super) fn is_busy(&self) -> bool {
        !self.busy.is_empty()
    }

    /// Who it is.
    #[must_use]
    pub(super) fn peer(&self, id: ClientId) -> Option<&Peer> {
        let client = self.slots.get(id.slot)?.as_ref();
        let client = client.filter(|client| client.serial == id.serial)?;
        Some(&client.peer)
    }

    /// Lets a client go.
    pub(super) fn remove(&mut self, id: ClientId) {
        if self.client(id).is_some() {
            self.slots[id.slot] = None;
        }
    }

    /// Is nobody there?
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.slots.iter().all(Option::is_none)
    }

    /// Everybody who is there.
    #[must_use]
    pub(super) fn all(&self) -> Vec<ClientId> {
        (0..self.slots.len())
            .filter_map(|slot| self.at(slot))
            .collect()
    }

    fn client(&mut self, id: ClientId) -> Option<&mut Client> {
        self.slots
            .get_mut(id.slot)?
            .as_mut()
            .filter(|client| client.serial == id.serial)
    }
}

impl Client {
    /// The last answer of a batch is there: out with it. A batch of notifications has no answer.
    fn close_batch(&mut self) {
        if let Some(mut batch) = self.batch.take().filter(|batch| !batch.is_empty()) {
            batch.extend(b"]\n");
            self.output.append(&mut batch);
        }
    }

    /// Has us be told when there is room to write, or not any more. False if that can't be.
    fn watch_room(&mut self, full: bool, registry: &Registry) -> bool {
        let interest = match full {
            true => Interest::READABLE | Interest::WRITABLE,
            false => Interest::READABLE,
        };
        let is_change = std::mem::replace(&mut self.full, full) != full;
        !is_change
            || registry
                .reregister(&mut self.stream, self.token, interest)
                .is_ok()
    }

    /// Gives back what was written, when that is worth it: one who is told things without end may
    /// never have been told all.
    fn give_back(&mut self) {
        if self.written > OUTPUT_PAUSE_BYTES {
            self.output.drain(..self.written);
            self.written = 0;
        }
    }

    /// Nothing more will come, and nothing is owed.
    fn is_done(&self) -> bool {
        self.ended && !self.waiting && self.rest.is_empty() && self.frames.pending() == 0
    }
}
