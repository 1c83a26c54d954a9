//! Unpacked layers.

use carrack_layer::{Totals, copy_attributes};
use carrack_sys::rustix;
use carrack_words::Timestamp;
use rusqlite::{OptionalExtension, Row, Transaction, params};
use rustix::fs::{FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::fs::{self, DirBuilder};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::database::parsed;
use crate::random::random_name;
use crate::{LayerKey, Lease, Resource, Store, StoreError, gc, holds};

/// Ids are short because the paths of all layers of an image have to fit into one page of mount options.
const ID_LENGTH: usize = 8;

/// What is recorded of a layer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LayerFacts {
    /// Length of the uncompressed tar.
    pub tar_bytes: u64,
    /// What it holds.
    pub totals: Totals,
}

/// A layer that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Name of its directory.
    pub id: String,
    /// Under which it is kept.
    pub key: LayerKey,
    /// The directory for overlayfs.
    pub path: PathBuf,
    /// What is recorded of it.
    pub facts: LayerFacts,
    /// When it was committed.
    pub created: Timestamp,
}

/// The layers of an image, ready to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// Lower directories, topmost first. Layers below one that hides everything are left out: overlayfs would show them.
    pub lowers: Vec<PathBuf>,
    /// The directory that the merged root's attributes come from; `None` if no layer lists its root, which is then `0755 root:root`.
    ///
    /// overlayfs shows those of the topmost directory, so a container's upper directory has to get them: [`Stack::give_root_attributes`].
    pub root_attributes: Option<PathBuf>,
}

/// The layers of a store.
#[derive(Debug)]
pub struct Layers<'a> {
    store: &'a Store,
}

impl<'a> Layers<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// Makes an empty directory to unpack into.
    pub fn prepare(&self, lease: &Lease) -> Result<ActiveLayer, StoreError> {
        // A sweep must not come between the directory and its lock.
        let _no_sweep = self.store.locks().acquire_shared("store", "sweep", self.store.patience())?;
        let home = self.store.path("layers/active").join(random_name(ID_LENGTH)?);
        DirBuilder::new()
            .mode(0o700)
            .create(&home)
            .map_err(|error| StoreError::io("create the directory", &home, error))?;
        let mut active =
            ActiveLayer { store: self.store.clone(), holder: lease.holder(), path: home.join("fs"), home, open: None };
        let lock = open_directory(&active.home)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| StoreError::io("lock", &active.home, error))?;
        let contents = make_contents(&active.path)?;
        active.open = Some(OpenLayer { _lock: lock, contents });
        Ok(active)
    }

    /// If the layer is there, lets `lease` hold it, so that it stays there.
    pub fn claim(&self, lease: &Lease, key: &LayerKey) -> Result<Option<Layer>, StoreError> {
        let holder = lease.holder();
        let row = self.store.database().write("claim a layer", |transaction| claim(transaction, &holder, key))?;
        self.if_there(row)
    }

    /// A layer by its key; `None` if it is not there.
    pub fn get(&self, key: &LayerKey) -> Result<Option<Layer>, StoreError> {
        let row = self.store.database().read("look up a layer", |transaction| select(transaction, key))?;
        self.if_there(row)
    }

    /// All layers, by key.
    pub fn list(&self) -> Result<Vec<Layer>, StoreError> {
        let rows: Vec<LayerRow> = self.store.database().read("list the layers", |transaction| {
            let mut statement = transaction.prepare(&format!("SELECT {COLUMNS} FROM layers ORDER BY key"))?;
            statement.query_map([], LayerRow::read)?.collect()
        })?;
        rows.into_iter().map(|row| row.into_layer(self.store)).collect()
    }

    /// Removes a layer that nobody holds; whether it was there. Fails with [`StoreError::Held`] if somebody does.
    pub fn delete(&self, key: &LayerKey) -> Result<bool, StoreError> {
        let resource = Resource::Layer(*key);
        let row = self.store.database().write_or_refuse("delete a layer", |transaction| {
            holds::refuse_if_held(transaction, &resource)?;
            Ok(forget(transaction, key)?)
        })?;
        let Some(id) = row else {
            return Ok(false);
        };
        gc::discard_layer(self.store, &id)?;
        Ok(true)
    }

    /// Puts layers, bottom first, together.
    pub fn stack(&self, bottom_first: &[Layer]) -> Stack {
        let hiding = bottom_first.iter().rposition(|layer| layer.facts.totals.root_opaque).unwrap_or(0);
        let shown = &bottom_first[hiding.min(bottom_first.len())..];
        // The root itself is not hidden by what hides its contents: its attributes may come from any layer.
        let listed = bottom_first.iter().rev().find(|layer| layer.facts.totals.root_listed);
        Stack {
            lowers: shown.iter().rev().map(|layer| layer.path.clone()).collect(),
            root_attributes: listed.map(|layer| layer.path.clone()),
        }
    }

    fn if_there(&self, row: Option<LayerRow>) -> Result<Option<Layer>, StoreError> {
        let Some(layer) = row.map(|row| row.into_layer(self.store)).transpose()? else {
            return Ok(None);
        };
        Ok(layer.path.is_dir().then_some(layer))
    }
}

impl Layer {
    /// A readable handle of its directory, as unpacking over it wants.
    pub fn open(&self) -> Result<OwnedFd, StoreError> {
        open_directory(&self.path)
    }
}

impl Stack {
    /// Gives a container's upper directory the attributes that the merged root is to have.
    pub fn give_root_attributes(&self, upper: &Path) -> Result<(), StoreError> {
        let Some(from) = &self.root_attributes else {
            return Ok(());
        };
        let (from, to) = (open_directory(from)?, open_directory(upper)?);
        copy_attributes(from.as_fd(), to.as_fd())
            .map_err(|error| StoreError::io("prepare", upper, std::io::Error::other(error)))
    }
}

/// A layer that is being unpacked. Dropping it removes it; if this process dies, a sweep does.
#[derive(Debug)]
pub struct ActiveLayer {
    store: Store,
    holder: String,
    /// `layers/active/<id>`; empty once it was renamed.
    home: PathBuf,
    path: PathBuf,
    /// `None` only while it is being made.
    open: Option<OpenLayer>,
}

#[derive(Debug)]
struct OpenLayer {
    /// Handle of the home directory, locked for as long as we are at work.
    _lock: OwnedFd,
    contents: OwnedFd,
}

impl ActiveLayer {
    /// The directory to unpack into, as a readable handle.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.open.as_ref().expect("an active layer is handed out with its handles").contents.as_fd()
    }

    /// Its path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Empties the directory, for unpacking once more.
    pub fn reset(&mut self) -> Result<(), StoreError> {
        gc::discard(&self.store, &self.path)?;
        let contents = make_contents(&self.path)?;
        self.open.as_mut().expect("an active layer is handed out with its handles").contents = contents;
        Ok(())
    }

    /// Keeps the layer under `key`; the lease it was prepared with holds it. If somebody else was first, theirs is returned and ours removed.
    pub fn commit(mut self, key: LayerKey, facts: LayerFacts) -> Result<Layer, StoreError> {
        let store = self.store.clone();
        let _one_at_a_time = store.locks().acquire("layer", &key.to_string(), store.patience())?;
        let taken = store.database().write("claim a layer", |transaction| claim(transaction, &self.holder, &key))?;
        if let Some(layer) = store.layers().if_there(taken)? {
            return Ok(layer);
        }
        let id = self.rename_into_place()?;
        let created = Timestamp::now();
        let text = serde_json::to_string(&facts).expect("numbers and booleans have a JSON form");
        let path = layer_path(&store, &id);
        store.database().write("record a layer", |transaction| {
            // A row whose directory is gone makes room.
            forget(transaction, &key)?;
            transaction.execute(
                "INSERT INTO layers (key, id, file_bytes, inodes, facts, created, boot) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    key.to_string(),
                    id,
                    facts.totals.file_bytes as i64,
                    facts.totals.inodes as i64,
                    text,
                    created.nanoseconds(),
                    store.host().boot_id
                ],
            )?;
            holds::add(transaction, &self.holder, &Resource::Layer(key))
        })?;
        Ok(Layer { id, key, path, facts, created })
    }

    /// Moves the directory among the layers; it stays locked, so that a sweep does not take it for a leftover before its row is there.
    fn rename_into_place(&mut self) -> Result<String, StoreError> {
        loop {
            let id = random_name(ID_LENGTH)?;
            let target = self.store.path("layers").join(&id);
            match rustix::fs::renameat_with(
                rustix::fs::CWD,
                &self.home,
                rustix::fs::CWD,
                &target,
                RenameFlags::NOREPLACE,
            ) {
                Ok(()) => {
                    self.home = PathBuf::new();
                    return Ok(id);
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(StoreError::io("rename to", &target, error)),
            }
        }
    }
}

impl Drop for ActiveLayer {
    fn drop(&mut self) {
        if !self.home.as_os_str().is_empty() {
            // What cannot be removed now is swept later.
            let _ = gc::discard(&self.store, &self.home);
        }
    }
}

const COLUMNS: &str = "id, key, facts, created";

/// A row of the table.
pub(crate) struct LayerRow {
    id: String,
    key: String,
    facts: String,
    created: i64,
}

impl LayerRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<LayerRow> {
        Ok(LayerRow { id: row.get(0)?, key: row.get(1)?, facts: row.get(2)?, created: row.get(3)? })
    }

    fn into_layer(self, store: &Store) -> Result<Layer, StoreError> {
        let facts = serde_json::from_str(&self.facts)
            .map_err(|_| StoreError::BadRow { what: "layer's facts", text: self.facts })?;
        Ok(Layer {
            key: parsed(self.key, "layer key")?,
            path: layer_path(store, &self.id),
            id: self.id,
            facts,
            created: Timestamp::from_nanoseconds(self.created),
        })
    }
}

fn layer_path(store: &Store, id: &str) -> PathBuf {
    store.path("layers").join(id).join("fs")
}

fn select(transaction: &Transaction<'_>, key: &LayerKey) -> rusqlite::Result<Option<LayerRow>> {
    let sql = format!("SELECT {COLUMNS} FROM layers WHERE key = ?1");
    transaction.query_row(&sql, [key.to_string()], LayerRow::read).optional()
}

fn claim(transaction: &Transaction<'_>, holder: &str, key: &LayerKey) -> rusqlite::Result<Option<LayerRow>> {
    let row = select(transaction, key)?;
    if row.is_some() {
        holds::add(transaction, holder, &Resource::Layer(*key))?;
    }
    Ok(row)
}

/// Removes a layer's row and returns its id.
pub(crate) fn forget(transaction: &Transaction<'_>, key: &LayerKey) -> rusqlite::Result<Option<String>> {
    let sql = "DELETE FROM layers WHERE key = ?1 RETURNING id";
    transaction.query_row(sql, [key.to_string()], |row| row.get(0)).optional()
}

fn make_contents(path: &Path) -> Result<OwnedFd, StoreError> {
    fs::create_dir(path).map_err(|error| StoreError::io("create the directory", path, error))?;
    let open = open_directory(path)?;
    // Whatever our umask is: this becomes the root of a container that lists none.
    rustix::fs::fchmod(&open, Mode::from_raw_mode(0o755))
        .map_err(|error| StoreError::io("change the mode of", path, error))?;
    Ok(open)
}

fn open_directory(path: &Path) -> Result<OwnedFd, StoreError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|error| StoreError::io("open", path, error))
}
