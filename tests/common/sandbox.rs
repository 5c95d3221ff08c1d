//! A server of its own for a test: the real binary, real processes, a directory and a socket that
//! nobody else has, and the promise that nothing of it is left when the test is over.
//!
//! Every process of a sandbox carries its marker in the environment. What drops the marker on
//! purpose has to be watched by its number.

#![allow(dead_code, reason = "each test file uses the part of it that it needs")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// How long anything may take. A machine under load is slow; a test that hangs is wrong.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The variable by which the processes of a sandbox are known.
const MARKER: &str = "ZINIT_SANDBOX";

/// A failed request: code, message, data.
pub(crate) type Refused = (i64, String, Value);

/// One server, or the place for one.
pub(crate) struct Sandbox {
    dir: PathBuf,
    marker: String,
    server: Option<Child>,
    environment: Vec<(String, String)>,
    /// The command before `zinit`, for a server that starts under odd conditions.
    wrapper: Vec<String>,
    patience_ms: u64,
    /// Sessions that a killed server left: some programs write over their environment.
    orphaned: BTreeSet<i32>,
}

/// Waits until `so`, looking again every few milliseconds. False if it never came about.
pub(crate) fn wait_until(mut so: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + PATIENCE;
    loop {
        if so() {
            return true;
        }
        if Instant::now() > until {
            return false;
        }
        std::thread::park_timeout(Duration::from_millis(3));
    }
}

/// A port that nobody has, and that the kernel gives nobody who asks for any: those are higher
/// (`ip_local_port_range`, `ip(7)`).
pub(crate) fn free_port() -> u16 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(97);
    loop {
        let number = first.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed));
        let port = 10_000 + u16::try_from(number % 20_000).unwrap();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// A program that may not be installed.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(name))
        .find(|place| place.is_file())
}

/// Python 3 itself, whatever stands in front of it; none if there is none.
pub(crate) fn python() -> Option<PathBuf> {
    let found = Command::new("python3")
        .args(["-c", "import sys; print(sys.executable)"])
        .output();
    let path = found.ok().filter(|output| output.status.success())?;
    Some(PathBuf::from(
        String::from_utf8(path.stdout).ok()?.trim_end(),
    ))
}

/// Is this process there, and no zombie?
pub(crate) fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().unwrap_or("").trim_start().chars();
    state
        .clone()
        .next()
        .is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Sends a signal to a process that is known to be there.
pub(crate) fn signal(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

/// Text as TOML writes it.
pub(crate) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

impl Sandbox {
    /// A directory with no services, and no server yet.
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let own = std::process::id();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let nanos = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_nanos();
        let marker = format!("{own}.{number}.{nanos}");
        let dir = std::env::temp_dir().join(format!("zinit-test-{marker}"));
        fs::create_dir_all(dir.join("services")).unwrap();
        Self {
            dir,
            marker,
            server: None,
            environment: Vec::new(),
            wrapper: Vec::new(),
            patience_ms: u64::try_from(PATIENCE.as_millis()).unwrap(),
            orphaned: BTreeSet::new(),
        }
    }

    /// A sandbox whose server runs.
    pub(crate) fn started() -> Self {
        let mut sandbox = Self::new();
        sandbox.start();
        sandbox
    }

    /// A variable for the server, and so for its services.
    pub(crate) fn env(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Words to be put before the server's command line.
    pub(crate) fn wrap(&mut self, words: &[&str]) {
        self.wrapper = words.iter().map(|word| (*word).to_owned()).collect();
    }

    /// The directory of it all.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The same as text, for scripts.
    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn services_dir(&self) -> PathBuf {
        self.path("services")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("sock")
    }

    /// Writes the file of a service: `body` is all behind its name, further sections included.
    pub(crate) fn service(&self, name: &str, body: &str) {
        self.file(
            &format!("{name}.toml"),
            &format!("[service]\nname = {}\n{body}\n", quoted(name)),
        );
    }

    /// The same with a program and nothing else.
    pub(crate) fn runs(&self, name: &str, exec: &str) {
        self.service(name, &format!("exec = {}", quoted(exec)));
    }

    /// Writes the file of a target.
    pub(crate) fn target(&self, name: &str, body: &str) {
        self.file(
            &format!("{name}.toml"),
            &format!("[target]\nname = {}\n{body}\n", quoted(name)),
        );
    }

    /// Writes any file among the services.
    pub(crate) fn file(&self, name: &str, text: &str) {
        fs::write(self.services_dir().join(name), text).unwrap();
    }

    /// Takes the file of a service away.
    pub(crate) fn remove_file(&self, name: &str) {
        fs::remove_file(self.services_dir().join(format!("{name}.toml"))).unwrap();
    }

    /// The command line of this sandbox's server.
    pub(crate) fn server_command(&self) -> Command {
        let zinit = env!("CARGO_BIN_EXE_zinit");
        let mut words = self
            .wrapper
            .iter()
            .map(String::as_str)
            .chain([zinit, "server"]);
        let mut command = Command::new(words.next().unwrap());
        command
            .args(words)
            .arg("--config-dir")
            .arg(self.services_dir())
            .arg("--socket")
            .arg(self.socket())
            .args(["--log-level", "debug"])
            .env_remove("ZINIT_SOCKET")
            .env_remove("ZINIT_CONFIG_DIR")
            .env_remove("ZINIT_MARK")
            .env(MARKER, &self.marker)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// Starts the server and waits until it answers.
    pub(crate) fn start(&mut self) {
        let command = self.logged_command();
        self.start_as(command);
    }

    /// Starts the server and kills it as soon as it has so many children.
    pub(crate) fn start_and_kill(&mut self, children: usize) {
        let mut server = self.logged_command().spawn().unwrap();
        let list = format!("/proc/{0}/task/{0}/children", server.id());
        let count = || fs::read_to_string(&list).unwrap_or_default();
        let until = Instant::now() + PATIENCE;
        while count().split_ascii_whitespace().count() < children {
            assert!(Instant::now() < until, "{}", self.log());
            let ended = server.try_wait().unwrap();
            assert!(ended.is_none(), "the server ended at once\n{}", self.log());
            std::thread::yield_now();
        }
        server.kill().unwrap();
        server.wait().unwrap();
    }

    fn logged_command(&self) -> Command {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("server.log"))
            .unwrap();
        let mut command = self.server_command();
        command.stderr(log);
        command
    }

    /// Starts a server by this command and waits until it answers.
    pub(crate) fn start_as(&mut self, mut command: Command) {
        self.adopt(command.spawn().expect("the server can be run"));
    }

    /// Takes a server that was just started for its own, and waits until it answers.
    pub(crate) fn adopt(&mut self, server: Child) {
        assert!(self.server.is_none(), "one server a sandbox");
        self.server = Some(server);
        let answers = wait_until(|| {
            if let Some(status) = self.server.as_mut().unwrap().try_wait().unwrap() {
                panic!("the server ended at once: {status}\n{}", self.log());
            }
            // A killed server's last child may hold its socket for a moment, and answers nothing.
            Connection::try_open(&self.socket()).is_some_and(|mut connection| {
                let ping = "{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"system.ping\"}\n";
                connection.send(ping.as_bytes()) && connection.line().is_some()
            })
        });
        assert!(answers, "the server does not answer\n{}", self.log());
    }

    /// The number of the server's process. Behind a wrapper that forks it is the wrapper's.
    pub(crate) fn server_pid(&self) -> i32 {
        i32::try_from(self.server.as_ref().expect("a server").id()).unwrap()
    }

    /// What the server wrote on its standard error.
    pub(crate) fn log(&self) -> String {
        let bytes = fs::read(self.path("server.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Signals the server.
    pub(crate) fn signal_server(&self, name: Signal) {
        signal(self.server_pid(), name);
    }

    /// Waits for the server's end; the place is free for another one then.
    pub(crate) fn server_end(&mut self) -> ExitStatus {
        let mut status = None;
        let server = self.server.as_mut().expect("a server");
        let ended = wait_until(|| {
            status = server.try_wait().unwrap();
            status.is_some()
        });
        assert!(ended, "the server does not end\n{}", self.log());
        self.server = None;
        status.unwrap()
    }

    /// Ends the server in order and looks that nothing is left.
    pub(crate) fn stop(&mut self) {
        self.signal_server(Signal::SIGTERM);
        let status = self.server_end();
        assert_eq!(status.code(), Some(0), "{}", self.log());
        self.assert_nothing_left();
    }

    /// Kills the server where it stands; its services live on.
    pub(crate) fn kill_server(&mut self) {
        let own = self.server_pid();
        let mains = all_pids().filter(|pid| stat_field(*pid, 4) == Some(own));
        self.orphaned.extend(mains.collect::<Vec<_>>());
        self.signal_server(Signal::SIGKILL);
        let mut server = self.server.take().expect("a server");
        server.wait().unwrap();
    }

    pub(crate) fn assert_nothing_left(&self) {
        let left = self.pids_of_marker();
        assert!(left.is_empty(), "left: {}", described(&left));
    }

    /// All living processes of the sandbox, the server included.
    pub(crate) fn pids_of_marker(&self) -> BTreeSet<i32> {
        let entry = format!("{MARKER}={}", self.marker).into_bytes();
        let mut found = BTreeSet::new();
        for pid in all_pids() {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let marked = environment
                .split(|byte| *byte == 0)
                .any(|one| one == entry.as_slice());
            let orphaned = || stat_field(pid, 6).is_some_and(|id| self.orphaned.contains(&id));
            if (marked || orphaned()) && is_alive(pid) {
                found.insert(pid);
            }
        }
        found
    }

    /// The same without the server.
    pub(crate) fn pids_of_services(&self) -> BTreeSet<i32> {
        let mut pids = self.pids_of_marker();
        pids.remove(&self.server_pid());
        pids
    }

    // Asking.

    /// A connection of its own.
    pub(crate) fn connect(&self) -> Connection {
        let mut opened = None;
        let connects = wait_until(|| {
            opened = Connection::try_open(&self.socket());
            opened.is_some()
        });
        assert!(connects, "nobody accepts\n{}", self.log());
        opened.unwrap()
    }

    /// One request on a connection of its own.
    pub(crate) fn rpc(&self, method: &str, params: Value) -> Result<Value, Refused> {
        self.connect().ask(method, params)
    }

    /// A request that must be granted.
    pub(crate) fn ask(&self, method: &str, params: Value) -> Value {
        self.rpc(method, params.clone())
            .unwrap_or_else(|refused| panic!("{method} {params}: {refused:?}\n{}", self.log()))
    }

    /// A request that must be refused.
    pub(crate) fn refused(&self, method: &str, params: Value) -> Refused {
        self.rpc(method, params.clone())
            .expect_err(&format!("{method} {params} should be refused"))
    }

    /// Asks for a change and waits until it is done.
    pub(crate) fn done(&self, method: &str, name: &str) -> Value {
        self.ask(method, self.waiting(name))
    }

    /// The same when it can't be done.
    pub(crate) fn not_done(&self, method: &str, name: &str) -> Refused {
        self.refused(method, self.waiting(name))
    }

    fn waiting(&self, name: &str) -> Value {
        json!({"name": name, "wait": true, "timeout_ms": self.patience_ms})
    }

    /// `service.wait`.
    pub(crate) fn await_goal(&self, name: &str, goal: &str) -> Result<Value, Refused> {
        let params = json!({"name": name, "for": goal, "timeout_ms": self.patience_ms});
        self.rpc("service.wait", params)
    }

    /// Waits until a service runs.
    pub(crate) fn await_running(&self, name: &str) {
        if let Err(refused) = self.await_goal(name, "running") {
            panic!("{name} does not run: {refused:?}\n{}", self.log());
        }
    }

    /// `service.status`.
    pub(crate) fn status(&self, name: &str) -> Value {
        self.ask("service.status", json!({"name": name}))
    }

    /// The word of a service's state.
    pub(crate) fn state(&self, name: &str) -> String {
        self.status(name)["state"].as_str().unwrap().to_owned()
    }

    /// The main process of a service, 0 if there is none.
    pub(crate) fn pid(&self, name: &str) -> i32 {
        i32::try_from(self.status(name)["pid"].as_i64().unwrap()).unwrap()
    }

    /// Waits until a service's state has this word.
    pub(crate) fn wait_state(&self, name: &str, word: &str) {
        let so = wait_until(|| self.state(name) == word);
        assert!(so, "{} is not {word}\n{}", self.status(name), self.log());
    }

    /// Waits until a service runs as another process than this.
    pub(crate) fn wait_other_pid(&self, name: &str, than: i32) -> i32 {
        let other = |status: &Value| {
            let pid = status["pid"].as_i64().unwrap();
            status["state"] == "running" && pid != i64::from(than)
        };
        let so = wait_until(|| other(&self.status(name)));
        assert!(
            so,
            "{name} does not come back: {}\n{}",
            self.status(name),
            self.log()
        );
        self.pid(name)
    }

    /// The lines a service wrote, as they are kept.
    pub(crate) fn output(&self, name: &str) -> Vec<String> {
        let lines = self.ask("logs.tail", json!({"name": name, "lines": 100_000}));
        let lines = lines.as_array().unwrap().iter();
        lines
            .map(|line| line["content"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Waits until a service has written this line.
    pub(crate) fn wait_output(&self, name: &str, line: &str) {
        let so = wait_until(|| self.output(name).iter().any(|known| known == line));
        assert!(so, "{name} never said {line:?}: {:?}", self.output(name));
    }

    /// Waits for a file with something in it, and gives that.
    pub(crate) fn wait_file(&self, name: &str) -> String {
        let path = self.path(name);
        let read = || fs::read_to_string(&path).unwrap_or_default();
        assert!(
            wait_until(|| read().ends_with('\n')),
            "no {name}\n{}",
            self.log()
        );
        read()
    }

    /// The process number that a script wrote to a file.
    pub(crate) fn wait_pid_file(&self, name: &str) -> i32 {
        self.wait_file(name).trim().parse().unwrap()
    }

    /// The lines of a file that scripts append to.
    pub(crate) fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The shell client: standard output, standard error, exit code.
    pub(crate) fn cli(&self, words: &[&str]) -> (String, String, i32) {
        let output = self.cli_command(words).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            text(output.stdout),
            text(output.stderr),
            output.status.code().unwrap_or(-1),
        )
    }

    /// The command line of the shell client.
    pub(crate) fn cli_command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zinit"));
        command
            .args(words)
            .env("ZINIT_SOCKET", self.socket())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    fn kill_what_is_left(&self) -> BTreeSet<i32> {
        let all = self.pids_of_marker();
        wait_until(|| {
            let left = self.pids_of_marker();
            left.iter().for_each(|pid| signal(*pid, Signal::SIGKILL));
            left.is_empty()
        });
        all
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        let mut ended = Ok(());
        if let Some(mut server) = self.server.take() {
            let pid = i32::try_from(server.id()).unwrap();
            signal(pid, Signal::SIGTERM);
            let mut status = None;
            if !wait_until(|| {
                status = server.try_wait().unwrap();
                status.is_some()
            }) {
                signal(pid, Signal::SIGKILL);
                let _ = server.wait();
            }
            ended = match status {
                Some(status) if status.code() == Some(0) => Ok(()),
                other => Err(format!("the server's end: {other:?}")),
            };
        }
        let left = self.pids_of_marker();
        let told = described(&left);
        self.kill_what_is_left();
        let log = self.log();
        if failed {
            let from = log.len().saturating_sub(4000);
            let tail = String::from_utf8_lossy(&log.as_bytes()[from..]).into_owned();
            eprintln!("--- the end of the server's log ---\n{tail}");
        }
        let _ = fs::remove_dir_all(&self.dir);
        if !failed {
            assert_eq!(ended, Ok(()), "{log}");
            assert!(left.is_empty(), "left: {told}\n{log}");
            assert!(!log.contains("this is a bug of zinit's"), "{log}");
        }
    }
}

/// Every process number there is.
fn all_pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// A number of `proc_pid_stat(5)`, counted as there: 4 is the parent, 6 the session.
pub(crate) fn stat_field(pid: i32, field: usize) -> Option<i32> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat).into_owned();
    let rest = stat.rsplit(')').next()?;
    rest.split_ascii_whitespace().nth(field - 3)?.parse().ok()
}

fn described(pids: &BTreeSet<i32>) -> String {
    let line = |pid: &i32| {
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let words = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        format!(
            "{words}[{}]",
            String::from_utf8_lossy(&read("stat")).trim_end()
        )
    };
    pids.iter().map(line).collect::<Vec<_>>().join("; ")
}

/// A connection to a server: lines out, lines in.
pub(crate) struct Connection {
    stream: UnixStream,
    input: Vec<u8>,
    last_id: u64,
}

impl Connection {
    /// Connects, if somebody listens.
    pub(crate) fn try_open(socket: &Path) -> Option<Self> {
        let stream = UnixStream::connect(socket).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Some(Self {
            stream,
            input: Vec::new(),
            last_id: 0,
        })
    }

    /// Sends bytes as they are. False if the peer has gone.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        match self.stream.write_all(bytes) {
            Ok(()) => true,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock) => {
                panic!("the server does not take what is sent")
            }
            Err(_) => false,
        }
    }

    /// Sends a value and a newline.
    pub(crate) fn send_line(&mut self, value: &Value) {
        assert!(self.send(format!("{value}\n").as_bytes()), "hung up");
    }

    /// Sends no more; still reads.
    pub(crate) fn end(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// The next line, or none at the end.
    pub(crate) fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.input.iter().position(|byte| *byte == b'\n') {
                let rest = self.input.split_off(at + 1);
                let mut line = std::mem::replace(&mut self.input, rest);
                line.pop();
                return Some(String::from_utf8(line).expect("replies are UTF-8"));
            }
            let mut buffer = [0; 65536];
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    assert!(self.input.is_empty(), "half a line and the end");
                    return None;
                }
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no reply: {error}"),
            }
        }
    }

    /// The next line as a value.
    pub(crate) fn reply(&mut self) -> Value {
        let line = self.line().expect("a reply, not the end");
        serde_json::from_str(&line).expect("replies are JSON")
    }

    /// Sends a request and does not wait; its id.
    pub(crate) fn begin(&mut self, method: &str, params: Value) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        self.send_line(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        id
    }

    /// The answer to the request that was begun first.
    pub(crate) fn finish(&mut self, id: u64) -> Result<Value, Refused> {
        let mut reply = self.reply();
        assert_eq!(reply["id"], id, "{reply}");
        assert_eq!(reply["jsonrpc"], "2.0", "{reply}");
        let members = reply.as_object_mut().unwrap();
        assert_eq!(members.len(), 3, "{members:?}");
        match members.remove("error") {
            None => Ok(members.remove("result").expect("a result or an error")),
            Some(error) => Err((
                error["code"].as_i64().unwrap(),
                error["message"].as_str().unwrap().to_owned(),
                error["data"].clone(),
            )),
        }
    }

    /// Asks and waits.
    pub(crate) fn ask(&mut self, method: &str, params: Value) -> Result<Value, Refused> {
        let id = self.begin(method, params);
        self.finish(id)
    }

    /// The stream itself.
    pub(crate) fn stream(&self) -> &UnixStream {
        &self.stream
    }
}
