//! What can go wrong with the store.

use carrack_words::{Digest, Kind};
use std::io;
use std::path::{Path, PathBuf};

use crate::Resource;

/// An operation of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A system call failed.
    #[error("{action} {path}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// SQLite failed.
    #[error("{action} in the database {path}", path = path.display())]
    Database {
        /// What was tried.
        action: &'static str,
        /// The database.
        path: PathBuf,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// A newer Carrack has been here.
    #[error("the database {path} has version {found}, this program knows up to {known}", path = path.display())]
    NewerSchema {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// A row holds what we never write.
    #[error("the database has an invalid {what}: {text:?}")]
    BadRow {
        /// Which column.
        what: &'static str,
        /// What it holds.
        text: String,
    },
    /// There is no such object.
    #[error("no such {kind}: {id}")]
    NotFound {
        /// Sort of object.
        kind: String,
        /// Its id or name.
        id: String,
    },
    /// The id is taken.
    #[error("the {kind} {id} exists already")]
    Exists {
        /// Sort of object.
        kind: String,
        /// Its id.
        id: String,
    },
    /// The name is taken.
    #[error("the {kind} name {name:?} is in use by {id}")]
    NameTaken {
        /// Sort of object.
        kind: String,
        /// The name.
        name: String,
        /// Who has it.
        id: String,
    },
    /// Somebody else has changed the record since it was read.
    #[error("the {kind} {id} was changed by somebody else")]
    Stale {
        /// Sort of object.
        kind: String,
        /// Its id.
        id: String,
    },
    /// Somebody else held the lock until the deadline.
    #[error("the {kind} {id} is locked by another operation")]
    Locked {
        /// Sort of object.
        kind: String,
        /// Its id.
        id: String,
    },
    /// The resource is needed.
    #[error("{resource} is in use by {holder}")]
    Held {
        /// What.
        resource: Resource,
        /// By whom.
        holder: String,
    },
    /// The bytes are not as many as announced.
    #[error("blob {digest}: got {got_bytes} bytes, {want_bytes} were announced")]
    WrongSize {
        /// Which blob.
        digest: Digest,
        /// What came.
        got_bytes: u64,
        /// What was announced.
        want_bytes: u64,
    },
    /// The bytes are not the ones that were asked for.
    #[error("blob {want}: the content's digest is {got}")]
    WrongDigest {
        /// Which blob.
        want: Digest,
        /// What came.
        got: Digest,
    },
    /// More bytes than the writer was told to expect.
    #[error("the blob exceeds its limit of {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// A blob on disk is larger than its reader accepts.
    #[error("blob {digest} has {size_bytes} bytes, more than the {limit_bytes} that are accepted here")]
    BlobTooLarge {
        /// Which blob.
        digest: Digest,
        /// Its size.
        size_bytes: u64,
        /// What is accepted.
        limit_bytes: u64,
    },
}

impl StoreError {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Kind::Exhausted,
                io::ErrorKind::PermissionDenied => Kind::Denied,
                _ => Kind::Internal,
            },
            Self::Database { source, .. } => match source.sqlite_error_code() {
                Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => Kind::Busy,
                Some(rusqlite::ErrorCode::DiskFull) => Kind::Exhausted,
                Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => Kind::DataLoss,
                _ => Kind::Internal,
            },
            Self::NewerSchema { .. } => Kind::Unsupported,
            Self::BadRow { .. } | Self::WrongSize { .. } | Self::WrongDigest { .. } => Kind::DataLoss,
            Self::NotFound { .. } => Kind::NotFound,
            Self::Exists { .. } | Self::NameTaken { .. } => Kind::AlreadyExists,
            Self::Stale { .. } | Self::Locked { .. } => Kind::Busy,
            Self::Held { .. } => Kind::Precondition,
            Self::TooLarge { .. } | Self::BlobTooLarge { .. } => Kind::Exhausted,
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: path.to_owned(), source: source.into() }
    }

    pub(crate) fn not_found(kind: &str, id: impl std::fmt::Display) -> Self {
        Self::NotFound { kind: kind.to_owned(), id: id.to_string() }
    }
}
