//! Linux, one kernel facility a file. What the rest expects of it: facts about processes are told
//! before they are collected, nothing here waits, every descriptor is close-on-exec.

pub mod cgroup;
pub mod clock;
pub mod console;
pub mod crash;
pub mod descriptors;
pub mod identity;
pub mod kill;
pub mod ledger;
pub mod limits;
pub mod machine;
pub mod mount;
pub mod notify;
pub mod outlet;
pub mod output;
pub mod peer;
pub mod pipe;
pub mod ports;
pub mod process;
pub mod procfs;
pub mod reserve;
pub mod seed;
pub mod signals;
pub mod socket;
pub mod splice;
pub mod stderr;
pub mod stream;
pub mod switch;
pub mod writer;

/// What went wrong with something that the kernel has to offer; if it does not, the sentence names
/// the option it is to be built with.
#[must_use]
pub fn needed(what: &str, option: &str, error: std::io::Error) -> std::io::Error {
    match error.raw_os_error() {
        Some(nix::libc::ENOSYS | nix::libc::EAFNOSUPPORT) => std::io::Error::other(format!(
            "this kernel lacks {what}: build it with {option}=y"
        )),
        _ => std::io::Error::new(error.kind(), format!("{what}: {error}")),
    }
}
