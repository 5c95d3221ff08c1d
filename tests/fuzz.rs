//! All that reads texts and bytes of others, with inputs that nobody thought of.
//!
//! `cargo test` runs what is kept in `tests/fuzz/TARGET` and some thousand fresh inputs, the same
//! each time. `make fuzz` goes on for as long as it is told, with another seed each time.

#[path = "common/fuzz.rs"]
mod fuzz;
#[path = "common/fuzz_client.rs"]
mod fuzz_client;
#[path = "common/fuzz_config.rs"]
mod fuzz_config;
#[path = "common/fuzz_rpc.rs"]
mod fuzz_rpc;
#[path = "common/fuzz_text.rs"]
mod fuzz_text;
#[path = "common/rng.rs"]
mod rng;

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use fuzz::{Counting, Mill, Target, Watchdog, execute, folder, hash_of, kept, place, shrunk};

#[global_allocator]
static MEMORY: Counting = Counting;

const TARGETS: [&Target; 9] = [
    &fuzz_config::SERVICE,
    &fuzz_config::ACCESS,
    &fuzz_config::WORDS,
    &fuzz_text::LINES,
    &fuzz_text::PROC,
    &fuzz_text::ARGS,
    &fuzz_text::HTTP,
    &fuzz_rpc::RPC,
    &fuzz_client::CLIENT,
];

/// Fresh inputs of a target in `cargo test`, and their longest.
const FRESH: usize = 20_000;
const FRESH_BYTES: usize = 4096;

/// The longest input of `make fuzz`: a little more than a file or a request may have.
const MOST_BYTES: usize = (1 << 20) + 4096;

/// Runs what is kept, then what is fresh.
fn replay(target: &Target) {
    let watchdog = Watchdog::over(target, true);
    for (path, input) in kept(target.name) {
        if let Err(broken) = execute(target, &input, &watchdog) {
            panic!("{}: {broken}", path.display());
        }
    }
    let mut mill = Mill::new(target, 1, FRESH_BYTES);
    for seed in mill.seeds() {
        learn(target, &mut mill, &seed, &watchdog);
    }
    for _ in 0..FRESH {
        let input = mill.input();
        learn(target, &mut mill, &input, &watchdog);
    }
    // Whoever always sees the same looks at nothing.
    assert!(mill.kinds() >= 10, "{} kinds of results", mill.kinds());
}

fn learn(target: &Target, mill: &mut Mill<'_>, input: &[u8], watchdog: &Watchdog) {
    match execute(target, input, watchdog) {
        Ok(ran) => drop(mill.learn(input, ran.marks)),
        Err(broken) => panic!("{}", report(target, input, &broken, watchdog)),
    }
}

/// Makes an input small, keeps it, and says how to run it again.
fn report(target: &Target, input: &[u8], broken: &str, watchdog: &Watchdog) -> String {
    let mut still = |input: &[u8]| {
        execute(target, input, watchdog).is_err_and(|other| place(&other) == place(broken))
    };
    let small = shrunk(input, &mut still, 5000);
    let path = keep(target, &small);
    format!("{}: {broken}\n{}", target.name, how(&path))
}

fn keep(target: &Target, input: &[u8]) -> PathBuf {
    let path = folder(target.name).join(format!("found-{:016x}", hash_of(input)));
    std::fs::create_dir_all(folder(target.name)).expect("a folder");
    std::fs::write(&path, input).expect("a file");
    path
}

fn how(path: &Path) -> String {
    let name = path.display();
    format!("kept as {name}; again: FUZZ_ONE={name} cargo test --test fuzz -- --ignored one")
}

#[test]
fn service_files() {
    replay(&fuzz_config::SERVICE);
}

#[test]
fn access_files() {
    replay(&fuzz_config::ACCESS);
}

#[test]
fn words_of_files() {
    replay(&fuzz_config::WORDS);
}

#[test]
fn lines_of_programs_and_the_kernel() {
    replay(&fuzz_text::LINES);
}

#[test]
fn tables_of_proc() {
    replay(&fuzz_text::PROC);
}

#[test]
fn command_lines() {
    replay(&fuzz_text::ARGS);
}

#[test]
fn answers_to_probes() {
    replay(&fuzz_text::HTTP);
}

#[test]
fn requests() {
    replay(&fuzz_rpc::RPC);
}

#[test]
fn replies_of_a_hostile_server() {
    replay(&fuzz_client::CLIENT);
}

/// A harness that finds nothing anywhere is none.
#[test]
fn planted_bugs_are_found_and_made_small() {
    fn run(input: &[u8], marks: &mut fuzz::Marks) {
        marks.see(input.first());
        let text = String::from_utf8_lossy(input);
        assert!(!text.contains("bug("), "a bug");
        if text.contains("big(") {
            drop(vec![1_u8; 1 << 20]);
        }
    }
    let planted = Target {
        name: "planted",
        words: || vec!["bug(".to_owned(), "big(".to_owned(), "x".to_owned()],
        seeds: || vec![b"some text".to_vec()],
        make: |_| Vec::new(),
        run,
        memory: (1 << 16, 16),
    };
    let watchdog = Watchdog::over(&planted, false);
    let mut mill = Mill::new(&planted, 1, 1000);
    let mut found = BTreeSet::new();
    for _ in 0..2000 {
        let input = mill.input();
        match execute(&planted, &input, &watchdog) {
            Ok(ran) => drop(mill.learn(&input, ran.marks)),
            Err(broken) => {
                let mut still = |input: &[u8]| {
                    let other = execute(&planted, input, &watchdog);
                    other.is_err_and(|other| place(&other) == place(&broken))
                };
                found.insert(shrunk(&input, &mut still, 1000));
            }
        }
    }
    let found: Vec<String> = found
        .iter()
        .map(|input| String::from_utf8_lossy(input).into_owned())
        .collect();
    assert_eq!(found, ["big(", "bug("]);
}

// `make fuzz`.

/// Runs the input in the file that `FUZZ_ONE` names.
#[test]
#[ignore = "for one input"]
fn one() {
    let Some(path) = std::env::var_os("FUZZ_ONE").map(PathBuf::from) else {
        return println!("SKIPPED: FUZZ_ONE names no file");
    };
    let folder = path.parent().and_then(Path::file_name);
    let target = TARGETS
        .iter()
        .find(|target| folder == Some(target.name.as_ref()));
    let target = target.expect("a file in the folder of a target");
    let input = std::fs::read(&path).expect("the input");
    let result = execute(target, &input, &Watchdog::over(target, false));
    let ran = result.unwrap_or_else(|broken| panic!("{broken}"));
    let (path, took, most) = (path.display(), ran.took, ran.most);
    println!("{path}: fine, {took:?} of the processor, {most} bytes of memory");
}

/// Goes on for `MINUTES` with `TARGET`, or all in turns.
#[test]
#[ignore = "goes on for as long as it is told"]
fn hunt() {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let minutes: f64 = variable("MINUTES").parse().unwrap_or(5.0);
    let wanted = variable("TARGET");
    let is_wanted = |target: &&&Target| matches!(&*wanted, "" | "all") || wanted == target.name;
    let targets: Vec<_> = TARGETS.iter().filter(is_wanted).collect();
    let names = TARGETS.map(|target| target.name).join(", ");
    assert!(
        !targets.is_empty(),
        "there is no target '{wanted}', but {names}"
    );
    let share = Duration::from_secs_f64(minutes * 60.0).div_f64(targets.len() as f64);
    let seed = variable("SEED").parse().unwrap_or_else(|_| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(0, |now| now.as_secs())
    });
    println!("seed {seed}");
    let mut found = 0;
    for target in targets {
        std::fs::create_dir_all(folder(target.name)).expect("a folder");
        found += if std::env::var_os("FUZZ_WORKER").is_some() {
            dig(target, seed, share)
        } else {
            supervise(target, seed, share)
        };
    }
    if std::env::var_os("FUZZ_WORKER").is_some() {
        // Whoever sent it tells the rest.
        std::process::exit(i32::from(found > 0));
    }
    assert_eq!(
        found, 0,
        "inputs were found that break something, see above"
    );
}

/// Digs in a process of its own, as a full stack or memory can't be caught.
fn supervise(target: &Target, seed: u64, share: Duration) -> usize {
    let end = Instant::now() + share;
    let mut found = 0;
    for again in 0..5 {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let before: BTreeSet<_> = kept(target.name)
            .into_iter()
            .map(|(path, _)| path)
            .collect();
        let minutes = (left.as_secs_f64() / 60.0).to_string();
        let seed = (seed + again).to_string();
        let status = child(
            "hunt",
            &[
                ("FUZZ_WORKER", "1"),
                ("TARGET", target.name),
                ("SEED", &seed),
                ("MINUTES", &minutes),
            ],
            false,
        );
        if status.signal().is_none() {
            return found + usize::from(!status.success());
        }
        found += 1;
        let mut files = kept(target.name);
        files.retain(|(path, _)| !before.contains(path));
        for (path, input) in files {
            let probe = folder(target.name).join("found-probe");
            let mut still = |input: &[u8]| {
                std::fs::write(&probe, input).expect("a file");
                let path = probe.to_string_lossy();
                child("one", &[("FUZZ_ONE", &path)], true).signal() == status.signal()
            };
            if still(&input) {
                let small = shrunk(&input, &mut still, 300);
                std::fs::remove_file(&path).expect("a file");
                println!("{}: {status}\n{}", target.name, how(&keep(target, &small)));
            }
            let _ = std::fs::remove_file(&probe);
        }
    }
    found
}

fn child(test: &str, variables: &[(&str, &str)], quiet: bool) -> ExitStatus {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--ignored", "--exact", "--nocapture", test]);
    command.envs(variables.iter().copied());
    if quiet {
        command.stdout(std::process::Stdio::null());
        command.stderr(std::process::Stdio::null());
    }
    command.status().expect("this program runs")
}

/// Runs a target for so long. How much was found that breaks it, each place once.
fn dig(target: &Target, seed: u64, share: Duration) -> usize {
    let watchdog = Watchdog::over(target, true);
    let mut mill = Mill::new(target, seed, FRESH_BYTES);
    let (begun, begun_cpu) = (Instant::now(), fuzz::cpu_time());
    let mut places = BTreeSet::new();
    let mut runs = 0_u64;
    let mut todo = mill.seeds();
    while begun.elapsed() < share {
        // Long ones take long, so there are few of them.
        mill.reach(match runs % 1000 {
            0 => MOST_BYTES,
            1..=20 => 1 << 16,
            _ => FRESH_BYTES,
        });
        let input = todo.pop().unwrap_or_else(|| mill.input());
        runs += 1;
        match execute(target, &input, &watchdog) {
            Ok(ran) => drop(mill.learn(&input, ran.marks)),
            Err(broken) => {
                if places.insert(place(&broken).to_owned()) {
                    println!("{}", report(target, &input, &broken, &watchdog));
                }
            }
        }
    }
    let cpu = (fuzz::cpu_time() - begun_cpu).as_secs_f64();
    println!(
        "{}: {runs} runs in {:.0} s ({:.0} a second of processor time), {} kinds of results, {} found",
        target.name,
        begun.elapsed().as_secs_f64(),
        runs as f64 / cpu.max(0.001),
        mill.kinds(),
        places.len()
    );
    places.len()
}
