//! Processes: fork, exec, and their ends.
//!
//! The fork returns at once. Whether exec succeeded comes back over a close-on-exec pipe: closed
//! without a word if it did, or eight bytes with the step and errno that failed. A program on a
//! disk that hangs holds up its own child, not the server.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
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

use super::cgroup::Cgroup;
use super::descriptors;
use super::identity::{self, Who};
use super::limits::OpenFiles;
use super::pipe::{Input, Reader, pipe};
use crate::engine::confine::{Identity, Limit};
use crate::engine::{Exit, Pid, SpawnError, Step};

/// Everything a child needs, made ready before the fork: the child only makes system calls.
pub struct Launch {
    /// Where the program may be, tried in order (a search in PATH, done by the child).
    pub programs: Vec<CString>,
    /// Its arguments, the name it is called by first.
    pub arguments: Vec<CString>,
    /// Its environment.
    pub environment: Vec<CString>,
    /// How many of those stand behind what its user and files of variables say.
    pub own_variables: usize,
    /// Its working directory.
    pub dir: Option<CString>,
    /// What its standard descriptors are.
    pub stdio: Stdio,
    /// Who it is, and what it may use, if not as the server.
    pub confine: Option<Box<Confine>>,
    /// Descriptors that it has under these numbers too.
    pub pass: Vec<(OwnedFd, RawFd)>,
    /// It is to find sockets among them (`sd_listen_fds(3)`).
    pub listens: bool,
}

impl Launch {
    fn cgroup(&self) -> Option<&Cgroup> {
        self.confine.as_ref()?.cgroup.as_ref()
    }
}

/// Who a child is, and what it may use.
pub struct Confine {
    /// Who it runs as.
    pub identity: Identity,
    /// What it may use.
    pub limits: Vec<Limit>,
    /// Files of variables; one with a `-` in front need not be there.
    pub env_files: Vec<String>,
    /// Its cgroup.
    pub cgroup: Option<Cgroup>,
}

/// What went wrong between fork and exec.
pub(super) struct Misstep {
    pub(super) step: Step,
    pub(super) errno: nix::Error,
    /// Which of several it was about.
    pub(super) item: u8,
}

impl Misstep {
    pub(super) fn new(step: Step, errno: nix::Error) -> Self {
        let item = 0;
        Self { step, errno, item }
    }

    pub(super) fn of(step: Step, error: &std::io::Error) -> Self {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        Self::new(step, nix::Error::from_raw(errno))
    }
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
        item: 0,
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
        in_cgroup: false,
    };
    let server = std::process::id();
    if let Some(cgroup) = launch.cgroup().filter(|cgroup| cgroup.takes_children) {
        match fork_into(&cgroup.directory) {
            Ok(None) => {
                die_with(server);
                let in_cgroup = true;
                become_program(launch, &vectors, slate, &Ends { in_cgroup, ..ends })
            }
            Ok(Some(pid)) => return Ok(Child { pid, exec, output }),
            // The child goes there itself, or says what keeps it from that.
            Err(_) => {}
        }
    }
    // SAFETY: the server has a single thread, so the child inherits no lock that another holds;
    // it leaves by exec or _exit.
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

/// Forks a child that is in that cgroup from the begin (`clone3(2)`, Linux 5.7). None in the child.
fn fork_into(cgroup: &File) -> nix::Result<Option<Pid>> {
    /// `CLONE_INTO_CGROUP`.
    const INTO_CGROUP: u64 = 0x2_0000_0000;
    // Flags, three that a fork has no use for, its signal, five more of those, and the cgroup
    // (`struct clone_args`).
    let mut arguments = [0u64; 11];
    arguments[0] = INTO_CGROUP;
    arguments[4] = u64::from(libc::SIGCHLD.unsigned_abs());
    arguments[10] = u64::from(cgroup.as_raw_fd().unsigned_abs());
    // SAFETY: the kernel reads as many bytes as it is told there are. Without a stack of its own the
    // child goes on with a copy of this one, as after a fork; there is a single thread.
    let made = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            arguments.as_ptr(),
            std::mem::size_of_val(&arguments),
        )
    };
    let made = nix::Error::result(made)?;
    Ok(i32::try_from(made).ok().and_then(Pid::new))
}

/// Can a child be made in that cgroup, and live? One is made that ends at once.
pub(super) fn lives_in(cgroup: &File) -> bool {
    match fork_into(cgroup) {
        // SAFETY: _exit ends the process without running anything of the parent's.
        Ok(None) => unsafe { libc::_exit(0) },
        Ok(Some(child)) => join(child, Duration::from_secs(1)) == Some(0),
        Err(_) => false,
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
            let [a, b, c, d, step, item, ..] = word;
            let errno = i32::from_ne_bytes([a, b, c, d]);
            Some(Err(SpawnError {
                step: STEPS[usize::from(step) % STEPS.len()],
                errno,
                item,
            }))
        }
        Input::Bytes(_) | Input::End => Some(Ok(())),
    }
}

/// The steps by their number on the exec pipe.
const STEPS: [Step; 16] = [
    Step::Fork,
    Step::Session,
    Step::Stdio,
    Step::Terminal,
    Step::EnvFile,
    Step::Cgroup,
    Step::Limits,
    Step::Priority,
    Step::OomScore,
    Step::Chroot,
    Step::Setgid,
    Step::Setuid,
    Step::Capabilities,
    Step::Sockets,
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
        Self {
            arguments: pointers(&launch.arguments),
            environment: pointers(&launch.environment),
        }
    }
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    let each = strings.iter().map(|string| string.as_ptr());
    each.chain([ptr::null()]).collect()
}

struct Ends<'a> {
    exec: &'a OwnedFd,
    output: Option<&'a [OwnedFd; 2]>,
    /// It is in its cgroup already.
    in_cgroup: bool,
}

/// The child's way to its program.
fn become_program(launch: &Launch, vectors: &Vectors, slate: &Slate, ends: &Ends<'_>) -> ! {
    close_servers(launch, slate, ends);
    // One of the numbers may be that of something that is needed until then.
    let highest = launch.pass.iter().map(|(_, number)| *number).max();
    let lift = |descriptor: BorrowedFd<'_>| {
        let above = highest.map(|highest| FcntlArg::F_DUPFD_CLOEXEC(highest + 1));
        above.map_or(Ok(descriptor.as_raw_fd()), |above| fcntl(descriptor, above))
    };
    let moved = lift(ends.exec.as_fd());
    let lifted = launch.pass.iter().map(|(from, _)| lift(from.as_fd()));
    let prepared = lifted
        .collect::<nix::Result<Vec<_>>>()
        .map_err(|errno| Misstep::new(Step::Stdio, errno))
        .and_then(|lifted| prepare(launch, slate, ends, &lifted));
    let Misstep { step, errno, item } = match prepared.map(|more| told_to_listen(launch, more)) {
        Err(misstep) => misstep,
        Ok(None) => Misstep::new(Step::Exec, exec(launch, vectors)),
        Ok(Some(environment)) => {
            let vectors = Vectors {
                arguments: pointers(&launch.arguments),
                environment: pointers(&environment),
            };
            Misstep::new(Step::Exec, exec(launch, &vectors))
        }
    };
    let number = STEPS.iter().position(|known| *known == step).unwrap_or(0);
    let [a, b, c, d] = (errno as i32).to_ne_bytes();
    #[expect(clippy::cast_possible_truncation, reason = "there are not many steps")]
    let word = [a, b, c, d, number as u8, item, 0, 0];
    let exec = moved.unwrap_or_else(|_| ends.exec.as_raw_fd());
    // SAFETY: the pointer and the length are those of `word`.
    unsafe { libc::write(exec, word.as_ptr().cast(), word.len()) };
    // SAFETY: _exit ends the process without running anything of the parent's.
    unsafe { libc::_exit(127) }
}

/// Closes what a child has of the server's and does not need. Exec would do that, but it may hang on
/// its way there so that nothing ends it, and the next server shall not find the lock and the
/// sockets taken.
fn close_servers(launch: &Launch, slate: &Slate, ends: &Ends<'_>) {
    let passed = launch.pass.iter().map(|(from, _)| from.as_raw_fd());
    let cgroup = launch.cgroup().map(|cgroup| cgroup.directory.as_raw_fd());
    let output = ends.output.into_iter().flatten().map(AsRawFd::as_raw_fd);
    let own = [slate.null.as_raw_fd(), ends.exec.as_raw_fd()];
    descriptors::close_all_but(
        own.into_iter()
            .chain(passed)
            .chain(cgroup)
            .chain(output)
            .collect(),
    );
}

/// Until its program runs a child carries no mark: if the server is killed meanwhile it has to go too
/// (`PR_SET_PDEATHSIG`, `prctl(2)`).
pub fn die_with(server: u32) {
    // SAFETY: this prctl takes plain numbers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    if std::os::unix::process::parent_id() != server {
        // SAFETY: _exit ends the process without running anything of the parent's.
        unsafe { libc::_exit(127) };
    }
}

/// Gives the environment, if it is not the one of `launch`.
fn prepare(
    launch: &Launch,
    slate: &Slate,
    ends: &Ends<'_>,
    lifted: &[RawFd],
) -> Result<Option<Vec<CString>>, Misstep> {
    let of = |step| move |errno| Misstep::new(step, errno);
    setsid().map_err(of(Step::Session))?;
    match &launch.stdio {
        Stdio::Kept { own_input } => {
            connect(slate, *own_input, ends.output).map_err(of(Step::Stdio))?;
        }
        Stdio::Terminal(path) => take_terminal(path).map_err(of(Step::Terminal))?,
        // Without one, the program has to do without job control; that is no reason not to run.
        Stdio::Own => drop(control(0)),
        Stdio::File(path) => write_to(path, slate).map_err(of(Step::Stdio))?,
    }
    if let Some(cgroup) = launch.cgroup().filter(|_| !ends.in_cgroup) {
        identity::enter_cgroup(&cgroup.directory)?;
    }
    slate.open_files.restore().map_err(of(Step::Limits))?;
    let environment = match &launch.confine {
        Some(confine) => confined(launch, confine)?,
        None => None,
    };
    if let Some(dir) = &launch.dir {
        chdir(dir.as_c_str()).map_err(of(Step::Chdir))?;
    }
    for (from, (_, number)) in lifted.iter().zip(&launch.pass) {
        pass(*from, *number).map_err(of(Step::Stdio))?;
    }
    // SAFETY: the default disposition runs no code of ours.
    unsafe { signal(NixSignal::SIGPIPE, SigHandler::SigDfl) }.map_err(of(Step::Exec))?;
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
        .map_err(of(Step::Exec))?;
    Ok(environment)
}

/// Becomes who it is to be. What is on the server's side of a new root is read before it.
fn confined(launch: &Launch, confine: &Confine) -> Result<Option<Vec<CString>>, Misstep> {
    let who = Who::of(&confine.identity)?;
    let mut more = who.variables();
    for (item, file) in (0..).zip(&confine.env_files) {
        more.extend(identity::variables_of(file, item)?);
    }
    let environment = (!more.is_empty()).then(|| {
        let own = launch.environment.len() - launch.own_variables;
        let (server, own) = launch.environment.split_at(own);
        let all = server.iter().chain(&more).chain(own);
        identity::merged(all.cloned().collect())
    });
    identity::prepare(&confine.identity, &confine.limits)?;
    identity::enter_root(&confine.identity)?;
    if let (Some(uid), Stdio::Kept { .. }) = (who.uid(), &launch.stdio) {
        identity::give_output(uid);
    }
    let rights = confine.identity.capabilities;
    who.become_it(rights, confine.identity.no_new_privs)?;
    Ok(environment)
}

/// Sockets are for the process that finds its own number in its environment.
fn told_to_listen(launch: &Launch, environment: Option<Vec<CString>>) -> Option<Vec<CString>> {
    if !launch.listens {
        return environment;
    }
    let mut environment = environment.unwrap_or_else(|| launch.environment.clone());
    let own = CString::new(format!("LISTEN_PID={}", std::process::id()));
    environment.extend(own);
    Some(environment)
}

/// Gives a descriptor the number that was agreed on.
fn pass(descriptor: RawFd, number: RawFd) -> nix::Result<()> {
    // SAFETY: dup2 takes plain numbers; in the child nothing else counts on this one.
    nix::Error::result(unsafe { libc::dup2(descriptor, number) }).map(drop)
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
fn exec(launch: &Launch, vectors: &Vectors) -> nix::Error {
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
            errno => return nix::Error::from_raw(errno),
        }
    }
    nix::Error::from_raw(said)
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

/// In a child that is to live on without becoming another program: it has a session and a name of
/// its own, none of the server's descriptors but this one, and none of its signal handling.
pub fn become_helper(descriptor: &OwnedFd, name: &CStr) {
    let _ = setsid();
    // SAFETY: this prctl takes a pointer to a text that ends with a NUL.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
    // A file that may not grow is an error of the write, and no reason to die.
    // SAFETY: ignoring a signal runs no code of ours.
    let _ = unsafe { signal(NixSignal::SIGXFSZ, SigHandler::SigIgn) };
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = (dup2_stdin(&null), dup2_stdout(&null), dup2_stderr(&null));
    }
    descriptors::close_all_but(vec![descriptor.as_raw_fd()]);
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
    look_for_dead().ok().flatten()
}

/// The same, for whoever has to know that it could not be looked.
///
/// # Errors
/// As `waitid(2)`; to have no child is none.
pub fn look_for_dead() -> nix::Result<Option<(Pid, Exit)>> {
    // SAFETY: an all-zero siginfo_t is a valid value for the kernel to fill in.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is valid for writing.
    match nix::Error::result(unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, flags) }) {
        Ok(_) => {}
        Err(nix::Error::ECHILD) => return Ok(None),
        Err(errno) => return Err(errno),
    }
    // SAFETY: waitid filled in the fields of SIGCHLD, or left them zero.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    let exit = if info.si_code == libc::CLD_EXITED {
        Exit::Code(status)
    } else {
        Exit::Signal(status)
    };
    Ok(Pid::new(pid).map(|pid| (pid, exit)))
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

/// The session and the group of a child, without a look at `/proc`.
#[must_use]
pub fn session_and_group(child: Pid) -> [Option<Pid>; 2] {
    let child = Some(nix::unistd::Pid::from_raw(child.number()));
    let found = [nix::unistd::getsid(child), nix::unistd::getpgid(child)];
    found.map(|number| Pid::new(number.ok()?.as_raw()))
}

/// Has the server a child in that process group, dead or alive?
#[must_use]
pub fn has_child_in(group: Pid) -> bool {
    // SAFETY: an all-zero siginfo_t is a valid value for the kernel to fill in.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let id = group.number().unsigned_abs();
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is valid for writing.
    unsafe { libc::waitid(libc::P_PGID, id, &raw mut info, flags) == 0 }
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
