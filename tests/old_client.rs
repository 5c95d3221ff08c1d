//! The client of zinit 0.3.9 against this server: each of its commands, and each call of its library.
//! `make test-old-client` builds that client from crates.io and runs these.

#[path = "common/pattern.rs"]
mod pattern;
#[path = "common/sandbox.rs"]
mod sandbox;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pattern::fits;
use sandbox::{Sandbox, quoted, wait_until};

/// Where the old client looks before it looks in `$HOME`.
const SYSTEM_SOCKET: &str = "/run/zinit.sock";

/// Two children, of which it says `up` when both are what they will be.
const KIDS: &str = "sleep 1000 & a=$!; sleep 1001 & for pid in $a $!; do \
                    until read -r word < /proc/$pid/comm && [ $word = sleep ]; do :; done; done; \
                    echo up; wait";

/// A server that is called as the old one was, and found where the old one was.
struct Old {
    sandbox: Sandbox,
    home: PathBuf,
    words: Vec<(&'static str, String)>,
}

/// With services of every kind that 0.3.9 knew.
fn old() -> Old {
    let sandbox = Sandbox::new();
    let once = "[lifecycle]\nrestart = \"never\"";
    let program = |name: &str, exec: &str, more: &str| {
        sandbox.service(name, &format!("exec = {}\n{more}", quoted(exec)));
    };
    let alpha = "[dependencies]\nrequires = [\"alpha\"]";
    program("alpha", "echo alpha-out; exec sleep 1000", "");
    program("beta", "exec sleep 1000", alpha);
    let crash = "[dependencies]\nrequires = [\"crash\"]";
    program("blocked", "exec sleep 1000", crash);
    let conf = "[dependencies]\nafter = [\"alpha\"]\nconflicts = [\"alpha\"]";
    program("conf", "exec sleep 1000", conf);
    program("crash", "exit 2", once);
    program(
        "hup",
        "trap 'echo hup' HUP; echo up; while :; do sleep 1000 & wait; done",
        "",
    );
    program("ignored", "sleep 1000", "status = \"ignore\"");
    program("kids", KIDS, once);
    program("once", "exit 0", "oneshot = true");
    let probe = "[health]\ntype = \"exec\"\ntarget = \"true\"";
    program("probed", "sleep 1000", probe);
    program("sig", "kill -9 $$", once);
    sandbox.target("t", alpha);
    let home = sandbox.path("home");
    Old {
        sandbox,
        home,
        words: Vec::new(),
    }
    .started()
}

impl Old {
    fn started(mut self) -> Self {
        assert!(
            !Path::new(SYSTEM_SOCKET).exists(),
            "the old client would ask {SYSTEM_SOCKET}"
        );
        for dir in ["hero/cfg", "hero/var"] {
            fs::create_dir_all(self.home.join(dir)).unwrap();
        }
        symlink(
            self.sandbox.services_dir(),
            self.home.join("hero/cfg/zinit"),
        )
        .unwrap();
        symlink(self.home.join("hero/var/zinit.sock"), self.sandbox.socket()).unwrap();
        let usual = self.sandbox.server_command();
        let mut command = Command::new(env!("CARGO_BIN_EXE_zinit"));
        for (name, value) in usual.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let log = fs::File::create(self.sandbox.path("server.log")).unwrap();
        command.arg0("zinit-server").env("HOME", &self.home);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.sandbox.start_as(command);
        for name in ["alpha", "beta", "hup", "kids", "probed", "t"] {
            self.sandbox.await_running(name);
        }
        for (name, word) in [("crash", "failed"), ("sig", "failed"), ("once", "exited")] {
            self.sandbox.wait_state(name, word);
        }
        self.sandbox.wait_state("blocked", "blocked");
        self.sandbox.wait_output("kids", "up");
        self.sandbox.wait_output("hup", "up");
        self.sandbox.wait_output("alpha", "alpha-out");
        self.words
            .push(("home", self.home.to_str().unwrap().to_owned()));
        self.words
            .push(("version", env!("CARGO_PKG_VERSION").to_owned()));
        self
    }

    /// A command of the old client: standard output, standard error, exit code.
    fn run(&self, line: &str) -> (String, String, i32) {
        let mut words = vec![String::new()];
        for (at, part) in line.split('\'').enumerate() {
            match at % 2 {
                0 => words.extend(part.split_whitespace().map(str::to_owned)),
                _ => words.push(part.to_owned()),
            }
        }
        let output = Command::new(built("bin/zinit"))
            .args(&words[1..])
            .env("HOME", &self.home)
            .env("NO_COLOR", "1")
            .current_dir(self.sandbox.dir())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            text(output.stdout),
            text(output.stderr),
            output.status.code().unwrap(),
        )
    }

    /// A command that does what it should, and says this.
    fn says(&self, line: &str, expected: &str) {
        let (stdout, stderr, code) = self.run(line);
        assert_eq!((stderr.as_str(), code), ("", 0), "{line}: {stdout}");
        let same = fits(expected, &stdout, &self.words);
        assert!(same, "{line}\nexpected\n{expected}\nfound\n{stdout}");
    }

    /// A command that can't, and says why.
    fn refuses(&self, line: &str, expected: &str) {
        let (stdout, stderr, code) = self.run(line);
        assert_eq!(code, 1, "{line}: {stdout}{stderr}");
        let same = fits(expected, &stderr, &self.words);
        assert!(same, "{line}\nexpected\n{expected}\nfound\n{stderr}");
    }

    /// The lines of the program that calls the library, in this mode: name and what came.
    fn calls(&self, mode: &str) -> Vec<String> {
        let output = Command::new(built("build/release/oldclient"))
            .arg(self.home.join("hero/var/zinit.sock"))
            .arg(mode)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{errors}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn assert_calls(&self, mode: &str, expected: &[&str]) {
        let found = self.calls(mode);
        for (line, pattern) in found.iter().zip(expected) {
            assert!(
                fits(pattern, line, &self.words),
                "{mode}\nexpected {pattern}\nfound    {line}"
            );
        }
        assert_eq!(found.len(), expected.len(), "{mode}: {found:#?}");
    }
}

fn built(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/oldclient")
        .join(name);
    assert!(
        path.is_file(),
        "`make test-old-client` builds {}",
        path.display()
    );
    path
}

#[test]
#[ignore = "make test-old-client"]
fn commands_that_read() {
    let old = old();
    let list = "● alpha   Running (pid: <u64>)\n● beta    Running (pid: <u64>)\n○ blocked Blocked\n\
                ○ conf    Blocked\n✗ crash   Failed\n● hup     Running (pid: <u64>)\n\
                ○ ignored Inactive\n● kids    Running (pid: <u64>)\n◌ once    Exited\n\
                ● probed  Running (pid: <u64>)\n✗ sig     Failed\n● t       Running\n";
    old.says("list", list);
    old.says("ls", list);
    old.says(
        "status alpha",
        "Service: alpha\nState:   ● Running\nPID:     <u64>\n",
    );
    old.says(
        "status crash",
        "Service: crash\nState:   ✗ Failed\nExit:    2\n",
    );
    old.says(
        "status sig",
        "Service: sig\nState:   ✗ Failed\nError:   killed by signal 9\n",
    );
    old.says(
        "status once",
        "Service: once\nState:   ◌ Exited\nExit:    0\n",
    );
    old.says("status t", "Service: t\nState:   ● Running\n");
    old.says("status ignored", "Service: ignored\nState:   ○ Inactive\n");
    old.says(
        "status blocked",
        "Service: blocked\nState:   ○ Blocked\nError:   waiting on: crash\n",
    );
    // 0.3.9 had no error here.
    old.says(
        "status conf",
        "Service: conf\nState:   ○ Blocked\nError:   conflicts with: alpha\n",
    );
    old.refuses("status nobody", "Error: service not found\n");
    old.says("why alpha", "alpha is not blocked\n");
    old.says(
        "why blocked",
        "[?] blocked (blocked)\n  -> waiting on crash (failed)\n\nWaiting on: crash\n",
    );
    old.says(
        "why conf",
        "[?] conf (blocked)\n  !> conflicts with alpha (running)\nConflicts with: alpha\n",
    );
    old.refuses("why nobody", "Error: service not found\n");
    old.says(
        "tree",
        "├─ [+] alpha (running)\n├─ [+] beta (running)\n│    └─ requires alpha (running)\n\
         ├─ [?] blocked (blocked)\n│    └─ requires crash (failed)\n├─ [?] conf (blocked)\n\
         │    └─ after alpha (running)\n├─ [X] crash (failed)\n├─ [+] hup (running)\n\
         ├─ [-] ignored (inactive)\n├─ [+] kids (running)\n├─ [.] once (exited)\n\
         ├─ [+] probed (running)\n├─ [X] sig (failed)\n└─ [+] t (running)\n     \
         └─ requires alpha (running)\n",
    );
    old.says("logs alpha", "<u64> [stdout] alpha-out\n");
    old.says("logs alpha -n 1", "<u64> [stdout] alpha-out\n");
    old.says("logs beta", "No logs available for beta\n");
    old.refuses("logs nobody", "Error: service not found\n");
    old.says(
        "debug-state",
        "=== Service Graph State ===\n\n[+] alpha - Running (pid=<u64>, uptime=<text>s)\n    \
         → required by: <text>\n\n<text>\n\n[X] crash - Failed (exited with code 2)\n    \
         → required by: blocked\n\n<text>\n[X] sig - Failed (killed by SIGKILL (9))\n\n\
         [+] t - Running (pid=0, uptime=?)\n    ← depends on:\n      ✓ requires alpha (running)\n\n",
    );
    old.says(
        "debug-procs kids",
        "kids (pid=<u64>)\n  ├─ sleep (pid=<u64>, ppid=<u64>, sleeping)\n  \
         └─ sleep (pid=<u64>, ppid=<u64>, sleeping)\n",
    );
    old.says("debug-procs once", "once is not running\n");
    old.refuses("debug-procs nobody", "Error: service not found\n");
    old.says("ping", "zinit daemon v<version> is running\n");
}

#[test]
#[ignore = "make test-old-client"]
fn commands_that_change() {
    let old = old();
    let sandbox = &old.sandbox;
    old.says("start alpha", "✓ Started: alpha\nStarted: alpha\n");
    let tip = "\nService is blocked: waiting on: crash\n\n\
               Tip: use 'zinit start blocked --tree' to start dependencies too\n";
    old.says(
        "start blocked",
        &format!("✓ Started: blocked\nStarted: blocked\n{tip}"),
    );
    let tree =
        "Starting dependency: crash\n✓ Started: crash\n✓ Started: blocked\nStarted: blocked\n";
    old.says("start blocked --tree", &format!("{tree}{tip}"));
    old.refuses("start nobody", "Error: service not found: nobody\n");
    old.says("start ignored", "✓ Started: ignored\nStarted: ignored\n");
    sandbox.await_running("ignored");
    old.says("stop ignored", "✓ Stopped: ignored\nStopped: ignored\n");
    sandbox.wait_state("ignored", "exited");
    old.refuses("stop nobody", "Error: service not found: nobody\n");
    let pid = sandbox.pid("beta");
    old.says("restart beta", "✓ Restarted: beta\nRestarted: beta\n");
    sandbox.wait_other_pid("beta", pid);
    old.refuses("restart nobody", "Error: service not found: nobody\n");
    old.says("kill hup -s HUP", "✓ Sent HUP to: hup\nSent HUP to: hup\n");
    sandbox.wait_output("hup", "hup");
    old.says(
        "kill hup --signal SIGWINCH",
        "✓ Sent SIGWINCH to: hup\nSent SIGWINCH to: hup\n",
    );
    old.says("kill kids", "✓ Sent TERM to: kids\nSent SIGTERM to: kids\n");
    sandbox.wait_state("kids", "failed");
    old.refuses(
        "kill hup -s BOGUS",
        "Error: signal error for service '<text>: unknown signal\n",
    );
    old.refuses("kill crash", "Error: service not running: <text>\n");
    old.refuses("kill t", "Error: <text>\n");
    old.refuses("kill nobody", "Error: service not found: nobody\n");
    old.says("remove ignored", "✓ Deleted: ignored\nRemoved: ignored\n");
    let file = sandbox.services_dir().join("ignored.toml");
    assert!(wait_until(|| !file.exists()));
    // 0.3.9 took five seconds for that, and the client gave up.
    old.says("remove alpha", "✓ Deleted: alpha\nRemoved: alpha\n");
    old.refuses("status beta", "Error: service not found\n");
    old.refuses("remove nobody", "Error: service not found: nobody\n");
    // What the old client itself does not do, whatever the server.
    old.refuses(
        "reload",
        "Error: reload command not supported in this version\n",
    );
    old.refuses("logs hup -f", "Error: --follow is not yet implemented\n");
}

#[test]
#[ignore = "make test-old-client"]
fn commands_that_add() {
    let old = old();
    old.says(
        "add-service --name new1 --exec 'sleep 1000' --dir / -e A=b -e C=d --after alpha \
         --requires beta --wants once --conflicts conf --restart always --restart-delay 5 \
         --restart-delay-max 50 --max-restarts 3 --ephemeral",
        "✓ Created: new1\nService 'new1' added (saved to <home>/hero/cfg/zinit/new1.toml)\n",
    );
    old.sandbox.await_running("new1");
    let file = fs::read_to_string(old.home.join("hero/cfg/zinit/new1.toml")).unwrap();
    for line in [
        "name = \"new1\"",
        "exec = \"sleep 1000\"",
        "A = \"b\"",
        "after = [\"alpha\"]",
        "requires = [\"beta\"]",
        "wants = [\"once\"]",
        "conflicts = [\"conf\"]",
        "restart = \"always\"",
        "restart_delay_ms = 5",
        "restart_delay_max_ms = 50",
        "max_restarts = 3",
    ] {
        assert!(file.lines().any(|known| known == line), "{line}\n{file}");
    }
    let text = "[service]\nname = \"new2\"\nexec = \"sleep 1000\"\n[health]\ntype = \"exec\"\n\
                target = \"true\"\n";
    fs::write(old.sandbox.path("new2.toml"), text).unwrap();
    old.says(
        "add-service new2.toml",
        "✓ Created: new2\nService 'new2' added (saved to <home>/hero/cfg/zinit/new2.toml)\n",
    );
    old.sandbox.await_running("new2");
    // 0.3.9 hung on a name it had.
    old.says(
        "add-service --name new2 --exec 'sleep 2000' --oneshot --restart never",
        "✓ Created: new2\nService 'new2' added (saved to <home>/hero/cfg/zinit/new2.toml)\n\
         Warning: it runs on as it was started; <text>\n",
    );
    old.refuses(
        "add-service --name 'b d' --exec 'sleep 1'",
        "Error: Validation failed\n",
    );
    old.refuses(
        "add-service --name x --exec /no/such",
        "Error: Executable not found: /no/such\n",
    );
    old.refuses(
        "add-service --name x --exec 'sleep 1' --requires nobody",
        "Error: Dependency 'nobody' not found\n",
    );
}

#[test]
#[ignore = "make test-old-client"]
fn commands_that_end_it() {
    let pid_1 = fs::read_link("/proc/1/exe").unwrap_or_default();
    let is_pid_1 = pid_1.to_string_lossy().contains("zinit");
    let stops = "Shutting down zinit daemon...\nzinit daemon stopped\n";
    let says = format!("zinit is not running as PID 1 - stopping daemon only\n{stops}");
    for (command, expected) in [("shutdown", stops), ("poweroff", &says), ("reboot", &says)] {
        if is_pid_1 && command != "shutdown" {
            println!("SKIPPED: {command} would be heard by this machine");
            continue;
        }
        let mut old = old();
        old.says(command, expected);
        assert_eq!(old.sandbox.server_end().code(), Some(0));
        let nobody = "Error: Failed to connect to zinit daemon: Failed to connect to zinit server: \
                      Failed to connect to Unix socket\nIs zinit-server running?\n";
        old.refuses("ping", nobody);
        old.sandbox.assert_nothing_left();
    }
}

/// Whoever connects to a proxy that the old client made is led to the backend, and its service runs.
#[test]
#[ignore = "make test-old-client"]
fn commands_about_proxies() {
    let old = old();
    let dir = old.sandbox.dir().to_str().unwrap();
    let back = UnixListener::bind(format!("{dir}/b.sock")).unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    old.says("xinet list", "No xinet proxies registered\n");
    old.says("xinet status", "No xinet proxies registered\n");
    // The old client takes the prefixes away before it asks.
    let listens = format!("-l unix:{dir}/f.sock -l tcp:127.0.0.1:{port} -b unix:{dir}/b.sock");
    let times = "--connect-timeout 60 --idle-timeout 600";
    old.says(
        &format!("xinet register px {listens} --service ignored {times}"),
        "Set xinet proxy 'px'\n",
    );
    let bare = format!("-l unix:{dir}/x.sock -b 127.0.0.1:{port}");
    old.says(
        &format!("xinet register one {bare} --service nobody --single"),
        "Set xinet proxy 'one'\n",
    );
    old.says("xinet list", "Registered xinet proxies:\n  one\n  px\n");
    let proxies = |count: u8| {
        format!(
            "Proxy: one\n  Listen:  \"unix:{dir}/x.sock\"\n  Backend: \"tcp:127.0.0.1:{port}\"\n  \
             Service: nobody\n  Status:  running\n  Connections: 0 active, 0 total\n  \
             Traffic: 0 bytes in, 0 bytes out\n\n\
             Proxy: px\n  Listen:  \"unix:{dir}/f.sock, tcp:127.0.0.1:{port}\"\n  \
             Backend: \"unix:{dir}/b.sock\"\n  Service: ignored\n  Status:  running\n  \
             Connections: {count} active, {count} total\n  \
             Traffic: {count} bytes in, {count} bytes out\n"
        )
    };
    old.says("xinet status", &proxies(0));
    let by_path = UnixStream::connect(format!("{dir}/f.sock")).unwrap();
    let by_path = answered(by_path, &back);
    old.sandbox.await_running("ignored");
    let by_port = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let by_port = answered(by_port, &back);
    old.says("xinet status", &proxies(2));
    // 0.3.9 sent its client nothing that this could read.
    old.says(
        "xinet status px",
        "Proxy: px\n  Status:  running\n  Connections: 2 active\n",
    );
    drop((by_path, by_port));
    old.refuses("xinet status nobody", "Error: proxy not found\n");
    let nowhere = format!("-l unix:{dir}/none/x.sock -b unix:{dir}/b.sock");
    old.refuses(
        &format!("xinet register two {nowhere} --service alpha"),
        "Error: proxy 'two': listen unix:<text>: No such file or directory\n",
    );
    old.says("xinet unregister px", "Unregistered xinet proxy 'px'\n");
    old.refuses("xinet unregister px", "Error: Proxy 'px' not found\n");
    old.says("xinet list", "Registered xinet proxies:\n  one\n");
}

/// A client of a proxy, and its connection at the backend, after a byte went each way.
fn answered<T: Read + Write>(mut client: T, back: &UnixListener) -> (T, UnixStream) {
    client.write_all(b"?").unwrap();
    let (mut there, _) = back.accept().unwrap();
    let mut byte = [0];
    there.read_exact(&mut byte).unwrap();
    assert_eq!(byte, *b"?");
    there.write_all(b"!").unwrap();
    client.read_exact(&mut byte).unwrap();
    assert_eq!(byte, *b"!");
    (client, there)
}

/// What every call of the library brings, but those about proxies and the end.
const CALLS: &[&str] = &[
    "test_connection ok \"<version>\"",
    "discover ok Object {<text>\"openrpc\": String(\"1.2.6\")}",
    "ping ok PingResponse { version: \"<version>\" }",
    "list ok [\"alpha\", \"beta\", <text>, \"t\"]",
    "list_full ok [ServiceInfo { name: \"alpha\", state: Running { pid: <u64> }, is_target: false }, \
     <text>, ServiceInfo { name: \"t\", state: Running { pid: 0 }, is_target: true }]",
    "status ok ServiceStatus { name: \"alpha\", state: Running, pid: <u64>, exit_code: None, error: None }",
    "status of a failed one ok ServiceStatus { name: \"crash\", state: Failed, pid: 0, \
     exit_code: Some(2), error: None }",
    "status of a blocked one ok ServiceStatus { name: \"blocked\", state: Blocked, pid: 0, \
     exit_code: None, error: Some(\"waiting on: crash\") }",
    "status of nobody error \"service not found\"",
    "status_full ok ServiceStatusFull { name: \"beta\", state: Running { pid: <u64> }, is_target: false, \
     dependencies: [DependencyInfo { name: \"alpha\", dep_type: \"requires\", \
     state: Running { pid: <u64> }, satisfied: true }], uptime_secs: Some(<u64>) }",
    "status_full of a failed one ok ServiceStatusFull { name: \"crash\", \
     state: Failed { reason: ExitCode { code: 2 } }, is_target: false, dependencies: [], \
     uptime_secs: None }",
    "status_full of a blocked one ok ServiceStatusFull { name: \"blocked\", \
     state: Blocked { waiting_on: [\"crash\"] }, is_target: false, dependencies: [<text>], \
     uptime_secs: None }",
    "status_full of one that exited ok ServiceStatusFull { name: \"once\", \
     state: Exited { exit_code: Some(0) }, is_target: false, dependencies: [], uptime_secs: None }",
    "status_full of a target ok ServiceStatusFull { name: \"t\", state: Running { pid: 0 }, \
     is_target: true, dependencies: [<text>], uptime_secs: <text> }",
    "stats ok ServiceStats { pid: <u64>, memory_bytes: <u64>, cpu_percent: <text> }",
    "children ok ChildrenResponse { children: [\
     ChildProcessInfo { pid: <u64>, name: \"sleep\", memory_bytes: <u64> }, \
     ChildProcessInfo { pid: <u64>, name: \"sleep\", memory_bytes: <u64> }] }",
    "is_running ok true",
    "is_running of nobody ok false",
    "why ok WhyBlocked { name: \"blocked\", blocked: true, waiting_on: [\"crash\"], conflicts_with: [], \
     port_conflict: None, process_conflict: None, ascii: \"[?] blocked (blocked)\\n<text>\" }",
    "why of a rival ok WhyBlocked { name: \"conf\", blocked: true, waiting_on: [], \
     conflicts_with: [\"alpha\"], port_conflict: None, process_conflict: None, ascii: <text> }",
    "tree ok \"├─ [+] alpha (running)\\n<text>\"",
    "logs ok [\"<u64> [stdout] alpha-out\"]",
    "logs of all ok [<text>alpha-out<text>]",
    "logs_tail ok [LogLine { timestamp_ms: <u64>, service: \"alpha\", stream: \"stdout\", \
     content: \"alpha-out\" }]",
    // The old server's answer was no more to its client's liking.
    "logs_filter error \"Failed to parse result: <text> expected struct LogLine\"",
    "debug_state ok \"=== Service Graph State ===\\n\\n[+] alpha - Running <text>\"",
    "debug_process_tree ok \"kids (pid=<u64>)\\n  ├─ sleep <text>\"",
    "service_get ok ServiceConfig { service: ServiceDef { name: \"alpha\", <text> }, \
     dependencies: <text>, lifecycle: <text>, health: None, logging: LoggingDef { <text> } }",
    "service_get with health ok ServiceConfig { service: ServiceDef { name: \"probed\", <text> }, \
     dependencies: <text>, lifecycle: <text>, health: Some(<text>), logging: <text> }",
    // Nor was this one.
    "service_get of a target error \"Failed to parse result: missing field `service`\"",
    "service_set ok AddServiceResult { name: \"made\", path: Some(\"<home>/hero/cfg/zinit/made.toml\"), \
     warnings: [] }",
    "service_set again ok AddServiceResult { name: \"made\", path: Some(<text>), warnings: <text> }",
    "service_set of nonsense error \"Validation failed\"",
    "start ok ()",
    "restart ok ()",
    "kill ok ()",
    "kill without a signal ok ()",
    "kill with nonsense error \"signal error for service '<text>: unknown signal\"",
    "stop ok ()",
    "start of nobody error \"service not found: nobody\"",
    "service_delete ok ()",
    "service_delete of a running one ok ()",
    "reboot error \"Reboot only available when running as PID 1\"",
    // By intent: services do not outlive the server.
    "prepare_restart error <text>",
    "shutdown ok ()",
];

fn all_calls(mode: &str, first: &[&str]) {
    let mut old = old();
    let expected: Vec<&str> = first.iter().chain(CALLS).copied().collect();
    old.assert_calls(mode, &expected);
    assert_eq!(old.sandbox.server_end().code(), Some(0));
    old.sandbox.assert_nothing_left();
}

#[test]
#[ignore = "make test-old-client"]
fn calls_of_the_blocking_handle() {
    all_calls("handle", &["with_socket ok ()", "with_client ok ()"]);
}

#[test]
#[ignore = "make test-old-client"]
fn calls_of_the_async_client() {
    all_calls("client", &[]);
}

#[test]
#[ignore = "make test-old-client"]
fn calls_about_proxies() {
    for mode in ["handle-proxies", "client-proxies"] {
        old().assert_calls(
            mode,
            &[
                "xinet_set ok ()",
                "xinet_list ok [\"px\"]",
                "xinet_status ok XinetStatus { <text> }",
                "xinet_status_all ok [XinetStatusFull { name: \"px\", <text> }]",
                "xinet_delete ok ()",
                "xinet_delete of nobody error \"Proxy 'px' not found\"",
            ],
        );
    }
}

/// Definitions that say what 0.3.9 could not: where the old types have a place for them, they come.
#[test]
#[ignore = "make test-old-client"]
fn calls_about_newer_services() {
    let old = old();
    let readied = "exec = \"sleep 1000\"\n[readiness]\ntype = \"notify\"";
    old.sandbox.service("readied", readied);
    old.sandbox.service("words", "exec = [\"sleep\", \"1000\"]");
    let range = "type = \"http\"\ntarget = \"http://127.0.0.1:1/\"\nexpect_status = \"2xx\"";
    let range = format!("exec = \"sleep 1000\"\n[health]\n{range}");
    old.sandbox.service("range", &range);
    old.sandbox.service("hooked", HOOKED);
    old.sandbox.ask("service.reload", serde_json::Value::Null);
    old.sandbox.wait_state("hooked", "failed");
    old.assert_calls(
        "newer",
        &[
            "service_get of a later readiness ok ServiceConfig { service: ServiceDef { <text> }, <text> }",
            // They take exec for a string, and a status for a number.
            "service_get of words error \"Failed to parse result: <text>\"",
            "service_get of a range error \"Failed to parse result: <text>\"",
            "status of a failed hook ok ServiceStatus { name: \"hooked\", state: Failed, pid: 0, \
             exit_code: None, error: Some(\"pre_start hook exited with code 1\") }",
        ],
    );
    old.says(
        "status hooked",
        "Service: hooked\nState:   ✗ Failed\nError:   pre_start hook exited with code 1\n",
    );
}

const HOOKED: &str =
    "exec = \"sleep 1000\"\n[lifecycle]\nrestart = \"never\"\n[hooks]\npre_start = \"exit 1\"";

/// A service that failed as none of 0.3.9 did hides no other from its library.
#[test]
#[ignore = "make test-old-client"]
fn calls_about_newer_failures() {
    let old = old();
    let notify = "[readiness]\ntype = \"notify\"";
    let early = format!("exec = \"exit 0\"\n[lifecycle]\nrestart = \"never\"\n{notify}");
    old.sandbox.service("early", &early);
    old.sandbox.service("hooked", HOOKED);
    old.sandbox.ask("service.reload", serde_json::Value::Null);
    for name in ["early", "hooked"] {
        old.sandbox.wait_state(name, "failed");
    }
    old.assert_calls(
        "failures",
        &[
            "status_full of an early end ok ServiceStatusFull { name: \"early\", <text> }",
            "status_full of a failed hook ok ServiceStatusFull { name: \"hooked\", <text> }",
            "list_full with both ok [<text>]",
        ],
    );
}
