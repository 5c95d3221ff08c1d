//! What goes over the socket: lines in any pieces, requests of any sense, clients of any manners.

#[path = "common/meter.rs"]
mod meter;
#[path = "common/sandbox.rs"]
mod sandbox;

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::net::UnixStream;

use sandbox::{Connection, Sandbox, quoted, wait_until};
use serde_json::{Value, json};

const PING: &str = r#"{"jsonrpc":"2.0","id":7,"method":"system.ping","params":null}"#;

fn pong(id: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": {"version": env!("CARGO_PKG_VERSION")}})
}

/// Sends one line and gives the reply.
fn tell(connection: &mut Connection, line: impl AsRef<[u8]>) -> Value {
    assert!(connection.send(line.as_ref()));
    assert!(connection.send(b"\n"));
    connection.reply()
}

fn code(reply: &Value) -> i64 {
    assert!(reply.get("result").is_none(), "{reply}");
    reply["error"]["code"].as_i64().unwrap()
}

/// Resident memory of the server in KiB.
fn resident(sandbox: &Sandbox) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", sandbox.server_pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.unwrap()
        .split_ascii_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

// Framing.

#[test]
fn requests_may_be_cut_anywhere() {
    let sandbox = Sandbox::started();
    let requests =
        format!("{PING}\n {{\"method\":\"x\\u00e9é\",\"id\":\"é\",\"jsonrpc\":\"\"}}\r\n");
    let bytes = requests.as_bytes();
    let mut other = sandbox.connect();
    for cut in 0..=bytes.len() {
        let mut connection = sandbox.connect();
        connection.send(&bytes[..cut]);
        // The server has certainly seen the first part by then.
        tell(&mut other, PING);
        connection.send(&bytes[cut..]);
        assert_eq!(connection.reply(), pong(&json!(7)), "cut at {cut}");
        let second = connection.reply();
        assert_eq!((code(&second), &second["id"]), (-32601, &json!("é")));
    }
    let mut connection = sandbox.connect();
    for byte in bytes {
        connection.send(std::slice::from_ref(byte));
    }
    assert_eq!(connection.reply(), pong(&json!(7)));
    assert_eq!(code(&connection.reply()), -32601);
}

#[test]
fn many_requests_at_once_are_answered_in_order() {
    let sandbox = Sandbox::new();
    sandbox.runs("one", "sleep 1000");
    let mut sandbox = sandbox;
    sandbox.start();
    sandbox.await_running("one");
    let mut connection = sandbox.connect();
    let methods = [
        "system.ping",
        "service.stop",
        "service.start",
        "service.list_full",
        "no.such",
        "service.wait",
        "service.restart",
    ];
    let mut lines = String::new();
    for id in 0..700 {
        let params = json!({"name": "one", "wait": true, "for": "running", "timeout_ms": 20_000});
        let request =
            json!({"jsonrpc": "2.0", "id": id, "method": methods[id % 7], "params": params});
        lines += &format!("{request}\n");
    }
    assert!(connection.send(lines.as_bytes()));
    connection.end();
    for id in 0..700 {
        let reply = connection.reply();
        assert_eq!(reply["id"], id, "{reply}");
        assert_eq!(reply.get("error").is_some(), id % 7 == 4, "{reply}");
    }
    assert_eq!(connection.line(), None);
}

#[test]
fn a_line_of_ten_megabytes_is_refused_and_forgotten() {
    let sandbox = Sandbox::started();
    let mut connection = sandbox.connect();
    tell(&mut connection, PING);
    let before = resident(&sandbox);
    let mut long = br#"{"jsonrpc":"2.0","id":1,"method":"system.ping","params":""#.to_vec();
    long.resize(10 << 20, b'x');
    let reply = tell(&mut connection, &long);
    assert_eq!((code(&reply), &reply["id"]), (-32700, &json!(0)));
    let after = resident(&sandbox);
    assert!(after < before + (8 << 10), "{before} KiB, then {after} KiB");
    // Exactly one reply, and the connection is as good as ever.
    assert_eq!(tell(&mut connection, PING), pong(&json!(7)));
    // A line just short of the bound is fine.
    let mut large = br#"{"jsonrpc":"2.0","id":7,"method":"system.ping","params":""#.to_vec();
    large.resize((1 << 20) - 2, b'x');
    large.extend(b"\"}");
    assert_eq!(tell(&mut connection, &large), pong(&json!(7)));
    // One that never ends costs nothing either.
    let mut endless = sandbox.connect();
    for _ in 0..30 {
        endless.send(&long);
    }
    assert_eq!(tell(&mut connection, PING), pong(&json!(7)));
    let after = resident(&sandbox);
    assert!(after < before + (8 << 10), "{before} KiB, then {after} KiB");
    endless.end();
    assert_eq!(code(&endless.reply()), -32700);
    assert_eq!(endless.line(), None);
}

#[test]
fn what_is_no_request_is_told_so() {
    let sandbox = Sandbox::started();
    let mut connection = sandbox.connect();
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    let deep_object = format!("{}1{}", "{\"a\":".repeat(500), "}".repeat(500));
    let in_params = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"system.ping","params":{deep}}}"#);
    let lines: &[&[u8]] = &[
        b"",
        b"   ",
        b"\r",
        b"hello",
        b"{}",
        b"7",
        b"null",
        b"\"system.ping\"",
        b"{\"jsonrpc\":\"2.0\",\"id\":1}",
        b"{\"id\":1,\"method\":\"system.ping\"}",
        b"{\"jsonrpc\":2,\"id\":1,\"method\":\"system.ping\"}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":7}",
        b"{\"jsonrpc\":\"2.0\",\"id\":[],\"method\":\"system.ping\"}",
        b"{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"system.ping\"}",
        b"{\"jsonrpc\":\"2.0\",\"id\":true,\"method\":\"system.ping\"}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"system.ping\"}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"system.ping\"",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"system.ping\"}}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\xfe\"}",
        b"{\"jsonrpc\":\"\xc3\x28\",\"id\":1,\"method\":\"system.ping\"}",
        b"\xff\xfe\x00\x01",
        b"\0",
        deep_object.as_bytes(),
        in_params.as_bytes(),
    ];
    for line in lines {
        let what = String::from_utf8_lossy(line);
        let reply = tell(&mut connection, line);
        assert_eq!((code(&reply), &reply["id"]), (-32700, &json!(0)), "{what}");
        assert!(!reply["error"]["message"].as_str().unwrap().is_empty());
        assert_eq!(tell(&mut connection, PING), pong(&json!(7)), "{what}");
    }
    // A batch of one.
    let reply = tell(&mut connection, deep.as_bytes());
    assert_eq!((code(&reply[0]), &reply[0]["id"]), (-32700, &json!(0)));
}

#[test]
fn ids_come_back_as_they_were() {
    let sandbox = Sandbox::started();
    let mut connection = sandbox.connect();
    for id in [
        json!(0),
        json!(u64::MAX),
        json!(-3),
        json!(1.5),
        json!("a b \" \\ é \u{1f600}"),
        json!(""),
        Value::Null,
    ] {
        let line = json!({"jsonrpc": "1.0", "id": id, "method": "system.ping", "more": [1]});
        assert_eq!(tell(&mut connection, line.to_string()), pong(&id));
    }
}

#[test]
fn the_members_of_a_reply_stand_in_order() {
    let sandbox = Sandbox::started();
    let mut connection = sandbox.connect();
    connection.send(format!("{PING}\n{}\n", PING.replace("ping", "pong")).as_bytes());
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        connection.line().unwrap(),
        format!(r#"{{"jsonrpc":"2.0","id":7,"result":{{"version":"{version}"}}}}"#)
    );
    assert_eq!(
        connection.line().unwrap(),
        r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"unknown method"}}"#
    );
}

#[test]
fn a_batch_is_answered_by_one_line() {
    let mut sandbox = Sandbox::new();
    sandbox.service("one", "exec = \"sleep 1000\"\nstatus = \"stop\"");
    sandbox.start();
    let mut connection = sandbox.connect();
    let request = |id: Value, method: &str, params: Value| json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    let batch = json!([
        request(json!(1), "system.ping", Value::Null),
        {"jsonrpc": "2.0", "method": "system.ping"},
        request(json!("start"), "service.start", json!({"name": "one", "wait": true})),
        7,
        request(json!(2), "service.is_running", json!({"name": "one"})),
        [],
        request(json!(3), "no.such", json!({})),
        request(json!(4), "service.stop", json!({"name": "one", "wait": true})),
    ]);
    let reply = tell(&mut connection, batch.to_string());
    let replies = reply.as_array().unwrap();
    let ids: Vec<&Value> = replies.iter().map(|reply| &reply["id"]).collect();
    assert_eq!(json!(ids), json!([1, "start", 0, 2, 0, 3, 4]), "{reply}");
    assert_eq!(replies[3]["result"], true);
    assert_eq!(code(&replies[2]), -32700);
    assert_eq!(code(&replies[5]), -32601);
    assert_eq!(replies[6]["result"]["state"], "exited");
    assert_eq!(code(&tell(&mut connection, "[]")), -32600);
    assert_eq!(code(&tell(&mut connection, "[1,")), -32700);
    // Nobody answers a batch of notifications; the next reply is the next request's.
    let quiet = json!([{"jsonrpc": "2.0", "method": "system.ping"}]);
    connection.send(format!("{quiet}\n").as_bytes());
    assert_eq!(tell(&mut connection, PING), pong(&json!(7)));
    // A large one, cut off from its newline, at the end of what the client has to say.
    let many: Vec<Value> = (0..3000)
        .map(|id| request(json!(id), "service.list_full", Value::Null))
        .collect();
    connection.send(json!(many).to_string().as_bytes());
    connection.end();
    let reply = connection.reply();
    let replies = reply.as_array().unwrap();
    assert_eq!(replies.len(), 3000);
    for (at, reply) in replies.iter().enumerate() {
        assert_eq!(reply["id"], at);
    }
    assert_eq!(connection.line(), None);
}

/// While the first waits, the others are nothing but their line.
#[test]
fn a_batch_that_waits_takes_little_room() {
    const CLIENTS: u64 = 20;
    let mut sandbox = Sandbox::new();
    sandbox.runs("one", "sleep 1000");
    sandbox.start();
    sandbox.await_running("one");
    let own = || meter::memory(sandbox.server_pid()).own;
    let waiting = || {
        let record = sandbox.cli(&["debug", "record"]).0;
        record.matches(" command Wait ").count()
    };
    let before = (own(), waiting());
    let waits = json!({"name": "one", "for": "stopped"});
    let waits = json!({"jsonrpc": "2.0", "id": 1, "method": "service.wait", "params": waits});
    let line = format!("[{waits}{}]\n", ",0".repeat(500_000));
    let clients: Vec<Connection> = (0..CLIENTS)
        .map(|_| {
            let mut connection = sandbox.connect();
            connection.send(line.as_bytes());
            connection
        })
        .collect();
    assert!(wait_until(|| waiting() == before.1 + clients.len()));
    let most = (CLIENTS * 4) << 10;
    assert!(
        own() < before.0 + most,
        "{} KiB, {} before",
        own(),
        before.0
    );
    drop(clients);
}

#[test]
fn a_notification_is_obeyed_without_a_word() {
    let mut sandbox = Sandbox::new();
    sandbox.service("one", "exec = \"sleep 1000\"\nstatus = \"stop\"");
    sandbox.start();
    let mut connection = sandbox.connect();
    for (method, wait) in [("service.start", false), ("service.restart", true)] {
        let params = json!({"name": "one", "wait": wait});
        connection.send_line(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
        connection.send_line(&json!({"jsonrpc": "2.0", "method": "no.such"}));
    }
    assert_eq!(tell(&mut connection, PING), pong(&json!(7)));
    sandbox.await_running("one");
}

#[test]
fn a_client_that_has_said_everything_still_hears() {
    let mut sandbox = Sandbox::new();
    sandbox.service(
        "one",
        "exec = \"read line < $DIR/fifo; sleep 1000\"\nstatus = \"stop\"\noneshot = true",
    );
    sandbox.env("DIR", &sandbox.text(""));
    nix::unistd::mkfifo(&sandbox.path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    sandbox.start();
    // The last line needs no newline.
    let mut connection = sandbox.connect();
    connection.send(PING.as_bytes());
    connection.end();
    assert_eq!(connection.reply(), pong(&json!(7)));
    assert_eq!(connection.line(), None);
    // Who has closed its half still gets what it waits for.
    let mut connection = sandbox.connect();
    let start = connection.begin("service.start", json!({"name": "one"}));
    let wait = connection.begin(
        "service.wait",
        json!({"name": "one", "for": "stopped", "timeout_ms": 30_000}),
    );
    connection.send(PING.as_bytes());
    connection.end();
    connection.finish(start).unwrap();
    sandbox.wait_state("one", "running");
    sandbox.ask("service.stop", json!({"name": "one"}));
    assert_eq!(
        connection.finish(wait),
        Ok(json!({"ok": true, "state": "exited"}))
    );
    assert_eq!(connection.reply(), pong(&json!(7)));
    assert_eq!(connection.line(), None);
}

// Sense.

#[test]
fn every_method_answers_whatever_it_is_given() {
    let mut sandbox = Sandbox::new();
    sandbox.service(
        "one",
        "exec = \"sleep 1000\"\nstatus = \"stop\"\nclass = \"system\"",
    );
    sandbox.start();
    let document = sandbox.ask("rpc.discover", Value::Null);
    assert_eq!(document["openrpc"], "1.2.6");
    assert_eq!(document["info"]["title"], "Zinit RPC API");
    let methods = document["methods"].as_array().unwrap();
    let named = [
        "service.status",
        "service.status_full",
        "service.get",
        "service.stats",
        "service.children",
        "service.why",
        "service.wait",
        "logs.tail",
        "debug.process_tree",
    ];
    let changing = [
        "service.start",
        "service.stop",
        "service.restart",
        "service.kill",
        "service.delete",
        "service.remove",
    ];
    let known: Vec<&str> = methods
        .iter()
        .map(|method| method["name"].as_str().unwrap())
        .collect();
    for method in named.iter().chain(&changing) {
        assert!(known.contains(method), "{method}");
    }
    let odd = [
        Value::Null,
        json!([]),
        json!(["one"]),
        json!("one"),
        json!(7),
        json!(true),
        json!({}),
        json!({"name": null}),
        json!({"name": 7}),
        json!({"name": ["one"]}),
        json!({"name": {"name": "one"}}),
    ];
    let mut connection = sandbox.connect();
    for method in &known {
        // These make the connection something else; they have tests of their own.
        if ["system.shutdown", "logs.follow", "events.follow"].contains(method) {
            continue;
        }
        for params in &odd {
            let answer = connection.ask(method, params.clone());
            if named.contains(method) || changing.contains(method) {
                let (code, message, data) = answer.unwrap_err();
                assert_eq!(
                    (code, message.as_str(), data),
                    (-32602, "missing 'name' parameter", Value::Null),
                    "{method} {params}"
                );
            }
        }
        let unknown = connection.ask(method, json!({"name": "nobody", "for": "running"}));
        if named.contains(method) {
            assert_eq!(
                unknown.unwrap_err(),
                (-32000, "service not found".to_owned(), Value::Null),
                "{method}"
            );
        } else if changing.contains(method) {
            assert_eq!(
                unknown.unwrap_err(),
                (-32603, "service not found: nobody".to_owned(), Value::Null),
                "{method}"
            );
        }
    }
    // Odd values of other parameters, for a service that is there.
    let with = |key: &str, value: Value| {
        let mut params = json!({"name": "one", "for": "stopped"});
        params[key] = value;
        params
    };
    for (method, key, values) in [
        ("service.start", "wait", vec![json!(7), json!("yes")]),
        ("service.start", "deps", vec![json!(0), json!([])]),
        (
            "service.stop",
            "timeout_ms",
            vec![json!(-1), json!("1"), json!(0.5)],
        ),
        ("service.restart", "wait", vec![json!({})]),
        ("service.delete", "timeout_ms", vec![json!(true)]),
        (
            "service.wait",
            "for",
            vec![Value::Null, json!(1), json!("Running"), json!("")],
        ),
        ("service.start_all", "wait", vec![json!(1)]),
        ("service.stop_all", "timeout_ms", vec![json!("x")]),
        ("service.delete_all", "wait", vec![json!("x")]),
        ("logs.tail", "stream", vec![json!("both"), json!(1)]),
        ("logs.filter", "stream", vec![json!("STDOUT")]),
    ] {
        for value in values {
            let answer = connection.ask(method, with(key, value.clone()));
            assert_eq!(answer.unwrap_err().0, -32602, "{method} {key} {value}");
        }
    }
    for method in [
        "",
        "system",
        "system.Ping",
        "service.add",
        "xinet",
        "system.ping ",
        "rpc.discover\u{0}",
    ] {
        let answer = connection.ask(method, json!({}));
        assert_eq!(
            answer.unwrap_err(),
            (-32601, "unknown method".to_owned(), Value::Null)
        );
    }
    assert_eq!(
        connection.ask("service.list", Value::Null),
        Ok(json!(["one"]))
    );
    for method in ["poweroff", "reboot", "halt"] {
        let answer = connection.ask(&format!("system.{method}"), Value::Null);
        let (code, message, _) = answer.unwrap_err();
        assert_eq!(code, -32603);
        assert!(
            message.ends_with("only available when running as PID 1"),
            "{message}"
        );
    }
}

/// What zinit 0.3.9 shows is there, and as it was.
fn assert_has(shown: &Value, expected: &Value) {
    match expected.as_object() {
        Some(members) => members
            .iter()
            .for_each(|(name, value)| assert_has(&shown[name], value)),
        None => assert_eq!(shown, expected),
    }
}

#[test]
fn replies_have_the_shapes_that_clients_know() {
    let mut sandbox = Sandbox::new();
    sandbox.runs(
        "alpha",
        "echo alpha-out; echo alpha-err >&2; exec sleep 1000",
    );
    sandbox.service(
        "beta",
        "exec = \"sleep 1000 & sleep 1000 & wait\"\n[dependencies]\nrequires = [\"alpha\"]",
    );
    sandbox.target(
        "grp",
        "[dependencies]\nrequires = [\"beta\"]\nwants = [\"alpha\"]\nafter = [\"alpha\"]",
    );
    sandbox.service("once", "exec = \"true\"\noneshot = true");
    sandbox.service(
        "crash",
        "exec = \"exit 2\"\noneshot = true\n[lifecycle]\nrestart = \"never\"",
    );
    sandbox.service(
        "sig",
        "exec = \"kill -9 $$\"\n[lifecycle]\nrestart = \"never\"",
    );
    sandbox.service(
        "held",
        "exec = \"true\"\n[dependencies]\nrequires = [\"crash\"]\nafter = [\"alpha\"]",
    );
    sandbox.service(
        "ghostly",
        "exec = \"true\"\n[dependencies]\nrequires = [\"ghost\"]",
    );
    sandbox.service("idle", "exec = \"true\"\nstatus = \"ignore\"");
    sandbox.start();
    sandbox.await_running("grp");
    sandbox.await_running("once");
    for name in ["crash", "sig"] {
        sandbox.await_goal(name, "stopped").unwrap();
    }
    sandbox.wait_state("held", "blocked");
    let names = [
        "alpha", "beta", "crash", "ghostly", "grp", "held", "idle", "once", "sig",
    ];
    assert_eq!(sandbox.ask("service.list", Value::Null), json!(names));
    let (alpha, beta) = (sandbox.pid("alpha"), sandbox.pid("beta"));
    let state = |value: Value| value;
    let states = [
        ("alpha", state(json!({"state": "running", "pid": alpha}))),
        ("beta", json!({"state": "running", "pid": beta})),
        (
            "crash",
            json!({"state": "failed", "reason": {"type": "exit_code", "code": 2}}),
        ),
        (
            "ghostly",
            json!({"state": "failed",
                   "reason": {"type": "missing_dependency", "dependency": "ghost"}}),
        ),
        ("grp", json!({"state": "running", "pid": 0})),
        ("held", json!({"state": "blocked", "waiting_on": ["crash"]})),
        ("idle", json!({"state": "inactive"})),
        ("once", json!({"state": "exited", "exit_code": 0})),
        (
            "sig",
            json!({"state": "failed", "reason": {"type": "signal", "signal": 9}}),
        ),
    ];
    let full = states
        .iter()
        .map(|(name, state)| json!({"name": name, "state": state, "is_target": *name == "grp"}));
    assert_eq!(
        sandbox.ask("service.list_full", Value::Null),
        full.collect::<Value>()
    );
    for (name, expected) in [
        (
            "alpha",
            json!({"name": "alpha", "pid": alpha, "state": "running"}),
        ),
        (
            "once",
            json!({"exit_code": 0, "name": "once", "pid": 0, "state": "exited"}),
        ),
        (
            "crash",
            json!({"exit_code": 2, "name": "crash", "pid": 0, "state": "failed"}),
        ),
        (
            "sig",
            json!({"error": "killed by signal 9", "name": "sig", "pid": 0, "state": "failed"}),
        ),
        (
            "held",
            json!({"error": "waiting on: crash", "name": "held", "pid": 0, "state": "blocked"}),
        ),
        (
            "idle",
            json!({"name": "idle", "pid": 0, "state": "inactive"}),
        ),
        (
            "ghostly",
            json!({"error": "missing dependency 'ghost'", "name": "ghostly", "pid": 0,
                   "state": "failed"}),
        ),
        ("grp", json!({"name": "grp", "pid": 0, "state": "running"})),
    ] {
        assert_eq!(sandbox.status(name), expected);
    }
    let mut full = sandbox.ask("service.status_full", json!({"name": "beta"}));
    assert!(full["uptime_secs"].take().is_u64());
    assert_eq!(
        full,
        json!({"name": "beta", "is_target": false, "uptime_secs": null,
               "state": {"state": "running", "pid": beta},
               "dependencies": [{"name": "alpha", "dep_type": "requires", "satisfied": true,
                                 "state": {"state": "running", "pid": alpha}}]})
    );
    let full = sandbox.ask("service.status_full", json!({"name": "once"}));
    assert_eq!(full["uptime_secs"], Value::Null);
    for (name, runs) in [
        ("alpha", true),
        ("grp", true),
        ("once", false),
        ("nobody", false),
    ] {
        let running = sandbox.ask("service.is_running", json!({"name": name}));
        assert_eq!(running, json!(runs), "{name}");
    }
    let shown = sandbox.ask("service.get", json!({"name": "alpha"}));
    assert_has(
        &shown,
        &json!({
            "service": {"name": "alpha",
                        "exec": "echo alpha-out; echo alpha-err >&2; exec sleep 1000",
                        "dir": null, "tty": null, "oneshot": false, "status": "start", "class": "user",
                        "critical": false, "ports": [], "kill_others": false,
                        "process_filters": [], "env": {}},
            "dependencies": {"after": [], "requires": [], "wants": [], "conflicts": []},
            "lifecycle": {"restart": "on-failure", "restart_delay_ms": 1000,
                          "restart_delay_max_ms": 300_000, "max_restarts": 10,
                          "stability_period_ms": 30000, "start_timeout_ms": 30000,
                          "stop_timeout_ms": 10000, "stop_signal": "SIGTERM",
                          "kill_mode": "tree", "survive_switch_root": false},
            "health": null,
            "logging": {"buffer_lines": 1000, "file": null, "forward": null}
        }),
    );
    let group = sandbox.ask("service.get", json!({"name": "grp"}));
    assert_eq!(
        (&group["is_target"], &group["name"]),
        (&json!(true), &json!("grp"))
    );
    // The kernel counts pages by and by: a process that is new may have none.
    let stats = || sandbox.ask("service.stats", json!({"name": "alpha"}));
    assert!(wait_until(|| stats()["memory_bytes"].as_u64().unwrap() > 0));
    let stats = stats();
    assert_eq!(stats["pid"], alpha);
    assert!(stats["cpu_percent"].is_f64());
    for name in ["once", "grp"] {
        assert_eq!(
            sandbox.ask("service.stats", json!({"name": name})),
            json!({"cpu_percent": 0.0, "memory_bytes": 0, "pid": 0})
        );
        assert_eq!(
            sandbox.ask("service.children", json!({"name": name})),
            json!({"children": []})
        );
    }
    let sleeps = || {
        let family = sandbox.ask("service.children", json!({"name": "beta"}));
        let children = family["children"].as_array().unwrap().clone();
        let asleep = children.iter().all(|child| child["name"] == "sleep");
        (children.len() == 2 && asleep).then_some(children)
    };
    assert!(wait_until(|| sleeps().is_some()));
    let children = sleeps().unwrap();
    assert!(children[0]["pid"].as_i64() > children[1]["pid"].as_i64());
    assert!(children.iter().all(|child| child["memory_bytes"].is_u64()));
    assert_eq!(
        sandbox.ask("service.why", json!({"name": "alpha"})),
        json!({"name": "alpha", "blocked": false, "waiting_on": [], "conflicts_with": [],
               "root_causes": [],
               "ascii": "[+] alpha (running)\n  Can start: all dependencies satisfied"})
    );
    let why = sandbox.ask("service.why", json!({"name": "held"}));
    assert_eq!(why["blocked"], true);
    assert_eq!(why["waiting_on"], json!(["crash"]));
    assert_eq!(why["root_causes"], json!(["crash: exited with code 2"]));
    assert_eq!(
        why["ascii"],
        "[?] held (blocked)\n  -> waiting on crash (failed)"
    );
    let tree = sandbox.ask("service.tree", Value::Null)["ascii"].clone();
    let tree = tree.as_str().unwrap();
    assert!(
        tree.starts_with(
            "├─ [+] alpha (running)\n├─ [+] beta (running)\n│    └─ requires alpha (running)\n"
        ),
        "{tree}"
    );
    assert!(tree.ends_with("└─ [X] sig (failed)"), "{tree}");
    let debug = sandbox.ask("debug.state", Value::Null)["output"].clone();
    let debug = debug.as_str().unwrap();
    assert!(
        debug.starts_with("=== Service Graph State ===\n\n[+] alpha - Running (pid="),
        "{debug}"
    );
    assert!(
        debug.contains("[X] sig - Failed (killed by SIGKILL (9))"),
        "{debug}"
    );
    let output = sandbox.ask("debug.process_tree", json!({"name": "once"}));
    assert_eq!(output, json!({"output": "once is not running"}));
    let output = sandbox.ask("debug.process_tree", json!({"name": "alpha"}));
    assert_eq!(
        output,
        json!({"output": format!("alpha (pid={alpha})\n  └─ (no child processes)")})
    );
    assert_eq!(
        sandbox.refused("service.kill", json!({"name": "once"})).1,
        "service not running: once"
    );
    assert_eq!(
        sandbox.refused("service.kill", json!({"name": "grp"})).0,
        -32603
    );
    for (signal, why) in [("BOGUS", "unknown signal"), ("99", "invalid signal number")] {
        let refused = sandbox.refused("service.kill", json!({"name": "alpha", "signal": signal}));
        assert_eq!(refused.0, -32603);
        assert!(
            refused.1.ends_with(&format!("(signal {signal}): {why}")),
            "{refused:?}"
        );
    }
    // Changes that are not waited for say nothing but that they were taken on.
    for method in ["start", "kill", "stop", "restart"] {
        let answer = sandbox.ask(&format!("service.{method}"), json!({"name": "alpha"}));
        assert_eq!(answer, json!({"ok": true}), "{method}");
    }
}

#[test]
fn a_definition_that_is_wrong_is_refused_with_all_that_is_wrong() {
    let sandbox = Sandbox::started();
    let set = |value: Value| {
        sandbox
            .rpc("service.set", value)
            .map_err(|refused| (refused.0, refused.1, refused.2))
    };
    for (params, message) in [
        (Value::Null, "invalid type: null"),
        (json!({}), "missing field `service`"),
        (json!({"service": {"name": "x"}}), "missing field `exec`"),
        (
            json!({"service": {"name": "x", "exec": "true", "ports": [70000]}}),
            "invalid value: integer `70000`, expected u16",
        ),
        (
            json!({"service": {"name": "x", "exec": "true"}, "lifecycle": {"restart": "on_failure"}}),
            "unknown variant `on_failure`",
        ),
    ] {
        let (code, text, _) = set(params.clone()).unwrap_err();
        assert_eq!(code, -32602, "{params}: {text}");
        assert!(text.contains(message), "{params}: {text}");
    }
    let refused = set(json!({
        "service": {"name": "../../x", "exec": ""},
        "lifecycle": {"stop_signal": "SIGFOO", "stop_timeout_ms": 0},
        "dependencies": {"requires": ["a/b"]}
    }));
    let (code, message, data) = refused.unwrap_err();
    assert_eq!((code, message.as_str()), (-32011, "Validation failed"));
    let errors = data["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 5, "{errors:?}");
    let service = |exec: &str| json!({"service": {"name": "x", "exec": exec}});
    for exec in ["/no/such/program", "no-such-program-anywhere --flag"] {
        let (code, message, _) = set(service(exec)).unwrap_err();
        let first = exec.split(' ').next().unwrap();
        assert_eq!(
            (code, message),
            (-32013, format!("Executable not found: {first}"))
        );
    }
    for kind in ["requires", "after", "wants", "conflicts"] {
        let mut params = service("true");
        params["dependencies"] = json!({kind: ["nobody"]});
        let (code, message, _) = set(params).unwrap_err();
        assert_eq!(
            (code, message.as_str()),
            (-32012, "Dependency 'nobody' not found")
        );
    }
    assert_eq!(sandbox.ask("service.list", Value::Null), json!([]));
    assert_eq!(fs::read_dir(sandbox.services_dir()).unwrap().count(), 0);
    // What needs a shell is nobody's business to judge.
    for (name, exec) in [
        ("a", "FOO=1 true"),
        ("b", "if true; then :; fi"),
        ("c", "exec true"),
    ] {
        let answer = set(json!({"service": {"name": name, "exec": exec}}));
        assert!(answer.is_ok(), "{exec}: {answer:?}");
    }
}

// Logs.

#[test]
fn logs_can_be_asked_for_in_three_ways() {
    let mut sandbox = Sandbox::new();
    let exec = "echo one; echo two >&2; echo three; printf 'four\\r\\n\\nsix'; echo done >&2";
    sandbox.service("talks", &format!("exec = {}\noneshot = true", quoted(exec)));
    sandbox.service("other", "exec = \"echo other; sleep 1000\"");
    sandbox.service("mute", "exec = \"true\"\nstatus = \"stop\"");
    sandbox.service(
        "short",
        "exec = \"seq 100\"\noneshot = true\n[logging]\nbuffer_lines = 7",
    );
    sandbox.start();
    sandbox.await_running("talks");
    sandbox.await_running("short");
    sandbox.wait_output("other", "other");
    let tail = |params: Value| {
        let lines = sandbox.ask("logs.tail", params);
        let lines: Vec<Value> = lines.as_array().unwrap().clone();
        lines
            .iter()
            .map(|line| line["content"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let out = ["one", "three", "four", "", "six"];
    let stdout = tail(json!({"name": "talks", "stream": "stdout"}));
    assert_eq!(stdout, out);
    let stderr = tail(json!({"name": "talks", "stream": "stderr"}));
    assert_eq!(stderr, ["two", "done"]);
    assert_eq!(tail(json!({"name": "talks"})).len(), 7);
    assert_eq!(
        tail(json!({"name": "talks", "stream": "stdout", "lines": 2})),
        ["", "six"]
    );
    assert_eq!(tail(json!({"name": "talks", "lines": 0})), [""; 0]);
    assert_eq!(tail(json!({"name": "mute"})), [""; 0]);
    assert_eq!(
        tail(json!({"name": "short"})),
        ["94", "95", "96", "97", "98", "99", "100"]
    );
    let lines = sandbox.ask("logs.tail", json!({"name": "talks", "lines": 1}));
    let line = &lines[0];
    assert_eq!(line["service"], "talks");
    assert_eq!(line.as_object().unwrap().len(), 4);
    let at = line["timestamp_ms"].as_u64().unwrap();
    assert_eq!(
        tail(json!({"name": "talks", "since": at + 1_000_000})),
        [""; 0]
    );
    assert_eq!(tail(json!({"name": "talks", "since": 1})).len(), 7);
    let get = sandbox.ask("logs.get", json!({"name": "short", "lines": 2}));
    let texts: Vec<&str> = get
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap())
        .collect();
    assert_eq!(texts.len(), 2);
    let (time, rest) = texts[1].split_once(' ').unwrap();
    assert!(time.parse::<u64>().is_ok(), "{texts:?}");
    assert_eq!(rest, "[stdout] 100");
    // Without a name it is everybody's; odd values of `lines` mean the default.
    let all = sandbox.ask("logs.get", json!({"lines": "x"}));
    assert_eq!(all.as_array().unwrap().len(), 7 + 7 + 1);
    assert!(all.to_string().contains("[stdout] other: other"), "{all}");
    for key in ["service", "name"] {
        let lines = sandbox.ask("logs.filter", json!({key: "talks", "stream": "stderr"}));
        let lines = lines.as_array().unwrap();
        assert_eq!(lines.len(), 2);
        assert!(
            lines[0].as_str().unwrap().ends_with(" [stderr] two"),
            "{lines:?}"
        );
    }
    let (code, message, _) = sandbox.refused("logs.filter", json!({}));
    assert_eq!(
        (code, message.as_str()),
        (-32602, "missing 'service' parameter")
    );
    for (method, params) in [
        ("logs.get", json!({"name": "nobody"})),
        ("logs.filter", json!({"service": "nobody"})),
    ] {
        assert_eq!(sandbox.refused(method, params).0, -32000);
    }
    // They are kept over restarts of the service.
    sandbox.done("service.restart", "short");
    assert_eq!(tail(json!({"name": "short"})).len(), 7);
    sandbox.done("service.restart", "talks");
    assert_eq!(tail(json!({"name": "talks"})).len(), 14);
}

// Manners.

#[test]
fn a_client_that_never_reads_is_nobodys_problem_but_its_own() {
    let mut sandbox = Sandbox::new();
    for number in 0..20 {
        sandbox.service(&format!("s{number}"), "exec = \"true\"\nstatus = \"stop\"");
    }
    sandbox.start();
    let before = resident(&sandbox);
    let line = format!("{}\n", PING.replace("system.ping", "service.list_full"));
    let mut deaf: Vec<(Connection, usize)> = Vec::new();
    for _ in 0..4 {
        let connection = sandbox.connect();
        connection.stream().set_nonblocking(true).unwrap();
        let mut sent = 0;
        // As much as the kernel and the server take, and what they take later.
        for _ in 0..20 {
            loop {
                let rest = &line.as_bytes()[sent % line.len()..];
                match connection.stream().write(rest) {
                    Ok(count) => sent += count,
                    Err(error) => break assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
            }
            sandbox.ask("system.ping", Value::Null);
        }
        deaf.push((connection, sent));
    }
    assert!(wait_until(|| sandbox
        .rpc("service.list", Value::Null)
        .is_ok()));
    let after = resident(&sandbox);
    assert!(
        after < before + (16 << 10),
        "{before} KiB, then {after} KiB"
    );
    // When they do read, they get an answer to each of their requests.
    for (mut connection, sent) in deaf {
        connection.stream().set_nonblocking(false).unwrap();
        for _ in 0..sent / line.len() {
            assert_eq!(connection.reply()["id"], 7);
        }
    }
}

#[test]
fn three_hundred_idle_clients_do_not_keep_others_out() {
    let mut sandbox = Sandbox::new();
    sandbox.runs("one", "sleep 1000");
    sandbox.start();
    let mut idle: Vec<Connection> = (0..300).map(|_| sandbox.connect()).collect();
    assert!(sandbox.rpc("system.ping", Value::Null).is_ok());
    // The last of them are still there, too.
    for connection in idle.iter_mut().rev().take(100) {
        assert_eq!(tell(connection, PING), pong(&json!(7)));
    }
    // And so it is with those who have said half a sentence.
    let halves: Vec<Connection> = (0..300)
        .map(|_| {
            let mut connection = sandbox.connect();
            connection.send(&PING.as_bytes()[..20]);
            connection
        })
        .collect();
    assert!(sandbox.rpc("system.ping", Value::Null).is_ok());
    drop(halves);
    drop(idle);
    sandbox.await_running("one");
}

#[test]
fn three_hundred_waiting_clients_do_not_keep_others_out() {
    let mut sandbox = Sandbox::new();
    sandbox.runs("one", "sleep 1000");
    sandbox.start();
    sandbox.await_running("one");
    let waiting: Vec<Connection> = (0..300)
        .map(|_| {
            let mut connection = sandbox.connect();
            connection.begin("service.wait", json!({"name": "one", "for": "stopped"}));
            connection
        })
        .collect();
    let mut connection = sandbox.connect();
    connection.send_line(&serde_json::from_str(PING).unwrap());
    let answer = connection.line();
    drop(waiting);
    assert!(answer.is_some(), "a new client is turned away");
}

/// What is wrong with a target that names what is not there is told shortly.
#[test]
fn of_many_reasons_some_are_told() {
    let mut sandbox = Sandbox::new();
    let names: Vec<String> = (0..2000).map(|number| format!("missing{number}")).collect();
    sandbox.target(
        "all",
        &format!("[dependencies]\nrequires = {}", json!(names)),
    );
    sandbox.start();
    let why = sandbox.ask("service.why", json!({"name": "all"}));
    assert_eq!(why["waiting_on"].as_array().unwrap().len(), 2000);
    assert_eq!(why["root_causes"].as_array().unwrap().len(), 10);
}

/// Far more than one turn serves, and the first answer tells that nobody reads it.
#[test]
fn what_was_asked_is_done_though_nobody_waits_for_the_answer() {
    const SERVICES: usize = 150;
    let mut sandbox = Sandbox::new();
    for number in 0..SERVICES {
        sandbox.service(
            &format!("s{number}"),
            "exec = [\"sleep\", \"1000\"]\nstatus = \"stop\"",
        );
    }
    sandbox.start();
    let lines = |wait: bool| -> String {
        let requests = (0..SERVICES).map(|number| {
            let params = json!({"name": format!("s{number}"), "wait": wait});
            let verb = if wait {
                "service.stop"
            } else {
                "service.start"
            };
            let line = json!({"jsonrpc": "2.0", "id": number, "method": verb, "params": params});
            format!("{line}\n")
        });
        requests.collect()
    };
    let are = |wanted: &str| {
        let mut names = (0..SERVICES).map(|number| format!("s{number}"));
        names.all(|name| sandbox.state(&name) == wanted)
    };
    for (wait, wanted) in [(false, "running"), (true, "exited")] {
        let mut stream = UnixStream::connect(sandbox.socket()).unwrap();
        stream.write_all(lines(wait).as_bytes()).unwrap();
        drop(stream);
        assert!(
            wait_until(|| are(wanted)),
            "not {wanted}\n{}",
            sandbox.log()
        );
    }
}

#[test]
fn clients_that_come_and_go_leave_nothing_behind() {
    let mut sandbox = Sandbox::new();
    sandbox.runs("one", "sleep 1000");
    sandbox.start();
    sandbox.await_running("one");
    let fds = || {
        fs::read_dir(format!("/proc/{}/fd", sandbox.server_pid()))
            .unwrap()
            .count()
    };
    let before = fds();
    for round in 0..400 {
        let mut connection = sandbox.connect();
        match round % 4 {
            0 => drop(connection.send(&PING.as_bytes()[..round % 60])),
            1 => {
                connection.begin("service.wait", json!({"name": "one", "for": "stopped"}));
            }
            2 => drop(connection.send(format!("{PING}\n{PING}\n").as_bytes())),
            _ => {}
        }
    }
    assert!(wait_until(|| fds() <= before), "{before} then {}", fds());
    assert_eq!(sandbox.state("one"), "running");
}

#[test]
fn while_one_service_does_not_die_everything_else_is_answered() {
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    let deaf = "trap '' TERM; echo up; while :; do sleep 1000; done";
    let body = format!(
        "exec = {}\n[lifecycle]\nstop_timeout_ms = 600000",
        quoted(deaf)
    );
    sandbox.service("deaf", &body);
    sandbox.service("other", "exec = \"sleep 1000\"");
    sandbox.start();
    sandbox.wait_output("deaf", "up");
    let mut removing = sandbox.connect();
    let id = removing.begin("service.delete", json!({"name": "deaf"}));
    sandbox.wait_state("deaf", "stopping");
    for method in [
        "service.list",
        "service.list_full",
        "service.tree",
        "debug.state",
        "logs.get",
        "rpc.discover",
        "system.ping",
    ] {
        sandbox.ask(method, Value::Null);
    }
    for method in ["status", "status_full", "why", "children", "stats", "get"] {
        for name in ["deaf", "other"] {
            sandbox.ask(&format!("service.{method}"), json!({"name": name}));
        }
    }
    for method in ["stop", "start", "restart", "delete"] {
        let params = json!({"name": "other", "wait": true, "timeout_ms": 30_000});
        sandbox.ask(&format!("service.{method}"), params);
    }
    let set = json!({"service": {"name": "new", "exec": "sleep 1000"}});
    sandbox.ask("service.set", set);
    sandbox.await_running("new");
    // All that while nobody was told that the deaf one is gone.
    removing.stream().set_nonblocking(true).unwrap();
    let mut byte = [0];
    let nothing = nix::unistd::read(removing.stream(), &mut byte);
    assert_eq!(nothing, Err(nix::Error::EWOULDBLOCK));
    removing.stream().set_nonblocking(false).unwrap();
    sandbox.ask("service.kill", json!({"name": "deaf", "signal": "SIGKILL"}));
    assert_eq!(removing.finish(id), Ok(json!({"ok": true})));
    assert_eq!(sandbox.ask("service.list", Value::Null), json!(["new"]));
}

#[test]
fn under_load_no_reply_is_lost() {
    let mut sandbox = Sandbox::new();
    for number in 0..10 {
        sandbox.runs(&format!("base{number}"), "sleep 1000");
    }
    sandbox.start();
    let clients = 20;
    let rounds = 25;
    let shared = &sandbox;
    std::thread::scope(|scope| {
        for client in 0..clients {
            scope.spawn(move || {
                let mut connection = shared.connect();
                for round in 0..rounds {
                    let own = format!("own{client}");
                    let base = format!("base{}", (client + round) % 10);
                    let config = json!({"service": {"name": own, "exec": "sleep 1000"},
                                        "dependencies": {"wants": [base]}});
                    let ids = [
                        connection.begin("service.set", config),
                        connection.begin("service.start", json!({"name": own, "wait": true})),
                        connection.begin("service.restart", json!({"name": base})),
                        connection.begin("service.reload", Value::Null),
                        connection.begin("service.status_full", json!({"name": own})),
                        connection.begin("service.delete", json!({"name": own})),
                        connection.begin("service.list_full", Value::Null),
                    ];
                    for (at, id) in ids.into_iter().enumerate() {
                        let answer = connection.finish(id);
                        assert!(answer.is_ok(), "{at}: {answer:?}");
                    }
                }
            });
        }
    });
    let names: Vec<String> = (0..10).map(|number| format!("base{number}")).collect();
    assert_eq!(sandbox.ask("service.list", Value::Null), json!(names));
    for name in names {
        sandbox.await_running(&name);
    }
    assert!(wait_until(|| sandbox.pids_of_services().len() == 10));
}

#[test]
fn a_wait_that_takes_too_long_says_so() {
    let sandbox = Sandbox::new();
    let mut sandbox = sandbox;
    sandbox.runs("one", "sleep 1000");
    sandbox.start();
    sandbox.await_running("one");
    let params = json!({"name": "one", "for": "stopped", "timeout_ms": 20});
    let (code, _, data) = sandbox.refused("service.wait", params);
    assert_eq!(code, -32603);
    assert_eq!(data, json!({"outcome": "timeout", "state": "running"}));
    let params = json!({"name": "one", "for": "running", "timeout_ms": 0});
    assert_eq!(
        sandbox.ask("service.wait", params),
        json!({"ok": true, "state": "running"})
    );
    let huge = json!({"name": "one", "for": "running", "timeout_ms": u64::MAX});
    sandbox.ask("service.wait", huge);
    let mut waits = sandbox.connect();
    let huge = json!({"name": "one", "for": "stopped", "timeout_ms": u64::MAX});
    let id = waits.begin("service.wait", huge);
    sandbox.ask("service.stop", json!({"name": "one"}));
    assert!(waits.finish(id).is_ok());
}
