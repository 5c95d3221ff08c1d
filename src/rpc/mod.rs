//! The socket's language: JSON-RPC 2.0, one value a line. Bytes in, commands out; answers in,
//! bytes out. No sockets here.

mod discover;
mod dispatch;
mod exchange;
mod frame;
mod methods;
mod outcome;
mod runs;
pub mod text;
pub mod view;
pub mod why;
mod wire;

pub use crate::api::Code;
pub use discover::discover;
pub use dispatch::{
    Ask, Bulk, FollowQuery, Form, LogQuery, LogShape, Scene, Stream, SystemVerb, Todo, Xinet,
    dispatch,
};
pub use exchange::Exchange;
pub use frame::{Frames, Line, MAX_LINE_BYTES};
pub use methods::{METHODS, Method, Role, find};
pub use outcome::render;
pub use wire::{Batch, Incoming, Refusal, Request, note, parse, reply};
