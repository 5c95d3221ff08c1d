//! What a server does whose `/proc` is not there, shows less than there is, or shows somebody
//! else's processes.

#[path = "common/meter.rs"]
mod meter;
#[path = "common/plight.rs"]
mod plight;
#[path = "common/sandbox.rs"]
mod sandbox;

use meter::Tracer;
use nix::sys::signal::Signal;
use plight::{assert_idle, in_mounts, nap, needs, works};
use sandbox::{Sandbox, find_program, is_alive, quoted, signal, wait_until};
use serde_json::{Value, json};

/// A service that heeds SIGTERM, one that does not, one with children near and far.
fn some_services(sandbox: &mut Sandbox) {
    sandbox.env("DIR", &sandbox.text(""));
    let add = |name: &str, exec: &str| {
        let lifecycle = "[lifecycle]\nstop_timeout_ms = 500\nrestart_delay_ms = 10";
        sandbox.service(name, &format!("exec = {}\n{lifecycle}", quoted(exec)));
    };
    add("plain", "exec sleep 1000");
    add(
        "deaf",
        "trap '' TERM; echo deaf; while :; do sleep 1000; done",
    );
    add(
        "tree",
        "sh -c 'echo up; sleep 1000 & wait' & sleep 1000 & wait",
    );
    add("fails", "exit 3");
    nap(sandbox);
}

/// They start, are restarted when they die, and stop; nothing that is still known as theirs is left.
fn they_come_and_go(sandbox: &Sandbox) {
    for name in ["plain", "deaf", "tree"] {
        sandbox.await_running(name);
    }
    sandbox.done("service.stop", "fails");
    sandbox.wait_output("deaf", "deaf");
    sandbox.wait_output("tree", "up");
    for round in 0..3 {
        for name in ["plain", "deaf", "tree"] {
            let before = sandbox.pid(name);
            if round == 1 {
                sandbox.done("service.restart", name);
            } else {
                sandbox.ask("service.kill", json!({"name": name, "signal": "SIGKILL"}));
            }
            assert_ne!(sandbox.wait_other_pid(name, before), before, "{name}");
        }
    }
    assert_idle(sandbox);
    for name in ["plain", "deaf", "tree"] {
        let stopped = sandbox.done("service.stop", name);
        assert_eq!(stopped["ok"], true, "{name}: {stopped}");
        assert_eq!(sandbox.state(name), "exited", "{name}\n{}", sandbox.log());
    }
    assert_idle(sandbox);
}

/// What it says at its start, once, where `/proc` is of no use.
const SENTENCE: &str = "/proc is not there, or that of another process namespace: of a service \
                        only its process group is known, and what leaves that is not stopped with it";

fn says_it(sandbox: &Sandbox) -> usize {
    sandbox.log().matches(SENTENCE).count()
}

#[test]
fn without_proc_a_service_is_its_process_group_and_the_server_says_so() {
    let hides = "mount -t tmpfs none /proc";
    if !needs("a mount namespace", &["unshare", "-m", "sh", "-c", hides]) {
        return;
    }
    let mut sandbox = Sandbox::new();
    some_services(&mut sandbox);
    in_mounts(&mut sandbox, hides);
    sandbox.start();
    they_come_and_go(&sandbox);
    assert_eq!(says_it(&sandbox), 1, "{}", sandbox.log());
    // What its main process leaves behind is found all the same.
    sandbox.done("service.start", "tree");
    sandbox.wait_output("tree", "up");
    let of_tree = sandbox.pids_of_services();
    let main = sandbox.pid("tree");
    signal(main, Signal::SIGKILL);
    sandbox.wait_other_pid("tree", main);
    for pid in of_tree {
        assert!(!is_alive(pid), "{pid}\n{}", sandbox.log());
    }
    sandbox.stop();
}

#[test]
fn a_server_whose_proc_goes_and_comes_back_goes_on() {
    let shows = "mount -t proc proc /proc";
    if !needs("a mount namespace", &["unshare", "-m", "sh", "-c", shows]) {
        return;
    }
    let mut sandbox = Sandbox::new();
    some_services(&mut sandbox);
    let far = "( setsid sh -c 'echo $$ > $DIR/far; exec sleep 1000' & ); exec sleep 1000";
    sandbox.runs("far", far);
    in_mounts(&mut sandbox, shows);
    sandbox.start();
    let first = sandbox.wait_pid_file("far");
    let server = sandbox.server_pid().to_string();
    let inside = |command: &str| {
        let enter = ["nsenter", "-t", &server, "-m", "sh", "-c", command];
        assert!(works(&enter), "{command}");
    };
    inside("mount -t tmpfs none /proc");
    they_come_and_go(&sandbox);
    assert_eq!(sandbox.state("far"), "running");
    assert!(is_alive(first));
    // Another instance of the same.
    inside(shows);
    sandbox.done("service.restart", "far");
    assert!(!is_alive(first), "{}", sandbox.log());
    assert!(wait_until(|| sandbox.wait_pid_file("far") != first));
    let second = sandbox.wait_pid_file("far");
    assert!(is_alive(second));
    sandbox.done("service.stop", "far");
    assert!(!is_alive(second), "{}", sandbox.log());
    for name in ["plain", "deaf", "tree"] {
        sandbox.done("service.start", name);
    }
    they_come_and_go(&sandbox);
    assert_eq!(says_it(&sandbox), 0, "{}", sandbox.log());
    sandbox.stop();
}

/// Three processes of one group, each of which notes every SIGTERM and ends when it is told to: the
/// main one, its child, and one that has lost its parent.
const COUNTS: &str = "counts() { trap \"echo $1 >> $DIR/asked\" TERM; touch $DIR/$1; \
                      until test -e $DIR/end-$1; do sleep 0.02; done; }; \
                      counts child & ( counts orphan & ); counts main";

/// A stop asks each of them once: who is asked again may take it for impatience.
fn each_is_asked_once(hides: &str, then: impl Fn(&Sandbox)) {
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    let lifecycle = "[lifecycle]\nstop_timeout_ms = 600000";
    sandbox.service("counts", &format!("exec = {}\n{lifecycle}", quoted(COUNTS)));
    in_mounts(&mut sandbox, hides);
    sandbox.start();
    let all = ["child", "main", "orphan"];
    let are_up = || all.iter().all(|name| sandbox.path(name).exists());
    assert!(wait_until(are_up));
    let main = sandbox.pid("counts");
    then(&sandbox);
    let tracer = Tracer::attach(sandbox.server_pid(), sandbox.path("calls"));
    sandbox.ask("service.stop", json!({"name": "counts"}));
    let asked = || {
        let mut asked = sandbox.lines("asked");
        asked.sort();
        asked
    };
    let is_each_asked = || all.iter().all(|name| asked().iter().any(|one| one == name));
    assert!(wait_until(is_each_asked), "{:?}", asked());
    let ends = |name: &str| std::fs::write(sandbox.path(&format!("end-{name}")), "").unwrap();
    ends("main");
    // What it leaves behind is looked at before it is collected.
    let is_collected = || !std::path::Path::new(&format!("/proc/{main}")).exists();
    assert!(wait_until(is_collected), "{}", sandbox.log());
    ["child", "orphan"].into_iter().for_each(ends);
    sandbox.await_goal("counts", "stopped").unwrap();
    assert_eq!(asked(), all);
    // Signals that come close together may be one to whoever gets them.
    if let Some(tracer) = tracer {
        let calls = tracer.detach();
        let kills = calls.0.get("kill");
        assert_eq!(kills, Some(&1), "{}", calls.table(1));
    }
    sandbox.stop();
}

#[test]
fn without_proc_a_stop_asks_each_process_once() {
    let hides = "mount -t tmpfs none /proc";
    if needs("a mount namespace", &["unshare", "-m", "sh", "-c", hides]) {
        each_is_asked_once(hides, |_| ());
    }
}

/// The server still hears of its children then, and sees nothing of them.
#[test]
fn when_proc_has_gone_a_stop_asks_each_process_once() {
    let shows = "mount -t proc proc /proc";
    if needs("a mount namespace", &["unshare", "-m", "sh", "-c", shows]) {
        each_is_asked_once(shows, |sandbox| {
            let server = sandbox.server_pid().to_string();
            let enter = ["nsenter", "-t", &server, "-m"];
            let hides = ["mount", "-t", "tmpfs", "none", "/proc"];
            assert!(works(&[&enter[..], &hides].concat()));
        });
    }
}

/// `unshare -p` without a `/proc` of its own is a mistake that is easily made: there the numbers of
/// the server's children are those of others.
#[test]
fn proc_of_another_namespace_leads_to_no_stranger() {
    if !needs("a process namespace", &["unshare", "-p", "--fork", "true"]) {
        return;
    }
    let mut sandbox = Sandbox::new();
    some_services(&mut sandbox);
    // Strangers, with all the numbers that services might be taken to have.
    let script = "i=0; while [ $i -lt 30 ]; do sleep 1000 & i=$((i + 1)); done; echo $! > $DIR/last\n\
                  \"$0\" \"$@\"; ended=$?; kill -0 $(seq 2 31) && echo all > $DIR/strangers; \
                  exit $ended";
    let words = [
        "unshare",
        "-p",
        "--fork",
        "--kill-child",
        "sh",
        "-c",
        script,
    ];
    sandbox.wrap(&words);
    sandbox.start();
    sandbox.wait_file("last");
    they_come_and_go(&sandbox);
    assert_eq!(says_it(&sandbox), 1, "{}", sandbox.log());
    for name in ["plain", "deaf", "tree"] {
        sandbox.done("service.start", name);
    }
    ends_by_request(&mut sandbox);
    assert_eq!(sandbox.wait_file("strangers"), "all\n");
    let nobody = || sandbox.pids_of_marker().is_empty();
    assert!(wait_until(nobody), "{:?}", sandbox.pids_of_marker());
}

/// Who `hidepid` hides a service's processes from signals them nevertheless.
#[test]
fn an_unprivileged_server_stops_what_it_may_not_see() {
    const UID: u32 = 64_123;
    let shows = "mount -t proc -o hidepid=2 proc /proc";
    let server = format!("setpriv --reuid={UID} --regid={UID} --clear-groups");
    let zinit = env!("CARGO_BIN_EXE_zinit");
    let tried = format!("{shows} && {server} {zinit} --version");
    if !needs(
        "hidepid for another user",
        &["unshare", "-m", "sh", "-c", &tried],
    ) {
        return;
    }
    let mut sandbox = Sandbox::new();
    some_services(&mut sandbox);
    let slept = find_program("sleep").expect("sleep is somewhere");
    std::fs::copy(slept, sandbox.path("sleeps-as-root")).unwrap();
    sandbox.runs("hidden", "exec $DIR/sleeps-as-root 1000");
    sandbox.runs(
        "hidden-child",
        "$DIR/sleeps-as-root 1000 & echo $! > $DIR/child; wait",
    );
    let dir = sandbox.text("");
    let owner = format!("{UID}:{UID}");
    assert!(works(&["chown", "-R", &owner, &dir]));
    let program = sandbox.text("sleeps-as-root");
    assert!(works(&["chown", "0:0", &program]));
    assert!(works(&["chmod", "4755", &program]));
    let script = format!("{shows} && exec {server} \"$0\" \"$@\"");
    sandbox.wrap(&["unshare", "-m", "sh", "-c", &script]);
    sandbox.start();
    they_come_and_go(&sandbox);
    sandbox.await_running("hidden");
    let main = sandbox.pid("hidden");
    let child = sandbox.wait_pid_file("child");
    let effective = || {
        let status = std::fs::read_to_string(format!("/proc/{main}/status")).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("Uid:"));
        line.is_some_and(|line| line.split_whitespace().nth(2) == Some("0"))
    };
    if !wait_until(effective) {
        println!("SKIPPED: no setuid programs in {dir}");
    }
    sandbox.done("service.stop", "hidden");
    assert!(!is_alive(main), "{}", sandbox.log());
    sandbox.done("service.stop", "hidden-child");
    assert!(!is_alive(child), "{}", sandbox.log());
    assert_eq!(says_it(&sandbox), 0, "{}", sandbox.log());
    sandbox.stop();
}

fn ends_by_request(sandbox: &mut Sandbox) {
    sandbox.ask("system.shutdown", Value::Null);
    assert_eq!(sandbox.server_end().code(), Some(0), "{}", sandbox.log());
}
