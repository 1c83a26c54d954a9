//! Starting a container or an exec from another process, the monitor, without letting it see that process's memory or handles.
//!
//! A stage is a fresh, sealed copy of `carrack-oci` (`carrack-oci stage`). Handle 3 is one end of a stream socket pair; on it the
//! stage gets one [`StageRequest`] and answers with one [`StageReply`], each as a little-endian u32 length and that many bytes of
//! JSON; with the first byte of the reply comes, as handles: a pidfd of the new process, then the terminal if there is one. Handles 0, 1 and 2
//! are the container's own. The new process is a child of the stage's caller, or comes to it as the nearest subreaper when the stage exits.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use carrack_oci_config::Process;
use carrack_sys::exec::{Strings, spawn};
use carrack_sys::fd_passing;
use carrack_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use carrack_sys::rustix::net::{RecvFlags, SendFlags};
use carrack_sys::rustix::process::{Pid, WaitOptions, waitpid};
use carrack_words::{ContainerId, Kind, ProcessId};
use serde::{Deserialize, Serialize};

use crate::seal::Sealed;

/// The number of the handle on which the stage talks.
pub const SOCKET_NUMBER: i32 = 3;
/// Hooks may take their time; a stage that has not answered after this never will.
pub(crate) const DEADLINE: Duration = Duration::from_secs(240);
/// An exec has no hooks; what keeps it waiting is the container, which must not keep its monitor waiting for long.
const EXEC_DEADLINE: Duration = Duration::from_secs(20);
/// Far above any request we make; a longer length is a broken peer.
const MAX_MESSAGE_BYTES: u32 = 16 << 20;

/// Type of a namespace (config-linux.md, "Namespaces"), spelt as in config.json.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceType {
    /// Process ids.
    Pid,
    /// Network.
    Network,
    /// Mounts.
    Mount,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host and domain name.
    Uts,
    /// User and group ids.
    User,
    /// Cgroups.
    Cgroup,
    /// Clocks.
    Time,
}

/// What a stage is to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "a request is made, sent and dropped; there is never more than one")]
pub enum StageRequest {
    /// Create a container; its first process waits for [`crate::start`].
    Create(CreateRequest),
    /// Run one more process in a container.
    Exec(ExecRequest),
}

/// A container to create.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CreateRequest {
    /// Its id.
    pub id: ContainerId,
    /// Absolute path of the directory with config.json.
    pub bundle: PathBuf,
    /// Absolute path of the state directory of all containers.
    pub state_root: PathBuf,
    /// The root file system.
    pub rootfs: Rootfs,
    /// Namespaces to join by path, instead of what config.json says about that type.
    #[serde(default)]
    pub join: Vec<(NamespaceType, PathBuf)>,
    /// Keeps the session keyring of the caller.
    #[serde(default)]
    pub no_new_keyring: bool,
    /// How many handles from 3 on the container's process keeps.
    #[serde(default)]
    pub preserve_fds: u32,
    /// How many of these are sockets that it is told of (sd_listen_fds(3)).
    #[serde(default)]
    pub listen_fds: u32,
    /// Whether it gets a socket to say that it is ready; see [`crate::Notifier`].
    #[serde(default)]
    pub notify: bool,
    /// Whether its cgroup is a scope of systemd's, so that `cgroupsPath` means `slice:prefix:name`.
    #[serde(default)]
    pub systemd_cgroup: bool,
}

/// Where the root file system comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rootfs {
    /// `root.path` of config.json.
    Config,
    /// An overlay, mounted in the container's mount namespace only.
    Overlay {
        /// Read-only layers, the topmost first; at least one.
        lowers: Vec<PathBuf>,
        /// What the container writes.
        upper: PathBuf,
        /// Overlayfs's own directory, on the same file system as `upper`.
        work: PathBuf,
        /// Nothing written is ever synced (overlayfs `volatile`, Linux 5.10), so that ending the container does not wait for the disk. For what
        /// is not started again after a power cut.
        #[serde(default)]
        volatile: bool,
    },
}

/// A process to run in a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// The container.
    pub id: ContainerId,
    /// Absolute path of the state directory of all containers.
    pub state_root: PathBuf,
    /// The process.
    pub process: Process,
    /// Runs it although the container is paused; it starts to run when the container does.
    #[serde(default)]
    pub ignore_paused: bool,
    /// Paths below the container's cgroup, by controller, or one for all hierarchies under an empty name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sub_groups: BTreeMap<String, String>,
    /// How many handles from 3 on the process keeps.
    #[serde(default)]
    pub preserve_fds: u32,
}

/// What a stage answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageReply {
    /// The process is there. Its pidfd comes along, and the terminal if it has one.
    Created {
        /// The process.
        process: ProcessId,
        /// What was left out or clamped.
        #[serde(default)]
        warnings: Vec<String>,
    },
    /// Nothing was created.
    Error {
        /// Class of the failure.
        kind: Kind,
        /// The whole chain of reasons, in the words of runc where callers match on them.
        message: String,
    },
}

/// The container's standard streams. With a terminal, they are what the stage itself gets; `/dev/null` will do.
#[derive(Debug, Clone, Copy)]
pub struct StageStdio<'a> {
    /// Handle 0.
    pub stdin: BorrowedFd<'a>,
    /// Handle 1.
    pub stdout: BorrowedFd<'a>,
    /// Handle 2.
    pub stderr: BorrowedFd<'a>,
}

/// What a stage made.
#[derive(Debug)]
pub struct Staged {
    /// The new process: a child of the caller.
    pub process: ProcessId,
    /// A handle on it.
    pub pidfd: OwnedFd,
    /// The controlling side of its terminal, if it has one.
    pub console: Option<OwnedFd>,
    /// What was left out or clamped, as sentences.
    pub warnings: Vec<String>,
}

/// A stage failed.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// It could not be started.
    #[error("start a stage")]
    Spawn {
        /// Why.
        source: io::Error,
    },
    /// It cannot be talked to.
    #[error("talk to stage {pid}")]
    Talk {
        /// The stage.
        pid: i32,
        /// Why.
        source: io::Error,
    },
    /// It did not answer in time, and was killed.
    #[error("stage {pid} did not answer within {} s", limit.as_secs())]
    Deadline {
        /// The stage.
        pid: i32,
        /// How long it was waited for.
        limit: Duration,
    },
    /// It says that it failed.
    #[error("{message}")]
    Refused {
        /// Class of the failure.
        kind: Kind,
        /// Its words.
        message: String,
    },
}

impl StageError {
    /// Its class.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Spawn { .. } | Self::Talk { .. } => Kind::Internal,
            Self::Deadline { .. } => Kind::Deadline,
            Self::Refused { kind, .. } => *kind,
        }
    }
}

/// Runs one stage and waits until it has created the process or failed; usually some milliseconds, with hooks as long as they take.
///
/// The caller should be a subreaper. It waits for the new process itself; the stage is waited for here.
pub fn spawn_stage(sealed: &Sealed, request: &StageRequest, stdio: StageStdio<'_>) -> Result<Staged, StageError> {
    let failed = |source| StageError::Spawn { source };
    let (here, there) = UnixStream::pair().map_err(failed)?;
    let path = CString::new(carrack_rooted::path_of(sealed).into_os_string().into_encoded_bytes())
        .expect("a path made of a number has no zero byte");
    let arguments = Strings::new(vec![c"carrack-oci".into(), c"stage".into()]);
    let handles = [(stdio.stdin, 0), (stdio.stdout, 1), (stdio.stderr, 2), (there.as_fd(), SOCKET_NUMBER)];
    // The environment of a container comes from its configuration only; a stage needs none.
    let pid = spawn(&path, &arguments, &Strings::new(Vec::new()), &handles).map_err(failed)?;
    drop(there);
    let stage = StageProcess { pid };
    let reply = talk(&here, request, pid);
    if reply.is_err() {
        stage.kill();
    }
    drop(here);
    stage.wait();
    reply
}

fn talk(socket: &UnixStream, request: &StageRequest, pid: i32) -> Result<Staged, StageError> {
    let failed = |source| StageError::Talk { pid, source };
    send_message(socket, request, &[]).map_err(failed)?;
    let limit = match request {
        StageRequest::Create(_) => DEADLINE,
        StageRequest::Exec(_) => EXEC_DEADLINE,
    };
    wait_readable(socket, Instant::now() + limit).map_err(failed)?.ok_or(StageError::Deadline { pid, limit })?;
    let (reply, handles) = receive_message(socket).map_err(failed)?;
    match reply {
        StageReply::Created { process, warnings } => {
            let mut handles = handles.into_iter();
            let pidfd = handles.next().ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))?;
            Ok(Staged { process, pidfd, console: handles.next(), warnings })
        }
        StageReply::Error { kind, message } => Err(StageError::Refused { kind, message }),
    }
}

/// The stage as our child.
struct StageProcess {
    pid: i32,
}

impl StageProcess {
    fn kill(&self) {
        if let Some(pid) = Pid::from_raw(self.pid) {
            // It is our child and not waited for, so the number is still its own; dead already is as good.
            let _ = carrack_sys::rustix::process::kill_process(pid, carrack_sys::rustix::process::Signal::KILL);
        }
    }

    fn wait(self) {
        let pid = Pid::from_raw(self.pid);
        while let Err(error) = waitpid(pid, WaitOptions::empty()) {
            // ECHILD: the caller ignores SIGCHLD, or its loop was faster.
            if error != carrack_sys::rustix::io::Errno::INTR {
                break;
            }
        }
    }
}

pub(crate) fn wait_readable(socket: &UnixStream, deadline: Instant) -> io::Result<Option<()>> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(())),
            Err(carrack_sys::rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sends one message; handles go with its first byte.
pub(crate) fn send_message<T: Serialize>(
    mut socket: &UnixStream,
    message: &T,
    handles: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = (bytes.len() - 4) as u32;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    let sent = fd_passing::send(socket, &bytes, handles, SendFlags::empty())?;
    socket.write_all(&bytes[sent..])
}

/// Receives one message and the handles that came with it.
pub(crate) fn receive_message<T: for<'a> Deserialize<'a>>(mut socket: &UnixStream) -> io::Result<(T, Vec<OwnedFd>)> {
    let mut length = [0; 4];
    let mut handles = Vec::new();
    let got = fd_passing::receive(socket, &mut length, &mut handles, RecvFlags::empty())?;
    if got == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    socket.read_exact(&mut length[got..])?;
    let length = u32::from_le_bytes(length);
    if length > MAX_MESSAGE_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length as usize];
    socket.read_exact(&mut bytes)?;
    Ok((serde_json::from_slice(&bytes)?, handles))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_arrives_with_its_handles() {
        let (here, there) = UnixStream::pair().unwrap();
        let reply = StageReply::Created { process: ProcessId { pid: 4, start_time: 5 }, warnings: vec!["w".into()] };
        send_message(&here, &reply, &[here.as_fd(), there.as_fd()]).unwrap();
        let (got, handles) = receive_message::<StageReply>(&there).unwrap();
        assert_eq!((got, handles.len()), (reply, 2));
    }

    #[test]
    fn a_peer_that_goes_away_or_lies_about_the_length_is_an_error() {
        let (here, there) = UnixStream::pair().unwrap();
        (&here).write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert_eq!(receive_message::<StageReply>(&there).unwrap_err().kind(), io::ErrorKind::InvalidData);
        drop(here);
        assert_eq!(receive_message::<StageReply>(&there).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
