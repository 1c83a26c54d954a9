//! How much there is.

use crate::{Store, StoreError};

/// Sums over the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Blobs.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Layers.
    pub layers: u64,
    /// Bytes of the files in them.
    pub layer_bytes: u64,
    /// Inodes in them.
    pub layer_inodes: u64,
}

impl Store {
    /// What blobs and layers take. Each is counted once, whoever shares it.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        self.database().read("sum up", |transaction| {
            let sums = |sql: &str| {
                transaction
                    .query_row(sql, [], |row| Ok([row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?].map(|n| n as u64)))
            };
            let [blobs, blob_bytes, _] = sums("SELECT count(*), coalesce(sum(size), 0), 0 FROM blobs")?;
            let [layers, layer_bytes, layer_inodes] =
                sums("SELECT count(*), coalesce(sum(file_bytes), 0), coalesce(sum(inodes), 0) FROM layers")?;
            Ok(Usage { blobs, blob_bytes, layers, layer_bytes, layer_inodes })
        })
    }
}
