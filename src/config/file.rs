//! The mirror of a service or target file, and the way from there to a [`Spec`] and back.
//!
//! One mirror serves both languages: a TOML file becomes a JSON value first (`text.rs`), so
//! reading and writing exist once. Unknown keys are ignored here; `diagnose.rs` reports them.
//! What is read is not yet right: `rules.rs` says what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

use super::rules::{self, SetError};
use crate::engine::Signal;
use crate::engine::spec::{
    Class, Exec, Health, KillMode, Kind, Lifecycle, Links, Logging, Probe, Program, RestartPolicy,
    Spec, Status,
};

/// Reads what a client sends: `{"config": {…}}` or the bare object, of a service or a target.
///
/// # Errors
/// [`SetError`], with the texts that clients know.
pub fn from_value(value: Value) -> Result<Spec, SetError> {
    let value = value.get("config").unwrap_or(&value);
    let read = if is_target(value) {
        read_target(value)
    } else {
        read_service(value)
    };
    match read {
        Ok(Ok(spec)) => Ok(spec),
        Ok(Err(faults)) => Err(SetError::Invalid(
            faults.iter().map(ToString::to_string).collect(),
        )),
        Err(error) => Err(SetError::Parse(error.to_string())),
    }
}

/// Writes what a client is shown: the whole file, every default filled in.
#[must_use]
pub fn to_value(spec: &Spec) -> Value {
    if !spec.is_target() {
        return document(spec);
    }
    let TargetConfig {
        target,
        dependencies,
    } = TargetConfig::from(spec);
    let mut shown = to_json(&target);
    shown["is_target"] = json!(true);
    shown["dependencies"] = to_json(&dependencies);
    shown
}

/// The file that says the spec, as a JSON value with the sections of the file.
pub(super) fn document(spec: &Spec) -> Value {
    match spec.program() {
        Some(program) => to_json(&ServiceConfig::new(spec, program)),
        None => to_json(&TargetConfig::from(spec)),
    }
}

/// A file with both sections is a service.
pub(super) fn is_target(value: &Value) -> bool {
    value.get("service").is_none() && value.get("target").is_some()
}

/// What reading gives: an error of form, or the rules that are broken, or the spec.
type Read = Result<Result<Spec, Vec<rules::Fault>>, serde_json::Error>;

/// Reads a service file.
pub(super) fn read_service(value: &Value) -> Read {
    let config = ServiceConfig::deserialize(value)?;
    let faults = rules::service(&config);
    Ok(if faults.is_empty() {
        Ok(config.into())
    } else {
        Err(faults)
    })
}

/// Reads a target file.
pub(super) fn read_target(value: &Value) -> Read {
    let config = TargetConfig::deserialize(value)?;
    let faults = rules::target(&config);
    Ok(if faults.is_empty() {
        Ok(config.into())
    } else {
        Err(faults)
    })
}

fn to_json(mirror: &impl Serialize) -> Value {
    serde_json::to_value(mirror).expect("the mirror has nothing but string keys")
}

/// A service file.
#[derive(Serialize, Deserialize)]
pub(super) struct ServiceConfig {
    pub(super) service: ServiceSection,
    #[serde(default)]
    pub(super) dependencies: DependenciesSection,
    #[serde(default)]
    pub(super) lifecycle: LifecycleSection,
    #[serde(default)]
    pub(super) health: Option<HealthSection>,
    #[serde(default)]
    pub(super) logging: LoggingSection,
}

/// A target file.
#[derive(Serialize, Deserialize)]
pub(super) struct TargetConfig {
    pub(super) target: TargetSection,
    #[serde(default)]
    pub(super) dependencies: DependenciesSection,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ServiceSection {
    pub(super) name: String,
    #[serde(with = "exec_text")]
    pub(super) exec: Exec,
    #[serde(default)]
    pub(super) dir: Option<String>,
    #[serde(default)]
    pub(super) tty: Option<String>,
    #[serde(default)]
    oneshot: bool,
    #[serde(default, with = "StatusText")]
    status: Status,
    #[serde(default, with = "ClassText")]
    class: Class,
    #[serde(default)]
    critical: bool,
    #[serde(default)]
    ports: Vec<u16>,
    #[serde(default)]
    kill_others: bool,
    #[serde(default)]
    pub(super) process_filters: Vec<String>,
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct TargetSection {
    pub(super) name: String,
    #[serde(default, with = "StatusText")]
    status: Status,
    #[serde(default, with = "ClassText")]
    class: Class,
    #[serde(default)]
    critical: bool,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct DependenciesSection {
    pub(super) after: Vec<String>,
    pub(super) requires: Vec<String>,
    pub(super) wants: Vec<String>,
    pub(super) conflicts: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(default)]
pub(super) struct LifecycleSection {
    #[serde(with = "RestartText")]
    restart: RestartPolicy,
    pub(super) restart_delay_ms: u64,
    pub(super) restart_delay_max_ms: u64,
    max_restarts: u32,
    stability_period_ms: u64,
    pub(super) start_timeout_ms: u64,
    pub(super) stop_timeout_ms: u64,
    pub(super) stop_signal: String,
    #[serde(with = "KillModeText")]
    kill_mode: KillMode,
    survive_switch_root: bool,
}

#[derive(Serialize, Deserialize)]
pub(super) struct HealthSection {
    #[serde(rename = "type")]
    pub(super) probe: ProbeText,
    pub(super) target: String,
    /// Of http alone; the others do not write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expect_status: Option<u16>,
    #[serde(default = "ten_seconds")]
    pub(super) interval_ms: u64,
    #[serde(default = "five_seconds")]
    pub(super) timeout_ms: u64,
    #[serde(default = "three")]
    pub(super) retries: u32,
    #[serde(default)]
    start_period_ms: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(default)]
pub(super) struct LoggingSection {
    pub(super) buffer_lines: usize,
    file: Option<String>,
    forward: Option<String>,
}

/// `type` of `[health]`.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ProbeText {
    Tcp,
    Http,
    Exec,
}

// The engine knows no serde; these lend it the words of the file.

#[derive(Serialize, Deserialize)]
#[serde(remote = "Status", rename_all = "lowercase")]
enum StatusText {
    Start,
    Stop,
    Ignore,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Class", rename_all = "lowercase")]
enum ClassText {
    User,
    System,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "RestartPolicy", rename_all = "kebab-case")]
enum RestartText {
    Always,
    OnFailure,
    Never,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "KillMode", rename_all = "lowercase")]
enum KillModeText {
    Tree,
    Group,
    Main,
}

fn ten_seconds() -> u64 {
    10_000
}

fn five_seconds() -> u64 {
    5_000
}

fn three() -> u32 {
    3
}

impl From<ServiceConfig> for Spec {
    fn from(config: ServiceConfig) -> Self {
        let service = config.service;
        let program = Program {
            exec: service.exec,
            dir: service.dir.map(PathBuf::from),
            tty: service.tty.map(PathBuf::from),
            env: service.env,
            oneshot: service.oneshot,
            ports: service.ports,
            kill_others: service.kill_others,
            process_filters: service.process_filters,
        };
        Self {
            name: service.name.into(),
            kind: Kind::Program(Box::new(program)),
            status: service.status,
            class: service.class,
            critical: service.critical,
            links: config.dependencies.into(),
            lifecycle: config.lifecycle.into(),
            health: config.health.map(Health::from),
            logging: config.logging.into(),
        }
    }
}

impl From<TargetConfig> for Spec {
    fn from(
        TargetConfig {
            target,
            dependencies,
        }: TargetConfig,
    ) -> Self {
        Self {
            status: target.status,
            class: target.class,
            critical: target.critical,
            links: dependencies.into(),
            ..Self::target(&target.name)
        }
    }
}

impl From<DependenciesSection> for Links {
    fn from(section: DependenciesSection) -> Self {
        Self {
            requires: names(&section.requires),
            after: names(&section.after),
            wants: names(&section.wants),
            conflicts: names(&section.conflicts),
        }
    }
}

/// Each name once, in the order of its first mention.
fn names(list: &[String]) -> Vec<Rc<str>> {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let once = list.iter().filter(|name| seen.insert(name));
    once.map(|name| Rc::from(name.as_str())).collect()
}

impl From<LifecycleSection> for Lifecycle {
    fn from(section: LifecycleSection) -> Self {
        Self {
            restart: section.restart,
            restart_delay: Duration::from_millis(section.restart_delay_ms),
            restart_delay_max: Duration::from_millis(section.restart_delay_max_ms),
            max_restarts: section.max_restarts,
            stability_period: Duration::from_millis(section.stability_period_ms),
            start_timeout: Duration::from_millis(section.start_timeout_ms),
            stop_timeout: Duration::from_millis(section.stop_timeout_ms),
            stop_signal: Signal::parse(&section.stop_signal)
                .expect("the rules have read the signal"),
            kill_mode: section.kill_mode,
            survive_switch_root: section.survive_switch_root,
        }
    }
}

impl From<HealthSection> for Health {
    fn from(section: HealthSection) -> Self {
        let probe = match section.probe {
            ProbeText::Tcp => Probe::Tcp(section.target),
            ProbeText::Http => Probe::Http {
                url: section.target,
                expect_status: section.expect_status.unwrap_or(200),
            },
            ProbeText::Exec => Probe::Exec(section.target),
        };
        Self {
            probe,
            interval: Duration::from_millis(section.interval_ms),
            timeout: Duration::from_millis(section.timeout_ms),
            retries: section.retries,
            start_period: Duration::from_millis(section.start_period_ms),
        }
    }
}

impl From<LoggingSection> for Logging {
    fn from(section: LoggingSection) -> Self {
        Self {
            buffer_lines: section.buffer_lines,
            file: section.file.map(PathBuf::from),
            forward: section.forward,
        }
    }
}

impl ServiceConfig {
    fn new(spec: &Spec, program: &Program) -> Self {
        let service = ServiceSection {
            name: spec.name.to_string(),
            exec: program.exec.clone(),
            dir: program.dir.as_ref().map(|dir| dir.display().to_string()),
            tty: program.tty.as_ref().map(|tty| tty.display().to_string()),
            oneshot: program.oneshot,
            status: spec.status,
            class: spec.class,
            critical: spec.critical,
            ports: program.ports.clone(),
            kill_others: program.kill_others,
            process_filters: program.process_filters.clone(),
            env: program.env.clone(),
        };
        Self {
            service,
            dependencies: (&spec.links).into(),
            lifecycle: (&spec.lifecycle).into(),
            health: spec.health.as_ref().map(HealthSection::from),
            logging: (&spec.logging).into(),
        }
    }
}

impl From<&Spec> for TargetConfig {
    fn from(spec: &Spec) -> Self {
        let target = TargetSection {
            name: spec.name.to_string(),
            status: spec.status,
            class: spec.class,
            critical: spec.critical,
        };
        Self {
            target,
            dependencies: (&spec.links).into(),
        }
    }
}

impl From<&Links> for DependenciesSection {
    fn from(links: &Links) -> Self {
        let list = |names: &[Rc<str>]| names.iter().map(ToString::to_string).collect();
        Self {
            after: list(&links.after),
            requires: list(&links.requires),
            wants: list(&links.wants),
            conflicts: list(&links.conflicts),
        }
    }
}

impl From<&Lifecycle> for LifecycleSection {
    fn from(lifecycle: &Lifecycle) -> Self {
        Self {
            restart: lifecycle.restart,
            restart_delay_ms: milliseconds(lifecycle.restart_delay),
            restart_delay_max_ms: milliseconds(lifecycle.restart_delay_max),
            max_restarts: lifecycle.max_restarts,
            stability_period_ms: milliseconds(lifecycle.stability_period),
            start_timeout_ms: milliseconds(lifecycle.start_timeout),
            stop_timeout_ms: milliseconds(lifecycle.stop_timeout),
            stop_signal: lifecycle.stop_signal.to_string(),
            kill_mode: lifecycle.kill_mode,
            survive_switch_root: lifecycle.survive_switch_root,
        }
    }
}

impl From<&Health> for HealthSection {
    fn from(health: &Health) -> Self {
        let (probe, target, expect_status) = match &health.probe {
            Probe::Tcp(address) => (ProbeText::Tcp, address, None),
            Probe::Http { url, expect_status } => (ProbeText::Http, url, Some(*expect_status)),
            Probe::Exec(line) => (ProbeText::Exec, line, None),
        };
        Self {
            probe,
            target: target.clone(),
            expect_status,
            interval_ms: milliseconds(health.interval),
            timeout_ms: milliseconds(health.timeout),
            retries: health.retries,
            start_period_ms: milliseconds(health.start_period),
        }
    }
}

impl From<&Logging> for LoggingSection {
    fn from(logging: &Logging) -> Self {
        Self {
            buffer_lines: logging.buffer_lines,
            file: logging.file.as_ref().map(|file| file.display().to_string()),
            forward: logging.forward.clone(),
        }
    }
}

impl Default for LifecycleSection {
    fn default() -> Self {
        (&Lifecycle::default()).into()
    }
}

impl Default for LoggingSection {
    fn default() -> Self {
        (&Logging::default()).into()
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `exec` is a string or an array of strings; the array stays one, because it never meets a shell.
mod exec_text {
    use super::{Deserializer, Exec, ExecVisitor, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(exec: &Exec, serializer: S) -> Result<S::Ok, S::Error> {
        match exec {
            Exec::Line(line) => serializer.serialize_str(line),
            Exec::Words(words) => words.serialize(serializer),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Exec, D::Error> {
        deserializer.deserialize_any(ExecVisitor)
    }
}

struct ExecVisitor;

impl<'de> Visitor<'de> for ExecVisitor {
    type Value = Exec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an array of strings")
    }

    fn visit_str<E>(self, line: &str) -> Result<Exec, E> {
        Ok(Exec::Line(line.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Exec, A::Error> {
        let mut words = Vec::new();
        while let Some(word) = sequence.next_element()? {
            words.push(word);
        }
        Ok(Exec::Words(words))
    }
}
