//! How a machine comes up: its own services first, then all others, and a line about it. On the
//! way, or when something critical fails, a shell on the console.

use std::collections::VecDeque;
use std::ffi::{CString, OsStr};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::role::Role;
use super::{Reactor, command};
use crate::config::Level;
use crate::engine::spec::{Class, Status};
use crate::engine::{
    Command, Event, Outcome, Patience, Pid, ServiceId, Signal, Supervisor, Ticket, Time,
};
use crate::rpc::view;
use crate::sys::process::{self, Launch, Stdio};
use crate::sys::{clock, console, kill};

/// How long the machine's own services may take before all others are started nevertheless.
const SYSTEM_PATIENCE: Duration = Duration::from_secs(30);

/// A shell that ends so soon was of no use to anybody ...
const AT_ONCE: Duration = Duration::from_millis(500);

/// ... and the machine goes on after this time.
const SECOND_THOUGHT: Duration = Duration::from_secs(5);

/// Lines of its log that are shown of a service that failed.
const LAST_LINES: usize = 8;

/// Columns of the screen.
const WIDTH: usize = 78;

/// Where `sulogin(8)` is looked for, which asks for root's password, and then a plain shell.
const LOGINS: [&str; 3] = ["/sbin/sulogin", "/usr/sbin/sulogin", "/bin/sulogin"];
const SHELLS: [&str; 5] = [
    "/bin/sh",
    "/bin/bash",
    "/bin/busybox",
    "/usr/bin/busybox",
    "/busybox",
];

/// A step on the way up.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Leg {
    /// A shell on the console, for this reason.
    Shell(String),
    /// Read the files again.
    Load,
    /// The machine's own services.
    System,
    /// All others, or the target that was asked for.
    Rest,
}

/// How far the machine has come up.
#[derive(Debug, Default)]
pub(super) struct Boot {
    legs: VecDeque<Leg>,
    /// The question whose answer ends the present step.
    ticket: Option<Ticket>,
    began: Option<Time>,
    /// The shell on the console, and since when it is there.
    shell: Option<(Pid, Time)>,
    /// When to go on after a shell that was of no use.
    go_on: Option<Time>,
    /// Critical services that failed, to be started again when the shell is left.
    failed: Vec<ServiceId>,
}

impl Reactor {
    /// Brings the machine up.
    pub(super) fn boot(&mut self) {
        let Role::Machine(machine) = &self.role else {
            return;
        };
        let legs = &mut self.boot.legs;
        if let Some(why) = &machine.crashed {
            legs.push_back(Leg::Shell(format!("zinit itself has crashed: {why}")));
        }
        if machine.level == Level::Emergency {
            legs.push_back(Leg::Shell("emergency mode, as the kernel was told".into()));
        }
        if let Some(problem) = self.problem.take() {
            legs.push_back(Leg::Shell(problem));
            legs.push_back(Leg::Load);
        }
        legs.push_back(Leg::System);
        if machine.level == Level::Rescue {
            legs.push_back(Leg::Shell(
                "single user mode, as the kernel was told".into(),
            ));
        }
        legs.push_back(Leg::Rest);
        self.boot.began = Some(clock::now());
        self.next_leg();
    }

    fn next_leg(&mut self) {
        match self.boot.legs.pop_front() {
            None => self.arrived(),
            Some(Leg::Shell(why)) => self.offer_shell(&why, None),
            Some(Leg::Load) => {
                match self.load_again() {
                    None => {}
                    Some(problem) => {
                        self.boot.legs.push_front(Leg::Load);
                        self.boot.legs.push_front(Leg::Shell(problem));
                    }
                }
                self.next_leg();
            }
            Some(Leg::System) => {
                let services = self.to_start(|class| class == Class::System);
                self.start_leg(services, Some(SYSTEM_PATIENCE));
            }
            Some(Leg::Rest) => {
                let target = match &self.role {
                    Role::Machine(machine) => machine.target.clone(),
                    Role::Server | Role::Container(_) => None,
                };
                let found = target
                    .as_deref()
                    .and_then(|name| self.supervisor.find(name));
                if let (Some(name), None) = (&target, found) {
                    log::error!("there is no '{name}' to boot; everything is started");
                }
                let services = match found {
                    Some(id) => vec![id],
                    None => self.to_start(|class| class == Class::User),
                };
                if self.supervisor.services().next().is_none() {
                    let why = format!("there are no services: nothing in {}", self.files.places());
                    self.boot.legs.push_back(Leg::Shell(why));
                }
                self.start_leg(services, None);
            }
        }
    }

    fn to_start(&self, class: impl Fn(Class) -> bool) -> Vec<ServiceId> {
        let wanted = |spec: &crate::engine::Spec| spec.status == Status::Start && class(spec.class);
        let services = self.supervisor.services();
        services
            .filter(|(_, service)| wanted(service.spec()))
            .map(|(id, _)| id)
            .collect()
    }

    fn start_leg(&mut self, services: Vec<ServiceId>, within: Option<Duration>) {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.boot.ticket = Some(ticket);
        self.inbox.push_back(Event::Command {
            ticket: Some(ticket),
            patience: Patience::Until(within.map(|within| clock::now() + within)),
            command: Command::Boot { services },
        });
    }

    /// Is this the answer a step has waited for? Then the next one begins.
    pub(super) fn leg_ends(&mut self, ticket: Ticket, outcome: &Outcome) -> bool {
        if self.boot.ticket != Some(ticket) {
            return false;
        }
        self.boot.ticket = None;
        if let Outcome::Bulk { failed, .. } = outcome {
            let name = |id: ServiceId| {
                let found = self.supervisor.service(id);
                found.map_or_else(String::new, |found| found.spec().name.to_string())
            };
            let names: Vec<String> = failed.iter().map(|(id, _)| name(*id)).collect();
            if !names.is_empty() {
                log::warn!("not up: {}", names.join(", "));
            }
        }
        if *outcome != Outcome::ShuttingDown {
            self.next_leg();
        }
        true
    }

    /// One line about it all.
    fn arrived(&mut self) {
        let (Role::Machine(machine), Some(began)) = (&self.role, self.boot.began.take()) else {
            return;
        };
        let up = |all: &Supervisor| {
            let services = all.services().map(|(_, service)| service);
            let programs = services.filter(|service| !service.spec().is_target());
            programs.filter(|service| service.is_met()).count()
        };
        let count = up(&self.supervisor);
        let (ms, kernel) = (clock::now().since(began).as_millis(), machine.kernel);
        let plural = if count == 1 { "" } else { "s" };
        log::info!(
            "{count} service{plural} in {ms} ms, kernel {}.{} s",
            kernel.as_secs(),
            kernel.subsec_millis() / 100
        );
    }

    /// A critical service has failed for good.
    pub(super) fn critical_failed(&mut self, service: ServiceId) {
        match self.role {
            Role::Server => {}
            Role::Container(_) => {
                let state = self.supervisor.service(service).map(|found| found.state());
                let code = state.and_then(super::ending::exit_status).unwrap_or(1);
                self.begin_end(super::role::Ending::Exit(code.max(1)));
            }
            Role::Machine(_) => {
                let Some(found) = self.supervisor.service(service) else {
                    return;
                };
                let reason = view::look(&self.supervisor, service, found).reason;
                let reason = reason.map(|reason| view::reason_text(found.spec(), &reason));
                let name = Rc::clone(&found.spec().name);
                let why = format!(
                    "critical service '{name}' has failed: {}",
                    reason.unwrap_or_default()
                );
                self.boot.failed.push(service);
                self.offer_shell(&why, Some(service));
            }
        }
    }

    /// One screen about what is wrong, and a shell.
    pub(super) fn offer_shell(&mut self, why: &str, service: Option<ServiceId>) {
        let line = "-".repeat(WIDTH);
        let mut screen = format!("\n{line}\n{why}\n");
        let name = service
            .and_then(|id| self.supervisor.service(id))
            .map(|found| Rc::clone(&found.spec().name));
        if let (Some(id), Some(name)) = (service, &name) {
            let lines = self.runs.log(id, LAST_LINES, |_, _| true);
            if !lines.is_empty() {
                let _ = writeln!(screen, "The last it said:");
            }
            for line in lines {
                let text: String = line.content.chars().take(WIDTH - 4).collect();
                let _ = writeln!(screen, "    {text}");
            }
            let _ = writeln!(
                screen,
                "  zinit why {name}, zinit logs {name}   say more\n  zinit restart {name}   tries again"
            );
        } else {
            let _ = writeln!(screen, "  zinit list   shows all services");
        }
        let _ = writeln!(
            screen,
            "  exit   goes on\n  zinit reboot, zinit poweroff   end it here\n{line}"
        );
        // The screen says it to whoever sits there; this is for the kernel's log.
        log::info!("a shell on the console: {why}");
        self.console.write(&screen.replace('\n', "\r\n"));
        if self.boot.shell.is_some() {
            return;
        }
        match self.spawn_shell() {
            Ok(pid) => {
                self.boot.shell = Some((pid, clock::now()));
                self.boot.go_on = None;
            }
            Err(text) => {
                self.console.write(&format!("{text}\r\n"));
                log::error!("{text}");
                // Nobody mends the files, then.
                if matches!(self.boot.legs.front(), Some(Leg::Load)) {
                    self.boot.legs.pop_front();
                }
                // With nobody to ask, what can be brought up is better than nothing.
                if service.is_none() && self.boot.ticket.is_none() && !self.boot.legs.is_empty() {
                    self.next_leg();
                }
            }
        }
    }

    fn spawn_shell(&mut self) -> Result<Pid, String> {
        let launch = shell(&console::terminal()).ok_or("there is no shell to be offered")?;
        match process::spawn(&launch, self.runs.slate()) {
            Ok(child) => Ok(child.pid),
            Err(error) => {
                let error = std::io::Error::from_raw_os_error(error.errno);
                Err(format!("a shell can't be started: {error}"))
            }
        }
    }

    /// Was that the shell on the console? Then the machine goes on.
    pub(super) fn shell_ends(&mut self, pid: Pid) {
        let Some((_, since)) = self.boot.shell.filter(|(shell, _)| *shell == pid) else {
            return;
        };
        self.boot.shell = None;
        // What was put into the background there would keep the terminal from the next one.
        kill::kill_group(pid, Signal::HUP);
        let now = clock::now();
        if now.since(since) < AT_ONCE {
            // Nobody can have left it so soon; going on at once might come back here for ever.
            self.boot.go_on = Some(now + SECOND_THOUGHT);
        } else {
            self.go_on();
        }
    }

    /// When to go on after a shell that was of no use.
    pub(super) fn next_go_on(&self) -> Option<Time> {
        self.boot.go_on
    }

    pub(super) fn go_on_if_due(&mut self, now: Time) {
        if self.boot.go_on.is_some_and(|at| at <= now) {
            self.boot.go_on = None;
            self.go_on();
        }
    }

    fn go_on(&mut self) {
        if self.supervisor.is_closing() {
            return;
        }
        self.console.write("zinit: going on\r\n");
        for service in std::mem::take(&mut self.boot.failed) {
            self.inbox.push_back(command(Command::Start {
                service,
                deps: true,
            }));
        }
        self.handle_inbox();
        if self.boot.ticket.is_none() {
            self.next_leg();
            self.handle_inbox();
        }
    }
}

/// How a shell on this terminal is run; none if there is no shell.
#[must_use]
pub fn shell(terminal: &Path) -> Option<Launch> {
    let there = |path: &&&str| Path::new(path).exists();
    // Without users there is no password to ask for.
    let has_users = Path::new("/etc/passwd").exists();
    let login = LOGINS.iter().find(there).filter(|_| has_users);
    let program = login.or_else(|| SHELLS.iter().find(there))?;
    let text = |text: &OsStr| CString::new(text.as_bytes()).ok();
    let base = Path::new(program).file_name()?;
    let mut arguments = vec![text(base)?];
    if base == "busybox" {
        arguments.push(c"sh".to_owned());
    }
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let environment = [path, "HOME=/root", "TERM=linux", "PS1=(emergency) \\w # "];
    Some(Launch {
        programs: vec![text(program.as_ref())?],
        arguments,
        environment: environment
            .iter()
            .filter_map(|entry| CString::new(*entry).ok())
            .collect(),
        own_variables: 0,
        dir: Some(c"/".to_owned()),
        stdio: Stdio::Terminal(text(terminal.as_os_str())?),
        confine: None,
        pass: Vec::new(),
        listens: false,
    })
}
