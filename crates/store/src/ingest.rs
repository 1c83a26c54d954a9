//! Writing a blob: bytes, then their number, then their digest, then the name.
//!
//! ```text
//!  Ingest ──finish──▶ CheckedBlob ──commit──▶ BlobStat
//! ```
//! Dropping either of the first two removes the file.

use carrack_sys::rustix::fs::{FlockOperation, flock};
use carrack_words::{Digest, Timestamp};
use rusqlite::params;
use sha2::{Digest as _, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use crate::random::random_name;
use crate::store::remove_file;
use crate::{BlobStat, Lease, Resource, Store, StoreError, holds};

/// What a blob is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Its digest.
    pub digest: Digest,
    /// Its length; `None` if nobody announced one.
    pub size_bytes: Option<u64>,
}

/// A blob that is being written.
pub struct Ingest {
    file: AsideFile,
    holder: String,
    hasher: Sha256,
    written_bytes: u64,
    limit_bytes: u64,
}

/// A blob whose bytes are the right ones.
#[derive(Debug)]
pub struct CheckedBlob {
    file: AsideFile,
    holder: String,
    digest: Digest,
    size_bytes: u64,
}

/// A file in `ingest/`, locked so that a sweep knows that its writer lives.
#[derive(Debug)]
struct AsideFile {
    store: Store,
    file: File,
    /// Empty once it was renamed.
    path: PathBuf,
}

impl Drop for AsideFile {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            // A file that cannot be removed now is swept later.
            let _ = remove_file(&self.path);
        }
    }
}

impl Ingest {
    pub(crate) fn start(store: &Store, lease: &Lease) -> Result<Ingest, StoreError> {
        // A sweep must not come between the file and its lock.
        let _no_sweep = store.locks().acquire_shared("store", "sweep", store.patience())?;
        let path = store.path(format!("ingest/{}", random_name(16)?));
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| StoreError::io("create", &path, error))?;
        let file = AsideFile { store: store.clone(), file, path };
        flock(&file.file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| StoreError::io("lock", &file.path, error))?;
        Ok(Ingest { file, holder: lease.holder(), hasher: Sha256::new(), written_bytes: 0, limit_bytes: u64::MAX })
    }

    /// Bytes written so far: where a broken download continues.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Refuses to be written beyond this length, so that a sender who lies about it does not fill the disk.
    pub fn limit(&mut self, bytes: u64) {
        self.limit_bytes = bytes;
    }

    /// Checks length first and digest then.
    pub fn finish(self, want: &Expected) -> Result<CheckedBlob, StoreError> {
        let got_bytes = self.written_bytes;
        if let Some(want_bytes) = want.size_bytes
            && want_bytes != got_bytes
        {
            return Err(StoreError::WrongSize { digest: want.digest, got_bytes, want_bytes });
        }
        let got = Digest::from_sha256(self.hasher.finalize().into());
        if got != want.digest {
            return Err(StoreError::WrongDigest { want: want.digest, got });
        }
        Ok(CheckedBlob { file: self.file, holder: self.holder, digest: got, size_bytes: got_bytes })
    }
}

impl Write for Ingest {
    /// Errors carry a [`StoreError`], which names the file.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.limit_bytes - self.written_bytes < bytes.len() as u64 {
            return Err(io::Error::other(StoreError::TooLarge { limit_bytes: self.limit_bytes }));
        }
        let failed = |error: io::Error| io::Error::new(error.kind(), StoreError::io("write", &self.file.path, error));
        let count = loop {
            match (&self.file.file).write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result.map_err(failed)?,
            }
        };
        self.hasher.update(&bytes[..count]);
        self.written_bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl std::fmt::Debug for Ingest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingest")
            .field("file", &self.file)
            .field("written_bytes", &self.written_bytes)
            .finish_non_exhaustive()
    }
}

impl CheckedBlob {
    /// Gives the blob its name; the lease it was started with holds it. If it is there already, that is a success too.
    pub fn commit(mut self) -> Result<BlobStat, StoreError> {
        let store = self.file.store.clone();
        let _one_at_a_time = store.locks().acquire("blob", &self.digest.hex(), store.patience())?;
        let target = store.blobs().path(&self.digest);
        std::fs::rename(&self.file.path, &target).map_err(|error| StoreError::io("rename to", &target, error))?;
        self.file.path = PathBuf::new();
        let row = BlobStat { digest: self.digest, size_bytes: self.size_bytes, created: Timestamp::now() };
        store.database().write("record a blob", |transaction| {
            // The file was replaced, so an earlier row's promise to be synced does not hold any more.
            transaction.execute(
                "INSERT INTO blobs (digest, size, created, boot) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (digest) DO UPDATE SET boot = excluded.boot, created = excluded.created",
                params![row.digest.to_string(), row.size_bytes as i64, row.created.nanoseconds(), store.host().boot_id],
            )?;
            holds::add(transaction, &self.holder, &Resource::Blob(row.digest))
        })?;
        Ok(row)
    }
}
