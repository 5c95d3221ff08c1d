//! A server's day in short: services that require one another, a probe, a log file, a socket, an
//! orphan; looked at, signalled, killed, added, reloaded, removed, stopped; and the end.
//!
//! What is asked may be refused, and a connection may be closed; nothing may be lost, hang or spin.
//! One failure of the kernel's is past when the next attempt is made, so that has to succeed.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::sandbox::{Connection, Sandbox, is_alive, quoted, signal, stat_field, wait_until};

/// The steps of the day, in order.
pub(crate) const STEPS: &[&str] = &[
    "start", "list", "run", "look", "signal", "restart", "murder", "call", "set", "reload",
    "delete", "stop", "rest", "end",
];

/// A step may be tried so often: once for the failure, once for what is left of it.
const ATTEMPTS: usize = 3;

/// Looks in a row at which the server has to be asleep.
const QUIET_LOOKS: usize = 5;

/// Ticks of processor time (`sysconf(3)`, a hundred a second) that a day may cost; it costs about ten.
const MOST_TICKS: i32 = 300;

/// How the day went.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Day {
    /// Nobody noticed anything.
    Unnoticed,
    /// Something was refused, or a connection closed, and the next attempt went well.
    AgainIn(&'static str),
    /// The server did not start, and said why.
    NotStarted(String),
}

/// A server under observation.
pub(crate) struct Server<'a> {
    sandbox: &'a Sandbox,
    child: Child,
    connection: Option<Connection>,
    last_id: u64,
    step: Arc<AtomicUsize>,
    again: Option<&'static str>,
    /// Something that was waited for did not come: no further attempt makes that good.
    is_lost: bool,
}

/// What came of a request.
enum Answer {
    Done(Value),
    Refused(String),
    Closed,
}

/// The services of the day.
pub(crate) fn services(sandbox: &Sandbox) {
    const KEEN: &str = "[lifecycle]\nrestart = \"always\"\nrestart_delay_ms = 1";
    let again = "[lifecycle]\nrestart_delay_ms = 1";
    sandbox.service("base", &format!("exec = \"true\"\noneshot = true\n{again}"));
    let talks = "trap 'echo heard' USR1; echo up; sleep 1000 & while :; do wait $!; done";
    let log = quoted(&sandbox.text("mid.log"));
    let body = format!(
        "exec = {}\n{KEEN}\n[dependencies]\nrequires = [\"base\"]\n[logging]\nfile = {log}\n\
         [health]\ntype = \"exec\"\ntarget = \"true\"\ninterval_ms = 60000",
        quoted(talks)
    );
    sandbox.service("mid", &body);
    let body = format!(
        "exec = \"echo >&3; exec sleep 1000\"\n{KEEN}\n[dependencies]\nrequires = [\"mid\"]\n\
         [readiness]\ntype = \"fd\"\nfd = 3"
    );
    sandbox.service("top", &body);
    let leaves = format!(
        "setsid sleep 999 & echo $! > {}; exec sleep 1000",
        sandbox.text("orphan")
    );
    sandbox.service("leaver", &format!("exec = {}\n{KEEN}", quoted(&leaves)));
    let listen = quoted(&format!("unix:{}", sandbox.text("door")));
    let body =
        format!("exec = \"sleep 1000\"\n{KEEN}\n[socket]\nlisten = {listen}\nactivation = true");
    sandbox.service("door", &body);
}

/// The command of the server, with its words in the sandbox's log.
pub(crate) fn command(sandbox: &Sandbox) -> Command {
    let mut command = sandbox.server_command();
    let log = File::options()
        .create(true)
        .append(true)
        .open(sandbox.path("server.log"));
    // Where programs are is not to depend on who runs the tests.
    command.env("PATH", "/usr/bin:/bin");
    command.stderr(log.expect("a sandbox can be written to"));
    command
}

/// Kills whatever is left of a sandbox.
pub(crate) fn kill_all(sandbox: &Sandbox) {
    wait_until(|| {
        let left = sandbox.pids_of_marker();
        left.iter().for_each(|pid| signal(*pid, Signal::SIGKILL));
        left.is_empty()
    });
}

impl<'a> Server<'a> {
    /// Takes a server under observation; `step` tells others how far the day has come.
    pub(crate) fn new(sandbox: &'a Sandbox, child: Child, step: Arc<AtomicUsize>) -> Self {
        let (connection, again, is_lost) = (None, None, false);
        Self {
            sandbox,
            child,
            connection,
            last_id: 0,
            step,
            again,
            is_lost,
        }
    }

    /// The whole day. An error is a sentence about what must not be.
    pub(crate) fn live(&mut self) -> Result<Day, String> {
        if let Some(status) = self.rise()? {
            return self.did_not_start(status);
        }
        self.day()?;
        self.end()?;
        Ok(self.again.map_or(Day::Unnoticed, Day::AgainIn))
    }

    /// Kills the server, however it is, and all that is left of it.
    pub(crate) fn destroy(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        kill_all(self.sandbox);
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a number of a process")
    }

    fn now(&self, name: &'static str) {
        let place = STEPS.iter().position(|known| *known == name);
        self.step
            .store(place.expect("a step of the day"), Ordering::SeqCst);
    }

    fn has_ended(&mut self) -> Result<Option<ExitStatus>, String> {
        self.child.try_wait().map_err(|error| error.to_string())
    }

    /// Waits until the server answers, or has ended.
    fn rise(&mut self) -> Result<Option<ExitStatus>, String> {
        self.now("start");
        let mut ended = None;
        let so = wait_until(|| {
            ended = self.child.try_wait().ok().flatten();
            ended.is_some() || matches!(self.ask("system.ping", Value::Null), Answer::Done(_))
        });
        // What did not answer at once is no failure here: the socket may not have been there.
        self.again = None;
        if so {
            Ok(ended)
        } else {
            Err("it neither starts nor ends".to_owned())
        }
    }

    /// One sentence, an exit status, and nothing left.
    fn did_not_start(&self, status: ExitStatus) -> Result<Day, String> {
        let log = self.sandbox.log();
        let logged = |line: &&str| line.starts_with("20") && line.contains('Z');
        let said: Vec<&str> = log.lines().filter(|line| !logged(line)).collect();
        let [sentence] = said[..] else {
            return Err(format!("it does not start ({status}) and says {said:?}"));
        };
        if status.code().is_none_or(|code| code == 0) {
            return Err(format!("it does not start, with {status}: {sentence}"));
        }
        let Some(told) = sentence
            .strip_prefix("Error: ")
            .filter(|told| told.contains(':'))
        else {
            return Err(format!(
                "it does not start and does not say what failed: {sentence}"
            ));
        };
        let left = self.sandbox.pids_of_marker();
        if !left.is_empty() {
            return Err(format!("it does not start and leaves {left:?}"));
        }
        for name in ["sock", "sock.lock", "door"] {
            if self.sandbox.path(name).exists() {
                return Err(format!("it does not start and leaves {name}: {sentence}"));
            }
        }
        Ok(Day::NotStarted(told.to_owned()))
    }

    /// One request and exactly one answer, or a connection that is visibly closed.
    fn ask(&mut self, method: &str, params: Value) -> Answer {
        self.last_id += 1;
        let request =
            json!({"jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params});
        if self.connection.is_none() {
            self.connection = Connection::try_open(&self.sandbox.socket());
        }
        let Some(connection) = &mut self.connection else {
            return Answer::Closed;
        };
        let line = connection
            .send(format!("{request}\n").as_bytes())
            .then(|| connection.line());
        let Some(line) = line.flatten() else {
            self.connection = None;
            return Answer::Closed;
        };
        let mut reply: Value = serde_json::from_str(&line).expect("replies are JSON");
        assert_eq!(
            reply["id"], self.last_id,
            "the answer to {request} is {reply}"
        );
        let members = reply.as_object_mut().expect("an answer");
        assert_eq!(members.len(), 3, "{members:?}");
        match members.remove("result") {
            Some(result) => Answer::Done(result),
            None => Answer::Refused(format!("{method}: {}", reply["error"])),
        }
    }

    /// The same, if it is granted.
    fn granted(&mut self, method: &str, params: Value) -> Result<Value, String> {
        match self.ask(method, params) {
            Answer::Done(value) => Ok(value),
            Answer::Refused(text) => Err(text),
            Answer::Closed => Err(format!("{method}: closed")),
        }
    }

    /// Tries a step until it is done, which it has to be soon.
    fn step(
        &mut self,
        name: &'static str,
        mut attempt: impl FnMut(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        self.now(name);
        let mut said = Vec::new();
        for _ in 0..ATTEMPTS {
            match attempt(self) {
                Ok(()) => return Ok(()),
                Err(text) => said.push(text),
            }
            if self.is_lost {
                break;
            }
            if let Some(status) = self.has_ended()? {
                return Err(format!("{name}: the server has ended: {status}"));
            }
            self.again.get_or_insert(name);
        }
        Err(format!("{name}: {}", said.join("; then ")))
    }

    fn wait(&mut self, what: &str, mut so: impl FnMut(&mut Self) -> bool) -> Result<(), String> {
        let mut is_so = false;
        let waited = wait_until(|| {
            is_so = so(self);
            is_so || self.child.try_wait().is_ok_and(|ended| ended.is_some())
        });
        match (is_so, waited) {
            (true, _) => Ok(()),
            (false, true) => Err(format!("the server ends before {what}")),
            (false, false) => {
                self.is_lost = true;
                Err(format!("never {what}"))
            }
        }
    }

    fn status(&mut self, name: &str) -> Value {
        self.granted("service.status", json!({"name": name}))
            .unwrap_or_default()
    }

    fn main_pid(&mut self, name: &str) -> i32 {
        let pid = self.status(name)["pid"].as_i64().unwrap_or(0);
        i32::try_from(pid).unwrap_or(0)
    }

    /// Waits until a service runs as another process than this one, and gives that.
    fn running(&mut self, name: &str, than: i32) -> Result<i32, String> {
        let _ = self.ask(
            "service.wait",
            json!({"name": name, "for": "running", "timeout_ms": 5000}),
        );
        let mut pid = 0;
        let mut last = Value::Null;
        let so = self.wait(&format!("{name} runs anew"), |server| {
            last = server.status(name);
            pid = i32::try_from(last["pid"].as_i64().unwrap_or(0)).unwrap_or(0);
            last["state"] == "running" && pid != 0 && pid != than && is_alive(pid)
        });
        so.map(|()| pid).map_err(|text| format!("{text}: {last}"))
    }

    fn output(&mut self, name: &str) -> Result<Vec<String>, String> {
        let lines = self.granted("logs.tail", json!({"name": name, "lines": 1000}))?;
        let lines = lines.as_array().ok_or("no lines")?.iter();
        Ok(lines
            .map(|line| line["content"].as_str().unwrap_or("").to_owned())
            .collect())
    }

    /// All steps between the start and the end.
    fn day(&mut self) -> Result<(), String> {
        self.step("list", |server| {
            let names = server.granted("service.list", Value::Null)?;
            let all = json!(["base", "door", "leaver", "mid", "top"]);
            if names == all {
                return Ok(());
            }
            // A file that could not be read is read by the next reload.
            let told = server.granted("service.reload", Value::Null)?;
            Err(format!("only {names}; {told}"))
        })?;
        let mut old = 0;
        self.step("run", |server| {
            old = server.running("leaver", 0)?;
            server.running("mid", 0)?;
            server.running("top", 0).map(drop)
        })?;
        self.step("look", |server| {
            server.granted("service.status_full", json!({"name": "mid"}))?;
            server.granted("service.stats", json!({"name": "mid"}))?;
            server.wait("mid says it is up", |server| {
                server
                    .output("mid")
                    .is_ok_and(|lines| lines.iter().any(|line| line == "up"))
            })?;
            server.wait("mid has a child", |server| {
                let answer = server.granted("service.children", json!({"name": "mid"}));
                answer.is_ok_and(|told| told["children"] != json!([]))
            })
        })?;
        self.step("signal", |server| {
            server.granted("service.kill", json!({"name": "mid", "signal": "SIGUSR1"}))?;
            server.wait("mid hears its signal", |server| {
                server
                    .output("mid")
                    .is_ok_and(|lines| lines.iter().any(|line| line == "heard"))
            })
        })?;
        let mut top = self.main_pid("top");
        self.step("restart", |server| {
            let params = json!({"name": "top", "wait": true, "timeout_ms": 20000});
            // One whose request was closed on may have been heard, or not.
            server.granted("service.restart", params)?;
            let now = server.running("top", top)?;
            if is_alive(top) {
                return Err(format!("{top} and {now} live both"));
            }
            top = now;
            Ok(())
        })?;
        self.murder(old)?;
        self.call()?;
        self.change()?;
        self.stop()?;
        self.rest()
    }

    /// A main process is killed, and leaves an orphan behind.
    fn murder(&mut self, old: i32) -> Result<(), String> {
        let sandbox = self.sandbox;
        let orphan = || fs::read_to_string(sandbox.path("orphan")).unwrap_or_default();
        let left: i32 = sandbox.wait_pid_file("orphan");
        let old = match self.main_pid("leaver") {
            0 => old,
            pid => pid,
        };
        self.now("murder");
        signal(old, Signal::SIGKILL);
        self.step("murder", |server| server.running("leaver", old).map(drop))?;
        self.wait("the orphan is gone", |_| !is_alive(left))?;
        self.wait("there is another orphan", |_| {
            orphan()
                .trim()
                .parse()
                .is_ok_and(|pid: i32| pid != left && is_alive(pid))
        })
    }

    /// A service is started by a connection.
    fn call(&mut self) -> Result<(), String> {
        let path = self.sandbox.path("door");
        let mut streams = Vec::new();
        self.step("call", |server| match UnixStream::connect(&path) {
            Ok(stream) => {
                streams.push(stream);
                server.running("door", 0).map(drop)
            }
            Err(error) => {
                // A socket that could not be opened is, by a start.
                let _ = server.ask("service.start", json!({"name": "door", "wait": true}));
                Err(format!("the socket: {error}"))
            }
        })
    }

    /// A service is added, another one comes by its file, and the first one goes.
    fn change(&mut self) -> Result<(), String> {
        let sandbox = self.sandbox;
        let file = sandbox.services_dir().join("new.toml");
        let mut added = 0;
        self.step("set", |server| {
            let config = json!({"service": {"name": "new", "exec": "sleep 1000"},
                                "lifecycle": {"restart_delay_ms": 1}});
            server.granted("service.set", json!({"config": config}))?;
            let text = fs::read_to_string(&file).unwrap_or_default();
            if !text.contains("sleep 1000") {
                return Err(format!("the file says {text:?}"));
            }
            added = server.running("new", 0)?;
            Ok(())
        })?;
        sandbox.runs("late", "sleep 1000");
        self.step("reload", |server| {
            let told = server.granted("service.reload", Value::Null)?;
            let names = server.granted("service.list", Value::Null)?;
            if names != json!(["base", "door", "late", "leaver", "mid", "new", "top"]) {
                return Err(format!("only {names}: {told}"));
            }
            server.running("late", 0).map(drop)
        })?;
        self.step("delete", |server| {
            let done = server.granted("service.delete", json!({"name": "new"}));
            let known = server.granted("service.list", Value::Null)?;
            let is_known = known
                .as_array()
                .is_some_and(|all| all.contains(&"new".into()));
            if is_known || file.exists() {
                return Err(format!(
                    "{done:?}, known: {is_known}, file: {}",
                    file.exists()
                ));
            }
            server.wait("new is gone", |_| !is_alive(added))
        })
    }

    /// A stop is a stop.
    fn stop(&mut self) -> Result<(), String> {
        let old = self.main_pid("top");
        self.step("stop", |server| {
            let params = json!({"name": "top", "wait": true, "timeout_ms": 20000});
            let done = server.granted("service.stop", params);
            let status = server.granted("service.status", json!({"name": "top"}))?;
            if status["pid"] != 0 || is_alive(old) {
                return Err(format!("{done:?}, and then {status}"));
            }
            Ok(())
        })
    }

    /// All is as it was asked for, nobody is lost, and the server sleeps.
    fn rest(&mut self) -> Result<(), String> {
        self.now("rest");
        for name in ["mid", "leaver", "door", "late"] {
            self.running(name, 0)?;
        }
        self.step("rest", |server| {
            let stopped = server.granted("service.status", json!({"name": "top"}))?;
            if stopped["pid"] != 0 {
                server.is_lost = true;
                return Err(format!("top was stopped, and is {stopped}"));
            }
            Ok(())
        })?;
        let own = self.pid();
        let dead = || {
            let list = fs::read_to_string(format!("/proc/{own}/task/{own}/children"));
            let all = list.unwrap_or_default();
            let pids: Vec<i32> = all.split_ascii_whitespace().flat_map(str::parse).collect();
            pids.into_iter()
                .filter(|pid| !is_alive(*pid) && stat_field(*pid, 4) == Some(own))
                .count()
        };
        self.wait("the dead are collected", |_| dead() == 0)?;
        let look = || {
            let stat = fs::read_to_string(format!("/proc/{own}/stat")).unwrap_or_default();
            let sleeps = stat
                .rsplit(')')
                .next()
                .is_some_and(|rest| rest.starts_with(" S"));
            let ticks = stat_field(own, 14).unwrap_or(0) + stat_field(own, 15).unwrap_or(0);
            (sleeps, ticks)
        };
        let (mut quiet, mut before) = (0, look());
        self.wait("the server sleeps", |_| {
            let now = look();
            quiet = if now.0 && now == before { quiet + 1 } else { 0 };
            before = now;
            quiet >= QUIET_LOOKS
        })?;
        if before.1 > MOST_TICKS {
            return Err(format!("the server has used {} ticks", before.1));
        }
        Ok(())
    }

    /// Everything is stopped, and nothing is left. What was said is in the file.
    fn end(&mut self) -> Result<(), String> {
        self.now("end");
        let said = self.output("mid").or_else(|_| self.output("mid"))?;
        for _ in 0..ATTEMPTS {
            if self.ask_to_end()? {
                break;
            }
        }
        let mut ended = None;
        let so = wait_until(|| {
            ended = self.child.try_wait().ok().flatten();
            ended.is_some()
        });
        if !so {
            return Err("the server does not end".to_owned());
        }
        if ended.and_then(|status| status.code()) != Some(0) {
            return Err(format!("the server ends with {ended:?}"));
        }
        // Who writes log files sees that the server has gone, and ends by itself.
        let is_writer = |pid: &i32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name == "zinit-log\n" || !is_alive(*pid)
        };
        let left = self.sandbox.pids_of_marker();
        if !left.iter().all(is_writer) || !wait_until(|| self.sandbox.pids_of_marker().is_empty()) {
            return Err(format!("left at the end: {left:?}"));
        }
        let text = fs::read_to_string(self.sandbox.path("mid.log")).unwrap_or_default();
        let log = self.sandbox.log();
        for line in said {
            let count = text
                .lines()
                .filter(|kept| kept.ends_with(&format!(" {line}")))
                .count();
            if count == 0 && !log.contains("mid.log") {
                return Err(format!(
                    "{line:?} is not in the file, and nobody says so: {text:?}"
                ));
            }
        }
        if let Some(line) = log
            .lines()
            .find(|line| line.contains("this is a bug of zinit's"))
        {
            return Err(line.to_owned());
        }
        Ok(())
    }

    /// True if the server has been heard to end, or is going to.
    fn ask_to_end(&mut self) -> Result<bool, String> {
        match self.ask("system.shutdown", Value::Null) {
            Answer::Done(_) => Ok(true),
            Answer::Refused(_) => Ok(false),
            // Whether it was heard is not known: asked again it does no harm.
            Answer::Closed => {
                self.again.get_or_insert("end");
                Ok(self.has_ended()?.is_some())
            }
        }
    }
}

/// The same directory once more, with nothing in the way: it is as if nothing had been.
pub(crate) fn next_start(sandbox: &Sandbox) -> Result<(), String> {
    let mut command = command(sandbox);
    command.stderr(Stdio::null());
    let child = command.spawn().map_err(|error| error.to_string())?;
    let mut server = Server::new(sandbox, child, Arc::default());
    let ran = match server.rise() {
        Ok(None) => server.running("mid", 0).map(drop),
        Ok(Some(status)) => Err(format!("the next server ends with {status}")),
        Err(text) => Err(text),
    };
    let ended = ran.and_then(|()| server.ask_to_end()).and_then(|_| {
        let child = &mut server.child;
        let so = wait_until(|| matches!(child.try_wait(), Ok(Some(_))));
        if so {
            Ok(())
        } else {
            Err("the next server does not end".to_owned())
        }
    });
    server.destroy();
    ended
}
