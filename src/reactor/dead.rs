//! Who has ended: told while their numbers still mean them, and collected after that.

use super::Reactor;
use crate::engine::Event;
use crate::sys::signals::Notice;
use crate::sys::{clock, process};

/// Dead children in one turn; the sockets are looked at between.
const DEAD_A_TURN: usize = 256;

/// Signals that a turn takes in: somebody may send them as fast as they are read.
const SIGNALS_A_TURN: usize = 8;

impl Reactor {
    /// Says whether a child may have ended.
    pub(super) fn take_signals(&mut self) -> bool {
        let mut dead = false;
        for _ in 0..SIGNALS_A_TURN {
            let Some(notice) = self.signals.take_next() else {
                return dead;
            };
            if notice == Notice::Child {
                dead = true;
            } else {
                self.notice(notice);
            }
        }
        self.more_signals = true;
        dead
    }

    /// Tells the engine of each dead child while its number still means it, then collects it.
    pub(super) fn take_dead(&mut self) {
        for _ in 0..DEAD_A_TURN {
            let (pid, exit) = match process::look_for_dead() {
                Ok(Some(dead)) => dead,
                Ok(None) => return self.sweep_again(),
                Err(errno) => {
                    log::error!("waitid: {errno}; looking again");
                    break;
                }
            };
            self.families.stale();
            if let Some(service) = self.supervisor.service_of(pid) {
                let inbox = &mut self.inbox;
                self.runs.before_exit(service, &mut |event| {
                    inbox.push_back(event);
                });
                self.handle_inbox();
                self.hear();
                self.handle_inbox();
                self.hand_over(service, pid);
                let name = self.name(service);
                let exit = self.runs.note_exit(service, &name, exit);
                self.inbox.push_back(Event::Exited { pid, exit });
                self.handle_inbox();
            } else {
                self.runs.sinks.keeper.ended(clock::now(), pid);
                self.errand_ends(pid, exit);
                self.handle_inbox();
            }
            self.shell_ends(pid);
            process::collect(pid);
        }
        self.more_dead = true;
        self.sweep_again();
    }

    /// Somebody has died: is that all there was of a service that is being cleared?
    pub(super) fn sweep_again(&mut self) {
        self.families.stale();
        for (service, signal) in self.families.sweeping() {
            self.sweep(service, signal);
        }
        self.handle_inbox();
    }
}
