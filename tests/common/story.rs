//! Histories as lines: `service web requires=db`, `start web wait`, `kill web 1`, `advance 100`.
//!
//! Stories are written in them by hand, random histories are drawn in them, and a history that
//! fails is printed in them. Each line means something in any world, so that lines can be left out.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use zinit::engine::{
    Command, ErrandId, Event, Exit, Goal, Patience, Pid, Report, ServiceId, Signal, Spec, Ticket,
};
use zinit::record::{read_spec, spec_line};

use super::declare::{behaviour, exit as parse_exit, exit_word, number, traits};
use super::world::{Behaviour, Nature, Watch, World};

/// One line.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    /// Everything is forgotten.
    NewWorld(Nature),
    Declare(Box<Spec>),
    Forget(String),
    Behave(String, Behaviour),
    /// Milliseconds go by, and what is due happens.
    Advance(u64),
    /// Time goes by up to the engine's deadline.
    ToDeadline,
    /// Milliseconds are gone, and what was due is late.
    Jump(u64),
    Kill(Member, Exit),
    /// A process that hangs on its way to the program gets there.
    Exec(Member),
    Say(Member, Saying),
    /// An errand comes back of which nobody waits for any more: so many before the last one.
    Report(Who, u32),
    Call(Who),
    HangUp(u64),
    Ask(Asked, Answer),
    Status,
    Deadline,
}

/// A service, by name; or by id, also when it is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Name(String),
    Id(ServiceId),
}

/// A process of a service: its main one, or one of all it has.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) who: Who,
    pub(crate) place: Option<usize>,
}

/// What a program says of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Saying {
    Ready,
    Ping,
    Trouble,
    Extend(u64),
    Watch(u64),
    Main(i32),
}

#[derive(Clone, Debug)]
pub(crate) enum Asked {
    /// All that is declared, but leave these as they are.
    Load {
        keep: Vec<String>,
        start: bool,
    },
    Put(String),
    Boot(Vec<String>),
    StartAll,
    StopAll,
    RemoveAll,
    Shutdown {
        within: Option<u64>,
        spare: bool,
    },
    About(Verb, Who),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Verb {
    Start { deps: bool },
    Stop,
    Restart,
    Refresh,
    Remove,
    Signal(Signal),
    WaitFor(Goal),
}

/// Is an answer waited for?
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// Only by whom what was asked answers at once.
    Usual,
    /// That it was taken on.
    AtOnce,
    /// That it is done, or at latest after so many milliseconds.
    Done(Option<u64>),
    Nobody,
}

const GOALS: [(Goal, &str); 7] = [
    (Goal::Start, "start"),
    (Goal::Stop, "stop"),
    (Goal::Running, "running"),
    (Goal::Stopped, "stopped"),
    (Goal::Exited, "exited"),
    (Goal::Gone, "gone"),
    (Goal::Refresh, "refresh"),
];

impl Line {
    /// Reads a line; none if it is empty or a remark.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let words = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = words.split_whitespace().collect();
        Some(match words.as_slice() {
            [] => return None,
            ["new", "world", traits @ ..] => Self::NewWorld(nature(traits)),
            ["salt", salt] => Self::NewWorld(Nature {
                salt: number(salt),
                ..Nature::default()
            }),
            ["service" | "target", ..] => {
                Self::Declare(Box::new(read_spec(&words).expect("a service")))
            }
            ["forget", name] => Self::Forget((*name).to_owned()),
            ["behave", name, traits @ ..] => Self::Behave((*name).to_owned(), behaviour(traits)),
            ["advance", ms] => Self::Advance(number(ms)),
            ["to-deadline"] => Self::ToDeadline,
            ["jump", ms] => Self::Jump(number(ms)),
            ["kill", member, exit] => Self::Kill(Member::parse(member), parse_exit(exit)),
            ["exec", member] => Self::Exec(Member::parse(member)),
            ["say", member, words @ ..] => Self::Say(Member::parse(member), Saying::parse(words)),
            ["report", who, back] => Self::Report(Who::parse(who), number_of(back)),
            ["call", who] => Self::Call(Who::parse(who)),
            ["hang-up", ticket] => Self::HangUp(number(ticket)),
            ["status"] => Self::Status,
            ["deadline"] => Self::Deadline,
            [asked @ .., "wait"] => Self::Ask(Asked::parse(asked), Answer::Done(None)),
            [asked @ .., "wait", ms] => {
                Self::Ask(Asked::parse(asked), Answer::Done(Some(number(ms))))
            }
            [asked @ .., "ask"] => Self::Ask(Asked::parse(asked), Answer::AtOnce),
            [asked @ .., "mute"] => Self::Ask(Asked::parse(asked), Answer::Nobody),
            asked => Self::Ask(Asked::parse(asked), Answer::Usual),
        })
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewWorld(nature) => {
                f.write_str("new world")?;
                if nature.salt != 0 {
                    write!(f, " salt={}", nature.salt)?;
                }
                let flags = [
                    ("deadlines-first", nature.deadlines_first),
                    ("reuses-pids", nature.reuses_pids),
                ];
                let mut flags = flags.iter().filter(|(_, so)| *so);
                flags.try_for_each(|(word, _)| write!(f, " {word}"))
            }
            Self::Declare(spec) => f.write_str(&spec_line(spec)),
            Self::Forget(name) => write!(f, "forget {name}"),
            Self::Behave(name, behaviour) => write!(f, "behave {name}{}", traits(behaviour)),
            Self::Advance(ms) => write!(f, "advance {ms}"),
            Self::ToDeadline => f.write_str("to-deadline"),
            Self::Jump(ms) => write!(f, "jump {ms}"),
            Self::Kill(member, exit) => write!(f, "kill {member} {}", exit_word(*exit)),
            Self::Exec(member) => write!(f, "exec {member}"),
            Self::Say(member, saying) => write!(f, "say {member} {saying}"),
            Self::Report(who, back) => write!(f, "report {who} {back}"),
            Self::Call(who) => write!(f, "call {who}"),
            Self::HangUp(ticket) => write!(f, "hang-up {ticket}"),
            Self::Status => f.write_str("status"),
            Self::Deadline => f.write_str("deadline"),
            Self::Ask(asked, answer) => {
                write!(f, "{asked}")?;
                match answer {
                    Answer::Usual => Ok(()),
                    Answer::AtOnce => f.write_str(" ask"),
                    Answer::Nobody => f.write_str(" mute"),
                    Answer::Done(None) => f.write_str(" wait"),
                    Answer::Done(Some(ms)) => write!(f, " wait {ms}"),
                }
            }
        }
    }
}

fn nature(words: &[&str]) -> Nature {
    let mut nature = Nature::default();
    for word in words {
        match (*word, word.strip_prefix("salt=")) {
            (_, Some(salt)) => nature.salt = number(salt),
            ("deadlines-first", None) => nature.deadlines_first = true,
            ("reuses-pids", None) => nature.reuses_pids = true,
            (other, None) => panic!("a nature nobody knows: {other}"),
        }
    }
    nature
}

fn number_of<T: TryFrom<u64>>(text: &str) -> T {
    let number = T::try_from(number(text)).ok();
    number.unwrap_or_else(|| panic!("too large: {text}"))
}

impl Who {
    fn parse(word: &str) -> Self {
        let parts = word.split_once(':');
        match parts.map(|(index, generation)| (index.parse(), generation.parse())) {
            Some((Ok(index), Ok(generation))) => Self::Id(ServiceId::from_parts(index, generation)),
            Some(_) | None => Self::Name(word.to_owned()),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Id(id) => {
                let (index, generation) = id.parts();
                write!(f, "{index}:{generation}")
            }
        }
    }
}

impl Member {
    fn parse(word: &str) -> Self {
        match word.split_once('/') {
            Some((who, place)) => Self {
                who: Who::parse(who),
                place: Some(number_of(place)),
            },
            None => Self {
                who: Who::parse(word),
                place: None,
            },
        }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some(place) => write!(f, "{}/{place}", self.who),
            None => write!(f, "{}", self.who),
        }
    }
}

impl Saying {
    fn parse(words: &[&str]) -> Self {
        match words {
            ["ready"] => Self::Ready,
            ["ping"] => Self::Ping,
            ["trouble"] => Self::Trouble,
            ["extend", ms] => Self::Extend(number(ms)),
            ["watch", ms] => Self::Watch(number(ms)),
            ["main", pid] => Self::Main(number_of(pid)),
            other => panic!("words nobody says: {other:?}"),
        }
    }
}

impl fmt::Display for Saying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("ready"),
            Self::Ping => f.write_str("ping"),
            Self::Trouble => f.write_str("trouble"),
            Self::Extend(ms) => write!(f, "extend {ms}"),
            Self::Watch(ms) => write!(f, "watch {ms}"),
            Self::Main(pid) => write!(f, "main {pid}"),
        }
    }
}

impl Asked {
    fn parse(words: &[&str]) -> Self {
        let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        match words {
            ["load" | "reload", keep @ ..] => Self::Load {
                keep: all(keep),
                start: true,
            },
            ["load-only", keep @ ..] => Self::Load {
                keep: all(keep),
                start: false,
            },
            ["boot", names @ ..] => Self::Boot(all(names)),
            ["put", name] => Self::Put((*name).to_owned()),
            ["start-all"] => Self::StartAll,
            ["stop-all"] => Self::StopAll,
            ["remove-all"] => Self::RemoveAll,
            ["shutdown", rest @ ..] => Self::Shutdown {
                within: rest
                    .iter()
                    .find_map(|word| word.strip_prefix("within=").map(number)),
                spare: rest.contains(&"spare"),
            },
            [verb, who, rest @ ..] => Self::About(Verb::parse(verb, rest), Who::parse(who)),
            other => panic!("a command nobody knows: {other:?}"),
        }
    }

    /// Is it answered in the turn in which it is asked?
    fn answers_at_once(&self) -> bool {
        match self {
            Self::Load { .. } | Self::Put(_) => true,
            Self::About(verb, _) => match verb {
                Verb::Signal(_) | Verb::Refresh => true,
                Verb::Start { .. }
                | Verb::Stop
                | Verb::Restart
                | Verb::Remove
                | Verb::WaitFor(_) => false,
            },
            Self::Boot(_)
            | Self::StartAll
            | Self::StopAll
            | Self::RemoveAll
            | Self::Shutdown { .. } => false,
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = |word: &str, names: &[String]| {
            f.write_str(word)?;
            names.iter().try_for_each(|name| write!(f, " {name}"))
        };
        match self {
            Self::Load { keep, start: true } => all("reload", keep),
            Self::Load { keep, start: false } => all("load-only", keep),
            Self::Boot(names) => all("boot", names),
            Self::Put(name) => write!(f, "put {name}"),
            Self::StartAll => f.write_str("start-all"),
            Self::StopAll => f.write_str("stop-all"),
            Self::RemoveAll => f.write_str("remove-all"),
            Self::Shutdown { within, spare } => {
                f.write_str("shutdown")?;
                if let Some(ms) = within {
                    write!(f, " within={ms}")?;
                }
                f.write_str(if *spare { " spare" } else { "" })
            }
            Self::About(verb, who) => match verb {
                Verb::Start { deps: true } => write!(f, "start {who}"),
                Verb::Start { deps: false } => write!(f, "start {who} alone"),
                Verb::Stop => write!(f, "stop {who}"),
                Verb::Restart => write!(f, "restart {who}"),
                Verb::Refresh => write!(f, "refresh {who}"),
                Verb::Remove => write!(f, "remove {who}"),
                Verb::Signal(signal) => write!(f, "signal {who} {signal}"),
                Verb::WaitFor(goal) => {
                    let known = GOALS.iter().find(|(known, _)| known == goal);
                    let (_, word) = known.expect("all goals are there");
                    write!(f, "wait-for {who} {word}")
                }
            },
        }
    }
}

impl Verb {
    fn parse(verb: &str, rest: &[&str]) -> Self {
        match (verb, rest) {
            ("start", []) => Self::Start { deps: true },
            ("start", ["alone"]) => Self::Start { deps: false },
            ("stop", []) => Self::Stop,
            ("restart", []) => Self::Restart,
            ("refresh", []) => Self::Refresh,
            ("remove", []) => Self::Remove,
            ("signal", [signal]) => Self::Signal(Signal::parse(signal).expect("a signal")),
            ("wait-for", [goal]) => {
                let known = GOALS.iter().find(|(_, word)| word == goal);
                Self::WaitFor(known.expect("a goal").0)
            }
            other => panic!("a command nobody knows: {other:?}"),
        }
    }
}

/// A world, and what is declared for it.
#[derive(Clone, Default)]
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) declared: BTreeMap<String, Rc<Spec>>,
    pub(crate) last_ticket: u64,
}

impl Stage {
    /// Carries out one line. Gives a remark where it had nobody to be about.
    pub(crate) fn perform(&mut self, line: &Line, watch: &mut impl Watch) -> Option<String> {
        match line {
            Line::NewWorld(nature) => {
                *self = Self {
                    world: World::new(*nature),
                    ..Self::default()
                };
            }
            Line::Declare(spec) => {
                let spec = Rc::new((**spec).clone());
                self.declared.insert(spec.name.to_string(), spec);
            }
            Line::Forget(name) => drop(self.declared.remove(name)),
            Line::Behave(name, behaviour) => {
                self.world.behaviours.insert(name.clone(), *behaviour);
            }
            Line::Advance(ms) => {
                let end = self.world.now + Duration::from_millis(*ms);
                self.world.run_until(end, watch);
            }
            Line::ToDeadline => {
                let now = self.world.now;
                let next = self.world.supervisor.next_deadline();
                self.world.run_until(next.unwrap_or(now).max(now), watch);
            }
            Line::Jump(ms) => self.world.now = self.world.now + Duration::from_millis(*ms),
            Line::Kill(member, exit) => match self.process(member) {
                Some(pid) => self.world.kill(pid, *exit, watch),
                None => return Some(format!("no process of {member}")),
            },
            Line::Exec(member) => match self.process(member) {
                Some(pid) => self.world.exec(pid, watch),
                None => return Some(format!("no process of {member}")),
            },
            Line::Say(member, saying) => match self.process(member) {
                Some(pid) => self.say(pid, *saying, watch),
                None => return Some(format!("no process of {member}")),
            },
            Line::Report(who, back) => {
                let Some(service) = self.find(who) else {
                    return Some(format!("no service {who}"));
                };
                let last = self.world.last_errands.get(&service).copied();
                let errand = ErrandId(last.map_or(0, |last| last.0.saturating_sub(*back)));
                let report = Report::Failed;
                let event = Event::Returned {
                    service,
                    errand,
                    report,
                };
                self.world.feed(event, watch);
            }
            Line::Call(who) => match self.find(who) {
                Some(service) => self.world.feed(Event::Called { service }, watch),
                None => return Some(format!("no service {who}")),
            },
            Line::HangUp(ticket) => {
                let ticket = Ticket(*ticket);
                self.world.feed(Event::HungUp { ticket }, watch);
            }
            Line::Ask(asked, answer) => return self.ask(asked, *answer, watch),
            Line::Status | Line::Deadline => {}
        }
        None
    }

    fn find(&self, who: &Who) -> Option<ServiceId> {
        match who {
            Who::Name(name) => self.world.supervisor.find(name),
            Who::Id(id) => Some(*id),
        }
    }

    fn process(&self, member: &Member) -> Option<Pid> {
        let service = self.find(&member.who)?;
        let Some(place) = member.place else {
            return self.world.supervisor.service(service)?.state().pid();
        };
        let all = self.world.processes.iter();
        let mut of_it = all.filter(|(_, process)| process.service == service);
        of_it.nth(place).map(|(pid, _)| *pid)
    }

    fn say(&mut self, pid: Pid, saying: Saying, watch: &mut impl Watch) {
        let span = Duration::from_millis;
        let event = match saying {
            Saying::Ready => Event::Ready { pid },
            Saying::Ping => Event::Ping { pid },
            Saying::Trouble => Event::Trouble { pid },
            Saying::Extend(ms) => Event::Extend { pid, by: span(ms) },
            Saying::Watch(ms) => {
                let within = span(ms);
                Event::Watch { pid, within }
            }
            Saying::Main(to) => {
                let to = Pid::new(to).expect("a pid");
                self.world.rename(pid, to);
                Event::Handover { pid, to }
            }
        };
        self.world.feed(event, watch);
    }

    fn ask(&mut self, asked: &Asked, answer: Answer, watch: &mut impl Watch) -> Option<String> {
        let all = || self.declared.values().cloned().collect();
        let command = match asked {
            Asked::Load { keep, start } => Command::Reload {
                specs: all(),
                keep: keep.iter().map(|name| Rc::from(&**name)).collect(),
                start: *start,
            },
            Asked::Put(name) => match self.declared.get(name) {
                Some(spec) => Command::Put {
                    spec: Rc::clone(spec),
                },
                None => return Some(format!("no service {name}")),
            },
            Asked::Boot(names) => {
                let found = names.iter().map(|name| self.world.supervisor.find(name));
                Command::Boot {
                    services: found.flatten().collect(),
                }
            }
            Asked::StartAll => Command::StartAll,
            Asked::StopAll => Command::StopAll,
            Asked::RemoveAll => Command::RemoveAll,
            Asked::Shutdown { within, spare } => Command::Shutdown {
                within: within.map(Duration::from_millis),
                spare: *spare,
            },
            Asked::About(verb, who) => {
                let Some(service) = self.find(who) else {
                    return Some(format!("no service {who}"));
                };
                about(*verb, service)
            }
        };
        let (is_ticket, patience) = match answer {
            Answer::Usual => (asked.answers_at_once(), Patience::None),
            Answer::AtOnce => (true, Patience::None),
            Answer::Nobody => (false, Patience::None),
            Answer::Done(ms) => {
                let until = ms.map(|ms| self.world.now + Duration::from_millis(ms));
                (true, Patience::Until(until))
            }
        };
        self.last_ticket += u64::from(is_ticket);
        let event = Event::Command {
            ticket: is_ticket.then_some(Ticket(self.last_ticket)),
            patience,
            command,
        };
        self.world.feed(event, watch);
        None
    }
}

fn about(verb: Verb, service: ServiceId) -> Command {
    match verb {
        Verb::Start { deps } => Command::Start { service, deps },
        Verb::Stop => Command::Stop { service },
        Verb::Restart => Command::Restart { service },
        Verb::Refresh => Command::Refresh { service },
        Verb::Remove => Command::Remove { service },
        Verb::Signal(signal) => Command::Signal { service, signal },
        Verb::WaitFor(goal) => Command::Wait { service, goal },
    }
}
