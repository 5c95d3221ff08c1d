//! Where clients come in, and how this server is told from others.

use std::io;
use std::path::Path;

use crate::sys::ledger::{Entry, Ledger};
use crate::sys::socket::Listener;

/// Where clients come in, and what lies beside it.
pub(super) struct Door {
    pub(super) listener: Listener,
    pub(super) ledger: Ledger,
}

impl Door {
    pub(super) fn open(socket: &Path) -> io::Result<(Self, Vec<Entry>)> {
        let path = socket.display().to_string();
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"));
        let (ledger, left) = Ledger::take(socket).map_err(named)?;
        let listener = Listener::bind(socket).map_err(named)?;
        Ok((Self { listener, ledger }, left))
    }
}

/// What tells this server's processes from those of any other on the machine, in any namespace,
/// and is the same for the next server on the same socket: the directory of the socket, by device
/// and inode, and its name.
pub(super) fn server_mark(listener: Option<&Listener>) -> io::Result<String> {
    use std::hash::{DefaultHasher, Hash, Hasher};
    use std::os::unix::fs::MetadataExt;
    let Some(listener) = listener else {
        return Ok(format!("{:016x}", std::process::id()));
    };
    let path = listener.path();
    let dir = path
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let meta = std::fs::metadata(dir).map_err(|error| {
        let text = format!("{}: {error}", dir.display());
        io::Error::new(error.kind(), text)
    })?;
    let mut hasher = DefaultHasher::new();
    (meta.dev(), meta.ino(), path.file_name()).hash(&mut hasher);
    Ok(format!("{:016x}", hasher.finish()))
}
