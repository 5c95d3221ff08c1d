//! The words in which a story declares its services and how they behave.
//!
//! `service web requires=db,log ports=80 restart=always delay=100`, `target all requires=web`,
//! `behave web ignores-term lives=50 exits=1`. All spans are milliseconds.

use std::rc::Rc;
use std::time::Duration;

use zinit::engine::spec::{
    Class, Exec, Follow, Health, HookSpec, KillMode, OnUnhealthy, Probe, Readiness, RestartPolicy,
    Status, SuccessExit,
};
use zinit::engine::{Exit, Signal, Spec, Time};

use super::golden::number;
use super::world::{Behaviour, Spawning};

/// Reads `service NAME …` or `target NAME …`.
pub(crate) fn spec(words: &[&str]) -> Spec {
    let mut spec = match words {
        ["target", name, ..] => Spec::target(name),
        [_, name, ..] => Spec::new(name, Exec::Line("program".to_owned())),
        [] | [_] => panic!("who is declared? {words:?}"),
    };
    for word in &words[2..] {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        declare(&mut spec, key, value);
    }
    spec
}

fn declare(spec: &mut Spec, key: &str, value: &str) {
    let names = || value.split(',').map(Rc::from).collect();
    let span = || Duration::from_millis(number(value));
    let life = &mut spec.lifecycle;
    match key {
        "requires" => spec.links.requires = names(),
        "after" => spec.links.after = names(),
        "wants" => spec.links.wants = names(),
        "conflicts" => spec.links.conflicts = names(),
        "delay" => life.restart_delay = span(),
        "delay_max" => life.restart_delay_max = span(),
        "max" => life.max_restarts = value.parse().expect("a count"),
        "stability" => life.stability_period = span(),
        "start_timeout" => life.start_timeout = span(),
        "stop_timeout" => life.stop_timeout = span(),
        "restart" => {
            life.restart = match value {
                "always" => RestartPolicy::Always,
                "on-failure" => RestartPolicy::OnFailure,
                "never" => RestartPolicy::Never,
                other => panic!("a policy nobody knows: {other}"),
            }
        }
        "kill_mode" => {
            life.kill_mode = match value {
                "tree" => KillMode::Tree,
                "group" => KillMode::Group,
                "main" => KillMode::Main,
                other => panic!("a kill mode nobody knows: {other}"),
            }
        }
        "status" => {
            spec.status = match value {
                "start" => Status::Start,
                "stop" => Status::Stop,
                "ignore" => Status::Ignore,
                other => panic!("a status nobody knows: {other}"),
            }
        }
        "class" => {
            spec.class = match value {
                "user" => Class::User,
                "system" => Class::System,
                other => panic!("a class nobody knows: {other}"),
            }
        }
        "critical" => spec.critical = true,
        "readiness" => {
            spec.readiness = match value {
                "notify" => Readiness::Notify,
                "health" => Readiness::Health,
                "exit" => Readiness::Exit,
                other => panic!("a readiness nobody knows: {other}"),
            }
        }
        "watchdog" => spec.watchdog = Some(span()),
        "probe" => {
            spec.health = Some(Health {
                probe: Probe::Exec("true".to_owned()),
                interval: span(),
                timeout: Duration::from_millis(50),
                retries: 3,
                start_period: Duration::ZERO,
                on_unhealthy: OnUnhealthy::Restart,
            });
        }
        "retries" => health(spec).retries = value.parse().expect("a count"),
        "probe_after" => health(spec).start_period = span(),
        "report" => health(spec).on_unhealthy = OnUnhealthy::Report,
        "pre_start" => spec.hooks.pre_start = Some(hook(value)),
        "post_start" => spec.hooks.post_start = Some(hook(value)),
        "stop_hook" => spec.hooks.stop = Some(hook(value)),
        "post_stop" => spec.hooks.post_stop = Some(hook(value)),
        "reload_hook" => spec.hooks.reload = Some(hook(value)),
        "reload_signal" => life.reload_signal = Some(Signal::parse(value).expect("a signal")),
        "restart_dependents" => life.restart_dependents = true,
        "success" => {
            let exits = value.split(',').map(|word| match word.parse() {
                Ok(code) => Exit::Code(code),
                Err(_) => Exit::Signal(Signal::parse(word).expect("a signal").number()),
            });
            life.success_exit = exits.fold(SuccessExit::NONE, SuccessExit::with);
        }
        "on_failure" => spec.sequel.on_failure = follow(value),
        "on_exit" => spec.sequel.on_exit = follow(value),
        "survives" => life.survive_switch_root = true,
        "oneshot" | "ports" | "activated" => declare_program(spec, key, value),
        other => panic!("a key nobody knows: {other}"),
    }
}

fn health(spec: &mut Spec) -> &mut Health {
    spec.health.as_mut().expect("probe= comes first")
}

fn hook(timeout: &str) -> HookSpec {
    HookSpec {
        exec: Exec::Line("hook".to_owned()),
        timeout: Duration::from_millis(number(timeout)),
    }
}

fn follow(word: &str) -> Follow {
    match word {
        "shutdown" => Follow::Shutdown,
        "reboot" => Follow::Reboot,
        "shell" => Follow::Shell,
        name => Follow::Start(name.into()),
    }
}

fn declare_program(spec: &mut Spec, key: &str, value: &str) {
    use zinit::engine::spec::Kind;
    let Kind::Program(program) = &mut spec.kind else {
        panic!("a target has no {key}");
    };
    match key {
        "oneshot" => program.oneshot = true,
        "activated" => program.sockets.activation = true,
        _ => {
            program.ports = value
                .split(',')
                .map(|port| port.parse().expect("a port"))
                .collect();
        }
    }
}

/// Reads the traits of a behaviour.
pub(crate) fn behaviour(traits: &[&str]) -> Behaviour {
    let mut behaviour = Behaviour::default();
    for word in traits {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let until = || Time::from_millis(number(value));
        match key {
            "well" => behaviour = Behaviour::default(),
            "exec-fails" => behaviour.spawning = Spawning::ExecFails,
            "fork-fails" => behaviour.spawning = Spawning::ForkFails,
            "hangs-in-exec" => behaviour.spawning = Spawning::HangsInExec,
            "scarce-until" => behaviour.spawning = Spawning::ScarceUntil(until()),
            "obstructed-until" => behaviour.spawning = Spawning::ObstructedUntil(until()),
            "exec" => behaviour.exec_ms = number(value),
            "lives" => behaviour.lives_ms = Some(number(value)),
            "exits" => behaviour.exit = Exit::Code(value.parse().expect("an exit status")),
            "obeys" => behaviour.obeys_ms = Some(number(value)),
            "ignores-term" => behaviour.obeys_ms = None,
            "lingers" => behaviour.dies_ms = Some(number(value)),
            "unkillable" => (behaviour.obeys_ms, behaviour.dies_ms) = (None, None),
            "leaves" => behaviour.leftovers = value.parse().expect("a count"),
            "leftovers-obey" => behaviour.leftovers_obey_ms = Some(number(value)),
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
            "leftovers-ignore" => behaviour.leftovers_obey_ms = None,
            other => panic!("a behaviour nobody knows: {other}"),
        }
    }
    behaviour
}
