//! Specs as a line: `service web requires=db,log restart=always delay=100`.
//!
//! A line says all that the engine decides by, and nothing of what is run: not the program, nor its
//! arguments and environment, which may be secret. Spans are milliseconds. What is as it is by
//! default is not said.

use std::fmt::{Display, Write as _};
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;

use crate::engine::spec::{
    Class, Exec, Follow, Health, HookSpec, Hooks, KillMode, Kind, Lifecycle, OnUnhealthy, Probe,
    Program, Readiness, RestartPolicy, Spec, Status, SuccessExit,
};
use crate::engine::{Exit, Signal};

/// What a probe may take where a line says nothing else.
const PROBE_TIMEOUT: Duration = Duration::from_millis(50);

/// How often it may fail.
const PROBE_RETRIES: u32 = 3;

/// Writes `service NAME …` or `target NAME …`.
#[must_use]
pub fn spec_line(spec: &Spec) -> String {
    let kind = if spec.is_target() {
        "target"
    } else {
        "service"
    };
    let mut line = Line(format!("{kind} {}", spec.name));
    line.program(spec);
    for (key, names) in [
        ("requires", &spec.links.requires),
        ("after", &spec.links.after),
        ("wants", &spec.links.wants),
        ("conflicts", &spec.links.conflicts),
    ] {
        line.list(key, names);
    }
    line.differs("status", status_word(spec.status), "start");
    line.differs("class", class_word(spec.class), "user");
    line.flag("critical", spec.critical);
    line.lifecycle(&spec.lifecycle);
    line.readiness(&spec.readiness);
    line.span("watchdog", spec.watchdog);
    line.health(spec.health.as_ref());
    line.hooks(&spec.hooks);
    line.follow("on_failure", &spec.sequel.on_failure);
    line.follow("on_exit", &spec.sequel.on_exit);
    line.0
}

struct Line(String);

impl Line {
    fn key(&mut self, key: &str, value: &dyn Display) {
        let _ = write!(self.0, " {key}={value}");
    }

    fn flag(&mut self, key: &str, so: bool) {
        if so {
            let _ = write!(self.0, " {key}");
        }
    }

    fn differs<T: Display + PartialEq>(&mut self, key: &str, value: T, default: T) {
        if value != default {
            self.key(key, &value);
        }
    }

    fn span(&mut self, key: &str, span: Option<Duration>) {
        if let Some(span) = span {
            self.key(key, &span.as_millis());
        }
    }

    fn list<T: Display>(&mut self, key: &str, all: &[T]) {
        for (place, one) in all.iter().enumerate() {
            if place == 0 {
                self.key(key, one);
            } else {
                let _ = write!(self.0, ",{one}");
            }
        }
    }

    fn program(&mut self, spec: &Spec) {
        let Some(program) = spec.program() else {
            return;
        };
        self.flag("oneshot", program.oneshot);
        self.list("ports", &program.ports);
        self.flag("activated", program.sockets.activation);
    }

    fn lifecycle(&mut self, life: &Lifecycle) {
        let usual = Lifecycle::default();
        self.differs(
            "restart",
            policy_word(life.restart),
            policy_word(usual.restart),
        );
        let spans = [
            ("delay", life.restart_delay, usual.restart_delay),
            ("delay_max", life.restart_delay_max, usual.restart_delay_max),
            ("stability", life.stability_period, usual.stability_period),
            ("start_timeout", life.start_timeout, usual.start_timeout),
            ("stop_timeout", life.stop_timeout, usual.stop_timeout),
        ];
        for (key, span, usual) in spans {
            self.differs(key, span.as_millis(), usual.as_millis());
        }
        self.differs("max", life.max_restarts, usual.max_restarts);
        self.differs("stop_signal", life.stop_signal, usual.stop_signal);
        self.differs(
            "kill_mode",
            mode_word(life.kill_mode),
            mode_word(usual.kill_mode),
        );
        if let Some(signal) = life.reload_signal {
            self.key("reload_signal", &signal);
        }
        if life.success_exit != usual.success_exit {
            let words = life.success_exit.all().map(|exit| match exit {
                Exit::Code(code) => code.to_string(),
                Exit::Signal(_) | Exit::OutOfMemory => signal_of(exit),
            });
            let mut words: Vec<String> = words.collect();
            if words.is_empty() {
                words.push("none".to_owned());
            }
            self.list("success", &words);
        }
        self.flag("restart_dependents", life.restart_dependents);
        self.flag("survives", life.survive_switch_root);
    }

    fn readiness(&mut self, readiness: &Readiness) {
        match readiness {
            Readiness::Spawn => {}
            Readiness::Exit => self.key("readiness", &"exit"),
            Readiness::Health => self.key("readiness", &"health"),
            // Over which way it says so is the shell's business.
            Readiness::Notify | Readiness::Fd(_) | Readiness::Log(_) => {
                self.key("readiness", &"notify");
            }
        }
    }

    fn health(&mut self, health: Option<&Health>) {
        let Some(health) = health else {
            return;
        };
        self.key("probe", &health.interval.as_millis());
        let (timeout, usual) = (health.timeout.as_millis(), PROBE_TIMEOUT.as_millis());
        self.differs("probe_timeout", timeout, usual);
        self.differs("retries", health.retries, PROBE_RETRIES);
        self.differs("probe_after", health.start_period.as_millis(), 0);
        self.flag("report", health.on_unhealthy == OnUnhealthy::Report);
    }

    fn hooks(&mut self, hooks: &Hooks) {
        let all = [
            ("pre_start", &hooks.pre_start),
            ("post_start", &hooks.post_start),
            ("stop_hook", &hooks.stop),
            ("post_stop", &hooks.post_stop),
            ("reload_hook", &hooks.reload),
        ];
        for (key, hook) in all {
            self.span(key, hook.as_ref().map(|hook| hook.timeout));
        }
    }

    fn follow(&mut self, key: &str, follow: &Follow) {
        match follow {
            Follow::Nothing => {}
            Follow::Shutdown => self.key(key, &"shutdown"),
            Follow::Reboot => self.key(key, &"reboot"),
            Follow::Shell => self.key(key, &"shell"),
            Follow::Start(name) => self.key(key, name),
        }
    }
}

fn signal_of(exit: Exit) -> String {
    match exit {
        Exit::Signal(number) => match Signal::from_number(number) {
            Some(signal) => signal.to_string(),
            None => format!("signal-{number}"),
        },
        Exit::Code(_) | Exit::OutOfMemory => String::new(),
    }
}

/// Reads `service NAME …` or `target NAME …`.
///
/// # Errors
/// With one sentence, about the first word that can't stand there.
pub fn read_spec(words: &[&str]) -> Result<Spec, String> {
    let mut spec = match words {
        ["target", name, ..] => Spec::target(name),
        ["service", name, ..] => Spec::new(name, Exec::Line("program".to_owned())),
        other => return Err(format!("no spec begins with {other:?}")),
    };
    for word in words.iter().skip(2) {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        if !declare(&mut spec, key, value)? {
            return Err(format!("a key nobody knows: {word}"));
        }
    }
    Ok(spec)
}

type Known = Result<bool, String>;

fn declare(spec: &mut Spec, key: &str, value: &str) -> Known {
    let names = || value.split(',').map(Rc::from).collect();
    match key {
        "requires" => spec.links.requires = names(),
        "after" => spec.links.after = names(),
        "wants" => spec.links.wants = names(),
        "conflicts" => spec.links.conflicts = names(),
        "status" => {
            let all = [Status::Start, Status::Stop, Status::Ignore];
            spec.status = one_of(value, all, status_word)?;
        }
        "class" => spec.class = one_of(value, [Class::User, Class::System], class_word)?,
        "critical" => spec.critical = true,
        "readiness" => {
            spec.readiness = match value {
                "notify" => Readiness::Notify,
                "health" => Readiness::Health,
                "exit" => Readiness::Exit,
                other => return Err(format!("a readiness nobody knows: {other}")),
            }
        }
        "watchdog" => spec.watchdog = Some(span(value)?),
        "on_failure" => spec.sequel.on_failure = follow(value),
        "on_exit" => spec.sequel.on_exit = follow(value),
        "oneshot" => program(spec)?.oneshot = true,
        "activated" => program(spec)?.sockets.activation = true,
        "ports" => {
            let ports = value.split(',').map(number);
            program(spec)?.ports = ports.collect::<Result<_, _>>()?;
        }
        _ => {
            return Ok(declare_lifecycle(&mut spec.lifecycle, key, value)?
                || declare_hook(&mut spec.hooks, key, value)?
                || declare_probe(&mut spec.health, key, value)?);
        }
    }
    Ok(true)
}

fn declare_lifecycle(life: &mut Lifecycle, key: &str, value: &str) -> Known {
    match key {
        "delay" => life.restart_delay = span(value)?,
        "delay_max" => life.restart_delay_max = span(value)?,
        "max" => life.max_restarts = number(value)?,
        "stability" => life.stability_period = span(value)?,
        "start_timeout" => life.start_timeout = span(value)?,
        "stop_timeout" => life.stop_timeout = span(value)?,
        "stop_signal" => life.stop_signal = signal(value)?,
        "reload_signal" => life.reload_signal = Some(signal(value)?),
        "restart" => {
            let all = [
                RestartPolicy::Always,
                RestartPolicy::OnFailure,
                RestartPolicy::Never,
            ];
            life.restart = one_of(value, all, policy_word)?;
        }
        "kill_mode" => {
            let all = [KillMode::Tree, KillMode::Group, KillMode::Main];
            life.kill_mode = one_of(value, all, mode_word)?;
        }
        "success" => {
            life.success_exit = SuccessExit::NONE;
            for word in value.split(',').filter(|word| *word != "none") {
                let exit = match (word.parse(), word.strip_prefix("signal-")) {
                    (Ok(code), _) => Exit::Code(code),
                    (Err(_), Some(rest)) => Exit::Signal(number(rest)?),
                    (Err(_), None) => Exit::Signal(signal(word)?.number()),
                };
                life.success_exit = life.success_exit.with(exit);
            }
        }
        "restart_dependents" => life.restart_dependents = true,
        "survives" => life.survive_switch_root = true,
        _ => return Ok(false),
    }
    Ok(true)
}

fn declare_hook(hooks: &mut Hooks, key: &str, value: &str) -> Known {
    let place = match key {
        "pre_start" => &mut hooks.pre_start,
        "post_start" => &mut hooks.post_start,
        "stop_hook" => &mut hooks.stop,
        "post_stop" => &mut hooks.post_stop,
        "reload_hook" => &mut hooks.reload,
        _ => return Ok(false),
    };
    let exec = Exec::Line("hook".to_owned());
    let timeout = span(value)?;
    *place = Some(HookSpec { exec, timeout });
    Ok(true)
}

fn declare_probe(health: &mut Option<Health>, key: &str, value: &str) -> Known {
    if key == "probe" {
        *health = Some(Health {
            probe: Probe::Exec("true".to_owned()),
            interval: span(value)?,
            timeout: PROBE_TIMEOUT,
            retries: PROBE_RETRIES,
            start_period: Duration::ZERO,
            on_unhealthy: OnUnhealthy::Restart,
        });
        return Ok(true);
    }
    let is_known = ["probe_timeout", "retries", "probe_after", "report"].contains(&key);
    let Some(health) = health.as_mut().filter(|_| is_known) else {
        return Ok(false);
    };
    match key {
        "probe_timeout" => health.timeout = span(value)?,
        "retries" => health.retries = number(value)?,
        "probe_after" => health.start_period = span(value)?,
        _ => health.on_unhealthy = OnUnhealthy::Report,
    }
    Ok(true)
}

fn follow(word: &str) -> Follow {
    match word {
        "shutdown" => Follow::Shutdown,
        "reboot" => Follow::Reboot,
        "shell" => Follow::Shell,
        name => Follow::Start(name.into()),
    }
}

fn program(spec: &mut Spec) -> Result<&mut Program, String> {
    match &mut spec.kind {
        Kind::Program(program) => Ok(program),
        Kind::Target => Err(format!("{} is a target, which has no program", spec.name)),
    }
}

fn number<T: FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("not a number: {word}"))
}

fn span(word: &str) -> Result<Duration, String> {
    number(word).map(Duration::from_millis)
}

fn signal(word: &str) -> Result<Signal, String> {
    Signal::parse(word).map_err(|_| format!("not a signal: {word}"))
}

fn one_of<T: Copy, const N: usize>(
    word: &str,
    all: [T; N],
    name: fn(T) -> &'static str,
) -> Result<T, String> {
    let found = all.into_iter().find(|one| name(*one) == word);
    found.ok_or_else(|| format!("{word}: it is one of {:?}", all.map(name)))
}

const fn status_word(status: Status) -> &'static str {
    match status {
        Status::Start => "start",
        Status::Stop => "stop",
        Status::Ignore => "ignore",
    }
}

const fn class_word(class: Class) -> &'static str {
    match class {
        Class::User => "user",
        Class::System => "system",
    }
}

const fn policy_word(policy: RestartPolicy) -> &'static str {
    match policy {
        RestartPolicy::Always => "always",
        RestartPolicy::OnFailure => "on-failure",
        RestartPolicy::Never => "never",
    }
}

const fn mode_word(mode: KillMode) -> &'static str {
    match mode {
        KillMode::Tree => "tree",
        KillMode::Group => "group",
        KillMode::Main => "main",
    }
}
