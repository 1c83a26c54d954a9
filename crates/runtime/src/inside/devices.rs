//! Device nodes and links in the container's `/dev`.
//!
//! Every node is made relative to a handle on its directory, resolved inside the root: an image whose `/dev` is a link gets its
//! devices where that link leads inside, never on the host (CVE-2026-41579). What a node really is gets checked before anything relies on it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use carrack_rooted::{RelativePath, Root};
use carrack_sys::mount_attr::Depth;
use carrack_sys::rustix::fs::{
    Access, AtFlags, FileType, Gid, Mode, OFlags, Uid, access, chownat, makedev, mknodat, openat, statat, symlinkat,
    unlinkat,
};
use carrack_sys::rustix::io::Errno;
use carrack_words::Kind;

use crate::mounting;
use crate::plan::device::{DeviceKind, DeviceStep, KCORE, LINKS};
use crate::step::{Doing, StepError};

/// How nodes come to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeSource {
    /// They are made.
    Make,
    /// They are bound from the host: a user namespace may not make any.
    Host,
}

/// Makes the nodes and the usual links.
pub fn apply_devices(root: &Root, steps: &[DeviceStep], source: NodeSource) -> Result<(), StepError> {
    let mut directories: Vec<(&Path, OwnedFd)> = Vec::new();
    let paths: Vec<_> = steps.iter().map(|step| RelativePath::new(&step.path)).collect();
    for (step, path) in steps.iter().zip(&paths) {
        let (parent, name) = path
            .split_last()
            .ok_or_else(|| StepError::refused(Kind::Invalid, format!("device {}: not a file's path", step.path)))?;
        let known = directories.iter().position(|(other, _)| *other == parent);
        let index = match known {
            Some(index) => index,
            None => {
                directories.push((parent, root.create_dir_all(parent, 0o755)?));
                directories.len() - 1
            }
        };
        let directory = &directories[index].1;
        match source {
            NodeSource::Make => make_node(directory, name, step)?,
            NodeSource::Host => bind_node(root, step)?,
        }
    }
    let dev = root.create_dir_all("/dev", 0o755)?;
    for (target, path) in LINKS {
        // A kernel may be built without it.
        if target == KCORE && access(target, Access::EXISTS).is_err() {
            continue;
        }
        make_link(&dev, target, path.trim_start_matches("/dev/"))?;
    }
    // The one of the container's own devpts, whatever the image has there.
    make_link(&dev, "pts/ptmx", "ptmx")
}

fn make_node(directory: &OwnedFd, name: &Path, step: &DeviceStep) -> Result<(), StepError> {
    let failed = || format!("create device {}", step.path);
    let kind = match step.kind {
        DeviceKind::Character => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
        DeviceKind::Fifo => FileType::Fifo,
    };
    let number = makedev(step.major, step.minor);
    // The umask is zero here, so the mode is exact.
    match mknodat(directory, name, kind, Mode::from(step.mode), number) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            let there = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).doing(failed)?;
            if FileType::from_raw_mode(there.st_mode) == kind && there.st_rdev == number {
                return Ok(());
            }
            unlinkat(directory, name, AtFlags::empty()).doing(failed)?;
            mknodat(directory, name, kind, Mode::from(step.mode), number).doing(failed)?;
        }
        Err(error) => return Err(error).doing(failed),
    }
    if step.uid != 0 || step.gid != 0 {
        let (uid, gid) = (Uid::from_raw(step.uid), Gid::from_raw(step.gid));
        chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).doing(failed)?;
    }
    Ok(())
}

fn bind_node(root: &Root, step: &DeviceStep) -> Result<(), StepError> {
    let failed = || format!("bind device {} from the host", step.path);
    let tree = mounting::clone_host_tree(Path::new(&step.path), Depth::One).doing(failed)?;
    let target = root.create_file(&step.path, 0o666)?;
    mounting::attach(&tree, &target).doing(failed)
}

fn make_link(dev: &OwnedFd, target: &str, name: &str) -> Result<(), StepError> {
    let failed = || format!("create link /dev/{name}");
    match symlinkat(target, dev, name) {
        Err(Errno::EXIST) if name == "ptmx" => {
            unlinkat(dev, name, AtFlags::empty()).doing(failed)?;
            symlinkat(target, dev, name).doing(failed)
        }
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error).doing(failed),
    }
}

/// A tree of the container's `/dev/null`, after checking that it is the real one: an image could have put a link there, and what is masked
/// would be replaced by what the image likes (CVE-2025-31133).
pub fn null_tree(root: &Root) -> Result<OwnedFd, StepError> {
    let failed = || "open /dev/null of the container to mask files";
    let handle = root.resolve_last("/dev/null")?;
    let stat = statat(&handle, "", AtFlags::EMPTY_PATH).doing(failed)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice || stat.st_rdev != makedev(1, 3) {
        return Err(StepError::refused(Kind::Denied, "/dev/null of the container is not the null device"));
    }
    mounting::clone_tree(handle.as_fd(), Depth::One).doing(failed)
}

/// A file for the console to be bound on.
pub fn console_target(root: &Root) -> Result<OwnedFd, StepError> {
    let dev = root.create_dir_all("/dev", 0o755)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
    match openat(&dev, "console", flags, Mode::from(0o666)) {
        Ok(_) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error).doing(|| "create /dev/console"),
    }
    let handle = openat(&dev, "console", OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .doing(|| "open /dev/console")?;
    let stat = statat(&handle, "", AtFlags::EMPTY_PATH).doing(|| "open /dev/console")?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink | FileType::Directory => {
            Err(StepError::refused(Kind::Denied, "/dev/console of the container is a link or a directory"))
        }
        _ => Ok(handle),
    }
}
