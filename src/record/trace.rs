//! What an engine does, as lines for people: `12ms  web  Blocked → Forking`.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::rc::Rc;

use crate::engine::{
    Action, End, Errand, Event, Failure, Hold, Outcome, Pid, ServiceId, State, Supervisor, Time,
    Verdict,
};

/// Writes down what goes by. Steps of one service right after each other share a line.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// What was written so far.
    pub lines: Vec<String>,
    names: BTreeMap<ServiceId, Rc<str>>,
    of_pid: BTreeMap<Pid, Rc<str>>,
}

impl Trace {
    /// Of an engine that has a history already.
    #[must_use]
    pub fn of(all: &Supervisor) -> Self {
        let mut trace = Self::default();
        for (id, service) in all.services() {
            let name = &service.spec().name;
            trace.names.insert(id, Rc::clone(name));
            if let Some(pid) = service.state().pid() {
                trace.of_pid.insert(pid, Rc::clone(name));
            }
        }
        trace
    }

    fn name(&mut self, all: &Supervisor, id: ServiceId) -> Rc<str> {
        if let Some(service) = all.service(id) {
            self.names.insert(id, Rc::clone(&service.spec().name));
        }
        let name = self.names.get(&id).cloned();
        name.unwrap_or_else(|| format!("{id:?}").into())
    }

    fn name_of(&self, pid: Pid) -> &str {
        self.of_pid.get(&pid).map_or("-", |name| name)
    }

    fn tell(&mut self, now: Time, all: &Supervisor, id: ServiceId, what: &str) {
        let line = format!("{now:?}  {}  {what}", self.name(all, id));
        self.lines.push(line);
    }

    fn changed(&mut self, now: Time, all: &Supervisor, id: ServiceId, from: State, to: State) {
        let name = self.name(all, id);
        let begin = format!("{now:?}  {name}  ");
        let before = Shown(from).to_string();
        match self.lines.last_mut() {
            Some(line) if line.starts_with(&begin) && line.ends_with(&before) => {
                let _ = write!(line, " → {}", Shown(to));
            }
            Some(_) | None => self.lines.push(format!("{begin}{before} → {}", Shown(to))),
        }
    }

    /// An event that the engine is told now.
    pub fn event(&mut self, now: Time, all: &Supervisor, event: &Event) {
        if let Event::Forked { service, pid } = *event {
            let name = self.name(all, service);
            self.of_pid.insert(pid, name);
            self.tell(now, all, service, &format!("forked {pid}"));
        }
    }

    /// An action of the engine's.
    pub fn action(&mut self, now: Time, all: &Supervisor, action: &Action) {
        match action {
            Action::Spawn { service } => self.tell(now, all, *service, "spawn"),
            Action::KillTree {
                service,
                pid,
                signal,
            } => self.tell(now, all, *service, &format!("{signal} to {pid}")),
            Action::Sweep { service, signal } => {
                self.tell(now, all, *service, &format!("sweep with {signal}"));
            }
            Action::Signal { pid, signal } => {
                let line = format!("{now:?}  {}  user's {signal}", self.name_of(*pid));
                self.lines.push(line);
            }
            Action::Changed { service, from, to } => {
                self.changed(now, all, *service, *from, *to);
            }
            Action::Removed { service, name } => {
                self.names.insert(*service, Rc::clone(name));
                self.tell(now, all, *service, "removed");
            }
            Action::Reply { ticket, outcome } => {
                let line = format!("{now:?}  reply {}: {}", ticket.0, told(outcome));
                self.lines.push(line);
            }
            Action::Refresh { pid, signal } => {
                let line = format!("{now:?}  {}  reload by {signal}", self.name_of(*pid));
                self.lines.push(line);
            }
            Action::Errand { service, what, .. } => match what {
                Errand::Probe => self.tell(now, all, *service, "probe"),
                Errand::Hook(hook) => {
                    self.tell(now, all, *service, &format!("{} hook", hook.name()));
                }
            },
            Action::Recall { service, .. } => self.tell(now, all, *service, "recall"),
            Action::Attend { service, awaits } => {
                let word = if *awaits {
                    "awaits a call"
                } else {
                    "awaits none"
                };
                self.tell(now, all, *service, word);
            }
            Action::Health { service, healthy } => {
                let word = if *healthy { "healthy" } else { "unhealthy" };
                self.tell(now, all, *service, word);
            }
            Action::Sequel {
                service, follow, ..
            } => self.tell(now, all, *service, &format!("then {follow:?}")),
            Action::CriticalFailed { service } => {
                self.tell(now, all, *service, "critical, failed");
            }
            Action::Halt => self.lines.push(format!("{now:?}  halt")),
            Action::Anomaly { what, .. } => self.lines.push(format!("anomaly: {what}")),
        }
    }
}

fn told(outcome: &Outcome) -> String {
    let list = |names: &[Rc<str>]| names.join(" ");
    match outcome {
        Outcome::Done => "done".to_owned(),
        Outcome::Not(verdict) => verdict_word(*verdict).to_owned(),
        Outcome::Unknown => "unknown".to_owned(),
        Outcome::NoReload => "no reload".to_owned(),
        Outcome::NotRunning => "not running".to_owned(),
        Outcome::ShuttingDown => "shutting down".to_owned(),
        Outcome::Bulk { services, failed } => {
            let failed: Vec<_> = failed
                .iter()
                .map(|(_, verdict)| verdict_word(*verdict))
                .collect();
            format!("all of [{}], but [{}]", list(services), failed.join(", "))
        }
        Outcome::Reloaded {
            added,
            removed,
            changed,
            refused,
        } => [
            ("added", added),
            ("removed", removed),
            ("changed", changed),
            ("refused", refused),
        ]
        .iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| format!("{what} {}", list(names)))
        .collect::<Vec<_>>()
        .join("; "),
    }
}

fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Failed => "failed",
        Verdict::Blocked => "blocked",
        Verdict::Superseded => "superseded",
        Verdict::Removed => "it was removed",
        Verdict::TimedOut => "timed out",
    }
}

/// A state in a word or two; with `#` also what holds it back.
#[derive(Debug)]
pub struct Shown(pub State);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            State::Inactive => f.write_str("Inactive"),
            State::Blocked { hold } if f.alternate() => match hold {
                Hold::Obstructed { until } => write!(f, "Blocked, Obstructed until {until:?}"),
                Hold::Waiting
                | Hold::Stuck
                | Hold::Missing
                | Hold::Cycle
                | Hold::Conflict
                | Hold::Port => write!(f, "Blocked, {hold:?}"),
            },
            State::Blocked { .. } => f.write_str("Blocked"),
            State::Preparing { .. } => f.write_str("Preparing"),
            State::Forking => f.write_str("Forking"),
            State::Spawning { .. } => f.write_str("Spawning"),
            State::Starting { awaits, .. } if f.alternate() => write!(f, "Starting, {awaits:?}"),
            State::Starting { .. } => f.write_str("Starting"),
            State::Trailing { .. } => f.write_str("Trailing"),
            State::Running { .. } => f.write_str("Running"),
            State::Stopping { force, .. } if f.alternate() => write!(f, "Stopping, {force:?}"),
            State::Stopping { .. } => f.write_str("Stopping"),
            State::Clearing { .. } => f.write_str("Clearing"),
            State::Backoff { until, end } => {
                write!(f, "Backoff until {until:?} after {}", ending(end))
            }
            State::Exited { end } => match end.code() {
                Some(code) => write!(f, "Exited {code}"),
                None => f.write_str("Exited"),
            },
            State::Failed { why } => write!(f, "Failed, {}", failing(why)),
        }
    }
}

fn ending(end: End) -> String {
    match end {
        End::Asked(_) => "a stop".to_owned(),
        End::Success(_) => "success".to_owned(),
        End::Failure(why) => failing(why),
    }
}

fn failing(why: Failure) -> String {
    match why {
        Failure::ExitCode(code) => format!("code {code}"),
        Failure::Signal(signal) => format!("signal {signal}"),
        Failure::Spawn(error) => format!("{:?} errno {}", error.step, error.errno),
        Failure::StartTimeout => "start timeout".to_owned(),
        Failure::StopTimeout => "stop timeout".to_owned(),
        Failure::Unready => "it was not ready".to_owned(),
        Failure::Health { attempts } => format!("{attempts} probes"),
        Failure::Watchdog => "watchdog".to_owned(),
        Failure::Trouble => "its own word".to_owned(),
        Failure::OutOfMemory => "out of memory".to_owned(),
        Failure::Hook { hook, fault } => format!("{} hook {fault:?}", hook.name()),
    }
}
