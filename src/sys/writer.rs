//! Who writes log files: a process of its own, so that a disk that is slow, full or hangs holds up
//! nobody else. It has one piece at a time, and says what became of it before it gets the next.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};

use super::process;
use crate::engine::Pid;

/// The most that is written at once.
pub const PIECE_BYTES: usize = 64 << 10;

/// Files the writer keeps open.
const OPEN_FILES: usize = 64;

/// A file that lines are appended to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// Where.
    pub path: PathBuf,
    /// Bytes before it is rotated; 0 = never.
    pub max_size: u64,
    /// How many rotated files are kept.
    pub max_files: u32,
    /// Mode of a new file.
    pub mode: u32,
}

/// What became of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Bytes of it that are in the file.
    pub bytes: usize,
    /// What kept the rest from it: `errno(3)`, 0 if nothing did.
    pub errno: i32,
}

/// The writer, as the server sees it.
#[derive(Debug)]
pub struct Writer {
    socket: OwnedFd,
    /// Its process, a child of the server's.
    pub pid: Pid,
}

impl Writer {
    /// Starts it.
    ///
    /// # Errors
    /// As `socketpair(2)` and `fork(2)`.
    pub fn start() -> io::Result<Self> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        let pid = process::child(|| {
            process::become_helper(&theirs, c"zinit-log");
            write_on(&theirs)
        })?;
        Ok(Self { socket: ours, pid })
    }

    /// Has it end, and waits for that; it is killed if that takes longer.
    pub fn end(self, patience: Duration) {
        drop(self.socket);
        let _ = process::join(self.pid, patience);
    }

    /// Hands it a piece. The one before has to be done.
    ///
    /// # Errors
    /// If it is not there any more.
    pub fn hand(&self, file: &LogFile, piece: &[u8]) -> io::Result<()> {
        let path = file.path.as_os_str().as_bytes();
        let mut message = Vec::with_capacity(HEAD_BYTES + path.len() + piece.len());
        message.extend(file.max_size.to_ne_bytes());
        message.extend(file.max_files.to_ne_bytes());
        message.extend(file.mode.to_ne_bytes());
        message.extend(u64::try_from(path.len()).unwrap_or(0).to_ne_bytes());
        message.extend(path);
        message.extend(piece);
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        send(self.socket.as_raw_fd(), &message, flags)?;
        Ok(())
    }

    /// What became of the last piece, if that is known; an error if it will never be.
    ///
    /// # Errors
    /// If it is not there any more.
    pub fn written(&self) -> io::Result<Option<Written>> {
        let mut reply = [0; 12];
        match recv(self.socket.as_raw_fd(), &mut reply, MsgFlags::MSG_DONTWAIT) {
            Ok(12) => {
                let (bytes, errno) = reply.split_at(8);
                let bytes = u64::from_ne_bytes(bytes.try_into().unwrap_or_default());
                Ok(Some(Written {
                    bytes: usize::try_from(bytes).unwrap_or(0),
                    errno: i32::from_ne_bytes(errno.try_into().unwrap_or_default()),
                }))
            }
            Ok(_) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsRawFd for Writer {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

const HEAD_BYTES: usize = 24;

/// The writer's life: until the server has closed its end.
fn write_on(socket: &OwnedFd) -> i32 {
    let mut open: BTreeMap<PathBuf, File> = BTreeMap::new();
    let mut buffer = vec![0; HEAD_BYTES + libc::PATH_MAX as usize + PIECE_BYTES];
    loop {
        let length = match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(0) => return 0,
            Ok(length) => length,
            Err(nix::Error::EINTR) => continue,
            Err(_) => return 1,
        };
        let Some((file, piece)) = unpack(&buffer[..length]) else {
            return 1;
        };
        let mut bytes = 0;
        let result = append(&mut open, &file, piece, &mut bytes);
        let errno = match &result {
            Ok(()) => 0,
            Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
        };
        if result.is_err() {
            open.remove(&file.path);
        }
        let mut reply = u64::try_from(bytes).unwrap_or(0).to_ne_bytes().to_vec();
        reply.extend(errno.to_ne_bytes());
        if send(socket.as_raw_fd(), &reply, MsgFlags::MSG_NOSIGNAL).is_err() {
            return 0;
        }
    }
}

fn unpack(message: &[u8]) -> Option<(LogFile, &[u8])> {
    let (max_size, rest) = message.split_first_chunk::<8>()?;
    let (max_files, rest) = rest.split_first_chunk::<4>()?;
    let (mode, rest) = rest.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_ne_bytes(*length)).ok()?;
    let (path, piece) = rest.split_at_checked(length)?;
    let file = LogFile {
        path: Path::new(std::ffi::OsStr::from_bytes(path)).to_owned(),
        max_size: u64::from_ne_bytes(*max_size),
        max_files: u32::from_ne_bytes(*max_files),
        mode: u32::from_ne_bytes(*mode),
    };
    Some((file, piece))
}

/// Appends whole lines, and rotates between two of them.
fn append(
    open: &mut BTreeMap<PathBuf, File>,
    log: &LogFile,
    piece: &[u8],
    done: &mut usize,
) -> io::Result<()> {
    while *done < piece.len() {
        let file = opened(open, log)?;
        let size = file.metadata()?.len();
        let rest = &piece[*done..];
        let share = share(rest, size, log.max_size);
        if share == 0 {
            open.remove(&log.path);
            rotate(&log.path, log.max_files)?;
            continue;
        }
        match (&*file).write(&rest[..share]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => *done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// How much of these lines fits into a file of that size: whole lines, but one at least if the
/// file is empty.
fn share(lines: &[u8], size: u64, max_size: u64) -> usize {
    let room = usize::try_from(max_size.saturating_sub(size)).unwrap_or(usize::MAX);
    if max_size == 0 || lines.len() <= room {
        return lines.len();
    }
    let end = |part: &[u8]| part.iter().rposition(|byte| *byte == b'\n');
    if let Some(end) = end(&lines[..room]) {
        return end + 1;
    }
    if size > 0 {
        return 0;
    }
    let first = lines.iter().position(|byte| *byte == b'\n');
    first.map_or(lines.len(), |end| end + 1)
}

/// The open file, unless somebody has renamed or deleted it meanwhile.
fn opened<'a>(open: &'a mut BTreeMap<PathBuf, File>, log: &LogFile) -> io::Result<&'a File> {
    let is_same = |file: &File| {
        let (Ok(ours), Ok(there)) = (file.metadata(), fs::metadata(&log.path)) else {
            return false;
        };
        (ours.dev(), ours.ino()) == (there.dev(), there.ino())
    };
    if !open.get(&log.path).is_some_and(is_same) {
        if open.len() >= OPEN_FILES {
            open.clear();
        }
        let options = |new: bool| {
            let mut options = File::options();
            options.append(true).create_new(new).mode(log.mode);
            options.custom_flags(
                libc::O_CLOEXEC | libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_NOFOLLOW,
            );
            options
        };
        let file = match options(true).open(&log.path) {
            Ok(file) => {
                // Whatever the umask says.
                let _ = file.set_permissions(PermissionsExt::from_mode(log.mode));
                file
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                options(false).open(&log.path)?
            }
            Err(error) => return Err(error),
        };
        open.insert(log.path.clone(), file);
    }
    open.get(&log.path)
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// `log` becomes `log.1`, that `log.2`, and so on; the last one goes.
fn rotate(path: &Path, max_files: u32) -> io::Result<()> {
    let name = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    if max_files == 0 {
        return fs::remove_file(path);
    }
    for number in (1..max_files).rev() {
        match fs::rename(name(number), name(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    fs::rename(path, name(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_shared_out_whole() {
        assert_eq!(share(b"ab\ncd\n", 0, 0), 6);
        assert_eq!(share(b"ab\ncd\n", 0, 6), 6);
        assert_eq!(share(b"ab\ncd\n", 0, 5), 3);
        assert_eq!(share(b"ab\ncd\n", 4, 5), 0);
        assert_eq!(share(b"ab\ncd\n", 0, 1), 3);
        assert_eq!(share(b"abcd", 0, 1), 4);
    }

    #[test]
    fn rotation_loses_no_byte_and_cuts_no_line() {
        let dir = std::env::temp_dir().join(format!("zinit-writer-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let log = LogFile {
            path: dir.join("log"),
            max_size: 100,
            max_files: 50,
            mode: 0o600,
        };
        let mut open = BTreeMap::new();
        let mut all: Vec<u8> = Vec::new();
        for number in 0..100 {
            let lines = format!("line {number}\nand another {number}\n");
            all.extend(lines.as_bytes());
            let mut done = 0;
            append(&mut open, &log, lines.as_bytes(), &mut done).unwrap();
        }
        let mut found: Vec<u8> = Vec::new();
        for number in (1..=50).rev() {
            let part = fs::read(dir.join(format!("log.{number}"))).unwrap_or_default();
            assert!(part.len() <= 100 && (part.is_empty() || part.ends_with(b"\n")));
            found.extend(part);
        }
        found.extend(fs::read(&log.path).unwrap());
        assert_eq!(found, all);
        let mode = fs::metadata(&log.path).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o600);
        fs::remove_dir_all(dir).unwrap();
    }
}
