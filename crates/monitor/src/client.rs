//! A blocking client of a monitor, for the engine.
//!
//! One connection does one thing at a time: see `carrack-monitor-proto`. What blocks here can be ended from another thread by a
//! [`Canceller`], or by a deadline.

use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use carrack_monitor_proto::{
    Attach, FrameBuffer, FrameError, PROTOCOL_VERSION, Request, Response, SOCKET_FILE, Size, Stream, StreamFrame,
    encode,
};
use carrack_sys::fd_passing;
use carrack_sys::rustix::fs::{Mode, OFlags, open};
use carrack_sys::rustix::net::{RecvFlags, SendFlags};
use carrack_words::{Kind, ProcessId};

const READ_BYTES: usize = 16 << 10;

/// A monitor cannot be talked to, or says no.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens: there is no monitor, or it has just ended.
    #[error("connect to the monitor in {directory}")]
    Connect {
        /// The pod's run directory.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The connection broke.
    #[error("talk to the monitor")]
    Talk {
        /// Why.
        source: io::Error,
    },
    /// The monitor closed the connection: it has ended. What it recorded counts.
    #[error("the monitor has ended")]
    Ended,
    /// There was no answer in time.
    #[error("the monitor did not answer in time")]
    Deadline,
    /// What it says, or what it is to be told, makes no frame.
    #[error("understand the monitor")]
    Frame {
        /// Why.
        source: FrameError,
    },
    /// It answered something else.
    #[error("the monitor gave an answer to another question: {answer}")]
    OtherAnswer {
        /// What it said.
        answer: String,
    },
    /// It refuses; these are its words.
    #[error("{message}")]
    Refused {
        /// The class of its failure.
        kind: Kind,
        /// Its words.
        message: String,
    },
}

impl ClientError {
    /// The class of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            ClientError::Connect { .. } | ClientError::Ended => Kind::Unavailable,
            ClientError::Talk { .. } | ClientError::OtherAnswer { .. } => Kind::Internal,
            ClientError::Deadline => Kind::Deadline,
            ClientError::Frame { source } => source.kind(),
            ClientError::Refused { kind, .. } => *kind,
        }
    }

    /// An answer that does not belong to what was asked.
    pub fn other_answer(response: &Response) -> Self {
        let mut answer = format!("{response:?}");
        answer.truncate(answer.char_indices().nth(80).map_or(answer.len(), |(at, _)| at));
        ClientError::OtherAnswer { answer }
    }

    fn talk(source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::Deadline,
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => ClientError::Ended,
            _ => ClientError::Talk { source },
        }
    }
}

/// A connection to the monitor of a pod.
#[derive(Debug)]
pub struct Client {
    socket: UnixStream,
    input: FrameBuffer,
    handles: Vec<OwnedFd>,
    monitor: ProcessId,
}

impl Client {
    /// Connects to the monitor in a pod's run directory, and exchanges hellos with it. `patience` holds for this and, until
    /// [`set_deadline`](Self::set_deadline) changes it, for all that follows; `None` is for ever.
    pub fn connect(directory: &Path, patience: Option<Duration>) -> Result<Self, ClientError> {
        let socket =
            connect(directory).map_err(|source| ClientError::Connect { directory: directory.to_owned(), source })?;
        let nobody = ProcessId { pid: 0, start_time: 0 };
        let mut client = Self { socket, input: FrameBuffer::default(), handles: Vec::new(), monitor: nobody };
        client.set_deadline(patience)?;
        match client.call(&Request::Hello { version: PROTOCOL_VERSION })? {
            Response::Hello { monitor, .. } => Ok(Self { monitor, ..client }),
            other => Err(ClientError::other_answer(&other)),
        }
    }

    /// The monitor's process.
    pub fn monitor(&self) -> ProcessId {
        self.monitor
    }

    /// How long an answer may take; `None`, as at first, is for ever. After [`ClientError::Deadline`] the connection is of no use.
    pub fn set_deadline(&self, patience: Option<Duration>) -> Result<(), ClientError> {
        // Zero would mean for ever.
        let patience = patience.map(|patience| patience.max(Duration::from_millis(1)));
        self.socket.set_write_timeout(patience).map_err(ClientError::talk)?;
        self.socket.set_read_timeout(patience).map_err(ClientError::talk)
    }

    /// Asks, and waits for the answer. A refusal is an error.
    pub fn call(&mut self, request: &Request) -> Result<Response, ClientError> {
        self.call_with_handles(request, &[])
    }

    /// Like [`call`](Self::call), and sends handles along.
    pub fn call_with_handles(
        &mut self,
        request: &Request,
        handles: &[BorrowedFd<'_>],
    ) -> Result<Response, ClientError> {
        let bytes = encode(request).map_err(|source| ClientError::Frame { source })?;
        let sent = fd_passing::send(&self.socket, &bytes, handles, SendFlags::empty())
            .map_err(|error| ClientError::talk(error.into()))?;
        self.socket.write_all(&bytes[sent..]).map_err(ClientError::talk)?;
        self.next_answer()
    }

    /// Waits for a further answer to the last request: an exec has two.
    pub fn next_answer(&mut self) -> Result<Response, ClientError> {
        loop {
            match self.input.message().map_err(|source| ClientError::Frame { source })? {
                Some(Response::Error { kind, message }) => return Err(ClientError::Refused { kind, message }),
                Some(response) => return Ok(response),
                None => self.receive()?,
            }
        }
    }

    /// Whether bytes of a further answer have been read already: then the socket itself may have nothing more to say.
    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// The handles that came with answers: the terminal of an exec.
    pub fn take_handles(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.handles)
    }

    /// Joins a container's streams. The connection is for nothing else from then on.
    pub fn attach(mut self, attach: Attach) -> Result<Attached, ClientError> {
        match self.call(&Request::Attach(attach))? {
            Response::Attached { terminal } => {
                let writer = self.socket.try_clone().map_err(ClientError::talk)?;
                Ok(Attached {
                    reader: AttachReader { client: self },
                    writer: AttachWriter { socket: writer },
                    terminal,
                })
            }
            other => Err(ClientError::other_answer(&other)),
        }
    }

    /// Something that ends what blocks on this connection.
    pub fn canceller(&self) -> Result<Canceller, ClientError> {
        Ok(Canceller { socket: self.socket.try_clone().map_err(ClientError::talk)? })
    }

    fn receive(&mut self) -> Result<(), ClientError> {
        let mut buffer = [0; READ_BYTES];
        match fd_passing::receive(&self.socket, &mut buffer, &mut self.handles, RecvFlags::empty()) {
            Ok(0) => Err(ClientError::Ended),
            Ok(count) => {
                self.input.push(&buffer[..count]);
                Ok(())
            }
            Err(error) => Err(ClientError::talk(error.into())),
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Ends a connection from another thread: whatever waits on it gets [`ClientError::Ended`], and the monitor sees its client go.
#[derive(Debug)]
pub struct Canceller {
    socket: UnixStream,
}

impl Canceller {
    /// Ends it. A repeat does nothing.
    pub fn cancel(&self) {
        // It fails only if the connection has ended already.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

/// An attached connection, in halves that two threads can use.
#[derive(Debug)]
pub struct Attached {
    /// What comes from the container.
    pub reader: AttachReader,
    /// What goes to it.
    pub writer: AttachWriter,
    /// Whether the container has a terminal.
    pub terminal: bool,
}

/// What comes from a container.
#[derive(Debug)]
pub struct AttachReader {
    client: Client,
}

impl AttachReader {
    /// Waits for the next frame: data, or the end with the container's exit. [`ClientError::Ended`] without that end means that the
    /// monitor has gone, or has cut this client off because it did not keep up.
    pub fn next_frame(&mut self) -> Result<StreamFrame, ClientError> {
        loop {
            match self.client.input.stream_frame().map_err(|source| ClientError::Frame { source })? {
                Some(frame) => return Ok(frame),
                None => self.client.receive()?,
            }
        }
    }

    /// Something that ends what blocks on this connection; also how a client detaches.
    pub fn canceller(&self) -> Result<Canceller, ClientError> {
        self.client.canceller()
    }
}

impl AsFd for AttachReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.client.as_fd()
    }
}

/// What goes to a container.
#[derive(Debug)]
pub struct AttachWriter {
    socket: UnixStream,
}

impl AttachWriter {
    /// Sends bytes to the container's standard input.
    pub fn stdin(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        let mut out = Vec::new();
        StreamFrame::encode_data(Stream::Stdin, bytes, &mut out);
        self.send(&out)
    }

    /// Says that standard input has ended.
    pub fn close_stdin(&mut self) -> Result<(), ClientError> {
        self.send_frame(&StreamFrame::StdinClosed)
    }

    /// Tells the size of the client's terminal.
    pub fn resize(&mut self, size: Size) -> Result<(), ClientError> {
        self.send_frame(&StreamFrame::Resize(size))
    }

    fn send_frame(&mut self, frame: &StreamFrame) -> Result<(), ClientError> {
        let mut out = Vec::new();
        frame.encode(&mut out);
        self.send(&out)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.socket.write_all(bytes).map_err(ClientError::talk)
    }
}

/// By the directory's handle, since a socket's path is bounded by 107 bytes and the directory's is not.
fn connect(directory: &Path) -> io::Result<UnixStream> {
    let directory = open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET_FILE}", directory.as_raw_fd()))
}
