//! The agent that answers for calls which a filter asks about (config-linux.md, "Seccomp", `listenerPath`).
//!
//! ```text
//!  inside                                   outside                          agent
//!    load the filter, which gives a handle
//!    │ ── Listener (its number) ──────────▶ │
//!    │                                      │ takes it (pidfd_getfd(2))
//!    │                                      │ ── process state, handle ────▶ │
//!    │ ◀───────── Continue ──────────────── │
//!    exec                                                                     answers
//! ```
//!
//! What the process inside still does is under the filter already. As with runc it writes and reads, each with the plainest call, so that a
//! profile must allow `write` (and may not ask about it) and either allow `read` or ask about it. It sends no handle: that takes `sendmsg`, which a
//! profile may well ask about, and nobody could answer yet.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use carrack_oci_config::{ContainerProcessState, LinuxSeccomp, State};
use carrack_sys::fd_passing;
use carrack_sys::rustix::net::sockopt::{Timeout, set_socket_timeout};
use carrack_sys::rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with,
};
use carrack_sys::rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use serde::{Deserialize, Serialize};

use crate::step::{Doing, StepError};

/// The name of the one handle that goes along.
const HANDLE_NAME: &str = "seccompFd";
/// An agent that takes neither a connection nor a message for so long is not there.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Absolute path of its socket.
    pub path: PathBuf,
    /// A text for it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub metadata: String,
}

impl Agent {
    /// The one that a profile names; a relative path starts at the bundle.
    pub fn of(profile: &LinuxSeccomp, bundle: &Path) -> Self {
        Self { path: bundle.join(&profile.listener_path), metadata: profile.listener_metadata.clone() }
    }

    /// Takes the handle with this number out of the process behind `pidfd`, and sends it to the agent with what is told of the process.
    pub fn introduce(&self, pidfd: BorrowedFd<'_>, pid: i32, number: i32, state: State) -> Result<(), StepError> {
        let listener = pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty())
            .doing(|| "take the seccomp listener from the container's process")?;
        let told = ContainerProcessState {
            oci_version: carrack_oci_config::VERSION.to_owned(),
            fds: vec![HANDLE_NAME.to_owned()],
            pid,
            metadata: self.metadata.clone(),
            state: Some(state),
        };
        let connection = self.connect().doing(|| {
            format!("failed to connect with seccomp agent specified in the seccomp profile: {}", self.path.display())
        })?;
        send(connection, &told, listener.as_fd()).doing(|| format!("cannot send seccomp fd to {}", self.path.display()))
    }

    fn connect(&self) -> io::Result<UnixStream> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // Of sending, and of connecting too.
        set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
        connect(&socket, &SocketAddrUnix::new(&self.path)?)?;
        Ok(socket.into())
    }
}

fn send(mut agent: UnixStream, told: &ContainerProcessState, listener: BorrowedFd<'_>) -> io::Result<()> {
    let text = serde_json::to_vec(told)?;
    let sent = fd_passing::send(&agent, &text, &[listener], SendFlags::empty())?;
    agent.write_all(&text[sent..])
}
