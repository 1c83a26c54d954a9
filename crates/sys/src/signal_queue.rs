//! Signals read from a handle instead of interrupting the program.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A signal that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Its number.
    pub number: i32,
    /// Who sent it, for signals sent by kill(2); 0 is the kernel or a process of a pid namespace we cannot see.
    pub sender_pid: i32,
}

/// Blocks signals for this thread and delivers them through signalfd(2).
///
/// The mask is inherited by what this thread forks, and by what it executes unless the program resets it
/// (`std::process::Command` does).
#[derive(Debug)]
pub struct SignalQueue {
    handle: OwnedFd,
}

impl SignalQueue {
    /// Blocks `signals` in the calling thread and opens a non-blocking queue of them.
    pub fn open(signals: &[i32]) -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset(3) writes the whole set it is given; the pointer is to a local of that type.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: sigemptyset(3) above initialised it.
        let mut set = unsafe { set.assume_init() };
        for &number in signals {
            // SAFETY: the set is an initialised local; a number that is no signal is refused with EINVAL.
            if unsafe { libc::sigaddset(&mut set, number) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        // SAFETY: the set is an initialised local, and a null third argument means that the old mask is not wanted.
        let code = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) };
        if code != 0 {
            return Err(io::Error::from_raw_os_error(code));
        }
        // SAFETY: the set is an initialised local; -1 asks for a new descriptor.
        let raw = unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel returned `raw` on the line above, so this is its only owner.
        Ok(Self { handle: unsafe { OwnedFd::from_raw_fd(raw) } })
    }

    /// The next signal, or `None` if none waits. Several of one kind may have become one.
    pub fn next(&self) -> io::Result<Option<Received>> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let size = size_of::<libc::signalfd_siginfo>();
        loop {
            // SAFETY: the buffer is a local of `size` bytes, which read(2) may fill.
            let count = unsafe { libc::read(self.handle.as_raw_fd(), info.as_mut_ptr().cast(), size) };
            if count == size as isize {
                // SAFETY: the kernel filled all of it; every bit pattern is a value of this struct of integers.
                let info = unsafe { info.assume_init() };
                return Ok(Some(Received { number: info.ssi_signo as i32, sender_pid: info.ssi_pid as i32 }));
            }
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => return Ok(None),
                _ => return Err(error),
            }
        }
    }
}

impl AsFd for SignalQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_signal_is_read_from_the_queue() {
        let queue = SignalQueue::open(&[libc::SIGUSR2]).unwrap();
        assert_eq!(queue.next().unwrap(), None);
        // A signal to this thread, since other tests run in other threads, where it is not blocked.
        // SAFETY: tgkill(2) takes three integers; the signal is blocked in this thread.
        let code = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::gettid(), libc::SIGUSR2) };
        assert_eq!(code, 0);
        let pid = std::process::id() as i32;
        assert_eq!(queue.next().unwrap(), Some(Received { number: libc::SIGUSR2, sender_pid: pid }));
        assert_eq!(queue.next().unwrap(), None);
    }

    #[test]
    fn a_number_that_is_no_signal_is_refused() {
        assert_eq!(SignalQueue::open(&[1000]).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
