//! The other end of a seccomp filter that asks: taking questions from its listener, and answering (seccomp_unotify(2)).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// A call that waits for an answer: `struct seccomp_notif` of `<linux/seccomp.h>`, with the `struct seccomp_data` in it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Question {
    /// Names the question until it is answered.
    pub id: u64,
    /// The thread that calls, in the pid namespace of whoever asks; 0 if it has no number there.
    pub pid: u32,
    flags: u32,
    /// The call's number.
    pub number: i32,
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// Where in the program.
    pub instruction_pointer: u64,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// `struct seccomp_notif_resp` of `<linux/seccomp.h>`.
#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// What the caller gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The kernel does what was asked for (`SECCOMP_USER_NOTIF_FLAG_CONTINUE`, Linux 5.5). No decision about rights: arguments in memory may have
    /// changed meanwhile.
    Continue,
    /// It looks as if the call had returned this.
    Value(i64),
    /// It looks as if the call had failed with this error number.
    Error(i32),
}

/// `SECCOMP_IOCTL_NOTIF_RECV`: `_IOWR('!', 0, struct seccomp_notif)`.
const RECEIVE: u32 = 0xc050_2100;
/// `SECCOMP_IOCTL_NOTIF_SEND`: `_IOWR('!', 1, struct seccomp_notif_resp)`.
const SEND: u32 = 0xc018_2101;
const CONTINUE: u32 = 1;

/// Waits for the next question. `ENOENT` if its caller was killed meanwhile.
pub fn receive(listener: BorrowedFd<'_>) -> io::Result<Question> {
    let mut question = Question::default();
    // SAFETY: the kernel writes one structure of the size that the request names to `question`, which lives for the call.
    match unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE as _, &raw mut question) } {
        0 => Ok(question),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Answers a question. `ENOENT` if its caller was killed meanwhile.
pub fn answer(listener: BorrowedFd<'_>, id: u64, answer: Answer) -> io::Result<()> {
    let response = match answer {
        Answer::Continue => Response { id, value: 0, error: 0, flags: CONTINUE },
        Answer::Value(value) => Response { id, value, error: 0, flags: 0 },
        Answer::Error(number) => Response { id, value: 0, error: -number, flags: 0 },
    };
    // SAFETY: the kernel reads one structure of the size that the request names from `response`, which lives for the call.
    match unsafe { libc::ioctl(listener.as_raw_fd(), SEND as _, &raw const response) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structs_have_the_sizes_that_the_requests_name() {
        assert_eq!(size_of::<Question>(), RECEIVE as usize >> 16 & 0x3fff);
        assert_eq!(size_of::<Response>(), SEND as usize >> 16 & 0x3fff);
        assert_eq!(std::mem::offset_of!(Question, arguments), 32);
    }
}
