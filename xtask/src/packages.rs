//! Installs the Debian packages that a verb needs, by name, and only those that are missing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::Failure;
use crate::process::{find_program, output_of, run_here};

/// What the tests use: the peers whose behaviour is compared, registries, image tools, and the virtual machine.
pub const FOR_TESTS: &[&str] = &[
    "apache2-utils",   // htpasswd, for a registry with passwords
    "apparmor",        // apparmor_parser, for a profile in the virtual machine
    "attr",            // getfattr
    "buildah",         // makes images
    "busybox-static",  // the smallest useful image
    "ca-certificates", // the system's trust, which one test extends
    "conmon",          // calls the low-level runtime
    "containerd",      // calls the low-level runtime
    "crun",            // a peer of carrack-oci
    "debootstrap",     // an image with tens of thousands of files
    "docker-registry", // the registry of every pull
    "docker.io",       // calls the low-level runtime
    "e2fsprogs",       // filesystems for virtual machines and for full disks
    "iproute2",        // ip
    "kmod",            // depmod, for the kernel of the virtual machine
    "libcap2-bin",     // setcap
    "nftables",        // nft, to read what the network wrote
    "openssl",         // certificates and tokens
    "podman",          // calls the low-level runtime
    "qemu-system-x86", // the machine with cgroup v2 and AppArmor
    "runc",            // a peer of carrack-oci
    "skopeo",          // copies images
    "strace",          // counts system calls and syncs
    "umoci",           // unpacks images: the tree that ours is compared with
];

/// What the benchmarks use besides.
pub const FOR_BENCHMARKS: &[&str] = &["containerd", "containernetworking-plugins", "podman"];

/// What the demonstration uses.
pub const FOR_DEMO: &[&str] = &["busybox-static"];

/// Installs what is missing of `packages`. Nothing is asked of the network when nothing is missing.
pub fn install(packages: &[&str]) -> Result<(), Failure> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing {}", missing.join(" "));
    update_lists()?;
    run_here(
        apt_get()
            .args(["install", "--yes", "--no-install-recommends"])
            .args(&missing)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null()),
    )
}

/// Downloads a package into `at` without installing it, and returns the file's name.
pub fn download(package: &str, at: &Path) -> Result<PathBuf, Failure> {
    download_all(&[package], at)?
        .pop()
        .ok_or_else(|| Failure::new(format!("apt-get download {package} left no file in {}", at.display())))
}

/// Downloads packages, all at once, and returns the names of their files in the same order.
pub fn download_all(packages: &[&str], at: &Path) -> Result<Vec<PathBuf>, Failure> {
    std::fs::create_dir_all(at).map_err(Failure::because(format!("make {}", at.display())))?;
    let fetch = || output_of(Command::new("apt-get").arg("download").args(packages).current_dir(at));
    // A list older than the mirror names a version that is gone: then, and only then, the lists are fetched.
    if fetch().is_err() {
        update_lists()?;
        fetch()?;
    }
    packages.iter().map(|package| downloaded(package, at)).collect()
}

fn downloaded(package: &str, at: &Path) -> Result<PathBuf, Failure> {
    let prefix = format!("{package}_");
    std::fs::read_dir(at)
        .map_err(Failure::because(format!("list {}", at.display())))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)))
        .ok_or_else(|| Failure::new(format!("apt-get download {package} left no file in {}", at.display())))
}

/// Fetches the lists of what can be had today.
pub fn update_lists() -> Result<(), Failure> {
    run_here(apt_get().arg("update").stdout(Stdio::null()))
}

fn is_installed(package: &str) -> bool {
    Command::new("dpkg-query")
        .args(["--show", "--showformat", "${db:Status-Status}", package])
        .stderr(Stdio::null())
        .output()
        .is_ok_and(|answer| answer.status.success() && answer.stdout == b"installed")
}

/// `apt-get`, as root: directly, or through `sudo` where there is one.
fn apt_get() -> Command {
    let is_root = output_of(Command::new("id").arg("-u")).is_ok_and(|uid| uid.trim() == "0");
    if is_root || find_program("sudo").is_none() {
        return Command::new("apt-get");
    }
    let mut command = Command::new("sudo");
    command.args(["--preserve-env=DEBIAN_FRONTEND", "apt-get"]);
    command
}
