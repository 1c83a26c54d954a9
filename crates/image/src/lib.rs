//! Turns image references into root filesystems.
//!
//! [`Images`] brings images into the store, from registries ([`Images::pull`]) or OCI layouts ([`Images::load_oci_layout`]), finds, names and
//! removes them, and gives their layers as overlayfs takes them ([`Images::rootfs`]).
//!
//! Everything that an image says is hostile. Indexes, manifests and configurations are bounded and parsed into types of our own here; layers are
//! the `layer` crate's; every size and digest is checked on the way, and nothing that fails a check is kept. The async part is the way in; what
//! only asks the store blocks, and says so.

#![forbid(unsafe_code)]

mod config;
mod document;
mod error;
mod flight;
mod images;
mod layer_fetch;
mod layout;
mod platform;
mod progress;
mod pull;
mod record;
mod source;
mod work;

pub use config::{ConfigError, ImageConfig, RunDefaults};
pub use document::{BlobInfo, DocumentError, MOST_LAYERS};
pub use error::{FetchError, ImageError, LoadError, PullError};
pub use images::{Force, Image, Images, Names, PullOptions, Removed};
pub use layout::LayoutError;
pub use platform::{Platform, PlatformError};
pub use progress::{Progress, PullEvent};
pub use record::ImageLayer;
