//! Plays one history: who is there, how they behave and what is commanded, all from one seed.
//!
//! A history is drawn as lines (`story.rs`), so that one that fails can be printed and shortened.
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
use zinit::engine::{Exit, Goal, ServiceId, Signal, Spec, Time};

use super::rng::Rng;
use super::shadow::Shadow;
use super::shrink::{End, act};
use super::story::{Answer, Asked, Line, Member, Saying, Stage, Verb, Who};
use super::world::{Behaviour, Nature, Spawning};

const NAMES: [&str; 24] = [
    "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s",
    "t", "u", "v", "w", "x",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    Boot,
    Jump,
}

const MOVES: [(Move, u64); 21] = [
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
    (Move::Boot, 1),
    (Move::Jump, 3),
];

/// Plays a history: it draws each line, and the stage performs it.
pub(crate) struct Player {
    rng: Rng,
    mood: Mood,
    pub(crate) stage: Stage,
    pub(crate) shadow: Shadow,
    /// All lines so far, if they are asked for.
    history: Option<Vec<Line>>,
    /// What is looked at now, when all lines are played.
    end: End,
    names: &'static [&'static str],
    weights: Vec<(Move, u64)>,
    /// How many of a hundred services have this trait.
    odds: Odds,
    shape: Shape,
    nature: Nature,
    declared: BTreeMap<&'static str, Spec>,
    ids: Vec<ServiceId>,
}

/// How the services of a history hang together, beside links at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Any,
    /// Each requires the one before.
    Chain,
    /// All require the first.
    Star,
    /// The last requires all.
    Hub,
    /// One below, two that require it, one that requires both, and so on.
    Diamonds,
}

impl Shape {
    /// Whom the one in this place requires.
    fn required(self, place: usize, count: usize) -> Vec<usize> {
        match self {
            Self::Any => Vec::new(),
            Self::Chain => place.checked_sub(1).into_iter().collect(),
            Self::Star => (place > 0).then_some(0).into_iter().collect(),
            Self::Hub if place + 1 == count => (0..place).collect(),
            Self::Hub => Vec::new(),
            Self::Diamonds => match place % 3 {
                0 => (place.saturating_sub(2)..place).collect(),
                rest => vec![place - rest],
            },
        }
    }
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
    survivors: u64,
}

impl Odds {
    fn draw(rng: &mut Rng, mood: Mood) -> Self {
        let wild = |percent| if mood == Mood::Wild { percent } else { 0 };
        Self {
            links: *rng.pick(&[0, 5, 15, 30, 60]),
            cycles: wild(*rng.pick(&[0, 0, 5, 20])),
            missing: wild(*rng.pick(&[0, 0, 5])),
            rivals: wild(*rng.pick(&[0, 0, 10, 30])),
            targets: *rng.pick(&[0, 15, 40]),
            oneshots: *rng.pick(&[0, 15, 40]),
            troubles: wild(*rng.pick(&[0, 20, 60, 100])),
            cared: *rng.pick(&[0, 0, 20, 60]),
            survivors: *rng.pick(&[0, 0, 20]),
        }
    }
}

impl Player {
    pub(crate) fn new(seed: u64, mood: Mood) -> Self {
        let mut rng = Rng::new(seed);
        let count = *rng.pick(&[1, 2, 3, 4, 6, 8, 12, 12, 24]);
        let weights = MOVES
            .iter()
            .map(|(made, weight)| (*made, weight * rng.pick(&[0, 1, 1, 4])))
            .collect();
        let odds = Odds::draw(&mut rng, mood);
        let shapes = [Shape::Chain, Shape::Star, Shape::Hub, Shape::Diamonds];
        let shape = if rng.chance(40) {
            *rng.pick(&shapes)
        } else {
            Shape::Any
        };
        let nature = Nature {
            salt: *rng.pick(&[0, seed]),
            deadlines_first: rng.chance(50),
            reuses_pids: rng.chance(50),
        };
        let mut player = Self {
            odds,
            rng,
            mood,
            stage: Stage::default(),
            shadow: Shadow::default(),
            history: None,
            end: End::Nothing,
            names: &NAMES[..count],
            weights,
            shape,
            nature,
            declared: BTreeMap::new(),
            ids: Vec::new(),
        };
        act(
            &mut player.stage,
            &mut player.shadow,
            &Line::NewWorld(nature),
        );
        player
    }

    /// The same, and it writes down all that it does.
    pub(crate) fn told(seed: u64, mood: Mood) -> Self {
        let mut player = Self::new(seed, mood);
        player.history = Some(vec![Line::NewWorld(player.nature)]);
        player
    }

    /// Until the engine was told so many events; a world where little happens is left sooner.
    pub(crate) fn play(&mut self, events: u64) {
        for place in 0..self.names.len() {
            self.declare(place);
        }
        self.reload();
        for _ in 0..events {
            if self.stage.world.events >= events {
                break;
            }
            self.step();
        }
        self.come(End::Rest);
        if self.mood == Mood::Kind {
            self.come(End::Up);
        }
        self.shut_down();
    }

    /// All that was done, and what was looked at in the end.
    pub(crate) fn history(self) -> (Vec<Line>, End) {
        (self.history.unwrap_or_default(), self.end)
    }

    /// One line, and what follows from it.
    fn perform(&mut self, line: Line) {
        if let Some(history) = &mut self.history {
            history.push(line.clone());
        }
        act(&mut self.stage, &mut self.shadow, &line);
    }

    fn step(&mut self) {
        let total: u64 = self.weights.iter().map(|(_, weight)| weight).sum();
        let mut drawn = self.rng.below(total.max(1));
        let chosen = self.weights.iter().find(|(_, weight)| {
            let here = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            here
        });
        if let Some((chosen, _)) = chosen.copied() {
            self.make(chosen);
        }
    }

    fn make(&mut self, chosen: Move) {
        match chosen {
            Move::Advance => {
                let most = *self.rng.pick(&[1, 5, 20, 300, 3000]);
                let ms = self.rng.below(most + 1);
                self.perform(Line::Advance(ms));
            }
            Move::AdvanceToDeadline => self.perform(Line::ToDeadline),
            Move::Jump => {
                let most = *self.rng.pick(&[10, 500, 100_000]);
                let ms = self.rng.below(most + 1);
                self.perform(Line::Jump(ms));
            }
            Move::Start => {
                let deps = self.mood == Mood::Kind || self.rng.chance(85);
                self.about(Verb::Start { deps });
            }
            Move::Stop => self.about(Verb::Stop),
            Move::Restart => self.about(Verb::Restart),
            Move::Remove => self.about(Verb::Remove),
            Move::Signal => {
                let signal = *self.rng.pick(&[Signal::HUP, Signal::TERM, Signal::KILL]);
                self.about(Verb::Signal(signal));
            }
            Move::Refresh => self.about(Verb::Refresh),
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
                self.about(Verb::WaitFor(goal));
            }
            Move::StartAll => self.ask(Asked::StartAll),
            Move::StopAll => self.ask(Asked::StopAll),
            Move::RemoveAll => self.ask(Asked::RemoveAll),
            Move::Boot => {
                let chosen = self.names.iter().filter(|_| self.rng.chance(30));
                let names = chosen.map(|name| (*name).to_owned()).collect();
                self.ask(Asked::Boot(names));
            }
            Move::Put => {
                let place = self.place();
                self.declare(place);
                self.ask(Asked::Put(self.names[place].to_owned()));
            }
            Move::Reload => {
                for place in 0..self.names.len() {
                    match self.rng.below(6) {
                        0 => self.declare(place),
                        1 if self.mood == Mood::Wild => {
                            let name = self.names[place];
                            self.declared.remove(name);
                            self.perform(Line::Forget(name.to_owned()));
                        }
                        _ => {}
                    }
                }
                self.reload();
            }
            Move::HangUp => {
                let ticket = self.rng.below(self.stage.last_ticket + 1);
                self.perform(Line::HangUp(ticket));
            }
            Move::Kill => self.kill(),
            Move::Call => {
                if let Some(who) = self.somebody() {
                    self.perform(Line::Call(who));
                }
            }
            Move::Behave => {
                let place = self.place();
                self.behave(place);
            }
        }
    }

    fn place(&mut self) -> usize {
        let below = self.rng.below(self.names.len() as u64);
        usize::try_from(below).expect("a place")
    }

    /// A command for some service; now and then for one that is no more.
    fn about(&mut self, verb: Verb) {
        let place = self.place();
        let name = self.names[place];
        if self.ids.len() < 100 {
            self.ids.extend(self.stage.world.supervisor.find(name));
        }
        let stale = self.ids.first().copied().filter(|_| self.rng.chance(3));
        let who = stale.map_or_else(|| Who::Name(name.to_owned()), Who::Id);
        self.ask(Asked::About(verb, who));
    }

    fn ask(&mut self, asked: Asked) {
        let answer = if self.rng.chance(70) {
            match self.rng.below(4) {
                0 => Answer::AtOnce,
                1 => Answer::Done(Some(self.rng.below(500))),
                _ => Answer::Done(None),
            }
        } else {
            Answer::Nobody
        };
        self.perform(Line::Ask(asked, answer));
    }

    fn reload(&mut self) {
        let kept = self.names.iter().filter(|_| self.rng.chance(10));
        let keep = kept.map(|name| (*name).to_owned()).collect();
        let start = self.rng.chance(95);
        self.ask(Asked::Load { keep, start });
    }

    /// Some process, as one of its service's.
    fn member(&mut self) -> Option<Member> {
        let processes = &self.stage.world.processes;
        let count = processes.len() as u64;
        if count == 0 {
            return None;
        }
        let at = usize::try_from(self.rng.below(count)).expect("a place");
        let service = processes.values().nth(at)?.service;
        let before = processes.values().take(at);
        let place = before.filter(|process| process.service == service).count();
        let name = self.stage.world.name(service);
        let who = name.map_or(Who::Id(service), |name| Who::Name(name.to_owned()));
        let place = Some(place);
        Some(Member { who, place })
    }

    fn kill(&mut self) {
        let Some(member) = self.member() else {
            return;
        };
        let exits = [
            Exit::Code(0),
            Exit::Code(3),
            Exit::Signal(9),
            Exit::Signal(11),
            Exit::OutOfMemory,
        ];
        let mut exit = *self.rng.pick(&exits);
        if self.mood == Mood::Kind {
            exit = Exit::Code(1);
        }
        self.perform(Line::Kill(member, exit));
    }

    /// Some process says something of itself; or an errand comes back of which nobody waits.
    fn say(&mut self) {
        let wild = self.mood == Mood::Wild;
        let ms = self.rng.below(200);
        let saying = match self.rng.below(6) {
            0 => Saying::Ready,
            1 => Saying::Ping,
            2 => Saying::Extend(ms),
            3 if wild => Saying::Watch(ms),
            4 if wild && self.rng.chance(20) => Saying::Trouble,
            _ => {
                let back = u32::try_from(1 + self.rng.below(3)).expect("a few");
                if let Some(who) = self.somebody() {
                    self.perform(Line::Report(who, back));
                }
                return;
            }
        };
        if let Some(member) = self.member() {
            self.perform(Line::Say(member, saying));
        }
    }

    /// A service; now and then one that is no more.
    fn somebody(&mut self) -> Option<Who> {
        let place = self.place();
        if self.rng.chance(90) {
            return Some(Who::Name(self.names[place].to_owned()));
        }
        self.ids.last().copied().map(Who::Id)
    }

    fn come(&mut self, end: End) {
        let mut stage = std::mem::take(&mut self.stage);
        let mut shadow = std::mem::take(&mut self.shadow);
        self.end = end;
        let history = &mut self.history;
        end.come(&mut stage, &mut shadow, &mut |line| {
            // A told history ends with it, or goes on after it.
            if let Some(history) = history {
                history.push(line.clone());
            }
        });
        self.end = End::Nothing;
        (self.stage, self.shadow) = (stage, shadow);
    }

    fn shut_down(&mut self) {
        let within = self.rng.chance(50).then(|| self.rng.below(5000));
        let spare = self.odds.survivors > 0 && self.rng.chance(50);
        self.ask(Asked::Shutdown { within, spare });
        for _ in 0..self.rng.below(6) {
            self.step();
        }
        if self.rng.chance(30) {
            self.ask(Asked::Shutdown { within, spare });
        }
        self.come(End::Down);
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
        let below = self.shape.required(place, self.names.len()).into_iter();
        spec.links.requires = below.map(|other| self.names[other].into()).collect();
        let others = self.neighbours(place, self.odds.links);
        spec.links.requires.extend(others);
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
        spec.lifecycle.survive_switch_root = self.rng.chance(self.odds.survivors);
        self.draw_care(&mut spec);
        self.perform(Line::Declare(Box::new(spec.clone())));
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
        let mut names: Vec<Rc<str>> = Vec::new();
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
            fork_ms: *rng.pick(&[0, 0, 0, 2]),
            exec_ms: *rng.pick(&[0, 1, 5, 30]),
            signal_ms: *rng.pick(&[0, 0, 0, 0, 3, 300]),
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
            trouble(rng, self.stage.world.now, &mut behaviour);
        }
        self.perform(Line::Behave(name.to_owned(), behaviour));
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
