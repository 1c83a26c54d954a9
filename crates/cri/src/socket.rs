//! The unix socket on which the interface is served.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use carrack_sys::rustix;
use carrack_words::Kind;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::UnixListener;

/// Where the socket is, unless the operator says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/carrack/carrack.sock";

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// The socket cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A server answers there.
    #[error("socket {} is in use: a server answers on it", path.display())]
    InUse {
        /// The socket's path.
        path: PathBuf,
    },
    /// Something that is not a socket is in the way.
    #[error("{} exists and is not a socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The system failed.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl SocketError {
    /// Its class.
    pub fn kind(&self) -> Kind {
        match self {
            Self::InUse { .. } => Kind::AlreadyExists,
            Self::NotASocket { .. } => Kind::Precondition,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Kind::Denied,
            Self::Io { .. } => Kind::Internal,
        }
    }
}

/// The socket's file. It is removed when this goes out of scope, unless another server's has taken its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// The file itself: as long as this is open, its inode's number goes to no other file.
    file: OwnedFd,
}

impl SocketFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let inode = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
        let found = rustix::fs::lstat(&self.path).map(inode);
        let is_ours = found.is_ok() && found == rustix::fs::fstat(&self.file).map(inode);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "remove socket");
        }
    }
}

/// Listens at `path`, for root only (mode 0600). Missing parent directories are made, for root only. A socket on which nobody
/// answers is what a killed server left, and is replaced.
///
/// Must be called within a tokio runtime.
pub fn listen(path: &Path) -> Result<(UnixListener, SocketFile), SocketError> {
    let fail = |action| move |source| SocketError::Io { action, path: path.to_owned(), source };
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(fail("make the directory of socket"))?;
    // Two servers that start at once look one after the other, so that the second one finds the first.
    let directory = rustix::fs::open(parent, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| fail("open the directory of socket")(errno.into()))?;
    rustix::fs::flock(&directory, FlockOperation::LockExclusive)
        .map_err(|errno| fail("lock the directory of socket")(errno.into()))?;
    remove_stale(path)?;
    let listener = bind(path).map_err(fail("listen on socket"))?;
    let file = rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| fail("look at socket")(errno.into()))?;
    Ok((listener, SocketFile { path: path.to_owned(), file }))
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // A unix socket's file gets the mode of its inode at bind(2): set before, there is no moment at which others may connect.
    rustix::fs::fchmod(socket.as_fd(), Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    UnixListener::from_std(socket.into())
}

fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let fail = |action| move |source| SocketError::Io { action, path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(fail("look at socket")(error)),
        Ok(facts) if !facts.file_type().is_socket() => return Err(SocketError::NotASocket { path: path.to_owned() }),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(SocketError::InUse { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(fail("remove stale socket"))
        }
        // EAGAIN: its queue is full, so somebody listens.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(SocketError::InUse { path: path.to_owned() }),
        Err(error) => Err(fail("try socket")(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    struct Directory(PathBuf);

    impl Directory {
        fn new() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            Self(std::env::temp_dir().join(format!("carrack-cri-socket-{}-{number}", std::process::id())))
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test]
    async fn the_socket_is_for_root_only_and_goes_away() {
        let directory = Directory::new();
        let path = directory.0.join("a/b/test.sock");
        let (listener, file) = listen(&path).expect("a socket");
        let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&directory.0.join("a/b"))), (0o600, 0o700));
        drop(listener);
        drop(file);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
        let directory = Directory::new();
        let path = directory.0.join("test.sock");
        let (listener, file) = listen(&path).expect("a socket");
        assert!(matches!(listen(&path), Err(SocketError::InUse { .. })));
        drop(listener);
        let (second, second_file) = listen(&path).expect("nobody answers any more");
        // The first server's end must not take the second one's socket away.
        drop(file);
        assert!(path.exists());
        assert!(UnixStream::connect(&path).is_ok());
        drop((second, second_file));
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_is_no_socket_stays() {
        let directory = Directory::new();
        fs::create_dir_all(&directory.0).expect("a directory");
        let path = directory.0.join("notes");
        fs::write(&path, "mine").expect("a file");
        assert!(matches!(listen(&path), Err(SocketError::NotASocket { .. })));
        assert_eq!(fs::read_to_string(&path).expect("still there"), "mine");
    }
}
