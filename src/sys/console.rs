//! The console of a machine: standard descriptors from nothing, lines that never wait, and the
//! log of PID 1, which goes to the kernel's as well (`Documentation/admin-guide/serial-console`,
//! `Documentation/ABI/testing/dev-kmsg`).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nix::libc;

use super::outlet::Outlet;

const CONSOLE: &str = "/dev/console";
const KERNEL_LOG: &str = "/dev/kmsg";

/// Longest record the kernel's log takes (`LOG_LINE_MAX`, `kernel/printk`), less its prefix.
const RECORD_BYTES: usize = 900;

/// Opens 0, 1 and 2 where the kernel could not, because it found no `/dev/console`. It comes before
/// the standard library's own start, which ends a program without them if it finds no `/dev/null`
/// either; and a PID 1 that ends is a kernel's panic.
#[used]
// SAFETY: functions in that section are called once, before main, with the process as it is.
#[unsafe(link_section = ".init_array")]
static OPEN_DESCRIPTORS: extern "C" fn() = open_descriptors;

extern "C" fn open_descriptors() {
    // SAFETY: system calls with constant strings that end with NUL, before anything else runs.
    unsafe {
        let is_open = |number| libc::fcntl(number, libc::F_GETFD) >= 0;
        if libc::getpid() != 1 || (0..3).all(is_open) {
            return;
        }
        libc::mkdir(c"/dev".as_ptr(), 0o755);
        let (dev, kind) = (c"/dev".as_ptr(), c"devtmpfs".as_ptr());
        libc::mount(
            kind,
            dev,
            kind,
            libc::MS_NOSUID,
            c"mode=0755".as_ptr().cast(),
        );
        let console = c"/dev/console".as_ptr();
        libc::mknod(console, libc::S_IFCHR | 0o600, libc::makedev(5, 1));
        loop {
            let mut number = libc::open(console, libc::O_RDWR | libc::O_NOCTTY);
            if number < 0 {
                // No console at all: something that takes what is written and gives nothing.
                number = libc::memfd_create(c"console".as_ptr(), 0);
            }
            if number < 0 {
                return;
            }
            if number > 2 {
                libc::close(number);
                return;
            }
        }
    }
}

/// Opens 0, 1 and 2 anew, on the console of another root.
pub fn reopen_descriptors() {
    if let Ok(file) = File::options().read(true).write(true).open(CONSOLE) {
        let _ = nix::unistd::dup2_stdin(&file);
        let _ = nix::unistd::dup2_stdout(&file);
        let _ = nix::unistd::dup2_stderr(&file);
    }
}

/// The terminal behind the console, which can be a controlling one; the console itself can't.
/// The kernel's list has the preferred one last (`Documentation/ABI/testing/sysfs-tty`).
#[must_use]
pub fn terminal() -> PathBuf {
    let active = fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    let named = active
        .split_whitespace()
        .next_back()
        // Virtual terminals are numbered from 0, which stands for the one in front.
        .map(|name| Path::new("/dev").join(name));
    named
        .filter(|path| path.exists())
        .unwrap_or_else(|| CONSOLE.into())
}

/// Writes lines to the console; what it does not take right now is lost.
#[derive(Debug, Default)]
pub struct Console {
    outlet: Option<Outlet>,
}

impl Console {
    /// Writes a text. A console that was hung up meanwhile is opened anew.
    pub fn write(&mut self, text: &str) {
        for _ in 0..2 {
            if self.outlet.is_none() {
                self.outlet = Outlet::open(Path::new(CONSOLE)).ok();
            }
            let Some(outlet) = &self.outlet else { return };
            match outlet.write(text.as_bytes()) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => self.outlet = None,
                Ok(_) | Err(_) => return,
            }
        }
    }
}

/// The log of PID 1: each line to the kernel's log, and to the console unless the kernel shows it
/// there. A line begins with its priority, `<6>` (`syslog(2)`).
#[derive(Debug)]
pub struct KernelLog {
    kernel: Option<Outlet>,
    console: Console,
    /// Lines of this priority and more urgent ones are shown.
    shown: u8,
    /// Lines of a lower number than this are put on the console by the kernel.
    kernel_shows: u8,
}

impl KernelLog {
    /// The log of a machine; with `quiet` only warnings and errors are shown.
    #[must_use]
    pub fn open(quiet: bool) -> Self {
        // Otherwise the kernel takes ten lines in five seconds, and a boot has more to say.
        let _ = fs::write("/proc/sys/kernel/printk_devkmsg", "on\n");
        Self {
            kernel: Outlet::open(Path::new(KERNEL_LOG)).ok(),
            console: Console::default(),
            shown: if quiet { 4 } else { 7 },
            kernel_shows: kernel_shows(),
        }
    }

    fn put(&mut self, line: &str) {
        let (priority, text) = line
            .strip_prefix('<')
            .and_then(|rest| rest.split_once('>'))
            .and_then(|(number, text)| Some((number.parse::<u8>().ok()?, text)))
            .unwrap_or((6, line));
        let logged = self.kernel.as_ref().is_some_and(|kernel| {
            let text = clipped(text.trim_end(), RECORD_BYTES);
            // 8 is the facility of programs, so that the line is not taken for the kernel's own.
            kernel
                .write(format!("<{}>zinit: {text}\n", 8 + priority).as_bytes())
                .is_ok()
        });
        if priority <= self.shown && !(logged && priority < self.kernel_shows) {
            self.console
                .write(&format!("zinit: {}\r\n", text.trim_end()));
        }
    }
}

impl Write for KernelLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The kernel puts records of a lower number than this on the console (`proc_sys_kernel(5)`).
fn kernel_shows() -> u8 {
    let levels = fs::read_to_string("/proc/sys/kernel/printk").unwrap_or_default();
    let first = levels.split_whitespace().next();
    first.and_then(|level| level.parse().ok()).unwrap_or(0)
}

/// At most so many bytes of a text, and no half letter.
fn clipped(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_clipped_between_letters() {
        assert_eq!(clipped("aé", 2), "a");
        assert_eq!(clipped("aé", 3), "aé");
        assert_eq!(clipped("aé", 9), "aé");
        assert_eq!(clipped("", 0), "");
    }
}
