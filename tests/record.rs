//! The flight recorder of a real server: what it did replays in the simulated world's engine.

#[path = "common/sandbox.rs"]
mod sandbox;

use nix::sys::signal::Signal;
use sandbox::{Sandbox, signal};
use serde_json::json;
use zinit::record::replay;

/// What `zinit debug record` prints.
fn record(sandbox: &Sandbox) -> String {
    let (text, complaint, status) = sandbox.cli(&["debug", "record"]);
    assert_eq!((status, &*complaint), (0, ""), "{text}");
    text
}

fn replays(text: &str) {
    assert!(!text.contains("THIS IS NOT"), "{text}");
    let again = replay(text).expect("a record");
    let mut pairs = text.lines().zip(again.lines());
    let differ = pairs.find(|(was, is)| was != is);
    assert_eq!((differ, text.len()), (None, again.len()));
}

#[test]
fn what_a_server_did_replays() {
    let mut sandbox = Sandbox::new();
    sandbox.service(
        "db",
        "exec = \"sleep 1000\"\nenv = { PASSWORD = \"quite-secret\" }\n\
         [lifecycle]\nrestart = \"always\"\nrestart_delay_ms = 10\n\
         [health]\ntype = \"exec\"\ntarget = \"true\"\ninterval_ms = 20\n",
    );
    sandbox.service(
        "web",
        "exec = \"sleep 1000\"\n[dependencies]\nrequires = [\"db\"]\n\
         [hooks]\npre_start = \"true\"\npost_stop = \"true\"\n",
    );
    sandbox.service("once", "exec = \"true\"\noneshot = true\n");
    sandbox.service(
        "broken",
        "exec = \"/nowhere/to/be/found\"\n[lifecycle]\nmax_restarts = 1\nrestart_delay_ms = 10\n",
    );
    sandbox.target("all", "[dependencies]\nrequires = [\"web\", \"once\"]\n");
    sandbox.start();
    sandbox.await_running("all");
    let before = sandbox.pid("db");
    signal(before, Signal::SIGKILL);
    sandbox.wait_other_pid("db", before);
    sandbox.done("service.stop", "db");
    sandbox.done("service.start", "all");
    sandbox.service("later", "exec = \"sleep 1000\"\n");
    sandbox.remove_file("once");
    sandbox.ask("service.reload", json!({}));
    sandbox.await_running("later");

    let text = record(&sandbox);
    assert!(text.contains("  later  Blocked → Forking\n"), "{text}");
    assert!(!text.contains("quite-secret"), "{text}");
    replays(&text);
    sandbox.stop();
}

/// A record begins in the middle of what a server did, with what it remembered there.
/// A definition weighs what it holds, so that few large ones are kept.
#[test]
fn large_definitions_do_not_stay_for_long() {
    let mut sandbox = Sandbox::new();
    sandbox.runs("first", "sleep 1000");
    sandbox.start();
    for round in 0..30 {
        let names: Vec<String> = (0..3000)
            .map(|number| format!("name-{round}-{number}"))
            .collect();
        sandbox.target("all", &format!("[dependencies]\nwants = {}", json!(names)));
        sandbox.ask("service.reload", json!({}));
    }
    let text = record(&sandbox);
    let reloads = text
        .lines()
        .filter(|line| line.contains(" command Reload "));
    let reloads = reloads.count();
    assert!((1..=6).contains(&reloads), "{reloads} reloads");
    replays(&text);
    sandbox.stop();
}

#[test]
fn the_middle_of_a_long_history_replays() {
    let mut sandbox = Sandbox::new();
    sandbox.runs("first", "sleep 1000");
    sandbox.service(
        "second",
        "exec = \"sleep 1000\"\n[dependencies]\nafter = [\"first\"]\n",
    );
    sandbox.start();
    sandbox.await_running("second");
    let mut client = sandbox.connect();
    for _ in 0..200 {
        let params = json!({ "name": "first", "wait": true });
        client.ask("service.restart", params).expect("it restarts");
    }
    // Somebody waits while it is told.
    let params = json!({ "name": "second", "for": "exited", "timeout_ms": 600_000 });
    let waits = client.begin("service.wait", params);
    let text = record(&sandbox);
    let events = text
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    let events = events.count();
    assert!((512..=1024).contains(&events), "{events} events");
    assert!(text.contains("\nwaiting slot 0 "), "{text}");
    replays(&text);
    sandbox.ask(
        "service.kill",
        json!({ "name": "second", "signal": "SIGKILL" }),
    );
    client.finish(waits).expect("it has ended");
    sandbox.stop();
}
