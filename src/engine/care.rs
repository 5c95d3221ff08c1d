//! What a service is given while its program runs: probes of its health, a watchdog, and a reload.
//!
//! A probe is an errand: sent when it is due, recalled when it is late, and what comes of one that
//! was recalled is nobody's. All of it begins with a run and ends with it.

use std::time::Duration;

use super::service::Service;
use super::spec::{Hook, OnUnhealthy, Readiness};
use super::state::{Awaits, Failure, Fault, State};
use super::{Action, Errand, ErrandId, Exit, Report, ServiceId, Time};

/// The least time between two probes, however long the first one took.
const LEAST_PAUSE: Duration = Duration::from_millis(1);

/// The first pause between probes of a service that is not up yet. Each next one is as long as it
/// has taken so far, up to the interval.
const EAGER_PAUSE: Duration = Duration::from_millis(50);

/// How a service is cared for in this run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Care {
    /// The probe that is out, and when it was sent.
    pub probe: Option<(ErrandId, Time)>,
    /// When the next probe is sent, or the one that is out is late.
    pub probe_at: Option<Time>,
    /// Failures in a row.
    pub failures: u32,
    /// The last of them, by when its probe was sent.
    pub counted: Option<Time>,
    /// What the probes say.
    pub health: Health,
    /// How long it may be silent, as it said itself.
    pub within: Option<Duration>,
    /// When it has been silent for too long.
    pub silent_at: Option<Time>,
    /// What became of a reload.
    pub refresh: Refresh,
}

/// What the probes say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// Nothing yet.
    #[default]
    Unknown,
    /// It is well.
    Healthy {
        /// Since when.
        since: Time,
    },
    /// It is not.
    Unhealthy {
        /// Since when.
        since: Time,
    },
}

/// What became of having it read its configuration anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refresh {
    /// Nobody asked.
    #[default]
    None,
    /// Its hook runs.
    Under {
        /// As this errand.
        errand: ErrandId,
        /// When that is too late.
        until: Time,
    },
    /// It was done.
    Done,
    /// It failed like that.
    Failed(Fault),
}

impl Care {
    /// How the last reload failed, if it did.
    #[must_use]
    pub const fn reload_fault(&self) -> Option<Fault> {
        match self.refresh {
            Refresh::Failed(fault) => Some(fault),
            Refresh::None | Refresh::Under { .. } | Refresh::Done => None,
        }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let refresh = match self.refresh {
            Refresh::Under { until, .. } => Some(until),
            Refresh::None | Refresh::Done | Refresh::Failed(_) => None,
        };
        let all = [self.probe_at, self.silent_at, refresh];
        all.into_iter().flatten().min()
    }

    /// The run is over, or about to be.
    pub(super) fn end(&mut self, service: ServiceId, out: &mut Vec<Action>) {
        let refresh = match self.refresh {
            Refresh::Under { errand, .. } => Some(errand),
            Refresh::None | Refresh::Done | Refresh::Failed(_) => None,
        };
        let probe = self.probe.map(|(errand, _)| errand);
        for errand in [probe, refresh].into_iter().flatten() {
            out.push(Action::Recall { service, errand });
        }
        *self = Self {
            refresh: match self.refresh {
                // It went down with the service.
                Refresh::Under { .. } => Refresh::Failed(Fault::Ended(Exit::Signal(15))),
                Refresh::None | Refresh::Done | Refresh::Failed(_) => self.refresh,
            },
            ..Self::default()
        };
    }
}

impl Service {
    /// Its program runs.
    pub(super) fn care_begins(&mut self, now: Time) {
        self.care = Care::default();
        if self.spec.readiness == Readiness::Health {
            self.probing_begins(now);
        }
    }

    /// It is up.
    pub(super) fn care_goes_on(&mut self, now: Time) {
        if self.care.probe.is_none() && self.care.probe_at.is_none() {
            self.probing_begins(now);
        }
        self.heard(now);
    }

    fn probing_begins(&mut self, now: Time) {
        let health = self.spec.health.as_ref();
        self.care.probe_at = health.map(|health| now + health.start_period);
    }

    /// Its spec is another one; what that says of probes is so from now on.
    pub(super) fn care_changes(&mut self, now: Time, id: ServiceId, out: &mut Vec<Action>) {
        if !self.state.has_program() {
            return;
        }
        if let Some((errand, _)) = self.care.probe.take() {
            let service = id;
            out.push(Action::Recall { service, errand });
        }
        let is_up = matches!(self.state, State::Running { .. });
        if is_up || self.spec.readiness == Readiness::Health {
            self.probing_begins(now);
        } else {
            self.care.probe_at = None;
        }
        self.heard(now);
        if self.is_ready_at_once() {
            self.ready(now, id, out);
        }
    }

    /// Is it ready when its program runs?
    pub(super) fn is_ready_at_once(&self) -> bool {
        let at_once = match self.spec.readiness {
            Readiness::Spawn | Readiness::Exit => true,
            Readiness::Health => self.spec.health.is_none(),
            Readiness::Notify | Readiness::Fd(_) | Readiness::Log(_) => false,
        };
        at_once || self.spec.is_oneshot()
    }

    /// It was heard of: from now on it may be silent for its time again.
    pub(super) fn heard(&mut self, now: Time) {
        let is_up = matches!(self.state, State::Running { pid: Some(_), .. });
        let within = self.care.within.or(self.spec.watchdog);
        self.care.silent_at = within.filter(|_| is_up).map(|within| now + within);
    }

    /// It says how long it may be silent.
    pub(super) fn watch(&mut self, now: Time, within: Duration) {
        if self.state.has_program() {
            self.care.within = Some(within).filter(|within| !within.is_zero());
            self.heard(now);
        }
    }

    pub(super) fn care_due(&mut self, now: Time, id: ServiceId, out: &mut Vec<Action>) {
        let due = |at: Option<Time>| at.is_some_and(|at| at <= now);
        if due(self.care.silent_at) {
            return self.fall(now, Failure::Watchdog, id, out);
        }
        if let Refresh::Under { errand, until } = self.care.refresh
            && until <= now
        {
            self.care.refresh = Refresh::Failed(Fault::TimedOut);
            let service = id;
            out.push(Action::Recall { service, errand });
        }
        if !due(self.care.probe_at) {
            return;
        }
        let Some(health) = &self.spec.health else {
            self.care.probe_at = None;
            return;
        };
        let service = id;
        if let Some((errand, _)) = self.care.probe {
            out.push(Action::Recall { service, errand });
            return self.probed(now, Report::Failed, id, out);
        }
        let late = now + health.timeout;
        let errand = self.send(Errand::Probe, id, out);
        self.care.probe = Some((errand, now));
        self.care.probe_at = Some(late);
    }

    /// A probe has come back, or is late.
    fn probed(&mut self, now: Time, report: Report, id: ServiceId, out: &mut Vec<Action>) {
        let Some(health) = &self.spec.health else {
            return;
        };
        let (retries, on_unhealthy) = (health.retries, health.on_unhealthy);
        let sent = self.care.probe.take().map_or(now, |(_, sent)| sent);
        // Until it is up it is asked more often, which counts no more often.
        let pause = match self.state {
            State::Starting { since, .. } => now.since(since).max(EAGER_PAUSE).min(health.interval),
            State::Inactive
            | State::Blocked { .. }
            | State::Preparing { .. }
            | State::Forking
            | State::Spawning { .. }
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Clearing { .. }
            | State::Trailing { .. }
            | State::Backoff { .. }
            | State::Exited { .. }
            | State::Failed { .. } => health.interval,
        };
        let counts = self
            .care
            .counted
            .is_none_or(|at| sent >= at + health.interval);
        let next = (sent + pause).max(now + LEAST_PAUSE);
        self.care.probe_at = Some(next);
        let well = report == Report::Success;
        let service = id;
        if well {
            self.care.failures = 0;
            self.care.counted = None;
            if !matches!(self.care.health, Health::Healthy { .. }) {
                self.care.health = Health::Healthy { since: now };
                out.push(Action::Health {
                    service,
                    healthy: true,
                });
            }
            if self.spec.readiness == Readiness::Health {
                self.ready(now, id, out);
            }
            return;
        }
        if !counts {
            return;
        }
        self.care.counted = Some(sent);
        self.care.failures = self.care.failures.saturating_add(1);
        if self.care.failures < retries {
            return;
        }
        if !matches!(self.care.health, Health::Unhealthy { .. }) {
            self.care.health = Health::Unhealthy { since: now };
            out.push(Action::Health {
                service,
                healthy: false,
            });
        }
        if on_unhealthy == OnUnhealthy::Restart {
            let attempts = self.care.failures;
            self.fall(now, Failure::Health { attempts }, id, out);
        }
    }

    /// Its reload hook is run.
    pub(super) fn run_reload(&mut self, now: Time, id: ServiceId, out: &mut Vec<Action>) {
        let Some(hook) = &self.spec.hooks.reload else {
            return;
        };
        let until = now + hook.timeout;
        if let Refresh::Under { errand, .. } = self.care.refresh {
            let service = id;
            out.push(Action::Recall { service, errand });
        }
        let errand = self.send(Errand::Hook(Hook::Reload), id, out);
        self.care.refresh = Refresh::Under { errand, until };
    }

    /// It was told by a signal.
    pub(super) fn reloaded(&mut self) {
        self.care.refresh = Refresh::Done;
    }

    /// An errand has come back; says whether it was one of these.
    pub(super) fn care_returned(
        &mut self,
        now: Time,
        errand: ErrandId,
        report: Report,
        id: ServiceId,
        out: &mut Vec<Action>,
    ) -> bool {
        if self.care.probe.is_some_and(|(known, _)| known == errand) {
            self.probed(now, report, id, out);
            return true;
        }
        match self.care.refresh {
            Refresh::Under { errand: known, .. } if known == errand => {
                self.care.refresh = match report {
                    Report::Success => Refresh::Done,
                    Report::Failed => Refresh::Failed(Fault::Ended(Exit::Code(1))),
                    Report::Ended(exit) => Refresh::Failed(Fault::Ended(exit)),
                    Report::NotRun(error) => Refresh::Failed(Fault::NotRun(error)),
                };
                true
            }
            Refresh::Under { .. } | Refresh::None | Refresh::Done | Refresh::Failed(_) => false,
        }
    }

    /// It says that it is ready. That counts if it is for the program to say.
    pub(super) fn says_ready(&mut self, now: Time, id: ServiceId, out: &mut Vec<Action>) {
        match self.spec.readiness {
            Readiness::Notify | Readiness::Fd(_) | Readiness::Log(_) => self.ready(now, id, out),
            Readiness::Spawn | Readiness::Exit | Readiness::Health => {}
        }
    }

    /// It is ready, as far as its program is concerned.
    pub(super) fn ready(&mut self, now: Time, id: ServiceId, out: &mut Vec<Action>) {
        let State::Starting {
            pid,
            since,
            awaits: Awaits::Readiness,
            ..
        } = self.state
        else {
            return;
        };
        match self.spec.hooks.post_start.as_ref() {
            None => {
                self.state = State::Running {
                    pid: Some(pid),
                    since: now,
                };
                self.care_goes_on(now);
            }
            Some(hook) => {
                let fail_at = now + hook.timeout;
                self.run_hook(Hook::PostStart, id, out);
                self.state = State::Starting {
                    pid,
                    since,
                    awaits: Awaits::Hook,
                    fail_at,
                };
            }
        }
    }
}
