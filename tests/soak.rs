//! Hours in minutes: two hundred real services, and everything that can be done to them, in an order
//! that follows from a seed; then nothing of it may be left in the server.
//!
//! It goes in rounds. A round declares the services, does some hundred things at random, and deletes
//! all. The first two rounds are for the server to have done everything once; what it holds after them
//! is what it has to hold after the last: descriptors, watched descriptors, timers, children, cgroups,
//! files, and within a bound memory.
//!
//! `make soak MINUTES=10 SEED=7`; `ZINIT_STATIC` says where the program is.

#[path = "common/dial.rs"]
mod dial;
#[path = "common/meter.rs"]
mod meter;
#[path = "common/program.rs"]
mod program;
#[path = "common/rng.rs"]
mod rng;
#[path = "common/sandbox.rs"]
mod sandbox;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rng::Rng;
use sandbox::{Connection, PATIENCE, Sandbox, python, quoted, signal, wait_until};
use serde_json::{Value, json};

/// Services at once.
const SERVICES: u64 = 200;

/// Things done in a round.
const STEPS: u64 = 400;

/// Rounds after which the server has done everything once.
const WARM_UP: usize = 2;

/// Proxies at once.
const DOORS: u64 = 6;

/// Clients that ask.
const CLIENTS: u64 = 8;

/// How much more memory the server may have after the last round than after the warm-up. Its
/// allocator keeps pages that have a hole in them, and which ones differs from round to round.
const MORE_KIB: u64 = 256;

#[test]
#[ignore = "takes minutes: make soak"]
fn nothing_is_left_of_two_hundred_services() {
    let number = |name: &str, other: u64| {
        let text = std::env::var(name).ok();
        text.map_or(other, |text| text.parse().expect("a number"))
    };
    let seconds = number("SOAK_SECONDS", 60);
    let seed = number("SEED", 1);
    println!("seed {seed}, {seconds} s");
    let mut soak = Soak::new(seed);
    let begin = Instant::now();
    let mut held: Vec<Held> = Vec::new();
    while held.len() < WARM_UP + 2 || begin.elapsed() < Duration::from_secs(seconds) {
        soak.round();
        let now = soak.held();
        println!("round {}: {now}", held.len() + 1);
        held.push(now);
        if held.len() > WARM_UP {
            now_as_then(&held[WARM_UP - 1], held.last().unwrap());
        }
    }
    let counted: Vec<String> = soak
        .done
        .iter()
        .map(|(what, times)| format!("{times} {what}"))
        .collect();
    println!("{} rounds: {}", held.len(), counted.join(", "));
    println!(
        "{} requests, each with one reply, {} of them refusals",
        soak.asked, soak.refused
    );
    let own: Vec<f64> = held[WARM_UP - 1..]
        .iter()
        .map(|one| one.own as f64)
        .collect();
    println!(
        "memory: {} KiB its own after the warm-up, {} at the end, {:+.2} KiB a round",
        own[0],
        own[own.len() - 1],
        slope(&own)
    );
    for what in ["answers through proxies", "calls", "killed processes"] {
        let can_be = what != "calls" || soak.python.is_some();
        assert!(!can_be || soak.done.contains_key(what), "no {what} at all");
    }
    soak.sandbox.stop();
}

/// What the server holds when nothing is there.
struct Held {
    descriptors: Vec<String>,
    watched: usize,
    armed: bool,
    children: usize,
    cgroups: Vec<String>,
    files: Vec<String>,
    own: u64,
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} descriptors, {} watched, {} children, {} cgroups, {} KiB its own",
            self.descriptors.len(),
            self.watched,
            self.children,
            self.cgroups.len(),
            self.own
        )
    }
}

fn now_as_then(then: &Held, now: &Held) {
    assert_eq!(
        now.descriptors.len(),
        then.descriptors.len(),
        "{:#?}",
        now.descriptors
    );
    assert_eq!(now.watched, then.watched);
    assert!(!now.armed, "a timer is armed, and nothing is there");
    assert_eq!(now.files, then.files);
    assert_eq!(now.cgroups, Vec::<String>::new());
    assert!(
        now.own <= then.own + MORE_KIB,
        "{} KiB, {} after the warm-up",
        now.own,
        then.own
    );
}

/// By how much each value is more than the one before: the slope of the straight line through them.
fn slope(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let middle = (count - 1.0) / 2.0;
    let mean = values.iter().sum::<f64>() / count;
    let places = || (0..values.len()).map(|place| place as f64 - middle);
    let above: f64 = places().zip(values).map(|(x, y)| x * (y - mean)).sum();
    let below: f64 = places().map(|x| x * x).sum();
    if below == 0.0 { 0.0 } else { above / below }
}

/// A client, and what it has asked and not been answered yet.
struct Client {
    connection: Connection,
    open: Option<u64>,
}

struct Soak {
    sandbox: Sandbox,
    rng: Rng,
    clients: Vec<Client>,
    /// Streams, some of which nobody reads.
    followers: Vec<Connection>,
    /// Where the proxies listen.
    ports: Vec<u16>,
    backend: String,
    python: Option<String>,
    /// Where the cgroups of services are, if there are any.
    above: Option<PathBuf>,
    asked: u64,
    refused: u64,
    done: BTreeMap<&'static str, u64>,
}

impl Soak {
    fn new(seed: u64) -> Self {
        let mut sandbox = Sandbox::new();
        sandbox.env("DIR", sandbox.dir().to_str().unwrap().to_owned().as_str());
        let program = std::env::var("ZINIT_STATIC").expect("ZINIT_STATIC: see make soak");
        let command = program::server_of(&sandbox, &program, &[]);
        sandbox.start_as(command);
        let python = python().map(|path| path.to_str().unwrap().to_owned());
        if python.is_none() {
            println!("SKIPPED: services that take their sockets, there is no Python");
        }
        Self {
            sandbox,
            rng: Rng::new(seed),
            clients: Vec::new(),
            followers: Vec::new(),
            ports: (0..DOORS).map(|_| dial::free_port()).collect(),
            backend: dial::echoes(),
            python,
            above: None,
            asked: 0,
            refused: 0,
            done: BTreeMap::new(),
        }
    }

    /// One round, and the end of all that it has begun.
    fn round(&mut self) {
        self.clients = (0..CLIENTS).map(|_| self.new_client()).collect();
        for number in 0..SERVICES {
            let kind = self.rng.below(KINDS);
            self.write(number, kind);
        }
        self.ask("service.reload", Value::Null);
        for number in 0..DOORS {
            self.set_door(number);
        }
        for _ in 0..STEPS {
            self.step();
        }
        let mut all = self.sandbox.pids_of_services().into_iter();
        self.above = all.find_map(meter::above_cgroup).or(self.above.take());
        self.end();
    }

    fn new_client(&self) -> Client {
        Client {
            connection: self.sandbox.connect(),
            open: None,
        }
    }

    /// The file of a service.
    fn write(&self, number: u64, kind: u64) {
        let name = format!("s{number}");
        self.sandbox.service(&name, &self.body(number, kind));
    }

    fn body(&self, number: u64, kind: u64) -> String {
        let shell = |script: &str| format!("exec = {}", quoted(script));
        let (service, sections) = match kind {
            0 => (
                shell("sleep 1000 & sleep 1000 & wait"),
                format!(
                    "[dependencies]\nrequires = [\"s{}\"]",
                    (number + 1) % SERVICES
                ),
            ),
            1 => (
                shell("while :; do echo a line; echo another >&2; sleep 0.3; done"),
                String::new(),
            ),
            2 => (shell("echo once; true") + "\noneshot = true", String::new()),
            3 => (shell("sleep 0.3; exit 1"), String::new()),
            4 => (
                "exec = [\"sleep\", \"1000\"]".to_owned(),
                "[hooks]\npre_start = \"true\"\npost_start = \"true\"\nstop = \"true\"\n\
                 post_stop = \"echo gone\"\nreload = \"echo anew\""
                    .to_owned(),
            ),
            5 => (
                "exec = [\"sleep\", \"1000\"]".to_owned(),
                "[health]\ntype = \"exec\"\ntarget = \"true\"\ninterval_ms = 500".to_owned(),
            ),
            6 => match &self.python {
                Some(python) => (
                    format!("exec = {}", json!([python, "-c", ACCEPTS])),
                    format!(
                        "[socket]\nactivation = true\nlisten = {:?}",
                        self.call_path(number)
                    ),
                ),
                None => ("exec = [\"sleep\", \"1000\"]".to_owned(), String::new()),
            },
            7 => (
                shell("while :; do echo a line for the file; sleep 0.3; done"),
                format!(
                    "[logging]\nfile = {:?}\nmax_size = 300\nmax_files = 2",
                    self.sandbox.text("some.log")
                ),
            ),
            8 => (
                shell("setsid sleep 1000 & (setsid sleep 1000 &) ; exec sleep 1000"),
                String::new(),
            ),
            9 => (
                shell("trap '' TERM; echo up; while :; do sleep 1000; done"),
                String::new(),
            ),
            10 => ("exec = [\"/nobody/has/this\"]".to_owned(), String::new()),
            _ => ("exec = [\"sleep\", \"1000\"]".to_owned(), String::new()),
        };
        format!(
            "{service}\n{sections}\n[lifecycle]\nrestart_delay_ms = 100\nrestart_delay_max_ms = 1000\n\
             max_restarts = 5\nstop_timeout_ms = 500"
        )
    }

    fn call_path(&self, number: u64) -> String {
        format!("unix:{}", self.sandbox.text(&format!("call{number}")))
    }

    fn set_door(&mut self, number: u64) {
        let port = self.ports[usize::try_from(number).unwrap()];
        let service = self.name();
        let mut door = dial::door(port, &self.backend, &service);
        door["name"] = format!("door{number}").into();
        door["connect_timeout"] = 1.into();
        door["idle_timeout"] = self.rng.below(2).into();
        self.ask("xinet.set", door);
    }

    fn name(&mut self) -> String {
        format!("s{}", self.rng.below(SERVICES))
    }

    /// Asks by some client, and does not wait for the answer. What it asked before is answered first.
    fn ask(&mut self, method: &'static str, params: Value) {
        let client = usize::try_from(self.rng.below(CLIENTS)).unwrap();
        self.finish(client);
        let client = &mut self.clients[client];
        client.open = Some(client.connection.begin(method, params));
        self.asked += 1;
        *self.done.entry(method).or_default() += 1;
    }

    fn finish(&mut self, client: usize) {
        let client = &mut self.clients[client];
        if let Some(id) = client.open.take() {
            self.refused += u64::from(client.connection.finish(id).is_err());
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.done.entry(what).or_default() += 1;
    }

    /// Something.
    fn step(&mut self) {
        let name = self.name();
        let timeout = 100 + self.rng.below(1500);
        let wait = self.rng.chance(50);
        let change = json!({"name": name, "wait": wait, "timeout_ms": timeout});
        let named = json!({"name": name});
        match self.rng.below(100) {
            0..14 => self.ask("service.start", change),
            14..24 => self.ask("service.stop", change),
            24..32 => self.ask("service.restart", change),
            32..36 => {
                let signals = [
                    "SIGHUP", "SIGUSR1", "SIGTERM", "SIGKILL", "SIGSTOP", "SIGCONT",
                ];
                let chosen = *self.rng.pick(&signals);
                self.ask("service.kill", json!({"name": name, "signal": chosen}));
            }
            36..44 => self.kill_somebody(),
            44..50 => {
                let (number, kind) = (self.rng.below(SERVICES), self.rng.below(KINDS));
                let text = format!(
                    "[service]\nname = \"s{number}\"\n{}",
                    self.body(number, kind)
                );
                let table: toml::Table = text.parse().expect("a definition");
                let mut members = serde_json::to_value(table).unwrap();
                members["ephemeral"] = self.rng.chance(30).into();
                self.ask("service.set", members);
            }
            50..54 => self.ask(
                "service.delete",
                json!({"name": name, "timeout_ms": timeout}),
            ),
            54..58 => self.change_a_file(),
            58..61 => self.ask("service.reload", Value::Null),
            61..63 => self.ask(
                "service.reload",
                json!({"name": name, "timeout_ms": timeout}),
            ),
            63..66 => {
                let goals = ["running", "stopped", "exited"];
                let goal = *self.rng.pick(&goals);
                self.ask(
                    "service.wait",
                    json!({"name": name, "for": goal, "timeout_ms": timeout}),
                );
            }
            66..70 => self.ask("logs.tail", json!({"name": name, "lines": 50})),
            70..73 => self.follow(&name),
            73..76 => self.vanish(change),
            76..80 => self.go_through_a_door(),
            80..82 => self.call(),
            82..84 => {
                let number = self.rng.below(DOORS);
                self.set_door(number);
            }
            84..86 => {
                let door = format!("door{}", self.rng.below(DOORS));
                self.ask("xinet.delete", json!({"name": door}));
            }
            86 => self.ask(
                "service.stop_all",
                json!({"wait": wait, "timeout_ms": timeout}),
            ),
            87..89 => self.ask(
                "service.start_all",
                json!({"wait": wait, "timeout_ms": timeout}),
            ),
            89 => self.ask("service.list_full", Value::Null),
            90 => self.ask("service.tree", Value::Null),
            91 => self.ask("debug.state", Value::Null),
            92 => self.ask("xinet.status_all", Value::Null),
            93 => self.ask("service.why", named),
            94 => self.ask("service.stats", named),
            95 => self.ask("service.children", named),
            96 => self.ask("service.get", named),
            _ => self.ask("service.status_full", named),
        }
    }

    /// Kills a process of some service: a main one, or what it has started, or who writes the files.
    fn kill_somebody(&mut self) {
        let all: Vec<i32> = self.sandbox.pids_of_services().into_iter().collect();
        if !all.is_empty() {
            signal(*self.rng.pick(&all), Signal::SIGKILL);
            self.count("killed processes");
        }
    }

    fn change_a_file(&mut self) {
        let number = self.rng.below(SERVICES);
        let path = self.sandbox.services_dir().join(format!("s{number}.toml"));
        match self.rng.below(4) {
            0 => {
                fs::write(path, "[service]\nname = \n").unwrap();
                self.count("broken files");
            }
            1 => {
                let _ = fs::remove_file(path);
                self.count("deleted files");
            }
            _ => {
                let kind = self.rng.below(KINDS);
                self.write(number, kind);
                self.count("changed files");
            }
        }
    }

    /// A stream that is read, or not, and hangs up some time.
    fn follow(&mut self, name: &str) {
        let mut follower = self.sandbox.connect();
        let names = if self.rng.chance(50) {
            json!([])
        } else {
            json!([name])
        };
        let method = *self.rng.pick(&["logs.follow", "events.follow"]);
        let granted = follower.ask(method, json!({"names": names}));
        self.asked += 1;
        self.refused += u64::from(granted.is_err());
        self.count("streams");
        self.followers.push(follower);
        if self.followers.len() > 5 {
            let gone = usize::try_from(self.rng.below(5)).unwrap();
            self.followers.remove(gone);
        }
    }

    /// A client goes while it is owed an answer.
    fn vanish(&mut self, change: Value) {
        let mut client = self.sandbox.connect();
        let method = *self
            .rng
            .pick(&["service.start", "service.stop", "service.restart"]);
        client.begin(method, change);
        if self.rng.chance(50) {
            // Half a request.
            client.send(b"{\"jsonrpc\":");
        }
        self.count("clients that vanish");
    }

    /// A client of a proxy: what it says comes back, or it is turned away.
    fn go_through_a_door(&mut self) {
        let port = *self.rng.pick(&self.ports);
        let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
            return;
        };
        self.count("connections through proxies");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let word = vec![b'x'; usize::try_from(1 + self.rng.below(9000)).unwrap()];
        let sent = stream.write_all(&word);
        if self.rng.chance(30) {
            return;
        }
        let ended = sent.and_then(|()| stream.shutdown(std::net::Shutdown::Write));
        let mut back = Vec::new();
        if ended.and_then(|()| stream.read_to_end(&mut back)).is_ok() && !back.is_empty() {
            assert_eq!(back.len(), word.len(), "what went in did not come back");
            self.count("answers through proxies");
        }
    }

    /// Somebody calls a service that is started by that.
    fn call(&mut self) {
        let calls = |number: &u64| self.sandbox.path(&format!("call{number}")).exists();
        let all: Vec<u64> = (0..SERVICES).filter(calls).collect();
        if !all.is_empty() {
            let number = *self.rng.pick(&all);
            let path = self.sandbox.path(&format!("call{number}"));
            if UnixStream::connect(path).is_ok() {
                self.count("calls");
            }
        }
    }

    /// All is answered, taken away, and gone.
    fn end(&mut self) {
        for client in 0..self.clients.len() {
            self.finish(client);
            // Answers come in order: one too many would stand before this one.
            let pong = self.clients[client]
                .connection
                .ask("system.ping", Value::Null);
            assert!(pong.is_ok());
        }
        self.clients.clear();
        self.followers.clear();
        for file in fs::read_dir(self.sandbox.services_dir()).unwrap().flatten() {
            fs::remove_file(file.path()).unwrap();
        }
        for door in self
            .sandbox
            .ask("xinet.list", Value::Null)
            .as_array()
            .unwrap()
        {
            self.sandbox.ask("xinet.delete", json!({"name": door}));
        }
        self.sandbox.ask(
            "service.delete_all",
            json!({"wait": true, "timeout_ms": 30_000}),
        );
        let gone = wait_until(|| self.sandbox.ask("service.list", Value::Null) == json!([]));
        assert!(gone, "{}", self.sandbox.ask("service.list", Value::Null));
        assert_eq!(self.sandbox.ask("xinet.list", Value::Null), json!([]));
    }

    /// What the server holds, once nothing is under way.
    fn held(&self) -> Held {
        let pid = self.sandbox.server_pid();
        // One that lives on is who writes log files.
        let alone =
            || meter::children(pid).len() <= 1 && self.sandbox.pids_of_services().len() <= 1;
        assert!(wait_until(alone), "left: {}", self.left());
        assert_eq!(meter::wakeups_within(pid, Duration::from_secs(1)), 0);
        let children = meter::children(pid).len();
        let writers = |link: &String| !link.contains("socket:") || children == 0;
        let mut descriptors = meter::described_descriptors(pid);
        if children > 0 {
            let socket = descriptors.iter().rposition(|link| !writers(link));
            descriptors.remove(socket.expect("the writer's socket"));
        }
        Held {
            descriptors,
            watched: meter::watched(pid) - children,
            armed: meter::is_armed(pid),
            children,
            cgroups: self.cgroups(),
            files: self.files(),
            own: meter::memory(pid).own,
        }
    }

    /// Who is left, and what the server said of their services.
    fn left(&self) -> String {
        let log = self.sandbox.log();
        let mut text = String::new();
        for pid in self.sandbox.pids_of_services() {
            let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let told = |file: &str| String::from_utf8_lossy(&read(file)).replace('\0', " ");
            let environment = told("environ");
            let mark = environment
                .split(' ')
                .find(|one| one.starts_with("ZINIT_MARK="));
            let name = mark.and_then(|mark| mark.rsplit(':').next()).unwrap_or("?");
            let said = log
                .lines()
                .filter(|line| line.contains(&format!(" {name}: ")));
            let said: Vec<&str> = said.collect();
            let said = said[said.len().saturating_sub(12)..].join("\n    ");
            let (stat, words) = (told("stat"), told("cmdline"));
            text += &format!("\n{stat}{words}of {name}\n    {said}");
        }
        text
    }

    /// The cgroups of services that are left.
    fn cgroups(&self) -> Vec<String> {
        let entries = self.above.iter().flat_map(fs::read_dir).flatten().flatten();
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("service-")).collect()
    }

    /// What lies in the directory, but for what services write.
    fn files(&self) -> Vec<String> {
        let entries = |dir: &std::path::Path| {
            let entries = fs::read_dir(dir).unwrap().flatten();
            entries
                .map(|entry| entry.file_name().into_string().unwrap())
                .collect::<Vec<_>>()
        };
        let mut files = entries(self.sandbox.dir());
        files.extend(entries(&self.sandbox.services_dir()));
        files.retain(|name| !name.starts_with("some.log"));
        files.sort();
        files
    }
}

/// Kinds of services, see [`Soak::body`]; some of the numbers are plain ones.
const KINDS: u64 = 16;

/// A program that takes its socket and whoever calls.
const ACCEPTS: &str =
    "import socket\ns = socket.socket(fileno=3)\nwhile True:\n  s.accept()[0].close()";
