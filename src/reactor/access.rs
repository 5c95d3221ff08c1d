//! Who may do what: root and the server's own user everything, others what the access file says,
//! or look.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::Reactor;
use super::clients::ClientId;
use crate::api::{Request as _, ServiceList, ServiceListFull};
use crate::config::{self, Access, Right, Rule};
use crate::engine::Time;
use crate::rpc::{self, Code, Refusal, Request};
use crate::sys::clock;
use crate::sys::peer::{self, Peer};

/// Mode of the socket unless the file says otherwise.
const SOCKET_MODE: u32 = 0o660;

/// Refusals that are logged within this time; somebody who is refused without end does not fill
/// the log.
const LOGGED_MOST: u32 = 20;
const LOGGED_SPAN: Duration = Duration::from_secs(10);

/// What the access file says, with numbers in the place of names.
#[derive(Debug)]
pub(super) struct Doorkeeper {
    path: PathBuf,
    others: Right,
    rules: Vec<Known>,
    /// Refusals that were logged since this time.
    logged: (Time, u32),
}

#[derive(Debug)]
struct Known {
    rule: Rule,
    uids: Vec<u32>,
    gids: Vec<u32>,
}

impl Doorkeeper {
    /// Knows of nobody yet.
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            others: Right::Read,
            rules: Vec::new(),
            logged: (Time::ZERO, 0),
        }
    }

    /// Whether this one may do that with the service; none: with all of them.
    fn allows(&self, peer: &Peer, right: Right, service: Option<&str>) -> bool {
        let mut his = self.rules.iter().filter(|known| known.is_about(peer));
        peer.is_master()
            || right <= self.others
            || his.any(|known| right <= known.rule.right && known.rule.is_for(service))
    }

    /// Is there a service that this one may look at?
    fn sees_any(&self, peer: &Peer) -> bool {
        let is_his = |known: &&Known| known.is_about(peer) && known.rule.right >= Right::Read;
        self.allows(peer, Right::Read, None) || self.rules.iter().any(|known| is_his(&known))
    }

    fn learn(&mut self, access: Access) {
        self.others = access.others;
        self.rules = access.rules.into_iter().map(Known::of).collect();
    }
}

impl Known {
    /// Is it for this one?
    fn is_about(&self, peer: &Peer) -> bool {
        let by_group = peer.gids.iter().any(|gid| self.gids.contains(gid));
        by_group || self.uids.contains(&peer.uid)
    }

    fn of(rule: Rule) -> Self {
        let number = |name: &String, find: fn(&str) -> Option<u32>, what: &str| {
            let found = find(name);
            if found.is_none() {
                log::warn!("the access file names the {what} '{name}', who does not exist");
            }
            found
        };
        let uid = |name: &String| number(name, peer::uid_of, "user");
        let gid = |name: &String| number(name, peer::gid_of, "group");
        Self {
            uids: rule.users.iter().filter_map(uid).collect(),
            gids: rule.groups.iter().filter_map(gid).collect(),
            rule,
        }
    }
}

impl Reactor {
    /// Reads the access file. One that is wrong leaves things as they are: at first nobody beside
    /// root and the server's own user may change anything.
    pub(super) fn read_access(&mut self) {
        let access = match config::load_access(&self.doorkeeper.path) {
            Ok(access) => access,
            Err(problem) => return log::error!("{problem:#}"),
        };
        if let Some(door) = &self.door {
            let path = door.listener.path();
            let group = access.socket_group.as_deref();
            // What the file does not say any more is as it was.
            let gid = match group {
                Some(name) => peer::gid_of(name),
                None => Some(peer::own_gid()),
            };
            let given = gid.map(|gid| peer::give_to_group(path, gid));
            if let Some(name) = group.filter(|_| given != Some(Ok(()))) {
                log::warn!("{} can't be given to group {name}", path.display());
            }
            let mode = std::fs::Permissions::from_mode(access.socket_mode.unwrap_or(SOCKET_MODE));
            if let Err(error) = std::fs::set_permissions(path, mode) {
                log::warn!("{}: {error}", path.display());
            }
        }
        self.doorkeeper.learn(access);
        self.end_streams();
    }

    /// Whoever may not look any more is not told of things any longer.
    fn end_streams(&mut self) {
        for (client, names) in self.streams() {
            let Some(peer) = self.clients.peer(client) else {
                continue;
            };
            let may = |name: Option<&str>| self.doorkeeper.allows(peer, Right::Read, name);
            let is_his = match &names {
                None => may(None),
                Some(names) => names.iter().all(|name| may(Some(name))),
            };
            if !is_his {
                self.hung_up(client);
            }
        }
    }

    /// Whether a client may ask for that. A method that does not exist is refused as such later.
    ///
    /// # Errors
    /// With a refusal that says why not.
    pub(super) fn admits(&mut self, client: ClientId, request: &Request) -> Result<(), Refusal> {
        let method = rpc::find(&request.method);
        let (Some(method), Some(peer)) = (method, self.clients.peer(client)) else {
            return Ok(());
        };
        let right = right(method.role(&request.params));
        let services = concerned(method, &request.params);
        let keeper = &self.doorkeeper;
        let is_allowed = match services.as_slice() {
            [] if is_list(method.name) => keeper.sees_any(peer),
            [] => keeper.allows(peer, right, None),
            services => {
                let mut each = services.iter();
                each.all(|service| keeper.allows(peer, right, Some(service)))
            }
        };
        if is_allowed {
            return Ok(());
        }
        let (uid, pid) = (peer.uid, peer.pid);
        let about = match services.as_slice() {
            [] => String::new(),
            names => format!(" for {}", names.join(", ")),
        };
        let message = format!(
            "permission denied: user {uid} may not call {}{about}: that takes the right to {}",
            request.method,
            right.name()
        );
        self.log_refusal(&message, pid);
        let data = json!({"uid": uid, "right": right.name()});
        Err(Refusal::new(Code::PermissionDenied, message).with(data))
    }

    fn log_refusal(&mut self, message: &str, pid: i32) {
        let now = clock::now();
        let (since, count) = &mut self.doorkeeper.logged;
        if now.since(*since) > LOGGED_SPAN {
            if *count > LOGGED_MOST {
                log::warn!("{} more refusals were not logged", *count - LOGGED_MOST);
            }
            (*since, *count) = (now, 0);
        }
        *count += 1;
        if *count <= LOGGED_MOST {
            log::warn!("{message} (pid {pid})");
        }
    }

    /// Of a list of services those that a client may look at.
    pub(super) fn shown_to(&self, client: ClientId, request: &Request, list: Value) -> Value {
        let peer = self.clients.peer(client);
        let Some(peer) = peer.filter(|_| is_list(&request.method)) else {
            return list;
        };
        let mut list = list;
        let is_his = |service: &Value| {
            let name = service.get("name").unwrap_or(service).as_str();
            self.doorkeeper.allows(peer, Right::Read, name)
        };
        if !self.doorkeeper.allows(peer, Right::Read, None)
            && let Some(services) = list.as_array_mut()
        {
            services.retain(is_his);
        }
        list
    }
}

/// A list of services, which shows each client those that he may look at.
fn is_list(method: &str) -> bool {
    [ServiceList::METHOD, ServiceListFull::METHOD].contains(&method)
}

const fn right(role: rpc::Role) -> Right {
    match role {
        rpc::Role::Nothing => Right::Nothing,
        rpc::Role::Read => Right::Read,
        rpc::Role::Operate => Right::Operate,
        rpc::Role::Administer => Right::Administer,
    }
}

/// The services a request is about, as far as its method takes any; none: about all of them.
fn concerned<'a>(method: &rpc::Method, params: &'a Value) -> Vec<&'a str> {
    if method.name.starts_with("xinet.") {
        return Vec::new();
    }
    let takes = |name| method.params().any(|param| param.name == name);
    // With either word `logs.filter` means the same.
    let one = ["name", "service"].map(|name| {
        let either = takes(name) || takes("service");
        params.get(name).filter(|_| either)
    });
    let many = params.get("names").filter(|_| takes("names"));
    // An empty list means all of them, whatever stands beside it.
    if many.and_then(Value::as_array).is_some_and(Vec::is_empty) {
        return Vec::new();
    }
    let many = many.and_then(Value::as_array).into_iter().flatten();
    let names = one.into_iter().flatten().chain(many);
    names.filter_map(Value::as_str).collect()
}
