//! Why a service is not up: what it waits for, who is in its way, and where that begins.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write;

use super::view::{Look, look, reason_text, title};
use crate::api::{ProcessConflict, ProcessInfo, WhyBlocked, Word};
use crate::engine::{Hold, LinkKind, Pid, Service, ServiceId, State, Supervisor};

/// What holds a blocked service back, in one line; `obstacle` is what is known of a process.
pub(super) fn held_by(
    all: &Supervisor,
    id: ServiceId,
    service: &Service,
    obstacle: Option<&str>,
) -> String {
    let waiting = waiting_on(all, id);
    let rivals = conflicts_with(all, id);
    if !waiting.is_empty() {
        format!("waiting on: {}", waiting.join(", "))
    } else if !rivals.is_empty() {
        format!("conflicts with: {}", rivals.join(", "))
    } else {
        port_conflict(all, id, service)
            .or_else(|| obstacle.map(str::to_owned))
            .unwrap_or_default()
    }
}

/// Requirements that are not met, and services that are started first.
#[must_use]
pub fn waiting_on(all: &Supervisor, id: ServiceId) -> Vec<String> {
    let mut names = Vec::new();
    let mut told = BTreeSet::new();
    for link in all.graph().links(id) {
        let other = link.to.and_then(|to| all.service(to));
        let waits = match link.kind {
            LinkKind::Requires => other.is_none_or(|other| !other.is_met()),
            LinkKind::After => other.is_some_and(Service::is_coming_up),
            LinkKind::Wants | LinkKind::Conflicts => false,
        };
        if waits && told.insert(&*link.name) {
            names.push(link.name.to_string());
        }
    }
    names
}

fn conflicts_with(all: &Supervisor, id: ServiceId) -> Vec<String> {
    let up = |rival: &ServiceId| all.service(*rival).is_some_and(Service::holds_back_rivals);
    let mut names: Vec<String> = all
        .graph()
        .rivals(id)
        .filter(up)
        .filter_map(|rival| Some(all.service(rival)?.spec().name.to_string()))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn port_conflict(all: &Supervisor, id: ServiceId, service: &Service) -> Option<String> {
    let held = service
        .spec()
        .ports()
        .iter()
        .filter_map(|port| Some((port, all.port_holder(*port, id)?)));
    let held: Vec<(&u16, ServiceId)> = held.collect();
    let (_, holder) = held.first()?;
    let ports: Vec<String> = held
        .iter()
        .filter(|(_, by)| by == holder)
        .map(|(port, _)| port.to_string())
        .collect();
    let holder = &all.service(*holder)?.spec().name;
    Some(format!(
        "port {} in use by service {holder}",
        ports.join(", ")
    ))
}

/// Processes outside that hold a service back.
#[derive(Clone, Debug, Default)]
pub struct Outside {
    /// Of a port: the whole sentence.
    pub port: Option<String>,
    /// Of a filter: which, and who.
    pub process: Option<FilterMatch>,
}

/// A process filter and the processes that match it.
#[derive(Clone, Debug)]
pub struct FilterMatch {
    /// The filter.
    pub filter: String,
    /// Number, name and command line.
    pub processes: Vec<(Pid, String, String)>,
}

impl Outside {
    /// In one line.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let of_process = || {
            let found = self.process.as_ref()?;
            let names: Vec<String> = found
                .processes
                .iter()
                .map(|(pid, name, _)| format!("{name} (PID {pid})"))
                .collect();
            Some(format!(
                "process filter '{}' matches {}",
                found.filter,
                names.join(", ")
            ))
        };
        self.port.clone().or_else(of_process)
    }
}

/// `service.why`.
#[must_use]
pub fn why(all: &Supervisor, id: ServiceId, service: &Service, outside: &Outside) -> WhyBlocked {
    let waiting = waiting_on(all, id);
    let rivals = conflicts_with(all, id);
    let own = look(all, id, service);
    let held = matches!(service.state(), State::Blocked { .. });
    let port = port_conflict(all, id, service)
        .filter(|_| held)
        .or_else(|| outside.port.clone());
    let mut ascii = title(all, id, service);
    let word = |name: &str| {
        all.find(name)
            .and_then(|id| Some(look(all, id, all.service(id)?).word.text()))
    };
    for name in &waiting {
        let _ = write!(
            ascii,
            "\n  -> waiting on {name} ({})",
            word(name).unwrap_or("missing")
        );
    }
    for name in &rivals {
        let _ = write!(
            ascii,
            "\n  !> conflicts with {name} ({})",
            word(name).unwrap_or("missing")
        );
    }
    if !held && waiting.is_empty() && rivals.is_empty() && port.is_none() {
        ascii.push_str("\n  Can start: all dependencies satisfied");
    }
    let process = |(pid, name, cmdline): &(Pid, String, String)| ProcessInfo {
        pid: pid.number(),
        name: name.clone(),
        cmdline: cmdline.clone(),
    };
    WhyBlocked {
        name: service.spec().name.to_string(),
        blocked: own.word == Word::Blocked || held,
        waiting_on: waiting,
        conflicts_with: rivals,
        port_conflict: port,
        process_conflict: outside.process.as_ref().map(|found| ProcessConflict {
            filter: found.filter.clone(),
            processes: found.processes.iter().map(process).collect(),
        }),
        root_causes: if held {
            root_causes(all, id)
        } else {
            own_failure(service, &own)
        },
        ascii,
    }
}

/// What is wrong with a service that nothing holds back.
fn own_failure(service: &Service, look: &Look) -> Vec<String> {
    let text = |reason| reason_text(service.spec(), reason);
    look.reason.as_ref().map(text).into_iter().collect()
}

/// The services at the far end of what a blocked one waits for, each with the way there and what
/// is wrong with it.
#[must_use]
pub fn root_causes(all: &Supervisor, id: ServiceId) -> Vec<String> {
    /// Enough to see what is wrong; a target may wait for thousands.
    const MOST: usize = 10;
    let mut causes = Vec::new();
    let mut seen = BTreeSet::from([id]);
    let mut ways = VecDeque::from([(id, String::new())]);
    while let Some((at, way)) = ways.pop_front() {
        let Some(service) = all.service(at) else {
            continue;
        };
        let blocked = matches!(
            service.state(),
            State::Blocked {
                hold: Hold::Stuck | Hold::Waiting | Hold::Missing
            }
        );
        if !blocked {
            causes.push(format!("{way}: {}", condition(all, at, service)));
        }
        for link in all
            .graph()
            .links(at)
            .iter()
            .filter(|link| blocked && link.kind == LinkKind::Requires)
        {
            let way = if way.is_empty() {
                link.name.to_string()
            } else {
                format!("{way} -> {}", link.name)
            };
            if causes.len() >= MOST {
                break;
            }
            match link.to {
                None => causes.push(format!("{way}: no such service")),
                Some(to) if all.service(to).is_some_and(|to| !to.is_met()) && seen.insert(to) => {
                    ways.push_back((to, way));
                }
                Some(_) => {}
            }
        }
        if causes.len() >= MOST {
            break;
        }
    }
    causes.retain(|cause| !cause.starts_with(": "));
    causes
}

/// The state and, if it is a bad one, why.
fn condition(all: &Supervisor, id: ServiceId, service: &Service) -> String {
    let look = look(all, id, service);
    match (&look.reason, service.state()) {
        (Some(reason), State::Backoff { .. }) => {
            format!("{}, to be restarted", reason_text(service.spec(), reason))
        }
        (Some(reason), _) => reason_text(service.spec(), reason),
        (None, State::Blocked { .. }) => held_by(all, id, service, None),
        (None, _) => look.word.text().to_owned(),
    }
}
