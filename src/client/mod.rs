//! The client, for programs: a method for each that the server has, and service files made by hand.
//!
//! | file            | noun                                                          |
//! |-----------------|---------------------------------------------------------------|
//! | `mod.rs`        | the client                                                    |
//! | `connection.rs` | the connection: one request out, one answer in                |
//! | `stream.rs`     | connections that tell what happens                            |
//! | `service.rs`    | service files, read and written                               |
//! | `builder.rs`    | service files, made key by key                                |
//! | `socket.rs`     | where the server is                                           |
//! | `error.rs`      | what can go wrong                                             |
//!
//! It blocks, has no threads, and needs nothing of the server's: with `default-features = false` and
//! `features = ["client"]` this, [`crate::api`], [`crate::config`] and [`crate::engine`] are all there is.
//!
//! ```no_run
//! use std::time::Duration;
//! use zinit::client::{Client, ServiceBuilder};
//!
//! let mut client = Client::new()?;
//! let web = ServiceBuilder::new("web").exec("nginx -g 'daemon off;'").build()?;
//! client.set(&web)?;
//! client.start_and_wait("web", Some(Duration::from_secs(10)))?;
//! println!("{}", client.status("web")?.state);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod builder;
mod connection;
mod error;
mod service;
mod socket;
mod stream;

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

pub use builder::ServiceBuilder;
pub use connection::{ANSWER_WITHIN, Connection, Tick};
#[cfg(feature = "server")]
pub(crate) use error::seconds;
pub use error::{Error, Refusal};
pub use service::{Invalid, ServiceFile};
pub use socket::default_socket;
#[cfg(feature = "server")]
pub(crate) use socket::{SYSTEM_SOCKET, socket_for, user_socket};
pub use stream::{Event, LogNote, Stream};

use crate::api::{self, Goal, LogStream, ProxyDefinition, Request};

/// A conversation with a server. What is asked is answered before the next thing can be asked.
pub struct Client {
    connection: Connection,
    patience: Duration,
}

/// Which lines of output.
///
/// ```
/// use zinit::client::LogQuery;
///
/// let query = LogQuery::of(["web", "db"]).last(50);
/// assert_eq!(query.lines, Some(50));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Of these services; of all if empty.
    pub names: Vec<String>,
    /// So many, the last ones.
    pub lines: Option<u64>,
    /// Of this stream only.
    pub stream: Option<LogStream>,
    /// Not older than this, in Unix milliseconds.
    pub since_ms: Option<u64>,
}

impl LogQuery {
    /// Lines of all services.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Lines of these services.
    #[must_use]
    pub fn of<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        Self {
            names: names.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// So many, the last ones.
    #[must_use]
    pub const fn last(mut self, lines: u64) -> Self {
        self.lines = Some(lines);
        self
    }

    /// Of this stream only.
    #[must_use]
    pub const fn stream(mut self, stream: LogStream) -> Self {
        self.stream = Some(stream);
        self
    }

    /// Not older than this, in Unix milliseconds.
    #[must_use]
    pub const fn since(mut self, unix_ms: u64) -> Self {
        self.since_ms = Some(unix_ms);
        self
    }
}

/// How long a server may look at a new root before it answers.
const LOOK_AT_ROOT: Duration = Duration::from_secs(10);

type Answer<T> = Result<T, Error>;

/// All methods fail with [`Error`]: the server refuses, is not there, or does not answer in time.
impl Client {
    /// Connects to the server that the shell client talks to; see [`default_socket`].
    ///
    /// ```no_run
    /// let version = zinit::client::Client::new()?.ping()?.version;
    /// # Ok::<(), zinit::client::Error>(())
    /// ```
    pub fn new() -> Answer<Self> {
        Self::connect(default_socket())
    }

    /// Connects to the server with this socket.
    pub fn connect(socket: impl AsRef<Path>) -> Answer<Self> {
        Ok(Self {
            connection: Connection::connect(socket.as_ref())?,
            patience: ANSWER_WITHIN,
        })
    }

    /// How long an answer may take to what makes the server wait for nothing; five seconds if never set.
    /// To what it waits for it comes on top of that.
    pub const fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Asks anything that is answered at once.
    ///
    /// ```no_run
    /// use zinit::api::ServiceStart;
    /// # let mut client = zinit::client::Client::new()?;
    /// let alone = ServiceStart {
    ///     name: "web".to_owned(),
    ///     deps: Some(false),
    ///     wait: None,
    ///     timeout_ms: None,
    /// };
    /// client.call(&alone)?;
    /// # Ok::<(), zinit::client::Error>(())
    /// ```
    pub fn call<R: Request>(&mut self, request: &R) -> Answer<R::Reply> {
        self.call_within(request, Some(Duration::ZERO))
    }

    /// Asks anything for which the server waits no longer than `wait`; none: as long as it takes.
    pub fn call_within<R: Request>(
        &mut self,
        request: &R,
        wait: Option<Duration>,
    ) -> Answer<R::Reply> {
        let limit = wait.map(|wait| wait.saturating_add(self.patience));
        let params = api::to_value(request);
        let answer = self
            .connection
            .call(R::METHOD, params, limit, &mut |_| ())?;
        stream::typed(answer)
    }

    // Looking.

    /// Is somebody there? The version of the server.
    pub fn ping(&mut self) -> Answer<api::Pong> {
        self.call(&api::SystemPing {})
    }

    /// All names, sorted.
    pub fn list(&mut self) -> Answer<Vec<String>> {
        self.call(&api::ServiceList {})
    }

    /// All services with their states.
    pub fn list_full(&mut self) -> Answer<Vec<api::ServiceInfo>> {
        self.call(&api::ServiceListFull {})
    }

    /// How a service is.
    pub fn status(&mut self, name: &str) -> Answer<api::Status> {
        let name = name.to_owned();
        self.call(&api::ServiceStatus { name })
    }

    /// How a service is, and what it depends on.
    pub fn status_full(&mut self, name: &str) -> Answer<api::StatusFull> {
        let name = name.to_owned();
        self.call(&api::ServiceStatusFull { name })
    }

    /// Is it up? False for an unknown name.
    pub fn is_running(&mut self, name: &str) -> Answer<bool> {
        let name = name.to_owned();
        self.call(&api::ServiceIsRunning { name })
    }

    /// Its definition, every default filled in.
    pub fn get(&mut self, name: &str) -> Answer<ServiceFile> {
        let name = name.to_owned();
        let shown = self.call(&api::ServiceGet { name })?;
        ServiceFile::from_value(shown.0).map_err(|_| Error::Nonsense)
    }

    /// What it uses.
    pub fn stats(&mut self, name: &str) -> Answer<api::Stats> {
        let name = name.to_owned();
        self.call(&api::ServiceStats { name })
    }

    /// Its processes but the main one.
    pub fn children(&mut self, name: &str) -> Answer<Vec<api::ChildInfo>> {
        let name = name.to_owned();
        Ok(self.call(&api::ServiceChildren { name })?.children)
    }

    /// Why it is not up.
    pub fn why(&mut self, name: &str) -> Answer<api::WhyBlocked> {
        let name = name.to_owned();
        self.call(&api::ServiceWhy { name })
    }

    /// All services with their links, drawn as text.
    pub fn tree(&mut self) -> Answer<String> {
        Ok(self.call(&api::ServiceTree {})?.ascii)
    }

    /// What the engine was told last and what it did, as a text that replays it.
    pub fn debug_record(&mut self) -> Answer<String> {
        Ok(self.call(&api::DebugRecord {})?.output)
    }

    /// All that the server knows of its services, as text.
    pub fn debug_state(&mut self) -> Answer<String> {
        Ok(self.call(&api::DebugState {})?.output)
    }

    /// The processes of a service, as text.
    pub fn debug_process_tree(&mut self, name: &str) -> Answer<String> {
        let name = name.to_owned();
        Ok(self.call(&api::DebugProcessTree { name })?.output)
    }

    /// All methods and types of the server, as an OpenRPC document.
    pub fn discover(&mut self) -> Answer<Value> {
        Ok(self.call(&api::RpcDiscover {})?.0)
    }

    // Starting and stopping.

    /// Begins to bring a service up, and what it requires and wants.
    pub fn start(&mut self, name: &str) -> Answer<api::Done> {
        self.begin_start(name, None)
    }

    /// Brings a service up, or says why that did not come about.
    pub fn start_and_wait(&mut self, name: &str, limit: Option<Duration>) -> Answer<api::Done> {
        self.begin_start(name, Some(limit))
    }

    fn begin_start(&mut self, name: &str, limit: Option<Option<Duration>>) -> Answer<api::Done> {
        let (wait, timeout_ms) = wait_of(limit);
        let name = name.to_owned();
        let deps = None;
        let request = api::ServiceStart {
            name,
            deps,
            wait,
            timeout_ms,
        };
        self.call_within(&request, limit.unwrap_or(Some(Duration::ZERO)))
    }

    /// Begins to bring a service down, dependents first.
    pub fn stop(&mut self, name: &str) -> Answer<api::Done> {
        self.begin_stop(name, None)
    }

    /// Brings a service down, dependents first, or says why that did not come about.
    pub fn stop_and_wait(&mut self, name: &str, limit: Option<Duration>) -> Answer<api::Done> {
        self.begin_stop(name, Some(limit))
    }

    fn begin_stop(&mut self, name: &str, limit: Option<Option<Duration>>) -> Answer<api::Done> {
        let (wait, timeout_ms) = wait_of(limit);
        let name = name.to_owned();
        let request = api::ServiceStop {
            name,
            wait,
            timeout_ms,
        };
        self.call_within(&request, limit.unwrap_or(Some(Duration::ZERO)))
    }

    /// Begins to stop a service and to bring it and those that were up back.
    pub fn restart(&mut self, name: &str) -> Answer<api::Done> {
        self.begin_restart(name, None)
    }

    /// Stops a service and brings it and those that were up back, or says why that did not come about.
    pub fn restart_and_wait(&mut self, name: &str, limit: Option<Duration>) -> Answer<api::Done> {
        self.begin_restart(name, Some(limit))
    }

    fn begin_restart(&mut self, name: &str, limit: Option<Option<Duration>>) -> Answer<api::Done> {
        let (wait, timeout_ms) = wait_of(limit);
        let name = name.to_owned();
        let request = api::ServiceRestart {
            name,
            wait,
            timeout_ms,
        };
        self.call_within(&request, limit.unwrap_or(Some(Duration::ZERO)))
    }

    /// Changes nothing; comes back when it is so.
    pub fn wait(&mut self, name: &str, goal: Goal, limit: Option<Duration>) -> Answer<api::Done> {
        let request = api::ServiceWait {
            name: name.to_owned(),
            r#for: goal,
            timeout_ms: limit.map(ms),
        };
        self.call_within(&request, limit)
    }

    /// Sends a signal, such as `HUP`; the restart policy applies to what comes of it.
    pub fn kill(&mut self, name: &str, signal: &str) -> Answer<()> {
        let request = api::ServiceKill {
            name: name.to_owned(),
            signal: Some(signal.to_owned()),
        };
        self.call(&request).map(|_| ())
    }

    /// Begins to start every service with status start that is not class system.
    pub fn start_all(&mut self) -> Answer<api::StartedAll> {
        self.begin_start_all(None)
    }

    /// The same, and comes back when each is up or has failed.
    pub fn start_all_and_wait(&mut self, limit: Option<Duration>) -> Answer<api::StartedAll> {
        self.begin_start_all(Some(limit))
    }

    fn begin_start_all(&mut self, limit: Option<Option<Duration>>) -> Answer<api::StartedAll> {
        let (wait, timeout_ms) = wait_of(limit);
        let request = api::ServiceStartAll { wait, timeout_ms };
        self.call_within(&request, limit.unwrap_or(Some(Duration::ZERO)))
    }

    /// Begins to stop every service that is not class system.
    pub fn stop_all(&mut self) -> Answer<api::StoppedAll> {
        self.begin_stop_all(None)
    }

    /// The same, and comes back when each is down.
    pub fn stop_all_and_wait(&mut self, limit: Option<Duration>) -> Answer<api::StoppedAll> {
        self.begin_stop_all(Some(limit))
    }

    fn begin_stop_all(&mut self, limit: Option<Option<Duration>>) -> Answer<api::StoppedAll> {
        let (wait, timeout_ms) = wait_of(limit);
        let request = api::ServiceStopAll { wait, timeout_ms };
        self.call_within(&request, limit.unwrap_or(Some(Duration::ZERO)))
    }

    // Definitions.

    /// Adds a service or replaces its definition, and writes its file.
    pub fn set(&mut self, file: &ServiceFile) -> Answer<api::Added> {
        self.put(file, None)
    }

    /// The same, but no file is written: it is gone when the server ends.
    pub fn set_ephemeral(&mut self, file: &ServiceFile) -> Answer<api::Added> {
        self.put(file, Some(true))
    }

    fn put(&mut self, file: &ServiceFile, ephemeral: Option<bool>) -> Answer<api::Added> {
        let config = api::Definition(file.to_value());
        self.call(&api::ServiceSet { config, ephemeral })
    }

    /// Stops a service and all that require it, and removes them and their files.
    pub fn delete(&mut self, name: &str, limit: Option<Duration>) -> Answer<()> {
        let request = api::ServiceDelete {
            name: name.to_owned(),
            timeout_ms: limit.map(ms),
        };
        self.call_within(&request, limit).map(|_| ())
    }

    /// The same, under its other name.
    pub fn remove(&mut self, name: &str, limit: Option<Duration>) -> Answer<()> {
        let request = api::ServiceRemove {
            name: name.to_owned(),
            timeout_ms: limit.map(ms),
        };
        self.call_within(&request, limit).map(|_| ())
    }

    /// Begins to delete every service that is not class system.
    pub fn delete_all(&mut self) -> Answer<api::DeletedAll> {
        self.begin_delete_all(None)
    }

    /// The same, and comes back when each is gone.
    pub fn delete_all_and_wait(&mut self, limit: Option<Duration>) -> Answer<api::DeletedAll> {
        self.begin_delete_all(Some(limit))
    }

    fn begin_delete_all(&mut self, limit: Option<Option<Duration>>) -> Answer<api::DeletedAll> {
        let (wait, timeout_ms) = wait_of(limit);
        let request = api::ServiceDeleteAll { wait, timeout_ms };
        self.call_within(&request, limit.unwrap_or(Some(Duration::ZERO)))
    }

    /// Has the server read its files anew, and apply what changed.
    pub fn reload(&mut self) -> Answer<api::Reloaded> {
        let request = api::ServiceReload {
            name: None,
            timeout_ms: None,
        };
        match self.call(&request)? {
            api::ReloadOutcome::Files(reloaded) => Ok(reloaded),
            api::ReloadOutcome::Service(_) => Err(Error::Nonsense),
        }
    }

    /// Has a service read its own configuration anew, and waits for that.
    pub fn reload_service(&mut self, name: &str, limit: Option<Duration>) -> Answer<api::Done> {
        let request = api::ServiceReload {
            name: Some(name.to_owned()),
            timeout_ms: limit.map(ms),
        };
        match self.call_within(&request, limit)? {
            api::ReloadOutcome::Service(done) => Ok(done),
            api::ReloadOutcome::Files(_) => Err(Error::Nonsense),
        }
    }

    // Output and events.

    /// The last lines of output, 100 if the query does not say how many.
    ///
    /// ```no_run
    /// use zinit::client::{Client, LogQuery};
    ///
    /// for line in Client::new()?.logs_tail(&LogQuery::of(["web"]).last(20))? {
    ///     println!("{} {}", line.stream, line.content);
    /// }
    /// # Ok::<(), zinit::client::Error>(())
    /// ```
    pub fn logs_tail(&mut self, query: &LogQuery) -> Answer<Vec<api::LogLine>> {
        self.call(&api::LogsTail {
            name: None,
            names: Some(query.names.clone()),
            lines: query.lines,
            stream: query.stream,
            since: query.since_ms,
        })
    }

    /// The last lines of one service or of all, as text.
    pub fn logs(&mut self, name: Option<&str>, lines: Option<u64>) -> Answer<Vec<String>> {
        let name = name.map(str::to_owned);
        self.call(&api::LogsGet { name, lines })
    }

    /// All lines of one service that match, as text. Of the query's names, the first counts.
    pub fn logs_filter(&mut self, query: &LogQuery) -> Answer<Vec<String>> {
        self.call(&api::LogsFilter {
            service: query.names.first().cloned().unwrap_or_default(),
            stream: query.stream,
            since: query.since_ms,
            lines: query.lines,
        })
    }

    /// Lines of output as they come, after so many of the past as the query says.
    ///
    /// ```no_run
    /// use zinit::client::{Client, LogNote, LogQuery};
    ///
    /// for note in Client::new()?.follow_logs(&LogQuery::of(["web"]))? {
    ///     if let LogNote::Line(line) = note? {
    ///         println!("{}", line.content);
    ///     }
    /// }
    /// # Ok::<(), zinit::client::Error>(())
    /// ```
    pub fn follow_logs(mut self, query: &LogQuery) -> Answer<Stream<LogNote>> {
        self.call(&api::LogsFollow {
            names: Some(query.names.clone()),
            lines: query.lines,
            stream: query.stream,
            since: query.since_ms,
        })?;
        Ok(stream::of_logs(self.connection))
    }

    /// Changes of state and health as they come, of these services or, if there are none, of all.
    pub fn follow_events(mut self, names: &[&str]) -> Answer<Stream<Event>> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        self.call(&api::EventsFollow { names: Some(names) })?;
        Ok(stream::of_events(self.connection))
    }

    // Proxies.

    /// Adds a proxy or replaces its definition, and writes its file.
    pub fn xinet_set(&mut self, proxy: &ProxyDefinition) -> Answer<()> {
        self.put_proxy(proxy, None)
    }

    /// The same, but no file is written: it is gone when the server ends.
    pub fn xinet_set_ephemeral(&mut self, proxy: &ProxyDefinition) -> Answer<()> {
        self.put_proxy(proxy, Some(true))
    }

    fn put_proxy(&mut self, proxy: &ProxyDefinition, ephemeral: Option<bool>) -> Answer<()> {
        let config = proxy.clone();
        self.call(&api::XinetSet { config, ephemeral }).map(|_| ())
    }

    /// Takes a proxy away.
    pub fn xinet_delete(&mut self, name: &str) -> Answer<()> {
        let name = name.to_owned();
        self.call(&api::XinetDelete { name }).map(|_| ())
    }

    /// The names of all proxies, sorted.
    pub fn xinet_list(&mut self) -> Answer<Vec<String>> {
        self.call(&api::XinetList {})
    }

    /// Whether a proxy listens, and for how many.
    pub fn xinet_status(&mut self, name: &str) -> Answer<api::ProxyStatus> {
        let name = name.to_owned();
        self.call(&api::XinetStatus { name })
    }

    /// All proxies with what they have done.
    pub fn xinet_status_all(&mut self) -> Answer<Vec<api::ProxyAccount>> {
        self.call(&api::XinetStatusAll {})
    }

    // The server.

    /// Stops everything and ends the server, with this exit status.
    pub fn shutdown(&mut self, code: u8) -> Answer<()> {
        let code = Some(code);
        self.call(&api::SystemShutdown { code }).map(|_| ())
    }

    /// Waits until the server has ended, which closes the connection.
    pub fn wait_for_end(&mut self, limit: Option<Duration>) -> Answer<()> {
        self.connection.wait_for_end(limit, &mut |_| ())
    }

    /// Stops everything and switches the machine off whose PID 1 the server is.
    pub fn poweroff(&mut self) -> Answer<()> {
        self.call(&api::SystemPoweroff {}).map(|_| ())
    }

    /// Stops everything and restarts the machine.
    pub fn reboot(&mut self) -> Answer<()> {
        self.call(&api::SystemReboot {}).map(|_| ())
    }

    /// Stops everything and halts the machine.
    pub fn halt(&mut self) -> Answer<()> {
        self.call(&api::SystemHalt {}).map(|_| ())
    }

    /// Stops everything and starts the kernel that was loaded.
    pub fn kexec(&mut self) -> Answer<()> {
        self.call(&api::SystemKexec {}).map(|_| ())
    }

    /// Hands over from an initramfs to the root that is mounted there.
    pub fn switch_root(&mut self, root: &str, init: Option<&str>) -> Answer<()> {
        let request = api::SystemSwitchRoot {
            root: root.to_owned(),
            init: init.map(str::to_owned),
        };
        self.call_within(&request, Some(LOOK_AT_ROOT)).map(|_| ())
    }

    /// Not there yet: always an error.
    pub fn prepare_restart(&mut self) -> Answer<()> {
        self.call(&api::SystemPrepareRestart {}).map(|_| ())
    }
}

/// What a request says of waiting: none, not at all.
fn wait_of(limit: Option<Option<Duration>>) -> (Option<bool>, Option<u64>) {
    (limit.map(|_| true), limit.flatten().map(ms))
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
