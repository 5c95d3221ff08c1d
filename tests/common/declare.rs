//! How the processes of a service behave, as words: `ignores-term lives=50 exits=1`. All spans are
//! milliseconds. What is as it is by default is not said.

use std::fmt::Write as _;

use zinit::engine::{Exit, Signal, Time};

use super::world::{Behaviour, Spawning};

pub(crate) fn number(text: &str) -> u64 {
    text.parse()
        .unwrap_or_else(|_| panic!("not a number: {text}"))
}

/// Reads the traits of a behaviour.
pub(crate) fn behaviour(traits: &[&str]) -> Behaviour {
    let mut behaviour = Behaviour::default();
    for word in traits {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let until = || Time::from_millis(number(value));
        match key {
            "well" => behaviour = Behaviour::default(),
            "forks" => behaviour.fork_ms = number(value),
            "signals" => behaviour.signal_ms = number(value),
            "exec-fails" => behaviour.spawning = Spawning::ExecFails,
            "fork-fails" => behaviour.spawning = Spawning::ForkFails,
            "hangs-in-exec" => behaviour.spawning = Spawning::HangsInExec,
            "scarce-until" => behaviour.spawning = Spawning::ScarceUntil(until()),
            "obstructed-until" => behaviour.spawning = Spawning::ObstructedUntil(until()),
            "exec" => behaviour.exec_ms = number(value),
            "lives" => behaviour.lives_ms = Some(number(value)),
            "exits" => behaviour.exit = exit(value),
            "obeys" => behaviour.obeys_ms = Some(number(value)),
            "ignores-term" => behaviour.obeys_ms = None,
            "lingers" => behaviour.dies_ms = Some(number(value)),
            "never-dies" => behaviour.dies_ms = None,
            "unkillable" => (behaviour.obeys_ms, behaviour.dies_ms) = (None, None),
            "leaves" => behaviour.leftovers = value.parse().expect("a count"),
            "leftovers-obey" => behaviour.leftovers_obey_ms = Some(number(value)),
            "leftovers-ignore" => behaviour.leftovers_obey_ms = None,
            "ready" => behaviour.ready_ms = Some(number(value)),
            "never-ready" => behaviour.ready_ms = None,
            "pings" => behaviour.ping_ms = Some(number(value)),
            "probes" => behaviour.probe_ms = Some(number(value)),
            "hangs-probes" => behaviour.probe_ms = None,
            "ill" => behaviour.is_well = false,
            "hooks" => behaviour.hook_ms = Some(number(value)),
            "hooks-hang" => behaviour.hook_ms = None,
            "hooks-fail" => behaviour.hook_succeeds = false,
            "hook-stops" => behaviour.hook_stops = true,
            other => panic!("a behaviour nobody knows: {other}"),
        }
    }
    behaviour
}

/// Writes them, each after a space.
pub(crate) fn traits(behaviour: &Behaviour) -> String {
    let (of, usual) = (behaviour, Behaviour::default());
    let mut text = String::new();
    match of.spawning {
        Spawning::Works => {}
        Spawning::ForkFails => text.push_str(" fork-fails"),
        Spawning::ExecFails => text.push_str(" exec-fails"),
        Spawning::HangsInExec => text.push_str(" hangs-in-exec"),
        Spawning::ScarceUntil(end) => {
            let _ = write!(text, " scarce-until={}", end.as_millis());
        }
        Spawning::ObstructedUntil(end) => {
            let _ = write!(text, " obstructed-until={}", end.as_millis());
        }
    }
    let counts = [
        ("forks", of.fork_ms, usual.fork_ms),
        ("exec", of.exec_ms, usual.exec_ms),
        ("signals", of.signal_ms, usual.signal_ms),
        ("leaves", of.leftovers.into(), usual.leftovers.into()),
    ];
    for (key, count, _) in counts.iter().filter(|(_, count, usual)| count != usual) {
        let _ = write!(text, " {key}={count}");
    }
    let spans = [
        ("lives", "", of.lives_ms, usual.lives_ms),
        ("obeys", "ignores-term", of.obeys_ms, usual.obeys_ms),
        ("lingers", "never-dies", of.dies_ms, usual.dies_ms),
        (
            "leftovers-obey",
            "leftovers-ignore",
            of.leftovers_obey_ms,
            usual.leftovers_obey_ms,
        ),
        ("ready", "never-ready", of.ready_ms, usual.ready_ms),
        ("pings", "", of.ping_ms, usual.ping_ms),
        ("probes", "hangs-probes", of.probe_ms, usual.probe_ms),
        ("hooks", "hooks-hang", of.hook_ms, usual.hook_ms),
    ];
    for (key, never, span, _) in spans.iter().filter(|(.., span, usual)| span != usual) {
        let _ = match span {
            Some(ms) => write!(text, " {key}={ms}"),
            None => write!(text, " {never}"),
        };
    }
    if of.exit != usual.exit {
        let _ = write!(text, " exits={}", exit_word(of.exit));
    }
    let flags = [
        ("ill", !of.is_well),
        ("hooks-fail", !of.hook_succeeds),
        ("hook-stops", of.hook_stops),
    ];
    for (word, _) in flags.iter().filter(|(_, so)| *so) {
        let _ = write!(text, " {word}");
    }
    text
}

/// How a process ends: a status, a signal, or `memory`.
pub(crate) fn exit(word: &str) -> Exit {
    match (word, word.strip_prefix("SIG")) {
        ("memory", _) => Exit::OutOfMemory,
        (_, Some(_)) => Exit::Signal(Signal::parse(word).expect("a signal").number()),
        (_, None) => Exit::Code(word.parse().expect("an exit status")),
    }
}

/// The word for it.
pub(crate) fn exit_word(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => code.to_string(),
        Exit::Signal(number) => Signal::from_number(number).expect("a signal").to_string(),
        Exit::OutOfMemory => "memory".to_owned(),
    }
}
