//! The engine's types as words of a line, both ways: `Exited pid 4711 exit Code 1`.
//!
//! A variant is its name and then its fields, each by name; none is `-`, a list stands in brackets.
//! So nothing has to be looked ahead for, and a word that is not the one expected is told.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;

use crate::engine::spec::Hook;
use crate::engine::{
    Awaits, Care, Command, End, ErrandId, Event, Exit, Failure, Fault, Force, Goal, Health, Hold,
    Kept, Patience, Phase, Pid, Refresh, Report, Restarts, Round, ServiceId, Signal, SpawnError,
    Spec, State, Step, Ticket, Time, Verdict, Waiting, Want,
};

/// Words that are written, and the specs they name by number.
#[derive(Default)]
pub(super) struct Writer {
    pub(super) text: String,
    pub(super) specs: Vec<Rc<Spec>>,
    by_name: BTreeMap<Rc<str>, Vec<usize>>,
}

impl Writer {
    fn word(&mut self, word: &str) {
        self.blank();
        self.text.push_str(word);
    }

    /// A word that is not a text yet.
    fn show(&mut self, value: &dyn Display) {
        self.blank();
        let _ = write!(self.text, "{value}");
    }

    fn blank(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push(' ');
        }
    }
}

/// Words that are read.
pub(super) struct Reader<'a> {
    words: std::str::SplitWhitespace<'a>,
    specs: &'a [Rc<Spec>],
}

/// A word that is not one of those that could stand there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misread {
    pub(super) found: String,
    pub(super) wanted: &'static str,
}

impl<'a> Reader<'a> {
    pub(super) fn new(line: &'a str, specs: &'a [Rc<Spec>]) -> Self {
        let words = line.split_whitespace();
        Self { words, specs }
    }

    pub(super) fn word(&mut self, wanted: &'static str) -> Result<&'a str, Misread> {
        let found = String::from("the end of the line");
        self.words.next().ok_or(Misread { found, wanted })
    }

    fn expect(&mut self, wanted: &'static str) -> Result<(), Misread> {
        let word = self.word(wanted)?;
        if word == wanted {
            return Ok(());
        }
        misread(word, wanted)
    }

    fn parse<T: FromStr>(&mut self, wanted: &'static str) -> Result<T, Misread> {
        let word = self.word(wanted)?;
        word.parse().or_else(|_| misread(word, wanted))
    }

    /// Is this the next word? Then it is taken.
    fn takes(&mut self, word: &str) -> bool {
        let mut ahead = self.words.clone();
        let so = ahead.next() == Some(word);
        if so {
            self.words = ahead;
        }
        so
    }

    pub(super) fn end(&mut self) -> Result<(), Misread> {
        match self.words.next() {
            None => Ok(()),
            Some(word) => misread(word, "the end of the line"),
        }
    }
}

fn misread<T>(found: &str, wanted: &'static str) -> Result<T, Misread> {
    let found = found.to_owned();
    Err(Misread { found, wanted })
}

/// Can be written as words, and read from them.
pub(super) trait Words: Sized {
    fn write(&self, to: &mut Writer);
    fn read(from: &mut Reader<'_>) -> Result<Self, Misread>;
}

/// Both directions from one list of what there is.
macro_rules! words {
    ($(struct $name:ident { $($field:ident),* })*) => {$(
        impl Words for $name {
            fn write(&self, to: &mut Writer) {
                let Self { $($field),* } = self;
                $(to.word(stringify!($field)); $field.write(to);)*
            }

            fn read(from: &mut Reader<'_>) -> Result<Self, Misread> {
                Ok(Self { $($field: { from.expect(stringify!($field))?; Words::read(from)? }),* })
            }
        }
    )*};
    ($(enum $name:ident {
        $($variant:ident $({ $($field:ident),* })? $(($inner:ident))?,)*
    })*) => {$(
        impl Words for $name {
            fn write(&self, to: &mut Writer) {
                match self {
                    $(Self::$variant $({ $($field),* })? $(($inner))? => {
                        to.word(stringify!($variant));
                        $($(to.word(stringify!($field)); $field.write(to);)*)?
                        $($inner.write(to);)?
                    })*
                }
            }

            fn read(from: &mut Reader<'_>) -> Result<Self, Misread> {
                match from.word(stringify!($name))? {
                    $(stringify!($variant) => Ok(Self::$variant
                        $({ $($field: { from.expect(stringify!($field))?; Words::read(from)? }),* })?
                        $(({ let $inner = Words::read(from)?; $inner }))?
                    ),)*
                    other => misread(other, stringify!($name)),
                }
            }
        }
    )*};
}

/// Those that are one word, and parsed by the standard library.
macro_rules! plain {
    ($($name:ident: $wanted:literal),*) => {$(
        impl Words for $name {
            fn write(&self, to: &mut Writer) {
                to.show(self);
            }

            fn read(from: &mut Reader<'_>) -> Result<Self, Misread> {
                from.parse($wanted)
            }
        }
    )*};
}

plain!(u8: "a number", u32: "a number", u64: "a number", usize: "a number");
plain!(i32: "a number", bool: "true or false");

/// Those that are a number with a name.
macro_rules! newtypes {
    ($($name:ident),*) => {$(
        impl Words for $name {
            fn write(&self, to: &mut Writer) {
                self.0.write(to);
            }

            fn read(from: &mut Reader<'_>) -> Result<Self, Misread> {
                Words::read(from).map(Self)
            }
        }
    )*};
}

newtypes!(Ticket, ErrandId);

impl<T: Words> Words for Option<T> {
    fn write(&self, to: &mut Writer) {
        match self {
            None => to.word("-"),
            Some(value) => value.write(to),
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Misread> {
        if from.takes("-") {
            return Ok(None);
        }
        T::read(from).map(Some)
    }
}

impl<T: Words> Words for Vec<T> {
    fn write(&self, to: &mut Writer) {
        to.word("[");
        self.iter().for_each(|value| value.write(to));
        to.word("]");
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Misread> {
        from.expect("[")?;
        let mut values = Self::new();
        while !from.takes("]") {
            values.push(T::read(from)?);
        }
        Ok(values)
    }
}

impl<A: Words, B: Words> Words for (A, B) {
    fn write(&self, to: &mut Writer) {
        self.0.write(to);
        self.1.write(to);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Misread> {
        Ok((A::read(from)?, B::read(from)?))
    }
}

/// A name.
impl Words for Rc<str> {
    fn write(&self, to: &mut Writer) {
        to.word(self);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Misread> {
        from.word("a name").map(Self::from)
    }
}

/// The number of a spec, as all specs are told first. Those that are equal are one.
impl Words for Rc<Spec> {
    fn write(&self, to: &mut Writer) {
        let numbers = to.by_name.entry(Rc::clone(&self.name)).or_default();
        let known = numbers.iter().find(|number| to.specs[**number] == *self);
        let number = known.copied().unwrap_or_else(|| {
            to.specs.push(Self::clone(self));
            numbers.push(to.specs.len() - 1);
            to.specs.len() - 1
        });
        number.write(to);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Misread> {
        let number = usize::read(from)?;
        let spec = from.specs.get(number);
        let found = number.to_string();
        let wanted = "the number of a spec";
        spec.cloned().ok_or(Misread { found, wanted })
    }
}

impl Words for Pid {
    fn write(&self, to: &mut Writer) {
        to.show(self);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Misread> {
        let number = i32::read(from)?;
        let found = number.to_string();
        let wanted = "the number of a process";
        Self::new(number).ok_or(Misread { found, wanted })
    }
}

impl Words for ServiceId {
    fn write(&self, to: &mut Writer) {
        let (index, generation) = self.parts();
        to.show(&format_args!("{index}.{generation}"));
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Misread> {
        const WANTED: &str = "a service, as 3.0";
        let word = from.word(WANTED)?;
        let parts = word.split_once('.');
        let parts = parts.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        match parts {
            Some((index, generation)) => Ok(Self::from_parts(index, generation)),
            None => misread(word, WANTED),
        }
    }
}

/// Milliseconds.
impl Words for Time {
    fn write(&self, to: &mut Writer) {
        self.as_millis().write(to);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Misread> {
        u64::read(from).map(Self::from_millis)
    }
}

/// Milliseconds; the engine counts in no smaller ones.
impl Words for Duration {
    fn write(&self, to: &mut Writer) {
        to.show(&self.as_millis());
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Misread> {
        u64::read(from).map(Self::from_millis)
    }
}

impl Words for Signal {
    fn write(&self, to: &mut Writer) {
        to.show(self);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Misread> {
        let word = from.word("a signal")?;
        Self::parse(word).or_else(|_| misread(word, "a signal"))
    }
}

impl Words for Restarts {
    fn write(&self, to: &mut Writer) {
        self.count.write(to);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Misread> {
        let count = u32::read(from)?;
        Ok(Self { count })
    }
}

/// What is said of how a service is cared for, unless there is nothing to be said.
macro_rules! care {
    ($($field:ident),*) => {
        impl Words for Care {
            fn write(&self, to: &mut Writer) {
                if *self == Self::default() {
                    return to.word("-");
                }
                let Self { $($field),* } = self;
                $(to.word(stringify!($field)); $field.write(to);)*
            }

            fn read(from: &mut Reader<'_>) -> Result<Self, Misread> {
                if from.takes("-") {
                    return Ok(Self::default());
                }
                Ok(Self { $($field: { from.expect(stringify!($field))?; Words::read(from)? }),* })
            }
        }
    };
}

care!(
    probe, probe_at, failures, counted, health, within, silent_at, refresh
);

words! {
    struct SpawnError { step, errno, item }
    struct Kept { id, spec, state, want, restarts, hook, last_errand, care }
    struct Waiting { slot, ticket, goal, until, pending, failed, bulk }
}

words! {
    enum Event {
        Command { ticket, patience, command },
        HungUp { ticket },
        Forked { service, pid },
        ForkFailed { service, error, scarce },
        Obstructed { service },
        Started { pid },
        ExecFailed { pid, error },
        Ready { pid },
        Extend { pid, by },
        Signalled { pid },
        Ping { pid },
        Watch { pid, within },
        Trouble { pid },
        Handover { pid, to },
        Returned { service, errand, report },
        Exited { pid, exit },
        Cleared { service },
        Called { service },
        Deadline,
    }
    enum Command {
        Start { service, deps },
        Stop { service },
        Restart { service },
        Signal { service, signal },
        Refresh { service },
        Wait { service, goal },
        Remove { service },
        StartAll,
        StopAll,
        RemoveAll,
        Put { spec },
        Reload { specs, keep, start },
        Boot { services },
        Shutdown { within, spare },
    }
    enum State {
        Inactive,
        Blocked { hold },
        Preparing { until },
        Forking,
        Spawning { pid, since, fail_at },
        Starting { pid, since, awaits, fail_at },
        Running { pid, since },
        Stopping { pid, failure, force, kill_at },
        Clearing { end, force, kill_at, round },
        Trailing { end, until },
        Backoff { until, end },
        Exited { end },
        Failed { why },
    }
    enum Hold {
        Waiting,
        Stuck,
        Missing,
        Cycle,
        Conflict,
        Port,
        Obstructed { until },
    }
    enum Failure {
        ExitCode(code),
        Signal(signal),
        Spawn(error),
        StartTimeout,
        StopTimeout,
        Unready,
        Health { attempts },
        Watchdog,
        Trouble,
        OutOfMemory,
        Hook { hook, fault },
    }
    enum Step {
        Fork,
        Session,
        Stdio,
        Terminal,
        EnvFile,
        Cgroup,
        Limits,
        Priority,
        OomScore,
        Chroot,
        Setgid,
        Setuid,
        Capabilities,
        Sockets,
        Chdir,
        Exec,
    }
    enum Goal {
        Start,
        Stop,
        Running,
        Stopped,
        Exited,
        Gone,
        Refresh,
    }
    enum Patience { None, Until(time), }
    enum Exit { Code(code), Signal(signal), OutOfMemory, }
    enum Report { Success, Failed, Ended(exit), NotRun(error), }
    enum Awaits { Readiness, Hook, }
    enum Round { Main, Hook, }
    enum Fault { Ended(exit), NotRun(error), TimedOut, }
    enum End { Asked(exit), Success(exit), Failure(why), }
    enum Force { Hook, Polite, Kill, }
    enum Want { Up, Cycle, Down, Call, Gone, }
    enum Hook { PreStart, PostStart, Stop, PostStop, Reload, }
    enum Health { Unknown, Healthy { since }, Unhealthy { since }, }
    enum Refresh { None, Under { errand, until }, Done, Failed(fault), }
    enum Phase { Serving, Closing { force, deadline, spare }, Halted, }
    enum Verdict { Failed, Blocked, Superseded, Removed, TimedOut, }
}
