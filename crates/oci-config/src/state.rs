//! The state of a container (runtime.md, "State"), with the keys runc adds.

use std::collections::BTreeMap;
use std::fmt;

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// `create` is at work, or died at it.
    Creating,
    /// Ready for `start`.
    Created,
    /// The user's program runs.
    Running,
    /// Frozen.
    Paused,
    /// The program has ended.
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        })
    }
}

/// What `state` prints and hooks read.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Version of the specification.
    pub oci_version: String,
    /// The container.
    pub id: String,
    /// The first process as the reader sees it; 0 when stopped.
    #[serde(default)]
    pub pid: i32,
    /// Where it is in its life.
    pub status: Status,
    /// Absolute path of the bundle.
    pub bundle: String,
    /// Absolute path of the root file system; empty in what hooks read.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rootfs: String,
    /// RFC 3339 time of creation; empty in what hooks read.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub created: String,
    /// From config.json.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Name of the owner of the state directory; runc prints it even if empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

wire! {
    /// What the agent of a seccomp listener gets.
    pub struct ContainerProcessState {
        req {
            /// Version of the specification.
            oci_version: String,
            /// Names of the handles sent along, in order.
            fds: Vec<String>,
            /// The process in the runtime's pid namespace.
            pid: i32,
        }
        opt {
            /// From `listenerMetadata`.
            metadata: String,
            /// The container.
            state: Option<State>,
        }
    }
}
