//! The processes of services as the shell sees them: how they are started, what they write.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry};

use super::family::{ERRAND, Families, MARK};
use super::forward::Forward;
use super::launch::{Environment, NoProcess, UNUSABLE, scarce, told};
use super::place::Place;
use super::sinks::{self, Pipework, Sinks, Source};
use crate::engine::spec::{Exec, Program, Readiness};
use crate::engine::{
    ErrandId, Event, Exit, Pid, ServiceId, Signal, SpawnError, Spec, Step, Table, Time,
};
use crate::sys::cgroup::Cgroups;
use crate::sys::clock;
use crate::sys::kill;
use crate::sys::notify::{Datagram, Datagrams};
use crate::sys::output::{Lines, LogLine, Ring, Stream, holds};
use crate::sys::pipe::{self, Input, Reader};
use crate::sys::process::{self, Child, Slate, Stdio};

/// Bytes read from a pipe at once: what a pipe holds (`pipe(7)`).
const READ_BYTES: usize = 64 << 10;

/// Reads from one pipe in one turn; a service that writes without end waits for the others.
const READS_A_TURN: usize = 4;

/// Reads from a pipe of a program that has ended: the most that a pipe can hold
/// (`/proc/sys/fs/pipe-max-size`), and some.
const READS_AT_EXIT: usize = 20;

/// Lines of the system's log that are nobody's.
const OTHERS_LINES: usize = 1000;

/// Datagrams of one service in one turn.
const DATAGRAMS_A_TURN: usize = 64;

/// Processes and their pipes.
pub(super) struct Runs {
    runs: Table<Run>,
    pipes: Vec<Option<Pipe>>,
    /// Places in `pipes` that hold none.
    free: Vec<usize>,
    /// Pipes that may hold more than was read in this turn.
    busy: Vec<usize>,
    slate: Slate,
    environment: Environment,
    cgroups: Rc<Cgroups>,
    buffer: Box<[u8]>,
    /// Where output goes on to.
    pub(super) sinks: Sinks,
    /// What was said to the system's log by nobody in particular.
    others: Ring,
    /// Pipes that are not read while too much waits there.
    paused: Vec<usize>,
    /// What services said by `sd_notify(3)` and is still to be heard.
    said: Vec<(ServiceId, Datagram)>,
    /// Why errands did not become their programs.
    not_run: BTreeMap<Pid, SpawnError>,
    /// The last lines of probes.
    last_lines: BTreeMap<Pid, String>,
}

/// What is kept of a service over its runs.
#[derive(Debug, Default)]
struct Run {
    log: Ring,
    buffer_lines: usize,
    /// Where its lines go beside that.
    work: Pipework,
    /// Places of its pipes that are open.
    pipes: Vec<usize>,
    /// Processor time at the last look, in ticks, and when that was.
    used: Option<(u64, Time)>,
    /// The text that makes it ready, and its main process.
    awaited: Option<(String, Pid)>,
    /// How its last main process ended.
    exit: Option<Exit>,
    /// How many of its processes had been killed for memory when it was started.
    memory_kills: u64,
}

struct Pipe {
    service: ServiceId,
    name: Rc<str>,
    use_: Use,
}

/// What a pipe is for.
enum Use {
    /// Tells of exec.
    Exec(Pid, Reader),
    /// Output.
    Output(Stream, Lines, Reader),
    /// Tells of readiness by a newline.
    Ready(Pid, Reader),
    /// Tells of readiness and more by datagrams.
    Notify(Datagrams),
    /// Tells of the exec of an errand.
    ErrandExec(Pid, Reader),
    /// What a probe writes; its last line is kept.
    Quiet(Pid, Lines, Reader),
}

impl Use {
    fn number(&self) -> i32 {
        match self {
            Self::Exec(_, reader)
            | Self::Output(_, _, reader)
            | Self::Ready(_, reader)
            | Self::ErrandExec(_, reader)
            | Self::Quiet(_, _, reader) => reader.as_raw_fd(),
            Self::Notify(socket) => socket.as_raw_fd(),
        }
    }
}

impl Runs {
    /// No runs yet.
    #[must_use]
    pub(super) fn new(
        slate: Slate,
        forward: Option<Forward>,
        is_private: bool,
        cgroups: Rc<Cgroups>,
    ) -> Self {
        Self {
            runs: Table::default(),
            pipes: Vec::new(),
            free: Vec::new(),
            busy: Vec::new(),
            slate,
            environment: Environment::new(is_private),
            cgroups,
            buffer: vec![0; READ_BYTES].into(),
            sinks: Sinks {
                forward,
                ..Sinks::default()
            },
            others: Ring::default(),
            paused: Vec::new(),
            said: Vec::new(),
            not_run: BTreeMap::new(),
            last_lines: BTreeMap::new(),
        }
    }

    /// Starts the program of a service.
    ///
    /// # Errors
    /// If there is no process.
    pub(super) fn spawn(
        &mut self,
        service: ServiceId,
        spec: &Spec,
        stdio: Stdio,
        families: &mut Families,
        registry: &Registry,
    ) -> Result<Pid, NoProcess> {
        let program = spec.program().ok_or((UNUSABLE, false))?;
        self.quit_notify(service);
        let mut more = vec![(MARK, families.mark(&spec.name))];
        let notify = self.notify_socket(spec, &mut more)?;
        let cgroup = self.cgroup(spec, program);
        let launched = self
            .environment
            .launch(program, &program.exec, stdio, &more, cgroup);
        let mut launch = launched.map_err(|error| (error, false))?;
        let ready = match spec.readiness {
            Readiness::Fd(number) => {
                let (reader, writer) = pipe::pipe().map_err(scarce)?;
                launch.pass = Some((writer, number));
                Some(reader)
            }
            Readiness::Spawn
            | Readiness::Exit
            | Readiness::Health
            | Readiness::Notify
            | Readiness::Log(_) => None,
        };
        let child = process::spawn(&launch, &self.slate)
            .map_err(|error| (error, process::is_scarcity(error)))?;
        drop(launch);
        let pid = child.pid;
        let inodes = child
            .output
            .as_ref()
            .map(|pipes| pipes.each_ref().map(Reader::inode));
        families.began(service, &spec.name, pid, inodes);
        let memory_kills = self.cgroups.memory_kills(&spec.name);
        self.keep(service, spec);
        let run = self.runs.or_default(service);
        run.used = None;
        run.memory_kills = memory_kills;
        run.awaited = match &spec.readiness {
            Readiness::Log(text) => Some((text.clone(), pid)),
            Readiness::Spawn
            | Readiness::Exit
            | Readiness::Health
            | Readiness::Notify
            | Readiness::Fd(_) => None,
        };
        let mut uses = vec![Use::Exec(pid, child.exec)];
        uses.extend(child.output.into_iter().flat_map(outputs));
        uses.extend(ready.map(|reader| Use::Ready(pid, reader)));
        uses.extend(notify.map(Use::Notify));
        self.watch(service, &spec.name, pid, uses, registry)?;
        Ok(pid)
    }

    /// Starts a hook or an exec probe of a service. What a probe writes is kept out of the log.
    ///
    /// # Errors
    /// If there is no process.
    pub(super) fn spawn_errand(
        &mut self,
        (service, errand): (ServiceId, ErrandId),
        spec: &Spec,
        (exec, is_quiet): (&Exec, bool),
        main: Option<Pid>,
        families: &mut Families,
        registry: &Registry,
    ) -> Result<Pid, NoProcess> {
        let program = spec.program().ok_or((UNUSABLE, false))?;
        let exit = self.runs.get(service).and_then(|run| run.exit);
        let mut more = told(spec, main, exit);
        more.push((ERRAND, errand.0.to_string()));
        more.push((MARK, families.mark(&spec.name)));
        let stdio = Stdio::Kept { own_input: false };
        let cgroup = self.cgroup(spec, program);
        let launched = self.environment.launch(program, exec, stdio, &more, cgroup);
        let launch = launched.map_err(|error| (error, false))?;
        let child = process::spawn(&launch, &self.slate)
            .map_err(|error| (error, process::is_scarcity(error)))?;
        let Child { pid, exec, output } = child;
        families.errand_began(service, pid);
        self.keep(service, spec);
        let mut uses = vec![Use::ErrandExec(pid, exec)];
        if is_quiet {
            let quiet = |reader| Use::Quiet(pid, Lines::default(), reader);
            uses.extend(output.into_iter().flatten().map(quiet));
        } else {
            uses.extend(output.into_iter().flat_map(outputs));
        }
        self.watch(service, &spec.name, pid, uses, registry)?;
        Ok(pid)
    }

    /// Where the lines of a service are kept, as its file says now.
    fn keep(&mut self, service: ServiceId, spec: &Spec) {
        let logging = &spec.logging;
        let work = if logging.file.is_none() && logging.forward.is_none() {
            Pipework::default()
        } else {
            let used: Vec<Pipework> = self.runs.iter().map(|(_, run)| run.work).collect();
            self.sinks.of(spec, &used)
        };
        let run = self.runs.or_default(service);
        run.buffer_lines = spec.logging.buffer_lines;
        run.work = work;
    }

    /// A line that came over no pipe.
    pub(super) fn log_line(
        &mut self,
        service: Option<ServiceId>,
        source: &Source<'_>,
        line: &[u8],
    ) {
        let run = service.map(|service| self.runs.or_default(service));
        let (ring, most, work) = match run {
            Some(run) => (&mut run.log, run.buffer_lines.max(1), run.work),
            None => (&mut self.others, OTHERS_LINES, Pipework::default()),
        };
        ring.push(source.at_ms, source.stream, line, most);
        self.sinks.push(work, source, line, true);
    }

    /// The last lines that nobody in particular said to the system's log.
    #[must_use]
    pub(super) fn others(
        &self,
        most: usize,
        wanted: impl FnMut(u64, Stream) -> bool,
    ) -> Vec<LogLine> {
        self.others.last(most, wanted)
    }

    /// A pipe that can't be watched is one that the service fills and waits on for ever: no such
    /// run. The child is an orphan then, and collected as such.
    fn watch(
        &mut self,
        service: ServiceId,
        name: &Rc<str>,
        pid: Pid,
        uses: Vec<Use>,
        registry: &Registry,
    ) -> Result<(), NoProcess> {
        for use_ in uses {
            let slot = self.free.pop().unwrap_or(self.pipes.len());
            if slot == self.pipes.len() {
                self.pipes.push(None);
            }
            let token = Place::Pipe(slot).token();
            let number = use_.number();
            let registered = registry.register(&mut SourceFd(&number), token, Interest::READABLE);
            if let Err(error) = registered {
                kill::kill_child(pid, Signal::KILL);
                self.free.push(slot);
                return Err((
                    SpawnError {
                        step: Step::Fork,
                        errno: error.raw_os_error().unwrap_or_default(),
                        item: 0,
                    },
                    true,
                ));
            }
            self.pipes[slot] = Some(Pipe {
                service,
                name: Rc::clone(name),
                use_,
            });
            self.runs.or_default(service).pipes.push(slot);
        }
        Ok(())
    }

    /// The socket for what the service says of itself, if it is going to.
    fn notify_socket(
        &self,
        spec: &Spec,
        more: &mut Vec<(&'static str, String)>,
    ) -> Result<Option<Datagrams>, NoProcess> {
        if spec.readiness != Readiness::Notify && spec.watchdog.is_none() {
            return Ok(None);
        }
        let (socket, name) = Datagrams::unnamed().map_err(|error| {
            let errno = error.raw_os_error().unwrap_or_default();
            scarce(nix::Error::from_raw(errno))
        })?;
        more.push(("NOTIFY_SOCKET", name));
        let usec = spec.watchdog.as_ref().map(Duration::as_micros);
        more.extend(usec.map(|usec| ("WATCHDOG_USEC", usec.to_string())));
        Ok(Some(socket))
    }

    /// What the last run says is nothing to the next one.
    fn quit_notify(&mut self, service: ServiceId) {
        let slots = self.runs.get(service).map(|run| run.pipes.clone());
        for slot in slots.unwrap_or_default() {
            let is_notify = |pipe: &Pipe| matches!(pipe.use_, Use::Notify(_));
            if self.pipes[slot].as_ref().is_some_and(is_notify) {
                self.close(slot);
            }
        }
        self.said.retain(|(said, _)| *said != service);
    }

    fn cgroup(&self, spec: &Spec, program: &Program) -> Option<std::fs::File> {
        let (cgroup, unmet) = self.cgroups.prepare(&spec.name, &program.resources);
        for text in unmet {
            log::warn!("{}: resources: {text}", spec.name);
        }
        cgroup
    }

    /// How the main process of a service ended. If the kernel killed it for memory, that is said.
    pub(super) fn note_exit(&mut self, service: ServiceId, name: &str, exit: Exit) -> Exit {
        let kills = match exit {
            Exit::Signal(9) => self.cgroups.memory_kills(name),
            Exit::Code(_) | Exit::Signal(_) | Exit::OutOfMemory => 0,
        };
        let Some(run) = self.runs.get_mut(service) else {
            return exit;
        };
        let exit = if kills > run.memory_kills {
            Exit::OutOfMemory
        } else {
            exit
        };
        run.exit = Some(exit);
        run.awaited = None;
        exit
    }

    /// What services said of themselves since this was asked last.
    pub(super) fn take_said(&mut self) -> Vec<(ServiceId, Datagram)> {
        std::mem::take(&mut self.said)
    }

    /// Why an errand did not become its program, and the last line it wrote; neither is kept.
    pub(super) fn take_errand(&mut self, pid: Pid) -> (Option<SpawnError>, Option<String>) {
        (self.not_run.remove(&pid), self.last_lines.remove(&pid))
    }

    /// A pipe has something to read, or has been closed.
    pub(super) fn ready(&mut self, slot: usize, closed: bool, inbox: &mut impl FnMut(Event)) {
        for _ in 0..READS_A_TURN {
            if self.is_held_up(slot) {
                return self.paused.push(slot);
            }
            if !self.read(slot, closed, inbox) {
                return;
            }
        }
        self.busy.push(slot);
    }

    /// Has this pipe to wait, because what it brings is not taken?
    fn is_held_up(&mut self, slot: usize) -> bool {
        if self.sinks.forward.as_ref().is_some_and(Forward::is_full) {
            return true;
        }
        let Some(Some(pipe)) = self.pipes.get(slot) else {
            return false;
        };
        let is_output = matches!(pipe.use_, Use::Output(..));
        let run = self.runs.get(pipe.service).filter(|_| is_output);
        let file = run.and_then(|run| run.work.file);
        file.is_some_and(|file| self.sinks.keeper.is_full(clock::now(), file))
    }

    /// Sends output on, as far as it is taken; pipes that had to wait for that are read again.
    pub(super) fn flush(&mut self, registry: &Registry) {
        let now = clock::now();
        let has_room = self.sinks.keeper.step(now, registry);
        self.sinks.ships.flush(now);
        let Some(forward) = &mut self.sinks.forward else {
            if has_room {
                self.busy.append(&mut self.paused);
            }
            return;
        };
        forward.flush();
        if !forward.is_full() {
            self.busy.append(&mut self.paused);
        }
    }

    /// When to look after what is sent on without being told of anything.
    #[must_use]
    pub(super) fn next_look(&self) -> Option<Time> {
        let looks = [self.sinks.keeper.next_look(), self.sinks.ships.next_look()];
        looks.into_iter().flatten().min()
    }

    /// Does output wait to be sent on?
    #[must_use]
    pub(super) fn is_waiting(&self) -> bool {
        let forward = self.sinks.forward.as_ref();
        forward.is_some_and(Forward::is_waiting) || self.sinks.keeper.is_waiting()
    }

    /// What services have in common.
    #[must_use]
    pub(super) fn slate(&self) -> &Slate {
        &self.slate
    }

    /// Goes on with what the last turn left over.
    pub(super) fn go_on(&mut self, inbox: &mut impl FnMut(Event)) {
        for slot in std::mem::take(&mut self.busy) {
            self.ready(slot, true, inbox);
        }
    }

    /// Is something left over from this turn?
    #[must_use]
    pub(super) fn is_busy(&self) -> bool {
        !self.busy.is_empty()
    }

    /// Before the exit of a main process is told: what it said about exec, and its last words.
    pub(super) fn before_exit(&mut self, service: ServiceId, inbox: &mut impl FnMut(Event)) {
        let slots = self
            .runs
            .get(service)
            .map(|run| run.pipes.clone())
            .unwrap_or_default();
        for slot in slots {
            // Whoever it left behind may write on: no more than it can have said itself.
            for _ in 0..READS_AT_EXIT {
                if !self.read(slot, true, inbox) {
                    break;
                }
            }
        }
    }

    /// The service is no more, and its log with it.
    pub(super) fn removed(&mut self, service: ServiceId) {
        self.runs.remove(service);
    }

    /// The last lines of a service's output.
    #[must_use]
    pub(super) fn log(
        &self,
        service: ServiceId,
        most: usize,
        wanted: impl FnMut(u64, Stream) -> bool,
    ) -> Vec<LogLine> {
        self.runs
            .get(service)
            .map(|run| run.log.last(most, wanted))
            .unwrap_or_default()
    }

    /// Notes the processor time of a service; gives what was noted before.
    pub(super) fn note_used(
        &mut self,
        service: ServiceId,
        ticks: u64,
        now: Time,
    ) -> Option<(u64, Time)> {
        self.runs.get_mut(service)?.used.replace((ticks, now))
    }

    /// Reads once. False if there is nothing more for now.
    fn read(&mut self, slot: usize, closed: bool, inbox: &mut impl FnMut(Event)) -> bool {
        let Some(Some(pipe)) = self.pipes.get_mut(slot) else {
            return false;
        };
        let service = pipe.service;
        match &mut pipe.use_ {
            Use::Exec(pid, reader) => {
                let Some(told) = process::read_exec(reader) else {
                    return false;
                };
                let pid = *pid;
                inbox(match told {
                    Ok(()) => Event::Started { pid },
                    Err(error) => Event::ExecFailed { pid, error },
                });
                self.close(slot);
                false
            }
            Use::ErrandExec(pid, reader) => {
                let Some(told) = process::read_exec(reader) else {
                    return false;
                };
                let pid = *pid;
                self.not_run.extend(told.err().map(|error| (pid, error)));
                self.close(slot);
                false
            }
            Use::Ready(pid, reader) => {
                let mut buffer = [0; 64];
                let (pid, input) = (*pid, reader.read(&mut buffer));
                match input {
                    Input::Nothing => return false,
                    Input::End => self.close(slot),
                    Input::Bytes(count) if buffer[..count].contains(&b'\n') => {
                        self.close(slot);
                        self.settle_exec(service, inbox);
                        inbox(Event::Ready { pid });
                    }
                    Input::Bytes(_) => return true,
                }
                false
            }
            Use::Notify(socket) => {
                let mut taken = Vec::new();
                while taken.len() < DATAGRAMS_A_TURN
                    && let Some(datagram) = socket.take()
                {
                    taken.push((service, datagram));
                }
                let more = taken.len() == DATAGRAMS_A_TURN;
                if !taken.is_empty() {
                    self.settle_exec(service, inbox);
                }
                self.said.append(&mut taken);
                more
            }
            Use::Quiet(pid, lines, reader) => {
                let pid = *pid;
                let mut last = None;
                let input = reader.read(&mut self.buffer);
                match input {
                    Input::Nothing => return false,
                    Input::Bytes(count) => {
                        lines.push(&self.buffer[..count], |line, _| last = Some(line.to_vec()));
                    }
                    Input::End => lines.finish(|line| last = Some(line.to_vec())),
                }
                let last = last.map(|line| String::from_utf8_lossy(&line).into_owned());
                self.last_lines.extend(last.map(|line| (pid, line)));
                if input == Input::End {
                    self.close(slot);
                }
                input != Input::End
            }
            Use::Output(..) => self.read_output(slot, closed, inbox),
        }
    }

    /// Whether exec went well is told before anything the program says.
    fn settle_exec(&mut self, service: ServiceId, inbox: &mut impl FnMut(Event)) {
        let slots = self.runs.get(service).map(|run| run.pipes.clone());
        for slot in slots.unwrap_or_default() {
            let is_exec = |pipe: &Pipe| matches!(pipe.use_, Use::Exec(..));
            if self.pipes[slot].as_ref().is_some_and(is_exec) {
                self.read(slot, true, inbox);
            }
        }
    }

    fn read_output(&mut self, slot: usize, closed: bool, inbox: &mut impl FnMut(Event)) -> bool {
        let Some(Some(Pipe {
            service,
            name,
            use_: Use::Output(stream, lines, reader),
        })) = self.pipes.get_mut(slot)
        else {
            return false;
        };
        let (service, stream, at_ms) = (*service, *stream, clock::unix_ms());
        let Some(run) = self.runs.get_mut(service) else {
            // Of a removed service: it may go on writing, nobody keeps it.
            return match reader.read(&mut self.buffer) {
                Input::Nothing => false,
                Input::Bytes(_) => true,
                Input::End => {
                    self.close(slot);
                    false
                }
            };
        };
        let (most, work) = (run.buffer_lines, run.work);
        let head = work.file.map(|_| sinks::head(at_ms, stream));
        let source = Source {
            name,
            stream,
            at_ms,
            slot: Some(slot),
            head: head.as_deref().unwrap_or_default(),
        };
        let mut is_ready = None;
        let mut keep = |line: &[u8], ends: bool| {
            run.log.push(at_ms, stream, line, most);
            if let Some((text, pid)) = &run.awaited
                && holds(line, text.as_bytes())
            {
                is_ready = Some(*pid);
            }
            self.sinks.push(work, &source, line, ends);
        };
        let input = reader.read(&mut self.buffer);
        let more = match input {
            Input::Nothing => false,
            Input::Bytes(count) => {
                lines.push(&self.buffer[..count], keep);
                closed || count == READ_BYTES
            }
            Input::End => {
                lines.finish(|line| keep(line, true));
                false
            }
        };
        if let Some(pid) = is_ready {
            run.awaited = None;
            self.settle_exec(service, inbox);
            inbox(Event::Ready { pid });
        }
        if input == Input::End {
            self.close(slot);
        }
        more
    }

    fn close(&mut self, slot: usize) {
        if let Some(pipe) = self.pipes[slot].take() {
            self.free.push(slot);
            if let Some(run) = self.runs.get_mut(pipe.service) {
                run.pipes.retain(|known| *known != slot);
            }
        }
    }

    /// The PATH a program is looked for in.
    #[must_use]
    pub(super) fn path(&self, program: &Program) -> String {
        self.environment.path(program)
    }
}

fn outputs([stdout, stderr]: [Reader; 2]) -> [Use; 2] {
    [
        Use::Output(Stream::Stdout, Lines::default(), stdout),
        Use::Output(Stream::Stderr, Lines::default(), stderr),
    ]
}
