//! A process named so that a reused pid is not mistaken for it.

/// Pid and start time; a bare pid is a number that used to be someone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct ProcessId {
    /// Pid in the reader's pid namespace.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`: clock ticks since boot at which the process started.
    pub start_time: u64,
}
