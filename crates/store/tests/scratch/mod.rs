//! A store of one's own, and other processes that use it too.

#![allow(dead_code, reason = "each test program uses its part")]

use carrack_layer::Totals;
use carrack_store::{Expected, Host, Layer, LayerFacts, LayerKey, Lease, Store, StoreError};
use carrack_words::{ChainId, DiffId, Digest};
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory that is removed when dropped.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("carrack-store-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("the name is not taken");
        Scratch(path)
    }

    pub fn open(&self) -> Store {
        open(&self.0)
    }

    pub fn open_in_boot(&self, boot: &str) -> Store {
        let host = Host { boot_id: boot.to_owned() };
        Store::open_as(&self.0.join("root"), &self.0.join("run"), host).expect("the store opens")
    }

    /// What is in a directory of the store.
    pub fn list(&self, below: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.join("root").join(below)).expect("a directory of the store");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("ASCII")).collect();
        names.sort();
        names
    }

    /// A command that runs one test of this program in a process of its own, with this directory in its environment.
    pub fn child(&self, test: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().expect("we know our program"));
        command.args(["--exact", test, "--nocapture"]).env(CHILD, &self.0);
        command
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("nobody uses it any more");
    }
}

const CHILD: &str = "CARRACK_STORE_TEST_CHILD";

/// The parent's directory, if this process was started by [`Scratch::child`].
pub fn in_child() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

pub fn open(directory: &Path) -> Store {
    Store::open(&directory.join("root"), &directory.join("run")).expect("the store opens")
}

pub fn digest(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

pub fn expected(bytes: &[u8]) -> Expected {
    Expected { digest: digest(bytes), size_bytes: Some(bytes.len() as u64) }
}

pub fn diff(text: &str) -> LayerKey {
    LayerKey::Diff(DiffId(digest(text.as_bytes())))
}

pub fn chain(text: &str) -> LayerKey {
    LayerKey::Chain(ChainId(digest(text.as_bytes())))
}

pub const FACTS: LayerFacts = LayerFacts {
    tar_bytes: 1024,
    totals: Totals { entries: 2, inodes: 3, file_bytes: 4, xattrs_dropped: 0, root_listed: false, root_opaque: false },
};

/// Commits a layer with one file in it.
pub fn add_layer(store: &Store, lease: &Lease, key: LayerKey) -> Result<Layer, StoreError> {
    let active = store.layers().prepare(lease)?;
    std::fs::write(active.path().join("file"), key.to_string()).expect("the directory is there");
    active.commit(key, FACTS)
}
