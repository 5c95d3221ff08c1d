//! The server's Unix socket (`unix(7)`).

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::poll::poll;
use nix::sys::stat::{Mode, umask};

/// How often the lock of a socket is tried before another server is believed to have it.
const LOCK_TRIES: usize = 20;

/// Milliseconds between two tries.
const LOCK_PAUSE_MS: u8 = 10;

/// A listening socket that is ours alone. The file goes with it.
#[derive(Debug)]
pub struct Listener {
    /// What mio polls.
    pub socket: mio::net::UnixListener,
    path: PathBuf,
    /// Held for as long as we live: two servers that start at once can't both have it.
    _lock: Flock<File>,
}

impl Listener {
    /// Listens at `path`, mode 0660; makes the directories on the way. A socket file that nobody
    /// listens on any more is replaced.
    ///
    /// # Errors
    /// If another server lives there, if the file is no socket, or as the system says.
    pub fn bind(path: &Path) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let lock = lock(path)?;
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
        let socket = bound?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: mio::net::UnixListener::from_std(socket),
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(lock_path(&self.path));
    }
}

fn lock(path: &Path) -> io::Result<Flock<File>> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(lock_path(path))?;
    let mut file = file;
    for _ in 0..LOCK_TRIES {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, nix::Error::EWOULDBLOCK)) => file = back,
            Err((_, errno)) => return Err(errno.into()),
        }
        // The last child of a server that was killed may hold it for a moment longer.
        poll(&mut [], LOCK_PAUSE_MS)?;
    }
    Err(taken())
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn taken() -> io::Error {
    other(io::ErrorKind::AddrInUse, "another server listens there")
}

fn other(kind: io::ErrorKind, text: &str) -> io::Error {
    io::Error::new(kind, text)
}
