//! The house rules that a compiler does not check: who may import whom, what the engine may not know,
//! how long files and lines are, and whether manual, Makefile and README say what is there.
//!
//! Rules read text and give back what they find, so that each is also tried on a text that breaks it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use zinit::rpc::{METHODS, find};

/// What a ring may take from the rest of the crate, and which packages and parts of the standard
/// library it may not. The arrows are those of `src/lib.rs`.
struct Ring {
    name: &'static str,
    may_use: &'static [&'static str],
    may_not_use: &'static [&'static str],
}

const RINGS: &[Ring] = &[
    Ring {
        name: "engine",
        may_use: &["engine"],
        may_not_use: &[
            "mio",
            "nix",
            "libc",
            "serde",
            "toml",
            "serde_json",
            "signal_hook",
            "log",
            "env_logger",
            "lexopt",
            "std::fs",
            "std::io",
            "std::net",
            "std::os",
            "std::process",
            "std::thread",
            "std::env",
        ],
    },
    Ring {
        name: "api",
        may_use: &["api"],
        may_not_use: &[
            "mio",
            "nix",
            "libc",
            "toml",
            "log",
            "std::fs",
            "std::io",
            "std::net",
            "std::os",
            "std::process",
            "std::thread",
            "std::env",
        ],
    },
    Ring {
        name: "rpc",
        may_use: &["engine", "api", "rpc"],
        may_not_use: &[
            "mio",
            "nix",
            "libc",
            "std::fs",
            "std::net",
            "std::os",
            "std::process",
            "std::thread",
        ],
    },
    Ring {
        name: "config",
        may_use: &["engine", "config"],
        may_not_use: &[
            "mio",
            "nix",
            "libc",
            "std::net",
            "std::process",
            "std::thread",
        ],
    },
    Ring {
        name: "sys",
        may_use: &["engine", "sys"],
        may_not_use: &["serde", "serde_json", "toml", "lexopt", "std::thread"],
    },
    Ring {
        name: "record",
        may_use: &["engine", "record"],
        may_not_use: &[
            "mio",
            "nix",
            "libc",
            "serde",
            "toml",
            "serde_json",
            "log",
            "lexopt",
            "std::fs",
            "std::io",
            "std::net",
            "std::os",
            "std::process",
            "std::thread",
            "std::env",
        ],
    },
    Ring {
        name: "reactor",
        may_use: &["engine", "api", "rpc", "record", "config", "sys", "reactor"],
        may_not_use: &["toml", "lexopt", "std::thread"],
    },
    Ring {
        name: "pid1",
        may_use: &["engine", "config", "sys", "reactor", "pid1"],
        may_not_use: &[
            "mio",
            "nix",
            "libc",
            "serde",
            "serde_json",
            "toml",
            "lexopt",
            "std::thread",
        ],
    },
    Ring {
        name: "client",
        may_use: &["engine", "config", "api", "client"],
        may_not_use: &[
            "mio",
            "nix",
            "libc",
            "log",
            "lexopt",
            "std::process",
            "std::thread",
        ],
    },
    Ring {
        name: "cli",
        may_use: &["api", "client", "cli"],
        may_not_use: &["mio", "nix", "libc"],
    },
];

/// Words that have no place in the engine: clocks, tables without an order, and output.
const NOT_IN_ENGINE: &[&str] = &[
    "Instant",
    "SystemTime",
    "HashMap",
    "HashSet",
    "unsafe",
    "println",
    "eprintln",
    "print",
    "eprint",
    "dbg",
];

/// Most lines of a file.
const MOST_LINES: usize = 700;

/// Most columns of a line, unless a string or a table is in it.
const MOST_COLUMNS: usize = 110;

/// All that lies in the top folder, beside files that begin with a dot.
const TOP: &[&str] = &[
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "README.md",
    "man",
    "src",
    "tests",
];

/// All packages the program is made of.
const PACKAGES: &[&str] = &[
    "env_logger",
    "lexopt",
    "log",
    "mio",
    "nix",
    "serde",
    "serde_json",
    "signal-hook",
    "toml",
];

#[test]
fn the_source_keeps_to_the_rules() {
    let mut found = Vec::new();
    for (path, text) in files("src") {
        found.extend(imports(&path, &text));
        found.extend(unsafety(&path, &text));
        found.extend(lengths(&path, &text));
        if path.starts_with("src/engine/") {
            found.extend(engine(&path, &text));
        }
    }
    assert_none(&found);
}

#[test]
fn no_test_sleeps() {
    let found: Vec<_> = files("tests")
        .iter()
        .flat_map(|(path, text)| sleeps(path, text))
        .collect();
    assert_none(&found);
}

#[test]
fn nothing_else_lies_in_the_top_folder() {
    let entries = fs::read_dir(root()).expect("the top folder");
    let names = entries.map(|entry| {
        entry
            .expect("an entry")
            .file_name()
            .to_string_lossy()
            .into_owned()
    });
    let built = |name: &str| name == "target" || name.starts_with("target-");
    let found: Vec<_> = names
        .filter(|name| !name.starts_with('.') && !built(name) && !TOP.contains(&&**name))
        .collect();
    assert_none(&found);
}

#[test]
fn the_program_is_made_of_nine_packages_at_most() {
    let used = packages(&read("Cargo.toml"));
    assert!(
        !used.is_empty() && used.is_subset(&set(PACKAGES)),
        "{used:?}"
    );
}

#[test]
fn the_manual_names_every_method_and_parameter() {
    let known: Vec<(String, BTreeSet<String>)> = METHODS
        .iter()
        .map(|method| {
            (
                method.name.to_owned(),
                method.params().map(|param| param.name.to_owned()).collect(),
            )
        })
        .collect();
    let manual = manual_methods(&read("man/zinit-rpc.7"));
    let names = |of: &[(String, BTreeSet<String>)]| -> Vec<String> {
        let mut names: Vec<_> = of.iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    };
    assert_eq!(
        names(&manual),
        names(&known),
        "methods: the manual, and the table"
    );
    let manual: BTreeMap<_, _> = manual.into_iter().collect();
    for (name, params) in known {
        assert_eq!(
            manual[&name], params,
            "parameters of {name}: the manual, and the table"
        );
    }
}

#[test]
fn every_method_is_found_in_the_table() {
    for method in METHODS {
        let found = find(method.name).map(|found| found.name);
        assert_eq!(found, Some(method.name), "the table of methods is sorted");
    }
    let requests = read("src/api/requests.rs");
    assert_eq!(requests.matches("\" => ").count(), METHODS.len());
}

#[test]
fn the_manual_pages_are_clean() {
    let pages = files("man");
    assert_eq!(pages.len(), 6);
    let paths = pages.iter().map(|(path, _)| root().join(path));
    match Command::new("mandoc")
        .args(["-T", "lint", "-W", "warning"])
        .args(paths)
        .output()
    {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&text)
            );
        }
        Err(error) => println!("SKIPPED: the manual pages are not linted, mandoc: {error}"),
    }
}

#[test]
fn the_readme_names_targets_that_exist() {
    let targets = make_targets(&read("Makefile"));
    for text in [read("README.md"), read(".ci/run")] {
        let named = named_targets(&text);
        assert!(!named.is_empty());
        assert_none(&named.difference(&targets).collect::<Vec<_>>());
    }
}

#[test]
fn every_target_is_listed_by_help() {
    let makefile = read("Makefile");
    let listed = |target: &&String| {
        makefile
            .lines()
            .any(|line| line.starts_with(&format!("{target}:")) && line.contains(" ## "))
    };
    let targets = make_targets(&makefile);
    assert!(targets.len() >= 10, "{targets:?}");
    assert_none(
        &targets
            .iter()
            .filter(|target| !target.starts_with("need-") && !listed(target))
            .collect::<Vec<_>>(),
    );
}

/// A checker that finds nothing anywhere is no checker.
#[test]
fn planted_breaches_are_found() {
    let found = |path: &str, text: &str| {
        let mut found = imports(path, text);
        found.extend(unsafety(path, text));
        found.extend(lengths(path, text));
        if path.starts_with("src/engine/") {
            found.extend(engine(path, text));
        }
        found
    };
    let cases = [
        ("src/engine/a.rs", "use std::fs;"),
        (
            "src/engine/a.rs",
            "use std::{\n    fmt,\n    io::{self, Read},\n};",
        ),
        ("src/engine/a.rs", "fn f() { let _ = ::std::env::var(x); }"),
        ("src/engine/a.rs", "use crate::sys::clock;"),
        ("src/engine/a.rs", "use crate::{engine::Pid, rpc};"),
        ("src/engine/a.rs", "use super::super::rpc;"),
        ("src/engine/a.rs", "use crate as all;"),
        ("src/engine/a.rs", "extern crate nix;"),
        ("src/engine/a.rs", "fn f() { log::info!(\"x\"); }"),
        ("src/engine/a.rs", "#[derive(serde::Serialize)] struct A;"),
        ("src/engine/a.rs", "use std::time::Instant;"),
        (
            "src/engine/a.rs",
            "use std::collections::{BTreeMap, HashMap};",
        ),
        ("src/engine/a.rs", "fn f() { println!(); }"),
        ("src/engine/a.rs", "fn f() { match x { A => 1, _ => 2 } }"),
        (
            "src/engine/a.rs",
            "fn f() { match x { A => 1, _ if y => 2 } }",
        ),
        ("src/engine/a.rs", "// SAFETY: none.\nunsafe fn f() {}"),
        ("src/rpc/a.rs", "use crate::sys;"),
        ("src/api/a.rs", "use crate::engine::Signal;"),
        ("src/api/a.rs", "use std::io;"),
        ("src/rpc/a.rs", "fn f() { crate::config::load(); }"),
        ("src/rpc/mod.rs", "use super::reactor::Reactor;"),
        ("src/rpc/a.rs", "use mio::net::UnixStream;"),
        ("src/config/a.rs", "use nix::unistd;"),
        ("src/config/a.rs", "use crate::rpc::wire;"),
        ("src/sys/a.rs", "use crate::config::Dirs;"),
        ("src/cli/a.rs", "use crate::engine::Supervisor;"),
        ("src/cli/a.rs", "use crate::reactor;"),
        ("src/client/a.rs", "use crate::rpc;"),
        ("src/client/a.rs", "use crate::cli::Env;"),
        ("src/reactor/mod.rs", "use crate::cli;"),
        ("src/reactor/a.rs", "fn f() { std::thread::spawn(g); }"),
        ("src/nowhere/a.rs", "use std::fmt;"),
        (
            "src/rpc/a.rs",
            "fn f() {\n    // SAFETY: none.\n    unsafe { g() }\n}",
        ),
        ("src/sys/a.rs", "fn f() {\n    unsafe { g() }\n}"),
        (
            "src/sys/a.rs",
            "fn f() {\n    // SAFETY: that.\n    unsafe { g() };\n    unsafe { h() };\n}",
        ),
    ];
    for (path, text) in cases {
        assert!(
            !found(path, text).is_empty(),
            "not found in {path}:\n{text}"
        );
    }
    let long_line = format!("fn f() {{}} // {}", "x".repeat(MOST_COLUMNS));
    let long_file = "\n".repeat(MOST_LINES + 1);
    assert!(!found("src/sys/a.rs", &long_line).is_empty());
    assert!(!found("src/sys/a.rs", &long_file).is_empty());
    assert!(!sleeps("tests/a.rs", "fn f() { std::thread::sleep(x); }").is_empty());
    assert!(!sleeps("tests/a.rs", "use std::thread::{self, sleep};").is_empty());
    assert!(
        !packages("[dependencies]\nnix = '1'\n[build-dependencies]\ncc = '1'")
            .is_subset(&set(PACKAGES))
    );
    assert!(!packages("[target.'cfg(unix)'.dependencies]\nrand = '1'").is_subset(&set(PACKAGES)));
}

/// And one that finds something everywhere is none either.
#[test]
fn what_only_looks_like_a_breach_is_none() {
    let harmless = [
        (
            "src/engine/a.rs",
            "// use std::fs; unsafe { } HashMap\n/* nix::libc /* _ => */ */\nuse std::fmt;",
        ),
        (
            "src/engine/a.rs",
            "const A: &str = \"use std::fs; _ => unsafe\"; const B: &str = r#\"crate::sys \"x\" _ =>\"#;",
        ),
        (
            "src/engine/a.rs",
            "fn f<'a>(x: &'a str) -> char { '\"' }\nuse super::{Pid, graph::Graph};\nuse crate::engine::Time;",
        ),
        (
            "src/engine/a.rs",
            "fn f() { let (_, x) = y; match z { (_, 1) => {} (1, _) => {} A { .. } => {} } }",
        ),
        (
            "src/sys/a.rs",
            "fn f() {\n    // SAFETY: as it is\n    // told here.\n    unsafe { g() }\n}",
        ),
        (
            "src/sys/a.rs",
            "// SAFETY: that.\nlet x =\n    unsafe { g() };",
        ),
        (
            "src/reactor/mod.rs",
            "use self::clients::Clients;\nuse crate::{engine, rpc, sys::kill};",
        ),
        ("src/rpc/mod.rs", "mod a;\npub use a::B;"),
    ];
    for (path, text) in harmless {
        let mut found = imports(path, text);
        found.extend(unsafety(path, text));
        if path.starts_with("src/engine/") {
            found.extend(engine(path, text));
        }
        assert_none(&found);
    }
    assert_none(&sleeps(
        "tests/a.rs",
        "// sleep(1)\nlet exec = \"sleep 100\"; let sleeper = 1;",
    ));
    let manual = ".It Fn a.b Fa x Fa y\n.It Fn c.d Oo Fa z Oc\ntext\n.Fa w ,\n.Sh OTHER\n.Fa v\n";
    let params = |names: &[&str]| set(names);
    assert_eq!(
        manual_methods(manual),
        [
            ("a.b".to_owned(), params(&["x", "y"])),
            ("c.d".to_owned(), params(&["w", "z"]))
        ]
    );
}

/// Arrows that turn round, and packages that a ring may not know.
fn imports(path: &str, text: &str) -> Vec<String> {
    let module = module(path);
    let mut found = Vec::new();
    let tell = |what: &str| format!("{path}: {what} is not for this ring");
    let Some(name) = module
        .first()
        .filter(|_| path != "src/main.rs" && path != "src/lib.rs")
    else {
        return found;
    };
    let Some(ring) = RINGS.iter().find(|ring| ring.name == name) else {
        return vec![format!("{path}: {name} is no ring")];
    };
    let rings: Vec<&str> = RINGS.iter().map(|ring| ring.name).collect();
    for written in paths(text) {
        let path = absolute(&module, &written);
        let ours = path.first().is_some_and(|first| first == "crate");
        match path.get(1) {
            Some(other)
                if ours && rings.contains(&&**other) && !ring.may_use.contains(&&**other) =>
            {
                found.push(tell(&written.join("::")));
            }
            _ => {}
        }
        let text = path.join("::");
        let banned = |ban: &&&str| text == **ban || text.starts_with(&format!("{ban}::"));
        // A lone word is a name of any kind, unless it is imported from outside by itself.
        if (path.len() > 1 || written.len() > 1) && ring.may_not_use.iter().any(|ban| banned(&ban))
        {
            found.push(tell(&text));
        }
    }
    let words = tokens(&code(text));
    for pair in words.windows(2) {
        if let ["crate", "as"] | ["extern", "crate"] = [&*pair[0], &*pair[1]] {
            found.push(tell(&pair.join(" ")));
        }
        if pair[0] == "use" && ring.may_not_use.contains(&&*pair[1]) {
            found.push(tell(&pair[1]));
        }
    }
    found
}

/// What would make the engine depend on more than what it is told.
fn engine(path: &str, text: &str) -> Vec<String> {
    let words = tokens(&code(text));
    let mut found: Vec<String> = words
        .iter()
        .filter(|word| NOT_IN_ENGINE.contains(&&***word))
        .map(|word| format!("{path}: {word} has no place in the engine"))
        .collect();
    for pair in words.windows(2) {
        if pair[0] == "_" && (pair[1] == "=>" || pair[1] == "if") {
            found.push(format!("{path}: an arm `_`: write out what it stands for"));
        }
    }
    found
}

/// `unsafe` outside of `sys`, or without a word about why it holds.
fn unsafety(path: &str, text: &str) -> Vec<String> {
    let bare = code(text);
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in bare.lines().enumerate() {
        if !tokens(line).iter().any(|word| word == "unsafe") {
            continue;
        }
        if !path.starts_with("src/sys/") {
            found.push(format!("{path}:{}: unsafe is for sys alone", at + 1));
        }
        // Back over the remark, or over the beginning of the statement, to the remark.
        let before = lines[..at].iter().rev().map(|line| line.trim());
        let mut own = before.take_while(|line| {
            line.starts_with("//") || !line.ends_with([';', '{', '}']) && !line.is_empty()
        });
        if !own.any(|line| line.starts_with("// SAFETY:")) {
            found.push(format!("{path}:{}: unsafe without // SAFETY:", at + 1));
        }
    }
    found
}

/// Files and lines that are too long.
fn lengths(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let count = text.lines().count();
    if count > MOST_LINES {
        found.push(format!("{path}: {count} lines, the most are {MOST_LINES}"));
    }
    for (at, line) in text.lines().enumerate() {
        let begin = line.trim_start();
        let excused =
            line.contains('"') || begin.starts_with("//! |") || begin.starts_with("/// |");
        if line.chars().count() > MOST_COLUMNS && !excused {
            found.push(format!(
                "{path}:{}: longer than {MOST_COLUMNS} columns",
                at + 1
            ));
        }
    }
    found
}

/// Tests that wait for time to pass; they wait for a change.
fn sleeps(path: &str, text: &str) -> Vec<String> {
    let words = tokens(&code(text));
    let asleep = words
        .iter()
        .filter(|word| *word == "sleep" || *word == "sleep_ms" || *word == "sleep_until");
    asleep.map(|word| format!("{path}: {word}")).collect()
}

/// Every package in any table of dependencies but that for development.
fn packages(cargo: &str) -> BTreeSet<String> {
    let cargo: toml::Table = toml::from_str(cargo).expect("Cargo.toml is TOML");
    let mut found = BTreeSet::new();
    let mut tables = vec![&cargo];
    let systems = cargo.get("target").and_then(toml::Value::as_table);
    tables.extend(
        systems
            .into_iter()
            .flat_map(|systems| systems.values().filter_map(toml::Value::as_table)),
    );
    for table in tables {
        for kind in ["dependencies", "build-dependencies"] {
            let names = table.get(kind).and_then(toml::Value::as_table);
            found.extend(names.into_iter().flat_map(|names| names.keys().cloned()));
        }
    }
    found
}

/// The items `Fn` of the manual, each with the `Fa` up to the next item or heading.
fn manual_methods(page: &str) -> Vec<(String, BTreeSet<String>)> {
    let mut methods: Vec<(String, BTreeSet<String>)> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [".It", "Fn", name, ..] = words[..] {
            methods.push((name.to_owned(), BTreeSet::new()));
            inside = true;
        } else if line.starts_with(".Sh") || line.starts_with(".Ss") {
            inside = false;
        }
        let params = words
            .windows(2)
            .filter(|pair| pair[0].trim_start_matches('.') == "Fa");
        if let Some((_, known)) = methods
            .last_mut()
            .filter(|_| inside && line.starts_with('.'))
        {
            known.extend(params.map(|pair| pair[1].to_owned()));
        }
    }
    methods
}

/// The targets of a Makefile.
fn make_targets(makefile: &str) -> BTreeSet<String> {
    let phony = makefile
        .lines()
        .filter_map(|line| line.strip_prefix(".PHONY:"));
    let named: BTreeSet<&str> = phony.flat_map(str::split_whitespace).collect();
    let rules = makefile.lines().filter_map(|line| line.split_once(':'));
    rules
        .filter(|(name, _)| named.contains(name))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// What follows the word `make` where a command is shown.
fn named_targets(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in text.lines() {
        let shown = line.split('`').skip(1).step_by(2).chain([line]);
        for command in shown {
            let command = command
                .trim()
                .trim_start_matches("$ ")
                .trim_start_matches("exec ");
            let command = command.trim_start_matches("sudo ");
            let Some(rest) = command.strip_prefix("make ") else {
                continue;
            };
            let target = rest.split_whitespace().next().unwrap_or_default();
            if !target.is_empty()
                && target
                    .chars()
                    .all(|letter| letter.is_ascii_lowercase() || letter == '-')
            {
                found.insert(target.to_owned());
            }
        }
    }
    found
}

/// The module a file is, from the crate on.
fn module(path: &str) -> Vec<String> {
    let path = path
        .trim_start_matches("src/")
        .trim_end_matches(".rs")
        .trim_end_matches("/mod");
    path.split('/').map(str::to_owned).collect()
}

/// A path from the crate on, whatever it starts with.
fn absolute(module: &[String], written: &[String]) -> Vec<String> {
    let supers = written
        .iter()
        .take_while(|word| *word == "super" || *word == "self")
        .count();
    if supers == 0 {
        return written.to_vec();
    }
    let up = written[..supers]
        .iter()
        .filter(|word| *word == "super")
        .count();
    let mut path = vec!["crate".to_owned()];
    path.extend_from_slice(&module[..module.len().saturating_sub(up)]);
    path.extend_from_slice(&written[supers..]);
    path
}

/// Every path in a source text, with those in braces written out.
fn paths(text: &str) -> Vec<Vec<String>> {
    let words = tokens(&code(text));
    let mut found = Vec::new();
    let mut at = 0;
    while at < words.len() {
        at = take_path(&words, at, &[], &mut found).max(at + 1);
    }
    found
}

/// Takes the path that begins at `at`, if one does, behind `before`; gives where it ends.
fn take_path(
    words: &[String],
    mut at: usize,
    before: &[String],
    found: &mut Vec<Vec<String>>,
) -> usize {
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    let mut path = before.to_vec();
    if word(at) == "::" {
        at += 1;
    }
    while is_name(word(at)) {
        path.push(word(at).to_owned());
        at += 1;
        if word(at) != "::" {
            break;
        }
        at += 1;
        if word(at) == "{" {
            at += 1;
            while !matches!(word(at), "}" | "") {
                at = take_path(words, at, &path, found).max(at + 1);
            }
            return at + 1;
        }
    }
    if path.len() > before.len() {
        found.push(path);
    }
    at
}

fn is_name(word: &str) -> bool {
    word.starts_with(|letter: char| letter.is_alphabetic() || letter == '_')
}

/// Names, `::`, `=>`, and every other sign by itself.
fn tokens(code: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut letters = code.chars().peekable();
    while let Some(letter) = letters.next() {
        let mut word = String::from(letter);
        if letter.is_alphanumeric() || letter == '_' {
            while let Some(next) = letters.next_if(|next| next.is_alphanumeric() || *next == '_') {
                word.push(next);
            }
        } else if letter == ':' || letter == '=' {
            word.extend(letters.next_if_eq(if letter == ':' { &':' } else { &'>' }));
        }
        if !letter.is_whitespace() {
            words.push(word);
        }
    }
    words
}

/// A source text without its remarks and without what is in strings; lines stay where they are.
fn code(text: &str) -> String {
    let mut bare = String::new();
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let before = bare.chars().next_back().unwrap_or(' ');
        let in_name = before.is_alphanumeric() || before == '_';
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            remark_length(rest)
        } else if letter == '"' {
            string_length(rest)
        } else if letter == 'r' && (!in_name || before == 'b') && raw_length(rest).is_some() {
            raw_length(rest).expect("just looked at")
        } else if letter == '\'' {
            letter_length(rest)
        } else {
            bare.push(letter);
            rest = &rest[letter.len_utf8()..];
            continue;
        };
        bare.push(' ');
        bare.extend(rest[..length].chars().filter(|letter| *letter == '\n'));
        rest = &rest[length..];
    }
    bare
}

fn remark_length(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_length(rest: &str) -> usize {
    let mut escaped = false;
    let end = rest.bytes().enumerate().skip(1).find(|(_, byte)| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    });
    end.map_or(rest.len(), |(at, _)| at + 1)
}

fn raw_length(rest: &str) -> Option<usize> {
    let hashes = rest[1..].bytes().take_while(|byte| *byte == b'#').count();
    let content = rest[1 + hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(
        content
            .find(&end)
            .map_or(rest.len(), |at| 2 + hashes + at + end.len()),
    )
}

/// A letter in quotes; or, for a lifetime, just the quote.
fn letter_length(rest: &str) -> usize {
    let mut letters = rest.char_indices().skip(1);
    match letters.next() {
        Some((_, '\\')) => rest[3..].find('\'').map_or(rest.len(), |at| 3 + at + 1),
        Some(_) => match letters.next() {
            Some((at, '\'')) => at + 1,
            _ => 1,
        },
        None => 1,
    }
}

/// Every file below a folder, with its path from the top.
fn files(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the project") {
            let path = entry.expect("an entry").path();
            let wanted = path.extension().is_some_and(|kind| kind == "rs")
                || path.starts_with(root().join("man"));
            if path.is_dir() {
                folders.push(path);
            } else if wanted {
                let text = fs::read_to_string(&path).expect("a text file");
                let name = path.strip_prefix(root()).expect("a path below the top");
                found.push((name.to_string_lossy().into_owned(), text));
            }
        }
    }
    assert!(!found.is_empty(), "no files in {folder}");
    found.sort();
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn assert_none<T: std::fmt::Display>(found: &[T]) {
    let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
}
