//! Process numbers that are used again and again: nobody is taken for who had his number before.
//!
//! In a process namespace of a hundred numbers (Linux 6.14 has the limit for each of them).

#[path = "common/plight.rs"]
mod plight;
#[path = "common/sandbox.rs"]
mod sandbox;

use std::fs;

use nix::sys::signal::Signal;
use plight::{assert_idle, in_processes, nap, server_of, works};
use sandbox::{Sandbox, is_alive, quoted, signal, wait_until};
use serde_json::Value;

/// The kernel never gives one of the first three hundred twice: they are used up.
const FEW: &str = "echo 400 > /proc/sys/kernel/pid_max; \
                   while [ $(sh -c 'echo $$') -lt 305 ]; do :; done";

/// A limit that is of the whole machine is left alone.
fn can_be_few() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    let is_new = (numbers.next(), numbers.next()) >= (Some(6), Some(14));
    let tried = [
        "unshare",
        "-m",
        "-p",
        "--fork",
        "--mount-proc",
        "sh",
        "-c",
        FEW,
    ];
    let can = is_new && works(&tried);
    if !can {
        println!("SKIPPED: no process namespace with a limit of its own");
    }
    can
}

/// Who has this number in the sandbox's namespace, as he is numbered here.
fn inside(sandbox: &Sandbox, number: i32) -> Option<i32> {
    let number = number.to_string();
    let is_it = |pid: &i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("NSpid:"));
        line.is_some_and(|line| line.split_whitespace().last() == Some(&number))
    };
    sandbox.pids_of_marker().into_iter().find(is_it)
}

fn ends(sandbox: &mut Sandbox) {
    sandbox.ask("system.shutdown", Value::Null);
    assert_eq!(sandbox.server_end().code(), Some(0), "{}", sandbox.log());
    let nobody = || sandbox.pids_of_marker().is_empty();
    assert!(wait_until(nobody), "{:?}", sandbox.pids_of_marker());
}

#[test]
fn runs_with_reused_numbers_hit_no_bystander() {
    if !can_be_few() {
        return;
    }
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    // Five who stay, and two who take new numbers all the time and look how they end.
    let script = format!(
        "{FEW}; for i in 1 2 3 4 5; do sleep 100000 & all=\"$all $!\"; done\n\
         watch() {{ while :; do ( : ) & wait $! || echo hit >> $DIR/hits; echo >> $DIR/taken; \
         done; }}; watch & all=\"$all $!\"; watch & all=\"$all $!\"; echo up > $DIR/bystanders\n\
         \"$0\" \"$@\"; ended=$?; kill -0 $all && echo all > $DIR/left; exit $ended; :"
    );
    in_processes(&mut sandbox, &script);
    let always = "[lifecycle]\nrestart = \"always\"\nrestart_delay_ms = 1\n\
                  restart_delay_max_ms = 1\nmax_restarts = 0\nstop_timeout_ms = 50";
    let add = |name: &str, exec: &str| {
        sandbox.service(name, &format!("exec = {}\n{always}", quoted(exec)));
    };
    for number in 0..4 {
        let exec = format!("echo >> $DIR/runs; exit {number}");
        add(&format!("once{number}"), &exec);
        let exec =
            "echo >> $DIR/runs; sleep 1000 & ( setsid sleep 1000 & ); sleep 0.02; kill -9 $$";
        add(&format!("leaves{number}"), exec);
    }
    add(
        "deaf",
        "trap '' TERM; ( setsid sleep 1000 & ); while :; do sleep 1000; done",
    );
    nap(&sandbox);
    sandbox.start();
    sandbox.wait_file("bystanders");
    let mut rounds = 0;
    assert!(
        wait_until(|| {
            rounds += 1;
            sandbox.done("service.restart", "deaf");
            sandbox.lines("runs").len() > 250 && sandbox.lines("taken").len() > 500
        }),
        "{} runs, {} others",
        sandbox.lines("runs").len(),
        sandbox.lines("taken").len()
    );
    assert!(rounds > 3);
    for number in 0..4 {
        for name in [format!("once{number}"), format!("leaves{number}")] {
            sandbox.done("service.stop", &name);
            // It may have been on its way to the next run.
            let state = sandbox.state(&name);
            assert!(matches!(&*state, "exited" | "inactive"), "{name}: {state}");
        }
    }
    sandbox.done("service.stop", "deaf");
    // The first process, the bystanders with who they watch, and the server.
    let wrapper_and_all = 1 + 1 + 5 + 2 + 1;
    let few = || sandbox.pids_of_marker().len() <= wrapper_and_all + 2;
    assert!(wait_until(few), "{:?}", sandbox.pids_of_marker());
    assert_idle(&sandbox);
    let log = sandbox.log();
    assert!(!log.contains("can't be killed"), "{log}");
    ends(&mut sandbox);
    assert_eq!(sandbox.wait_file("left"), "all\n");
    assert_eq!(sandbox.lines("hits"), Vec::<String>::new());
}

/// `$1` is the number it is to have, `$2` its name.
const TAKE: &str = "while :; do setsid sh -c 'sleep 100000 & wait' $2 & \
                    [ $! = $1 ] && break; kill -9 $!; wait $!; done 2> /dev/null";

#[test]
fn a_ledger_means_nobody_who_got_a_number_later() {
    if !can_be_few() {
        return;
    }
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    fs::write(sandbox.path("take.sh"), TAKE).unwrap();
    // A server that is killed is started again, when a bystander has the number of its service.
    let script = format!(
        "{FEW}\nwhile :; do \"$0\" \"$@\"; ended=$?; [ $ended = 137 ] || break; \
         number=$(cat $DIR/number); kill -9 $number; sh $DIR/take.sh $number bystander; \
         echo $number > $DIR/taken; done\n\
         number=$(cat $DIR/taken); grep -q bystander /proc/$number/cmdline && \
         echo all > $DIR/left; exit $ended; :"
    );
    in_processes(&mut sandbox, &script);
    sandbox.runs("main", "echo $$ > $DIR/number; exec sleep 1000");
    nap(&sandbox);
    sandbox.start();
    let number = sandbox.wait_pid_file("number");
    assert_eq!(sandbox.pid("main"), number);
    signal(server_of(&sandbox), Signal::SIGKILL);
    assert_eq!(sandbox.wait_pid_file("taken"), number);
    assert_ne!(sandbox.wait_other_pid("main", number), number);
    let log = sandbox.log();
    assert!(
        log.contains("ending 0 processes") || !log.contains("ending"),
        "{log}"
    );
    assert_idle(&sandbox);
    ends(&mut sandbox);
    assert_eq!(sandbox.wait_file("left"), "all\n");
}

/// A session is known by the number of its main process, which somebody else may get when the
/// service is down.
#[test]
fn a_session_is_not_taken_for_one_that_had_its_number() {
    if !can_be_few() {
        return;
    }
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    fs::write(sandbox.path("take.sh"), TAKE).unwrap();
    in_processes(&mut sandbox, FEW);
    let once = "oneshot = true\nstatus = \"stop\"";
    let exec = quoted("echo $$ > $DIR/number");
    sandbox.service("first", &format!("exec = {exec}\n{once}"));
    let exec = "sh $DIR/take.sh $(cat $DIR/number) daemon; echo up; exec sleep 1000";
    sandbox.service(
        "second",
        &format!("exec = {}\nstatus = \"stop\"", quoted(exec)),
    );
    nap(&sandbox);
    sandbox.start();
    sandbox.done("service.start", "first");
    let number = sandbox.wait_pid_file("number");
    sandbox.done("service.start", "second");
    sandbox.wait_output("second", "up");
    let daemon = inside(&sandbox, number).expect("it has the number");
    // Whose it is is found out when something else ends.
    sandbox.done("service.restart", "nap");
    sandbox.done("service.restart", "first");
    sandbox.done("service.restart", "first");
    assert!(is_alive(daemon), "{}", sandbox.log());
    sandbox.done("service.stop", "second");
    assert!(!is_alive(daemon), "{}", sandbox.log());
    ends(&mut sandbox);
}
