//! The server's own log goes to standard error, and must never hold it up.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::process::borrow_stderr;

/// Longest line written at once: a pipe that is writable takes so much without blocking
/// (`PIPE_BUF`, `pipe(7)`).
const WHOLE_BYTES: usize = 4096;

/// Standard error that drops what nobody reads, and says how much when it is read again.
#[derive(Debug)]
pub struct Stderr {
    /// A description of our own, so that making it non-blocking concerns nobody else; a socket
    /// can't be opened like that and is asked before each write instead.
    own: Option<File>,
    dropped: u64,
}

impl Stderr {
    /// Standard error as it is now.
    #[must_use]
    pub fn open() -> Self {
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
        let own = File::options()
            .append(true)
            .custom_flags(flags)
            .open("/proc/self/fd/2")
            .ok();
        Self { own, dropped: 0 }
    }

    fn put(&self, bytes: &[u8]) -> bool {
        let bytes = &bytes[..bytes.len().min(WHOLE_BYTES)];
        if let Some(own) = &self.own {
            return (&*own).write_all(bytes).is_ok();
        }
        let stderr = borrow_stderr();
        let mut ready = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
        poll(&mut ready, PollTimeout::ZERO).is_ok_and(|count| count == 1)
            && nix::unistd::write(stderr, bytes).is_ok()
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
