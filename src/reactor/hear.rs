//! What services say of themselves by `sd_notify(3)`: who may, and what follows.

use super::Reactor;
use crate::config::{Saying, sayings};
use crate::engine::{Event, Pid, ServiceId, State};
use crate::sys::notify::Datagram;
use crate::sys::procfs;

/// Longest status that is kept.
const STATUS_CHARS: usize = 512;

impl Reactor {
    /// Hears all that was said since the last time.
    pub(super) fn hear(&mut self) {
        let said = self.runs.take_said();
        if !said.is_empty() {
            self.families.stale();
        }
        for (service, datagram) in said {
            if self.main_of(service).is_none() {
                continue;
            }
            if !self.may_speak(service, &datagram) {
                let name = self.name(service);
                log::warn!(
                    "{name}: a stranger spoke for it (uid {}): ignored",
                    datagram.uid
                );
                continue;
            }
            for saying in sayings(&datagram.text) {
                // What comes behind a new main process is about that.
                if let Some(pid) = self.main_of(service) {
                    self.heard(service, pid, saying);
                }
            }
        }
    }

    fn main_of(&self, service: ServiceId) -> Option<Pid> {
        self.supervisor.service(service)?.state().pid()
    }

    /// Only the service itself may: a process of its own or, if that has ended already, one of a
    /// user who might be it.
    fn may_speak(&mut self, service: ServiceId, datagram: &Datagram) -> bool {
        let Some(pid) = datagram.pid else {
            return false;
        };
        match self.families.owner(&self.supervisor, pid) {
            Some(owner) => owner == service,
            None if procfs::stat(pid).is_some_and(|stat| !stat.is_dead()) => false,
            None => {
                let main = self.main_of(service);
                let main = main.and_then(procfs::user);
                datagram.uid == 0 || main == Some(datagram.uid)
            }
        }
    }

    fn heard(&mut self, service: ServiceId, pid: Pid, saying: Saying) {
        let said = self.said.or_default(service);
        let event = match saying {
            Saying::Ready => {
                said.doing = None;
                Event::Ready { pid }
            }
            Saying::Reloading => {
                said.doing = Some("reloading");
                return;
            }
            Saying::Stopping => {
                said.doing = Some("stopping");
                return;
            }
            Saying::Status(text) => {
                said.status = Some(text.chars().take(STATUS_CHARS).collect());
                return;
            }
            Saying::MainPid(number) => {
                let to = Pid::new(number).filter(|to| *to != pid);
                match to {
                    Some(to) => self.successors.insert(service, to),
                    None => drop(self.successors.remove(service)),
                }
                return self.hand_over(service, pid);
            }
            Saying::Ping => Event::Ping { pid },
            Saying::Trouble => Event::Trouble { pid },
            Saying::Within(within) => Event::Watch { pid, within },
            Saying::Extend(by) => Event::Extend { pid, by },
        };
        self.inbox.push_back(event);
    }

    /// Makes the process that a service named its main one, if it is ours to wait for: from the
    /// moment its parent has ended.
    pub(super) fn hand_over(&mut self, service: ServiceId, pid: Pid) {
        let Some(to) = self.successors.get(service).copied() else {
            return;
        };
        self.families.stale();
        let is_own = self.families.is_child(to);
        let is_its = self.families.owner(&self.supervisor, to) == Some(service);
        let runs = self.supervisor.service(service).is_some_and(|found| {
            matches!(
                found.state(),
                State::Starting { .. } | State::Running { .. } | State::Stopping { .. }
            )
        });
        if is_own && is_its && runs {
            log::info!("{}: its main process is {to} now", self.name(service));
            self.successors.remove(service);
            self.families.handed_over(service, to);
            self.note_in_ledger(service, to);
            self.inbox.push_back(Event::Handover { pid, to });
            self.handle_inbox();
        }
    }
}
