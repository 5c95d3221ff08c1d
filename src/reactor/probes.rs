//! Probes that are connections: made, asked and read without ever waiting. A name is looked up by
//! a child that does nothing else, and what it found is used until a connection fails.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::time::Instant;

use mio::net::{TcpStream, UnixStream};
use mio::unix::SourceFd;
use mio::{Interest, Registry};

use super::place::Place;
use crate::config::{Address, Url, http_status};
use crate::engine::spec::{Expect, Probe};
use crate::engine::{ErrandId, Pid, ServiceId};
use crate::sys::kill;
use crate::sys::pipe::{self, Input, Reader};
use crate::sys::process;

/// As much of an answer as its first line may have.
const ANSWER_BYTES: usize = 2048;

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// Connections that probe services.
#[derive(Debug, Default)]
pub(super) struct Probes {
    slots: Vec<Option<Out>>,
    free: Vec<usize>,
    /// What names were found to be.
    known: BTreeMap<String, Vec<SocketAddr>>,
}

/// What came of one.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) service: ServiceId,
    pub(super) errand: ErrandId,
    pub(super) latency_ms: u64,
    pub(super) error: Option<String>,
}

#[derive(Debug)]
struct Out {
    service: ServiceId,
    errand: ErrandId,
    since: Instant,
    stage: Stage,
    /// Addresses that are still to be tried.
    rest: VecDeque<SocketAddr>,
    /// The name they are of.
    name: Option<String>,
    ask: Option<Ask>,
}

#[derive(Debug)]
enum Stage {
    /// A child looks the name up.
    Lookup(Pid, Reader),
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What is asked once there is a connection.
#[derive(Debug)]
struct Ask {
    request: Vec<u8>,
    written: usize,
    answer: Vec<u8>,
    expect: Expect,
}

/// What a step brought.
enum Progress {
    /// Its end.
    Over(Result<(), String>),
    /// Something is still to come.
    Waits,
}

impl Probes {
    /// Sends one out. A verdict, if there is one at once.
    pub(super) fn send(
        &mut self,
        service: ServiceId,
        errand: ErrandId,
        probe: &Probe,
        registry: &Registry,
    ) -> Option<Verdict> {
        let since = Instant::now();
        let verdict = |error: String| Verdict {
            service,
            errand,
            latency_ms: 0,
            error: Some(error),
        };
        let (address, ask) = match probe {
            Probe::Tcp(target) => (Address::parse(target), None),
            Probe::Http { url, expect } => match Url::parse(url) {
                None => (None, None),
                Some(url) => {
                    let ask = Ask {
                        request: url.request().into_bytes(),
                        written: 0,
                        answer: Vec::new(),
                        expect: expect.clone(),
                    };
                    (
                        Some(url.address.clone()),
                        Some(ask).filter(|_| !url.encrypted),
                    )
                }
            },
            Probe::Exec(_) => return None,
        };
        let Some(address) = address else {
            return Some(verdict(
                "the target is not one that can be asked".to_owned(),
            ));
        };
        let mut rest = VecDeque::new();
        let mut name = None;
        let stage = match address {
            Address::Unix(path) => UnixStream::connect(path).map(Stage::Unix),
            Address::Ip(address) => TcpStream::connect(address).map(Stage::Tcp),
            Address::Name(host, port) => {
                let text = format!("{host}:{port}");
                let known = self.known.get(&text).cloned().unwrap_or_default();
                rest.extend(known);
                name = Some(text.clone());
                match rest.pop_front() {
                    Some(first) => TcpStream::connect(first).map(Stage::Tcp),
                    None => look_up(text),
                }
            }
        };
        let out = match stage {
            Err(error) => return Some(verdict(describe(&error))),
            Ok(stage) => Out {
                service,
                errand,
                since,
                stage,
                rest,
                name,
                ask,
            },
        };
        let slot = self.free.pop().unwrap_or(self.slots.len());
        if slot == self.slots.len() {
            self.slots.push(None);
        }
        let registered = out.register(slot, registry);
        self.slots[slot] = Some(out);
        if let Err(error) = registered {
            self.drop(slot);
            return Some(verdict(describe(&error)));
        }
        None
    }

    /// Something has happened to one of them.
    pub(super) fn ready(&mut self, slot: usize, registry: &Registry) -> Option<Verdict> {
        let out = self.slots.get_mut(slot)?.as_mut()?;
        let (mut progress, looked_up) = match &mut out.stage {
            Stage::Lookup(_, reader) => match read_addresses(reader) {
                None => (Progress::Waits, None),
                Some(found) if found.is_empty() => {
                    let text = "the name has no address".to_owned();
                    (Progress::Over(Err(text)), None)
                }
                Some(found) => (Progress::Waits, Some(found)),
            },
            Stage::Tcp(stream) => (step(&mut &*stream, tcp_state(stream), &mut out.ask), None),
            Stage::Unix(stream) => {
                let state = stream.take_error().map(|error| error.map_or(Ok(true), Err));
                (
                    step(&mut &*stream, state.and_then(|state| state), &mut out.ask),
                    None,
                )
            }
        };
        if let Some(found) = looked_up {
            out.rest.extend(&found);
            if let Some(name) = &out.name {
                self.known.insert(name.clone(), found);
            }
            progress = Progress::Over(Err(String::new()));
        }
        // Another address of the same name may do better.
        while let Progress::Over(Err(_)) = &progress
            && let Some(next) = out.rest.pop_front()
        {
            match TcpStream::connect(next) {
                Ok(stream) => {
                    out.stage = Stage::Tcp(stream);
                    if let Some(ask) = &mut out.ask {
                        (ask.written, ask.answer) = (0, Vec::new());
                    }
                    match out.register(slot, registry) {
                        Ok(()) => return None,
                        Err(error) => progress = Progress::Over(Err(describe(&error))),
                    }
                }
                Err(error) => progress = Progress::Over(Err(describe(&error))),
            }
        }
        let Progress::Over(result) = progress else {
            return None;
        };
        if let (Err(_), Some(name)) = (&result, &out.name) {
            // It may be somewhere else now.
            self.known.remove(name);
        }
        let took = out.since.elapsed().as_millis();
        let verdict = Verdict {
            service: out.service,
            errand: out.errand,
            latency_ms: u64::try_from(took).unwrap_or(u64::MAX),
            error: result.err(),
        };
        self.drop(slot);
        Some(verdict)
    }

    /// Lets one go. Says whether it was there.
    pub(super) fn recall(&mut self, service: ServiceId, errand: ErrandId) -> bool {
        let is_it = |out: &Option<Out>| {
            out.as_ref()
                .is_some_and(|out| (out.service, out.errand) == (service, errand))
        };
        let slot = self.slots.iter().position(is_it);
        if let Some(slot) = slot {
            if let Some(name) = self.slots[slot].as_ref().and_then(|out| out.name.as_ref()) {
                self.known.remove(name);
            }
            self.drop(slot);
        }
        slot.is_some()
    }

    fn drop(&mut self, slot: usize) {
        if let Some(out) = self.slots[slot].take() {
            self.free.push(slot);
            if let Stage::Lookup(pid, ..) = out.stage {
                kill::kill_child(pid, crate::engine::Signal::KILL);
            }
        }
    }
}

impl Out {
    fn register(&self, slot: usize, registry: &Registry) -> io::Result<()> {
        let (number, interest) = match &self.stage {
            Stage::Lookup(_, reader) => (reader.as_raw_fd(), Interest::READABLE),
            Stage::Tcp(stream) => (stream.as_raw_fd(), Interest::READABLE | Interest::WRITABLE),
            Stage::Unix(stream) => (stream.as_raw_fd(), Interest::READABLE | Interest::WRITABLE),
        };
        registry.register(&mut SourceFd(&number), Place::Probe(slot).token(), interest)
    }
}

/// Is there a connection? No: not yet.
fn tcp_state(stream: &TcpStream) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

/// Goes as far with a connection as it goes right now.
fn step(
    stream: &mut (impl Read + Write),
    connected: io::Result<bool>,
    ask: &mut Option<Ask>,
) -> Progress {
    match connected {
        Err(error) => return Progress::Over(Err(describe(&error))),
        Ok(false) => return Progress::Waits,
        Ok(true) => {}
    }
    let Some(ask) = ask else {
        return Progress::Over(Ok(()));
    };
    while ask.written < ask.request.len() {
        match stream.write(&ask.request[ask.written..]) {
            Ok(count) => ask.written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Progress::Waits,
            Err(error) => return Progress::Over(Err(describe(&error))),
        }
    }
    let mut buffer = [0; ANSWER_BYTES];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Progress::Over(Err("the connection was closed".to_owned())),
            Ok(count) => ask.answer.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Progress::Waits,
            Err(error) => return Progress::Over(Err(describe(&error))),
        }
        // What comes after the first line is not read at all.
        match http_status(&ask.answer) {
            Ok(None) => {}
            Ok(Some(status)) if ask.expect.allows(status) => return Progress::Over(Ok(())),
            Ok(Some(status)) => return Progress::Over(Err(format!("HTTP status {status}"))),
            Err(text) => return Progress::Over(Err(text)),
        }
    }
}

/// Has a child find the addresses of a name: that may take as long as it likes.
fn look_up(name: String) -> io::Result<Stage> {
    let (reader, writer) = pipe::pipe()?;
    let server = std::process::id();
    let pid = process::child(|| {
        // It may take as long as it likes, but holds nothing of the server's meanwhile.
        process::die_with(server);
        process::become_helper(&writer, c"zinit-lookup");
        let found = name.to_socket_addrs().into_iter().flatten();
        let text: Vec<String> = found
            .take(ADDRESSES_MAX)
            .map(|address| address.to_string())
            .collect();
        let written = std::fs::File::from(writer).write_all(text.join(" ").as_bytes());
        i32::from(written.is_err())
    })?;
    Ok(Stage::Lookup(pid, reader))
}

/// What it found: none as long as it may still write.
fn read_addresses(reader: &mut Reader) -> Option<Vec<SocketAddr>> {
    // Written at once, as it is shorter than a pipe writes whole (`PIPE_BUF`, pipe(7)).
    let mut buffer = [0; 4096];
    match reader.read(&mut buffer) {
        Input::Nothing => None,
        Input::End => Some(Vec::new()),
        Input::Bytes(count) => {
            let text = String::from_utf8_lossy(&buffer[..count]);
            let words = text.split(' ').filter_map(|word| word.parse().ok());
            Some(words.collect())
        }
    }
}

pub(super) fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}
