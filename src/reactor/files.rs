//! The service files behind the services.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::config::{self, Dirs, Loaded, Problem, SetError};
use crate::engine::spec::{Exec, RestartPolicy};
use crate::engine::{ProxySpec, Spec};

/// Where services come from.
#[derive(Debug)]
pub(super) struct Files {
    dirs: Dirs,
    /// The command of a container, which has no file.
    main: Option<Vec<String>>,
    paths: BTreeMap<Rc<str>, PathBuf>,
    /// What instances are made of, by the name that ends with `@`.
    templates: BTreeMap<Rc<str>, Spec>,
    /// Instances that somebody asked for by name.
    asked_for: BTreeSet<Rc<str>>,
    /// Services that have no file, or another definition than it.
    ephemeral: BTreeMap<Rc<str>, Rc<Spec>>,
    /// The files of proxies.
    proxies: BTreeMap<Rc<str>, PathBuf>,
    /// Proxies that have no file, or another definition than it.
    ephemeral_proxies: BTreeSet<Rc<str>>,
}

/// What reading the directories brought.
pub(super) struct Read {
    /// Services that are in order.
    pub(super) specs: Vec<Rc<Spec>>,
    /// Services whose file is broken: they keep what they have.
    pub(super) keep: Vec<Rc<str>>,
    /// What is wrong or odd, in order.
    pub(super) problems: Vec<Problem>,
    /// Proxies that are in order.
    pub(super) proxies: Vec<ProxySpec>,
    /// Proxies that had a file and have none any more.
    pub(super) gone_proxies: Vec<Rc<str>>,
}

/// Services beyond which no more instances are made.
const INSTANCES_MAX: usize = 10_000;

/// The name of a container's command among the services.
const MAIN: &str = "main";

impl Read {
    /// Puts the command of a container beside the services of the files. It comes up after them,
    /// so that they are there when it is run, but for those that wait for it themselves.
    fn add_main(&mut self, words: &[String], file: Option<&PathBuf>) {
        if let Some(path) = file {
            let text = "the name 'main' is that of the container's command; this file is not used";
            self.problems.push(Problem::error(path, text.to_owned()));
            self.specs.retain(|spec| &*spec.name != MAIN);
        }
        let mut behind: Vec<Rc<str>> = vec![MAIN.into()];
        let mut next = 0;
        while let Some(name) = behind.get(next).cloned() {
            next += 1;
            let waits = |spec: &&Rc<Spec>| {
                let mut awaited = spec.links.requires.iter().chain(&spec.links.after);
                awaited.any(|other| *other == name) && !behind.contains(&spec.name)
            };
            let more: Vec<_> = self.specs.iter().filter(waits).collect();
            let more: Vec<_> = more.iter().map(|spec| Rc::clone(&spec.name)).collect();
            behind.extend(more);
        }
        let mut main = Spec::new(MAIN, Exec::Words(words.to_vec()));
        main.lifecycle.restart = RestartPolicy::Never;
        let names = self.specs.iter().map(|spec| Rc::clone(&spec.name));
        main.links.after = names.filter(|name| !behind.contains(name)).collect();
        self.specs.push(Rc::new(main));
    }
}

impl Files {
    /// Nothing read yet.
    #[must_use]
    pub(super) fn new(dirs: Dirs, main: Option<Vec<String>>) -> Self {
        Self {
            dirs,
            main,
            paths: BTreeMap::new(),
            templates: BTreeMap::new(),
            asked_for: BTreeSet::new(),
            ephemeral: BTreeMap::new(),
            proxies: BTreeMap::new(),
            ephemeral_proxies: BTreeSet::new(),
        }
    }

    /// Is that the command of a container?
    #[must_use]
    pub(super) fn is_main(&self, name: &str) -> bool {
        self.main.is_some() && name == MAIN
    }

    /// May the services directory be missing?
    #[must_use]
    pub(super) fn may_be_absent(&self) -> bool {
        self.dirs.may_be_absent
    }

    /// Where services are looked for.
    #[must_use]
    pub(super) fn places(&self) -> String {
        let system = self.dirs.system.iter();
        let dirs = system.chain([&self.dirs.services]);
        let dirs: Vec<String> = dirs.map(|dir| dir.display().to_string()).collect();
        dirs.join(" or ")
    }

    /// Makes the services directory, so that a first start needs no preparation.
    ///
    /// # Errors
    /// As `mkdir(2)`.
    pub(super) fn make_dir(&self) -> io::Result<()> {
        let dir = &self.dirs.services;
        std::fs::create_dir_all(dir)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", dir.display())))
    }

    /// Reads the directories. From then on what it read is what the files are.
    ///
    /// # Errors
    /// If the services directory itself can't be read; nothing is changed then.
    pub(super) fn read(&mut self) -> Result<Read, Box<Problem>> {
        let loaded = config::load(&self.dirs)?;
        Ok(self.take(loaded))
    }

    /// The same of the system directory alone.
    pub(super) fn read_system(&mut self) -> Read {
        let loaded = config::load_system(&self.dirs);
        self.take(loaded)
    }

    fn take(&mut self, loaded: Loaded) -> Read {
        let Loaded {
            files,
            problems,
            broken,
            proxies,
        } = loaded;
        let before = std::mem::take(&mut self.paths);
        let mut specs = Vec::with_capacity(files.len());
        let templates = std::mem::take(&mut self.templates);
        for file in files {
            let name = Rc::clone(&file.spec.name);
            self.paths.insert(Rc::clone(&name), file.path);
            if config::is_template(&name) {
                self.templates.insert(name, file.spec);
            } else {
                specs.push(Rc::new(file.spec));
            }
        }
        let mut keep = Vec::new();
        for (name, path) in before {
            if broken.contains(&path) && !self.paths.contains_key(&name) {
                self.paths.insert(Rc::clone(&name), path);
                if let Some(template) = templates.get(&name) {
                    self.templates.insert(Rc::clone(&name), template.clone());
                }
                keep.push(name);
            }
        }
        for (name, spec) in &self.ephemeral {
            if config::is_template(name) {
                self.templates.insert(Rc::clone(name), Spec::clone(spec));
                continue;
            }
            specs.retain(|known: &Rc<Spec>| known.name != *name);
            specs.push(Rc::clone(spec));
        }
        let (proxies, gone_proxies) = self.take_proxies(proxies, &broken);
        let mut problems = problems;
        self.add_instances(&mut specs, &mut problems);
        let mut read = Read {
            specs,
            keep,
            problems,
            proxies,
            gone_proxies,
        };
        if let Some(words) = &self.main {
            read.add_main(words, self.paths.get(MAIN));
        }
        read
    }

    /// The proxies of files, and those that had one. A broken file keeps its proxy as it is.
    fn take_proxies(
        &mut self,
        read: Vec<(PathBuf, ProxySpec)>,
        broken: &[PathBuf],
    ) -> (Vec<ProxySpec>, Vec<Rc<str>>) {
        let before = std::mem::take(&mut self.proxies);
        let (paths, specs): (Vec<_>, Vec<_>) = read.into_iter().unzip();
        let names = specs.iter().map(|spec: &ProxySpec| Rc::clone(&spec.name));
        self.proxies = names.zip(paths).collect();
        let mut specs = specs;
        specs.retain(|spec| !self.ephemeral_proxies.contains(&spec.name));
        let mut gone = Vec::new();
        for (name, path) in before {
            if self.ephemeral_proxies.contains(&name) || self.proxies.contains_key(&name) {
                continue;
            }
            if broken.contains(&path) {
                self.proxies.insert(name, path);
            } else {
                gone.push(name);
            }
        }
        (specs, gone)
    }

    /// Adds the instances that services require or want, and those that were asked for.
    fn add_instances(&self, specs: &mut Vec<Rc<Spec>>, problems: &mut Vec<Problem>) {
        let mut known: BTreeSet<Rc<str>> = BTreeSet::new();
        known.extend(specs.iter().map(|spec| Rc::clone(&spec.name)));
        let mut wanted: Vec<Rc<str>> = self.asked_for.iter().cloned().collect();
        wanted.extend(specs.iter().flat_map(|spec| needs(spec)));
        let (made, broken) = self.instances(wanted, |name| known.contains(name));
        specs.extend(made.into_iter().map(Rc::new));
        let told = |(path, text): (PathBuf, String)| Problem::error(&path, text);
        problems.extend(broken.into_iter().map(told));
    }

    /// The instances of these names and those that they need, but for what is there already. And
    /// what is wrong with others.
    fn instances(
        &self,
        mut wanted: Vec<Rc<str>>,
        is_there: impl Fn(&str) -> bool,
    ) -> (Vec<Spec>, Vec<(PathBuf, String)>) {
        let (mut made, mut broken) = (Vec::new(), Vec::new());
        let mut seen: BTreeSet<Rc<str>> = BTreeSet::new();
        while let Some(name) = wanted.pop() {
            // One may need others without end, each with a longer name than the one before it.
            if is_there(&name) || made.len() >= INSTANCES_MAX || !seen.insert(Rc::clone(&name)) {
                continue;
            }
            match self.instance(&name) {
                None => {}
                Some(Ok(spec)) => {
                    wanted.extend(needs(&spec));
                    made.push(spec);
                }
                Some(Err((path, error))) => {
                    broken.push((path, format!("instance '{name}': {error}")));
                }
            }
        }
        (made, broken)
    }

    /// The instances that a definition needs and that are not there yet.
    #[must_use]
    pub(super) fn needed_by(&self, spec: &Spec, is_there: impl Fn(&str) -> bool) -> Vec<Spec> {
        self.instances(needs(spec), is_there).0
    }

    /// Keeps a template.
    pub(super) fn put_template(&mut self, template: &Spec) {
        self.templates
            .insert(Rc::clone(&template.name), template.clone());
    }

    /// The instance of that name, if there is a template for it.
    fn instance(&self, name: &str) -> Option<Result<Spec, (PathBuf, SetError)>> {
        let (template, _) = config::template_of(name)?;
        let spec = self.templates.get(template)?;
        let path = self.paths.get(template).cloned().unwrap_or_default();
        Some(config::instance(spec, name).map_err(|error| (path, error)))
    }

    /// Somebody asks for an instance by name: its definition and those of instances it needs, if
    /// there is a template for it. It stays until its template goes.
    ///
    /// # Errors
    /// If a template does not allow for it, with what is wrong.
    pub(super) fn ask_for(
        &mut self,
        name: &str,
        is_there: impl Fn(&str) -> bool,
    ) -> Result<Vec<Spec>, String> {
        let (made, broken) = self.instances(vec![Rc::from(name)], is_there);
        if let Some((path, text)) = broken.first() {
            return Err(format!("{}: {text}", path.display()));
        }
        if !made.is_empty() {
            self.asked_for.insert(Rc::from(name));
        }
        Ok(made)
    }

    /// Is that a template, or could it be made from one?
    #[must_use]
    pub(super) fn is_of_template(&self, name: &str) -> bool {
        let template = config::template_of(name).map_or(name, |(template, _)| template);
        config::is_template(template) && self.templates.contains_key(template)
    }

    /// Keeps a definition in memory; the file of the service, if it has one, stays as it is.
    pub(super) fn keep(&mut self, spec: &Spec) {
        let name = Rc::clone(&spec.name);
        self.ephemeral.insert(name, Rc::new(spec.clone()));
    }

    /// The services whose definition is in memory only.
    #[must_use]
    pub(super) fn ephemeral(&self) -> &BTreeMap<Rc<str>, Rc<Spec>> {
        &self.ephemeral
    }

    /// The definition of a proxy is in memory only.
    pub(super) fn keep_proxy(&mut self, name: &Rc<str>) {
        self.ephemeral_proxies.insert(Rc::clone(name));
    }

    /// Writes the file of a proxy, in place of the one it has.
    ///
    /// # Errors
    /// With one sentence, if it can't be written; the old file is as it was.
    pub(super) fn write_proxy(&mut self, spec: &ProxySpec) -> Result<(), String> {
        self.check_proxy(&spec.name)?;
        let dir = &self.dirs.services;
        let written = std::fs::create_dir_all(dir).and_then(|()| config::write_proxy(dir, spec));
        let path = written.map_err(|error| {
            format!("failed to write the file of proxy '{}': {error}", spec.name)
        })?;
        self.ephemeral_proxies.remove(&spec.name);
        let old = self.proxies.insert(Rc::clone(&spec.name), path.clone());
        if let Some(old) = old.filter(|old| *old != path)
            && let Err(error) = config::remove(&old)
        {
            log::warn!("{}: {error}", old.display());
        }
        Ok(())
    }

    /// A proxy of the machine itself is not written to, and none takes the file of a service.
    fn check_proxy(&self, name: &str) -> Result<(), String> {
        let known = self.proxies.get(name);
        let dir = known.and_then(|path| path.parent());
        if self.dirs.system.is_some() && dir == self.dirs.system.as_deref() {
            return Err(format!(
                "proxy '{name}' belongs to the system; change its file and reload"
            ));
        }
        let path = config::proxy_path(&self.dirs.services, name);
        match self.paths.iter().find(|(_, known)| **known == path) {
            Some((service, _)) => Err(format!(
                "{} is the file of service '{service}'",
                path.display()
            )),
            None => Ok(()),
        }
    }

    /// Deletes the file of a proxy, if it has one.
    ///
    /// # Errors
    /// With one sentence; the file is as it was.
    pub(super) fn delete_proxy(&mut self, name: &str) -> Result<(), String> {
        self.check_proxy(name)?;
        self.ephemeral_proxies.remove(name);
        let Some(path) = self.proxies.get(name) else {
            return Ok(());
        };
        config::remove(path).map_err(|error| format!("{}: {error}", path.display()))?;
        config::sync(&self.dirs.services);
        self.proxies.remove(name);
        Ok(())
    }

    /// Writes the file of a service, in place of the one it has.
    ///
    /// # Errors
    /// With the path and why, if it can't be written; the old file is as it was.
    pub(super) fn write(&mut self, spec: &Spec) -> Result<PathBuf, (PathBuf, io::Error)> {
        let dir = &self.dirs.services;
        let wanted = dir.join(format!("{}.toml", spec.name));
        let mut others = self.paths.iter().filter(|(name, _)| **name != spec.name);
        let other = others.find(|(_, known)| **known == wanted);
        let is_proxy = self.proxies.values().any(|known| *known == wanted);
        let whose = match other {
            Some((name, _)) => Some(format!("it is the file of service '{name}'")),
            None => is_proxy.then(|| "it is the file of a proxy".to_owned()),
        };
        if let Some(text) = whose {
            return Err((wanted, io::Error::new(io::ErrorKind::AlreadyExists, text)));
        }
        // A machine or a container may have begun without one.
        let path = std::fs::create_dir_all(dir)
            .and_then(|()| config::write(dir, spec))
            .map_err(|error| (wanted, error))?;
        if let Some(old) = self
            .paths
            .insert(Rc::clone(&spec.name), path.clone())
            .filter(|old| *old != path)
            && let Err(error) = config::remove(&old)
        {
            log::warn!("{}: {error}", old.display());
        }
        self.ephemeral.remove(&spec.name);
        Ok(path)
    }

    /// Does the service come from the system directory, which is not written to?
    #[must_use]
    pub(super) fn is_system(&self, name: &str) -> bool {
        let dir = |path: &PathBuf| path.parent().map(Path::to_owned);
        self.dirs.system.is_some() && self.paths.get(name).and_then(dir) == self.dirs.system
    }

    /// Deletes the files of services that are going to be removed. From then on a reload does not
    /// find them, nor does the next server.
    ///
    /// # Errors
    /// With one sentence, at the first that can't be deleted; it and those after it are as they
    /// were.
    pub(super) fn delete(&mut self, names: &[Rc<str>]) -> Result<(), String> {
        let deleted = names.iter().try_for_each(|name| self.delete_one(name));
        config::sync(&self.dirs.services);
        deleted
    }

    fn delete_one(&mut self, name: &str) -> Result<(), String> {
        self.asked_for.remove(name);
        self.ephemeral.remove(name);
        let Some(path) = self.paths.get(name) else {
            return Ok(());
        };
        config::remove(path).map_err(|error| {
            let path = path.display();
            format!("failed to delete config file for service '{name}': {path}: {error}")
        })?;
        self.paths.remove(name);
        self.templates.remove(name);
        Ok(())
    }
}

/// The names a definition brings along.
fn needs(spec: &Spec) -> Vec<Rc<str>> {
    let names = spec.links.requires.iter().chain(&spec.links.wants);
    names.cloned().collect()
}
