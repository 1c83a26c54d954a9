//! The pod's run directory: configuration, socket, streams.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use carrack_monitor_proto::{POD_CONFIG_FILE, PodConfig, SOCKET_FILE};
use carrack_sys::rustix::fs::{FlockOperation, flock};
use carrack_sys::rustix::io::Errno;
use carrack_sys::rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use carrack_words::ContainerId;

use crate::error::MonitorError;

const STREAMS: &str = "streams";
/// Clients that may wait to be accepted; the loop accepts whenever it comes by.
const BACKLOG: i32 = 128;

/// A pod's run directory in which no monitor is and none can begin for as long as this lives.
#[derive(Debug)]
pub struct Vacant {
    _handle: Option<File>,
}

impl Vacant {
    /// Claims the directory at once; `None` if a monitor has it, be it one that does not take requests yet. A directory that is not
    /// there is vacant.
    pub fn claim(directory: &Path) -> io::Result<Option<Self>> {
        let handle = match File::open(directory) {
            Ok(handle) => handle,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(Self { _handle: None })),
            Err(error) => return Err(error),
        };
        match flock(&handle, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { _handle: Some(handle) })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// The run directory, locked until [`RunDir::unlock`]: one monitor to a pod.
#[derive(Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    handle: File,
}

impl RunDir {
    /// Opens the directory.
    pub(crate) fn open(path: &Path) -> Result<Self, MonitorError> {
        let file_error = |action, source| MonitorError::File { action, path: path.to_owned(), source };
        let absolute = fs::canonicalize(path).map_err(|source| file_error("find", source))?;
        let handle = File::open(&absolute).map_err(|source| file_error("open", source))?;
        Ok(Self { path: absolute, handle })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the pod's configuration.
    pub(crate) fn config(&self) -> Result<PodConfig, MonitorError> {
        let path = self.path.join(POD_CONFIG_FILE);
        let bytes =
            fs::read(&path).map_err(|source| MonitorError::File { action: "read", path: path.clone(), source })?;
        PodConfig::parse(&bytes).map_err(|source| MonitorError::Config { path, source })
    }

    /// Makes this process the pod's only monitor.
    pub(crate) fn lock(&self, config: &PodConfig) -> Result<(), MonitorError> {
        match flock(&self.handle, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(()),
            Err(Errno::WOULDBLOCK) => Err(MonitorError::AlreadyRunning { pod: config.id.clone() }),
            Err(error) => Err(MonitorError::File { action: "lock", path: self.path.clone(), source: error.into() }),
        }
    }

    /// Where a container's FIFOs are.
    pub(crate) fn streams_of(&self, id: &ContainerId) -> PathBuf {
        self.path.join(STREAMS).join(id.as_str())
    }

    /// Opens the socket for clients; one that an earlier monitor left is replaced.
    pub(crate) fn listen(&self) -> Result<OwnedFd, MonitorError> {
        self.remove_socket();
        let path = self.path.join(SOCKET_FILE);
        self.try_listen(&path).map_err(|source| MonitorError::File { action: "listen on", path, source })
    }

    fn try_listen(&self, path: &Path) -> io::Result<OwnedFd> {
        // By the directory's handle, since a socket's path is bounded by 107 bytes and the directory's is not.
        let short = format!("/proc/self/fd/{}/{SOCKET_FILE}", self.handle.as_raw_fd());
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        bind(&socket, &SocketAddrUnix::new(short)?)?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        listen(&socket, BACKLOG)?;
        Ok(socket)
    }

    /// Gives the directory free for whoever cleans up: this monitor takes no requests any more and makes nothing there.
    pub(crate) fn unlock(&self) {
        self.remove_socket();
        // Unlocking one's own handle does not fail; if it did, the lock would end with the process.
        let _ = flock(&self.handle, FlockOperation::Unlock);
    }

    /// Removes the socket; that there is none is fine.
    fn remove_socket(&self) {
        // What cannot be removed is replaced or refused when the next monitor listens.
        let _ = fs::remove_file(self.path.join(SOCKET_FILE));
    }
}

#[cfg(test)]
mod tests {
    use super::Vacant;
    use crate::test_dir::TestDir;

    #[test]
    fn a_directory_is_claimed_once_and_a_missing_one_always() {
        let directory = TestDir::new();
        let held = Vacant::claim(directory.path()).expect("the directory can be locked");
        assert!(held.is_some());
        assert!(Vacant::claim(directory.path()).expect("a held directory is no failure").is_none());
        drop(held);
        assert!(Vacant::claim(directory.path()).expect("the directory can be locked").is_some());
        assert!(Vacant::claim(&directory.path().join("missing")).expect("absence is no failure").is_some());
    }
}
