//! The access file: who beside root and the server's own user may do what.

use std::io::ErrorKind;
use std::path::Path;

use serde::Deserialize;

use super::sections;
use super::text;
use super::words::{List, Loose};
use super::{Problem, read};

/// What somebody may do. Each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// Nothing but to ask whether the server is there.
    Nothing,
    /// Look.
    Read,
    /// Start, stop, signal.
    Operate,
    /// Everything.
    Administer,
}

/// What an access file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// What everybody may who can open the socket: nothing or look.
    pub others: Right,
    /// What some may beyond that.
    pub rules: Vec<Rule>,
    /// Mode of the server's socket, if not the usual one.
    pub socket_mode: Option<u32>,
    /// The group the socket has.
    pub socket_group: Option<String>,
}

/// What some may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// These users, by name or number.
    pub users: Vec<String>,
    /// Members of these groups.
    pub groups: Vec<String>,
    /// They may do this.
    pub right: Right,
    /// With services of these names, where a `*` stands for anything; with all if none.
    pub services: Option<Vec<String>>,
}

impl Right {
    /// Its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Administer => "administer",
        }
    }
}

impl Default for Access {
    /// As without a file.
    fn default() -> Self {
        Self {
            others: Right::Read,
            rules: Vec::new(),
            socket_mode: None,
            socket_group: None,
        }
    }
}

impl Rule {
    /// Is the rule for this service? None: for all there are.
    #[must_use]
    pub fn is_for(&self, service: Option<&str>) -> bool {
        match (&self.services, service) {
            (None, _) => true,
            (Some(patterns), Some(name)) => patterns.iter().any(|pattern| fits(pattern, name)),
            (Some(patterns), None) => patterns.iter().any(|pattern| pattern == "*"),
        }
    }
}

/// Is the name one of the pattern, where `*` stands for any characters?
fn fits(pattern: &str, name: &str) -> bool {
    let Some((begin, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut left) = name.strip_prefix(begin) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(end)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    others: Option<Right>,
    #[serde(default)]
    socket_mode: Option<String>,
    #[serde(default)]
    socket_group: Option<Loose>,
    #[serde(default)]
    allow: Vec<Allow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename = "allow")]
struct Allow {
    #[serde(default)]
    users: List,
    #[serde(default)]
    groups: List,
    right: Right,
    #[serde(default)]
    services: Option<Vec<String>>,
}

/// Reads an access file; one that is not there says nothing. What it does not know it refuses,
/// because a rule that is not understood might have been meant to forbid something.
///
/// # Errors
/// With what is wrong.
pub fn load_access(path: &Path) -> Result<Access, Box<Problem>> {
    if matches!(std::fs::metadata(path), Err(error) if error.kind() == ErrorKind::NotFound) {
        return Ok(Access::default());
    }
    parse_access(path, &read(path)?)
}

/// Like [`load_access`], of a text that is already read; `path` is what the problem names.
///
/// # Errors
/// With what is wrong.
pub fn parse_access(path: &Path, text: &str) -> Result<Access, Box<Problem>> {
    let table = super::diagnose::parse_toml(path, text)?;
    let wrong = |text: String| Box::new(Problem::error(path, text));
    let document = text::to_json(&table);
    let file = File::deserialize(&document).map_err(|error| wrong(error.to_string()))?;
    let socket_mode =
        match file.socket_mode {
            None => None,
            Some(text) => Some(sections::umask(&text).ok_or_else(|| {
                wrong(format!("socket_mode: '{text}' must be octal, at most 0777"))
            })?),
        };
    let others = file.others.unwrap_or(Right::Read);
    if others > Right::Read {
        return Err(wrong("others: must be nothing or read".to_owned()));
    }
    let mut rules = Vec::new();
    for (place, allow) in file.allow.into_iter().enumerate() {
        let place = place + 1;
        if allow.users.0.is_empty() && allow.groups.0.is_empty() {
            return Err(wrong(format!(
                "allow {place}: names neither users nor groups"
            )));
        }
        if allow.right == Right::Administer && allow.services.is_some() {
            return Err(wrong(format!(
                "allow {place}: who administers does so for all services; leave services out"
            )));
        }
        rules.push(Rule {
            users: allow.users.0,
            groups: allow.groups.0,
            right: allow.right,
            services: allow.services,
        });
    }
    Ok(Access {
        others,
        rules,
        socket_mode,
        socket_group: file.socket_group.map(|Loose(text)| text),
    })
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, name) in [
            ("web", "web"),
            ("*", ""),
            ("web*", "web"),
            ("web*", "web-1"),
            ("*-db", "a-db"),
            ("a*b*c", "abc"),
            ("a*b*c", "axxbyyc"),
            ("**", "x"),
        ] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("web", "web1"),
            ("web*", "we"),
            ("*-db", "a-dbx"),
            ("a*a", "a"),
            ("a*b*c", "acb"),
        ] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }
}
