//! PID 1 must not end, or the kernel panics. If it crashes it starts over, by `execve(2)` of
//! itself, and the new image says on the console what became of the old one.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use nix::libc;

use super::{clock, process};

/// The variable that tells the new image why it is there.
const WHY: &str = "ZINIT_CRASHED";

/// Signals of a program that went wrong; `abort(3)` ends with one too.
const FATAL: [(libc::c_int, &str); 6] = [
    (libc::SIGSEGV, "killed by SIGSEGV"),
    (libc::SIGBUS, "killed by SIGBUS"),
    (libc::SIGILL, "killed by SIGILL"),
    (libc::SIGFPE, "killed by SIGFPE"),
    (libc::SIGSYS, "killed by SIGSYS"),
    (libc::SIGABRT, "aborted, out of memory perhaps"),
];

/// All that the handler needs, made beforehand: it makes system calls only.
struct Plan {
    program: libc::c_int,
    arguments: Vec<*const libc::c_char>,
    /// The environment for each signal of [`FATAL`].
    environments: Vec<Vec<*const libc::c_char>>,
}

static PLAN: AtomicPtr<Plan> = AtomicPtr::new(ptr::null_mut());

/// Makes the plan and sets the handlers. Called again, it sets the handlers alone.
pub fn guard() {
    if PLAN.load(Ordering::Relaxed).is_null() {
        let Some(plan) = plan() else { return };
        PLAN.store(Box::into_raw(Box::new(plan)), Ordering::Relaxed);
        std::panic::set_hook(Box::new(|panic| {
            let text = panic.to_string().replace(['\n', '\0'], " ");
            log::error!("this is a bug of zinit's, please report it: {text}");
            start_over(&text);
        }));
    }
    for (signal, _) in FATAL {
        // SAFETY: an all-zero sigaction is a valid one; the handler makes system calls only.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_crash as *const () as libc::sighandler_t;
            // The standard library has made a stack for the case that the usual one is full.
            action.sa_flags = libc::SA_NODEFER | libc::SA_ONSTACK;
            libc::sigaction(signal, &raw const action, ptr::null_mut());
        }
    }
}

/// Starts over, saying why. Comes back only if that can't be.
pub fn start_over(why: &str) {
    if std::process::id() != 1 {
        return;
    }
    // SAFETY: the plan is made once and never freed.
    let Some(plan) = (unsafe { PLAN.load(Ordering::Relaxed).as_ref() }) else {
        return;
    };
    let entries = environment(why);
    let pointers = pointers(&entries);
    unblock();
    exec(plan, &pointers);
}

extern "C" fn on_crash(signal: libc::c_int) {
    // SAFETY: getpid, _exit, sigprocmask and execveat are system calls; the plan is never freed.
    unsafe {
        if libc::getpid() != 1 {
            libc::_exit(127);
        }
        unblock();
        if let Some(plan) = PLAN.load(Ordering::Relaxed).as_ref() {
            let place = FATAL.iter().position(|(number, _)| *number == signal);
            let environment = place.and_then(|place| plan.environments.get(place));
            if let Some(environment) = environment {
                exec(plan, environment);
            }
        }
        // Nothing is left to do but not to end.
        loop {
            libc::pause();
        }
    }
}

fn plan() -> Option<Plan> {
    // The file stays what it is, whatever is mounted, moved or deleted meanwhile.
    let program = File::open("/proc/self/exe").ok()?;
    let number = program.as_raw_fd();
    std::mem::forget(program);
    let arguments: Vec<CString> = std::env::args_os()
        .filter_map(|word| CString::new(std::os::unix::ffi::OsStringExt::into_vec(word)).ok())
        .collect();
    let environments = FATAL
        .iter()
        .map(|(_, text)| pointers(Vec::leak(environment(text))))
        .collect();
    Some(Plan {
        program: number,
        arguments: pointers(Vec::leak(arguments)),
        environments,
    })
}

/// What the new image is told: how many have crashed soon after one another, and why the last did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crashed {
    /// So many in a row.
    pub count: u32,
    /// What is known of the last one.
    pub why: String,
}

/// An image that lives this long is not one of those that crash in a row.
const LONG_MS: u64 = 60_000;

/// How many crashed before this image, and when it began.
static BEFORE: AtomicU32 = AtomicU32::new(0);
static BEGAN_MS: AtomicU64 = AtomicU64::new(0);

/// Was an image before this one, that crashed? The environment does not tell services.
#[must_use]
pub fn before() -> Option<Crashed> {
    let now = clock::now().as_millis();
    BEGAN_MS.store(now, Ordering::Relaxed);
    let text = std::env::var(WHY).ok()?;
    process::set_variable(WHY, None);
    let mut parts = text.splitn(3, ' ');
    let count: u32 = parts.next()?.parse().ok()?;
    let began: u64 = parts.next()?.parse().ok()?;
    let is_in_a_row = now.saturating_sub(began) < LONG_MS;
    let count = if is_in_a_row { count + 1 } else { 1 };
    BEFORE.store(count, Ordering::Relaxed);
    Some(Crashed {
        count,
        why: parts.next()?.to_owned(),
    })
}

/// The environment this image was started with, and why the next one is.
fn environment(why: &str) -> Vec<CString> {
    let (count, began) = (
        BEFORE.load(Ordering::Relaxed),
        BEGAN_MS.load(Ordering::Relaxed),
    );
    let entry = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        let (name, value) = (name.into_encoded_bytes(), value.into_encoded_bytes());
        CString::new([name, value].join(&b'=')).ok()
    };
    let kept = std::env::vars_os().filter(|(name, _)| name != WHY);
    let why = CString::new(format!("{WHY}={count} {began} {why}")).unwrap_or_default();
    kept.filter_map(entry).chain([why]).collect()
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    let all = strings.iter().map(|string| string.as_ptr());
    all.chain([ptr::null()]).collect()
}

fn exec(plan: &Plan, environment: &[*const libc::c_char]) {
    // SAFETY: both vectors end with a null pointer, and their strings live as long as the process.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            plan.program,
            c"".as_ptr(),
            plan.arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
}

/// A signal that is blocked stays so over exec, and the next crash would not be told.
fn unblock() {
    // SAFETY: an all-zero set is the empty one.
    unsafe {
        let none: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}
