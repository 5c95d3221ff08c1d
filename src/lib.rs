//! zinit: an init system and process supervisor with a dependency graph. One thread, one poll
//! loop, one static binary.
//!
//! This page is the architecture. Read it first, then the head of `engine/service.rs`.
//!
//! # The rings
//!
//! | ring | what it is | what it never does |
//! |---|---|---|
//! | [`engine`] | decides: services, their states and wants, the graph, the timers | ask the time, touch a file or a descriptor, log |
//! | [`config`] | text to [`engine::Spec`], with what is wrong by file, line and key | know of processes or sockets |
//! | [`api`] | what stands on the wire as types: requests, replies, and their schema | know what is done with them |
//! | [`rpc`] | bytes to [`engine::Command`], outcomes to bytes | own a socket |
//! | [`sys`] | Linux, one kernel facility a file; the only `unsafe` | decide |
//! | [`record`] | what the engine was told last, as a text that replays it | know what is done with it |
//! | [`reactor`] | the loop: the one place that knows them all | keep state that follows from the engine's |
//! | [`pid1`] | before and after the loop, when nobody else is there: mounts, console, the end of a machine | decide about services |
//! | [`client`] | the same wire from the other end, for programs: the client, service files made by hand | need the server's packages |
//! | [`cli`] | the shell client, the arguments, the help | know how the server works inside |
//!
//! ```text
//! main → cli, pid1, reactor, config, sys            pid1   → reactor, config, sys
//! reactor → engine, record, api, rpc, sys, config   rpc    → engine, api
//! cli     → client, api                             client → api, config, engine
//! config, sys, record → engine                      engine, api → no other ring
//! ```
//!
//! The feature `client` alone, without `server`, is the library for programs: `api`, `client`, `config`
//! and `engine`.
//!
//! Arrows never turn round, and siblings do not know one another: what only the machine or the
//! files can answer is an [`rpc::Ask`], which the reactor answers. `tests/tidy.rs` keeps this true.
//!
//! A method is declared once, in `api/requests.rs`; its line in `rpc/methods.rs` says who may ask it
//! and which function runs. What `rpc.discover` tells follows from the two, so it never lags behind.
//!
//! # The rule: perform before you poll
//!
//! Every action is performed, and every fact it yields is handled, before the loop waits again. What
//! a client is told is already true. It follows that
//!
//! - exec is not waited for: the fork returns at once, and a close-on-exec pipe says later how exec
//!   went. That pipe is drained before the exit of its process is told, so the order is always
//!   forked, started, exited;
//! - the dead are looked at before they are taken (`waitid` with `WNOWAIT`), so that while the
//!   engine decides, a process number and a session number mean what they meant;
//! - facts come before deadlines, and signals to end before either: nobody is late who was in time,
//!   or who was not even told;
//! - nothing blocks: reads and writes come back at once, a turn gives each descriptor a bounded
//!   share, and starts or signals a bounded number of processes. What is left over is taken up in
//!   the next turn, before the loop sleeps, and clients are heard in between.
//!
//! # Facts push, wants pull
//!
//! A command sets what is *wanted* of services; a fact moves the *state* of one. Then everything
//! that has a changed neighbour takes the steps its want and its gate allow, until nothing moves.
//! Nobody codes an order of starts or stops: it falls out of the gates. A gate is read from counts
//! of neighbours (how many requirements are not met, how many requirers are up …) that are kept
//! from the difference of each change, so an event costs its neighbours and never the graph; a
//! target that requires ten thousand services is told ten thousand times, and looks at one number.
//!
//! # Three journeys
//!
//! **A process dies.** `sys/signals.rs`: the signalfd says "somebody". `reactor` `take_dead`: who,
//! without collecting (`sys/process.rs`); what it still had in its pipes (`reactor/runs.rs`); then
//! [`engine::Event::Exited`]. `engine/service.rs`, table 1: Running becomes Clearing, and the
//! action is [`engine::Action::Sweep`]. `reactor/family.rs` finds what it left behind: nothing, and
//! the fact is Cleared; or an orphan, which is asked to end, and the fact comes when the last one
//! is gone. Table 1 again: the restart policy says Backoff, Exited or Failed. `Supervisor::change`
//! sets the timer, tells the neighbours and whoever waits. Only then is the dead one collected.
//!
//! **A client asks for a stop.** `reactor/clients.rs` reads a line, `rpc/wire.rs` understands it,
//! `rpc/runs.rs` makes it [`engine::Command::Stop`], `reactor/serve.rs` gives it a ticket. The
//! engine wants the service and all that require it down. Table 2: the outermost requirer has
//! nobody above it and goes to Stopping, which is [`engine::Action::KillTree`]. Exits come in
//! (journey one), each opens the next gate. When the service itself rests, its waiter is answered
//! ([`engine::Action::Reply`]), `rpc/outcome.rs` puts it in words, and the ticket knows the client.
//!
//! **A timer ends.** The top of a turn arms the timerfd with [`engine::Supervisor::next_deadline`]
//! (and, while there are leftovers, with the next look at them); nothing else arms. It fires;
//! [`engine::Event::Deadline`]; the wheel hands out whose deadline has come; table 1 says what it
//! means in the state it is in. A deadline lives in the state, so nothing is ever cancelled and a
//! stale timer cannot be.
//!
//! # Beside the main process
//!
//! **An errand** is a piece of work done for a service: a hook or a probe. The engine sends it
//! ([`engine::Action::Errand`]), names the time by which it is late, and recalls it then; each has a
//! number, so what comes of one that was recalled, or of an earlier run, is nobody's
//! ([`engine::Event::Returned`]). `engine/care.rs` knows what a probe's result means,
//! `engine/errand.rs` what a hook's does. In the reactor a hook or an exec probe is a process
//! (`errands.rs`), any other probe a connection that is never waited for (`probes.rs`); a name is
//! looked up by a child.
//!
//! **What a program says of itself** comes over a socket of its run (`reactor/hear.rs`), a pipe, or
//! its output; the state that waits for it moves, and any other passes it over.
//!
//! **A child becomes who it is to be** between fork and exec (`sys/identity.rs`): names are looked up
//! and files read there, so that a disk that hangs holds up that child alone. What went wrong comes
//! back over the exec pipe with its step.
//!
//! **A line of output** goes to its ring, and from there through `reactor/sinks.rs`: to the output
//! of a container, to a file (`keeper.rs`), to another log (`ship.rs`), to whoever follows
//! (`follow.rs`). Files are written by a child with one piece at a time (`sys/writer.rs`). A writer
//! that hangs is killed and replaced, and keeps nothing but the one file from being written; that
//! is why there is one writer and not one a service, and why it is not asked for two things at once.
//! What can't be taken holds up the service for a second at most, and is then dropped and counted:
//! nothing here is unbounded, and nothing is lost without a word.
//!
//! # On demand
//!
//! **A socket of a service** is opened by the server and found open by its program
//! (`reactor/sockets.rs`). Whether a connection starts the service is the engine's to say: beside up
//! and down there is a want for *down until somebody calls*, and [`engine::Action::Attend`] has the
//! socket watched while the next connection counts ([`engine::Event::Called`]). A stop ends that, so
//! a stop stays final.
//!
//! **A proxy** is a client of the engine like any other: it starts and stops its service by commands
//! (`reactor/proxies.rs`); what a client may hope for in which state, and when a service is idle, is
//! `engine/proxy.rs`. Only one client is sent ahead to find out whether the backend accepts; the
//! others follow when it does. A connection (`reactor/links.rs`) is two sockets and, while bytes are
//! on their way, a pipe each way: they are spliced, and never held by the server.
//!
//! **Who may do what** is asked of each request before it is understood any further
//! (`reactor/access.rs`): the table of methods says which right one takes and which services it is
//! about, the kernel who is there, the access file what he may.
//!
//! # The first process
//!
//! The same loop is PID 1. What it is to the system is [`reactor::Role`]: a server, a machine, or a
//! container; the role says what a signal means, where output goes, and what comes when everything
//! is down ([`reactor::Ending`]). What has to be there before the loop (console, mounts, hostname)
//! and what is left to do after it (who is left, file systems, the kernel) is [`pid1`].
//!
//! **A machine boots.** Before `main`, `sys/console.rs` opens what the kernel could not.
//! `pid1/mod.rs` mounts, reads the kernel's command line and sets the machine up; the reactor loads
//! all files and starts nothing. `reactor/boot.rs` goes step by step: the machine's own services by
//! [`engine::Command::Boot`], whose answer begins the next step, then all others, then a line about
//! it. A step may also be a shell on the console; so is what follows
//! [`engine::Action::CriticalFailed`]. The end of that shell goes on.
//!
//! **A machine goes down.** A signal or a request sets the [`reactor::Ending`] and asks the engine to
//! shut down (`reactor/ending.rs`); `engine/budget.rs` shares the time out. Then `pid1/down.rs`: each
//! thing that may hang is done by a child, and given up when its time is over. PID 1 itself never
//! ends: a crash runs the program anew (`sys/crash.rs`), and where the loop can't run at all there is
//! a sentence, a shell and the reaper (`pid1/rescue.rs`).
//!
//! # Proof
//!
//! The engine decides by what it remembers and what it is told, and by nothing else. So it is put to
//! the test in a simulated world (`tests/common/world.rs`) under the eyes of a model that shares no
//! code with it (`shadow.rs`): histories at random by the hundred thousand, and all of the small
//! ones. What it remembers can be had as plain data ([`engine::Snapshot`]) and is told by [`record`];
//! what a machine did replays anywhere. Linux is put to the test by making each thing fail that can.
//! `man 7 zinit-testing` says what is promised and which test shows it.
//!
//! # What belongs to a service
//!
//! Its main process and all that descend from it. The server is their subreaper, so whoever loses
//! its parent becomes our child: everything is under a main process or under an orphan. An orphan
//! is known by its session or group, by the mark in its environment (`ZINIT_MARK`, which names the
//! server and the service), or by the pipe it writes to. Processes are identified by number and
//! start time and signalled through a pidfd. One that left its session, wiped its environment and
//! closed its output, before anybody looked at it, is known by the service's cgroup
//! (`sys/cgroup.rs`); where there are none, it lives until the server ends. Where `/proc` shows
//! nobody, a service is its process group; whom it hides is known by number and session.
//!
//! # When something runs out
//!
//! Sixteen descriptors are kept for looks at processes (`sys/limits.rs`): whoever can't be seen would
//! be taken for gone. An allocation that fails is served from a reserve (`sys/reserve.rs`), and the
//! loop gives back what it can spare. What can't be started for want of processes is tried again and
//! never counted. A turn that fails is tried again before the server gives up (`reactor/mod.rs`).
//!
//! # Words
//!
//! *service* (one supervised thing; a *target* has no process) · *spec* (as it is meant) · *state*,
//! *want* (as it is, as it should be) · *requirement*, *requirer* · *gate* (what neighbours allow) ·
//! *hold* (what keeps a wanted service down) · *face* (what neighbours see), *tally* (how many show
//! it) · *event*, *fact*, *command*, *action*, *ticket* · *turn* (one round of the loop) · *settle*
//! (step until nothing moves) · *sweep* (end what a main process left behind), *cleared* ·
//! *orphan*, *family*, *mark* · *peek*, *collect* · *arm*, *drain* · *role*, *ending* · *budget*,
//! *share* (what a stop may take of the time for all) · *leg* (a step on the way up) · *errand* (a
//! hook or probe), *report* (what came of it), *recall* · *care* (probes, watchdog and reload of a
//! run) · *fall* (go down for a reason of its own), *sequel* (what follows an end for good) ·
//! *call* (a connection that starts a service), *attend* (wait for one) · *proxy*, *entrance* (where
//! it listens), *link* (a connection through it), *prospect* (what its client may hope for) · *right*
//! (what somebody may do) · *snapshot* (all the engine remembers), *record* (its last events, with
//! the snapshot before them) · *ephemeral* (in memory only) · *template*, *instance* · *sink* (where a
//! line goes), *piece* (what a writer has at a time) · *request*, *reply*, *note* (what a stream
//! tells), *declaration* (of one of those, as a text) · *patience* (what an answer may take),
//! *refusal* (the server's no).

pub mod api;
#[cfg(feature = "server")]
pub mod cli;
pub mod client;
pub mod config;
pub mod engine;
#[cfg(feature = "server")]
pub mod pid1;
#[cfg(feature = "server")]
pub mod reactor;
#[cfg(feature = "server")]
pub mod record;
#[cfg(feature = "server")]
pub mod rpc;
#[cfg(feature = "server")]
pub mod sys;
