//! Handles sent over unix sockets.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// How many handles one message can bring.
pub const MAX_HANDLES: usize = 16;

/// Sends `bytes`, and with their first one `handles`; the answer is how many bytes went. Never raises SIGPIPE.
///
/// More than [`MAX_HANDLES`] are refused with `EINVAL`.
pub fn send(socket: impl AsFd, bytes: &[u8], handles: &[BorrowedFd<'_>], flags: SendFlags) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_HANDLES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !handles.is_empty() && (handles.len() > MAX_HANDLES || !control.push(SendAncillaryMessage::ScmRights(handles))) {
        return Err(io::Errno::INVAL);
    }
    io::retry_on_intr(|| sendmsg(socket.as_fd(), &[IoSlice::new(bytes)], &mut control, flags | SendFlags::NOSIGNAL))
}

/// Receives bytes into `buffer` and appends the handles that came with them to `handles`, close-on-exec; the answer is how many
/// bytes came.
///
/// `EMSGSIZE` if the sender sent more handles than fit; none is kept then.
pub fn receive(
    socket: impl AsFd,
    buffer: &mut [u8],
    handles: &mut Vec<OwnedFd>,
    flags: RecvFlags,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_HANDLES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = io::retry_on_intr(|| {
        recvmsg(socket.as_fd(), &mut [IoSliceMut::new(buffer)], &mut control, flags | RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut received = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            received.extend(rights);
        }
    }
    if message.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Errno::MSGSIZE);
    }
    handles.append(&mut received);
    Ok(message.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_handle_arrives_with_the_first_byte() {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        assert_eq!(send(&here, b"ab", &[writer.as_fd()], SendFlags::empty()), Ok(2));
        drop(writer);
        let (mut buffer, mut handles) = ([0; 8], Vec::new());
        assert_eq!(receive(&there, &mut buffer, &mut handles, RecvFlags::empty()), Ok(2));
        assert_eq!((&buffer[..2], handles.len()), (&b"ab"[..], 1));
        drop(handles);
        assert_eq!(reader.read(&mut [0]).unwrap(), 0, "the last writer is gone");
    }

    #[test]
    fn too_many_handles_are_refused() {
        let (here, _there) = UnixStream::pair().unwrap();
        let handles = [here.as_fd(); MAX_HANDLES + 1];
        assert_eq!(send(&here, b"a", &handles, SendFlags::empty()), Err(io::Errno::INVAL));
    }
}
