//! When an ended process is started again, and after how long.

use std::time::Duration;

use super::spec::{Lifecycle, RestartPolicy, Spec};

/// Restarts in a row so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restarts {
    /// How many there were.
    pub count: u32,
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
    pub(super) fn take(&mut self, spec: &Spec, failed: bool, salt: u64) -> Option<Duration> {
        let lifecycle = &spec.lifecycle;
        let wanted = match lifecycle.restart {
            RestartPolicy::Always => failed || !spec.is_oneshot(),
            RestartPolicy::OnFailure => failed,
            RestartPolicy::Never => false,
        };
        let left = lifecycle.max_restarts == 0 || self.count < lifecycle.max_restarts;
        if !wanted || !left {
            return None;
        }
        let delay = self.next_delay(lifecycle);
        self.count = self.count.saturating_add(1);
        Some(spread(delay, salt, self.count))
    }
}

/// Up to a tenth more or less, so that what failed together is not started together.
fn spread(delay: Duration, salt: u64, count: u32) -> Duration {
    if salt == 0 {
        return delay;
    }
    let percent = scatter(salt ^ u64::from(count)) % 21;
    delay * (90 + u32::try_from(percent).unwrap_or(10)) / 100
}

/// A number whose bits each depend on all bits of another (the finaliser of `SplitMix64`).
pub(super) fn scatter(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::spec::Exec;

    fn with(lifecycle: Lifecycle) -> Spec {
        Spec {
            lifecycle,
            ..Spec::new("a", Exec::Line("a".to_owned()))
        }
    }

    /// The series that was observed with zinit 0.3.9.
    #[test]
    fn delays_double_to_the_maximum_and_end_after_max_restarts() {
        let lifecycle = Lifecycle {
            restart_delay: Duration::from_millis(100),
            restart_delay_max: Duration::from_millis(400),
            max_restarts: 4,
            ..Lifecycle::default()
        };
        let spec = with(lifecycle);
        let mut restarts = Restarts::default();
        let delays: Vec<_> = std::iter::from_fn(|| restarts.take(&spec, true, 0))
            .map(|delay| delay.as_millis())
            .collect();
        assert_eq!(delays, [100, 200, 400, 400]);
    }

    #[test]
    fn a_salt_spreads_delays_by_a_tenth_at_most() {
        let spec = with(Lifecycle {
            restart_delay: Duration::from_millis(1000),
            restart_delay_max: Duration::from_millis(1000),
            max_restarts: 0,
            ..Lifecycle::default()
        });
        let delays: Vec<u128> = (1..1000)
            .filter_map(|salt| Restarts::default().take(&spec, true, salt))
            .map(|delay| delay.as_millis())
            .collect();
        assert_eq!(delays.iter().min(), Some(&900));
        assert_eq!(delays.iter().max(), Some(&1100));
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
