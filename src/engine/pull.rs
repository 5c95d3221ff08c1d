//! What a service does next: commands move its want, and table 2 (at the head of `service.rs`) says
//! which step the want and the gate allow.

use super::gate::Gate;
use super::restart::Restarts;
use super::service::{KILL_GRACE, Service};
use super::state::{Failure, Force, Hold, State, Want};
use super::{Action, ServiceId, Time};

impl Service {
    // What a command does beyond setting a want.

    /// Is it wanted up, and will it come up or stay up without anybody starting what it requires?
    pub(super) fn is_on_its_way(&self) -> bool {
        let so = match self.state {
            State::Blocked {
                hold: Hold::Waiting,
            }
            | State::Forking
            | State::Spawning { .. }
            | State::Running { .. } => true,
            State::Exited { code } => code == Some(0),
            State::Inactive
            | State::Blocked { .. }
            | State::Stopping { .. }
            | State::Clearing { .. }
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
            | State::Forking
            | State::Spawning { .. }
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Clearing { .. }
            | State::Backoff { .. }
            | State::Exited { .. } => {}
        }
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
        let State::Blocked { hold } = self.state else {
            return false;
        };
        let better = match gate.hold {
            None => true,
            Some(Hold::Waiting) => hold != Hold::Waiting,
            Some(_) => false,
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
            (State::Spawning { .. } | State::Running { .. }, Want::Up) if gate.lost => {
                self.want = Want::Cycle;
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
                State::Spawning { .. } | State::Running { .. },
                Want::Cycle | Want::Down | Want::Gone,
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
                Want::Down,
            )
            | (State::Inactive | State::Exited { .. }, Want::Down | Want::Gone)
            | (State::Exited { .. } | State::Failed { .. }, Want::Up)
            | (State::Spawning { .. } | State::Running { pid: Some(_), .. }, Want::Up)
            | (State::Forking | State::Stopping { .. } | State::Clearing { .. }, _) => {}
            (
                State::Blocked { .. } | State::Backoff { .. } | State::Failed { .. },
                Want::Down | Want::Gone,
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
            (None, _) => {
                self.state = State::Forking;
                out.push(Action::Spawn { service: id });
            }
        }
    }

    fn stop(&mut self, now: Time, gate: Gate, id: ServiceId, out: &mut Vec<Action>) {
        let force = gate.force;
        let restarting = self.want == Want::Cycle;
        if restarting {
            self.want = Want::Up;
        }
        self.state = match self.state.pid() {
            None if restarting => State::Blocked {
                hold: Hold::Waiting,
            },
            None => State::Inactive,
            Some(pid) => {
                out.push(Action::KillTree {
                    service: id,
                    pid,
                    signal: self.signal(force),
                });
                let patience = match force {
                    Force::Polite => {
                        let own = self.spec.lifecycle.stop_timeout;
                        gate.budget.map_or(own, |budget| own.min(budget.share(now)))
                    }
                    Force::Kill => KILL_GRACE,
                };
                State::Stopping {
                    pid,
                    failure: None,
                    force,
                    kill_at: now + patience,
                }
            }
        };
    }
}
