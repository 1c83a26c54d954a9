//! The classes of failure. Each edge has one table from class to gRPC status, HTTP status or exit code.

/// What sort of failure an error is; edges decide by this and never by an error's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The named object does not exist.
    NotFound,
    /// The name or id is taken.
    AlreadyExists,
    /// The request itself is wrong; repeating it cannot help.
    Invalid,
    /// The object is in a state that does not allow the request.
    Precondition,
    /// Somebody else is at work on the object; a repeat may help.
    Busy,
    /// Not allowed.
    Denied,
    /// Known, and not offered here.
    Unsupported,
    /// A peer or a resource cannot be reached now; a repeat may help.
    Unavailable,
    /// A time limit ran out.
    Deadline,
    /// Bytes are not what they should be.
    DataLoss,
    /// A bound on memory, disk, processes or tokens is reached.
    Exhausted,
    /// Everything else: a bug, or a host that misbehaves.
    Internal,
}
