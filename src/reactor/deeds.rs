//! Actions that cost forks or looks at processes: a start, a kill, an errand, a sweep.

use std::ffi::CString;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::Reactor;
use super::role::Role;
use crate::engine::spec::Program;
use crate::engine::{
    Errand, ErrandId, Event, Pid, ServiceId, Signal, SpawnError, Spec, Step, Time,
};
use crate::sys::process::{self, Stdio};
use crate::sys::{clock, kill, procfs};

/// An action that costs forks or looks at processes.
#[derive(Debug)]
pub(super) enum Deed {
    Spawn {
        service: ServiceId,
    },
    Kill {
        service: ServiceId,
        pid: Pid,
        signal: Signal,
        asked: Time,
    },
    Errand {
        service: ServiceId,
        errand: ErrandId,
        what: Errand,
    },
}

/// A signal that is sent later than that after it was asked for is told to the engine.
const SOON: Duration = Duration::from_millis(10);

impl Deed {
    /// A kill goes before all others: the time of who is to end runs already.
    pub(super) const fn is_kill(&self) -> bool {
        match self {
            Self::Kill { .. } => true,
            Self::Spawn { .. } | Self::Errand { .. } => false,
        }
    }
}

impl Reactor {
    /// Takes on one, behind those of its kind.
    pub(super) fn take_on(&mut self, deed: Deed) {
        if deed.is_kill() {
            self.kills.push_back(deed);
        } else {
            self.deeds.push_back(deed);
        }
    }

    /// Does one.
    pub(super) fn accomplish(&mut self, deed: Deed) {
        match deed {
            Deed::Spawn { service } => {
                let fact = self.spawn(service);
                self.inbox.push_back(fact);
            }
            Deed::Errand {
                service,
                errand,
                what,
            } => self.set_out(service, errand, what),
            Deed::Kill {
                service,
                pid,
                signal,
                asked,
            } => {
                // The process may have ended, and its number be another's, while this was due.
                let found = self.supervisor.service(service);
                if let Some(found) = found.filter(|found| found.state().pid() == Some(pid)) {
                    if signal == Signal::KILL {
                        self.runs.note_kill(service);
                    }
                    let spec = found.spec();
                    let mode = spec.lifecycle.kill_mode;
                    let has_terminal = spec.program().is_some_and(|program| program.tty.is_some());
                    self.families
                        .kill(&self.supervisor, service, pid, mode, signal);
                    // A shell that talks to somebody takes a hang-up for an end, and nothing else.
                    if has_terminal && signal != Signal::KILL {
                        kill::kill_child(pid, Signal::HUP);
                    }
                    if clock::now().since(asked) > SOON {
                        self.inbox.push_back(Event::Signalled { pid });
                    }
                }
            }
        }
    }

    fn spawn(&mut self, service: ServiceId) -> Event {
        let gone = SpawnError {
            step: Step::Fork,
            errno: 0,
            item: 0,
        };
        let spec = self
            .supervisor
            .service(service)
            .map(|found| Rc::clone(found.spec()));
        let Some((spec, program)) = spec.as_ref().and_then(|spec| Some((spec, spec.program()?)))
        else {
            return Event::ForkFailed {
                service,
                error: gone,
                scarce: false,
            };
        };
        if self.is_obstructed(service, spec, program) {
            return Event::Obstructed { service };
        }
        self.said.remove(service);
        self.successors.remove(service);
        self.strangers.remove(service);
        let sockets = match self.sockets_of(service, program) {
            Ok(sockets) => sockets,
            Err(error) => {
                let scarce = process::is_scarcity(error);
                return Event::ForkFailed {
                    service,
                    error,
                    scarce,
                };
            }
        };
        let given = (self.stdio(spec, program), sockets);
        let registry = self.poll.registry();
        match self
            .runs
            .spawn(service, spec, given, &mut self.families, registry)
        {
            Ok(pid) => {
                self.note_in_ledger(service, pid);
                Event::Forked { service, pid }
            }
            Err((error, scarce)) => Event::ForkFailed {
                service,
                error,
                scarce,
            },
        }
    }

    /// Has the next server know of a main process, in case that this one is killed.
    pub(super) fn note_in_ledger(&mut self, service: ServiceId, pid: Pid) {
        let Some(found) = self.supervisor.service(service) else {
            return;
        };
        // Without its start it can't be told from who has its number later.
        let noted = self
            .door
            .as_mut()
            .zip(procfs::stat(pid))
            .map(|(door, main)| door.ledger.note(service.index(), &main, found.spec()));
        if let Some(Err(error)) = noted {
            log::warn!("the ledger beside the socket: {error}");
        }
    }

    /// Is a process outside in its way?
    pub(super) fn is_obstructed(
        &mut self,
        service: ServiceId,
        spec: &Spec,
        program: &Program,
    ) -> bool {
        let Some(text) = self.outside(service, program).text() else {
            return false;
        };
        // Looked at every other second, told once.
        if self.obstacles.get(service) != Some(&text) {
            log::warn!("{}: {text}", spec.name);
        }
        if program.kill_others {
            self.kill_others(service, program);
        }
        self.obstacles.insert(service, text);
        true
    }

    /// What a service's standard descriptors are.
    fn stdio(&self, spec: &Spec, program: &Program) -> Stdio {
        let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
        let is_main = self.files.is_main(&spec.name);
        if let Some(tty) = &program.tty {
            Stdio::Terminal(text(tty))
        } else if is_main && std::io::stdin().is_terminal() {
            Stdio::Own
        } else if spec.lifecycle.survive_switch_root && matches!(self.role, Role::Machine(_)) {
            // Nobody reads its pipes when this PID 1 has handed over.
            Stdio::File(text(Path::new("/dev/kmsg")))
        } else {
            Stdio::Kept { own_input: is_main }
        }
    }

    /// Ends what a main process left behind.
    pub(super) fn sweep(&mut self, service: ServiceId, signal: Signal) {
        // An errand that has not set out yet does so for nobody.
        self.errands.forget(service);
        self.deeds.retain(|deed| match deed {
            Deed::Errand { service: of, .. } => *of != service,
            Deed::Spawn { .. } | Deed::Kill { .. } => true,
        });
        let Some(found) = self.supervisor.service(service) else {
            return self.families.removed(service);
        };
        let mode = found.spec().lifecycle.kill_mode;
        if self
            .families
            .sweep(clock::now(), &self.supervisor, service, mode, signal)
        {
            self.inbox.push_back(Event::Cleared { service });
        }
    }
}
