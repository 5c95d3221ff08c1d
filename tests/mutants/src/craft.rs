//! The small crate that is looked at: the engine with all mutants in it, and the tests that need
//! nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::find::{Mutant, find};
use crate::weave::{Weave, Woven};

/// The library, whose tests are those in the engine's own files.
const OWN: &str = "zinit";

/// Tests that need nothing but the engine, the quickest first.
pub(crate) const TESTS: &[&str] = &[
    "golden",
    "engine_cells",
    "timer_model",
    OWN,
    "engine_model",
    "simulation",
];

const MANIFEST: &str = r#"[package]
name = "zinit"
version = "0.0.0"
edition = "2024"

[profile.test]
opt-level = 1
debug = false
incremental = true

[workspace]
"#;

const LIBRARY: &str = "#![allow(warnings)]\npub mod engine;\npub mod mutant;\npub mod record;\n";

/// Chosen by number: `MUTANT=`. With `MUTANTS_MET=` it is none, and the numbers of those that are
/// met go to that file.
const MUTANT: &str = r#"
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

const UNKNOWN: usize = usize::MAX;
const MEET: usize = usize::MAX - 1;
const NONE: usize = usize::MAX - 2;
static CHOSEN: AtomicUsize = AtomicUsize::new(UNKNOWN);
static MET: [AtomicBool; 10_000] = [const { AtomicBool::new(false) }; 10_000];

#[inline]
pub fn on(number: usize) -> bool {
    let chosen = CHOSEN.load(Relaxed);
    if chosen <= NONE { chosen == number } else { first(number, chosen) }
}

#[cold]
fn first(number: usize, chosen: usize) -> bool {
    if chosen == UNKNOWN {
        let told = std::env::var("MUTANT").ok().and_then(|told| told.parse().ok());
        let is_list = std::env::var_os("MUTANTS_MET").is_some();
        CHOSEN.store(if is_list { MEET } else { told.unwrap_or(NONE) }, Relaxed);
        return on(number);
    }
    if !MET[number].swap(true, Relaxed) {
        let path = std::env::var_os("MUTANTS_MET").unwrap();
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(format!("{number}\n").as_bytes()).unwrap();
    }
    false
}
"#;

/// The crate, built.
pub(crate) struct Craft {
    pub(crate) mutants: Vec<Mutant>,
    /// Those that are no program.
    pub(crate) refused: BTreeSet<usize>,
    /// The test programs, in the order of `TESTS`.
    pub(crate) programs: Vec<(String, PathBuf)>,
}

/// Makes the crate at `place` from the project at `top`.
pub(crate) fn craft(top: &Path, place: &Path) -> Craft {
    let engine = place.join("src/engine");
    fs::create_dir_all(&engine).expect("a folder for the crate");
    write(&place.join("Cargo.toml"), MANIFEST);
    write(&place.join("src/lib.rs"), LIBRARY);
    write(&place.join("src/mutant.rs"), MUTANT);
    // The tests tell and read histories by it.
    copy(&top.join("src/record"), &place.join("src/record"));
    copy(&top.join("tests/common"), &place.join("tests/common"));
    copy(&top.join("tests/golden"), &place.join("tests/golden"));
    for name in TESTS.iter().filter(|name| **name != OWN) {
        let (from, to) = (
            format!("tests/{name}.rs"),
            place.join(format!("tests/{name}.rs")),
        );
        write(
            &to,
            &fs::read_to_string(top.join(from)).expect("a test file"),
        );
    }
    let mut mutants = Vec::new();
    let mut sources: BTreeMap<String, (String, Weave)> = BTreeMap::new();
    for (name, text) in files(&top.join("src/engine")) {
        let path = format!("src/engine/{name}");
        let weave = find(&path, &text, &mut mutants);
        sources.insert(path, (text, weave));
    }
    // What was refused the last time need not be found out again, as long as the files are the same.
    let (memory, key) = (place.join("refused"), key(&sources));
    let mut refused: BTreeSet<usize> = match fs::read_to_string(&memory) {
        Ok(text) if text.lines().next() == Some(&key) => text
            .lines()
            .skip(1)
            .filter_map(|line| line.parse().ok())
            .collect(),
        Ok(_) | Err(_) => BTreeSet::new(),
    };
    loop {
        let mut places = BTreeMap::new();
        for (path, (source, weave)) in &sources {
            let woven = weave.text(source, &|number| refused.contains(&number));
            write(&place.join(path), &woven.text);
            places.insert(path.clone(), woven);
        }
        let wrong = wrong(place, &places);
        if wrong.is_empty() {
            break;
        }
        refused.extend(wrong);
    }
    let numbers: String = refused.iter().map(|number| format!("\n{number}")).collect();
    write(&memory, &format!("{key}{numbers}"));
    let programs = programs(place);
    Craft {
        mutants,
        refused,
        programs,
    }
}

/// What the numbers of mutants depend on, in a word.
fn key(sources: &BTreeMap<String, (String, Weave)>) -> String {
    let mut hasher = DefaultHasher::new();
    for (path, (text, _)) in sources {
        (path, text).hash(&mut hasher);
    }
    [include_str!("find.rs"), include_str!("weave.rs")].hash(&mut hasher);
    format!("{:x}", hasher.finish())
}

/// The mutants with which it does not compile.
fn wrong(place: &Path, woven: &BTreeMap<String, Woven>) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut unclear = Vec::new();
    let (messages, is_well) = cargo(place, &["check", "--lib"]);
    for message in &messages {
        let message = &message["message"];
        if message["level"] != "error" {
            continue;
        }
        let spans = message["spans"].as_array().map_or(&[][..], Vec::as_slice);
        let Some(primary) = spans.iter().find(|span| span["is_primary"] == true) else {
            continue;
        };
        let Some(woven) = primary["file_name"]
            .as_str()
            .and_then(|file| woven.get(file))
        else {
            continue;
        };
        // What is borrowed or moved twice only because nobody leaves in between.
        let hull = spans
            .iter()
            .map(range)
            .reduce(|a, b| a.start.min(b.start)..a.end.max(b.end));
        let borrowed = matches!(
            message["code"]["code"].as_str(),
            Some("E0502" | "E0382" | "E0505" | "E0499")
        );
        let left: Vec<usize> = hull
            .filter(|_| borrowed)
            .map_or(Vec::new(), |hull| woven.leaves_within(&hull));
        match at(woven, &range(primary)) {
            _ if !left.is_empty() => found.extend(left),
            Some(numbers) => found.extend(numbers),
            None => unclear.push(message["rendered"].to_string()),
        }
    }
    assert!(
        is_well || !found.is_empty(),
        "the engine with its mutants can't be built:\n{}",
        unclear.join("\n")
    );
    found
}

fn range(span: &serde_json::Value) -> Range<usize> {
    let offset = |key| usize::try_from(span[key].as_u64().unwrap_or(0)).unwrap_or(0);
    offset("byte_start")..offset("byte_end")
}

/// The mutants of the smallest place around this one.
fn at(woven: &Woven, range: &Range<usize>) -> Option<Vec<usize>> {
    let around = woven.places.iter().filter(|(place, numbers)| {
        place.start <= range.start && range.end <= place.end && !numbers.is_empty()
    });
    let smallest = around.min_by_key(|(place, _)| place.len());
    smallest.map(|(_, numbers)| numbers.clone())
}

fn programs(place: &Path) -> Vec<(String, PathBuf)> {
    let (messages, is_well) = cargo(place, &["test", "--no-run"]);
    let errors = messages
        .iter()
        .filter(|message| message["message"]["level"] == "error");
    let errors: Vec<_> = errors
        .map(|message| message["message"]["rendered"].to_string())
        .collect();
    assert!(is_well, "the tests can't be built:\n{}", errors.join("\n"));
    let built: BTreeMap<String, PathBuf> = messages
        .iter()
        .filter_map(|message| {
            let path = message["executable"].as_str()?;
            Some((message["target"]["name"].as_str()?.to_owned(), path.into()))
        })
        .collect();
    TESTS
        .iter()
        .map(|name| ((*name).to_owned(), built[*name].clone()))
        .collect()
}

/// Runs cargo there, and gives what it says, and whether it succeeded.
fn cargo(place: &Path, words: &[&str]) -> (Vec<serde_json::Value>, bool) {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(words)
        .args(["--quiet", "--offline", "--message-format=json"])
        .current_dir(place)
        .env("CARGO_TARGET_DIR", place.join("target"))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .expect("cargo can be run");
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    (messages.collect(), output.status.success())
}

/// The files of a folder, by name.
pub(crate) fn files(folder: &Path) -> BTreeMap<String, String> {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let texts = paths.filter_map(|path| {
        let name = path.file_name()?.to_string_lossy().into_owned();
        Some((name, fs::read_to_string(&path).ok()?))
    });
    texts.collect()
}

/// Makes a folder the same as another one.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder for tests");
    let wanted = files(from);
    for name in files(to).keys().filter(|name| !wanted.contains_key(*name)) {
        fs::remove_file(to.join(name)).expect("an old file can be removed");
    }
    for (name, text) in wanted {
        write(&to.join(name), &text);
    }
}

/// Writes a file, unless it is so already: what is not touched is not compiled again.
fn write(path: &Path, text: &str) {
    if fs::read_to_string(path).is_ok_and(|known| known == text) {
        return;
    }
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder can be made");
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
