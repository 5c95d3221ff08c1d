//! `xinet.*`: proxies as clients ask for them.

use std::rc::Rc;

use serde_json::Value;

use super::Reactor;
use super::proxies::Account;
use crate::api::{Granted, ProxyAccount, ProxyStatus, to_value};
use crate::config::{self, ProxyError};
use crate::rpc::{Code, Refusal, Xinet};

impl Reactor {
    /// Answers one.
    pub(super) fn xinet(&mut self, ask: Xinet) -> Result<Value, Refusal> {
        match ask {
            Xinet::Set(params) => self.set_proxy(&params),
            Xinet::Delete(name) => self.delete_proxy(&name),
            Xinet::List => {
                let names: Vec<&str> = self.proxies.names().map(|name| &**name).collect();
                Ok(to_value(&names))
            }
            Xinet::Status(name) => {
                let mut all = self.proxies.accounts();
                let found = all.find(|account| *account.spec.name == *name);
                let unknown = || Refusal::new(Code::ServiceNotFound, "proxy not found");
                found
                    .map(|account| to_value(&status(&account)))
                    .ok_or_else(unknown)
            }
            Xinet::StatusAll => {
                let all: Vec<ProxyAccount> = self.proxies.accounts().map(account).collect();
                Ok(to_value(&all))
            }
        }
    }

    fn set_proxy(&mut self, params: &Value) -> Result<Value, Refusal> {
        let spec = config::proxy_from_value(params).map_err(|error| match error {
            ProxyError::Parse(text) => {
                Refusal::new(Code::InvalidParams, format!("Invalid xinet config: {text}"))
            }
            ProxyError::Invalid(text) => failed(text),
        })?;
        if self.supervisor.is_closing() {
            return Err(failed("the server is shutting down".to_owned()));
        }
        let name = Rc::clone(&spec.name);
        // What can't be listened on is not written down either.
        let before = self.proxies.spec(&name);
        self.proxies
            .set(spec.clone(), false, (&self.sockets, self.poll.registry()))
            .map_err(|error| failed(format!("proxy '{name}': {error}")))?;
        if params.get("ephemeral") == Some(&Value::Bool(true)) {
            self.files.keep_proxy(&name);
        } else if let Err(error) = self.files.write_proxy(&spec) {
            let registry = self.poll.registry();
            let undone = match before {
                Some(before) => self.proxies.set(before, true, (&self.sockets, registry)),
                None => {
                    self.proxies.delete(&name, registry);
                    Ok(())
                }
            };
            undone.unwrap_or_else(|error| log::error!("proxy {name}: {error}"));
            return Err(Refusal::new(Code::PersistFailed, error));
        }
        log::info!("proxy {name}: set");
        Ok(to_value(&Granted { ok: true }))
    }

    fn delete_proxy(&mut self, name: &str) -> Result<Value, Refusal> {
        if self.proxies.spec(name).is_none() {
            return Err(failed(format!("Proxy '{name}' not found")));
        }
        self.files.delete_proxy(name).map_err(failed)?;
        self.proxies.delete(name, self.poll.registry());
        log::info!("proxy {name}: deleted");
        Ok(to_value(&Granted { ok: true }))
    }
}

fn failed(text: String) -> Refusal {
    Refusal::new(Code::Internal, text)
}

fn status(account: &Account<'_>) -> ProxyStatus {
    let active = account.active as u64;
    ProxyStatus {
        name: account.spec.name.to_string(),
        running: account.running,
        connections: active,
        active_connections: active,
    }
}

fn account(account: Account<'_>) -> ProxyAccount {
    let spec = account.spec;
    let listen: Vec<String> = spec.listen.iter().map(ToString::to_string).collect();
    let [to_backend, from_backend] = account.moved;
    ProxyAccount {
        name: spec.name.to_string(),
        listen: listen.join(", "),
        backend: spec.backend.to_string(),
        service: spec.service.to_string(),
        running: account.running,
        active_connections: account.active as u64,
        total_connections: account.total,
        bytes_to_backend: to_backend,
        bytes_from_backend: from_backend,
    }
}
