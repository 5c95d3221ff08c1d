//! Values against schemas: as much of JSON Schema (draft 7) as the server's documents use. Any other
//! word is an error, so that nothing passes because nobody looked.

use std::collections::BTreeSet;

use serde_json::Value;

/// The schemas of a document, and which of their parts have been met in values.
pub(crate) struct Schemas<'a> {
    document: &'a Value,
    /// `NAME.MEMBER` for members, `NAME=WORD` for words.
    pub(crate) met: BTreeSet<String>,
}

impl<'a> Schemas<'a> {
    pub(crate) fn of(document: &'a Value) -> Self {
        Self {
            document,
            met: BTreeSet::new(),
        }
    }

    /// What a reference in the document means.
    pub(crate) fn resolve(&self, reference: &str) -> &'a Value {
        let path = reference.strip_prefix('#').expect("a reference within");
        let found = self.document.pointer(path);
        found.unwrap_or_else(|| panic!("{reference} leads nowhere"))
    }

    /// What is wrong with the value; none: it is valid.
    pub(crate) fn check(&mut self, schema: &'a Value, value: &Value) -> Option<String> {
        self.at(schema, value, "")
    }

    /// The same for the component of that name.
    pub(crate) fn check_as(&mut self, name: &str, value: &Value) -> Option<String> {
        let schema = self.resolve(&format!("#/components/schemas/{name}"));
        self.at(schema, value, name)
    }

    /// `name` is that of the component the schema is of.
    fn at(&mut self, schema: &'a Value, value: &Value, name: &str) -> Option<String> {
        let members = schema.as_object().expect("a schema is an object");
        for (word, operand) in members {
            let wrong = match word.as_str() {
                "description" => None,
                "$ref" => {
                    let reference = operand.as_str().expect("a reference is a text");
                    let name = reference.rsplit('/').next().unwrap_or_default();
                    self.at(self.resolve(reference), value, name)
                }
                "type" => (!is(operand, value)).then(|| format!("no {operand}")),
                "const" => {
                    self.met.insert(format!("{name}={operand}"));
                    (operand != value).then(|| format!("not {operand}"))
                }
                "enum" => {
                    self.met.insert(format!("{name}={value}"));
                    let words = operand.as_array().expect("an array of words");
                    (!words.contains(value)).then(|| format!("not one of {operand}"))
                }
                "oneOf" => self.one_of(operand, value, name),
                "items" => {
                    let items = value.as_array().into_iter().flatten();
                    items
                        .into_iter()
                        .find_map(|item| self.at(operand, item, name))
                }
                "minItems" => {
                    let few = value.as_array().map(Vec::len) < count(operand);
                    few.then(|| format!("fewer than {operand}"))
                }
                "maxItems" => {
                    let many = value.as_array().map(Vec::len) > count(operand);
                    many.then(|| format!("more than {operand}"))
                }
                "minimum" => {
                    let low = value.as_f64() < operand.as_f64();
                    low.then(|| format!("less than {operand}"))
                }
                "maximum" => {
                    let high = value.as_f64() > operand.as_f64();
                    high.then(|| format!("more than {operand}"))
                }
                "properties" => self.properties(operand, value, name),
                "required" => {
                    let names = operand.as_array().expect("an array of names").iter();
                    let names = names.map(|name| name.as_str().expect("a name"));
                    let mut absent = names.filter(|name| value.get(name).is_none());
                    absent.next().map(|name| format!("{name} is not there"))
                }
                "additionalProperties" => {
                    assert_eq!(operand, false, "{schema}");
                    let known = schema["properties"].as_object().expect("properties");
                    let mut names = value.as_object().into_iter().flat_map(|value| value.keys());
                    let unknown = names.find(|name| !known.contains_key(*name));
                    unknown.map(|name| format!("{name} is not in the schema"))
                }
                other => panic!("{other} is no word of the schemas that are known here"),
            };
            if let Some(wrong) = wrong {
                return Some(format!("{wrong}: {value}"));
            }
        }
        None
    }

    fn properties(&mut self, properties: &'a Value, value: &Value, name: &str) -> Option<String> {
        let known = properties.as_object().expect("properties are an object");
        for (member, schema) in known {
            let Some(value) = value.get(member) else {
                continue;
            };
            if let Some(wrong) = self.at(schema, value, name) {
                return Some(format!("{member}: {wrong}"));
            }
            self.met.insert(format!("{name}.{member}"));
        }
        None
    }

    fn one_of(&mut self, schemas: &'a Value, value: &Value, name: &str) -> Option<String> {
        let mut wrongs = Vec::new();
        let mut fits = 0;
        for schema in schemas.as_array().expect("an array of schemas") {
            // What is met in one that does not fit in the end has not been met.
            let met = self.met.clone();
            match self.at(schema, value, name) {
                Some(wrong) => {
                    self.met = met;
                    wrongs.push(wrong);
                }
                None => fits += 1,
            }
        }
        (fits != 1).then(|| format!("fits {fits} of its schemas; {}", wrongs.join("; ")))
    }
}

fn count(operand: &Value) -> Option<usize> {
    operand
        .as_u64()
        .and_then(|count| usize::try_from(count).ok())
}

fn is(kind: &Value, value: &Value) -> bool {
    match kind.as_str().expect("a type is a word") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{other} is no type"),
    }
}
