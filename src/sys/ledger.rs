//! What the next server must know if this one is killed: the file `SOCKET.lock` beside the socket.
//!
//! It is locked for as long as the server lives, so that two that start at once can't both have the
//! socket, and it names each main process by number, time of start and service. A program may have
//! wiped its environment, which is how others are known; its number and start it can't change.
//! Whoever ends in order removes the file.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;
use nix::poll::poll;
use nix::unistd::geteuid;

use super::procfs::Stat;
use super::socket::identity;
use crate::engine::Pid;
use crate::engine::spec::{KillMode, Spec};

/// How often the lock is tried before another server is believed to have it.
const LOCK_TRIES: usize = 20;

/// Milliseconds between two tries.
const LOCK_PAUSE_MS: u8 = 10;

/// Bytes of an entry, so that each has its place: two numbers, the longest name and
/// a word.
const ENTRY_BYTES: usize = 300;

/// Largest file that is read: entries of as many services as there can be.
const MOST_BYTES: u64 = 64 << 20;

/// The file.
#[derive(Debug)]
pub struct Ledger {
    file: File,
    path: PathBuf,
    /// It holds what this server has noted, and nothing else.
    begun: bool,
    /// Nothing of an earlier server's stands in it any more.
    is_ours: bool,
}

/// A main process of an earlier server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub pid: Pid,
    /// When it started, as [`Stat::start`] has it.
    pub start: u64,
    /// Its service.
    pub name: String,
    /// What belongs to it beside the main process; all of it in a ledger that does not say.
    pub kill_mode: KillMode,
}

impl Entry {
    /// Is this that process, and not another that has its number now?
    #[must_use]
    pub fn is(&self, stat: &Stat) -> bool {
        (self.pid, self.start) == (stat.pid, stat.start)
    }
}

impl Ledger {
    /// Takes the ledger of a socket, with what an earlier server left in it.
    ///
    /// # Errors
    /// If another server has it, or as the system says.
    pub fn take(socket: &Path) -> io::Result<(Self, Vec<Entry>)> {
        if let Some(parent) = socket.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut path = socket.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let found = fs::symlink_metadata(&path);
        let is_new = found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        let file = lock(&path).inspect_err(|error| {
            // One that was just made is not left behind; but what is not the system's no is another
            // server's file by now.
            if is_new && error.raw_os_error().is_some() {
                let _ = fs::remove_file(&path);
            }
        })?;
        let mut ledger = Self {
            file,
            path,
            begun: false,
            is_ours: is_new,
        };
        let mut text = Vec::new();
        (&ledger.file).take(MOST_BYTES).read_to_end(&mut text)?;
        ledger.is_ours = text.is_empty();
        let left = parse(&String::from_utf8_lossy(&text), &boot());
        Ok((ledger, left))
    }

    /// Is the file there, and still the one that was taken?
    #[must_use]
    pub fn is_there(&self) -> bool {
        is_at(&self.file, &self.path)
    }

    /// Forgets what an earlier server left.
    ///
    /// # Errors
    /// As `write(2)`, with the path.
    pub fn begin(&mut self) -> io::Result<()> {
        let emptied = self.file.set_len(0);
        self.is_ours |= emptied.is_ok();
        let begun = emptied.and_then(|()| self.file.write_all_at(padded(&boot()).as_bytes(), 0));
        self.begun = begun.is_ok();
        let path = self.path.display();
        begun.map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))
    }

    /// Notes the main process of the service at this place, in place of the one before.
    ///
    /// # Errors
    /// As `pwrite(2)`.
    pub fn note(&mut self, place: usize, main: &Stat, spec: &Spec) -> io::Result<()> {
        // There may have been no room for the first line.
        if !self.begun {
            self.begin()?;
        }
        let offset = (place + 1) * ENTRY_BYTES;
        let mode = mode_word(spec.lifecycle.kill_mode);
        let entry = format!("{} {} {} {mode}", main.pid, main.start, spec.name);
        let entry = padded(&entry);
        self.file.write_all_at(entry.as_bytes(), offset as u64)
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        // A start that failed leaves to the next one what it did not come to.
        if self.is_ours && self.is_there() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Opens the file, or makes it. What stands in it says whom to kill, so it has to be our own: in a
/// directory like `/tmp` somebody else may have been there first.
fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600);
    let file = options.custom_flags(libc::O_NOFOLLOW).open(path)?;
    let meta = file.metadata()?;
    if meta.is_file() && meta.uid() == geteuid().as_raw() {
        return Ok(file);
    }
    let text = format!("{} belongs to somebody else", path.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

/// Opens the file and locks it. The lock goes with the last descriptor of the file; there is nothing
/// to undo, and so nothing that can go wrong at the end (`flock(2)`).
fn lock(path: &Path) -> io::Result<File> {
    for _ in 0..LOCK_TRIES {
        let file = open(path)?;
        // SAFETY: flock takes plain numbers; the descriptor is open.
        let locked = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
        match nix::Error::result(locked) {
            Ok(_) if is_at(&file, path) => return Ok(file),
            // A server that was ending has removed it in between.
            Ok(_) => continue,
            Err(nix::Error::EWOULDBLOCK | nix::Error::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        // The last child of a server that was killed may hold it for a moment longer.
        let _ = poll(&mut [], LOCK_PAUSE_MS);
    }
    Err(super::socket::taken())
}

/// Is this file the one that this path names?
fn is_at(file: &File, path: &Path) -> bool {
    let own = file.metadata().ok();
    let own = own.map(|meta| (meta.dev(), meta.ino()));
    own.is_some() && own == identity(path)
}

fn mode_word(mode: KillMode) -> &'static str {
    match mode {
        KillMode::Tree => "tree",
        KillMode::Group => "group",
        KillMode::Main => "main",
    }
}

/// Tells one boot of the machine from another: numbers and starts repeat (`proc_sys_kernel(5)`).
fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    format!("boot {}", id.trim())
}

fn padded(text: &str) -> String {
    let width = ENTRY_BYTES - 1;
    format!("{text:width$.width$}\n")
}

/// Reads the text of a ledger; one of another boot of the machine says nothing.
#[must_use]
pub fn parse(text: &str, boot: &str) -> Vec<Entry> {
    let mut lines = text.lines().map(|line| line.trim_matches([' ', '\0']));
    if lines.next() != Some(boot) {
        return Vec::new();
    }
    let entry = |line: &str| {
        let mut words = line.split(' ');
        let pid = Pid::new(words.next()?.parse().ok()?)?;
        let start = words.next()?.parse().ok()?;
        let name = words.next()?.to_owned();
        let modes = [KillMode::Group, KillMode::Main];
        let word = words.next();
        let mode = modes
            .into_iter()
            .find(|mode| word == Some(mode_word(*mode)));
        Some(Entry {
            pid,
            start,
            name,
            kill_mode: mode.unwrap_or_default(),
        })
    };
    lines.filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_read_unless_the_machine_was_booted_since() {
        let first = padded("boot a");
        let entry = padded("12 3400 web");
        assert_eq!((first.len(), entry.len()), (ENTRY_BYTES, ENTRY_BYTES));
        // A place that was never written reads as zeros.
        let hole = "\0".repeat(ENTRY_BYTES);
        let text = format!("{first}{hole}{entry}garbage\n0 1 x\n");
        let web = Entry {
            pid: Pid::new(12).expect("positive"),
            start: 3400,
            name: "web".into(),
            kill_mode: KillMode::Tree,
        };
        assert_eq!(parse(&text, "boot a"), [web]);
        for kill_mode in [KillMode::Tree, KillMode::Group, KillMode::Main] {
            let text = format!(
                "{first}{}",
                padded(&format!("1 2 a {}", mode_word(kill_mode)))
            );
            assert_eq!(parse(&text, "boot a")[0].kill_mode, kill_mode);
        }
        assert_eq!(parse(&text, "boot b"), []);
        assert_eq!(parse("", "boot a"), []);
    }
}
