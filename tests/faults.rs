//! What goes wrong around the server: loud services, readers that do not read, files that make no
//! sense, disks that are full, machines that are out of something.

#[path = "common/plight.rs"]
mod plight;
#[path = "common/sandbox.rs"]
mod sandbox;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use plight::{is_root, works};
use sandbox::{Sandbox, is_alive, quoted, wait_until};
use serde_json::{Value, json};

/// Bytes of output the server keeps of one service, and what a line may be long.
const KEPT_BYTES: usize = 256 << 10;
const LINE_BYTES: usize = 8192;

fn memory(sandbox: &Sandbox) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", sandbox.server_pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.unwrap().split_ascii_whitespace().nth(1).unwrap();
    kib.parse().unwrap()
}

// Output.

#[test]
fn a_hundred_megabytes_of_lines_are_captured_within_bounds() {
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    let exec = "yes 'a line of forty bytes, that is not short' | head -c 100000000; echo; \
                echo the last line";
    let body = format!(
        "exec = {}\noneshot = true\n[logging]\nbuffer_lines = 100000",
        quoted(exec)
    );
    sandbox.service("loud", &body);
    sandbox.runs("quiet", "echo quiet; exec sleep 1000");
    sandbox.start();
    let before = memory(&sandbox);
    // Others are served while it shouts.
    sandbox.await_running("quiet");
    sandbox.wait_output("quiet", "quiet");
    sandbox.await_running("loud");
    let lines = sandbox.output("loud");
    assert_eq!(lines.last().map(String::as_str), Some("the last line"));
    let bytes: usize = lines.iter().map(String::len).sum();
    assert!(bytes <= KEPT_BYTES, "{bytes}");
    assert!(bytes > KEPT_BYTES / 2, "{bytes}");
    let after = memory(&sandbox);
    assert!(after < before + (8 << 10), "{before} KiB, then {after} KiB");
}

#[test]
fn a_line_of_ten_megabytes_and_random_bytes_are_captured() {
    let mut sandbox = Sandbox::new();
    let ends = "echo; echo the end";
    let run = |name: &str, exec: &str| {
        let exec = quoted(&format!("{exec}; {ends}"));
        sandbox.service(name, &format!("exec = {exec}\noneshot = true"));
    };
    run("long", "head -c 10000000 /dev/zero | tr '\\0' x");
    run("random", "head -c 3000000 /dev/urandom");
    run("nul", "head -c 100000 /dev/zero");
    run("broken", "printf 'good\\n\\377\\376\\nhalf \\303'");
    run("both", "exec >&2; head -c 300000 /dev/urandom");
    sandbox.start();
    for name in ["long", "random", "nul", "broken", "both"] {
        sandbox.await_running(name);
        let lines = sandbox.output(name);
        assert_eq!(lines.last().map(String::as_str), Some("the end"), "{name}");
        for line in &lines {
            // A byte that is no UTF-8 is shown as three.
            assert!(line.len() <= LINE_BYTES * 3, "{name}: {}", line.len());
        }
        let (_, error, code) = sandbox.cli(&["logs", name]);
        assert_eq!((error.as_str(), code), ("", 0), "{name}");
    }
    let long = sandbox.output("long");
    assert!(
        long[..long.len() - 2]
            .iter()
            .all(|line| line.len() <= LINE_BYTES)
    );
    assert_eq!(
        sandbox.output("broken"),
        ["good", "\u{fffd}\u{fffd}", "half \u{fffd}", "the end"]
    );
}

#[test]
fn what_a_service_said_last_is_kept() {
    let mut sandbox = Sandbox::new();
    for name in ["a", "b", "c", "d"] {
        let exec = "printf 'no newline'; head -c 60000 /dev/zero | tr '\\0' y; \
                    printf '\\nlast words'; kill -KILL $$";
        let body = format!("exec = {}\n[lifecycle]\nrestart = \"never\"", quoted(exec));
        sandbox.service(name, &body);
    }
    sandbox.start();
    for name in ["a", "b", "c", "d"] {
        sandbox.await_goal(name, "stopped").unwrap();
        let lines = sandbox.output(name);
        assert_eq!(
            lines.last().map(String::as_str),
            Some("last words"),
            "{name}"
        );
        assert!(lines[0].starts_with("no newline"), "{name}");
    }
}

#[test]
fn a_service_that_closes_its_output_lives_on() {
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    sandbox.runs(
        "closes",
        "exec >&- 2>&-; echo $$ > $DIR/closed; exec sleep 1000",
    );
    sandbox.start();
    let pid = sandbox.wait_pid_file("closed");
    sandbox.await_running("closes");
    assert_eq!(sandbox.pid("closes"), pid);
    sandbox.done("service.restart", "closes");
    assert!(!is_alive(pid));
}

// The server's own descriptors.

fn talks_and_stops(sandbox: &mut Sandbox) {
    for number in 0..20 {
        sandbox.await_running(&format!("s{number}"));
        sandbox.wait_output(&format!("s{number}"), "up");
    }
    // Enough of it to fill any pipe.
    for _ in 0..100 {
        sandbox.done("service.restart", "s0");
        sandbox.ask("service.reload", Value::Null);
    }
    assert_eq!(sandbox.state("s19"), "running");
    sandbox.signal_server(Signal::SIGTERM);
    assert_eq!(sandbox.server_end().code(), Some(0));
    sandbox.assert_nothing_left();
}

fn twenty() -> Sandbox {
    let sandbox = Sandbox::new();
    for number in 0..20 {
        sandbox.runs(&format!("s{number}"), "echo up; exec sleep 1000");
    }
    // Each reload has something to say about these.
    for number in 0..20 {
        let name = "long".repeat(20);
        sandbox.file(&format!("{name}{number}.toml"), "[service]\nnam = 1\n");
    }
    sandbox
}

#[test]
fn a_server_without_any_descriptor_works() {
    let mut sandbox = twenty();
    sandbox.wrap(&["sh", "-c", "exec \"$0\" \"$@\" <&- >&- 2>&-"]);
    sandbox.start();
    talks_and_stops(&mut sandbox);
}

#[test]
fn a_server_whose_words_nobody_reads_works() {
    let mut sandbox = twenty();
    let mut command = sandbox.server_command();
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    // The other ends stay open in the child handle, and nobody reads them.
    sandbox.start_as(command);
    talks_and_stops(&mut sandbox);
}

#[test]
fn a_server_whose_reader_has_gone_works() {
    let mut sandbox = twenty();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = sandbox.server_command();
    command.stdout(writer.try_clone().unwrap()).stderr(writer);
    drop(reader);
    sandbox.start_as(command);
    talks_and_stops(&mut sandbox);
}

#[test]
fn a_server_whose_words_go_to_a_socket_works() {
    let mut sandbox = twenty();
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut command = sandbox.server_command();
    command.stderr(std::os::fd::OwnedFd::from(theirs));
    sandbox.start_as(command);
    talks_and_stops(&mut sandbox);
    drop(ours);
}

// Files.

#[test]
fn files_that_make_no_sense_keep_nobody_else_from_starting() {
    let mut sandbox = Sandbox::new();
    sandbox.runs("good", "sleep 1000");
    sandbox.file("half.toml", "[service]\nname = \"half\"\nexec = \"sl");
    sandbox.file("empty.toml", "");
    sandbox.file("nothing.toml", "[lifecycle]\nmax_restarts = 1\n");
    sandbox.file(
        "typo.toml",
        "[service]\nname = \"typo\"\nexce = \"sleep 1000\"\n",
    );
    sandbox.file(
        "climbs.toml",
        "[service]\nname = \"../../x\"\nexec = \"sleep 1000\"\n",
    );
    sandbox.file(
        "again.toml",
        "[service]\nname = \"good\"\nexec = \"sleep 1\"\n",
    );
    sandbox.file(
        "zgood.toml",
        "[service]\nname = \"good\"\nexec = \"sleep 1\"\n",
    );
    fs::write(
        sandbox.services_dir().join("latin.toml"),
        b"[service]\nname = \"\xe9\"\n",
    )
    .unwrap();
    fs::write(
        sandbox.services_dir().join("nul.toml"),
        b"[service]\nname = \"a\0b\"\n",
    )
    .unwrap();
    fs::create_dir(sandbox.services_dir().join("folder.toml")).unwrap();
    let unreadable = sandbox.services_dir().join("unreadable.toml");
    fs::write(&unreadable, "[service]\nname = \"u\"\nexec = \"true\"\n").unwrap();
    fs::set_permissions(&unreadable, PermissionsExt::from_mode(0o000)).unwrap();
    std::os::unix::fs::symlink("nowhere", sandbox.services_dir().join("dangling.toml")).unwrap();
    sandbox.file("notes.txt", "not a service");
    sandbox.file("big.toml", &"# nothing\n".repeat(300_000));
    nix::unistd::mkfifo(
        &sandbox.services_dir().join("fifo.toml"),
        nix::sys::stat::Mode::S_IRWXU,
    )
    .unwrap();
    sandbox.start();
    sandbox.await_running("good");
    let got = sandbox.ask("service.get", json!({"name": "good"}));
    assert_eq!(got["service"]["exec"], "sleep 1", "the first in order");
    let reloaded = sandbox.ask("service.reload", Value::Null);
    let errors: Vec<&str> = reloaded["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error.as_str().unwrap())
        .collect();
    for file in [
        "half", "empty", "nothing", "typo", "climbs", "zgood", "latin", "nul", "folder",
        "dangling", "fifo",
    ] {
        let named = errors
            .iter()
            .filter(|error| error.contains(&format!("/{file}.toml")))
            .count();
        assert!(named > 0, "{file}: {errors:#?}");
    }
    assert!(
        errors.iter().any(|error| error.contains("exec")),
        "{errors:#?}"
    );
    let names = sandbox.ask("service.list", Value::Null);
    let expected = if is_root() {
        json!(["good", "u"])
    } else {
        json!(["good"])
    };
    assert_eq!(names, expected);
    assert!(!sandbox.log().contains("notes.txt"));
    // The same said offline.
    let (out, error, code) = sandbox.cli(&["check", sandbox.services_dir().to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(
        format!("{out}{error}").contains("half.toml"),
        "{out}{error}"
    );
}

#[test]
fn cycles_take_out_only_their_members() {
    let mut sandbox = Sandbox::new();
    let dir = sandbox.services_dir();
    let needs = |name: &str, requires: &[&str]| {
        let text = format!(
            "[service]\nname = \"{name}\"\nexec = \"sleep 1000\"\n\
             [dependencies]\nrequires = {requires:?}\n"
        );
        fs::write(dir.join(format!("{name}.toml")), text).unwrap();
    };
    needs("own", &["own"]);
    needs("a", &["b"]);
    needs("b", &["c"]);
    needs("c", &["a"]);
    needs("above", &["a"]);
    needs("ghostly", &["ghost"]);
    needs("fine", &[]);
    sandbox.start();
    sandbox.await_running("fine");
    let error = |name: &str| {
        let status = sandbox.status(name);
        (
            status["state"].as_str().unwrap().to_owned(),
            status["error"].as_str().unwrap_or("").to_owned(),
        )
    };
    let failed = |text: &str| ("failed".to_owned(), text.to_owned());
    assert_eq!(error("own"), failed("dependency cycle: own -> own"));
    for name in ["a", "b", "c"] {
        let (state, text) = error(name);
        assert_eq!(state, "failed");
        assert!(text.starts_with("dependency cycle: "), "{text}");
        for member in ["a", "b", "c"] {
            assert!(text.contains(member), "{text}");
        }
    }
    assert_eq!(error("above").0, "blocked");
    assert_eq!(error("ghostly"), failed("missing dependency 'ghost'"));
    // The cycle opened, all of it starts by itself.
    needs("c", &[]);
    needs("own", &[]);
    let reloaded = sandbox.ask("service.reload", Value::Null);
    assert_eq!(reloaded["changed"], json!(["c", "own"]), "{reloaded}");
    for name in ["own", "a", "b", "c", "above"] {
        sandbox.await_running(name);
    }
    // And closed again under those that run: nobody dies of it.
    needs("c", &["a"]);
    let pids = ["a", "b", "c", "above"].map(|name| sandbox.pid(name));
    sandbox.ask("service.reload", Value::Null);
    assert_eq!(pids, ["a", "b", "c", "above"].map(|name| sandbox.pid(name)));
}

#[test]
fn ten_thousand_dependencies_are_as_good_as_one() {
    let mut sandbox = Sandbox::new();
    let names: Vec<String> = (0..10_000)
        .map(|number| format!("no-such-service-{number}"))
        .collect();
    for kind in ["requires", "after", "wants", "conflicts"] {
        let body = format!("exec = \"sleep 1000\"\n[dependencies]\n{kind} = {names:?}");
        sandbox.service(kind, &body);
    }
    sandbox.start();
    for kind in ["after", "wants", "conflicts"] {
        sandbox.await_running(kind);
    }
    sandbox.wait_state("requires", "failed");
    let error = sandbox.status("requires")["error"].clone();
    assert_eq!(error, "missing dependency 'no-such-service-0'");
    let why = sandbox.ask("service.why", json!({"name": "requires"}));
    assert!(why["waiting_on"].as_array().unwrap().len() == 10_000);
    sandbox.ask("service.tree", Value::Null);
    let mut config = sandbox.ask("service.get", json!({"name": "wants"}));
    config["dependencies"]["wants"] = json!(vec!["after"; 10_000]);
    sandbox.ask("service.set", config);
    sandbox.done("service.restart", "wants");
}

#[test]
fn a_config_directory_that_is_not_there_is_made() {
    let mut sandbox = Sandbox::new();
    fs::remove_dir(sandbox.services_dir()).unwrap();
    sandbox.start();
    assert!(sandbox.services_dir().is_dir());
    sandbox.stop();
    fs::remove_dir(sandbox.services_dir()).unwrap();
    fs::write(sandbox.services_dir(), "no directory").unwrap();
    let output = sandbox
        .server_command()
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("services"), "{error}");
    assert!(!sandbox.socket().exists());
}

/// A sandbox whose server sees its services under a mount of its own.
fn mounted(mount: &str) -> Option<Sandbox> {
    if !is_root() || !works(&["unshare", "-m", "true"]) {
        println!("skipped: there is no way to mount here");
        return None;
    }
    let mut sandbox = Sandbox::new();
    sandbox.env("SERVICES", sandbox.services_dir().to_str().unwrap());
    let script = format!("{mount} && exec \"$0\" \"$@\"");
    sandbox.wrap(&["unshare", "-m", "sh", "-c", &script]);
    Some(sandbox)
}

#[test]
fn a_full_disk_is_told_and_harms_nothing() {
    let Some(mut sandbox) = mounted(
        "mount -t tmpfs -o size=1m tmpfs $SERVICES && \
         printf '[service]\\nname = \"one\"\\nexec = \"sleep 1000\"\\n' > $SERVICES/one.toml && \
         { dd if=/dev/zero of=$SERVICES/filler bs=4k 2>/dev/null; true; }",
    ) else {
        return;
    };
    sandbox.start();
    sandbox.await_running("one");
    let pid = sandbox.pid("one");
    for name in ["one", "two"] {
        let config = json!({"service": {"name": name, "exec": "sleep 1001"}});
        let (code, message, _) = sandbox.refused("service.set", config);
        assert_eq!(code, -32014, "{message}");
        let path = sandbox.services_dir().join(format!("{name}.toml"));
        assert!(
            message.starts_with(&format!("Failed to write {}: ", path.display())),
            "{message}"
        );
        assert!(message.contains("No space left"), "{message}");
    }
    assert_eq!(sandbox.pid("one"), pid);
    let got = sandbox.ask("service.get", json!({"name": "one"}));
    assert_eq!(got["service"]["exec"], "sleep 1000");
    let reloaded = sandbox.ask("service.reload", Value::Null);
    assert_eq!(
        reloaded["changed"],
        json!([]),
        "the old file is whole: {reloaded}"
    );
    assert_eq!(reloaded["removed"], json!([]), "{reloaded}");
    assert_eq!(
        reloaded["errors"],
        json!([]),
        "no half file is left: {reloaded}"
    );
    sandbox.ask("service.delete", json!({"name": "one"}));
}

#[test]
fn a_read_only_disk_is_told_and_harms_nothing() {
    let Some(mut sandbox) =
        mounted("mount --bind $SERVICES $SERVICES && mount -o remount,bind,ro $SERVICES")
    else {
        return;
    };
    sandbox.runs("one", "sleep 1000");
    sandbox.start();
    sandbox.await_running("one");
    let config = json!({"service": {"name": "two", "exec": "sleep 1001"}});
    let (code, message, _) = sandbox.refused("service.set", config);
    assert_eq!(code, -32014, "{message}");
    assert!(message.contains("Read-only"), "{message}");
    let (code, message, _) = sandbox.refused("service.delete", json!({"name": "one"}));
    assert_eq!(code, -32603);
    assert!(
        message.starts_with("failed to delete config file for service 'one': "),
        "{message}"
    );
    assert!(message.contains("Read-only"), "{message}");
    assert!(sandbox.services_dir().join("one.toml").exists());
}

// A machine that is out of something.

#[test]
fn out_of_descriptors_a_service_is_tried_again_without_counting() {
    let mut sandbox = Sandbox::new();
    // Enough for the server itself and a few services; each takes two, and five for a moment.
    sandbox.wrap(&["sh", "-c", "ulimit -n 40; exec \"$0\" \"$@\""]);
    for number in 10..30 {
        sandbox.service(
            &format!("s{number}"),
            "exec = \"sleep 1000\"\n[lifecycle]\nmax_restarts = 1\nrestart_delay_ms = 1",
        );
    }
    sandbox.start();
    let states = || {
        let all = sandbox.ask("service.list_full", Value::Null);
        let all = all.as_array().unwrap().clone();
        let with = |word: &str| {
            all.iter()
                .filter(|service| service["state"]["state"] == word)
                .map(|service| service["name"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        (with("running"), with("failed"))
    };
    assert!(wait_until(|| {
        let (running, failed) = states();
        !running.is_empty() && running.len() + failed.len() == 20
    }));
    let (running, failed) = states();
    assert!(
        !failed.is_empty(),
        "twenty fit into forty descriptors? {running:?}"
    );
    for name in &failed {
        let error = sandbox.status(name)["error"].clone();
        assert_eq!(error, "spawn error: fork: Too many open files");
    }
    let debug = sandbox.ask("debug.state", Value::Null)["output"].to_string();
    assert!(!debug.contains("restart_count"), "{debug}");
    // Room is made, and one after the other comes up.
    for name in running.iter().take(failed.len().min(running.len())) {
        sandbox.done("service.stop", name);
    }
    sandbox.await_running(&failed[0]);
}

#[test]
fn out_of_processes_a_service_is_tried_again_without_counting() {
    let nobody = "65534";
    let user = ["setpriv", "--reuid", nobody, "--clear-groups"];
    if !is_root() || !works(&[user.as_slice(), &["true"]].concat()) {
        println!("skipped: nobody else can be made the user");
        return;
    }
    let mut sandbox = Sandbox::new();
    for path in [sandbox.dir().to_owned(), sandbox.services_dir()] {
        fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).unwrap();
    }
    // The number counts all processes of that user; nobody else should be nobody here.
    let odd = "ulimit -p 12 2>/dev/null || ulimit -u 12; exec \"$0\" \"$@\"";
    let words = [user.as_slice(), &["sh", "-c", odd]].concat();
    sandbox.wrap(&words);
    for number in 10..30 {
        sandbox.service(
            &format!("s{number}"),
            "exec = [\"sleep\", \"1000\"]\n[lifecycle]\nmax_restarts = 1\nrestart_delay_ms = 1",
        );
    }
    let mut reachable = Command::new(user[0]);
    reachable
        .args(&user[1..])
        .args([env!("CARGO_BIN_EXE_zinit"), "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if !reachable.status().is_ok_and(|status| status.success()) {
        println!("skipped: another user can't run the program where it is");
        return;
    }
    sandbox.start();
    let count = |word: &str| {
        let all = sandbox.ask("service.list_full", Value::Null);
        let all = all.as_array().unwrap().clone();
        all.iter()
            .filter(|service| service["state"]["state"] == word)
            .map(|service| service["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert!(wait_until(|| count("running").len()
        + count("failed").len()
        == 20));
    let (running, failed) = (count("running"), count("failed"));
    if failed.is_empty() {
        println!("skipped: the limit of processes is not enforced here");
        return;
    }
    assert!(!running.is_empty());
    let error = sandbox.status(&failed[0])["error"].clone();
    assert_eq!(error, "spawn error: fork: Resource temporarily unavailable");
    let debug = sandbox.ask("debug.state", Value::Null)["output"].to_string();
    assert!(!debug.contains("restart_count"), "{debug}");
    sandbox.done("service.stop", &running[0]);
    assert!(wait_until(|| count("running").len() == running.len()));
}

// The clock.

/// In a time namespace the monotonic clock can be another one; the wall clock is everybody's, and
/// setting it would trouble all who run beside this test.
#[test]
fn a_clock_that_starts_elsewhere_changes_nothing() {
    let wrapper = [
        "unshare",
        "-T",
        "--monotonic",
        "100000000",
        "--fork",
        "--kill-child",
    ];
    if !is_root() || !works(&[wrapper.as_slice(), &["true"]].concat()) {
        println!("skipped: there are no time namespaces here");
        return;
    }
    let mut sandbox = Sandbox::new();
    sandbox.service(
        "crash",
        "exec = \"exit 1\"\n[lifecycle]\nrestart_delay_ms = 5\nmax_restarts = 3",
    );
    sandbox.runs("one", "sleep 1000");
    let odd = "exec \"$0\" \"$@\"";
    sandbox.wrap(&["unshare", "-T", "--monotonic", "100000000", "sh", "-c", odd]);
    sandbox.start();
    sandbox.await_running("one");
    sandbox.await_goal("crash", "stopped").unwrap();
    let params = json!({"name": "one", "for": "stopped", "timeout_ms": 30});
    assert_eq!(
        sandbox.refused("service.wait", params).2["outcome"],
        "timeout"
    );
    let full = sandbox.ask("service.status_full", json!({"name": "one"}));
    assert!(full["uptime_secs"].as_u64().unwrap() < 1000, "{full}");
}
