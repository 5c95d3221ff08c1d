//! The timer wheel against a sorted set: after every operation both must say the same.
//!
//! `OPERATIONS=` how many.

#[path = "common/rng.rs"]
mod rng;

use std::collections::{BTreeMap, BTreeSet};

use rng::Rng;
use zinit::engine::{Time, TimerWheel};

const KEYS: usize = 300;

/// What a wheel is meant to be.
#[derive(Default)]
struct Model {
    by_key: BTreeMap<usize, Time>,
    by_time: BTreeSet<(Time, usize)>,
}

impl Model {
    fn set(&mut self, key: usize, deadline: Option<Time>) {
        if let Some(old) = self.by_key.remove(&key) {
            self.by_time.remove(&(old, key));
        }
        if let Some(new) = deadline {
            self.by_key.insert(key, new);
            self.by_time.insert((new, key));
        }
    }

    fn next(&self) -> Option<Time> {
        self.by_time.first().map(|(time, _)| *time)
    }

    fn take_due(&mut self, now: Time) -> Vec<usize> {
        let mut due = Vec::new();
        while let Some((time, key)) = self.by_time.first().copied() {
            if time > now {
                break;
            }
            self.set(key, None);
            due.push(key);
        }
        due
    }
}

/// A span of any order of magnitude: a few milliseconds as likely as a few centuries.
fn span(rng: &mut Rng) -> u64 {
    let bits = rng.below(64);
    rng.next() >> (63 - bits)
}

fn deadline(rng: &mut Rng, now: u64) -> Time {
    Time::from_millis(match rng.below(10) {
        0 => now.saturating_sub(span(rng)),
        1 => now,
        2..6 => now.saturating_add(rng.below(200)),
        _ => now.saturating_add(span(rng)),
    })
}

#[test]
fn the_wheel_is_a_sorted_set() {
    let mut rng = Rng::new(1);
    let (mut wheel, mut model) = (TimerWheel::default(), Model::default());
    let keys: Vec<usize> = (0..KEYS).collect();
    let mut now = 0u64;
    let told = std::env::var("OPERATIONS").ok();
    let operations = told.and_then(|told| told.parse().ok());
    for operation in 0..operations.unwrap_or(2_000_000) {
        // From time to time a clock that begins anew: the others have come far.
        if operation % 100_000 == 0 {
            (wheel, model, now) = (TimerWheel::default(), Model::default(), 0);
        }
        let key = *rng.pick(&keys);
        match rng.below(10) {
            0..6 => {
                let deadline = Some(deadline(&mut rng, now));
                wheel.set(key, deadline);
                model.set(key, deadline);
            }
            6 => {
                wheel.set(key, None);
                model.set(key, None);
            }
            7 => now = now.saturating_add(rng.below(100)),
            8 if rng.chance(3) => now = now.saturating_add(span(&mut rng)),
            8 => now = model.next().map_or(now, |next| now.max(next.as_millis())),
            _ => {
                let mut due = Vec::new();
                wheel.take_due(Time::from_millis(now), &mut due);
                assert_eq!(due, model.take_due(Time::from_millis(now)));
            }
        }
        assert_eq!(wheel.next(), model.next());
        assert_eq!(wheel.deadline(key), model.by_key.get(&key).copied());
        assert_eq!(wheel.len(), model.by_key.len());
        assert_eq!(wheel.is_empty(), model.by_key.is_empty());
    }
}
