//! Mounts by handle: making file systems, cloning trees, attaching, changing attributes.
//!
//! Thin over the new mount API (Linux 5.2; mount_setattr(2) is 5.12 and has a fallback here). Nothing takes a path inside the
//! container, only handles that were resolved before.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use carrack_sys::mount_attr::{Depth, MountAttr, mount_setattr};
use carrack_sys::rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags, fstatvfs, openat};
use carrack_sys::rustix::io::{Errno, read};
use carrack_sys::rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, mount_change, mount_remount,
    move_mount, open_tree,
};

/// The longest value that fsconfig(2) takes.
pub const MAX_VALUE_BYTES: usize = 255;

/// The longest data that mount(2) takes, with the zero at the end: a page.
const MAX_DATA_BYTES: usize = 4096;

/// A file system being configured.
#[derive(Debug)]
pub struct FileSystem {
    context: OwnedFd,
}

impl FileSystem {
    /// Starts one of this type.
    pub fn open(kind: &str) -> io::Result<Self> {
        Ok(Self { context: fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)? })
    }

    /// Sets one parameter to a value.
    pub fn set(&self, key: &str, value: &str) -> io::Result<()> {
        fsconfig_set_string(self.context.as_fd(), key, value).map_err(|error| self.explain(error))
    }

    /// Sets one parameter that has no value.
    pub fn set_flag(&self, key: &str) -> io::Result<()> {
        fsconfig_set_flag(self.context.as_fd(), key).map_err(|error| self.explain(error))
    }

    /// Gives everything in it one SELinux label; an empty one changes nothing.
    pub fn set_label(&self, label: &str) -> io::Result<()> {
        if label.is_empty() { Ok(()) } else { self.set("context", label) }
    }

    /// Makes the file system, and a mount of it that is attached nowhere.
    pub fn mount(self, attributes: u64) -> io::Result<OwnedFd> {
        fsconfig_create(self.context.as_fd()).map_err(|error| self.explain(error))?;
        let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
        fsmount(self.context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(|error| self.explain(error))
    }

    /// Adds what the kernel wrote into the context's log, if anything, to the error.
    fn explain(&self, error: Errno) -> io::Error {
        let mut text = [0; 256];
        match read(&self.context, &mut text) {
            Ok(length) if length > 2 => {
                let said = String::from_utf8_lossy(&text[2..length]).trim().to_owned();
                let error = io::Error::from(error);
                io::Error::new(error.kind(), format!("{} ({said})", crate::describe::describe_io(&error)))
            }
            _ => error.into(),
        }
    }
}

/// For data too long for fsconfig(2), such as an overlay of many layers: the old call, which mounts over `/`. The mount can be
/// moved from there.
///
/// No handle made before would do as the place: it keeps leading to what is below the new mount.
pub fn mount_over_root(kind: &str, source: &str, data: &[String], attributes: u64) -> io::Result<OwnedFd> {
    let mut flags = MountFlags::empty();
    for (bit, flag) in [
        (MountAttr::RDONLY, MountFlags::RDONLY),
        (MountAttr::NOSUID, MountFlags::NOSUID),
        (MountAttr::NODEV, MountFlags::NODEV),
        (MountAttr::NOEXEC, MountFlags::NOEXEC),
        (MountAttr::NODIRATIME, MountFlags::NODIRATIME),
    ] {
        if attributes & bit != 0 {
            flags |= flag;
        }
    }
    match attributes & MountAttr::ATIME {
        MountAttr::NOATIME => flags |= MountFlags::NOATIME,
        MountAttr::STRICTATIME => flags |= MountFlags::STRICTATIME,
        _ => flags |= MountFlags::RELATIME,
    }
    let data = CString::new(data.join(",")).map_err(|_| io::ErrorKind::InvalidInput)?;
    // The kernel would cut off what is beyond without a word.
    if data.as_bytes_with_nul().len() > MAX_DATA_BYTES {
        return Err(Errno::TOOBIG.into());
    }
    mount(source, "/", kind, flags, data.as_c_str())?;
    // A step up from the root stays there, but follows what is mounted on it; "/" alone does not.
    Ok(openat(CWD, "/..", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// A copy of the mount that a handle stands in, starting at the handle, attached nowhere.
pub fn clone_tree(what: impl AsFd, depth: Depth) -> io::Result<OwnedFd> {
    Ok(open_tree(what, "", tree_flags(depth) | OpenTreeFlags::AT_EMPTY_PATH)?)
}

/// The same by a path on the host, whose symbolic links are followed.
pub fn clone_host_tree(path: &Path, depth: Depth) -> io::Result<OwnedFd> {
    Ok(open_tree(CWD, path, tree_flags(depth))?)
}

fn tree_flags(depth: Depth) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if depth == Depth::All { flags | OpenTreeFlags::AT_RECURSIVE } else { flags }
}

/// Maps the ids of a mount that is attached nowhere yet, or of it and all below it (Linux 5.12).
pub fn map_ids(tree: &OwnedFd, depth: Depth, users: BorrowedFd<'_>) -> io::Result<()> {
    mount_setattr(tree.as_fd(), depth, MountAttr { set: MountAttr::IDMAP, ..MountAttr::default() }, Some(users))
}

/// Attaches a mount on top of what `target` stands for.
pub fn attach(mount: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", target, "", flags)?)
}

/// Changes attributes of an attached mount, or of it and all below it. Before Linux 5.12 only one mount at a time can be changed; more is refused by name.
pub fn change(mount: BorrowedFd<'_>, depth: Depth, attr: MountAttr) -> io::Result<()> {
    match mount_setattr(mount, depth, attr, None) {
        Err(error) if error.raw_os_error() == Some(Errno::NOSYS.raw_os_error()) => {
            change_by_remount(mount, depth, attr)
        }
        other => other,
    }
}

fn change_by_remount(mount: BorrowedFd<'_>, depth: Depth, attr: MountAttr) -> io::Result<()> {
    let path = carrack_rooted::path_of(mount);
    if attr.propagation != 0 {
        let mut flags = MountPropagationFlags::from_bits_retain(attr.propagation as u32);
        if depth == Depth::All {
            flags |= MountPropagationFlags::REC;
        }
        mount_change(&path, flags)?;
    }
    if attr.set == 0 && attr.clear == 0 {
        return Ok(());
    }
    if depth == Depth::All {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "recursive mount attributes need Linux 5.12 (mount_setattr)",
        ));
    }
    // A remount replaces all flags, so those that are there are given again. statvfs(2) uses the numbers of mount(2) for these.
    let present = fstatvfs(mount)?.f_flag.bits();
    let mut flags = MountFlags::BIND;
    for (bit, there, flag) in [
        (MountAttr::RDONLY, StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (MountAttr::NOSUID, StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (MountAttr::NODEV, StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (MountAttr::NOEXEC, StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (MountAttr::NOATIME, StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (MountAttr::NODIRATIME, StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
    ] {
        let is_there = present & there.bits() != 0;
        if attr.set & bit != 0 || is_there && attr.clear & bit == 0 {
            flags |= flag;
        }
    }
    Ok(mount_remount(&path, flags, "")?)
}
