//! What is wrong with a file, where, and how to mend it.
//!
//! One review of a file finds all it can: each key is tried by itself, so that one wrong value
//! does not hide the next. Errors keep the file from being used; warnings do not.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use toml::de::{DeTable, DeValue};

use super::file;
use super::keys::{self, KEYS, Key, REQUIRED, SERVICE_SECTIONS, TARGET_SECTIONS, XINET_SECTIONS};
use super::probe::{Address, Url};
use super::sections::Destination;
use super::suggest::nearest;
use super::text;
use super::xinet;
use crate::engine::spec::Probe;
use crate::engine::{ProxySpec, Spec};

/// More problems in one file are not told one by one; nobody mends a hundred keys without a second look.
pub(super) const PROBLEMS_MAX: usize = 100;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// What it is about is not used.
    Error,
    /// It is used, and likely not what was meant.
    Warning,
}

/// Something wrong with a file or directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The file or directory.
    pub path: PathBuf,
    /// Where in the file, counted from 1.
    pub line: Option<usize>,
    /// Where in the line, in characters, counted from 1.
    pub column: Option<usize>,
    /// The key it is about, as `section.key`.
    pub key: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What may be right.
    pub hint: Option<String>,
}

impl Problem {
    /// An error of the whole file or directory.
    #[must_use]
    pub fn error(path: &Path, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            path: path.to_owned(),
            line: None,
            column: None,
            key: None,
            message: message.into(),
            hint: None,
        }
    }

    /// Stands for those that are not told one by one.
    pub(super) fn more(path: &Path) -> Self {
        Self::error(path, "there are more problems than these")
    }

    /// Does it keep the file from being used?
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    pub(super) fn with_hint(self, hint: Option<String>) -> Self {
        Self { hint, ..self }
    }

    /// At that byte of the text.
    pub(super) fn at(self, text: &[u8], offset: usize) -> Self {
        let before = &text[..offset.min(text.len())];
        let line_start = before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |newline| newline + 1);
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = String::from_utf8_lossy(&before[line_start..])
            .chars()
            .count()
            + 1;
        Self {
            line: Some(line),
            column: Some(column),
            ..self
        }
    }
}

/// `PATH:LINE:COLUMN: error: KEY: MESSAGE (HINT)` on one line, without what is not known.
///
/// `{:#}` leaves out the severity too, for a log that has its own.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_plain(f, &self.path.to_string_lossy())?;
        for number in [self.line, self.column].into_iter().flatten() {
            write!(f, ":{number}")?;
        }
        f.write_str(match self.severity {
            Severity::Error | Severity::Warning if f.alternate() => ": ",
            Severity::Error => ": error: ",
            Severity::Warning => ": warning: ",
        })?;
        if let Some(key) = &self.key {
            write_plain(f, key)?;
            f.write_str(": ")?;
        }
        write_plain(f, &self.message)?;
        if let Some(hint) = &self.hint {
            f.write_str(" (")?;
            write_plain(f, hint)?;
            f.write_str(")")?;
        }
        Ok(())
    }
}

/// Names and keys come from outside: a newline must not fake a second line, nor an escape colour a terminal.
fn write_plain(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    use fmt::Write;
    for character in text.chars() {
        if character.is_control() {
            write!(f, "{}", character.escape_default())?;
        } else {
            f.write_char(character)?;
        }
    }
    Ok(())
}

/// What a file says.
pub(crate) enum Meant {
    /// A service or a target.
    Service(Box<Spec>),
    /// A proxy.
    Proxy(ProxySpec),
}

/// What a text says, if no error keeps it from being used, and all that is wrong with the text.
pub(super) fn review(path: &Path, text: &str) -> (Option<Meant>, Vec<Problem>) {
    let source = match Source::parse(path, text) {
        Ok(source) => source,
        Err(problem) => return (None, vec![*problem]),
    };
    let mut review = Review {
        form: source.form(),
        source,
        problems: Vec::new(),
    };
    let meant = review.meant();
    (meant, review.finish())
}

/// Reads a text that is TOML.
pub(super) fn parse_toml<'a>(path: &Path, text: &'a str) -> Result<DeTable<'a>, Box<Problem>> {
    DeTable::parse(text)
        .map(toml::Spanned::into_inner)
        .map_err(|error| {
            let problem = Problem::error(path, error.message());
            Box::new(match error.span() {
                Some(span) => problem.at(text.as_bytes(), span.start),
                None => problem,
            })
        })
}

/// A text that is TOML, with the place of each key.
pub(super) struct Source<'a> {
    path: &'a Path,
    text: &'a str,
    table: DeTable<'a>,
}

impl<'a> Source<'a> {
    pub(super) fn parse(path: &'a Path, text: &'a str) -> Result<Self, Box<Problem>> {
        let table = parse_toml(path, text)?;
        Ok(Self { path, text, table })
    }

    fn form(&self) -> Form {
        let has = |section| self.table.contains_key(section);
        match (has("service"), has("target"), has("xinet")) {
            (false, true, _) => Form::Target,
            (false, false, true) => Form::Xinet,
            (_, _, _) => Form::Service,
        }
    }

    /// A problem of the key at that path; of the last part that exists, if it does not.
    ///
    /// In a list of strings, it points at the one that is `item`.
    pub(super) fn problem(
        &self,
        severity: Severity,
        keys: &[&str],
        item: Option<&str>,
        message: String,
    ) -> Problem {
        let problem =
            Problem::error(self.path, message).at(self.text.as_bytes(), self.offset(keys, item));
        Problem {
            severity,
            key: Some(keys.join(".")),
            ..problem
        }
    }

    fn offset(&self, keys: &[&str], item: Option<&str>) -> usize {
        let mut table = &self.table;
        let mut offset = 0;
        for key in keys {
            let Some((key, value)) = table.get_key_value(*key) else {
                break;
            };
            offset = key.span().start;
            if let DeValue::Array(items) = value.get_ref() {
                let wanted = items.iter().find(|value| value.get_ref().as_str() == item);
                return wanted
                    .filter(|_| item.is_some())
                    .map_or(offset, |value| value.span().start);
            }
            let DeValue::Table(inner) = value.get_ref() else {
                break;
            };
            table = inner;
        }
        offset
    }
}

/// What kind of file it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Service,
    Target,
    Xinet,
}

impl Form {
    fn sections(self) -> &'static [&'static str] {
        match self {
            Self::Service => &SERVICE_SECTIONS,
            Self::Target => &TARGET_SECTIONS,
            Self::Xinet => &XINET_SECTIONS,
        }
    }

    /// The first thing that keeps a document from being read.
    fn refusal(self, document: &Value) -> Option<String> {
        let error = match self {
            Self::Service => file::read_service(document).err(),
            Self::Target => file::read_target(document).err(),
            Self::Xinet => xinet::read(document).err(),
        };
        error.map(|error| error.to_string())
    }

    /// The least document with that key.
    fn document_with(self, section: &str, key: &str, value: Value) -> Value {
        let mut document = match self {
            Self::Service => json!({"service": {"name": "x", "exec": "x"}}),
            Self::Target => json!({"target": {"name": "x"}}),
            Self::Xinet => return xinet::document_with(key, value),
        };
        if section == "health" {
            document["health"] = json!({"type": "tcp", "target": "x"});
        }
        document[section][key] = value;
        document
    }
}

struct Review<'a> {
    source: Source<'a>,
    form: Form,
    problems: Vec<Problem>,
}

impl Review<'_> {
    fn meant(&mut self) -> Option<Meant> {
        self.unknown();
        if !self.has_form() {
            return None;
        }
        let document = text::to_json(&self.source.table);
        let service = |spec| Meant::Service(Box::new(spec));
        let read = match self.form {
            Form::Service => file::read_service(&document).map(|read| read.map(service)),
            Form::Target => file::read_target(&document).map(|read| read.map(service)),
            Form::Xinet => xinet::read(&document).map(|read| read.map(Meant::Proxy)),
        };
        match read {
            Ok(Ok(meant)) => {
                if let Meant::Service(spec) = &meant {
                    self.notes(spec);
                }
                return Some(meant);
            }
            Ok(Err(faults)) => {
                for fault in faults.into_iter().take(PROBLEMS_MAX) {
                    self.error(&[fault.section, fault.key], fault.what);
                }
            }
            Err(error) => self.misfits(&document, &error.to_string()),
        }
        None
    }

    fn error(&mut self, keys: &[&str], message: impl Into<String>) {
        let problem = self
            .source
            .problem(Severity::Error, keys, None, message.into());
        self.problems.push(problem);
    }

    fn warn(&mut self, keys: &[&str], message: &str, hint: Option<String>) {
        let problem = self
            .source
            .problem(Severity::Warning, keys, None, message.to_owned());
        self.problems.push(problem.with_hint(hint));
    }

    /// Warns of sections and keys that nobody reads.
    fn unknown(&mut self) {
        let mut unknown: Vec<(Vec<String>, bool)> = Vec::new();
        for (section, value) in &self.source.table {
            let section = section.get_ref().to_string();
            let DeValue::Table(table) = value.get_ref() else {
                unknown.extend(
                    (!self.form.sections().contains(&&*section)).then(|| (vec![section], false)),
                );
                continue;
            };
            if !self.form.sections().contains(&&*section) {
                unknown.push((vec![section], true));
                continue;
            }
            let strange = table
                .keys()
                .map(|key| key.get_ref())
                .filter(|key| !keys::is_known(&section, key));
            unknown.extend(strange.map(|key| (vec![section.clone(), key.to_string()], false)));
        }
        for (path, is_section) in unknown.into_iter().take(PROBLEMS_MAX + 1) {
            match path.as_slice() {
                [section, key] => self.warn(
                    &[section, key],
                    "unknown key, ignored",
                    key_hint(self.form, section, key),
                ),
                [section] if is_section => self.unknown_section(section),
                [key] => self.warn(&[key], "unknown key, ignored", key_hint(self.form, "", key)),
                _ => {}
            }
        }
    }

    fn unknown_section(&mut self, section: &str) {
        match (self.form, section) {
            (Form::Service, "target") => {
                self.warn(
                    &["target"],
                    "ignored, because the file has a [service] section too",
                    None,
                );
            }
            (_, "xinet") => {
                self.warn(
                    &["xinet"],
                    "ignored, because a proxy has a file of its own",
                    None,
                );
            }
            (Form::Target | Form::Xinet, known) if SERVICE_SECTIONS.contains(&known) => {
                self.warn(&[known], "has no meaning in such a file, ignored", None);
            }
            (form, unknown) => {
                let near = nearest(
                    unknown,
                    &mut SERVICE_SECTIONS.into_iter().chain(["target", "xinet"]),
                );
                let hint = near.map(|near| format!("did you mean '[{near}]'?"));
                self.warn(
                    &[unknown],
                    "unknown section, ignored",
                    hint.or_else(|| key_hint(form, "", unknown)),
                );
            }
        }
    }

    /// Has it the section that makes it a service or a target, and are its sections tables?
    fn has_form(&mut self) -> bool {
        let Source { table, text, path } = &self.source;
        if !table.contains_key(self.form.sections()[0]) {
            let is_empty = text.trim().is_empty();
            let message = if is_empty {
                "the file is empty"
            } else {
                "no [service], [target] or [xinet] section"
            };
            let hint = "a service has [service] with name and exec, a target has [target] with name, a proxy [xinet]";
            let problem = Problem::error(path, message).at(text.as_bytes(), 0);
            self.problems.push(problem.with_hint(Some(hint.to_owned())));
            return false;
        }
        let no_table = |value: Option<&toml::Spanned<DeValue<'_>>>| {
            value.is_some_and(|value| !value.get_ref().is_table())
        };
        let wrong: Vec<&str> = self
            .form
            .sections()
            .iter()
            .copied()
            .filter(|name| no_table(table.get(*name)))
            .collect();
        let service = table
            .get("service")
            .and_then(|service| service.get_ref().as_table());
        let wrong_env = service.is_some_and(|service| no_table(service.get("env")));
        for section in &wrong {
            self.error(&[section], format!("must be a table, written [{section}]"));
        }
        if wrong_env {
            self.error(
                &["service", "env"],
                "must be a table, written [service.env]",
            );
        }
        wrong.is_empty() && !wrong_env
    }

    /// Tells of each required key that is missing and each value that does not fit, where `first`
    /// is what the reading of the whole stumbled over.
    fn misfits(&mut self, document: &Value, first: &str) {
        let known = self.problems.len();
        let sections = self.form.sections();
        for key in KEYS.iter().filter(|key| sections.contains(&key.section)) {
            let Some(section) = document.get(key.section) else {
                continue;
            };
            let Some(value) = section.get(key.name) else {
                if key.default == REQUIRED {
                    self.error(&[key.section, key.name], "is required");
                }
                continue;
            };
            let refusal = self.form.refusal(&self.form.document_with(
                key.section,
                key.name,
                value.clone(),
            ));
            match (refusal, value.as_object()) {
                (None, _) => {}
                (Some(_), Some(table)) if key.name == "env" => self.env_misfits(table),
                (Some(refusal), _) => self.misfit(key, refusal),
            }
        }
        if self.problems.len() == known {
            self.error(&[sections[0]], first);
        }
    }

    fn misfit(&mut self, key: &Key, refusal: String) {
        let section = self
            .source
            .table
            .get(key.section)
            .and_then(|section| section.get_ref().get(key.name));
        let is_table = section.is_some_and(|value| value.get_ref().is_table());
        // What JSON has no word for was read as a table.
        let is_strange = !is_table && refusal.starts_with("invalid type: map");
        // Serde's words for lists and integers are Rust's, not the user's.
        let is_jargon = refusal.contains("expected u") || refusal.contains("a sequence");
        let message = if is_strange {
            "does not take such a value".to_owned()
        } else {
            refusal
        };
        let hint = (is_strange || is_jargon).then(|| format!("it takes: {}", key.kind));
        let problem = self
            .source
            .problem(Severity::Error, &[key.section, key.name], None, message);
        self.problems.push(problem.with_hint(hint));
    }

    fn env_misfits(&mut self, table: &serde_json::Map<String, Value>) {
        for (name, _) in table
            .iter()
            .filter(|(_, value)| !value.is_string())
            .take(PROBLEMS_MAX)
        {
            let problem = self.source.problem(
                Severity::Error,
                &["service", "env", name],
                None,
                "the value must be a string".to_owned(),
            );
            self.problems
                .push(problem.with_hint(Some("write it in quotes".to_owned())));
        }
    }

    /// Warns of what is understood and has no effect.
    fn notes(&mut self, spec: &Spec) {
        let forward = spec.logging.forward.as_deref();
        if forward.is_some_and(|text| Destination::parse(text).is_none()) {
            let hint = "it takes: syslog, unix:PATH, udp:ADDRESS:PORT, kmsg, console or stdout";
            let message = "not a destination that is known, ignored";
            self.warn(&["logging", "forward"], message, Some(hint.to_owned()));
        }
        let target = &["health", "target"];
        match spec.health.as_ref().map(|health| &health.probe) {
            Some(Probe::Tcp(text)) if Address::parse(text).is_none() => {
                let hint = "it takes: HOST:PORT, [IPV6]:PORT or unix:/PATH";
                let message = "nothing can be connected to there; the service will be unhealthy";
                self.warn(target, message, Some(hint.to_owned()));
            }
            Some(Probe::Http { url, .. }) => match Url::parse(url) {
                None => {
                    let hint = "it takes: http://HOST:PORT/PATH or http://unix:/SOCKET:/PATH";
                    let message = "not a URL that can be asked; the service will be unhealthy";
                    self.warn(target, message, Some(hint.to_owned()));
                }
                Some(url) if url.encrypted => {
                    let message = "https is not spoken; only the connection is probed";
                    self.warn(target, message, None);
                }
                Some(_) => {}
            },
            Some(Probe::Tcp(_) | Probe::Exec(_)) | None => {}
        }
    }

    /// All problems in the order of the file; of too many, errors come before warnings.
    fn finish(mut self) -> Vec<Problem> {
        // Errors first only where not all can stay; one sort, as each costs code of its own.
        let many = self.problems.len() > PROBLEMS_MAX;
        let severity = |problem: &Problem| many.then_some(problem.severity);
        self.problems
            .sort_by_key(|problem| (severity(problem), problem.line, problem.column));
        if many {
            self.problems.truncate(PROBLEMS_MAX);
            let severity = self.problems[PROBLEMS_MAX - 1].severity;
            self.problems.push(Problem {
                severity,
                ..Problem::more(self.source.path)
            });
        }
        self.problems
    }
}

/// Where an unknown key may belong, or what it may be meant to be.
fn key_hint(form: Form, section: &str, name: &str) -> Option<String> {
    let mut keys = KEYS
        .iter()
        .filter(|key| form.sections().contains(&key.section));
    if let Some(key) = keys
        .clone()
        .find(|key| key.name == name && key.section != section)
    {
        return Some(format!("'{name}' belongs in [{}]", key.section));
    }
    let near = nearest(
        name,
        &mut keys
            .by_ref()
            .filter(|key| key.section == section)
            .map(|key| key.name),
    );
    near.map(|near| format!("did you mean '{near}'?"))
}
