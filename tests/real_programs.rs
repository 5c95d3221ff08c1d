//! Real programs under a real server: a web server, a database, and a script that needs both.

#[path = "common/sandbox.rs"]
mod sandbox;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use nix::sys::signal::Signal;
use sandbox::{Sandbox, find_program, free_port, is_alive, quoted, signal, wait_until};
use serde_json::{Value, json};

/// Says `request` to a port and gives what comes back until `enough`.
fn say(port: u16, request: &str, enough: &str) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        answer.extend_from_slice(&buffer[..count]);
        if String::from_utf8_lossy(&answer).contains(enough) {
            break;
        }
    }
    Some(String::from_utf8_lossy(&answer).into_owned())
}

struct Site {
    sandbox: Sandbox,
    web: u16,
    store: u16,
}

impl Site {
    fn new() -> Option<Self> {
        let mut programs = Vec::new();
        for name in ["nginx", "redis-server"] {
            let Some(path) = find_program(name) else {
                println!("skipped: {name} is not installed");
                return None;
            };
            programs.push(path);
        }
        let mut sandbox = Sandbox::new();
        sandbox.env("DIR", &sandbox.text(""));
        let [web, store] = [free_port(), free_port()];
        let dir = sandbox.dir().display();
        let user = if nix::unistd::geteuid().is_root() {
            "user root;"
        } else {
            ""
        };
        let config = format!(
            "daemon off; {user} worker_processes 2; pid {dir}/nginx.pid; error_log stderr;\n\
             events {{}}\nhttp {{ access_log off; \
             client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3; \
             uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;\n\
             server {{ listen 127.0.0.1:{web}; root {dir}/www; }} }}\n"
        );
        fs::write(sandbox.path("nginx.conf"), config).unwrap();
        fs::create_dir(sandbox.path("www")).unwrap();
        fs::write(sandbox.path("www/index.html"), "hello from the web\n").unwrap();
        let nginx = format!(
            "{} -e stderr -c {dir}/nginx.conf -p {dir}",
            programs[0].display()
        );
        let redis = format!(
            "{} --port {store} --bind 127.0.0.1 --save '' --dir {dir}",
            programs[1].display()
        );
        let service = |name: &str, exec: &str, more: &str| {
            let body = format!(
                "exec = {}\n{more}[lifecycle]\nrestart_delay_ms = 10\nstop_timeout_ms = 20000",
                quoted(exec)
            );
            sandbox.service(name, &body);
        };
        service("nginx", &nginx, &format!("ports = [{web}]\n"));
        service("redis", &redis, &format!("ports = [{store}]\n"));
        let app = "trap 'echo app down >> $DIR/order; exit 0' TERM; echo app up >> $DIR/order; \
                   while :; do sleep 1000 & wait $!; done";
        service(
            "app",
            app,
            "[dependencies]\nrequires = [\"nginx\", \"redis\"]\n",
        );
        sandbox.target("site", "[dependencies]\nrequires = [\"app\"]");
        Some(Self {
            sandbox,
            web,
            store,
        })
    }

    fn serves(&self) -> bool {
        let page = say(self.web, "GET / HTTP/1.0\r\n\r\n", "from the web");
        let pong = say(self.store, "PING\r\n", "\n");
        page.is_some_and(|page| page.contains("hello from the web"))
            && pong.as_deref() == Some("+PONG\r\n")
    }

    fn assert_serves(&self) {
        assert!(wait_until(|| self.serves()), "{}", self.sandbox.log());
    }

    fn has_child(&self, name: &str) -> bool {
        let family = self.sandbox.ask("service.children", json!({"name": name}));
        !family["children"].as_array().unwrap().is_empty()
    }
}

#[test]
fn a_site_comes_up_is_stopped_from_below_and_comes_back() {
    let Some(mut site) = Site::new() else {
        return;
    };
    site.sandbox.start();
    site.sandbox.await_running("site");
    site.assert_serves();
    let sandbox = &site.sandbox;
    let pids = ["nginx", "redis", "app"].map(|name| sandbox.pid(name));
    assert!(wait_until(
        || sandbox.lines("order") == ["app up"] && site.has_child("app")
    ));

    let (out, error, code) = sandbox.cli(&["stop", "redis"]);
    assert_eq!((error.as_str(), code), ("", 0), "{out}");
    assert_eq!(sandbox.lines("order"), ["app up", "app down"]);
    assert!(!is_alive(pids[1]) && !is_alive(pids[2]));
    assert_eq!(sandbox.pid("nginx"), pids[0], "who does not need it stays");
    assert_eq!(sandbox.state("redis"), "exited");
    assert_eq!(sandbox.state("site"), "blocked");
    let log = sandbox.log();
    let place = |text: &str| {
        log.rfind(text)
            .unwrap_or_else(|| panic!("no {text:?}: {log}"))
    };
    assert!(place("app: exited") < place("redis: stopping"), "{log}");

    let (out, error, code) = sandbox.cli(&["start", "site"]);
    assert_eq!((error.as_str(), code), ("", 0), "{out}");
    site.assert_serves();
    assert!(wait_until(
        || sandbox.lines("order").len() == 3 && site.has_child("app")
    ));

    let (out, error, code) = sandbox.cli(&["restart", "redis"]);
    assert_eq!((error.as_str(), code), ("", 0), "{out}");
    sandbox.await_running("site");
    site.assert_serves();
    assert!(wait_until(
        || sandbox.lines("order").len() == 5 && site.has_child("app")
    ));
    assert_eq!(sandbox.pid("nginx"), pids[0]);

    site.sandbox.stop();
    assert!(!site.serves());
}

#[test]
fn a_site_survives_what_happens_to_it() {
    let Some(mut site) = Site::new() else {
        return;
    };
    site.sandbox.start();
    site.sandbox.await_running("site");
    site.assert_serves();
    for name in ["redis", "nginx"] {
        let pid = site.sandbox.pid(name);
        signal(pid, Signal::SIGKILL);
        site.sandbox.wait_other_pid(name, pid);
        site.assert_serves();
    }
    let before = site.sandbox.pids_of_services();
    // The server killed, the next one ends what it left, and the ports are free for its own.
    site.sandbox.kill_server();
    site.sandbox.start();
    site.sandbox.await_running("site");
    site.assert_serves();
    let alive: Vec<&i32> = before.iter().filter(|pid| is_alive(**pid)).collect();
    assert!(alive.is_empty(), "{alive:?}\n{}", site.sandbox.log());
    assert_eq!(
        site.sandbox
            .ask("service.is_running", json!({"name": "app"})),
        Value::from(true)
    );
}
