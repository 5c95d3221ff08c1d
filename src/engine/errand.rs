//! Errands of a service, and what their coming back means for its state: hooks above all. Probes and
//! a reload are in `care.rs`.

use super::service::{KILL_GRACE, Service};
use super::spec::Hook;
use super::state::{End, Failure, Fault, Force, Round, State};
use super::{Action, Errand, ErrandId, Exit, Report, ServiceId, Time};

impl Service {
    pub(super) fn polite(&self, now: Time) -> Time {
        now + self.spec.lifecycle.stop_timeout
    }

    /// After the stop hook, or without waiting for it any longer: the stop signal.
    pub(super) fn press(&mut self, now: Time, id: ServiceId, out: &mut Vec<Action>) {
        let kill_at = self.polite(now);
        match self.state {
            State::Stopping { pid, failure, .. } => {
                self.state = State::Stopping {
                    pid,
                    failure,
                    force: Force::Polite,
                    kill_at,
                };
                let (service, signal) = (id, self.signal(Force::Polite));
                out.push(Action::KillTree {
                    service,
                    pid,
                    signal,
                });
            }
            State::Clearing { end, round, .. } => {
                self.clear(end, Force::Polite, kill_at, round, id, out);
            }
            State::Inactive
            | State::Blocked { .. }
            | State::Preparing { .. }
            | State::Forking
            | State::Spawning { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Trailing { .. }
            | State::Backoff { .. }
            | State::Exited { .. }
            | State::Failed { .. } => {}
        }
    }

    /// Its signal was only sent now: it has its time from now on.
    pub(super) fn signalled(&mut self, now: Time) {
        let polite = self.polite(now);
        if let State::Stopping { force, kill_at, .. } = &mut self.state {
            *kill_at = (*kill_at).max(match force {
                Force::Hook => *kill_at,
                Force::Polite => polite,
                Force::Kill => now + KILL_GRACE,
            });
        }
    }

    /// It has to go down for this reason, and the restart policy says what comes next.
    pub(super) fn fall(
        &mut self,
        now: Time,
        failure: Failure,
        id: ServiceId,
        out: &mut Vec<Action>,
    ) {
        let is_up = self.state.has_program();
        let Some(pid) = self.state.pid().filter(|_| is_up) else {
            return;
        };
        self.forget_restarts(now);
        self.state = State::Stopping {
            pid,
            failure: Some(failure),
            force: Force::Polite,
            kill_at: self.polite(now),
        };
        let (service, signal) = (id, self.signal(Force::Polite));
        out.push(Action::KillTree {
            service,
            pid,
            signal,
        });
    }

    pub(super) fn send(&mut self, what: Errand, id: ServiceId, out: &mut Vec<Action>) -> ErrandId {
        self.last_errand = self.last_errand.wrapping_add(1);
        let (service, errand) = (id, ErrandId(self.last_errand));
        out.push(Action::Errand {
            service,
            errand,
            what,
        });
        errand
    }

    /// Sends a hook, for which the state waits.
    pub(super) fn run_hook(&mut self, hook: Hook, id: ServiceId, out: &mut Vec<Action>) {
        let errand = self.send(Errand::Hook(hook), id, out);
        self.hook = Some(errand);
    }

    pub(super) fn recall_hook(&mut self, id: ServiceId, out: &mut Vec<Action>) {
        if let Some(errand) = self.hook.take() {
            let service = id;
            out.push(Action::Recall { service, errand });
        }
    }

    pub(super) fn returned(
        &mut self,
        now: Time,
        errand: ErrandId,
        report: Report,
        id: ServiceId,
        out: &mut Vec<Action>,
    ) {
        if self.care_returned(now, errand, report, id, out) || self.hook != Some(errand) {
            return;
        }
        self.hook = None;
        let fault = match report {
            Report::Success => None,
            Report::Failed => Some(Fault::Ended(Exit::Code(1))),
            Report::Ended(exit) => Some(Fault::Ended(exit)),
            Report::NotRun(error) => Some(Fault::NotRun(error)),
        };
        match self.state {
            State::Preparing { .. } => match fault {
                // What it needs may have gone down meanwhile: the gate is asked once more.
                None => self.state = State::Preparing { until: None },
                Some(fault) => {
                    let hook = Hook::PreStart;
                    let end = End::Failure(Failure::Hook { hook, fault });
                    self.clear(end, Force::Polite, self.polite(now), Round::Main, id, out);
                }
            },
            State::Starting { pid, .. } => match fault {
                None => {
                    self.state = State::Running {
                        pid: Some(pid),
                        since: now,
                    };
                    self.care_goes_on(now);
                }
                Some(fault) => {
                    let hook = Hook::PostStart;
                    self.fall(now, Failure::Hook { hook, fault }, id, out);
                }
            },
            State::Stopping {
                force: Force::Hook, ..
            }
            | State::Clearing {
                force: Force::Hook, ..
            } => self.press(now, id, out),
            State::Trailing { end, .. } => {
                self.clear(end, Force::Polite, self.polite(now), Round::Hook, id, out);
            }
            State::Inactive
            | State::Blocked { .. }
            | State::Forking
            | State::Spawning { .. }
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Clearing { .. }
            | State::Backoff { .. }
            | State::Exited { .. }
            | State::Failed { .. } => {}
        }
    }
}
