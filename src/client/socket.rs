//! Where the server's socket is, if nobody says so.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Socket of a server that runs as a system service.
pub(crate) const SYSTEM_SOCKET: &str = "/run/zinit.sock";

/// The socket that `zinit` and [`super::Client::new`] talk to: that of `ZINIT_SOCKET`, else
/// `/run/zinit.sock` if there is one, else `~/hero/var/zinit.sock`.
#[must_use]
pub fn default_socket() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    socket_for(&variable, &Path::exists)
}

/// The same for what these say of variables, where an empty one is none, and of paths.
pub(crate) fn socket_for(
    variable: &dyn Fn(&str) -> Option<OsString>,
    exists: &dyn Fn(&Path) -> bool,
) -> PathBuf {
    match variable("ZINIT_SOCKET") {
        Some(socket) => socket.into(),
        None if exists(Path::new(SYSTEM_SOCKET)) => SYSTEM_SOCKET.into(),
        None => user_socket(variable("HOME")),
    }
}

/// Socket of a server that a user runs who has this home.
pub(crate) fn user_socket(home: Option<OsString>) -> PathBuf {
    match home {
        Some(home) => PathBuf::from(home).join("hero/var/zinit.sock"),
        None => PathBuf::from("/tmp/zinit.sock"),
    }
}
