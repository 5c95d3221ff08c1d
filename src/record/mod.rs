//! The flight recorder: what the engine was told last, as a text that replays it.
//!
//! The engine decides by what it remembers and what it is told, and by nothing else. So what it
//! remembered at some time, and each event since then, is all there is to know about what a machine
//! did; a text of the two, replayed anywhere, gives the same actions to the last one.
//!
//! ```text
//! spec 0 service web restart=always     what is meant by a number below (see `declare.rs`)
//! kept id 0.0 spec 0 state …            what the engine remembered
//! ----
//! 1200 Exited pid 4711 exit Code 1      the time in milliseconds, and what it was told
//!   1200ms  web  Running → Clearing     what it did (see `trace.rs`)
//! ----
//! kept id 0.0 spec 0 state …            what it remembers now
//! ```
//!
//! Programs, arguments and environment are not in it, so it can be shown to others.

mod declare;
mod trace;
mod words;

use std::rc::Rc;

pub use self::declare::{read_spec, spec_line};
pub use self::trace::{Shown, Trace};
use self::words::{Misread, Reader, Words, Writer};
use crate::engine::spec::Exec;
use crate::engine::{Action, Command, Event, Snapshot, Spec, Supervisor, Time};

/// What is kept: the last events, at least so many and at most twice as many. With more services
/// than that it is as many as there are services, so that keeping them costs next to nothing.
const LEAST_EVENTS: usize = 512;

/// So many names weigh as much as an event.
const NAMES_AN_EVENT: usize = 4;

/// And so many bytes of a definition.
const BYTES_AN_EVENT: usize = 256;

/// What a short text takes beside its letters.
const BYTES_A_NAME: usize = 32;

/// Keeps what the engine was told last.
#[derive(Clone, Debug)]
pub struct Recorder {
    least: usize,
    older: Segment,
    newer: Segment,
    /// What the newer one may still take.
    room: usize,
}

/// Events in a row, and what the engine remembered before the first.
#[derive(Clone, Debug, Default)]
struct Segment {
    base: Snapshot,
    events: Vec<(Time, Event)>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::keeping(LEAST_EVENTS)
    }
}

impl Recorder {
    /// One that keeps this many events at least.
    #[must_use]
    pub fn keeping(least: usize) -> Self {
        Self {
            least,
            older: Segment::default(),
            newer: Segment::default(),
            room: 0,
        }
    }

    /// This engine is about to be told this.
    pub fn note(&mut self, all: &Supervisor, now: Time, event: &Event) {
        if self.room == 0 {
            std::mem::swap(&mut self.older, &mut self.newer);
            self.newer.base = all.snapshot();
            self.newer.events.clear();
            self.room = self.least.max(self.newer.base.services.len());
        }
        let (event, weight) = kept(all, event);
        self.room = self.room.saturating_sub(weight);
        self.newer.events.push((now, event));
    }

    /// All of it, as a text that replays it. `all` is the engine as it is now; if the text would
    /// not lead to it, the text says so.
    #[must_use]
    pub fn text(&self, all: &Supervisor) -> String {
        let now = all.snapshot();
        let base = match (&*self.older.events, &*self.newer.events) {
            ([], []) => &now,
            ([], [_, ..]) => &self.newer.base,
            ([_, ..], _) => &self.older.base,
        };
        let mut player = Player::new(base);
        for (now, event) in self.older.events.iter().chain(&self.newer.events) {
            player.feed(*now, event.clone());
        }
        let same = player.all.snapshot() == now;
        let text = player.end();
        let version = env!("CARGO_PKG_VERSION");
        let note = if same {
            ""
        } else {
            "# THIS IS NOT WHERE THE MACHINE IS NOW, which is a bug of zinit's: please report it.\n"
        };
        format!(
            "# What the engine of zinit {version} was told last, and what it did.\n{note}{text}"
        )
    }
}

/// The event as it is kept, and what it weighs. A definition that the engine has already is the
/// engine's; another one weighs what it holds, so that no number of large ones is kept.
fn kept(all: &Supervisor, event: &Event) -> (Event, usize) {
    let mut event = event.clone();
    let mut weight = 1;
    if let Event::Command { command, .. } = &mut event {
        let specs = match command {
            Command::Reload { specs, keep, .. } => {
                weight += (specs.len() + keep.len()) / NAMES_AN_EVENT;
                specs.as_mut_slice()
            }
            Command::Put { spec } => std::slice::from_mut(spec),
            Command::Boot { services } => {
                weight += services.len() / NAMES_AN_EVENT;
                &mut []
            }
            Command::Start { .. }
            | Command::Stop { .. }
            | Command::Restart { .. }
            | Command::Signal { .. }
            | Command::Refresh { .. }
            | Command::Wait { .. }
            | Command::Remove { .. }
            | Command::StartAll
            | Command::StopAll
            | Command::RemoveAll
            | Command::Shutdown { .. } => &mut [],
        };
        for spec in specs {
            let known = all.find(&spec.name).and_then(|id| all.service(id));
            match known.filter(|known| known.spec() == spec) {
                Some(known) => *spec = Rc::clone(known.spec()),
                None => weight += 1 + held_bytes(spec) / BYTES_AN_EVENT,
            }
        }
    }
    (event, weight)
}

/// Most of the bytes of a definition: the names in it, what is run, and its environment.
fn held_bytes(spec: &Spec) -> usize {
    let length = |exec: &Exec| match exec {
        Exec::Line(line) => line.len(),
        Exec::Words(words) => words.iter().map(|word| word.len() + BYTES_A_NAME).sum(),
    };
    let links = &spec.links;
    let lists = [
        &links.requires,
        &links.after,
        &links.wants,
        &links.conflicts,
    ];
    let names = lists.into_iter().flatten();
    let names: usize = names.map(|name| name.len() + BYTES_A_NAME).sum();
    let all = &spec.hooks;
    let hooks = [
        &all.pre_start,
        &all.post_start,
        &all.stop,
        &all.post_stop,
        &all.reload,
    ];
    let hooks = hooks.into_iter().flatten();
    let hooks: usize = hooks.map(|hook| length(&hook.exec)).sum();
    let program = spec.program().map_or(0, |program| {
        let env = program.env.iter();
        let env = env.map(|(key, value)| key.len() + value.len() + 2 * BYTES_A_NAME);
        length(&program.exec) + env.sum::<usize>()
    });
    names + hooks + program
}

/// Replays a text and writes it anew. If what was done is not what would be done now, the two texts
/// differ.
///
/// # Errors
/// With the line and one sentence, if it is no such text.
pub fn replay(text: &str) -> Result<String, String> {
    let remarks: String = text
        .split_inclusive('\n')
        .take_while(|line| line.starts_with('#'))
        .collect();
    let mut parts = text[remarks.len()..].split("----\n");
    let base = read_base(parts.next().unwrap_or_default())?;
    let mut player = Player::new(&base.snapshot);
    for line in parts.next().unwrap_or_default().lines() {
        if line.starts_with(' ') {
            continue;
        }
        let wrong = |wrong: Misread| told(line, &wrong);
        let mut reader = Reader::new(line, &base.specs);
        let now = Words::read(&mut reader).map_err(wrong)?;
        let event = Words::read(&mut reader).map_err(wrong)?;
        reader.end().map_err(wrong)?;
        player.feed(now, event);
    }
    Ok(remarks + &player.end())
}

fn told(line: &str, misread: &Misread) -> String {
    let Misread { found, wanted } = misread;
    format!("{line}\n'{found}' stands where {wanted} should")
}

struct Base {
    specs: Vec<Rc<Spec>>,
    snapshot: Snapshot,
}

fn read_base(text: &str) -> Result<Base, String> {
    let (mut specs, mut snapshot) = (Vec::new(), Snapshot::default());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("spec ") {
            let words: Vec<&str> = rest.split_whitespace().skip(1).collect();
            let mut spec = read_spec(&words).map_err(|wrong| format!("{line}\n{wrong}"))?;
            // Specs that differ in what is not told differ still.
            spec.logging.buffer_lines = specs.len();
            specs.push(Rc::new(spec));
            continue;
        }
        read_memory(line, &specs, &mut snapshot).map_err(|wrong| told(line, &wrong))?;
    }
    Ok(Base { specs, snapshot })
}

fn read_memory(line: &str, specs: &[Rc<Spec>], into: &mut Snapshot) -> Result<(), Misread> {
    let mut reader = Reader::new(line, specs);
    match reader.word("a key")? {
        "salt" => into.salt = Words::read(&mut reader)?,
        "phase" => into.phase = Words::read(&mut reader)?,
        "depths" => into.depths = Words::read(&mut reader)?,
        "free" => into.free = Words::read(&mut reader)?,
        "kept" => into.services.push(Words::read(&mut reader)?),
        "waiting" => into.waiting.push(Words::read(&mut reader)?),
        other => {
            let found = other.to_owned();
            let wanted = "salt, phase, depths, free, kept or waiting";
            return Err(Misread { found, wanted });
        }
    }
    reader.end()
}

/// An engine that is fed, and the text of it.
struct Player {
    all: Supervisor,
    trace: Trace,
    actions: Vec<Action>,
    writer: Writer,
}

impl Player {
    fn new(base: &Snapshot) -> Self {
        let all = Supervisor::restored(base);
        let mut player = Self {
            trace: Trace::of(&all),
            all,
            actions: Vec::new(),
            writer: Writer::default(),
        };
        player.remember(base);
        player.writer.text.push_str("----\n");
        player
    }

    fn line(&mut self, key: &str, value: &impl Words) {
        self.writer.text.push_str(key);
        value.write(&mut self.writer);
        self.writer.text.push('\n');
    }

    fn remember(&mut self, base: &Snapshot) {
        self.line("salt", &base.salt);
        self.line("phase", &base.phase);
        self.line("depths", &base.depths);
        self.line("free", &base.free);
        for kept in &base.services {
            self.line("kept", kept);
        }
        for waiting in &base.waiting {
            self.line("waiting", waiting);
        }
    }

    fn feed(&mut self, now: Time, event: Event) {
        now.write(&mut self.writer);
        self.line("", &event);
        self.trace.event(now, &self.all, &event);
        self.all.handle(now, event, &mut self.actions);
        for action in self.actions.drain(..) {
            self.trace.action(now, &self.all, &action);
        }
        for line in self.trace.lines.drain(..) {
            self.writer.text.push_str("  ");
            self.writer.text.push_str(&line);
            self.writer.text.push('\n');
        }
    }

    fn end(mut self) -> String {
        self.writer.text.push_str("----\n");
        let now = self.all.snapshot();
        self.remember(&now);
        let mut text = String::new();
        for (number, spec) in self.writer.specs.iter().enumerate() {
            text.push_str(&format!("spec {number} {}\n", spec_line(spec)));
        }
        text + &self.writer.text
    }
}
