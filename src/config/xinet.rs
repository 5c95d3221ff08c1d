//! `[xinet]` tables: proxies that start a service for whoever connects.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};
use std::fmt;

use super::rules::{self, Fault};
use super::text;
use crate::engine::{Address, ProxySpec};

/// A proxy file.
#[derive(Serialize, Deserialize)]
pub(super) struct XinetConfig {
    pub(super) xinet: XinetSection,
}

#[derive(Serialize, Deserialize)]
#[serde(expecting = "struct XinetConfig")]
pub(super) struct XinetSection {
    pub(super) name: String,
    pub(super) listen: Listen,
    pub(super) backend: AddressText,
    pub(super) service: String,
    #[serde(default = "half_a_minute")]
    pub(super) connect_timeout: u64,
    #[serde(default)]
    pub(super) idle_timeout: u64,
    #[serde(default)]
    pub(super) single_connection: bool,
}

fn half_a_minute() -> u64 {
    30
}

/// One address or several.
pub(super) struct Listen(pub(super) Vec<AddressText>);

/// An address as it was written: `tcp:HOST:PORT`, or tagged as `{"tcp": "HOST:PORT"}`.
pub(super) struct AddressText(pub(super) String);

/// Why a proxy was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyError {
    /// It does not have the form of one.
    Parse(String),
    /// It has the form and is wrong.
    Invalid(String),
}

/// Reads what a client sends: `{"config": {…}}` or the bare object.
///
/// # Errors
/// With the texts that clients know.
pub fn proxy_from_value(value: &Value) -> Result<ProxySpec, ProxyError> {
    let value = value.get("config").unwrap_or(value);
    let section =
        XinetSection::deserialize(value).map_err(|error| ProxyError::Parse(error.to_string()))?;
    match faults(&section).first() {
        None => Ok(section.into()),
        Some(fault) => Err(ProxyError::Invalid(match (fault.key, &*fault.what) {
            ("name", "is required") => "name is required".to_owned(),
            ("service", "is required") => "service name is required".to_owned(),
            ("listen", "is required") => "at least one listen address is required".to_owned(),
            (key, what) => format!("{key} {what}"),
        })),
    }
}

/// Reads a proxy file.
pub(super) fn read(value: &Value) -> Result<Result<ProxySpec, Vec<Fault>>, serde_json::Error> {
    let section = XinetConfig::deserialize(value)?.xinet;
    let faults = faults(&section);
    Ok(if faults.is_empty() {
        Ok(section.into())
    } else {
        Err(faults)
    })
}

/// The file that says the proxy.
#[must_use]
pub fn proxy_to_toml(spec: &ProxySpec) -> String {
    let xinet = XinetSection::from(spec);
    let document = serde_json::to_value(XinetConfig { xinet });
    text::write(&document.expect("the mirror has nothing but string keys"))
}

/// The file of a proxy in this directory. Services have the plain names there.
pub fn proxy_path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.xinet.toml"))
}

/// Writes the file of a proxy, and returns its path.
///
/// # Errors
/// As [`super::write`].
pub fn write_proxy(dir: &Path, spec: &ProxySpec) -> std::io::Result<PathBuf> {
    let path = proxy_path(dir, &spec.name);
    super::store::replace(&path, &proxy_to_toml(spec))?;
    Ok(path)
}

/// What is wrong with it.
fn faults(section: &XinetSection) -> Vec<Fault> {
    let mut found = Vec::new();
    let mut add = |key, what: String| {
        let section = "xinet";
        found.push(Fault { section, key, what });
    };
    let most = rules::NAME_MAX_BYTES - ".xinet".len();
    for (key, name) in [("name", &section.name), ("service", &section.service)] {
        if name.is_empty() {
            add(key, "is required".to_owned());
        } else if !rules::is_name(name) || name.len() > most {
            add(
                key,
                format!("'{name}' is not one of letters, digits, dot, dash and underscore"),
            );
        }
    }
    if section.listen.0.is_empty() {
        add("listen", "is required".to_owned());
    }
    for AddressText(text) in &section.listen.0 {
        if let Err(error) = Address::parse(text) {
            add("listen", error);
        }
    }
    let AddressText(backend) = &section.backend;
    match Address::parse(backend) {
        Err(error) => add("backend", error),
        Ok(backend) => {
            let is_own = |AddressText(text): &AddressText| {
                Address::parse(text).is_ok_and(|listen| listen.is_reached_by(&backend))
            };
            if section.listen.0.iter().any(is_own) {
                add("backend", format!("'{backend}' is where the proxy listens"));
            }
        }
    }
    if section.connect_timeout == 0 {
        add("connect_timeout", "must be > 0".to_owned());
    }
    found
}

impl From<XinetSection> for ProxySpec {
    fn from(section: XinetSection) -> Self {
        let address =
            |AddressText(text): &AddressText| Address::parse(text).expect("the rules have read it");
        let secs = Some(section.idle_timeout).filter(|secs| *secs > 0);
        Self {
            name: section.name.into(),
            listen: section.listen.0.iter().map(address).collect(),
            backend: address(&section.backend),
            service: section.service.into(),
            connect_timeout: Duration::from_secs(section.connect_timeout),
            idle_timeout: secs.map(Duration::from_secs),
            single_connection: section.single_connection,
        }
    }
}

impl From<&ProxySpec> for XinetSection {
    fn from(spec: &ProxySpec) -> Self {
        let text = |address: &Address| AddressText(address.to_string());
        Self {
            name: spec.name.to_string(),
            listen: Listen(spec.listen.iter().map(text).collect()),
            backend: text(&spec.backend),
            service: spec.service.to_string(),
            connect_timeout: spec.connect_timeout.as_secs(),
            idle_timeout: spec.idle_timeout.map_or(0, |timeout| timeout.as_secs()),
            single_connection: spec.single_connection,
        }
    }
}

impl Serialize for AddressText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for AddressText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AddressVisitor)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let read = if value.is_array() {
            Vec::deserialize(value)
        } else {
            AddressText::deserialize(value).map(|one| vec![one])
        };
        read.map(Self).map_err(de::Error::custom)
    }
}

struct AddressVisitor;

impl<'de> Visitor<'de> for AddressVisitor {
    type Value = AddressText;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address such as tcp:127.0.0.1:80 or unix:/run/x.sock")
    }

    fn visit_str<E>(self, text: &str) -> Result<AddressText, E> {
        Ok(AddressText(text.to_owned()))
    }

    /// `{"tcp": "HOST:PORT"}`, or `{"type": "tcp", "address": "HOST:PORT"}`.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AddressText, A::Error> {
        let (mut kind, mut rest) = (String::new(), String::new());
        while let Some((key, value)) = map.next_entry::<String, String>()? {
            match &*key.to_ascii_lowercase() {
                "type" => kind = value.to_ascii_lowercase(),
                word @ ("tcp" | "unix") => (kind, rest) = (word.to_owned(), value),
                "address" | "addr" | "path" => rest = value,
                _ => return Err(de::Error::unknown_field(&key, &["tcp", "unix"])),
            }
        }
        Ok(AddressText(format!("{kind}:{rest}")))
    }
}

/// The least proxy file with that key.
pub(super) fn document_with(key: &str, value: Value) -> Value {
    let mut document = json!({"xinet": {
        "name": "x", "listen": [], "backend": "tcp:127.0.0.1:1", "service": "x"
    }});
    document["xinet"][key] = value;
    document
}
