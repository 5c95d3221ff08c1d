//! All services together: what happens to one, and what follows for its neighbours.
//!
//! [`Supervisor::handle`] is the only door. It records the fact or the want and then settles: each
//! service whose neighbourhood changed takes the steps its want and its gate allow, bad news first,
//! until nothing moves. Waiters are answered after that, so that what they are told is so.
//! [`Supervisor::change`] is the only place where a state changes; timer, pid index, port claims,
//! neighbours' tallies and waiters all follow from the difference it sees, so nothing has to be
//! armed, cancelled or kept in step by hand.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use super::graph::{Graph, LinkKind};
use super::service::{Face, Force, Gate, Hold, Misfit, Service, State, Tally, Want};
use super::spec::{Class, Status};
use super::table::set;
use super::timer::TimerWheel;
use super::waiter::{Goal, Waiters};
use super::{Action, Command, Event, Outcome, Patience, Pid, ServiceId, Spec, Ticket, Time};

/// Steps one settling may take for each service and link before it is a bug: each service moves
/// a handful of times, and each move concerns each of its links once.
const STEPS_PER_PLACE: usize = 64;

/// The services and everything between them.
#[derive(Clone, Debug, Default)]
pub struct Supervisor {
    slots: Vec<Slot>,
    free: Vec<u32>,
    graph: Graph,
    timers: TimerWheel,
    pids: BTreeMap<Pid, ServiceId>,
    ports: BTreeMap<u16, Port>,
    waiters: Waiters,
    /// Whose neighbourhood changed since it was last stepped.
    dirty: VecDeque<ServiceId>,
    /// Who could do better, once all dirty ones have stepped.
    hopeful: VecDeque<ServiceId>,
    /// Who changed since waiters were last told.
    noted: Vec<ServiceId>,
    /// Who waits for something outside; looked at again when a service stops.
    obstructed: BTreeSet<ServiceId>,
    active: usize,
    phase: Phase,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    generation: u32,
    service: Option<Service>,
    queued: bool,
}

/// Who declares a port, and who of them is up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Port {
    members: BTreeSet<ServiceId>,
    holders: BTreeSet<ServiceId>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Serving,
    Closing {
        force: Force,
    },
    Halted,
}

/// What a timer is for.
enum Key {
    Service(usize),
    Waiter(usize),
}

impl Key {
    /// Both kinds share the wheel's flat array, the services at even places.
    fn place(self) -> usize {
        match self {
            Self::Service(index) => index * 2,
            Self::Waiter(slot) => slot * 2 + 1,
        }
    }

    fn of(place: usize) -> Self {
        if place.is_multiple_of(2) {
            Self::Service(place / 2)
        } else {
            Self::Waiter(place / 2)
        }
    }
}

// Reading.
impl Supervisor {
    /// Who has this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<ServiceId> {
        self.graph.find(name)
    }

    /// A service, unless the id is stale.
    #[must_use]
    pub fn service(&self, id: ServiceId) -> Option<&Service> {
        let slot = self.slots.get(id.index())?;
        slot.service
            .as_ref()
            .filter(|_| slot.generation == id.generation)
    }

    /// All services, by name.
    pub fn services(&self) -> impl Iterator<Item = (ServiceId, &Service)> {
        self.graph
            .names()
            .filter_map(|(_, id)| Some((id, self.service(id)?)))
    }

    /// The links between them.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The service whose main process this is.
    #[must_use]
    pub fn service_of(&self, pid: Pid) -> Option<ServiceId> {
        self.pids.get(&pid).copied()
    }

    /// Another service that is up and declares this port too.
    #[must_use]
    pub fn port_holder(&self, port: u16, than: ServiceId) -> Option<ServiceId> {
        let mut holders = self.ports.get(&port)?.holders.iter().copied();
        holders.find(|id| *id != than)
    }

    /// Is everything being stopped?
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.phase != Phase::Serving
    }

    /// When [`Event::Deadline`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.timers.next()
    }
}

// The door.
impl Supervisor {
    /// Takes in what happened; pushes what is to be done about it.
    pub fn handle(&mut self, now: Time, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Command {
                ticket,
                patience,
                command,
            } => self.command(now, ticket, patience, command, out),
            Event::HungUp { ticket } => {
                if let Some(slot) = self.waiters.forget(ticket) {
                    self.timers.set(Key::Waiter(slot).place(), None);
                }
            }
            Event::Forked { service, pid } => self.fact(service, out, |s, _| s.forked(now, pid)),
            Event::ForkFailed {
                service,
                error,
                scarce,
            } => {
                self.fact(service, out, |s, _| s.fork_failed(now, error, scarce));
            }
            Event::Obstructed { service } => self.fact(service, out, |s, _| s.obstructed(now)),
            Event::Started { pid } => self.fact_of(pid, out, |s, _, _| s.started(now)),
            Event::ExecFailed { pid, error } => {
                self.fact_of(pid, out, |s, _, _| s.exec_failed(now, error));
            }
            Event::Exited { pid, exit } => {
                let service = self.service_of(pid);
                self.fact_of(pid, out, |s, id, out| s.exited(now, exit, id, out));
                if let Some(id) = service {
                    self.hurry(now, id, out);
                }
            }
            Event::Cleared { service } => self.fact(service, out, |s, _| s.cleared(now)),
            Event::Deadline => self.deadline(now, out),
        }
        self.settle(now, out);
        self.answer_waiters(out);
        self.halt_if_done(out);
        if cfg!(debug_assertions) {
            self.check_cheap();
        }
    }

    fn fact(
        &mut self,
        id: ServiceId,
        out: &mut Vec<Action>,
        push: impl FnOnce(&mut Service, &mut Vec<Action>) -> Result<(), Misfit>,
    ) {
        let mut fits = Ok(());
        self.change(id, out, |service, out| fits = push(service, out));
        if let Err(Misfit(what)) = fits {
            debug_assert!(false, "{what}: {:?}", self.service(id));
            out.push(Action::Anomaly {
                what,
                service: Some(id),
            });
        }
    }

    /// A fact about a process; one that is no main process is an orphan, and no business of ours.
    fn fact_of(
        &mut self,
        pid: Pid,
        out: &mut Vec<Action>,
        push: impl FnOnce(&mut Service, ServiceId, &mut Vec<Action>) -> Result<(), Misfit>,
    ) {
        if let Some(id) = self.service_of(pid) {
            self.fact(id, out, |service, out| push(service, id, out));
        }
    }

    fn deadline(&mut self, now: Time, out: &mut Vec<Action>) {
        let mut due = Vec::new();
        self.timers.take_due(now, &mut due);
        for key in due {
            match Key::of(key) {
                Key::Waiter(slot) => self.waiters.timed_out(slot, out),
                Key::Service(index) => {
                    let Some(id) = self.id_at(index) else {
                        continue;
                    };
                    // What was due before it may have moved this one already.
                    if self
                        .service(id)
                        .and_then(|s| s.state.deadline())
                        .is_some_and(|at| at <= now)
                    {
                        self.fact(id, out, |service, out| {
                            service.deadline_passed(now, id, out)
                        });
                    }
                }
            }
        }
    }

    fn halt_if_done(&mut self, out: &mut Vec<Action>) {
        match self.phase {
            Phase::Closing { .. } if self.active == 0 => {
                self.phase = Phase::Halted;
                self.dismiss_waiters(out);
                out.push(Action::Halt);
            }
            // Nothing can happen any more that anybody could wait for.
            Phase::Halted => self.dismiss_waiters(out),
            Phase::Serving | Phase::Closing { .. } => {}
        }
    }
}

// Commands set wants.
impl Supervisor {
    fn command(
        &mut self,
        now: Time,
        ticket: Option<Ticket>,
        patience: Patience,
        command: Command,
        out: &mut Vec<Action>,
    ) {
        let answer = Answer { ticket, patience };
        let starts = match command {
            Command::Start { .. }
            | Command::Restart { .. }
            | Command::StartAll
            | Command::Put { .. }
            | Command::Reload { .. } => true,
            Command::Stop { .. }
            | Command::Signal { .. }
            | Command::Wait { .. }
            | Command::Remove { .. }
            | Command::StopAll
            | Command::RemoveAll
            | Command::Shutdown => false,
        };
        if starts && self.is_closing() {
            return answer.now(Outcome::ShuttingDown, out);
        }
        match command {
            Command::Start { service, deps } => {
                self.one(service, Goal::Start, answer, out, |all, out| {
                    all.start(&[service], true, deps, out);
                });
            }
            Command::Restart { service } => {
                self.one(service, Goal::Start, answer, out, |all, out| {
                    all.restart(service, out);
                });
            }
            Command::Stop { service } => {
                self.one(service, Goal::Stop, answer, out, |all, out| {
                    all.stop(&[service], out);
                });
            }
            Command::Remove { service } => {
                self.one(service, Goal::Gone, answer, out, |all, out| {
                    let closure = all.requirers_of(&[service]);
                    all.want_all(&closure, Want::Gone, out);
                });
            }
            Command::Wait { service, goal } => self.one(service, goal, answer, out, |_, _| {}),
            Command::Signal { service, signal } => {
                answer.now(self.signal(service, signal, out), out);
            }
            Command::StartAll => {
                let mut all = self.users();
                all.retain(|id| {
                    self.service(*id)
                        .is_some_and(|service| service.spec.status == Status::Start)
                });
                self.start(&all, false, true, out);
                self.bulk(&all, Goal::Start, answer, out);
            }
            Command::StopAll => {
                let all = self.users();
                self.want_all(&all, Want::Down, out);
                self.bulk(&all, Goal::Stop, answer, out);
            }
            Command::RemoveAll => {
                let all = self.users();
                self.want_all(&all, Want::Gone, out);
                self.bulk(&all, Goal::Gone, answer, out);
            }
            Command::Put { spec } => {
                let outcome = self.reload(&[spec], None, out);
                answer.now(outcome, out);
            }
            Command::Reload { specs, keep } => {
                let outcome = self.reload(&specs, Some(&keep), out);
                answer.now(outcome, out);
            }
            Command::Shutdown => {
                self.shutdown(now, out);
                answer.now(Outcome::Done, out);
            }
        }
    }

    /// A command for one service: `act`, and answer when the goal is decided.
    fn one(
        &mut self,
        id: ServiceId,
        goal: Goal,
        answer: Answer,
        out: &mut Vec<Action>,
        act: impl FnOnce(&mut Self, &mut Vec<Action>),
    ) {
        if self.service(id).is_none() {
            return answer.now(Outcome::Unknown, out);
        }
        act(self, out);
        answer.wait(self, goal, &[id], None, out);
    }

    fn bulk(&mut self, ids: &[ServiceId], goal: Goal, answer: Answer, out: &mut Vec<Action>) {
        let names = ids
            .iter()
            .filter_map(|id| Some(Rc::clone(&self.service(*id)?.spec.name)))
            .collect::<Vec<_>>();
        if ids.is_empty() || answer.patience == Patience::None {
            return answer.now(
                Outcome::Bulk {
                    services: names,
                    failed: Vec::new(),
                },
                out,
            );
        }
        answer.wait(self, goal, ids, Some(names), out);
    }

    /// Wants up `roots`, and with `deps` whatever they require and want that is not up already.
    fn start(&mut self, roots: &[ServiceId], explicit: bool, deps: bool, out: &mut Vec<Action>) {
        let mut seen = set(roots.iter().copied());
        let mut queue: VecDeque<ServiceId> = roots.iter().copied().collect();
        let mut position = 0;
        while let Some(id) = queue.pop_front() {
            let root = position < roots.len();
            position += 1;
            let Some(service) = self
                .service(id)
                .filter(|service| service.want != Want::Gone)
            else {
                continue;
            };
            let on_its_way = service.is_on_its_way();
            self.change(id, out, |service, _| service.rouse(root && explicit));
            if deps && !on_its_way {
                let pulls = |kind| matches!(kind, LinkKind::Requires | LinkKind::Wants);
                let links = self.graph.links(id).iter().filter(|link| pulls(link.kind));
                queue.extend(
                    links
                        .filter_map(|link| link.to)
                        .filter(|to| seen.insert(*to)),
                );
            }
        }
    }

    fn stop(&mut self, roots: &[ServiceId], out: &mut Vec<Action>) {
        let closure = self.requirers_of(roots);
        // A target in between comes back by itself when what it requires does.
        let down: Vec<ServiceId> = closure
            .into_iter()
            .filter(|id| {
                roots.contains(id)
                    || self
                        .service(*id)
                        .is_some_and(|service| !service.spec.is_target())
            })
            .collect();
        self.want_all(&down, Want::Down, out);
    }

    fn restart(&mut self, id: ServiceId, out: &mut Vec<Action>) {
        let Some(service) = self.service(id) else {
            return;
        };
        let up = match service.state {
            State::Spawning { .. } | State::Running { .. } | State::Forking => true,
            State::Stopping { .. }
            | State::Clearing { .. }
            | State::Inactive
            | State::Blocked { .. }
            | State::Backoff { .. }
            | State::Exited { .. }
            | State::Failed { .. } => false,
        };
        self.start(&[id], true, true, out);
        if up {
            self.change(id, out, |service, _| service.recycle());
        }
    }

    fn signal(&self, id: ServiceId, signal: super::Signal, out: &mut Vec<Action>) -> Outcome {
        let Some(service) = self.service(id) else {
            return Outcome::Unknown;
        };
        let Some(pid) = service.state.pid() else {
            return Outcome::NotRunning;
        };
        out.push(Action::Signal { pid, signal });
        Outcome::Done
    }

    /// Puts `specs` in place. With `keep`, services that are neither there nor kept go.
    fn reload(
        &mut self,
        specs: &[Rc<Spec>],
        keep: Option<&[Rc<str>]>,
        out: &mut Vec<Action>,
    ) -> Outcome {
        let (mut added, mut changed, mut removed, mut refused) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut starts = Vec::new();
        if let Some(keep) = keep {
            let mut named: BTreeSet<&str> = BTreeSet::new();
            named.extend(specs.iter().map(|spec| &*spec.name));
            named.extend(keep.iter().map(|name| &**name));
            let gone: Vec<_> = self
                .graph
                .names()
                .filter(|(name, _)| !named.contains(&***name))
                .map(|(_, id)| id)
                .collect();
            for id in gone {
                if let Some(service) = self
                    .service(id)
                    .filter(|service| service.want != Want::Gone)
                {
                    removed.push(service.spec.name.clone());
                    self.change(id, out, |service, _| service.want = Want::Gone);
                }
            }
        }
        // First all links, then the changes that build on them.
        let mut placed = Vec::new();
        let mut returned = Vec::new();
        let mut mended = Vec::new();
        for spec in specs {
            let name = spec.name.clone();
            let Some(id) = self.find(&name) else {
                let id = self.insert(spec);
                let required = self.graph.back(id).any(|(kind, other)| {
                    kind == LinkKind::Requires
                        && self
                            .service(other)
                            .is_some_and(|other| other.want == Want::Up)
                });
                starts.extend(Some(id).filter(|_| required || spec.status == Status::Start));
                placed.push(id);
                added.push(name);
                continue;
            };
            let Some(service) = self.service(id) else {
                continue;
            };
            if service.spec.is_target() != spec.is_target() && service.state.is_active() {
                refused.push(name);
                continue;
            }
            match service.want {
                Want::Gone => returned.push(id),
                Want::Up | Want::Cycle | Want::Down if service.spec == *spec => continue,
                Want::Up | Want::Cycle => {
                    let known = Rc::clone(&service.spec);
                    let new = spec
                        .links
                        .requires
                        .iter()
                        .filter(|name| !known.links.requires.contains(name));
                    starts.extend(new.filter_map(|name| self.find(name)));
                    mended.push(id);
                }
                Want::Down => {}
            }
            self.replace(id, spec);
            placed.push(id);
            changed.push(name);
        }
        self.find_cycles(&placed);
        for id in returned {
            self.change(id, out, |service, _| service.want = Want::Down);
            let wanted = self
                .service(id)
                .is_some_and(|service| service.spec.status == Status::Start);
            starts.extend(Some(id).filter(|_| wanted));
        }
        for id in mended {
            self.change(id, out, |service, _| service.mended());
        }
        starts
            .sort_unstable_by_key(|id| self.service(*id).map(|service| service.spec.name.clone()));
        starts.dedup();
        self.start(&starts, false, true, out);
        Outcome::Reloaded {
            added,
            removed,
            changed,
            refused,
        }
    }

    fn shutdown(&mut self, now: Time, out: &mut Vec<Action>) {
        let all: Vec<_> = self.graph.names().map(|(_, id)| id).collect();
        if self.phase == Phase::Serving {
            self.phase = Phase::Closing {
                force: Force::Polite,
            };
            let kept: Vec<_> = all
                .into_iter()
                .filter(|id| self.service(*id).is_some_and(|s| s.want != Want::Gone))
                .collect();
            self.want_all(&kept, Want::Down, out);
            return;
        }
        if self.phase
            != (Phase::Closing {
                force: Force::Polite,
            })
        {
            return;
        }
        self.phase = Phase::Closing { force: Force::Kill };
        for id in all {
            self.hurry(now, id, out);
        }
    }

    /// What was asked politely is killed now, if that is the phase.
    fn hurry(&mut self, now: Time, id: ServiceId, out: &mut Vec<Action>) {
        let polite = self.service(id).is_some_and(|service| match service.state {
            State::Stopping { force, .. } | State::Clearing { force, .. } => force == Force::Polite,
            State::Inactive
            | State::Blocked { .. }
            | State::Forking
            | State::Spawning { .. }
            | State::Running { .. }
            | State::Backoff { .. }
            | State::Exited { .. }
            | State::Failed { .. } => false,
        });
        let hurried = self.phase == (Phase::Closing { force: Force::Kill });
        if polite && hurried {
            self.fact(id, out, |service, out| {
                service.deadline_passed(now, id, out)
            });
        }
    }

    fn want_all(&mut self, ids: &[ServiceId], want: Want, out: &mut Vec<Action>) {
        for id in ids {
            self.change(*id, out, |service, _| {
                if service.want != Want::Gone {
                    service.want = want;
                }
            });
        }
    }

    /// `roots` and all that require them, directly or not.
    fn requirers_of(&self, roots: &[ServiceId]) -> Vec<ServiceId> {
        let mut seen = set(roots.iter().copied());
        let mut closure: Vec<ServiceId> = roots.to_vec();
        let mut next = 0;
        while let Some(id) = closure.get(next).copied() {
            next += 1;
            let back = self
                .graph
                .back(id)
                .filter(|(kind, _)| *kind == LinkKind::Requires);
            closure.extend(
                back.map(|(_, other)| other)
                    .filter(|other| seen.insert(*other)),
            );
        }
        closure
    }

    fn users(&self) -> Vec<ServiceId> {
        let of_user = |(_, service): &(ServiceId, &Service)| service.spec.class == Class::User;
        self.services().filter(of_user).map(|(id, _)| id).collect()
    }
}

/// How a command is answered.
#[derive(Clone, Copy)]
struct Answer {
    ticket: Option<Ticket>,
    patience: Patience,
}

impl Answer {
    fn now(self, outcome: Outcome, out: &mut Vec<Action>) {
        if let Some(ticket) = self.ticket {
            out.push(Action::Reply { ticket, outcome });
        }
    }

    fn wait(
        self,
        all: &mut Supervisor,
        goal: Goal,
        ids: &[ServiceId],
        bulk: Option<Vec<Rc<str>>>,
        out: &mut Vec<Action>,
    ) {
        match (self.ticket, self.patience) {
            (None, _) | (_, Patience::None) => self.now(Outcome::Done, out),
            (Some(ticket), Patience::Until(deadline)) => {
                let slot = all.waiters.add(ticket, goal, ids.iter().copied(), bulk);
                all.timers.set(Key::Waiter(slot).place(), deadline);
                // What is already so is an answer too.
                all.noted.extend(ids);
            }
        }
    }
}

// Coming and going.
impl Supervisor {
    fn insert(&mut self, spec: &Rc<Spec>) -> ServiceId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).expect("services are bounded far below 2^32")
        });
        let slot = &mut self.slots[index as usize];
        slot.service = Some(Service::new(Rc::clone(spec)));
        let id = ServiceId {
            index,
            generation: slot.generation,
        };
        self.place(id, spec);
        id
    }

    /// Gives a service a new spec; what runs goes on.
    fn replace(&mut self, id: ServiceId, spec: &Rc<Spec>) {
        self.claim_ports(id, false);
        let face = self.service(id).map(Service::face);
        self.spread(id, face, None);
        if let Some(service) = self.service_mut(id) {
            service.spec = Rc::clone(spec);
        }
        self.place(id, spec);
    }

    /// Links a service to the others, and shows it to them.
    fn place(&mut self, id: ServiceId, spec: &Spec) {
        self.graph.put(id, spec);
        self.claim_ports(id, true);
        let face = self.service(id).map(Service::face);
        self.spread(id, None, face);
        let tally = self.count(id);
        if let Some(service) = self.service_mut(id) {
            service.tally = tally;
        }
        self.queue(id);
        // It may decide what somebody waits for: a oneshot is up in another sense.
        self.note(id);
    }

    /// After `placed` got new links: whoever is in another cycle now, or in none, may step.
    fn find_cycles(&mut self, placed: &[ServiceId]) {
        for id in self.graph.find_cycles(placed) {
            self.queue(id);
        }
    }

    /// Forgets a service that is down, wanted gone, and needed by nobody who is up.
    fn remove(&mut self, id: ServiceId, out: &mut Vec<Action>) {
        self.claim_ports(id, false);
        let face = self.service(id).map(Service::face);
        self.spread(id, face, None);
        let slot = &mut self.slots[id.index()];
        let Some(service) = slot.service.take() else {
            return;
        };
        slot.generation = slot.generation.wrapping_add(1);
        slot.queued = false;
        self.free.push(id.index);
        self.obstructed.remove(&id);
        let was_cyclic = self.graph.cycle(id).is_some();
        self.graph.remove(id);
        out.push(Action::Removed {
            service: id,
            name: Rc::clone(&service.spec.name),
        });
        let freed = self.waiters.removed(id, out);
        self.disarm(&freed);
        // Taking a service away makes no cycle, and breaks only one that it was in.
        if was_cyclic {
            self.find_cycles(&[]);
        }
    }

    fn claim_ports(&mut self, id: ServiceId, claim: bool) {
        let Some(service) = self.service(id) else {
            return;
        };
        let (spec, holds) = (Rc::clone(&service.spec), service.face().holds);
        for port in spec.ports() {
            let entry = self.ports.entry(*port).or_default();
            if claim {
                entry.members.insert(id);
                entry.holders.extend(Some(id).filter(|_| holds));
            } else {
                entry.members.remove(&id);
                entry.holders.remove(&id);
            }
            if entry.members.is_empty() {
                self.ports.remove(port);
            } else if holds && !claim {
                self.port_freed(*port);
            }
        }
    }

    /// Whoever declares this port may have waited for it.
    fn port_freed(&mut self, port: u16) {
        let entry = self.ports.get(&port).filter(|port| port.holders.is_empty());
        let members: Vec<_> =
            entry.map_or(Vec::new(), |port| port.members.iter().copied().collect());
        members.into_iter().for_each(|member| self.queue(member));
    }
}

// The one place where a state changes, and what follows.
impl Supervisor {
    fn change(
        &mut self,
        id: ServiceId,
        out: &mut Vec<Action>,
        f: impl FnOnce(&mut Service, &mut Vec<Action>),
    ) {
        let Some(service) = self.service_mut(id) else {
            return;
        };
        let (from, want, before) = (service.state, service.want, service.face());
        // The announcement comes before the deeds that the change brings about.
        let announced = out.len();
        f(service, out);
        let (to, after) = (service.state, service.face());
        if (from, want) == (to, service.want) {
            return;
        }
        if std::mem::discriminant(&from) != std::mem::discriminant(&to) {
            out.insert(
                announced,
                Action::Changed {
                    service: id,
                    from,
                    to,
                },
            );
        }
        self.timers
            .set(Key::Service(id.index()).place(), to.deadline());
        if from.pid() != to.pid() {
            from.pid().map(|pid| self.pids.remove(&pid));
            to.pid().map(|pid| self.pids.insert(pid, id));
        }
        if matches!(
            to,
            State::Blocked {
                hold: Hold::Obstructed { .. }
            }
        ) {
            self.obstructed.insert(id);
        } else {
            self.obstructed.remove(&id);
        }
        self.queue(id);
        if before != after {
            self.spread(id, Some(before), Some(after));
        }
        if before.holds != after.holds {
            self.hold_ports(id, after.holds);
        }
        self.active += usize::from(to.is_active());
        self.active -= usize::from(from.is_active());
        self.note(id);
        // What never got a process frees nothing outside either.
        if from.is_active() && from != State::Forking && !to.is_active() {
            let look_again: fn(&mut Service, &mut Vec<Action>) = |service, _| service.look_again();
            for other in std::mem::take(&mut self.obstructed) {
                self.change(other, out, look_again);
            }
        }
    }

    /// Shows a new face to the neighbours; none is that of a name that nothing has. What a service
    /// that comes or goes has to do with itself is not theirs, and not told here.
    fn spread(&mut self, id: ServiceId, before: Option<Face>, after: Option<Face>) {
        let stays = before.is_some() && after.is_some();
        let move_by = |count: &mut u32, shows: fn(Face) -> bool| {
            shift(count, before.is_some_and(shows), after.is_some_and(shows));
        };
        let back = self
            .graph
            .back(id)
            .filter(|(_, other)| stays || *other != id);
        for (kind, other) in back.collect::<Vec<_>>() {
            self.adjust(other, |tally| match kind {
                LinkKind::Requires => {
                    shift(&mut tally.missing, before.is_none(), after.is_none());
                    move_by(&mut tally.unmet, |face| !face.met);
                    move_by(&mut tally.stuck, |face| face.stuck);
                    move_by(&mut tally.lost, |face| face.lost);
                }
                LinkKind::After => move_by(&mut tally.ahead, |face| face.ahead),
                LinkKind::Conflicts => move_by(&mut tally.rivals, |face| face.holds),
                LinkKind::Wants => {}
            });
        }
        let links = self.graph.links(id).iter();
        let links = links.filter_map(|link| Some((link.kind, link.to?)));
        let links = links.filter(|(_, other)| stays || *other != id);
        for (kind, other) in links.collect::<Vec<_>>() {
            self.adjust(other, |tally| match kind {
                LinkKind::Requires => move_by(&mut tally.requirers, |face| face.active),
                LinkKind::After => move_by(&mut tally.followers, |face| face.leaving),
                LinkKind::Conflicts => move_by(&mut tally.rivals, |face| face.holds),
                LinkKind::Wants => {}
            });
        }
    }

    fn hold_ports(&mut self, id: ServiceId, holds: bool) {
        let Some(spec) = self.service(id).map(|service| Rc::clone(&service.spec)) else {
            return;
        };
        for port in spec.ports() {
            let Some(entry) = self.ports.get_mut(port) else {
                continue;
            };
            if holds {
                entry.holders.insert(id);
            } else {
                entry.holders.remove(&id);
                self.port_freed(*port);
            }
        }
    }

    fn adjust(&mut self, id: ServiceId, change: impl FnOnce(&mut Tally)) {
        let Some(service) = self.service_mut(id) else {
            return;
        };
        let before = service.tally;
        change(&mut service.tally);
        if service.tally != before {
            self.queue(id);
        }
    }

    fn note(&mut self, id: ServiceId) {
        if self.waiters.concern(id) {
            self.noted.push(id);
        }
    }

    /// Tells waiters what came of it. Only after settling: what a service is held back by on the
    /// way there is not yet true.
    fn answer_waiters(&mut self, out: &mut Vec<Action>) {
        for id in std::mem::take(&mut self.noted) {
            let slot = &self.slots[id.index()];
            let service = slot.service.as_ref();
            let Some(service) = service.filter(|_| slot.generation == id.generation) else {
                continue;
            };
            let freed = self.waiters.changed(id, service, out);
            self.disarm(&freed);
        }
    }

    fn dismiss_waiters(&mut self, out: &mut Vec<Action>) {
        let freed = self.waiters.dismiss(out);
        self.disarm(&freed);
    }

    fn disarm(&mut self, waiters: &[usize]) {
        for slot in waiters {
            self.timers.set(Key::Waiter(*slot).place(), None);
        }
    }

    fn queue(&mut self, id: ServiceId) {
        let Some(slot) = self.slots.get_mut(id.index()) else {
            return;
        };
        if slot.generation == id.generation && !slot.queued {
            slot.queued = true;
            self.dirty.push_back(id);
        }
    }

    /// Lets every dirty service step until nothing moves. Bad news first: whoever could do better
    /// steps only when nobody has anything worse to say, so that nothing is started on hopes that
    /// the same event has already ended.
    fn settle(&mut self, now: Time, out: &mut Vec<Action>) {
        let mut left = STEPS_PER_PLACE * (self.graph.size() + self.dirty.len() + 1);
        while let Some((id, patient)) = self.next_to_step() {
            let Some(service) = self.service(id) else {
                continue;
            };
            if service.want == Want::Gone && self.may_go(service) {
                self.remove(id, out);
                continue;
            }
            let gate = self.gate(id, service);
            if !patient && service.hopes(gate) {
                self.hopeful.push_back(id);
                continue;
            }
            self.change(id, out, |service, out| service.pull(now, gate, id, out));
            left -= 1;
            if left == 0 {
                // What is left over is taken up with the next event.
                debug_assert!(false, "settling does not end");
                out.push(Action::Anomaly {
                    what: "settling does not end",
                    service: Some(id),
                });
                return;
            }
        }
    }

    /// The next dirty service, or else the next hopeful one, and whether it waited its turn.
    fn next_to_step(&mut self) -> Option<(ServiceId, bool)> {
        let Some(id) = self.dirty.pop_front() else {
            return Some((self.hopeful.pop_front()?, true));
        };
        if let Some(slot) = self.slots.get_mut(id.index())
            && slot.generation == id.generation
        {
            slot.queued = false;
        }
        Some((id, false))
    }

    fn may_go(&self, service: &Service) -> bool {
        let resting = matches!(service.state, State::Inactive | State::Exited { .. });
        resting && service.tally.requirers == 0
    }

    fn gate(&self, id: ServiceId, service: &Service) -> Gate {
        let tally = service.tally;
        let port_taken = || {
            service
                .spec
                .ports()
                .iter()
                .any(|port| self.port_holder(*port, id).is_some())
        };
        let hold = if self.graph.cycle(id).is_some() {
            Some(Hold::Cycle)
        } else if tally.missing > 0 {
            Some(Hold::Missing)
        } else if tally.stuck > 0 {
            Some(Hold::Stuck)
        } else if tally.unmet > 0 || (tally.ahead > 0 && !service.state.is_active()) {
            Some(Hold::Waiting)
        } else if tally.rivals > 0 {
            Some(Hold::Conflict)
        } else if !service.state.is_active() && port_taken() {
            Some(Hold::Port)
        } else {
            None
        };
        Gate {
            hold,
            // A requirement that nobody declares was never there to be lost: it counts when the
            // service is started next, and does not stop what runs.
            lost: tally.lost > 0,
            requirers_idle: self.requirers_idle(id, tally),
            force: match self.phase {
                Phase::Closing { force } => force,
                Phase::Serving | Phase::Halted => Force::Polite,
            },
        }
    }

    fn requirers_idle(&self, id: ServiceId, tally: Tally) -> bool {
        if tally.requirers == 0 && tally.followers == 0 {
            return true;
        }
        // Links may be closed to a cycle while its members run. None of them can be the first to
        // stop then, so they do not wait for each other.
        let Some(own) = self.graph.cycle(id) else {
            return false;
        };
        self.graph.back(id).all(|(kind, other)| {
            let face = self.service(other).map(Service::face).unwrap_or_default();
            let awaited = match kind {
                LinkKind::Requires => face.active,
                LinkKind::After => face.leaving,
                LinkKind::Wants | LinkKind::Conflicts => false,
            };
            !awaited || self.graph.cycle(other) == Some(own)
        })
    }

    /// The tally as the neighbours' faces say.
    fn count(&self, id: ServiceId) -> Tally {
        let mut tally = Tally::default();
        let face = |id: ServiceId| self.service(id).map(Service::face).unwrap_or_default();
        for link in self.graph.links(id) {
            let other = link.to.map(face);
            match (link.kind, other) {
                (LinkKind::Requires, None) => tally.missing += 1,
                (LinkKind::Requires, Some(other)) => {
                    shift(&mut tally.unmet, false, !other.met);
                    shift(&mut tally.stuck, false, other.stuck);
                    shift(&mut tally.lost, false, other.lost);
                }
                (LinkKind::After, Some(other)) => shift(&mut tally.ahead, false, other.ahead),
                (LinkKind::After | LinkKind::Wants | LinkKind::Conflicts, _) => {}
            }
        }
        for rival in self.graph.rivals(id) {
            shift(&mut tally.rivals, false, face(rival).holds);
        }
        for (kind, other) in self.graph.back(id) {
            match kind {
                LinkKind::Requires => shift(&mut tally.requirers, false, face(other).active),
                LinkKind::After => shift(&mut tally.followers, false, face(other).leaving),
                LinkKind::Wants | LinkKind::Conflicts => {}
            }
        }
        tally
    }

    fn service_mut(&mut self, id: ServiceId) -> Option<&mut Service> {
        let slot = self.slots.get_mut(id.index())?;
        slot.service
            .as_mut()
            .filter(|_| slot.generation == id.generation)
    }

    fn id_at(&self, index: usize) -> Option<ServiceId> {
        let slot = self
            .slots
            .get(index)
            .filter(|slot| slot.service.is_some())?;
        Some(ServiceId {
            index: u32::try_from(index).ok()?,
            generation: slot.generation,
        })
    }
}

fn shift(count: &mut u32, before: bool, after: bool) {
    *count = *count + u32::from(after) - u32::from(before);
}

// What always holds between two events.
impl Supervisor {
    /// Panics if something does not hold that always should. For tests and simulation: it looks at
    /// everything.
    ///
    /// # Panics
    /// If the engine has a bug.
    pub fn check(&self) {
        self.check_cheap();
        let mut pids = BTreeMap::new();
        let mut active = 0;
        for (id, service) in self.services() {
            assert_eq!(service.tally, self.count(id), "tally of {service:?}");
            let key = Key::Service(id.index()).place();
            assert_eq!(
                self.timers.deadline(key),
                service.state.deadline(),
                "timer of {service:?}"
            );
            pids.extend(service.state.pid().map(|pid| (pid, id)));
            active += usize::from(service.state.is_active());
            let waits_outside = matches!(
                service.state,
                State::Blocked {
                    hold: Hold::Obstructed { .. }
                }
            );
            assert_eq!(self.obstructed.contains(&id), waits_outside, "{service:?}");
            let mut stepped = service.clone();
            stepped.pull(Time::ZERO, self.gate(id, service), id, &mut Vec::new());
            assert_eq!(
                (stepped.state, stepped.want),
                (service.state, service.want),
                "it can still step: {service:?}"
            );
            assert!(
                !(service.want == Want::Gone && self.may_go(service)),
                "it should be gone: {service:?}"
            );
        }
        assert_eq!(pids, self.pids, "the pid index");
        assert_eq!(active, self.active, "the number of active services");
        for (port, entry) in &self.ports {
            let holders = entry
                .members
                .iter()
                .filter(|id| self.service(**id).is_some_and(|s| s.face().holds));
            assert!(holders.eq(&entry.holders), "holders of port {port}");
        }
    }

    /// Is nobody waiting for an answer, and no timer set? So it is when everything is at rest.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.waiters.is_empty() && self.timers.is_empty() && self.pids.is_empty()
    }

    fn check_cheap(&self) {
        debug_assert!(
            self.dirty.is_empty() && self.hopeful.is_empty(),
            "something is left to settle"
        );
        debug_assert!(
            self.pids.len() <= self.active,
            "more processes than active services"
        );
    }
}
