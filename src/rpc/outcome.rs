//! What came of a command, as a reply.

use std::rc::Rc;

use serde_json::{Value, json};

use super::dispatch::Form;
use super::view::{self, look};
use super::why::root_causes;
use super::wire::{Code, Refusal};
use crate::engine::spec::Hook;
use crate::engine::{LinkKind, Outcome, ServiceId, Supervisor, Time, Verdict};

/// The reply to a command that came out like this.
///
/// # Errors
/// A refusal, if what was asked did not come about.
pub fn render(all: &Supervisor, form: &Form, outcome: Outcome) -> Result<Value, Refusal> {
    let name = match form {
        Form::Ok { name, .. } => name.as_str(),
        Form::Bulk(_) | Form::Reload { .. } => "",
    };
    match outcome {
        Outcome::Done => Ok(done(all, form)),
        Outcome::Not(verdict) => match form {
            Form::Ok { service, .. } => Err(not(all, *service, name, verdict)),
            Form::Bulk(_) | Form::Reload { .. } => {
                Err(Refusal::new(Code::Internal, "it did not come about"))
            }
        },
        Outcome::Unknown => Err(Refusal::new(
            Code::Internal,
            format!("service not found: {name}"),
        )),
        Outcome::NoReload => Err(Refusal::new(
            Code::Internal,
            format!(
                "service '{name}' has neither hooks.reload nor lifecycle.reload_signal; \
                 restart it instead"
            ),
        )),
        Outcome::NotRunning => Err(Refusal::new(Code::Internal, "service not running: stopped")),
        Outcome::ShuttingDown => Err(Refusal::new(
            Code::Internal,
            "the server is shutting down; nothing new is started",
        )),
        Outcome::Bulk { services, failed } => Ok(bulk(all, form, &services, &failed)),
        Outcome::Reloaded {
            added,
            removed,
            changed,
            refused,
        } => {
            let (mut errors, warnings) = match form {
                Form::Reload { errors, warnings } => (errors.clone(), warnings.clone()),
                Form::Ok { .. } | Form::Bulk(_) => Default::default(),
            };
            let turned = |name: &Rc<str>| {
                format!("'{name}' can't change between service and target; stop it first")
            };
            errors.extend(refused.iter().map(turned));
            Ok(json!({
                "added": added,
                "removed": removed,
                "changed": changed,
                "config_errors": missing(all),
                "errors": errors,
                "warnings": warnings,
            }))
        }
    }
}

fn done(all: &Supervisor, form: &Form) -> Value {
    match form {
        Form::Ok {
            service,
            state: true,
            ..
        } => {
            let word = all
                .service(*service)
                .map(|found| look(all, *service, found).word.text());
            json!({"ok": true, "state": word.unwrap_or("removed")})
        }
        Form::Ok { .. } | Form::Bulk(_) | Form::Reload { .. } => json!({"ok": true}),
    }
}

fn bulk(
    all: &Supervisor,
    form: &Form,
    services: &[Rc<str>],
    failed: &[(ServiceId, Verdict)],
) -> Value {
    let member = match form {
        Form::Bulk(member) => member,
        Form::Ok { .. } | Form::Reload { .. } => "services",
    };
    let mut result = json!({"count": services.len()});
    result[member] = json!(services);
    if !failed.is_empty() {
        let one = |(id, verdict): &(ServiceId, Verdict)| {
            let name = all
                .service(*id)
                .map(|service| service.spec().name.to_string())
                .unwrap_or_default();
            let message = not(all, *id, &name, *verdict).message;
            json!([name, message])
        };
        result["failed"] = failed.iter().map(one).collect();
    }
    result
}

/// Requirements that name what does not exist, each with who has it.
fn missing(all: &Supervisor) -> Vec<[&str; 2]> {
    let mut pairs = Vec::new();
    for (id, service) in all.services() {
        let absent = all
            .graph()
            .links(id)
            .iter()
            .filter(|link| link.kind == LinkKind::Requires && link.to.is_none());
        pairs.extend(absent.map(|link| [&*service.spec().name, &*link.name]));
    }
    pairs
}

/// One sentence about why it did not come about, with the outcome and the state for programs.
fn not(all: &Supervisor, id: ServiceId, name: &str, verdict: Verdict) -> Refusal {
    let found = all.service(id);
    let look = found.map(|service| look(all, id, service));
    let word = look.as_ref().map_or("removed", |look| look.word.text());
    let (outcome, message) = match verdict {
        Verdict::Failed => {
            let reason = look.as_ref().and_then(|look| look.reason.as_ref());
            let why = found
                .zip(reason)
                .map(|(service, reason)| view::reason_text(service.spec(), reason));
            let restart = match found.map(crate::engine::Service::state) {
                Some(crate::engine::State::Backoff { .. }) => "; it is going to be restarted",
                _ => "",
            };
            // A reload that failed leaves it as it was.
            let fault = found.and_then(|service| {
                let fault = service.care().reload_fault()?;
                Some(view::hook_text(service.spec(), Hook::Reload, fault))
            });
            let message = match (why, fault) {
                (None, Some(fault)) => format!("service '{name}' did not reload: {fault}"),
                (why, _) => {
                    let why = why.unwrap_or_else(|| word.to_owned());
                    format!("service '{name}' failed: {why}{restart}")
                }
            };
            ("failed", message)
        }
        Verdict::Blocked => {
            let error = found.map(|service| {
                let aside = view::Aside::default();
                view::status(all, id, service, aside, Time::ZERO)
            });
            let why = error
                .as_ref()
                .and_then(|status| status["error"].as_str())
                .unwrap_or("held back from outside");
            let roots = root_causes(all, id);
            let roots = if roots.is_empty() {
                String::new()
            } else {
                format!(" ({})", roots.join("; "))
            };
            (
                "blocked",
                format!("service '{name}' is blocked: {why}{roots}"),
            )
        }
        Verdict::Superseded => (
            "superseded",
            format!("service '{name}' is {word}: a later command wants otherwise"),
        ),
        Verdict::Removed => ("removed", format!("service '{name}' was removed")),
        Verdict::TimedOut => (
            "timeout",
            format!("service '{name}' is still {word} when the time was over"),
        ),
    };
    Refusal::new(Code::Internal, message).with(json!({"outcome": outcome, "state": word}))
}
