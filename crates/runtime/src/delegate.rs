//! Work that has to be done in other namespaces than the runtime's.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use carrack_sys::clone::{ChildOf, CloneRequest, Cloned, clone3, exit_now};
use carrack_sys::fd_passing;
use carrack_sys::namespace::Namespaces;
use carrack_sys::rustix::io::retry_on_intr;
use carrack_sys::rustix::net::{RecvFlags, SendFlags};
use carrack_sys::rustix::process::{WaitId, WaitIdOptions, waitid};

/// Has a handle made by a child process, which may change namespaces for it.
pub fn by_child(make: impl FnOnce() -> io::Result<OwnedFd>) -> io::Result<io::Result<OwnedFd>> {
    let (here, there) = UnixStream::pair()?;
    let request = CloneRequest { new: Namespaces::empty(), child_of: ChildOf::Caller, into_cgroup: None };
    let Cloned::Parent { pidfd, .. } = clone3(&request)? else {
        let made = make();
        let number = made.as_ref().err().and_then(io::Error::raw_os_error).unwrap_or(0);
        let handles: Vec<_> = made.as_ref().ok().map(AsFd::as_fd).into_iter().collect();
        // If the runtime is gone, nobody has to know.
        let _ = fd_passing::send(&there, &number.to_le_bytes(), &handles, SendFlags::empty());
        exit_now(0)
    };
    drop(there);
    let (mut number, mut handles) = ([0; 4], Vec::new());
    let received = fd_passing::receive(&here, &mut number, &mut handles, RecvFlags::empty());
    retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED))?;
    if received? != number.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(handles.pop().ok_or_else(|| io::Error::from_raw_os_error(i32::from_le_bytes(number))))
}
