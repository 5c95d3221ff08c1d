//! Signals as a descriptor (`signalfd(2)`).

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
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
        for signal in
            Signal::iterator().filter(|signal| !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP))
        {
            let handler = if signal == Signal::SIGPIPE {
                SigHandler::SigIgn
            } else {
                SigHandler::SigDfl
            };
            let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
            // SAFETY: no handler function is installed, so nothing of ours runs in signal context.
            unsafe { sigaction(signal, &action)? };
        }
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
