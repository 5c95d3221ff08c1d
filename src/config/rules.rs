//! What must be true of a file beyond its form.
//!
//! Texts and order are those of zinit 0.3.9, because clients show them and scripts match them;
//! rules it did not have stand behind the one they are most like.

use std::fmt;

use super::file::{
    DependenciesSection, HealthSection, LifecycleSection, LoggingSection, ProbeText, ServiceConfig,
    ServiceSection, TargetConfig,
};
use super::sections::{self, HooksSection, SocketSection};
use super::template::is_template;
use super::words::{List, Loose, OneOrList};
use crate::engine::confine::{IoPriority, Rlimit};
use crate::engine::spec::{Exec, Readiness};
use crate::engine::{Address, Signal};

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
    faults.identity(&config.service);
    faults.lifecycle(&config.lifecycle);
    faults.readiness(config);
    if let Some(health) = &config.health {
        faults.health(health);
    }
    faults.hooks(&config.hooks);
    faults.confinement(config);
    faults.sockets(&config.socket);
    faults.logging(&config.logging);
    faults.dependencies(&config.dependencies, &config.service.name);
    faults.found
}

/// The rules a target file breaks.
pub(super) fn target(config: &TargetConfig) -> Vec<Fault> {
    let mut faults = Faults::default();
    faults.name("target", &config.target.name);
    faults.dependencies(&config.dependencies, &config.target.name);
    faults.found
}

/// Letters, digits, dot, dash and underscore, and the `@` of an instance; but `.` and `..` are
/// directories, not names.
pub(super) fn is_name(name: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'@');
    let is_path = name == "." || name == "..";
    !name.is_empty() && name.bytes().all(allowed) && !is_path && !name.starts_with('@')
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

    fn command(&mut self, section: &'static str, key: &'static str, exec: &Exec) {
        let (first, nul_free) = match exec {
            Exec::Line(line) => (line.trim(), is_nul_free(line)),
            Exec::Words(words) => (
                words.first().map_or("", |word| word),
                words.iter().all(|word| is_nul_free(word)),
            ),
        };
        if first.is_empty() {
            self.add(section, key, "cannot be empty");
        }
        self.without_nul(section, key, nul_free);
    }

    fn program(&mut self, config: &ServiceConfig) {
        let service = &config.service;
        self.command("service", "exec", &service.exec);
        self.without_nul(
            "service",
            "dir",
            service.dir.as_deref().is_none_or(is_nul_free),
        );
        if let Some(tty) = &service.tty {
            self.without_nul("service", "tty", is_nul_free(tty));
            self.absolute("service", "tty", tty, "/dev/ttyS0");
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

    /// A value that its reader does not understand.
    fn readable(
        &mut self,
        section: &'static str,
        key: &'static str,
        value: Option<&str>,
        is_so: impl FnOnce(&str) -> bool,
        takes: &str,
    ) {
        if let Some(value) = value.filter(|value| !is_so(value)) {
            self.add(section, key, format!("'{value}' must be {takes}"));
        }
    }

    fn within(
        &mut self,
        section: &'static str,
        key: &'static str,
        value: Option<i32>,
        range: std::ops::RangeInclusive<i32>,
    ) {
        if let Some(value) = value.filter(|value| !range.contains(value)) {
            let what = format!("{value} must be {} to {}", range.start(), range.end());
            self.add(section, key, what);
        }
    }

    fn identity(&mut self, service: &ServiceSection) {
        let text = |value: &Option<Loose>| value.as_ref().map(|Loose(text)| text.clone());
        for (key, value) in [
            ("user", text(&service.user)),
            ("group", text(&service.group)),
        ]
        .into_iter()
        .chain(
            service
                .groups
                .0
                .iter()
                .map(|group| ("groups", Some(group.clone()))),
        ) {
            if let Some(value) = value {
                self.without_nul("service", key, is_nul_free(&value));
                if value.is_empty() {
                    self.add("service", key, "cannot be empty");
                }
            }
        }
        self.readable(
            "service",
            "umask",
            service.umask.as_deref(),
            |text| sections::umask(text).is_some(),
            "octal, at most 0777",
        );
        self.within("service", "nice", service.nice, -20..=19);
        self.readable(
            "service",
            "ionice",
            service.ionice.as_deref(),
            |text| IoPriority::parse(text).is_some(),
            "idle, best-effort:0 to 7 or realtime:0 to 7",
        );
        self.within(
            "service",
            "oom_score_adj",
            service.oom_score_adj,
            -1000..=1000,
        );
        let names = service.capabilities.as_ref().map(|List(names)| names);
        if let Some(Err(name)) = names.map(|names| sections::capabilities(names)) {
            let what = format!("'{name}' is not a capability such as CAP_NET_BIND_SERVICE");
            self.add("service", "capabilities", what);
        }
        if let Some(dir) = &service.chroot {
            self.without_nul("service", "chroot", is_nul_free(dir));
            self.absolute("service", "chroot", dir, "/srv/jail");
        }
        for file in &service.env_file.0 {
            self.without_nul("service", "env_file", is_nul_free(file));
            let path = file.strip_prefix('-').unwrap_or(file);
            self.absolute("service", "env_file", path, "/etc/default/web");
        }
    }

    fn absolute(&mut self, section: &'static str, key: &'static str, path: &str, such: &str) {
        if !path.starts_with('/') {
            let what = format!("'{path}' must be an absolute path such as {such}");
            self.add(section, key, what);
        }
    }

    fn readiness(&mut self, config: &ServiceConfig) {
        let (section, oneshot) = (&config.readiness, config.service.oneshot);
        let has_health = config.health.is_some();
        match section.readiness(oneshot, has_health) {
            Err(unknown) => {
                let what = format!("'{unknown}' must be spawn, exit, health, notify, fd or log");
                self.add("readiness", "type", what);
            }
            Ok(Readiness::Health) if !has_health => {
                self.add("readiness", "type", "health needs a [health] section");
            }
            Ok(Readiness::Log(text)) if text.is_empty() => {
                self.add("readiness", "text", "is required by type log");
            }
            Ok(Readiness::Fd(fd)) if !(3..=1023).contains(&fd) => {
                self.add("readiness", "fd", format!("{fd} must be 3 to 1023"));
            }
            Ok(Readiness::Fd(fd))
                if usize::try_from(fd - 3)
                    .is_ok_and(|place| place < config.socket.listen.0.len()) =>
            {
                let what = format!("{fd} is that of a socket; they begin with 3");
                self.add("readiness", "fd", what);
            }
            Ok(Readiness::Exit) => {}
            Ok(_) if oneshot => {
                self.add("readiness", "type", "of a oneshot can only be exit");
            }
            Ok(_) => {}
        }
    }

    fn hooks(&mut self, hooks: &HooksSection) {
        let all = [
            ("pre_start", &hooks.pre_start),
            ("post_start", &hooks.post_start),
            ("stop", &hooks.stop),
            ("post_stop", &hooks.post_stop),
            ("reload", &hooks.reload),
        ];
        for (key, exec) in all {
            if let Some(exec) = exec {
                self.command("hooks", key, exec);
            }
        }
        let timeouts = [
            ("pre_start_timeout_ms", hooks.pre_start_timeout_ms),
            ("post_start_timeout_ms", hooks.post_start_timeout_ms),
            ("stop_timeout_ms", hooks.stop_timeout_ms),
            ("post_stop_timeout_ms", hooks.post_stop_timeout_ms),
            ("reload_timeout_ms", hooks.reload_timeout_ms),
        ];
        for (key, ms) in timeouts {
            self.positive("hooks", key, ms > 0);
        }
    }

    fn confinement(&mut self, config: &ServiceConfig) {
        for (name, limit) in &config.limits.0 {
            let Some(Loose(text)) = limit else { continue };
            let known = Rlimit::ALL.iter().find(|(_, known)| known == name);
            if let Some((_, key)) = known
                && sections::limit(name, text).is_none()
            {
                let what =
                    format!("'{text}' must be a number or unlimited, or two of them as soft:hard");
                self.add("limits", key, what);
            }
        }
        let resources = &config.resources;
        let bytes = "bytes, such as 67108864 or 64M";
        let weight = "1 to 10000";
        type Reader = fn(&str) -> Option<u64>;
        let all: [(_, &Option<Loose>, Reader, _); 6] = [
            ("memory_max", &resources.memory_max, sections::size, bytes),
            ("memory_high", &resources.memory_high, sections::size, bytes),
            (
                "pids_max",
                &resources.pids_max,
                sections::count,
                "a number > 0",
            ),
            (
                "cpu_weight",
                &resources.cpu_weight,
                sections::weight,
                weight,
            ),
            (
                "cpu_max",
                &resources.cpu_max,
                sections::percent,
                "percent of a processor, such as 150%",
            ),
            ("io_weight", &resources.io_weight, sections::weight, weight),
        ];
        for (key, value, read, takes) in all {
            let value = value.as_ref().map(|Loose(text)| text.as_str());
            self.readable("resources", key, value, |text| read(text).is_some(), takes);
        }
    }

    fn sockets(&mut self, socket: &SocketSection) {
        /// Sockets of one service: their names and numbers have to fit its environment.
        const MOST: usize = 64;
        let (listen, names) = (&socket.listen.0, &socket.names.0);
        for text in listen {
            if let Err(error) = Address::parse(text) {
                self.add("socket", "listen", error);
            }
        }
        if listen.len() > MOST {
            self.add(
                "socket",
                "listen",
                format!("has more than {MOST} addresses"),
            );
        }
        if names.len() > listen.len() {
            self.add(
                "socket",
                "names",
                "has more names than listen has addresses",
            );
        }
        let is_fit = |name: &&String| {
            let mut bytes = name.bytes();
            !name.is_empty()
                && name.len() <= 255
                && bytes.all(|byte| byte.is_ascii_graphic() && byte != b':')
        };
        for name in names.iter().filter(|name| !is_fit(name)) {
            let what = format!("'{name}' must be printable, without blanks and colons");
            self.add("socket", "names", what);
        }
        self.readable(
            "socket",
            "mode",
            socket.mode.as_deref(),
            |text| sections::umask(text).is_some(),
            "octal, at most 0777",
        );
        if socket.activation && listen.is_empty() {
            self.add("socket", "listen", "is required by activation");
        }
    }

    fn logging(&mut self, logging: &LoggingSection) {
        self.positive("logging", "buffer_lines", logging.buffer_lines > 0);
        if let Some(file) = &logging.file {
            self.without_nul("logging", "file", is_nul_free(file));
        }
        self.readable(
            "logging",
            "max_size",
            Some(&logging.max_size.0),
            |text| sections::size(text).is_some(),
            "bytes, such as 10485760 or 10M",
        );
        self.readable(
            "logging",
            "mode",
            Some(&logging.mode),
            |text| sections::umask(text).is_some(),
            "octal, at most 0777",
        );
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
        self.readable(
            "lifecycle",
            "reload_signal",
            lifecycle.reload_signal.as_deref(),
            |text| Signal::parse(text).is_ok(),
            "a signal, such as SIGHUP",
        );
        if let Err(word) = sections::success_exit(&lifecycle.success_exit.0) {
            let what = format!("'{word}' must be an exit status, 0 to 255, or a signal");
            self.add("lifecycle", "success_exit", what);
        }
        let follows = [
            ("on_failure", &lifecycle.on_failure),
            ("on_exit", &lifecycle.on_exit),
        ];
        for (key, follow) in follows {
            self.readable(
                "lifecycle",
                key,
                Some(follow),
                |text| sections::follow(text).is_some(),
                "nothing, shutdown, reboot, shell or start:NAME",
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
        if health.probe != ProbeText::Http {
            return;
        }
        let words = health.expect_status.as_ref().map(|OneOrList(words)| words);
        let words = words.map(Vec::as_slice).unwrap_or_default();
        if words.iter().any(|word| word == "0") {
            self.add("health", "expect_status", "must be > 0");
        } else if let Err(word) = sections::expect(words) {
            let what = format!("'{word}' must be a status, 2xx, or a list of those");
            self.add("health", "expect_status", what);
        }
    }

    fn dependencies(&mut self, dependencies: &DependenciesSection, name: &str) {
        // What a template is filled in with is a name, or a part of one.
        let filled = |other: &str| match is_template(name) {
            true => other
                .replace("%i", "x")
                .replace("%n", "x")
                .replace("%p", "x"),
            false => other.to_owned(),
        };
        let lists = [
            ("requires", &dependencies.requires),
            ("after", &dependencies.after),
            ("wants", &dependencies.wants),
            ("conflicts", &dependencies.conflicts),
        ];
        for (key, names) in lists {
            for name in names.iter().filter(|name| !is_name(&filled(name))) {
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
