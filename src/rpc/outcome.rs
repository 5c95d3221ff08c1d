//! What came of a command, as a reply.

use std::rc::Rc;

use serde_json::Value;

use super::dispatch::{Bulk, Form};
use super::view::{self, look};
use super::why::root_causes;
use super::wire::{Code, Refusal};
use crate::api::{self, NotDoneWord, to_value};
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
        Outcome::NotRunning => Err(Refusal::new(
            Code::Internal,
            format!("service not running: {name}"),
        )),
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
            Ok(to_value(&api::Reloaded {
                added: texts(&added),
                removed: texts(&removed),
                changed: texts(&changed),
                config_errors: missing(all),
                errors,
                warnings,
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
            let state = Some(word.unwrap_or("removed").to_owned());
            to_value(&api::Done { ok: true, state })
        }
        Form::Ok { .. } | Form::Bulk(_) | Form::Reload { .. } => {
            to_value(&api::Granted { ok: true })
        }
    }
}

fn texts(names: &[Rc<str>]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn bulk(
    all: &Supervisor,
    form: &Form,
    services: &[Rc<str>],
    failed: &[(ServiceId, Verdict)],
) -> Value {
    let one = |(id, verdict): &(ServiceId, Verdict)| {
        let name = all
            .service(*id)
            .map(|service| service.spec().name.to_string())
            .unwrap_or_default();
        let message = not(all, *id, &name, *verdict).message;
        [name, message]
    };
    let failed: Vec<_> = failed.iter().map(one).collect();
    let failed = Some(failed).filter(|failed| !failed.is_empty());
    let (names, count) = (texts(services), services.len() as u64);
    match form {
        Form::Bulk(Bulk::Stopped) => to_value(&api::StoppedAll {
            stopped: names,
            count,
            failed,
        }),
        Form::Bulk(Bulk::Deleted) => to_value(&api::DeletedAll {
            deleted: names,
            count,
            failed,
        }),
        Form::Bulk(Bulk::Started) | Form::Ok { .. } | Form::Reload { .. } => {
            to_value(&api::StartedAll {
                started: names,
                count,
                failed,
            })
        }
    }
}

/// Requirements that name what does not exist, each with who has it.
fn missing(all: &Supervisor) -> Vec<[String; 2]> {
    let mut pairs = Vec::new();
    for (id, service) in all.services() {
        let absent = all
            .graph()
            .links(id)
            .iter()
            .filter(|link| link.kind == LinkKind::Requires && link.to.is_none());
        pairs.extend(absent.map(|link| [service.spec().name.to_string(), link.name.to_string()]));
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
            (NotDoneWord::Failed, message)
        }
        Verdict::Blocked => {
            let error = found.map(|service| {
                let aside = view::Aside::default();
                view::status(all, id, service, aside, Time::ZERO)
            });
            let why = error
                .and_then(|status| status.error)
                .unwrap_or_else(|| "held back from outside".to_owned());
            let roots = root_causes(all, id);
            let roots = if roots.is_empty() {
                String::new()
            } else {
                format!(" ({})", roots.join("; "))
            };
            (
                NotDoneWord::Blocked,
                format!("service '{name}' is blocked: {why}{roots}"),
            )
        }
        Verdict::Superseded => (
            NotDoneWord::Superseded,
            format!("service '{name}' is {word}: a later command wants otherwise"),
        ),
        Verdict::Removed => (
            NotDoneWord::Removed,
            format!("service '{name}' was removed"),
        ),
        Verdict::TimedOut => (
            NotDoneWord::Timeout,
            format!("service '{name}' is still {word} when the time was over"),
        ),
    };
    let state = word.to_owned();
    let data = to_value(&api::NotDone { outcome, state });
    Refusal::new(Code::Internal, message).with(data)
}
