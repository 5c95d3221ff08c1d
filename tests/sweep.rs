//! Two sweeps over the real server. In the first each system call that it makes on a short day fails
//! once, in the server or in a child that is not its program yet: nothing may be lost, hang, spin or
//! end without a word. In the second the kernel lacks a whole facility.
//!
//! `make sweep` tries all; here each kind of call is tried a few times. To try one case again:
//! `CASE="openat:services ENOMEM 2" cargo test --test sweep one_case -- --nocapture`.

#[path = "sweep/calls.rs"]
mod calls;
#[path = "sweep/case.rs"]
mod case;
#[path = "sweep/lack.rs"]
mod lack;
#[allow(dead_code, reason = "not all of it is used here")]
#[path = "common/rng.rs"]
mod rng;
#[path = "common/sandbox.rs"]
mod sandbox;
#[path = "sweep/scenario.rs"]
mod scenario;
#[path = "sweep/trap.rs"]
mod trap;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use case::{Case, Counts, Outcome, count_calls, run};
use rng::Rng;
use sandbox::{Sandbox, is_alive, wait_until};
use scenario::Day;

/// Cases at once.
const WORKERS: usize = 2;

/// Of calls that are made more often about the same thing, so many at the begin, at the end, and
/// between them are tried, and all of them by `make sweep`. The first one fails with each error, the
/// others with one after the other.
const AT_BEGIN: usize = 2;
const AT_END: usize = 1;
const BETWEEN: usize = 3;

/// Errors that a call may fail with once.
const ERRORS: &[&str] = &["ENOMEM", "EMFILE", "EAGAIN", "EIO", "EINTR"];

/// Cases that found something, and are tried each time.
#[rustfmt::skip]
const BROKE_ONCE: &[&str] = &[
    // It said what failed, but not with what; or left its files.
    "epoll_ctl:anon_inode:[signalfd] ENOMEM 1",
    "ftruncate:sock.lock EIO 1",
    "pwrite64:sock.lock EIO 1",
    "prlimit64: EINTR 2",
    "ioctl:5421h_socket:[N] ENOMEM 1",
    "listen:socket:[N] EIO 1",
    "statx:sock.lock EIO 2",
    "fcntl:406h_anon_inode:[eventpoll] EMFILE 1",
    "flock:sock.lock EINTR 1",
    // It ended, and left its services to nobody.
    "epoll_wait: ENOMEM 19",
    "timerfd_settime: ENOMEM 4",
    // Lines were kept from their file for half a minute, and lost without a word if it ended before.
    "clone: ENOMEM 1",
    "socketpair: EIO 1",
    // A socket was not watched, and its service not started by a connection.
    "epoll_ctl:socket:[N] EAGAIN 2",
    // An orphan was taken for gone.
    "openat:/proc/N/stat EMFILE 20",
    // The dead were not looked for before the next one died.
    "waitid: EIO 5",
    "read:anon_inode:[signalfd] EIO 3",
    // What a program wrote was taken to be at its end.
    "read:pipe:[N] EIO 3",
];

/// Can calls be heard here?
fn is_possible() -> bool {
    let command = &mut std::process::Command::new("true");
    match trap::spawn_heard(command, &trap::Ears::These(vec![]), |_| None) {
        Ok((mut child, listener)) => {
            child.wait().is_ok_and(|status| status.success()) && listener.join().is_ok()
        }
        Err(error) => {
            println!("SKIPPED: system calls can't be heard here: {error}");
            false
        }
    }
}

/// Cases of each kind of call: every one that is made, or some.
fn cases(counts: &Counts, is_every: bool) -> Vec<Case> {
    let mut random = Rng::new(1);
    let mut cases = Vec::new();
    for ((is_childs, name, about), count) in counts {
        let mut places: BTreeSet<usize> = (1..=*count).collect();
        if !is_every && *count > AT_BEGIN + BETWEEN + AT_END {
            places.retain(|place| *place <= AT_BEGIN || *place > count - AT_END);
            for _ in 0..BETWEEN {
                let bound = count - AT_BEGIN - AT_END;
                places.insert(AT_BEGIN + 1 + usize::try_from(random.below(bound as u64)).unwrap());
            }
        }
        let errors = ERRORS
            .iter()
            .filter(|errno| calls::is_tried(name, about, errno));
        let errors: Vec<_> = errors.copied().collect();
        for (turn, place) in places.into_iter().enumerate() {
            let of_turn = |(at, _): &(usize, &&str)| turn == 0 || *at == turn % errors.len();
            let tried = errors.iter().enumerate().filter(of_turn);
            cases.extend(tried.map(|(_, errno)| Case {
                is_childs: *is_childs,
                name: name.clone(),
                about: Some(about.clone()),
                errno,
                place,
            }));
        }
    }
    cases
}

/// Some of them: each kind of call with two of its errors, about one thing or another.
fn some_cases(all: &[Case], seed: u64) -> Vec<Case> {
    let mut random = Rng::new(seed);
    let mut of: BTreeMap<(bool, &str), Vec<&Case>> = BTreeMap::new();
    for case in all {
        of.entry((case.is_childs, &case.name))
            .or_default()
            .push(case);
    }
    let mut some = BTreeSet::new();
    for cases in of.values() {
        for _ in 0..2 {
            some.insert((*random.pick(cases)).clone());
        }
    }
    some.into_iter().collect()
}

/// Has some workers do a piece of work each at a time, until all is done; gives what came of it.
fn shared_out<T: Sync, R: Send>(all: &[T], work: impl Fn(&T) -> Option<R> + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<R>> = Mutex::default();
    let worker = || {
        while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.lock().unwrap().extend(work(one));
        }
    };
    std::thread::scope(|scope| (0..WORKERS).for_each(|_| drop(scope.spawn(worker))));
    done.into_inner().unwrap()
}

/// Runs cases and tells of each that went wrong; prints the table of all, if it is a long sweep.
fn sweep(cases: &[Case], is_long: bool) {
    let count = AtomicUsize::new(0);
    let outcomes = shared_out(cases, |case| {
        let place = count.fetch_add(1, Ordering::Relaxed);
        if is_long && place.is_multiple_of(100) {
            println!("{place} of {}", cases.len());
        }
        let outcome = case::catch(|| run(case)).unwrap_or_else(|text| {
            let (hit, log) = (None, String::new());
            Outcome {
                hit,
                day: Err(text),
                log,
            }
        });
        if let Err(text) = &outcome.day {
            println!(
                "WRONG: CASE=\"{case}\" in {}: {text}",
                outcome.hit.unwrap_or("no step")
            );
        }
        Some((case.clone(), outcome))
    });
    if is_long {
        table(&outcomes);
    }
    let wrong = outcomes.iter().filter(|(_, outcome)| outcome.day.is_err());
    let wrong: Vec<String> = wrong.map(|(case, _)| format!("CASE=\"{case}\"")).collect();
    assert!(
        wrong.is_empty(),
        "{} of {} cases:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    let hit = outcomes
        .iter()
        .filter(|(_, outcome)| outcome.hit.is_some())
        .count();
    assert!(
        hit * 10 >= cases.len() * 8,
        "only {hit} of {} calls were made",
        cases.len()
    );
}

/// Prints what came of all, by kind of call and error.
fn table(outcomes: &[(Case, Outcome)]) {
    let mut rows: BTreeMap<(bool, &str, &str), BTreeMap<String, usize>> = BTreeMap::new();
    let mut sentences: BTreeMap<String, usize> = BTreeMap::new();
    for (case, outcome) in outcomes {
        let what = match (&outcome.day, outcome.hit) {
            (Err(_), _) => "WRONG".to_owned(),
            (Ok(_), None) => "not made".to_owned(),
            (Ok(Day::Unnoticed), _) => "nobody noticed".to_owned(),
            (Ok(Day::AgainIn(step)), _) => format!("{step} tried again"),
            (Ok(Day::NotStarted(told)), _) => {
                *sentences
                    .entry(format!("{}: {told}", case.name))
                    .or_default() += 1;
                "did not start, and said why".to_owned()
            }
        };
        let row = rows
            .entry((case.is_childs, &case.name, case.errno))
            .or_default();
        *row.entry(what).or_default() += 1;
    }
    for ((is_childs, name, errno), row) in rows {
        let total: usize = row.values().sum();
        let told: Vec<_> = row
            .iter()
            .map(|(what, count)| format!("{what} {count}"))
            .collect();
        let whose = if is_childs { "child" } else { "server" };
        println!(
            "{whose:6} {name:18} {errno:7} {total:4}  {}",
            told.join(", ")
        );
    }
    for (sentence, count) in sentences {
        println!("{count:4} {sentence}");
    }
}

#[test]
fn a_call_that_fails_once_loses_nothing() {
    if !is_possible() {
        return;
    }
    let counts = count_calls().unwrap();
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    sweep(
        &some_cases(&cases(&counts, false), seed.unwrap_or(1)),
        false,
    );
}

#[test]
fn what_broke_once_does_not_break_again() {
    if !is_possible() {
        return;
    }
    let cases: Vec<Case> = BROKE_ONCE
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
    sweep(&cases, false);
}

#[test]
#[ignore = "takes many minutes: make sweep"]
fn every_call_that_fails_once_loses_nothing() {
    if !is_possible() {
        return;
    }
    let counts = count_calls().unwrap();
    let only = std::env::var("ONLY").ok();
    let mut cases = cases(&counts, true);
    cases.retain(|case| {
        only.as_ref()
            .is_none_or(|only| case.to_string().contains(only))
    });
    println!("{} cases", cases.len());
    sweep(&cases, true);
}

/// What is missing as a whole is done without, or named in one sentence before anything is begun.
#[test]
fn what_the_kernel_lacks_is_done_without_or_told() {
    if !is_possible() {
        return;
    }
    let only = std::env::var("LACK").unwrap_or_default();
    let calls = lack::CALLS
        .iter()
        .filter(|(name, ..)| calls::number(name).is_some());
    let calls = calls.flat_map(|call| ["ENOSYS", "EPERM"].map(|errno| (call, errno)));
    let calls: Vec<_> = calls.filter(|(call, _)| call.0.contains(&*only)).collect();
    let wrong = shared_out(&calls, |((name, first, expected), errno)| {
        let day = case::catch(|| lack::without_call(name, *first, errno));
        let what = format!(
            "{name} {} always {errno}",
            first.map_or(String::new(), |n| n.to_string())
        );
        println!("{what}: {day:?}");
        (!lack::is_as_expected(*expected, &day))
            .then(|| format!("{what}: {expected:?}, but {day:?}"))
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The same for file systems.
#[test]
fn what_is_not_mounted_is_done_without_or_told() {
    let mut can = std::process::Command::new("unshare");
    let can = can
        .args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"])
        .output();
    if !can.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: nothing can be mounted here");
        return;
    }
    let wrong = shared_out(lack::PLACES, |(place, expected)| {
        let day = case::catch(|| lack::without_place(place));
        println!("without {place}: {day:?}");
        (!lack::is_as_expected(*expected, &day))
            .then(|| format!("{place}: {expected:?}, but {day:?}"))
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A server that was killed leaves a service that only the ledger beside its socket knows. The next
/// start fails, and forgets nothing: the one after that ends it.
#[test]
fn a_start_that_fails_leaves_what_it_did_not_do_to_the_next() {
    let mut sandbox = Sandbox::new();
    sandbox.service("plain", "exec = [\"env\", \"-i\", \"sleep\", \"1000\"]");
    sandbox.start();
    sandbox.await_running("plain");
    let pid = sandbox.pid("plain");
    sandbox.kill_server();
    let (dir, aside) = (sandbox.services_dir(), sandbox.path("aside"));
    std::fs::rename(&dir, &aside).unwrap();
    std::fs::write(&dir, "no directory").unwrap();
    let output = scenario::command(&sandbox).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", sandbox.log());
    assert!(is_alive(pid), "nobody has looked at it yet");
    std::fs::remove_file(&dir).unwrap();
    std::fs::rename(&aside, &dir).unwrap();
    sandbox.start();
    assert!(wait_until(|| !is_alive(pid)), "{}", sandbox.log());
    sandbox.stop();
}

/// A server that ends removes its ledger when the next one has opened it and is about to lock it.
/// What is locked is the file that the one after that finds, and so it learns what is left.
#[test]
fn a_ledger_that_goes_before_it_is_locked_is_made_anew() {
    if !is_possible() {
        return;
    }
    let mut sandbox = Sandbox::new();
    sandbox.service("plain", "exec = [\"env\", \"-i\", \"sleep\", \"1000\"]");
    let lock = sandbox.path("sock.lock");
    let tries = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tries);
    let flock = calls::number("flock").unwrap();
    let mut command = scenario::command(&sandbox);
    let started = trap::spawn_heard(&mut command, &trap::Ears::These(vec![flock]), move |_| {
        if count.fetch_add(1, Ordering::SeqCst) == 0 {
            std::fs::remove_file(&lock).expect("it is there");
        }
        None
    });
    let (child, listener) = started.unwrap();
    sandbox.adopt(child);
    assert_eq!(tries.load(Ordering::SeqCst), 2, "locked anew");
    sandbox.await_running("plain");
    let pid = sandbox.pid("plain");
    sandbox.kill_server();
    sandbox.start();
    assert!(wait_until(|| !is_alive(pid)), "{}", sandbox.log());
    sandbox.await_running("plain");
    sandbox.stop();
    listener.join().unwrap();
}

/// Without pidfds, what a killed server left has its time to end all the same.
#[test]
fn what_is_left_has_its_time_on_a_kernel_without_pidfds() {
    if !is_possible() {
        return;
    }
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    // The pipes of its output have gone with the server, and its shell tells of ended children.
    let script = "exec > /dev/null 2>&1; trap 'sleep 0.2; echo so > $DIR/saved; exit 0' TERM; \
                  echo so >> $DIR/up; while :; do sleep 0.01; done";
    sandbox.runs("web", script);
    sandbox.start();
    sandbox.wait_file("up");
    sandbox.kill_server();
    let denied = trap::Denied {
        number: calls::number("pidfd_open").unwrap(),
        first: None,
        errno: nix::libc::ENOSYS,
    };
    let mut command = scenario::command(&sandbox);
    sandbox.adopt(trap::spawn_denied(&mut command, &[denied]).unwrap());
    let again = wait_until(|| sandbox.lines("up").len() == 2);
    assert!(again, "{}", sandbox.log());
    assert_eq!(sandbox.lines("saved"), ["so"]);
    sandbox.stop();
}

/// The case that the environment names.
#[test]
fn one_case() {
    let Ok(text) = std::env::var("CASE") else {
        return;
    };
    let case: Case = text.parse().unwrap();
    let outcome = run(&case).unwrap();
    println!(
        "{}\n{case} in {:?}: {:?}",
        outcome.log, outcome.hit, outcome.day
    );
    assert!(outcome.day.is_ok());
}
