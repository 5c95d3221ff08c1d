//! The table: every command and every flag, once.
//!
//! Parsing, `zinit help` and the test that reads the man page all come from here; a command or flag
//! that is not in this file does not exist.

use super::args::Typed;
use super::environment::Env;
use super::{Invocation, UsageError, meaning};

/// One command.
pub struct Command {
    /// What it is called.
    pub name: &'static str,
    /// What else it is called.
    pub aliases: &'static [&'static str],
    /// Its operands, as a synopsis shows them.
    pub arguments: &'static str,
    /// The fewest and the most operands it takes.
    pub operands: (usize, usize),
    /// Its own flags.
    pub flags: &'static [Flag],
    /// Where the overview shows it.
    pub group: Group,
    /// One line for the overview.
    pub about: &'static str,
    /// The rest of its help.
    pub help: &'static str,
    pub(super) meaning: fn(&Typed, &Env) -> Result<Invocation, UsageError>,
}

/// One flag.
pub struct Flag {
    /// Its letter, if it has one.
    pub short: Option<char>,
    /// Its name without the dashes.
    pub long: &'static str,
    /// What its value is called, if it takes one.
    pub value: Option<&'static str>,
    /// One line.
    pub about: &'static str,
}

/// Where the overview shows a command.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Group {
    /// Looking at services.
    Look,
    /// Changing what services do.
    Change,
    /// Changing which services there are.
    Configure,
    /// The server itself.
    Server,
}

/// The groups in the order of the overview, with their headings.
pub const GROUPS: &[(Group, &str)] = &[
    (Group::Look, "Look at services"),
    (Group::Change, "Start and stop services"),
    (Group::Configure, "Say which services there are"),
    (Group::Server, "The server"),
];

/// Flags that every command takes, before it and after it.
pub const GLOBAL_FLAGS: &[Flag] = &[
    valued(
        's',
        "socket",
        "PATH",
        "talk over this socket (environment: ZINIT_SOCKET)",
    ),
    plain("json", "print the server's answer as JSON, one line"),
    switch('h', "help", "print help"),
    switch('V', "version", "print the version"),
];

/// A number of operands without bound.
pub const MANY: usize = usize::MAX;

const NO_WAIT: Flag = plain("no-wait", "return as soon as the server has taken note");
const TIMEOUT: Flag = long(
    "timeout",
    "DURATION",
    "give up waiting after 10, 10s, 500ms or 2m",
);
const WAITING: &[Flag] = &[NO_WAIT, TIMEOUT];
const ENDING: &[Flag] = &[
    NO_WAIT,
    TIMEOUT,
    switch(
        'f',
        "force",
        "at once: nothing is stopped, nothing unmounted",
    ),
];
const NOT_PID_1: &str = "If nothing listens it tells PID 1 by a signal; if the server is not PID 1, it stops the server alone.";
const ANY_LENGTH: &str =
    "Without --timeout it waits as long as it takes; Ctrl-C ends the wait, not the work.";

/// All commands, in the order of the overview.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "list",
        aliases: &["ls"],
        group: Group::Look,
        about: "list all services and their states",
        meaning: meaning::list,
        ..BARE
    },
    Command {
        name: "status",
        arguments: "NAME",
        operands: (1, 1),
        group: Group::Look,
        about: "show one service's state",
        help: "For a blocked service it also says what it waits for.",
        meaning: meaning::status,
        ..BARE
    },
    Command {
        name: "why",
        arguments: "NAME",
        operands: (1, 1),
        group: Group::Look,
        about: "say what a service waits for",
        meaning: meaning::why,
        ..BARE
    },
    Command {
        name: "tree",
        group: Group::Look,
        about: "show all services with their dependencies",
        meaning: meaning::tree,
        ..BARE
    },
    Command {
        name: "logs",
        arguments: "[NAME...]",
        operands: (0, MANY),
        flags: &[
            valued(
                'n',
                "lines",
                "COUNT",
                "how many lines at most (default 100)",
            ),
            long(
                "since",
                "TIME",
                "not older than 15m, 2h, 1d, or a UTC time such as 2026-01-31T23:59",
            ),
            long("stream", "STREAM", "only stdout, stderr or syslog"),
            switch('f', "follow", "go on as lines come"),
        ],
        group: Group::Look,
        about: "show the last lines services wrote",
        help: "Of all services if none are named, ordered by time.\n\
               Each line is: milliseconds since 1970, the stream in brackets, the text.",
        meaning: meaning::logs,
        ..BARE
    },
    Command {
        name: "watch",
        arguments: "[NAME...]",
        operands: (0, MANY),
        group: Group::Look,
        about: "show what happens to services, as it happens",
        help: "Of all services if none are named.",
        meaning: meaning::watch,
        ..BARE
    },
    Command {
        name: "stats",
        arguments: "NAME",
        operands: (1, 1),
        group: Group::Look,
        about: "show a service's memory and processor use",
        meaning: meaning::stats,
        ..BARE
    },
    Command {
        name: "children",
        arguments: "NAME",
        operands: (1, 1),
        group: Group::Look,
        about: "list the processes below a service's main process",
        meaning: meaning::children,
        ..BARE
    },
    Command {
        name: "start",
        arguments: "NAME...",
        operands: (1, MANY),
        flags: &[
            plain("no-deps", "start it alone, not what it requires and wants"),
            plain("tree", "accepted; requirements are started anyway"),
            NO_WAIT,
            TIMEOUT,
        ],
        group: Group::Change,
        about: "start services and what they require",
        help: "Waits until each is running (a oneshot: has finished), or says why that did not happen.",
        meaning: meaning::start,
        ..BARE
    },
    Command {
        name: "stop",
        arguments: "NAME...",
        operands: (1, MANY),
        flags: WAITING,
        group: Group::Change,
        about: "stop services, and first what requires them",
        help: "Waits until each is down, or says why that did not happen.",
        meaning: meaning::stop,
        ..BARE
    },
    Command {
        name: "restart",
        arguments: "NAME...",
        operands: (1, MANY),
        flags: WAITING,
        group: Group::Change,
        about: "stop services and start them again",
        help: "Services that were up and had to stop along come back as well.",
        meaning: meaning::restart,
        ..BARE
    },
    Command {
        name: "kill",
        aliases: &["signal"],
        arguments: "NAME [SIGNAL]",
        operands: (1, 2),
        flags: &[valued(
            's',
            "signal",
            "SIGNAL",
            "HUP, SIGHUP or 1 (default TERM)",
        )],
        group: Group::Change,
        about: "send a signal to a service",
        help: "The restart policy applies to what comes of it. To bring a service down, use stop.",
        meaning: meaning::kill,
    },
    Command {
        name: "wait",
        arguments: "NAME",
        operands: (1, 1),
        flags: &[
            long(
                "for",
                "STATE",
                "running, stopped or exited (default running)",
            ),
            TIMEOUT,
        ],
        group: Group::Change,
        about: "wait until a service is in a state",
        help: ANY_LENGTH,
        meaning: meaning::wait,
        ..BARE
    },
    Command {
        name: "start-all",
        flags: WAITING,
        group: Group::Change,
        about: "start all services with status start, but those of class system",
        help: ANY_LENGTH,
        meaning: meaning::start_all,
        ..BARE
    },
    Command {
        name: "stop-all",
        flags: WAITING,
        group: Group::Change,
        about: "stop all services but those of class system",
        help: ANY_LENGTH,
        meaning: meaning::stop_all,
        ..BARE
    },
    Command {
        name: "add-service",
        arguments: "[FILE]",
        operands: (0, 1),
        flags: ADD_FLAGS,
        group: Group::Configure,
        about: "create or replace a service",
        help: "Takes a service file, or --name and --exec with the other flags. The server keeps it as a file of its own.",
        meaning: meaning::add_service,
        ..BARE
    },
    Command {
        name: "remove",
        aliases: &["delete", "remove-service"],
        arguments: "NAME...",
        operands: (1, MANY),
        flags: &[TIMEOUT],
        group: Group::Configure,
        about: "stop services and delete them with their files",
        help: "What requires them goes too. Returns when all of it is gone.",
        meaning: meaning::remove,
    },
    Command {
        name: "delete-all",
        flags: WAITING,
        group: Group::Configure,
        about: "stop and delete all services but those of class system",
        help: ANY_LENGTH,
        meaning: meaning::delete_all,
        ..BARE
    },
    Command {
        name: "xinet",
        arguments: "set|delete|list|status [NAME]",
        operands: (1, 2),
        flags: XINET_FLAGS,
        group: Group::Configure,
        about: "proxies that start a service when somebody connects",
        help: "set takes NAME, --listen, --backend and --service; an address is tcp:HOST:PORT or unix:/PATH.\n\
               The server keeps it as a file of its own. register and unregister mean set and delete.",
        meaning: meaning::xinet,
        ..BARE
    },
    Command {
        name: "reload",
        arguments: "[NAME...]",
        operands: (0, MANY),
        group: Group::Configure,
        about: "make the server, or services, read their files again",
        help: "Without an operand the server reads its service files; a broken one is reported, and that\n\
               service keeps what it has. A service is told by its reload hook or its reload_signal.",
        meaning: meaning::reload,
        ..BARE
    },
    Command {
        name: "check",
        arguments: "[DIR|FILE]",
        operands: (0, 1),
        group: Group::Configure,
        about: "check service files; needs no server",
        help: "Without an operand it checks those of the server that a client would ask.",
        meaning: meaning::check,
        ..BARE
    },
    Command {
        name: "server",
        flags: &[
            valued(
                'c',
                "config-dir",
                "DIR",
                "read service files here (environment: ZINIT_CONFIG_DIR)",
            ),
            long(
                "log-level",
                "LEVEL",
                "error, warn, info, debug, trace or off (environment: ZINIT_LOG_LEVEL)",
            ),
            long(
                "access",
                "FILE",
                "who may do what is said here; /etc/zinit/access.toml if absent",
            ),
            plain(
                "pid1-mode",
                "use the directories and the socket of a whole machine",
            ),
        ],
        group: Group::Server,
        about: "run the server",
        help: "SIGTERM and SIGINT stop everything in order, a second one hurries; SIGHUP reloads.\n\
               The name zinit-server means the same.",
        meaning: meaning::server,
        ..BARE
    },
    Command {
        name: "init",
        arguments: "[-- COMMAND [ARGUMENT]...]",
        operands: (0, MANY),
        flags: &[
            switch('c', "container", "run a container, not a machine"),
            long(
                "config-dir",
                "DIR",
                "read service files here (environment: ZINIT_CONFIG_DIR)",
            ),
            long(
                "log-level",
                "LEVEL",
                "error, warn, info, debug, trace or off (environment: ZINIT_LOG_LEVEL)",
            ),
            long(
                "access",
                "FILE",
                "who may do what is said here; /etc/zinit/access.toml if absent",
            ),
            plain(
                "prefix",
                "begin lines of output with the service's name (container)",
            ),
            long(
                "grace",
                "DURATION",
                "all services together may take so long to stop (container: 10s, machine: 5m)",
            ),
        ],
        group: Group::Server,
        about: "run as PID 1 of a machine or a container",
        help: "COMMAND is the main command of a container, whose exit status becomes the container's.\n\
               The names init and zinit-pid1 mean the same. 'man zinit-init' has the kernel's words and the signals.",
        meaning: meaning::init,
        ..BARE
    },
    Command {
        name: "ping",
        group: Group::Server,
        about: "ask whether the server is there",
        meaning: meaning::ping,
        ..BARE
    },
    Command {
        name: "healthcheck",
        arguments: "[NAME]...",
        operands: (0, MANY),
        group: Group::Server,
        about: "exit with 0 if all services are well, 1 if not",
        help: "With names these have to run; without, none may be failed, blocked or still starting.",
        meaning: meaning::healthcheck,
        ..BARE
    },
    Command {
        name: "shutdown",
        arguments: "[CODE]",
        operands: (0, 1),
        flags: WAITING,
        group: Group::Server,
        about: "stop all services and the server, with this exit status",
        help: "As PID 1 of a machine it powers it off.",
        meaning: meaning::shutdown,
        ..BARE
    },
    Command {
        name: "poweroff",
        flags: ENDING,
        group: Group::Server,
        about: "stop all services and power the machine off",
        help: NOT_PID_1,
        meaning: meaning::poweroff,
        ..BARE
    },
    Command {
        name: "reboot",
        flags: ENDING,
        group: Group::Server,
        about: "stop all services and reboot the machine",
        help: NOT_PID_1,
        meaning: meaning::reboot,
        ..BARE
    },
    Command {
        name: "halt",
        flags: ENDING,
        group: Group::Server,
        about: "stop all services and halt the machine, with the power on",
        help: NOT_PID_1,
        meaning: meaning::halt,
        ..BARE
    },
    Command {
        name: "kexec",
        flags: ENDING,
        group: Group::Server,
        about: "stop all services and start the kernel loaded by kexec -l",
        help: NOT_PID_1,
        meaning: meaning::kexec,
        ..BARE
    },
    Command {
        name: "switch-root",
        arguments: "DIR [INIT]",
        operands: (1, 2),
        group: Group::Server,
        about: "go on from an initramfs to the root mounted on DIR",
        help: "Services stop, but those with survive_switch_root; then INIT (default /sbin/init) becomes PID 1.",
        meaning: meaning::switch_root,
        ..BARE
    },
    Command {
        name: "debug",
        arguments: "record|state|procs [NAME]",
        operands: (1, 2),
        group: Group::Server,
        about: "what the server did last, what it knows, or the processes of NAME",
        help: "record prints what the engine was told last and what it did, as a text that replays it. It\n\
               tells no programs, arguments or environment; send it along with a report of a bug.",
        meaning: meaning::debug,
        ..BARE
    },
    Command {
        name: "debug-state",
        group: Group::Server,
        about: "show all the server knows about its services",
        meaning: meaning::debug_state,
        ..BARE
    },
    Command {
        name: "debug-procs",
        arguments: "NAME",
        operands: (1, 1),
        group: Group::Server,
        about: "show a service's process tree",
        meaning: meaning::debug_procs,
        ..BARE
    },
    Command {
        name: "help",
        arguments: "[COMMAND]",
        operands: (0, 1),
        group: Group::Server,
        about: "print this, or the help of one command",
        meaning: meaning::help,
        ..BARE
    },
];

/// A command without operands, flags, and more to say: what most entries start from.
const BARE: Command = Command {
    name: "",
    aliases: &[],
    arguments: "",
    operands: (0, 0),
    flags: &[],
    group: Group::Look,
    about: "",
    help: "",
    meaning: meaning::list,
};

const ADD_FLAGS: &[Flag] = &[
    long("name", "NAME", "the service's name"),
    long("exec", "COMMAND", "what it runs"),
    long("dir", "DIR", "where it runs"),
    plain("oneshot", "it runs once and is done when it exits"),
    valued(
        'e',
        "env",
        "KEY=VALUE",
        "set a variable of its environment (may be repeated)",
    ),
    long("after", "NAME", "start after this one (may be repeated)"),
    long("requires", "NAME", "need this one (may be repeated)"),
    long("wants", "NAME", "start this one along (may be repeated)"),
    long(
        "conflicts",
        "NAME",
        "never run beside this one (may be repeated)",
    ),
    long(
        "restart",
        "POLICY",
        "always, on-failure or never (default on-failure)",
    ),
    long(
        "restart-delay",
        "MS",
        "first delay before a restart (default 1000)",
    ),
    long(
        "restart-delay-max",
        "MS",
        "longest delay before a restart (default 300000)",
    ),
    long(
        "max-restarts",
        "COUNT",
        "give up after so many in a row, 0 never (default 10)",
    ),
    plain(
        "persist",
        "keep it over restarts of the server; so without a flag, too",
    ),
    plain(
        "ephemeral",
        "write no file: it is there until the server ends",
    ),
];

/// The command called `name`, by its name or an alias.
pub fn command(name: &str) -> Option<&'static Command> {
    COMMANDS
        .iter()
        .find(|command| command.name == name || command.aliases.contains(&name))
}

const fn plain(name: &'static str, about: &'static str) -> Flag {
    Flag {
        short: None,
        long: name,
        value: None,
        about,
    }
}

const fn switch(letter: char, name: &'static str, about: &'static str) -> Flag {
    Flag {
        short: Some(letter),
        long: name,
        value: None,
        about,
    }
}

const fn long(name: &'static str, value: &'static str, about: &'static str) -> Flag {
    Flag {
        short: None,
        long: name,
        value: Some(value),
        about,
    }
}

const fn valued(
    letter: char,
    name: &'static str,
    value: &'static str,
    about: &'static str,
) -> Flag {
    Flag {
        short: Some(letter),
        long: name,
        value: Some(value),
        about,
    }
}

const XINET_FLAGS: &[Flag] = &[
    valued('l', "listen", "ADDRESS", "listen there (may be repeated)"),
    valued('b', "backend", "ADDRESS", "where the service listens"),
    long("service", "NAME", "the service to start and stop"),
    long(
        "connect-timeout",
        "SECONDS",
        "a client may wait so long for the service (default 30)",
    ),
    long(
        "idle-timeout",
        "SECONDS",
        "stop the service without a client for so long (default 0: never)",
    ),
    plain("single", "one client at a time"),
    plain("ephemeral", "keep it in memory until the server ends"),
];
