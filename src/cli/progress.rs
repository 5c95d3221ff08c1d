//! The one line that shows what is being waited for, and for how long.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::screen::Screen;
use crate::client::Connection;

/// How long the wait itself may be held up for the sake of this line.
const ASK_WITHIN: Duration = Duration::from_secs(1);

/// What is waited for.
#[derive(Clone, Copy)]
pub(super) enum Watched<'a> {
    Service(&'a str),
    Other(&'a str),
}

/// Watches over a second connection; the first one is waiting.
pub(super) struct Progress<'a> {
    watched: Watched<'a>,
    socket: &'a Path,
    second: Option<Connection>,
}

impl<'a> Progress<'a> {
    pub(super) fn new(watched: Watched<'a>, socket: &'a Path) -> Self {
        Self {
            watched,
            socket,
            second: None,
        }
    }

    /// Shows how things stand, when there is someone to show it to.
    pub(super) fn tick(&mut self, screen: &mut Screen<'_>, waited: Duration) {
        if !screen.err_is_terminal {
            return;
        }
        let waited = waited.as_secs();
        match self.watched {
            Watched::Other(what) => screen.progress(&format!("waiting for {what}, {waited} s")),
            Watched::Service(name) => {
                let state = self
                    .state(name)
                    .map_or_else(String::new, |state| format!(": {state}"));
                screen.progress(&format!("waiting for {name}{state}, {waited} s"));
            }
        }
    }

    fn state(&mut self, name: &str) -> Option<String> {
        if self.second.is_none() {
            self.second = Connection::connect(self.socket).ok();
        }
        let second = self.second.as_mut()?;
        let params = json!({ "name": name });
        let status = second
            .call("service.status", params, Some(ASK_WITHIN), &mut |_| ())
            .ok();
        if status.is_none() {
            self.second = None;
        }
        status.map(|status| describe(&status))
    }
}

/// `stopping (pid 12)`; `blocked, waiting on: a, b`.
fn describe(status: &Value) -> String {
    let state = status["state"].as_str().unwrap_or("unknown");
    match (
        status["pid"].as_u64().unwrap_or(0),
        status["error"].as_str(),
    ) {
        (0, Some(reason)) => format!("{state}, {reason}"),
        (0, None) => state.to_owned(),
        (pid, _) => format!("{state} (pid {pid})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_described_with_what_is_known() {
        let stopping = json!({ "name": "web", "state": "stopping", "pid": 12 });
        assert_eq!(describe(&stopping), "stopping (pid 12)");
        let blocked =
            json!({ "name": "web", "state": "blocked", "pid": 0, "error": "waiting on: a, b" });
        assert_eq!(describe(&blocked), "blocked, waiting on: a, b");
        assert_eq!(
            describe(&json!({ "state": "inactive", "pid": 0 })),
            "inactive"
        );
    }

    #[test]
    fn the_line_overwrites_itself_and_goes_away() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut screen = Screen {
            err_is_terminal: true,
            ..Screen::plain(&mut out, &mut err)
        };
        let mut progress =
            Progress::new(Watched::Other("the server to end"), Path::new("/nowhere"));
        progress.tick(&mut screen, Duration::from_secs(1));
        progress.tick(&mut screen, Duration::from_secs(2));
        screen.line("done").expect("a vector takes all");
        let first = "\r\x1b[Kwaiting for the server to end, 1 s";
        let second = "\r\x1b[Kwaiting for the server to end, 2 s";
        assert_eq!(
            String::from_utf8(err).expect("text"),
            format!("{first}{second}\r\x1b[K")
        );
        assert_eq!(out, b"done\n");
    }
}
