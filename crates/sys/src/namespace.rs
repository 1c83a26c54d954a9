//! Namespaces: sets of types, joining, leaving.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// A set of namespace types, as the bits of clone(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Namespaces(u32);

impl Namespaces {
    /// Mounts.
    pub const MOUNT: Self = Self(libc::CLONE_NEWNS as u32);
    /// Cgroups.
    pub const CGROUP: Self = Self(libc::CLONE_NEWCGROUP as u32);
    /// Host and domain name.
    pub const UTS: Self = Self(libc::CLONE_NEWUTS as u32);
    /// System V IPC and POSIX message queues.
    pub const IPC: Self = Self(libc::CLONE_NEWIPC as u32);
    /// User and group ids, and capabilities.
    pub const USER: Self = Self(libc::CLONE_NEWUSER as u32);
    /// Process ids.
    pub const PID: Self = Self(libc::CLONE_NEWPID as u32);
    /// Network.
    pub const NETWORK: Self = Self(libc::CLONE_NEWNET as u32);
    /// Offsets of clocks (Linux 5.6).
    pub const TIME: Self = Self(0x80);

    /// No type.
    pub const fn empty() -> Self {
        Self(0)
    }

    /// From the bits of clone(2); others than namespaces are dropped.
    pub const fn from_bits(bits: u32) -> Self {
        let all = Self::MOUNT.0
            | Self::CGROUP.0
            | Self::UTS.0
            | Self::IPC.0
            | Self::USER.0
            | Self::PID.0
            | Self::NETWORK.0
            | Self::TIME.0;
        Self(bits & all)
    }

    /// The bits of clone(2).
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether no type is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other` is in it.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both together.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This one less the other.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// Moves this process into the namespace behind a handle, which must be of type `kind` (setns(2)).
pub fn join(namespace: BorrowedFd<'_>, kind: Namespaces) -> io::Result<()> {
    set(namespace, kind)
}

/// Moves this process into namespaces of the process behind `pidfd`, all at once (setns(2), Linux 5.8). A pid namespace counts for
/// children only.
pub fn join_those_of(pidfd: BorrowedFd<'_>, kinds: Namespaces) -> io::Result<()> {
    set(pidfd, kinds)
}

fn set(handle: BorrowedFd<'_>, kinds: Namespaces) -> io::Result<()> {
    // SAFETY: setns(2) takes two integers; the handle is open for the length of the call.
    match unsafe { libc::setns(handle.as_raw_fd(), kinds.bits() as i32) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Moves this process into new namespaces (unshare(2)). A pid or time namespace counts for children only.
pub fn unshare(kinds: Namespaces) -> io::Result<()> {
    // SAFETY: unshare(2) takes an integer; no namespace bit shares or unshares memory or handles.
    match unsafe { libc::unshare(kinds.bits() as i32) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
