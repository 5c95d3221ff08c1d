//! The kernel's command line: the words on it that are meant for PID 1.
//!
//! They are `zinit.target=NAME`, `zinit.log=LEVEL`, `zinit.debug`, and what other inits have taught
//! people to type: `single`, `s`, `S`, `1`, `rescue`, `emergency`, `quiet`, and 2 to 5 for the target
//! of that name. Everything else is somebody else's, and left alone.

/// How far a machine is brought up before somebody looks at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// All the way.
    #[default]
    Full,
    /// The machine's own services, then a shell on the console; leaving it goes on.
    Rescue,
    /// Nothing, then a shell on the console; leaving it goes on.
    Emergency,
}

/// What the command line asks of PID 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelLine {
    /// How far to go before a shell is offered.
    pub level: Level,
    /// Boot this and what it needs, not everything.
    pub target: Option<String>,
    /// The level of the log.
    pub log_level: Option<String>,
    /// Only warnings and errors on the console.
    pub quiet: bool,
}

/// The levels of the log, as `zinit.log` takes them.
const LOG_LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

impl KernelLine {
    /// Reads a command line.
    #[must_use]
    pub fn parse(line: &str) -> Self {
        let mut found = Self::default();
        for word in words(line) {
            found.take(&word);
        }
        found
    }

    /// Takes in a word. Says whether it was meant for PID 1.
    pub fn take(&mut self, word: &str) -> bool {
        match word {
            "single" | "s" | "S" | "1" | "rescue" => self.level = Level::Rescue,
            "emergency" => self.level = Level::Emergency,
            "2" | "3" | "4" | "5" => self.target = Some(word.to_owned()),
            "quiet" => self.quiet = true,
            "zinit.debug" | "zinitdebug=1" => self.log_level = Some("debug".to_owned()),
            _ => {
                return match word.split_once('=') {
                    Some(("zinit.target", name)) if !name.is_empty() => {
                        self.target = Some(name.to_owned());
                        true
                    }
                    Some(("zinit.log", level)) if LOG_LEVELS.contains(&level) => {
                        self.log_level = Some(level.to_owned());
                        true
                    }
                    Some(_) | None => false,
                };
            }
        }
        true
    }
}

/// The words of a line. Double quotes hold blanks together, as the kernel reads them.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for letter in line.chars() {
        match letter {
            '"' => quoted = !quoted,
            _ if letter.is_whitespace() && !quoted => words.push(std::mem::take(&mut word)),
            _ => word.push(letter),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_pid_1_are_found_among_the_others() {
        let line =
            "console=ttyS0 root=\"LABEL=a single\" zinit.target=web quiet zinit.log=warn x=1 foo\n";
        let expected = KernelLine {
            level: Level::Full,
            target: Some("web".into()),
            log_level: Some("warn".into()),
            quiet: true,
        };
        assert_eq!(KernelLine::parse(line), expected);
        for word in ["single", "s", "S", "1", "rescue"] {
            assert_eq!(KernelLine::parse(word).level, Level::Rescue, "{word}");
        }
        assert_eq!(
            KernelLine::parse("emergency 3 zinit.debug"),
            KernelLine {
                level: Level::Emergency,
                target: Some("3".into()),
                log_level: Some("debug".into()),
                quiet: false,
            }
        );
        // What makes no sense is left alone, like what is not ours.
        let nothing = KernelLine::default();
        assert_eq!(
            KernelLine::parse("zinit.log=loud zinit.target= zinit.x 6 \"\""),
            nothing
        );
    }
}
