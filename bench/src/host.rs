//! Makes the host such that every contender works on it, and all meet the same one.

use std::fs;
use std::path::Path;

use carrack_sys::namespace::{Namespaces, unshare};
use carrack_sys::rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};

const UNIFIED: &str = "/sys/fs/cgroup/unified";

/// Moves this process to a mount namespace of its own, and takes a hybrid host's cgroup2 mount away there: crun refuses to run
/// beside one which has controllers.
pub fn prepare() {
    unshare(Namespaces::MOUNT).expect("benchmarks are run as root");
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .expect("our own mount namespace is ours");
    let controllers = fs::read_to_string(Path::new(UNIFIED).join("cgroup.controllers")).unwrap_or_default();
    if !controllers.trim().is_empty() {
        println!("hybrid cgroups: {UNIFIED} is hidden from all contenders, since crun refuses to run beside it");
        unmount(UNIFIED, UnmountFlags::DETACH).expect("it is a mount, for it has controllers");
    }
}
