//! What survives a power cut.
//!
//! Writing a blob or a layer syncs nothing; its row says in which boot it was made. [`Store::promote`] syncs the filesystem and then takes that mark
//! away. After a crash of the machine marks of another boot are left: such a blob is read and compared, such a layer is dropped, since nobody can tell
//! which of its files arrived.

use carrack_sys::rustix;
use carrack_words::Timestamp;
use std::io;

use crate::blobs::{forget as forget_blob, hash_file};
use crate::database::parsed;
use crate::layers::forget as forget_layer;
use crate::store::remove_file;
use crate::{LayerKey, Store, StoreError, gc};

/// What a promotion made lasting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Promoted {
    /// Blobs.
    pub blobs: u64,
    /// Layers.
    pub layers: u64,
}

impl Store {
    /// Returns when all that was committed to the database so far is on disk: for records of what a user configured. One or two syncs of small files.
    pub fn sync(&self) -> Result<(), StoreError> {
        let now = Timestamp::now().nanoseconds().to_string();
        self.database().write_durably("sync", |transaction| {
            let sql = "INSERT INTO meta (key, value) VALUES ('synced', ?1) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
            transaction.execute(sql, [now])
        })?;
        Ok(())
    }

    /// Syncs what was written since the last promotion, and moves the database's log into its file. May take as long as the disk needs; run it in the
    /// background after a pull. Costs nothing if there is nothing to promote.
    pub fn promote(&self) -> Result<Promoted, StoreError> {
        // Rows are named together with what tells them from a successor: a blob or a layer made anew meanwhile is not the one that is synced here.
        let (blobs, layers) = self.database().read("list what is not synced", |transaction| {
            let mut blobs = transaction.prepare("SELECT digest, created FROM blobs WHERE boot IS NOT NULL")?;
            let mut layers = transaction.prepare("SELECT id FROM layers WHERE boot IS NOT NULL")?;
            let blobs = blobs.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let layers = layers.query_map([], |row| row.get(0))?;
            Ok((
                blobs.collect::<rusqlite::Result<Vec<(String, i64)>>>()?,
                layers.collect::<rusqlite::Result<Vec<String>>>()?,
            ))
        })?;
        if blobs.is_empty() && layers.is_empty() {
            return Ok(Promoted::default());
        }
        let failed = |error| StoreError::io("sync the filesystem of", self.root(), error);
        let root = std::fs::File::open(self.root()).map_err(failed)?;
        rustix::fs::syncfs(&root).map_err(|error| failed(error.into()))?;
        let promoted = self.database().write_durably("note what is synced", |transaction| {
            let mut promoted = Promoted::default();
            for (digest, created) in &blobs {
                let sql = "UPDATE blobs SET boot = NULL WHERE digest = ?1 AND created = ?2";
                promoted.blobs += transaction.execute(sql, rusqlite::params![digest, created])? as u64;
            }
            for id in &layers {
                promoted.layers += transaction.execute("UPDATE layers SET boot = NULL WHERE id = ?1", [id])? as u64;
            }
            Ok(promoted)
        })?;
        self.database().checkpoint()?;
        Ok(promoted)
    }
}

/// Deals with what another boot left unsynced. The caller keeps others from opening the store meanwhile.
pub(crate) fn recover(store: &Store) -> Result<(), StoreError> {
    let boot = &store.host().boot_id;
    let left = |sql: &str| {
        store.database().read("list what another boot left", |transaction| {
            transaction
                .prepare(sql)?
                .query_map([boot], |row| row.get::<_, String>(0))?
                .collect::<rusqlite::Result<Vec<_>>>()
        })
    };
    for digest in left("SELECT digest FROM blobs WHERE boot <> ?1")? {
        recover_blob(store, parsed(digest, "digest")?)?;
    }
    for key in left("SELECT key FROM layers WHERE boot <> ?1")? {
        let key: LayerKey = parsed(key, "layer key")?;
        let id = store.database().write("drop a layer", |transaction| forget_layer(transaction, &key))?;
        if let Some(id) = id {
            gc::discard_layer(store, &id)?;
        }
    }
    Ok(())
}

/// Keeps a blob whose bytes are right; it still has to be promoted.
fn recover_blob(store: &Store, digest: carrack_words::Digest) -> Result<(), StoreError> {
    let path = store.blobs().path(&digest);
    let intact = match hash_file(&path) {
        Ok(found) => found == digest,
        Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    store.database().write("verify a blob", |transaction| {
        if intact {
            let row = [&digest.to_string(), &store.host().boot_id];
            transaction.execute("UPDATE blobs SET boot = ?2 WHERE digest = ?1", row)?;
        } else {
            forget_blob(transaction, &digest)?;
        }
        Ok(())
    })?;
    if !intact {
        remove_file(&path)?;
    }
    Ok(())
}
