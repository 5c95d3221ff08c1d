//! The server's own limits, and what services get of them.

use std::io;

use nix::libc;
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

/// What a first process gives itself at least.
const FIRST_MOST: u64 = 65_536;

/// Descriptors that only a look at processes may have: whoever can't be seen would be taken for gone.
const RESERVE: u64 = 16;

/// Does something that takes a descriptor for a moment, if need be one of the reserve. What fails is
/// done once more, unless what it is about is gone or not for us to see.
pub(super) fn with_reserve<T>(mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let error = match work() {
        Ok(done) => return Ok(done),
        Err(error) => error,
    };
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH | libc::EACCES | libc::EPERM) => return Err(error),
        Some(libc::EMFILE) => {}
        Some(_) | None => return work(),
    }
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    let done = work();
    let _ = setrlimit(Resource::RLIMIT_NOFILE, soft, hard);
    done
}

impl OpenFiles {
    /// Raises the server's soft limit to the hard one but for a reserve: each running service costs
    /// two descriptors.
    /// A kernel's first process has 4096 at most unless it gives itself more, which it does if it
    /// is the `first`.
    ///
    /// # Errors
    /// As `getrlimit(2)`.
    pub fn raise(first: bool) -> io::Result<Self> {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let wanted = hard.max(FIRST_MOST);
        let most = wanted - RESERVE;
        if first && setrlimit(Resource::RLIMIT_NOFILE, most, wanted).is_ok() {
            return Ok(Self { soft, hard, most });
        }
        // Without the right to do so the server goes on with what it has.
        let most = hard - RESERVE.min(hard / 8);
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, hard);
        Ok(Self { soft, hard, most })
    }

    /// How many the server may have.
    #[must_use]
    pub const fn most(self) -> u64 {
        self.most
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
