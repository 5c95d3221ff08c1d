//! A machine that has no more of something – processes, descriptors, memory, room – and files that
//! vanish under the server: what can't be done is said and tried again, all else goes on, and when
//! the fault is over so is its effect.

#[path = "common/dial.rs"]
mod dial;
#[path = "common/plight.rs"]
mod plight;
#[path = "common/puppet.rs"]
mod puppet;
#[path = "common/sandbox.rs"]
mod sandbox;

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::Signal;
use plight::{is_root, works};
use sandbox::{Connection, Sandbox, is_alive, quoted, signal, wait_until};
use serde_json::{Value, json};

const WAITS: &str = "exec = [\"sleep\", \"1000\"]";

/// Sets a limit of the running server's, as `prlimit(1)` says it.
fn limit(sandbox: &Sandbox, what: &str) -> bool {
    works(&["prlimit", "--pid", &sandbox.server_pid().to_string(), what])
}

fn wait_log(sandbox: &Sandbox, text: &str) {
    let so = wait_until(|| sandbox.log().contains(text));
    assert!(so, "no {text:?} in\n{}", sandbox.log());
}

fn error(sandbox: &Sandbox, name: &str) -> String {
    let status = sandbox.status(name);
    status["error"].as_str().unwrap_or_default().to_owned()
}

fn restarts(sandbox: &Sandbox, name: &str) -> u64 {
    let state = sandbox.ask("debug.state", Value::Null)["output"].clone();
    let mut lines = state.as_str().unwrap().lines();
    let is_its = |line: &str| line.split(' ').nth(1) == Some(name);
    assert!(lines.any(is_its), "{state}");
    let mut own = lines.take_while(|line| line.starts_with("    "));
    let count = own.find_map(|line| line.trim().strip_prefix("restart_count: "));
    count.map_or(0, |count| count.split(',').next().unwrap().parse().unwrap())
}

// Processes.

/// A user whom nobody else is.
const LONELY: &str = "61917";

/// Nothing that needs a process is counted as a failure of its service while there is none: not a
/// start, not a restart, not a hook, not a probe, and a proxy's client is served in the end.
#[test]
fn without_processes_hooks_probes_and_proxies_wait_for_better_times() {
    let user = ["setpriv", "--reuid", LONELY, "--clear-groups"];
    let zinit = env!("CARGO_BIN_EXE_zinit");
    if !is_root() || !works(&[user.as_slice(), &[zinit, "--version"]].concat()) {
        return println!("SKIPPED: another user can't be made, or can't run the program");
    }
    let mut sandbox = Sandbox::new();
    for path in [sandbox.dir().to_owned(), sandbox.services_dir()] {
        fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).unwrap();
    }
    sandbox.wrap(&user);
    let once = "[lifecycle]\nrestart_delay_ms = 5\nmax_restarts = 1";
    sandbox.service("steady", WAITS);
    sandbox.service("crashes", &format!("{WAITS}\n{once}"));
    sandbox.service("down", &format!("{WAITS}\nstatus = \"stop\"\n{once}"));
    let probe = "[health]\ntype = \"exec\"\ntarget = \"true\"\ninterval_ms = 50\nretries = 1";
    let body = format!("{WAITS}\n{once}\n{probe}\ntimeout_ms = 300000");
    sandbox.service("probed", &body);
    let hooks = "[hooks]\npre_start = \"echo before\"\npost_start = \"echo behind\"\n\
                 stop = \"echo at last\"";
    let body = format!("{WAITS}\nstatus = \"stop\"\n{once}\n{hooks}");
    sandbox.service("hooked", &body);
    sandbox.service("served", &format!("{WAITS}\nstatus = \"stop\"\n{once}"));
    sandbox.start();
    for name in ["steady", "crashes", "probed"] {
        sandbox.await_running(name);
    }
    let port = dial::free_port();
    sandbox.ask("xinet.set", dial::door(port, &dial::echoes(), "served"));
    let [steady, probed, crashes] = ["steady", "probed", "crashes"].map(|name| sandbox.pid(name));

    // By its own user: whoever is root here may not be it to the full.
    let (_, hard) = getrlimit(Resource::RLIMIT_NPROC).unwrap();
    let set = |count: u64| {
        let pid = sandbox.server_pid().to_string();
        let what = format!("--nproc={count}:");
        works(&[user.as_slice(), &["prlimit", "--pid", &pid, &what]].concat())
    };
    let few = || set(1);
    let many = || set(hard.min(50_000));
    if !few() {
        return println!("SKIPPED: there is no prlimit");
    }
    sandbox.ask("service.start", json!({"name": "down"}));
    sandbox.ask("service.start", json!({"name": "hooked"}));
    signal(crashes, Signal::SIGKILL);
    let client = std::thread::spawn(move || dial::exchange(dial::dial(port), "hello"));
    let none = "fork: Resource temporarily unavailable";
    for name in ["down", "crashes", "served"] {
        let so = wait_until(|| error(&sandbox, name) == format!("spawn error: {none}"));
        assert!(so, "{name}: {}\n{}", sandbox.status(name), sandbox.log());
    }
    wait_log(
        &sandbox,
        &format!("hooked: pre_start: {none}; trying again"),
    );
    wait_log(&sandbox, &format!("probed: probe: {none}; trying again"));
    // All else goes on, as far as it takes no process.
    sandbox.ask("service.reload", Value::Null);
    assert_eq!(sandbox.pid("steady"), steady);
    assert_eq!(sandbox.pid("probed"), probed);
    assert_eq!(sandbox.status("hooked")["error"], Value::Null);
    assert!(!client.is_finished());

    assert!(many());
    for name in ["down", "crashes", "hooked", "served"] {
        sandbox.await_running(name);
    }
    assert_eq!(client.join().unwrap(), "hello");
    assert_eq!(sandbox.output("hooked"), ["before", "behind"]);
    let counts = ["down", "hooked", "served", "probed", "crashes"];
    let counts = counts.map(|name| restarts(&sandbox, name));
    assert!(counts[..4].iter().all(|count| *count == 0), "{counts:?}");
    assert!(counts[4] <= 1, "{counts:?}");
    assert_eq!(sandbox.pid("probed"), probed);
    assert_eq!(sandbox.log().matches("hooked: pre_start: ").count(), 1);
    // A hook that helps to stop waits, too; and whoever has a process is stopped without one.
    assert!(few());
    sandbox.done("service.stop", "steady");
    assert!(!is_alive(steady));
    sandbox.ask("service.stop", json!({"name": "hooked"}));
    wait_log(&sandbox, &format!("hooked: stop: {none}; trying again"));
    assert!(many());
    sandbox.await_goal("hooked", "stopped").unwrap();
    assert_eq!(sandbox.output("hooked"), ["before", "behind", "at last"]);
    sandbox.stop();
}

// Descriptors.

/// With all descriptors taken that services and clients can get, a stop still sees every process:
/// one that ran away must not seem to be gone because it can't be looked at.
#[test]
fn without_descriptors_a_stop_still_ends_all_processes() {
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    sandbox.wrap(&["sh", "-c", "ulimit -n 64; exec \"$0\" \"$@\""]);
    // Grandchildren in sessions of their own; those of `dies` have lost their parent.
    let escaped = "for i in 1 2 3; do setsid sh -c 'echo $$ >> $DIR/pids; sleep 1000; :' & done";
    sandbox.runs("victim", &format!("{escaped}; exec sleep 1000"));
    let exec = format!("{escaped}; exec sleep 1000");
    let never = "[lifecycle]\nrestart = \"never\"";
    sandbox.service("dies", &format!("exec = {}\n{never}", quoted(&exec)));
    let late = "status = \"stop\"\n[lifecycle]\nrestart_delay_ms = 10\nmax_restarts = 1\n\
                restart_delay_max_ms = 100";
    for number in 0..40 {
        sandbox.service(&format!("filler{number}"), &format!("{WAITS}\n{late}"));
    }
    sandbox.start();
    sandbox.await_running("victim");
    sandbox.await_running("dies");
    assert!(wait_until(|| sandbox.lines("pids").len() == 6));
    let mut control = sandbox.connect();
    control.ask("system.ping", Value::Null).unwrap();
    for number in 0..40 {
        let params = json!({"name": format!("filler{number}")});
        control.ask("service.start", params).unwrap();
    }
    wait_log(&sandbox, "fork: Too many open files");
    let idle: Vec<Connection> = (0..60).map(|_| sandbox.connect()).collect();
    let free = || {
        let open = fs::read_dir(format!("/proc/{}/fd", sandbox.server_pid())).unwrap();
        64_usize.saturating_sub(open.count())
    };
    let params = json!({"name": "dies"});
    let dies = control.ask("service.status", params).unwrap()["pid"].clone();
    signal(
        i32::try_from(dies.as_i64().unwrap()).unwrap(),
        Signal::SIGKILL,
    );
    let params = json!({"name": "dies", "for": "stopped"});
    control.ask("service.wait", params).unwrap();
    let params = json!({"name": "victim", "wait": true});
    control.ask("service.stop", params).unwrap();
    let left: Vec<String> = sandbox.lines("pids");
    let left: Vec<&String> = left
        .iter()
        .filter(|pid| is_alive(pid.parse().unwrap()))
        .collect();
    assert!(
        left.is_empty(),
        "{left:?} live, with {} descriptors free",
        free()
    );
    drop(idle);
    // With room again, whoever had to wait comes up.
    for number in 0..39 {
        let params = json!({"name": format!("filler{number}"), "wait": true});
        control.ask("service.stop", params).unwrap();
    }
    let params = json!({"name": "filler39", "for": "running", "timeout_ms": 30_000});
    control.ask("service.wait", params).unwrap();
    sandbox.stop();
}

// Memory.

/// Asks for something that may well not be had. The connection may end over it.
fn perhaps(sandbox: &Sandbox, method: &str, params: &Value) {
    let connection = sandbox.connect();
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let mut stream = connection.stream();
    if stream.write_all(format!("{request}\n").as_bytes()).is_ok() {
        let mut bytes = [0; 65536];
        let mut read = || {
            stream
                .read(&mut bytes)
                .map(|count| bytes[..count].last().copied())
        };
        while let Ok(Some(last)) = read() {
            if last == b'\n' {
                break;
            }
        }
    }
}

/// A control group with little memory, for a server and all its services; it goes with this value.
struct Small(PathBuf);

impl Small {
    fn new(bytes: u64) -> Option<Self> {
        let name = format!("zinit-test-{}", std::process::id());
        let (dir, file) = [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.max"),
        ]
        .into_iter()
        .find(|(dir, _)| PathBuf::from(dir).join("cgroup.procs").exists())?;
        let small = Self(PathBuf::from(dir).join(name));
        fs::create_dir(&small.0).ok()?;
        fs::write(small.0.join(file), bytes.to_string()).ok()?;
        Some(small)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        assert!(wait_until(|| fs::remove_dir(&self.0).is_ok()));
    }
}

/// The kernel kills whoever takes all memory of the server's control group, and nobody else; what
/// became of it is told, and it comes back when it has learnt to be modest.
#[test]
fn whoever_takes_all_memory_is_killed_and_nobody_else() {
    let Some(small) = Small::new(64 << 20) else {
        return println!("SKIPPED: no control group for memory can be made here");
    };
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    sandbox.env("GROUP", small.0.to_str().unwrap());
    sandbox.wrap(&[
        "sh",
        "-c",
        "echo $$ > $GROUP/cgroup.procs && exec \"$0\" \"$@\"",
    ]);
    let eats = "test -e $DIR/modest && exec sleep 1000; exec tail /dev/zero";
    let body = format!(
        "exec = {}\n[lifecycle]\nrestart_delay_ms = 50",
        quoted(eats)
    );
    sandbox.service(
        "eats",
        &format!("{body}\nmax_restarts = 0\nrestart_delay_max_ms = 50"),
    );
    let body = format!("exec = {}\n[lifecycle]\nrestart = \"never\"", quoted(eats));
    sandbox.service("once", &body);
    sandbox.runs("loud", "while :; do echo a line; sleep 0.05; done");
    sandbox.service("steady", WAITS);
    sandbox.start();
    let pids = ["loud", "steady"].map(|name| sandbox.pid(name));
    sandbox.wait_state("once", "failed");
    let told = error(&sandbox, "once");
    assert!(
        told.contains("signal 9") || told.contains("for memory"),
        "{told}"
    );
    // Again and again it is the same one.
    assert!(wait_until(|| restarts(&sandbox, "eats") >= 3));
    let lines = sandbox.output("loud").len();
    assert!(wait_until(|| sandbox.output("loud").len() > lines));
    assert_eq!(["loud", "steady"].map(|name| sandbox.pid(name)), pids);
    fs::write(sandbox.path("modest"), "").unwrap();
    sandbox.await_running("eats");
    sandbox.done("service.start", "once");
    sandbox.stop();
}

/// A limit of address space is the service's own affair: its program gets no memory and says so.
#[test]
fn whoever_has_little_address_space_fails_alone() {
    let mut sandbox = Sandbox::new();
    let body = "exec = [\"tail\", \"/dev/zero\"]\n[lifecycle]\nrestart = \"never\"\n\
                [limits]\nas = 100000000";
    sandbox.service("eats", body);
    sandbox.service("steady", WAITS);
    sandbox.start();
    sandbox.wait_state("eats", "failed");
    let output = sandbox.output("eats").join("\n");
    assert!(output.contains("memory"), "{output}");
    assert_eq!(sandbox.status("eats")["exit_code"], 1);
    sandbox.await_running("steady");
    sandbox.stop();
}

/// The server itself gets no more memory than it has at the moment, and lives: it keeps less of what
/// services write, and does all that it is asked.
#[test]
fn a_server_that_gets_no_more_memory_lives_on_what_it_has() {
    let mut sandbox = Sandbox::new();
    for number in 0..20 {
        let exec = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo line $i of a long output; done; \
                    exec sleep 1000";
        let body = format!("exec = {}\n[logging]\nbuffer_lines = 100000", quoted(exec));
        sandbox.service(&format!("loud{number}"), &body);
    }
    sandbox.service("steady", WAITS);
    sandbox.env("DIR", &sandbox.text(""));
    // It writes more each time it is told to, and is looked at all the time.
    let exec = "for n in 1 2; do until test -e $DIR/more$n; do sleep 0.02; done; i=0; \
                while [ $i -lt 200 ]; do i=$((i+1)); echo $n.$i; done; done; exec sleep 1000";
    let probe =
        "[health]\ntype = \"exec\"\ntarget = \"echo looked >> $DIR/looks\"\ninterval_ms = 50";
    sandbox.service("probed", &format!("exec = {}\n{probe}", quoted(exec)));
    sandbox.start();
    sandbox.await_running("steady");
    let steady = sandbox.pid("steady");
    let last = "line 20000 of a long output";
    for number in 0..20 {
        sandbox.wait_output(&format!("loud{number}"), last);
    }
    let status = fs::read_to_string(format!("/proc/{}/status", sandbox.server_pid())).unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let size = size.unwrap().split_whitespace().next().unwrap();
    let bytes = size.parse::<u64>().unwrap() << 10;
    if !limit(&sandbox, &format!("--as={bytes}:")) {
        return println!("SKIPPED: there is no prlimit");
    }
    let big: serde_json::Map<String, Value> = (0..12_000)
        .map(|number| (format!("KEY{number}"), json!("v".repeat(50))))
        .collect();
    for round in 0..5 {
        let name = format!("new{round}");
        let config = json!({"service": {"name": name, "exec": "sleep 1000"}});
        sandbox.ask("service.set", config);
        sandbox.done("service.restart", &name);
        sandbox.ask("service.reload", Value::Null);
        sandbox.ask("service.list_full", Value::Null);
        // A reply that can't be had is an error or the end of that connection, not of the server.
        perhaps(
            &sandbox,
            "logs.tail",
            &json!({"name": "loud3", "lines": 100_000}),
        );
        let config = json!({"service": {"name": "big", "exec": "sleep 1000", "env": big}});
        perhaps(&sandbox, "service.set", &config);
        sandbox.done("service.restart", "loud0");
    }
    for number in 0..20 {
        sandbox.wait_output(&format!("loud{number}"), last);
    }
    wait_log(&sandbox, "there is no more memory");
    assert_eq!(sandbox.pid("steady"), steady);
    assert!(limit(&sandbox, "--as=unlimited:"));
    // With memory again all of it is kept from the next start on, and not before, whatever else is
    // run for a service.
    let looks = sandbox.lines("looks").len();
    assert!(wait_until(|| sandbox.lines("looks").len() > looks + 2));
    fs::write(sandbox.path("more1"), "").unwrap();
    sandbox.wait_output("probed", "1.200");
    assert_eq!(sandbox.output("probed").len(), 20);
    sandbox.done("service.restart", "probed");
    fs::write(sandbox.path("more2"), "").unwrap();
    sandbox.wait_output("probed", "2.200");
    assert!(sandbox.output("probed").len() >= 400);
    sandbox.done("service.restart", "loud1");
    assert!(wait_until(|| sandbox.output("loud1").len() > 5000));
    sandbox.stop();
}

// Room, and files.

/// The server's own view of a path of the sandbox: it may have mounts of its own.
fn seen(sandbox: &Sandbox, name: &str) -> PathBuf {
    let root = format!("/proc/{}/root", sandbox.server_pid());
    PathBuf::from(root + &sandbox.text(name))
}

/// A server that has done this to the place `$PLACE` in a mount namespace of its own.
fn mounted(mount: &str) -> Option<Sandbox> {
    if !is_root() || !works(&["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/tmp"]) {
        println!("SKIPPED: nothing can be mounted here");
        return None;
    }
    let mut sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("place")).unwrap();
    sandbox.env("PLACE", &sandbox.text("place"));
    let script = format!("{mount} && exec \"$0\" \"$@\"");
    sandbox.wrap(&["unshare", "-m", "sh", "-c", &script]);
    Some(sandbox)
}

/// Runs a command where the server sees its mounts.
fn beside(sandbox: &Sandbox, words: &[&str]) {
    let pid = sandbox.server_pid().to_string();
    let enter = ["nsenter", "-m", "-t", &pid];
    assert!(works(&[enter.as_slice(), words].concat()), "{words:?}");
}

const SMALL: &str = "mount -t tmpfs -o size=256k tmpfs $PLACE";

/// Fills what is left of that disk.
fn fill(sandbox: &Sandbox) {
    let mut ballast = fs::File::create(seen(sandbox, "place/ballast")).unwrap();
    let mut size = 65536;
    while size > 0 {
        if ballast.write_all(&vec![b'x'; size]).is_err() {
            size /= 2;
        }
    }
}

/// A log file on a disk that is full: no line of a service that can wait is lost, the service goes
/// on, and the log says when it began and when it was over.
#[test]
fn lines_wait_for_room_on_the_disk_of_their_log() {
    let Some(mut sandbox) = mounted(SMALL) else {
        return;
    };
    sandbox.env("DIR", &sandbox.text(""));
    let exec = "for i in 1 2 3 4; do echo early $i; done; touch $DIR/begun; \
                while ! test -e $DIR/go; do sleep 0.02; done; \
                for i in 1 2 3 4; do echo late $i; done; exec sleep 1000";
    let log = quoted(&sandbox.text("place/log"));
    let body = format!(
        "exec = {}\nstatus = \"stop\"\n[logging]\nfile = {log}",
        quoted(exec)
    );
    sandbox.service("writes", &body);
    sandbox.service("steady", WAITS);
    sandbox.start();
    let file = || fs::read_to_string(seen(&sandbox, "place/log")).unwrap_or_default();
    sandbox.done("service.start", "writes");
    assert!(wait_until(|| file().contains("early 4")));
    fill(&sandbox);
    // What the last page of the log still has room for.
    let rest = "x".repeat(5000);
    fs::File::options()
        .append(true)
        .open(seen(&sandbox, "place/log"))
        .and_then(|mut log| log.write_all(rest.as_bytes()))
        .unwrap_err();
    fs::write(sandbox.path("go"), "").unwrap();
    wait_log(
        &sandbox,
        "place/log: No space left on device (os error 28); trying again",
    );
    sandbox.wait_output("writes", "late 4");
    sandbox.await_running("steady");
    assert!(!file().contains("late 4"));
    fs::remove_file(seen(&sandbox, "place/ballast")).unwrap();
    assert!(wait_until(|| file().contains("late 4\n")), "{}", file());
    for number in 1..=4 {
        assert_eq!(
            file().matches(&format!("late {number}\n")).count(),
            1,
            "{}",
            file()
        );
    }
    wait_log(&sandbox, "place/log: written to again");
    sandbox.stop();
}

/// A log file that takes little at a time, as a named pipe does, is not taken for one that takes
/// nothing: nothing is lost.
#[test]
fn a_log_that_takes_little_at_a_time_loses_no_line() {
    let mut sandbox = Sandbox::new();
    let log = sandbox.text("log");
    if !works(&["mkfifo", &log]) {
        return println!("SKIPPED: there is no mkfifo");
    }
    // Both ends, so that it is there before and after whoever writes.
    let reader = fs::File::options()
        .read(true)
        .write(true)
        .open(&log)
        .unwrap();
    let exec = "yes $(printf %0200d 0) | head -c 1005000; echo over; exec sleep 1000";
    let body = format!(
        "exec = {}\n[logging]\nfile = {}",
        quoted(exec),
        quoted(&log)
    );
    sandbox.service("writes", &body);
    sandbox.start();
    let (mut text, mut buffer) = (Vec::new(), vec![0; 32768]);
    let is_over = || {
        sandbox
            .output("writes")
            .last()
            .is_some_and(|line| line == "over")
    };
    let is_full = || {
        let mut room = [PollFd::new(reader.as_fd(), PollFlags::POLLOUT)];
        poll(&mut room, PollTimeout::ZERO) == Ok(0)
    };
    while !text.ends_with(b" over\n") && !text.ends_with(b" lines lost\n") {
        // It takes half a piece each time, until no more comes.
        assert!(wait_until(|| is_full() || is_over()), "{}", sandbox.log());
        let count = (&reader).read(&mut buffer).unwrap();
        text.extend_from_slice(&buffer[..count]);
    }
    let text = String::from_utf8(text).unwrap();
    assert_eq!(
        (text.lines().count(), text.matches(" lost\n").count()),
        (5001, 0)
    );
    sandbox.stop();
}

/// The place of the socket is full: what the next server should know can't be noted, which is said
/// and keeps nothing from starting; with room again it is noted.
#[test]
fn services_start_though_there_is_no_room_beside_the_socket() {
    let full =
        format!("{SMALL} && {{ dd if=/dev/zero of=$PLACE/ballast bs=1k 2>/dev/null; true; }}");
    let Some(sandbox) = mounted(&full) else {
        return;
    };
    for number in 0..60 {
        sandbox.service(
            &format!("s{number}"),
            &format!("{WAITS}\nstatus = \"stop\""),
        );
    }
    let mut command = sandbox.server_command();
    let socket = sandbox.text("place/sock");
    command
        .args(["--socket", &socket])
        .stderr(fs::File::create(sandbox.path("server.log")).unwrap());
    let mut server = command.spawn().unwrap();
    let root = format!("/proc/{}/root", server.id());
    let socket = PathBuf::from(root.clone() + &socket);
    let mut connected = None;
    assert!(
        wait_until(|| {
            connected = Connection::try_open(&socket);
            connected.is_some()
        }),
        "{}",
        sandbox.log()
    );
    let mut control = connected.unwrap();
    let place = PathBuf::from(root + &sandbox.text("place"));
    let start = |control: &mut Connection, number: usize| {
        let params = json!({"name": format!("s{number}"), "wait": true, "timeout_ms": 30_000});
        let answer = control.ask("service.start", params);
        assert!(answer.is_ok(), "s{number}: {answer:?}\n{}", sandbox.log());
    };
    (0..60).for_each(|number| start(&mut control, number));
    wait_log(&sandbox, "sock.lock: No space left on device");
    fs::remove_file(place.join("ballast")).unwrap();
    let params = json!({"name": "s59", "wait": true});
    control.ask("service.restart", params).unwrap();
    let ledger = fs::read(place.join("sock.lock")).unwrap();
    let ledger = String::from_utf8_lossy(&ledger).into_owned();
    assert!(
        ledger.starts_with("boot ") && ledger.contains(" s59 "),
        "{ledger}"
    );
    signal(i32::try_from(server.id()).unwrap(), Signal::SIGTERM);
    assert_eq!(server.wait().unwrap().code(), Some(0));
    sandbox.assert_nothing_left();
}

/// A directory of services that can't be written to, and then can be again.
#[test]
fn what_a_read_only_directory_refused_is_done_when_it_can_be_written_to() {
    let Some(mut sandbox) =
        mounted("mount --bind $SERVICES $SERVICES && mount -o remount,bind,ro $SERVICES")
    else {
        return;
    };
    sandbox.env("SERVICES", &sandbox.text("services"));
    sandbox.service("old", WAITS);
    sandbox.start();
    sandbox.await_running("old");
    let pid = sandbox.pid("old");
    let set = json!({"service": {"name": "new", "exec": "sleep 1000"}});
    for _ in 0..2 {
        let (code, message, _) = sandbox.refused("service.set", set.clone());
        assert_eq!(code, -32014);
        assert!(message.contains("Read-only file system"), "{message}");
        let (_, message, _) = sandbox.refused("service.delete", json!({"name": "old"}));
        assert!(message.contains("Read-only file system"), "{message}");
    }
    // In memory it can be had.
    let config = json!({"service": {"name": "memory", "exec": "sleep 1000"}, "ephemeral": true});
    sandbox.ask("service.set", config);
    sandbox.done("service.restart", "memory");
    sandbox.ask("service.reload", Value::Null);
    assert_eq!(sandbox.pid("old"), pid);
    let services = sandbox.text("services");
    beside(&sandbox, &["mount", "-o", "remount,bind,rw", &services]);
    sandbox.ask("service.set", set);
    sandbox.done("service.restart", "new");
    assert!(sandbox.services_dir().join("new.toml").exists());
    assert_eq!(sandbox.pid("old"), pid);
    sandbox.ask("service.delete", json!({"name": "old"}));
    assert!(wait_until(|| !is_alive(pid)));
    assert!(!sandbox.services_dir().join("old.toml").exists());
    sandbox.stop();
}

/// The directory of services is gone: nothing is stopped by that, a reload says so, and what there is
/// can be used. When it comes back, all is as it was.
#[test]
fn a_directory_of_services_that_vanishes_stops_nothing() {
    let mut sandbox = Sandbox::new();
    for name in ["one", "two", "three"] {
        sandbox.service(name, WAITS);
    }
    sandbox.start();
    let names = ["one", "two", "three"];
    names.iter().for_each(|name| sandbox.await_running(name));
    let pids = names.map(|name| sandbox.pid(name));
    let (dir, aside) = (sandbox.services_dir(), sandbox.path("aside"));
    fs::rename(&dir, &aside).unwrap();
    for _ in 0..2 {
        let (_, message, _) = sandbox.refused("service.reload", Value::Null);
        assert!(message.contains(dir.to_str().unwrap()), "{message}");
        assert!(message.contains("no such directory"), "{message}");
    }
    sandbox.signal_server(Signal::SIGHUP);
    wait_log(&sandbox, "asked to reload by a signal");
    assert_eq!(names.map(|name| sandbox.pid(name)), pids);
    let listed = sandbox.ask("service.list", Value::Null);
    assert_eq!(listed, json!(["one", "three", "two"]));
    sandbox.done("service.stop", "two");
    sandbox.done("service.start", "two");
    sandbox.done("service.restart", "three");
    // A file in its place is no directory either.
    fs::write(&dir, "").unwrap();
    let (_, message, _) = sandbox.refused("service.reload", Value::Null);
    assert!(message.contains("not a directory"), "{message}");
    let config = json!({"service": {"name": "new", "exec": "sleep 1000"}});
    sandbox.refused("service.set", config);
    assert_eq!(sandbox.pid("one"), pids[0]);
    fs::remove_file(&dir).unwrap();
    fs::rename(&aside, &dir).unwrap();
    let reloaded = sandbox.ask("service.reload", Value::Null);
    for what in ["added", "changed", "removed", "errors"] {
        assert_eq!(reloaded[what], json!([]), "{reloaded}");
    }
    assert_eq!(sandbox.pid("one"), pids[0]);
    sandbox.stop();
}
