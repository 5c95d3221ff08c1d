//! The server's own log: one line a change of state.

use crate::engine::{Exit, Failure, ServiceId, State, Supervisor};
use crate::rpc::view::{self, Reason, look};

/// Logs that a service is healthy now, or is not.
pub(super) fn health(name: &str, healthy: bool) {
    if healthy {
        log::info!("{name}: healthy");
    } else {
        log::warn!("{name}: unhealthy");
    }
}

/// Logs that a service is in another state.
pub(super) fn changed(all: &Supervisor, id: ServiceId, from: State, to: State) {
    let Some(service) = all.service(id) else {
        return;
    };
    let name = &service.spec().name;
    let look = look(all, id, service);
    let why = || {
        look.reason
            .as_ref()
            .map(|reason| view::reason_text(service.spec(), reason))
            .unwrap_or_default()
    };
    match to {
        State::Running { pid: Some(pid), .. } => log::info!("{name}: running (pid {pid})"),
        State::Running { pid: None, .. } => log::info!("{name}: reached"),
        State::Stopping {
            pid, failure: None, ..
        } => log::info!("{name}: stopping (pid {pid})"),
        State::Stopping {
            failure:
                Some(
                    failure @ (Failure::Health { .. }
                    | Failure::Watchdog
                    | Failure::Trouble
                    | Failure::Hook { .. }),
                ),
            ..
        } => {
            let why = view::reason_text(service.spec(), &Reason::Failure(failure));
            log::warn!("{name}: {why}; stopping it");
        }
        State::Stopping {
            failure: Some(_), ..
        } => {}
        State::Exited { end } => match end.code() {
            Some(code) => log::info!("{name}: exited with code {code}"),
            None => log::info!("{name}: stopped"),
        },
        State::Backoff { until, end } => {
            let delay = until.since(crate::sys::clock::now()).as_millis();
            let how = match end.exit().filter(|_| end.is_success()) {
                Some(Exit::Code(code)) => format!("exited with code {code}"),
                Some(Exit::Signal(_) | Exit::OutOfMemory) | None => why(),
            };
            log::warn!(
                "{name}: {how}; restart {} in {delay} ms",
                service.restarts().count()
            );
        }
        State::Failed {
            why: Failure::StopTimeout,
        } => {
            let main = from
                .pid()
                .map_or("of its last run".to_owned(), |pid| pid.to_string());
            log::error!("{name}: failed: its processes ({main}) can't be killed");
        }
        State::Failed { .. } if service.spec().critical => {
            log::error!("{name}: critical service failed: {}", why());
        }
        State::Failed { .. } => log::error!("{name}: failed: {}", why()),
        State::Spawning { pid, .. } => log::debug!("{name}: starting (pid {pid})"),
        State::Blocked { .. } => log::debug!("{name}: blocked"),
        State::Starting { pid, .. } => log::debug!("{name}: not ready yet (pid {pid})"),
        State::Preparing { .. } => log::debug!("{name}: running its pre_start hook"),
        State::Forking | State::Clearing { .. } | State::Trailing { .. } => {}
        State::Inactive => log::debug!("{name}: inactive"),
    }
}
