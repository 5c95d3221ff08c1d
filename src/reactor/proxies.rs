//! Proxies: they listen for a service, start it for the first client, keep clients until it accepts
//! them, and stop it when nobody has been there for a while (`xinet.*`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use mio::event::Event as Readiness;
use mio::unix::SourceFd;
use mio::{Interest, Registry};

use super::links::{LinkId, Links, News};
use super::place::Place;
use super::probes::describe;
use super::sockets::Sockets;
use super::{Reactor, command};
use crate::engine::proxy::{Prospect, idle_until, prospect};
use crate::engine::{Address, Command, ProxySpec, ServiceId, State, Time};
use crate::sys::{clock, stream};

/// Clients of one proxy that are taken in one turn, and connections that are begun for them.
const CLIENTS_A_TURN: usize = 256;

/// Time between two tries to reach a backend that does not accept yet: the first, and the longest.
const FIRST_TRY: Duration = Duration::from_millis(10);
const LAST_TRY: Duration = Duration::from_millis(250);

/// Time before what needs a descriptor is tried again when there is none.
const STARVED: Duration = Duration::from_millis(100);

/// Who may connect to a Unix socket of a proxy.
const MODE: u32 = 0o666;

/// Time between two lines of the log about that.
const STARVED_TOLD: Duration = Duration::from_secs(10);

/// All of them.
#[derive(Debug)]
pub(super) struct Proxies {
    all: BTreeMap<Rc<str>, Proxy>,
    /// Those that are for a service, by its name.
    of_service: BTreeMap<Rc<str>, Vec<Rc<str>>>,
    /// Whose each entrance is.
    entrances: Vec<Option<Rc<str>>>,
    pub(super) links: Links,
    /// Entrances that clients may wait at.
    arrivals: Vec<usize>,
    /// Who is to be looked after in this turn.
    noted: BTreeSet<Rc<str>>,
    /// Who waits for a time.
    restless: BTreeMap<Rc<str>, Time>,
    /// When to try again what failed for want of descriptors.
    starved: Option<Time>,
    /// When that was told last.
    starved_told: Option<Time>,
}

/// One of them.
#[derive(Debug)]
struct Proxy {
    spec: ProxySpec,
    entrances: Vec<Entrance>,
    /// Clients that wait for the backend to accept, the first one first.
    waiting: VecDeque<LinkId>,
    /// Clients whose connection to the backend was begun.
    connecting: VecDeque<LinkId>,
    active: usize,
    total: u64,
    moved: [u64; 2],
    /// The service was started for those who wait.
    asked: bool,
    /// The backend accepts, as far as is known. Else one client is sent ahead of the others.
    reached: bool,
    delay: Duration,
    next_try: Option<Time>,
    /// When the last client left.
    left: Time,
    /// Why the backend could not be reached.
    error: Option<io::Error>,
}

#[derive(Debug)]
struct Entrance {
    address: Address,
    socket: OwnedFd,
    place: usize,
}

/// What is told of a proxy.
#[derive(Debug)]
pub(super) struct Account<'a> {
    pub(super) spec: &'a ProxySpec,
    pub(super) running: bool,
    pub(super) active: usize,
    pub(super) total: u64,
    pub(super) moved: [u64; 2],
}

impl Proxies {
    /// None yet.
    pub(super) fn new(links: Links) -> Self {
        Self {
            all: BTreeMap::new(),
            of_service: BTreeMap::new(),
            entrances: Vec::new(),
            links,
            arrivals: Vec::new(),
            noted: BTreeSet::new(),
            restless: BTreeMap::new(),
            starved: None,
            starved_told: None,
        }
    }

    /// What is told of all of them, by name.
    pub(super) fn accounts(&self) -> impl Iterator<Item = Account<'_>> {
        self.all.values().map(|proxy| {
            let [up, down] = self.links.moved(&proxy.spec.name);
            Account {
                spec: &proxy.spec,
                running: proxy.entrances.len() == proxy.spec.listen.len(),
                active: proxy.active,
                total: proxy.total,
                moved: [proxy.moved[0] + up, proxy.moved[1] + down],
            }
        })
    }

    /// Puts a proxy in place, or gives it another definition; who is connected stays so.
    ///
    /// # Errors
    /// With one sentence, if it can't listen somewhere. Unless `anyhow`, nothing is changed then.
    pub(super) fn set(
        &mut self,
        spec: ProxySpec,
        anyhow: bool,
        (sockets, registry): (&Sockets, &Registry),
    ) -> Result<(), String> {
        let known = self.all.get_mut(&spec.name);
        let before = known.map(|proxy| std::mem::take(&mut proxy.entrances));
        let (mut before, mut entrances) = (before.unwrap_or_default(), Vec::new());
        let mut wrong = None;
        for address in &spec.listen {
            let known = before.iter().position(|open| open.address == *address);
            match known.map(|known| before.swap_remove(known)) {
                Some(open) => entrances.push(open),
                None if sockets.holds(address) || self.holds(address) => {
                    let error = describe(&stream::in_use());
                    wrong = wrong.or_else(|| Some(format!("listen {address}: {error}")));
                }
                None => match self.enter(&spec.name, address, registry) {
                    Ok(open) => entrances.push(open),
                    Err(error) => {
                        wrong = wrong
                            .or_else(|| Some(format!("listen {address}: {}", describe(&error))));
                    }
                },
            }
        }
        if let Some(error) = wrong.take_if(|_| !anyhow) {
            self.undo(&spec, entrances, before, registry);
            return Err(error);
        }
        before
            .into_iter()
            .for_each(|open| self.leave(open, registry));
        if let Some(known) = self.all.get_mut(&spec.name) {
            known.entrances = entrances;
            (known.reached, known.delay) = (false, FIRST_TRY);
            known.spec = spec;
        } else {
            let name = Rc::clone(&spec.name);
            self.all.insert(name, Proxy::new(spec, entrances));
        }
        self.index();
        wrong.map_or(Ok(()), Err)
    }

    /// Does one of them listen there?
    pub(super) fn holds(&self, address: &Address) -> bool {
        let mut all = self.all.values().flat_map(|proxy| &proxy.entrances);
        all.any(|entrance| entrance.address == *address)
    }

    /// Everything is as it was before a definition that could not be put in place.
    fn undo(
        &mut self,
        spec: &ProxySpec,
        opened: Vec<Entrance>,
        mut before: Vec<Entrance>,
        registry: &Registry,
    ) {
        let known = self.all.get(&spec.name);
        let old = known.map_or(Vec::new(), |proxy| proxy.spec.listen.clone());
        for open in opened {
            if old.contains(&open.address) {
                before.push(open);
            } else {
                self.leave(open, registry);
            }
        }
        if let Some(known) = self.all.get_mut(&spec.name) {
            known.entrances = before;
        }
    }

    fn enter(
        &mut self,
        name: &Rc<str>,
        address: &Address,
        registry: &Registry,
    ) -> io::Result<Entrance> {
        let socket = stream::listen(address, MODE)?;
        let free = self.entrances.iter().position(Option::is_none);
        let place = free.unwrap_or(self.entrances.len());
        let token = Place::Entrance(place).token();
        let number = socket.as_raw_fd();
        registry.register(&mut SourceFd(&number), token, Interest::READABLE)?;
        if place == self.entrances.len() {
            self.entrances.push(None);
        }
        self.entrances[place] = Some(Rc::clone(name));
        Ok(Entrance {
            address: address.clone(),
            socket,
            place,
        })
    }

    fn leave(&mut self, entrance: Entrance, registry: &Registry) {
        let _ = registry.deregister(&mut SourceFd(&entrance.socket.as_raw_fd()));
        // A child on its way to its program may have it open still.
        stream::end_both(&entrance.socket);
        self.entrances[entrance.place] = None;
        stream::remove(&entrance.address);
    }

    /// Takes a proxy away, and all its connections with it. Says whether it was there.
    pub(super) fn delete(&mut self, name: &str, registry: &Registry) -> bool {
        let Some(proxy) = self.all.remove(name) else {
            return false;
        };
        for entrance in proxy.entrances {
            self.leave(entrance, registry);
        }
        for link in self.links.of(name) {
            self.links.remove(link);
        }
        self.restless.remove(name);
        self.noted.remove(name);
        self.index();
        true
    }

    /// All go.
    pub(super) fn close_all(&mut self, registry: &Registry) {
        let names: Vec<_> = self.all.keys().cloned().collect();
        for name in names {
            self.delete(&name, registry);
        }
    }

    /// One as it is meant.
    pub(super) fn spec(&self, name: &str) -> Option<ProxySpec> {
        Some(self.all.get(name)?.spec.clone())
    }

    /// The names of all.
    pub(super) fn names(&self) -> impl Iterator<Item = &Rc<str>> {
        self.all.keys()
    }

    fn index(&mut self) {
        self.of_service = BTreeMap::new();
        for (name, proxy) in &self.all {
            let service = Rc::clone(&proxy.spec.service);
            let names = self.of_service.entry(service).or_default();
            names.push(Rc::clone(name));
        }
    }

    /// Clients may have come.
    pub(super) fn arrive(&mut self, place: usize) {
        if !self.arrivals.contains(&place) {
            self.arrivals.push(place);
        }
    }

    /// A link has something to do.
    pub(super) fn ready(&mut self, place: usize, event: &Readiness) {
        if let Some(news) = self.links.ready(place, event) {
            self.hear(news);
        }
    }

    fn hear(&mut self, news: News) {
        let (News::Opened(id) | News::Refused(id, _) | News::Over(id)) = news;
        let Some(name) = self.links.proxy_of(id) else {
            return;
        };
        let over = matches!(news, News::Over(_));
        let ended = over.then(|| self.links.remove(id)).flatten();
        let Some(proxy) = self.all.get_mut(&name) else {
            return;
        };
        match news {
            News::Opened(_) => {
                (proxy.reached, proxy.delay) = (true, FIRST_TRY);
                proxy.error = None;
            }
            News::Refused(_, error) => proxy.refused(id, error),
            News::Over(_) => {
                let [up, down] = ended.unwrap_or_default();
                proxy.moved = [proxy.moved[0] + up, proxy.moved[1] + down];
                proxy.active = proxy.active.saturating_sub(1);
                proxy.left = clock::now();
            }
        }
        self.noted.insert(name);
    }

    /// Is there something to do right away?
    #[must_use]
    pub(super) fn is_busy(&self) -> bool {
        let admits = self.starved.is_none() && self.links.has_room();
        let arrivals = !self.arrivals.is_empty() && admits;
        arrivals || self.links.is_busy() || !self.noted.is_empty()
    }

    /// When to look again.
    #[must_use]
    pub(super) fn next_look(&self) -> Option<Time> {
        let restless = self.restless.values().copied().min();
        restless.into_iter().chain(self.starved).min()
    }

    /// A service has changed; its proxies look again.
    pub(super) fn note(&mut self, service: &str) {
        let names = self.of_service.get(service).into_iter().flatten();
        self.noted.extend(names.cloned());
    }

    /// Takes the clients that have come to an entrance. Says whether there may be more.
    fn admit(&mut self, place: usize, is_closing: bool) -> io::Result<bool> {
        let name = self.entrances.get(place).cloned().flatten();
        let Some(proxy) = name.as_ref().and_then(|name| self.all.get_mut(name)) else {
            return Ok(false);
        };
        let Some(entrance) = proxy.entrances.iter().find(|open| open.place == place) else {
            return Ok(false);
        };
        for _ in 0..CLIENTS_A_TURN {
            // Who can't be served yet waits with the kernel.
            if !self.links.has_room() && !is_closing {
                return Ok(true);
            }
            let client = match stream::accept(&entrance.socket) {
                Ok(client) => client,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            let taken = proxy.spec.single_connection && proxy.active > 0;
            if is_closing || taken {
                continue;
            }
            let until = clock::now() + proxy.spec.connect_timeout;
            let link = self.links.add(&proxy.spec.name, client, until)?;
            proxy.waiting.push_back(link);
            proxy.active += 1;
            proxy.total += 1;
            self.noted.insert(Rc::clone(&proxy.spec.name));
        }
        Ok(true)
    }

    /// Takes away who has waited too long, and gives how many did; or all who wait.
    fn expire(&mut self, name: &str, now: Time, all: bool) -> usize {
        let Some(proxy) = self.all.get_mut(name) else {
            return 0;
        };
        let mut gone = 0;
        for queue in [&mut proxy.waiting, &mut proxy.connecting] {
            while let Some(id) = queue.front().copied() {
                match self.links.waits_until(id) {
                    Some(until) if until > now && !all => break,
                    Some(_) => {
                        self.links.remove(id);
                        proxy.active = proxy.active.saturating_sub(1);
                        proxy.left = now;
                        gone += 1;
                    }
                    // It is served, or has left.
                    None => {}
                }
                queue.pop_front();
            }
        }
        gone
    }

    /// Begins connections to the backend for those who wait: for one, as long as it is not known
    /// to accept.
    fn connect(&mut self, name: &str, now: Time) {
        let Some(proxy) = self.all.get_mut(name) else {
            return;
        };
        for _ in 0..CLIENTS_A_TURN {
            let is_scouting = !proxy.reached && !proxy.connecting.is_empty();
            if is_scouting || proxy.next_try.is_some_and(|at| at > now) {
                return;
            }
            let Some(id) = proxy.waiting.pop_front() else {
                return;
            };
            if self.links.waits_until(id).is_none() {
                continue;
            }
            let begun = stream::connect(&proxy.spec.backend)
                .and_then(|backend| self.links.connect(id, backend));
            match begun {
                Ok(false) => proxy.connecting.push_back(id),
                Ok(true) => (proxy.reached, proxy.delay, proxy.error) = (true, FIRST_TRY, None),
                Err(error) => return proxy.refused(id, error),
            }
        }
        // The rest has its turn, too.
        self.noted.insert(Rc::clone(&proxy.spec.name));
    }

    /// When somebody has to be looked after, or the service be stopped.
    fn rest(&mut self, name: &str, now: Time, idle: Option<Time>) {
        let Some(proxy) = self.all.get(name) else {
            return;
        };
        let queues = [&proxy.waiting, &proxy.connecting];
        let fronts = queues.into_iter().filter_map(|queue| queue.front());
        let fronts = fronts.filter_map(|id| self.links.waits_until(*id));
        // One that is due has to wait for something else.
        let is_due = |at: &Time| *at <= now || proxy.waiting.is_empty();
        let tries = proxy.next_try.filter(|at| !is_due(at));
        let next = fronts.chain(tries).chain(idle).min();
        match next {
            Some(next) => drop(self.restless.insert(Rc::clone(&proxy.spec.name), next)),
            None => drop(self.restless.remove(name)),
        }
    }
}

impl Proxy {
    fn new(spec: ProxySpec, entrances: Vec<Entrance>) -> Self {
        Self {
            spec,
            entrances,
            waiting: VecDeque::new(),
            connecting: VecDeque::new(),
            active: 0,
            total: 0,
            moved: [0; 2],
            asked: false,
            reached: false,
            delay: FIRST_TRY,
            next_try: None,
            left: clock::now(),
            error: None,
        }
    }

    /// The backend does not accept yet.
    fn refused(&mut self, id: LinkId, error: io::Error) {
        self.reached = false;
        self.connecting.retain(|known| *known != id);
        self.waiting.push_front(id);
        self.next_try = Some(clock::now() + self.delay);
        self.delay = (self.delay * 2).min(LAST_TRY);
        self.error = Some(error);
    }

    fn is_crowded(&self) -> bool {
        !self.waiting.is_empty() || !self.connecting.is_empty()
    }
}

impl Reactor {
    /// A service has changed.
    pub(super) fn note_proxies(&mut self, service: ServiceId) {
        if let Some(found) = self.supervisor.service(service) {
            self.proxies.note(&found.spec().name);
        }
    }

    /// Puts the proxies of files in place, and takes those away that had one.
    pub(super) fn open_proxies(&mut self, (specs, gone): (Vec<ProxySpec>, Vec<Rc<str>>)) {
        let registry = self.poll.registry();
        for name in gone {
            self.proxies.delete(&name, registry);
        }
        for spec in specs {
            let name = Rc::clone(&spec.name);
            let beside = (&self.sockets, registry);
            if let Err(error) = self.proxies.set(spec, true, beside) {
                log::error!("proxy {name}: {error}");
            }
        }
    }

    /// All that proxies have to do in this turn.
    pub(super) fn tend_proxies(&mut self) {
        let now = clock::now();
        let proxies = &mut self.proxies;
        if proxies.starved.is_some_and(|at| at <= now) {
            proxies.starved = None;
            proxies.links.feed();
        }
        let due = proxies.restless.iter().filter(|(_, at)| **at <= now);
        let due: Vec<_> = due.map(|(name, _)| Rc::clone(name)).collect();
        proxies.noted.extend(due);
        proxies.links.is_shared = self.runs.is_exec_pending();
        if proxies.starved.is_none() {
            self.admit_clients(now);
        }
        if self.proxies.links.is_starved() && self.proxies.starved.is_none() {
            self.proxies.starved = Some(now + STARVED);
        }
        for name in std::mem::take(&mut self.proxies.noted) {
            self.look_after(&name, now);
        }
        // Whoever has been connected just now begins in the same turn.
        self.proxies.links.is_shared = self.runs.is_exec_pending();
        for news in self.proxies.links.take_busy() {
            self.proxies.hear(news);
        }
    }

    fn admit_clients(&mut self, now: Time) {
        let is_closing = self.supervisor.is_closing();
        for place in std::mem::take(&mut self.proxies.arrivals) {
            // Each entrance has its share before the first one has another.
            if self.proxies.starved.is_some() {
                self.proxies.arrive(place);
                continue;
            }
            match self.proxies.admit(place, is_closing) {
                Ok(false) => {}
                Ok(true) => self.proxies.arrive(place),
                Err(error) => {
                    self.proxies.arrive(place);
                    self.proxies.starved = Some(now + STARVED);
                    self.tell_starved(&error, now);
                }
            }
        }
    }

    fn tell_starved(&mut self, error: &io::Error, now: Time) {
        let told = &mut self.proxies.starved_told;
        if told.is_none_or(|at| now.since(at) >= STARVED_TOLD) {
            *told = Some(now);
            log::warn!("clients of proxies have to wait: {}", describe(error));
        }
    }

    /// Has clients of a proxy served as far as its service allows, and the service stopped when
    /// nobody has been there for long enough.
    fn look_after(&mut self, name: &Rc<str>, now: Time) {
        let late = self.proxies.expire(name, now, false);
        let Some(proxy) = self.proxies.all.get_mut(name) else {
            return;
        };
        if late > 0 {
            let error = proxy
                .error
                .as_ref()
                .map(|error| format!(": {}", describe(error)));
            let (waited, error) = (proxy.spec.connect_timeout, error.unwrap_or_default());
            log::warn!("proxy {name}: {late} clients gave up after {waited:?}{error}");
        }
        if proxy.is_crowded() {
            self.seek(name, now);
        } else {
            proxy.asked = false;
        }
        let idle = self.idle_until(name);
        if idle.is_some_and(|at| at <= now) {
            self.stop_idle(name, now);
        }
        self.proxies.rest(name, now, idle.filter(|at| *at > now));
    }

    /// Serves those who wait, or has the service start for them.
    fn seek(&mut self, name: &Rc<str>, now: Time) {
        // Once more after a start: what came of it may be known already.
        for _ in 0..2 {
            let Some(proxy) = self.proxies.all.get_mut(name) else {
                return;
            };
            let service = self.supervisor.find(&proxy.spec.service);
            let state = service.and_then(|id| Some(self.supervisor.service(id)?.state()));
            // Somebody else may care for what has no service here.
            let expected = state.map_or(Prospect::Try, |state| prospect(state, proxy.asked));
            if !matches!(state, None | Some(State::Running { .. })) {
                (proxy.reached, proxy.next_try, proxy.delay) = (false, None, FIRST_TRY);
            }
            match (expected, service) {
                (Prospect::Try, _) => {
                    return self.proxies.connect(name, now);
                }
                (Prospect::Start, Some(service)) => {
                    proxy.asked = true;
                    log::info!("proxy {name}: starts {}", proxy.spec.service);
                    let deps = true;
                    let start = Command::Start { service, deps };
                    self.inbox.push_back(command(start));
                    self.handle_inbox();
                }
                (Prospect::Hopeless, _) => {
                    // Whoever comes next is another try.
                    proxy.asked = false;
                    let count = self.proxies.expire(name, now, true);
                    return log::warn!(
                        "proxy {name}: {count} clients turned away: its service does not start"
                    );
                }
                (Prospect::Wait | Prospect::Start, _) => return,
            }
        }
    }

    /// When its service is stopped for want of clients.
    fn idle_until(&self, name: &Rc<str>) -> Option<Time> {
        let proxy = self.proxies.all.get(name)?;
        proxy.spec.idle_timeout.filter(|_| proxy.active == 0)?;
        let service = self.supervisor.find(&proxy.spec.service)?;
        let State::Running { since, .. } = self.supervisor.service(service)?.state() else {
            return None;
        };
        let names = self.proxies.of_service.get(&proxy.spec.service)?;
        let proxies = names.iter().filter_map(|name| self.proxies.all.get(name));
        let each = proxies.map(|proxy| {
            let left = Some(proxy.left).filter(|_| proxy.active == 0);
            (left, proxy.spec.idle_timeout)
        });
        idle_until(since, each)
    }

    fn stop_idle(&mut self, name: &Rc<str>, now: Time) {
        let Some(proxy) = self.proxies.all.get_mut(name) else {
            return;
        };
        // If it can't be now, it may be after the same time again.
        proxy.left = now;
        let name_of_service = Rc::clone(&proxy.spec.service);
        let Some(service) = self.supervisor.find(&name_of_service) else {
            return;
        };
        if self.is_required(service) {
            return;
        }
        log::info!("proxy {name}: stops {name_of_service}, which is idle");
        self.inbox.push_back(command(Command::Stop { service }));
        self.handle_inbox();
    }

    /// Is somebody up who requires it?
    fn is_required(&self, service: ServiceId) -> bool {
        let all = self.supervisor.with_requirers(&[service]);
        let mut others = all.into_iter().filter(|other| *other != service);
        others.any(|other| {
            let found = self.supervisor.service(other);
            found.is_some_and(|found| found.state().is_active())
        })
    }
}
