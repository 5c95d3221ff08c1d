//! Connections, each with its share of a turn. What goes over one is an [`Exchange`].

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::Shutdown;

use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use serde_json::Value;

use crate::rpc::{Exchange, Refusal, Request};
use crate::sys::peer::Peer;

/// Connections at once. With all in use, one makes room.
const MOST_CLIENTS: usize = 256;

/// The same of a server that may hardly have any descriptors.
const LEAST_CLIENTS: usize = 8;

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
    exchange: Exchange,
    token: Token,
    /// It takes no more for now, and we are told when it does. Else we are not: a follower that
    /// reads would wake us up each time.
    full: bool,
    /// The descriptor may hold more.
    readable: bool,
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
        let token = token(slot);
        registry.register(&mut stream, token, Interest::READABLE)?;
        let peer = Peer::of(&stream)?;
        self.serial += 1;
        self.moment += 1;
        self.slots[slot] = Some(Client {
            serial: self.serial,
            stream,
            exchange: Exchange::default(),
            token,
            full: false,
            readable: true,
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
            // Whoever hears no answers goes before all who do.
            let listens = !client.exchange.is_deaf();
            (
                listens,
                !is_crowd,
                client.exchange.is_waiting(),
                rank,
                client.heard,
            )
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
            client.is_some_and(|client| client.exchange.held_bytes() > LARGE_BYTES)
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
        let request = client.exchange.next_request()?;
        client.heard = moment;
        client.has_asked |= request.is_ok();
        self.moment = moment;
        Some(request)
    }

    /// Reads what has come. False if nobody is there.
    pub(super) fn read(&mut self, id: ClientId) -> bool {
        let Some(client) = self.client(id) else {
            return false;
        };
        let mut buffer = [0; READ_BYTES];
        if !client.readable || !client.exchange.wants_bytes() {
            return true;
        }
        match client.stream.read(&mut buffer) {
            Ok(0) => client.exchange.end(),
            Ok(count) => client.exchange.push(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => client.readable = false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => client.exchange.end(),
        }
        true
    }

    /// The request at hand will be answered later.
    pub(super) fn wait(&mut self, id: ClientId) {
        if let Some(client) = self.client(id) {
            client.exchange.wait();
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
        client.exchange.answer(request, answer);
        self.come_back(id);
    }

    /// Tells a client something it did not ask for just now, unless too much waits for it already.
    /// Says whether it is told.
    pub(super) fn tell(&mut self, id: ClientId, bytes: &[u8], anyhow: bool) -> bool {
        let Some(client) = self.client(id) else {
            return false;
        };
        if !anyhow && !client.exchange.has_room() {
            return false;
        }
        client.exchange.tell(bytes);
        self.come_back(id);
        true
    }

    /// May a client be told more than it has read so far?
    pub(super) fn has_room(&mut self, id: ClientId) -> bool {
        self.client(id)
            .is_some_and(|client| client.exchange.has_room())
    }

    /// Is this request one of several that came as one?
    pub(super) fn is_batch(&mut self, id: ClientId) -> bool {
        self.client(id)
            .is_some_and(|client| client.exchange.is_batch())
    }

    /// Writes what can be written. False if nobody is there, or there is nothing left to do.
    pub(super) fn write(&mut self, id: ClientId, registry: &Registry) -> bool {
        let Some(client) = self.client(id) else {
            return false;
        };
        client.exchange.settle();
        while let Some(bytes) = client.exchange.output() {
            match client.stream.write(bytes) {
                Ok(0) => client.deafen(),
                Ok(count) => client.exchange.wrote(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    client.exchange.give_back();
                    return client.watch_room(true, registry);
                }
                Err(_) => client.deafen(),
            }
        }
        client.watch_room(false, registry) && !client.exchange.is_done()
    }

    /// Does this client read no more?
    pub(super) fn is_deaf(&mut self, id: ClientId) -> bool {
        self.client(id)
            .is_some_and(|client| client.exchange.is_deaf())
    }

    /// Has this client something to do right away?
    pub(super) fn is_runnable(&mut self, id: ClientId) -> bool {
        self.client(id)
            .is_some_and(|client| client.exchange.is_runnable(client.readable))
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
    /// It has asked for something, and reads what it is told.
    fn is_of_use(&self) -> bool {
        self.has_asked && !self.exchange.is_owed()
    }

    /// It can't be told anything any more. If it is there after all, it has to know.
    fn deafen(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        self.exchange.deafen();
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
}
