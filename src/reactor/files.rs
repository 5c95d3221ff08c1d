//! The service files behind the services.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::config::{self, Dirs, Loaded, Problem};
use crate::engine::Spec;
use crate::engine::spec::{Exec, RestartPolicy};

/// Where services come from.
#[derive(Debug)]
pub(super) struct Files {
    dirs: Dirs,
    /// The command of a container, which has no file.
    main: Option<Vec<String>>,
    paths: BTreeMap<Rc<str>, PathBuf>,
}

/// What reading the directories brought.
#[derive(Default)]
pub(super) struct Read {
    /// Services that are in order.
    pub(super) specs: Vec<Rc<Spec>>,
    /// Services whose file is broken: they keep what they have.
    pub(super) keep: Vec<Rc<str>>,
    /// What is wrong or odd, in order.
    pub(super) problems: Vec<Problem>,
}

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
        let Loaded {
            files,
            problems,
            broken,
        } = config::load(&self.dirs)?;
        let before = std::mem::take(&mut self.paths);
        let mut specs = Vec::with_capacity(files.len());
        for file in files {
            self.paths.insert(Rc::clone(&file.spec.name), file.path);
            specs.push(Rc::new(file.spec));
        }
        let mut keep = Vec::new();
        for (name, path) in before {
            if broken.contains(&path) && !self.paths.contains_key(&name) {
                self.paths.insert(Rc::clone(&name), path);
                keep.push(name);
            }
        }
        let mut read = Read {
            specs,
            keep,
            problems,
        };
        if let Some(words) = &self.main {
            read.add_main(words, self.paths.get(MAIN));
        }
        Ok(read)
    }

    /// Writes the file of a service, in place of the one it has.
    ///
    /// # Errors
    /// With the path and why, if it can't be written; the old file is as it was.
    pub(super) fn write(&mut self, spec: &Spec) -> Result<PathBuf, (PathBuf, io::Error)> {
        let dir = &self.dirs.services;
        let wanted = dir.join(format!("{}.toml", spec.name));
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
        let Some(path) = self.paths.get(name) else {
            return Ok(());
        };
        config::remove(path).map_err(|error| {
            let path = path.display();
            format!("failed to delete config file for service '{name}': {path}: {error}")
        })?;
        self.paths.remove(name);
        Ok(())
    }
}
