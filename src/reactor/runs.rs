//! The processes of services as the shell sees them: how they are started, what they write.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::rc::Rc;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::family::{Families, MARK};
use super::forward::Forward;
use crate::config;
use crate::engine::spec::{Exec, Program};
use crate::engine::{Event, Pid, ServiceId, SpawnError, Spec, Step, Table, Time};
use crate::sys::clock;
use crate::sys::output::{Lines, LogLine, Ring, Stream};
use crate::sys::pipe::{Input, Reader};
use crate::sys::process::{self, Launch, Slate, Stdio};

/// Bytes read from a pipe at once: what a pipe holds (`pipe(7)`).
const READ_BYTES: usize = 64 << 10;

/// Reads from one pipe in one turn; a service that writes without end waits for the others.
const READS_A_TURN: usize = 4;

/// Reads from a pipe of a program that has ended: the most that a pipe can hold
/// (`/proc/sys/fs/pipe-max-size`), and some.
const READS_AT_EXIT: usize = 20;

/// Where programs are looked for if nothing says otherwise (as `execvp(3)` of most systems).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Processes and their pipes.
pub(super) struct Runs {
    runs: Table<Run>,
    pipes: Vec<Option<Pipe>>,
    /// Places in `pipes` that hold none.
    free: Vec<usize>,
    /// Pipes that may hold more than was read in this turn.
    busy: Vec<usize>,
    slate: Slate,
    /// The server's environment.
    environment: Vec<(OsString, CString)>,
    buffer: Box<[u8]>,
    /// Where output goes on to.
    forward: Option<Forward>,
    /// Pipes that are not read while too much waits there.
    paused: Vec<usize>,
}

/// What is kept of a service over its runs.
#[derive(Debug, Default)]
struct Run {
    log: Ring,
    buffer_lines: usize,
    /// Places of its pipes that are open.
    pipes: Vec<usize>,
    /// Processor time at the last look, in ticks, and when that was.
    used: Option<(u64, Time)>,
}

struct Pipe {
    service: ServiceId,
    name: Rc<str>,
    reader: Reader,
    use_: Use,
}

/// What a pipe is for.
enum Use {
    /// Tells of exec.
    Exec(Pid),
    /// Output.
    Output(Stream, Lines),
}

impl Runs {
    /// No runs yet.
    #[must_use]
    pub(super) fn new(slate: Slate, forward: Option<Forward>) -> Self {
        let entry = |(name, value): (OsString, OsString)| {
            let mut bytes = name.as_bytes().to_vec();
            bytes.push(b'=');
            bytes.extend(value.as_bytes());
            Some((name, CString::new(bytes).ok()?))
        };
        // The mark is set for each service; the server's own must not stand beside it.
        let environment = std::env::vars_os()
            .filter(|(name, _)| name != MARK)
            .filter_map(entry)
            .collect();
        Self {
            runs: Table::default(),
            pipes: Vec::new(),
            free: Vec::new(),
            busy: Vec::new(),
            slate,
            environment,
            buffer: vec![0; READ_BYTES].into(),
            forward,
            paused: Vec::new(),
        }
    }

    /// Starts the program of a service.
    ///
    /// # Errors
    /// If there is no process; scarce says that the machine was out of something.
    pub(super) fn spawn(
        &mut self,
        service: ServiceId,
        spec: &Spec,
        stdio: Stdio,
        families: &mut Families,
        registry: &Registry,
        token: impl Fn(usize) -> Token,
    ) -> Result<Pid, (SpawnError, bool)> {
        let program = spec.program().ok_or_else(unusable)?;
        let launch = self.launch(&spec.name, program, stdio, families)?;
        let child = process::spawn(&launch, &self.slate)
            .map_err(|error| (error, process::is_scarcity(error)))?;
        let pid = child.pid;
        let inodes = child
            .output
            .as_ref()
            .map(|pipes| pipes.each_ref().map(Reader::inode));
        families.began(service, pid, inodes);
        let run = self.runs.or_default(service);
        run.buffer_lines = spec.logging.buffer_lines;
        run.used = None;
        let output = |stream| Use::Output(stream, Lines::default());
        let exec = [(child.exec, Use::Exec(pid))].into_iter();
        let streams = [output(Stream::Stdout), output(Stream::Stderr)];
        let outputs = child.output.into_iter().flatten().zip(streams);
        for (reader, use_) in exec.chain(outputs) {
            let slot = self.free.pop().unwrap_or(self.pipes.len());
            if slot == self.pipes.len() {
                self.pipes.push(None);
            }
            // A pipe that can't be watched is one that the service fills and waits on for ever: no
            // such run. The child is an orphan then, and collected as such.
            if let Err(error) = registry.register(
                &mut SourceFd(&reader.as_raw_fd()),
                token(slot),
                Interest::READABLE,
            ) {
                crate::sys::kill::kill_child(pid, crate::engine::Signal::KILL);
                self.free.push(slot);
                let errno = error.raw_os_error().unwrap_or_default();
                return Err((
                    SpawnError {
                        step: Step::Fork,
                        errno,
                    },
                    true,
                ));
            }
            self.pipes[slot] = Some(Pipe {
                service,
                name: Rc::clone(&spec.name),
                reader,
                use_,
            });
            self.runs.or_default(service).pipes.push(slot);
        }
        Ok(pid)
    }

    /// A pipe has something to read, or has been closed.
    pub(super) fn ready(&mut self, slot: usize, closed: bool, inbox: &mut impl FnMut(Event)) {
        for _ in 0..READS_A_TURN {
            if self.forward.as_ref().is_some_and(Forward::is_full) {
                return self.paused.push(slot);
            }
            if !self.read(slot, closed, inbox) {
                return;
            }
        }
        self.busy.push(slot);
    }

    /// Sends output on, as far as it is taken; pipes that had to wait for that are read again.
    pub(super) fn flush(&mut self) {
        let Some(forward) = &mut self.forward else {
            return;
        };
        forward.flush();
        if !forward.is_full() {
            self.busy.append(&mut self.paused);
        }
    }

    /// Does output wait to be sent on?
    #[must_use]
    pub(super) fn is_waiting(&self) -> bool {
        self.forward.as_ref().is_some_and(Forward::is_waiting)
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
        if let Use::Exec(pid) = pipe.use_ {
            let Some(told) = process::read_exec(&mut pipe.reader) else {
                return false;
            };
            inbox(match told {
                Ok(()) => Event::Started { pid },
                Err(error) => Event::ExecFailed { pid, error },
            });
            self.close(slot);
            return false;
        }
        let Use::Output(stream, lines) = &mut pipe.use_ else {
            return false;
        };
        let (stream, at_ms) = (*stream, clock::unix_ms());
        let Some(run) = self.runs.get_mut(pipe.service) else {
            // Of a removed service: it may go on writing, nobody keeps it.
            return match pipe.reader.read(&mut self.buffer) {
                Input::Nothing => false,
                Input::Bytes(_) => true,
                Input::End => {
                    self.close(slot);
                    false
                }
            };
        };
        let most = run.buffer_lines;
        let mut keep = |line: &[u8], ends: bool| {
            run.log.push(at_ms, stream, line, most);
            if let Some(forward) = &mut self.forward {
                forward.push(stream, slot, &pipe.name, line, ends);
            }
        };
        match pipe.reader.read(&mut self.buffer) {
            Input::Nothing => false,
            Input::Bytes(count) => {
                lines.push(&self.buffer[..count], keep);
                closed || count == READ_BYTES
            }
            Input::End => {
                lines.finish(|line| keep(line, true));
                self.close(slot);
                false
            }
        }
    }

    fn close(&mut self, slot: usize) {
        if let Some(pipe) = self.pipes[slot].take() {
            self.free.push(slot);
            if let Some(run) = self.runs.get_mut(pipe.service) {
                run.pipes.retain(|known| *known != slot);
            }
        }
    }

    fn launch(
        &self,
        name: &Rc<str>,
        program: &Program,
        stdio: Stdio,
        families: &Families,
    ) -> Result<Launch, (SpawnError, bool)> {
        let text = |bytes: Vec<u8>| CString::new(bytes).map_err(|_| unusable());
        let words = match &program.exec {
            Exec::Words(words) => words.clone(),
            Exec::Line(line) => config::words(line)
                .unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()]),
        };
        let first = words.first().ok_or_else(unusable)?;
        let programs = self
            .places(first, program)
            .into_iter()
            .map(text)
            .collect::<Result<_, _>>()?;
        let mut environment: Vec<CString> = self
            .environment
            .iter()
            .filter(|(known, _)| {
                known
                    .to_str()
                    .is_none_or(|known| !program.env.contains_key(known))
            })
            .map(|(_, entry)| entry.clone())
            .collect();
        for (key, value) in &program.env {
            environment.push(text(format!("{key}={value}").into_bytes())?);
        }
        environment.push(text(
            format!("{MARK}={}", families.mark(name)).into_bytes(),
        )?);
        Ok(Launch {
            programs,
            arguments: words
                .into_iter()
                .map(|word| text(word.into_bytes()))
                .collect::<Result<_, _>>()?,
            environment,
            dir: program
                .dir
                .as_ref()
                .map(|dir| text(dir.clone().into_os_string().into_vec()))
                .transpose()?,
            stdio,
        })
    }

    /// Where a program of that name may be: itself if it names a path, else along PATH.
    fn places(&self, first: &str, program: &Program) -> Vec<Vec<u8>> {
        if first.contains('/') {
            return vec![first.as_bytes().to_vec()];
        }
        let path = self.path(program);
        let dirs = path
            .split(':')
            .map(|dir| if dir.is_empty() { "." } else { dir });
        dirs.map(|dir| format!("{dir}/{first}").into_bytes())
            .collect()
    }

    /// The PATH a program is looked for in.
    #[must_use]
    pub(super) fn path(&self, program: &Program) -> String {
        let own = || std::env::var("PATH").ok();
        program
            .env
            .get("PATH")
            .cloned()
            .or_else(own)
            .unwrap_or_else(|| DEFAULT_PATH.to_owned())
    }
}

/// A text that the kernel can't take, because it holds a NUL; configuration refuses those.
fn unusable() -> (SpawnError, bool) {
    let errno = io::Error::from(nix::Error::EINVAL)
        .raw_os_error()
        .unwrap_or_default();
    (
        SpawnError {
            step: Step::Exec,
            errno,
        },
        false,
    )
}
