//! Where somebody listens: `tcp:HOST:PORT` or `unix:/PATH`.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Component, Path, PathBuf};

/// Longest path of a Unix socket (`unix(7)`).
const PATH_MAX_BYTES: usize = 107;

/// Where a stream socket listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket in the file system.
    Unix(PathBuf),
}

impl Address {
    /// Reads `tcp:127.0.0.1:80`, `unix:/run/x.sock`, or either without its prefix, as older clients
    /// send them. `localhost` is `127.0.0.1`, and `*`, or nothing, each IPv4 address of the machine.
    ///
    /// # Errors
    /// With what is wrong and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Self::unix(path);
        }
        match text.strip_prefix("tcp:") {
            Some(rest) => Self::tcp(rest),
            None if text.contains('/') => Self::unix(text),
            None => Self::tcp(text),
        }
    }

    /// Does whoever connects to `other` come to whoever listens here?
    #[must_use]
    pub fn is_reached_by(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp(here), Self::Tcp(other)) => {
                let any = here.ip().is_unspecified() && (here.is_ipv6() || other.is_ipv4());
                here.port() == other.port() && (any || here.ip() == other.ip())
            }
            (Self::Unix(here), Self::Unix(other)) => plain(here) == plain(other),
            (Self::Tcp(_), Self::Unix(_)) | (Self::Unix(_), Self::Tcp(_)) => false,
        }
    }

    fn unix(path: &str) -> Result<Self, String> {
        if !path.starts_with('/') || path.ends_with('/') {
            return Err(format!(
                "'{path}' is no path of a socket; it begins with a '/'"
            ));
        }
        if path.len() > PATH_MAX_BYTES || path.contains('\0') {
            let most = PATH_MAX_BYTES;
            return Err(format!(
                "'{path}' is no path of a socket; it has at most {most} bytes"
            ));
        }
        Ok(Self::Unix(path.into()))
    }

    fn tcp(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Tcp(address));
        }
        let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
        let ip: Option<IpAddr> = match host {
            "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
            "*" | "" => Some(Ipv4Addr::UNSPECIFIED.into()),
            host => host.parse().ok(),
        };
        match (ip, port.parse()) {
            (Some(ip), Ok(port)) => Ok(Self::Tcp(SocketAddr::new(ip, port))),
            (_, Err(_)) => Err(format!(
                "'{text}' is no address; it is tcp:HOST:PORT or unix:/PATH"
            )),
            (None, _) => Err(format!(
                "'{host}' is no address; names are not looked up, so it is an IP address or localhost"
            )),
        }
    }
}

/// A path without detours.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => plain.push(part),
        }
    }
    plain
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_written() {
        for (text, written) in [
            ("tcp:127.0.0.1:80", "tcp:127.0.0.1:80"),
            ("127.0.0.1:80", "tcp:127.0.0.1:80"),
            ("localhost:80", "tcp:127.0.0.1:80"),
            ("tcp::80", "tcp:0.0.0.0:80"),
            ("*:80", "tcp:0.0.0.0:80"),
            ("[::1]:80", "tcp:[::1]:80"),
            ("unix:/run/a b", "unix:/run/a b"),
            ("/run/x", "unix:/run/x"),
        ] {
            let address = Address::parse(text).expect(text);
            assert_eq!(address.to_string(), written, "{text}");
            assert_eq!(Address::parse(written), Ok(address), "{written}");
        }
        for text in [
            "",
            "80",
            "tcp:80",
            "host:80",
            "unix:run",
            "unix:/run/",
            "127.0.0.1:70000",
            "tcp:/run/x",
        ] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
        assert!(Address::parse(&format!("unix:/{}", "x".repeat(107))).is_err());
    }
}
