//! Removes what an entry takes the place of.

use carrack_sys::rustix;
use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;
use std::os::fd::BorrowedFd;

use crate::attributes::open_directory;

/// Removes `name` in `dir` with all below it; links are removed, never followed. Returns how many inodes' names went.
///
/// Recursion is as deep as the unpacker lets directories be.
pub(super) fn remove_tree(dir: BorrowedFd<'_>, name: &[u8]) -> Result<u64, Errno> {
    let mut removed = 1;
    {
        let open = open_directory(dir, name)?;
        for entry in Dir::read_from(&open)? {
            let entry = entry?;
            let child = entry.file_name().to_bytes();
            if child == b"." || child == b".." {
                continue;
            }
            let is_directory = match entry.file_type() {
                FileType::Directory => true,
                FileType::Unknown => {
                    let stat = rustix::fs::statat(&open, child, AtFlags::SYMLINK_NOFOLLOW)?;
                    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
                }
                _ => false,
            };
            if is_directory {
                removed += remove_tree(std::os::fd::AsFd::as_fd(&open), child)?;
            } else {
                rustix::fs::unlinkat(&open, child, AtFlags::empty())?;
                removed += 1;
            }
        }
    }
    rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?;
    Ok(removed)
}
