//! The tar format: ustar and PAX (POSIX.1-2024, pax), GNU (gnu.org/software/tar, "Basic Tar Format"), star's prefix variant.
//!
//! Where implementations differ we follow Go's `archive/tar`, because containerd, Docker and Podman read layers with it.
//! Wire types: what comes out of here is well-formed and bounded, and says nothing about whether it is harmless.

mod entry;
mod header;
mod pax;
mod reader;
mod sparse;

pub use entry::{Extent, TarEntry, Type, Xattr};
pub use header::{Header, Number};
pub use reader::Reader;

/// Headers and data come in blocks of this many bytes.
pub const BLOCK: usize = 512;
