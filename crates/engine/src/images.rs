//! Images, as far as containers use them.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use carrack_image::{Image, ImageError, Names, Removed};
use carrack_words::{ContainerId, Digest, ImageQuery, ImageRefError, Kind};

use crate::container::Force;
use crate::engine::Engine;
use crate::error::{EngineError, chain};
use crate::record::ContainerRecord;
use crate::view::Phase;

/// Which names of an image a removal takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoveNames {
    /// The one that was given; given an id, all of them if that is allowed.
    One,
    /// All names of the image, whatever it was named by (CRI).
    All,
}

/// What images and containers take on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskUsage {
    /// Where all of it is.
    pub root: PathBuf,
    /// Bytes of blobs and unpacked layers.
    pub images_bytes: u64,
    /// Inodes of unpacked layers.
    pub images_inodes: u64,
    /// Bytes of the containers' writable layers and files.
    pub containers_bytes: u64,
    /// Inodes of them.
    pub containers_inodes: u64,
}

impl Engine {
    /// The image that `query` names: name, id, or the beginning of one id.
    pub fn find_image(&self, query: &str) -> Result<Image, EngineError> {
        Ok(self.images.find(&parse_query(query)?)?)
    }

    /// Removes an image's name or names, and the image with its last one. Refused while containers need it; if it is forced, while containers that
    /// have not exited do. Others keep the layers until they are removed.
    pub fn remove_image(&self, query: &str, names: RemoveNames, force: Force) -> Result<Removed, EngineError> {
        let query = parse_query(query)?;
        let containers = self.containers_table().list()?;
        let (ends, runs) = (Cell::new(0), Cell::new(0));
        let users = |image: &Digest| {
            let of_image = containers.iter().filter(|container| container.image == *image);
            let in_the_way = of_image.filter(|container| match (names, force, self.is_over(container)) {
                // The kubelet removes images that ended containers still name.
                (RemoveNames::All, ..) | (RemoveNames::One, Force::Yes, true) => false,
                (RemoveNames::One, _, is_over) => {
                    let count = if is_over { &ends } else { &runs };
                    count.set(count.get() + 1);
                    true
                }
            });
            in_the_way.map(|container| container.name.clone()).collect()
        };
        let (all, force) = match (names, force) {
            (RemoveNames::All, _) => (Names::All, carrack_image::Force::Yes),
            (RemoveNames::One, Force::Yes) => (Names::This, carrack_image::Force::Yes),
            (RemoveNames::One, Force::No) => (Names::This, carrack_image::Force::No),
        };
        self.images.remove(&query, all, force, users).map_err(|error| match error {
            ImageError::InUse { image, users } => {
                let state = format!("is in use by {}: {}", named(&users), remedy(ends.get(), runs.get()));
                EngineError::State { what: "image", name: image, state }
            }
            error => error.into(),
        })
    }

    /// Whether a container has exited or never ran; one that nobody can tell about counts as running.
    fn is_over(&self, container: &ContainerRecord) -> bool {
        matches!(self.observe(container), Ok(Phase::Created | Phase::Exited(_)))
    }

    /// Keeps the image's layers as long as the container exists.
    pub(crate) fn hold_image(&self, container: &ContainerId, image: &Image) -> Result<(), EngineError> {
        Ok(self.store.holds().set(&holder(container), &image.resources())?)
    }

    /// All containers for which images are kept, also such as were never recorded.
    pub(crate) fn image_holders(&self) -> Result<Vec<ContainerId>, EngineError> {
        let holders = self.store.holds().with_prefix(HOLDER)?;
        Ok(holders.iter().filter_map(|holder| ContainerId::new(holder.strip_prefix(HOLDER)?).ok()).collect())
    }

    pub(crate) fn release_image(&self, container: &ContainerId) -> Result<(), EngineError> {
        Ok(self.store.holds().release(&holder(container))?)
    }

    /// Frees the layers of an image that was removed while containers kept them. What cannot be freed now the next collection frees.
    pub(crate) fn collect_unless_present(&self, image: Digest) {
        let found = self.images.find(&ImageQuery::Id(image));
        // One that is there, or whose record cannot be read, has layers to lose.
        if !found.is_err_and(|error| error.kind() == Kind::NotFound) {
            return;
        }
        if let Err(error) = self.store.gc() {
            tracing::warn!(%image, error = chain(&error), "free the layers of a removed image");
        }
    }

    /// What images and containers take on disk.
    pub fn disk_usage(&self) -> Result<DiskUsage, EngineError> {
        let usage = self.store.usage()?;
        let (mut containers_bytes, mut containers_inodes) = (0, 0);
        measure(&self.config.root.join("containers"), &mut containers_bytes, &mut containers_inodes);
        Ok(DiskUsage {
            root: self.config.root.clone(),
            images_bytes: usage.blob_bytes + usage.layer_bytes,
            images_inodes: usage.blobs + usage.layer_inodes,
            containers_bytes,
            containers_inodes,
        })
    }
}

fn named(users: &str) -> String {
    match users.contains(',') {
        true => format!("containers {users}"),
        false => format!("container {users}"),
    }
}

/// What to do about containers of an image that are in the way of its removal.
fn remedy(ends: usize, runs: usize) -> &'static str {
    match (ends, runs) {
        (_, 0) => "remove what uses it first, or force its removal",
        (0, 1) => "it has not exited; stop and remove it first",
        (0, _) => "they have not exited; stop and remove them first",
        (_, _) => "some have not exited; stop and remove them first",
    }
}

const HOLDER: &str = "container:";

fn parse_query(text: &str) -> Result<ImageQuery, EngineError> {
    text.parse().map_err(|error: ImageRefError| EngineError::Invalid { message: error.to_string() })
}

fn holder(container: &ContainerId) -> String {
    format!("{HOLDER}{container}")
}

/// Adds up what is below a directory; what goes away meanwhile does not count.
fn measure(directory: &Path, bytes: &mut u64, inodes: &mut u64) {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let Ok(facts) = fs::symlink_metadata(entry.path()) else { continue };
        *inodes += 1;
        *bytes += facts.blocks() * 512;
        if facts.is_dir() {
            measure(&entry.path(), bytes, inodes);
        }
    }
}
