//! The end of everything: all is stopped in order, within a time if there is one.
//!
//! A time for all is shared out as it is used up. Whoever stops may take what is left, divided by
//! the number of stops that follow one another from this one on; who needs less leaves more to
//! the rest. So each service gets its stop signal, and the last SIGKILL comes in time.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::graph::LinkKind;
use super::service::Service;
use super::state::{Force, State, Want};
use super::supervisor::{Phase, Supervisor};
use super::table::Table;
use super::{Action, ServiceId, Time};

/// What a stop may take when the time for all is over.
pub(super) const LEAST_SHARE: Duration = Duration::from_millis(1);

/// What is left for a stop and for those that follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    /// When the last one should be down.
    deadline: Time,
    /// Stops in a row from this one on.
    depth: u32,
}

impl Budget {
    /// What this stop may take: not nothing, as each is asked before it is killed.
    pub(super) fn share(self, now: Time) -> Duration {
        let share = self.deadline.since(now) / self.depth.max(1);
        share.max(LEAST_SHARE)
    }
}

impl Service {
    /// It is being stopped politely, and may take until then at most.
    pub(super) fn bound(&mut self, until: Time) {
        if let State::Stopping {
            force: Force::Hook | Force::Polite,
            kill_at,
            ..
        }
        | State::Clearing {
            force: Force::Hook | Force::Polite,
            kill_at,
            ..
        }
        | State::Trailing { until: kill_at, .. } = &mut self.state
        {
            *kill_at = until.min(*kill_at);
        }
    }
}

impl Supervisor {
    /// Everything is to go down; asked again, what was asked politely is killed.
    pub(super) fn shutdown(
        &mut self,
        now: Time,
        within: Option<Duration>,
        spare: bool,
        out: &mut Vec<Action>,
    ) {
        let all: Vec<_> = self.graph.names().map(|(_, id)| id).collect();
        match self.phase {
            Phase::Serving => {
                self.phase = Phase::Closing {
                    force: Force::Polite,
                    deadline: within.map(|within| now + within),
                    spare,
                };
                let spared = self.spared(&all);
                let goes = |id: &ServiceId| {
                    let going = self.service(*id).is_some_and(|s| s.want == Want::Gone);
                    !going && !spared.contains(id)
                };
                let down: Vec<_> = all.iter().copied().filter(goes).collect();
                if within.is_some() {
                    self.depths = self.stop_depths(&all);
                }
                self.want_all(&down, Want::Down, out);
                for id in all {
                    self.bound(now, id, out);
                }
            }
            Phase::Closing {
                force: Force::Hook | Force::Polite,
                deadline,
                spare,
            } => {
                let force = Force::Kill;
                self.phase = Phase::Closing {
                    force,
                    deadline,
                    spare,
                };
                for id in all {
                    self.hurry(now, id, out);
                }
            }
            Phase::Closing {
                force: Force::Kill, ..
            }
            | Phase::Halted => {}
        }
    }

    /// Is everything down but what stays?
    pub(super) fn all_spared(&self) -> bool {
        self.services()
            .all(|(_, service)| !service.state.is_active() || service.want == Want::Up)
    }

    /// What a stop of this service may take, if that matters.
    pub(super) fn budget(&self, id: ServiceId) -> Option<Budget> {
        let Phase::Closing {
            deadline: Some(deadline),
            ..
        } = self.phase
        else {
            return None;
        };
        let depth = self.depths.get(id).copied().unwrap_or(1);
        Some(Budget { deadline, depth })
    }

    /// A stop that began for another reason has to keep to the time for all too.
    pub(super) fn bound(&mut self, now: Time, id: ServiceId, out: &mut Vec<Action>) {
        if let Some(budget) = self.budget(id) {
            let until = now + budget.share(now);
            self.change(id, out, |service, _| service.bound(until));
        }
    }

    /// Who survives a switch of root, and what those require.
    fn spared(&self, all: &[ServiceId]) -> BTreeSet<ServiceId> {
        let mut spared = BTreeSet::new();
        let Phase::Closing { spare: true, .. } = self.phase else {
            return spared;
        };
        let survives = |id: &ServiceId| {
            self.service(*id).is_some_and(|service| {
                service.spec.lifecycle.survive_switch_root && service.want == Want::Up
            })
        };
        let mut queue: VecDeque<ServiceId> = all.iter().copied().filter(survives).collect();
        while let Some(id) = queue.pop_front() {
            if spared.insert(id) {
                let links = self.graph.links(id).iter();
                let required = links.filter(|link| link.kind == LinkKind::Requires);
                queue.extend(required.filter_map(|link| link.to));
            }
        }
        spared
    }

    /// For each service that is up, how many stops follow one another from its own on. Members of
    /// a cycle do not wait for each other.
    fn stop_depths(&self, all: &[ServiceId]) -> Table<u32> {
        let is_up = |id: &ServiceId| self.service(*id).is_some_and(|s| s.state.is_active());
        let awaited = |kind| matches!(kind, LinkKind::Requires | LinkKind::After);
        let mut open: Table<u32> = Table::default();
        let mut ready: VecDeque<ServiceId> = VecDeque::new();
        for id in all.iter().copied().filter(is_up) {
            let links = self.graph.links(id).iter();
            let below = links.filter(|link| awaited(link.kind));
            let count = below.filter_map(|link| link.to).filter(is_up).count();
            if count == 0 {
                ready.push_back(id);
            } else {
                open.insert(id, u32::try_from(count).unwrap_or(u32::MAX));
            }
        }
        let mut depths: Table<u32> = Table::default();
        while let Some(id) = ready.pop_front() {
            let depth = depths.get(id).copied().unwrap_or(1);
            depths.insert(id, depth);
            for (_, above) in self.graph.back(id).filter(|(kind, _)| awaited(*kind)) {
                let Some(left) = open.get_mut(above) else {
                    continue;
                };
                *left -= 1;
                let is_last = *left == 0;
                let known = depths.get(above).copied().unwrap_or(1);
                depths.insert(above, known.max(depth + 1));
                if is_last {
                    open.remove(above);
                    ready.push_back(above);
                }
            }
        }
        depths
    }

    /// What was asked politely is killed now, if that is the phase, and no hook is waited for.
    pub(super) fn hurry(&mut self, now: Time, id: ServiceId, out: &mut Vec<Action>) {
        let hurried = matches!(
            self.phase,
            Phase::Closing {
                force: Force::Kill,
                ..
            }
        );
        // At most: the hook, what follows it, and SIGKILL.
        for _ in 0..3 {
            let is_slow = |service: &Service| match service.state {
                State::Stopping { force, .. } | State::Clearing { force, .. } => {
                    force != Force::Kill
                }
                State::Trailing { .. } => true,
                State::Inactive
                | State::Blocked { .. }
                | State::Preparing { .. }
                | State::Forking
                | State::Spawning { .. }
                | State::Starting { .. }
                | State::Running { .. }
                | State::Backoff { .. }
                | State::Exited { .. }
                | State::Failed { .. } => false,
            };
            if !hurried || !self.service(id).is_some_and(is_slow) {
                return;
            }
            self.fact(id, out, |service, out| {
                service.deadline_passed(now, id, out)
            });
        }
    }
}
