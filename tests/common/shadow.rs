//! What must never happen, whatever happens: a model of the promises that shares no code with the
//! engine.
//!
//! It knows the processes of the simulated world, what was commanded and what a spec says, and
//! looks at each action as it goes by. Where it asks the engine, it asks for public states only.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use zinit::engine::spec::{Follow, Hook, RestartPolicy};
use zinit::engine::{
    Action, Command, End, Errand, ErrandId, Event, Exit, Failure, Goal, Hold, Outcome, Patience,
    Refresh, Service, ServiceId, Signal, Spec, State, Ticket, Time, Want,
};
use zinit::record::Trace;

use super::world::{Nature, Role, Watch, World};

/// The longest time that a stop may take before it is one by force, in histories at random.
const LONGEST_STOP: Duration = Duration::from_secs(2);

/// The longest time before a signal is sent.
const LATEST_SIGNAL: Duration = Duration::from_millis(300);

/// Then it is given up, after this time.
const KILL_GRACE: Duration = Duration::from_secs(5);

#[derive(Clone, Default)]
pub(crate) struct Shadow {
    /// Writes down all that goes by, if that is asked for.
    pub(crate) trace: Option<Trace>,
    /// Who waits for an answer; a ticket that hung up is not in it any more.
    waiting: BTreeMap<Ticket, Wait>,
    answered: BTreeSet<Ticket>,
    removed: BTreeSet<ServiceId>,
    /// Stopped on request, and nobody asked for it since.
    stopped: BTreeSet<ServiceId>,
    /// Spawned, and not answered yet.
    forking: BTreeSet<ServiceId>,
    /// Its stop hook was run in this run, and no signal sent yet.
    hooked: BTreeSet<ServiceId>,
    /// Told to stop in this run.
    told: BTreeSet<ServiceId>,
    /// Survive the switch of root.
    spared: BTreeSet<ServiceId>,
    /// Could not be killed; what is left of them does not count.
    given_up: BTreeSet<ServiceId>,
    /// This history attempts cycles.
    with_cycles: bool,
    nature: Nature,
    /// The last errand of each service.
    errands: BTreeMap<ServiceId, ErrandId>,
    /// This event may close a cycle and break it up again, so it can't be said who was in one.
    cycles_unclear: bool,
    restarts: BTreeMap<ServiceId, u32>,
    /// Since when it is up; after its end, how long it was.
    started_at: BTreeMap<ServiceId, Time>,
    lived: BTreeMap<ServiceId, Duration>,
    scarce: BTreeSet<ServiceId>,
    /// A connection starts them, as the engine says.
    attended: BTreeSet<ServiceId>,
}

impl Watch for Shadow {
    fn event(&mut self, world: &World, event: &Event) {
        if let Some(trace) = &mut self.trace {
            trace.event(world.now, &world.supervisor, event);
        }
        // With one that goes now a cycle may break up.
        let mut all = world.supervisor.services();
        let goes = |(_, service): (ServiceId, &Service)| service.want() == Want::Gone;
        self.cycles_unclear = self.with_cycles && all.any(goes);
        match event {
            Event::Command {
                ticket,
                patience,
                command,
            } => {
                self.command(world, command);
                let wait = Wait::of(command, *patience);
                self.waiting.extend(ticket.map(|ticket| (ticket, wait)));
            }
            Event::HungUp { ticket } => {
                self.waiting.remove(ticket);
                self.answered.insert(*ticket);
            }
            Event::Forked { service, .. } => {
                self.forking.remove(service);
                self.started_at.remove(service);
            }
            Event::ForkFailed {
                service, scarce, ..
            } => {
                self.forking.remove(service);
                self.scarce.extend(Some(*service).filter(|_| *scarce));
            }
            Event::Obstructed { service } => drop(self.forking.remove(service)),
            Event::Exited { pid, .. } => {
                if let Some(service) = world.supervisor.service_of(*pid) {
                    let started_at = self.started_at.get(&service).copied();
                    let lived = world.now.since(started_at.unwrap_or(world.now));
                    self.lived.insert(service, lived);
                }
            }
            Event::Called { service } => {
                if !self.stopped.contains(service) && !world.supervisor.is_closing() {
                    self.asked_for(world, *service);
                }
            }
            Event::Started { .. }
            | Event::Ready { .. }
            | Event::Extend { .. }
            | Event::Signalled { .. }
            | Event::Ping { .. }
            | Event::Watch { .. }
            | Event::Trouble { .. }
            | Event::Handover { .. }
            | Event::Returned { .. }
            | Event::ExecFailed { .. }
            | Event::Cleared { .. }
            | Event::Deadline => {}
        }
    }

    fn action(&mut self, world: &World, action: &Action) {
        if let Some(trace) = &mut self.trace {
            trace.action(world.now, &world.supervisor, action);
        }
        match action {
            Action::Spawn { service } => self.spawned(world, *service),
            Action::KillTree {
                service, signal, ..
            } => self.killed(world, *service, *signal),
            Action::Changed { service, from, to } => {
                // Who can't be killed was at least tried to be.
                let main = from.pid().and_then(|pid| world.processes.get(&pid));
                let is_given_up = matches!(to, State::Failed { .. });
                let was_killed = main.is_none_or(|main| main.killed);
                assert!(!is_given_up || was_killed, "{service:?} was not killed");
                self.changed(world, *service, *to);
            }
            Action::Sweep { service, .. } => self.known(*service),
            Action::Removed { service, .. } => {
                self.known(*service);
                self.removed.insert(*service);
                self.attended.remove(service);
                let lives = !world.members(*service).is_empty();
                assert!(
                    !lives || self.given_up.contains(service),
                    "{service:?} lives on"
                );
            }
            Action::Reply { ticket, outcome } => self.replied(world, *ticket, outcome),
            Action::Anomaly { what, service } => panic!("{what}: {service:?}"),
            Action::Errand {
                service,
                errand,
                what,
            } => self.set_out(world, *service, *errand, *what),
            Action::Recall { service, .. } | Action::Health { service, .. } => self.known(*service),
            Action::Attend { service, awaits } => {
                self.known(*service);
                let news = if *awaits {
                    self.attended.insert(*service)
                } else {
                    self.attended.remove(service)
                };
                assert!(news, "{service:?} was told twice");
            }
            Action::Signal { .. }
            | Action::Refresh { .. }
            | Action::Sequel { .. }
            | Action::CriticalFailed { .. }
            | Action::Halt => {}
        }
    }

    fn settled(&mut self, world: &World) {
        let mut next: Option<Time> = None;
        for (id, service) in world.supervisor.services() {
            let own = [due_of(service.state()), care_of(service)];
            next = next.into_iter().chain(own.into_iter().flatten()).min();
            let attended = self.attended.contains(&id);
            assert_eq!(attended, is_attended(service), "{service:?}");
            assert!(
                !(attended && self.stopped.contains(&id)),
                "a stop is final: {service:?}"
            );
            if let State::Blocked { hold } = service.state()
                && service.want() == Want::Up
                && !matches!(hold, Hold::Obstructed { .. })
            {
                assert!(
                    self.has_reason_to_wait(world, id, service),
                    "nothing holds back {service:?}"
                );
            }
        }
        let patience = self.waiting.values().filter_map(|wait| wait.until);
        let next = next.into_iter().chain(patience).min();
        let armed = world.supervisor.next_deadline();
        assert_eq!(armed, next, "each deadline is somebody's");
    }
}

/// What an answer is waited for about.
#[derive(Clone, Debug)]
struct Wait {
    goal: Option<Goal>,
    /// When it is to be answered at latest.
    until: Option<Time>,
    service: Option<ServiceId>,
    /// It may be waited for in vain: somebody only looks on.
    looks_on: bool,
}

impl Wait {
    fn of(command: &Command, patience: Patience) -> Self {
        let (goal, service) = match command {
            Command::Start { service, .. } | Command::Restart { service } => {
                (Some(Goal::Start), Some(*service))
            }
            Command::Stop { service } => (Some(Goal::Stop), Some(*service)),
            Command::Remove { service } => (Some(Goal::Gone), Some(*service)),
            Command::Wait { service, goal } => (Some(*goal), Some(*service)),
            Command::Refresh { service } => (Some(Goal::Refresh), Some(*service)),
            Command::Signal { .. }
            | Command::StartAll
            | Command::StopAll
            | Command::RemoveAll
            | Command::Put { .. }
            | Command::Reload { .. }
            | Command::Boot { .. }
            | Command::Shutdown { .. } => (None, None),
        };
        let (goal, until) = match patience {
            Patience::None => (None, None),
            Patience::Until(until) => (goal, until),
        };
        Self {
            goal,
            until,
            service,
            looks_on: matches!(command, Command::Wait { .. }),
        }
    }
}

impl Shadow {
    pub(crate) fn new(nature: Nature) -> Self {
        Self {
            nature,
            ..Self::default()
        }
    }

    fn known(&self, id: ServiceId) {
        assert!(!self.removed.contains(&id), "{id:?} is no more");
    }

    fn replied(&mut self, world: &World, ticket: Ticket, outcome: &Outcome) {
        let wait = self.waiting.remove(&ticket);
        let wait = wait.unwrap_or_else(|| panic!("{ticket:?} does not wait"));
        assert!(self.answered.insert(ticket), "{ticket:?} answered twice");
        if let (Some(goal), Some(id), Outcome::Done) = (wait.goal, wait.service, outcome) {
            assert!(
                self.is_true(world, goal, id),
                "{goal:?} is not so of {id:?}"
            );
        }
        if let Outcome::Bulk { services, failed } = outcome {
            assert!(failed.len() <= services.len(), "more failed than there are");
        }
    }

    /// Is what a client is told so by now?
    fn is_true(&self, world: &World, goal: Goal, id: ServiceId) -> bool {
        let Some(service) = world.supervisor.service(id) else {
            return match goal {
                Goal::Stop | Goal::Stopped | Goal::Gone => self.removed.contains(&id),
                Goal::Start | Goal::Running | Goal::Exited | Goal::Refresh => false,
            };
        };
        let over = match service.state() {
            State::Exited { end } | State::Backoff { end, .. } => Some(end),
            State::Failed { why } => Some(End::Failure(why)),
            State::Inactive
            | State::Blocked { .. }
            | State::Preparing { .. }
            | State::Forking
            | State::Spawning { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Clearing { .. }
            | State::Trailing { .. } => None,
        };
        match goal {
            Goal::Start => is_met(service) || over.is_some_and(End::is_success),
            Goal::Running => is_met(service),
            Goal::Stop | Goal::Stopped => self.given_up.contains(&id) || world.mains(id).is_empty(),
            Goal::Exited => over.is_some(),
            Goal::Refresh => true,
            Goal::Gone => false,
        }
    }

    /// A stop is final until somebody starts the service, or one that brings it along.
    fn command(&mut self, world: &World, command: &Command) {
        match command {
            Command::Put { spec } => self.with_cycles |= may_be_in_cycle(spec),
            Command::Reload { specs, .. } => {
                self.with_cycles |= specs.iter().any(|spec| may_be_in_cycle(spec));
            }
            Command::Start { .. }
            | Command::Stop { .. }
            | Command::Restart { .. }
            | Command::Signal { .. }
            | Command::Refresh { .. }
            | Command::Wait { .. }
            | Command::Remove { .. }
            | Command::StartAll
            | Command::StopAll
            | Command::RemoveAll
            | Command::Boot { .. }
            | Command::Shutdown { .. } => {}
        }
        self.cycles_unclear |= self.with_cycles
            && matches!(
                command,
                Command::Put { .. }
                    | Command::Reload { .. }
                    | Command::Remove { .. }
                    | Command::RemoveAll
            );
        match command {
            Command::Stop { service } => self.stopped.extend(Some(*service)),
            Command::StopAll => {
                let users = world.supervisor.services();
                let of_user = users.filter(|(_, service)| {
                    service.spec().class == zinit::engine::spec::Class::User
                });
                self.stopped.extend(of_user.map(|(id, _)| id));
            }
            Command::Shutdown { spare, .. } => {
                if *spare && !world.supervisor.is_closing() {
                    self.spared = survivors(world);
                }
                let all = world.supervisor.services().map(|(id, _)| id);
                let down = all.filter(|id| !self.spared.contains(id));
                self.stopped.extend(down);
            }
            Command::Start { service, .. } | Command::Restart { service } => {
                if !world.supervisor.is_closing() {
                    self.asked_for(world, *service);
                }
            }
            Command::StartAll
            | Command::Put { .. }
            | Command::Reload { .. }
            | Command::Boot { .. } => {
                if !world.supervisor.is_closing() {
                    self.stopped.clear();
                }
            }
            Command::Signal { .. }
            | Command::Refresh { .. }
            | Command::Wait { .. }
            | Command::Remove { .. }
            | Command::RemoveAll => {}
        }
    }

    fn asked_for(&mut self, world: &World, root: ServiceId) {
        let mut reached = vec![root];
        let mut seen = BTreeSet::from([root]);
        while let Some(id) = reached.pop() {
            self.stopped.remove(&id);
            let Some(service) = world.supervisor.service(id) else {
                continue;
            };
            let links = &service.spec().links;
            let names = links.requires.iter().chain(&links.wants);
            let found = names.filter_map(|name| world.supervisor.find(name));
            reached.extend(found.filter(|id| seen.insert(*id)));
        }
    }

    fn spawned(&mut self, world: &World, id: ServiceId) {
        self.known(id);
        let service = world.supervisor.service(id).expect("a service");
        assert!(!self.stopped.contains(&id), "a stop is final: {service:?}");
        assert!(self.forking.insert(id), "spawned twice: {service:?}");
        assert!(
            self.given_up.remove(&id) || world.mains(id).is_empty(),
            "its last run is not over: {service:?}"
        );
        for name in &service.spec().links.requires {
            let met = world.supervisor.find(name).is_some_and(|other| {
                let other = world.supervisor.service(other).expect("a service");
                is_met(other)
            });
            assert!(met, "{name} is not up: {service:?}");
        }
        for other in self.alive(world).filter(|other| *other != id) {
            let other = world.supervisor.service(other).expect("a service");
            assert!(!are_rivals(service, other), "{service:?} beside {other:?}");
        }
        self.told.remove(&id);
        self.hooked.remove(&id);
    }

    /// Numbers of errands count up; and a probe is for a program that runs and is to go on.
    fn set_out(&mut self, world: &World, id: ServiceId, errand: ErrandId, what: Errand) {
        self.known(id);
        let before = self.errands.insert(id, errand);
        assert!(before.is_none_or(|before| before < errand), "{id:?}");
        let service = world.supervisor.service(id).expect("a service");
        if what == Errand::Hook(Hook::Stop) {
            self.hooked.insert(id);
            self.in_order(world, id, service);
        }
        if what == Errand::Probe {
            let stops = matches!(service.state(), State::Stopping { .. });
            assert!(service.state().has_program() || stops, "{service:?}");
        }
    }

    /// Services with processes, as the world knows.
    fn alive<'a>(&'a self, world: &'a World) -> impl Iterator<Item = ServiceId> + 'a {
        let with_process = world.processes.values().filter_map(|process| {
            let counts = process.role != Role::Stray && !self.given_up.contains(&process.service);
            Some(process.service).filter(|_| counts)
        });
        with_process
            .chain(self.forking.iter().copied())
            .filter(|id| world.supervisor.service(*id).is_some())
    }

    /// Who requires it goes first. What it does to itself (a start that takes too long) is no
    /// stop; and who stops already is not told again but with SIGKILL.
    fn killed(&mut self, world: &World, id: ServiceId, signal: Signal) {
        self.known(id);
        let service = world.supervisor.service(id).expect("a service");
        let by_itself = matches!(
            service.state(),
            State::Stopping {
                failure: Some(_),
                ..
            }
        );
        let is_first = self.told.insert(id);
        assert!(
            is_first || signal == Signal::KILL,
            "told twice: {service:?}"
        );
        // Whose stop hook was run has been told by that; the signal only follows.
        let was_hooked = self.hooked.remove(&id);
        if by_itself || !is_first || was_hooked {
            return;
        }
        self.in_order(world, id, service);
    }

    fn in_order(&self, world: &World, id: ServiceId, service: &Service) {
        let graph = world.supervisor.graph();
        for other_id in self.alive(world).filter(|other| *other != id) {
            let other = world.supervisor.service(other_id).expect("a service");
            let in_cycle = self.cycles_unclear
                || (graph.cycle(id).is_some() && graph.cycle(id) == graph.cycle(other_id));
            let links = &other.spec().links;
            let follows = links.after.contains(&service.spec().name) && !is_wanted(other);
            let needs = links.requires.contains(&service.spec().name) || follows;
            assert!(in_cycle || !needs, "{other:?} goes before {service:?}");
        }
    }

    fn changed(&mut self, world: &World, id: ServiceId, to: State) {
        self.known(id);
        if matches!(to, State::Running { .. }) {
            self.started_at.insert(id, world.now);
        }
        if let (State::Failed { .. }, Some(service)) = (to, world.supervisor.service(id))
            && let Follow::Start(name) = &service.spec().sequel.on_failure
            && let Some(other) = world.supervisor.find(name)
            && !world.supervisor.is_closing()
        {
            self.asked_for(world, other);
        }
        if let State::Failed {
            why: Failure::StopTimeout,
        } = to
        {
            self.given_up.insert(id);
            return;
        }
        let Some(service) = world.supervisor.service(id) else {
            return;
        };
        let scarce = self.scarce.remove(&id);
        let life = service.spec().lifecycle;
        let count = service.restarts().count();
        if service.state() != to {
            // It went on at once, but the restart is counted.
            self.restarts.insert(id, count);
            return;
        }
        let spent = life.max_restarts != 0 && count >= life.max_restarts;
        match to {
            State::Backoff { until, .. } if scarce => {
                assert_eq!(until.since(world.now), Duration::from_secs(1));
            }
            State::Backoff { until, end } => {
                let before = self.restarts.insert(id, count).unwrap_or(0);
                assert!(count == 1 || count == before + 1, "miscounted: {service:?}");
                let by_itself = match end {
                    End::Success(_) => true,
                    End::Failure(Failure::ExitCode(_) | Failure::Signal(_)) => true,
                    End::Failure(_) | End::Asked(_) => false,
                };
                if by_itself && self.lived[&id] >= life.stability_period {
                    assert_eq!(count, 1, "it was stable: {service:?}");
                }
                assert!(may_restart(service, end), "no restart: {service:?}");
                assert!(life.max_restarts == 0 || count <= life.max_restarts);
                let doubled = life.restart_delay * 2u32.saturating_pow(count - 1);
                let delay = doubled.min(life.restart_delay_max);
                let found = until.since(world.now);
                let (least, most) = (delay * 9 / 10, delay * 11 / 10);
                assert!(least <= found && found <= most, "{found:?} of {delay:?}");
                let spread = self.nature.salt != 0;
                assert!(spread || found == delay, "{service:?}");
            }
            State::Failed { why } => {
                let restarts = may_restart(service, End::Failure(why));
                assert!(spent || !restarts, "given up early: {service:?}");
            }
            State::Exited { .. } if service.want() == Want::Up => {
                let restarts = may_restart(service, End::Success(Exit::Code(0)));
                assert!(spent || !restarts, "given up early: {service:?}");
            }
            State::Inactive
            | State::Blocked { .. }
            | State::Preparing { .. }
            | State::Forking
            | State::Spawning { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Clearing { .. }
            | State::Trailing { .. }
            | State::Exited { .. } => {}
        }
    }

    fn has_reason_to_wait(&self, world: &World, id: ServiceId, service: &Service) -> bool {
        let find = |name: &str| {
            let id = world.supervisor.find(name)?;
            world.supervisor.service(id)
        };
        let links = &service.spec().links;
        world.supervisor.graph().cycle(id).is_some()
            || !links
                .requires
                .iter()
                .all(|name| find(name).is_some_and(is_met))
            || links
                .after
                .iter()
                .any(|name| find(name).is_some_and(is_coming))
            || world.supervisor.services().any(|(other_id, other)| {
                let waits = matches!(other.state(), State::Backoff { .. });
                other_id != id && (other.state().is_active() || waits) && are_rivals(service, other)
            })
    }

    /// The world has turned kind, and nothing moves any more: each wish is met, or something that
    /// lasts is against it.
    pub(crate) fn settled_for_good(&self, world: &World) {
        for (id, service) in world.supervisor.services() {
            let wanted = match service.want() {
                Want::Up => true,
                Want::Down | Want::Call => false,
                Want::Cycle | Want::Gone => panic!("it does not come about: {service:?}"),
            };
            match service.state() {
                State::Inactive => assert!(!wanted, "nobody starts {service:?}"),
                State::Running { .. } => assert!(wanted, "nobody stops {service:?}"),
                State::Exited { .. } | State::Failed { .. } => {}
                State::Blocked { .. } => assert!(
                    wanted && self.is_held_back_for_good(world, id, service),
                    "nothing holds back {service:?}"
                ),
                State::Preparing { .. }
                | State::Forking
                | State::Spawning { .. }
                | State::Starting { .. }
                | State::Stopping { .. }
                | State::Clearing { .. }
                | State::Trailing { .. }
                | State::Backoff { .. } => panic!("it does not come to rest: {service:?}"),
            }
        }
        for (ticket, wait) in &self.waiting {
            assert!(wait.looks_on, "{ticket:?} is not answered: {wait:?}");
        }
    }

    fn is_held_back_for_good(&self, world: &World, id: ServiceId, service: &Service) -> bool {
        let find = |name: &str| {
            let id = world.supervisor.find(name)?;
            world.supervisor.service(id)
        };
        let is_unmet = |name: &Rc<str>| !find(name).is_some_and(is_met);
        let mut others = world.supervisor.services();
        leads_to_itself(world, service)
            || service.spec().links.requires.iter().any(is_unmet)
            || others.any(|(other_id, other)| {
                other_id != id && other.state().is_active() && are_rivals(service, other)
            })
    }

    /// Milliseconds after which a shutdown is over, whatever processes do: each of its means has
    /// its time, for one service after another.
    pub(crate) fn longest_shutdown(&self, world: &World) -> u64 {
        let longest = world.supervisor.services().map(|(_, service)| {
            let hooks = &service.spec().hooks;
            let hooks = [&hooks.stop, &hooks.post_stop].into_iter().flatten();
            let hooks: Duration = hooks.map(|hook| hook.timeout).sum();
            // To the main process, to what it left behind, to what the hook left behind. A stop
            // that is under way may still be one by an earlier spec.
            let polite = service.spec().lifecycle.stop_timeout.max(LONGEST_STOP);
            hooks + (polite + KILL_GRACE + LATEST_SIGNAL) * 3
        });
        let longest: Duration = longest.sum();
        let longest = longest + LONGEST_STOP;
        u64::try_from(longest.as_millis()).expect("a time")
    }

    /// Those of its notes on which it depends what may still happen.
    #[allow(dead_code, reason = "for small cases")]
    pub(crate) fn notes(&self) -> [&BTreeSet<ServiceId>; 6] {
        [
            &self.stopped,
            &self.told,
            &self.hooked,
            &self.given_up,
            &self.removed,
            &self.forking,
        ]
    }

    /// Everything is down, and everybody was answered.
    pub(crate) fn finished(&self, world: &World) {
        assert!(world.halted, "it does not halt");
        let left = self.waiting.keys().collect::<Vec<_>>();
        assert!(left.is_empty(), "tickets without an answer: {left:?}");
        if self.spared.is_empty() {
            assert_eq!(world.supervisor.next_deadline(), None);
            assert!(world.supervisor.is_at_rest());
        }
        for (id, service) in world.supervisor.services() {
            let is_down = !service.state().is_active();
            assert!(
                is_down || self.spared.contains(&id),
                "{service:?} is not down"
            );
        }
        for (pid, process) in &world.processes {
            let excused = process.role == Role::Stray
                || self.given_up.contains(&process.service)
                || self.spared.contains(&process.service);
            assert!(excused, "{pid} is left: {process:?}");
        }
    }
}

/// Who survives a switch of root, and what those require.
fn survivors(world: &World) -> BTreeSet<ServiceId> {
    let survives = |service: &Service| {
        service.spec().lifecycle.survive_switch_root && service.want() == Want::Up
    };
    let all = world.supervisor.services();
    let mut reached: Vec<ServiceId> = all
        .filter(|(_, service)| survives(service))
        .map(|(id, _)| id)
        .collect();
    let mut survivors = BTreeSet::new();
    while let Some(id) = reached.pop() {
        if let Some(service) = world.supervisor.service(id)
            && survivors.insert(id)
        {
            let names = service.spec().links.requires.iter();
            reached.extend(names.filter_map(|name| world.supervisor.find(name)));
        }
    }
    survivors
}

/// When a state ends by itself.
fn due_of(state: State) -> Option<Time> {
    match state {
        State::Preparing { until } => until,
        State::Spawning { fail_at, .. } | State::Starting { fail_at, .. } => Some(fail_at),
        State::Stopping { kill_at, .. } | State::Clearing { kill_at, .. } => Some(kill_at),
        State::Trailing { until, .. } | State::Backoff { until, .. } => Some(until),
        State::Blocked {
            hold: Hold::Obstructed { until },
        } => Some(until),
        State::Inactive
        | State::Blocked { .. }
        | State::Forking
        | State::Running { .. }
        | State::Exited { .. }
        | State::Failed { .. } => None,
    }
}

/// When a probe, a ping or a reload is due; only of a program that runs.
fn care_of(service: &Service) -> Option<Time> {
    let care = service.care();
    let reload = match care.refresh {
        Refresh::Under { until, .. } => Some(until),
        Refresh::None | Refresh::Done | Refresh::Failed(_) => None,
    };
    let due = [care.probe_at, care.silent_at, reload];
    let next = due.into_iter().flatten().min();
    let runs = match service.state() {
        State::Starting { .. } => true,
        State::Running { pid, .. } => pid.is_some(),
        State::Inactive
        | State::Blocked { .. }
        | State::Preparing { .. }
        | State::Forking
        | State::Spawning { .. }
        | State::Stopping { .. }
        | State::Clearing { .. }
        | State::Trailing { .. }
        | State::Backoff { .. }
        | State::Exited { .. }
        | State::Failed { .. } => false,
    };
    assert!(runs || next.is_none(), "nobody is cared for: {service:?}");
    next
}

/// In a cycle somebody links to one behind him in the alphabet, or to himself.
fn may_be_in_cycle(spec: &Spec) -> bool {
    let mut links = spec.links.requires.iter().chain(&spec.links.after);
    links.any(|name| *name >= spec.name)
}

/// Does it require or follow itself, by whatever detour?
fn leads_to_itself(world: &World, service: &Service) -> bool {
    let mut seen = BTreeSet::new();
    let mut queue = vec![service];
    while let Some(next) = queue.pop() {
        let links = &next.spec().links;
        for name in links.requires.iter().chain(&links.after) {
            if *name == service.spec().name {
                return true;
            }
            let found = world.supervisor.find(name);
            let found = found.and_then(|id| world.supervisor.service(id));
            if seen.insert(Rc::clone(name)) {
                queue.extend(found);
            }
        }
    }
    false
}

fn is_wanted(service: &Service) -> bool {
    match service.want() {
        Want::Up | Want::Cycle => true,
        Want::Down | Want::Call | Want::Gone => false,
    }
}

/// It rests, and a connection may start it.
fn is_attended(service: &Service) -> bool {
    let rests = matches!(
        service.state(),
        State::Inactive | State::Exited { .. } | State::Failed { .. }
    );
    let may = matches!(service.want(), Want::Up | Want::Call);
    let program = service.spec().program();
    rests && may && program.is_some_and(|program| program.sockets.activation)
}

/// Running, or ended with success.
pub(crate) fn is_met(service: &Service) -> bool {
    let up = match service.state() {
        State::Running { .. } => !service.spec().is_oneshot(),
        State::Exited { end } => end.is_success(),
        State::Inactive
        | State::Blocked { .. }
        | State::Preparing { .. }
        | State::Forking
        | State::Spawning { .. }
        | State::Starting { .. }
        | State::Stopping { .. }
        | State::Clearing { .. }
        | State::Trailing { .. }
        | State::Backoff { .. }
        | State::Failed { .. } => false,
    };
    up && service.want() == Want::Up
}

/// On its way up, so that who follows may wait for it.
fn is_coming(service: &Service) -> bool {
    let coming = match service.state() {
        State::Inactive
        | State::Preparing { .. }
        | State::Forking
        | State::Spawning { .. }
        | State::Starting { .. }
        | State::Stopping { .. }
        | State::Clearing { .. }
        | State::Trailing { .. } => true,
        State::Blocked { hold } => hold == Hold::Waiting,
        State::Running { .. } => service.spec().is_oneshot(),
        State::Backoff { .. } | State::Exited { .. } | State::Failed { .. } => false,
    };
    coming && is_wanted(service)
}

fn are_rivals(one: &Service, two: &Service) -> bool {
    let (one, two) = (one.spec(), two.spec());
    one.links.conflicts.contains(&two.name)
        || two.links.conflicts.contains(&one.name)
        || one.ports().iter().any(|port| two.ports().contains(port))
}

fn may_restart(service: &Service, end: End) -> bool {
    let spec = service.spec();
    match (spec.lifecycle.restart, end) {
        (RestartPolicy::Never, _) | (_, End::Asked(_)) => false,
        (_, End::Failure(_)) => true,
        (RestartPolicy::Always, End::Success(_)) => !spec.is_oneshot(),
        (RestartPolicy::OnFailure, End::Success(_)) => false,
    }
}
