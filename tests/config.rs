//! Service files: what is read, what is said about what is wrong, and what is written.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use zinit::config::{
    self, Dirs, KEYS, Loaded, Problem, REQUIRED, SetError, check, from_value, load, load_file,
    parse, to_toml, to_value,
};
use zinit::engine::Spec;
use zinit::engine::spec::{Class, Exec, Probe};

/// Every file in `tests/config` says what stands beside it in `.expected`, or nothing at all.
/// With `BLESS` in the environment the expectations are written anew.
#[test]
fn files_and_what_is_said_about_them() {
    for path in fixtures() {
        let name = PathBuf::from(path.file_name().unwrap());
        let text = fs::read_to_string(&path).unwrap();
        let (spec, problems) = parse(&name, &text);
        let said = lines(&problems);
        let expected = path.with_extension("expected");
        if std::env::var_os("BLESS").is_some() && !said.is_empty() {
            fs::write(&expected, &said).unwrap();
        }
        assert_eq!(
            said,
            fs::read_to_string(&expected).unwrap_or_default(),
            "{}",
            path.display()
        );
        assert_eq!(
            spec.is_none(),
            problems.iter().any(Problem::is_error),
            "{}",
            path.display()
        );
        if let Some(spec) = spec {
            assert_eq!(
                parse(&name, &to_toml(&spec)).0.as_ref(),
                Some(&spec),
                "{}",
                to_toml(&spec)
            );
        }
    }
}

#[test]
fn a_minimal_file_has_the_known_defaults() {
    let expected = Spec::new("web", Exec::Line("sleep 1000".to_owned()));
    let (spec, problems) = parse(Path::new("x"), "[service]\nname='web'\nexec='sleep 1000'");
    assert_eq!((spec, problems), (Some(expected), vec![]));
    let (target, _) = parse(Path::new("x"), "[target]\nname='grp'");
    assert_eq!(target, Some(Spec::target("grp")));
}

#[test]
fn clients_see_every_default() {
    let spec = Spec::new("alpha", Exec::Line("exec sleep 1000".to_owned()));
    let shown = r#"{"dependencies":{"after":[],"conflicts":[],"requires":[],"wants":[]},"health":null,"hooks":{"post_start":null,"post_start_timeout_ms":30000,"post_stop":null,"post_stop_timeout_ms":30000,"pre_start":null,"pre_start_timeout_ms":30000,"reload":null,"reload_timeout_ms":30000,"stop":null,"stop_timeout_ms":30000},"lifecycle":{"kill_mode":"tree","max_restarts":10,"on_exit":"nothing","on_failure":"nothing","reload_signal":null,"restart":"on-failure","restart_delay_max_ms":300000,"restart_delay_ms":1000,"restart_dependents":false,"stability_period_ms":30000,"start_timeout_ms":30000,"stop_signal":"SIGTERM","stop_timeout_ms":10000,"success_exit":[0],"survive_switch_root":false},"limits":{"as":null,"core":null,"cpu":null,"data":null,"fsize":null,"locks":null,"memlock":null,"msgqueue":null,"nice":null,"nofile":null,"nproc":null,"rss":null,"rtprio":null,"rttime":null,"sigpending":null,"stack":null},"logging":{"buffer_lines":1000,"file":null,"forward":null,"forward_format":"prefixed","max_files":5,"max_size":10485760,"mode":"0640"},"readiness":{"fd":null,"text":null,"type":"spawn","watchdog_ms":0},"resources":{"cpu_max":null,"cpu_weight":null,"io_weight":null,"memory_high":null,"memory_max":null,"pids_max":null},"service":{"capabilities":null,"chroot":null,"class":"user","critical":false,"dir":null,"env":{},"env_file":[],"env_inherit":null,"exec":"exec sleep 1000","group":null,"groups":[],"ionice":null,"kill_others":false,"name":"alpha","nice":null,"no_new_privs":false,"oneshot":false,"oom_score_adj":null,"ports":[],"process_filters":[],"status":"start","tty":null,"umask":null,"user":null},"socket":{"activation":false,"listen":[],"mode":null,"names":[]}}"#;
    assert_eq!(to_value(&spec).to_string(), shown);
    assert_eq!(from_value(to_value(&spec)), Ok(spec.clone()));
    assert_eq!(from_value(json!({ "config": to_value(&spec) })), Ok(spec));
    let target = r#"{"class":"user","critical":false,"dependencies":{"after":[],"conflicts":[],"requires":[],"wants":[]},"is_target":true,"name":"grp","status":"start"}"#;
    assert_eq!(to_value(&Spec::target("grp")).to_string(), target);
    assert_eq!(
        from_value(json!({"target": {"name": "grp"}})),
        Ok(Spec::target("grp"))
    );
}

#[test]
fn a_proxy_is_read_in_each_of_its_shapes() {
    use zinit::config::{ProxyError, proxy_from_value};
    let plain = json!({"name": "p", "listen": ["tcp:127.0.0.1:80", "unix:/run/p.sock"],
        "backend": "/run/b.sock", "service": "web"});
    let spec = proxy_from_value(&plain).expect("a proxy");
    let texts: Vec<String> = spec.listen.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["tcp:127.0.0.1:80", "unix:/run/p.sock"]);
    assert_eq!(
        (spec.connect_timeout.as_secs(), spec.idle_timeout),
        (30, None)
    );
    let tagged = json!({"config": {"name": "p", "listen": [{"tcp": "127.0.0.1:80"},
        {"type": "unix", "path": "/run/p.sock"}], "backend": {"Unix": "/run/b.sock"},
        "service": "web", "idle_timeout": 0, "connect_timeout": 30}});
    assert_eq!(proxy_from_value(&tagged), Ok(spec));
    let with = |key: &str, value: Value| {
        let mut proxy = plain.clone();
        proxy[key] = value;
        match proxy_from_value(&proxy) {
            Err(ProxyError::Invalid(text) | ProxyError::Parse(text)) => text,
            Ok(spec) => panic!("{spec:?}"),
        }
    };
    for (key, value, error) in [
        ("name", json!(""), "name is required"),
        (
            "listen",
            json!([]),
            "at least one listen address is required",
        ),
        ("service", json!(""), "service name is required"),
        ("connect_timeout", json!(0), "connect_timeout must be > 0"),
        (
            "backend",
            json!("unix:/run/p.sock"),
            "backend 'unix:/run/p.sock' is where the proxy listens",
        ),
        (
            "backend",
            json!("host:80"),
            "backend 'host' is no address; names are not looked up, so it is an IP address or localhost",
        ),
        (
            "backend",
            Value::Null,
            "invalid type: null, expected an address such as tcp:127.0.0.1:80 or unix:/run/x.sock",
        ),
    ] {
        assert_eq!(with(key, value), error, "{key}");
    }
    let nameless = json!({"listen": ["/a"], "backend": "/b", "service": "web"});
    let missing = ProxyError::Parse("missing field `name`".to_owned());
    assert_eq!(proxy_from_value(&nameless), Err(missing));
}

#[test]
fn clients_get_the_known_errors() {
    let parse_error = |value| match from_value(value) {
        Err(SetError::Parse(text)) => text,
        other => panic!("{other:?}"),
    };
    let service = |key: &str, value: Value| {
        let mut config = json!({"service": {"name": "x", "exec": "x"}});
        config["service"][key] = value;
        config
    };
    let with_lifecycle =
        |lifecycle| json!({"service": {"name": "x", "exec": "x"}, "lifecycle": lifecycle});
    assert_eq!(parse_error(json!({})), "missing field `service`");
    assert_eq!(
        parse_error(json!({"service": {"name": "x"}})),
        "missing field `exec`"
    );
    assert_eq!(
        parse_error(Value::Null),
        "invalid type: null, expected struct ServiceConfig"
    );
    assert_eq!(
        parse_error(service("ports", json!([70000]))),
        "invalid value: integer `70000`, expected u16"
    );
    assert_eq!(
        parse_error(service("class", json!("x"))),
        "unknown variant `x`, expected `user` or `system`"
    );
    assert_eq!(
        parse_error(with_lifecycle(json!({"restart": "on_failure"}))),
        "unknown variant `on_failure`, expected one of `always`, `on-failure`, `never`"
    );
    assert!(parse_error(service("env", Value::Null)).starts_with("invalid type: null"));
    assert!(from_value(service("dir", Value::Null)).is_ok());
    assert!(
        from_value(service("color", json!("red"))).is_ok(),
        "unknown keys are ignored"
    );

    let lifecycle = json!({"restart_delay_ms": 0, "restart_delay_max_ms": 0, "start_timeout_ms": 0,
        "stop_timeout_ms": 0, "stop_signal": "X"});
    let health = json!({"type": "http", "target": "", "expect_status": 0, "retries": 0, "interval_ms": 0,
        "timeout_ms": 0});
    let config = json!({"service": {"name": "", "exec": ""}, "lifecycle": lifecycle, "health": health,
        "logging": {"buffer_lines": 0},
        "dependencies": {"after": ["X b"], "requires": ["X a"], "wants": ["X c"], "conflicts": ["X d"]}});
    let expected = [
        "service.name cannot be empty",
        "service.exec cannot be empty",
        "lifecycle.restart_delay_ms must be > 0",
        "lifecycle.restart_delay_max_ms must be > 0",
        "lifecycle.start_timeout_ms must be > 0",
        "lifecycle.stop_timeout_ms must be > 0",
        "lifecycle.stop_signal 'X' is not a valid signal",
        "health.retries must be > 0",
        "health.interval_ms must be > 0",
        "health.timeout_ms must be > 0",
        "health.target cannot be empty",
        "health.expect_status must be > 0",
        "logging.buffer_lines must be > 0",
        "dependencies.requires contains invalid name 'X a'",
        "dependencies.after contains invalid name 'X b'",
        "dependencies.wants contains invalid name 'X c'",
        "dependencies.conflicts contains invalid name 'X d'",
    ];
    assert_eq!(
        from_value(config),
        Err(SetError::Invalid(expected.map(str::to_owned).to_vec()))
    );

    let invalid = |name: &str| match from_value(service("name", json!(name))) {
        Err(SetError::Invalid(texts)) => texts.join("|"),
        other => panic!("{other:?}"),
    };
    let text = "service.name '..' contains invalid characters (use alphanumeric, dash, underscore)";
    assert_eq!(invalid(".."), text);
    assert_eq!(
        invalid(&"x".repeat(251)),
        "service.name is 251 bytes long, at most 250 are allowed"
    );
    assert!(from_value(service("name", json!("x".repeat(250)))).is_ok());
    assert_eq!(
        from_value(with_lifecycle(
            json!({"restart_delay_ms": 5, "restart_delay_max_ms": 4})
        )),
        Err(SetError::Invalid(vec![
            "lifecycle.restart_delay_max_ms must be >= restart_delay_ms".to_owned()
        ]))
    );
}

/// The table of keys is what the diagnosis knows; the mirror is what is read and written.
#[test]
fn the_table_of_keys_is_the_mirror() {
    let health = json!({"type": "http", "target": "x"});
    let sample = json!({"service": {"name": "x", "exec": "x"}, "health": health});
    let full = to_value(&from_value(sample).unwrap());
    let mut target = to_value(&Spec::target("x"));
    target
        .as_object_mut()
        .unwrap()
        .retain(|key, _| key != "is_target" && key != "dependencies");
    let mut found: Vec<(String, String, Value)> = Vec::new();
    for (section, table) in full
        .as_object()
        .unwrap()
        .iter()
        .chain([(&"target".to_owned(), &target)])
    {
        let keys = table.as_object().unwrap().iter();
        found.extend(keys.map(|(key, value)| (section.clone(), key.clone(), value.clone())));
    }
    // Proxies have a mirror of their own.
    let of_proxy = |key: &&zinit::config::Key| key.section == "xinet";
    let known: BTreeSet<_> = KEYS
        .iter()
        .filter(|key| !of_proxy(key))
        .map(|key| (key.section.to_owned(), key.name.to_owned()))
        .collect();
    assert_eq!(
        found
            .iter()
            .map(|(section, key, _)| (section.clone(), key.clone()))
            .collect::<BTreeSet<_>>(),
        known
    );
    let others = KEYS.iter().filter(of_proxy).count();
    assert_eq!(known.len() + others, KEYS.len(), "a key is listed twice");
    for (section, name, value) in found {
        let key = KEYS
            .iter()
            .find(|key| key.section == section && key.name == name)
            .unwrap();
        let default = match &value {
            Value::Null => "none".to_owned(),
            Value::String(text) => text.clone(),
            Value::Array(items) if items.len() == 1 => items[0].to_string(),
            Value::Array(_) | Value::Object(_) => "empty".to_owned(),
            Value::Bool(_) | Value::Number(_) => value.to_string(),
        };
        // What makes a service ready follows from what it is.
        let follows = (key.section, key.name) == ("readiness", "type");
        assert!(
            key.default == default || key.default == REQUIRED || follows,
            "{section}.{name}: {default}"
        );
    }
}

#[test]
fn a_written_file_has_its_sections_in_order() {
    let sample = json!({"service": {"name": "x", "exec": "x", "env": {"B": "2", "A b": "1"}, "dir": "/"},
        "health": {"type": "tcp", "target": "localhost:80"}, "dependencies": {"requires": ["a", "b"]}});
    let spec = from_value(sample).unwrap();
    assert!(matches!(spec.health.as_ref().unwrap().probe, Probe::Tcp(_)));
    let expected = r#"[service]
name = "x"
exec = "x"
dir = "/"
oneshot = false
status = "start"
class = "user"
critical = false
ports = []
kill_others = false
process_filters = []

[service.env]
"A b" = "1"
B = "2"

[dependencies]
after = []
requires = ["a", "b"]
wants = []
conflicts = []

[lifecycle]
restart = "on-failure"
restart_delay_ms = 1000
restart_delay_max_ms = 300000
max_restarts = 10
stability_period_ms = 30000
start_timeout_ms = 30000
stop_timeout_ms = 10000
stop_signal = "SIGTERM"

[health]
type = "tcp"
target = "localhost:80"
interval_ms = 10000
timeout_ms = 5000
retries = 3
start_period_ms = 0

[logging]
buffer_lines = 1000
"#;
    assert_eq!(to_toml(&spec), expected);
}

#[test]
fn hostile_files_are_refused_quickly() {
    for text in [
        "a=".to_owned() + &"[".repeat(500_000),
        "a.".repeat(500_000) + "a=1",
        inline_tables_in_dotted_keys(),
    ] {
        assert_eq!(parse(Path::new("x"), &text).0, None);
    }
    let keys: String = (0..100_000).map(|n| format!("k{n}=1\n")).collect();
    let (spec, problems) = parse(
        Path::new("x"),
        &format!("{keys}[service]\nname='x'\nexec='x'"),
    );
    assert!(spec.is_some());
    assert_eq!(problems.len(), 101, "the rest is summed up");
    let names: Vec<String> = (0..10_000).map(|n| format!("'service-{n}'")).collect();
    let text = format!(
        "[target]\nname='x'\n[dependencies]\nrequires=[{}]",
        names.join(",")
    );
    assert_eq!(
        parse(Path::new("x"), &text).0.unwrap().links.requires.len(),
        10_000
    );
    let dir = Scratch::new("hostile");
    dir.file("x.toml", &text);
    assert_eq!(check(None, &dir.path).len(), 101);
    dir.file(
        "x.toml",
        &format!("[service]\nname='x'\nexec='x'\n#{}", "x".repeat(1 << 20)),
    );
    assert_eq!(dir.problems(), "x.toml: error: larger than 1 MiB\n");
}

/// Each kind of nesting is bounded by the parser; this multiplies them.
fn inline_tables_in_dotted_keys() -> String {
    let dotted = "a.".repeat(78);
    format!(
        "{dotted}a={}1{}",
        format!("{{{dotted}a=").repeat(78),
        "}".repeat(78)
    )
}

#[test]
fn a_directory_is_loaded_and_bad_files_hurt_only_themselves() {
    let dir = Scratch::new("dir");
    dir.service("b.toml", "b");
    dir.service("a.toml", "a");
    dir.service(".hidden.toml", "hidden");
    for ignored in ["c.TOML", "c.yaml", "c.toml.bak", "c", ".toml"] {
        dir.file(ignored, "nonsense");
    }
    fs::create_dir(dir.path.join("folder.toml")).unwrap();
    dir.file("empty.toml", "");
    dir.bytes("latin1.toml", b"[service]\nname = \"w\xe9b\"\n");
    dir.service("twin.toml", "a");
    dir.file("half.toml", "[service]\nname = \"ha");
    symlink("nowhere", dir.path.join("link.toml")).unwrap();
    symlink("b.toml", dir.path.join("link-to-b.toml")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(dir.path.join("socket.toml")).unwrap();
    let fifo = std::process::Command::new("mkfifo")
        .arg(dir.path.join("fifo.toml"))
        .status();
    assert!(fifo.unwrap().success());
    let loaded = dir.load();
    let names: Vec<&str> = loaded.files.iter().map(|file| &*file.spec.name).collect();
    assert_eq!(names, ["hidden", "a", "b"]);
    let broken: Vec<String> = loaded
        .broken
        .iter()
        .map(|path| dir.relative(path))
        .collect();
    let expected = [
        "empty", "fifo", "folder", "half", "latin1", "link", "socket",
    ]
    .map(|name| format!("{name}.toml"));
    assert_eq!(broken, expected);
    let expected = "\
empty.toml:1:1: error: the file is empty (a service has [service] with name and exec, a target has [target] with name, a proxy [xinet])
fifo.toml: error: not a regular file
folder.toml: error: a directory, not a service file
half.toml:2:11: error: invalid basic string, expected `\"`
latin1.toml:2:10: error: not valid UTF-8
link-to-b.toml:2:1: error: service.name: 'b' is already the name of b.toml; this file is not used
link.toml: error: a symbolic link to nowhere
socket.toml: error: not a regular file
twin.toml:2:1: error: service.name: 'a' is already the name of a.toml; this file is not used
";
    assert_eq!(dir.problems(), expected);
    drop(socket);
}

#[test]
fn a_file_that_may_not_be_read_is_reported() {
    let dir = Scratch::new("unreadable");
    dir.service("a.toml", "a");
    let path = dir.path.join("a.toml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&path).is_ok() {
        return; // Root may read everything.
    }
    assert_eq!(
        dir.problems(),
        "a.toml: error: cannot be read: Permission denied (os error 13)\n"
    );
}

#[test]
fn system_services_come_first_and_keep_their_names() {
    let system = Scratch::new("system");
    let user = Scratch::new("user");
    system.service("z.toml", "net");
    system.file("bad.toml", "x");
    user.service("a.toml", "web");
    user.file("b.toml", "[target]\nname = 'net'");
    let dirs = Dirs {
        system: Some(system.path.clone()),
        services: user.path.clone(),
        may_be_absent: false,
    };
    let loaded = load(&dirs).unwrap();
    let files: Vec<_> = loaded
        .files
        .iter()
        .map(|file| (&*file.spec.name, file.spec.class))
        .collect();
    assert_eq!(files, [("net", Class::System), ("web", Class::User)]);
    assert_eq!(loaded.broken, [system.path.join("bad.toml")]);
    let last = loaded.problems.last().unwrap();
    let shadow = format!(
        "'net' is shadowed by system service {}",
        system.path.join("z.toml").display()
    );
    assert_eq!(
        (last.key.as_deref(), last.line, &last.message),
        (Some("target.name"), Some(2), &shadow)
    );

    let dirs = Dirs {
        system: Some(system.path.join("missing")),
        ..dirs
    };
    let loaded = load(&dirs).unwrap();
    assert_eq!((loaded.files.len(), loaded.problems.len()), (2, 0));
    let dirs = Dirs {
        system: Some(user.path.join("a.toml")),
        ..dirs
    };
    assert_eq!(load(&dirs).unwrap().problems[0].message, "not a directory");
}

#[test]
fn only_an_unusable_services_directory_fails_the_load() {
    let dir = Scratch::new("unusable");
    dir.service("a.toml", "a");
    let failure = |path: PathBuf| {
        load(&Dirs {
            system: None,
            services: path,
            may_be_absent: false,
        })
        .unwrap_err()
    };
    let missing = failure(dir.path.join("missing"));
    assert_eq!(
        (&*missing.message, missing.path),
        ("no such directory", dir.path.join("missing"))
    );
    assert!(missing.hint.is_some());
    assert_eq!(failure(dir.path.join("a.toml")).message, "not a directory");
}

#[test]
fn a_check_looks_across_files_and_at_the_machine() {
    let dir = Scratch::new("check");
    dir.file("a.toml", "[service]\nname='a'\nexec='no-such-program x'\n[dependencies]\nrequires=['b', 'databse']\n");
    dir.file(
        "b.toml",
        "[service]\nname='b'\nexec='no-such-program | x'\n[dependencies]\nafter=['c', 'wbe']\nwants=['x']\n",
    );
    dir.file(
        "c.toml",
        "[service]\nname='c'\nexec=['/no/such']\n[dependencies]\nrequires=['broken', 'a']\n",
    );
    dir.file(
        "database.toml",
        "[service]\nname='database'\nexec='sh'\ndir='/no/such'\n[dependencies]\nafter=['database']\n",
    );
    dir.file("broken.toml", "[service]\nname='broken'\n");
    dir.file(
        "web.toml",
        "[service]\nname='web'\nexec='/etc/passwd'\n[dependencies]\nconflicts=['web', 'a']\n",
    );
    let expected = "\
broken.toml:1:2: error: service.exec: is required
a.toml:5:16: error: dependencies.requires: unknown service 'databse' (did you mean 'database'?)
a.toml:5:11: error: dependencies.requires: a cycle of services that wait for one another: a -> b -> c -> a
a.toml:3:1: error: service.exec: no program 'no-such-program' in PATH
b.toml:5:13: warning: dependencies.after: unknown service 'wbe' (did you mean 'web'?)
b.toml:6:8: warning: dependencies.wants: unknown service 'x'
b.toml:5:8: error: dependencies.after: a cycle of services that wait for one another: a -> b -> c -> a
c.toml:5:21: error: dependencies.requires: a cycle of services that wait for one another: a -> b -> c -> a
c.toml:3:1: error: service.exec: no such program: '/no/such'
database.toml:6:8: error: dependencies.after: a cycle of services that wait for one another: database -> database
database.toml:4:1: warning: service.dir: no such directory: '/no/such'
web.toml:3:1: error: service.exec: '/etc/passwd' cannot be executed
";
    assert_eq!(dir.shorten(&lines(&check(None, &dir.path))), expected);

    let one = |name: &str| dir.shorten(&lines(&check(None, &dir.path.join(name))));
    let of_c: String = expected
        .lines()
        .filter(|line| line.starts_with("c.toml"))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(one("c.toml"), of_c);
    assert_eq!(
        one("broken.toml"),
        "broken.toml:1:2: error: service.exec: is required\n"
    );
    dir.file(
        "draft",
        "[service]\nname='a'\nexec='sh'\n[dependencies]\nrequires=['c']\n",
    );
    let cycle = "draft:5:11: error: dependencies.requires: a cycle of services that wait for one another: a -> c -> a\n";
    assert_eq!(one("draft"), cycle);
    assert_eq!(
        one("absent"),
        "absent: error: cannot be read: No such file or directory (os error 2)\n"
    );
}

#[test]
fn a_service_is_written_whole_or_not_at_all() {
    let dir = Scratch::new("store");
    let spec = Spec::new(&"x".repeat(250), Exec::Line("one".to_owned()));
    let path = config::write(&dir.path, &spec).unwrap();
    assert_eq!(load_file(&path), (Some(spec.clone()), vec![]));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();

    // A draft left from a crash is in nobody's way, and a link in its place is not followed.
    let draft = dir.path.join(format!(".{}.new", spec.name));
    dir.file("victim", "precious");
    symlink("victim", &draft).unwrap();
    let second = Spec::new(&spec.name, Exec::Line("two".to_owned()));
    config::write(&dir.path, &second).unwrap();
    assert_eq!(load_file(&path).0, Some(second.clone()));
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(
        fs::read_to_string(dir.path.join("victim")).unwrap(),
        "precious"
    );

    // What cannot be replaced stays, and no draft stays behind.
    fs::create_dir(dir.path.join("folder.toml")).unwrap();
    assert!(config::write(&dir.path, &Spec::target("folder")).is_err());
    assert!(config::write(&dir.path.join("missing"), &spec).is_err());
    let left = fs::read_dir(&dir.path)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().extension().is_some());
    assert_eq!(left.count(), 2);
    config::remove(&path).unwrap();
    config::remove(&path).unwrap();
    assert!(!path.exists());
    assert!(config::remove(&dir.path.join("folder.toml")).is_err());
}

/// The manual tells of each key once, in its section, with its kind and default.
#[test]
fn the_manual_page_tells_of_every_key() {
    let page = include_str!("../man/zinit-service.5");
    let mut section = String::new();
    let mut told = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(heading) = line.strip_prefix(".Ss ").or(line.strip_prefix(".Sh ")) {
            section = heading.trim_matches(['[', ']']).to_owned();
        }
        let Some(name) = line.strip_prefix(".It Ic ") else {
            continue;
        };
        let key = KEYS
            .iter()
            .find(|key| key.section == section && key.name == name);
        let key = key.unwrap_or_else(|| panic!("the page invents [{section}] {name}"));
        let default = if key.default == REQUIRED {
            REQUIRED.to_owned()
        } else {
            format!("default {}", key.default)
        };
        let mut expected = format!("{}; {default}.", key.kind);
        expected[..1].make_ascii_uppercase();
        assert_eq!(lines.next(), Some(&*expected), "[{section}] {name}");
        told.push((key.section, key.name));
    }
    let known: Vec<_> = KEYS.iter().map(|key| (key.section, key.name)).collect();
    assert_eq!(told, known);
}

fn fixtures() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let mut paths: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "toml")
    });
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

fn lines(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(|problem| format!("{problem}\n"))
        .collect()
}

/// A directory of its own for one test, removed at its end.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("zinit-config-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self { path }
    }

    fn bytes(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path.join(name), bytes).unwrap();
    }

    fn file(&self, name: &str, text: &str) {
        self.bytes(name, text.as_bytes());
    }

    fn service(&self, file: &str, name: &str) {
        self.file(
            file,
            &format!("[service]\nname = '{name}'\nexec = 'sleep 1'\n"),
        );
    }

    fn load(&self) -> Loaded {
        load(&Dirs {
            system: None,
            services: self.path.clone(),
            may_be_absent: false,
        })
        .unwrap()
    }

    /// What loading says, without the name of the directory.
    fn problems(&self) -> String {
        self.shorten(&lines(&self.load().problems))
    }

    fn shorten(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.path.display()), "")
    }

    fn relative(&self, path: &Path) -> String {
        self.shorten(&path.display().to_string())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}
