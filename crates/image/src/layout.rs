//! An OCI image layout in a directory as a source of images (OCI image specification 1.1, image-layout.md).
//!
//! What is in it is as hostile as what a registry sends. Blobs are found by checked digests only, and only regular files are read.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use carrack_registry::LONGEST_MANIFEST;
use carrack_registry::media_type::OCI_INDEX;
use carrack_sys::rustix;
use carrack_sys::rustix::fs::{Mode, OFlags};
use carrack_words::{Digest, ImageRef, Kind};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::Platform;
use crate::document::{Document, DocumentError, Offer, parse_document};
use crate::platform::choose;

/// A directory is not an image layout that we can use.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file cannot be read.
    #[error("read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A pipe, a device, a directory.
    #[error("{path} is not a regular file", path = path.display())]
    NotFile {
        /// The file.
        path: PathBuf,
    },
    /// Longer than it may be.
    #[error("{path} is larger than {limit_bytes} bytes", path = path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The bound.
        limit_bytes: u64,
    },
    /// `oci-layout` is not that of version 1.
    #[error("{path} is not that of an OCI image layout of version 1", path = path.display())]
    Version {
        /// The file.
        path: PathBuf,
    },
    /// `index.json` cannot be used.
    #[error("{path} cannot be used", path = path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// Why.
        source: DocumentError,
    },
    /// Several images, none of this name or platform.
    #[error("{path} has {count} images, and none is named {tag}", path = path.display())]
    NoSuchName {
        /// The file.
        path: PathBuf,
        /// How many.
        count: usize,
        /// The tag that was looked for.
        tag: String,
    },
    /// The bytes are not those of the digest.
    #[error("{path} has digest {got}", path = path.display())]
    WrongDigest {
        /// The file.
        path: PathBuf,
        /// What its bytes have.
        got: Digest,
    },
    /// The size is not what the manifest says.
    #[error("{path} has {got_bytes} bytes, and the manifest says {want_bytes}", path = path.display())]
    WrongSize {
        /// The file.
        path: PathBuf,
        /// What it has.
        got_bytes: u64,
        /// What the manifest says.
        want_bytes: u64,
    },
}

impl LayoutError {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => Kind::NotFound,
            Self::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Kind::Denied,
            Self::Read { .. } => Kind::Internal,
            Self::NotFile { .. } | Self::TooLarge { .. } | Self::Version { .. } => Kind::Invalid,
            Self::Index { source, .. } => source.kind(),
            Self::NoSuchName { .. } => Kind::NotFound,
            Self::WrongDigest { .. } | Self::WrongSize { .. } => Kind::DataLoss,
        }
    }
}

/// A layout directory. Everything here blocks.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Opens the layout in `root`.
    pub(crate) fn open(root: &Path) -> Result<Self, LayoutError> {
        #[derive(Deserialize)]
        struct Marker {
            #[serde(rename = "imageLayoutVersion")]
            version: String,
        }
        let path = root.join("oci-layout");
        let text = read_bounded(&path, 4096)?;
        let marker: Marker = serde_json::from_slice(&text).map_err(|_| LayoutError::Version { path: path.clone() })?;
        if !marker.version.starts_with("1.") {
            return Err(LayoutError::Version { path });
        }
        Ok(Self { root: root.to_owned() })
    }

    /// The manifest or index that `name` and `wanted` mean: the only one, or the one with the name's tag, or else the one for the platform.
    pub(crate) fn find(&self, name: &ImageRef, wanted: &Platform) -> Result<Digest, LayoutError> {
        let path = self.root.join("index.json");
        let text = read_bounded(&path, LONGEST_MANIFEST as u64)?;
        let index = |source| LayoutError::Index { path: path.clone(), source };
        let offers = match parse_document(&text, Some(OCI_INDEX)).map_err(index)? {
            Document::Index(offers) => offers,
            Document::Manifest(_) => return Err(index(DocumentError::Missing { field: "manifests" })),
        };
        let offer = pick(&offers, name, wanted).ok_or_else(|| LayoutError::NoSuchName {
            path: path.clone(),
            count: offers.len(),
            tag: name.tag().unwrap_or_default().to_owned(),
        })?;
        offer.digest().map_err(index)
    }

    /// Reads a blob that is a document, and checks it.
    pub(crate) fn read(&self, digest: &Digest, limit_bytes: usize) -> Result<Vec<u8>, LayoutError> {
        let path = self.path(digest);
        let bytes = read_bounded(&path, limit_bytes as u64)?;
        match Digest::from_sha256(Sha256::digest(&bytes).into()) {
            got if got == *digest => Ok(bytes),
            got => Err(LayoutError::WrongDigest { path, got }),
        }
    }

    /// Opens a blob of this size. Whether its bytes are right is for the reader to find out.
    pub(crate) fn open_blob(&self, digest: &Digest, want_bytes: u64) -> Result<File, LayoutError> {
        let path = self.path(digest);
        let (file, got_bytes) = open_file(&path)?;
        if got_bytes == want_bytes { Ok(file) } else { Err(LayoutError::WrongSize { path, got_bytes, want_bytes }) }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.algorithm()).join(digest.hex())
    }
}

fn pick<'a>(offers: &'a [Offer], name: &ImageRef, wanted: &Platform) -> Option<&'a Offer> {
    if let [only] = offers {
        return Some(only);
    }
    let is_named = |offer: &&Offer| {
        let ref_name = offer.ref_name.as_deref();
        ref_name.is_some() && (ref_name == name.tag() || ref_name == Some(name.to_string().as_str()))
    };
    let named: Vec<&Offer> = offers.iter().filter(is_named).collect();
    // Without names a layout with several manifests is one image for several platforms.
    let candidates = if named.is_empty() && offers.iter().all(|offer| offer.ref_name.is_none()) {
        offers.iter().filter(|offer| offer.platform.is_some()).collect()
    } else {
        named
    };
    choose(wanted, candidates.into_iter().map(|offer| (offer.platform.clone(), offer)))
}

fn open_file(path: &Path) -> Result<(File, u64), LayoutError> {
    let failed = |source| LayoutError::Read { path: path.to_owned(), source };
    // Without waiting: it may be a pipe.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|error| failed(error.into()))?);
    let found = file.metadata().map_err(failed)?;
    if found.is_file() { Ok((file, found.len())) } else { Err(LayoutError::NotFile { path: path.to_owned() }) }
}

fn read_bounded(path: &Path, limit_bytes: u64) -> Result<Vec<u8>, LayoutError> {
    let (file, size) = open_file(path)?;
    if size > limit_bytes {
        return Err(LayoutError::TooLarge { path: path.to_owned(), limit_bytes });
    }
    let mut bytes = Vec::new();
    file.take(limit_bytes)
        .read_to_end(&mut bytes)
        .map_err(|source| LayoutError::Read { path: path.to_owned(), source })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_image_or_the_named_one_or_the_platforms() {
        let offer = |ref_name: Option<&str>, platform: Option<&str>| Offer {
            platform: platform.map(|text| text.parse().unwrap()),
            ref_name: ref_name.map(str::to_owned),
            media_type: None,
            digest: format!("{ref_name:?} {platform:?}"),
            size_bytes: 1,
        };
        let name: ImageRef = "app:v2".parse().unwrap();
        let wanted = Platform::new("linux", "amd64", None);
        for (offers, want) in [
            (vec![offer(Some("x"), None)], Some(0)),
            (vec![offer(Some("v1"), None), offer(Some("v2"), None)], Some(1)),
            (vec![offer(Some("v1"), None), offer(Some("docker.io/library/app:v2"), None)], Some(1)),
            (vec![offer(Some("v2"), Some("linux/arm64")), offer(Some("v2"), Some("linux/amd64"))], Some(1)),
            (vec![offer(None, Some("linux/arm64")), offer(None, Some("linux/amd64"))], Some(1)),
            (vec![offer(Some("v1"), None), offer(Some("v3"), None)], None),
            (vec![offer(None, None), offer(None, None)], None),
            (vec![], None),
        ] {
            assert_eq!(pick(&offers, &name, &wanted), want.map(|at: usize| &offers[at]), "{offers:?}");
        }
    }
}
