//! The service files of `tests/examples`, which are for daemons as Debian packages them: few lines,
//! no shell, ready when the daemon says so, and stopped clean.
//!
//! Each file is run as it is but for its places, its ports and, without root, its user. A daemon
//! that is not installed is passed over.

#[path = "common/sandbox.rs"]
mod sandbox;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{User, geteuid};
use sandbox::{Sandbox, find_program, is_alive, signal, wait_until};
use serde_json::{Value, json};

/// Most lines of an example.
const MOST_LINES: usize = 12;

/// How long an answer may take. Who has to answer at once is asked once.
const ANSWER: Duration = Duration::from_secs(10);

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/examples")
}

fn example(name: &str) -> String {
    fs::read_to_string(examples().join(format!("{name}.toml"))).unwrap()
}

/// Is this daemon installed?
fn is_there(program: &str) -> bool {
    let found = find_program(program).is_some();
    if !found {
        println!("skipped: {program} is not installed");
    }
    found
}

fn is_root() -> bool {
    geteuid().is_root()
}

/// A port that neither TCP nor UDP has in use.
fn free_port() -> u16 {
    let mut free = None;
    wait_until(|| {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = tcp.local_addr().unwrap().port();
        free = UdpSocket::bind((Ipv4Addr::LOCALHOST, port))
            .ok()
            .map(|_| port);
        free.is_some()
    });
    free.expect("a free port")
}

/// A daemon of an example in a sandbox of its own.
struct Daemon {
    sandbox: Sandbox,
    name: &'static str,
    port: u16,
}

impl Daemon {
    fn new(name: &'static str) -> Self {
        let sandbox = Sandbox::new();
        // Some of them leave root's rights behind, and still have to find their files.
        fs::set_permissions(sandbox.dir(), fs::Permissions::from_mode(0o755)).unwrap();
        Self {
            sandbox,
            name,
            port: free_port(),
        }
    }

    fn dir(&self) -> String {
        self.sandbox.dir().to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.sandbox.path(name), text).unwrap();
    }

    /// A directory for what the daemon keeps, which belongs to `user` if that can be.
    fn home(&self, user: &str) -> PathBuf {
        let home = self.sandbox.path("home");
        fs::create_dir(&home).unwrap();
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
        if is_root() {
            let user = User::from_name(user).unwrap().expect("a user of its own");
            chown(&home, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
        }
        home
    }

    /// Takes the example into use, with other texts in place of some of its own, and starts the
    /// server. It comes up with that.
    fn start(&mut self, places: &[(&str, &str)]) {
        let mut text = example(self.name);
        for (old, new) in places {
            assert!(text.contains(old), "{old} is not in {text}");
            text = text.replace(old, new);
        }
        if !is_root() {
            let lines = text.lines().filter(|line| !line.starts_with("user = "));
            text = lines.map(|line| format!("{line}\n")).collect();
        }
        self.sandbox.file(&format!("{}.toml", self.name), &text);
        self.sandbox.start();
        self.sandbox.await_running(self.name);
    }

    fn start_again(&self) {
        self.sandbox.done("service.start", self.name);
        assert_eq!(self.sandbox.state(self.name), "running");
    }

    fn reload(&self) {
        let pid = self.sandbox.pid(self.name);
        self.sandbox
            .ask("service.reload", json!({"name": self.name}));
        assert_eq!(self.sandbox.pid(self.name), pid, "it is the same process");
    }

    /// Its main process and all below.
    fn processes(&self) -> Vec<i32> {
        let family = self
            .sandbox
            .ask("service.children", json!({"name": self.name}));
        let children = family["children"].as_array().unwrap().iter();
        let children = children.map(|child| i32::try_from(child["pid"].as_i64().unwrap()).unwrap());
        children.chain([self.sandbox.pid(self.name)]).collect()
    }

    /// Stops it; it has to end by itself, with success, and to leave nothing: no process, no port.
    fn stop_clean(&self) {
        let (sandbox, name) = (&self.sandbox, self.name);
        let processes = self.processes();
        let before = sandbox.log().len();
        sandbox.done("service.stop", name);
        let status = sandbox.status(name);
        assert_eq!(status["state"], "exited", "{status}");
        assert_eq!(status["exit_code"], 0, "{status}\n{}", sandbox.log());
        assert_eq!(status["pid"], 0, "{status}");
        assert!(status.get("error").is_none_or(Value::is_null), "{status}");
        let log = sandbox.log();
        let since = &log[before..];
        assert!(
            since.contains(&format!("{name}: exited with code 0")) && !since.contains("SIGKILL"),
            "{since}"
        );
        let left: Vec<&i32> = processes.iter().filter(|pid| is_alive(**pid)).collect();
        assert!(left.is_empty(), "{left:?} of {processes:?}\n{since}");
        assert!(sandbox.pids_of_services().is_empty(), "{since}");
        TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).expect("the port is free");
        UdpSocket::bind((Ipv4Addr::LOCALHOST, self.port)).expect("the port is free");
    }

    /// Waits until its output has a line with this in it.
    fn await_line(&self, text: &str) {
        let said = || self.sandbox.output(self.name);
        let so = wait_until(|| said().iter().any(|line| line.contains(text)));
        assert!(so, "no {text:?}: {:#?}", said());
    }

    fn connect(&self) -> Option<TcpStream> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?;
        stream.set_read_timeout(Some(ANSWER)).unwrap();
        Some(stream)
    }

    /// Says `request` to its port, once, and gives the first line of what comes back.
    fn say(&self, request: &str) -> Option<String> {
        let mut stream = self.connect()?;
        stream.write_all(request.as_bytes()).ok()?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).ok()?;
        Some(line.trim_end().to_owned())
    }
}

#[test]
fn examples_are_short_have_no_shell_and_are_accepted() {
    let mut names = Vec::new();
    for entry in fs::read_dir(examples()).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.lines().count() <= MOST_LINES, "{stem} is too long");
        let file: toml::Table = toml::from_str(&text).expect("an example is TOML");
        assert_eq!(file["service"]["name"].as_str(), Some(stem.as_str()));
        let hooks = file.get("hooks").and_then(toml::Value::as_table);
        let hooks = hooks.into_iter().flat_map(toml::Table::values);
        for command in hooks.chain([&file["service"]["exec"]]) {
            // An array is always run directly, so only a shell that it names can be in it.
            let words = command.as_array().expect("a command is an array");
            let program = Path::new(words[0].as_str().unwrap());
            assert!(program.is_absolute(), "{stem}: {}", program.display());
            let shells = ["sh", "bash", "dash", "env", "busybox"];
            let is_shell = shells.iter().any(|shell| program.ends_with(shell));
            assert!(!is_shell, "{stem}: {}", program.display());
        }
        let output = Command::new(env!("CARGO_BIN_EXE_zinit"))
            .arg("check")
            .arg(&path)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(said.contains("1 file, 0 errors, "), "{said}");
        names.push(stem);
    }
    names.sort();
    assert_eq!(names, ["dnsmasq", "nginx", "postgresql", "redis", "sshd"]);
}

#[test]
fn redis_answers_as_soon_as_it_runs_and_saves_before_it_ends() {
    if !is_there("redis-server") {
        return;
    }
    let mut redis = Daemon::new("redis");
    let home = redis.home("redis");
    let (port, home) = (redis.port, home.display());
    // Debian's file has it in the background, and all else here is Debian's too.
    redis.write(
        "redis.conf",
        &format!(
            "bind 127.0.0.1\nport {port}\ndir {home}\ndaemonize yes\nsave 3600 1\n\
             pidfile {home}/redis.pid\n"
        ),
    );
    let program = find_program("redis-server").unwrap();
    let config = redis.sandbox.text("redis.conf");
    redis.start(&[
        ("/usr/bin/redis-server", program.to_str().unwrap()),
        ("/etc/redis/redis.conf", &config),
    ]);
    assert_eq!(redis.say("PING\r\n").as_deref(), Some("+PONG"));
    let status = redis.sandbox.status("redis");
    let said = status["status_text"].as_str().unwrap_or_default();
    assert!(said.contains("Ready to accept connections"), "{status}");
    assert_eq!(redis.say("SET bird wren\r\n").as_deref(), Some("+OK"));

    redis.stop_clean();
    redis.await_line("bye bye");
    let saved = redis.sandbox.path("home/dump.rdb");
    let mode = fs::metadata(saved).unwrap().permissions().mode();
    assert_eq!(mode & 0o007, 0, "{mode:o}");
    assert_eq!(redis.say("PING\r\n"), None);

    redis.start_again();
    assert_eq!(redis.say("GET bird\r\n").as_deref(), Some("$4"));
    redis.stop_clean();
    redis.sandbox.stop();
}

/// A session with an SSH server: what is sent to it comes back.
struct Session {
    client: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Session {
    fn open(sshd: &Daemon) -> Self {
        let user = User::from_uid(geteuid()).unwrap().expect("a name");
        let mut client = Command::new("ssh")
            .args(["-F", "none", "-T", "-o", "BatchMode=yes", "-i"])
            .arg(sshd.sandbox.path("key"))
            .args(["-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"])
            .args(["-o", "IdentitiesOnly=yes", "-o"])
            .arg(format!("UserKnownHostsFile={}/known", sshd.dir()))
            .args(["-p", &sshd.port.to_string(), "-l", &user.name])
            .args(["127.0.0.1", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            input: client.stdin.take().unwrap(),
            output: BufReader::new(client.stdout.take().unwrap()),
            client,
        }
    }

    fn echoes(&mut self, line: &str) -> bool {
        let mut back = String::new();
        let sent = writeln!(self.input, "{line}").is_ok();
        sent && self.output.read_line(&mut back).is_ok() && back.trim_end() == line
    }

    /// Ends it from the client's side.
    fn end(self) {
        let Self {
            mut client, input, ..
        } = self;
        drop(input);
        assert_eq!(client.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn sshd_answers_as_soon_as_it_runs_and_its_sessions_outlive_it() {
    if !is_there("sshd") || !is_there("ssh") || !is_there("ssh-keygen") {
        return;
    }
    let mut sshd = Daemon::new("sshd");
    for key in ["host", "key"] {
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(sshd.sandbox.path(key))
            .status();
        assert!(made.unwrap().success());
    }
    let (dir, port) = (sshd.dir(), sshd.port);
    let pam = if is_root() { "yes" } else { "no" };
    let config = |word: &str| {
        format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {dir}/host\nPidFile {dir}/sshd.pid\n\
             AuthorizedKeysFile {dir}/key.pub\nStrictModes no\nUsePAM {pam}\nPrintMotd no\n\
             VersionAddendum {word}\n"
        )
    };
    sshd.write("sshd_config", &config("first"));
    let arguments = format!("\"-D\", \"-e\", \"-f\", \"{dir}/sshd_config\"");
    let mut places = vec![("\"-D\", \"-e\"", arguments.as_str())];
    let run = format!("{dir}/run");
    if !is_root() {
        places.push(("/run/sshd", &run));
    }
    sshd.start(&places);
    let greeting = |sshd: &Daemon| sshd.say("").unwrap_or_default();
    assert!(greeting(&sshd).ends_with(" first"), "{}", greeting(&sshd));
    sshd.await_line("Server listening on 127.0.0.1");
    let mut session = Session::open(&sshd);
    assert!(session.echoes("one"));

    sshd.write("sshd_config", &config("second"));
    sshd.reload();
    assert!(wait_until(|| greeting(&sshd).ends_with(" second")));
    assert_eq!(sshd.sandbox.state("sshd"), "running");
    assert!(session.echoes("two"));

    let main = sshd.sandbox.pid("sshd");
    sshd.sandbox.done("service.stop", "sshd");
    let status = sshd.sandbox.status("sshd");
    assert_eq!(status["state"], "exited", "{status}");
    assert_eq!(status["exit_code"], 0, "{status}");
    assert!(!is_alive(main) && sshd.connect().is_none());
    assert!(session.echoes("three"), "{}", sshd.sandbox.log());

    sshd.start_again();
    assert!(greeting(&sshd).ends_with(" second"));
    assert!(session.echoes("four"));
    let main = sshd.sandbox.pid("sshd");
    signal(main, Signal::SIGKILL);
    sshd.sandbox.wait_other_pid("sshd", main);
    assert!(greeting(&sshd).ends_with(" second"));
    assert!(session.echoes("five"), "{}", sshd.sandbox.log());
    session.end();
    assert!(wait_until(|| sshd.processes().len() == 1));
    sshd.stop_clean();
    sshd.await_line("Received signal 15; terminating.");
    sshd.sandbox.stop();
}

/// The programs of the newest PostgreSQL that is installed.
fn postgresql() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let programs = versions.map(|version| version.path().join("bin"));
    let whole = |dir: &PathBuf| {
        ["postgres", "initdb", "psql"]
            .iter()
            .all(|program| dir.join(program).is_file())
    };
    programs.filter(whole).max()
}

#[test]
fn postgresql_answers_as_soon_as_it_runs_and_is_shut_down_in_order() {
    let Some(programs) = postgresql() else {
        println!("skipped: postgresql is not installed");
        return;
    };
    let mut postgresql = Daemon::new("postgresql");
    let home = postgresql.home("postgres");
    let data = home.join("data");
    let mut initdb = Command::new(programs.join("initdb"));
    initdb
        .args(["-A", "trust", "-U", "postgres", "-N", "-D"])
        .arg(&data)
        .current_dir("/")
        .stdout(Stdio::null());
    if is_root() {
        let user = User::from_name("postgres").unwrap().unwrap();
        initdb.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    assert!(initdb.status().unwrap().success());
    let (port, sockets) = (postgresql.port, home.display());
    let configure = |memory: &str| {
        let text = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nfsync = off\n\
             unix_socket_directories = '{sockets}'\nwork_mem = {memory}\n"
        );
        fs::write(data.join("postgresql.conf"), text).unwrap();
    };
    configure("1MB");
    let query = |text: &str| {
        let output = Command::new(programs.join("psql"))
            .args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port.to_string()])
            .args(["-X", "-A", "-t", "-c", text])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    postgresql.start(&[
        ("/usr/lib/postgresql/15/bin", programs.to_str().unwrap()),
        ("/etc/postgresql/15/main", data.to_str().unwrap()),
    ]);
    assert_eq!(query("select 6 * 7"), "42");
    assert_eq!(query("show work_mem"), "1MB");
    query("create table birds as select 'wren' as name");

    configure("2MB");
    postgresql.reload();
    assert!(wait_until(|| query("show work_mem") == "2MB"));

    // Nobody has to wait for a session that is at work.
    let mut busy = Command::new(programs.join("psql"))
        .args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port.to_string()])
        .args(["-X", "-c", "select pg_sleep(1000)"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let count = "select count(*) from pg_stat_activity where query = 'select pg_sleep(1000)'";
    assert!(wait_until(|| query(count) == "1"));
    postgresql.stop_clean();
    assert!(!busy.wait().unwrap().success());
    postgresql.await_line("received fast shutdown request");
    postgresql.await_line("terminating connection due to administrator command");
    postgresql.await_line("database system is shut down");
    assert!(!data.join("postmaster.pid").exists());
    let sockets = fs::read_dir(&home).unwrap().count();
    assert_eq!(sockets, 1, "the data and no socket");

    postgresql.start_again();
    assert_eq!(query("select name from birds"), "wren");
    let said = postgresql.sandbox.output("postgresql").join("\n");
    assert!(!said.contains("was not properly shut down"), "{said}");
    postgresql.stop_clean();
    postgresql.sandbox.stop();
}

#[test]
fn nginx_serves_as_soon_as_it_runs_and_finishes_what_it_was_asked() {
    if !is_there("nginx") {
        return;
    }
    let mut nginx = Daemon::new("nginx");
    let (dir, port) = (nginx.dir(), nginx.port);
    let user = if is_root() { "user root;" } else { "" };
    let configure = |page: &str| {
        format!(
            "{user} worker_processes 2; pid {dir}/nginx.pid; error_log stderr notice;\n\
             events {{}}\nhttp {{ access_log off; \
             client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3; \
             uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;\n\
             server {{ listen 127.0.0.1:{port}; keepalive_timeout 0; \
             location / {{ return {page}; }} location /slow {{ root {dir}; limit_rate 16k; }} }} }}\n"
        )
    };
    nginx.write("nginx.conf", &configure("200"));
    let own = format!("\"-e\", \"stderr\", \"-c\", \"{dir}/nginx.conf\", \"-p\", \"{dir}\"");
    nginx.start(&[
        ("\"daemon off;\"", &format!("\"daemon off;\", {own}")),
        ("\"-q\"", &format!("\"-q\", {own}")),
        ("127.0.0.1/", &format!("127.0.0.1:{port}/")),
    ]);
    let get = || nginx.say("GET / HTTP/1.0\r\n\r\n").unwrap_or_default();
    assert_eq!(get(), "HTTP/1.1 200 OK");
    let status = nginx.sandbox.status("nginx");
    assert_eq!(status["health"]["state"], "healthy", "{status}");

    nginx.write("nginx.conf", &configure("204"));
    nginx.reload();
    assert!(wait_until(|| get() == "HTTP/1.1 204 No Content"));

    // Whoever is being answered when it is stopped gets all of the answer.
    nginx.write("slow", &"x".repeat(32768));
    let mut slow = BufReader::new(nginx.connect().unwrap());
    slow.get_mut()
        .write_all(b"GET /slow HTTP/1.0\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    slow.read_line(&mut answer).unwrap();
    assert_eq!(answer.trim_end(), "HTTP/1.1 200 OK");
    nginx.stop_clean();
    slow.read_to_string(&mut answer).unwrap();
    let page = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
    assert_eq!(page.len(), 32768, "{}", nginx.sandbox.log());
    assert!(!nginx.sandbox.path("nginx.pid").exists());
    nginx.await_line("signal 3 (SIGQUIT) received");

    // What `nginx -t` does not like is not started.
    nginx.write("nginx.conf", "nonsense;");
    let (_, message, _) = nginx.sandbox.not_done("service.start", "nginx");
    assert!(message.contains("nginx"), "{message}");
    nginx.await_line("unknown directive \"nonsense\"");
    nginx.sandbox.done("service.stop", "nginx");
    nginx.write("nginx.conf", &configure("200"));
    nginx.start_again();
    assert_eq!(get(), "HTTP/1.1 200 OK");
    nginx.stop_clean();
    nginx.sandbox.stop();
}

/// Asks a name server, once, for the address of a name.
fn resolve(port: u16, name: &str) -> Option<[u8; 4]> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(ANSWER)).unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    // One question, recursion desired; of type A, class IN.
    let mut question = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).unwrap());
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 0, 1, 0, 1]);
    socket.send(&question).ok()?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).ok()?;
    let answers = u16::from_be_bytes([answer[6], answer[7]]);
    (answers == 1).then(|| answer[length - 4..length].try_into().unwrap())
}

#[test]
fn dnsmasq_answers_as_soon_as_it_runs_and_reads_its_hosts_anew() {
    if !is_there("dnsmasq") {
        return;
    }
    let mut dnsmasq = Daemon::new("dnsmasq");
    let (dir, port) = (dnsmasq.dir(), dnsmasq.port);
    fs::create_dir(dnsmasq.sandbox.path("conf")).unwrap();
    dnsmasq.write(
        "conf/own",
        &format!(
            "port={port}\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\n\
             addn-hosts={dir}/hosts\npid-file={dir}/dnsmasq.pid\n"
        ),
    );
    dnsmasq.write("hosts", "192.0.2.1 wren.example\n");
    let own = format!("--conf-file=/dev/null\", \"--conf-dir={dir}/conf");
    dnsmasq.start(&[("--conf-dir=/etc/dnsmasq.d", &own)]);
    assert_eq!(resolve(port, "wren.example"), Some([192, 0, 2, 1]));
    assert_eq!(resolve(port, "owl.example"), None);

    dnsmasq.write("hosts", "192.0.2.2 owl.example\n");
    dnsmasq.reload();
    assert!(wait_until(
        || resolve(port, "owl.example") == Some([192, 0, 2, 2])
    ));
    assert_eq!(resolve(port, "wren.example"), None);

    dnsmasq.stop_clean();
    dnsmasq.await_line("exiting on receipt of SIGTERM");

    dnsmasq.start_again();
    assert_eq!(resolve(port, "owl.example"), Some([192, 0, 2, 2]));
    dnsmasq.stop_clean();
    dnsmasq.sandbox.stop();
}
