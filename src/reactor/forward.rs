//! The output of a container: what its services write goes to its own output, whole lines, and
//! nothing is lost. While nobody reads there, the services' pipes are not read either.

use std::io;
use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Interest, Registry};

use super::place::Place;
use crate::sys::outlet::Outlet;
use crate::sys::output::Stream;

/// Bytes that may wait for a reader before no further output is taken on.
const WAITING_BYTES: usize = 256 << 10;

/// Standard output and standard error of the container.
#[derive(Debug)]
pub(super) struct Forward {
    outs: [Out; 2],
    prefix: bool,
}

#[derive(Debug)]
struct Out {
    outlet: Outlet,
    waiting: Vec<u8>,
    written: usize,
    /// The pipe whose line is not at its end yet.
    within: Option<usize>,
    /// Nobody will ever read it again.
    gone: bool,
}

impl Forward {
    /// To 1 and 2, which are asked to tell when they can be written to.
    pub(super) fn new(prefix: bool, registry: &Registry) -> Self {
        let outs = [1, 2].map(|number| Out {
            outlet: Outlet::standard(number),
            waiting: Vec::new(),
            written: 0,
            within: None,
            gone: false,
        });
        for (number, out) in outs.iter().enumerate() {
            // A file is always ready and can't be watched; two descriptors of one pipe can.
            let _ = registry.register(
                &mut SourceFd(&out.outlet.as_raw_fd()),
                Place::Output(number).token(),
                Interest::WRITABLE,
            );
        }
        Self { outs, prefix }
    }

    /// Takes on a line, or a piece of one, that came over the pipe at this place.
    pub(super) fn push(
        &mut self,
        stream: Stream,
        slot: usize,
        name: &str,
        piece: &[u8],
        ends: bool,
    ) {
        let out = match stream {
            Stream::Stdout => &mut self.outs[0],
            Stream::Stderr | Stream::Syslog => &mut self.outs[1],
        };
        if out.gone {
            return;
        }
        if out.within.is_some_and(|other| other != slot) {
            out.waiting.push(b'\n');
            out.within = None;
        }
        if self.prefix && out.within.is_none() {
            out.waiting.extend_from_slice(name.as_bytes());
            out.waiting.extend_from_slice(b" | ");
        }
        out.waiting.extend_from_slice(piece);
        out.within = (!ends).then_some(slot);
        if ends {
            out.waiting.push(b'\n');
        }
    }

    /// Writes what is taken right now.
    pub(super) fn flush(&mut self) {
        self.outs.iter_mut().for_each(Out::flush);
    }

    /// Does so much wait that no more is to be taken on?
    pub(super) fn is_full(&self) -> bool {
        self.outs.iter().any(|out| out.left() > WAITING_BYTES)
    }

    /// Does anything wait?
    pub(super) fn is_waiting(&self) -> bool {
        self.outs.iter().any(|out| out.left() > 0)
    }
}

impl Out {
    fn left(&self) -> usize {
        self.waiting.len() - self.written
    }

    fn flush(&mut self) {
        while self.left() > 0 {
            match self.outlet.write(&self.waiting[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.shift(),
                Err(_) => {
                    // A closed pipe is no reason to stop; its services run on unheard.
                    self.gone = true;
                    break;
                }
            }
        }
        self.waiting = Vec::new();
        self.written = 0;
    }

    /// Gives back what was written, when that is worth it.
    fn shift(&mut self) {
        if self.written > WAITING_BYTES {
            self.waiting.drain(..self.written);
            self.written = 0;
        }
    }
}
