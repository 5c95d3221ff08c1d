//! Exit codes, all of them.

/// What was asked for is done.
pub const OK: u8 = 0;
/// It could not be done.
pub const FAILED: u8 = 1;
/// The command line makes no sense.
pub const USAGE: u8 = 2;
/// Nothing listens on the socket.
pub const NOT_LISTENING: u8 = 3;
