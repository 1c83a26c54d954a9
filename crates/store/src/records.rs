//! Records of the engine: pods, containers, networks, volumes.
//!
//! A record is JSON text that only its owner reads. It has a version inside, which is the owner's business, and a revision outside, with which two
//! writers notice each other. Nothing is synced: what must outlive a power cut is promoted with the images, or is made anew.

use rusqlite::{OptionalExtension, Row, Transaction, params};

use crate::database::Refusal;
use crate::{Store, StoreError};

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Sort of object, as in `container`.
    pub kind: String,
    /// Its id, unique within the kind.
    pub id: String,
    /// Its name, unique within the kind; `None` if it has none.
    pub name: Option<String>,
    /// Grows with each update.
    pub revision: u64,
    /// The record.
    pub json: String,
}

/// The records of a store.
#[derive(Debug)]
pub struct Records<'a> {
    store: &'a Store,
}

const COLUMNS: &str = "kind, id, name, revision, record";

impl<'a> Records<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// Adds a record and returns its revision. [`StoreError::Exists`] and [`StoreError::NameTaken`] tell what is in the way; two who try at once are
    /// told apart.
    pub fn insert(&self, kind: &str, id: &str, name: Option<&str>, json: &str) -> Result<u64, StoreError> {
        self.store.database().write_or_refuse("add a record", |transaction| {
            if get(transaction, kind, id)?.is_some() {
                return Err(StoreError::Exists { kind: kind.to_owned(), id: id.to_owned() }.into());
            }
            refuse_taken_name(transaction, kind, id, name)?;
            transaction.execute(
                "INSERT INTO objects (kind, id, name, revision, record) VALUES (?1, ?2, ?3, 1, ?4)",
                params![kind, id, name, json],
            )?;
            Ok(1)
        })
    }

    /// Replaces a record that still has `revision`, and returns the new one. [`StoreError::Stale`] if somebody else was faster.
    pub fn update(&self, kind: &str, id: &str, revision: u64, json: &str) -> Result<u64, StoreError> {
        self.store.database().write_or_refuse("change a record", |transaction| {
            let record = get(transaction, kind, id)?.ok_or_else(|| StoreError::not_found(kind, id))?;
            if record.revision != revision {
                return Err(StoreError::Stale { kind: kind.to_owned(), id: id.to_owned() }.into());
            }
            let next = revision + 1;
            transaction.execute(
                "UPDATE objects SET revision = ?3, record = ?4 WHERE kind = ?1 AND id = ?2",
                params![kind, id, next as i64, json],
            )?;
            Ok(next)
        })
    }

    /// Gives an object another name, or none.
    pub fn rename(&self, kind: &str, id: &str, name: Option<&str>) -> Result<(), StoreError> {
        self.store.database().write_or_refuse("rename an object", |transaction| {
            refuse_taken_name(transaction, kind, id, name)?;
            let row = params![kind, id, name];
            match transaction.execute("UPDATE objects SET name = ?3 WHERE kind = ?1 AND id = ?2", row)? {
                0 => Err(StoreError::not_found(kind, id).into()),
                _ => Ok(()),
            }
        })
    }

    /// The record of an id.
    pub fn get(&self, kind: &str, id: &str) -> Result<Option<Record>, StoreError> {
        self.store.database().read("look up a record", |transaction| get(transaction, kind, id))
    }

    /// The record of a name.
    pub fn by_name(&self, kind: &str, name: &str) -> Result<Option<Record>, StoreError> {
        self.store.database().read("look up a record", |transaction| {
            let sql = format!("SELECT {COLUMNS} FROM objects WHERE kind = ?1 AND name = ?2");
            transaction.query_row(&sql, [kind, name], from_row).optional()
        })
    }

    /// The records whose ids start so.
    pub fn by_prefix(&self, kind: &str, prefix: &str) -> Result<Vec<Record>, StoreError> {
        self.store.database().read("look up records", |transaction| {
            let sql = format!(
                "SELECT {COLUMNS} FROM objects WHERE kind = ?1 AND id >= ?2 AND substr(id, 1, length(?2)) = ?2 ORDER BY id"
            );
            transaction.prepare(&sql)?.query_map([kind, prefix], from_row)?.collect()
        })
    }

    /// All records of a kind, by id.
    pub fn list(&self, kind: &str) -> Result<Vec<Record>, StoreError> {
        self.by_prefix(kind, "")
    }

    /// Removes a record; whether it was there.
    pub fn delete(&self, kind: &str, id: &str) -> Result<bool, StoreError> {
        let deleted = self.store.database().write("remove a record", |transaction| {
            transaction.execute("DELETE FROM objects WHERE kind = ?1 AND id = ?2", [kind, id])
        })?;
        Ok(deleted > 0)
    }
}

fn get(transaction: &Transaction<'_>, kind: &str, id: &str) -> rusqlite::Result<Option<Record>> {
    let sql = format!("SELECT {COLUMNS} FROM objects WHERE kind = ?1 AND id = ?2");
    transaction.query_row(&sql, [kind, id], from_row).optional()
}

fn refuse_taken_name(transaction: &Transaction<'_>, kind: &str, id: &str, name: Option<&str>) -> Result<(), Refusal> {
    let Some(name) = name else {
        return Ok(());
    };
    let sql = "SELECT id FROM objects WHERE kind = ?1 AND name = ?2 AND id <> ?3";
    let owner: Option<String> = transaction.query_row(sql, [kind, name, id], |row| row.get(0)).optional()?;
    match owner {
        None => Ok(()),
        Some(owner) => Err(StoreError::NameTaken { kind: kind.to_owned(), name: name.to_owned(), id: owner }.into()),
    }
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Record> {
    let revision: i64 = row.get(3)?;
    Ok(Record { kind: row.get(0)?, id: row.get(1)?, name: row.get(2)?, revision: revision as u64, json: row.get(4)? })
}
