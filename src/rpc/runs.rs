//! What is to be done for each method.

use std::time::Duration;

use serde_json::Value;

use super::dispatch::{
    Ask, Bulk, FollowQuery, Form, LogQuery, LogShape, Scene, Stream, SystemVerb, Todo, Xinet,
};
use super::view::{self, Aside, look};
use super::wire::{Code, Refusal};
use super::{discover as document, text};
use crate::api::{self, LogStream, Request, Wrong, to_value};
use crate::engine::{Command, Goal, Service, ServiceId, Signal, Supervisor, UnknownSignal};

type Run = Result<Todo, Refusal>;

/// Lines of output that are told if nobody says how many.
const LINES: usize = 100;

impl From<Wrong> for Refusal {
    fn from(Wrong(text): Wrong) -> Self {
        Self::new(Code::InvalidParams, text)
    }
}

fn answer(reply: &impl serde::Serialize) -> Run {
    Ok(Todo::Answer(to_value(reply)))
}

// Looking.

pub(super) fn ping(_: &Value, _: &Scene<'_>) -> Run {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    answer(&api::Pong { version })
}

pub(super) fn discover(_: &Value, _: &Scene<'_>) -> Run {
    Ok(Todo::Answer(document::discover()))
}

pub(super) fn list(_: &Value, scene: &Scene<'_>) -> Run {
    let names = scene
        .all
        .services()
        .map(|(_, service)| service.spec().name.to_string());
    answer(&names.collect::<Vec<_>>())
}

pub(super) fn list_full(_: &Value, scene: &Scene<'_>) -> Run {
    let one = |(id, service): (ServiceId, &Service)| api::ServiceInfo {
        name: service.spec().name.to_string(),
        state: view::state(scene.all, id, service),
        is_target: service.spec().is_target(),
        health: view::health_word(service),
    };
    answer(&scene.all.services().map(one).collect::<Vec<_>>())
}

pub(super) fn status(params: &Value, scene: &Scene<'_>) -> Run {
    let api::ServiceStatus { name } = Request::read(params)?;
    let (id, service) = known(scene.all, &name)?;
    let aside = Aside {
        obstacle: scene.obstacles.get(id).map(String::as_str),
        note: scene.notes.get(id),
        said: scene.said.get(id),
        is_ephemeral: scene.ephemeral.contains_key(&*name),
    };
    answer(&view::status(scene.all, id, service, aside, scene.now))
}

pub(super) fn status_full(params: &Value, scene: &Scene<'_>) -> Run {
    let api::ServiceStatusFull { name } = Request::read(params)?;
    let (id, service) = known(scene.all, &name)?;
    answer(&view::status_full(scene.all, id, service, scene.now))
}

pub(super) fn is_running(params: &Value, scene: &Scene<'_>) -> Run {
    let api::ServiceIsRunning { name } = Request::read(params)?;
    let is_up = |(id, service)| look(scene.all, id, service).word == api::Word::Running;
    answer(&known(scene.all, &name).is_ok_and(is_up))
}

pub(super) fn tree(_: &Value, scene: &Scene<'_>) -> Run {
    let ascii = text::tree(scene.all);
    answer(&api::Drawing { ascii })
}

pub(super) fn get(params: &Value, scene: &Scene<'_>) -> Run {
    named(params, scene).map(|id| Todo::Ask(Ask::Get(id)))
}

pub(super) fn stats(params: &Value, scene: &Scene<'_>) -> Run {
    named(params, scene).map(|id| Todo::Ask(Ask::Stats(id)))
}

pub(super) fn children(params: &Value, scene: &Scene<'_>) -> Run {
    named(params, scene).map(|id| Todo::Ask(Ask::Children(id)))
}

pub(super) fn why(params: &Value, scene: &Scene<'_>) -> Run {
    named(params, scene).map(|id| Todo::Ask(Ask::Why(id)))
}

pub(super) fn process_tree(params: &Value, scene: &Scene<'_>) -> Run {
    named(params, scene).map(|id| Todo::Ask(Ask::ProcessTree(id)))
}

pub(super) fn debug_record(_: &Value, _: &Scene<'_>) -> Run {
    Ok(Todo::Ask(Ask::DebugRecord))
}

pub(super) fn debug_state(_: &Value, _: &Scene<'_>) -> Run {
    Ok(Todo::Ask(Ask::DebugState))
}

// Changing.

pub(super) fn start(params: &Value, scene: &Scene<'_>) -> Run {
    let request = api::ServiceStart::read(params)?;
    let service = changed(scene.all, &request.name)?;
    let deps = request.deps.unwrap_or(true);
    let command = Command::Start { service, deps };
    Ok(one(
        service,
        request.name,
        command,
        wait_of(request.wait, request.timeout_ms),
    ))
}

pub(super) fn stop(params: &Value, scene: &Scene<'_>) -> Run {
    let request = api::ServiceStop::read(params)?;
    let service = changed(scene.all, &request.name)?;
    let command = Command::Stop { service };
    Ok(one(
        service,
        request.name,
        command,
        wait_of(request.wait, request.timeout_ms),
    ))
}

pub(super) fn restart(params: &Value, scene: &Scene<'_>) -> Run {
    let request = api::ServiceRestart::read(params)?;
    let service = changed(scene.all, &request.name)?;
    let command = Command::Restart { service };
    Ok(one(
        service,
        request.name,
        command,
        wait_of(request.wait, request.timeout_ms),
    ))
}

pub(super) fn kill(params: &Value, scene: &Scene<'_>) -> Run {
    let request = api::ServiceKill::read(params)?;
    let service = changed(scene.all, &request.name)?;
    let found = scene.all.service(service);
    if found.is_none_or(|found| found.state().pid().is_none()) {
        let text = format!("service not running: {}", request.name);
        return Err(Refusal::new(Code::Internal, text));
    }
    let number = || {
        params
            .get("signal")
            .filter(|signal| signal.is_number())
            .map(Value::to_string)
    };
    let text = request
        .signal
        .or_else(number)
        .unwrap_or_else(|| "SIGTERM".to_owned());
    let signal = Signal::parse(&text).map_err(|error| not_sent(&request.name, &text, error))?;
    Ok(one(
        service,
        request.name,
        Command::Signal { service, signal },
        None,
    ))
}

pub(super) fn wait(params: &Value, scene: &Scene<'_>) -> Run {
    let request = api::ServiceWait::read(params)?;
    let (service, _) = known(scene.all, &request.name)?;
    let goal = match request.r#for {
        api::Goal::Running => Goal::Running,
        api::Goal::Stopped => Goal::Stopped,
        api::Goal::Exited => Goal::Exited,
    };
    let command = Command::Wait { service, goal };
    Ok(one(
        service,
        request.name,
        command,
        Some(time(request.timeout_ms)),
    ))
}

pub(super) fn reload(params: &Value, scene: &Scene<'_>) -> Run {
    if params.get("name").is_none() {
        return Ok(Todo::Ask(Ask::Reload));
    }
    let request = api::ServiceReload::read(params)?;
    let name = request.name.ok_or_else(|| Wrong::missing("name"))?;
    let service = changed(scene.all, &name)?;
    Ok(one(
        service,
        name,
        Command::Refresh { service },
        Some(time(request.timeout_ms)),
    ))
}

pub(super) fn set(params: &Value, _: &Scene<'_>) -> Run {
    Ok(Todo::Ask(Ask::Set(params.clone())))
}

pub(super) fn delete(params: &Value, scene: &Scene<'_>) -> Run {
    let request = api::ServiceDelete::read(params)?;
    let service = changed(scene.all, &request.name)?;
    Ok(Todo::Ask(Ask::Delete(service, time(request.timeout_ms))))
}

pub(super) fn delete_all(params: &Value, _: &Scene<'_>) -> Run {
    let request = api::ServiceDeleteAll::read(params)?;
    let wait = wait_of(request.wait, request.timeout_ms);
    Ok(Todo::Ask(Ask::DeleteAll(wait)))
}

pub(super) fn start_all(params: &Value, _: &Scene<'_>) -> Run {
    let request = api::ServiceStartAll::read(params)?;
    let wait = wait_of(request.wait, request.timeout_ms);
    Ok(bulk(Command::StartAll, Bulk::Started, wait))
}

pub(super) fn stop_all(params: &Value, _: &Scene<'_>) -> Run {
    let request = api::ServiceStopAll::read(params)?;
    let wait = wait_of(request.wait, request.timeout_ms);
    Ok(bulk(Command::StopAll, Bulk::Stopped, wait))
}

// Output and events.

pub(super) fn logs_get(params: &Value, scene: &Scene<'_>) -> Run {
    let request = api::LogsGet::read(params)?;
    let services = match request.name {
        Some(name) => Some(vec![known(scene.all, &name)?.0]),
        None => None,
    };
    logs(
        services,
        count(request.lines, LINES),
        None,
        None,
        LogShape::Text,
    )
}

pub(super) fn logs_tail(params: &Value, scene: &Scene<'_>) -> Run {
    let request = api::LogsTail::read(params)?;
    let services = match (request.names, request.name) {
        (Some(names), _) if names.is_empty() => None,
        (Some(names), _) => Some(each(scene.all, &names)?),
        (None, Some(name)) => Some(vec![known(scene.all, &name)?.0]),
        (None, None) => return Err(Wrong::missing("name").into()),
    };
    let lines = count(request.lines, LINES);
    logs(
        services,
        lines,
        request.stream,
        request.since,
        LogShape::Object,
    )
}

pub(super) fn logs_filter(params: &Value, scene: &Scene<'_>) -> Run {
    let mut params = params.clone();
    if let (None, Some(name)) = (params.get("service"), params.get("name").cloned()) {
        params["service"] = name;
    }
    let request = api::LogsFilter::read(&params)?;
    let services = Some(vec![known(scene.all, &request.service)?.0]);
    let lines = count(request.lines, usize::MAX);
    logs(
        services,
        lines,
        request.stream,
        request.since,
        LogShape::Text,
    )
}

fn logs(
    services: Option<Vec<ServiceId>>,
    lines: usize,
    stream: Option<LogStream>,
    since: Option<u64>,
    shape: LogShape,
) -> Run {
    Ok(Todo::Ask(Ask::Logs(LogQuery {
        services,
        lines,
        stream,
        since_ms: since.unwrap_or(0),
        shape,
    })))
}

fn count(lines: Option<u64>, default: usize) -> usize {
    lines.map_or(default, |lines| {
        usize::try_from(lines).unwrap_or(usize::MAX)
    })
}

pub(super) fn follow_logs(params: &Value, scene: &Scene<'_>) -> Run {
    let request = api::LogsFollow::read(params)?;
    let mut query = follow(scene.all, Stream::Logs, request.names)?;
    query.lines = count(request.lines, 0);
    query.stream = request.stream;
    query.since_ms = request.since.unwrap_or(0);
    Ok(Todo::Ask(Ask::Follow(query)))
}

pub(super) fn follow_events(params: &Value, scene: &Scene<'_>) -> Run {
    let request = api::EventsFollow::read(params)?;
    let query = follow(scene.all, Stream::Events, request.names)?;
    Ok(Todo::Ask(Ask::Follow(query)))
}

fn follow(
    all: &Supervisor,
    of: Stream,
    names: Option<Vec<String>>,
) -> Result<FollowQuery, Refusal> {
    let names = names.filter(|names| !names.is_empty());
    let services = names.as_deref().map(|names| each(all, names)).transpose()?;
    Ok(FollowQuery {
        of,
        names,
        services,
        lines: 0,
        stream: None,
        since_ms: 0,
    })
}

// The server.

pub(super) fn shutdown(params: &Value, _: &Scene<'_>) -> Run {
    let api::SystemShutdown { code } = Request::read(params)?;
    system(SystemVerb::Shutdown {
        code: code.unwrap_or(0),
    })
}

pub(super) fn poweroff(_: &Value, _: &Scene<'_>) -> Run {
    system(SystemVerb::Poweroff)
}

pub(super) fn reboot(_: &Value, _: &Scene<'_>) -> Run {
    system(SystemVerb::Reboot)
}

pub(super) fn halt(_: &Value, _: &Scene<'_>) -> Run {
    system(SystemVerb::Halt)
}

pub(super) fn kexec(_: &Value, _: &Scene<'_>) -> Run {
    system(SystemVerb::Kexec)
}

pub(super) fn switch_root(params: &Value, _: &Scene<'_>) -> Run {
    let api::SystemSwitchRoot { root, init } = Request::read(params)?;
    let init = init.unwrap_or_else(|| "/sbin/init".to_owned());
    system(SystemVerb::SwitchRoot { root, init })
}

pub(super) fn prepare_restart(_: &Value, _: &Scene<'_>) -> Run {
    let text = "system.prepare_restart is not there yet";
    Err(Refusal::new(Code::Internal, text))
}

// Proxies.

pub(super) fn xinet_set(params: &Value, _: &Scene<'_>) -> Run {
    Ok(Todo::Ask(Ask::Xinet(Xinet::Set(params.clone()))))
}

pub(super) fn xinet_delete(params: &Value, _: &Scene<'_>) -> Run {
    let api::XinetDelete { name } = Request::read(params)?;
    Ok(Todo::Ask(Ask::Xinet(Xinet::Delete(name))))
}

pub(super) fn xinet_list(_: &Value, _: &Scene<'_>) -> Run {
    Ok(Todo::Ask(Ask::Xinet(Xinet::List)))
}

pub(super) fn xinet_status(params: &Value, _: &Scene<'_>) -> Run {
    let api::XinetStatus { name } = Request::read(params)?;
    Ok(Todo::Ask(Ask::Xinet(Xinet::Status(name))))
}

pub(super) fn xinet_status_all(_: &Value, _: &Scene<'_>) -> Run {
    Ok(Todo::Ask(Ask::Xinet(Xinet::StatusAll)))
}

fn system(verb: SystemVerb) -> Run {
    Ok(Todo::Ask(Ask::System(verb)))
}

// What they have in common.

/// The service of a request that has nothing but a name.
fn named(params: &Value, scene: &Scene<'_>) -> Result<ServiceId, Refusal> {
    let api::ServiceStatus { name } = Request::read(params)?;
    Ok(known(scene.all, &name)?.0)
}

/// The service, for a request that reads.
fn known<'a>(all: &'a Supervisor, name: &str) -> Result<(ServiceId, &'a Service), Refusal> {
    let found = all.find(name).and_then(|id| Some((id, all.service(id)?)));
    found.ok_or_else(|| Refusal::new(Code::ServiceNotFound, "service not found"))
}

/// The service, for a request that changes: zinit 0.3.9 told an unknown one differently here.
fn changed(all: &Supervisor, name: &str) -> Result<ServiceId, Refusal> {
    let unknown = || Refusal::new(Code::Internal, format!("service not found: {name}"));
    all.find(name).ok_or_else(unknown)
}

/// Services by name; each has to exist.
fn each(all: &Supervisor, names: &[String]) -> Result<Vec<ServiceId>, Refusal> {
    let one = |name: &String| {
        let text = format!("service not found: {name}");
        let unknown = || Refusal::new(Code::ServiceNotFound, text);
        all.find(name).ok_or_else(unknown)
    };
    names.iter().map(one).collect()
}

fn time(ms: Option<u64>) -> Option<Duration> {
    ms.map(Duration::from_millis)
}

/// How long the answer may take: not at all unless asked to wait.
fn wait_of(wait: Option<bool>, timeout_ms: Option<u64>) -> Option<Option<Duration>> {
    wait.unwrap_or(false).then_some(time(timeout_ms))
}

fn one(service: ServiceId, name: String, command: Command, wait: Option<Option<Duration>>) -> Todo {
    let state = wait.is_some();
    let form = Form::Ok {
        service,
        name,
        state,
    };
    Todo::Command {
        command,
        wait,
        form,
    }
}

fn bulk(command: Command, bulk: Bulk, wait: Option<Option<Duration>>) -> Todo {
    let form = Form::Bulk(bulk);
    Todo::Command {
        command,
        wait,
        form,
    }
}

fn not_sent(service: &str, signal: &str, error: UnknownSignal) -> Refusal {
    let why = match error {
        UnknownSignal::Name => "unknown signal",
        UnknownSignal::Number => "invalid signal number",
    };
    let text = format!("signal error for service '{service}' (signal {signal}): {why}");
    Refusal::new(Code::Internal, text)
}
