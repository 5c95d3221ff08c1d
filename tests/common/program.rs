//! The server of a sandbox as another build of the program, such as the static one.

use std::fs::File;
use std::process::{Command, Stdio};

use super::sandbox::Sandbox;

/// How that program is the sandbox's server: with nothing of the machine's in its environment, and
/// with the log level it has by itself. `before` are words in front of it all.
pub(crate) fn server_of(sandbox: &Sandbox, program: &str, before: &[&str]) -> Command {
    let given = sandbox.server_command();
    let words: Vec<_> = given.get_args().collect();
    let level = words.iter().position(|word| *word == "--log-level");
    let level = level.expect("a sandbox says how much is logged");
    let mut all = before.iter().copied().chain([program]);
    let mut command = Command::new(all.next().expect("a program"));
    let variables = given.get_envs();
    command
        .args(all)
        .args(&words[..level])
        .args(&words[level + 2..])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .envs(variables.filter_map(|(name, value)| Some((name, value?))))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(sandbox.path("server.log")).expect("a log"));
    command
}
