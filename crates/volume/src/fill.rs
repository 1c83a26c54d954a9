//! Fills a new volume with what the image has in the place where it will be mounted.

use std::io;
use std::path::{Path, PathBuf};

use carrack_rooted::{CopyError, Root, copy_tree};
use carrack_sys::rustix::fs::{CWD, Mode, OFlags, openat};

/// Copies what `root` has at `from` into the empty directory `to`; nothing if there is no directory.
pub(crate) fn fill(root: &Root, from: &Path, to: &Path) -> Result<(), CopyError> {
    let failed = |source: io::Error| CopyError { path: PathBuf::new(), source };
    let source = match root.open(from, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(source) => source,
        Err(error) if error.is_not_found() || error.io().kind() == io::ErrorKind::NotADirectory => return Ok(()),
        Err(error) => return Err(failed(io::Error::other(error))),
    };
    let target = openat(CWD, to, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| failed(errno.into()))?;
    copy_tree(source, &target)
}
