//! Which descriptors a process starts with: 0, 1 and 2, and no others that nobody meant.

use std::os::fd::{AsRawFd, RawFd};

use nix::libc;

/// Closes whatever descriptors the server was started with, but 0, 1 and 2: services shall not
/// inherit what nobody meant for them. Called first thing in the server, when it has opened nothing.
pub fn close_inherited() {
    close_all_but(Vec::new());
}

/// Closes all descriptors but 0, 1, 2 and these (`close_range(2)`, Linux 5.9).
pub(super) fn close_all_but(mut kept: Vec<RawFd>) {
    kept.push(2);
    kept.retain(|number| *number >= 2);
    kept.sort_unstable();
    kept.dedup();
    let close = |first: RawFd, last: libc::c_uint| {
        // SAFETY: close_range takes plain numbers; nothing uses what it closes.
        first.unsigned_abs() > last
            || unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } == 0
    };
    let nexts = kept.iter().skip(1).map(|next| next.unsigned_abs() - 1);
    let lasts = nexts.chain([libc::c_uint::MAX]);
    if kept
        .iter()
        .zip(lasts)
        .all(|(before, last)| close(before + 1, last))
    {
        return;
    }
    let open = std::fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten();
    let numbers: Vec<RawFd> = open
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    let is_closed = |number: &RawFd| *number > 2 && kept.binary_search(number).is_err();
    for number in numbers.into_iter().filter(is_closed) {
        // SAFETY: as above; the directory's own descriptor is closed already and gives EBADF.
        unsafe { libc::close(number) };
    }
}

/// Makes sure that 0, 1 and 2 are open, so that no pipe of ours becomes one of them.
pub fn open_standard_descriptors() {
    loop {
        let Ok(null) = std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
        else {
            return;
        };
        if null.as_raw_fd() > 2 {
            return;
        }
        std::mem::forget(null);
    }
}
