//! Mutation testing of the engine: breaks it in every small way and sees that a test notices.
//!
//! All mutants are compiled into one crate below `target/mutants`, and each is chosen at run time; so
//! there are a few builds and not thousands. A mutant is killed when a test fails with it, or takes
//! far longer than without. Those that may survive are listed in `tests/mutants.txt`, each with the
//! reason; it is a failure when another one does, or when one of those does not any more.
//!
//! `mutants [FILE]…` from the top of the project. `SEEDS=` simulated histories for each mutant,
//! `JOBS=` mutants at a time; `AGAIN=1` tries only those that survived the last time.

mod craft;
mod find;
mod known;
mod weave;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use craft::{Craft, craft};
use find::Mutant;
use known::{Known, names};

/// What became of a mutant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// A test failed, of this program.
    Killed(usize),
    /// A test did not end, of this program.
    TimedOut(usize),
    /// No test noticed; none of them came by, even.
    Unmet,
    /// No test noticed.
    Survived,
    /// It is no program.
    Unviable,
}

/// A test program, how long it takes, and which mutants it comes by.
struct Program {
    name: String,
    path: PathBuf,
    takes: Duration,
    meets: BTreeSet<usize>,
}

/// All that is known before mutants are tried.
struct Lab {
    craft: Craft,
    /// As `tests/mutants.txt` calls them.
    names: Vec<String>,
    programs: Vec<Program>,
    known: Known,
    /// Those that are tried.
    wanted: Vec<usize>,
}

fn main() -> ExitCode {
    let begin = Instant::now();
    let top = std::env::current_dir().expect("a folder");
    let folder = top.join("target/mutants");
    let craft = craft(&top, &folder.join("crate"));
    let found = craft.programs.iter();
    let programs = found
        .map(|(name, path)| meet(&folder, name, path))
        .collect();
    let names = names(&craft.mutants);
    let files: Vec<String> = std::env::args().skip(1).collect();
    let again = std::env::var("AGAIN").is_ok_and(|again| !again.is_empty());
    let last = std::fs::read_to_string(folder.join("survivors")).unwrap_or_default();
    let last: BTreeSet<&str> = last
        .lines()
        .filter(|name| names.iter().any(|known| known == name))
        .collect();
    let is_wanted = |number: &usize| {
        (files.is_empty() || files.contains(&craft.mutants[*number].file))
            && (!again || last.contains(&*names[*number]))
    };
    let wanted: Vec<usize> = (0..names.len()).filter(is_wanted).collect();
    let known = Known::read(&top.join("tests/mutants.txt"));
    println!(
        "{} mutants to try, after {:.0?}",
        wanted.len(),
        begin.elapsed()
    );
    let lab = Lab {
        craft,
        names,
        programs,
        known,
        wanted,
    };
    let fates = lab.try_all();
    let fine = lab.report(&fates);
    let mut left: BTreeSet<&str> = last;
    for (number, fate) in &fates {
        let name = &*lab.names[*number];
        match survives(*fate) {
            true => left.insert(name),
            false => left.remove(name),
        };
    }
    let left: String = left
        .into_iter()
        .map(|name| name.to_owned() + "\n")
        .collect();
    std::fs::write(folder.join("survivors"), left).expect("a list can be written");
    println!("{:.0?}", begin.elapsed());
    if fine {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn survives(fate: Fate) -> bool {
    matches!(fate, Fate::Survived | Fate::Unmet)
}

/// A run of a test program, which is killed after that many seconds, or with so much memory.
fn run(program: &Path, seconds: u64) -> Command {
    let limits = "ulimit -v 4000000; exec timeout -s KILL \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command
        .args(["-c", limits])
        .arg(seconds.to_string())
        .arg(program)
        // It takes most of the time, and is about the depth of the stack.
        .args([
            "--test-threads=1",
            "--skip",
            "a_chain_of_a_hundred_thousand",
        ])
        .env("SEEDS", std::env::var("SEEDS").unwrap_or("60".to_owned()))
        .env("OPERATIONS", "100000")
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Runs a program without any mutant: to see which it comes by, and how long it takes.
fn meet(folder: &Path, name: &str, path: &Path) -> Program {
    let met = folder.join(format!("met-{name}"));
    let _ = std::fs::remove_file(&met);
    let begin = Instant::now();
    let status = run(path, 600).env("MUTANTS_MET", &met).status();
    assert!(
        status.expect("a test can be run").success(),
        "without any mutant, {name} fails"
    );
    let takes = begin.elapsed();
    let list = std::fs::read_to_string(&met).unwrap_or_default();
    let meets: BTreeSet<usize> = list.lines().filter_map(|line| line.parse().ok()).collect();
    println!(
        "{name} comes by {} mutants, and takes {takes:.1?}",
        meets.len()
    );
    Program {
        name: name.to_owned(),
        path: path.to_owned(),
        takes,
        meets,
    }
}

impl Lab {
    fn try_all(&self) -> BTreeMap<usize, Fate> {
        let next = Mutex::new(self.wanted.iter());
        let fates = Mutex::new(BTreeMap::new());
        let jobs = std::env::var("JOBS")
            .ok()
            .and_then(|jobs| jobs.parse().ok());
        let work = || {
            loop {
                let Some(number) = next.lock().expect("a number").next() else {
                    return;
                };
                let fate = self.try_one(*number);
                if survives(fate) && !self.known.explains(&self.names[*number]) {
                    println!("{}", self.survivor(*number, fate));
                }
                fates.lock().expect("a place").insert(*number, fate);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..jobs.unwrap_or(2) {
                scope.spawn(work);
            }
        });
        fates.into_inner().expect("fates")
    }

    fn try_one(&self, number: usize) -> Fate {
        if self.craft.refused.contains(&number) {
            return Fate::Unviable;
        }
        let mut fate = Fate::Unmet;
        for (at, program) in self.programs.iter().enumerate() {
            if !program.meets.contains(&number) {
                continue;
            }
            fate = Fate::Survived;
            let takes = program.takes.as_secs() + 1;
            // On a machine that has much to do, one that is slow is not one that does not end.
            for most in [3 + 4 * takes, 6 + 10 * takes] {
                let status = run(&program.path, most)
                    .env("MUTANT", number.to_string())
                    .status();
                match status.expect("a test can be run").code() {
                    Some(0) => fate = Fate::Survived,
                    // `timeout` ended it, and with SIGKILL itself too.
                    Some(124 | 137) | None => {
                        fate = Fate::TimedOut(at);
                        continue;
                    }
                    Some(_) => return Fate::Killed(at),
                }
                break;
            }
            if fate == Fate::TimedOut(at) {
                return fate;
            }
        }
        fate
    }

    fn survivor(&self, number: usize, fate: Fate) -> String {
        let Mutant {
            file,
            line,
            within,
            change,
        } = &self.craft.mutants[number];
        let unmet = if fate == Fate::Unmet {
            " (no test comes by)"
        } else {
            ""
        };
        format!("survives: {file}:{line}: {within}: {change}{unmet}")
    }

    /// Says what came of it; is all as it should be?
    fn report(&self, fates: &BTreeMap<usize, Fate>) -> bool {
        let count = |is: &dyn Fn(Fate) -> bool| fates.values().filter(|fate| is(**fate)).count();
        for (at, program) in self.programs.iter().enumerate() {
            let by = |fate| matches!(fate, Fate::Killed(by) | Fate::TimedOut(by) if by == at);
            println!("{} killed by {}", count(&by), program.name);
        }
        let killed = count(&|fate| matches!(fate, Fate::Killed(_)));
        let late = count(&|fate| matches!(fate, Fate::TimedOut(_)));
        let survived = count(&survives);
        let unviable = count(&|fate| fate == Fate::Unviable);
        let left = fates.iter().filter(|(_, fate)| survives(**fate));
        let survivors: BTreeSet<&String> = left.map(|(number, _)| &self.names[*number]).collect();
        let explained = survivors
            .iter()
            .filter(|name| self.known.explains(name))
            .count();
        let tried: BTreeSet<&String> = fates.keys().map(|number| &self.names[*number]).collect();
        let mut stale = 0;
        for name in self.known.names().filter(|name| !survivors.contains(name)) {
            let what = match (tried.contains(name), self.names.contains(name)) {
                (true, _) => "is killed",
                (false, true) => continue,
                (false, false) => "is no mutant any more",
            };
            stale += 1;
            println!("listed in tests/mutants.txt, but {what}: {name}");
        }
        let viable = killed + late + survived;
        let percent = |part: usize, all: usize| 100.0 * part as f64 / all.max(1) as f64;
        println!(
            "{viable} mutants: {killed} killed, {late} timed out, {survived} survived, \
             {explained} of them explained; {unviable} more do not compile"
        );
        println!(
            "score: {:.1} %, and {:.1} % of those that are not explained",
            percent(killed + late, viable),
            percent(killed + late, viable - explained)
        );
        survived == explained && stale == 0
    }
}
