//! The server's own limits, and what services get of them.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The soft limit of descriptors as it was before the server raised its own (`getrlimit(2)`).
/// Services get this one back: programs that use `select(2)`, or close every possible descriptor,
/// count on a small one.
#[derive(Clone, Copy, Debug)]
pub struct OpenFiles {
    soft: u64,
    hard: u64,
    most: u64,
}

/// Descriptors that nothing may take that stays: a look at processes takes a few for a moment, and
/// one that can't be had would make them seem to be gone.
const RESERVE: u64 = 16;

/// While it lives, the reserve is not touched.
#[derive(Debug)]
pub struct Sparing(OpenFiles);

impl Drop for Sparing {
    fn drop(&mut self) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, self.0.most, self.0.most);
    }
}

/// What a first process gives itself at least.
const FIRST_MOST: u64 = 65_536;

impl OpenFiles {
    /// Raises the server's soft limit to the hard one: each running service costs two descriptors.
    /// A kernel's first process has 4096 at most unless it gives itself more, which it does if it
    /// is the `first`.
    ///
    /// # Errors
    /// As `getrlimit(2)`.
    pub fn raise(first: bool) -> io::Result<Self> {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let wanted = hard.max(FIRST_MOST);
        if first && setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted).is_ok() {
            let most = wanted;
            return Ok(Self { soft, hard, most });
        }
        // Without the right to do so the server goes on with what it has.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
        let most = hard;
        Ok(Self { soft, hard, most })
    }

    /// How many the server may have.
    #[must_use]
    pub const fn most(self) -> u64 {
        self.most
    }

    /// Leaves the reserve alone while the value lives: for what takes a descriptor and keeps it.
    #[must_use]
    pub fn sparing(self) -> Sparing {
        let less = self.most - RESERVE.min(self.most / 8);
        let _ = setrlimit(Resource::RLIMIT_NOFILE, less, self.most);
        Sparing(self)
    }

    /// Puts the old limit back: for a child between fork and exec, and before another program takes
    /// the server's place.
    ///
    /// # Errors
    /// As `setrlimit(2)`.
    pub fn restore(self) -> nix::Result<()> {
        setrlimit(Resource::RLIMIT_NOFILE, self.soft, self.hard)
    }
}
