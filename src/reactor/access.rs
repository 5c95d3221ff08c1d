//! Who may do what: root and the server's own user everything, others what the access file says,
//! or look.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::Reactor;
use super::clients::ClientId;
use crate::config::{self, Access, Right, Rule};
use crate::engine::Time;
use crate::rpc::{Code, Refusal, Request};
use crate::sys::clock;
use crate::sys::peer::{self, Peer};

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
        let is_his = |known: &&Known| {
            let by_group = peer.gids.iter().any(|gid| known.gids.contains(gid));
            by_group || known.uids.contains(&peer.uid)
        };
        let mut his = self.rules.iter().filter(is_his);
        peer.is_master()
            || right <= self.others
            || his.any(|known| right <= known.rule.right && known.rule.is_for(service))
    }

    fn learn(&mut self, access: Access) {
        self.others = access.others;
        self.rules = access.rules.into_iter().map(Known::of).collect();
    }
}

impl Known {
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
            if let Some(name) = group {
                let given = peer::gid_of(name).map(|gid| peer::give_to_group(path, gid));
                if given != Some(Ok(())) {
                    log::warn!("{} can't be given to group {name}", path.display());
                }
            }
            if let Some(mode) = access.socket_mode {
                let mode = std::fs::Permissions::from_mode(mode);
                if let Err(error) = std::fs::set_permissions(path, mode) {
                    log::warn!("{}: {error}", path.display());
                }
            }
        }
        self.doorkeeper.learn(access);
    }

    /// Whether a client may ask for that.
    ///
    /// # Errors
    /// With a refusal that says why not.
    pub(super) fn admits(
        &mut self,
        client: ClientId,
        request: &Request,
        right: Right,
    ) -> Result<(), Refusal> {
        let Some(peer) = self.clients.peer(client) else {
            return Ok(());
        };
        let services = concerned(request);
        let keeper = &self.doorkeeper;
        let is_allowed = match services.as_slice() {
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

    /// May a client look at this service?
    pub(super) fn may_see(&self, client: ClientId, service: &str) -> bool {
        let peer = self.clients.peer(client);
        peer.is_none_or(|peer| self.doorkeeper.allows(peer, Right::Read, Some(service)))
    }
}

/// The services a request names.
fn concerned(request: &Request) -> Vec<&str> {
    let params = &request.params;
    let one = params.get("name").or_else(|| params.get("service"));
    let many = params.get("names").and_then(|names| names.as_array());
    let names = one.into_iter().chain(many.into_iter().flatten());
    names.filter_map(|name| name.as_str()).collect()
}
