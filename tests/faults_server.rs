//! What may befall the server itself: its socket is deleted, somebody else wants its place, nobody
//! takes its words, and time makes a jump.

#[path = "common/puppet.rs"]
mod puppet;
#[path = "common/sandbox.rs"]
mod sandbox;

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;
use sandbox::{Connection, Sandbox, is_alive, stat_field, wait_until};
use serde_json::{Value, json};

const WAITS: &str = "exec = [\"sleep\", \"1000\"]";

fn wait_log(sandbox: &Sandbox, text: &str) {
    let so = wait_until(|| sandbox.log().contains(text));
    assert!(so, "no {text:?} in\n{}", sandbox.log());
}

fn is_socket(sandbox: &Sandbox) -> bool {
    let meta = fs::symlink_metadata(sandbox.socket());
    meta.is_ok_and(|meta| meta.file_type().is_socket())
}

/// Answers on a connection that is there.
fn answers(connection: &mut Connection) -> bool {
    connection.ask("system.ping", Value::Null).is_ok()
}

// The socket.

/// Deleted, the socket is made anew on SIGHUP, with its mode; who is connected stays so, and no
/// service notices.
#[test]
fn a_deleted_socket_is_made_anew_by_a_reload() {
    let mut sandbox = Sandbox::new();
    sandbox.service("one", WAITS);
    sandbox.start();
    sandbox.await_running("one");
    let pid = sandbox.pid("one");
    let mut before = sandbox.connect();
    assert!(answers(&mut before));
    // By a signal, and by a client that is still there.
    for round in 0..2 {
        fs::remove_file(sandbox.socket()).unwrap();
        let (_, error, code) = sandbox.cli(&["list"]);
        assert_eq!(code, 3, "{error}");
        assert!(answers(&mut before));
        if round == 0 {
            sandbox.signal_server(Signal::SIGHUP);
        } else {
            before.ask("service.reload", Value::Null).unwrap();
        }
        assert!(wait_until(|| is_socket(&sandbox)), "{}", sandbox.log());
        assert_eq!(sandbox.pid("one"), pid);
        let mode = fs::metadata(sandbox.socket()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        assert!(answers(&mut before));
    }
    wait_log(&sandbox, "sock was gone and is made anew");
    sandbox.done("service.restart", "one");
    sandbox.stop();
    assert!(!sandbox.socket().exists());
}

/// With its directory, and so with what the next server has to know: that is written anew, and the
/// next server finds by it whom this one has left.
#[test]
fn what_lies_beside_the_socket_is_made_anew_with_it() {
    let mut sandbox = Sandbox::new();
    // It can't be known by its environment.
    sandbox.service("bare", "exec = [\"env\", \"-i\", \"sleep\", \"1000\"]");
    sandbox.start();
    sandbox.await_running("bare");
    let pid = sandbox.pid("bare");
    let lock = sandbox.path("sock.lock");
    fs::remove_file(sandbox.socket()).unwrap();
    fs::remove_file(&lock).unwrap();
    sandbox.signal_server(Signal::SIGHUP);
    assert!(wait_until(|| is_socket(&sandbox) && lock.exists()));
    assert_eq!(sandbox.pid("bare"), pid);
    sandbox.kill_server();
    assert!(is_alive(pid));
    sandbox.start();
    assert!(!is_alive(pid), "{}", sandbox.log());
    sandbox.await_running("bare");
    sandbox.stop();
    assert!(!lock.exists());
}

/// Something else in the place of the socket is not touched. The log says what it is, and the socket
/// comes back once it is out of the way.
#[test]
fn what_stands_in_the_place_of_the_socket_is_left_alone() {
    let mut sandbox = Sandbox::new();
    sandbox.service("one", WAITS);
    sandbox.start();
    sandbox.await_running("one");
    let pid = sandbox.pid("one");
    for is_dir in [false, true] {
        let mut before = sandbox.connect();
        assert!(answers(&mut before));
        fs::remove_file(sandbox.socket()).unwrap();
        if is_dir {
            fs::create_dir(sandbox.socket()).unwrap();
        } else {
            fs::write(sandbox.socket(), "mine").unwrap();
        }
        let told = || {
            sandbox
                .log()
                .matches("the file is there and is no socket")
                .count()
        };
        let known = told();
        sandbox.signal_server(Signal::SIGHUP);
        assert!(wait_until(|| told() > known), "{}", sandbox.log());
        assert!(answers(&mut before));
        if is_dir {
            fs::remove_dir(sandbox.socket()).unwrap();
        } else {
            assert_eq!(fs::read_to_string(sandbox.socket()).unwrap(), "mine");
            fs::remove_file(sandbox.socket()).unwrap();
        }
        sandbox.signal_server(Signal::SIGHUP);
        assert!(wait_until(|| is_socket(&sandbox)));
        assert_eq!(sandbox.pid("one"), pid);
    }
    // What stands there at the end is not the server's to delete.
    fs::remove_file(sandbox.socket()).unwrap();
    fs::write(sandbox.socket(), "mine").unwrap();
    sandbox.stop();
    assert_eq!(fs::read_to_string(sandbox.socket()).unwrap(), "mine");
}

/// The last line that a server which ends at once says.
fn second(sandbox: &Sandbox) -> Output {
    let mut command = sandbox.server_command();
    command.stderr(Stdio::piped()).output().unwrap()
}

/// A second server on the same socket says why it can't be and leaves the first alone, also when it
/// finds the socket deleted.
#[test]
fn a_second_server_harms_the_first_in_nothing() {
    let mut sandbox = Sandbox::new();
    sandbox.service("one", WAITS);
    sandbox.start();
    sandbox.await_running("one");
    let pid = sandbox.pid("one");
    for is_deleted in [false, true] {
        if is_deleted {
            fs::remove_file(sandbox.socket()).unwrap();
        }
        let output = second(&sandbox);
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8(output.stderr).unwrap();
        let told = format!(
            "{}: another server listens there",
            sandbox.socket().display()
        );
        assert!(error.contains(&told), "{error}");
        assert!(is_alive(pid));
    }
    sandbox.signal_server(Signal::SIGHUP);
    assert!(wait_until(|| is_socket(&sandbox)));
    assert_eq!(sandbox.pid("one"), pid);
    // The first killed, the second takes its place, and ends what it has left.
    sandbox.kill_server();
    sandbox.start();
    sandbox.await_running("one");
    assert!(!is_alive(pid));
    assert_ne!(sandbox.pid("one"), pid);
    sandbox.stop();
}

/// A server that has lost socket and lock to another does not delete those of the other.
#[test]
fn a_server_that_lost_its_place_leaves_it_to_the_other() {
    let mut sandbox = Sandbox::new();
    sandbox.service("one", WAITS);
    sandbox.start();
    sandbox.await_running("one");
    let pid = sandbox.pid("one");
    fs::remove_file(sandbox.socket()).unwrap();
    fs::remove_file(sandbox.path("sock.lock")).unwrap();
    let mut other = sandbox.server_command();
    let mut other = other.stderr(Stdio::null()).spawn().unwrap();
    let mine = i32::try_from(other.id()).unwrap();
    assert!(wait_until(|| is_socket(&sandbox)));
    let runs = |sandbox: &Sandbox| sandbox.rpc("service.status", json!({"name": "one"}));
    assert!(wait_until(
        || runs(&sandbox).is_ok_and(|status| status["state"] == "running")
    ));
    assert!(is_alive(pid), "the other server ends nothing of this one's");
    sandbox.signal_server(Signal::SIGHUP);
    wait_log(&sandbox, "another server listens there");
    sandbox.signal_server(Signal::SIGTERM);
    assert_eq!(sandbox.server_end().code(), Some(0));
    assert!(!is_alive(pid));
    assert!(is_socket(&sandbox) && sandbox.path("sock.lock").exists());
    assert!(runs(&sandbox).is_ok());
    sandbox::signal(mine, Signal::SIGTERM);
    assert_eq!(other.wait().unwrap().code(), Some(0));
    assert!(!is_socket(&sandbox));
}

// Its words.

/// Works through enough to fill any pipe with words.
fn is_busy_and_well(sandbox: &mut Sandbox) {
    sandbox.await_running("one");
    for _ in 0..100 {
        sandbox.done("service.restart", "one");
        sandbox.ask("service.reload", Value::Null);
    }
    sandbox.wait_output("one", "up");
}

#[test]
fn a_server_whose_words_find_no_room_works() {
    let mut sandbox = Sandbox::new();
    sandbox.runs("one", "echo up; exec sleep 1000");
    let mut command = sandbox.server_command();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    command.stdout(full.try_clone().unwrap()).stderr(full);
    sandbox.start_as(command);
    is_busy_and_well(&mut sandbox);
    sandbox.stop();
}

/// The log on a full disk: with room again it goes on, and says how much is missing.
#[test]
fn a_server_says_how_many_of_its_words_found_no_room() {
    let can = ["-m", "mount", "-t", "tmpfs", "tmpfs", "/tmp"];
    let can = Command::new("unshare")
        .args(can)
        .stderr(Stdio::null())
        .status();
    if !can.is_ok_and(|status| status.success()) {
        return println!("SKIPPED: nothing can be mounted here");
    }
    let mut sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("place")).unwrap();
    sandbox.env("PLACE", &sandbox.text("place"));
    let odd = "mount -t tmpfs -o size=64k tmpfs $PLACE && exec \"$0\" \"$@\" 2>> $PLACE/log";
    sandbox.wrap(&["unshare", "-m", "sh", "-c", odd]);
    sandbox.runs("one", "echo up; exec sleep 1000");
    sandbox.start();
    let place = format!(
        "/proc/{}/root{}",
        sandbox.server_pid(),
        sandbox.text("place")
    );
    let ballast = format!("{place}/ballast");
    let mut size = 65536;
    let mut file = fs::File::create(&ballast).unwrap();
    while size > 0 {
        let written = std::io::Write::write_all(&mut file, &vec![b'x'; size]);
        size = if written.is_ok() { size } else { size / 2 };
    }
    drop(file);
    is_busy_and_well(&mut sandbox);
    fs::remove_file(&ballast).unwrap();
    sandbox.done("service.restart", "one");
    let log = fs::read_to_string(format!("{place}/log")).unwrap();
    assert!(log.contains(" lines of log dropped)\n"), "{log}");
    assert!(
        log.trim_end()
            .ends_with(&format!("(pid {})", sandbox.pid("one"))),
        "{log}"
    );
    sandbox.stop();
}

// Time.

/// Stops the server until so much has happened without it, and lets it go on. For all it knows time
/// has jumped.
fn freeze(sandbox: &Sandbox, long_enough: impl Fn() -> bool) {
    sandbox.signal_server(Signal::SIGSTOP);
    let so = wait_until(long_enough);
    sandbox.signal_server(Signal::SIGCONT);
    assert!(so, "nothing happens");
}

/// A clock of a test: a process of its own that counts tenths of seconds.
fn ticks(sandbox: &Sandbox) -> usize {
    sandbox.lines("ticks").len()
}

/// After a jump of time, all whose time has come is done at once, and whoever was in time counts as
/// in time: a watchdog that was pinged, a probe that had an answer, a program that said it is ready.
#[test]
fn a_jump_of_time_harms_nobody_who_was_in_time() {
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    sandbox.runs("clock", "while :; do echo >> $DIR/ticks; sleep 0.1; done");
    let body = "[readiness]\ntype = \"notify\"\nwatchdog_ms = 2000\n\
                [lifecycle]\nrestart = \"never\"";
    let first = "notify(\"READY=1\"); ping_until_quiet()";
    if !puppet::puppet(&sandbox, "pings", first, body) {
        return;
    }
    sandbox.service(
        "probed",
        &format!(
            "{WAITS}\n[lifecycle]\nrestart = \"never\"\n[health]\ntype = \"exec\"\n\
             target = \"true\"\ninterval_ms = 20\ntimeout_ms = 1000\nretries = 1"
        ),
    );
    let exec = "\"touch $DIR/begun; while ! test -e $DIR/go; do sleep 0.02; done; echo ready; \
                exec sleep 1000\"";
    sandbox.service(
        "slow",
        &format!(
            "exec = {exec}\nstatus = \"stop\"\n[readiness]\ntype = \"log\"\ntext = \"ready\"\n\
             [lifecycle]\nrestart = \"never\"\nstart_timeout_ms = 3000"
        ),
    );
    let crash = "exec = \"exit 1\"\n[lifecycle]\nrestart_delay_ms = 1500\nmax_restarts = 2";
    sandbox.service("crash", crash);
    sandbox.start();
    for name in ["clock", "pings", "probed"] {
        sandbox.await_running(name);
    }
    let pids = ["clock", "pings", "probed"].map(|name| sandbox.pid(name));
    for round in 0..3 {
        if round == 1 {
            sandbox.ask("service.start", json!({"name": "slow"}));
            assert!(wait_until(|| sandbox.path("begun").exists()));
        }
        let (from, go) = (ticks(&sandbox), sandbox.path("go"));
        freeze(&sandbox, || {
            let so = ticks(&sandbox) >= from + 40;
            if round == 1 && ticks(&sandbox) > from + 5 {
                fs::write(&go, "").unwrap();
            }
            so
        });
        assert!(sandbox.rpc("system.ping", Value::Null).is_ok());
        if round >= 1 {
            sandbox.await_running("slow");
        }
        let now = ["clock", "pings", "probed"].map(|name| sandbox.pid(name));
        assert_eq!(now, pids, "{}", sandbox.log());
    }
    sandbox.await_goal("crash", "stopped").unwrap();
    assert!(!sandbox.log().contains("unhealthy"), "{}", sandbox.log());
    sandbox.stop();
}

/// Nobody's restarts, stops or waits are lost over a jump: what was due meanwhile is done.
#[test]
fn what_was_due_in_a_jump_of_time_is_done_after_it() {
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    sandbox.runs("clock", "while :; do echo >> $DIR/ticks; sleep 0.1; done");
    let stubborn = "exec = \"trap '' TERM; while :; do sleep 1; done\"\n\
                    [lifecycle]\nstop_timeout_ms = 1000";
    sandbox.service("stubborn", stubborn);
    let again = "exec = \"sleep 0.5; exit 1\"\n[lifecycle]\nrestart_delay_ms = 500\n\
                 restart_delay_max_ms = 500\nmax_restarts = 0";
    sandbox.service("again", again);
    sandbox.start();
    sandbox.await_running("stubborn");
    let stubborn = sandbox.pid("stubborn");
    let mut stop = sandbox.connect();
    let stopped = stop.begin("service.stop", json!({"name": "stubborn", "wait": true}));
    let mut wait = sandbox.connect();
    let params = json!({"name": "clock", "for": "stopped", "timeout_ms": 1000});
    let waited = wait.begin("service.wait", params);
    sandbox.wait_state("stubborn", "stopping");
    let from = ticks(&sandbox);
    freeze(&sandbox, || ticks(&sandbox) >= from + 30);
    assert!(stop.finish(stopped).is_ok());
    assert!(!is_alive(stubborn));
    let (_, _, data) = wait.finish(waited).unwrap_err();
    assert_eq!(data["outcome"], "timeout");
    let known = sandbox.pid("again");
    sandbox.wait_other_pid("again", known);
    assert!(stat_field(sandbox.server_pid(), 4).is_some());
    sandbox.stop();
}
