//! When an ended process is started again, and after how long.

use std::time::Duration;

use super::spec::{Lifecycle, RestartPolicy};

/// Restarts in a row so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restarts {
    count: u32,
}

impl Restarts {
    /// How many there were.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.count
    }

    /// The delay before the next one: doubled with each, up to the maximum.
    #[must_use]
    pub fn next_delay(self, lifecycle: &Lifecycle) -> Duration {
        let factor = 1u32.checked_shl(self.count).unwrap_or(u32::MAX);
        lifecycle
            .restart_delay
            .saturating_mul(factor)
            .min(lifecycle.restart_delay_max)
    }

    /// Takes one more restart, if policy and maximum allow it, and says how long to wait first.
    pub(super) fn take(
        &mut self,
        lifecycle: &Lifecycle,
        oneshot: bool,
        failed: bool,
    ) -> Option<Duration> {
        let wanted = match lifecycle.restart {
            RestartPolicy::Always => failed || !oneshot,
            RestartPolicy::OnFailure => failed,
            RestartPolicy::Never => false,
        };
        let left = lifecycle.max_restarts == 0 || self.count < lifecycle.max_restarts;
        if !wanted || !left {
            return None;
        }
        let delay = self.next_delay(lifecycle);
        self.count = self.count.saturating_add(1);
        Some(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The series that was observed with zinit 0.3.9.
    #[test]
    fn delays_double_to_the_maximum_and_end_after_max_restarts() {
        let lifecycle = Lifecycle {
            restart_delay: Duration::from_millis(100),
            restart_delay_max: Duration::from_millis(400),
            max_restarts: 4,
            ..Lifecycle::default()
        };
        let mut restarts = Restarts::default();
        let delays: Vec<_> = std::iter::from_fn(|| restarts.take(&lifecycle, false, true))
            .map(|delay| delay.as_millis())
            .collect();
        assert_eq!(delays, [100, 200, 400, 400]);
    }

    #[test]
    fn a_delay_never_overflows() {
        let lifecycle = Lifecycle {
            max_restarts: 0,
            ..Lifecycle::default()
        };
        let restarts = Restarts { count: u32::MAX };
        assert_eq!(restarts.next_delay(&lifecycle), lifecycle.restart_delay_max);
    }
}
