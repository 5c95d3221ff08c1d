//! The mutants that survive, and why that is right: `tests/mutants.txt`.
//!
//! A mutant is a line `FILE: FUNCTION: CHANGE`, with ` #2` behind the second of that name in that
//! function. The reason stands below, indented; several mutants in a row share one.

use std::collections::BTreeMap;
use std::path::Path;

use crate::find::Mutant;

/// What the file says.
pub(crate) struct Known {
    reasons: BTreeMap<String, String>,
}

impl Known {
    /// Reads the file; one that is not there explains nothing.
    pub(crate) fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let mut reasons = BTreeMap::new();
        let mut waiting: Vec<String> = Vec::new();
        let mut reason = String::new();
        for line in text.lines().chain(["end"]) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line.starts_with(' ') {
                reason.push_str(line.trim());
                continue;
            }
            if !reason.is_empty() {
                reasons.extend(waiting.drain(..).map(|name| (name, reason.clone())));
                reason.clear();
            }
            waiting.push(line.to_owned());
        }
        waiting.pop();
        assert!(waiting.is_empty(), "without a reason: {waiting:?}");
        Self { reasons }
    }

    pub(crate) fn explains(&self, name: &str) -> bool {
        self.reasons.contains_key(name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.reasons.keys()
    }
}

/// What each is called in that file: no line numbers, so that it stays true when others move.
pub(crate) fn names(mutants: &[Mutant]) -> Vec<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let name = |mutant: &Mutant| {
        let name = format!("{}: {}: {}", mutant.file, mutant.within, mutant.change);
        let count = seen.entry(name.clone()).or_insert(0);
        *count += 1;
        match *count {
            1 => name,
            count => format!("{name} #{count}"),
        }
    };
    mutants.iter().map(name).collect()
}
