//! The server's own log goes to standard error, and must never hold it up.

use std::io::{self, Write};

use super::outlet::Outlet;

/// Longest line of the log.
const LINE_BYTES: usize = 4096;

/// Standard error that drops what nobody reads, and says how much when it is read again.
#[derive(Debug)]
pub struct Stderr {
    outlet: Outlet,
    dropped: u64,
}

impl Stderr {
    /// Standard error as it is now.
    #[must_use]
    pub fn open() -> Self {
        Self {
            outlet: Outlet::standard(2),
            dropped: 0,
        }
    }

    /// A line is there as a whole or not at all, as far as that can be said beforehand.
    fn put(&self, bytes: &[u8]) -> bool {
        self.outlet
            .write(&bytes[..bytes.len().min(LINE_BYTES)])
            .is_ok()
    }
}

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.dropped > 0
            && self.put(format!("({} lines of log dropped)\n", self.dropped).as_bytes())
        {
            self.dropped = 0;
        }
        if self.dropped > 0 || !self.put(bytes) {
            self.dropped += 1;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
