//! Signals: sending any number, masks, dispositions.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The highest signal number.
pub const HIGHEST: i32 = 64;

/// A set of signals; bit n-1 is signal n, as in `/proc/PID/status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SignalSet(pub u64);

impl SignalSet {
    /// No signal.
    pub const NONE: Self = Self(0);
    /// All signals.
    pub const ALL: Self = Self(u64::MAX);

    /// Whether `signal` is in it.
    pub const fn contains(self, signal: i32) -> bool {
        signal >= 1 && signal <= HIGHEST && self.0 >> (signal - 1) & 1 == 1
    }

    /// This set and `signal`.
    pub const fn with(self, signal: i32) -> Self {
        Self(self.0 | 1 << (signal - 1))
    }
}

/// Sends a signal to a process by its handle (Linux 5.1); 0 only asks whether it is there.
pub fn send(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: pidfd_send_signal(2) takes integers, and a null pointer for "as kill(2) would".
    match unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<u8>(), 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets the mask of blocked signals and returns the one before.
pub fn block(set: SignalSet) -> io::Result<SignalSet> {
    let mut before = 0_u64;
    // SAFETY: rt_sigprocmask(2) reads one set of eight bytes and writes another; both live for the call.
    let code = unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const set.0, &raw mut before, size_of::<u64>())
    };
    if code == 0 { Ok(SignalSet(before)) } else { Err(io::Error::last_os_error()) }
}

/// Gives each signal of the set its default disposition; numbers that cannot have another are skipped.
pub fn reset(set: SignalSet) -> io::Result<()> {
    for signal in (1..=HIGHEST).filter(|&n| set.contains(n) && n != libc::SIGKILL && n != libc::SIGSTOP) {
        // The kernel's sigaction: handler, flags, restorer, mask. All zero is SIG_DFL.
        let default = [0_u64; 4];
        // SAFETY: rt_sigaction(2) reads the structure, which lives for the call; SIG_DFL installs no code of ours.
        let code = unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null::<u64>(), size_of::<u64>())
        };
        if code != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
