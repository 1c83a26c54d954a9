//! Content by its digest.

use carrack_words::{Digest, Timestamp};
use rusqlite::{OptionalExtension, Row, Transaction, params};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::database::parsed;
use crate::store::remove_file;
use crate::{Expected, Ingest, Lease, Resource, Store, StoreError, holds};

/// A blob that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobStat {
    /// Its digest.
    pub digest: Digest,
    /// Its length.
    pub size_bytes: u64,
    /// When it was stored.
    pub created: Timestamp,
}

/// The blobs of a store.
#[derive(Debug)]
pub struct Blobs<'a> {
    store: &'a Store,
}

impl<'a> Blobs<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// Where a blob is or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.store.path("blobs").join(digest.algorithm()).join(digest.hex())
    }

    /// Starts to write a blob, which `lease` will hold.
    pub fn ingest(&self, lease: &Lease) -> Result<Ingest, StoreError> {
        Ingest::start(self.store, lease)
    }

    /// Stores bytes that are in memory.
    pub fn put(&self, lease: &Lease, bytes: &[u8], want: &Expected) -> Result<BlobStat, StoreError> {
        let mut ingest = self.ingest(lease)?;
        ingest.write_all(bytes).map_err(|error| StoreError::io("write the blob", &self.path(&want.digest), error))?;
        ingest.finish(want)?.commit()
    }

    /// If the blob is there, lets `lease` hold it, so that it stays there.
    pub fn claim(&self, lease: &Lease, digest: &Digest) -> Result<Option<BlobStat>, StoreError> {
        let holder = lease.holder();
        let found = self.store.database().write("claim a blob", |transaction| {
            let found = select(transaction, digest)?;
            if found.is_some() {
                holds::add(transaction, &holder, &Resource::Blob(*digest))?;
            }
            Ok(found)
        })?;
        self.if_there(found.transpose()?)
    }

    /// What is known of a blob; `None` if it is not there.
    pub fn stat(&self, digest: &Digest) -> Result<Option<BlobStat>, StoreError> {
        let found = self.store.database().read("look up a blob", |transaction| select(transaction, digest))?;
        self.if_there(found.transpose()?)
    }

    /// Opens a blob for reading. Its bytes were checked when they were written.
    pub fn open(&self, digest: &Digest) -> Result<File, StoreError> {
        let path = self.path(digest);
        match File::open(&path) {
            Ok(file) => Ok(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::not_found("blob", digest)),
            Err(error) => Err(StoreError::io("open", &path, error)),
        }
    }

    /// Reads a small blob and checks it once more.
    pub fn read(&self, digest: &Digest, limit_bytes: u64) -> Result<Vec<u8>, StoreError> {
        let path = self.path(digest);
        let failed = |error| StoreError::io("read", &path, error);
        let file = self.open(digest)?;
        let size_bytes = file.metadata().map_err(failed)?.len();
        if size_bytes > limit_bytes {
            return Err(StoreError::BlobTooLarge { digest: *digest, size_bytes, limit_bytes });
        }
        let mut bytes = Vec::with_capacity(size_bytes as usize);
        file.take(limit_bytes).read_to_end(&mut bytes).map_err(failed)?;
        match Digest::from_sha256(Sha256::digest(&bytes).into()) {
            got if got == *digest => Ok(bytes),
            got => Err(StoreError::WrongDigest { want: *digest, got }),
        }
    }

    /// All blobs, by digest.
    pub fn list(&self) -> Result<Vec<BlobStat>, StoreError> {
        let rows: Vec<Result<BlobStat, StoreError>> = self.store.database().read("list the blobs", |transaction| {
            let mut statement = transaction.prepare("SELECT digest, size, created FROM blobs ORDER BY digest")?;
            statement.query_map([], from_row)?.collect()
        })?;
        rows.into_iter().collect()
    }

    /// Removes a blob that nobody holds; whether it was there. Fails with [`StoreError::Held`] if somebody does.
    pub fn delete(&self, digest: &Digest) -> Result<bool, StoreError> {
        let _one_at_a_time = self.store.locks().acquire("blob", &digest.hex(), self.store.patience())?;
        let resource = Resource::Blob(*digest);
        let known = self.store.database().write_or_refuse("delete a blob", |transaction| {
            holds::refuse_if_held(transaction, &resource)?;
            Ok(forget(transaction, digest)?)
        })?;
        Ok(remove_file(&self.path(digest))? || known)
    }

    /// A row whose file is gone is a blob that is gone; the row goes with the next collection.
    fn if_there(&self, found: Option<BlobStat>) -> Result<Option<BlobStat>, StoreError> {
        let Some(stat) = found else {
            return Ok(None);
        };
        let path = self.path(&stat.digest);
        match std::fs::metadata(&path) {
            Ok(file) if file.len() == stat.size_bytes => Ok(Some(stat)),
            // Cut by something that is not us: it will be fetched again and replaced.
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("look up", &path, error)),
        }
    }
}

fn select(transaction: &Transaction<'_>, digest: &Digest) -> rusqlite::Result<Option<Result<BlobStat, StoreError>>> {
    let sql = "SELECT digest, size, created FROM blobs WHERE digest = ?1";
    transaction.query_row(sql, params![digest.to_string()], from_row).optional()
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Result<BlobStat, StoreError>> {
    let (digest, size, created): (String, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
    Ok(parsed(digest, "digest").map(|digest| BlobStat {
        digest,
        size_bytes: size as u64,
        created: Timestamp::from_nanoseconds(created),
    }))
}

/// Removes a blob's row; whether there was one.
pub(crate) fn forget(transaction: &Transaction<'_>, digest: &Digest) -> rusqlite::Result<bool> {
    Ok(transaction.execute("DELETE FROM blobs WHERE digest = ?1", [digest.to_string()])? > 0)
}

/// The digest of a file's content as it is on disk now.
pub(crate) fn hash_file(path: &Path) -> Result<Digest, StoreError> {
    let failed = |error| StoreError::io("read", path, error);
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Digest::from_sha256(hasher.finalize().into())),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}
