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
use crate::engine::{Address, ProxySpec, Time};
use crate::sys::{clock, stream};

/// Clients of one proxy that are taken in one turn, and connections that are begun for them.
const CLIENTS_A_TURN: usize = 256;

/// Time between two tries to reach a backend that does not accept yet: the first, and the longest.
pub(super) const FIRST_TRY: Duration = Duration::from_millis(10);
const LAST_TRY: Duration = Duration::from_millis(250);

/// Time before what needs a descriptor is tried again when there is none.
pub(super) const STARVED: Duration = Duration::from_millis(100);

/// Who may connect to a Unix socket of a proxy.
const MODE: u32 = 0o666;

/// Time between two lines of the log about that.
pub(super) const STARVED_TOLD: Duration = Duration::from_secs(10);

/// All of them.
#[derive(Debug)]
pub(super) struct Proxies {
    pub(super) all: BTreeMap<Rc<str>, Proxy>,
    /// Those that are for a service, by its name.
    pub(super) of_service: BTreeMap<Rc<str>, Vec<Rc<str>>>,
    /// Whose each entrance is.
    entrances: Vec<Option<Rc<str>>>,
    pub(super) links: Links,
    /// Entrances that clients may wait at.
    pub(super) arrivals: Vec<usize>,
    /// Entrances where they wait until somebody else has left.
    parked: Vec<usize>,
    /// Who is to be looked after in this turn.
    pub(super) noted: BTreeSet<Rc<str>>,
    /// Who waits for a time.
    pub(super) restless: BTreeMap<Rc<str>, Time>,
    /// When to try again what failed for want of descriptors.
    pub(super) starved: Option<Time>,
    /// When that was told last.
    pub(super) starved_told: Option<Time>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) spec: ProxySpec,
    entrances: Vec<Entrance>,
    /// Clients that wait for the backend to accept, the first one first.
    waiting: VecDeque<LinkId>,
    /// Clients whose connection to the backend was begun.
    connecting: VecDeque<LinkId>,
    pub(super) active: usize,
    total: u64,
    moved: [u64; 2],
    /// Some may wait longer than others who have come after them.
    is_mixed: bool,
    /// The service was started for those who wait.
    pub(super) asked: bool,
    /// The backend accepts, as far as is known. Else one client is sent ahead of the others.
    pub(super) reached: bool,
    pub(super) delay: Duration,
    pub(super) next_try: Option<Time>,
    /// When the last client left.
    pub(super) left: Time,
    /// Why the backend could not be reached.
    pub(super) error: Option<io::Error>,
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
            parked: Vec::new(),
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
        if self.leads_back(&spec) {
            return Err(format!(
                "backend {} leads back to the proxy itself",
                spec.backend
            ));
        }
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
        self.noted.insert(Rc::clone(&spec.name));
        if let Some(known) = self.all.get_mut(&spec.name) {
            known.is_mixed |= known.is_crowded();
            known.entrances = entrances;
            (known.reached, known.delay, known.next_try) = (false, FIRST_TRY, None);
            known.asked &= known.spec.service == spec.service;
            known.spec = spec;
        } else {
            let name = Rc::clone(&spec.name);
            self.all.insert(name, Proxy::new(spec, entrances));
        }
        self.index();
        self.unpark();
        wrong.map_or(Ok(()), Err)
    }

    /// Would whoever connects to its backend come to this proxy again, maybe through others?
    fn leads_back(&self, spec: &ProxySpec) -> bool {
        let mut at = &spec.backend;
        for _ in 0..=self.all.len() {
            let is_there = |listen: &Address| listen.is_reached_by(at);
            if spec.listen.iter().any(is_there) {
                return true;
            }
            let mut others = self.all.values().map(|proxy| &proxy.spec);
            let next =
                others.find(|other| other.name != spec.name && other.listen.iter().any(is_there));
            match next {
                Some(next) => at = &next.backend,
                None => return false,
            }
        }
        false
    }

    /// Leaves what a proxy is not to listen at any more, so that another one can.
    pub(super) fn release(&mut self, spec: &ProxySpec, registry: &Registry) {
        let Some(known) = self.all.get_mut(&spec.name) else {
            return;
        };
        let all = std::mem::take(&mut known.entrances);
        let (kept, gone): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|open| spec.listen.contains(&open.address));
        known.entrances = kept;
        gone.into_iter().for_each(|open| self.leave(open, registry));
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
        self.note(&proxy.spec.service);
        self.unpark();
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

    /// Somebody has left.
    fn unpark(&mut self) {
        for place in std::mem::take(&mut self.parked) {
            self.arrive(place);
        }
    }

    /// A link has something to do.
    pub(super) fn ready(&mut self, place: usize, event: &Readiness) {
        if let Some(news) = self.links.ready(place, event) {
            self.hear(news);
        }
    }

    pub(super) fn hear(&mut self, news: News) {
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
                self.unpark();
            }
        }
        self.noted.insert(name);
    }

    /// Is there something to do right away?
    #[must_use]
    pub(super) fn is_busy(&self) -> bool {
        let arrivals = !self.arrivals.is_empty() && self.starved.is_none();
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
    pub(super) fn admit(&mut self, place: usize, is_closing: bool) -> io::Result<bool> {
        let name = self.entrances.get(place).cloned().flatten();
        // No proxy takes the room of all others.
        let most = self.links.most();
        let share = if self.all.len() > 1 { most / 2 } else { most };
        let Some(proxy) = name.as_ref().and_then(|name| self.all.get_mut(name)) else {
            return Ok(false);
        };
        let Some(entrance) = proxy.entrances.iter().find(|open| open.place == place) else {
            return Ok(false);
        };
        for _ in 0..CLIENTS_A_TURN {
            // Who can't be served yet waits with the kernel.
            let is_full = proxy.active >= share || !self.links.has_room();
            if is_full && !is_closing {
                self.parked.push(place);
                return Ok(false);
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
    pub(super) fn expire(&mut self, name: &str, now: Time, all: bool) -> usize {
        let Some(proxy) = self.all.get_mut(name) else {
            return 0;
        };
        let mut gone = 0;
        for queue in [&mut proxy.waiting, &mut proxy.connecting] {
            let mut stay = VecDeque::new();
            while let Some(id) = queue.pop_front() {
                match self.links.waits_until(id) {
                    Some(until) if until > now && !all => {
                        stay.push_back(id);
                        // As a rule whoever has come later waits longer, too.
                        if !proxy.is_mixed {
                            break;
                        }
                    }
                    Some(_) => {
                        self.links.remove(id);
                        proxy.active = proxy.active.saturating_sub(1);
                        proxy.left = now;
                        gone += 1;
                    }
                    // It is served, or has left.
                    None => {}
                }
            }
            while let Some(id) = stay.pop_back() {
                queue.push_front(id);
            }
        }
        proxy.is_mixed &= proxy.is_crowded();
        if gone > 0 {
            self.unpark();
        }
        gone
    }

    /// Begins connections to the backend for those who wait: for one, as long as it is not known
    /// to accept.
    pub(super) fn connect(&mut self, name: &str, now: Time) {
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
    pub(super) fn rest(&mut self, name: &str, now: Time, idle: Option<Time>) {
        let Some(proxy) = self.all.get(name) else {
            return;
        };
        let queues = [&proxy.waiting, &proxy.connecting];
        let looked_at = if proxy.is_mixed { usize::MAX } else { 1 };
        let fronts = queues
            .into_iter()
            .flat_map(|queue| queue.iter().take(looked_at));
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
            is_mixed: false,
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

    pub(super) fn is_crowded(&self) -> bool {
        !self.waiting.is_empty() || !self.connecting.is_empty()
    }
}
