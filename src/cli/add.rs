//! A service definition: from a file, or from the flags of `add-service`.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::UsageError;
use super::args::Typed;

/// Where the definition of a new service comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum NewService {
    /// This file, to be read by whoever knows what service files say.
    File(PathBuf),
    /// As the server takes it.
    Definition(Value),
}

/// The flags that spell out a service; with a file they say nothing.
const SPELLING: &[&str] = &[
    "name",
    "exec",
    "dir",
    "oneshot",
    "env",
    "after",
    "requires",
    "wants",
    "conflicts",
    "restart",
    "restart-delay",
    "restart-delay-max",
    "max-restarts",
];

impl NewService {
    /// What was typed behind `add-service`.
    pub(super) fn typed(typed: &Typed) -> Result<Self, UsageError> {
        match typed.operand(0) {
            None => Ok(Self::Definition(spelt_out(typed)?)),
            Some(_) if SPELLING.iter().any(|flag| typed.has(flag)) => {
                let sentence =
                    "a file and flags exclude each other; give FILE alone, or --name and --exec";
                Err(UsageError::Combination(sentence))
            }
            Some(path) => Ok(Self::File(path.into())),
        }
    }
}

fn spelt_out(typed: &Typed) -> Result<Value, UsageError> {
    let missing = UsageError::Combination;
    let name = typed
        .text("name")?
        .ok_or(missing("--name required when not using file"))?;
    let exec = typed
        .text("exec")?
        .ok_or(missing("--exec required when not using file"))?;
    let mut service = json!({ "name": name, "exec": exec, "oneshot": typed.has("oneshot") });
    // The root has always meant "not set" here.
    if let Some(dir) = typed.text("dir")?.filter(|dir| *dir != "/") {
        service["dir"] = dir.into();
    }
    let variables = typed.texts("env")?.into_iter().map(variable);
    service["env"] = variables.collect::<Result<Map<_, _>, _>>()?.into();
    let mut dependencies = Map::new();
    for kind in ["after", "requires", "wants", "conflicts"] {
        dependencies.insert(kind.to_owned(), typed.texts(kind)?.into());
    }
    Ok(json!({ "service": service, "dependencies": dependencies, "lifecycle": lifecycle(typed)? }))
}

fn variable(text: &str) -> Result<(String, Value), UsageError> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.into())),
        _ => Err(UsageError::BadVariable(text.to_owned())),
    }
}

fn lifecycle(typed: &Typed) -> Result<Value, UsageError> {
    let mut lifecycle = Map::new();
    let policy = typed.text("restart")?.unwrap_or("on-failure");
    if !["always", "on-failure", "never"].contains(&policy) {
        return Err(UsageError::BadPolicy(policy.to_owned()));
    }
    lifecycle.insert("restart".to_owned(), policy.into());
    let numbers = [
        ("restart-delay", "--restart-delay", "restart_delay_ms"),
        (
            "restart-delay-max",
            "--restart-delay-max",
            "restart_delay_max_ms",
        ),
        ("max-restarts", "--max-restarts", "max_restarts"),
    ];
    for (flag, of, key) in numbers {
        if let Some(text) = typed.text(flag)? {
            let typed = text.to_owned();
            let bad = |_| UsageError::BadValue {
                of,
                typed,
                wanted: "a whole number",
            };
            lifecycle.insert(key.to_owned(), text.parse::<u64>().map_err(bad)?.into());
        }
    }
    Ok(lifecycle.into())
}
