//! All mutants of a file in one text: each is chosen at run time by its number.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

/// A place in a file, and what may stand there instead.
#[derive(Debug)]
struct Site {
    range: Range<usize>,
    kind: Kind,
    /// The mutants: their numbers and what stands there then.
    others: Vec<(usize, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Nothing there, but this much is put in.
    Insert,
    /// A word that goes.
    Drop,
    /// A statement that may be left out.
    Statement,
    /// An expression.
    Expression,
}

/// The sites of a file.
#[derive(Debug, Default)]
pub(crate) struct Weave {
    sites: BTreeMap<(usize, std::cmp::Reverse<usize>, Kind), Site>,
}

/// A text with all mutants in it, and where each of them stands.
#[derive(Debug, Default)]
pub(crate) struct Woven {
    pub(crate) text: String,
    /// Where a mutant is written, or the site it belongs to.
    pub(crate) places: Vec<(Range<usize>, Vec<usize>)>,
}

impl Weave {
    fn site(&mut self, range: Range<usize>, kind: Kind) -> &mut Site {
        let key = (range.start, std::cmp::Reverse(range.end), kind);
        self.sites.entry(key).or_insert_with(|| Site {
            range,
            kind,
            others: Vec::new(),
        })
    }

    /// `text` may stand there instead of that expression.
    pub(crate) fn instead(&mut self, range: Range<usize>, number: usize, text: String) {
        self.site(range, Kind::Expression)
            .others
            .push((number, text));
    }

    /// That statement may be left out.
    pub(crate) fn without(&mut self, range: Range<usize>, number: usize) {
        self.site(range, Kind::Statement)
            .others
            .push((number, String::new()));
    }

    /// `text`, which asks for the mutant itself, is put in there.
    pub(crate) fn insert(&mut self, at: usize, number: usize, text: String) {
        self.site(at..at, Kind::Insert).others.push((number, text));
    }

    /// What is there goes in any case.
    pub(crate) fn strike(&mut self, range: Range<usize>) {
        self.site(range, Kind::Drop);
    }

    /// The text with those mutants that are not refused.
    pub(crate) fn text(&self, source: &str, is_refused: &dyn Fn(usize) -> bool) -> Woven {
        let sites: Vec<&Site> = self.sites.values().collect();
        let mut woven = Woven::default();
        woven.part(source, 0..source.len(), &sites, is_refused);
        woven
    }
}

impl Woven {
    /// The mutants in that range without which something is left: `return` and `continue`.
    pub(crate) fn leaves_within(&self, range: &Range<usize>) -> Vec<usize> {
        let leaves = |place: &Range<usize>| {
            let text = &self.text[place.clone()];
            let text = text.split_once("{ ").map_or("", |(_, text)| text);
            text.starts_with("if !") && (text.contains("{ return") || text.contains("{ continue"))
                || text.starts_with("return")
                || text.starts_with("continue")
        };
        let inside = self.places.iter().filter(|(place, _)| {
            range.start <= place.start && place.end <= range.end && leaves(place)
        });
        inside
            .flat_map(|(_, numbers)| numbers.iter().copied())
            .collect()
    }

    fn part(
        &mut self,
        source: &str,
        range: Range<usize>,
        mut sites: &[&Site],
        is_refused: &dyn Fn(usize) -> bool,
    ) {
        let mut at = range.start;
        while let Some((site, rest)) = sites.split_first() {
            self.text.push_str(&source[at..site.range.start]);
            let count = match site.kind {
                Kind::Insert => 0,
                Kind::Drop | Kind::Statement | Kind::Expression => rest
                    .iter()
                    .take_while(|inner| {
                        inner.range.start < site.range.end && inner.range.end <= site.range.end
                    })
                    .count(),
            };
            let (inside, after) = rest.split_at(count);
            self.site(source, site, inside, is_refused);
            at = site.range.end;
            sites = after;
        }
        self.text.push_str(&source[at..range.end]);
    }

    fn site(
        &mut self,
        source: &str,
        site: &Site,
        inside: &[&Site],
        is_refused: &dyn Fn(usize) -> bool,
    ) {
        let begin = self.text.len();
        let others = site
            .others
            .iter()
            .filter(|(number, _)| !is_refused(*number));
        let others: Vec<_> = others.collect();
        match site.kind {
            Kind::Drop => {}
            Kind::Insert => {
                for (number, text) in &others {
                    let begin = self.text.len();
                    self.text.push_str(text);
                    self.places.push((begin..self.text.len(), vec![*number]));
                }
            }
            Kind::Statement | Kind::Expression if others.is_empty() => {
                self.part(source, site.range.clone(), inside, is_refused);
            }
            Kind::Statement => {
                let off = others.iter().map(|(number, _)| on(*number));
                let off = off.collect::<Vec<_>>().join(" || ");
                write!(self.text, "if !({off}) {{ ").expect("to a string");
                self.part(source, site.range.clone(), inside, is_refused);
                self.text.push_str(" }");
            }
            Kind::Expression => {
                self.text.push('(');
                for (number, text) in &others {
                    write!(self.text, "if {} {{ ", on(*number)).expect("to a string");
                    let begin = self.text.len();
                    self.text.push_str(text);
                    self.places.push((begin..self.text.len(), vec![*number]));
                    self.text.push_str(" } else ");
                }
                self.text.push_str("{ ");
                self.part(source, site.range.clone(), inside, is_refused);
                self.text.push_str(" })");
            }
        }
        let numbers = others.iter().map(|(number, _)| *number).collect();
        self.places.push((begin..self.text.len(), numbers));
    }
}

/// Is the mutant of that number the one that is looked at?
pub(crate) fn on(number: usize) -> String {
    format!("crate::mutant::on({number})")
}
