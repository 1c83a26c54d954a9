//! One client's connection: bytes and handles in both directions, without blocking.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use carrack_monitor_proto::{Attach, FrameBuffer, Response, Stream, StreamFrame, encode};
use carrack_sys::fd_passing;
use carrack_sys::rustix::io::Errno;
use carrack_sys::rustix::net::{RecvFlags, SendFlags};
use carrack_words::ExecId;

use crate::container::ContainerKey;

/// A client whose unread output is longer than this is waited for, if it asked for that, or cut off.
pub const OUTPUT_BOUND_BYTES: usize = 64 << 10;
/// The same for the last output of a dead container, which comes all at once and is no sign of a slow client: two pipes of the size
/// that pipe(7) allows anybody, with room for the frames. Somebody may still write to them.
pub const LAST_OUTPUT_BOUND_BYTES: usize = 4 << 20;
/// How many bytes are read at once.
const READ_BYTES: usize = 16 << 10;
/// No request brings more handles than the three standard streams.
const MAX_HANDLES: usize = 3;
/// Output is gathered in chunks of about this size.
const CHUNK_BYTES: usize = 16 << 10;

/// What a connection is for now. Requests are read in the first two only, so one that is pending holds back those behind it.
#[derive(Debug)]
pub enum Role {
    /// Its hello is awaited.
    Greeting,
    /// Its next request is awaited.
    Idle,
    /// It waits for an exit.
    Waiting {
        /// Of this container.
        container: ContainerKey,
    },
    /// It waits for a container to be dead and removed.
    Removing {
        /// This one.
        container: ContainerKey,
    },
    /// It waits for the end of an exec.
    Executing {
        /// This one.
        exec_id: ExecId,
        /// Whether the exec ends with the connection.
        kill_on_disconnect: bool,
    },
    /// It carries streams.
    Attached {
        /// Of this container.
        container: ContainerKey,
        /// Which streams, and whether it is waited for.
        attach: Attach,
    },
    /// Its output is sent, then it is closed.
    Closing,
}

/// Whether the other end is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// It is.
    Here,
    /// It has closed the connection, or broke its rules.
    Gone,
}

#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    sent: usize,
    /// Goes with the first byte.
    handle: Option<OwnedFd>,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    /// What it is for.
    pub role: Role,
    /// Whether a container's output waits for this client; stays true when the container has ended.
    is_lossless: bool,
    /// What was received and not yet understood.
    pub input: FrameBuffer,
    handles: Vec<OwnedFd>,
    output: VecDeque<Chunk>,
    output_bytes: usize,
}

impl Connection {
    /// A connection just accepted.
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            role: Role::Greeting,
            is_lossless: false,
            input: FrameBuffer::default(),
            handles: Vec::new(),
            output: VecDeque::new(),
            output_bytes: 0,
        }
    }

    /// From here on the connection carries streams.
    pub fn attach(&mut self, container: ContainerKey, attach: Attach) {
        self.is_lossless = attach.lossless;
        self.role = Role::Attached { container, attach };
    }

    /// Whether this client is owed all output of the container it was attached to.
    pub fn is_lossless(&self) -> bool {
        self.is_lossless
    }

    /// Reads once. `Gone` at the end of the stream, and for a client that sends handles nobody asked for.
    pub fn receive(&mut self) -> Peer {
        let mut buffer = [0; READ_BYTES];
        match fd_passing::receive(&self.socket, &mut buffer, &mut self.handles, RecvFlags::DONTWAIT) {
            Ok(0) => Peer::Gone,
            Ok(_) if self.handles.len() > MAX_HANDLES => Peer::Gone,
            Ok(count) => {
                self.input.push(&buffer[..count]);
                Peer::Here
            }
            Err(Errno::AGAIN) => Peer::Here,
            Err(_) => Peer::Gone,
        }
    }

    /// Reads all that the peer sent before it went; bounded by the socket's buffer.
    pub fn receive_rest(&mut self) {
        let mut before = usize::MAX;
        while before != self.input.len() {
            before = self.input.len();
            if self.receive() == Peer::Gone {
                return;
            }
        }
    }

    /// The handles that came since this was last asked.
    pub fn take_handles(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.handles)
    }

    /// Queues an answer, and a handle to go with it.
    pub fn answer(&mut self, response: &Response, handle: Option<OwnedFd>) {
        let too_long = |error: carrack_monitor_proto::FrameError| Response::Error {
            kind: error.kind(),
            message: format!("answer a request: {error}"),
        };
        let bytes =
            encode(response).or_else(|error| encode(&too_long(error))).expect("an error's text is far below the bound");
        self.output_bytes += bytes.len();
        self.output.push_back(Chunk { bytes, sent: 0, handle });
    }

    /// Queues bytes of a stream.
    pub fn stream(&mut self, stream: Stream, bytes: &[u8]) {
        self.append(|out| StreamFrame::encode_data(stream, bytes, out));
    }

    /// Queues a stream frame.
    pub fn stream_frame(&mut self, frame: &StreamFrame) {
        self.append(|out| frame.encode(out));
    }

    fn append(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        if self.output.back().is_none_or(|chunk| chunk.bytes.len() >= CHUNK_BYTES) {
            self.output.push_back(Chunk::default());
        }
        let chunk = self.output.back_mut().expect("one was pushed above if there was none");
        let before = chunk.bytes.len();
        encode(&mut chunk.bytes);
        self.output_bytes += chunk.bytes.len() - before;
    }

    /// How many bytes wait to be sent.
    pub fn output_bytes(&self) -> usize {
        self.output_bytes
    }

    /// Whether this client is attached to that stream of the container.
    pub fn wants(&self, key: ContainerKey, stream: Stream) -> bool {
        let Role::Attached { container, attach } = &self.role else { return false };
        *container == key
            && match stream {
                Stream::Stdin => false,
                Stream::Stdout => attach.stdout,
                Stream::Stderr => attach.stderr,
            }
    }

    /// Whether the container's output waits until this client has read more.
    pub fn holds_back(&self, key: ContainerKey) -> bool {
        match &self.role {
            Role::Attached { container, attach } => {
                *container == key && attach.lossless && self.output_bytes >= OUTPUT_BOUND_BYTES
            }
            Role::Greeting
            | Role::Idle
            | Role::Waiting { .. }
            | Role::Removing { .. }
            | Role::Executing { .. }
            | Role::Closing => false,
        }
    }

    /// Sends as much as the socket takes.
    pub fn flush(&mut self) -> Peer {
        while let Some(chunk) = self.output.front_mut() {
            let handles: Vec<BorrowedFd<'_>> = chunk.handle.iter().map(AsFd::as_fd).collect();
            match fd_passing::send(&self.socket, &chunk.bytes[chunk.sent..], &handles, SendFlags::DONTWAIT) {
                Ok(count) => {
                    chunk.sent += count;
                    chunk.handle = None;
                    self.output_bytes -= count;
                    if chunk.sent == chunk.bytes.len() {
                        self.output.pop_front();
                    }
                }
                Err(Errno::AGAIN) => return Peer::Here,
                Err(_) => return Peer::Gone,
            }
        }
        if self.output.capacity() > 0 {
            self.output = VecDeque::new();
        }
        Peer::Here
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
