//! Who is at the other end of a Unix socket (`SO_PEERCRED`, `SO_PEERGROUPS`, `socket(7)`).

use std::os::fd::{AsFd, AsRawFd};

use nix::libc;
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Gid, Group, Uid, User};

/// Somebody who has connected, as he was then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// His process, in our eyes; 0 if it is not to be seen.
    pub pid: i32,
    /// His user.
    pub uid: u32,
    /// His groups.
    pub gids: Vec<u32>,
}

/// Groups that are asked for; who has more is known by the first.
const GROUPS_MAX: usize = 1024;

impl Peer {
    /// Who has connected.
    ///
    /// # Errors
    /// As `getsockopt(2)`.
    pub fn of(socket: &impl AsFd) -> nix::Result<Self> {
        let known = getsockopt(&socket.as_fd(), sockopt::PeerCredentials)?;
        let mut peer = Self {
            pid: known.pid(),
            uid: known.uid(),
            gids: vec![known.gid()],
        };
        // Nobody asks for the groups of who may do everything.
        if !peer.is_master() {
            peer.gids.extend(supplementary(socket));
        }
        Ok(peer)
    }

    /// May he do what the server itself may?
    #[must_use]
    pub fn is_master(&self) -> bool {
        self.uid == 0 || self.uid == Uid::effective().as_raw()
    }
}

/// His groups beside the first; none on a kernel before 4.13.
fn supplementary(socket: &impl AsFd) -> Vec<u32> {
    let mut gids = vec![0u32; GROUPS_MAX];
    let size = gids.len() * size_of::<u32>();
    let mut bytes = libc::socklen_t::try_from(size).unwrap_or(0);
    // SAFETY: the kernel writes at most as many bytes as it is told there are, and says how many.
    let code = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            gids.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    };
    let count = if code == 0 {
        bytes as usize / size_of::<u32>()
    } else {
        0
    };
    gids.truncate(count);
    gids
}

/// The number of a user, by name or number.
#[must_use]
pub fn uid_of(name: &str) -> Option<u32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    Some(User::from_name(name).ok()??.uid.as_raw())
}

/// The number of a group, by name or number.
#[must_use]
pub fn gid_of(name: &str) -> Option<u32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    Some(Group::from_name(name).ok()??.gid.as_raw())
}

/// The group of what the server makes.
#[must_use]
pub fn own_gid() -> u32 {
    Gid::effective().as_raw()
}

/// Gives a file to a group.
///
/// # Errors
/// As `chown(2)`.
pub fn give_to_group(path: &std::path::Path, gid: u32) -> nix::Result<()> {
    nix::unistd::chown(path, None, Some(Gid::from_raw(gid)))
}
