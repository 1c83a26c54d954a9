//! Builds the disk of a virtual machine: a directory filled on the host, made into an ext4 image by `mkfs.ext4 -d`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Guest, GuestCommand, systemd};
use crate::failure::Failure;
use crate::process::{find_program, output_of, run_here};

/// What busybox is called by; the rest of its applets are reached as `busybox NAME`.
const APPLETS: &[&str] = &[
    "sh",
    "ash",
    "cat",
    "cp",
    "mv",
    "rm",
    "ls",
    "ln",
    "mkdir",
    "rmdir",
    "mount",
    "umount",
    "echo",
    "sleep",
    "true",
    "false",
    "id",
    "ps",
    "kill",
    "grep",
    "sed",
    "awk",
    "head",
    "tail",
    "wc",
    "sort",
    "uniq",
    "env",
    "test",
    "[",
    "chmod",
    "chown",
    "stat",
    "find",
    "dd",
    "df",
    "du",
    "date",
    "hostname",
    "uname",
    "touch",
    "tr",
    "cut",
    "tee",
    "sync",
    "losetup",
    "mknod",
    "readlink",
    "tar",
    "xargs",
    "dmesg",
    "poweroff",
    "timeout",
    "seq",
    "printf",
    "basename",
    "dirname",
    "pwd",
    "sysctl",
    "insmod",
    "lsmod",
    "mountpoint",
];

/// Fills `staging` for `guest`, and makes the image `image` of it. With a `base`, a tree with systemd, that is the first process.
pub fn build(guest: &Guest, base: Option<&Path>, staging: &Path, image: &Path) -> Result<(), Failure> {
    remove_tree(staging)?;
    if let Some(base) = base {
        run_here(Command::new("cp").arg("-a").arg(base).arg(staging))?;
    }
    let tree = Tree { root: staging.to_owned() };
    for directory in [
        "bin", "sbin", "usr/bin", "usr/sbin", "dev", "proc", "sys", "run", "tmp", "var/lib", "var/log", "root", "etc",
        "mnt", "vm",
    ] {
        tree.directory(directory)?;
    }
    let busybox = find_program("busybox").ok_or_else(|| Failure::new("busybox is missing: install busybox-static"))?;
    tree.copy(&busybox, Path::new("/bin/busybox"))?;
    for applet in APPLETS {
        tree.link("/bin/busybox", &format!("bin/{applet}"))?;
    }
    for (file, content) in ETC {
        tree.write(file, content, 0o644)?;
    }
    for program in &guest.programs {
        tree.copy_with_libraries(program)?;
    }
    for (from, to) in &guest.files {
        tree.copy(from, to)?;
    }
    match base {
        None => tree.write("sbin/init", &script(INIT_HEAD, &guest.commands), 0o755)?,
        Some(_) => {
            for (file, content) in systemd::FILES {
                let parent = Path::new(file).parent().and_then(Path::to_str).expect("all of them lie in directories");
                tree.directory(parent)?;
                tree.write(file, content, 0o644)?;
            }
            tree.link("/lib/systemd/systemd", "sbin/init")?;
            tree.link("/run", "var/run")?;
            tree.write("vm/run", &script(SERVICE_HEAD, &guest.commands), 0o755)?;
        }
    }
    make_filesystem(staging, image)
}

const ETC: &[(&str, &str)] = &[
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nmessagebus:x:100:100::/nonexistent:/bin/false\n"),
    ("etc/group", "root:x:0:\nmessagebus:x:100:\n"),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ("etc/resolv.conf", "nameserver 192.0.2.53\n"),
    ("etc/hostname", "carrack-vm\n"),
];

/// Prepares the machine, runs the commands, and switches it off.
fn script(head: &str, commands: &[GuestCommand]) -> String {
    let mut script = String::from(head);
    for (index, command) in commands.iter().enumerate() {
        let limit = command.limit.as_secs().max(1);
        let environment: String =
            command.environment.iter().map(|(name, value)| format!(" {name}={}", quoted(value))).collect();
        let argv: Vec<String> = command.argv.iter().map(|word| quoted(word)).collect();
        script.push_str(&format!(
            "echo '@@vm begin {index}'\n\
             env PATH=\"$PATH\" HOME=/root TMPDIR=/tmp RUST_BACKTRACE=1{environment} busybox timeout -s KILL {limit} {} </dev/null\n\
             status=$?\n\
             echo\n\
             echo \"@@vm end {index} $status\"\n",
            argv.join(" "),
        ));
    }
    script + "echo '@@vm done'\nsync\nbusybox poweroff -f\n"
}

/// The script is a service of systemd's, which has prepared most.
const SERVICE_HEAD: &str = "#!/bin/busybox sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
exec </dev/null >/dev/ttyS1 2>&1
busybox stty -F /dev/ttyS1 raw -echo -opost
chmod 1777 /tmp
busybox ifconfig lo 127.0.0.1 up
";

/// The script is the first process: it makes the machine what a node with systemd would be before its services start.
const INIT_HEAD: &str = "#!/bin/busybox sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
exec </dev/null >/dev/ttyS1 2>&1
busybox stty -F /dev/ttyS1 raw -echo -opost
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t securityfs securityfs /sys/kernel/security
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 -o nosuid,nodev,noexec,nsdelegate cgroup2 /sys/fs/cgroup
mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs /run
# On the disk, as on a node: files of the host that live below /tmp are found there too.
chmod 1777 /tmp
mkdir -p /dev/pts /dev/shm /dev/mqueue /run/netns
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs /dev/shm
mount -t mqueue mqueue /dev/mqueue
ln -sf /proc/self/fd /dev/fd
# As systemd leaves it: bidirectional propagation works without further ado.
mount --make-rshared /
hostname carrack-vm
ifconfig lo 127.0.0.1 up 2>/dev/null || busybox ifconfig lo 127.0.0.1 up
# The first process steps aside, so that every controller can be handed down.
mkdir -p /sys/fs/cgroup/init.scope
echo 1 > /sys/fs/cgroup/init.scope/cgroup.procs
for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
  echo +$controller > /sys/fs/cgroup/cgroup.subtree_control
done
";

/// A word as a POSIX shell reads it back unchanged.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn make_filesystem(staging: &Path, image: &Path) -> Result<(), Failure> {
    // A sparse file: what is never written costs nothing on the host.
    let file = fs::File::create(image).map_err(Failure::because(format!("create {}", image.display())))?;
    file.set_len(6 << 30).map_err(Failure::because(format!("size {}", image.display())))?;
    drop(file);
    let mkfs = find_program("mkfs.ext4").ok_or_else(|| Failure::new("mkfs.ext4 is missing: install e2fsprogs"))?;
    output_of(
        Command::new(mkfs)
            .args(["-q", "-F", "-O", "^has_journal", "-E", "lazy_itable_init=1,root_owner=0:0", "-d"])
            .arg(staging)
            .arg(image),
    )
    .map(drop)
}

/// The directory that becomes the disk.
struct Tree {
    root: PathBuf,
}

impl Tree {
    fn directory(&self, path: &str) -> Result<(), Failure> {
        let path = self.root.join(path);
        fs::create_dir_all(&path).map_err(Failure::because(format!("make {}", path.display())))
    }

    fn write(&self, path: &str, content: &str, mode: u32) -> Result<(), Failure> {
        let path = self.root.join(path);
        fs::write(&path, content)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
            .map_err(Failure::because(format!("write {}", path.display())))
    }

    fn link(&self, target: &str, path: &str) -> Result<(), Failure> {
        let path = self.root.join(path);
        symlink(target, &path).map_err(Failure::because(format!("link {}", path.display())))
    }

    fn copy(&self, from: &Path, to: &Path) -> Result<(), Failure> {
        let to = self.root.join(to.strip_prefix("/").unwrap_or(to));
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(Failure::because(format!("make {}", parent.display())))?;
        }
        fs::copy(from, &to).map(drop).map_err(Failure::because(format!("copy {} to {}", from.display(), to.display())))
    }

    /// Copies a program and, each to its own path, the libraries which ldd(1) names.
    fn copy_with_libraries(&self, program: &Path) -> Result<(), Failure> {
        self.copy(program, &Path::new("/usr/bin").join(program.file_name().expect("a program is a file")))?;
        // A static program makes ldd fail: then there is nothing to copy.
        let listed = output_of(Command::new("ldd").arg(program)).unwrap_or_default();
        let libraries: BTreeSet<&str> =
            listed.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':')).collect();
        for library in libraries {
            self.copy(Path::new(library), Path::new(library))?;
        }
        Ok(())
    }
}

fn remove_tree(path: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::because(format!("remove {}", path.display()))(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_with_quotes_survives_the_shell() {
        assert_eq!(quoted("it's $HOME"), "'it'\\''s $HOME'");
    }
}
