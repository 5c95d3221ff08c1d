//! A machine for a test: Debian's kernel in QEMU, an initramfs of the static program and busybox,
//! and a serial line to type on and to read from.
//!
//! `tests/vm/fetch.sh` brings kernel and emulator, `tests/vm/boot.sh` knows how to run them.

#![allow(dead_code, reason = "each test file uses the part of it that it needs")]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long anything may take. An emulated machine on a busy one is slow; a test that hangs is wrong.
const PATIENCE: Duration = Duration::from_secs(90);

/// What no console must ever show.
const NEVER: [&str; 4] = [
    "Attempted to kill init",
    "Kernel panic",
    "this is a bug of zinit's",
    "BUG:",
];

/// The files of an initramfs.
pub(crate) struct Image {
    dir: PathBuf,
}

/// A machine that runs.
pub(crate) struct Machine {
    qemu: Child,
    input: ChildStdin,
    console: Arc<Console>,
    /// How much of the console was read by `wait`.
    read: usize,
    /// Where QEMU's monitor listens.
    monitor: PathBuf,
}

#[derive(Default)]
struct Console {
    text: Mutex<(String, bool)>,
    more: Condvar,
}

impl Console {
    /// Takes in what a machine writes, to its end.
    fn fill(&self, mut output: impl Read) {
        let mut buffer = [0; 4096];
        loop {
            let count = output.read(&mut buffer).unwrap_or(0);
            let mut text = self.lock();
            text.0.push_str(&String::from_utf8_lossy(&buffer[..count]));
            text.1 = count == 0;
            self.more.notify_all();
            if count == 0 {
                return;
            }
        }
    }

    /// The text so far, and whether it is at its end. A test that failed has nothing broken here.
    fn lock(&self) -> MutexGuard<'_, (String, bool)> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn busybox() -> PathBuf {
    root().join("target/vm/x86_64/busybox")
}

/// The static program, as it is shipped.
fn program() -> PathBuf {
    std::env::var_os("ZINIT_STATIC").map_or_else(
        || root().join("target/x86_64-unknown-linux-musl/release/zinit"),
        PathBuf::from,
    )
}

impl Image {
    /// The program as `/init` and under its other names, busybox under all of its own, and nothing
    /// else: no /etc, no services.
    pub(crate) fn bare(name: &str) -> Self {
        let dir = root().join("target/vm/test").join(name);
        let _ = fs::remove_dir_all(&dir);
        for folder in ["bin", "sbin", "proc", "sys", "dev", "run", "tmp", "root"] {
            fs::create_dir_all(dir.join(folder)).unwrap();
        }
        let image = Self { dir };
        image.copy(&program(), "init");
        image.copy(&busybox(), "bin/busybox");
        let names = Command::new(busybox()).arg("--list").output().unwrap();
        let ours = ["init", "linuxrc", "poweroff", "reboot", "halt", "busybox"];
        for applet in String::from_utf8(names.stdout).unwrap().lines() {
            if !ours.contains(&applet) {
                symlink("busybox", image.path("bin").join(applet)).unwrap();
            }
        }
        for name in ["zinit", "poweroff", "reboot", "halt", "shutdown"] {
            symlink("/init", image.path("sbin").join(name)).unwrap();
        }
        image
    }

    /// One with the directories of a machine, and a shell on the serial line that is told to be
    /// there by the word `READY`.
    pub(crate) fn new(name: &str) -> Self {
        let image = Self::bare(name);
        image.file("etc/passwd", "root::0:0:root:/root:/bin/sh\n");
        image.file("etc/group", "root:x:0:\n");
        image.file("etc/shadow", "root::19000:0:99999:7:::\n");
        image.file("etc/hostname", "testbox\n");
        image.file("etc/profile", "PS1='ready# '\n");
        image.service(
            "console",
            "exec = [\"/bin/sh\", \"-l\"]\ntty = \"/dev/ttyS0\"\nenv = { HOME = \"/root\" }\n\
             [lifecycle]\nrestart = \"always\"\nrestart_delay_ms = 100",
        );
        image
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn file(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn script(&self, name: &str, text: &str) {
        self.file(name, &format!("#!/bin/sh\n{text}\n"));
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn copy(&self, from: &Path, name: &str) {
        fs::copy(from, self.path(name))
            .unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    pub(crate) fn service(&self, name: &str, body: &str) {
        self.at("services", "service", name, body);
    }

    pub(crate) fn system(&self, name: &str, body: &str) {
        self.at("system", "service", name, body);
    }

    pub(crate) fn target(&self, name: &str, body: &str) {
        self.at("services", "target", name, body);
    }

    fn at(&self, folder: &str, section: &str, name: &str, body: &str) {
        let text = format!("[{section}]\nname = \"{name}\"\n{body}\n");
        self.file(&format!("etc/zinit/{folder}/{name}.toml"), &text);
    }

    /// Something else comes first, and ends with `exec /zinit init`.
    pub(crate) fn init_script(&self, text: &str) {
        fs::rename(self.path("init"), self.path("zinit")).unwrap();
        for name in ["zinit", "poweroff", "reboot", "halt", "shutdown"] {
            self.remove(&format!("sbin/{name}"));
            symlink("/zinit", self.path("sbin").join(name)).unwrap();
        }
        self.script("init", text);
    }

    /// Starts a machine with this, and with these words for its kernel.
    pub(crate) fn boot(&self, words: &str) -> Machine {
        self.boot_with(words, "")
    }

    /// The same with more for QEMU.
    pub(crate) fn boot_with(&self, words: &str, extra: &str) -> Machine {
        let packed = self.dir.with_extension("cpio");
        let done = Command::new(root().join("tests/vm/pack.sh"))
            .args([&self.dir, &packed, &busybox()])
            .status()
            .unwrap();
        assert!(done.success(), "the image can't be packed");
        let monitor = packed.with_extension("monitor");
        Machine::start("x86_64", &packed, monitor, words, extra)
    }
}

impl Machine {
    /// Boots what `make image` has built in this directory of target/image, with more for QEMU. The
    /// name tells the machine from others of the same image.
    pub(crate) fn of_image(image: &str, name: &str, extra: &str) -> Self {
        let initramfs = root().join("target/image").join(image).join("initramfs");
        let place = root().join("target/vm/test");
        fs::create_dir_all(&place).unwrap();
        let monitor = place.join(format!("{name}.monitor"));
        let arch = image.trim_end_matches("-udev");
        Self::start(arch, &initramfs, monitor, "quiet", extra)
    }

    fn start(arch: &str, initramfs: &Path, monitor: PathBuf, words: &str, extra: &str) -> Self {
        let _ = fs::remove_file(&monitor);
        let extra = format!(
            "-no-reboot -monitor unix:{},server=on,wait=off {extra}",
            monitor.display()
        );
        let mut qemu = Command::new(root().join("tests/vm/boot.sh"))
            .arg(arch)
            .arg(initramfs)
            .args(words.split_whitespace())
            .env("QEMU_EXTRA", extra)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let console = Arc::new(Console::default());
        let output = qemu.stdout.take().unwrap();
        let shared = Arc::clone(&console);
        std::thread::spawn(move || shared.fill(output));
        Self {
            input: qemu.stdin.take().unwrap(),
            qemu,
            console,
            read: 0,
            monitor,
        }
    }

    /// Waits until the console shows this, behind what was waited for before.
    pub(crate) fn wait(&mut self, wanted: &str) {
        let until = Instant::now() + PATIENCE;
        let mut text = self.console.lock();
        loop {
            if let Some(at) = text.0[self.read..].find(wanted) {
                self.read += at + wanted.len();
                return;
            }
            let now = Instant::now();
            let ended = text.1;
            assert!(
                !ended && now < until,
                "{} {wanted:?}:\n{}",
                if ended { "it ended without" } else { "no" },
                text.0
            );
            text = self.console.more.wait_timeout(text, until - now).unwrap().0;
        }
    }

    /// Types a line.
    pub(crate) fn send(&mut self, line: &str) {
        self.input
            .write_all(format!("{line}\n").as_bytes())
            .unwrap();
        self.input.flush().unwrap();
    }

    /// Types a command in a shell and waits until it has answered with this. Whatever the line
    /// discipline echoes is not taken for the answer.
    pub(crate) fn run(&mut self, command: &str, answer: &str) {
        self.send(&format!("{command}; echo do\"ne\""));
        self.wait(answer);
        self.wait("done");
    }

    /// What a command prints, between two marks.
    pub(crate) fn output(&mut self, command: &str) -> String {
        self.send(&format!("echo be\"gin\"; {command}; echo; echo en\"d\""));
        self.wait("begin");
        let from = self.read;
        self.wait("\nend");
        let text = self.console.lock();
        let text = text.0[from..self.read - 4].replace('\r', "");
        let lines: Vec<&str> = text.lines().filter(|line| !is_kernels(line)).collect();
        lines.join("\n").trim().to_owned()
    }

    /// Presses keys, in QEMU's words: `ctrl-alt-delete`.
    pub(crate) fn press(&self, keys: &str) {
        let mut monitor = std::os::unix::net::UnixStream::connect(&self.monitor).unwrap();
        monitor
            .write_all(format!("sendkey {keys}\n").as_bytes())
            .unwrap();
        let mut seen = String::new();
        monitor.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut buffer = [0; 256];
        // The second prompt says that it is done.
        while seen.matches("(qemu)").count() < 2 {
            let count = monitor.read(&mut buffer).unwrap();
            assert!(count > 0, "QEMU's monitor hung up");
            seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    }

    /// All that the console has shown.
    pub(crate) fn text(&self) -> String {
        self.console.lock().0.clone()
    }

    /// Waits for the end of the machine; `how` is the kernel's last word.
    pub(crate) fn end(mut self, how: &str) -> String {
        self.wait(how);
        let until = Instant::now() + PATIENCE;
        loop {
            if self.qemu.try_wait().unwrap().is_some() {
                break;
            }
            assert!(
                Instant::now() < until,
                "the machine does not end:\n{}",
                self.text()
            );
            std::thread::park_timeout(Duration::from_millis(10));
        }
        self.text()
    }

    /// The end of a machine that stays on.
    pub(crate) fn cut(mut self) -> String {
        let _ = self.qemu.kill();
        self.text()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        if std::thread::panicking() {
            return;
        }
        let text = self.text();
        for never in NEVER {
            assert!(!text.contains(never), "{never:?} on the console:\n{text}");
        }
    }
}

/// An ext4 image with the files of a directory, for a machine's disk.
pub(crate) fn disk(name: &str, from: &Path) -> PathBuf {
    let path = from.with_extension("ext4");
    let _ = fs::remove_file(&path);
    fs::File::create(&path).unwrap().set_len(64 << 20).unwrap();
    let made = Command::new("/sbin/mkfs.ext4")
        .args(["-q", "-F", "-L", name, "-d"])
        .args([from, &path])
        .status()
        .expect("mkfs.ext4, of e2fsprogs");
    assert!(made.success());
    path
}

/// What QEMU has to be told of it.
pub(crate) fn drive(disk: &Path) -> String {
    let file = disk.display();
    format!("-drive if=none,id=d,format=raw,file={file} -device virtio-blk-pci,drive=d")
}

/// The modules for a disk, and a service that loads them and mounts it.
pub(crate) fn with_disk(image: &Image, options: &str) {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/vm/x86_64/modules");
    let order = fs::read_to_string(modules.join("order")).unwrap();
    fs::create_dir_all(image.path("modules")).unwrap();
    let mut load = String::new();
    for module in order.split_whitespace() {
        let base = Path::new(module).file_name().unwrap().to_str().unwrap();
        image.copy(&modules.join(module), &format!("modules/{base}"));
        load.push_str(&format!("insmod /modules/{base}\n"));
    }
    image.script(
        "bin/mount-disk",
        &format!(
            "{load}mkdir -p /mnt; i=0; while ! test -b /dev/vda; do i=$((i+1)); test $i -lt 100 || exit 1; \
             sleep 0.1; done; exec mount -t ext4 {options} /dev/vda /mnt"
        ),
    );
    image.system("disk", "exec = \"/bin/mount-disk\"\noneshot = true");
}

/// A line that the kernel says on the same console, whenever it likes: `[    2.079688] tsc: ...`.
fn is_kernels(line: &str) -> bool {
    let stamp = line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "));
    stamp.is_some_and(|(stamp, _)| stamp.trim().parse::<f64>().is_ok())
}
