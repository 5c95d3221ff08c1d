//! Declarations as JSON Schema (draft 7, <https://json-schema.org>).
//!
//! A declaration is a text of lines `NAME: TYPE# about it`. The first is about the whole, and its name
//! has its kind in front; each of the others is a member. A `?` behind a name: it may be absent.
//! Types are written as Rust writes them.

use serde_json::{Map, Value, json};

use super::read::plain;

/// A line of a declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The name.
    pub name: &'a str,
    /// May it be absent?
    pub may_be_absent: bool,
    /// The type.
    pub kind: &'a str,
    /// What it means.
    pub about: &'a str,
}

/// The lines of a declaration: the first, and the others.
pub fn lines(declaration: &str) -> (Line<'_>, impl Iterator<Item = Line<'_>>) {
    let mut lines = declaration.split('\n').map(line);
    let first = lines.next().unwrap_or_else(|| line(""));
    (first, lines)
}

fn line(text: &str) -> Line<'_> {
    let (name, rest) = text.split_once(':').unwrap_or((text, ""));
    let (kind, about) = rest.split_once('#').unwrap_or((rest, ""));
    Line {
        name: plain(name.trim_end_matches('?')),
        may_be_absent: name.ends_with('?'),
        kind: kind.trim(),
        about: about.trim(),
    }
}

/// The name of a declared type, and its schema.
#[must_use]
pub fn component(declaration: &str) -> (&str, Value) {
    let (first, members) = lines(declaration);
    let (kind, name) = first.name.split_once(' ').unwrap_or(("", first.name));
    let mut schema = match kind {
        "object" => object(members),
        "words" => {
            let words: Vec<&str> = members.map(|word| word.name).collect();
            json!({"type": "string", "enum": words})
        }
        "tagged" => one_of(declaration, |about, members| {
            let mut schema = object(members);
            schema["properties"][first.kind] = json!({"const": about.name});
            if let Some(Value::Array(required)) = schema.get_mut("required") {
                required.push(first.kind.into());
            }
            schema["description"] = about.about.into();
            schema
        }),
        "either" => one_of(declaration, |about, _| reference(about.name)),
        _ => json!({"type": "object"}),
    };
    schema["description"] = first.about.into();
    (name, schema)
}

/// One schema for each part that begins with a `=`.
fn one_of<'a>(
    declaration: &'a str,
    one: impl Fn(Line<'a>, &mut dyn Iterator<Item = Line<'a>>) -> Value,
) -> Value {
    let parts = declaration.split("\n=").skip(1).map(|part| {
        let (first, mut members) = lines(part);
        one(first, &mut members)
    });
    json!({"oneOf": parts.collect::<Vec<_>>()})
}

fn object<'a>(members: impl Iterator<Item = Line<'a>>) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for member in members {
        let mut schema = of_type(member.kind);
        // What stands beside a reference is not read.
        if schema.get("$ref").is_none() {
            schema["description"] = member.about.into();
        }
        properties.insert(member.name.to_owned(), schema);
        if !member.may_be_absent {
            required.push(member.name);
        }
    }
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// The schema of a type.
#[must_use]
pub fn of_type(kind: &str) -> Value {
    let inside = |around: &str| kind.strip_prefix(around)?.strip_suffix('>');
    if let Some(item) = inside("Vec<") {
        return json!({"type": "array", "items": of_type(item)});
    }
    if let Some(item) = inside("Option<") {
        return json!({"oneOf": [of_type(item), {"type": "null"}]});
    }
    match kind {
        "bool" => json!({"type": "boolean"}),
        "String" => json!({"type": "string"}),
        "i32" => json!({"type": "integer"}),
        "u8" => json!({"type": "integer", "minimum": 0, "maximum": 255}),
        "u32" | "u64" => json!({"type": "integer", "minimum": 0}),
        "f64" => json!({"type": "number"}),
        "[String; 2]" => {
            json!({"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2})
        }
        name => reference(name),
    }
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

#[cfg(test)]
mod tests {
    use super::super::{Declared, Request, ServiceWait, State, Status, declarations};
    use super::*;

    #[test]
    fn a_declaration_says_all_that_is_in_the_type() {
        let (name, schema) = component(Status::DECLARATION);
        assert_eq!(
            (name, &schema["additionalProperties"]),
            ("Status", &json!(false))
        );
        assert_eq!(schema["description"], "A service as it is.");
        assert_eq!(schema["required"], json!(["name", "state", "pid"]));
        let error = json!({"type": "string", "description": "What is wrong, in words."});
        assert_eq!(schema["properties"]["error"], error);
        let (_, schema) = component(State::DECLARATION);
        assert_eq!(
            schema["oneOf"][1],
            json!({
                "type": "object",
                "description": "Held back.",
                "properties": {
                    "state": {"const": "blocked"},
                    "waiting_on": {
                        "type": "array",
                        "items": {"type": "string"},
                        "description": "By these services; by something else if there are none.",
                    },
                },
                "required": ["waiting_on", "state"],
                "additionalProperties": false,
            })
        );
        let (first, members) = lines(ServiceWait::DECLARATION);
        let members: Vec<_> = members
            .map(|line| (line.name, line.may_be_absent))
            .collect();
        assert_eq!(first.kind, "Done");
        assert_eq!(
            members,
            [("name", false), ("for", false), ("timeout_ms", true)]
        );
    }

    #[test]
    fn every_name_that_is_referred_to_is_declared() {
        let all: Vec<(&str, Value)> = declarations().map(component).collect();
        let text = all
            .iter()
            .map(|(_, schema)| schema.to_string())
            .collect::<String>();
        let mut referred: Vec<&str> = text.split("#/components/schemas/").skip(1).collect();
        referred
            .iter_mut()
            .for_each(|name| *name = &name[..name.find('"').expect("an end")]);
        assert!(referred.len() > 10);
        for name in referred {
            assert!(all.iter().any(|(known, _)| *known == name), "{name}");
        }
    }
}
