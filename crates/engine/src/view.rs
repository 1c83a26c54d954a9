//! What the engine tells of pods and containers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use carrack_words::{ContainerId, Digest, Exit, PodId, ProcessId, Timestamp};
use serde::Serialize;

use crate::request::{ContainerRequest, NetworkMode, PodRequest, PortMapping};

/// A pod as it is now.
#[derive(Debug, Clone, Serialize)]
pub struct PodView {
    /// Id.
    pub id: PodId,
    /// As it was asked for.
    pub request: PodRequest,
    /// Its namespaces and its monitor are there.
    pub ready: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Addresses on the built-in bridge, IPv4 first; none with the host's network.
    pub addresses: Vec<IpAddr>,
    /// Published ports, with the host ports that were chosen.
    pub ports: Vec<PortMapping>,
    /// The pinned network namespace, if it has one of its own.
    pub network_namespace: Option<PathBuf>,
    /// The pod's monitor.
    pub monitor: Option<ProcessId>,
}

/// Where a container is in its life.
///
/// ```text
/// Created ──▶ Running ──▶ Exited
///    └───────────────────────▲      (Restarting lies between Running and Running)
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Phase {
    /// Made, not started.
    Created,
    /// Its first process lives.
    Running {
        /// First process, in the host's pid namespace.
        process: ProcessId,
        /// Since when.
        started_at: Timestamp,
    },
    /// It ended and its restart policy will start it again.
    Restarting {
        /// The last end.
        last: Ended,
    },
    /// It ended.
    Exited(Ended),
    /// Nobody can tell: its monitor was killed while its process lives on.
    Unknown,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// Code or signal; absent when nobody was there to see it (reboot, killed monitor) or it never started.
    pub exit: Option<Exit>,
    /// The number to show: `exit`'s code, 255 when nobody saw it. When it could not be started: 128 in a pod sandbox, else 127 for a program
    /// that is not there, 126 for one that cannot be executed, 125 for everything else.
    pub code: i32,
    /// The kernel killed one of its processes for want of memory.
    pub oom_killed: bool,
    /// When it last ran; absent if it never did.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Timestamp,
    /// Why it could not be started, or why its end is not known.
    pub message: Option<String>,
}

impl Phase {
    /// The word that tables show.
    pub fn name(&self) -> &'static str {
        match self {
            Phase::Created => "created",
            Phase::Running { .. } => "running",
            Phase::Restarting { .. } => "restarting",
            Phase::Exited(_) => "exited",
            Phase::Unknown => "unknown",
        }
    }
}

/// A mount of a container, as it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct MountView {
    /// Path on the host; absent for memory.
    pub host_path: Option<PathBuf>,
    /// The volume's name, if it is one.
    pub volume: Option<String>,
    /// Path in the container.
    pub destination: PathBuf,
    /// Not writable.
    pub readonly: bool,
    /// Mounts below it are not writable either.
    pub recursive_readonly: bool,
    /// Propagation.
    pub propagation: crate::request::Propagation,
}

/// The ids that a container's first process runs with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, serde::Deserialize)]
pub struct UserView {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// What a container's first process is, of what was asked for and what its image says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ProcessView {
    /// What comes before the command.
    pub entrypoint: Vec<String>,
    /// The command, or the entrypoint's arguments.
    pub command: Vec<String>,
    /// Variables, without those that every container has.
    pub env: Vec<String>,
    /// Working directory; empty means the root.
    pub working_dir: String,
    /// User as it was asked for; empty means the image's.
    pub user: String,
}

/// A container as it is now.
#[derive(Debug, Clone, Serialize)]
pub struct ContainerView {
    /// Id.
    pub id: ContainerId,
    /// Name.
    pub name: String,
    /// The pod that it is in.
    pub pod: PodId,
    /// Whether that pod is a pod sandbox of CRI.
    pub sandboxed: bool,
    /// As it was asked for.
    pub request: ContainerRequest,
    /// The image's id.
    pub image: Digest,
    /// Where it is in its life.
    pub phase: Phase,
    /// When it was made.
    pub created_at: Timestamp,
    /// How often the restart policy started it again.
    pub restart_count: u32,
    /// Program and arguments.
    pub args: Vec<String>,
    /// The first process.
    pub process: ProcessView,
    /// Ids of the first process.
    pub user: UserView,
    /// Mounts beside those every container has.
    pub mounts: Vec<MountView>,
    /// Absolute path of the log; absent if it has none.
    pub log_path: Option<PathBuf>,
    /// Signal that a stop sends.
    pub stop_signal: u8,
    /// Addresses of its pod.
    pub addresses: Vec<IpAddr>,
    /// Published ports of its pod.
    pub ports: Vec<PortMapping>,
    /// The same as they were asked for; those that run have chosen ones.
    pub wanted_ports: Vec<PortMapping>,
    /// Network of its pod.
    pub network: NetworkMode,
    /// Host name in its pod; empty if that is the host's.
    pub hostname: String,
    /// Labels of the container.
    pub labels: BTreeMap<String, String>,
}

/// What a finished [`crate::Engine::exec_sync`] brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// Standard output, cut at the limit.
    pub stdout: Vec<u8>,
    /// Standard error, cut at the limit.
    pub stderr: Vec<u8>,
    /// How the program ended.
    pub exit: Exit,
}
