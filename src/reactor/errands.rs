//! Hooks and probes: short pieces of work beside the main process of a service. A hook or an exec
//! probe is a process, known by its number until it is collected; other probes are connections
//! (`probes.rs`).

use std::rc::Rc;
use std::time::Duration;

use super::Reactor;
use super::deeds::Deed;
use super::probes::Verdict;
use crate::engine::spec::{Exec, Hook, Probe};
use crate::engine::{
    Errand, ErrandId, Event, Exit, Fault, Pid, Report, ServiceId, Spec, Table, Time,
};
use crate::rpc::view::{self, Note};
use crate::sys::clock;

/// When an errand for which the machine has no process is tried again. The engine says how often:
/// it recalls one that is late.
const AGAIN: Duration = Duration::from_millis(250);

/// Errands that are out, and what probes brought.
#[derive(Debug, Default)]
pub(super) struct Errands {
    out: Vec<Out>,
    postponed: Vec<Postponed>,
    /// What the last probes of services said.
    notes: Table<Note>,
}

/// An errand that is a process.
#[derive(Debug)]
struct Out {
    service: ServiceId,
    errand: ErrandId,
    what: Errand,
    pid: Pid,
    since: Time,
}

/// An errand for which there was no process yet.
#[derive(Debug)]
struct Postponed {
    service: ServiceId,
    errand: ErrandId,
    what: Errand,
    /// None while it is being tried.
    due: Option<Time>,
}

impl Errands {
    /// When one is to be tried again.
    pub(super) fn next_look(&self) -> Option<Time> {
        self.postponed.iter().filter_map(|one| one.due).min()
    }

    /// An errand that has not set out yet does so for nobody.
    pub(super) fn forget(&mut self, service: ServiceId) {
        self.postponed.retain(|one| one.service != service);
    }

    fn is_over(&mut self, service: ServiceId, errand: ErrandId) {
        let is_it = |one: &Postponed| (one.service, one.errand) == (service, errand);
        self.postponed.retain(|one| !is_it(one));
    }

    /// Says whether that is the first time.
    fn postpone(&mut self, service: ServiceId, errand: ErrandId, what: Errand) -> bool {
        let known = self.postponed.len();
        self.is_over(service, errand);
        let is_new = self.postponed.len() == known;
        self.postponed.push(Postponed {
            service,
            errand,
            what,
            due: Some(clock::now() + AGAIN),
        });
        is_new
    }

    /// What the last probes brought.
    pub(super) fn notes(&self) -> &Table<Note> {
        &self.notes
    }

    /// The service is no more.
    pub(super) fn removed(&mut self, service: ServiceId) {
        self.notes.remove(service);
        self.forget(service);
    }

    fn take(&mut self, is_it: impl Fn(&Out) -> bool) -> Option<Out> {
        let place = self.out.iter().position(is_it)?;
        Some(self.out.swap_remove(place))
    }
}

impl Reactor {
    /// Sets out on an errand.
    pub(super) fn set_out(&mut self, service: ServiceId, errand: ErrandId, what: Errand) {
        let Some(found) = self.supervisor.service(service) else {
            return;
        };
        let (spec, main) = (Rc::clone(found.spec()), found.state().pid());
        match what {
            Errand::Probe => {
                let Some(health) = &spec.health else { return };
                match &health.probe {
                    Probe::Exec(line) => {
                        let exec = Exec::Line(line.clone());
                        self.run_errand(service, errand, what, &spec, &exec, main);
                    }
                    Probe::Tcp(_) | Probe::Http { .. } => {
                        let registry = self.poll.registry();
                        let sent = self.probes.send(service, errand, &health.probe, registry);
                        if let Some(verdict) = sent {
                            self.probed(verdict);
                        }
                    }
                }
            }
            Errand::Hook(hook) => {
                let Some(run) = spec.hooks.get(hook) else {
                    // Its definition has changed in between: there is nothing to be done.
                    return self.returned(service, errand, Report::Success);
                };
                let program = spec.program().filter(|_| hook == Hook::PreStart);
                if program.is_some_and(|program| self.is_obstructed(service, &spec, program)) {
                    return self.inbox.push_back(Event::Obstructed { service });
                }
                let exec = run.exec.clone();
                self.run_errand(service, errand, what, &spec, &exec, main);
            }
        }
    }

    fn run_errand(
        &mut self,
        service: ServiceId,
        errand: ErrandId,
        what: Errand,
        spec: &Spec,
        exec: &Exec,
        main: Option<Pid>,
    ) {
        let registry = self.poll.registry();
        let is_quiet = what == Errand::Probe;
        let families = &mut self.families;
        let spawned = self.runs.spawn_errand(
            (service, errand),
            spec,
            (exec, is_quiet),
            main,
            families,
            registry,
        );
        match spawned {
            Ok(pid) => {
                self.errands.is_over(service, errand);
                self.errands.out.push(Out {
                    service,
                    errand,
                    what,
                    pid,
                    since: clock::now(),
                });
            }
            // That says nothing of the service.
            Err((error, true)) => {
                if self.errands.postpone(service, errand, what) {
                    let text = report_text(spec, what, Report::NotRun(error));
                    let what = match what {
                        Errand::Probe => "probe",
                        Errand::Hook(hook) => hook.name(),
                    };
                    log::warn!("{}: {what}: {text}; trying again", spec.name);
                }
            }
            Err((error, false)) => {
                self.errand_over(service, errand, what, Report::NotRun(error), None);
            }
        }
    }

    /// Tries those again for which there was no process.
    pub(super) fn try_again(&mut self, now: Time) {
        for one in &mut self.errands.postponed {
            if one.due.is_some_and(|due| due <= now) {
                one.due = None;
                self.deeds.push_back(Deed::Errand {
                    service: one.service,
                    errand: one.errand,
                    what: one.what,
                });
            }
        }
    }

    /// Ends an errand; nobody waits for what comes of it any more.
    pub(super) fn recall(&mut self, service: ServiceId, errand: ErrandId) {
        self.errands.is_over(service, errand);
        self.deeds.retain(|deed| match deed {
            Deed::Errand {
                service: of,
                errand: known,
                ..
            } => (*of, *known) != (service, errand),
            Deed::Spawn { .. } | Deed::Kill { .. } => true,
        });
        // It is late, unless its service goes down.
        let found = self.supervisor.service(service);
        let is_late = found.is_some_and(|found| found.state().has_program());
        if self.probes.recall(service, errand) && is_late {
            self.note_failure(service, "no answer in time".to_owned(), true);
        }
        let is_it = |out: &Out| (out.service, out.errand) == (service, errand);
        if let Some(out) = self.errands.take(is_it) {
            self.families
                .kill_errand(&self.supervisor, service, errand, out.pid);
            match out.what {
                Errand::Probe if is_late => {
                    self.note_failure(service, "no result in time".to_owned(), true);
                }
                Errand::Probe => {}
                Errand::Hook(hook) => {
                    let name = self.name(service);
                    log::warn!("{name}: {} hook: ended before it was done", hook.name());
                }
            }
        }
    }

    /// A child has ended that is not the main process of a service: was it out on an errand?
    pub(super) fn errand_ends(&mut self, pid: Pid, exit: Exit) {
        self.families.errand_ended(pid);
        let out = self.errands.out.iter().find(|out| out.pid == pid);
        if let Some(service) = out.map(|out| out.service) {
            self.runs.before_errand_ends(service, pid);
        }
        let (not_run, last_line) = self.runs.take_errand(pid);
        let Some(out) = self.errands.take(|out| out.pid == pid) else {
            return;
        };
        let report = match (not_run, exit) {
            (Some(error), _) => Report::NotRun(error),
            (None, Exit::Code(0)) => Report::Success,
            (None, exit) => Report::Ended(exit),
        };
        if out.what == Errand::Probe {
            let took = clock::now().since(out.since).as_millis();
            self.note_latency(out.service, u64::try_from(took).unwrap_or(u64::MAX));
        }
        self.errand_over(out.service, out.errand, out.what, report, last_line);
    }

    fn errand_over(
        &mut self,
        service: ServiceId,
        errand: ErrandId,
        what: Errand,
        report: Report,
        last_line: Option<String>,
    ) {
        if report != Report::Success {
            let found = self.supervisor.service(service);
            let text = found.map(|found| report_text(found.spec(), what, report));
            let text = text.unwrap_or_default();
            match what {
                Errand::Probe => {
                    let said = last_line.map(|line| format!("{text}: {line}"));
                    self.note_failure(service, said.unwrap_or(text), false);
                }
                Errand::Hook(hook) => {
                    log::warn!("{}: {} hook {text}", self.name(service), hook.name());
                }
            }
        }
        self.returned(service, errand, report);
    }

    /// A connection that probed a service has come to an end.
    pub(super) fn probed(&mut self, verdict: Verdict) {
        let Verdict {
            service,
            errand,
            latency_ms,
            error,
        } = verdict;
        self.note_latency(service, latency_ms);
        let report = match error {
            None => Report::Success,
            Some(text) => {
                self.note_failure(service, text, false);
                Report::Failed
            }
        };
        self.returned(service, errand, report);
    }

    fn returned(&mut self, service: ServiceId, errand: ErrandId, report: Report) {
        self.inbox.push_back(Event::Returned {
            service,
            errand,
            report,
        });
    }

    fn note_latency(&mut self, service: ServiceId, ms: u64) {
        self.errands.notes.or_default(service).latency_ms = Some(ms);
    }

    fn note_failure(&mut self, service: ServiceId, text: String, is_late: bool) {
        let note = self.errands.notes.or_default(service);
        if is_late {
            note.latency_ms = None;
        }
        // A service that stays ill says so once, not every second.
        let is_new = note.error.as_ref().is_none_or(|(known, _)| *known != text);
        let shown = is_new.then(|| text.clone());
        note.error = Some((text, clock::unix_ms()));
        if let Some(text) = shown {
            log::info!("{}: probe: {text}", self.name(service));
        }
    }

    /// The name of a service, for a line of the log.
    pub(super) fn name(&self, service: ServiceId) -> Rc<str> {
        let found = self.supervisor.service(service);
        found.map_or_else(|| Rc::from("-"), |found| Rc::clone(&found.spec().name))
    }
}

fn report_text(spec: &Spec, what: Errand, report: Report) -> String {
    let probe = match spec.health.as_ref().map(|health| &health.probe) {
        Some(Probe::Exec(line)) => Some(Exec::Line(line.clone())),
        Some(Probe::Tcp(_) | Probe::Http { .. }) | None => None,
    };
    let exec = match what {
        Errand::Hook(hook) => spec.hooks.get(hook).map(|hook| &hook.exec),
        Errand::Probe => probe.as_ref(),
    };
    match report {
        Report::Success => String::new(),
        Report::Failed => "failed".to_owned(),
        Report::Ended(exit) => view::fault_text(spec, exec, Fault::Ended(exit)),
        Report::NotRun(error) => view::fault_text(spec, exec, Fault::NotRun(error)),
    }
}
