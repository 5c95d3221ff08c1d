//! Proxies (`xinet.*`) against the real server: who comes while a service is down or on its way, what
//! goes through, what it costs, and what becomes of it when definitions change or descriptors run out.

#[path = "common/dial.rs"]
mod dial;
#[path = "common/sandbox.rs"]
mod sandbox;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::mpsc;
use std::thread;

use dial::{
    account, await_active, dial, dial_at, door, echo, echoes, exchange, free_port, is_turned_away,
    with,
};
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
    assert!(wait_until(|| sandbox.log().contains("Connection refused")));
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

/// A server with the service `plain`, which is up when it is started.
fn with_plain() -> Sandbox {
    let mut sandbox = Sandbox::new();
    sandbox.service("plain", WAITS);
    sandbox.start();
    sandbox
}

// Definitions.

/// The listening socket of a port, by its number in the kernel.
fn listener_of(port: u16) -> String {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let lines = table.lines().map(str::split_ascii_whitespace);
    let mut lines = lines.map(Iterator::collect::<Vec<_>>);
    let end = format!(":{port:04X}");
    let found = lines.find(|line| line[1].ends_with(&end) && line[3] == "0A");
    found.map_or(String::new(), |line| line[9].to_owned())
}

/// A new definition lets who is connected be, and keeps the sockets that are meant to stay.
#[test]
fn a_new_definition_lets_connections_be() {
    let sandbox = with_plain();
    let (port, more) = (free_port(), free_port());
    sandbox.ask("xinet.set", door(port, &echoes(), "plain"));
    let socket = listener_of(port);
    assert_ne!(socket, "");
    let mut client = dial(port);
    let mut back = [0; 3];
    client.write_all(b"one").unwrap();
    client.read_exact(&mut back).unwrap();
    let both = [port, more].map(|port| format!("tcp:127.0.0.1:{port}"));
    sandbox.ask(
        "xinet.set",
        with(door(port, &echoes(), "plain"), "listen", json!(both)),
    );
    assert_eq!(listener_of(port), socket);
    assert_eq!(exchange(dial(port), "new"), "new");
    assert_eq!(exchange(dial(more), "new"), "new");
    // Even where nobody listens any more.
    sandbox.ask("xinet.set", door(more, &echoes(), "plain"));
    assert_eq!(listener_of(port), "");
    client.write_all(b"two").unwrap();
    client.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"two");
    assert_eq!(exchange(client, "three"), "three");
    let told = account(&sandbox, "door");
    assert_eq!(told["total_connections"], 3, "{told}");
}

/// An address that somebody has is an error, and nothing is changed or written.
#[test]
fn a_taken_address_changes_nothing() {
    let sandbox = with_plain();
    let somebody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken = somebody.local_addr().unwrap().port();
    let (port, free) = (free_port(), free_port());
    let backend = echoes();
    let listen = |ports: &[u16]| {
        let texts = ports.iter().map(|port| format!("127.0.0.1:{port}"));
        let listen: Vec<String> = texts.collect();
        with(door(port, &backend, "plain"), "listen", json!(listen))
    };
    let files = || fs::read_dir(sandbox.services_dir()).unwrap().count();
    // Its own, twice, is one that somebody has, too.
    for wrong in [listen(&[free, taken]), listen(&[free, free])] {
        let (code, message, _) = sandbox.refused("xinet.set", wrong);
        assert!(
            message.contains("listen tcp:127.0.0.1:"),
            "{code} {message}"
        );
        assert!(message.contains("in use"), "{message}");
        assert_eq!(sandbox.ask("xinet.list", Value::Null), json!([]));
        assert_eq!((listener_of(free), files()), (String::new(), 1));
    }
    sandbox.ask("xinet.set", listen(&[port]));
    let text = fs::read_to_string(sandbox.path("services/door.xinet.toml")).unwrap();
    let told = account(&sandbox, "door");
    for wrong in [listen(&[port, free, taken]), listen(&[free, taken])] {
        sandbox.refused("xinet.set", wrong);
        assert_eq!(listener_of(free), "");
        assert_eq!(account(&sandbox, "door"), told);
        let after = fs::read_to_string(sandbox.path("services/door.xinet.toml")).unwrap();
        assert_eq!(after, text);
        assert_eq!(exchange(dial(port), "word"), "word");
        await_active(&sandbox, "door", 0);
        sandbox.ask("xinet.delete", json!({"name": "door"}));
        sandbox.ask("xinet.set", listen(&[port]));
    }
    // What another proxy or a service has is somebody's, too.
    let (_, message, _) = sandbox.refused("xinet.set", with(listen(&[port]), "name", "other"));
    assert!(message.contains("in use"), "{message}");
}

/// What is deleted is gone: its socket, its connections, its file.
#[test]
fn a_deleted_proxy_closes_everything() {
    let sandbox = with_plain();
    let port = free_port();
    let path = sandbox.path("door");
    let listen = json!([
        format!("tcp:127.0.0.1:{port}"),
        format!("unix:{}", path.display())
    ]);
    sandbox.ask(
        "xinet.set",
        with(door(port, &echoes(), "plain"), "listen", listen),
    );
    assert!(sandbox.path("services/door.xinet.toml").exists());
    let (mut one, mut two) = (dial(port), dial_at(&path));
    one.write_all(b"x").unwrap();
    two.write_all(b"x").unwrap();
    one.read_exact(&mut [0]).unwrap();
    two.read_exact(&mut [0]).unwrap();
    sandbox.ask("xinet.delete", json!({"name": "door"}));
    assert!(is_turned_away(one) && is_turned_away(two));
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
    assert!(!path.exists() && !sandbox.path("services/door.xinet.toml").exists());
    sandbox.refused("xinet.delete", json!({"name": "door"}));
    // Its service is nobody's business any more.
    assert_eq!(sandbox.state("plain"), "running");
}

/// Files of proxies are read at the start and by a reload, and a broken one changes nothing.
#[test]
fn files_of_proxies_are_read_again() {
    let mut sandbox = Sandbox::new();
    sandbox.service("plain", WAITS);
    let backend = echoes();
    let write = |sandbox: &Sandbox, name: &str, port: u16| {
        let text = format!(
            "[xinet]\nname = \"{name}\"\nlisten = \"tcp:127.0.0.1:{port}\"\n\
             backend = \"{backend}\"\nservice = \"plain\"\n"
        );
        sandbox.file(&format!("{name}.toml"), &text);
    };
    let serves = |port| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
    let [a, b, c] = [free_port(), free_port(), free_port()];
    write(&sandbox, "changed", a);
    write(&sandbox, "removed", b);
    sandbox.start();
    assert_eq!([a, b, c].map(serves), [true, true, false]);
    let mut client = dial(a);
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    write(&sandbox, "changed", c);
    sandbox.remove_file("removed");
    sandbox.ask("service.reload", Value::Null);
    assert_eq!([a, b, c].map(serves), [false, false, true]);
    assert_eq!(exchange(client, "still there"), "still there");
    write(&sandbox, "added", b);
    for broken in [
        "[xinet]\nname = \"changed\"\n",
        "nonsense",
        "[xinet]\nname = 5\n",
    ] {
        sandbox.file("changed.toml", broken);
        sandbox.ask("service.reload", Value::Null);
        assert_eq!([a, b, c].map(serves), [false, true, true], "{broken}");
    }
    assert_eq!(
        sandbox.ask("xinet.list", Value::Null),
        json!(["added", "changed"])
    );
    // The next server does not know what the broken one meant.
    sandbox.stop();
    sandbox.start();
    assert_eq!([a, b, c].map(serves), [false, true, false]);
    write(&sandbox, "changed", a);
    sandbox.ask("service.reload", Value::Null);
    assert_eq!([a, b, c].map(serves), [true, true, false]);
    // Somebody may be where a file has a proxy listen; when he has gone a reload has it there.
    let somebody = TcpListener::bind((Ipv4Addr::LOCALHOST, c)).unwrap();
    write(&sandbox, "late", c);
    sandbox.ask("service.reload", Value::Null);
    assert_eq!(
        sandbox.ask("xinet.status", json!({"name": "late"}))["running"],
        false
    );
    assert!(sandbox.log().contains("proxy late: listen tcp:127.0.0.1"));
    drop(somebody);
    sandbox.ask("service.reload", Value::Null);
    assert_eq!(
        sandbox.ask("xinet.status", json!({"name": "late"}))["running"],
        true
    );
}

/// A reload in which one proxy gets the address of another one, and gives that its own.
#[test]
fn a_reload_exchanges_addresses() {
    let mut sandbox = Sandbox::new();
    let ports = [free_port(), free_port()];
    let write = |sandbox: &Sandbox, [one, two]: [u16; 2]| {
        for (name, port) in [("one", one), ("two", two)] {
            let text = format!(
                "[xinet]\nname = \"{name}\"\nlisten = \"tcp:127.0.0.1:{port}\"\n\
                 backend = \"tcp:127.0.0.1:1\"\nservice = \"nobody\"\n"
            );
            sandbox.file(&format!("{name}.toml"), &text);
        }
    };
    write(&sandbox, ports);
    sandbox.start();
    write(&sandbox, [ports[1], ports[0]]);
    sandbox.ask("service.reload", Value::Null);
    for (name, port) in [("one", ports[1]), ("two", ports[0])] {
        let told = account(&sandbox, name);
        assert_eq!(told["running"], true, "{told}\n{}", sandbox.log());
        assert!(
            told["listen"].to_string().contains(&port.to_string()),
            "{told}"
        );
    }
}

// Idle services.

/// Nobody is there any more: the service is stopped, and started by the next client.
#[test]
fn an_idle_service_is_stopped_and_started_again() {
    let sandbox = with_plain();
    let port = free_port();
    sandbox.ask(
        "xinet.set",
        with(door(port, &echoes(), "plain"), "idle_timeout", 1),
    );
    for _ in 0..2 {
        let mut client = dial(port);
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        assert_eq!(sandbox.state("plain"), "running");
        assert_eq!(exchange(client, "word"), "word");
        assert!(
            wait_until(|| sandbox.pid("plain") == 0),
            "{}",
            sandbox.log()
        );
    }
    // One that somebody has started is idle, too.
    sandbox.done("service.start", "plain");
    assert!(
        wait_until(|| sandbox.pid("plain") == 0),
        "{}",
        sandbox.log()
    );
}

/// Whoever is up and requires a service keeps it up.
#[test]
fn a_dependent_keeps_an_idle_service_up() {
    let mut sandbox = Sandbox::new();
    sandbox.service("kept", WAITS);
    sandbox.service("free", WAITS);
    sandbox.service(
        "user",
        &format!("{WAITS}\n[dependencies]\nrequires = [\"kept\"]"),
    );
    sandbox.start();
    for name in ["kept", "free"] {
        let params = with(door(free_port(), &echoes(), name), "idle_timeout", 1);
        sandbox.ask("xinet.set", with(params, "name", name));
    }
    sandbox.done("service.start", "user");
    let pid = sandbox.pid("kept");
    // Twice as long as it may be idle.
    for _ in 0..2 {
        sandbox.done("service.start", "free");
        assert!(wait_until(|| sandbox.pid("free") == 0), "{}", sandbox.log());
    }
    assert_eq!(sandbox.pid("kept"), pid);
    sandbox.done("service.stop", "user");
    assert!(wait_until(|| sandbox.pid("kept") == 0), "{}", sandbox.log());
}

/// A time that is said later counts from then on, also if nobody ever comes.
#[test]
fn an_idle_timeout_counts_for_a_service_that_runs() {
    let sandbox = with_plain();
    sandbox.done("service.start", "plain");
    let port = free_port();
    sandbox.ask(
        "xinet.set",
        with(door(port, &echoes(), "plain"), "idle_timeout", 1),
    );
    assert!(
        wait_until(|| sandbox.pid("plain") == 0),
        "{}",
        sandbox.log()
    );
}

/// When a proxy goes that had clients, the other one of the service sees that nobody is there.
#[test]
fn a_deleted_proxy_leaves_its_service_to_the_others() {
    let sandbox = with_plain();
    let (port, other) = (free_port(), free_port());
    let backend = echoes();
    sandbox.ask(
        "xinet.set",
        with(door(port, &backend, "plain"), "idle_timeout", 1),
    );
    let params = with(door(other, &backend, "plain"), "name", "other");
    sandbox.ask("xinet.set", params);
    let mut client = dial(other);
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    sandbox.ask("xinet.delete", json!({"name": "other"}));
    assert!(
        wait_until(|| sandbox.pid("plain") == 0),
        "{}",
        sandbox.log()
    );
}

// Clients that wait.

/// Who waits for one service is served by the other one that the proxy is for now.
#[test]
fn who_waits_has_the_new_definition() {
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    sandbox.service("slow", &waits_for_go());
    sandbox.service("plain", WAITS);
    sandbox.start();
    let port = free_port();
    let params = with(door(port, &echoes(), "slow"), "connect_timeout", 600);
    sandbox.ask("xinet.set", params.clone());
    let client = dial(port);
    sandbox.wait_state("slow", "starting");
    sandbox.ask("xinet.set", with(params, "service", "plain"));
    assert_eq!(exchange(client, "word"), "word");
}

/// Each client waits as long as was said when it came.
#[test]
fn a_shorter_time_to_wait_counts_for_whoever_comes_then() {
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    sandbox.service("slow", &waits_for_go());
    sandbox.start();
    let port = free_port();
    let params = |seconds: u32| with(door(port, &echoes(), "slow"), "connect_timeout", seconds);
    sandbox.ask("xinet.set", params(600));
    let patient = dial(port);
    await_active(&sandbox, "door", 1);
    sandbox.ask("xinet.set", params(1));
    let hasty = dial(port);
    assert!(is_turned_away(hasty), "{}", sandbox.log());
    fs::write(sandbox.path("go"), "").unwrap();
    assert_eq!(exchange(patient, "word"), "word");
}

/// A backend that listens some time after its service is up: clients wait for it, and are served.
#[test]
fn clients_wait_until_the_backend_accepts() {
    let sandbox = with_plain();
    let (port, backend) = (free_port(), free_port());
    let params = door(port, &format!("tcp:127.0.0.1:{backend}"), "plain");
    sandbox.ask("xinet.set", params);
    let clients: Vec<_> = (0..20)
        .map(|_| thread::spawn(move || exchange(dial(port), "word")))
        .collect();
    await_active(&sandbox, "door", 20);
    sandbox.await_running("plain");
    echo(TcpListener::bind((Ipv4Addr::LOCALHOST, backend)).unwrap());
    for client in clients {
        assert_eq!(client.join().unwrap(), "word");
    }
}

/// What a client waits for need not come: then it is told after its time, and so is the log.
#[test]
fn clients_do_not_wait_for_ever() {
    let sandbox = with_plain();
    let (port, backend) = (free_port(), free_port());
    let params = door(port, &format!("tcp:127.0.0.1:{backend}"), "plain");
    sandbox.ask("xinet.set", with(params, "connect_timeout", 1));
    let clients: Vec<TcpStream> = (0..20).map(|_| dial(port)).collect();
    assert!(clients.into_iter().all(is_turned_away));
    await_active(&sandbox, "door", 0);
    let log = sandbox.log();
    assert!(log.contains("Connection refused"), "{log}");
    assert_eq!(sandbox.state("plain"), "running");
}
