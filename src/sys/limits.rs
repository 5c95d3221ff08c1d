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
}

impl OpenFiles {
    /// Raises the server's soft limit to the hard one: each running service costs two descriptors.
    ///
    /// # Errors
    /// As `getrlimit(2)`.
    pub fn raise() -> io::Result<Self> {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        // Without the right to do so the server goes on with what it has.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
        Ok(Self { soft, hard })
    }

    /// How many the server may have.
    #[must_use]
    pub const fn most(self) -> u64 {
        self.hard
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
