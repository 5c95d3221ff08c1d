//! A table of what was measured, beside what it may be at most.

#![allow(dead_code, reason = "each test file uses the part of it that it needs")]

use std::collections::{BTreeMap, BTreeSet};

/// What is measured, and its limit.
pub(crate) type Limits = &'static [(&'static str, f64)];

/// What was measured.
pub(crate) struct Sheet {
    limits: Limits,
    rows: BTreeMap<String, f64>,
    /// For the reader, when one goes over: what it is made of.
    parts: BTreeMap<String, String>,
    skipped: BTreeSet<String>,
}

impl Sheet {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            rows: BTreeMap::new(),
            parts: BTreeMap::new(),
            skipped: BTreeSet::new(),
        }
    }

    /// So much was measured; `parts` is for the reader.
    pub(crate) fn put(&mut self, what: &str, measured: f64, parts: String) {
        let known = self.limits.iter().any(|(known, _)| *known == what);
        assert!(known, "{what} has no limit");
        let before = self.rows.insert(what.to_owned(), measured);
        assert_eq!(before, None, "{what} is measured twice");
        self.parts.insert(what.to_owned(), parts);
    }

    /// It can't be measured here.
    pub(crate) fn skip(&mut self, what: &str) {
        self.skipped.insert(what.to_owned());
    }

    /// Prints all of it, and fails if something costs too much or was not measured.
    pub(crate) fn judge(&self) {
        println!("{:47} | {:>9} | {:>9}", "what", "measured", "limit");
        let mut wrong = Vec::new();
        for (what, limit) in self.limits {
            let Some(measured) = self.rows.get(*what) else {
                println!("{what:47} | {:>9} | {limit:9}", "-");
                if !self.skipped.contains(*what) {
                    wrong.push(format!("{what}: not measured"));
                }
                continue;
            };
            let shown = (measured * 100.0).round() / 100.0;
            println!("{what:47} | {shown:9} | {limit:9}");
            if measured > limit {
                let parts = &self.parts[*what];
                wrong.push(format!("{what}: {shown}, limit {limit}\n{parts}"));
            }
        }
        assert!(wrong.is_empty(), "over budget:\n{}", wrong.join("\n"));
    }
}
