//! Clients that mean harm: a program that opens thousands of connections and does with them what
//! nobody should, while others go on to be served.
//!
//! The hostile program is a process of its own, as it would be: this test binary run once more.

#[path = "common/sandbox.rs"]
mod sandbox;

use std::collections::VecDeque;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use sandbox::{Connection, PATIENCE, Sandbox, signal, wait_until};
use serde_json::{Value, json};

/// Connections of the hostile program.
const MANY: usize = 10_000;

/// Descriptors it needs for other things.
const SPARE: usize = 100;

/// What tells the hostile program whom to trouble, with how many connections, and where to say that
/// it has them all.
const SOCKET: &str = "ZINIT_TEST_HOSTILE_SOCKET";
const COUNT: &str = "ZINIT_TEST_HOSTILE_COUNT";
const DONE: &str = "ZINIT_TEST_HOSTILE_DONE";

/// What a hostile connection does.
#[derive(Clone, Copy)]
enum Kind {
    /// Says nothing.
    Silent,
    /// Begins a request and never ends it.
    Half,
    /// Sends what is no request, without end and without a newline.
    Endless,
    /// The same in lines.
    Lines,
    /// Asks for much, again and again, and never reads an answer.
    Deaf,
    /// Hangs up in the middle of a request.
    Rude,
}

const KINDS: [Kind; 6] = [
    Kind::Silent,
    Kind::Half,
    Kind::Endless,
    Kind::Lines,
    Kind::Deaf,
    Kind::Rude,
];

struct Hostile {
    stream: UnixStream,
    kind: Kind,
}

impl Hostile {
    fn new(socket: &Path, kind: Kind) -> Option<Self> {
        let stream = UnixStream::connect(socket).ok()?;
        stream.set_nonblocking(true).unwrap();
        let mut hostile = Self { stream, kind };
        hostile.go_on().then_some(hostile)
    }

    /// Sends as much as the server takes. False if it has been hung up on, or hangs up itself.
    fn go_on(&mut self) -> bool {
        let request = "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"service.list_full\"}\n";
        let bytes = match self.kind {
            Kind::Silent => return true,
            Kind::Half | Kind::Rude => request.as_bytes()[..30].to_vec(),
            Kind::Endless => vec![b'x'; 65536],
            Kind::Lines => b"what is this?\n".repeat(2000),
            Kind::Deaf => request.as_bytes().repeat(500),
        };
        match self.stream.write(&bytes) {
            Ok(sent) => sent > 0 && !matches!(self.kind, Kind::Rude),
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }

    fn is_noisy(&self) -> bool {
        match self.kind {
            Kind::Endless | Kind::Lines | Kind::Deaf => true,
            Kind::Silent | Kind::Half | Kind::Rude => false,
        }
    }
}

/// The hostile program. It goes on until it is killed, or until nobody has it any more.
#[test]
#[ignore = "no test by itself: those of this file run it as a program"]
fn the_hostile_program() {
    let Some(socket) = std::env::var_os(SOCKET).map(PathBuf::from) else {
        return;
    };
    let count: usize = std::env::var(COUNT).unwrap().parse().unwrap();
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let parent = std::os::unix::process::parent_id();
    let mut held = VecDeque::new();
    let mut opened = 0;
    while std::os::unix::process::parent_id() == parent {
        // A few at a time; those that the server has hung up on are kept, too.
        for _ in 0..count.min(50) {
            let kind = KINDS[opened % KINDS.len()];
            held.extend(Hostile::new(&socket, kind));
            opened += 1;
            if opened == count {
                fs::write(std::env::var_os(DONE).unwrap(), "all\n").unwrap();
            }
            if held.len() > count {
                held.pop_front();
            }
        }
        let from = held.len().saturating_sub(400);
        for hostile in held.iter_mut().skip(from).filter(|one| one.is_noisy()) {
            hostile.go_on();
        }
        if opened > count {
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
}

/// The hostile program, let loose. It ends with this value.
struct Flood {
    child: Child,
    done: PathBuf,
}

impl Flood {
    fn on(sandbox: &Sandbox, number: usize, count: usize) -> Self {
        let done = sandbox.path(&format!("flood{number}"));
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "the_hostile_program"])
            .env(SOCKET, sandbox.socket())
            .env(COUNT, count.to_string())
            .env(DONE, &done)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, done }
    }

    /// Has it opened as many as it was to?
    fn is_full(&mut self) -> bool {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "the hostile program ended: {ended:?}");
        self.done.exists()
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        signal(i32::try_from(self.child.id()).unwrap(), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// Descriptors the server has open.
fn descriptors(sandbox: &Sandbox) -> usize {
    let dir = format!("/proc/{}/fd", sandbox.server_pid());
    fs::read_dir(dir).unwrap().count()
}

/// Sockets among them: its own, and one for each client.
fn sockets(sandbox: &Sandbox) -> usize {
    let dir = format!("/proc/{}/fd", sandbox.server_pid());
    let links = fs::read_dir(dir).unwrap().flatten();
    let links = links.filter_map(|entry| fs::read_link(entry.path()).ok());
    let names = links.map(|link| link.to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("socket:")).count()
}

fn ping(connection: &mut Connection) {
    let answer = connection.ask("system.ping", Value::Null);
    assert!(answer.is_ok(), "{answer:?}");
}

/// How many times a service has said that it is up.
fn ups(sandbox: &Sandbox, name: &str) -> usize {
    let lines = sandbox.output(name);
    lines.iter().filter(|line| *line == "up").count()
}

/// A sandbox of services that say so when they are up, under a limit of descriptors.
fn limited(descriptors: u32, services: usize) -> Sandbox {
    let mut sandbox = Sandbox::new();
    let odd = format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"");
    sandbox.wrap(&["sh", "-c", &odd]);
    for number in 0..services {
        sandbox.runs(&format!("s{number}"), "echo up; exec sleep 1000");
    }
    sandbox.runs("steady", "echo up; exec sleep 1000");
    sandbox.runs("patient", "exec sleep 1000");
    sandbox.start();
    for number in 0..services {
        sandbox.await_running(&format!("s{number}"));
    }
    sandbox.await_running("steady");
    sandbox.await_running("patient");
    sandbox
}

/// Honest clients of all sorts, while somebody else is hostile: all get their answers.
fn is_served_beside(mut sandbox: Sandbox, services: usize, flood: impl Fn(&Sandbox) -> Vec<Flood>) {
    let steady = sandbox.pid("steady");
    // One that has been there and said something before, and then nothing for a long time.
    let mut quiet = sandbox.connect();
    ping(&mut quiet);
    // One that has an answer to come.
    let mut waiting = sandbox.connect();
    let params = json!({"name": "patient", "for": "stopped", "timeout_ms": 300_000});
    let awaited = waiting.begin("service.wait", params);
    // One that follows a log.
    let mut busy = sandbox.connect();
    ping(&mut busy);
    // A child that another test is about to run may hold an end of what is closed here.
    assert!(wait_until(|| sockets(&sandbox) == 4));
    let before = descriptors(&sandbox);

    let mut floods = flood(&sandbox);
    let until = std::time::Instant::now() + 4 * PATIENCE;
    let mut round = 0;
    while round < 20 || !floods.iter_mut().all(Flood::is_full) {
        assert!(std::time::Instant::now() < until, "it takes too long");
        // By the connection that was there, and by ones that come while it goes on.
        ping(&mut busy);
        let name = format!("s{}", round % services);
        let seen = ups(&sandbox, &name);
        sandbox.done("service.stop", &name);
        assert_eq!(sandbox.pid(&name), 0);
        sandbox.done("service.start", &name);
        assert!(wait_until(|| ups(&sandbox, &name) == seen + 1));
        round += 1;
    }
    ping(&mut quiet);
    ping(&mut busy);
    sandbox.done("service.stop", "patient");
    assert!(waiting.finish(awaited).is_ok());
    assert_eq!(sandbox.pid("steady"), steady);

    drop(floods);
    sandbox.done("service.start", "patient");
    assert!(
        wait_until(|| descriptors(&sandbox) == before),
        "{} descriptors, {before} before",
        descriptors(&sandbox)
    );
    ping(&mut quiet);
    // What it wrote of all that is not much.
    let warnings = sandbox.log().matches("WARN").count();
    assert!(warnings < 100, "{warnings} warnings");
    sandbox.stop();
}

/// How many connections a hostile program can have here.
fn many() -> usize {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let most = usize::try_from(hard).unwrap_or(usize::MAX);
    let many = MANY.min(most.saturating_sub(SPARE));
    if many < MANY {
        println!("SKIPPED: more than {many} connections, as a process may not have more here");
    }
    many
}

#[test]
fn ten_thousand_hostile_connections_keep_no_honest_client_from_its_answers() {
    let sandbox = limited(20_000.min(u32::try_from(many()).unwrap()), 5);
    is_served_beside(sandbox, 5, |sandbox| vec![Flood::on(sandbox, 0, many())]);
}

/// With hardly any descriptors: the clients do not take those that services need.
#[test]
fn with_few_descriptors_hostile_connections_take_none_from_services() {
    let sandbox = limited(96, 5);
    is_served_beside(sandbox, 5, |sandbox| vec![Flood::on(sandbox, 0, many())]);
}

/// Many hostile programs with a few connections each: whoever has asked something once goes after
/// those that never have.
#[test]
fn many_programs_with_a_few_connections_do_no_better() {
    let sandbox = limited(96, 5);
    let all = |sandbox: &Sandbox| {
        (0..12)
            .map(|number| Flood::on(sandbox, number, 6))
            .collect()
    };
    is_served_beside(sandbox, 5, all);
}
