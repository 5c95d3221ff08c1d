//! All that the engine remembers, as plain data: one that is made from it goes on just as the first.
//!
//! Only what does not follow from the rest is kept. Links, timers, tallies and indices are made
//! anew, by the same functions that made them the first time.

use std::rc::Rc;

use super::care::Care;
use super::restart::Restarts;
use super::service::Service;
use super::state::{State, Want};
use super::supervisor::{Key, Phase, Slot, Supervisor};
use super::waiter::{Goal, Verdict};
use super::{ErrandId, ServiceId, Spec, Ticket, Time};

/// What an engine remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Spreads restarts; 0: not at all.
    pub salt: u64,
    /// Is everything being stopped?
    pub phase: Phase,
    /// While it is: how many stops in a row are left from each service on.
    pub depths: Vec<(ServiceId, u32)>,
    /// Ids that come next, the last one first.
    pub free: Vec<ServiceId>,
    /// The services.
    pub services: Vec<Kept>,
    /// Who waits.
    pub waiting: Vec<Waiting>,
}

/// What is remembered of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The service.
    pub id: ServiceId,
    /// As it is meant.
    pub spec: Rc<Spec>,
    /// As it is.
    pub state: State,
    /// As it should be.
    pub want: Want,
    /// Its restarts in a row.
    pub restarts: Restarts,
    /// The hook its state waits for.
    pub hook: Option<ErrandId>,
    /// The number of its last errand.
    pub last_errand: u32,
    /// How it was cared for in this run.
    pub care: Care,
}

/// Somebody who waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The place among those who wait.
    pub slot: usize,
    /// Who.
    pub ticket: Ticket,
    /// For what.
    pub goal: Goal,
    /// Until when, if that matters.
    pub until: Option<Time>,
    /// Those for which it is not decided.
    pub pending: Vec<ServiceId>,
    /// Those for which it did not come about.
    pub failed: Vec<(ServiceId, Verdict)>,
    /// The names of a bulk command.
    pub bulk: Option<Vec<Rc<str>>>,
}

impl Supervisor {
    /// What it remembers. Between two events, that is all there is.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let at = |index: &u32| ServiceId {
            index: *index,
            generation: self.slots[*index as usize].generation,
        };
        let indices = (0..).zip(&self.slots);
        let services = indices.filter_map(|(index, slot)| {
            let service = slot.service.as_ref()?;
            Some(Kept {
                id: at(&index),
                spec: Rc::clone(&service.spec),
                state: service.state,
                want: service.want,
                restarts: service.restarts,
                hook: service.hook,
                last_errand: service.last_errand,
                care: service.care,
            })
        });
        Snapshot {
            salt: self.salt,
            phase: self.phase,
            depths: self.depths.iter().map(|(id, depth)| (id, *depth)).collect(),
            free: self.free.iter().map(at).collect(),
            services: services.collect(),
            waiting: self
                .waiters
                .waiting(|slot| self.timers.deadline(Key::Waiter(slot).place())),
        }
    }

    /// One that remembers all that.
    #[must_use]
    pub fn restored(snapshot: &Snapshot) -> Self {
        let mut all = Self {
            salt: snapshot.salt,
            phase: snapshot.phase,
            ..Self::default()
        };
        for (id, depth) in &snapshot.depths {
            all.depths.insert(*id, *depth);
        }
        for id in &snapshot.free {
            all.slot_of(*id).generation = id.generation;
            all.free.push(id.index);
        }
        for kept in &snapshot.services {
            let salt = all.salt_of(kept.id.index);
            let service = Service {
                state: kept.state,
                want: kept.want,
                restarts: kept.restarts,
                hook: kept.hook,
                last_errand: kept.last_errand,
                care: kept.care,
                ..Service::new(Rc::clone(&kept.spec), salt)
            };
            let slot = all.slot_of(kept.id);
            slot.generation = kept.id.generation;
            slot.service = Some(service);
        }
        for kept in &snapshot.services {
            all.recover(kept);
        }
        let ids: Vec<_> = snapshot.services.iter().map(|kept| kept.id).collect();
        all.find_cycles(&ids);
        for waiting in &snapshot.waiting {
            let key = Key::Waiter(waiting.slot);
            all.timers.set(key.place(), waiting.until);
            all.waiters.put(waiting);
        }
        // They were at rest, so there is nothing to settle.
        all.forget_dirty();
        all
    }

    fn slot_of(&mut self, id: ServiceId) -> &mut Slot {
        if self.slots.len() <= id.index() {
            self.slots.resize_with(id.index() + 1, Slot::default);
        }
        &mut self.slots[id.index()]
    }

    /// What follows from a service's memory.
    fn recover(&mut self, kept: &Kept) {
        let id = kept.id;
        self.place(id, &kept.spec);
        self.timers
            .set(Key::Service(id.index()).place(), kept.state.deadline());
        self.timers
            .set(Key::Care(id.index()).place(), kept.care.deadline());
        self.pids.extend(kept.state.pid().map(|pid| (pid, id)));
        self.obstructed
            .extend(Some(id).filter(|_| kept.state.is_obstructed()));
        self.active += usize::from(kept.state.is_active());
    }
}
