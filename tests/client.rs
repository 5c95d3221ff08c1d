//! The client library against a real server: every method, and service files made by a program.

#[path = "common/sandbox.rs"]
mod sandbox;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use sandbox::{PATIENCE, Sandbox, wait_until};
use serde_json::{Value, json};
use zinit::api::{self, Goal, LogStream, ProxyDefinition, State, Word};
use zinit::client::{
    Client, Connection, Error, Event, LogNote, LogQuery, ServiceBuilder, ServiceFile,
};
use zinit::config;
use zinit::engine::confine::Rlimit;
use zinit::engine::spec::{
    Class, Follow, Format, Hook, KillMode, OnUnhealthy, Readiness, RestartPolicy, Status,
};
use zinit::rpc::METHODS;

/// For everything that comes about.
const LONG: Option<Duration> = Some(PATIENCE);

fn client(sandbox: &Sandbox) -> Client {
    Client::connect(sandbox.socket()).expect("the server listens")
}

fn sleeper(name: &str) -> ServiceBuilder {
    ServiceBuilder::new(name).exec("sleep 1000")
}

fn built(builder: ServiceBuilder) -> ServiceFile {
    builder.build().expect("it is right")
}

/// The code and the message of a refusal.
fn refused<T: std::fmt::Debug>(answer: Result<T, Error>) -> (i64, String) {
    match answer {
        Err(Error::Refused(refusal)) => (refusal.code, refusal.message),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn services_are_made_looked_at_and_changed() -> Result<(), Error> {
    let sandbox = Sandbox::started();
    let mut client = client(&sandbox);
    assert_eq!(client.ping()?.version, env!("CARGO_PKG_VERSION"));
    let db = built(sleeper("db").status(Status::Stop));
    let added = client.set(&db)?;
    let path = sandbox.services_dir().join("db.toml");
    assert_eq!(added.path.map(PathBuf::from), Some(path.clone()));
    let written = std::fs::read_to_string(path).expect("the file");
    assert_eq!(written, db.to_toml());
    let web = sleeper("web").status(Status::Stop).requires("db");
    client.set(&built(web.reload_signal("CONT")))?;
    let group = ServiceBuilder::target("group")
        .status(Status::Stop)
        .wants("web");
    let group = built(group);
    client.set(&group)?;
    assert_eq!(
        client.set_ephemeral(&built(sleeper("fleeting")))?.path,
        None
    );
    // What is shown is what was said.
    assert_eq!(client.get("db")?, db);
    assert_eq!(client.get("group")?, group);
    assert_eq!(client.list()?, ["db", "fleeting", "group", "web"]);
    let done = client.start_and_wait("web", LONG)?;
    assert_eq!((done.ok, done.state.as_deref()), (true, Some("running")));
    let status = client.status("web")?;
    assert_eq!((status.state, status.exit_code), (Word::Running, None));
    let full = client.status_full("web")?;
    assert_eq!(full.state, State::Running { pid: status.pid });
    assert_eq!(full.dependencies[0].dep_type, api::DependencyType::Requires);
    assert!(client.is_running("db")? && !client.is_running("nobody")?);
    let infos = client.list_full()?;
    let targets = infos
        .iter()
        .filter(|info| info.is_target)
        .map(|info| info.name.as_str());
    assert_eq!(targets.collect::<Vec<_>>(), ["group"]);
    assert_eq!(client.stats("web")?.pid, status.pid);
    assert!(client.children("web")?.is_empty());
    assert!(!client.why("web")?.blocked);
    assert!(client.tree()?.contains("[+] web (running)"));
    assert!(client.debug_state()?.contains("web - Running"));
    assert!(client.debug_process_tree("web")?.starts_with("web (pid="));
    assert_eq!(client.discover()?["openrpc"], "1.2.6");
    client.kill("web", "CONT")?;
    assert_eq!(
        client.reload_service("web", LONG)?.state.as_deref(),
        Some("running")
    );
    client.restart_and_wait("web", LONG)?;
    assert_ne!(client.status("web")?.pid, status.pid);
    client.restart("db")?;
    client.wait("web", Goal::Running, LONG)?;
    client.stop_and_wait("db", LONG)?;
    assert_eq!(client.status("web")?.state, Word::Exited);
    client.start("db")?;
    client.wait("db", Goal::Running, LONG)?;
    client.stop("db")?;
    client.wait("db", Goal::Stopped, LONG)?;
    let reloaded = client.reload()?;
    assert_eq!((reloaded.changed.len(), reloaded.errors.len()), (0, 0));
    client.start_all_and_wait(LONG)?;
    let stopped = client.stop_all_and_wait(LONG)?;
    assert_eq!(stopped.count, stopped.stopped.len() as u64);
    client.delete("web", LONG)?;
    client.remove("fleeting", LONG)?;
    assert_eq!(client.list()?, ["db", "group"]);
    assert_eq!(client.delete_all_and_wait(LONG)?.deleted, ["db", "group"]);
    Ok(())
}

#[test]
fn a_no_says_why() -> Result<(), Error> {
    let mut sandbox = Sandbox::new();
    let hooked =
        "exec = \"true\"\n[lifecycle]\nrestart = \"never\"\n[hooks]\npre_start = \"exit 7\"";
    sandbox.service("crash", hooked);
    sandbox.runs("up", "sleep 1000");
    sandbox.start();
    sandbox.await_running("up");
    let mut client = client(&sandbox);
    assert_eq!(
        refused(client.status("nobody")).0,
        api::Code::ServiceNotFound as i64
    );
    let unknown = (
        api::Code::Internal as i64,
        "service not found: nobody".to_owned(),
    );
    assert_eq!(refused(client.start("nobody")), unknown);
    match client.start_and_wait("crash", LONG) {
        Err(Error::Refused(refusal)) => assert_eq!(refusal.outcome(), Some("failed")),
        other => panic!("{other:?}"),
    }
    match client.wait("up", Goal::Stopped, Some(Duration::from_millis(1))) {
        Err(Error::Refused(refusal)) => assert_eq!(refusal.outcome(), Some("timeout")),
        other => panic!("{other:?}"),
    }
    // A server without a machine has none to end.
    let not_pid_1 = [
        client.poweroff(),
        client.reboot(),
        client.halt(),
        client.kexec(),
        client.switch_root("/nowhere", None),
        client.prepare_restart(),
    ];
    for answer in not_pid_1 {
        assert_eq!(refused(answer).0, api::Code::Internal as i64);
    }
    // Who gave up on an answer gets the next one all the same.
    client.set_patience(Duration::ZERO);
    let waits = client.wait("up", Goal::Stopped, Some(Duration::ZERO));
    assert!(
        matches!(waits, Err(Error::Timeout(_) | Error::Refused(_))),
        "{waits:?}"
    );
    client.set_patience(PATIENCE);
    assert_eq!(client.list()?, ["crash", "up"]);
    let nowhere = Client::connect(sandbox.path("nowhere"));
    assert!(matches!(nowhere, Err(Error::NotListening(..))));
    let mut connection = Connection::connect(&sandbox.socket())?;
    assert_eq!(
        connection.ask("service.list", json!(null))?,
        json!(["crash", "up"])
    );
    client.shutdown(0)?;
    client.wait_for_end(LONG)?;
    assert_eq!(sandbox.server_end().code(), Some(0));
    Ok(())
}

#[test]
fn output_and_events_are_told() -> Result<(), Error> {
    let sandbox = Sandbox::started();
    let events = client(&sandbox).follow_events(&[])?;
    let mut client = client(&sandbox);
    let talks = ServiceBuilder::new("talks")
        .exec("echo out; echo err >&2")
        .oneshot();
    client.set(&built(talks))?;
    client.wait("talks", Goal::Stopped, LONG)?;
    let query = LogQuery::of(["talks"]);
    let lines = |client: &mut Client| {
        client
            .logs_tail(&query.clone().last(10))
            .unwrap_or_default()
    };
    assert!(wait_until(|| lines(&mut client).len() == 2));
    let err = client.logs_tail(&query.clone().stream(LogStream::Stderr))?;
    assert_eq!((err.len(), err[0].content.as_str()), (1, "err"));
    assert!(
        client
            .logs_tail(&LogQuery::all().since(u64::MAX))?
            .is_empty()
    );
    assert_eq!(client.logs(Some("talks"), Some(1))?.len(), 1);
    assert!(client.logs(None, None)?.len() >= 2);
    assert_eq!(client.logs_filter(&query)?.len(), 2);
    let again = self::client(&sandbox);
    let mut follow = again.follow_logs(&query.clone().last(1).stream(LogStream::Stdout))?;
    match follow.next().expect("a line")? {
        LogNote::Line(line) => assert_eq!(line.content, "out"),
        LogNote::Gap(gap) => panic!("{gap:?}"),
    }
    let nothing = follow.next_within(Duration::from_millis(1));
    assert!(matches!(nothing, Err(Error::Timeout(_))), "{nothing:?}");
    client.delete("talks", LONG)?;
    let mut words = Vec::new();
    for event in events {
        match event? {
            Event::State(change) => words.push(change.to),
            Event::Removed(removal) => {
                assert_eq!(removal.service, "talks");
                break;
            }
            other @ (Event::Health(_) | Event::Gap(_)) => panic!("{other:?}"),
        }
    }
    assert!(
        words.contains(&Word::Running) && words.contains(&Word::Exited),
        "{words:?}"
    );
    Ok(())
}

#[test]
fn proxies_are_made_and_looked_at() -> Result<(), Error> {
    let sandbox = Sandbox::started();
    let mut client = client(&sandbox);
    client.set(&built(sleeper("web").status(Status::Stop)))?;
    client.xinet_set(&ProxyDefinition {
        name: "front".to_owned(),
        listen: vec![format!("unix:{}", sandbox.text("front"))],
        backend: format!("unix:{}", sandbox.text("back")),
        service: "web".to_owned(),
        connect_timeout: Some(5),
        idle_timeout: None,
        single_connection: None,
    })?;
    assert_eq!(client.xinet_list()?, ["front"]);
    assert!(client.xinet_status("front")?.running);
    assert_eq!(client.xinet_status_all()?[0].service, "web");
    client.xinet_delete("front")?;
    assert!(client.xinet_list()?.is_empty());
    Ok(())
}

/// Stands between clients and the server, and tells which methods were asked.
fn eavesdrop(sandbox: &Sandbox) -> Arc<Mutex<BTreeSet<String>>> {
    let listener = UnixListener::bind(sandbox.path("ear")).expect("a socket of our own");
    let asked = Arc::<Mutex<BTreeSet<String>>>::default();
    let (heard, socket) = (Arc::clone(&asked), sandbox.socket());
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = UnixStream::connect(&socket).expect("the server");
            let (from, to) = (server.try_clone(), client.try_clone());
            let (from, to) = (from.expect("a copy"), to.expect("a copy"));
            thread::spawn(move || hand_on(from, to, |_| ()));
            let heard = Arc::clone(&heard);
            thread::spawn(move || {
                hand_on(client, server, |line| {
                    let request: Value = serde_json::from_str(line).expect("JSON");
                    let method = request["method"].as_str().expect("a method");
                    let mut heard = heard.lock().expect("whoever had it lives");
                    heard.insert(method.to_owned());
                });
            });
        }
    });
    asked
}

fn hand_on(from: UnixStream, mut to: UnixStream, hear: impl Fn(&str)) {
    for line in BufReader::new(from).lines().map_while(Result::ok) {
        hear(&line);
        if to.write_all(format!("{line}\n").as_bytes()).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

/// What comes of each is in the other tests; a reply that is not as its type says fails here too.
#[test]
fn every_method_has_its_function() {
    fn answered<T>(answer: Result<T, Error>) {
        match answer {
            Ok(_) | Err(Error::Refused(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let mut sandbox = Sandbox::started();
    let asked = eavesdrop(&sandbox);
    let connect = || Client::connect(sandbox.path("ear")).expect("somebody listens");
    answered(connect().follow_events(&[]));
    answered(connect().follow_logs(&LogQuery::all()));
    let mut client = connect();
    let query = LogQuery::of(["web"]);
    answered(client.set(&built(sleeper("web").status(Status::Stop))));
    answered(client.start("web"));
    answered(client.wait("web", Goal::Running, LONG));
    answered(client.ping());
    answered(client.list());
    answered(client.list_full());
    answered(client.status("web"));
    answered(client.status_full("web"));
    answered(client.is_running("web"));
    answered(client.get("web"));
    answered(client.stats("web"));
    answered(client.children("web"));
    answered(client.why("web"));
    answered(client.tree());
    answered(client.debug_state());
    answered(client.debug_record());
    answered(client.debug_process_tree("web"));
    answered(client.discover());
    answered(client.logs(None, Some(1)));
    answered(client.logs_tail(&query));
    answered(client.logs_filter(&query));
    answered(client.kill("web", "CONT"));
    answered(client.reload());
    answered(client.restart("web"));
    answered(client.stop("web"));
    answered(client.start_all());
    answered(client.stop_all());
    answered(client.xinet_set_ephemeral(&ProxyDefinition {
        name: "front".to_owned(),
        listen: vec![format!("unix:{}", sandbox.text("front"))],
        backend: format!("unix:{}", sandbox.text("back")),
        service: "web".to_owned(),
        connect_timeout: None,
        idle_timeout: None,
        single_connection: None,
    }));
    answered(client.xinet_list());
    answered(client.xinet_status("front"));
    answered(client.xinet_status_all());
    answered(client.xinet_delete("front"));
    answered(client.delete("web", LONG));
    answered(client.remove("web", LONG));
    answered(client.delete_all());
    answered(client.poweroff());
    answered(client.reboot());
    answered(client.halt());
    answered(client.kexec());
    answered(client.switch_root("/nowhere", Some("/sbin/init")));
    answered(client.prepare_restart());
    answered(client.shutdown(0));
    client.wait_for_end(LONG).expect("it ends");
    sandbox.server_end();
    let asked = asked.lock().expect("whoever had it lives");
    let all: BTreeSet<String> = METHODS.iter().map(|method| method.name.into()).collect();
    assert_eq!(*asked, all);
}

#[test]
fn what_is_built_is_what_a_file_says() {
    let seconds = Duration::from_secs;
    let all = ServiceBuilder::new("web")
        .exec_words(["nginx", "-g", "daemon off;"])
        .dir("/srv")
        .user("www")
        .env("A", "1")
        .env("B", "\"2\"")
        .port(80)
        .port(443)
        .status(Status::Ignore)
        .class(Class::System)
        .critical()
        .requires("db")
        .requires("cache")
        .after("net")
        .wants("log")
        .conflicts("old")
        .restart(RestartPolicy::Always)
        .restart_delay(seconds(2), seconds(20))
        .max_restarts(7)
        .start_timeout(seconds(3))
        .stop_timeout(seconds(4))
        .stop_signal("QUIT")
        .reload_signal("HUP")
        .kill_mode(KillMode::Group)
        .readiness(Readiness::Log("up".to_owned()))
        .health_tcp("localhost:80")
        .health_interval(seconds(5))
        .health_timeout(seconds(6))
        .health_retries(8)
        .health_start_period(seconds(9))
        .log_lines(99)
        .log_file("/var/log/web")
        .key("resources", "memory_max", "512M")
        .key("limits", "nofile", 1024);
    let all = built(all);
    let text = "[service]\nname = \"web\"\nexec = [\"nginx\", \"-g\", \"daemon off;\"]\n\
        dir = \"/srv\"\nuser = \"www\"\nports = [80, 443]\nstatus = \"ignore\"\n\
        class = \"system\"\ncritical = true\nenv = { A = \"1\", B = '\"2\"' }\n\
        [dependencies]\nrequires = [\"db\", \"cache\"]\nafter = [\"net\"]\nwants = [\"log\"]\n\
        conflicts = [\"old\"]\n[lifecycle]\nrestart = \"always\"\nrestart_delay_ms = 2000\n\
        restart_delay_max_ms = 20000\nmax_restarts = 7\nstart_timeout_ms = 3000\n\
        stop_timeout_ms = 4000\nstop_signal = \"QUIT\"\nreload_signal = \"HUP\"\n\
        kill_mode = \"group\"\n[readiness]\ntype = \"log\"\ntext = \"up\"\n\
        [health]\ntype = \"tcp\"\ntarget = \"localhost:80\"\ninterval_ms = 5000\n\
        timeout_ms = 6000\nretries = 8\nstart_period_ms = 9000\n\
        [limits]\nnofile = 1024\n[resources]\nmemory_max = \"512M\"\n\
        [logging]\nbuffer_lines = 99\nfile = \"/var/log/web\"\n";
    let parsed = ServiceFile::parse(text).expect("it is right");
    assert_eq!(all, parsed);
    assert_eq!(ServiceFile::parse(&all.to_toml()).as_ref(), Ok(&all));
    assert_eq!(ServiceFile::from_value(all.to_value()).as_ref(), Ok(&all));
    assert_eq!(
        ServiceFile::from_value(config::to_value(all.spec())).as_ref(),
        Ok(&all)
    );
    for readiness in [
        Readiness::Spawn,
        Readiness::Health,
        Readiness::Notify,
        Readiness::Fd(3),
    ] {
        let file = sleeper("a")
            .health_exec("true")
            .readiness(readiness.clone());
        assert_eq!(built(file).spec().readiness, readiness);
    }
    let once = built(
        ServiceBuilder::new("a")
            .exec("true")
            .readiness(Readiness::Exit),
    );
    assert!(once.spec().is_oneshot());
    assert!(
        built(sleeper("a").health_http("http://localhost/"))
            .spec()
            .health
            .is_some()
    );
    let target = built(ServiceBuilder::target("all").requires("web").critical());
    assert_eq!(ServiceFile::parse(&target.to_toml()).as_ref(), Ok(&target));
    assert_eq!(
        ServiceFile::from_value(config::to_value(target.spec())).as_ref(),
        Ok(&target)
    );
}

/// Each function of the builder that is about a section younger than those above.
#[test]
fn what_is_built_of_the_other_sections_is_what_a_file_says() {
    let second = Duration::from_secs(1);
    let all = ServiceBuilder::new("web")
        .exec("nginx")
        .tty("/dev/tty1")
        .group("www")
        .also_group("audio")
        .umask(0o027)
        .nice(5)
        .ionice("idle")
        .oom_score_adj(-100)
        .no_new_privs()
        .capabilities(["net_bind_service"])
        .chroot("/srv")
        .env_file("-/etc/default/web")
        .env_inherit(false)
        .process_filter("apache")
        .kill_others()
        .stability_period(second)
        .success_exit(["0", "3", "TERM"])
        .restart_dependents()
        .on_failure(Follow::Start("rescue".into()))
        .on_exit(Follow::Shutdown)
        .survive_switch_root()
        .watchdog(second)
        .health_http("http://localhost/")
        .health_expect(["2xx", "404"])
        .on_unhealthy(OnUnhealthy::Report)
        .readiness(Readiness::Notify)
        .hook(Hook::PreStart, "true")
        .hook(Hook::Stop, "false")
        .hook_timeout(Hook::Stop, second)
        .limit(Rlimit::Nofile, "1024:4096")
        .memory_max("512M")
        .memory_high("256M")
        .pids_max(100)
        .cpu_max(150)
        .cpu_weight(50)
        .io_weight(20)
        .listen("tcp:127.0.0.1:80")
        .listen("unix:/run/web.sock")
        .socket_name("http")
        .socket_name("local")
        .socket_mode(0o660)
        .activation()
        .log_file("/var/log/web")
        .log_max_size("1M")
        .log_max_files(2)
        .log_mode(0o600)
        .forward("syslog")
        .forward_format(Format::Json);
    let text = "[service]\nname = \"web\"\nexec = \"nginx\"\ntty = \"/dev/tty1\"\n\
        group = \"www\"\ngroups = [\"audio\"]\numask = \"027\"\nnice = 5\nionice = \"idle\"\n\
        oom_score_adj = -100\nno_new_privs = true\ncapabilities = [\"CAP_NET_BIND_SERVICE\"]\n\
        chroot = \"/srv\"\nenv_file = [\"-/etc/default/web\"]\nenv_inherit = false\n\
        process_filters = [\"apache\"]\nkill_others = true\n[lifecycle]\n\
        stability_period_ms = 1000\nsuccess_exit = [0, 3, \"TERM\"]\n\
        restart_dependents = true\non_failure = \"start:rescue\"\non_exit = \"shutdown\"\n\
        survive_switch_root = true\n[readiness]\ntype = \"notify\"\nwatchdog_ms = 1000\n\
        [health]\ntype = \"http\"\ntarget = \"http://localhost/\"\n\
        expect_status = [\"2xx\", 404]\non_unhealthy = \"report\"\n\
        [hooks]\npre_start = \"true\"\nstop = \"false\"\nstop_timeout_ms = 1000\n\
        [limits]\nnofile = \"1024:4096\"\n[resources]\nmemory_max = \"512M\"\n\
        memory_high = \"256M\"\npids_max = 100\ncpu_max = \"150%\"\ncpu_weight = 50\n\
        io_weight = 20\n[socket]\nlisten = [\"tcp:127.0.0.1:80\", \"unix:/run/web.sock\"]\n\
        names = [\"http\", \"local\"]\nmode = \"660\"\nactivation = true\n\
        [logging]\nfile = \"/var/log/web\"\nmax_size = \"1M\"\nmax_files = 2\n\
        mode = \"600\"\nforward = \"syslog\"\nforward_format = \"json\"\n";
    let all = built(all);
    assert_eq!(ServiceFile::parse(text).as_ref(), Ok(&all));
    assert_eq!(ServiceFile::parse(&all.to_toml()).as_ref(), Ok(&all));
    assert_eq!(ServiceFile::from_value(all.to_value()), Ok(all));
}

#[test]
fn what_is_wrong_with_a_definition_is_told() {
    let wrong = ServiceBuilder::new("a b")
        .exec("")
        .stop_signal("FOO")
        .build();
    assert_eq!(wrong.expect_err("it is wrong").0.len(), 3);
    let unknown = sleeper("a").key("service", "colour", "red").build();
    let told = unknown.expect_err("it is unknown").to_string();
    assert_eq!(told, "service.colour is no key");
    let odd = ServiceFile::parse("[service]\nname = 7\n");
    assert!(!odd.expect_err("it is odd").0.is_empty());
}
