//! Proxies: what was typed behind `xinet`, what is asked, and how the answer is shown.

use std::io;

use serde_json::{Value, json};

use super::UsageError;
use super::act::Session;
use super::args::Typed;
use super::failure::Failure;
use super::screen::Screen;

/// What is to be done about proxies.
#[derive(Debug, Clone, PartialEq)]
pub enum Xinet {
    /// Create or replace one: the parameters of `xinet.set`.
    Set(Value),
    /// Take one away.
    Delete(String),
    /// The names of all.
    List,
    /// What one has done, or all.
    Status(Option<String>),
}

/// The flags that only a new proxy has.
const SPELLING: &[&str] = &[
    "listen",
    "backend",
    "service",
    "connect-timeout",
    "idle-timeout",
    "single",
    "ephemeral",
];

impl Xinet {
    /// What was typed.
    pub(super) fn typed(typed: &Typed) -> Result<Self, UsageError> {
        let words = typed.names()?;
        let verb = words.first().map_or("", String::as_str);
        let name = words.get(1).cloned();
        let is_set = matches!(verb, "set" | "register");
        if !is_set && SPELLING.iter().any(|flag| typed.has(flag)) {
            return Err(UsageError::Combination(
                "only xinet set takes flags of a proxy",
            ));
        }
        let needed = name.clone().ok_or(UsageError::Combination(
            "the name of the proxy is missing: zinit xinet set|delete NAME",
        ));
        match verb {
            "set" | "register" => set(typed, &needed?).map(Self::Set),
            "delete" | "unregister" => needed.map(Self::Delete),
            "list" if name.is_none() => Ok(Self::List),
            "list" => Err(UsageError::Combination("xinet list takes no name")),
            "status" => Ok(Self::Status(name)),
            unknown => Err(UsageError::BadValue {
                of: "xinet",
                typed: unknown.to_owned(),
                wanted: "set, delete, list or status",
            }),
        }
    }
}

fn set(typed: &Typed, name: &str) -> Result<Value, UsageError> {
    let missing = UsageError::Combination;
    let backend = typed.text("backend")?;
    let service = typed.text("service")?;
    let listen = typed.texts("listen")?;
    if listen.is_empty() {
        return Err(missing("--listen required: where the proxy listens"));
    }
    let mut config = json!({
        "name": name,
        "listen": listen,
        "backend": backend.ok_or(missing("--backend required: where the service listens"))?,
        "service": service.ok_or(missing("--service required: what the proxy starts"))?,
        "single_connection": typed.has("single"),
    });
    let numbers = [
        ("connect-timeout", "--connect-timeout", "connect_timeout"),
        ("idle-timeout", "--idle-timeout", "idle_timeout"),
    ];
    for (flag, of, key) in numbers {
        if let Some(text) = typed.text(flag)? {
            let bad = |_| UsageError::BadValue {
                of,
                typed: text.to_owned(),
                wanted: "a whole number of seconds",
            };
            config[key] = text.parse::<u64>().map_err(bad)?.into();
        }
    }
    Ok(json!({ "config": config, "ephemeral": typed.has("ephemeral") }))
}

/// Asks and shows.
pub(super) fn xinet(session: &mut Session<'_, '_>, what: &Xinet) -> Result<u8, Failure> {
    match what {
        Xinet::Set(params) => {
            let name = params["config"]["name"].as_str().unwrap_or_default();
            let said = format!("Registered xinet proxy '{name}'");
            let show = |screen: &mut Screen<'_>, _: &Value| screen.line(&said);
            session.show("xinet.set", params.clone(), show)
        }
        Xinet::Delete(name) => {
            let said = format!("Unregistered xinet proxy '{name}'");
            let show = |screen: &mut Screen<'_>, _: &Value| screen.line(&said);
            session.show("xinet.delete", json!({ "name": name }), show)
        }
        Xinet::List => session.show("xinet.list", Value::Null, list),
        Xinet::Status(None) => session.show("xinet.status_all", Value::Null, status),
        Xinet::Status(Some(name)) => {
            // One that is not there is refused; of one that is, all is told.
            let one = session
                .client
                .ask("xinet.status", json!({ "name": name }))?;
            let mut all = session.client.ask("xinet.status_all", Value::Null)?;
            let all = all.as_array_mut().map(std::mem::take).unwrap_or_default();
            let found = all.into_iter().find(|proxy| proxy["name"] == one["name"]);
            let found: Value = found.into_iter().collect();
            if session.options.json {
                return session.print(&found[0]);
            }
            status(session.screen, &found)?;
            Ok(super::exit::OK)
        }
    }
}

fn list(screen: &mut Screen<'_>, names: &Value) -> io::Result<()> {
    let names = names.as_array().map_or(&[] as &[Value], Vec::as_slice);
    if names.is_empty() {
        return screen.line("No xinet proxies registered");
    }
    screen.line("Registered xinet proxies:")?;
    let mut names = names.iter().filter_map(Value::as_str);
    names.try_for_each(|name| screen.line(&format!("  {name}")))
}

fn status(screen: &mut Screen<'_>, proxies: &Value) -> io::Result<()> {
    let proxies = proxies.as_array().map_or(&[] as &[Value], Vec::as_slice);
    if proxies.is_empty() {
        return screen.line("No xinet proxies registered");
    }
    for (place, proxy) in proxies.iter().enumerate() {
        let text = |key: &str| proxy[key].as_str().unwrap_or_default();
        let word = if proxy["running"] == true {
            "running"
        } else {
            "stopped: it can't listen everywhere, see the server's log"
        };
        if place > 0 {
            screen.line("")?;
        }
        screen.line(&format!("Proxy: {}", text("name")))?;
        screen.line(&format!("  Listen:  \"{}\"", text("listen")))?;
        screen.line(&format!("  Backend: \"{}\"", text("backend")))?;
        screen.line(&format!("  Service: {}", text("service")))?;
        screen.line(&format!("  Status:  {word}"))?;
        screen.line(&format!(
            "  Connections: {} active, {} total",
            proxy["active_connections"], proxy["total_connections"]
        ))?;
        screen.line(&format!(
            "  Traffic: {} bytes in, {} bytes out",
            proxy["bytes_to_backend"], proxy["bytes_from_backend"]
        ))?;
    }
    Ok(())
}
