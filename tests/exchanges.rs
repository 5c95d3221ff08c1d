//! What zinit 0.3.9 was asked and how it answered, asked again: the files of `tests/exchanges`.
//!
//! A file is played against a server of its own, which has the services of [`services`]. An empty
//! line ends a block; each block has a connection of its own. `#` begins a remark.
//!
//! ```text
//! > {"jsonrpc":"2.0","id":1,"method":"system.ping"}      a line is sent
//! < {"jsonrpc":"2.0","id":1,"result":{"version":<version>}}    a line must come, and be that
//! - {…}             what 0.3.9 answered where the answer is another one by intent; not compared
//! >> bytes\r\n      bytes are sent as they are: \r \n \\ \xHH, and {3000000}x for many of a letter
//! eof               nothing more is sent
//! closed            the server hangs up
//! gone              the server ends, with status 0
//! ! NAME running    not before the service is in that state
//! ! NAME says LINE  not before it has written that line
//! ! NAME lacks FILE not before there is no such file in the directory of services
//! ```
//!
//! Several `>` before the first `<` are sent at once. What stands for what may differ:
//!
//! ```text
//! <u64> <pid> <number> <bool> <text> <any>     a value of that kind; a pid is not 0, a text not ""
//! <version> <dir> <port> <port2> <port3>       what they are in this run
//! "killed by <text> (<u64>)"                   and the same inside a string
//! {"name":"alpha",...}  ["alpha",...]          there may be more
//! ```
//!
//! Nothing may differ beyond that. Every answer is checked to be compact, its members in the order
//! of 0.3.9: `jsonrpc`, `id`, `result` or `error`; below that sorted; `code`, `message`, `data`.

#[path = "common/pattern.rs"]
mod pattern;
#[path = "common/sandbox.rs"]
mod sandbox;

use std::net::TcpListener;
use std::path::Path;

use pattern::fits;
use sandbox::{Connection, Sandbox, quoted, wait_until};
use serde_json::{Value, json};

#[test]
fn framing() {
    play("framing");
}

#[test]
fn system() {
    play("system");
}

#[test]
fn reads() {
    play("reads");
}

#[test]
fn texts() {
    play("texts");
}

#[test]
fn changes() {
    play("changes");
}

#[test]
fn set() {
    play("set");
}

#[test]
fn logs() {
    play("logs");
}

#[test]
fn edges() {
    play("edges");
}

#[test]
fn xinet() {
    play("xinet");
}

/// A file for each method, and no method without.
#[test]
fn every_method_of_the_old_server_is_asked() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exchanges");
    let texts = std::fs::read_dir(folder).unwrap();
    let texts = texts.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
    let texts: String = texts.collect();
    let silent = METHODS.iter().filter(|method| {
        let asked = format!("\"method\":\"{method}\"");
        !texts.contains(&asked)
    });
    assert_eq!(silent.collect::<Vec<_>>(), Vec::<&&str>::new());
}

const METHODS: [&str; 32] = [
    "rpc.discover",
    "system.ping",
    "system.shutdown",
    "system.reboot",
    "system.prepare_restart",
    "service.list",
    "service.list_full",
    "service.status",
    "service.status_full",
    "service.is_running",
    "service.get",
    "service.stats",
    "service.children",
    "service.why",
    "service.tree",
    "service.start",
    "service.stop",
    "service.restart",
    "service.kill",
    "service.set",
    "service.delete",
    "service.remove",
    "logs.get",
    "logs.tail",
    "logs.filter",
    "debug.state",
    "debug.process_tree",
    "xinet.set",
    "xinet.delete",
    "xinet.list",
    "xinet.status",
    "xinet.status_all",
];

/// Two children, of which it says `up` when both are what they will be.
const KIDS: &str = "sleep 1000 & a=$!; sleep 1001 & for pid in $a $!; do \
                    until read -r word < /proc/$pid/comm && [ $word = sleep ]; do :; done; done; \
                    echo up; wait";

/// The services that the exchanges speak of. A process outside listens on `port`, which `ext` wants
/// and `hc` asks about; on `port2`, which `full` asks about, listens nobody; `port3` nobody speaks of.
fn services(sandbox: &Sandbox, port: u16, port2: u16) {
    let once = "restart = \"never\"";
    let program = |name: &str, exec: &str, more: &str| {
        sandbox.service(name, &format!("exec = {}\n{more}", quoted(exec)));
    };
    let lifecycle = |name: &str, exec: &str, keys: &str| {
        program(name, exec, &format!("[lifecycle]\n{keys}"));
    };
    let talks = "echo alpha-out; echo alpha-err >&2; exec sleep 1000";
    let links = |text: &str| format!("[dependencies]\n{text}");
    program("alpha", talks, "");
    program("beta", "exec sleep 1000", &links("requires = [\"alpha\"]"));
    program("gamma", "exec sleep 1000", &links("requires = [\"beta\"]"));
    let full = "after = [\"alpha\"]\nrequires = [\"beta\"]\nwants = [\"gamma\"]\n[health]\n\
                type = \"tcp\"\nretries = 1000000\ninterval_ms = 600000\n";
    let full = format!("{full}target = \"127.0.0.1:{port2}\"");
    program("full", "exec sleep 1000", &links(&full));
    program("once", "exit 0", "oneshot = true");
    lifecycle("crash", "exit 2", once);
    lifecycle("sig", "kill -9 $$", once);
    sandbox.service(
        "nodir",
        &format!("exec = \"exec sleep 1\"\ndir = \"/no/such\"\n[lifecycle]\n{once}"),
    );
    program(
        "blocked",
        "exec sleep 1000",
        &links("requires = [\"crash\", \"nodir\"]"),
    );
    sandbox.target("t", &links("requires = [\"alpha\"]"));
    let conflicts = "after = [\"alpha\"]\nconflicts = [\"alpha\"]";
    program("conf", "exec sleep 1000", &links(conflicts));
    program(
        "misdep",
        "exec sleep 1000",
        &links("requires = [\"ghost\"]"),
    );
    program("kids", KIDS, "");
    let first = format!("ports = [{port2}]\n[lifecycle]\n{once}");
    program("port1", "exec sleep 1000", &first);
    let second = format!("ports = [{port2}]\n[dependencies]\nafter = [\"port1\"]");
    program("port2", "exec sleep 1000", &second);
    program("ext", "exec sleep 1000", &format!("ports = [{port}]"));
    let health = format!("[health]\ntype = \"tcp\"\ntarget = \"127.0.0.1:{port}\"");
    program("hc", "exec sleep 1000", &health);
    let http = "[health]\ntype = \"http\"\ntarget = \"http://127.0.0.1:1/x\"\nexpect_status = 204\n\
                interval_ms = 500\ntimeout_ms = 400\nretries = 100\nstart_period_ms = 1500";
    sandbox.service(
        "hchttp",
        &format!("exec = \"exec sleep 1000\"\nstatus = \"ignore\"\n{http}"),
    );
    let bad = format!(
        "[lifecycle]\n{once}\n[health]\ntype = \"exec\"\ntarget = \"false\"\n\
                       retries = 2\ninterval_ms = 1"
    );
    program("hcbad", "exec sleep 1000", &bad);
    sandbox.service("ignored", "exec = \"exec sleep 1000\"\nstatus = \"ignore\"");
    lifecycle(
        "flaky",
        "exit 3",
        "restart_delay_ms = 100000\nrestart_delay_max_ms = 400000",
    );
    let deaf = "trap '' TERM; echo up; while :; do sleep 1000; done";
    lifecycle("deaf", deaf, "stop_timeout_ms = 600000");
    lifecycle(
        "hup",
        "trap 'echo hup' HUP; echo up; while :; do sleep 1000 & wait; done",
        "",
    );
}

/// One exchange file and the server it is played against.
struct Play {
    sandbox: Sandbox,
    name: String,
    /// The words that stand for something in this run.
    words: Vec<(&'static str, String)>,
    /// What was not as it should be.
    differences: Vec<String>,
}

fn play(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exchanges");
    let text = std::fs::read_to_string(folder.join(format!("{name}.txt"))).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port2 = free.local_addr().unwrap().port();
    let unused = TcpListener::bind("127.0.0.1:0").unwrap();
    let port3 = unused.local_addr().unwrap().port();
    drop((free, unused));
    let mut sandbox = Sandbox::new();
    services(&sandbox, port, port2);
    sandbox.start();
    let dir = sandbox.services_dir().to_str().unwrap().to_owned();
    let words = vec![
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("dir", dir),
        ("port", port.to_string()),
        ("port2", port2.to_string()),
        ("port3", port3.to_string()),
    ];
    let mut play = Play {
        sandbox,
        name: name.to_owned(),
        words,
        differences: Vec::new(),
    };
    let mut block = Vec::new();
    for (number, line) in (1..).zip(text.lines().chain([""])) {
        if !line.is_empty() {
            block.push((number, line));
        } else if !block.is_empty() {
            play.block(&block);
            block.clear();
        }
    }
    // It would not end otherwise.
    if !text.lines().any(|line| line == "gone") {
        let params = json!({"name": "deaf", "signal": "SIGKILL"});
        drop(play.sandbox.rpc("service.kill", params));
    }
    let found = play.differences;
    assert!(found.is_empty(), "{} differences", found.len());
}

impl Play {
    fn block(&mut self, lines: &[(usize, &str)]) {
        let mut connection = None;
        for (number, line) in lines {
            let place = format!("{}.txt:{number}", self.name);
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            if matches!(word, "#" | "-") {
                continue;
            }
            if word == "!" {
                self.wait(&place, rest);
                continue;
            }
            if word == "gone" {
                let status = self.sandbox.server_end();
                assert_eq!(status.code(), Some(0), "{place}");
                continue;
            }
            let open = || self.sandbox.connect();
            let connection: &mut Connection = connection.get_or_insert_with(open);
            match word {
                ">" => drop(connection.send(format!("{}\n", self.request(rest)).as_bytes())),
                ">>" => drop(connection.send(&bytes(&self.request(rest)))),
                "eof" => connection.end(),
                "closed" => assert_eq!(connection.line(), None, "{place}"),
                "<" => {
                    let line = connection.line();
                    let line = line.unwrap_or_else(|| panic!("{place}: the server hung up"));
                    if let Err(why) = self.compare(rest, &line) {
                        let found = format!("{place}: {why}\nexpected {rest}\nfound    {line}\n");
                        // What follows may panic.
                        println!("{found}");
                        self.differences.push(found);
                    }
                }
                other => panic!("{place}: what is {other:?}?"),
            }
        }
    }

    fn wait(&self, place: &str, words: &str) {
        let (name, rest) = words.split_once(' ').expect("NAME and what of it");
        match rest.split_once(' ') {
            Some(("says", line)) => self.sandbox.wait_output(name, line),
            Some(("lacks", file)) => {
                let path = self.sandbox.services_dir().join(file);
                assert!(
                    wait_until(|| !path.exists()),
                    "{place}: {file} is still there"
                );
            }
            _ => self.sandbox.wait_state(name, rest),
        }
    }

    /// What is to be sent: the words of this run are filled in.
    fn request(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (word, value) in &self.words {
            text = text.replace(&format!("<{word}>"), value);
        }
        text
    }

    fn compare(&self, expected: &str, line: &str) -> Result<(), String> {
        let found: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        if found.is_object() && ordered(&found) != line {
            return Err(format!("in order it would be {}", ordered(&found)));
        }
        let expected = marked(expected);
        let expected = serde_json::from_str(&expected).expect("an expectation that is JSON");
        self.alike(&expected, &found, "")
    }

    fn alike(&self, expected: &Value, found: &Value, at: &str) -> Result<(), String> {
        let differs = || Err(format!("{at}: {found} is not {expected}"));
        match (expected, found) {
            (Value::Object(members), Value::Object(others)) => {
                for (key, value) in members.iter().filter(|(key, _)| *key != MORE) {
                    let other = others.get(key);
                    let other = other.ok_or_else(|| format!("{at}: {key:?} is missing"))?;
                    self.alike(value, other, &format!("{at}.{key}"))?;
                }
                let more = others.keys().find(|key| !members.contains_key(*key));
                match more.filter(|_| !members.contains_key(MORE)) {
                    Some(key) => Err(format!("{at}: {key:?} is one too many")),
                    None => Ok(()),
                }
            }
            (Value::Array(items), Value::Array(others)) => {
                let open = items.last() == Some(&json!(MORE));
                let count = items.len() - usize::from(open);
                if others.len() < count || (!open && others.len() > count) {
                    return Err(format!("{at}: {} elements", others.len()));
                }
                for (place, (item, other)) in items[..count].iter().zip(others).enumerate() {
                    self.alike(item, other, &format!("{at}[{place}]"))?;
                }
                Ok(())
            }
            (Value::String(text), _) if text.starts_with(MARK) => {
                let kind = &text[MARK.len_utf8()..];
                if self.is_a(kind, found) {
                    Ok(())
                } else {
                    differs()
                }
            }
            (Value::String(text), Value::String(other)) if text.contains('<') => {
                if fits(text, other, &self.words) {
                    Ok(())
                } else {
                    differs()
                }
            }
            (expected, found) if expected == found => Ok(()),
            _ => differs(),
        }
    }

    /// Is this value of that kind?
    fn is_a(&self, kind: &str, found: &Value) -> bool {
        match kind {
            "u64" => found.is_u64(),
            "pid" => found.as_u64().is_some_and(|pid| pid > 0),
            "number" => found.is_number(),
            "bool" => found.is_boolean(),
            "text" => found.as_str().is_some_and(|text| !text.is_empty()),
            "any" => true,
            word => {
                let known = self.words.iter().find(|(known, _)| *known == word);
                let (_, value) = known.unwrap_or_else(|| panic!("what is <{word}>?"));
                let text = found.as_str().map(str::to_owned);
                text.unwrap_or_else(|| found.to_string()) == *value
            }
        }
    }
}

/// Begins what stands for a value; no file has it.
const MARK: char = '\u{1}';
const MORE: &str = "\u{1}...";

/// An expectation as JSON: `<word>` and `...` outside of strings become strings with a mark.
fn marked(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    let mut in_string = false;
    while let Some(letter) = rest.chars().next() {
        let length = match letter {
            '"' => {
                in_string = !in_string;
                out.push(letter);
                1
            }
            '\\' => {
                out.push_str(&rest[..2]);
                2
            }
            '<' if !in_string => {
                let end = rest.find('>').expect("a < that is closed");
                out.push_str(&format!("\"\\u0001{}\"", &rest[1..end]));
                end + 1
            }
            '.' if !in_string && rest.starts_with("...") => {
                let is_member = rest[3..].starts_with('}');
                out.push_str("\"\\u0001...\"");
                out.push_str(if is_member { ":0" } else { "" });
                3
            }
            other => {
                out.push(other);
                other.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    out
}

/// Bytes as a file writes them.
fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let taken = match (first, after) {
            (b'\\', [b'r', ..]) => (b'\r', 1, 1),
            (b'\\', [b'n', ..]) => (b'\n', 1, 1),
            (b'\\', [b'\\', ..]) => (b'\\', 1, 1),
            (b'\\', [b'x', digits @ ..]) => {
                let digits = std::str::from_utf8(&digits[..2]).unwrap();
                (u8::from_str_radix(digits, 16).unwrap(), 3, 1)
            }
            (b'{', [b'0'..=b'9', ..]) => {
                let end = after.iter().position(|byte| *byte == b'}').unwrap();
                let count = std::str::from_utf8(&after[..end]).unwrap();
                (after[end + 1], end + 2, count.parse().unwrap())
            }
            (other, _) => (*other, 0, 1),
        };
        let (byte, length, count) = taken;
        out.extend(std::iter::repeat_n(byte, count));
        rest = &after[length..];
    }
    out
}

/// A reply as 0.3.9 would have put it.
fn ordered(reply: &Value) -> String {
    let id = &reply["id"];
    let tail = match (reply.get("result"), reply.get("error")) {
        (Some(result), None) => format!("\"result\":{result}"),
        (None, Some(error)) => {
            let (code, message) = (&error["code"], &error["message"]);
            let data = error.get("data").map(|data| format!(",\"data\":{data}"));
            let data = data.unwrap_or_default();
            format!("\"error\":{{\"code\":{code},\"message\":{message}{data}}}")
        }
        other => return format!("one of result and error, not {other:?}"),
    };
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},{tail}}}")
}

/// A comparison that finds no difference anywhere is none.
#[test]
fn differences_are_found() {
    let play = Play {
        sandbox: Sandbox::new(),
        name: String::new(),
        words: vec![("port", "80".to_owned())],
        differences: Vec::new(),
    };
    let reply = |result: &str| format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{result}}}");
    for (expected, found, same) in [
        ("1", "1", true),
        ("1", "2", false),
        ("1", "\"1\"", false),
        ("null", "0", false),
        ("<u64>", "0", true),
        ("<u64>", "-1", false),
        ("<u64>", "\"1\"", false),
        ("<pid>", "0", false),
        ("<number>", "0.5", true),
        ("<text>", "\"\"", false),
        ("<port>", "80", true),
        ("<port>", "81", false),
        ("\"a <u64> b\"", "\"a 12 b\"", true),
        ("\"a <u64> b\"", "\"a  b\"", false),
        ("\"a <u64> b\"", "\"a x b\"", false),
        ("\"a <text>\"", "\"a x\\ny\"", true),
        ("\"<port>: <text>.\"", "\"80: a.b.\"", true),
        ("\"<port>: <text>.\"", "\"8: a.b.\"", false),
        ("{\"a\":1}", "{\"a\":1,\"b\":2}", false),
        ("{\"a\":1,...}", "{\"a\":1,\"b\":2}", true),
        ("{\"a\":1,...}", "{\"b\":2}", false),
        ("[1]", "[1,2]", false),
        ("[1,...]", "[1,2]", true),
        ("[1,2,...]", "[1]", false),
        ("[1]", "[1 ]", false),
        ("{\"a\":1,\"b\":2}", "{\"b\":2,\"a\":1}", false),
    ] {
        let result = play.compare(&reply(expected), &reply(found));
        assert_eq!(result.is_ok(), same, "{expected} {found}: {result:?}");
    }
    for line in [
        "{\"id\":1,\"jsonrpc\":\"2.0\",\"result\":1}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1,\"error\":null}",
        "{\"jsonrpc\":\"2.0\",\"id\":1}",
    ] {
        assert!(
            play.compare("{\"jsonrpc\":\"2.0\",...}", line).is_err(),
            "{line}"
        );
    }
    assert_eq!(bytes("a\\x41\\r\\n{3}z"), b"aA\r\nzzz");
}
