//! What an `exec` line needs to be run: a shell, or only its words.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Characters that mean something to a shell wherever they stand (XCU 2.2), blanks excepted.
/// A newline is among them: it ends a command.
const SPECIAL: &[u8] = b"|&;<>()$`\\\"'*?[\n";

/// First words that only a shell can run: reserved words (XCU 2.4, with those it leaves to
/// implementations), special built-in utilities (XCU 2.14), and built-in utilities that act on
/// the shell itself (XCU 2.9.1.1). Built-ins that exist as programs too, such as echo, test,
/// kill and pwd, are not here: the program does.
const SHELL_WORDS: &[&str] = &[
    "!", "{", "}", "case", "do", "done", "elif", "else", "esac", "fi", "for", "if", "in", "then",
    "until", "while", "function", "select", "time", "[[", "]]", //
    ":", ".", "break", "continue", "eval", "exec", "exit", "export", "readonly", "return", "set",
    "shift", "times", "trap", "unset", //
    "alias", "bg", "cd", "command", "fc", "fg", "getopts", "hash", "jobs", "read", "type",
    "ulimit", "umask", "unalias", "wait", "builtin", "local", "source",
];

/// The words of a line that has no shell syntax, or `None` if it needs `/bin/sh -c`.
///
/// A line without shell syntax means the same to a shell and to us, so the shell can be left out:
/// one process less, and the service's pid is the program's. The rule follows POSIX.1-2017, XCU
/// chapter 2 (Shell Command Language). A line needs a shell if
///
/// * it holds one of ``| & ; < > ( ) $ ` \ " ' * ? [`` or a newline anywhere;
/// * a word begins with `#` (a comment) or `~` (a home directory);
/// * its first word is an assignment `NAME=…`, a reserved word, or a built-in utility that
///   exists only inside a shell, such as `exec` or `cd`.
///
/// All else is plain: `%`, `=` in later words, `~`, `#`, `!`, `{`, `}` and `]` inside a word.
/// Words are split at spaces and tabs.
#[must_use]
pub fn words(line: &str) -> Option<Vec<String>> {
    let words: Vec<&str> = line
        .split([' ', '\t'])
        .filter(|word| !word.is_empty())
        .collect();
    let first = words.first()?;
    let needs_shell = line.bytes().any(|byte| SPECIAL.contains(&byte))
        || words.iter().any(|word| word.starts_with(['#', '~']))
        || SHELL_WORDS.contains(first)
        || is_assignment(first);
    (!needs_shell).then(|| words.into_iter().map(str::to_owned).collect())
}

/// `NAME=…`, where NAME is letters, digits and underscores and begins with no digit (XBD 3.235).
fn is_assignment(word: &str) -> bool {
    let Some((name, _)) = word.split_once('=') else {
        return false;
    };
    let is_word = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_word
        && name
            .bytes()
            .next()
            .is_some_and(|byte| !byte.is_ascii_digit())
}

/// The file that running `word` would execute: itself if it holds a slash, else the first in `path_var`.
///
/// Relative paths count from `dir`, where the service would stand. An empty element of `path_var`
/// is that directory (XBD 8.3).
#[must_use]
pub fn find_program(word: &str, path_var: &str, dir: Option<&Path>) -> Option<PathBuf> {
    let at = |path: &Path| dir.unwrap_or(Path::new("")).join(path);
    if word.contains('/') {
        return Some(at(Path::new(word))).filter(|path| is_program(path));
    }
    path_var
        .split(':')
        .map(|folder| at(&Path::new(if folder.is_empty() { "." } else { folder }).join(word)))
        .find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_words_need_no_shell() {
        for (line, expected) in [
            ("sleep 10", vec!["sleep", "10"]),
            ("  /bin/x\t a  ", vec!["/bin/x", "a"]),
            ("date +%s", vec!["date", "+%s"]),
            ("env A=1 b", vec!["env", "A=1", "b"]),
            (
                "x a~b a#b a!b {a,b} ! }",
                vec!["x", "a~b", "a#b", "a!b", "{a,b}", "!", "}"],
            ),
            ("x ] --exec if", vec!["x", "]", "--exec", "if"]),
            ("2x=1 y", vec!["2x=1", "y"]),
            ("=1", vec!["=1"]),
            ("echo ä", vec!["echo", "ä"]),
        ] {
            assert_eq!(
                words(line),
                Some(expected.into_iter().map(str::to_owned).collect()),
                "{line}"
            );
        }
    }

    #[test]
    fn shell_syntax_needs_a_shell() {
        for line in [
            "exec sleep 1",
            "cd / && x",
            "a | b",
            "a&",
            "a;b",
            "a <b",
            "a >b",
            "(a)",
            "a $B",
            "a `b`",
            "a \\b",
            "a \"b\"",
            "a 'b'",
            "a *",
            "a ?",
            "a [b",
            "a\nb",
            "a #b",
            "a ~/b",
            "~/a",
            "A=1 b",
            "_a1=",
            "! a",
            "{ a",
            "if a",
            ". a",
            ": a",
            "time a",
            "umask 77",
            "",
            "  ",
        ] {
            assert_eq!(words(line), None, "{line}");
        }
    }

    #[test]
    fn programs_are_found_by_path_or_by_directory() {
        assert_eq!(
            find_program("sh", "/nowhere:/bin", None),
            Some("/bin/sh".into())
        );
        assert_eq!(find_program("/bin/sh", "", None), Some("/bin/sh".into()));
        assert_eq!(
            find_program("./sh", "", Some(Path::new("/bin"))),
            Some("/bin/./sh".into())
        );
        assert_eq!(
            find_program("sh", ":", Some(Path::new("/bin"))),
            Some("/bin/./sh".into())
        );
        assert_eq!(find_program("/etc/passwd", "/bin", None), None);
        assert_eq!(find_program("/bin", "/bin", None), None);
    }
}
