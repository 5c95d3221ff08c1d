//! How it ends: by a signal, by a request, or because the main command of a container has ended; and
//! what is still to be done then.

use std::time::Duration;

use mio::Events;

use super::role::{Ending, Role};
use super::{Reactor, command};
use crate::engine::spec::Follow;
use crate::engine::{Command, End, Exit, Failure, ServiceId, Signal, State, Step, Time};
use crate::rpc::{Code, Refusal, SystemVerb};
use crate::sys::machine::{self, Verb};
use crate::sys::signals::Notice;
use crate::sys::switch::SwitchRoot;
use crate::sys::{clock, process};

/// Ctrl-Alt-Del so many times ...
const IMPATIENCE: usize = 7;

/// ... within this time ends the wait (as `systemd(1)` has taught people).
const IMPATIENCE_SPAN: Duration = Duration::from_secs(2);

/// Time between two lines about what is being waited for.
const TICK: Duration = Duration::from_secs(1);

/// Time beyond that for all stops, after which nothing is waited for any more: what can't even be
/// killed is given up by then.
const BEYOND_GRACE: Duration = Duration::from_secs(15);

/// The exit status of a command that is not there, and of one that can't be run (`sh(1)`).
const NOT_FOUND: u8 = 127;
const NOT_RUNNABLE: u8 = 126;

/// How long what belongs to no service may take to end when PID 1 asks it to.
const POLITE_PATIENCE: Duration = Duration::from_millis(500);

/// How long what is left may take to vanish once it is killed, when the server ends.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// How far the end has come.
#[derive(Debug, Default)]
pub(super) struct Closing {
    /// What comes when everything is down.
    ending: Option<Ending>,
    /// When to tell the console again what is being waited for.
    tick: Option<Time>,
    /// When nothing is waited for any more.
    until: Option<Time>,
    /// The last times of Ctrl-Alt-Del.
    interrupts: Vec<Time>,
}

impl Reactor {
    /// A signal that is more than the end of a child.
    pub(super) fn notice(&mut self, notice: Notice) {
        if notice == Notice::Reload {
            log::info!("asked to reload by a signal");
            if let Err(error) = self.reload(None) {
                log::error!("{}", error.message);
            }
            return;
        }
        match self.role {
            Role::Server => self.end_by_signal(Ending::Exit(0), true),
            Role::Container(_) => match notice {
                Notice::First | Notice::Second => log::info!("{notice:?} user signal: ignored"),
                Notice::Child
                | Notice::Reload
                | Notice::Terminate
                | Notice::Interrupt
                | Notice::Power
                | Notice::Runtime(_) => self.end_by_signal(Ending::Exit(0), true),
            },
            Role::Machine(_) => {
                let verb = match notice {
                    Notice::Terminate | Notice::Second | Notice::Power | Notice::Runtime(4) => {
                        Verb::Poweroff
                    }
                    Notice::Interrupt => return self.ctrl_alt_del(),
                    Notice::Runtime(3) => Verb::Halt,
                    Notice::Runtime(5) => Verb::Reboot,
                    Notice::Runtime(6) => Verb::Kexec,
                    Notice::First | Notice::Child | Notice::Reload | Notice::Runtime(_) => {
                        return log::info!("SIGUSR1 has no meaning yet: ignored");
                    }
                };
                self.end_by_signal(Ending::Machine { verb, hurry: false }, false);
            }
        }
    }

    fn end_by_signal(&mut self, ending: Ending, again_hurries: bool) {
        log::info!("asked to stop by a signal");
        if again_hurries && self.is_ending() {
            self.shut_down(false);
        } else {
            self.begin_end(ending);
        }
    }

    fn ctrl_alt_del(&mut self) {
        let now = clock::now();
        let times = &mut self.closing.interrupts;
        times.retain(|at| now.since(*at) <= IMPATIENCE_SPAN);
        times.push(now);
        let hurry = times.len() >= IMPATIENCE;
        let verb = Verb::Reboot;
        self.begin_end(Ending::Machine { verb, hurry });
        if hurry {
            log::warn!("Ctrl-Alt-Del {IMPATIENCE} times: nothing is waited for any more");
            self.halted = true;
        }
    }

    /// Stops everything; when all is down, that comes. Asked again, the last word counts.
    pub(super) fn begin_end(&mut self, ending: Ending) {
        if let Ending::Machine { verb, .. } = ending {
            log::info!("{}", verb.text());
        }
        let spare = matches!(ending, Ending::Switch(_));
        if self.closing.ending.replace(ending).is_some() {
            return;
        }
        let now = clock::now();
        self.closing.until = self
            .role
            .grace()
            .map(|grace| now + grace + BEYOND_GRACE)
            .filter(|_| matches!(self.role, Role::Machine(_)));
        self.closing.tick = self.closing.until.map(|_| now + TICK);
        self.shut_down(spare);
    }

    fn shut_down(&mut self, spare: bool) {
        let within = self.role.grace();
        self.inbox
            .push_back(command(Command::Shutdown { within, spare }));
    }

    /// Is everything being stopped, or about to be? The engine may not have been told yet, and would
    /// take to be told twice for impatience.
    fn is_ending(&self) -> bool {
        self.closing.ending.is_some()
    }

    /// What comes now that everything is down.
    pub(super) fn ending(&self) -> Ending {
        self.closing.ending.clone().unwrap_or(Ending::Exit(0))
    }

    /// When the end wants to be looked at without being told of anything.
    pub(super) fn next_tick(&self) -> Option<Time> {
        let ticks = [self.closing.tick, self.next_go_on()];
        ticks.into_iter().flatten().min()
    }

    /// Tells the console what is being waited for, and ends the wait when it is over.
    pub(super) fn tick(&mut self, now: Time) {
        self.go_on_if_due(now);
        if self.closing.tick.is_none_or(|tick| tick > now) {
            return;
        }
        self.closing.tick = Some(now + TICK);
        let left = |at: Time| at.since(now).as_secs() + 1;
        let waits = self
            .supervisor
            .services()
            .filter_map(|(_, service)| match service.state() {
                State::Stopping { kill_at, .. } | State::Clearing { kill_at, .. } => {
                    Some(format!("{} ({} s)", service.spec().name, left(kill_at)))
                }
                State::Trailing { until, .. } => {
                    Some(format!("{} ({} s)", service.spec().name, left(until)))
                }
                State::Inactive
                | State::Blocked { .. }
                | State::Preparing { .. }
                | State::Forking
                | State::Spawning { .. }
                | State::Starting { .. }
                | State::Running { .. }
                | State::Backoff { .. }
                | State::Exited { .. }
                | State::Failed { .. } => None,
            });
        let waits: Vec<String> = waits.take(8).collect();
        if !waits.is_empty() {
            self.console
                .write(&format!("zinit: waiting for {}\r\n", waits.join(", ")));
        }
        if self.closing.until.is_some_and(|until| until <= now) {
            log::error!("time is over: what is left is not waited for");
            self.halted = true;
        }
    }

    /// The command of a container has come to rest: its end is the container's.
    pub(super) fn main_rests(&mut self, service: ServiceId, to: State) {
        let is_main = self
            .supervisor
            .service(service)
            .is_some_and(|found| self.files.is_main(&found.spec().name));
        if !is_main || self.is_ending() {
            return;
        }
        if let Some(code) = exit_status(to) {
            log::info!("the main command has ended; exit status {code}");
            self.begin_end(Ending::Exit(code));
        }
    }

    /// A service has ended for good, and its file says what that means for all.
    pub(super) fn sequel(&mut self, service: ServiceId, follow: &Follow, end: End) {
        let found = self.supervisor.service(service);
        let name = found.map_or("", |found| &*found.spec().name).to_owned();
        let code = status_of(end);
        let of_container = Ending::Exit(code);
        let ending = match (&self.role, follow) {
            (Role::Machine(_), Follow::Shutdown) => of_machine(Verb::Poweroff),
            (Role::Machine(_), Follow::Reboot) => of_machine(Verb::Reboot),
            (Role::Machine(_), Follow::Shell) => {
                let why = format!("'{name}' has ended, and its file asks for a shell");
                return self.offer_shell(&why, Some(service));
            }
            (Role::Server | Role::Container(_), Follow::Shutdown | Follow::Reboot) => of_container,
            (Role::Server | Role::Container(_), Follow::Shell) => {
                return log::error!("{name} has ended; there is no console to offer a shell on");
            }
            (_, Follow::Nothing | Follow::Start(_)) => return,
        };
        if !self.is_ending() {
            log::warn!("{name} has ended, and everything with it; exit status {code}");
            self.begin_end(ending);
        }
    }

    /// `system.*` requests.
    pub(super) fn system(&mut self, verb: SystemVerb) -> Result<(), Refusal> {
        let ending = match (&self.role, verb) {
            (Role::Server | Role::Container(_), SystemVerb::Shutdown { code }) => {
                Ending::Exit(code)
            }
            (Role::Container(_), SystemVerb::Poweroff | SystemVerb::Reboot | SystemVerb::Halt) => {
                Ending::Exit(0)
            }
            (Role::Machine(_), SystemVerb::Shutdown { .. } | SystemVerb::Poweroff) => {
                of_machine(Verb::Poweroff)
            }
            (Role::Machine(_), SystemVerb::Reboot) => of_machine(Verb::Reboot),
            (Role::Machine(_), SystemVerb::Halt) => of_machine(Verb::Halt),
            (Role::Machine(_), SystemVerb::Kexec) => {
                if !machine::is_kexec_loaded() {
                    return Err(refused("no kernel is loaded: run kexec -l first"));
                }
                of_machine(Verb::Kexec)
            }
            (Role::Machine(_), SystemVerb::SwitchRoot { .. }) if self.is_ending() => {
                return Err(refused("everything is being stopped already"));
            }
            (Role::Machine(_), SystemVerb::SwitchRoot { root, init }) => {
                let switch = SwitchRoot {
                    root: root.into(),
                    init: init.into(),
                };
                switch.check().map_err(|text| refused(&text))?;
                Ending::Switch(switch)
            }
            (Role::Server, other) | (Role::Container(_), other) => {
                let name = other.name();
                let text = format!("{name} only available when running as PID 1");
                return Err(refused(&text));
            }
        };
        log::info!("asked to stop by a client");
        self.begin_end(ending);
        self.handle_inbox();
        Ok(())
    }

    /// Ends what is left under the server, and takes leave of the clients.
    pub(super) fn end(&mut self) {
        let switch = matches!(self.ending(), Ending::Switch(_));
        // Before whoever writes it is ended too.
        self.flush_rest();
        // On a machine that is for everybody who is left, and comes after this.
        if !matches!(self.ending(), Ending::Machine { .. }) {
            if !matches!(self.role, Role::Server) {
                self.end_rest(switch, Signal::TERM, POLITE_PATIENCE);
            }
            self.end_rest(switch, Signal::KILL, LAST_PATIENCE);
        }
        if switch {
            let _ = self.runs.slate().open_files.restore();
        }
        for client in self.clients.all() {
            self.clients.write(client, self.poll.registry());
        }
        self.runs.sinks.keeper.end();
        self.leave_syslog();
        self.sockets.close_all();
        self.proxies.close_all(self.poll.registry());
        self.cgroups.end();
        log::info!("everything is stopped");
    }

    /// Sends on what services have said at last.
    fn flush_rest(&mut self) {
        let until = clock::now() + LAST_PATIENCE;
        self.runs.sinks.keeper.hurry();
        loop {
            self.runs.sinks.ships.hurry();
            self.runs.flush(self.poll.registry());
            if !self.runs.is_waiting() || clock::now() >= until {
                self.runs.sinks.keeper.give_up();
                return self.runs.sinks.ships.give_up();
            }
            let wait = Some(Duration::from_millis(10));
            let _ = self.poll.poll(&mut Events::with_capacity(1), wait);
        }
    }

    fn end_rest(&mut self, switch: bool, signal: Signal, patience: Duration) {
        let until = clock::now() + patience;
        // Somebody who is asked twice may take it for impatience, and leave things undone.
        let mut now = Some(signal);
        // Whoever dies under the look leaves its children to the next one.
        let mut quiet = 0;
        while quiet < 2 && clock::now() < until {
            let gone = {
                let writer = self.runs.sinks.keeper.writer();
                self.families
                    .end_rest(&self.supervisor, switch, now, writer)
            };
            now = now.filter(|signal| *signal == Signal::KILL);
            let wait = if gone {
                quiet += 1;
                Duration::ZERO
            } else {
                quiet = 0;
                Duration::from_millis(10)
            };
            let _ = self.poll.poll(&mut Events::with_capacity(1), Some(wait));
            while let Some((pid, _)) = process::peek_dead() {
                process::collect(pid);
            }
        }
    }
}

fn of_machine(verb: Verb) -> Ending {
    Ending::Machine { verb, hurry: false }
}

fn refused(text: &str) -> Refusal {
    Refusal::new(Code::Internal, text)
}

/// The exit status that a shell would give for a service; none if it is not at rest.
pub(super) fn exit_status(state: State) -> Option<u8> {
    match state {
        State::Exited { end } => Some(status_of(end)),
        State::Failed { why } => Some(status_of(End::Failure(why))),
        State::Inactive
        | State::Blocked { .. }
        | State::Preparing { .. }
        | State::Forking
        | State::Spawning { .. }
        | State::Starting { .. }
        | State::Running { .. }
        | State::Stopping { .. }
        | State::Clearing { .. }
        | State::Trailing { .. }
        | State::Backoff { .. } => None,
    }
}

/// The same for how a run ended.
pub(super) fn status_of(end: End) -> u8 {
    let number = |number: i32| u8::try_from(number & 0xff).unwrap_or(1);
    match (end, end.exit()) {
        (End::Asked(Exit::Signal(_)), _) => 0,
        (_, Some(Exit::Code(code))) => number(code),
        (_, Some(Exit::Signal(signal))) => number(128 + signal),
        (_, Some(Exit::OutOfMemory)) => 137,
        (End::Failure(Failure::Spawn(error)), None) if error.step == Step::Exec => {
            let missing = std::io::Error::from_raw_os_error(error.errno).kind()
                == std::io::ErrorKind::NotFound;
            if missing { NOT_FOUND } else { NOT_RUNNABLE }
        }
        (End::Asked(_) | End::Success(_) | End::Failure(_), None) => 1,
    }
}
