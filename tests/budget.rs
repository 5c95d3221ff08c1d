//! What the static program may cost: bytes, memory, descriptors, wake-ups, system calls. None of it
//! is a time, so the limits hold on every machine, and CI fails with a change that costs more.
//!
//! `make budget` builds the program and runs this; `ZINIT_STATIC` says where it is.

#[path = "common/dial.rs"]
mod dial;
#[path = "common/meter.rs"]
mod meter;
#[path = "common/operations.rs"]
mod operations;
#[path = "common/program.rs"]
mod program;
#[path = "common/sandbox.rs"]
mod sandbox;
#[path = "common/sheet.rs"]
mod sheet;

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use meter::{Tracer, children, descriptors, memory, wait_idle, wakeups_within};
use operations::{declare, declare_lives, each, output_of};
use program::server_of;
use sandbox::{Connection, Sandbox, wait_until};
use serde_json::{Value, json};
use sheet::{Limits, Sheet};

/// All that is measured, and what it may be at most: a little more than it was when the limit was
/// set. Lower it with each change that makes it possible; raise it only for something worth it.
const LIMITS: Limits = &[
    ("bytes of the program, x86_64", 1_860_000.0),
    ("bytes of the program, aarch64", 1_860_000.0),
    ("KiB its own, no services", 150.0),
    ("KiB its own, 100 services run", 575.0),
    ("KiB its own, 1000 services run", 3_950.0),
    ("KiB its own, 1000 stopped", 4_050.0),
    ("KiB its own, 1000 deleted", 3_750.0),
    ("KiB more in the second round, 1000 run", 200.0),
    ("KiB more in the second round, 1000 deleted", 200.0),
    ("KiB resident, no services", 1_950.0),
    ("KiB resident, 100 services run", 2_400.0),
    ("KiB resident, 1000 services run", 5_750.0),
    ("descriptors, no services", 11.0),
    ("descriptors a running service", 2.0),
    ("descriptors a running service with a log file", 2.0),
    ("descriptors of the writer of log files", 1.0),
    ("descriptors a stopped service", 0.0),
    ("descriptors a client", 1.0),
    ("descriptors more at the end", 0.0),
    ("wake-ups in 5 s, no services", 0.0),
    ("wake-ups in 5 s, 100 services run", 0.0),
    ("calls: ping", 3.6),
    ("calls: service.status", 3.6),
    ("calls: service.list_full of 100", 50.0),
    ("calls: connection with a ping", 10.0),
    ("calls: start, in a cgroup", 44.0),
    ("calls: stop, in a cgroup", 91.0),
    ("calls: crash and restart, in a cgroup", 90.0),
    ("calls: start, no cgroup", 37.0),
    ("calls: stop, no cgroup", 79.0),
    ("calls: crash and restart, no cgroup", 77.0),
    ("calls: line of output", 2.2),
    ("calls: line of output, with a follower", 3.3),
    ("calls: line of output, to a log file", 7.5),
];

/// Its C library is another one than that of the program that all other tests run.
#[test]
#[ignore = "needs the static program: make budget"]
fn the_static_program_listens_for_services_and_proxies() {
    let program = std::env::var("ZINIT_STATIC").expect("ZINIT_STATIC: see make budget");
    let mut sandbox = Sandbox::new();
    let path = sandbox.path("call");
    let socket = format!(
        "[socket]\nactivation = true\nlisten = \"unix:{}\"",
        path.display()
    );
    sandbox.service("called", &format!("exec = [\"sleep\", \"1000\"]\n{socket}"));
    declare(&sandbox, 1, "");
    start(&mut sandbox, &program, Place::Anywhere);
    let caller = UnixStream::connect(&path).unwrap();
    sandbox.wait_state("called", "running");
    drop(caller);
    let port = dial::free_port();
    sandbox.ask("xinet.set", dial::door(port, &dial::echoes(), "s0"));
    assert_eq!(dial::exchange(dial::dial(port), "word"), "word");
    sandbox.done("service.delete", "called");
    assert!(!path.exists(), "its socket's file is left");
    sandbox.stop();
}

#[test]
#[ignore = "needs the static program: make budget"]
fn nothing_costs_more_than_its_budget() {
    let program = std::env::var("ZINIT_STATIC").expect("ZINIT_STATIC: see make budget");
    let mut sheet = Sheet::new(LIMITS);
    size(&program, &mut sheet);
    resting(&program, &mut sheet);
    holding(&program, &mut sheet);
    counted(&program, &mut sheet, Place::Anywhere, operations::requests);
    counted(&program, &mut sheet, Place::Anywhere, operations::lines);
    counted_in(&program, &mut sheet, Place::Cgroup, has_cgroups(&program));
    counted_in(&program, &mut sheet, Place::NoCgroup, can_hide_cgroups());
    sheet.judge();
}

/// Starts the static program as the server of a sandbox.
fn start(sandbox: &mut Sandbox, program: &str, place: Place) {
    let hide = "umount -a -t cgroup2 && exec \"$0\" \"$@\"";
    let before: &[&str] = match place {
        Place::Anywhere | Place::Cgroup => &[],
        Place::NoCgroup => &["unshare", "-m", "sh", "-c", hide],
    };
    let command = server_of(sandbox, program, before);
    sandbox.start_as(command);
}

/// Where services are to be.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// It does not matter.
    Anywhere,
    /// Each in a cgroup of its own.
    Cgroup,
    /// The server finds no cgroups.
    NoCgroup,
}

fn put(sheet: &mut Sheet, what: &str, measured: f64) {
    sheet.put(what, measured, String::new());
}

fn size(program: &str, sheet: &mut Sheet) {
    let bytes = |path: &str| fs::metadata(path).unwrap().len() as f64;
    let own = if cfg!(target_arch = "x86_64") {
        "bytes of the program, x86_64"
    } else {
        "bytes of the program, aarch64"
    };
    put(sheet, own, bytes(program));
    let other = LIMITS[..2].iter().find(|(what, _)| *what != own).unwrap().0;
    match std::env::var("ZINIT_STATIC_OTHER") {
        Ok(path) if Path::new(&path).is_file() => put(sheet, other, bytes(&path)),
        _ => {
            println!("SKIPPED: {other}: its target is not installed");
            sheet.skip(other);
        }
    }
}

fn stop_all(sandbox: &Sandbox) {
    sandbox.ask("service.stop_all", json!({"wait": true}));
}

fn delete_all(sandbox: &Sandbox) {
    sandbox.ask("service.delete_all", json!({"wait": true}));
}

/// What a server does that has nothing to do, and what it holds.
fn resting(program: &str, sheet: &mut Sheet) {
    let mut sandbox = Sandbox::new();
    let window = Duration::from_secs(5);
    start(&mut sandbox, program, Place::Anywhere);
    let pid = sandbox.server_pid();
    put(
        sheet,
        "wake-ups in 5 s, no services",
        wakeups_within(pid, window) as f64,
    );
    let fresh = memory(pid);
    put(sheet, "KiB its own, no services", fresh.own as f64);
    put(sheet, "KiB resident, no services", fresh.resident as f64);
    declare(&sandbox, 100, "");
    sandbox.ask("service.reload", Value::Null);
    each(&sandbox, 100, "service.start");
    put(
        sheet,
        "wake-ups in 5 s, 100 services run",
        wakeups_within(pid, window) as f64,
    );
    let hundred = memory(pid);
    put(sheet, "KiB its own, 100 services run", hundred.own as f64);
    put(
        sheet,
        "KiB resident, 100 services run",
        hundred.resident as f64,
    );
    stop_all(&sandbox);
    delete_all(&sandbox);
    let mut rounds = Vec::new();
    for _ in 0..2 {
        declare(&sandbox, 1000, "");
        sandbox.ask("service.reload", Value::Null);
        each(&sandbox, 1000, "service.start");
        wait_idle(pid);
        let run = memory(pid);
        stop_all(&sandbox);
        wait_idle(pid);
        let stopped = memory(pid);
        delete_all(&sandbox);
        wait_idle(pid);
        rounds.push((run, stopped, memory(pid)));
    }
    let ((run, stopped, deleted), again) = (rounds[0], rounds[1]);
    put(sheet, "KiB its own, 1000 services run", run.own as f64);
    put(
        sheet,
        "KiB resident, 1000 services run",
        run.resident as f64,
    );
    put(sheet, "KiB its own, 1000 stopped", stopped.own as f64);
    put(sheet, "KiB its own, 1000 deleted", deleted.own as f64);
    let more = |now: u64, before: u64| now as f64 - before as f64;
    put(
        sheet,
        "KiB more in the second round, 1000 run",
        more(again.0.own, run.own),
    );
    put(
        sheet,
        "KiB more in the second round, 1000 deleted",
        more(again.2.own, deleted.own),
    );
    sandbox.stop();
}

/// Descriptors.
fn holding(program: &str, sheet: &mut Sheet) {
    let mut sandbox = Sandbox::new();
    start(&mut sandbox, program, Place::Anywhere);
    let pid = sandbox.server_pid();
    let count = || {
        wait_idle(pid);
        descriptors(pid) as f64
    };
    let before = count();
    put(sheet, "descriptors, no services", before);
    let clients: Vec<Connection> = (0..50)
        .map(|_| {
            let mut client = sandbox.connect();
            client.ask("system.ping", Value::Null).unwrap();
            client
        })
        .collect();
    put(sheet, "descriptors a client", (count() - before) / 50.0);
    drop(clients);
    assert!(wait_until(|| count() <= before), "clients are still there");
    declare(&sandbox, 100, "");
    sandbox.ask("service.reload", Value::Null);
    put(
        sheet,
        "descriptors a stopped service",
        (count() - before) / 100.0,
    );
    each(&sandbox, 100, "service.start");
    let running = count();
    put(
        sheet,
        "descriptors a running service",
        (running - before) / 100.0,
    );
    stop_all(&sandbox);
    delete_all(&sandbox);
    declare(&sandbox, 100, "[logging]\nfile = \"FILE\"");
    sandbox.ask("service.reload", Value::Null);
    each(&sandbox, 100, "service.start");
    let without_a_line = count();
    put(
        sheet,
        "descriptors a running service with a log file",
        (without_a_line - before) / 100.0,
    );
    let mut output = output_of(&sandbox, "s0");
    output.write_all(b"a line\n").unwrap();
    let file = sandbox.path("s0.log");
    let written = || fs::metadata(&file).is_ok_and(|file| file.len() > 0);
    assert!(wait_until(written), "nothing is in the log file");
    put(
        sheet,
        "descriptors of the writer of log files",
        count() - without_a_line,
    );
    drop(output);
    stop_all(&sandbox);
    delete_all(&sandbox);
    let writer = children(pid).len() as f64;
    put(
        sheet,
        "descriptors more at the end",
        count() - writer - before,
    );
    sandbox.stop();
}

/// Starts a server, has something done, and counts its system calls.
fn counted(
    program: &str,
    sheet: &mut Sheet,
    place: Place,
    operate: impl FnOnce(&Sandbox, operations::Count<'_>),
) {
    let mut sandbox = Sandbox::new();
    declare_lives(&sandbox);
    start(&mut sandbox, program, place);
    operate(&sandbox, &mut |sandbox, what, operations, act| {
        let what = match place {
            Place::Anywhere => format!("calls: {what}"),
            Place::Cgroup => format!("calls: {what}, in a cgroup"),
            Place::NoCgroup => format!("calls: {what}, no cgroup"),
        };
        let pid = sandbox.server_pid();
        wait_idle(pid);
        let Some(tracer) = Tracer::attach(pid, sandbox.path("calls")) else {
            return sheet.skip(&what);
        };
        act();
        let calls = tracer.detach();
        let each = calls.sum() as f64 / operations as f64;
        sheet.put(&what, each, calls.table(operations));
    });
    sandbox.stop();
}

/// The same, with and without cgroups.
fn counted_in(program: &str, sheet: &mut Sheet, place: Place, is_there: bool) {
    if is_there {
        return counted(program, sheet, place, operations::lives);
    }
    let words = match place {
        Place::Anywhere | Place::Cgroup => "in a cgroup",
        Place::NoCgroup => "no cgroup",
    };
    println!("SKIPPED: calls, {words}");
    for what in ["start", "stop", "crash and restart"] {
        sheet.skip(&format!("calls: {what}, {words}"));
    }
}

/// Does a server here put its services into cgroups?
fn has_cgroups(program: &str) -> bool {
    let mut sandbox = Sandbox::new();
    declare(&sandbox, 1, "");
    start(&mut sandbox, program, Place::Anywhere);
    sandbox.done("service.start", "s0");
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", sandbox.pid("s0"))).unwrap();
    sandbox.stop();
    groups.contains("/service-s0")
}

/// Can they be hidden from it?
fn can_hide_cgroups() -> bool {
    let hide = "umount -a -t cgroup2 && ! grep -q ' cgroup2 ' /proc/self/mounts";
    let mut tried = Command::new("unshare");
    tried.args(["-m", "sh", "-c", hide]).stderr(Stdio::null());
    tried.status().is_ok_and(|status| status.success())
}
