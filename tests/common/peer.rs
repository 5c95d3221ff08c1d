//! Who answers probes of health, for better or worse: a thread of the test that listens on a socket.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What is sent at most of what never ends.
pub(crate) const GIGABYTE: u64 = 1 << 30;

/// What is said to who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// An answer of HTTP, whole and short.
    Status(u16),
    /// Any text.
    Text(&'static str),
    /// Half of a first line, and the connection stays open.
    HalfWay,
    /// Nothing, and the connection stays open.
    Silence,
    /// The connection is closed.
    Farewell,
    /// This, and a gigabyte more.
    Endless(&'static str),
}

/// A server of one thread.
pub(crate) struct Peer {
    shared: Arc<Shared>,
    wake: Wake,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    answer: Mutex<Answer>,
    requests: Mutex<Vec<String>>,
    sent: AtomicU64,
    ended: AtomicBool,
}

enum Wake {
    Tcp(std::net::SocketAddr),
    Unix(PathBuf),
}

trait Stream: Read + Write {}
impl Stream for TcpStream {}
impl Stream for UnixStream {}

impl Peer {
    /// One that listens on an address, such as `127.0.0.1:0`.
    pub(crate) fn on(address: &str, answer: Answer) -> Self {
        let listener = TcpListener::bind(address);
        let listener = listener.unwrap_or_else(|error| panic!("{address}: {error}"));
        let wake = Wake::Tcp(
            listener
                .local_addr()
                .expect("a bound socket has an address"),
        );
        Self::run(wake, answer, move || {
            let (stream, _) = listener.accept().expect("a connection");
            Box::new(stream)
        })
    }

    /// One on this machine.
    pub(crate) fn local(answer: Answer) -> Self {
        Self::on("127.0.0.1:0", answer)
    }

    /// One that listens on a Unix socket.
    pub(crate) fn at(path: &Path, answer: Answer) -> Self {
        let listener = UnixListener::bind(path).expect("a place for a socket");
        Self::run(Wake::Unix(path.to_owned()), answer, move || {
            let (stream, _) = listener.accept().expect("a connection");
            Box::new(stream)
        })
    }

    fn run(
        wake: Wake,
        answer: Answer,
        accept: impl Fn() -> Box<dyn Stream> + Send + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            answer: Mutex::new(answer),
            requests: Mutex::default(),
            sent: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        let own = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let mut open = Vec::new();
            loop {
                let stream = accept();
                if own.ended.load(Ordering::SeqCst) {
                    return;
                }
                open.extend(own.serve(stream));
            }
        });
        Self {
            shared,
            wake,
            thread: Some(thread),
        }
    }

    /// Where it listens, if that is a port.
    pub(crate) fn port(&self) -> u16 {
        match &self.wake {
            Wake::Tcp(address) => address.port(),
            Wake::Unix(path) => panic!("{} is no port", path.display()),
        }
    }

    /// A URL of it.
    pub(crate) fn url(&self) -> String {
        match &self.wake {
            Wake::Tcp(address) => format!("http://{address}/health"),
            Wake::Unix(path) => format!("http://unix:{}:/health", path.display()),
        }
    }

    /// From now on it answers so.
    pub(crate) fn answers(&self, answer: Answer) {
        *self.shared.answer.lock().expect("nobody panics with it") = answer;
    }

    /// What it was asked first.
    pub(crate) fn first_request(&self) -> String {
        let requests = self.shared.requests.lock().expect("nobody panics with it");
        requests.first().cloned().unwrap_or_default()
    }

    /// How much was taken of what never ends, at most.
    pub(crate) fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::SeqCst)
    }
}

impl Shared {
    /// Answers once. A connection that is to stay open is given back.
    fn serve(&self, mut stream: Box<dyn Stream>) -> Option<Box<dyn Stream>> {
        let answer = *self.answer.lock().expect("nobody panics with it");
        let mut request = Vec::new();
        let mut buffer = [0; 1024];
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read(&mut buffer) {
                // Only a connection was wanted.
                Ok(0) | Err(_) => return None,
                Ok(count) => request.extend_from_slice(&buffer[..count]),
            }
        }
        let request = String::from_utf8_lossy(&request).into_owned();
        self.requests
            .lock()
            .expect("nobody panics with it")
            .push(request);
        match answer {
            Answer::Status(code) => {
                let text = format!("HTTP/1.1 {code} Word\r\nContent-Length: 3\r\n\r\nok\n");
                let _ = stream.write_all(text.as_bytes());
                None
            }
            Answer::Text(text) => {
                let _ = stream.write_all(text.as_bytes());
                None
            }
            Answer::HalfWay => {
                let _ = stream.write_all(b"HTTP/1.1 20");
                Some(stream)
            }
            Answer::Silence => Some(stream),
            Answer::Farewell => None,
            Answer::Endless(head) => {
                let _ = stream.write_all(head.as_bytes());
                let piece = [b'x'; 65536];
                let mut sent = 0;
                while sent < GIGABYTE && stream.write_all(&piece).is_ok() {
                    sent += 65536;
                }
                self.sent.fetch_max(sent, Ordering::SeqCst);
                None
            }
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        let woken = match &self.wake {
            Wake::Tcp(address) => TcpStream::connect(address).is_ok(),
            Wake::Unix(path) => UnixStream::connect(path).is_ok(),
        };
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            let _ = thread.join();
        }
    }
}
