//! Ids, digests, times and error classes: the words every crate speaks.
//!
//! Everything here is pure, valid by construction, and checked once, where it enters.

#![forbid(unsafe_code)]

mod digest;
mod exit;
mod id;
mod image_ref;
mod kind;
mod process;
mod timestamp;

pub use digest::{ChainId, DiffId, Digest, DigestError};
pub use exit::Exit;
pub use id::{ContainerId, ExecId, IdError, PodId};
pub use image_ref::{ImageQuery, ImageRef, ImageRefError};
pub use kind::Kind;
pub use process::ProcessId;
pub use timestamp::{Timestamp, TimestampError};
