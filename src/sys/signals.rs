//! Signals as a descriptor (`signalfd(2)`).

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use nix::libc;
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What the server is told by signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Some child has ended; signals coalesce, so it may be many.
    Child,
    /// SIGTERM or SIGINT: end in order.
    Stop,
    /// SIGHUP: read the configuration anew.
    Reload,
}

/// The highest signal there is (`SIGRTMAX`, `signal(7)`).
const LAST_SIGNAL: libc::c_int = 64;

/// The signals of the server, blocked and read from a descriptor.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Gives every signal its default disposition but SIGPIPE, which is ignored, so that services
    /// inherit nothing odd from whoever started the server; then blocks those it listens to.
    ///
    /// # Errors
    /// As `signalfd(2)`.
    pub fn block() -> io::Result<Self> {
        (1..=LAST_SIGNAL).for_each(forget);
        // SAFETY: ignoring a signal runs no code of ours.
        unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn)? };
        let mut mask = SigSet::empty();
        for signal in [
            Signal::SIGCHLD,
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
        ] {
            mask.add(signal);
        }
        mask.thread_set_mask()?;
        Ok(Self(SignalFd::with_flags(
            &mask,
            SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC,
        )?))
    }

    /// The next one that has come.
    pub fn take_next(&mut self) -> Option<Notice> {
        let info = self.0.read_signal().ok().flatten()?;
        match i32::try_from(info.ssi_signo)
            .ok()
            .and_then(|number| Signal::try_from(number).ok())
        {
            Some(Signal::SIGCHLD) => Some(Notice::Child),
            Some(Signal::SIGHUP) => Some(Notice::Reload),
            _ => Some(Notice::Stop),
        }
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
