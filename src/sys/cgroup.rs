//! Control groups, version 2 (kernel doc `admin-guide/cgroup-v2.rst`): one for each service, where
//! the hierarchy is mounted and may be written to; else there is none, and nothing is said of it.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::process;
use crate::engine::Pid;
use crate::engine::confine::Resources;

/// The controllers that a service file can speak of.
const CONTROLLERS: [&str; 4] = ["memory", "pids", "cpu", "io"];

/// The period of `cpu.max`, in microseconds.
const CPU_PERIOD: u64 = 100_000;

/// How many cgroups are removed with the one of a service, so that nobody waits for more.
const MOST_REMOVED: usize = 1000;

/// The cgroups of all services.
#[derive(Debug)]
pub struct Cgroups {
    /// What tells this server's from those of others.
    mark: String,
    /// The one above those of the services, found when it is needed: when PID 1 is begun, it may
    /// not be mounted yet.
    above: OnceCell<Option<PathBuf>>,
    is_delegated: Cell<bool>,
    /// Whose cgroups this server has made, and not killed since; and whether it has ever limited
    /// something there.
    made: RefCell<BTreeMap<String, bool>>,
    /// Can children be made in a cgroup?
    takes_children: OnceCell<bool>,
}

/// Where the processes of a service are to be.
#[derive(Debug)]
pub struct Cgroup {
    /// The directory.
    pub(super) directory: File,
    /// May a child be made in it? To move there later makes the kernel wait for all processors.
    pub(super) takes_children: bool,
}

/// What a service uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Microseconds of processor time.
    pub cpu_usec: Option<u64>,
    /// Share of the last ten seconds in which something waited for memory, processor or disk, in
    /// hundredths of a percent, by name.
    pub pressure: Vec<(&'static str, u64)>,
}

impl Cgroups {
    /// To be below the server's own cgroup. `mark` tells this server's from those of others.
    #[must_use]
    pub fn new(mark: &str) -> Self {
        Self {
            mark: mark.to_owned(),
            above: OnceCell::new(),
            is_delegated: Cell::new(false),
            made: RefCell::default(),
            takes_children: OnceCell::new(),
        }
    }

    fn above(&self) -> Option<&Path> {
        let find = || {
            let own = own()?;
            let above = own.join(format!("zinit-{}", self.mark));
            let made = fs::create_dir(&above);
            if made.is_err() {
                if !above.is_dir() {
                    return None;
                }
                // What an earlier server could not tidy up when it was killed.
                below(&above).for_each(|dir| remove_unused(&dir));
            }
            Some(above)
        };
        self.above.get_or_init(find).as_deref()
    }

    /// Has the kernel count and limit. That takes it a while, so it is done when somebody wants it.
    fn delegate(&self) {
        if let Some(above) = self.above().filter(|_| !self.is_delegated.replace(true)) {
            above.parent().into_iter().for_each(delegate);
            delegate(above);
        }
    }

    /// The cgroup of a service with these limits, none if there are no cgroups. Also what could not
    /// be limited, and why.
    pub fn prepare(&self, name: &str, resources: &Resources) -> (Option<Cgroup>, Vec<String>) {
        let wanted = settings(resources);
        let Some(dir) = self.dir(name) else {
            let unmet = wanted.into_iter().filter_map(|(file, value)| {
                value.map(|_| format!("{file}: no cgroup v2 that can be written to"))
            });
            return (None, unmet.collect());
        };
        let is_limited = wanted.iter().any(|(_, value)| value.is_some());
        if is_limited {
            self.delegate();
        }
        let is_known = self.made.borrow().contains_key(name);
        if !is_known {
            remove_unused(&dir);
        }
        let is_new = fs::create_dir(&dir).is_ok();
        if is_new {
            self.made.borrow_mut().insert(name.to_owned(), false);
        } else {
            thaw(&dir);
        }
        // Of one that an earlier server has left nobody knows.
        let was_limited = match self.made.borrow_mut().get_mut(name) {
            Some(limited) => std::mem::replace(limited, is_limited || *limited),
            None => true,
        };
        let mut unmet = Vec::new();
        for (file, value) in wanted {
            let path = dir.join(file);
            let write = |text: &str| {
                let mut file = File::options().write(true).open(&path)?;
                file.write_all(text.as_bytes())
            };
            let done = match &value {
                Some(value) => write(value),
                // What an earlier definition limited is not any more.
                None if was_limited && path.exists() => write(unlimited(file)),
                None => Ok(()),
            };
            if let (Err(error), Some(value)) = (done, value) {
                let why = if error.kind() == io::ErrorKind::NotFound {
                    "the controller is not available".to_owned()
                } else {
                    error.to_string()
                };
                unmet.push(format!("{file} {value}: {why}"));
            }
        }
        (self.existing(name), unmet)
    }

    /// The cgroup that a service has already.
    pub fn existing(&self, name: &str) -> Option<Cgroup> {
        let directory = File::open(self.dir(name)?).ok()?;
        // Some kernels kill at once whoever is made in a cgroup that was killed before, or that
        // differs in this from the one of its parent: only in one of our own, if that works at all.
        let works = |directory| process::lives_in(directory);
        let takes_children = self.made.borrow().contains_key(name)
            && *self.takes_children.get_or_init(|| works(&directory));
        Some(Cgroup {
            directory,
            takes_children,
        })
    }

    /// The processes of a service.
    #[must_use]
    pub fn members(&self, name: &str) -> Vec<Pid> {
        let read = |dir: PathBuf| fs::read_to_string(dir.join("cgroup.procs")).ok();
        let text = self.dir(name).and_then(read).unwrap_or_default();
        let numbers = text.lines().filter_map(|line| line.parse().ok());
        numbers.filter_map(Pid::new).collect()
    }

    /// Kills all processes of a service at once (`cgroup.kill`, Linux 5.14).
    pub fn kill(&self, name: &str) {
        if let Some(dir) = self.dir(name) {
            let _ = fs::write(dir.join("cgroup.kill"), "1");
            self.made.borrow_mut().remove(name);
        }
    }

    /// How many of its processes the kernel has killed for memory so far.
    #[must_use]
    pub fn memory_kills(&self, name: &str) -> u64 {
        let dir = self.dir(name);
        dir.and_then(|dir| keyed(&dir.join("memory.events"), "oom_kill"))
            .unwrap_or(0)
    }

    /// What a service uses.
    #[must_use]
    pub fn usage(&self, name: &str) -> Option<Usage> {
        let dir = self.dir(name).filter(|dir| dir.is_dir())?;
        self.delegate();
        let number = |file: &str| {
            let text = fs::read_to_string(dir.join(file)).ok()?;
            text.trim().parse().ok()
        };
        let pressure = ["cpu", "memory", "io"].into_iter().filter_map(|what| {
            let text = fs::read_to_string(dir.join(format!("{what}.pressure"))).ok()?;
            let average = text.split_once("avg10=")?.1.split(' ').next()?;
            let (whole, part) = average.split_once('.')?;
            let whole: u64 = whole.parse().ok()?;
            Some((what, whole * 100 + part.parse::<u64>().ok()?))
        });
        Some(Usage {
            memory_bytes: number("memory.current"),
            pids: number("pids.current"),
            cpu_usec: keyed(&dir.join("cpu.stat"), "usage_usec"),
            pressure: pressure.collect(),
        })
    }

    /// The service is no more. What still lives there keeps its cgroup.
    pub fn remove(&self, name: &str) {
        if let Some(dir) = self.dir(name) {
            remove_unused(&dir);
            self.made.borrow_mut().remove(name);
        }
    }

    /// The server ends.
    pub fn end(&self) {
        let Some(Some(above)) = self.above.get() else {
            return;
        };
        below(above).for_each(|dir| remove_unused(&dir));
        let _ = fs::remove_dir(above);
    }

    /// A name of a service is never one of the kernel's files there: it has a prefix.
    fn dir(&self, name: &str) -> Option<PathBuf> {
        Some(self.above()?.join(format!("service-{name}")))
    }
}

/// Whoever froze what ran there did not mean what is to start now.
fn thaw(dir: &Path) {
    let file = dir.join("cgroup.freeze");
    if fs::read_to_string(&file).is_ok_and(|text| text.trim() == "1") {
        let _ = fs::write(file, "0");
    }
}

fn settings(resources: &Resources) -> [(&'static str, Option<String>); 6] {
    let text = |value: Option<u64>| value.map(|value| value.to_string());
    let cpu_max = resources
        .cpu_max
        .map(|percent| format!("{} {CPU_PERIOD}", percent.saturating_mul(CPU_PERIOD / 100)));
    [
        ("memory.max", text(resources.memory_max)),
        ("memory.high", text(resources.memory_high)),
        ("pids.max", text(resources.pids_max)),
        ("cpu.weight", text(resources.cpu_weight)),
        ("cpu.max", cpu_max),
        (
            "io.weight",
            resources
                .io_weight
                .map(|weight| format!("default {weight}")),
        ),
    ]
}

fn unlimited(file: &str) -> &'static str {
    match file {
        "cpu.weight" => "100",
        "io.weight" => "default 100",
        _ => "max",
    }
}

/// Removes a cgroup where nobody lives, with those that its processes have made below it: a server
/// or a container engine that was killed has left its own.
fn remove_unused(dir: &Path) {
    if fs::remove_dir(dir).is_ok() {
        return;
    }
    // Whoever lives there may be about to use an empty one.
    if keyed(&dir.join("cgroup.events"), "populated") == Some(0) {
        remove_with_those_below(dir, &mut { MOST_REMOVED });
    }
}

fn remove_with_those_below(dir: &Path, left: &mut usize) {
    let inner: Vec<PathBuf> = below(dir).take(*left).collect();
    *left -= inner.len();
    for inner in inner {
        remove_with_those_below(&inner, left);
    }
    let _ = fs::remove_dir(dir);
}

/// The cgroups in a cgroup.
fn below(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    dirs.map(|entry| entry.path())
}

/// A line `KEY NUMBER` of a file.
fn keyed(path: &Path, key: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let (_, value) = lines.find(|(known, _)| *known == key)?;
    value.parse().ok()
}

/// The server's own cgroup.
fn own() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mut mounts = mounts.lines().map(|line| line.split(' '));
    let mount = mounts.find_map(|mut words| {
        let point = words.nth(1)?;
        (words.next() == Some("cgroup2")).then(|| point.to_owned())
    })?;
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    // Outside of its namespace's root there is nothing of ours.
    (!path.starts_with("..")).then(|| Path::new(&mount).join(path))
}

/// Lets those below be limited. That can't be as long as there are processes beside them, unless
/// it is only the server itself: it moves out of the way then.
fn delegate(dir: &Path) {
    let available = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    let known: Vec<&str> = available
        .split_whitespace()
        .filter(|name| CONTROLLERS.contains(name))
        .collect();
    // All at once where that can be: each time takes the kernel a while.
    let all = known.join(" +");
    if known.is_empty() || enable(dir, &all).is_ok() {
        return;
    }
    if known.iter().all(|name| enable(dir, name).is_ok()) {
        return;
    }
    let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    if procs.trim() != std::process::id().to_string() {
        return;
    }
    let aside = dir.join("zinit-server");
    let _ = fs::create_dir(&aside);
    if fs::write(aside.join("cgroup.procs"), "0").is_ok() {
        for name in known {
            let _ = enable(dir, name);
        }
    }
}

fn enable(dir: &Path, controller: &str) -> io::Result<()> {
    let mut file = File::options()
        .write(true)
        .open(dir.join("cgroup.subtree_control"))?;
    // In one piece, as the kernel reads it.
    file.write_all(format!("+{controller}").as_bytes())
}
