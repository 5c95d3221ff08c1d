//! A service that does what the test tells it, when the test tells it: a program in Python that
//! reads its orders, lines of Python, from a pipe.

#![allow(dead_code, reason = "each test file uses the part of it that it needs")]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::json;

use super::sandbox::{Sandbox, python, wait_until};

const PROGRAM: &str = r#"
import os, signal, socket, sys, threading

def notify(*lines):
    name = os.environ["NOTIFY_SOCKET"]
    if name[0] == "@":
        name = "\0" + name[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.sendto("\n".join(lines).encode(), name)

def tell(*words):
    print(*words, flush=True)

quiet = threading.Event()
def ping_until_quiet():
    def ping():
        while not quiet.wait(0.02):
            notify("WATCHDOG=1")
    threading.Thread(target=ping, daemon=True).start()

tell("up")
exec(sys.argv[2], globals())
# Open for writing too, so that there is no end of it between two orders.
orders = os.fdopen(os.open(sys.argv[1], os.O_RDWR))
for order in iter(orders.readline, ""):
    exec(order, globals())
"#;

/// Declares a service that is a puppet, and says whether there can be one. `first` is what it does
/// by itself; `body` is what else its file says.
pub(crate) fn puppet(sandbox: &Sandbox, name: &str, first: &str, body: &str) -> bool {
    let Some(python) = python() else {
        println!("skipped: there is no Python");
        return false;
    };
    let program = sandbox.path("puppet.py");
    fs::write(&program, PROGRAM).expect("a sandbox can be written to");
    let orders = sandbox.path(&format!("{name}.orders"));
    mkfifo(&orders, Mode::S_IRWXU).expect("a pipe can be made");
    let words = json!([python, program, orders, first]);
    sandbox.service(name, &format!("exec = {words}\n{body}"));
    true
}

/// Has a puppet do something, as soon as it listens.
pub(crate) fn order(sandbox: &Sandbox, name: &str, line: &str) {
    let path = sandbox.path(&format!("{name}.orders"));
    let mut open = OpenOptions::new();
    open.write(true).custom_flags(libc::O_NONBLOCK);
    let mut written = false;
    let listens = wait_until(|| {
        if let Ok(mut orders) = open.open(&path) {
            written = orders.write_all(format!("{line}\n").as_bytes()).is_ok();
        }
        written
    });
    assert!(listens, "{name} takes no orders\n{}", sandbox.log());
}
