//! The handle of the directory at hand, and of those above it.
//!
//! Archives list a directory's contents together. So going to the next entry's directory mostly costs nothing, else closing a few handles and
//! opening a few; and no path of more than one part is ever given to the kernel.

use carrack_sys::rustix;
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::path::{CleanPath, join};
use crate::{EntryProblem, Limits, UnpackError};

/// One directory on the way down.
struct Level {
    directory: OwnedFd,
    /// Length of its path.
    end: usize,
    /// It, or one above it, hides what the layers below have here.
    hides_lower: bool,
}

/// A chain of open directories from the root to the one at hand.
pub(super) struct Cursor {
    levels: Vec<Level>,
    path: CleanPath,
}

impl Cursor {
    pub(super) fn new(root: BorrowedFd<'_>) -> Result<Self, UnpackError> {
        let directory = open(root, b".").map_err(|error| UnpackError::write("open", "/", error))?;
        Ok(Self { levels: vec![Level { directory, end: 0, hides_lower: false }], path: Vec::new() })
    }

    /// Path of the directory at hand.
    pub(super) fn path(&self) -> &[u8] {
        &self.path
    }

    /// The path of `name` in it.
    pub(super) fn child(&self, name: &[u8]) -> CleanPath {
        join(&self.path, name)
    }

    /// Its handle: for `*at` calls, not for reading.
    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.last().directory.as_fd()
    }

    /// Whether nothing of the lower layers shows here.
    pub(super) fn hides_lower(&self) -> bool {
        self.last().hides_lower
    }

    pub(super) fn hide_lower(&mut self) {
        self.levels.last_mut().expect("the root's level is never popped").hides_lower = true;
    }

    /// Goes up; stays at the root, as chroot(2) makes `..` of a root.
    pub(super) fn up(&mut self) {
        if self.levels.len() > 1 {
            self.levels.pop();
            self.path.truncate(self.last().end);
        }
    }

    /// Goes to the root.
    pub(super) fn go_to_root(&mut self) {
        self.levels.truncate(1);
        self.path.clear();
    }

    /// Goes up until the path at hand leads to `path`, and returns the rest of the way.
    pub(super) fn keep_common<'p>(&mut self, path: &'p [u8]) -> &'p [u8] {
        loop {
            let here = self.path.len();
            if here == 0 {
                return path;
            }
            if path.starts_with(&self.path) && path.get(here).is_none_or(|&byte| byte == b'/') {
                return path.get(here + 1..).unwrap_or(&[]);
            }
            self.up();
        }
    }

    /// Enters the directory `name`, which is one and not a link.
    pub(super) fn down(&mut self, name: &[u8], hides_lower: bool, limits: &Limits) -> Result<(), UnpackError> {
        let path = self.child(name);
        if self.levels.len() > limits.depth {
            return Err(UnpackError::entry(&path, EntryProblem::TooDeep { limit: limits.depth }));
        }
        if path.len() > limits.path_bytes {
            return Err(UnpackError::entry(&path, EntryProblem::TooLong));
        }
        let directory = open(self.directory(), name).map_err(|error| UnpackError::write("open", &path, error))?;
        let hides_lower = hides_lower || self.hides_lower();
        self.levels.push(Level { directory, end: path.len(), hides_lower });
        self.path = path;
        Ok(())
    }

    fn last(&self) -> &Level {
        self.levels.last().expect("the root's level is never popped")
    }
}

fn open(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}
