//! Who may do what: other users against a server of root's, and what the access file gives them.

#[path = "common/sandbox.rs"]
mod sandbox;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use sandbox::{Sandbox, find_program, python, wait_until};
use serde_json::{Value, json};

/// Users that need not exist.
const OPERATOR: u32 = 41_001;
const READER: u32 = 41_002;
const STRANGER: u32 = 41_003;

/// Groups, too.
const GROUP: u32 = 41_100;

const DENIED: i64 = -32020;

/// Can there be other users? Says so if not.
fn may_become_others() -> bool {
    let has_programs = find_program("setpriv").is_some() && python().is_some();
    let may = nix::unistd::geteuid().is_root() && has_programs;
    if !may {
        println!("skipped: this needs root, setpriv and Python");
    }
    may
}

/// A server with the services `allowed` and `secret`, and this access file.
fn with_access(access: &str) -> Sandbox {
    let mut sandbox = Sandbox::new();
    fs::set_permissions(sandbox.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["allowed", "secret"] {
        sandbox.runs(name, &format!("echo I am {name}; exec sleep 1000"));
    }
    fs::write(sandbox.path("access.toml"), access).unwrap();
    let log = fs::File::create(sandbox.path("server.log")).unwrap();
    let mut command = sandbox.server_command();
    command
        .stderr(log)
        .arg("--access")
        .arg(sandbox.path("access.toml"));
    sandbox.start_as(command);
    for name in ["allowed", "secret"] {
        sandbox.wait_output(name, &format!("I am {name}"));
    }
    sandbox
}

/// What the server answers to these lines when this user sends them.
fn lines_as(sandbox: &Sandbox, uid: u32, groups: &[u32], lines: &[String]) -> Vec<Value> {
    let groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
    let groups = match groups.as_slice() {
        [] => "--clear-groups".to_owned(),
        some => format!("--groups={}", some.join(",")),
    };
    let relay = "import socket, sys\n\
                 s = socket.socket(socket.AF_UNIX)\n\
                 s.connect(sys.argv[1])\n\
                 s.sendall(sys.stdin.buffer.read())\n\
                 s.shutdown(socket.SHUT_WR)\n\
                 while True:\n\
                 \x20   got = s.recv(65536)\n\
                 \x20   if not got: break\n\
                 \x20   sys.stdout.buffer.write(got)\n\
                 \x20   sys.stdout.buffer.flush()\n";
    let python = python().expect("looked for before");
    let mut child = Command::new("setpriv")
        .args([format!("--reuid={uid}"), format!("--regid={uid}"), groups])
        .arg(python)
        .args(["-c", relay])
        .arg(sandbox.socket())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    for line in lines {
        writeln!(input, "{line}").unwrap();
    }
    drop(input);
    let output = BufReader::new(child.stdout.take().unwrap()).lines();
    let answers = output.map(|line| serde_json::from_str(&line.unwrap()).unwrap());
    let answers = answers.collect();
    assert!(child.wait().unwrap().success());
    answers
}

/// The answer to one request: its result, or the code it is refused with.
fn ask_as(sandbox: &Sandbox, uid: u32, method: &str, params: Value) -> Result<Value, i64> {
    let line = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let answers = lines_as(sandbox, uid, &[], &[line.to_string()]);
    let [answer] = answers.as_slice() else {
        panic!("{method}: {answers:?}");
    };
    match answer["error"]["code"].as_i64() {
        Some(code) => Err(code),
        None => Ok(answer["result"].clone()),
    }
}

/// Others look, and are refused the rest with a line of the log.
#[test]
fn others_only_look() {
    if !may_become_others() {
        return;
    }
    let sandbox = with_access("socket_mode = \"0666\"\n");
    let ask = |method: &str, params| ask_as(&sandbox, STRANGER, method, params);
    let name = || json!({"name": "allowed"});
    let status = ask("service.status", name()).unwrap();
    assert_eq!(status["state"], "running");
    for (method, params) in [
        ("service.stop", name()),
        ("service.start", name()),
        ("service.kill", name()),
        ("service.reload", name()),
        ("service.reload", Value::Null),
        ("service.delete", name()),
        (
            "service.set",
            json!({"service": {"name": "x", "exec": "true"}}),
        ),
        ("xinet.set", json!({"name": "x"})),
        ("xinet.delete", name()),
        ("service.stop_all", Value::Null),
        ("system.shutdown", Value::Null),
        ("service.start", json!({"name": "no@such"})),
    ] {
        assert_eq!(ask(method, params), Err(DENIED), "{method}");
    }
    let told = format!("permission denied: user {STRANGER} may not call service.stop for allowed");
    assert!(
        wait_until(|| sandbox.log().contains(&told)),
        "{}",
        sandbox.log()
    );
}

const SOME: &str = "socket_mode = \"0666\"\nothers = \"nothing\"\n\
                    [[allow]]\nusers = [41001]\nright = \"operate\"\nservices = [\"allow*\"]\n\
                    [[allow]]\nusers = [41002]\nright = \"read\"\nservices = [\"allowed\"]\n\
                    [[allow]]\ngroups = [41100]\nright = \"operate\"\n";

/// Who may look at one service sees that one only, whatever he asks.
#[test]
fn nobody_gets_around_the_list_of_services() {
    if !may_become_others() {
        return;
    }
    let sandbox = with_access(SOME);
    let requests = [
        ("logs.get", json!({"name": "secret"})),
        ("logs.get", json!({"service": "allowed"})),
        ("logs.get", json!({"name": null})),
        ("logs.get", json!(["allowed"])),
        ("logs.get", Value::Null),
        ("logs.tail", json!({"names": []})),
        ("logs.tail", json!({"names": ["allowed", "secret"]})),
        ("logs.tail", json!({"name": "allowed", "names": ["secret"]})),
        ("logs.tail", json!({"name": "allowed", "names": null})),
        ("logs.tail", json!({"name": "allowed", "service": "secret"})),
        (
            "logs.filter",
            json!({"name": "allowed", "service": "secret"}),
        ),
        (
            "logs.filter",
            json!({"name": "secret", "service": "allowed"}),
        ),
        ("logs.filter", json!({"name": "allowed", "service": null})),
        ("logs.follow", json!({"name": "allowed", "lines": 10})),
        ("logs.follow", json!({"service": "allowed", "lines": 10})),
        ("logs.follow", json!({"names": [], "lines": 10})),
        ("logs.follow", json!({"names": null, "lines": 10})),
        (
            "logs.follow",
            json!({"names": ["allowed", "secret"], "lines": 10}),
        ),
        ("events.follow", json!({"name": "allowed"})),
        ("debug.state", json!({"name": "allowed"})),
        ("service.tree", json!({"name": "allowed"})),
        ("xinet.status_all", json!({"name": "allowed"})),
        (
            "xinet.list",
            json!({"name": "allowed", "service": "allowed"}),
        ),
        ("xinet.status", json!({"name": "allowed"})),
        (
            "service.status",
            json!({"name": "secret", "service": "allowed"}),
        ),
        ("service.get", json!({"name": "secret"})),
        ("service.list", json!({"name": "secret"})),
        ("service.list_full", Value::Null),
    ];
    assert_eq!(seen_of_secret(&sandbox, &requests), [""; 0]);
}

/// A name that is given beside an empty list of names does not count, and allows nothing.
#[test]
fn a_name_beside_an_empty_list_allows_nothing() {
    if !may_become_others() {
        return;
    }
    let sandbox = with_access(SOME);
    let requests = [("logs.tail", json!({"name": "allowed", "names": []}))];
    assert_eq!(seen_of_secret(&sandbox, &requests), [""; 0]);
}

/// The answers to requests of users who may not look at `secret` that tell of it, or begin to.
fn seen_of_secret(sandbox: &Sandbox, requests: &[(&str, Value)]) -> Vec<String> {
    let mut seen = Vec::new();
    for uid in [OPERATOR, READER] {
        for (method, params) in requests {
            let answer = ask_as(sandbox, uid, method, params.clone());
            let shown = answer.as_ref().map_or(String::new(), ToString::to_string);
            if shown.contains("secret") || shown == "{\"ok\":true}" {
                seen.push(format!("{uid} {method} {params}: {shown}"));
            }
        }
    }
    seen
}

/// Who operates one service operates no other.
#[test]
fn an_operator_does_not_reach_other_services() {
    if !may_become_others() {
        return;
    }
    let sandbox = with_access(SOME);
    let pid = sandbox.pid("secret");
    let ask = |method: &str, params| ask_as(&sandbox, OPERATOR, method, params);
    for (method, params) in [
        ("service.stop", json!({"name": "secret"})),
        (
            "service.stop",
            json!({"name": "secret", "service": "allowed"}),
        ),
        (
            "service.stop",
            json!({"name": "secret", "names": ["allowed"]}),
        ),
        ("service.stop_all", json!({"name": "allowed"})),
        ("service.start_all", json!({"name": "allowed"})),
        ("service.delete", json!({"name": "allowed"})),
        ("service.reload", json!({"names": ["allowed"]})),
        ("service.reload", json!({"name": null})),
        ("service.reload", json!({"name": ["allowed"]})),
        ("service.reload", json!(["allowed"])),
        (
            "service.set",
            json!({"name": "allowed", "service": {"name": "x", "exec": "true"}}),
        ),
        ("system.shutdown", json!({"name": "allowed"})),
    ] {
        assert_eq!(
            ask(method, params.clone()),
            Err(DENIED),
            "{method} {params}"
        );
    }
    assert_eq!(sandbox.pid("secret"), pid);
    // In a batch each request is looked at by itself.
    let one = |id: u32, method: &str, name: &str| {
        let params = json!({"name": name});
        json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
    };
    let batch = json!([
        one(1, "service.status", "allowed"),
        one(2, "service.stop", "secret")
    ]);
    let answers = lines_as(&sandbox, OPERATOR, &[], &[batch.to_string()]);
    assert_eq!(answers[0][0]["result"]["name"], "allowed", "{answers:?}");
    assert_eq!(answers[0][1]["error"]["code"], DENIED, "{answers:?}");
    // By a group beside his first one somebody may operate all.
    let line = one(1, "service.stop", "secret").to_string();
    let answers = lines_as(&sandbox, STRANGER, &[GROUP], &[line]);
    assert_eq!(answers[0]["result"]["ok"], true, "{answers:?}");
    // Its own configuration may be read anew by whom it belongs to, if it knows how.
    let answer = ask("service.stop", json!({"name": "allowed"})).unwrap();
    assert_eq!(answer["ok"], true);
}

/// A mode that is not said any more is the usual one again.
#[test]
fn a_mode_taken_out_of_the_file_is_taken_back() {
    if !may_become_others() {
        return;
    }
    let sandbox = with_access(SOME);
    let mode = || fs::metadata(sandbox.socket()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o666);
    fs::write(sandbox.path("access.toml"), "").unwrap();
    sandbox.ask("service.reload", Value::Null);
    assert_eq!(format!("{:o}", mode()), "660");
}

/// A mode is understood as TOML writes such numbers, too: never is it one that lets others in.
#[test]
fn a_mode_as_a_number_of_toml_is_that_mode_or_none() {
    for text in ["0o660", "432"] {
        let sandbox = with_access(&format!("socket_mode = {text}\n"));
        let mode = fs::metadata(sandbox.socket()).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o007, 0, "{text} became {mode:o}");
    }
}

/// By name as by number; and one who administers may do everything.
#[test]
fn users_and_groups_have_names() {
    if !may_become_others() {
        return;
    }
    let sandbox = with_access(
        "others = \"nothing\"\n\
         [[allow]]\nusers = [\"nobody\"]\nright = \"administer\"\n\
         [[allow]]\ngroups = [\"daemon\"]\nright = \"read\"\n\
         [[allow]]\nusers = [\"no-such-user\"]\nright = \"administer\"",
    );
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    let daemon = nix::unistd::Group::from_name("daemon").unwrap().unwrap();
    let stop =
        json!({"jsonrpc": "2.0", "id": 1, "method": "service.stop", "params": {"name": "secret"}});
    let list = json!({"jsonrpc": "2.0", "id": 2, "method": "service.list"});
    let lines = [stop.to_string(), list.to_string()];
    fs::set_permissions(sandbox.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    let told = lines_as(&sandbox, nobody.uid.as_raw(), &[], &lines);
    assert_eq!(told[0]["result"]["ok"], true, "{told:?}");
    assert_eq!(told[1]["result"], json!(["allowed", "secret"]));
    let told = lines_as(&sandbox, STRANGER, &[daemon.gid.as_raw()], &lines);
    assert_eq!(told[0]["error"]["code"], DENIED);
    assert_eq!(told[1]["result"], json!(["allowed", "secret"]));
    let told = lines_as(&sandbox, STRANGER, &[], &lines);
    assert_eq!(told[0]["error"]["data"]["right"], "operate");
    assert_eq!(told[1]["error"]["code"], DENIED);
    assert!(sandbox.log().contains("names the user 'no-such-user'"));
}

/// A file that can't be read gives nobody anything, and takes nothing from anybody.
#[test]
fn a_broken_file_changes_nothing() {
    if !may_become_others() {
        return;
    }
    let rule = format!("[[allow]]\nusers = [{OPERATOR}]\nright = \"operate\"\n");
    let sandbox = with_access(&format!("socket_mode = \"0666\"\n{rule}"));
    let stop =
        json!({"jsonrpc": "2.0", "id": 1, "method": "service.stop", "params": {"name": "secret"}});
    let lines = [stop.to_string()];
    let may =
        |sandbox: &Sandbox| lines_as(sandbox, OPERATOR, &[], &lines)[0]["result"]["ok"] == true;
    assert!(may(&sandbox));
    for broken in [
        "[[allow]",
        "[[allow]]\nright = \"rule\"\nusers = [1]",
        "other = 1",
    ] {
        fs::write(sandbox.path("access.toml"), broken).unwrap();
        sandbox.ask("service.reload", Value::Null);
        assert!(may(&sandbox), "{broken}");
    }
    fs::write(sandbox.path("access.toml"), "socket_mode = \"0666\"").unwrap();
    sandbox.ask("service.reload", Value::Null);
    assert!(!may(&sandbox));
}
