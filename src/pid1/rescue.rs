//! When the loop can't run: one sentence, a shell on the console, and nobody stays a zombie.

use super::say;
use crate::engine::Pid;
use crate::reactor::shell;
use crate::sys::limits::OpenFiles;
use crate::sys::process::{self, Slate};
use crate::sys::{console, crash, machine, signals};
use std::time::{Duration, Instant};

/// Time between two attempts.
const SOONEST: Duration = Duration::from_secs(3);

/// How often the dead are looked for when no signal comes.
const LOOK: Duration = Duration::from_secs(1);

/// Says what is wrong and offers a shell; leaving it tries again from the start.
pub(super) fn last_resort(why: &str) -> ! {
    log::error!("{why}");
    say(&format!(
        "{why}\r\nzinit: leaving this shell tries again; poweroff -f and reboot -f end it"
    ));
    // Nobody is there to take the signal, so the kernel does it by itself.
    let _ = machine::catch_ctrl_alt_del(false);
    let child = offer();
    if child.is_none() {
        say("there is no shell; what is left running goes on");
    }
    // A shell that ends at once would have this go round and round.
    let soonest = Instant::now() + SOONEST;
    let mut is_left = false;
    loop {
        while let Some((pid, _)) = process::peek_dead() {
            process::collect(pid);
            is_left |= Some(pid) == child;
        }
        if is_left && Instant::now() >= soonest {
            let _ = machine::catch_ctrl_alt_del(true);
            crash::start_over(why);
            is_left = false;
        }
        let _ = signals::wait_for_end(LOOK);
    }
}

fn offer() -> Option<Pid> {
    let launch = shell(&console::terminal())?;
    let null = std::fs::File::open("/dev/null").ok()?.into();
    let slate = Slate {
        null,
        open_files: OpenFiles::raise(false).ok()?,
    };
    process::spawn(&launch, &slate).ok().map(|child| child.pid)
}
