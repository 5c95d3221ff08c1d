//! The timer wheel: one deadline a key.
//!
//! Eleven levels of 64 slots, six bits of the deadline a level, so that any 64-bit millisecond
//! has its place. A deadline stands on the level of the highest six bits in which it differs from
//! `elapsed`; what stands on a lower level is therefore earlier than all on a higher one, and the
//! earliest of all is in the first used slot of the lowest used level. The exact deadline is kept
//! with the key: slots narrow the search, they never round. Setting costs a few instructions;
//! nothing is allocated once a key has been used.

use super::Time;

const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
const LEVELS: usize = 11;
/// "No key", in a link.
const NONE: u32 = u32::MAX;

/// Deadlines by key. Keys are small numbers (they index a flat array).
#[derive(Clone, Debug)]
pub struct TimerWheel {
    /// All deadlines lie at or after this; it is at most the time of the last `take_due`.
    elapsed: u64,
    /// Which slots of a level hold anything.
    used: [u64; LEVELS],
    /// The first key of each slot.
    heads: Box<[[u32; SLOTS]; LEVELS]>,
    entries: Vec<Entry>,
    armed: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    deadline: Option<Time>,
    level: u8,
    slot: u8,
    previous: u32,
    next: u32,
}

const IDLE: Entry = Entry {
    deadline: None,
    level: 0,
    slot: 0,
    previous: NONE,
    next: NONE,
};

impl Default for TimerWheel {
    fn default() -> Self {
        Self {
            elapsed: 0,
            used: [0; LEVELS],
            heads: Box::new([[NONE; SLOTS]; LEVELS]),
            entries: Vec::new(),
            armed: 0,
        }
    }
}

impl TimerWheel {
    /// Gives `key` this deadline, or none, in place of the one it had.
    ///
    /// # Panics
    /// If `key` does not fit 32 bits.
    pub fn set(&mut self, key: usize, deadline: Option<Time>) {
        if self.deadline(key) == deadline {
            return;
        }
        self.unlink(key);
        if let Some(deadline) = deadline {
            if self.entries.len() <= key {
                self.entries.resize(key + 1, IDLE);
            }
            self.link(key, deadline);
        }
    }

    /// The deadline of `key`.
    #[must_use]
    pub fn deadline(&self, key: usize) -> Option<Time> {
        self.entries.get(key).and_then(|entry| entry.deadline)
    }

    /// The earliest deadline of all.
    #[must_use]
    pub fn next(&self) -> Option<Time> {
        let (level, slot) = self.first_used()?;
        let mut earliest: Option<Time> = None;
        let mut at = self.heads[level][slot];
        while let Some(entry) = self.entries.get(at as usize) {
            earliest = match (earliest, entry.deadline) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            at = entry.next;
        }
        earliest
    }

    /// Takes out every key whose deadline has come, earliest first.
    pub fn take_due(&mut self, now: Time, due: &mut Vec<usize>) {
        while let Some(earliest) = self.next().filter(|earliest| *earliest <= now) {
            // Moving `elapsed` to the earliest deadline brings that slot's keys down a level or
            // out; no other slot is touched by it.
            let Some((level, slot)) = self.first_used() else {
                return;
            };
            self.elapsed = self.elapsed.max(earliest.as_millis());
            let first = due.len();
            let mut at = self.heads[level][slot];
            while let Some(&Entry {
                deadline: Some(deadline),
                next,
                ..
            }) = self.entries.get(at as usize)
            {
                let key = at as usize;
                self.unlink(key);
                if deadline <= earliest {
                    due.push(key);
                } else {
                    self.link(key, deadline);
                }
                at = next;
            }
            due[first..].sort_unstable();
        }
    }

    /// How many keys have a deadline.
    #[must_use]
    pub fn len(&self) -> usize {
        self.armed
    }

    /// Has no key a deadline?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.armed == 0
    }

    fn first_used(&self) -> Option<(usize, usize)> {
        let level = self.used.iter().position(|slots| *slots != 0)?;
        Some((level, self.used[level].trailing_zeros() as usize))
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "levels and slots are below 64"
    )]
    fn link(&mut self, key: usize, deadline: Time) {
        let at = deadline.as_millis().max(self.elapsed);
        let differing = at ^ self.elapsed;
        let level = (63 - (differing | 1).leading_zeros()) / BITS;
        let slot = (at >> (level * BITS)) as usize % SLOTS;
        let key_link = u32::try_from(key).expect("timer keys are small");
        let (level, slot_bit) = (level as usize, 1 << slot);
        let next = self.heads[level][slot];
        if let Some(entry) = self.entries.get_mut(next as usize) {
            entry.previous = key_link;
        }
        self.entries[key] = Entry {
            deadline: Some(deadline),
            level: level as u8,
            slot: slot as u8,
            previous: NONE,
            next,
        };
        self.heads[level][slot] = key_link;
        self.used[level] |= slot_bit;
        self.armed += 1;
    }

    fn unlink(&mut self, key: usize) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if entry.deadline.is_none() {
            return;
        }
        let Entry {
            level,
            slot,
            previous,
            next,
            ..
        } = std::mem::replace(entry, IDLE);
        let (level, slot) = (usize::from(level), usize::from(slot));
        if let Some(entry) = self.entries.get_mut(next as usize) {
            entry.previous = previous;
        }
        match self.entries.get_mut(previous as usize) {
            Some(entry) => entry.next = next,
            None => self.heads[level][slot] = next,
        }
        if self.heads[level][slot] == NONE {
            self.used[level] &= !(1 << slot);
        }
        self.armed -= 1;
    }
}
