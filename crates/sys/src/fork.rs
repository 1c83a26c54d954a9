//! Forking a process of one thread.

use std::io;

use rustix::process::Pid;

/// Runs `child` in a forked process, which ends with the code that it returns; the parent gets its pid and must wait for it.
///
/// `EBUSY` in a process of several threads: what another thread holds locked would stay locked in the child for ever.
pub fn fork(child: impl FnOnce() -> u8) -> io::Result<Pid> {
    /// Ends the child however the closure is left, so that it never goes on in the caller's code.
    struct EndHere {
        code: u8,
    }
    impl Drop for EndHere {
        fn drop(&mut self) {
            // SAFETY: _exit(2) takes an integer and does not return; no destructor or buffer of the parent runs in this process.
            unsafe { libc::_exit(i32::from(self.code)) }
        }
    }

    if !crate::clone::is_single_threaded() {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    // SAFETY: fork(2) takes no argument. This process has one thread (checked above; only it could have started another since), so
    // no lock of the allocator or the standard library is held in the child.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    match Pid::from_raw(pid) {
        Some(pid) => Ok(pid),
        None => {
            // 101 is what a panic ends a Rust program with.
            let mut end = EndHere { code: 101 };
            end.code = child();
            drop(end);
            unreachable!("the line above ended the process")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_refused() {
        // The test harness runs each test in a thread of its own.
        assert_eq!(fork(|| 0).unwrap_err().raw_os_error(), Some(libc::EBUSY));
    }
}
