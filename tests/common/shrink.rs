//! A history that fails, made as short as it can be while it still fails in the same way.

use std::cell::Cell;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, UnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;
use std::time::Duration;

use zinit::engine::{Exit, Refresh, State, Want};
use zinit::record::Trace;

use super::shadow::{Shadow, is_met};
use super::story::{Answer, Asked, Line, Member, Stage, Verb, Who};
use super::world::{Behaviour, World};

/// Time in which everything comes to rest, one after another, in a world that has turned kind.
const LONGEST_CALM_MS: u64 = 24 * 15_000;

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// What a promise said that broke meanwhile. It is not printed: many break on the way to a short
/// story.
pub(crate) fn quietly<T>(act: impl FnOnce() -> T + UnwindSafe) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| {
            if !IS_QUIET.get() {
                usual(panic);
            }
        }));
    });
    let before = IS_QUIET.replace(true);
    let done = catch_unwind(act);
    IS_QUIET.set(before);
    done.map_err(|said| {
        let text = said.downcast_ref::<String>().cloned();
        let text = text.or_else(|| said.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        text.unwrap_or_default()
    })
}

/// What is wrong with these lines, if anything: the first line of what a promise said when it broke.
pub(crate) fn wrong_with(lines: &[Line], end: End) -> Option<String> {
    let mut shadow = Shadow::default();
    play(lines, end, &mut shadow)
}

/// How a history ends, and what is looked at then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Nothing,
    /// The world turns kind: whoever is started from now on works, and after some time everything
    /// that moved has come to rest.
    Rest,
    /// Everything is asked for, and up.
    #[allow(dead_code, reason = "for histories")]
    Up,
    /// Everything is down.
    Down,
}

impl End {
    /// Brings it about, and looks.
    pub(crate) fn come(self, stage: &mut Stage, shadow: &mut Shadow, told: &mut dyn FnMut(&Line)) {
        let mut perform = |stage: &mut Stage, shadow: &mut Shadow, line: Line| {
            told(&line);
            act(stage, shadow, &line);
        };
        match self {
            Self::Nothing => return,
            Self::Rest => {
                for line in kindness(stage) {
                    perform(stage, shadow, line);
                }
            }
            Self::Up => {
                let start = true;
                let keep = Vec::new();
                let load = Asked::Load { keep, start };
                perform(stage, shadow, Line::Ask(load, Answer::Usual));
                for name in names(stage) {
                    let asked = Asked::About(Verb::Start { deps: true }, Who::Name(name));
                    perform(stage, shadow, Line::Ask(asked, Answer::Done(None)));
                }
            }
            Self::Down => {
                if !stage.world.supervisor.is_closing() {
                    let (within, spare) = (None, false);
                    let asked = Asked::Shutdown { within, spare };
                    perform(stage, shadow, Line::Ask(asked, Answer::Usual));
                }
            }
        }
        let (most_ms, is_so): (u64, fn(&World) -> bool) = match self {
            Self::Down => (shadow.longest_shutdown(&stage.world), |world| world.halted),
            Self::Nothing | Self::Rest | Self::Up => (LONGEST_CALM_MS, is_at_rest),
        };
        let (mut gone, mut span) = (0, 50);
        while gone < most_ms && !is_so(&stage.world) {
            perform(stage, shadow, Line::Advance(span));
            gone += span;
            span = (span * 2).min(most_ms);
        }
        match self {
            Self::Nothing => {}
            Self::Rest => shadow.settled_for_good(&stage.world),
            Self::Up => {
                for (_, service) in stage.world.supervisor.services() {
                    assert!(is_met(service), "not up: {service:?}");
                }
            }
            Self::Down => shadow.finished(&stage.world),
        }
    }
}

fn names(stage: &Stage) -> Vec<String> {
    let services = stage.world.supervisor.services();
    services
        .map(|(_, service)| service.spec().name.to_string())
        .collect()
}

/// Lines by which every service works from its next start on.
fn kindness(stage: &Stage) -> Vec<Line> {
    let half = |span: Duration| u64::try_from(span.as_millis() / 2).expect("a short time");
    let services = stage.world.supervisor.services();
    let lines = services.map(|(_, service)| {
        let spec = service.spec();
        let behaviour = Behaviour {
            lives_ms: spec.is_oneshot().then_some(5),
            ping_ms: spec.watchdog.map(half),
            probe_ms: Some(0),
            hook_ms: Some(0),
            exec_ms: 0,
            ready_ms: Some(0),
            ..Behaviour::default()
        };
        let name = spec.name.to_string();
        let behaves = Line::Behave(name.clone(), behaviour);
        // It may have been meant to run on when it was started.
        let (who, place) = (Who::Name(name), None);
        let ends = Line::Kill(Member { who, place }, Exit::Code(0));
        let has_to = spec.is_oneshot() && service.state().pid().is_some();
        [Some(behaves), Some(ends).filter(|_| has_to)]
    });
    lines.flatten().flatten().collect()
}

/// Does nothing move any more, unless somebody or something outside moves it?
fn is_at_rest(world: &World) -> bool {
    world.supervisor.services().all(|(_, service)| {
        let state = service.state();
        let is_up = matches!(state, State::Running { .. }) && !service.spec().is_oneshot();
        let is_changing = matches!(service.want(), Want::Cycle | Want::Gone);
        let reloads = matches!(service.care().refresh, Refresh::Under { .. });
        let moves = state.is_active() || state.deadline().is_some();
        !is_changing && !reloads && (is_up || !moves)
    })
}

fn play(lines: &[Line], end: End, shadow: &mut Shadow) -> Option<String> {
    let mut stage = Stage::default();
    let played = quietly(AssertUnwindSafe(|| {
        for line in lines {
            act(&mut stage, shadow, line);
        }
        end.come(&mut stage, shadow, &mut |_| {});
    }));
    played.err()
}

/// The kind of a failure: what was said, up to where it names somebody.
fn kind(said: &str) -> String {
    let end = said.find([':', '#', '\n']).unwrap_or(said.len());
    said[..end].replace(|letter: char| letter.is_ascii_digit(), "")
}

/// Leaves out whatever can be left out: halves first, then ever smaller pieces, then single lines
/// until none can go.
pub(crate) fn shrink(lines: Vec<Line>, end: End) -> Vec<Line> {
    let Some(said) = wrong_with(&lines, end) else {
        return lines;
    };
    let kind = kind(&said);
    let fails =
        |lines: &[Line]| wrong_with(lines, end).is_some_and(|said| self::kind(&said) == kind);
    let mut left = lines;
    let mut size = left.len() / 2;
    while size > 0 {
        let mut at = 0;
        let mut any = false;
        while at < left.len() {
            let until = (at + size).min(left.len());
            let mut fewer = left[..at].to_vec();
            fewer.extend_from_slice(&left[until..]);
            // The world itself stays.
            let keeps_world = matches!(fewer.first(), Some(Line::NewWorld(_)));
            if keeps_world && fails(&fewer) {
                left = fewer;
                any = true;
            } else {
                at = until;
            }
        }
        if !any || size > 1 {
            size /= 2;
        }
    }
    simpler(left, fails)
}

/// Takes what a line does not need: links, policies and traits of a service, milliseconds.
fn simpler(mut left: Vec<Line>, fails: impl Fn(&[Line]) -> bool) -> Vec<Line> {
    let mut at = 0;
    while at < left.len() {
        let words = left[at].to_string();
        let words: Vec<&str> = words.split_whitespace().collect();
        let fixed = match &left[at] {
            Line::Declare(_) | Line::Behave(..) => 2,
            Line::NewWorld(_) => 2,
            Line::Forget(_)
            | Line::Advance(_)
            | Line::ToDeadline
            | Line::Jump(_)
            | Line::Kill(..)
            | Line::Exec(_)
            | Line::Say(..)
            | Line::Report(..)
            | Line::Call(_)
            | Line::HangUp(_)
            | Line::Ask(..)
            | Line::Status
            | Line::Deadline => words.len(),
        };
        let mut taken = false;
        for place in fixed..words.len() {
            let mut fewer = words.clone();
            fewer.remove(place);
            let Ok(line) = quietly(|| Line::parse(&fewer.join(" "))) else {
                continue;
            };
            let mut lines = left.clone();
            lines[at] = line.expect("it is not empty");
            if fails(&lines) {
                left = lines;
                taken = true;
                break;
            }
        }
        if !taken {
            at += 1;
        }
    }
    left
}

/// The lines as a golden file, with what happens up to where it fails.
pub(crate) fn as_story(lines: &[Line], end: End) -> String {
    let said = wrong_with(lines, end).unwrap_or_default();
    let said = said.lines().next().unwrap_or_default();
    let mut text = format!("# {said}\n");
    let mut stage = Stage::default();
    // The shadow is made anew with its world, so the trace is given to it after that line.
    let mut shadow = Shadow::default();
    let (world, rest) = lines.split_first().expect("a world");
    let _ = writeln!(text, "{world}");
    act(&mut stage, &mut shadow, world);
    shadow.trace = Some(Trace::default());
    let _ = quietly(AssertUnwindSafe(|| {
        for line in rest {
            let _ = writeln!(text, "{line}");
            act(&mut stage, &mut shadow, line);
        }
        end.come(&mut stage, &mut shadow, &mut |line| {
            let _ = writeln!(text, "{line}");
        });
    }));
    let trace = shadow.trace.expect("it was given one").lines;
    format!("{text}----\n{}\n", trace.join("\n"))
}

/// Performs a line under the eyes of the shadow.
pub(crate) fn act(stage: &mut Stage, shadow: &mut Shadow, line: &Line) {
    if let Line::NewWorld(nature) = line {
        *shadow = Shadow::new(*nature);
    }
    stage.perform(line, shadow);
}
