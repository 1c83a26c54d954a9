//! The engine's records in the store, as types.

use carrack_store::{Record, Store, StoreError};
use carrack_words::{ContainerId, PodId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::EngineError;
use crate::record::{ContainerRecord, PodRecord};

const POD: &str = "pod";
const CONTAINER: &str = "container";

/// A record and the revision that was read.
#[derive(Debug, Clone)]
pub(crate) struct Kept<T> {
    pub record: T,
    revision: u64,
}

fn read<T: DeserializeOwned>(what: &'static str, stored: Record) -> Result<Kept<T>, EngineError> {
    match serde_json::from_str(&stored.json) {
        Ok(record) => Ok(Kept { record, revision: stored.revision }),
        Err(source) => Err(EngineError::Damaged { what, id: stored.id, source }),
    }
}

fn text(record: &impl Serialize) -> String {
    serde_json::to_string(record).expect("records have string keys only")
}

fn not_found(what: &'static str, name: &str) -> EngineError {
    EngineError::NotFound { what, name: name.to_owned() }
}

macro_rules! table {
    ($(#[$doc:meta])* $name:ident, $record:ty, $id:ty, $kind:expr, $what:literal) => {
        $(#[$doc])*
        pub(crate) struct $name<'a> {
            store: &'a Store,
        }

        impl<'a> $name<'a> {
            pub fn new(store: &'a Store) -> Self {
                Self { store }
            }

            /// Adds a record; its name must be free.
            pub fn insert(&self, record: &$record, name: Option<&str>) -> Result<Kept<$record>, StoreError> {
                let revision = self.store.records().insert($kind, record.id.as_str(), name, &text(record))?;
                Ok(Kept { record: record.clone(), revision })
            }

            /// Writes a changed record back; fails if somebody else changed it meanwhile.
            pub fn update(&self, kept: &mut Kept<$record>) -> Result<(), EngineError> {
                let id = kept.record.id.as_str().to_owned();
                kept.revision = self.store.records().update($kind, &id, kept.revision, &text(&kept.record))?;
                Ok(())
            }

            /// The record of an id.
            pub fn get(&self, id: &$id) -> Result<Kept<$record>, EngineError> {
                match self.store.records().get($kind, id.as_str())? {
                    Some(object) => read($what, object),
                    None => Err(not_found($what, id.as_str())),
                }
            }

            /// All records.
            pub fn list(&self) -> Result<Vec<$record>, EngineError> {
                self.store.records().list($kind)?.into_iter().map(|object| Ok(read($what, object)?.record)).collect()
            }

            /// Removes a record, if it is there.
            pub fn delete(&self, id: &$id) -> Result<(), EngineError> {
                self.store.records().delete($kind, id.as_str())?;
                Ok(())
            }

            /// The id that `query` names: the name, the id, or the beginning of just one id.
            pub fn find(&self, query: &str) -> Result<$id, EngineError> {
                let records = self.store.records();
                let found = match records.by_name($kind, query)? {
                    Some(object) => Some(object),
                    None if query.is_empty() => None,
                    None => {
                        let mut found = records.by_prefix($kind, query)?;
                        let exact = found.iter().position(|record| record.id == query);
                        match (found.len(), exact) {
                            (_, Some(exact)) => Some(found.swap_remove(exact)),
                            (0 | 1, None) => found.pop(),
                            (_, None) => {
                                return Err(EngineError::Invalid {
                                    message: format!("{} id {query:?} is ambiguous: several begin so", $what),
                                });
                            }
                        }
                    }
                };
                match found {
                    Some(record) => <$id>::new(record.id).map_err(|_| not_found($what, query)),
                    None => Err(not_found($what, query)),
                }
            }
        }
    };
}

table! {
    /// The pods.
    Pods, PodRecord, PodId, POD, "pod"
}
table! {
    /// The containers.
    Containers, ContainerRecord, ContainerId, CONTAINER, "container"
}
