//! Modes, owners, times and extended attributes of what a layer holds.

use carrack_sys::rustix;
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use crate::tar::{TarEntry, Xattr};
use crate::{EntryProblem, Shown, UnpackError};

/// A file's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// Seconds since 1970, also before it.
    pub seconds: i64,
    /// Nanoseconds after that second, below 1 000 000 000.
    pub nanoseconds: u32,
}

impl Time {
    /// What a directory has that no layer lists: always the same, so that unpacking is reproducible.
    pub(crate) const UNKNOWN: Time = Time { seconds: 0, nanoseconds: 0 };

    fn timestamps(self) -> Timestamps {
        let time = Timespec { tv_sec: self.seconds, tv_nsec: self.nanoseconds.into() };
        Timestamps { last_access: time, last_modification: time }
    }
}

/// What an entry says about itself, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Time,
    pub xattrs: Vec<Xattr>,
}

pub(crate) const OPAQUE: &str = "trusted.overlay.opaque";
pub(crate) const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

const SET_GID: u32 = 0o2000;
const SET_ID: u32 = 0o6000;

impl Attributes {
    /// Checks `entry`'s attributes; with them comes how many extended attributes are left out.
    pub(crate) fn of(entry: &mut TarEntry) -> Result<(Attributes, u64), EntryProblem> {
        // The largest number means "leave as it is" to chown(2).
        let id = |value: i64| u32::try_from(value).ok().filter(|&id| id != u32::MAX).ok_or(EntryProblem::Owner);
        let (uid, gid) = (id(entry.uid)?, id(entry.gid)?);
        let mut xattrs = std::mem::take(&mut entry.xattrs);
        let offered = xattrs.len();
        xattrs.retain(|xattr| is_kept(&xattr.name));
        let dropped = (offered - xattrs.len()) as u64;
        Ok((Attributes { mode: entry.mode, uid, gid, mtime: entry.mtime, xattrs }, dropped))
    }
}

/// Whether an image may set this attribute.
///
/// Not `trusted.`, where overlayfs keeps what it trusts, nor `user.overlay.`, which is the same for mounts in a user namespace; and of `security.`
/// only file capabilities: labels and signatures are the host's to give.
fn is_kept(name: &[u8]) -> bool {
    name == b"security.capability"
        || name == b"system.posix_acl_access"
        || name == DEFAULT_ACL
        || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

/// Sets owner and mode on an open file or directory that was created with `mode` by `ours`.
pub(crate) fn set_owner_and_mode(
    fd: BorrowedFd<'_>,
    attributes: &Attributes,
    ours: (u32, u32),
    path: &[u8],
) -> Result<(), UnpackError> {
    if (attributes.uid, attributes.gid) != ours {
        rustix::fs::fchown(fd, Some(Uid::from_raw(attributes.uid)), Some(Gid::from_raw(attributes.gid)))
            .map_err(|error| UnpackError::write("change the owner of", path, error))?;
    }
    // Writing and changing the owner may have taken these bits away.
    if attributes.mode & SET_ID != 0 {
        rustix::fs::fchmod(fd, Mode::from_raw_mode(attributes.mode))
            .map_err(|error| UnpackError::write("change the mode of", path, error))?;
    }
    Ok(())
}

/// Sets extended attributes on an open file or directory; returns how many the filesystem does not keep.
pub(crate) fn set_xattrs(fd: BorrowedFd<'_>, xattrs: &[Xattr], path: &[u8]) -> Result<u64, UnpackError> {
    xattrs.iter().try_fold(0, |dropped, xattr| {
        let result = rustix::fs::fsetxattr(fd, &xattr.name[..], &xattr.value, XattrFlags::empty());
        Ok(dropped + u64::from(!was_kept(result, path)?))
    })
}

/// Sets extended attributes on something that cannot be opened: a link, a device, a pipe.
pub(crate) fn set_xattrs_at(
    dir: BorrowedFd<'_>,
    name: &[u8],
    xattrs: &[Xattr],
    path: &[u8],
) -> Result<u64, UnpackError> {
    if xattrs.is_empty() {
        return Ok(0);
    }
    // There is no lsetxattrat(2) before Linux 6.13. The directory is named by our own handle, its last part is not followed.
    let place = [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name].concat();
    xattrs.iter().try_fold(0, |dropped, xattr| {
        let result = rustix::fs::lsetxattr(&place[..], &xattr.name[..], &xattr.value, XattrFlags::empty());
        match result {
            // `user.` attributes exist on files and directories only (xattr(7)).
            Err(Errno::PERM) if xattr.name.starts_with(b"user.") => Ok(dropped + 1),
            result => Ok(dropped + u64::from(!was_kept(result, path)?)),
        }
    })
}

/// Filesystems without extended attributes, and ones without ACLs, do not make an image unusable.
fn was_kept(result: Result<(), Errno>, path: &[u8]) -> Result<bool, UnpackError> {
    match result {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP) => Ok(false),
        Err(error) => Err(UnpackError::write("set an extended attribute of", path, error)),
    }
}

/// What is never opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Node {
    /// A symbolic link, which has no mode.
    Symlink,
    /// A device or a pipe.
    Special,
}

/// Sets owner, mode, extended attributes and times of something that was just created with its mode, and is not opened.
pub(crate) fn set_all_at(
    dir: BorrowedFd<'_>,
    name: &[u8],
    kind: Node,
    attributes: &Attributes,
    ours: (u32, u32),
    path: &[u8],
) -> Result<u64, UnpackError> {
    if (attributes.uid, attributes.gid) != ours {
        let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
        rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| UnpackError::write("change the owner of", path, error))?;
    }
    if attributes.mode & SET_ID != 0 && kind == Node::Special {
        rustix::fs::chmodat(dir, name, Mode::from_raw_mode(attributes.mode), AtFlags::empty())
            .map_err(|error| UnpackError::write("change the mode of", path, error))?;
    }
    let dropped = set_xattrs_at(dir, name, &attributes.xattrs, path)?;
    rustix::fs::utimensat(dir, name, &attributes.mtime.timestamps(), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| UnpackError::write("set the times of", path, error))?;
    Ok(dropped)
}

/// Sets the times of an open file or directory.
pub(crate) fn set_times(fd: BorrowedFd<'_>, mtime: Time, path: &[u8]) -> Result<(), UnpackError> {
    rustix::fs::futimens(fd, &mtime.timestamps()).map_err(|error| UnpackError::write("set the times of", path, error))
}

/// What a directory gets only when nothing more is created in it, because it would pass it on to what is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Late {
    mode: u32,
    default_acl: Option<Vec<u8>>,
}

impl Late {
    /// Takes the inherited attributes out of a directory's.
    pub(crate) fn split_off(attributes: &mut Attributes) -> Option<Box<Late>> {
        let acl = attributes.xattrs.iter().position(|xattr| xattr.name == DEFAULT_ACL);
        let default_acl = acl.map(|at| attributes.xattrs.swap_remove(at).value);
        if attributes.mode & SET_GID == 0 && default_acl.is_none() {
            return None;
        }
        let mode = attributes.mode;
        attributes.mode &= !SET_GID;
        Some(Box::new(Late { mode, default_acl }))
    }

    /// Sets them; returns how many the filesystem does not keep.
    pub(crate) fn set(&self, fd: BorrowedFd<'_>, path: &[u8]) -> Result<u64, UnpackError> {
        rustix::fs::fchmod(fd, Mode::from_raw_mode(self.mode))
            .map_err(|error| UnpackError::write("change the mode of", path, error))?;
        match &self.default_acl {
            None => Ok(0),
            Some(value) => set_xattrs(fd, &[Xattr { name: DEFAULT_ACL.to_vec(), value: value.clone() }], path),
        }
    }
}

/// Removes all extended attributes of an open directory but overlayfs' own.
pub(crate) fn clear_xattrs(fd: BorrowedFd<'_>, path: &[u8]) -> Result<(), UnpackError> {
    let failed = |error: io::Error| UnpackError::write("read the extended attributes of", path, error);
    for name in list_xattrs(fd).map_err(failed)? {
        if is_kept(&name) {
            rustix::fs::fremovexattr(fd, &name[..])
                .map_err(|error| UnpackError::write("remove an extended attribute of", path, error))?;
        }
    }
    Ok(())
}

/// Names of the extended attributes; none where the filesystem has none.
fn list_xattrs(fd: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    loop {
        let length = match rustix::fs::flistxattr_query(fd) {
            Ok(length) => length,
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        names.resize(length, 0u8);
        match rustix::fs::flistxattr(fd, &mut names[..]) {
            Ok(length) => names.truncate(length),
            // It grew between the two calls.
            Err(Errno::RANGE) => continue,
            Err(error) => return Err(error.into()),
        }
        return Ok(names.split(|&byte| byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect());
    }
}

/// The value of one extended attribute; `None` if there is no such attribute.
pub(crate) fn read_xattr(fd: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    // XATTR_SIZE_MAX: no value is longer.
    let mut value = vec![0u8; 64 << 10];
    match rustix::fs::fgetxattr(fd, name, &mut value[..]) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether a directory of a layer hides what lies below it.
pub(crate) fn is_opaque(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut value = [0u8; 8];
    match rustix::fs::fgetxattr(fd, OPAQUE, &mut value[..]) {
        Ok(length) => Ok(&value[..length] == b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Marks a directory opaque.
pub(crate) fn set_opaque(fd: BorrowedFd<'_>, path: &[u8]) -> Result<(), UnpackError> {
    rustix::fs::fsetxattr(fd, OPAQUE, b"y", XattrFlags::empty())
        .map_err(|error| UnpackError::write("mark as opaque the directory", path, error))
}

/// Gives one open directory or file the mode, owner, times and extended attributes of another, except overlayfs' own.
///
/// This is how a directory that a layer does not list looks like the one below it, and how a container's upper directory gets the attributes of
/// its image's root. Both handles must be readable ones (not `O_PATH`).
pub fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), UnpackError> {
    let failed =
        |source: io::Error| UnpackError::Write { action: "copy attributes to", path: Shown::new("a copy"), source };
    let stat = rustix::fs::fstat(from).map_err(|error| failed(error.into()))?;
    rustix::fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))
        .map_err(|error| failed(error.into()))?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777)).map_err(|error| failed(error.into()))?;
    for name in list_xattrs(from).map_err(failed)? {
        if !is_kept(&name) {
            continue;
        }
        if let Some(value) = read_xattr(from, &name).map_err(failed)? {
            set_xattrs(to, &[Xattr { name, value }], b"a copy")?;
        }
    }
    rustix::fs::futimens(to, &times_of(&stat)).map_err(|error| failed(error.into()))
}

/// The modification time of a file, for setting both of another's.
pub(crate) fn times_of(stat: &rustix::fs::Stat) -> Timestamps {
    let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ };
    Timestamps { last_access: time, last_modification: time }
}

/// Copies an open file's or directory's attributes where the target cannot be opened.
pub(crate) fn attributes_of(stat: &rustix::fs::Stat) -> Attributes {
    Attributes {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Time { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 },
        xattrs: Vec::new(),
    }
}

/// The handle of a directory by its name, fit for reading it and its attributes; links are not followed.
pub(crate) fn open_directory(dir: impl AsFd, name: &[u8]) -> Result<std::os::fd::OwnedFd, Errno> {
    use rustix::fs::OFlags;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}
