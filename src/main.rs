//! The `zinit` binary: PID 1, the server, the offline check and the shell client in one.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use zinit::cli::{
    self, CheckOptions, CheckResult, ClientOptions, Env, InitOptions, Invocation, MachineEnd,
    Powers, Request, ServerOptions,
};
use zinit::reactor::{Options, Reactor, Role};
use zinit::sys::machine::Verb;
use zinit::{config, pid1, sys};

#[global_allocator]
static ALLOCATOR: sys::reserve::Allocator = sys::reserve::Allocator;

fn main() -> ExitCode {
    let env = Env::of_process();
    let argv: Vec<OsString> = std::env::args_os().collect();
    match cli::parse(argv.clone(), &env) {
        Ok(Invocation::Init(options)) => init(options),
        Ok(Invocation::Server(options)) => serve(options),
        Ok(Invocation::Check(options)) => check(&options),
        Ok(Invocation::Help(text)) => cli::print_help(&text),
        Ok(Invocation::Version) => cli::print_version(),
        Ok(Invocation::Client(options, request)) => ask(&options, request),
        // A kernel hands on whatever it does not know; that is no reason for PID 1 to end.
        Err(_) if pid1::is_machine() => match cli::parse(["init".into()], &env) {
            Ok(Invocation::Init(mut options)) => {
                let words = argv.iter().skip(1);
                options.words = words.map(|word| word.to_string_lossy().into()).collect();
                init(options)
            }
            _ => cli::print_version(),
        },
        Err(error) => cli::report_usage(&error),
    }
}

fn init(options: InitOptions) -> ExitCode {
    let options = pid1::Options {
        container: options.container,
        system_dir: options.system_dir,
        config_dir: absolute(options.config_dir),
        socket: options.socket,
        access: options.access,
        log_level: options.log_level,
        prefix: options.prefix,
        grace: options.grace,
        main: options.main,
        words: options.words,
    };
    pid1::run(options, start_log)
}

fn serve(options: ServerOptions) -> ExitCode {
    sys::descriptors::close_inherited();
    start_log(&options.log_level, None);
    let dirs = config::Dirs {
        system: options.system_dir.map(absolute),
        services: absolute(options.config_dir),
        may_be_absent: false,
    };
    let reactor = Reactor::new(Options {
        dirs,
        socket: options.socket,
        role: Role::Server,
        access: options.access,
    });
    match reactor.and_then(Reactor::run) {
        Ok(zinit::reactor::Ending::Exit(code)) => ExitCode::from(code),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Paths are told to clients, who may be anywhere.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// A service file is read and checked here, so that what is wrong with it is told by line and key.
fn ask(options: &ClientOptions, mut request: Request) -> ExitCode {
    if let Some(path) = request.file() {
        let (spec, problems) = config::load_file(path);
        let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let reported = cli::report_file(&texts, spec.is_some());
        let Some(spec) = spec else { return reported };
        request.define(config::to_value(&spec));
    }
    let powers = Powers {
        signal_first,
        force,
    };
    cli::run(options, &request, &powers)
}

/// Tells PID 1 by a signal, if it is this program.
fn signal_first(end: MachineEnd) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let first = Path::new("/proc/1/exe");
    let file = |path: &Path| std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    let is_named_so = std::fs::read_link(first)?
        .to_string_lossy()
        .contains("zinit");
    if !is_named_so && file(first)? != file(Path::new("/proc/self/exe"))? {
        return Err(io::ErrorKind::NotFound.into());
    }
    sys::kill::signal_first(verb(end))
}

fn force(end: MachineEnd) -> io::Result<()> {
    sys::machine::sync_and_end(verb(end)).map_err(Into::into)
}

fn verb(end: MachineEnd) -> Verb {
    match end {
        MachineEnd::PowerOff => Verb::Poweroff,
        MachineEnd::Reboot => Verb::Reboot,
        MachineEnd::Halt => Verb::Halt,
        MachineEnd::Kexec => Verb::Kexec,
    }
}

/// The server's own log. Of a machine it goes to the console and to the kernel's log, else to
/// standard error: UTC, level, text. It never waits for its reader.
fn start_log(level: &str, machine: Option<bool>) {
    use std::io::Write;
    let mut builder = env_logger::Builder::new();
    // A plain level needs no parser of filters, which is some work for a machine that boots.
    match level.parse() {
        Ok(level) => builder.filter_level(level),
        Err(_) => builder.parse_filters(level),
    };
    match machine {
        Some(quiet) => {
            let log = Box::new(sys::console::KernelLog::open(quiet));
            builder.target(env_logger::Target::Pipe(log));
            builder.format(|line, record| {
                let priority = match record.level() {
                    log::Level::Error => 3,
                    log::Level::Warn => 4,
                    log::Level::Info => 6,
                    log::Level::Debug | log::Level::Trace => 7,
                };
                writeln!(line, "<{priority}>{}", record.args())
            });
        }
        None => {
            let log = Box::new(sys::stderr::Stderr::open());
            builder.target(env_logger::Target::Pipe(log));
            builder.format(|line, record| {
                let now = sys::clock::Utc::now();
                writeln!(line, "{now} {:5} {}", record.level(), record.args())
            });
        }
    }
    builder.init();
}

fn check(options: &CheckOptions) -> ExitCode {
    let system = options.system.as_deref();
    let problems = config::check(system, &options.path);
    let (errors, warnings) = problems
        .iter()
        .partition::<Vec<_>, _>(|problem| problem.is_error());
    let texts =
        |problems: Vec<&config::Problem>| problems.into_iter().map(ToString::to_string).collect();
    let checked = config::count(system, &options.path);
    cli::report_check(
        options,
        &CheckResult {
            checked,
            errors: texts(errors),
            warnings: texts(warnings),
        },
    )
}
