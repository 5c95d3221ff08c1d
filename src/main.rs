//! The `zinit` binary: the server, the offline check and the shell client in one.

use std::path::PathBuf;
use std::process::ExitCode;

use zinit::cli::{
    self, CheckOptions, CheckResult, ClientOptions, Env, Invocation, NewService, Request,
    ServerOptions,
};
use zinit::reactor::{Options, Reactor};
use zinit::{config, sys};

fn main() -> ExitCode {
    let env = Env::of_process();
    match cli::parse(std::env::args_os(), &env) {
        Ok(Invocation::Server(options)) => serve(options),
        Ok(Invocation::Check(options)) => check(&options, &env),
        Ok(Invocation::Help(text)) => cli::print_help(&text),
        Ok(Invocation::Version) => cli::print_version(),
        Ok(Invocation::Client(options, request)) => ask(&options, request),
        Err(error) => cli::report_usage(&error),
    }
}

fn serve(options: ServerOptions) -> ExitCode {
    sys::process::close_inherited();
    start_log(&options.log_level);
    // Paths are told to clients, who may be anywhere.
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    let dirs = config::Dirs {
        system: options.system_dir.map(absolute),
        services: absolute(options.config_dir),
    };
    match Reactor::new(Options {
        dirs,
        socket: options.socket,
    })
    .and_then(Reactor::run)
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A service file is read and checked here, so that what is wrong with it is told by line and key.
fn ask(options: &ClientOptions, mut request: Request) -> ExitCode {
    if let Some(path) = request.file() {
        let (spec, problems) = config::load_file(path);
        let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let reported = cli::report_file(&texts, spec.is_some());
        let Some(spec) = spec else { return reported };
        request = Request::Add(NewService::Definition(config::to_value(&spec)));
    }
    cli::run(options, &request)
}

/// The server's own log: UTC, level, text; to standard error, and never waiting for its reader.
fn start_log(level: &str) {
    use std::io::Write;
    env_logger::Builder::new()
        .parse_filters(level)
        .target(env_logger::Target::Pipe(Box::new(
            sys::stderr::Stderr::open(),
        )))
        .format(|line, record| {
            let now = sys::clock::Utc::now();
            writeln!(line, "{now} {:5} {}", record.level(), record.args())
        })
        .init();
}

fn check(options: &CheckOptions, env: &Env) -> ExitCode {
    let path = options
        .path
        .clone()
        .unwrap_or_else(|| env.config_dir(false));
    let problems = config::check(&path);
    let (errors, warnings) = problems
        .iter()
        .partition::<Vec<_>, _>(|problem| problem.is_error());
    let texts =
        |problems: Vec<&config::Problem>| problems.into_iter().map(ToString::to_string).collect();
    let checked = config::count(&path);
    cli::report_check(
        options,
        &CheckResult {
            checked,
            errors: texts(errors),
            warnings: texts(warnings),
        },
    )
}
