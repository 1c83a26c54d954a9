//! OCI bundles for the low-level runtime.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// A bundle directory: `config.json`, and a root filesystem with busybox.
#[derive(Debug)]
pub struct Bundle {
    /// The directory.
    pub path: PathBuf,
    /// What `config.json` says; [`Bundle::write`] makes it so.
    pub config: Value,
}

impl Bundle {
    /// A bundle in `path` which runs `args` as runc's own template would: six namespaces, few capabilities, masked paths.
    pub fn new(path: &Path, args: &[&str]) -> Self {
        let bin = path.join("rootfs/bin");
        fs::create_dir_all(&bin).expect("the test's directory is writable");
        for directory in ["proc", "sys", "dev", "tmp", "etc"] {
            fs::create_dir_all(path.join("rootfs").join(directory)).expect("the test's directory is writable");
        }
        fs::copy(crate::programs::busybox(), bin.join("busybox")).expect("busybox-static is installed");
        for applet in ["sh", "true", "false", "cat", "echo", "sleep", "ls", "id", "kill", "ps", "dd", "readlink"] {
            let link = bin.join(applet);
            if !link.exists() {
                symlink("busybox", link).expect("the test's directory is writable");
            }
        }
        let bundle = Self { path: path.to_owned(), config: template(args) };
        bundle.write();
        bundle
    }

    /// Writes `config.json`.
    pub fn write(&self) {
        fs::write(self.path.join("config.json"), self.config.to_string()).expect("the test's directory is writable");
    }

    /// Changes the configuration and writes it.
    pub fn change(&mut self, edit: impl FnOnce(&mut Value)) -> &Self {
        edit(&mut self.config);
        self.write();
        self
    }
}

/// The configuration that `runc spec` prints, without a terminal.
fn template(args: &[&str]) -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": args,
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true
        },
        "root": { "path": "rootfs", "readonly": false },
        "hostname": "carrack",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
              "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] },
            { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
              "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] }
        ],
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }, { "type": "cgroup" }
            ],
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}
