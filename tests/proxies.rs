//! Proxies (`xinet.*`) against the real server: who comes while a service is down or on its way, what
//! goes through, what it costs, and what becomes of it when definitions change or descriptors run out.

#[path = "common/dial.rs"]
mod dial;
#[path = "common/sandbox.rs"]
mod sandbox;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use sandbox::{Connection, PATIENCE, Sandbox, quoted, stat_field, wait_until};
use serde_json::{Value, json};

/// A service that has nothing to do with the backend: the tests listen there themselves.
const WAITS: &str = "exec = [\"sleep\", \"1000\"]\nstatus = \"stop\"";

/// Processor time of the server so far, in ticks of a hundredth of a second.
fn used(sandbox: &Sandbox) -> i32 {
    let field = |place| stat_field(sandbox.server_pid(), place).unwrap();
    field(14) + field(15)
}

/// Ticks that the server uses while a second goes by for a process: it has to be far from all.
fn used_in_a_second(sandbox: &Sandbox) -> i32 {
    let before = used(sandbox);
    sandbox.done("service.start", "second");
    used(sandbox) - before
}

/// The service whose start takes a second.
fn add_second(sandbox: &Sandbox) {
    sandbox.service(
        "second",
        "exec = [\"sleep\", \"1\"]\noneshot = true\nstatus = \"stop\"",
    );
}

/// A program that is ready when the file `go` is there.
fn waits_for_go() -> String {
    let exec = "while ! test -e $DIR/go; do sleep 0.02; done; echo go; exec sleep 1000";
    let exec = quoted(exec);
    format!("exec = {exec}\nstatus = \"stop\"\n[readiness]\ntype = \"log\"\ntext = \"go\"")
}

/// The first client starts the service, those after it find it up, and all is counted.
#[test]
fn clients_start_the_service_and_are_counted() {
    let mut sandbox = Sandbox::new();
    sandbox.service("plain", WAITS);
    sandbox.start();
    let port = free_port();
    sandbox.ask(
        "xinet.set",
        json!({"name": "door", "listen": format!("127.0.0.1:{port}"),
               "backend": echoes(), "service": "plain"}),
    );
    assert_eq!(sandbox.state("plain"), "inactive");
    assert_eq!(exchange(dial(port), "one"), "one");
    assert_eq!(sandbox.state("plain"), "running");
    assert_eq!(exchange(dial(port), "three"), "three");
    await_active(&sandbox, "door", 0);
    let told = account(&sandbox, "door");
    assert_eq!(told["total_connections"], 2, "{told}");
    assert_eq!(told["bytes_to_backend"], 8, "{told}");
    assert_eq!(told["bytes_from_backend"], 8, "{told}");
}

/// While a service is on its way up nothing is to be done for those who wait, however the one before
/// them fared.
#[test]
fn waiting_for_a_start_takes_no_processor_time() {
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    sandbox.service("slow", &waits_for_go());
    add_second(&sandbox);
    sandbox.start();
    let (port, backend) = (sandbox.path("door"), free_port());
    let set = |seconds: u32| {
        sandbox.ask(
            "xinet.set",
            json!({"name": "door", "listen": format!("unix:{}", port.display()),
                   "backend": format!("127.0.0.1:{backend}"), "service": "slow",
                   "connect_timeout": seconds}),
        );
    };
    set(1);
    // The first one finds a service that runs, and nobody at the backend.
    fs::write(sandbox.path("go"), "").unwrap();
    sandbox.done("service.start", "slow");
    assert_eq!(dial_at(&port).read(&mut [0]).ok(), Some(0), "turned away");
    assert!(sandbox.log().contains("Connection refused"));
    set(30);
    fs::remove_file(sandbox.path("go")).unwrap();
    sandbox.done("service.stop", "slow");

    // The second one waits for the start.
    let mut second = dial_at(&port);
    await_active(&sandbox, "door", 1);
    sandbox.wait_state("slow", "starting");
    let ticks = used_in_a_second(&sandbox);
    echo(TcpListener::bind((Ipv4Addr::LOCALHOST, backend)).unwrap());
    fs::write(sandbox.path("go"), "").unwrap();
    second.write_all(b"word").unwrap();
    second.shutdown(Shutdown::Write).unwrap();
    let mut back = String::new();
    second.read_to_string(&mut back).unwrap();
    assert_eq!(back, "word");
    assert!(ticks < 50, "{ticks} of a hundred ticks");
}

/// A service that failed is tried again by the next client.
#[test]
fn the_next_client_is_another_try() {
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    let exec = quoted("test -e $DIR/right && echo go && exec sleep 1000; exit 1");
    let body = format!(
        "exec = {exec}\nstatus = \"stop\"\n[readiness]\ntype = \"log\"\ntext = \"go\"\n\
         [lifecycle]\nrestart = \"never\""
    );
    sandbox.service("wrong", &body);
    sandbox.start();
    let port = free_port();
    sandbox.ask(
        "xinet.set",
        json!({"name": "door", "listen": format!("127.0.0.1:{port}"),
               "backend": echoes(), "service": "wrong"}),
    );
    assert_eq!(dial(port).read(&mut [0]).ok(), Some(0), "turned away");
    fs::write(sandbox.path("right"), "").unwrap();
    assert_eq!(exchange(dial(port), "word"), "word");
}

/// With fewer descriptors than clients, all are served in their turn, others are answered, and the
/// log is not filled.
#[test]
fn more_clients_than_descriptors_are_served_in_turn() {
    let mut sandbox = Sandbox::new();
    sandbox.wrap(&["sh", "-c", "ulimit -n 64; exec \"$0\" \"$@\""]);
    sandbox.service("plain", WAITS);
    sandbox.start();
    let port = free_port();
    sandbox.ask(
        "xinet.set",
        json!({"name": "door", "listen": format!("127.0.0.1:{port}"),
               "backend": echoes(), "service": "plain", "connect_timeout": 5}),
    );
    let clients: Vec<TcpStream> = (0..200).map(|_| dial(port)).collect();
    let each = clients.into_iter();
    let threads: Vec<_> = each
        .map(|client| thread::spawn(move || exchange(client, "word") == "word"))
        .collect();
    // Whoever asks meanwhile is answered.
    let ping = "{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"system.ping\"}\n";
    let is_answered = Connection::try_open(&sandbox.socket())
        .is_some_and(|mut asker| asker.send(ping.as_bytes()) && asker.line().is_some());
    let served = threads.into_iter().map(|one| one.join().unwrap());
    let served = served.filter(|served| *served).count();
    let log = sandbox.log();
    let told = log.matches("can't take a client").count();
    assert_eq!((served, is_answered), (200, true));
    assert!(told < 1000, "{told}");
}

/// A backend that answers before it has read everything, and closes: the whole answer arrives.
#[test]
fn an_early_answer_arrives_whole() {
    const ANSWER: usize = 300_000;
    let mut sandbox = Sandbox::new();
    sandbox.service("plain", WAITS);
    sandbox.start();
    let listener = UnixListener::bind(sandbox.path("backend")).unwrap();
    sandbox.ask(
        "xinet.set",
        json!({"name": "door", "listen": format!("unix:{}", sandbox.text("door")),
               "backend": format!("unix:{}", sandbox.text("backend")), "service": "plain"}),
    );
    let (closed, is_closed) = mpsc::channel();
    let backend = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0]).unwrap();
        stream.write_all(&vec![b'x'; ANSWER]).unwrap();
        drop(stream);
        closed.send(()).unwrap();
    });
    let mut client = dial_at(&sandbox.path("door"));
    let mut sender = client.try_clone().unwrap();
    // It can't all be sent, and that is no matter.
    let sender = thread::spawn(move || drop(sender.write_all(&vec![b'y'; 4 << 20])));
    is_closed
        .recv_timeout(PATIENCE)
        .expect("the answer is sent");
    let (mut got, mut buffer) = (0, vec![0; 65536]);
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        got += count;
    }
    assert_eq!(got, ANSWER);
    let _ = client.shutdown(Shutdown::Both);
    sender.join().unwrap();
    backend.join().unwrap();
}

/// Who is turned away knows it, whatever children of the server hang before their program runs.
#[test]
fn a_hanging_child_keeps_no_client() {
    let mut sandbox = Sandbox::new();
    sandbox.service("plain", WAITS);
    let fifo = sandbox.text("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    let file = quoted(&fifo);
    sandbox.service(
        "hung",
        &format!(
            "exec = [\"sleep\", \"1000\"]\nstatus = \"stop\"\nenv_file = {file}\n\
             [lifecycle]\nstart_timeout_ms = 600000"
        ),
    );
    sandbox.start();
    let port = free_port();
    sandbox.ask(
        "xinet.set",
        json!({"name": "door", "listen": format!("127.0.0.1:{port}"),
               "backend": echoes(), "service": "plain"}),
    );
    let mut client = dial(port);
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    sandbox.ask("service.start", json!({"name": "hung"}));
    assert!(wait_until(|| sandbox.pid("hung") != 0));
    sandbox.ask("xinet.delete", json!({"name": "door"}));
    let read = client.read(&mut [0]);
    assert!(matches!(read, Ok(0)), "{read:?}");
}
