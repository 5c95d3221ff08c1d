//! One service on a bench, in any of its states, with nothing around it.

#![allow(dead_code, reason = "each test file uses the part of it that it needs")]

use std::rc::Rc;
use std::time::Duration;

use zinit::engine::spec::{Exec, HookSpec, Readiness, RestartPolicy};
use zinit::engine::{
    Action, Awaits, Command, ErrandId, Event, Exit, Force, Hold, Outcome, Patience, Pid, Service,
    ServiceId, Spec, State, Supervisor, Ticket, Time, Verdict,
};

/// Each state, those that have several meanings once for each of them.
pub(crate) const STATES: &[&str] = &[
    "Inactive",
    "Blocked",
    "Obstructed",
    "Preparing",
    "Forking",
    "Spawning",
    "Starting",
    "Starting by hook",
    "Running",
    "Running target",
    "Stopping by hook",
    "Stopping",
    "Stopping by force",
    "Falling",
    "Clearing by hook",
    "Clearing",
    "Clearing by force",
    "Clearing a hook",
    "Trailing",
    "Backoff",
    "Exited",
    "Failed",
    "Unkillable",
];

/// A supervisor with a service that is looked at.
pub(crate) struct Bench {
    pub(crate) all: Supervisor,
    pub(crate) now: Time,
    pub(crate) id: ServiceId,
    /// What the last event brought about.
    pub(crate) done: Vec<Action>,
    /// The errand that was sent last.
    pub(crate) errand: ErrandId,
}

/// A process of that number.
pub(crate) fn pid(number: i32) -> Pid {
    Pid::new(number).expect("a pid")
}

fn hook() -> Option<HookSpec> {
    Some(HookSpec {
        exec: Exec::Line("hook".to_owned()),
        timeout: Duration::from_millis(300),
    })
}

/// A program as most benches have it.
pub(crate) fn program() -> Spec {
    Spec::new("it", Exec::Line("program".to_owned()))
}

/// The spec by which a service comes to be in that state.
pub(crate) fn spec_for(state: &str) -> Spec {
    let mut spec = program();
    match state {
        "Blocked" => spec.links.requires = vec!["ghost".into()],
        "Preparing" => spec.hooks.pre_start = hook(),
        "Starting" => spec.readiness = Readiness::Notify,
        "Starting by hook" => spec.hooks.post_start = hook(),
        "Running target" => spec = Spec::target("it"),
        "Stopping by hook" | "Clearing by hook" => spec.hooks.stop = hook(),
        "Trailing" | "Clearing a hook" => spec.hooks.post_stop = hook(),
        "Failed" => spec.lifecycle.restart = RestartPolicy::Never,
        _ => {}
    }
    spec
}

/// A service in that state.
pub(crate) fn bench(state: &str) -> Bench {
    bench_among(state, |_| {}, Vec::new())
}

/// A service in that state, with more in its spec, among others.
pub(crate) fn bench_among(state: &str, more: impl Fn(&mut Spec), others: Vec<Spec>) -> Bench {
    let mut spec = spec_for(state);
    more(&mut spec);
    let mut bench = Bench::new(spec, others);
    let service = bench.id;
    let stop = Command::Stop { service };
    let start = Command::Start {
        service,
        deps: true,
    };
    let exited = |code| Event::Exited {
        pid: pid(10),
        exit: Exit::Code(code),
    };
    let forked = Event::Forked {
        service,
        pid: pid(10),
    };
    let to_deadline = |bench: &mut Bench| {
        bench.now = bench.all.next_deadline().expect("a deadline");
        bench.feed(Event::Deadline);
    };
    if state == "Inactive" {
        return bench;
    }
    bench.command(start);
    match state {
        "Blocked" | "Preparing" | "Forking" | "Running target" => return bench,
        "Obstructed" => {
            bench.feed(Event::Obstructed { service });
            return bench;
        }
        _ => {}
    }
    bench.feed(forked);
    if state == "Spawning" {
        return bench;
    }
    bench.pass(5);
    bench.feed(Event::Started { pid: pid(10) });
    bench.pass(5);
    match state {
        "Starting" | "Starting by hook" | "Running" => {}
        "Falling" => bench.feed(Event::Trouble { pid: pid(10) }),
        "Stopping by hook" | "Stopping" => bench.command(stop),
        "Stopping by force" => {
            bench.command(stop);
            to_deadline(&mut bench);
        }
        "Clearing by hook" => {
            bench.command(stop);
            bench.feed(exited(0));
        }
        "Clearing" => bench.feed(exited(0)),
        "Clearing by force" => {
            bench.feed(exited(0));
            to_deadline(&mut bench);
        }
        "Clearing a hook" => {
            bench.feed(exited(0));
            bench.feed(Event::Cleared { service });
            bench.returned(true);
        }
        "Trailing" | "Exited" => {
            bench.feed(exited(0));
            bench.feed(Event::Cleared { service });
        }
        "Backoff" | "Failed" => {
            bench.feed(exited(1));
            bench.feed(Event::Cleared { service });
        }
        "Unkillable" => {
            bench.command(stop);
            to_deadline(&mut bench);
            to_deadline(&mut bench);
        }
        other => panic!("a state nobody knows: {other}"),
    }
    bench
}

impl Bench {
    /// A service of that spec, which is down, and so are the others.
    pub(crate) fn new(spec: Spec, mut others: Vec<Spec>) -> Self {
        let mut all = Supervisor::salted(0);
        let mut done = Vec::new();
        let name = Rc::clone(&spec.name);
        others.insert(0, spec);
        let load = Event::Command {
            ticket: None,
            patience: Patience::None,
            command: Command::Reload {
                specs: others.into_iter().map(Rc::new).collect(),
                keep: Vec::new(),
                start: false,
            },
        };
        all.handle(Time::ZERO, load, &mut done);
        let id = all.find(&name).expect("it was loaded");
        Self {
            all,
            now: Time::from_millis(1000),
            id,
            done,
            errand: ErrandId(99),
        }
    }

    pub(crate) fn service(&self) -> &Service {
        self.all.service(self.id).expect("it is still there")
    }

    /// Another service.
    pub(crate) fn other(&self, name: &str) -> (ServiceId, &Service) {
        let id = self.all.find(name).expect("a service of that name");
        (id, self.all.service(id).expect("it is there"))
    }

    pub(crate) fn state(&self) -> State {
        self.service().state()
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
    }

    /// Something happens; what is to be done about it is kept, and nothing is done.
    pub(crate) fn feed(&mut self, event: Event) {
        self.done.clear();
        self.all.handle(self.now, event, &mut self.done);
        self.all.check();
        for action in &self.done {
            if let Action::Errand { errand, .. } = action {
                self.errand = *errand;
            }
        }
    }

    /// A command that waits for its answer, under ticket 1.
    pub(crate) fn command(&mut self, command: Command) {
        self.feed(Event::Command {
            ticket: Some(Ticket(1)),
            patience: Patience::Until(None),
            command,
        });
    }

    /// The last errand comes back.
    pub(crate) fn returned(&mut self, well: bool) {
        self.feed(Event::Returned {
            service: self.id,
            errand: self.errand,
            report: match well {
                true => zinit::engine::Report::Success,
                false => zinit::engine::Report::Failed,
            },
        });
    }
}

/// A state in a few words.
pub(crate) fn name(state: State) -> String {
    let force = |force: Force| match force {
        Force::Hook => " hook",
        Force::Polite => "",
        Force::Kill => " kill",
    };
    match state {
        State::Inactive => "Inactive".to_owned(),
        State::Blocked {
            hold: Hold::Obstructed { .. },
        } => "Obstructed".to_owned(),
        State::Blocked { hold } => format!("Blocked {hold:?}"),
        State::Preparing { until: None } => "Prepared".to_owned(),
        State::Preparing { .. } => "Preparing".to_owned(),
        State::Forking => "Forking".to_owned(),
        State::Spawning { .. } => "Spawning".to_owned(),
        State::Starting {
            awaits: Awaits::Hook,
            ..
        } => "Starting hook".to_owned(),
        State::Starting { .. } => "Starting".to_owned(),
        State::Running { .. } => "Running".to_owned(),
        State::Stopping {
            force: with,
            failure,
            ..
        } => {
            let falls = if failure.is_some() { " failed" } else { "" };
            format!("Stopping{}{falls}", force(with))
        }
        State::Clearing { force: with, .. } => format!("Clearing{}", force(with)),
        State::Trailing { .. } => "Trailing".to_owned(),
        State::Backoff { .. } => "Backoff".to_owned(),
        State::Exited { .. } => "Exited".to_owned(),
        State::Failed { .. } => "Failed".to_owned(),
    }
}

/// The answer that this action is, if it is one.
pub(crate) fn reply(action: &Action) -> Option<&Outcome> {
    if let Action::Reply { outcome, .. } = action {
        return Some(outcome);
    }
    None
}

/// An answer in a word, if there is one among these actions.
pub(crate) fn outcome(done: &[Action]) -> Option<String> {
    let replies = done.iter().filter_map(reply);
    let words = replies.map(|outcome| match outcome {
        Outcome::Done => "done".to_owned(),
        Outcome::Not(verdict) => match verdict {
            Verdict::Failed => "failed".to_owned(),
            Verdict::Blocked => "blocked".to_owned(),
            Verdict::Superseded => "superseded".to_owned(),
            Verdict::Removed => "removed".to_owned(),
            Verdict::TimedOut => "late".to_owned(),
        },
        Outcome::Unknown
        | Outcome::NotRunning
        | Outcome::NoReload
        | Outcome::ShuttingDown
        | Outcome::Bulk { .. }
        | Outcome::Reloaded { .. } => format!("{outcome:?}"),
    });
    let words: Vec<String> = words.collect();
    (!words.is_empty()).then(|| words.join(" "))
}
