//! Who holds a TCP port, and which processes match a filter: obstacles outside our services.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, bind, setsockopt, socket, sockopt,
};

use super::procfs::{all_pids, stat};
use crate::engine::Pid;

/// A listening socket in somebody's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The port.
    pub port: u16,
    /// Whose it is, if that can be seen.
    pub owner: Option<(Pid, String)>,
}

/// Who listens on `port`, if anybody does. Connections that use it, or wait for their time to
/// pass, are nobody's obstacle.
#[must_use]
pub fn holder(port: u16) -> Option<Holder> {
    if is_free(port) {
        return None;
    }
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| listening_inodes(&table, port))
        .collect();
    let owner = all_pids()
        .find(|pid| holds(*pid, &inodes))
        .and_then(|pid| Some((pid, stat(pid)?.name)));
    Some(Holder { port, owner })
}

/// Can it be bound? With `SO_REUSEADDR` only a listening socket is in the way (`socket(7)`). A port
/// that we may not bind tells nothing.
fn is_free(port: u16) -> bool {
    let addresses: [SocketAddr; 2] = [
        (Ipv6Addr::UNSPECIFIED, port).into(),
        (Ipv4Addr::UNSPECIFIED, port).into(),
    ];
    addresses
        .into_iter()
        .all(|address| try_bind(address) != Err(nix::Error::EADDRINUSE))
}

fn try_bind(address: SocketAddr) -> nix::Result<()> {
    let probe = |family| socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
    match address {
        SocketAddr::V4(address) => {
            let probe = probe(AddressFamily::Inet)?;
            setsockopt(&probe, sockopt::ReuseAddr, &true)?;
            bind(probe.as_raw_fd(), &SockaddrIn::from(address))
        }
        SocketAddr::V6(address) => {
            let probe = probe(AddressFamily::Inet6)?;
            setsockopt(&probe, sockopt::ReuseAddr, &true)?;
            setsockopt(&probe, sockopt::Ipv6V6Only, &true)?;
            bind(probe.as_raw_fd(), &SockaddrIn6::from(address))
        }
    }
}

/// The inodes of listening sockets on `port` in a table of `proc_pid_net(5)`.
#[must_use]
pub fn listening_inodes(table: &str, port: u16) -> Vec<String> {
    /// `TCP_LISTEN`.
    const LISTEN: &str = "0A";
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
        let matches =
            u16::from_str_radix(local_port, 16).ok()? == port && *fields.get(3)? == LISTEN;
        matches.then(|| fields.get(9).map(|inode| format!("socket:[{inode}]")))?
    };
    table.lines().skip(1).filter_map(row).collect()
}

fn holds(pid: Pid, sockets: &[String]) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    descriptors
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|target| {
            sockets
                .iter()
                .any(|socket| socket.as_bytes() == target.as_os_str().as_bytes())
        })
}

/// Processes whose name contains `filter`, in any case; not the server, not the kernel's threads.
#[must_use]
pub fn matching(filter: &str) -> Vec<(Pid, String)> {
    /// `kthreadd`, the parent of all kernel threads.
    const KTHREADD: i32 = 2;
    let filter = filter.to_ascii_lowercase();
    let own = std::process::id();
    all_pids()
        .filter(|pid| pid.number().unsigned_abs() != own)
        .filter_map(stat)
        .filter(|found| {
            !found.is_dead() && found.ppid != KTHREADD && found.pid.number() != KTHREADD
        })
        .filter(|found| found.name.to_ascii_lowercase().contains(&filter))
        .map(|found| (found.pid, found.name))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0
   1: 0100007F:1F90 0100007F:C001 01 00000000:00000000 00:00000000 00000000     0        0 4243 1 0
   2: 0100007F:1F90 0100007F:C002 06 00000000:00000000 03:00000000 00000000     0        0 0 3 0
garbage
";

    #[test]
    fn only_a_listening_socket_holds_a_port() {
        assert_eq!(listening_inodes(TABLE, 8080), ["socket:[4242]"]);
        assert!(listening_inodes(TABLE, 49153).is_empty());
        assert!(listening_inodes("", 8080).is_empty());
    }

    #[test]
    fn a_listener_of_our_own_is_found() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let port = listener.local_addr().expect("bound").port();
        let holder = holder(port).expect("held");
        assert_eq!(
            holder.owner.map(|(pid, _)| pid.number().unsigned_abs()),
            Some(std::process::id())
        );
    }
}
