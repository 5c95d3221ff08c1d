//! The wall clock of a whole machine, set back and forth under its services: a clock that nobody else
//! has. Run by `make test-vm`.

#[path = "common/machine.rs"]
mod machine;

use machine::{Image, Machine};

const POWERED_OFF: &str = "reboot: Power down";

/// What the kernel says when the shell on the console may be typed to.
const READY: &str = "ready# ";

/// By hours and by years, there and back.
const TIMES: [&str; 6] = [
    "2031-05-01 12:00",
    "2031-05-01 09:00",
    "1999-12-31 23:59",
    "2037-12-31 23:59",
    "1970-01-02 00:00",
    "2026-11-01 00:00",
];

fn pid(machine: &mut Machine, name: &str) -> String {
    machine.output(&format!(
        "zinit --json status {name} | grep -o '\"pid\":[0-9]*'"
    ))
}

/// Nothing is late, early or forgotten because of it: who runs goes on, a stop takes its time and no
/// more, restarts come and are counted, and probes find what they found before.
#[test]
#[ignore = "boots a machine: make test-vm"]
fn a_wall_clock_that_jumps_moves_nothing_else() {
    let image = Image::new("clock");
    let probe = "[health]\ntype = \"exec\"\ntarget = \"true\"\ninterval_ms = 50\nretries = 1";
    image.service("steady", "exec = \"sleep 100000\"");
    image.service("probed", &format!("exec = \"sleep 100000\"\n{probe}"));
    image.service(
        "stubborn",
        "exec = \"trap '' TERM; while :; do sleep 1; done\"\nstatus = \"stop\"\n\
         [lifecycle]\nstop_timeout_ms = 1000",
    );
    image.service(
        "crash",
        "exec = \"echo once more; exit 1\"\nstatus = \"stop\"\n\
         [lifecycle]\nrestart_delay_ms = 200\nrestart_delay_max_ms = 200\nmax_restarts = 2",
    );
    let mut machine = image.boot("quiet");
    machine.wait(READY);
    let names = ["steady", "probed"];
    let before = names.map(|name| pid(&mut machine, name));
    assert!(before.iter().all(|pid| pid.len() > "\"pid\":".len()));
    for (round, time) in TIMES.iter().enumerate() {
        machine.run(
            &format!("date -s '{time}' && zinit ping && echo set"),
            "set",
        );
        machine.run("zinit start stubborn --timeout 20s && echo up", "up");
        machine.run("zinit stop stubborn --timeout 20s && echo down", "down");
        machine.run("zinit start crash; zinit wait crash --for stopped", "");
        let lines = machine.output("zinit logs crash | grep -c 'once more'");
        assert_eq!(lines, (3 * (round + 1)).to_string(), "after {time}");
        let now = names.map(|name| pid(&mut machine, name));
        assert_eq!(now, before, "after {time}");
    }
    machine.send("zinit poweroff");
    machine.end(POWERED_OFF);
}
