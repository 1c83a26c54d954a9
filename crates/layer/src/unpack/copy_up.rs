//! Copies a file of a lower layer, as overlayfs does when a file below is changed.

use carrack_sys::rustix;
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::UnpackError;
use crate::attributes::{Node, attributes_of, copy_attributes, set_all_at};

/// Copies `name`, which `stat` describes and which is not a directory, from one directory to another; returns the bytes of content.
pub(super) fn copy_up(
    from: BorrowedFd<'_>,
    stat: &Stat,
    to: BorrowedFd<'_>,
    name: &[u8],
    path: &[u8],
) -> Result<u64, UnpackError> {
    let failed = |error: Errno| UnpackError::write("copy from the layers below", path, error);
    let kind = FileType::from_raw_mode(stat.st_mode);
    // Never anybody's: the owner is set in any case.
    let nobody = (u32::MAX, u32::MAX);
    let node = match kind {
        FileType::RegularFile => return copy_file(from, to, name, path),
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(from, name, Vec::new()).map_err(failed)?;
            rustix::fs::symlinkat(&target, to, name).map_err(failed)?;
            Node::Symlink
        }
        _ => {
            let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
            rustix::fs::mknodat(to, name, kind, mode, stat.st_rdev).map_err(failed)?;
            Node::Special
        }
    };
    set_all_at(to, name, node, &attributes_of(stat), nobody, path)?;
    Ok(0)
}

fn copy_file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<u64, UnpackError> {
    let failed = |error: io::Error| UnpackError::write("copy from the layers below", path, error);
    let open = |dir, flags| {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o600)).map_err(|error: Errno| failed(error.into()))
    };
    let mut source = File::from(open(from, OFlags::RDONLY)?);
    let mut target = File::from(open(to, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?);
    let bytes = carrack_sys::sparse_copy::copy(&mut source, &mut target).map_err(failed)?;
    copy_attributes(source.as_fd(), target.as_fd())?;
    Ok(bytes)
}
