//! New processes by clone3(2).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::namespace::Namespaces;

/// Whose child the new process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildOf {
    /// The caller's, as with fork(2).
    Caller,
    /// The caller's parent's, which is told by the caller's own exit signal.
    Parent,
}

/// How to make a process.
#[derive(Debug)]
pub struct CloneRequest<'a> {
    /// Namespaces that are new for it.
    pub new: Namespaces,
    /// Whose child it is.
    pub child_of: ChildOf,
    /// The directory of a cgroup of version 2 in which it is born (Linux 5.7).
    pub into_cgroup: Option<BorrowedFd<'a>>,
}

/// Which side of the call goes on.
#[derive(Debug)]
pub enum Cloned {
    /// The caller.
    Parent {
        /// The new process in the caller's pid namespace.
        pid: i32,
        /// A handle on it.
        pidfd: OwnedFd,
    },
    /// The new process, on a copy of the caller's memory.
    Child,
}

#[repr(C, align(8))]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// `CLONE_INTO_CGROUP` of `linux/sched.h`, which does not fit the C library's type.
const INTO_CGROUP: u64 = 0x2_0000_0000;

/// Makes a process (clone3(2), Linux 5.3). Only a process with one thread may: with more, a lock of the allocator could stay locked
/// in the copy for ever, so the call is refused with `EBUSY`.
pub fn clone3(request: &CloneRequest<'_>) -> io::Result<Cloned> {
    if !is_single_threaded() {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    let mut pidfd: libc::c_int = -1;
    let mut args = CloneArgs {
        flags: u64::from(request.new.bits()) | libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if request.child_of == ChildOf::Parent {
        // The kernel takes the caller's exit signal then, and refuses another.
        args.flags |= libc::CLONE_PARENT as u64;
        args.exit_signal = 0;
    }
    if let Some(cgroup) = request.into_cgroup {
        args.flags |= INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: `args` and the `pidfd` it points to live until the call returns; without CLONE_VM the child works on a copy of this
    // single-threaded memory, so no lock is held in it by a thread that does not exist.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Cloned::Child),
        pid => {
            // SAFETY: CLONE_PIDFD made the kernel store a new handle there, whose only owner this is.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent { pid: pid as i32, pidfd })
        }
    }
}

/// Whether this process has exactly one thread: unshare(2) refuses CLONE_THREAD otherwise, and does nothing if so.
pub fn is_single_threaded() -> bool {
    // SAFETY: unshare(2) takes an integer; with CLONE_THREAD alone it changes nothing.
    unsafe { libc::unshare(libc::CLONE_THREAD) == 0 }
}

/// Ends this process at once, without running destructors or flushing: the end of a cloned child.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) takes an integer and does not return.
    unsafe { libc::_exit(code) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_have_the_size_of_the_kernels_third_version() {
        assert_eq!(size_of::<CloneArgs>(), 88);
    }

    #[test]
    fn a_process_with_threads_is_refused() {
        // The test harness runs this on a second thread.
        let request = CloneRequest { new: Namespaces::empty(), child_of: ChildOf::Caller, into_cgroup: None };
        assert_eq!(clone3(&request).unwrap_err().raw_os_error(), Some(libc::EBUSY));
    }
}
