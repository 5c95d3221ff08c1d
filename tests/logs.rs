//! Where output goes beside the ring: files, other logs, and those who follow. And instances, whose
//! names are in it.

#[path = "common/meter.rs"]
mod meter;
#[path = "common/sandbox.rs"]
mod sandbox;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use meter::Tracer;
use nix::sys::signal::Signal;
use sandbox::{PATIENCE, Sandbox, quoted, signal, wait_until};
use serde_json::{Value, json};

/// The number that each line of these files ends with.
fn numbers(dir: &Path, name: &str, most: u32) -> Vec<u32> {
    let old = (1..=most).rev().map(|number| format!("{name}.{number}"));
    let files = old.chain([name.to_owned()]);
    let texts = files.filter_map(|file| fs::read_to_string(dir.join(file)).ok());
    texts
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect()
}

#[test]
fn a_rotated_file_loses_no_line() {
    let mut sandbox = Sandbox::new();
    let log = sandbox.text("log");
    let exec = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; exec sleep 1000";
    let body = format!(
        "exec = {}\n[logging]\nfile = {}\nmax_size = \"32K\"\nmax_files = 100\nmode = \"0600\"",
        quoted(exec),
        quoted(&log)
    );
    sandbox.service("writer", &body);
    sandbox.start();
    let found = || numbers(sandbox.dir(), "log", 100);
    assert!(wait_until(|| found().len() == 20_000), "{}", found().len());
    assert!(found().into_iter().eq(0..20_000));
    let meta = fs::metadata(&log).unwrap();
    let mode = std::os::unix::fs::MetadataExt::mode(&meta) & 0o777;
    assert_eq!((mode, meta.len() <= 32 << 10), (0o600, true));
    assert!(sandbox.path("log.20").exists());
    // Who renames it himself finds a new one.
    fs::rename(&log, sandbox.path("taken")).unwrap();
    sandbox.done("service.restart", "writer");
    assert!(wait_until(|| Path::new(&log).exists()));
}

/// What a server ends with is in the file too.
#[test]
fn the_last_words_are_in_the_file() {
    let mut sandbox = Sandbox::new();
    let log = sandbox.text("log");
    let exec = "trap 'echo last words; exit 0' TERM; echo first; while :; do sleep 0.01; done";
    let file = format!("[logging]\nfile = {}", quoted(&log));
    sandbox.service("talker", &format!("exec = {}\n{file}", quoted(exec)));
    sandbox.start();
    sandbox.await_running("talker");
    let text = || fs::read_to_string(&log).unwrap_or_default();
    assert!(wait_until(|| text().contains("stdout first\n")));
    sandbox.stop();
    assert!(text().ends_with("Z stdout last words\n"), "{}", text());
}

/// Asks for a while, and gives the longest that an answer took.
fn slowest_answer(sandbox: &Sandbox, rounds: usize) -> Duration {
    let mut slowest = Duration::ZERO;
    for _ in 0..rounds {
        let asked = Instant::now();
        sandbox.ask("system.ping", Value::Null);
        slowest = slowest.max(asked.elapsed());
    }
    slowest
}

/// A file system of one mebibyte, gone with the value.
struct Tmpfs(String);

impl Tmpfs {
    fn mount(at: &str) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs", at])
            .status();
        let done = mount.is_ok_and(|status| status.success());
        done.then(|| Self(at.to_owned()))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", &self.0]).status();
    }
}

#[test]
fn a_full_disk_holds_up_neither_the_server_nor_the_service() {
    let mut sandbox = Sandbox::new();
    let Some(disk) = Tmpfs::mount(&sandbox.text("disk")) else {
        return println!("skipped: no file system can be mounted here");
    };
    let log = format!("{}/log", disk.0);
    let file = format!("[logging]\nfile = {}", quoted(&log));
    let line = "x".repeat(99);
    sandbox.service("loud", &format!("exec = [\"yes\", \"{line}\"]\n{file}"));
    sandbox.runs("quiet", "echo here; exec sleep 1000");
    sandbox.start();
    let is_full = || fs::metadata(&log).is_ok_and(|meta| meta.len() >= 900 << 10);
    assert!(wait_until(is_full));
    assert!(wait_until(|| sandbox
        .log()
        .contains("No space left on device")));
    assert!(wait_until(|| sandbox.log().contains("lines are dropped")));
    let before = written(&sandbox, "loud");
    println!("slowest answer: {:?}", slowest_answer(&sandbox, 200));
    assert!(wait_until(|| written(&sandbox, "loud") > before + (8 << 20)));
    let rate = rate(&sandbox, "loud");
    println!("it writes {} MB/s meanwhile", rate / 1_000_000);
    // With room again, the file says how much is missing.
    fs::write(&log, "").unwrap();
    let counted = || fs::read(&log).is_ok_and(|text| holds(&text, b" lines lost\n"));
    let made_room = || {
        let full = is_full() && !counted();
        full.then(|| fs::write(&log, "").unwrap());
        counted()
    };
    assert!(wait_until(made_room), "{}", sandbox.log());
    sandbox.done("service.stop", "loud");
    assert_eq!(sandbox.state("quiet"), "running");
    sandbox.stop();
}

fn holds(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|found| found == part)
}

/// Bytes that the main process of a service has written.
fn written(sandbox: &Sandbox, name: &str) -> u64 {
    let pid = sandbox.pid(name);
    let text = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("wchar: "));
    line.and_then(|count| count.parse().ok()).unwrap_or(0)
}

fn rate(sandbox: &Sandbox, name: &str) -> u64 {
    let (begin, before) = (Instant::now(), written(sandbox, name));
    assert!(wait_until(|| written(sandbox, name) > before + (32 << 20)));
    let bytes = written(sandbox, name) - before;
    let ms = u64::try_from(begin.elapsed().as_millis()).unwrap().max(1);
    bytes / ms * 1000
}

/// The writer does not go on: that is how a disk that hangs looks.
#[test]
fn a_writer_that_hangs_is_replaced() {
    let mut sandbox = Sandbox::new();
    let log = |name: &str| sandbox.text(&format!("{name}.log"));
    let (one, two) = (log("one"), log("two"));
    let exec = quoted("while :; do echo tick; sleep 0.02; done");
    for (name, log) in [("one", &one), ("two", &two)] {
        let body = format!("exec = {exec}\n[logging]\nfile = {}", quoted(log));
        sandbox.service(name, &body);
    }
    sandbox.start();
    let size = |log: &str| fs::metadata(log).map_or(0, |meta| meta.len());
    assert!(wait_until(|| size(&one) > 0 && size(&two) > 0));
    let writers = |sandbox: &Sandbox| -> Vec<i32> {
        let mut all: Vec<i32> = sandbox.pids_of_services().into_iter().collect();
        all.retain(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm"));
            name.is_ok_and(|name| name == "zinit-log\n")
        });
        all
    };
    let first = writers(&sandbox);
    assert_eq!(first.len(), 1);
    signal(first[0], Signal::SIGSTOP);
    println!("slowest answer: {:?}", slowest_answer(&sandbox, 300));
    assert!(wait_until(|| sandbox.log().contains("its disk hangs")));
    let (before_one, before_two) = (size(&one), size(&two));
    assert!(wait_until(
        || size(&one) > before_one && size(&two) > before_two
    ));
    let second = writers(&sandbox);
    assert!(second.len() == 1 && second != first, "{second:?}");
    sandbox.stop();
}

/// A connection that follows.
fn follow(sandbox: &Sandbox, method: &str, params: Value) -> BufReader<UnixStream> {
    let mut stream = UnixStream::connect(sandbox.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    stream.write_all(format!("{request}\n").as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let answer = next(&mut reader);
    assert_eq!(
        answer,
        json!({"jsonrpc": "2.0", "id": 1, "result": {"ok": true}})
    );
    reader
}

fn next(reader: &mut BufReader<UnixStream>) -> Value {
    let mut line = String::new();
    assert!(reader.read_line(&mut line).expect("a line in time") > 0);
    serde_json::from_str(&line).expect("JSON")
}

#[test]
fn who_follows_misses_nothing_between_past_and_present() {
    let mut sandbox = Sandbox::new();
    let exec = "i=0; while :; do echo $i; i=$((i+1)); done";
    sandbox.runs("counter", exec);
    sandbox.runs("other", "while :; do echo other; sleep 0.01; done");
    sandbox.start();
    sandbox.await_running("counter");
    let params = json!({"names": ["counter"], "lines": 10, "stream": "stdout"});
    let mut reader = follow(&sandbox, "logs.follow", params);
    let mut last: Option<u64> = None;
    let mut lost = 0;
    for _ in 0..5000 {
        let note = next(&mut reader);
        if note["method"] == "logs.gap" {
            // As many lines are missing as it says.
            lost += note["params"]["lost"].as_u64().unwrap();
            continue;
        }
        assert_eq!(note["method"], "logs.line");
        assert_eq!(note["params"]["service"], "counter");
        let number = note["params"]["content"].as_str().unwrap().parse().unwrap();
        if let Some(last) = last {
            assert_eq!(number, last + 1 + std::mem::take(&mut lost));
        }
        last = Some(number);
    }
}

#[test]
fn a_slow_follower_is_told_how_much_it_missed() {
    let mut sandbox = Sandbox::new();
    sandbox.runs("counter", "i=0; while :; do echo $i; i=$((i+1)); done");
    sandbox.start();
    sandbox.await_running("counter");
    let mut reader = follow(&sandbox, "logs.follow", json!({}));
    // It does not read while far more is written than waits for anybody.
    let before = written(&sandbox, "counter");
    assert!(wait_until(
        || written(&sandbox, "counter") > before + (2 << 20)
    ));
    let (mut last, mut lost) = (None, 0);
    loop {
        let note = next(&mut reader);
        if note["method"] == "logs.gap" {
            lost += note["params"]["lost"].as_u64().unwrap();
            continue;
        }
        let number: u64 = note["params"]["content"].as_str().unwrap().parse().unwrap();
        if let Some(last) = last {
            assert_eq!(number, last + 1 + lost);
        }
        if lost > 0 {
            break;
        }
        last = Some(number);
    }
    assert_eq!(sandbox.state("counter"), "running");
}

/// Whatever is written, and however fast: who does not read holds nobody up.
#[test]
fn a_follower_that_never_reads_holds_up_nobody() {
    let mut sandbox = Sandbox::new();
    sandbox.service("loud", "exec = [\"yes\", \"\"]");
    sandbox.start();
    sandbox.await_running("loud");
    let _reader = follow(&sandbox, "logs.follow", json!({}));
    let resident = |sandbox: &Sandbox| {
        let text = fs::read_to_string(format!("/proc/{}/status", sandbox.server_pid())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kb = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kb.unwrap_or(0)
    };
    println!("slowest answer: {:?}", slowest_answer(&sandbox, 50));
    let before = written(&sandbox, "loud");
    assert!(wait_until(|| written(&sandbox, "loud") > before + (4 << 20)));
    assert!(resident(&sandbox) < 40_000, "{} kB", resident(&sandbox));
}

/// A service ends while its file takes nothing: the server has nothing to do, and does nothing.
#[test]
fn a_file_that_takes_nothing_costs_nothing() {
    let mut sandbox = Sandbox::new();
    let body = "exec = [\"timeout\", \"-s\", \"KILL\", \"0.6\", \"yes\"]\n\
                [lifecycle]\nrestart = \"never\"\n[logging]\nfile = \"/dev/full\"";
    sandbox.service("loud", body);
    sandbox.start();
    assert!(wait_until(|| sandbox.state("loud") == "failed"));
    assert!(wait_until(|| sandbox.log().contains("lines are dropped")));
    // A server that spins is hardly ever seen asleep, let alone so often in a row.
    let stat = format!("/proc/{}/stat", sandbox.server_pid());
    let mut in_a_row = 0;
    let is_idle = || {
        let text = fs::read_to_string(&stat).unwrap();
        let sleeps = text
            .rsplit(')')
            .next()
            .unwrap()
            .trim_start()
            .starts_with('S');
        in_a_row = if sleeps { in_a_row + 1 } else { 0 };
        in_a_row > 50
    };
    assert!(wait_until(is_idle));
    sandbox.stop();
}

/// The same while the service lives and waits for its file, in a container, whose own output takes
/// all there is.
#[test]
fn a_file_that_takes_nothing_costs_nothing_in_a_container() {
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    sandbox.wrap(&["sh", "-c", "shift; exec \"$0\" init --container \"$@\""]);
    let exec = "echo here; while ! test -e $DIR/go; do sleep 0.02; done; \
                yes $(printf %0200d 0) | head -c 600000; exec sleep 1000";
    let file = "[logging]\nfile = \"/dev/full\"";
    sandbox.service("loud", &format!("exec = {}\n{file}", quoted(exec)));
    sandbox.start();
    sandbox.wait_output("loud", "here");
    let Some(tracer) = Tracer::attach(sandbox.server_pid(), sandbox.path("calls")) else {
        return;
    };
    fs::write(sandbox.path("go"), "").unwrap();
    let dropped = "lines are dropped";
    assert!(wait_until(|| sandbox.log().contains(dropped)));
    let calls = tracer.detach();
    let polls = ["epoll_wait", "epoll_pwait"].map(|name| calls.0.get(name).unwrap_or(&0));
    let turns: u64 = polls.into_iter().sum();
    assert!(turns < 500, "{turns} turns:\n{}", calls.table(1));
    sandbox.stop();
}

/// What makes a line a long one.
const FILL: &str =
    "a line that is as long as all the others and says nothing, nothing at all but its number:";

/// A service that writes five thousand lines, and no more.
fn bursts(sandbox: &Sandbox, name: &str, logging: &str) {
    let exec =
        format!("i=0; while [ $i -lt 5000 ]; do i=$((i+1)); echo {FILL} $i; done; exec sleep 1000");
    let body = format!("exec = {}\n[logging]\n{logging}", quoted(&exec));
    sandbox.service(name, &body);
}

/// The last line of such a service.
fn last() -> String {
    format!("{FILL} 5000")
}

/// Lines that arrived, and how many are told to be lost.
fn counted(text: &str) -> (usize, usize) {
    let told = text.lines().filter_map(|line| {
        let (before, _) = line.split_once(" lines lost")?;
        before.rsplit(' ').next()?.parse::<usize>().ok()
    });
    let arrived = text.lines().filter(|line| {
        let word = line.rsplit(' ').next().unwrap_or_default();
        word.parse::<u32>().is_ok()
    });
    (arrived.count(), told.sum())
}

/// How many lines were dropped is written when there is room, whether or not another line comes; and
/// in the end, if there is any room by then. Else the log says it.
#[test]
fn what_was_dropped_is_counted_in_the_file_without_another_line() {
    let mut sandbox = Sandbox::new();
    let names = ["soon", "late", "never"];
    let path = |name: &str| sandbox.text(&format!("{name}/log"));
    for name in names {
        let logging = format!("file = {}", quoted(&path(name)));
        bursts(&sandbox, name, &logging);
    }
    sandbox.start();
    for name in names {
        let dropped = format!("{name}/log: too slow; lines are dropped");
        assert!(wait_until(|| sandbox.log().contains(&dropped)));
        sandbox.wait_output(name, &last());
    }
    let file = |name: &str| fs::read_to_string(sandbox.path(name).join("log")).unwrap_or_default();
    fs::create_dir(sandbox.path("soon")).unwrap();
    let is_told = || file("soon").ends_with(" lines lost\n");
    assert!(wait_until(is_told), "{:?}", counted(&file("soon")));
    fs::create_dir(sandbox.path("late")).unwrap();
    sandbox.signal_server(Signal::SIGTERM);
    let log = sandbox.path("server.log");
    let told = || fs::read_to_string(&log).unwrap_or_default();
    let is_over = || told().contains("everything is stopped");
    assert!(wait_until(is_over), "{}", told());
    for name in ["soon", "late"] {
        let (arrived, lost) = counted(&file(name));
        assert!(lost > 0 && arrived + lost == 5000, "{arrived} {lost}");
    }
    let log = told();
    let line = log.lines().find(|line| line.ends_with(" lines are lost"));
    assert!(line.is_some_and(|line| line.contains("never/log: the last ")));
    assert_eq!(sandbox.server_end().code(), Some(0));
}

/// What a receiver gets, until that is enough or nobody sends any more.
fn received(socket: &UnixDatagram, until: impl Fn(&str) -> bool) -> String {
    let (mut text, mut buffer) = (String::new(), [0; 1000]);
    while !until(&text)
        && let Ok(count) = socket.recv(&mut buffer)
    {
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        text.push('\n');
    }
    text
}

#[test]
fn what_a_syslog_had_no_room_for_is_counted_without_another_line() {
    let mut sandbox = Sandbox::new();
    let path = sandbox.text("syslog");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let forward = quoted(&format!("unix:{path}"));
    bursts(&sandbox, "loud", &format!("forward = {forward}"));
    sandbox.start();
    sandbox.wait_output("loud", &last());
    let is_all = |text: &str| {
        let (arrived, lost) = counted(text);
        lost > 0 && arrived + lost == 5000
    };
    let text = received(&socket, is_all);
    assert!(is_all(&text), "{:?}", counted(&text));
    sandbox.stop();
}

/// What a syslog can't take in at once is sent on before the server ends; what it does not take at all
/// is told.
#[test]
fn the_last_words_are_with_the_syslog_or_in_the_log() {
    let mut sandbox = Sandbox::new();
    let [slow, deaf] = ["slow", "deaf"].map(|name| {
        let path = sandbox.text(name);
        let exec = "trap 'i=0; while [ $i -lt 600 ]; do i=$((i+1)); echo line $i; done; exit 0' TERM; \
                    echo up; while :; do sleep 0.01; done";
        let forward = quoted(&format!("unix:{path}"));
        let body = format!("exec = {}\n[logging]\nforward = {forward}", quoted(exec));
        sandbox.service(&format!("to-{name}"), &body);
        UnixDatagram::bind(&path).unwrap()
    });
    sandbox.start();
    let names = ["to-slow", "to-deaf"];
    names
        .iter()
        .for_each(|name| sandbox.wait_output(name, "up"));
    sandbox.signal_server(Signal::SIGTERM);
    let has_ended = |name: &str| {
        let log = sandbox.log();
        ["exited", "stopped"]
            .into_iter()
            .any(|how| log.contains(&format!("{name}: {how}")))
    };
    assert!(wait_until(|| names.into_iter().all(has_ended)));
    slow.set_read_timeout(Some(PATIENCE)).unwrap();
    let text = received(&slow, |text| text.ends_with(" line 600\n"));
    assert_eq!(counted(&text), (600, 0));
    assert_eq!(sandbox.server_end().code(), Some(0));
    deaf.set_nonblocking(true).unwrap();
    let (arrived, _) = counted(&received(&deaf, |_| false));
    let lost = format!("deaf: the last {} lines are lost", 600 - arrived);
    assert!(
        arrived < 600 && sandbox.log().contains(&lost),
        "{}",
        sandbox.log()
    );
}

#[test]
fn a_removed_service_leaves_no_descriptor() {
    let mut sandbox = Sandbox::started();
    let count = |sandbox: &Sandbox| {
        let dir = format!("/proc/{}/fd", sandbox.server_pid());
        fs::read_dir(dir).unwrap().count()
    };
    let round = |sandbox: &Sandbox| {
        sandbox.service(
            "x",
            "exec = \"sleep 1000\"\n[readiness]\nwatchdog_ms = 100000",
        );
        sandbox.ask("service.reload", Value::Null);
        sandbox.await_running("x");
        sandbox.ask("service.delete", json!({"name": "x"}));
    };
    round(&sandbox);
    let before = count(&sandbox);
    (0..5).for_each(|_| round(&sandbox));
    assert!(
        wait_until(|| count(&sandbox) <= before),
        "{} of {before}",
        count(&sandbox)
    );
    sandbox.stop();
}

/// A writer that has nothing to write is not missed when it ends, and its descriptor goes with it. The
/// next line has another one.
#[test]
fn a_writer_that_ends_with_nothing_to_write_leaves_no_descriptor() {
    let mut sandbox = Sandbox::new();
    let file = sandbox.path("talk.log");
    let exec = "echo one; while ! test -e $DIR/go; do sleep 0.02; done; echo two; exec sleep 1000";
    sandbox.env("DIR", &sandbox.text(""));
    let body = format!("exec = {}\n[logging]\nfile = {file:?}", quoted(exec));
    sandbox.service("talk", &body);
    sandbox.start();
    let says = |word: &str| fs::read_to_string(&file).is_ok_and(|text| text.contains(word));
    assert!(wait_until(|| says("one")));
    let own = sandbox.server_pid();
    let list = format!("/proc/{own}/task/{own}/children");
    let comm = |pid: i32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let writer = || {
        let text = fs::read_to_string(&list).unwrap();
        let mut pids = text
            .split_ascii_whitespace()
            .map(|pid| pid.parse().unwrap());
        pids.find(|pid| comm(*pid) == "zinit-log\n")
    };
    let descriptors = || fs::read_dir(format!("/proc/{own}/fd")).unwrap().count();
    let first = writer().expect("somebody writes");
    let before = descriptors();
    signal(first, Signal::SIGKILL);
    let gone = wait_until(|| descriptors() == before - 1);
    assert!(gone, "{} descriptors, {before} before", descriptors());
    fs::write(sandbox.path("go"), "").unwrap();
    assert!(wait_until(|| says("two")), "{}", sandbox.log());
    assert!(writer().is_some_and(|next| next != first));
    sandbox.stop();
}

#[test]
fn events_are_told_in_the_words_of_the_wire() {
    let mut sandbox = Sandbox::new();
    sandbox.service("web", "exec = \"sleep 1000\"\nstatus = \"stop\"");
    sandbox.start();
    let mut reader = follow(&sandbox, "events.follow", json!({"names": ["web"]}));
    sandbox.done("service.start", "web");
    sandbox.done("service.stop", "web");
    sandbox.ask("service.delete", json!({"name": "web"}));
    let mut words = Vec::new();
    while words.last().is_none_or(|last| last != "removed") {
        let note = next(&mut reader);
        assert_eq!(note["params"]["service"], "web");
        assert!(note["params"]["timestamp_ms"].is_u64());
        match note["method"].as_str().unwrap() {
            "events.state" => {
                assert_eq!(note["params"]["state"]["state"], note["params"]["to"]);
                words.push(note["params"]["to"].as_str().unwrap().to_owned());
            }
            "events.removed" => words.push("removed".to_owned()),
            other => panic!("{other}"),
        }
    }
    let expected = [
        "blocked", "starting", "running", "stopping", "exited", "removed",
    ];
    assert_eq!(words, expected);
}

#[test]
fn who_follows_what_is_not_there_is_told() {
    let mut sandbox = Sandbox::new();
    sandbox.runs("web", "sleep 1000");
    sandbox.start();
    let (code, message, _) = sandbox.refused("logs.follow", json!({"names": ["nobody"]}));
    assert_eq!(
        (code, message.as_str()),
        (-32000, "service not found: nobody")
    );
    let (code, message, _) = sandbox.refused("events.follow", json!({"names": "web"}));
    let wanted = "'names' must be an array of strings";
    assert_eq!((code, message.as_str()), (-32602, wanted));
}

#[test]
fn output_goes_on_to_a_syslog_that_comes_later() {
    let mut sandbox = Sandbox::new();
    let path = sandbox.text("syslog");
    let exec = quoted("echo first; echo oops >&2; exec sleep 1000");
    let forward = quoted(&format!("unix:{path}"));
    let body = format!("exec = {exec}\n[logging]\nforward = {forward}");
    sandbox.service("talker", &body);
    sandbox.start();
    sandbox.await_running("talker");
    // What was said before anybody listened is not lost.
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 1000];
    let mut told = || {
        let count = socket.recv(&mut buffer).expect("a line");
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    };
    let mut lines = [told(), told()];
    lines.sort();
    assert!(lines[0].starts_with("<29>1 2") && lines[0].ends_with(" talker - - - oops"));
    assert!(lines[1].starts_with("<30>1 2") && lines[1].ends_with(" talker - - - first"));
}

#[test]
fn several_services_are_shown_in_order_of_time() {
    let mut sandbox = Sandbox::new();
    for name in ["a", "b", "c"] {
        sandbox.runs(
            name,
            &format!("for i in 1 2 3; do echo {name}$i; sleep 0.01; done; exec sleep 1000"),
        );
    }
    sandbox.start();
    let tail = |params: Value| sandbox.ask("logs.tail", params);
    let lines = |params| tail(params).as_array().unwrap().len();
    assert!(wait_until(|| lines(json!({"names": []})) == 9));
    assert_eq!(lines(json!({"names": ["a", "c"]})), 6);
    let all = tail(json!({"names": [], "lines": 5}));
    let times: Vec<u64> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line["timestamp_ms"].as_u64().unwrap())
        .collect();
    assert_eq!(times.len(), 5);
    assert!(times.is_sorted());
    assert_eq!(lines(json!({"names": ["a"], "since": u64::MAX})), 0);
}

#[test]
fn an_instance_is_made_by_a_start_or_by_whoever_needs_it() {
    let mut sandbox = Sandbox::new();
    let exec = quoted("echo %i of %p; exec sleep 1000");
    sandbox.service(
        "echo@",
        &format!("exec = {exec}\n[dependencies]\nrequires = [\"base@%i\"]"),
    );
    sandbox.runs("base@", "sleep 1000");
    sandbox.service(
        "web",
        "exec = \"sleep 1000\"\n[dependencies]\nrequires = [\"echo@one\"]",
    );
    sandbox.start();
    sandbox.await_running("web");
    let names = || sandbox.ask("service.list", Value::Null);
    assert_eq!(names(), json!(["base@one", "echo@one", "web"]));
    sandbox.done("service.start", "echo@two");
    let said = || sandbox.ask("logs.get", json!({"name": "echo@two"}));
    let is_said = |lines: &Value| {
        lines[0]
            .as_str()
            .is_some_and(|line| line.ends_with("] two of echo"))
    };
    assert!(wait_until(|| is_said(&said())), "{}", said());
    sandbox.ask("service.reload", Value::Null);
    let all = json!(["base@one", "base@two", "echo@one", "echo@two", "web"]);
    assert_eq!(names(), all);
    // What is not made from a template is as unknown as ever.
    let (code, message, _) = sandbox.refused("service.start", json!({"name": "nobody@x"}));
    assert_eq!(
        (code, message.as_str()),
        (-32603, "service not found: nobody@x")
    );
    // A template by request, and another one in its place.
    let set = |exec: &str| {
        let service = json!({"name": "job@", "exec": exec});
        sandbox.ask("service.set", json!({"config": {"service": service}}))
    };
    set("sleep 1000");
    sandbox.done("service.start", "job@x");
    set("sleep 2000");
    let shown = sandbox.ask("service.get", json!({"name": "job@x"}));
    assert_eq!(shown["service"]["exec"], "sleep 2000");
    sandbox.ask("service.delete", json!({"name": "job@"}));
    sandbox.ask("service.reload", Value::Null);
    assert!(wait_until(|| names() == all));
}
