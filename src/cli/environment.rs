//! What the outside says about defaults: environment variables, and which paths exist.
//!
//! A value of its own, so that parsing is a function of its arguments and tests need not touch the process.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::client::{SYSTEM_SOCKET, socket_for, user_socket};

/// Service files of a machine's administrator.
const SYSTEM_CONFIG_DIR: &str = "/etc/zinit/services";
/// Who may do what with a server.
const ACCESS_FILE: &str = "/etc/zinit/access.toml";
/// Service files of a machine's image.
const SYSTEM_OWN_DIR: &str = "/etc/zinit/system";

type Lookup = dyn Fn(&str) -> Option<OsString>;

/// Where defaults come from.
pub struct Env {
    lookup: Box<Lookup>,
    exists: Box<dyn Fn(&Path) -> bool>,
}

impl Env {
    /// The environment of this process.
    pub fn of_process() -> Self {
        Self {
            lookup: Box::new(|name| std::env::var_os(name)),
            exists: Box::new(Path::exists),
        }
    }

    /// An environment made up of `variables`, on a machine where just `paths` exist.
    pub fn made_of(variables: &[(&str, &str)], paths: &[&str]) -> Self {
        let owned = |text: &&str| (*text).to_owned();
        let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
        let variables: Vec<(String, OsString)> = variables
            .iter()
            .map(|(name, value)| (owned(name), OsString::from(value)))
            .collect();
        Self {
            lookup: Box::new(move |name| {
                let found = variables.iter().find(|(known, _)| known == name);
                found.map(|(_, value)| value.clone())
            }),
            exists: Box::new(move |path| paths.iter().any(|known| known == path)),
        }
    }

    /// A variable's value; an empty one counts as unset.
    pub(super) fn variable(&self, name: &str) -> Option<OsString> {
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    /// The directory `zinit server` reads when its command line names none.
    pub fn config_dir(&self, pid1_mode: bool) -> PathBuf {
        let own = || match self.home() {
            Some(home) => home.join("hero/cfg/zinit"),
            None => PathBuf::from("/tmp/zinit/services"),
        };
        match self.variable("ZINIT_CONFIG_DIR") {
            Some(dir) => dir.into(),
            None if pid1_mode => SYSTEM_CONFIG_DIR.into(),
            None => own(),
        }
    }

    /// The directory of the server that a client would ask, as far as can be told without one.
    pub(super) fn checked_dir(&self) -> PathBuf {
        let is_machine = self.client_socket() == Path::new(SYSTEM_SOCKET);
        let dir = self.config_dir(is_machine);
        // Some machines have nothing but their own services.
        if dir == Path::new(SYSTEM_CONFIG_DIR) && !(self.exists)(&dir) {
            return Self::own_dir();
        }
        dir
    }

    /// The directory whose services a machine's administrator may name in this file, or in those
    /// of this directory.
    pub(super) fn system_beside(target: &Path) -> Option<PathBuf> {
        let full = target.canonicalize().unwrap_or_else(|_| target.to_owned());
        let is_there = full
            .ancestors()
            .take(2)
            .any(|path| path == Path::new(SYSTEM_CONFIG_DIR));
        is_there.then(Self::own_dir)
    }

    pub(super) fn system_dir(pid1_mode: bool) -> Option<PathBuf> {
        pid1_mode.then(|| SYSTEM_OWN_DIR.into())
    }

    /// The file that says who may do what.
    pub(super) fn access_file() -> PathBuf {
        ACCESS_FILE.into()
    }

    /// The directory of a machine's or a container's own services.
    pub(super) fn own_dir() -> PathBuf {
        SYSTEM_OWN_DIR.into()
    }

    pub(super) fn server_socket(&self, pid1_mode: bool) -> PathBuf {
        match self.variable("ZINIT_SOCKET") {
            Some(socket) => socket.into(),
            None if pid1_mode => SYSTEM_SOCKET.into(),
            None => user_socket(self.variable("HOME")),
        }
    }

    pub(super) fn client_socket(&self) -> PathBuf {
        socket_for(&|name| self.variable(name), &self.exists)
    }

    fn home(&self) -> Option<PathBuf> {
        self.variable("HOME").map(PathBuf::from)
    }
}
