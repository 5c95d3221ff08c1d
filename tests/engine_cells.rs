//! Cells of the engine's behaviour as tables: each state by each fact, command and question. What
//! takes more than one service or more than one step is told in `tests/golden`.
//!
//! The states and the facts are those of the tables at the head of `engine/service.rs`.

#[path = "common/bench.rs"]
mod bench;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bench::{Bench, STATES, bench, bench_among, name, outcome, spec_for};
use zinit::engine::proxy::prospect;
use zinit::engine::spec::{Exec, Follow, Hook, Kind, Readiness, RestartPolicy};
use zinit::engine::{
    Action, Command, ErrandId, Event, Exit, Failure, Fault, Goal, Report, Signal, SpawnError, Spec,
    State, Step, Ticket, Want,
};

const ERROR: SpawnError = SpawnError {
    step: Step::Exec,
    errno: 2,
    item: 0,
};

/// A table of what comes of each state: a line for each, in columns.
fn table(columns: &[&str], cell: impl Fn(&str, &str) -> String) -> String {
    let head = std::iter::once("").chain(columns.iter().copied());
    let mut lines = vec![head.map(str::to_owned).collect::<Vec<_>>()];
    for state in STATES {
        let cells = columns.iter().map(|column| cell(state, column));
        lines.push(std::iter::once((*state).to_owned()).chain(cells).collect());
    }
    let width = |column: usize| {
        let cells = lines.iter().map(|line| line[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let shown = |line: &Vec<String>| {
        let cells = line.iter().enumerate();
        let cells = cells.map(|(at, cell)| format!("{cell:0$}", width(at)));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    lines.iter().map(shown).collect()
}

fn assert_table(found: &str, expected: &str) {
    let plain = |text: &str| -> Vec<String> {
        let cells = |line: &str| -> Vec<String> {
            let cells = line
                .split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty());
            cells.map(str::to_owned).collect()
        };
        let lines = text.lines().map(|line| cells(line).join("  "));
        lines.filter(|line| !line.is_empty()).collect()
    };
    assert_eq!(plain(found), plain(expected), "it is now\n{found}");
}

/// What comes of a fact: `×` for one that can't be, `-` for one that changes nothing.
fn after(bench: &mut Bench, event: Event) -> String {
    let before = (bench.state(), bench.service().want());
    // In a build for tests an anomaly is a panic; in others it is an action.
    let went = catch_unwind(AssertUnwindSafe(|| bench.feed(event)));
    let is_anomaly = |action: &Action| matches!(action, Action::Anomaly { .. });
    if went.is_err() || bench.done.iter().any(is_anomaly) {
        return "×".to_owned();
    }
    if (bench.state(), bench.service().want()) == before {
        return "-".to_owned();
    }
    name(bench.state())
}

/// Table 1. A fact about a process is nobody's in a state without one; a deadline comes only where
/// there is one.
#[test]
fn facts_push() {
    let columns = [
        "forked",
        "fork failed",
        "obstructed",
        "started",
        "exec failed",
        "exited",
        "cleared",
        "deadline",
    ];
    let cell = |state: &str, fact: &str| {
        let mut bench = bench(state);
        let service = bench.id;
        let pid = bench.state().pid().unwrap_or(bench::pid(77));
        let event = match fact {
            "forked" => Event::Forked {
                service,
                pid: bench::pid(50),
            },
            "fork failed" => Event::ForkFailed {
                service,
                error: ERROR,
                scarce: false,
            },
            "obstructed" => Event::Obstructed { service },
            "started" => Event::Started { pid },
            "exec failed" => Event::ExecFailed { pid, error: ERROR },
            "exited" => Event::Exited {
                pid,
                exit: Exit::Code(3),
            },
            "cleared" => Event::Cleared { service },
            _ => {
                let deadline = bench.all.next_deadline();
                bench.now = deadline.unwrap_or(bench.now);
                Event::Deadline
            }
        };
        after(&mut bench, event)
    };
    assert_table(
        &table(&columns, cell),
        r"
                   forked    fork failed  obstructed  started  exec failed           exited         cleared  deadline
Inactive           ×         ×            ×           -        -                     -              -        -
Blocked            ×         ×            ×           -        -                     -              -        -
Obstructed         ×         ×            ×           -        -                     -              -        Forking
Preparing          ×         ×            Obstructed  -        -                     -              -        Clearing
Forking            Spawning  Backoff      Obstructed  -        -                     -              ×        -
Spawning           ×         ×            ×           Running  Stopping kill failed  Clearing       ×        Stopping kill failed
Starting           ×         ×            ×           ×        ×                     Clearing       ×        Stopping failed
Starting by hook   ×         ×            ×           ×        ×                     Clearing       ×        Stopping failed
Running            ×         ×            ×           ×        ×                     Clearing       ×        -
Running target     ×         ×            ×           -        -                     -              -        -
Stopping by hook   ×         ×            ×           -        -                     Clearing hook  ×        Stopping
Stopping           ×         ×            ×           -        -                     Clearing       ×        Stopping kill
Stopping by force  ×         ×            ×           -        -                     Clearing kill  ×        Failed
Falling            ×         ×            ×           -        -                     Clearing       ×        Stopping kill failed
Clearing by hook   ×         ×            ×           -        -                     -              ×        Clearing
Clearing           ×         ×            ×           -        -                     -              Exited   Clearing kill
Clearing by force  ×         ×            ×           -        -                     -              Exited   Failed
Clearing a hook    ×         ×            ×           -        -                     -              Exited   Clearing kill
Trailing           ×         ×            ×           -        -                     -              ×        Clearing
Backoff            ×         ×            ×           -        -                     -              -        Forking
Exited             ×         ×            ×           -        -                     -              -        -
Failed             ×         ×            ×           -        -                     -              -        -
Unkillable         ×         ×            ×           -        -                     -              -        -
",
    );
}

/// What programs and errands say moves the state that waits for it, and is nothing to any other.
#[test]
fn what_is_said_moves_who_waits() {
    let columns = [
        "ready",
        "hook went well",
        "hook failed",
        "trouble",
        "handover",
        "extend",
        "called",
    ];
    let cell = |state: &str, word: &str| {
        let mut bench = bench(state);
        let pid = bench.state().pid().unwrap_or(bench::pid(77));
        let deadline = bench.state().deadline();
        let service = bench.id;
        let event = match word {
            "ready" => Event::Ready { pid },
            "hook went well" | "hook failed" => Event::Returned {
                service,
                errand: bench.errand,
                report: match word {
                    "hook failed" => Report::Ended(Exit::Code(4)),
                    _ => Report::Success,
                },
            },
            "trouble" => Event::Trouble { pid },
            "handover" => Event::Handover {
                pid,
                to: bench::pid(55),
            },
            "extend" => Event::Extend {
                pid,
                by: Duration::from_secs(60),
            },
            _ => Event::Called { service },
        };
        let said = after(&mut bench, event);
        match word {
            "handover" => match bench.all.service_of(bench::pid(55)) {
                Some(_) => "it is".to_owned(),
                None => said,
            },
            "extend" if bench.state().deadline() == deadline => "-".to_owned(),
            "extend" => {
                let until = bench.state().deadline().expect("a deadline");
                format!("{:?}", until.since(bench.now))
            }
            _ => said,
        }
    };
    assert_table(
        &table(&columns, cell),
        r"
                   ready    hook went well  hook failed      trouble          handover  extend  called
Inactive           -        -               -                -                -         -       -
Blocked            -        -               -                -                -         -       -
Obstructed         -        -               -                -                -         -       -
Preparing          -        Forking         Clearing         -                -         -       -
Forking            -        -               -                -                -         -       -
Spawning           -        -               -                -                -         -       -
Starting           Running  -               -                Stopping failed  it is     60s     -
Starting by hook   -        Running         Stopping failed  Stopping failed  it is     -       -
Running            -        -               -                Stopping failed  it is     -       -
Running target     -        -               -                -                -         -       -
Stopping by hook   -        Stopping        Stopping         -                it is     60s     -
Stopping           -        -               -                -                it is     60s     -
Stopping by force  -        -               -                -                it is     -       -
Falling            -        -               -                -                it is     60s     -
Clearing by hook   -        Clearing        Clearing         -                -         -       -
Clearing           -        -               -                -                -         -       -
Clearing by force  -        -               -                -                -         -       -
Clearing a hook    -        -               -                -                -         -       -
Trailing           -        Clearing        Clearing         -                -         -       -
Backoff            -        -               -                -                -         -       -
Exited             -        -               -                -                -         -       -
Failed             -        -               -                -                -         -       -
Unkillable         -        -               -                -                -         -       -
",
    );
}

/// What a command brings about at once: the state and the want, and what is answered at once.
#[test]
fn commands_set_wants() {
    let columns = [
        "start",
        "stop",
        "restart",
        "remove",
        "put",
        "put a change",
        "shutdown",
        "again",
    ];
    let cell = |state: &str, word: &str| {
        let mut bench = bench(state);
        let service = bench.id;
        let shutdown = Command::Shutdown {
            within: None,
            spare: false,
        };
        let mut other = spec_for(state);
        other.lifecycle.stop_timeout = Duration::from_millis(50);
        let command = match word {
            "start" => Command::Start {
                service,
                deps: true,
            },
            "stop" => Command::Stop { service },
            "restart" => Command::Restart { service },
            "remove" => Command::Remove { service },
            "put" => Command::Put {
                spec: spec_for(state).into(),
            },
            "put a change" => Command::Put { spec: other.into() },
            _ => shutdown.clone(),
        };
        bench.command(command);
        if word == "again" {
            bench.command(shutdown);
        }
        let answer = match outcome(&bench.done) {
            Some(answer) if !word.starts_with("put") && answer != "done" => format!("/{answer}"),
            Some(answer) if answer == "done" => "/done".to_owned(),
            _ => String::new(),
        };
        let Some(found) = bench.all.service(bench.id) else {
            return format!("gone{answer}");
        };
        format!(
            "{}+{:?}{answer}",
            name(found.state()).replace(' ', "-"),
            found.want()
        )
    };
    assert_table(
        &table(&columns, cell),
        r"
                   start                        stop                      restart                      remove                    put                 put a change        shutdown                       again
Inactive           Forking+Up                   Inactive+Down/done        Forking+Up                   gone/done                 Inactive+Down       Inactive+Down       Inactive+Down/done             Inactive+Down/done
Blocked            Blocked-Missing+Up/blocked   Inactive+Down/done        Blocked-Missing+Up/blocked   gone/done                 Blocked-Missing+Up  Blocked-Missing+Up  Inactive+Down/done             Inactive+Down/done
Obstructed         Forking+Up                   Inactive+Down/done        Forking+Up                   gone/done                 Obstructed+Up       Obstructed+Up       Inactive+Down/done             Inactive+Down/done
Preparing          Preparing+Up                 Clearing+Down/superseded  Clearing+Up                  Clearing+Gone/superseded  Preparing+Up        Preparing+Up        Clearing+Down/done superseded  Clearing-kill+Down/done
Forking            Forking+Up                   Forking+Down/superseded   Forking+Cycle                Forking+Gone/superseded   Forking+Up          Forking+Up          Forking+Down/done superseded   Forking+Down/done
Spawning           Spawning+Up                  Stopping+Down/superseded  Stopping+Up                  Stopping+Gone/superseded  Spawning+Up         Spawning+Up         Stopping+Down/done superseded  Stopping-kill+Down/done
Starting           Starting+Up                  Stopping+Down/superseded  Stopping+Up                  Stopping+Gone/superseded  Starting+Up         Starting+Up         Stopping+Down/done superseded  Stopping-kill+Down/done
Starting by hook   Starting-hook+Up             Stopping+Down/superseded  Stopping+Up                  Stopping+Gone/superseded  Starting-hook+Up    Starting-hook+Up    Stopping+Down/done superseded  Stopping-kill+Down/done
Running            Running+Up/done              Stopping+Down             Stopping+Up                  Stopping+Gone             Running+Up          Running+Up          Stopping+Down/done             Stopping-kill+Down/done
Running target     Running+Up/done              Inactive+Down/done        Running+Up/done              gone/done                 Running+Up          Running+Up          Inactive+Down/done             Inactive+Down/done
Stopping by hook   Stopping-hook+Up/superseded  Stopping-hook+Down        Stopping-hook+Up/superseded  Stopping-hook+Gone        Stopping-hook+Down  Stopping-hook+Down  Stopping-hook+Down/done        Stopping-kill+Down/done
Stopping           Stopping+Up/superseded       Stopping+Down             Stopping+Up/superseded       Stopping+Gone             Stopping+Down       Stopping+Down       Stopping+Down/done             Stopping-kill+Down/done
Stopping by force  Stopping-kill+Up/superseded  Stopping-kill+Down        Stopping-kill+Up/superseded  Stopping-kill+Gone        Stopping-kill+Down  Stopping-kill+Down  Stopping-kill+Down/done        Stopping-kill+Down/done
Falling            Stopping-failed+Up           Stopping-failed+Down      Stopping-failed+Cycle         Stopping-failed+Gone      Stopping-failed+Up  Stopping-failed+Up  Stopping-failed+Down/done      Stopping-kill-failed+Down/done
Clearing by hook   Clearing-hook+Up/superseded  Clearing-hook+Down        Clearing-hook+Up/superseded  Clearing-hook+Gone        Clearing-hook+Down  Clearing-hook+Down  Clearing-hook+Down/done        Clearing-kill+Down/done
Clearing           Clearing+Up                  Clearing+Down             Clearing+Cycle               Clearing+Gone             Clearing+Up         Clearing+Up         Clearing+Down/done             Clearing-kill+Down/done
Clearing by force  Clearing-kill+Up             Clearing-kill+Down        Clearing-kill+Cycle          Clearing-kill+Gone        Clearing-kill+Up    Clearing-kill+Up    Clearing-kill+Down/done        Clearing-kill+Down/done
Clearing a hook    Clearing+Up                  Clearing+Down             Clearing+Cycle               Clearing+Gone             Clearing+Up         Clearing+Up         Clearing+Down/done             Clearing-kill+Down/done
Trailing           Trailing+Up                  Trailing+Down             Trailing+Cycle               Trailing+Gone             Trailing+Up         Trailing+Up         Trailing+Down/done             Clearing-kill+Down/done
Backoff            Forking+Up                   Inactive+Down/done        Forking+Up                   gone/done                 Backoff+Up          Forking+Up          Inactive+Down/done             Inactive+Down/done
Exited             Forking+Up                   Exited+Down/done          Forking+Up                   gone/done                 Exited+Up           Exited+Up           Exited+Down/done               Exited+Down/done
Failed             Forking+Up                   Inactive+Down/done        Forking+Up                   gone/done                 Failed+Up           Forking+Up          Inactive+Down/done             Inactive+Down/done
Unkillable         Forking+Up                   Failed+Down/failed        Forking+Up                   gone/done                 Failed+Down         Failed+Down         Failed+Down/done               Failed+Down/done
",
    );
}

/// Whether each goal is decided, by state, and which of them are when it is wanted otherwise.
#[test]
fn goals_are_decided() {
    let goals = [
        ("start", Goal::Start),
        ("stop", Goal::Stop),
        ("running", Goal::Running),
        ("stopped", Goal::Stopped),
        ("exited", Goal::Exited),
        ("refresh", Goal::Refresh),
        ("gone", Goal::Gone),
    ];
    let cell = |state: &str, word: &str| {
        let mut bench = bench(state);
        let (_, goal) = goals
            .iter()
            .find(|(name, _)| *name == word)
            .expect("a goal");
        bench.command(Command::Wait {
            service: bench.id,
            goal: *goal,
        });
        outcome(&bench.done).unwrap_or("-".to_owned())
    };
    let columns = goals.map(|(name, _)| name);
    assert_table(
        &table(&columns, cell),
        r"
                   start       stop        running  stopped  exited  refresh  gone
Inactive           superseded  done        -        done     -       failed   superseded
Blocked            blocked     superseded  -        done     -       failed   superseded
Obstructed         blocked     superseded  -        done     -       failed   superseded
Preparing          -           superseded  -        -        -       failed   superseded
Forking            -           superseded  -        -        -       failed   superseded
Spawning           -           superseded  -        -        -       failed   superseded
Starting           -           superseded  -        -        -       failed   superseded
Starting by hook   -           superseded  -        -        -       failed   superseded
Running            done        superseded  done     -        -       failed   superseded
Running target     done        superseded  done     -        -       failed   superseded
Stopping by hook   superseded  -           -        -        -       failed   superseded
Stopping           superseded  -           -        -        -       failed   superseded
Stopping by force  superseded  -           -        -        -       failed   superseded
Falling            -           superseded  -        -        -       failed   superseded
Clearing by hook   superseded  -           -        -        -       failed   superseded
Clearing           -           superseded  -        -        -       failed   superseded
Clearing by force  -           superseded  -        -        -       failed   superseded
Clearing a hook    -           superseded  -        -        -       failed   superseded
Trailing           -           superseded  -        -        -       failed   superseded
Backoff            failed      superseded  -        -        done    failed   superseded
Exited             done        superseded  done     done     done    failed   superseded
Failed             failed      superseded  failed   done     done    failed   superseded
Unkillable         superseded  failed      failed   done     done    failed   superseded
",
    );
}

/// What is asked of a state.
#[test]
fn a_state_says_of_itself() {
    let columns = [
        "pid", "since", "program", "deadline", "active", "met", "coming", "holds", "call",
    ];
    let cell = |state: &str, word: &str| {
        let bench = bench(state);
        let (service, state) = (bench.service(), bench.state());
        let yes = |yes: bool| if yes { "yes" } else { "-" }.to_owned();
        match word {
            "pid" => state.pid().map_or("-".to_owned(), |pid| pid.to_string()),
            "since" => state
                .since()
                .map_or("-".to_owned(), |since| format!("{since:?}")),
            "program" => yes(state.has_program()),
            "deadline" => state
                .deadline()
                .map_or("-".to_owned(), |at| format!("{at:?}")),
            "active" => yes(state.is_active()),
            "met" => yes(service.is_met()),
            "coming" => yes(service.is_coming_up()),
            "holds" => yes(service.holds_back_rivals()),
            _ => yes(service.awaits_call()),
        }
    };
    assert_table(
        &table(&columns, cell),
        r"
                   pid  since   program  deadline  active  met  coming  holds  call
Inactive           -    -       -        -         -       -    -       -      -
Blocked            -    -       -        -         -       -    -       -      -
Obstructed         -    -       -        3000ms    -       -    -       -      -
Preparing          -    -       -        1300ms    yes     -    yes     yes    -
Forking            -    -       -        -         yes     -    yes     yes    -
Spawning           10   1000ms  -        31000ms   yes     -    yes     yes    -
Starting           10   1005ms  yes      31005ms   yes     -    yes     yes    -
Starting by hook   10   1005ms  yes      1305ms    yes     -    yes     yes    -
Running            10   1005ms  yes      -         yes     yes  -       yes    -
Running target     -    1000ms  -        -         yes     yes  -       yes    -
Stopping by hook   10   -       -        1310ms    yes     -    -       yes    -
Stopping           10   -       -        11010ms   yes     -    -       yes    -
Stopping by force  10   -       -        16010ms   yes     -    -       yes    -
Falling            10   -       -        11010ms   yes     -    -       yes    -
Clearing by hook   -    -       -        1310ms    yes     -    -       yes    -
Clearing           -    -       -        11010ms   yes     -    -       yes    -
Clearing by force  -    -       -        16010ms   yes     -    -       yes    -
Clearing a hook    -    -       -        11010ms   yes     -    -       yes    -
Trailing           -    -       -        1310ms    yes     -    -       yes    -
Backoff            -    -       -        2010ms    -       -    -       yes    -
Exited             -    -       -        -         -       yes  -       -      -
Failed             -    -       -        -         -       -    -       -      -
Unkillable         -    -       -        -         -       -    -       -      -
",
    );
}

/// What a client of a proxy may hope for, before and after the service was started for it; and what
/// a signal and a reload come to.
#[test]
fn what_a_client_may_hope_for() {
    let columns = ["prospect", "when asked", "signal", "refresh"];
    let cell = |state: &str, word: &str| {
        let mut bench = bench(state);
        let service = bench.id;
        match word {
            "prospect" => format!("{:?}", prospect(bench.state(), false)),
            "when asked" => format!("{:?}", prospect(bench.state(), true)),
            "signal" => {
                let signal = Signal::HUP;
                bench.command(Command::Signal { service, signal });
                outcome(&bench.done).unwrap_or("-".to_owned())
            }
            _ => {
                bench.command(Command::Refresh { service });
                outcome(&bench.done).unwrap_or("-".to_owned())
            }
        }
    };
    assert_table(
        &table(&columns, cell),
        r"
                   prospect  when asked  signal      refresh
Inactive           Start     Hopeless    NotRunning  NotRunning
Blocked            Start     Hopeless    NotRunning  NotRunning
Obstructed         Wait      Wait        NotRunning  NotRunning
Preparing          Wait      Wait        NotRunning  NotRunning
Forking            Wait      Wait        NotRunning  NotRunning
Spawning           Wait      Wait        done        NotRunning
Starting           Wait      Wait        done        NoReload
Starting by hook   Wait      Wait        done        NoReload
Running            Try       Try         done        NoReload
Running target     Try       Try         NotRunning  NotRunning
Stopping by hook   Wait      Wait        done        NotRunning
Stopping           Wait      Wait        done        NotRunning
Stopping by force  Wait      Wait        done        NotRunning
Falling            Wait      Wait        done        NotRunning
Clearing by hook   Wait      Wait        NotRunning  NotRunning
Clearing           Wait      Wait        NotRunning  NotRunning
Clearing by force  Wait      Wait        NotRunning  NotRunning
Clearing a hook    Wait      Wait        NotRunning  NotRunning
Trailing           Wait      Wait        NotRunning  NotRunning
Backoff            Wait      Wait        NotRunning  NotRunning
Exited             Start     Hopeless    NotRunning  NotRunning
Failed             Start     Hopeless    NotRunning  NotRunning
Unkillable         Start     Hopeless    NotRunning  NotRunning
",
    );
}

/// What it wants is started along, unless it is on its way itself. Who is to follow another one that
/// has failed is started where it is down or done.
#[test]
fn a_start_leads_to_others() {
    let columns = [
        "starts along",
        "as a wish",
        "and along",
        "as a sequel",
        "and its along",
    ];
    let cell = |state: &str, word: &str| {
        let wants = |spec: &mut Spec| spec.links.wants = vec!["along".into()];
        let mut fails = Spec::new("fails", Exec::Line("false".to_owned()));
        fails.sequel.on_failure = Follow::Start("it".into());
        fails.lifecycle.restart = RestartPolicy::Never;
        let mut wishes = Spec::target("wishes");
        wishes.links.wants = vec!["it".into()];
        let along = Spec::new("along", Exec::Line("along".to_owned()));
        let mut bench = bench_among(state, wants, vec![fails, along, wishes]);
        let service = bench.id;
        let start = |service| Command::Start {
            service,
            deps: true,
        };
        match word {
            "starts along" => {
                let (along, _) = bench.other("along");
                bench.command(Command::Stop { service: along });
                bench.command(start(service));
                format!("{:?}", bench.other("along").1.want())
            }
            "and along" => {
                let (along, _) = bench.other("along");
                let (wishes, _) = bench.other("wishes");
                bench.command(Command::Stop { service: along });
                bench.command(start(wishes));
                format!("{:?}", bench.other("along").1.want())
            }
            "as a wish" => {
                let (wishes, _) = bench.other("wishes");
                bench.command(start(wishes));
                format!("{} {:?}", name(bench.state()), bench.service().want())
            }
            _ => {
                if word == "and its along" {
                    let (along, _) = bench.other("along");
                    bench.command(Command::Stop { service: along });
                }
                let (fails, _) = bench.other("fails");
                bench.command(start(fails));
                let pid = bench::pid(30);
                bench.feed(Event::Forked {
                    service: fails,
                    pid,
                });
                bench.feed(Event::Exited {
                    pid,
                    exit: Exit::Code(1),
                });
                bench.feed(Event::Cleared { service: fails });
                if word == "and its along" {
                    return format!("{:?}", bench.other("along").1.want());
                }
                format!("{} {:?}", name(bench.state()), bench.service().want())
            }
        }
    };
    assert_table(
        &table(&columns, cell),
        r"
                   starts along  as a wish           and along  as a sequel         and its along
Inactive           Up            Forking Up          Up         Forking Up          Up
Blocked            Up            Blocked Missing Up  Up         Blocked Missing Up  Down
Obstructed         Up            Obstructed Up       Up         Forking Up          Down
Preparing          Down          Preparing Up        Down       Preparing Up        Down
Forking            Down          Forking Up          Down       Forking Up          Down
Spawning           Down          Spawning Up         Down       Spawning Up         Down
Starting           Down          Starting Up         Down       Starting Up         Down
Starting by hook   Down          Starting hook Up    Down       Starting hook Up    Down
Running            Down          Running Up          Down       Running Up          Down
Running target     Down          Running Up          Down       Running Up          Down
Stopping by hook   Up            Stopping hook Up    Up         Stopping hook Up    Up
Stopping           Up            Stopping Up         Up         Stopping Up         Up
Stopping by force  Up            Stopping kill Up    Up         Stopping kill Up    Up
Falling            Up            Stopping failed Up  Up         Stopping failed Up  Down
Clearing by hook   Up            Clearing hook Up    Up         Clearing hook Up    Up
Clearing           Up            Clearing Up         Up         Clearing Up         Down
Clearing by force  Up            Clearing kill Up    Up         Clearing kill Up    Down
Clearing a hook    Up            Clearing Up         Up         Clearing Up         Down
Trailing           Up            Trailing Up         Up         Trailing Up         Down
Backoff            Up            Backoff Up          Up         Backoff Up          Down
Exited             Up            Exited Up           Down       Forking Up          Up     
Failed             Up            Forking Up          Up         Failed Up           Down
Unkillable         Up            Forking Up          Up         Failed Down         Down
",
    );
}

/// An errand that was recalled, or was never sent, is nobody's.
#[test]
fn a_stray_errand_is_nobodys() {
    for state in STATES {
        let mut bench = bench(state);
        let stray = Event::Returned {
            service: bench.id,
            errand: ErrandId(bench.errand.0 + 7),
            report: Report::Failed,
        };
        assert_eq!(after(&mut bench, stray), "-", "{state}");
        assert!(bench.done.is_empty(), "{state}: {:?}", bench.done);
    }
}

/// How a hook failed is told as it was.
#[test]
fn the_fault_of_a_hook_is_what_was_reported() {
    let reports = [
        (Report::Failed, Fault::Ended(Exit::Code(1))),
        (
            Report::Ended(Exit::Signal(9)),
            Fault::Ended(Exit::Signal(9)),
        ),
        (Report::NotRun(ERROR), Fault::NotRun(ERROR)),
    ];
    for (report, fault) in reports {
        let mut bench = bench("Starting by hook");
        let (service, errand) = (bench.id, bench.errand);
        bench.feed(Event::Returned {
            service,
            errand,
            report,
        });
        let why = Failure::Hook {
            hook: Hook::PostStart,
            fault,
        };
        let State::Stopping { failure, .. } = bench.state() else {
            panic!("it goes on: {:?}", bench.service());
        };
        assert_eq!(failure, Some(why));
        // And so with a reload, which does not end the service.
        let reload = |spec: &mut Spec| spec.hooks.reload = spec_for("Preparing").hooks.pre_start;
        let mut bench = bench_among("Running", reload, Vec::new());
        bench.command(Command::Refresh { service });
        assert_eq!(bench.service().care().reload_fault(), None);
        bench.feed(Event::Returned {
            service,
            errand: bench.errand,
            report,
        });
        assert_eq!(outcome(&bench.done).as_deref(), Some("failed"));
        assert_eq!(bench.service().care().reload_fault(), Some(fault));
        // That is told until the next run.
        let pid = bench::pid(10);
        bench.feed(Event::Exited {
            pid,
            exit: Exit::Code(0),
        });
        bench.feed(Event::Cleared { service });
        assert_eq!(bench.service().care().reload_fault(), Some(fault));
        bench.command(Command::Start {
            service,
            deps: true,
        });
        bench.feed(Event::Forked {
            service,
            pid: bench::pid(11),
        });
        bench.feed(Event::Started {
            pid: bench::pid(11),
        });
        assert_eq!(bench.service().care().reload_fault(), None);
    }
}

/// A run that ends takes its reload with it, and leaves what came of an earlier one.
#[test]
fn a_run_that_ends_ends_its_reload() {
    let reload = |spec: &mut Spec| spec.hooks.reload = spec_for("Preparing").hooks.pre_start;
    let stopped = |refresh: bool, comes_back: bool| {
        let mut bench = bench_among("Running", reload, Vec::new());
        let service = bench.id;
        if refresh {
            bench.command(Command::Refresh { service });
        }
        if comes_back {
            bench.returned(true);
        }
        bench.command(Command::Stop { service });
        bench.service().care().reload_fault()
    };
    assert_eq!(stopped(true, false), Some(Fault::Ended(Exit::Signal(15))));
    assert_eq!(stopped(true, true), None);
    assert_eq!(stopped(false, false), None);
}

/// Whether it is told or written or health: only where it is for the program to say, it is ready when
/// it says so.
#[test]
fn who_is_ready_when() {
    for (readiness, at_once, when_said) in [
        (Readiness::Spawn, true, true),
        (Readiness::Exit, true, true),
        (Readiness::Health, true, true),
        (Readiness::Notify, false, true),
        (Readiness::Fd(3), false, true),
        (Readiness::Log("up".to_owned()), false, true),
    ] {
        let waits = |spec: &mut Spec| spec.readiness = readiness.clone();
        let mut bench = bench_among("Running", waits, Vec::new());
        let is_up = |bench: &Bench| matches!(bench.state(), State::Running { .. });
        assert_eq!(is_up(&bench), at_once, "{readiness:?}");
        bench.feed(Event::Ready {
            pid: bench::pid(10),
        });
        assert_eq!(is_up(&bench), when_said, "{readiness:?}");
    }
}

/// The engine is asked about services that are no more, and by tickets that nobody holds.
#[test]
fn a_stale_id_is_nobodys() {
    let mut bench = bench("Inactive");
    let service = bench.id;
    bench.command(Command::Remove { service });
    assert_eq!(outcome(&bench.done).as_deref(), Some("done"));
    bench.command(Command::Put {
        spec: bench::program().into(),
    });
    // The new one has the old one's place, but is another one.
    let (new, _) = bench.other("it");
    assert_eq!(new.index(), service.index());
    assert_ne!(new, service);
    assert!(bench.all.service(service).is_none());
    let signal = Signal::HUP;
    for command in [
        Command::Start {
            service,
            deps: true,
        },
        Command::Stop { service },
        Command::Restart { service },
        Command::Remove { service },
        Command::Refresh { service },
        Command::Signal { service, signal },
        Command::Wait {
            service,
            goal: Goal::Stopped,
        },
    ] {
        bench.command(command.clone());
        assert_eq!(
            outcome(&bench.done).as_deref(),
            Some("Unknown"),
            "{command:?}"
        );
    }
    for event in [
        Event::Forked {
            service,
            pid: bench::pid(5),
        },
        Event::Cleared { service },
        Event::Obstructed { service },
        Event::Called { service },
        Event::HungUp { ticket: Ticket(5) },
    ] {
        bench.feed(event.clone());
        assert!(bench.done.is_empty(), "{event:?}: {:?}", bench.done);
    }
    assert!(bench.all.is_at_rest());
}

/// While all is being stopped nothing is started, and everything else goes on.
#[test]
fn a_shutdown_refuses_starts_alone() {
    let other = || Spec::new("other", Exec::Line("other".to_owned()));
    let signal = Signal::HUP;
    let commands = |service| {
        [
            (
                Command::Start {
                    service,
                    deps: true,
                },
                "ShuttingDown",
            ),
            (Command::Restart { service }, "ShuttingDown"),
            (Command::StartAll, "ShuttingDown"),
            (
                Command::Put {
                    spec: other().into(),
                },
                "ShuttingDown",
            ),
            (
                Command::Boot {
                    services: vec![service],
                },
                "ShuttingDown",
            ),
            (
                Command::Reload {
                    specs: Vec::new(),
                    keep: Vec::new(),
                    start: true,
                },
                "ShuttingDown",
            ),
            (Command::Signal { service, signal }, "done"),
            (Command::Refresh { service }, "NotRunning"),
            (
                Command::Wait {
                    service,
                    goal: Goal::Gone,
                },
                "superseded",
            ),
            (Command::Stop { service }, "-"),
            (Command::StopAll, "-"),
            (Command::RemoveAll, "-"),
            (Command::Remove { service }, "-"),
        ]
    };
    let service = bench("Running").id;
    for (command, answer) in commands(service) {
        let mut bench = bench("Running");
        assert!(!bench.all.is_closing());
        bench.command(Command::Shutdown {
            within: None,
            spare: false,
        });
        assert!(bench.all.is_closing());
        bench.command(command.clone());
        let found = outcome(&bench.done).unwrap_or("-".to_owned());
        assert_eq!(found, answer, "{command:?}");
        // Whoever waits still is told when all is down.
        bench.feed(Event::Exited {
            pid: bench::pid(10),
            exit: Exit::Signal(15),
        });
        bench.feed(Event::Cleared { service });
        assert!(
            bench
                .done
                .iter()
                .any(|action| matches!(action, Action::Halt)),
            "{command:?}"
        );
        assert!(bench.all.is_at_rest(), "{command:?}");
    }
}

/// Goals of one that awaits a call, that waits to go down and up, or is to be run again.
#[test]
fn goals_are_decided_by_wants_too() {
    let answer = |bench: &mut Bench, goal| {
        let service = bench.id;
        bench.command(Command::Wait { service, goal });
        outcome(&bench.done).unwrap_or("-".to_owned())
    };
    let activated = |spec: &mut Spec| {
        if let Kind::Program(program) = &mut spec.kind {
            program.sockets.activation = true;
        }
    };
    let mut bench = bench_among("Inactive", activated, Vec::new());
    bench.command(Command::StartAll);
    assert_eq!(bench.service().want(), Want::Call);
    assert_eq!(answer(&mut bench, Goal::Start), "superseded");
    assert_eq!(answer(&mut bench, Goal::Stop), "done");
    let mut bench = bench_among("Forking", |_| {}, Vec::new());
    let service = bench.id;
    bench.command(Command::Restart { service });
    assert_eq!(answer(&mut bench, Goal::Stop), "superseded");
    let always = |spec: &mut Spec| spec.lifecycle.restart = RestartPolicy::Always;
    let mut bench = bench_among("Exited", always, Vec::new());
    assert_eq!(name(bench.state()), "Backoff");
    assert_eq!(answer(&mut bench, Goal::Start), "done");
}

/// A turn may come late: what was due first has changed what was due after it.
#[test]
fn a_deadline_that_is_no_more_does_nothing() {
    let probed = |spec: &mut Spec| {
        spec.readiness = Readiness::Health;
        spec.health = Some(zinit::engine::spec::Health {
            probe: zinit::engine::spec::Probe::Exec("true".to_owned()),
            interval: Duration::from_millis(100),
            timeout: Duration::from_millis(100),
            retries: 1,
            start_period: Duration::ZERO,
            on_unhealthy: zinit::engine::spec::OnUnhealthy::Restart,
        });
    };
    let mut bench = bench_among("Running", probed, Vec::new());
    bench.feed(Event::Deadline);
    assert_eq!(name(bench.state()), "Starting");
    bench.pass(100_000);
    bench.feed(Event::Deadline);
    assert_eq!(name(bench.state()), "Stopping failed");
}

/// Restarted while its process is made, it goes down and up as soon as that is decided.
#[test]
fn a_restart_waits_for_a_fork() {
    let forking = || {
        let mut bench = bench("Forking");
        let service = bench.id;
        bench.command(Command::Restart { service });
        assert_eq!(bench.service().want(), Want::Cycle);
        bench.command(Command::Start {
            service,
            deps: true,
        });
        assert_eq!(bench.service().want(), Want::Cycle);
        bench
    };
    let told = |bench: &Bench| format!("{} {:?}", name(bench.state()), bench.service().want());
    let mut bench = forking();
    let (service, pid) = (bench.id, bench::pid(10));
    bench.feed(Event::Forked { service, pid });
    assert_eq!(told(&bench), "Stopping Up");
    for scarce in [true, false] {
        let mut bench = forking();
        bench.feed(Event::ForkFailed {
            service,
            error: ERROR,
            scarce,
        });
        assert_eq!(told(&bench), "Forking Up");
    }
    let mut bench = forking();
    bench.feed(Event::Obstructed { service });
    assert_eq!(told(&bench), "Forking Up");
}

/// It never got a process, so it frees nothing: looked at again at once, it would run in circles.
#[test]
fn an_obstructed_hook_before_the_start_waits() {
    let mut bench = bench("Preparing");
    let service = bench.id;
    bench.feed(Event::Obstructed { service });
    assert_eq!(name(bench.state()), "Obstructed");
}

/// A restart asked for while a run that ended by itself is cleared up is not lost.
#[test]
fn a_restart_during_an_end_brings_it_up() {
    for state in ["Falling", "Clearing", "Clearing by force", "Trailing"] {
        let never = |spec: &mut Spec| spec.lifecycle.restart = RestartPolicy::Never;
        let mut bench = bench_among(state, never, Vec::new());
        let service = bench.id;
        bench.command(Command::Restart { service });
        if let Some(pid) = bench.state().pid() {
            let exit = Exit::Signal(15);
            bench.feed(Event::Exited { pid, exit });
        }
        if state == "Trailing" {
            bench.returned(true);
        }
        bench.feed(Event::Cleared { service });
        assert_eq!(name(bench.state()), "Forking", "{state}");
    }
}

/// Who has to go for a reason of its own while all is stopped keeps to the time for all, and is
/// killed when that is hurried.
#[test]
fn who_falls_in_a_shutdown_keeps_to_it() {
    let mut above = Spec::new("above", Exec::Line("above".to_owned()));
    above.links.requires = vec!["it".into()];
    above.lifecycle.stop_timeout = Duration::from_secs(50);
    let watched = |spec: &mut Spec| spec.watchdog = Some(Duration::from_millis(100));
    let falls = |hurried: bool, by_itself: bool| {
        let mut bench = bench_among("Running", watched, vec![above.clone()]);
        let (above, _) = bench.other("above");
        bench.command(Command::Start {
            service: above,
            deps: true,
        });
        let pid = bench::pid(20);
        bench.feed(Event::Forked {
            service: above,
            pid,
        });
        bench.feed(Event::Started { pid });
        for _ in 0..=usize::from(hurried) {
            bench.command(Command::Shutdown {
                within: Some(Duration::from_secs(2)),
                spare: false,
            });
        }
        if by_itself {
            bench.feed(Event::Trouble {
                pid: bench::pid(10),
            });
        } else {
            bench.now = bench.all.next_deadline().expect("a watchdog");
            bench.feed(Event::Deadline);
        }
        bench
    };
    let bench = falls(false, true);
    assert!(bench.state().deadline() <= Some(bench.now + Duration::from_secs(2)));
    for by_itself in [true, false] {
        assert_eq!(name(falls(true, by_itself).state()), "Stopping kill failed");
    }
}

/// By its new definition it is ready when its program runs, and that runs.
#[test]
fn a_new_definition_of_readiness_counts_while_it_starts() {
    let mut bench = bench("Starting");
    bench.command(Command::Put {
        spec: bench::program().into(),
    });
    bench.feed(Event::Ready {
        pid: bench::pid(10),
    });
    assert_eq!(name(bench.state()), "Running");
}

/// Before it is up it is probed only if that makes it ready.
#[test]
fn a_new_definition_of_probes_counts_when_it_is_up() {
    let mut bench = bench("Starting");
    let mut probed = spec_for("Starting");
    probed.health = Some(zinit::engine::spec::Health {
        probe: zinit::engine::spec::Probe::Exec("true".to_owned()),
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        retries: 1,
        start_period: Duration::ZERO,
        on_unhealthy: zinit::engine::spec::OnUnhealthy::Restart,
    });
    let deadline = bench.all.next_deadline();
    bench.command(Command::Put {
        spec: probed.into(),
    });
    assert_eq!(bench.all.next_deadline(), deadline);
}

/// A start asked for runs what is done once more, and so needs what that requires.
#[test]
fn what_is_done_and_started_again_starts_what_it_needs() {
    let wants = |spec: &mut Spec| spec.links.wants = vec!["along".into()];
    let along = Spec::new("along", Exec::Line("along".to_owned()));
    let mut bench = bench_among("Exited", wants, vec![along]);
    let (along, _) = bench.other("along");
    bench.command(Command::Stop { service: along });
    bench.command(Command::Start {
        service: bench.id,
        deps: true,
    });
    assert_eq!(name(bench.state()), "Forking");
    assert_eq!(bench.other("along").1.want(), Want::Up);
}

/// While it starts it is probed if that makes it ready, by whatever definition that is.
#[test]
fn a_new_definition_of_probes_counts_at_once_where_they_make_it_ready() {
    let probed = |start_period: Duration| {
        let mut spec = bench::program();
        spec.readiness = zinit::engine::spec::Readiness::Health;
        spec.health = Some(zinit::engine::spec::Health {
            probe: zinit::engine::spec::Probe::Exec("true".to_owned()),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            retries: 1,
            start_period,
            on_unhealthy: zinit::engine::spec::OnUnhealthy::Restart,
        });
        spec
    };
    let begin = |spec: &mut Spec| *spec = probed(Duration::from_millis(700));
    let mut bench = bench_among("Starting", begin, Vec::new());
    let after = |bench: &Bench| bench.all.next_deadline().map(|at| at.since(bench.now));
    let begun = after(&bench).expect("a probe is due");
    assert!(begun > Duration::from_millis(300) && begun < Duration::from_secs(1));
    bench.command(Command::Put {
        spec: probed(Duration::from_millis(300)).into(),
    });
    assert_eq!(after(&bench), Some(Duration::from_millis(300)));
    // Not any more, when it says so itself.
    let mut notifies = probed(Duration::from_millis(300));
    notifies.readiness = zinit::engine::spec::Readiness::Notify;
    bench.command(Command::Put {
        spec: notifies.into(),
    });
    assert_eq!(bench.all.next_deadline(), bench.state().deadline());
}

/// A signal that was sent late gives its whole time; a hook has been told by itself.
#[test]
fn a_signal_has_its_time_from_when_it_is_sent() {
    for (state, left) in [
        ("Stopping by hook", 0),
        ("Stopping", 10_000),
        ("Stopping by force", 5000),
    ] {
        let mut bench = bench(state);
        let end = bench.state().deadline().expect("it is stopping");
        bench.now = end;
        let pid = bench.state().pid().expect("it has a process");
        bench.feed(Event::Signalled { pid });
        let deadline = bench.state().deadline();
        assert_eq!(deadline, Some(end + Duration::from_millis(left)), "{state}");
    }
}

/// Also where all is stopped within a time: it is no longer than that.
#[test]
fn a_signal_that_is_sent_late_keeps_to_the_time_for_all() {
    let mut bench = bench("Running");
    let within = Some(Duration::from_secs(2));
    let spare = false;
    bench.command(Command::Shutdown { within, spare });
    bench.pass(1500);
    let pid = bench.state().pid().expect("it has a process");
    bench.feed(Event::Signalled { pid });
    let left = bench.state().deadline().expect("it is stopping");
    assert_eq!(left.since(bench.now), Duration::from_millis(500));
}

/// A program that runs to its end has done so, also while its hook after the start runs.
#[test]
fn a_oneshot_may_end_before_its_hook_does() {
    let once = |spec: &mut Spec| {
        if let zinit::engine::spec::Kind::Program(program) = &mut spec.kind {
            program.oneshot = true;
        }
    };
    let mut bench = bench_among("Starting by hook", once, Vec::new());
    let (service, pid) = (bench.id, bench.state().pid().expect("it has a process"));
    let exit = Exit::Code(0);
    bench.feed(Event::Exited { pid, exit });
    bench.feed(Event::Cleared { service });
    assert_eq!(name(bench.state()), "Exited");
    assert!(bench.service().is_met());
}
