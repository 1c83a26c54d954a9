//! Where an image comes from: a registry or a layout. The rest of the way is the same.

use std::sync::Arc;

use carrack_registry::{LONGEST_MANIFEST, ManifestReference, RawManifest, Repository};
use carrack_store::Expected;
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

impl From<RawManifest> for Fetched {
    fn from(raw: RawManifest) -> Self {
        Self { digest: raw.digest, announced: raw.media_type, bytes: raw.bytes }
    }
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
                match digest {
                    // By digest, if it is known: a tag could have moved on meanwhile, and be told about as the old one.
                    Some(digest) => self.document(work, digest).await,
                    // Then the answer is this caller's alone: what somebody else was told of the tag before, or as another user, may differ.
                    None => Ok(Fetched::from(repository.manifest(&reference).await?)),
                }
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
        match self {
            Self::Registry(repository) => {
                let fetch = async { Ok(repository.manifest(&ManifestReference::Digest(digest)).await?.into()) };
                once(work, digest, LONGEST_MANIFEST, fetch).await
            }
            Self::Layout(layout) => {
                if let Some(bytes) = work.stored(digest, LONGEST_MANIFEST).await? {
                    return Ok(Fetched { digest, announced: None, bytes });
                }
                let layout = layout.clone();
                let bytes = work.blocking(move |_, _| Ok(layout.read(&digest, LONGEST_MANIFEST)?)).await?;
                Ok(Fetched { digest, announced: None, bytes })
            }
        }
    }

    /// The configuration's bytes.
    pub(crate) async fn config(&self, work: &Work, blob: BlobInfo) -> Result<Vec<u8>, FetchError> {
        match self {
            Self::Registry(repository) => {
                let fetch = async {
                    let bytes = repository.blob_bytes(&blob.digest, blob.size_bytes, LONGEST_CONFIG).await?;
                    Ok(Fetched { digest: blob.digest, announced: None, bytes })
                };
                Ok(once(work, blob.digest, LONGEST_CONFIG, fetch).await?.bytes)
            }
            Self::Layout(layout) => {
                if let Some(bytes) = work.stored(blob.digest, LONGEST_CONFIG).await? {
                    return Ok(bytes);
                }
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

/// What the store has of `digest`, or else what `fetch` brings, which is in the store before this returns. So of several pulls of one image
/// at a time, also of other processes, one fetches and the others find it.
///
/// They share bytes by their digest and nothing else: which digest a tag has, each asks by itself, for the answer depends on who asks and when.
async fn once(
    work: &Work,
    digest: Digest,
    limit_bytes: usize,
    fetch: impl Future<Output = Result<Fetched, FetchError>>,
) -> Result<Fetched, FetchError> {
    let stored = |bytes| Fetched { digest, announced: None, bytes };
    if let Some(bytes) = work.stored(digest, limit_bytes).await? {
        return Ok(stored(bytes));
    }
    let _only_one = work.exclusively(digest).await?;
    if let Some(bytes) = work.stored(digest, limit_bytes).await? {
        return Ok(stored(bytes));
    }
    let fetched = fetch.await?;
    let bytes = fetched.bytes.clone();
    work.blocking(move |store, lease| {
        let want = Expected { digest, size_bytes: Some(bytes.len() as u64) };
        Ok(store.blobs().put(lease, &bytes, &want)?)
    })
    .await?;
    Ok(fetched)
}
