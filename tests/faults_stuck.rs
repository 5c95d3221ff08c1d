//! Processes that can't end although they are killed: frozen ones, ones in an uninterruptible
//! sleep, ones that a tracer holds. And those that only look so.

#[path = "common/plight.rs"]
mod plight;
#[path = "common/sandbox.rs"]
mod sandbox;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use plight::{Guarded, assert_idle, nap};
use sandbox::{Sandbox, is_alive, python, quoted, signal, wait_until};
use serde_json::{Value, json};

/// The state letter of a process, none if there is none any more.
fn letter(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.trim_start().chars().next()
}

fn is_gone(pid: i32) -> bool {
    letter(pid).is_none()
}

fn service(sandbox: &Sandbox, name: &str, exec: &str, more: &str) {
    let lifecycle = format!("[lifecycle]\nrestart = \"never\"\n{more}");
    let body = format!("exec = {}\nstatus = \"stop\"\n{lifecycle}", quoted(exec));
    sandbox.service(name, &body);
}

/// Another service goes its way: it starts, dies, is started anew, stops.
fn others_go_on(sandbox: &Sandbox) {
    let mut connection = sandbox.connect();
    sandbox.done("service.start", "other");
    let pid = sandbox.pid("other");
    signal(pid, Signal::SIGKILL);
    sandbox.wait_other_pid("other", pid);
    sandbox.done("service.stop", "other");
    assert_eq!(sandbox.state("other"), "exited");
    connection.ask("system.ping", Value::Null).unwrap();
}

fn other(sandbox: &Sandbox) {
    let more = "[lifecycle]\nrestart_delay_ms = 10\nmax_restarts = 0";
    let exec = quoted("exec sleep 1000");
    sandbox.service(
        "other",
        &format!("exec = {exec}\nstatus = \"stop\"\n{more}"),
    );
    nap(sandbox);
}

/// A stop that must fail, because what is killed does not end.
fn is_given_up(sandbox: &Sandbox, name: &str) {
    let (_, message, _) = sandbox.not_done("service.stop", name);
    assert!(message.contains("timeout"), "{name}: {message}");
    let status = sandbox.status(name);
    assert_eq!(status["state"], "failed", "{status}");
    assert_eq!(status["error"], "stop timeout", "{status}");
    let told = sandbox.log();
    let sentence = format!("{name}: failed: its processes (");
    let line = told.lines().find(|line| line.contains(&sentence));
    assert!(
        line.is_some_and(|line| line.ends_with(") can't be killed")),
        "{told}"
    );
}

// Stopped and frozen.

#[test]
fn a_tree_with_stopped_members_stops_politely() {
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    // SIGTERM has them say so, which they can only when they go on.
    let child = |name: &str, how: &str| {
        format!(
            "{how} sh -c 'trap \"echo {name} >> $DIR/ended; exit 0\" TERM; kill -STOP $$; \
             while :; do sleep 1000 & wait; done' & echo $! >> $DIR/pids;"
        )
    };
    let exec = format!(
        "trap 'echo main >> $DIR/ended; exit 0' TERM; {} {} {} {} kill -STOP $$; \
         while :; do sleep 1000 & wait; done",
        child("near", ""),
        child("far", "setsid"),
        child("bare", "env -i DIR=$DIR"),
        child("both", "env -i DIR=$DIR setsid"),
    );
    service(&sandbox, "stopped", &exec, "stop_timeout_ms = 600000");
    sandbox.start();
    for round in 1..=3 {
        sandbox.done("service.start", "stopped");
        let main = sandbox.pid("stopped");
        assert!(
            wait_until(|| letter(main) == Some('T')),
            "{}",
            sandbox.log()
        );
        let pids: Vec<i32> = sandbox
            .lines("pids")
            .iter()
            .map(|pid| pid.parse().unwrap())
            .collect();
        assert_eq!(pids.len(), 4 * round);
        let last = &pids[4 * (round - 1)..];
        for pid in last {
            assert!(wait_until(|| letter(*pid) == Some('T')));
        }
        sandbox.done("service.stop", "stopped");
        assert_eq!(sandbox.state("stopped"), "exited");
        let mut ended = sandbox.lines("ended").split_off(5 * (round - 1));
        ended.sort();
        assert_eq!(ended, ["bare", "both", "far", "main", "near"]);
        assert!(last.iter().all(|pid| !is_alive(*pid)));
    }
    sandbox.stop();
}

#[test]
fn who_stops_itself_again_and_again_is_killed() {
    let mut sandbox = Sandbox::new();
    let exec = "trap 'kill -STOP $$' TERM CONT; echo up; while :; do kill -STOP $$; done";
    service(&sandbox, "stubborn", exec, "stop_timeout_ms = 300");
    sandbox.start();
    sandbox.done("service.start", "stubborn");
    let main = sandbox.pid("stubborn");
    sandbox.wait_output("stubborn", "up");
    assert!(wait_until(|| letter(main) == Some('T')));
    sandbox.done("service.stop", "stubborn");
    assert!(is_gone(main));
    sandbox.stop();
}

/// Where a kind of control group file system is mounted, by a word of its options or its kind.
fn hierarchy(word: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mut mounts = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>());
    let is_it = |words: &Vec<&str>| words[2] == word || words[3].split(',').any(|one| one == word);
    let found = mounts.find(|words| words[2].starts_with("cgroup") && is_it(words))?;
    Some(PathBuf::from(found[1]))
}

/// A cgroup of the old freezer, thawed and removed in the end.
struct Freezer(PathBuf);

impl Freezer {
    fn new(name: &str) -> Option<Self> {
        let dir = hierarchy("freezer")?.join(format!("zinit-test-{}-{name}", std::process::id()));
        fs::create_dir(&dir).ok()?;
        Some(Self(dir))
    }

    fn take(&self, pid: i32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }

    fn set(&self, state: &str) {
        let file = self.0.join("freezer.state");
        let is_set = || fs::read_to_string(&file).is_ok_and(|text| text.trim() == state);
        assert!(wait_until(|| {
            fs::write(&file, state).unwrap();
            is_set()
        }));
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("freezer.state"), "THAWED");
        wait_until(|| fs::remove_dir(&self.0).is_ok());
    }
}

#[test]
fn a_process_in_the_old_freezer_is_given_up_and_comes_right_when_it_thaws() {
    let Some(freezer) = Freezer::new("one") else {
        println!("SKIPPED: no freezer of version 1 of control groups");
        return;
    };
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    service(&sandbox, "main", "exec sleep 1000", "stop_timeout_ms = 100");
    let exec = "( setsid sh -c 'echo $$ > $DIR/left; exec sleep 1000' & ); exec sleep 1000";
    service(&sandbox, "left", exec, "stop_timeout_ms = 100");
    other(&sandbox);
    sandbox.start();
    sandbox.done("service.start", "main");
    sandbox.done("service.start", "left");
    let frozen = [sandbox.pid("main"), sandbox.wait_pid_file("left")];
    frozen.iter().for_each(|pid| freezer.take(*pid));
    freezer.set("FROZEN");
    // Both at once, and others meanwhile.
    let mut waiting = sandbox.connect();
    let id = waiting.begin("service.stop", json!({"name": "left", "wait": true}));
    others_go_on(&sandbox);
    is_given_up(&sandbox, "main");
    waiting.finish(id).expect_err("it can't be stopped");
    is_given_up(&sandbox, "left");
    assert!(frozen.iter().all(|pid| is_alive(*pid)));
    assert_idle(&sandbox);
    others_go_on(&sandbox);
    freezer.set("THAWED");
    for pid in frozen {
        assert!(wait_until(|| is_gone(pid)), "{pid} {:?}", letter(pid));
    }
    assert_idle(&sandbox);
    for name in ["main", "left"] {
        sandbox.done("service.start", name);
        sandbox.done("service.stop", name);
        assert_eq!(sandbox.state(name), "exited");
    }
    sandbox.stop();
}

/// Version 2 lets the frozen be killed; and what starts next is not frozen with them.
#[test]
fn a_service_whose_cgroup_is_frozen_is_killed_and_started_again() {
    let mut sandbox = Sandbox::new();
    let exec = "sleep 1000 & echo up; wait";
    service(&sandbox, "cold", exec, "stop_timeout_ms = 200");
    service(&sandbox, "colder", exec, "stop_timeout_ms = 200");
    other(&sandbox);
    sandbox.start();
    sandbox.done("service.start", "cold");
    sandbox.wait_output("cold", "up");
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", sandbox.pid("cold"))).unwrap();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    let group = hierarchy("cgroup2").and_then(|mount| Some(mount.join(own?)));
    let Some(freeze) = group.map(|group| group.join("cgroup.freeze")) else {
        println!("SKIPPED: no version 2 of control groups");
        return;
    };
    if !freeze
        .to_str()
        .unwrap()
        .ends_with("service-cold/cgroup.freeze")
    {
        println!("SKIPPED: services have no cgroups here");
        return;
    }
    for _ in 0..3 {
        fs::write(&freeze, "1").unwrap();
        others_go_on(&sandbox);
        sandbox.done("service.stop", "cold");
        assert_eq!(sandbox.state("cold"), "exited");
        sandbox.done("service.start", "cold");
        sandbox.wait_output("cold", "up");
    }
    // Frozen when there was nobody in it.
    sandbox.done("service.stop", "cold");
    fs::write(&freeze, "1").unwrap();
    sandbox.done("service.start", "cold");
    sandbox.done("service.restart", "cold");
    sandbox.stop();
}

// In the kernel's hands.

/// A file system whose files are never read to their end (`/dev/fuse`, kernel doc
/// `filesystems/fuse/fuse.rst`). It says when it has taken a read, and answers none.
const HANGING: &str = r#"
import ctypes, os, struct, sys
place, said = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
options = "fd=%d,rootmode=40000,user_id=0,group_id=0" % fuse
if libc.mount(b"zinit-test", place.encode(), b"fuse", 0, options.encode()) != 0:
    raise OSError(ctypes.get_errno(), "mount")
said = open(said, "a", buffering=1)
said.write("ready\n")

def attributes(node):
    mode = 0o40755 if node == 1 else 0o100755
    return struct.pack("<6Q10I", node, 4096, 8, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

while True:
    try:
        request = os.read(fuse, 1 << 20)
    except OSError as error:
        if error.errno == 19:
            break
        continue
    _, code, unique, node = struct.unpack_from("<IIQQ", request)
    body, wrong = b"", 0
    if code == 1:
        name = request[40:].rstrip(b"\0")
        node = 2 + sum(name)
        body = struct.pack("<4Q2I", node, 0, 1000, 1000, 0, 0) + attributes(node)
    elif code == 3:
        body = struct.pack("<QII", 1000, 0, 0) + attributes(node)
    elif code in (14, 27):
        body = struct.pack("<QII", 1, 0, 0)
    elif code == 15:
        said.write("taken\n")
        continue
    elif code in (2, 36, 42):
        continue
    elif code == 26:
        body = struct.pack("<IIIIHHII", 7, 31, 0, 0, 12, 9, 65536, 1).ljust(64, b"\0")
    elif code not in (18, 25, 29):
        wrong = -38
    os.write(fuse, struct.pack("<IiQ", 16 + len(body), wrong, unique) + body)
"#;

/// Waits for a page of such a file.
const MAPS: &str = "import mmap, os, sys; \
    m = mmap.mmap(os.open(sys.argv[1], os.O_RDONLY), 4096, prot=mmap.PROT_READ); print(m[0])";

/// The file system, its mounts seen by itself and by whoever enters.
struct Hanging {
    daemon: Guarded,
    said: PathBuf,
    dir: String,
}

impl Hanging {
    /// None if there can be none. The sandbox's server is in its mounts then.
    fn new(sandbox: &mut Sandbox) -> Option<Self> {
        let python = python().filter(|_| Path::new("/dev/fuse").exists())?;
        let said = sandbox.path("fuse.said");
        let dir = sandbox.text("mnt");
        fs::create_dir(&dir).unwrap();
        fs::write(sandbox.path("fuse.py"), HANGING).unwrap();
        let daemon = Command::new("unshare")
            .arg("-m")
            .arg(&python)
            .args([&sandbox.path("fuse.py"), Path::new(&dir), &said])
            .stdin(Stdio::null())
            .spawn()
            .ok()?;
        let mut hanging = Self {
            daemon: Guarded(daemon),
            said,
            dir,
        };
        let mut ended = false;
        assert!(wait_until(|| {
            ended = hanging.daemon.0.try_wait().unwrap().is_some();
            ended || hanging.says("ready") == 1
        }));
        if ended {
            return None;
        }
        let pid = hanging.daemon.pid().to_string();
        sandbox.wrap(&["nsenter", "-m", "-t", &pid, "--"]);
        sandbox.env("DIR", &sandbox.text(""));
        sandbox.env("MNT", &hanging.dir);
        sandbox.env("PYTHON", python.to_str().unwrap());
        Some(hanging)
    }

    fn says(&self, word: &str) -> usize {
        let said = fs::read_to_string(&self.said).unwrap_or_default();
        said.lines().filter(|line| *line == word).count()
    }

    fn has_taken(&self, count: usize) {
        assert!(
            wait_until(|| self.says("taken") >= count),
            "{}",
            self.says("taken")
        );
    }
}

/// Services that wait for such a file, and the numbers of who waits.
const STUCK: [(&str, &str); 4] = [
    ("main", "echo $$ > $DIR/main; exec cat $MNT/a"),
    ("child", "cat $MNT/b & echo $! > $DIR/child; wait"),
    (
        "left",
        "( setsid sh -c 'echo $$ > $DIR/left; exec cat $MNT/c' & ); exec sleep 1000",
    ),
    (
        "fault",
        "( setsid sh -c 'echo $$ > $DIR/fault; exec $PYTHON $DIR/maps.py $MNT/d' & ); \
         exec sleep 1000",
    ),
];

fn stuck(more: &str) -> Option<(Sandbox, Hanging, Vec<i32>)> {
    let mut sandbox = Sandbox::new();
    let Some(hanging) = Hanging::new(&mut sandbox) else {
        println!("SKIPPED: no FUSE, no mount namespace or no Python");
        return None;
    };
    fs::write(sandbox.path("maps.py"), MAPS).unwrap();
    for (name, exec) in STUCK {
        service(
            &sandbox,
            name,
            exec,
            &format!("stop_timeout_ms = 100\n{more}"),
        );
    }
    other(&sandbox);
    sandbox.start();
    for (name, _) in STUCK {
        sandbox.done("service.start", name);
    }
    let pids = STUCK.map(|(name, _)| sandbox.wait_pid_file(name)).to_vec();
    hanging.has_taken(STUCK.len());
    Some((sandbox, hanging, pids))
}

#[test]
fn a_process_that_sleeps_uninterruptibly_is_given_up_and_holds_up_nobody() {
    let Some((mut sandbox, mut hanging, pids)) = stuck("") else {
        return;
    };
    let mut waiting: Vec<_> = STUCK.map(|(name, _)| (name, sandbox.connect())).into();
    for (name, connection) in &mut waiting {
        connection.begin("service.stop", json!({"name": name, "wait": true}));
    }
    others_go_on(&sandbox);
    for (name, connection) in &mut waiting {
        connection.finish(1).expect_err(name);
        is_given_up(&sandbox, name);
    }
    assert!(pids.iter().all(|pid| letter(*pid) == Some('D')));
    assert_idle(&sandbox);
    others_go_on(&sandbox);
    // What they wait for fails at last, and they end by the signal that they have had.
    hanging.daemon.end();
    for pid in pids {
        assert!(wait_until(|| is_gone(pid)), "{pid} {:?}", letter(pid));
    }
    assert_idle(&sandbox);
    sandbox.done("service.start", "main");
    sandbox.await_goal("main", "stopped").unwrap();
    assert_eq!(
        sandbox.status("main")["exit_code"],
        1,
        "{}",
        sandbox.status("main")
    );
    sandbox.stop();
}

#[test]
fn a_server_whose_services_sleep_uninterruptibly_ends_and_another_starts() {
    let Some((mut sandbox, mut hanging, pids)) = stuck("") else {
        return;
    };
    // One hangs before it is its program even.
    for (name, file) in [("program", "e"), ("second-program", "f")] {
        let exec = format!("{}/{file}", hanging.dir);
        let more = "stop_timeout_ms = 100\nstart_timeout_ms = 600000";
        service(&sandbox, name, &exec, more);
    }
    let told = |name: &str| {
        format!(
            "trap 'echo {name} >> $DIR/down; exit 0' TERM; echo up; while :; do sleep 1000 & wait; done"
        )
    };
    sandbox.runs("below", &told("below"));
    let above = format!(
        "exec = {}\n[dependencies]\nrequires = [\"below\"]",
        quoted(&told("above"))
    );
    sandbox.service("above", &above);
    sandbox.ask("service.reload", Value::Null);
    sandbox.ask("service.start", json!({"name": "program"}));
    hanging.has_taken(STUCK.len() + 1);
    let mut pids = pids;
    pids.push(sandbox.pid("program"));
    for name in ["below", "above"] {
        sandbox.await_running(name);
        sandbox.wait_output(name, "up");
    }
    sandbox.signal_server(Signal::SIGTERM);
    assert_eq!(sandbox.server_end().code(), Some(0), "{}", sandbox.log());
    assert_eq!(sandbox.lines("down"), ["above", "below"]);
    assert!(pids.iter().all(|pid| is_alive(*pid)), "{}", sandbox.log());
    // They hold nothing that the next server needs.
    sandbox.start();
    others_go_on(&sandbox);
    assert_idle(&sandbox);
    // Nor of one that was killed while a child was on its way to its program.
    sandbox.ask("service.start", json!({"name": "second-program"}));
    hanging.has_taken(STUCK.len() + 2);
    pids.push(sandbox.pid("second-program"));
    sandbox.kill_server();
    sandbox.start();
    others_go_on(&sandbox);
    hanging.daemon.end();
    for pid in pids {
        assert!(wait_until(|| !is_alive(pid)), "{pid} {:?}", letter(pid));
    }
    sandbox.stop();
}
