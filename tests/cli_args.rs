//! The command line: what it means, what its help says, what its man page says, and what people see.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use zinit::cli::commands::{COMMANDS, GLOBAL_FLAGS, GROUPS};
use zinit::cli::{self, *};

fn parse_in(env: &Env, line: &str) -> Result<Invocation, UsageError> {
    parse(
        line.split(' ')
            .filter(|word| !word.is_empty())
            .map(OsString::from),
        env,
    )
}

fn parse_line(line: &str) -> Result<Invocation, UsageError> {
    parse_in(&Env::made_of(&[("HOME", "/home/me")], &[]), line)
}

fn request(line: &str) -> Request {
    match parse_line(line) {
        Ok(Invocation::Client(_, request)) => request,
        other => panic!("{line}: {other:?}"),
    }
}

fn complaint(line: &str) -> String {
    parse_line(line).expect_err(line).to_string()
}

fn server(env: &[(&str, &str)], line: &str) -> ServerOptions {
    match parse_in(&Env::made_of(env, &[]), line) {
        Ok(Invocation::Server(options)) => options,
        other => panic!("{line}: {other:?}"),
    }
}

fn client(env: &[(&str, &str)], paths: &[&str], line: &str) -> ClientOptions {
    match parse_in(&Env::made_of(env, paths), line) {
        Ok(Invocation::Client(options, _)) => options,
        other => panic!("{line}: {other:?}"),
    }
}

fn checked(env: &[(&str, &str)], paths: &[&str], line: &str) -> (String, Option<String>) {
    match parse_in(&Env::made_of(env, paths), line) {
        Ok(Invocation::Check(options)) => {
            let text = |path: PathBuf| path.to_str().expect("UTF-8").to_owned();
            (text(options.path), options.system.map(text))
        }
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn a_check_is_about_the_server_that_would_be_asked() {
    let home = [("HOME", "/home/me")];
    let (machines, own) = ("/etc/zinit/services", "/etc/zinit/system");
    let socket = "/run/zinit.sock";
    let elsewhere = [("HOME", "/home/me"), ("ZINIT_SOCKET", "/tmp/sock")];
    let told = [("ZINIT_CONFIG_DIR", "/srv/services")];
    let users = "/home/me/hero/cfg/zinit";
    for (env, paths, line, path, system) in [
        (&home[..], &[][..], "zinit check", users, None),
        (
            &home,
            &[socket, machines],
            "zinit check",
            machines,
            Some(own),
        ),
        (&home, &[socket], "zinit check", own, None),
        (&elsewhere, &[socket, machines], "zinit check", users, None),
        (
            &told,
            &[socket, machines],
            "zinit check",
            "/srv/services",
            None,
        ),
        (&home, &[], "zinit check ./x", "./x", None),
        (
            &home,
            &[],
            "zinit check /etc/zinit/services/",
            "/etc/zinit/services/",
            Some(own),
        ),
        (
            &home,
            &[],
            "zinit check /etc/zinit/services/a.toml",
            "/etc/zinit/services/a.toml",
            Some(own),
        ),
        (
            &home,
            &[],
            "zinit check /etc/zinit/services/a/b",
            "/etc/zinit/services/a/b",
            None,
        ),
    ] {
        let wanted = (path.to_owned(), system.map(str::to_owned));
        assert_eq!(checked(env, paths, line), wanted, "{env:?} {paths:?}");
    }
}

const DONE: Patience = Patience::Done { within: None };

fn change(verb: Verb, names: &[&str], patience: Patience) -> Request {
    Request::Change {
        verb,
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        patience,
    }
}

#[test]
fn lines_mean_requests() {
    let within = |ms| Patience::Done {
        within: Some(Duration::from_millis(ms)),
    };
    let kill = |signal: Option<&str>| Request::Kill {
        name: "web".to_owned(),
        signal: signal.map(str::to_owned),
    };
    let wanted = |lines, stream: Option<&str>| LogsWanted {
        names: vec!["web".to_owned()],
        lines,
        stream: stream.map(str::to_owned),
        since: None,
        follow: false,
    };
    let logs = |lines, stream| Request::Logs(wanted(lines, stream));
    let start = |deps| Verb::Start { deps };
    let table = [
        ("zinit list", Request::List),
        ("zinit ls", Request::List),
        ("zinit status web", Request::Status("web".to_owned())),
        ("zinit start a b", change(start(true), &["a", "b"], DONE)),
        ("zinit start --tree a", change(start(true), &["a"], DONE)),
        (
            "zinit start a --no-deps --no-wait",
            change(start(false), &["a"], Patience::TakenNote),
        ),
        (
            "zinit stop a --timeout 10",
            change(Verb::Stop, &["a"], within(10_000)),
        ),
        (
            "zinit stop a --timeout=500ms",
            change(Verb::Stop, &["a"], within(500)),
        ),
        (
            "zinit restart --timeout 2m a",
            change(Verb::Restart, &["a"], within(120_000)),
        ),
        ("zinit delete a", change(Verb::Remove, &["a"], DONE)),
        (
            "zinit remove-service -- -a",
            change(Verb::Remove, &["-a"], DONE),
        ),
        ("zinit kill web", kill(None)),
        ("zinit kill web -s HUP", kill(Some("HUP"))),
        ("zinit kill --signal=HUP web", kill(Some("HUP"))),
        ("zinit kill web 9", kill(Some("9"))),
        ("zinit logs web", logs(100, None)),
        (
            "zinit logs web -n5 --stream stderr",
            logs(5, Some("stderr")),
        ),
        (
            "zinit logs web -f",
            Request::Logs(LogsWanted {
                follow: true,
                ..wanted(100, None)
            }),
        ),
        (
            "zinit logs --since 15m",
            Request::Logs(LogsWanted {
                names: Vec::new(),
                since: Some(Since::Ago(Duration::from_secs(900))),
                ..wanted(100, None)
            }),
        ),
        ("zinit watch a", Request::Watch(vec!["a".to_owned()])),
        ("zinit reload", Request::Reload),
        ("zinit reload web", Request::Refresh(vec!["web".to_owned()])),
        (
            "zinit stop-all",
            Request::All {
                verb: Bulk::Stop,
                patience: DONE,
            },
        ),
        (
            "zinit shutdown --no-wait",
            Request::Shutdown {
                code: 0,
                patience: Patience::TakenNote,
            },
        ),
        ("zinit reboot", Request::Machine(MachineEnd::Reboot, DONE)),
    ];
    for (line, meant) in table {
        assert_eq!(request(line), meant, "{line}");
    }
}

#[test]
fn a_service_is_spelt_out_in_flags() {
    let line = "zinit add-service --name web --exec /bin/web -e A=1 --env B=x=y --requires db \
                --requires net --dir / --restart never --max-restarts 3";
    let config = json!({
        "service": { "name": "web", "exec": "/bin/web", "oneshot": false, "env": { "A": "1", "B": "x=y" } },
        "dependencies": { "after": [], "requires": ["db", "net"], "wants": [], "conflicts": [] },
        "lifecycle": { "restart": "never", "max_restarts": 3 },
    });
    assert_eq!(request(line), Request::Add(NewService::Definition(config)));
    assert_eq!(
        request("zinit add-service web.toml"),
        Request::Add(NewService::File("web.toml".into()))
    );
}

#[test]
fn wrong_lines_are_told_what_would_be_right() {
    let table = [
        (
            "zinit strat web",
            "unknown command 'strat'; did you mean 'start'?",
        ),
        (
            "zinit frobnicate",
            "unknown command 'frobnicate'; 'zinit help' lists them",
        ),
        (
            "zinit help lst",
            "unknown command 'lst'; did you mean 'list'?",
        ),
        (
            "zinit start --nowait a",
            "'start' has no flag --nowait; did you mean --no-wait?",
        ),
        (
            "zinit list --frobnicate",
            "'list' has no flag --frobnicate; 'zinit help list' lists them",
        ),
        (
            "zinit --jsno list",
            "unknown flag --jsno; did you mean --json?",
        ),
        (
            "zinit --timeout 3 stop a",
            "--timeout belongs behind the command: zinit COMMAND --timeout",
        ),
        (
            "zinit status",
            "too few arguments for 'status'; usage: zinit status NAME",
        ),
        (
            "zinit list a",
            "too many arguments for 'list'; usage: zinit list",
        ),
        ("zinit list --json=1", "--json takes no value"),
        (
            "zinit kill web -s",
            "--signal needs a value: --signal SIGNAL",
        ),
        (
            "zinit kill web HUP -s TERM",
            "the signal is there twice; say zinit kill NAME SIGNAL",
        ),
        (
            "zinit stop a --timeout soon",
            "--timeout cannot be 'soon'; it takes a time such as 10, 10s, 500ms or 2m",
        ),
        (
            "zinit stop a --timeout 1 --no-wait",
            "--no-wait and --timeout exclude each other; leave one out",
        ),
        (
            "zinit logs web --stream both",
            "--stream cannot be 'both'; it takes stdout, stderr or syslog",
        ),
        (
            "zinit wait web --for ever",
            "--for cannot be 'ever'; it takes running, stopped or exited",
        ),
        (
            "zinit add-service --exec x",
            "--name required when not using file",
        ),
        (
            "zinit add-service --name a --exec b -e x",
            "Invalid env format: x (expected KEY=VALUE)",
        ),
        (
            "zinit add-service --name a --exec b --restart maybe",
            "Invalid restart policy: maybe (use always, on-failure, or never)",
        ),
        (
            "zinit add-service a.toml --name a",
            "a file and flags exclude each other; give FILE alone, or --name and --exec",
        ),
        (
            "zinit server --log-level loud",
            "--log-level cannot be 'loud'; it takes error, warn, info, debug, trace or off",
        ),
    ];
    for (line, wanted) in table {
        assert_eq!(complaint(line), wanted, "{line}");
    }
    assert_eq!(parse_line("zinit"), Err(UsageError::NoCommand));
}

#[test]
fn a_server_takes_flags_before_variables_before_defaults() {
    let home = [("HOME", "/home/me")];
    let all = [
        ("HOME", "/home/me"),
        ("ZINIT_CONFIG_DIR", "/v/dir"),
        ("ZINIT_SOCKET", "/v/sock"),
        ("ZINIT_LOG_LEVEL", "debug"),
    ];
    let options = |dir: &str, system: Option<&str>, socket: &str, level: &str| ServerOptions {
        config_dir: dir.into(),
        system_dir: system.map(PathBuf::from),
        socket: socket.into(),
        access: "/etc/zinit/access.toml".into(),
        log_level: level.to_owned(),
        pid1_mode: system.is_some(),
    };
    let own = options(
        "/home/me/hero/cfg/zinit",
        None,
        "/home/me/hero/var/zinit.sock",
        "info",
    );
    assert_eq!(server(&home, "zinit server"), own);
    assert_eq!(server(&home, "/usr/sbin/zinit-server"), own);
    let homeless = options("/tmp/zinit/services", None, "/tmp/zinit.sock", "info");
    assert_eq!(server(&[], "zinit server"), homeless);
    let machine = options(
        "/etc/zinit/services",
        Some("/etc/zinit/system"),
        "/run/zinit.sock",
        "info",
    );
    assert_eq!(server(&home, "zinit-server --pid1-mode"), machine);
    assert_eq!(
        server(&all, "zinit server"),
        options("/v/dir", None, "/v/sock", "debug")
    );
    let line = "zinit -s /f/sock server -c /f/dir --log-level trace";
    assert_eq!(
        server(&all, line),
        options("/f/dir", None, "/f/sock", "trace")
    );
}

#[test]
fn a_client_finds_the_socket() {
    let home = [("HOME", "/home/me")];
    let named = [("HOME", "/home/me"), ("ZINIT_SOCKET", "/v/sock")];
    let run = ["/run/zinit.sock"];
    let socket = |env: &[_], paths: &[_], line| client(env, paths, line).socket;
    assert_eq!(
        socket(&home, &[], "zinit list"),
        PathBuf::from("/home/me/hero/var/zinit.sock")
    );
    assert_eq!(
        socket(&[], &[], "zinit list"),
        PathBuf::from("/tmp/zinit.sock")
    );
    assert_eq!(
        socket(&home, &run, "zinit list"),
        PathBuf::from("/run/zinit.sock")
    );
    assert_eq!(socket(&named, &run, "zinit list"), PathBuf::from("/v/sock"));
    assert_eq!(
        socket(&named, &run, "zinit -s /f list"),
        PathBuf::from("/f")
    );
    assert_eq!(
        socket(&named, &run, "zinit list --socket=/f"),
        PathBuf::from("/f")
    );
    // Behind kill, -s is the signal; before it, the socket.
    assert_eq!(
        socket(&named, &run, "zinit -s /f kill web -s HUP"),
        PathBuf::from("/f")
    );
    assert!(client(&home, &[], "zinit list --json").json);
    assert!(client(&home, &[], "zinit --json list").json);
}

#[test]
fn help_covers_the_table() {
    let help = |line: &str| match parse_line(line) {
        Ok(Invocation::Help(text)) => text,
        other => panic!("{line}: {other:?}"),
    };
    let overview = help("zinit --help");
    assert_eq!(overview, help("zinit help"));
    for command in COMMANDS {
        assert!(GROUPS.iter().any(|(group, _)| *group == command.group));
        assert!(overview.contains(&format!("  {:<12} {}", command.name, command.about)));
        let topic = help(&format!("zinit help {}", command.name));
        assert_eq!(topic, help(&format!("zinit {} --help", command.name)));
        for flag in command.flags.iter().chain(GLOBAL_FLAGS) {
            assert!(
                topic.contains(&format!("--{}", flag.long)),
                "{} {}",
                command.name,
                flag.long
            );
        }
    }
    assert!(help("zinit-server -h").starts_with("zinit server: run the server"));
    assert_eq!(parse_line("zinit -V"), Ok(Invocation::Version));
    assert_eq!(parse_line("zinit list --version"), Ok(Invocation::Version));
}

#[test]
fn names_in_the_table_are_unique() {
    let mut names = BTreeSet::new();
    for command in COMMANDS {
        assert!(names.insert(command.name), "{}", command.name);
        assert!(
            command.aliases.iter().all(|alias| names.insert(alias)),
            "{}",
            command.name
        );
        let flags: BTreeSet<_> = command.flags.iter().map(|flag| flag.long).collect();
        assert_eq!(flags.len(), command.flags.len(), "{}", command.name);
        assert!(
            GLOBAL_FLAGS
                .iter()
                .all(|global| !flags.contains(global.long)),
            "{}",
            command.name
        );
    }
}

/// The names of a command with its flags, as the table or the man page has them.
type Entries = BTreeMap<Vec<String>, BTreeSet<String>>;

#[test]
fn the_man_page_and_the_table_agree() {
    let man = include_str!("../man/zinit.8");
    let mut in_man: Entries = BTreeMap::new();
    let mut names = Vec::new();
    let body = man.split(".Sh THE SERVER").next().expect("a first part");
    for item in body.lines().filter_map(|line| line.strip_prefix(".It ")) {
        let words: Vec<&str> = item.split(' ').collect();
        let behind = |what: &str| {
            let pairs = words.windows(2).filter(|pair| pair[0] == what);
            pairs.map(|pair| pair[1].to_owned()).collect::<Vec<_>>()
        };
        match words[0] {
            "Cm" => names = behind("Cm"),
            _ => assert!(words[1].starts_with('-'), "{item}: long form first"),
        }
        let spelling = words
            .iter()
            .map(|word| word.trim_end_matches(','))
            .collect::<Vec<_>>();
        let flags = if words[0] == "Fl" {
            Some(spelling.join(" "))
        } else {
            None
        };
        in_man.entry(names.clone()).or_default().extend(flags);
    }
    assert_eq!(in_man, entries_of_the_table());
}

fn entries_of_the_table() -> Entries {
    let spelling = |flag: &cli::commands::Flag| {
        let value = flag
            .value
            .map_or_else(String::new, |value| format!(" Ar {value}"));
        let short = flag
            .short
            .map_or_else(String::new, |short| format!("  Fl {short}{value}"));
        format!("Fl -{}{value}{short}", flag.long)
    };
    let names = |command: &cli::commands::Command| {
        let names = std::iter::once(&command.name).chain(command.aliases);
        names.map(|name| (*name).to_owned()).collect::<Vec<_>>()
    };
    let globals = (Vec::new(), GLOBAL_FLAGS.iter().map(spelling).collect());
    let commands = COMMANDS
        .iter()
        .map(|command| (names(command), command.flags.iter().map(spelling).collect()));
    commands.chain([globals]).collect()
}

/// A server that expects just these methods in this order, answers as told, and hangs up.
struct Script {
    socket: PathBuf,
    thread: Option<JoinHandle<Vec<Value>>>,
}

impl Script {
    fn new(lines: Vec<(&'static str, Value)>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("zinit-cli-{}-{number}.sock", std::process::id());
        let socket = std::env::temp_dir().join(name);
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).expect("a socket of our own");
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
            lines
                .into_iter()
                .map(|line| play(&mut reader, &mut stream, line))
                .collect()
        });
        Self {
            socket,
            thread: Some(thread),
        }
    }

    /// Runs the command line against the script: exit code, output, complaints, and what was asked.
    fn run(mut self, line: &str) -> (u8, String, String, Vec<Value>) {
        let (code, out, err) = run_at(&self.socket, line);
        let thread = self.thread.take().expect("a script runs once");
        let asked = thread.join().expect("the script was followed");
        (code, out, err, asked)
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn play(reader: &mut impl BufRead, writer: &mut impl Write, line: (&str, Value)) -> Value {
    let (method, mut answer) = line;
    let mut request = String::new();
    reader.read_line(&mut request).expect("a request");
    let mut request: Value = serde_json::from_str(&request).expect("JSON");
    assert_eq!(
        (&request["method"], &request["jsonrpc"]),
        (&json!(method), &json!("2.0"))
    );
    answer["jsonrpc"] = json!("2.0");
    answer["id"] = request["id"].clone();
    writeln!(writer, "{answer}").expect("a reader");
    request["params"].take()
}

fn run_at(socket: &std::path::Path, line: &str) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = run_on_screen(socket, line, &mut Screen::plain(&mut out, &mut err));
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (code, text(out), text(err))
}

fn run_on_screen(socket: &std::path::Path, line: &str, screen: &mut Screen<'_>) -> u8 {
    match parse_line(line) {
        Ok(Invocation::Client(options, request)) => {
            let options = ClientOptions {
                socket: socket.to_owned(),
                ..options
            };
            let none = |_| Err(std::io::ErrorKind::NotFound.into());
            let powers = cli::Powers {
                signal_first: none,
                force: none,
            };
            cli::run_on(&options, &request, &powers, screen)
        }
        other => panic!("{line}: {other:?}"),
    }
}

/// One question, one answer: what is printed.
fn shown(line: &str, method: &'static str, result: Value) -> String {
    let (code, out, err, _) = Script::new(vec![(method, json!({ "result": result }))]).run(line);
    assert_eq!((code, err.as_str()), (0, ""), "{line}");
    out
}

fn services() -> Value {
    json!([
        { "name": "alpha", "is_target": false, "state": { "state": "running", "pid": 67 } },
        { "name": "full", "is_target": true, "state": { "state": "running", "pid": 0 } },
        { "name": "half", "is_target": false, "state": { "state": "starting", "pid": 80 } },
        { "name": "going", "is_target": false, "state": { "state": "stopping", "pid": 81 } },
        { "name": "once", "is_target": false, "state": { "state": "exited", "exit_code": 0 } },
        { "name": "crash", "is_target": false, "state": { "state": "failed", "reason": {} } },
        { "name": "conf", "is_target": false, "state": { "state": "blocked", "waiting_on": [] } },
        { "name": "disabled", "is_target": false, "state": { "state": "inactive" } },
    ])
}

#[test]
fn a_list_is_aligned() {
    let out = shown("zinit list", "service.list_full", services());
    let wanted = "● alpha    Running (pid: 67)\n● full     Running\n◐ half     Starting (pid: 80)\n\
                  ◑ going    Stopping (pid: 81)\n◌ once     Exited\n✗ crash    Failed\n\
                  ○ conf     Blocked\n○ disabled Inactive\n";
    assert_eq!(out, wanted);
    assert_eq!(
        shown("zinit ls", "service.list_full", json!([])),
        "No services configured\n"
    );
    let raw = shown(
        "zinit --json list",
        "service.list_full",
        json!([{ "name": "a" }]),
    );
    assert_eq!(raw, "[{\"name\":\"a\"}]\n");
}

#[test]
fn a_status_shows_what_is_known() {
    let running = vec![
        (
            "service.status",
            json!({ "result": { "name": "web", "pid": 67, "state": "running" } }),
        ),
        (
            "service.status_full",
            json!({ "result": { "uptime_secs": 75 } }),
        ),
    ];
    let (code, out, _, _) = Script::new(running).run("zinit status web");
    let wanted = "Service: web\nState:   ● Running\nPID:     67\nUptime:  1m15s\n";
    assert_eq!((code, out.as_str()), (0, wanted));

    let error = "killed by signal 9";
    let status =
        json!({ "name": "web", "pid": 0, "state": "failed", "exit_code": 2, "error": error });
    let failed = vec![
        ("service.status", json!({ "result": status })),
        (
            "service.status_full",
            json!({ "result": { "uptime_secs": null } }),
        ),
    ];
    let (_, out, _, _) = Script::new(failed).run("zinit status web");
    let wanted = "Service: web\nState:   ✗ Failed\nExit:    2\nError:   killed by signal 9\n";
    assert_eq!(out, wanted);

    let status = json!({ "name": "web", "pid": 0, "state": "blocked", "error": "waiting on: db" });
    let blocked = vec![
        ("service.status", json!({ "result": status })),
        (
            "service.status_full",
            json!({ "result": { "uptime_secs": null } }),
        ),
        ("service.why", json!({ "result": why() })),
    ];
    let (_, out, _, _) = Script::new(blocked).run("zinit status web");
    let wanted = "Service: web\nState:   ○ Blocked\nError:   waiting on: db\n\
                  Reason:  waiting on db (failed)\nReason:  conflicts with web2 (running)\n";
    assert_eq!(out, wanted);
}

fn why() -> Value {
    json!({
        "name": "web", "blocked": true, "waiting_on": ["db"], "conflicts_with": ["web2"],
        "ascii": "[?] web (blocked)\n  -> waiting on db (failed)\n  !> conflicts with web2 (running)",
    })
}

#[test]
fn short_answers_are_shown_as_ever() {
    let why_text = "[?] web (blocked)\n  -> waiting on db (failed)\n  !> conflicts with web2 (running)\n\n\
                    Waiting on: db\nConflicts with: web2\n";
    assert_eq!(shown("zinit why web", "service.why", why()), why_text);
    let free = json!({ "name": "web", "blocked": false, "ascii": "[+] web (running)" });
    assert_eq!(
        shown("zinit why web", "service.why", free),
        "web is not blocked\n"
    );
    let port = json!({
        "name": "p", "blocked": true, "waiting_on": [], "conflicts_with": [],
        "ascii": "[?] p (blocked)", "port_conflict": "port 80 in use by service q",
    });
    let wanted = "[?] p (blocked)\n\nPort conflict: port 80 in use by service q\n";
    assert_eq!(shown("zinit why p", "service.why", port), wanted);

    let tree = json!({ "ascii": "└─ [+] beta (running)\n     └─ requires alpha (running)" });
    let wanted = "└─ [+] beta (running)\n     └─ requires alpha (running)\n";
    assert_eq!(shown("zinit tree", "service.tree", tree), wanted);
    let version = json!({ "version": "0.3.9" });
    assert_eq!(
        shown("zinit ping", "system.ping", version),
        "zinit daemon v0.3.9 is running\n"
    );
    let ok = || json!({ "ok": true });
    let wanted = "✓ Sent TERM to: h\nSent SIGTERM to: h\n";
    assert_eq!(shown("zinit kill h", "service.kill", ok()), wanted);
    let wanted = "✓ Sent HUP to: h\nSent HUP to: h\n";
    assert_eq!(shown("zinit kill h -s HUP", "service.kill", ok()), wanted);
    let wanted = "✓ Deleted: h\nRemoved: h\n";
    assert_eq!(shown("zinit remove h", "service.delete", ok()), wanted);
    let added = json!({ "name": "h", "path": "/etc/zinit/services/h.toml", "warnings": [] });
    let wanted = "✓ Created: h\nService 'h' added (saved to /etc/zinit/services/h.toml)\n";
    assert_eq!(
        shown(
            "zinit add-service --name h --exec true",
            "service.set",
            added
        ),
        wanted
    );
    let stats = json!({ "pid": 48, "memory_bytes": 1_859_584, "cpu_percent": 0.5 });
    let wanted = "PID:     48\nMemory:  1.7 MiB\nCPU:     0.5 %\n";
    assert_eq!(shown("zinit stats h", "service.stats", stats), wanted);
    let state = json!({ "output": "=== Service Graph State ===\n" });
    assert_eq!(
        shown("zinit debug-state", "debug.state", state),
        "=== Service Graph State ===\n"
    );
    let stopped = json!({ "stopped": ["a", "b"], "count": 2 });
    let wanted = "Stopped: a\nStopped: b\n2 services stopped\n";
    assert_eq!(shown("zinit stop-all", "service.stop_all", stopped), wanted);
}

fn log(content: &str) -> Value {
    json!([{ "timestamp_ms": 1_795_396_753_694_u64, "service": "a", "stream": "stdout", "content": content }])
}

#[test]
fn logs_are_raw_in_a_pipe_and_tame_on_a_terminal() {
    let out = shown("zinit logs a", "logs.tail", log("alpha-out"));
    assert_eq!(out, "1795396753694 [stdout] alpha-out\n");
    assert_eq!(
        shown("zinit logs a", "logs.tail", json!([])),
        "No logs available for a\n"
    );
    let hostile = "\x1b]0;title\x07\tü\u{9b}2J";
    let raw = shown("zinit logs a", "logs.tail", log(hostile));
    assert_eq!(raw, format!("1795396753694 [stdout] {hostile}\n"));

    let script = Script::new(vec![("logs.tail", json!({ "result": log(hostile) }))]);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut screen = Screen {
        out_is_terminal: true,
        ..Screen::plain(&mut out, &mut err)
    };
    run_on_screen(&script.socket, "zinit logs a", &mut screen);
    let wanted = "1795396753694 [stdout] \\x1b]0;title\\x07\tü\\x9b2J\n";
    assert_eq!(String::from_utf8(out).expect("UTF-8"), wanted);
}

#[test]
fn starting_waits_and_reports_each() {
    let ok = || json!({ "result": { "ok": true, "state": "running" } });
    let script = Script::new(vec![("service.start", ok()), ("service.start", ok())]);
    let (code, out, err, asked) = script.run("zinit start a b --timeout 10s");
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, "✓ Started: a\nStarted: a\n✓ Started: b\nStarted: b\n");
    let wanted = json!({ "name": "a", "deps": true, "wait": true, "timeout_ms": 10_000 });
    assert_eq!(asked[0], wanted);
    let script = Script::new(vec![("service.stop", ok())]);
    let (_, out, _, asked) = script.run("zinit stop a --no-wait");
    assert_eq!(out, "✓ Stopped: a\nStopped: a\n");
    assert_eq!(asked, [json!({ "name": "a" })]);
}

fn refusal(outcome: &str, message: &str) -> Value {
    let data = json!({ "outcome": outcome, "state": outcome });
    json!({ "error": { "code": -32603, "message": message, "data": data } })
}

#[test]
fn a_blocked_start_says_why_and_the_rest_gets_its_turn() {
    let script = Script::new(vec![
        (
            "service.start",
            refusal("blocked", "web is blocked: db failed."),
        ),
        ("service.why", json!({ "result": why() })),
        ("logs.get", json!({ "result": ["1 [stderr] no db"] })),
        (
            "service.start",
            json!({ "result": { "ok": true, "state": "running" } }),
        ),
    ]);
    let (code, out, err, asked) = script.run("zinit start web other");
    assert_eq!(
        (code, out.as_str()),
        (1, "✓ Started: other\nStarted: other\n")
    );
    let wanted = "Error: web is blocked: db failed.\n[?] web (blocked)\n  -> waiting on db (failed)\n  \
                  !> conflicts with web2 (running)\nLast lines of its log:\n  1 [stderr] no db\n\
                  See what it waits for: zinit why web\n";
    assert_eq!(err, wanted);
    assert_eq!(asked[2], json!({ "name": "web", "lines": 10 }));
}

#[test]
fn failures_say_what_to_do_next() {
    let failed = vec![
        (
            "service.restart",
            refusal("failed", "web exited with code 2."),
        ),
        ("logs.get", json!({ "result": [] })),
    ];
    let (code, _, err, _) = Script::new(failed).run("zinit restart web");
    let wanted = "Error: web exited with code 2.\nSee how it stands: zinit status web\n";
    assert_eq!((code, err.as_str()), (1, wanted));

    let unknown = json!({ "error": { "code": -32603, "message": "service not found: web" } });
    let (code, _, err, _) = Script::new(vec![("service.stop", unknown)]).run("zinit stop web");
    let wanted = "Error: service not found: web\nSee which services there are: zinit list\n";
    assert_eq!((code, err.as_str()), (1, wanted));

    let json_line = vec![("service.wait", refusal("timeout", "web is still starting."))];
    let (code, out, err, _) = Script::new(json_line).run("zinit wait web --json");
    assert_eq!((code, err.as_str()), (1, "Error: web is still starting.\n"));
    let answer: Value = serde_json::from_str(&out).expect("one JSON line");
    assert_eq!(answer["error"]["data"]["outcome"], "timeout");

    let data = json!({ "errors": ["service.exec cannot be empty"] });
    let invalid =
        json!({ "error": { "code": -32011, "message": "Validation failed", "data": data } });
    let line = "zinit add-service --name a --exec x";
    let (code, _, err, _) = Script::new(vec![("service.set", invalid)]).run(line);
    let wanted = "Error: Validation failed\n  service.exec cannot be empty\n";
    assert_eq!((code, err.as_str()), (1, wanted));
}

#[test]
fn a_reload_tells_what_changed_and_what_is_broken() {
    let calm = json!({ "added": [], "removed": [], "changed": [], "errors": [] });
    assert_eq!(
        shown("zinit reload", "service.reload", calm),
        "Reloaded: nothing changed\n"
    );
    let result = json!({
        "added": ["a", "b"], "removed": [], "changed": ["c"], "config_errors": [["a", "ghost"]],
        "errors": ["x.toml:3:1: error: no exec"], "warnings": [],
    });
    let script = Script::new(vec![("service.reload", json!({ "result": result }))]);
    let (code, out, err, _) = script.run("zinit reload");
    assert_eq!((code, out.as_str()), (1, "Added: a, b\nChanged: c\n"));
    let wanted = "x.toml:3:1: error: no exec\nWarning: a requires ghost, which does not exist\n";
    assert_eq!(err, wanted);
}

#[test]
fn a_shutdown_waits_for_the_end_of_the_connection() {
    let ok = || json!({ "result": { "ok": true } });
    let (code, out, err, _) = Script::new(vec![("system.shutdown", ok())]).run("zinit shutdown");
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, "Shutting down zinit daemon...\nzinit daemon stopped\n");
    let script = Script::new(vec![("system.shutdown", ok())]);
    let (_, out, _, _) = script.run("zinit shutdown --no-wait");
    assert_eq!(out, "Shutting down zinit daemon...\n");

    let message = "Reboot only available when running as PID 1";
    let no = json!({ "error": { "code": -32603, "message": message } });
    let script = Script::new(vec![("system.reboot", no), ("system.shutdown", ok())]);
    let (code, out, _, _) = script.run("zinit reboot");
    let wanted = "zinit is not running as PID 1 - stopping daemon only\n\
                  Shutting down zinit daemon...\nzinit daemon stopped\n";
    assert_eq!((code, out.as_str()), (0, wanted));
}

#[test]
fn a_missing_server_has_its_own_exit_code() {
    let (code, out, err) = run_at("/nonexistent/zinit.sock".as_ref(), "zinit list");
    assert_eq!((code, out.as_str()), (3, ""));
    let wanted = "Error: nothing listens on /nonexistent/zinit.sock: No such file or directory (os error 2)\n\
                  Is the zinit server running? Start it with: zinit server\n";
    assert_eq!(err, wanted);
    let (code, _, err, _) = Script::new(vec![]).run("zinit ping");
    assert_eq!(code, 1);
    assert_eq!(
        err,
        "Error: the server closed the connection before it answered\n"
    );
}

/// A reader that has left.
struct Gone;

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_left_is_no_failure() {
    let script = Script::new(vec![("service.list_full", json!({ "result": services() }))]);
    let mut err = Vec::new();
    let code = run_on_screen(
        &script.socket,
        "zinit list",
        &mut Screen::plain(&mut Gone, &mut err),
    );
    assert_eq!((code, err.as_slice()), (0, b"".as_slice()));
}

/// `zinit stop a b c | head -1`: what was asked for is done, and what went wrong is in the status.
#[test]
fn a_reader_that_left_keeps_no_service_from_its_turn() {
    let done = || json!({ "result": { "ok": true } });
    let refused = json!({ "error": { "code": -32603, "message": "no" } });
    let mut script = Script::new(vec![
        ("service.stop", done()),
        ("service.stop", refused),
        ("service.stop", done()),
    ]);
    let mut err = Vec::new();
    let line = "zinit stop a b c --no-wait";
    let code = run_on_screen(
        &script.socket,
        line,
        &mut Screen::plain(&mut Gone, &mut err),
    );
    assert_eq!(code, 1, "{}", String::from_utf8_lossy(&err));
    let asked = script
        .thread
        .take()
        .expect("it runs")
        .join()
        .expect("all were asked");
    assert_eq!(asked.len(), 3);
}

#[test]
fn a_check_fails_on_errors_alone() {
    let options = CheckOptions {
        path: "services".into(),
        system: None,
        json: false,
    };
    let mut result = CheckResult {
        checked: 2,
        errors: vec![],
        warnings: vec!["a: warning: b".to_owned()],
    };
    let run = |result: &CheckResult| {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = cli::report_check_on(&options, result, &mut Screen::plain(&mut out, &mut err));
        (
            code,
            String::from_utf8(out).expect("UTF-8"),
            String::from_utf8(err).expect("UTF-8"),
        )
    };
    let wanted = (
        0,
        "2 files, 0 errors, 1 warning\n".to_owned(),
        "a: warning: b\n".to_owned(),
    );
    assert_eq!(run(&result), wanted);
    result.errors.push("a:1:1: error: c".to_owned());
    assert_eq!(run(&result).0, 1);
}
