//! How time grows with the number of services: prints, asserts nothing.
//!
//! `cargo test --release --test scale -- --ignored --nocapture`; ten times the services should
//! take about ten times as long.

use std::rc::Rc;
use std::time::Instant;

use zinit::engine::spec::{Exec, Kind};
use zinit::engine::{Action, Command, Event, Exit, Patience, Pid, Spec, Supervisor, Ticket, Time};

/// A machine where everything works at once.
#[derive(Default)]
struct Machine {
    supervisor: Supervisor,
    last_pid: i32,
    replies: usize,
}

impl Machine {
    fn feed(&mut self, event: Event) {
        let mut events = vec![event];
        let mut actions = Vec::new();
        while let Some(event) = events.pop() {
            self.supervisor.handle(Time::ZERO, event, &mut actions);
            for action in actions.drain(..) {
                self.perform(&action, &mut events);
            }
        }
    }

    fn perform(&mut self, action: &Action, events: &mut Vec<Event>) {
        match *action {
            Action::Spawn { service } => {
                self.last_pid += 1;
                let pid = Pid::new(self.last_pid).expect("a pid");
                let spec = self.supervisor.service(service).map(|s| s.spec());
                // What is pushed last is handled first.
                if spec.is_some_and(|spec| spec.is_oneshot()) {
                    let exit = Exit::Code(0);
                    events.push(Event::Exited { pid, exit });
                }
                events.push(Event::Started { pid });
                events.push(Event::Forked { service, pid });
            }
            Action::KillTree { pid, .. } => events.push(Event::Exited {
                pid,
                exit: Exit::Signal(15),
            }),
            Action::Sweep { service, .. } => events.push(Event::Cleared { service }),
            Action::Reply { .. } => self.replies += 1,
            Action::Signal { .. }
            | Action::Refresh { .. }
            | Action::Attend { .. }
            | Action::Errand { .. }
            | Action::Recall { .. }
            | Action::Health { .. }
            | Action::Sequel { .. }
            | Action::Changed { .. }
            | Action::CriticalFailed { .. }
            | Action::Removed { .. }
            | Action::Halt
            | Action::Anomaly { .. } => {}
        }
    }

    fn command(&mut self, command: Command) {
        self.feed(Event::Command {
            ticket: Some(Ticket(1)),
            patience: Patience::Until(None),
            command,
        });
    }

    fn up(&self) -> usize {
        let services = self.supervisor.services();
        services.filter(|(_, service)| service.is_met()).count()
    }
}

fn program(name: &str, requires: &[String]) -> Spec {
    let mut spec = Spec::new(name, Exec::Line("program".to_owned()));
    spec.links.requires = requires.iter().map(|name| Rc::from(&**name)).collect();
    spec
}

fn name(number: usize) -> String {
    format!("s{number:05}")
}

fn chain(size: usize) -> Vec<Spec> {
    let link = |number: usize| {
        let before = number.checked_sub(1).map(name);
        program(&name(number), before.as_slice())
    };
    (0..size).map(link).collect()
}

fn hub(size: usize) -> Vec<Spec> {
    let dependents = (1..=size).map(|number| program(&name(number), &["hub".to_owned()]));
    std::iter::once(program("hub", &[]))
        .chain(dependents)
        .collect()
}

fn target(size: usize) -> Vec<Spec> {
    let oneshots = (0..size).map(|number| {
        let mut spec = program(&name(number), &[]);
        if let Kind::Program(program) = &mut spec.kind {
            program.oneshot = true;
        }
        spec
    });
    let mut all = Spec::target("all");
    all.links.requires = (0..size).map(|number| Rc::from(name(number))).collect();
    std::iter::once(all).chain(oneshots).collect()
}

/// Everybody in one port, each after the one before.
fn queue_for_a_port(size: usize) -> Vec<Spec> {
    let mut specs = chain(size);
    for spec in &mut specs {
        spec.links.after = std::mem::take(&mut spec.links.requires);
        if let Kind::Program(program) = &mut spec.kind {
            program.ports = vec![80];
        }
    }
    specs
}

fn timed(what: &str, act: impl FnOnce()) {
    let begin = Instant::now();
    act();
    print!("  {what} {:8.2?}", begin.elapsed());
}

fn measure(what: &str, size: usize, specs: Vec<Spec>) {
    let specs: Vec<Rc<Spec>> = specs.into_iter().map(Rc::new).collect();
    print!("{what} {size:>6}");
    let mut machine = Machine::default();
    timed("load", || {
        machine.command(Command::Reload {
            specs: specs.clone(),
            keep: Vec::new(),
            start: true,
        });
    });
    let up = machine.up();
    timed("stop", || machine.command(Command::StopAll));
    timed("start", || machine.command(Command::StartAll));
    timed("shutdown", || {
        machine.command(Command::Shutdown {
            within: None,
            spare: false,
        });
    });
    let mut machine = Machine::default();
    timed("one by one: add", || {
        for spec in &specs {
            let spec = Rc::clone(spec);
            machine.command(Command::Put { spec });
        }
    });
    timed("remove", || {
        for spec in specs.iter().rev() {
            if let Some(service) = machine.supervisor.find(&spec.name) {
                machine.command(Command::Remove { service });
            }
        }
    });
    let left = machine.supervisor.services().count();
    println!("  ({up} were up, {left} are left)");
}

#[test]
#[ignore = "prints times"]
fn time_grows_with_the_services() {
    for size in [500, 5_000] {
        measure("chain ", size, chain(size));
    }
    for size in [500, 5_000] {
        let reversed = chain(size).into_iter().rev().collect();
        measure("niahc ", size, reversed);
    }
    for size in [500, 5_000] {
        measure("hub   ", size, hub(size));
    }
    for size in [500, 5_000, 10_000] {
        measure("target", size, target(size));
    }
    for size in [500, 5_000] {
        measure("port  ", size, queue_for_a_port(size));
    }
}
