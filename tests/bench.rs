//! Numbers, not judgements: `cargo test --release --test bench -- --ignored --nocapture`.

#[path = "common/sandbox.rs"]
mod sandbox;

use std::fs;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use sandbox::{Sandbox, quoted, wait_until};
use serde_json::{Value, json};

fn took(what: &str, work: impl FnOnce()) {
    let begin = Instant::now();
    work();
    println!("{what}: {} ms", begin.elapsed().as_micros() as f64 / 1000.0);
}

/// A number from the status file of the server.
fn status(sandbox: &Sandbox, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/status", sandbox.server_pid())).unwrap();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap();
    let number = line.split_ascii_whitespace().nth(1).unwrap();
    number.parse().unwrap()
}

fn switches(sandbox: &Sandbox) -> (u64, u64) {
    (
        status(sandbox, "voluntary_ctxt_switches:"),
        status(sandbox, "nonvoluntary_ctxt_switches:"),
    )
}

fn stop_all(sandbox: &Sandbox) {
    sandbox.ask("service.stop_all", json!({"wait": true}));
}

#[test]
#[ignore = "a benchmark"]
fn two_hundred_services_start_and_idle() {
    let mut sandbox = Sandbox::new();
    let names: Vec<String> = (0..200).map(|number| format!("s{number}")).collect();
    for name in &names {
        sandbox.service(name, "exec = [\"sleep\", \"100000\"]");
    }
    sandbox.target("all", &format!("[dependencies]\nrequires = {names:?}"));
    took("200 services, from the server's exec until all run", || {
        sandbox.start();
        sandbox.await_running("all");
    });
    println!("threads: {}", status(&sandbox, "Threads:"));
    println!("resident: {} KiB", status(&sandbox, "VmRSS:"));
    println!(
        "of that anonymous: {} KiB, from files: {} KiB",
        status(&sandbox, "RssAnon:"),
        status(&sandbox, "RssFile:")
    );
    // Nobody else writes to this pipe; it is ten seconds of nothing.
    let (reader, _writer) = std::io::pipe().unwrap();
    let before = switches(&sandbox);
    let wait = PollTimeout::try_from(Duration::from_secs(10)).unwrap();
    poll(&mut [PollFd::new(reader.as_fd(), PollFlags::POLLIN)], wait).unwrap();
    let after = switches(&sandbox);
    println!(
        "context switches in ten seconds: {} voluntary, {} not",
        after.0 - before.0,
        after.1 - before.1
    );
    let mut connection = sandbox.connect();
    let rounds = 20_000;
    let begin = Instant::now();
    for _ in 0..rounds {
        connection
            .ask("service.status", json!({"name": "s100"}))
            .unwrap();
    }
    let rate = f64::from(rounds) / begin.elapsed().as_secs_f64();
    println!("status requests on one connection, one after the other: {rate:.0} a second");
    let begin = Instant::now();
    for _ in 0..2000 {
        sandbox.ask("service.status", json!({"name": "s100"}));
    }
    let rate = 2000.0 / begin.elapsed().as_secs_f64();
    println!("status requests, each on a connection of its own: {rate:.0} a second");
    took("list_full of 201", || {
        sandbox.ask("service.list_full", Value::Null);
    });
    took("restart of all 200", || {
        stop_all(&sandbox);
        sandbox.ask("service.start_all", json!({"wait": true}));
    });
    took("SIGTERM to the server until its end", || sandbox.stop());
}

#[test]
#[ignore = "a benchmark"]
fn a_chain_of_a_hundred() {
    let mut sandbox = Sandbox::new();
    for number in 0..100 {
        let links = match number {
            0 => String::new(),
            _ => format!("[dependencies]\nrequires = [\"c{}\"]", number - 1),
        };
        sandbox.service(
            &format!("c{number}"),
            &format!("exec = [\"sleep\", \"100000\"]\n{links}"),
        );
    }
    took("a chain of 100 services starts", || {
        sandbox.start();
        sandbox.await_running("c99");
    });
    took("and stops", || {
        sandbox.done("service.stop", "c0");
    });
    sandbox.stop();
}

#[test]
#[ignore = "a benchmark"]
fn a_target_of_five_thousand_oneshots() {
    let mut sandbox = Sandbox::new();
    let names: Vec<String> = (0..5000).map(|number| format!("once{number}")).collect();
    for name in &names {
        sandbox.service(name, "exec = [\"/bin/true\"]\noneshot = true");
    }
    sandbox.target("all", &format!("[dependencies]\nrequires = {names:?}"));
    took("a target of 5000 oneshots is reached", || {
        sandbox.start();
        sandbox
            .await_goal("all", "running")
            .map(drop)
            .unwrap_or_else(|_| {
                sandbox.await_running("all");
            });
    });
    println!("resident: {} KiB", status(&sandbox, "VmRSS:"));
    took("a reload that changes nothing", || {
        sandbox.ask("service.reload", Value::Null);
    });
    sandbox.stop();
}

#[test]
#[ignore = "a benchmark"]
fn a_hundred_stop_and_a_thousand() {
    for count in [100, 1000] {
        let mut sandbox = Sandbox::new();
        for number in 0..count {
            sandbox.service(
                &format!("s{number}"),
                "exec = [\"sleep\", \"100000\"]\nstatus = \"start\"",
            );
        }
        took(&format!("{count} services start"), || {
            sandbox.start();
            sandbox.ask("service.start_all", json!({"wait": true}));
        });
        println!("resident: {} KiB", status(&sandbox, "VmRSS:"));
        took(&format!("{count} services stop"), || stop_all(&sandbox));
        sandbox.ask("service.start_all", json!({"wait": true}));
        took(
            &format!("SIGTERM to a server of {count} until its end"),
            || {
                sandbox.signal_server(Signal::SIGTERM);
                sandbox.server_end();
            },
        );
        sandbox.assert_nothing_left();
    }
}

#[test]
#[ignore = "a benchmark"]
fn ten_that_ignore_the_signal() {
    let mut sandbox = Sandbox::new();
    for number in 0..10 {
        let exec = "trap '' TERM; echo up; while :; do sleep 100000; done";
        sandbox.service(
            &format!("s{number}"),
            &format!(
                "exec = {}\n[lifecycle]\nstop_timeout_ms = 1000",
                quoted(exec)
            ),
        );
    }
    sandbox.start();
    for number in 0..10 {
        sandbox.wait_output(&format!("s{number}"), "up");
    }
    took(
        "ten that ignore SIGTERM, with a stop_timeout of 1000 ms, stop",
        || stop_all(&sandbox),
    );
    let quiet = wait_until(|| sandbox.pids_of_services().is_empty());
    assert!(quiet);
    sandbox.stop();
}

/// Processor time of the server so far, in ticks of a hundredth of a second.
fn ticks(sandbox: &Sandbox) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/stat", sandbox.server_pid())).unwrap();
    let fields = text.rsplit(')').next().unwrap().split_ascii_whitespace();
    let numbers = fields.skip(11).take(2).map(|field| field.parse::<u64>());
    numbers.map(Result::unwrap).sum()
}

#[test]
#[ignore = "a benchmark"]
fn a_thousand_services_with_a_probe_each_second() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let mut sandbox = Sandbox::new();
    for number in 0..1000 {
        let body = format!(
            "exec = [\"sleep\", \"100000\"]\n[readiness]\ntype = \"spawn\"\n[health]\n\
             type = \"tcp\"\ntarget = \"{address}\"\ninterval_ms = 1000"
        );
        sandbox.service(&format!("s{number}"), &body);
    }
    sandbox.start();
    let healthy = || {
        let state = sandbox.status("s999");
        state["health"]["state"] == "healthy"
    };
    assert!(wait_until(healthy));
    let (reader, _writer) = std::io::pipe().unwrap();
    let before = ticks(&sandbox);
    let wait = PollTimeout::try_from(Duration::from_secs(10)).unwrap();
    poll(&mut [PollFd::new(reader.as_fd(), PollFlags::POLLIN)], wait).unwrap();
    let used = ticks(&sandbox) - before;
    println!(
        "1000 tcp probes a second: {} % of a processor",
        used as f64 / 10.0
    );
    let begin = Instant::now();
    for _ in 0..100 {
        sandbox.ask("system.ping", Value::Null);
    }
    let mean = begin.elapsed() / 100;
    println!("a request meanwhile, with its connection: {mean:?}");
    println!("resident: {} KiB", status(&sandbox, "VmRSS:"));
    stop_all(&sandbox);
    sandbox.stop();
}
