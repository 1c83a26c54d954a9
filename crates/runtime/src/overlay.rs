//! An overlay of any number of layers as a mount that is attached nowhere, on every kernel that we run on.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use carrack_rooted::path_of;
use carrack_sys::mount_attr::{Depth, MountAttr};
use carrack_sys::namespace::{self, Namespaces};
use carrack_sys::rustix::fs::{CWD, Mode, OFlags, openat};
use carrack_sys::rustix::mount::{MountPropagationFlags, mount_change};
use carrack_sys::rustix::process::{chroot, fchdir};

use crate::mounting::{self, FileSystem, MAX_VALUE_BYTES};

/// An overlay was not made.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// One of its directories cannot be opened.
    #[error("open layer {}", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel does not lay them over each other.
    #[error("mount an overlay of {layers} layers")]
    Mount {
        /// How many lower ones.
        layers: usize,
        /// What it said.
        source: io::Error,
    },
}

/// Where an overlay keeps what is changed in it.
#[derive(Debug, Clone, Copy)]
pub struct Changes<'a> {
    /// The highest layer.
    pub upper: &'a Path,
    /// Overlayfs's own directory, on the same file system.
    pub work: &'a Path,
    /// Nothing written is ever synced (`volatile`, Linux 5.10).
    pub volatile: bool,
}

/// Lays `lowers`, topmost first, over each other; without `changes` the view is read-only. It stands in no mount table and ends with
/// the handle.
///
/// Layers go one by one where the kernel takes them so, else all in one value if it is short enough, else by the old mount(2).
///
/// For a process of several threads.
pub fn open_overlay(lowers: &[PathBuf], changes: Option<Changes<'_>>) -> Result<OwnedFd, OverlayError> {
    open_with(lowers, changes, || {
        // A thread, since only that can have a mount namespace for a moment.
        std::thread::scope(|scope| scope.spawn(|| mount_aside(lowers, changes)).join()).unwrap_or_else(|_| {
            let source = io::Error::other("the thread that mounts panicked");
            Err(OverlayError::Mount { layers: lowers.len(), source })
        })
    })
}

/// The same for a process of one thread, which it stays: only such a one may make a container.
pub(crate) fn open_overlay_alone(lowers: &[PathBuf], changes: Option<Changes<'_>>) -> Result<OwnedFd, OverlayError> {
    open_with(lowers, changes, || mount_in_passing(lowers, changes))
}

fn open_with(
    lowers: &[PathBuf],
    changes: Option<Changes<'_>>,
    mount_by_old_call: impl FnOnce() -> Result<OwnedFd, OverlayError>,
) -> Result<OwnedFd, OverlayError> {
    let directories = Directories::open(lowers, changes)?;
    let failed = |source| OverlayError::Mount { layers: lowers.len(), source };
    let names = directories.lower_names();
    let error = match directories.configure(ONE_LAYER, &names) {
        Ok(mount) => return Ok(mount),
        Err(error) => error,
    };
    // Asked only after a failure: where layers go one by one, the question would be a system call for nothing.
    if takes_layers_one_by_one(&names) {
        return Err(failed(error));
    }
    let together = names.join(":");
    if together.len() <= MAX_VALUE_BYTES {
        return directories.configure("lowerdir", &[together]).map_err(failed);
    }
    drop(directories);
    mount_by_old_call()
}

/// Goes into a mount namespace of its own to mount, and comes back to the same namespace, root and working directory.
fn mount_in_passing(lowers: &[PathBuf], changes: Option<Changes<'_>>) -> Result<OwnedFd, OverlayError> {
    let failed = |source| OverlayError::Mount { layers: lowers.len(), source };
    let open = |path: &str, flags| {
        openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| failed(errno.into()))
    };
    let own = open("/proc/self/ns/mnt", OFlags::RDONLY)?;
    let root = open("/", OFlags::PATH | OFlags::DIRECTORY)?;
    let working_directory = open(".", OFlags::PATH | OFlags::DIRECTORY)?;
    let mounted = mount_aside(lowers, changes);
    let come_back = || -> io::Result<()> {
        namespace::join(own.as_fd(), Namespaces::MOUNT)?;
        fchdir(&root)?;
        chroot(".")?;
        Ok(fchdir(&working_directory)?)
    };
    come_back().map_err(failed)?;
    mounted
}

/// The parameter of overlayfs that adds one lower layer below those before it.
const ONE_LAYER: &str = "lowerdir+";

/// Whether [`ONE_LAYER`] means something to this kernel.
///
/// Kernels before 6.5 only collect an overlay's parameters and read them when it is made: those swallow any name here. Those
/// soon after them read each at once, and refuse this one.
fn takes_layers_one_by_one(names: &[String]) -> bool {
    let Ok(file_system) = FileSystem::open("overlay") else { return false };
    names.first().is_some_and(|name| file_system.set(ONE_LAYER, name).is_ok())
        && file_system.set("carrack-knows-no-such-parameter", "1").is_err()
}

/// Mounts in a mount namespace that this thread makes and stays in, and takes a copy of the mount out of it.
///
/// The directories are opened again there: overlayfs takes no layer that belongs to another mount namespace.
fn mount_aside(lowers: &[PathBuf], changes: Option<Changes<'_>>) -> Result<OwnedFd, OverlayError> {
    let failed = |source| OverlayError::Mount { layers: lowers.len(), source };
    namespace::unshare(Namespaces::MOUNT).map_err(failed)?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(|errno| failed(errno.into()))?;
    let directories = Directories::open(lowers, changes)?;
    let mut data = vec![format!("lowerdir={}", directories.lower_names().join(":"))];
    data.extend(directories.change_options().into_iter().map(|(key, value)| format!("{key}={value}")));
    data.extend(directories.is_volatile.then(|| "volatile".to_owned()));
    let mount = mounting::mount_over_root("overlay", "overlay", &data, directories.attributes()).map_err(failed)?;
    mounting::clone_tree(&mount, Depth::One).map_err(failed)
}

/// The directories of an overlay. They are named by their handles: so no path is too long, and none has a character that overlayfs
/// would take for a separator.
struct Directories {
    lowers: Vec<OwnedFd>,
    /// The upper and the work directory.
    changes: Option<[OwnedFd; 2]>,
    is_volatile: bool,
}

impl Directories {
    fn open(lowers: &[PathBuf], changes: Option<Changes<'_>>) -> Result<Self, OverlayError> {
        let open = |path: &Path| {
            openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|errno| OverlayError::Open { path: path.to_owned(), source: errno.into() })
        };
        Ok(Self {
            lowers: lowers.iter().map(|path| open(path)).collect::<Result<_, _>>()?,
            changes: changes.map(|changes| Ok([open(changes.upper)?, open(changes.work)?])).transpose()?,
            is_volatile: changes.is_some_and(|changes| changes.volatile),
        })
    }

    fn lower_names(&self) -> Vec<String> {
        self.lowers.iter().map(name_of).collect()
    }

    fn change_options(&self) -> Vec<(&'static str, String)> {
        let Some([upper, work]) = &self.changes else { return vec![] };
        vec![("upperdir", name_of(upper)), ("workdir", name_of(work))]
    }

    fn attributes(&self) -> u64 {
        if self.changes.is_some() { 0 } else { MountAttr::RDONLY }
    }

    /// By fsconfig(2), with each of `values` under `key`.
    fn configure(&self, key: &str, values: &[String]) -> io::Result<OwnedFd> {
        let file_system = FileSystem::open("overlay")?;
        file_system.set("source", "overlay")?;
        values.iter().try_for_each(|value| file_system.set(key, value))?;
        for (key, value) in self.change_options() {
            file_system.set(key, &value)?;
        }
        if self.is_volatile {
            file_system.set_flag("volatile")?;
        }
        file_system.mount(self.attributes())
    }
}

fn name_of(handle: &OwnedFd) -> String {
    path_of(handle).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use carrack_sys::rustix::fs::{StatVfsMountFlags, fstatvfs};
    use std::fs;
    use std::io::Read;

    #[test]
    fn root_the_old_call_mounts_too_and_leaves_the_thread_where_it_was() {
        let base = std::env::temp_dir().join(format!("carrack-passing-{}", std::process::id()));
        let lowers = ["upper", "lower"].map(|name| base.join(name)).to_vec();
        for lower in &lowers {
            fs::create_dir_all(lower).unwrap();
            fs::write(lower.join("which"), lower.file_name().unwrap().as_encoded_bytes()).unwrap();
        }
        let here = || {
            let namespace = fs::read_link("/proc/thread-self/ns/mnt").unwrap();
            (
                namespace,
                fs::read_link("/proc/thread-self/root").unwrap(),
                fs::read_link("/proc/thread-self/cwd").unwrap(),
            )
        };
        let before = here();
        let view = mount_in_passing(&lowers, None).unwrap();
        assert_eq!(here(), before);
        let which = openat(&view, "which", OFlags::RDONLY, Mode::empty()).unwrap();
        assert_eq!(io::read_to_string(fs::File::from(which)).unwrap(), "upper");
        assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains("carrack-passing-"));
        drop(view);
        fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn root_a_view_of_two_and_of_many_layers_shows_the_topmost_and_cannot_be_written() {
        let base = std::env::temp_dir().join(format!("carrack-view-{}", std::process::id()));
        for layers in [2, 100] {
            let lowers: Vec<_> = (0..layers).map(|number| base.join(format!("{number}:,\\"))).collect();
            for (number, layer) in lowers.iter().enumerate() {
                fs::create_dir_all(layer).unwrap();
                fs::write(layer.join("which"), number.to_string()).unwrap();
                fs::write(layer.join(format!("only-{number}")), "").unwrap();
            }
            let view = open_overlay(&lowers, None).unwrap();
            let mut content = String::new();
            let which = openat(&view, "which", OFlags::RDONLY, Mode::empty()).unwrap();
            fs::File::from(which).read_to_string(&mut content).unwrap();
            assert_eq!(content, "0");
            openat(&view, format!("only-{}", layers - 1), OFlags::PATH, Mode::empty()).unwrap();
            assert!(fstatvfs(&view).unwrap().f_flag.contains(StatVfsMountFlags::RDONLY));
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
            assert!(!mounts.contains("carrack-view-"), "{mounts}");
            drop(view);
            fs::remove_dir_all(&base).unwrap();
        }
        let missing = open_overlay(std::slice::from_ref(&base), None).unwrap_err();
        assert_eq!(missing.to_string(), format!("open layer {}", base.display()));
    }
}
