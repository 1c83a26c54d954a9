//! What the runtime outside and the process inside say to each other while a container or exec is made.
//!
//! ```text
//!  outside                                 inside
//!     │ ──────────── Continue ──────────────▶ │   only with systemd: the process is in its group
//!     │ ◀──────────── Moved (pidfd) ───────── │   only if a second clone was needed
//!     │ ──────────── Continue ──────────────▶ │   the user namespace has its ids
//!     │ ──────────── Tree (place) ──────────▶ │   only in a user namespace: once for each bind mount, then for the root
//!     │ ◀──────────── RuntimeHooks ────────── │   only if there are such hooks
//!     │ ──────────── Continue ──────────────▶ │
//!     │ ◀──────────── Console (terminal) ──── │   only with a terminal
//!     │ ◀──────────── Ready ───────────────── │
//!     │ ──────────── Continue ──────────────▶ │   the state is recorded: nothing is lost if the runtime dies now
//!     │ ◀──────────── Listener ────────────── │   only if the filter asks somebody; see [`crate::listener`]
//!     │ ──────────── Continue ──────────────▶ │
//!     │ ◀──────────── end of stream ───────── │   the program is executed, or it waits for `start`
//! ```
//!
//! Where nothing depends on `Ready`, the last `Continue` is sent before it comes, so that inside need not wait.
//!
//! At any point `Failed` may come instead. If outside dies, inside reads the end of the stream and exits.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use carrack_sys::rustix::io::{read, retry_on_intr, write};
use carrack_words::Kind;
use serde::{Deserialize, Serialize};

use crate::describe::describe;
use crate::stage::{receive_message, send_message};
use crate::step::{Doing, StepError};

/// From the process inside.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromInside {
    /// The process that goes on is another one.
    Moved {
        /// Its pid outside.
        pid: i32,
    },
    /// It is time for the hooks that run in the runtime's namespaces.
    RuntimeHooks,
    /// The terminal comes along.
    Console,
    /// Everything is prepared.
    Ready,
    /// The filter is loaded, and has an end for whoever answers for it.
    Listener {
        /// Its number inside.
        number: i32,
    },
    /// It could not be done.
    Failed {
        /// Class.
        kind: Kind,
        /// The whole chain.
        message: String,
    },
}

/// To the process inside.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToInside {
    /// What was waited for is done.
    Continue,
    /// A place in the container's copy of the host's mounts comes along, or a tree of it.
    Tree,
}

/// The end inside.
#[derive(Debug)]
pub struct Inside(UnixStream);

/// The end outside.
#[derive(Debug)]
pub struct Outside(UnixStream);

/// Both ends.
pub fn pair() -> io::Result<(Outside, Inside)> {
    let (outside, inside) = UnixStream::pair()?;
    Ok((Outside(outside), Inside(inside)))
}

impl Inside {
    /// Tells something, with a handle.
    pub fn tell(&self, message: &FromInside, handle: Option<BorrowedFd<'_>>) -> Result<(), StepError> {
        let handles: Vec<_> = handle.into_iter().collect();
        send_message(&self.0, message, &handles).doing(|| "tell the runtime")
    }

    /// Waits until the runtime says to go on.
    pub fn wait(&self) -> Result<(), StepError> {
        match receive_message(&self.0).doing(|| "wait for the runtime")? {
            (ToInside::Continue, _) => Ok(()),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Takes the next place.
    pub fn borrow(&self) -> Result<OwnedFd, StepError> {
        match receive_message(&self.0).doing(|| "wait for the runtime")? {
            (ToInside::Tree, handles) if handles.len() == 1 => Ok(handles.into_iter().next().expect("it was counted")),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Offers the listener of a filter that is in force by now, and waits until it is taken.
    pub fn offer(&self, listener: OwnedFd) -> Result<(), StepError> {
        offer(self.0.as_fd(), listener)
    }

    /// Tells the failure. If nobody listens any more, nobody has to know.
    pub fn fail(&self, error: &StepError) {
        let message = FromInside::Failed { kind: error.kind(), message: describe(error) };
        let _ = self.tell(&message, None);
    }
}

impl AsFd for Inside {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Outside {
    /// The next message and its handle; `None` at the end of the stream.
    pub fn next(&self) -> io::Result<Option<(FromInside, Option<OwnedFd>)>> {
        match receive_message(&self.0) {
            Ok((message, handles)) => Ok(Some((message, handles.into_iter().next()))),
            Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Says to go on. A process inside that has died meanwhile is noticed by the next [`Outside::next`].
    pub fn go_on(&self) -> io::Result<()> {
        self.say(&ToInside::Continue, &[])
    }

    /// Hands a place in.
    pub fn lend(&self, place: BorrowedFd<'_>) -> io::Result<()> {
        self.say(&ToInside::Tree, &[place])
    }

    fn say(&self, message: &ToInside, handles: &[BorrowedFd<'_>]) -> io::Result<()> {
        match send_message(&self.0, message, handles) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }
}

/// Offers a listener over a socket, with write(2) and read(2) and without allocating: whatever else the filter may refuse, or ask somebody about
/// who is not there yet.
pub fn offer(socket: BorrowedFd<'_>, listener: OwnedFd) -> Result<(), StepError> {
    // It stays open until the exec; closing it would be one call more.
    let number = listener.into_raw_fd();
    let mut message = [0; 64];
    let (length, mut text) = message.split_at_mut(4);
    let space = text.len();
    serde_json::to_writer(&mut text, &FromInside::Listener { number })
        .map_err(io::Error::from)
        .doing(|| "tell the runtime of the seccomp listener")?;
    let text_length = space - text.len();
    length.copy_from_slice(&(text_length as u32).to_le_bytes());
    // So few bytes go at once or not at all.
    write(socket, &message[..4 + text_length]).doing(|| "tell the runtime of the seccomp listener")?;
    // One word is all that can come.
    match retry_on_intr(|| read(socket, &mut [0; 64])).doing(|| "wait until the seccomp listener is taken")? {
        0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)).doing(|| "wait until the seccomp listener is taken"),
        _ => Ok(()),
    }
}

fn unexpected(message: &ToInside) -> StepError {
    StepError::refused(Kind::Internal, format!("unexpected message from the runtime: {message:?}"))
}
