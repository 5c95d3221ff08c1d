//! What stands on the wire, as types: requests, replies, what streams tell, errors.
//!
//! | file          | noun                                                            |
//! |---------------|-----------------------------------------------------------------|
//! | `requests.rs` | every request, with its parameters and the type of its reply    |
//! | `replies.rs`  | every reply, and what it is made of                             |
//! | `notes.rs`    | what streams tell                                               |
//! | `errors.rs`   | the codes of errors                                             |
//! | `read.rs`     | parameters, read as leniently as clients are used to            |
//! | `schema.rs`   | declarations as JSON Schema                                     |
//! | `macros.rs`   | from one declaration all of that                                |
//!
//! Server and clients know one another by this alone. A type is declared once; how it is read and
//! written, and the schema that `rpc.discover` tells, follow from that.

mod errors;
mod macros;
mod notes;
mod read;
mod replies;
mod requests;
pub mod schema;

pub use errors::{CODES, Code};
pub use notes::*;
pub use read::Wrong;
pub use replies::*;
pub use requests::*;

use serde::de::DeserializeOwned;
use serde_json::Value;

/// A type whose schema has a name.
pub trait Declared {
    /// What [`schema`] reads.
    const DECLARATION: &'static str;
}

/// A request.
pub trait Request: Sized + serde::Serialize {
    /// The name of its method.
    const METHOD: &'static str;
    /// What [`schema`] reads.
    const DECLARATION: &'static str;
    /// What it is answered with, if it is not refused.
    type Reply: DeserializeOwned;

    /// Reads its parameters. Anything but an object has none.
    ///
    /// # Errors
    /// What is wrong with them.
    fn read(params: &Value) -> Result<Self, Wrong>;
}

/// The declarations of all types that have a name, some after the other.
pub fn declarations() -> impl Iterator<Item = &'static str> {
    let lists = [
        replies::WORDS,
        replies::TAGGED,
        replies::OBJECTS,
        replies::OTHERS,
        notes::OBJECTS,
    ];
    lists.into_iter().flatten().copied()
}

/// A reply as it is sent. Its members are sorted.
///
/// # Panics
/// Never: no type of this ring has anything but texts for keys.
#[must_use]
pub fn to_value(reply: &impl serde::Serialize) -> Value {
    serde_json::to_value(reply).expect("keys are texts")
}
