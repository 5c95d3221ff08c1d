//! Pipes whose reading end does not block.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;

/// How often a read is tried that fails for no reason a kernel is known to have.
const READ_TRIES: usize = 4;

/// The reading end of a pipe.
#[derive(Debug)]
pub struct Reader(std::fs::File);

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// So many bytes.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// Every writer has closed it.
    End,
}

/// A pipe, both ends close-on-exec; the writing end blocks, as a program expects of its output.
///
/// # Errors
/// As `pipe2(2)`.
pub fn pipe() -> nix::Result<(Reader, OwnedFd)> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((Reader(reader.into()), writer))
}

impl Reader {
    /// The number of the pipe itself, the same at both ends; 0 if it can't be told.
    #[must_use]
    pub fn inode(&self) -> u64 {
        self.0
            .metadata()
            .map_or(0, |meta| std::os::unix::fs::MetadataExt::ino(&meta))
    }

    /// Reads what is there, up to the size of `buffer`.
    pub fn read(&mut self, buffer: &mut [u8]) -> Input {
        for _ in 0..READ_TRIES {
            match self.0.read(buffer) {
                Ok(0) => return Input::End,
                Ok(count) => return Input::Bytes(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Input::Nothing,
                // Taken for an end it would cut off somebody who is still writing.
                Err(_) => {}
            }
        }
        Input::End
    }
}

impl AsRawFd for Reader {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
