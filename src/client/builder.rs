//! Service files, made by a program.

use std::time::Duration;

use serde_json::{Value, json};

use super::service::{Invalid, ServiceFile};
use crate::config::{self, KEYS};
use crate::engine::confine::Rlimit;
use crate::engine::spec::{
    Class, Follow, Format, Hook, KillMode, OnUnhealthy, Readiness, RestartPolicy, Status,
};

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
///     .memory_max("512M")
///     .listen("tcp:127.0.0.1:8080")
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
    /// let web = ServiceBuilder::new("web").exec("nginx").key("service", "nice", 5);
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
        self.key("service", "exec", texts(words))
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

    /// Its group; that of the user if not said.
    #[must_use]
    pub fn group(self, name: &str) -> Self {
        self.key("service", "group", name)
    }

    /// One more group it is in.
    #[must_use]
    pub fn also_group(self, name: &str) -> Self {
        self.more("service", "groups", name)
    }

    /// The mask of the modes of its new files, such as `0o027`.
    #[must_use]
    pub fn umask(self, mask: u32) -> Self {
        self.key("service", "umask", format!("{mask:04o}"))
    }

    /// Its priority, -20 (first) to 19.
    #[must_use]
    pub fn nice(self, nice: i32) -> Self {
        self.key("service", "nice", nice)
    }

    /// Its priority for disks: `realtime:0`, `best-effort:7` or `idle`.
    #[must_use]
    pub fn ionice(self, priority: &str) -> Self {
        self.key("service", "ionice", priority)
    }

    /// How likely the kernel kills it for memory, -1000 (never) to 1000.
    #[must_use]
    pub fn oom_score_adj(self, score: i32) -> Self {
        self.key("service", "oom_score_adj", score)
    }

    /// It can't gain privileges by what it executes.
    #[must_use]
    pub fn no_new_privs(self) -> Self {
        self.key("service", "no_new_privs", true)
    }

    /// It has these capabilities and no others.
    #[must_use]
    pub fn capabilities<S: Into<String>>(self, names: impl IntoIterator<Item = S>) -> Self {
        self.key("service", "capabilities", texts(names))
    }

    /// The directory that is its root.
    #[must_use]
    pub fn chroot(self, path: &str) -> Self {
        self.key("service", "chroot", path)
    }

    /// The terminal that is its input and output.
    #[must_use]
    pub fn tty(self, path: &str) -> Self {
        self.key("service", "tty", path)
    }

    /// One more variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.document["service"]["env"][name] = value.into();
        self
    }

    /// One more file of variables; with a `-` in front it need not be there.
    #[must_use]
    pub fn env_file(self, path: &str) -> Self {
        self.more("service", "env_file", path)
    }

    /// Whether it has the server's environment too.
    #[must_use]
    pub fn env_inherit(self, inherit: bool) -> Self {
        self.key("service", "env_inherit", inherit)
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

    /// It waits while a process runs whose name contains this.
    #[must_use]
    pub fn process_filter(self, name: &str) -> Self {
        self.more("service", "process_filters", name)
    }

    /// Whoever has its ports, or matches its filters, is killed and not waited for.
    #[must_use]
    pub fn kill_others(self) -> Self {
        self.key("service", "kill_others", true)
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

    /// A process that lived this long has its restarts forgotten.
    #[must_use]
    pub fn stability_period(self, time: Duration) -> Self {
        self.ms("lifecycle", "stability_period_ms", time)
    }

    /// The ends that are a success: statuses and names of signals. Without this it is `0` alone.
    #[must_use]
    pub fn success_exit<S: Into<String>>(self, words: impl IntoIterator<Item = S>) -> Self {
        self.key("lifecycle", "success_exit", texts(words))
    }

    /// Whoever requires it goes down and comes back with it when it is restarted by policy.
    #[must_use]
    pub fn restart_dependents(self) -> Self {
        self.key("lifecycle", "restart_dependents", true)
    }

    /// What follows when it has failed for good.
    #[must_use]
    pub fn on_failure(self, follow: Follow) -> Self {
        self.key("lifecycle", "on_failure", follow_word(&follow))
    }

    /// What follows when it has ended well.
    #[must_use]
    pub fn on_exit(self, follow: Follow) -> Self {
        self.key("lifecycle", "on_exit", follow_word(&follow))
    }

    /// It goes on when an initramfs hands over to the real root.
    #[must_use]
    pub fn survive_switch_root(self) -> Self {
        self.key("lifecycle", "survive_switch_root", true)
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

    /// It has to say that it is well more often than this.
    #[must_use]
    pub fn watchdog(self, time: Duration) -> Self {
        self.ms("readiness", "watchdog_ms", time)
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

    /// The statuses that are healthy, such as `204` or `2xx`.
    #[must_use]
    pub fn health_expect<S: Into<String>>(self, statuses: impl IntoIterator<Item = S>) -> Self {
        self.key("health", "expect_status", texts(statuses))
    }

    /// What follows when it is unhealthy.
    #[must_use]
    pub fn on_unhealthy(self, follows: OnUnhealthy) -> Self {
        let word = match follows {
            OnUnhealthy::Restart => "restart",
            OnUnhealthy::Report => "report",
        };
        self.key("health", "on_unhealthy", word)
    }

    // What is run beside it, what it may use, and what is opened for it.

    /// A command at one of its turns, which may take 30 seconds.
    #[must_use]
    pub fn hook(self, hook: Hook, line: &str) -> Self {
        self.key("hooks", hook.name(), line)
    }

    /// How long that command may take.
    #[must_use]
    pub fn hook_timeout(self, hook: Hook, time: Duration) -> Self {
        self.ms("hooks", &format!("{}_timeout_ms", hook.name()), time)
    }

    /// What each of its processes may use: `SOFT` or `SOFT:HARD`, each a number or `unlimited`.
    #[must_use]
    pub fn limit(self, what: Rlimit, text: &str) -> Self {
        self.key("limits", what.name(), text)
    }

    /// Memory of all of it, such as `512M`; beyond that the kernel kills.
    #[must_use]
    pub fn memory_max(self, size: &str) -> Self {
        self.key("resources", "memory_max", size)
    }

    /// Memory of all of it; beyond that it is slowed down.
    #[must_use]
    pub fn memory_high(self, size: &str) -> Self {
        self.key("resources", "memory_high", size)
    }

    /// Processes and threads it may have.
    #[must_use]
    pub fn pids_max(self, count: u64) -> Self {
        self.key("resources", "pids_max", count)
    }

    /// Percent of one processor it may use.
    #[must_use]
    pub fn cpu_max(self, percent: u32) -> Self {
        self.key("resources", "cpu_max", format!("{percent}%"))
    }

    /// Its share of the processors, 1 to 10000; 100 is usual.
    #[must_use]
    pub fn cpu_weight(self, weight: u64) -> Self {
        self.key("resources", "cpu_weight", weight)
    }

    /// Its share of the disks, 1 to 10000; 100 is usual.
    #[must_use]
    pub fn io_weight(self, weight: u64) -> Self {
        self.key("resources", "io_weight", weight)
    }

    /// One more address that is listened on for it: `tcp:HOST:PORT` or `unix:/PATH`.
    #[must_use]
    pub fn listen(self, address: &str) -> Self {
        self.more("socket", "listen", address)
    }

    /// One more name that it knows its sockets by, in their order.
    #[must_use]
    pub fn socket_name(self, name: &str) -> Self {
        self.more("socket", "names", name)
    }

    /// The mode of its Unix sockets, such as `0o660`.
    #[must_use]
    pub fn socket_mode(self, mode: u32) -> Self {
        self.key("socket", "mode", format!("{mode:04o}"))
    }

    /// It is started when somebody connects, not before.
    #[must_use]
    pub fn activation(self) -> Self {
        self.key("socket", "activation", true)
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

    /// That file begins anew at this size, such as `10M`; `0`: never.
    #[must_use]
    pub fn log_max_size(self, size: &str) -> Self {
        self.key("logging", "max_size", size)
    }

    /// So many files before it are kept.
    #[must_use]
    pub fn log_max_files(self, count: u32) -> Self {
        self.key("logging", "max_files", count)
    }

    /// The mode of that file, such as `0o640`.
    #[must_use]
    pub fn log_mode(self, mode: u32) -> Self {
        self.key("logging", "mode", format!("{mode:04o}"))
    }

    /// Its output goes on to `syslog`, `unix:/PATH`, `udp:ADDRESS:PORT`, `kmsg`, `console` or `stdout`.
    #[must_use]
    pub fn forward(self, to: &str) -> Self {
        self.key("logging", "forward", to)
    }

    /// As what it goes on.
    #[must_use]
    pub fn forward_format(self, format: Format) -> Self {
        let word = match format {
            Format::Raw => "raw",
            Format::Prefixed => "prefixed",
            Format::Json => "json",
        };
        self.key("logging", "forward_format", word)
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

fn texts<S: Into<String>>(words: impl IntoIterator<Item = S>) -> Vec<String> {
    words.into_iter().map(Into::into).collect()
}

fn follow_word(follow: &Follow) -> String {
    match follow {
        Follow::Nothing => "nothing".to_owned(),
        Follow::Shutdown => "shutdown".to_owned(),
        Follow::Reboot => "reboot".to_owned(),
        Follow::Shell => "shell".to_owned(),
        Follow::Start(name) => format!("start:{name}"),
    }
}
