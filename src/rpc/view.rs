//! States as the wire and its texts show them. The words and layouts are those of zinit 0.3.9,
//! which scripts and clients read.

use std::path::{Path, PathBuf};

use super::why::{held_by, waiting_on};
use crate::api::{
    self, DependencyInfo, DependencyType, Doing, HealthStatus, HealthWord, Status, StatusFull, Word,
};
use crate::engine::spec::{Exec, Hook};
use crate::engine::{
    End, Exit, Failure, Fault, Health, Hold, LinkKind, Pid, Service, ServiceId, Signal, SpawnError,
    Spec, State, Step, Supervisor, Time,
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

/// What stands before a service in a text.
pub(super) const fn symbol(word: Word) -> &'static str {
    match word {
        Word::Inactive => "[-]",
        Word::Blocked => "[?]",
        Word::Starting => "[>]",
        Word::Running => "[+]",
        Word::Stopping => "[!]",
        Word::Exited => "[.]",
        Word::Failed => "[X]",
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
        word: word(state),
        pid: state.pid(),
        exit_code,
        reason,
    }
}

/// The word of a state.
#[must_use]
pub const fn word(state: State) -> Word {
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

/// The state of a service.
#[must_use]
pub fn state(all: &Supervisor, id: ServiceId, service: &Service) -> api::State {
    state_in(all, id, service.spec(), service.state())
}

/// The same as if it were in this state.
#[must_use]
pub fn state_in(all: &Supervisor, id: ServiceId, spec: &Spec, state: State) -> api::State {
    let look = look_in(all, id, state);
    let pid = number(look.pid);
    match look.word {
        Word::Inactive => api::State::Inactive {},
        Word::Blocked => api::State::Blocked {
            waiting_on: waiting_on(all, id),
        },
        Word::Starting => api::State::Starting { pid },
        Word::Running => api::State::Running { pid },
        Word::Stopping => api::State::Stopping { pid },
        Word::Exited => api::State::Exited {
            exit_code: look.exit_code,
        },
        Word::Failed => api::State::Failed {
            reason: look.reason.as_ref().map(|why| reason(spec, why)),
        },
    }
}

fn reason(spec: &Spec, reason: &Reason) -> api::Reason {
    let text = || reason_text(spec, reason);
    match reason {
        Reason::Failure(Failure::ExitCode(code)) => api::Reason::ExitCode { code: *code },
        Reason::Failure(Failure::Signal(signal)) => api::Reason::Signal {
            signal: *signal,
            cause: None,
        },
        Reason::Failure(Failure::StartTimeout) => api::Reason::StartTimeout {},
        Reason::Failure(Failure::StopTimeout) => api::Reason::StopTimeout {},
        Reason::Failure(Failure::Health { attempts }) => api::Reason::HealthCheckFailed {
            attempts: *attempts,
        },
        Reason::Failure(Failure::OutOfMemory) => api::Reason::Signal {
            signal: Signal::KILL.number(),
            cause: Some("out_of_memory".to_owned()),
        },
        Reason::Failure(Failure::Unready) => spawn_reason(text(), Some("not_ready")),
        Reason::Failure(Failure::Watchdog | Failure::Trouble) => {
            spawn_reason(text(), Some("watchdog"))
        }
        Reason::Failure(Failure::Hook { hook, .. }) => api::Reason::SpawnError {
            message: text(),
            cause: Some("hook_failed".to_owned()),
            hook: Some(hook.name().to_owned()),
        },
        Reason::Failure(Failure::Spawn(error)) => {
            spawn_reason(spawn_error(spec, None, *error), None)
        }
        Reason::Missing(name) => api::Reason::MissingDependency {
            dependency: name.clone(),
        },
        Reason::Cycle(_) => spawn_reason(text(), Some("cycle")),
    }
}

fn spawn_reason(message: String, cause: Option<&str>) -> api::Reason {
    api::Reason::SpawnError {
        message,
        cause: cause.map(str::to_owned),
        hook: None,
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
    /// Its definition is in memory only.
    pub is_ephemeral: bool,
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
pub fn health_word(service: &Service) -> Option<HealthWord> {
    let is_probed = service.spec().health.is_some() && service.state().has_program();
    is_probed.then(|| match service.health() {
        Health::Unknown => HealthWord::Unknown,
        Health::Healthy { .. } => HealthWord::Healthy,
        Health::Unhealthy { .. } => HealthWord::Unhealthy,
    })
}

/// Whether a service is healthy, as its probes say.
fn health(service: &Service, note: Option<&Note>, now: Time) -> Option<HealthStatus> {
    let since = match service.health() {
        Health::Unknown => None,
        Health::Healthy { since } | Health::Unhealthy { since } => Some(since),
    };
    let (last_error, last_error_ms) = note.and_then(|note| note.error.clone()).unzip();
    Some(HealthStatus {
        state: health_word(service)?,
        failures: service.failed_probes(),
        for_secs: since.map(|since| now.since(since).as_secs()),
        latency_ms: note.and_then(|note| note.latency_ms),
        last_error,
        last_error_ms,
    })
}

/// `service.status`.
#[must_use]
pub fn status(
    all: &Supervisor,
    id: ServiceId,
    service: &Service,
    aside: Aside<'_>,
    now: Time,
) -> Status {
    let look = look(all, id, service);
    let error = match (&look.reason, look.word) {
        (Some(Reason::Failure(Failure::ExitCode(_))), _) => None,
        (Some(reason), _) => Some(reason_text(service.spec(), reason)),
        (None, Word::Blocked) => {
            Some(held_by(all, id, service, aside.obstacle)).filter(|text| !text.is_empty())
        }
        (None, _) => None,
    };
    let said = aside.said.filter(|_| look.pid.is_some());
    Status {
        name: service.spec().name.to_string(),
        state: look.word,
        pid: number(look.pid),
        exit_code: look.exit_code,
        error,
        health: health(service, aside.note, now),
        status_text: said.and_then(|said| said.status.clone()),
        doing: said.and_then(|said| Doing::named(said.doing?)),
        listen: listen(service.spec()),
        awaits_connection: service.awaits_call().then_some(true),
        ephemeral: aside.is_ephemeral.then_some(true),
    }
}

/// Where sockets are opened for it.
fn listen(spec: &Spec) -> Option<Vec<String>> {
    let listen = &spec.program()?.sockets.listen;
    let texts = listen.iter().map(ToString::to_string).collect();
    Some(texts).filter(|texts: &Vec<String>| !texts.is_empty())
}

/// `service.status_full`.
#[must_use]
pub fn status_full(all: &Supervisor, id: ServiceId, service: &Service, now: Time) -> StatusFull {
    StatusFull {
        name: service.spec().name.to_string(),
        state: state(all, id, service),
        is_target: service.spec().is_target(),
        dependencies: dependencies(all, id),
        uptime_secs: uptime(service, now),
    }
}

pub(super) fn uptime(service: &Service, now: Time) -> Option<u64> {
    let state = service.state();
    let since = state
        .since()
        .filter(|_| matches!(state, State::Running { .. }))?;
    Some(now.since(since).as_secs())
}

fn dependencies(all: &Supervisor, id: ServiceId) -> Vec<DependencyInfo> {
    let known = linked(all, id).filter(|(kind, ..)| *kind != LinkKind::Conflicts);
    let shown = known.map(|(kind, other, service)| DependencyInfo {
        name: service.spec().name.to_string(),
        dep_type: kind_of(kind),
        state: state(all, other, service),
        satisfied: satisfied(all, kind, other, service),
    });
    shown.collect()
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
pub const fn kind_of(kind: LinkKind) -> DependencyType {
    match kind {
        LinkKind::Requires => DependencyType::Requires,
        LinkKind::After => DependencyType::After,
        LinkKind::Wants => DependencyType::Wants,
        LinkKind::Conflicts => DependencyType::Conflicts,
    }
}

/// First line of a service in any text: symbol, name, state.
pub(super) fn title(all: &Supervisor, id: ServiceId, service: &Service) -> String {
    let word = look(all, id, service).word;
    format!("{} {} ({})", symbol(word), service.spec().name, word.text())
}

/// 0 stands for no process.
pub(super) fn number(pid: Option<Pid>) -> i32 {
    pid.map_or(0, Pid::number)
}
