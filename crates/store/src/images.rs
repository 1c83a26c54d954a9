//! Names of images, and what each needs.

use carrack_words::{Digest, Timestamp};
use rusqlite::{OptionalExtension, Row, params};

use crate::database::parsed;
use crate::{Resource, Store, StoreError, holds, layout};

/// A name and the image it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRecord {
    /// The full name, with tag or digest.
    pub name: String,
    /// The manifest or index that the name led to.
    pub manifest: Digest,
    /// Its length.
    pub manifest_size_bytes: u64,
    /// Its media type.
    pub media_type: String,
    /// The config of the platform that was chosen: the image's id.
    pub config: Digest,
    /// JSON text of the caller's.
    pub record: String,
    /// When the name was last given.
    pub created: Timestamp,
}

/// The images of a store.
#[derive(Debug)]
pub struct Images<'a> {
    store: &'a Store,
}

const COLUMNS: &str = "name, manifest, manifest_size, media_type, config, record, created";

impl<'a> Images<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// Gives a name to an image, which needs `resources`; the name's former image loses it. Returns when the record is on disk.
    pub fn put(&self, image: &ImageRecord, resources: &[Resource]) -> Result<(), StoreError> {
        self.store.database().write_durably("record an image", |transaction| {
            transaction.execute(
                "INSERT INTO images (name, manifest, manifest_size, media_type, config, record, created)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT (name) DO UPDATE SET manifest = excluded.manifest, manifest_size = excluded.manifest_size,
                     media_type = excluded.media_type, config = excluded.config, record = excluded.record, created = excluded.created",
                params![
                    image.name,
                    image.manifest.to_string(),
                    image.manifest_size_bytes as i64,
                    image.media_type,
                    image.config.to_string(),
                    image.record,
                    image.created.nanoseconds()
                ],
            )?;
            holds::replace(transaction, &holder(&image.name), resources)
        })?;
        layout::write_index(self.store)
    }

    /// The image that has this very name.
    pub fn get(&self, name: &str) -> Result<Option<ImageRecord>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM images WHERE name = ?1");
        let row = self
            .store
            .database()
            .read("look up an image", |transaction| transaction.query_row(&sql, [name], from_row).optional())?;
        row.transpose()
    }

    /// All names of an image id.
    pub fn by_config(&self, config: &Digest) -> Result<Vec<ImageRecord>, StoreError> {
        self.select("WHERE config = ?1", &config.to_string())
    }

    /// All names of the image ids whose hexadecimal digits start so.
    pub fn by_config_prefix(&self, hex: &str) -> Result<Vec<ImageRecord>, StoreError> {
        self.select("WHERE substr(config, 1, length(?1)) = ?1", &format!("sha256:{hex}"))
    }

    /// All images, by name.
    pub fn list(&self) -> Result<Vec<ImageRecord>, StoreError> {
        self.select("WHERE ?1 = ''", "")
    }

    /// Takes a name away; whether it was there. What no other needs goes with the next collection.
    pub fn remove(&self, name: &str) -> Result<bool, StoreError> {
        let removed = self.store.database().write("remove an image's name", |transaction| {
            holds::replace(transaction, &holder(name), &[])?;
            transaction.execute("DELETE FROM images WHERE name = ?1", [name])
        })?;
        if removed > 0 {
            layout::write_index(self.store)?;
        }
        Ok(removed > 0)
    }

    /// What the image of a name needs.
    pub fn resources(&self, name: &str) -> Result<Vec<Resource>, StoreError> {
        self.store.holds().of(&holder(name))
    }

    fn select(&self, condition: &str, value: &str) -> Result<Vec<ImageRecord>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM images {condition} ORDER BY name");
        let rows: Vec<Result<ImageRecord, StoreError>> = self
            .store
            .database()
            .read("list images", |transaction| transaction.prepare(&sql)?.query_map([value], from_row)?.collect())?;
        rows.into_iter().collect()
    }
}

fn holder(name: &str) -> String {
    format!("image:{name}")
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Result<ImageRecord, StoreError>> {
    let (manifest, config): (String, String) = (row.get(1)?, row.get(4)?);
    let (name, size, media_type, record, created): (_, i64, _, _, i64) =
        (row.get(0)?, row.get(2)?, row.get(3)?, row.get(5)?, row.get(6)?);
    let build = || {
        Ok(ImageRecord {
            name,
            manifest: parsed(manifest, "digest")?,
            manifest_size_bytes: size as u64,
            media_type,
            config: parsed(config, "digest")?,
            record,
            created: Timestamp::from_nanoseconds(created),
        })
    };
    Ok(build())
}
