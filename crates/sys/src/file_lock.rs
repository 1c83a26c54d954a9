//! Locks on byte ranges of a file that belong to the open file description (fcntl(2), "Open file description locks", Linux 3.15).

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// What a range is locked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeLock {
    /// Several may read.
    Shared,
    /// One writes.
    Exclusive,
}

/// Locks one byte of the file at `offset` if that is possible now; `false` if somebody else holds it.
///
/// The lock goes away with the last copy of the handle, so also with the process.
pub fn try_lock_byte(file: impl AsFd, lock: RangeLock, offset: u64) -> io::Result<bool> {
    let kind = match lock {
        RangeLock::Shared => libc::F_RDLCK,
        RangeLock::Exclusive => libc::F_WRLCK,
    };
    let start = i64::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // l_pid must be 0 for locks of the open file description.
    let range = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: 1,
        l_pid: 0,
    };
    // SAFETY: F_OFD_SETLK reads one `struct flock`, which `range` is and which lives across the call.
    let result = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_OFD_SETLK, &raw const range) };
    if result == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => Ok(false),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;

    #[test]
    fn two_open_files_of_one_process_exclude_each_other_by_the_byte() {
        let path = std::env::temp_dir().join(format!("carrack-sys-lock-{}", std::process::id()));
        let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).unwrap();
        let (one, two) = (open(), open());
        assert!(try_lock_byte(&one, RangeLock::Exclusive, 7).unwrap());
        assert!(!try_lock_byte(&two, RangeLock::Shared, 7).unwrap());
        assert!(try_lock_byte(&two, RangeLock::Exclusive, 8).unwrap());
        drop(one);
        assert!(try_lock_byte(&two, RangeLock::Shared, 7).unwrap());
        std::fs::remove_file(path).unwrap();
    }
}
