//! How often memory is asked for: by the engine for each kind of event, exactly; and, with
//! `--ignored` (`make budget`), by a whole server for each thing that is done.
//!
//! This is a program of its own, without the usual harness: a test within that would have other
//! threads, which ask for memory too, and the server has to be the first thread of its process. So
//! that its allocations can be counted the server is the library's, run by this program with an
//! allocator that counts. It asks for memory as often as the static one does.

#[path = "common/meter.rs"]
mod meter;
#[path = "common/operations.rs"]
mod operations;
#[path = "common/sandbox.rs"]
mod sandbox;
#[path = "common/sheet.rs"]
mod sheet;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::{self, File};
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use meter::wait_idle;
use sandbox::Sandbox;
use sheet::{Limits, Sheet};
use zinit::engine::spec::Exec;
use zinit::engine::{
    Action, Event, Exit, Patience, Pid, ServiceId, Spec, State, Supervisor, Ticket, Time,
};
use zinit::reactor::{Ending, Options, Reactor, Role};

/// What an event may cost the engine, on average over many services that have all been through it
/// before. It does not depend on the machine, so there is no margin.
const ENGINE: Limits = &[
    ("engine: start", 5.0),
    ("engine: forked", 0.7),
    ("engine: started", 1.0),
    ("engine: watch", 0.0),
    ("engine: ping", 0.0),
    ("engine: exited", 0.0),
    ("engine: cleared, and a restart is due", 0.0),
    ("engine: deadline, and it restarts", 1.0),
    ("engine: stop", 5.0),
    ("engine: exited while it stops", 1.0),
    ("engine: cleared, and it is down", 2.0),
    ("engine: one looked up by name", 0.0),
    ("engine: all looked at", 0.0),
    ("engine: the next deadline", 0.0),
];

/// What is done may cost a server, a little more than it was when the limit was set.
const SERVER: Limits = &[
    ("allocations: ping", 13.5),
    ("allocations: service.status", 23.0),
    ("allocations: service.list_full of 100", 1_080.0),
    ("allocations: connection with a ping", 16.0),
    ("allocations: start", 205.0),
    ("allocations: crash and restart", 233.0),
    ("allocations: stop", 125.0),
    ("allocations: line of output", 0.1),
    ("allocations: line of output, with a follower", 15.5),
    ("allocations: line of output, to a log file", 7.5),
];

/// An allocator that counts how often it is asked for memory, or for more of it.
struct Counting;

static COUNT: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: the system's allocator does the work, with what is handed to this one.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(old, layout) }
    }
}

/// Has this program be the server of that directory.
const SERVE: &str = "ZINIT_TEST_SERVE";

fn main() {
    if let Some(dir) = std::env::var_os(SERVE) {
        return serve(dir.as_ref());
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let asked = |word: &str| words.iter().any(|known| known == word);
    if asked("--list") {
        return;
    }
    engine();
    if asked("--ignored") || asked("--include-ignored") {
        server();
    }
}

// The engine.

/// Services, and what they cost.
struct Machine {
    supervisor: Supervisor,
    services: Vec<ServiceId>,
    now: Time,
    last_pid: i32,
    actions: Vec<Action>,
}

const SERVICES: usize = 100;

impl Machine {
    fn new() -> Self {
        let mut machine = Self {
            supervisor: Supervisor::default(),
            services: Vec::new(),
            now: Time::ZERO,
            last_pid: 0,
            actions: Vec::with_capacity(4096),
        };
        for number in 0..SERVICES {
            let name = format!("s{number}");
            let spec = Rc::new(Spec::new(&name, Exec::Line("program".to_owned())));
            machine.command(zinit::engine::Command::Put { spec });
            let service = machine.supervisor.find(&name).expect("it was put there");
            machine.services.push(service);
        }
        machine
    }

    fn command(&mut self, command: zinit::engine::Command) -> u64 {
        self.event(Event::Command {
            ticket: Some(Ticket(1)),
            patience: Patience::Until(None),
            command,
        })
    }

    /// Hands it an event; what that allocated.
    fn event(&mut self, event: Event) -> u64 {
        self.actions.clear();
        let before = COUNT.load(Ordering::Relaxed);
        self.supervisor.handle(self.now, event, &mut self.actions);
        let after = COUNT.load(Ordering::Relaxed);
        let wrong = |action: &&Action| matches!(action, Action::Anomaly { .. });
        assert!(self.actions.iter().find(wrong).is_none());
        after - before
    }

    fn state(&self, service: ServiceId) -> State {
        self.supervisor
            .service(service)
            .expect("it is there")
            .state()
    }

    fn new_pid(&mut self) -> Pid {
        self.last_pid += 1;
        Pid::new(self.last_pid).expect("a pid")
    }

    /// One life of each service; what is handed to `cost` is a kind of event and its allocations.
    fn lives(&mut self, cost: &mut dyn FnMut(&str, u64)) {
        let mut pids = Vec::with_capacity(SERVICES);
        for service in self.services.clone() {
            let deps = true;
            let start = zinit::engine::Command::Start { service, deps };
            cost("start", self.command(start));
            let pid = self.new_pid();
            cost("forked", self.event(Event::Forked { service, pid }));
            cost("started", self.event(Event::Started { pid }));
            assert!(self.supervisor.service_of(pid) == Some(service));
            let within = Duration::from_secs(3600);
            cost("watch", self.event(Event::Watch { pid, within }));
            cost("ping", self.event(Event::Ping { pid }));
            pids.push(pid);
        }
        for (service, pid) in self.services.clone().into_iter().zip(&mut pids) {
            let exit = Exit::Code(1);
            cost("exited", self.event(Event::Exited { pid: *pid, exit }));
            let due = "cleared, and a restart is due";
            cost(due, self.event(Event::Cleared { service }));
            self.now = self.supervisor.next_deadline().expect("a restart is due");
            cost("deadline, and it restarts", self.event(Event::Deadline));
            *pid = self.new_pid();
            cost("forked", self.event(Event::Forked { service, pid: *pid }));
            cost("started", self.event(Event::Started { pid: *pid }));
        }
        for (service, pid) in self.services.clone().into_iter().zip(pids) {
            let stop = zinit::engine::Command::Stop { service };
            cost("stop", self.command(stop));
            let exit = Exit::Signal(15);
            let exited = "exited while it stops";
            cost(exited, self.event(Event::Exited { pid, exit }));
            let cleared = "cleared, and it is down";
            cost(cleared, self.event(Event::Cleared { service }));
            assert!(self.supervisor.service_of(pid).is_none());
            assert!(!self.state(service).is_active());
        }
    }
}

fn engine() {
    let mut machine = Machine::new();
    // What a table takes when it grows for the first time is not the price of an event.
    machine.lives(&mut |_, _| {});
    let mut sheet = Sheet::new(ENGINE);
    let mut sums: std::collections::BTreeMap<String, (u64, u64)> = Default::default();
    machine.lives(&mut |kind, count| {
        let (sum, times) = sums.entry(kind.to_owned()).or_default();
        *sum += count;
        *times += 1;
    });
    for (kind, (sum, times)) in sums {
        let what = format!("engine: {kind}");
        sheet.put(&what, sum as f64 / times as f64, String::new());
    }
    let supervisor = &machine.supervisor;
    let reads: [(&str, &dyn Fn()); 3] = [
        ("one looked up by name", &|| {
            let id = supervisor.find("s42").expect("it is there");
            black_box(supervisor.service(id));
        }),
        ("all looked at", &|| {
            black_box(
                supervisor
                    .services()
                    .all(|(_, one)| !one.state().is_active()),
            );
        }),
        ("the next deadline", &|| {
            black_box(supervisor.next_deadline());
        }),
    ];
    for (kind, read) in reads {
        let before = COUNT.load(Ordering::Relaxed);
        read();
        let count = COUNT.load(Ordering::Relaxed) - before;
        sheet.put(&format!("engine: {kind}"), count as f64, String::new());
    }
    sheet.judge();
}

// The server.

/// Is the server of a sandbox, and says where the count can be read.
fn serve(dir: &std::path::Path) {
    let address = (&raw const COUNT).addr();
    fs::write(dir.join("count"), format!("{address}\n")).expect("a sandbox can be written to");
    let mut log = env_logger::Builder::new();
    log.filter_level(log::LevelFilter::Info);
    log.target(env_logger::Target::Pipe(Box::new(
        zinit::sys::stderr::Stderr::open(),
    )));
    log.init();
    let reactor = Reactor::new(Options {
        dirs: zinit::config::Dirs {
            system: None,
            services: dir.join("services"),
            may_be_absent: false,
        },
        socket: dir.join("sock"),
        role: Role::Server,
        access: dir.join("access.toml"),
    });
    match reactor.and_then(Reactor::run) {
        Ok(Ending::Exit(0)) => {}
        other => panic!("{other:?}"),
    }
}

/// Starts this program as a server, has something done, and counts.
fn counted(sheet: &mut Sheet, operate: impl FnOnce(&Sandbox, operations::Count<'_>)) {
    let mut sandbox = Sandbox::new();
    operations::declare_lives(&sandbox);
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    let given = sandbox.server_command();
    command
        .envs(
            given
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env_remove("ZINIT_MARK")
        .env(SERVE, sandbox.dir())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(sandbox.path("server.log")).expect("a log"));
    sandbox.start_as(command);
    let address: u64 = sandbox
        .wait_file("count")
        .trim()
        .parse()
        .expect("an address");
    let pid = sandbox.server_pid();
    let memory = File::open(format!("/proc/{pid}/mem")).expect("the server's memory");
    let count = || {
        let mut number = [0; 8];
        wait_idle(pid);
        memory
            .read_exact_at(&mut number, address)
            .expect("the count");
        u64::from_ne_bytes(number)
    };
    operate(&sandbox, &mut |_, what, operations, act| {
        let before = count();
        act();
        let each = (count() - before) as f64 / operations as f64;
        sheet.put(&format!("allocations: {what}"), each, String::new());
    });
    sandbox.stop();
}

fn server() {
    let mut sheet = Sheet::new(SERVER);
    counted(&mut sheet, operations::requests);
    counted(&mut sheet, operations::lives);
    counted(&mut sheet, operations::lines);
    sheet.judge();
}
