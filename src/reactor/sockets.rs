//! Sockets of services: opened before a service starts, kept over its restarts, and watched while a
//! connection is to start it (`[socket]` of zinit-service(5)).

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry};

use super::Reactor;
use super::place::Place;
use super::probes::describe;
use super::proxies::Proxies;
use crate::engine::spec::Program;
use crate::engine::{Address, Event, ServiceId, SpawnError, State, Step, Table, Time};
use crate::sys::{clock, stream};

/// So many calls within this time, and the next one has to wait: a service that ends without taking
/// its connections would be started without end.
const CALLS_MOST: u32 = 20;
const CALLS_SPAN: Duration = Duration::from_secs(2);

/// How long it waits.
const CALLS_PAUSE: Duration = Duration::from_secs(1);

/// Connections that are turned away at once.
const TURNED_AWAY: usize = 4096;

/// Who may write to a Unix socket if its service does not say.
const MODE: u32 = 0o666;

/// The sockets of all services.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    of: Table<Vec<Open>>,
    /// Whose each watched one is.
    watched: Vec<Option<ServiceId>>,
    /// Who was called in this turn.
    called: Vec<ServiceId>,
    /// How often a service was called of late.
    calls: Table<(Time, u32)>,
    /// Who is not called before this time, when the watch is set again.
    paused: Vec<(ServiceId, Time)>,
    /// Was an address given up? Another service may have wanted it.
    is_freed: bool,
}

#[derive(Debug)]
struct Open {
    address: Address,
    socket: OwnedFd,
    mode: u32,
    /// Its place among those that are watched.
    watch: Option<usize>,
}

impl Open {
    /// It has these rights from now on.
    fn set_mode(&mut self, mode: u32) -> std::io::Result<()> {
        if self.mode != mode {
            stream::set_mode(&self.address, mode)?;
            self.mode = mode;
        }
        Ok(())
    }
}

impl Sockets {
    /// A connection has come to a watched one.
    pub(super) fn ready(&mut self, place: usize) {
        let service = self.watched.get(place).copied().flatten();
        self.called.extend(service);
    }

    /// Opens what is missing and closes what is not wanted any more; what goes wrong is told by the
    /// place of the address.
    fn open(
        &mut self,
        service: ServiceId,
        program: &Program,
        proxies: &Proxies,
        registry: &Registry,
    ) -> Result<(), (usize, std::io::Error)> {
        let wanted = &program.sockets.listen;
        if wanted.is_empty() && self.of.get(service).is_none() {
            return Ok(());
        }
        let mode = program.sockets.mode.unwrap_or(MODE);
        let mut before = self.of.remove(service).unwrap_or_default();
        let mut now = Vec::with_capacity(wanted.len());
        let mut wrong = None;
        for (place, address) in wanted.iter().enumerate() {
            let known = before.iter().position(|open| open.address == *address);
            let open = match known {
                // With the rights it had it goes on, but not in silence.
                Some(known) => {
                    let mut open = before.swap_remove(known);
                    let changed = open.set_mode(mode);
                    wrong = wrong.or(changed.err().map(|error| (place, error)));
                    Ok(open)
                }
                // Our own are not connected to in order to see whether they are there.
                None if self.holds(address) || proxies.holds(address) => Err(stream::in_use()),
                None => stream::listen(address, mode).map(|socket| Open {
                    address: address.clone(),
                    socket,
                    mode,
                    watch: None,
                }),
            };
            match open {
                Ok(open) => now.push(open),
                Err(error) => wrong = wrong.or(Some((place, error))),
            }
        }
        for open in before {
            self.close(open, registry);
        }
        if !now.is_empty() {
            self.of.insert(service, now);
        }
        wrong.map_or(Ok(()), Err)
    }

    /// Is one of them there?
    pub(super) fn holds(&self, address: &Address) -> bool {
        let mut all = self.of.iter().flat_map(|(_, all)| all);
        all.any(|open| open.address == *address)
    }

    fn close(&mut self, mut open: Open, registry: &Registry) {
        self.unwatch(&mut open, registry);
        stream::remove(&open.address);
        self.is_freed = true;
    }

    fn unwatch(&mut self, open: &mut Open, registry: &Registry) {
        if let Some(place) = open.watch.take() {
            let _ = registry.deregister(&mut SourceFd(&open.socket.as_raw_fd()));
            self.watched[place] = None;
        }
    }

    /// A connection to one of them is to start the service, or is not any more.
    fn watch(&mut self, service: ServiceId, is_watched: bool, registry: &Registry) {
        let mut all = self.of.remove(service).unwrap_or_default();
        let mut is_blind = false;
        for open in &mut all {
            self.unwatch(open, registry);
            if !is_watched {
                continue;
            }
            let free = self.watched.iter().position(Option::is_none);
            let place = free.unwrap_or(self.watched.len());
            let token = Place::Socket(place).token();
            let number = open.socket.as_raw_fd();
            let _ = stream::set_waiting(open.socket.as_fd(), false);
            match registry.register(&mut SourceFd(&number), token, Interest::READABLE) {
                Ok(()) => {
                    self.watched.resize(self.watched.len().max(place + 1), None);
                    self.watched[place] = Some(service);
                    open.watch = Some(place);
                }
                Err(error) => {
                    log::error!("{} can't be watched yet: {error}", open.address);
                    is_blind = true;
                }
            }
        }
        if !all.is_empty() {
            self.of.insert(service, all);
        }
        if is_blind && !self.is_paused(service) {
            self.paused.push((service, clock::now() + CALLS_PAUSE));
        }
    }

    fn is_paused(&self, service: ServiceId) -> bool {
        self.paused.iter().any(|(known, _)| *known == service)
    }

    /// Whoever waits to be taken is not.
    fn turn_away(&self, service: ServiceId) -> usize {
        let all = self.of.get(service).into_iter().flatten();
        let taken = all.map(|open| {
            let _ = stream::set_waiting(open.socket.as_fd(), false);
            let each = std::iter::from_fn(|| stream::accept(&open.socket).ok());
            each.take(TURNED_AWAY).count()
        });
        taken.sum()
    }

    /// Is it called more often than makes sense?
    fn is_called_too_often(&mut self, service: ServiceId, now: Time) -> bool {
        let known = self.calls.get(service).copied();
        let (since, count) = known
            .filter(|(since, _)| now.since(*since) < CALLS_SPAN)
            .unwrap_or((now, 0));
        self.calls.insert(service, (since, count + 1));
        count >= CALLS_MOST
    }

    /// When somebody's pause is over.
    #[must_use]
    pub(super) fn next_look(&self) -> Option<Time> {
        self.paused.iter().map(|(_, until)| *until).min()
    }

    fn take_rested(&mut self, now: Time) -> Vec<ServiceId> {
        let (rested, paused) = self.paused.iter().partition(|(_, until)| *until <= now);
        self.paused = paused;
        let rested: Vec<(ServiceId, Time)> = rested;
        rested.into_iter().map(|(service, _)| service).collect()
    }

    /// All go, and so do the files of those that have one.
    pub(super) fn close_all(&mut self) {
        for (_, open) in self.of.iter() {
            open.iter().for_each(|open| stream::remove(&open.address));
        }
        self.of = Table::default();
    }
}

impl Reactor {
    /// Opens and closes the sockets of all services as their definitions say now.
    pub(super) fn open_sockets(&mut self) {
        let all: Vec<_> = self.supervisor.services().map(|(id, _)| id).collect();
        self.open_sockets_of(&all);
    }

    /// The same, of these.
    pub(super) fn open_sockets_of(&mut self, services: &[ServiceId]) {
        let registry = self.poll.registry();
        for id in services.iter().copied() {
            let Some(service) = self.supervisor.service(id) else {
                continue;
            };
            let Some(program) = service.spec().program() else {
                continue;
            };
            // One that runs goes on with those it has; a change counts from its next start.
            let is_up = service.state().pid().is_some();
            if is_up && self.sockets.of.get(id).is_some() {
                continue;
            }
            if let Err((place, error)) = self.sockets.open(id, program, &self.proxies, registry) {
                let address = &program.sockets.listen[place];
                log::error!(
                    "{}: listen {address}: {}",
                    service.spec().name,
                    describe(&error)
                );
            }
            if service.awaits_call() && !self.sockets.is_paused(id) {
                self.sockets.watch(id, true, registry);
            }
        }
    }

    /// The sockets a service is to be started with.
    pub(super) fn sockets_of(
        &mut self,
        service: ServiceId,
        program: &Program,
    ) -> Result<Vec<OwnedFd>, SpawnError> {
        let failed = |place: usize, error: &std::io::Error| SpawnError {
            step: Step::Sockets,
            errno: error.raw_os_error().unwrap_or(nix::libc::EADDRINUSE),
            item: u8::try_from(place).unwrap_or(u8::MAX),
        };
        let registry = self.poll.registry();
        let opened = self.sockets.open(service, program, &self.proxies, registry);
        opened.map_err(|(place, error)| failed(place, &error))?;
        let all = self.sockets.of.get(service).into_iter().flatten();
        let passed = all.enumerate().map(|(place, open)| {
            let _ = stream::set_waiting(open.socket.as_fd(), true);
            open.socket
                .try_clone()
                .map_err(|error| failed(place, &error))
        });
        passed.collect()
    }

    /// Connections start a service from now on, or do not any more. Those that wait for one that
    /// has failed for good are told so; the next one is another try.
    pub(super) fn attend(&mut self, service: ServiceId, awaits: bool) {
        let state = self.supervisor.service(service).map(|found| found.state());
        if awaits && matches!(state, Some(State::Failed { .. })) {
            self.turn_away(service, "it has failed");
        }
        self.sockets.watch(service, awaits, self.poll.registry());
    }

    fn turn_away(&mut self, service: ServiceId, why: &str) {
        let count = self.sockets.turn_away(service);
        if count > 0 {
            let name = self.name(service);
            log::warn!("{name}: {count} connections turned away: {why}");
        }
    }

    /// Starts the services that somebody has connected to.
    pub(super) fn answer_calls(&mut self) {
        if std::mem::take(&mut self.sockets.is_freed) {
            self.open_sockets();
        }
        let now = clock::now();
        for service in self.sockets.take_rested(now) {
            let found = self.supervisor.service(service);
            if found.is_some_and(crate::engine::Service::awaits_call) {
                self.sockets.watch(service, true, self.poll.registry());
            }
        }
        let mut called = std::mem::take(&mut self.sockets.called);
        called.sort_unstable();
        called.dedup();
        for service in called {
            if self.sockets.is_called_too_often(service, now) {
                let name = self.name(service);
                log::warn!("{name}: called {CALLS_MOST} times in {CALLS_SPAN:?}; waits a moment");
                self.sockets.watch(service, false, self.poll.registry());
                self.sockets.paused.push((service, now + CALLS_PAUSE));
                continue;
            }
            log::info!("{}: somebody connects", self.name(service));
            self.inbox.push_back(Event::Called { service });
        }
        self.handle_inbox();
    }

    /// The sockets of a service that is no more.
    pub(super) fn sockets_removed(&mut self, service: ServiceId) {
        let registry = self.poll.registry();
        for open in self.sockets.of.remove(service).unwrap_or_default() {
            self.sockets.close(open, registry);
        }
        self.sockets.calls.remove(service);
    }
}
