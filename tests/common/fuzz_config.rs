//! Files that people write: services, targets, proxies, who may do what; and single values in them.

use std::path::Path;

use serde_json::{Value, json};
use zinit::client::ServiceFile;
use zinit::config::{
    self, Destination, KEYS, Key, Problem, REQUIRED, from_value, instance, is_template, parse,
    parse_access, parse_proxy, proxy_from_value, proxy_to_toml, to_toml, to_value, words,
};
use zinit::engine::confine::{IoPriority, Limit, Rlimit, bytes};
use zinit::engine::{Address, Signal, Spec};

use super::fuzz::{Marks, NUMBERS, Rng, Target, hash_of};

const NAME: &str = "x.toml";

/// Texts that mean something somewhere, or look as if.
const TEXTS: &[&str] = &[
    "none",
    "empty",
    "required",
    "true",
    "",
    " ",
    "%",
    "%i",
    "%n-%p%%",
    "@",
    "a@",
    "a@b",
    "web",
    "no.such-name_1",
    "..",
    "/",
    "/dev/null",
    "/srv/wéb",
    "-/etc/x",
    "sleep 10",
    "exec $HOME",
    "TERM",
    "sigkill",
    "idle",
    "best-effort:7",
    "realtime:0",
    "0o22",
    "0777",
    "64M",
    "1 KiB",
    "16777216T",
    "1024:4096",
    "unlimited",
    "0:unlimited",
    "150%",
    "2xx",
    "200",
    "tcp:127.0.0.1:80",
    "localhost:80",
    "[::1]:1",
    "*:8080",
    "unix:/run/x.sock",
    "/run/a b",
    "http://127.0.0.1:80/x?y",
    "http://unix:/run/a.sock:/up",
    "https://x",
    "host:80",
    "start:web",
    "shutdown",
    "syslog",
    "udp:127.0.0.1:514",
    "kmsg",
    "CAP_CHOWN",
    "net_bind_service",
    "\u{1}\u{7f}\u{1b}[31m",
    "a\nb",
    "\"'\\",
    "\0",
    "ä€🎈",
    "A=1",
    "=",
];

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            '\0'..='\x1f' | '\x7f' => out += &format!("\\u{:04x}", u32::from(letter)),
            _ => out.push(letter),
        }
    }
    out + "\""
}

fn one_of<'a>(rng: &mut Rng, texts: &[&'a str]) -> &'a str {
    let text: &&str = rng.pick(texts);
    text
}

/// A value of any kind.
fn any_value(rng: &mut Rng) -> String {
    match rng.below(8) {
        0 => (*rng.pick(NUMBERS)).to_owned(),
        1 => (*rng.pick(&["true", "false", "1979-05-27", "nan", "{}", "[]", "[[1]]"])).to_owned(),
        2 => list(rng, any_value),
        3 => format!("'{}'", rng.pick(TEXTS)),
        _ => quoted(one_of(rng, TEXTS)),
    }
}

fn list(rng: &mut Rng, mut one: impl FnMut(&mut Rng) -> String) -> String {
    let count = *rng.pick(&[0, 1, 1, 2, 3, 9]);
    let items: Vec<String> = (0..count).map(|_| one(rng)).collect();
    format!("[{}]", items.join(", "))
}

/// A value that the key may well take.
fn value(rng: &mut Rng, key: &Key) -> String {
    if rng.chance(8) {
        return any_value(rng);
    }
    let number = |rng: &mut Rng| {
        (*rng.pick(&["1", "3", "10", "300", "65535", "0x10", "2147483647"])).to_owned()
    };
    let text = |rng: &mut Rng, of: &[&str]| quoted(one_of(rng, of));
    let names: &[&str] = &["web", "a", "b@c", "no.such-name_1", "t@"];
    let addresses: &[&str] = &[
        "tcp:127.0.0.1:80",
        "localhost:81",
        "[::1]:1",
        "*:80",
        "unix:/run/x.sock",
        "/run/y",
    ];
    let signals: &[&str] = &["TERM", "sigkill", "USR1", "15", "poll"];
    match (key.name, key.kind) {
        ("name" | "service", _) => text(rng, names),
        ("type", _) if key.section == "health" => text(rng, &["tcp", "http", "exec"]),
        ("type", _) => text(rng, &["spawn", "exit", "health", "notify", "fd", "log"]),
        ("target", _) => text(rng, &["127.0.0.1:80", "http://x/y", "true", "unix:/run/x"]),
        ("expect_status", _) => list(rng, |rng| text(rng, &["2xx", "404", "200"])),
        ("nice" | "oom_score_adj", _) if key.section == "service" => {
            (*rng.pick(&["-20", "0", "19", "5"])).to_owned()
        }
        ("ionice", _) => text(rng, &["idle", "best-effort:3", "realtime:0"]),
        ("capabilities", _) => list(rng, |rng| text(rng, &["CAP_CHOWN", "net_admin"])),
        ("process_filters", _) => list(rng, |rng| text(rng, &["nginx", "%i", "none"])),
        ("env_file", _) => list(rng, |rng| text(rng, &["/etc/x", "-/etc/y %i"])),
        ("env", _) => format!(
            "{{ A = {}, \"b c\" = {} }}",
            text(rng, TEXTS),
            text(rng, TEXTS)
        ),
        ("ports", _) => list(rng, number),
        ("on_failure" | "on_exit", _) => text(
            rng,
            &["nothing", "shutdown", "reboot", "shell", "start:web"],
        ),
        ("forward", _) => text(
            rng,
            &["syslog", "unix:/x", "udp:1.2.3.4:5", "kmsg", "stdout", "no"],
        ),
        (
            "restart" | "kill_mode" | "status" | "class" | "on_unhealthy" | "forward_format",
            kind,
        ) => {
            let words: Vec<&str> = kind
                .split([',', ' '])
                .filter(|word| !matches!(*word, "" | "or"))
                .collect();
            text(rng, &words)
        }
        ("success_exit", _) => list(rng, |rng| text(rng, signals)),
        ("cpu_max", _) => text(rng, &["150%", "5"]),
        ("fd", _) => (*rng.pick(&["3", "9", "1023"])).to_owned(),
        (_, "boolean") => (*rng.pick(&["true", "false"])).to_owned(),
        (_, "signal") => text(rng, signals),
        (_, "octal string") => text(rng, &["0644", "022", "0o777", "0"]),
        (_, "soft or soft:hard") => text(rng, &["1024", "1:unlimited", "unlimited", "0"]),
        (_, "path") => text(rng, &["/srv/x", "none", "/a b", "%i"]),
        (_, kind) if kind.starts_with("array of names") => list(rng, |rng| text(rng, names)),
        (_, kind) if kind.contains("address") => {
            if rng.chance(50) {
                text(rng, addresses)
            } else {
                list(rng, |rng| text(rng, addresses))
            }
        }
        (_, kind) if kind.contains("array of") => list(rng, |rng| text(rng, TEXTS)),
        (_, kind) if kind.starts_with("bytes") => text(rng, &["64M", "1048576", "2G", "0"]),
        (_, kind) if kind.contains("string") || kind.contains("name") => text(rng, TEXTS),
        (_, _) => number(rng),
    }
}

/// A file by the table of keys: most of it right.
fn make(rng: &mut Rng) -> Vec<u8> {
    let sections: &[&str] = match rng.below(10) {
        0 | 1 => &config::TARGET_SECTIONS,
        2 | 3 => &config::XINET_SECTIONS,
        _ => &config::SERVICE_SECTIONS,
    };
    let density = *rng.pick(&[2, 10, 40]);
    let mut text = String::new();
    for section in sections {
        let wanted = *section == sections[0] || rng.chance(30);
        if !wanted {
            continue;
        }
        text += &format!("[{section}]\n");
        for key in KEYS.iter().filter(|key| key.section == *section) {
            if key.default == REQUIRED && rng.chance(98) || rng.chance(density) {
                text += &format!("{} = {}\n", key.name, value(rng, key));
            }
        }
        if rng.chance(3) {
            text += &format!("{} = {}\n", rng.pick(KEYS).name, any_value(rng));
        }
    }
    text.into_bytes()
}

fn key_words() -> Vec<String> {
    let keys = KEYS.iter().map(|key| format!("{} = ", key.name));
    let mut sections: Vec<&str> = KEYS.iter().map(|key| key.section).collect();
    sections.dedup();
    let sections = sections.iter().flat_map(|name| {
        [
            format!("[{name}]\n"),
            format!("[[{name}]]\n"),
            format!("{name}."),
            format!("[{name}.env]\n"),
        ]
    });
    let texts = TEXTS.iter().map(|text| quoted(text));
    let syntax = [
        "\"\"\"",
        "'''",
        "#",
        "\\u0000",
        "\\U0010FFFF",
        "{",
        "}",
        "[",
        "]",
        "a.",
        "= {",
        "[[[",
    ];
    keys.chain(sections)
        .chain(texts)
        .chain(syntax.map(str::to_owned))
        .collect()
}

/// Files that other tests read.
pub(crate) fn files_of(folder: &str, ending: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(folder).expect("a folder of the tree");
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.to_string_lossy().ends_with(ending));
    paths.sort();
    paths
        .iter()
        .map(|path| std::fs::read(path).expect("a file"))
        .collect()
}

fn service_seeds() -> Vec<Vec<u8>> {
    let mut seeds = files_of("tests/config", ".toml");
    seeds.extend(files_of("tests/examples", ".toml"));
    seeds
}

pub(crate) const SERVICE: Target = Target {
    name: "service",
    words: key_words,
    seeds: service_seeds,
    make,
    run: service,
    memory: (1 << 20, 400),
};

/// What is said about a text is about that text, and there is not too much of it.
fn problems_are_fit(text: &str, problems: &[Problem], marks: &mut Marks) {
    assert!(problems.len() <= 102, "{} problems", problems.len());
    let lines: Vec<&str> = text.split('\n').collect();
    for problem in problems {
        assert_eq!(problem.path, Path::new(NAME));
        let said = problem.to_string();
        assert!(!said.chars().any(char::is_control), "{said:?}");
        assert!(!problem.message.is_empty(), "no message");
        if let Some(line) = problem.line {
            assert!(
                (1..=lines.len()).contains(&line),
                "line {line} of {}",
                lines.len()
            );
            let column = problem.column.expect("a column beside a line");
            let most = lines[line - 1].chars().count() + 1;
            assert!((1..=most).contains(&column), "column {column} of {most}");
            assert!(
                said.starts_with(&format!("{NAME}:{line}:{column}: ")),
                "{said:?}"
            );
        }
        if let Some(key) = &problem.key {
            let is_named = !key.is_empty() || text.contains("\"\"") || text.contains("''");
            assert!(is_named && problem.line.is_some(), "{said:?}");
        }
        marks.see((
            problem.is_error(),
            &problem.key.as_ref().is_some_and(|key| key.contains('.')),
        ));
        marks.told(&problem.message);
        problem.hint.iter().for_each(|hint| marks.told(hint));
    }
}

/// A definition is the same after all ways there and back.
fn is_kept(spec: &Spec) {
    let text = to_toml(spec);
    let (again, problems) = parse(Path::new(NAME), &text);
    let errors: Vec<_> = problems
        .iter()
        .filter(|problem| problem.is_error())
        .collect();
    assert!(
        again.as_ref() == Some(spec),
        "not kept by its file: {errors:?}\n{text}\n{again:?}\n{spec:?}"
    );
    let file = ServiceFile::from(spec.clone());
    let sent = file.to_value().to_string();
    let sent: Value = serde_json::from_str(&sent).expect("JSON");
    assert_eq!(
        from_value(sent.clone()).as_ref(),
        Ok(spec),
        "not kept by service.set: {sent}"
    );
    let shown = to_value(spec);
    let again = ServiceFile::from_value(shown.clone()).map(|file| file.spec().clone());
    assert_eq!(again.as_ref(), Ok(spec), "not kept by service.get: {shown}");
}

/// Which kinds of values there are.
fn mark_values(value: &Value, path: &str, marks: &mut Marks) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let is_ours = KEYS
                    .iter()
                    .any(|key| key.name == name || key.section == name);
                let path = if is_ours {
                    format!("{path}.{name}")
                } else {
                    path.to_owned()
                };
                mark_values(value, &path, marks);
            }
        }
        Value::Array(items) => marks.see((path, "array", items.len().min(3))),
        Value::String(text) => marks.see((path, "text", text.len().min(2))),
        Value::Null | Value::Bool(_) => marks.see((path, value.to_string())),
        Value::Number(number) => marks.see((path, number.as_u64() == Some(0))),
    }
}

fn service(input: &[u8], marks: &mut Marks) {
    let text = String::from_utf8_lossy(input);
    let (spec, problems) = parse(Path::new(NAME), &text);
    problems_are_fit(&text, &problems, marks);
    assert_eq!(spec.is_none(), problems.iter().any(Problem::is_error));
    if let Some(spec) = &spec {
        mark_values(&to_value(spec), "", marks);
        is_kept(spec);
        if is_template(&spec.name) {
            for of in ["x", "a.b-c", "@", "%i"] {
                let name = format!("{}{of}", spec.name);
                match instance(spec, &name) {
                    Ok(made) => {
                        assert_eq!(&*made.name, name);
                        is_kept(&made);
                        marks.see("instance");
                    }
                    Err(error) => marks.told(&error.to_string()),
                }
            }
        }
    }
    let (proxy, problems) = parse_proxy(Path::new(NAME), &text);
    problems_are_fit(&text, &problems, marks);
    assert_eq!(proxy.is_none(), problems.iter().any(Problem::is_error));
    assert!(spec.is_none() || proxy.is_none(), "it can't be both");
    if let Some(proxy) = proxy {
        marks.see((
            "proxy",
            proxy.listen.len(),
            proxy.idle_timeout.is_some(),
            proxy.single_connection,
        ));
        let text = proxy_to_toml(&proxy);
        let (again, problems) = parse_proxy(Path::new(NAME), &text);
        assert_eq!(again.as_ref(), Some(&proxy), "{problems:?}\n{text}");
    }
}

// The access file.

const ACCESS_KEYS: &[&str] = &[
    "others = ",
    "socket_mode = ",
    "socket_group = ",
    "[[allow]]\n",
    "users = ",
    "groups = ",
    "right = ",
    "services = ",
    "\"nothing\"",
    "\"read\"",
    "\"operate\"",
    "\"administer\"",
    "[\"web*\", \"*\"]",
    "[\"a\", 1000]",
    "\"0660\"",
    "0",
    "allow = ",
];

pub(crate) const ACCESS: Target = Target {
    name: "access",
    words: || ACCESS_KEYS.iter().map(|word| (*word).to_owned()).collect(),
    seeds: Vec::new,
    make: make_access,
    run: access,
    memory: (1 << 20, 400),
};

fn make_access(rng: &mut Rng) -> Vec<u8> {
    let mut text = String::new();
    let patterns: &[&str] = &["web", "*", "web*", "*-db", "a*b*c", "**", "", "a*a", "*a*"];
    let rights: &[&str] = &["nothing", "read", "operate", "administer", "all"];
    let mut line = |rng: &mut Rng, percent, key: &str, value: String| {
        if rng.chance(percent) {
            text += &format!("{key} = {value}\n");
        }
    };
    let pick = |rng: &mut Rng, of: &[&str]| quoted(one_of(rng, of));
    let others = pick(rng, rights);
    line(rng, 30, "others", others);
    line(rng, 30, "socket_mode", quoted("0660"));
    let group = if rng.chance(50) {
        any_value(rng)
    } else {
        quoted("staff")
    };
    line(rng, 20, "socket_group", group);
    let count = rng.below(4);
    for _ in 0..count {
        text += "[[allow]]\n";
        let mut line = |rng: &mut Rng, percent, key: &str, value: String| {
            if rng.chance(percent) {
                text += &format!("{key} = {value}\n");
            }
        };
        let users = list(rng, |rng| {
            if rng.chance(50) {
                "1000".to_owned()
            } else {
                quoted("me")
            }
        });
        line(rng, 80, "users", users);
        let groups = if rng.chance(30) {
            any_value(rng)
        } else {
            quoted("wheel")
        };
        line(rng, 40, "groups", groups);
        let right = pick(rng, rights);
        line(rng, 95, "right", right);
        let services = list(rng, |rng| quoted(one_of(rng, patterns)));
        line(rng, 50, "services", services);
    }
    text.into_bytes()
}

/// The plain meaning of a pattern: each letter stands for itself, and `*` for nothing, or for one
/// letter and the same again.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for byte in pattern {
        let mut next = vec![false; name.len() + 1];
        for at in 0..=name.len() {
            next[at] = match byte {
                b'*' => reached[at] || at > 0 && next[at - 1],
                _ => at > 0 && reached[at - 1] && name[at - 1] == *byte,
            };
        }
        reached = next;
    }
    reached[name.len()]
}

fn access(input: &[u8], marks: &mut Marks) {
    use zinit::config::Right;
    let text = String::from_utf8_lossy(input);
    let access = match parse_access(Path::new(NAME), &text) {
        Ok(access) => access,
        Err(problem) => {
            assert!(problem.is_error());
            return problems_are_fit(&text, &[*problem], marks);
        }
    };
    assert!(access.others <= Right::Read, "others may too much");
    assert!(access.socket_mode.is_none_or(|mode| mode <= 0o777), "mode");
    marks.see((
        access.others.name(),
        access.socket_mode.is_some(),
        access.socket_group.is_some(),
    ));
    for rule in &access.rules {
        assert!(
            !rule.users.is_empty() || !rule.groups.is_empty(),
            "for nobody"
        );
        assert!(
            rule.right != Right::Administer || rule.services.is_none(),
            "not for all"
        );
        marks.see((rule.right.name(), rule.services.as_ref().map(Vec::len)));
        for name in ["web", "web-1", "a-db", "abc", "axxbyyc", "a", "aa", "é*"] {
            let patterns = rule.services.as_ref();
            let expected = patterns.is_none_or(|patterns| {
                patterns
                    .iter()
                    .take(50)
                    .any(|pattern| fits(pattern.as_bytes(), name.as_bytes()))
            });
            let is_for = rule.is_for(Some(name));
            let all_seen = patterns.is_none_or(|patterns| patterns.len() <= 50);
            assert!(is_for == expected || !all_seen, "{name}: {patterns:?}");
            marks.see(("for", is_for));
        }
    }
}

// Single words.

pub(crate) const WORDS: Target = Target {
    name: "words",
    words: || TEXTS.iter().map(|text| (*text).to_owned()).collect(),
    seeds: || TEXTS.iter().map(|text| text.as_bytes().to_vec()).collect(),
    make: |rng| rng.pick(TEXTS).as_bytes().to_vec(),
    run: one_word,
    memory: (1 << 20, 4000),
};

/// What is read from a word is read again from what is written of it.
fn comes_back<T: PartialEq + std::fmt::Debug + ToString>(
    read: impl Fn(&str) -> Option<T>,
    text: &str,
    kind: &str,
    marks: &mut Marks,
) {
    if let Some(value) = read(text) {
        marks.see(kind);
        let written = value.to_string();
        assert_eq!(
            read(&written),
            Some(value),
            "{kind} {text:?}, written as {written:?}"
        );
    }
}

fn one_word(input: &[u8], marks: &mut Marks) {
    let text = &*String::from_utf8_lossy(input);
    comes_back(|text| Signal::parse(text).ok(), text, "signal", marks);
    comes_back(|text| Address::parse(text).ok(), text, "address", marks);
    comes_back(
        |text| Limit::parse(Rlimit::Nofile, text),
        text,
        "limit",
        marks,
    );
    comes_back(IoPriority::parse, text, "ionice", marks);
    comes_back(bytes, text, "bytes", marks);
    marks.see(("destination", Destination::parse(text).is_some()));
    if let Err(error) = Address::parse(text) {
        marks.told(&error);
    }
    if let Some(split) = words(text) {
        assert!(
            !split.is_empty() && split.iter().all(|word| !word.is_empty()),
            "{split:?}"
        );
        assert_eq!(words(&split.join(" ")), Some(split), "words of {text:?}");
        marks.see("words");
    }
    // The word as the value of some of the keys.
    let number = text.parse::<i64>().map(Value::from);
    let first = usize::try_from(hash_of(input) % 32).expect("small");
    for key in KEYS.iter().skip(first).step_by(32) {
        let mut document = match key.section {
            "target" => json!({"target": {"name": "x"}}),
            "xinet" => continue,
            _ => json!({"service": {"name": "x", "exec": "x"}}),
        };
        if key.section == "health" {
            document["health"] = json!({"type": "http", "target": "x"});
        }
        if key.name == "text" {
            document["readiness"]["type"] = json!("log");
        }
        let is_list = key.kind.contains("array") && key.name != "exec";
        let value = number.clone().unwrap_or_else(|_| json!(text));
        document[key.section][key.name] = match key.name {
            "env" => json!({text: text}),
            _ if is_list => json!([value]),
            _ => value,
        };
        match from_value(document) {
            Ok(spec) => {
                marks.see((key.section, key.name));
                is_kept(&spec);
            }
            Err(error) => marks.told(&error.to_string()),
        }
    }
    let proxy = json!({"name": text, "listen": text, "backend": "tcp:1.2.3.4:5", "service": "x"});
    if let Ok(spec) = proxy_from_value(&proxy) {
        let (again, _) = parse_proxy(Path::new(NAME), &proxy_to_toml(&spec));
        assert_eq!(again, Some(spec), "proxy {text:?}");
        marks.see("proxy");
    }
}
