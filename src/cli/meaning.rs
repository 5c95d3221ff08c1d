//! What was typed to what is meant, one function a command of the table.

use std::path::PathBuf;
use std::time::Duration;

use super::args::{Typed, named};
use super::environment::Env;
use super::{
    Bulk, CheckOptions, ClientOptions, InitOptions, Invocation, LogsWanted, MachineEnd, NewService,
    Patience, Request, ServerOptions, Since, UsageError, Verb, Xinet, help as texts,
};

type Meaning = Result<Invocation, UsageError>;

/// Lines `logs` shows when not told how many.
const DEFAULT_LINES: u64 = 100;
const LOG_LEVELS: &[&str] = &["error", "warn", "info", "debug", "trace", "off"];

pub(super) fn list(typed: &Typed, env: &Env) -> Meaning {
    ask(typed, env, Request::List)
}

pub(super) fn status(typed: &Typed, env: &Env) -> Meaning {
    ask(typed, env, Request::Status(name(typed)?))
}

pub(super) fn why(typed: &Typed, env: &Env) -> Meaning {
    ask(typed, env, Request::Why(name(typed)?))
}

pub(super) fn tree(typed: &Typed, env: &Env) -> Meaning {
    ask(typed, env, Request::Tree)
}

pub(super) fn logs(typed: &Typed, env: &Env) -> Meaning {
    let lines = match typed.text("lines")? {
        None => DEFAULT_LINES,
        Some(text) => text
            .parse()
            .map_err(|_| bad("--lines", text, "a number of lines"))?,
    };
    let known = &["stdout", "stderr", "syslog"];
    let wanted = "stdout, stderr or syslog";
    let stream = typed.text("stream")?;
    let stream = stream.map(|text| one_of("--stream", text, known, wanted));
    let since = typed.text("since")?.map(|text| {
        let wanted = "a time such as 15m, 2h, 1d or 2026-01-31T23:59";
        Since::parse(text).ok_or_else(|| bad("--since", text, wanted))
    });
    let names = optional_names(typed)?;
    let wanted = LogsWanted {
        names,
        lines,
        stream: stream.transpose()?,
        since: since.transpose()?,
        follow: typed.has("follow"),
    };
    ask(typed, env, Request::Logs(wanted))
}

pub(super) fn watch(typed: &Typed, env: &Env) -> Meaning {
    ask(typed, env, Request::Watch(optional_names(typed)?))
}

/// Names that may be left out.
fn optional_names(typed: &Typed) -> Result<Vec<String>, UsageError> {
    match typed.operand(0) {
        None => Ok(Vec::new()),
        Some(_) => typed.names(),
    }
}

pub(super) fn stats(typed: &Typed, env: &Env) -> Meaning {
    ask(typed, env, Request::Stats(name(typed)?))
}

pub(super) fn children(typed: &Typed, env: &Env) -> Meaning {
    ask(typed, env, Request::Children(name(typed)?))
}

pub(super) fn start(typed: &Typed, env: &Env) -> Meaning {
    if typed.has("tree") && typed.has("no-deps") {
        let sentence = "--tree and --no-deps exclude each other; leave one out";
        return Err(UsageError::Combination(sentence));
    }
    change(
        typed,
        env,
        Verb::Start {
            deps: !typed.has("no-deps"),
        },
    )
}

pub(super) fn stop(typed: &Typed, env: &Env) -> Meaning {
    change(typed, env, Verb::Stop)
}

pub(super) fn restart(typed: &Typed, env: &Env) -> Meaning {
    change(typed, env, Verb::Restart)
}

pub(super) fn remove(typed: &Typed, env: &Env) -> Meaning {
    change(typed, env, Verb::Remove)
}

pub(super) fn kill(typed: &Typed, env: &Env) -> Meaning {
    let mut names = typed.names()?;
    let operand = (names.len() > 1).then(|| names.pop()).flatten();
    let flag = typed.text("signal")?.map(str::to_owned);
    if operand.is_some() && flag.is_some() {
        let sentence = "the signal is there twice; say zinit kill NAME SIGNAL";
        return Err(UsageError::Combination(sentence));
    }
    ask(
        typed,
        env,
        Request::Kill {
            name: name(typed)?,
            signal: flag.or(operand),
        },
    )
}

pub(super) fn wait(typed: &Typed, env: &Env) -> Meaning {
    let goal = typed.text("for")?.unwrap_or("running");
    let known = &["running", "stopped", "exited"];
    let goal = one_of("--for", goal, known, "running, stopped or exited")?;
    ask(
        typed,
        env,
        Request::Await {
            name: name(typed)?,
            goal,
            within: within(typed)?,
        },
    )
}

pub(super) fn start_all(typed: &Typed, env: &Env) -> Meaning {
    ask(
        typed,
        env,
        Request::All {
            verb: Bulk::Start,
            patience: patience(typed)?,
        },
    )
}

pub(super) fn stop_all(typed: &Typed, env: &Env) -> Meaning {
    ask(
        typed,
        env,
        Request::All {
            verb: Bulk::Stop,
            patience: patience(typed)?,
        },
    )
}

pub(super) fn delete_all(typed: &Typed, env: &Env) -> Meaning {
    ask(
        typed,
        env,
        Request::All {
            verb: Bulk::Delete,
            patience: patience(typed)?,
        },
    )
}

pub(super) fn add_service(typed: &Typed, env: &Env) -> Meaning {
    if typed.has("ephemeral") && typed.has("persist") {
        return Err(UsageError::Combination(
            "--persist and --ephemeral exclude each other",
        ));
    }
    let service = NewService::typed(typed)?;
    let request = if typed.has("ephemeral") {
        Request::AddEphemeral(service)
    } else {
        Request::Add(service)
    };
    ask(typed, env, request)
}

pub(super) fn xinet(typed: &Typed, env: &Env) -> Meaning {
    ask(typed, env, Request::Xinet(Xinet::typed(typed)?))
}

pub(super) fn reload(typed: &Typed, env: &Env) -> Meaning {
    match optional_names(typed)? {
        names if names.is_empty() => ask(typed, env, Request::Reload),
        names => ask(typed, env, Request::Refresh(names)),
    }
}

pub(super) fn check(typed: &Typed, env: &Env) -> Meaning {
    let path = typed.operand(0).map(PathBuf::from);
    let path = path.unwrap_or_else(|| env.checked_dir());
    Ok(Invocation::Check(CheckOptions {
        system: Env::system_beside(&path),
        path,
        json: typed.has("json"),
    }))
}

pub(super) fn server(typed: &Typed, env: &Env) -> Meaning {
    let pid1_mode = typed.has("pid1-mode");
    let path = |flag| typed.value(flag).map(PathBuf::from);
    Ok(Invocation::Server(ServerOptions {
        config_dir: path("config-dir").unwrap_or_else(|| env.config_dir(pid1_mode)),
        system_dir: Env::system_dir(pid1_mode),
        socket: path("socket").unwrap_or_else(|| env.server_socket(pid1_mode)),
        access: path("access").unwrap_or_else(Env::access_file),
        log_level: log_level(typed, env)?,
        pid1_mode,
    }))
}

pub(super) fn ping(typed: &Typed, env: &Env) -> Meaning {
    ask(typed, env, Request::Ping)
}

pub(super) fn init(typed: &Typed, env: &Env) -> Meaning {
    let path = |flag| typed.value(flag).map(PathBuf::from);
    let main = typed.tail()?.filter(|words| !words.is_empty());
    let log_level = if typed.has("log-level") || env.variable("ZINIT_LOG_LEVEL").is_some() {
        Some(log_level(typed, env)?)
    } else {
        None
    };
    Ok(Invocation::Init(InitOptions {
        container: typed.has("container") || env.variable("ZINIT_CONTAINER").is_some(),
        config_dir: path("config-dir").unwrap_or_else(|| env.config_dir(true)),
        system_dir: Env::own_dir(),
        socket: path("socket").unwrap_or_else(|| env.server_socket(true)),
        access: path("access").unwrap_or_else(Env::access_file),
        log_level,
        prefix: typed.has("prefix"),
        grace: time(typed, "grace")?,
        main,
        words: typed.names()?,
    }))
}

pub(super) fn shutdown(typed: &Typed, env: &Env) -> Meaning {
    let code = match typed.names()?.first() {
        None => 0,
        Some(text) => text
            .parse()
            .map_err(|_| bad("CODE", text, "an exit status, 0 to 255"))?,
    };
    let patience = patience(typed)?;
    ask(typed, env, Request::Shutdown { code, patience })
}

pub(super) fn poweroff(typed: &Typed, env: &Env) -> Meaning {
    machine(typed, env, MachineEnd::PowerOff)
}

pub(super) fn reboot(typed: &Typed, env: &Env) -> Meaning {
    machine(typed, env, MachineEnd::Reboot)
}

pub(super) fn halt(typed: &Typed, env: &Env) -> Meaning {
    machine(typed, env, MachineEnd::Halt)
}

pub(super) fn kexec(typed: &Typed, env: &Env) -> Meaning {
    machine(typed, env, MachineEnd::Kexec)
}

fn machine(typed: &Typed, env: &Env, end: MachineEnd) -> Meaning {
    let request = if typed.has("force") {
        Request::Force(end)
    } else {
        Request::Machine(end, patience(typed)?)
    };
    ask(typed, env, request)
}

pub(super) fn switch_root(typed: &Typed, env: &Env) -> Meaning {
    let mut names = typed.names()?;
    let init = (names.len() > 1).then(|| names.pop()).flatten();
    let root = names.swap_remove(0);
    ask(typed, env, Request::SwitchRoot { root, init })
}

pub(super) fn healthcheck(typed: &Typed, env: &Env) -> Meaning {
    ask(typed, env, Request::Health(typed.names()?))
}

pub(super) fn debug(typed: &Typed, env: &Env) -> Meaning {
    let words = typed.names()?;
    let what = words.first().map_or("", String::as_str);
    let request = match (what, words.get(1)) {
        ("record", None) => Request::DebugRecord,
        ("state", None) => Request::DebugState,
        ("procs", Some(name)) => Request::DebugProcesses(name.clone()),
        ("record" | "state", Some(_)) => {
            return Err(UsageError::Combination("only debug procs takes a name"));
        }
        ("procs", None) => {
            return Err(UsageError::Combination(
                "the name of the service is missing: zinit debug procs NAME",
            ));
        }
        (unknown, _) => {
            return Err(UsageError::BadValue {
                of: "debug",
                typed: unknown.to_owned(),
                wanted: "record, state or procs",
            });
        }
    };
    ask(typed, env, request)
}

pub(super) fn debug_state(typed: &Typed, env: &Env) -> Meaning {
    ask(typed, env, Request::DebugState)
}

pub(super) fn debug_procs(typed: &Typed, env: &Env) -> Meaning {
    ask(typed, env, Request::DebugProcesses(name(typed)?))
}

pub(super) fn help(typed: &Typed, _: &Env) -> Meaning {
    let topic = typed.operand(0).map(named).transpose()?;
    Ok(Invocation::Help(texts::of(topic)))
}

fn ask(typed: &Typed, env: &Env, request: Request) -> Meaning {
    let socket = typed.value("socket").map(PathBuf::from);
    let socket = socket.unwrap_or_else(|| env.client_socket());
    Ok(Invocation::Client(
        ClientOptions {
            socket,
            json: typed.has("json"),
        },
        request,
    ))
}

fn change(typed: &Typed, env: &Env, verb: Verb) -> Meaning {
    let request = Request::Change {
        verb,
        names: typed.names()?,
        patience: patience(typed)?,
    };
    ask(typed, env, request)
}

/// The first operand, of which the table says that it is there.
fn name(typed: &Typed) -> Result<String, UsageError> {
    Ok(typed.names()?.swap_remove(0))
}

fn patience(typed: &Typed) -> Result<Patience, UsageError> {
    let within = within(typed)?;
    if !typed.has("no-wait") {
        return Ok(Patience::Done { within });
    }
    match within {
        None => Ok(Patience::TakenNote),
        Some(_) => Err(UsageError::Combination(
            "--no-wait and --timeout exclude each other; leave one out",
        )),
    }
}

fn within(typed: &Typed) -> Result<Option<Duration>, UsageError> {
    time(typed, "timeout")
}

fn time(typed: &Typed, flag: &'static str) -> Result<Option<Duration>, UsageError> {
    let of = if flag == "grace" {
        "--grace"
    } else {
        "--timeout"
    };
    match typed.text(flag)? {
        None => Ok(None),
        Some(text) => match duration(text) {
            Some(time) => Ok(Some(time)),
            None => Err(bad(of, text, "a time such as 10, 10s, 500ms or 2m")),
        },
    }
}

/// `10`, `10s`, `500ms`, `2m`, `1h`.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(unit_ms).map(Duration::from_millis)
}

fn log_level(typed: &Typed, env: &Env) -> Result<String, UsageError> {
    let wanted = "error, warn, info, debug, trace or off";
    if let Some(level) = typed.text("log-level")? {
        return one_of("--log-level", level, LOG_LEVELS, wanted);
    }
    match env.variable("ZINIT_LOG_LEVEL") {
        Some(level) => one_of(
            "ZINIT_LOG_LEVEL",
            &level.to_string_lossy(),
            LOG_LEVELS,
            wanted,
        ),
        None => Ok("info".to_owned()),
    }
}

fn one_of(
    of: &'static str,
    text: &str,
    known: &[&str],
    wanted: &'static str,
) -> Result<String, UsageError> {
    if known.contains(&text) {
        Ok(text.to_owned())
    } else {
        Err(bad(of, text, wanted))
    }
}

fn bad(of: &'static str, typed: &str, wanted: &'static str) -> UsageError {
    UsageError::BadValue {
        of,
        typed: typed.to_owned(),
        wanted,
    }
}
