//! What services write: lines out of bytes, and the last of them kept in memory.

use std::collections::VecDeque;

/// Longest line kept in one piece; a longer one is split. As long as `syslog(3)` daemons take.
const LINE_BYTES: usize = 8192;

/// Bytes of output kept for each service, however long its lines are.
const RING_BYTES: usize = 256 << 10;

/// Which output a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The system's log (`syslog(3)`).
    Syslog,
}

impl Stream {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Syslog => "syslog",
        }
    }
}

/// The last lines of a service: bounded in lines and in bytes, any bytes, no allocation a line.
#[derive(Debug, Default)]
pub struct Ring {
    lines: VecDeque<Entry>,
    bytes: VecDeque<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at_ms: u64,
    length: u32,
    stream: Stream,
}

/// A line of a [`Ring`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When it was read, in Unix milliseconds.
    pub at_ms: u64,
    /// Where from.
    pub stream: Stream,
    /// What it says; bytes that are no UTF-8 are replaced here, and only here.
    pub content: String,
}

impl Ring {
    /// Keeps a line, and lets go of the oldest as the bounds demand.
    pub fn push(&mut self, at_ms: u64, stream: Stream, line: &[u8], most_lines: usize) {
        let line = &line[..line.len().min(LINE_BYTES)];
        while self.lines.len() >= most_lines.max(1) || self.bytes.len() + line.len() > RING_BYTES {
            let Some(oldest) = self.lines.pop_front() else {
                break;
            };
            self.bytes.drain(..oldest.length as usize);
        }
        self.bytes.extend(line);
        let length = u32::try_from(line.len()).expect("lines are split far below 4 GiB");
        self.lines.push_back(Entry {
            at_ms,
            length,
            stream,
        });
    }

    /// Lets go of all but the last lines, and of the memory they took.
    pub fn keep(&mut self, most_lines: usize) {
        while self.lines.len() > most_lines {
            let oldest = self.lines.pop_front();
            let length = oldest.map_or(0, |oldest| oldest.length);
            self.bytes.drain(..length as usize);
        }
        self.lines.shrink_to_fit();
        self.bytes.shrink_to_fit();
    }

    /// The last `most` lines that `wanted` takes, oldest first.
    pub fn last(&self, most: usize, mut wanted: impl FnMut(u64, Stream) -> bool) -> Vec<LogLine> {
        let mut end = self.bytes.len();
        let mut lines: Vec<LogLine> = self
            .lines
            .iter()
            .rev()
            .filter_map(|entry| {
                let start = end - entry.length as usize;
                let range = start..end;
                end = start;
                if !wanted(entry.at_ms, entry.stream) {
                    return None;
                }
                let bytes: Vec<u8> = self.bytes.range(range).copied().collect();
                let content = String::from_utf8_lossy(&bytes).into_owned();
                Some(LogLine {
                    at_ms: entry.at_ms,
                    stream: entry.stream,
                    content,
                })
            })
            .take(most)
            .collect();
        lines.reverse();
        lines
    }
}

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
pub struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Takes in bytes; hands out each line that is complete, without its end, and whether that
    /// was its end or it is just too long for one piece.
    pub fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8], bool)) {
        while !bytes.is_empty() {
            let room = LINE_BYTES - self.rest.len();
            let newline = bytes.iter().take(room + 1).position(|byte| *byte == b'\n');
            let (piece, ends) = match newline {
                Some(at) => (at, true),
                None => (bytes.len().min(room), bytes.len() > room),
            };
            let after = piece + usize::from(newline.is_some());
            if !ends {
                self.rest.extend_from_slice(&bytes[..piece]);
            } else if self.rest.is_empty() {
                line(trim(&bytes[..piece]), newline.is_some());
            } else {
                self.rest.extend_from_slice(&bytes[..piece]);
                line(trim(&self.rest), newline.is_some());
                self.rest = Vec::new();
            }
            bytes = &bytes[after..];
        }
    }

    /// The stream has ended: a last line needs no newline.
    pub fn finish(&mut self, line: impl FnOnce(&[u8])) {
        let rest = std::mem::take(&mut self.rest);
        if !rest.is_empty() {
            line(trim(&rest));
        }
    }
}

/// Is this text, which is not empty, in the line?
#[must_use]
pub fn holds(line: &[u8], text: &[u8]) -> bool {
    !text.is_empty() && line.windows(text.len()).any(|part| part == text)
}

fn trim(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for piece in pieces {
            lines.push(piece, |line, _| found.push(line.to_vec()));
        }
        lines.finish(|line| found.push(line.to_vec()));
        found
    }

    #[test]
    fn lines_are_the_same_however_they_are_cut() {
        let mut bytes = b"one\n\ntwo\r\n\xff\xfe\n".to_vec();
        bytes.extend(vec![b'x'; LINE_BYTES * 2 + 5]);
        bytes.extend(b"\nlast");
        let whole = cut(&[&bytes]);
        assert_eq!(
            whole.iter().map(Vec::len).collect::<Vec<_>>(),
            [3, 0, 3, 2, LINE_BYTES, LINE_BYTES, 5, 4]
        );
        for at in (0..bytes.len()).step_by(13) {
            assert_eq!(cut(&[&bytes[..at], &bytes[at..]]), whole, "cut at {at}");
        }
        // A line of exactly the longest length is one line.
        let mut exact = vec![b'y'; LINE_BYTES];
        exact.push(b'\n');
        assert_eq!(cut(&[&exact]).len(), 1);
    }

    #[test]
    fn a_ring_is_bounded_in_lines_and_bytes() {
        let mut ring = Ring::default();
        for at in 0..10 {
            ring.push(at, Stream::Stdout, format!("line {at}").as_bytes(), 3);
        }
        let last: Vec<String> = ring
            .last(100, |_, _| true)
            .into_iter()
            .map(|line| line.content)
            .collect();
        assert_eq!(last, ["line 7", "line 8", "line 9"]);
        for at in 0..1000 {
            ring.push(at, Stream::Stderr, &[0xff; LINE_BYTES], usize::MAX);
        }
        assert!(ring.bytes.len() <= RING_BYTES);
        assert_eq!(ring.last(5, |at, _| at < 990).len(), 5);
    }
}
