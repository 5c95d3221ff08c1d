//! Helpers for tests that put a server in a bad place: what can be done here, what it costs the
//! server, who it really is behind a wrapper.

#![allow(dead_code, reason = "each test file uses the part of it that it needs")]

use std::fs;
use std::process::{Command, Stdio};

use nix::sys::socket::{getsockopt, sockopt};

use crate::sandbox::{Sandbox, quoted};

/// Clock ticks that a server may use while there is nothing to do for a second: a loop that spins
/// uses all hundred.
const IDLE_TICKS: u64 = 40;

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Can this command be run here, for what it does to the machine?
pub(crate) fn works(command: &[&str]) -> bool {
    let run = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    run.is_ok_and(|status| status.success())
}

/// The same with a line about it if it can't.
pub(crate) fn needs(what: &str, command: &[&str]) -> bool {
    let is_there = works(command);
    if !is_there {
        println!("SKIPPED: {what} can't be had here");
    }
    is_there
}

/// Words for `Sandbox::wrap`: a mount namespace in which `script` is run before the server is.
pub(crate) fn in_mounts(sandbox: &mut Sandbox, script: &str) {
    let script = format!("{script} && exec \"$0\" \"$@\"");
    sandbox.wrap(&["unshare", "-m", "sh", "-c", &script]);
}

/// The same with a process namespace; the script is its first process.
pub(crate) fn in_processes(sandbox: &mut Sandbox, script: &str) {
    let script = format!("{script}\n\"$0\" \"$@\"");
    sandbox.wrap(&[
        "unshare",
        "-m",
        "-p",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "sh",
        "-c",
        &script,
    ]);
}

/// A shell command that takes version 2 of control groups out of sight.
pub(crate) const NO_CGROUPS: &str = "while read -r _ at kind _; do \
     [ \"$kind\" = cgroup2 ] && umount -l \"$at\"; done < /proc/self/mounts; :";

/// The server that answers, also behind a wrapper that forks, as it is numbered here.
pub(crate) fn server_of(sandbox: &Sandbox) -> i32 {
    let connection = sandbox.connect();
    let peer = getsockopt(connection.stream(), sockopt::PeerCredentials).unwrap();
    peer.pid()
}

/// Processor time a process has used, in clock ticks.
pub(crate) fn ticks(pid: i32) -> u64 {
    let stat = fs::read(format!("/proc/{pid}/stat")).unwrap();
    let stat = String::from_utf8_lossy(&stat).into_owned();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// A service that lasts a second, for [`assert_idle`].
pub(crate) fn nap(sandbox: &Sandbox) {
    let exec = quoted("sleep 1");
    let body = format!("exec = {exec}\noneshot = true\nstatus = \"stop\"");
    sandbox.service("nap", &body);
}

/// While a service naps, the server does next to nothing.
pub(crate) fn assert_idle(sandbox: &Sandbox) {
    let server = server_of(sandbox);
    let before = ticks(server);
    sandbox.done("service.restart", "nap");
    let used = ticks(server) - before;
    assert!(
        used < IDLE_TICKS,
        "{used} ticks for nothing\n{}",
        sandbox.log()
    );
}

/// A process that is killed when the test is over, however it ends.
pub(crate) struct Guarded(pub(crate) std::process::Child);

impl Guarded {
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    pub(crate) fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.end();
    }
}
