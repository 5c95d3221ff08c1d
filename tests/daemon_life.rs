//! The life of services under a real server: what is asked of them, what happens to them, and what
//! the server does when it is started, hurried, doubled or killed itself.

#[path = "common/meter.rs"]
mod meter;
#[path = "common/sandbox.rs"]
mod sandbox;

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use sandbox::{Connection, Sandbox, find_program, is_alive, python, quoted, signal, wait_until};
use serde_json::{Value, json};

/// A process of the test that is no service of anybody's.
struct Outsider(Child);

impl Outsider {
    fn run(command: &mut Command) -> Self {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
        Self(quiet.spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }
}

impl Drop for Outsider {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn any_port() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
}

fn port_of(listener: &TcpListener) -> u16 {
    listener.local_addr().unwrap().port()
}

fn error_of(sandbox: &Sandbox, name: &str) -> String {
    sandbox.status(name)["error"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn outcome(answer: Result<Value, sandbox::Refused>) -> String {
    match answer {
        Ok(result) => result["state"].as_str().unwrap().to_owned(),
        Err((-32603, _, data)) => data["outcome"].as_str().unwrap().to_owned(),
        Err(other) => panic!("{other:?}"),
    }
}

fn begin(sandbox: &Sandbox, method: &str, name: &str) -> (Connection, u64) {
    let mut connection = sandbox.connect();
    let params = json!({"name": name, "wait": true, "timeout_ms": 30_000});
    let id = connection.begin(method, params);
    // The next request is taken on only behind this one, so that their order is certain.
    sandbox.ask("system.ping", Value::Null);
    (connection, id)
}

// What a start means.

#[test]
fn an_exec_that_fails_is_told_with_its_path_and_tried_again() {
    let sandbox = Sandbox::new();
    let policy = "[lifecycle]\nrestart_delay_ms = 5\nmax_restarts = 3";
    fs::write(sandbox.path("plain"), "echo\n").unwrap();
    let garbage = sandbox.path("garbage");
    fs::write(&garbage, "\x7fELF").unwrap();
    fs::set_permissions(&garbage, PermissionsExt::from_mode(0o755)).unwrap();
    let cases = [
        (
            "absent",
            "/no/such/program".to_owned(),
            "",
            "exec /no/such/program: No such file or directory",
        ),
        (
            "unheard",
            "no-such-program-anywhere".to_owned(),
            "",
            "exec no-such-program-anywhere: No such file or directory",
        ),
        (
            "plain",
            sandbox.text("plain"),
            "",
            "plain: Permission denied",
        ),
        (
            "garbage",
            sandbox.text("garbage"),
            "",
            "garbage: Exec format error",
        ),
        ("folder", sandbox.text(""), "", ": Permission denied"),
        (
            "lost",
            "true".to_owned(),
            "dir = \"/no/such/dir\"",
            "chdir /no/such/dir: No such file or directory",
        ),
    ];
    for (name, program, more, _) in &cases {
        let body = format!(
            "exec = [{}, \"argument\"]\n{more}\nstatus = \"stop\"\n{policy}",
            quoted(program)
        );
        sandbox.service(name, &body);
    }
    sandbox.service(
        "dependent",
        "exec = \"sleep 1000\"\nstatus = \"stop\"\n[dependencies]\nrequires = [\"absent\"]",
    );
    let mut sandbox = sandbox;
    sandbox.start();
    for (name, _, _, error) in &cases {
        let (code, message, data) = sandbox.not_done("service.start", name);
        assert_eq!(code, -32603, "{name}");
        assert!(message.contains(error), "{name}: {message}");
        assert_eq!(data["outcome"], "failed", "{name}: {data}");
    }
    for (name, _, _, error) in &cases {
        assert!(sandbox.await_goal(name, "running").is_err(), "{name}");
        assert_eq!(sandbox.state(name), "failed", "{name}");
        let told = error_of(&sandbox, name);
        assert!(told.starts_with("spawn error: "), "{told}");
        assert!(told.ends_with(error), "{told}");
    }
    let debug = sandbox.ask("debug.state", json!({}))["output"].to_string();
    assert_eq!(debug.matches("restart_count: 3").count(), cases.len());
    let dependent = outcome(Err(sandbox.not_done("service.start", "dependent")));
    assert_eq!(dependent, "blocked");
    // Nobody was ever said to run who did not.
    assert!(!sandbox.log().contains(": running"), "{}", sandbox.log());
}

#[test]
fn a_program_that_comes_late_is_found() {
    let mut sandbox = Sandbox::new();
    let program = sandbox.text("late");
    sandbox.service(
        "late",
        &format!(
            "exec = [{}, \"1000\"]\n[lifecycle]\nrestart_delay_ms = 5\nrestart_delay_max_ms = 20\n\
             max_restarts = 0",
            quoted(&program)
        ),
    );
    sandbox.start();
    sandbox.wait_state("late", "failed");
    symlink(find_program("sleep").unwrap(), &program).unwrap();
    sandbox.await_running("late");
}

#[test]
fn a_crash_is_answered_by_policy() {
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    let runs = |name: &str, exec: &str, lifecycle: &str| {
        let exec = format!("echo run >> $DIR/{name}.runs; {exec}");
        let body = format!(
            "exec = {}\nstatus = \"stop\"\n[lifecycle]\nrestart_delay_ms = 2\n{lifecycle}",
            quoted(&exec)
        );
        sandbox.service(name, &body);
    };
    runs("thrice", "exit 7", "max_restarts = 2");
    runs("killed", "kill -KILL $$", "max_restarts = 2");
    runs("fine", "exit 0", "max_restarts = 2");
    runs("never", "exit 7", "restart = \"never\"");
    runs("always", "exit 0", "restart = \"always\"\nmax_restarts = 4");
    sandbox.start();
    let expected = [
        ("thrice", 3, "failed", json!(7), ""),
        ("killed", 3, "failed", Value::Null, "killed by signal 9"),
        ("fine", 1, "exited", json!(0), ""),
        ("never", 1, "failed", json!(7), ""),
        ("always", 5, "exited", json!(0), ""),
    ];
    for round in 1..=2 {
        for (name, ..) in &expected {
            sandbox.ask("service.start", json!({"name": name}));
        }
        for (name, runs, state, code, error) in &expected {
            sandbox.await_goal(name, "stopped").unwrap();
            let status = sandbox.status(name);
            assert_eq!(status["state"], *state, "{status}");
            assert_eq!(status["exit_code"], *code, "{status}");
            assert_eq!(status["error"].as_str().unwrap_or(""), *error, "{status}");
            // Asked for by hand it has all its restarts again.
            let lines = sandbox.lines(&format!("{name}.runs")).len();
            assert_eq!(lines, runs * round, "{name}");
        }
    }
}

#[test]
fn a_start_tells_when_it_is_done() {
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    sandbox.service(
        "once",
        "exec = \"read line < $DIR/fifo; exit 0\"\noneshot = true\nstatus = \"stop\"",
    );
    sandbox.service(
        "follower",
        "exec = \"sleep 1000\"\nstatus = \"stop\"\n[dependencies]\nrequires = [\"once\"]",
    );
    nix::unistd::mkfifo(&sandbox.path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    sandbox.start();
    let (mut asked, id) = begin(&sandbox, "service.start", "follower");
    sandbox.wait_state("once", "running");
    assert_eq!(error_of(&sandbox, "follower"), "waiting on: once");
    fs::write(sandbox.path("fifo"), "go\n").unwrap();
    assert_eq!(
        asked.finish(id),
        Ok(json!({"ok": true, "state": "running"}))
    );
    assert_eq!(sandbox.state("once"), "exited");
}

// Asked twice: the last one wins.

/// Stops only when it is told to in a second way.
const SLOW: &str = "exec 2>/dev/null; trap 'while [ ! -f $DIR/go ]; do sleep 0.01; done; exit 0' TERM; \
                    echo up; while :; do sleep 1000 & wait $!; done";

fn slow() -> Sandbox {
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    sandbox.service(
        "slow",
        &format!(
            "exec = {}\n[lifecycle]\nstop_timeout_ms = 600000",
            quoted(SLOW)
        ),
    );
    sandbox.start();
    sandbox.wait_output("slow", "up");
    sandbox
}

/// How often it came up. What its shell says besides is its own affair.
fn ups(sandbox: &Sandbox) -> usize {
    let lines = sandbox.output("slow");
    lines.iter().filter(|line| *line == "up").count()
}

#[test]
fn a_start_after_a_stop_wins() {
    let sandbox = slow();
    let before = sandbox.pid("slow");
    let (mut stop, stop_id) = begin(&sandbox, "service.stop", "slow");
    sandbox.wait_state("slow", "stopping");
    let (mut start, start_id) = begin(&sandbox, "service.start", "slow");
    assert_eq!(outcome(stop.finish(stop_id)), "superseded");
    assert_eq!(sandbox.state("slow"), "stopping");
    fs::write(sandbox.path("go"), "").unwrap();
    assert_eq!(outcome(start.finish(start_id)), "running");
    assert_ne!(sandbox.pid("slow"), before);
}

#[test]
fn a_stop_after_a_restart_wins() {
    let sandbox = slow();
    let (mut restart, restart_id) = begin(&sandbox, "service.restart", "slow");
    sandbox.wait_state("slow", "stopping");
    let (mut stop, stop_id) = begin(&sandbox, "service.stop", "slow");
    assert_eq!(outcome(restart.finish(restart_id)), "superseded");
    fs::write(sandbox.path("go"), "").unwrap();
    assert_eq!(outcome(stop.finish(stop_id)), "exited");
    assert_eq!(sandbox.state("slow"), "exited");
    assert_eq!(ups(&sandbox), 1, "it never came back");
}

#[test]
fn a_restart_after_a_stop_and_a_start_after_that_are_one() {
    let sandbox = slow();
    let (mut stop, stop_id) = begin(&sandbox, "service.stop", "slow");
    sandbox.wait_state("slow", "stopping");
    let (mut restart, restart_id) = begin(&sandbox, "service.restart", "slow");
    let (mut start, start_id) = begin(&sandbox, "service.start", "slow");
    let (mut stop_again, stop_again_id) = begin(&sandbox, "service.stop", "slow");
    let (mut last, last_id) = begin(&sandbox, "service.start", "slow");
    assert_eq!(outcome(stop.finish(stop_id)), "superseded");
    assert_eq!(outcome(restart.finish(restart_id)), "superseded");
    assert_eq!(outcome(start.finish(start_id)), "superseded");
    assert_eq!(outcome(stop_again.finish(stop_again_id)), "superseded");
    fs::write(sandbox.path("go"), "").unwrap();
    assert_eq!(outcome(last.finish(last_id)), "running");
    sandbox.wait_output("slow", "up");
    let twice = wait_until(|| ups(&sandbox) == 2);
    assert!(twice, "{:?}", sandbox.output("slow"));
}

#[test]
fn a_reload_does_not_undo_a_delete() {
    let sandbox = slow();
    let (mut delete, delete_id) = begin(&sandbox, "service.delete", "slow");
    sandbox.wait_state("slow", "stopping");
    sandbox.runs("other", "sleep 1000");
    let reloaded = sandbox.ask("service.reload", Value::Null);
    assert_eq!(reloaded["added"], json!(["other"]), "{reloaded}");
    assert_eq!(reloaded["changed"], json!([]), "{reloaded}");
    fs::write(sandbox.path("go"), "").unwrap();
    assert_eq!(delete.finish(delete_id), Ok(json!({"ok": true})));
    assert_eq!(sandbox.ask("service.list", Value::Null), json!(["other"]));
    assert!(!sandbox.services_dir().join("slow.toml").exists());
}

#[test]
fn a_set_after_a_delete_wins() {
    let sandbox = slow();
    let (mut delete, delete_id) = begin(&sandbox, "service.delete", "slow");
    sandbox.wait_state("slow", "stopping");
    let set = json!({"service": {"name": "slow", "exec": "sleep 1000"}});
    sandbox.ask("service.set", set);
    assert_eq!(outcome(delete.finish(delete_id)), "superseded");
    fs::write(sandbox.path("go"), "").unwrap();
    sandbox.await_running("slow");
    assert!(sandbox.services_dir().join("slow.toml").exists());
}

#[test]
fn a_stop_ends_a_restart_that_is_due() {
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    sandbox.service(
        "crash",
        "exec = \"echo run >> $DIR/runs; exit 1\"\n[lifecycle]\nrestart_delay_ms = 600000\n\
         restart_delay_max_ms = 600000",
    );
    sandbox.start();
    sandbox.wait_state("crash", "failed");
    let stopped = sandbox.done("service.stop", "crash");
    assert_eq!(stopped, json!({"ok": true, "state": "inactive"}));
    assert_eq!(sandbox.state("crash"), "inactive");
    assert_eq!(sandbox.lines("runs").len(), 1);
    // And a start does not wait for the delay.
    for (request, runs) in [
        ("service.start", 2),
        ("service.start", 3),
        ("service.restart", 4),
    ] {
        sandbox.ask(request, json!({"name": "crash"}));
        let ran = || sandbox.lines("runs").len() == runs && sandbox.state("crash") == "failed";
        assert!(wait_until(ran), "{:?}", sandbox.lines("runs"));
    }
}

#[test]
fn a_restart_brings_back_those_that_were_up() {
    let sandbox = {
        let mut sandbox = Sandbox::new();
        sandbox.runs("db", "sleep 1000");
        let needs = |name: &str| format!("\n[dependencies]\nrequires = [\"{name}\"]");
        let sleeps = "exec = \"sleep 1000\"";
        sandbox.service("app", &format!("{sleeps}{}", needs("db")));
        sandbox.service("web", &format!("{sleeps}{}", needs("app")));
        sandbox.service(
            "tool",
            &format!("{sleeps}\nstatus = \"stop\"{}", needs("db")),
        );
        sandbox.service(
            "fan",
            &format!("{sleeps}\n[dependencies]\nwants = [\"db\"]"),
        );
        sandbox.target("all", "[dependencies]\nrequires = [\"web\"]");
        sandbox.start();
        sandbox
    };
    sandbox.await_running("all");
    sandbox.await_running("fan");
    let pids = || ["db", "app", "web", "fan"].map(|name| sandbox.pid(name));
    let before = pids();
    assert_eq!(sandbox.done("service.restart", "db")["state"], "running");
    sandbox.await_running("all");
    let after = pids();
    for at in 0..3 {
        assert_ne!(before[at], after[at]);
        assert_ne!(after[at], 0);
    }
    assert_eq!(before[3], after[3], "nobody restarts who only wants it");
    assert_eq!(sandbox.state("tool"), "inactive");
    // By the client, and for a target too.
    let (out, error, code) = sandbox.cli(&["restart", "all"]);
    assert_eq!((error.as_str(), code), ("", 0), "{out}");
    assert_eq!(sandbox.state("all"), "running");
}

// Obstacles.

#[test]
fn a_conflict_that_goes_away_is_noticed() {
    let mut sandbox = Sandbox::new();
    sandbox.runs("first", "sleep 1000");
    sandbox.service(
        "second",
        "exec = \"sleep 1000\"\nstatus = \"stop\"\n[dependencies]\nconflicts = [\"first\"]",
    );
    let port = port_of(&any_port());
    for name in ["port1", "port2"] {
        let status = if name == "port1" { "start" } else { "stop" };
        sandbox.service(
            name,
            &format!("exec = \"sleep 1000\"\nports = [{port}]\nstatus = \"{status}\""),
        );
    }
    sandbox.start();
    for (holder, waiter, error) in [
        ("first", "second", "conflicts with: first".to_owned()),
        (
            "port1",
            "port2",
            format!("port {port} in use by service port1"),
        ),
    ] {
        sandbox.await_running(holder);
        let blocked = sandbox.not_done("service.start", waiter);
        assert!(blocked.1.contains(&error), "{blocked:?}");
        assert_eq!(outcome(Err(blocked)), "blocked");
        assert_eq!(sandbox.state(waiter), "blocked");
        assert_eq!(error_of(&sandbox, waiter), error);
        let why = sandbox.ask("service.why", json!({"name": waiter}));
        assert_eq!(why["blocked"], true, "{why}");
        sandbox.done("service.stop", holder);
        sandbox.await_running(waiter);
        // It goes both ways.
        let blocked = sandbox.not_done("service.start", holder);
        assert_eq!(outcome(Err(blocked)), "blocked");
        sandbox.done("service.stop", waiter);
        sandbox.await_running(holder);
    }
}

#[test]
fn a_port_that_is_freed_is_noticed() {
    let four = any_port();
    let six = TcpListener::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, 0)));
    let mut holders = vec![four];
    match six {
        Ok(six) => holders.push(six),
        Err(_) => println!("skipped: no IPv6"),
    }
    let mut sandbox = Sandbox::new();
    for (at, holder) in holders.iter().enumerate() {
        let port = port_of(holder);
        sandbox.service(
            &format!("web{at}"),
            &format!("exec = \"sleep 1000\"\nports = [{port}]"),
        );
    }
    sandbox.start();
    let own = fs::read_to_string("/proc/self/stat").unwrap();
    let name = &own[own.find('(').unwrap() + 1..own.rfind(')').unwrap()];
    let names: Vec<String> = (0..holders.len()).map(|at| format!("web{at}")).collect();
    for (at, holder) in holders.iter().enumerate() {
        let service = &names[at];
        sandbox.wait_state(service, "blocked");
        let expected = format!(
            "port {} in use by external process: {name} (PID {})",
            port_of(holder),
            std::process::id()
        );
        assert_eq!(error_of(&sandbox, service), expected);
        let why = sandbox.ask("service.why", json!({"name": service}));
        assert_eq!(why["port_conflict"], expected, "{why}");
    }
    drop(holders);
    for service in &names {
        sandbox.await_running(service);
        let why = sandbox.ask("service.why", json!({"name": service}));
        assert_eq!(why["blocked"], false, "{why}");
    }
}

/// A program with a name that nobody else has.
fn odd_sleep(sandbox: &Sandbox, name: &str) -> Outsider {
    let place = sandbox.path(name);
    // A link, as a copy may still be open for writing in a child of another test's.
    std::os::unix::fs::symlink(find_program("sleep").unwrap(), &place).unwrap();
    let outsider = Outsider::run(Command::new(&place).arg("1000"));
    let stat = format!("/proc/{}/comm", outsider.pid());
    assert!(wait_until(
        || fs::read_to_string(&stat).is_ok_and(|text| text.trim() == name)
    ));
    outsider
}

#[test]
fn a_process_that_ends_is_noticed() {
    let mut sandbox = Sandbox::new();
    let name = format!("odd{}s", std::process::id());
    sandbox.service(
        "shy",
        &format!(
            "exec = \"sleep 1000\"\nprocess_filters = [{}]",
            quoted(&name.to_uppercase())
        ),
    );
    let outsider = odd_sleep(&sandbox, &name);
    sandbox.start();
    sandbox.wait_state("shy", "blocked");
    let error = error_of(&sandbox, "shy");
    assert!(error.contains(&name), "{error}");
    let why = sandbox.ask("service.why", json!({"name": "shy"}));
    let found = &why["process_conflict"];
    assert_eq!(found["filter"], name.to_uppercase(), "{why}");
    assert_eq!(found["processes"][0]["pid"], outsider.pid(), "{why}");
    assert_eq!(found["processes"][0]["name"], name, "{why}");
    drop(outsider);
    sandbox.await_running("shy");
}

#[test]
fn kill_others_kills_the_one_and_nobody_else() {
    let Some(python) = python() else {
        println!("skipped: python3 is not installed");
        return;
    };
    let mut sandbox = Sandbox::new();
    let script = "import signal, socket, sys\n\
                  s = socket.socket(); s.setsockopt(1, 2, 1); s.bind(('127.0.0.1', 0)); s.listen()\n\
                  open(sys.argv[1], 'w').write('%d\\n' % s.getsockname()[1])\n\
                  c = s.accept()\nsignal.pause()\n";
    let holder = Outsider::run(
        Command::new(python)
            .args(["-c", script])
            .arg(sandbox.path("port")),
    );
    let port: u16 = sandbox.wait_file("port").trim().parse().unwrap();
    // A client of that port has it in its table of connections, too; so has the test itself.
    let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let bystander = Outsider::run(Command::new("sleep").arg("1000"));
    sandbox.service("other", "exec = \"sleep 1000\"");
    sandbox.service(
        "greedy",
        &format!("exec = \"sleep 1000\"\nports = [{port}]\nkill_others = true"),
    );
    sandbox.start();
    sandbox.await_running("greedy");
    assert!(!is_alive(holder.pid()));
    assert!(is_alive(bystander.pid()));
    sandbox.await_running("other");
    drop(client);
    // Now the port is free but stands in the table for a while. Nobody is killed for that.
    let other = sandbox.pid("other");
    sandbox.done("service.restart", "greedy");
    assert!(is_alive(bystander.pid()));
    assert_eq!(sandbox.pid("other"), other);
}

#[test]
fn kill_others_kills_by_name_and_spares_its_own() {
    let mut sandbox = Sandbox::new();
    let name = format!("odd{}k", std::process::id());
    let outsider = odd_sleep(&sandbox, &name);
    let own = format!("exec {} 1000", sandbox.text(&name));
    // Another service of the same name is in the way, and is no outsider.
    sandbox.runs("a-neighbour", &own);
    sandbox.service(
        "greedy",
        &format!(
            "exec = \"sleep 1000\"\nstatus = \"stop\"\nkill_others = true\nprocess_filters = [{}]",
            quoted(&name)
        ),
    );
    sandbox.start();
    sandbox.await_running("a-neighbour");
    let neighbour = sandbox.pid("a-neighbour");
    sandbox.ask("service.start", json!({"name": "greedy"}));
    assert!(wait_until(|| !is_alive(outsider.pid())));
    assert_eq!(sandbox.pid("a-neighbour"), neighbour);
    assert_eq!(sandbox.state("greedy"), "blocked");
    sandbox.done("service.stop", "a-neighbour");
    sandbox.await_running("greedy");
}

#[test]
fn a_missing_dependency_that_is_added_is_noticed() {
    let mut sandbox = Sandbox::new();
    sandbox.service(
        "app",
        "exec = \"sleep 1000\"\n[dependencies]\nrequires = [\"ghost\"]",
    );
    sandbox.service(
        "other",
        "exec = \"sleep 1000\"\n[dependencies]\nrequires = [\"spirit\"]",
    );
    sandbox.start();
    sandbox.wait_state("app", "failed");
    assert_eq!(error_of(&sandbox, "app"), "missing dependency 'ghost'");
    let ghost = json!({"service": {"name": "ghost", "exec": "sleep 1000"}});
    sandbox.ask("service.set", ghost);
    sandbox.await_running("app");
    sandbox.wait_state("other", "failed");
    sandbox.runs("spirit", "sleep 1000");
    let reloaded = sandbox.ask("service.reload", Value::Null);
    assert_eq!(reloaded["added"], json!(["spirit"]));
    sandbox.await_running("other");
}

// Files that change.

#[test]
fn a_reload_applies_what_changed_and_leaves_the_rest_alone() {
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    let tells = |name: &str| {
        format!(
            "trap 'echo {name} >> $DIR/order; exit 0' TERM; echo up; \
             while :; do sleep 1000 & wait $!; done"
        )
    };
    sandbox.runs("same", "sleep 1000");
    sandbox.runs("changed", "sleep 1001");
    sandbox.runs("broken", "sleep 1000");
    sandbox.runs("base", &tells("base"));
    sandbox.service(
        "top",
        &format!(
            "exec = {}\n[dependencies]\nrequires = [\"base\"]",
            quoted(&tells("top"))
        ),
    );
    sandbox.start();
    for name in ["same", "changed", "broken", "base", "top"] {
        sandbox.await_running(name);
    }
    sandbox.wait_output("base", "up");
    sandbox.wait_output("top", "up");
    let pids = || ["same", "changed", "broken"].map(|name| sandbox.pid(name));
    let before = pids();
    sandbox.runs("changed", "sleep 1002");
    sandbox.file("broken.toml", "[service]\nname = \"broken\"\nexec = \n");
    sandbox.remove_file("base");
    sandbox.remove_file("top");
    sandbox.service("idle", "exec = \"sleep 1000\"\nstatus = \"ignore\"");
    sandbox.runs("new", "sleep 1000");
    let reloaded = sandbox.ask("service.reload", Value::Null);
    assert_eq!(reloaded["added"], json!(["idle", "new"]), "{reloaded}");
    assert_eq!(reloaded["removed"], json!(["base", "top"]), "{reloaded}");
    assert_eq!(reloaded["changed"], json!(["changed"]), "{reloaded}");
    assert_eq!(reloaded["config_errors"], json!([]), "{reloaded}");
    let errors = reloaded["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 1, "{reloaded}");
    let error = errors[0].as_str().unwrap();
    assert!(
        error.contains("broken.toml") && error.contains('3'),
        "{error}"
    );
    sandbox.await_running("new");
    assert_eq!(sandbox.state("idle"), "inactive");
    assert_eq!(pids(), before);
    assert!(wait_until(|| sandbox.lines("order").len() == 2));
    assert_eq!(sandbox.lines("order"), ["top", "base"]);
    let gone = || {
        sandbox
            .rpc("service.status", json!({"name": "base"}))
            .is_err()
    };
    assert!(wait_until(gone));
    // What changed comes with the next start.
    let command =
        |name: &str| fs::read_to_string(format!("/proc/{}/cmdline", sandbox.pid(name))).unwrap();
    assert_eq!(command("changed"), "sleep\u{0}1001\u{0}");
    sandbox.done("service.restart", "changed");
    assert_eq!(command("changed"), "sleep\u{0}1002\u{0}");
    // The broken one can be restarted with what it has, and goes with its file.
    sandbox.done("service.restart", "broken");
    sandbox.remove_file("broken");
    let reloaded = sandbox.ask("service.reload", Value::Null);
    assert_eq!(reloaded["removed"], json!(["broken"]), "{reloaded}");
    assert_eq!(reloaded["errors"], json!([]), "{reloaded}");
}

#[test]
fn a_reload_can_be_asked_for_in_three_ways() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    sandbox.runs("one", "sleep 1000");
    sandbox.signal_server(Signal::SIGHUP);
    let known = |name: &str| {
        let names = sandbox.ask("service.list", Value::Null);
        names.as_array().unwrap().contains(&json!(name))
    };
    assert!(wait_until(|| known("one")));
    sandbox.runs("two", "sleep 1000");
    let (out, error, code) = sandbox.cli(&["reload"]);
    assert_eq!((error.as_str(), code), ("", 0), "{out}");
    assert!(out.contains("two"), "{out}");
    sandbox.runs("three", "sleep 1000");
    sandbox.ask("service.reload", Value::Null);
    for name in ["one", "two", "three"] {
        sandbox.await_running(name);
    }
    sandbox.file("bad.toml", "[service]\nname = \"bad\"\n");
    let (out, error, code) = sandbox.cli(&["reload"]);
    assert_eq!(code, 1, "{out}{error}");
    assert!(format!("{out}{error}").contains("bad.toml"), "{out}{error}");
    // A directory that is gone changes nothing.
    fs::rename(sandbox.services_dir(), sandbox.path("elsewhere")).unwrap();
    let (code, message, _) = sandbox.refused("service.reload", Value::Null);
    assert_eq!(code, -32603);
    assert!(message.contains("services"), "{message}");
    for name in ["one", "two", "three"] {
        assert_eq!(sandbox.state(name), "running", "{name}");
    }
}

#[test]
fn set_and_delete_go_with_files() {
    let mut sandbox = Sandbox::new();
    sandbox.service(
        "odd",
        "exec = \"sleep 1000\"\n[dependencies]\nrequires = [\"base\"]",
    );
    fs::rename(
        sandbox.services_dir().join("odd.toml"),
        sandbox.services_dir().join("00-other-name.toml"),
    )
    .unwrap();
    sandbox.runs("base", "sleep 1000");
    sandbox.start();
    sandbox.await_running("odd");
    let files = || {
        let entries = fs::read_dir(sandbox.services_dir()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let with =
        |seconds: u32| json!({"service": {"name": "odd", "exec": format!("sleep {seconds}")}});
    let before = sandbox.pid("odd");
    let set = sandbox.ask("service.set", with(1001));
    let path = sandbox.services_dir().join("odd.toml");
    let runs_on = "it runs on as it was started; restart it to apply exec, dir and environment";
    assert_eq!(
        set,
        json!({"name": "odd", "path": path, "warnings": [runs_on]})
    );
    assert_eq!(files(), ["base.toml", "odd.toml"]);
    assert!(fs::read_to_string(&path).unwrap().contains("sleep 1001"));
    assert_eq!(sandbox.pid("odd"), before, "what runs goes on");
    let got = sandbox.ask("service.get", json!({"name": "odd"}));
    assert_eq!(got["service"]["exec"], "sleep 1001");
    assert_eq!(got["dependencies"]["requires"], json!([]));
    // What it wrote it reads.
    let reloaded = sandbox.ask("service.reload", Value::Null);
    for list in ["added", "removed", "changed", "errors", "warnings"] {
        assert_eq!(reloaded[list], json!([]), "{reloaded}");
    }
    // What is wrong changes nothing.
    let mut wrong = with(1002);
    wrong["dependencies"] = json!({"requires": ["nobody"]});
    assert_eq!(sandbox.refused("service.set", wrong).0, -32012);
    let got = sandbox.ask("service.get", json!({"name": "odd"}));
    assert_eq!(got["service"]["exec"], "sleep 1001");
    // With it go those that require it, and their files.
    let mut top = json!({"config": {"service": {"name": "top", "exec": "sleep 1000"}}});
    top["config"]["dependencies"] = json!({"requires": ["odd"]});
    sandbox.ask("service.set", top);
    sandbox.await_running("top");
    sandbox.ask("service.delete", json!({"name": "odd"}));
    assert_eq!(files(), ["base.toml"]);
    assert_eq!(sandbox.ask("service.list", Value::Null), json!(["base"]));
    let (code, message, _) = sandbox.refused("service.delete", json!({"name": "odd"}));
    assert_eq!((code, message.as_str()), (-32603, "service not found: odd"));
}

#[test]
fn of_two_files_with_one_name_the_first_counts() {
    let mut sandbox = Sandbox::new();
    for (file, seconds) in [("b", 1002), ("a", 1001), ("c", 1003)] {
        sandbox.file(
            &format!("{file}.toml"),
            &format!("[service]\nname = \"double\"\nexec = \"sleep {seconds}\"\n"),
        );
    }
    sandbox.start();
    sandbox.await_running("double");
    let got = sandbox.ask("service.get", json!({"name": "double"}));
    assert_eq!(got["service"]["exec"], "sleep 1001");
    let reloaded = sandbox.ask("service.reload", Value::Null);
    let errors = reloaded["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 2, "{reloaded}");
    for (error, file) in errors.iter().zip(["b.toml", "c.toml"]) {
        assert!(error.as_str().unwrap().contains(file), "{error}");
    }
    let pid = sandbox.pid("double");
    // The first one gone, the next one counts.
    sandbox.remove_file("a");
    let reloaded = sandbox.ask("service.reload", Value::Null);
    assert_eq!(reloaded["changed"], json!(["double"]), "{reloaded}");
    assert_eq!(sandbox.pid("double"), pid);
}

#[test]
fn what_is_not_started_by_itself_can_be_started() {
    let mut sandbox = Sandbox::new();
    for status in ["stop", "ignore"] {
        sandbox.service(
            status,
            &format!("exec = \"sleep 1000\"\nstatus = \"{status}\""),
        );
    }
    sandbox.start();
    for status in ["stop", "ignore"] {
        assert_eq!(sandbox.state(status), "inactive");
        let started = sandbox.done("service.start", status);
        assert_eq!(started, json!({"ok": true, "state": "running"}));
        let before = sandbox.pid(status);
        sandbox.done("service.restart", status);
        assert_ne!(sandbox.pid(status), before);
        signal(sandbox.pid(status), Signal::SIGKILL);
        sandbox.wait_other_pid(status, before);
    }
}

#[test]
fn bulk_commands_leave_the_system_alone() {
    let mut sandbox = Sandbox::new();
    sandbox.service("sys", "exec = \"sleep 1000\"\nclass = \"system\"");
    sandbox.service("idle", "exec = \"sleep 1000\"\nstatus = \"stop\"");
    sandbox.service(
        "user",
        "exec = \"sleep 1000\"\n[dependencies]\nrequires = [\"sys\"]",
    );
    sandbox.runs("bad", "/no/such/program");
    sandbox.target("all", "[dependencies]\nrequires = [\"user\"]");
    sandbox.start();
    sandbox.await_running("all");
    let system = sandbox.pid("sys");
    let waits = json!({"wait": true, "timeout_ms": 30_000});
    let stopped = sandbox.ask("service.stop_all", waits.clone());
    assert_eq!(
        stopped,
        json!({"count": 4, "stopped": ["all", "bad", "idle", "user"]})
    );
    for name in ["all", "bad", "user"] {
        assert!(
            ["inactive", "exited"].contains(&sandbox.state(name).as_str()),
            "{name}"
        );
    }
    assert_eq!(sandbox.pid("sys"), system);
    let started = sandbox.ask("service.start_all", waits.clone());
    assert_eq!(
        started["started"],
        json!(["all", "bad", "user"]),
        "{started}"
    );
    assert_eq!(started["failed"][0][0], "bad", "{started}");
    assert_eq!(sandbox.state("all"), "running");
    assert_eq!(sandbox.state("idle"), "inactive");
    let (out, error, code) = sandbox.cli(&["stop-all"]);
    assert_eq!((error.as_str(), code), ("", 0), "{out}");
    let (_, _, code) = sandbox.cli(&["start-all"]);
    assert_eq!(code, 1, "one of them failed");
    let deleted = sandbox.ask("service.delete_all", waits);
    assert_eq!(deleted["deleted"], json!(["all", "bad", "idle", "user"]));
    assert_eq!(sandbox.ask("service.list", Value::Null), json!(["sys"]));
    assert_eq!(sandbox.pid("sys"), system);
    assert_eq!(fs::read_dir(sandbox.services_dir()).unwrap().count(), 1);
}

// The client's way.

#[test]
fn the_client_waits_and_says_what_came_of_it() {
    let mut sandbox = Sandbox::new();
    sandbox.service("good", "exec = \"sleep 1000\"\nstatus = \"stop\"");
    sandbox.service(
        "bad",
        "exec = \"echo about to fail; exit 4\"\noneshot = true\nstatus = \"stop\"\n[lifecycle]\nrestart = \"never\"",
    );
    sandbox.service("once", "exec = \"true\"\noneshot = true\nstatus = \"stop\"");
    let (_, error, code) = sandbox.cli(&["list"]);
    assert_eq!(code, 3, "nobody listens: {error}");
    sandbox.start();
    let (out, error, code) = sandbox.cli(&["start", "good"]);
    assert_eq!((error.as_str(), code), ("", 0));
    assert!(out.contains("Started: good"), "{out}");
    let (out, _, code) = sandbox.cli(&["status", "good"]);
    assert_eq!(code, 0);
    assert!(
        out.contains("Running") && out.contains(&sandbox.pid("good").to_string()),
        "{out}"
    );
    let (_, error, code) = sandbox.cli(&["start", "bad"]);
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("exited with code 4"), "{error}");
    assert!(error.contains("about to fail"), "{error}");
    let (out, _, code) = sandbox.cli(&["start", "once"]);
    assert_eq!(code, 0, "{out}");
    let (out, _, code) = sandbox.cli(&["wait", "once", "--for", "exited"]);
    assert_eq!(code, 0, "{out}");
    let (out, _, code) = sandbox.cli(&["--json", "status", "bad"]);
    assert_eq!(code, 0);
    let status: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(status["exit_code"], 4);
    let (out, error, code) = sandbox.cli(&["stop", "nobody"]);
    assert_eq!(code, 1, "{out}{error}");
    let (_, _, code) = sandbox.cli(&["stop"]);
    assert_eq!(code, 2);
    let (out, error, code) = sandbox.cli(&["shutdown"]);
    assert_eq!((error.as_str(), code), ("", 0), "{out}");
    assert_eq!(sandbox.server_end().code(), Some(0));
    sandbox.assert_nothing_left();
}

// The server itself.

#[test]
fn a_second_signal_hurries() {
    let mut sandbox = Sandbox::new();
    let deaf = "trap '' TERM; echo up; while :; do sleep 1000; done";
    for name in ["deaf", "deaf-too"] {
        let links = if name == "deaf" {
            ""
        } else {
            "[dependencies]\nrequires = [\"deaf\"]"
        };
        sandbox.service(
            name,
            &format!(
                "exec = {}\n{links}\n[lifecycle]\nstop_timeout_ms = 600000",
                quoted(deaf)
            ),
        );
    }
    sandbox.start();
    for name in ["deaf", "deaf-too"] {
        sandbox.await_running(name);
        sandbox.wait_output(name, "up");
    }
    sandbox.signal_server(Signal::SIGTERM);
    sandbox.wait_state("deaf-too", "stopping");
    assert_eq!(sandbox.state("deaf"), "running");
    // Nothing new is started meanwhile, and everybody is told so.
    let (code, message, _) = sandbox.not_done("service.start", "deaf");
    assert_eq!(code, -32603);
    assert!(message.contains("shutting down"), "{message}");
    sandbox.signal_server(Signal::SIGINT);
    assert_eq!(sandbox.server_end().code(), Some(0));
    sandbox.assert_nothing_left();
    assert!(!sandbox.socket().exists());
}

#[test]
fn a_second_server_on_a_socket_refuses() {
    let mut sandbox = Sandbox::new();
    sandbox.runs("one", "sleep 1000");
    sandbox.start();
    sandbox.await_running("one");
    let pid = sandbox.pid("one");
    for _ in 0..3 {
        let mut second = sandbox.server_command();
        let output = second.stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains("another server"), "{error}");
        assert!(
            error.contains(sandbox.socket().to_str().unwrap()),
            "{error}"
        );
    }
    assert_eq!(sandbox.pid("one"), pid);
    assert_eq!(sandbox.pids_of_services().len(), 1);
}

#[test]
fn a_stale_socket_is_replaced_and_a_file_is_not() {
    let mut sandbox = Sandbox::new();
    fs::write(sandbox.socket(), "precious").unwrap();
    let output = sandbox
        .server_command()
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("no socket"), "{error}");
    assert_eq!(fs::read_to_string(sandbox.socket()).unwrap(), "precious");
    fs::remove_file(sandbox.socket()).unwrap();
    drop(UnixListener::bind(sandbox.socket()).unwrap());
    assert!(sandbox.socket().exists());
    sandbox.start();
    let mode = fs::metadata(sandbox.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}

#[test]
fn what_a_killed_server_left_is_ended_before_the_next_one_starts_anything() {
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    let deaf = "trap '' TERM; echo $$ >> $DIR/deaf; while :; do sleep 1000; done";
    sandbox.service(
        "deaf",
        &format!(
            "exec = {}\n[lifecycle]\nstop_timeout_ms = 100",
            quoted(deaf)
        ),
    );
    sandbox.runs("plain", "sleep 1000");
    sandbox.runs(
        "daemon",
        "( setsid sleep 1000 < /dev/null > /dev/null 2>&1 & ); exec sleep 1000",
    );
    sandbox.runs("renamed", "exec setsid -f sleep 1001");
    sandbox.service("once", "exec = \"true\"\noneshot = true");
    sandbox.start();
    for name in ["deaf", "plain", "daemon"] {
        sandbox.await_running(name);
    }
    sandbox.await_goal("once", "exited").expect("it ends");
    sandbox.wait_file("deaf");
    let before = sandbox.pids_of_services();
    let cgroups = meter::above_cgroup(sandbox.pid("plain"));
    sandbox.kill_server();
    assert!(!sandbox.pids_of_marker().is_empty());
    fs::remove_file(sandbox.services_dir().join("once.toml")).unwrap();
    sandbox.start();
    for name in ["deaf", "plain", "daemon"] {
        sandbox.await_running(name);
    }
    let after = sandbox.pids_of_services();
    let both: Vec<_> = before.intersection(&after).collect();
    assert!(both.is_empty(), "{both:?}\n{}", sandbox.log());
    assert!(wait_until(|| sandbox.lines("deaf").len() == 2));
    // Of a service that is no more, not even the cgroup.
    let left = cgroups.map(|above| above.join("service-once"));
    assert!(!left.is_some_and(|dir| dir.exists()));
}

/// What has no file says in the ledger how much of it a stop may kill.
#[test]
fn what_an_instance_may_leave_is_left_by_the_next_server() {
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    let exec = "setsid sh -c 'echo $$ > $DIR/session; exec sleep 1000' & exec sleep 1000";
    let body = format!(
        "exec = {}\nstatus = \"stop\"\n[lifecycle]\nkill_mode = \"main\"",
        quoted(exec)
    );
    sandbox.service("door@", &body);
    sandbox.start();
    sandbox.done("service.start", "door@7");
    let session = sandbox.wait_pid_file("session");
    let main = sandbox.pid("door@7");
    sandbox.kill_server();
    sandbox.start();
    assert!(wait_until(|| !is_alive(main)), "{}", sandbox.log());
    assert!(is_alive(session), "{}", sandbox.log());
    signal(session, Signal::SIGKILL);
}

/// Children on their way to their programs share the server's lock and socket, and carry no mark.
#[test]
fn a_server_killed_while_it_starts_services_makes_room_for_the_next() {
    let mut sandbox = Sandbox::new();
    let count = 60;
    for number in 0..count {
        sandbox.runs(&format!("s{number}"), "sleep 1000");
    }
    let kept = std::path::Path::new("/proc/thread-self/children").exists();
    for children in (1..30).filter(|_| kept) {
        sandbox.start_and_kill(children);
        sandbox.start();
        sandbox.kill_server();
    }
    sandbox.start();
    for number in 0..count {
        sandbox.await_running(&format!("s{number}"));
    }
    let settles = wait_until(|| sandbox.pids_of_services().len() == count);
    let found = sandbox.pids_of_services().len();
    assert!(settles, "{found} processes of {count}");
}

/// A program that clears its environment, or writes over it to change its title, carries no mark.
#[test]
fn what_a_killed_server_left_is_ended_also_without_a_mark() {
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    sandbox.runs(
        "bare",
        "exec env -i sh -c 'echo $$ >> '$DIR'/bare; sleep 1000; :'",
    );
    sandbox.start();
    let first = sandbox.wait_pid_file("bare");
    sandbox.kill_server();
    assert!(is_alive(first));
    sandbox.start();
    sandbox.await_running("bare");
    let lives = is_alive(first);
    if lives {
        let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(first), Signal::SIGKILL);
    }
    assert!(!lives, "there are two of them now\n{}", sandbox.log());
}

#[test]
fn a_service_begins_with_a_clean_slate() {
    let mut sandbox = Sandbox::new();
    let has_blocks = Command::new("env")
        .args(["--block-signal=USR1", "true"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let env = if has_blocks {
        "env --block-signal=USR1,USR2,CHLD,TERM"
    } else {
        println!("skipped: env can't block signals");
        "env"
    };
    for (name, limit) in [("lowered", "200"), ("raised", "$(ulimit -Hn)")] {
        let odd = format!(
            "trap '' HUP PIPE INT USR1 CHLD; ulimit -Sn {limit}; ulimit -Sc 0; exec 7</dev/null; \
             exec 9>&2; cat /proc/self/limits > {}; exec {env} \"$0\" \"$@\"",
            sandbox.text(name)
        );
        sandbox.wrap(&["sh", "-c", &odd]);
        sandbox.service("direct", "exec = [\"sleep\", \"1000\"]");
        sandbox.service("shell", "exec = \"echo up; sleep 1000; :\"");
        sandbox.start();
        sandbox.await_running("direct");
        for service in ["direct", "shell"] {
            let pid = sandbox.pid(service);
            assert_clean(pid, service);
            let read = |path: &str| fs::read_to_string(path).unwrap();
            assert_eq!(
                read(&format!("/proc/{pid}/limits")),
                read(&sandbox.text(name)),
                "{service}"
            );
        }
        sandbox.stop();
    }
}

fn assert_clean(pid: i32, what: &str) {
    let read = || fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    // A shell blocks signals for as long as it takes to fork.
    assert!(
        wait_until(|| read().contains("SigBlk:\t0000000000000000\n")),
        "{what}: {}",
        read()
    );
    let status = read();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().to_owned()
    };
    // A shell catches what it likes; it ignores and blocks nothing it did not inherit.
    for set in ["SigIgn", "SigPnd", "ShdPnd"] {
        let bits = u64::from_str_radix(&field(&format!("{set}:")), 16).unwrap();
        assert_eq!(bits, 0, "{what}: {set}");
    }
    if what == "direct" {
        let bits = u64::from_str_radix(&field("SigCgt:"), 16).unwrap();
        assert_eq!(bits, 0, "{what}: SigCgt");
    }
    let open = || {
        let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let mut open: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        open.sort();
        open
    };
    // A program that has only just begun is still loading its libraries.
    assert!(
        wait_until(|| open() == ["0", "1", "2"]),
        "{what}: {:?}",
        open()
    );
    let target = |number: u32| {
        let link = fs::read_link(format!("/proc/{pid}/fd/{number}")).unwrap();
        link.into_os_string().into_string().unwrap()
    };
    assert_eq!(target(0), "/dev/null", "{what}");
    assert!(target(1).starts_with("pipe:"), "{what}: {}", target(1));
    assert!(target(2).starts_with("pipe:"), "{what}: {}", target(2));
    assert_ne!(target(1), target(2), "{what}");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_ascii_whitespace()
        .collect();
    let number = pid.to_string();
    assert_eq!(fields[2], number, "{what}: process group");
    assert_eq!(fields[3], number, "{what}: session");
    assert_eq!(fields[4], "0", "{what}: no terminal");
}

#[test]
fn a_service_gets_the_environment_of_the_server_and_its_own() {
    let mut sandbox = Sandbox::new();
    sandbox.env("GIVEN", "by the server");
    sandbox.env("BOTH", "by the server");
    sandbox.service(
        "shows",
        "exec = \"echo $GIVEN, $BOTH, $OWN, $(pwd)\"\noneshot = true\ndir = \"/proc\"\n\
         [service.env]\nBOTH = \"by the file\"\nOWN = \"with = and $SIGNS\"",
    );
    sandbox.start();
    sandbox.await_running("shows");
    assert_eq!(
        sandbox.output("shows"),
        ["by the server, by the file, with = and $SIGNS, /proc"]
    );
}
