//! The words of `sd_notify(3)`.

use std::time::Duration;

/// One thing a service says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saying {
    /// It is ready, also after reading its configuration anew.
    Ready,
    /// It reads its configuration anew.
    Reloading,
    /// It is about to end.
    Stopping,
    /// How it is, in its own words.
    Status(String),
    /// The process that is its main one.
    MainPid(i32),
    /// It is well.
    Ping,
    /// It is not well.
    Trouble,
    /// It will say that it is well within this time; zero: never again.
    Within(Duration),
    /// It needs this time from now on to start or to stop.
    Extend(Duration),
}

/// What a datagram says. Words that have no meaning here are passed over.
#[must_use]
pub fn sayings(text: &[u8]) -> Vec<Saying> {
    let text = String::from_utf8_lossy(text);
    let usec = |value: &str| value.parse().ok().map(Duration::from_micros);
    let one = |line: &str| match line.split_once('=')? {
        ("READY", "1") => Some(Saying::Ready),
        ("RELOADING", "1") => Some(Saying::Reloading),
        ("STOPPING", "1") => Some(Saying::Stopping),
        ("STATUS", status) => Some(Saying::Status(status.to_owned())),
        ("MAINPID", pid) => pid.parse().ok().map(Saying::MainPid),
        ("WATCHDOG", "1") => Some(Saying::Ping),
        ("WATCHDOG", "trigger") => Some(Saying::Trouble),
        ("WATCHDOG_USEC", value) => usec(value).map(Saying::Within),
        ("EXTEND_TIMEOUT_USEC", value) => usec(value).map(Saying::Extend),
        _ => None,
    };
    text.lines().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_words_are_understood_and_others_are_passed_over() {
        let text = b"READY=1\nSTATUS=up = well\nX_ODD=1\nREADY=0\nMAINPID=42\nWATCHDOG=1\nWATCHDOG=trigger\nEXTEND_TIMEOUT_USEC=1500000\nEXTEND_TIMEOUT_USEC=-1\n\xff=\nnonsense";
        assert_eq!(
            sayings(text),
            [
                Saying::Ready,
                Saying::Status("up = well".to_owned()),
                Saying::MainPid(42),
                Saying::Ping,
                Saying::Trouble,
                Saying::Extend(Duration::from_millis(1500)),
            ]
        );
    }
}
