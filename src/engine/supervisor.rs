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

use super::graph::Graph;
use super::restart::scatter;
use super::service::{Misfit, Service};
use super::state::{Failure, Force, State, Want};
use super::table::Table;
use super::timer::TimerWheel;
use super::waiter::Waiters;
use super::{Action, Event, Pid, ServiceId, Spec, Time};

/// The services and everything between them.
#[derive(Clone, Debug, Default)]
pub struct Supervisor {
    pub(super) slots: Vec<Slot>,
    pub(super) free: Vec<u32>,
    pub(super) graph: Graph,
    pub(super) timers: TimerWheel,
    pub(super) pids: BTreeMap<Pid, ServiceId>,
    pub(super) ports: BTreeMap<u16, Port>,
    pub(super) waiters: Waiters,
    /// Whose neighbourhood changed since it was last stepped.
    pub(super) dirty: VecDeque<ServiceId>,
    /// Who could do better, once all dirty ones have stepped.
    pub(super) hopeful: VecDeque<ServiceId>,
    /// Who changed since waiters were last told.
    pub(super) noted: Vec<ServiceId>,
    /// Who waits for something outside; looked at again when a service stops.
    pub(super) obstructed: BTreeSet<ServiceId>,
    pub(super) active: usize,
    pub(super) phase: Phase,
    /// While everything is being stopped: how many stops in a row are left from this one on.
    pub(super) depths: Table<u32>,
    /// Who is to be started because another has ended.
    pub(super) sequels: Vec<Rc<str>>,
    /// Spreads restarts; 0: not at all.
    pub(super) salt: u64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Slot {
    pub(super) generation: u32,
    pub(super) service: Option<Service>,
    pub(super) queued: bool,
}

/// Who declares a port, and who of them is up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) members: BTreeSet<ServiceId>,
    pub(super) holders: BTreeSet<ServiceId>,
}

/// Is everything being stopped?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// No.
    #[default]
    Serving,
    /// Yes.
    Closing {
        /// How hard.
        force: Force,
        /// When the last one should be down, if that matters.
        deadline: Option<Time>,
        /// Some stay up.
        spare: bool,
    },
    /// It is over.
    Halted,
}

/// What a timer is for.
pub(super) enum Key {
    Service(usize),
    Waiter(usize),
    Care(usize),
}

impl Key {
    /// All kinds take turns in the wheel's flat array.
    pub(super) fn place(self) -> usize {
        match self {
            Self::Service(index) => index * 3,
            Self::Waiter(slot) => slot * 3 + 1,
            Self::Care(index) => index * 3 + 2,
        }
    }

    pub(super) fn of(place: usize) -> Self {
        let kinds = [Self::Service, Self::Waiter, Self::Care];
        kinds[place % kinds.len()](place / kinds.len())
    }
}

// Reading.
impl Supervisor {
    /// No services yet. The salt, unless it is 0, spreads restarts by a tenth.
    #[must_use]
    pub fn salted(salt: u64) -> Self {
        Self {
            salt,
            ..Self::default()
        }
    }

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
            Event::Started { pid } => self.fact_of(pid, out, |s, id, out| s.started(now, id, out)),
            Event::Ready { pid } => self.said(pid, out, |s, id, out| s.says_ready(now, id, out)),
            Event::Extend { pid, by } => {
                let service = self.service_of(pid);
                self.said(pid, out, |s, _, _| s.extend(now, by));
                service.inspect(|id| self.bound(now, *id, out));
            }
            Event::Signalled { pid } => {
                let service = self.service_of(pid);
                self.said(pid, out, |s, _, _| s.signalled(now));
                service.inspect(|id| self.bound(now, *id, out));
            }
            Event::Ping { pid } => self.said(pid, out, |s, _, _| s.heard(now)),
            Event::Watch { pid, within } => self.said(pid, out, |s, _, _| s.watch(now, within)),
            Event::Trouble { pid } => {
                let service = self.service_of(pid);
                self.said(pid, out, |s, id, out| {
                    s.fall(now, Failure::Trouble, id, out);
                });
                if let Some(id) = service {
                    self.hurry(now, id, out);
                    self.bound(now, id, out);
                }
            }
            Event::Handover { pid, to } => {
                if self.service_of(to).is_none() {
                    self.said(pid, out, |s, _, _| s.handover(to));
                }
            }
            Event::Returned {
                service,
                errand,
                report,
            } => {
                self.change(service, out, |s, out| {
                    s.returned(now, errand, report, service, out);
                });
                self.hurry(now, service, out);
                self.bound(now, service, out);
            }
            Event::ExecFailed { pid, error } => {
                self.fact_of(pid, out, |s, _, _| s.exec_failed(now, error));
            }
            Event::Exited { pid, exit } => {
                let service = self.service_of(pid);
                self.fact_of(pid, out, |s, id, out| s.exited(now, exit, id, out));
                if let Some(id) = service {
                    self.hurry(now, id, out);
                    self.bound(now, id, out);
                }
            }
            Event::Cleared { service } => {
                self.fact(service, out, |s, out| s.cleared(now, service, out));
                self.hurry(now, service, out);
                self.bound(now, service, out);
            }
            Event::Called { service } => self.called(service, out),
            Event::Deadline => self.deadline(now, out),
        }
        self.settle(now, out);
        self.answer_waiters(out);
        self.halt_if_done(out);
        if cfg!(debug_assertions) {
            self.check_cheap();
        }
    }

    pub(super) fn fact(
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

    /// A program says something of itself. Whether that means anything is for its state to say.
    fn said(
        &mut self,
        pid: Pid,
        out: &mut Vec<Action>,
        push: impl FnOnce(&mut Service, ServiceId, &mut Vec<Action>),
    ) {
        if let Some(id) = self.service_of(pid) {
            self.change(id, out, |service, out| push(service, id, out));
        }
    }

    /// Starts who is to be started because another has ended, if it is down or done; who has failed
    /// itself is not, or two that name each other would fail without end. False if nobody is left.
    pub(super) fn start_sequel(&mut self, out: &mut Vec<Action>) -> bool {
        let name = self.sequels.pop();
        if let Some(name) = &name {
            let may = |id: &ServiceId| {
                let found = self.service(*id);
                found.is_some_and(|found| match found.state {
                    State::Failed { .. } => false,
                    State::Exited { .. } => true,
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
                    | State::Backoff { .. } => matches!(found.want, Want::Down | Want::Call),
                })
            };
            let found = self.find(name).filter(may);
            if let Some(id) = found.filter(|_| !self.is_closing()) {
                self.start(&[id], true, true, out);
            }
        }
        name.is_some()
    }

    /// Somebody connects to a service. One that was stopped, or is on its way, is not started.
    fn called(&mut self, id: ServiceId, out: &mut Vec<Action>) {
        let awaits = self.service(id).is_some_and(Service::awaits_call);
        if awaits && !self.is_closing() {
            self.start(&[id], true, true, out);
        }
    }

    fn deadline(&mut self, now: Time, out: &mut Vec<Action>) {
        let mut due = Vec::new();
        self.timers.take_due(now, &mut due);
        for key in due {
            match Key::of(key) {
                Key::Waiter(slot) => self.waiters.timed_out(slot, out),
                Key::Care(index) => {
                    let Some(id) = self.id_at(index) else {
                        continue;
                    };
                    self.change(id, out, |service, out| service.care_due(now, id, out));
                    self.hurry(now, id, out);
                    self.bound(now, id, out);
                }
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
                        self.hurry(now, id, out);
                        self.bound(now, id, out);
                    }
                }
            }
        }
    }

    fn halt_if_done(&mut self, out: &mut Vec<Action>) {
        match self.phase {
            Phase::Closing { spare, .. } if self.active == 0 || (spare && self.all_spared()) => {
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

// Coming and going.
impl Supervisor {
    pub(super) fn insert(&mut self, spec: &Rc<Spec>) -> ServiceId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).expect("services are bounded far below 2^32")
        });
        let slot = &self.slots[index as usize];
        let id = ServiceId {
            index,
            generation: slot.generation,
        };
        let salt = self.salt_of(index);
        self.slots[index as usize].service = Some(Service::new(Rc::clone(spec), salt));
        self.place(id, spec);
        id
    }

    /// What spreads the restarts of the service in this place.
    pub(super) fn salt_of(&self, index: u32) -> u64 {
        match self.salt {
            0 => 0,
            salt => scatter(salt ^ u64::from(index)),
        }
    }

    /// There is nothing to settle and nobody to be told, whatever was noted.
    pub(super) fn forget_dirty(&mut self) {
        self.dirty.clear();
        self.noted.clear();
        for slot in &mut self.slots {
            slot.queued = false;
        }
    }

    /// Gives a service a new spec; what runs goes on.
    pub(super) fn replace(
        &mut self,
        now: Time,
        id: ServiceId,
        spec: &Rc<Spec>,
        out: &mut Vec<Action>,
    ) {
        self.claim_ports(id, false);
        let face = self.service(id).map(Service::face);
        self.spread(id, face, None);
        let mut is_other_care = false;
        if let Some(service) = self.service_mut(id) {
            let awaited = service.awaits_call();
            let before = std::mem::replace(&mut service.spec, Rc::clone(spec));
            let awaits = service.awaits_call();
            if awaits != awaited {
                out.push(Action::Attend {
                    service: id,
                    awaits,
                });
            }
            let cares = |spec: &Spec| (spec.health.clone(), spec.watchdog, spec.readiness.clone());
            is_other_care = cares(&before) != cares(spec);
        }
        self.place(id, spec);
        // It may be up by that, which is for its neighbours to see.
        if is_other_care {
            self.change(id, out, |service, out| service.care_changes(now, id, out));
        }
    }

    /// Links a service to the others, and shows it to them.
    pub(super) fn place(&mut self, id: ServiceId, spec: &Spec) {
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

    /// After `placed` got new links: whoever is in another cycle now, or in none, may step, and so
    /// may those it requires or follows, which do not wait for members of their own cycle.
    pub(super) fn find_cycles(&mut self, placed: &[ServiceId]) {
        for id in self.graph.find_cycles(placed) {
            self.queue(id);
            let links: Vec<_> = self
                .graph
                .links(id)
                .iter()
                .filter_map(|link| link.to)
                .collect();
            links.into_iter().for_each(|other| self.queue(other));
        }
    }

    /// Forgets a service that is down, wanted gone, and needed by nobody who is up.
    pub(super) fn remove(&mut self, id: ServiceId, out: &mut Vec<Action>) {
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

    pub(super) fn claim_ports(&mut self, id: ServiceId, claim: bool) {
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
    pub(super) fn port_freed(&mut self, port: u16) {
        let entry = self.ports.get(&port).filter(|port| port.holders.is_empty());
        let members: Vec<_> =
            entry.map_or(Vec::new(), |port| port.members.iter().copied().collect());
        members.into_iter().for_each(|member| self.queue(member));
    }
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
            assert_eq!(
                self.timers.deadline(Key::Care(id.index()).place()),
                service.care.deadline(),
                "second timer of {service:?}"
            );
            pids.extend(service.state.pid().map(|pid| (pid, id)));
            active += usize::from(service.state.is_active());
            let waits_outside = service.state.is_obstructed();
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
