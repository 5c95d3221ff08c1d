//! What a health probe is about: targets as a service file writes them, and the first line of an
//! HTTP answer.

use core::net::SocketAddr;
use std::path::PathBuf;

/// Where a probe connects to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// This one.
    Ip(SocketAddr),
    /// A host to be looked up, and a port.
    Name(String, u16),
    /// A Unix socket.
    Unix(PathBuf),
}

/// What an HTTP probe asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Where.
    pub address: Address,
    /// The `Host` it names.
    pub host: String,
    /// The path and query.
    pub path: String,
    /// The connection would have to be encrypted; all that can be said is whether there is one.
    pub encrypted: bool,
}

impl Address {
    /// Reads `host:port`, `1.2.3.4:port`, `[::1]:port` or `unix:/path`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return path.starts_with('/').then(|| Self::Unix(path.into()));
        }
        if let Ok(address) = text.parse() {
            return Some(Self::Ip(address));
        }
        let (host, port) = text.rsplit_once(':')?;
        let is_name = |host: &str| {
            let mut bytes = host.bytes();
            !host.is_empty()
                && bytes.all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
        };
        is_name(host).then_some(Self::Name(host.to_owned(), port.parse().ok()?))
    }
}

impl Url {
    /// Reads `http://host:port/path`, the same without `http://`, or with `unix:/socket:` in the
    /// place of host and port.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (text, encrypted, usual) = match text.split_once("://") {
            Some(("http", rest)) => (rest, false, 80),
            Some(("https", rest)) => (rest, true, 443),
            Some(_) => return None,
            None => (text, false, 80),
        };
        let (address, host, path) = if let Some(rest) = text.strip_prefix("unix:") {
            let (socket, path) = rest.split_once(':').unwrap_or((rest, "/"));
            let address = Address::parse(&format!("unix:{socket}"))?;
            (address, "localhost", path)
        } else {
            let slash = text.find(['/', '?']).unwrap_or(text.len());
            let (host, path) = text.split_at(slash);
            let address =
                Address::parse(host).or_else(|| Address::parse(&format!("{host}:{usual}")))?;
            (address, host, path)
        };
        let root = if path.starts_with('/') { "" } else { "/" };
        // It stands in a line of the request, between blanks.
        let is_clean = path.bytes().all(|byte| byte.is_ascii_graphic());
        is_clean.then(|| Self {
            address,
            host: host.to_owned(),
            path: format!("{root}{path}"),
            encrypted,
        })
    }

    /// The request (RFC 9112).
    #[must_use]
    pub fn request(&self) -> String {
        format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: zinit/{}\r\nAccept: */*\r\nConnection: close\r\n\r\n",
            self.path,
            self.host,
            env!("CARGO_PKG_VERSION")
        )
    }
}

/// The status in the first line of an answer: none as long as the line is not whole.
///
/// # Errors
/// With what is wrong, if it is no answer of HTTP.
pub fn http_status(answer: &[u8]) -> Result<Option<u16>, String> {
    /// Longer first lines are nonsense.
    const LINE_MAX_BYTES: usize = 1024;
    // The same however it is cut: what is too long is so with its end, too.
    let begin = &answer[..answer.len().min(LINE_MAX_BYTES)];
    let Some(end) = begin.iter().position(|byte| *byte == b'\n') else {
        let fits = b"HTTP/1."
            .iter()
            .zip(answer)
            .all(|(known, byte)| known == byte);
        return if fits && answer.len() < LINE_MAX_BYTES {
            Ok(None)
        } else {
            Err("the answer is not HTTP".to_owned())
        };
    };
    let line = String::from_utf8_lossy(&answer[..end]);
    let mut words = line.trim_end().split(' ');
    let is_http = words.next().is_some_and(|word| word.starts_with("HTTP/1."));
    let status = words.next().filter(|_| is_http);
    // Three digits, and no other way to write a number.
    let status = status.filter(|status| status.len() == 3 && !status.starts_with(['0', '+']));
    match status.and_then(|status| status.parse().ok()) {
        Some(status) => Ok(Some(status)),
        None => Err("the answer is not HTTP".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        let ip = |text: &str| Some(Address::Ip(text.parse().unwrap()));
        assert_eq!(Address::parse("127.0.0.1:80"), ip("127.0.0.1:80"));
        assert_eq!(Address::parse("[::1]:80"), ip("[::1]:80"));
        let name = Some(Address::Name("db.local".to_owned(), 5432));
        assert_eq!(Address::parse("db.local:5432"), name);
        let unix = Some(Address::Unix("/run/x.sock".into()));
        assert_eq!(Address::parse("unix:/run/x.sock"), unix);
        for text in [
            "",
            "host",
            "host:",
            ":80",
            "host:70000",
            "unix:x",
            "a b:80",
            "::1:80",
        ] {
            assert_eq!(Address::parse(text), None, "{text}");
        }
    }

    #[test]
    fn urls_have_a_usual_port_and_path() {
        let read = |text: &str| {
            let url = Url::parse(text).unwrap();
            (url.address, url.host, url.path)
        };
        let host = |text: &str| text.to_owned();
        let ip = |text: &str| Address::Ip(text.parse().unwrap());
        assert_eq!(
            read("http://127.0.0.1/"),
            (ip("127.0.0.1:80"), host("127.0.0.1"), host("/"))
        );
        assert_eq!(
            read("127.0.0.1:8080/health?x=1"),
            (
                ip("127.0.0.1:8080"),
                host("127.0.0.1:8080"),
                host("/health?x=1")
            )
        );
        assert_eq!(
            read("http://[::1]:81?x"),
            (ip("[::1]:81"), host("[::1]:81"), host("/?x"))
        );
        assert_eq!(
            read("http://unix:/run/a.sock:/up"),
            (
                Address::Unix("/run/a.sock".into()),
                host("localhost"),
                host("/up")
            )
        );
        for text in [
            "ftp://x/",
            "http://",
            "http://a b/",
            "http://x:80/a b",
            "http://unix:/x:/a b",
            "http://unix:/x:/a\r\nX: y",
        ] {
            assert_eq!(Url::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_status_is_known_when_its_line_is_whole() {
        assert_eq!(http_status(b"HTTP/1.1 2"), Ok(None));
        assert_eq!(
            http_status(b"HTTP/1.1 204 No Content\r\nA: b"),
            Ok(Some(204))
        );
        assert_eq!(http_status(b"HTTP/1.0 500\n"), Ok(Some(500)));
        for text in [
            &b"SSH-2.0-x\r\n"[..],
            b"HTTP/1.1 abc\n",
            b"HTTP/1.1 0200\n",
            b"HTTP/1.1 +20\n",
            b"HTTP/1.1\n",
            b"\n",
            b"X",
        ] {
            assert!(http_status(text).is_err(), "{text:?}");
        }
        assert!(http_status(&[b'H'; 2000]).is_err());
    }
}
