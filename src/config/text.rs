//! TOML to JSON value and back.
//!
//! The parsed document becomes a JSON value, so that the mirror is read in one language only;
//! that keeps the binary small. The way back is written by the table of keys.

use std::fmt::Write;

use serde_json::{Map, Value};
use toml::de::{DeInteger, DeTable, DeValue};

use super::file;
use super::keys::KEYS;
use crate::engine::Spec;

/// Document, section, key, element: nothing deeper has a meaning, and a hostile file is not followed further.
const DEPTH_MAX: usize = 4;

/// Sections that zinit 0.3.9 did not have, and what it did not have of the others. There a default is
/// left out, so that a file is not longer than it was.
const SINCE: [&str; 6] = [
    "readiness",
    "hooks",
    "limits",
    "resources",
    "socket",
    "logging",
];
const LATER: [&str; 18] = [
    "tty",
    "groups",
    "no_new_privs",
    "env_file",
    "success_exit",
    "restart_dependents",
    "on_failure",
    "on_exit",
    "kill_mode",
    "survive_switch_root",
    "on_unhealthy",
    "user",
    "group",
    "umask",
    "nice",
    "ionice",
    "oom_score_adj",
    "capabilities",
];

/// Writes the file that says the spec.
#[must_use]
pub fn to_toml(spec: &Spec) -> String {
    write(&file::document(spec))
}

/// Writes a file as its document says.
pub(super) fn write(document: &Value) -> String {
    let mut out = String::new();
    let mut section = "";
    for key in KEYS {
        let value = &document[key.section][key.name];
        let is_later = SINCE.contains(&key.section) || LATER.contains(&key.name);
        let is_kept = key.name == "buffer_lines" || !is_later;
        if value.is_null() || (!is_kept && is_default(key.name, value, key.default, document)) {
            continue;
        }
        if key.section != section {
            section = key.section;
            write_header(&mut out, section);
        }
        match value.as_object() {
            Some(table) => write_table(&mut out, section, key.name, table),
            None => write_pair(&mut out, key.name, value),
        }
    }
    out
}

/// Does an absent key say the same?
fn is_default(name: &str, value: &Value, default: &str, document: &Value) -> bool {
    let text = match value {
        // Somebody may be called `none`.
        Value::String(_) if default == "none" => return false,
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "empty".to_owned(),
        Value::Array(items) if items.len() == 1 => items[0].to_string(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            value.to_string()
        }
    };
    if name == "type" {
        // What makes a service ready follows from what it is.
        let usual = match (&document["service"]["oneshot"], &document["health"]) {
            (Value::Bool(true), _) => "exit",
            (_, Value::Null) => "spawn",
            (_, _) => "health",
        };
        return text == usual;
    }
    text == default
}

fn write_table(out: &mut String, section: &str, name: &str, table: &Map<String, Value>) {
    write_header(out, &format!("{section}.{name}"));
    for (key, value) in table {
        write_pair(out, key, value);
    }
}

fn write_header(out: &mut String, section: &str) {
    let gap = if out.is_empty() { "" } else { "\n" };
    out.push_str(&format!("{gap}[{section}]\n"));
}

fn write_pair(out: &mut String, key: &str, value: &Value) {
    let is_bare = !key.is_empty()
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if is_bare {
        out.push_str(key);
    } else {
        write_string(out, key);
    }
    out.push_str(" = ");
    write_value(out, value);
    out.push('\n');
}

fn write_value(out: &mut String, value: &Value) {
    match value {
        Value::String(text) => write_string(out, text),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                write_value(out, item);
            }
            out.push(']');
        }
        // Booleans and integers look alike in both languages; tables in tables do not occur.
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
            out.push_str(&value.to_string());
        }
    }
}

/// A basic string of TOML 1.0: all but quote, backslash and control characters stand for themselves.
fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\0'..='\x1f' | '\x7f' => {
                write!(out, "\\u{:04X}", u32::from(character)).expect("a string takes every write");
            }
            _ => out.push(character),
        }
    }
    out.push('"');
}

/// The document as a JSON value.
pub(super) fn to_json(table: &DeTable<'_>) -> Value {
    table_to_json(table, DEPTH_MAX)
}

fn table_to_json(table: &DeTable<'_>, depth: usize) -> Value {
    let pairs = table.iter().map(|(key, value)| {
        (
            key.get_ref().to_string(),
            value_to_json(value.get_ref(), depth - 1),
        )
    });
    Value::Object(pairs.collect())
}

fn value_to_json(value: &DeValue<'_>, depth: usize) -> Value {
    match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Integer(integer) => integer_to_json(integer),
        DeValue::Boolean(truth) => Value::from(*truth),
        DeValue::Float(_) | DeValue::Datetime(_) => misfit(),
        DeValue::Array(_) | DeValue::Table(_) if depth == 0 => misfit(),
        DeValue::Array(items) => items
            .iter()
            .map(|item| value_to_json(item.get_ref(), depth - 1))
            .collect(),
        DeValue::Table(table) => table_to_json(table, depth),
    }
}

/// An integer that no key can hold becomes a value that no key takes.
fn integer_to_json(integer: &DeInteger<'_>) -> Value {
    let (digits, radix) = (integer.as_str(), integer.radix());
    let unsigned = u64::from_str_radix(digits, radix).map(Value::from);
    unsigned
        .or_else(|_| i64::from_str_radix(digits, radix).map(Value::from))
        .unwrap_or_else(|_| misfit())
}

/// Fractions and dates have no place in a file of ours: a table, which no key but `env` takes, and
/// the diagnosis knows that it is none.
fn misfit() -> Value {
    Value::Object(Map::new())
}
