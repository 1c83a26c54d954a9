//! Copies a directory of an image into a new volume, with owners, modes, times and extended attributes.
//!
//! What is copied is Class 2 input: it is read through the image's root and through handles, links are copied and never followed.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use carrack_rooted::{Root, path_of};
use carrack_sys::rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, chmod, chownat,
    fgetxattr, flistxattr, fsetxattr, mkdirat, mknodat, openat, readlinkat, statat, symlinkat, utimensat,
};
use carrack_sys::rustix::io::Errno;

/// How deep directories may be nested.
const MAX_DEPTH: usize = 256;

/// Copying failed.
#[derive(Debug, thiserror::Error)]
#[error("copy {}", path.display())]
pub struct CopyError {
    /// Path below the mount point.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

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
    copy_directory(source, &target, Path::new(""), 0)
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
        let length = fgetxattr(source, name, &mut value[..])?;
        match fsetxattr(target, name, &value[..length], XattrFlags::empty()) {
            Err(Errno::OPNOTSUPP) | Ok(()) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
