//! What a server is asked to do, one thing at a time, while somebody counts what that costs it.

#![allow(dead_code, reason = "each test file uses the part of it that it needs")]

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;

use nix::libc;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::meter::{children, is_idle};
use super::sandbox::{Sandbox, signal, wait_until};

/// Has so many operations be done by the closure, and counts.
pub(crate) type Count<'a> = &'a mut dyn FnMut(&Sandbox, &str, u64, &mut dyn FnMut());

/// How many services there are.
const SERVICES: usize = 100;

/// How often each thing is done that is not done once for each service.
const TIMES: u64 = 200;

/// So many services of one quiet process each.
pub(crate) fn declare(sandbox: &Sandbox, count: usize, more: &str) {
    for number in 0..count {
        let file = sandbox.text(&format!("s{number}.log"));
        let more = more.replace("FILE", &file);
        let body = format!("exec = [\"sleep\", \"100000\"]\nstatus = \"stop\"\n{more}");
        sandbox.service(&format!("s{number}"), &body);
    }
}

/// Does the same to each of them, one after the other.
pub(crate) fn each(sandbox: &Sandbox, count: usize, method: &str) {
    let mut connection = sandbox.connect();
    for number in 0..count {
        let params = json!({"name": format!("s{number}"), "wait": true});
        connection.ask(method, params).unwrap();
    }
}

/// Services that [`lives`] can be asked of.
pub(crate) fn declare_lives(sandbox: &Sandbox) {
    let restart = "restart_delay_ms = 1\nrestart_delay_max_ms = 1\nmax_restarts = 0";
    declare(sandbox, SERVICES, &format!("[lifecycle]\n{restart}"));
}

/// Requests, with all services up.
pub(crate) fn requests(sandbox: &Sandbox, count: Count<'_>) {
    each(sandbox, SERVICES, "service.start");
    let mut client = sandbox.connect();
    let asks = [
        ("ping", "system.ping", Value::Null),
        ("service.status", "service.status", json!({"name": "s7"})),
        ("service.list_full of 100", "service.list_full", Value::Null),
    ];
    for (what, method, params) in asks {
        let mut ask = || drop(client.ask(method, params.clone()).unwrap());
        ask();
        count(sandbox, what, TIMES, &mut || (0..TIMES).for_each(|_| ask()));
    }
    count(sandbox, "connection with a ping", TIMES, &mut || {
        (0..TIMES).for_each(|_| drop(sandbox.ask("system.ping", Value::Null)));
    });
}

/// Starts, crashes and stops. What is only done once, at the first start, is not counted.
pub(crate) fn lives(sandbox: &Sandbox, count: Count<'_>) {
    let pid = sandbox.server_pid();
    let times = SERVICES as u64;
    each(sandbox, SERVICES, "service.start");
    each(sandbox, SERVICES, "service.stop");
    count(sandbox, "start", times, &mut || {
        each(sandbox, SERVICES, "service.start");
    });
    count(sandbox, "crash and restart", times, &mut || {
        for main in children(pid) {
            signal(main, Signal::SIGKILL);
            let replaced = || {
                let now = children(pid);
                now.len() == SERVICES && !now.contains(&main) && is_idle(pid)
            };
            assert!(wait_until(replaced), "{main} is not replaced");
        }
    });
    count(sandbox, "stop", times, &mut || {
        each(sandbox, SERVICES, "service.stop");
    });
}

/// The way into the server that a service's standard output is.
pub(crate) fn output_of(sandbox: &Sandbox, name: &str) -> File {
    let path = format!("/proc/{}/fd/1", sandbox.pid(name));
    File::options().write(true).open(path).unwrap()
}

/// Lines of output, one at a time.
pub(crate) fn lines(sandbox: &Sandbox, count: Count<'_>) {
    let pid = sandbox.server_pid();
    let file = sandbox.path("kept.log");
    let body = format!("exec = [\"sleep\", \"100000\"]\n[logging]\nfile = {file:?}");
    sandbox.service("kept", &body);
    declare(sandbox, 1, "");
    sandbox.ask("service.reload", Value::Null);
    each(sandbox, 1, "service.start");
    sandbox.await_running("kept");
    let write = |output: &mut File, then: &mut dyn FnMut()| {
        for _ in 0..TIMES {
            writeln!(output, "a line of some length, as programs write them").unwrap();
            assert!(wait_until(|| is_empty(output) && is_idle(pid)), "not read");
            then();
        }
    };
    let mut output = output_of(sandbox, "s0");
    // As many as are kept: from then on each line takes the place of another.
    (0..5).for_each(|_| write(&mut output, &mut || {}));
    count(sandbox, "line of output", TIMES, &mut || {
        write(&mut output, &mut || {});
    });
    let mut follower = sandbox.connect();
    follower
        .ask("logs.follow", json!({"names": ["s0"]}))
        .unwrap();
    count(
        sandbox,
        "line of output, with a follower",
        TIMES,
        &mut || {
            write(&mut output, &mut || drop(follower.reply()));
        },
    );
    drop(follower);
    let mut output = output_of(sandbox, "kept");
    let kept = || {
        let text = fs::read(&file).unwrap_or_default();
        text.iter().filter(|byte| **byte == b'\n').count()
    };
    let mut expected = 0;
    let mut write_kept = || {
        write(&mut output, &mut || {
            expected += 1;
            assert!(wait_until(|| kept() >= expected), "not written");
        });
    };
    (0..5).for_each(|_| write_kept());
    count(
        sandbox,
        "line of output, to a log file",
        TIMES,
        &mut write_kept,
    );
}

/// Has all been read that was written into this pipe?
fn is_empty(pipe: &File) -> bool {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes a number where it is told there is room for one.
    let asked = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    assert_eq!(asked, 0);
    bytes == 0
}
