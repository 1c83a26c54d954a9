//! The caller's own terminal.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use carrack_sys::rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

/// Whether this is a terminal.
pub fn is_terminal(handle: impl AsFd) -> bool {
    isatty(handle)
}

/// Rows and columns of a terminal; `None` if it is not one.
pub fn size(handle: impl AsFd) -> Option<(u16, u16)> {
    tcgetwinsize(handle).ok().map(|size| (size.ws_row, size.ws_col)).filter(|(rows, columns)| *rows > 0 && *columns > 0)
}

/// A terminal in raw mode: every key goes to the container. Dropping it restores the terminal.
pub struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Puts standard input into raw mode.
    pub fn enter() -> io::Result<Self> {
        let stdin = io::stdin();
        let before = tcgetattr(&stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that is gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Finds the keys that leave a container without ending it: ctrl-p, ctrl-q.
#[derive(Debug, Default)]
pub struct DetachKeys {
    has_first: bool,
}

/// What typed bytes mean.
#[derive(Debug, PartialEq, Eq)]
pub enum Typed {
    /// They are for the container.
    Bytes(Vec<u8>),
    /// The rest leaves; what came before is for the container.
    Detach(Vec<u8>),
}

impl DetachKeys {
    const FIRST: u8 = 0x10;
    const SECOND: u8 = 0x11;

    /// Takes typed bytes. A first key is held back until the next byte shows what it was.
    pub fn feed(&mut self, typed: &[u8]) -> Typed {
        let mut out = Vec::with_capacity(typed.len() + 1);
        for &byte in typed {
            match (self.has_first, byte) {
                (true, Self::SECOND) => return Typed::Detach(out),
                (true, Self::FIRST) => out.push(Self::FIRST),
                (true, other) => {
                    self.has_first = false;
                    out.extend([Self::FIRST, other]);
                }
                (false, Self::FIRST) => self.has_first = true,
                (false, other) => out.push(other),
            }
        }
        Typed::Bytes(out)
    }
}

/// Waits until `handle` can be read or `end` is closed; true means that it can be read.
pub fn wait_readable(handle: BorrowedFd<'_>, end: BorrowedFd<'_>) -> io::Result<bool> {
    use carrack_sys::rustix::event::{PollFd, PollFlags, poll};
    use carrack_sys::rustix::io::Errno;
    loop {
        let mut set = [PollFd::from_borrowed_fd(handle, PollFlags::IN), PollFd::from_borrowed_fd(end, PollFlags::IN)];
        match poll(&mut set, None) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        if !set[0].revents().is_empty() {
            return Ok(true);
        }
        if !set[1].revents().is_empty() {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_keys_in_a_row_leave_and_nothing_else_does() {
        let mut keys = DetachKeys::default();
        assert_eq!(keys.feed(b"ls\r"), Typed::Bytes(b"ls\r".to_vec()));
        assert_eq!(keys.feed(b"a\x10"), Typed::Bytes(b"a".to_vec()));
        assert_eq!(keys.feed(b"b"), Typed::Bytes(b"\x10b".to_vec()));
        assert_eq!(keys.feed(b"\x11"), Typed::Bytes(b"\x11".to_vec()));
        assert_eq!(keys.feed(b"x\x10\x10"), Typed::Bytes(b"x\x10".to_vec()));
        assert_eq!(keys.feed(b"\x11rest"), Typed::Detach(vec![]));
    }
}
