//! What requests are answered with.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Declared;
use super::macros::{objects, tagged, words};

words! { WORDS:
    /// The states of a service.
    Word {
        /// Down.
        Inactive = "inactive",
        /// Held back.
        Blocked = "blocked",
        /// On its way up.
        Starting = "starting",
        /// Up.
        Running = "running",
        /// On its way down.
        Stopping = "stopping",
        /// Ended well, or as told.
        Exited = "exited",
        /// Ended badly, or can't start.
        Failed = "failed",
    }

    /// What the probes of a service say.
    HealthWord {
        /// Nothing yet.
        Unknown = "unknown",
        /// All is well.
        Healthy = "healthy",
        /// So many in a row failed.
        Unhealthy = "unhealthy",
    }

    /// What a service says it is doing (`sd_notify(3)`).
    Doing {
        /// It reads its configuration anew.
        Reloading = "reloading",
        /// It is about to end.
        Stopping = "stopping",
    }

    /// What one service is to another.
    DependencyType {
        /// Started only while that is up.
        Requires = "requires",
        /// Started after that.
        After = "after",
        /// That is started along.
        Wants = "wants",
        /// Never up at the same time.
        Conflicts = "conflicts",
    }

    /// Where a line was written.
    LogStream {
        /// Standard output.
        Stdout = "stdout",
        /// Standard error.
        Stderr = "stderr",
        /// `/dev/log`.
        Syslog = "syslog",
    }

    /// What can be waited for.
    Goal {
        /// It is running or, if it is a oneshot, has exited with success.
        Running = "running",
        /// It has no process, and is not going to be restarted.
        Stopped = "stopped",
        /// Its process has ended, whatever comes next.
        Exited = "exited",
    }

    /// Why a wait ended otherwise.
    NotDoneWord {
        /// It failed.
        Failed = "failed",
        /// It is held back by what will not pass by itself.
        Blocked = "blocked",
        /// A later request wants otherwise.
        Superseded = "superseded",
        /// It was removed.
        Removed = "removed",
        /// The time was over.
        Timeout = "timeout",
    }
}

tagged! { TAGGED:
    /// The state of a service. A pid of 0 stands for no process.
    State by "state" {
        /// Down.
        Inactive = "inactive" {},
        /// Held back.
        Blocked = "blocked" {
            /// By these services; by something else if there are none.
            waiting_on: Vec<String>,
        },
        /// On its way up.
        Starting = "starting" {
            /// The main process.
            pid: i32,
        },
        /// Up.
        Running = "running" {
            /// The main process.
            pid: i32,
        },
        /// On its way down.
        Stopping = "stopping" {
            /// The main process.
            pid: i32,
        },
        /// Ended well, or as told.
        Exited = "exited" {
            /// The exit status; none if a signal ended it.
            exit_code: Option<i32>,
        },
        /// Ended badly, or can't start.
        Failed = "failed" {
            /// Why, as far as known.
            reason: Option<Reason>,
        },
    }

    /// Why a service failed. The types are those that clients of zinit 0.3.9 know.
    Reason by "type" {
        /// It exited with this status.
        ExitCode = "exit_code" {
            /// The exit status.
            code: i32,
        },
        /// It was killed by a signal.
        Signal = "signal" {
            /// The number of the signal.
            signal: i32,
            /// `out_of_memory` if the kernel killed it for that.
            cause?: String,
        },
        /// It took too long to start.
        StartTimeout = "start_timeout" {},
        /// It did not end, though it was killed.
        StopTimeout = "stop_timeout" {},
        /// Probes said that it is not well.
        HealthCheckFailed = "health_check_failed" {
            /// So many in a row.
            attempts: u32,
        },
        /// Its program could not be started, or something else is wrong that zinit 0.3.9 had no word for.
        SpawnError = "spawn_error" {
            /// What could not be done.
            message: String,
            /// `hook_failed`, `not_ready`, `watchdog` or `cycle`, if it is one of these.
            cause?: String,
            /// Which hook.
            hook?: String,
        },
        /// It requires a service that does not exist.
        MissingDependency = "missing_dependency" {
            /// The name that nothing has.
            dependency: String,
        },
    }
}

objects! { OBJECTS:
    /// Somebody is there.
    Pong {
        /// The version of the server.
        version: String,
    }

    /// It is so.
    Done {
        /// True.
        ok: bool,
        /// After a wait: the word of the state, or `removed`.
        state?: String,
    }

    /// What was asked for is done, or begun.
    Granted {
        /// True.
        ok: bool,
    }

    /// What a wait that ended otherwise has for data.
    NotDone {
        /// How it ended.
        outcome: NotDoneWord,
        /// The word of the state, or `removed`.
        state: String,
    }

    /// A service in a list.
    ServiceInfo {
        /// Its name.
        name: String,
        /// Its state.
        state: State,
        /// Has it no process of its own?
        is_target: bool,
        /// If it is probed: what the probes say.
        health?: HealthWord,
    }

    /// A service as it is.
    Status {
        /// Its name.
        name: String,
        /// Its state.
        state: Word,
        /// Its main process; 0 if there is none.
        pid: i32,
        /// The exit status, where the state is about one.
        exit_code?: i32,
        /// What is wrong, in words.
        error?: String,
        /// If it is probed: what came of that.
        health?: HealthStatus,
        /// What it says of itself.
        status_text?: String,
        /// What it says it is doing.
        doing?: Doing,
        /// Where its sockets listen.
        listen?: Vec<String>,
        /// True if the next connection to one of them starts it.
        awaits_connection?: bool,
        /// True if its definition is in memory only.
        ephemeral?: bool,
    }

    /// What came of probes.
    HealthStatus {
        /// In a word.
        state: HealthWord,
        /// Failures in a row.
        failures: u32,
        /// So it has been for so many seconds.
        for_secs?: u64,
        /// What the last probe took, in milliseconds.
        latency_ms?: u64,
        /// What was wrong with the last one that failed.
        last_error?: String,
        /// When that was, in Unix milliseconds.
        last_error_ms?: u64,
    }

    /// A service and what it depends on.
    StatusFull {
        /// Its name.
        name: String,
        /// Its state.
        state: State,
        /// Has it no process of its own?
        is_target: bool,
        /// What it depends on, as far as that exists; conflicts are not among it.
        dependencies: Vec<DependencyInfo>,
        /// How long it has been running.
        uptime_secs: Option<u64>,
    }

    /// A dependency.
    DependencyInfo {
        /// The other service.
        name: String,
        /// What it is to this one.
        dep_type: DependencyType,
        /// Its state.
        state: State,
        /// Does it let this one start?
        satisfied: bool,
    }

    /// Why a service is not up.
    WhyBlocked {
        /// Its name.
        name: String,
        /// Is it held back?
        blocked: bool,
        /// What it waits for.
        waiting_on: Vec<String>,
        /// What is up that may not be at the same time.
        conflicts_with: Vec<String>,
        /// Who has its port, in words.
        port_conflict?: String,
        /// Which processes are in its way.
        process_conflict?: ProcessConflict,
        /// The ways to what is really wrong, in words.
        root_causes: Vec<String>,
        /// All of it, as text.
        ascii: String,
    }

    /// Processes in the way of a service.
    ProcessConflict {
        /// The filter that they match.
        filter: String,
        /// They.
        processes: Vec<ProcessInfo>,
    }

    /// A process in the way.
    ProcessInfo {
        /// Its number.
        pid: i32,
        /// Its name.
        name: String,
        /// Its command line.
        cmdline: String,
    }

    /// What a service uses. All is 0 if it has no process.
    Stats {
        /// Its main process.
        pid: i32,
        /// Memory of the main process.
        memory_bytes: u64,
        /// Processor use of the main process since the last time that was asked for; 100 is one processor.
        cpu_percent: f64,
        /// Of all its processes, where it has a cgroup.
        cgroup?: CgroupStats,
    }

    /// What the processes of a service use together, as far as the kernel tells.
    CgroupStats {
        /// Memory.
        memory_bytes?: u64,
        /// Processes and threads.
        pids?: u64,
        /// Processor time in microseconds.
        cpu_usec?: u64,
        /// How much of the last ten seconds something waited.
        pressure?: Pressure,
    }

    /// In percent, how much of the last ten seconds something waited.
    Pressure {
        /// For a processor.
        cpu?: f64,
        /// For memory.
        memory?: f64,
        /// For a disk.
        io?: f64,
    }

    /// The processes of a service but the main one.
    Children {
        /// They.
        children: Vec<ChildInfo>,
    }

    /// A process of a service.
    ChildInfo {
        /// Its number.
        pid: i32,
        /// Its name.
        name: String,
        /// Its memory.
        memory_bytes: u64,
    }

    /// A drawing.
    Drawing {
        /// As text.
        ascii: String,
    }

    /// Something for people.
    Output {
        /// As text.
        output: String,
    }

    /// What came of `service.set`.
    Added {
        /// The name of the service.
        name: String,
        /// The file that was written, unless it is ephemeral.
        path?: String,
        /// What is not as one might think, in words.
        warnings: Vec<String>,
    }

    /// What came of reading the files anew.
    Reloaded {
        /// Services that are new.
        added: Vec<String>,
        /// Services that are gone.
        removed: Vec<String>,
        /// Services that are otherwise now.
        changed: Vec<String>,
        /// Each service that requires what does not exist, with the name of that.
        config_errors: Vec<[String; 2]>,
        /// Files that can't be used, and why.
        errors: Vec<String>,
        /// What is odd in files.
        warnings: Vec<String>,
    }

    /// A proxy as it is meant. Addresses are `tcp:HOST:PORT` or `unix:/PATH`.
    ProxyDefinition {
        /// Its name.
        name: String,
        /// Where it listens.
        listen: Vec<String>,
        /// Where the service listens.
        backend: String,
        /// The service it starts and stops.
        service: String,
        /// Seconds a client may wait for the service; 30 if absent.
        connect_timeout?: u64,
        /// Seconds without a client after which the service is stopped; 0 or absent: never.
        idle_timeout?: u64,
        /// One client at a time; others are turned away.
        single_connection?: bool,
    }

    /// Whether a proxy listens, and for how many.
    ProxyStatus {
        /// Its name.
        name: String,
        /// Does it listen everywhere it is to?
        running: bool,
        /// Clients it has.
        connections: u64,
        /// The same.
        active_connections: u64,
    }

    /// A proxy, and what it has done.
    ProxyAccount {
        /// Its name.
        name: String,
        /// Where it listens: addresses with `, ` between them.
        listen: String,
        /// Where the service listens.
        backend: String,
        /// The service it starts and stops.
        service: String,
        /// Does it listen everywhere it is to?
        running: bool,
        /// Clients it has.
        active_connections: u64,
        /// Clients it has had.
        total_connections: u64,
        /// Bytes that clients sent.
        bytes_to_backend: u64,
        /// Bytes that clients were sent.
        bytes_from_backend: u64,
    }

    /// What came of `service.start_all`.
    StartedAll {
        /// The services.
        started: Vec<String>,
        /// So many.
        count: u64,
        /// After a wait: each that did not come about, and why.
        failed?: Vec<[String; 2]>,
    }

    /// What came of `service.stop_all`.
    StoppedAll {
        /// The services.
        stopped: Vec<String>,
        /// So many.
        count: u64,
        /// After a wait: each that did not come about, and why.
        failed?: Vec<[String; 2]>,
    }

    /// What came of `service.delete_all`.
    DeletedAll {
        /// The services.
        deleted: Vec<String>,
        /// So many.
        count: u64,
        /// After a wait: each that did not come about, and why.
        failed?: Vec<[String; 2]>,
    }
}

/// The definition of a service or a target: sections and keys as in `zinit-service(5)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Definition(pub Value);

impl Declared for Definition {
    const DECLARATION: &'static str = "open Definition: #The definition of a service or a target: \
                                       sections and keys as in zinit-service(5).";
}

/// An OpenRPC document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Document(pub Value);

impl Declared for Document {
    const DECLARATION: &'static str = "open Document: #An OpenRPC document.";
}

/// What `service.reload` is answered with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ReloadOutcome {
    /// Of the files.
    Files(Reloaded),
    /// Of one service.
    Service(Done),
}

impl Declared for ReloadOutcome {
    const DECLARATION: &'static str = "either ReloadOutcome: #Of the files, or of one service.\n\
                                       =Reloaded: #\n=Done: #";
}

pub(super) const OTHERS: &[&str] = &[
    Definition::DECLARATION,
    Document::DECLARATION,
    ReloadOutcome::DECLARATION,
];
