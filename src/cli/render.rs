//! Answers to text, for people. Scripts ask for JSON.
//!
//! Each function takes the server's answer as it came; what is missing in it is not shown.

use std::io;

use serde_json::{Value, json};

use super::CheckResult;
use super::screen::{Screen, Symbol};

type Shown = io::Result<()>;

const GREEN: Option<u8> = Some(32);
const RED: Option<u8> = Some(31);
const YELLOW: Option<u8> = Some(33);

pub(super) fn list(screen: &mut Screen<'_>, services: &Value) -> Shown {
    let services = services.as_array().map_or(&[] as &[Value], Vec::as_slice);
    if services.is_empty() {
        return screen.line("No services configured");
    }
    let name = |service: &Value| text(&service["name"]).to_owned();
    let width = services
        .iter()
        .map(|service| name(service).chars().count())
        .max()
        .unwrap_or(0);
    for service in services {
        let (symbol, word) = state(&service["state"]["state"]);
        let pid = match service["state"]["pid"].as_u64() {
            Some(pid) if pid > 0 => format!(" (pid: {pid})"),
            _ => String::new(),
        };
        let is_ill = service["health"] == "unhealthy";
        let ill = if is_ill { ", unhealthy" } else { "" };
        screen.marked(
            "",
            symbol,
            &format!("{:<width$} {word}{pid}{ill}", name(service)),
        )?;
    }
    Ok(())
}

/// Symbol and word of a state on the wire.
pub(super) fn state(state: &Value) -> (Symbol, &'static str) {
    let (text, color, word) = match state.as_str() {
        Some("inactive") => ('○', None, "Inactive"),
        Some("blocked") => ('○', YELLOW, "Blocked"),
        Some("starting") => ('◐', YELLOW, "Starting"),
        Some("running") => ('●', GREEN, "Running"),
        Some("stopping") => ('◑', YELLOW, "Stopping"),
        Some("exited") => ('◌', None, "Exited"),
        Some("failed") => ('✗', RED, "Failed"),
        _ => ('?', None, "unknown"),
    };
    (Symbol { text, color }, word)
}

pub(super) fn status(
    screen: &mut Screen<'_>,
    status: &Value,
    uptime_secs: Option<u64>,
    why: Option<&Value>,
) -> Shown {
    let (symbol, word) = state(&status["state"]);
    screen.line(&format!("Service: {}", text(&status["name"])))?;
    screen.marked("State:   ", symbol, word)?;
    if let Some(pid) = status["pid"].as_u64().filter(|pid| *pid > 0) {
        screen.line(&format!("PID:     {pid}"))?;
    }
    if let Some(code) = status["exit_code"].as_i64() {
        screen.line(&format!("Exit:    {code}"))?;
    }
    if let Some(error) = status["error"].as_str() {
        screen.line(&format!("Error:   {error}"))?;
    }
    if let Some(uptime_secs) = uptime_secs {
        screen.line(&format!("Uptime:  {}", uptime(uptime_secs)))?;
    }
    for address in texts(&status["listen"]) {
        screen.line(&format!("Listen:  {address}"))?;
    }
    if status["awaits_connection"] == true {
        screen.line("         a connection starts it")?;
    }
    if status["ephemeral"] == true {
        screen.line("Kept:    in memory, until the server ends")?;
    }
    if let Some(health) = status["health"].as_object() {
        let field = |name: &str| health.get(name).unwrap_or(&Value::Null);
        let mut line = text(field("state")).to_owned();
        if let Some(secs) = field("for_secs").as_u64() {
            line.push_str(&format!(" for {}", uptime(secs)));
        }
        if let Some(ms) = field("latency_ms").as_u64() {
            line.push_str(&format!(", last probe {ms} ms"));
        }
        match field("failures").as_u64() {
            Some(failures) if failures > 0 => {
                line.push_str(&format!(", {failures} failed in a row"));
            }
            Some(_) | None => {}
        }
        screen.line(&format!("Health:  {line}"))?;
        let is_well = text(field("state")) == "healthy" && field("failures") == 0;
        if let Some(error) = field("last_error").as_str().filter(|_| !is_well) {
            screen.line(&format!("Probe:   {error}"))?;
        }
    }
    if let Some(doing) = status["doing"].as_str() {
        screen.line(&format!("Doing:   {doing}"))?;
    }
    if let Some(said) = status["status_text"].as_str() {
        screen.line(&format!("Says:    {said}"))?;
    }
    let said = text(&status["error"]);
    let more = |reason: &String| !said.ends_with(reason.as_str());
    for reason in why
        .map(reasons)
        .unwrap_or_default()
        .iter()
        .filter(|reason| more(reason))
    {
        screen.line(&format!("Reason:  {reason}"))?;
    }
    Ok(())
}

/// What stands below the first line of a why, without its arrows, and what has no line there.
fn reasons(why: &Value) -> Vec<String> {
    let below = text(&why["ascii"]).lines().skip(1);
    let reasons = below.map(|line| line.trim_start_matches([' ', '-', '!', '>']).to_owned());
    reasons.chain(conflict(why)).collect()
}

fn conflict(why: &Value) -> Option<String> {
    if let Some(port) = why["port_conflict"].as_str() {
        return Some(port.to_owned());
    }
    let processes = why["process_conflict"]["processes"].as_array()?;
    let process = |process: &Value| format!("{} (PID {})", text(&process["name"]), process["pid"]);
    let names: Vec<String> = processes.iter().map(process).collect();
    let filter = text(&why["process_conflict"]["filter"]);
    Some(format!(
        "process filter '{filter}' matches {}",
        names.join(", ")
    ))
}

/// `45s`, `1m30s`, `1h1m`, `2d3h`.
fn uptime(secs: u64) -> String {
    match secs {
        0..60 => format!("{secs}s"),
        60..3600 => format!("{}m{}s", secs / 60, secs % 60),
        3600..86_400 => format!("{}h{}m", secs / 3600, secs / 60 % 60),
        _ => format!("{}d{}h", secs / 86_400, secs / 3600 % 24),
    }
}

pub(super) fn why(screen: &mut Screen<'_>, why: &Value) -> Shown {
    if why["blocked"] != true {
        screen.line(&format!("{} is not blocked", text(&why["name"])))?;
        return root_causes(screen, why);
    }
    screen.text(text(&why["ascii"]))?;
    let lines = [
        joined("Waiting on", &why["waiting_on"]),
        joined("Conflicts with", &why["conflicts_with"]),
        why["port_conflict"]
            .as_str()
            .map(|port| format!("Port conflict: {port}")),
        why["process_conflict"]
            .is_object()
            .then(|| conflict(&json!({ "process_conflict": why["process_conflict"] })))
            .flatten()
            .map(|processes| format!("Process conflict: {processes}")),
    ];
    let lines: Vec<String> = lines.into_iter().flatten().collect();
    if !lines.is_empty() {
        screen.line("")?;
    }
    lines.iter().try_for_each(|line| screen.line(line))?;
    root_causes(screen, why)
}

fn root_causes(screen: &mut Screen<'_>, why: &Value) -> Shown {
    let mut causes = texts(&why["root_causes"]);
    causes.try_for_each(|cause| screen.line(&format!("Root cause: {cause}")))
}

/// `label: a, b`, or nothing for an empty list.
fn joined(label: &str, list: &Value) -> Option<String> {
    let names: Vec<&str> = texts(list).collect();
    (!names.is_empty()).then(|| format!("{label}: {}", names.join(", ")))
}

pub(super) fn tree(screen: &mut Screen<'_>, tree: &Value) -> Shown {
    match text(&tree["ascii"]) {
        "" => screen.line("No services configured"),
        tree => screen.text(tree),
    }
}

pub(super) fn stats(screen: &mut Screen<'_>, stats: &Value) -> Shown {
    if stats["pid"].as_u64().unwrap_or(0) == 0 {
        return screen.line("not running");
    }
    screen.line(&format!("PID:     {}", stats["pid"]))?;
    screen.line(&format!("Memory:  {}", size(&stats["memory_bytes"])))?;
    screen.line(&format!("CPU:     {} %", stats["cpu_percent"]))?;
    let group = &stats["cgroup"];
    if group["memory_bytes"].is_u64() {
        screen.line(&format!("All:     {}", size(&group["memory_bytes"])))?;
    }
    if group["pids"].is_u64() {
        screen.line(&format!("Tasks:   {}", group["pids"]))?;
    }
    if let Some(pressure) = group["pressure"].as_object() {
        let waits = pressure
            .iter()
            .map(|(what, percent)| format!("{what} {percent} %"));
        let waits: Vec<String> = waits.collect();
        screen.line(&format!("Waits:   {}", waits.join(", ")))?;
    }
    Ok(())
}

pub(super) fn children(screen: &mut Screen<'_>, name: &str, answer: &Value) -> Shown {
    let children = answer["children"]
        .as_array()
        .map_or(&[] as &[Value], Vec::as_slice);
    if children.is_empty() {
        return screen.line(&format!("{name} has no child processes"));
    }
    for child in children {
        let (pid, size) = (
            child["pid"].as_u64().unwrap_or(0),
            size(&child["memory_bytes"]),
        );
        screen.line(&format!("{pid:>7} {size:>10} {}", text(&child["name"])))?;
    }
    Ok(())
}

/// `12.3 MiB`. Tenths are cut off, not rounded.
fn size(bytes: &Value) -> String {
    let bytes = bytes.as_u64().unwrap_or(0);
    let (unit, name) = match bytes {
        0..0x10_0000 => (1 << 10, "KiB"),
        0x10_0000..0x4000_0000 => (1 << 20, "MiB"),
        _ => (1 << 30, "GiB"),
    };
    format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit)
}

pub(super) fn ping(screen: &mut Screen<'_>, answer: &Value) -> Shown {
    screen.line(&format!(
        "zinit daemon v{} is running",
        text(&answer["version"])
    ))
}

pub(super) fn output(screen: &mut Screen<'_>, answer: &Value) -> Shown {
    screen.text(text(&answer["output"]).trim_end_matches('\n'))
}

pub(super) fn added(screen: &mut Screen<'_>, answer: &Value) -> Shown {
    let name = text(&answer["name"]);
    let path = answer["path"].as_str().map_or_else(
        || " until the server ends".to_owned(),
        |path| format!(" (saved to {path})"),
    );
    screen.line(&format!("✓ Created: {name}"))?;
    screen.line(&format!("Service '{name}' added{path}"))?;
    complain_of_each(screen, "Warning: ", &answer["warnings"]);
    Ok(())
}

pub(super) fn reload(screen: &mut Screen<'_>, answer: &Value) -> Shown {
    complain_of_each(screen, "", &answer["errors"]);
    complain_of_each(screen, "", &answer["warnings"]);
    for missing in answer["config_errors"].as_array().into_iter().flatten() {
        let (service, dependency) = (text(&missing[0]), text(&missing[1]));
        screen.complain(&format!(
            "Warning: {service} requires {dependency}, which does not exist"
        ));
    }
    let kinds = [
        ("Added", "added"),
        ("Removed", "removed"),
        ("Changed", "changed"),
    ];
    let lines: Vec<String> = kinds
        .iter()
        .filter_map(|(label, key)| joined(label, &answer[*key]))
        .collect();
    if lines.is_empty() {
        return screen.line("Reloaded: nothing changed");
    }
    lines.iter().try_for_each(|line| screen.line(line))
}

fn complain_of_each(screen: &mut Screen<'_>, before: &str, list: &Value) {
    for line in texts(list) {
        screen.complain(&format!("{before}{line}"));
    }
}

/// What a request about all services did; `done` is its word for it.
pub(super) fn bulk(screen: &mut Screen<'_>, answer: &Value, done: &str) -> Shown {
    let failed: Vec<&str> = answer["failed"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|failed| text(&failed[0]))
        .collect();
    let names: Vec<&str> = texts(&answer[done])
        .filter(|name| !failed.contains(name))
        .collect();
    let (first, rest) = done.split_at(1);
    let label = first.to_uppercase() + rest;
    for name in &names {
        screen.line(&format!("{label}: {name}"))?;
    }
    for failed in answer["failed"].as_array().into_iter().flatten() {
        screen.complain(&format!(
            "Error: {}: {}",
            text(&failed[0]),
            text(&failed[1])
        ));
    }
    let noun = if names.len() == 1 {
        "service"
    } else {
        "services"
    };
    screen.line(&format!("{} {noun} {done}", names.len()))
}

pub(super) fn check(screen: &mut Screen<'_>, json: bool, result: &CheckResult) -> Shown {
    let CheckResult {
        checked,
        errors,
        warnings,
    } = result;
    if json {
        let answer = json!({ "checked": checked, "errors": errors, "warnings": warnings });
        return screen.line(&answer.to_string());
    }
    for line in errors.iter().chain(warnings) {
        screen.complain(line);
    }
    let count = |number: usize, noun: &str| {
        format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
    };
    let (files, errors) = (count(*checked, "file"), count(errors.len(), "error"));
    screen.line(&format!(
        "{files}, {errors}, {}",
        count(warnings.len(), "warning")
    ))
}

/// The strings of a list.
pub(super) fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_short() {
        let times = [45, 90, 3660, 183_600].map(uptime);
        assert_eq!(times, ["45s", "1m30s", "1h1m", "2d3h"]);
        let sizes = [0_u64, 1536, 1_859_584, 5 << 30].map(|bytes| size(&json!(bytes)));
        assert_eq!(sizes, ["0.0 KiB", "1.5 KiB", "1.7 MiB", "5.0 GiB"]);
    }
}
