//! Who waits for what: tickets that are answered exactly once.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::care::Refresh;
use super::service::Service;
use super::state::{End, Hold, State, Want};
use super::table::{Table, set};
use super::{Action, Outcome, ServiceId, Ticket, Time, Waiting};

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// A start they asked for: up (a oneshot: done), or it can't be for now.
    Start,
    /// A stop they asked for: it is at rest, or somebody wants it up again.
    Stop,
    /// It is up (a oneshot: done), or has failed for good.
    Running,
    /// It has no process, and no restart is due.
    Stopped,
    /// Its process has ended by itself or as told, whatever comes next.
    Exited,
    /// It is removed, or not to be removed any more.
    Gone,
    /// It has read its configuration anew, or that failed.
    Refresh,
}

/// Why it did not come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its program failed.
    Failed,
    /// It is held back by something that will not pass soon.
    Blocked,
    /// A later command wants the opposite.
    Superseded,
    /// It is no more.
    Removed,
    /// Patience ran out.
    TimedOut,
}

impl Goal {
    /// Is it decided?
    fn decided(self, service: &Service) -> Option<Result<(), Verdict>> {
        let (state, want) = (service.state(), service.want());
        let reached = |yes: bool| yes.then_some(Ok(()));
        match self {
            Self::Start => match want {
                Want::Cycle => None,
                Want::Down | Want::Call | Want::Gone => Some(Err(Verdict::Superseded)),
                Want::Up => match state {
                    State::Running { .. } => reached(!service.spec().is_oneshot()),
                    State::Exited {
                        end: End::Success(_),
                    }
                    | State::Backoff {
                        end: End::Success(_),
                        ..
                    } => Some(Ok(())),
                    State::Exited { .. } | State::Failed { .. } | State::Backoff { .. } => {
                        Some(Err(Verdict::Failed))
                    }
                    State::Blocked {
                        hold: Hold::Waiting,
                    }
                    | State::Inactive
                    | State::Preparing { .. }
                    | State::Forking
                    | State::Spawning { .. }
                    | State::Starting { .. }
                    | State::Stopping { .. }
                    | State::Clearing { .. }
                    | State::Trailing { .. } => None,
                    State::Blocked { .. } => Some(Err(Verdict::Blocked)),
                },
            },
            Self::Stop => match want {
                Want::Up | Want::Cycle => Some(Err(Verdict::Superseded)),
                Want::Down | Want::Call | Want::Gone => match state {
                    State::Failed { .. } => Some(Err(Verdict::Failed)),
                    State::Inactive | State::Exited { .. } => Some(Ok(())),
                    State::Blocked { .. }
                    | State::Preparing { .. }
                    | State::Forking
                    | State::Spawning { .. }
                    | State::Starting { .. }
                    | State::Running { .. }
                    | State::Stopping { .. }
                    | State::Clearing { .. }
                    | State::Trailing { .. }
                    | State::Backoff { .. } => None,
                },
            },
            Self::Running => match state {
                State::Failed { .. } => Some(Err(Verdict::Failed)),
                State::Running { .. }
                | State::Exited { .. }
                | State::Inactive
                | State::Blocked { .. }
                | State::Preparing { .. }
                | State::Forking
                | State::Spawning { .. }
                | State::Starting { .. }
                | State::Stopping { .. }
                | State::Clearing { .. }
                | State::Trailing { .. }
                | State::Backoff { .. } => reached(service.is_met()),
            },
            Self::Stopped => reached(!state.is_active() && !matches!(state, State::Backoff { .. })),
            Self::Exited => reached(matches!(
                state,
                State::Exited { .. } | State::Failed { .. } | State::Backoff { .. }
            )),
            Self::Refresh => match service.care.refresh {
                Refresh::Under { .. } => None,
                Refresh::Done => Some(Ok(())),
                Refresh::None | Refresh::Failed(_) => Some(Err(Verdict::Failed)),
            },
            Self::Gone => (want != Want::Gone).then_some(Err(Verdict::Superseded)),
        }
    }
}

/// Everybody who waits.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiters {
    slots: Vec<Option<Waiter>>,
    by_service: Table<Vec<usize>>,
}

#[derive(Clone, Debug)]
struct Waiter {
    ticket: Ticket,
    goal: Goal,
    pending: BTreeSet<ServiceId>,
    failed: Vec<(ServiceId, Verdict)>,
    /// The names of a bulk command.
    bulk: Option<Vec<Rc<str>>>,
}

impl Waiters {
    /// Takes on a ticket for these services; says under which number its time may run out.
    pub(super) fn add(
        &mut self,
        ticket: Ticket,
        goal: Goal,
        services: impl IntoIterator<Item = ServiceId>,
        bulk: Option<Vec<Rc<str>>>,
    ) -> usize {
        let waiter = Waiter {
            ticket,
            goal,
            pending: set(services),
            failed: Vec::new(),
            bulk,
        };
        let slot = self
            .slots
            .iter()
            .position(Option::is_none)
            .unwrap_or_else(|| {
                self.slots.push(None);
                self.slots.len() - 1
            });
        self.seat(slot, waiter);
        slot
    }

    /// Puts somebody in a free place. Those who wait for the same service stand in the order of
    /// their tickets, so that who waits says all there is to say.
    fn seat(&mut self, slot: usize, waiter: Waiter) {
        for service in &waiter.pending {
            let before = |known: &usize| {
                let known = self.slots[*known].as_ref();
                known.is_some_and(|known| known.ticket < waiter.ticket)
            };
            let slots = self.by_service.or_default(*service);
            slots.insert(slots.partition_point(before), slot);
        }
        self.slots[slot] = Some(waiter);
    }

    /// Everybody, by place; `until` says when the patience of one is over.
    pub(super) fn waiting(&self, until: impl Fn(usize) -> Option<Time>) -> Vec<Waiting> {
        let slots = self.slots.iter().enumerate();
        let waiting = slots.filter_map(|(slot, waiter)| {
            let waiter = waiter.as_ref()?;
            Some(Waiting {
                slot,
                ticket: waiter.ticket,
                goal: waiter.goal,
                until: until(slot),
                pending: waiter.pending.iter().copied().collect(),
                failed: waiter.failed.clone(),
                bulk: waiter.bulk.clone(),
            })
        });
        waiting.collect()
    }

    /// Puts back somebody who waited.
    pub(super) fn put(&mut self, waiting: &Waiting) {
        if self.slots.len() <= waiting.slot {
            self.slots.resize_with(waiting.slot + 1, || None);
        }
        let waiter = Waiter {
            ticket: waiting.ticket,
            goal: waiting.goal,
            pending: set(waiting.pending.iter().copied()),
            failed: waiting.failed.clone(),
            bulk: waiting.bulk.clone(),
        };
        self.seat(waiting.slot, waiter);
    }

    /// A service changed: answers whoever it decides something for. Gives back the slots that are
    /// free now, whose time can't run out any more.
    pub(super) fn changed(
        &mut self,
        id: ServiceId,
        service: &Service,
        out: &mut Vec<Action>,
    ) -> Vec<usize> {
        let Some(slots) = self.by_service.get(id) else {
            return Vec::new();
        };
        let decided: Vec<_> = slots
            .iter()
            .filter_map(|slot| Some((*slot, self.slots[*slot].as_ref()?.goal.decided(service)?)))
            .collect();
        decided
            .into_iter()
            .filter(|(slot, verdict)| self.decide(*slot, id, *verdict, out))
            .map(|(slot, _)| slot)
            .collect()
    }

    /// A service is no more.
    pub(super) fn removed(&mut self, id: ServiceId, out: &mut Vec<Action>) -> Vec<usize> {
        let slots = self.by_service.get(id).cloned().unwrap_or_default();
        let verdict = |goal| match goal {
            Goal::Gone | Goal::Stop | Goal::Stopped => Ok(()),
            Goal::Start | Goal::Running | Goal::Exited | Goal::Refresh => Err(Verdict::Removed),
        };
        slots
            .into_iter()
            .filter(|slot| {
                let goal = self.slots[*slot].as_ref().map(|waiter| waiter.goal);
                goal.is_some_and(|goal| self.decide(*slot, id, verdict(goal), out))
            })
            .collect()
    }

    /// A waiter's patience is over.
    pub(super) fn timed_out(&mut self, slot: usize, out: &mut Vec<Action>) {
        let pending = self.slots[slot]
            .as_ref()
            .map(|waiter| waiter.pending.clone())
            .unwrap_or_default();
        for id in pending {
            self.decide(slot, id, Err(Verdict::TimedOut), out);
        }
    }

    /// Whoever asked is not there any more; frees the slot without an answer.
    pub(super) fn forget(&mut self, ticket: Ticket) -> Option<usize> {
        let of = |waiter: &Option<Waiter>| {
            waiter
                .as_ref()
                .is_some_and(|waiter| waiter.ticket == ticket)
        };
        let slot = self.slots.iter().position(of)?;
        let waiter = self.slots[slot].take()?;
        for id in waiter.pending {
            self.detach(slot, id);
        }
        Some(slot)
    }

    /// Does anybody wait for this service?
    pub(super) fn concern(&self, id: ServiceId) -> bool {
        self.by_service.get(id).is_some()
    }

    /// Sends everybody away, for nothing will happen any more. Gives back the slots.
    pub(super) fn dismiss(&mut self, out: &mut Vec<Action>) -> Vec<usize> {
        self.by_service = Table::default();
        let mut freed = Vec::new();
        for (slot, waiter) in self.slots.iter_mut().enumerate() {
            if let Some(waiter) = waiter.take() {
                let (ticket, outcome) = (waiter.ticket, Outcome::ShuttingDown);
                out.push(Action::Reply { ticket, outcome });
                freed.push(slot);
            }
        }
        freed
    }

    /// Does anybody wait?
    pub(super) fn is_empty(&self) -> bool {
        self.slots.iter().all(Option::is_none)
    }

    /// Notes one decision; with the last one the ticket is answered and the slot is free.
    fn decide(
        &mut self,
        slot: usize,
        id: ServiceId,
        verdict: Result<(), Verdict>,
        out: &mut Vec<Action>,
    ) -> bool {
        self.detach(slot, id);
        let Some(waiter) = &mut self.slots[slot] else {
            return false;
        };
        waiter.pending.remove(&id);
        if let Err(verdict) = verdict {
            waiter.failed.push((id, verdict));
        }
        if !waiter.pending.is_empty() {
            return false;
        }
        if let Some(waiter) = self.slots[slot].take() {
            out.push(Action::Reply {
                ticket: waiter.ticket,
                outcome: waiter.outcome(),
            });
        }
        true
    }

    fn detach(&mut self, slot: usize, id: ServiceId) {
        if let Some(slots) = self.by_service.get_mut(id) {
            slots.retain(|known| *known != slot);
            if slots.is_empty() {
                self.by_service.remove(id);
            }
        }
    }
}

impl Waiter {
    fn outcome(self) -> Outcome {
        match (self.bulk, self.failed.first()) {
            (Some(services), _) => Outcome::Bulk {
                services,
                failed: self.failed,
            },
            (None, Some((_, verdict))) => Outcome::Not(*verdict),
            (None, None) => Outcome::Done,
        }
    }
}
