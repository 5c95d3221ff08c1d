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
    /// Files of removed services that could not be deleted, with why.
    undeleted: Vec<(Rc<str>, String)>,
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
            undeleted: Vec::new(),
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

    /// A service was removed on request, and its file goes with it. After a reload its file is
    /// gone already, or is not its any more.
    pub(super) fn removed(&mut self, name: &Rc<str>) {
        let Some(path) = self.paths.remove(name) else {
            return;
        };
        if let Err(error) = config::remove(&path) {
            let text = format!(
                "failed to delete config file for service '{name}': {}: {error}",
                path.display()
            );
            log::error!("{text}");
            self.undeleted.push((Rc::clone(name), text));
        }
    }

    /// Why the file of a removed service is still there, if it is.
    pub(super) fn take_undeleted(&mut self, name: &str) -> Option<String> {
        let place = self.undeleted.iter().position(|(of, _)| **of == *name)?;
        Some(self.undeleted.swap_remove(place).1)
    }
}
