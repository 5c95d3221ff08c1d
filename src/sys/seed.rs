//! The random seed: what this run knows that nobody can guess is handed to the next one
//! (`random(4)`).

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const DIR: &str = "/var/lib/zinit";
const FILE: &str = "/var/lib/zinit/random-seed";
const NEW_FILE: &str = "/var/lib/zinit/random-seed.new";

/// Twice the kernel's pool of 256 bits.
const SEED_BYTES: usize = 64;

/// Mixes the seed of the run before into the kernel's pool, and takes it away: none is used twice.
/// It is not counted as entropy, as an image may have been copied with its seed.
pub fn restore() {
    let mut seed = Vec::new();
    let read = File::open(FILE).and_then(|file| {
        let most = SEED_BYTES as u64;
        file.take(most).read_to_end(&mut seed)
    });
    // One that can't be taken away, on a read-only root, is better than none.
    if read.is_ok() && fs::write("/dev/urandom", &seed).is_ok() {
        let _ = fs::remove_file(FILE);
    }
}

/// Keeps a seed for the next run.
///
/// # Errors
/// As the system says, on a read-only root for one.
pub fn save() -> io::Result<()> {
    let mut seed = [0; SEED_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut seed)?;
    fs::create_dir_all(DIR)?;
    let mut file = File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(NEW_FILE)?;
    file.write_all(&seed)?;
    file.sync_all()?;
    fs::rename(NEW_FILE, FILE)?;
    File::open(Path::new(DIR))?.sync_all()
}
