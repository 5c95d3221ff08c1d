//! The sections of a service file that zinit 0.3.9 did not have, and how they become a spec.
//!
//! Each value has one reader, which the rules ask whether it can be read and the spec asks for what
//! it says.

use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::file::{ServiceSection, exec_text};
use super::words::{List, Loose};
use crate::engine::confine::{Capabilities, Identity, IoPriority, Limit, Resources, Rlimit, bytes};
use crate::engine::spec::{
    Exec, Expect, Follow, Format, HookSpec, Hooks, OnUnhealthy, Readiness, Sockets, Statuses,
    SuccessExit,
};
use crate::engine::{Address, Exit, Signal};

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct LimitsSection(pub(super) BTreeMap<String, Option<Loose>>);

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ResourcesSection {
    pub(super) memory_max: Option<Loose>,
    pub(super) memory_high: Option<Loose>,
    pub(super) pids_max: Option<Loose>,
    pub(super) cpu_weight: Option<Loose>,
    pub(super) cpu_max: Option<Loose>,
    pub(super) io_weight: Option<Loose>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct SocketSection {
    pub(super) listen: List,
    pub(super) names: List,
    pub(super) mode: Option<String>,
    pub(super) activation: bool,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ReadinessSection {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) fd: Option<i32>,
    pub(super) text: Option<String>,
    pub(super) watchdog_ms: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(default)]
pub(super) struct HooksSection {
    #[serde(with = "hook_text")]
    pub(super) pre_start: Option<Exec>,
    pub(super) pre_start_timeout_ms: u64,
    #[serde(with = "hook_text")]
    pub(super) post_start: Option<Exec>,
    pub(super) post_start_timeout_ms: u64,
    #[serde(with = "hook_text")]
    pub(super) stop: Option<Exec>,
    pub(super) stop_timeout_ms: u64,
    #[serde(with = "hook_text")]
    pub(super) post_stop: Option<Exec>,
    pub(super) post_stop_timeout_ms: u64,
    #[serde(with = "hook_text")]
    pub(super) reload: Option<Exec>,
    pub(super) reload_timeout_ms: u64,
}

/// What a hook may take if its file says nothing.
const HOOK_TIMEOUT_MS: u64 = 30_000;

impl Default for HooksSection {
    fn default() -> Self {
        Self {
            pre_start: None,
            pre_start_timeout_ms: HOOK_TIMEOUT_MS,
            post_start: None,
            post_start_timeout_ms: HOOK_TIMEOUT_MS,
            stop: None,
            stop_timeout_ms: HOOK_TIMEOUT_MS,
            post_stop: None,
            post_stop_timeout_ms: HOOK_TIMEOUT_MS,
            reload: None,
            reload_timeout_ms: HOOK_TIMEOUT_MS,
        }
    }
}

// The engine knows no serde; these lend it the words of the file.

#[derive(Serialize, Deserialize)]
#[serde(remote = "OnUnhealthy", rename_all = "lowercase")]
pub(super) enum OnUnhealthyText {
    Restart,
    Report,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Format", rename_all = "lowercase")]
pub(super) enum FormatText {
    Raw,
    Prefixed,
    Json,
}

/// An [`Exec`] or nothing.
mod hook_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Exec, exec_text};

    #[derive(Serialize, Deserialize)]
    struct Wrapped(#[serde(with = "exec_text")] Exec);

    pub(super) fn serialize<S: Serializer>(
        exec: &Option<Exec>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        exec.clone().map(Wrapped).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Exec>, D::Error> {
        let wrapped = Option::<Wrapped>::deserialize(deserializer)?;
        Ok(wrapped.map(|Wrapped(exec)| exec))
    }
}

// The readers. None: it cannot be read.

pub(super) fn umask(text: &str) -> Option<u32> {
    let mask = u32::from_str_radix(text.strip_prefix("0o").unwrap_or(text), 8).ok()?;
    Some(mask).filter(|mask| *mask <= 0o777)
}

pub(super) fn capabilities(names: &[String]) -> Result<Capabilities, &String> {
    let mut set = Capabilities(0);
    match names.iter().find(|name| !set.add(name)) {
        Some(unknown) => Err(unknown),
        None => Ok(set),
    }
}

pub(super) fn limit(name: &str, text: &str) -> Option<Option<Limit>> {
    let known = Rlimit::ALL.iter().find(|(_, known)| *known == name);
    // An unknown key is warned of, not refused.
    let Some((what, _)) = known else {
        return Some(None);
    };
    Limit::parse(*what, text).map(Some)
}

pub(super) fn count(text: &str) -> Option<u64> {
    text.parse().ok().filter(|count| *count > 0)
}

pub(super) fn weight(text: &str) -> Option<u64> {
    count(text).filter(|weight| *weight <= 10_000)
}

pub(super) fn percent(text: &str) -> Option<u64> {
    count(text.strip_suffix('%').unwrap_or(text))
}

pub(super) fn size(text: &str) -> Option<u64> {
    bytes(text)
}

pub(super) fn success_exit(words: &[String]) -> Result<SuccessExit, &String> {
    let mut set = SuccessExit::NONE;
    for word in words {
        let exit = match word.parse::<u8>() {
            Ok(code) => Exit::Code(i32::from(code)),
            Err(_) => Exit::Signal(Signal::parse(word).map_err(|_| word)?.number()),
        };
        set = set.with(exit);
    }
    Ok(set)
}

pub(super) fn success_words(set: &SuccessExit) -> Vec<String> {
    let word = |exit| match exit {
        Exit::Code(code) => code.to_string(),
        Exit::Signal(signal) => Signal::parse(&signal.to_string())
            .map_or_else(|_| signal.to_string(), |signal| signal.to_string()),
        Exit::OutOfMemory => String::new(),
    };
    set.all().map(word).collect()
}

pub(super) fn expect(words: &[String]) -> Result<Expect, &String> {
    let one = |word: &String| {
        if let Some(digit) = word.strip_suffix("xx") {
            let class = digit.parse().ok().filter(|class| (1..=9).contains(class));
            return class.map(Statuses::Class);
        }
        word.parse().ok().filter(|one| *one > 0).map(Statuses::One)
    };
    let read = |word| one(word).ok_or(word);
    words.iter().map(read).collect::<Result<_, _>>().map(Expect)
}

pub(super) fn expect_words(expect: &Expect) -> Vec<String> {
    let word = |statuses: &Statuses| match statuses {
        Statuses::One(one) => one.to_string(),
        Statuses::Class(class) => format!("{class}xx"),
    };
    expect.0.iter().map(word).collect()
}

pub(super) fn follow(text: &str) -> Option<Follow> {
    match text {
        "nothing" => Some(Follow::Nothing),
        "shutdown" => Some(Follow::Shutdown),
        "reboot" => Some(Follow::Reboot),
        "shell" => Some(Follow::Shell),
        other => {
            let name = other.strip_prefix("start:")?;
            super::rules::is_name(name).then(|| Follow::Start(name.into()))
        }
    }
}

pub(super) fn follow_word(follow: &Follow) -> String {
    match follow {
        Follow::Nothing => "nothing".to_owned(),
        Follow::Shutdown => "shutdown".to_owned(),
        Follow::Reboot => "reboot".to_owned(),
        Follow::Shell => "shell".to_owned(),
        Follow::Start(name) => format!("start:{name}"),
    }
}

/// What `forward` of a service file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A datagram socket that takes syslog lines.
    Unix(PathBuf),
    /// An address that takes syslog datagrams.
    Udp(SocketAddr),
    /// The kernel's log.
    Kmsg,
    /// The console.
    Console,
    /// The server's standard output.
    Stdout,
}

impl Destination {
    /// Reads `syslog`, `unix:PATH`, `udp:ADDRESS:PORT`, `kmsg`, `console` or `stdout`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "syslog" => Some(Self::Unix("/dev/log".into())),
            "kmsg" => Some(Self::Kmsg),
            "console" => Some(Self::Console),
            "stdout" => Some(Self::Stdout),
            other => match other.split_once(':')? {
                ("unix", path) if path.starts_with('/') => Some(Self::Unix(path.into())),
                ("udp", address) => address.parse().ok().map(Self::Udp),
                _ => None,
            },
        }
    }
}

impl ReadinessSection {
    /// What makes the service ready; its `type` if nobody knows that.
    pub(super) fn readiness(&self, oneshot: bool, health: bool) -> Result<Readiness, &str> {
        let kind = match &self.kind {
            None if oneshot => return Ok(Readiness::Exit),
            None if health => return Ok(Readiness::Health),
            None => return Ok(Readiness::Spawn),
            Some(kind) => kind,
        };
        Ok(match kind.as_str() {
            "spawn" => Readiness::Spawn,
            "exit" => Readiness::Exit,
            "health" => Readiness::Health,
            "notify" => Readiness::Notify,
            "fd" => Readiness::Fd(self.fd.unwrap_or(3)),
            "log" => Readiness::Log(self.text.clone().unwrap_or_default()),
            unknown => return Err(unknown),
        })
    }

    pub(super) fn of(readiness: &Readiness, watchdog: Option<Duration>) -> Self {
        let (kind, fd, text) = match readiness {
            Readiness::Spawn => ("spawn", None, None),
            Readiness::Exit => ("exit", None, None),
            Readiness::Health => ("health", None, None),
            Readiness::Notify => ("notify", None, None),
            Readiness::Fd(fd) => ("fd", Some(*fd), None),
            Readiness::Log(text) => ("log", None, Some(text.clone())),
        };
        Self {
            kind: Some(kind.to_owned()),
            fd,
            text,
            watchdog_ms: watchdog.map_or(0, super::file::milliseconds),
        }
    }
}

impl From<HooksSection> for Hooks {
    fn from(section: HooksSection) -> Self {
        let hook = |exec: Option<Exec>, ms| {
            let timeout = Duration::from_millis(ms);
            exec.map(|exec| HookSpec { exec, timeout })
        };
        Self {
            pre_start: hook(section.pre_start, section.pre_start_timeout_ms),
            post_start: hook(section.post_start, section.post_start_timeout_ms),
            stop: hook(section.stop, section.stop_timeout_ms),
            post_stop: hook(section.post_stop, section.post_stop_timeout_ms),
            reload: hook(section.reload, section.reload_timeout_ms),
        }
    }
}

impl From<&Hooks> for HooksSection {
    fn from(hooks: &Hooks) -> Self {
        let exec = |hook: &Option<HookSpec>| hook.as_ref().map(|hook| hook.exec.clone());
        let ms = |hook: &Option<HookSpec>| {
            let timeout = hook.as_ref().map(|hook| hook.timeout);
            timeout.map_or(HOOK_TIMEOUT_MS, super::file::milliseconds)
        };
        Self {
            pre_start: exec(&hooks.pre_start),
            pre_start_timeout_ms: ms(&hooks.pre_start),
            post_start: exec(&hooks.post_start),
            post_start_timeout_ms: ms(&hooks.post_start),
            stop: exec(&hooks.stop),
            stop_timeout_ms: ms(&hooks.stop),
            post_stop: exec(&hooks.post_stop),
            post_stop_timeout_ms: ms(&hooks.post_stop),
            reload: exec(&hooks.reload),
            reload_timeout_ms: ms(&hooks.reload),
        }
    }
}

impl ResourcesSection {
    pub(super) fn resources(&self) -> Resources {
        let read = |value: &Option<Loose>, read: fn(&str) -> Option<u64>| {
            value.as_ref().and_then(|Loose(text)| read(text))
        };
        Resources {
            memory_max: read(&self.memory_max, size),
            memory_high: read(&self.memory_high, size),
            pids_max: read(&self.pids_max, count),
            cpu_weight: read(&self.cpu_weight, weight),
            cpu_max: read(&self.cpu_max, percent),
            io_weight: read(&self.io_weight, weight),
        }
    }
}

impl From<&Resources> for ResourcesSection {
    fn from(resources: &Resources) -> Self {
        let text = |value: Option<u64>| value.map(|value| Loose(value.to_string()));
        Self {
            memory_max: text(resources.memory_max),
            memory_high: text(resources.memory_high),
            pids_max: text(resources.pids_max),
            cpu_weight: text(resources.cpu_weight),
            cpu_max: resources.cpu_max.map(|value| Loose(format!("{value}%"))),
            io_weight: text(resources.io_weight),
        }
    }
}

impl SocketSection {
    pub(super) fn sockets(self) -> Sockets {
        let address = |text: &String| Address::parse(text).ok();
        Sockets {
            listen: self.listen.0.iter().filter_map(address).collect(),
            names: self.names.0,
            mode: self.mode.and_then(|text| umask(&text)),
            activation: self.activation,
        }
    }
}

impl From<&Sockets> for SocketSection {
    fn from(sockets: &Sockets) -> Self {
        Self {
            listen: List(sockets.listen.iter().map(ToString::to_string).collect()),
            names: List(sockets.names.clone()),
            mode: sockets.mode.map(|mode| format!("{mode:04o}")),
            activation: sockets.activation,
        }
    }
}

impl LimitsSection {
    pub(super) fn limits(&self) -> Vec<Limit> {
        let all = Rlimit::ALL.iter();
        all.filter_map(|(_, name)| limit(name, &self.0.get(*name)?.as_ref()?.0).flatten())
            .collect()
    }

    pub(super) fn of(limits: &[Limit]) -> Self {
        let of = |what| limits.iter().find(|limit| limit.what == what);
        let text = |what| of(what).map(|limit| Loose(limit.to_string()));
        let all = Rlimit::ALL.iter();
        Self(
            all.map(|(what, name)| ((*name).to_owned(), text(*what)))
                .collect(),
        )
    }
}

/// The keys of `[service]` that say who it runs as.
pub(super) fn identity(service: &ServiceSection) -> Identity {
    let text = |value: &Option<Loose>| value.as_ref().map(|Loose(text)| text.clone());
    Identity {
        user: text(&service.user),
        group: text(&service.group),
        groups: service.groups.0.clone(),
        umask: service.umask.as_deref().and_then(umask),
        nice: service.nice,
        ionice: service.ionice.as_deref().and_then(IoPriority::parse),
        oom_score_adj: service.oom_score_adj,
        no_new_privs: service.no_new_privs,
        capabilities: service
            .capabilities
            .as_ref()
            .and_then(|List(names)| capabilities(names).ok()),
        chroot: service.chroot.as_ref().map(Into::into),
    }
}
