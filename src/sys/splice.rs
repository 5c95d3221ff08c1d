//! Bytes from one socket to another through the kernel alone (`splice(2)`): they go through a pipe,
//! and are copied nowhere.

use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::unistd::pipe2;

/// What a pipe may hold, if the kernel allows for it (`F_SETPIPE_SZ`, `fcntl(2)`), and what it takes
/// at once. With less, and with more, fewer bytes a second went through.
pub const PIPE_BYTES: usize = 512 << 10;

/// A pipe between two sockets.
#[derive(Debug)]
pub struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    held: usize,
}

/// What a step brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// So many bytes.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// The sender has ended.
    End,
    /// The connection is broken.
    Broken,
}

impl Pipe {
    /// An empty one.
    ///
    /// # Errors
    /// As `pipe2(2)`.
    pub fn new() -> nix::Result<Self> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        // A smaller one does too.
        let size = libc::c_int::try_from(PIPE_BYTES).unwrap_or(libc::c_int::MAX);
        let _ = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(size));
        Ok(Self {
            reader,
            writer,
            held: 0,
        })
    }

    /// Is nothing in it?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Takes in what a socket has; the pipe has to be empty.
    pub fn fill(&mut self, from: &OwnedFd) -> Moved {
        debug_assert!(self.is_empty(), "a full pipe looks like a silent socket");
        let moved = splice(from, &self.writer, PIPE_BYTES);
        if let Moved::Bytes(count) = moved {
            self.held = count;
        }
        moved
    }

    /// Gives a socket what is in it.
    pub fn drain(&mut self, to: &OwnedFd) -> Moved {
        let moved = splice(&self.reader, to, self.held);
        if let Moved::Bytes(count) = moved {
            self.held -= count;
        }
        moved
    }
}

fn splice(from: &OwnedFd, to: &OwnedFd, most: usize) -> Moved {
    loop {
        // SAFETY: both descriptors are open, and neither place in them is given.
        let moved = unsafe {
            libc::splice(
                from.as_raw_fd(),
                ptr::null_mut(),
                to.as_raw_fd(),
                ptr::null_mut(),
                most,
                libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK,
            )
        };
        return match usize::try_from(moved) {
            Ok(0) => Moved::End,
            Ok(count) => Moved::Bytes(count),
            Err(_) => match nix::Error::last_raw() {
                libc::EINTR => continue,
                libc::EAGAIN => Moved::Nothing,
                _ => Moved::Broken,
            },
        };
    }
}
