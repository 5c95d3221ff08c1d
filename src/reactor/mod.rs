//! The loop: one turn collects what happened, lets the engine decide, and performs what it says.
//!
//! **Perform before you poll.** Every action of a turn is performed, and every fact it yields is
//! handled, before the loop waits again. What a client is told is already true.

mod access;
mod asked;
mod asks;
mod boot;
mod clients;
mod dead;
mod deeds;
mod door;
mod ending;
mod errands;
mod family;
mod files;
mod follow;
mod forward;
mod hear;
mod journal;
mod keeper;
mod launch;
mod left;
mod links;
mod place;
mod probes;
mod proxies;
mod reads;
mod role;
mod runs;
mod serve;
mod ship;
mod sinks;
mod sockets;
mod syslog;
mod tending;
mod xinet;

use std::collections::VecDeque;
use std::io::{self};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};
use serde_json::Value;

use self::access::Doorkeeper;
use self::boot::Boot;
pub use self::boot::shell;
use self::clients::{ClientId, Clients};
use self::deeds::Deed;
use self::door::{Door, server_mark};
use self::ending::Closing;
use self::errands::Errands;
use self::family::Families;
use self::files::Files;
use self::follow::Follower;
use self::forward::Forward;
use self::links::Links;
use self::place::Place;
use self::probes::Probes;
use self::proxies::Proxies;
pub use self::role::{Container, Ending, Machine, Role};
use self::runs::Runs;
use self::sockets::Sockets;
use crate::config::Dirs;
use crate::engine::{
    Action, Command, Event, Outcome, Patience, Pid, ServiceId, Signal, State, Supervisor, Table,
    Ticket, Time,
};
use crate::record::Recorder;
use crate::rpc::view::Said;
use crate::rpc::{self, Form};
use crate::sys::cgroup::Cgroups;
use crate::sys::clock::{self, Alarm};
use crate::sys::console::Console;
use crate::sys::descriptors;
use crate::sys::limits::OpenFiles;
use crate::sys::notify::Datagrams;
use crate::sys::process::{self, Slate};
use crate::sys::signals::{Listens, Signals};
use crate::sys::{kill, needed, procfs, reserve};

/// What the server is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where service files are.
    pub dirs: Dirs,
    /// Where clients connect.
    pub socket: PathBuf,
    /// What the server is to the system.
    pub role: Role,
    /// Says who may do what.
    pub access: PathBuf,
}

/// An alarm that is heard so much later than it was set for: the loop was held up, or time jumped.
const JUMP: Duration = Duration::from_millis(50);

/// Processes started, or trees signalled, in one turn. Each may take a millisecond on a busy
/// machine, and clients shall not notice.
const DEEDS_A_TURN: usize = 8;

/// The same while no client is connected. One that comes waits for them once.
const DEEDS_ALONE: usize = 24;

/// Turns in a row that may fail. No kernel is known to let one; but a server that gives up at once
/// leaves its services to nobody.
const MOST_FAILURES: u32 = 10;

/// How long processes that an earlier server left behind may take to end, when a new one starts.
const PREDECESSOR_PATIENCE: Duration = Duration::from_secs(3);

/// The server.
pub struct Reactor {
    poll: Poll,
    signals: Signals,
    alarm: Alarm,
    /// A container that can be written to nowhere has none.
    door: Option<Door>,
    role: Role,
    boot: Boot,
    /// Why the files of a machine could not be used when it was begun.
    problem: Option<String>,
    closing: Closing,
    console: Console,
    supervisor: Supervisor,
    /// What the engine was told last.
    recorder: Recorder,
    inbox: VecDeque<Event>,
    /// Actions that take their time, in the order in which they came up; kills come first.
    deeds: VecDeque<Deed>,
    kills: VecDeque<Deed>,
    /// How many of them this turn still may do.
    deeds_left: usize,
    runs: Runs,
    families: Families,
    cgroups: Rc<Cgroups>,
    errands: Errands,
    probes: Probes,
    sockets: Sockets,
    proxies: Proxies,
    /// What services said of their runs.
    said: Table<Said>,
    /// Who is to be the main process of a service, once it is our child.
    successors: Table<Pid>,
    /// How often somebody else has spoken for a service in this run.
    strangers: Table<u32>,
    /// Where programs send lines for the system's log.
    syslog: Option<Datagrams>,
    clients: Clients,
    doorkeeper: Doorkeeper,
    /// Clients that are told of what happens.
    followers: Vec<Follower>,
    files: Files,
    /// At most one for each client.
    tickets: Vec<Asker>,
    last_ticket: u64,
    /// What holds services back from outside, as last seen.
    obstacles: Table<String>,
    /// More has happened than this turn took in.
    more_dead: bool,
    more_signals: bool,
    more_connections: bool,
    more_logged: bool,
    /// Connections are there that can't be taken on before a descriptor is free.
    connections_wait: bool,
    /// When the log was last told that a connection could not be taken.
    refusal_told: Option<Time>,
    /// When the log was last told that memory is short.
    shortage_told: Option<Time>,
    halted: bool,
    /// When the loop last looked at what has happened.
    looked: Time,
    /// Time has made a jump, and it looks once more before anybody is late.
    looks_again: bool,
}

/// Who waits for a ticket's answer.
struct Asker {
    ticket: Ticket,
    client: ClientId,
    request: Option<Value>,
    form: Form,
}

impl Reactor {
    /// Makes everything ready and loads the services.
    ///
    /// # Errors
    /// With one sentence, if the server can't work here.
    pub fn new(options: Options) -> io::Result<Self> {
        descriptors::open_standard_descriptors();
        reserve::hold();
        let listens = match options.role {
            Role::Server => Listens::Server,
            Role::Machine(_) | Role::Container(_) => Listens::First,
        };
        let signals = Signals::block(listens)
            .map_err(|error| needed("signalfd", "CONFIG_SIGNALFD", error))?;
        let alarm = Alarm::new().map_err(|error| needed("timerfd", "CONFIG_TIMERFD", error))?;
        let poll = Poll::new().map_err(|error| needed("epoll", "CONFIG_EPOLL", error))?;
        process::look_for_dead()
            .map_err(|errno| io::Error::other(format!("waitid: {}", errno.desc())))?;
        if let Err(errno) = process::adopt_orphans() {
            log::warn!("orphans of services can't be adopted: {errno}");
        }
        if !procfs::shows_us() {
            log::warn!(
                "/proc is not there, or that of another process namespace: of a service only its \
                 process group is known, and what leaves that is not stopped with it"
            );
        }
        let null: OwnedFd = std::fs::File::open("/dev/null")
            .map_err(|error| needed("/dev/null", "CONFIG_DEVTMPFS", error))?
            .into();
        let is_machine = matches!(options.role, Role::Machine(_));
        let open_files = OpenFiles::raise(is_machine).map_err(|error| {
            let text = format!("the limit of descriptors: {error}");
            io::Error::new(error.kind(), text)
        })?;
        let (mut door, left) = match Door::open(&options.socket) {
            Ok((door, left)) => (Some(door), left),
            Err(error) => match options.role {
                Role::Server => return Err(needed("a Unix socket", "CONFIG_UNIX", error)),
                Role::Machine(_) | Role::Container(_) => {
                    log::warn!("no commands can be taken: {error}");
                    (None, Vec::new())
                }
            },
        };
        let registry = poll.registry();
        let (readable, unwatched) = (Interest::READABLE, |error| {
            needed("epoll", "CONFIG_EPOLL", error)
        });
        for (number, place) in [
            (signals.as_raw_fd(), Place::Signals),
            (alarm.as_raw_fd(), Place::Alarm),
        ] {
            let watched = registry.register(&mut SourceFd(&number), place.token(), readable);
            watched.map_err(unwatched)?;
        }
        if let Some(door) = &mut door {
            let token = Place::Listener.token();
            let watched = registry.register(&mut door.listener.socket, token, readable);
            watched.map_err(unwatched)?;
        }
        let (forward, main) = match &options.role {
            Role::Server | Role::Machine(_) => (None, None),
            Role::Container(container) => (
                Some(Forward::new(container.prefix, registry)),
                container.main.clone(),
            ),
        };
        let mark = server_mark(door.as_ref().map(|door| &door.listener))?;
        let cgroups = Rc::new(Cgroups::new(&mark));
        let families = Families::new(mark, Rc::clone(&cgroups));
        let slate = Slate { null, open_files };
        let syslog = match options.role {
            Role::Server => None,
            Role::Machine(_) | Role::Container(_) => syslog::listen(registry),
        };
        let registry = poll.registry().try_clone().map_err(unwatched)?;
        let links = Links::new(registry, open_files.most());
        let mut reactor = Self {
            poll,
            signals,
            alarm,
            door,
            role: options.role,
            boot: Boot::default(),
            problem: None,
            closing: Closing::default(),
            console: Console::default(),
            supervisor: Supervisor::salted(clock::salt()),
            recorder: Recorder::default(),
            inbox: VecDeque::new(),
            deeds: VecDeque::new(),
            kills: VecDeque::new(),
            deeds_left: DEEDS_ALONE,
            runs: Runs::new(slate, forward, is_machine, Rc::clone(&cgroups)),
            families,
            cgroups,
            errands: Errands::default(),
            probes: Probes::default(),
            sockets: Sockets::default(),
            proxies: Proxies::new(links),
            said: Table::default(),
            successors: Table::default(),
            strangers: Table::default(),
            syslog,
            clients: Clients::new(open_files.most()),
            refusal_told: None,
            shortage_told: None,
            doorkeeper: Doorkeeper::new(options.access),
            followers: Vec::new(),
            files: Files::new(options.dirs, main),
            tickets: Vec::new(),
            last_ticket: 0,
            obstacles: Table::default(),
            // Whoever died before the signals were listened to is still to be collected.
            more_dead: true,
            more_signals: false,
            more_connections: false,
            more_logged: false,
            connections_wait: false,
            halted: false,
            looked: Time::ZERO,
            looks_again: false,
        };
        reactor.read_access();
        let problem = reactor.load(&left)?;
        if let Some(door) = &reactor.door {
            log::info!("listening on {}", door.listener.path().display());
        }
        reactor.problem = problem;
        Ok(reactor)
    }

    /// Turns until everything is down and the server may end; says what comes then.
    ///
    /// # Errors
    /// If the kernel's event facilities fail.
    pub fn run(mut self) -> io::Result<Ending> {
        let mut events = Events::with_capacity(256);
        self.handle_inbox();
        self.boot();
        self.handle_inbox();
        let mut failures = 0;
        while !self.halted {
            match self.turn(&mut events) {
                Ok(()) => failures = 0,
                Err(error) if failures < MOST_FAILURES => {
                    log::error!("{error}; trying again");
                    failures += 1;
                }
                Err(error) => return Err(error),
            }
        }
        self.end();
        Ok(self.ending())
    }

    fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        let deadlines = [
            self.supervisor.next_deadline(),
            self.families.next_look(),
            self.runs.next_look(),
            self.next_tick(),
            self.proxies.next_look(),
            self.sockets.next_look(),
            self.errands.next_look(),
        ];
        let deadline = deadlines.into_iter().flatten().min();
        let armed = self.alarm.arm(deadline);
        armed.map_err(|error| needed("timerfd", "CONFIG_TIMERFD", error))?;
        let busy = self.runs.is_busy()
            || self.clients.is_busy()
            || self.more_dead
            || self.more_signals
            || self.more_connections
            || self.more_logged
            || self.proxies.is_busy()
            || !self.kills.is_empty()
            || !self.deeds.is_empty();
        match self.poll.poll(events, busy.then_some(Duration::ZERO)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other.map_err(|error| needed("epoll", "CONFIG_EPOLL", error))?,
        }
        let before = std::mem::replace(&mut self.looked, clock::now());
        self.families.stale();
        self.proxies.links.is_shared = self.runs.is_exec_pending();
        self.deeds_left = self.deeds_a_turn();
        let mut dead = std::mem::take(&mut self.more_dead);
        let mut signalled = std::mem::take(&mut self.more_signals);
        let mut late = false;
        let mut logged = std::mem::take(&mut self.more_logged);
        let mut connections = std::mem::take(&mut self.more_connections);
        connections |= std::mem::take(&mut self.connections_wait);
        let mut inbox = std::mem::take(&mut self.inbox);
        self.runs.go_on(&mut |event| inbox.push_back(event));
        for event in events.iter() {
            match Place::of(event.token()) {
                Place::Signals => signalled = true,
                Place::Alarm => {
                    self.alarm.drain();
                    late = true;
                }
                Place::Listener => connections = true,
                Place::Output(_) | Place::Writer => {}
                Place::Syslog => logged = true,
                Place::Pipe(slot) => {
                    let closed = event.is_read_closed();
                    self.runs.ready(slot, closed, &mut |event| {
                        inbox.push_back(event);
                    });
                }
                Place::Client(slot) => {
                    let gone = event.is_read_closed() && event.is_write_closed();
                    self.client_event(slot, gone);
                }
                Place::Socket(slot) => self.sockets.ready(slot),
                Place::Entrance(place) => self.proxies.arrive(place),
                Place::Link(place) => self.proxies.ready(place, event),
                Place::Probe(slot) => {
                    let registry = self.poll.registry();
                    if let Some(verdict) = self.probes.ready(slot, registry) {
                        self.probed(verdict);
                    }
                }
            }
        }
        inbox.append(&mut self.inbox);
        self.inbox = inbox;
        dead |= signalled && self.take_signals();
        self.handle_inbox();
        self.hear();
        self.handle_inbox();
        // Before the dead are taken: who sent a line may be one of them.
        if logged {
            self.more_logged = self.take_syslog();
        }
        if dead {
            self.take_dead();
        }
        // Facts come first: whoever was in time must not seem late. After a jump of time those of
        // meanwhile may not be among them, but they are by the next look.
        let is_jump = deadline.is_some_and(|at| self.looked.since(at) > JUMP);
        // Nor is one late who was not even told to end.
        late &= self.kills.is_empty();
        if late && is_jump && !self.looks_again {
            self.looks_again = true;
        } else if late {
            if std::mem::take(&mut self.looks_again) {
                self.looked = before;
            }
            self.inbox.push_back(Event::Deadline);
            self.handle_inbox();
        }
        self.answer_calls();
        self.tend_proxies();
        let now = clock::now();
        if self.families.is_look_due(now) {
            self.sweep_again();
        }
        self.tick(now);
        self.try_again(now);
        if connections {
            self.accept();
        }
        self.distribute();
        self.serve_all();
        if reserve::is_touched() {
            self.spare_memory();
        }
        self.runs.flush(self.poll.registry());
        Ok(())
    }

    fn deeds_a_turn(&self) -> usize {
        if self.clients.is_empty() {
            DEEDS_ALONE
        } else {
            DEEDS_A_TURN
        }
    }

    /// Handles every event, and what comes of it. Deeds that take their time have a share of the
    /// turn; what is beyond it is done in the next one, and clients are heard in between.
    fn handle_inbox(&mut self) {
        let mut actions = Vec::new();
        loop {
            while let Some(event) = self.inbox.pop_front() {
                // Whatever was in time has been seen by then.
                let is_late = matches!(event, Event::Deadline);
                let now = if is_late { self.looked } else { clock::now() };
                self.recorder.note(&self.supervisor, now, &event);
                self.supervisor.handle(now, event, &mut actions);
                for action in actions.drain(..) {
                    self.perform(action);
                }
            }
            if self.deeds_left == 0 {
                return;
            }
            let next = self.kills.pop_front().or_else(|| self.deeds.pop_front());
            let Some(deed) = next else {
                return;
            };
            self.deeds_left -= 1;
            self.accomplish(deed);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Spawn { service } => self.take_on(Deed::Spawn { service }),
            Action::KillTree {
                service,
                pid,
                signal,
            } => {
                let asked = clock::now();
                self.take_on(Deed::Kill {
                    service,
                    pid,
                    signal,
                    asked,
                });
            }
            Action::Sweep { service, signal } => {
                self.sweep(service, signal);
            }
            Action::Signal { pid, signal } => {
                if signal == Signal::KILL
                    && let Some(service) = self.supervisor.service_of(pid)
                {
                    self.runs.note_kill(service);
                }
                // Before its setsid a child has no group of its own yet.
                if !kill::kill_group(pid, signal) {
                    kill::kill_child(pid, signal);
                }
            }
            Action::Refresh { pid, signal } => drop(kill::kill_child(pid, signal)),
            Action::Attend { service, awaits } => self.attend(service, awaits),
            Action::Errand {
                service,
                errand,
                what,
            } => self.take_on(Deed::Errand {
                service,
                errand,
                what,
            }),
            Action::Recall { service, errand } => self.recall(service, errand),
            Action::Health { service, healthy } => {
                journal::health(&self.name(service), healthy);
                self.announce_health(service, healthy);
            }
            Action::Sequel {
                service,
                follow,
                end,
            } => self.sequel(service, &follow, end),
            Action::Changed { service, from, to } => {
                journal::changed(&self.supervisor, service, from, to);
                self.announce(service, from, to);
                self.note_proxies(service);
                if !matches!(to, State::Blocked { .. } | State::Forking) {
                    self.obstacles.remove(service);
                }
                if matches!(from, State::Clearing { .. }) {
                    self.families.give_up(service);
                }
                self.main_rests(service, to);
            }
            Action::CriticalFailed { service } => self.critical_failed(service),
            Action::Removed { service, name } => self.removed(service, &name),
            Action::Reply { ticket, outcome } => self.reply(ticket, outcome),
            Action::Halt => self.halted = true,
            Action::Anomaly { what, service } => {
                let name = service
                    .and_then(|id| self.supervisor.service(id))
                    .map_or("-", |found| &found.spec().name);
                log::error!(
                    "{name}: {what}: this is a bug of zinit's, please report it with what 'zinit debug record' prints"
                );
            }
        }
    }

    fn removed(&mut self, service: ServiceId, name: &Rc<str>) {
        log::info!("{name}: removed");
        self.announce_removal(name);
        self.runs.removed(service);
        self.families.removed(service);
        self.cgroups.remove(name);
        self.errands.removed(service);
        self.said.remove(service);
        self.successors.remove(service);
        self.strangers.remove(service);
        self.obstacles.remove(service);
        self.sockets_removed(service);
    }

    fn reply(&mut self, ticket: Ticket, outcome: Outcome) {
        if self.leg_ends(ticket, &outcome) {
            return;
        }
        let Some(place) = self.tickets.iter().position(|asker| asker.ticket == ticket) else {
            return;
        };
        let Asker {
            client,
            request,
            form,
            ..
        } = self.tickets.swap_remove(place);
        let answer = rpc::render(&self.supervisor, &form, outcome);
        self.clients.answer(client, request.as_ref(), &answer);
    }
}

fn command(command: Command) -> Event {
    Event::Command {
        ticket: None,
        patience: Patience::None,
        command,
    }
}

/// A process for the wire.
fn child(stat: procfs::Stat) -> rpc::text::Child {
    rpc::text::Child {
        pid: stat.pid,
        ppid: stat.ppid,
        name: stat.name,
        state: stat.state,
    }
}
