//! The first process: what is around the loop when nobody else is there to do it.
//!
//! | file        | noun                                                              |
//! |-------------|-------------------------------------------------------------------|
//! | `mod.rs`    | machine or container, and what each needs before the loop begins  |
//! | `down.rs`   | the end of a machine, after the loop                              |
//! | `rescue.rs` | when the loop can't even begin: a sentence, a shell, the reaper   |
//!
//! On a machine it never returns, and never ends: whatever fails, it goes on or says so on the
//! console and offers a shell.

mod down;
mod rescue;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::config::{Dirs, KernelLine};
use crate::engine::Pid;
use crate::reactor::{Container, Ending, Machine, Options as Reacting, Reactor, Role};
use crate::sys::machine::Verb;
use crate::sys::{clock, console, crash, descriptors, machine, mount, process, seed, signals};

/// How PID 1 is to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// It is a container's, whatever it looks like.
    pub container: bool,
    /// Where the system's own services are.
    pub system_dir: PathBuf,
    /// Where all others are.
    pub config_dir: PathBuf,
    /// Where clients connect.
    pub socket: PathBuf,
    /// Says who may do what.
    pub access: PathBuf,
    /// The level of the log.
    pub log_level: Option<String>,
    /// Lines of output begin with the name of their service.
    pub prefix: bool,
    /// How long all services together may take to stop.
    pub grace: Option<Duration>,
    /// The command of a container.
    pub main: Option<Vec<String>>,
    /// Words the kernel did not know.
    pub words: Vec<String>,
}

/// How the log is set up, which is the binary's business: the level, and for a machine whether it
/// is to be quiet.
pub type StartLog = fn(&str, Option<bool>);

/// Time all services of a container have to stop: what container engines wait before they kill.
const CONTAINER_GRACE: Duration = Duration::from_secs(10);

/// Time all services of a machine have to stop.
const MACHINE_GRACE: Duration = Duration::from_secs(300);

/// The exit status of a container that could not even begin; none of a program's own.
const CONTAINER_FAILED: u8 = 100;

/// Time that child may take; services are started nevertheless then.
const HELPER: Duration = Duration::from_secs(2);

/// Images that crash so often in a row are not tried again.
const CRASHES: u32 = 3;

/// Where programs are looked for unless the kernel's command line says otherwise.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Is this PID 1 of a machine, rather than of a container or no PID 1 at all? A manager of
/// containers says so in the environment or by a file, and a kernel that hides the machine does
/// not let Ctrl-Alt-Del be caught.
#[must_use]
pub fn is_machine() -> bool {
    let marks = ["/run/.containerenv", "/.dockerenv"].map(Path::new);
    std::process::id() == 1
        && std::env::var_os("container").is_none()
        && !marks.iter().any(|mark| mark.exists())
        && machine::catch_ctrl_alt_del(true).is_ok()
}

/// Runs the machine or the container. Of a machine it never returns.
pub fn run(options: Options, start_log: StartLog) -> ExitCode {
    if !options.container && is_machine() {
        signals::hold();
        run_machine(options, start_log)
    } else {
        run_container(options, start_log)
    }
}

fn run_container(options: Options, start_log: StartLog) -> ExitCode {
    use std::io::IsTerminal;
    if options.main.is_some() && std::io::stdin().is_terminal() {
        process::give_up_terminal();
    }
    signals::hold();
    descriptors::close_inherited();
    start_log(options.log_level.as_deref().unwrap_or("warn"), None);
    if std::process::id() != 1 {
        log::info!("not process 1: orphans of services are adopted, others are not");
    }
    let container = Container {
        main: options.main.clone(),
        prefix: options.prefix,
        grace: options.grace.unwrap_or(CONTAINER_GRACE),
    };
    match react(&options, Role::Container(container), None) {
        Ok(Ending::Exit(code)) => ExitCode::from(code),
        Ok(Ending::Machine { .. } | Ending::Switch(_)) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error}");
            ExitCode::from(CONTAINER_FAILED)
        }
    }
}

fn run_machine(options: Options, start_log: StartLog) -> ! {
    let kernel = Duration::from_millis(clock::now().as_millis());
    let problems = mount::mount_first();
    crash::guard();
    let crashed = crash::before();
    let mut line = KernelLine::parse(&std::fs::read_to_string("/proc/cmdline").unwrap_or_default());
    let mut words = options.words.clone();
    words.retain(|word| !line.take(word));
    let level = options.log_level.clone().or_else(|| line.log_level.take());
    start_log(level.as_deref().unwrap_or("info"), Some(line.quiet));
    for problem in problems {
        log::warn!("{problem}");
    }
    let helper = set_up(&words);
    if let Some(crashed) = crashed.as_ref().filter(|crashed| crashed.count >= CRASHES) {
        let why = format!("zinit has crashed {} times: {}", crashed.count, crashed.why);
        rescue::last_resort(&why);
    }
    let role = Role::Machine(Machine {
        level: line.level,
        target: line.target,
        crashed: crashed.map(|crashed| crashed.why),
        kernel,
        grace: options.grace.unwrap_or(MACHINE_GRACE),
    });
    match react(&options, role, helper) {
        Ok(Ending::Machine { verb, hurry }) => down::down(verb, hurry),
        Ok(Ending::Exit(_)) => down::down(Verb::Poweroff, false),
        Ok(Ending::Switch(switch)) => rescue::last_resort(&switch.go()),
        Err(error) => rescue::last_resort(&error.to_string()),
    }
}

/// What a machine has before its first service. A child does what takes the kernel its time, such
/// as to bring the loopback interface up; meanwhile service files can be read.
fn set_up(words: &[String]) -> Option<Pid> {
    let work = || {
        for problem in mount::mount_rest() {
            log::warn!("{problem}");
        }
        if let Err(error) = machine::loopback_up() {
            log::warn!("the loopback interface can't be brought up: {error}");
        }
        0
    };
    let helper = process::child(work);
    if helper.is_err() {
        work();
    }
    if let Err(errno) = machine::name() {
        log::warn!("the hostname can't be set: {errno}");
    }
    seed::restore();
    if std::env::var_os("PATH").is_none() {
        process::set_variable("PATH", Some(PATH));
    }
    if !words.is_empty() {
        process::set_variable("ZINIT_WORDS", Some(&words.join(" ")));
    }
    helper.ok()
}

fn react(options: &Options, role: Role, helper: Option<Pid>) -> std::io::Result<Ending> {
    let is_machine = matches!(role, Role::Machine(_));
    let reactor = Reactor::new(Reacting {
        dirs: Dirs {
            system: Some(options.system_dir.clone()),
            services: options.config_dir.clone(),
            may_be_absent: true,
        },
        socket: options.socket.clone(),
        role,
        access: options.access.clone(),
    })?;
    if is_machine {
        // The loop has given every signal its default disposition.
        crash::guard();
    }
    if let Some(child) = helper {
        let _ = process::join(child, HELPER);
    }
    reactor.run()
}

/// A line on the console, whatever becomes of the log.
fn say(text: &str) {
    console::Console::default().write(&format!("zinit: {text}\r\n"));
}
