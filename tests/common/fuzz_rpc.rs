//! Requests: any bytes in any pieces, and what they are answered.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Value, json};
use zinit::config::{from_value, parse, proxy_from_value};
use zinit::engine::{Command, Event, Patience, Supervisor, Table, Time};
use zinit::rpc::{self, Ask, Exchange, Incoming, METHODS, Scene, Todo};

use super::fuzz::{Marks, NUMBERS, Rng, Target, hash_of};
use super::fuzz_config::files_of;

const VALUES: &[&str] = &[
    "\"web\"",
    "\"db\"",
    "\"all\"",
    "\"nobody\"",
    "\"t@x\"",
    "null",
    "true",
    "false",
    "[]",
    "{}",
    "\"\"",
    "[\"web\",\"db\"]",
    "\"HUP\"",
    "\"running\"",
    "\"stdout\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"é\"",
    "[[[[]]]]",
    "{\"name\":\"x\",\"exec\":\"true\"}",
    "{\"service\":{\"name\":\"x\",\"exec\":[\"sleep\",\"1\"]}}",
    "{\"target\":{\"name\":\"x\"}}",
    "{\"name\":\"p\",\"listen\":[\"tcp:127.0.0.1:1\"],\"backend\":{\"tcp\":\"127.0.0.1:2\"},\"service\":\"web\"}",
];

fn words() -> Vec<String> {
    let mut words: Vec<String> = METHODS
        .iter()
        .flat_map(|method| {
            let names = method.params().map(|param| format!("\"{}\":", param.name));
            names
                .chain([format!("\"{}\"", method.name)])
                .collect::<Vec<_>>()
        })
        .collect();
    words.extend(VALUES.iter().map(|value| (*value).to_owned()));
    let syntax = [
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":",
        "\"id\":",
        "\"jsonrpc\":\"2.0\",",
        "\"method\":\"system.ping\"",
        "\"params\":",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "\"",
        "\\",
        "\n",
        "\r\n",
        "\0",
        " ",
        "[[[[[[[[[[[[[[[[",
        "{\"a\":{\"a\":{\"a\":",
        "\u{feff}",
        "\"config\":{",
    ];
    words.extend(syntax.map(str::to_owned));
    words
}

/// The requests of the exchanges that other tests play.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for text in files_of("tests/exchanges", ".txt") {
        let text = String::from_utf8(text).expect("UTF-8");
        let asked = text.lines().filter_map(|line| line.strip_prefix("> "));
        seeds.extend(asked.map(|line| format!("{line}\n").into_bytes()));
    }
    seeds
}

fn request(rng: &mut Rng) -> String {
    let method = rng.pick(METHODS);
    let mut params = Vec::new();
    for param in method.params() {
        if rng.chance(70) {
            let value = if rng.chance(25) {
                *rng.pick(NUMBERS)
            } else {
                *rng.pick(VALUES)
            };
            params.push(format!("\"{}\":{value}", param.name));
        }
    }
    let id = *rng.pick(&[
        "1",
        "\"a\"",
        "null",
        "-1.5",
        "18446744073709551615",
        "",
        "",
        "[]",
        "true",
        "1e999",
    ]);
    let id = if id.is_empty() {
        String::new()
    } else {
        format!("\"id\":{id},")
    };
    let method = method.name;
    format!(
        "{{\"jsonrpc\":\"2.0\",{id}\"method\":\"{method}\",\"params\":{{{}}}}}",
        params.join(",")
    )
}

fn make(rng: &mut Rng) -> Vec<u8> {
    let mut text = String::new();
    let lines = 1 + rng.below(4);
    for _ in 0..lines {
        if rng.chance(25) {
            let count = rng.below(6);
            let batch: Vec<String> = (0..count).map(|_| request(rng)).collect();
            text += &format!("[{}]", batch.join(","));
        } else {
            text += &request(rng);
        }
        text += *rng.pick(&["\n", "\n", "\r\n", ""]);
    }
    text.into_bytes()
}

pub(crate) const RPC: Target = Target {
    name: "rpc",
    words,
    seeds,
    make,
    run,
    memory: (2 << 20, 300),
};

/// Some services, none of which was ever started.
fn services() -> Supervisor {
    let mut all = Supervisor::default();
    let texts = [
        "[service]\nname='web'\nexec='true'\n[dependencies]\nrequires=['db','nobody']\n[health]\ntype='tcp'\ntarget='x:1'",
        "[service]\nname='db'\nexec='true'\noneshot=true\n[lifecycle]\nreload_signal='HUP'",
        "[target]\nname='all'\n[dependencies]\nwants=['web']",
    ];
    for text in texts {
        let spec = parse("x.toml".as_ref(), text).0.expect("a definition");
        let spec = Rc::new(spec);
        let command = Command::Put { spec };
        let event = Event::Command {
            ticket: None,
            patience: Patience::None,
            command,
        };
        all.handle(Time::ZERO, event, &mut Vec::new());
    }
    all
}

/// What a request is answered at once; none: later.
fn answer(
    request: &rpc::Request,
    all: &Supervisor,
    marks: &mut Marks,
) -> Option<Result<Value, rpc::Refusal>> {
    let (obstacles, notes, said) = (Table::default(), Table::default(), Table::default());
    let ephemeral = BTreeMap::new();
    let now = Time::from_millis(1 << 40);
    let scene = Scene {
        all,
        now,
        obstacles: &obstacles,
        notes: &notes,
        said: &said,
        ephemeral: &ephemeral,
    };
    marks.see(
        METHODS
            .iter()
            .position(|method| method.name == request.method),
    );
    if request.method == "rpc.discover" {
        // The document is long, takes its time, and is always the same.
        return Some(Ok(json!("document")));
    }
    match rpc::dispatch(request, &scene) {
        Err(refusal) => {
            marks.see(refusal.code);
            marks.told(&refusal.message);
            Some(Err(refusal))
        }
        Ok(Todo::Answer(value)) => Some(Ok(value)),
        Ok(Todo::Command { command, wait, .. }) => {
            marks.see((
                std::mem::discriminant(&command),
                wait.map(|wait| wait.is_some()),
            ));
            None
        }
        Ok(Todo::Ask(ask)) => {
            marks.see(std::mem::discriminant(&ask));
            match ask {
                Ask::Set(value) => match from_value(value) {
                    Ok(_) => marks.see("set"),
                    Err(error) => marks.told(&error.to_string()),
                },
                Ask::Xinet(rpc::Xinet::Set(value)) => marks.see(proxy_from_value(&value).is_ok()),
                Ask::Get(_)
                | Ask::Delete(..)
                | Ask::DeleteAll(_)
                | Ask::Reload
                | Ask::Stats(_)
                | Ask::Children(_)
                | Ask::Why(_)
                | Ask::Logs(_)
                | Ask::Follow(_)
                | Ask::DebugState
                | Ask::DebugRecord
                | Ask::ProcessTree(_)
                | Ask::System(_)
                | Ask::Xinet(_) => {}
            }
            Some(Ok(json!("asked")))
        }
    }
}

/// All that is answered to what comes in these pieces, as the reactor goes about it.
fn replies(pieces: &[&[u8]], all: &Supervisor, marks: &mut Marks) -> Vec<u8> {
    let mut exchange = Exchange::default();
    let mut pieces = pieces.iter();
    let mut out = Vec::new();
    let mut owed = None;
    for turn in 0_usize.. {
        assert!(turn < 10_000_000, "it comes to no end");
        if exchange.wants_bytes() {
            match pieces.next() {
                Some(piece) => exchange.push(piece),
                None => exchange.end(),
            }
        }
        for _ in 0..64 {
            let Some(request) = exchange.next_request() else {
                break;
            };
            match request {
                Err(refusal) => {
                    marks.see(refusal.code);
                    exchange.answer(Some(&Value::from(0)), &Err(refusal));
                }
                Ok(request) => match answer(&request, all, marks) {
                    Some(answer) => exchange.answer(request.id.as_ref(), &answer),
                    None => {
                        exchange.wait();
                        owed = Some(request.id);
                    }
                },
            }
        }
        exchange.settle();
        while let Some(bytes) = exchange.output() {
            out.extend_from_slice(bytes);
            let count = bytes.len();
            exchange.wrote(count);
        }
        // What was answered later is answered now.
        if let Some(id) = owed.take() {
            exchange.answer(id.as_ref(), &Ok(json!({"ok": true})));
            continue;
        }
        if exchange.is_done() {
            break;
        }
    }
    exchange.settle();
    while let Some(bytes) = exchange.output() {
        out.extend_from_slice(bytes);
        let count = bytes.len();
        exchange.wrote(count);
    }
    out
}

/// The ids of a line's replies, an array of them for a batch; none if it has no reply.
fn ids_of(line: &[u8]) -> Option<Value> {
    let id_of = |request: Result<rpc::Request, _>| match request {
        Ok(request) => request.id,
        Err(_) => Some(json!(0)),
    };
    if line.len() > rpc::MAX_LINE_BYTES {
        return Some(json!(0));
    }
    match rpc::parse(line.to_vec()) {
        Incoming::One(request) => id_of(request),
        Incoming::Batch(requests) => {
            let ids: Vec<Value> = requests.filter_map(id_of).collect();
            (!ids.is_empty()).then_some(Value::Array(ids))
        }
    }
}

/// The same read in another way: does the reply have the id of that request?
fn is_to(reply: &Value, request: &Value) -> bool {
    // An array in the place of an object has its members in their order.
    let id = request.get(1).or_else(|| request.get("id"));
    is_same(&reply["id"], id.unwrap_or(&Value::Null)) || reply["error"]["code"] == -32700
}

/// Fractions are read to the last digit but one.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one.is_f64(), one.as_f64(), other.as_f64()) {
        (true, Some(one), Some(other)) => (one - other).abs() <= one.abs() * 1e-12,
        (_, _, _) => one == other,
    }
}

fn is_reply(reply: &Value) {
    assert_eq!(reply["jsonrpc"], "2.0", "{reply}");
    let members = reply.as_object().expect("an object");
    assert!(
        members.contains_key("result") != members.contains_key("error"),
        "{reply}"
    );
    assert_eq!(members.len(), 3, "{reply}");
    if let Some(error) = reply.get("error") {
        assert!(
            error["code"].is_i64()
                && error["message"]
                    .as_str()
                    .is_some_and(|text| !text.is_empty()),
            "{reply}"
        );
    }
}

fn run(input: &[u8], marks: &mut Marks) {
    thread_local! {
        static ALL: Supervisor = services();
    }
    ALL.with(|all| {
        let whole = replies(&input.chunks(16 << 10).collect::<Vec<_>>(), all, marks);
        // Cut by chance, but by the same each time.
        let mut rng = Rng::new(hash_of(input));
        let mut pieces = Vec::new();
        let mut rest = input;
        let most = *rng.pick(&[1, 2, 7, 100, 4096, 16 << 10]);
        let most = most.max(input.len() as u64 / 5000);
        while !rest.is_empty() {
            let size = usize::try_from(1 + rng.below(most))
                .expect("small")
                .min(rest.len());
            let (piece, after) = rest.split_at(size);
            pieces.push(piece);
            rest = after;
        }
        let cut = replies(&pieces, all, marks);
        assert!(
            cut == whole,
            "cut into {} pieces it is answered otherwise",
            pieces.len()
        );

        // One reply for each line that wants one, in order.
        let text = std::str::from_utf8(&whole).expect("replies are UTF-8");
        assert!(
            whole.is_empty() || whole.ends_with(b"\n"),
            "the last reply is cut"
        );
        let mut lines = input.split(|byte| *byte == b'\n').collect::<Vec<_>>();
        if lines.last().is_some_and(|last| last.is_empty()) {
            // What stands behind the last newline is no line.
            lines.pop();
        }
        let mut told = text.lines();
        for line in lines {
            let Some(ids) = ids_of(line) else { continue };
            let reply = told
                .next()
                .unwrap_or_else(|| panic!("no reply to {:?}", String::from_utf8_lossy(line)));
            let reply: Value = serde_json::from_str(reply).expect("a reply is JSON");
            match (&reply, &ids) {
                (Value::Array(replies), Value::Array(ids)) => {
                    replies.iter().for_each(is_reply);
                    let of: Vec<&Value> = replies.iter().map(|reply| &reply["id"]).collect();
                    let same = of
                        .iter()
                        .zip(ids)
                        .take_while(|(of, id)| is_same(of, id))
                        .count();
                    // Beyond some megabytes of answers the rest of a batch is refused as a whole.
                    let refusal = replies.last().map(|last| &last["error"]["message"]);
                    let is_long = refusal.and_then(Value::as_str).is_some_and(|text| {
                        text.starts_with("the answers to a batch are longer than")
                    });
                    let are_same = same == ids.len() && same == of.len();
                    let are_same = are_same || is_long && same + 1 >= of.len();
                    assert!(are_same, "{reply} for {ids:?}");
                    if let Ok(Value::Array(asked)) = serde_json::from_slice(line) {
                        // Notifications have no reply, so the others move up.
                        let mut asked = asked.iter();
                        let own = &replies[..replies.len() - usize::from(is_long)];
                        let all = own
                            .iter()
                            .all(|reply| asked.any(|asked| is_to(reply, asked)));
                        assert!(all, "{reply} for {:?}", String::from_utf8_lossy(line));
                    }
                    marks.see(("batch", ids.len().min(4)));
                }
                (one, id) => {
                    is_reply(one);
                    assert!(is_same(&one["id"], id), "{one} for {id}");
                    if let Ok(asked) = serde_json::from_slice(line) {
                        assert!(
                            is_to(one, &asked) || asked == json!([]),
                            "{one} for {asked}"
                        );
                    }
                }
            }
        }
        assert_eq!(told.next(), None, "a reply that nobody asked for");
    });
}
