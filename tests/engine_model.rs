//! The graph of the engine against what a graph is meant to be, and its small types against what
//! they say they are.

#[path = "common/bench.rs"]
mod bench;
#[path = "common/rng.rs"]
mod rng;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use bench::{Bench, pid, program, reply};
use rng::Rng;
use zinit::engine::confine::{Capabilities, IoPriority, Limit, Rlimit, bytes};
use zinit::engine::spec::{
    Class, Exec, Expect, Hook, HookSpec, Hooks, KillMode, Lifecycle, Logging, RestartPolicy,
    Status, Statuses, SuccessExit,
};
use zinit::engine::{
    Address, Command, End, Event, Exit, Failure, Fault, LinkKind, Outcome, Patience, Pid, Restarts,
    ServiceId, Signal, SpawnError, Spec, State, Step, Supervisor, Table, Ticket, Time,
    UnknownSignal, cycles,
};

/// Who is declared, each with its links.
type Declared = BTreeMap<usize, Spec>;

fn node(number: usize) -> String {
    format!("n{number}")
}

fn random_spec(rng: &mut Rng, number: usize, nodes: usize) -> Spec {
    let mut spec = Spec::target(&node(number));
    let mut some = |one_in: u64| -> Vec<Rc<str>> {
        let mut names = Vec::new();
        for other in 0..nodes {
            if rng.below(one_in) == 0 {
                names.push(Rc::from(node(other)));
            }
        }
        // Said twice is said once.
        names.extend(names.first().cloned());
        names
    };
    spec.links.requires = some(2 * nodes as u64);
    spec.links.after = some(2 * nodes as u64);
    spec.links.wants = some(nodes as u64);
    spec.links.conflicts = some(nodes as u64);
    spec
}

/// Who comes before this one, as far as it is declared.
fn before(declared: &Declared, number: usize) -> BTreeSet<usize> {
    let Some(spec) = declared.get(&number) else {
        return BTreeSet::new();
    };
    let names = spec.links.requires.iter().chain(&spec.links.after);
    let numbers = names.map(|name| name[1..].parse().expect("a number"));
    numbers
        .filter(|other| declared.contains_key(other))
        .collect()
}

/// All that can be come to from this one, by at least one step.
fn reach(declared: &Declared, from: usize) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut left = vec![from];
    while let Some(at) = left.pop() {
        left.extend(
            before(declared, at)
                .into_iter()
                .filter(|next| found.insert(*next)),
        );
    }
    found
}

/// The shortest way from one back to it.
fn shortest(declared: &Declared, from: usize) -> usize {
    let mut front = BTreeSet::from([from]);
    for length in 1.. {
        front = front.iter().flat_map(|at| before(declared, *at)).collect();
        if front.contains(&from) {
            return length;
        }
    }
    unreachable!("it is in a cycle")
}

/// After each change the engine knows who is in a cycle, and who has to do with whom.
fn assert_graph(all: &Supervisor, declared: &Declared) {
    let graph = all.graph();
    let mut size = 0;
    for (number, spec) in declared {
        let id = graph.find(&spec.name).expect("it was put");
        let own = reach(declared, *number);
        let is_member = own.contains(number);
        let round = graph.cycle(id);
        assert_eq!(round.is_some(), is_member, "{declared:?}: {}", spec.name);
        if let Some(round) = round {
            let numbers: Vec<usize> = round
                .iter()
                .map(|name| name[1..].parse().expect("a number"))
                .collect();
            let members: BTreeSet<usize> = own
                .iter()
                .copied()
                .filter(|other| reach(declared, *other).contains(number))
                .collect();
            let first = members.iter().map(|other| node(*other)).min();
            assert_eq!(
                first.as_deref(),
                Some(&*round[0]),
                "it begins with the first of them"
            );
            assert_eq!(
                numbers.len(),
                shortest(declared, numbers[0]),
                "{round:?} of {declared:?}"
            );
            for (at, one) in numbers.iter().enumerate() {
                let next = numbers[(at + 1) % numbers.len()];
                assert!(
                    before(declared, *one).contains(&next),
                    "{round:?} of {declared:?}"
                );
            }
        }
        let lists = [
            (LinkKind::Requires, &spec.links.requires),
            (LinkKind::After, &spec.links.after),
            (LinkKind::Wants, &spec.links.wants),
            (LinkKind::Conflicts, &spec.links.conflicts),
        ];
        let mut expected = Vec::new();
        for (kind, names) in lists {
            let mut seen = BTreeSet::new();
            let others = names
                .iter()
                .filter(|name| kind != LinkKind::Conflicts || **name != spec.name);
            expected.extend(
                others
                    .filter(|name| seen.insert(*name))
                    .map(|name| (kind, name.clone())),
            );
        }
        size += 1 + expected.len();
        let links = graph.links(id).iter();
        let found: Vec<_> = links
            .clone()
            .map(|link| (link.kind, link.name.clone()))
            .collect();
        assert_eq!(found, expected);
        for link in links {
            assert_eq!(link.to, graph.find(&link.name));
        }
        let back: BTreeSet<_> = graph.back(id).collect();
        let pointing = declared.values().flat_map(|other| {
            let other = graph.find(&other.name).expect("it was put");
            let links = graph.links(other).iter().filter(|link| link.to == Some(id));
            links.map(move |link| (link.kind, other))
        });
        assert_eq!(back, pointing.collect());
        let rivals: BTreeSet<_> = graph.rivals(id).collect();
        let conflict =
            |spec: &Spec, name: &str| spec.links.conflicts.iter().any(|other| **other == *name);
        let others = declared.values().filter(|other| other.name != spec.name);
        let others =
            others.filter(|other| conflict(spec, &other.name) || conflict(other, &spec.name));
        assert_eq!(
            rivals,
            others.filter_map(|other| graph.find(&other.name)).collect()
        );
    }
    assert_eq!(graph.size(), size, "{declared:?}");
    assert_eq!(graph.names().count(), declared.len());
}

#[test]
fn the_graph_is_as_it_is_declared_after_each_change() {
    for seed in 0..50 {
        let mut rng = Rng::new(seed);
        let nodes = 2 + usize::try_from(rng.below(6)).expect("few");
        let numbers: Vec<usize> = (0..nodes).collect();
        let mut declared = Declared::new();
        let mut all = Supervisor::default();
        let mut out = Vec::new();
        for _ in 0..30 {
            let number = *rng.pick(&numbers);
            let some: Vec<usize> = (0..nodes).filter(|_| rng.chance(50)).collect();
            let command = match rng.below(10) {
                0 => {
                    declared.remove(&number);
                    reload(&declared)
                }
                1 | 2 => {
                    for number in some {
                        declared.insert(number, random_spec(&mut rng, number, nodes));
                    }
                    reload(&declared)
                }
                _ => {
                    let spec = random_spec(&mut rng, number, nodes);
                    declared.insert(number, spec.clone());
                    Command::Put { spec: spec.into() }
                }
            };
            let event = Event::Command {
                ticket: None,
                patience: Patience::None,
                command,
            };
            all.handle(Time::ZERO, event, &mut out);
            all.check();
            assert_graph(&all, &declared);
            let specs: Vec<&Spec> = declared.values().collect();
            let listed = cycles(&specs);
            let known: BTreeSet<Vec<Rc<str>>> = listed.iter().cloned().collect();
            assert_eq!(known.len(), listed.len(), "one is told twice: {listed:?}");
            let ids = declared
                .values()
                .filter_map(|spec| all.graph().find(&spec.name));
            let found = ids
                .filter_map(|id| all.graph().cycle(id).map(<[_]>::to_vec))
                .collect();
            assert_eq!(known, found);
        }
    }
}

fn reload(declared: &Declared) -> Command {
    Command::Reload {
        specs: declared.values().cloned().map(Rc::new).collect(),
        keep: Vec::new(),
        start: false,
    }
}

/// What a table of services holds is its own: another service in the same place is another one.
#[test]
fn a_table_answers_to_its_own_ids() {
    let mut bench = Bench::new(program(), vec![Spec::target("other")]);
    let (old, (other, _)) = (bench.id, bench.other("other"));
    bench.command(Command::Remove { service: old });
    bench.command(Command::Put {
        spec: program().into(),
    });
    let (new, _) = bench.other("it");
    assert_eq!((new.index(), new == old), (old.index(), false));
    let mut table: Table<u32> = Table::default();
    assert_eq!(table.get(other), None);
    table.insert(old, 1);
    table.insert(other, 2);
    assert_eq!(
        (table.get(old), table.get(new), table.get(other)),
        (Some(&1), None, Some(&2))
    );
    assert_eq!(table.get_mut(new), None);
    assert_eq!(table.remove(new), None);
    *table.get_mut(other).expect("it is there") += 5;
    assert_eq!(
        table.iter().collect::<Vec<_>>(),
        sorted([(old, &1), (other, &7)])
    );
    assert_eq!(*table.or_default(other), 7);
    *table.or_default(new) += 3;
    assert_eq!((table.get(old), table.get(new)), (None, Some(&3)));
    assert_eq!(table.remove(new), Some(3));
    assert_eq!(table.get(new), None);
    assert_eq!(table.remove(new), None);
    assert_eq!(table.iter().count(), 1);
}

fn sorted<const N: usize>(mut all: [(ServiceId, &u32); N]) -> Vec<(ServiceId, &u32)> {
    all.sort_by_key(|(id, _)| id.index());
    all.to_vec()
}

#[test]
fn time_goes_on_and_never_over() {
    let at = Time::from_millis;
    assert_eq!(at(7).as_millis(), 7);
    assert_eq!(at(7).since(at(5)), Duration::from_millis(2));
    assert_eq!(at(5).since(at(7)), Duration::ZERO);
    assert_eq!(at(5) + Duration::from_micros(2_900), at(7));
    assert_eq!(at(u64::MAX) + Duration::from_millis(1), at(u64::MAX));
    assert_eq!(at(1) + Duration::MAX, at(u64::MAX));
    assert_eq!(format!("{:?}", at(7)), "7ms");
}

#[test]
fn numbers_and_names_are_what_linux_calls_them() {
    assert_eq!((Pid::new(0), Pid::new(-1)), (None, None));
    assert_eq!(Pid::new(1).map(Pid::number), Some(1));
    assert_eq!(Pid::new(i32::MAX).map(Pid::number), Some(i32::MAX));
    assert_eq!(
        (pid(12).to_string(), format!("{:?}", pid(12))),
        ("12".to_owned(), "12".to_owned())
    );
    assert_eq!(Signal::from_number(0), None);
    assert_eq!(Signal::from_number(32), None);
    assert_eq!(Signal::from_number(300), None);
    for number in 1..=31 {
        let signal = Signal::from_number(number).expect("a signal");
        assert_eq!(signal.number(), number);
        assert_eq!(signal.to_string(), format!("SIG{}", signal.name()));
        assert_eq!(Signal::parse(signal.name()), Ok(signal));
        assert_eq!(Signal::parse(&number.to_string()), Ok(signal));
    }
    let known = [Signal::HUP, Signal::KILL, Signal::TERM, Signal::CONT].map(Signal::name);
    assert_eq!(known, ["HUP", "KILL", "TERM", "CONT"]);
    assert_eq!(Signal::parse("SIGPOLL").map(Signal::name), Ok("IO"));
    assert_eq!(Signal::parse("9x"), Err(UnknownSignal::Name));
}

#[test]
fn exits_are_a_set() {
    let all: Vec<Exit> = (0..=255)
        .map(Exit::Code)
        .chain((0..64).map(Exit::Signal))
        .collect();
    for one in &all {
        let set = SuccessExit::NONE.with(*one);
        let found: Vec<Exit> = all
            .iter()
            .copied()
            .filter(|exit| set.contains(*exit))
            .collect();
        assert_eq!(found, [*one]);
        assert_eq!(set.all().collect::<Vec<_>>(), [*one]);
    }
    let both = SuccessExit::NONE
        .with(Exit::Code(3))
        .with(Exit::Signal(15))
        .with(Exit::Code(200));
    let members = [Exit::Code(3), Exit::Code(200), Exit::Signal(15)];
    assert_eq!(both.all().collect::<Vec<_>>(), members);
    assert_eq!(both.with(Exit::OutOfMemory), both);
    assert!(!both.contains(Exit::OutOfMemory) && !both.contains(Exit::Code(0)));
    // A status has eight bits.
    assert_eq!(
        SuccessExit::NONE.with(Exit::Code(256 + 4)),
        SuccessExit::NONE.with(Exit::Code(4))
    );
    assert_eq!(SuccessExit::NONE.all().count(), 0);
}

#[test]
fn an_end_tells_how_it_came() {
    let error = SpawnError {
        step: Step::Exec,
        errno: 2,
        item: 0,
    };
    let fault = Fault::TimedOut;
    let hook = Hook::Stop;
    let none = [
        Failure::Spawn(error),
        Failure::StartTimeout,
        Failure::StopTimeout,
        Failure::Unready,
        Failure::Health { attempts: 1 },
        Failure::Watchdog,
        Failure::Trouble,
        Failure::Hook { hook, fault },
    ];
    for why in none {
        assert_eq!(
            (End::Failure(why).exit(), End::Failure(why).code()),
            (None, None),
            "{why:?}"
        );
        assert!(!End::Failure(why).is_success());
    }
    for (end, exit, code, is_success) in [
        (End::Asked(Exit::Code(3)), Exit::Code(3), Some(3), false),
        (End::Success(Exit::Signal(15)), Exit::Signal(15), None, true),
        (End::Success(Exit::Code(0)), Exit::Code(0), Some(0), true),
        (
            End::Failure(Failure::ExitCode(7)),
            Exit::Code(7),
            Some(7),
            false,
        ),
        (
            End::Failure(Failure::Signal(9)),
            Exit::Signal(9),
            None,
            false,
        ),
        (
            End::Failure(Failure::OutOfMemory),
            Exit::OutOfMemory,
            None,
            false,
        ),
    ] {
        assert_eq!(
            (end.exit(), end.code(), end.is_success()),
            (Some(exit), code, is_success)
        );
    }
}

#[test]
fn a_spec_is_what_its_parts_are() {
    let hook = |line: &str| HookSpec {
        exec: Exec::Line(line.to_owned()),
        timeout: Duration::from_secs(1),
    };
    let hooks = Hooks {
        pre_start: Some(hook("a")),
        post_start: Some(hook("b")),
        stop: Some(hook("c")),
        post_stop: Some(hook("d")),
        reload: Some(hook("e")),
    };
    let all = [
        Hook::PreStart,
        Hook::PostStart,
        Hook::Stop,
        Hook::PostStop,
        Hook::Reload,
    ];
    let names = ["pre_start", "post_start", "stop", "post_stop", "reload"];
    for ((which, name), line) in all.into_iter().zip(names).zip(["a", "b", "c", "d", "e"]) {
        assert_eq!(which.name(), name);
        assert_eq!(hooks.get(which), Some(&hook(line)));
        assert_eq!(Hooks::default().get(which), None);
    }
    let expect = Expect(vec![Statuses::One(404), Statuses::Class(2)]);
    let allowed: Vec<u16> = (0..1000).filter(|status| expect.allows(*status)).collect();
    assert_eq!(allowed, (200..300).chain([404]).collect::<Vec<_>>());
    assert_eq!(Exec::Line(" run  it".to_owned()).first_word(), "run");
    assert_eq!(Exec::Line("  ".to_owned()).first_word(), "  ");
    assert_eq!(
        Exec::Words(vec!["run me".to_owned(), "x".to_owned()]).first_word(),
        "run me"
    );
    assert_eq!(Exec::Words(Vec::new()).first_word(), "");
    let target = Spec::target("t");
    assert!(target.is_target() && !target.is_oneshot() && !target.is_activated());
    assert!(target.program().is_none() && target.ports().is_empty() && !target.critical);
    let service = program();
    assert!(!service.is_target() && !service.is_oneshot() && !service.is_activated());
    let of = service.program().expect("a program");
    assert!(!of.oneshot && !of.kill_others && of.env_inherit.is_none());
    assert!(service.ports().is_empty());
    assert_eq!(
        (service.status, service.class),
        (Status::Start, Class::User)
    );
    assert_eq!((service.health, service.watchdog), (None, None));
}

/// As with zinit 0.3.9.
#[test]
fn defaults_are_those_of_old() {
    let life = Lifecycle::default();
    let secs = Duration::from_secs;
    assert_eq!(
        (life.restart, life.kill_mode),
        (RestartPolicy::OnFailure, KillMode::Tree)
    );
    assert_eq!(
        (life.restart_delay, life.restart_delay_max),
        (secs(1), secs(300))
    );
    assert_eq!((life.max_restarts, life.stability_period), (10, secs(30)));
    assert_eq!(
        (life.start_timeout, life.stop_timeout),
        (secs(30), secs(10))
    );
    assert_eq!((life.stop_signal, life.reload_signal), (Signal::TERM, None));
    assert_eq!(life.success_exit.all().collect::<Vec<_>>(), [Exit::Code(0)]);
    assert!(!life.restart_dependents && !life.survive_switch_root);
    let logging = Logging::default();
    assert_eq!(
        (logging.buffer_lines, logging.max_size),
        (1000, 10 * 1024 * 1024)
    );
    assert_eq!((logging.max_files, logging.mode), (5, 0o640));
    assert_eq!((logging.file, logging.forward), (None, None));
}

#[test]
fn who_connects_there_comes_here() {
    let parse = |text: &str| Address::parse(text).expect(text);
    for (here, there, comes) in [
        ("127.0.0.1:80", "127.0.0.1:80", true),
        ("127.0.0.1:80", "127.0.0.1:81", false),
        ("127.0.0.1:80", "127.0.0.2:80", false),
        ("*:80", "127.0.0.2:80", true),
        ("*:80", "127.0.0.2:81", false),
        ("*:80", "[::1]:80", false),
        ("[::]:80", "[::1]:80", true),
        ("[::]:80", "127.0.0.1:80", true),
        ("[::1]:80", "[::2]:80", false),
        ("127.0.0.1:80", "*:80", false),
        ("unix:/run/a", "unix:/run/a", true),
        ("unix:/run/a", "unix:/run/./x/../a", true),
        ("unix:/run/a", "unix:/run/b", false),
        ("unix:/run/a", "unix:/a", false),
        ("unix:/run/a", "127.0.0.1:80", false),
        ("127.0.0.1:80", "unix:/run/a", false),
    ] {
        assert_eq!(
            parse(here).is_reached_by(&parse(there)),
            comes,
            "{here} from {there}"
        );
    }
    let long = |length: usize| format!("/{}", "x".repeat(length - 1));
    assert_eq!(
        Address::parse(&long(107)),
        Ok(Address::Unix(PathBuf::from(long(107))))
    );
    assert!(Address::parse(&long(108)).is_err());
    assert!(Address::parse("/run/\0").is_err_and(|error| error.contains("107 bytes")));
    assert!(Address::parse("80").is_err_and(|error| error.contains("tcp:HOST:PORT")));
    assert!(Address::parse("host:80").is_err_and(|error| error.contains("not looked up")));
    assert!(Address::parse("host:x").is_err_and(|error| error.contains("tcp:HOST:PORT")));
    assert!(Address::parse("run/x").is_err_and(|error| error.contains("begins with a '/'")));
}

#[test]
fn what_confines_is_read_as_it_is_written() {
    for (limit, name) in Rlimit::ALL {
        assert_eq!(limit.name(), name);
    }
    let names: BTreeSet<&str> = Rlimit::ALL.iter().map(|(limit, _)| limit.name()).collect();
    assert_eq!(names.len(), Rlimit::ALL.len());
    let mut set = Capabilities(0);
    assert!(!set.add("CAP_FLY"));
    assert_eq!((set, set.names()), (Capabilities(0), Vec::new()));
    assert!(set.add("checkpoint_restore") && set.add("Cap_Kill") && set.add("KILL"));
    assert_eq!(set, Capabilities(1 << 40 | 1 << 5));
    assert_eq!(set.names(), ["CAP_KILL", "CAP_CHECKPOINT_RESTORE"]);
    assert_eq!(
        IoPriority::parse("best-effort"),
        Some(IoPriority::BestEffort(4))
    );
    assert_eq!(IoPriority::parse("realtime"), Some(IoPriority::Realtime(4)));
    assert_eq!(
        IoPriority::parse("best-effort:7")
            .map(|p| p.to_string())
            .as_deref(),
        Some("best-effort:7")
    );
    assert_eq!(IoPriority::parse("realtime:8"), None);
    let limit = |text: &str| Limit::parse(Rlimit::Core, text).map(|limit| (limit.soft, limit.hard));
    assert_eq!(limit("5"), Some((Some(5), Some(5))));
    assert_eq!(limit("5:5"), Some((Some(5), Some(5))));
    assert_eq!(limit(" 5 : infinity "), Some((Some(5), None)));
    assert_eq!(limit("unlimited"), Some((None, None)));
    for (text, number) in [
        ("0", Some(0)),
        ("7", Some(7)),
        (" 1k ", Some(1 << 10)),
        ("2M", Some(2 << 20)),
        ("3G", Some(3 << 30)),
        ("4 TB", Some(4 << 40)),
        ("5b", Some(5)),
        ("18446744073709551615", Some(u64::MAX)),
        ("18446744073709551616", None),
        ("", None),
        ("K", None),
        ("1P", None),
        ("-1", None),
    ] {
        assert_eq!(bytes(text), number, "{text}");
    }
}

/// What is asked of the supervisor as a whole.
#[test]
fn a_supervisor_tells_of_all_its_services() {
    let mut system = Spec::target("system");
    system.class = Class::System;
    let mut above = Spec::new("above", Exec::Line("above".to_owned()));
    above.links.requires = vec!["it".into()];
    let mut top = Spec::target("top");
    top.links.requires = vec!["above".into(), "it".into()];
    top.links.after = vec!["system".into()];
    let mut bench = Bench::new(program(), vec![top, above, system]);
    let names = |all: &Supervisor, ids: &[ServiceId]| -> Vec<String> {
        let specs = ids.iter().filter_map(|id| all.service(*id));
        specs
            .map(|service| service.spec().name.to_string())
            .collect()
    };
    let ids: Vec<_> = bench.all.services().map(|(id, _)| id).collect();
    assert_eq!(names(&bench.all, &ids), ["above", "it", "system", "top"]);
    assert_eq!(
        names(&bench.all, &bench.all.users()),
        ["above", "it", "top"]
    );
    assert_eq!(
        names(&bench.all, &bench.all.with_requirers(&[bench.id])),
        ["it", "top", "above"]
    );
    assert_eq!(
        (bench.all.find("it"), bench.all.find("nobody")),
        (Some(bench.id), None)
    );
    assert!(bench.all.is_at_rest());
    let (system, _) = bench.other("system");
    assert_eq!(
        names(&bench.all, &bench.all.with_requirers(&[system])),
        ["system"]
    );
    // Somebody waits; a timer is set; there is a process.
    bench.command(Command::Wait {
        service: system,
        goal: zinit::engine::Goal::Running,
    });
    assert!(!bench.all.is_at_rest());
    bench.feed(Event::HungUp { ticket: Ticket(1) });
    assert!(bench.all.is_at_rest());
    bench.feed(Event::Command {
        ticket: None,
        patience: Patience::None,
        command: Command::Start {
            service: bench.id,
            deps: false,
        },
    });
    let service = bench.id;
    bench.feed(Event::Forked {
        service,
        pid: pid(9),
    });
    assert!(!bench.all.is_at_rest());
    bench.feed(Event::Started { pid: pid(9) });
    assert!(!bench.all.is_at_rest() && bench.all.next_deadline().is_none());
    assert_eq!(
        (bench.all.service_of(pid(9)), bench.all.service_of(pid(8))),
        (Some(service), None)
    );
    bench.feed(Event::Exited {
        pid: pid(9),
        exit: Exit::Code(1),
    });
    bench.feed(Event::Cleared { service });
    assert!(!bench.all.is_at_rest() && bench.all.next_deadline().is_some());
}

/// A main process hands over to a process that is nobody's; not to one of another service.
#[test]
fn nobody_hands_over_to_a_main_process() {
    let mut bench = Bench::new(
        program(),
        vec![Spec::new("other", Exec::Line("o".to_owned()))],
    );
    let (other, _) = bench.other("other");
    for (service, number) in [(bench.id, 5), (other, 6)] {
        bench.command(Command::Start {
            service,
            deps: true,
        });
        let pid = pid(number);
        bench.feed(Event::Forked { service, pid });
        bench.feed(Event::Started { pid });
    }
    bench.feed(Event::Handover {
        pid: pid(5),
        to: pid(6),
    });
    assert_eq!(bench.all.service_of(pid(5)), Some(bench.id));
    assert_eq!(bench.all.service_of(pid(6)), Some(other));
}

/// Without patience the answer comes at once, also to a command for many.
#[test]
fn without_patience_the_answer_comes_at_once() {
    let mut bench = Bench::new(program(), Vec::new());
    let service = bench.id;
    for (command, is_bulk) in [
        (
            Command::Start {
                service,
                deps: true,
            },
            false,
        ),
        (Command::StopAll, true),
        (Command::StartAll, true),
        (Command::RemoveAll, true),
    ] {
        bench.feed(Event::Command {
            ticket: Some(Ticket(4)),
            patience: Patience::None,
            command,
        });
        let replies: Vec<_> = bench.done.iter().filter_map(reply).cloned().collect();
        let expected = match is_bulk {
            false => Outcome::Done,
            true => Outcome::Bulk {
                services: vec!["it".into()],
                failed: Vec::new(),
            },
        };
        assert_eq!(replies, [expected]);
    }
}

/// Restarts are counted and told; what a probe found and how often it failed is told too.
#[test]
fn a_service_tells_of_its_run() {
    let mut spec = program();
    spec.health = Some(zinit::engine::spec::Health {
        probe: zinit::engine::spec::Probe::Exec("x".to_owned()),
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        retries: 5,
        start_period: Duration::ZERO,
        on_unhealthy: zinit::engine::spec::OnUnhealthy::Report,
    });
    let mut bench = Bench::new(spec, Vec::new());
    let service = bench.id;
    bench.command(Command::Start {
        service,
        deps: true,
    });
    bench.feed(Event::Forked {
        service,
        pid: pid(9),
    });
    bench.feed(Event::Started { pid: pid(9) });
    assert_eq!(bench.service().restarts(), Restarts::default());
    let told = |bench: &Bench| (bench.service().health(), bench.service().failed_probes());
    let unknown = zinit::engine::Health::Unknown;
    assert_eq!(told(&bench), (unknown, 0));
    for failures in 1..=4 {
        bench.feed(Event::Deadline);
        bench.returned(false);
        assert_eq!(told(&bench), (unknown, failures));
        assert_eq!(bench.service().care().failures, failures);
        bench.pass(1000);
    }
    bench.feed(Event::Deadline);
    bench.returned(false);
    let since = bench.now;
    assert_eq!(
        told(&bench),
        (zinit::engine::Health::Unhealthy { since }, 5)
    );
    bench.pass(1000);
    bench.feed(Event::Deadline);
    bench.returned(true);
    let since = bench.now;
    assert_eq!(told(&bench), (zinit::engine::Health::Healthy { since }, 0));
    assert_eq!(bench.service().care().health, told(&bench).0);
    bench.feed(Event::Exited {
        pid: pid(9),
        exit: Exit::Code(1),
    });
    bench.feed(Event::Cleared { service });
    assert_eq!(told(&bench), (unknown, 0));
    assert_eq!(bench.service().restarts().count(), 1);
    assert!(matches!(bench.state(), State::Backoff { .. }));
}
