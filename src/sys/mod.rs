//! Linux, one kernel facility a file. What the rest expects of it: facts about processes are told
//! before they are collected, nothing here waits, every descriptor is close-on-exec.

pub mod clock;
pub mod kill;
pub mod ledger;
pub mod limits;
pub mod output;
pub mod pipe;
pub mod ports;
pub mod process;
pub mod procfs;
pub mod signals;
pub mod socket;
pub mod stderr;
