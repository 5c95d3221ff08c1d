//! What an earlier server left, which was killed before it could stop it.

use super::family::Families;
use crate::engine::spec::KillMode;
use crate::sys::ledger::Entry;
use crate::sys::procfs::{self, Stat};

impl Families {
    /// Processes of an earlier server of the same socket, which was killed before it could stop
    /// them: the main ones, and what `mode` says belongs to them.
    pub(super) fn left_by_predecessor(
        &self,
        entries: &[Entry],
        mode: impl Fn(&str) -> KillMode,
    ) -> Vec<Stat> {
        let is_left = |stat: &Stat| {
            if entries.iter().any(|entry| entry.is(stat)) {
                return true;
            }
            let leads = |entry: &&Entry| entry.pid.number() == stat.session && leads_still(entry);
            let leader = entries.iter().find(leads);
            let marked = || self.marked_service(stat.pid);
            let name = leader.map(|entry| entry.name.clone()).or_else(marked);
            name.is_some_and(|name| match mode(&name) {
                KillMode::Tree => true,
                KillMode::Group => leader.is_some_and(|main| main.pid.number() == stat.group),
                KillMode::Main => false,
            })
        };
        let above = procfs::ancestors();
        let others = procfs::all_pids().filter(|pid| !above.contains(pid));
        others
            .filter_map(procfs::stat)
            .filter(|stat| !stat.is_dead() && is_left(stat))
            .collect()
    }
}

/// Is the session of that number still that of the process? It is if the process lives, and if it
/// has ended nobody else has got its number.
fn leads_still(entry: &Entry) -> bool {
    procfs::stat(entry.pid).is_none_or(|stat| entry.is(&stat))
}
