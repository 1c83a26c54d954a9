//! Looks into an image's root filesystem without mounting it anywhere.

use std::path::PathBuf;

use carrack_rooted::Root;

/// An image's layers cannot be looked into.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// A layer's directory is gone or cannot be opened.
    #[error("open layer {}", path.display())]
    Layer {
        /// Its directory.
        path: PathBuf,
        /// Why.
        source: carrack_rooted::RootedError,
    },
    /// The layers cannot be laid over each other.
    #[error(transparent)]
    Overlay(#[from] carrack_runtime::OverlayError),
}

/// The merged, read-only view of `lowers`, topmost first. It stands in no mount table and ends with the handle.
pub(crate) fn view(lowers: &[PathBuf]) -> Result<Root, ViewError> {
    if let [only] = lowers {
        return Root::open_host(only).map_err(|source| ViewError::Layer { path: only.clone(), source });
    }
    Ok(Root::from(carrack_runtime::open_overlay(lowers, None)?))
}
