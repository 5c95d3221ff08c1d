//! Signals as a descriptor (`signalfd(2)`).

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;

/// What the server is told by signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Some child has ended; signals coalesce, so it may be many.
    Child,
    /// SIGHUP: read the configuration anew.
    Reload,
    /// SIGTERM.
    Terminate,
    /// SIGINT: Ctrl-C, and on the console of a machine Ctrl-Alt-Del.
    Interrupt,
    /// SIGUSR1.
    First,
    /// SIGUSR2.
    Second,
    /// SIGPWR: the power fails, or a virtual machine is to end.
    Power,
    /// `SIGRTMIN` and so much: 3 to 6, as managers of containers send them.
    Runtime(u8),
}

/// Who listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listens {
    /// A server: Child, Reload, Terminate and Interrupt.
    Server,
    /// PID 1: all.
    First,
}

/// `SIGRTMIN` of the C library that those who send them are linked with. The kernel's is 32, and
/// every library keeps some to itself; the numbers below are what arrives.
const FIRST_RUNTIME: libc::c_int = 34;

/// `SIGRTMIN+3` to `SIGRTMIN+6`: halt, power off, reboot, kexec (as `systemd(1)` has them).
const RUNTIME: std::ops::RangeInclusive<libc::c_int> = FIRST_RUNTIME + 3..=FIRST_RUNTIME + 6;

/// The highest signal there is (`SIGRTMAX`, `signal(7)`).
const LAST_SIGNAL: libc::c_int = 64;

/// How often a read is tried that fails for no reason a kernel is known to have.
const READ_TRIES: usize = 4;

/// The signals of the server, blocked and read from a descriptor.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Gives every signal its default disposition but SIGPIPE, which is ignored, so that services
    /// inherit nothing odd from whoever started the server; then blocks those it listens to.
    ///
    /// # Errors
    /// As `signalfd(2)`.
    pub fn block(listens: Listens) -> io::Result<Self> {
        (1..=LAST_SIGNAL).for_each(forget);
        // SAFETY: ignoring a signal runs no code of ours.
        unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn)? };
        let mask = mask(listens);
        mask.thread_set_mask()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Ok(Self(SignalFd::with_flags(&mask, flags)?))
    }

    /// The next one that has come. A read that fails leaves it where it is, and nothing would tell of
    /// it again: so it is read once more.
    pub fn take_next(&mut self) -> Option<Notice> {
        let info = (0..READ_TRIES).find_map(|_| self.0.read_signal().ok())??;
        let number = i32::try_from(info.ssi_signo).ok()?;
        Some(match Signal::try_from(number) {
            Ok(Signal::SIGCHLD) => Notice::Child,
            Ok(Signal::SIGHUP) => Notice::Reload,
            Ok(Signal::SIGINT) => Notice::Interrupt,
            Ok(Signal::SIGUSR1) => Notice::First,
            Ok(Signal::SIGUSR2) => Notice::Second,
            Ok(Signal::SIGPWR) => Notice::Power,
            Ok(_) => Notice::Terminate,
            Err(_) => Notice::Runtime(u8::try_from(number - FIRST_RUNTIME).unwrap_or(0)),
        })
    }
}

/// The signals that are listened to.
fn mask(listens: Listens) -> SigSet {
    let mut mask = SigSet::empty();
    for signal in [
        Signal::SIGCHLD,
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
    ] {
        mask.add(signal);
    }
    if listens == Listens::Server {
        return mask;
    }
    for signal in [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGPWR] {
        mask.add(signal);
    }
    let mut raw: libc::sigset_t = *mask.as_ref();
    for number in RUNTIME {
        // SAFETY: the set is a valid one.
        unsafe { libc::sigaddset(&raw mut raw, number) };
    }
    // SAFETY: the set is a valid one.
    unsafe { SigSet::from_sigset_t_unchecked(raw) }
}

/// Blocks what PID 1 listens to, as its very first act: from then on nothing that is sent is lost.
pub fn hold() {
    let _ = mask(Listens::First).thread_block();
}

/// Undoes what this program did to its signals, for another that takes its place.
pub fn release() {
    // SAFETY: the default disposition runs no code of ours.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
    let _ = SigSet::empty().thread_set_mask();
}

/// Waits for one of these two, so long at most: a child's end, or Ctrl-Alt-Del. For the last
/// moments of a machine, when there is no loop any more.
#[must_use]
pub fn wait_for_end(patience: Duration) -> Option<Notice> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.add(Signal::SIGINT);
    let time = TimeSpec::from_duration(patience);
    // SAFETY: both pointers are valid; nobody asks for more than the number.
    let number = unsafe { libc::sigtimedwait(mask.as_ref(), std::ptr::null_mut(), time.as_ref()) };
    match Signal::try_from(number) {
        Ok(Signal::SIGCHLD) => Some(Notice::Child),
        Ok(_) => Some(Notice::Interrupt),
        Err(_) => None,
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Gives a signal its default disposition. By the bare system call, as the C library keeps two of
/// the real-time signals to itself and does not touch those; what can't be changed stays.
fn forget(number: libc::c_int) {
    /// The kernel's `struct sigaction`: handler, flags, restorer and mask, all of them nothing.
    const DEFAULT: [u64; 4] = [0; 4];
    let mask_bytes: usize = 8;
    let none = std::ptr::null_mut::<u64>();
    // SAFETY: the kernel reads one structure, and is told that there is no place for the old one.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            number,
            DEFAULT.as_ptr(),
            none,
            mask_bytes,
        );
    }
}
