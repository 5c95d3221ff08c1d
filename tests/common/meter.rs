//! What a process holds and does, as the kernel counts it: descriptors, memory, wake-ups and system
//! calls. Nothing here asks the process anything.

#![allow(dead_code, reason = "each test file uses the part of it that it needs")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::sandbox::{find_program, signal, wait_until};

/// How many descriptors a process has open.
pub(crate) fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// What they are, for whoever looks for one too many.
pub(crate) fn described_descriptors(pid: i32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let links = entries.filter_map(|entry| {
        let number = entry.file_name().into_string().ok()?;
        let target = fs::read_link(entry.path()).ok()?;
        Some(format!("{number} {}", target.display()))
    });
    links.collect()
}

/// A process's children, dead ones that nobody has collected included.
pub(crate) fn children(pid: i32) -> BTreeSet<i32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let numbers = list.split_ascii_whitespace();
    numbers.map(|number| number.parse().unwrap()).collect()
}

/// Memory of a process, in KiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// All that is mapped and there. What of its program is there depends on how the kernel reads
    /// files ahead.
    pub(crate) resident: u64,
    /// What belongs to no file: what it has written, and so costs the machine.
    pub(crate) own: u64,
}

/// The memory of a process.
pub(crate) fn memory(pid: i32) -> Memory {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_ascii_whitespace().next());
        number.and_then(|number| number.parse().ok()).unwrap()
    };
    Memory {
        resident: field("Rss:"),
        own: field("Anonymous:"),
    }
}

/// How often a process was taken off the processor so far: of its own accord, or because others
/// had their turn. One that does not change has done nothing, and so made no system call.
pub(crate) fn wakeups(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let lines = text.lines().filter(|line| line.contains("ctxt_switches:"));
    let numbers = lines.filter_map(|line| line.split_ascii_whitespace().nth(1));
    numbers.map(|number| number.parse::<u64>().unwrap()).sum()
}

/// How often a process woke up while nothing happened for so long. What was under way before is
/// waited for: first it has to be quiet for a second.
pub(crate) fn wakeups_within(pid: i32, window: Duration) -> u64 {
    // Nobody writes to this pipe.
    let (reader, _writer) = std::io::pipe().unwrap();
    let pass = |time: Duration| {
        let before = wakeups(pid);
        let wait = PollTimeout::try_from(time).unwrap();
        let nobody = PollFd::new(reader.as_fd(), PollFlags::POLLIN);
        assert_eq!(poll(&mut [nobody], wait), Ok(0));
        wakeups(pid) - before
    };
    wait_until(|| pass(Duration::from_secs(1)) == 0);
    pass(window)
}

/// Does it wait in its loop, with nothing to do?
pub(crate) fn is_idle(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let sleeps = stat
        .rsplit(')')
        .next()
        .is_some_and(|rest| rest.starts_with(" S"));
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap();
    let number = call.split(' ').next().and_then(|word| word.parse().ok());
    #[cfg(target_arch = "x86_64")]
    let waits = [libc::SYS_epoll_wait, libc::SYS_epoll_pwait];
    #[cfg(not(target_arch = "x86_64"))]
    let waits = [libc::SYS_epoll_pwait];
    sleeps && number.is_some_and(|number: i64| waits.contains(&number))
}

/// Waits until it is.
pub(crate) fn wait_idle(pid: i32) {
    assert!(wait_until(|| is_idle(pid)), "{pid} is busy");
}

/// System calls by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls(pub(crate) BTreeMap<String, u64>);

impl Calls {
    /// All of them.
    pub(crate) fn sum(&self) -> u64 {
        self.0.values().sum()
    }

    /// The most frequent ones first, each by so many operations.
    pub(crate) fn table(&self, operations: u64) -> String {
        let mut rows: Vec<_> = self.0.iter().collect();
        rows.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), (*name).clone()));
        let row = |(name, count): &(&String, &u64)| {
            format!("    {:8.2} {name}\n", **count as f64 / operations as f64)
        };
        rows.iter().map(row).collect()
    }
}

/// Somebody who counts the system calls of a process; what its children do is not among them.
pub(crate) struct Tracer {
    strace: Child,
    of: i32,
    report: PathBuf,
}

impl Tracer {
    /// Begins to count; none, with a word, where that can't be.
    pub(crate) fn attach(of: i32, report: PathBuf) -> Option<Self> {
        let Some(program) = find_program("strace") else {
            println!("SKIPPED: system calls are not counted, there is no strace");
            return None;
        };
        let mut strace = Command::new(program)
            .args(["-qq", "-c", "-p", &of.to_string(), "-o"])
            .arg(&report)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let attached = format!("TracerPid:\t{}\n", strace.id());
        let mut ended = None;
        let settled = wait_until(|| {
            ended = strace.try_wait().unwrap();
            let status = fs::read_to_string(format!("/proc/{of}/status")).unwrap();
            ended.is_some() || status.contains(&attached)
        });
        assert!(settled, "strace does nothing");
        if ended.is_some() {
            println!("SKIPPED: system calls are not counted, strace may not look at the server");
            return None;
        }
        // To be attached to ends its wait once.
        wait_idle(of);
        Some(Self { strace, of, report })
    }

    /// Counts until the process has nothing left to do.
    pub(crate) fn detach(mut self) -> Calls {
        wait_idle(self.of);
        signal(i32::try_from(self.strace.id()).unwrap(), Signal::SIGINT);
        self.strace.wait().unwrap();
        let text = fs::read_to_string(&self.report).unwrap();
        let mut calls = Calls::default();
        for line in text.lines() {
            // Share, seconds, microseconds a call, calls, perhaps errors, name.
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let count = words.get(3).and_then(|word| word.parse().ok());
            let (Some(count), Some(name)) = (count, words.last()) else {
                continue;
            };
            if *name != "total" {
                calls.0.insert((*name).to_owned(), count);
            }
        }
        calls
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        if self.strace.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = self.strace.kill();
            let _ = self.strace.wait();
        }
    }
}

/// The lines of all `fdinfo` files of a process that begin so.
fn told_of_descriptors(pid: i32, begin: &str) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo"))
        .unwrap()
        .flatten();
    let texts = entries.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    let mut found = Vec::new();
    for text in texts {
        let lines = text.lines().filter(|line| line.starts_with(begin));
        found.extend(lines.map(str::to_owned));
    }
    found
}

/// How many descriptors a process has its kernel watch (`epoll(7)`). It may have several for the same
/// list of them.
pub(crate) fn watched(pid: i32) -> usize {
    let lines = told_of_descriptors(pid, "tfd:").into_iter();
    lines.collect::<BTreeSet<_>>().len()
}

/// Is one of its timers set (`timerfd_create(2)`)?
pub(crate) fn is_armed(pid: i32) -> bool {
    let left = told_of_descriptors(pid, "it_value:");
    assert!(!left.is_empty(), "it has a timer");
    left.iter().any(|line| line != "it_value: (0, 0)")
}

/// Where the cgroups of services are, as one of their processes shows it.
pub(crate) fn above_cgroup(pid: i32) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mut mounts = mounts.lines().map(|line| line.split(' '));
    let point = mounts.find_map(|mut words| {
        let point = words.nth(1)?;
        (words.next() == Some("cgroup2")).then(|| point.to_owned())
    })?;
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let (above, _) = own.split_once("/service-").or_else(|| {
        let is_first = own.starts_with("service-");
        is_first.then_some(("", own))
    })?;
    Some(PathBuf::from(point).join(above))
}
