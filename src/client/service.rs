//! Service files, as a program reads and writes them.

use std::fmt;
use std::path::Path;

use serde_json::{Value, json};

use crate::config::{self, SetError};
use crate::engine::Spec;

/// The definition of a service or a target, checked: what a service file says.
///
/// ```
/// use zinit::client::ServiceFile;
///
/// let file = ServiceFile::parse("[service]\nname = \"web\"\nexec = \"nginx\"\n")?;
/// assert_eq!(file.name(), "web");
/// # Ok::<(), zinit::client::Invalid>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFile {
    spec: Spec,
}

/// All that is wrong with a definition, a sentence each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid(pub Vec<String>);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Invalid {}

impl ServiceFile {
    /// Reads the text of a service file.
    ///
    /// # Errors
    /// All that keeps it from being used.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let (spec, problems) = config::parse(Path::new("service file"), text);
        let errors = problems.iter().filter(|problem| problem.is_error());
        match spec {
            Some(spec) => Ok(Self { spec }),
            None => Err(Invalid(errors.map(ToString::to_string).collect())),
        }
    }

    /// The name of the service.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// All that it says.
    #[must_use]
    pub const fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The text of the file.
    #[must_use]
    pub fn to_toml(&self) -> String {
        config::to_toml(&self.spec)
    }

    /// As it is sent: an object of the sections of the file.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut shown = config::to_value(&self.spec);
        if !self.spec.is_target() {
            return shown;
        }
        // A target is shown flat, and told as its file has it.
        let dependencies = shown["dependencies"].take();
        if let Some(members) = shown.as_object_mut() {
            members.remove("dependencies");
            members.remove("is_target");
        }
        json!({"target": shown, "dependencies": dependencies})
    }

    /// Reads what `service.get` shows.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_value(mut shown: Value) -> Result<Self, Invalid> {
        if shown["is_target"] == true {
            let dependencies = shown["dependencies"].take();
            shown = json!({"target": shown, "dependencies": dependencies});
        }
        match config::from_value(shown) {
            Ok(spec) => Ok(Self { spec }),
            Err(SetError::Parse(text)) => Err(Invalid(vec![text])),
            Err(SetError::Invalid(errors)) => Err(Invalid(errors)),
        }
    }
}

impl From<Spec> for ServiceFile {
    fn from(spec: Spec) -> Self {
        Self { spec }
    }
}
