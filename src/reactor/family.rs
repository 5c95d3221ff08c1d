//! Which processes belong to which service, and how they are ended.
//!
//! A service is its main process and all that descend from it. Whoever loses its parent becomes
//! the server's own child (it is their subreaper), so all that is not under a main process is
//! under an orphan, and an orphan is known by the mark in its environment, by its session or
//! process group, or by the pipe it writes to. So a look costs one list of our own children, and
//! the size of the tree it finds.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::asked::{Asked, Identity};
use crate::engine::spec::KillMode;
use crate::engine::{ErrandId, Pid, ServiceId, Signal, Supervisor, Table, Time};
use crate::sys::cgroup::Cgroups;
use crate::sys::kill;
use crate::sys::process;
use crate::sys::procfs::{self, Children, Stat};

/// The variable that marks a process as a service's: `SERVER:SERVICE`, one for each server it is
/// under, the innermost last.
pub(super) const MARK: &str = "ZINIT_MARK";

/// The variable that marks a process as one that a hook or probe has started, by its number.
pub(super) const ERRAND: &str = "ZINIT_ERRAND";

/// Rounds of one kill: a process that forks while it is being killed is caught in the next.
const ROUNDS: usize = 8;

/// Time until a second look at what a main process left behind. It may have taken the signal just
/// before it became its program, and forgotten it.
const FIRST_LOOK: Duration = Duration::from_millis(50);

/// Everybody's processes.
#[derive(Debug)]
pub(super) struct Families {
    children: Children,
    /// This server's part of a mark.
    server: String,
    of: Table<Family>,
    /// Whose session or process group has this number; also after the main process has ended.
    sessions: BTreeMap<Pid, ServiceId>,
    /// Whose hooks and probes these are.
    errands: BTreeMap<Pid, ServiceId>,
    cgroups: Rc<Cgroups>,
    /// Our children that are no main process, by number.
    orphans: Vec<Orphan>,
    /// Is `orphans` as of now?
    fresh: bool,
    /// Did nobody of them end while they were looked at? Whoever does leaves us its children.
    settled: bool,
    /// Services whose main process has ended, while something is left of them.
    sweeping: Vec<(ServiceId, Signal)>,
    /// When to look at them again.
    look: Time,
    look_pause: Duration,
}

/// What is known of a service's processes.
#[derive(Debug, Default)]
struct Family {
    /// Its name, which its cgroup has.
    name: Rc<str>,
    /// The first main process of its last run, whose number is that of its session.
    main: Option<Pid>,
    /// The main process that it has handed over to.
    successor: Option<Pid>,
    /// Inodes of the pipes it writes to, if its output is kept.
    pipes: Option<[u64; 2]>,
    /// Who was asked politely already.
    asked: Asked,
}

#[derive(Clone, Copy, Debug)]
struct Orphan {
    pid: Pid,
    start: u64,
    owner: Owner,
}

impl Orphan {
    fn is_hidden(&self) -> bool {
        self.start == HIDDEN
    }
}

/// The start of a child that `/proc` does not show; nothing starts with the kernel.
pub(super) const HIDDEN: u64 = 0;

/// Whose an orphan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// A service's.
    Service(ServiceId),
    /// No service's.
    Nobody,
    /// It can't be told at the moment: on its way through exec it shows no environment.
    Unsure,
    /// It can't be told any more: it is ending, and gone in a moment.
    Ending,
}

impl Owner {
    fn service(self) -> Option<ServiceId> {
        match self {
            Self::Service(service) => Some(service),
            Self::Nobody | Self::Unsure | Self::Ending => None,
        }
    }
}

impl Families {
    /// Nobody's processes yet. `server` tells this server's marks from others'.
    #[must_use]
    pub(super) fn new(server: String, cgroups: Rc<Cgroups>) -> Self {
        Self {
            children: Children::new(),
            server,
            of: Table::default(),
            sessions: BTreeMap::new(),
            errands: BTreeMap::new(),
            cgroups,
            orphans: Vec::new(),
            fresh: false,
            settled: true,
            sweeping: Vec::new(),
            look: Time::ZERO,
            look_pause: FIRST_LOOK,
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
    pub(super) fn began(
        &mut self,
        service: ServiceId,
        name: &Rc<str>,
        main: Pid,
        pipes: Option<[u64; 2]>,
    ) {
        self.forget_session(service);
        self.sessions.insert(main, service);
        self.of.insert(
            service,
            Family {
                name: Rc::clone(name),
                main: Some(main),
                successor: None,
                pipes,
                ..Family::default()
            },
        );
    }

    /// A hook or probe of a service has this process, with a session of that number.
    pub(super) fn errand_began(&mut self, service: ServiceId, pid: Pid) {
        self.errands.insert(pid, service);
        self.fresh = false;
    }

    /// That process has ended.
    pub(super) fn errand_ended(&mut self, pid: Pid) {
        self.errands.remove(&pid);
    }

    /// Kills a hook or probe, and all that it has started.
    pub(super) fn kill_errand(
        &mut self,
        all: &Supervisor,
        service: ServiceId,
        errand: ErrandId,
        pid: Pid,
    ) {
        let number = errand.0.to_string();
        for _ in 0..ROUNDS {
            self.stale();
            self.take_stock(all);
            let of_it = |orphan: &&Orphan| {
                let is_its = orphan.owner == Owner::Service(service);
                is_its && procfs::environment_variable(orphan.pid, ERRAND).as_ref() == Some(&number)
            };
            let orphans = self.orphans.iter().filter(of_it).map(|orphan| orphan.pid);
            let roots = [pid].into_iter().chain(orphans).collect();
            let family = self.children.family(roots);
            let living = family.into_iter().filter_map(procfs::stat);
            let living = living.filter(|stat| !stat.is_dead());
            let killed = living.filter(|stat| kill::kill(stat, Signal::KILL)).count();
            if killed == 0 {
                break;
            }
        }
        kill::kill_group(pid, Signal::KILL);
        kill::kill_child(pid, Signal::KILL);
    }

    /// The service is no more.
    pub(super) fn removed(&mut self, service: ServiceId) {
        self.forget_session(service);
        self.of.remove(service);
        self.give_up(service);
    }

    fn forget_session(&mut self, service: ServiceId) {
        let family = self.of.get_mut(service);
        let known = family.map(|family| (family.main, family.successor.take()));
        let (main, successor) = known.unwrap_or_default();
        for pid in [main, successor].into_iter().flatten() {
            if self.sessions.get(&pid) == Some(&service) {
                self.sessions.remove(&pid);
            }
        }
    }

    /// Things have happened since the last look.
    pub(super) fn stale(&mut self) {
        self.fresh = false;
        self.children.refresh();
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
        } else {
            // Groups first: then it is known who was asked with them.
            self.signal_unseen_group(service, signal);
            // One that `/proc` does not show is a child of ours nevertheless, with a group of its own.
            let seen = procfs::stat(main).is_some();
            let asked = self.asked(service);
            if !seen && !asked.signal_group(main, signal) {
                asked.signal_hidden(main, signal);
            }
            self.signal_members(all, service, Some(main), mode, signal);
            self.signal_unseen(all, service, signal);
        }
    }

    /// Signals what an ended main process left behind. Says whether nothing is left.
    pub(super) fn sweep(
        &mut self,
        now: Time,
        all: &Supervisor,
        service: ServiceId,
        mode: KillMode,
        signal: Signal,
    ) -> bool {
        self.sweeping.retain(|(swept, _)| *swept != service);
        let mut left = false;
        if mode != KillMode::Main {
            left = self.signal_unseen_group(service, signal);
            left |= self.signal_members(all, service, None, mode, signal);
            left |= self.signal_unseen(all, service, signal);
        }
        // What is done for it ends with it, whatever may go on of it.
        let errands = self.errands.iter().filter(|(_, of)| **of == service);
        for (pid, _) in errands {
            left = true;
            if mode != KillMode::Tree && !kill::kill_group(*pid, signal) {
                kill::kill_child(*pid, signal);
            }
        }
        if mode == KillMode::Tree {
            // It may be one of this service's; its end is told in a moment, and looked at again.
            left |= self
                .orphans
                .iter()
                .any(|orphan| orphan.owner == Owner::Ending);
        }
        if left {
            if self.sweeping.is_empty() {
                self.look_pause = FIRST_LOOK;
                self.look = now + FIRST_LOOK;
            }
            self.sweeping.push((service, signal));
        } else if let Some(family) = self.of.get_mut(service) {
            family.asked = Asked::default();
            // With nobody left in it, the number of its session may be anybody's.
            if mode == KillMode::Tree {
                self.forget_session(service);
            }
        }
        !left
    }

    /// Signals the orphans of a service that `/proc` hides. Says whether there are any.
    fn signal_unseen(&mut self, all: &Supervisor, service: ServiceId, signal: Signal) -> bool {
        self.take_stock(all);
        let is_its =
            |orphan: &&Orphan| orphan.is_hidden() && orphan.owner.service() == Some(service);
        let hidden = self.orphans.iter().filter(is_its);
        let hidden: Vec<Pid> = hidden.map(|orphan| orphan.pid).collect();
        for pid in &hidden {
            self.asked(service).signal_hidden(*pid, signal);
        }
        !hidden.is_empty()
    }

    /// Where `/proc` shows nobody at all, signals who is in the group of the main process. The number
    /// of that is nobody else's as long as a child of ours has it. Says whether there is anybody.
    fn signal_unseen_group(&mut self, service: ServiceId, signal: Signal) -> bool {
        let main = self.of.get(service).and_then(|family| family.main);
        let main = main.filter(|main| self.sessions.get(main) == Some(&service));
        match main {
            Some(main) if !procfs::shows_us() && process::has_child_in(main) => {
                self.asked(service).signal_group(main, signal);
                true
            }
            Some(_) | None => false,
        }
    }

    /// Signals every living process of a service, with SIGKILL also those that were made while it
    /// was at it. Says whether there was any at the last look.
    fn signal_members(
        &mut self,
        all: &Supervisor,
        service: ServiceId,
        main: Option<Pid>,
        mode: KillMode,
        signal: Signal,
    ) -> bool {
        let mut done: Vec<Identity> = Vec::new();
        if signal == Signal::KILL
            && mode == KillMode::Tree
            && let Some(family) = self.of.get(service)
        {
            self.cgroups.kill(&family.name);
        }
        for _ in 0..ROUNDS {
            let Some(found) = self.members(all, service, main, mode) else {
                return true;
            };
            let is_new = |stat: &&Stat| done.binary_search(&(stat.pid, stat.start)).is_err();
            let new: Vec<&Stat> = found.iter().filter(is_new).collect();
            if new.is_empty() {
                return !found.is_empty();
            }
            for stat in new {
                self.asked(service).signal(stat, signal);
            }
            if signal != Signal::KILL {
                return true;
            }
            done = found.iter().map(|stat| (stat.pid, stat.start)).collect();
            done.sort_unstable();
            self.stale();
        }
        true
    }

    fn asked(&mut self, service: ServiceId) -> &mut Asked {
        &mut self.of.or_default(service).asked
    }

    /// Who is being swept, and with what.
    #[must_use]
    pub(super) fn sweeping(&self) -> Vec<(ServiceId, Signal)> {
        self.sweeping.clone()
    }

    /// When to look at them again without being told of an end: soon, then more and more rarely.
    #[must_use]
    pub(super) fn next_look(&self) -> Option<Time> {
        (!self.sweeping.is_empty()).then_some(self.look)
    }

    /// Is it time to look again? From then on it is so after a longer while.
    pub(super) fn is_look_due(&mut self, now: Time) -> bool {
        let due = self.next_look().is_some_and(|look| look <= now);
        if due {
            self.look_pause *= 2;
            self.look = now + self.look_pause;
        }
        due
    }

    /// A service is not waiting to be cleared any more.
    pub(super) fn give_up(&mut self, service: ServiceId) {
        self.sweeping.retain(|(swept, _)| *swept != service);
    }

    /// All descendants of a main process, by number.
    pub(super) fn descendants(&mut self, main: Pid) -> Vec<Stat> {
        let mut family = {
            let children = self.children.of(main);
            self.children.family(children)
        };
        family.sort_unstable();
        family.into_iter().filter_map(procfs::stat).collect()
    }

    /// Another process is the main one from now on, and may lead a session of its own.
    pub(super) fn handed_over(&mut self, service: ServiceId, to: Pid) {
        self.sessions.insert(to, service);
        let before = self.of.or_default(service).successor.replace(to);
        if let Some(before) = before {
            self.sessions.remove(&before);
        }
    }

    /// Is it a child of the server's?
    pub(super) fn is_child(&mut self, pid: Pid) -> bool {
        self.children.own().contains(&pid)
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
            if let Some(orphan) = self.orphan(at) {
                return orphan.owner.service();
            }
            at = Pid::new(procfs::stat(at)?.ppid)?;
        }
        None
    }

    /// Signals whatever is still under the server when it ends, but what a service was meant to
    /// leave behind, with `switch` what survives a switch of root, and what keeps a root file system
    /// alive and says so by an `@` (systemd's "Storage Daemons for the Root File System"). Says
    /// whether nothing is there any more.
    pub(super) fn end_rest(
        &mut self,
        all: &Supervisor,
        switch: bool,
        signal: Option<Signal>,
        spared: Option<Pid>,
    ) -> bool {
        self.stale();
        self.take_stock(all);
        let stays = |service: Option<ServiceId>| {
            let found = service.and_then(|id| all.service(id));
            found.is_some_and(|found| {
                let life = &found.spec().lifecycle;
                let survives = switch && life.survive_switch_root;
                survives || matches!(life.kill_mode, KillMode::Main | KillMode::Group)
            })
        };
        let gone = self
            .orphans
            .iter()
            .filter(|orphan| !stays(orphan.owner.service()) && spared != Some(orphan.pid));
        let roots: Vec<Pid> = gone.map(|orphan| orphan.pid).collect();
        let living: Vec<Stat> = self
            .children
            .family(roots)
            .into_iter()
            .filter_map(procfs::stat)
            .filter(|stat| !stat.is_dead() && !procfs::command_line(stat.pid).starts_with('@'))
            .collect();
        for stat in &living {
            signal.map(|signal| kill::kill(stat, signal));
        }
        let is_hidden = |orphan: &&Orphan| orphan.is_hidden() && !stays(orphan.owner.service());
        let hidden: Vec<&Orphan> = self.orphans.iter().filter(is_hidden).collect();
        for orphan in &hidden {
            signal.map(|signal| kill::kill_child(orphan.pid, signal));
        }
        self.settled && living.is_empty() && hidden.is_empty()
    }

    /// The living processes of a service; none if that can't be told, as they hand over from one to
    /// the next faster than they are looked at.
    fn members(
        &mut self,
        all: &Supervisor,
        service: ServiceId,
        main: Option<Pid>,
        mode: KillMode,
    ) -> Option<Vec<Stat>> {
        let mut roots = self.roots(all, service, main);
        for _ in 0..ROUNDS {
            let mut family = self.children.family(roots.clone());
            if mode == KillMode::Tree
                && let Some(known) = self.of.get(service)
            {
                // Whatever one did to hide, it did not leave its cgroup.
                family.sort_unstable();
                let hidden = self.cgroups.members(&known.name).into_iter();
                let hidden: Vec<Pid> = hidden
                    .filter(|pid| family.binary_search(pid).is_err())
                    .collect();
                family.extend(hidden);
            }
            if family.is_empty() {
                return self.settled.then(Vec::new);
            }
            let mut living: Vec<Stat> = family.into_iter().filter_map(procfs::stat).collect();
            living.retain(|stat| !stat.is_dead());
            if !living.is_empty() {
                if mode == KillMode::Group {
                    let session = self.of.get(service).and_then(|family| family.main);
                    let session = session.map(Pid::number);
                    // A main process that was handed over to may lead a group of its own.
                    let other = main.and_then(procfs::stat).map(|stat| stat.group);
                    let groups = [session, other];
                    living.retain(|stat| groups.contains(&Some(stat.group)));
                }
                return Some(living);
            }
            // A root that died while it was looked at has left us its children.
            self.stale();
            let now = self.roots(all, service, main);
            if now == roots {
                return self.settled.then(Vec::new);
            }
            roots = now;
        }
        None
    }

    /// The main process of a service, if it lives, and its orphans.
    fn roots(&mut self, all: &Supervisor, service: ServiceId, main: Option<Pid>) -> Vec<Pid> {
        self.take_stock(all);
        let orphans = self
            .orphans
            .iter()
            .filter(|orphan| orphan.owner == Owner::Service(service));
        main.into_iter()
            .chain(orphans.map(|orphan| orphan.pid))
            .collect()
    }

    /// Brings `orphans` up to now.
    fn take_stock(&mut self, all: &Supervisor) {
        for _ in 0..ROUNDS {
            if self.fresh {
                return;
            }
            self.settled = self.look_at_orphans(all);
            self.fresh = self.settled;
            self.children.refresh();
        }
        self.fresh = true;
    }

    /// Each is looked at closely until it is sure whose it is. Says whether nobody has ended
    /// meanwhile who was not known: its children may have come after the look.
    fn look_at_orphans(&mut self, all: &Supervisor) -> bool {
        let mut own = self.children.own();
        own.retain(|pid| all.service_of(*pid).is_none());
        own.sort_unstable();
        let mut settled = true;
        let mut orphans = Vec::with_capacity(own.len());
        for pid in own {
            let Some(stat) = procfs::stat(pid) else {
                let owner = self.owner_of_hidden(pid);
                orphans.push(Orphan {
                    pid,
                    start: HIDDEN,
                    owner,
                });
                continue;
            };
            let known = self.orphan(stat.pid).filter(|known| {
                known.start == stat.start
                    && matches!(known.owner, Owner::Service(_) | Owner::Nobody)
            });
            orphans.push(known.copied().unwrap_or_else(|| {
                let owner = self.attribute(all, &stat);
                settled &= owner != Owner::Ending && !(owner == Owner::Nobody && stat.is_dead());
                Orphan {
                    pid,
                    start: stat.start,
                    owner,
                }
            }));
        }
        self.orphans = orphans;
        settled
    }

    fn orphan(&self, pid: Pid) -> Option<&Orphan> {
        let place = self
            .orphans
            .binary_search_by_key(&pid, |orphan| orphan.pid)
            .ok()?;
        self.orphans.get(place)
    }

    /// Whose a child is that `/proc` does not show.
    fn owner_of_hidden(&self, pid: Pid) -> Owner {
        let found = process::session_and_group(pid).into_iter().flatten();
        let mut found = found.filter_map(|number| self.sessions.get(&number));
        found
            .next()
            .map_or(Owner::Nobody, |service| Owner::Service(*service))
    }

    fn attribute(&self, all: &Supervisor, stat: &Stat) -> Owner {
        let of = |number: i32| {
            Pid::new(number)
                .and_then(|pid| self.sessions.get(&pid))
                .copied()
        };
        let marked = || {
            self.marked_service(stat.pid)
                .and_then(|name| all.find(&name))
        };
        let piped = || procfs::standard_descriptors(stat.pid).find_map(|inode| self.writer(inode));
        let found = self
            .errands
            .get(&stat.pid)
            .copied()
            .or_else(|| of(stat.session))
            .or_else(|| of(stat.group))
            .or_else(marked)
            .or_else(piped);
        match found {
            Some(service) => Owner::Service(service),
            None if stat.is_dead() => Owner::Nobody,
            None if !stat.has_memory => Owner::Ending,
            None if procfs::has_environment(stat.pid) => Owner::Nobody,
            None if procfs::stat(stat.pid).is_none_or(|now| now.is_dead()) => Owner::Ending,
            None => Owner::Unsure,
        }
    }

    /// Whose output this pipe is.
    fn writer(&self, inode: u64) -> Option<ServiceId> {
        let mut families = self.of.iter();
        families
            .find(|(_, family)| family.pipes.is_some_and(|pipes| pipes.contains(&inode)))
            .map(|(service, _)| service)
    }

    pub(super) fn marked_service(&self, pid: Pid) -> Option<String> {
        let value = procfs::environment_variable(pid, MARK)?;
        value.split(',').find_map(|mark| {
            let (server, name) = mark.split_once(':')?;
            (server == self.server).then(|| name.to_owned())
        })
    }
}
