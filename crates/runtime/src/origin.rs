//! What of the host comes into a container: its root, and the tree of each bind mount.
//!
//! Without a user namespace, the trees are cloned on the host. In one, that would be too much: the container would be master of
//! mounts that the host has made read-only, or has covered with others. In the copy of the host's mounts that the kernel made for the container
//! such things are locked (mount_namespaces(7), "Restrictions on mount namespaces"), so there the trees are cloned from that copy, by the process
//! inside. Its paths are resolved by the runtime, which may enter directories that the container's users may not.
//!
//! ```text
//!  host's mounts            the container's copy, locked          inside
//!  open by path ─▶ path of what was found ─▶ open there ── Tree ──▶ clone
//! ```
//!
//! Only who is privileged over a file system may map its ids, so a tree with mapped ids is always made by the runtime: on the host, or, for a container
//! with a user namespace, by a process that enters its mount namespace and keeps the host's rights. What is locked there is so in the tree too.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use carrack_rooted::path_of;
use carrack_sys::mount_attr::Depth;
use carrack_sys::namespace::{self, Namespaces};
use carrack_sys::rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use carrack_sys::rustix::io::Errno;
use carrack_words::Kind;

use crate::channel::{Inside, Outside};
use crate::delegate::by_child;
use crate::describe::describe_io;
use crate::mounting;
use crate::overlay::{Changes, open_overlay_alone};
use crate::plan::mount::{MappedIds, Mappings, MountKind, MountStep};
use crate::plan::{Plan, RootSource};
use crate::procfs::Procfs;
use crate::step::{Doing, StepError, kind_of_io};
use crate::user_namespace;

/// The trees of a container: mounts that are attached nowhere, or, while it has to clone them itself, places on the host.
#[derive(Debug)]
pub struct Origins {
    /// Its root.
    pub root: OwnedFd,
    /// The tree of each bind mount, at the number of its step.
    pub binds: Vec<Option<OwnedFd>>,
}

/// Opens all of them by their paths on the host.
pub fn open(plan: &Plan) -> Result<Origins, StepError> {
    let open = |path: &Path, depth: Depth| {
        if plan.namespaces.has_user() { place(path) } else { mounting::clone_host_tree(path, depth) }
    };
    let binds = plan.mounts.iter().map(|step| {
        let MountKind::Bind { source, depth, ids } = &step.what else { return Ok(None) };
        let tree = open(source, *depth).doing(|| bind_failed(step, source))?;
        match ids {
            Some(MappedIds { depth, by: Mappings::Own { users, groups } }) if !plan.namespaces.has_user() => {
                let users = user_namespace::make_empty(users, groups)?;
                mounting::map_ids(&tree, *depth, users.as_fd()).map_err(|error| mapping_failed(source, error))?;
            }
            _ => {}
        }
        Ok(Some(tree))
    });
    let binds = binds.collect::<Result<_, StepError>>()?;
    let root = match &plan.root.source {
        RootSource::Directory(path) => open(path, Depth::All).doing(|| root_failed(path))?,
        // It is new, so there is nothing of the host's to keep.
        RootSource::Overlay { lowers, upper, work, volatile } => {
            open_overlay_alone(lowers, Some(Changes { upper, work, volatile: *volatile }))?
        }
    };
    Ok(Origins { root, binds })
}

/// The container's copy of the host's mounts, in a user namespace.
#[derive(Debug)]
pub struct Copied {
    root: OwnedFd,
    mounts: OwnedFd,
    users: OwnedFd,
}

impl Copied {
    /// That of the container's first process.
    pub fn open(procfs: &Procfs, pid: i32) -> io::Result<Self> {
        Ok(Self {
            root: procfs.open_root_of(pid)?,
            mounts: procfs.open_namespace_of(pid, "mnt")?,
            users: procfs.open_namespace_of(pid, "user")?,
        })
    }
}

/// Outside: finds the places in the container's copy of the host's mounts, and hands them in, or trees of them where ids are mapped.
pub fn lend(origins: &Origins, plan: &Plan, container: &Copied, outside: &Outside) -> Result<(), StepError> {
    let lend = |what: &OwnedFd| outside.lend(what.as_fd()).doing(|| "talk to the container");
    for (step, place) in plan.mounts.iter().zip(&origins.binds) {
        let (MountKind::Bind { source, depth, ids }, Some(place)) = (&step.what, place) else { continue };
        let there = same_place(place, &container.root).doing(|| bind_failed(step, source))?;
        match ids {
            None => lend(&there)?,
            Some(ids) => lend(&mapped_tree(&there, *depth, ids, container, source)?)?,
        }
    }
    match &plan.root.source {
        RootSource::Directory(path) => lend(&same_place(&origins.root, &container.root).doing(|| root_failed(path))?),
        RootSource::Overlay { .. } => Ok(()),
    }
}

/// A tree of a place in the container's copy, with mapped ids.
fn mapped_tree(
    place: &OwnedFd,
    depth: Depth,
    ids: &MappedIds,
    container: &Copied,
    source: &Path,
) -> Result<OwnedFd, StepError> {
    let made;
    let users = match &ids.by {
        Mappings::Container => &container.users,
        Mappings::Own { users, groups } => {
            made = user_namespace::make_empty(users, groups)?;
            &made
        }
    };
    let make = || {
        namespace::join(container.mounts.as_fd(), Namespaces::MOUNT)?;
        let tree = mounting::clone_tree(place, depth)?;
        mounting::map_ids(&tree, ids.depth, users.as_fd())?;
        Ok(tree)
    };
    by_child(make).doing(|| "make a process that maps ids")?.map_err(|error| mapping_failed(source, error))
}

/// Inside: takes them in the same order, and makes trees of them.
pub fn borrow(origins: Origins, plan: &Plan, channel: &Inside) -> Result<Origins, StepError> {
    let Origins { mut root, mut binds } = origins;
    for (step, place) in plan.mounts.iter().zip(&mut binds) {
        if let (MountKind::Bind { source, depth, ids }, Some(place)) = (&step.what, place) {
            let lent = channel.borrow()?;
            *place = match ids {
                None => mounting::clone_tree(lent, *depth).doing(|| bind_failed(step, source))?,
                Some(_) => lent,
            };
        }
    }
    if let RootSource::Directory(path) = &plan.root.source {
        root = mounting::clone_tree(channel.borrow()?, Depth::All).doing(|| root_failed(path))?;
    }
    Ok(Origins { root, binds })
}

fn bind_failed(step: &MountStep, source: &Path) -> String {
    format!("error mounting {:?} to rootfs at {:?}", source.display().to_string(), step.destination)
}

/// With the hint that runc gives.
fn mapping_failed(source: &Path, error: io::Error) -> StepError {
    let kind = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::INVAL | Errno::NOSYS) => Kind::Unsupported,
        _ => kind_of_io(&error),
    };
    let message = format!(
        "failed to set MOUNT_ATTR_IDMAP on {}: {} (maybe the filesystem used doesn't support idmap mounts on this kernel?)",
        source.display(),
        describe_io(&error)
    );
    StepError::refused(kind, message)
}

fn root_failed(path: &Path) -> String {
    format!("open rootfs {}", path.display())
}

fn place(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// What is at the same path in the container's copy. Links were followed on the host, so that none is left to lead elsewhere.
fn same_place(place: &OwnedFd, container: &OwnedFd) -> io::Result<OwnedFd> {
    let path = fs::read_link(path_of(place))?;
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    let there = openat2(container, &path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how)?;
    let (want, got) = (fstat(place)?, fstat(&there)?);
    if (want.st_dev, want.st_ino) != (got.st_dev, got.st_ino) {
        let message = format!("{} is another file in the container's mount namespace", path.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, message));
    }
    Ok(there)
}
