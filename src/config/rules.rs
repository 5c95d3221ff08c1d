//! What must be true of a file beyond its form.
//!
//! Texts and order are those of zinit 0.3.9, because clients show them and scripts match them;
//! rules it did not have stand behind the one they are most like.

use std::fmt;

use super::file::{
    DependenciesSection, HealthSection, LifecycleSection, ProbeText, ServiceConfig, TargetConfig,
};
use crate::engine::Signal;
use crate::engine::spec::Exec;

/// Longest name: the file `NAME.toml` is made of it, and a file name has 255 bytes at most.
pub(super) const NAME_MAX_BYTES: usize = 255 - ".toml".len();

/// A rule that is broken.
pub(super) struct Fault {
    /// The section of the key it is about.
    pub(super) section: &'static str,
    /// The key.
    pub(super) key: &'static str,
    /// What is wrong, to be read after the key.
    pub(super) what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} {}", self.section, self.key, self.what)
    }
}

/// Why a configuration was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetError {
    /// It does not have the form of one: the first thing that is wrong with it.
    Parse(String),
    /// It has the form and breaks rules: all of them.
    Invalid(Vec<String>),
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parse(text) => f.write_str(text),
            Self::Invalid(texts) => f.write_str(&texts.join(", ")),
        }
    }
}

impl std::error::Error for SetError {}

/// The rules a service file breaks.
pub(super) fn service(config: &ServiceConfig) -> Vec<Fault> {
    let mut faults = Faults::default();
    faults.name("service", &config.service.name);
    faults.program(config);
    faults.lifecycle(&config.lifecycle);
    if let Some(health) = &config.health {
        faults.health(health);
    }
    faults.positive("logging", "buffer_lines", config.logging.buffer_lines > 0);
    faults.dependencies(&config.dependencies);
    faults.found
}

/// The rules a target file breaks.
pub(super) fn target(config: &TargetConfig) -> Vec<Fault> {
    let mut faults = Faults::default();
    faults.name("target", &config.target.name);
    faults.dependencies(&config.dependencies);
    faults.found
}

/// Letters, digits, dot, dash and underscore; but `.` and `..` are directories, not names.
fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty() && name.bytes().all(allowed) && name != "." && name != ".."
}

#[derive(Default)]
struct Faults {
    found: Vec<Fault>,
}

impl Faults {
    fn add(&mut self, section: &'static str, key: &'static str, what: impl Into<String>) {
        self.found.push(Fault {
            section,
            key,
            what: what.into(),
        });
    }

    fn positive(&mut self, section: &'static str, key: &'static str, is_so: bool) {
        if !is_so {
            self.add(section, key, "must be > 0");
        }
    }

    /// A NUL byte would end the string early on its way to the kernel.
    fn without_nul(&mut self, section: &'static str, key: &'static str, is_so: bool) {
        if !is_so {
            self.add(section, key, "contains a NUL byte");
        }
    }

    fn name(&mut self, section: &'static str, name: &str) {
        if name.is_empty() {
            self.add(section, "name", "cannot be empty");
        } else if !is_name(name) {
            let what = format!(
                "'{name}' contains invalid characters (use alphanumeric, dash, underscore)"
            );
            self.add(section, "name", what);
        } else if name.len() > NAME_MAX_BYTES {
            self.add(
                section,
                "name",
                format!(
                    "is {} bytes long, at most {NAME_MAX_BYTES} are allowed",
                    name.len()
                ),
            );
        }
    }

    fn program(&mut self, config: &ServiceConfig) {
        let service = &config.service;
        let (first, nul_free) = match &service.exec {
            Exec::Line(line) => (line.trim(), is_nul_free(line)),
            Exec::Words(words) => (
                words.first().map_or("", |word| word),
                words.iter().all(|word| is_nul_free(word)),
            ),
        };
        if first.is_empty() {
            self.add("service", "exec", "cannot be empty");
        }
        self.without_nul("service", "exec", nul_free);
        self.without_nul(
            "service",
            "dir",
            service.dir.as_deref().is_none_or(is_nul_free),
        );
        if let Some(tty) = &service.tty {
            self.without_nul("service", "tty", is_nul_free(tty));
            if !tty.starts_with('/') {
                let what = format!("'{tty}' must be an absolute path such as /dev/ttyS0");
                self.add("service", "tty", what);
            }
        }
        if service.process_filters.iter().any(String::is_empty) {
            // It would match every process, and with kill_others end every process.
            self.add(
                "service",
                "process_filters",
                "cannot contain an empty string",
            );
        }
        for (name, value) in &service.env {
            if name.is_empty() {
                self.add("service", "env", "cannot have an empty name");
            } else if name.contains('=') {
                self.add("service", "env", format!("name '{name}' contains '='"));
            }
            self.without_nul("service", "env", is_nul_free(name) && is_nul_free(value));
        }
    }

    fn lifecycle(&mut self, lifecycle: &LifecycleSection) {
        let (delay, delay_max) = (lifecycle.restart_delay_ms, lifecycle.restart_delay_max_ms);
        self.positive("lifecycle", "restart_delay_ms", delay > 0);
        self.positive("lifecycle", "restart_delay_max_ms", delay_max > 0);
        if delay_max < delay {
            self.add(
                "lifecycle",
                "restart_delay_max_ms",
                "must be >= restart_delay_ms",
            );
        }
        self.positive(
            "lifecycle",
            "start_timeout_ms",
            lifecycle.start_timeout_ms > 0,
        );
        self.positive(
            "lifecycle",
            "stop_timeout_ms",
            lifecycle.stop_timeout_ms > 0,
        );
        if Signal::parse(&lifecycle.stop_signal).is_err() {
            self.add(
                "lifecycle",
                "stop_signal",
                format!("'{}' is not a valid signal", lifecycle.stop_signal),
            );
        }
    }

    fn health(&mut self, health: &HealthSection) {
        self.positive("health", "retries", health.retries > 0);
        self.positive("health", "interval_ms", health.interval_ms > 0);
        self.positive("health", "timeout_ms", health.timeout_ms > 0);
        if health.target.is_empty() {
            self.add("health", "target", "cannot be empty");
        }
        self.without_nul("health", "target", is_nul_free(&health.target));
        let is_http = health.probe == ProbeText::Http;
        self.positive(
            "health",
            "expect_status",
            !is_http || health.expect_status != Some(0),
        );
    }

    fn dependencies(&mut self, dependencies: &DependenciesSection) {
        let lists = [
            ("requires", &dependencies.requires),
            ("after", &dependencies.after),
            ("wants", &dependencies.wants),
            ("conflicts", &dependencies.conflicts),
        ];
        for (key, names) in lists {
            for name in names.iter().filter(|name| !is_name(name)) {
                self.add(
                    "dependencies",
                    key,
                    format!("contains invalid name '{name}'"),
                );
            }
        }
    }
}

fn is_nul_free(text: &str) -> bool {
    !text.contains('\0')
}
