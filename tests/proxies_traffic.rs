//! What goes through proxies (`xinet.*`), byte for byte, with many clients, odd ones and a real server
//! behind them; and what all that costs.

#[path = "common/dial.rs"]
mod dial;
#[path = "common/sandbox.rs"]
mod sandbox;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::thread;

use dial::{
    account, await_active, dial, dial_at, door, echoes, exchange, free_port, is_turned_away, with,
};
use sandbox::{PATIENCE, Sandbox, find_program, quoted, wait_until};
use serde_json::json;

/// A service that has nothing to do with the backend: the tests listen there themselves.
const WAITS: &str = "exec = [\"sleep\", \"1000\"]\nstatus = \"stop\"";

/// A server with the service `plain`, which is up when it is started.
fn with_plain() -> Sandbox {
    let mut sandbox = Sandbox::new();
    sandbox.service("plain", WAITS);
    sandbox.start();
    sandbox
}

/// A program that is ready when the file `go` is there.
fn waits_for_go() -> String {
    let exec = "while ! test -e $DIR/go; do sleep 0.02; done; echo go; exec sleep 1000";
    let exec = quoted(exec);
    format!("exec = {exec}\nstatus = \"stop\"\n[readiness]\ntype = \"log\"\ntext = \"go\"")
}

/// Resident memory of the server in KiB.
fn memory(sandbox: &Sandbox) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", sandbox.server_pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.unwrap()
        .split_ascii_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

/// Bytes that look like nothing else: each place has its own.
fn bytes(count: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()
    });
    words.flatten().take(count).collect()
}

/// A real server behind a proxy: whoever comes while it starts is served, and it goes when nobody
/// has been there for a while.
#[test]
fn nginx_is_started_by_its_first_client_and_stopped_after_the_last() {
    let Some(nginx) = find_program("nginx") else {
        println!("skipped: nginx is not installed");
        return;
    };
    const PAGE: &str = "a page of forty bytes, or about as many";
    let mut sandbox = Sandbox::new();
    let (dir, port, backend) = (sandbox.text(""), free_port(), free_port());
    let user = if nix::unistd::geteuid().is_root() {
        "user root;"
    } else {
        ""
    };
    let config = format!(
        "{user} worker_processes 1; pid {dir}/nginx.pid; error_log stderr notice; daemon off;\n\
         events {{}}\nhttp {{ access_log off; \
         client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3; \
         uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;\n\
         server {{ listen 127.0.0.1:{backend}; location / {{ return 200 \"{PAGE}\"; }} }} }}\n"
    );
    fs::write(sandbox.path("nginx.conf"), config).unwrap();
    let exec = json!([
        nginx,
        "-e",
        "stderr",
        "-c",
        sandbox.text("nginx.conf"),
        "-p",
        dir
    ]);
    let body = format!(
        "exec = {exec}\nstatus = \"stop\"\n[lifecycle]\nstop_signal = \"SIGQUIT\"\nrestart = \"never\""
    );
    sandbox.service("nginx", &body);
    sandbox.start();
    let params = door(port, &format!("tcp:127.0.0.1:{backend}"), "nginx");
    sandbox.ask("xinet.set", with(params, "idle_timeout", 1));
    let get = move || {
        let mut stream = dial(port);
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    };
    let is_right = |answer: std::io::Result<String>| {
        answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200") && answer.ends_with(PAGE))
    };
    for clients in [1, 200] {
        assert_eq!(sandbox.pid("nginx"), 0);
        let threads: Vec<_> = (0..clients).map(|_| thread::spawn(get)).collect();
        let answers = threads.into_iter().map(|one| one.join().unwrap());
        let right = answers
            .filter_map(|answer| is_right(answer).then_some(()))
            .count();
        assert_eq!(right, clients);
        assert!(
            wait_until(|| sandbox.pid("nginx") == 0),
            "{}",
            sandbox.log()
        );
    }
    let starts = sandbox.log().matches("proxy door: starts nginx").count();
    assert_eq!(starts, 2, "{}", sandbox.log());
}

/// Each side may end before the other has said a word.
#[test]
fn each_side_may_end_first() {
    let sandbox = with_plain();
    let listener = UnixListener::bind(sandbox.path("backend")).unwrap();
    let port = free_port();
    let backend = format!("unix:{}", sandbox.text("backend"));
    sandbox.ask("xinet.set", door(port, &backend, "plain"));
    let whole = |from: &mut dyn Read| {
        let mut text = String::new();
        from.read_to_string(&mut text).unwrap();
        text
    };
    // The client asks, ends, and is answered.
    let mut client = dial(port);
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let (mut behind, _) = listener.accept().unwrap();
    assert_eq!(whole(&mut behind), "question");
    behind.write_all(b"answer").unwrap();
    drop(behind);
    assert_eq!(whole(&mut client), "answer");
    // The backend greets, ends, and listens on.
    let mut client = dial(port);
    let (mut behind, _) = listener.accept().unwrap();
    behind.write_all(b"greeting").unwrap();
    behind.shutdown(Shutdown::Write).unwrap();
    assert_eq!(whole(&mut client), "greeting");
    client.write_all(b"farewell").unwrap();
    drop(client);
    assert_eq!(whole(&mut behind), "farewell");
    // It ends at once, with nothing said.
    let client = dial(port);
    drop(listener.accept().unwrap());
    assert!(is_turned_away(&client));
    drop(client);
    await_active(&sandbox, "door", 0);
}

/// Fifty megabytes each way at once arrive as they were sent.
#[test]
fn much_goes_both_ways_at_once() {
    const MUCH: usize = 50_000_000;
    let sandbox = with_plain();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let backend = format!("tcp:{}", listener.local_addr().unwrap());
    let path = sandbox.path("door");
    let listen = format!("unix:{}", path.display());
    sandbox.ask(
        "xinet.set",
        with(door(1, &backend, "plain"), "listen", listen),
    );
    let before = memory(&sandbox);
    let client = dial_at(&path);
    let (behind, _) = listener.accept().unwrap();
    behind.set_read_timeout(Some(PATIENCE)).unwrap();
    let (up, down) = (bytes(MUCH, 7), bytes(MUCH, 11));
    thread::scope(|scope| {
        scope.spawn(|| {
            (&client).write_all(&up).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        scope.spawn(|| {
            (&behind).write_all(&down).unwrap();
            behind.shutdown(Shutdown::Write).unwrap();
        });
        let above = scope.spawn(|| {
            let mut got = Vec::with_capacity(MUCH);
            (&behind).read_to_end(&mut got).unwrap();
            got == up
        });
        let mut got = Vec::with_capacity(MUCH);
        (&client).read_to_end(&mut got).unwrap();
        assert!(got == down, "{} bytes, and not the right ones", got.len());
        assert!(above.join().unwrap());
    });
    await_active(&sandbox, "door", 0);
    let told = account(&sandbox, "door");
    assert_eq!(told["bytes_to_backend"], MUCH, "{told}");
    assert_eq!(told["bytes_from_backend"], MUCH, "{told}");
    let after = memory(&sandbox);
    assert!(after < before + 4096, "{before} KiB, then {after} KiB");
}

/// A backend that sends without end to clients that never read.
fn floods() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || while (&stream).write_all(&[b'x'; 65536]).is_ok() {});
        }
    });
    format!("tcp:{address}")
}

/// Who never reads costs the server no memory and others nothing: not even many of them where there
/// are few descriptors.
#[test]
fn readers_that_never_read_are_in_nobodys_way() {
    const IDLE: u64 = 100;
    // An eighth of the descriptors is for links, and half of that for one proxy of several.
    const SERVED: u64 = 63;
    let mut sandbox = Sandbox::new();
    sandbox.wrap(&["sh", "-c", "ulimit -n 1024; exec \"$0\" \"$@\""]);
    sandbox.service("plain", WAITS);
    sandbox.start();
    let (port, other) = (free_port(), free_port());
    sandbox.ask(
        "xinet.set",
        with(door(other, &echoes(), "plain"), "name", "other"),
    );
    sandbox.ask("xinet.set", door(port, &floods(), "plain"));
    let before = memory(&sandbox);
    let clients: Vec<TcpStream> = (0..IDLE).map(|_| dial(port)).collect();
    await_active(&sandbox, "door", SERVED);
    // Until no more can be taken.
    let moved = || {
        account(&sandbox, "door")["bytes_from_backend"]
            .as_u64()
            .unwrap()
    };
    let mut last = 0;
    assert!(wait_until(
        || std::mem::replace(&mut last, moved()) == last && last > 0
    ));
    assert_eq!(exchange(dial(other), "word"), "word");
    let after = memory(&sandbox);
    assert!(after < before + 4096, "{before} KiB, then {after} KiB");
    drop(clients);
    await_active(&sandbox, "door", 0);
}

/// A thousand clients that are there at the same time.
#[test]
fn a_thousand_clients_at_once() {
    let sandbox = with_plain();
    let port = free_port();
    sandbox.ask("xinet.set", door(port, &echoes(), "plain"));
    let mut clients: Vec<TcpStream> = (0..1000).map(|_| dial(port)).collect();
    await_active(&sandbox, "door", 1000);
    for (place, client) in clients.iter_mut().enumerate() {
        client.write_all(format!("{place:04}").as_bytes()).unwrap();
    }
    for (place, client) in clients.iter_mut().enumerate() {
        let mut back = [0; 4];
        client.read_exact(&mut back).unwrap();
        assert_eq!(back, format!("{place:04}").as_bytes());
    }
    drop(clients);
    await_active(&sandbox, "door", 0);
    assert_eq!(account(&sandbox, "door")["total_connections"], 1000);
}

/// One at a time, if that is how it shall be: the second one is turned away, and one after the first
/// is not.
#[test]
fn one_client_at_a_time() {
    let sandbox = with_plain();
    let port = free_port();
    sandbox.ask(
        "xinet.set",
        with(door(port, &echoes(), "plain"), "single_connection", true),
    );
    let mut first = dial(port);
    first.write_all(b"x").unwrap();
    first.read_exact(&mut [0]).unwrap();
    assert!(is_turned_away(dial(port)));
    assert_eq!(exchange(first, "word"), "word");
    await_active(&sandbox, "door", 0);
    assert_eq!(exchange(dial(port), "word"), "word");
    let told = account(&sandbox, "door");
    assert_eq!(told["total_connections"], 2, "{told}");
}

/// Where nobody listens a connection can, by chance, find itself. Here it has hardly another choice.
#[test]
fn a_backend_is_never_the_connection_itself() {
    let alone = ["-n", "ip", "link", "set", "lo", "up"];
    let can = find_program("ip").is_some()
        && Command::new("unshare")
            .args(alone)
            .status()
            .is_ok_and(|status| status.success());
    if !can {
        println!("skipped: this needs ip and a network of its own");
        return;
    }
    let mut sandbox = Sandbox::new();
    let few = "ip link set lo up && echo 40000 40001 > /proc/sys/net/ipv4/ip_local_port_range && \
               exec \"$0\" \"$@\"";
    sandbox.wrap(&["unshare", "-n", "sh", "-c", few]);
    sandbox.service("plain", WAITS);
    sandbox.start();
    let listen = format!("unix:{}", sandbox.text("door"));
    sandbox.ask(
        "xinet.set",
        json!({"name": "door", "listen": listen, "backend": "tcp:127.0.0.1:40000",
               "service": "plain", "connect_timeout": 2}),
    );
    let mut client = dial_at(&sandbox.path("door"));
    client.write_all(b"word").unwrap();
    let mut back = [0; 4];
    let read = client.read(&mut back);
    assert!(matches!(read, Ok(0)), "{read:?}: {back:?}");
}

/// A proxy whose backend is itself, by another name: one client does not take all there is for
/// others, for ever.
#[test]
fn a_proxy_to_itself_leaves_room_for_others() {
    let mut sandbox = Sandbox::new();
    sandbox.wrap(&["sh", "-c", "ulimit -n 256; exec \"$0\" \"$@\""]);
    sandbox.service("plain", WAITS);
    sandbox.start();
    let port = free_port();
    sandbox.ask("xinet.set", door(port, &echoes(), "plain"));
    let itself = json!({"name": "ring", "listen": format!("unix:{}", sandbox.text("ring")),
                        "backend": format!("unix:{}", sandbox.text("services/../ring")),
                        "service": "nobody", "connect_timeout": 1});
    if sandbox.rpc("xinet.set", itself).is_ok() {
        let client = dial_at(&sandbox.path("ring"));
        assert!(wait_until(
            || account(&sandbox, "ring")["total_connections"] != 0
        ));
        drop(client);
    }
    assert_eq!(exchange(dial(port), "word"), "word");
}

/// When nothing happens the server sleeps, whoever is connected or waits.
#[test]
fn nobody_wakes_the_server_when_nothing_happens() {
    let mut sandbox = Sandbox::new();
    sandbox.env("DIR", &sandbox.text(""));
    sandbox.service("slow", &waits_for_go());
    sandbox.service("plain", WAITS);
    sandbox.start();
    let [one, two] = [free_port(), free_port()];
    let params = with(door(one, &echoes(), "plain"), "idle_timeout", 600);
    sandbox.ask("xinet.set", params);
    let params = with(door(two, &echoes(), "slow"), "name", "other");
    sandbox.ask("xinet.set", params);
    let mut client = dial(one);
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    let _waits = dial(two);
    sandbox.wait_state("slow", "starting");
    let switches = || {
        let status = fs::read_to_string(format!("/proc/{}/status", sandbox.server_pid())).unwrap();
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    // Until it has done what there was to do, and then for a while.
    let mut before = 0;
    assert!(wait_until(
        || std::mem::replace(&mut before, switches()) == before
    ));
    assert!(Command::new("sleep").arg("1").status().unwrap().success());
    let after = switches();
    assert!(after - before <= 3, "{before}, then {after}");
}
