//! One service: its state, what is wanted of it, and the two tables that move it.
//!
//! **Facts push.** What happened to a service (table 1); `×` is a bug, `-` changes nothing:
//!
//! | | forked | fork failed | obstructed | started | exec failed | exited | cleared | deadline |
//! |---|---|---|---|---|---|---|---|---|
//! | Inactive, Exited, Failed | × | × | × | × | × | × | - | × |
//! | Blocked | × | × | × | × | × | × | - | look again |
//! | Preparing | × | × | Blocked | × | × | × | - | Clearing |
//! | Forking | Spawning | *end* | Blocked | × | × | × | × | × |
//! | Spawning | × | × | × | Starting | Stopping | Clearing | × | Stopping, KILL |
//! | Starting | × | × | × | × | × | Clearing | × | Stopping |
//! | Running | × | × | × | × | × | Clearing | × (target: -) | × |
//! | Stopping | × | × | × | - | - | Clearing | × | signal; KILL; then Failed |
//! | Clearing | × | × | × | × | × | × | Trailing | signal; KILL; then Failed |
//! | Trailing | × | × | × | × | × | × | × | Clearing |
//! | Backoff | × | × | × | × | × | × | - | Blocked |
//!
//! *end* is where the restart policy speaks: Exited, Failed, Backoff, or Blocked when it is wanted
//! up again. A service is cleared before that, so its next run never meets its last one. Preparing
//! and Trailing are there for the hooks before and after a run; without those they are passed over,
//! and so is Starting by a service that is ready when its program runs. Trailing leads to a
//! Clearing of its own, for what the hook left behind, and from there to *end*.
//!
//! What programs and errands say (ready, a ping, a hook or probe that came back) comes when it
//! comes: it moves the state that waits for it and is nothing to any other.
//!
//! | | ready | hook succeeded | hook failed |
//! |---|---|---|---|
//! | Preparing | - | Preparing still, but the gate is asked again | Clearing |
//! | Starting | Running, or its hook first | Running | Stopping |
//! | Stopping, Clearing by the hook | - | signal | signal |
//! | Trailing | - | Clearing | Clearing |
//!
//! **Wants pull.** What a service does next, given what its neighbours allow (table 2, `pull.rs`). A
//! command only sets the want; the order of starts and stops is coded nowhere, it falls out of the
//! gates:
//!
//! | | want Up | want Cycle | want Down, Gone |
//! |---|---|---|---|
//! | Inactive | Blocked | Blocked, want Up | - |
//! | Blocked | gate open: Preparing or Forking (a target: Running); obstructed: - | want Up | Inactive |
//! | Preparing | requirement lost: want Cycle; hook done: Forking, or Blocked if the gate is shut | requirers idle: Clearing, want Up | requirers idle: Clearing |
//! | Spawning, Starting, Running | requirement lost: want Cycle | requirers idle: Stopping, want Up | requirers idle: Stopping |
//! | Running target | also gate shut: Blocked | requirers idle: Blocked, want Up | requirers idle: Inactive |
//! | Forking, Stopping, Clearing, Trailing | - (a fact comes) | - | - |
//! | Backoff | requirement lost: Blocked | Blocked, want Up | Inactive |
//! | Exited | - | Blocked, want Up | - |
//! | Failed | - | Blocked, want Up | Inactive (unkillable: -, until it is to be gone) |
//!
//! The story of a stop: want Down on the service and on all that require it. Each sees at its gate
//! that somebody who needs it is up, except the outermost; that one goes to Stopping, ends, is
//! swept (Clearing) and comes to rest, which opens the next gate.

use std::rc::Rc;
use std::time::Duration;

use super::care::{Care, Health};
use super::gate::{Face, Tally};
use super::restart::Restarts;
use super::spec::{Hook, Readiness};
use super::state::{Awaits, End, Failure, Fault, Force, Hold, Round, State, Want};
use super::{Action, ErrandId, Exit, Pid, ServiceId, Signal, SpawnError, Spec, Time};

/// Time a killed process has to vanish before the service is given up as unkillable: longer than
/// any exit that is not stuck in the kernel.
pub(super) const KILL_GRACE: Duration = Duration::from_secs(5);

/// Time between looks at a port or a process that is not ours, while a service waits for it.
const OBSTACLE_RECHECK: Duration = Duration::from_secs(2);

/// Time before a spawn is tried again when the machine is out of processes, memory or descriptors.
const SCARCE_DELAY: Duration = Duration::from_secs(1);

/// What a start may take beyond all the probes that may fail during it, as with zinit 0.3.9.
const PROBE_GRACE: Duration = Duration::from_secs(5);

/// A service: as it is meant, as it is, and as it should be.
#[derive(Clone, Debug)]
pub struct Service {
    pub(super) spec: Rc<Spec>,
    pub(super) state: State,
    pub(super) want: Want,
    pub(super) restarts: Restarts,
    pub(super) tally: Tally,
    pub(super) care: Care,
    /// The hook its state waits for.
    pub(super) hook: Option<ErrandId>,
    pub(super) last_errand: u32,
    /// Spreads its restarts; 0: not at all.
    pub(super) salt: u64,
}

/// A fact that cannot be in this state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Misfit(pub(super) &'static str);

type Fact = Result<(), Misfit>;

impl Service {
    pub(super) fn new(spec: Rc<Spec>, salt: u64) -> Self {
        Self {
            spec,
            state: State::Inactive,
            want: Want::Down,
            restarts: Restarts::default(),
            tally: Tally::default(),
            care: Care::default(),
            hook: None,
            last_errand: 0,
            salt,
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

    /// What the probes say of this run.
    #[must_use]
    pub const fn health(&self) -> Health {
        self.care.health
    }

    /// How it was cared for in this run.
    #[must_use]
    pub const fn care(&self) -> &Care {
        &self.care
    }

    /// Probes that failed in a row.
    #[must_use]
    pub const fn failed_probes(&self) -> u32 {
        self.care.failures
    }

    /// May a service that requires this one be up?
    #[must_use]
    pub fn is_met(&self) -> bool {
        match self.state {
            State::Running { .. } => self.want == Want::Up && !self.spec.is_oneshot(),
            State::Exited { end } => self.want == Want::Up && end.is_success(),
            State::Inactive
            | State::Blocked { .. }
            | State::Preparing { .. }
            | State::Forking
            | State::Spawning { .. }
            | State::Starting { .. }
            | State::Stopping { .. }
            | State::Clearing { .. }
            | State::Trailing { .. }
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
            State::Inactive
            | State::Preparing { .. }
            | State::Forking
            | State::Spawning { .. }
            | State::Starting { .. } => (false, false, true),
            State::Running { .. } => (false, false, self.spec.is_oneshot()),
            State::Blocked { hold } => match hold {
                Hold::Waiting => (false, false, true),
                Hold::Stuck | Hold::Missing | Hold::Cycle => (true, true, false),
                // Tried again by itself, so those that are up need not go down for it.
                Hold::Conflict | Hold::Port | Hold::Obstructed { .. } => (true, false, false),
            },
            State::Stopping { failure, .. } => (false, false, failure.is_none()),
            // A oneshot is behind them only when all of it has ended.
            State::Clearing { end, .. } | State::Trailing { end, .. } => {
                let ahead = matches!(end, End::Asked(_)) || self.spec.is_oneshot();
                (false, false, ahead)
            }
            State::Backoff { .. } => (false, self.spec.lifecycle.restart_dependents, false),
            State::Exited { end } => (!end.is_success(), !end.is_success(), false),
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
            | State::Preparing { .. }
            | State::Spawning { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Clearing { .. }
            | State::Trailing { .. }
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

    /// A hook before the start is not run for nothing either.
    pub(super) fn obstructed(&mut self, now: Time) -> Fact {
        if matches!(self.state, State::Preparing { .. }) {
            self.hook = None;
            self.state = State::Forking;
        }
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

    pub(super) fn started(&mut self, now: Time, id: ServiceId, out: &mut Vec<Action>) -> Fact {
        match self.state {
            State::Spawning { pid, .. } => {
                let awaits = Awaits::Readiness;
                let fail_at = now + self.start_timeout();
                self.state = State::Starting {
                    pid,
                    since: now,
                    awaits,
                    fail_at,
                };
                self.care_begins(now);
                if self.is_ready_at_once() {
                    self.ready(now, id, out);
                }
                Ok(())
            }
            State::Stopping { .. } => Ok(()),
            State::Inactive
            | State::Blocked { .. }
            | State::Preparing { .. }
            | State::Forking
            | State::Starting { .. }
            | State::Running { .. }
            | State::Clearing { .. }
            | State::Trailing { .. }
            | State::Backoff { .. }
            | State::Exited { .. }
            | State::Failed { .. } => Err(Misfit("a program that started twice")),
        }
    }

    /// Readiness by health takes as long as its probes may.
    fn start_timeout(&self) -> Duration {
        let own = self.spec.lifecycle.start_timeout;
        match (&self.spec.readiness, &self.spec.health) {
            (Readiness::Health, Some(health)) => {
                let probes = health.interval.saturating_add(health.timeout);
                let probes = probes.saturating_mul(health.retries);
                let needed = health.start_period.saturating_add(probes);
                own.max(needed.saturating_add(PROBE_GRACE))
            }
            (
                Readiness::Spawn
                | Readiness::Exit
                | Readiness::Health
                | Readiness::Notify
                | Readiness::Fd(_)
                | Readiness::Log(_),
                _,
            ) => own,
        }
    }

    /// It asks for more time.
    pub(super) fn extend(&mut self, now: Time, by: Duration) {
        match &mut self.state {
            State::Starting {
                awaits: Awaits::Readiness,
                fail_at,
                ..
            } => *fail_at = (*fail_at).max(now + by),
            State::Stopping {
                force: Force::Hook | Force::Polite,
                kill_at,
                ..
            } => *kill_at = (*kill_at).max(now + by),
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
            | State::Failed { .. } => {}
        }
    }

    /// Another process is its main one from now on.
    pub(super) fn handover(&mut self, to: Pid) {
        match &mut self.state {
            State::Starting { pid, .. }
            | State::Running { pid: Some(pid), .. }
            | State::Stopping { pid, .. } => *pid = to,
            State::Inactive
            | State::Blocked { .. }
            | State::Preparing { .. }
            | State::Forking
            | State::Spawning { .. }
            | State::Running { pid: None, .. }
            | State::Clearing { .. }
            | State::Trailing { .. }
            | State::Backoff { .. }
            | State::Exited { .. }
            | State::Failed { .. } => {}
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
            | State::Preparing { .. }
            | State::Forking
            | State::Starting { .. }
            | State::Running { .. }
            | State::Clearing { .. }
            | State::Trailing { .. }
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
        let by_itself = End::of(exit, &self.spec.lifecycle.success_exit);
        let (end, force, kill_at) = match self.state {
            State::Spawning { .. } => (by_itself, Force::Polite, polite),
            State::Starting { .. } => {
                // One that waits to be found healthy may end well before that, as with zinit 0.3.9.
                let is_probed = self.spec.readiness == Readiness::Health;
                let end = match by_itself {
                    End::Success(_) if !self.spec.is_oneshot() && !is_probed => {
                        End::Failure(Failure::Unready)
                    }
                    End::Asked(_) | End::Success(_) | End::Failure(_) => by_itself,
                };
                (end, Force::Polite, polite)
            }
            State::Running { pid: Some(_), .. } => {
                self.forget_restarts(now);
                (by_itself, Force::Polite, polite)
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
            | State::Preparing { .. }
            | State::Forking
            | State::Running { pid: None, .. }
            | State::Clearing { .. }
            | State::Trailing { .. }
            | State::Backoff { .. }
            | State::Exited { .. }
            | State::Failed { .. } => return Err(Misfit("an exit of a process it does not have")),
        };
        self.clear(end, force, kill_at, Round::Main, id, out);
        Ok(())
    }

    /// A run that was long enough has its restarts forgotten.
    pub(super) fn forget_restarts(&mut self, now: Time) {
        if let State::Running { since, .. } = self.state
            && now.since(since) >= self.spec.lifecycle.stability_period
        {
            self.restarts = Restarts::default();
        }
    }

    /// What is left of a run is ended too. Its stop hook may go on until then.
    pub(super) fn clear(
        &mut self,
        end: End,
        force: Force,
        kill_at: Time,
        round: Round,
        id: ServiceId,
        out: &mut Vec<Action>,
    ) {
        self.state = State::Clearing {
            end,
            force,
            kill_at,
            round,
        };
        if force != Force::Hook {
            self.hook = None;
            let (service, signal) = (id, self.signal(force));
            out.push(Action::Sweep { service, signal });
        }
    }

    pub(super) fn cleared(&mut self, now: Time, id: ServiceId, out: &mut Vec<Action>) -> Fact {
        match self.state {
            State::Clearing {
                force: Force::Hook, ..
            } => Err(Misfit("cleared while its stop hook runs")),
            State::Clearing { end, round, .. } => {
                match (round, &self.spec.hooks.post_stop) {
                    (Round::Main, Some(hook)) => {
                        let until = now + hook.timeout;
                        self.run_hook(Hook::PostStop, id, out);
                        self.state = State::Trailing { end, until };
                    }
                    (Round::Main, None) | (Round::Hook, _) => self.ended(now, end),
                }
                Ok(())
            }
            // It was given up before the last of it died, and may have become a target since.
            State::Inactive
            | State::Running { pid: None, .. }
            | State::Blocked { .. }
            | State::Preparing { .. }
            | State::Backoff { .. }
            | State::Exited { .. }
            | State::Failed { .. } => Ok(()),
            State::Forking
            | State::Spawning { .. }
            | State::Starting { .. }
            | State::Running { pid: Some(_), .. }
            | State::Stopping { .. }
            | State::Trailing { .. } => Err(Misfit("cleared while it runs")),
        }
    }

    pub(super) fn deadline_passed(
        &mut self,
        now: Time,
        id: ServiceId,
        out: &mut Vec<Action>,
    ) -> Fact {
        let (signal, kill_at) = (Signal::KILL, now + KILL_GRACE);
        let late = |hook| {
            let fault = Fault::TimedOut;
            Failure::Hook { hook, fault }
        };
        match self.state {
            State::Preparing { .. } => {
                self.recall_hook(id, out);
                let end = End::Failure(late(Hook::PreStart));
                self.clear(end, Force::Polite, self.polite(now), Round::Main, id, out);
            }
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
            State::Starting { awaits, .. } => {
                self.recall_hook(id, out);
                let failure = match awaits {
                    Awaits::Readiness => Failure::StartTimeout,
                    Awaits::Hook => late(Hook::PostStart),
                };
                self.fall(now, failure, id, out);
            }
            State::Stopping {
                force: Force::Hook, ..
            }
            | State::Clearing {
                force: Force::Hook, ..
            } => {
                self.recall_hook(id, out);
                self.press(now, id, out);
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
                round,
                ..
            } => self.clear(end, Force::Kill, kill_at, round, id, out),
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
            State::Trailing { end, .. } => {
                self.recall_hook(id, out);
                self.clear(end, Force::Polite, self.polite(now), Round::Hook, id, out);
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
            Want::Down | Want::Call | Want::Gone => State::Exited { end },
            Want::Cycle => State::Blocked {
                hold: Hold::Waiting,
            },
            Want::Up => match end {
                End::Asked(_) => State::Blocked {
                    hold: Hold::Waiting,
                },
                End::Success(_) => self.restart_or(now, end, State::Exited { end }),
                End::Failure(why) => self.restart_or(now, end, State::Failed { why }),
            },
        };
    }

    fn restart_or(&mut self, now: Time, end: End, last: State) -> State {
        let failed = matches!(end, End::Failure(_));
        match self.restarts.take(&self.spec, failed, self.salt) {
            Some(delay) => State::Backoff {
                until: now + delay,
                end,
            },
            None => last,
        }
    }

    pub(super) fn signal(&self, force: Force) -> Signal {
        match force {
            Force::Hook | Force::Polite => self.spec.lifecycle.stop_signal,
            Force::Kill => Signal::KILL,
        }
    }
}
