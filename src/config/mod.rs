//! Configuration: from the text of service files to [`Spec`]s, with everything that is wrong on the way.
//!
//! | file          | noun                                                            |
//! |---------------|-----------------------------------------------------------------|
//! | `mod.rs`      | directories and files                                           |
//! | `text.rs`     | TOML to JSON value and back                                     |
//! | `file.rs`     | the mirror of a file, read and written                          |
//! | `rules.rs`    | what must be true beyond the form                               |
//! | `xinet.rs`    | proxies                                                         |
//! | `access.rs`   | the access file: who may do what                                |
//! | `keys.rs`     | the table of all keys                                           |
//! | `diagnose.rs` | problems: file, line, column, key, message, hint                |
//! | `check.rs`    | what only several files together, or the machine, can tell      |
//! | `exec.rs`     | command lines: shell or no shell, and where the program is      |
//! | `cmdline.rs`  | the kernel's command line                                       |
//! | `store.rs`    | files written and removed, safe against a crash                 |
//!
//! It promises that one bad file hurts nothing but itself, that no file can make it wait (only
//! regular files are opened) or grow without bound, and that it prints and logs nothing.

mod access;
mod check;
mod cmdline;
mod diagnose;
mod exec;
mod file;
mod keys;
mod notify;
mod probe;
mod rules;
mod sections;
mod store;
mod suggest;
mod syslog;
mod template;
mod text;
mod words;
mod xinet;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

pub use access::{Access, Right, Rule, load_access, parse_access};
pub use check::check;
pub use cmdline::{KernelLine, Level};
pub use diagnose::{Problem, Severity};
pub use exec::{find_program, words};
pub use file::{from_value, to_value};
pub use keys::{KEYS, Key, REQUIRED, SERVICE_SECTIONS, TARGET_SECTIONS, XINET_SECTIONS};
pub use notify::{Saying, sayings};
pub use probe::{Address, Url, http_status};
pub use rules::SetError;
pub use sections::Destination;
pub use store::{remove, sync, write};
pub use syslog::{SyslogLine, syslog_line, to_syslog};
pub use template::{instance, is_template, template_of};
pub use text::to_toml;
pub use xinet::{ProxyError, proxy_from_value, proxy_path, proxy_to_toml, write_proxy};

use crate::engine::spec::Class;
use crate::engine::{ProxySpec, Spec};
pub(crate) use diagnose::Meant;
use diagnose::Source;

/// Largest file that is read. A service file with ten thousand dependencies has 200 KB.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// Most files that are read from a directory.
const FILES_MAX: usize = 65_536;

/// Where service files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirs {
    /// Services of the machine itself; loaded first, and their names cannot be taken. It need not exist.
    pub system: Option<PathBuf>,
    /// All others.
    pub services: PathBuf,
    /// There may be no such directory: nothing is in it then.
    pub may_be_absent: bool,
}

/// A file that is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFile {
    /// The file.
    pub path: PathBuf,
    /// What it says.
    pub spec: Spec,
}

/// What the directories hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The files that are used, system files first, else sorted by file name. No name occurs twice.
    pub files: Vec<ConfigFile>,
    /// Proxies, each with its file. No name occurs twice.
    pub proxies: Vec<(PathBuf, ProxySpec)>,
    /// All that is wrong, in the order of the files.
    pub problems: Vec<Problem>,
    /// Files that are there and cannot be used. Files whose name another one took are not among them.
    pub broken: Vec<PathBuf>,
}

/// Reads the directories.
///
/// # Errors
/// Only if the services directory itself cannot be read.
pub fn load(dirs: &Dirs) -> Result<Loaded, Box<Problem>> {
    let mut loading = begin(dirs);
    match list(&dirs.services) {
        Ok(paths) => loading.add_all(paths, None),
        Err((ErrorKind::NotFound, _)) if dirs.may_be_absent => {}
        Err((_, problem)) => return Err(problem),
    }
    Ok(loading.loaded)
}

/// Reads the system directory alone.
#[must_use]
pub fn load_system(dirs: &Dirs) -> Loaded {
    begin(dirs).loaded
}

fn begin(dirs: &Dirs) -> Loading {
    let mut loading = Loading::default();
    match dirs.system.as_deref().map(list) {
        None => {}
        Some(Ok(paths)) => loading.add_all(paths, Some(Class::System)),
        Some(Err((ErrorKind::NotFound, _))) => {}
        Some(Err((_, problem))) => loading.loaded.problems.push(*problem),
    }
    loading.system_files = loading.loaded.files.len();
    loading
}

/// Reads one file: the spec unless an error keeps it from being used, and all that is wrong.
#[must_use]
pub fn load_file(path: &Path) -> (Option<Spec>, Vec<Problem>) {
    service_of(path, load_any(path))
}

/// Like [`load_file`], of a text that is already read; `path` is what problems name.
#[must_use]
pub fn parse(path: &Path, text: &str) -> (Option<Spec>, Vec<Problem>) {
    service_of(path, diagnose::review(path, text))
}

fn service_of(
    path: &Path,
    (meant, mut problems): (Option<Meant>, Vec<Problem>),
) -> (Option<Spec>, Vec<Problem>) {
    let spec = match meant {
        Some(Meant::Service(spec)) => Some(*spec),
        Some(Meant::Proxy(_)) => {
            let hint = "put it into the directory of service files, and reload".to_owned();
            let problem = Problem::error(path, "a proxy, not a service");
            problems.push(problem.with_hint(Some(hint)));
            None
        }
        None => None,
    };
    (spec, problems)
}

/// Reads one file of any kind.
fn load_any(path: &Path) -> (Option<Meant>, Vec<Problem>) {
    match read(path) {
        Ok(text) => diagnose::review(path, &text),
        Err(problem) => (None, vec![*problem]),
    }
}

/// Reads one proxy file: the proxy unless an error keeps it from being used, and all that is wrong.
#[must_use]
pub fn load_proxy(path: &Path) -> (Option<ProxySpec>, Vec<Problem>) {
    proxy_of(path, load_any(path))
}

/// Like [`load_proxy`], of a text that is already read; `path` is what problems name.
#[must_use]
pub fn parse_proxy(path: &Path, text: &str) -> (Option<ProxySpec>, Vec<Problem>) {
    proxy_of(path, diagnose::review(path, text))
}

fn proxy_of(
    path: &Path,
    (meant, mut problems): (Option<Meant>, Vec<Problem>),
) -> (Option<ProxySpec>, Vec<Problem>) {
    let spec = match meant {
        Some(Meant::Proxy(spec)) => Some(spec),
        Some(Meant::Service(_)) => {
            problems.push(Problem::error(path, "a service, not a proxy"));
            None
        }
        None => None,
    };
    (spec, problems)
}

/// How many service files a check of `target` is about: the one file, or those of a directory and
/// of the system's own.
#[must_use]
pub fn count(system: Option<&Path>, target: &Path) -> usize {
    if !target.is_dir() {
        return 1;
    }
    let dirs = system.into_iter().chain([target]);
    dirs.filter_map(|dir| list(dir).ok()).flatten().count()
}

/// The service files of a directory, sorted.
fn list(dir: &Path) -> Result<Vec<PathBuf>, (ErrorKind, Box<Problem>)> {
    let entries = fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(|error| (error.kind(), unusable(dir, &error)))?;
    let mut paths: Vec<PathBuf> = entries
        .iter()
        .map(fs::DirEntry::path)
        .filter(|path| is_service_file(path))
        .collect();
    // All are of one directory, so bytes are order enough.
    paths.sort_unstable_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
    Ok(paths)
}

fn is_service_file(path: &Path) -> bool {
    path.extension() == Some(OsStr::new("toml"))
}

fn unusable(dir: &Path, error: &io::Error) -> Box<Problem> {
    let hint = "it must be a directory that holds the service files, NAME.toml";
    let message = if error.kind() == ErrorKind::NotFound {
        "no such directory".to_owned()
    } else if error.kind() == ErrorKind::NotADirectory {
        "not a directory".to_owned()
    } else {
        format!("the directory cannot be read: {error}")
    };
    Box::new(Problem::error(dir, message).with_hint(Some(hint.to_owned())))
}

#[derive(Default)]
struct Loading {
    loaded: Loaded,
    /// Who has a name: an index of `loaded.files`.
    by_name: BTreeMap<Rc<str>, usize>,
    /// The first of `loaded.files` are system files, that many.
    system_files: usize,
}

impl Loading {
    fn add_all(&mut self, mut paths: Vec<PathBuf>, class: Option<Class>) {
        if let Some(beyond) = paths.get(FILES_MAX) {
            let message = format!(
                "more than {FILES_MAX} files in the directory; this one and those after it are not used"
            );
            self.loaded.problems.push(Problem::error(beyond, message));
            paths.truncate(FILES_MAX);
        }
        for path in paths {
            self.add(path, class);
        }
    }

    fn add(&mut self, path: PathBuf, class: Option<Class>) {
        let (meant, problems) = load_any(&path);
        self.loaded.problems.extend(problems);
        let mut spec = match meant {
            Some(Meant::Service(spec)) => *spec,
            Some(Meant::Proxy(proxy)) => return self.add_proxy(path, proxy),
            None => return self.loaded.broken.push(path),
        };
        if let Some(first) = self.by_name.get(&spec.name) {
            let problem = self.taken(&path, &spec, *first);
            self.loaded.problems.push(problem);
            return;
        }
        spec.class = class.unwrap_or(spec.class);
        self.by_name
            .insert(spec.name.clone(), self.loaded.files.len());
        self.loaded.files.push(ConfigFile { path, spec });
    }

    fn add_proxy(&mut self, path: PathBuf, proxy: ProxySpec) {
        let mut known = self.loaded.proxies.iter();
        if let Some((first, _)) = known.find(|(_, known)| known.name == proxy.name) {
            let other = first.display();
            let message = format!(
                "'{}' is already the name of the proxy {other}; this file is not used",
                proxy.name
            );
            self.loaded.problems.push(Problem::error(&path, message));
            return;
        }
        self.loaded.proxies.push((path, proxy));
    }

    fn taken(&self, path: &Path, spec: &Spec, first: usize) -> Problem {
        let other = self.loaded.files[first].path.display();
        let message = if first < self.system_files {
            format!("'{}' is shadowed by system service {other}", spec.name)
        } else {
            format!(
                "'{}' is already the name of {other}; this file is not used",
                spec.name
            )
        };
        let section = if spec.is_target() {
            "target"
        } else {
            "service"
        };
        place(path, |source| {
            vec![source.problem(Severity::Error, &[section, "name"], None, message.clone())]
        })
        .pop()
        .unwrap_or_else(|| Problem::error(path, message))
    }
}

/// Problems of a file that was read before, made with the places of its keys at hand.
fn place(path: &Path, find: impl FnOnce(&Source<'_>) -> Vec<Problem>) -> Vec<Problem> {
    let Ok(text) = read(path) else {
        return Vec::new();
    };
    Source::parse(path, &text).map_or_else(|_| Vec::new(), |source| find(&source))
}

/// The text of a file, if it is one that may be read.
fn read(path: &Path) -> Result<String, Box<Problem>> {
    let bytes = read_bytes(path).map_err(|message| Problem::error(path, message))?;
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        Box::new(Problem::error(path, "not valid UTF-8").at(error.as_bytes(), offset))
    })
}

/// Only a regular file is opened: a FIFO would let the whole server wait for its writer.
fn read_bytes(path: &Path) -> Result<Vec<u8>, String> {
    let cannot = |error: io::Error| format!("cannot be read: {error}");
    let found = fs::metadata(path).map_err(|error| {
        let is_dangling = error.kind() == ErrorKind::NotFound && path.is_symlink();
        if is_dangling {
            "a symbolic link to nowhere".to_owned()
        } else {
            cannot(error)
        }
    })?;
    if found.is_dir() {
        return Err("a directory, not a service file".to_owned());
    }
    if !found.is_file() {
        return Err("not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(cannot)?;
    file.take(FILE_MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    if bytes.len() as u64 > FILE_MAX_BYTES {
        return Err("larger than 1 MiB".to_owned());
    }
    Ok(bytes)
}
