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

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use carrack_rooted::path_of;
use carrack_sys::mount_attr::Depth;
use carrack_sys::rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use carrack_words::Kind;

use crate::channel::{Inside, Outside};
use crate::mounting;
use crate::overlay::{Changes, open_overlay_alone};
use crate::plan::mount::{MountKind, MountStep};
use crate::plan::{Plan, RootSource};
use crate::step::{Doing, StepError};

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
    let binds = plan.mounts.iter().map(|step| match &step.what {
        MountKind::Bind { mappings: Some(_), .. } => {
            let message = format!("mount {}: mapped ids are not supported here", step.destination);
            Err(StepError::refused(Kind::Unsupported, message))
        }
        MountKind::Bind { source, depth, mappings: None } => {
            open(source, *depth).doing(|| bind_failed(step, source)).map(Some)
        }
        MountKind::FileSystem { .. } | MountKind::Cgroups => Ok(None),
    });
    let binds = binds.collect::<Result<_, _>>()?;
    let root = match &plan.root.source {
        RootSource::Directory(path) => open(path, Depth::All).doing(|| root_failed(path))?,
        // It is new, so there is nothing of the host's to keep.
        RootSource::Overlay { lowers, upper, work, volatile } => {
            open_overlay_alone(lowers, Some(Changes { upper, work, volatile: *volatile }))?
        }
    };
    Ok(Origins { root, binds })
}

/// Outside: finds the places in the container's copy of the host's mounts, and hands them in.
pub fn lend(origins: &Origins, plan: &Plan, container: &OwnedFd, outside: &Outside) -> Result<(), StepError> {
    let lend = |place: &OwnedFd, failed: &dyn Fn() -> String| {
        let there = same_place(place, container).doing(failed)?;
        outside.lend(there.as_fd()).doing(|| "talk to the container")
    };
    for (step, place) in plan.mounts.iter().zip(&origins.binds) {
        if let (MountKind::Bind { source, .. }, Some(place)) = (&step.what, place) {
            lend(place, &|| bind_failed(step, source))?;
        }
    }
    match &plan.root.source {
        RootSource::Directory(path) => lend(&origins.root, &|| root_failed(path)),
        RootSource::Overlay { .. } => Ok(()),
    }
}

/// Inside: takes them in the same order, and makes trees of them.
pub fn borrow(origins: Origins, plan: &Plan, channel: &Inside) -> Result<Origins, StepError> {
    let Origins { mut root, mut binds } = origins;
    for (step, place) in plan.mounts.iter().zip(&mut binds) {
        if let (MountKind::Bind { source, depth, .. }, Some(place)) = (&step.what, place) {
            *place = mounting::clone_tree(channel.borrow()?, *depth).doing(|| bind_failed(step, source))?;
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
