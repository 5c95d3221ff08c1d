//! The machine as a whole: its name, its loopback, its last moments (`reboot(2)`).

use std::fs;
use std::io;
use std::path::Path;

use nix::libc;
use nix::unistd::sethostname;

/// How a machine's run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Switched off.
    Poweroff,
    /// Started anew.
    Reboot,
    /// Stopped, with the power on.
    Halt,
    /// Another kernel, which was loaded before, takes over (`kexec_load(2)`).
    Kexec,
}

impl Verb {
    /// As one says it of what is going on.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Poweroff => "powering off",
            Self::Reboot => "rebooting",
            Self::Halt => "halting",
            Self::Kexec => "starting the loaded kernel",
        }
    }
}

/// The name of the machine (`gethostname(2)`); empty if it has none.
#[must_use]
pub fn hostname() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_default()
}

/// Gives the machine the name in `/etc/hostname`, if there is one (`hostname(5)`).
///
/// # Errors
/// As `sethostname(2)`.
pub fn name() -> nix::Result<()> {
    let text = fs::read_to_string("/etc/hostname").unwrap_or_default();
    let mut lines = text.lines().map(str::trim);
    let name = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
    name.map_or(Ok(()), sethostname)
}

/// Brings the loopback interface up; the kernel gives it its address (`netdevice(7)`).
///
/// # Errors
/// As `socket(2)` and `ioctl(2)`.
pub fn loopback_up() -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // Any socket will do; this kind is there whenever our own socket can be.
    let socket = std::os::unix::net::UnixDatagram::unbound()?;
    // SAFETY: an all-zero request is a valid one, of an interface without a name.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        // Letters are signed on some processors; these two are the same either way.
        *place = libc::c_char::from_ne_bytes([*byte]);
    }
    #[expect(clippy::cast_possible_truncation, reason = "the kernel's flags fit")]
    {
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    }
    // SAFETY: the kernel reads one request.
    let set = unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS as _,
            &raw const request,
        )
    };
    nix::Error::result(set).map(drop).map_err(Into::into)
}

/// Has Ctrl-Alt-Del send SIGINT to PID 1 rather than reboot on the spot. It fails with EINVAL in
/// a PID namespace of its own, and with EPERM without the right to: no machine is ours then.
///
/// # Errors
/// As `reboot(2)`.
pub fn catch_ctrl_alt_del(catch: bool) -> nix::Result<()> {
    let command = if catch {
        libc::RB_DISABLE_CAD
    } else {
        libc::RB_ENABLE_CAD
    };
    // SAFETY: reboot with these commands changes one switch of the kernel's.
    nix::Error::result(unsafe { libc::reboot(command) }).map(drop)
}

/// Ends the machine's run. If that works it does not come back, so it is for a child to call.
///
/// # Errors
/// As `reboot(2)`.
pub fn end(verb: Verb) -> nix::Result<()> {
    let command = match verb {
        Verb::Poweroff => libc::RB_POWER_OFF,
        Verb::Reboot => libc::RB_AUTOBOOT,
        Verb::Halt => libc::RB_HALT_SYSTEM,
        Verb::Kexec => libc::RB_KEXEC,
    };
    // SAFETY: reboot takes a plain number.
    nix::Error::result(unsafe { libc::reboot(command) }).map(drop)
}

/// The same by the caller's own hand, with nothing stopped or unmounted; what was written is kept.
///
/// # Errors
/// As `reboot(2)`.
pub fn sync_and_end(verb: Verb) -> nix::Result<()> {
    sync();
    end(verb)
}

/// Writes out what is not written yet (`sync(2)`).
pub fn sync() {
    nix::unistd::sync();
}

/// The last resort when `reboot(2)` does nothing (`Documentation/admin-guide/sysrq`).
pub fn end_by_sysrq(verb: Verb) {
    let key = match verb {
        Verb::Poweroff | Verb::Halt => "o",
        Verb::Reboot | Verb::Kexec => "b",
    };
    let _ = fs::write("/proc/sysrq-trigger", key);
}

/// Is a kernel loaded that `kexec` would start?
#[must_use]
pub fn is_kexec_loaded() -> bool {
    fs::read_to_string("/sys/kernel/kexec_loaded").is_ok_and(|text| text.trim() == "1")
}

/// Gives back all swap (`swapoff(2)`).
pub fn swap_off() {
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    for line in swaps.lines().skip(1) {
        let path = line.split_whitespace().next().unwrap_or_default();
        let path = path.replace("\\040", " ");
        let Ok(path) = std::ffi::CString::new(path) else {
            continue;
        };
        // SAFETY: the string ends with NUL.
        if unsafe { libc::swapoff(path.as_ptr()) } != 0 {
            log::warn!("swapoff {path:?}: {}", nix::Error::last());
        }
    }
}

/// Is this the root of an initramfs: a file system in memory, with an `/init`?
#[must_use]
pub fn is_initramfs() -> bool {
    use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};
    /// `ramfs` by its number (`RAMFS_MAGIC`, `linux/magic.h`).
    const RAMFS: FsType = FsType(0x8584_58f6);
    let in_memory = statfs("/").is_ok_and(|found| {
        let kind = found.filesystem_type();
        kind == TMPFS_MAGIC || kind == RAMFS
    });
    in_memory && Path::new("/init").is_file()
}
