//! What a program of a service is started with: its words, its environment, who it is.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::family::MARK;
use crate::config;
use crate::engine::spec::{Exec, Program};
use crate::engine::{Exit, Pid, Signal, SpawnError, Spec, Step};
use crate::sys::cgroup::Cgroup;
use crate::sys::process::{self, Confine, Launch, Stdio};

/// Where programs are looked for if nothing says otherwise (as `execvp(3)` of most systems).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The environment that services find.
pub(super) struct Environment {
    /// The server's own.
    own: Vec<(OsString, CString)>,
    /// Services have it only if they say so.
    is_private: bool,
}

/// A text that the kernel can't take, because it holds a NUL; configuration refuses those.
pub(super) const UNUSABLE: SpawnError = SpawnError {
    step: Step::Exec,
    errno: nix::Error::EINVAL as i32,
    item: 0,
};

/// Why there is no process; true says that the machine was out of something.
pub(super) type NoProcess = (SpawnError, bool);

impl Environment {
    /// As the server was started with.
    pub(super) fn new(is_private: bool) -> Self {
        let entry = |(name, value): (OsString, OsString)| {
            let text = entry(name.as_bytes(), value.as_bytes()).ok()?;
            Some((name, text))
        };
        // The mark is set for each service; the server's own must not stand beside it. Nor must
        // what the server's own supervisor told it and nobody else.
        let own = |name: &OsString| {
            let told = [
                "NOTIFY_SOCKET",
                "WATCHDOG_USEC",
                "WATCHDOG_PID",
                "LISTEN_PID",
                "LISTEN_FDS",
                "LISTEN_FDNAMES",
                MARK,
            ];
            told.iter().any(|known| name == known)
        };
        let own = std::env::vars_os().filter(|(name, _)| !own(name));
        Self {
            own: own.filter_map(entry).collect(),
            is_private,
        }
    }

    /// What a program of this service is started with, unless it is something else than its main
    /// one. `more` are variables that only this start knows.
    ///
    /// # Errors
    /// If a text can't be given to the kernel.
    pub(super) fn launch(
        &self,
        program: &Program,
        exec: &Exec,
        stdio: Stdio,
        more: &[(&str, String)],
        cgroup: Option<Cgroup>,
    ) -> Result<Launch, SpawnError> {
        let text = |bytes: Vec<u8>| CString::new(bytes).map_err(|_| UNUSABLE);
        let words = match exec {
            Exec::Words(words) => words.clone(),
            Exec::Line(line) => config::words(line)
                .unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()]),
        };
        let first = words.first().ok_or(UNUSABLE)?;
        let programs = self.places(first, program).into_iter().map(text);
        let programs = programs.collect::<Result<_, _>>()?;
        let own = || {
            program
                .env
                .iter()
                .map(|(name, value)| (name.as_str(), value))
        };
        let more = || more.iter().map(|(name, value)| (*name, value));
        let mut environment = self.inherited(program, &stdio)?;
        environment.retain(|known| {
            let name = known.to_bytes().split(|byte| *byte == b'=').next();
            let name = name.unwrap_or_default();
            !own().chain(more()).any(|(own, _)| own.as_bytes() == name)
        });
        let inherited = environment.len();
        for (name, value) in own().filter(|(own, _)| !more().any(|(name, _)| name == *own)) {
            environment.push(entry(name.as_bytes(), value.as_bytes())?);
        }
        for (name, value) in more() {
            environment.push(entry(name.as_bytes(), value.as_bytes())?);
        }
        let arguments = words.into_iter().map(|word| text(word.into_bytes()));
        let dir = program.dir.clone();
        Ok(Launch {
            programs,
            arguments: arguments.collect::<Result<_, _>>()?,
            own_variables: environment.len() - inherited,
            environment,
            dir: dir
                .map(|dir| text(dir.into_os_string().into_vec()))
                .transpose()?,
            stdio,
            confine: confine(program, cgroup),
            pass: Vec::new(),
            listens: false,
        })
    }

    /// The server's environment; of a machine's only what was given on the kernel's command line,
    /// and what programs count on.
    fn inherited(&self, program: &Program, stdio: &Stdio) -> Result<Vec<CString>, SpawnError> {
        if program.env_inherit == Some(true) || (program.env_inherit.is_none() && !self.is_private)
        {
            return Ok(self.own.iter().map(|(_, entry)| entry.clone()).collect());
        }
        let own =
            |name: &str, usual: &str| std::env::var(name).unwrap_or_else(|_| usual.to_owned());
        let mut usual = vec![
            ("PATH", own("PATH", DEFAULT_PATH)),
            ("HOME", "/root".to_owned()),
            ("USER", "root".to_owned()),
            ("LOGNAME", "root".to_owned()),
            ("SHELL", "/bin/sh".to_owned()),
            ("LANG", own("LANG", "C.UTF-8")),
        ];
        let has_terminal = matches!(stdio, Stdio::Terminal(_) | Stdio::Own);
        usual.extend(has_terminal.then(|| ("TERM", own("TERM", "linux"))));
        let given = self.own.iter().filter(|(name, _)| {
            let is_usual = usual.iter().any(|(usual, _)| name == usual);
            self.is_private && program.env_inherit.is_none() && !is_usual && name != "TERM"
        });
        let given = given.map(|(_, entry)| Ok(entry.clone()));
        let usual = usual
            .iter()
            .map(|(name, value)| entry(name.as_bytes(), value.as_bytes()));
        usual.chain(given).collect()
    }

    /// Where a program of that name may be: itself if it names a path, else along PATH.
    fn places(&self, first: &str, program: &Program) -> Vec<Vec<u8>> {
        if first.contains('/') {
            return vec![first.as_bytes().to_vec()];
        }
        let path = self.path(program);
        let dirs = path
            .split(':')
            .map(|dir| if dir.is_empty() { "." } else { dir });
        dirs.map(|dir| format!("{dir}/{first}").into_bytes())
            .collect()
    }

    /// The PATH a program is looked for in.
    #[must_use]
    pub(super) fn path(&self, program: &Program) -> String {
        let own = || std::env::var("PATH").ok();
        program
            .env
            .get("PATH")
            .cloned()
            .or_else(own)
            .unwrap_or_else(|| DEFAULT_PATH.to_owned())
    }
}

/// What hooks and exec probes know beside the service's environment.
pub(super) fn told(
    spec: &Spec,
    main: Option<Pid>,
    exit: Option<Exit>,
) -> Vec<(&'static str, String)> {
    let mut all = vec![("SERVICE", spec.name.to_string())];
    all.extend(main.map(|pid| ("MAINPID", pid.to_string())));
    let status = exit.map(|exit| match exit {
        Exit::Code(code) => code.to_string(),
        Exit::Signal(number) => {
            let signal = Signal::parse(&number.to_string()).map(|signal| signal.to_string());
            let name = signal.unwrap_or_else(|_| number.to_string());
            name.trim_start_matches("SIG").to_owned()
        }
        Exit::OutOfMemory => "KILL".to_owned(),
    });
    all.extend(status.map(|status| ("EXIT_STATUS", status)));
    all
}

/// How many sockets a program finds, and what they are (`sd_listen_fds(3)`).
pub(super) fn listen_variables(spec: &Spec, program: &Program) -> [(&'static str, String); 2] {
    let sockets = &program.sockets;
    let name = |place: usize| sockets.names.get(place).map_or(&*spec.name, String::as_str);
    let names: Vec<&str> = (0..sockets.listen.len()).map(name).collect();
    [
        ("LISTEN_FDS", names.len().to_string()),
        ("LISTEN_FDNAMES", names.join(":")),
    ]
}

fn confine(program: &Program, cgroup: Option<Cgroup>) -> Option<Box<Confine>> {
    let confine = Confine {
        identity: program.identity.clone(),
        limits: program.limits.clone(),
        env_files: program.env_file.clone(),
        cgroup,
    };
    let is_plain = confine.identity == Default::default()
        && confine.limits.is_empty()
        && confine.env_files.is_empty()
        && confine.cgroup.is_none();
    (!is_plain).then(|| Box::new(confine))
}

fn entry(name: &[u8], value: &[u8]) -> Result<CString, SpawnError> {
    let bytes = [name, b"=", value].concat();
    CString::new(bytes).map_err(|_| UNUSABLE)
}

/// A fork, or what comes with it, did not work.
pub(super) fn scarce(errno: nix::Error) -> NoProcess {
    let error = SpawnError {
        step: Step::Fork,
        errno: errno as i32,
        item: 0,
    };
    (error, process::is_scarcity(error))
}
