//! Signal numbers and their names.

use std::fmt;

/// A signal of `signal(7)`, 1 to 31, by its Linux number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(u8);

/// Names by number, the first of several being the one shown. Numbers are those of x86 and ARM.
const NAMES: [&[&str]; 31] = [
    &["HUP"],
    &["INT"],
    &["QUIT"],
    &["ILL"],
    &["TRAP"],
    &["ABRT", "IOT"],
    &["BUS"],
    &["FPE"],
    &["KILL"],
    &["USR1"],
    &["SEGV"],
    &["USR2"],
    &["PIPE"],
    &["ALRM"],
    &["TERM"],
    &["STKFLT"],
    &["CHLD"],
    &["CONT"],
    &["STOP"],
    &["TSTP"],
    &["TTIN"],
    &["TTOU"],
    &["URG"],
    &["XCPU"],
    &["XFSZ"],
    &["VTALRM"],
    &["PROF"],
    &["WINCH"],
    &["IO", "POLL"],
    &["PWR"],
    &["SYS"],
];

impl Signal {
    /// Hangup.
    pub const HUP: Self = Self(1);
    /// Cannot be caught.
    pub const KILL: Self = Self(9);
    /// The polite request to end.
    pub const TERM: Self = Self(15);
    /// Resumes a stopped process.
    pub const CONT: Self = Self(18);

    /// The signal of that number, if it is one of 1 to 31.
    #[must_use]
    pub fn from_number(number: i32) -> Option<Self> {
        let number = u8::try_from(number).ok()?;
        (1..=31).contains(&number).then_some(Self(number))
    }

    /// Reads a name in any case, with or without `SIG`, or a decimal number.
    ///
    /// # Errors
    /// [`UnknownSignal`] tells a number out of range from a name that is none.
    pub fn parse(text: &str) -> Result<Self, UnknownSignal> {
        if let Ok(number) = text.parse::<i32>() {
            return Self::from_number(number).ok_or(UnknownSignal::Number);
        }
        let upper = text.to_ascii_uppercase();
        let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
        (1u8..)
            .zip(NAMES)
            .find(|(_, names)| names.contains(&bare))
            .map(|(number, _)| Self(number))
            .ok_or(UnknownSignal::Name)
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }

    /// Its name without `SIG`.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES[usize::from(self.0) - 1][0]
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SIG{}", self.name())
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownSignal {
    /// No signal has that name.
    Name,
    /// Numbers go from 1 to 31.
    Number,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree_with_linux() {
        for (text, number) in [
            ("hup", 1),
            ("SIGKILL", 9),
            ("Term", 15),
            ("iot", 6),
            ("poll", 29),
            ("31", 31),
        ] {
            assert_eq!(
                Signal::parse(text).map(Signal::number),
                Ok(number),
                "{text}"
            );
        }
        assert_eq!(Signal::parse("BOGUS"), Err(UnknownSignal::Name));
        assert_eq!(Signal::parse("SIG"), Err(UnknownSignal::Name));
        for text in ["0", "32", "-1", "99"] {
            assert_eq!(Signal::parse(text), Err(UnknownSignal::Number), "{text}");
        }
    }
}
