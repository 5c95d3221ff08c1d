//! Every method there is. Dispatch, `rpc.discover` and the test of the man page read this table; a
//! method that is not in it does not exist.
//!
//! A new one is declared in `api/requests.rs`, has its line here, and a function in `runs.rs`.

use serde_json::Value;

use super::dispatch::{Scene, Todo};
use super::runs;
use super::wire::Refusal;
use crate::api::schema::{self, Line};
use crate::api::{self, Code, Request};

/// A method.
#[derive(Debug)]
pub struct Method {
    /// Its name.
    pub name: &'static str,
    /// Its request, as `api` declares it.
    pub declaration: &'static str,
    /// What it takes to be allowed it.
    pub role: Role,
    /// What it may be refused with.
    pub errors: &'static [Code],
    /// What is to be done, from its parameters.
    pub run: fn(&Value, &Scene<'_>) -> Result<Todo, Refusal>,
}

/// What a client may be to the server; each may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// May ask whether somebody is there.
    Nothing,
    /// May look.
    Read,
    /// May start and stop what there is.
    Operate,
    /// May change which services there are, and end the server.
    Administer,
}

impl Role {
    /// As documents call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Administer => "administer",
        }
    }
}

impl Method {
    /// What it does.
    #[must_use]
    pub fn about(&self) -> &'static str {
        schema::lines(self.declaration).0.about
    }

    /// The type of its reply.
    #[must_use]
    pub fn reply(&self) -> &'static str {
        schema::lines(self.declaration).0.kind
    }

    /// What it takes, by name.
    pub fn params(&self) -> impl Iterator<Item = Line<'static>> {
        schema::lines(self.declaration).1
    }

    /// What it takes to be allowed it with these parameters.
    #[must_use]
    pub fn role(&self, params: &Value) -> Role {
        // That one service reads its own configuration anew changes nothing of ours.
        if self.name == api::ServiceReload::METHOD && params.get("name").is_some() {
            return Role::Operate;
        }
        self.role
    }
}

/// What may be wrong with a request that reads, that changes what services do, that adds one.
const NONE: &[Code] = &[];
const LOOK: &[Code] = &[Code::InvalidParams, Code::ServiceNotFound];
const ACT: &[Code] = &[Code::InvalidParams, Code::Internal];
const WAIT: &[Code] = &[Code::InvalidParams, Code::ServiceNotFound, Code::Internal];
const FOLLOW: &[Code] = &[
    Code::InvalidParams,
    Code::ServiceNotFound,
    Code::InvalidRequest,
];
const SET: &[Code] = &[
    Code::InvalidParams,
    Code::ValidationFailed,
    Code::DependencyMissing,
    Code::ExecNotFound,
    Code::PersistFailed,
    Code::Internal,
];

const fn method<R: Request>(
    role: Role,
    errors: &'static [Code],
    run: fn(&Value, &Scene<'_>) -> Result<Todo, Refusal>,
) -> Method {
    Method {
        name: R::METHOD,
        declaration: R::DECLARATION,
        role,
        errors,
        run,
    }
}

const PROXY: &[Code] = &[Code::InvalidParams, Code::PersistFailed, Code::Internal];

use Role::{Administer, Nothing, Operate, Read};

/// All methods, by name.
pub const METHODS: &[Method] = &[
    method::<api::DebugProcessTree>(Read, LOOK, runs::process_tree),
    method::<api::DebugRecord>(Read, NONE, runs::debug_record),
    method::<api::DebugState>(Read, NONE, runs::debug_state),
    method::<api::EventsFollow>(Read, FOLLOW, runs::follow_events),
    method::<api::LogsFilter>(Read, LOOK, runs::logs_filter),
    method::<api::LogsFollow>(Read, FOLLOW, runs::follow_logs),
    method::<api::LogsGet>(Read, LOOK, runs::logs_get),
    method::<api::LogsTail>(Read, LOOK, runs::logs_tail),
    method::<api::RpcDiscover>(Nothing, NONE, runs::discover),
    method::<api::ServiceChildren>(Read, LOOK, runs::children),
    method::<api::ServiceDelete>(Administer, ACT, runs::delete),
    method::<api::ServiceDeleteAll>(Administer, ACT, runs::delete_all),
    method::<api::ServiceGet>(Read, LOOK, runs::get),
    method::<api::ServiceIsRunning>(Read, LOOK, runs::is_running),
    method::<api::ServiceKill>(Operate, ACT, runs::kill),
    method::<api::ServiceList>(Read, NONE, runs::list),
    method::<api::ServiceListFull>(Read, NONE, runs::list_full),
    method::<api::ServiceReload>(Administer, ACT, runs::reload),
    method::<api::ServiceRemove>(Administer, ACT, runs::delete),
    method::<api::ServiceRestart>(Operate, ACT, runs::restart),
    method::<api::ServiceSet>(Administer, SET, runs::set),
    method::<api::ServiceStart>(Operate, ACT, runs::start),
    method::<api::ServiceStartAll>(Operate, ACT, runs::start_all),
    method::<api::ServiceStats>(Read, LOOK, runs::stats),
    method::<api::ServiceStatus>(Read, LOOK, runs::status),
    method::<api::ServiceStatusFull>(Read, LOOK, runs::status_full),
    method::<api::ServiceStop>(Operate, ACT, runs::stop),
    method::<api::ServiceStopAll>(Operate, ACT, runs::stop_all),
    method::<api::ServiceTree>(Read, NONE, runs::tree),
    method::<api::ServiceWait>(Read, WAIT, runs::wait),
    method::<api::ServiceWhy>(Read, LOOK, runs::why),
    method::<api::SystemHalt>(Administer, ACT, runs::halt),
    method::<api::SystemKexec>(Administer, ACT, runs::kexec),
    method::<api::SystemPing>(Nothing, NONE, runs::ping),
    method::<api::SystemPoweroff>(Administer, ACT, runs::poweroff),
    method::<api::SystemPrepareRestart>(Administer, ACT, runs::prepare_restart),
    method::<api::SystemReboot>(Administer, ACT, runs::reboot),
    method::<api::SystemShutdown>(Administer, ACT, runs::shutdown),
    method::<api::SystemSwitchRoot>(Administer, ACT, runs::switch_root),
    method::<api::XinetDelete>(Administer, PROXY, runs::xinet_delete),
    method::<api::XinetList>(Read, NONE, runs::xinet_list),
    method::<api::XinetSet>(Administer, PROXY, runs::xinet_set),
    method::<api::XinetStatus>(Read, LOOK, runs::xinet_status),
    method::<api::XinetStatusAll>(Read, NONE, runs::xinet_status_all),
];

/// The method of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Method> {
    let place = METHODS.binary_search_by(|method| method.name.cmp(name));
    place.ok().map(|place| &METHODS[place])
}
