//! `shutdown` as it is typed on other systems: `shutdown -h now`.

use std::ffi::OsString;

use super::UsageError;
use super::commands::{self, Command};

/// The command that a line behind the name `shutdown` means. Whatever stands behind the time is a
/// message to users of old, and goes nowhere.
pub(super) fn shutdown(words: &[OsString]) -> Result<&'static Command, UsageError> {
    let mut name = "poweroff";
    for word in words {
        name = match word.to_str() {
            Some("-h" | "-P" | "--poweroff") => "poweroff",
            Some("-r" | "--reboot") => "reboot",
            Some("-H" | "--halt") => "halt",
            Some("now" | "+0") => break,
            other => {
                return Err(UsageError::BadValue {
                    of: "shutdown",
                    typed: other.unwrap_or("?").to_owned(),
                    wanted: "-h, -P, -r or -H, and now; a later time is for at(1)",
                });
            }
        };
    }
    commands::command(name).ok_or(UsageError::NoCommand)
}
