//! Processes: fork, exec, and their ends.
//!
//! The fork returns at once. Whether exec succeeded comes back over a close-on-exec pipe: closed
//! without a word if it did, or eight bytes with the step and errno that failed. A program on a
//! disk that hangs holds up its own child, not the server.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::libc;
use nix::poll::poll;
use nix::sys::signal::{
    SigHandler, SigSet, SigmaskHow, Signal as NixSignal, pthread_sigmask, signal,
};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, chdir, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid};

use super::limits::OpenFiles;
use super::pipe::{Input, Reader, pipe};
use crate::engine::{Exit, Pid, SpawnError, Step};

/// Everything a child needs, made ready before the fork: the child only makes system calls.
pub struct Launch {
    /// Where the program may be, tried in order (a search in PATH, done by the child).
    pub programs: Vec<CString>,
    /// Its arguments, the name it is called by first.
    pub arguments: Vec<CString>,
    /// Its environment.
    pub environment: Vec<CString>,
    /// Its working directory.
    pub dir: Option<CString>,
    /// What its standard descriptors are.
    pub stdio: Stdio,
}

/// Standard input, output and error of a child.
pub enum Stdio {
    /// Output to pipes that the server reads; input from nowhere, or the server's own.
    Kept {
        /// The server's own input.
        own_input: bool,
    },
    /// A terminal, which is its controlling one too.
    Terminal(CString),
    /// The server's own, which is a terminal and becomes its controlling one.
    Own,
    /// Output to a file; nobody need live to read it.
    File(CString),
}

/// What services have in common.
pub struct Slate {
    /// `/dev/null`, their standard input.
    pub null: OwnedFd,
    /// Their limit of descriptors.
    pub open_files: OpenFiles,
}

/// A child on its way to its program.
#[derive(Debug)]
pub struct Child {
    /// Its number.
    pub pid: Pid,
    /// Tells of exec.
    pub exec: Reader,
    /// Its output and its errors, where they are kept.
    pub output: Option<[Reader; 2]>,
}

/// Forks a child that becomes the program, in a session of its own with a clean slate: empty
/// signal mask, default dispositions, no descriptors but 0, 1 and 2.
///
/// # Errors
/// [`SpawnError`] if there could be no child.
pub fn spawn(launch: &Launch, slate: &Slate) -> Result<Child, SpawnError> {
    let failed = |errno: nix::Error| SpawnError {
        step: Step::Fork,
        errno: errno as i32,
    };
    let (exec, exec_writer) = pipe().map_err(failed)?;
    let (output, output_ends) = match launch.stdio {
        Stdio::Kept { .. } => {
            let (stdout, stdout_writer) = pipe().map_err(failed)?;
            let (stderr, stderr_writer) = pipe().map_err(failed)?;
            (Some([stdout, stderr]), Some([stdout_writer, stderr_writer]))
        }
        Stdio::Terminal(_) | Stdio::Own | Stdio::File(_) => (None, None),
    };
    let vectors = Vectors::of(launch);
    let ends = Ends {
        exec: &exec_writer,
        output: output_ends.as_ref(),
    };
    let server = std::process::id();
    // SAFETY: the server has a single thread, so the child inherits no lock that another holds;
    // it makes system calls only and leaves by exec or _exit.
    match unsafe { fork() }.map_err(failed)? {
        ForkResult::Child => {
            die_with(server);
            become_program(launch, &vectors, slate, &ends)
        }
        ForkResult::Parent { child } => {
            let pid = Pid::new(child.as_raw()).expect("fork gives a positive number");
            Ok(Child { pid, exec, output })
        }
    }
}

/// Did the machine run out of something, rather than the service being wrong?
#[must_use]
pub fn is_scarcity(error: SpawnError) -> bool {
    matches!(
        error.errno,
        libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::ENOSPC
    )
}

/// What the exec pipe tells: nothing yet, success, or what failed.
pub fn read_exec(reader: &mut Reader) -> Option<Result<(), SpawnError>> {
    let mut word = [0; 8];
    match reader.read(&mut word) {
        Input::Nothing => None,
        Input::Bytes(8) => {
            let [a, b, c, d, step, ..] = word;
            let errno = i32::from_ne_bytes([a, b, c, d]);
            Some(Err(SpawnError {
                step: STEPS[usize::from(step) % STEPS.len()],
                errno,
            }))
        }
        Input::Bytes(_) | Input::End => Some(Ok(())),
    }
}

/// The steps by their number on the exec pipe.
const STEPS: [Step; 7] = [
    Step::Fork,
    Step::Session,
    Step::Stdio,
    Step::Terminal,
    Step::Limits,
    Step::Chdir,
    Step::Exec,
];

/// Argument vectors as `execve(2)` takes them.
struct Vectors {
    arguments: Vec<*const libc::c_char>,
    environment: Vec<*const libc::c_char>,
}

impl Vectors {
    fn of(launch: &Launch) -> Self {
        let pointers = |strings: &[CString]| {
            strings
                .iter()
                .map(|s| s.as_ptr())
                .chain([ptr::null()])
                .collect()
        };
        Self {
            arguments: pointers(&launch.arguments),
            environment: pointers(&launch.environment),
        }
    }
}

struct Ends<'a> {
    exec: &'a OwnedFd,
    output: Option<&'a [OwnedFd; 2]>,
}

/// The child's way to its program. From here to exec: system calls only.
fn become_program(launch: &Launch, vectors: &Vectors, slate: &Slate, ends: &Ends<'_>) -> ! {
    let (step, errno) = match prepare(launch, slate, ends) {
        Err((step, errno)) => (step, errno as i32),
        Ok(()) => (Step::Exec, exec(launch, vectors)),
    };
    let number = STEPS.iter().position(|known| *known == step).unwrap_or(0);
    let [a, b, c, d] = errno.to_ne_bytes();
    #[expect(clippy::cast_possible_truncation, reason = "there are seven steps")]
    let word = [a, b, c, d, number as u8, 0, 0, 0];
    let _ = nix::unistd::write(ends.exec, &word);
    // SAFETY: _exit ends the process without running anything of the parent's.
    unsafe { libc::_exit(127) }
}

/// Until its program runs a child shares the server's lock and socket, and carries no mark: if the
/// server is killed meanwhile it has to go too, or the next server finds both taken
/// (`PR_SET_PDEATHSIG`, `prctl(2)`).
fn die_with(server: u32) {
    // SAFETY: this prctl takes plain numbers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    if std::os::unix::process::parent_id() != server {
        // SAFETY: _exit ends the process without running anything of the parent's.
        unsafe { libc::_exit(127) };
    }
}

fn prepare(launch: &Launch, slate: &Slate, ends: &Ends<'_>) -> Result<(), (Step, nix::Error)> {
    setsid().map_err(|errno| (Step::Session, errno))?;
    match &launch.stdio {
        Stdio::Kept { own_input } => {
            connect(slate, *own_input, ends.output).map_err(|errno| (Step::Stdio, errno))?;
        }
        Stdio::Terminal(path) => take_terminal(path).map_err(|errno| (Step::Terminal, errno))?,
        // Without one, the program has to do without job control; that is no reason not to run.
        Stdio::Own => drop(control(0)),
        Stdio::File(path) => write_to(path, slate).map_err(|errno| (Step::Stdio, errno))?,
    }
    slate
        .open_files
        .restore()
        .map_err(|errno| (Step::Limits, errno))?;
    if let Some(dir) = &launch.dir {
        chdir(dir.as_c_str()).map_err(|errno| (Step::Chdir, errno))?;
    }
    // SAFETY: the default disposition runs no code of ours.
    unsafe { signal(NixSignal::SIGPIPE, SigHandler::SigDfl) }
        .map_err(|errno| (Step::Exec, errno))?;
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
        .map_err(|errno| (Step::Exec, errno))
}

fn connect(slate: &Slate, own_input: bool, ends: Option<&[OwnedFd; 2]>) -> nix::Result<()> {
    if !own_input {
        dup2_stdin(&slate.null)?;
    }
    if let Some([stdout, stderr]) = ends {
        dup2_stdout(stdout)?;
        dup2_stderr(stderr)?;
    }
    Ok(())
}

/// Opens a terminal as 0, 1 and 2 and makes it the controlling one, even if another session had
/// it before. A line without a carrier would be waited for, so it is opened without waiting first.
fn take_terminal(path: &CStr) -> nix::Result<()> {
    let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let terminal = open(path, flags, Mode::empty())?;
    fcntl(&terminal, FcntlArg::F_SETFL(OFlag::O_RDWR))?;
    control(terminal.as_raw_fd())?;
    dup2_stdin(&terminal)?;
    dup2_stdout(&terminal)?;
    dup2_stderr(&terminal)
}

/// Makes a terminal the controlling one of this session (`TIOCSCTTY`, `ioctl_tty(2)`).
fn control(terminal: RawFd) -> nix::Result<()> {
    let take = |steal: libc::c_int| {
        // SAFETY: this ioctl takes a plain number.
        nix::Error::result(unsafe { libc::ioctl(terminal, libc::TIOCSCTTY as _, steal) })
    };
    // Taking it from another session needs a right that not every server has.
    take(1).or_else(|_| take(0)).map(drop)
}

fn write_to(path: &CStr, slate: &Slate) -> nix::Result<()> {
    dup2_stdin(&slate.null)?;
    let file = open(path, OFlag::O_WRONLY | OFlag::O_NOCTTY, Mode::empty())?;
    dup2_stdout(&file)?;
    dup2_stderr(&file)
}

/// Tries each place; comes back with the errno that says most if none will do.
fn exec(launch: &Launch, vectors: &Vectors) -> i32 {
    // SAFETY: this prctl takes plain numbers. The program itself does not end with the server.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, 0) };
    let mut said = libc::ENOENT;
    for program in &launch.programs {
        // SAFETY: both vectors end with a null pointer and point into `launch`, which outlives this.
        unsafe {
            libc::execve(
                program.as_ptr(),
                vectors.arguments.as_ptr(),
                vectors.environment.as_ptr(),
            )
        };
        match nix::Error::last_raw() {
            libc::ENOENT | libc::ENOTDIR => {}
            // Like execvp(3): one that may not be run does not hide another further on.
            libc::EACCES => said = libc::EACCES,
            errno => return errno,
        }
    }
    said
}

/// Gives up the controlling terminal, so that a child's session can have it (`TIOCNOTTY`,
/// `ioctl_tty(2)`).
pub fn give_up_terminal() {
    // SAFETY: ignoring a signal runs no code of ours; the kernel sends one to whoever leads.
    let _ = unsafe { signal(NixSignal::SIGHUP, SigHandler::SigIgn) };
    // SAFETY: this ioctl takes no argument.
    unsafe { libc::ioctl(0, libc::TIOCNOTTY as _) };
}

/// Sets a variable of the server's own environment, or takes it out.
pub fn set_variable(name: &str, value: Option<&str>) {
    match value {
        // SAFETY: the server has a single thread.
        Some(value) => unsafe { std::env::set_var(name, value) },
        // SAFETY: as above.
        None => unsafe { std::env::remove_var(name) },
    }
}

/// Forks a child that does some work and ends with its result.
///
/// # Errors
/// As `fork(2)`.
pub fn child(work: impl FnOnce() -> i32) -> nix::Result<Pid> {
    // SAFETY: as in `spawn`, there is a single thread; the child leaves by _exit.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(Pid::new(child.as_raw()).expect("a positive number")),
        ForkResult::Child => {
            let status = work();
            // SAFETY: _exit ends the process without running anything of the parent's.
            unsafe { libc::_exit(status) }
        }
    }
}

/// Has a child do something that might never come back, such as to look at a file on a dead
/// network; gives its exit status, or none if it is not done in time. It is killed then, and if
/// not even that ends it, it is left to itself.
pub fn bounded(patience: Duration, work: impl FnOnce() -> i32) -> Option<i32> {
    join(child(work).ok()?, patience)
}

/// The exit status of a child, if it ends in time; it is killed else.
#[must_use]
pub fn join(child: Pid, patience: Duration) -> Option<i32> {
    let pid = nix::unistd::Pid::from_raw(child.number());
    let until = Instant::now() + patience;
    loop {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => {}
            Ok(WaitStatus::Exited(_, status)) => return Some(status),
            Ok(_) | Err(_) => return None,
        }
        if Instant::now() > until {
            let _ = nix::sys::signal::kill(pid, NixSignal::SIGKILL);
            return None;
        }
        let _ = poll(&mut [], 1u8);
    }
}

/// A child that has ended, still to be collected: its number means it until then.
#[must_use]
pub fn peek_dead() -> Option<(Pid, Exit)> {
    // SAFETY: an all-zero siginfo_t is a valid value for the kernel to fill in.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is valid for writing.
    if unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, flags) } != 0 {
        return None;
    }
    // SAFETY: waitid filled in the fields of SIGCHLD, or left them zero.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    let exit = if info.si_code == libc::CLD_EXITED {
        Exit::Code(status)
    } else {
        Exit::Signal(status)
    };
    Some((Pid::new(pid)?, exit))
}

/// Takes a dead child off the process table.
pub fn collect(pid: Pid) {
    // SAFETY: an all-zero siginfo_t is a valid value for the kernel to fill in.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let id = pid.number().unsigned_abs();
    // SAFETY: `info` is valid for writing.
    unsafe {
        libc::waitid(
            libc::P_PID,
            id,
            &raw mut info,
            libc::WEXITED | libc::WNOHANG,
        )
    };
}

/// Makes orphans of services our children (`PR_SET_CHILD_SUBREAPER`, `prctl(2)`), so that none
/// escapes to another.
///
/// # Errors
/// On kernels before 3.4.
pub fn adopt_orphans() -> nix::Result<()> {
    // SAFETY: this prctl takes plain numbers.
    nix::Error::result(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}

/// Closes whatever descriptors the server was started with, but 0, 1 and 2 (`close_range(2)`,
/// Linux 5.9): services shall not inherit what nobody meant for them.
pub fn close_inherited() {
    // SAFETY: called first thing in the server, when it has opened nothing yet.
    if unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) } == 0 {
        return;
    }
    let open = std::fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten();
    let numbers: Vec<RawFd> = open
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for number in numbers.into_iter().filter(|number| *number > 2) {
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

/// A descriptor by number, if it is open.
#[must_use]
pub fn borrow_stderr() -> BorrowedFd<'static> {
    // SAFETY: descriptor 2 is open for the whole life of the server.
    unsafe { BorrowedFd::borrow_raw(2) }
}
