//! The processes of services as the shell sees them: how they are started, what they write.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry};

use super::family::{ERRAND, Families, MARK};
use super::forward::Forward;
use super::launch::{Environment, NoProcess, UNUSABLE, listen_variables, scarce, told};
use super::place::Place;
use super::sinks::{Pipework, Sinks, Source};
use crate::engine::spec::{Exec, Program, Readiness};
use crate::engine::{
    ErrandId, Event, Exit, Pid, ServiceId, Signal, SpawnError, Spec, Step, Table, Time,
};
use crate::sys::cgroup::{Cgroup, Cgroups};
use crate::sys::clock;
use crate::sys::kill;
use crate::sys::notify::{Datagram, Datagrams};
use crate::sys::output::{Lines, LogLine, Ring, Stream};
use crate::sys::pipe::{self, Reader};
use crate::sys::process::{self, Child, Slate, Stdio};

/// Bytes read from a pipe at once: what a pipe holds (`pipe(7)`).
pub(super) const READ_BYTES: usize = 64 << 10;

/// Reads from one pipe in one turn; a service that writes without end waits for the others.
const READS_A_TURN: usize = 4;

/// Lines that are kept of a service when memory is short.
const FEW_LINES: usize = 20;

/// Lines of the system's log that are nobody's.
const OTHERS_LINES: usize = 1000;

/// Processes and their pipes.
pub(super) struct Runs {
    pub(super) runs: Table<Run>,
    pub(super) pipes: Vec<Option<Pipe>>,
    /// Places in `pipes` that hold none.
    pub(super) free: Vec<usize>,
    /// Children that are on their way to their programs.
    execs: usize,
    /// Pipes that may hold more than was read in this turn.
    pub(super) busy: Vec<usize>,
    pub(super) slate: Slate,
    pub(super) environment: Environment,
    pub(super) cgroups: Rc<Cgroups>,
    pub(super) buffer: Box<[u8]>,
    /// Where output goes on to.
    pub(super) sinks: Sinks,
    /// What was said to the system's log by nobody in particular.
    pub(super) others: Ring,
    /// Pipes that are not read while too much waits there.
    pub(super) paused: Vec<usize>,
    /// What services said by `sd_notify(3)` and is still to be heard.
    pub(super) said: Vec<(ServiceId, Datagram)>,
    /// Why errands did not become their programs.
    pub(super) not_run: BTreeMap<Pid, SpawnError>,
    /// The last lines of probes.
    pub(super) last_lines: BTreeMap<Pid, String>,
}

/// What is kept of a service over its runs.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) log: Ring,
    pub(super) buffer_lines: usize,
    /// Where its lines go beside that.
    pub(super) work: Pipework,
    /// Places of its pipes that are open.
    pub(super) pipes: Vec<usize>,
    /// Processor time at the last look, in ticks, and when that was.
    pub(super) used: Option<(u64, Time)>,
    /// The text that makes it ready, and its main process.
    pub(super) awaited: Option<(String, Pid)>,
    /// How its last main process ended.
    pub(super) exit: Option<Exit>,
    /// How many of its processes had been killed for memory when it was started; none if its end is
    /// not the kernel's doing any more.
    pub(super) memory_kills: Option<u64>,
}

pub(super) struct Pipe {
    pub(super) service: ServiceId,
    pub(super) name: Rc<str>,
    pub(super) use_: Use,
}

/// What a pipe is for.
pub(super) enum Use {
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
    /// Does it tell of an exec?
    fn is_exec(&self) -> bool {
        match self {
            Self::Exec(..) | Self::ErrandExec(..) => true,
            Self::Output(..) | Self::Ready(..) | Self::Notify(_) | Self::Quiet(..) => false,
        }
    }

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
            execs: 0,
            busy: Vec::new(),
            slate,
            environment: Environment::new(is_private),
            cgroups,
            buffer: vec![0; READ_BYTES].into(),
            sinks: Sinks::new(forward),
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
        (stdio, sockets): (Stdio, Vec<OwnedFd>),
        families: &mut Families,
        registry: &Registry,
    ) -> Result<Pid, NoProcess> {
        let program = spec.program().ok_or((UNUSABLE, false))?;
        self.quit_notify(service);
        let mut more = vec![(MARK, families.mark(&spec.name))];
        if !sockets.is_empty() {
            more.extend(listen_variables(spec, program));
        }
        let notify = self.notify_socket(spec, &mut more)?;
        let cgroup = self.cgroup(spec, program);
        let launched = self
            .environment
            .launch(program, &program.exec, stdio, &more, cgroup);
        let mut launch = launched.map_err(|error| (error, false))?;
        launch.listens = !sockets.is_empty();
        // The first one is number 3 (`SD_LISTEN_FDS_START`, sd_listen_fds(3)).
        launch.pass = sockets.into_iter().zip(3..).collect();
        let ready = match spec.readiness {
            Readiness::Fd(number) => {
                let (reader, writer) = pipe::pipe().map_err(scarce)?;
                launch.pass.push((writer, number));
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
        run.buffer_lines = spec.logging.buffer_lines;
        run.used = None;
        run.memory_kills = Some(memory_kills);
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
        // A hook before the start is there before the main process.
        let existing = self.cgroups.existing(&spec.name);
        let cgroup = existing.or_else(|| self.cgroup(spec, program));
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
        // What an errand finds stays: less may be kept for want of memory, until the next start.
        if run.buffer_lines == 0 {
            run.buffer_lines = spec.logging.buffer_lines;
        }
        run.work = work;
    }

    /// Keeps only the last few lines of each service from now on, until its next start.
    pub(super) fn spare_memory(&mut self) {
        let services: Vec<ServiceId> = self.runs.iter().map(|(service, _)| service).collect();
        for service in services {
            let run = self.runs.or_default(service);
            run.buffer_lines = run.buffer_lines.min(FEW_LINES);
            run.log.keep(FEW_LINES);
        }
        self.others.keep(FEW_LINES);
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
            self.execs += usize::from(use_.is_exec());
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

    fn cgroup(&self, spec: &Spec, program: &Program) -> Option<Cgroup> {
        let (cgroup, unmet) = self.cgroups.prepare(&spec.name, &program.resources);
        for text in unmet {
            log::warn!("{}: resources: {text}", spec.name);
        }
        cgroup
    }

    /// A service is killed by us, and not for memory, whomever of its processes the kernel has
    /// killed for that before.
    pub(super) fn note_kill(&mut self, service: ServiceId) {
        if let Some(run) = self.runs.get_mut(service) {
            run.memory_kills = None;
        }
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
        let exit = if run.memory_kills.is_some_and(|before| kills > before) {
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
                if !self.paused.contains(&slot) {
                    self.paused.push(slot);
                }
                return;
            }
            if !self.read(slot, closed, inbox) {
                return;
            }
        }
        if !self.busy.contains(&slot) {
            self.busy.push(slot);
        }
    }

    /// Has this pipe to wait, because what it brings is not taken?
    fn is_held_up(&mut self, slot: usize) -> bool {
        let Some(Some(pipe)) = self.pipes.get(slot) else {
            return false;
        };
        // What a service says of itself is always heard.
        if !matches!(pipe.use_, Use::Output(..)) {
            return false;
        }
        if self.sinks.forward.as_ref().is_some_and(Forward::is_full) {
            return true;
        }
        let run = self.runs.get(pipe.service);
        let file = run.and_then(|run| run.work.file);
        file.is_some_and(|file| self.sinks.keeper.is_full(clock::now(), file))
    }

    /// Sends output on, as far as it is taken; pipes that had to wait for that are read again.
    pub(super) fn flush(&mut self, registry: &Registry) {
        let now = clock::now();
        let has_room = self.sinks.keeper.step(now, registry);
        self.sinks.ships.flush(now);
        let is_freed = self.sinks.forward.as_mut().is_some_and(|forward| {
            let was_full = forward.is_full();
            forward.flush();
            was_full && !forward.is_full()
        });
        // Only then: who waits for a file would come back each turn.
        if has_room || is_freed {
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
        forward.is_some_and(Forward::is_waiting)
            || self.sinks.keeper.is_waiting()
            || self.sinks.ships.is_waiting()
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

    /// The service is no more, and its log with it.
    pub(super) fn removed(&mut self, service: ServiceId) {
        self.quit_notify(service);
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

    pub(super) fn close(&mut self, slot: usize) {
        if let Some(pipe) = self.pipes[slot].take() {
            self.execs -= usize::from(pipe.use_.is_exec());
            self.free.push(slot);
            if let Some(run) = self.runs.get_mut(pipe.service) {
                run.pipes.retain(|known| *known != slot);
            }
        }
    }

    /// Is a child on its way to its program? It has all descriptors that were open when it was made.
    #[must_use]
    pub(super) fn is_exec_pending(&self) -> bool {
        self.execs > 0
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
