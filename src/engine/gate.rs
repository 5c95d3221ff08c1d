//! What neighbours show one another, how it is counted, and what comes of it: the gate.

use super::budget::Budget;
use super::state::{Force, Hold};

/// What neighbours see of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Face {
    /// A requirer may be up.
    pub(super) met: bool,
    /// A requirer that is down need not wait for it.
    pub(super) stuck: bool,
    /// A requirer that is up must go down.
    pub(super) lost: bool,
    /// Who follows it in order waits for it.
    pub(super) ahead: bool,
    /// It has, or is about to have, processes (a target: it is up).
    pub(super) active: bool,
    /// It is active and going down.
    pub(super) leaving: bool,
    /// Its rivals have to wait.
    pub(super) holds: bool,
}

/// How many neighbours show what. Kept by the supervisor from the difference of each change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Requirements that are no service.
    pub(super) missing: u32,
    /// Requirements that are not met.
    pub(super) unmet: u32,
    /// Requirements that are stuck.
    pub(super) stuck: u32,
    /// Requirements that are lost.
    pub(super) lost: u32,
    /// Services this one follows, on their way up.
    pub(super) ahead: u32,
    /// Rivals that are up.
    pub(super) rivals: u32,
    /// Requirers that are active.
    pub(super) requirers: u32,
    /// Followers that are active and going down.
    pub(super) followers: u32,
}

/// All a service ever learns of its neighbours and of the supervisor's phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gate {
    /// What keeps it from starting.
    pub(super) hold: Option<Hold>,
    /// A requirement is lost.
    pub(super) lost: bool,
    /// Nobody who needs it is up.
    pub(super) requirers_idle: bool,
    /// Stops are not polite any more.
    pub(super) force: Force,
    /// What a stop may take at most.
    pub(super) budget: Option<Budget>,
}
