//! PID 1 of a machine, on a real kernel in QEMU. Each boot takes a few seconds, so these run by
//! `make test-vm`, which also brings what they need.

#[path = "common/machine.rs"]
mod machine;

use std::fs;
use std::path::Path;
use std::process::Command;

use machine::{Image, Machine, disk, drive, with_disk};

const POWERED_OFF: &str = "reboot: Power down";
const REBOOTED: &str = "reboot: Restarting system";
const HALTED: &str = "reboot: System halted";

/// What the kernel says when the shell on the console may be typed to.
const READY: &str = "ready# ";

/// The same on the real root.
const REAL: &str = "real# ";

fn at_shell(image: &Image, words: &str) -> Machine {
    let mut machine = image.boot(words);
    machine.wait(READY);
    machine
}

#[test]
#[ignore = "boots a machine: make test-vm"]
fn it_boots_to_all_services_and_powers_off() {
    let image = Image::new("boots");
    image.system("early", "exec = \"touch /run/early\"\noneshot = true");
    image.service(
        "late",
        "exec = \"sh -c 'test -e /run/early && exec sleep 1000'\"",
    );
    image.service(
        "worker",
        "exec = \"sleep 1000\"\n[dependencies]\nrequires = [\"late\"]",
    );
    // A user's file can't take the name of one of the machine's own.
    image.service("early", "exec = \"sleep 1000\"");
    let mut machine = image.boot("hello other.word=1 NAME=value");
    machine.wait("4 services in ");
    machine.wait(" ms, kernel ");
    machine.run("zinit status early", "Exited");
    machine.run("zinit list", "worker");
    machine.run("hostname", "testbox");
    machine.run("ifconfig lo", "127.0.0.1");
    machine.run("tty", "/dev/ttyS0");
    let mounts = machine.output("cat /proc/mounts");
    for expected in [
        "devtmpfs /dev devtmpfs rw,nosuid,",
        "proc /proc proc rw,nosuid,nodev,noexec,",
        "sysfs /sys sysfs rw,nosuid,nodev,noexec,",
        "devpts /dev/pts devpts rw,nosuid,noexec,relatime,gid=5,mode=620,",
        "tmpfs /dev/shm tmpfs rw,nosuid,nodev,",
        "tmpfs /run tmpfs rw,nosuid,nodev,",
        "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,",
    ] {
        assert!(mounts.contains(expected), "{expected:?}:\n{mounts}");
    }
    // Nothing is inherited but the terminal; words that nobody knows reach services.
    assert_eq!(machine.output("ls /proc/$$/fd | tr '\\n' ' '"), "0 1 10 2");
    assert_eq!(machine.output("echo $ZINIT_WORDS:$NAME"), "hello:value");
    // The log is the kernel's too.
    machine.run("dmesg | grep -c 'zinit: worker: running'", "1");
    assert_eq!(machine.output("cat /proc/sys/kernel/ctrl-alt-del"), "0");
    machine.run("test -e /dev/fd/0 && echo linked", "linked");
    machine.send("zinit poweroff");
    machine.end(POWERED_OFF);
}

#[test]
#[ignore = "boots a machine: make test-vm"]
fn the_image_boots_on_both_processors() {
    for arch in ["x86_64", "aarch64"] {
        let mut machine = Machine::of_image(arch, "image", "");
        machine.wait("zinit login: ");
        machine.send("root");
        machine.wait("~ # ");
        machine.run("uname -m", arch);
        machine.run("wget -qO- http://127.0.0.1/", &format!("zinit {arch}"));
        machine.run("logread | grep -c 'crond.*started'", "1");
        machine.run("zinit healthcheck", "healthy");
        // The name typed there is the program's, not the shell's own.
        machine.send("reboot");
        machine.end(if arch == "x86_64" {
            REBOOTED
        } else {
            "Restarting system"
        });
    }
}

#[test]
#[ignore = "boots a machine: make test-vm"]
fn a_getty_logs_in() {
    let image = Image::new("getty");
    image.remove("etc/zinit/services/console.toml");
    image.service(
        "getty",
        "exec = \"/bin/getty -L 115200 - vt100\"\ntty = \"/dev/ttyS0\"\n[lifecycle]\nrestart = \"always\"",
    );
    let mut machine = image.boot("quiet");
    machine.wait("testbox login: ");
    machine.send("root");
    machine.wait(READY);
    machine.run("tty; id -u", "/dev/ttyS0");
    // Job control needs a controlling terminal, and Ctrl-C reaches what runs on it.
    machine.send("sh -c 'echo fro\"nt\"; exec sleep 1000'");
    machine.wait("front");
    machine.send("\u{3}");
    machine.run("echo interrupted $?", "interrupted 130");
    machine.send("exit");
    machine.wait("testbox login: ");
    machine.send("root");
    machine.wait(READY);
    machine.send("zinit reboot");
    machine.end(REBOOTED);
}

#[test]
#[ignore = "boots a machine: make test-vm"]
fn each_signal_ends_it_as_the_manual_says() {
    let ways = [
        ("kill -TERM 1", POWERED_OFF),
        ("kill -INT 1", REBOOTED),
        ("kill -USR2 1", POWERED_OFF),
        ("kill -PWR 1", POWERED_OFF),
        ("kill -38 1", POWERED_OFF),
        ("kill -39 1", REBOOTED),
        // No kernel is loaded for it, so it is a plain reboot.
        ("kill -40 1", REBOOTED),
        // As busybox has them.
        ("busybox poweroff", POWERED_OFF),
    ];
    let image = Image::new("signals");
    for (command, how) in ways {
        let mut machine = at_shell(&image, "quiet");
        machine.send(command);
        machine.end(how);
    }
    for command in ["kill -37 1", "zinit halt"] {
        let mut machine = at_shell(&image, "quiet");
        machine.send(command);
        machine.wait(HALTED);
        machine.cut();
    }
}

#[test]
#[ignore = "boots a machine: make test-vm"]
fn commands_end_it_and_fall_back_to_signals() {
    let image = Image::new("commands");
    for (command, how) in [
        ("shutdown -r now", REBOOTED),
        ("shutdown -h now bye", POWERED_OFF),
        ("zinit shutdown", POWERED_OFF),
        ("zinit reboot -f", REBOOTED),
        // Nobody listens at that socket; PID 1 is told nevertheless.
        ("zinit -s /nowhere reboot", REBOOTED),
    ] {
        let mut machine = at_shell(&image, "quiet");
        machine.send(command);
        machine.end(how);
    }
    let mut machine = at_shell(&image, "quiet");
    machine.run("zinit kexec", "no kernel is loaded");
    machine.run("kill -USR1 1; zinit ping", "is running");
    machine.run("kill -HUP 1; zinit ping", "is running");
    machine.run("shutdown -r 23:00", "a later time is for at(1)");
    machine.send("poweroff");
    machine.end(POWERED_OFF);
}

#[test]
#[ignore = "boots a machine: make test-vm"]
fn a_critical_failure_gives_a_shell_and_goes_on_when_it_is_left() {
    let image = Image::new("critical");
    image.remove("etc/zinit/services/console.toml");
    image.remove("etc/passwd");
    image.service(
        "db",
        "exec = \"sh -c 'echo the disk is on fire; test -e /run/water && exec sleep 1000; exit 4'\"\n\
         critical = true\n[lifecycle]\nmax_restarts = 1\nrestart_delay_ms = 10",
    );
    image.service(
        "web",
        "exec = \"sleep 1000\"\n[dependencies]\nrequires = [\"db\"]",
    );
    let mut machine = image.boot("quiet panic=5");
    machine.wait("critical service 'db' has failed: exited with code 4");
    machine.wait("    the disk is on fire");
    machine.wait("zinit restart db");
    machine.wait("(emergency)");
    machine.run("zinit why web", "db");
    machine.run("touch /run/water", "");
    machine.send("exit");
    machine.wait("going on");
    machine.press("ctrl-alt-delete");
    let text = machine.end(REBOOTED);
    assert_eq!(
        text.matches("critical service 'db' has failed").count(),
        1,
        "{text}"
    );
}

#[test]
#[ignore = "boots a machine: make test-vm"]
fn a_hung_service_and_stray_processes_do_not_keep_it() {
    let image = Image::new("hung");
    image.service(
        "stubborn",
        "exec = \"sh -c 'trap : TERM; while :; do sleep 1; done'\"\n[lifecycle]\nstop_timeout_ms = 3000",
    );
    let mut machine = at_shell(&image, "");
    // These belong to no service when its session has ended, and one does not listen.
    machine.run("kill -STOP $(pidof sleep); echo stopped", "stopped");
    machine.send("poweroff");
    machine.wait("waiting for stubborn (");
    machine.end(POWERED_OFF);
}

#[test]
#[ignore = "boots a machine: make test-vm"]
fn seven_times_ctrl_alt_del_ends_the_wait() {
    let image = Image::new("impatient");
    image.service(
        "stubborn",
        "exec = \"sh -c 'trap : TERM; while :; do sleep 1; done'\"\n[lifecycle]\nstop_timeout_ms = 600000",
    );
    let mut machine = at_shell(&image, "");
    machine.press("ctrl-alt-delete");
    machine.wait("waiting for stubborn (");
    for _ in 0..8 {
        machine.press("ctrl-alt-delete");
    }
    machine.wait("nothing is waited for any more");
    machine.end(REBOOTED);
}

#[test]
#[ignore = "boots a machine: make test-vm"]
fn an_orphan_storm_leaves_no_zombie() {
    let image = Image::new("storm");
    image.script(
        "bin/storm",
        "i=0; while [ $i -lt 400 ]; do i=$((i+1)); (sleep 0.1 & sleep 0.1 & sleep 0.1 &); done",
    );
    let mut machine = at_shell(&image, "quiet");
    machine.run("storm; sleep 1; zinit ping", "is running");
    let zombies = machine.output("sleep 1; grep -l '^State:.Z' /proc/[0-9]*/status | wc -l");
    assert_eq!(zombies, "0");
    machine.send("poweroff");
    machine.end(POWERED_OFF);
}

#[test]
#[ignore = "boots a machine: make test-vm"]
fn single_user_mode_and_emergency_mode_offer_a_shell_first() {
    let image = Image::new("single");
    image.remove("etc/passwd");
    image.system("early", "exec = \"touch /run/early\"\noneshot = true");
    let mut machine = image.boot("quiet single");
    machine.wait("single user mode");
    machine.wait("(emergency)");
    machine.run("ls /run", "early");
    machine.run("zinit status console", "Inactive");
    machine.send("exit");
    machine.wait(READY);
    machine.send("poweroff");
    machine.end(POWERED_OFF);
    let mut machine = image.boot("quiet emergency");
    machine.wait("emergency mode");
    machine.wait("(emergency)");
    machine.run("zinit status early", "Inactive");
    machine.send("exit");
    machine.wait(READY);
    machine.run("ls /run", "early");
    machine.send("poweroff");
    machine.end(POWERED_OFF);
}

#[test]
#[ignore = "boots a machine: make test-vm"]
fn a_target_is_booted_alone() {
    let image = Image::new("target");
    image.target(
        "small",
        "status = \"stop\"\n[dependencies]\nrequires = [\"console\"]",
    );
    image.service("other", "exec = \"sleep 1000\"");
    let mut machine = at_shell(&image, "quiet zinit.target=small zinit.log=debug");
    machine.run("zinit status small", "Running");
    machine.run("zinit status other", "Inactive");
    machine.send("poweroff");
    machine.end(POWERED_OFF);
    let mut machine = at_shell(&image, "zinit.target=typo");
    machine.run("zinit status other", "Running");
    assert!(
        machine
            .text()
            .contains("there is no 'typo' to boot; everything is started")
    );
    machine.send("poweroff");
    machine.end(POWERED_OFF);
}

#[test]
#[ignore = "boots a machine: make test-vm"]
fn with_nothing_at_all_it_offers_a_shell() {
    let image = Image::bare("nothing");
    let mut machine = image.boot("quiet");
    machine.wait("there are no services: nothing in /etc/zinit/system or /etc/zinit/services");
    machine.wait("(emergency)");
    machine.run(
        "zinit add-service --name job --exec 'sleep 1000'",
        "Created: job",
    );
    machine.run("zinit list", "job Running");
    machine.send("poweroff");
    machine.end(POWERED_OFF);
}

#[test]
#[ignore = "boots a machine: make test-vm"]
fn without_a_shell_it_stays() {
    let image = Image::bare("shellless");
    for shell in ["bin/sh", "bin/busybox", "bin/ash"] {
        image.remove(shell);
    }
    let mut machine = image.boot("panic=1");
    machine.wait("there is no shell to be offered");
    machine.press("ctrl-alt-delete");
    machine.end(REBOOTED);
}

/// With nobody who could mend the files, what can be brought up is.
#[test]
#[ignore = "boots a machine: make test-vm"]
fn without_a_shell_files_that_cannot_be_read_keep_no_other_back() {
    let image = Image::bare("mendless");
    for shell in ["bin/sh", "bin/busybox", "bin/ash"] {
        image.remove(shell);
    }
    image.file("etc/zinit/services", "not a directory");
    image.file(
        "etc/zinit/system/tries.toml",
        "[service]\nname = \"tries\"\nexec = [\"/nothing\"]",
    );
    let mut machine = image.boot("panic=1");
    machine.wait("there is no shell to be offered");
    machine.wait("tries: spawn error: exec /nothing: No such file");
    machine.press("ctrl-alt-delete");
    machine.end(REBOOTED);
}

#[test]
#[ignore = "boots a machine: make test-vm"]
fn without_dev_and_console_it_makes_its_own() {
    let image = Image::new("nodev");
    image.init_script("rm -rf /dev/*; exec /zinit init <&- >&- 2>&-");
    let mut machine = image.boot("");
    machine.wait(READY);
    let open = machine.output("ls -l /proc/1/fd | grep -c /dev/console");
    assert_eq!(open, "3");
    machine.send("poweroff");
    machine.end(POWERED_OFF);
}

#[test]
#[ignore = "boots a machine: make test-vm"]
fn a_directory_that_cannot_be_read_is_told_and_tried_again() {
    let image = Image::new("unusable");
    image.remove("etc/passwd");
    fs::rename(image.path("etc/zinit/services"), image.path("saved")).unwrap();
    image.file("etc/zinit/services", "not a directory");
    let mut machine = image.boot("quiet");
    machine.wait("/etc/zinit/services");
    machine.wait("not a directory");
    machine.wait("(emergency)");
    machine.run("rm /etc/zinit/services; mv /saved /etc/zinit/services", "");
    machine.send("exit");
    machine.wait(READY);
    machine.send("poweroff");
    machine.end(POWERED_OFF);
}

#[test]
#[ignore = "boots a machine: make test-vm"]
fn a_crash_of_its_own_is_told_and_survived() {
    let image = Image::new("crash");
    image.remove("etc/passwd");
    image.service("worker", "exec = \"sleep 1000\"");
    let mut machine = at_shell(&image, "quiet panic=1");
    for signal in ["SEGV", "ABRT"] {
        machine.send(&format!("kill -{signal} 1"));
        machine.wait("zinit itself has crashed");
        machine.wait("(emergency)");
        machine.send("exit");
        machine.wait(READY);
        machine.run("zinit status worker", "Running");
        machine.run("pidof sleep | wc -w", "1");
    }
    machine.send("poweroff");
    machine.end(POWERED_OFF);
}

/// A `/init` before `/init`, under which these system calls do not exist.
fn without_calls(image: &Image, calls: &str) {
    let source = image.path("lacking.c");
    let text = include_str!("vm/lacking.c").replace("CALLS", calls);
    fs::write(&source, text).unwrap();
    fs::rename(image.path("init"), image.path("zinit")).unwrap();
    let compiled = Command::new("cc")
        .args(["-static", "-Os", "-o"])
        .arg(image.path("init"))
        .arg(&source)
        .status()
        .expect("a C compiler");
    assert!(compiled.success());
    for name in ["zinit", "poweroff", "reboot", "halt", "shutdown"] {
        let link = image.path("sbin").join(name);
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("/zinit", link).unwrap();
    }
}

#[test]
#[ignore = "boots a machine: make test-vm"]
fn another_kernel_takes_over() {
    let image = Image::new("kexec");
    let vm = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    image.copy(&vm.join("vm/x86_64/kernel"), "kernel");
    image.copy(&vm.join("image/x86_64/initramfs"), "initramfs");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm/load.c");
    let compiled = Command::new("cc")
        .args(["-static", "-Os", "-o"])
        .args([&image.path("bin/load"), &source])
        .status()
        .expect("a C compiler");
    assert!(compiled.success());
    let mut machine = image.boot_with("quiet", "-m 512");
    machine.wait(READY);
    machine.run(
        "load /kernel /initramfs 'console=ttyS0 quiet' && echo loaded",
        "loaded",
    );
    machine.send("zinit kexec");
    machine.wait("zinit login: ");
    machine.send("root");
    machine.wait("~ # ");
    machine.send("poweroff");
    machine.end(POWERED_OFF);
}

#[test]
#[ignore = "boots a machine: make test-vm"]
fn a_kernel_that_lacks_something_is_told_by_the_option() {
    for (calls, option) in [
        ("SYS_signalfd4, SYS_signalfd", "CONFIG_SIGNALFD"),
        ("SYS_timerfd_create", "CONFIG_TIMERFD"),
        ("SYS_epoll_create1, SYS_epoll_create", "CONFIG_EPOLL"),
    ] {
        let image = Image::new(&format!("lacks-{}", option.to_lowercase()));
        image.remove("etc/passwd");
        without_calls(&image, calls);
        let mut machine = image.boot("quiet panic=1");
        machine.wait(&format!("build it with {option}=y"));
        // The shell works, and nobody stays a zombie.
        machine.send("(sleep 0.1 &); sleep 1; echo zombies=$(grep -l '^State:.Z' /proc/[0-9]*/status | wc -l)");
        machine.wait("zombies=0");
        machine.send("poweroff -f");
        machine.end(POWERED_OFF);
    }
    // pidfds it can do without.
    let image = Image::new("lacks-pidfd");
    without_calls(&image, "SYS_pidfd_open");
    let mut machine = at_shell(&image, "quiet");
    machine.send("zinit restart console --no-wait");
    // The old shell may show its prompt once more.
    machine.wait("built-in shell");
    machine.wait(READY);
    machine.send("poweroff");
    machine.end(POWERED_OFF);
}

fn is_clean(disk: &Path) {
    let checked = Command::new("/sbin/dumpe2fs")
        .arg("-h")
        .arg(disk)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&checked.stdout).into_owned();
    let state = text
        .lines()
        .find(|line| line.starts_with("Filesystem state"))
        .unwrap_or("");
    assert!(state.ends_with(" clean"), "{state}");
    assert!(
        !text.contains("needs_recovery"),
        "the journal is not empty:\n{text}"
    );
}

#[test]
#[ignore = "boots a machine: make test-vm"]
fn file_systems_are_clean_after_the_end() {
    let image = Image::new("clean");
    with_disk(&image, "");
    let content = image.path("../clean-disk");
    fs::create_dir_all(&content).unwrap();
    let disk = disk("data", &content);
    image.service(
        "writer",
        "exec = \"sh -c 'trap : TERM; while :; do date >>/mnt/log; sleep 0.1; done'\"\n\
         [lifecycle]\nstop_timeout_ms = 300",
    );
    let extra = drive(&disk);
    let mut machine = image.boot_with("quiet", &extra);
    machine.wait(READY);
    machine.run(
        "mkdir /mnt/inner; mount -t tmpfs none /mnt/inner; mkdir -p /var/lib; mount | grep -c /mnt",
        "2",
    );
    // Somebody outside of all services has it as his directory.
    machine.run(
        "(cd /mnt; setsid sh -c 'trap : TERM; sleep 1000' >/dev/null 2>&1 &)",
        "",
    );
    machine.send("zinit poweroff");
    machine.end(POWERED_OFF);
    is_clean(&disk);
}

#[test]
#[ignore = "boots a machine: make test-vm"]
fn a_file_system_that_does_not_answer_does_not_keep_it() {
    let image = Image::new("frozen");
    with_disk(&image, "");
    let content = image.path("../frozen-disk");
    fs::create_dir_all(&content).unwrap();
    let disk = disk("data", &content);
    let extra = drive(&disk);
    let mut machine = image.boot_with("quiet", &extra);
    machine.wait(READY);
    // Whoever writes to it, or syncs it, waits for ever; one has it open.
    machine.run(
        "(sleep 1000 >/mnt/open &); fsfreeze --freeze /mnt && echo frozen",
        "frozen",
    );
    machine.run(
        "(setsid sh -c 'echo x >/mnt/more' >/dev/null 2>&1 &); echo stuck",
        "stuck",
    );
    machine.send("zinit poweroff");
    machine.end(POWERED_OFF);
}

#[test]
#[ignore = "boots a machine: make test-vm"]
fn an_initramfs_hands_over_to_the_real_root() {
    let real = Image::new("real-root");
    real.file("etc/profile", "PS1='real# '\n");
    real.file("etc/hostname", "realbox\n");
    fs::create_dir_all(real.path("mnt")).unwrap();
    let _ = fs::remove_file(real.path("sbin/init"));
    std::os::unix::fs::symlink("/init", real.path("sbin/init")).unwrap();
    let disk = disk("root", &real.path("."));
    let image = Image::new("initramfs");
    with_disk(&image, "");
    image.file("memory-hog", &"x".repeat(1 << 20));
    image.service(
        "keeper",
        "exec = [\"/bin/sleep\", \"5555\"]\n[lifecycle]\nsurvive_switch_root = true",
    );
    image.service("goes", "exec = \"sleep 6666\"");
    let extra = drive(&disk);
    let mut machine = image.boot_with("quiet", &extra);
    machine.wait(READY);
    // What can't be is told before anything is lost.
    machine.run("zinit switch-root /tmp", "/tmp is no mount point");
    machine.run(
        "zinit switch-root /mnt /no/init",
        "/no/init does not exist under /mnt",
    );
    // It is the new root that it has to be in, from wherever one looks.
    machine.run(
        "zinit switch-root /mnt zinit",
        "zinit does not exist under /mnt",
    );
    machine.run("zinit status goes", "Running");
    machine.send("zinit switch-root /mnt");
    machine.wait(REAL);
    machine.run("hostname", "realbox");
    machine.run("grep ' / ' /proc/mounts", "ext4");
    machine.run(
        "pgrep -f 'sleep 5555' >/dev/null && echo keeper lives",
        "keeper lives",
    );
    machine.run("pgrep -f 'sleep 6666' >/dev/null || echo gone", "gone");
    machine.run("test -e /memory-hog || echo freed", "freed");
    // The new PID 1 has a clean slate too, but for what it has blocked itself.
    machine.run("grep SigIgn /proc/1/status", "0000000000001000");
    machine.run("zinit list", "console Running");
    machine.send("zinit reboot");
    machine.end(REBOOTED);
    is_clean(&disk);
}

#[test]
#[ignore = "boots a machine: make test-vm"]
fn the_random_seed_is_kept_and_used_once() {
    let real = Image::new("seed-root");
    real.file("etc/profile", "PS1='real# '\n");
    std::os::unix::fs::symlink("/init", real.path("sbin/init")).unwrap();
    let disk = disk("root", &real.path("."));
    let image = Image::new("seed");
    with_disk(&image, "");
    let extra = drive(&disk);
    for round in 0..2 {
        let mut machine = image.boot_with("quiet", &extra);
        machine.wait(READY);
        let kept = machine.output("ls /mnt/var/lib/zinit/random-seed 2>/dev/null | wc -l");
        assert_eq!(kept, if round == 0 { "0" } else { "1" });
        machine.send("zinit switch-root /mnt");
        machine.wait(REAL);
        machine.run("ls /var/lib/zinit/random-seed 2>/dev/null | wc -l", "0");
        machine.send("poweroff");
        machine.end(POWERED_OFF);
    }
}
