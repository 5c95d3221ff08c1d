//! Clients and backends of proxies: threads of the test.

#![allow(dead_code, reason = "each test file uses the part of it that it needs")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use serde_json::Value;

pub(crate) use super::sandbox::free_port;
use super::sandbox::{PATIENCE, Sandbox, wait_until};

/// A client that does not wait without end.
pub(crate) fn dial(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the proxy listens");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The same at a file.
pub(crate) fn dial_at(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).expect("the proxy listens");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends back what comes, from each client in a thread of its own. It ends with the test.
pub(crate) fn echo(listener: TcpListener) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut back = stream.try_clone().unwrap();
                let _ = std::io::copy(&mut &stream, &mut back);
                let _ = stream.shutdown(Shutdown::Write);
            });
        }
    });
}

/// A backend that sends back what comes; its address.
pub(crate) fn echoes() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    echo(listener);
    format!("tcp:127.0.0.1:{port}")
}

/// Says a word, ends, and reads all that comes back.
pub(crate) fn exchange(mut stream: TcpStream, word: &str) -> String {
    let sent = stream.write_all(word.as_bytes());
    let sent = sent.and_then(|()| stream.shutdown(Shutdown::Write));
    let mut back = String::new();
    let read = sent.and_then(|()| stream.read_to_string(&mut back));
    match read {
        Ok(_) => back,
        Err(error) => format!("{back}: {error}"),
    }
}

/// What is told of one proxy.
pub(crate) fn account(sandbox: &Sandbox, name: &str) -> Value {
    let all = sandbox.ask("xinet.status_all", Value::Null);
    let mut all = all.as_array().unwrap().iter();
    let found = all.find(|one| one["name"] == name);
    found.expect("the proxy is told of").clone()
}

/// Waits until so many clients are with a proxy.
pub(crate) fn await_active(sandbox: &Sandbox, name: &str, count: u64) {
    let active = || account(sandbox, name)["active_connections"].clone();
    assert!(wait_until(|| active() == count), "{} active", active());
}

/// The members of a definition of a proxy for `service` at this port.
pub(crate) fn door(port: u16, backend: &str, service: &str) -> Value {
    serde_json::json!({"name": "door", "listen": format!("127.0.0.1:{port}"),
                       "backend": backend, "service": service})
}

/// The same with one more member.
pub(crate) fn with(mut params: Value, member: &str, value: impl Into<Value>) -> Value {
    params[member] = value.into();
    params
}

/// Is the other side gone, with nothing said?
pub(crate) fn is_turned_away(mut stream: impl Read) -> bool {
    match stream.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}
