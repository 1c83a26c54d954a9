//! What is needed, and by whom.
//!
//! A holder is a text: `image:NAME` and `lease:ID` are the store's own, others belong to callers (`container:ID`).

use rusqlite::{Transaction, params};

use crate::database::{Refusal, parsed};
use crate::{Resource, Store, StoreError};

/// The table of holds.
#[derive(Debug)]
pub struct Holds<'a> {
    store: &'a Store,
}

impl<'a> Holds<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// Makes `resources` what `holder` needs, instead of what it needed before.
    pub fn set(&self, holder: &str, resources: &[Resource]) -> Result<(), StoreError> {
        self.store.database().write("note what is needed", |transaction| replace(transaction, holder, resources))
    }

    /// The holder needs nothing any more. A repeat changes nothing.
    pub fn release(&self, holder: &str) -> Result<(), StoreError> {
        self.set(holder, &[])
    }

    /// What a holder needs.
    pub fn of(&self, holder: &str) -> Result<Vec<Resource>, StoreError> {
        let texts: Vec<String> = self.store.database().read("list what is needed", |transaction| {
            let mut statement =
                transaction.prepare("SELECT resource FROM holds WHERE holder = ?1 ORDER BY resource")?;
            statement.query_map([holder], |row| row.get(0))?.collect()
        })?;
        texts.into_iter().map(|text| parsed(text, "resource")).collect()
    }

    /// All holders whose names start so.
    pub fn with_prefix(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.store.database().read("list holders", |transaction| {
            let sql = "SELECT DISTINCT holder FROM holds WHERE substr(holder, 1, length(?1)) = ?1 ORDER BY holder";
            let mut statement = transaction.prepare(sql)?;
            statement.query_map([prefix], |row| row.get(0))?.collect()
        })
    }

    /// Who needs a resource.
    pub fn holders(&self, resource: &Resource) -> Result<Vec<String>, StoreError> {
        self.store.database().read("list who needs", |transaction| {
            let mut statement = transaction.prepare("SELECT holder FROM holds WHERE resource = ?1 ORDER BY holder")?;
            statement.query_map([resource.to_string()], |row| row.get(0))?.collect()
        })
    }
}

pub(crate) fn replace(transaction: &Transaction<'_>, holder: &str, resources: &[Resource]) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM holds WHERE holder = ?1", [holder])?;
    resources.iter().try_for_each(|resource| add(transaction, holder, resource))
}

pub(crate) fn add(transaction: &Transaction<'_>, holder: &str, resource: &Resource) -> rusqlite::Result<()> {
    let row = params![holder, resource.to_string()];
    transaction.execute("INSERT OR IGNORE INTO holds (holder, resource) VALUES (?1, ?2)", row)?;
    Ok(())
}

/// Refuses if anybody needs the resource.
pub(crate) fn refuse_if_held(transaction: &Transaction<'_>, resource: &Resource) -> Result<(), Refusal> {
    let mut statement = transaction.prepare("SELECT holder FROM holds WHERE resource = ?1 LIMIT 1")?;
    let holders: Vec<String> =
        statement.query_map([resource.to_string()], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    match holders.into_iter().next() {
        None => Ok(()),
        Some(holder) => Err(StoreError::Held { resource: *resource, holder }.into()),
    }
}
