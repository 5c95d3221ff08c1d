//! What each request asks of the server: the ones that read, and the ones about the server itself.

use serde_json::{Value, json};

use super::failure::{Failure, is_about_pid_1, json_of, report, unheard};
use super::progress::{Progress, Watched};
use super::screen::Screen;
use super::{
    ClientOptions, MachineEnd, NewService, Patience, Powers, Request, change, exit, logs, render,
    xinet,
};

use std::io;
use std::time::Duration;

use crate::client::{ANSWER_WITHIN, Connection, Error, Tick};

/// A conversation with the server on behalf of one command.
pub(super) struct Session<'a, 'b> {
    pub(super) client: Connection,
    pub(super) options: &'a ClientOptions,
    pub(super) screen: &'a mut Screen<'b>,
}

type Answer = Result<u8, Failure>;

/// The server looks at the new root before it answers.
const SWITCH_WITHIN: Duration = Duration::from_secs(15);

/// Connects, asks, shows; the exit code.
pub(super) fn run(
    options: &ClientOptions,
    request: &Request,
    powers: &Powers,
    screen: &mut Screen<'_>,
) -> u8 {
    let answer = converse(options, request, powers, screen);
    match answer.and_then(|code| screen.flush().map(|()| code).map_err(Failure::Output)) {
        Ok(code) => code,
        Err(failure) => {
            if let (true, Failure::Server(Error::Refused(refusal))) = (options.json, &failure) {
                // Standard error tells the same; nobody is left to tell that this failed.
                let _ = screen.line(&json_of(refusal).to_string());
            }
            report(&failure, screen)
        }
    }
}

fn converse(
    options: &ClientOptions,
    request: &Request,
    powers: &Powers,
    screen: &mut Screen<'_>,
) -> Answer {
    if let Request::Force(machine_end) = request {
        (powers.force)(*machine_end).map_err(Failure::Force)?;
        return Ok(exit::OK);
    }
    let client = match (Connection::connect(&options.socket), request) {
        // PID 1 may be past the point where it listens, or never have come to it.
        (Err(error @ Error::NotListening(..)), Request::Machine(machine_end, _)) => {
            (powers.signal_first)(*machine_end).map_err(|_| error)?;
            screen.line(sent(*machine_end))?;
            return Ok(exit::OK);
        }
        (connected, _) => connected?,
    };
    perform(
        &mut Session {
            client,
            options,
            screen,
        },
        request,
    )
}

fn perform(session: &mut Session<'_, '_>, request: &Request) -> Answer {
    match request {
        Request::List => session.show("service.list_full", Value::Null, render::list),
        Request::Status(name) => status(session, name),
        Request::Why(name) => session.show("service.why", named(name), render::why),
        Request::Tree => session.show("service.tree", Value::Null, render::tree),
        Request::Logs(wanted) => logs::logs(session, wanted),
        Request::Watch(names) => logs::watch(session, names),
        Request::Stats(name) => session.show("service.stats", named(name), render::stats),
        Request::Children(name) => {
            let show =
                |screen: &mut Screen<'_>, answer: &Value| render::children(screen, name, answer);
            session.show("service.children", named(name), show)
        }
        Request::Ping => session.show("system.ping", Value::Null, render::ping),
        Request::DebugRecord => session.show("debug.record", Value::Null, render::output),
        Request::DebugState => session.show("debug.state", Value::Null, render::output),
        Request::DebugProcesses(name) => {
            session.show("debug.process_tree", named(name), render::output)
        }
        Request::Change {
            verb,
            names,
            patience,
        } => change::each(session, *verb, names, *patience),
        Request::All { verb, patience } => change::all(session, *verb, *patience),
        Request::Kill { name, signal } => change::kill(session, name, signal.as_deref()),
        Request::Await { name, goal, within } => change::wait_for(session, name, goal, *within),
        Request::Add(service) => add(session, service, false),
        Request::AddEphemeral(service) => add(session, service, true),
        Request::Xinet(what) => xinet::xinet(session, what),
        Request::Reload => reload(session),
        Request::Refresh(names) => change::refresh(session, names),
        Request::Shutdown { code, patience } => shutdown(session, *code, *patience),
        Request::Machine(end, patience) => machine(session, *end, *patience),
        Request::SwitchRoot { root, init } => {
            let mut params = json!({ "root": root });
            if let Some(init) = init {
                params["init"] = json!(init);
            }
            let result = session.client.call(
                "system.switch_root",
                params,
                Some(SWITCH_WITHIN),
                &mut |_| (),
            )?;
            session.say(&format!("Switching to {root}"))?;
            session.print_if_json(&result)
        }
        Request::Health(names) => health(session, names),
        Request::Force(_) => Ok(exit::FAILED),
    }
}

fn named(name: &str) -> Value {
    json!({ "name": name })
}

fn status(session: &mut Session<'_, '_>, name: &str) -> Answer {
    let status = session.client.ask("service.status", named(name))?;
    if session.options.json {
        return session.print(&status);
    }
    // What follows is a bonus; a service that vanishes meanwhile has shown its state all the same.
    let blocked = status["state"] == "blocked";
    let full = session
        .client
        .ask("service.status_full", named(name))
        .unwrap_or_default();
    let why = if blocked {
        session.client.ask("service.why", named(name)).ok()
    } else {
        None
    };
    render::status(
        session.screen,
        &status,
        full["uptime_secs"].as_u64(),
        why.as_ref(),
    )?;
    Ok(exit::OK)
}

fn add(session: &mut Session<'_, '_>, service: &NewService, ephemeral: bool) -> Answer {
    let config = match service {
        NewService::Definition(config) => config,
        NewService::File(path) => return Err(Failure::Unread(path.clone())),
    };
    let params = json!({ "config": config, "ephemeral": ephemeral });
    session.show("service.set", params, render::added)
}

fn reload(session: &mut Session<'_, '_>) -> Answer {
    let result = session.client.ask("service.reload", Value::Null)?;
    if session.options.json {
        session.print(&result)?;
    } else {
        render::reload(session.screen, &result)?;
    }
    let clean = render::texts(&result["errors"]).next().is_none();
    Ok(if clean { exit::OK } else { exit::FAILED })
}

fn shutdown(session: &mut Session<'_, '_>, code: u8, patience: Patience) -> Answer {
    session.say("Shutting down zinit daemon...")?;
    let params = json!({ "code": code });
    let result = end(session, "system.shutdown", params, patience)?;
    if let Patience::Done { .. } = patience {
        session.say("zinit daemon stopped")?;
    }
    session.print_if_json(&result)
}

/// What is said once PID 1 knows.
fn sent(machine_end: MachineEnd) -> &'static str {
    match machine_end {
        MachineEnd::PowerOff => "Poweroff signal sent to init",
        MachineEnd::Reboot => "Reboot signal sent to init",
        MachineEnd::Halt => "Halt signal sent to init",
        MachineEnd::Kexec => "Kexec signal sent to init",
    }
}

fn machine(session: &mut Session<'_, '_>, machine_end: MachineEnd, patience: Patience) -> Answer {
    let method = match machine_end {
        MachineEnd::PowerOff => "system.poweroff",
        MachineEnd::Reboot => "system.reboot",
        MachineEnd::Halt => "system.halt",
        MachineEnd::Kexec => "system.kexec",
    };
    match end(session, method, Value::Null, patience) {
        Ok(result) => {
            session.say(sent(machine_end))?;
            session.print_if_json(&result)
        }
        Err(Failure::Server(Error::Refused(refusal))) if is_about_pid_1(&refusal) => {
            session.say("zinit is not running as PID 1 - stopping daemon only")?;
            shutdown(session, 0, patience)
        }
        Err(other) => Err(other),
    }
}

/// Healthy is a service that is up, or was told to be down.
fn health(session: &mut Session<'_, '_>, names: &[String]) -> Answer {
    let all = session.client.ask("service.list_full", Value::Null)?;
    let all = all.as_array().map_or(&[] as &[Value], Vec::as_slice);
    let find = |name: &str| all.iter().find(|service| service["name"] == name);
    let word = |service: &Value| {
        let state = service["state"]["state"].as_str().unwrap_or("unknown");
        let is_ill = state == "running" && service["health"] == "unhealthy";
        if is_ill { "unhealthy" } else { state }.to_owned()
    };
    let sick: Vec<String> = if names.is_empty() {
        let sick = |service: &&Value| {
            let word = word(service);
            ["failed", "blocked", "starting", "unhealthy"].contains(&&*word)
        };
        let named = |service: &Value| {
            format!(
                "{} {}",
                service["name"].as_str().unwrap_or("?"),
                word(service)
            )
        };
        all.iter().filter(sick).map(named).collect()
    } else {
        let mut sick = Vec::new();
        for name in names {
            let word = find(name).map_or_else(|| "missing".to_owned(), word);
            if word != "running" {
                sick.push(format!("{name} {word}"));
            }
        }
        sick
    };
    if session.options.json {
        session.print(&json!({ "healthy": sick.is_empty(), "not": sick }))?;
    } else if sick.is_empty() {
        session.say("healthy")?;
    } else {
        session.say(&format!("not healthy: {}", sick.join(", ")))?;
    }
    Ok(if sick.is_empty() {
        exit::OK
    } else {
        exit::FAILED
    })
}

/// Asks the server to end. With patience, the end of the connection says that it has ended.
fn end(
    session: &mut Session<'_, '_>,
    method: &str,
    mut params: Value,
    patience: Patience,
) -> Result<Value, Failure> {
    let limit = match patience {
        Patience::TakenNote => Some(ANSWER_WITHIN),
        Patience::Done { within } => within,
    };
    if params.is_null() {
        params = json!({});
    }
    let watched = Watched::Other("the server to end");
    let answer = session.watch(watched, |client, tick| {
        let result = client.call(method, params, limit, &mut *tick)?;
        if let Patience::Done { .. } = patience {
            client.wait_for_end(limit, tick)?;
        }
        Ok(result)
    });
    match answer {
        // It was in too much of a hurry to answer.
        Err(Failure::Server(Error::Closed)) => Ok(json!({ "ok": true })),
        Err(Failure::Server(Error::Timeout(after))) => Err(Failure::StillThere(after)),
        other => other,
    }
}

impl Session<'_, '_> {
    /// Asks what is answered at once, and shows the answer.
    pub(super) fn show(
        &mut self,
        method: &str,
        params: Value,
        render: impl FnOnce(&mut Screen<'_>, &Value) -> io::Result<()>,
    ) -> Answer {
        let answer = self.client.ask(method, params)?;
        if self.options.json {
            return self.print(&answer);
        }
        render(self.screen, &answer)?;
        Ok(exit::OK)
    }

    /// Lets `work` wait, while the one line shows for what.
    pub(super) fn watch<T>(
        &mut self,
        watched: Watched<'_>,
        work: impl FnOnce(&mut Connection, Tick<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        unheard(self.screen.flush())?;
        let mut progress = Progress::new(watched, &self.options.socket);
        let (screen, quiet) = (&mut *self.screen, self.options.json);
        let mut tick = |waited: Duration| {
            if !quiet {
                progress.tick(screen, waited);
            }
        };
        let result = work(&mut self.client, &mut tick);
        self.screen.wipe();
        result
    }

    /// The same as [`Self::print`] and [`Self::say`], though nobody may read it any more: what else
    /// was asked for is done all the same.
    pub(super) fn tell(&mut self, answer: &Value, lines: &[&str]) -> Result<(), Failure> {
        let told = if self.options.json {
            self.screen.line(&answer.to_string())
        } else {
            lines.iter().try_for_each(|line| self.screen.line(line))
        };
        Ok(unheard(told)?)
    }

    /// Prints an answer as it came.
    pub(super) fn print(&mut self, answer: &Value) -> Answer {
        self.screen.line(&answer.to_string())?;
        Ok(exit::OK)
    }

    fn print_if_json(&mut self, answer: &Value) -> Answer {
        if self.options.json {
            self.print(answer)
        } else {
            Ok(exit::OK)
        }
    }

    /// A line for people.
    pub(super) fn say(&mut self, line: &str) -> Result<(), Failure> {
        if self.options.json {
            Ok(())
        } else {
            Ok(self.screen.line(line)?)
        }
    }
}
