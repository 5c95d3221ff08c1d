//! Signals to processes, sure to hit the one that is meant.
//!
//! A number alone may be reused between look and kill. A pidfd (`pidfd_open(2)`, Linux 5.3) pins
//! the process; its start time, read after the pin, tells that it is the one that was seen.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::machine::Verb;
use super::procfs::{Stat, stat};
use crate::engine::{Pid, Signal};

/// Signals the process that was seen, unless it is gone.
pub fn kill(seen: &Stat, signal: Signal) -> bool {
    let Some(pin) = Pin::of(seen.pid) else {
        return kill_unpinned(seen, signal);
    };
    if !is_still(seen) {
        return false;
    }
    match pin.send(signal) {
        Ok(()) => true,
        Err(nix::Error::ESRCH) => false,
        // A filter may know the one call and not the other.
        Err(_) => kill_unpinned(seen, signal),
    }
}

/// Signals a child that is not collected: nothing else can have its number.
pub fn kill_child(pid: Pid, signal: Signal) -> bool {
    // SAFETY: kill takes plain numbers; `pid` is positive, so it means one process.
    unsafe { libc::kill(pid.number(), signal.number()) == 0 }
}

/// Signals the process group of a child that is not collected.
pub fn kill_group(leader: Pid, signal: Signal) -> bool {
    // SAFETY: as above; minus a positive number means that group.
    unsafe { libc::kill(-leader.number(), signal.number()) == 0 }
}

/// Tells PID 1 how the machine's run is to end, by the signal it understands as that.
///
/// # Errors
/// As `kill(2)`.
pub fn signal_first(verb: Verb) -> io::Result<()> {
    let number = match verb {
        Verb::Poweroff => libc::SIGTERM,
        Verb::Reboot => libc::SIGINT,
        Verb::Halt => 37,
        Verb::Kexec => 40,
    };
    // SAFETY: kill takes plain numbers.
    nix::Error::result(unsafe { libc::kill(1, number) })?;
    Ok(())
}

/// Milliseconds between two looks at a process that there is no pidfd of.
const LOOK_PAUSE_MS: u8 = 10;

/// Asks processes that are not our children to end, waits as long as `patience`, and kills those
/// that did not. For the time before the loop runs: it waits.
pub fn end_all(seen: &[Stat], patience: Duration) {
    let asked: Vec<(&Stat, Option<Pin>)> =
        seen.iter().map(|stat| (stat, Pin::of(stat.pid))).collect();
    for (stat, _) in &asked {
        kill(stat, Signal::TERM);
        kill(stat, Signal::CONT);
    }
    let until = Instant::now() + patience;
    for (stat, pin) in &asked {
        let left = until.saturating_duration_since(Instant::now());
        if !ends_within(stat, pin.as_ref(), left) && kill(stat, Signal::KILL) {
            ends_within(stat, pin.as_ref(), patience);
        }
    }
}

/// Does this process end in that time? Without a pidfd it is looked at again and again.
fn ends_within(seen: &Stat, pin: Option<&Pin>, patience: Duration) -> bool {
    if let Some(pin) = pin {
        return pin.ends_within(patience);
    }
    let until = Instant::now() + patience;
    let lives = || stat(seen.pid).is_some_and(|now| now.start == seen.start && !now.is_dead());
    while lives() {
        if Instant::now() >= until {
            return false;
        }
        let _ = poll(&mut [], LOOK_PAUSE_MS);
    }
    true
}

/// Kernels before 5.3: the time between look and kill is as short as it can be.
fn kill_unpinned(seen: &Stat, signal: Signal) -> bool {
    is_still(seen) && kill_child(seen.pid, signal)
}

fn is_still(seen: &Stat) -> bool {
    stat(seen.pid).is_some_and(|now| now.start == seen.start)
}

struct Pin(OwnedFd);

impl Pin {
    fn of(pid: Pid) -> Option<Self> {
        // SAFETY: pidfd_open takes plain numbers and gives a new descriptor, close-on-exec.
        let number = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.number(), 0) };
        let number = i32::try_from(number).ok().filter(|number| *number >= 0)?;
        // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
        Some(Self(unsafe { OwnedFd::from_raw_fd(number) }))
    }

    /// A pidfd is readable once its process has ended.
    fn ends_within(&self, patience: Duration) -> bool {
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        poll(
            &mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)],
            timeout,
        )
        .is_ok_and(|ready| ready > 0)
    }

    fn send(&self, signal: Signal) -> nix::Result<()> {
        let no_info = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the descriptor is open, and a null siginfo is allowed.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal.number(),
                no_info,
                0,
            )
        };
        nix::Error::result(sent).map(drop)
    }
}
