//! Lines that programs and the kernel write, what is typed, and what a web server answers.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use zinit::cli::{self, Env, Invocation, UsageError};
use zinit::config::{self, KernelLine, Saying, Url, http_status, sayings, syslog_line, to_syslog};
use zinit::engine::Signal;
use zinit::sys::procfs::{parse_lost, parse_pids, parse_stat, parse_user, parse_variable};
use zinit::sys::{identity, ledger, mount, ports};

use super::fuzz::{Marks, NUMBERS, Rng, Target};

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn several(rng: &mut Rng, of: &[&str], gap: &str) -> Vec<u8> {
    let count = rng.below(8);
    let parts: Vec<&str> = (0..count).map(|_| *rng.pick(of)).collect();
    parts.join(gap).into_bytes()
}

// Lines.

const LINES_WORDS: &[&str] = &[
    "single",
    "emergency",
    "quiet",
    "3",
    "zinit.target=web",
    "zinit.log=debug",
    "zinit.debug",
    "root=\"a b\"",
    "\"",
    "<30>",
    "<13>1 ",
    "Nov 24 18:00:00 ",
    "sshd[12]: ",
    "app: ",
    "- ",
    "2026-11-24T18:00:00Z box app 12 - - ",
    "[a b=\"c]\"][d] ",
    "\u{feff}",
    "READY=1",
    "STATUS=",
    "WATCHDOG=1",
    "WATCHDOG=trigger",
    "WATCHDOG_USEC=",
    "MAINPID=",
    "EXTEND_TIMEOUT_USEC=",
    "RELOADING=1",
    "STOPPING=1",
    "export A=",
    "A='b c'",
    "B=\"\\\"\\",
    "# no",
    "boot a",
    "12 3400 web",
    "é",
    "\r\n",
    "\n",
    "\0",
];

pub(crate) const LINES: Target = Target {
    name: "lines",
    words: || owned(LINES_WORDS),
    seeds: || {
        let lines: &[&str] = &[
            "console=ttyS0 root=\"LABEL=a single\" zinit.target=web quiet zinit.log=warn x=1 foo\n",
            "<30>Nov 24 18:00:00 sshd[12]: hello: you\n",
            "<30>1 - - app - - [a b=\"c\"][d] text",
            "READY=1\nSTATUS=up = well\nMAINPID=42\nWATCHDOG_USEC=5000\n",
            "# c\nexport A=1\nB=\"x \\\" y\"\nC='d'\n",
            "12 3400 web",
        ];
        lines.iter().map(|line| line.as_bytes().to_vec()).collect()
    },
    make: |rng| {
        let gap = *rng.pick(&["\n", " ", ""]);
        several(rng, LINES_WORDS, gap)
    },
    run: lines,
    memory: (1 << 16, 200),
};

fn lies_in(part: &str, whole: &str) -> bool {
    whole.as_bytes().as_ptr_range().start <= part.as_ptr()
        && part.as_bytes().as_ptr_range().end <= whole.as_bytes().as_ptr_range().end
}

fn lines(input: &[u8], marks: &mut Marks) {
    let text = &*String::from_utf8_lossy(input);
    let kernel = KernelLine::parse(text);
    marks.see((
        format!("{:?}", kernel.level),
        kernel.target.is_some(),
        &kernel.log_level,
        kernel.quiet,
    ));
    assert!(
        kernel
            .target
            .as_ref()
            .is_none_or(|target| !target.is_empty()),
        "no target"
    );
    // Somebody else's words change nothing.
    if text.matches('"').count().is_multiple_of(2) {
        assert_eq!(
            KernelLine::parse(&format!("{text} x.zinit.target=no single2")),
            kernel
        );
    }

    let line = syslog_line(text);
    assert!(
        lies_in(line.text, text) || line.text.is_empty(),
        "a text from elsewhere"
    );
    assert!(
        lies_in(line.tag, text) || line.tag.is_empty(),
        "a tag from elsewhere"
    );
    marks.see(("syslog", line.tag.is_empty(), line.text.len() == text.len()));
    // What is sent to another syslog is read there as it was meant.
    let plain = text.replace(['\n', '\r', '\0'], "");
    let sent = to_syslog(
        "2026-11-24T18:00:00.000Z",
        "",
        "web",
        true,
        plain.trim_start(),
    );
    let line = syslog_line(&sent);
    let is_clean = !plain.trim_start().starts_with('\u{feff}');
    assert!(
        line.tag == "web" && (line.text == plain.trim_start() || !is_clean),
        "{line:?} of {sent:?}"
    );

    // Lines have nothing to do with one another.
    let all = sayings(input);
    let each: Vec<Saying> = input
        .split_inclusive(|byte| *byte == b'\n')
        .flat_map(sayings)
        .collect();
    assert_eq!(all, each);
    for saying in &all {
        marks.see(std::mem::discriminant(saying));
        if let Saying::Status(text) = saying {
            assert!(!text.contains('\n'), "{text:?}");
        }
    }

    let all = identity::parse_variables(input);
    let lines = input.split_inclusive(|byte| *byte == b'\n');
    let each: Vec<_> = lines.flat_map(identity::parse_variables).collect();
    assert_eq!(all, each);
    for variable in &all {
        let bytes = variable.to_bytes();
        let equals = bytes.iter().position(|byte| *byte == b'=');
        assert!(equals.is_some_and(|equals| equals > 0), "{variable:?}");
        marks.see(("variable", bytes.len().min(8)));
    }

    let entries = ledger::parse(&format!("boot a\n{text}"), "boot a");
    for entry in &entries {
        assert!(
            entry.pid.number() > 0 && !entry.name.contains([' ', '\n']),
            "{entry:?}"
        );
        marks.see(("entry", entry.name.len().min(4)));
    }
    assert_eq!(ledger::parse(&format!("boot a\n{text}"), "boot b"), []);
    assert!(entries.len() <= text.lines().count());
}

// Tables of the kernel.

const PROC_WORDS: &[&str] = &[
    "42 (a) S 7 8 9 0 -1 4194560 1 2 3 4 30 12 0 0 20 0 1 0 555 1000 77 18446744073709551615 1 1",
    ") R 1 (",
    "(",
    ")",
    "Z",
    "Uid:\t1\t2\t3\t4\n",
    "SigIgn:\t0000000000004000\n",
    "SigCgt:\tffffffffffffffff\n",
    "SigBlk:\t0\n",
    "ShdPnd:\t\n",
    "ZINIT_MARK=1:web\0",
    "A=b\0",
    "=\0",
    "  sl  local_address rem_address\n",
    "   0: 0100007F:0050 00000000:0000 0A 0:0 00:0 0 0 0 12345 1 0\n",
    "::",
    ":FFFF ",
    "36 35 98:0 /a /mnt\\0402 rw shared:1 - ext3 /dev/root rw\n",
    " - ",
    "\\040",
    "\\777",
    "\\+12",
    "\\",
    "\n",
];

pub(crate) const PROC: Target = Target {
    name: "proc",
    words: || owned(PROC_WORDS),
    seeds: || {
        PROC_WORDS
            .iter()
            .map(|word| word.as_bytes().to_vec())
            .collect()
    },
    make: make_proc,
    run: proc,
    memory: (1 << 16, 200),
};

fn make_proc(rng: &mut Rng) -> Vec<u8> {
    if rng.chance(50) {
        return several(rng, PROC_WORDS, "");
    }
    let fields: Vec<&str> = (0..50).map(|_| *rng.pick(NUMBERS)).collect();
    let count = usize::try_from(rng.below(50)).expect("small");
    let state = *rng.pick(&["S", "R", "Z", "X", "é"]);
    format!(
        "{} (x) {state} {}",
        rng.pick(NUMBERS),
        fields[..count].join(" ")
    )
    .into_bytes()
}

fn proc(input: &[u8], marks: &mut Marks) {
    let text = &*String::from_utf8_lossy(input);
    if let Some(stat) = parse_stat(input) {
        marks.see((
            "stat",
            stat.is_dead(),
            stat.has_memory,
            stat.ppid.signum(),
            stat.ticks == 0,
        ));
    }
    // Whatever name a process gives itself, it changes nothing but the name.
    let mut line = b"42 (".to_vec();
    line.extend_from_slice(input);
    line.extend_from_slice(b") S 7 8 9 0 -1 0 0 0 0 0 30 12 0 0 20 0 1 0 555 1000 77 0\n");
    let stat = parse_stat(&line).expect("a stat line");
    assert_eq!(
        (stat.pid.number(), stat.state, stat.ppid, stat.group),
        (42, 'S', 7, 8)
    );
    assert_eq!(
        (stat.session, stat.ticks, stat.start, stat.pages),
        (9, 42, 555, 77)
    );
    assert_eq!(stat.name, text);

    let pids = parse_pids(text);
    assert!(pids.iter().all(|pid| pid.number() > 0));
    assert!(pids.len() <= text.split_ascii_whitespace().count());
    marks.see(("pids", pids.len().min(3)));
    marks.see(("user", parse_user(text).is_some()));
    for number in [1, 15, 31] {
        let signal = Signal::from_number(number).expect("a signal");
        marks.see(("lost", number, parse_lost(text, signal)));
    }
    // A name in a status has its newlines escaped, so it can't be another line.
    let status = format!("Name:\t{}\nUid:\t1\t2\t3\t4\n", text.replace('\n', "\\n"));
    assert_eq!(parse_user(&status), Some(2));

    let mark = parse_variable(input, "ZINIT_MARK");
    assert!(
        mark.as_ref()
            .is_none_or(|mark| text.contains(&**mark) && !mark.contains('\0'))
    );
    marks.see(("mark", mark.is_some()));
    let mut block = input
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default()
        .to_vec();
    let is_other = !block.starts_with(b"ZINIT_MARK=");
    block.extend_from_slice(b"\0ZINIT_MARK=1:web\0");
    assert!(!is_other || parse_variable(&block, "ZINIT_MARK").as_deref() == Some("1:web"));

    for port in [80, 0xffff] {
        let inodes = ports::listening_inodes(text, port);
        assert!(inodes.len() <= text.lines().count());
        assert!(
            inodes
                .iter()
                .all(|inode| inode.starts_with("socket:[") && !inode.contains(' '))
        );
        marks.see(("inodes", inodes.len().min(2)));
    }

    let mounts = mount::parse(input);
    assert!(mounts.len() <= input.split(|byte| *byte == b'\n').count());
    for mount in &mounts {
        marks.see(("mount", mount::is_transient(mount)));
    }
    // The kernel escapes what would be read as an end (`mangle_path`), so every path comes back.
    let mut line = b"36 35 98:0 / ".to_vec();
    for byte in input {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' | b'#' => line.extend(format!("\\{byte:03o}").bytes()),
            byte => line.push(*byte),
        }
    }
    line.extend_from_slice(b" rw,relatime shared:1 - ext4 /dev/vda rw\n");
    let mounts = mount::parse(&line);
    assert_eq!(mounts.len(), 1);
    assert_eq!(mounts[0].point.as_os_str().as_bytes(), input);
    assert_eq!(mounts[0].kind, "ext4");
}

// Command lines: words that are separated by NUL.

fn args_words() -> Vec<String> {
    let mut words = Vec::new();
    for command in cli::commands::COMMANDS {
        words.push(format!("\0{}", command.name));
        words.extend(command.aliases.iter().map(|alias| format!("\0{alias}")));
        for flag in command.flags {
            words.push(format!("\0--{}", flag.long));
            words.push(format!("\0--{}=", flag.long));
            words.extend(flag.short.map(|letter| format!("\0-{letter}")));
        }
    }
    let more = [
        "\0--",
        "\0-",
        "\0--json",
        "\0-h",
        "\0--help",
        "\0--version",
        "\0--socket=x",
        "\0web",
        "\0",
        "=",
        "10s",
        "5m",
        "500ms",
        "1d",
        "2026-01-31T23:59",
        "9999-12-31",
        "A=b",
        "\0-r",
        "\0now",
        "\0+0",
        "zinit",
        "init",
        "shutdown",
        "poweroff",
        "é",
        "HUP",
        "tcp:127.0.0.1:80",
        "stdout",
        "always",
    ];
    words.extend(owned(&more));
    words
}

fn make_args(rng: &mut Rng) -> Vec<u8> {
    let command = rng.pick(cli::commands::COMMANDS);
    let mut line = (*rng.pick(&[
        "zinit",
        "zinit",
        "zinit",
        "init",
        "shutdown",
        "/sbin/reboot",
        "",
    ]))
    .to_owned();
    if rng.chance(95) {
        line += &format!("\0{}", command.name);
    }
    let count = rng.below(6);
    for _ in 0..count {
        let flags = if rng.chance(80) {
            command.flags
        } else {
            cli::commands::GLOBAL_FLAGS
        };
        let values = [
            "web",
            "10s",
            "100",
            "running",
            "a=b",
            "tcp:1.2.3.4:5",
            "HUP",
            "list",
            "stdout",
            "always",
            "debug",
            "15m",
        ];
        if rng.chance(50) && !flags.is_empty() {
            let flag = rng.pick(flags);
            line += &match (flag.short, rng.chance(30)) {
                (Some(letter), true) => format!("\0-{letter}"),
                (Some(_) | None, _) => format!("\0--{}", flag.long),
            };
            if flag.value.is_some() {
                let gap = *rng.pick(&["\0", "="]);
                line += &format!("{gap}{}", rng.pick(&values));
            }
        } else {
            line += &format!("\0{}", rng.pick(&values));
        }
    }
    line.into_bytes()
}

pub(crate) const ARGS: Target = Target {
    name: "args",
    words: args_words,
    seeds: || {
        vec![
            b"zinit\0start\0web\0--timeout\x0010s".to_vec(),
            b"shutdown\0-h\0now".to_vec(),
        ]
    },
    make: make_args,
    run: args,
    memory: (1 << 18, 200),
};

fn args(input: &[u8], marks: &mut Marks) {
    let words: Vec<OsString> = input
        .split(|byte| *byte == 0)
        .map(|word| OsString::from_vec(word.to_vec()))
        .collect();
    let env = Env::made_of(&[("HOME", "/home/me")], &[]);
    let meant = cli::parse(words.clone(), &env);
    assert_eq!(
        cli::parse(words.clone(), &env),
        meant,
        "another meaning the second time"
    );
    let error = match meant {
        Ok(meant) => {
            let shape = format!("{meant:?}");
            let head: Vec<&str> = shape
                .split(['{', '(', ' ', ','])
                .filter(|word| !word.is_empty())
                .collect();
            // Which members are there is told by their names; their values are many.
            let is_word = |word: &&&str| word.starts_with(|c: char| c.is_ascii_uppercase());
            let kinds: Vec<_> = head.iter().filter(is_word).take(6).collect();
            marks.see(kinds);
            if let Invocation::Help(text) = meant {
                assert!(text.ends_with('\n') || !text.is_empty(), "no help");
            }
            return;
        }
        Err(error) => error,
    };
    let said = error.to_string();
    marks.told(&said);
    assert!(!said.is_empty(), "nothing is said");
    let longest = words.iter().map(|word| word.len()).max().unwrap_or(0);
    assert!(
        said.len() <= 300 + 3 * longest,
        "{} bytes are said",
        said.len()
    );
    // What it complains about was typed.
    let line = words.iter().map(|word| word.to_string_lossy().into_owned());
    let line = line.collect::<Vec<_>>().join("\0");
    match &error {
        UsageError::UnknownCommand { typed, .. }
        | UsageError::BadVariable(typed)
        | UsageError::BadPolicy(typed)
        | UsageError::NotUtf8(typed) => assert!(line.contains(&**typed), "{typed:?}"),
        UsageError::BadValue { of, typed, .. } => {
            assert!(
                line.contains(&**typed) || *of == "shutdown",
                "{of} {typed:?}"
            );
        }
        UsageError::UnknownFlag { typed, .. } => {
            assert!(
                line.contains(typed.trim_start_matches('-')) || typed.contains('\u{fffd}'),
                "{typed:?}"
            );
        }
        UsageError::NoCommand
        | UsageError::FlagTooEarly { .. }
        | UsageError::MissingValue { .. }
        | UsageError::StrayValue { .. }
        | UsageError::Operands { .. }
        | UsageError::Combination(_) => {}
    }
}

// Answers to a probe, and where it asks: the URL in the first line, the answer behind it.

const HTTP_WORDS: &[&str] = &[
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.0 500\n",
    "HTTP/1.",
    "HTTP/",
    "HTTP/2 200\r\n",
    " 204 ",
    "\r\n",
    "\n",
    "A: b\r\n",
    "\r\n\r\n",
    "SSH-2.0-x\r\n",
    "99",
    "1000",
    "+200",
    "0200",
    "http://127.0.0.1:80/x\n",
    "unix:/run/a.sock:/up\n",
    "https://x\n",
    "[::1]:80",
    "http://",
    "?",
    "/",
    ":",
    "host",
    "\r\nX: y",
];

pub(crate) const HTTP: Target = Target {
    name: "http",
    words: || owned(HTTP_WORDS),
    seeds: || {
        let answers = [
            "HTTP/1.1 204 No Content\r\nA: b\r\n\r\nx",
            "HTTP/1.0 500\n",
            "HTTP/1.1\n",
            "\n",
            "SSH-2.0-x\r\n",
        ];
        let urls = [
            "http://127.0.0.1:80/x?y",
            "unix:/run/a:/up",
            "[::1]:81?x",
            "http://unix:/a:/b c",
        ];
        let whole = |(url, answer): (&&str, &str)| format!("{url}\n{answer}").into_bytes();
        urls.iter().cycle().zip(answers).map(whole).collect()
    },
    make: |rng| {
        let mut text = format!(
            "http://{}:{}/{}\n",
            rng.pick(&["a", "1.2.3.4", "[::1]", "unix:/x"]),
            rng.pick(NUMBERS),
            rng.pick(&["", "a?b", "é", "a b"])
        );
        text += &format!(
            "HTTP/1.{} {} {}\r\n",
            rng.below(3),
            rng.pick(NUMBERS),
            rng.pick(&["OK", "", "x y"])
        );
        let mut bytes = text.into_bytes();
        bytes.extend(several(rng, HTTP_WORDS, ""));
        bytes
    },
    run: http,
    memory: (1 << 16, 50),
};

/// Reads an answer that comes in these pieces, and no more than it takes to know.
fn status_of(pieces: &[&[u8]], marks: &mut Marks) -> Result<u16, String> {
    let mut answer = Vec::new();
    for piece in pieces {
        answer.extend_from_slice(piece);
        if let Some(known) = http_status(&answer).transpose() {
            return known;
        }
        // A step reads 2048 bytes at most.
        assert!(answer.len() < 4096, "{} bytes and no status", answer.len());
    }
    marks.see("unknown");
    Err("the connection was closed".to_owned())
}

fn http(input: &[u8], marks: &mut Marks) {
    let end = input
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(input.len());
    let (url, answer) = (&input[..end], input.get(end + 1..).unwrap_or_default());
    let answer = &answer[..answer.len().min(5000)];
    // In one piece as a step of the probe reads it, byte by byte, and at each end of a line.
    let whole = status_of(&answer.chunks(2048).collect::<Vec<_>>(), marks);
    let bytes = status_of(&answer.chunks(1).collect::<Vec<_>>(), marks);
    assert_eq!(bytes, whole, "byte by byte, and in one piece");
    let cut = usize::from(answer.first().copied().unwrap_or(1)) % 97 + 1;
    assert_eq!(
        status_of(&answer.chunks(cut).collect::<Vec<_>>(), marks),
        whole,
        "in pieces of {cut}"
    );
    match whole {
        Ok(status) => {
            assert!((100..1000).contains(&status), "{status}");
            assert!(answer.starts_with(b"HTTP/1."), "not HTTP");
            let line = String::from_utf8_lossy(answer);
            let line = line.lines().next().unwrap_or_default();
            let told = line.split(' ').nth(1).map(str::trim_end);
            assert_eq!(told, Some(&*status.to_string()), "{line:?}");
            marks.see(("status", status / 100));
        }
        Err(text) => marks.told(&text),
    }

    let url = &*String::from_utf8_lossy(url);
    marks.see((
        "address",
        config::Address::parse(url).map(|address| std::mem::discriminant(&address)),
    ));
    if let Some(read) = Url::parse(url) {
        marks.see((
            read.encrypted,
            std::mem::discriminant(&read.address),
            read.path.len().min(2),
        ));
        let request = read.request();
        let lines: Vec<&str> = request.split("\r\n").collect();
        assert_eq!(lines.len(), 7, "lines of {request:?}");
        assert!(
            lines.iter().all(|line| !line.contains(['\r', '\n', '\0'])),
            "{request:?}"
        );
        assert!(
            lines[0].starts_with("GET /") && lines[0].ends_with(" HTTP/1.1"),
            "{request:?}"
        );
        assert_eq!(lines[0].split(' ').count(), 3, "{request:?}");
    }
}
