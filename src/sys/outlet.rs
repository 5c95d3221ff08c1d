//! Descriptors that are written to without ever waiting for whoever reads them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};

/// Longest piece written at once: a pipe that is writable takes so much without blocking
/// (`PIPE_BUF`, `pipe(7)`).
const WHOLE_BYTES: usize = 4096;

/// A standard descriptor, or a file of its own.
#[derive(Debug)]
pub struct Outlet {
    way: Way,
    number: RawFd,
}

/// How it is written to without waiting.
#[derive(Debug)]
enum Way {
    /// By a description of our own, so that making it non-blocking concerns nobody else.
    Own(File),
    /// As it is: a file never blocks, and is written where others who share it left off.
    File,
    /// A socket can't be opened anew. It takes part of a piece rather than wait for room, if it is
    /// told so each time.
    Socket,
    /// Another user's pipe or terminal can't be opened either, and is asked before each write.
    Asked,
}

impl Outlet {
    /// The standard descriptor of that number: 1 or 2.
    #[must_use]
    pub fn standard(number: RawFd) -> Self {
        let path = format!("/proc/self/fd/{number}");
        let path = Path::new(&path);
        let kind = fs::metadata(path).map(|meta| meta.file_type());
        let way = match kind {
            Ok(kind) if kind.is_file() => Way::File,
            Ok(kind) if kind.is_socket() => Way::Socket,
            Ok(_) | Err(_) => open(path).map_or(Way::Asked, Way::Own),
        };
        Self { way, number }
    }

    /// A device or file.
    ///
    /// # Errors
    /// As `open(2)`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let own = open(path)?;
        Ok(Self {
            number: own.as_raw_fd(),
            way: Way::Own(own),
        })
    }

    /// Writes what it takes right now, and says how much that was.
    ///
    /// # Errors
    /// `WouldBlock` if it takes nothing for now, else as `write(2)`.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        if let Way::Own(own) = &self.way {
            return (&mut &*own).write(bytes);
        }
        let bytes = &bytes[..bytes.len().min(WHOLE_BYTES)];
        match self.way {
            Way::Own(_) | Way::File => {}
            Way::Socket => {
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                return Ok(send(self.number, bytes, flags)?);
            }
            Way::Asked => {
                let borrowed = self.borrow();
                let mut ready = [PollFd::new(borrowed.as_fd(), PollFlags::POLLOUT)];
                if poll(&mut ready, PollTimeout::ZERO)? == 0 {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
            }
        }
        Ok(nix::unistd::write(self.borrow(), bytes)?)
    }

    fn borrow(&self) -> BorrowedFd<'_> {
        // SAFETY: the standard descriptors are open for the whole life of the server, and one of
        // its own for as long as `self` is.
        unsafe { BorrowedFd::borrow_raw(self.number) }
    }
}

impl AsRawFd for Outlet {
    fn as_raw_fd(&self) -> RawFd {
        match &self.way {
            Way::Own(own) => own.as_raw_fd(),
            Way::File | Way::Socket | Way::Asked => self.number,
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    File::options().append(true).custom_flags(flags).open(path)
}
