//! Handles by their numbers: which ones the next program gets.

use std::io;
use std::os::fd::RawFd;

/// Whether exec closes a handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseOnExec {
    /// It does.
    Yes,
    /// The next program gets it.
    No,
}

/// Sets whether exec closes the handle of this number.
pub fn set_close_on_exec(number: RawFd, close: CloseOnExec) -> io::Result<()> {
    let flags = if close == CloseOnExec::Yes { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: fcntl(2) with F_SETFD takes integers and closes nothing.
    match unsafe { libc::fcntl(number, libc::F_SETFD, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Marks every handle from `first` on close-on-exec (close_range(2), Linux 5.11 with this flag; one by one before that).
pub fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    const CLOEXEC: libc::c_uint = 4;
    // SAFETY: close_range(2) with CLOSE_RANGE_CLOEXEC takes integers and closes nothing.
    if unsafe { libc::syscall(libc::SYS_close_range, first as libc::c_uint, libc::c_uint::MAX, CLOEXEC) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if !matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL | libc::EPERM)) {
        return Err(error);
    }
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit(2) fills the structure that it is given.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // A handle above the present limit cannot be ruled out, so the limit that counts is the table's largest common size.
    for number in first..limit.rlim_max.min(1 << 20) as RawFd {
        match set_close_on_exec(number, CloseOnExec::Yes) {
            Err(error) if error.raw_os_error() != Some(libc::EBADF) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Closes every handle from `first` on, except `keep`, whatever their owners think: for a fresh copy of a process that must not hold what it was copied
/// with. The caller forgets or leaks the owners of what it closes.
pub fn close_all_from_except(first: RawFd, keep: &mut [RawFd]) -> io::Result<()> {
    keep.sort_unstable();
    let mut from = first;
    for &number in keep.iter().filter(|&&number| number >= first) {
        if number > from {
            close_range(from, number - 1)?;
        }
        from = number + 1;
    }
    close_range(from, RawFd::MAX)
}

fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    // SAFETY: close_range(2) takes integers; the caller of `close_all_from_except` answers for the owners of these numbers.
    match unsafe { libc::syscall(libc::SYS_close_range, first as libc::c_uint, last as libc::c_uint, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
