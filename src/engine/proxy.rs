//! A proxy: it listens for a service, starts it when somebody connects, and has it stop again when
//! nobody has been there for a while.

use std::rc::Rc;
use std::time::Duration;

use super::address::Address;
use super::{Hold, State, Time};

/// A proxy as it is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxySpec {
    /// Unique name among proxies.
    pub name: Rc<str>,
    /// Where it listens.
    pub listen: Vec<Address>,
    /// Where the service listens.
    pub backend: Address,
    /// The service it starts and stops; it need not exist.
    pub service: Rc<str>,
    /// How long a client may wait for the backend.
    pub connect_timeout: Duration,
    /// How long nobody may be connected before the service is stopped; none: for ever.
    pub idle_timeout: Option<Duration>,
    /// One client at a time; others are turned away.
    pub single_connection: bool,
}

/// What a client of a proxy waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prospect {
    /// The backend may accept it now.
    Try,
    /// The service has to be started.
    Start,
    /// It is on its way.
    Wait,
    /// It has failed for good or is held back; nobody is served.
    Hopeless,
}

/// What a client may expect of a service in this state. `asked` says that it was started for this
/// client already.
#[must_use]
pub fn prospect(state: State, asked: bool) -> Prospect {
    match state {
        State::Running { .. } => Prospect::Try,
        State::Inactive
        | State::Exited { .. }
        | State::Failed { .. }
        | State::Blocked {
            hold: Hold::Stuck | Hold::Missing | Hold::Cycle,
        } if asked => Prospect::Hopeless,
        State::Inactive | State::Exited { .. } | State::Failed { .. } => Prospect::Start,
        State::Blocked {
            hold: Hold::Stuck | Hold::Missing | Hold::Cycle,
        } => Prospect::Start,
        State::Blocked { .. }
        | State::Preparing { .. }
        | State::Forking
        | State::Spawning { .. }
        | State::Starting { .. }
        | State::Stopping { .. }
        | State::Clearing { .. }
        | State::Trailing { .. }
        | State::Backoff { .. } => Prospect::Wait,
    }
}

/// When a service that has been up since `up` is stopped for want of clients, where each of its
/// proxies was left by its last one at `left` (none: somebody is there) and may be idle so long.
#[must_use]
pub fn idle_until(
    up: Time,
    proxies: impl Iterator<Item = (Option<Time>, Option<Duration>)>,
) -> Option<Time> {
    let mut until = None;
    for (left, patience) in proxies {
        let at = left?.max(up) + patience?;
        until = until.max(Some(at));
    }
    until
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_idle_when_all_of_its_proxies_are() {
        let at = |ms| Time::from_millis(ms);
        let span = |ms| Some(Duration::from_millis(ms));
        let until = |proxies: &[(Option<Time>, Option<Duration>)]| {
            idle_until(at(100), proxies.iter().copied())
        };
        assert_eq!(until(&[]), None);
        assert_eq!(until(&[(Some(at(0)), span(10))]), Some(at(110)));
        assert_eq!(until(&[(Some(at(200)), span(10))]), Some(at(210)));
        assert_eq!(until(&[(None, span(10))]), None);
        assert_eq!(until(&[(Some(at(0)), None)]), None);
        let both = [(Some(at(200)), span(10)), (Some(at(0)), span(500))];
        assert_eq!(until(&both), Some(at(600)));
        assert_eq!(until(&[both[0], (None, span(10))]), None);
    }
}
