//! The server's Unix socket (`unix(7)`).

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::libc;
use nix::sys::socket::{Backlog, listen};
use nix::sys::stat::{Mode, umask};

/// Connections that may wait to be taken. Whoever comes waits behind them all, so a long queue that
/// somebody has filled would keep others out for as long.
const BACKLOG: i32 = 128;

/// A listening socket that is ours alone. The file goes with it.
#[derive(Debug)]
pub struct Listener {
    /// What mio polls.
    pub socket: mio::net::UnixListener,
    path: PathBuf,
    /// Device and inode of the file.
    file: Option<(u64, u64)>,
}

impl Listener {
    /// Listens at `path`, mode 0660. A socket file that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// If another server lives there, if the file is no socket, or as the system says.
    pub fn bind(path: &Path) -> io::Result<Self> {
        can_accept()?;
        if let Ok(meta) = fs::symlink_metadata(path) {
            if !meta.file_type().is_socket() {
                return Err(other(
                    io::ErrorKind::AlreadyExists,
                    "the file is there and is no socket",
                ));
            }
            match UnixStream::connect(path) {
                Ok(_) => return Err(taken()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    fs::remove_file(path)?;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        // Bound with this mask the file never has more rights than it shall have.
        let before = umask(Mode::from_bits_truncate(0o117));
        let bound = UnixListener::bind(path);
        umask(before);
        let ready = bound.and_then(|socket| {
            listen(&socket, Backlog::new(BACKLOG)?)?;
            socket.set_nonblocking(true).map(|()| socket)
        });
        let socket = ready.inspect_err(|error| {
            // The file may be there already; it goes, unless somebody else was first.
            if error.kind() != io::ErrorKind::AddrInUse {
                let _ = fs::remove_file(path);
            }
        })?;
        Ok(Self {
            socket: mio::net::UnixListener::from_std(socket),
            path: path.to_owned(),
            file: identity(path),
        })
    }

    /// Is the file there, and still the one that was made?
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.file.is_some() && self.file == identity(&self.path)
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.is_there() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Device and inode of what stands at that path.
pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    let meta = fs::symlink_metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

/// Says now if connections can't be taken at all, which would be found out by the first of them:
/// with no socket, all that may be wrong is that (`accept4(2)`, Linux 2.6.28).
fn can_accept() -> io::Result<()> {
    let none = std::ptr::null_mut();
    // SAFETY: no descriptor has this number, and nothing is written without one.
    let accepted = unsafe { libc::accept4(-1, none, none.cast(), 0) };
    match nix::Error::result(accepted) {
        Err(errno @ (nix::Error::ENOSYS | nix::Error::EPERM)) => {
            let text = format!("accept: {}", errno.desc());
            Err(other(io::ErrorKind::Unsupported, &text))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Another server lives there.
pub(super) fn taken() -> io::Error {
    other(io::ErrorKind::AddrInUse, "another server listens there")
}

fn other(kind: io::ErrorKind, text: &str) -> io::Error {
    io::Error::new(kind, text)
}
