//! Stories as text: blocks of lines (`story.rs`), a line `----`, and the trace that follows.
//!
//! An empty line ends a block, `#` begins a remark, `new world` forgets everything. A story is
//! played in a simulated world and the traces compared; with `REWRITE=1` they are written anew, to
//! be read by whoever changed the engine.

use std::fmt::Write as _;
use std::path::Path;

use zinit::engine::{Action, Event};
use zinit::record::{Shown, Trace};

use super::story::{Line, Stage};
use super::world::{Nature, Watch, World};

/// Plays the story, or the record of a machine, in this file.
///
/// # Panics
/// If its traces are not what they were.
pub(crate) fn play(path: &Path) {
    let text = std::fs::read_to_string(path).expect("a story");
    let is_record = text.contains("\nkept id ");
    let played = if is_record {
        zinit::record::replay(&text).expect("a record")
    } else {
        replay(&text)
    };
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
        let lines = block.split("\n----").next().unwrap_or_default();
        for line in lines.lines().filter_map(Line::parse) {
            story.say(&line);
        }
        let trace = std::mem::take(&mut story.teller.trace.lines);
        let begin = if played.is_empty() { "" } else { "\n" };
        writeln!(played, "{begin}{lines}").expect("to a string");
        let only_remarks = lines.lines().all(|line| line.starts_with('#'));
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
    stage: Stage,
    teller: Teller,
}

impl Story {
    fn new() -> Self {
        Self {
            stage: Stage {
                world: World::new(Nature::default()),
                ..Stage::default()
            },
            teller: Teller::default(),
        }
    }

    fn say(&mut self, line: &Line) {
        let lines = &mut self.teller.trace.lines;
        match line {
            Line::NewWorld(_) => self.teller.forget(),
            Line::Status => {
                let services = self.stage.world.supervisor.services();
                lines.extend(services.map(|(_, service)| {
                    let (name, state) = (&service.spec().name, Shown(service.state()));
                    format!("{name}: {state:#} (want {:?})", service.want())
                }));
            }
            Line::Deadline => {
                let next = self.stage.world.supervisor.next_deadline();
                lines.push(format!("deadline {next:?}"));
            }
            Line::Declare(_)
            | Line::Forget(_)
            | Line::Behave(..)
            | Line::Advance(_)
            | Line::ToDeadline
            | Line::Jump(_)
            | Line::Kill(..)
            | Line::Exec(_)
            | Line::Say(..)
            | Line::Report(..)
            | Line::Call(_)
            | Line::HangUp(_)
            | Line::Ask(..) => {}
        }
        let remark = self.stage.perform(line, &mut self.teller);
        self.teller.trace.lines.extend(remark);
    }
}

/// Writes down what goes by.
#[derive(Default)]
pub(crate) struct Teller {
    pub(crate) trace: Trace,
}

impl Teller {
    /// The world is another one; what was said of the last one stays.
    fn forget(&mut self) {
        let lines = std::mem::take(&mut self.trace.lines);
        self.trace = Trace::default();
        self.trace.lines = lines;
    }
}

impl Watch for Teller {
    fn event(&mut self, world: &World, event: &Event) {
        self.trace.event(world.now, &world.supervisor, event);
    }

    fn action(&mut self, world: &World, action: &Action) {
        // A sweep of nothing is answered at once, and nothing to be told.
        if let Action::Sweep { service, .. } = action
            && world.members(*service).is_empty()
        {
            return;
        }
        self.trace.action(world.now, &world.supervisor, action);
    }

    fn settled(&mut self, _world: &World) {}
}
