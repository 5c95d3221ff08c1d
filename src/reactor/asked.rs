//! Who of a service was asked to end. Nobody is asked twice: a second time may be taken for
//! impatience, and things are left undone.

use super::family::HIDDEN;
use crate::engine::{Pid, Signal};
use crate::sys::kill;
use crate::sys::process;
use crate::sys::procfs::{self, Stat};

/// A process for good: its number and when it started.
pub(super) type Identity = (Pid, u64);

/// All who were, since its last start. SIGKILL does not ask.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Sorted.
    processes: Vec<Identity>,
    /// Process groups that were asked as a whole, because `/proc` does not show who is in them.
    groups: Vec<Pid>,
}

impl Asked {
    /// Signals a process that was seen.
    pub(super) fn signal(&mut self, stat: &Stat, signal: Signal) {
        if signal == Signal::KILL {
            kill::kill(stat, signal);
            return;
        }
        let is_its = |group: &Pid| group.number() == stat.group;
        match self.processes.binary_search(&(stat.pid, stat.start)) {
            Err(place) => {
                self.processes.insert(place, (stat.pid, stat.start));
                if !self.groups.iter().any(is_its) {
                    kill::kill(stat, signal);
                }
            }
            Ok(_) if procfs::has_lost(stat.pid, signal) => drop(kill::kill(stat, signal)),
            Ok(_) => return,
        }
        // A stopped process takes note of anything but SIGKILL only when it goes on.
        if matches!(stat.state, 'T' | 't') {
            kill::kill(stat, Signal::CONT);
        }
    }

    /// Signals a process group as a whole. False if there is none.
    pub(super) fn signal_group(&mut self, leader: Pid, signal: Signal) -> bool {
        if signal == Signal::KILL {
            return kill::kill_group(leader, signal);
        }
        if self.groups.contains(&leader) {
            return true;
        }
        let is_there = kill::kill_group(leader, signal);
        if is_there {
            self.groups.push(leader);
        }
        is_there
    }

    /// Signals a child that `/proc` does not show.
    pub(super) fn signal_hidden(&mut self, pid: Pid, signal: Signal) {
        if signal != Signal::KILL {
            let Err(place) = self.processes.binary_search(&(pid, HIDDEN)) else {
                return;
            };
            self.processes.insert(place, (pid, HIDDEN));
            let [_, group] = process::session_and_group(pid);
            if group.is_some_and(|group| self.groups.contains(&group)) {
                return;
            }
        }
        kill::kill_child(pid, signal);
    }
}
