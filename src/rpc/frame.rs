//! Lines out of bytes that come in any pieces, within a bound.

/// Longest request line. A service definition with ten thousand dependencies is a tenth of it.
pub const MAX_LINE_BYTES: usize = 1 << 20;

/// What a peer has sent and is not taken yet.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    /// Where the next line starts.
    start: usize,
    /// Up to where there is no newline.
    searched: usize,
    mode: Mode,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Keep,
    /// Inside a line that is too long: bytes are dropped until its end.
    Skip,
}

/// A line taken from [`Frames`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Its bytes, without the newline.
    Whole(Vec<u8>),
    /// It was longer than [`MAX_LINE_BYTES`] and is dropped.
    TooLong,
}

impl Frames {
    /// Takes in what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next line, if its end has come.
    pub fn next_line(&mut self) -> Option<Line> {
        let newline = self.bytes[self.searched..]
            .iter()
            .position(|byte| *byte == b'\n');
        let Some(end) = newline.map(|at| self.searched + at) else {
            self.searched = self.bytes.len();
            if self.searched - self.start > MAX_LINE_BYTES || self.mode == Mode::Skip {
                self.clear();
                self.mode = Mode::Skip;
            }
            return None;
        };
        let line = &self.bytes[self.start..end];
        let too_long = self.mode == Mode::Skip || line.len() > MAX_LINE_BYTES;
        let line = if too_long {
            Line::TooLong
        } else {
            Line::Whole(line.to_vec())
        };
        self.mode = Mode::Keep;
        self.start = end + 1;
        self.searched = self.start;
        if self.start == self.bytes.len() {
            self.clear();
        }
        Some(line)
    }

    /// The peer sends no more: a last line needs no newline.
    pub fn finish(&mut self) -> Option<Line> {
        if self.mode == Mode::Skip {
            self.clear();
            self.mode = Mode::Keep;
            return Some(Line::TooLong);
        }
        let rest = self.bytes[self.start..].to_vec();
        self.clear();
        (!rest.is_empty()).then_some(Line::Whole(rest))
    }

    /// Bytes that wait to be taken.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.bytes.len() - self.start
    }

    fn clear(&mut self) {
        // A client that once sent much does not hold that memory for ever.
        if self.bytes.capacity() > 1 << 16 {
            self.bytes = Vec::new();
        } else {
            self.bytes.clear();
        }
        self.start = 0;
        self.searched = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<Line> {
        let mut frames = Frames::default();
        let mut lines = Vec::new();
        for piece in pieces {
            frames.push(piece);
            lines.extend(std::iter::from_fn(|| frames.next_line()));
        }
        lines.extend(frames.finish());
        lines
    }

    #[test]
    fn lines_are_the_same_however_they_are_cut() {
        let bytes = b"one\n\ntwo\r\nthree";
        let whole = lines(&[bytes]);
        assert_eq!(whole.len(), 4);
        for cut in 0..bytes.len() {
            assert_eq!(
                lines(&[&bytes[..cut], &bytes[cut..]]),
                whole,
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn a_line_too_long_is_dropped_and_the_next_one_is_not() {
        let long = vec![b'x'; MAX_LINE_BYTES / 2 + 1];
        assert_eq!(
            lines(&[&long, &long, b"\nnext\n"]),
            [Line::TooLong, Line::Whole(b"next".to_vec())]
        );
        assert_eq!(lines(&[&long, &long]), [Line::TooLong]);
        let mut frames = Frames::default();
        for _ in 0..100 {
            frames.push(&long);
            assert_eq!(frames.next_line(), None);
            assert!(frames.pending() <= MAX_LINE_BYTES);
        }
    }
}
