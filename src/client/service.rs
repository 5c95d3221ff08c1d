//! Service files, made by a program.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::config::{self, KEYS, SetError};
use crate::engine::Spec;
use crate::engine::spec::{Class, KillMode, Readiness, RestartPolicy, Status};

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

/// Makes a [`ServiceFile`], key by key. What is not said has its default; `zinit-service(5)` tells what
/// the keys mean.
///
/// ```
/// use std::time::Duration;
/// use zinit::client::ServiceBuilder;
/// use zinit::engine::spec::RestartPolicy;
///
/// let web = ServiceBuilder::new("web")
///     .exec("nginx -g 'daemon off;'")
///     .requires("db")
///     .restart(RestartPolicy::Always)
///     .health_http("http://127.0.0.1:8080/health")
///     .health_interval(Duration::from_secs(5))
///     .env("LANG", "C.UTF-8")
///     .build()?;
/// assert!(web.to_toml().contains("requires = [\"db\"]"));
/// # Ok::<(), zinit::client::Invalid>(())
/// ```
#[derive(Clone, Debug)]
pub struct ServiceBuilder {
    document: Value,
    /// The section of its name.
    own: &'static str,
    unknown: Vec<String>,
}

impl ServiceBuilder {
    /// A service that runs a program.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self::of("service", name)
    }

    /// A name for a group of services.
    #[must_use]
    pub fn target(name: &str) -> Self {
        Self::of("target", name)
    }

    fn of(own: &'static str, name: &str) -> Self {
        let document = json!({own: {"name": name}});
        let unknown = Vec::new();
        Self {
            document,
            own,
            unknown,
        }
    }

    /// Any key of any section, for those that have no method here.
    ///
    /// ```
    /// # use zinit::client::ServiceBuilder;
    /// let web = ServiceBuilder::new("web").exec("nginx").key("resources", "memory_max", "512M");
    /// assert!(web.build().is_ok());
    /// let odd = ServiceBuilder::new("web").exec("nginx").key("service", "colour", "red");
    /// assert!(odd.build().is_err());
    /// ```
    #[must_use]
    pub fn key(mut self, section: &str, key: &str, value: impl Into<Value>) -> Self {
        let known = |known: &config::Key| known.section == section && known.name == key;
        if !KEYS.iter().any(known) && section != "limits" {
            self.unknown.push(format!("{section}.{key} is no key"));
        }
        self.document[section][key] = value.into();
        self
    }

    /// One more in a list.
    fn more(mut self, section: &str, key: &str, value: impl Into<Value>) -> Self {
        let list = &mut self.document[section][key];
        match list.as_array_mut() {
            Some(list) => list.push(value.into()),
            None => *list = Value::from(vec![value.into()]),
        }
        self
    }

    fn ms(self, section: &str, key: &str, time: Duration) -> Self {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.key(section, key, ms)
    }

    fn health(self, kind: &str, target: &str) -> Self {
        self.key("health", "type", kind)
            .key("health", "target", target)
    }

    /// What is run: a command line, which a shell runs if it has to.
    #[must_use]
    pub fn exec(self, line: &str) -> Self {
        self.key("service", "exec", line)
    }

    /// What is run: a program and its arguments, which never meet a shell.
    #[must_use]
    pub fn exec_words<S: Into<String>>(self, words: impl IntoIterator<Item = S>) -> Self {
        let words: Vec<String> = words.into_iter().map(Into::into).collect();
        self.key("service", "exec", words)
    }

    /// Its working directory.
    #[must_use]
    pub fn dir(self, path: &str) -> Self {
        self.key("service", "dir", path)
    }

    /// Who it runs as.
    #[must_use]
    pub fn user(self, name: &str) -> Self {
        self.key("service", "user", name)
    }

    /// One more variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.document["service"]["env"][name] = value.into();
        self
    }

    /// It runs once, to its end.
    #[must_use]
    pub fn oneshot(self) -> Self {
        self.key("service", "oneshot", true)
    }

    /// One more TCP port it listens on.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        self.more("service", "ports", port)
    }

    /// Whether it is started with the server.
    #[must_use]
    pub fn status(self, status: Status) -> Self {
        let word = match status {
            Status::Start => "start",
            Status::Stop => "stop",
            Status::Ignore => "ignore",
        };
        let own = self.own;
        self.key(own, "status", word)
    }

    /// Who it belongs to.
    #[must_use]
    pub fn class(self, class: Class) -> Self {
        let word = match class {
            Class::User => "user",
            Class::System => "system",
        };
        let own = self.own;
        self.key(own, "class", word)
    }

    /// Its failure for good is the machine's.
    #[must_use]
    pub fn critical(self) -> Self {
        let own = self.own;
        self.key(own, "critical", true)
    }

    /// One more service it can't do without.
    #[must_use]
    pub fn requires(self, name: &str) -> Self {
        self.more("dependencies", "requires", name)
    }

    /// One more service it is started after, if that is started too.
    #[must_use]
    pub fn after(self, name: &str) -> Self {
        self.more("dependencies", "after", name)
    }

    /// One more service that is started along.
    #[must_use]
    pub fn wants(self, name: &str) -> Self {
        self.more("dependencies", "wants", name)
    }

    /// One more service it is never up with at the same time.
    #[must_use]
    pub fn conflicts(self, name: &str) -> Self {
        self.more("dependencies", "conflicts", name)
    }

    /// When it is started again.
    #[must_use]
    pub fn restart(self, policy: RestartPolicy) -> Self {
        let word = match policy {
            RestartPolicy::Always => "always",
            RestartPolicy::OnFailure => "on-failure",
            RestartPolicy::Never => "never",
        };
        self.key("lifecycle", "restart", word)
    }

    /// How long before it is started again: the first time, and at most.
    #[must_use]
    pub fn restart_delay(self, first: Duration, most: Duration) -> Self {
        self.ms("lifecycle", "restart_delay_ms", first).ms(
            "lifecycle",
            "restart_delay_max_ms",
            most,
        )
    }

    /// How many times in a row it is started again; 0: without end.
    #[must_use]
    pub fn max_restarts(self, count: u32) -> Self {
        self.key("lifecycle", "max_restarts", count)
    }

    /// How long it may take to start.
    #[must_use]
    pub fn start_timeout(self, time: Duration) -> Self {
        self.ms("lifecycle", "start_timeout_ms", time)
    }

    /// How long it may take to stop before it is killed.
    #[must_use]
    pub fn stop_timeout(self, time: Duration) -> Self {
        self.ms("lifecycle", "stop_timeout_ms", time)
    }

    /// The signal that asks it to stop.
    #[must_use]
    pub fn stop_signal(self, signal: &str) -> Self {
        self.key("lifecycle", "stop_signal", signal)
    }

    /// The signal that has it read its configuration anew.
    #[must_use]
    pub fn reload_signal(self, signal: &str) -> Self {
        self.key("lifecycle", "reload_signal", signal)
    }

    /// Which of its processes a stop is for.
    #[must_use]
    pub fn kill_mode(self, mode: KillMode) -> Self {
        let word = match mode {
            KillMode::Tree => "tree",
            KillMode::Group => "group",
            KillMode::Main => "main",
        };
        self.key("lifecycle", "kill_mode", word)
    }

    /// What makes it ready.
    #[must_use]
    pub fn readiness(self, readiness: Readiness) -> Self {
        let (word, more) = match readiness {
            Readiness::Spawn => ("spawn", None),
            Readiness::Exit => ("exit", None),
            Readiness::Health => ("health", None),
            Readiness::Notify => ("notify", None),
            Readiness::Fd(fd) => ("fd", Some(("fd", Value::from(fd)))),
            Readiness::Log(text) => ("log", Some(("text", Value::from(text)))),
        };
        let typed = self.key("readiness", "type", word);
        match more {
            Some((key, value)) => typed.key("readiness", key, value),
            None => typed,
        }
    }

    /// It is healthy while it can be connected to: `HOST:PORT` or `unix:/PATH`.
    #[must_use]
    pub fn health_tcp(self, target: &str) -> Self {
        self.health("tcp", target)
    }

    /// It is healthy while this URL is answered with 200.
    #[must_use]
    pub fn health_http(self, url: &str) -> Self {
        self.health("http", url)
    }

    /// It is healthy while this command exits with 0.
    #[must_use]
    pub fn health_exec(self, line: &str) -> Self {
        self.health("exec", line)
    }

    /// Time between two probes.
    #[must_use]
    pub fn health_interval(self, time: Duration) -> Self {
        self.ms("health", "interval_ms", time)
    }

    /// Time after which a probe has failed.
    #[must_use]
    pub fn health_timeout(self, time: Duration) -> Self {
        self.ms("health", "timeout_ms", time)
    }

    /// So many failures in a row make it unhealthy.
    #[must_use]
    pub fn health_retries(self, count: u32) -> Self {
        self.key("health", "retries", count)
    }

    /// Time before the first probe.
    #[must_use]
    pub fn health_start_period(self, time: Duration) -> Self {
        self.ms("health", "start_period_ms", time)
    }

    /// So many lines of its output are kept in memory.
    #[must_use]
    pub fn log_lines(self, count: u32) -> Self {
        self.key("logging", "buffer_lines", count)
    }

    /// Its output is written to this file too.
    #[must_use]
    pub fn log_file(self, path: &str) -> Self {
        self.key("logging", "file", path)
    }

    /// Checks it all.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn build(self) -> Result<ServiceFile, Invalid> {
        if !self.unknown.is_empty() {
            return Err(Invalid(self.unknown));
        }
        ServiceFile::from_value(self.document)
    }
}
