//! Requests that only the machine, or the configuration, can answer.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};

use super::clients::ClientId;
use super::role::Role;
use super::{PREDECESSOR_PATIENCE, Reactor, child, command};
use crate::api::{
    Added, CgroupStats, ChildInfo, Children, Granted, LogLine as Told, LogStream, Output, Pressure,
    Stats, to_value,
};
use crate::config::{self, SetError};
use crate::engine::spec::{Exec, Program};
use crate::engine::{Address, Command, Hold, ServiceId, Signal, Spec, State};
use crate::rpc::{Ask, Bulk, Code, Form, LogQuery, LogShape, Refusal};
use crate::rpc::{
    text,
    why::{self, FilterMatch, Outside},
};
use crate::sys::cgroup::Usage;
use crate::sys::ledger::Entry;
use crate::sys::output::{LogLine, Stream};
use crate::sys::{clock, kill, ports, procfs};

/// Lines of output one request may ask for.
const MOST_LINES: usize = 100_000;

/// Lines of all services together that one request may ask for.
const MOST_LINES_OF_ALL: usize = 1000;

type Answer = Result<Value, Refusal>;

impl Reactor {
    /// Answers, or hands the request on to the engine and gives none.
    pub(super) fn ask(
        &mut self,
        client: ClientId,
        request: Option<&Value>,
        ask: Ask,
    ) -> Option<Answer> {
        Some(match ask {
            Ask::Get(id) => self.spec(id).map(|spec| config::to_value(&spec)),
            Ask::Set(params) => self.set(params),
            Ask::Delete(id, timeout) => {
                return self.delete(client, request, id, timeout).err().map(Err);
            }
            Ask::DeleteAll(wait) => return self.delete_all(client, request, wait).err().map(Err),
            Ask::Reload => return self.reload(Some((client, request))).err().map(Err),
            Ask::Stats(id) => Ok(to_value(&self.stats(id))),
            Ask::Children(id) => Ok(to_value(&self.children(id))),
            Ask::Why(id) => self.why(id),
            Ask::Logs(query) => Ok(self.logs(&query)),
            Ask::Follow(_) if self.clients.is_batch(client) => Err(Refusal::new(
                Code::InvalidRequest,
                "a connection that follows does nothing else: not in a batch",
            )),
            Ask::Follow(query) => {
                self.follow(client, request, query);
                return None;
            }
            Ask::DebugRecord => {
                let output = self.recorder.text(&self.supervisor);
                Ok(to_value(&Output { output }))
            }
            Ask::DebugState => {
                let families = &mut self.families;
                let output = text::debug_state(&self.supervisor, clock::now(), |pid| {
                    families.children(pid).into_iter().map(child).collect()
                });
                Ok(to_value(&Output { output }))
            }
            Ask::ProcessTree(id) => {
                let Some(service) = self.supervisor.service(id) else {
                    return Some(Err(not_found()));
                };
                let pid = service.state().pid();
                let family = pid
                    .map(|pid| self.families.descendants(pid))
                    .unwrap_or_default();
                let family: Vec<_> = family.into_iter().map(child).collect();
                let output = text::process_tree(&service.spec().name, pid, &family);
                Ok(to_value(&Output { output }))
            }
            Ask::Xinet(ask) => self.xinet(ask),
            Ask::System(verb) => self.system(verb).map(|()| to_value(&Granted { ok: true })),
        })
    }

    /// Loads the services for the first time; before they start, what an earlier server that was
    /// killed has `left` is ended. Gives what is wrong with the files of a machine, which goes on.
    pub(super) fn load(&mut self, left: &[Entry]) -> io::Result<Option<String>> {
        let is_machine = matches!(self.role, Role::Machine(_));
        if !self.files.may_be_absent() {
            self.files.make_dir()?;
        }
        let (mut read, problem) = match self.files.read() {
            Ok(read) => (read, None),
            // Its own services can do without the others.
            Err(problem) if is_machine => (self.files.read_system(), Some(problem.to_string())),
            Err(problem) => return Err(io::Error::other(problem.to_string())),
        };
        report(&read.problems);
        let proxies = (std::mem::take(&mut read.proxies), Vec::new());
        if !left.is_empty() {
            let spec = |name: &str| read.specs.iter().find(|spec| &*spec.name == name);
            // There need not be a file: of instances, and of what is kept nowhere.
            let noted = |name: &str| left.iter().find(|entry| entry.name == name);
            let noted = |name: &str| noted(name).map(|entry| entry.kill_mode);
            let mode = |name: &str| match spec(name) {
                Some(spec) => spec.lifecycle.kill_mode,
                None => noted(name).unwrap_or_default(),
            };
            let left = self.families.left_by_predecessor(left, mode);
            log::warn!(
                "ending {} processes that a killed server left behind",
                left.len()
            );
            kill::end_all(&left, PREDECESSOR_PATIENCE);
        }
        // No reason not to be there: only the next server will know less, if this one is killed.
        if let Some(door) = &mut self.door
            && let Err(error) = door.ledger.begin()
        {
            log::warn!("the ledger beside the socket: {error}");
        }
        self.inbox.push_back(command(Command::Reload {
            specs: read.specs,
            keep: read.keep,
            start: !is_machine,
        }));
        // Who starts early may connect to who starts late.
        self.deeds_left = 0;
        self.handle_inbox();
        self.open_sockets();
        self.open_proxies(proxies);
        self.deeds_left = self.deeds_a_turn();
        Ok(problem)
    }

    /// Reads the files of a machine again, and starts nothing yet. Gives what is wrong.
    pub(super) fn load_again(&mut self) -> Option<String> {
        match self.files.read() {
            Err(problem) => Some(problem.to_string()),
            Ok(read) => {
                report(&read.problems);
                self.open_proxies((read.proxies, read.gone_proxies));
                self.inbox.push_back(command(Command::Reload {
                    specs: read.specs,
                    keep: read.keep,
                    start: false,
                }));
                self.handle_inbox();
                self.open_sockets();
                None
            }
        }
    }

    /// Reads the directories anew and has the engine apply what changed.
    pub(super) fn reload(
        &mut self,
        asker: Option<(ClientId, Option<&Value>)>,
    ) -> Result<(), Refusal> {
        self.renew_door();
        self.read_access();
        let read = self
            .files
            .read()
            .map_err(|problem| Refusal::new(Code::Internal, problem.to_string()))?;
        report(&read.problems);
        self.open_proxies((read.proxies, read.gone_proxies));
        let reload = Command::Reload {
            specs: read.specs,
            keep: read.keep,
            start: true,
        };
        let Some((client, request)) = asker else {
            self.inbox.push_back(command(reload));
            self.handle_inbox();
            self.open_sockets();
            return Ok(());
        };
        let (errors, warnings) = read
            .problems
            .iter()
            .partition::<Vec<_>, _>(|problem| problem.is_error());
        let texts = |problems: Vec<&config::Problem>| {
            problems.into_iter().map(ToString::to_string).collect()
        };
        let form = Form::Reload {
            errors: texts(errors),
            warnings: texts(warnings),
        };
        self.command(client, request.cloned(), reload, None, form);
        self.open_sockets();
        Ok(())
    }

    /// Files go first, the dependents' before the service's own: whoever reads the directory from
    /// now on does not find it, whatever becomes of this server.
    fn delete_files(&mut self, services: &[ServiceId]) -> Result<(), Refusal> {
        let names: Vec<Rc<str>> = services
            .iter()
            .rev()
            .filter_map(|id| Some(self.spec(*id).ok()?.name.clone()))
            .collect();
        let deleted = self.files.delete(&names);
        deleted.map_err(|text| Refusal::new(Code::Internal, text))
    }

    fn delete(
        &mut self,
        client: ClientId,
        request: Option<&Value>,
        service: ServiceId,
        timeout: Option<Duration>,
    ) -> Result<(), Refusal> {
        let name = self.spec(service)?.name.to_string();
        self.delete_files(&self.supervisor.with_requirers(&[service]))?;
        let form = Form::Ok {
            service,
            name,
            state: false,
        };
        let remove = Command::Remove { service };
        self.command(client, request.cloned(), remove, Some(timeout), form);
        Ok(())
    }

    fn delete_all(
        &mut self,
        client: ClientId,
        request: Option<&Value>,
        wait: Option<Option<Duration>>,
    ) -> Result<(), Refusal> {
        self.delete_files(&self.supervisor.users())?;
        let form = Form::Bulk(Bulk::Deleted);
        self.command(client, request.cloned(), Command::RemoveAll, wait, form);
        Ok(())
    }

    fn set(&mut self, params: Value) -> Answer {
        let is_ephemeral = params.get("ephemeral") == Some(&Value::Bool(true));
        let spec = config::from_value(params).map_err(|error| match error {
            SetError::Parse(text) => Refusal::new(Code::InvalidParams, text),
            SetError::Invalid(errors) => Refusal::new(Code::ValidationFailed, "Validation failed")
                .with(json!({"errors": errors})),
        })?;
        if self.supervisor.is_closing() {
            return Err(Refusal::new(
                Code::Internal,
                "the server is shutting down; nothing new is started",
            ));
        }
        self.check_settable(&spec)?;
        let path = if is_ephemeral {
            self.files.keep(&spec);
            None
        } else {
            let written = self.files.write(&spec);
            Some(written.map_err(|(path, error)| {
                let text = format!("Failed to write {}: {error}", path.display());
                Refusal::new(Code::PersistFailed, text)
            })?)
        };
        let name = spec.name.to_string();
        let warnings = self.stale_run(&spec);
        let all = &self.supervisor;
        if config::is_template(&name) {
            // It is no service itself; those that are made from it change with it.
            self.files.put_template(&spec);
            let names = all
                .services()
                .map(|(_, service)| service.spec().name.clone());
            let of_it = |made: &Rc<str>| {
                config::template_of(made).is_some_and(|(template, _)| template == name)
            };
            let made = names
                .filter(of_it)
                .filter_map(|made| config::instance(&spec, &made).ok());
            let made = made.collect();
            self.put(made);
        } else {
            let mut made = self.files.needed_by(&spec, |name| all.find(name).is_some());
            made.push(spec);
            self.put(made);
        }
        Ok(to_value(&Added {
            name,
            path: path.map(|path| path.display().to_string()),
            warnings,
        }))
    }

    /// What a new definition does not change at once.
    fn stale_run(&self, spec: &Spec) -> Vec<String> {
        let known = self.supervisor.find(&spec.name);
        let known = known.and_then(|id| self.supervisor.service(id));
        let runs = known.filter(|known| known.state().pid().is_some());
        let other = runs.is_some_and(|known| known.spec().kind != spec.kind);
        let text = "it runs on as it was started; restart it to apply exec, dir and environment";
        other.then(|| text.to_owned()).into_iter().collect()
    }

    fn check_settable(&self, spec: &Spec) -> Result<(), Refusal> {
        let known = self
            .supervisor
            .find(&spec.name)
            .and_then(|id| self.supervisor.service(id));
        if self.files.is_system(&spec.name) {
            let text = format!(
                "service '{}' belongs to the system; change its file and reload",
                spec.name
            );
            return Err(Refusal::new(Code::Internal, text));
        }
        if known.is_some_and(|known| known.spec().is_target() != spec.is_target()) {
            let text = format!(
                "'{}' can't change between service and target; delete it first",
                spec.name
            );
            return Err(Refusal::new(Code::Internal, text));
        }
        let program = spec.program().filter(|_| !config::is_template(&spec.name));
        if let Some(missing) = program.and_then(|program| self.missing_program(program)) {
            return Err(Refusal::new(
                Code::ExecNotFound,
                format!("Executable not found: {missing}"),
            ));
        }
        let links = &spec.links;
        let names = [
            &links.after,
            &links.requires,
            &links.wants,
            &links.conflicts,
        ]
        .into_iter()
        .flatten();
        let unknown = |name: &&Rc<str>| {
            let is_known = self.supervisor.find(name).is_some() || self.files.is_of_template(name);
            **name != spec.name && !is_known && !config::is_template(&spec.name)
        };
        match names.into_iter().find(unknown) {
            Some(name) => Err(Refusal::new(
                Code::DependencyMissing,
                format!("Dependency '{name}' not found"),
            )),
            None => Ok(()),
        }
    }

    /// The program of a definition, if it does not exist. What a shell will run can't be told.
    fn missing_program(&self, program: &Program) -> Option<String> {
        let first = match &program.exec {
            Exec::Words(words) => words.first().cloned(),
            Exec::Line(line) => config::words(line)?.into_iter().next(),
        }?;
        let found = config::find_program(&first, &self.runs.path(program), program.dir.as_deref());
        found.is_none().then_some(first)
    }

    fn stats(&mut self, id: ServiceId) -> Stats {
        let state = self.supervisor.service(id).map(|service| service.state());
        let stat = state.and_then(State::pid).and_then(procfs::stat);
        let (Some(stat), Some(state)) = (stat, state) else {
            return Stats {
                pid: 0,
                memory_bytes: 0,
                cpu_percent: 0.0,
                cgroup: None,
            };
        };
        let now = clock::now();
        let begin = state.since().unwrap_or(now);
        let (ticks, at) = self
            .runs
            .note_used(id, stat.ticks, now)
            .unwrap_or((0, begin));
        let seconds = now.since(at).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a percentage needs no 52 bits")]
        let used = stat.ticks.saturating_sub(ticks) as f64 / procfs::ticks_per_second() as f64;
        let percent = if seconds > 0.0 {
            (used / seconds * 1000.0).round() / 10.0
        } else {
            0.0
        };
        Stats {
            pid: stat.pid.number(),
            memory_bytes: stat.pages * procfs::page_bytes(),
            cpu_percent: percent,
            cgroup: self.cgroups.usage(&self.name(id)).as_ref().map(shown),
        }
    }

    fn children(&mut self, id: ServiceId) -> Children {
        let pid = self
            .supervisor
            .service(id)
            .and_then(|service| service.state().pid());
        let mut family = pid
            .map(|pid| self.families.descendants(pid))
            .unwrap_or_default();
        family.reverse();
        let one = |stat: procfs::Stat| ChildInfo {
            pid: stat.pid.number(),
            name: stat.name,
            memory_bytes: stat.pages * procfs::page_bytes(),
        };
        Children {
            children: family.into_iter().map(one).collect(),
        }
    }

    fn why(&mut self, id: ServiceId) -> Answer {
        let Some(service) = self.supervisor.service(id) else {
            return Err(not_found());
        };
        let held = matches!(
            service.state(),
            State::Blocked {
                hold: Hold::Obstructed { .. }
            }
        );
        let spec = Rc::clone(service.spec());
        let outside = match spec.program().filter(|_| held) {
            Some(program) => self.outside(id, program),
            None => Outside::default(),
        };
        let service = self.supervisor.service(id).ok_or_else(not_found)?;
        Ok(to_value(&why::why(&self.supervisor, id, service, &outside)))
    }

    pub(super) fn logs(&self, query: &LogQuery) -> Value {
        let wanted = |at_ms: u64, stream: Stream| {
            let wanted = query.stream.is_none_or(|wanted| wanted == told(stream));
            at_ms >= query.since_ms && wanted
        };
        let (chosen, most) = match &query.services {
            Some(services) => (services.clone(), query.lines.min(MOST_LINES)),
            None => {
                let all = self.supervisor.services().map(|(id, _)| id);
                (all.collect(), query.lines.min(MOST_LINES_OF_ALL))
            }
        };
        let is_one = chosen.len() == 1 && query.services.is_some();
        // One service after the other, and never more than is going to be told.
        let mut last: Vec<(Rc<str>, LogLine)> = Vec::new();
        for id in chosen {
            let name = self.name(id);
            let lines = self.runs.log(id, most, wanted).into_iter();
            let lines = lines.map(|line| (Rc::clone(&name), line)).collect();
            last = merged(last, lines, most);
        }
        if query.services.is_none() {
            let name: Rc<str> = "syslog".into();
            let lines = self.runs.others(most, wanted).into_iter();
            let lines = lines.map(|line| (Rc::clone(&name), line)).collect();
            last = merged(last, lines, most);
        }
        let shown = |(name, line): &(Rc<str>, LogLine)| match query.shape {
            LogShape::Text => {
                let from = if is_one {
                    String::new()
                } else {
                    format!("{name}: ")
                };
                let (at_ms, stream) = (line.at_ms, line.stream.name());
                json!(format!("{at_ms} [{stream}] {from}{}", line.content))
            }
            LogShape::Object => to_value(&Told {
                timestamp_ms: line.at_ms,
                service: name.to_string(),
                stream: told(line.stream),
                content: line.content.clone(),
            }),
        };
        last.iter().map(shown).collect()
    }

    /// What outside our services keeps this one from starting.
    pub(super) fn outside(&self, id: ServiceId, program: &Program) -> Outside {
        // Where a socket is opened for it, the server itself listens.
        let own = |port: &u16| {
            let mut listen = program.sockets.listen.iter();
            listen.any(|address| matches!(address, Address::Tcp(own) if own.port() == *port))
        };
        let mut ports = program.ports.iter().filter(|port| !own(port));
        let port = ports.find_map(|port| ports::holder(*port));
        let port = port.map(|held| {
            let by = match held.owner {
                Some((pid, name)) => format!("external process: {name} (PID {pid})"),
                None => "external process: unknown process".to_owned(),
            };
            format!("port {} in use by {by}", held.port)
        });
        let _ = id;
        let process = program.process_filters.iter().find_map(|filter| {
            let found = ports::matching(filter);
            let processes: Vec<_> = found
                .into_iter()
                .map(|(pid, name)| (pid, name, procfs::command_line(pid)))
                .collect();
            (!processes.is_empty()).then(|| FilterMatch {
                filter: filter.clone(),
                processes,
            })
        });
        Outside { port, process }
    }

    /// Ends the processes outside that are in the way: whoever holds the port, or matches the
    /// filter, and nobody else. Politely at first; who is still there at the next look is killed.
    pub(super) fn kill_others(&mut self, id: ServiceId, program: &Program) {
        let holders = program
            .ports
            .iter()
            .filter_map(|port| ports::holder(*port)?.owner);
        let matches = program
            .process_filters
            .iter()
            .flat_map(|filter| ports::matching(filter));
        let targets: Vec<_> = holders.chain(matches).map(|(pid, _)| pid).collect();
        let again = self.obstacles.get(id).is_some();
        for pid in targets {
            let ours = pid.number() == 1
                || pid.number().unsigned_abs() == std::process::id()
                || self.families.owner(&self.supervisor, pid).is_some();
            if let Some(stat) = procfs::stat(pid).filter(|_| !ours) {
                log::warn!("killing {} (PID {pid}), which is in the way", stat.name);
                kill::kill(&stat, if again { Signal::KILL } else { Signal::TERM });
            }
        }
    }

    fn spec(&self, id: ServiceId) -> Result<Rc<Spec>, Refusal> {
        self.supervisor
            .service(id)
            .map(|service| Rc::clone(service.spec()))
            .ok_or_else(not_found)
    }
}

/// Two lists of lines as one, both and it ordered by time; the last `most` of it.
fn merged(
    a: Vec<(Rc<str>, LogLine)>,
    b: Vec<(Rc<str>, LogLine)>,
    most: usize,
) -> Vec<(Rc<str>, LogLine)> {
    let skip = (a.len() + b.len()).saturating_sub(most);
    let (mut a, mut b) = (a.into_iter().peekable(), b.into_iter().peekable());
    let next = || match (a.peek(), b.peek()) {
        (Some((_, first)), Some((_, second))) if second.at_ms < first.at_ms => b.next(),
        (Some(_), _) => a.next(),
        (None, _) => b.next(),
    };
    std::iter::from_fn(next).skip(skip).collect()
}

/// What the processes of a service use together, as far as the kernel tells.
fn shown(usage: &Usage) -> CgroupStats {
    let pressure = |what: &str| {
        let (_, hundredths) = usage.pressure.iter().find(|(known, _)| *known == what)?;
        #[expect(clippy::cast_precision_loss, reason = "at most ten thousand")]
        let percent = *hundredths as f64 / 100.0;
        Some(percent)
    };
    CgroupStats {
        memory_bytes: usage.memory_bytes,
        pids: usage.pids,
        cpu_usec: usage.cpu_usec,
        pressure: (!usage.pressure.is_empty()).then(|| Pressure {
            cpu: pressure("cpu"),
            memory: pressure("memory"),
            io: pressure("io"),
        }),
    }
}

/// A stream as the wire knows it.
pub(super) const fn told(stream: Stream) -> LogStream {
    match stream {
        Stream::Stdout => LogStream::Stdout,
        Stream::Stderr => LogStream::Stderr,
        Stream::Syslog => LogStream::Syslog,
    }
}

fn report(problems: &[config::Problem]) {
    for problem in problems {
        if problem.is_error() {
            log::error!("{problem:#}");
        } else {
            log::warn!("{problem:#}");
        }
    }
}

fn not_found() -> Refusal {
    Refusal::new(Code::ServiceNotFound, "service not found")
}
