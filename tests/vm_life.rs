//! What a service's life needs of a machine: control groups, the system's log, a disk that hangs.
//! Run by `make test-vm`.

#[path = "common/machine.rs"]
mod machine;

use std::fs;

use machine::{Image, disk, drive, with_disk};

const POWERED_OFF: &str = "reboot: Power down";

/// What the kernel says when the shell on the console may be typed to.
const READY: &str = "ready# ";

/// Limits of all processes together, and what is said when the kernel enforces them.
#[test]
#[ignore = "boots a machine: make test-vm"]
fn resources_are_limited_by_cgroups() {
    let image = Image::new("cgroups");
    // dd takes a buffer of that size, and touches all of it.
    image.service(
        "hog",
        "exec = \"dd if=/dev/zero of=/dev/null bs=64M count=100\"\n\
         [lifecycle]\nrestart = \"never\"\n[resources]\nmemory_max = \"16M\"",
    );
    image.service(
        "bounded",
        "exec = \"sleep 1000\"\n[resources]\nmemory_max = \"32M\"\nmemory_high = \"24M\"\n\
         pids_max = 10\ncpu_weight = 50\ncpu_max = \"50%\"\nio_weight = 200",
    );
    // Each leaves its session and its environment, and forks again and again.
    image.script(
        "bin/bomb",
        "#!/bin/sh\nwhile :; do env -i setsid sh -c 'sleep 1000' </dev/null >/dev/null 2>&1 & done\n",
    );
    image.service(
        "bomb",
        "exec = \"/bin/bomb\"\nstatus = \"stop\"\n[resources]\npids_max = 60",
    );
    // Its worker is too large, and it goes on.
    image.service(
        "pool",
        "exec = \"dd if=/dev/zero of=/dev/null bs=64M count=100; touch /run/lost; exec sleep 1000\"\n\
         [lifecycle]\nrestart = \"never\"\n[resources]\nmemory_max = \"16M\"",
    );
    let mut machine = image.boot("quiet");
    machine.wait(READY);
    machine.run(
        "until test -e /run/lost; do :; done; zinit kill pool KILL; zinit wait pool --for stopped; zinit status pool",
        "killed by signal 9",
    );
    machine.run(
        "zinit wait hog --for stopped; zinit status hog",
        "killed by the kernel for memory",
    );
    let dir = "/sys/fs/cgroup/zinit-*/service-bounded";
    for (file, value) in [
        ("memory.max", "33554432"),
        ("memory.high", "25165824"),
        ("pids.max", "10"),
        ("cpu.weight", "50"),
        ("cpu.max", "50000 100000"),
    ] {
        assert_eq!(
            machine.output(&format!("cat {dir}/{file}")),
            value,
            "{file}"
        );
    }
    machine.run("zinit stats bounded", "Tasks:   1");
    machine.run(
        "zinit --json stats bounded | grep -c 'pressure.*cpu.*memory'",
        "1",
    );
    // A fork bomb meets its limit, and all of it is killed.
    machine.run("zinit start bomb && echo up", "up");
    machine.run(
        "until grep -q '^max [1-9]' /sys/fs/cgroup/zinit-*/service-bomb/pids.events; do :; done; echo full",
        "full",
    );
    machine.run("zinit stop bomb && pgrep -f 'sleep 1000' | wc -l", "1");
    machine.send("zinit poweroff");
    machine.end(POWERED_OFF);
}

/// What programs send to the system's log is theirs; and their environment is what it should be.
#[test]
#[ignore = "boots a machine: make test-vm"]
fn the_systems_log_and_the_environment() {
    let image = Image::new("syslog");
    image.service(
        "talker",
        "exec = \"sh -c 'env; (echo hello from talker; sleep 1000) | logger -t other'\"",
    );
    image.service("plain", "exec = \"sleep 1000\"");
    image.service(
        "kernel",
        "exec = \"sh -c 'echo to the kernel; exec sleep 1000'\"\n\
         [logging]\nforward = \"kmsg\"",
    );
    let mut machine = image.boot("quiet NAME=value");
    machine.wait(READY);
    // By the process that sent it, whatever it calls itself.
    machine.run(
        "zinit logs talker --stream syslog",
        "other: hello from talker",
    );
    // Of a process that has ended when it is looked at, as those of others, it is in all logs.
    machine.run(
        "logger -t plain by name; until zinit logs | grep 'plain: by name'; do :; done",
        "[syslog]",
    );
    let text =
        machine.output("zinit logs talker --stream stdout | cut -d' ' -f3 | sort | tr '\\n' ' '");
    for expected in [
        "HOME=/root ",
        "USER=root ",
        "LANG=C.UTF-8 ",
        "SHELL=/bin/sh ",
        "NAME=value ",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(!text.contains("TERM="), "{text}");
    machine.run("dmesg | grep -c 'kernel | to the kernel'", "1");
    machine.send("zinit poweroff");
    machine.end(POWERED_OFF);
}

/// A disk that hangs holds up its own log only, and what was written meanwhile is there afterwards.
#[test]
#[ignore = "boots a machine: make test-vm"]
fn a_disk_that_hangs_holds_up_its_own_log_only() {
    let image = Image::new("hanglog");
    with_disk(&image, "");
    let content = image.path("../hanglog-disk");
    fs::create_dir_all(&content).unwrap();
    let disk = disk("data", &content);
    for (name, log) in [("slow", "/mnt/log"), ("fast", "/run/log")] {
        image.service(
            name,
            &format!(
                "exec = \"sh -c 'i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done'\"\n\
                 [dependencies]\nafter = [\"disk\"]\n[logging]\nfile = \"{log}\""
            ),
        );
    }
    let extra = drive(&disk);
    let mut machine = image.boot_with("quiet", &extra);
    machine.wait(READY);
    machine.run(
        "until test -s /mnt/log && test -s /run/log; do sleep 0.1; done; echo both",
        "both",
    );
    machine.run("fsfreeze --freeze /mnt && echo frozen", "frozen");
    machine.run(
        "until dmesg | grep -q '/mnt/log: its disk hangs'; do sleep 0.1; done; echo told",
        "told",
    );
    // The writer can't even be killed; the other file has a new one, and the server answers.
    machine.run(
        "a=$(wc -l </run/log); sleep 1; test $(wc -l </run/log) -gt $a && echo goes on",
        "goes on",
    );
    machine.run("zinit ping && echo alive", "alive");
    machine.run("fsfreeze --unfreeze /mnt && echo thawed", "thawed");
    machine.run(
        "n=$(tail -1 /run/log | cut -d' ' -f4); until tail -1 /mnt/log | awk -v n=$n '{exit !($4>n)}'; do sleep 0.1; done; echo caught up",
        "caught up",
    );
    // Each line once at least; what the killed writer had begun begins anew behind an empty one.
    machine.run(
        "awk '$4 {seen[$4]=1; if ($4>most) most=$4} END {for (i=1; i<=most; i++) if (!seen[i]) bad++; print \"missing:\" bad+0}' /mnt/log",
        "missing:0",
    );
    machine.send("zinit poweroff");
    machine.end(POWERED_OFF);
}

/// What follows when a service has ended for good.
#[test]
#[ignore = "boots a machine: make test-vm"]
fn an_end_may_be_the_machines() {
    let image = Image::new("sequel");
    image.service(
        "shell",
        "exec = \"false\"\nstatus = \"stop\"\n[lifecycle]\nrestart = \"never\"\non_failure = \"shell\"",
    );
    image.service(
        "reboot",
        "exec = \"true\"\nstatus = \"stop\"\n[lifecycle]\nrestart = \"never\"\non_exit = \"reboot\"",
    );
    let mut machine = image.boot("quiet");
    machine.wait(READY);
    machine.send("zinit start shell --no-wait");
    machine.wait("'shell' has ended, and its file asks for a shell");
    machine.wait("# ");
    machine.send("zinit start reboot --no-wait");
    machine.end("reboot: Restarting system");
}
