//! Network namespaces that are pinned to a name.
//!
//! A namespace lives as long as somebody is in it or something is mounted from it. Pods' namespaces are bind-mounted under `/run/netns`,
//! where `ip netns` and network plugins look for them (ip-netns(8)). A thread of its own makes the namespace and ends right after
//! the mount, so that no thread of the caller is ever elsewhere. The mount is made by the calling process, in its mount namespace; like `ip
//! netns`, the directory is made a shared mount first, so that later mounts reach namespaces that were made earlier. If the process
//! dies on the way, the kernel drops the namespace with the thread: at most an empty file stays, which a repeat takes over
//! and [`remove_netns`] removes.
//!
//! Needs CAP_SYS_ADMIN. Everything may be repeated.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;

use carrack_sys::namespace::{self, Namespaces};
use carrack_sys::rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statfs, statx};
use carrack_sys::rustix::io::Errno;
use carrack_sys::rustix::mount::{
    MountPropagationFlags, UnmountFlags, mount_bind, mount_bind_recursive, mount_change, unmount,
};
use carrack_words::Kind;

use crate::route;
use carrack_netlink::NetlinkError;

/// Where namespaces are pinned.
pub const NETNS_DIRECTORY: &str = "/run/netns";
/// `NSFS_MAGIC` of `linux/magic.h`: the file system that namespaces are files of.
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// A namespace could not be pinned or removed.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The name cannot be a file's name.
    #[error("invalid network namespace name {name:?}")]
    Name {
        /// The name.
        name: String,
    },
    /// A step on the way failed.
    #[error("{doing} {path}")]
    Step {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The namespace's loopback interface could not be brought up.
    #[error("bring up the loopback interface of network namespace {name}")]
    Loopback {
        /// The namespace.
        name: String,
        /// The cause.
        source: NetlinkError,
    },
}

impl NetnsError {
    /// Its class.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Name { .. } => Kind::Invalid,
            Self::Step { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => Kind::Denied,
                // unshare(2): the limit in /proc/sys/user/max_net_namespaces.
                io::ErrorKind::StorageFull => Kind::Exhausted,
                _ => Kind::Internal,
            },
            Self::Loopback { source, .. } => source.kind(),
        }
    }
}

/// Makes a network namespace in which the loopback interface is up, and pins it to `name`. A repeat finds the first one's.
pub fn create_netns(name: &str) -> Result<PathBuf, NetnsError> {
    let path = path_of(name)?;
    prepare_directory()?;
    let new = OpenOptions::new().write(true).create_new(true).mode(0o444).open(&path);
    match new {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if is_namespace(&path) {
                return Ok(path);
            }
        }
        Err(source) => return Err(NetnsError::Step { doing: "create", path, source }),
    }
    let made = in_a_thread(|| make_and_pin(name, &path)).and_then(|made| made);
    if made.is_err() {
        // The first failure is the one to tell; what stays is an empty file, which a repeat takes over.
        let _ = remove_netns(name);
    }
    made.map(|()| path)
}

/// Unpins the namespace; the kernel drops it and its interfaces once nobody is in it. Removing what is gone succeeds.
pub fn remove_netns(name: &str) -> Result<(), NetnsError> {
    let path = path_of(name)?;
    // More than once: mounts can be stacked when two processes made the same name.
    loop {
        match unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => break,
            Err(errno) => return Err(NetnsError::Step { doing: "unmount", path, source: errno.into() }),
        }
    }
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(NetnsError::Step { doing: "remove", path, source })
        }
        _ => Ok(()),
    }
}

/// The names under [`NETNS_DIRECTORY`] that begin with `prefix`, for finding what nobody owns any more.
pub fn netns_names(prefix: &str) -> Result<Vec<String>, NetnsError> {
    let path = PathBuf::from(NETNS_DIRECTORY);
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(NetnsError::Step { doing: "list", path, source }),
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| name.starts_with(prefix)).collect())
}

fn path_of(name: &str) -> Result<PathBuf, NetnsError> {
    if name.is_empty() || name.len() > 255 || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(NetnsError::Name { name: name.chars().take(64).collect() });
    }
    Ok(Path::new(NETNS_DIRECTORY).join(name))
}

/// Makes the directory a shared mount of its own, once. The lock on the directory is the one that `ip netns` takes.
fn prepare_directory() -> Result<(), NetnsError> {
    let path = Path::new(NETNS_DIRECTORY);
    let step = |doing| move |source: io::Error| NetnsError::Step { doing, path: path.to_owned(), source };
    if is_mount_point(path) {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(step("create directory"))?;
    let lock = File::open(path).map_err(step("open"))?;
    lock.lock().map_err(step("lock"))?;
    if is_mount_point(path) {
        return Ok(());
    }
    mount_bind_recursive(path, path).map_err(|errno| step("bind mount")(errno.into()))?;
    mount_change(path, MountPropagationFlags::SHARED | MountPropagationFlags::REC)
        .map_err(|errno| step("share mount")(errno.into()))
}

fn is_mount_point(path: &Path) -> bool {
    let Ok(facts) = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty()) else { return false };
    facts.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
}

fn is_namespace(path: &Path) -> bool {
    statfs(path).is_ok_and(|facts| u64::try_from(facts.f_type) == Ok(NSFS_MAGIC))
}

fn make_and_pin(name: &str, path: &Path) -> Result<(), NetnsError> {
    let step = |doing| move |source: io::Error| NetnsError::Step { doing, path: path.to_owned(), source };
    namespace::unshare(Namespaces::NETWORK).map_err(step("make network namespace for"))?;
    route::loopback_up().map_err(|source| NetnsError::Loopback { name: name.to_owned(), source })?;
    mount_bind("/proc/thread-self/ns/net", path).map_err(|errno| step("pin network namespace at")(errno.into()))
}

/// Runs `work` in a thread of its own, which may change its namespaces, and waits for it.
pub(crate) fn in_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
    let path = PathBuf::from("/proc/thread-self/ns/net");
    thread::scope(|scope| {
        let spawned = thread::Builder::new().name("netns".to_owned()).stack_size(64 * 1024).spawn_scoped(scope, work);
        let handle = spawned.map_err(|source| NetnsError::Step { doing: "start a thread to leave", path, source })?;
        Ok(handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}
