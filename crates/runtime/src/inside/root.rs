//! The root of a container: attaching it, hiding parts of it, and moving into it.

use std::os::fd::{AsFd, OwnedFd};

use carrack_rooted::Root;
use carrack_sys::mount_attr::{Depth, MountAttr};
use carrack_sys::rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, statat, statfs};
use carrack_sys::rustix::io::Errno;
use carrack_sys::rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use carrack_sys::rustix::process::{chdir, chroot, fchdir, pivot_root};

use crate::inside::devices::null_tree;
use crate::mounting::{self, FileSystem};
use crate::plan::RootPlan;
use crate::plan::mount_option::SLAVE;
use crate::step::{Doing, StepError};

/// Magic numbers of procfs and sysfs.
const KERNEL_VIEWS: [i64; 2] = [0x9fa0, 0x6265_6572];

/// How the process leaves the host's tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Leave {
    /// pivot_root(2).
    #[default]
    Pivot,
    /// The mount over the root and chroot(2): for a host whose root is the initial ramfs, which cannot be pivoted from.
    MoveAndChroot,
}

/// Cuts this mount namespace off: what is mounted here from now on is not seen by the host.
pub fn stop_propagation() -> Result<(), StepError> {
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .doing(|| "make the mounts of the new mount namespace slaves of the host's")
}

/// Attaches the root's mount on top of the namespace's own root, where nothing but us sees it, and returns a handle on it.
pub fn attach_root(mount: OwnedFd) -> Result<OwnedFd, StepError> {
    let failed = || "attach the root file system";
    let place = openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).doing(failed)?;
    mounting::attach(&mount, &place).doing(failed)?;
    // A tree cloned on the host is a peer of the host's mount: what we mount in it must not appear there.
    let slave = MountAttr { propagation: SLAVE, ..MountAttr::default() };
    mounting::change(mount.as_fd(), Depth::All, slave).doing(failed)?;
    Ok(mount)
}

/// Makes the attached root the root of this process, and drops the host's tree.
pub fn move_into(root: &Root, leave: Leave) -> Result<(), StepError> {
    fchdir(root).doing(|| "enter the root file system")?;
    match leave {
        Leave::Pivot => {
            // The old root ends up on top of the new one, where "." finds it (pivot_root(2), NOTES).
            pivot_root(".", ".").doing(|| "pivot_root")?;
            unmount(".", UnmountFlags::DETACH).doing(|| "detach the host's root")?;
        }
        Leave::MoveAndChroot => {
            detach_kernel_views()?;
            // It lies over "/" since it was attached, which is where a move would bring it.
            chroot(".").doing(|| "chroot")?;
        }
    }
    chdir("/").doing(|| "enter /")
}

/// The host's procfs and sysfs stay below the new root when that only lies over the old one. Whoever finds a way down would find them whole, without
/// what is masked in the container's own; in a user namespace they would also allow mounting new ones.
fn detach_kernel_views() -> Result<(), StepError> {
    // Paths start at the old root, which is still this process's.
    for path in ["/proc", "/sys"] {
        let failed = || format!("detach the host's {path}");
        loop {
            match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
                Ok(()) => {}
                // No mount, or none any more; one that a user namespace may not take away is told by the same word.
                Err(Errno::INVAL | Errno::NOENT) if !is_kernel_view(path).doing(failed)? => break,
                Err(Errno::INVAL | Errno::PERM) => {
                    let place = openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
                    mounting::attach(empty_directory("").doing(failed)?, place.doing(failed)?).doing(failed)?;
                    break;
                }
                Err(error) => return Err(error).doing(failed),
            }
        }
    }
    Ok(())
}

fn is_kernel_view(path: &str) -> std::io::Result<bool> {
    match statfs(path) {
        Ok(found) => Ok(KERNEL_VIEWS.contains(&found.f_type)),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Propagation and read-only state of the root itself, when nothing more has to be made in it.
pub fn finish_root(root: &Root, plan: &RootPlan) -> Result<(), StepError> {
    for &(propagation, depth) in &plan.propagation {
        let attr = MountAttr { propagation, ..MountAttr::default() };
        mounting::change(root.as_fd(), depth, attr).doing(|| "set the propagation of the root file system")?;
    }
    if plan.readonly {
        let attr = MountAttr { set: MountAttr::RDONLY, ..MountAttr::default() };
        mounting::change(root.as_fd(), Depth::One, attr).doing(|| "make the root file system read-only")?;
    }
    Ok(())
}

/// Makes paths read-only, with all flags that they have; those that do not exist are skipped.
pub fn apply_readonly_paths(root: &Root, paths: &[String]) -> Result<(), StepError> {
    for path in paths {
        let failed = || format!("make {path} read-only");
        let Some(target) = find(root, path)? else { continue };
        let tree = mounting::clone_tree(&target, Depth::All).doing(failed)?;
        mounting::attach(&tree, &target).doing(failed)?;
        let attr = MountAttr { set: MountAttr::RDONLY, ..MountAttr::default() };
        mounting::change(tree.as_fd(), Depth::One, attr).doing(failed)?;
    }
    Ok(())
}

/// Hides paths: files behind the null device, directories behind one empty read-only tmpfs that all share. Those that do not
/// exist are skipped.
pub fn apply_masked_paths(root: &Root, paths: &[String], label: &str) -> Result<(), StepError> {
    let mut null: Option<OwnedFd> = None;
    let mut empty: Option<OwnedFd> = None;
    for path in paths {
        let failed = || format!("mask {path}");
        let Some(target) = find(root, path)? else { continue };
        let stat = statat(&target, "", AtFlags::EMPTY_PATH).doing(failed)?;
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let shared = if is_directory { &mut empty } else { &mut null };
        let tree = match shared {
            // Every further mask is a copy of the first one.
            Some(first) => mounting::clone_tree(first.as_fd(), Depth::One).doing(failed)?,
            None if is_directory => empty_directory(label).doing(failed)?,
            None => null_tree(root)?,
        };
        mounting::attach(&tree, &target).doing(failed)?;
        shared.get_or_insert(tree);
    }
    Ok(())
}

fn empty_directory(label: &str) -> std::io::Result<OwnedFd> {
    let tmpfs = FileSystem::open("tmpfs")?;
    tmpfs.set("source", "tmpfs")?;
    tmpfs.set("nr_blocks", "1")?;
    tmpfs.set("nr_inodes", "1")?;
    tmpfs.set_flag("ro")?;
    tmpfs.set_label(label)?;
    tmpfs.mount(MountAttr::RDONLY | MountAttr::NOSUID | MountAttr::NODEV | MountAttr::NOEXEC)
}

fn find(root: &Root, path: &str) -> Result<Option<OwnedFd>, StepError> {
    match root.resolve(path) {
        Ok(handle) => Ok(Some(handle)),
        Err(error) => match error.io().raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            _ => Err(error.into()),
        },
    }
}
