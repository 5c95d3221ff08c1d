//! Reading what services write and say, each pipe for what it is for.

use super::runs::{Pipe, READ_BYTES, Runs, Use};
use super::sinks::{self, Source};
use crate::engine::{Event, Pid, ServiceId};
use crate::sys::clock;
use crate::sys::output::holds;
use crate::sys::pipe::Input;
use crate::sys::process;

/// Reads from a pipe of a program that has ended: the most that a pipe can hold
/// (`/proc/sys/fs/pipe-max-size`), and some.
const READS_AT_EXIT: usize = 20;

/// Datagrams of one service in one turn.
const DATAGRAMS_A_TURN: usize = 64;

/// Last lines of probes that are kept.
const PROBES_MAX: usize = 1024;

impl Runs {
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

    /// Before the end of an errand is told: what it said about exec, and the last words of a probe.
    /// What a hook wrote comes as any other output.
    pub(super) fn before_errand_ends(&mut self, service: ServiceId, of: Pid) {
        let is_its = |pipe: &Pipe| match &pipe.use_ {
            Use::ErrandExec(pid, _) | Use::Quiet(pid, ..) => *pid == of,
            Use::Exec(..) | Use::Output(..) | Use::Ready(..) | Use::Notify(_) => false,
        };
        let slots = self.runs.get(service).map(|run| run.pipes.clone());
        for slot in slots.unwrap_or_default() {
            if self.pipes[slot].as_ref().is_some_and(is_its) {
                for _ in 0..READS_AT_EXIT {
                    if !self.read(slot, true, &mut |_| ()) {
                        break;
                    }
                }
            }
        }
    }

    /// Reads once. False if there is nothing more for now.
    pub(super) fn read(
        &mut self,
        slot: usize,
        closed: bool,
        inbox: &mut impl FnMut(Event),
    ) -> bool {
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
                // Whoever a probe has left behind has nobody who waits for what it writes.
                while self.last_lines.len() > PROBES_MAX {
                    self.last_lines.pop_first();
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
}
