//! What we write down of an image, as JSON in the store's table of images.
//!
//! ```json
//! {"version": 1, "manifest": "sha256:…", "config": "{…}", "layers": [{"blob": "sha256:…", "size_bytes": 1, "diff_id": "sha256:…",
//!  "chain_id": "sha256:…", "key": "diff:sha256:…", "file_bytes": 1}]}
//! ```
//!
//! `manifest` is that of the platform which was chosen; what the name led to is a column of its own. `config` is the configuration's text: with it
//! a list of all images costs one query and no file.

use carrack_store::{ImageRecord, Layer, LayerKey};
use carrack_words::{ChainId, DiffId, Digest, ImageRef, Timestamp};
use serde::{Deserialize, Serialize};

use crate::config::{ImageConfig, parse_config};
use crate::document::BlobInfo;
use crate::layer_fetch::LayerPlan;
use crate::{FetchError, ImageError};

/// The present form. An older one, once there is one, is read by an upgrade function here.
const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    version: u32,
    pub(crate) manifest: Digest,
    config: String,
    layers: Vec<RecordLayer>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct RecordLayer {
    blob: Digest,
    size_bytes: u64,
    diff_id: DiffId,
    chain_id: ChainId,
    key: String,
    file_bytes: u64,
}

/// One layer of an image that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageLayer {
    /// The compressed blob, as the manifest has it. It need not be in the store.
    pub blob: BlobInfo,
    /// The uncompressed tar's digest.
    pub diff_id: DiffId,
    /// The digest of this layer and those below.
    pub chain_id: ChainId,
    /// Under which the store keeps the unpacked layer.
    pub key: LayerKey,
    /// Bytes of the files in it.
    pub file_bytes: u64,
}

impl ImageLayer {
    pub(crate) fn plan(&self, is_bottom: bool) -> LayerPlan {
        LayerPlan { blob: self.blob, diff_id: self.diff_id, chain_id: self.chain_id, is_bottom }
    }
}

impl Record {
    pub(crate) fn new(
        manifest: &Digest,
        config: &[u8],
        plans: &[LayerPlan],
        layers: &[Layer],
    ) -> Result<Self, FetchError> {
        let layer = |(plan, layer): (&LayerPlan, &Layer)| RecordLayer {
            blob: plan.blob.digest,
            size_bytes: plan.blob.size_bytes,
            diff_id: plan.diff_id,
            chain_id: plan.chain_id,
            key: layer.key.to_string(),
            file_bytes: layer.facts.totals.file_bytes,
        };
        // The configuration was parsed as JSON, so it is UTF-8; a byte order mark or the like would have failed there.
        let config = String::from_utf8_lossy(config).into_owned();
        Ok(Self {
            version: VERSION,
            manifest: *manifest,
            config,
            layers: plans.iter().zip(layers).map(layer).collect(),
        })
    }

    /// The row for one name.
    pub(crate) fn row(
        &self,
        name: &ImageRef,
        top: Digest,
        top_size_bytes: u64,
        media_type: &str,
        id: Digest,
    ) -> ImageRecord {
        ImageRecord {
            name: name.to_string(),
            manifest: top,
            manifest_size_bytes: top_size_bytes,
            media_type: media_type.to_owned(),
            config: id,
            record: serde_json::to_string(self).expect("texts and numbers have a JSON form"),
            created: Timestamp::now(),
        }
    }

    pub(crate) fn read(row: &ImageRecord) -> Result<Self, ImageError> {
        serde_json::from_str(&row.record).map_err(|source| ImageError::BadRecord { name: row.name.clone(), source })
    }

    pub(crate) fn config(&self, row: &ImageRecord) -> Result<ImageConfig, ImageError> {
        parse_config(self.config.as_bytes()).map_err(|source| ImageError::BadConfig { name: row.name.clone(), source })
    }

    pub(crate) fn layers(&self, row: &ImageRecord) -> Result<Vec<ImageLayer>, ImageError> {
        let layer = |layer: &RecordLayer| {
            let bad = |error| ImageError::BadRecord {
                name: row.name.clone(),
                source: <serde_json::Error as serde::de::Error>::custom(error),
            };
            Ok(ImageLayer {
                blob: BlobInfo { digest: layer.blob, size_bytes: layer.size_bytes },
                diff_id: layer.diff_id,
                chain_id: layer.chain_id,
                key: layer.key.parse().map_err(bad)?,
                file_bytes: layer.file_bytes,
            })
        };
        self.layers.iter().map(layer).collect()
    }
}
