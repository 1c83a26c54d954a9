//! Handles that a process was started with.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;

/// Which numbers have been taken, so that no number gets two owners.
static TAKEN: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// Takes ownership of handle `number` that the process which executed us left open, and marks it close-on-exec.
///
/// To be called first thing in `main`, before anything else opens handles. Each number can be taken once; `None` if it is not open or
/// was taken before.
pub fn take(number: RawFd) -> io::Result<Option<OwnedFd>> {
    let mut taken = TAKEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    // SAFETY: fcntl(2) with F_GETFD takes integers only and fails with EBADF for a number that is not open.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 || taken.contains(&number) {
        return Ok(None);
    }
    // A handle that we opened ourselves is close-on-exec, and one that was inherited through exec cannot be.
    if number <= 2 || flags & libc::FD_CLOEXEC != 0 {
        return Ok(None);
    }
    taken.push(number);
    // SAFETY: fcntl(2) with F_SETFD takes integers only.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the number is open (F_GETFD above), came through exec (it was not close-on-exec, as all our own handles are), and
    // `TAKEN` shows that nobody in this program owns it.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(number) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn what_is_not_open_is_standard_or_is_our_own_is_not_taken() {
        let own = std::fs::File::open("/dev/null").unwrap();
        for number in [0, 1, 2, own.as_raw_fd(), 1 << 20, -1] {
            assert!(take(number).unwrap().is_none(), "{number}");
        }
    }

    #[test]
    fn a_handle_that_came_through_exec_is_taken_once() {
        let own = std::fs::File::open("/dev/null").unwrap();
        // SAFETY: F_DUPFD takes integers and makes a handle without close-on-exec, as an exec leaves it, that nobody owns.
        let number = unsafe { libc::fcntl(own.as_raw_fd(), libc::F_DUPFD, 500) };
        let taken = take(number).unwrap().expect("it is open, and nobody's");
        assert_eq!(taken.as_raw_fd(), number);
        assert!(take(number).unwrap().is_none());
    }
}
