//! Output that goes on to elsewhere: a syslog, the kernel's log, the console, the server's own
//! output. What is not taken waits, within a bound; beyond it lines are dropped and counted.

use std::collections::VecDeque;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use serde_json::json;

use crate::config::{Destination, to_syslog};
use crate::engine::spec::Format;
use crate::engine::{Spec, Time};
use crate::sys::clock::Utc;
use crate::sys::machine;
use crate::sys::outlet::Outlet;
use crate::sys::output::Stream;

/// Bytes that may wait for one destination.
const WAITING_BYTES: usize = 64 << 10;

/// Bytes of a line for the kernel's log, beside a name.
const KMSG_BYTES: usize = 640;

/// The pauses before one that takes nothing is tried again: each twice as long as the one before.
const RETRY: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// All destinations.
#[derive(Debug, Default)]
pub(super) struct Ships {
    all: Vec<Ship>,
}

/// Where the lines of a service go, and as what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    place: usize,
    format: Format,
}

/// A line that is to go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cargo<'a> {
    pub(super) name: &'a Rc<str>,
    pub(super) at_ms: u64,
    pub(super) stream: Stream,
    pub(super) line: &'a [u8],
}

#[derive(Debug)]
struct Ship {
    text: String,
    to: Destination,
    link: Option<Link>,
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    lost: u64,
    /// The last line that there was no room for.
    lost_line: Option<LostLine>,
    retry_at: Option<Time>,
    pause: Duration,
}

/// What is known of a line without its text.
#[derive(Debug)]
struct LostLine {
    name: Rc<str>,
    at_ms: u64,
    stream: Stream,
    format: Format,
}

#[derive(Debug)]
enum Link {
    Unix(UnixDatagram),
    Udp(UdpSocket),
    Stream(Outlet),
}

impl Route {
    /// The place of its destination.
    pub(super) const fn place(self) -> usize {
        self.place
    }
}

impl Ships {
    /// The route of a service's output, if it is to go anywhere. Places that nobody uses any more,
    /// and where nothing waits, are used again.
    pub(super) fn of(&mut self, spec: &Spec, is_used: impl Fn(usize) -> bool) -> Option<Route> {
        let text = spec.logging.forward.as_ref()?;
        let format = spec.logging.forward_format;
        let known = self.all.iter().position(|ship| ship.text == *text);
        let place = match known {
            Some(place) => place,
            None => {
                let ship = Ship {
                    text: text.clone(),
                    to: Destination::parse(text)?,
                    link: None,
                    waiting: VecDeque::new(),
                    bytes: 0,
                    lost: 0,
                    lost_line: None,
                    retry_at: None,
                    pause: RETRY,
                };
                let rests = |place: &usize| self.all[*place].waiting.is_empty();
                let free = (0..self.all.len()).find(|place| rests(place) && !is_used(*place));
                let place = free.unwrap_or(self.all.len());
                match free {
                    Some(place) => self.all[place] = ship,
                    None => self.all.push(ship),
                }
                place
            }
        };
        Some(Route { place, format })
    }

    /// Takes on a line.
    pub(super) fn push(&mut self, route: Route, cargo: &Cargo<'_>) {
        let ship = &mut self.all[route.place];
        if ship.bytes + cargo.line.len() > WAITING_BYTES {
            ship.lost += 1;
            ship.lost_line = Some(LostLine {
                name: Rc::clone(cargo.name),
                at_ms: cargo.at_ms,
                stream: cargo.stream,
                format: route.format,
            });
            return;
        }
        if ship.lost > 0 {
            ship.tell_lost(route.format, cargo);
        }
        ship.load(route.format, cargo);
    }

    /// It all comes to an end: what was put off is tried now.
    pub(super) fn hurry(&mut self) {
        self.all.iter_mut().for_each(|ship| ship.retry_at = None);
    }

    /// Does anything wait for somebody who is there and may yet take it?
    pub(super) fn is_waiting(&self) -> bool {
        let may_go = |ship: &Ship| !ship.waiting.is_empty() && ship.link.is_some();
        self.all.iter().any(may_go)
    }

    /// What still waits is lost, and that is said.
    pub(super) fn give_up(&self) {
        for ship in &self.all {
            let lines = ship.lost + u64::try_from(ship.waiting.len()).unwrap_or(u64::MAX);
            if lines > 0 {
                log::warn!("{}: the last {lines} lines are lost", ship.text);
            }
        }
    }

    /// Sends what is taken right now.
    pub(super) fn flush(&mut self, now: Time) {
        for ship in &mut self.all {
            if !ship.waiting.is_empty() && ship.retry_at.is_none_or(|at| at <= now) {
                let before = ship.waiting.len();
                if ship.flush() {
                    (ship.retry_at, ship.pause) = (None, RETRY);
                    continue;
                }
                if ship.waiting.len() < before {
                    ship.pause = RETRY;
                }
                ship.retry_at = Some(now + ship.pause);
                ship.pause = (ship.pause * 2).min(RETRY_MAX);
            }
        }
    }

    /// When to try again.
    pub(super) fn next_look(&self) -> Option<Time> {
        self.all.iter().filter_map(|ship| ship.retry_at).min()
    }
}

impl Ship {
    /// Says how many lines were lost, as a line like this one.
    fn tell_lost(&mut self, format: Format, like: &Cargo<'_>) {
        self.lost_line = None;
        let text = format!("{} lines lost", std::mem::take(&mut self.lost));
        let line = text.as_bytes();
        self.load(format, &Cargo { line, ..*like });
    }

    /// There is room again, and it may be that no further line comes.
    fn tell_lost_in_time(&mut self) {
        if self.bytes > WAITING_BYTES / 2 {
            return;
        }
        if let Some(lost) = self.lost_line.take() {
            let like = Cargo {
                name: &lost.name,
                at_ms: lost.at_ms,
                stream: lost.stream,
                line: b"",
            };
            self.tell_lost(lost.format, &like);
        }
    }

    fn load(&mut self, format: Format, cargo: &Cargo<'_>) {
        // The kernel's log refuses longer lines (`LOG_LINE_MAX`, kernel/printk/printk.c).
        let most = match &self.to {
            Destination::Kmsg => KMSG_BYTES,
            Destination::Unix(_)
            | Destination::Udp(_)
            | Destination::Console
            | Destination::Stdout => usize::MAX,
        };
        let line = &cargo.line[..cargo.line.len().min(most)];
        let text = String::from_utf8_lossy(line);
        let time = Utc::at(cargo.at_ms).to_string();
        let bytes = match (&self.to, format) {
            (Destination::Unix(_) | Destination::Udp(_), _) => {
                let is_error = cargo.stream == Stream::Stderr;
                let host = machine::hostname();
                to_syslog(&time, &host, cargo.name, is_error, &text).into_bytes()
            }
            (Destination::Kmsg | Destination::Console | Destination::Stdout, Format::Raw) => {
                ended(line.to_vec())
            }
            (Destination::Kmsg | Destination::Console | Destination::Stdout, Format::Prefixed) => {
                ended(format!("{} | {text}", cargo.name).into_bytes())
            }
            (Destination::Kmsg | Destination::Console | Destination::Stdout, Format::Json) => {
                let stream = cargo.stream.name();
                let object =
                    json!({"time": time, "service": cargo.name, "stream": stream, "text": text});
                ended(object.to_string().into_bytes())
            }
        };
        self.bytes += bytes.len();
        self.waiting.push_back(bytes);
    }

    /// Says whether nothing is left.
    fn flush(&mut self) -> bool {
        while let Some(front) = self.waiting.front_mut() {
            if self.link.is_none() {
                self.link = connect(&self.to);
            }
            let Some(link) = &self.link else {
                return false;
            };
            let sent = match link {
                Link::Unix(socket) => socket.send(front),
                Link::Udp(socket) => socket.send(front),
                Link::Stream(outlet) => outlet.write(front),
            };
            match sent {
                Ok(count) if count < front.len() && matches!(link, Link::Stream(_)) => {
                    front.drain(..count);
                    self.bytes -= count;
                }
                Ok(_) => {
                    self.bytes -= front.len();
                    self.waiting.pop_front();
                    self.tell_lost_in_time();
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // What nobody will ever take is not tried for ever.
                Err(error) if is_for_good(&error) => {
                    self.bytes -= front.len();
                    self.waiting.pop_front();
                    self.lost += 1;
                }
                Err(error) => {
                    if error.kind() != std::io::ErrorKind::WouldBlock {
                        self.link = None;
                    }
                    return false;
                }
            }
        }
        true
    }
}

/// Is it the line that is wrong?
fn is_for_good(error: &std::io::Error) -> bool {
    let errno = error.raw_os_error();
    matches!(errno, Some(nix::libc::EMSGSIZE | nix::libc::EINVAL))
}

fn connect(to: &Destination) -> Option<Link> {
    match to {
        Destination::Unix(path) => {
            let socket = UnixDatagram::unbound().ok()?;
            socket.set_nonblocking(true).ok()?;
            socket.connect(path).ok()?;
            Some(Link::Unix(socket))
        }
        Destination::Udp(address) => {
            let any = if address.is_ipv6() {
                "[::]:0"
            } else {
                "0.0.0.0:0"
            };
            let socket = UdpSocket::bind(any).ok()?;
            socket.set_nonblocking(true).ok()?;
            socket.connect(address).ok()?;
            Some(Link::Udp(socket))
        }
        Destination::Kmsg => Outlet::open(Path::new("/dev/kmsg")).ok().map(Link::Stream),
        Destination::Console => Outlet::open(Path::new("/dev/console"))
            .ok()
            .map(Link::Stream),
        Destination::Stdout => Some(Link::Stream(Outlet::standard(1))),
    }
}

fn ended(mut line: Vec<u8>) -> Vec<u8> {
    line.push(b'\n');
    line
}
