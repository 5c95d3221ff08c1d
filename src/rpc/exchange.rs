//! What one peer asks and is answered: bytes in, one request at a time, answers out in order, and a
//! bound on what it may leave lying about.

use serde_json::Value;

use super::frame::{Frames, Line, MAX_LINE_BYTES};
use super::wire::{Batch, Code, Incoming, Refusal, Request, parse, reply};

/// Bytes of answers that may wait to be read before no further request is taken.
const OUTPUT_PAUSE_BYTES: usize = 256 << 10;

/// Bytes of answers to one batch; what is asked beyond them is not done.
const BATCH_BYTES: usize = 8 << 20;

/// One connection, without its socket.
#[derive(Debug, Default)]
pub struct Exchange {
    frames: Frames,
    /// The peer sends no more.
    ended: bool,
    /// The peer reads no more: what it asks is done, and not answered.
    deaf: bool,
    /// A request is being worked on; the next one waits.
    waiting: bool,
    rest: Rest,
    /// Answers of a batch, if it is one.
    batch: Option<Vec<u8>>,
    output: Vec<u8>,
    written: usize,
}

/// Requests of a batch that were not taken yet.
#[derive(Debug)]
enum Rest {
    Each(Batch),
    /// They are refused as one, as the answers to those before are too long.
    TooLong,
}

impl Default for Rest {
    fn default() -> Self {
        Self::Each(Batch::default())
    }
}

impl Rest {
    fn is_empty(&self) -> bool {
        match self {
            Self::Each(batch) => batch.is_empty(),
            Self::TooLong => false,
        }
    }

    fn held_bytes(&self) -> usize {
        match self {
            Self::Each(batch) => batch.held_bytes(),
            Self::TooLong => 0,
        }
    }

    fn next(&mut self) -> Option<Result<Request, Refusal>> {
        match self {
            Self::Each(batch) => batch.next(),
            Self::TooLong => {
                *self = Self::default();
                let text = format!("the answers to a batch are longer than {BATCH_BYTES} bytes");
                Some(Err(Refusal::new(Code::Internal, text)))
            }
        }
    }
}

impl Exchange {
    /// May more of what the peer sends be taken in?
    #[must_use]
    pub fn wants_bytes(&self) -> bool {
        let wants = !self.ended && !self.waiting && self.rest.is_empty();
        wants && self.frames.pending() <= MAX_LINE_BYTES
    }

    /// Takes in what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.frames.push(bytes);
    }

    /// The peer sends no more.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// The peer reads no more. What it has asked for is done all the same.
    pub fn deafen(&mut self) {
        self.deaf = true;
        self.output = Vec::new();
        self.written = 0;
        self.batch = None;
    }

    /// Does the peer read no more?
    #[must_use]
    pub fn is_deaf(&self) -> bool {
        self.deaf
    }

    /// The next request, if there may be one now.
    pub fn next_request(&mut self) -> Option<Result<Request, Refusal>> {
        if self.waiting || !self.has_room() {
            return None;
        }
        if let Some(request) = self.rest.next() {
            return Some(request);
        }
        self.close_batch();
        let line = self
            .frames
            .next_line()
            .or_else(|| self.ended.then(|| self.frames.finish()).flatten())?;
        match line {
            Line::TooLong => {
                let text = format!(
                    "a request is at most {MAX_LINE_BYTES} bytes long; this one was dropped"
                );
                Some(Err(Refusal::new(Code::Parse, text)))
            }
            Line::Whole(line) => match parse(line) {
                Incoming::One(request) => Some(request),
                Incoming::Batch(batch) => {
                    self.rest = Rest::Each(batch);
                    self.batch = Some(Vec::new());
                    self.rest.next()
                }
            },
        }
    }

    /// The request at hand will be answered later.
    pub fn wait(&mut self) {
        self.waiting = true;
    }

    /// Will the request at hand be answered later?
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// Answers the request at hand. A notification is done with without a word.
    pub fn answer(&mut self, request: Option<&Value>, answer: &Result<Value, Refusal>) {
        self.waiting = false;
        let Some(request) = request.filter(|_| !self.deaf) else {
            return;
        };
        match &mut self.batch {
            Some(batch) => {
                batch.push(if batch.is_empty() { b'[' } else { b',' });
                reply(request, answer, batch);
                if batch.len() > BATCH_BYTES && !self.rest.is_empty() {
                    self.rest = Rest::TooLong;
                }
            }
            None => {
                reply(request, answer, &mut self.output);
                self.output.push(b'\n');
            }
        }
    }

    /// Tells the peer something it did not ask for just now.
    pub fn tell(&mut self, bytes: &[u8]) {
        if !self.deaf {
            self.output.extend_from_slice(bytes);
        }
    }

    /// May the peer be told more than it has read so far?
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.output.len() - self.written <= OUTPUT_PAUSE_BYTES
    }

    /// Is the request at hand one of several that came as one?
    #[must_use]
    pub fn is_batch(&self) -> bool {
        self.batch.is_some()
    }

    /// What is answered so far can go out, and a batch that is answered with it.
    pub fn settle(&mut self) {
        if self.rest.is_empty() && !self.waiting {
            self.close_batch();
        }
    }

    /// What is to be written; none if all of it is.
    pub fn output(&mut self) -> Option<&[u8]> {
        if self.written < self.output.len() {
            return Some(&self.output[self.written..]);
        }
        self.output = Vec::new();
        self.written = 0;
        None
    }

    /// So much of it was written.
    pub fn wrote(&mut self, count: usize) {
        self.written += count;
    }

    /// Gives back what was written, when that is worth it: one who is told things without end may
    /// never have been told all.
    pub fn give_back(&mut self) {
        if self.written > OUTPUT_PAUSE_BYTES {
            self.output.drain(..self.written);
            self.written = 0;
        }
    }

    /// Is there something to do right away, where `readable` says whether more may be read?
    #[must_use]
    pub fn is_runnable(&self, readable: bool) -> bool {
        let more = readable && !self.ended;
        let may = !self.waiting && self.has_room();
        may && (more || !self.rest.is_empty() || self.frames.pending() > 0)
    }

    /// Is there something that the peer has not read?
    #[must_use]
    pub fn is_owed(&self) -> bool {
        self.written < self.output.len()
    }

    /// Bytes that are kept for the peer.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let batch = self.batch.as_ref().map_or(0, Vec::len);
        self.output.len() + self.frames.pending() + batch + self.rest.held_bytes()
    }

    /// Nothing more will come, and nothing is owed.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.ended && !self.waiting && self.rest.is_empty() && self.frames.pending() == 0
    }

    /// The last answer of a batch is there: out with it. A batch of notifications has no answer.
    fn close_batch(&mut self) {
        if let Some(mut batch) = self.batch.take().filter(|batch| !batch.is_empty()) {
            batch.extend(b"]\n");
            self.output.append(&mut batch);
        }
    }
}
