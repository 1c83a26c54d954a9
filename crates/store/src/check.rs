//! Compares what is on disk with what should be.

use carrack_words::Digest;
use std::io;

use crate::blobs::hash_file;
use crate::{LayerKey, Store, StoreError};

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Blobs that were read.
    pub blobs: u64,
    /// Blobs whose bytes are not those of their name.
    pub damaged: Vec<Digest>,
    /// Blobs without a file.
    pub missing: Vec<Digest>,
    /// Layers without a directory.
    pub missing_layers: Vec<LayerKey>,
}

impl CheckReport {
    /// Whether all is well.
    pub fn is_clean(&self) -> bool {
        self.damaged.is_empty() && self.missing.is_empty() && self.missing_layers.is_empty()
    }
}

impl Store {
    /// Reads every blob and compares its digest; looks for every layer's directory. Changes nothing. What is removed meanwhile is not reported.
    pub fn check(&self) -> Result<CheckReport, StoreError> {
        let mut report = CheckReport::default();
        for blob in self.blobs().list()? {
            let found = match hash_file(&self.blobs().path(&blob.digest)) {
                Ok(found) => Some(found),
                Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
            report.blobs += 1;
            let known = || {
                self.database().read("look up a blob", |transaction| {
                    let sql = "SELECT count(*) FROM blobs WHERE digest = ?1";
                    transaction.query_row(sql, [blob.digest.to_string()], |row| row.get::<_, i64>(0))
                })
            };
            match found {
                Some(found) if found == blob.digest => {}
                Some(_) => report.damaged.push(blob.digest),
                None if known()? == 0 => {}
                None => report.missing.push(blob.digest),
            }
        }
        for layer in self.layers().list()? {
            let still_known = || self.layers().list().map(|all| all.iter().any(|other| other.id == layer.id));
            if !layer.path.is_dir() && still_known()? {
                report.missing_layers.push(layer.key);
            }
        }
        Ok(report)
    }
}
