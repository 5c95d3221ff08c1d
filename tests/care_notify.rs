//! What services say of themselves, and who is heard: readiness by `sd_notify(3)`, by a descriptor
//! and by a line; a watchdog; and a main process that hands over to another one.

#[path = "common/puppet.rs"]
mod puppet;
#[path = "common/sandbox.rs"]
mod sandbox;

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use puppet::{order, puppet};
use sandbox::{Sandbox, is_alive, python, quoted, signal, stat_field, wait_until};
use serde_json::{Value, json};

const NOTIFY: &str = "[readiness]\ntype = \"notify\"";

/// Never tried again, so that what is told stays.
const ONCE: &str = "[lifecycle]\nrestart = \"never\"";

/// A server with a service `puppet` that tells when it is ready, if there can be one.
fn notifier(first: &str, body: &str) -> Option<Sandbox> {
    let mut sandbox = Sandbox::new();
    if !puppet(&sandbox, "puppet", first, &format!("{NOTIFY}\n{body}")) {
        return None;
    }
    sandbox.start();
    sandbox.wait_output("puppet", "up");
    Some(sandbox)
}

/// Waits until a member of a service's status is this.
fn wait_member(sandbox: &Sandbox, name: &str, member: &str, value: &Value) {
    let so = wait_until(|| sandbox.status(name)[member] == *value);
    let status = sandbox.status(name);
    assert!(so, "{member} is not {value}: {status}\n{}", sandbox.log());
}

fn wait_log(sandbox: &Sandbox, text: &str) {
    let so = wait_until(|| sandbox.log().contains(text));
    assert!(so, "no {text:?} in\n{}", sandbox.log());
}

fn error_of(sandbox: &Sandbox, name: &str) -> Value {
    sandbox.wait_state(name, "failed");
    sandbox.status(name)["error"].clone()
}

/// The name of the socket that a service tells of itself at, in the abstract namespace.
fn socket_of(sandbox: &Sandbox, name: &str) -> String {
    let path = format!("/proc/{}/environ", sandbox.pid(name));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut entries = text.split('\0');
    let found = entries.find_map(|entry| entry.strip_prefix("NOTIFY_SOCKET=@"));
    found.unwrap_or_else(|| panic!("none in {text}")).to_owned()
}

// Ready.

/// Those that require a service wait until it says that it is ready.
#[test]
fn ready_is_when_it_says_so() {
    let Some(mut sandbox) = notifier("", "") else {
        return;
    };
    sandbox.service(
        "next",
        "exec = \"sleep 1000\"\n[dependencies]\nrequires = [\"puppet\"]",
    );
    sandbox.ask("service.reload", Value::Null);
    wait_member(&sandbox, "next", "error", &json!("waiting on: puppet"));
    assert_eq!(sandbox.state("puppet"), "starting");
    order(&sandbox, "puppet", "notify('READY=1')");
    sandbox.await_running("next");
    assert_eq!(sandbox.state("puppet"), "running");
    sandbox.stop();
}

/// A process that the service started may say it too.
#[test]
fn a_child_of_the_service_is_heard() {
    let Some(sandbox) = notifier("", "") else {
        return;
    };
    let child = "pid = os.fork() or (notify('READY=1', 'STATUS=by a child'), signal.pause())";
    order(&sandbox, "puppet", child);
    sandbox.await_running("puppet");
    wait_member(&sandbox, "puppet", "status_text", &json!("by a child"));
}

/// A child that has ended before it is heard counts too, as with a shell's `systemd-notify`.
#[test]
fn a_child_that_is_gone_is_heard() {
    let Some(sandbox) = notifier("", "") else {
        return;
    };
    let child = "os.fork() or (notify('READY=1'), os._exit(0)); os.wait()";
    order(&sandbox, "puppet", child);
    sandbox.await_running("puppet");
}

/// What a service says of how it is stands in its status until it says something else, or ends.
#[test]
fn a_status_text_is_shown_while_it_lives() {
    let Some(sandbox) = notifier("", "") else {
        return;
    };
    order(
        &sandbox,
        "puppet",
        "notify('STATUS=loading', 'X_ODD=1', 'nonsense')",
    );
    wait_member(&sandbox, "puppet", "status_text", &json!("loading"));
    order(&sandbox, "puppet", "notify('READY=1', 'STATUS=a = b')");
    sandbox.await_running("puppet");
    wait_member(&sandbox, "puppet", "status_text", &json!("a = b"));
    sandbox.done("service.stop", "puppet");
    assert_eq!(sandbox.status("puppet")["status_text"], Value::Null);
    sandbox.ask("service.start", json!({"name": "puppet"}));
    sandbox.wait_state("puppet", "starting");
    let text = sandbox.status("puppet")["status_text"].clone();
    assert_eq!(text, Value::Null, "what an earlier run said");
}

/// A service tells that it reads its configuration anew, that it has, and that it stops.
#[test]
fn what_it_is_doing_is_shown() {
    let Some(sandbox) = notifier("", "") else {
        return;
    };
    order(&sandbox, "puppet", "notify('READY=1')");
    sandbox.await_running("puppet");
    assert_eq!(sandbox.status("puppet")["doing"], Value::Null);
    order(&sandbox, "puppet", "notify('RELOADING=1')");
    wait_member(&sandbox, "puppet", "doing", &json!("reloading"));
    assert_eq!(sandbox.state("puppet"), "running");
    order(&sandbox, "puppet", "notify('READY=1')");
    wait_member(&sandbox, "puppet", "doing", &Value::Null);
    order(&sandbox, "puppet", "notify('STOPPING=1')");
    wait_member(&sandbox, "puppet", "doing", &json!("stopping"));
    assert_eq!(sandbox.state("puppet"), "running");
}

/// Who is no process of the service is not believed, not even root.
#[test]
fn a_stranger_is_not_believed() {
    let Some(sandbox) = notifier("", "") else {
        return;
    };
    let name = socket_of(&sandbox, "puppet");
    let address = SocketAddr::from_abstract_name(name).expect("a name that fits");
    let socket = UnixDatagram::unbound().expect("a socket");
    let said = socket.send_to_addr(b"READY=1\nSTATUS=believe me", &address);
    said.expect("anybody can write to it");
    wait_log(&sandbox, "puppet: a stranger spoke for it");
    let status = sandbox.status("puppet");
    assert_eq!(status["state"], "starting", "{status}");
    assert_eq!(status["status_text"], Value::Null, "{status}");
    order(&sandbox, "puppet", "notify('READY=1')");
    sandbox.await_running("puppet");
}

/// Nor is another service.
#[test]
fn another_service_is_not_believed() {
    let Some(sandbox) = notifier("", "") else {
        return;
    };
    puppet(&sandbox, "other", "", NOTIFY);
    sandbox.ask("service.reload", Value::Null);
    sandbox.wait_output("other", "up");
    let name = socket_of(&sandbox, "puppet");
    let says = format!("os.environ['NOTIFY_SOCKET'] = '@{name}'; notify('READY=1')");
    order(&sandbox, "other", &says);
    wait_log(&sandbox, "puppet: a stranger spoke for it");
    assert_eq!(sandbox.state("puppet"), "starting");
    assert_eq!(sandbox.state("other"), "starting");
}

/// Nor is a stranger of another user who has ended before anybody could look.
#[test]
fn a_stranger_that_is_gone_is_not_believed() {
    let Some(sandbox) = notifier("", "") else {
        return;
    };
    let Some(python) = python().filter(|_| nix::unistd::getuid().is_root()) else {
        return println!("skipped: this needs root");
    };
    let name = socket_of(&sandbox, "puppet");
    let says = format!(
        "import os, socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); \
         os.setuid(65534); s.sendto(b'READY=1', '\\x00{name}')"
    );
    let mut stranger = Command::new(python);
    stranger
        .args(["-c", &says])
        .stdin(Stdio::null())
        .process_group(0);
    let status = stranger.status().expect("Python runs");
    assert!(status.success());
    wait_log(&sandbox, "puppet: a stranger spoke for it (uid 65534)");
    assert_eq!(sandbox.state("puppet"), "starting");
}

/// Who never says that it is ready has failed when its time is over, and is ended.
#[test]
fn readiness_that_does_not_come_is_a_failure() {
    let mut sandbox = Sandbox::new();
    let types = [
        ("notify", "type = \"notify\""),
        ("fd", "type = \"fd\"\nfd = 3"),
        ("log", "type = \"log\"\ntext = \"never\""),
    ];
    for (name, readiness) in types {
        sandbox.service(
            name,
            &format!(
                "exec = [\"sleep\", \"1000\"]\n{ONCE}\nstart_timeout_ms = 150\n[readiness]\n{readiness}"
            ),
        );
    }
    sandbox.start();
    for (name, _) in types {
        assert_eq!(error_of(&sandbox, name), "start timeout", "{name}");
    }
    let gone = wait_until(|| sandbox.pids_of_services().is_empty());
    assert!(gone, "{:?}", sandbox.pids_of_services());
}

/// A program that ends well before it is ready has failed all the same.
#[test]
fn an_end_before_it_is_ready_is_a_failure() {
    let mut sandbox = Sandbox::new();
    sandbox.service("early", &format!("exec = \"true\"\n{ONCE}\n{NOTIFY}"));
    sandbox.start();
    assert_eq!(error_of(&sandbox, "early"), "ended before it was ready");
}

/// However many descriptors come along, none of them stays open in the server.
#[test]
fn descriptors_that_come_along_are_closed() {
    let Some(sandbox) = notifier("", "") else {
        return;
    };
    let server = format!("/proc/{}/fd", sandbox.server_pid());
    let descriptors = || std::fs::read_dir(&server).unwrap().count();
    let before = descriptors();
    for count in [1, 17, 253] {
        let said = format!(
            "import array, socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); \
             rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [0] * {count})); \
             s.sendmsg([b'STATUS=with {count}'], [rights], 0, '\\0' + os.environ['NOTIFY_SOCKET'][1:])"
        );
        order(&sandbox, "puppet", &said);
        wait_member(
            &sandbox,
            "puppet",
            "status_text",
            &json!(format!("with {count}")),
        );
    }
    // One is the connection of who asks.
    assert!(
        wait_until(|| descriptors() <= before),
        "{before}, then {}",
        descriptors()
    );
}

/// A newline on the agreed descriptor makes ready, whatever its number.
#[test]
fn a_newline_on_a_descriptor_makes_ready() {
    let mut sandbox = Sandbox::new();
    for number in ["3", "7", "100", "1023"] {
        let first = format!(
            "import stat; tell(stat.S_ISFIFO(os.fstat({number}).st_mode)); os.write({number}, b'wait')"
        );
        let body = format!("[readiness]\ntype = \"fd\"\nfd = {number}");
        if !puppet(&sandbox, &format!("fd{number}"), &first, &body) {
            return;
        }
    }
    sandbox.start();
    for number in ["3", "7", "100", "1023"] {
        let name = format!("fd{number}");
        sandbox.wait_output(&name, "True");
        assert_eq!(sandbox.state(&name), "starting");
        order(&sandbox, &name, &format!("os.write({number}, b'ed\\n')"));
        sandbox.await_running(&name);
        order(&sandbox, &name, "tell('alive')");
        sandbox.wait_output(&name, "alive");
    }
}

/// A shell can say it with a redirection; the descriptor closed without a word says nothing.
#[test]
fn a_shell_can_write_the_newline() {
    let mut sandbox = Sandbox::new();
    let exec = |name: &str, line: &str| {
        let body = format!(
            "exec = {}\n[readiness]\ntype = \"fd\"\nfd = 7",
            quoted(line)
        );
        sandbox.service(name, &body);
    };
    exec("says", "echo >&7; exec sleep 1000");
    exec("closes", "exec 7>&-; echo closed; exec sleep 1000");
    sandbox.start();
    sandbox.await_running("says");
    sandbox.wait_output("closes", "closed");
    assert_eq!(sandbox.state("closes"), "starting");
}

/// A line that contains the text makes ready, on either output.
#[test]
fn a_line_of_output_makes_ready() {
    let mut sandbox = Sandbox::new();
    let body = "[readiness]\ntype = \"log\"\ntext = \"accepts connections\"";
    for (name, stream) in [("out", "stdout"), ("err", "stderr")] {
        let first = format!("print('Accepts Connections', file=sys.{stream}, flush=True)");
        if !puppet(&sandbox, name, &first, body) {
            return;
        }
    }
    sandbox.start();
    for (name, stream) in [("out", "stdout"), ("err", "stderr")] {
        sandbox.wait_output(name, "Accepts Connections");
        assert_eq!(sandbox.state(name), "starting", "case matters");
        let line = format!("print('12:00 it accepts connections.', file=sys.{stream}, flush=True)");
        order(&sandbox, name, &line);
        sandbox.await_running(name);
    }
}

// Time.

/// A service that needs more time gets it, and one like it that does not ask for it fails.
#[test]
fn a_start_can_be_extended() {
    let mut sandbox = Sandbox::new();
    let body = format!("{NOTIFY}\n[lifecycle]\nstart_timeout_ms = 1500\nrestart_delay_ms = 5");
    let first = "notify('EXTEND_TIMEOUT_USEC=600000000'); tell('asked')";
    if !puppet(&sandbox, "patient", first, &body) {
        return;
    }
    sandbox.service(
        "control",
        "exec = [\"sleep\", \"1000\"]\nstatus = \"stop\"\n[readiness]\ntype = \"notify\"\n\
         [lifecycle]\nstart_timeout_ms = 1500\nrestart = \"never\"",
    );
    sandbox.start();
    sandbox.wait_output("patient", "asked");
    let pid = sandbox.pid("patient");
    sandbox.ask("service.start", json!({"name": "control"}));
    assert_eq!(error_of(&sandbox, "control"), "start timeout");
    assert_eq!(sandbox.state("patient"), "starting");
    order(&sandbox, "patient", "notify('READY=1')");
    sandbox.await_running("patient");
    assert_eq!(sandbox.pid("patient"), pid);
}

/// The same for a stop.
#[test]
fn a_stop_can_be_extended() {
    let mut sandbox = Sandbox::new();
    let body = format!("{NOTIFY}\n[lifecycle]\nstop_timeout_ms = 800");
    let asks = "signal.signal(signal.SIGTERM, lambda *_: \
                (notify('EXTEND_TIMEOUT_USEC=600000000', 'STOPPING=1'), tell('asked'))); \
                notify('READY=1')";
    let deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN); notify('READY=1')";
    if !puppet(&sandbox, "patient", asks, &body) || !puppet(&sandbox, "control", deaf, &body) {
        return;
    }
    sandbox.start();
    for name in ["patient", "control"] {
        sandbox.await_running(name);
    }
    let pid = sandbox.pid("patient");
    sandbox.ask("service.stop", json!({"name": "patient"}));
    sandbox.wait_output("patient", "asked");
    wait_member(&sandbox, "patient", "doing", &json!("stopping"));
    sandbox.done("service.stop", "control");
    assert!(is_alive(pid), "it was not waited for\n{}", sandbox.log());
    assert_eq!(sandbox.state("patient"), "stopping");
    order(&sandbox, "patient", "os._exit(0)");
    sandbox.wait_state("patient", "exited");
    assert_eq!(sandbox.status("patient")["exit_code"], 0);
}

/// A service that pings lives, and is restarted when it stops to ping.
#[test]
fn a_watchdog_notices_silence() {
    let body = "watchdog_ms = 2000\n[lifecycle]\nrestart_delay_ms = 5";
    let first = "tell(os.environ['WATCHDOG_USEC']); notify('READY=1'); ping_until_quiet()";
    let Some(sandbox) = notifier(first, body) else {
        return;
    };
    sandbox.wait_output("puppet", "2000000");
    sandbox.await_running("puppet");
    let before = sandbox.pid("puppet");
    order(&sandbox, "puppet", "quiet.set()");
    sandbox.wait_other_pid("puppet", before);
    assert!(!is_alive(before));
    wait_log(&sandbox, "puppet: watchdog: it did not ping in time");
}

/// As long as it pings it is left alone, while one like it that is silent is ended.
#[test]
fn a_watchdog_leaves_alone_who_pings() {
    let mut sandbox = Sandbox::new();
    let body = format!("{NOTIFY}\nwatchdog_ms = 1500\n{ONCE}");
    let pings = "notify('READY=1'); ping_until_quiet()";
    if !puppet(&sandbox, "pings", pings, &body)
        || !puppet(&sandbox, "silent", "notify('READY=1')", &body)
    {
        return;
    }
    sandbox.start();
    sandbox.await_running("pings");
    let pid = sandbox.pid("pings");
    let told = "watchdog: it did not ping in time";
    assert_eq!(error_of(&sandbox, "silent"), told);
    assert_eq!(sandbox.pid("pings"), pid);
    assert_eq!(sandbox.state("pings"), "running");
    signal(pid, Signal::SIGSTOP);
    assert_eq!(error_of(&sandbox, "pings"), told);
}

/// A service may say itself that it is not well, or how long it may be silent.
#[test]
fn a_service_says_itself_that_it_is_not_well() {
    let mut sandbox = Sandbox::new();
    let body = format!("{NOTIFY}\nwatchdog_ms = 600000\n{ONCE}");
    for name in ["ill", "short"] {
        if !puppet(&sandbox, name, "notify('READY=1')", &body) {
            return;
        }
    }
    sandbox.start();
    for name in ["ill", "short"] {
        sandbox.await_running(name);
    }
    order(&sandbox, "ill", "notify('WATCHDOG=trigger')");
    let ill = error_of(&sandbox, "ill");
    assert_eq!(ill, "watchdog: it says that it is not well");
    order(&sandbox, "short", "notify('WATCHDOG_USEC=100000')");
    let short = error_of(&sandbox, "short");
    assert_eq!(short, "watchdog: it did not ping in time");
}

// Handing over.

/// Forks a child that goes on listening to orders, names it, and ends.
const FORKS: &str =
    "child = os.fork(); child and (notify('READY=1', f'MAINPID={child}'), os._exit(0))";

/// The process that a service names is its main one when its parent has ended, and its end counts.
#[test]
fn a_main_process_hands_over_to_its_child() {
    let Some(sandbox) = notifier("", ONCE) else {
        return;
    };
    let parent = sandbox.pid("puppet");
    order(&sandbox, "puppet", FORKS);
    let child = sandbox.wait_other_pid("puppet", parent);
    assert_eq!(stat_field(child, 4), Some(sandbox.server_pid()));
    assert_eq!(sandbox.state("puppet"), "running");
    assert!(!is_alive(parent));
    order(&sandbox, "puppet", "os._exit(7)");
    sandbox.wait_state("puppet", "failed");
    assert_eq!(sandbox.status("puppet")["exit_code"], 7);
    assert!(!is_alive(child));
}

/// The same if the server hears of it all at once: the message, and the end of who sent it.
fn hand_over_at_once(message: &str) {
    let Some(sandbox) = notifier("", ONCE) else {
        return;
    };
    let parent = sandbox.pid("puppet");
    sandbox.signal_server(Signal::SIGSTOP);
    let fork = format!("child = os.fork(); child and (notify({message}), os._exit(0))");
    order(&sandbox, "puppet", &fork);
    let ended = wait_until(|| !is_alive(parent));
    sandbox.signal_server(Signal::SIGCONT);
    assert!(ended, "the parent lives\n{}", sandbox.log());
    wait_log(&sandbox, "puppet: its main process is");
    order(&sandbox, "puppet", "tell('heard')");
    sandbox.wait_output("puppet", "heard");
    let status = sandbox.status("puppet");
    assert_eq!(status["state"], "running", "{status}");
    assert_ne!(status["pid"], parent, "{status}");
}

/// A parent that says that it is ready, names its child and ends at once is understood.
#[test]
fn a_quick_handover_behind_ready_is_understood() {
    hand_over_at_once("'READY=1', f'MAINPID={child}'");
}

/// The order of the two words does not matter.
#[test]
fn a_quick_handover_before_ready_is_understood() {
    hand_over_at_once("f'MAINPID={child}', 'READY=1'");
}

/// The new main process is the one that is stopped, and that is restarted after.
#[test]
fn a_service_that_was_handed_over_is_stopped() {
    let Some(sandbox) = notifier("", "") else {
        return;
    };
    for round in ["first", "second"] {
        let parent = sandbox.pid("puppet");
        order(&sandbox, "puppet", FORKS);
        let child = sandbox.wait_other_pid("puppet", parent);
        let says = "signal.signal(signal.SIGTERM, lambda *_: os._exit(3))";
        order(&sandbox, "puppet", &format!("{says}; tell('{round}')"));
        sandbox.wait_output("puppet", round);
        sandbox.done("service.stop", "puppet");
        assert!(!is_alive(child));
        assert_eq!(sandbox.status("puppet")["exit_code"], 3);
        sandbox.ask("service.start", json!({"name": "puppet"}));
        sandbox.wait_state("puppet", "starting");
    }
}

/// A child that is named while its parent lives takes over when the parent ends, not before.
#[test]
fn a_child_takes_over_when_its_parent_ends() {
    let Some(sandbox) = notifier("", ONCE) else {
        return;
    };
    let parent = sandbox.pid("puppet");
    let fork =
        "child = os.fork() or signal.pause(); tell(child); notify(f'MAINPID={child}', 'READY=1')";
    order(&sandbox, "puppet", fork);
    sandbox.await_running("puppet");
    assert_eq!(sandbox.pid("puppet"), parent, "the parent lives");
    order(&sandbox, "puppet", "os._exit(0)");
    let child = sandbox.wait_other_pid("puppet", parent);
    let told = sandbox.output("puppet");
    assert!(told.contains(&child.to_string()), "{child}: {told:?}");
    signal(child, Signal::SIGKILL);
    let error = error_of(&sandbox, "puppet");
    assert_eq!(error, "killed by signal 9");
}

/// A process that is none of the service's can't be made its main one.
#[test]
fn a_stranger_is_not_made_the_main_process() {
    let Some(mut sandbox) = notifier("", ONCE) else {
        return;
    };
    sandbox.runs("other", "sleep 1000");
    sandbox.ask("service.reload", Value::Null);
    sandbox.await_running("other");
    let (own, other) = (sandbox.pid("puppet"), sandbox.pid("other"));
    let says = format!("notify('MAINPID={other}', 'READY=1')");
    order(&sandbox, "puppet", &says);
    sandbox.await_running("puppet");
    assert_eq!(sandbox.pid("puppet"), own);
    order(&sandbox, "puppet", "os._exit(5)");
    sandbox.wait_state("puppet", "failed");
    assert_eq!(sandbox.status("puppet")["exit_code"], 5);
    assert_eq!(sandbox.pid("other"), other);
    assert!(is_alive(other));
    sandbox.stop();
}

/// Without notify or a watchdog there is no socket, and the server's own is not passed on.
#[test]
fn who_tells_nothing_has_no_socket() {
    let mut sandbox = Sandbox::new();
    sandbox.env("NOTIFY_SOCKET", "/no/such/socket");
    sandbox.env("WATCHDOG_USEC", "1");
    let says = "echo ${NOTIFY_SOCKET:-none} ${WATCHDOG_USEC:-none}";
    sandbox.service("plain", &format!("exec = {}\noneshot = true", quoted(says)));
    sandbox.start();
    sandbox.await_running("plain");
    assert_eq!(sandbox.output("plain"), ["none none"]);
}
