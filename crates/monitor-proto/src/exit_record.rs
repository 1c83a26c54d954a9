//! `exit.json`: how a container ended.

use carrack_words::{ContainerId, Exit, Timestamp};

/// What the monitor records of an exit before it tells anybody; a later exit of the same container replaces it.
///
/// Written aside and renamed into place, never synced: it dies with the machine, whose reboot says "exited" by itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ExitRecord {
    /// Version of this record; [`ExitRecord::VERSION`].
    pub version: u32,
    /// Whose exit it is.
    pub id: ContainerId,
    /// How the container's first process ended.
    pub exit: Exit,
    /// Whether the kernel killed a process of the container for want of memory, its first or another.
    #[serde(default)]
    pub oom_killed: bool,
    /// When its program began to run; absent if it never did.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// When the monitor saw the end.
    pub finished_at: Timestamp,
    /// How often the policy restarted the container before this exit, since it was started by hand.
    #[serde(default)]
    pub restart_count: u32,
    /// Whether the policy starts it again; then this is not its last exit.
    #[serde(default)]
    pub will_restart: bool,
    /// Why it ended, where the exit alone does not say it: it could not be started again, or was never started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl ExitRecord {
    /// The version this program writes.
    pub const VERSION: u32 = 1;
}
