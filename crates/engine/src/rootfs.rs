//! Looks into an image's root filesystem without mounting it anywhere.

use std::path::PathBuf;

use carrack_rooted::Root;
use carrack_sys::rustix::fs::CWD;
use carrack_sys::rustix::io::Errno;
use carrack_sys::rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};

/// An image's layers cannot be looked into.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// A layer's directory is gone or cannot be opened.
    #[error("open layer {}", path.display())]
    Layer {
        /// Its directory.
        path: PathBuf,
        /// Why.
        source: carrack_rooted::RootedError,
    },
    /// The layers cannot be laid over each other.
    #[error("lay {layers} layers over each other")]
    Overlay {
        /// How many.
        layers: usize,
        /// What the kernel said.
        source: std::io::Error,
    },
}

/// The merged, read-only view of `lowers`, topmost first. It stands in no mount table and ends with the handle.
pub(crate) fn view(lowers: &[PathBuf]) -> Result<Root, ViewError> {
    if let [only] = lowers {
        return Root::open_host(only).map_err(|source| ViewError::Layer { path: only.clone(), source });
    }
    overlay(lowers).map_err(|errno| ViewError::Overlay { layers: lowers.len(), source: errno.into() })
}

fn overlay(lowers: &[PathBuf]) -> Result<Root, Errno> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    // Handles make short paths, so that any number of layers fits the page of options that kernels before 6.7 read.
    let handles = lowers
        .iter()
        .map(|path| {
            use carrack_sys::rustix::fs::{Mode, OFlags, openat};
            openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        })
        .collect::<Result<Vec<_>, _>>()?;
    let paths: Vec<String> =
        handles.iter().map(|handle| carrack_rooted::path_of(handle).to_string_lossy().into_owned()).collect();
    fsconfig_set_string(&context, "lowerdir", paths.join(":"))?;
    fsconfig_create(&context)?;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)?;
    Ok(Root::from(mount))
}
