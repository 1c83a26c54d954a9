//! Attributes of mounts (mount_setattr(2), Linux 5.12).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What to change. The bits are those of `linux/mount.h`, `MOUNT_ATTR_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MountAttr {
    /// Attributes to set.
    pub set: u64,
    /// Attributes to clear; applied first. For an access-time mode, all of [`MountAttr::ATIME`].
    pub clear: u64,
    /// Propagation as the `MS_*` bit of mount(2), or 0 to leave it.
    pub propagation: u64,
}

impl MountAttr {
    /// Read-only.
    pub const RDONLY: u64 = 0x1;
    /// Set-user-id bits have no effect.
    pub const NOSUID: u64 = 0x2;
    /// Device nodes have no effect.
    pub const NODEV: u64 = 0x4;
    /// Nothing can be executed.
    pub const NOEXEC: u64 = 0x8;
    /// The mask of access-time modes; relatime is 0.
    pub const ATIME: u64 = 0x70;
    /// Access times are never updated.
    pub const NOATIME: u64 = 0x10;
    /// Access times are always updated.
    pub const STRICTATIME: u64 = 0x20;
    /// Access times of directories are never updated.
    pub const NODIRATIME: u64 = 0x80;
    /// Ids are mapped by a user namespace.
    pub const IDMAP: u64 = 0x10_0000;
    /// Symbolic links are not followed (Linux 5.14).
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
}

/// One mount, or it and all below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// That mount.
    One,
    /// And all mounts below it.
    All,
}

/// Changes the mount behind a handle. `ids` is the user namespace that [`MountAttr::IDMAP`] needs.
pub fn mount_setattr(
    mount: BorrowedFd<'_>,
    depth: Depth,
    change: MountAttr,
    ids: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let attr: [u64; 4] =
        [change.set, change.clear, change.propagation, ids.map_or(0, |handle| handle.as_raw_fd() as u64)];
    let recursive = if depth == Depth::All { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the call reads the 32 bytes of `attr` (the kernel's struct mount_attr, first version) and a static empty string.
    let code = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            attr.as_ptr(),
            size_of_val(&attr),
        )
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
