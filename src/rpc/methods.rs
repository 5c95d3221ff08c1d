//! Every method there is: what dispatch knows, what `rpc.discover` tells, what the man page says.

use serde_json::{Value, json};

/// A method.
#[derive(Debug)]
pub struct Method {
    /// Its name.
    pub name: &'static str,
    /// What it takes, by name.
    pub params: &'static [Param],
    /// What it gives.
    pub result: &'static str,
    /// What it does.
    pub about: &'static str,
}

/// A parameter.
#[derive(Debug)]
pub struct Param {
    /// Its name.
    pub name: &'static str,
    /// Its JSON type, as JSON Schema names it.
    pub kind: &'static str,
    /// Must it be there?
    pub required: bool,
    /// What it means.
    pub about: &'static str,
}

const fn param(
    name: &'static str,
    kind: &'static str,
    required: bool,
    about: &'static str,
) -> Param {
    Param {
        name,
        kind,
        required,
        about,
    }
}

const NAME: Param = param("name", "string", true, "the service");
const WAIT: Param = param(
    "wait",
    "boolean",
    false,
    "answer when it is done or has failed, not at once",
);
const TIMEOUT: Param = param(
    "timeout_ms",
    "integer",
    false,
    "with a wait: answer after this time at the latest",
);
const LINES: Param = param(
    "lines",
    "integer",
    false,
    "how many lines, the last ones; 100 if absent",
);
const NAMES: Param = param(
    "names",
    "array",
    false,
    "the services; all if empty or absent",
);
const STREAM: Param = param("stream", "string", false, "stdout, stderr or syslog only");
const SINCE: Param = param(
    "since",
    "integer",
    false,
    "not older than this, in Unix milliseconds",
);

macro_rules! method {
    ($name:literal, [$($param:expr),*], $result:literal, $about:literal) => {
        Method { name: $name, params: &[$($param),*], result: $result, about: $about }
    };
}

/// All methods, by name.
pub const METHODS: &[Method] = &[
    method!(
        "debug.process_tree",
        [NAME],
        "{output}",
        "The processes of a service, as text."
    ),
    method!(
        "debug.state",
        [],
        "{output}",
        "Every service with its links and processes, as text."
    ),
    method!(
        "events.follow",
        [NAMES],
        "{ok}, then notifications",
        "Make this connection a stream of events: events.state {service, from, to, state, timestamp_ms}, events.health {service, healthy, timestamp_ms}, events.removed {service, timestamp_ms}, and events.gap {lost}."
    ),
    method!(
        "logs.filter",
        [
            param(
                "service",
                "string",
                true,
                "the service; name is accepted too"
            ),
            STREAM,
            SINCE,
            param(
                "lines",
                "integer",
                false,
                "how many lines, the last ones; all if absent"
            )
        ],
        "[line]",
        "Lines of output that match, oldest first, as text."
    ),
    method!(
        "logs.follow",
        [
            NAMES,
            param(
                "lines",
                "integer",
                false,
                "how many lines of the past first; none if absent"
            ),
            STREAM,
            SINCE
        ],
        "{ok}, then notifications",
        "Make this connection a stream of lines: logs.line {content, service, stream, timestamp_ms}, and logs.gap {lost} if it is not read in time."
    ),
    method!(
        "logs.get",
        [
            param(
                "name",
                "string",
                false,
                "the service; all services if absent"
            ),
            LINES
        ],
        "[line]",
        "The last lines of output, oldest first, as text."
    ),
    method!(
        "logs.tail",
        [
            param(
                "name",
                "string",
                false,
                "the service; required unless names is there"
            ),
            NAMES,
            LINES,
            STREAM,
            SINCE
        ],
        "[{content, service, stream, timestamp_ms}]",
        "The last lines of output, oldest first."
    ),
    method!(
        "rpc.discover",
        [],
        "OpenRPC document",
        "This table, as an OpenRPC document."
    ),
    method!(
        "service.children",
        [NAME],
        "{children: [{memory_bytes, name, pid}]}",
        "The processes of a service but the main one."
    ),
    method!(
        "service.delete",
        [NAME, TIMEOUT],
        "{ok}",
        "Stop a service and all that require it, remove them and their files; answered when they are gone."
    ),
    method!(
        "service.delete_all",
        [WAIT, TIMEOUT],
        "{deleted, count}",
        "Delete every service that is not class system."
    ),
    method!(
        "service.get",
        [NAME],
        "service definition",
        "A service as it is configured, with every default."
    ),
    method!(
        "service.is_running",
        [NAME],
        "boolean",
        "Is it up? False for an unknown name."
    ),
    method!(
        "service.kill",
        [
            NAME,
            param(
                "signal",
                "string",
                false,
                "name or number; SIGTERM if absent"
            )
        ],
        "{ok}",
        "Send a signal to the service's process group; the restart policy applies to what comes of it."
    ),
    method!("service.list", [], "[name]", "All names, sorted."),
    method!(
        "service.list_full",
        [],
        "[{is_target, name, state, health}]",
        "All services with their states, sorted."
    ),
    method!(
        "service.reload",
        [
            param(
                "name",
                "string",
                false,
                "have this service read its own configuration anew, by its hook or signal; answered with {ok, state} when that is done"
            ),
            TIMEOUT
        ],
        "{added, removed, changed, config_errors, errors, warnings}",
        "Read the configuration directories anew and apply what changed."
    ),
    method!(
        "service.remove",
        [NAME, TIMEOUT],
        "{ok}",
        "The same as service.delete."
    ),
    method!(
        "service.restart",
        [NAME, WAIT, TIMEOUT],
        "{ok}",
        "Stop a service, dependents first, and bring it and those that were up back."
    ),
    method!(
        "service.set",
        [param(
            "config",
            "object",
            true,
            "service definition; its members may stand at top level"
        )],
        "{name, path, warnings}",
        "Add a service or replace its definition, and write its file."
    ),
    method!(
        "service.start",
        [
            NAME,
            param(
                "deps",
                "boolean",
                false,
                "and what it requires and wants; true if absent"
            ),
            WAIT,
            TIMEOUT
        ],
        "{ok}",
        "Bring a service up."
    ),
    method!(
        "service.start_all",
        [WAIT, TIMEOUT],
        "{started, count}",
        "Start every service with status start that is not class system."
    ),
    method!(
        "service.stats",
        [NAME],
        "{cpu_percent, memory_bytes, pid, cgroup: {memory_bytes, pids, cpu_usec, pressure: {cpu, memory, io}}}",
        "Memory and processor use of the main process; the latter since the last time it was asked for, or since its start. Of all its processes where it has a cgroup."
    ),
    method!(
        "service.status",
        [NAME],
        "{name, state, pid, exit_code, error, health: {state, failures, for_secs, latency_ms, last_error, last_error_ms}, status_text, doing}",
        "The state of a service."
    ),
    method!(
        "service.status_full",
        [NAME],
        "{name, is_target, state, dependencies, uptime_secs}",
        "The state of a service and of what it depends on."
    ),
    method!(
        "service.stop",
        [NAME, WAIT, TIMEOUT],
        "{ok}",
        "Bring a service down, dependents first."
    ),
    method!(
        "service.stop_all",
        [WAIT, TIMEOUT],
        "{stopped, count}",
        "Stop every service that is not class system."
    ),
    method!(
        "service.tree",
        [],
        "{ascii}",
        "All services with their links, as text."
    ),
    method!(
        "service.wait",
        [
            NAME,
            param("for", "string", true, "running, stopped or exited"),
            TIMEOUT
        ],
        "{ok, state}",
        "Change nothing; answer when it is so."
    ),
    method!(
        "service.why",
        [NAME],
        "{name, blocked, waiting_on, conflicts_with, port_conflict, process_conflict, root_causes, ascii}",
        "Why a service is not up."
    ),
    method!(
        "system.halt",
        [],
        "{ok}",
        "Stop everything and halt the machine, or end the container; an error unless the server is PID 1."
    ),
    method!(
        "system.kexec",
        [],
        "{ok}",
        "Stop everything and start the kernel that was loaded; an error unless the server is PID 1 of a machine."
    ),
    method!("system.ping", [], "{version}", "Is somebody there?"),
    method!(
        "system.poweroff",
        [],
        "{ok}",
        "Stop everything and switch the machine off, or end the container; an error unless the server is PID 1."
    ),
    method!("system.prepare_restart", [], "error", "Not there yet."),
    method!(
        "system.reboot",
        [],
        "{ok}",
        "Stop everything and restart the machine, or end the container; an error unless the server is PID 1."
    ),
    method!(
        "system.shutdown",
        [param(
            "code",
            "integer",
            false,
            "exit status of the server; 0 if absent"
        )],
        "{ok}",
        "Stop everything in order and end the server, or switch off the machine whose PID 1 it is; answered at once."
    ),
    method!(
        "system.switch_root",
        [
            param("root", "string", true, "where the new root is mounted"),
            param(
                "init",
                "string",
                false,
                "what becomes PID 1 there; /sbin/init if absent"
            )
        ],
        "{ok}",
        "Stop everything but what survives, and hand over from an initramfs to the real root."
    ),
];

/// The table as an OpenRPC document (<https://spec.open-rpc.org>).
#[must_use]
pub fn discover() -> Value {
    let params = |method: &Method| -> Vec<Value> {
        let one = |p: &Param| json!({"name": p.name, "required": p.required, "description": p.about, "schema": {"type": p.kind}});
        method.params.iter().map(one).collect()
    };
    let methods: Vec<Value> = METHODS
        .iter()
        .map(|method| {
            json!({
                "name": method.name,
                "description": method.about,
                "paramStructure": "by-name",
                "params": params(method),
                "result": {"name": method.result, "schema": {}},
            })
        })
        .collect();
    json!({
        "openrpc": "1.2.6",
        "info": {
            "title": "Zinit RPC API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": env!("CARGO_PKG_DESCRIPTION"),
            "license": {"name": "Apache-2.0"},
        },
        "methods": methods,
        "components": {"schemas": {}, "errors": {}},
    })
}
