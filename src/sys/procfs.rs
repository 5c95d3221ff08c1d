//! Processes as `/proc` shows them (`proc_pid_stat(5)`, `proc_pid_task(5)`).

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::limits::with_reserve;
use crate::engine::{Pid, Signal};

/// What `/proc/PID/stat` says of a process, as far as it is of use here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its number.
    pub pid: Pid,
    /// Its name, whatever bytes it chose.
    pub name: String,
    /// Its state letter.
    pub state: char,
    /// Its parent's number.
    pub ppid: i32,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// Processor time it used, in clock ticks.
    pub ticks: u64,
    /// When it started, in clock ticks since boot. With the number it names a process for good.
    pub start: u64,
    /// Resident memory, in pages.
    pub pages: u64,
    /// Has it any memory? One that has not is about to be dead, or a kernel's thread.
    pub has_memory: bool,
    /// How many threads it has, ended ones that wait for the others included.
    pub threads: u64,
}

/// Where processes are to be seen. If that is `/proc` of another process namespace, its numbers
/// mean others there than here: then nobody is seen at all.
fn root() -> &'static str {
    static ROOT: OnceLock<&str> = OnceLock::new();
    ROOT.get_or_init(|| {
        if is_foreign() {
            "/proc/foreign"
        } else {
            "/proc"
        }
    })
}

/// Is `/proc` that of another process namespace? One that is not mounted yet is not.
fn is_foreign() -> bool {
    match with_reserve(|| fs::read_link("/proc/self")) {
        Ok(own) => own.as_os_str() != std::process::id().to_string().as_str(),
        Err(_) => fs::symlink_metadata("/proc/self").is_ok(),
    }
}

/// Does `/proc` show the server itself? Else it shows nobody.
#[must_use]
pub fn shows_us() -> bool {
    Path::new(&format!("{}/{}/stat", root(), std::process::id())).exists()
}

/// One process.
#[must_use]
pub fn stat(pid: Pid) -> Option<Stat> {
    let mut found = read_stat(format!("{}/{pid}/stat", root()).as_ref())?;
    if found.threads > 1 && !found.has_memory {
        // Its first thread has ended before the others, which have what it had.
        let mut others = threads(pid, "stat")
            .into_iter()
            .filter_map(|path| read_stat(&path));
        found.has_memory = others.any(|other| other.has_memory);
    }
    Some(found)
}

fn read_stat(path: &Path) -> Option<Stat> {
    let read = with_reserve(|| {
        let mut file = File::open(path)?;
        let mut bytes = [0; 4096];
        let mut length = 0;
        // The kernel hands out the line whole, so there is no need to be told that nothing follows.
        while !bytes[..length].ends_with(b"\n") {
            match file.read(&mut bytes[length..]) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(parse_stat(&bytes[..length]))
    });
    read.ok().flatten()
}

/// So much of a file; none if there is none, or it is not for us to see.
fn read(path: &Path, most: u64) -> Option<Vec<u8>> {
    let read = with_reserve(|| {
        let mut bytes = Vec::with_capacity(512);
        File::open(path)?.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    read.ok()
}

/// A file of each of a process's threads.
fn threads(pid: Pid, file: &str) -> Vec<PathBuf> {
    let entries = with_reserve(|| fs::read_dir(format!("{}/{pid}/task", root()))?.collect());
    let entries: Vec<fs::DirEntry> = entries.unwrap_or_default();
    let paths = entries.iter().map(|entry| entry.path().join(file));
    paths.collect()
}

/// Reads a stat line. The name stands in parentheses and may hold any of them, blanks and digits
/// itself: what follows starts after the last one.
#[must_use]
pub fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let open = bytes.iter().position(|byte| *byte == b'(')?;
    let close = bytes.iter().rposition(|byte| *byte == b')')?;
    let pid = std::str::from_utf8(bytes.get(..open)?)
        .ok()?
        .trim()
        .parse()
        .ok()?;
    let rest = std::str::from_utf8(bytes.get(close + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    // The first of them is field 3 of the manual page. They are asked for in their order.
    let mut next = 3;
    let mut field = |number: usize| {
        let skipped = number - std::mem::replace(&mut next, number + 1);
        fields.nth(skipped)
    };
    let state = field(3)?.chars().next()?;
    let mut number = |at| field(at).and_then(|text| text.parse::<i64>().ok());
    let ids = [number(4)?, number(5)?, number(6)?];
    let [ppid, group, session] = ids.map(|id| i32::try_from(id).ok());
    let mut count = |at| number(at).and_then(|number| u64::try_from(number).ok());
    Some(Stat {
        pid: Pid::new(pid)?,
        name: String::from_utf8_lossy(bytes.get(open + 1..close)?).into_owned(),
        state,
        ppid: ppid?,
        group: group?,
        session: session?,
        ticks: count(14)?.saturating_add(count(15)?),
        threads: count(20)?,
        start: count(22)?,
        has_memory: count(23)? > 0,
        pages: count(24)?,
    })
}

impl Stat {
    /// Has it ended, and only waits to be collected? It has not if only its first thread has.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x') && self.threads <= 1
    }
}

/// Every process there is.
pub fn all_pids() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir(root()).into_iter().flatten().flatten();
    entries.filter_map(|entry| Pid::new(entry.file_name().to_str()?.parse().ok()?))
}

/// A look at who is whose child. By the kernel's own lists where it keeps them
/// (`CONFIG_PROC_CHILDREN`), else by one scan of all processes for as long as the look lasts.
#[derive(Debug, Default)]
pub struct Children {
    own: Option<File>,
    /// Parent and child of every process, by parent.
    scan: Option<Vec<(i32, Pid)>>,
    scans: bool,
}

impl Children {
    /// Finds out what the kernel offers.
    #[must_use]
    pub fn new() -> Self {
        let own = File::open(format!("{}/thread-self/children", root())).ok();
        Self {
            scans: own.is_none(),
            own,
            scan: None,
        }
    }

    /// Forgets what was seen: things have happened since.
    pub fn refresh(&mut self) {
        self.scan = None;
    }

    /// The server's own children, dead ones that are not collected included.
    pub fn own(&mut self) -> Vec<Pid> {
        let Some(file) = &self.own else {
            return self.scanned(i32::try_from(std::process::id()).unwrap_or(0));
        };
        let read = with_reserve(|| {
            let mut text = Vec::new();
            let mut block = [0; 4096];
            loop {
                match file.read_at(&mut block, text.len() as u64) {
                    Ok(0) => return Ok(text),
                    Ok(count) => text.extend_from_slice(&block[..count]),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        });
        parse_pids(std::str::from_utf8(&read.unwrap_or_default()).unwrap_or_default())
    }

    /// The children of `pid`, whichever of its threads made them.
    pub fn of(&mut self, pid: Pid) -> Vec<Pid> {
        if self.scans {
            return self.scanned(pid.number());
        }
        let list = |path: &PathBuf| with_reserve(|| fs::read_to_string(path)).ok();
        let threads = threads(pid, "children");
        let lists = threads.iter().filter_map(list);
        lists.flat_map(|text| parse_pids(&text)).collect()
    }

    fn scanned(&mut self, parent: i32) -> Vec<Pid> {
        let scan = self.scan.get_or_insert_with(|| {
            all_pids()
                .filter_map(stat)
                .map(|found| (found.ppid, found.pid))
                .collect()
        });
        let children = scan.iter().filter(|(of, _)| *of == parent);
        children.map(|(_, pid)| *pid).collect()
    }

    /// `roots` and all their descendants, parents first.
    pub fn family(&mut self, roots: Vec<Pid>) -> Vec<Pid> {
        let mut family = roots;
        let mut next = 0;
        while let Some(pid) = family.get(next).copied() {
            next += 1;
            family.extend(self.of(pid));
        }
        family
    }
}

/// Reads a list of process numbers, separated by blanks.
#[must_use]
pub fn parse_pids(text: &str) -> Vec<Pid> {
    text.split_ascii_whitespace()
        .filter_map(|word| Pid::new(word.parse().ok()?))
        .collect()
}

/// The value of an environment variable a process was started with, unless it wrote over it.
#[must_use]
pub fn environment_variable(pid: Pid, name: &str) -> Option<String> {
    parse_variable(&environment(pid), name)
}

/// The value of a variable in a block of them, each ended by a NUL; the first of that name counts.
#[must_use]
pub fn parse_variable(block: &[u8], name: &str) -> Option<String> {
    let value = block.split(|byte| *byte == 0).find_map(|entry| {
        let value = entry.strip_prefix(name.as_bytes())?;
        value.strip_prefix(b"=")
    })?;
    String::from_utf8(value.to_vec()).ok()
}

/// The environment of a process, empty if it shows none. One whose first thread has ended shows it
/// by another.
fn environment(pid: Pid) -> Vec<u8> {
    /// The kernel lets a process have that much (`MAX_ARG_STRLEN` times a few).
    const MOST_BYTES: u64 = 4 << 20;
    let of = |path: &Path| read(path, MOST_BYTES).unwrap_or_default();
    let bytes = of(format!("{}/{pid}/environ", root()).as_ref());
    if !bytes.is_empty() {
        return bytes;
    }
    let mut others = threads(pid, "environ").into_iter().map(|path| of(&path));
    others.find(|bytes| !bytes.is_empty()).unwrap_or_default()
}

/// Would this signal have ended a process, had it got it? It neither ignores nor catches nor blocks
/// it, and has none on its way: one that was just forked may have taken it with its parent's
/// handler, and forgotten that on its way to exec.
#[must_use]
pub fn has_lost(pid: Pid, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("{}/{pid}/status", root())).unwrap_or_default();
    parse_lost(&status, signal)
}

/// The same by the text of its status.
#[must_use]
pub fn parse_lost(status: &str, signal: Signal) -> bool {
    let bit = 1u64 << (signal.number() - 1);
    let held = |line: &str| {
        let (name, bits) = line.split_once(":\t")?;
        let told = matches!(name, "SigIgn" | "SigCgt" | "SigBlk" | "SigPnd" | "ShdPnd");
        u64::from_str_radix(bits, 16).ok().filter(|_| told)
    };
    let mut sets = status.lines().filter_map(held).peekable();
    sets.peek().is_some() && sets.all(|bits| bits & bit == 0)
}

/// Does a process show any environment?
#[must_use]
pub fn has_environment(pid: Pid) -> bool {
    !environment(pid).is_empty()
}

/// The server, and who is above it up to the first process.
#[must_use]
pub fn ancestors() -> Vec<Pid> {
    let own = i32::try_from(std::process::id()).ok().and_then(Pid::new);
    let parent = |pid: &Pid| stat(*pid).and_then(|stat| Pid::new(stat.ppid));
    // Parents are read one after the other; a number that is reused meanwhile makes no circle of it.
    std::iter::successors(own, parent).take(1024).collect()
}

/// The inodes of the pipes a process has as its standard descriptors.
pub fn standard_descriptors(pid: Pid) -> impl Iterator<Item = u64> {
    (0..3).filter_map(move |number| {
        let target = fs::read_link(format!("{}/{pid}/fd/{number}", root())).ok()?;
        let inode = target.to_str()?.strip_prefix("pipe:[")?.strip_suffix("]")?;
        inode.parse().ok()
    })
}

/// Bytes of a page of memory (`sysconf(3)`).
#[must_use]
pub fn page_bytes() -> u64 {
    // SAFETY: sysconf takes a plain number.
    unsafe { nix::libc::sysconf(nix::libc::_SC_PAGESIZE) }
        .try_into()
        .unwrap_or(4096)
}

/// Clock ticks of a second, the unit of [`Stat::ticks`].
#[must_use]
pub fn ticks_per_second() -> u64 {
    // SAFETY: as above.
    unsafe { nix::libc::sysconf(nix::libc::_SC_CLK_TCK) }
        .try_into()
        .unwrap_or(100)
}

/// The command line of a process, words separated by blanks.
#[must_use]
pub fn command_line(pid: Pid) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(format!("{}/{pid}/cmdline", root())) {
        let _ = file.take(4096).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes)
        .replace('\0', " ")
        .trim_end()
        .to_owned()
}

/// The effective user of a process (`proc_pid_status(5)`).
#[must_use]
pub fn user(pid: Pid) -> Option<u32> {
    let text = fs::read_to_string(format!("{}/{pid}/status", root())).ok()?;
    parse_user(&text)
}

/// The effective user in the text of a process's status.
#[must_use]
pub fn parse_user(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_forge_a_stat_line() {
        let line = b"42 (a) R 1 1 1 (b) S 7 8 9 0 -1 0 0 0 0 0 30 12 0 0 20 0 1 0 555 1000 77 0";
        let found = parse_stat(line).expect("a stat line");
        assert_eq!(
            (found.pid.number(), found.state, found.ppid, found.group),
            (42, 'S', 7, 8)
        );
        assert_eq!(
            (found.session, found.ticks, found.start, found.pages),
            (9, 42, 555, 77)
        );
        assert_eq!(found.name, "a) R 1 1 1 (b");
        for cut in 0..line.len() {
            let _ = parse_stat(&line[..cut]);
        }
        assert_eq!(parse_stat(b""), None);
        assert_eq!(parse_stat(b"0 (x) S 1 1 1"), None);
    }
}
