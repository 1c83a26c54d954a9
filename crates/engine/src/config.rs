//! Where an engine keeps its things.

use std::path::{Path, PathBuf};

/// Directories and programs of one engine. Two engines with different directories know nothing of each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// Persistent directory.
    pub root: PathBuf,
    /// Directory that a reboot empties.
    pub run: PathBuf,
    /// The program `carrack-oci`.
    pub oci_program: PathBuf,
    /// The program `carrack`, which monitors execute for clean-up.
    pub program: PathBuf,
    /// Parent of the containers' cgroups, absolute, unless a pod names its own.
    pub cgroup_parent: String,
}

impl EngineConfig {
    /// Persistent directory unless the operator says otherwise.
    pub const DEFAULT_ROOT: &'static str = "/var/lib/carrack";
    /// Volatile directory unless the operator says otherwise.
    pub const DEFAULT_RUN: &'static str = "/run/carrack";

    /// An engine over these directories, with `carrack-oci` beside the running program or on the usual paths.
    ///
    /// Engines beside the default one get cgroups of their own, named after their run directory.
    pub fn new(root: PathBuf, run: PathBuf) -> std::io::Result<Self> {
        let program = std::env::current_exe()?;
        let beside = program.with_file_name("carrack-oci");
        let candidates = [beside, "/usr/libexec/carrack/carrack-oci".into(), "/usr/bin/carrack-oci".into()];
        let [first, ..] = &candidates;
        let oci_program = candidates.iter().find(|path| path.is_file()).unwrap_or(first).clone();
        let cgroup_parent = cgroup_parent(&run);
        Ok(Self { root, run, oci_program, program, cgroup_parent })
    }

    pub(crate) fn pod_dir(&self, pod: &carrack_words::PodId) -> PathBuf {
        self.run.join("pods").join(pod.as_str())
    }

    /// Where the files are that a pod's containers may write: on disk, since what is in the run directory takes the host's memory.
    pub(crate) fn files_dir(&self, pod: &carrack_words::PodId) -> PathBuf {
        self.root.join("pods").join(pod.as_str())
    }

    pub(crate) fn container_dir(&self, id: &carrack_words::ContainerId) -> PathBuf {
        self.root.join("containers").join(id.as_str())
    }

    pub(crate) fn runtime_state(&self) -> PathBuf {
        self.run.join("oci")
    }

    pub(crate) fn monitor_cgroup(&self) -> String {
        format!("{}/monitors", self.cgroup_parent)
    }
}

fn cgroup_parent(run: &Path) -> String {
    if run == Path::new(EngineConfig::DEFAULT_RUN) {
        return "/carrack".into();
    }
    // FNV-1a: only has to tell run directories apart.
    let hash =
        run.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    format!("/carrack-{:08x}", hash as u32)
}
