//! Too many at once: fork bombs, thousands of dead children, storms of signals.

#[path = "common/plight.rs"]
mod plight;
#[path = "common/sandbox.rs"]
mod sandbox;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use plight::{Guarded, NO_CGROUPS, assert_idle, in_mounts, is_root, nap, works};
use sandbox::{Sandbox, is_alive, python, quoted, signal, stat_field, wait_until};
use serde_json::{Value, json};

// Bombs.

/// Where the users begin that nobody else is: each bomb has one, whose processes are counted.
const FIRST_UID: u32 = 64_200;

/// What a bomb that grows may have at a time, and what one may that does not: there the dead ones
/// count that are still to be collected.
const MOST_PROCESSES: u32 = 40;
const MOST_DEAD: u32 = 400;

/// Bombs that a shell can throw; the rest of each is endless.
const BOMBS: &[(&str, &str)] = &[
    // More and more of them.
    ("grows", "b() { b & b & wait; b; }; b"),
    // Whoever has forked ends at once, so that each is an orphan, and none lives for long.
    ("hops", "b() { b & exit; }; b"),
    ("hops-deaf", "trap '' TERM INT HUP; b() { b & exit; }; b"),
    // Each in a session of its own.
    ("sessions", "exec setsid -f sh $DIR/sessions.sh"),
    // Each under a parent that has ended, with no mark and no output.
    (
        "bare",
        "( exec env -i DIR=$DIR setsid sh $DIR/bare.sh & ) > /dev/null 2>&1 < /dev/null & exit",
    ),
];

/// One that is quicker than a shell: each is an orphan in a session of its own, and may have wiped
/// its environment.
const QUICK: &str = r#"
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if sys.argv[2] == "bare":
    os.execve(sys.executable, [sys.executable, sys.argv[0], sys.argv[1], "still"], {})
while True:
    try:
        if os.fork() == 0:
            os.setsid()
            if sys.argv[1] == "grows":
                os.fork()
            continue
    except OSError:
        pass
    if sys.argv[1] == "hops":
        os._exit(0)
"#;

const QUICK_BOMBS: &[(&str, &str)] = &[
    ("quick-grows", "grows marked"),
    ("quick-hops", "hops marked"),
    ("quick-grows-bare", "grows bare"),
    ("quick-hops-bare", "hops bare"),
];

/// The living processes of a user, as far as one look finds them.
fn processes_of(uid: u32) -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers
        .filter(|pid| fs::metadata(format!("/proc/{pid}")).is_ok_and(|meta| meta.uid() == uid))
        .collect()
}

/// Has a user any living process? One that hops may not be there in one look, but is in many.
fn is_anybody(uid: u32) -> bool {
    (0..30).any(|_| processes_of(uid).into_iter().any(is_alive))
}

/// Kills all processes of a user for good, the way that no fork gets round: as that user, all at once.
struct Bombers(Vec<u32>);

impl Drop for Bombers {
    fn drop(&mut self) {
        for uid in &self.0 {
            let id = uid.to_string();
            wait_until(|| {
                works(&["setpriv", "--reuid", &id, "sh", "-c", "kill -KILL -1"]);
                !is_anybody(*uid)
            });
        }
    }
}

fn bombs(sandbox: &mut Sandbox, first_uid: u32) -> Option<(Vec<(String, u32)>, Bombers)> {
    if !is_root() {
        println!("SKIPPED: only root can throw bombs as somebody else");
        return None;
    }
    sandbox.env("DIR", &sandbox.text(""));
    let mut all: Vec<(String, String)> = Vec::new();
    for (name, script) in BOMBS {
        fs::write(sandbox.path(&format!("{name}.sh")), script).unwrap();
        all.push(((*name).to_owned(), format!("exec sh $DIR/{name}.sh")));
    }
    let uid = first_uid.to_string();
    let system = Some(PathBuf::from("/usr/bin/python3"));
    let may_run = |python: &PathBuf| {
        let tried = format!("exec {} -c ''", python.display());
        works(&["setpriv", "--reuid", &uid, "sh", "-c", &tried])
    };
    if let Some(python) = [python(), system].into_iter().flatten().find(may_run) {
        fs::write(sandbox.path("quick.py"), QUICK).unwrap();
        for (name, how) in QUICK_BOMBS {
            let exec = format!("exec {} $DIR/quick.py {how}", python.display());
            all.push(((*name).to_owned(), exec));
        }
    }
    let mut users = Vec::new();
    for ((name, exec), uid) in all.into_iter().zip(first_uid..) {
        let most = if name.contains("grows") {
            MOST_PROCESSES
        } else {
            MOST_DEAD
        };
        // Beside a main process that stays, so that it is stopped while it runs.
        let exec = format!("({exec}) & echo thrown; exec sleep 100000");
        let body = format!(
            "exec = {}\nstatus = \"stop\"\nuser = \"{uid}\"\n[lifecycle]\nrestart = \"never\"\n\
             stop_timeout_ms = 200\n[limits]\nnproc = {most}",
            quoted(&exec)
        );
        sandbox.service(&name, &body);
        users.push((name, uid));
    }
    let uids = users.iter().map(|(_, uid)| *uid).collect();
    Some((users, Bombers(uids)))
}

/// Without cgroups these have no tie to their service that could be known.
fn is_untied(name: &str) -> bool {
    name.ends_with("bare")
}

fn bombs_are_ended(sandbox: &mut Sandbox, first_uid: u32, has_cgroups: bool) {
    let Some((users, bombers)) = bombs(sandbox, first_uid) else {
        return;
    };
    nap(sandbox);
    sandbox.runs("other", "exec sleep 1000");
    sandbox.start();
    for (name, uid) in &users {
        sandbox.done("service.start", name);
        // It has come off, and others are served meanwhile.
        let main = sandbox.pid(name);
        let mut seen = std::collections::BTreeSet::new();
        let throws = wait_until(|| {
            seen.extend(processes_of(*uid));
            seen.len() > 10
        });
        assert!(throws, "{name}: {seen:?}\n{}", sandbox.log());
        sandbox.done("service.restart", "other");
        assert!(is_alive(main), "{name}");
        sandbox.done("service.stop", name);
        assert_eq!(sandbox.state(name), "exited", "{name}");
        let may_be_left = is_untied(name) && !has_cgroups;
        assert!(
            may_be_left || !is_anybody(*uid),
            "{name}
{}",
            sandbox.log()
        );
    }
    if has_cgroups {
        assert_idle(sandbox);
    }
    // The end of the server is their end, too; also of those that were left.
    let (name, _) = users.last().unwrap();
    sandbox.done("service.start", name);
    sandbox.wait_output(name, "thrown");
    sandbox.signal_server(Signal::SIGTERM);
    assert_eq!(sandbox.server_end().code(), Some(0), "{}", sandbox.log());
    for (name, uid) in &users {
        assert!(!is_anybody(*uid), "{name}\n{}", sandbox.log());
    }
    drop(bombers);
}

#[test]
fn a_stop_ends_all_of_a_fork_bomb() {
    let mut sandbox = Sandbox::new();
    bombs_are_ended(&mut sandbox, FIRST_UID, true);
}

#[test]
fn a_stop_ends_all_of_a_fork_bomb_without_cgroups() {
    if !works(&["unshare", "-m", "true"]) {
        println!("SKIPPED: no mount namespace");
        return;
    }
    let mut sandbox = Sandbox::new();
    in_mounts(&mut sandbox, NO_CGROUPS);
    bombs_are_ended(&mut sandbox, FIRST_UID + 20, false);
}

// The dead.

const CROWD: usize = 10_000;

/// Ten parents with a thousand children each, all of whom wait for one word. `$1` is what a parent
/// does when it has them.
fn crowd(then: &str) -> String {
    let per_parent = CROWD / 10;
    format!(
        "mkfifo $DIR/word; for p in 0 1 2 3 4 5 6 7 8 9; do ( i=0; while [ $i -lt {per_parent} ]; do \
           ( read -r word < $DIR/word ) & i=$((i + 1)); done; echo $p >> $DIR/there; {then} ) & done; \
         while :; do sleep 1000 & wait $!; done"
    )
}

fn crowded(then: &str) -> Sandbox {
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    let exec = quoted(&crowd(then));
    let more = "[lifecycle]\nrestart = \"never\"\nstop_timeout_ms = 60000";
    sandbox.service("crowd", &format!("exec = {exec}\n{more}"));
    let quick = "[lifecycle]\nrestart = \"always\"\nrestart_delay_ms = 10\n\
                 restart_delay_max_ms = 10\nmax_restarts = 0";
    let blinks = "exec = \"echo >> $DIR/blinks; exit 7\"";
    sandbox.service("blinks", &format!("{blinks}\n{quick}"));
    sandbox.runs("other", "exec sleep 1000");
    nap(&sandbox);
    sandbox.start();
    assert!(
        wait_until(|| sandbox.lines("there").len() == 10),
        "{}",
        sandbox.log()
    );
    sandbox
}

/// Children of the server, zombies included.
fn children(sandbox: &Sandbox) -> usize {
    let server = sandbox.server_pid();
    let list = fs::read_to_string(format!("/proc/{server}/task/{server}/children")).unwrap();
    list.split_whitespace().count()
}

/// Others are served, and ends of real services are seen, until the crowd is collected.
fn is_collected(sandbox: &Sandbox) {
    let before = sandbox.lines("blinks").len();
    let main = sandbox.pid("other");
    signal(main, Signal::SIGKILL);
    sandbox.wait_other_pid("other", main);
    assert!(
        wait_until(|| children(sandbox) < 10),
        "{}",
        children(sandbox)
    );
    assert!(wait_until(|| sandbox.lines("blinks").len() > before + 3));
    assert_idle(sandbox);
}

#[test]
fn ten_thousand_orphans_that_end_together_are_collected() {
    let sandbox = crowded("exit");
    assert!(
        wait_until(|| children(&sandbox) >= CROWD),
        "{}",
        children(&sandbox)
    );
    // All of them have their word when whoever says it has gone.
    assert!(works(&["sh", "-c", ": > \"$0\"", &sandbox.text("word")]));
    is_collected(&sandbox);
    assert_eq!(sandbox.state("crowd"), "running");
    sandbox.done("service.stop", "crowd");
}

#[test]
fn ten_thousand_that_lose_their_parents_together_are_stopped() {
    let sandbox = crowded("wait");
    assert!(children(&sandbox) < 10);
    let main = sandbox.pid("crowd");
    signal(main, Signal::SIGKILL);
    sandbox.await_goal("crowd", "stopped").unwrap();
    is_collected(&sandbox);
    // It comes and goes.
    sandbox.done("service.stop", "blinks");
    assert_eq!(sandbox.pids_of_services().len(), 1);
}

// Signals.

/// Sends one signal as fast as it can.
const SHOUTS: &str = "import os, sys\n\
    while True: os.kill(int(sys.argv[1]), int(sys.argv[2]))";

fn shout(pid: i32, number: Signal) -> Option<Guarded> {
    let child = Command::new(python()?)
        .args(["-c", SHOUTS, &pid.to_string(), &(number as i32).to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    Some(Guarded(child))
}

#[test]
fn storms_of_signals_hold_up_nobody() {
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    sandbox.runs("other", "exec sleep 1000");
    nap(&sandbox);
    sandbox.start();
    sandbox.await_running("other");
    for number in [Signal::SIGCHLD, Signal::SIGHUP] {
        let server = sandbox.server_pid();
        let Some(first) = shout(server, number) else {
            println!("SKIPPED: no Python");
            return;
        };
        let shouters = [Some(first), shout(server, number), shout(server, number)];
        for _ in 0..5 {
            let main = sandbox.pid("other");
            signal(main, Signal::SIGKILL);
            sandbox.wait_other_pid("other", main);
            sandbox.done("service.restart", "other");
        }
        assert!(shouters.iter().flatten().all(|one| is_alive(one.pid())));
        drop(shouters);
        assert_idle(&sandbox);
    }
    // One who wants it to end, and says so more than once.
    let server = sandbox.server_pid();
    let shouters = [
        shout(server, Signal::SIGTERM),
        shout(server, Signal::SIGHUP),
    ];
    assert_eq!(sandbox.server_end().code(), Some(0), "{}", sandbox.log());
    sandbox.assert_nothing_left();
    drop(shouters);
}

#[test]
fn a_service_that_shouts_at_the_server_is_stopped_like_any_other() {
    let Some(python) = python() else {
        println!("SKIPPED: no Python");
        return;
    };
    let mut sandbox = Sandbox::new();
    fs::write(sandbox.path("shouts.py"), SHOUTS).unwrap();
    sandbox.env("DIR", &sandbox.text(""));
    let exec = format!(
        "for i in 1 2 3; do {} $DIR/shouts.py $PPID 17 & done; echo up; wait",
        python.display()
    );
    sandbox.runs("shouts", &exec);
    nap(&sandbox);
    sandbox.start();
    sandbox.wait_output("shouts", "up");
    let shouters = sandbox.ask("service.children", json!({"name": "shouts"}));
    let shouters = shouters["children"].as_array().unwrap();
    assert_eq!(shouters.len(), 3, "{shouters:?}");
    let pid = i32::try_from(shouters[0]["pid"].as_i64().unwrap()).unwrap();
    assert_eq!(stat_field(pid, 4), Some(sandbox.pid("shouts")));
    sandbox.ask("system.ping", Value::Null);
    sandbox.done("service.stop", "shouts");
    assert!(!is_alive(pid));
    assert_idle(&sandbox);
    sandbox.stop();
}
