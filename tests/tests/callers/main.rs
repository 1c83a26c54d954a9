//! carrack-oci under the programs that call runc: each scenario runs with Debian's runc first and with carrack-oci second, and what a
//! user, a program in the container and the host's cgroups show must be the same.
//!
//! What differs on purpose is listed beside each caller as data; `docs/conformance/runc.md` tells people the reasons. Each caller's daemon
//! runs once, on a [`Node`](carrack_tests::node::Node) of its own, and serves both runtimes.

#![forbid(unsafe_code)]

mod accepted;
mod buildah;
mod compare;
mod conmon;
mod containerd;
mod docker;
mod podman;
mod probe;

use std::path::PathBuf;

use carrack_tests::programs;

/// One of the two runtimes.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// `runc` or `carrack-oci`.
    pub name: &'static str,
    /// Where it is.
    pub path: PathBuf,
}

/// The reference, then ours.
pub fn runtimes() -> [Runtime; 2] {
    let runc = ["/usr/sbin/runc", "/usr/bin/runc"].map(PathBuf::from).into_iter().find(|path| path.is_file());
    let runc = runc.expect("Debian's runc is installed: the caller has asked");
    [Runtime { name: "runc", path: runc }, Runtime { name: "carrack-oci", path: programs::carrack_oci() }]
}

/// Whether everything that a caller's test needs is installed; says so aloud if not.
pub fn has(test: &str, needed: &[&str]) -> bool {
    let missing = needed.iter().find(|program| !programs::is_installed(program));
    if let Some(program) = missing {
        carrack_tests::skip(test, &format!("{program} is not installed"));
    }
    missing.is_none()
}

/// Whether this machine can give all capabilities away. Where it cannot, runc refuses privileged containers and carrack-oci gives what
/// there is: nothing is left to compare.
pub fn has_all_capabilities() -> bool {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let last: u32 = read("/proc/sys/kernel/cap_last_cap").trim().parse().expect("the kernel tells its last capability");
    let status = read("/proc/self/status");
    let bounding =
        status.lines().find_map(|line| line.strip_prefix("CapBnd:")).expect("every process has a bounding set");
    u64::from_str_radix(bounding.trim(), 16).expect("a set is hexadecimal") == (1 << (last + 1)) - 1
}
