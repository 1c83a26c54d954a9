//! What the store can hold on to, and its names in the database.

use carrack_words::{ChainId, DiffId, Digest, DigestError};
use std::fmt;

/// Under which name a layer is kept.
///
/// The bottom layer's two ids are the same digest, and yet two keys: as a `Diff` the layer fits everywhere, as a `Chain` only at the bottom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LayerKey {
    /// A self-contained layer, shared by all images that have it.
    Diff(DiffId),
    /// A layer adjusted to those below it.
    Chain(ChainId),
}

/// Something that stays as long as somebody needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    /// A blob.
    Blob(Digest),
    /// A layer.
    Layer(LayerKey),
}

/// A text names no resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResourceError {
    /// The part before the digest is unknown.
    #[error("invalid resource {text:?}: want blob:, layer:diff: or layer:chain: and a digest")]
    Form {
        /// What was given.
        text: String,
    },
    /// The digest is wrong.
    #[error("invalid resource {text:?}")]
    Digest {
        /// What was given.
        text: String,
        /// Why.
        source: DigestError,
    },
}

impl fmt::Display for LayerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Diff(id) => write!(f, "diff:{id}"),
            Self::Chain(id) => write!(f, "chain:{id}"),
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blob(digest) => write!(f, "blob:{digest}"),
            Self::Layer(key) => write!(f, "layer:{key}"),
        }
    }
}

fn digest(text: &str, whole: &str) -> Result<Digest, ResourceError> {
    text.parse().map_err(|source| ResourceError::Digest { text: whole.to_owned(), source })
}

impl std::str::FromStr for LayerKey {
    type Err = ResourceError;
    fn from_str(text: &str) -> Result<Self, ResourceError> {
        match text.split_once(':') {
            Some(("diff", rest)) => Ok(Self::Diff(DiffId(digest(rest, text)?))),
            Some(("chain", rest)) => Ok(Self::Chain(ChainId(digest(rest, text)?))),
            _ => Err(ResourceError::Form { text: text.to_owned() }),
        }
    }
}

impl std::str::FromStr for Resource {
    type Err = ResourceError;
    fn from_str(text: &str) -> Result<Self, ResourceError> {
        match text.split_once(':') {
            Some(("blob", rest)) => Ok(Self::Blob(digest(rest, text)?)),
            Some(("layer", rest)) => Ok(Self::Layer(rest.parse()?)),
            _ => Err(ResourceError::Form { text: text.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_parses_to_the_same_resource() {
        let digest = Digest::from_sha256([7; 32]);
        for resource in [
            Resource::Blob(digest),
            Resource::Layer(LayerKey::Diff(DiffId(digest))),
            Resource::Layer(LayerKey::Chain(ChainId(digest))),
        ] {
            assert_eq!(resource.to_string().parse(), Ok(resource));
        }
        assert!("blob:sha256:../x".parse::<Resource>().is_err());
        assert!("file:x".parse::<Resource>().is_err());
    }
}
