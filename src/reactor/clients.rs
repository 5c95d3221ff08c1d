//! Connections: bytes in, one request at a time, answers out in order. Each has its share of a
//! turn, and a bound on what it may leave lying about.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};

use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use serde_json::Value;

use crate::rpc::{Code, Frames, Incoming, Line, MAX_LINE_BYTES, Refusal, Request, parse, reply};
use crate::sys::peer::Peer;

/// Connections at once. With all in use, one makes room.
const MOST_CLIENTS: usize = 256;

/// The same of a server that may hardly have any descriptors.
const LEAST_CLIENTS: usize = 8;

/// Bytes of answers that may wait to be read before no further request is taken.
const OUTPUT_PAUSE_BYTES: usize = 256 << 10;

/// Bytes of answers to one batch; what is asked beyond them is not done.
const BATCH_BYTES: usize = 8 << 20;

/// Who keeps more bytes than that waiting has to go when memory is short.
const LARGE_BYTES: usize = 64 << 10;

/// Bytes read from one client in one turn.
const READ_BYTES: usize = 16 << 10;

/// Who asks: a place in the table, and who is there now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ClientId {
    slot: usize,
    serial: u64,
}

/// All connections.
#[derive(Debug)]
pub(super) struct Clients {
    /// How many there may be.
    most: usize,
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
    /// It has sent something that is a request.
    has_asked: bool,
    peer: Peer,
}

impl Clients {
    /// None yet. Of the descriptors that the server may have, three in four are not for clients.
    #[must_use]
    pub(super) fn new(descriptors: u64) -> Self {
        let quarter = usize::try_from(descriptors / 4).unwrap_or(MOST_CLIENTS);
        Self {
            most: quarter.clamp(LEAST_CLIENTS, MOST_CLIENTS),
            slots: Vec::new(),
            serial: 0,
            busy: Vec::new(),
            moment: 0,
        }
    }

    /// So many may be taken on in one turn: each of them is heard before it may have to go.
    #[must_use]
    pub(super) const fn a_turn(&self) -> usize {
        self.most / 4
    }

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
        let evicted = if self.slots.iter().flatten().count() >= self.most {
            self.evict()
        } else {
            None
        };
        let slot = match self.slots.iter().position(Option::is_none) {
            Some(slot) => slot,
            None if self.slots.len() < self.most => {
                self.slots.push(None);
                self.slots.len() - 1
            }
            None => return Err(io::ErrorKind::ResourceBusy.into()),
        };
        registry.register(
            &mut stream,
            token(slot),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        let peer = Peer::of(&stream)?;
        self.serial += 1;
        self.moment += 1;
        self.slots[slot] = Some(Client {
            serial: self.serial,
            stream,
            frames: Frames::default(),
            readable: true,
            ended: false,
            waiting: false,
            rest: VecDeque::new(),
            batch: None,
            output: Vec::new(),
            written: 0,
            heard: self.moment,
            has_asked: false,
            peer,
        });
        self.busy.push(ClientId {
            slot,
            serial: self.serial,
        });
        Ok(evicted)
    }

    /// Drops the client that was heard of longest ago: of a process that has more than a quarter of
    /// all, if there is one; then of those that have never asked anything, or do not read what they
    /// are told, from the process that has most of them; one whose request is being worked on only
    /// if there is no other.
    pub(super) fn evict(&mut self) -> Option<ClientId> {
        let mut counts = BTreeMap::new();
        for client in self.slots.iter().flatten() {
            let (all, useless) = counts.entry(client.peer.pid).or_insert((0_usize, 0_usize));
            *all += 1;
            *useless += usize::from(!client.is_of_use());
        }
        let worth = |client: &Client| {
            let (all, useless) = counts.get(&client.peer.pid).copied().unwrap_or_default();
            let is_crowd = all > self.most / 4;
            let rank = (client.is_of_use(), Reverse(useless));
            (!is_crowd, client.waiting, rank, client.heard)
        };
        let all = self.slots.iter().enumerate();
        let all = all.filter_map(|(slot, client)| Some((slot, worth(client.as_ref()?))));
        let (slot, _) = all.min_by_key(|(_, worth)| *worth)?;
        let client = self.slots[slot].take()?;
        Some(ClientId {
            slot,
            serial: client.serial,
        })
    }

    /// Those for whom much is kept in memory.
    pub(super) fn large(&mut self) -> Vec<ClientId> {
        let is_large = |id: &ClientId| {
            let client = self.slots[id.slot].as_ref();
            client.is_some_and(|client| {
                let rest: usize = client.batch.as_ref().map_or(0, Vec::len);
                client.output.len() + client.frames.pending() + rest > LARGE_BYTES
            })
        };
        self.all().into_iter().filter(is_large).collect()
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
        let request = match line {
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
        };
        client.has_asked |= matches!(request, Some(Ok(_)));
        request
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
    pub(super) fn write(&mut self, id: ClientId) -> bool {
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
                    return true;
                }
                Err(_) => return false,
            }
        }
        client.output = Vec::new();
        client.written = 0;
        !client.is_done()
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

    /// Gives back what was written, when that is worth it: one who is told things without end may
    /// never have been told all.
    fn give_back(&mut self) {
        if self.written > OUTPUT_PAUSE_BYTES {
            self.output.drain(..self.written);
            self.written = 0;
        }
    }

    /// It has asked for something, and reads what it is told.
    fn is_of_use(&self) -> bool {
        self.has_asked && self.output.is_empty()
    }

    /// Nothing more will come, and nothing is owed.
    fn is_done(&self) -> bool {
        self.ended && !self.waiting && self.rest.is_empty() && self.frames.pending() == 0
    }
}
