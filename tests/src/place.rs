//! A directory of a test's own.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// Removed with all that is in it when dropped, unless the test is panicking: then it is left for the person who looks.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Place {
    /// A new directory whose name tells the test.
    pub fn new(name: &str) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("carrack-test-{}-{number}-{name}", process::id()));
        fs::create_dir_all(&path).expect("the temporary directory is writable");
        Self { path }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// A new directory in it.
    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        fs::create_dir_all(&path).expect("a test's own directory is writable");
        path
    }

    /// A new file in it.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path.join(name);
        fs::write(&path, content).expect("a test's own directory is writable");
        path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // A mount that is still there makes this fail; the leak check has told of it already.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
