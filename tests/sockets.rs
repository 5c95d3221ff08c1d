//! Sockets that the server opens for a service (`[socket]`), as the programs behind them and the
//! clients in front of them see it.

#[path = "common/sandbox.rs"]
mod sandbox;

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use sandbox::{PATIENCE, Sandbox, python, wait_until};
use serde_json::{Value, json};

/// Looks at what it is given, takes as many connections as it is told to, says what it saw to each
/// of them, and ends.
const PROGRAM: &str = r#"
import fcntl, os, socket, sys
count = int(os.environ["LISTEN_FDS"])
assert int(os.environ["LISTEN_PID"]) == os.getpid()
names = os.environ.get("LISTEN_FDNAMES", "")
fds = sorted(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + fd))
blocks = all(not fcntl.fcntl(3 + i, fcntl.F_GETFL) & os.O_NONBLOCK for i in range(count))
listener = socket.socket(fileno=3)
for _ in range(int(sys.argv[1])):
    client, _ = listener.accept()
    client.sendall(f"{os.getpid()} {count} {names} {fds} {blocks}".encode())
    client.close()
"#;

/// The service `taker`, which takes so many connections in a run; its file's other lines.
fn taker(sandbox: &Sandbox, connections: u32, socket: &str, more: &str) -> bool {
    let Some(python) = python() else {
        println!("skipped: there is no Python");
        return false;
    };
    fs::write(sandbox.path("taker.py"), PROGRAM).unwrap();
    let exec = json!([python, sandbox.path("taker.py"), connections.to_string()]);
    let listen = json!([format!("unix:{}", sandbox.text("door"))]);
    sandbox.service(
        "taker",
        &format!("exec = {exec}\n{more}\n[socket]\nlisten = {listen}\n{socket}"),
    );
    true
}

/// What the program says to one client; empty if it is turned away.
fn ask(path: &Path) -> String {
    let mut client = UnixStream::connect(path).expect("the socket is open");
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut said = String::new();
    match client.read_to_string(&mut said) {
        Ok(_) => said,
        Err(error) => format!("{said}: {error}"),
    }
}

/// The program finds its sockets from descriptor 3 on, and nothing else.
#[test]
fn the_program_finds_its_sockets_and_nothing_else() {
    let mut sandbox = Sandbox::new();
    if !taker(&sandbox, 1000, "names = [\"front\"]\nmode = \"0640\"", "") {
        return;
    }
    sandbox.start();
    sandbox.await_running("taker");
    let pid = sandbox.pid("taker");
    let door = sandbox.path("door");
    assert_eq!(ask(&door), format!("{pid} 1 front [0, 1, 2, 3] True"));
    let mode = fs::metadata(&door).unwrap().permissions().mode() & 0o777;
    assert_eq!(format!("{mode:o}"), "640");
    sandbox.ask("service.delete", json!({"name": "taker"}));
    assert!(!door.exists());
}

/// Restarted again and again, a service is always to be reached.
#[test]
fn nobody_is_refused_while_it_restarts() {
    let mut sandbox = Sandbox::new();
    if !taker(&sandbox, 1000, "", "") {
        return;
    }
    sandbox.start();
    for _ in 0..10 {
        sandbox.await_running("taker");
        let before = sandbox.pid("taker");
        sandbox.ask("service.restart", json!({"name": "taker"}));
        // One that the old process took at its end hears nothing, and comes again.
        let is_served = wait_until(|| ask(&sandbox.path("door")).contains(" 1 "));
        assert!(is_served, "{}", sandbox.log());
        sandbox.wait_other_pid("taker", before);
    }
    sandbox.stop();
    assert!(!sandbox.path("door").exists());
}

/// The first connection starts it, and so does the next one after its end; a stop is final.
#[test]
fn a_connection_starts_it_again() {
    let mut sandbox = Sandbox::new();
    if !taker(&sandbox, 1, "activation = true", "") {
        return;
    }
    sandbox.start();
    assert_eq!(sandbox.pid("taker"), 0);
    let mut pids = Vec::new();
    for _ in 0..3 {
        pids.push(ask(&sandbox.path("door")));
        assert!(wait_until(|| sandbox.pid("taker") == 0));
    }
    pids.dedup();
    assert_eq!(pids.len(), 3, "{pids:?}");
    // Now that it is stopped, they wait for whoever starts it.
    sandbox.done("service.stop", "taker");
    let waits = UnixStream::connect(sandbox.path("door")).unwrap();
    sandbox.ask("service.reload", Value::Null);
    assert_eq!(sandbox.pid("taker"), 0);
    drop(waits);
}

/// One that takes a connection in each run, and ends, is no storm: each of its clients is served.
#[test]
fn a_run_for_each_connection_is_no_storm() {
    let mut sandbox = Sandbox::new();
    if !taker(&sandbox, 1, "activation = true", "") {
        return;
    }
    sandbox.start();
    let said: Vec<String> = (0..15).map(|_| ask(&sandbox.path("door"))).collect();
    let served = said.iter().filter(|said| said.contains(" 1 ")).count();
    assert_eq!(served, 15, "{said:#?}");
}

/// Where somebody else listens, the service says so, and starts as soon as the place is free.
#[test]
fn a_taken_address_is_told() {
    let mut sandbox = Sandbox::new();
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    let body = format!(
        "exec = \"sleep 1000\"\n[lifecycle]\nrestart = \"never\"\n[socket]\nlisten = \"tcp:{address}\""
    );
    sandbox.service("web", &body);
    sandbox.start();
    sandbox.wait_state("web", "failed");
    let error = format!("spawn error: listen tcp:{address}: Address already in use");
    assert_eq!(sandbox.status("web")["error"], error);
    drop(other);
    sandbox.done("service.start", "web");
    assert_eq!(
        sandbox.status("web")["listen"],
        json!([format!("tcp:{address}")])
    );
}

/// A program that runs goes on with the sockets it has; others count from its next start.
#[test]
fn a_reload_moves_no_socket_under_a_program() {
    let mut sandbox = Sandbox::new();
    if !taker(&sandbox, 1000, "", "") {
        return;
    }
    sandbox.start();
    sandbox.await_running("taker");
    let (old, new) = (sandbox.path("door"), sandbox.path("other"));
    let file = sandbox.services_dir().join("taker.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("/door\"", "/other\"")).unwrap();
    sandbox.ask("service.reload", Value::Null);
    assert!(ask(&old).contains(" 1 "));
    assert!(!new.exists());
    sandbox.done("service.restart", "taker");
    assert!(ask(&new).contains(" 1 "));
    assert!(!old.exists());
}

/// Another mode counts from the next start too, though the socket stays.
#[test]
fn a_changed_mode_counts_from_the_next_start() {
    let mut sandbox = Sandbox::new();
    if !taker(&sandbox, 1000, "mode = \"0666\"", "") {
        return;
    }
    sandbox.start();
    sandbox.await_running("taker");
    let mode = || {
        let meta = fs::metadata(sandbox.path("door")).unwrap();
        format!("{:o}", meta.permissions().mode() & 0o777)
    };
    assert_eq!(mode(), "666");
    let file = sandbox.services_dir().join("taker.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("0666", "0600")).unwrap();
    sandbox.ask("service.reload", Value::Null);
    sandbox.done("service.restart", "taker");
    assert_eq!(mode(), "600");
    assert!(ask(&sandbox.path("door")).contains(" 1 "));
}

/// A service with another name has the address of the old one as soon as that one is gone.
#[test]
fn an_address_goes_from_one_service_to_another() {
    let mut sandbox = Sandbox::new();
    if !taker(&sandbox, 1000, "activation = true", "") {
        return;
    }
    sandbox.start();
    let door = sandbox.path("door");
    let first = ask(&door);
    let file = sandbox.services_dir().join("taker.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let other = text.replace("name = \"taker\"", "name = \"other\"");
    assert_ne!(other, text);
    fs::write(sandbox.services_dir().join("other.toml"), other).unwrap();
    sandbox.ask("service.reload", Value::Null);
    let is_open = || UnixStream::connect(&door).is_ok();
    assert!(wait_until(|| sandbox
        .rpc("service.status", json!({"name": "taker"}))
        .is_err()));
    assert!(wait_until(is_open), "{}", sandbox.log());
    assert_ne!(ask(&door), first);
    assert_eq!(sandbox.state("other"), "running");
}

/// A socket and the descriptor by which it says that it is ready stand side by side; not even one of
/// root's ports is closed to a program that is nobody.
#[test]
fn sockets_go_with_readiness_and_users() {
    if !nix::unistd::geteuid().is_root() {
        return println!("skipped: this needs root");
    }
    let mut sandbox = Sandbox::new();
    let says = "id -u; readlink /proc/self/fd/3; echo >&4; exec sleep 1000";
    let ready = "[readiness]\ntype = \"fd\"\nfd = 4";
    let listen = "[socket]\nlisten = \"tcp:127.0.0.1:879\"";
    let body = format!("exec = \"{says}\"\nuser = 65534\n{ready}\n{listen}");
    sandbox.service("low", &body);
    sandbox.start();
    sandbox.await_running("low");
    let output = sandbox.output("low");
    assert!(
        output[0] == "65534" && output[1].starts_with("socket:["),
        "{output:?}"
    );
}

/// Whoever waits for a service that fails for good is turned away, and whoever comes then is
/// another try.
#[test]
fn a_failed_service_turns_its_clients_away() {
    let mut sandbox = Sandbox::new();
    let listen = json!(format!("unix:{}", sandbox.text("door")));
    let rest = "[lifecycle]\nrestart = \"never\"";
    let socket = format!("[socket]\nactivation = true\nlisten = {listen}");
    sandbox.service(
        "bad",
        &format!("exec = \"echo tried; exit 3\"\n{rest}\n{socket}"),
    );
    sandbox.start();
    for tries in 1..=2 {
        let said = ask(&sandbox.path("door"));
        assert!(said.is_empty() || said.contains("reset"), "{said}");
        sandbox.wait_state("bad", "failed");
        assert!(wait_until(|| sandbox.output("bad").len() == tries));
    }
}

/// One that ends without taking its connection is not started without end.
#[test]
fn who_takes_nothing_has_a_pause() {
    let mut sandbox = Sandbox::new();
    let listen = json!(format!("unix:{}", sandbox.text("door")));
    let socket = format!("[socket]\nactivation = true\nlisten = {listen}");
    sandbox.service("idle", &format!("exec = \"echo ran\"\n{socket}"));
    sandbox.start();
    let client = UnixStream::connect(sandbox.path("door")).unwrap();
    assert!(wait_until(|| sandbox.log().contains("waits a moment")));
    // In its pause it rests, however often somebody asks.
    let runs = sandbox.output("idle").len();
    assert!(runs <= 21, "{runs} runs");
    drop(client);
}
