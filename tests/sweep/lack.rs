//! What a kernel, or a filter of a container's, may not have: a call that always fails, or a file
//! system that is not there.

use std::sync::Arc;

use nix::libc;

use super::calls::{errno, number};
use super::case::catch;
use super::sandbox::Sandbox;
use super::scenario::{self, Day, Server};
use super::trap::{Denied, spawn_denied};

/// What a server makes of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expected {
    /// It does without, and the day is as any other.
    Works,
    /// It does not start, with one sentence that holds this.
    Refuses(&'static str),
}

use Expected::{Refuses, Works};

/// A call, only with this first argument if there is one, and what a server makes of it when it
/// always fails with ENOSYS, as on another kernel, or with EPERM, as under a filter.
pub(crate) const CALLS: &[(&str, Option<u32>, Expected)] = &[
    ("signalfd4", None, Refuses("signalfd")),
    ("timerfd_create", None, Refuses("timerfd")),
    ("epoll_create1", None, Refuses("epoll")),
    ("socket", None, Refuses("a Unix socket")),
    ("flock", None, Refuses("sock")),
    ("waitid", None, Refuses("waitid")),
    ("accept4", None, Refuses("accept")),
    ("prlimit64", None, Refuses("the limit of descriptors")),
    // The older way: by number, looked at just before.
    ("pidfd_open", None, Works),
    ("pidfd_send_signal", None, Works),
    // Descriptors are closed one by one, as /proc lists them.
    ("close_range", None, Works),
    // The child goes to its cgroup by itself.
    ("clone3", None, Works),
    // Orphans are found by their cgroup.
    (
        "prctl",
        Some(libc::PR_SET_CHILD_SUBREAPER.unsigned_abs()),
        Works,
    ),
    ("prctl", Some(libc::PR_SET_PDEATHSIG.unsigned_abs()), Works),
    ("prctl", Some(libc::PR_SET_NAME.unsigned_abs()), Works),
    // There is no log writer; what is lost is told.
    ("socketpair", None, Works),
    // The standard library has another way.
    ("getrandom", None, Works),
    ("statx", None, Works),
    // Nobody calls them on such a day.
    ("eventfd2", None, Works),
    ("memfd_create", None, Works),
    ("splice", None, Works),
    ("openat2", None, Works),
    ("faccessat2", None, Works),
    ("renameat2", None, Works),
    ("setns", None, Works),
    ("unshare", None, Works),
];

/// What is hidden by an empty directory, and what a server makes of that. Without `/proc` the day
/// is another one: `faults_proc.rs` is about that.
pub(crate) const PLACES: &[(&str, Expected)] = &[("/sys", Works), ("/dev", Refuses("/dev/null"))];

/// A server's day without a call.
pub(crate) fn without_call(name: &str, first: Option<u32>, error: &str) -> Result<Day, String> {
    let number = number(name).ok_or("no such call")?;
    let errno = errno(error).ok_or("no such error")?;
    let sandbox = Sandbox::new();
    without(
        &sandbox,
        &[Denied {
            number,
            first,
            errno,
        }],
    )
}

/// A server's day without a file system.
pub(crate) fn without_place(place: &str) -> Result<Day, String> {
    let mut sandbox = Sandbox::new();
    let script = format!("mount -t tmpfs none {place} && exec \"$0\" \"$@\"");
    sandbox.wrap(&["unshare", "-m", "sh", "-c", &script]);
    without(&sandbox, &[])
}

fn without(sandbox: &Sandbox, denied: &[Denied]) -> Result<Day, String> {
    scenario::services(sandbox);
    let mut command = scenario::command(sandbox);
    let child = spawn_denied(&mut command, denied).map_err(|error| error.to_string())?;
    let mut server = Server::new(sandbox, child, Arc::default());
    let day = catch(|| server.live());
    server.destroy();
    if std::env::var_os("LACK").is_some() {
        println!("{}", sandbox.log());
    }
    let _ = std::fs::write(sandbox.path("server.log"), "");
    day
}

/// Is that as it is meant to be?
pub(crate) fn is_as_expected(expected: Expected, day: &Result<Day, String>) -> bool {
    match (expected, day) {
        (Works, Ok(Day::Unnoticed | Day::AgainIn(_))) => true,
        (Refuses(text), Ok(Day::NotStarted(told))) => told.contains(text),
        (Works, Ok(Day::NotStarted(_)))
        | (Refuses(_), Ok(Day::Unnoticed | Day::AgainIn(_)))
        | (_, Err(_)) => false,
    }
}
