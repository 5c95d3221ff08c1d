//! What commands do: they set wants, and little else.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use super::graph::LinkKind;
use super::service::Service;
use super::spec::{Class, Status};
use super::state::{End, State, Want};
use super::supervisor::{Key, Supervisor};
use super::table::set;
use super::waiter::Goal;
use super::{Action, Command, Outcome, Patience, ServiceId, Signal, Spec, Ticket, Time};

impl Supervisor {
    pub(super) fn command(
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
            | Command::Reload { .. }
            | Command::Boot { .. } => true,
            Command::Stop { .. }
            | Command::Signal { .. }
            | Command::Refresh { .. }
            | Command::Wait { .. }
            | Command::Remove { .. }
            | Command::StopAll
            | Command::RemoveAll
            | Command::Shutdown { .. } => false,
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
                    let closure = all.with_requirers(&[service]);
                    all.want_all(&closure, Want::Gone, out);
                });
            }
            Command::Wait { service, goal } => self.one(service, goal, answer, out, |_, _| {}),
            Command::Signal { service, signal } => {
                answer.now(self.signal(service, signal, out), out);
            }
            Command::Refresh { service } => match self.refresh(now, service, out) {
                Ok(()) => answer.wait(self, Goal::Refresh, &[service], None, out),
                Err(outcome) => answer.now(outcome, out),
            },
            Command::StartAll => {
                let mut all = self.users();
                all.retain(|id| {
                    self.service(*id)
                        .is_some_and(|service| service.spec.status == Status::Start)
                });
                let all = self.attend(&all, out);
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
                let outcome = self.reload(now, &[spec], None, true, out);
                answer.now(outcome, out);
            }
            Command::Reload { specs, keep, start } => {
                let outcome = self.reload(now, &specs, Some(&keep), start, out);
                answer.now(outcome, out);
            }
            Command::Boot { services } => {
                let services = self.attend(&services, out);
                self.start(&services, false, true, out);
                self.bulk(&services, Goal::Start, answer, out);
            }
            Command::Shutdown { within, spare } => {
                self.shutdown(now, within, spare, out);
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

    /// Has a service read its configuration anew.
    fn refresh(&mut self, now: Time, id: ServiceId, out: &mut Vec<Action>) -> Result<(), Outcome> {
        let service = self.service(id).ok_or(Outcome::Unknown)?;
        let runs = service.state.has_program();
        let pid = service.state.pid().filter(|_| runs);
        let pid = pid.ok_or(Outcome::NotRunning)?;
        if service.spec.hooks.reload.is_some() {
            self.change(id, out, |service, out| service.run_reload(now, id, out));
            return Ok(());
        }
        let signal = service.spec.lifecycle.reload_signal;
        let signal = signal.ok_or(Outcome::NoReload)?;
        out.push(Action::Refresh { pid, signal });
        self.change(id, out, |service, _| service.reloaded());
        Ok(())
    }

    /// Wants up `roots`, and with `deps` whatever they require and want that is not up already.
    pub(super) fn start(
        &mut self,
        roots: &[ServiceId],
        explicit: bool,
        deps: bool,
        out: &mut Vec<Action>,
    ) {
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
            // One that is done and asked for is run once more, with what it needs.
            let is_asked = root && explicit;
            let is_done = matches!(service.state, State::Exited { .. });
            let on_its_way = service.is_on_its_way() && !(is_asked && is_done);
            self.change(id, out, |service, _| service.rouse(is_asked));
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

    /// Has those of them that start when somebody connects wait for that; gives the others.
    fn attend(&mut self, ids: &[ServiceId], out: &mut Vec<Action>) -> Vec<ServiceId> {
        let activated = |id: &ServiceId| self.service(*id).is_some_and(|s| s.spec.is_activated());
        let (called, others): (Vec<_>, Vec<_>) = ids.iter().copied().partition(activated);
        for id in called {
            self.change(id, out, |service, _| {
                if service.want == Want::Down {
                    service.want = Want::Call;
                }
            });
        }
        others
    }

    fn stop(&mut self, roots: &[ServiceId], out: &mut Vec<Action>) {
        let closure = self.with_requirers(roots);
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
        // One that goes down by itself comes up again, whatever its policy says of that.
        let up = match service.state {
            State::Preparing { .. }
            | State::Forking
            | State::Spawning { .. }
            | State::Starting { .. }
            | State::Running { .. } => true,
            State::Stopping { failure, .. } => failure.is_some(),
            State::Clearing { end, .. } | State::Trailing { end, .. } => {
                !matches!(end, End::Asked(_))
            }
            State::Inactive
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

    fn signal(&self, id: ServiceId, signal: Signal, out: &mut Vec<Action>) -> Outcome {
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
        now: Time,
        specs: &[Rc<Spec>],
        keep: Option<&[Rc<str>]>,
        start: bool,
        out: &mut Vec<Action>,
    ) -> Outcome {
        let (mut added, mut changed, mut removed, mut refused) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut starts, mut calls) = (Vec::new(), Vec::new());
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
                    let other = self.service(other);
                    let want = other.map_or(Want::Down, |other| other.want);
                    kind == LinkKind::Requires && matches!(want, Want::Up | Want::Cycle)
                });
                let wanted = start && spec.status == Status::Start;
                if required {
                    starts.push(id);
                } else {
                    calls.extend(Some(id).filter(|_| wanted));
                }
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
                Want::Up | Want::Cycle | Want::Down | Want::Call if service.spec == *spec => {
                    continue;
                }
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
                Want::Call => calls.push(id),
            }
            self.replace(now, id, spec, out);
            placed.push(id);
            changed.push(name);
        }
        self.find_cycles(&placed);
        for id in returned {
            self.change(id, out, |service, _| service.want = Want::Down);
            let wanted = self
                .service(id)
                .is_some_and(|service| service.spec.status == Status::Start);
            calls.extend(Some(id).filter(|_| wanted));
        }
        for id in mended {
            self.change(id, out, |service, _| service.mended());
        }
        starts.extend(self.attend(&calls, out));
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

    pub(super) fn want_all(&mut self, ids: &[ServiceId], want: Want, out: &mut Vec<Action>) {
        for id in ids {
            self.change(*id, out, |service, _| {
                if service.want != Want::Gone {
                    service.want = want;
                }
            });
        }
    }

    /// `roots` and all that require them, directly or not; requirers stand behind.
    #[must_use]
    pub fn with_requirers(&self, roots: &[ServiceId]) -> Vec<ServiceId> {
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

    /// The services that bulk commands are for, by name.
    #[must_use]
    pub fn users(&self) -> Vec<ServiceId> {
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
