//! Where clients come in, and how this server is told from others.

use std::io;
use std::path::Path;

use mio::{Interest, Registry};

use super::Reactor;
use super::place::Place;
use crate::sys::ledger::{Entry, Ledger};
use crate::sys::procfs;
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

    /// Makes anew what is not there any more.
    fn renew(&mut self, registry: &Registry) -> io::Result<()> {
        let socket = self.listener.path().to_owned();
        let path = socket.display().to_string();
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"));
        if !self.ledger.is_there() {
            self.ledger = Ledger::take(&socket).map_err(named)?.0;
        }
        if !self.listener.is_there() {
            self.listener = Listener::bind(&socket).map_err(named)?;
            let token = Place::Listener.token();
            registry.register(&mut self.listener.socket, token, Interest::READABLE)?;
        }
        Ok(())
    }
}

impl Reactor {
    /// Makes the socket anew if somebody has deleted its file, and the same with what lies beside it.
    /// Who is connected stays so.
    pub(super) fn renew_door(&mut self) {
        let Some(door) = &mut self.door else { return };
        if door.listener.is_there() && door.ledger.is_there() {
            return;
        }
        if let Err(error) = door.renew(self.poll.registry()) {
            return log::error!("the socket can't be made anew: {error}");
        }
        let all = self.supervisor.services();
        let mains = all.filter_map(|(service, found)| Some((service, found.state().pid()?, found)));
        for (service, pid, found) in mains {
            let Some(main) = procfs::stat(pid) else {
                continue;
            };
            if let Err(error) = door.ledger.note(service.index(), &main, found.spec()) {
                log::warn!("the ledger beside the socket: {error}");
            }
        }
        let path = door.listener.path().display();
        log::warn!("{path} was gone and is made anew");
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
