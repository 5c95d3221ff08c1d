//! Calls every method of the client library of zinit 0.3.9, one line for each: its name, `ok` and
//! what came, or `error` and the message.
//!
//! `oldclient SOCKET handle` by the blocking handle, `oldclient SOCKET client` by the async client;
//! `handle-proxies` and `client-proxies` for those about proxies; `newer` where files say, and
//! `failures` where services come to, what 0.3.9 did not know. The services it speaks of are those
//! of `tests/old_client.rs`.

use serde_json::json;
use zinit::client::client::{LogLevel, ServiceConfig, XinetConfig};
use zinit::{ZinitClient, ZinitHandle};

macro_rules! call {
    ($name:literal, $result:expr) => {
        match $result {
            Ok(value) => println!("{} ok {value:?}", $name),
            Err(error) => println!("{} error {:?}", $name, format!("{error:#}")),
        }
    };
}

/// The methods, which are called alike on both; what a call gives is brought about by `$wait`, and
/// definitions are handed over by `$hand`.
macro_rules! every_method {
    ($on:ident, $wait:ident, $hand:ident) => {
        call!("test_connection", $wait!($on.test_connection()));
        call!("discover", $wait!($on.discover()));
        call!("ping", $wait!($on.ping()));
        call!("list", $wait!($on.list()));
        call!("list_full", $wait!($on.list_full()));
        call!("status", $wait!($on.status("alpha")));
        call!("status of a failed one", $wait!($on.status("crash")));
        call!("status of a blocked one", $wait!($on.status("blocked")));
        call!("status of nobody", $wait!($on.status("nobody")));
        call!("status_full", $wait!($on.status_full("beta")));
        call!("status_full of a failed one", $wait!($on.status_full("crash")));
        call!("status_full of a blocked one", $wait!($on.status_full("blocked")));
        call!("status_full of one that exited", $wait!($on.status_full("once")));
        call!("status_full of a target", $wait!($on.status_full("t")));
        call!("stats", $wait!($on.stats("alpha")));
        call!("children", $wait!($on.children("kids")));
        call!("is_running", $wait!($on.is_running("alpha")));
        call!("is_running of nobody", $wait!($on.is_running("nobody")));
        call!("why", $wait!($on.why("blocked")));
        call!("why of a rival", $wait!($on.why("conf")));
        call!("tree", $wait!($on.tree()));
        call!("logs", $wait!($on.logs(Some("alpha"), Some(5))));
        call!("logs of all", $wait!($on.logs(None, None)));
        call!("logs_tail", $wait!($on.logs_tail(Some("alpha"), Some(5))));
        call!("logs_filter", $wait!($on.logs_filter(Some("alpha"), Some("stdout"), None, None)));
        call!("debug_state", $wait!($on.debug_state()));
        call!("debug_process_tree", $wait!($on.debug_process_tree("kids")));
        call!("service_get", $wait!($on.service_get("alpha")));
        call!("service_get with health", $wait!($on.service_get("probed")));
        call!("service_get of a target", $wait!($on.service_get("t")));
        let made = service("made", "sleep 1000");
        call!("service_set", $wait!($on.service_set($hand!(made))));
        let again = service("made", "sleep 2000");
        call!("service_set again", $wait!($on.service_set($hand!(again))));
        let wrong = service("a b", "sleep 1");
        call!("service_set of nonsense", $wait!($on.service_set($hand!(wrong))));
        call!("start", $wait!($on.start("made")));
        call!("restart", $wait!($on.restart("made")));
        call!("kill", $wait!($on.kill("made", Some("SIGWINCH"))));
        call!("kill without a signal", $wait!($on.kill("kids", None)));
        call!("kill with nonsense", $wait!($on.kill("made", Some("BOGUS"))));
        call!("stop", $wait!($on.stop("made")));
        call!("start of nobody", $wait!($on.start("nobody")));
        call!("service_delete", $wait!($on.service_delete("made")));
        call!("service_delete of a running one", $wait!($on.service_delete("alpha")));
        call!("reboot", $wait!($on.reboot()));
        call!("prepare_restart", $wait!($on.prepare_restart()));
        call!("shutdown", $wait!($on.shutdown()));
    };
}

macro_rules! proxies {
    ($on:ident, $socket:ident, $wait:ident, $hand:ident) => {
        call!("xinet_set", $wait!($on.xinet_set($hand!(proxy($socket)))));
        call!("xinet_list", $wait!($on.xinet_list()));
        call!("xinet_status", $wait!($on.xinet_status("px")));
        call!("xinet_status_all", $wait!($on.xinet_status_all()));
        call!("xinet_delete", $wait!($on.xinet_delete("px")));
        call!("xinet_delete of nobody", $wait!($on.xinet_delete("px")));
    };
}

fn service(name: &str, exec: &str) -> ServiceConfig {
    let definition = json!({"service": {"name": name, "exec": exec}});
    serde_json::from_value(definition).expect("a definition")
}

/// A proxy whose sockets lie beside the server's.
fn proxy(socket: &str) -> XinetConfig {
    let definition = json!({
        "name": "px",
        "listen": [format!("unix:{socket}.front")],
        "backend": format!("unix:{socket}.back"),
        "service": "once",
    });
    serde_json::from_value(definition).expect("a definition")
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [socket, api] = words.as_slice() else {
        panic!("oldclient SOCKET handle|client|handle-proxies|client-proxies|newer|failures");
    };
    match api.as_str() {
        "handle" => by_handle(socket, false),
        "client" => by_client(socket, false),
        "handle-proxies" => by_handle(socket, true),
        "client-proxies" => by_client(socket, true),
        "newer" => newer(socket),
        "failures" => failures(socket),
        other => panic!("no mode: {other}"),
    }
}

fn by_handle(socket: &str, only_proxies: bool) {
    let handle = ZinitHandle::with_socket_unchecked(socket).expect("a handle");
    let handle = handle.with_log_level(LogLevel::Silent);
    macro_rules! as_it_is {
        ($value:expr) => {
            $value
        };
    }
    if only_proxies {
        proxies!(handle, socket, as_it_is, as_it_is);
        return;
    }
    call!("with_socket", ZinitHandle::with_socket(socket).map(drop));
    call!("with_client", ZinitHandle::with_client(ZinitClient::unix(socket)).map(drop));
    every_method!(handle, as_it_is, as_it_is);
}

/// Services whose files say what 0.3.9 did not know.
fn newer(socket: &str) {
    let handle = ZinitHandle::with_socket_unchecked(socket).expect("a handle");
    call!("service_get of a later readiness", handle.service_get("readied"));
    call!("service_get of words", handle.service_get("words"));
    call!("service_get of a range", handle.service_get("range"));
    call!("status of a failed hook", handle.status("hooked"));
}

/// Services that failed as no service of 0.3.9 did.
fn failures(socket: &str) {
    let handle = ZinitHandle::with_socket_unchecked(socket).expect("a handle");
    call!("status_full of an early end", handle.status_full("early"));
    call!("status_full of a failed hook", handle.status_full("hooked"));
    call!("list_full with both", handle.list_full());
}

fn by_client(socket: &str, only_proxies: bool) {
    let client = ZinitClient::unix(socket).with_log_level(LogLevel::Silent);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    macro_rules! wait {
        ($future:expr) => {
            runtime.block_on($future)
        };
    }
    macro_rules! lend {
        ($value:expr) => {
            &$value
        };
    }
    if only_proxies {
        proxies!(client, socket, wait, lend);
        return;
    }
    every_method!(client, wait, lend);
}
