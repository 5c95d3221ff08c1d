//! argv to what was typed: a command of the table, its flags, its operands.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::commands::{self, Command, Flag, GLOBAL_FLAGS};
use super::environment::Env;
use super::usage::{unknown_command, unknown_flag_of};
use super::{Invocation, UsageError, help, sysv};

/// What was typed, spelt right but not yet understood.
pub(super) struct Typed {
    pub(super) command: &'static Command,
    operands: Vec<OsString>,
    flags: Vec<(&'static Flag, OsString)>,
    /// What stands behind `--`, for the command that tells it from operands.
    tail: Option<Vec<OsString>>,
}

/// What the command line `argv`, its first word being the name of the program, means.
pub fn parse(
    argv: impl IntoIterator<Item = OsString>,
    env: &Env,
) -> Result<Invocation, UsageError> {
    let mut argv = argv.into_iter();
    let program = argv.next().unwrap_or_default();
    let mut argv: Vec<OsString> = argv.collect();
    let mut command = implied(&program);
    if is_called(&program, "shutdown") {
        command = Some(sysv::shutdown(&argv)?);
        argv.clear();
    }
    let tail = argv
        .iter()
        .position(|word| word == "--")
        .map(|dashes| argv.split_off(dashes).split_off(1));
    let (mut flags, mut operands) = (Vec::new(), Vec::new());
    // Without a dash there is nothing to parse; for PID 1 of a machine that is so.
    let is_plain = |word: &OsString| !word.as_encoded_bytes().starts_with(b"-");
    let plain = command.is_some() && argv.iter().all(is_plain);
    if plain {
        operands = std::mem::take(&mut argv);
    }
    let mut words = lexopt::Parser::from_args(argv);
    while let Some(word) = next_word(&mut words, &flags)? {
        match word {
            Word::Flag(typed) => {
                let flag = flag(command, &typed).ok_or_else(|| unknown_flag_of(command, &typed))?;
                match flag.long {
                    "help" => return Ok(Invocation::Help(help::of(command))),
                    "version" => return Ok(Invocation::Version),
                    _ => flags.push((flag, value(flag, &mut words)?)),
                }
            }
            Word::Operand(typed) if command.is_none() => command = Some(named(&typed)?),
            Word::Operand(typed) => operands.push(typed),
        }
    }
    let mut tail = tail;
    if command.is_none_or(|command| command.name != "init") {
        for typed in tail.take().into_iter().flatten() {
            match command {
                None => command = Some(named(&typed)?),
                Some(_) => operands.push(typed),
            }
        }
    }
    let command = command.ok_or(UsageError::NoCommand)?;
    let typed = Typed {
        command,
        operands,
        flags,
        tail,
    };
    typed.check_operands()?;
    (command.meaning)(&typed, env)
}

/// The command that the program's own name stands for.
fn implied(program: &OsStr) -> Option<&'static Command> {
    match Path::new(program).file_name()?.to_str()? {
        "zinit-server" => commands::command("server"),
        "init" | "zinit-pid1" => commands::command("init"),
        name @ ("poweroff" | "reboot" | "halt") => commands::command(name),
        _ => None,
    }
}

fn is_called(program: &OsStr, name: &str) -> bool {
    Path::new(program).file_name() == Some(OsStr::new(name))
}

/// The command called `typed`.
pub(super) fn named(typed: &OsStr) -> Result<&'static Command, UsageError> {
    let typed = utf8(typed)?;
    commands::command(typed).ok_or_else(|| unknown_command(typed))
}

enum Word {
    /// With its dashes.
    Flag(String),
    Operand(OsString),
}

fn next_word(
    words: &mut lexopt::Parser,
    flags: &[(&'static Flag, OsString)],
) -> Result<Option<Word>, UsageError> {
    // All that can be wrong between words is a value behind a flag that takes none.
    let last = flags.last().map_or("", |(flag, _)| flag.long);
    let word = words
        .next()
        .map_err(|_| UsageError::StrayValue { flag: last })?;
    Ok(word.map(|word| match word {
        lexopt::Arg::Short(letter) => Word::Flag(format!("-{letter}")),
        lexopt::Arg::Long(name) => Word::Flag(format!("--{name}")),
        lexopt::Arg::Value(value) => Word::Operand(value),
    }))
}

/// The command's own flags come first: `kill -s` is a signal.
fn flag(command: Option<&'static Command>, typed: &str) -> Option<&'static Flag> {
    let own = command.map_or(&[] as &[Flag], |command| command.flags);
    own.iter()
        .chain(GLOBAL_FLAGS)
        .find(|flag| match typed.strip_prefix("--") {
            Some(name) => flag.long == name,
            None => flag
                .short
                .is_some_and(|letter| typed[1..].chars().eq([letter])),
        })
}

fn value(flag: &'static Flag, words: &mut lexopt::Parser) -> Result<OsString, UsageError> {
    match flag.value {
        None => Ok(OsString::new()),
        Some(value) => words.value().map_err(|_| UsageError::MissingValue {
            flag: flag.long,
            value,
        }),
    }
}

fn utf8(text: &OsStr) -> Result<&str, UsageError> {
    text.to_str()
        .ok_or_else(|| UsageError::NotUtf8(text.to_string_lossy().into_owned()))
}

impl Typed {
    fn check_operands(&self) -> Result<(), UsageError> {
        let (fewest, most) = self.command.operands;
        let count = self.operands.len();
        if (fewest..=most).contains(&count) {
            return Ok(());
        }
        Err(UsageError::Operands {
            command: self.command.name,
            arguments: self.command.arguments,
            too_few: count < fewest,
        })
    }

    /// Whether `--flag` is there.
    pub(super) fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|(typed, _)| typed.long == flag)
    }

    /// The value of `--flag`; the last one wins.
    pub(super) fn value(&self, flag: &str) -> Option<&OsStr> {
        let mut typed = self.flags.iter().rev();
        typed
            .find(|(typed, _)| typed.long == flag)
            .map(|(_, value)| value.as_os_str())
    }

    /// The value of `--flag` as text.
    pub(super) fn text(&self, flag: &str) -> Result<Option<&str>, UsageError> {
        self.value(flag).map(utf8).transpose()
    }

    /// All values of `--flag` in order.
    pub(super) fn texts(&self, flag: &str) -> Result<Vec<&str>, UsageError> {
        let typed = self.flags.iter().filter(|(typed, _)| typed.long == flag);
        typed.map(|(_, value)| utf8(value)).collect()
    }

    /// Operand number `index`.
    pub(super) fn operand(&self, index: usize) -> Option<&OsStr> {
        self.operands.get(index).map(OsString::as_os_str)
    }

    /// What stands behind `--`.
    pub(super) fn tail(&self) -> Result<Option<Vec<String>>, UsageError> {
        let texts = |tail: &Vec<OsString>| {
            let texts = tail.iter().map(|word| utf8(word).map(str::to_owned));
            texts.collect()
        };
        self.tail.as_ref().map(texts).transpose()
    }

    /// The operands as names.
    pub(super) fn names(&self) -> Result<Vec<String>, UsageError> {
        self.operands
            .iter()
            .map(|name| utf8(name).map(str::to_owned))
            .collect()
    }
}
