//! PID 1 of a container: the real binary in a PID namespace of its own (`unshare(1)`).

#[path = "common/sandbox.rs"]
mod sandbox;

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::Signal;
use sandbox::{find_program, quoted, signal, wait_until};

/// A container that is to be run, or runs.
struct Container {
    dir: PathBuf,
    child: Option<Child>,
    /// Words before `zinit`.
    wrapper: Vec<String>,
}

impl Container {
    fn new(name: &str) -> Self {
        let own = std::process::id();
        let dir = std::env::temp_dir().join(format!("zinit-container-{own}-{name}"));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("services")).unwrap();
        Self {
            dir,
            child: None,
            wrapper: Vec::new(),
        }
    }

    fn service(&self, name: &str, body: &str) {
        let text = format!("[service]\nname = {}\n{body}\n", quoted(name));
        fs::write(self.dir.join(format!("services/{name}.toml")), text).unwrap();
    }

    fn text(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(name)).unwrap_or_default()
    }

    /// The command that runs it with these words behind `init`.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        // Without the right to make a namespace, in a user namespace of our own.
        if !nix::unistd::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command
            .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(&self.wrapper)
            .arg(env!("CARGO_BIN_EXE_zinit"))
            .arg("init")
            .args(words)
            .env("ZINIT_CONFIG_DIR", self.dir.join("services"))
            .env("ZINIT_SOCKET", self.dir.join("sock"))
            .env_remove("ZINIT_LOG_LEVEL")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Runs it, and gives its exit status and what it wrote.
    fn ends(&self, words: &[&str]) -> (i32, String) {
        let output = self.run(words);
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code().unwrap_or(-1), out)
    }

    fn start(&mut self, words: &[&str]) {
        self.child = Some(self.command(words).spawn().unwrap());
    }

    /// The number its PID 1 has outside.
    fn first(&self) -> i32 {
        let unshare = self.child.as_ref().expect("it runs").id();
        let mut first = 0;
        let list = format!("/proc/{unshare}/task/{unshare}/children");
        let found = wait_until(|| {
            let text = fs::read_to_string(&list).unwrap_or_default();
            first = text.trim().parse().unwrap_or(0);
            first > 0
        });
        assert!(found, "it has no PID 1");
        first
    }

    fn cli(&self, words: &[&str]) -> (String, i32) {
        let output = Command::new(env!("CARGO_BIN_EXE_zinit"))
            .args(words)
            .env("ZINIT_SOCKET", self.dir.join("sock"))
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        let code = output.status.code().unwrap_or(-1);
        (String::from_utf8(text).unwrap(), code)
    }

    fn wait_running(&self, name: &str) {
        let so = wait_until(|| self.cli(&["wait", name, "--timeout", "5s"]).1 == 0);
        assert!(so, "{name} does not run");
    }

    fn wait_file(&self, name: &str) -> String {
        let so = wait_until(|| self.read(name).ends_with('\n'));
        assert!(so, "no {name}");
        self.read(name)
    }

    /// Waits for its end: exit status, standard output, standard error.
    fn end(&mut self) -> (i32, String, String) {
        let output = self.child.take().unwrap().wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().unwrap_or(-1);
        (code, text(&output.stdout), text(&output.stderr))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn the_end_of_the_command_is_the_containers() {
    let container = Container::new("codes");
    for (line, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 255", 255),
        ("kill -9 $$", 137),
        ("kill -TERM $$", 143),
        ("kill -ABRT $$", 134),
    ] {
        assert_eq!(container.ends(&["--", "sh", "-c", line]).0, code, "{line}");
    }
    assert_eq!(container.ends(&["--", "/no/such/program"]).0, 127);
    assert_eq!(container.ends(&["-c", "--", "no-such-program"]).0, 127);
    fs::write(container.dir.join("text"), "no program").unwrap();
    assert_eq!(container.ends(&["--", &container.text("text")]).0, 126);
    assert_eq!(container.ends(&["--bogus"]).0, 2);
    // It is run with what was given, and its own input.
    let mut child = container
        .command(&[
            "--",
            "sh",
            "-c",
            "cat; echo \"$1\" \"$2\"",
            "sh",
            "a b",
            "$c",
        ])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"in\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "in\na b $c\n");
}

#[test]
fn services_are_up_before_the_command_and_stop_in_order_after_it() {
    let container = Container::new("order");
    let log = container.text("log");
    let says = |name: &str, extra: &str| {
        let script = format!(
            "trap 'echo {name} ends >>{log}; exit' TERM; echo {name} up >>{log}; while :; do sleep 0.02; done"
        );
        let exec = quoted(&format!("sh -c {}", shell_quoted(&script)));
        container.service(name, &format!("exec = {exec}\n{extra}"));
    };
    says("db", "");
    says("web", "[dependencies]\nrequires = [\"db\"]");
    // This one waits for the command, so the command does not wait for it.
    says("behind", "[dependencies]\nafter = [\"main\"]");
    let line =
        format!("while ! grep -q 'web up' {log}; do sleep 0.01; done; echo main >>{log}; exit 5");
    let (code, _) = container.ends(&["--", "sh", "-c", &line]);
    assert_eq!(code, 5);
    let lines = container.read("log");
    let at = |what: &str| {
        lines
            .find(what)
            .unwrap_or_else(|| panic!("no {what:?}:\n{lines}"))
    };
    assert!(at("main") < at("web ends"), "{lines}");
    assert!(at("web ends") < at("db ends"), "{lines}");
}

fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[test]
fn signals_stop_everything_and_it_ends_well() {
    for (number, name) in [
        (Signal::SIGTERM, "term"),
        (Signal::SIGINT, "int"),
        (Signal::SIGPWR, "pwr"),
    ] {
        let mut container = Container::new(name);
        container.service("worker", "exec = \"sleep 1000\"");
        container.start(&["--", "sleep", "1000"]);
        container.wait_running("worker");
        signal(container.first(), number);
        assert_eq!(container.end().0, 0, "{name}");
    }
}

#[test]
fn a_time_for_all_stops_is_kept_and_each_is_asked() {
    let mut container = Container::new("grace");
    let log = container.text("log");
    let mut before = String::new();
    for name in ["a", "b", "c"] {
        let script = format!(
            "trap 'echo {name} >>{log}' TERM; touch {log}.{name}; while :; do sleep 0.02; done"
        );
        let exec = quoted(&format!("sh -c {}", shell_quoted(&script)));
        container.service(
            name,
            &format!("exec = {exec}\n[dependencies]\nrequires = [{before}]"),
        );
        before = quoted(name);
    }
    container.start(&["--grace", "1500ms"]);
    assert!(wait_until(|| container.dir.join("log.c").exists()));
    signal(container.first(), Signal::SIGTERM);
    // Each would have ten seconds of its own; without the bound this would be thirty.
    assert_eq!(container.end().0, 0);
    assert_eq!(container.read("log"), "c\nb\na\n");
}

#[test]
fn what_services_write_is_the_containers_output_in_whole_lines() {
    let container = Container::new("output");
    let writes = |name: &str, letter: &str| {
        let line = format!(
            "i=0; while [ $i -lt 300 ]; do i=$((i+1)); printf %s {letter}{letter}; echo {letter}$i; echo e{letter} >&2; done"
        );
        let exec = quoted(&format!("sh -c {}", shell_quoted(&line)));
        container.service(name, &format!("oneshot = true\nexec = {exec}"));
    };
    writes("one", "a");
    writes("two", "b");
    let words = ["--", "sh", "-c", "sleep 0.1; echo last; printf unfinished"];
    let output = container.run(&[&["--prefix"], &words[..]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    for (name, letter) in [("one", "a"), ("two", "b")] {
        let prefix = format!("{name} | ");
        let lines: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix(&*prefix))
            .collect();
        let expected: Vec<String> = (1..=300)
            .map(|i| format!("{letter}{letter}{letter}{i}"))
            .collect();
        assert_eq!(lines, expected);
    }
    assert!(text.ends_with("main | last\nmain | unfinished\n"), "{text}");
    assert_eq!(text.lines().count(), 602);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(errors.matches("one | ea\n").count(), 300);
    let raw = container.ends(&words).1;
    assert!(
        raw.contains("\naaa300\n") && raw.ends_with("last\nunfinished\n"),
        "{raw}"
    );
}

#[test]
fn a_slow_reader_loses_nothing_and_a_gone_one_stops_nothing() {
    let mut container = Container::new("slow");
    let line = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); echo $i-xxxxxxxxxxxxxxxxxxxxxxxx; done";
    container.start(&["--", "sh", "-c", line]);
    let mut output = container.child.as_mut().unwrap().stdout.take().unwrap();
    // All pipes fill up before anybody reads; the server answers meanwhile.
    container.wait_running("main");
    let mut buffer = [0; 997];
    let mut text = Vec::new();
    loop {
        match output.read(&mut buffer).unwrap() {
            0 => break,
            count => text.extend_from_slice(&buffer[..count]),
        }
    }
    let text = String::from_utf8(text).unwrap();
    let expected: String = (1..=60000)
        .map(|i| format!("{i}-xxxxxxxxxxxxxxxxxxxxxxxx\n"))
        .collect();
    assert!(
        text == expected,
        "{} of {} bytes",
        text.len(),
        expected.len()
    );
    assert_eq!(container.end().0, 0);

    let mut container = Container::new("gone");
    container.service(
        "chatter",
        "exec = \"sh -c 'while :; do echo x; sleep 0.01; done'\"",
    );
    container.start(&[
        "--",
        "sh",
        "-c",
        &format!("sleep 0.5; echo $$ >{}; exit 9", container.text("done")),
    ]);
    drop(container.child.as_mut().unwrap().stdout.take());
    drop(container.child.as_mut().unwrap().stderr.take());
    container.wait_file("done");
    assert_eq!(container.end().0, 9);
}

#[test]
fn orphans_are_collected() {
    let container = Container::new("orphans");
    let line = "for i in 1 2 3 4 5 6 7 8 9; do (sleep 0.05 & sleep 0.05 &); done; sleep 0.5; \
                grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l";
    let (code, text) = container.ends(&["--", "sh", "-c", line]);
    assert_eq!((code, text.trim()), (0, "0"));
}

#[test]
fn what_belongs_to_no_service_is_asked_before_it_is_killed() {
    let container = Container::new("strays");
    let log = container.text("log");
    // Its own mark, its output and its session gone, it is nobody's.
    let stray = format!(
        "trap 'echo asked >>{log}; exit' TERM; touch {log}.up; while :; do sleep 0.02; done"
    );
    let line = format!(
        "env -i PATH=$PATH setsid sh -c {} >/dev/null 2>&1 </dev/null & while ! test -e {log}.up; do sleep 0.01; done",
        shell_quoted(&stray)
    );
    container.service("other", "exec = \"sleep 1000\"");
    let exec = quoted(&format!("sh -c {}", shell_quoted(&line)));
    container.service(
        "leaver",
        &format!("oneshot = true\nexec = {exec}\n[lifecycle]\nkill_mode = \"main\""),
    );
    let wait = format!("while ! test -e {log}.up; do sleep 0.01; done");
    assert_eq!(container.ends(&["--", "sh", "-c", &wait]).0, 0);
    assert_eq!(container.read("log"), "asked\n");
}

#[test]
fn it_is_asked_from_within() {
    let mut container = Container::new("within");
    container.service("web", "exec = \"sleep 1000\"");
    container.start(&[]);
    container.wait_running("web");
    assert_eq!(container.cli(&["healthcheck"]), ("healthy\n".into(), 0));
    assert_eq!(container.cli(&["healthcheck", "web"]).1, 0);
    let (text, code) = container.cli(&["healthcheck", "web", "db"]);
    assert_eq!((text.as_str(), code), ("not healthy: db missing\n", 1));
    container.service(
        "sick",
        "exec = \"false\"\noneshot = true\n[lifecycle]\nrestart = \"never\"",
    );
    container.cli(&["reload"]);
    assert!(wait_until(|| container
        .cli(&["status", "sick"])
        .0
        .contains("Failed")));
    let (text, code) = container.cli(&["healthcheck"]);
    assert_eq!((text.as_str(), code), ("not healthy: sick failed\n", 1));
    let (text, code) = container.cli(&["kexec"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(container.end().0, 0);
    assert_eq!(container.cli(&["healthcheck"]).1, 3);

    let mut container = Container::new("code");
    container.service("web", "exec = \"sleep 1000\"");
    container.start(&[]);
    container.wait_running("web");
    assert_eq!(container.cli(&["shutdown", "42"]).1, 0);
    assert_eq!(container.end().0, 42);

    let mut container = Container::new("poweroff");
    container.service("web", "exec = \"sleep 1000\"");
    container.start(&["-c"]);
    container.wait_running("web");
    assert_eq!(container.cli(&["poweroff"]).1, 0);
    assert_eq!(container.end().0, 0);
}

#[test]
fn a_critical_service_that_fails_ends_it() {
    let container = Container::new("critical");
    container.service("web", "exec = \"sleep 1000\"");
    container.service(
        "db",
        "exec = \"sh -c 'exit 6'\"\ncritical = true\n[lifecycle]\nrestart = \"never\"",
    );
    assert_eq!(container.ends(&[]).0, 6);
}

/// It is one end though there are two reasons for it: nobody takes the second for impatience.
#[test]
fn a_service_with_two_reasons_to_end_it_leaves_the_others_their_time() {
    let container = Container::new("twice");
    let [up, saved] = ["up", "saved"].map(|name| container.text(name));
    let web = format!(
        "trap 'sleep 0.1; echo so > {saved}; exit 0' TERM; echo so > {up}; while :; do sleep 0.01; done"
    );
    container.service("web", &format!("exec = {}", quoted(&web)));
    let db = format!("until test -e {up}; do sleep 0.01; done; exit 6");
    let more = "critical = true\n[lifecycle]\nrestart = \"never\"\non_failure = \"shutdown\"";
    container.service("db", &format!("exec = {}\n{more}", quoted(&db)));
    assert_eq!(container.ends(&[]).0, 6);
    assert_eq!(container.read("saved"), "so\n");
}

#[test]
fn it_needs_no_writable_directory_and_no_rights() {
    let mut container = Container::new("poor");
    container.service("web", "exec = \"sleep 1000\"");
    // Nobody may write there, least of all a user that does not exist.
    container.wrapper = [
        "setpriv",
        "--reuid=54321",
        "--regid=54321",
        "--clear-groups",
    ]
    .map(str::to_owned)
    .into();
    let mut command = container.command(&["--", "sh", "-c", "id -u; exit 3"]);
    command.env("ZINIT_SOCKET", "/proc/sock");
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{errors}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "54321\n");
    assert!(
        errors.contains("no commands can be taken: /proc/sock"),
        "{errors}"
    );
    // No directory of services either.
    let mut command = container.command(&["--", "true"]);
    command
        .env("ZINIT_CONFIG_DIR", "/no/where")
        .env("ZINIT_SOCKET", "/proc/sock");
    assert_eq!(command.output().unwrap().status.code(), Some(0));
    // One that is not a directory is told, and is the container's own failure.
    let mut command = container.command(&["--", "true"]);
    command.env("ZINIT_CONFIG_DIR", "/dev/null");
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(100), "{errors}");
    assert!(
        errors.contains("/dev/null: error: not a directory"),
        "{errors}"
    );
}

#[test]
fn a_command_on_a_terminal_has_it() {
    if find_program("script").is_none() {
        eprintln!("skipped: script(1) is not installed");
        return;
    }
    let container = Container::new("terminal");
    let mut inner = String::new();
    let command = container.command(&["--", "sh", "-i"]);
    for word in std::iter::once(command.get_program()).chain(command.get_args()) {
        inner.push_str(&shell_quoted(word.to_str().unwrap()));
        inner.push(' ');
    }
    // Whoever waits for what never comes is told so by the end.
    let mut child = Command::new("timeout")
        .args(["60", "script", "-q", "-e", "-c", &inner, "/dev/null"])
        .env("ZINIT_CONFIG_DIR", container.dir.join("services"))
        .env("ZINIT_SOCKET", container.dir.join("sock"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut text = String::new();
    let mut wait = |what: &str| {
        let mut buffer = [0; 256];
        while !text.contains(what) {
            let count = output.read(&mut buffer).unwrap();
            assert!(count > 0, "no {what:?}: {text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        text.clear();
    };
    input.write_all(b"PS1='prom''pt> '\n").unwrap();
    wait("prompt> ");
    // It is the controlling terminal: /dev/tty is there, and Ctrl-C ends what runs in front.
    let line = b"(: </dev/tty) && sh -c 'echo con\"trols\"; exec sleep 1000'\n";
    input.write_all(line).unwrap();
    wait("controls");
    input.write_all(b"\x03").unwrap();
    wait("prompt> ");
    input.write_all(b"echo still $?; exit 4\n").unwrap();
    wait("still 130");
    assert_eq!(child.wait().unwrap().code(), Some(4));
}

#[test]
fn beside_other_processes_it_minds_its_own() {
    // Not PID 1: as under another init, or in a shared PID namespace.
    let container = Container::new("second");
    container.service("web", "exec = \"sleep 1000\"");
    let mut stranger = Command::new("sleep").arg("1000").spawn().unwrap();
    let line = format!("{} init -- sh -c 'exit 8'", env!("CARGO_BIN_EXE_zinit"));
    let status = Command::new("sh")
        .args(["-c", &line])
        .env("ZINIT_CONFIG_DIR", container.dir.join("services"))
        .env("ZINIT_SOCKET", container.dir.join("sock"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let lives = stranger.try_wait().unwrap().is_none();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert_eq!(status.unwrap().code(), Some(8));
    assert!(lives, "it has ended somebody else's process");
}
