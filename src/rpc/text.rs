//! `service.tree` and `debug.*`: texts for people, in the layouts of zinit 0.3.9.

use std::fmt::Write;

use super::view::{Reason, kind_of, linked, look, number, reason_text, symbol, title, uptime};
use super::why::waiting_on;
use crate::api::Word;
use crate::engine::{Failure, LinkKind, Pid, Service, ServiceId, Signal, Supervisor, Time};

/// `service.tree`.
#[must_use]
pub fn tree(all: &Supervisor) -> String {
    let mut text = String::new();
    let services: Vec<_> = all.services().collect();
    for (at, (id, service)) in services.iter().enumerate() {
        let last = at + 1 == services.len();
        let (branch, stem) = if last {
            ("└─", " ")
        } else {
            ("├─", "│")
        };
        let _ = writeln!(text, "{branch} {}", title(all, *id, service));
        let links: Vec<_> = linked(all, *id)
            .filter(|(kind, ..)| *kind != LinkKind::Conflicts)
            .collect();
        for (at, (kind, other, service)) in links.iter().enumerate() {
            let twig = if at + 1 == links.len() {
                "└─"
            } else {
                "├─"
            };
            let word = look(all, *other, service).word.text();
            let _ = writeln!(
                text,
                "{stem}    {twig} {} {} ({word})",
                kind_of(*kind),
                service.spec().name
            );
        }
    }
    text.truncate(text.trim_end().len());
    text
}

/// A process for `debug.*`: number, parent, name, state letter.
#[derive(Clone, Debug)]
pub struct Child {
    /// Its number.
    pub pid: Pid,
    /// Its parent's number.
    pub ppid: i32,
    /// Its name.
    pub name: String,
    /// Its state, as in `proc_pid_stat(5)`.
    pub state: char,
}

/// `debug.state`; `children` gives the direct children of a main process.
pub fn debug_state(
    all: &Supervisor,
    now: Time,
    mut children: impl FnMut(Pid) -> Vec<Child>,
) -> String {
    let mut text = String::from("=== Service Graph State ===\n\n");
    for (id, service) in all.services() {
        let word = look(all, id, service).word;
        let _ = writeln!(
            text,
            "{} {} - {}",
            symbol(word),
            service.spec().name,
            debug_info(all, id, service, now)
        );
        let restarts = service.restarts();
        if restarts.count() > 0 {
            let delay = restarts.next_delay(&service.spec().lifecycle).as_millis();
            let _ = writeln!(
                text,
                "    restart_count: {}, next_delay: {delay}ms",
                restarts.count()
            );
        }
        let is_need = |kind: LinkKind| kind != LinkKind::Conflicts;
        let links = linked(all, id).filter(|(kind, ..)| is_need(*kind));
        let links: Vec<_> = links.collect();
        if !links.is_empty() {
            text.push_str("    ← depends on:\n");
        }
        for (kind, other, service) in links {
            let mark = if service.is_met() { '✓' } else { '✗' };
            let word = look(all, other, service).word.text();
            let _ = writeln!(
                text,
                "      {mark} {} {} ({word})",
                kind_of(kind),
                service.spec().name
            );
        }
        let required: Vec<String> = all
            .graph()
            .back(id)
            .filter(|(kind, _)| is_need(*kind))
            .filter_map(|(_, other)| Some(all.service(other)?.spec().name.to_string()))
            .collect();
        if !required.is_empty() {
            let _ = writeln!(text, "    → required by: {}", required.join(", "));
        }
        let children = service.state().pid().map(&mut children).unwrap_or_default();
        if !children.is_empty() {
            text.push_str("    └─ child processes:\n");
        }
        for child in children {
            let _ = writeln!(
                text,
                "       └─ {} (pid={}, state={})",
                child.name, child.pid, child.state
            );
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn debug_info(all: &Supervisor, id: ServiceId, service: &Service, now: Time) -> String {
    let look = look(all, id, service);
    let pid = number(look.pid);
    match look.word {
        Word::Inactive => "Inactive".to_owned(),
        Word::Blocked => format!("Blocked (waiting on: {})", waiting_on(all, id).join(", ")),
        Word::Starting => format!("Starting (pid={pid})"),
        Word::Running => {
            let up = uptime(service, now).filter(|_| look.pid.is_some());
            format!(
                "Running (pid={pid}, uptime={})",
                up.map_or_else(|| "?".to_owned(), span)
            )
        }
        Word::Stopping => format!("Stopping (pid={pid})"),
        Word::Exited => format!("Exited (code={:?})", look.exit_code),
        Word::Failed => match look.reason {
            Some(Reason::Failure(Failure::Signal(number))) => {
                let name = Signal::from_number(number)
                    .map_or_else(|| "signal".to_owned(), |signal| signal.to_string());
                format!("Failed (killed by {name} ({number}))")
            }
            reason => format!(
                "Failed ({})",
                reason
                    .as_ref()
                    .map(|reason| reason_text(service.spec(), reason))
                    .unwrap_or_default()
            ),
        },
    }
}

fn span(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, _) => format!("{h}h{m}m"),
    }
}

/// `debug.process_tree`.
#[must_use]
pub fn process_tree(name: &str, pid: Option<Pid>, descendants: &[Child]) -> String {
    let Some(pid) = pid else {
        return format!("{name} is not running");
    };
    let mut text = format!("{name} (pid={pid})");
    if descendants.is_empty() {
        text.push_str("\n  └─ (no child processes)");
    }
    for (at, child) in descendants.iter().enumerate() {
        let twig = if at + 1 == descendants.len() {
            "└─"
        } else {
            "├─"
        };
        let state = match child.state {
            'R' => "running",
            'S' | 'I' => "sleeping",
            'D' => "disk sleep",
            'Z' => "zombie",
            'T' | 't' => "stopped",
            'X' | 'x' => "dead",
            _ => "unknown",
        };
        let _ = write!(
            text,
            "\n  {twig} {} (pid={}, ppid={}, {state})",
            child.name, child.pid, child.ppid
        );
    }
    text
}
