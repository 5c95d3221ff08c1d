//! The server's own log: one line a change of state.

use crate::engine::{End, Failure, ServiceId, State, Supervisor};
use crate::rpc::view::{self, look};

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
            failure: Some(_), ..
        } => {}
        State::Exited { code: Some(code) } => log::info!("{name}: exited with code {code}"),
        State::Exited { code: None } => log::info!("{name}: stopped"),
        State::Backoff { until, end } => {
            let delay = until.since(crate::sys::clock::now()).as_millis();
            let how = if end == End::Success {
                "exited with code 0".to_owned()
            } else {
                why()
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
        State::Forking | State::Clearing { .. } => {}
        State::Inactive => log::debug!("{name}: inactive"),
    }
}
