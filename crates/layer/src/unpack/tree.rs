//! What the unpacker remembers: the directories it made.

use std::collections::BTreeMap;

use crate::attributes::{Late, Time};
use crate::path::CleanPath;
use crate::{Limits, UnpackError};

/// A directory of the layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directory {
    /// The layer lists it; otherwise it is there because something in it is.
    pub listed: bool,
    /// Its attributes are those of the directory below, which are not known yet.
    pub awaits_lower: bool,
    /// It hides what the layers below have in it.
    pub opaque: bool,
    /// Set at the end: creating something in it changes it.
    pub mtime: Time,
    /// Set at the end, too.
    pub late: Option<Box<Late>>,
}

/// All directories by path; a path that is not in here is not a directory of the layer.
pub(super) struct Tree {
    directories: BTreeMap<CleanPath, Directory>,
    memory: Memory,
}

impl Tree {
    /// A tree with a root that is not listed.
    pub(super) fn new(limits: &Limits) -> Self {
        let root = Directory { listed: false, awaits_lower: false, opaque: false, mtime: Time::UNKNOWN, late: None };
        Self {
            directories: BTreeMap::from([(Vec::new(), root)]),
            memory: Memory { used: 0, limit: limits.memory_bytes },
        }
    }

    pub(super) fn get(&self, path: &[u8]) -> Option<&Directory> {
        self.directories.get(path)
    }

    pub(super) fn get_mut(&mut self, path: &[u8]) -> Option<&mut Directory> {
        self.directories.get_mut(path)
    }

    pub(super) fn insert(&mut self, path: CleanPath, directory: Directory) -> Result<(), UnpackError> {
        self.memory.take(path.len(), "directories")?;
        self.directories.insert(path, directory);
        Ok(())
    }

    /// Forgets a directory and all below it.
    pub(super) fn remove(&mut self, path: &[u8]) {
        // '0' is the byte after '/': between the two lies exactly what starts with "path/".
        let (below, behind) = ([path, b"/"].concat(), [path, b"0"].concat());
        let mut gone: Vec<CleanPath> = self.directories.range(below..behind).map(|(path, _)| path.clone()).collect();
        gone.push(path.to_vec());
        for path in gone {
            if self.directories.remove(&path).is_some() {
                self.memory.give_back(path.len());
            }
        }
    }

    /// Charges `path`, which is kept elsewhere, to the same bound.
    pub(super) fn charge(&mut self, path: &[u8], what: &'static str) -> Result<(), UnpackError> {
        self.memory.take(path.len(), what)
    }

    /// Directories with their paths, parents first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &Directory)> {
        self.directories.iter().map(|(path, directory)| (&path[..], directory))
    }
}

/// The bound of what is remembered.
struct Memory {
    used: usize,
    limit: usize,
}

/// What a path costs besides its bytes: its place in the map and the directory's own fields.
const OVERHEAD: usize = 96;

impl Memory {
    fn take(&mut self, bytes: usize, what: &'static str) -> Result<(), UnpackError> {
        self.used += bytes + OVERHEAD;
        if self.used > self.limit {
            return Err(UnpackError::TooMany { what, limit: (self.limit / OVERHEAD) as u64 });
        }
        Ok(())
    }

    fn give_back(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes + OVERHEAD);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> Directory {
        Directory { listed: true, awaits_lower: false, opaque: false, mtime: Time::UNKNOWN, late: None }
    }

    #[test]
    fn removing_a_directory_forgets_what_is_below_and_nothing_beside() {
        let mut tree = Tree::new(&Limits::default());
        for path in ["a", "a/b", "a/b/c", "a-", "a.b", "a0", "b"] {
            tree.insert(path.as_bytes().to_vec(), directory()).unwrap();
        }
        tree.remove(b"a");
        let left: Vec<&[u8]> = tree.iter().map(|(path, _)| path).collect();
        assert_eq!(left, [&b""[..], b"a-", b"a.b", b"a0", b"b"]);
    }

    #[test]
    fn memory_is_bounded_and_given_back() {
        let mut tree = Tree::new(&Limits { memory_bytes: 1000, ..Limits::default() });
        for _ in 0..100 {
            tree.insert(b"a".to_vec(), directory()).unwrap();
            tree.remove(b"a");
        }
        let refused = (0..100).find_map(|i| tree.insert(format!("{i}").into_bytes(), directory()).err());
        assert!(matches!(refused, Some(UnpackError::TooMany { what: "directories", .. })));
    }
}
