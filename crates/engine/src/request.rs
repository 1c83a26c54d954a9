//! What a front end asks of the engine.
//!
//! Class 1 input: the operator or the kubelet decides it. Front ends translate their own types to these and decide nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use carrack_monitor_proto::RestartPolicy;
pub use carrack_network::{PortMapping, Protocol};
use carrack_words::{Digest, PodId};
use serde::{Deserialize, Serialize};

/// The network that a pod gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// A namespace of its own on the built-in bridge.
    #[default]
    Bridge,
    /// The host's network namespace.
    Host,
    /// A namespace of its own with nothing but loopback.
    None,
}

/// Whose namespace a pod or container uses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NamespaceMode {
    /// One namespace for the whole pod.
    #[default]
    Pod,
    /// One namespace for each container.
    Container,
    /// The host's.
    Host,
    /// That of another container of the pod.
    Target(String),
}

/// The content of a pod's resolv.conf, where the caller decides it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DnsConfig {
    /// `nameserver` lines.
    pub servers: Vec<String>,
    /// The `search` line.
    pub searches: Vec<String>,
    /// The `options` line.
    pub options: Vec<String>,
}

/// CRI's name of a pod sandbox; unique as a whole (`PodSandboxMetadata`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PodMetadata {
    /// Pod name.
    pub name: String,
    /// Pod uid.
    pub uid: String,
    /// Kubernetes namespace.
    pub namespace: String,
    /// How often the sandbox was made anew.
    pub attempt: u32,
}

/// A pod to be made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PodRequest {
    /// Set for a pod sandbox of CRI; absent for a container that runs without a pod.
    pub metadata: Option<PodMetadata>,
    /// Host name inside the pod; absent means the short id.
    pub hostname: Option<String>,
    /// Network mode.
    pub network: NetworkMode,
    /// Published ports; only with [`NetworkMode::Bridge`].
    pub ports: Vec<PortMapping>,
    /// IPC namespace and `/dev/shm`: `Pod` or `Host`.
    pub ipc: NamespaceMode,
    /// Pid namespace: `Pod`, `Container` or `Host`; what containers get that do not say otherwise.
    pub pid: NamespaceMode,
    /// Absent means the host's real upstream servers.
    pub dns: Option<DnsConfig>,
    /// Lines to add to `/etc/hosts`: address and names.
    pub extra_hosts: Vec<(IpAddr, String)>,
    /// Namespaced kernel parameters of the pod's network and IPC namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Parent cgroup of the pod's group, absolute; absent means the engine's.
    pub cgroup_parent: Option<String>,
    /// Labels, returned unchanged.
    pub labels: BTreeMap<String, String>,
    /// Annotations, returned unchanged.
    pub annotations: BTreeMap<String, String>,
    /// Directory under which the containers' relative log paths lie.
    pub log_directory: Option<PathBuf>,
    /// Size of the pod's `/dev/shm` in bytes; absent means 64 MiB.
    pub shm_size_bytes: Option<u64>,
    /// Privileged containers may be made in it.
    pub privileged: bool,
    /// CRI runtime handler; empty means the native runtime, which is the only one so far.
    pub runtime_handler: String,
}

/// Who a container's process runs as.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UserRequest {
    /// `user[:group]`, names or numbers, as an image's `User`; absent means the image's.
    pub user: Option<String>,
    /// Number that wins over the group above.
    pub group: Option<u32>,
    /// Further supplementary groups.
    pub supplemental_groups: Vec<u32>,
    /// Whether groups that the image's `/etc/group` lists for the user are left out.
    pub strict_groups: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountSource {
    /// A path of the host.
    Bind {
        /// Absolute; symbolic links are followed.
        path: PathBuf,
        /// Whether a missing source is made as a directory (`-v` does, CRI does not).
        create: bool,
    },
    /// A named volume, made when missing and filled from the image at the mount point when new.
    Volume {
        /// The volume's name.
        name: String,
    },
    /// A volume without a name, which goes with the container.
    Anonymous,
    /// Memory.
    Tmpfs {
        /// Mount data, like `size=64m,mode=1777`.
        options: Vec<String>,
    },
}

/// How mounts made on one side show on the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Propagation {
    /// Neither way.
    #[default]
    Private,
    /// From the host into the container.
    HostToContainer,
    /// Both ways.
    Bidirectional,
}

/// One mount of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRequest {
    /// What is mounted.
    pub source: MountSource,
    /// Absolute path in the container.
    pub destination: PathBuf,
    /// Not writable.
    pub readonly: bool,
    /// Mounts below it are not writable either.
    pub recursive_readonly: bool,
    /// Propagation.
    pub propagation: Propagation,
}

/// Additions to and removals from the default capabilities; names without `CAP_`, `ALL` allowed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CapabilityRequest {
    /// Added to all sets but ambient.
    pub add: Vec<String>,
    /// Removed from all sets.
    pub drop: Vec<String>,
    /// Added to all five sets.
    pub add_ambient: Vec<String>,
}

/// Which system calls a container may make.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeccompRequest {
    /// The built-in profile.
    #[default]
    Default,
    /// No filter.
    Unconfined,
    /// A profile in a file of the host.
    File(PathBuf),
}

/// Which AppArmor profile a container runs under.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApparmorRequest {
    /// None: the engine loads no profile of its own yet.
    #[default]
    Unconfined,
    /// A profile loaded in the kernel.
    Profile(String),
}

/// What a container may do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SecurityRequest {
    /// Capabilities.
    pub capabilities: CapabilityRequest,
    /// All capabilities, devices and system calls, nothing masked.
    pub privileged: bool,
    /// System calls.
    pub seccomp: SeccompRequest,
    /// AppArmor.
    pub apparmor: ApparmorRequest,
    /// Set `no_new_privs`.
    pub no_new_privileges: bool,
    /// Hidden paths; absent means the defaults.
    pub masked_paths: Option<Vec<String>>,
    /// Read-only paths; absent means the defaults.
    pub readonly_paths: Option<Vec<String>>,
    /// The root filesystem is not writable.
    pub readonly_rootfs: bool,
}

/// A host device that a container gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRequest {
    /// Path on the host; a directory stands for all devices in it.
    pub host_path: PathBuf,
    /// Path in the container.
    pub container_path: PathBuf,
    /// Letters of `rwm`.
    pub permissions: String,
}

/// Limits of a container; absent means unlimited.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ResourceRequest {
    /// Relative weight, 2 to 262144.
    pub cpu_shares: Option<u64>,
    /// Microseconds of run time in a period.
    pub cpu_quota_usec: Option<i64>,
    /// The period in microseconds.
    pub cpu_period_usec: Option<u64>,
    /// CPU list.
    pub cpuset_cpus: Option<String>,
    /// Memory node list.
    pub cpuset_mems: Option<String>,
    /// Memory in bytes.
    pub memory_bytes: Option<i64>,
    /// Memory and swap together in bytes.
    pub memory_swap_bytes: Option<i64>,
    /// Tasks.
    pub pids: Option<i64>,
    /// Huge pages: page size (like `2MB`) and bytes.
    pub hugepages: Vec<(String, u64)>,
    /// Files of cgroup v2 and their values.
    pub unified: BTreeMap<String, String>,
    /// The first process's score for the out-of-memory killer.
    pub oom_score_adj: Option<i32>,
}

/// A container to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRequest {
    /// Name: unique on the node for containers without a pod, unique with `attempt` inside a pod sandbox. Absent means made up.
    pub name: Option<String>,
    /// CRI's attempt.
    pub attempt: u32,
    /// Id of the image (digest of its config).
    pub image: Digest,
    /// How the caller named the image.
    pub image_name: String,
    /// Replaces the image's entrypoint and, unless `args` are given, clears its command.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    pub args: Option<Vec<String>>,
    /// `NAME=value`, after the image's.
    pub env: Vec<String>,
    /// Absent means the image's, else `/`.
    pub working_dir: Option<String>,
    /// User.
    pub user: UserRequest,
    /// Mounts beside those every container has.
    pub mounts: Vec<MountRequest>,
    /// Devices.
    pub devices: Vec<DeviceRequest>,
    /// A pseudo-terminal.
    pub terminal: bool,
    /// Standard input stays open.
    pub stdin: bool,
    /// Standard input is closed when the first attached client goes.
    pub stdin_once: bool,
    /// Limits.
    pub resources: ResourceRequest,
    /// Rights.
    pub security: SecurityRequest,
    /// Pid namespace; absent means as the pod says.
    pub pid: Option<NamespaceMode>,
    /// Labels, returned unchanged.
    pub labels: BTreeMap<String, String>,
    /// Annotations, returned unchanged.
    pub annotations: BTreeMap<String, String>,
    /// Log file: relative to the pod's log directory; absent means none in a pod sandbox, and the engine's own file otherwise.
    pub log_path: Option<PathBuf>,
    /// Signal number; absent means the image's, else SIGTERM.
    pub stop_signal: Option<u8>,
    /// How long a stop waits before it kills; absent means ten seconds.
    pub stop_timeout: Option<Duration>,
    /// Restart policy.
    pub restart: RestartPolicy,
    /// Removed after its exit.
    pub auto_remove: bool,
}

impl ContainerRequest {
    /// A container of `image` with nothing said but that.
    pub fn of_image(image: Digest, image_name: impl Into<String>) -> Self {
        Self {
            name: None,
            attempt: 0,
            image,
            image_name: image_name.into(),
            entrypoint: None,
            args: None,
            env: Vec::new(),
            working_dir: None,
            user: UserRequest::default(),
            mounts: Vec::new(),
            devices: Vec::new(),
            terminal: false,
            stdin: false,
            stdin_once: false,
            resources: ResourceRequest::default(),
            security: SecurityRequest::default(),
            pid: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            log_path: None,
            stop_signal: None,
            stop_timeout: None,
            restart: RestartPolicy::No,
            auto_remove: false,
        }
    }
}

/// A program to run in a running container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecRequest {
    /// Program and arguments.
    pub args: Vec<String>,
    /// `NAME=value`, after the container's.
    pub env: Vec<String>,
    /// Absent means the container's.
    pub working_dir: Option<String>,
    /// `user[:group]`; absent means the container's user and groups.
    pub user: Option<String>,
    /// A pseudo-terminal.
    pub terminal: bool,
    /// All capabilities.
    pub privileged: bool,
}

/// Which pods a list shows; all that are set must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodFilter {
    /// Id or unique prefix.
    pub id: Option<String>,
    /// Ready or not.
    pub ready: Option<bool>,
    /// Labels that must be there with these values.
    pub labels: BTreeMap<String, String>,
    /// Whether pods made for a single container are shown.
    pub include_single: bool,
}

/// Which containers a list shows; all that are set must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerFilter {
    /// Id or unique prefix.
    pub id: Option<String>,
    /// The pod.
    pub pod: Option<PodId>,
    /// Labels that must be there with these values.
    pub labels: BTreeMap<String, String>,
    /// Whether containers without a pod sandbox are shown.
    pub include_single: bool,
    /// Whether containers of pod sandboxes are shown.
    pub include_sandboxed: bool,
}
