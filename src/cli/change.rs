//! Requests that change what services do, and what to say when that did not work.

use std::time::Duration;

use serde_json::{Value, json};

use super::act::Session;
use super::failure::{Failure, advice_on, is_about_the_name, json_of, unheard};
use super::progress::Watched;
use super::{Bulk, Patience, Verb, exit, render};
use crate::client::{ANSWER_WITHIN, Error, Refusal};

/// Lines of its log shown for a service that did not come about.
const LAST_LINES: usize = 10;

/// Does `verb` to each service, one after the other; one that fails does not keep the rest from their turn.
pub(super) fn each(
    session: &mut Session<'_, '_>,
    verb: Verb,
    names: &[String],
    patience: Patience,
) -> Result<u8, Failure> {
    let mut code = exit::OK;
    for name in names {
        match one(session, verb, name, patience) {
            Ok(result) => {
                let (done, said) = words(verb);
                let lines = [format!("✓ {done}: {name}"), format!("{said}: {name}")];
                session.tell(&result, &lines.each_ref().map(String::as_str))?;
            }
            Err(failure) => code = refused(session, name, failure)?,
        }
    }
    Ok(code)
}

fn one(
    session: &mut Session<'_, '_>,
    verb: Verb,
    name: &str,
    patience: Patience,
) -> Result<Value, Failure> {
    let (method, params) = match verb {
        Verb::Start { deps } => ("service.start", json!({ "name": name, "deps": deps })),
        Verb::Stop => ("service.stop", json!({ "name": name })),
        Verb::Restart => ("service.restart", json!({ "name": name })),
        Verb::Remove => ("service.delete", json!({ "name": name })),
    };
    call(session, Watched::Service(name), method, params, patience)
}

/// What the client says of it, and what the command says of it.
fn words(verb: Verb) -> (&'static str, &'static str) {
    match verb {
        Verb::Start { .. } => ("Started", "Started"),
        Verb::Stop => ("Stopped", "Stopped"),
        Verb::Restart => ("Restarted", "Restarted"),
        Verb::Remove => ("Deleted", "Removed"),
    }
}

/// Does `verb` to all user services.
pub(super) fn all(
    session: &mut Session<'_, '_>,
    verb: Bulk,
    patience: Patience,
) -> Result<u8, Failure> {
    let (method, done, waited_for) = match verb {
        Bulk::Start => ("service.start_all", "started", "all services to start"),
        Bulk::Stop => ("service.stop_all", "stopped", "all services to stop"),
        Bulk::Delete => ("service.delete_all", "deleted", "all services to go"),
    };
    let result = call(
        session,
        Watched::Other(waited_for),
        method,
        json!({}),
        patience,
    )?;
    if session.options.json {
        session.print(&result)?;
    } else {
        render::bulk(session.screen, &result, done)?;
    }
    let failed = result["failed"]
        .as_array()
        .is_some_and(|failed| !failed.is_empty());
    Ok(if failed { exit::FAILED } else { exit::OK })
}

/// Sends a signal.
pub(super) fn kill(
    session: &mut Session<'_, '_>,
    name: &str,
    signal: Option<&str>,
) -> Result<u8, Failure> {
    let mut params = json!({ "name": name });
    if let Some(signal) = signal {
        params["signal"] = signal.into();
    }
    match session.client.ask("service.kill", params) {
        Ok(result) if session.options.json => session.print(&result),
        Ok(_) => {
            session.say(&format!("✓ Sent {} to: {name}", signal.unwrap_or("TERM")))?;
            session.say(&format!("Sent {} to: {name}", signal.unwrap_or("SIGTERM")))?;
            Ok(exit::OK)
        }
        Err(failure) => refused(session, name, failure.into()),
    }
}

/// Has services read their own configuration anew.
pub(super) fn refresh(session: &mut Session<'_, '_>, names: &[String]) -> Result<u8, Failure> {
    let mut code = exit::OK;
    for name in names {
        let params = json!({ "name": name });
        let watched = Watched::Service(name);
        let patience = Patience::Done { within: None };
        match call(session, watched, "service.reload", params, patience) {
            Ok(result) => session.tell(&result, &[&format!("✓ Reloaded: {name}")])?,
            Err(failure) => code = refused(session, name, failure)?,
        }
    }
    Ok(code)
}

/// Waits until a service is as asked.
pub(super) fn wait_for(
    session: &mut Session<'_, '_>,
    name: &str,
    goal: &str,
    within: Option<Duration>,
) -> Result<u8, Failure> {
    let params = json!({ "name": name, "for": goal });
    let patience = Patience::Done { within };
    match call(
        session,
        Watched::Service(name),
        "service.wait",
        params,
        patience,
    ) {
        Ok(result) if session.options.json => session.print(&result),
        Ok(result) => {
            let state = result["state"].as_str().unwrap_or(goal);
            session.say(&format!("{name}: {state}"))?;
            Ok(exit::OK)
        }
        Err(failure) => refused(session, name, failure),
    }
}

fn call(
    session: &mut Session<'_, '_>,
    watched: Watched<'_>,
    method: &str,
    mut params: Value,
    patience: Patience,
) -> Result<Value, Failure> {
    let limit = match patience {
        Patience::TakenNote => Some(ANSWER_WITHIN),
        Patience::Done { within } => {
            params["wait"] = true.into();
            if let Some(time) = within {
                params["timeout_ms"] = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).into();
            }
            // The server keeps the time; this is for one that does not.
            within.map(|time| time.saturating_add(ANSWER_WITHIN))
        }
    };
    session.watch(watched, |client, tick| {
        Ok(client.call(method, params, limit, tick)?)
    })
}

/// Explains a refusal and stays; any other failure ends the command.
fn refused(session: &mut Session<'_, '_>, name: &str, failure: Failure) -> Result<u8, Failure> {
    let Failure::Server(Error::Refused(refusal)) = failure else {
        return Err(failure);
    };
    let text = format!("Error: {refusal}{}", advice_on(&refusal));
    if session.options.json {
        session.tell(&json_of(&refusal), &[])?;
        session.screen.complain(&text);
    } else {
        unheard(session.screen.flush())?;
        session.screen.complain(&text);
        explain(session, name, &refusal);
    }
    Ok(exit::FAILED)
}

/// Says what the server knows about it, and what to do next. What it does not answer is left out.
fn explain(session: &mut Session<'_, '_>, name: &str, refusal: &Refusal) {
    let Some(outcome) = refusal.outcome() else {
        if !is_about_the_name(refusal) {
            session
                .screen
                .complain(&format!("See how it stands: zinit status {name}"));
        }
        return;
    };
    if outcome == "blocked" {
        let why = session
            .client
            .ask("service.why", json!({ "name": name }))
            .unwrap_or_default();
        if let Some(why) = why["ascii"].as_str() {
            session.screen.complain(why);
        }
    }
    let has_log = show_last_lines(session, name);
    session.screen.complain(&match outcome {
        "blocked" => format!("See what it waits for: zinit why {name}"),
        "failed" if has_log => format!("See all of its log: zinit logs {name}"),
        "failed" => format!("See how it stands: zinit status {name}"),
        "superseded" => {
            format!("Something else was asked of it meanwhile; see: zinit status {name}")
        }
        _ => format!("It goes on; see how it stands: zinit status {name}"),
    });
}

/// Says whether there are any.
fn show_last_lines(session: &mut Session<'_, '_>, name: &str) -> bool {
    let params = json!({ "name": name, "lines": LAST_LINES });
    let log = session.client.ask("logs.get", params).unwrap_or_default();
    let lines: Vec<&str> = render::texts(&log).collect();
    if lines.is_empty() {
        return false;
    }
    session.screen.complain("Last lines of its log:");
    for line in &lines[lines.len().saturating_sub(LAST_LINES)..] {
        session.screen.complain(&format!("  {line}"));
    }
    true
}
