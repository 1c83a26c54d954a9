//! Turns tar streams of image layers into directories.
//!
//! A layer is a tar stream, plain or compressed (OCI image specification 1.1, layer.md), and hostile until proved otherwise. [`unpack`] reads it
//! once and leaves a directory in the form that overlayfs wants for a lower directory: a whiteout is a character device 0:0, an opaque directory
//! carries `trusted.overlay.opaque=y`. On the way it computes the `diff_id`.
//!
//! Layers are unpacked without waiting for those below them. Whether that was right is the [`SelfContained`] answer; if it was not, [`settle`]
//! mends the directory once the layers below are there, or says that it has to be unpacked again with knowledge of them. Either way the merged
//! tree is the one that unpacking all layers into one directory, from the bottom upwards, would have given.
//!
//! Everything here is synchronous. The directory that is written must be private to the caller until it is done.

#![forbid(unsafe_code)]

mod attributes;
mod compression;
mod error;
mod limits;
mod path;
mod pipeline;
mod stream;
pub mod tar;
mod unpack;

pub use attributes::{Time, copy_attributes};
pub use compression::Compression;
pub use error::{EntryProblem, HeaderProblem, Shown, UnpackError};
pub use limits::{Devices, Limits, UnpackOptions};
pub use unpack::settle::{Settled, settle};
pub use unpack::{Lowers, Reason, SelfContained, Totals, Unpacked, Unsettled, unpack};
