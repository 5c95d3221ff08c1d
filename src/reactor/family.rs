//! Which processes belong to which service, and how they are ended.
//!
//! A service is its main process and all that descend from it. Whoever loses its parent becomes
//! the server's own child (it is their subreaper), so all that is not under a main process is
//! under an orphan, and an orphan is known by the mark in its environment, by its session or
//! process group, or by the pipe it writes to. So a look costs one list of our own children, and
//! the size of the tree it finds.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::spec::KillMode;
use crate::engine::{Pid, ServiceId, Signal, Supervisor};
use crate::sys::kill;
use crate::sys::procfs::{self, Children, Stat};

/// The variable that marks a process as a service's: `SERVER:SERVICE`, one for each server it is
/// under, the innermost last.
pub(super) const MARK: &str = "ZINIT_MARK";

/// Rounds of one kill: a process that forks while it is being killed is caught in the next.
const ROUNDS: usize = 8;

/// Everybody's processes.
#[derive(Debug)]
pub(super) struct Families {
    children: Children,
    /// This server's part of a mark.
    server: String,
    /// The session of each run, which is its main process's number, also after that has ended.
    sessions: BTreeMap<Pid, ServiceId>,
    /// The same by service.
    mains: BTreeMap<ServiceId, Pid>,
    /// Inodes of the pipes that services write to.
    pipes: BTreeMap<u64, ServiceId>,
    /// Our children that are no main process, and whose they are.
    orphans: BTreeMap<Pid, Orphan>,
    /// Is `orphans` as of now?
    fresh: bool,
    /// Services whose main process has ended, while something is left of them.
    sweeping: BTreeMap<ServiceId, Signal>,
    /// Who was asked politely already and is not asked again.
    asked: BTreeMap<ServiceId, BTreeSet<(Pid, u64)>>,
}

#[derive(Clone, Copy, Debug)]
struct Orphan {
    start: u64,
    service: Option<ServiceId>,
}

impl Families {
    /// Nobody's processes yet. `server` tells this server's marks from others'.
    #[must_use]
    pub(super) fn new(server: String) -> Self {
        Self {
            children: Children::new(),
            server,
            sessions: BTreeMap::new(),
            mains: BTreeMap::new(),
            pipes: BTreeMap::new(),
            orphans: BTreeMap::new(),
            fresh: false,
            sweeping: BTreeMap::new(),
            asked: BTreeMap::new(),
        }
    }

    /// The value of [`MARK`] for a service's processes.
    #[must_use]
    pub(super) fn mark(&self, name: &str) -> String {
        let own = format!("{}:{name}", self.server);
        // A server that is itself a service keeps its own supervisor's mark on what it starts.
        std::env::var(MARK).map_or_else(|_| own.clone(), |outer| format!("{outer},{own}"))
    }

    /// A service has a new main process, with a session of that number, writing to these pipes.
    pub(super) fn began(&mut self, service: ServiceId, main: Pid, pipes: [u64; 2]) {
        self.forget_session(service);
        self.sessions.insert(main, service);
        self.mains.insert(service, main);
        self.pipes.extend(pipes.map(|inode| (inode, service)));
    }

    /// Nobody writes to this pipe any more.
    pub(super) fn pipe_closed(&mut self, inode: u64) {
        self.pipes.remove(&inode);
    }

    /// The service is no more.
    pub(super) fn removed(&mut self, service: ServiceId) {
        self.sweeping.remove(&service);
        self.forget_session(service);
    }

    fn forget_session(&mut self, service: ServiceId) {
        self.asked.remove(&service);
        if let Some(main) = self.mains.remove(&service)
            && self.sessions.get(&main) == Some(&service)
        {
            self.sessions.remove(&main);
        }
    }

    /// Things have happened since the last look.
    pub(super) fn stale(&mut self) {
        self.fresh = false;
        self.children.refresh();
    }

    /// A child was collected.
    pub(super) fn collected(&mut self, pid: Pid) {
        self.orphans.remove(&pid);
    }

    /// Signals what `mode` says of a service whose main process lives.
    pub(super) fn kill(
        &mut self,
        all: &Supervisor,
        service: ServiceId,
        main: Pid,
        mode: KillMode,
        signal: Signal,
    ) {
        if mode == KillMode::Main {
            kill::kill_child(main, signal);
            return;
        }
        let mut done = BTreeSet::new();
        for _ in 0..ROUNDS {
            let found = self.members(all, service, Some(main), mode);
            let new: Vec<Stat> = found
                .into_iter()
                .filter(|stat| done.insert((stat.pid, stat.start)))
                .collect();
            if new.is_empty() {
                break;
            }
            new.iter()
                .for_each(|stat| self.signal(service, stat, signal));
            if signal != Signal::KILL {
                break;
            }
            self.stale();
        }
    }

    /// Signals what an ended main process left behind. Says whether nothing is left.
    pub(super) fn sweep(
        &mut self,
        all: &Supervisor,
        service: ServiceId,
        mode: KillMode,
        signal: Signal,
    ) -> bool {
        let mut done = BTreeSet::new();
        for _ in 0..ROUNDS {
            let left = match mode {
                KillMode::Main => Vec::new(),
                KillMode::Tree | KillMode::Group => self.members(all, service, None, mode),
            };
            if left.is_empty() {
                self.sweeping.remove(&service);
                self.asked.remove(&service);
                return true;
            }
            let new: Vec<Stat> = left
                .into_iter()
                .filter(|stat| done.insert((stat.pid, stat.start)))
                .collect();
            if new.is_empty() {
                break;
            }
            new.iter()
                .for_each(|stat| self.signal(service, stat, signal));
            if signal != Signal::KILL {
                break;
            }
            self.stale();
        }
        self.sweeping.insert(service, signal);
        false
    }

    /// Who is being swept, and with what.
    #[must_use]
    pub(super) fn sweeping(&self) -> Vec<(ServiceId, Signal)> {
        self.sweeping
            .iter()
            .map(|(service, signal)| (*service, *signal))
            .collect()
    }

    /// A service is not waiting to be cleared any more.
    pub(super) fn give_up(&mut self, service: ServiceId) {
        self.sweeping.remove(&service);
        self.asked.remove(&service);
    }

    /// All descendants of a main process.
    pub(super) fn descendants(&mut self, main: Pid) -> Vec<Stat> {
        let family = self.children.family(vec![main]);
        family
            .into_iter()
            .skip(1)
            .filter_map(procfs::stat)
            .collect()
    }

    /// The children of a main process.
    pub(super) fn children(&mut self, main: Pid) -> Vec<Stat> {
        self.children
            .of(main)
            .into_iter()
            .filter_map(procfs::stat)
            .collect()
    }

    /// Whose process this is, if it is an orphan of a service.
    #[must_use]
    pub(super) fn owner(&mut self, all: &Supervisor, pid: Pid) -> Option<ServiceId> {
        let mut at = pid;
        // A chain of parents ends at the server or at the top.
        for _ in 0..1024 {
            if let Some(service) = all.service_of(at) {
                return Some(service);
            }
            self.take_stock(all);
            if let Some(orphan) = self.orphans.get(&at) {
                return orphan.service;
            }
            at = Pid::new(procfs::stat(at)?.ppid)?;
        }
        None
    }

    /// Kills whatever is still under the server when it ends, but what a service was meant to
    /// leave behind.
    pub(super) fn kill_rest(&mut self, all: &Supervisor) -> bool {
        self.stale();
        self.take_stock(all);
        let stays = |service: Option<ServiceId>| {
            let mode = service
                .and_then(|id| all.service(id))
                .map(|found| found.spec().lifecycle.kill_mode);
            matches!(mode, Some(KillMode::Main | KillMode::Group))
        };
        let roots: Vec<Pid> = self
            .orphans
            .iter()
            .filter(|(_, orphan)| !stays(orphan.service))
            .map(|(pid, _)| *pid)
            .collect();
        let living: Vec<Stat> = self
            .children
            .family(roots)
            .into_iter()
            .filter_map(procfs::stat)
            .filter(|stat| !stat.is_dead())
            .collect();
        living.iter().for_each(|stat| {
            kill::kill(stat, Signal::KILL);
        });
        living.is_empty()
    }

    /// Processes of an earlier server of the same socket, which did not live to stop them.
    #[must_use]
    pub(super) fn left_by_predecessor(&self) -> Vec<Stat> {
        let own = std::process::id();
        procfs::all_pids()
            .filter(|pid| pid.number().unsigned_abs() != own && self.marked_service(*pid).is_some())
            .filter_map(procfs::stat)
            .filter(|stat| !stat.is_dead())
            .collect()
    }

    fn signal(&mut self, service: ServiceId, stat: &Stat, signal: Signal) {
        if signal != Signal::KILL
            && !self
                .asked
                .entry(service)
                .or_default()
                .insert((stat.pid, stat.start))
        {
            return;
        }
        kill::kill(stat, signal);
        // A stopped process takes note of anything but SIGKILL only when it goes on.
        if signal != Signal::KILL && matches!(stat.state, 'T' | 't') {
            kill::kill(stat, Signal::CONT);
        }
    }

    /// The living processes of a service.
    fn members(
        &mut self,
        all: &Supervisor,
        service: ServiceId,
        main: Option<Pid>,
        mode: KillMode,
    ) -> Vec<Stat> {
        self.take_stock(all);
        let orphans = self
            .orphans
            .iter()
            .filter(|(_, orphan)| orphan.service == Some(service))
            .map(|(pid, _)| *pid);
        let roots: Vec<Pid> = main.into_iter().chain(orphans).collect();
        if roots.is_empty() {
            return Vec::new();
        }
        let session = self.mains.get(&service).map(|main| main.number());
        let family = self.children.family(roots);
        family
            .into_iter()
            .filter_map(procfs::stat)
            .filter(|stat| !stat.is_dead())
            .filter(|stat| mode != KillMode::Group || Some(stat.group) == session)
            .collect()
    }

    /// Brings `orphans` up to now. Each is looked at closely once.
    fn take_stock(&mut self, all: &Supervisor) {
        if self.fresh {
            return;
        }
        let own: BTreeSet<Pid> = self
            .children
            .own()
            .into_iter()
            .filter(|pid| all.service_of(*pid).is_none())
            .collect();
        self.orphans.retain(|pid, _| own.contains(pid));
        for pid in own {
            if let Some(stat) = procfs::stat(pid)
                && self
                    .orphans
                    .get(&pid)
                    .is_none_or(|known| known.start != stat.start)
            {
                let service = self.attribute(all, &stat);
                self.orphans.insert(
                    pid,
                    Orphan {
                        start: stat.start,
                        service,
                    },
                );
            }
        }
        self.fresh = true;
    }

    fn attribute(&self, all: &Supervisor, stat: &Stat) -> Option<ServiceId> {
        let of = |number: i32| {
            Pid::new(number)
                .and_then(|pid| self.sessions.get(&pid))
                .copied()
        };
        let marked = || {
            self.marked_service(stat.pid)
                .and_then(|name| all.find(&name))
        };
        let piped = || {
            procfs::standard_descriptors(stat.pid).find_map(|inode| self.pipes.get(&inode).copied())
        };
        of(stat.session)
            .or_else(|| of(stat.group))
            .or_else(marked)
            .or_else(piped)
    }

    fn marked_service(&self, pid: Pid) -> Option<String> {
        let value = procfs::environment_variable(pid, MARK)?;
        value.split(',').find_map(|mark| {
            let (server, name) = mark.split_once(':')?;
            (server == self.server).then(|| name.to_owned())
        })
    }
}
