//! System calls by name, what each can't fail with, and what one is about.

use std::fs;
use std::os::unix::fs::FileExt;

use nix::libc;

use super::trap::Call;

macro_rules! calls {
    ($($name:ident)*) => {
        &[$((stringify!($name), libc::$name)),*]
    };
}

/// Calls that a server may make, on every machine.
#[rustfmt::skip]
const CALLS: &[(&str, i64)] = calls![
    SYS_accept4 SYS_bind SYS_brk SYS_capget SYS_capset SYS_chdir SYS_chroot SYS_clock_gettime
    SYS_clock_nanosleep SYS_clone SYS_clone3 SYS_close SYS_close_range SYS_connect
    SYS_copy_file_range SYS_dup SYS_dup3 SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_eventfd2
    SYS_execve SYS_exit SYS_exit_group SYS_faccessat SYS_faccessat2 SYS_fallocate SYS_fchdir
    SYS_fchmod SYS_fchmodat SYS_fchown SYS_fchownat SYS_fcntl SYS_fdatasync SYS_flock SYS_fstat
    SYS_fsync SYS_ftruncate SYS_futex SYS_getcwd SYS_getdents64 SYS_getegid SYS_geteuid SYS_getgid
    SYS_getgroups SYS_getpeername SYS_getpgid SYS_getpid SYS_getppid SYS_getpriority SYS_getrandom
    SYS_getrlimit SYS_getrusage SYS_getsid SYS_getsockname SYS_getsockopt SYS_gettid SYS_getuid
    SYS_ioctl SYS_ioprio_set SYS_kill SYS_linkat SYS_listen SYS_lseek SYS_madvise SYS_memfd_create
    SYS_mkdirat SYS_mknodat SYS_mmap SYS_mount SYS_mprotect SYS_mremap SYS_munmap SYS_nanosleep
    SYS_newfstatat SYS_openat SYS_openat2 SYS_pidfd_open SYS_pidfd_send_signal SYS_pipe2 SYS_ppoll
    SYS_prctl SYS_pread64 SYS_prlimit64 SYS_pselect6 SYS_pwrite64 SYS_read SYS_readlinkat SYS_readv
    SYS_recvfrom SYS_recvmsg SYS_renameat SYS_renameat2 SYS_rseq SYS_rt_sigaction SYS_rt_sigprocmask
    SYS_rt_sigreturn SYS_rt_sigtimedwait SYS_sched_getaffinity SYS_sched_yield SYS_sendfile
    SYS_sendmsg SYS_sendto SYS_set_robust_list SYS_set_tid_address SYS_setgid SYS_setgroups
    SYS_setns SYS_setpgid SYS_setpriority SYS_setrlimit SYS_setsid SYS_setsockopt SYS_setuid
    SYS_shutdown SYS_sigaltstack SYS_signalfd4 SYS_socket SYS_socketpair SYS_splice SYS_statfs
    SYS_statx SYS_symlinkat SYS_sync SYS_tgkill SYS_timerfd_create SYS_timerfd_gettime
    SYS_timerfd_settime SYS_umask SYS_uname SYS_unlinkat SYS_unshare SYS_utimensat SYS_wait4
    SYS_waitid SYS_write SYS_writev
];

/// Those that only the older machines have.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OLD_CALLS: &[(&str, i64)] = calls![
    SYS_access SYS_arch_prctl SYS_chmod SYS_chown SYS_dup2 SYS_epoll_wait SYS_fork SYS_getpgrp
    SYS_lstat SYS_mkdir SYS_open SYS_pipe SYS_poll SYS_readlink SYS_rename SYS_rmdir SYS_select
    SYS_stat SYS_symlink SYS_time SYS_unlink SYS_vfork
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_CALLS: &[(&str, i64)] = &[];

/// The name of a call.
pub(crate) fn name(number: i64) -> String {
    let all = CALLS.iter().chain(OLD_CALLS);
    let found = all.into_iter().find(|(_, known)| *known == number);
    found.map_or_else(|| number.to_string(), |(name, _)| name[4..].to_owned())
}

/// The number of a call, if this machine has it.
pub(crate) fn number(name: &str) -> Option<i64> {
    let all = CALLS.iter().chain(OLD_CALLS);
    let found = all.into_iter().find(|(known, _)| &known[4..] == name);
    found
        .map(|(_, number)| *number)
        .or_else(|| name.parse().ok())
}

/// What a call may fail with.
pub(crate) const ERRORS: &[(&str, i32)] = &[
    ("ENOMEM", libc::ENOMEM),
    ("EMFILE", libc::EMFILE),
    ("EAGAIN", libc::EAGAIN),
    ("EIO", libc::EIO),
    ("EINTR", libc::EINTR),
    ("ENOSYS", libc::ENOSYS),
    ("EPERM", libc::EPERM),
];

/// An errno by its name.
pub(crate) fn errno(name: &str) -> Option<i32> {
    let found = ERRORS.iter().find(|(known, _)| *known == name);
    found.map(|(_, errno)| *errno)
}

/// Calls that give a descriptor, which is where `EMFILE` makes sense.
const OPENS: &[&str] = &[
    "accept4",
    "dup",
    "dup2",
    "dup3",
    "epoll_create1",
    "eventfd2",
    "fcntl",
    "memfd_create",
    "open",
    "openat",
    "pidfd_open",
    "pipe2",
    "signalfd4",
    "socket",
    "socketpair",
    "timerfd_create",
];

/// What is not tried, and why: a call, about what begins so, with an error or with each.
#[rustfmt::skip]
pub(crate) const NOT_TRIED: &[(&str, &str, &str, &str)] = &[
    ("exit_group", "", "", "has no result"),
    ("exit", "", "", "has no result"),
    ("rt_sigreturn", "", "", "has no result"),
    ("getpid", "", "", "can't fail"),
    ("gettid", "", "", "can't fail"),
    ("getppid", "", "", "can't fail"),
    ("getuid", "", "", "can't fail"),
    ("geteuid", "", "", "can't fail"),
    ("getgid", "", "", "can't fail"),
    ("getegid", "", "", "can't fail"),
    ("umask", "", "", "can't fail: what comes back is a mask"),
    ("rt_sigprocmask", "", "", "can't fail with a set that is there, and the library does not say if it did"),
    ("rt_sigaction", "", "", "can't fail for a signal that is there; the standard library ends if it does"),
    ("getrandom", "", "", "can't fail where it is; the standard library ends if it does"),
    ("set_robust_list", "", "", "is the C library's own, and has one right use"),
    ("set_tid_address", "", "", "is the C library's own, and can't fail"),
    ("rseq", "", "", "is the C library's own, which does without"),
    ("brk", "", "", "memory: who gets none ends, and says so"),
    ("mmap", "", "", "memory: who gets none ends, and says so"),
    ("mremap", "", "", "memory: who gets none ends, and says so"),
    ("munmap", "", "", "memory: the library takes no failure"),
    ("mprotect", "", "", "memory: the library takes no failure"),
    ("madvise", "", "", "memory: the library takes no failure"),
    ("sched_yield", "", "", "is how the trap waits"),
    ("close", "", "", "gives the descriptor back whatever it says; here it would stay open"),
    // Who polls for edges has to believe that there is nothing, and is not told again.
    ("accept4", "", "EAGAIN", "says that nobody is there: a kernel does not lie"),
    ("read", "pipe", "EAGAIN", "says that nothing is there: a kernel does not lie"),
    ("read", "anon_inode", "EAGAIN", "says that nothing is there: a kernel does not lie"),
    ("recvfrom", "socket", "EAGAIN", "says that nothing is there: a kernel does not lie"),
    ("recvmsg", "socket", "EAGAIN", "says that nothing is there: a kernel does not lie"),
    ("sendto", "socket", "EAGAIN", "says that there is no room: a kernel does not lie"),
];

/// Is this one tried?
pub(crate) fn is_tried(name: &str, about: &str, errno: &str) -> bool {
    let excused = |(call, begin, which, _): &(&str, &str, &str, &str)| {
        *call == name && about.starts_with(begin) && (which.is_empty() || *which == errno)
    };
    !NOT_TRIED.iter().any(excused) && (errno != "EMFILE" || OPENS.contains(&name))
}

/// What a call is about: a path, or what a descriptor stands for, without its numbers. None for a
/// call that only a build for tests makes: it looks whether a descriptor is open before it closes it.
pub(crate) fn subject(call: &Call, name: &str, dir: &str) -> Option<String> {
    let of_descriptor = |place: usize| descriptor(call.pid, call.arguments[place]);
    let second = call.arguments[1];
    let text = match name {
        "openat" | "newfstatat" | "unlinkat" | "mkdirat" | "readlinkat" | "statx" | "faccessat"
        | "faccessat2" | "fchmodat" | "fchownat" | "renameat" | "renameat2" => {
            match path(call.pid, second) {
                text if text.is_empty() => of_descriptor(0),
                text => text,
            }
        }
        "open" | "stat" | "lstat" | "unlink" | "mkdir" | "rmdir" | "readlink" | "rename"
        | "access" | "chmod" | "chown" | "statfs" | "chdir" => path(call.pid, call.arguments[0]),
        // Where a program is looked for is the affair of whoever runs the tests.
        "execve" => {
            let text = path(call.pid, call.arguments[0]);
            text.rsplit('/').next().unwrap_or_default().to_owned()
        }
        "fcntl" if second == 1 => return None,
        "fcntl" | "ioctl" => format!("{second:x}h {}", of_descriptor(0)),
        "read" | "write" | "fstat" | "lseek" | "recvfrom" | "recvmsg" | "sendto" | "sendmsg"
        | "getdents64" | "ftruncate" | "flock" | "fsync" | "fdatasync" | "pread64" | "pwrite64"
        | "readv" | "writev" | "setsockopt" | "getsockopt" | "getsockname" | "bind" | "listen"
        | "accept4" | "connect" | "shutdown" | "fchmod" | "fchown" | "dup" | "dup2" | "dup3" => {
            of_descriptor(0)
        }
        "epoll_ctl" => of_descriptor(2),
        "prctl" => return Some(format!("option-{}", call.arguments[0])),
        _ => String::new(),
    };
    Some(plain(&text.replace(dir, "")))
}

/// A text without what is different from one day to the next: numbers, and blanks.
fn plain(text: &str) -> String {
    let words = text.split_inclusive(['/', '-', '.', '[', ']', ' ', ':']);
    let mut plain = String::new();
    for word in words {
        let end = word.len()
            - word
                .trim_end_matches(|letter: char| !letter.is_alphanumeric())
                .len();
        let (name, end) = word.split_at(word.len() - end);
        let is_number = name.chars().any(|letter| letter.is_ascii_digit())
            && name.chars().all(|letter| letter.is_ascii_hexdigit());
        plain.push_str(if is_number { "N" } else { name });
        plain.push_str(end);
    }
    let plain = plain.replace(' ', "_");
    // One service's cgroup is like another's.
    match plain.split_once("/service-") {
        None => plain,
        Some((before, after)) => {
            let rest = after
                .split_once('/')
                .map_or(String::new(), |(_, rest)| format!("/{rest}"));
            format!("{before}/service{rest}")
        }
    }
}

fn descriptor(pid: i32, number: u64) -> String {
    let target = fs::read_link(format!("/proc/{pid}/fd/{number}"));
    target.map_or_else(|_| "?".to_owned(), |path| path.display().to_string())
}

fn path(pid: i32, place: u64) -> String {
    let mut bytes = [0; 256];
    let file = fs::File::open(format!("/proc/{pid}/mem"));
    let read = file.and_then(|file| file.read_at(&mut bytes, place));
    let bytes = &bytes[..read.unwrap_or(0)];
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}
