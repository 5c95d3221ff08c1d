//! The one place where a state changes, and what follows from it until nothing moves.

use std::rc::Rc;

use super::gate::{Face, Gate, Tally};
use super::graph::LinkKind;
use super::service::Service;
use super::spec::Follow;
use super::state::{End, Force, Hold, State, Want};
use super::supervisor::{Key, Phase, Supervisor};
use super::{Action, ServiceId, Time};

/// Steps one settling may take for each service and link before it is a bug: each service moves
/// a handful of times, and each move concerns each of its links once.
const STEPS_PER_PLACE: usize = 64;

impl Supervisor {
    pub(super) fn change(
        &mut self,
        id: ServiceId,
        out: &mut Vec<Action>,
        f: impl FnOnce(&mut Service, &mut Vec<Action>),
    ) {
        let Some(service) = self.service_mut(id) else {
            return;
        };
        let (from, want, before) = (service.state, service.want, service.face());
        let care = service.care;
        let awaited = service.awaits_call();
        // The announcement comes before the deeds that the change brings about.
        let announced = out.len();
        f(service, out);
        let (to, after) = (service.state, service.face());
        if !to.has_program() {
            service.care.end(id, out);
        }
        let (care_before, care, wanted) = (care, service.care, service.want);
        if care_before.deadline() != care.deadline() {
            let key = Key::Care(id.index());
            self.timers.set(key.place(), care.deadline());
        }
        if care_before.refresh != care.refresh {
            self.note(id);
        }
        if (from, want) == (to, wanted) {
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
        let awaits = self.service(id).is_some_and(Service::awaits_call);
        if awaits != awaited {
            out.push(Action::Attend {
                service: id,
                awaits,
            });
        }
        let failed = matches!(to, State::Failed { .. }) && !matches!(from, State::Failed { .. });
        if failed && self.phase == Phase::Serving && self.is_critical(id) {
            out.push(Action::CriticalFailed { service: id });
        }
        if self.phase == Phase::Serving {
            self.follow(id, from, to, out);
        }
        self.timers
            .set(Key::Service(id.index()).place(), to.deadline());
        if from.pid() != to.pid() {
            from.pid().map(|pid| self.pids.remove(&pid));
            to.pid().map(|pid| self.pids.insert(pid, id));
        }
        if to.is_obstructed() {
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
        let had_process = from != State::Forking && !to.is_obstructed();
        if from.is_active() && had_process && !to.is_active() {
            let look_again: fn(&mut Service, &mut Vec<Action>) = |service, _| service.look_again();
            for other in std::mem::take(&mut self.obstructed) {
                self.change(other, out, look_again);
            }
        }
    }

    /// What its spec says is to follow when it has ended for good.
    fn follow(&mut self, id: ServiceId, from: State, to: State, out: &mut Vec<Action>) {
        let Some(service) = self.service(id).filter(|service| service.want == Want::Up) else {
            return;
        };
        let sequel = &service.spec.sequel;
        let was_over = matches!(from, State::Failed { .. } | State::Exited { .. });
        let (follow, end) = match to {
            State::Failed { why } if !was_over => (&sequel.on_failure, End::Failure(why)),
            State::Exited { end } if !was_over => (&sequel.on_exit, end),
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
            | State::Backoff { .. }
            | State::Exited { .. }
            | State::Failed { .. } => return,
        };
        match follow.clone() {
            Follow::Nothing => {}
            Follow::Start(name) => self.sequels.push(name),
            follow @ (Follow::Shutdown | Follow::Reboot | Follow::Shell) => {
                let service = id;
                out.push(Action::Sequel {
                    service,
                    follow,
                    end,
                });
            }
        }
    }

    /// Shows a new face to the neighbours; none is that of a name that nothing has. What a service
    /// that comes or goes has to do with itself is not theirs, and not told here.
    pub(super) fn spread(&mut self, id: ServiceId, before: Option<Face>, after: Option<Face>) {
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

    pub(super) fn note(&mut self, id: ServiceId) {
        if self.waiters.concern(id) {
            self.noted.push(id);
        }
    }

    /// Tells waiters what came of it. Only after settling: what a service is held back by on the
    /// way there is not yet true.
    pub(super) fn answer_waiters(&mut self, out: &mut Vec<Action>) {
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

    pub(super) fn dismiss_waiters(&mut self, out: &mut Vec<Action>) {
        let freed = self.waiters.dismiss(out);
        self.disarm(&freed);
    }

    pub(super) fn disarm(&mut self, waiters: &[usize]) {
        for slot in waiters {
            self.timers.set(Key::Waiter(*slot).place(), None);
        }
    }

    pub(super) fn queue(&mut self, id: ServiceId) {
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
    pub(super) fn settle(&mut self, now: Time, out: &mut Vec<Action>) {
        let mut left = STEPS_PER_PLACE * (self.graph.size() + self.dirty.len() + 1);
        while let Some((id, patient)) = self.next_to_step(out) {
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

    /// The next dirty service, or else, when all that follows from an end is decided, the next hopeful
    /// one; and whether it waited its turn.
    fn next_to_step(&mut self, out: &mut Vec<Action>) -> Option<(ServiceId, bool)> {
        while self.dirty.is_empty() && self.start_sequel(out) {}
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

    pub(super) fn may_go(&self, service: &Service) -> bool {
        let resting = matches!(service.state, State::Inactive | State::Exited { .. });
        resting && service.tally.requirers == 0
    }

    pub(super) fn gate(&self, id: ServiceId, service: &Service) -> Gate {
        let tally = service.tally;
        let port_taken = || {
            service
                .spec
                .ports()
                .iter()
                .any(|port| self.port_holder(*port, id).is_some())
        };
        // Its hook is done: it asks once more, as if it were down still.
        let asks = matches!(service.state, State::Preparing { until: None });
        let is_down = !service.state.is_active() || asks;
        let hold = if self.graph.cycle(id).is_some() {
            Some(Hold::Cycle)
        } else if tally.missing > 0 {
            Some(Hold::Missing)
        } else if tally.stuck > 0 {
            Some(Hold::Stuck)
        } else if tally.unmet > 0 || (tally.ahead > 0 && is_down) {
            Some(Hold::Waiting)
        } else if tally.rivals > 0 {
            Some(Hold::Conflict)
        } else if is_down && port_taken() {
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
                Phase::Closing { force, .. } => force,
                Phase::Serving | Phase::Halted => Force::Polite,
            },
            budget: self.budget(id),
        }
    }

    fn is_critical(&self, id: ServiceId) -> bool {
        self.service(id)
            .is_some_and(|service| service.spec.critical)
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
    pub(super) fn count(&self, id: ServiceId) -> Tally {
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

    pub(super) fn service_mut(&mut self, id: ServiceId) -> Option<&mut Service> {
        let slot = self.slots.get_mut(id.index())?;
        slot.service
            .as_mut()
            .filter(|_| slot.generation == id.generation)
    }

    pub(super) fn id_at(&self, index: usize) -> Option<ServiceId> {
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
