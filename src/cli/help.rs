//! Help texts, written from the table.

use std::fmt::Write;

use super::commands::{COMMANDS, Command, Flag, GLOBAL_FLAGS, GROUPS};

/// The help of a command, or the overview.
pub(super) fn of(command: Option<&Command>) -> String {
    command.map_or_else(overview, topic)
}

/// What `zinit help` prints.
pub(super) fn overview() -> String {
    let mut text = String::from("zinit: init system and process supervisor\n\n");
    text.push_str("Usage: zinit [FLAG]... COMMAND [ARGUMENT]...\n");
    for (group, heading) in GROUPS {
        line(&mut text, format_args!("\n{heading}:"));
        for command in COMMANDS.iter().filter(|command| command.group == *group) {
            line(
                &mut text,
                format_args!("  {:<12} {}", command.name, command.about),
            );
        }
    }
    text.push_str("\nFlags of every command:\n");
    flags(&mut text, GLOBAL_FLAGS, &[]);
    text.push_str("\n'zinit help COMMAND' says more about one command.");
    text
}

fn topic(command: &Command) -> String {
    let mut text = format!(
        "zinit {}: {}\n\nUsage: {}",
        command.name,
        command.about,
        synopsis(command)
    );
    if !command.aliases.is_empty() {
        line(
            &mut text,
            format_args!("\nAlso called: {}", command.aliases.join(", ")),
        );
    } else {
        text.push('\n');
    }
    if !command.help.is_empty() {
        line(&mut text, format_args!("\n{}", command.help));
    }
    if !command.flags.is_empty() {
        text.push_str("\nFlags:\n");
        flags(&mut text, command.flags, &[]);
    }
    text.push_str("\nFlags of every command:\n");
    flags(&mut text, GLOBAL_FLAGS, command.flags);
    text.truncate(text.trim_end().len());
    text
}

fn synopsis(command: &Command) -> String {
    let mut text = format!("zinit {}", command.name);
    if !command.flags.is_empty() {
        text.push_str(" [FLAG]...");
    }
    if !command.arguments.is_empty() {
        text.push(' ');
        text.push_str(command.arguments);
    }
    text
}

/// Lists `flags`; a letter that one of `hiding` has means that one.
fn flags(text: &mut String, flags: &[Flag], hiding: &[Flag]) {
    for flag in flags {
        let letter = flag
            .short
            .filter(|letter| hiding.iter().all(|own| own.short != Some(*letter)));
        let letter = letter.map_or_else(|| "    ".to_owned(), |letter| format!("-{letter}, "));
        let value = flag
            .value
            .map_or_else(String::new, |value| format!(" {value}"));
        let name = format!("{}{value}", flag.long);
        line(text, format_args!("  {letter}--{name:<22} {}", flag.about));
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}
