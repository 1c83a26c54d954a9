//! The SQLite database.
//!
//! WAL with `synchronous=NORMAL`: a commit is atomic and lasts beyond the death of the process, and reaches the disk with the next sync. Only
//! [`Database::write_durably`] syncs. Times are nanoseconds since 1970.

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::StoreError;

/// How long a statement waits for another process's transaction. None of ours takes more than milliseconds.
const BUSY: Duration = Duration::from_secs(20);

/// The version of [`UPGRADES`]' last step.
const VERSION: i64 = UPGRADES.len() as i64;

/// Step n leads from version n to version n+1; a step that was released is never changed.
const UPGRADES: &[&str] = &["
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    -- boot: the boot in which the object was written, until it is synced.
    CREATE TABLE blobs (digest TEXT PRIMARY KEY, size INTEGER NOT NULL, created INTEGER NOT NULL, boot TEXT) WITHOUT ROWID;
    CREATE TABLE layers (key TEXT PRIMARY KEY, id TEXT NOT NULL UNIQUE, file_bytes INTEGER NOT NULL, inodes INTEGER NOT NULL,
        facts TEXT NOT NULL, created INTEGER NOT NULL, boot TEXT) WITHOUT ROWID;
    CREATE TABLE images (name TEXT PRIMARY KEY, manifest TEXT NOT NULL, manifest_size INTEGER NOT NULL, media_type TEXT NOT NULL,
        config TEXT NOT NULL, record TEXT NOT NULL, created INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX images_config ON images (config);
    -- holder: image:NAME, lease:ID, container:ID, …; resource: see resource.rs.
    CREATE TABLE holds (holder TEXT NOT NULL, resource TEXT NOT NULL, PRIMARY KEY (holder, resource)) WITHOUT ROWID;
    CREATE INDEX holds_resource ON holds (resource);
    -- A lease ends at its time if it has one, and with its process if it has one.
    CREATE TABLE leases (id TEXT PRIMARY KEY, purpose TEXT NOT NULL, created INTEGER NOT NULL, expires INTEGER,
        pid INTEGER, start_time INTEGER, boot TEXT) WITHOUT ROWID;
    CREATE TABLE objects (kind TEXT NOT NULL, id TEXT NOT NULL, name TEXT, revision INTEGER NOT NULL, record TEXT NOT NULL,
        PRIMARY KEY (kind, id), UNIQUE (kind, name)) WITHOUT ROWID;
    CREATE TABLE events (sequence INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL,
        action TEXT NOT NULL, detail TEXT NOT NULL);
"];

/// One connection, used by one thread at a time.
#[derive(Debug)]
pub(crate) struct Database {
    connection: Mutex<Connection>,
    path: PathBuf,
}

impl Database {
    /// Opens the database, makes it if it is not there, and brings it up to our version.
    ///
    /// The caller keeps others from opening it for the first time at the same moment.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let failed = |source| StoreError::Database { action: "set up the connection", path: path.to_owned(), source };
        make_private(path)?;
        let mut connection = connect(path, flags)?;
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
        if version > VERSION {
            return Err(StoreError::NewerSchema { path: path.to_owned(), found: version, known: VERSION });
        }
        if version < VERSION {
            connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
            upgrade(&mut connection).map_err(|source| StoreError::Database {
                action: "upgrade the tables",
                path: path.to_owned(),
                source,
            })?;
        }
        Ok(Self { connection: Mutex::new(connection), path: path.to_owned() })
    }

    /// A connection that only watches.
    pub(crate) fn open_watcher(&self) -> Result<Connection, StoreError> {
        connect(&self.path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
    }

    /// Reads, in one transaction so that all statements see the same state.
    pub(crate) fn read<T>(
        &self,
        action: &'static str,
        body: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        self.run(action, TransactionBehavior::Deferred, |transaction| body(transaction).map_err(Refusal::Sqlite))
    }

    /// Writes in one transaction; nothing is synced.
    pub(crate) fn write<T>(
        &self,
        action: &'static str,
        body: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        self.run(action, TransactionBehavior::Immediate, |transaction| body(transaction).map_err(Refusal::Sqlite))
    }

    /// As [`Self::write`]; the body may also refuse, which rolls back.
    pub(crate) fn write_or_refuse<T>(
        &self,
        action: &'static str,
        body: impl FnOnce(&Transaction<'_>) -> Result<T, Refusal>,
    ) -> Result<T, StoreError> {
        self.run(action, TransactionBehavior::Immediate, body)
    }

    /// Writes, and returns when this transaction and all before it are on disk.
    pub(crate) fn write_durably<T>(
        &self,
        action: &'static str,
        body: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let mut connection = self.lock();
        let level = |connection: &Connection, level: &str| connection.pragma_update(None, "synchronous", level);
        level(&connection, "FULL").map_err(|source| self.failed(action, source))?;
        let result =
            in_transaction(&mut connection, TransactionBehavior::Immediate, |t| body(t).map_err(Refusal::Sqlite));
        level(&connection, "NORMAL").map_err(|source| self.failed(action, source))?;
        result.map_err(|refusal| self.refused(action, refusal))
    }

    /// Moves what is in the log into the database file as far as readers allow. Syncs.
    pub(crate) fn checkpoint(&self) -> Result<(), StoreError> {
        self.lock()
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
            .map_err(|source| self.failed("move the log into the file", source))
    }

    fn run<T>(
        &self,
        action: &'static str,
        behavior: TransactionBehavior,
        body: impl FnOnce(&Transaction<'_>) -> Result<T, Refusal>,
    ) -> Result<T, StoreError> {
        in_transaction(&mut self.lock(), behavior, body).map_err(|refusal| self.refused(action, refusal))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic in a transaction's body has rolled it back.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, action: &'static str, source: rusqlite::Error) -> StoreError {
        StoreError::Database { action, path: self.path.clone(), source }
    }

    fn refused(&self, action: &'static str, refusal: Refusal) -> StoreError {
        match refusal {
            Refusal::Sqlite(source) => self.failed(action, source),
            Refusal::Ours(error) => *error,
        }
    }
}

/// Why a transaction was rolled back.
pub(crate) enum Refusal {
    Sqlite(rusqlite::Error),
    Ours(Box<StoreError>),
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Ours(Box::new(error))
    }
}

fn in_transaction<T>(
    connection: &mut Connection,
    behavior: TransactionBehavior,
    body: impl FnOnce(&Transaction<'_>) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    let transaction = connection.transaction_with_behavior(behavior)?;
    let value = body(&transaction)?;
    transaction.commit()?;
    Ok(value)
}

/// Makes the file if there is none: SQLite would let everybody read it, and gives its other files the mode of this one. The records in it hold
/// containers' environments, and the directory may be one that somebody else made.
fn make_private(path: &Path) -> Result<(), StoreError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map(drop).map_err(|error| StoreError::io("create the database", path, error))
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let failed = |source| StoreError::Database { action: "open", path: path.to_owned(), source };
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(BUSY).map_err(failed)?;
    // The last process to leave would sync otherwise, and most of ours are short.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(failed)?;
    connection.pragma_update(None, "synchronous", "NORMAL").map_err(failed)?;
    // In pages of 4 KiB. Whoever connects when nobody else is reads the whole log, so it must stay small; a checkpoint costs two syncs.
    connection.pragma_update(None, "wal_autocheckpoint", 250).map_err(failed)?;
    Ok(connection)
}

fn upgrade(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    for step in UPGRADES.iter().skip(usize::try_from(version).unwrap_or(0)) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

/// Parses a column that only we write.
pub(crate) fn parsed<T: std::str::FromStr>(text: String, what: &'static str) -> Result<T, StoreError> {
    text.parse().map_err(|_| StoreError::BadRow { what, text })
}
