//! One owner at a time, among all threads and processes.
//!
//! A lock is one byte of `<run>/locks/<kind>`, at a place computed from the object's id, locked by an open file description of its own. So there is
//! nothing to clean up: it ends with its holder. Two ids could share a byte with a probability of 2⁻⁶² per pair; they would exclude each other
//! needlessly, no more.

use carrack_sys::file_lock::{RangeLock, try_lock_byte};
use sha2::{Digest as _, Sha256};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::StoreError;

/// The lock files of a run directory.
#[derive(Debug, Clone)]
pub struct Locks {
    directory: PathBuf,
}

/// A lock that is held; dropping it, or dying, releases it.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct Lock {
    _file: File,
}

impl Locks {
    pub(crate) fn new(run: &Path) -> Self {
        Self { directory: run.join("locks") }
    }

    /// Locks an object for this caller alone. Waits until `deadline`, then fails with [`carrack_words::Kind::Busy`].
    ///
    /// `kind` is one of the callers' own words. A thread that asks twice for one object waits for itself.
    pub fn acquire(&self, kind: &str, id: &str, deadline: Instant) -> Result<Lock, StoreError> {
        self.wait(kind, id, RangeLock::Exclusive, deadline)
    }

    /// Locks an object together with others who share it.
    pub fn acquire_shared(&self, kind: &str, id: &str, deadline: Instant) -> Result<Lock, StoreError> {
        self.wait(kind, id, RangeLock::Shared, deadline)
    }

    /// Locks an object if nobody has it now.
    pub fn try_acquire(&self, kind: &str, id: &str) -> Result<Option<Lock>, StoreError> {
        let (file, path) = self.open(kind)?;
        let locked = try_lock_byte(&file, RangeLock::Exclusive, place(id));
        Ok(locked.map_err(|error| StoreError::io("lock", &path, error))?.then_some(Lock { _file: file }))
    }

    fn wait(&self, kind: &str, id: &str, lock: RangeLock, deadline: Instant) -> Result<Lock, StoreError> {
        let (file, path) = self.open(kind)?;
        let mut pause = Duration::from_micros(200);
        while !try_lock_byte(&file, lock, place(id)).map_err(|error| StoreError::io("lock", &path, error))? {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(StoreError::Locked { kind: kind.to_owned(), id: id.to_owned() });
            }
            // The kernel offers no wait with a deadline for these locks.
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(Duration::from_millis(10));
        }
        Ok(Lock { _file: file })
    }

    fn open(&self, kind: &str) -> Result<(File, PathBuf), StoreError> {
        let path = self.directory.join(kind);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(|error| StoreError::io("open", &path, error))?;
        Ok((file, path))
    }
}

/// The byte that stands for `id`.
fn place(id: &str) -> u64 {
    let hash: [u8; 32] = Sha256::digest(id).into();
    u64::from_be_bytes(hash[..8].try_into().expect("eight of thirty-two bytes")) >> 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time_several_sharers() {
        let run = std::env::temp_dir().join(format!("carrack-store-locks-{}", std::process::id()));
        std::fs::create_dir_all(run.join("locks")).unwrap();
        let locks = Locks::new(&run);
        let soon = || Instant::now() + Duration::from_millis(20);
        let held = locks.acquire("pod", "a", soon()).unwrap();
        assert!(locks.try_acquire("pod", "a").unwrap().is_none());
        let error = locks.acquire_shared("pod", "a", soon()).unwrap_err();
        assert_eq!(error.to_string(), "the pod a is locked by another operation");
        let _other = locks.acquire("pod", "b", soon()).unwrap();
        drop(held);
        let (_one, _two) =
            (locks.acquire_shared("pod", "a", soon()).unwrap(), locks.acquire_shared("pod", "a", soon()).unwrap());
        assert!(locks.try_acquire("pod", "a").unwrap().is_none());
        std::fs::remove_dir_all(run).unwrap();
    }
}
