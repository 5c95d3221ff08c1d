//! What can be asked. A request is named as its method is.

use super::macros::requests;
use super::{
    Added, Children, Definition, DeletedAll, Document, Done, Drawing, Goal, Granted, LogLine,
    LogStream, Output, Pong, ProxyAccount, ProxyDefinition, ProxyStatus, ReloadOutcome,
    ServiceInfo, StartedAll, Stats, Status, StatusFull, StoppedAll, WhyBlocked,
};

requests! {
    /// The processes of a service, as text.
    "debug.process_tree" => DebugProcessTree -> Output {
        /// The service.
        name: String,
    }

    /// What the engine was told last and what it did, as a text that replays it.
    "debug.record" => DebugRecord -> Output {}

    /// Every service with its links and processes, as text.
    "debug.state" => DebugState -> Output {}

    /// Make this connection a stream of events: changes of state and health.
    "events.follow" => EventsFollow -> Granted {
        /// The services; all if empty or absent.
        names?: Vec<String>,
    }

    /// Lines of output that match, oldest first, as text.
    "logs.filter" => LogsFilter -> Vec<String> {
        /// The service; `name` is accepted too.
        service: String,
        /// Of this stream only.
        stream?: LogStream,
        /// Not older than this, in Unix milliseconds.
        since~: u64,
        /// How many lines, the last ones; all if absent.
        lines~: u64,
    }

    /// Make this connection a stream of lines of output.
    "logs.follow" => LogsFollow -> Granted {
        /// The services; all if empty or absent.
        names?: Vec<String>,
        /// How many lines of the past first; none if absent.
        lines~: u64,
        /// Of this stream only.
        stream?: LogStream,
        /// Of the past, none older than this, in Unix milliseconds.
        since~: u64,
    }

    /// The last lines of output, oldest first, as text.
    "logs.get" => LogsGet -> Vec<String> {
        /// The service; all services if absent.
        name~: String,
        /// How many lines, the last ones; 100 if absent.
        lines~: u64,
    }

    /// The last lines of output, oldest first.
    "logs.tail" => LogsTail -> Vec<LogLine> {
        /// The service; required unless `names` is there.
        name~: String,
        /// The services; all if empty.
        names?: Vec<String>,
        /// How many lines, the last ones; 100 if absent.
        lines~: u64,
        /// Of this stream only.
        stream?: LogStream,
        /// Not older than this, in Unix milliseconds.
        since~: u64,
    }

    /// All methods and types, as an OpenRPC document.
    "rpc.discover" => RpcDiscover -> Document {}

    /// The processes of a service but the main one.
    "service.children" => ServiceChildren -> Children {
        /// The service.
        name: String,
    }

    /// Stop a service and all that require it, remove them and their files; answered when they are gone.
    "service.delete" => ServiceDelete -> Granted {
        /// The service.
        name: String,
        /// Answer after this time at the latest.
        timeout_ms?: u64,
    }

    /// Delete every service that is not class system.
    "service.delete_all" => ServiceDeleteAll -> DeletedAll {
        /// Answer when it is done or has failed, not at once.
        wait?: bool,
        /// With a wait: answer after this time at the latest.
        timeout_ms?: u64,
    }

    /// A service as it is configured, with every default.
    "service.get" => ServiceGet -> Definition {
        /// The service.
        name: String,
    }

    /// Is it up? False for an unknown name.
    "service.is_running" => ServiceIsRunning -> bool {
        /// The service.
        name: String,
    }

    /// Send a signal to the service's process group; the restart policy applies to what comes of it.
    "service.kill" => ServiceKill -> Granted {
        /// The service.
        name: String,
        /// Name or number; SIGTERM if absent.
        signal~: String,
    }

    /// All names, sorted.
    "service.list" => ServiceList -> Vec<String> {}

    /// All services with their states, sorted.
    "service.list_full" => ServiceListFull -> Vec<ServiceInfo> {}

    /// Read the configuration directories anew and apply what changed; or have one service read its own.
    "service.reload" => ServiceReload -> ReloadOutcome {
        /// This service, by its hook or signal; answered when that is done.
        name?: String,
        /// With a name: answer after this time at the latest.
        timeout_ms?: u64,
    }

    /// The same as service.delete.
    "service.remove" => ServiceRemove -> Granted {
        /// The service.
        name: String,
        /// Answer after this time at the latest.
        timeout_ms?: u64,
    }

    /// Stop a service, dependents first, and bring it and those that were up back.
    "service.restart" => ServiceRestart -> Done {
        /// The service.
        name: String,
        /// Answer when it is done or has failed, not at once.
        wait?: bool,
        /// With a wait: answer after this time at the latest.
        timeout_ms?: u64,
    }

    /// Add a service or replace its definition, and write its file unless it is ephemeral.
    "service.set" => ServiceSet -> Added {
        /// The definition; its members may stand at top level.
        config: Definition,
        /// Keep it in memory, and write no file.
        ephemeral?: bool,
    }

    /// Bring a service up.
    "service.start" => ServiceStart -> Done {
        /// The service.
        name: String,
        /// And what it requires and wants; true if absent.
        deps?: bool,
        /// Answer when it is done or has failed, not at once.
        wait?: bool,
        /// With a wait: answer after this time at the latest.
        timeout_ms?: u64,
    }

    /// Start every service with status start that is not class system.
    "service.start_all" => ServiceStartAll -> StartedAll {
        /// Answer when it is done or has failed, not at once.
        wait?: bool,
        /// With a wait: answer after this time at the latest.
        timeout_ms?: u64,
    }

    /// Memory and processor use of a service.
    "service.stats" => ServiceStats -> Stats {
        /// The service.
        name: String,
    }

    /// The state of a service.
    "service.status" => ServiceStatus -> Status {
        /// The service.
        name: String,
    }

    /// The state of a service and of what it depends on.
    "service.status_full" => ServiceStatusFull -> StatusFull {
        /// The service.
        name: String,
    }

    /// Bring a service down, dependents first.
    "service.stop" => ServiceStop -> Done {
        /// The service.
        name: String,
        /// Answer when it is done or has failed, not at once.
        wait?: bool,
        /// With a wait: answer after this time at the latest.
        timeout_ms?: u64,
    }

    /// Stop every service that is not class system.
    "service.stop_all" => ServiceStopAll -> StoppedAll {
        /// Answer when it is done or has failed, not at once.
        wait?: bool,
        /// With a wait: answer after this time at the latest.
        timeout_ms?: u64,
    }

    /// All services with their links, as text.
    "service.tree" => ServiceTree -> Drawing {}

    /// Change nothing; answer when it is so.
    "service.wait" => ServiceWait -> Done {
        /// The service.
        name: String,
        /// What is waited for.
        r#for: Goal,
        /// Answer after this time at the latest.
        timeout_ms?: u64,
    }

    /// Why a service is not up.
    "service.why" => ServiceWhy -> WhyBlocked {
        /// The service.
        name: String,
    }

    /// Stop everything and halt the machine, or end the container; an error unless the server is PID 1.
    "system.halt" => SystemHalt -> Granted {}

    /// Stop everything and start the kernel that was loaded; an error unless the server is PID 1 of a
    /// machine.
    "system.kexec" => SystemKexec -> Granted {}

    /// Is somebody there?
    "system.ping" => SystemPing -> Pong {}

    /// Stop everything and switch the machine off, or end the container; an error unless the server is
    /// PID 1.
    "system.poweroff" => SystemPoweroff -> Granted {}

    /// Not there yet.
    "system.prepare_restart" => SystemPrepareRestart -> Granted {}

    /// Stop everything and restart the machine, or end the container; an error unless the server is
    /// PID 1.
    "system.reboot" => SystemReboot -> Granted {}

    /// Stop everything in order and end the server, or switch off the machine whose PID 1 it is; answered
    /// at once.
    "system.shutdown" => SystemShutdown -> Granted {
        /// Exit status of the server; 0 if absent.
        code?: u8,
    }

    /// Stop everything but what survives, and hand over from an initramfs to the real root.
    "system.switch_root" => SystemSwitchRoot -> Granted {
        /// Where the new root is mounted.
        root: String,
        /// What becomes PID 1 there; /sbin/init if absent.
        init~: String,
    }

    /// Take a proxy away, its connections, and its file.
    "xinet.delete" => XinetDelete -> Granted {
        /// The proxy.
        name: String,
    }

    /// The names of all proxies, sorted.
    "xinet.list" => XinetList -> Vec<String> {}

    /// Add a proxy or replace its definition, and write its file unless it is ephemeral.
    "xinet.set" => XinetSet -> Granted {
        /// The definition; its members may stand at top level.
        config: ProxyDefinition,
        /// Keep it in memory, and write no file.
        ephemeral?: bool,
    }

    /// Whether a proxy listens, and for how many.
    "xinet.status" => XinetStatus -> ProxyStatus {
        /// The proxy.
        name: String,
    }

    /// All proxies with what they have done.
    "xinet.status_all" => XinetStatusAll -> Vec<ProxyAccount> {}
}
