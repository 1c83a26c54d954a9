//! What has happened, in order.

use carrack_words::Timestamp;
use rusqlite::params;

use crate::{Store, StoreError};

/// So many events are kept; older ones go a few at a time.
const KEPT: i64 = 10_000;
const TRIM_EVERY: i64 = 256;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its place; grows, with gaps.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// Sort of object.
    pub kind: String,
    /// The object's id.
    pub id: String,
    /// What happened to it.
    pub action: String,
    /// JSON text of the writer's.
    pub detail: String,
}

/// The events of a store.
#[derive(Debug)]
pub struct Events<'a> {
    store: &'a Store,
}

impl<'a> Events<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// Adds an event and returns its place. The oldest beyond ten thousand are forgotten.
    pub fn append(&self, kind: &str, id: &str, action: &str, detail: &str) -> Result<u64, StoreError> {
        let at = Timestamp::now().nanoseconds();
        self.store.database().write("append an event", |transaction| {
            transaction.execute(
                "INSERT INTO events (at, kind, id, action, detail) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![at, kind, id, action, detail],
            )?;
            let sequence = transaction.last_insert_rowid();
            if sequence % TRIM_EVERY == 0 {
                transaction.execute("DELETE FROM events WHERE sequence <= ?1", [sequence - KEPT])?;
            }
            Ok(sequence as u64)
        })
    }

    /// The events behind `sequence`, oldest first, at most `limit`.
    pub fn since(&self, sequence: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.store.database().read("list the events", |transaction| {
            let mut statement = transaction.prepare(
                "SELECT sequence, at, kind, id, action, detail FROM events WHERE sequence > ?1 ORDER BY sequence LIMIT ?2",
            )?;
            statement
                .query_map([sequence as i64, limit as i64], |row| {
                    let (sequence, at): (i64, i64) = (row.get(0)?, row.get(1)?);
                    Ok(Event {
                        sequence: sequence as u64,
                        at: Timestamp::from_nanoseconds(at),
                        kind: row.get(2)?,
                        id: row.get(3)?,
                        action: row.get(4)?,
                        detail: row.get(5)?,
                    })
                })?
                .collect()
        })
    }

    /// The place of the newest event; zero if there is none.
    pub fn last(&self) -> Result<u64, StoreError> {
        self.store
            .database()
            .read("look up the last event", |transaction| {
                transaction.query_row("SELECT coalesce(max(sequence), 0) FROM events", [], |row| row.get::<_, i64>(0))
            })
            .map(|sequence| sequence as u64)
    }

    /// Forgets all but the newest `keep`.
    pub fn trim(&self, keep: u64) -> Result<(), StoreError> {
        self.store.database().write("trim the events", |transaction| {
            transaction.execute(
                "DELETE FROM events WHERE sequence <= (SELECT coalesce(max(sequence), 0) FROM events) - ?1",
                [keep as i64],
            )
        })?;
        Ok(())
    }
}
