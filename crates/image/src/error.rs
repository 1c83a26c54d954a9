//! What can go wrong with images.

use std::path::PathBuf;
use std::sync::Arc;

use carrack_layer::UnpackError;
use carrack_registry::RegistryError;
use carrack_store::StoreError;
use carrack_words::{DiffId, Digest, Kind};

use crate::Platform;
use crate::config::ConfigError;
use crate::document::DocumentError;
use crate::layout::LayoutError;

/// A pull failed. All who waited for it get the same error.
#[derive(Debug, Clone, thiserror::Error)]
#[error("pull {image}")]
pub struct PullError {
    /// The reference, in full.
    pub image: String,
    /// Why.
    pub source: Arc<FetchError>,
}

impl PullError {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        self.source.kind()
    }
}

/// Loading an image from a directory failed.
#[derive(Debug, thiserror::Error)]
#[error("load {image} from {path}", path = path.display())]
pub struct LoadError {
    /// The reference that it was to get, in full.
    pub image: String,
    /// The directory.
    pub path: PathBuf,
    /// Why.
    pub source: FetchError,
}

impl LoadError {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        self.source.kind()
    }
}

/// An image could not be brought into the store.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The registry fails, refuses or lies.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The directory with the image cannot be used.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The store fails; a full disk is such a case.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An index or manifest cannot be used.
    #[error("{digest} cannot be used")]
    Document {
        /// The document.
        digest: Digest,
        /// Why.
        source: DocumentError,
    },
    /// A document has another size than the index says.
    #[error("manifest {digest} has {got_bytes} bytes, the index says {want_bytes}")]
    DocumentSize {
        /// The document.
        digest: Digest,
        /// What came.
        got_bytes: u64,
        /// What the index says.
        want_bytes: u64,
    },
    /// Indexes within indexes without end.
    #[error("indexes are nested more than {limit} deep")]
    TooDeep {
        /// How many are followed.
        limit: usize,
    },
    /// Nothing for this machine in the index.
    #[error("there is no image for {wanted}, only for {offered}")]
    NoPlatform {
        /// What was asked for.
        wanted: Platform,
        /// What is there.
        offered: String,
    },
    /// The only image is for another machine than was asked for.
    #[error("the image is for {got}, and {wanted} was asked for")]
    WrongPlatform {
        /// What was asked for.
        wanted: Box<Platform>,
        /// What it is.
        got: Box<Platform>,
    },
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Manifest and configuration disagree.
    #[error("the manifest lists layers: {layers}, and the configuration: {diff_ids}")]
    LayerCount {
        /// In the manifest.
        layers: usize,
        /// In the configuration.
        diff_ids: usize,
    },
    /// A layer is damaged or hostile, or cannot be written.
    #[error("layer {digest}")]
    Unpack {
        /// The layer's blob.
        digest: Digest,
        /// Why.
        source: UnpackError,
    },
    /// A layer is not what the configuration says.
    #[error("layer {digest} unpacks to {got}, and the configuration says {want}")]
    WrongDiffId {
        /// The layer's blob.
        digest: Digest,
        /// What the configuration says.
        want: DiffId,
        /// What came.
        got: DiffId,
    },
    /// The program ends.
    #[error("the work was interrupted")]
    Interrupted,
}

impl FetchError {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Registry(source) => source.kind(),
            Self::Layout(source) => source.kind(),
            Self::Store(source) => source.kind(),
            Self::Document { source, .. } => source.kind(),
            Self::Config(source) => source.kind(),
            Self::Unpack { source, .. } => source.kind(),
            Self::NoPlatform { .. } | Self::WrongPlatform { .. } => Kind::NotFound,
            Self::TooDeep { .. } | Self::LayerCount { .. } => Kind::Invalid,
            Self::DocumentSize { .. } | Self::WrongDiffId { .. } => Kind::DataLoss,
            Self::Interrupted => Kind::Unavailable,
        }
    }

    /// Whether the same request may succeed soon, so that what is here already should be kept for it.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self.kind(), Kind::Unavailable | Kind::Deadline | Kind::Busy)
    }
}

/// Looking up, naming or removing an image failed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No image has this name or id.
    #[error("no such image: {query}")]
    NotFound {
        /// What was asked for.
        query: String,
    },
    /// Several images' ids start so.
    #[error("{query} is the beginning of {count} image ids")]
    Ambiguous {
        /// What was asked for.
        query: String,
        /// How many.
        count: usize,
    },
    /// Only a tag can be given to an image.
    #[error("{name} has a digest: an image gets a name with a tag")]
    NameWithDigest {
        /// The name.
        name: String,
    },
    /// Containers need it.
    #[error("image {image} is in use by {users}")]
    InUse {
        /// The image as it was named.
        image: String,
        /// The containers.
        users: String,
    },
    /// By its id, an image of several names is removed only by force.
    #[error("image {id} has several names: {names}: name one of them, or force its removal")]
    SeveralNames {
        /// The image's id.
        id: Digest,
        /// All of them.
        names: String,
    },
    /// A layer is gone and its blob too: the image has to be pulled again.
    #[error("image {id} lost its layer {layer}: pull it again")]
    LayerLost {
        /// The image's id.
        id: Digest,
        /// The layer's blob.
        layer: Digest,
    },
    /// A layer that is gone could not be made anew.
    #[error("image {id}: unpack its layer {layer} again")]
    Rebuild {
        /// The image's id.
        id: Digest,
        /// The layer's blob.
        layer: Digest,
        /// Why.
        source: Box<FetchError>,
    },
    /// A record of ours cannot be read.
    #[error("the record of image {name} is malformed")]
    BadRecord {
        /// The image's name.
        name: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The configuration in a record cannot be read.
    #[error("the record of image {name} is malformed")]
    BadConfig {
        /// The image's name.
        name: String,
        /// Why.
        source: ConfigError,
    },
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ImageError {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } => Kind::NotFound,
            Self::Ambiguous { .. } | Self::NameWithDigest { .. } => Kind::Invalid,
            Self::InUse { .. } | Self::SeveralNames { .. } => Kind::Precondition,
            Self::LayerLost { .. } | Self::BadRecord { .. } | Self::BadConfig { .. } => Kind::DataLoss,
            Self::Rebuild { source, .. } => source.kind(),
            Self::Store(source) => source.kind(),
        }
    }
}
