//! Readiness of a container, told to whoever supervises the runtime (sd_notify(3), `NOTIFY_SOCKET`), as runc does.
//!
//! ```text
//!  program in the container ──READY=1──▶ /run/notify/notify.sock = <state>/<id>/notify/notify.sock ──▶ we ──READY=1, MAINPID, BARRIER──▶ supervisor
//! ```
//!
//! The container never sees the supervisor's own socket: of what it says, only that it is ready is passed on.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use carrack_oci_config::{Mount, Spec};
use carrack_sys::fd_passing;
use carrack_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use carrack_sys::rustix::fs::Mode;
use carrack_sys::rustix::io::{Errno, retry_on_intr};
use carrack_sys::rustix::net::SendFlags;
use carrack_sys::rustix::pipe::{PipeFlags, pipe_with};
use carrack_sys::rustix::process::{Pid, PidfdFlags, pidfd_open, umask};
use carrack_words::ProcessId;

use crate::process_stat;
use crate::state_dir::{NOTIFY_SOCKET, StateDir};

/// Where the container finds its socket.
const DIRECTORY_INSIDE: &str = "/run/notify";
/// How long a supervisor may take to say that it has heard; systemd's own clients wait as long.
const BARRIER_SECONDS: i64 = 30;
/// Longer messages are cut off; readiness stands in a few bytes.
const MAX_MESSAGE_BYTES: usize = 4096;

/// Gives a container the directory of its socket, and tells its program.
pub(crate) fn add_to(spec: &mut Spec, state: &StateDir) {
    spec.mounts.push(Mount {
        destination: DIRECTORY_INSIDE.into(),
        source: state.notify_directory().display().to_string(),
        options: ["bind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned).to_vec(),
        ..Mount::default()
    });
    if let Some(process) = &mut spec.process {
        process.env.push(format!("NOTIFY_SOCKET={DIRECTORY_INSIDE}/{NOTIFY_SOCKET}"));
    }
}

/// The container's socket, and the supervisor's address.
#[derive(Debug)]
pub struct Notifier {
    socket: UnixDatagram,
    supervisor: SocketAddr,
}

impl AsFd for Notifier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Notifier {
    /// Binds the socket of a container, which must not run yet. `supervisor` is the runtime's own `NOTIFY_SOCKET`; with an `@` in front it is in the
    /// abstract namespace. Nothing if the container was created without one.
    pub fn bind(state: &StateDir, supervisor: &str) -> io::Result<Option<Self>> {
        let supervisor = match supervisor.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(supervisor)?,
        };
        if !state.notify_directory().exists() {
            return Ok(None);
        }
        let path = state.notify_socket();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // For whoever the program runs as. Not by path afterwards: the container may have made the directory writable and put a link there.
        let before = umask(Mode::empty());
        let socket = UnixDatagram::bind(&path);
        umask(before);
        let socket = socket?;
        socket.set_nonblocking(true)?;
        Ok(Some(Self { socket, supervisor }))
    }

    /// Reads what the container has said, without waiting. When it is ready, `main_pid` is told as the process to watch, and the answer ends when the
    /// supervisor has heard.
    pub fn pass_on(&self, main_pid: i32) -> io::Result<Option<OwnedFd>> {
        let mut buffer = [0; MAX_MESSAGE_BYTES];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(length) => {
                    if let Some(ready) =
                        buffer[..length].split(|&byte| byte == b'\n').find(|line| line.starts_with(b"READY="))
                    {
                        return self.tell(ready, main_pid).map(Some);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Never waits: a supervisor whose queue is full is not told.
    fn tell(&self, ready: &[u8], main_pid: i32) -> io::Result<OwnedFd> {
        let supervisor = UnixDatagram::unbound()?;
        supervisor.set_nonblocking(true)?;
        supervisor.connect_addr(&self.supervisor)?;
        supervisor.send(&[ready, b"\n"].concat())?;
        supervisor.send(format!("MAINPID={main_pid}\n").as_bytes())?;
        // The supervisor closes our handle when it has come to this message, and so has read those before.
        let (heard, barrier) = pipe_with(PipeFlags::CLOEXEC)?;
        fd_passing::send(&supervisor, b"BARRIER=1", &[barrier.as_fd()], SendFlags::empty())?;
        Ok(heard)
    }

    /// Waits until the container is ready and the supervisor has heard of it, or its first process has ended; that is the one to watch.
    pub fn wait(&self, init: ProcessId) -> io::Result<()> {
        let pid = Pid::from_raw(init.pid).ok_or(Errno::SRCH)?;
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Ok(()),
            other => other?,
        };
        let mut is_over = !process_stat::is_alive(init)?;
        loop {
            if let Some(heard) = self.pass_on(init.pid)? {
                let timeout = Timespec { tv_sec: BARRIER_SECONDS, tv_nsec: 0 };
                retry_on_intr(|| poll(&mut [PollFd::new(&heard, PollFlags::IN)], Some(&timeout)))?;
                return Ok(());
            }
            if is_over {
                return Ok(());
            }
            let mut fds = [PollFd::new(&handle, PollFlags::IN), PollFd::new(&self.socket, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            is_over = !fds[0].revents().is_empty();
        }
    }
}
