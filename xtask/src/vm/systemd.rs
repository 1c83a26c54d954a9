//! Debian's systemd and message bus, for a machine whose first process is systemd.
//!
//! The packages are downloaded and unpacked under the target directory, once, as the kernel is; none is installed. Of all that systemd can do, only the
//! manager and the system bus run, so the machine is up within a second or two of the kernel.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::Failure;
use crate::packages;
use crate::process::run_here;
use crate::workspace::Workspace;

/// The programs, and every library that they load.
const PACKAGES: &[&str] = &[
    "dbus",
    "dbus-bin",
    "dbus-daemon",
    "dbus-system-bus-common",
    "libacl1",
    "libapparmor1",
    "libaudit1",
    "libblkid1",
    "libc6",
    "libcap-ng0",
    "libcap2",
    "libcrypt1",
    "libdbus-1-3",
    "libexpat1",
    "libgcrypt20",
    "libgpg-error0",
    "libip4tc2",
    "libkmod2",
    "liblz4-1",
    "liblzma5",
    "libmount1",
    "libpam0g",
    "libpcre2-8-0",
    "libseccomp2",
    "libselinux1",
    "libssl3",
    "libsystemd-shared",
    "libsystemd0",
    "libzstd1",
    "systemd",
];

/// Nobody reads these in the machine.
const UNUSED: &[&str] =
    &["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/doc-base", "usr/share/lintian"];

/// What we say to systemd, beside what the packages do. Nothing waits for the rest of a system's start.
pub const FILES: &[(&str, &str)] = &[
    ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
    ("etc/systemd/system/carrack-vm.service", SERVICE),
    ("etc/systemd/system/dbus.socket.d/alone.conf", ALONE),
    ("etc/systemd/system/dbus.service.d/alone.conf", ALONE),
];

/// Runs what the machine is for. It is named to the kernel as the unit to start.
const SERVICE: &str = "[Unit]
DefaultDependencies=no
Requires=dbus.socket
After=dbus.socket
[Service]
ExecStart=/vm/run
StandardInput=null
StandardOutput=null
StandardError=null
TasksMax=infinity
Delegate=yes
";

const ALONE: &str = "[Unit]\nDefaultDependencies=no\nRequires=\nAfter=\n";

/// A tree with all of it, from the cache or fresh; `/bin`, `/lib` and so on are links into `/usr`.
pub fn prepare(workspace: &Workspace) -> Result<PathBuf, Failure> {
    let cache = workspace.cache("systemd");
    let tree = cache.join("tree");
    if !tree.exists() {
        // Unpacked aside: the tree is moved to its place last, so its presence says that all before it was done.
        let aside = cache.join("aside");
        let _ = fs::remove_dir_all(&cache);
        unpack(&cache, &aside)?;
        merge_into_usr(&aside)?;
        UNUSED.iter().for_each(|path| drop(fs::remove_dir_all(aside.join(path))));
        fs::rename(&aside, &tree).map_err(Failure::because(format!("move {}", aside.display())))?;
    }
    Ok(tree)
}

fn unpack(cache: &Path, aside: &Path) -> Result<(), Failure> {
    println!("downloading systemd and what it needs");
    for file in packages::download_all(PACKAGES, cache)? {
        run_here(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(aside))?;
        let _ = fs::remove_file(&file);
    }
    Ok(())
}

/// As every Debian is since release 12, although packages still say otherwise.
fn merge_into_usr(tree: &Path) -> Result<(), Failure> {
    for name in ["bin", "sbin", "lib", "lib64"] {
        let (old, new) = (tree.join(name), tree.join("usr").join(name));
        fs::create_dir_all(&new).map_err(Failure::because(format!("make {}", new.display())))?;
        if old.exists() {
            run_here(Command::new("cp").arg("-a").arg(old.join(".")).arg(&new))?;
            fs::remove_dir_all(&old).map_err(Failure::because(format!("remove {}", old.display())))?;
        }
        symlink(format!("usr/{name}"), &old).map_err(Failure::because(format!("link {}", old.display())))?;
    }
    Ok(())
}
