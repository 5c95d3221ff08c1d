//! The end of a machine: who is left is ended, what is mounted is unmounted, and the kernel is told.
//!
//! All of it is done by children. Whatever hangs hangs one of them, and PID 1 goes on to the next
//! step when its time is over; it never calls `reboot(2)` itself, which would end it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::say;
use crate::engine::{Pid, Signal};
use crate::sys::machine::{self, Verb};
use crate::sys::procfs::{self, Stat};
use crate::sys::signals::{self, Notice};
use crate::sys::{kill, mount, process, seed};

/// Time for everything before the kernel is told.
const ALL: Duration = Duration::from_secs(45);

/// Time for the kernel to do it.
const KERNEL: Duration = Duration::from_secs(10);

/// Time between SIGTERM to all that is left, and SIGKILL.
const POLITE: Duration = Duration::from_secs(5);

/// Time for what was killed to vanish.
const KILLED: Duration = Duration::from_secs(2);

/// Time for one file system; a dead network takes for ever.
const MOUNT: Duration = Duration::from_secs(5);

/// Time to write out what is not written yet.
const SYNC: Duration = Duration::from_secs(15);

/// Ctrl-Alt-Del so many times within two seconds ends the wait.
const IMPATIENCE: usize = 7;
const IMPATIENCE_SPAN: Duration = Duration::from_secs(2);

/// Rounds of unmounting: what is mounted on something else has to go first.
const ROUNDS: usize = 4;

/// Ends the machine's run. `hurry` leaves out whatever takes time.
pub(super) fn down(verb: Verb, hurry: bool) -> ! {
    if hurry {
        supervise(MOUNT, machine_sync);
    } else {
        let done = supervise(ALL, || {
            end_processes();
            undo();
            0
        });
        // Whatever did not answer, what can be written is.
        if !done {
            supervise(MOUNT, machine_sync);
        }
    }
    say(verb.text());
    supervise(KERNEL, || {
        if let Err(errno) = machine::end(verb) {
            say(&format!("{} failed: {errno}", verb.text()));
            // Whoever wanted another kernel does not want to stay in this one.
            if verb == Verb::Kexec {
                let _ = machine::end(Verb::Reboot);
            }
        }
        1
    });
    if verb != Verb::Halt {
        machine::end_by_sysrq(verb);
    }
    say("the kernel does not end; it is safe to switch off");
    loop {
        let _ = signals::wait_for_end(KERNEL);
        while let Some((pid, _)) = process::peek_dead() {
            process::collect(pid);
        }
    }
}

/// Has a child do `work`, and waits for it so long at most. Meanwhile everybody else's children
/// are collected, and Ctrl-Alt-Del is listened to. Is it done?
fn supervise(patience: Duration, work: impl FnOnce() -> i32) -> bool {
    let Ok(child) = process::child(work) else {
        say("no process can be made for this; going on");
        return false;
    };
    let until = Instant::now() + patience;
    let mut interrupts: Vec<Instant> = Vec::new();
    loop {
        while let Some((pid, _)) = process::peek_dead() {
            process::collect(pid);
            if pid == child {
                return true;
            }
        }
        let now = Instant::now();
        if now >= until {
            say("time is over; going on");
            return false;
        }
        if signals::wait_for_end(until - now) == Some(Notice::Interrupt) {
            interrupts.retain(|at| now - *at <= IMPATIENCE_SPAN);
            interrupts.push(now);
            if interrupts.len() >= IMPATIENCE {
                say("Ctrl-Alt-Del 7 times: going on");
                return false;
            }
        }
    }
}

/// Asks whoever is left to end, and kills who does not.
fn end_processes() {
    let left = everybody();
    if left.is_empty() {
        return;
    }
    log::info!("ending {} processes that belong to no service", left.len());
    for (signal, patience) in [(Signal::TERM, POLITE), (Signal::KILL, KILLED)] {
        let left = everybody();
        for stat in &left {
            kill::kill(stat, signal);
            kill::kill(stat, Signal::CONT);
        }
        if wait_for_none(signal, patience) {
            return;
        }
    }
    say(&format!("can't be killed: {}", named(&everybody())));
}

fn wait_for_none(signal: Signal, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    let mut told = Instant::now();
    loop {
        let left = everybody();
        let now = Instant::now();
        if left.is_empty() || now >= until {
            return left.is_empty();
        }
        if now.duration_since(told) >= Duration::from_secs(1) {
            told = now;
            let seconds = (until - now).as_secs() + 1;
            say(&format!(
                "waiting {seconds} s for {} after {signal}",
                named(&left)
            ));
        }
        let _ = signals::wait_for_end(Duration::from_millis(20));
    }
}

fn named(left: &[Stat]) -> String {
    let names: Vec<String> = left
        .iter()
        .take(8)
        .map(|stat| format!("{} ({})", stat.name, stat.pid))
        .collect();
    names.join(", ")
}

/// Every process but PID 1, this one, the kernel's own, and those that keep the root alive and say
/// so by an `@` at the begin of their name (systemd's "Storage Daemons for the Root File System").
fn everybody() -> Vec<Stat> {
    let own = i32::try_from(std::process::id()).ok().and_then(Pid::new);
    let others = procfs::all_pids().filter(|pid| pid.number() != 1 && Some(*pid) != own);
    others
        .filter_map(procfs::stat)
        .filter(|stat| stat.has_memory && !stat.is_dead())
        .filter(|stat| !procfs::command_line(stat.pid).starts_with('@'))
        .collect()
}

/// Keeps the seed, gives back swap, unmounts everything and writes out the rest.
fn undo() {
    process::bounded(MOUNT, || {
        if let Err(error) = seed::save() {
            log::debug!("no random seed is kept: {error}");
        }
        0
    });
    process::bounded(SYNC, || {
        machine::swap_off();
        0
    });
    let mut stuck = BTreeSet::new();
    for _ in 0..ROUNDS {
        let mut progress = false;
        let mut left = false;
        for mount in mount::mounts().unwrap_or_default().iter().rev() {
            let is_root = mount.point.as_os_str() == "/";
            if is_root || mount::is_transient(mount) || stuck.contains(&mount.point) {
                continue;
            }
            let unmount = || i32::from(mount::unmount(&mount.point).is_err());
            match process::bounded(MOUNT, unmount) {
                Some(0) => progress = true,
                Some(_) => left = true,
                None => {
                    say(&format!("{} does not answer", mount.point.display()));
                    stuck.insert(mount.point.clone());
                }
            }
        }
        if !(left && progress) {
            break;
        }
    }
    let rest = mount::mounts().unwrap_or_default();
    for mount in rest
        .iter()
        .rev()
        .filter(|mount| !mount::is_transient(mount))
    {
        if stuck.contains(&mount.point) {
            continue;
        }
        let point = &mount.point;
        let read_only = || i32::from(mount::make_read_only(point).is_err());
        if process::bounded(MOUNT, read_only) != Some(0) && !is_memory(&mount.kind) {
            say(&format!("{} could not be made read-only", point.display()));
        }
    }
    process::bounded(SYNC, machine_sync);
}

/// Nothing of these is there after the end anyway.
fn is_memory(kind: &str) -> bool {
    matches!(kind, "tmpfs" | "ramfs" | "overlay")
}

fn machine_sync() -> i32 {
    machine::sync();
    0
}
