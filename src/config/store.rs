//! Service files written and removed, so that a crash at any moment leaves the old file or the new one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::text::to_toml;
use crate::engine::Spec;

/// Writes `NAME.toml` in the directory and returns its path.
///
/// The text goes to `.NAME.new` first, which no load reads, is brought to disk, and takes the
/// place of the old file in one step. A replaced file passes its permissions on.
///
/// # Errors
/// Whatever kept the new file from being written; the old one is then untouched.
pub fn write(dir: &Path, spec: &Spec) -> io::Result<PathBuf> {
    let path = dir.join(format!("{}.toml", spec.name));
    replace(&path, &to_toml(spec))?;
    Ok(path)
}

/// Puts a text in the place of a file.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let draft = path.with_file_name(format!(".{stem}.new"));
    let written = write_draft(&draft, path, text).and_then(|()| fs::rename(&draft, path));
    if let Err(error) = written {
        // The draft may not even exist; the first error is the one to tell.
        let _ = fs::remove_file(&draft);
        return Err(error);
    }
    path.parent().into_iter().for_each(sync);
    Ok(())
}

/// Removes a service file; one that is already gone is fine. [`sync`] makes it last.
///
/// # Errors
/// Whatever kept the file from being removed.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn write_draft(draft: &Path, path: &Path, text: &str) -> io::Result<()> {
    // A draft may be left from a crash. Creating it anew never follows a link that lies in wait there.
    let _ = fs::remove_file(draft);
    let mut file = File::create_new(draft)?;
    if let Ok(old) = fs::metadata(path) {
        file.set_permissions(old.permissions())?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Brings a change of the directory to disk. The change itself is done, and some filesystems
/// know no such thing for directories, so a failure here is not one of the caller.
pub fn sync(dir: &Path) {
    let _ = File::open(dir).and_then(|dir| dir.sync_all());
}
