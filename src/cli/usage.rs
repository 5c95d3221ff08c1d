//! What is wrong with a command line, in one sentence that says what would be right.

use std::fmt;

use super::commands::{COMMANDS, Command, Flag, GLOBAL_FLAGS};
use super::screen::Screen;
use super::{exit, help};

/// What is wrong with a command line.
#[derive(Debug, Clone, PartialEq)]
pub enum UsageError {
    /// `zinit` alone.
    NoCommand,
    /// No command is called so.
    UnknownCommand {
        /// As it was typed.
        typed: String,
        /// What was probably meant.
        near: Option<&'static str>,
    },
    /// No flag is called so here.
    UnknownFlag {
        /// As it was typed, dashes included.
        typed: String,
        /// The command it stood behind, if any.
        command: Option<&'static str>,
        /// What was probably meant, without dashes.
        near: Option<&'static str>,
    },
    /// A command's flag stands before the command.
    FlagTooEarly {
        /// Its name, without dashes.
        flag: &'static str,
    },
    /// The flag needs a value.
    MissingValue {
        /// Its name, without dashes.
        flag: &'static str,
        /// What its value is called.
        value: &'static str,
    },
    /// The flag takes no value.
    StrayValue {
        /// Its name, without dashes.
        flag: &'static str,
    },
    /// A value is none of those that make sense.
    BadValue {
        /// The flag with its dashes, or the variable.
        of: &'static str,
        /// As it was typed.
        typed: String,
        /// What would be right.
        wanted: &'static str,
    },
    /// Too few or too many operands.
    Operands {
        /// The command's name.
        command: &'static str,
        /// The operands it takes.
        arguments: &'static str,
        /// Whether there are too few.
        too_few: bool,
    },
    /// Two things exclude each other, or one lacks the other; the text is the whole sentence.
    Combination(&'static str),
    /// `--env` without an equals sign.
    BadVariable(String),
    /// `--restart` with a policy there is not.
    BadPolicy(String),
    /// Names are UTF-8, this is not.
    NotUtf8(String),
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCommand => f.write_str("no command; 'zinit help' lists them"),
            Self::UnknownCommand { typed, near } => {
                write!(f, "unknown command '{typed}'; ")?;
                match near {
                    Some(near) => write!(f, "did you mean '{near}'?"),
                    None => f.write_str("'zinit help' lists them"),
                }
            }
            Self::UnknownFlag {
                typed,
                command,
                near,
            } => unknown_flag(f, typed, *command, *near),
            Self::FlagTooEarly { flag } => {
                write!(
                    f,
                    "--{flag} belongs behind the command: zinit COMMAND --{flag}"
                )
            }
            Self::MissingValue { flag, value } => {
                write!(f, "--{flag} needs a value: --{flag} {value}")
            }
            Self::StrayValue { flag } => write!(f, "--{flag} takes no value"),
            Self::BadValue { of, typed, wanted } => {
                write!(f, "{of} cannot be '{typed}'; it takes {wanted}")
            }
            Self::Operands {
                command,
                arguments,
                too_few,
            } => {
                let wrong = if *too_few { "too few" } else { "too many" };
                let gap = if arguments.is_empty() { "" } else { " " };
                write!(
                    f,
                    "{wrong} arguments for '{command}'; usage: zinit {command}{gap}{arguments}"
                )
            }
            Self::Combination(sentence) => f.write_str(sentence),
            Self::BadVariable(typed) => {
                write!(f, "Invalid env format: {typed} (expected KEY=VALUE)")
            }
            Self::BadPolicy(typed) => {
                write!(
                    f,
                    "Invalid restart policy: {typed} (use always, on-failure, or never)"
                )
            }
            Self::NotUtf8(typed) => write!(f, "'{typed}' is not valid UTF-8"),
        }
    }
}

impl std::error::Error for UsageError {}

fn unknown_flag(
    f: &mut fmt::Formatter<'_>,
    typed: &str,
    command: Option<&str>,
    near: Option<&str>,
) -> fmt::Result {
    match (command, near) {
        (Some(command), Some(near)) => {
            write!(f, "'{command}' has no flag {typed}; did you mean --{near}?")
        }
        (Some(command), None) => {
            write!(
                f,
                "'{command}' has no flag {typed}; 'zinit help {command}' lists them"
            )
        }
        (None, Some(near)) => write!(f, "unknown flag {typed}; did you mean --{near}?"),
        (None, None) => write!(f, "unknown flag {typed}; 'zinit help' lists them"),
    }
}

/// Prints the error, or the whole help for `zinit` alone.
pub(super) fn report(error: &UsageError, screen: &mut Screen<'_>) -> u8 {
    if *error == UsageError::NoCommand {
        screen.complain(&help::overview());
    } else {
        screen.complain(&format!("Error: {error}"));
    }
    exit::USAGE
}

pub(super) fn unknown_command(typed: &str) -> UsageError {
    let names = COMMANDS
        .iter()
        .flat_map(|c| std::iter::once(c.name).chain(c.aliases.iter().copied()));
    UsageError::UnknownCommand {
        typed: typed.to_owned(),
        near: nearest(typed, names),
    }
}

pub(super) fn unknown_flag_of(command: Option<&'static Command>, typed: &str) -> UsageError {
    let plain = typed.trim_start_matches('-');
    let elsewhere = COMMANDS
        .iter()
        .flat_map(|c| c.flags)
        .find(|flag| is_called(flag, plain));
    if let (None, Some(flag)) = (command, elsewhere) {
        return UsageError::FlagTooEarly { flag: flag.long };
    }
    let own = command.map_or(&[] as &[Flag], |command| command.flags);
    let names = own.iter().chain(GLOBAL_FLAGS).map(|flag| flag.long);
    UsageError::UnknownFlag {
        typed: typed.to_owned(),
        command: command.map(|command| command.name),
        near: nearest(plain, names),
    }
}

fn is_called(flag: &Flag, typed: &str) -> bool {
    flag.long == typed || flag.short.is_some_and(|letter| typed.chars().eq([letter]))
}

/// The name one would mistype as `typed`, if any: two slips at most, or its beginning.
fn nearest(typed: &str, names: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let allowed = match typed.len() {
        0..=2 => 1,
        _ => 2,
    };
    if typed.len() < 2 {
        return None;
    }
    names
        .map(|name| {
            (
                if name.starts_with(typed) {
                    1
                } else {
                    slips(typed, name)
                },
                name,
            )
        })
        .filter(|(slips, _)| *slips <= allowed)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, name)| name)
}

/// How many letters were missed, added, changed, or swapped with their neighbour.
fn slips(typed: &str, name: &str) -> usize {
    let (a, b) = (typed.as_bytes(), name.as_bytes());
    // Nobody mistypes a short name as a long one; this also bounds the table below.
    if a.len().abs_diff(b.len()) > 2 {
        return usize::MAX;
    }
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut least = changed.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    least = least.min(rows[i - 2][j - 2] + 1);
                }
                least
            };
        }
    }
    rows[a.len()][b.len()]
}
