//! Requests to a monitor and its answers.

use std::path::PathBuf;
use std::time::Duration;

use carrack_oci_config::Process;
use carrack_words::{ContainerId, ExecId, Exit, Kind, ProcessId, Timestamp};

use crate::{ExitRecord, NamespaceType, PodState, RestartPolicy, Signal};

/// The version of the protocol that this crate speaks.
pub const PROTOCOL_VERSION: u32 = 1;

/// What a client asks of a monitor.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Opens every connection; answered by [`Response::Hello`], or by an error if the versions do not go together.
    Hello {
        /// [`PROTOCOL_VERSION`] of the client.
        version: u32,
    },
    /// Answered by [`Response::State`].
    State,
    /// Creates a container; answered by [`Response::Created`].
    Create(Box<Create>),
    /// Starts a created container, or one that has exited, anew; answered by [`Response::Started`]. An error to execute its
    /// program has the runtime's text and kind (`NotFound`: no such program, `Denied`: not executable); the container has
    /// exited then.
    Start {
        /// The container.
        id: ContainerId,
    },
    /// Sends a signal to a container; answered by [`Response::Done`]. SIGKILL ends restarts, as a stop does.
    Signal {
        /// The container.
        id: ContainerId,
        /// What is sent.
        signal: Signal,
        /// To whom.
        scope: SignalScope,
    },
    /// Stops a container: `signal` now and SIGKILL to all of it after `timeout`; answered by [`Response::Exited`] once it is dead.
    /// Ends restarts. A second stop joins the first one, and shortens its time if its own is shorter.
    Stop {
        /// The container.
        id: ContainerId,
        /// The first signal.
        signal: Signal,
        /// How long the container may take; zero kills at once.
        timeout: Duration,
    },
    /// Waits for the next exit; answered by [`Response::Exited`], at once if the container has exited for good.
    Wait {
        /// The container.
        id: ContainerId,
    },
    /// Runs a further process in a container; answered by [`Response::ExecStarted`] and later [`Response::ExecExited`].
    Exec(Box<ExecRequest>),
    /// Sends a signal to the process of an exec; answered by [`Response::Done`], also if it has ended.
    ExecKill {
        /// The exec.
        exec_id: ExecId,
        /// What is sent.
        signal: Signal,
    },
    /// Lets an exec go on without the client that began it: it does not end with that client's connection any more. The controlling side
    /// of its terminal comes with the request, if it has one; what it writes there is thrown away from now on. Answered by
    /// [`Response::Done`], also if it has ended.
    ExecDetach {
        /// The exec.
        exec_id: ExecId,
    },
    /// Joins a container's streams; answered by [`Response::Attached`], after which the connection carries stream frames.
    Attach(Attach),
    /// Sets the size of a container's terminal; answered by [`Response::Done`].
    Resize {
        /// The container.
        id: ContainerId,
        /// Rows of characters.
        rows: u16,
        /// Characters in a row.
        columns: u16,
    },
    /// Opens the log's path anew, after a rotation renamed the file; answered by [`Response::Done`]. An error, and no file made,
    /// if the container does not run.
    ReopenLog {
        /// The container.
        id: ContainerId,
    },
    /// Replaces the restart policy; answered by [`Response::Done`].
    UpdateRestart {
        /// The container.
        id: ContainerId,
        /// The policy from now on.
        policy: RestartPolicy,
    },
    /// Kills a container if it runs, removes its runtime state and forgets it; answered by [`Response::Done`], also if it is
    /// unknown.
    Remove {
        /// The container.
        id: ContainerId,
    },
    /// Ends the monitor, which closes the pod's namespaces; answered by [`Response::Done`]. Refused with `Precondition` while a
    /// container is created or runs.
    Shutdown,
}

/// To whom a signal goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalScope {
    /// The container's first process.
    Init,
    /// All processes of the container.
    All,
}

/// A container to be created.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Create {
    /// Its name, unique in the node's state directory.
    pub id: ContainerId,
    /// Directory with `config.json`.
    pub bundle: PathBuf,
    /// Where its root filesystem comes from.
    pub rootfs: Rootfs,
    /// Namespaces to join besides those of the pod, by type; each replaces what `config.json` says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub join: Vec<(NamespaceType, PathBuf)>,
    /// Whether the session keyring is kept (runc's `--no-new-keyring`).
    #[serde(default)]
    pub no_new_keyring: bool,
    /// Where its output is recorded; absent: nowhere.
    pub log: Option<LogTarget>,
    /// Where each [`ExitRecord`] is written; its directory exists.
    pub exit_file: PathBuf,
    /// Whether `config.json` gives it a terminal.
    pub terminal: bool,
    /// Whether its standard input comes from attached clients; otherwise it is `/dev/null`. With a terminal, whether what
    /// clients type reaches it.
    pub stdin: bool,
    /// Whether its standard input ends with that of the first client that brings one.
    pub stdin_once: bool,
    /// When it is started again.
    pub restart: RestartPolicy,
}

/// Where a container's root filesystem comes from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rootfs {
    /// `root.path` of `config.json`.
    Config,
    /// An overlay that the stage mounts inside the container's mount namespace.
    Overlay {
        /// Lower directories, the topmost first.
        lowers: Vec<PathBuf>,
        /// The writable directory.
        upper: PathBuf,
        /// overlayfs's own directory beside it.
        work: PathBuf,
        /// Nothing written is ever synced (overlayfs `volatile`, Linux 5.10), so that ending the container does not wait for the disk. For what
        /// is not started again after a power cut.
        #[serde(default)]
        volatile: bool,
    },
}

/// A log file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LogTarget {
    /// The file; missing directories are made (0755).
    pub path: PathBuf,
    /// What stands in it.
    pub format: LogFormat,
}

/// The form of a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// `TIME STREAM TAG CONTENT`, as the kubelet reads it.
    Cri,
}

/// A process to be run in a container. Without a terminal the request brings three handles: its stdin, stdout and stderr.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ExecRequest {
    /// The container; it must run.
    pub id: ContainerId,
    /// A name for the exec, unique in the pod while it runs.
    pub exec_id: ExecId,
    /// The process, as in `config.json`. If its `terminal` is set, the answer brings the terminal's controlling side.
    pub process: Process,
    /// Whether it is killed when this connection ends before it.
    pub kill_on_disconnect: bool,
}

/// A client that joins a container's streams.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Attach {
    /// The container; not one that has exited for good.
    pub id: ContainerId,
    /// Whether the client brings standard input.
    pub stdin: bool,
    /// Whether it wants standard output (of a terminal: all output).
    pub stdout: bool,
    /// Whether it wants standard error.
    pub stderr: bool,
    /// Whether the container's output waits for this client. Otherwise a client that does not keep up is cut off.
    pub lossless: bool,
}

/// What a monitor answers.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// To [`Request::Hello`].
    Hello {
        /// [`PROTOCOL_VERSION`] of the monitor.
        version: u32,
        /// The monitor.
        monitor: ProcessId,
    },
    /// To [`Request::State`].
    State(Box<PodState>),
    /// To [`Request::Create`].
    Created {
        /// The container's first process.
        process: ProcessId,
    },
    /// To [`Request::Start`].
    Started {
        /// When its program began to run.
        at: Timestamp,
        /// The container's first process; after an exit it is not the one that `Created` named.
        process: ProcessId,
    },
    /// To [`Request::Wait`] and [`Request::Stop`].
    Exited(ExitRecord),
    /// First to [`Request::Exec`]; with a terminal it brings the terminal's controlling side.
    ExecStarted {
        /// The exec.
        exec_id: ExecId,
        /// Its process.
        process: ProcessId,
    },
    /// Second to [`Request::Exec`].
    ExecExited {
        /// The exec.
        exec_id: ExecId,
        /// How it ended.
        exit: Exit,
    },
    /// To [`Request::Attach`]; stream frames follow.
    Attached {
        /// Whether the output is a terminal's.
        terminal: bool,
    },
    /// It is done, and there is nothing to tell.
    Done,
    /// It was not done.
    Error {
        /// The class of the failure.
        kind: Kind,
        /// What was tried and why it failed, with all causes.
        message: String,
    },
}
