//! Connections through proxies: a client, a backend, and bytes both ways. Nothing of them is held
//! here but what is on its way through a pipe; each has its share of a turn.

use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Interest, Registry};

use super::place::Place;
use crate::engine::Time;
use crate::sys::splice::{Moved, PIPE_BYTES, Pipe};
use crate::sys::stream;

/// Connections of all proxies together, where there are descriptors for as many.
const MOST_LINKS: usize = 16_384;

/// Bytes of one connection, one way, in one turn.
const BYTES_A_TURN: usize = PIPE_BYTES;

/// Empty pipes that are kept for the next one.
const SPARE_PIPES: usize = 64;

/// All of them.
#[derive(Debug)]
pub(super) struct Links {
    registry: Registry,
    /// A link takes two descriptors, and four more while bytes are stuck both ways; services and
    /// clients of the server need some, too.
    most: usize,
    /// Somebody else may have the sockets open too.
    pub(super) is_shared: bool,
    slots: Vec<Option<Link>>,
    free: Vec<usize>,
    pipes: Vec<Pipe>,
    /// Which have more to do than this turn allowed for.
    busy: Vec<usize>,
    /// Which found no pipe, as there are no descriptors.
    starved: Vec<usize>,
    serial: u64,
}

/// A connection of a client to a proxy.
#[derive(Debug)]
struct Link {
    /// The proxy.
    proxy: Rc<str>,
    /// Tells it from others that had its place.
    serial: u64,
    client: OwnedFd,
    backend: Option<OwnedFd>,
    /// The backend has accepted.
    is_open: bool,
    /// When the client has waited long enough.
    until: Time,
    up: Flow,
    down: Flow,
}

/// One way.
#[derive(Debug, Default)]
struct Flow {
    pipe: Option<Pipe>,
    readable: bool,
    writable: bool,
    /// The sender has ended.
    ended: bool,
    /// The receiver knows.
    told: bool,
    /// The kernel tells when the receiver has room again.
    awaits_room: bool,
    /// The receiver takes nothing any more; what still comes for it is thrown away.
    broken: bool,
    moved: u64,
}

/// Which link: its place, and who is there now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkId {
    slot: usize,
    serial: u64,
}

/// What a link came to.
#[derive(Debug)]
pub(super) enum News {
    /// Its backend has accepted.
    Opened(LinkId),
    /// Its backend has not, for now.
    Refused(LinkId, std::io::Error),
    /// It is over.
    Over(LinkId),
}

/// What a flow's share of a turn left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Share {
    /// Nothing.
    Done,
    /// More, for the next turn.
    More,
    /// It could not begin: there is no descriptor for a pipe.
    Starved,
}

/// Puts an empty pipe by for the next one who needs one; one that holds something is of no use.
fn put_by(pipe: Option<Pipe>, spare: &mut Vec<Pipe>) {
    let has_room = spare.len() < SPARE_PIPES;
    spare.extend(pipe.filter(|pipe| has_room && pipe.is_empty()));
}

impl Links {
    /// None yet, where the server may have so many descriptors.
    pub(super) fn new(registry: Registry, descriptors: u64) -> Self {
        let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
        Self {
            registry,
            most: (descriptors / 8).clamp(2, MOST_LINKS),
            is_shared: false,
            slots: Vec::new(),
            free: Vec::new(),
            pipes: Vec::new(),
            busy: Vec::new(),
            starved: Vec::new(),
            serial: 0,
        }
    }

    /// Is there room for another one?
    #[must_use]
    pub(super) fn has_room(&self) -> bool {
        self.slots.len() - self.free.len() < self.most
    }

    /// How many there may be.
    #[must_use]
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Takes on a client that waits for its backend.
    ///
    /// # Errors
    /// If it can't be polled.
    pub(super) fn add(
        &mut self,
        proxy: &Rc<str>,
        client: OwnedFd,
        until: Time,
    ) -> std::io::Result<LinkId> {
        stream::send_at_once(&client);
        let slot = self.free.pop().unwrap_or(self.slots.len());
        if slot == self.slots.len() {
            self.slots.push(None);
        }
        if let Err(error) = register(&client, slot * 2, false, &self.registry) {
            self.free.push(slot);
            return Err(error);
        }
        self.serial += 1;
        self.slots[slot] = Some(Link {
            proxy: Rc::clone(proxy),
            serial: self.serial,
            client,
            backend: None,
            is_open: false,
            until,
            // Who connects has something to say, as a rule, and takes an answer.
            up: Flow {
                readable: true,
                ..Flow::default()
            },
            down: Flow {
                writable: true,
                ..Flow::default()
            },
        });
        let serial = self.serial;
        Ok(LinkId { slot, serial })
    }

    /// Gives it the connection to its backend that was begun. Says whether the backend has accepted
    /// already.
    ///
    /// # Errors
    /// If it can't be polled.
    pub(super) fn connect(&mut self, id: LinkId, backend: OwnedFd) -> std::io::Result<bool> {
        stream::send_at_once(&backend);
        let is_open = stream::is_connected(&backend);
        register(&backend, id.slot * 2 + 1, !is_open, &self.registry)?;
        if let Some(link) = self.at(id) {
            link.backend = Some(backend);
            link.is_open = is_open;
            (link.up.writable, link.up.awaits_room) = (is_open, !is_open);
            self.busy.extend(Some(id.slot).filter(|_| is_open));
        }
        Ok(is_open)
    }

    /// Something has happened to one side of a link.
    pub(super) fn ready(&mut self, place: usize, event: &Event) -> Option<News> {
        let (slot, is_backend) = (place / 2, place % 2 == 1);
        let link = self.slots.get_mut(slot)?.as_mut()?;
        let id = LinkId {
            slot,
            serial: link.serial,
        };
        let (from, to) = match is_backend {
            false => (&mut link.up, &mut link.down),
            true => (&mut link.down, &mut link.up),
        };
        from.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        to.writable |= event.is_writable() || event.is_error();
        if link.is_open {
            return self.go_on(slot);
        }
        let is_gone = event.is_read_closed() && event.is_write_closed();
        if !is_backend {
            return is_gone.then_some(News::Over(id));
        }
        let backend = link.backend.as_ref()?;
        if let Err(error) = stream::check(backend) {
            let refused = link.backend.take();
            (link.up.writable, link.down.readable) = (false, false);
            self.part(refused);
            return Some(News::Refused(id, error));
        }
        if event.is_writable() {
            link.is_open = true;
            self.busy.push(slot);
            return Some(News::Opened(id));
        }
        None
    }

    /// Moves what can be moved.
    fn go_on(&mut self, slot: usize) -> Option<News> {
        let link = self.slots[slot].as_mut()?;
        let id = LinkId {
            slot,
            serial: link.serial,
        };
        let backend = link.backend.as_ref()?;
        let up = link.up.run(&link.client, backend, &mut self.pipes);
        let down = link.down.run(backend, &link.client, &mut self.pipes);
        let sides = [(slot * 2 + 1, backend), (slot * 2, &link.client)];
        for (flow, (place, to)) in [&mut link.up, &mut link.down].into_iter().zip(sides) {
            // Only who has been full once is asked about room: others wake nobody for it.
            if !flow.writable && !flow.awaits_room {
                flow.awaits_room = await_room(to, place, &self.registry).is_ok();
            }
        }
        match (up, down) {
            (Ok(more_up), Ok(more_down)) => {
                if link.up.told && link.down.told {
                    return Some(News::Over(id));
                }
                if [more_up, more_down].contains(&Share::Starved) {
                    self.starved.push(slot);
                } else if [more_up, more_down].contains(&Share::More) {
                    self.busy.push(slot);
                }
                if !self.starved.is_empty() && !self.pipes.is_empty() {
                    self.feed();
                }
                None
            }
            (Err(()), _) | (_, Err(())) => Some(News::Over(id)),
        }
    }

    /// Goes on with those that had more to do.
    pub(super) fn take_busy(&mut self) -> Vec<News> {
        let mut busy = std::mem::take(&mut self.busy);
        busy.sort_unstable();
        busy.dedup();
        let each = busy.into_iter();
        each.filter_map(|slot| self.go_on(slot)).collect()
    }

    /// Those that found no pipe try again.
    pub(super) fn feed(&mut self) {
        self.busy.append(&mut self.starved);
    }

    /// Are there any?
    #[must_use]
    pub(super) fn is_starved(&self) -> bool {
        !self.starved.is_empty()
    }

    /// Is there one?
    #[must_use]
    pub(super) fn is_busy(&self) -> bool {
        !self.busy.is_empty()
    }

    /// Lets one go. Gives how many bytes went to the backend and came from it.
    pub(super) fn remove(&mut self, id: LinkId) -> Option<[u64; 2]> {
        self.at(id)?;
        let link = self.slots[id.slot].take()?;
        self.free.push(id.slot);
        let moved = [link.up.moved, link.down.moved];
        // What is left unread when a socket is closed takes what was sent last with it (`tcp(7)`).
        if link.up.broken || !link.is_open {
            stream::discard(&link.client, BYTES_A_TURN);
        }
        self.part(link.backend);
        self.part(Some(link.client));
        Some(moved)
    }

    /// Lets a socket go. A child on its way to its program may have it open still, so that closing
    /// it would neither tell the other side nor end the events of it.
    fn part(&self, socket: Option<OwnedFd>) {
        if let Some(socket) = socket.filter(|_| self.is_shared) {
            let number = socket.as_raw_fd();
            let _ = self.registry.deregister(&mut SourceFd(&number));
            stream::end_both(&socket);
        }
    }

    /// Bytes that went to the backend and came from it so far.
    #[must_use]
    pub(super) fn moved(&self, proxy: &str) -> [u64; 2] {
        let links = self.slots.iter().flatten();
        let of = links.filter(|link| &*link.proxy == proxy);
        of.fold([0, 0], |[up, down], link| {
            [up + link.up.moved, down + link.down.moved]
        })
    }

    /// Whose it is.
    pub(super) fn proxy_of(&mut self, id: LinkId) -> Option<Rc<str>> {
        Some(Rc::clone(&self.at(id)?.proxy))
    }

    /// All of a proxy.
    #[must_use]
    pub(super) fn of(&self, proxy: &str) -> Vec<LinkId> {
        let links = self.slots.iter().enumerate();
        let links = links.filter_map(|(slot, link)| Some((slot, link.as_ref()?)));
        let of = links.filter(|(_, link)| &*link.proxy == proxy);
        of.map(|(slot, link)| LinkId {
            slot,
            serial: link.serial,
        })
        .collect()
    }

    /// Until when a client waits that is not served yet.
    pub(super) fn waits_until(&mut self, id: LinkId) -> Option<Time> {
        let link = self.at(id).filter(|link| !link.is_open)?;
        Some(link.until)
    }

    fn at(&mut self, id: LinkId) -> Option<&mut Link> {
        let link = self.slots.get_mut(id.slot)?.as_mut();
        link.filter(|link| link.serial == id.serial)
    }
}

fn register(
    socket: &OwnedFd,
    place: usize,
    awaits_room: bool,
    registry: &Registry,
) -> std::io::Result<()> {
    let token = Place::Link(place).token();
    let interest = if awaits_room {
        Interest::READABLE | Interest::WRITABLE
    } else {
        Interest::READABLE
    };
    registry.register(&mut SourceFd(&socket.as_raw_fd()), token, interest)
}

fn await_room(socket: &OwnedFd, place: usize, registry: &Registry) -> std::io::Result<()> {
    let token = Place::Link(place).token();
    let both = Interest::READABLE | Interest::WRITABLE;
    registry.reregister(&mut SourceFd(&socket.as_raw_fd()), token, both)
}

impl Flow {
    /// Moves its share.
    ///
    /// # Errors
    /// If the connection is broken.
    fn run(&mut self, from: &OwnedFd, to: &OwnedFd, spare: &mut Vec<Pipe>) -> Result<Share, ()> {
        let mut left = BYTES_A_TURN;
        loop {
            if self.broken {
                // The other way may have things to say all the same.
                if self.readable {
                    self.readable = stream::discard(from, BYTES_A_TURN);
                }
                return Ok(if self.readable {
                    Share::More
                } else {
                    Share::Done
                });
            }
            if self.pipe.as_ref().is_none_or(Pipe::is_empty) {
                if self.ended || !self.readable {
                    break;
                }
                if left == 0 {
                    return Ok(Share::More);
                }
                if self.pipe.is_none() {
                    self.pipe = spare.pop().or_else(|| Pipe::new().ok());
                }
                let Some(pipe) = &mut self.pipe else {
                    return Ok(Share::Starved);
                };
                match pipe.fill(from) {
                    Moved::Bytes(count) => left = left.saturating_sub(count),
                    Moved::Nothing => self.readable = false,
                    Moved::End => self.ended = true,
                    Moved::Broken => return Err(()),
                }
            } else if let Some(pipe) = self.pipe.as_mut().filter(|_| self.writable) {
                match pipe.drain(to) {
                    Moved::Bytes(count) => self.moved += count as u64,
                    Moved::Nothing => self.writable = false,
                    Moved::End | Moved::Broken => {
                        (self.broken, self.ended, self.told) = (true, true, true);
                        self.pipe = None;
                    }
                }
            } else {
                return Ok(Share::Done);
            }
        }
        // A pipe is two descriptors, and who is silent needs none.
        put_by(self.pipe.take(), spare);
        if self.ended && !self.told {
            stream::end(to);
            self.told = true;
        }
        Ok(Share::Done)
    }
}
