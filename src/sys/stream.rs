//! Stream sockets, of TCP and of the file system (`tcp(7)`, `unix(7)`), that never wait.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    self, AddressFamily, Backlog, Shutdown, SockFlag, SockProtocol, SockType, SockaddrStorage,
    UnixAddr, accept4, getsockopt, setsockopt, sockopt,
};
use nix::sys::stat::{Mode, umask};

use crate::engine::Address;

/// Listens there. A Unix socket gets this mode, and replaces one that nobody listens on any more.
///
/// # Errors
/// As the system says; [`io::ErrorKind::AddrInUse`] if somebody listens there.
pub fn listen(address: &Address, mode: u32) -> io::Result<OwnedFd> {
    if let Address::Unix(path) = address {
        clear(path)?;
    }
    let socket = open(address)?;
    match address {
        Address::Tcp(address) => {
            setsockopt(&socket, sockopt::ReuseAddr, &true)?;
            socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(*address))?;
        }
        Address::Unix(path) => {
            // Bound with this mask the file never has more rights than it shall have.
            let before = umask(Mode::from_bits_truncate(!mode & 0o777));
            let bound = socket::bind(socket.as_raw_fd(), &UnixAddr::new(path)?);
            umask(before);
            bound?;
        }
    }
    // As many may wait to be taken as the kernel allows (`listen(2)`). A number of our own would have to
    // please the C library too, whose idea of the most differs.
    if let Err(errno) = socket::listen(&socket, Backlog::MAXALLOWABLE) {
        remove(address);
        return Err(errno.into());
    }
    Ok(socket)
}

/// Removes the file of a socket, if it is one.
pub fn remove(address: &Address) {
    if let Address::Unix(path) = address
        && is_socket(path)
    {
        let _ = fs::remove_file(path);
    }
}

/// Gives the file of a Unix socket another mode.
///
/// # Errors
/// As `chmod(2)`.
pub fn set_mode(address: &Address, mode: u32) -> io::Result<()> {
    match address {
        Address::Unix(path) if is_socket(path) => {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
        }
        Address::Unix(_) | Address::Tcp(_) => Ok(()),
    }
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}

/// Makes way for a socket, unless somebody listens there.
fn clear(path: &Path) -> io::Result<()> {
    if !is_socket(path) {
        return Ok(());
    }
    match connect(&Address::Unix(path.to_owned())) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // A full queue is one that somebody has.
        Ok(_) | Err(_) => Err(in_use()),
    }
}

/// Somebody listens there.
#[must_use]
pub fn in_use() -> io::Error {
    io::Error::from_raw_os_error(nix::libc::EADDRINUSE)
}

fn open(address: &Address) -> nix::Result<OwnedFd> {
    let family = match address {
        Address::Unix(_) => AddressFamily::Unix,
        Address::Tcp(SocketAddr::V4(_)) => AddressFamily::Inet,
        Address::Tcp(SocketAddr::V6(_)) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let protocol: Option<SockProtocol> = None;
    socket::socket(family, SockType::Stream, flags, protocol)
}

/// The next connection of a listening socket.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] if there is none, else as `accept(2)`.
pub fn accept(listener: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let number = accept4(listener.as_raw_fd(), flags)?;
    // SAFETY: the kernel just gave us this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Begins to connect. Whether that works shows when the socket can be written to.
///
/// # Errors
/// As `connect(2)`; [`io::ErrorKind::WouldBlock`] if the queue of a Unix socket is full.
pub fn connect(address: &Address) -> io::Result<OwnedFd> {
    let socket = open(address)?;
    let number = socket.as_raw_fd();
    let begun = match address {
        Address::Tcp(address) => socket::connect(number, &SockaddrStorage::from(*address)),
        Address::Unix(path) => socket::connect(number, &UnixAddr::new(path)?),
    };
    match begun {
        Ok(()) | Err(nix::Error::EINPROGRESS) if is_itself(&socket, address) => {
            Err(io::ErrorKind::ConnectionRefused.into())
        }
        Ok(()) | Err(nix::Error::EINPROGRESS) => Ok(socket),
        Err(errno) => Err(errno.into()),
    }
}

/// Where nobody listens, a socket may get that very port as its own and be connected to itself.
fn is_itself(socket: &OwnedFd, address: &Address) -> bool {
    let Address::Tcp(address) = address else {
        return false;
    };
    let own = socket::getsockname::<SockaddrStorage>(socket.as_raw_fd());
    own.is_ok_and(|own| own == SockaddrStorage::from(*address))
}

/// Is there a connection already? On one machine there is, as a rule, as soon as it is begun.
#[must_use]
pub fn is_connected(socket: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    let ready = poll(&mut polled, PollTimeout::ZERO);
    ready == Ok(1) && polled[0].revents() == Some(PollFlags::POLLOUT)
}

/// What became of a connection that was begun.
///
/// # Errors
/// What kept it from being made, or broke it.
pub fn check(socket: &OwnedFd) -> io::Result<()> {
    match getsockopt(socket, sockopt::SocketError)? {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// What is sent is sent at once; a proxy has no use for waiting for more. Unix sockets do so anyway.
pub fn send_at_once(socket: &OwnedFd) {
    let _ = setsockopt(socket, sockopt::TcpNoDelay, &true);
}

/// Tells the other side that nothing more comes.
pub fn end(socket: &OwnedFd) {
    let _ = socket::shutdown(socket.as_raw_fd(), Shutdown::Write);
}

/// Ends it both ways, whoever else has it open.
pub fn end_both(socket: &OwnedFd) {
    let _ = socket::shutdown(socket.as_raw_fd(), Shutdown::Both);
}

/// Throws away what has come, up to about so many bytes. Says whether there may be more.
pub fn discard(socket: &OwnedFd, most: usize) -> bool {
    let mut buffer = [0; 16 << 10];
    let mut left = most;
    while left > 0 {
        match nix::unistd::read(socket, &mut buffer) {
            Ok(0) => return false,
            Ok(count) => left = left.saturating_sub(count),
            Err(nix::Error::EINTR) => {}
            Err(_) => return false,
        }
    }
    true
}

/// Does a call on it wait? All who have the socket share this.
///
/// # Errors
/// As `fcntl(2)`.
pub fn set_waiting(socket: BorrowedFd<'_>, waits: bool) -> nix::Result<()> {
    let flags = if waits {
        OFlag::empty()
    } else {
        OFlag::O_NONBLOCK
    };
    fcntl(socket.as_fd(), FcntlArg::F_SETFL(flags)).map(drop)
}
