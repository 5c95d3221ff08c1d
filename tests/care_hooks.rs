//! Commands at the turning points of a service, how it is told to read its configuration anew, and
//! what follows when it has ended.

#[path = "common/puppet.rs"]
mod puppet;
#[path = "common/sandbox.rs"]
mod sandbox;

use nix::sys::signal::Signal;
use puppet::{order, puppet};
use sandbox::{Sandbox, is_alive, quoted, signal, wait_until};
use serde_json::{Value, json};

/// A program that only waits.
const WAITS: &str = "exec = [\"sleep\", \"1000\"]";

/// Never tried again, so that what is told stays.
const ONCE: &str = "[lifecycle]\nrestart = \"never\"";

/// A server with this service.
fn started(name: &str, body: &str) -> Sandbox {
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    sandbox.service(name, body);
    sandbox.start();
    sandbox
}

/// A hook of this name that notes what it finds in its environment.
fn notes(name: &str) -> String {
    let line =
        format!("echo {name} $SERVICE ${{MAINPID:-none}} ${{EXIT_STATUS:-none}} >> $DIR/order");
    format!("{name} = {}\n", quoted(&line))
}

fn wait_lines(sandbox: &Sandbox, name: &str, count: usize) -> Vec<String> {
    let so = wait_until(|| sandbox.lines(name).len() >= count);
    let lines = sandbox.lines(name);
    assert!(so, "{lines:?}\n{}", sandbox.log());
    lines
}

fn error_of(sandbox: &Sandbox, name: &str) -> Value {
    sandbox.wait_state(name, "failed");
    sandbox.status(name)["error"].clone()
}

/// Says that it runs, is ready, and waits to be told to stop.
const MAIN: &str = "trap 'echo term >> $DIR/order; exit 9' TERM; echo main >> $DIR/order; echo >&3; \
                    while :; do sleep 1000 & wait $!; done";

/// Hooks run in their order around the life of a program, and know of whom they are.
#[test]
fn hooks_run_in_their_order() {
    let names = ["pre_start", "post_start", "stop", "post_stop", "reload"];
    let hooks: String = names.map(notes).concat();
    let body = format!(
        "exec = {}\n[readiness]\ntype = \"fd\"\nfd = 3\n[hooks]\n{hooks}",
        quoted(MAIN)
    );
    let sandbox = started("hooked", &body);
    sandbox.await_running("hooked");
    let pid = sandbox.pid("hooked");
    sandbox.done("service.reload", "hooked");
    sandbox.done("service.stop", "hooked");
    let expected = [
        "pre_start hooked none none".to_owned(),
        "main".to_owned(),
        format!("post_start hooked {pid} none"),
        format!("reload hooked {pid} none"),
        format!("stop hooked {pid} none"),
        "term".to_owned(),
        "post_stop hooked none 9".to_owned(),
    ];
    assert_eq!(sandbox.lines("order"), expected);
    // The next run knows how the last one ended.
    sandbox.done("service.start", "hooked");
    assert_eq!(sandbox.lines("order")[7], "pre_start hooked none 9");
}

/// After a crash the last hook runs before the restart, and is told of the exit status or the signal.
#[test]
fn the_last_hook_runs_after_a_crash() {
    for (exec, told) in [
        ("exit 7", "7"),
        ("kill -KILL $$", "KILL"),
        ("kill -USR1 $$", "USR1"),
    ] {
        let exec = format!("echo main >> $DIR/order; {exec}");
        let hooks = ["pre_start", "stop", "post_stop"].map(notes).concat();
        let body = format!(
            "exec = {}\n[lifecycle]\nrestart_delay_ms = 2\nmax_restarts = 1\n[hooks]\n{hooks}",
            quoted(&exec)
        );
        let sandbox = started("crash", &body);
        sandbox
            .await_goal("crash", "stopped")
            .expect("it fails for good");
        let expected = [
            "pre_start crash none none".to_owned(),
            "main".to_owned(),
            format!("post_stop crash none {told}"),
            format!("pre_start crash none {told}"),
            "main".to_owned(),
            format!("post_stop crash none {told}"),
        ];
        assert_eq!(sandbox.lines("order"), expected);
    }
}

/// Others may rely on a service only when the hook after its start is through.
#[test]
fn dependents_wait_for_the_hook_after_the_start() {
    let body = format!("{WAITS}\n[hooks]\npost_start = \"read line < $DIR/fifo\"");
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    nix::unistd::mkfifo(&sandbox.path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    sandbox.service("first", &body);
    sandbox.service(
        "second",
        &format!("{WAITS}\n[dependencies]\nrequires = [\"first\"]"),
    );
    sandbox.start();
    assert!(wait_until(|| sandbox.pid("first") != 0));
    assert_eq!(sandbox.state("first"), "starting");
    assert_eq!(sandbox.state("second"), "blocked");
    std::fs::write(sandbox.path("fifo"), "go\n").unwrap();
    sandbox.await_running("second");
    assert_eq!(sandbox.state("first"), "running");
}

/// A hook before the start that fails keeps the program from running, and says how it failed.
#[test]
fn a_hook_before_the_start_tells_how_it_failed() {
    let cases = [
        ("code", "exit 4", "pre_start hook exited with code 4"),
        (
            "signal",
            "kill -KILL $$",
            "pre_start hook killed by signal 9",
        ),
        (
            "absent",
            "/no/such/hook",
            "pre_start hook exec /no/such/hook: No such file or directory",
        ),
        ("slow", "sleep 1000", "pre_start hook took too long"),
    ];
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    for (name, hook, _) in cases {
        let timeout = if name == "slow" { 100 } else { 60_000 };
        let body = format!(
            "exec = \"echo ran >> $DIR/ran\"\n{ONCE}\n[hooks]\npre_start = {}\n\
             pre_start_timeout_ms = {timeout}",
            quoted(hook)
        );
        sandbox.service(name, &body);
    }
    sandbox.start();
    for (name, _, told) in cases {
        assert_eq!(error_of(&sandbox, name), told, "{name}");
        let full = sandbox.ask("service.status_full", json!({"name": name}));
        let reason = json!({"type": "spawn_error", "cause": "hook_failed", "hook": "pre_start", "message": told});
        assert_eq!(full["state"]["reason"], reason);
    }
    assert!(!sandbox.path("ran").exists(), "a program ran");
}

/// It is tried again as the restart policy says, and the program runs when it succeeds.
#[test]
fn a_hook_before_the_start_is_tried_again() {
    let hook = "echo try >> $DIR/tries; [ $(wc -l < $DIR/tries) -ge 3 ]";
    let body = format!(
        "{WAITS}\n[lifecycle]\nrestart_delay_ms = 2\n[hooks]\npre_start = {}",
        quoted(hook)
    );
    let sandbox = started("stubborn", &body);
    sandbox.await_running("stubborn");
    assert_eq!(sandbox.lines("tries").len(), 3);
}

/// A hook after the start that fails ends the service, and its last hook runs all the same.
#[test]
fn a_hook_after_the_start_that_fails_ends_the_service() {
    let body = format!(
        "{WAITS}\n{ONCE}\n[hooks]\npost_start = \"exit 5\"\n{}",
        notes("post_stop")
    );
    let sandbox = started("hooked", &body);
    let error = error_of(&sandbox, "hooked");
    assert_eq!(error, "post_start hook exited with code 5");
    assert_eq!(sandbox.lines("order"), ["post_stop hooked none TERM"]);
    let gone = wait_until(|| sandbox.pids_of_services().is_empty());
    assert!(gone, "{:?}", sandbox.pids_of_services());
}

/// What hooks write is kept with the output of their service.
#[test]
fn what_hooks_write_is_kept() {
    let body = format!(
        "{WAITS}\n[hooks]\npre_start = [\"echo\", \"before & behind\"]\n\
         post_start = \"echo after >&2\"\npost_stop = \"printf unfinished\""
    );
    let sandbox = started("hooked", &body);
    sandbox.await_running("hooked");
    sandbox.done("service.stop", "hooked");
    let mut lines = sandbox.output("hooked");
    lines.sort();
    assert_eq!(lines, ["after", "before & behind", "unfinished"]);
}

/// A hook whose time is over is killed with all that it started, whichever it is.
#[test]
fn a_hook_that_takes_too_long_is_killed_with_its_tree() {
    for name in ["pre_start", "post_start", "stop", "post_stop", "reload"] {
        let hangs = "sleep 1000 & setsid sleep 1000 & echo $$ $! >> $DIR/pids; wait";
        let body = format!(
            "{WAITS}\n{ONCE}\n[hooks]\n{name} = {}\n{name}_timeout_ms = 1000",
            quoted(hangs)
        );
        let sandbox = started("hooked", &body);
        match name {
            "pre_start" | "post_start" => {
                let told = format!("{name} hook took too long");
                assert_eq!(error_of(&sandbox, "hooked"), told);
            }
            "reload" => {
                sandbox.await_running("hooked");
                let pid = sandbox.pid("hooked");
                sandbox.not_done("service.reload", "hooked");
                assert_eq!(sandbox.pid("hooked"), pid, "a reload ends nobody");
            }
            _ => {
                sandbox.await_running("hooked");
                sandbox.done("service.stop", "hooked");
            }
        }
        let lines = wait_lines(&sandbox, "pids", 1);
        for number in lines.iter().flat_map(|line| line.split(' ')) {
            let number = number.parse().expect("a process number");
            let gone = wait_until(|| !is_alive(number));
            assert!(gone, "{name}: {number} lives\n{}", sandbox.log());
        }
        let main = sandbox.pid("hooked");
        let gone = wait_until(|| sandbox.pids_of_services().iter().all(|pid| *pid == main));
        assert!(gone, "{name}: {:?}", sandbox.pids_of_services());
    }
}

/// So is what such a hook left in a session of its own, with a parent that has ended.
#[test]
fn a_hook_that_takes_too_long_is_killed_with_its_orphans() {
    let hangs = "(setsid sh -c 'echo $$ >> $DIR/pids; exec sleep 1000' &); sleep 1000";
    let body = format!(
        "{WAITS}\n[hooks]\nreload = {}\nreload_timeout_ms = 1000",
        quoted(hangs)
    );
    let sandbox = started("hooked", &body);
    sandbox.await_running("hooked");
    sandbox.not_done("service.reload", "hooked");
    let main = sandbox.pid("hooked");
    wait_lines(&sandbox, "pids", 1);
    let gone = wait_until(|| sandbox.pids_of_services().iter().all(|pid| *pid == main));
    assert!(gone, "{:?}", sandbox.pids_of_services());
}

// Stop.

/// A stop hook that ends the service by itself spares it the stop signal.
#[test]
fn a_stop_hook_can_end_the_service() {
    let exec = "trap 'echo hook; exit 0' USR1; trap 'echo signal; exit 1' TERM; echo up; \
                while :; do sleep 1000 & wait $!; done";
    let hook = "kill -USR1 $MAINPID; while kill -0 $MAINPID; do sleep 0.01; done 2>/dev/null";
    let body = format!("exec = {}\n[hooks]\nstop = {}", quoted(exec), quoted(hook));
    let sandbox = started("polite", &body);
    sandbox.wait_output("polite", "up");
    sandbox.done("service.stop", "polite");
    let lines = sandbox.output("polite");
    assert!(lines.iter().any(|line| line == "hook"), "{lines:?}");
    assert!(!lines.iter().any(|line| line == "signal"), "{lines:?}");
    assert_eq!(sandbox.status("polite")["exit_code"], 0);
}

/// A stop hook that fails is followed by the stop signal, as one that does nothing is.
#[test]
fn a_stop_hook_is_followed_by_the_signal() {
    for hook in ["true", "exit 3", "/no/such/hook"] {
        let exec =
            "trap 'echo signal; exit 0' TERM; echo up; while :; do sleep 1000 & wait $!; done";
        let body = format!("exec = {}\n[hooks]\nstop = {}", quoted(exec), quoted(hook));
        let sandbox = started("asked", &body);
        sandbox.wait_output("asked", "up");
        sandbox.done("service.stop", "asked");
        sandbox.wait_output("asked", "signal");
    }
}

/// A server that ends runs the hooks of what it stops.
#[test]
fn hooks_run_when_the_server_ends() {
    let hooks = ["stop", "post_stop"].map(notes).concat();
    let mut sandbox = started("hooked", &format!("{WAITS}\n[hooks]\n{hooks}"));
    sandbox.await_running("hooked");
    let pid = sandbox.pid("hooked");
    sandbox.stop();
    let expected = [
        format!("stop hooked {pid} none"),
        "post_stop hooked none TERM".to_owned(),
    ];
    assert_eq!(sandbox.lines("order"), expected);
}

// Reload.

/// A reload of one service runs its hook, which counts more than a signal, and tells how that went.
#[test]
fn a_reload_runs_the_hook() {
    let body = format!(
        "{WAITS}\n[lifecycle]\nreload_signal = \"SIGKILL\"\n[hooks]\nreload = \"echo reload $MAINPID; \
         exit $(cat $DIR/status)\""
    );
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    std::fs::write(sandbox.path("status"), "0\n").unwrap();
    sandbox.service("web", &body);
    sandbox.start();
    sandbox.await_running("web");
    let pid = sandbox.pid("web");
    let done = sandbox.done("service.reload", "web");
    assert_eq!(done, json!({"ok": true, "state": "running"}));
    sandbox.wait_output("web", &format!("reload {pid}"));
    let (out, error, code) = sandbox.cli(&["reload", "web"]);
    assert_eq!((error.as_str(), code), ("", 0), "{out}");
    std::fs::write(sandbox.path("status"), "6\n").unwrap();
    let (code, message, _) = sandbox.not_done("service.reload", "web");
    assert_eq!(code, -32603);
    assert!(message.contains("web"), "{message}");
    assert_eq!(sandbox.pid("web"), pid, "it runs on");
    assert!(
        sandbox
            .log()
            .contains("web: reload hook exited with code 6")
    );
}

/// A reload whose hook failed is refused with how it failed.
#[test]
fn a_reload_that_fails_says_how() {
    let body = format!("{WAITS}\n[hooks]\nreload = \"exit 6\"");
    let sandbox = started("web", &body);
    sandbox.await_running("web");
    let (_, message, _) = sandbox.not_done("service.reload", "web");
    let told = message.contains("reload hook exited with code 6");
    assert!(told, "{message}");
}

/// Without a hook a reload sends the signal that is named, and nothing else.
#[test]
fn a_reload_sends_the_signal() {
    let exec = "trap 'echo again' HUP; echo up; while :; do sleep 1000 & wait $!; done";
    let body = format!(
        "exec = {}\n[lifecycle]\nreload_signal = \"HUP\"",
        quoted(exec)
    );
    let sandbox = started("web", &body);
    sandbox.wait_output("web", "up");
    let pid = sandbox.pid("web");
    for count in 1..=2 {
        sandbox.done("service.reload", "web");
        let again = || {
            let lines = sandbox.output("web");
            lines.iter().filter(|line| *line == "again").count()
        };
        assert!(
            wait_until(|| again() == count),
            "{:?}",
            sandbox.output("web")
        );
    }
    assert_eq!(sandbox.pid("web"), pid);
}

/// With neither, or with nobody there, a reload is refused in words that say what to do.
#[test]
fn a_reload_that_cannot_be_is_refused() {
    let sandbox = started("web", WAITS);
    sandbox.await_running("web");
    let (code, message, _) = sandbox.not_done("service.reload", "web");
    assert_eq!(code, -32603);
    assert_eq!(
        message,
        "service 'web' has neither hooks.reload nor lifecycle.reload_signal; restart it instead"
    );
    let (_, message, _) = sandbox.not_done("service.reload", "nobody");
    assert!(message.contains("nobody"), "{message}");
    let (_, error, code) = sandbox.cli(&["reload", "web"]);
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("restart it instead"), "{error}");
    sandbox.done("service.stop", "web");
    let (_, message, _) = sandbox.not_done("service.reload", "web");
    assert!(
        message.contains("web") || message.contains("not running"),
        "{message}"
    );
}

/// A service that tells of its reload itself is shown so while it lasts.
#[test]
fn a_reload_is_shown_by_who_tells_of_it() {
    let mut sandbox = Sandbox::new();
    let first = "signal.signal(signal.SIGHUP, lambda *_: notify('RELOADING=1')); notify('READY=1')";
    let body = "[readiness]\ntype = \"notify\"\n[lifecycle]\nreload_signal = \"SIGHUP\"";
    if !puppet(&sandbox, "puppet", first, body) {
        return;
    }
    sandbox.start();
    sandbox.await_running("puppet");
    sandbox.done("service.reload", "puppet");
    let doing = |word: Value| wait_until(|| sandbox.status("puppet")["doing"] == word);
    assert!(doing(json!("reloading")), "{}", sandbox.status("puppet"));
    let (out, _, _) = sandbox.cli(&["status", "puppet"]);
    assert!(out.contains("reloading"), "{out}");
    order(&sandbox, "puppet", "notify('READY=1')");
    assert!(doing(Value::Null), "{}", sandbox.status("puppet"));
}

// What an end means.

/// Which ends are a success can be said, by exit status and by signal.
#[test]
fn ends_that_are_a_success_can_be_named() {
    let cases = [
        ("zero", "exit 0", "exited"),
        ("named", "exit 143", "exited"),
        ("signal", "kill -USR1 $$", "exited"),
        ("other-code", "exit 3", "failed"),
        ("other-signal", "kill -USR2 $$", "failed"),
    ];
    let mut sandbox = Sandbox::new();
    let body = |exec: &str, success: &str| {
        format!(
            "exec = {}\n[lifecycle]\nrestart_delay_ms = 2\nmax_restarts = 1\n{success}",
            quoted(exec)
        )
    };
    for (name, exec, _) in cases {
        let success = "success_exit = [0, 143, \"SIGUSR1\"]";
        sandbox.service(name, &body(exec, success));
    }
    sandbox.service("unnamed", &body("exit 0", "success_exit = [1]"));
    sandbox.start();
    for (name, _, state) in cases.into_iter().chain([("unnamed", "", "failed")]) {
        sandbox.await_goal(name, "stopped").expect("it ends");
        assert_eq!(sandbox.state(name), state, "{name}");
        let failed = sandbox.log().contains(&format!(" {name}: failed"));
        assert_eq!(failed, state == "failed", "{name}");
    }
}

/// A oneshot whose end is named a success satisfies those that require it.
#[test]
fn a_named_success_satisfies_dependents() {
    let mut sandbox = Sandbox::new();
    sandbox.service(
        "once",
        "exec = \"exit 3\"\noneshot = true\n[lifecycle]\nsuccess_exit = [3]",
    );
    sandbox.service(
        "next",
        &format!("{WAITS}\n[dependencies]\nrequires = [\"once\"]"),
    );
    sandbox.start();
    sandbox.await_running("next");
    assert_eq!(sandbox.state("once"), "exited");
}

/// A server ends with the exit status of the service whose failure is to end everything.
#[test]
fn a_failure_can_end_everything() {
    for (exec, status) in [("exit 7", 7), ("kill -TERM $$", 143)] {
        let body = format!(
            "exec = {}\nstatus = \"stop\"\n[lifecycle]\nrestart_delay_ms = 2\n\
             max_restarts = 1\non_failure = \"shutdown\"",
            quoted(&format!("echo ran >> $DIR/ran; {exec}"))
        );
        let mut sandbox = Sandbox::new();
        sandbox.env("DIR", &sandbox.text(""));
        sandbox.runs("other", "sleep 1000");
        sandbox.service("vital", &body);
        sandbox.start();
        sandbox.await_running("other");
        sandbox.ask("service.start", json!({"name": "vital"}));
        let end = sandbox.server_end();
        assert_eq!(end.code(), Some(status), "{}", sandbox.log());
        assert_eq!(sandbox.lines("ran").len(), 2, "after its restarts only");
        sandbox.assert_nothing_left();
    }
}

/// A server ends when the service has done what it was there for; it says so by its status.
#[test]
fn a_success_can_end_everything() {
    let mut sandbox = Sandbox::new();
    sandbox.service(
        "job",
        "exec = \"exit 4\"\nstatus = \"stop\"\n[lifecycle]\nsuccess_exit = [4]\n\
         on_exit = \"shutdown\"",
    );
    sandbox.start();
    sandbox.ask("service.start", json!({"name": "job"}));
    let end = sandbox.server_end();
    assert_eq!(end.code(), Some(4), "{}", sandbox.log());
}

/// An end can start another service: after success by one key, after failure by the other.
#[test]
fn an_end_can_start_another_service() {
    let mut sandbox = Sandbox::new();
    let follows = "on_exit = \"start:happy\"\non_failure = \"start:sad\"";
    for (name, exec) in [("well", "exit 0"), ("badly", "exit 1")] {
        sandbox.service(
            name,
            &format!("exec = \"{exec}\"\nstatus = \"stop\"\n{ONCE}\n{follows}"),
        );
    }
    for name in ["happy", "sad"] {
        sandbox.service(name, &format!("{WAITS}\nstatus = \"stop\""));
    }
    sandbox.start();
    for (name, starts, not) in [("well", "happy", "sad"), ("badly", "sad", "happy")] {
        sandbox.ask("service.start", json!({"name": name}));
        sandbox.await_running(starts);
        assert_eq!(sandbox.pid(not), 0, "{name} does not start {not}");
        sandbox.done("service.stop", starts);
    }
}

/// A stop that was asked for is followed by nothing.
#[test]
fn a_stop_that_was_asked_for_is_followed_by_nothing() {
    let mut sandbox = Sandbox::new();
    sandbox.service(
        "first",
        &format!("{WAITS}\n{ONCE}\non_exit = \"shutdown\"\non_failure = \"start:other\""),
    );
    sandbox.service("other", &format!("{WAITS}\nstatus = \"stop\""));
    sandbox.start();
    sandbox.await_running("first");
    sandbox.done("service.stop", "first");
    assert_eq!(sandbox.state("first"), "exited");
    assert_eq!(sandbox.state("other"), "inactive");
    // An end by itself is another matter.
    sandbox.done("service.start", "first");
    signal(sandbox.pid("first"), Signal::SIGKILL);
    sandbox.await_running("other");
}
