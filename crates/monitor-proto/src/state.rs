//! What a monitor tells about its pod.

use std::path::PathBuf;

use carrack_words::{ContainerId, PodId, ProcessId, Timestamp};

use crate::{ExitRecord, NamespaceType, RestartPolicy};

/// The pod as its monitor sees it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PodState {
    /// The pod.
    pub id: PodId,
    /// The monitor itself.
    pub monitor: ProcessId,
    /// First process of a shared PID namespace; absent if containers do not share one, or if it died.
    pub pod_init: Option<ProcessId>,
    /// The namespaces that the monitor holds or knows, by a path that lives as long as the monitor.
    pub namespaces: Vec<(NamespaceType, PathBuf)>,
    /// All containers not yet removed.
    pub containers: Vec<ContainerState>,
}

/// One container as its monitor sees it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ContainerState {
    /// The container.
    pub id: ContainerId,
    /// Where it stands.
    pub phase: ContainerPhase,
    /// The policy in force.
    pub restart: RestartPolicy,
    /// Restarts so far, since it was started by hand.
    pub restart_count: u32,
}

/// Where a container stands.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerPhase {
    /// Its first process waits to be started.
    Created {
        /// That process.
        process: ProcessId,
    },
    /// Its program runs.
    Running {
        /// Its first process.
        process: ProcessId,
        /// Since when.
        since: Timestamp,
    },
    /// It ended, and the policy will start it again.
    BackOff {
        /// The last exit.
        last: ExitRecord,
        /// When it is due.
        until: Timestamp,
    },
    /// It ended for good.
    Exited {
        /// The last exit.
        last: ExitRecord,
    },
}
