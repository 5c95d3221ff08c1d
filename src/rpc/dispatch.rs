//! A request against what is: answered at once, or turned into what the reactor has to do.

use std::time::Duration;

use serde_json::{Value, json};

use super::text;
use super::view::{self, Aside, Note, Said, look};
use super::wire::{Code, Refusal, Request};
use crate::engine::{
    Command, Goal, Service, ServiceId, Signal, Supervisor, Table, Time, UnknownSignal,
};

/// What a reading request may look at.
pub struct Scene<'a> {
    /// The services.
    pub all: &'a Supervisor,
    /// The time.
    pub now: Time,
    /// What processes outside hold services back, as last seen.
    pub obstacles: &'a Table<String>,
    /// What the last probes brought.
    pub notes: &'a Table<Note>,
    /// What services say of themselves.
    pub said: &'a Table<Said>,
}

/// What is to be done for a request.
#[derive(Debug)]
pub enum Todo {
    /// Answer.
    Answer(Value),
    /// Hand a command to the engine, and answer with what comes of it.
    Command {
        /// The command.
        command: Command,
        /// How long the answer may take; none: answer at once.
        wait: Option<Option<Duration>>,
        /// How the outcome is told.
        form: Form,
    },
    /// Something the machine must be asked for.
    Ask(Ask),
}

/// How the outcome of a command is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// `{"ok": true}`, with the state where it was waited for; an error otherwise.
    Ok {
        /// Whose state.
        service: ServiceId,
        /// Its name, for when it is gone.
        name: String,
        /// Whether it was waited for.
        state: bool,
    },
    /// The names of a bulk command under this member.
    Bulk(&'static str),
    /// What a reload changed, and what is wrong with files.
    Reload {
        /// Files that could not be used.
        errors: Vec<String>,
        /// What is odd in files that could.
        warnings: Vec<String>,
    },
}

/// What only the machine, or the configuration, can answer.
#[derive(Debug)]
pub enum Ask {
    /// `service.get`.
    Get(ServiceId),
    /// `service.set`.
    Set(Value),
    /// `service.delete`: a command that deletes files too.
    Delete(ServiceId, Option<Duration>),
    /// `service.delete_all`.
    DeleteAll(Option<Option<Duration>>),
    /// `service.reload`.
    Reload,
    /// `service.stats`.
    Stats(ServiceId),
    /// `service.children`.
    Children(ServiceId),
    /// `service.why`.
    Why(ServiceId),
    /// `logs.*`.
    Logs(LogQuery),
    /// `logs.follow` and `events.follow`.
    Follow(FollowQuery),
    /// `debug.state`.
    DebugState,
    /// `debug.process_tree`.
    ProcessTree(ServiceId),
    /// `system.*`.
    System(SystemVerb),
}

/// What `system.*` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SystemVerb {
    /// End the server.
    Shutdown {
        /// With this exit status.
        code: u8,
    },
    /// Switch the machine off.
    Poweroff,
    /// Restart the machine.
    Reboot,
    /// Halt the machine.
    Halt,
    /// Start the kernel that was loaded.
    Kexec,
    /// Hand over from an initramfs.
    SwitchRoot {
        /// The mounted new root.
        root: String,
        /// What is to be PID 1 there.
        init: String,
    },
}

impl SystemVerb {
    /// As its method is called.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Shutdown { .. } => "Shutdown",
            Self::Poweroff => "Poweroff",
            Self::Reboot => "Reboot",
            Self::Halt => "Halt",
            Self::Kexec => "Kexec",
            Self::SwitchRoot { .. } => "Switching the root is",
        }
    }
}

/// Which lines of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogQuery {
    /// Of these services, or of all.
    pub services: Option<Vec<ServiceId>>,
    /// So many, the last ones.
    pub lines: usize,
    /// `stdout` or `stderr` only.
    pub stream: Option<String>,
    /// Not older than this, in Unix milliseconds.
    pub since_ms: u64,
    /// As what.
    pub shape: LogShape,
}

/// What a connection is to be told of from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowQuery {
    /// What.
    pub of: Stream,
    /// Of these services, or of all; those of them that exist.
    pub names: Option<Vec<String>>,
    /// Those of them that exist.
    pub services: Option<Vec<ServiceId>>,
    /// So many lines of the past first.
    pub lines: usize,
    /// `stdout`, `stderr` or `syslog` only.
    pub stream: Option<String>,
    /// Lines of the past not older than this, in Unix milliseconds.
    pub since_ms: u64,
}

/// What can be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Lines of output.
    Logs,
    /// Changes of state and health.
    Events,
}

/// As what lines are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogShape {
    /// `<timestamp_ms> [<stream>] <content>`.
    Text,
    /// Objects.
    Object,
}

/// Decides what is to be done for `request`.
///
/// # Errors
/// A refusal, if the request can't be understood or names what is not there.
pub fn dispatch(request: &Request, scene: &Scene<'_>) -> Result<Todo, Refusal> {
    let p = Params(&request.params);
    let all = scene.all;
    Ok(match request.method.as_str() {
        "rpc.discover" => Todo::Answer(super::discover()),
        "system.ping" => Todo::Answer(json!({"version": env!("CARGO_PKG_VERSION")})),
        "system.shutdown" => Todo::Ask(Ask::System(SystemVerb::Shutdown { code: p.code()? })),
        "system.poweroff" => Todo::Ask(Ask::System(SystemVerb::Poweroff)),
        "system.reboot" => Todo::Ask(Ask::System(SystemVerb::Reboot)),
        "system.halt" => Todo::Ask(Ask::System(SystemVerb::Halt)),
        "system.kexec" => Todo::Ask(Ask::System(SystemVerb::Kexec)),
        "system.switch_root" => Todo::Ask(Ask::System(SystemVerb::SwitchRoot {
            root: p.name("root")?.to_owned(),
            init: p.name("init").unwrap_or("/sbin/init").to_owned(),
        })),
        "system.prepare_restart" => {
            return Err(Refusal::new(
                Code::Internal,
                "system.prepare_restart is not there yet",
            ));
        }
        "service.list" => Todo::Answer(
            all.services()
                .map(|(_, service)| json!(service.spec().name))
                .collect(),
        ),
        "service.list_full" => Todo::Answer(list_full(all)),
        "service.status" => {
            let (id, service) = p.readable(all)?;
            let aside = Aside {
                obstacle: scene.obstacles.get(id).map(String::as_str),
                note: scene.notes.get(id),
                said: scene.said.get(id),
            };
            Todo::Answer(view::status(all, id, service, aside, scene.now))
        }
        "service.status_full" => {
            let (id, service) = p.readable(all)?;
            Todo::Answer(view::status_full(all, id, service, scene.now))
        }
        "service.is_running" => {
            let found = all
                .find(p.name("name")?)
                .and_then(|id| Some((id, all.service(id)?)));
            Todo::Answer(json!(found.is_some_and(
                |(id, service)| look(all, id, service).word == view::Word::Running
            )))
        }
        "service.tree" => Todo::Answer(json!({"ascii": text::tree(all)})),
        "service.get" => Todo::Ask(Ask::Get(p.readable(all)?.0)),
        "service.stats" => Todo::Ask(Ask::Stats(p.readable(all)?.0)),
        "service.children" => Todo::Ask(Ask::Children(p.readable(all)?.0)),
        "service.why" => Todo::Ask(Ask::Why(p.readable(all)?.0)),
        "debug.state" => Todo::Ask(Ask::DebugState),
        "debug.process_tree" => Todo::Ask(Ask::ProcessTree(p.readable(all)?.0)),
        "service.set" => Todo::Ask(Ask::Set(request.params.clone())),
        "service.reload" if p.0.get("name").is_some() => {
            let service = p.mutable(all)?;
            let wait = Some(p.timeout()?);
            one(all, service, Command::Refresh { service }, wait)
        }
        "service.reload" => Todo::Ask(Ask::Reload),
        "service.delete" | "service.remove" => {
            Todo::Ask(Ask::Delete(p.mutable(all)?, p.timeout()?))
        }
        "service.delete_all" => Todo::Ask(Ask::DeleteAll(p.wait()?)),
        "service.start_all" => bulk(Command::StartAll, "started", &p)?,
        "service.stop_all" => bulk(Command::StopAll, "stopped", &p)?,
        "service.start" => {
            let service = p.mutable(all)?;
            let deps = p.flag("deps")?.unwrap_or(true);
            one(all, service, Command::Start { service, deps }, p.wait()?)
        }
        "service.stop" => {
            let service = p.mutable(all)?;
            one(all, service, Command::Stop { service }, p.wait()?)
        }
        "service.restart" => {
            let service = p.mutable(all)?;
            one(all, service, Command::Restart { service }, p.wait()?)
        }
        "service.kill" => {
            let service = p.mutable(all)?;
            let signal = match p.0.get("signal") {
                Some(Value::String(signal)) => signal.clone(),
                Some(Value::Number(number)) => number.to_string(),
                _ => "SIGTERM".to_owned(),
            };
            let signal = signal.as_str();
            let signal = Signal::parse(signal)
                .map_err(|error| not_sent(p.name("name").unwrap_or(""), signal, error))?;
            one(all, service, Command::Signal { service, signal }, None)
        }
        "service.wait" => {
            let (service, _) = p.readable(all)?;
            let goal = p.goal()?;
            one(
                all,
                service,
                Command::Wait { service, goal },
                Some(p.timeout()?),
            )
        }
        "logs.get" => Todo::Ask(Ask::Logs(LogQuery {
            services: if p.0.get("name").is_some_and(Value::is_string) {
                Some(vec![p.readable(all)?.0])
            } else {
                None
            },
            lines: p.lines(100),
            stream: None,
            since_ms: 0,
            shape: LogShape::Text,
        })),
        "logs.tail" => {
            let services = match p.names()? {
                Some(names) if names.is_empty() => None,
                Some(names) => Some(known(all, &names)?),
                None => Some(vec![p.readable(all)?.0]),
            };
            Todo::Ask(Ask::Logs(p.log_query(services, 100, LogShape::Object)?))
        }
        "logs.follow" => Todo::Ask(Ask::Follow(p.follow_query(all, Stream::Logs)?)),
        "events.follow" => Todo::Ask(Ask::Follow(p.follow_query(all, Stream::Events)?)),
        "logs.filter" => {
            let key = if p.0.get("service").is_some() {
                "service"
            } else {
                "name"
            };
            let name = p
                .name(key)
                .map_err(|_| Refusal::new(Code::InvalidParams, "missing 'service' parameter"))?;
            let id = all.find(name).ok_or_else(not_found)?;
            let services = Some(vec![id]);
            Todo::Ask(Ask::Logs(p.log_query(
                services,
                usize::MAX,
                LogShape::Text,
            )?))
        }
        _ => return Err(Refusal::new(Code::MethodNotFound, "unknown method")),
    })
}

fn list_full(all: &Supervisor) -> Value {
    let one = |(id, service): (ServiceId, &Service)| {
        let spec = service.spec();
        let mut object = json!({"name": spec.name, "state": view::state(all, id, service), "is_target": spec.is_target()});
        if let Some(word) = view::health_word(service) {
            object["health"] = json!(word);
        }
        object
    };
    all.services().map(one).collect()
}

fn one(
    all: &Supervisor,
    service: ServiceId,
    command: Command,
    wait: Option<Option<Duration>>,
) -> Todo {
    let name = all
        .service(service)
        .map(|service| service.spec().name.to_string())
        .unwrap_or_default();
    Todo::Command {
        command,
        wait,
        form: Form::Ok {
            service,
            name,
            state: wait.is_some(),
        },
    }
}

fn bulk(command: Command, member: &'static str, p: &Params<'_>) -> Result<Todo, Refusal> {
    Ok(Todo::Command {
        command,
        wait: p.wait()?,
        form: Form::Bulk(member),
    })
}

fn not_found() -> Refusal {
    Refusal::new(Code::ServiceNotFound, "service not found")
}

/// Services by name; each has to exist.
fn known(all: &Supervisor, names: &[String]) -> Result<Vec<ServiceId>, Refusal> {
    let one = |name: &String| {
        let text = format!("service not found: {name}");
        let unknown = || Refusal::new(Code::ServiceNotFound, text);
        all.find(name).ok_or_else(unknown)
    };
    names.iter().map(one).collect()
}

fn not_sent(service: &str, signal: &str, error: UnknownSignal) -> Refusal {
    let why = match error {
        UnknownSignal::Name => "unknown signal",
        UnknownSignal::Number => "invalid signal number",
    };
    Refusal::new(
        Code::Internal,
        format!("signal error for service '{service}' (signal {signal}): {why}"),
    )
}

/// Parameters, read by name; anything but an object has none.
struct Params<'a>(&'a Value);

impl<'a> Params<'a> {
    fn name(&self, key: &str) -> Result<&'a str, Refusal> {
        let missing = || Refusal::new(Code::InvalidParams, format!("missing '{key}' parameter"));
        self.0.get(key).and_then(Value::as_str).ok_or_else(missing)
    }

    /// The exit status of the server, 0 if absent.
    fn code(&self) -> Result<u8, Refusal> {
        let Some(value) = self.0.get("code").filter(|value| !value.is_null()) else {
            return Ok(0);
        };
        let code = value.as_u64().and_then(|code| u8::try_from(code).ok());
        code.ok_or_else(|| Refusal::new(Code::InvalidParams, "'code' must be 0 to 255"))
    }

    /// The service, for a reading request.
    fn readable<'b>(&self, all: &'b Supervisor) -> Result<(ServiceId, &'b Service), Refusal> {
        let id = all.find(self.name("name")?).ok_or_else(not_found)?;
        Ok((id, all.service(id).ok_or_else(not_found)?))
    }

    /// The service, for a changing request: the old server told an unknown one differently here.
    fn mutable(&self, all: &Supervisor) -> Result<ServiceId, Refusal> {
        let name = self.name("name")?;
        all.find(name)
            .ok_or_else(|| Refusal::new(Code::Internal, format!("service not found: {name}")))
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, Refusal> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(Refusal::new(
                Code::InvalidParams,
                format!("'{key}' must be true or false"),
            )),
        }
    }

    fn timeout(&self) -> Result<Option<Duration>, Refusal> {
        match self.0.get("timeout_ms") {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value
                .as_u64()
                .map(|ms| Some(Duration::from_millis(ms)))
                .ok_or_else(|| {
                    Refusal::new(
                        Code::InvalidParams,
                        "'timeout_ms' must be a whole number of milliseconds",
                    )
                }),
        }
    }

    /// How long the answer may take: not at all unless asked to wait.
    fn wait(&self) -> Result<Option<Option<Duration>>, Refusal> {
        let timeout = self.timeout()?;
        Ok(self.flag("wait")?.unwrap_or(false).then_some(timeout))
    }

    fn goal(&self) -> Result<Goal, Refusal> {
        match self.name("for")? {
            "running" => Ok(Goal::Running),
            "stopped" => Ok(Goal::Stopped),
            "exited" => Ok(Goal::Exited),
            _ => Err(Refusal::new(
                Code::InvalidParams,
                "'for' must be running, stopped or exited",
            )),
        }
    }

    fn lines(&self, default: usize) -> usize {
        let lines = self.0.get("lines").and_then(Value::as_u64);
        lines.map_or(default, |lines| {
            usize::try_from(lines).unwrap_or(usize::MAX)
        })
    }

    /// The names in `names`, if it is there.
    fn names(&self) -> Result<Option<Vec<String>>, Refusal> {
        let wrong = || Refusal::new(Code::InvalidParams, "'names' must be an array of strings");
        let Some(value) = self.0.get("names").filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        let text = |name: &Value| name.as_str().map(str::to_owned);
        let names = value.as_array().ok_or_else(wrong)?.iter().map(text);
        names.collect::<Option<_>>().map(Some).ok_or_else(wrong)
    }

    fn follow_query(&self, all: &Supervisor, of: Stream) -> Result<FollowQuery, Refusal> {
        let names = self.names()?.filter(|names| !names.is_empty());
        let services = match &names {
            Some(names) => Some(known(all, names)?),
            None => None,
        };
        let query = self.log_query(services, 0, LogShape::Object)?;
        Ok(FollowQuery {
            of,
            names,
            services: query.services,
            lines: query.lines,
            stream: query.stream,
            since_ms: query.since_ms,
        })
    }

    fn log_query(
        &self,
        services: Option<Vec<ServiceId>>,
        lines: usize,
        shape: LogShape,
    ) -> Result<LogQuery, Refusal> {
        let stream = match self.0.get("stream") {
            None | Some(Value::Null) => None,
            Some(Value::String(stream))
                if matches!(stream.as_str(), "stdout" | "stderr" | "syslog") =>
            {
                Some(stream.clone())
            }
            Some(_) => {
                return Err(Refusal::new(
                    Code::InvalidParams,
                    "'stream' must be stdout, stderr or syslog",
                ));
            }
        };
        let since_ms = self.0.get("since").and_then(Value::as_u64).unwrap_or(0);
        Ok(LogQuery {
            services,
            lines: self.lines(lines),
            stream,
            since_ms,
            shape,
        })
    }
}
