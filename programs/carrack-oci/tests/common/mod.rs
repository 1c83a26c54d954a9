//! A bundle with busybox as its root file system, and the runtime run on it as a caller would.
//!
//! The program is that of the environment variable `CARRACK_OCI`, else the one just built; busybox is that of `CARRACK_BUSYBOX`, else
//! `/bin/busybox`. So the same tests run against another build, in a virtual machine, or on another runtime.

#![allow(dead_code, reason = "each test file uses a part of this")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// The program under test.
pub fn program() -> PathBuf {
    std::env::var_os("CARRACK_OCI").map_or_else(|| env!("CARGO_BIN_EXE_carrack-oci").into(), PathBuf::from)
}

/// The program that bundles are made of; as many others in one.
pub fn busybox() -> PathBuf {
    std::env::var_os("CARRACK_BUSYBOX").map_or_else(|| "/bin/busybox".into(), PathBuf::from)
}

/// Why the tests of this file cannot run here, if they cannot.
pub fn missing(test: &str) -> bool {
    let reason = if !busybox().exists() {
        "busybox-static is not installed"
    } else if fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) != 0) {
        "not root"
    } else {
        return false;
    };
    eprintln!("SKIPPED: {test}: {reason}");
    true
}

/// Returns from a test that cannot run here, after saying so.
#[macro_export]
macro_rules! need_root {
    ($name:expr) => {
        if $crate::common::missing($name) {
            return;
        }
    };
}

/// A bundle, a state directory, and containers in them; everything is removed in the end.
pub struct Bundle {
    /// Of this bundle.
    pub directory: PathBuf,
    /// What will be in config.json.
    pub config: Value,
    ids: Vec<String>,
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Bundle {
    /// An ordinary container that runs a shell script.
    pub fn new(script: &str) -> Self {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("carrack-oci-test-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let bin = directory.join("rootfs/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::create_dir_all(directory.join("rootfs/etc")).unwrap();
        // By another process: a child that a test beside this one forks meanwhile would hold our handle, and a file that is written cannot be executed.
        assert!(Command::new("cp").arg(busybox()).arg(bin.join("busybox")).status().unwrap().success());
        for applet in [
            "sh", "cat", "ls", "id", "sleep", "echo", "stat", "mount", "hostname", "true", "tty", "readlink", "touch",
            "mkdir", "kill", "ps", "head", "dd", "grep", "env", "pwd", "wc", "stty", "umount", "ip", "sysctl", "ln",
            "rm", "chmod", "setsid", "test",
        ] {
            symlink("busybox", bin.join(applet)).unwrap();
        }
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["sh", "-c", script],
                "env": ["PATH=/bin"], "noNewPrivileges": true,
                "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]}
            },
            "root": {"path": "rootfs"},
            "hostname": "inside",
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                 "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
                {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "nodev", "mode=1777"]},
                {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"},
                {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
                {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid", "noexec", "nodev"]}
            ],
            "linux": {
                "cgroupsPath": format!("/carrack-oci-test-{}/{number}", std::process::id()),
                "resources": {"devices": [{"allow": false, "access": "rwm"}]},
                "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"}],
                "maskedPaths": ["/proc/acpi", "/proc/keys", "/proc/kcore", "/sys/firmware", "/proc/no-such-file"],
                "readonlyPaths": ["/proc/sys", "/proc/irq"]
            }
        });
        Self { directory, config, ids: Vec::new() }
    }

    /// A fresh id.
    pub fn id(&mut self) -> String {
        let id = format!("t{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        self.ids.push(id.clone());
        id
    }

    /// The state directory.
    pub fn state_root(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// A path in the root file system, from outside.
    pub fn inside(&self, path: &str) -> PathBuf {
        self.directory.join("rootfs").join(path.trim_start_matches('/'))
    }

    /// Writes config.json.
    pub fn write(&self) {
        fs::write(self.directory.join("config.json"), self.config.to_string()).unwrap();
    }

    /// A command line of the runtime, with our own files as its streams: not pipes, which a container that goes on would hold open.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.arg("--root").arg(self.state_root()).args(arguments).current_dir(&self.directory);
        command.stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub fn oci(&self, arguments: &[&str]) -> Said {
        let (out, err) = (self.directory.join("out"), self.directory.join("err"));
        // New ones each time: a container that goes on writes to those that it was started with.
        let file = |path: &Path| {
            let _ = fs::remove_file(path);
            fs::File::create(path).unwrap()
        };
        let status = self.command(arguments).stdout(file(&out)).stderr(file(&err)).status().unwrap();
        let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        Said { code: status.code().unwrap_or(-1), out: read(&out), err: read(&err) }
    }

    /// Writes config.json and runs it in the foreground under a fresh id.
    pub fn run(&mut self) -> Said {
        self.write();
        let id = self.id();
        self.oci(&["run", &id])
    }

    /// The state of a container.
    pub fn state(&self, id: &str) -> Value {
        let said = self.oci(&["state", id]);
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"))
    }

    /// Lets the root of a user namespace enter and use the root file system, and gives the namespace its ids.
    pub fn open_for_user_namespace(&mut self) {
        let rootfs = self.directory.join("rootfs");
        assert!(Command::new("chown").args(["-R", "100000:100000"]).arg(rootfs).status().unwrap().success());
        fs::set_permissions(&self.directory, fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["uidMappings", "gidMappings"] {
            self.config["linux"][name] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        }
    }

    /// Waits until a container has this status.
    pub fn await_status(&self, id: &str, status: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.state(id)["status"] != status {
            assert!(Instant::now() < deadline, "{id} is not {status}: {}", self.state(id));
            std::thread::yield_now();
        }
    }

    /// What is left on the host of containers of this bundle: mounts, cgroups, state.
    pub fn leftovers(&self) -> Vec<String> {
        let mut found = Vec::new();
        let directory = self.directory.display().to_string();
        // Bundle 7 is not in bundle 73, which another test has at the same time. An overlay names directories in the middle of its options.
        let is_ours = |line: &str| line.split([' ', ',', ':', '=']).any(|part| Path::new(part).starts_with(&directory));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        found.extend(mounts.lines().filter(|line| is_ours(line)).map(str::to_owned));
        if let Ok(entries) = fs::read_dir(self.state_root()) {
            found.extend(entries.map(|entry| entry.unwrap().path().display().to_string()));
        }
        let group = self.config["linux"]["cgroupsPath"].as_str().unwrap_or_default().to_owned();
        for base in cgroup_mounts() {
            let path = base.join(group.trim_start_matches('/'));
            if path.exists() {
                found.push(path.display().to_string());
            }
        }
        found
    }
}

impl Bundle {
    /// What a file of the container's cgroup says, by the controller's name in version 1 and the file's in both.
    pub fn limit(&self, controller: &str, names: [&str; 2]) -> String {
        let group = self.config["linux"]["cgroupsPath"].as_str().unwrap().trim_start_matches('/');
        let base = Path::new("/sys/fs/cgroup");
        let path = match is_unified() {
            true => base.join(group).join(names[1]),
            false => base.join(controller).join(group).join(names[0]),
        };
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
    }
}

/// A mount on the host, for as long as it is held.
pub struct HostMount(PathBuf);

impl HostMount {
    /// A tmpfs.
    pub fn new(place: &Path, options: &str) -> Self {
        Self::by(Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]), place)
    }

    /// Something that is there already.
    pub fn bind(what: &Path, place: &Path) -> Self {
        Self::by(Command::new("mount").arg("--bind").arg(what), place)
    }

    fn by(command: &mut Command, place: &Path) -> Self {
        assert!(command.arg(place).status().unwrap().success());
        Self(place.to_owned())
    }
}

impl Drop for HostMount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Where cgroup hierarchies are mounted.
pub fn cgroup_mounts() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let is_cgroup = |line: &&str| line.contains(" - cgroup ") || line.contains(" - cgroup2 ");
    mounts.lines().filter(is_cgroup).filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect()
}

/// Whether the host has the unified hierarchy only.
pub fn is_unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

impl Drop for Bundle {
    fn drop(&mut self) {
        for id in &self.ids {
            // Whatever a failed test left.
            let _ = self.command(&["delete", "--force", id]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
        for base in cgroup_mounts() {
            // Others of this process may still have groups in it; the last one removes it.
            let _ = fs::remove_dir(base.join(format!("carrack-oci-test-{}", std::process::id())));
        }
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}
