//! Keeps blobs, layers and records on disk.
//!
//! ```text
//! <root>/  oci-layout, index.json, blobs/sha256/<hex>     an OCI image layout (image-spec 1.1, image-layout.md)
//!          ingest/<id>                                    blobs being written; each locked by its writer
//!          layers/<id>/fs                                 unpacked layers in overlayfs' form
//!          layers/active/<id>/fs                          layers being unpacked; each locked by its writer
//!          layers/trash/<id>                              being removed
//!          carrack.db                                     SQLite (WAL): what there is, who needs it, and the engine's records
//! <run>/   locks/<kind>                                   one byte per object, locked by its owner
//! ```
//!
//! Several processes use one store at once. A transaction never spans an effect on files; what a crash leaves between the two is found by
//! [`Store::gc`], which removes everything that no row names and no living process holds locked. What is needed is held: by an image, by a container,
//! or by a [`Lease`] while it is being fetched; the rest goes.
//!
//! Nothing is synced while it is written. Blobs and layers are marked with the boot in which they were made until [`Store::promote`] has synced them;
//! after a crash of the machine what was not promoted is verified (blobs) or dropped (layers). Images are synced when they are put.
//!
//! No handle of a [`Store`] survives a fork. Everything here blocks.

#![forbid(unsafe_code)]

mod blobs;
mod check;
mod database;
mod error;
mod events;
mod gc;
mod holds;
mod images;
mod ingest;
mod layers;
mod layout;
mod leases;
mod locks;
mod promote;
mod random;
mod records;
mod resource;
mod store;
mod usage;
mod watch;

pub use blobs::{BlobStat, Blobs};
pub use check::CheckReport;
pub use error::StoreError;
pub use events::{Event, Events};
pub use gc::Collected;
pub use holds::Holds;
pub use images::{ImageRecord, Images};
pub use ingest::{CheckedBlob, Expected, Ingest};
pub use layers::{ActiveLayer, Layer, LayerFacts, Layers, Stack};
pub use leases::{Lease, Leases};
pub use locks::{Lock, Locks};
pub use promote::Promoted;
pub use records::{Record, Records};
pub use resource::{LayerKey, Resource, ResourceError};
pub use store::{Host, Store};
pub use usage::Usage;
pub use watch::Watch;
