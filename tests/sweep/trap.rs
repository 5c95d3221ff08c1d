//! A server whose system calls are heard, and answered in the kernel's place: a filter of
//! `seccomp(2)` that asks this process (`seccomp_unotify(2)`) about the calls it is told to, or that
//! knows its answer by itself. All other calls run at their own speed.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread::JoinHandle;

use nix::libc;

/// Which calls are heard.
#[derive(Clone, Debug)]
pub(crate) enum Ears {
    /// Every one.
    All,
    /// Those with these numbers.
    These(Vec<i64>),
}

/// A call that waits for its answer.
pub(crate) struct Call {
    /// Who makes it.
    pub(crate) pid: i32,
    /// Does the process that was started make it itself, and no child of it?
    pub(crate) is_own: bool,
    /// Its number.
    pub(crate) number: i64,
    /// What it is given.
    pub(crate) arguments: [u64; 6],
}

/// A call that always has the same answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Denied {
    /// Its number.
    pub(crate) number: i64,
    /// Only with this first argument.
    pub(crate) first: Option<u32>,
    /// What it fails with.
    pub(crate) errno: i32,
}

/// What the child and its parent tell each other, in memory that both have.
struct Shared {
    pid: AtomicI32,
    listener: AtomicI32,
    is_heard: AtomicI32,
}

/// The page it lies in; gone with the last who has it.
struct Page(*mut Shared);

// SAFETY: all that is in there is atomic.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    fn new() -> io::Result<Self> {
        let (none, rights) = (std::ptr::null_mut(), libc::PROT_READ | libc::PROT_WRITE);
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping touches nothing that is there.
        let place = unsafe { libc::mmap(none, size_of::<Shared>(), rights, flags, -1, 0) };
        if place == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self(place.cast()))
    }

    fn get(&self) -> &Shared {
        // SAFETY: the mapping is large enough, zeroed, and lives as long as this does.
        unsafe { &*self.0 }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: nobody has a reference that outlives this.
        unsafe { libc::munmap(self.0.cast(), size_of::<Shared>()) };
    }
}

fn statement(code: u32, value: u32) -> libc::sock_filter {
    jump(code, value, 0, 0)
}

fn jump(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    let code = u16::try_from(code).expect("a code of two bytes");
    libc::sock_filter { code, jt, jf, k }
}

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const EQUALS: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// Where the number of a call, and the lower half of its first argument, stand (`seccomp(2)`).
const NUMBER_AT: u32 = 0;
const FIRST_AT: u32 = if cfg!(target_endian = "little") {
    16
} else {
    20
};

fn low(number: i64) -> u32 {
    u32::try_from(number).expect("a number of a call")
}

/// A filter that asks about calls. While the child waits to be heard it may yield.
fn asking(ears: &Ears) -> Vec<libc::sock_filter> {
    let mut filter = vec![statement(LOAD, NUMBER_AT)];
    let mut add = |number: i64, answer: u32| {
        filter.push(jump(EQUALS, low(number), 0, 1));
        filter.push(statement(RETURN, answer));
    };
    let rest = match ears {
        Ears::All => {
            add(libc::SYS_sched_yield, libc::SECCOMP_RET_ALLOW);
            libc::SECCOMP_RET_USER_NOTIF
        }
        Ears::These(numbers) => {
            for number in numbers {
                add(*number, libc::SECCOMP_RET_USER_NOTIF);
            }
            libc::SECCOMP_RET_ALLOW
        }
    };
    filter.push(statement(RETURN, rest));
    filter
}

/// A filter that knows its answers.
fn denying(denied: &[Denied]) -> Vec<libc::sock_filter> {
    let mut filter = Vec::new();
    for one in denied {
        filter.push(statement(LOAD, NUMBER_AT));
        let errno = one.errno.unsigned_abs() & libc::SECCOMP_RET_DATA;
        let answer = statement(RETURN, libc::SECCOMP_RET_ERRNO | errno);
        match one.first {
            None => filter.push(jump(EQUALS, low(one.number), 0, 1)),
            Some(first) => {
                filter.push(jump(EQUALS, low(one.number), 0, 3));
                filter.push(statement(LOAD, FIRST_AT));
                filter.push(jump(EQUALS, first, 0, 1));
            }
        }
        filter.push(answer);
    }
    filter.push(statement(RETURN, libc::SECCOMP_RET_ALLOW));
    filter
}

/// Puts a filter in force for this process and all that come from it.
fn install(filter: &mut [libc::sock_filter], flags: libc::c_ulong) -> io::Result<RawFd> {
    // SAFETY: these calls take plain numbers. Who may not do it otherwise gives up gaining rights.
    unsafe {
        if libc::geteuid() != 0 {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        }
    }
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).unwrap_or(u16::MAX),
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the program and its length are those of `filter`.
    let made = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(i32::try_from(made).unwrap_or(0))
}

/// Starts a command some of whose calls fail whoever makes them.
pub(crate) fn spawn_denied(command: &mut Command, denied: &[Denied]) -> io::Result<Child> {
    let mut filter = denying(denied);
    // SAFETY: between fork and exec there are only system calls.
    unsafe { command.pre_exec(move || install(&mut filter, 0).map(drop)) };
    command.spawn()
}

/// Who answers the calls, until nobody is left who could make any.
pub(crate) struct Listener(JoinHandle<io::Result<()>>);

impl Listener {
    /// Waits until the last process under the filter has ended.
    pub(crate) fn join(self) -> io::Result<()> {
        self.0.join().expect("the one who answers does not panic")
    }
}

/// Starts a command, and has `answer` say what each call that is heard fails with, if it does.
///
/// The descriptor that calls are heard over is taken from the child; it waits for that, so that no
/// call is made unheard.
pub(crate) fn spawn_heard(
    command: &mut Command,
    ears: &Ears,
    answer: impl FnMut(&Call) -> Option<i32> + Send + 'static,
) -> io::Result<(Child, Listener)> {
    let page = std::sync::Arc::new(Page::new()?);
    let mut filter = asking(ears);
    let theirs = std::sync::Arc::clone(&page);
    let prepare = move || {
        let shared = theirs.get();
        let flags =
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        shared.pid.store(own, Ordering::SeqCst);
        let listener = match install(&mut filter, flags) {
            Ok(listener) => listener,
            Err(error) => {
                shared.listener.store(-1, Ordering::SeqCst);
                return Err(error);
            }
        };
        shared.listener.store(listener, Ordering::SeqCst);
        while shared.is_heard.load(Ordering::SeqCst) == 0 {
            // SAFETY: this takes nothing.
            unsafe { libc::sched_yield() };
        }
        Ok(())
    };
    // SAFETY: between fork and exec there are only system calls, and a page that both have.
    unsafe { command.pre_exec(prepare) };
    let ours = std::sync::Arc::clone(&page);
    let listener = std::thread::spawn(move || {
        let shared = ours.get();
        let number = loop {
            match shared.listener.load(Ordering::SeqCst) {
                0 => std::thread::yield_now(),
                -1 => return Ok(()),
                number => break number,
            }
        };
        let own = shared.pid.load(Ordering::SeqCst);
        let taken = take_descriptor(own, number);
        shared.is_heard.store(1, Ordering::SeqCst);
        listen(&taken?, own, answer)
    });
    let spawned = command.spawn();
    if spawned.is_err() {
        // The fork itself may have failed: then there is nobody who would say so.
        let shared = page.get();
        let _ = shared
            .listener
            .compare_exchange(0, -1, Ordering::SeqCst, Ordering::SeqCst);
    }
    Ok((spawned?, Listener(listener)))
}

/// A copy of another process's descriptor (`pidfd_getfd(2)`).
fn take_descriptor(pid: i32, number: RawFd) -> io::Result<OwnedFd> {
    let own = |made: libc::c_long| {
        let made = i32::try_from(nix::Error::result(made)?).unwrap_or(-1);
        // SAFETY: the kernel just gave us this descriptor.
        Ok::<_, io::Error>(unsafe { OwnedFd::from_raw_fd(made) })
    };
    // SAFETY: this takes plain numbers.
    let pin = own(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: as above.
    own(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pin.as_raw_fd(), number, 0) })
}

fn listen(
    listener: &OwnedFd,
    own: i32,
    mut answer: impl FnMut(&Call) -> Option<i32>,
) -> io::Result<()> {
    let number = listener.as_raw_fd();
    loop {
        let mut wait = libc::pollfd {
            fd: number,
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: there is one entry.
        if unsafe { libc::poll(&raw mut wait, 1, -1) } < 0 {
            continue;
        }
        if wait.revents & libc::POLLIN == 0 {
            return Ok(());
        }
        // SAFETY: all-zero is what the kernel asks for.
        let mut heard: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel fills in one of these.
        if unsafe { libc::ioctl(number, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut heard) } < 0 {
            // Who made the call has been killed meanwhile.
            continue;
        }
        let pid = i32::try_from(heard.pid).unwrap_or(0);
        let failure = answer(&Call {
            pid,
            is_own: pid == own,
            number: i64::from(heard.data.nr),
            arguments: heard.data.args,
        });
        let flags = u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).expect("one bit");
        let mut response = libc::seccomp_notif_resp {
            id: heard.id,
            val: 0,
            error: failure.map_or(0, |errno| -errno),
            flags: if failure.is_some() { 0 } else { flags },
        };
        // SAFETY: the kernel reads one of these. Who is gone needs no answer.
        unsafe { libc::ioctl(number, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response) };
    }
}
