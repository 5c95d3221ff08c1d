//! What `rpc.discover` says of the server is true: every method is asked, and every reply is held
//! against the schema that is published for it.

#[path = "common/puppet.rs"]
mod puppet;
#[path = "common/sandbox.rs"]
mod sandbox;
#[path = "common/schema.rs"]
mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;

use puppet::{order, puppet};
use sandbox::{Connection, Refused, Sandbox, quoted, wait_until};
use schema::Schemas;
use serde_json::{Value, json};
use zinit::rpc::METHODS;

/// Services in all the states that can be brought about here.
fn services(sandbox: &Sandbox, port: u16) -> Vec<(&'static str, &'static str)> {
    const ONCE: &str = "[lifecycle]\nrestart = \"never\"";
    let filter = fs::read_to_string("/proc/self/comm").expect("our own name");
    let never = "[readiness]\ntype = \"log\"\ntext = \"never\"";
    let probe = |target: &str, more: &str| {
        format!(
            "[health]\ntype = \"exec\"\ntarget = \"{target}\"\ninterval_ms = 20\nretries = 1\n{more}\n\
             [readiness]\ntype = \"spawn\""
        )
    };
    let all: Vec<(&str, &str, String, &str)> = vec![
        ("idle", "true", "status = \"stop\"".into(), "inactive"),
        (
            "up",
            "echo out; echo err >&2; sleep 1000",
            probe("true", ""),
            "running",
        ),
        (
            "ill",
            "sleep 1000",
            probe("false", "on_unhealthy = \"report\""),
            "running",
        ),
        (
            "slow",
            "sleep 1000",
            format!(
                "{never}\n[health]\ntype = \"exec\"\ntarget = \"true\"\nstart_period_ms = 600000"
            ),
            "starting",
        ),
        (
            "deaf",
            "trap '' TERM; echo deaf; while :; do sleep 1000; done",
            "[lifecycle]\nstop_timeout_ms = 600000".into(),
            "running",
        ),
        ("once", "true", "oneshot = true".into(), "exited"),
        ("told", "exec sleep 1000", String::new(), "running"),
        ("crash", "exit 3", ONCE.into(), "failed"),
        ("signal", "kill -9 $$", ONCE.into(), "failed"),
        (
            "nodir",
            "true",
            format!("dir = \"/no/such/dir\"\n{ONCE}"),
            "failed",
        ),
        (
            "ghostly",
            "true",
            "[dependencies]\nrequires = [\"ghost\"]".into(),
            "failed",
        ),
        (
            "round",
            "true",
            "[dependencies]\nrequires = [\"about\"]".into(),
            "failed",
        ),
        (
            "listens",
            "sleep 1000",
            format!(
                "[socket]\nlisten = {}",
                quoted(&format!("unix:{}", sandbox.text("listens")))
            ),
            "running",
        ),
        (
            "called",
            "sleep 1000",
            format!(
                "[socket]\nactivation = true\nlisten = {}",
                quoted(&format!("unix:{}", sandbox.text("called")))
            ),
            "inactive",
        ),
        (
            "about",
            "true",
            "[dependencies]\nrequires = [\"round\"]".into(),
            "failed",
        ),
        (
            "hooked",
            "true",
            format!("{ONCE}\n[hooks]\npre_start = \"exit 7\""),
            "failed",
        ),
        ("unready", "true", format!("{ONCE}\n{never}"), "failed"),
        (
            "late",
            "sleep 1000",
            format!("{ONCE}\nstart_timeout_ms = 50\n{never}"),
            "failed",
        ),
        (
            "sick",
            "sleep 1000",
            format!("{ONCE}\n{}", probe("false", "")),
            "failed",
        ),
        (
            "quiet",
            "sleep 1000",
            format!("{ONCE}\n[readiness]\nwatchdog_ms = 50"),
            "failed",
        ),
        (
            "held",
            "true",
            "[dependencies]\nrequires = [\"crash\"]\nwants = [\"up\"]".into(),
            "blocked",
        ),
        (
            "rival",
            "true",
            "[dependencies]\nconflicts = [\"up\"]\nafter = [\"up\"]".into(),
            "blocked",
        ),
        ("ported", "true", format!("ports = [{port}]"), "blocked"),
        (
            "filtered",
            "true",
            format!("process_filters = [{}]", quoted(filter.trim())),
            "blocked",
        ),
        (
            "reloads",
            "trap : HUP; while :; do sleep 1000; done",
            "[lifecycle]\nreload_signal = \"HUP\"".into(),
            "running",
        ),
    ];
    for (name, exec, body, _) in &all {
        sandbox.service(name, &format!("exec = {}\n{body}", quoted(exec)));
    }
    sandbox.target(
        "group",
        "[dependencies]\nrequires = [\"up\"]\nafter = [\"told\"]",
    );
    let states = all.into_iter().map(|(name, _, _, word)| (name, word));
    states.chain([("group", "running")]).collect()
}

/// What is asked of each method, in the order in which it is asked.
fn calls(dir: &str) -> Vec<(&'static str, Vec<Value>)> {
    let odd = || {
        vec![
            Value::Null,
            json!([]),
            json!({"name": 7}),
            json!({"name": "nobody"}),
        ]
    };
    let some = |good: &[Value]| [odd(), good.to_vec()].concat();
    let many = |good: &[Value]| [&[json!({"wait": "yes"})], good].concat();
    let name = |name: &str| json!({"name": name});
    let config = json!({
        "service": {"name": "new", "exec": "sleep 1000"},
        "dependencies": {"wants": ["up"]},
    });
    let wrong = |section: &str, key: &str, value: Value| {
        let mut config = config.clone();
        config[section][key] = value;
        json!({"config": config})
    };
    let waits = |name: &str| json!({"name": name, "wait": true, "timeout_ms": 20_000});
    vec![
        ("system.ping", vec![Value::Null]),
        ("rpc.discover", vec![json!({})]),
        ("service.list", vec![Value::Null]),
        ("service.list_full", vec![Value::Null]),
        ("service.tree", vec![Value::Null]),
        ("debug.state", vec![Value::Null]),
        ("debug.record", vec![Value::Null]),
        ("service.is_running", some(&[name("up"), name("idle")])),
        (
            "logs.get",
            vec![
                Value::Null,
                name("nobody"),
                json!({"name": "up", "lines": 1}),
            ],
        ),
        (
            "logs.tail",
            some(&[
                json!({"names": 7}),
                json!({"names": ["nobody"]}),
                json!({"names": ["up"], "stream": "both"}),
                json!({"names": [], "lines": 5}),
                json!({"name": "up", "stream": "stdout", "since": 1}),
            ]),
        ),
        (
            "logs.filter",
            some(&[
                json!({"service": "up", "stream": "stderr", "since": 1, "lines": 3}),
                name("up"),
            ]),
        ),
        (
            "logs.follow",
            vec![json!({"names": ["nobody"]}), json!({"stream": 1})],
        ),
        (
            "events.follow",
            vec![json!({"names": ["nobody"]}), json!({"names": "up"})],
        ),
        (
            "service.kill",
            some(&[
                json!({"name": "up", "signal": "FOO"}),
                name("idle"),
                json!({"name": "up", "signal": "CONT"}),
            ]),
        ),
        (
            "service.wait",
            some(&[
                json!({"name": "nobody", "for": "running"}),
                json!({"name": "up", "for": "asleep"}),
                json!({"name": "up", "for": "stopped", "timeout_ms": 1}),
                json!({"name": "crash", "for": "running"}),
                json!({"name": "up", "for": "running", "timeout_ms": 20_000}),
                json!({"name": "crash", "for": "stopped"}),
                json!({"name": "crash", "for": "exited"}),
            ]),
        ),
        (
            "service.set",
            vec![
                Value::Null,
                json!({"config": {"service": {}}}),
                wrong("lifecycle", "stop_signal", json!("SIGFOO")),
                wrong("dependencies", "requires", json!(["nobody"])),
                wrong("service", "exec", json!("/no/such/program")),
                wrong("service", "name", json!("other")),
                json!({"config": config, "ephemeral": true}),
            ],
        ),
        ("service.status", vec![name("new")]),
        (
            "service.set",
            vec![
                json!({"config": config}),
                wrong("service", "exec", json!("sleep 2000")),
            ],
        ),
        (
            "service.start",
            some(&[
                json!({"name": "idle", "deps": 1}),
                waits("ghostly"),
                name("idle"),
                waits("once"),
            ]),
        ),
        ("service.restart", some(&[name("once"), waits("new")])),
        (
            "service.stop",
            some(&[
                json!({"name": "up", "timeout_ms": -1}),
                name("idle"),
                waits("new"),
            ]),
        ),
        (
            "service.reload",
            vec![
                json!({"name": null}),
                name("nobody"),
                name("up"),
                name("reloads"),
                json!({}),
            ],
        ),
        ("service.remove", some(&[name("other")])),
        (
            "service.delete",
            some(&[json!({"name": "idle", "timeout_ms": 20_000})]),
        ),
        (
            "xinet.set",
            vec![
                Value::Null,
                json!({"name": "proxy", "listen": [], "backend": "tcp:127.0.0.1:1", "service": "up"}),
                json!({"config": {
                    "name": "proxy",
                    "listen": [format!("unix:{dir}front")],
                    "backend": format!("unix:{dir}back"),
                    "service": "up",
                    "connect_timeout": 5,
                    "idle_timeout": 60,
                    "single_connection": true,
                }}),
            ],
        ),
        ("xinet.list", vec![Value::Null]),
        ("xinet.status", some(&[name("proxy")])),
        ("xinet.status_all", vec![Value::Null]),
        ("xinet.delete", some(&[name("proxy")])),
        ("system.poweroff", vec![Value::Null]),
        ("system.reboot", vec![Value::Null]),
        ("system.halt", vec![Value::Null]),
        ("system.kexec", vec![Value::Null]),
        ("system.prepare_restart", vec![Value::Null]),
        (
            "system.switch_root",
            vec![json!({}), json!({"root": dir, "init": "/bin/init"})],
        ),
        (
            "service.stop_all",
            many(&[json!({}), json!({"wait": true, "timeout_ms": 20_000})]),
        ),
        (
            "service.start_all",
            many(&[json!({}), json!({"wait": true, "timeout_ms": 1000})]),
        ),
        (
            "service.delete_all",
            many(&[json!({"wait": true, "timeout_ms": 20_000})]),
        ),
        (
            "system.shutdown",
            vec![json!({"code": 256}), json!({"code": 0})],
        ),
    ]
}

/// The members and words that no server in a sandbox tells.
const NEVER_MET: &[&str] = &[
    // It takes cgroups, and a kernel out of memory.
    "Stats.cgroup",
    "CgroupStats",
    "Pressure",
    "Reason=\"out_of_memory\"",
    // It takes a process that can't be killed.
    "Reason=\"stop_timeout\"",
    // It takes /dev/log.
    "LogStream=\"syslog\"",
    // They are never listed.
    "DependencyType=\"conflicts\"",
    // What keeps a service from being stopped keeps it from being deleted.
    "DeletedAll.failed",
    // A reader that is slow enough is in the tests of logs.
    "Gap",
];

/// Asks, and holds the answer against what is published.
struct Judge<'a> {
    document: &'a Value,
    schemas: Schemas<'a>,
    answered: BTreeSet<String>,
    asked: BTreeSet<String>,
}

impl<'a> Judge<'a> {
    fn method(&self, name: &str) -> &'a Value {
        let methods = self.document["methods"].as_array().expect("methods");
        let found = methods.iter().find(|method| method["name"] == name);
        found.unwrap_or_else(|| panic!("{name} is not published"))
    }

    fn ask(&mut self, connection: &mut Connection, name: &str, params: &Value) -> Option<Value> {
        let answer = connection.ask(name, params.clone());
        self.answered(name, params, answer)
    }

    /// The reply, unless it is a refusal.
    fn answered(
        &mut self,
        name: &str,
        params: &Value,
        answer: Result<Value, Refused>,
    ) -> Option<Value> {
        self.asked.insert(name.to_owned());
        match answer {
            Ok(reply) => {
                let wrong = self
                    .schemas
                    .check(&self.method(name)["result"]["schema"], &reply);
                assert_eq!(wrong, None, "{name} {params}: {reply}");
                self.params(name, params);
                self.answered.insert(name.to_owned());
                Some(reply)
            }
            Err((code, message, data)) => {
                let published = self.method(name)["errors"].as_array().expect("errors");
                let mut codes = published.iter().map(|error| {
                    let reference = error["$ref"].as_str().expect("a reference");
                    self.schemas.resolve(reference)["code"].as_i64()
                });
                assert!(
                    codes.any(|known| known == Some(code)),
                    "{name} {params}: {code} {message}"
                );
                if data.get("outcome").is_some() {
                    let wrong = self.schemas.check_as("NotDone", &data);
                    assert_eq!(wrong, None, "{name} {params}");
                }
                None
            }
        }
    }

    /// Parameters that are understood are as they are said to be.
    fn params(&mut self, name: &str, params: &Value) {
        let known = self.method(name)["params"].as_array().expect("params");
        for (given, value) in params.as_object().into_iter().flatten() {
            let found = known.iter().find(|param| param["name"] == **given);
            // The one parameter that is read under two names.
            let Some(param) = found else {
                assert_eq!((name, given.as_str()), ("logs.filter", "name"));
                continue;
            };
            let wrong = self.schemas.check(&param["schema"], value);
            assert_eq!(wrong, None, "{name} {params}");
        }
    }

    /// A line of a stream.
    fn note(&mut self, stream: &str, note: &Value) {
        let published = self.method(stream)["x-notifications"]
            .as_array()
            .expect("notes");
        let found = published.iter().find(|one| one["name"] == note["method"]);
        let found = found.unwrap_or_else(|| panic!("{note} is not published"));
        let wrong = self.schemas.check(&found["params"], &note["params"]);
        assert_eq!(wrong, None, "{note}");
    }
}

#[test]
fn every_reply_is_as_published() {
    let mut sandbox = Sandbox::new();
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let states = services(&sandbox, port);
    let notifies = "[readiness]\ntype = \"notify\"";
    let first = "notify('READY=1', 'STATUS=well')";
    let speaks = puppet(&sandbox, "puppet", first, notifies);
    sandbox.start();
    for (name, word) in &states {
        sandbox.wait_state(name, word);
    }
    sandbox.wait_output("up", "err");
    assert!(wait_until(
        || sandbox.status("up")["health"]["state"] == "healthy"
    ));
    assert!(wait_until(
        || sandbox.status("ill")["health"]["state"] == "unhealthy"
    ));
    if speaks {
        sandbox.wait_output("puppet", "up");
        order(&sandbox, "puppet", "notify('RELOADING=1')");
    }
    sandbox.wait_output("deaf", "deaf");
    sandbox.ask("service.stop", json!({"name": "deaf"}));
    sandbox.wait_state("deaf", "stopping");
    sandbox.done("service.stop", "told");
    let document = sandbox.ask("rpc.discover", Value::Null);
    let mut judge = Judge {
        document: &document,
        schemas: Schemas::of(&document),
        answered: BTreeSet::new(),
        asked: BTreeSet::new(),
    };
    let mut events = sandbox.connect();
    judge.ask(&mut events, "events.follow", &json!({"names": []}));
    let mut lines = sandbox.connect();
    let params = json!({"names": ["up"], "lines": 10, "stream": "stdout", "since": 0});
    judge.ask(&mut lines, "logs.follow", &params);
    judge.note("logs.follow", &lines.reply());
    let mut connection = sandbox.connect();
    // Every service is looked at in every way.
    let looks = ["status", "status_full", "get", "stats", "children", "why"];
    let looks = looks.map(|look| format!("service.{look}"));
    let looks = looks
        .iter()
        .map(String::as_str)
        .chain(["debug.process_tree"]);
    let names: Vec<&str> = states.iter().map(|(name, _)| *name).collect();
    for method in looks {
        for params in [Value::Null, json!({"name": []}), json!({"name": "nobody"})] {
            let answer = judge.ask(&mut connection, method, &params);
            assert_eq!(answer, None, "{method} {params}");
        }
        for name in names.iter().copied().chain(speaks.then_some("puppet")) {
            let answer = judge.ask(&mut connection, method, &json!({"name": name}));
            assert!(answer.is_some(), "{method} {name}");
        }
    }
    if speaks {
        order(&sandbox, "puppet", "notify('STOPPING=1')");
        let stopping = || sandbox.status("puppet")["doing"] == "stopping";
        assert!(wait_until(stopping));
        judge.ask(
            &mut connection,
            "service.status",
            &json!({"name": "puppet"}),
        );
    }
    // Who waits, and others want otherwise.
    let others = [
        ("service.start", "slow", "service.stop"),
        ("service.wait", "filtered", "service.delete"),
    ];
    for (method, name, other) in others {
        let mut waits = sandbox.connect();
        let params = json!({"name": name, "wait": true, "for": "running", "timeout_ms": 20_000});
        let id = waits.begin(method, params.clone());
        sandbox.ask(other, json!({"name": name}));
        let answer = judge.answered(method, &params, waits.finish(id));
        assert_eq!(answer, None, "{method} {name}");
    }
    for (method, all) in calls(&sandbox.text("")) {
        if method == "service.stop_all" {
            let params = json!({"wait": true, "timeout_ms": 1});
            judge.ask(&mut connection, method, &params);
            // Nothing but a kill ends it, and it is not to come back.
            sandbox.ask("service.kill", json!({"name": "deaf", "signal": "KILL"}));
            sandbox.ask("service.delete", json!({"name": "deaf"}));
        }
        for params in all {
            judge.ask(&mut connection, method, &params);
        }
    }
    let mut told = BTreeSet::new();
    while let Some(line) = events.line() {
        let note: Value = serde_json::from_str(&line).expect("JSON");
        judge.note("events.follow", &note);
        told.insert(note["method"].as_str().expect("a method").to_owned());
    }
    assert_eq!(
        told.into_iter().collect::<Vec<_>>(),
        ["events.health", "events.removed", "events.state"]
    );
    sandbox.server_end();
    let all: BTreeSet<String> = METHODS
        .iter()
        .map(|method| method.name.to_owned())
        .collect();
    assert_eq!(judge.asked, all, "every method is asked");
    // Those that a server which is no PID 1 refuses.
    let refused = [
        "halt",
        "kexec",
        "poweroff",
        "prepare_restart",
        "reboot",
        "switch_root",
    ];
    let refused: BTreeSet<String> = refused
        .iter()
        .map(|verb| format!("system.{verb}"))
        .collect();
    let unanswered: BTreeSet<String> = &all - &judge.answered;
    assert_eq!(unanswered, refused, "every other method is answered");
    let unmet = unmet(&document, &judge.schemas.met);
    let excused = |part: &&String| {
        let mut known = NEVER_MET.iter();
        let of_puppet = !speaks && (part.starts_with("Doing") || part.contains("status_text"));
        of_puppet || known.any(|known| part.starts_with(known))
    };
    let unmet: Vec<&String> = unmet.iter().filter(|part| !excused(part)).collect();
    assert!(unmet.is_empty(), "published, and never told: {unmet:?}");
}

/// The parts of all components that have not been met.
fn unmet(document: &Value, met: &BTreeSet<String>) -> Vec<String> {
    let mut parts = Vec::new();
    for (name, schema) in document["components"]["schemas"]
        .as_object()
        .expect("schemas")
    {
        let variants = schema["oneOf"].as_array().cloned().unwrap_or_default();
        for schema in variants.iter().chain([schema]) {
            for (member, of) in schema["properties"].as_object().into_iter().flatten() {
                parts.push(format!("{name}.{member}"));
                parts.extend(of.get("const").map(|word| format!("{name}={word}")));
            }
            let words = schema["enum"].as_array().into_iter().flatten();
            parts.extend(words.map(|word| format!("{name}={word}")));
        }
    }
    parts.retain(|part| !met.contains(part));
    parts
}

#[test]
fn the_document_is_one_of_openrpc() {
    let sandbox = Sandbox::started();
    let document = sandbox.ask("rpc.discover", Value::Null);
    let schemas = Schemas::of(&document);
    assert_eq!(document["openrpc"], "1.2.6");
    for member in ["title", "version"] {
        assert!(document["info"][member].is_string(), "{member}");
    }
    let methods = document["methods"].as_array().expect("methods");
    let names: Vec<&str> = methods
        .iter()
        .filter_map(|method| method["name"].as_str())
        .collect();
    assert_eq!(
        names,
        METHODS.iter().map(|method| method.name).collect::<Vec<_>>()
    );
    let mut unique = names.clone();
    unique.dedup();
    assert_eq!(names, unique);
    let known = [
        "name",
        "description",
        "paramStructure",
        "params",
        "result",
        "errors",
        "x-role",
        "x-notifications",
    ];
    for method in methods {
        for (member, _) in method.as_object().expect("an object") {
            assert!(known.contains(&member.as_str()), "{member}");
        }
        assert!(
            !method["description"]
                .as_str()
                .expect("a description")
                .is_empty()
        );
        assert!(
            ["nothing", "read", "operate", "administer"]
                .contains(&method["x-role"].as_str().expect("a role"))
        );
        assert_eq!(method["paramStructure"], "by-name");
        let mut params = BTreeMap::new();
        let mut optional = false;
        for param in method["params"].as_array().expect("params") {
            assert!(
                !param["description"]
                    .as_str()
                    .expect("a description")
                    .is_empty()
            );
            let name = param["name"].as_str().expect("a name");
            assert_eq!(params.insert(name, &param["schema"]), None, "{name} twice");
            // Those that must be there come first.
            assert!(!(optional && param["required"] == true), "{method}");
            optional |= param["required"] == false;
        }
        assert!(method["result"]["name"].is_string() && method["result"]["schema"].is_object());
    }
    // Every reference leads somewhere, and every component is referred to, by a method in the end.
    let mut referred = BTreeSet::new();
    references(&document, &mut referred);
    for reference in &referred {
        schemas.resolve(reference);
    }
    let components = document["components"].as_object().expect("components");
    for (kind, all) in components {
        for name in all.as_object().expect("an object").keys() {
            // Errors of lines that are no request are no method's; this is the data of an error.
            let reference = format!("#/components/{kind}/{name}");
            let excused = ["Parse", "MethodNotFound", "NotDone", "NotDoneWord"];
            let is_used = referred.contains(&reference) || excused.contains(&name.as_str());
            assert!(is_used, "{reference} is not used");
        }
    }
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get("$ref") {
                found.insert(reference.clone());
            }
            members
                .values()
                .for_each(|member| references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
