//! The codes of errors.

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal,)+) => {
        /// Error codes: those of JSON-RPC, and zinit's own from -32000 on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(i32)]
        pub enum Code {
            $($(#[doc = $doc])+ $name = $code,)+
        }

        /// Each with its name and what it means.
        pub const CODES: &[(Code, &str, &str)] =
            &[$((Code::$name, stringify!($name), concat!($($doc),+))),+];
    };
}

codes! {
    /// The line is no request.
    Parse = -32700,
    /// An empty batch, or a stream in a batch.
    InvalidRequest = -32600,
    /// No such method.
    MethodNotFound = -32601,
    /// Parameters are missing or wrong.
    InvalidParams = -32602,
    /// What was asked could not be done.
    Internal = -32603,
    /// No such service.
    ServiceNotFound = -32000,
    /// A service definition is wrong; `data.errors` lists how.
    ValidationFailed = -32011,
    /// A service definition names a service that does not exist.
    DependencyMissing = -32012,
    /// The program of a service definition does not exist.
    ExecNotFound = -32013,
    /// A service definition could not be written.
    PersistFailed = -32014,
    /// Whoever asks may not do that; `data.right` says what it takes.
    PermissionDenied = -32020,
}
