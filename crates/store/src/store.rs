//! Opening a store, and what its parts share.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::database::Database;
use crate::{Blobs, Events, Holds, Images, Layers, Leases, Locks, Records, StoreError, layout, promote};

/// How long we wait for somebody else's short operation on files: a rename, a row, a sweep.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the store has to know of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// `/proc/sys/kernel/random/boot_id`: another one means that what was not synced may be gone.
    pub boot_id: String,
}

impl Host {
    /// This machine as it is.
    pub fn current() -> Result<Host, StoreError> {
        let path = Path::new("/proc/sys/kernel/random/boot_id");
        let text = fs::read_to_string(path).map_err(|error| StoreError::io("read", path, error))?;
        Ok(Host { boot_id: text.trim().to_owned() })
    }
}

/// A store; clones share it. Usable from all threads.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    run: PathBuf,
    host: Host,
    locks: Locks,
    database: Database,
}

impl Store {
    /// Opens the store in `root`, with its locks in `run`; makes both if they are not there. Any number of processes may do so at once.
    ///
    /// After a reboot the first to open verifies what had not been synced, which can take a while.
    pub fn open(root: &Path, run: &Path) -> Result<Store, StoreError> {
        Self::open_as(root, run, Host::current()?)
    }

    /// As [`Self::open`], on a machine that is described.
    pub fn open_as(root: &Path, run: &Path, host: Host) -> Result<Store, StoreError> {
        // Nothing in here is for anybody else: layers hold set-uid programs and private files (CVE-2021-41103, CVE-2024-25621).
        for directory in ["", "blobs", "blobs/sha256", "ingest", "layers", "layers/active", "layers/trash"] {
            make_directory(&root.join(directory))?;
        }
        make_directory(run)?;
        make_directory(&run.join("locks"))?;
        let root = fs::canonicalize(root).map_err(|error| StoreError::io("resolve", root, error))?;
        let run = fs::canonicalize(run).map_err(|error| StoreError::io("resolve", run, error))?;
        let locks = Locks::new(&run);
        let _opening = locks.acquire("store", "open", Instant::now() + PATIENCE)?;
        let database = Database::open(&root.join("carrack.db"))?;
        let store = Store { inner: Arc::new(Inner { root, run, host, locks, database }) };
        layout::ensure(&store)?;
        promote::recover(&store)?;
        Ok(store)
    }

    /// The persistent directory.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// The volatile directory.
    pub fn run(&self) -> &Path {
        &self.inner.run
    }

    /// Content by its digest.
    pub fn blobs(&self) -> Blobs<'_> {
        Blobs::new(self)
    }

    /// Unpacked layers.
    pub fn layers(&self) -> Layers<'_> {
        Layers::new(self)
    }

    /// Names of images.
    pub fn images(&self) -> Images<'_> {
        Images::new(self)
    }

    /// What is being fetched.
    pub fn leases(&self) -> Leases<'_> {
        Leases::new(self)
    }

    /// What is needed, and by whom.
    pub fn holds(&self) -> Holds<'_> {
        Holds::new(self)
    }

    /// The engine's records.
    pub fn records(&self) -> Records<'_> {
        Records::new(self)
    }

    /// What has happened.
    pub fn events(&self) -> Events<'_> {
        Events::new(self)
    }

    /// One owner at a time.
    pub fn locks(&self) -> &Locks {
        &self.inner.locks
    }

    pub(crate) fn database(&self) -> &Database {
        &self.inner.database
    }

    pub(crate) fn host(&self) -> &Host {
        &self.inner.host
    }

    /// When a wait for somebody else's short operation is given up.
    pub(crate) fn patience(&self) -> Instant {
        Instant::now() + PATIENCE
    }

    pub(crate) fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.inner.root.join(below)
    }
}

fn make_directory(path: &Path) -> Result<(), StoreError> {
    match DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(StoreError::io("create the directory", path, error)),
    }
}

/// Removes a file; one that is gone is removed.
pub(crate) fn remove_file(path: &Path) -> Result<bool, StoreError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StoreError::io("remove", path, error)),
    }
}
