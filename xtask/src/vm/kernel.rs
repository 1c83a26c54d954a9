//! Fetches Debian's cloud kernel and packs its initial RAM disk.
//!
//! The package is downloaded and unpacked under the target directory, once; it is never installed, so that the machine's own
//! boot is not touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cpio::Archive;
use super::modules::{WANTED, loading_order};
use crate::failure::Failure;
use crate::packages;
use crate::process::{find_program, output_of, run_here};
use crate::workspace::Workspace;

/// A kernel ready to boot.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// The kernel image.
    pub image: PathBuf,
    /// The initial RAM disk: busybox, modules, and a script that moves on to the disk.
    pub ram_disk: PathBuf,
}

/// The kernel, from the cache or fresh.
pub fn prepare(workspace: &Workspace) -> Result<Kernel, Failure> {
    let cache = workspace.cache("kernel");
    let kernel = Kernel { image: cache.join("vmlinuz"), ram_disk: cache.join("initramfs") };
    if !kernel.image.exists() {
        unpack_package(&cache, &kernel.image)?;
    }
    // Small and quick to pack, so it is packed every time: a changed script or list of modules takes effect at once.
    let archive = pack_ram_disk(&cache.join("tree"))?;
    fs::write(&kernel.ram_disk, archive).map_err(Failure::because(format!("write {}", kernel.ram_disk.display())))?;
    Ok(kernel)
}

fn unpack_package(cache: &Path, image: &Path) -> Result<(), Failure> {
    let package = newest_cloud_kernel()?;
    println!("downloading {package}");
    let file = packages::download(&package, cache)?;
    let tree = cache.join("tree");
    run_here(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(&tree))?;
    let version = only_entry(&tree.join("lib/modules"))?;
    let depmod = find_program("depmod").ok_or_else(|| Failure::new("depmod is missing: install kmod"))?;
    run_here(Command::new(depmod).arg("--basedir").arg(&tree).arg(&version))?;
    // Debian's own images and debug files are not needed any more.
    let _ = fs::remove_file(&file);
    let unpacked = tree.join("boot").join(format!("vmlinuz-{version}"));
    // The image is moved to its place last: its presence says that all before it was done.
    fs::rename(&unpacked, image).map_err(Failure::because(format!("move {}", unpacked.display())))
}

/// The package that the metapackage stands for today.
fn newest_cloud_kernel() -> Result<String, Failure> {
    let ask = || output_of(Command::new("apt-cache").args(["depends", "linux-image-cloud-amd64"]));
    let answer = match ask() {
        Ok(answer) if answer.contains("Depends: ") => answer,
        Ok(_) | Err(_) => {
            packages::update_lists()?;
            ask()?
        }
    };
    answer
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "))
        .map(str::to_owned)
        .ok_or_else(|| Failure::new("linux-image-cloud-amd64 depends on no kernel: is this Debian on x86_64?"))
}

fn pack_ram_disk(tree: &Path) -> Result<Vec<u8>, Failure> {
    let modules = tree.join("lib/modules");
    let modules = modules.join(only_entry(&modules)?);
    let dep = modules.join("modules.dep");
    let dep = fs::read_to_string(&dep).map_err(Failure::because(format!("read {}", dep.display())))?;
    let busybox = find_program("busybox").ok_or_else(|| Failure::new("busybox is missing: install busybox-static"))?;
    let busybox = fs::read(&busybox).map_err(Failure::because(format!("read {}", busybox.display())))?;

    let mut archive = Archive::default();
    for directory in ["dev", "proc", "disk", "bin", "modules"] {
        archive.directory(directory);
    }
    archive.file("bin/busybox", 0o755, &busybox);
    let mut script = String::from(
        "#!/bin/busybox sh\n\
         busybox mount -t devtmpfs devtmpfs /dev\n\
         busybox mount -t proc proc /proc\n",
    );
    for (index, file) in loading_order(&dep, WANTED).iter().enumerate() {
        let path = modules.join(file);
        let content = fs::read(&path).map_err(Failure::because(format!("read {}", path.display())))?;
        let name = format!("modules/{index:02}-{}", path.file_name().expect("a module is a file").to_string_lossy());
        archive.file(&name, 0o644, &content);
        script.push_str(&format!("busybox insmod /{name} || echo 'no module {name}'\n"));
    }
    script.push_str(
        "busybox mount -t ext4 /dev/vda /disk || busybox poweroff -f\n\
         busybox umount /proc\n\
         busybox mount --move /dev /disk/dev\n\
         exec busybox switch_root /disk /sbin/init\n",
    );
    archive.file("init", 0o755, script.as_bytes());
    Ok(archive.finish())
}

fn only_entry(directory: &Path) -> Result<String, Failure> {
    fs::read_dir(directory)
        .map_err(Failure::because(format!("list {}", directory.display())))?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .next()
        .ok_or_else(|| Failure::new(format!("{} is empty", directory.display())))
}
