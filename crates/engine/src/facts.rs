//! Asks the host once what containers on it can have.

use std::fs;
use std::path::Path;

use carrack_oci_config::LinuxDevice;
use carrack_sys::rustix::fs::{FileType, Stat, major, minor};

use crate::defaults::ALL_CAPABILITIES;
use crate::spec::HostFacts;

/// How deep below `/dev` device nodes are looked for.
const MAX_DEPTH: usize = 4;

impl HostFacts {
    /// Everything but the device nodes, which only privileged containers need.
    pub fn probe() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let bounding = status
            .lines()
            .find_map(|line| line.strip_prefix("CapBnd:"))
            .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .unwrap_or(0);
        let capabilities = ALL_CAPABILITIES
            .iter()
            .enumerate()
            .filter(|(number, _)| bounding >> number & 1 == 1)
            .map(|(_, name)| (*name).to_owned())
            .collect();
        Self { capabilities, has_swap_accounting: has_swap_accounting(), devices: Vec::new() }
    }
}

fn has_swap_accounting() -> bool {
    // v1 has the file at its root; v2 has it in every group but the root.
    if Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists() {
        return true;
    }
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(path) = own.lines().find_map(|line| line.strip_prefix("0::/")) else { return false };
    Path::new("/sys/fs/cgroup").join(path).join("memory.swap.max").exists()
}

/// All device nodes below `/dev` that a privileged container gets: not the terminals, shared memory and queues, of which it has its own.
pub(crate) fn host_devices() -> Vec<LinuxDevice> {
    let mut found = Vec::new();
    collect(Path::new("/dev"), MAX_DEPTH, &mut found);
    found
}

fn collect(directory: &Path, depth: usize, found: &mut Vec<LinuxDevice>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let own = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console"];
        if own.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        let Ok(facts) = carrack_sys::rustix::fs::lstat(&path) else { continue };
        if FileType::from_raw_mode(facts.st_mode) == FileType::Directory {
            if depth > 0 {
                collect(&path, depth - 1, found);
            }
        } else if let Some(device) = device_at(&path, &facts) {
            found.push(device);
        }
    }
}

/// The device node with these facts, to be made at `path` of a container; `None` if it is not one.
pub(crate) fn device_at(path: &Path, facts: &Stat) -> Option<LinuxDevice> {
    let kind = match FileType::from_raw_mode(facts.st_mode) {
        FileType::CharacterDevice => "c",
        FileType::BlockDevice => "b",
        _ => return None,
    };
    Some(LinuxDevice {
        path: path.to_str()?.to_owned(),
        kind: kind.into(),
        major: Some(i64::from(major(facts.st_rdev))),
        minor: Some(i64::from(minor(facts.st_rdev))),
        file_mode: Some(facts.st_mode & 0o7777),
        uid: Some(facts.st_uid),
        gid: Some(facts.st_gid),
    })
}
