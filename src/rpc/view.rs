//! States as the wire and its texts show them. The words and layouts are those of zinit 0.3.9,
//! which scripts and clients read.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::why::{held_by, waiting_on};
use crate::engine::spec::{Exec, Hook};
use crate::engine::{
    End, Exit, Failure, Fault, Health, Hold, LinkKind, Pid, Service, ServiceId, SpawnError, Spec,
    State, Step, Supervisor, Time,
};

/// How a service looks from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The state's word.
    pub word: Word,
    /// The main process.
    pub pid: Option<Pid>,
    /// Its exit status, where the state is about one.
    pub exit_code: Option<i32>,
    /// Why it failed.
    pub reason: Option<Reason>,
}

/// The states of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Down.
    Inactive,
    /// Held back.
    Blocked,
    /// On its way up.
    Starting,
    /// Up.
    Running,
    /// On its way down.
    Stopping,
    /// Ended well, or as told.
    Exited,
    /// Ended badly.
    Failed,
}

/// Why a service failed, as the wire tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The engine's reason.
    Failure(Failure),
    /// It requires a name that nothing has.
    Missing(String),
    /// It is a member of a cycle.
    Cycle(String),
}

impl Word {
    /// The word itself.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Blocked => "blocked",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Exited => "exited",
            Self::Failed => "failed",
        }
    }

    pub(super) const fn symbol(self) -> &'static str {
        match self {
            Self::Inactive => "[-]",
            Self::Blocked => "[?]",
            Self::Starting => "[>]",
            Self::Running => "[+]",
            Self::Stopping => "[!]",
            Self::Exited => "[.]",
            Self::Failed => "[X]",
        }
    }
}

/// How `id` looks.
#[must_use]
pub fn look(all: &Supervisor, id: ServiceId, service: &Service) -> Look {
    look_in(all, id, service.state())
}

/// How it looks in this state.
fn look_in(all: &Supervisor, id: ServiceId, state: State) -> Look {
    let reason = match state {
        State::Blocked {
            hold: Hold::Missing,
        } => missing(all, id).map(Reason::Missing),
        State::Blocked { hold: Hold::Cycle } => cycle(all, id).map(Reason::Cycle),
        State::Backoff {
            end: End::Failure(failure),
            ..
        } => Some(Reason::Failure(failure)),
        State::Failed { why } => Some(Reason::Failure(why)),
        State::Inactive
        | State::Blocked { .. }
        | State::Preparing { .. }
        | State::Forking
        | State::Spawning { .. }
        | State::Starting { .. }
        | State::Running { .. }
        | State::Stopping { .. }
        | State::Clearing { .. }
        | State::Trailing { .. }
        | State::Backoff { .. }
        | State::Exited { .. } => None,
    };
    let exit_code = match state {
        State::Exited { end } => end.code(),
        State::Backoff { end, .. } => end.code(),
        State::Failed {
            why: Failure::ExitCode(code),
        } => Some(code),
        State::Failed { .. }
        | State::Inactive
        | State::Blocked { .. }
        | State::Preparing { .. }
        | State::Forking
        | State::Spawning { .. }
        | State::Starting { .. }
        | State::Running { .. }
        | State::Stopping { .. }
        | State::Clearing { .. }
        | State::Trailing { .. } => None,
    };
    Look {
        word: word_of(state),
        pid: state.pid(),
        exit_code,
        reason,
    }
}

/// The word of a state.
#[must_use]
pub const fn word(state: State) -> &'static str {
    word_of(state).text()
}

const fn word_of(state: State) -> Word {
    match state {
        State::Inactive => Word::Inactive,
        State::Blocked {
            hold: Hold::Missing | Hold::Cycle,
        }
        | State::Backoff {
            end: End::Failure(_),
            ..
        }
        | State::Failed { .. } => Word::Failed,
        State::Blocked { .. } => Word::Blocked,
        State::Preparing { .. }
        | State::Forking
        | State::Spawning { .. }
        | State::Starting { .. } => Word::Starting,
        State::Running { .. } => Word::Running,
        State::Stopping { .. } | State::Clearing { .. } | State::Trailing { .. } => Word::Stopping,
        State::Backoff { .. } | State::Exited { .. } => Word::Exited,
    }
}

fn missing(all: &Supervisor, id: ServiceId) -> Option<String> {
    let absent = all
        .graph()
        .links(id)
        .iter()
        .find(|link| link.kind == LinkKind::Requires && link.to.is_none());
    absent.map(|link| link.name.to_string())
}

fn cycle(all: &Supervisor, id: ServiceId) -> Option<String> {
    let names = all.graph().cycle(id)?;
    let round: Vec<&str> = names
        .iter()
        .chain(names.first())
        .map(|name| &**name)
        .collect();
    Some(round.join(" -> "))
}

/// ServiceState.
#[must_use]
pub fn state(all: &Supervisor, id: ServiceId, service: &Service) -> Value {
    state_in(all, id, service.spec(), service.state())
}

/// ServiceState of a service in this state.
#[must_use]
pub fn state_in(all: &Supervisor, id: ServiceId, spec: &Spec, state: State) -> Value {
    let look = look_in(all, id, state);
    let mut object = Map::from_iter([("state".to_owned(), json!(look.word.text()))]);
    match look.word {
        Word::Starting | Word::Running | Word::Stopping => {
            object.insert("pid".to_owned(), json!(number(look.pid)));
        }
        Word::Exited => {
            object.insert("exit_code".to_owned(), json!(look.exit_code));
        }
        Word::Failed => {
            object.insert(
                "reason".to_owned(),
                look.reason
                    .as_ref()
                    .map_or(Value::Null, |why| reason(spec, why)),
            );
        }
        Word::Blocked => {
            object.insert("waiting_on".to_owned(), json!(waiting_on(all, id)));
        }
        Word::Inactive => {}
    }
    Value::Object(object)
}

fn reason(spec: &Spec, reason: &Reason) -> Value {
    match reason {
        Reason::Failure(Failure::ExitCode(code)) => json!({"type": "exit_code", "code": code}),
        Reason::Failure(Failure::Signal(signal)) => json!({"type": "signal", "signal": signal}),
        Reason::Failure(Failure::StartTimeout) => json!({"type": "start_timeout"}),
        Reason::Failure(Failure::StopTimeout) => json!({"type": "stop_timeout"}),
        Reason::Failure(Failure::Health { attempts }) => {
            json!({"type": "health_check_failed", "attempts": attempts})
        }
        Reason::Failure(Failure::OutOfMemory) => json!({"type": "out_of_memory", "signal": 9}),
        Reason::Failure(Failure::Unready) => json!({"type": "not_ready"}),
        Reason::Failure(Failure::Watchdog | Failure::Trouble) => json!({"type": "watchdog"}),
        Reason::Failure(Failure::Hook { hook, .. }) => {
            let message = reason_text(spec, reason);
            json!({"type": "hook_failed", "hook": hook.name(), "message": message})
        }
        Reason::Failure(Failure::Spawn(error)) => {
            json!({"type": "spawn_error", "message": spawn_error(spec, None, *error)})
        }
        Reason::Missing(name) => json!({"type": "missing_dependency", "dependency": name}),
        Reason::Cycle(names) => {
            json!({"type": "spawn_error", "message": format!("dependency cycle: {names}")})
        }
    }
}

/// A reason in words, as `service.status` tells it.
#[must_use]
pub fn reason_text(spec: &Spec, reason: &Reason) -> String {
    match reason {
        Reason::Failure(Failure::ExitCode(code)) => format!("exited with code {code}"),
        Reason::Failure(Failure::Signal(signal)) => format!("killed by signal {signal}"),
        Reason::Failure(Failure::StartTimeout) => "start timeout".to_owned(),
        Reason::Failure(Failure::StopTimeout) => "stop timeout".to_owned(),
        Reason::Failure(Failure::Health { attempts }) => {
            format!("health check failed after {attempts} attempts")
        }
        Reason::Failure(Failure::OutOfMemory) => "killed by the kernel for memory".to_owned(),
        Reason::Failure(Failure::Unready) => "ended before it was ready".to_owned(),
        Reason::Failure(Failure::Watchdog) => "watchdog: it did not ping in time".to_owned(),
        Reason::Failure(Failure::Trouble) => "watchdog: it says that it is not well".to_owned(),
        Reason::Failure(Failure::Hook { hook, fault }) => hook_text(spec, *hook, *fault),
        Reason::Failure(Failure::Spawn(error)) => {
            format!("spawn error: {}", spawn_error(spec, None, *error))
        }
        Reason::Missing(name) => format!("missing dependency '{name}'"),
        Reason::Cycle(names) => format!("dependency cycle: {names}"),
    }
}

/// How a hook failed.
#[must_use]
pub fn hook_text(spec: &Spec, hook: Hook, fault: Fault) -> String {
    let exec = spec.hooks.get(hook).map(|hook| &hook.exec);
    format!("{} hook {}", hook.name(), fault_text(spec, exec, fault))
}

/// How an errand that runs this failed, to be read after its name.
#[must_use]
pub fn fault_text(spec: &Spec, exec: Option<&Exec>, fault: Fault) -> String {
    match fault {
        Fault::Ended(Exit::Code(code)) => format!("exited with code {code}"),
        Fault::Ended(Exit::Signal(signal)) => format!("killed by signal {signal}"),
        Fault::Ended(Exit::OutOfMemory) => "killed by the kernel for memory".to_owned(),
        Fault::TimedOut => "took too long".to_owned(),
        Fault::NotRun(error) => spawn_error(spec, exec, error),
    }
}

/// What could not be done, with what it was about: `exec /usr/bin/foo: No such file or directory`.
fn spawn_error(spec: &Spec, exec: Option<&Exec>, error: SpawnError) -> String {
    let Some(program) = spec.program() else {
        return "fork".to_owned();
    };
    let identity = &program.identity;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    fn path(path: &Option<PathBuf>) -> std::path::Display<'_> {
        path.as_deref().unwrap_or(Path::new("")).display()
    }
    let item = usize::from(error.item);
    let about = match error.step {
        Step::Fork => "fork".to_owned(),
        Step::Session => "setsid".to_owned(),
        Step::Stdio => "standard descriptors".to_owned(),
        Step::Terminal => format!("terminal {}", path(&program.tty)),
        Step::EnvFile => {
            let file = program.env_file.get(item).map_or("", String::as_str);
            format!("env_file {file}")
        }
        Step::Cgroup => "cgroup".to_owned(),
        Step::Limits => match program.limits.get(item) {
            Some(limit) => format!("setrlimit {} {limit}", limit.what.name()),
            None => "setrlimit".to_owned(),
        },
        Step::Priority => "priority".to_owned(),
        Step::OomScore => "oom_score_adj".to_owned(),
        Step::Chroot => format!("chroot {}", path(&identity.chroot)),
        Step::Setgid => {
            let named = item
                .checked_sub(1)
                .and_then(|item| identity.groups.get(item));
            let own = identity.group.clone().or(identity.user.clone());
            let name = named.cloned().or(own).unwrap_or_default();
            return nobody(format!("setgid {name}"), "group", error);
        }
        Step::Setuid => {
            let name = text(&identity.user);
            return nobody(format!("setuid {name}"), "user", error);
        }
        Step::Capabilities => "capabilities".to_owned(),
        Step::Sockets => {
            let address = program.sockets.listen.get(item).map(ToString::to_string);
            format!("listen {}", address.unwrap_or_default())
        }
        Step::Chdir => format!("chdir {}", path(&program.dir)),
        Step::Exec => format!("exec {}", exec.unwrap_or(&program.exec).first_word()),
    };
    format!("{about}: {}", words_of(error.errno))
}

/// Names that are in no database read so; the calls themselves never say ENOENT.
fn nobody(about: String, what: &str, error: SpawnError) -> String {
    let os = std::io::Error::from_raw_os_error(error.errno);
    if os.kind() == std::io::ErrorKind::NotFound {
        return format!("{about}: no such {what}");
    }
    format!("{about}: {}", words_of(error.errno))
}

fn words_of(errno: i32) -> String {
    let os = std::io::Error::from_raw_os_error(errno).to_string();
    // The number in parentheses, which the standard library adds, says nothing more to people.
    os.split(" (os error").next().unwrap_or(&os).to_owned()
}

/// What is known of a service beside its state.
#[derive(Clone, Copy, Debug, Default)]
pub struct Aside<'a> {
    /// A process that holds it back.
    pub obstacle: Option<&'a str>,
    /// What its last probe brought.
    pub note: Option<&'a Note>,
    /// What it says of itself.
    pub said: Option<&'a Said>,
}

/// What the last probe of a service brought.
#[derive(Clone, Debug, Default)]
pub struct Note {
    /// How long it took, in milliseconds.
    pub latency_ms: Option<u64>,
    /// What was wrong with the last one that failed, and when, in Unix milliseconds.
    pub error: Option<(String, u64)>,
}

/// What a service says of its run (`sd_notify(3)`).
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// How it is, in its own words.
    pub status: Option<String>,
    /// `reloading` or `stopping`.
    pub doing: Option<&'static str>,
}

/// The word for its health, if the service is probed.
#[must_use]
pub fn health_word(service: &Service) -> Option<&'static str> {
    let is_probed = service.spec().health.is_some() && service.state().has_program();
    is_probed.then(|| match service.health() {
        Health::Unknown => "unknown",
        Health::Healthy { .. } => "healthy",
        Health::Unhealthy { .. } => "unhealthy",
    })
}

/// Whether a service is healthy, as its probes say.
fn health(service: &Service, note: Option<&Note>, now: Time) -> Value {
    let word = health_word(service);
    let since = match service.health() {
        Health::Unknown => None,
        Health::Healthy { since } | Health::Unhealthy { since } => Some(since),
    };
    let mut object = json!({"state": word, "failures": service.failed_probes()});
    if let Some(since) = since {
        object["for_secs"] = json!(now.since(since).as_secs());
    }
    if let Some(ms) = note.and_then(|note| note.latency_ms) {
        object["latency_ms"] = json!(ms);
    }
    if let Some((error, at_ms)) = note.and_then(|note| note.error.as_ref()) {
        object["last_error"] = json!(error);
        object["last_error_ms"] = json!(at_ms);
    }
    object
}

/// `service.status`.
#[must_use]
pub fn status(
    all: &Supervisor,
    id: ServiceId,
    service: &Service,
    aside: Aside<'_>,
    now: Time,
) -> Value {
    let look = look(all, id, service);
    let mut object = Map::new();
    object.insert("name".to_owned(), json!(service.spec().name));
    object.insert("state".to_owned(), json!(look.word.text()));
    object.insert("pid".to_owned(), json!(number(look.pid)));
    if let Some(code) = look.exit_code {
        object.insert("exit_code".to_owned(), json!(code));
    }
    let error = match (&look.reason, look.word) {
        (Some(Reason::Failure(Failure::ExitCode(_))), _) => None,
        (Some(reason), _) => Some(reason_text(service.spec(), reason)),
        (None, Word::Blocked) => {
            Some(held_by(all, id, service, aside.obstacle)).filter(|text| !text.is_empty())
        }
        (None, _) => None,
    };
    if let Some(error) = error {
        object.insert("error".to_owned(), json!(error));
    }
    if service.spec().health.is_some() && service.state().has_program() {
        object.insert("health".to_owned(), health(service, aside.note, now));
    }
    let said = aside.said.filter(|_| look.pid.is_some());
    if let Some(text) = said.and_then(|said| said.status.as_ref()) {
        object.insert("status_text".to_owned(), json!(text));
    }
    if let Some(doing) = said.and_then(|said| said.doing) {
        object.insert("doing".to_owned(), json!(doing));
    }
    Value::Object(object)
}

/// `service.status_full`.
#[must_use]
pub fn status_full(all: &Supervisor, id: ServiceId, service: &Service, now: Time) -> Value {
    json!({
        "name": service.spec().name,
        "is_target": service.spec().is_target(),
        "state": state(all, id, service),
        "dependencies": dependencies(all, id),
        "uptime_secs": uptime(service, now),
    })
}

pub(super) fn uptime(service: &Service, now: Time) -> Option<u64> {
    let state = service.state();
    let since = state
        .since()
        .filter(|_| matches!(state, State::Running { .. }))?;
    Some(now.since(since).as_secs())
}

fn dependencies(all: &Supervisor, id: ServiceId) -> Vec<Value> {
    let known = linked(all, id).filter(|(kind, ..)| *kind != LinkKind::Conflicts);
    known
        .map(|(kind, other, service)| {
            json!({
                "dep_type": kind_text(kind),
                "name": service.spec().name,
                "satisfied": satisfied(all, kind, other, service),
                "state": state(all, other, service),
            })
        })
        .collect()
}

fn satisfied(all: &Supervisor, kind: LinkKind, id: ServiceId, service: &Service) -> bool {
    match kind {
        LinkKind::Requires => service.is_met(),
        LinkKind::After => !matches!(look(all, id, service).word, Word::Inactive | Word::Blocked),
        LinkKind::Wants | LinkKind::Conflicts => true,
    }
}

/// Links to services that exist.
pub(super) fn linked(
    all: &Supervisor,
    id: ServiceId,
) -> impl Iterator<Item = (LinkKind, ServiceId, &Service)> {
    all.graph()
        .links(id)
        .iter()
        .filter_map(|link| Some((link.kind, link.to?, all.service(link.to?)?)))
}

/// The word of a link.
#[must_use]
pub const fn kind_text(kind: LinkKind) -> &'static str {
    match kind {
        LinkKind::Requires => "requires",
        LinkKind::After => "after",
        LinkKind::Wants => "wants",
        LinkKind::Conflicts => "conflicts",
    }
}

/// First line of a service in any text: symbol, name, state.
pub(super) fn title(all: &Supervisor, id: ServiceId, service: &Service) -> String {
    let word = look(all, id, service).word;
    format!(
        "{} {} ({})",
        word.symbol(),
        service.spec().name,
        word.text()
    )
}

/// 0 stands for no process.
pub(super) fn number(pid: Option<Pid>) -> i32 {
    pid.map_or(0, Pid::number)
}
