//! Log files: what waits to be written, and who writes it.
//!
//! A writer (`sys/writer.rs`) has one piece of one file at a time. When it takes too long the disk
//! of that file hangs: the writer is killed, which may take as long as the hang does, another one
//! takes over all other files, and the file waits for its old writer's end. While more waits for a
//! file than it may, its services' output is not read; but not for long, then lines are dropped and
//! counted.

use std::collections::VecDeque;
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry};

use super::place::Place;
use crate::engine::{Pid, Signal, Spec, Time};
use crate::sys::kill;
use crate::sys::writer::{LogFile, PIECE_BYTES, Writer, Written};

/// Bytes that may wait for a file before the service has to.
const WAITING_BYTES: usize = 256 << 10;

/// Bytes that may wait whatever happens: also lines that no service can be held up for.
const WAITING_MAX_BYTES: usize = 4 * WAITING_BYTES;

/// How long a service waits before its lines are dropped.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a writer may take for a piece before it is said to hang.
const HANG: Duration = Duration::from_secs(1);

/// The pauses before a file that can't be written to is tried again.
const RETRY: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// All log files.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    files: Vec<Kept>,
    writer: Option<Writer>,
    /// The file whose piece is with the writer, how long that is, and since when.
    out: Option<(usize, usize, Time)>,
    /// Whose turn it is.
    next: usize,
}

#[derive(Debug)]
struct Kept {
    file: LogFile,
    waiting: VecDeque<u8>,
    /// Since when there has been too much.
    full_since: Option<Time>,
    /// Lines that were dropped, and the time and stream of the last one.
    lost: u64,
    lost_head: String,
    is_dropping: bool,
    /// Not to be tried before, and after what pause then.
    retry_at: Option<Time>,
    pause: Duration,
    /// The last error that was told of.
    told: i32,
    /// The writer that hangs with a piece of it.
    hangs_in: Option<Pid>,
}

impl Kept {
    fn drop_lines(&mut self) {
        log::warn!("{}: too slow; lines are dropped", self.file.path.display());
        self.is_dropping = true;
        self.full_since = None;
    }

    /// With room again no more lines are dropped, and it is written how many were.
    fn take_lines(&mut self) {
        if !self.is_dropping || self.waiting.len() > WAITING_BYTES / 2 {
            return;
        }
        self.is_dropping = false;
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            let text = format!("{} zinit: {lost} lines lost\n", self.lost_head);
            self.waiting.extend(text.as_bytes());
        }
    }

    /// A piece of it may be written or not: it is written again, from the begin of a line, and not
    /// right away.
    fn interrupted(&mut self, now: Time) {
        self.waiting.push_front(b'\n');
        self.put_off(now);
    }

    /// It is tried again after a while, and each time after a longer one.
    fn put_off(&mut self, now: Time) {
        self.retry_at = Some(now + self.pause);
        self.pause = (self.pause * 2).min(RETRY_MAX);
    }
}

impl Keeper {
    /// Who writes.
    pub(super) fn writer(&self) -> Option<Pid> {
        self.writer.as_ref().map(|writer| writer.pid)
    }

    /// The place of the log file of a service, if it has one. Places that nobody uses any more, and
    /// for which nothing waits, are used again.
    pub(super) fn of(&mut self, spec: &Spec, is_used: impl Fn(usize) -> bool) -> Option<usize> {
        let logging = &spec.logging;
        let file = LogFile {
            path: logging.file.clone()?,
            max_size: logging.max_size,
            max_files: logging.max_files,
            mode: logging.mode,
        };
        let known = self
            .files
            .iter()
            .position(|kept| kept.file.path == file.path);
        if let Some(place) = known {
            self.files[place].file = file;
            return Some(place);
        }
        let kept = Kept {
            file,
            waiting: VecDeque::new(),
            full_since: None,
            lost: 0,
            lost_head: String::new(),
            is_dropping: false,
            retry_at: None,
            pause: RETRY,
            told: 0,
            hangs_in: None,
        };
        let out = self.out.map(|(place, _, _)| place);
        let free = (0..self.files.len()).find(|place| {
            let old = &self.files[*place];
            let rests = old.waiting.is_empty() && old.hangs_in.is_none();
            rests && out != Some(*place) && !is_used(*place)
        });
        match free {
            Some(place) => self.files[place] = kept,
            None => self.files.push(kept),
        }
        free.or(Some(self.files.len() - 1))
    }

    /// Takes on a line; `head` is its time and stream.
    pub(super) fn push(&mut self, place: usize, head: &str, line: &[u8]) {
        let kept = &mut self.files[place];
        if kept.waiting.len() > WAITING_MAX_BYTES && !kept.is_dropping {
            kept.drop_lines();
        }
        if kept.is_dropping {
            kept.lost += 1;
            head.clone_into(&mut kept.lost_head);
            return;
        }
        kept.waiting.extend(head.as_bytes());
        kept.waiting.push_back(b' ');
        kept.waiting.extend(line);
        kept.waiting.push_back(b'\n');
    }

    /// Has whoever writes there to wait?
    pub(super) fn is_full(&mut self, now: Time, place: usize) -> bool {
        let kept = &mut self.files[place];
        if kept.is_dropping || kept.waiting.len() <= WAITING_BYTES {
            kept.full_since = None;
            return false;
        }
        kept.full_since.get_or_insert(now);
        true
    }

    /// Whose patience is over drops lines from now on. Says whether there is any.
    fn lose_patience(&mut self, now: Time) -> bool {
        let mut any = false;
        for kept in &mut self.files {
            let Some(since) = kept.full_since else {
                continue;
            };
            if kept.waiting.len() <= WAITING_BYTES {
                kept.full_since = None;
            } else if now.since(since) >= PATIENCE {
                kept.drop_lines();
            } else {
                continue;
            }
            any = true;
        }
        any
    }

    /// Does anything wait that may yet be written?
    pub(super) fn is_waiting(&self) -> bool {
        let writable = |kept: &Kept| {
            let stuck = kept.hangs_in.is_some() || kept.retry_at.is_some();
            !kept.waiting.is_empty() && !stuck
        };
        self.out.is_some() || self.files.iter().any(writable)
    }

    /// It all comes to an end: what was put off is tried now or never.
    pub(super) fn hurry(&mut self) {
        self.files.iter_mut().for_each(|kept| kept.retry_at = None);
    }

    /// What still waits is lost, and that is said.
    pub(super) fn give_up(&self) {
        for kept in self.files.iter().filter(|kept| !kept.waiting.is_empty()) {
            let (path, bytes) = (kept.file.path.display(), kept.waiting.len());
            match kept.lost {
                0 => log::warn!("{path}: the last {bytes} bytes are lost"),
                lines => log::warn!("{path}: the last {bytes} bytes and {lines} lines are lost"),
            }
        }
    }

    /// When to look without being told of anything.
    pub(super) fn next_look(&self) -> Option<Time> {
        let hang = self.out.map(|(_, _, since)| since + HANG);
        let files = self.files.iter().filter(|kept| !kept.waiting.is_empty());
        let looks = files.flat_map(|kept| {
            let full = kept.full_since.map(|since| since + PATIENCE);
            // With a piece out, its end is told.
            let may_try = kept.hangs_in.is_none() && self.out.is_none();
            let retry = kept.retry_at.filter(|_| may_try);
            [full, retry]
        });
        looks.chain([hang]).flatten().min()
    }

    /// Goes on: takes the writer's answer and hands it the next piece. Says whether a file may have
    /// room again.
    pub(super) fn step(&mut self, now: Time, registry: &Registry) -> bool {
        let mut freed = false;
        if let (Some((place, length, since)), Some(writer)) = (self.out, &self.writer) {
            match writer.written() {
                Ok(Some(written)) => {
                    self.out = None;
                    self.done(now, place, length, written);
                    freed = true;
                }
                Ok(None) if now.since(since) >= HANG => self.hangs(place),
                Ok(None) => return self.lose_patience(now),
                Err(error) => {
                    log::warn!("the log writer has ended: {error}");
                    self.writer = None;
                    self.out = None;
                    self.files[place].interrupted(now);
                }
            }
        }
        self.hand_next(now, registry);
        self.lose_patience(now) | freed
    }

    fn done(&mut self, now: Time, place: usize, length: usize, written: Written) {
        let kept = &mut self.files[place];
        kept.waiting.drain(..written.bytes.min(length));
        kept.take_lines();
        let path = kept.file.path.display();
        if kept.waiting.is_empty() {
            kept.waiting = VecDeque::new();
        }
        if written.errno == 0 {
            if kept.told != 0 {
                log::info!("{path}: written to again");
            }
            (kept.told, kept.retry_at, kept.pause) = (0, None, RETRY);
            return;
        }
        if kept.told != written.errno {
            let error = std::io::Error::from_raw_os_error(written.errno);
            log::warn!("{path}: {error}; trying again");
            kept.told = written.errno;
        }
        // What takes a little will soon take more, as a pipe does.
        if written.bytes > 0 {
            kept.pause = RETRY;
        }
        kept.put_off(now);
    }

    fn hangs(&mut self, place: usize) {
        self.out = None;
        let Some(writer) = self.writer.take() else {
            return;
        };
        let kept = &mut self.files[place];
        log::warn!("{}: its disk hangs", kept.file.path.display());
        kill::kill_child(writer.pid, Signal::KILL);
        kept.hangs_in = Some(writer.pid);
        // Part of it may be written: it is written again, from the begin of a line.
        kept.waiting.push_front(b'\n');
    }

    /// The server ends, and so does whoever writes; one that hangs is not waited for.
    pub(super) fn end(&mut self) {
        if self.out.is_none()
            && let Some(writer) = self.writer.take()
        {
            writer.end(HANG);
        }
    }

    /// A child has ended: was it a writer that hung, or one that had nothing to write?
    pub(super) fn ended(&mut self, now: Time, pid: Pid) {
        if self.out.is_none() && self.writer() == Some(pid) {
            self.writer = None;
        }
        for kept in &mut self.files {
            if kept.hangs_in == Some(pid) {
                kept.hangs_in = None;
                kept.put_off(now);
            }
        }
    }

    fn hand_next(&mut self, now: Time, registry: &Registry) {
        let count = self.files.len();
        let may = |kept: &Kept| {
            let due = kept.retry_at.is_none_or(|at| at <= now);
            due && !kept.waiting.is_empty() && kept.hangs_in.is_none()
        };
        let places = (0..count).map(|step| (self.next + step) % count);
        let Some(place) = places.into_iter().find(|place| may(&self.files[*place])) else {
            return;
        };
        self.next = place + 1;
        if self.writer.is_none() {
            let started = Writer::start().and_then(|writer| {
                let token = Place::Writer.token();
                let number = writer.as_raw_fd();
                registry.register(&mut SourceFd(&number), token, Interest::READABLE)?;
                Ok(writer)
            });
            match started {
                Ok(writer) => self.writer = Some(writer),
                Err(error) => {
                    log::warn!("no log writer: {error}");
                    self.files[place].put_off(now);
                    return;
                }
            }
        }
        let kept = &mut self.files[place];
        let waiting = kept.waiting.make_contiguous();
        let mut length = waiting.len().min(PIECE_BYTES);
        // Whole lines, so that a rotation does not cut one.
        if length < waiting.len()
            && let Some(end) = waiting[..length].iter().rposition(|byte| *byte == b'\n')
        {
            length = end + 1;
        }
        let handed = self.writer.as_ref().map(|writer| {
            let piece = &kept.waiting.as_slices().0[..length];
            writer.hand(&kept.file, piece)
        });
        match handed {
            Some(Ok(())) => self.out = Some((place, length, now)),
            Some(Err(error)) => {
                log::warn!("the log writer has ended: {error}");
                self.writer = None;
                kept.put_off(now);
            }
            None => {}
        }
    }
}
