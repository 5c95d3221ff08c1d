//! From an initramfs to the real root (`Documentation/filesystems/ramfs-rootfs-initramfs`):
//! `pivot_root(2)` does not work on rootfs, so the new root is moved over the old one.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{AccessFlags, access, chdir, chroot, execv};

use super::{console, machine, mount, process, signals};

/// Where to go, and what is to run there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchRoot {
    /// The mounted new root.
    pub root: PathBuf,
    /// The program that becomes PID 1, as it is called there.
    pub init: PathBuf,
}

/// Programs that are tried when the wanted one can't be run any more.
const OTHERS: [&str; 4] = ["/sbin/init", "/etc/init", "/bin/init", "/bin/sh"];

/// Mounts that go along.
const MOVED: [&str; 4] = ["/dev", "/proc", "/sys", "/run"];

/// Time to look at a file on the new root.
const LOOK: Duration = Duration::from_secs(2);

/// What the one who looks says of it by its exit status.
const NO_DIRECTORY: i32 = 2;
const NO_MOUNT_POINT: i32 = 3;

impl SwitchRoot {
    /// What speaks against it, in one sentence; afterwards nothing could be undone.
    ///
    /// # Errors
    /// The sentence.
    pub fn check(&self) -> Result<(), String> {
        let root = self.root.display();
        if !machine::is_initramfs() {
            return Err(
                "the root is no initramfs: it must lie in memory and have a file /init".into(),
            );
        }
        let found = process::bounded(LOOK, || {
            if !self.root.is_dir() {
                return NO_DIRECTORY;
            }
            if self.root == Path::new("/") || !mount::is_mount_point(&self.root) {
                return NO_MOUNT_POINT;
            }
            // Paths and symbolic links there mean what they will mean when it is the root.
            let found = chroot(&self.root)
                .and_then(|()| chdir("/"))
                .and_then(|()| access(&self.init, AccessFlags::X_OK))
                .is_ok_and(|()| self.init.is_file());
            i32::from(!found)
        });
        match found {
            Some(0) => Ok(()),
            Some(NO_DIRECTORY) => Err(format!("{root} is no directory")),
            Some(NO_MOUNT_POINT) => Err(format!(
                "{root} is no mount point: mount the new root there first"
            )),
            Some(_) => Err(format!(
                "{} does not exist under {root}, or may not be run",
                self.init.display()
            )),
            None => Err(format!("{root} does not answer")),
        }
    }

    /// Goes there. It only comes back if nothing at all can be run on the new root.
    pub fn go(&self) -> String {
        for from in MOVED.map(Path::new) {
            if !mount::is_mount_point(from) {
                continue;
            }
            let to = self.root.join(from.strip_prefix("/").unwrap_or(from));
            let _ = fs::create_dir_all(&to);
            if mount::move_to(from, &to).is_err() {
                let _ = mount::detach(from);
            }
        }
        if let Ok(device) = fs::metadata("/").map(|meta| meta.dev()) {
            clear(Path::new("/"), device);
        }
        let moved = chdir(&self.root)
            .and_then(|()| mount::move_to(Path::new("."), Path::new("/")))
            .and_then(|()| chroot("."))
            .and_then(|()| chdir("/"));
        if let Err(errno) = moved {
            return format!("{} can't become the root: {errno}", self.root.display());
        }
        console::reopen_descriptors();
        // Blocked signals stay so over exec, and most programs do not expect that.
        signals::release();
        let wanted = std::iter::once(self.init.as_path());
        for program in wanted.chain(OTHERS.map(Path::new)) {
            let Ok(path) = CString::new(program.as_os_str().as_bytes()) else {
                continue;
            };
            let _ = execv(&path, &[&path]);
        }
        format!("nothing can be run on {}", self.root.display())
    }
}

/// Gives back the memory of the old root: what lies on its own device, mounts are left alone.
fn clear(dir: &Path, device: u64) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(meta) = fs::symlink_metadata(&path) else {
            continue;
        };
        if meta.dev() != device {
            continue;
        }
        if meta.is_dir() {
            clear(&path, device);
            let _ = fs::remove_dir(&path);
        } else {
            let _ = fs::remove_file(&path);
        }
    }
}
