//! What a server may send that means no good, as the library and the shell client read it.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use zinit::api;
use zinit::cli::{self, Bulk, ClientOptions, LogsWanted, Powers, Screen, Verb};
use zinit::client::{Client, Connection, Error, LogQuery};

use super::fuzz::{Marks, NUMBERS, Rng, Target};
use super::fuzz_config::files_of;

const VALUES: &[&str] = &[
    "null",
    "true",
    "0",
    "1",
    "[]",
    "{}",
    "\"\"",
    "\"x\"",
    "[1]",
    "[[]]",
    "[\"a\",\"b\"]",
    "[{}]",
    "{\"ok\":true}",
    "\"\\u001b[31m\"",
    "{\"state\":\"running\"}",
    "{\"Failed\":{\"reason\":\"x\"}}",
    "[{\"name\":\"a\",\"state\":\"Running\"}]",
];

/// Names of members of replies, from what the api declares.
fn members() -> Vec<String> {
    let mut names = Vec::new();
    for declaration in api::declarations() {
        for word in declaration.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            if !word.is_empty() && word.len() < 24 && !names.iter().any(|name| name == word) {
                names.push(word.to_owned());
            }
        }
    }
    names
}

fn words() -> Vec<String> {
    let mut words: Vec<String> = members()
        .iter()
        .map(|name| format!("\"{name}\":"))
        .collect();
    words.extend(VALUES.iter().map(|value| (*value).to_owned()));
    let syntax = [
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":",
        "\"error\":",
        "\"result\":",
        "\"id\":1",
        "\"id\":2",
        "\n",
        "}",
        "{",
        "[",
        "]",
        ",",
        "\"",
        "\"method\":\"events.state\"",
        "\"method\":\"logs.line\"",
        "\"params\":",
        "\"data\":",
        "\"code\":",
        "\"message\":",
        "[[[[[[[[[[[[[[[[",
        "\0",
    ];
    words.extend(syntax.map(str::to_owned));
    words
}

/// What a server has said elsewhere, to each thing that may be asked.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for text in files_of("tests/exchanges", ".txt") {
        let text = String::from_utf8(text).expect("UTF-8");
        for line in text.lines().filter_map(|line| line.strip_prefix("< ")) {
            let Ok(mut reply) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            if reply.is_object() {
                reply["id"] = Value::from(1);
            }
            let kind = char::from(b'A' + u8::try_from(seeds.len() % 26).expect("small"));
            seeds.push(format!("{kind}{reply}\n").into_bytes());
        }
    }
    seeds
}

fn json(rng: &mut Rng, depth: usize, names: &[String]) -> String {
    match rng.below(if depth == 0 { 3 } else { 6 }) {
        0 => (*rng.pick(NUMBERS)).to_owned(),
        1 | 2 => (*rng.pick(VALUES)).to_owned(),
        3 => {
            let items: Vec<String> = (0..rng.below(4))
                .map(|_| json(rng, depth - 1, names))
                .collect();
            format!("[{}]", items.join(","))
        }
        _ => {
            let members: Vec<String> = (0..rng.below(12))
                .map(|_| format!("\"{}\":{}", rng.pick(names), json(rng, depth - 1, names)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
    }
}

fn make(rng: &mut Rng) -> Vec<u8> {
    thread_local! {
        static NAMES: Vec<String> = members();
    }
    NAMES.with(|names| {
        let kind = char::from(b'A' + u8::try_from(rng.below(26)).expect("small"));
        let mut text = String::from(kind);
        for _ in 0..=rng.below(4) {
            text += &match rng.below(6) {
                0 | 1 => format!(
                    "{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}}",
                    json(rng, 3, names)
                ),
                2 => format!("{{\"id\":1,\"error\":{}}}", json(rng, 2, names)),
                3 => {
                    let method = rng.pick(&[
                        "events.state",
                        "events.health",
                        "events.gap",
                        "events.removed",
                        "logs.line",
                        "logs.gap",
                        "x",
                    ]);
                    format!(
                        "{{\"method\":\"{method}\",\"params\":{}}}",
                        json(rng, 2, names)
                    )
                }
                4 => json(rng, 3, names),
                _ => (*rng.pick(VALUES)).to_owned(),
            };
            text += *rng.pick(&["\n", "\n", "\n", ""]);
        }
        text.into_bytes()
    })
}

pub(crate) const CLIENT: Target = Target {
    name: "client",
    words,
    seeds,
    make,
    run,
    memory: (2 << 20, 300),
};

/// A server that says the same to everybody, and hangs up.
struct Server {
    socket: PathBuf,
    says: Arc<Mutex<Vec<u8>>>,
}

impl Server {
    fn started() -> Self {
        let socket = std::env::temp_dir().join(format!("zinit-fuzz-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).expect("a socket");
        let says = Arc::new(Mutex::new(Vec::new()));
        let heard = says.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let says: Vec<u8> = heard.lock().expect("no panic there").clone();
                // Whoever has heard enough has left.
                let _ = stream.write_all(&says);
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
                while stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {}
            }
        });
        Self { socket, says }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// What came of a call, as far as it is told.
fn heard<T>(result: Result<T, Error>, marks: &mut Marks, kind: u8) {
    match result {
        Ok(_) => marks.see((kind, "ok")),
        Err(error) => {
            marks.see((kind, std::mem::discriminant(&error)));
            assert!(!error.to_string().is_empty(), "nothing is said");
            if let Error::Refused(refusal) = &error {
                let _ = (refusal.outcome().map(str::len), refusal.errors().count());
            }
        }
    }
}

/// One of the commands of the shell client.
fn command(kind: u8) -> cli::Request {
    let name = || "web".to_owned();
    let names = || vec!["web".to_owned()];
    let patience = cli::Patience::Done {
        within: Some(Duration::from_secs(5)),
    };
    let logs = |names, follow| LogsWanted {
        names,
        lines: 5,
        stream: None,
        since: None,
        follow,
    };
    match kind {
        b'a' => cli::Request::List,
        b'b' => cli::Request::Status(name()),
        b'c' => cli::Request::Why(name()),
        b'd' => cli::Request::Tree,
        b'e' => cli::Request::Logs(logs(names(), false)),
        b'f' => cli::Request::Logs(logs(Vec::new(), true)),
        b'g' => cli::Request::Watch(Vec::new()),
        b'h' => cli::Request::Stats(name()),
        b'i' => cli::Request::Children(name()),
        b'j' => cli::Request::Change {
            verb: Verb::Start { deps: true },
            names: names(),
            patience,
        },
        b'k' => cli::Request::Change {
            verb: Verb::Stop,
            names: names(),
            patience,
        },
        b'l' => cli::Request::All {
            verb: Bulk::Start,
            patience,
        },
        b'm' => cli::Request::Reload,
        b'n' => cli::Request::Health(Vec::new()),
        b'o' => cli::Request::Health(names()),
        b'p' => cli::Request::Xinet(cli::Xinet::Status(None)),
        b'q' => cli::Request::DebugState,
        b'r' => cli::Request::DebugProcesses(name()),
        b's' => cli::Request::All {
            verb: Bulk::Delete,
            patience,
        },
        b't' => cli::Request::Kill {
            name: name(),
            signal: None,
        },
        b'u' => cli::Request::Refresh(names()),
        _ => cli::Request::Ping,
    }
}

fn run(input: &[u8], marks: &mut Marks) {
    thread_local! {
        static SERVER: Server = Server::started();
    }
    let (kind, says) = input
        .split_first()
        .map_or((0, input), |(kind, says)| (*kind, says));
    SERVER.with(|server| {
        says.clone_into(&mut server.says.lock().expect("no panic there"));
        let client = || Client::connect(&server.socket).expect("a server");
        let raw = || Connection::connect(&server.socket).expect("a server");
        let name = "web";
        match kind {
            b'A' => heard(client().ping(), marks, kind),
            b'B' => heard(client().list(), marks, kind),
            b'C' => heard(client().list_full(), marks, kind),
            b'D' => heard(client().status(name), marks, kind),
            b'E' => heard(client().status_full(name), marks, kind),
            b'F' => heard(client().get(name), marks, kind),
            b'G' => heard(client().stats(name), marks, kind),
            b'H' => heard(client().children(name), marks, kind),
            b'I' => heard(client().why(name), marks, kind),
            b'J' => heard(client().tree(), marks, kind),
            b'K' => heard(client().start(name), marks, kind),
            b'L' => heard(client().stop(name), marks, kind),
            b'M' => heard(client().start_all(), marks, kind),
            b'N' => heard(client().reload(), marks, kind),
            b'O' => heard(client().logs_tail(&LogQuery::all()), marks, kind),
            b'P' => heard(client().logs(None, None), marks, kind),
            b'Q' => heard(client().xinet_status_all(), marks, kind),
            b'R' => heard(client().xinet_status(name), marks, kind),
            b'S' => heard(client().discover(), marks, kind),
            b'T' => heard(
                client().wait_for_end(Some(Duration::from_secs(5))),
                marks,
                kind,
            ),
            b'U' => match client().follow_events(&[]) {
                Ok(stream) => stream.for_each(|event| heard(event, marks, kind)),
                Err(error) => heard(Err::<(), _>(error), marks, kind),
            },
            b'V' => match client().follow_logs(&LogQuery::all()) {
                Ok(stream) => stream.for_each(|note| heard(note, marks, kind)),
                Err(error) => heard(Err::<(), _>(error), marks, kind),
            },
            b'W' => heard(client().delete_all(), marks, kind),
            b'X' => {
                // All that was said, a line at a time.
                let mut connection = raw();
                let limit = Some(Duration::from_secs(5));
                let lines = says.split_inclusive(|byte| *byte == b'\n');
                for line in lines.filter(|line| line.ends_with(b"\n")) {
                    let note = connection.note(limit);
                    let expected = serde_json::from_slice::<Value>(line);
                    assert_eq!(
                        note.as_ref().ok().and_then(Option::as_ref),
                        expected.as_ref().ok()
                    );
                    heard(note, marks, kind);
                }
                assert!(matches!(connection.note(limit), Ok(None)), "an end");
            }
            b'a'..=b'z' => {
                let options = ClientOptions {
                    socket: server.socket.clone(),
                    json: kind == b'z',
                };
                let powers = Powers {
                    signal_first: |_| Ok(()),
                    force: |_| Ok(()),
                };
                let (mut out, mut err) = (Vec::new(), Vec::new());
                let mut screen = Screen::plain(&mut out, &mut err);
                let code = cli::run_on(&options, &command(kind), &powers, &mut screen);
                assert!(
                    code == cli::exit::OK || !err.is_empty() || !out.is_empty(),
                    "it fails without a word"
                );
                marks.see((kind, code, out.is_empty(), err.is_empty()));
                marks.told(&String::from_utf8_lossy(&err));
            }
            _ => {
                let result = raw().ask("x", Value::Null);
                // An answer is one to the first request, and JSON.
                if let Ok(value) = &result {
                    let is_there = |line: &[u8]| {
                        let line = serde_json::from_slice::<Value>(line);
                        line.is_ok_and(|line| line["id"] == 1 && line["result"] == *value)
                    };
                    assert!(says.split(|byte| *byte == b'\n').any(is_there), "{value}");
                }
                heard(result, marks, 0);
            }
        }
    });
}
