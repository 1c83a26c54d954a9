//! What makes the blobs an OCI image layout (image-spec 1.1, image-layout.md).

use serde_json::json;
use std::fs;
use std::path::Path;

use crate::random::random_name;
use crate::{Store, StoreError};

const INDEX: &str = "index.json";
const MARK: &str = "oci-layout";

/// Writes the two files of an empty layout if they are not there.
pub(crate) fn ensure(store: &Store) -> Result<(), StoreError> {
    if !store.path(MARK).exists() {
        replace(store, MARK, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    }
    if !store.path(INDEX).exists() {
        write_index(store)?;
    }
    Ok(())
}

/// Lists the images as they are now in `index.json`. It is for other tools; we never read it, so it is not synced.
pub(crate) fn write_index(store: &Store) -> Result<(), StoreError> {
    let _one_writer = store.locks().acquire("store", INDEX, store.patience())?;
    let manifests: Vec<_> = store
        .images()
        .list()?
        .into_iter()
        .map(|image| {
            json!({
                "mediaType": image.media_type,
                "digest": image.manifest,
                "size": image.manifest_size_bytes,
                "annotations": { "org.opencontainers.image.ref.name": image.name },
            })
        })
        .collect();
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    });
    replace(store, INDEX, index.to_string().as_bytes())
}

fn replace(store: &Store, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
    let _no_sweep = store.locks().acquire_shared("store", "sweep", store.patience())?;
    let aside = store.path(format!("ingest/{}-{name}", random_name(8)?));
    let target = store.path(name);
    let write = |path: &Path| fs::write(path, bytes).map_err(|error| StoreError::io("write", path, error));
    let result = write(&aside)
        .and_then(|()| fs::rename(&aside, &target).map_err(|error| StoreError::io("replace", &target, error)));
    if result.is_err() {
        // The first failure is the one to report; what is left is swept later.
        let _ = fs::remove_file(&aside);
    }
    result
}
