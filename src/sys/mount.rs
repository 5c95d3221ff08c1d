//! Mounts: the kernel's own file systems at boot, everything undone at the end
//! (`mount(2)`, `proc_pid_mountinfo(5)`).

use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// A file system that PID 1 brings along.
struct Api {
    point: &'static str,
    kind: &'static str,
    flags: MsFlags,
    data: &'static str,
}

const SHUT: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC);
const NO_EXEC: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC);
const NO_DEVICES: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);

/// What is needed right away, with the flags that distributions use.
const FIRST: [Api; 3] = [
    api("/dev", "devtmpfs", MsFlags::MS_NOSUID, "mode=0755"),
    api("/proc", "proc", SHUT, ""),
    api("/run", "tmpfs", NO_DEVICES, "mode=0755"),
];

/// What only services need.
const REST: [Api; 4] = [
    api("/sys", "sysfs", SHUT, ""),
    api("/dev/pts", "devpts", NO_EXEC, "gid=5,mode=620,ptmxmode=666"),
    api("/dev/shm", "tmpfs", NO_DEVICES, "mode=1777"),
    api("/sys/fs/cgroup", "cgroup2", SHUT, "nsdelegate"),
];

const fn api(point: &'static str, kind: &'static str, flags: MsFlags, data: &'static str) -> Api {
    Api {
        point,
        kind,
        flags,
        data,
    }
}

/// A mount as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where.
    pub point: PathBuf,
    /// The kind of file system.
    pub kind: String,
}

/// Mounts the file systems that PID 1 itself needs.
pub fn mount_first() -> Vec<String> {
    mount_all(&FIRST)
}

/// Mounts those that services need, and makes the names that they expect in `/dev`.
pub fn mount_rest() -> Vec<String> {
    let problems = mount_all(&REST);
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        // It is there if an initramfs was before us.
        let _ = std::os::unix::fs::symlink(target, Path::new("/dev").join(name));
    }
    problems
}

/// Mounts them where they are not; what is there already stays as it is. Gives what could not be
/// mounted, a line each.
fn mount_all(apis: &[Api]) -> Vec<String> {
    let mut problems = Vec::new();
    for api in apis {
        // Whatever is mounted there was put there by somebody who knew why.
        if is_mount_point(Path::new(api.point)) {
            continue;
        }
        let mount_it = || {
            let (kind, data) = (Some(api.kind), Some(api.data));
            mount(kind, api.point, kind, api.flags, data)
        };
        let mut mounted = mount_it();
        if mounted == Err(nix::Error::ENOENT) {
            let _ = fs::create_dir_all(api.point);
            mounted = mount_it();
        }
        match mounted {
            Ok(()) | Err(nix::Error::EBUSY) => {}
            // A small kernel may do without.
            Err(nix::Error::ENODEV) => log::debug!("{}: no {} in the kernel", api.point, api.kind),
            Err(errno) => problems.push(format!("{} can't be mounted: {errno}", api.point)),
        }
    }
    problems
}

/// Is something mounted on this directory? It then lies on another device than its parent.
#[must_use]
pub fn is_mount_point(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    let (own, parent) = (device(path), device(&path.join("..")));
    match (own, parent) {
        // The root is its own parent.
        (Some((own, number)), Some((parent, above))) => own != parent || number == above,
        _ => false,
    }
}

/// All mounts, in the order in which they were made.
///
/// # Errors
/// As reading `/proc/self/mountinfo` does.
pub fn mounts() -> io::Result<Vec<Mount>> {
    Ok(parse(&fs::read("/proc/self/mountinfo")?))
}

/// Reads a table of mounts (`proc_pid_mountinfo(5)`).
#[must_use]
pub fn parse(table: &[u8]) -> Vec<Mount> {
    let lines = table.split(|byte| *byte == b'\n');
    let mount = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ');
        let point = unescaped(fields.nth(4)?);
        // Optional fields come before a dash; the kind of file system behind it.
        fields.find(|field| *field == b"-")?;
        Some(Mount {
            point: std::ffi::OsString::from_vec(point).into(),
            kind: String::from_utf8_lossy(fields.next()?).into_owned(),
        })
    };
    lines.filter_map(mount).collect()
}

/// Blanks and the like are written as a backslash and three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits = after
            .get(..3)
            .and_then(|digits| str::from_utf8(digits).ok());
        let value = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match value.filter(|_| *first == b'\\') {
            Some(value) => {
                bytes.push(value);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

/// Does this mount hold nothing that could be lost, or nothing that can be unmounted?
#[must_use]
pub fn is_transient(mount: &Mount) -> bool {
    let kinds = [
        "proc",
        "sysfs",
        "devtmpfs",
        "devpts",
        "cgroup",
        "cgroup2",
        "securityfs",
        "debugfs",
        "tracefs",
        "bpf",
        "pstore",
        "efivarfs",
        "rootfs",
        "mqueue",
        "configfs",
    ];
    let below = ["/proc", "/sys", "/dev"].map(Path::new);
    kinds.contains(&mount.kind.as_str()) || below.iter().any(|dir| mount.point.starts_with(dir))
}

/// Unmounts one.
///
/// # Errors
/// As `umount2(2)`.
pub fn unmount(point: &Path) -> nix::Result<()> {
    umount2(point, MntFlags::UMOUNT_NOFOLLOW)
}

/// Makes one read-only, so that nothing of it is half-written.
///
/// # Errors
/// As `mount(2)`.
pub fn make_read_only(point: &Path) -> nix::Result<()> {
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, point, None::<&str>, flags, None::<&str>)
}

/// Takes one out of the tree at once; it is unmounted when nobody uses it any more.
///
/// # Errors
/// As `umount2(2)`.
pub fn detach(point: &Path) -> nix::Result<()> {
    umount2(point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
}

/// Moves a mount to another place.
///
/// # Errors
/// As `mount(2)`.
pub fn move_to(from: &Path, to: &Path) -> nix::Result<()> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_MOVE, None::<&str>)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_mounts_is_read_with_its_escapes() {
        let table = b"22 1 0:2 / / rw shared:1 - rootfs rootfs rw\n\
            25 22 8:1 / /mnt/a\\040b\\134 rw,nosuid - ext4 /dev/sda1 rw\n\
            half a line\n\n";
        let of = |point: &str, kind: &str| Mount {
            point: point.into(),
            kind: kind.into(),
        };
        let found = parse(table);
        assert_eq!(found, [of("/", "rootfs"), of("/mnt/a b\\", "ext4")]);
        assert!(is_transient(&found[0]) && !is_transient(&found[1]));
        assert!(is_transient(&of("/dev/shm", "tmpfs")));
        assert_eq!(unescaped(b"\\04"), b"\\04");
        for cut in 0..table.len() {
            let _ = parse(&table[..cut]);
        }
    }

    #[test]
    fn what_is_mounted_is_known() {
        assert!(is_mount_point(Path::new("/")));
        assert!(is_mount_point(Path::new("/proc")));
        assert!(!is_mount_point(Path::new("/proc/self")));
        assert!(!is_mount_point(Path::new("/nowhere")));
    }
}
