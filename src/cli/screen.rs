//! The two output streams, and what a terminal must be spared.
//!
//! Services write what they like; what they wrote reaches a terminal with its control characters
//! spelt out, and a file or a pipe as it is.

use std::io::{self, Write};

/// Where answers and complaints go.
pub struct Screen<'a> {
    /// Standard output.
    pub out: &'a mut dyn Write,
    /// Standard error.
    pub err: &'a mut dyn Write,
    /// Whether a terminal shows standard output.
    pub out_is_terminal: bool,
    /// Whether a terminal shows standard error.
    pub err_is_terminal: bool,
    /// Whether symbols are coloured.
    pub color: bool,
    /// Whether the progress line is shown.
    pub line_shown: bool,
}

/// A terminal's line that is too long wraps, and a wrapped one cannot be overwritten.
const PROGRESS_COLUMNS: usize = 78;

impl<'a> Screen<'a> {
    /// Streams that no terminal shows.
    pub fn plain(out: &'a mut dyn Write, err: &'a mut dyn Write) -> Self {
        Self {
            out,
            err,
            out_is_terminal: false,
            err_is_terminal: false,
            color: false,
            line_shown: false,
        }
    }
}

impl Screen<'_> {
    /// One line of the answer.
    pub(super) fn line(&mut self, line: &str) -> io::Result<()> {
        self.wipe();
        if self.out_is_terminal {
            writeln!(self.out, "{}", tamed(line))
        } else {
            writeln!(self.out, "{line}")
        }
    }

    /// A text of several lines.
    pub(super) fn text(&mut self, text: &str) -> io::Result<()> {
        text.split('\n').try_for_each(|line| self.line(line))
    }

    /// A line with a symbol in it: in colour between `before` and `after`.
    pub(super) fn marked(&mut self, before: &str, symbol: Symbol, after: &str) -> io::Result<()> {
        match symbol.color.filter(|_| self.color) {
            None => self.line(&format!("{before}{} {after}", symbol.text)),
            Some(color) => {
                self.wipe();
                let (text, after) = (symbol.text, tamed(after));
                writeln!(self.out, "{before}\x1b[{color}m{text}\x1b[0m {after}")
            }
        }
    }

    /// A line with a word in colour between `before` and `after`.
    pub(super) fn colored(
        &mut self,
        before: &str,
        word: &str,
        color: u8,
        after: &str,
    ) -> io::Result<()> {
        if !self.color {
            return self.line(&format!("{before}{word}{after}"));
        }
        self.wipe();
        let after = tamed(after);
        writeln!(
            self.out,
            "{before}\x1b[{color}m{}\x1b[0m{after}",
            tamed(word)
        )
    }

    /// Says on standard error what is wrong. There is nobody to tell when that fails.
    pub(super) fn complain(&mut self, text: &str) {
        self.wipe();
        for line in text.split('\n') {
            let line = if self.err_is_terminal {
                tamed(line)
            } else {
                line.to_owned()
            };
            let _ = writeln!(self.err, "{line}");
        }
    }

    /// Shows `text` in the one line that is overwritten again and again.
    pub(super) fn progress(&mut self, text: &str) {
        let text: String = tamed(text).chars().take(PROGRESS_COLUMNS).collect();
        let _ = write!(self.err, "\r\x1b[K{text}");
        let _ = self.err.flush();
        self.line_shown = true;
    }

    /// Brings to the reader what was printed so far.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Takes the progress line away.
    pub(super) fn wipe(&mut self) {
        if self.line_shown {
            let _ = write!(self.err, "\r\x1b[K");
            let _ = self.err.flush();
            self.line_shown = false;
        }
    }
}

/// A character that says how a service is.
#[derive(Clone, Copy)]
pub(super) struct Symbol {
    pub(super) text: char,
    /// Its colour, as the number a terminal knows it by.
    pub(super) color: Option<u8>,
}

/// The text with its control characters spelt out; tabs stay.
fn tamed(text: &str) -> String {
    let mut tame = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() && character != '\t' {
            tame.push_str(&format!("\\x{:02x}", u32::from(character)));
        } else {
            tame.push(character);
        }
    }
    tame
}
