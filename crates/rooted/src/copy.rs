//! Copies directories that somebody hostile has filled, with owners, modes, times and extended attributes.
//!
//! Everything is read and made through handles; links are copied and never followed.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use carrack_sys::rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, chmod, chownat, fgetxattr,
    flistxattr, fsetxattr, mkdirat, mknodat, openat, readlinkat, statat, symlinkat, utimensat,
};
use carrack_sys::rustix::io::Errno;

use crate::path_of;

/// How deep directories may be nested.
const MAX_DEPTH: usize = 256;

/// Copying failed.
#[derive(Debug, thiserror::Error)]
#[error("copy {}", path.display())]
pub struct CopyError {
    /// Path below the directory that is copied.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// Copies what is in the directory `from`, and its own attributes, to the empty directory `to`; both are open for reading.
pub fn copy_tree(from: OwnedFd, to: &OwnedFd) -> Result<(), CopyError> {
    copy_directory(from, to, Path::new(""), 0)
}

fn copy_directory(source: OwnedFd, target: &OwnedFd, path: &Path, depth: usize) -> Result<(), CopyError> {
    let failed = |errno: Errno| CopyError { path: path.to_owned(), source: errno.into() };
    if depth > MAX_DEPTH {
        return Err(failed(Errno::NAMETOOLONG));
    }
    for entry in Dir::read_from(&source).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            copy_entry(source.as_fd(), target, name, &path.join(name.to_string_lossy().as_ref()), depth)?;
        }
    }
    let facts = statat(&source, "", AtFlags::EMPTY_PATH).map_err(failed)?;
    copy_xattrs(source.as_fd(), target.as_fd()).map_err(failed)?;
    copy_metadata(target.as_fd(), c"", &facts, AtFlags::EMPTY_PATH).map_err(failed)?;
    chmod(path_of(target), Mode::from(facts.st_mode & 0o7777)).map_err(failed)
}

fn copy_entry(
    source: BorrowedFd<'_>,
    target: &OwnedFd,
    name: &CStr,
    path: &Path,
    depth: usize,
) -> Result<(), CopyError> {
    let failed = |errno: Errno| CopyError { path: path.to_owned(), source: errno.into() };
    let facts = statat(source, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
    let flags = OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mode = Mode::from(facts.st_mode & 0o7777);
    match FileType::from_raw_mode(facts.st_mode) {
        FileType::Directory => {
            mkdirat(target, name, Mode::from(0o700)).map_err(failed)?;
            let open = |at: BorrowedFd<'_>| openat(at, name, flags | OFlags::DIRECTORY, Mode::empty()).map_err(failed);
            return copy_directory(open(source)?, &open(target.as_fd())?, path, depth + 1);
        }
        FileType::RegularFile => {
            let mut from = File::from(openat(source, name, flags | OFlags::NONBLOCK, Mode::empty()).map_err(failed)?);
            let made = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
            let mut to = File::from(openat(target, name, flags | made, Mode::from(0o600)).map_err(failed)?);
            carrack_sys::sparse_copy::copy(&mut from, &mut to)
                .map_err(|source| CopyError { path: path.to_owned(), source })?;
            copy_metadata(target.as_fd(), name, &facts, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
            // After the owner, whose change clears capabilities and the setuid bit.
            copy_xattrs(from.as_fd(), to.as_fd()).map_err(failed)?;
            return chmod(path_of(&to), mode).map_err(failed);
        }
        FileType::Symlink => {
            let link = readlinkat(source, name, Vec::new()).map_err(failed)?;
            symlinkat(&link, target, name).map_err(failed)?;
        }
        kind @ (FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice) => {
            mknodat(target, name, kind, mode, facts.st_rdev).map_err(failed)?;
        }
        // A socket without its server is of no use to anybody.
        FileType::Socket | FileType::Unknown => return Ok(()),
    }
    copy_metadata(target.as_fd(), name, &facts, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
}

fn copy_metadata(directory: BorrowedFd<'_>, name: &CStr, facts: &Stat, flags: AtFlags) -> Result<(), Errno> {
    chownat(directory, name, Some(Uid::from_raw(facts.st_uid)), Some(Gid::from_raw(facts.st_gid)), flags)?;
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps {
        last_access: time(facts.st_atime, facts.st_atime_nsec as _),
        last_modification: time(facts.st_mtime, facts.st_mtime_nsec as _),
    };
    utimensat(directory, name, &times, flags)
}

fn copy_xattrs(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut names = vec![0; 64 << 10];
    let length = match flistxattr(source, &mut names[..]) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        other => other?,
    };
    let mut value = vec![0; 64 << 10];
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        // What overlayfs notes for itself means nothing outside it.
        if name.starts_with(b"trusted.overlay.") {
            continue;
        }
        let length = match fgetxattr(source, name, &mut value[..]) {
            // Gone since, or a capability of another user namespace's root, which cannot be told here (capabilities(7), version 3).
            Err(Errno::NODATA | Errno::OVERFLOW) => continue,
            other => other?,
        };
        match fsetxattr(target, name, &value[..length], XattrFlags::empty()) {
            Err(Errno::OPNOTSUPP) | Ok(()) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use carrack_sys::rustix::fs::{CWD, getxattr, setxattr};

    #[test]
    fn root_links_are_copied_as_links_and_attributes_come_along() {
        let name = "root_links_are_copied_as_links_and_attributes_come_along";
        let path = std::env::temp_dir().join(format!("carrack-rooted-copy-{}", std::process::id()));
        for directory in ["from/sub", "to"] {
            std::fs::create_dir_all(path.join(directory)).unwrap();
        }
        std::fs::write(path.join("from/sub/file"), "content").unwrap();
        std::os::unix::fs::symlink("/etc", path.join("from/out")).unwrap();
        let labelled = setxattr(path.join("from/sub/file"), c"trusted.carrack", b"label", XattrFlags::empty());
        let open =
            |name| openat(CWD, path.join(name), OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        copy_tree(open("from").unwrap(), &open("to").unwrap()).unwrap();
        assert_eq!(std::fs::read_link(path.join("to/out")).unwrap(), Path::new("/etc"));
        assert_eq!(std::fs::read_to_string(path.join("to/sub/file")).unwrap(), "content");
        let mut value = [0; 16];
        match labelled {
            Ok(()) => {
                let length = getxattr(path.join("to/sub/file"), c"trusted.carrack", &mut value[..]).unwrap();
                assert_eq!(&value[..length], b"label");
            }
            Err(error) => eprintln!("SKIPPED: {name}: extended attributes: {error}"),
        }
        std::fs::remove_dir_all(path).unwrap();
    }
}
