//! The service files behind the services.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::config::{self, Dirs, Loaded, Problem};
use crate::engine::Spec;

/// Where services come from.
#[derive(Debug)]
pub(super) struct Files {
    dirs: Dirs,
    paths: BTreeMap<Rc<str>, PathBuf>,
}

/// What reading the directories brought.
pub(super) struct Read {
    /// Services that are in order.
    pub(super) specs: Vec<Rc<Spec>>,
    /// Services whose file is broken: they keep what they have.
    pub(super) keep: Vec<Rc<str>>,
    /// What is wrong or odd, in order.
    pub(super) problems: Vec<Problem>,
}

impl Files {
    /// Nothing read yet.
    #[must_use]
    pub(super) fn new(dirs: Dirs) -> Self {
        Self {
            dirs,
            paths: BTreeMap::new(),
        }
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
        Ok(Read {
            specs,
            keep,
            problems,
        })
    }

    /// Writes the file of a service, in place of the one it has.
    ///
    /// # Errors
    /// With the path and why, if it can't be written; the old file is as it was.
    pub(super) fn write(&mut self, spec: &Spec) -> Result<PathBuf, (PathBuf, io::Error)> {
        let dir = &self.dirs.services;
        let wanted = dir.join(format!("{}.toml", spec.name));
        let path = config::write(dir, spec).map_err(|error| (wanted, error))?;
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
