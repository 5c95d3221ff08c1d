//! Processes of odd kinds: traced ones, ones without their first thread, ones that are made in
//! ways that no shell knows. All of them are seen, ended and collected like any other.

#[path = "common/plight.rs"]
mod plight;
#[path = "common/sandbox.rs"]
mod sandbox;

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use plight::{Guarded, NO_CGROUPS, assert_idle, in_mounts, nap, works};
use sandbox::{Sandbox, python, quoted, signal, stat_field, wait_until};
use serde_json::json;

/// What all scripts below have: a note of who is to be watched, and system calls that Python has not.
const PRELUDE: &str = r#"
import ctypes, os, signal, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long
EXIT, CLONE = {"x86_64": (60, 56), "aarch64": (93, 220)}[os.uname().machine]
def note():
    with open("%s/%s.pids" % (os.environ["DIR"], os.path.basename(sys.argv[0])), "a") as file:
        file.write("%d\n" % os.getpid())
def up():
    with open("%s/%s.up" % (os.environ["DIR"], os.path.basename(sys.argv[0])), "w") as file:
        file.write("up\n")
def rest():
    while True:
        signal.pause()
def clone(flags):
    return libc.syscall(CLONE, flags, 0, 0, 0, 0)
def orphan(work):
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            work()
        os._exit(0)
    os.waitpid(child, 0)
def leave_the_rest():
    def others():
        while open("/proc/%d/stat" % os.getpid()).read().rsplit(")")[-1].split()[0] != "Z":
            os.sched_yield()
        note()
        up()
        rest()
    threading.Thread(target=others).start()
    libc.syscall(EXIT, 0)
def deaf():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
"#;

/// The first thread of a process ends before the others, which looks like the end of it all.
const LEADERLESS: &[(&str, &str)] = &[
    ("leaderless", "leave_the_rest()"),
    ("leaderless-deaf", "deaf(); leave_the_rest()"),
    ("leaderless-orphan", "orphan(leave_the_rest); rest()"),
    (
        "leaderless-parent",
        "\nif os.fork() == 0:\n    deaf(); note(); rest()\nleave_the_rest()",
    ),
];

const ODD: &[(&str, &str)] = &[
    // It waits in the kernel until its child becomes a program, which that never does.
    (
        "vfork",
        "note()\nif clone(0x4000 | signal.SIGCHLD) == 0:\n    note(); up(); rest()\nrest()",
    ),
    // A child that is the server's at once.
    (
        "sibling",
        "note()\nif clone(0x8000 | signal.SIGCHLD) == 0:\n    deaf(); note(); up(); rest()\nrest()",
    ),
    (
        "far-sibling",
        "note()\nif clone(0x8000 | signal.SIGCHLD) == 0:\n    os.setsid(); note(); up(); rest()\nrest()",
    ),
    // Children whose end is no signal, or another one.
    (
        "silent-end",
        "note()\nfor end in (0, signal.SIGUSR1):\n    if clone(end) == 0:\n        \
         note(); rest()\nup(); rest()",
    ),
    // It takes the orphans for itself.
    (
        "subreaper",
        "libc.prctl(36, 1, 0, 0, 0)\nfor i in range(3): orphan(lambda: (deaf(), note(), rest()))\n\
         note(); up(); rest()",
    ),
    // Another thread than the first becomes another program.
    (
        "thread-exec",
        "\ndef other():\n    os.execv(sys.executable, [sys.executable, '-c', \
         'import sys; sys.argv = [\"thread-exec\"]\\n' + open(os.environ['DIR'] + '/prelude').read() \
         + 'note(); up(); rest()'])\n\
         threading.Thread(target=other).start(); rest()",
    ),
    // It becomes its program again and again.
    (
        "exec-loop",
        "note() if 'AGAIN' not in os.environ else up()\nos.environ['AGAIN'] = '1'\n\
         os.execv(sys.executable, [sys.executable, *sys.argv])",
    ),
    // Names that look like the rest of a line, and like more lines.
    (
        "forger",
        "orphan(lambda: (libc.prctl(15, b') R 1 (\\n1 (a) Z', 0, 0, 0), deaf(), note(), up(), rest()))\n\
         libc.prctl(15, b'\\n) Z 1 1 1\\xff', 0, 0, 0); note(); rest()",
    ),
    // Each time it is asked to end there are two more.
    (
        "hydra",
        "\ndef more(*_):\n    for i in range(2):\n        if os.fork() == 0:\n            os.setsid(); break\n\
         signal.signal(signal.SIGTERM, more); note(); up(); rest()",
    ),
    // Traced by itself.
    (
        "traces-child",
        "child = os.fork()\nif child == 0:\n    libc.ptrace(0, 0, None, None); note(); \
         os.kill(os.getpid(), signal.SIGSTOP); rest()\nos.waitpid(child, 0); note(); up(); rest()",
    ),
];

/// A tracer gets to know of an end before the parent does.
const TRACED: &[(&str, &str)] = &[
    (
        "traced",
        "note(); main = os.getpid()\nif os.fork() == 0:\n    \
         libc.ptrace(0x4206, main, None, None); note(); up(); rest()\nrest()",
    ),
    (
        "traced-and-stopped",
        "note(); main = os.getpid()\nif os.fork() == 0:\n    \
         libc.ptrace(16, main, None, None); os.waitpid(main, 0x40000000); note(); up(); rest()\nrest()",
    ),
];

fn is_gone(pid: i32) -> bool {
    fs::metadata(format!("/proc/{pid}")).is_err()
}

/// The services of these tables, running; their processes, the main one first.
fn odd(sandbox: &mut Sandbox, all: &[&[(&str, &str)]]) -> Option<BTreeMap<String, Vec<i32>>> {
    let Some(python) = python() else {
        println!("SKIPPED: no Python");
        return None;
    };
    sandbox.env("DIR", &sandbox.text(""));
    fs::write(sandbox.path("prelude"), PRELUDE).unwrap();
    let all = all.iter().flat_map(|table| table.iter());
    for (name, script) in all.clone() {
        fs::write(sandbox.path(name), format!("{PRELUDE}{script}\n")).unwrap();
        let exec = quoted(&format!("exec {} $DIR/{name}", python.display()));
        let more = "[lifecycle]\nrestart = \"never\"\nstop_timeout_ms = 300";
        sandbox.service(name, &format!("exec = {exec}\nstatus = \"stop\"\n{more}"));
    }
    sandbox.runs("other", "exec sleep 1000");
    nap(sandbox);
    sandbox.start();
    let mut found = BTreeMap::new();
    for (name, _) in all.clone() {
        sandbox.done("service.start", name);
    }
    for (name, _) in all {
        sandbox.wait_file(&format!("{name}.up"));
        let mut pids = vec![sandbox.pid(name)];
        let noted = sandbox.lines(&format!("{name}.pids"));
        pids.extend(noted.iter().map(|line| line.parse::<i32>().unwrap()));
        assert!(
            pids.iter().all(|pid| !is_gone(*pid)),
            "{name} {pids:?}\n{}",
            sandbox.log()
        );
        assert_eq!(sandbox.state(name), "running", "{name}");
        found.insert((*name).to_owned(), pids);
    }
    Some(found)
}

fn all_gone(sandbox: &Sandbox, name: &str, pids: &[i32]) {
    let left: Vec<&i32> = pids.iter().filter(|pid| !is_gone(**pid)).collect();
    assert!(
        left.is_empty(),
        "{name}: {left:?} of {pids:?}\n{}",
        sandbox.log()
    );
}

#[test]
fn odd_processes_are_stopped() {
    let mut sandbox = Sandbox::new();
    let Some(found) = odd(&mut sandbox, &[LEADERLESS, ODD, TRACED]) else {
        return;
    };
    for (name, pids) in &found {
        // Whoever asks about them is answered.
        for method in ["service.children", "service.stats", "service.status"] {
            sandbox.ask(method, json!({"name": name}));
        }
        sandbox.done("service.stop", name);
        assert_eq!(sandbox.state(name), "exited", "{name}\n{}", sandbox.log());
        all_gone(&sandbox, name, pids);
        // Who is left of one keeps no other from its end.
        sandbox.done("service.restart", "other");
    }
    assert_idle(&sandbox);
    sandbox.stop();
}

#[test]
fn odd_processes_end_with_their_main_process() {
    let mut sandbox = Sandbox::new();
    let Some(found) = odd(&mut sandbox, &[LEADERLESS, ODD]) else {
        return;
    };
    for (name, pids) in &found {
        signal(pids[0], Signal::SIGKILL);
        sandbox.await_goal(name, "stopped").unwrap();
        assert_eq!(
            sandbox.status(name)["error"],
            "killed by signal 9",
            "{name}"
        );
        all_gone(&sandbox, name, pids);
    }
    assert_idle(&sandbox);
    sandbox.stop();
}

#[test]
fn odd_processes_end_with_the_server() {
    let mut sandbox = Sandbox::new();
    let Some(found) = odd(&mut sandbox, &[LEADERLESS, ODD, TRACED]) else {
        return;
    };
    sandbox.stop();
    for (name, pids) in &found {
        all_gone(&sandbox, name, pids);
    }
}

/// Without its first thread a process shows neither memory nor environment where one looks first.
#[test]
fn an_orphan_that_nobody_knows_keeps_no_other_service_from_its_end() {
    if !works(&["unshare", "-m", "true"]) {
        println!("SKIPPED: no mount namespace");
        return;
    }
    let mut sandbox = Sandbox::new();
    let hides = "\nif len(sys.argv) > 1:\n    leave_the_rest()\n\
         orphan(lambda: os.system('exec > /dev/null 2>&1 < /dev/null; exec env -i DIR=%s %s %s x' \
         % (os.environ['DIR'], sys.executable, sys.argv[0])))\nrest()";
    in_mounts(&mut sandbox, NO_CGROUPS);
    let Some(found) = odd(&mut sandbox, &[&[("hides", hides)]]) else {
        return;
    };
    let hidden = found["hides"][1];
    assert_ne!(stat_field(hidden, 6), Some(found["hides"][0]));
    for _ in 0..3 {
        sandbox.done("service.restart", "other");
    }
    sandbox.done("service.stop", "other");
    assert_eq!(sandbox.state("other"), "exited", "{}", sandbox.log());
    assert_idle(&sandbox);
    // At the end of the server there is no question whose it is.
    sandbox.stop();
    assert!(wait_until(|| is_gone(hidden)));
}

#[test]
fn an_end_that_a_tracer_from_outside_holds_back_is_waited_for() {
    let Some(python) = python() else {
        println!("SKIPPED: no Python");
        return;
    };
    let mut sandbox = Sandbox::new();
    let more = "[lifecycle]\nrestart = \"never\"\nstop_timeout_ms = 100";
    let exec = quoted("exec sleep 1000");
    sandbox.service("held", &format!("exec = {exec}\n{more}"));
    sandbox.runs("other", "exec sleep 1000");
    nap(&sandbox);
    sandbox.start();
    sandbox.await_running("held");
    let main = sandbox.pid("held");
    let script = format!(
        "{PRELUDE}\nassert libc.ptrace(0x4206, {main}, None, None) == 0\n\
         os.environ['DIR'] = '{}'\nsys.argv[0] = 'tracer'\nup(); rest()",
        sandbox.text("")
    );
    let tracer = Command::new(python)
        .args(["-c", &script])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let mut tracer = Guarded(tracer);
    let mut refused = false;
    assert!(wait_until(|| {
        refused = tracer.0.try_wait().unwrap().is_some();
        refused || sandbox.path("tracer.up").exists()
    }));
    if refused {
        println!("SKIPPED: nobody may be traced");
        return;
    }
    sandbox.not_done("service.stop", "held");
    assert_eq!(sandbox.status("held")["error"], "stop timeout");
    let sentence = format!("held: failed: its processes ({main}) can't be killed");
    assert!(sandbox.log().contains(&sentence), "{}", sandbox.log());
    assert!(!is_gone(main));
    sandbox.done("service.restart", "other");
    assert_idle(&sandbox);
    tracer.end();
    assert!(wait_until(|| is_gone(main)));
    sandbox.done("service.start", "held");
    assert_ne!(sandbox.pid("held"), main);
    sandbox.done("service.stop", "held");
    sandbox.stop();
}
