//! Noticing that somebody changed the database.

use rusqlite::Connection;
use std::sync::{Mutex, PoisonError};

use crate::{Store, StoreError};

/// Tells whether anything was committed since it was last asked, by any connection of any process.
///
/// Cheap enough to be asked often. Who does not want to ask watches the file `carrack.db-wal` with inotify, and asks when that changes.
#[derive(Debug)]
pub struct Watch {
    state: Mutex<(Connection, i64)>,
    path: std::path::PathBuf,
}

impl Store {
    /// Starts to watch; what was committed before counts as known.
    pub fn watch(&self) -> Result<Watch, StoreError> {
        let path = self.path("carrack.db");
        let connection = self.database().open_watcher()?;
        let version = version(&connection, &path)?;
        Ok(Watch { state: Mutex::new((connection, version)), path })
    }
}

impl Watch {
    /// Whether there was a commit since the last call.
    pub fn changed(&self) -> Result<bool, StoreError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = version(&state.0, &self.path)?;
        Ok(std::mem::replace(&mut state.1, now) != now)
    }
}

/// `data_version` tells commits of other connections; this one commits nothing.
fn version(connection: &Connection, path: &std::path::Path) -> Result<i64, StoreError> {
    connection.query_row("PRAGMA data_version", [], |row| row.get(0)).map_err(|source| StoreError::Database {
        action: "ask for changes",
        path: path.to_owned(),
        source,
    })
}
