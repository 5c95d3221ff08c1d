//! Who a service is and what it may use, as the kernel tells it under `/proc`; and what is said when
//! it can't become that.

#[path = "common/sandbox.rs"]
mod sandbox;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use nix::libc;
use nix::unistd::{Group, User, getuid};
use sandbox::{Sandbox, find_program, quoted, stat_field, wait_until};
use serde_json::{Value, json};

/// A program that only waits, run without a shell.
const WAITS: &str = "exec = [\"sleep\", \"1000\"]";

/// What is said of a user or group that everybody has.
const NOBODY: &str = "nobody";

/// Is there anybody we may become? Says so if not.
fn may_become_others() -> bool {
    let may = getuid().is_root() && user(NOBODY).is_some();
    if !may {
        println!("skipped: this needs root, and a user {NOBODY}");
    }
    may
}

fn user(name: &str) -> Option<User> {
    User::from_name(name).expect("the user database can be read")
}

fn gid(name: &str) -> u32 {
    let found = Group::from_name(name).expect("the group database can be read");
    found.expect("a group everybody has").gid.as_raw()
}

fn uid(name: &str) -> u32 {
    user(name).expect("a user everybody has").uid.as_raw()
}

/// A file of a process, as text.
fn read(pid: i32, file: &str) -> String {
    let path = format!("/proc/{pid}/{file}");
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A line of `proc_pid_status(5)`, its words with one blank between them.
fn status_line(pid: i32, key: &str) -> String {
    let status = read(pid, "status");
    let rest = status.lines().find_map(|line| line.strip_prefix(key));
    let rest = rest.unwrap_or_else(|| panic!("no {key} in {status}"));
    let words: Vec<&str> = rest.split_ascii_whitespace().collect();
    words.join(" ")
}

/// The sets of `capabilities(7)`, if they are all the same.
fn capabilities(pid: i32) -> String {
    let keys = ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"];
    let mut sets: Vec<String> = keys.iter().map(|key| status_line(pid, key)).collect();
    sets.dedup();
    sets.join(" ")
}

/// The priority of disk accesses in the words of a service file (`ioprio_get(2)`).
fn ionice(pid: i32) -> String {
    // SAFETY: ioprio_get takes plain numbers; 1 means a process.
    let word = unsafe { libc::syscall(libc::SYS_ioprio_get, 1, pid) };
    let level = word & 0x1fff;
    match word >> 13 {
        1 => format!("realtime:{level}"),
        2 => format!("best-effort:{level}"),
        3 => "idle".to_owned(),
        class => format!("class {class}"),
    }
}

/// The environment as it was at exec, in the order of names.
fn environment(pid: i32) -> Vec<String> {
    let text = read(pid, "environ");
    let entries = text.split('\0').filter(|entry| !entry.is_empty());
    let mut entries: Vec<String> = entries.map(str::to_owned).collect();
    entries.sort();
    entries
}

/// Those variables that have one of these names.
fn variables(pid: i32, names: &[&str]) -> String {
    let mut entries = environment(pid);
    entries.retain(|entry| {
        let name = entry.split('=').next().unwrap_or_default();
        names.contains(&name)
    });
    entries.join(" ")
}

/// May this process, and so the server, raise limits beyond what they are (`CAP_SYS_RESOURCE`)?
fn may_raise_limits() -> bool {
    let own = i32::try_from(std::process::id()).expect("process numbers fit");
    let effective = u64::from_str_radix(&status_line(own, "CapEff:"), 16);
    effective.expect("a number in hexadecimal digits") & (1 << 24) != 0
}

/// A limit as soft:hard (`proc_pid_limits(5)`).
fn limit(pid: i32, title: &str) -> String {
    let limits = read(pid, "limits");
    let rest = limits.lines().find_map(|line| line.strip_prefix(title));
    let rest = rest.unwrap_or_else(|| panic!("no {title} in {limits}"));
    let mut words = rest.split_ascii_whitespace();
    let mut next = || words.next().unwrap_or_default();
    format!("{}:{}", next(), next())
}

/// Each limit, how the kernel calls it, what is asked and what is to be found.
const LIMITS: [(&str, &str, &str, &str); 16] = [
    ("as", "Max address space", "8000000000:9000000000", ""),
    ("core", "Max core file size", "0", "0:0"),
    ("cpu", "Max cpu time", "1000:2000", ""),
    ("data", "Max data size", "7000000000:unlimited", ""),
    ("fsize", "Max file size", "65536:131072", ""),
    ("locks", "Max file locks", "11:12", ""),
    ("memlock", "Max locked memory", "65536", "65536:65536"),
    ("msgqueue", "Max msgqueue size", "4096:8192", ""),
    ("nice", "Max nice priority", "21:25", ""),
    ("nofile", "Max open files", "100:200", ""),
    ("nproc", "Max processes", "3000:4000", ""),
    ("rss", "Max resident set", "123456:234567", ""),
    ("rtprio", "Max realtime priority", "3:5", ""),
    ("rttime", "Max realtime timeout", "100000:200000", ""),
    ("sigpending", "Max pending signals", "33:44", ""),
    ("stack", "Max stack size", "4194304:8388608", ""),
];

/// One key of a service file and what came of it.
struct Row {
    key: &'static str,
    asked: String,
    body: String,
    expected: String,
    found: Box<dyn Fn(i32) -> String>,
}

fn row(
    key: &'static str,
    asked: &str,
    expected: impl Into<String>,
    found: impl Fn(i32) -> String + 'static,
) -> Row {
    Row {
        key,
        asked: asked.to_owned(),
        body: format!("{key} = {asked}"),
        expected: expected.into(),
        found: Box::new(found),
    }
}

fn four(number: u32) -> String {
    format!("{number} {number} {number} {number}")
}

/// The rows of `[service]`.
fn rows(sandbox: &Sandbox) -> Vec<Row> {
    let (nobody, daemon, bin) = (uid(NOBODY), gid("daemon"), gid("bin"));
    let mut groups = [daemon, bin];
    groups.sort_unstable();
    let capable = "[\"CAP_NET_BIND_SERVICE\", \"kill\"]";
    let status = |key: &'static str| move |pid| status_line(pid, key);
    let mut rows = vec![
        row("user", "\"nobody\"", four(nobody), status("Uid:")),
        row("user", "\"54321\"", four(54321), status("Gid:")),
        row("user", "\"54321\"", "", status("Groups:")),
        row("group", "\"daemon\"", four(daemon), status("Gid:")),
        row("group", "\"54322\"", four(54322), status("Gid:")),
        row(
            "groups",
            "[\"daemon\", \"bin\"]",
            format!("{} {}", groups[0], groups[1]),
            status("Groups:"),
        ),
        row("umask", "\"0027\"", "0027", status("Umask:")),
        row("nice", "5", "5", nice),
        row("nice", "-5", "-5", nice),
        row("ionice", "\"best-effort:2\"", "best-effort:2", ionice),
        row("ionice", "\"realtime:3\"", "realtime:3", ionice),
        row("ionice", "\"idle\"", "idle", ionice),
        row("oom_score_adj", "123", "123\n", |pid| {
            read(pid, "oom_score_adj")
        }),
        row("no_new_privs", "true", "1", status("NoNewPrivs:")),
        row("no_new_privs", "false", "0", status("NoNewPrivs:")),
        row("capabilities", capable, "0000000000000420", capabilities),
        row("capabilities", "[]", "0000000000000000", capabilities),
    ];
    let mut capable = row("capabilities", capable, "0000000000000420", capabilities);
    capable.body += "\nuser = \"nobody\"";
    capable.asked += ", as nobody";
    rows.push(capable);
    rows.extend(rows_of_environment(sandbox));
    rows
}

fn nice(pid: i32) -> String {
    stat_field(pid, 19).unwrap_or(i32::MIN).to_string()
}

fn rows_of_environment(sandbox: &Sandbox) -> Vec<Row> {
    let first = "# remark\nA=1\nB=\"two words\"\n; remark\nC='single $A'\nD=first\n";
    fs::write(sandbox.path("first.env"), first).unwrap();
    fs::write(sandbox.path("second.env"), "D=second\nE=\"a \\\"b\\\"\"\n").unwrap();
    let path = |name: &str| quoted(&sandbox.text(name));
    let files = format!(
        "[{}, {}, {}]",
        path("first.env"),
        quoted(&format!("-{}", sandbox.text("absent.env"))),
        path("second.env")
    );
    let names = |pid| variables(pid, &["A", "B", "C", "D", "E"]);
    let all = "A=1 B=two words C=single $A D=second E=a \"b\"";
    let one = "A=1 B=two words C=single $A D=first";
    let user = user("daemon").expect("a user everybody has");
    let own = format!(
        "HOME={} LOGNAME=daemon SHELL={} USER=daemon",
        user.dir.display(),
        user.shell.display()
    );
    vec![
        row("env_file", &files, all, names),
        row("env_file", &path("first.env"), one, names),
        row("env_inherit", "false", "", |pid| {
            variables(pid, &["SERVERS_OWN"])
        }),
        row("env_inherit", "true", "SERVERS_OWN=yes", |pid| {
            variables(pid, &["SERVERS_OWN"])
        }),
        row("user", "\"daemon\"", own, |pid| {
            variables(pid, &["HOME", "USER", "LOGNAME", "SHELL"])
        }),
    ]
}

/// A directory with a program that waits and all it needs, if the program's needs can be told.
fn new_root(sandbox: &Sandbox) -> Option<String> {
    let program = find_program("sleep")?;
    let output = Command::new("ldd").arg(&program).output().ok()?;
    let needs = String::from_utf8(output.stdout).ok()?;
    let words = needs.split_ascii_whitespace();
    let libraries = words.filter(|word| word.starts_with('/')).map(Path::new);
    let root = sandbox.path("root");
    for file in libraries.chain([program.as_path()]) {
        let inside = root.join(file.strip_prefix("/").ok()?);
        fs::create_dir_all(inside.parent()?).ok()?;
        fs::copy(file, inside).ok()?;
    }
    Some(sandbox.text("root"))
}

/// The table of a service's identity: each key is found again in what the kernel says of its process.
#[test]
fn each_key_is_found_in_proc() {
    if !may_become_others() {
        return;
    }
    let mut sandbox = Sandbox::new();
    sandbox.env("SERVERS_OWN", "yes");
    let mut rows = rows(&sandbox);
    match new_root(&sandbox) {
        None => println!("skipped: chroot needs a program that can be copied"),
        Some(root) => {
            let expected = root.clone();
            rows.push(row("chroot", &quoted(&root), expected, |pid| {
                let link = fs::read_link(format!("/proc/{pid}/root"));
                link.expect("a root").display().to_string()
            }));
        }
    }
    let may_raise = may_raise_limits();
    for (key, title, asked, found) in LIMITS {
        // Nobody has any of these unless somebody is allowed to raise limits.
        let is_raised = matches!(key, "nice" | "rtprio");
        let (asked, found) = if is_raised && !may_raise {
            println!("without the right to raise limits {key} can only be 0");
            ("0", "0:0")
        } else {
            (asked, found)
        };
        let expected = if found.is_empty() { asked } else { found };
        let mut row = row(key, &quoted(asked), expected, move |pid| limit(pid, title));
        row.body = format!("[limits]\n{}", row.body);
        rows.push(row);
    }
    for (at, row) in rows.iter().enumerate() {
        let body = format!("{WAITS}\n{}\n[lifecycle]\nrestart = \"never\"", row.body);
        sandbox.service(&format!("row{at}"), &body);
    }
    sandbox.start();
    println!("{:<14} {:<60} found", "key", "asked");
    let mut wrong = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        let name = format!("row{at}");
        sandbox.await_running(&name);
        let found = (row.found)(sandbox.pid(&name));
        println!("{:<14} {:<60} {}", row.key, row.asked, found.trim_end());
        if found != row.expected {
            let expected = &row.expected;
            wrong.push(format!("{}: {found:?}, not {expected:?}", row.body));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Without the server's environment a service has just what a program needs.
#[test]
fn an_environment_of_its_own_holds_nothing_of_the_servers() {
    let mut sandbox = Sandbox::new();
    sandbox.env("SERVERS_OWN", "yes");
    sandbox.service("own", &format!("{WAITS}\nenv_inherit = false"));
    sandbox.start();
    sandbox.await_running("own");
    let entries = environment(sandbox.pid("own"));
    let names = entries.iter().map(|entry| entry.split('=').next());
    let names: Vec<&str> = names.map(Option::unwrap_or_default).collect();
    let expected = [
        "HOME",
        "LANG",
        "LOGNAME",
        "PATH",
        "SHELL",
        "USER",
        "ZINIT_MARK",
    ];
    assert_eq!(names, expected);
}

/// What stands in `env` counts more than files of variables and what the user database says.
#[test]
fn the_files_own_variables_count_most() {
    if !may_become_others() {
        return;
    }
    let mut sandbox = Sandbox::new();
    sandbox.env("GIVEN", "server");
    fs::write(
        sandbox.path("env"),
        "GIVEN=file\nSHELL=/file\nOWN=file\nHOME=/file\n",
    )
    .unwrap();
    sandbox.service(
        "own",
        &format!(
            "{WAITS}\nuser = \"daemon\"\nenv_file = {}\n[service.env]\nHOME = \"/own\"\nOWN = \"own\"",
            quoted(&sandbox.text("env"))
        ),
    );
    sandbox.start();
    sandbox.await_running("own");
    let found = variables(
        sandbox.pid("own"),
        &["GIVEN", "HOME", "OWN", "SHELL", "USER"],
    );
    assert_eq!(
        found,
        "GIVEN=file HOME=/own OWN=own SHELL=/file USER=daemon"
    );
}

/// A service with limits for all its processes is in a cgroup of its own, where there are cgroups.
#[test]
fn a_service_has_a_cgroup_where_there_are_any() {
    let mut sandbox = Sandbox::new();
    sandbox.service("alone", &format!("{WAITS}\n[resources]\npids_max = 77"));
    sandbox.start();
    sandbox.await_running("alone");
    let groups = read(sandbox.pid("alone"), "cgroup");
    let own = groups.lines().find(|line| line.starts_with("0::"));
    let own = own.unwrap_or_default();
    println!("cgroup: {own}");
    if sandbox
        .log()
        .contains("no cgroup v2 that can be written to")
    {
        println!("skipped: there is no cgroup v2 that can be written to");
    } else {
        assert!(own.ends_with("/service-alone"), "{groups}");
    }
}

/// A service that needs the kernel to spare it can say so.
#[test]
fn a_negative_oom_score_adj_is_written_whole() {
    let mut sandbox = Sandbox::new();
    let body = format!("{WAITS}\noom_score_adj = -900\n{ONCE}");
    sandbox.service("spared", &body);
    sandbox.start();
    match sandbox.await_goal("spared", "running") {
        Ok(_) => assert_eq!(read(sandbox.pid("spared"), "oom_score_adj"), "-900\n"),
        // Without the right to do so.
        Err(_) => assert_eq!(
            error_of(&sandbox, "spared"),
            "spawn error: oom_score_adj: Permission denied"
        ),
    }
}

// What can't be done between fork and exec is told.

/// Never tried again, so that what is told stays.
const ONCE: &str = "[lifecycle]\nrestart = \"never\"";

fn error_of(sandbox: &Sandbox, name: &str) -> String {
    let status = sandbox.status(name);
    status["error"].as_str().unwrap_or_default().to_owned()
}

/// Starts a service of each body, and looks that it fails with this error.
fn assert_errors(sandbox: &Sandbox, cases: &[(&str, &str)]) {
    let mut wrong = Vec::new();
    for (at, (_, expected)) in cases.iter().enumerate() {
        let name = format!("case{at}");
        let (code, message, data) = sandbox.not_done("service.start", &name);
        assert_eq!(code, -32603, "{message}");
        assert_eq!(data["outcome"], "failed", "{message}");
        let found = error_of(sandbox, &name);
        if found != format!("spawn error: {expected}") || !message.contains(expected) {
            wrong.push(format!("{found:?}, {message:?}, not {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn write_cases(sandbox: &Sandbox, cases: &[(&str, &str)]) {
    for (at, (body, _)) in cases.iter().enumerate() {
        let body = format!("{WAITS}\nstatus = \"stop\"\n{body}\n{ONCE}");
        sandbox.service(&format!("case{at}"), &body);
    }
}

/// Each step between fork and exec that fails is told with what it was about.
#[test]
fn what_a_service_cannot_become_is_told() {
    if !may_become_others() {
        return;
    }
    let mut sandbox = Sandbox::new();
    let present = quoted(&sandbox.text("present"));
    fs::write(sandbox.path("present"), "A=1\n").unwrap();
    fs::create_dir(sandbox.path("new-root")).unwrap();
    let second = format!("env_file = [{present}, \"/no/such/env\"]");
    let inside = format!(
        "chroot = {}\ndir = \"/tmp\"",
        quoted(&sandbox.text("new-root"))
    );
    let closed = sandbox.path("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).unwrap();
    let dir = sandbox.text("closed");
    let denied = format!("user = \"nobody\"\ndir = {}", quoted(&dir));
    let told = format!("chdir {dir}: Permission denied");
    let no_limit = "setrlimit nofile unlimited: Operation not permitted";
    let cases = [
        ("user = \"nosuch\"", "setuid nosuch: no such user"),
        ("group = \"nosuch\"", "setgid nosuch: no such group"),
        ("groups = [\"nosuch\"]", "setgid nosuch: no such group"),
        (
            "user = \"nobody\"\ngroups = [\"daemon\", \"nosuch\", \"bin\"]",
            "setgid nosuch: no such group",
        ),
        (
            "env_file = \"/no/such/env\"",
            "env_file /no/such/env: No such file or directory",
        ),
        (&second, "env_file /no/such/env: No such file or directory"),
        (
            "chroot = \"/no/such/root\"",
            "chroot /no/such/root: No such file or directory",
        ),
        (&inside, "chdir /tmp: No such file or directory"),
        (
            "dir = \"/no/such/dir\"",
            "chdir /no/such/dir: No such file or directory",
        ),
        (&denied, &told),
        ("[limits]\nnofile = \"unlimited\"", no_limit),
    ];
    write_cases(&sandbox, &cases);
    sandbox.start();
    assert_errors(&sandbox, &cases);
}

/// A sandbox whose server is no root and has no right of its own, if there can be one.
fn sandbox_without_rights() -> Option<Sandbox> {
    let Some(setpriv) = find_program("setpriv").filter(|_| may_become_others()) else {
        println!("skipped: this needs setpriv");
        return None;
    };
    let mut sandbox = Sandbox::new();
    for dir in [sandbox.dir().to_owned(), sandbox.services_dir()] {
        fs::set_permissions(dir, PermissionsExt::from_mode(0o777)).unwrap();
    }
    let setpriv = setpriv.to_str().expect("a path of plain characters");
    let words = ["--reuid=nobody", "--regid=bin", "--clear-groups", "--"];
    sandbox.wrap(&[&[setpriv][..], &words].concat());
    Some(sandbox)
}

/// A server without rights says which of them it would have needed.
#[test]
fn a_server_without_rights_says_what_it_may_not() {
    let Some(mut sandbox) = sandbox_without_rights() else {
        return;
    };
    let cases = [
        (
            "group = \"daemon\"",
            "setgid daemon: Operation not permitted",
        ),
        ("nice = -5", "priority: Permission denied"),
        (
            "capabilities = [\"CAP_KILL\"]",
            "capabilities: Operation not permitted",
        ),
        ("chroot = \"/tmp\"", "chroot /tmp: Operation not permitted"),
        (
            "[limits]\nnofile = \"999999999\"",
            "setrlimit nofile 999999999: Operation not permitted",
        ),
    ];
    write_cases(&sandbox, &cases);
    sandbox.start();
    assert_errors(&sandbox, &cases);
}

/// A server that may not become another user says which one.
#[test]
fn a_server_without_rights_says_whom_it_may_not_become() {
    let Some(mut sandbox) = sandbox_without_rights() else {
        return;
    };
    sandbox.service("other", &format!("{WAITS}\nuser = \"daemon\"\n{ONCE}"));
    sandbox.start();
    assert!(sandbox.await_goal("other", "running").is_err());
    let error = error_of(&sandbox, "other");
    let told = error.contains("daemon") && error.ends_with(": Operation not permitted");
    assert!(told, "{error}");
}

// Others that are the same.

/// Hooks run as the user of their service, with its groups and its limits.
#[test]
fn hooks_run_as_the_user_of_the_service() {
    if !may_become_others() {
        return;
    }
    let mut sandbox = Sandbox::new();
    let hook = |name: &str| {
        let says = format!("echo {name} $(id -u) $(id -g) $(id -G) $USER $(ulimit -n)");
        format!("{name} = {}\n", quoted(&says))
    };
    let names = ["pre_start", "post_start", "stop", "post_stop", "reload"];
    let hooks: String = names.iter().map(|name| hook(name)).collect();
    sandbox.service(
        "hooked",
        &format!(
            "{WAITS}\nuser = \"nobody\"\ngroup = \"bin\"\ngroups = [\"daemon\"]\n\
             [limits]\nnofile = 123\n[hooks]\n{hooks}"
        ),
    );
    sandbox.start();
    sandbox.await_running("hooked");
    sandbox.done("service.reload", "hooked");
    sandbox.done("service.stop", "hooked");
    let (nobody, bin, daemon) = (uid(NOBODY), gid("bin"), gid("daemon"));
    for name in names {
        let line = format!("{name} {nobody} {bin} {bin} {daemon} nobody 123");
        sandbox.wait_output("hooked", &line);
    }
}

/// An exec probe runs as the user of its service, below its root and with its variables.
#[test]
fn exec_probes_run_as_the_user_of_the_service() {
    if !may_become_others() {
        return;
    }
    let mut sandbox = Sandbox::new();
    let probe = "echo $(id -u) $HOME $OWN $SERVICE $MAINPID; exit 3";
    sandbox.service(
        "probed",
        &format!(
            "{WAITS}\nuser = \"nobody\"\n[service.env]\nOWN = \"own\"\n\
             [readiness]\ntype = \"spawn\"\n[health]\ntype = \"exec\"\ntarget = {}\n\
             on_unhealthy = \"report\"",
            quoted(probe)
        ),
    );
    sandbox.start();
    sandbox.await_running("probed");
    let told = || sandbox.status("probed")["health"]["last_error"].clone();
    assert!(wait_until(|| told() != Value::Null), "{}", sandbox.log());
    let user = user(NOBODY).expect("a user everybody has");
    let expected = format!(
        "exited with code 3: {} {} own probed {}",
        user.uid,
        user.dir.display(),
        sandbox.pid("probed")
    );
    assert_eq!(told(), json!(expected));
    let kept = sandbox.output("probed");
    assert!(kept.is_empty(), "what probes write is not kept: {kept:?}");
}

/// A program that is not root can open its output again by name, as web servers do.
#[test]
fn output_can_be_opened_again_by_its_user() {
    if !may_become_others() {
        return;
    }
    let mut sandbox = Sandbox::new();
    let says = "echo one > /dev/stdout; echo two > /proc/self/fd/1; echo three > /dev/stderr; \
                echo four >> /proc/self/fd/2; id -u";
    sandbox.service(
        "web",
        &format!("exec = {}\noneshot = true\nuser = \"nobody\"", quoted(says)),
    );
    sandbox.start();
    sandbox.await_running("web");
    let number = uid(NOBODY).to_string();
    let mut lines = sandbox.output("web");
    lines.sort();
    let mut expected = ["one", "two", "three", "four", &number];
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

/// A user by number that has an entry is the same as by name.
#[test]
fn a_number_with_an_entry_is_that_user() {
    if !may_become_others() {
        return;
    }
    let mut sandbox = Sandbox::new();
    let user = user("daemon").expect("a user everybody has");
    for (name, said) in [
        ("named", user.name.clone()),
        ("numbered", user.uid.to_string()),
    ] {
        sandbox.service(name, &format!("{WAITS}\nuser = {}", quoted(&said)));
    }
    sandbox.start();
    let found = ["named", "numbered"].map(|name| {
        sandbox.await_running(name);
        let pid = sandbox.pid(name);
        let lines = ["Uid:", "Gid:", "Groups:"].map(|key| status_line(pid, key));
        (lines, variables(pid, &["HOME", "USER", "LOGNAME", "SHELL"]))
    });
    assert_eq!(found[0], found[1]);
    assert!(found[0].1.contains("USER=daemon"), "{found:?}");
}

/// A number without an entry keeps what else there is of the environment.
#[test]
fn a_number_without_an_entry_is_told_nothing_of_itself() {
    if !may_become_others() {
        return;
    }
    let mut sandbox = Sandbox::new();
    sandbox.env("HOME", "/servers");
    sandbox.env("USER", "server");
    sandbox.service("number", &format!("{WAITS}\nuser = \"54321\""));
    sandbox.start();
    sandbox.await_running("number");
    let found = variables(sandbox.pid("number"), &["HOME", "USER"]);
    assert_eq!(found, "HOME=/servers USER=server");
}
