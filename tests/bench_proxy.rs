//! Numbers, not judgements: a proxy of ours beside socat and systemd-socket-proxyd on loopback, in one
//! run. `cargo test --release --test bench_proxy -- --ignored --nocapture`.

#[path = "common/sandbox.rs"]
mod sandbox;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Instant;

use sandbox::{Sandbox, find_program, quoted, wait_until};

/// Rounds; what is told is the median.
const ROUNDS: usize = 5;

/// Answers each number with so many bytes.
fn backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        let block = vec![7u8; 1 << 20];
        for client in listener.incoming().flatten() {
            let block = block.clone();
            thread::spawn(move || serve(client, &block));
        }
    });
    address
}

fn serve(mut client: TcpStream, block: &[u8]) {
    let _ = client.set_nodelay(true);
    let mut word = [0; 8];
    while client.read_exact(&mut word).is_ok() {
        let mut left = usize::try_from(u64::from_be_bytes(word)).expect("a size");
        while left > 0 {
            let part = left.min(block.len());
            if client.write_all(&block[..part]).is_err() {
                return;
            }
            left -= part;
        }
    }
}

fn fetch(client: &mut TcpStream, bytes: u64, buffer: &mut [u8]) {
    client.write_all(&bytes.to_be_bytes()).expect("a request");
    let mut left = bytes;
    while left > 0 {
        let read = client.read(buffer).expect("an answer");
        assert!(read > 0, "the connection was closed");
        left -= read as u64;
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).expect("a connection");
    client.set_nodelay(true).expect("a socket");
    client
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// Megabytes a second over so many connections at once.
fn throughput(address: SocketAddr, connections: u64) -> f64 {
    const BYTES: u64 = 1 << 30;
    let begin = Instant::now();
    let each: Vec<_> = (0..connections)
        .map(|_| {
            thread::spawn(move || {
                let mut buffer = vec![0; 1 << 20];
                fetch(&mut connect(address), BYTES / connections, &mut buffer);
            })
        })
        .collect();
    for one in each {
        one.join().expect("a client");
    }
    BYTES as f64 / 1e6 / begin.elapsed().as_secs_f64()
}

/// Microseconds from a request to its answer on one connection.
fn round_trip(address: SocketAddr) -> f64 {
    const TIMES: u32 = 10_000;
    let mut client = connect(address);
    let mut buffer = [0; 256];
    fetch(&mut client, 100, &mut buffer);
    let begin = Instant::now();
    for _ in 0..TIMES {
        fetch(&mut client, 100, &mut buffer);
    }
    begin.elapsed().as_secs_f64() * 1e6 / f64::from(TIMES)
}

/// Connections a second, each with one request and one answer.
fn connections(address: SocketAddr) -> f64 {
    const TIMES: u32 = 500;
    let mut buffer = [0; 256];
    let begin = Instant::now();
    for _ in 0..TIMES {
        fetch(&mut connect(address), 100, &mut buffer);
    }
    f64::from(TIMES) / begin.elapsed().as_secs_f64()
}

fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

#[test]
#[ignore = "a benchmark"]
fn a_proxy_beside_others() {
    let mut sandbox = Sandbox::new();
    let backend = backend();
    let mut rivals = vec![("no proxy", backend)];
    let own = free();
    let lines = format!("listen = \"tcp:{own}\"\nbackend = \"tcp:{backend}\"\nservice = \"none\"");
    sandbox.file("front.toml", &format!("[xinet]\nname = \"front\"\n{lines}"));
    rivals.push(("zinit", own));
    match find_program("socat") {
        Some(socat) => {
            let at = free();
            let listen = format!(
                "TCP-LISTEN:{},bind=127.0.0.1,fork,reuseaddr,nodelay",
                at.port()
            );
            let words = [
                &*socat.to_string_lossy(),
                &listen,
                &format!("TCP:{backend},nodelay"),
            ]
            .map(quoted)
            .join(", ");
            sandbox.service("socat", &format!("exec = [{words}]"));
            rivals.push(("socat", at));
        }
        None => println!("socat is missing: apt-get install socat"),
    }
    let proxyd = Path::new("/lib/systemd/systemd-socket-proxyd");
    if proxyd.exists() {
        let at = free();
        let words = [&*proxyd.to_string_lossy(), &backend.to_string()]
            .map(quoted)
            .join(", ");
        let body = format!("exec = [{words}]\n[socket]\nlisten = \"tcp:{at}\"");
        sandbox.service("proxyd", &body);
        rivals.push(("systemd-socket-proxyd", at));
    } else {
        println!("systemd-socket-proxyd is missing: apt-get install systemd");
    }
    sandbox.start();
    for (name, address) in &rivals {
        assert!(
            wait_until(|| TcpStream::connect(address).is_ok()),
            "{name} does not listen"
        );
    }
    println!(
        "{:24}{:>12}{:>12}{:>14}{:>16}",
        "", "MB/s, 1", "MB/s, 8", "answer, µs", "connections/s"
    );
    type Measure = fn(SocketAddr) -> f64;
    let measures: [Measure; 4] = [
        |address| throughput(address, 1),
        |address| throughput(address, 8),
        round_trip,
        connections,
    ];
    let mut found = vec![[const { Vec::new() }; 4]; rivals.len()];
    // By turns, so that what else the machine does meanwhile is no matter.
    for _ in 0..ROUNDS {
        for (place, measure) in measures.iter().enumerate() {
            for (found, (_, address)) in found.iter_mut().zip(&rivals) {
                found[place].push(measure(*address));
            }
        }
    }
    for ((name, _), found) in rivals.iter().zip(found) {
        let [one, eight, answer, connections] = found.map(median);
        println!("{name:24}{one:>12.0}{eight:>12.0}{answer:>14.1}{connections:>16.0}");
    }
}
