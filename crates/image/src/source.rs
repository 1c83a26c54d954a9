//! Where an image comes from: a registry or a layout. The rest of the way is the same.

use std::sync::Arc;

use carrack_registry::{LONGEST_MANIFEST, ManifestReference, Repository};
use carrack_words::{Digest, ImageRef};

use crate::config::LONGEST_CONFIG;
use crate::document::BlobInfo;
use crate::layout::Layout;
use crate::work::Work;
use crate::{FetchError, Platform};

/// Where an image comes from.
#[derive(Clone)]
pub(crate) enum Source {
    Registry(Arc<Repository>),
    Layout(Layout),
}

/// An index's or manifest's bytes, which are those of the digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fetched {
    pub(crate) digest: Digest,
    /// The type that the registry gave it.
    pub(crate) announced: Option<String>,
    pub(crate) bytes: Vec<u8>,
}

impl Source {
    /// The document that a name leads to. If the store has it, only its digest is asked for.
    pub(crate) async fn top(&self, work: &Work, image: &ImageRef, wanted: &Platform) -> Result<Fetched, FetchError> {
        match self {
            Self::Registry(repository) => {
                let reference = ManifestReference::of(image);
                let digest = match &reference {
                    ManifestReference::Digest(digest) => Some(*digest),
                    ManifestReference::Tag(_) => repository.manifest_digest(&reference).await?,
                };
                if let Some(digest) = digest
                    && let Some(stored) = work.stored(digest, LONGEST_MANIFEST).await?
                {
                    return Ok(Fetched { digest, announced: None, bytes: stored });
                }
                // By digest, if it is known: a tag could have moved on meanwhile, and be told about as the old one.
                let reference = digest.map_or(reference, ManifestReference::Digest);
                let raw = repository.manifest(&reference).await?;
                Ok(Fetched { digest: raw.digest, announced: raw.media_type, bytes: raw.bytes })
            }
            Self::Layout(layout) => {
                let (layout, image, wanted) = (layout.clone(), image.clone(), wanted.clone());
                let digest = work.blocking(move |_, _| Ok(layout.find(&image, &wanted)?)).await?;
                self.document(work, digest).await
            }
        }
    }

    /// The manifest or index of this digest.
    pub(crate) async fn document(&self, work: &Work, digest: Digest) -> Result<Fetched, FetchError> {
        if let Some(bytes) = work.stored(digest, LONGEST_MANIFEST).await? {
            return Ok(Fetched { digest, announced: None, bytes });
        }
        match self {
            Self::Registry(repository) => {
                let raw = repository.manifest(&ManifestReference::Digest(digest)).await?;
                Ok(Fetched { digest: raw.digest, announced: raw.media_type, bytes: raw.bytes })
            }
            Self::Layout(layout) => {
                let layout = layout.clone();
                let bytes = work.blocking(move |_, _| Ok(layout.read(&digest, LONGEST_MANIFEST)?)).await?;
                Ok(Fetched { digest, announced: None, bytes })
            }
        }
    }

    /// The configuration's bytes.
    pub(crate) async fn config(&self, work: &Work, blob: BlobInfo) -> Result<Vec<u8>, FetchError> {
        if let Some(bytes) = work.stored(blob.digest, LONGEST_CONFIG).await? {
            return Ok(bytes);
        }
        match self {
            Self::Registry(repository) => {
                Ok(repository.blob_bytes(&blob.digest, blob.size_bytes, LONGEST_CONFIG).await?)
            }
            Self::Layout(layout) => {
                let layout = layout.clone();
                work.blocking(move |_, _| {
                    layout.open_blob(&blob.digest, blob.size_bytes)?;
                    Ok(layout.read(&blob.digest, LONGEST_CONFIG)?)
                })
                .await
            }
        }
    }
}
