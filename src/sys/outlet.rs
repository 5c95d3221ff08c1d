//! Descriptors that are written to without ever waiting for whoever reads them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Longest piece written at once: a pipe that is writable takes so much without blocking
/// (`PIPE_BUF`, `pipe(7)`).
const WHOLE_BYTES: usize = 4096;

/// A standard descriptor, or a file of its own.
#[derive(Debug)]
pub struct Outlet {
    /// A description of our own, so that making it non-blocking concerns nobody else. A socket, or
    /// another user's pipe, can't be opened like that and is asked before each write instead; a
    /// file never blocks, and is written where others who share it left off.
    own: Option<File>,
    number: RawFd,
}

impl Outlet {
    /// The standard descriptor of that number: 1 or 2.
    #[must_use]
    pub fn standard(number: RawFd) -> Self {
        let path = format!("/proc/self/fd/{number}");
        let path = Path::new(&path);
        let is_file = fs::metadata(path).is_ok_and(|meta| meta.is_file());
        let own = if is_file { None } else { open(path).ok() };
        Self { own, number }
    }

    /// A device or file.
    ///
    /// # Errors
    /// As `open(2)`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let own = open(path)?;
        Ok(Self {
            number: own.as_raw_fd(),
            own: Some(own),
        })
    }

    /// Writes what it takes right now, and says how much that was.
    ///
    /// # Errors
    /// `WouldBlock` if it takes nothing for now, else as `write(2)`.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(own) = &self.own {
            return (&mut &*own).write(bytes);
        }
        let bytes = &bytes[..bytes.len().min(WHOLE_BYTES)];
        let borrowed = self.borrow();
        let mut ready = [PollFd::new(borrowed.as_fd(), PollFlags::POLLOUT)];
        if poll(&mut ready, PollTimeout::ZERO)? == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // A socket takes part of it rather than wait for room; what is no socket says so.
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the pointer and the length are those of `bytes`.
        let sent = unsafe { libc::send(self.number, bytes.as_ptr().cast(), bytes.len(), flags) };
        match usize::try_from(sent) {
            Ok(sent) => Ok(sent),
            Err(_) if nix::Error::last() == nix::Error::ENOTSOCK => {
                Ok(nix::unistd::write(borrowed, bytes)?)
            }
            Err(_) => Err(io::Error::last_os_error()),
        }
    }

    fn borrow(&self) -> BorrowedFd<'_> {
        // SAFETY: the standard descriptors are open for the whole life of the server, and one of
        // its own for as long as `self` is.
        unsafe { BorrowedFd::borrow_raw(self.number) }
    }
}

impl AsRawFd for Outlet {
    fn as_raw_fd(&self) -> RawFd {
        self.own.as_ref().map_or(self.number, AsRawFd::as_raw_fd)
    }
}

fn open(path: &Path) -> io::Result<File> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    File::options().append(true).custom_flags(flags).open(path)
}
