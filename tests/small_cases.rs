//! Small cases, all of them: every graph of up to three services, and every order of what may happen
//! to them, to a fixed depth.
//!
//! What may happen: somebody starts, stops or restarts a service, a process gets to its program, a
//! process ends with success or failure, and the engine's deadline comes. From each state that is
//! found, the world turns kind and comes to rest, and a shutdown ends. Every step is taken under the
//! eyes of the shadow. Two histories that lead to the same state are one from there on.
//!
//! Graphs that differ only in who has which place are one. `DEPTH=` how deep.

#[path = "common/declare.rs"]
mod declare;
#[path = "common/shadow.rs"]
mod shadow;
#[path = "common/shrink.rs"]
mod shrink;
#[path = "common/story.rs"]
mod story;
#[path = "common/world.rs"]
mod world;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use shadow::Shadow;
use shrink::{End, act, as_story, quietly, shrink};
use story::{Answer, Asked, Line, Member, Stage, Verb, Who};
use world::{Nature, Role, World};
use zinit::engine::spec::{Exec, Kind, RestartPolicy, Spec};
use zinit::engine::{Exit, Hold, State, Time};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// What one service may have to do with another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Link {
    None,
    Requires,
    After,
    Wants,
    Conflicts,
}

const LINKS: [Link; 5] = [
    Link::None,
    Link::Requires,
    Link::After,
    Link::Wants,
    Link::Conflicts,
];

/// What a service may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Nodes {
    Daemon,
    Oneshot,
    Target,
}

/// Who is there, and what each has to do with each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Case {
    nodes: Vec<Nodes>,
    /// From each to each other, by places.
    links: Vec<Vec<Link>>,
}

impl Case {
    /// The case of that number, of so many services, each being one of these.
    fn numbered(mut number: usize, size: usize, of: &[Nodes]) -> Option<Self> {
        let mut draw = |from: usize| {
            let drawn = number % from;
            number /= from;
            drawn
        };
        let nodes = (0..size).map(|_| of[draw(of.len())]).collect();
        let mut links = vec![vec![Link::None; size]; size];
        for (from, row) in links.iter_mut().enumerate() {
            for (to, link) in row.iter_mut().enumerate() {
                if from != to {
                    *link = LINKS[draw(LINKS.len())];
                }
            }
        }
        (number == 0).then_some(Self { nodes, links })
    }

    /// With everybody in another place.
    fn permuted(&self, places: &[usize]) -> Self {
        let row = |from: &usize| places.iter().map(|to| self.links[*from][*to]).collect();
        Self {
            nodes: places.iter().map(|place| self.nodes[*place]).collect(),
            links: places.iter().map(row).collect(),
        }
    }

    /// Is it the one that stands for all that differ by places only?
    fn is_first(&self) -> bool {
        let all: &[&[usize]] = match self.nodes.len() {
            1 => &[&[0]],
            2 => &[&[0, 1], &[1, 0]],
            _ => &[
                &[0, 1, 2],
                &[0, 2, 1],
                &[1, 0, 2],
                &[1, 2, 0],
                &[2, 0, 1],
                &[2, 1, 0],
            ],
        };
        all.iter().all(|places| *self <= self.permuted(places))
    }

    fn specs(&self) -> Vec<Spec> {
        let specs = self.nodes.iter().enumerate().map(|(place, node)| {
            let name = NAMES[place];
            let mut spec = match node {
                Nodes::Target => Spec::target(name),
                Nodes::Daemon | Nodes::Oneshot => Spec::new(name, Exec::Line("program".to_owned())),
            };
            if let Kind::Program(program) = &mut spec.kind {
                program.oneshot = *node == Nodes::Oneshot;
            }
            let life = &mut spec.lifecycle;
            life.restart = RestartPolicy::OnFailure;
            life.max_restarts = 1;
            life.restart_delay = Duration::from_millis(100);
            life.restart_delay_max = life.restart_delay;
            life.start_timeout = Duration::from_millis(1000);
            life.stop_timeout = Duration::from_millis(1000);
            for (to, link) in self.links[place].iter().enumerate() {
                let list = match link {
                    Link::None => continue,
                    Link::Requires => &mut spec.links.requires,
                    Link::After => &mut spec.links.after,
                    Link::Wants => &mut spec.links.wants,
                    Link::Conflicts => &mut spec.links.conflicts,
                };
                list.push(NAMES[to].into());
            }
            spec
        });
        specs.collect()
    }

    /// Nothing happens by itself, and nothing runs yet.
    fn begin(&self) -> Vec<Line> {
        let mut lines = vec![Line::NewWorld(Nature {
            reuses_pids: true,
            ..Nature::default()
        })];
        for spec in self.specs() {
            let name = spec.name.to_string();
            lines.push(Line::Declare(Box::new(spec)));
            let words = ["hangs-in-exec", "ignores-term", "never-dies", "never-ready"];
            lines.push(Line::Behave(name, declare::behaviour(&words)));
        }
        let (keep, start) = (Vec::new(), false);
        lines.push(Line::Ask(Asked::Load { keep, start }, Answer::Nobody));
        lines
    }
}

/// Everything that may happen now.
fn moves(stage: &Stage, size: usize) -> Vec<Line> {
    let mut moves = Vec::new();
    for name in &NAMES[..size] {
        let who = || Who::Name((*name).to_owned());
        let member = || Member {
            who: who(),
            place: None,
        };
        for verb in [Verb::Start { deps: true }, Verb::Stop, Verb::Restart] {
            moves.push(Line::Ask(Asked::About(verb, who()), Answer::Nobody));
        }
        let found = stage.world.supervisor.find(name);
        let found = found.and_then(|id| stage.world.supervisor.service(id));
        let state = found.map(zinit::engine::Service::state);
        if state.and_then(State::pid).is_none() {
            continue;
        }
        if matches!(state, Some(State::Spawning { .. })) {
            moves.push(Line::Exec(member()));
        }
        moves.push(Line::Kill(member(), Exit::Code(0)));
        moves.push(Line::Kill(member(), Exit::Code(1)));
    }
    if stage.world.supervisor.next_deadline().is_some() {
        moves.push(Line::ToDeadline);
    }
    moves
}

/// All on which it depends what may happen next. Times count from now on.
fn key(stage: &Stage, shadow: &Shadow) -> u64 {
    let world = &stage.world;
    let mut hasher = DefaultHasher::new();
    for (id, service) in world.supervisor.services() {
        id.hash(&mut hasher);
        std::mem::discriminant(&service.want()).hash(&mut hasher);
        service.restarts().count.hash(&mut hasher);
        hash_state(world, service.state(), &mut hasher);
    }
    for (pid, process) in &world.processes {
        (pid, process.service, process.role == Role::Main).hash(&mut hasher);
    }
    shadow.notes().hash(&mut hasher);
    hasher.finish()
}

fn hash_state(world: &World, state: State, hasher: &mut DefaultHasher) {
    std::mem::discriminant(&state).hash(hasher);
    state.pid().hash(hasher);
    let left = |at: Time| at.since(world.now).as_millis();
    state.deadline().map(left).hash(hasher);
    match state {
        State::Blocked { hold } => {
            std::mem::discriminant(&hold).hash(hasher);
            assert!(
                !matches!(hold, Hold::Obstructed { .. }),
                "nothing is outside"
            );
        }
        State::Stopping { failure, force, .. } => {
            (failure.is_some(), force as u8).hash(hasher);
        }
        State::Clearing { end, .. }
        | State::Trailing { end, .. }
        | State::Backoff { end, .. }
        | State::Exited { end } => {
            (std::mem::discriminant(&end), end.code()).hash(hasher);
        }
        State::Failed { why } => std::mem::discriminant(&why).hash(hasher),
        State::Inactive
        | State::Preparing { .. }
        | State::Forking
        | State::Spawning { .. }
        | State::Starting { .. }
        | State::Running { .. } => {}
    }
}

#[derive(Default)]
struct Count {
    cases: usize,
    states: usize,
    steps: usize,
}

/// Everything that can be reached in so many steps.
fn explore(case: &Case, depth: usize, count: &mut Count) {
    let begin = case.begin();
    let mut stage = Stage::default();
    let mut shadow = Shadow::default();
    for line in &begin {
        act(&mut stage, &mut shadow, line);
    }
    let mut seen = HashSet::from([key(&stage, &shadow)]);
    let mut front = vec![(stage, shadow, Vec::new())];
    count.cases += 1;
    for _ in 0..depth {
        let mut next = Vec::new();
        for (stage, shadow, path) in front {
            for line in moves(&stage, case.nodes.len()) {
                count.steps += 1;
                let (mut stage, mut shadow) = (stage.clone(), shadow.clone());
                let mut path: Vec<Line> = path.clone();
                path.push(line.clone());
                let done = quietly(AssertUnwindSafe(|| act(&mut stage, &mut shadow, &line)));
                if done.is_err() {
                    tell(&begin, &path, End::Nothing);
                }
                if !seen.insert(key(&stage, &shadow)) {
                    continue;
                }
                count.states += 1;
                for end in [End::Rest, End::Down] {
                    let (mut stage, mut shadow) = (stage.clone(), shadow.clone());
                    let come = AssertUnwindSafe(|| end.come(&mut stage, &mut shadow, &mut |_| {}));
                    if quietly(come).is_err() {
                        tell(&begin, &path, end);
                    }
                }
                next.push((stage, shadow, path));
            }
        }
        front = next;
    }
}

fn tell(begin: &[Line], path: &[Line], end: End) -> ! {
    let lines = [begin, path].concat();
    panic!("this fails:\n\n{}", as_story(&shrink(lines, end), end));
}

fn explore_all(size: usize, of: &[Nodes], depth: usize) {
    let begin = Instant::now();
    let mut count = Count::default();
    let mut number = 0;
    while let Some(case) = Case::numbered(number, size, of) {
        number += 1;
        if case.is_first() {
            explore(&case, depth, &mut count);
        }
    }
    println!(
        "{size} services, {depth} steps deep: {} cases, {} states, {} steps in {:.1} s",
        count.cases,
        count.states,
        count.steps,
        begin.elapsed().as_secs_f64(),
    );
}

fn depth(usual: usize) -> usize {
    let set = std::env::var("DEPTH").ok();
    set.and_then(|depth| depth.parse().ok()).unwrap_or(usual)
}

const ALL: [Nodes; 3] = [Nodes::Daemon, Nodes::Oneshot, Nodes::Target];

#[test]
fn one_and_two_services_of_every_kind() {
    explore_all(1, &ALL, depth(2) + 4);
    explore_all(2, &ALL, depth(2) + 1);
}

#[test]
fn three_services() {
    explore_all(3, &[Nodes::Daemon], depth(2));
}
