//! Stories as text: blocks of commands, a line `----`, and the trace that follows from them.
//!
//! An empty line ends a block, `#` begins a remark, `new world` forgets everything. A story is
//! played in a simulated world and the traces compared; with `REWRITE=1` they are written anew, to
//! be read by whoever changed the engine.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use zinit::engine::{
    Action, Command, End, Errand, Event, Exit, Failure, Goal, Hold, Outcome, Patience, Pid,
    ServiceId, Signal, Spec, State, Ticket, Verdict,
};

use super::declare::{behaviour, spec};
use super::world::{Watch, World};

/// Plays the story in this file.
///
/// # Panics
/// If its traces are not what they were.
pub(crate) fn play(path: &Path) {
    let text = std::fs::read_to_string(path).expect("a story");
    let played = replay(&text);
    if std::env::var_os("REWRITE").is_some() {
        std::fs::write(path, played).expect("a story can be rewritten");
    } else if played != text {
        panic!("{}: {}", path.display(), first_difference(&text, &played));
    }
}

fn replay(text: &str) -> String {
    let mut story = Story::new();
    let mut played = String::new();
    for block in text.split("\n\n").map(str::trim) {
        let commands = block.split("\n----").next().unwrap_or_default();
        for line in commands.lines() {
            story.say(line);
        }
        let trace = std::mem::take(&mut story.teller.lines);
        let begin = if played.is_empty() { "" } else { "\n" };
        writeln!(played, "{begin}{commands}").expect("to a string");
        let only_remarks = commands.lines().all(|line| line.starts_with('#'));
        if !only_remarks {
            writeln!(played, "----").expect("to a string");
            trace
                .iter()
                .for_each(|line| writeln!(played, "{line}").expect("to a string"));
        }
    }
    played
}

fn first_difference(expected: &str, found: &str) -> String {
    let pairs = expected.lines().zip(found.lines());
    let at = pairs.take_while(|(a, b)| a == b).count();
    let line = |text: &str| text.lines().nth(at).unwrap_or("(the end)").to_owned();
    format!(
        "line {}:\n  was  {}\n  is   {}\n\nThe story now:\n{found}",
        at + 1,
        line(expected),
        line(found)
    )
}

struct Story {
    world: World,
    teller: Teller,
    declared: BTreeMap<String, Spec>,
    last_ticket: u64,
}

impl Story {
    fn new() -> Self {
        Self {
            world: World::salted(0),
            teller: Teller::default(),
            declared: BTreeMap::new(),
            last_ticket: 0,
        }
    }

    /// Carries out one line of commands.
    fn say(&mut self, line: &str) {
        let words: Vec<&str> = line
            .split('#')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        match words.as_slice() {
            [] => {}
            ["new", "world"] => *self = Self::new(),
            ["service" | "target", name, ..] => {
                self.declared.insert((*name).to_owned(), spec(&words));
            }
            ["forget", name] => drop(self.declared.remove(*name)),
            ["behave", name, traits @ ..] => {
                let behaviour = behaviour(traits);
                self.world.behaviours.insert((*name).to_owned(), behaviour);
            }
            ["advance", ms] => {
                let end = self.world.now + Duration::from_millis(number(ms));
                self.world.run_until(end, &mut self.teller);
            }
            ["kill", name, exit] => self.kill(name, exit),
            ["say", name, words @ ..] => self.hear(name, words),
            ["salt", salt] => self.world = World::salted(number(salt)),
            ["status"] => self.status(),
            ["deadline"] => {
                let next = self.world.supervisor.next_deadline();
                self.teller.lines.push(format!("deadline {next:?}"));
            }
            ["call", name] => {
                let service = self.world.supervisor.find(name).expect("a service");
                self.feed(Event::Called { service });
            }
            ["hang-up", ticket] => self.feed(Event::HungUp {
                ticket: Ticket(number(ticket)),
            }),
            [command @ .., "wait"] => self.command(command, Some(Patience::Until(None))),
            [command @ .., "wait", ms] => {
                let end = self.world.now + Duration::from_millis(number(ms));
                self.command(command, Some(Patience::Until(Some(end))));
            }
            command => self.command(command, None),
        }
    }

    fn command(&mut self, words: &[&str], patience: Option<Patience>) {
        let command = match words {
            ["load" | "reload", keep @ ..] => Command::Reload {
                specs: self.declared.values().cloned().map(Rc::new).collect(),
                keep: keep.iter().map(|name| Rc::from(*name)).collect(),
                start: true,
            },
            ["load-only"] => Command::Reload {
                specs: self.declared.values().cloned().map(Rc::new).collect(),
                keep: Vec::new(),
                start: false,
            },
            ["boot", names @ ..] => Command::Boot {
                services: names
                    .iter()
                    .filter_map(|name| self.world.supervisor.find(name))
                    .collect(),
            },
            ["put", name] => Command::Put {
                spec: Rc::new(self.declared[*name].clone()),
            },
            ["start-all"] => Command::StartAll,
            ["stop-all"] => Command::StopAll,
            ["remove-all"] => Command::RemoveAll,
            ["shutdown", rest @ ..] => Command::Shutdown {
                within: rest.iter().find_map(|word| {
                    let ms = word.strip_prefix("within=")?;
                    Some(Duration::from_millis(number(ms)))
                }),
                spare: rest.contains(&"spare"),
            },
            [verb, name, rest @ ..] => {
                let Some(service) = self.world.supervisor.find(name) else {
                    return self.teller.lines.push(format!("no service {name}"));
                };
                about(verb, service, rest)
            }
            other => panic!("a command nobody knows: {other:?}"),
        };
        let answers_at_once = matches!(
            command,
            Command::Reload { .. }
                | Command::Put { .. }
                | Command::Signal { .. }
                | Command::Refresh { .. }
        );
        let ticket = (patience.is_some() || answers_at_once).then(|| {
            self.last_ticket += 1;
            Ticket(self.last_ticket)
        });
        self.feed(Event::Command {
            ticket,
            patience: patience.unwrap_or(Patience::None),
            command,
        });
    }

    fn kill(&mut self, name: &str, exit: &str) {
        let service = self.world.supervisor.find(name).and_then(|id| {
            let service = self.world.supervisor.service(id)?;
            service.state().pid()
        });
        if exit == "memory" {
            return match service {
                Some(pid) => self.world.kill(pid, Exit::OutOfMemory, &mut self.teller),
                None => self.teller.lines.push(format!("no process of {name}")),
            };
        }
        let exit = match Signal::parse(exit) {
            Ok(signal) if exit.starts_with("SIG") => Exit::Signal(signal.number()),
            Ok(_) | Err(_) => Exit::Code(exit.parse().expect("an exit status")),
        };
        match service {
            Some(pid) => self.world.kill(pid, exit, &mut self.teller),
            None => self.teller.lines.push(format!("no process of {name}")),
        }
    }

    /// What a program says of itself.
    fn hear(&mut self, name: &str, words: &[&str]) {
        let id = self.world.supervisor.find(name).expect("a service");
        let service = self.world.supervisor.service(id).expect("a service");
        let pid = service.state().pid().expect("a process");
        let span = |ms: &str| Duration::from_millis(number(ms));
        let event = match words {
            ["ready"] => Event::Ready { pid },
            ["ping"] => Event::Ping { pid },
            ["trouble"] => Event::Trouble { pid },
            ["extend", ms] => Event::Extend { pid, by: span(ms) },
            ["watch", ms] => {
                let within = span(ms);
                Event::Watch { pid, within }
            }
            ["main", to] => {
                let to = i32::try_from(number(to)).expect("a pid");
                let to = Pid::new(to).expect("a pid");
                self.world.rename(pid, to);
                Event::Handover { pid, to }
            }
            other => panic!("words nobody says: {other:?}"),
        };
        self.feed(event);
    }

    fn status(&mut self) {
        for (_, service) in self.world.supervisor.services() {
            let (name, state) = (&service.spec().name, Shown(service.state()));
            let line = format!("{name}: {state:#} (want {:?})", service.want());
            self.teller.lines.push(line);
        }
    }

    fn feed(&mut self, event: Event) {
        self.world.feed(event, &mut self.teller);
    }
}

fn about(verb: &str, service: ServiceId, rest: &[&str]) -> Command {
    match (verb, rest) {
        ("start", []) => Command::Start {
            service,
            deps: true,
        },
        ("start", ["alone"]) => Command::Start {
            service,
            deps: false,
        },
        ("stop", []) => Command::Stop { service },
        ("restart", []) => Command::Restart { service },
        ("refresh", []) => Command::Refresh { service },
        ("remove", []) => Command::Remove { service },
        ("signal", [signal]) => Command::Signal {
            service,
            signal: Signal::parse(signal).expect("a signal"),
        },
        ("wait-for", [goal]) => Command::Wait {
            service,
            goal: match *goal {
                "running" => Goal::Running,
                "stopped" => Goal::Stopped,
                "exited" => Goal::Exited,
                "gone" => Goal::Gone,
                other => panic!("a goal nobody knows: {other}"),
            },
        },
        other => panic!("a command nobody knows: {other:?}"),
    }
}

pub(super) fn number(text: &str) -> u64 {
    text.parse()
        .unwrap_or_else(|_| panic!("not a number: {text}"))
}

/// Writes down what goes by. Steps of one service right after each other share a line.
#[derive(Default)]
struct Teller {
    lines: Vec<String>,
    names: BTreeMap<ServiceId, Rc<str>>,
    of_pid: BTreeMap<Pid, Rc<str>>,
}

impl Teller {
    fn name(&mut self, world: &World, id: ServiceId) -> Rc<str> {
        if let Some(name) = world.name(id) {
            self.names.insert(id, Rc::from(name));
        }
        Rc::clone(self.names.get(&id).expect("nobody speaks of the unknown"))
    }

    fn tell(&mut self, world: &World, id: ServiceId, what: &str) {
        let line = format!("{:?}  {}  {what}", world.now, self.name(world, id));
        self.lines.push(line);
    }

    fn changed(&mut self, world: &World, id: ServiceId, from: State, to: State) {
        let name = self.name(world, id);
        let begin = format!("{:?}  {name}  ", world.now);
        let before = Shown(from).to_string();
        match self.lines.last_mut() {
            Some(line) if line.starts_with(&begin) && line.ends_with(&before) => {
                write!(line, " → {}", Shown(to)).expect("to a string");
            }
            Some(_) | None => self.lines.push(format!("{begin}{before} → {}", Shown(to))),
        }
    }
}

impl Watch for Teller {
    fn event(&mut self, world: &World, event: &Event) {
        if let Event::Forked { service, pid } = *event {
            let name = self.name(world, service);
            self.of_pid.insert(pid, name);
            self.tell(world, service, &format!("forked {pid}"));
        }
    }

    fn action(&mut self, world: &World, action: &Action) {
        match action {
            Action::Spawn { service } => self.tell(world, *service, "spawn"),
            Action::KillTree {
                service,
                pid,
                signal,
            } => self.tell(world, *service, &format!("{signal} to {pid}")),
            Action::Sweep { service, signal } => {
                if !world.members(*service).is_empty() {
                    self.tell(world, *service, &format!("sweep with {signal}"));
                }
            }
            Action::Signal { pid, signal } => {
                let line = format!("{:?}  {}  user's {signal}", world.now, self.of_pid[pid]);
                self.lines.push(line);
            }
            Action::Changed { service, from, to } => self.changed(world, *service, *from, *to),
            Action::Removed { service, name } => {
                self.names.insert(*service, Rc::clone(name));
                self.tell(world, *service, "removed");
            }
            Action::Reply { ticket, outcome } => {
                let line = format!("{:?}  reply {}: {}", world.now, ticket.0, told(outcome));
                self.lines.push(line);
            }
            Action::Refresh { pid, signal } => {
                let line = format!("{:?}  {}  reload by {signal}", world.now, self.of_pid[pid]);
                self.lines.push(line);
            }
            Action::Errand { service, what, .. } => {
                let what = match what {
                    Errand::Probe => "probe".to_owned(),
                    Errand::Hook(hook) => format!("{} hook", hook.name()),
                };
                self.tell(world, *service, &what);
            }
            Action::Recall { service, .. } => self.tell(world, *service, "recall"),
            Action::Attend { service, awaits } => {
                let word = if *awaits {
                    "awaits a call"
                } else {
                    "awaits none"
                };
                self.tell(world, *service, word);
            }
            Action::Health { service, healthy } => {
                let word = if *healthy { "healthy" } else { "unhealthy" };
                self.tell(world, *service, word);
            }
            Action::Sequel {
                service, follow, ..
            } => self.tell(world, *service, &format!("then {follow:?}")),
            Action::CriticalFailed { service } => self.tell(world, *service, "critical, failed"),
            Action::Halt => self.lines.push(format!("{:?}  halt", world.now)),
            Action::Anomaly { what, .. } => self.lines.push(format!("anomaly: {what}")),
        }
    }

    fn settled(&mut self, _world: &World) {}
}

fn told(outcome: &Outcome) -> String {
    let list = |names: &[Rc<str>]| names.join(" ");
    match outcome {
        Outcome::Done => "done".to_owned(),
        Outcome::Not(verdict) => verdict_word(*verdict).to_owned(),
        Outcome::Unknown => "unknown".to_owned(),
        Outcome::NoReload => "no reload".to_owned(),
        Outcome::NotRunning => "not running".to_owned(),
        Outcome::ShuttingDown => "shutting down".to_owned(),
        Outcome::Bulk { services, failed } => {
            let failed: Vec<_> = failed
                .iter()
                .map(|(_, verdict)| verdict_word(*verdict))
                .collect();
            format!("all of [{}], but [{}]", list(services), failed.join(", "))
        }
        Outcome::Reloaded {
            added,
            removed,
            changed,
            refused,
        } => [
            ("added", added),
            ("removed", removed),
            ("changed", changed),
            ("refused", refused),
        ]
        .iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| format!("{what} {}", list(names)))
        .collect::<Vec<_>>()
        .join("; "),
    }
}

fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Failed => "failed",
        Verdict::Blocked => "blocked",
        Verdict::Superseded => "superseded",
        Verdict::Removed => "it was removed",
        Verdict::TimedOut => "timed out",
    }
}

/// A state in a word or two; with `#` also what holds it back.
struct Shown(State);

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            State::Inactive => f.write_str("Inactive"),
            State::Blocked { hold } if f.alternate() => match hold {
                Hold::Obstructed { until } => write!(f, "Blocked, Obstructed until {until:?}"),
                Hold::Waiting
                | Hold::Stuck
                | Hold::Missing
                | Hold::Cycle
                | Hold::Conflict
                | Hold::Port => write!(f, "Blocked, {hold:?}"),
            },
            State::Blocked { .. } => f.write_str("Blocked"),
            State::Preparing { .. } => f.write_str("Preparing"),
            State::Forking => f.write_str("Forking"),
            State::Spawning { .. } => f.write_str("Spawning"),
            State::Starting { awaits, .. } if f.alternate() => write!(f, "Starting, {awaits:?}"),
            State::Starting { .. } => f.write_str("Starting"),
            State::Trailing { .. } => f.write_str("Trailing"),
            State::Running { .. } => f.write_str("Running"),
            State::Stopping { force, .. } if f.alternate() => write!(f, "Stopping, {force:?}"),
            State::Stopping { .. } => f.write_str("Stopping"),
            State::Clearing { .. } => f.write_str("Clearing"),
            State::Backoff { until, end } => {
                write!(f, "Backoff until {until:?} after {}", ending(end))
            }
            State::Exited { end } => match end.code() {
                Some(code) => write!(f, "Exited {code}"),
                None => f.write_str("Exited"),
            },
            State::Failed { why } => write!(f, "Failed, {}", failing(why)),
        }
    }
}

fn ending(end: End) -> String {
    match end {
        End::Asked(_) => "a stop".to_owned(),
        End::Success(_) => "success".to_owned(),
        End::Failure(why) => failing(why),
    }
}

fn failing(why: Failure) -> String {
    match why {
        Failure::ExitCode(code) => format!("code {code}"),
        Failure::Signal(signal) => format!("signal {signal}"),
        Failure::Spawn(error) => format!("{:?} errno {}", error.step, error.errno),
        Failure::StartTimeout => "start timeout".to_owned(),
        Failure::StopTimeout => "stop timeout".to_owned(),
        Failure::Unready => "it was not ready".to_owned(),
        Failure::Health { attempts } => format!("{attempts} probes"),
        Failure::Watchdog => "watchdog".to_owned(),
        Failure::Trouble => "its own word".to_owned(),
        Failure::OutOfMemory => "out of memory".to_owned(),
        Failure::Hook { hook, fault } => format!("{} hook {fault:?}", hook.name()),
    }
}
