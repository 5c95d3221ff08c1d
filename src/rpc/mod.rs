//! The socket's language: JSON-RPC 2.0, one value a line. Bytes in, commands out; answers in,
//! bytes out. No sockets here.

mod dispatch;
mod frame;
mod methods;
mod outcome;
pub mod text;
pub mod view;
pub mod why;
mod wire;

pub use dispatch::{
    Ask, FollowQuery, Form, LogQuery, LogShape, Scene, Stream, SystemVerb, Todo, dispatch,
};
pub use frame::{Frames, Line, MAX_LINE_BYTES};
pub use methods::{METHODS, Method, Param, discover};
pub use outcome::render;
pub use wire::{Code, Incoming, Refusal, Request, parse, reply};
