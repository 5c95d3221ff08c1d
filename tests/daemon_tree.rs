//! Trees of real processes: they come up in order, survive what happens to them, go down in
//! reverse order, and nothing of them is left, however hard they try.

#[path = "common/meter.rs"]
mod meter;
#[path = "common/sandbox.rs"]
mod sandbox;

use std::collections::BTreeMap;
use std::fs;

use nix::sys::signal::Signal;
use sandbox::{Sandbox, find_program, free_port, is_alive, python, quoted, signal, wait_until};
use serde_json::json;

/// A service that tells of its start and of its end in one file, and has a child.
fn teller(name: &str) -> String {
    format!(
        "trap 'echo {name} down >> \"$ORDER\"; exit 0' TERM; echo {name} up >> \"$ORDER\"; \
         while :; do sleep 1000 & wait $!; done"
    )
}

fn once(name: &str) -> String {
    format!("echo {name} up >> \"$ORDER\"")
}

const NOBODY: [i32; 0] = [];

const QUICK: &str = "restart_delay_ms = 10\nmax_restarts = 0";

/// Twelve services of every kind; only the last target is started by itself.
const KINDS: &[(&str, Kind, &str)] = &[
    ("mounts", Kind::Once, ""),
    ("seed", Kind::Once, "requires = [\"mounts\"]"),
    ("basic", Kind::Target, "requires = [\"mounts\", \"seed\"]"),
    ("db", Kind::Daemon, "requires = [\"basic\"]"),
    (
        "cache",
        Kind::Daemon,
        "requires = [\"basic\"]\nafter = [\"db\"]",
    ),
    ("gate", Kind::Port, "requires = [\"basic\"]"),
    (
        "app1",
        Kind::Daemon,
        "requires = [\"db\"]\nwants = [\"cache\"]",
    ),
    ("app2", Kind::Daemon, "requires = [\"app1\"]"),
    (
        "app3",
        Kind::Daemon,
        "requires = [\"app2\"]\nwants = [\"metrics\", \"nobody\"]",
    ),
    ("metrics", Kind::Daemon, "after = [\"app2\", \"nobody\"]"),
    (
        "web",
        Kind::Daemon,
        "requires = [\"gate\"]\nafter = [\"app3\"]",
    ),
    ("ready", Kind::Target, "requires = [\"web\", \"app3\"]"),
];

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Once,
    Daemon,
    Port,
    Target,
}

/// Who comes before whom.
const ORDER: &[(&str, &str)] = &[
    ("mounts", "seed"),
    ("seed", "db"),
    ("seed", "gate"),
    ("seed", "cache"),
    ("db", "cache"),
    ("db", "app1"),
    ("app1", "app2"),
    ("app2", "app3"),
    ("app2", "metrics"),
    ("gate", "web"),
    ("app3", "web"),
];

fn twelve() -> Sandbox {
    let mut sandbox = Sandbox::new();
    sandbox.env("ORDER", &sandbox.text("order"));
    for (name, kind, links) in KINDS {
        let exec = match kind {
            Kind::Once => format!("exec = {}\noneshot = true", quoted(&once(name))),
            Kind::Daemon => format!("exec = {}", quoted(&teller(name))),
            Kind::Port => format!(
                "exec = {}\nports = [{}]",
                quoted(&teller(name)),
                free_port()
            ),
            Kind::Target if *name == "ready" => String::new(),
            Kind::Target => "status = \"stop\"".to_owned(),
        };
        if *kind == Kind::Target {
            sandbox.target(name, &format!("{exec}\n[dependencies]\n{links}"));
        } else {
            let body =
                format!("{exec}\nstatus = \"stop\"\n[dependencies]\n{links}\n[lifecycle]\n{QUICK}");
            sandbox.service(name, &body);
        }
    }
    sandbox.start();
    sandbox.await_running("ready");
    sandbox.await_running("metrics");
    sandbox.await_running("cache");
    sandbox
}

fn daemons() -> impl Iterator<Item = &'static str> {
    let runs = |kind| matches!(kind, Kind::Daemon | Kind::Port);
    KINDS
        .iter()
        .filter(move |(_, kind, _)| runs(*kind))
        .map(|(name, ..)| *name)
}

/// Waits until each daemon has told of its start and has its child, so that all of them heed
/// SIGTERM.
fn all_told(sandbox: &Sandbox, times: usize) {
    let told = || {
        let lines = sandbox.lines("order");
        let count = |name: &str| {
            lines
                .iter()
                .filter(|line| **line == format!("{name} up"))
                .count()
        };
        daemons().all(|name| {
            let family = sandbox.ask("service.children", json!({"name": name}));
            count(name) >= times && family["children"][0]["name"] == "sleep"
        })
    };
    assert!(
        wait_until(told),
        "{:?}\n{}",
        sandbox.lines("order"),
        sandbox.log()
    );
}

fn place(lines: &[String], line: &str) -> usize {
    lines
        .iter()
        .rposition(|known| known == line)
        .unwrap_or_else(|| panic!("no {line:?} in {lines:?}"))
}

/// When a process was forked, in ticks since boot.
fn start_time(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let rest = stat.rsplit(')').next().unwrap();
    rest.split_ascii_whitespace()
        .nth(19)
        .unwrap()
        .parse()
        .unwrap()
}

fn assert_down_in_reverse(sandbox: &Sandbox) {
    let lines = sandbox.lines("order");
    let is_once = |name: &str| {
        KINDS
            .iter()
            .any(|(known, kind, _)| *known == name && *kind == Kind::Once)
    };
    for (first, then) in ORDER.iter().filter(|(first, _)| !is_once(first)) {
        let (first, then) = (format!("{first} down"), format!("{then} down"));
        assert!(
            place(&lines, &then) < place(&lines, &first),
            "{then:?} after {first:?}: {lines:?}"
        );
    }
}

#[test]
fn twelve_services_come_up_in_order_and_go_down_in_reverse() {
    let mut sandbox = twelve();
    all_told(&sandbox, 1);
    for (name, kind, _) in KINDS {
        let state = sandbox.state(name);
        let right = if *kind == Kind::Once {
            "exited"
        } else {
            "running"
        };
        assert_eq!(state, right, "{name}");
    }
    // What a daemon writes first may be written late; that it was forked later may not.
    let born: BTreeMap<&str, u64> = daemons()
        .map(|name| (name, start_time(sandbox.pid(name))))
        .collect();
    let lines = sandbox.lines("order");
    for (first, then) in ORDER {
        match (born.get(first), born.get(then)) {
            (Some(first_at), Some(then_at)) => {
                assert!(first_at <= then_at, "{first} {then}: {born:?}");
            }
            _ => assert!(
                place(&lines, &format!("{first} up")) < place(&lines, &format!("{then} up")),
                "{first} before {then}: {lines:?}"
            ),
        }
    }
    sandbox.stop();
    assert_down_in_reverse(&sandbox);
}

#[test]
fn the_tree_survives_the_death_of_any_process() {
    let mut sandbox = twelve();
    all_told(&sandbox, 1);
    // The children first: their mains do not care.
    let mains: BTreeMap<&str, i32> = daemons().map(|name| (name, sandbox.pid(name))).collect();
    let children: Vec<i32> = sandbox
        .pids_of_services()
        .into_iter()
        .filter(|pid| !mains.values().any(|main| main == pid))
        .collect();
    for child in children {
        signal(child, Signal::SIGKILL);
    }
    for (name, main) in &mains {
        assert_eq!(sandbox.pid(name), *main, "{name}");
    }
    for (name, main) in mains {
        signal(main, Signal::SIGKILL);
        sandbox.wait_other_pid(name, main);
    }
    all_told(&sandbox, 2);
    sandbox.await_running("ready");
    for name in daemons() {
        assert_eq!(sandbox.state(name), "running", "{name}");
    }
    // A request to stop everything still takes the same way back.
    sandbox.stop();
    assert_down_in_reverse(&sandbox);
}

#[test]
fn stopping_one_in_the_middle_takes_only_those_that_require_it() {
    let sandbox = twelve();
    all_told(&sandbox, 1);
    sandbox.done("service.stop", "app1");
    let lines = sandbox.lines("order");
    assert!(place(&lines, "app3 down") < place(&lines, "app2 down"));
    assert!(place(&lines, "app2 down") < place(&lines, "app1 down"));
    for (name, word) in [
        ("web", "running"),
        ("metrics", "running"),
        ("cache", "running"),
    ] {
        assert_eq!(sandbox.state(name), word, "{name}");
    }
    assert_eq!(sandbox.state("ready"), "blocked");
    // The target comes back by itself once what it requires is asked for.
    sandbox.done("service.start", "app3");
    sandbox.await_running("ready");
}

/// What each of them does; `$DIR` is the sandbox, each process to be watched writes its number to
/// a file there.
const NASTY: &[(&str, &str)] = &[
    (
        "deaf",
        "trap '' TERM; echo $$ > $DIR/deaf.1; while :; do sleep 1000; done",
    ),
    (
        "forks-twice",
        "( ( sh -c 'echo $$ > $DIR/forks-twice.1; exec sleep 1000' & ) & ); exec sleep 1000",
    ),
    (
        "own-session",
        "setsid sh -c 'echo $$ > $DIR/own-session.1; exec sleep 1000' & exec sleep 1000",
    ),
    (
        "deaf-daemon",
        "( setsid sh -c 'trap \"\" TERM; echo $$ > $DIR/deaf-daemon.1; \
         while :; do sleep 1000; done' & ); exec sleep 1000",
    ),
    (
        "bare",
        "env -i sh -c 'echo $$ > '$DIR'/bare.1; exec sleep 1000' & exec sleep 1000",
    ),
    (
        "bare-daemon",
        "( env -i setsid sh -c 'echo $$ > '$DIR'/bare-daemon.1; exec sleep 1000' & ); \
         exec sleep 1000",
    ),
    (
        "bare-itself",
        "exec env -i sh -c 'sleep 1000 & echo $! > '$DIR'/bare-itself.1; wait'",
    ),
    (
        "silent-daemon",
        "( setsid sh -c 'echo $$ > $DIR/silent-daemon.1; exec sleep 1000' \
         < /dev/null > /dev/null 2>&1 & ); exec sleep 1000",
    ),
    (
        "bare-child",
        "env -i setsid sh -c 'echo $$ > '$DIR'/bare-child.1; exec sleep 1000' \
         < /dev/null > /dev/null 2>&1 & exec sleep 1000",
    ),
    (
        "frozen",
        "sleep 1000 & echo $! > $DIR/frozen.1; kill -STOP $!; kill -STOP $$; wait",
    ),
    (
        "deep",
        "sh -c 'sh -c \"sleep 1000 & echo \\$! > $DIR/deep.1; wait\"; :'; :",
    ),
];

/// Those that need a shell that can rename.
const RENAMED: &str = "( exec -a 'a) S 1 (x' setsid bash -c \
     'echo $$ > $DIR/renamed.1; exec -a \"b) Z 0 0 0 (\" sleep 1000' & ); exec -a '(' sleep 1000";

/// Those that need Python.
const RENAMED_TO_FORGE: &str = r#"
import ctypes, os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(15, b"a) Z 0 1 (b\n", 0, 0, 0)
        with open(os.environ["DIR"] + "/forger.1", "w") as file:
            file.write("%d\n" % os.getpid())
        signal.pause()
    os._exit(0)
signal.pause()
"#;

const THREADS_THAT_FORK: &str = r#"
import os, signal, subprocess, threading
names = iter(["threads.1", "threads.2", "threads.3"])
def work(name):
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    with open(os.environ["DIR"] + "/" + name, "w") as file:
        file.write("%d\n" % child.pid)
    signal.pause()
for name in names:
    threading.Thread(target=work, args=(name,), daemon=True).start()
signal.pause()
"#;

fn nasty(lifecycle: &str) -> (Sandbox, BTreeMap<String, Vec<i32>>) {
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    let mut all: Vec<(String, String, usize)> = NASTY
        .iter()
        .map(|(name, exec)| ((*name).to_owned(), (*exec).to_owned(), 1))
        .collect();
    if find_program("bash").is_some() {
        let exec = format!("bash -c {}", shell_quoted(RENAMED));
        all.push(("renamed".to_owned(), exec, 1));
    } else {
        println!("skipped: bash is not installed");
    }
    if let Some(python) = python() {
        for (name, script, count) in [
            ("forger", RENAMED_TO_FORGE, 1),
            ("threads", THREADS_THAT_FORK, 3),
        ] {
            fs::write(sandbox.path(&format!("{name}.py")), script).unwrap();
            let exec = format!("exec {} $DIR/{name}.py", python.display());
            all.push((name.to_owned(), exec, count));
        }
    } else {
        println!("skipped: python3 is not installed");
    }
    for (name, exec, _) in &all {
        let body = format!(
            "exec = {}\nstatus = \"stop\"\n[lifecycle]\nstop_timeout_ms = 300\n{lifecycle}",
            quoted(exec)
        );
        sandbox.service(name, &body);
    }
    sandbox.start();
    let mut pids = BTreeMap::new();
    for (name, _, _) in &all {
        sandbox.ask("service.start", json!({"name": name}));
    }
    for (name, _, count) in all {
        let files = (1..=count).map(|number| format!("{name}.{number}"));
        let mut of_service: Vec<i32> = files.map(|file| sandbox.wait_pid_file(&file)).collect();
        of_service.push(sandbox.pid(&name));
        assert!(
            of_service.iter().all(|pid| is_alive(*pid)),
            "{name}: {of_service:?}\n{}",
            sandbox.log()
        );
        pids.insert(name, of_service);
    }
    (sandbox, pids)
}

fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn living<'a>(pids: impl IntoIterator<Item = &'a i32>) -> Vec<i32> {
    pids.into_iter()
        .copied()
        .filter(|pid| is_alive(*pid))
        .collect()
}

#[test]
fn nothing_of_a_stopped_service_is_left() {
    let (mut sandbox, pids) = nasty("");
    for name in pids.keys() {
        sandbox.ask("service.stop", json!({"name": name}));
    }
    for (name, pids) in &pids {
        sandbox.done("service.stop", name);
        assert_eq!(living(pids), NOBODY, "{name}\n{}", sandbox.log());
        assert_eq!(sandbox.state(name), "exited", "{name}");
    }
    sandbox.stop();
}

#[test]
fn nothing_of_a_removed_service_is_left() {
    let (sandbox, pids) = nasty("");
    let mut connections = Vec::new();
    for name in pids.keys() {
        let mut connection = sandbox.connect();
        let id = connection.begin("service.delete", json!({"name": name}));
        connections.push((connection, id));
    }
    for ((mut connection, id), (name, pids)) in connections.into_iter().zip(&pids) {
        assert_eq!(connection.finish(id), Ok(json!({"ok": true})), "{name}");
        assert_eq!(living(pids), NOBODY, "{name}\n{}", sandbox.log());
    }
    assert_eq!(sandbox.ask("service.list", json!({})), json!([]));
    assert_eq!(
        fs::read_dir(sandbox.services_dir()).unwrap().count(),
        0,
        "their files go too"
    );
}

#[test]
fn nothing_is_left_when_the_main_process_is_killed() {
    let (sandbox, pids) = nasty("restart = \"never\"");
    for pids in pids.values() {
        signal(*pids.last().unwrap(), Signal::SIGKILL);
    }
    for (name, pids) in &pids {
        sandbox
            .await_goal(name, "stopped")
            .expect("it ends for good");
        // What had lost its last tie before can't be known to belong to it.
        let known: Vec<i32> = pids
            .iter()
            .copied()
            .filter(|_| name != "bare-child")
            .collect();
        assert_eq!(living(&known), NOBODY, "{name}\n{}", sandbox.log());
    }
}

#[test]
fn nothing_is_left_when_the_server_ends() {
    let (mut sandbox, pids) = nasty("");
    sandbox.stop();
    assert_eq!(
        living(pids.values().flatten()),
        NOBODY,
        "{pids:?}\n{}",
        sandbox.log()
    );
}

#[test]
fn a_daemon_without_any_tie_ends_with_the_server() {
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    sandbox.runs(
        "hidden",
        "( env -i setsid sh -c 'echo $$ > '$DIR'/hidden.1; exec sleep 1000' \
         < /dev/null > /dev/null 2>&1 & ); exec sleep 1000",
    );
    sandbox.start();
    let hidden = sandbox.wait_pid_file("hidden.1");
    assert!(is_alive(hidden));
    sandbox.stop();
    assert!(!is_alive(hidden));
}

#[test]
fn leftovers_are_cleared_before_the_next_run() {
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    let script = |name: &str, end: &str| {
        format!(
            "if [ -f $DIR/{name}.last ]; then \
               if [ -d /proc/$(cat $DIR/{name}.last) ]; then echo alive; else echo gone; fi \
               >> $DIR/{name}.seen; fi; \
             setsid sh -c 'trap \"\" TERM; while :; do sleep 1000; done' & \
             echo $! > $DIR/{name}.last; {end}"
        )
    };
    let ends = [
        ("done", "exit 0"),
        ("failed", "exit 3"),
        ("crashed", "kill -SEGV $$"),
    ];
    for (name, end) in ends {
        let body = format!(
            "exec = {}\n[lifecycle]\nrestart = \"always\"\nstop_timeout_ms = 50\n{QUICK}",
            quoted(&script(name, end))
        );
        sandbox.service(name, &body);
    }
    sandbox.start();
    for (name, _) in ends {
        let file = format!("{name}.seen");
        assert!(
            wait_until(|| sandbox.lines(&file).len() >= 3),
            "{name}\n{}",
            sandbox.log()
        );
        let seen = sandbox.lines(&file);
        assert!(seen.iter().all(|line| line == "gone"), "{name}: {seen:?}");
    }
    for (name, _) in ends {
        sandbox.done("service.stop", name);
    }
    assert!(
        sandbox.pids_of_services().is_empty(),
        "{:?}",
        sandbox.pids_of_services()
    );
}

/// A shell that was just forked takes a signal with its parent's handler, and then forgets it.
#[test]
fn a_signal_that_was_lost_on_the_way_to_exec_is_sent_again() {
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    let child = "trap \"echo lost > $DIR/lost; trap - TERM\" TERM; echo $$ > $DIR/child; \
                 while :; do read line < $DIR/fifo; done";
    let main = "trap \"while [ ! -s $DIR/lost ]; do :; done; exit 0\" TERM; \
                while :; do read line < $DIR/fifo; done";
    let exec = format!("mkfifo $DIR/fifo; sh -c '{child}' & {main}");
    let body = format!(
        "exec = {}\n[lifecycle]\nstop_timeout_ms = 600000",
        quoted(&exec)
    );
    sandbox.service("forgetful", &body);
    sandbox.start();
    let child = sandbox.wait_pid_file("child");
    sandbox.ask("service.stop", json!({"name": "forgetful"}));
    let stopped = sandbox.await_goal("forgetful", "stopped");
    if is_alive(child) {
        signal(child, Signal::SIGKILL);
    }
    assert!(stopped.is_ok(), "{stopped:?}\n{}", sandbox.log());
}

#[test]
fn kill_mode_says_what_a_stop_may_kill() {
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    for mode in ["tree", "group", "main"] {
        let exec = format!(
            "sh -c 'echo $$ > $DIR/{mode}.near; exec sleep 1000' & \
             setsid sh -c 'echo $$ > $DIR/{mode}.far; exec sleep 1000' & exec sleep 1000"
        );
        let body = format!(
            "exec = {}\n[lifecycle]\nkill_mode = \"{mode}\"\nstop_timeout_ms = 5000",
            quoted(&exec)
        );
        sandbox.service(mode, &body);
    }
    sandbox.start();
    for (mode, near_lives, far_lives) in [
        ("tree", false, false),
        ("group", false, true),
        ("main", true, true),
    ] {
        sandbox.await_running(mode);
        let near = sandbox.wait_pid_file(&format!("{mode}.near"));
        let far = sandbox.wait_pid_file(&format!("{mode}.far"));
        let main = sandbox.pid(mode);
        sandbox.done("service.restart", mode);
        assert!(!is_alive(main), "{mode}");
        assert_eq!(is_alive(near), near_lives, "{mode}: near");
        assert_eq!(is_alive(far), far_lives, "{mode}: far");
        sandbox.done("service.stop", mode);
        assert_eq!(is_alive(near), near_lives, "{mode}: near");
        assert_eq!(is_alive(far), far_lives, "{mode}: far");
    }
    // They were meant to live, and do so longer than the server.
    let meant: Vec<i32> = sandbox.pids_of_services().into_iter().collect();
    assert!(meant.len() >= 3, "{meant:?}");
    sandbox.signal_server(Signal::SIGTERM);
    assert_eq!(sandbox.server_end().code(), Some(0));
    assert_eq!(living(&meant), meant);
    // One of them may have been on its way when they were counted.
    assert!(wait_until(|| {
        let left = sandbox.pids_of_marker();
        left.iter().for_each(|pid| signal(*pid, Signal::SIGKILL));
        left.is_empty()
    }));
}

fn nested() -> (Sandbox, Vec<i32>) {
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    fs::create_dir(sandbox.path("inner")).unwrap();
    let inner = |name: &str, exec: &str| {
        let text = format!(
            "[service]\nname = \"{name}\"\nexec = {}\n[lifecycle]\nstop_timeout_ms = 60000\n",
            quoted(exec)
        );
        fs::write(sandbox.path(&format!("inner/{name}.toml")), text).unwrap();
    };
    inner("plain", "echo $$ > $DIR/plain; exec sleep 1000");
    inner(
        "deaf",
        "trap '' TERM; echo $$ > $DIR/deaf; while :; do sleep 1000; done",
    );
    inner(
        "daemon",
        "( setsid sh -c 'trap \"\" TERM; echo $$ > $DIR/daemon; while :; do sleep 1000; done' \
         < /dev/null > /dev/null 2>&1 & ); exec sleep 1000",
    );
    let exec = format!(
        "{} server --config-dir $DIR/inner --socket $DIR/inner.sock",
        env!("CARGO_BIN_EXE_zinit")
    );
    let body = format!(
        "exec = {}\n[lifecycle]\nrestart = \"never\"\nstop_timeout_ms = 200",
        quoted(&format!("exec {exec}"))
    );
    sandbox.service("inner", &body);
    sandbox.start();
    let mut pids: Vec<i32> = ["plain", "deaf", "daemon"]
        .map(|name| sandbox.wait_pid_file(name))
        .into();
    pids.push(sandbox.pid("inner"));
    assert_eq!(living(&pids), pids);
    (sandbox, pids)
}

#[test]
fn a_server_in_a_server_dies_with_all_that_is_its() {
    let (mut sandbox, pids) = nested();
    let above = meter::above_cgroup(sandbox.pid("inner"));
    sandbox.ask(
        "service.kill",
        json!({"name": "inner", "signal": "SIGKILL"}),
    );
    sandbox.await_goal("inner", "stopped").expect("it ends");
    assert_eq!(living(&pids), NOBODY, "{}", sandbox.log());
    assert_eq!(sandbox.state("inner"), "failed");
    // It could not remove the cgroups of its services any more.
    sandbox.ask("service.delete", json!({"name": "inner"}));
    let left = above.map(|above| fs::read_dir(above).unwrap().flatten());
    let left = left.into_iter().flatten().map(|entry| entry.file_name());
    let left: Vec<_> = left.collect();
    assert!(
        left.iter()
            .all(|name| !name.to_string_lossy().starts_with("service-")),
        "{left:?}"
    );
    sandbox.stop();
}

#[test]
fn a_server_in_a_server_that_is_too_slow_is_killed_with_all_that_is_its() {
    let (sandbox, pids) = nested();
    sandbox.done("service.stop", "inner");
    assert_eq!(living(&pids), NOBODY, "{}", sandbox.log());
}
