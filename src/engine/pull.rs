//! What a service does next: commands move its want, and table 2 (at the head of `service.rs`) says
//! which step the want and the gate allow.

use super::budget::LEAST_SHARE;
use super::gate::Gate;
use super::restart::Restarts;
use super::service::{KILL_GRACE, Service};
use super::spec::Hook;
use super::state::{End, Failure, Force, Hold, Round, State, Want};
use super::{Action, Exit, ServiceId, Time};

impl Service {
    // What a command does beyond setting a want.

    /// Is it wanted up, and will it come up or stay up without anybody starting what it requires?
    pub(super) fn is_on_its_way(&self) -> bool {
        let so = match self.state {
            State::Blocked {
                hold: Hold::Waiting,
            }
            | State::Preparing { .. }
            | State::Forking
            | State::Spawning { .. }
            | State::Starting { .. }
            | State::Running { .. } => true,
            State::Exited { end } => end.is_success(),
            State::Inactive
            | State::Blocked { .. }
            | State::Stopping { .. }
            | State::Clearing { .. }
            | State::Trailing { .. }
            | State::Backoff { .. }
            | State::Failed { .. } => false,
        };
        so && self.want == Want::Up
    }

    /// It is to go down and come up again.
    pub(super) fn recycle(&mut self) {
        self.restarts = Restarts::default();
        if self.want != Want::Gone {
            self.want = Want::Cycle;
        }
    }

    /// It is to be up; asked for by a person it also forgets what went wrong before.
    pub(super) fn rouse(&mut self, explicit: bool) {
        let was_done = self.is_met();
        if self.want != Want::Cycle {
            self.want = Want::Up;
        }
        match self.state {
            State::Failed { .. } => {
                self.restarts = Restarts::default();
                self.state = State::Inactive;
            }
            State::Exited { .. } if explicit || !was_done => {
                self.restarts = Restarts::default();
                self.state = State::Inactive;
            }
            State::Backoff { .. }
            | State::Blocked {
                hold: Hold::Obstructed { .. },
            } if explicit => {
                self.restarts = Restarts::default();
                self.state = State::Blocked {
                    hold: Hold::Waiting,
                };
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
            | State::Backoff { .. }
            | State::Exited { .. } => {}
        }
    }

    /// Does a connection to one of its sockets start it? Only where it rests, and only as long as
    /// nobody has stopped it.
    #[must_use]
    pub fn awaits_call(&self) -> bool {
        let rests = match self.state {
            State::Inactive | State::Exited { .. } | State::Failed { .. } => true,
            State::Blocked { .. }
            | State::Preparing { .. }
            | State::Forking
            | State::Spawning { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Clearing { .. }
            | State::Trailing { .. }
            | State::Backoff { .. } => false,
        };
        rests && self.spec.is_activated() && matches!(self.want, Want::Up | Want::Call)
    }

    /// Its spec changed: a failure that this may mend is forgotten, so that a corrected file needs
    /// no second command.
    pub(super) fn mended(&mut self) {
        if matches!(self.state, State::Failed { .. } | State::Backoff { .. }) {
            self.rouse(true);
        }
    }

    /// Something outside went away: look again.
    pub(super) fn look_again(&mut self) {
        if let State::Blocked {
            hold: Hold::Obstructed { .. },
        } = self.state
        {
            self.state = State::Blocked {
                hold: Hold::Waiting,
            };
        }
    }

    // Table 2: wants pull.

    /// Would a step be for the better?
    pub(super) fn hopes(&self, gate: Gate) -> bool {
        let better = match (self.state, gate.hold) {
            (State::Blocked { .. } | State::Preparing { until: None }, None) => true,
            (State::Blocked { hold }, Some(Hold::Waiting)) => hold != Hold::Waiting,
            (_, _) => false,
        };
        better && self.want == Want::Up
    }

    /// One step towards what is wanted, if the gate allows one.
    pub(super) fn pull(&mut self, now: Time, gate: Gate, id: ServiceId, out: &mut Vec<Action>) {
        match (self.state, self.want) {
            (
                State::Inactive
                | State::Exited { .. }
                | State::Failed { .. }
                | State::Backoff { .. },
                Want::Cycle,
            )
            | (State::Blocked { .. }, Want::Cycle) => {
                self.want = Want::Up;
                self.state = State::Blocked {
                    hold: Hold::Waiting,
                };
            }
            (State::Inactive, Want::Up) => {
                self.state = State::Blocked {
                    hold: gate.hold.unwrap_or(Hold::Waiting),
                };
            }
            (State::Blocked { hold }, Want::Up) => self.try_start(now, hold, gate, id, out),
            (
                State::Preparing { .. }
                | State::Spawning { .. }
                | State::Starting { .. }
                | State::Running { .. },
                Want::Up,
            ) if gate.lost => {
                self.want = Want::Cycle;
            }
            (State::Preparing { until: None }, Want::Up) => {
                // What it needs may have gone down meanwhile.
                self.state = match gate.hold {
                    Some(hold) => State::Blocked { hold },
                    None => {
                        out.push(Action::Spawn { service: id });
                        State::Forking
                    }
                };
            }
            (State::Running { pid: None, .. }, Want::Up) => {
                // A target is up only while all it requires is.
                if let Some(hold @ (Hold::Waiting | Hold::Stuck | Hold::Missing | Hold::Cycle)) =
                    gate.hold
                {
                    self.state = State::Blocked { hold };
                }
            }
            (
                State::Preparing { .. }
                | State::Spawning { .. }
                | State::Starting { .. }
                | State::Running { .. },
                Want::Cycle | Want::Down | Want::Call | Want::Gone,
            ) => {
                if gate.requirers_idle {
                    self.stop(now, gate, id, out);
                }
            }
            (State::Backoff { .. }, Want::Up) => {
                if gate.lost {
                    self.state = State::Blocked {
                        hold: Hold::Waiting,
                    };
                }
            }
            // Its process is still there, so it is not down; only a new start forgets that.
            (
                State::Failed {
                    why: Failure::StopTimeout,
                },
                Want::Down | Want::Call,
            )
            | (State::Inactive | State::Exited { .. }, Want::Down | Want::Call | Want::Gone)
            | (State::Exited { .. } | State::Failed { .. }, Want::Up)
            | (
                State::Preparing { .. }
                | State::Spawning { .. }
                | State::Starting { .. }
                | State::Running { pid: Some(_), .. },
                Want::Up,
            )
            | (
                State::Forking
                | State::Stopping { .. }
                | State::Clearing { .. }
                | State::Trailing { .. },
                _,
            ) => {}
            (
                State::Blocked { .. } | State::Backoff { .. } | State::Failed { .. },
                Want::Down | Want::Call | Want::Gone,
            ) => {
                self.state = State::Inactive;
            }
        }
    }

    fn try_start(
        &mut self,
        now: Time,
        held: Hold,
        gate: Gate,
        id: ServiceId,
        out: &mut Vec<Action>,
    ) {
        match (gate.hold, held) {
            // It has a time to look again. Two that are obstructed and also wait for each other
            // would otherwise take turns without end.
            (_, Hold::Obstructed { .. }) => {}
            (Some(hold), _) => self.state = State::Blocked { hold },
            (None, _) if self.spec.is_target() => {
                self.state = State::Running {
                    pid: None,
                    since: now,
                }
            }
            (None, _) => match self.spec.hooks.pre_start.as_ref() {
                Some(hook) => {
                    let until = Some(now + hook.timeout);
                    self.run_hook(Hook::PreStart, id, out);
                    self.state = State::Preparing { until };
                }
                None => {
                    self.state = State::Forking;
                    out.push(Action::Spawn { service: id });
                }
            },
        }
    }

    fn stop(&mut self, now: Time, gate: Gate, id: ServiceId, out: &mut Vec<Action>) {
        let restarting = self.want == Want::Cycle;
        if restarting {
            self.want = Want::Up;
        }
        let runs = self.state.has_program();
        let hook = self.spec.hooks.stop.as_ref().filter(|_| runs);
        let (force, patience) = match (gate.force, hook) {
            (Force::Kill, _) => (Force::Kill, KILL_GRACE),
            (Force::Hook | Force::Polite, Some(hook)) => (Force::Hook, hook.timeout),
            (Force::Hook | Force::Polite, None) => {
                (Force::Polite, self.spec.lifecycle.stop_timeout)
            }
        };
        let share = gate.budget.map(|budget| budget.share(now));
        let patience = match (share, force) {
            (None, _) | (_, Force::Kill) => patience,
            (Some(share), Force::Polite) => patience.min(share),
            // The signal after it needs time too.
            (Some(share), Force::Hook) => patience.min((share / 2).max(LEAST_SHARE)),
        };
        let kill_at = now + patience;
        if matches!(self.state, State::Preparing { .. }) {
            let end = End::Asked(Exit::Code(0));
            return self.clear(end, force, kill_at, Round::Main, id, out);
        }
        let Some(pid) = self.state.pid() else {
            self.state = if restarting {
                State::Blocked {
                    hold: Hold::Waiting,
                }
            } else {
                State::Inactive
            };
            return;
        };
        if force == Force::Hook {
            self.run_hook(Hook::Stop, id, out);
        } else {
            let (service, signal) = (id, self.signal(force));
            out.push(Action::KillTree {
                service,
                pid,
                signal,
            });
        }
        self.state = State::Stopping {
            pid,
            failure: None,
            force,
            kill_at,
        };
    }
}
