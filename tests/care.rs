//! How services are cared for while they live, with real servers and real programs: probes of their
//! health, and what follows when they are not well.

#[path = "common/peer.rs"]
mod peer;
#[path = "common/sandbox.rs"]
mod sandbox;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;

use nix::sys::signal::Signal;
use peer::{Answer, GIGABYTE, Peer};
use sandbox::{Sandbox, find_program, is_alive, python, quoted, signal, wait_until};
use serde_json::{Value, json};

/// A program that only waits.
const WAITS: &str = "exec = [\"sleep\", \"1000\"]";

/// Up as soon as its program runs, whatever its probes say.
const AT_ONCE: &str = "[readiness]\ntype = \"spawn\"";

/// Told, and nothing more.
const REPORT: &str = "on_unhealthy = \"report\"";

/// Never tried again, so that what is told stays.
const ONCE: &str = "[lifecycle]\nrestart = \"never\"";

/// Who hangs is waited for this long, who answers for longer: a machine may be slow.
fn patience(answer: Answer) -> u32 {
    match answer {
        Answer::HalfWay | Answer::Silence => 150,
        Answer::Status(_) | Answer::Text(_) | Answer::Farewell | Answer::Endless(_) => 10_000,
    }
}

/// A `[health]` section of two retries.
fn health(kind: &str, target: &str, timeout_ms: u32) -> String {
    format!(
        "[health]\ntype = \"{kind}\"\ntarget = {}\ninterval_ms = 20\ntimeout_ms = {timeout_ms}\n\
         retries = 2",
        quoted(target)
    )
}

fn health_of(sandbox: &Sandbox, name: &str) -> Value {
    sandbox.status(name)["health"].clone()
}

fn wait_health(sandbox: &Sandbox, name: &str, word: &str) -> Value {
    let so = wait_until(|| health_of(sandbox, name)["state"] == word);
    let found = health_of(sandbox, name);
    assert!(so, "{name} is not {word}: {found}\n{}", sandbox.log());
    found
}

/// Answers that are none, each with what is to be said of it.
const BAD: [(&str, Answer, &str); 8] = [
    ("fails", Answer::Status(500), "HTTP status 500"),
    ("half", Answer::HalfWay, "no answer in time"),
    ("silent", Answer::Silence, "no answer in time"),
    ("closes", Answer::Farewell, "the connection was closed"),
    (
        "other",
        Answer::Text("SSH-2.0-OpenSSH\r\n"),
        "the answer is not HTTP",
    ),
    (
        "line",
        Answer::Endless("HTTP/1.1 "),
        "the answer is not HTTP",
    ),
    ("flood", Answer::Endless(""), "the answer is not HTTP"),
    (
        "body",
        Answer::Endless("HTTP/1.1 503 No\r\n\r\n"),
        "HTTP status 503",
    ),
];

/// Every kind of a bad answer is found and told, and so is that the answers are good again.
#[test]
fn a_bad_answer_is_told_and_so_is_a_good_one_after_it() {
    let mut sandbox = Sandbox::new();
    let peers = BAD.map(|(name, answer, _)| {
        let peer = Peer::local(answer);
        let health = health("http", &peer.url(), patience(answer));
        sandbox.service(name, &format!("{WAITS}\n{AT_ONCE}\n{health}\n{REPORT}"));
        peer
    });
    sandbox.start();
    for ((name, _, told), peer) in BAD.iter().zip(&peers) {
        sandbox.await_running(name);
        let pid = sandbox.pid(name);
        let found = wait_health(&sandbox, name, "unhealthy");
        assert!(found["failures"].as_u64() >= Some(2), "{name}: {found}");
        assert_eq!(found["last_error"], *told, "{name}: {found}");
        assert!(found["last_error_ms"].as_u64() > Some(0), "{name}: {found}");
        assert!(found["for_secs"].is_u64(), "{name}: {found}");
        peer.answers(Answer::Status(200));
        let found = wait_health(&sandbox, name, "healthy");
        assert_eq!(found["failures"], 0, "{name}: {found}");
        assert!(found["latency_ms"].is_u64(), "{name}: {found}");
        assert_eq!(found["last_error"], *told, "it is not forgotten: {found}");
        assert_eq!(sandbox.pid(name), pid, "{name} was only told of");
    }
}

/// The shell client tells the same in words.
#[test]
fn the_client_tells_of_health() {
    let mut sandbox = Sandbox::new();
    let peer = Peer::local(Answer::Status(200));
    let health = health("http", &peer.url(), 10_000);
    sandbox.service("web", &format!("{WAITS}\n{health}\n{REPORT}"));
    sandbox.start();
    sandbox.await_running("web");
    let (out, error, code) = sandbox.cli(&["status", "web"]);
    assert_eq!((error.as_str(), code), ("", 0), "{out}");
    println!("{out}");
    assert!(out.contains("healthy"), "{out}");
    peer.answers(Answer::Status(500));
    wait_health(&sandbox, "web", "unhealthy");
    let (out, _, code) = sandbox.cli(&["status", "web"]);
    assert_eq!(code, 0, "{out}");
    println!("{out}");
    assert!(out.contains("unhealthy"), "{out}");
    assert!(out.contains("HTTP status 500"), "{out}");
}

/// After its retries an unhealthy service is stopped, and the reason is told in words and as data.
#[test]
fn an_unhealthy_service_is_ended_with_the_reason() {
    let mut sandbox = Sandbox::new();
    let _peers = BAD.map(|(name, answer, _)| {
        let peer = Peer::local(answer);
        let health = health("http", &peer.url(), patience(answer));
        sandbox.service(name, &format!("{WAITS}\n{AT_ONCE}\n{health}\n{ONCE}"));
        peer
    });
    sandbox.start();
    for (name, ..) in BAD {
        sandbox.wait_state(name, "failed");
        let status = sandbox.status(name);
        assert_eq!(
            status["error"], "health check failed after 2 attempts",
            "{name}: {status}"
        );
        let full = sandbox.ask("service.status_full", json!({"name": name}));
        let reason = json!({"type": "health_check_failed", "attempts": 2});
        assert_eq!(full["state"]["reason"], reason, "{name}: {full}");
    }
}

/// A service that falls ill after it was well is restarted, and is well again.
#[test]
fn a_service_that_falls_ill_is_restarted() {
    let mut sandbox = Sandbox::new();
    let peer = Peer::local(Answer::Status(200));
    let health = health("http", &peer.url(), 10_000);
    sandbox.service(
        "ill",
        &format!("{WAITS}\n[lifecycle]\nrestart_delay_ms = 5\n{health}"),
    );
    sandbox.start();
    sandbox.await_running("ill");
    let before = sandbox.pid("ill");
    assert_eq!(health_of(&sandbox, "ill")["state"], "healthy");
    peer.answers(Answer::Status(500));
    assert!(wait_until(|| !is_alive(before)), "{}", sandbox.log());
    peer.answers(Answer::Status(200));
    sandbox.wait_other_pid("ill", before);
    wait_health(&sandbox, "ill", "healthy");
    let log = sandbox.log();
    assert!(
        log.contains("health check failed after 2 attempts"),
        "{log}"
    );
}

/// Those that require a service with probes wait for the first one that finds it healthy.
#[test]
fn a_first_good_answer_makes_ready() {
    let mut sandbox = Sandbox::new();
    let peer = Peer::local(Answer::Status(500));
    let health = health("http", &peer.url(), 10_000).replace("retries = 2", "retries = 100000");
    sandbox.service("slow", &format!("{WAITS}\n{health}"));
    sandbox.service(
        "next",
        &format!("{WAITS}\n[dependencies]\nrequires = [\"slow\"]"),
    );
    sandbox.start();
    let failures = || health_of(&sandbox, "slow")["failures"].as_u64();
    assert!(wait_until(|| failures() > Some(2)), "{}", sandbox.log());
    assert_eq!(sandbox.state("slow"), "starting");
    assert_eq!(sandbox.state("next"), "blocked");
    peer.answers(Answer::Status(200));
    sandbox.await_running("next");
    assert_eq!(sandbox.state("slow"), "running");
    wait_health(&sandbox, "slow", "healthy");
}

/// Of an answer only the status is read, whatever else is sent.
#[test]
fn a_gigabyte_is_not_taken() {
    let mut sandbox = Sandbox::new();
    let answer = Answer::Endless("HTTP/1.1 200 OK\r\n\r\n");
    let peer = Peer::local(answer);
    let health = health("http", &peer.url(), patience(answer));
    sandbox.service("verbose", &format!("{WAITS}\n{health}"));
    sandbox.start();
    sandbox.await_running("verbose");
    wait_health(&sandbox, "verbose", "healthy");
    assert!(wait_until(|| peer.sent() > 0), "it was asked");
    assert!(peer.sent() < GIGABYTE / 8, "{} bytes", peer.sent());
}

/// A server can be asked at an IPv4 or an IPv6 address, by its name, and at a Unix socket.
#[test]
fn servers_are_asked_wherever_they_are() {
    let mut sandbox = Sandbox::new();
    let ok = Answer::Status(200);
    let mut peers = vec![
        ("unix", Peer::at(&sandbox.path("peer"), ok)),
        ("ipv4", Peer::local(ok)),
        ("name", Peer::local(ok)),
        ("query", Peer::local(ok)),
    ];
    if TcpListener::bind("[::1]:0").is_ok() {
        peers.push(("ipv6", Peer::on("[::1]:0", ok)));
    } else {
        println!("skipped: there is no IPv6");
    }
    for (name, peer) in &peers {
        let url = match *name {
            "name" => format!("http://localhost:{}/health", peer.port()),
            "query" => format!("http://127.0.0.1:{}?full=1", peer.port()),
            _ => peer.url(),
        };
        let health = health("http", &url, 10_000);
        sandbox.service(name, &format!("{WAITS}\n{health}"));
    }
    sandbox.start();
    for (name, peer) in &peers {
        sandbox.await_running(name);
        wait_health(&sandbox, name, "healthy");
        let request = peer.first_request();
        let path = if *name == "query" {
            "/?full=1"
        } else {
            "/health"
        };
        assert!(
            request.starts_with(&format!("GET {path} HTTP/1.1\r\n")),
            "{name}: {request}"
        );
        let host = match *name {
            "unix" => "localhost".to_owned(),
            "name" => format!("localhost:{}", peer.port()),
            "ipv6" => format!("[::1]:{}", peer.port()),
            _ => format!("127.0.0.1:{}", peer.port()),
        };
        assert!(
            request.contains(&format!("\r\nHost: {host}\r\n")),
            "{name}: {request}"
        );
    }
}

/// A name is looked up by a child, which is gone when it is done, and again after a failure.
#[test]
fn a_name_is_looked_up_again_after_a_failure() {
    let mut sandbox = Sandbox::new();
    let peer = Peer::local(Answer::Status(200));
    let url = format!("http://localhost:{}/", peer.port());
    let health = health("http", &url, 10_000);
    sandbox.service("named", &format!("{WAITS}\n{health}\n{REPORT}"));
    sandbox.start();
    sandbox.await_running("named");
    for _ in 0..3 {
        peer.answers(Answer::Status(500));
        wait_health(&sandbox, "named", "unhealthy");
        peer.answers(Answer::Status(200));
        wait_health(&sandbox, "named", "healthy");
    }
    let own: BTreeSet<i32> = [sandbox.pid("named")].into();
    let settles = wait_until(|| sandbox.pids_of_services() == own);
    assert!(settles, "{:?}", sandbox.pids_of_services());
}

/// A connection is enough for a TCP probe, and for a URL of https.
#[test]
fn a_connection_is_enough_where_nothing_is_asked() {
    let mut sandbox = Sandbox::new();
    let peers = ["tcp", "tcp-name", "tcp-unix", "https"].map(|name| {
        let peer = match name {
            "tcp-unix" => Peer::at(&sandbox.path("peer"), Answer::Silence),
            _ => Peer::local(Answer::Silence),
        };
        let (kind, target) = match name {
            "tcp" => ("tcp", format!("127.0.0.1:{}", peer.port())),
            "tcp-name" => ("tcp", format!("localhost:{}", peer.port())),
            "tcp-unix" => ("tcp", format!("unix:{}", sandbox.text("peer"))),
            _ => ("http", format!("https://127.0.0.1:{}/", peer.port())),
        };
        let health = health(kind, &target, 10_000);
        sandbox.service(name, &format!("{WAITS}\n{health}"));
        (name, peer)
    });
    sandbox.start();
    for (name, peer) in &peers {
        sandbox.await_running(name);
        wait_health(&sandbox, name, "healthy");
        assert_eq!(peer.first_request(), "", "{name} asked for something");
    }
}

/// Where nobody listens, that is told.
#[test]
fn a_connection_that_cannot_be_is_told() {
    let mut sandbox = Sandbox::new();
    let port = Peer::local(Answer::Silence).port();
    let cases = [
        ("tcp", "tcp", format!("127.0.0.1:{port}")),
        ("http", "http", format!("http://localhost:{port}/")),
        ("unix", "tcp", format!("unix:{}", sandbox.text("absent"))),
    ];
    for (name, kind, target) in &cases {
        let health = health(kind, target, 10_000);
        sandbox.service(name, &format!("{WAITS}\n{AT_ONCE}\n{health}\n{REPORT}"));
    }
    sandbox.start();
    for (name, ..) in &cases {
        let found = wait_health(&sandbox, name, "unhealthy");
        let told = match *name {
            "unix" => "No such file or directory",
            _ => "Connection refused",
        };
        assert_eq!(found["last_error"], told, "{name}");
    }
}

/// Which statuses are healthy can be said: one, all of a class, or several.
#[test]
fn the_expected_status_counts() {
    let cases = [
        ("", 200, true),
        ("", 204, false),
        ("expect_status = 204", 204, true),
        ("expect_status = 204", 200, false),
        ("expect_status = \"2xx\"", 226, true),
        ("expect_status = \"2xx\"", 301, false),
        ("expect_status = [204, \"3xx\"]", 204, true),
        ("expect_status = [204, \"3xx\"]", 304, true),
        ("expect_status = [204, \"3xx\"]", 200, false),
        ("expect_status = \"5xx\"", 503, true),
    ];
    let mut sandbox = Sandbox::new();
    let mut peers = Vec::new();
    for (at, (expect, status, _)) in cases.iter().enumerate() {
        let peer = Peer::local(Answer::Status(*status));
        let health = health("http", &peer.url(), 10_000);
        sandbox.service(
            &format!("case{at}"),
            &format!("{WAITS}\n{AT_ONCE}\n{health}\n{REPORT}\n{expect}"),
        );
        peers.push(peer);
    }
    sandbox.start();
    for (at, (expect, status, well)) in cases.iter().enumerate() {
        let name = format!("case{at}");
        let settled = || {
            let word = health_of(&sandbox, &name)["state"].clone();
            word != "unknown" && word != Value::Null
        };
        assert!(wait_until(settled), "{expect}: {}", sandbox.log());
        let found = health_of(&sandbox, &name);
        let word = if *well { "healthy" } else { "unhealthy" };
        assert_eq!(found["state"], word, "{expect} {status}: {found}");
        let told = (!well).then(|| format!("HTTP status {status}"));
        assert_eq!(found["last_error"], json!(told), "{expect} {status}");
    }
}

/// An exec probe that hangs is killed with all that it started, and the service is not.
#[test]
fn a_probe_that_hangs_is_killed_with_its_tree() {
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    let probe = "sleep 1000 & setsid sleep 1000 & echo $$ $! >> $DIR/probes; wait";
    let health = health("exec", probe, 300);
    sandbox.service("hung", &format!("{WAITS}\n{AT_ONCE}\n{health}\n{REPORT}"));
    sandbox.start();
    let found = wait_health(&sandbox, "hung", "unhealthy");
    assert_eq!(found["last_error"], "no result in time", "{found}");
    let pid = sandbox.pid("hung");
    let three = || sandbox.lines("probes").len() > 2;
    assert!(wait_until(three), "{}", sandbox.log());
    for line in &sandbox.lines("probes")[..2] {
        for number in line.split(' ') {
            let number = number.parse().expect("a process number");
            assert!(wait_until(|| !is_alive(number)), "{number} of {line}");
        }
    }
    assert_eq!(sandbox.pid("hung"), pid);
    sandbox.done("service.stop", "hung");
    let gone = wait_until(|| sandbox.pids_of_services().is_empty());
    assert!(gone, "{:?}", sandbox.pids_of_services());
}

/// An exec probe that hangs for all its retries ends the service, as any bad answer does.
#[test]
fn a_service_whose_probe_hangs_is_unhealthy() {
    let mut sandbox = Sandbox::new();
    let health = health("exec", "sleep 1000", 150);
    sandbox.service("hung", &format!("{WAITS}\n{health}\n{ONCE}"));
    sandbox.start();
    let refused = sandbox.await_goal("hung", "running");
    assert!(refused.is_err(), "{refused:?}");
    let error = sandbox.status("hung")["error"].clone();
    assert_eq!(error, "health check failed after 2 attempts");
    sandbox.wait_state("hung", "failed");
}

/// A probe that fails tells its exit status and the last line that it wrote.
#[test]
fn a_probe_that_fails_tells_its_last_words() {
    let mut sandbox = Sandbox::new();
    let cases = [
        (
            "words",
            "echo one; echo two >&2; exit 3",
            "exited with code 3: two",
        ),
        ("wordless", "exit 3", "exited with code 3"),
        ("killed", "kill -9 $$", "killed by signal 9"),
    ];
    for (name, probe, _) in cases {
        let health = health("exec", probe, 10_000);
        sandbox.service(name, &format!("{WAITS}\n{AT_ONCE}\n{health}\n{REPORT}"));
    }
    sandbox.start();
    for (name, _, told) in cases {
        let found = wait_health(&sandbox, name, "unhealthy");
        assert_eq!(found["last_error"], told, "{name}");
    }
}

/// A probe that can't be run is told by its own name.
#[test]
fn a_probe_that_cannot_be_run_is_told_by_its_name() {
    let mut sandbox = Sandbox::new();
    let health = health("exec", "/no/such/probe", 10_000);
    sandbox.service("absent", &format!("{WAITS}\n{AT_ONCE}\n{health}\n{REPORT}"));
    sandbox.start();
    let found = wait_health(&sandbox, "absent", "unhealthy");
    assert_eq!(
        found["last_error"],
        "exec /no/such/probe: No such file or directory"
    );
}

// One that was stopped in its tracks is found by its probes alone.

const HTTP_SERVER: &str = r#"
import http.server, os, socketserver, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def address_string(self):
        return "-"
    def log_message(self, *words):
        pass
if os.path.exists(sys.argv[1]):
    os.remove(sys.argv[1])
server = socketserver.UnixStreamServer(sys.argv[1], Handler)
print("ready to accept connections", flush=True)
server.serve_forever()
"#;

/// Stops a server in its tracks, and looks what becomes of it and of those that require it.
fn freeze(sandbox: &mut Sandbox, body: &str) {
    for (name, restart_dependents) in [("kept", false), ("restarted", true)] {
        let body = body.replace("NAME", name);
        sandbox.service(
            name,
            &format!(
                "{body}\n[readiness]\ntype = \"log\"\ntext = \"eady to accept connections\"\n\
                 [lifecycle]\nrestart_delay_ms = 5\nstop_timeout_ms = 100\n\
                 restart_dependents = {restart_dependents}"
            ),
        );
        sandbox.service(
            &format!("needs-{name}"),
            &format!("{WAITS}\n[dependencies]\nrequires = [\"{name}\"]"),
        );
    }
    sandbox.start();
    for name in ["kept", "restarted"] {
        let needs = format!("needs-{name}");
        sandbox.await_running(&needs);
        let (before, dependent) = (sandbox.pid(name), sandbox.pid(&needs));
        signal(before, Signal::SIGSTOP);
        sandbox.wait_other_pid(name, before);
        assert!(!is_alive(before), "{name} was killed");
        wait_health(sandbox, name, "healthy");
        if name == "kept" {
            assert_eq!(sandbox.pid(&needs), dependent, "it ran on");
            assert_eq!(sandbox.state(&needs), "running");
        } else {
            sandbox.wait_other_pid(&needs, dependent);
            assert!(!is_alive(dependent), "it went down first");
        }
        let told = format!("{name}: health check failed after 2 attempts");
        assert!(sandbox.log().contains(&told), "{}", sandbox.log());
    }
}

/// A web server that was stopped by a signal is found, killed and restarted.
#[test]
fn a_frozen_web_server_is_restarted() {
    let Some(python) = python() else {
        return println!("skipped: there is no Python");
    };
    let mut sandbox = Sandbox::new();
    fs::write(sandbox.path("server.py"), HTTP_SERVER).unwrap();
    let words = json!([python, sandbox.path("server.py"), sandbox.path("NAME.sock")]);
    let url = format!("http://unix:{}:/", sandbox.text("NAME.sock"));
    let health =
        health("http", &url, 300).replace("retries = 2", "retries = 2\nstart_period_ms = 0");
    freeze(&mut sandbox, &format!("exec = {words}\n{health}"));
}

/// A database that was stopped by a signal is found, killed and restarted.
#[test]
fn a_frozen_database_is_restarted() {
    let (Some(server), Some(client)) = (find_program("redis-server"), find_program("redis-cli"))
    else {
        return println!("skipped: there is no Redis");
    };
    let mut sandbox = Sandbox::new();
    let socket = sandbox.text("NAME.sock");
    let words = json!([
        server,
        "--port",
        "0",
        "--unixsocket",
        socket,
        "--save",
        "",
        "--dir",
        sandbox.dir()
    ]);
    let probe = format!("{} -s {socket} ping", client.display());
    let health = health("exec", &probe, 1000);
    freeze(&mut sandbox, &format!("exec = {words}\n{health}"));
}

/// Ill and only told of: it runs on, and everybody who looks is told.
#[test]
fn who_is_only_reported_is_shown_as_ill() {
    let mut sandbox = Sandbox::new();
    let mark = sandbox.text("well");
    let probe = quoted(&format!("test -e {mark}"));
    let body = format!(
        "exec = \"sleep 1000\"\n[readiness]\ntype = \"spawn\"\n[health]\ntype = \"exec\"\n\
         target = {probe}\ninterval_ms = 20\nretries = 2\non_unhealthy = \"report\""
    );
    sandbox.service("web", &body);
    sandbox.start();
    let listed = || sandbox.ask("service.list_full", Value::Null)[0]["health"].clone();
    assert!(wait_until(|| listed() == "unhealthy"), "{}", listed());
    let pid = sandbox.pid("web");
    let check = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_zinit"));
        command.arg("-s").arg(sandbox.socket()).arg("healthcheck");
        let output = command.output().expect("the program can be run");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text)
    };
    assert_eq!(
        check(),
        (Some(1), "not healthy: web unhealthy\n".to_owned())
    );
    std::fs::write(&mark, "").expect("a file");
    assert!(wait_until(|| listed() == "healthy"));
    assert_eq!(check(), (Some(0), "healthy\n".to_owned()));
    assert_eq!(sandbox.pid("web"), pid);
}
