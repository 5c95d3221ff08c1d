//! Where a line of a service's output goes, beside its ring: a container's own output, a file, a
//! destination elsewhere, and whoever follows.

use std::rc::Rc;

use super::forward::Forward;
use super::keeper::Keeper;
use super::ship::{Cargo, Route, Ships};
use crate::engine::Spec;
use crate::sys::clock::Utc;
use crate::sys::output::Stream;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Sinks {
    /// The output of a container.
    pub(super) forward: Option<Forward>,
    /// Files.
    pub(super) keeper: Keeper,
    /// Destinations elsewhere.
    pub(super) ships: Ships,
    /// Does anybody follow?
    is_tapped: bool,
    tap: Vec<Tapped>,
    tap_bytes: usize,
    /// Lines that came in beyond what can be told in one turn, by service and stream.
    missed: Vec<(Rc<str>, Stream, u64)>,
}

/// Bytes of lines that those who follow can be told in one turn.
const TAP_BYTES: usize = 256 << 10;

/// Where the lines of one service go.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pipework {
    pub(super) file: Option<usize>,
    route: Option<Route>,
}

/// A line for those who follow.
#[derive(Clone, Debug)]
pub(super) struct Tapped {
    pub(super) name: Rc<str>,
    pub(super) at_ms: u64,
    pub(super) stream: Stream,
    pub(super) content: String,
}

/// Lines of one stream that were read at one time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    pub(super) name: &'a Rc<str>,
    pub(super) stream: Stream,
    pub(super) at_ms: u64,
    /// The pipe they came over; none if it was no pipe.
    pub(super) slot: Option<usize>,
    /// Time and stream, for a file.
    pub(super) head: &'a str,
}

impl Sinks {
    /// Where the lines of a service go from now on; those of others go where they are `used` to.
    pub(super) fn of(&mut self, spec: &Spec, used: &[Pipework]) -> Pipework {
        let file = |place| used.iter().any(|work| work.file == Some(place));
        let to = |work: &Pipework| work.route.map(Route::place);
        let route = |place| used.iter().any(|work| to(work) == Some(place));
        Pipework {
            file: self.keeper.of(spec, file),
            route: self.ships.of(spec, route),
        }
    }

    /// Takes on a line, or a piece of one.
    pub(super) fn push(&mut self, work: Pipework, source: &Source<'_>, line: &[u8], ends: bool) {
        if let (Some(forward), Some(slot)) = (&mut self.forward, source.slot) {
            forward.push(source.stream, slot, source.name, line, ends);
        }
        if let Some(file) = work.file {
            self.keeper.push(file, source.head, line);
        }
        if let Some(route) = work.route {
            let cargo = Cargo {
                name: source.name,
                at_ms: source.at_ms,
                stream: source.stream,
                line,
            };
            self.ships.push(route, &cargo);
        }
        if self.is_tapped && self.tap_bytes < TAP_BYTES {
            // A short line costs too.
            self.tap_bytes += line.len() + 64;
            self.tap.push(Tapped {
                name: Rc::clone(source.name),
                at_ms: source.at_ms,
                stream: source.stream,
                content: String::from_utf8_lossy(line).into_owned(),
            });
        } else if self.is_tapped {
            let is_it = |(name, stream, _): &&mut (Rc<str>, Stream, u64)| {
                name == source.name && *stream == source.stream
            };
            match self.missed.iter_mut().find(is_it) {
                Some((_, _, count)) => *count += 1,
                None => {
                    let name = Rc::clone(source.name);
                    self.missed.push((name, source.stream, 1));
                }
            }
        }
    }

    /// What came in since this was asked last.
    pub(super) fn take_tap(&mut self) -> Vec<Tapped> {
        self.tap_bytes = 0;
        std::mem::take(&mut self.tap)
    }

    /// What came in beyond that.
    pub(super) fn take_missed(&mut self) -> Vec<(Rc<str>, Stream, u64)> {
        std::mem::take(&mut self.missed)
    }

    /// Nothing goes anywhere yet, but to the output of a container.
    pub(super) fn new(forward: Option<Forward>) -> Self {
        Self {
            forward,
            ..Self::default()
        }
    }

    /// From now on somebody follows, or nobody does.
    pub(super) fn tap(&mut self, is_tapped: bool) {
        if !is_tapped {
            self.take_tap();
            self.missed.clear();
        }
        self.is_tapped = is_tapped;
    }
}

/// Time and stream, as a file has them before each line.
pub(super) fn head(at_ms: u64, stream: Stream) -> String {
    format!("{} {}", Utc::at(at_ms), stream.name())
}
