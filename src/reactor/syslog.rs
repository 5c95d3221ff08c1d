//! `/dev/log`, as long as nobody else takes it: what programs send there by `syslog(3)` is a line of
//! the service whose process sent it or, if that can't be told, whose name its tag is.

use std::os::fd::AsRawFd;
use std::path::Path;
use std::rc::Rc;

use mio::unix::SourceFd;
use mio::{Interest, Registry};

use super::Reactor;
use super::place::Place;
use super::sinks;
use crate::config::syslog_line;
use crate::sys::clock;
use crate::sys::notify::{Datagram, Datagrams};
use crate::sys::output::Stream;

/// Where programs send their lines (`syslog(3)`).
const PATH: &str = "/dev/log";

/// Lines in one turn.
const LINES_A_TURN: usize = 256;

/// Takes the place, unless a logger is there.
pub(super) fn listen(registry: &Registry) -> Option<Datagrams> {
    let taken = std::os::unix::net::UnixDatagram::unbound()
        .and_then(|socket| socket.connect(PATH))
        .is_ok();
    if taken || !Path::new("/dev").is_dir() {
        return None;
    }
    let socket = Datagrams::at(PATH);
    let socket = socket
        .map_err(|error| log::debug!("{PATH}: {error}"))
        .ok()?;
    let token = Place::Syslog.token();
    let number = socket.as_raw_fd();
    registry
        .register(&mut SourceFd(&number), token, Interest::READABLE)
        .ok()?;
    Some(socket)
}

impl Reactor {
    /// Gives the place up.
    pub(super) fn leave_syslog(&mut self) {
        if self.syslog.take().is_some() {
            let _ = std::fs::remove_file(PATH);
        }
    }

    /// Takes what has come. Says whether more may be there.
    pub(super) fn take_syslog(&mut self) -> bool {
        let Some(socket) = &self.syslog else {
            return false;
        };
        let taken: Vec<Datagram> = std::iter::from_fn(|| socket.take())
            .take(LINES_A_TURN)
            .collect();
        let more = taken.len() == LINES_A_TURN;
        if !taken.is_empty() {
            self.families.stale();
        }
        for datagram in taken {
            self.log_datagram(&datagram);
        }
        more
    }

    fn log_datagram(&mut self, datagram: &Datagram) {
        // What is sent on to a syslog that is ours would come back for ever.
        let own = std::process::id();
        if datagram
            .pid
            .is_some_and(|pid| pid.number().unsigned_abs() == own)
        {
            return;
        }
        let text = String::from_utf8_lossy(&datagram.text);
        let line = syslog_line(&text);
        let owner = datagram
            .pid
            .and_then(|pid| self.families.owner(&self.supervisor, pid));
        let service = owner.or_else(|| self.supervisor.find(line.tag));
        let at_ms = clock::unix_ms();
        let stream = Stream::Syslog;
        let head = sinks::head(at_ms, stream);
        let name = service.map_or_else(|| Rc::from(""), |service| self.name(service));
        let source = sinks::Source {
            name: &name,
            stream,
            at_ms,
            slot: None,
            head: &head,
        };
        // One line, whatever is in it.
        let text = line.text.replace(['\n', '\r'], " ");
        self.runs.log_line(service, &source, text.as_bytes());
    }
}
