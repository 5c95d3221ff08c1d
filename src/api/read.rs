//! Parameters, read by name.

use std::fmt;

use serde_json::Value;

/// What is wrong with the parameters of a request, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong(pub String);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Wrong {
    /// It is not there.
    #[must_use]
    pub fn missing(name: &str) -> Self {
        Self(format!("missing '{name}' parameter"))
    }
}

/// What a parameter can be.
pub(super) trait Param: Sized {
    /// Anything but a text counts as none.
    const IS_TEXT: bool = false;

    /// Reads it, if it makes sense.
    fn read(value: &Value) -> Option<Self>;

    /// What it must be.
    fn must() -> String;
}

/// One that must be there.
pub(super) fn required<T: Param>(params: &Value, name: &str) -> Result<T, Wrong> {
    optional(params, name)?.ok_or_else(|| Wrong::missing(plain(name)))
}

/// One that may be absent, or null.
pub(super) fn optional<T: Param>(params: &Value, name: &str) -> Result<Option<T>, Wrong> {
    let name = plain(name);
    let Some(value) = params.get(name).filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    match T::read(value) {
        Some(read) => Ok(Some(read)),
        None if T::IS_TEXT && !value.is_string() => Err(Wrong::missing(name)),
        None => {
            let unit = if name.ends_with("_ms") {
                " of milliseconds"
            } else {
                ""
            };
            Err(Wrong(format!("'{name}' must be {}{unit}", T::must())))
        }
    }
}

/// One that is absent if it makes no sense.
pub(super) fn lax<T: Param>(params: &Value, name: &str) -> Option<T> {
    params.get(plain(name)).and_then(T::read)
}

/// A name that is a word of Rust's, without what makes it one of ours.
pub(super) fn plain(name: &str) -> &str {
    name.trim_start_matches("r#")
}

/// `a, b or c`.
pub(super) fn one_of(words: &[&str]) -> String {
    match words {
        [most @ .., last] if !most.is_empty() => format!("{} or {last}", most.join(", ")),
        words => words.join(""),
    }
}

impl Param for String {
    const IS_TEXT: bool = true;

    fn read(value: &Value) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }

    fn must() -> String {
        "a string".to_owned()
    }
}

impl Param for bool {
    fn read(value: &Value) -> Option<Self> {
        value.as_bool()
    }

    fn must() -> String {
        "true or false".to_owned()
    }
}

impl Param for u64 {
    fn read(value: &Value) -> Option<Self> {
        value.as_u64()
    }

    fn must() -> String {
        "a whole number".to_owned()
    }
}

impl Param for u8 {
    fn read(value: &Value) -> Option<Self> {
        value.as_u64()?.try_into().ok()
    }

    fn must() -> String {
        "0 to 255".to_owned()
    }
}

impl Param for Vec<String> {
    fn read(value: &Value) -> Option<Self> {
        value.as_array()?.iter().map(String::read).collect()
    }

    fn must() -> String {
        "an array of strings".to_owned()
    }
}

impl Param for super::Definition {
    fn read(value: &Value) -> Option<Self> {
        value.is_object().then(|| Self(value.clone()))
    }

    fn must() -> String {
        "an object".to_owned()
    }
}

impl Param for super::ProxyDefinition {
    fn read(value: &Value) -> Option<Self> {
        serde::Deserialize::deserialize(value).ok()
    }

    fn must() -> String {
        "the definition of a proxy".to_owned()
    }
}
