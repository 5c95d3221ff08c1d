//! A simulated machine around the engine: virtual time and sham processes.
//!
//! It turns actions into events just as the real shell does. A spawn is answered within the turn;
//! whether the program runs comes later, but before the exit of that process; a signal reaches the
//! processes it is for, and each does with it what its behaviour says; a sweep is answered when
//! nothing is left. After each event the engine's own `check()` looks at everything. Whoever drives
//! the world watches each event and each action go by.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use zinit::engine::spec::{Hook, KillMode};
use zinit::engine::{
    Action, Errand, ErrandId, Event, Exit, Pid, Report, ServiceId, Signal, SpawnError, Step,
    Supervisor, Time,
};
use zinit::record::Recorder;

/// Events one feeding may bring about before the engine is said to run in circles.
const EVENTS_PER_FEED: usize = 20_000;

/// Numbers of processes begin after this one.
const FIRST_PID: i32 = 100;

/// How a world is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Nature {
    /// Spreads restarts, unless it is 0.
    pub(crate) salt: u64,
    /// What is due at the same time as the engine's deadline comes after it.
    pub(crate) deadlines_first: bool,
    /// The number of a process that was collected is the next one's.
    pub(crate) reuses_pids: bool,
}

/// What becomes of a spawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spawning {
    Works,
    ForkFails,
    /// The machine is out of processes until this time.
    ScarceUntil(Time),
    /// Somebody outside holds the port until this time.
    ObstructedUntil(Time),
    ExecFails,
    HangsInExec,
}

/// How the processes of a service behave. Spans are milliseconds; none means never.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Behaviour {
    pub(crate) spawning: Spawning,
    /// From the action to the fork.
    pub(crate) fork_ms: u64,
    /// From fork to the program.
    pub(crate) exec_ms: u64,
    /// From the program's start to its end by itself, and that end.
    pub(crate) lives_ms: Option<u64>,
    pub(crate) exit: Exit,
    /// From the stop signal to the end.
    pub(crate) obeys_ms: Option<u64>,
    /// From the engine's wish to the signal.
    pub(crate) signal_ms: u64,
    /// From SIGKILL to the end.
    pub(crate) dies_ms: Option<u64>,
    /// Processes it forks away, and how long they take to obey.
    pub(crate) leftovers: u32,
    pub(crate) leftovers_obey_ms: Option<u64>,
    /// From the program's start until it says that it is ready.
    pub(crate) ready_ms: Option<u64>,
    /// Between two times it says that it is well.
    pub(crate) ping_ms: Option<u64>,
    /// What a probe takes, and whether it finds the service well.
    pub(crate) probe_ms: Option<u64>,
    pub(crate) is_well: bool,
    /// What a hook takes, and whether it succeeds.
    pub(crate) hook_ms: Option<u64>,
    pub(crate) hook_succeeds: bool,
    /// The stop hook has the program end.
    pub(crate) hook_stops: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            spawning: Spawning::Works,
            fork_ms: 0,
            exec_ms: 1,
            lives_ms: None,
            exit: Exit::Code(0),
            obeys_ms: Some(5),
            signal_ms: 0,
            dies_ms: Some(1),
            leftovers: 0,
            leftovers_obey_ms: Some(5),
            ready_ms: Some(10),
            ping_ms: None,
            probe_ms: Some(2),
            is_well: true,
            hook_ms: Some(3),
            hook_succeeds: true,
            hook_stops: false,
        }
    }
}

/// Sees all that happens.
pub(crate) trait Watch {
    fn event(&mut self, world: &World, event: &Event);
    fn action(&mut self, world: &World, action: &Action);
    /// An event was handled and its actions were carried out.
    fn settled(&mut self, world: &World);
}

/// A process: whose it is, and how it behaves.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) service: ServiceId,
    pub(crate) role: Role,
    behaviour: Behaviour,
    pub(crate) killed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Main,
    Leftover,
    /// A hook, or a probe.
    Errand(ErrandId, Errand),
    /// Left alone by a service that is not swept, or that was given up.
    Stray,
}

#[derive(Clone, Copy, Debug)]
enum Due {
    Fork(ServiceId),
    Signal(ServiceId, Pid, Signal),
    Exec(Pid),
    Death(Pid, Exit),
    Ready(Pid),
    Ping(Pid, u64),
}

#[derive(Clone, Default)]
pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) supervisor: Supervisor,
    pub(crate) behaviours: BTreeMap<String, Behaviour>,
    pub(crate) processes: BTreeMap<Pid, Process>,
    pub(crate) last_errands: BTreeMap<ServiceId, ErrandId>,
    pub(crate) halted: bool,
    /// Events that the engine was told.
    pub(crate) events: u64,
    /// Before each event a second engine is made from what the first remembers; both then have to do
    /// the same.
    pub(crate) with_twins: bool,
    /// Keeps what the engine is told.
    pub(crate) recorder: Option<Recorder>,
    nature: Nature,
    /// What is due at the same time comes in the order of its number.
    /// Signals that are due.
    signals_due: u32,
    agenda: BTreeMap<(Time, u64), Due>,
    last_number: u64,
    last_pid: i32,
    sweeps: Vec<ServiceId>,
}

impl World {
    pub(crate) fn new(nature: Nature) -> Self {
        Self {
            last_pid: FIRST_PID,
            supervisor: Supervisor::salted(nature.salt),
            nature,
            ..Self::default()
        }
    }

    pub(crate) fn name(&self, id: ServiceId) -> Option<&str> {
        Some(&*self.supervisor.service(id)?.spec().name)
    }

    /// Hands the engine an event, carries out what it answers, and so on until it is silent.
    pub(crate) fn feed(&mut self, event: Event, watch: &mut impl Watch) {
        let mut events = VecDeque::from([event]);
        let mut fed = 0;
        while let Some(event) = events.pop_front() {
            fed += 1;
            assert!(fed < EVENTS_PER_FEED, "this turn does not end: {event:?}");
            self.events += 1;
            watch.event(self, &event);
            if let Some(recorder) = &mut self.recorder {
                recorder.note(&self.supervisor, self.now, &event);
            }
            let mut actions = Vec::new();
            if self.with_twins {
                self.handle_twice(event, &mut actions);
            } else {
                self.supervisor.handle(self.now, event, &mut actions);
            }
            self.supervisor.check();
            for action in actions {
                watch.action(self, &action);
                self.perform(&action, &mut events);
            }
            watch.settled(self);
        }
    }

    fn handle_twice(&mut self, event: Event, actions: &mut Vec<Action>) {
        let mut twin = Supervisor::restored(&self.supervisor.snapshot());
        twin.check();
        let mut others = Vec::new();
        twin.handle(self.now, event.clone(), &mut others);
        self.supervisor.handle(self.now, event, actions);
        assert_eq!(
            format!("{others:?}"),
            format!("{actions:?}"),
            "a twin does otherwise"
        );
        assert_eq!(twin.snapshot(), self.supervisor.snapshot());
    }

    /// Lets everything happen that is due up to `end`. What the engine is to be told of its
    /// deadline comes after what processes did at the same time, or before.
    pub(crate) fn run_until(&mut self, end: Time, watch: &mut impl Watch) {
        loop {
            let due = self.agenda.first_key_value().map(|((at, _), _)| *at);
            // Nobody is late who was not even told to end.
            let is_behind = self.signals_due > 0;
            let deadline = self.supervisor.next_deadline().filter(|_| !is_behind);
            let Some(next) = [due, deadline].into_iter().flatten().min() else {
                break;
            };
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            let is_due = |at: Option<Time>| at.is_some_and(|at| at <= self.now);
            let happens = is_due(due) && !(self.nature.deadlines_first && is_due(deadline));
            if happens {
                self.happen(watch);
            } else {
                self.feed(Event::Deadline, watch);
                let left = self.supervisor.next_deadline();
                assert!(
                    left.is_none_or(|left| left > self.now),
                    "a deadline came and stayed"
                );
            }
        }
        self.now = self.now.max(end);
    }

    /// The main process hands over to one of that number, and is gone.
    #[allow(dead_code, reason = "for stories")]
    pub(crate) fn rename(&mut self, pid: Pid, to: Pid) {
        let process = self.processes.remove(&pid).expect("a process");
        self.forget(pid);
        self.processes.insert(to, process);
    }

    /// The process ends at once.
    pub(crate) fn kill(&mut self, pid: Pid, exit: Exit, watch: &mut impl Watch) {
        self.strike(pid);
        let Some(process) = self.processes.remove(&pid) else {
            return;
        };
        match process.role {
            Role::Main => self.feed(Event::Exited { pid, exit }, watch),
            Role::Leftover => self.answer_sweep(process.service, watch),
            Role::Errand(errand, _) => {
                let report = match exit {
                    Exit::Code(0) => Report::Success,
                    Exit::Code(_) | Exit::Signal(_) | Exit::OutOfMemory => Report::Ended(exit),
                };
                let service = process.service;
                let event = Event::Returned {
                    service,
                    errand,
                    report,
                };
                self.feed(event, watch);
                self.answer_sweep(service, watch);
            }
            Role::Stray => {}
        }
    }

    fn happen(&mut self, watch: &mut impl Watch) {
        let Some((_, due)) = self.agenda.pop_first() else {
            return;
        };
        match due {
            Due::Signal(service, pid, signal) => {
                self.signals_due -= 1;
                if self.supervisor.service_of(pid) == Some(service) {
                    self.kill_tree(service, pid, signal);
                    self.feed(Event::Signalled { pid }, watch);
                }
            }
            Due::Fork(service) => {
                let event = self.spawn(service);
                self.feed(event, watch);
            }
            Due::Death(pid, exit) => self.kill(pid, exit, watch),
            Due::Exec(pid) => self.exec(pid, watch),
            Due::Ready(pid) => self.feed(Event::Ready { pid }, watch),
            Due::Ping(pid, ms) => {
                // Who is given up pings to nobody.
                if self.supervisor.service_of(pid).is_some() {
                    self.later(ms, Due::Ping(pid, ms));
                }
                self.feed(Event::Ping { pid }, watch);
            }
        }
    }

    pub(crate) fn exec(&mut self, pid: Pid, watch: &mut impl Watch) {
        let Some(process) = self.processes.get(&pid).cloned() else {
            return;
        };
        if process.behaviour.spawning == Spawning::ExecFails {
            self.later(0, Due::Death(pid, Exit::Code(127)));
            let error = SpawnError {
                step: Step::Exec,
                errno: 2,
                item: 0,
            };
            return self.feed(Event::ExecFailed { pid, error }, watch);
        }
        for _ in 0..process.behaviour.leftovers {
            self.fork(process.service, Role::Leftover, process.behaviour);
        }
        if let Some(ms) = process.behaviour.lives_ms {
            self.later(ms, Due::Death(pid, process.behaviour.exit));
        }
        if let Some(ms) = process.behaviour.ready_ms {
            self.later(ms, Due::Ready(pid));
        }
        if let Some(ms) = process.behaviour.ping_ms {
            self.later(ms, Due::Ping(pid, ms));
        }
        self.feed(Event::Started { pid }, watch);
    }

    fn perform(&mut self, action: &Action, events: &mut VecDeque<Event>) {
        match *action {
            Action::Spawn { service } => {
                self.part(service);
                match self.behaviour(service).fork_ms {
                    0 => events.push_back(self.spawn(service)),
                    ms => self.later(ms, Due::Fork(service)),
                }
            }
            Action::KillTree {
                service,
                pid,
                signal,
            } => match self.behaviour(service).signal_ms {
                0 => self.kill_tree(service, pid, signal),
                ms => {
                    self.signals_due += 1;
                    self.later(ms, Due::Signal(service, pid, signal));
                }
            },
            Action::Sweep { service, signal } => self.sweep(service, signal, events),
            Action::Signal { pid, signal } => {
                if signal == Signal::KILL || signal == Signal::TERM {
                    self.signal(pid, signal);
                }
            }
            Action::Errand {
                service,
                errand,
                what,
            } => self.set_out(service, errand, what),
            Action::Recall { service, errand } => {
                let is_it = |process: &Process| {
                    let of = matches!(process.role, Role::Errand(known, _) if known == errand);
                    of && process.service == service
                };
                let found = self.processes.iter().find(|(_, process)| is_it(process));
                if let Some(pid) = found.map(|(pid, _)| *pid) {
                    self.forget(pid);
                }
            }
            Action::Halt => self.halted = true,
            Action::Anomaly { what, service } => panic!("{what}: {service:?}"),
            Action::Changed { .. }
            | Action::Refresh { .. }
            | Action::Attend { .. }
            | Action::Health { .. }
            | Action::Sequel { .. }
            | Action::CriticalFailed { .. }
            | Action::Removed { .. }
            | Action::Reply { .. } => {}
        }
    }

    /// An errand is recalled: it dies, and nobody is told.
    fn forget(&mut self, pid: Pid) {
        self.strike(pid);
        self.processes.remove(&pid);
    }

    /// Nothing is due of this process any more.
    fn strike(&mut self, pid: Pid) {
        self.agenda.retain(|_, due| match due {
            Due::Exec(of) | Due::Death(of, _) | Due::Ready(of) | Due::Ping(of, _) => *of != pid,
            Due::Fork(_) | Due::Signal(..) => true,
        });
    }

    fn behaviour(&self, service: ServiceId) -> Behaviour {
        let name = self.name(service).expect("nothing is done for nobody");
        self.behaviours.get(name).copied().unwrap_or_default()
    }

    fn kill_tree(&mut self, service: ServiceId, pid: Pid, signal: Signal) {
        let all = self.sweeps_tree(service);
        let members = self.members(service);
        members
            .into_iter()
            .filter(|member| *member == pid || all)
            .for_each(|member| self.signal(member, signal));
    }

    fn set_out(&mut self, service: ServiceId, errand: ErrandId, what: Errand) {
        self.last_errands.insert(service, errand);
        let behaviour = self.behaviour(service);
        let (takes, succeeds) = match what {
            Errand::Probe => (behaviour.probe_ms, behaviour.is_well),
            Errand::Hook(_) => (behaviour.hook_ms, behaviour.hook_succeeds),
        };
        let pid = self.fork(service, Role::Errand(errand, what), behaviour);
        if let Some(ms) = takes {
            let exit = Exit::Code(i32::from(!succeeds));
            self.later(ms, Due::Death(pid, exit));
        }
        if what == Errand::Hook(Hook::Stop) && behaviour.hook_stops {
            let found = self.supervisor.service(service);
            let main = found.and_then(|found| found.state().pid());
            main.into_iter()
                .for_each(|main| self.later(1, Due::Death(main, Exit::Code(0))));
        }
    }

    /// What an earlier run could not be killed with is not waited for any more.
    fn part(&mut self, service: ServiceId) {
        self.sweeps.retain(|of| *of != service);
        for process in self.processes.values_mut() {
            if process.service == service {
                process.role = Role::Stray;
            }
        }
    }

    fn spawn(&mut self, service: ServiceId) -> Event {
        let behaviour = self.behaviour(service);
        let error = SpawnError {
            step: Step::Fork,
            errno: 11,
            item: 0,
        };
        let failed = |scarce| Event::ForkFailed {
            service,
            error,
            scarce,
        };
        match behaviour.spawning {
            Spawning::ForkFails => return failed(false),
            Spawning::ScarceUntil(end) if self.now < end => return failed(true),
            Spawning::ObstructedUntil(end) if self.now < end => {
                return Event::Obstructed { service };
            }
            Spawning::Works
            | Spawning::ScarceUntil(_)
            | Spawning::ObstructedUntil(_)
            | Spawning::ExecFails
            | Spawning::HangsInExec => {}
        }
        let pid = self.fork(service, Role::Main, behaviour);
        if behaviour.spawning != Spawning::HangsInExec {
            self.later(behaviour.exec_ms, Due::Exec(pid));
        }
        Event::Forked { service, pid }
    }

    fn fork(&mut self, service: ServiceId, role: Role, behaviour: Behaviour) -> Pid {
        let pid = self.free_pid();
        self.processes.insert(
            pid,
            Process {
                service,
                role,
                behaviour,
                killed: false,
            },
        );
        pid
    }

    fn free_pid(&mut self) -> Pid {
        let number = |number| Pid::new(number).expect("pids are positive");
        if self.nature.reuses_pids {
            let mut all = (FIRST_PID + 1..).map(number);
            let free = all.find(|pid| !self.processes.contains_key(pid));
            return free.expect("numbers do not end");
        }
        self.last_pid += 1;
        number(self.last_pid)
    }

    fn signal(&mut self, pid: Pid, signal: Signal) {
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        let obeys_ms = match process.role {
            Role::Main => process.behaviour.obeys_ms,
            Role::Errand(..) => Some(1),
            Role::Leftover | Role::Stray => process.behaviour.leftovers_obey_ms,
        };
        let ends_ms = if signal == Signal::KILL {
            process.behaviour.dies_ms.filter(|_| !process.killed)
        } else {
            obeys_ms
        };
        process.killed |= signal == Signal::KILL;
        if let Some(ms) = ends_ms {
            self.later(ms, Due::Death(pid, Exit::Signal(signal.number())));
        }
    }

    fn sweep(&mut self, service: ServiceId, signal: Signal, events: &mut VecDeque<Event>) {
        let left = self.members(service);
        let swept = self.sweeps_tree(service);
        for pid in &left {
            if swept {
                self.signal(*pid, signal);
            } else if let Some(process) = self.processes.get_mut(pid) {
                process.role = Role::Stray;
            }
        }
        if left.is_empty() || !swept {
            events.push_back(Event::Cleared { service });
        } else if !self.sweeps.contains(&service) {
            self.sweeps.push(service);
        }
    }

    fn answer_sweep(&mut self, service: ServiceId, watch: &mut impl Watch) {
        if self.members(service).is_empty() && self.sweeps.contains(&service) {
            self.sweeps.retain(|of| *of != service);
            self.feed(Event::Cleared { service }, watch);
        }
    }

    /// Does a stop of this service concern all of its processes?
    fn sweeps_tree(&self, service: ServiceId) -> bool {
        self.supervisor.service(service).is_some_and(|service| {
            match service.spec().lifecycle.kill_mode {
                KillMode::Tree => true,
                KillMode::Group | KillMode::Main => false,
            }
        })
    }

    /// The processes of a service, strays excepted.
    pub(crate) fn members(&self, service: ServiceId) -> Vec<Pid> {
        self.processes
            .iter()
            .filter(|(_, process)| process.service == service && process.role != Role::Stray)
            .map(|(pid, _)| *pid)
            .collect()
    }

    /// Those of them that are not out on an errand.
    #[allow(dead_code, reason = "for histories")]
    pub(crate) fn mains(&self, service: ServiceId) -> Vec<Pid> {
        let is_errand = |pid: &Pid| matches!(self.processes[pid].role, Role::Errand(..));
        let mut members = self.members(service);
        members.retain(|pid| !is_errand(pid));
        members
    }

    fn later(&mut self, ms: u64, due: Due) {
        self.last_number += 1;
        let at = self.now + Duration::from_millis(ms);
        self.agenda.insert((at, self.last_number), due);
    }
}
