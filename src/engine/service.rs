//! One service: its state, what is wanted of it, and the two tables that move it.
//!
//! **Facts push.** What happened to a service (table 1); `×` is a bug, `-` changes nothing:
//!
//! | | forked | fork failed | obstructed | started | exec failed | exited | cleared | deadline |
//! |---|---|---|---|---|---|---|---|---|
//! | Inactive, Exited, Failed | × | × | × | × | × | × | - | × |
//! | Blocked | × | × | × | × | × | × | - | look again |
//! | Forking | Spawning | *end* | Blocked | × | × | × | × | × |
//! | Spawning | × | × | × | Running | Stopping | Clearing | × | Stopping, KILL |
//! | Running | × | × | × | × | × | Clearing | × (target: -) | × |
//! | Stopping | × | × | × | - | - | Clearing | × | KILL; then Failed |
//! | Clearing | × | × | × | × | × | × | *end* | KILL; then Failed |
//! | Backoff | × | × | × | × | × | × | - | Blocked |
//!
//! *end* is where the restart policy speaks: Exited, Failed, Backoff, or Blocked when it is wanted
//! up again. A service is cleared before that, so its next run never meets its last one.
//!
//! **Wants pull.** What a service does next, given what its neighbours allow (table 2). A command
//! only sets the want; the order of starts and stops is coded nowhere, it falls out of the gates:
//!
//! | | want Up | want Cycle | want Down, Gone |
//! |---|---|---|---|
//! | Inactive | Blocked | Blocked, want Up | - |
//! | Blocked | gate open: Forking (a target: Running); obstructed: - | want Up | Inactive |
//! | Spawning, Running | requirement lost: want Cycle | requirers idle: Stopping, want Up | requirers idle: Stopping |
//! | Running target | also gate shut: Blocked | requirers idle: Blocked, want Up | requirers idle: Inactive |
//! | Forking, Stopping, Clearing | - (a fact comes) | - | - |
//! | Backoff | requirement lost: Blocked | Blocked, want Up | Inactive |
//! | Exited | - | Blocked, want Up | - |
//! | Failed | - | Blocked, want Up | Inactive (unkillable: -, until it is to be gone) |
//!
//! The story of a stop: want Down on the service and on all that require it. Each sees at its gate
//! that somebody who needs it is up, except the outermost; that one goes to Stopping, ends, is
//! swept (Clearing) and comes to rest, which opens the next gate.

use std::rc::Rc;
use std::time::Duration;

use super::gate::{Face, Tally};
use super::restart::Restarts;
use super::state::{End, Failure, Force, Hold, State, Want};
use super::{Action, Exit, Pid, ServiceId, Signal, SpawnError, Spec, Time};

/// Time a killed process has to vanish before the service is given up as unkillable: longer than
/// any exit that is not stuck in the kernel.
pub(super) const KILL_GRACE: Duration = Duration::from_secs(5);

/// Time between looks at a port or a process that is not ours, while a service waits for it.
const OBSTACLE_RECHECK: Duration = Duration::from_secs(2);

/// Time before a spawn is tried again when the machine is out of processes, memory or descriptors.
const SCARCE_DELAY: Duration = Duration::from_secs(1);

/// A service: as it is meant, as it is, and as it should be.
#[derive(Clone, Debug)]
pub struct Service {
    pub(super) spec: Rc<Spec>,
    pub(super) state: State,
    pub(super) want: Want,
    pub(super) restarts: Restarts,
    pub(super) tally: Tally,
}

/// A fact that cannot be in this state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Misfit(pub(super) &'static str);

type Fact = Result<(), Misfit>;

impl Service {
    pub(super) fn new(spec: Rc<Spec>) -> Self {
        Self {
            spec,
            state: State::Inactive,
            want: Want::Down,
            restarts: Restarts::default(),
            tally: Tally::default(),
        }
    }

    /// The service as it is meant.
    #[must_use]
    pub fn spec(&self) -> &Rc<Spec> {
        &self.spec
    }

    /// As it is.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// As it should be.
    #[must_use]
    pub const fn want(&self) -> Want {
        self.want
    }

    /// Its restarts in a row.
    #[must_use]
    pub const fn restarts(&self) -> Restarts {
        self.restarts
    }

    /// May a service that requires this one be up?
    #[must_use]
    pub fn is_met(&self) -> bool {
        match self.state {
            State::Running { .. } => self.want == Want::Up && !self.spec.is_oneshot(),
            State::Exited { code } => self.want == Want::Up && code == Some(0),
            State::Inactive
            | State::Blocked { .. }
            | State::Forking
            | State::Spawning { .. }
            | State::Stopping { .. }
            | State::Clearing { .. }
            | State::Backoff { .. }
            | State::Failed { .. } => false,
        }
    }

    /// Does who follows it in order wait for it?
    #[must_use]
    pub fn is_coming_up(&self) -> bool {
        self.face().ahead
    }

    /// Do its rivals have to wait?
    #[must_use]
    pub fn holds_back_rivals(&self) -> bool {
        self.face().holds
    }

    pub(super) fn face(&self) -> Face {
        let active = self.state.is_active();
        let wanted = matches!(self.want, Want::Up | Want::Cycle);
        let (stuck, lost, ahead) = match self.state {
            State::Inactive | State::Forking | State::Spawning { .. } => (false, false, true),
            State::Running { .. } => (false, false, self.spec.is_oneshot()),
            State::Blocked { hold } => match hold {
                Hold::Waiting => (false, false, true),
                Hold::Stuck | Hold::Missing | Hold::Cycle => (true, true, false),
                // Tried again by itself, so those that are up need not go down for it.
                Hold::Conflict | Hold::Port | Hold::Obstructed { .. } => (true, false, false),
            },
            State::Stopping { failure, .. } => (false, false, failure.is_none()),
            // A oneshot is behind them only when all of it has ended.
            State::Clearing { end, .. } => {
                let ahead = matches!(end, End::Asked(_)) || self.spec.is_oneshot();
                (false, false, ahead)
            }
            State::Backoff { .. } => (false, false, false),
            State::Exited { code } => (code != Some(0), code != Some(0), false),
            State::Failed { .. } => (true, true, false),
        };
        Face {
            met: self.is_met(),
            stuck: stuck || !wanted,
            lost: lost || self.want != Want::Up,
            ahead: ahead && wanted,
            active,
            leaving: active && !wanted,
            holds: active || matches!(self.state, State::Backoff { .. }),
        }
    }

    // Table 1: facts push.

    pub(super) fn forked(&mut self, now: Time, pid: Pid) -> Fact {
        match self.state {
            State::Forking => {
                let fail_at = now + self.spec.lifecycle.start_timeout;
                self.state = State::Spawning {
                    pid,
                    since: now,
                    fail_at,
                };
                Ok(())
            }
            State::Inactive
            | State::Blocked { .. }
            | State::Spawning { .. }
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Clearing { .. }
            | State::Backoff { .. }
            | State::Exited { .. }
            | State::Failed { .. } => Err(Misfit("a process that was not asked for")),
        }
    }

    pub(super) fn fork_failed(&mut self, now: Time, error: SpawnError, scarce: bool) -> Fact {
        self.answered_by(|service| {
            let end = End::Failure(Failure::Spawn(error));
            if scarce {
                service.state = State::Backoff {
                    until: now + SCARCE_DELAY,
                    end,
                };
            } else {
                service.ended(now, end);
            }
        })
    }

    pub(super) fn obstructed(&mut self, now: Time) -> Fact {
        self.answered_by(|service| {
            service.state = State::Blocked {
                hold: Hold::Obstructed {
                    until: now + OBSTACLE_RECHECK,
                },
            };
        })
    }

    fn answered_by(&mut self, change: impl FnOnce(&mut Self)) -> Fact {
        if self.state != State::Forking {
            return Err(Misfit("an answer to a spawn that was not asked for"));
        }
        change(self);
        Ok(())
    }

    pub(super) fn started(&mut self, now: Time) -> Fact {
        match self.state {
            State::Spawning { pid, .. } => {
                self.state = State::Running {
                    pid: Some(pid),
                    since: now,
                };
                Ok(())
            }
            State::Stopping { .. } => Ok(()),
            State::Inactive
            | State::Blocked { .. }
            | State::Forking
            | State::Running { .. }
            | State::Clearing { .. }
            | State::Backoff { .. }
            | State::Exited { .. }
            | State::Failed { .. } => Err(Misfit("a program that started twice")),
        }
    }

    pub(super) fn exec_failed(&mut self, now: Time, error: SpawnError) -> Fact {
        match self.state {
            State::Spawning { pid, .. } => {
                let failure = Some(Failure::Spawn(error));
                self.state = State::Stopping {
                    pid,
                    failure,
                    force: Force::Kill,
                    kill_at: now + KILL_GRACE,
                };
                Ok(())
            }
            State::Stopping { .. } => Ok(()),
            State::Inactive
            | State::Blocked { .. }
            | State::Forking
            | State::Running { .. }
            | State::Clearing { .. }
            | State::Backoff { .. }
            | State::Exited { .. }
            | State::Failed { .. } => Err(Misfit("an exec that failed after it succeeded")),
        }
    }

    pub(super) fn exited(
        &mut self,
        now: Time,
        exit: Exit,
        id: ServiceId,
        out: &mut Vec<Action>,
    ) -> Fact {
        let polite = now + self.spec.lifecycle.stop_timeout;
        let (end, force, kill_at) = match self.state {
            State::Spawning { .. } => (End::of(exit), Force::Polite, polite),
            State::Running {
                pid: Some(_),
                since,
            } => {
                if now.since(since) >= self.spec.lifecycle.stability_period {
                    self.restarts = Restarts::default();
                }
                (End::of(exit), Force::Polite, polite)
            }
            State::Stopping {
                failure,
                force,
                kill_at,
                ..
            } => (
                failure.map_or(End::Asked(exit), End::Failure),
                force,
                kill_at,
            ),
            State::Inactive
            | State::Blocked { .. }
            | State::Forking
            | State::Running { pid: None, .. }
            | State::Clearing { .. }
            | State::Backoff { .. }
            | State::Exited { .. }
            | State::Failed { .. } => return Err(Misfit("an exit of a process it does not have")),
        };
        self.state = State::Clearing {
            end,
            force,
            kill_at,
        };
        out.push(Action::Sweep {
            service: id,
            signal: self.signal(force),
        });
        Ok(())
    }

    pub(super) fn cleared(&mut self, now: Time) -> Fact {
        match self.state {
            State::Clearing { end, .. } => {
                self.ended(now, end);
                Ok(())
            }
            // It was given up before the last of it died, and may have become a target since.
            State::Inactive
            | State::Running { pid: None, .. }
            | State::Blocked { .. }
            | State::Backoff { .. }
            | State::Exited { .. }
            | State::Failed { .. } => Ok(()),
            State::Forking
            | State::Spawning { .. }
            | State::Running { pid: Some(_), .. }
            | State::Stopping { .. } => Err(Misfit("cleared while it runs")),
        }
    }

    pub(super) fn deadline_passed(
        &mut self,
        now: Time,
        id: ServiceId,
        out: &mut Vec<Action>,
    ) -> Fact {
        let (signal, kill_at) = (Signal::KILL, now + KILL_GRACE);
        match self.state {
            State::Spawning { pid, .. } => {
                let failure = Some(Failure::StartTimeout);
                self.state = State::Stopping {
                    pid,
                    failure,
                    force: Force::Kill,
                    kill_at,
                };
                out.push(Action::KillTree {
                    service: id,
                    pid,
                    signal,
                });
            }
            State::Stopping {
                pid,
                failure,
                force: Force::Polite,
                ..
            } => {
                self.state = State::Stopping {
                    pid,
                    failure,
                    force: Force::Kill,
                    kill_at,
                };
                out.push(Action::KillTree {
                    service: id,
                    pid,
                    signal,
                });
            }
            State::Clearing {
                end,
                force: Force::Polite,
                ..
            } => {
                self.state = State::Clearing {
                    end,
                    force: Force::Kill,
                    kill_at,
                };
                out.push(Action::Sweep {
                    service: id,
                    signal,
                });
            }
            State::Stopping {
                force: Force::Kill, ..
            }
            | State::Clearing {
                force: Force::Kill, ..
            } => {
                self.state = State::Failed {
                    why: Failure::StopTimeout,
                };
            }
            State::Backoff { .. }
            | State::Blocked {
                hold: Hold::Obstructed { .. },
            } => {
                self.state = State::Blocked {
                    hold: Hold::Waiting,
                };
            }
            State::Inactive
            | State::Blocked { .. }
            | State::Forking
            | State::Running { .. }
            | State::Exited { .. }
            | State::Failed { .. } => return Err(Misfit("a deadline it does not have")),
        }
        Ok(())
    }

    /// The last of a run is gone: by policy and want, what comes next?
    fn ended(&mut self, now: Time, end: End) {
        self.state = match self.want {
            Want::Down | Want::Gone => State::Exited { code: end.code() },
            Want::Cycle => State::Blocked {
                hold: Hold::Waiting,
            },
            Want::Up => match end {
                End::Asked(_) => State::Blocked {
                    hold: Hold::Waiting,
                },
                End::Success => self.restart_or(now, end, State::Exited { code: Some(0) }),
                End::Failure(why) => self.restart_or(now, end, State::Failed { why }),
            },
        };
    }

    fn restart_or(&mut self, now: Time, end: End, last: State) -> State {
        let failed = matches!(end, End::Failure(_));
        match self
            .restarts
            .take(&self.spec.lifecycle, self.spec.is_oneshot(), failed)
        {
            Some(delay) => State::Backoff {
                until: now + delay,
                end,
            },
            None => last,
        }
    }

    pub(super) fn signal(&self, force: Force) -> Signal {
        match force {
            Force::Polite => self.spec.lifecycle.stop_signal,
            Force::Kill => Signal::KILL,
        }
    }
}
