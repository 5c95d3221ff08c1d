//! Plays one history: who is there, how they behave and what is commanded, all from one seed.
//!
//! Each seed draws its own weights, so that some histories are full of restarts and others of
//! reloads or removals; what is never mixed with anything else is seldom found.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use zinit::engine::spec::{
    Class, Exec, Follow, Health, HookSpec, Hooks, KillMode, Kind, OnUnhealthy, Probe, Readiness,
    RestartPolicy, Status,
};
use zinit::engine::{
    Command, ErrandId, Event, Exit, Goal, Patience, Pid, Report, ServiceId, Signal, Spec, Ticket,
    Time,
};

use super::rng::Rng;
use super::shadow::{Shadow, is_met};
use super::world::{Behaviour, Spawning, World};

const NAMES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];

/// Time in which the most stubborn dozen of services, one after another, is down.
const LONGEST_SHUTDOWN: Duration = Duration::from_secs(12 * 15);

/// Time in which a kind world is up: a dozen of the longest delays.
const LONGEST_START: Duration = Duration::from_secs(12 * 10);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Anything goes.
    Wild,
    /// No service is wrong for good, none excludes another.
    Kind,
}

#[derive(Clone, Copy, Debug)]
enum Move {
    Advance,
    AdvanceToDeadline,
    Start,
    Stop,
    Restart,
    Remove,
    Signal,
    Refresh,
    Say,
    Wait,
    StartAll,
    StopAll,
    RemoveAll,
    Put,
    Reload,
    HangUp,
    Kill,
    Behave,
    Call,
}

const MOVES: [(Move, u64); 19] = [
    (Move::Advance, 30),
    (Move::AdvanceToDeadline, 15),
    (Move::Start, 15),
    (Move::Stop, 12),
    (Move::Restart, 8),
    (Move::Remove, 3),
    (Move::Signal, 2),
    (Move::Refresh, 3),
    (Move::Say, 6),
    (Move::Wait, 4),
    (Move::StartAll, 3),
    (Move::StopAll, 2),
    (Move::RemoveAll, 1),
    (Move::Put, 6),
    (Move::Reload, 4),
    (Move::HangUp, 3),
    (Move::Kill, 12),
    (Move::Behave, 6),
    (Move::Call, 5),
];

pub(crate) struct Player {
    rng: Rng,
    mood: Mood,
    world: World,
    shadow: Shadow,
    names: &'static [&'static str],
    weights: Vec<(Move, u64)>,
    /// How many of a hundred services have this trait.
    odds: Odds,
    declared: BTreeMap<&'static str, Spec>,
    ids: Vec<ServiceId>,
    last_ticket: u64,
}

#[derive(Clone, Copy)]
struct Odds {
    links: u64,
    cycles: u64,
    missing: u64,
    rivals: u64,
    targets: u64,
    oneshots: u64,
    troubles: u64,
    cared: u64,
}

impl Odds {
    fn draw(rng: &mut Rng, mood: Mood) -> Self {
        let wild = |percent| if mood == Mood::Wild { percent } else { 0 };
        Self {
            links: *rng.pick(&[5, 15, 30, 60]),
            cycles: wild(*rng.pick(&[0, 0, 5, 20])),
            missing: wild(*rng.pick(&[0, 0, 5])),
            rivals: wild(*rng.pick(&[0, 0, 10, 30])),
            targets: *rng.pick(&[0, 15, 40]),
            oneshots: *rng.pick(&[0, 15, 40]),
            troubles: wild(*rng.pick(&[0, 20, 60, 100])),
            cared: *rng.pick(&[0, 0, 20, 60]),
        }
    }
}

impl Player {
    pub(crate) fn new(seed: u64, mood: Mood, tell: bool) -> Self {
        let mut rng = Rng::new(seed);
        let count = *rng.pick(&[1, 2, 3, 4, 6, 8, 12]);
        let weights = MOVES
            .iter()
            .map(|(made, weight)| (*made, weight * rng.pick(&[0, 1, 1, 4])))
            .collect();
        let odds = Odds::draw(&mut rng, mood);
        let salt = *rng.pick(&[0, seed]);
        Self {
            odds,
            rng,
            mood,
            world: World::salted(salt),
            shadow: Shadow::new(tell, odds.cycles > 0, salt > 0),
            names: &NAMES[..count],
            weights,
            declared: BTreeMap::new(),
            ids: Vec::new(),
            last_ticket: 0,
        }
    }

    pub(crate) fn play(mut self, steps: u64) {
        for place in 0..self.names.len() {
            self.declare(place);
        }
        self.reload();
        for _ in 0..steps {
            self.step();
        }
        if self.mood == Mood::Kind {
            self.all_up();
        }
        self.shut_down();
        self.shadow.finished(&self.world);
    }

    fn step(&mut self) {
        let total: u64 = self.weights.iter().map(|(_, weight)| weight).sum();
        let mut drawn = self.rng.below(total.max(1));
        let weights = std::mem::take(&mut self.weights);
        let chosen = weights.iter().find(|(_, weight)| {
            let here = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            here
        });
        if let Some((chosen, _)) = chosen {
            self.make(*chosen);
        }
        self.weights = weights;
    }

    fn make(&mut self, chosen: Move) {
        match chosen {
            Move::Advance => {
                let most = *self.rng.pick(&[1, 5, 20, 300, 3000]);
                let ms = self.rng.below(most + 1);
                self.advance(Duration::from_millis(ms));
            }
            Move::AdvanceToDeadline => {
                let next = self.world.supervisor.next_deadline();
                let end = next.unwrap_or(self.world.now).max(self.world.now);
                self.world.run_until(end, &mut self.shadow);
            }
            Move::Start => {
                let deps = self.mood == Mood::Kind || self.rng.chance(85);
                self.about(|service| Command::Start { service, deps });
            }
            Move::Stop => self.about(|service| Command::Stop { service }),
            Move::Restart => self.about(|service| Command::Restart { service }),
            Move::Remove => self.about(|service| Command::Remove { service }),
            Move::Signal => {
                let signal = *self.rng.pick(&[Signal::HUP, Signal::TERM, Signal::KILL]);
                self.about(|service| Command::Signal { service, signal });
            }
            Move::Refresh => self.about(|service| Command::Refresh { service }),
            Move::Say => self.say(),
            Move::Wait => {
                let goals = [
                    Goal::Running,
                    Goal::Stopped,
                    Goal::Exited,
                    Goal::Gone,
                    Goal::Refresh,
                ];
                let goal = *self.rng.pick(&goals);
                self.about(|service| Command::Wait { service, goal });
            }
            Move::StartAll => self.command(Command::StartAll),
            Move::StopAll => self.command(Command::StopAll),
            Move::RemoveAll => self.command(Command::RemoveAll),
            Move::Put => {
                let place = self.place();
                self.declare(place);
                let spec = Rc::new(self.declared[self.names[place]].clone());
                self.command(Command::Put { spec });
            }
            Move::Reload => {
                for place in 0..self.names.len() {
                    match self.rng.below(6) {
                        0 => self.declare(place),
                        1 if self.mood == Mood::Wild => {
                            self.declared.remove(self.names[place]);
                        }
                        _ => {}
                    }
                }
                self.reload();
            }
            Move::HangUp => {
                let ticket = Ticket(self.rng.below(self.last_ticket + 1));
                self.world.feed(Event::HungUp { ticket }, &mut self.shadow);
            }
            Move::Kill => self.kill(),
            Move::Call => {
                let ids = self.some_ids();
                if !ids.is_empty() {
                    let service = *self.rng.pick(&ids);
                    self.world.feed(Event::Called { service }, &mut self.shadow);
                }
            }
            Move::Behave => {
                let place = self.place();
                self.behave(place);
            }
        }
    }

    fn place(&mut self) -> usize {
        let places: Vec<usize> = (0..self.names.len()).collect();
        *self.rng.pick(&places)
    }

    fn advance(&mut self, span: Duration) {
        self.world
            .run_until(self.world.now + span, &mut self.shadow);
    }

    /// A command for some service; now and then for one that is no more.
    fn about(&mut self, command: impl FnOnce(ServiceId) -> Command) {
        let place = self.place();
        let found = self.world.supervisor.find(self.names[place]);
        self.ids.extend(found);
        let stale = self.ids.first().copied().filter(|_| self.rng.chance(3));
        if let Some(service) = stale.or(found) {
            self.command(command(service));
        }
    }

    fn command(&mut self, command: Command) {
        let ticket = self.rng.chance(70).then(|| {
            self.last_ticket += 1;
            Ticket(self.last_ticket)
        });
        let patience = match self.rng.below(4) {
            0 => Patience::None,
            1 => {
                let span = Duration::from_millis(self.rng.below(500));
                Patience::Until(Some(self.world.now + span))
            }
            _ => Patience::Until(None),
        };
        let event = Event::Command {
            ticket,
            patience,
            command,
        };
        self.world.feed(event, &mut self.shadow);
    }

    fn reload(&mut self) {
        let specs = self.declared.values().cloned().map(Rc::new).collect();
        let kept = self.names.iter().filter(|_| self.rng.chance(10));
        let keep = kept.map(|name| Rc::from(*name)).collect();
        self.command(Command::Reload {
            specs,
            keep,
            start: true,
        });
    }

    fn kill(&mut self) {
        let pids: Vec<Pid> = self.world.processes.keys().copied().collect();
        if pids.is_empty() {
            return;
        }
        let pid = *self.rng.pick(&pids);
        let exits = [
            Exit::Code(0),
            Exit::Code(3),
            Exit::Signal(9),
            Exit::Signal(11),
        ];
        let mut exit = *self.rng.pick(&exits);
        if self.mood == Mood::Kind {
            exit = Exit::Code(1);
        }
        self.world.kill(pid, exit, &mut self.shadow);
    }

    /// Some process says something of itself, or some number that is none.
    fn say(&mut self) {
        let pids: Vec<Pid> = self.world.processes.keys().copied().collect();
        if pids.is_empty() {
            return;
        }
        let pid = *self.rng.pick(&pids);
        let span = Duration::from_millis(self.rng.below(200));
        let trouble = self.mood == Mood::Wild && self.rng.chance(20);
        let event = match self.rng.below(5) {
            0 => Event::Ready { pid },
            1 => Event::Ping { pid },
            2 => Event::Extend { pid, by: span },
            3 if self.mood == Mood::Wild => Event::Watch { pid, within: span },
            _ if trouble => Event::Trouble { pid },
            // Of an errand that nobody waits for.
            _ => Event::Returned {
                service: *self.rng.pick(&self.some_ids()),
                errand: ErrandId(0),
                report: Report::Failed,
            },
        };
        self.world.feed(event, &mut self.shadow);
    }

    fn some_ids(&self) -> Vec<ServiceId> {
        let services = self.world.supervisor.services();
        services
            .map(|(id, _)| id)
            .chain(self.ids.iter().copied())
            .collect()
    }

    /// After all stops and removals are over, everything is declared and asked for.
    fn all_up(&mut self) {
        self.advance(LONGEST_SHUTDOWN);
        self.reload();
        let services = self.world.supervisor.services();
        let ids: Vec<ServiceId> = services.map(|(id, _)| id).collect();
        for service in ids {
            let deps = true;
            self.command(Command::Start { service, deps });
        }
        self.advance(LONGEST_START);
        for (_, service) in self.world.supervisor.services() {
            assert!(is_met(service), "not up: {service:?}");
        }
    }

    fn shut_down(&mut self) {
        let within = self
            .rng
            .chance(50)
            .then(|| Duration::from_millis(self.rng.below(5000)));
        let spare = false;
        self.command(Command::Shutdown { within, spare });
        for _ in 0..self.rng.below(6) {
            self.step();
        }
        if self.rng.chance(30) {
            self.command(Command::Shutdown { within, spare });
        }
        self.advance(LONGEST_SHUTDOWN);
    }

    // Who is there.

    fn declare(&mut self, place: usize) {
        let name = self.names[place];
        let (mut target, mut oneshot) = (
            self.rng.chance(self.odds.targets),
            self.rng.chance(self.odds.oneshots),
        );
        if self.mood == Mood::Kind {
            // A daemon that is a oneshot all at once would never end.
            (target, oneshot) = (place % 4 == 3, place % 3 == 1);
        }
        let mut spec = if target {
            Spec::target(name)
        } else {
            Spec::new(name, Exec::Line("program".to_owned()))
        };
        spec.links.requires = self.neighbours(place, self.odds.links);
        spec.links.after = self.neighbours(place, self.odds.links / 2);
        spec.links.wants = self.neighbours(place, self.odds.links / 2);
        spec.links.conflicts = self.neighbours(place, self.odds.rivals);
        if self.mood == Mood::Kind {
            spec.links.conflicts.clear();
        }
        if let Kind::Program(program) = &mut spec.kind {
            program.oneshot = oneshot;
            program.sockets.activation = self.rng.chance(self.odds.cared);
            while self.rng.chance(self.odds.rivals) {
                program.ports.push(*self.rng.pick(&[80, 443, 25]));
            }
        }
        let statuses = [Status::Start, Status::Start, Status::Stop, Status::Ignore];
        spec.status = *self.rng.pick(&statuses);
        spec.class = *self.rng.pick(&[Class::User, Class::User, Class::System]);
        self.draw_lifecycle(&mut spec);
        self.draw_care(&mut spec);
        self.declared.insert(name, spec);
        self.behave(place);
    }

    /// Readiness, probes, a watchdog and hooks.
    fn draw_care(&mut self, spec: &mut Spec) {
        let ms = Duration::from_millis;
        let (rng, percent) = (&mut self.rng, self.odds.cared);
        if spec.is_target() {
            return;
        }
        let hook = |rng: &mut Rng| {
            rng.chance(percent / 2).then(|| HookSpec {
                exec: Exec::Line("hook".to_owned()),
                timeout: ms(*rng.pick(&[5, 50, 500])),
            })
        };
        spec.hooks = Hooks {
            pre_start: hook(rng),
            post_start: hook(rng),
            stop: hook(rng),
            post_stop: hook(rng),
            reload: hook(rng),
        };
        if rng.chance(50) {
            spec.lifecycle.reload_signal = Some(Signal::HUP);
        }
        spec.lifecycle.restart_dependents = rng.chance(percent);
        if rng.chance(percent) {
            spec.health = Some(Health {
                probe: Probe::Exec("true".to_owned()),
                interval: ms(*rng.pick(&[1, 20, 200, 2000])),
                timeout: ms(*rng.pick(&[1, 10, 100])),
                retries: *rng.pick(&[1, 2, 5]),
                start_period: ms(*rng.pick(&[0, 0, 50])),
                on_unhealthy: *rng.pick(&[OnUnhealthy::Restart, OnUnhealthy::Report]),
            });
        }
        if rng.chance(percent) && !spec.is_oneshot() {
            let kinds = [Readiness::Notify, Readiness::Health, Readiness::Spawn];
            spec.readiness = rng.pick(&kinds).clone();
        }
        let wild = self.mood == Mood::Wild;
        if wild && rng.chance(percent / 2) {
            spec.watchdog = Some(ms(*rng.pick(&[5, 50, 500])));
        }
        if wild && rng.chance(percent / 4) {
            let name = *rng.pick(self.names);
            spec.sequel.on_failure = Follow::Start(name.into());
        }
        if self.mood == Mood::Kind {
            if let Some(health) = &mut spec.health {
                (health.timeout, health.interval) = (ms(100), ms(5000));
            }
            let hooks = &mut spec.hooks;
            let all = [
                &mut hooks.pre_start,
                &mut hooks.post_start,
                &mut hooks.stop,
                &mut hooks.post_stop,
                &mut hooks.reload,
            ];
            for hook in all.into_iter().flatten() {
                hook.timeout = ms(500);
            }
        }
    }

    fn draw_lifecycle(&mut self, spec: &mut Spec) {
        let ms = Duration::from_millis;
        let rng = &mut self.rng;
        let life = &mut spec.lifecycle;
        life.restart = *rng.pick(&[
            RestartPolicy::Always,
            RestartPolicy::OnFailure,
            RestartPolicy::Never,
        ]);
        life.restart_delay = ms(*rng.pick(&[10, 50, 200]));
        life.restart_delay_max = ms(*rng.pick(&[200, 1000]));
        life.max_restarts = *rng.pick(&[0, 1, 3]);
        life.stability_period = ms(100);
        life.start_timeout = ms(*rng.pick(&[100, 1000]));
        life.stop_timeout = ms(*rng.pick(&[20, 200, 2000]));
        let modes = [
            KillMode::Tree,
            KillMode::Tree,
            KillMode::Group,
            KillMode::Main,
        ];
        life.kill_mode = *rng.pick(&modes);
        if self.mood == Mood::Kind {
            life.restart = RestartPolicy::OnFailure;
            life.max_restarts = 0;
        }
    }

    /// Names to link to: those before it in the alphabet, so that there is no cycle unless one is
    /// attempted.
    fn neighbours(&mut self, place: usize, percent: u64) -> Vec<Rc<str>> {
        let mut names = Vec::new();
        for (other, name) in self.names.iter().enumerate() {
            let back = other >= place;
            if self.rng.chance(percent) && (!back || self.rng.chance(self.odds.cycles)) {
                names.push(Rc::from(*name));
            }
        }
        if self.rng.chance(self.odds.missing) {
            names.push(Rc::from("ghost"));
        }
        names
    }

    fn behave(&mut self, place: usize) {
        let name = self.names[place];
        let spec = self.declared.get(name);
        let oneshot = spec.is_some_and(Spec::is_oneshot);
        let is_watched = spec.is_some_and(|spec| spec.watchdog.is_some());
        let rng = &mut self.rng;
        let mut behaviour = Behaviour {
            exec_ms: *rng.pick(&[0, 1, 5, 30]),
            obeys_ms: Some(*rng.pick(&[0, 1, 10, 100])),
            dies_ms: Some(*rng.pick(&[0, 1, 10])),
            lives_ms: oneshot.then(|| *rng.pick(&[0, 5, 50])),
            ready_ms: Some(*rng.pick(&[0, 1, 20])),
            ping_ms: is_watched.then(|| *rng.pick(&[3, 40, 400])),
            probe_ms: Some(*rng.pick(&[0, 1, 8])),
            hook_ms: Some(*rng.pick(&[0, 1, 4, 40])),
            hook_stops: rng.chance(50),
            ..Behaviour::default()
        };
        if rng.chance(self.odds.troubles) {
            trouble(rng, self.world.now, &mut behaviour);
        }
        self.world.behaviours.insert(name.to_owned(), behaviour);
    }
}

fn trouble(rng: &mut Rng, now: Time, behaviour: &mut Behaviour) {
    let later = now + Duration::from_millis(rng.below(5000));
    for _ in 0..=rng.below(2) {
        match rng.below(18) {
            0 => behaviour.spawning = Spawning::ForkFails,
            1 => behaviour.spawning = Spawning::ScarceUntil(later),
            2 => behaviour.spawning = Spawning::ObstructedUntil(later),
            3 => behaviour.spawning = Spawning::ExecFails,
            4 => behaviour.spawning = Spawning::HangsInExec,
            5 => behaviour.obeys_ms = None,
            6 => behaviour.dies_ms = Some(*rng.pick(&[3000, 7000])),
            7 => behaviour.dies_ms = None,
            8 => behaviour.leftovers = 2,
            10 => behaviour.ready_ms = None,
            11 => behaviour.probe_ms = None,
            12 => behaviour.is_well = false,
            13 => behaviour.hook_ms = None,
            14 => behaviour.hook_succeeds = false,
            9 => (behaviour.leftovers, behaviour.leftovers_obey_ms) = (2, None),
            _ => {
                behaviour.lives_ms = Some(*rng.pick(&[0, 5, 50, 500]));
                behaviour.exit = *rng.pick(&[Exit::Code(0), Exit::Code(1), Exit::Signal(11)]);
            }
        }
    }
}
