//! Time: the monotonic clock and one timerfd (`timerfd_create(2)`).

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId as Clock, clock_gettime};

use crate::engine::Time;

/// Monotonic now. A clock set by hand does not move it.
#[must_use]
pub fn now() -> Time {
    let now = clock_gettime(Clock::CLOCK_MONOTONIC).expect("CLOCK_MONOTONIC is always there");
    let (seconds, nanos) = (now.tv_sec().unsigned_abs(), now.tv_nsec().unsigned_abs());
    Time::from_millis(seconds * 1000 + nanos / 1_000_000)
}

/// Wall clock in Unix milliseconds, for display only.
#[must_use]
pub fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Wakes the loop at one deadline.
#[derive(Debug)]
pub struct Alarm {
    timer: TimerFd,
    armed: Option<Time>,
}

impl Alarm {
    /// An alarm that is not armed.
    ///
    /// # Errors
    /// As `timerfd_create(2)`.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        Ok(Self {
            timer: TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?,
            armed: None,
        })
    }

    /// Sets it to `deadline`, or off. No system call if it is set so already.
    ///
    /// # Errors
    /// As `timerfd_settime(2)`.
    pub fn arm(&mut self, deadline: Option<Time>) -> io::Result<()> {
        if deadline == self.armed {
            return Ok(());
        }
        match deadline {
            None => self.timer.unset()?,
            Some(at) => {
                // Zero would mean off; a deadline at the clock's very start is long over.
                let ms = i64::try_from(at.as_millis().max(1)).unwrap_or(i64::MAX);
                let at = TimeSpec::new(ms / 1000, ms % 1000 * 1_000_000);
                self.timer.set(
                    Expiration::OneShot(at),
                    TimerSetTimeFlags::TFD_TIMER_ABSTIME,
                )?;
            }
        }
        self.armed = deadline;
        Ok(())
    }

    /// Takes note that it went off.
    pub fn drain(&mut self) {
        // Whatever comes of it, the next deadline is set anew, which takes the old one back.
        let _ = nix::unistd::read(self.timer.as_fd(), &mut [0; 8]);
        self.armed = None;
    }
}

impl AsRawFd for Alarm {
    fn as_raw_fd(&self) -> RawFd {
        self.timer.as_fd().as_raw_fd()
    }
}

/// A number that other starts of the server do not have: nothing that has to be a secret.
#[must_use]
pub fn salt() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id()) | 1
}

/// A moment of the wall clock, shown as `2026-01-31T23:59:59.999Z`.
#[derive(Clone, Copy, Debug)]
pub struct Utc(u64);

impl Utc {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self(unix_ms())
    }

    /// That Unix millisecond.
    #[must_use]
    pub const fn at(unix_ms: u64) -> Self {
        Self(unix_ms)
    }
}

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = i64::try_from(self.0 / 1000).unwrap_or_default();
        // SAFETY: all-zero is a valid value of this plain structure.
        let mut parts: nix::libc::tm = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are valid; gmtime_r(3) writes only to the second.
        unsafe { nix::libc::gmtime_r(&raw const seconds, &raw mut parts) };
        let (year, month) = (parts.tm_year + 1900, parts.tm_mon + 1);
        let (day, hour, minute, second) =
            (parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec);
        let ms = self.0 % 1000;
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z"
        )
    }
}
