//! The system that `make image` builds: all its services and targets come up, do what they are there
//! for, and go down. Run by `make test-vm`, but for the tests that boot nothing.

#[path = "common/machine.rs"]
mod machine;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use machine::Machine;

const POWERED_OFF: &str = "reboot: Power down";

/// A network of QEMU's own, which gives the machine the address 10.0.2.15. Nothing is booted from it,
/// and not every emulator comes with the program for that.
const NETWORK: &str = "-netdev user,id=net -device virtio-net-pci,netdev=net,romfile=";

/// What has to run when all is up, and what has to have run; for all, and for those who look after
/// devices. The getty is a name of its own on each machine.
const RUN: [&str; 11] = [
    "basic", "crond", "devices", "dhcp", "httpd", "klogd", "network", "ready", "sshd", "sysinit",
    "syslogd",
];
const HAVE_RUN: [&str; 6] = [
    "early-mounts",
    "hostname",
    "loopback",
    "modules",
    "sysctl",
    "tmpfiles",
];
const MDEV: (&str, &[&str]) = ("mdev", &["coldplug"]);
const UDEV: (&str, &[&str]) = ("udevd", &["udev-settle", "udev-trigger"]);

fn logged_in(mut machine: Machine) -> Machine {
    machine.wait("zinit login: ");
    machine.send("root");
    machine.wait("~ # ");
    machine.run(
        "zinit wait ready --for running --timeout 60s",
        "ready: running",
    );
    machine
}

/// The lines of `zinit list`, each as the name of a service and what is said of it.
fn list(machine: &mut Machine) -> Vec<(String, String)> {
    let text = machine.output("zinit list | cat");
    let line = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let name = words.next().unwrap_or_default().to_owned();
        (name, words.collect::<Vec<_>>().join(" "))
    };
    text.lines().map(line).collect()
}

/// All services are as they should be, and there are no others.
fn assert_up(machine: &mut Machine, getty: &str, devices: (&str, &[&str]), idle: &[&str]) {
    let mut expected: BTreeSet<(String, &str)> = BTreeSet::new();
    let mut expect = |names: &[&str], state| {
        let of = |name: &&str| ((*name).to_owned(), state);
        expected.retain(|(name, _)| !names.contains(&name.as_str()));
        expected.extend(names.iter().map(of));
    };
    expect(&RUN, "Running");
    expect(&[getty, devices.0], "Running");
    expect(&HAVE_RUN, "Exited");
    expect(devices.1, "Exited");
    expect(idle, "Exited");
    let list = list(machine);
    let word = |(name, state): &(String, String)| {
        let first = state.split(' ').next().unwrap_or_default().to_owned();
        (name.clone(), first)
    };
    let found: BTreeSet<(String, String)> = list.iter().map(word).collect();
    let expected = expected.into_iter();
    let expected = expected.map(|(name, state)| (name, state.to_owned()));
    assert_eq!(found, expected.collect());
    machine.run("zinit status ready", "Running");
    machine.run("zinit healthcheck", "healthy");
    // Its files, with names of the machine's own services in them, also from inside and one alone.
    let count = machine.output("ls /etc/zinit/system/*.toml /etc/zinit/services/*.toml | wc -l");
    machine.run("zinit check", &format!("{count} files, 0 errors"));
    machine.run(
        "cd /etc/zinit/services; zinit check crond.toml; cd",
        "1 file, 0 errors",
    );
}

/// Powers it off, and sees that nothing was in the way.
fn power_off(mut machine: Machine) {
    machine.send("poweroff");
    let text = machine.end(POWERED_OFF);
    let last = text.rsplit("poweroff").next().unwrap_or_default();
    for trouble in ["waiting for", "SIGKILL", "can't", "failed"] {
        assert!(!last.contains(trouble), "{trouble:?}:\n{last}");
    }
}

/// The server's greeting to a client in the machine.
fn ssh_greets(machine: &mut Machine, address: &str) {
    machine.run(
        &format!("echo SSH-2.0-client | nc {address} 22 | head -n 1"),
        "SSH-2.0-dropbear",
    );
}

fn on_a_network(arch: &str, getty: &str) {
    let name = format!("system-{arch}");
    let mut machine = logged_in(Machine::of_image(arch, &name, NETWORK));
    assert_up(&mut machine, getty, MDEV, &[]);

    // The name: zinit has set it, and the service does so again.
    assert_eq!(machine.output("hostname"), "zinit");
    machine.run(
        "echo other >/etc/hostname; zinit restart hostname; hostname | tr a-z A-Z",
        "OTHER",
    );
    for (setting, value) in [("kernel/panic", "10"), ("net/ipv4/conf/all/rp_filter", "2")] {
        assert_eq!(machine.output(&format!("cat /proc/sys/{setting}")), value);
    }
    for (path, kind) in [
        ("/run/lock", "1777 directory"),
        ("/var/tmp", "1777 directory"),
        ("/var/log", "755 directory"),
        ("/var/run", "777 symbolic link"),
        ("/run/utmp", "664 regular file"),
        ("/dev/null", "666 character special file"),
        ("/tmp", "1777 directory"),
    ] {
        let found = machine.output(&format!("stat -c '%a %F' {path}"));
        // It is empty, or not.
        assert_eq!(found.replace("regular empty", "regular"), kind, "{path}");
    }
    // Each is mounted, and only once, however often one asks for it.
    let mounts = "cut -d ' ' -f 2 /proc/mounts | sort | uniq -d | wc -l";
    assert_eq!(machine.output(&format!("mount -a; {mounts}")), "0");
    machine.run(
        "grep -c 'tmpfs /tmp tmpfs\\|tmp /tmp tmpfs' /proc/mounts",
        "1",
    );
    machine.run("logger he\"llo\"; logread | grep hello", "hello");

    let address = machine.output("ip -4 addr show scope global");
    assert!(address.contains("inet 10.0.2.15/24"), "{address}");
    machine.run("ip route", "default via 10.0.2.2");
    machine.run("cat /etc/resolv.conf", "nameserver 10.0.2.3");
    ssh_greets(&mut machine, "10.0.2.15");
    // With a key one gets in.
    machine.run(
        "mkdir -p .ssh; dropbearkey -t ed25519 -f key >pub 2>&1; grep ^ssh- pub >.ssh/authorized_keys; \
         dbclient -y -y -i key root@10.0.2.15 'echo in with $SSH_CLIENT'",
        "in with 10.0.2.15",
    );
    power_off(machine);
}

#[test]
#[ignore = "boots a machine: make test-vm"]
fn all_of_it_comes_up_and_works_on_a_pc() {
    on_a_network("x86_64", "getty@ttyS0");
}

#[test]
#[ignore = "boots a machine: make test-vm"]
fn all_of_it_comes_up_and_works_on_arm() {
    on_a_network("aarch64", "getty@ttyAMA0");
}

#[test]
#[ignore = "boots a machine: make test-vm"]
fn without_a_network_device_it_is_ready_too() {
    let mut machine = logged_in(Machine::of_image("x86_64", "system-alone", ""));
    assert_up(&mut machine, "getty@ttyS0", MDEV, &["dhcp"]);
    machine.run("zinit logs dhcp", "there is no interface");
    ssh_greets(&mut machine, "127.0.0.1");
    power_off(machine);
}

#[test]
#[ignore = "boots a machine: make test-vm"]
fn without_an_answer_from_the_network_it_is_ready_too() {
    let silent = NETWORK.replace("user,", "hubport,hubid=0,");
    let mut machine = logged_in(Machine::of_image("x86_64", "system-silent", &silent));
    assert_up(&mut machine, "getty@ttyS0", MDEV, &[]);
    machine.run(
        "zinit logs dhcp",
        "network settled: nobody gives eth0 an address yet",
    );
    power_off(machine);
}

#[test]
#[ignore = "boots a machine: make test-vm"]
fn udev_does_for_mdev() {
    let image = "x86_64-udev";
    let mut machine = logged_in(Machine::of_image(image, "system-udev", NETWORK));
    assert_up(&mut machine, "getty@ttyS0", UDEV, &[]);
    // A link that only its rules make.
    machine.run("readlink /dev/rtc", "rtc0");
    machine.run("zinit logs udevd | grep -ci unknown", "0");
    power_off(machine);
}

fn image() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/image")
}

fn files(folder: &str) -> Vec<PathBuf> {
    let read = fs::read_dir(image().join(folder)).unwrap();
    let mut files: Vec<_> = read.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// What `zinit check` says of these files together, but for programs that only the image has.
fn complaints(name: &str, files: &[PathBuf]) -> Vec<String> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    for file in files {
        fs::copy(file, dir.join(file.file_name().unwrap())).unwrap();
    }
    let checked = Command::new(env!("CARGO_BIN_EXE_zinit"))
        .arg("check")
        .arg(&dir)
        .output()
        .unwrap();
    let sum = String::from_utf8_lossy(&checked.stdout);
    assert!(sum.contains(&format!("{} files, ", files.len())), "{sum}");
    let complaints = String::from_utf8_lossy(&checked.stderr);
    complaints
        .lines()
        .filter(|line| !line.contains("no such program"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn its_files_fit_together_and_so_do_those_for_udev() {
    let mdev = [files("system"), files("services")].concat();
    let said = complaints("set-mdev", &mdev);
    assert!(said.is_empty(), "{said:#?}");
    let of_mdev = ["mdev.toml", "coldplug.toml", "devices.toml"];
    let mut udev = mdev;
    udev.retain(|file| !of_mdev.iter().any(|name| file.ends_with(name)));
    udev.extend(files("udev"));
    let said = complaints("set-udev", &udev);
    assert!(said.is_empty(), "{said:#?}");
}

#[test]
fn each_file_says_in_a_line_or_two_what_it_is_for() {
    for folder in ["system", "services", "udev"] {
        for file in files(folder) {
            let text = fs::read_to_string(&file).unwrap();
            let comments = text
                .lines()
                .take_while(|line| line.starts_with("# "))
                .count();
            assert!((1..=2).contains(&comments), "{}", file.display());
        }
    }
}
