//! The socket of `sd_notify(3)`: one for each run of a service, so that what comes over it is of
//! that run.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, UnixCredentials,
    bind, getsockname, recvmsg, setsockopt, socket, sockopt,
};

use crate::engine::Pid;

/// Longest datagram: as much as systemd takes.
const DATAGRAM_BYTES: usize = 4096;

/// Descriptors that one message can carry (`unix(7)`, SCM_RIGHTS).
const DESCRIPTORS_MOST: usize = 253;

/// A socket that datagrams with credentials come over.
#[derive(Debug)]
pub struct Datagrams {
    socket: OwnedFd,
}

/// A datagram, and who sent it as the kernel knows.
#[derive(Debug)]
pub struct Datagram {
    /// What it says.
    pub text: Vec<u8>,
    /// The process; none if it is in no namespace of ours.
    pub pid: Option<Pid>,
    /// Its user.
    pub uid: u32,
}

impl Datagrams {
    /// A socket with a name of its own in the abstract namespace (`unix(7)`), and that name as
    /// `NOTIFY_SOCKET` gives it. A new root directory does not hide it.
    ///
    /// # Errors
    /// As `socket(2)`.
    pub fn unnamed() -> io::Result<(Self, String)> {
        let datagrams = Self::new()?;
        bind(datagrams.socket.as_raw_fd(), &UnixAddr::new_unnamed())?;
        let address: UnixAddr = getsockname(datagrams.socket.as_raw_fd())?;
        let name = address.as_abstract().unwrap_or_default();
        let name = format!("@{}", String::from_utf8_lossy(name));
        Ok((datagrams, name))
    }

    /// A socket at this path, which anybody may write to.
    ///
    /// # Errors
    /// As `socket(2)` and `bind(2)`.
    pub fn at(path: &str) -> io::Result<Self> {
        let datagrams = Self::new()?;
        let _ = std::fs::remove_file(path);
        bind(datagrams.socket.as_raw_fd(), &UnixAddr::new(path)?)?;
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        std::fs::set_permissions(path, everybody)?;
        Ok(datagrams)
    }

    fn new() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
        setsockopt(&socket, sockopt::PassCred, &true)?;
        Ok(Self { socket })
    }

    /// The next datagram, if one is there. Longer ones are cut off; descriptors that come along
    /// are closed.
    pub fn take(&self) -> Option<Datagram> {
        let mut buffer = [0; DATAGRAM_BYTES];
        loop {
            // Room for all that one message can have: what is cut off would be left open.
            let mut space = cmsg_space!(UnixCredentials, [RawFd; DESCRIPTORS_MOST]);
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
            let number = self.socket.as_raw_fd();
            let (mut pid, mut uid, mut bytes) = (None, u32::MAX, 0);
            match recvmsg::<()>(number, &mut parts, Some(&mut space), flags) {
                Err(nix::Error::EINTR) => continue,
                Err(_) => return None,
                Ok(message) => {
                    bytes += message.bytes;
                    for control in message.cmsgs().into_iter().flatten() {
                        take_control(&control, &mut pid, &mut uid);
                    }
                }
            }
            let text = buffer[..bytes].to_vec();
            return Some(Datagram { text, pid, uid });
        }
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "there are more kinds of them than anybody sends"
)]
fn take_control(control: &ControlMessageOwned, pid: &mut Option<Pid>, uid: &mut u32) {
    match control {
        ControlMessageOwned::ScmCredentials(sender) => {
            (*pid, *uid) = (Pid::new(sender.pid()), sender.uid());
        }
        ControlMessageOwned::ScmRights(numbers) => {
            for number in numbers {
                let _ = nix::unistd::close(*number);
            }
        }
        _ => {}
    }
}

impl AsRawFd for Datagrams {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
