//! One case: a day of a server's, on which one system call fails, or one kind of them always.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::calls::{self, errno, number, subject};
use super::sandbox::Sandbox;
use super::scenario::{self, Day, STEPS, Server};
use super::trap::{Call, Ears, spawn_heard};

/// Which call fails.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Case {
    /// The call of a child before it is its program, and not one of the server itself.
    pub(crate) is_childs: bool,
    /// The kind of call.
    pub(crate) name: String,
    /// Only those about this.
    pub(crate) about: Option<String>,
    /// What it fails with.
    pub(crate) errno: &'static str,
    /// Which one of them, from 1 on.
    pub(crate) place: usize,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = if self.is_childs { "child." } else { "" };
        write!(f, "{whose}{}", self.name)?;
        if let Some(about) = &self.about {
            write!(f, ":{about}")?;
        }
        write!(f, " {} {}", self.errno, self.place)
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [call, errno, place] = words[..] else {
            return Err(format!("{text:?} is no case: CALL[:ABOUT] ERRNO PLACE"));
        };
        let (is_childs, call) = match call.strip_prefix("child.") {
            Some(call) => (true, call),
            None => (false, call),
        };
        let (name, about) = match call.split_once(':') {
            Some((name, about)) => (name, Some(about.to_owned())),
            None => (call, None),
        };
        let known = calls::ERRORS.iter().find(|(known, _)| *known == errno);
        let (errno, _) = known.ok_or_else(|| format!("{errno} is not among the errors"))?;
        number(name).ok_or_else(|| format!("there is no call {name}"))?;
        let place = place.parse().map_err(|_| format!("{place} is no place"))?;
        Ok(Self {
            is_childs,
            name: name.to_owned(),
            about,
            errno,
            place,
        })
    }
}

/// What came of a case.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// The step of the day at which the call failed; none if it was never made.
    pub(crate) hit: Option<&'static str>,
    /// How the day went.
    pub(crate) day: Result<Day, String>,
    /// What the server said.
    pub(crate) log: String,
}

/// Listens to the calls of the server, from the begin of its own code on. Before that the C library
/// is loaded, and says itself what it lacks.
struct Watch {
    zinit: PathBuf,
    dir: String,
    has_begun: bool,
}

impl Watch {
    fn new(sandbox: &Sandbox) -> Self {
        let zinit = std::fs::canonicalize(env!("CARGO_BIN_EXE_zinit")).expect("the program");
        let dir = sandbox.text("");
        Self {
            zinit,
            dir,
            has_begun: false,
        }
    }

    /// Is this a call of the server itself (false), or of a child that is not its program yet (true)?
    fn whose(&mut self, call: &Call) -> Option<bool> {
        // The standard library's first act is to look after the standard descriptors.
        let is_first = [number("poll"), number("ppoll")].contains(&Some(call.number));
        let had_begun = self.has_begun;
        self.has_begun |= call.is_own && is_first;
        if !had_begun {
            return None;
        }
        if call.is_own {
            return Some(false);
        }
        let program = std::fs::read_link(format!("/proc/{}/exe", call.pid));
        program
            .is_ok_and(|program| program == self.zinit)
            .then_some(true)
    }
}

/// Runs a case.
pub(crate) fn run(case: &Case) -> Result<Outcome, String> {
    let sandbox = Sandbox::new();
    scenario::services(&sandbox);
    let step: Arc<AtomicUsize> = Arc::default();
    let hit: Arc<Mutex<Option<&'static str>>> = Arc::default();
    let mut watch = Watch::new(&sandbox);
    let wanted = number(&case.name).ok_or("no such call")?;
    let fails_with = errno(case.errno).ok_or("no such error")?;
    let mut count = 0;
    let answer = {
        let (case, step, hit) = (case.clone(), Arc::clone(&step), Arc::clone(&hit));
        move |call: &Call| {
            let whose = watch.whose(call)?;
            if call.number != wanted || whose != case.is_childs || count >= case.place {
                return None;
            }
            let about = subject(call, &case.name, &watch.dir)?;
            if case.about.as_ref().is_some_and(|wanted| *wanted != about) {
                return None;
            }
            count += 1;
            if count < case.place {
                return None;
            }
            *hit.lock().expect("no panic") = Some(STEPS[step.load(Ordering::SeqCst)]);
            Some(fails_with)
        }
    };
    let begin = [number("poll"), number("ppoll")].into_iter().flatten();
    let ears = Ears::These(begin.chain([wanted]).collect());
    let mut command = scenario::command(&sandbox);
    let (child, listener) = spawn_heard(&mut command, &ears, answer).map_err(|e| e.to_string())?;
    let mut server = Server::new(&sandbox, child, step);
    let mut day = catch(|| server.live());
    server.destroy();
    listener.join().map_err(|error| error.to_string())?;
    let log = sandbox.log();
    if let Ok(Day::NotStarted(_)) = &day
        && let Err(text) = catch(|| scenario::next_start(&sandbox))
    {
        day = Err(text);
    }
    let hit = *hit.lock().expect("no panic");
    if hit.is_none() && !matches!(day, Ok(Day::Unnoticed)) {
        day = day.and_then(|day| Err(format!("nothing failed, and yet {day:?}")));
    }
    // What it said has been looked at.
    let _ = std::fs::write(sandbox.path("server.log"), "");
    Ok(Outcome { hit, day, log })
}

/// A panic is a failure like any other.
pub(crate) fn catch<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(text.unwrap_or_else(|| "a panic".to_owned()))
    })
}

/// How often each call is made on a day without failures, by whose it is, its name, and what it is
/// about.
pub(crate) type Counts = BTreeMap<(bool, String, String), usize>;

/// Counts the calls of a day.
pub(crate) fn count_calls() -> Result<Counts, String> {
    let sandbox = Sandbox::new();
    scenario::services(&sandbox);
    let mut watch = Watch::new(&sandbox);
    let counts: Arc<Mutex<Counts>> = Arc::default();
    let ours = Arc::clone(&counts);
    let answer = move |call: &Call| {
        let whose = watch.whose(call)?;
        let name = calls::name(call.number);
        let about = subject(call, &name, &watch.dir)?;
        *ours
            .lock()
            .expect("no panic")
            .entry((whose, name, about))
            .or_default() += 1;
        None
    };
    let mut command = scenario::command(&sandbox);
    let (child, listener) =
        spawn_heard(&mut command, &Ears::All, answer).map_err(|error| error.to_string())?;
    let mut server = Server::new(&sandbox, child, Arc::default());
    let day = catch(|| server.live());
    server.destroy();
    listener.join().map_err(|error| error.to_string())?;
    match day? {
        Day::Unnoticed => Ok(counts.lock().expect("no panic").clone()),
        day @ (Day::AgainIn(_) | Day::NotStarted(_)) => Err(format!("nothing failed, and {day:?}")),
    }
}
