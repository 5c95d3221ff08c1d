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
use super::sections::{
    self, FormatText, HooksSection, LimitsSection, OnUnhealthyText, ReadinessSection,
    ResourcesSection, SocketSection,
};
use super::words::{List, Loose, OneOrList};
use crate::engine::Signal;
use crate::engine::spec::{
    Class, Exec, Format, Health, KillMode, Kind, Lifecycle, Links, Logging, OnUnhealthy, Probe,
    Program, Readiness, RestartPolicy, Sequel, Spec, Status,
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
    pub(super) readiness: ReadinessSection,
    #[serde(default)]
    pub(super) health: Option<HealthSection>,
    #[serde(default)]
    pub(super) hooks: HooksSection,
    #[serde(default)]
    pub(super) limits: LimitsSection,
    #[serde(default)]
    pub(super) resources: ResourcesSection,
    #[serde(default)]
    pub(super) socket: SocketSection,
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
    pub(super) user: Option<Loose>,
    #[serde(default)]
    pub(super) group: Option<Loose>,
    #[serde(default)]
    pub(super) groups: List,
    #[serde(default)]
    pub(super) umask: Option<String>,
    #[serde(default)]
    pub(super) nice: Option<i32>,
    #[serde(default)]
    pub(super) ionice: Option<String>,
    #[serde(default)]
    pub(super) oom_score_adj: Option<i32>,
    #[serde(default)]
    pub(super) no_new_privs: bool,
    #[serde(default)]
    pub(super) capabilities: Option<List>,
    #[serde(default)]
    pub(super) chroot: Option<String>,
    #[serde(default)]
    pub(super) oneshot: bool,
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
    pub(super) env_file: List,
    #[serde(default)]
    env_inherit: Option<bool>,
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
    pub(super) reload_signal: Option<String>,
    pub(super) success_exit: List,
    restart_dependents: bool,
    pub(super) on_failure: String,
    pub(super) on_exit: String,
    survive_switch_root: bool,
}

#[derive(Serialize, Deserialize)]
pub(super) struct HealthSection {
    #[serde(rename = "type")]
    pub(super) probe: ProbeText,
    pub(super) target: String,
    /// Of http alone; the others do not write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expect_status: Option<OneOrList>,
    #[serde(default = "ten_seconds")]
    pub(super) interval_ms: u64,
    #[serde(default = "five_seconds")]
    pub(super) timeout_ms: u64,
    #[serde(default = "three")]
    pub(super) retries: u32,
    #[serde(default)]
    start_period_ms: u64,
    #[serde(default, with = "OnUnhealthyText")]
    on_unhealthy: OnUnhealthy,
}

#[derive(Serialize, Deserialize)]
#[serde(default)]
pub(super) struct LoggingSection {
    pub(super) buffer_lines: usize,
    pub(super) file: Option<String>,
    pub(super) max_size: Loose,
    max_files: u32,
    pub(super) mode: String,
    pub(super) forward: Option<String>,
    #[serde(with = "FormatText")]
    forward_format: Format,
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

fn ok_status() -> OneOrList {
    OneOrList(vec!["200".to_owned()])
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
        let readiness = config
            .readiness
            .readiness(service.oneshot, config.health.is_some())
            .expect("the rules have read the type");
        let identity = sections::identity(&service);
        let follow = |text: &str| sections::follow(text).expect("the rules have read it");
        let sequel = Sequel {
            on_failure: follow(&config.lifecycle.on_failure),
            on_exit: follow(&config.lifecycle.on_exit),
        };
        let program = Program {
            exec: service.exec,
            dir: service.dir.map(PathBuf::from),
            tty: service.tty.map(PathBuf::from),
            identity,
            limits: config.limits.limits(),
            resources: config.resources.resources(),
            env: service.env,
            env_file: service.env_file.0,
            env_inherit: service.env_inherit,
            sockets: config.socket.sockets(),
            oneshot: service.oneshot || readiness == Readiness::Exit,
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
            sequel,
            readiness,
            watchdog: Some(config.readiness.watchdog_ms)
                .filter(|ms| *ms > 0)
                .map(Duration::from_millis),
            health: config.health.map(Health::from),
            hooks: config.hooks.into(),
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
            reload_signal: section
                .reload_signal
                .as_deref()
                .and_then(|signal| Signal::parse(signal).ok()),
            success_exit: sections::success_exit(&section.success_exit.0)
                .expect("the rules have read it"),
            restart_dependents: section.restart_dependents,
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
                expect: sections::expect(&section.expect_status.unwrap_or_else(ok_status).0)
                    .expect("the rules have read it"),
            },
            ProbeText::Exec => Probe::Exec(section.target),
        };
        Self {
            probe,
            interval: Duration::from_millis(section.interval_ms),
            timeout: Duration::from_millis(section.timeout_ms),
            retries: section.retries,
            start_period: Duration::from_millis(section.start_period_ms),
            on_unhealthy: section.on_unhealthy,
        }
    }
}

impl From<LoggingSection> for Logging {
    fn from(section: LoggingSection) -> Self {
        Self {
            buffer_lines: section.buffer_lines,
            file: section.file.map(PathBuf::from),
            max_size: sections::size(&section.max_size.0).expect("the rules have read it"),
            max_files: section.max_files,
            mode: sections::umask(&section.mode).expect("the rules have read it"),
            forward: section.forward,
            forward_format: section.forward_format,
        }
    }
}

impl ServiceConfig {
    fn new(spec: &Spec, program: &Program) -> Self {
        let identity = &program.identity;
        let service = ServiceSection {
            name: spec.name.to_string(),
            exec: program.exec.clone(),
            dir: program.dir.as_ref().map(|dir| dir.display().to_string()),
            tty: program.tty.as_ref().map(|tty| tty.display().to_string()),
            user: identity.user.clone().map(Loose),
            group: identity.group.clone().map(Loose),
            groups: List(identity.groups.clone()),
            umask: identity.umask.map(|mask| format!("{mask:04o}")),
            nice: identity.nice,
            ionice: identity.ionice.map(|priority| priority.to_string()),
            oom_score_adj: identity.oom_score_adj,
            no_new_privs: identity.no_new_privs,
            capabilities: identity.capabilities.map(|set| List(set.names())),
            chroot: identity
                .chroot
                .as_ref()
                .map(|dir| dir.display().to_string()),
            oneshot: program.oneshot,
            status: spec.status,
            class: spec.class,
            critical: spec.critical,
            ports: program.ports.clone(),
            kill_others: program.kill_others,
            process_filters: program.process_filters.clone(),
            env_file: List(program.env_file.clone()),
            env_inherit: program.env_inherit,
            env: program.env.clone(),
        };
        Self {
            service,
            dependencies: (&spec.links).into(),
            lifecycle: LifecycleSection {
                on_failure: sections::follow_word(&spec.sequel.on_failure),
                on_exit: sections::follow_word(&spec.sequel.on_exit),
                ..(&spec.lifecycle).into()
            },
            readiness: ReadinessSection::of(&spec.readiness, spec.watchdog),
            health: spec.health.as_ref().map(HealthSection::from),
            hooks: (&spec.hooks).into(),
            limits: LimitsSection::of(&program.limits),
            resources: (&program.resources).into(),
            socket: (&program.sockets).into(),
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
            reload_signal: lifecycle.reload_signal.map(|signal| signal.to_string()),
            success_exit: List(sections::success_words(&lifecycle.success_exit)),
            restart_dependents: lifecycle.restart_dependents,
            on_failure: "nothing".to_owned(),
            on_exit: "nothing".to_owned(),
            survive_switch_root: lifecycle.survive_switch_root,
        }
    }
}

impl From<&Health> for HealthSection {
    fn from(health: &Health) -> Self {
        let (probe, target, expect_status) = match &health.probe {
            Probe::Tcp(address) => (ProbeText::Tcp, address, None),
            Probe::Http { url, expect } => {
                let words = OneOrList(sections::expect_words(expect));
                (ProbeText::Http, url, Some(words))
            }
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
            on_unhealthy: health.on_unhealthy,
        }
    }
}

impl From<&Logging> for LoggingSection {
    fn from(logging: &Logging) -> Self {
        Self {
            buffer_lines: logging.buffer_lines,
            file: logging.file.as_ref().map(|file| file.display().to_string()),
            max_size: Loose(logging.max_size.to_string()),
            max_files: logging.max_files,
            mode: format!("{:04o}", logging.mode),
            forward: logging.forward.clone(),
            forward_format: logging.forward_format,
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

pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `exec` is a string or an array of strings; the array stays one, because it never meets a shell.
pub(super) mod exec_text {
    use super::{Deserializer, Exec, ExecVisitor, Serialize, Serializer};

    pub(in crate::config) fn serialize<S: Serializer>(
        exec: &Exec,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match exec {
            Exec::Line(line) => serializer.serialize_str(line),
            Exec::Words(words) => words.serialize(serializer),
        }
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
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
