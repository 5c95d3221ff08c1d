//! Definitions that clients give, and their files: a server that is killed while it writes one, a disk
//! that is full, definitions in memory only, and files that are in each other's way.

#[path = "common/sandbox.rs"]
mod sandbox;

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use sandbox::{Connection, Sandbox, find_program, free_port, is_alive, wait_until};
use serde_json::{Value, json};

/// The file could not be written.
const PERSIST_FAILED: i64 = -32014;

/// There is no such service.
const NOT_FOUND: i64 = -32000;

fn is_open(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// What is sent for a service that sleeps for so many seconds.
fn sleeper(name: &str, seconds: u32) -> Value {
    json!({"config": {"service": {"name": name, "exec": format!("sleep {seconds}")}}})
}

/// The same, in memory only.
fn ephemeral(name: &str, seconds: u32) -> Value {
    let mut params = sleeper(name, seconds);
    params["ephemeral"] = true.into();
    params
}

/// What is sent for a proxy of nobody.
fn proxy(name: &str, port: u16) -> Value {
    json!({"name": name, "listen": format!("127.0.0.1:{port}"),
           "backend": "tcp:127.0.0.1:1", "service": "nobody"})
}

/// What a service is defined to run.
fn exec(sandbox: &Sandbox, name: &str) -> String {
    let definition = sandbox.ask("service.get", json!({"name": name}));
    definition["service"]["exec"].to_string()
}

/// The names of all proxies.
fn proxies(sandbox: &Sandbox) -> Value {
    sandbox.ask("xinet.list", Value::Null)
}

/// The directory of the services as the server sees it, who may have mounted something there.
fn seen_dir(sandbox: &Sandbox) -> PathBuf {
    let root = format!("/proc/{}/root", sandbox.server_pid());
    PathBuf::from(root + sandbox.services_dir().to_str().unwrap())
}

/// The names of the files there.
fn seen_files(sandbox: &Sandbox) -> Vec<String> {
    let entries = fs::read_dir(seen_dir(sandbox)).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// What a file there says.
fn seen(sandbox: &Sandbox, file: &str) -> String {
    fs::read_to_string(seen_dir(sandbox).join(file)).unwrap_or_default()
}

// A server that is killed.

/// Has the server be killed when it is about to rename a file. None, with a word, if that can't be.
fn kill_before_rename(sandbox: &Sandbox) -> Option<Child> {
    let Some(strace) = find_program("strace") else {
        println!("skipped: there is no strace");
        return None;
    };
    let mut tracer = Command::new(strace)
        .args(["-qq", "-f", "-e", "trace=rename,renameat,renameat2"])
        .args(["-e", "inject=rename,renameat,renameat2:signal=KILL"])
        .args(["-o", "/dev/null", "-p", &sandbox.server_pid().to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", sandbox.server_pid());
    let tracer_line = format!("TracerPid:\t{}\n", tracer.id());
    let mut ended = None;
    let settled = wait_until(|| {
        ended = tracer.try_wait().unwrap();
        let status = fs::read_to_string(&status).unwrap_or_default();
        ended.is_some() || status.contains(&tracer_line)
    });
    assert!(settled, "strace does nothing");
    if ended.is_some() {
        println!("skipped: strace may not look at the server");
        return None;
    }
    Some(tracer)
}

/// Asks for something that the server does not live to answer, and starts the next one.
fn ask_in_vain(sandbox: &mut Sandbox, method: &str, params: Value) -> bool {
    let Some(mut tracer) = kill_before_rename(sandbox) else {
        return false;
    };
    let pid = sandbox.server_pid();
    let mut asker = Connection::try_open(&sandbox.socket()).unwrap();
    asker.begin(method, params);
    assert_eq!(asker.line(), None, "nobody answers");
    assert!(wait_until(|| !is_alive(pid)), "the server was killed");
    sandbox.kill_server();
    tracer.wait().unwrap();
    sandbox.start();
    true
}

/// Killed with the new text in a draft: the old file counts, and the draft is in nobody's way.
#[test]
fn a_server_killed_before_it_renames_leaves_the_old_file() {
    let mut sandbox = Sandbox::new();
    sandbox.service("web", "exec = \"sleep 1000\"\n# the old one");
    sandbox.start();
    let before = seen(&sandbox, "web.toml");
    if !ask_in_vain(&mut sandbox, "service.set", sleeper("web", 2000)) {
        return;
    }
    assert_eq!(seen(&sandbox, "web.toml"), before);
    assert!(exec(&sandbox, "web").contains("1000"));
    sandbox.await_running("web");
    // A draft that the dead one has left is overwritten, and goes.
    sandbox.ask("service.set", sleeper("web", 3000));
    assert!(seen(&sandbox, "web.toml").contains("3000"));
    assert_eq!(seen_files(&sandbox), ["web.toml"]);
    sandbox.stop();
}

/// The same for a service and a proxy that had no file: they are not there.
#[test]
fn a_server_killed_before_it_renames_leaves_no_new_file() {
    let mut sandbox = Sandbox::new();
    sandbox.runs("other", "sleep 1000");
    sandbox.start();
    if !ask_in_vain(&mut sandbox, "service.set", sleeper("new", 2000)) {
        return;
    }
    let (code, ..) = sandbox.refused("service.status", json!({"name": "new"}));
    assert_eq!(code, NOT_FOUND);
    let port = free_port();
    assert!(ask_in_vain(&mut sandbox, "xinet.set", proxy("door", port)));
    assert_eq!(proxies(&sandbox), json!([]));
    assert!(!is_open(port));
    // What was left is no file of a service, and nothing is wrong with it.
    let names = seen_files(&sandbox);
    let drafts = names.iter().filter(|name| name.ends_with(".toml"));
    assert_eq!(drafts.collect::<Vec<_>>(), ["other.toml"]);
    sandbox.ask("service.set", sleeper("new", 2000));
    sandbox.ask("xinet.set", proxy("door", port));
    assert!(is_open(port));
    assert_eq!(
        seen_files(&sandbox),
        ["door.xinet.toml", "new.toml", "other.toml"]
    );
    sandbox.stop();
}

// A disk that is full.

/// A server whose directory of services is a disk of one mebibyte. None, with a word, if there can't
/// be one.
fn on_a_small_disk() -> Option<Sandbox> {
    let can_mount = Command::new("unshare")
        .args(["-m", "mount", "-t", "tmpfs", "tmpfs", "/tmp"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !can_mount.is_ok_and(|status| status.success()) {
        println!("skipped: this needs a mount of its own");
        return None;
    }
    let mut sandbox = Sandbox::new();
    sandbox.env("SMALL", sandbox.services_dir().to_str().unwrap());
    let mount = "mount -t tmpfs -o size=1m tmpfs \"$SMALL\" && exec \"$0\" \"$@\"";
    sandbox.wrap(&["unshare", "-m", "sh", "-c", mount]);
    sandbox.start();
    Some(sandbox)
}

/// Takes all room on that disk.
fn fill(sandbox: &Sandbox) {
    let path = seen_dir(sandbox).join("ballast");
    let mut left = 4 << 20;
    // Down to the last byte.
    let mut size = 65536;
    let mut file = fs::File::create(path).unwrap();
    while size > 0 {
        match std::io::Write::write_all(&mut file, &vec![b'x'; size]) {
            Ok(()) => left -= size,
            Err(_) => size /= 2,
        }
        assert!(left > 0, "the disk is larger than was asked for");
    }
}

/// Makes room.
fn empty(sandbox: &Sandbox) {
    fs::remove_file(seen_dir(sandbox).join("ballast")).unwrap();
}

/// With no room for its file, a definition changes nothing; with room again it does.
#[test]
fn a_full_disk_leaves_services_as_they_are() {
    let Some(mut sandbox) = on_a_small_disk() else {
        return;
    };
    sandbox.ask("service.set", sleeper("web", 1000));
    sandbox.await_running("web");
    sandbox.ask("service.set", ephemeral("memory", 1000));
    let (pid, text) = (sandbox.pid("web"), seen(&sandbox, "web.toml"));
    fill(&sandbox);
    for name in ["web", "new", "memory", "template@"] {
        let (code, message, _) = sandbox.refused("service.set", sleeper(name, 2000));
        assert_eq!(code, PERSIST_FAILED, "{name}: {message}");
        assert!(message.contains(&format!("{name}.toml")), "{message}");
    }
    assert_eq!(seen_files(&sandbox), ["ballast", "web.toml"]);
    assert_eq!(seen(&sandbox, "web.toml"), text);
    assert!(exec(&sandbox, "web").contains("1000"));
    assert!(exec(&sandbox, "memory").contains("1000"));
    assert_eq!(sandbox.status("memory")["ephemeral"], true);
    for name in ["new", "template@x"] {
        sandbox.refused("service.start", json!({"name": name}));
    }
    sandbox.ask("service.reload", Value::Null);
    sandbox.done("service.restart", "web");
    assert_ne!(sandbox.pid("web"), pid);
    assert!(exec(&sandbox, "web").contains("1000"));
    // What takes no room can be done.
    sandbox.ask("service.set", ephemeral("more", 1000));

    empty(&sandbox);
    for name in ["web", "new", "memory"] {
        sandbox.ask("service.set", sleeper(name, 2000));
        assert!(exec(&sandbox, name).contains("2000"));
    }
    assert_eq!(
        seen_files(&sandbox),
        ["memory.toml", "new.toml", "web.toml"]
    );
    assert_eq!(sandbox.status("memory")["ephemeral"], Value::Null);
    sandbox.stop();
}

/// The same for proxies: they listen where they did, and nowhere else.
#[test]
fn a_full_disk_leaves_proxies_as_they_are() {
    let Some(mut sandbox) = on_a_small_disk() else {
        return;
    };
    let [old, new, other] = [free_port(), free_port(), free_port()];
    sandbox.ask("xinet.set", proxy("door", old));
    let text = seen(&sandbox, "door.xinet.toml");
    fill(&sandbox);
    for (name, port) in [("door", new), ("other", other)] {
        let (code, message, _) = sandbox.refused("xinet.set", proxy(name, port));
        assert_eq!(code, PERSIST_FAILED, "{message}");
    }
    assert_eq!(proxies(&sandbox), json!(["door"]));
    assert_eq!(seen_files(&sandbox), ["ballast", "door.xinet.toml"]);
    assert_eq!(seen(&sandbox, "door.xinet.toml"), text);
    assert_eq!([old, new, other].map(is_open), [true, false, false]);
    empty(&sandbox);
    sandbox.ask("xinet.set", proxy("door", new));
    assert_eq!([old, new, other].map(is_open), [false, true, false]);
    sandbox.stop();
}

// In memory only.

/// It has no file, stays over reloads, and goes with the server.
#[test]
fn an_ephemeral_service_lives_as_long_as_the_server() {
    let mut sandbox = Sandbox::new();
    sandbox.runs("filed", "sleep 1000");
    sandbox.start();
    let added = sandbox.ask("service.set", ephemeral("memory", 1000));
    assert_eq!(added["path"], Value::Null, "{added}");
    sandbox.await_running("memory");
    let pid = sandbox.pid("memory");
    assert_eq!(sandbox.status("memory")["ephemeral"], true);
    assert_eq!(sandbox.status("filed")["ephemeral"], Value::Null);
    for _ in 0..2 {
        sandbox.ask("service.reload", Value::Null);
        assert_eq!(sandbox.pid("memory"), pid);
        assert_eq!(sandbox.status("memory")["ephemeral"], true);
    }
    assert_eq!(seen_files(&sandbox), ["filed.toml"]);
    sandbox.stop();
    sandbox.start();
    let (code, ..) = sandbox.refused("service.status", json!({"name": "memory"}));
    assert_eq!(code, NOT_FOUND);
    // One that was deleted does not come back, and its name may be had again.
    sandbox.ask("service.set", ephemeral("memory", 1000));
    sandbox.ask("service.delete", json!({"name": "memory"}));
    sandbox.ask("service.reload", Value::Null);
    let (code, ..) = sandbox.refused("service.status", json!({"name": "memory"}));
    assert_eq!(code, NOT_FOUND);
    sandbox.stop();
}

/// Over a service with a file it leaves the file alone, which counts again with the next server.
#[test]
fn an_ephemeral_definition_leaves_the_file_alone() {
    let mut sandbox = Sandbox::new();
    sandbox.service("web", "exec = \"sleep 1000\"\n# a remark");
    sandbox.start();
    sandbox.await_running("web");
    let (pid, text) = (sandbox.pid("web"), seen(&sandbox, "web.toml"));
    sandbox.ask("service.set", ephemeral("web", 2000));
    sandbox.ask("service.reload", Value::Null);
    assert!(exec(&sandbox, "web").contains("2000"));
    assert_eq!(sandbox.pid("web"), pid);
    assert_eq!(seen(&sandbox, "web.toml"), text);
    // Not even a file that is broken, or gone, has a say.
    sandbox.file("web.toml", "[service]\nname = \"web\"\nexec = 5");
    sandbox.ask("service.reload", Value::Null);
    assert!(exec(&sandbox, "web").contains("2000"));
    sandbox.remove_file("web");
    sandbox.ask("service.reload", Value::Null);
    assert!(exec(&sandbox, "web").contains("2000"));
    assert_eq!(sandbox.status("web")["ephemeral"], true);

    sandbox.file("web.toml", &text);
    sandbox.stop();
    sandbox.start();
    assert!(exec(&sandbox, "web").contains("1000"));
    // One that is to last takes the place of both.
    sandbox.ask("service.set", ephemeral("web", 2000));
    sandbox.ask("service.set", sleeper("web", 3000));
    assert_eq!(sandbox.status("web")["ephemeral"], Value::Null);
    assert!(seen(&sandbox, "web.toml").contains("3000"));
    sandbox.ask("service.reload", Value::Null);
    assert!(exec(&sandbox, "web").contains("3000"));
    sandbox.stop();
    sandbox.start();
    assert!(exec(&sandbox, "web").contains("3000"));
}

/// The same for proxies.
#[test]
fn an_ephemeral_proxy_lives_as_long_as_the_server() {
    let mut sandbox = Sandbox::started();
    let [filed, over, own] = [free_port(), free_port(), free_port()];
    let in_memory = |name: &str, port| {
        let mut params = proxy(name, port);
        params["ephemeral"] = true.into();
        params
    };
    sandbox.ask("xinet.set", proxy("filed", filed));
    let text = seen(&sandbox, "filed.xinet.toml");
    sandbox.ask("xinet.set", in_memory("filed", over));
    sandbox.ask("xinet.set", in_memory("own", own));
    for _ in 0..2 {
        assert_eq!([filed, over, own].map(is_open), [false, true, true]);
        assert_eq!(seen_files(&sandbox), ["filed.xinet.toml"]);
        assert_eq!(seen(&sandbox, "filed.xinet.toml"), text);
        sandbox.ask("service.reload", Value::Null);
    }
    sandbox.stop();
    sandbox.start();
    assert_eq!(proxies(&sandbox), json!(["filed"]));
    assert_eq!([filed, over, own].map(is_open), [true, false, false]);
    sandbox.ask("xinet.set", in_memory("filed", over));
    sandbox.ask("xinet.set", proxy("filed", own));
    sandbox.ask("service.reload", Value::Null);
    assert_eq!([filed, over, own].map(is_open), [false, false, true]);
    assert_ne!(seen(&sandbox, "filed.xinet.toml"), text);
    sandbox.ask("xinet.set", in_memory("filed", over));
    sandbox.ask("xinet.delete", json!({"name": "filed"}));
    sandbox.ask("service.reload", Value::Null);
    assert_eq!(proxies(&sandbox), json!([]));
    assert!(seen_files(&sandbox).is_empty());
}

// Files that are in each other's way.

/// The file of a proxy is called as the one of a service might be: neither takes the other's place.
#[test]
fn a_proxy_and_a_service_do_not_overwrite_each_other() {
    for first in ["service.set", "xinet.set"] {
        let mut sandbox = Sandbox::started();
        let port = free_port();
        let params = |method: &str| match method {
            "service.set" => sleeper("door.xinet", 1000),
            _ => proxy("door", port),
        };
        let second = match first {
            "service.set" => "xinet.set",
            _ => "service.set",
        };
        sandbox.ask(first, params(first));
        let is_taken = sandbox.rpc(second, params(second)).is_ok();
        sandbox.stop();
        sandbox.start();
        let is_there = [
            sandbox
                .rpc("service.status", json!({"name": "door.xinet"}))
                .is_ok(),
            proxies(&sandbox) == json!(["door"]),
        ];
        let lasts = match first {
            "service.set" => [true, is_taken],
            _ => [is_taken, true],
        };
        assert_eq!(is_there, lasts, "{first}, then the other");
    }
}

/// A file that another service is read from is not overwritten for the sake of its name.
#[test]
fn a_file_of_another_name_is_not_overwritten() {
    let mut sandbox = Sandbox::new();
    sandbox.file("b.toml", "[service]\nname = \"a\"\nexec = \"sleep 1000\"\n");
    sandbox.start();
    let is_taken = sandbox.rpc("service.set", sleeper("b", 2000)).is_ok();
    sandbox.stop();
    sandbox.start();
    assert!(exec(&sandbox, "a").contains("1000"));
    if is_taken {
        assert!(exec(&sandbox, "b").contains("2000"));
    }
}
