//! Removes what nobody needs, and what crashes left.
//!
//! A row goes first, in a transaction which sees that nobody holds the resource; the file follows. Who claims in the same moment is either before that
//! transaction, and then it refuses, or after it, and then the resource is not there. A blob's file has the same name when it comes again, so
//! removing it and committing it exclude each other by the blob's lock; a layer's directory never comes again.

use carrack_sys::rustix::fs::{FlockOperation, flock};
use carrack_words::Digest;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::database::parsed;
use crate::random::random_name;
use crate::store::remove_file;
use crate::{LayerKey, Store, StoreError, leases};

/// What a collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs.
    pub blobs: u64,
    /// Layers.
    pub layers: u64,
    /// Bytes of both.
    pub bytes: u64,
    /// Files and directories that crashes had left.
    pub leftovers: u64,
}

impl Store {
    /// Removes blobs and layers that no image, container or living lease holds. Safe at any time, beside any number of pulls.
    pub fn gc(&self) -> Result<Collected, StoreError> {
        let _one_collector = self.locks().acquire("store", "gc", self.patience())?;
        leases::end_dead(self)?;
        let mut collected = Collected::default();
        for digest in
            self.unheld("SELECT digest FROM blobs WHERE 'blob:' || digest NOT IN (SELECT resource FROM holds)")?
        {
            let digest: Digest = parsed(digest, "digest")?;
            let size = self.blobs().stat(&digest)?.map_or(0, |blob| blob.size_bytes);
            if unless_held(self.blobs().delete(&digest))? {
                collected.blobs += 1;
                collected.bytes += size;
            }
        }
        for key in self.unheld("SELECT key FROM layers WHERE 'layer:' || key NOT IN (SELECT resource FROM holds)")? {
            let key: LayerKey = parsed(key, "layer key")?;
            let size = self.layers().get(&key)?.map_or(0, |layer| layer.facts.totals.file_bytes);
            if unless_held(self.layers().delete(&key))? {
                collected.layers += 1;
                collected.bytes += size;
            }
        }
        collected.leftovers = self.sweep()?;
        Ok(collected)
    }

    /// Removes what a killed pull has left, if one was killed since the last [`Store::gc`]; that it was costs one query to find out.
    pub fn gc_after_kill(&self) -> Result<(), StoreError> {
        if leases::has_dead(self)? {
            self.gc()?;
        }
        Ok(())
    }

    fn unheld(&self, sql: &str) -> Result<Vec<String>, StoreError> {
        self.database().read("list what nobody needs", |transaction| {
            transaction.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
        })
    }

    /// Removes what has no row and whose writer is dead.
    fn sweep(&self) -> Result<u64, StoreError> {
        let mut swept = 0;
        {
            // Nobody stands between creating something and locking it while we look.
            let _no_creation = self.locks().acquire("store", "sweep", self.patience())?;
            for path in entries(&self.path("ingest"))? {
                if is_abandoned(&path)? {
                    swept += u64::from(remove_file(&path)?);
                }
            }
            for path in entries(&self.path("layers/active"))? {
                if is_abandoned(&path)? {
                    discard(self, &path)?;
                    swept += 1;
                }
            }
        }
        swept += self.sweep_blobs()? + self.sweep_layers()?;
        for path in entries(&self.path("layers/trash"))? {
            remove_directory(&path)?;
            swept += 1;
        }
        Ok(swept)
    }

    /// Files in the blobs' directory that were renamed but not recorded.
    fn sweep_blobs(&self) -> Result<u64, StoreError> {
        let mut swept = 0;
        for path in entries(&self.path("blobs/sha256"))? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Ok(digest) = format!("sha256:{name}").parse::<Digest>() else {
                continue;
            };
            if self.has_row("SELECT count(*) FROM blobs WHERE digest = ?1", &digest.to_string())? {
                continue;
            }
            // With the lock, nobody is between the two; so look once more.
            let _one_at_a_time = self.locks().acquire("blob", &digest.hex(), self.patience())?;
            if !self.has_row("SELECT count(*) FROM blobs WHERE digest = ?1", &digest.to_string())? {
                swept += u64::from(remove_file(&path)?);
            }
        }
        Ok(swept)
    }

    /// Directories among the layers that were renamed but not recorded.
    fn sweep_layers(&self) -> Result<u64, StoreError> {
        let mut swept = 0;
        for path in entries(&self.path("layers"))? {
            let id = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if id == "active" || id == "trash" || self.has_row("SELECT count(*) FROM layers WHERE id = ?1", &id)? {
                continue;
            }
            // Its writer keeps it locked until the row is there; so look once more.
            if is_abandoned(&path)? && !self.has_row("SELECT count(*) FROM layers WHERE id = ?1", &id)? {
                discard(self, &path)?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    fn has_row(&self, sql: &str, key: &str) -> Result<bool, StoreError> {
        let count: i64 = self
            .database()
            .read("look up a leftover", |transaction| transaction.query_row(sql, [key], |row| row.get(0)))?;
        Ok(count > 0)
    }
}

/// Somebody who claims in the last moment is no failure of the collection.
fn unless_held(result: Result<bool, StoreError>) -> Result<bool, StoreError> {
    match result {
        Err(StoreError::Held { .. }) => Ok(false),
        result => result,
    }
}

/// What is in a directory of ours.
fn entries(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let failed = |error| StoreError::io("list", directory, error);
    fs::read_dir(directory).map_err(failed)?.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect()
}

/// Whether nobody has the file or directory locked: its writer is dead.
fn is_abandoned(path: &Path) -> Result<bool, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(StoreError::io("open", path, error)),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(carrack_sys::rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(StoreError::io("lock", path, error)),
    }
}

/// Removes a layer's directory.
pub(crate) fn discard_layer(store: &Store, id: &str) -> Result<(), StoreError> {
    discard(store, &store.path("layers").join(id))
}

/// Moves a directory to the trash, so that it is gone at once for everybody, and removes it from there.
pub(crate) fn discard(store: &Store, directory: &Path) -> Result<(), StoreError> {
    let trash = store.path("layers/trash").join(random_name(16)?);
    match fs::rename(directory, &trash) {
        Ok(()) => remove_directory(&trash),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(StoreError::io("move to the trash", directory, error)),
    }
}

/// Removes a directory with all in it; somebody else may be at the same.
fn remove_directory(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(StoreError::io("remove", path, error)),
    }
}
