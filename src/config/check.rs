//! What `zinit check` adds to loading: what only several files together, or the machine, can tell.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::diagnose::{PROBLEMS_MAX, Problem, Severity};
use super::suggest::nearest;
use super::{ConfigFile, Dirs, Loaded, exec, is_template, load, load_file, place, template_of};
use crate::engine::cycles;
use crate::engine::spec::{Exec, Program, Spec};

/// Where programs are looked for if neither the service nor we have a `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Unknown names of one file that get a hint; a comparison with every known name is not free.
const HINTS_MAX: usize = 20;

/// All that is wrong with a directory of service files, or with one file beside its siblings. The
/// services of a system directory are known too.
#[must_use]
pub fn check(system: Option<&Path>, target: &Path) -> Vec<Problem> {
    let system = system.map(Path::to_owned);
    if target.is_dir() {
        return match load(&Dirs {
            system,
            services: target.to_owned(),
            may_be_absent: false,
        }) {
            Ok(loaded) => check_all(loaded, |_| true),
            Err(problem) => vec![*problem],
        };
    }
    let folder = target
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut loaded = load(&Dirs {
        system,
        services: folder.to_owned(),
        may_be_absent: false,
    })
    .unwrap_or_default();
    let name = target.file_name();
    // Its siblings matter for their names only, and a file may be checked before it has its final name.
    loaded.problems.retain(|problem| {
        problem.path.file_name() == name && problem.path.parent() == Some(folder)
    });
    let is_loaded = |path: &Path| path.file_name() == name && path.parent() == Some(folder);
    if !loaded.files.iter().any(|file| is_loaded(&file.path)) && loaded.problems.is_empty() {
        let (spec, problems) = load_file(target);
        loaded.problems.extend(problems);
        if let Some(spec) = spec {
            // A draft stands for the file it is going to replace.
            loaded.files.retain(|file| file.spec.name != spec.name);
            loaded.files.push(ConfigFile {
                path: folder.join(name.unwrap_or_default()),
                spec,
            });
        }
    }
    let mut problems = check_all(loaded, is_loaded);
    for problem in &mut problems {
        problem.path = target.to_owned();
    }
    problems
}

/// Adds to the problems of loading those of each chosen file.
fn check_all(mut loaded: Loaded, is_chosen: impl Fn(&Path) -> bool) -> Vec<Problem> {
    let specs: Vec<&Spec> = loaded.files.iter().map(|file| &file.spec).collect();
    let cycles = Cycles::new(cycles(&specs));
    // A broken file is reported itself; who names its service is not wrong.
    let stems = loaded
        .broken
        .iter()
        .filter_map(|path| path.file_stem()?.to_str());
    let mut known: BTreeSet<&str> = BTreeSet::new();
    known.extend(specs.iter().map(|spec| &*spec.name).chain(stems));
    let mut problems = std::mem::take(&mut loaded.problems);
    for file in loaded.files.iter().filter(|file| is_chosen(&file.path)) {
        let mut findings = unknown_names(&file.spec, &known);
        findings.extend(cycles.findings(&file.spec));
        findings.extend(file.spec.program().and_then(find_missing));
        if findings.is_empty() {
            continue;
        }
        let more = (findings.len() > PROBLEMS_MAX).then(|| Problem::more(&file.path));
        findings.truncate(PROBLEMS_MAX);
        problems.extend(place(&file.path, |source| {
            let placed = findings.into_iter().map(|finding| {
                let keys = [finding.section, finding.key];
                let problem = source.problem(
                    finding.severity,
                    &keys,
                    finding.item.as_deref(),
                    finding.message,
                );
                problem.with_hint(finding.hint)
            });
            placed.collect()
        }));
        problems.extend(more);
    }
    problems
}

/// A problem that is still without a place.
struct Finding {
    severity: Severity,
    section: &'static str,
    key: &'static str,
    /// The element of a list it is about.
    item: Option<String>,
    message: String,
    hint: Option<String>,
}

/// Names that no file has. Only a requirement that cannot be met keeps a service from starting.
fn unknown_names(spec: &Spec, known: &BTreeSet<&str>) -> Vec<Finding> {
    let lists = [
        ("requires", Severity::Error, &spec.links.requires),
        ("after", Severity::Warning, &spec.links.after),
        ("wants", Severity::Warning, &spec.links.wants),
        ("conflicts", Severity::Warning, &spec.links.conflicts),
    ];
    let mut findings = Vec::new();
    for (key, severity, names) in lists {
        // An instance is known by its template, and what is filled in can't be told.
        let is_known = |name: &str| {
            let template = template_of(name).map(|(template, _)| template);
            known.contains(name)
                || template.is_some_and(|template| known.contains(template))
                || (is_template(&spec.name) && name.contains('%'))
        };
        for name in names.iter().filter(|name| !is_known(name)) {
            let near = (findings.len() < HINTS_MAX)
                .then(|| nearest(name, &mut known.iter().copied()))
                .flatten();
            findings.push(Finding {
                severity,
                section: "dependencies",
                key,
                item: Some(name.to_string()),
                message: format!("unknown service '{name}'"),
                hint: near.map(|near| format!("did you mean '{near}'?")),
            });
        }
    }
    findings
}

/// Services that wait for one another, by who is among them.
struct Cycles {
    spelled: Vec<String>,
    /// For each member the cycles it is in, with the one it waits for.
    members: BTreeMap<Rc<str>, Vec<(usize, Rc<str>)>>,
}

impl Cycles {
    /// Each cycle is spelled from its first name in the alphabet, so that a report stays the same.
    fn new(mut cycles: Vec<Vec<Rc<str>>>) -> Self {
        for cycle in &mut cycles {
            let first = (0..cycle.len())
                .min_by_key(|index| &cycle[*index])
                .unwrap_or(0);
            cycle.rotate_left(first);
        }
        let mut members: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (index, cycle) in cycles.iter().enumerate() {
            for (member, next) in cycle.iter().zip(cycle.iter().cycle().skip(1)) {
                members
                    .entry(member.clone())
                    .or_default()
                    .push((index, next.clone()));
            }
        }
        let spell = |cycle: Vec<Rc<str>>| {
            let again = cycle.first().cloned();
            cycle
                .into_iter()
                .chain(again)
                .collect::<Vec<_>>()
                .join(" -> ")
        };
        Self {
            spelled: cycles.into_iter().map(spell).collect(),
            members,
        }
    }

    fn findings(&self, spec: &Spec) -> Vec<Finding> {
        let found = self.members.get(&spec.name).map_or(&[][..], Vec::as_slice);
        let finding = |(index, next): &(usize, Rc<str>)| Finding {
            severity: Severity::Error,
            section: "dependencies",
            key: if spec.links.requires.contains(next) {
                "requires"
            } else {
                "after"
            },
            item: Some(next.to_string()),
            message: format!(
                "a cycle of services that wait for one another: {}",
                self.spelled[*index]
            ),
            hint: None,
        };
        found.iter().map(finding).collect()
    }
}

/// A directory or a program that does not exist. What a shell line runs is the shell's to find.
fn find_missing(program: &Program) -> Option<Finding> {
    let dir = program.dir.as_deref();
    if let Some(dir) = dir.filter(|dir| !dir.is_dir()) {
        let message = format!("no such directory: '{}'", dir.display());
        return Some(missing(Severity::Warning, "dir", message));
    }
    let first = match &program.exec {
        Exec::Line(line) => exec::words(line)?.into_iter().next()?,
        Exec::Words(words) => words.first()?.clone(),
    };
    let path_var = program
        .env
        .get("PATH")
        .cloned()
        .or_else(|| env::var("PATH").ok());
    let path_var = path_var.as_deref().unwrap_or(DEFAULT_PATH);
    if exec::find_program(&first, path_var, dir).is_some() {
        return None;
    }
    let message = if !first.contains('/') {
        format!("no program '{first}' in PATH")
    } else if dir
        .map_or_else(|| PathBuf::from(&first), |dir| dir.join(&first))
        .exists()
    {
        format!("'{first}' cannot be executed")
    } else {
        format!("no such program: '{first}'")
    };
    Some(missing(Severity::Error, "exec", message))
}

fn missing(severity: Severity, key: &'static str, message: String) -> Finding {
    Finding {
        severity,
        section: "service",
        key,
        item: None,
        message,
        hint: None,
    }
}
