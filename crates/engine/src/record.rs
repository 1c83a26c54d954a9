//! What the engine keeps of pods and containers in the store.
//!
//! Records are JSON with a `version`. A record is written before the effects that it announces, and again after them, so that a crash
//! between the two is seen ([`PodStage::Making`]).

use std::net::IpAddr;
use std::path::PathBuf;

use carrack_words::{ContainerId, Digest, PodId, ProcessId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::request::{ContainerRequest, PodRequest, PortMapping};
use crate::spec::ImageProcess;
use crate::view::{MountView, UserView};

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PodRecord {
    /// [`PodRecord::VERSION`].
    pub version: u32,
    pub id: PodId,
    pub request: PodRequest,
    pub created_at: Timestamp,
    pub stage: PodStage,
    /// The boot in which its effects were made; after another boot they are gone.
    pub boot_id: String,
    /// Absent without a namespace of its own.
    pub network_namespace: Option<PathBuf>,
    pub addresses: Vec<IpAddr>,
    /// With the host ports that were chosen.
    pub ports: Vec<PortMapping>,
}

/// Whether a pod's effects (namespaces, addresses, monitor) are there.
///
/// ```text
/// Idle ──▶ Making ──▶ Ready ──▶ Idle
///             └────────────────────▲   rolled back
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PodStage {
    /// None of them: not yet, or not any more.
    Idle,
    /// Being made by whoever holds the pod's lock; if nobody does, left half-made.
    Making,
    /// All of them.
    Ready,
}

impl PodRecord {
    pub const VERSION: u32 = 1;

    /// A pod made for one container.
    pub fn is_single(&self) -> bool {
        self.request.metadata.is_none()
    }
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    /// [`ContainerRecord::VERSION`].
    pub version: u32,
    pub id: ContainerId,
    pub name: String,
    pub pod: PodId,
    pub sandboxed: bool,
    pub request: ContainerRequest,
    pub image: Digest,
    /// What the image said of the process when the container was made; the image may go.
    pub image_process: ImageProcess,
    /// Lower directories of the root filesystem, topmost first.
    pub lowers: Vec<PathBuf>,
    /// The layer whose directory the root's owner and mode come from.
    pub root_attributes: Option<PathBuf>,
    pub created_at: Timestamp,
    pub args: Vec<String>,
    pub user: UserView,
    /// The user's home directory.
    pub home: String,
    pub mounts: Vec<MountView>,
    /// Volumes without a name, which go with the container.
    pub anonymous_volumes: Vec<String>,
    pub log_path: Option<PathBuf>,
    pub stop_signal: u8,
    /// The boot in which it was last started; absent if it never was.
    pub started_in_boot: Option<String>,
    /// When that was; restarts by its policy come later, and are known to its monitor. Absent if it never was, or by an older engine.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// Why its last start failed.
    pub start_error: Option<StartFailure>,
    /// The operator stopped it: policies other than `always` leave it so after a reboot.
    pub stopped: bool,
    /// The process that made this record; a container that was to be removed and was never started ends with it.
    pub maker: ProcessId,
}

/// A start that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StartFailure {
    pub at: Timestamp,
    pub message: String,
    /// The exit code to show.
    pub code: i32,
}

impl ContainerRecord {
    pub const VERSION: u32 = 1;
}
