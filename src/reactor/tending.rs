//! What the loop does for proxies in a turn: clients are taken, services started for them and stopped
//! when nobody is there.

use std::io;
use std::rc::Rc;

use super::probes::describe;
use super::proxies::{FIRST_TRY, STARVED, STARVED_TOLD};
use super::{Reactor, command};
use crate::engine::proxy::{Prospect, idle_until, prospect};
use crate::engine::{Command, ProxySpec, ServiceId, State, Time};
use crate::sys::clock;

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
        for spec in &specs {
            self.proxies.release(spec, registry);
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
        // If it had to stay, there is another time for that.
        let idle = self.idle_until(name).filter(|at| *at > now);
        self.proxies.rest(name, now, idle);
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
