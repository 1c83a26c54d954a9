//! Talks to the monitors of pods.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use carrack_monitor_proto::{FrameBuffer, PROTOCOL_VERSION, Request, Response, SOCKET_FILE, StreamFrame, encode};
use carrack_sys::fd_passing;
use carrack_sys::rustix::io::Errno;
use carrack_sys::rustix::net::{RecvFlags, SendFlags};
use carrack_words::{Kind, PodId, ProcessId};

/// A monitor that does not answer a plain request for so long is taken for hung.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A monitor cannot be reached or understood, or it refused.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nobody listens.
    #[error("no monitor runs for pod {pod}")]
    Absent {
        /// The pod.
        pod: PodId,
    },
    /// The connection broke.
    #[error("talk to the monitor of pod {pod}")]
    Broken {
        /// The pod.
        pod: PodId,
        /// Why.
        source: io::Error,
    },
    /// Its answer does not fit the request.
    #[error("the monitor of pod {pod} gave an unexpected answer to {request}")]
    Unexpected {
        /// The pod.
        pod: PodId,
        /// What was asked.
        request: &'static str,
    },
    /// It said no.
    #[error("{message}")]
    Refused {
        /// The class.
        kind: Kind,
        /// Its words.
        message: String,
    },
}

impl LinkError {
    /// The class of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            LinkError::Absent { .. } => Kind::NotFound,
            LinkError::Refused { kind, .. } => *kind,
            LinkError::Broken { source, .. } if source.kind() == io::ErrorKind::WouldBlock => Kind::Unavailable,
            LinkError::Broken { .. } | LinkError::Unexpected { .. } => Kind::Internal,
        }
    }
}

/// A connection to a monitor.
#[derive(Debug)]
pub(crate) struct Link {
    pod: PodId,
    stream: UnixStream,
    buffer: FrameBuffer,
    handles: VecDeque<OwnedFd>,
    /// The monitor.
    pub monitor: ProcessId,
}

impl Link {
    /// Connects to the monitor of the pod with this run directory.
    pub fn connect(pod: &PodId, directory: &Path) -> Result<Self, LinkError> {
        let broken = |source| LinkError::Broken { pod: pod.clone(), source };
        let stream = match connect_in(directory) {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Err(LinkError::Absent { pod: pod.clone() });
            }
            Err(error) => return Err(broken(error)),
        };
        let nobody = ProcessId { pid: 0, start_time: 0 };
        let mut link =
            Self { pod: pod.clone(), stream, buffer: FrameBuffer::default(), handles: VecDeque::new(), monitor: nobody };
        match link.call(&Request::Hello { version: PROTOCOL_VERSION }) {
            Ok(Response::Hello { monitor, .. }) => {
                link.monitor = monitor;
                Ok(link)
            }
            Ok(_) => Err(link.unexpected("hello")),
            // It closed the socket while we were in its queue: it is ending.
            Err(LinkError::Broken { source, .. })
                if matches!(
                    source.kind(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
                ) =>
            {
                Err(LinkError::Absent { pod: pod.clone() })
            }
            Err(error) => Err(error),
        }
    }

    /// Asks and waits for the answer, for a bounded time.
    pub fn call(&mut self, request: &Request) -> Result<Response, LinkError> {
        self.call_within(request, &[], Some(ANSWER_TIMEOUT))
    }

    /// Asks, with handles, and waits for the answer as long as `timeout` says, or for ever.
    pub fn call_within(
        &mut self,
        request: &Request,
        handles: &[BorrowedFd<'_>],
        timeout: Option<Duration>,
    ) -> Result<Response, LinkError> {
        self.stream.set_read_timeout(timeout).map_err(|source| self.broken(source))?;
        let bytes = encode(request).map_err(|error| self.broken(io::Error::other(error)))?;
        let sent = fd_passing::send(&self.stream, &bytes, handles, SendFlags::empty())
            .map_err(|errno| self.broken(errno.into()))?;
        (&self.stream).write_all(&bytes[sent..]).map_err(|source| self.broken(source))?;
        self.answer()
    }

    /// Waits for the next answer.
    pub fn answer(&mut self) -> Result<Response, LinkError> {
        loop {
            match self.buffer.message() {
                Ok(Some(Response::Error { kind, message })) => return Err(LinkError::Refused { kind, message }),
                Ok(Some(response)) => return Ok(response),
                Ok(None) => {}
                Err(error) => return Err(self.broken(io::Error::other(error))),
            }
            let mut bytes = [0; 4096];
            let mut handles = Vec::new();
            match fd_passing::receive(&self.stream, &mut bytes, &mut handles, RecvFlags::empty()) {
                Ok(0) => return Err(self.broken(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => self.buffer.push(&bytes[..count]),
                Err(Errno::AGAIN) => return Err(self.broken(io::ErrorKind::WouldBlock.into())),
                Err(errno) => return Err(self.broken(errno.into())),
            }
            self.handles.extend(handles);
        }
    }

    /// Waits for the next answer as long as it takes.
    pub fn answer_whenever(&mut self) -> Result<Response, LinkError> {
        self.stream.set_read_timeout(None).map_err(|source| self.broken(source))?;
        self.answer()
    }

    /// A handle that came with an answer.
    pub fn take_handle(&mut self) -> Option<OwnedFd> {
        self.handles.pop_front()
    }

    /// After [`Response::Attached`]: the two directions of the container's streams.
    pub fn into_streams(self) -> Result<(AttachReader, AttachWriter), LinkError> {
        let broken = |source| LinkError::Broken { pod: self.pod.clone(), source };
        self.stream.set_read_timeout(None).map_err(broken)?;
        let writer = self.stream.try_clone().map_err(broken)?;
        Ok((AttachReader { stream: self.stream, buffer: self.buffer }, AttachWriter { stream: writer, bytes: Vec::new() }))
    }

    /// The error for an answer that makes no sense.
    pub fn unexpected(&self, request: &'static str) -> LinkError {
        LinkError::Unexpected { pod: self.pod.clone(), request }
    }

    fn broken(&self, source: io::Error) -> LinkError {
        LinkError::Broken { pod: self.pod.clone(), source }
    }

    /// Ends what waits for an answer on another thread.
    pub fn closer(&self) -> Result<UnixStream, LinkError> {
        self.stream.try_clone().map_err(|source| self.broken(source))
    }
}

/// Connects through the directory's handle, so that the length of its path does not matter (108 bytes are all a socket address has).
fn connect_in(directory: &Path) -> io::Result<UnixStream> {
    use std::os::fd::AsRawFd;
    let handle = File::open(directory)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET_FILE}", handle.as_raw_fd()))
}

/// What a container writes, for an attached client.
#[derive(Debug)]
pub struct AttachReader {
    stream: UnixStream,
    buffer: FrameBuffer,
}

impl AttachReader {
    /// The next frame; `None` when the monitor has closed the connection. Waits as long as it takes.
    #[allow(clippy::should_implement_trait)] // It fails, and an iterator of results would go on after a failure.
    pub fn next(&mut self) -> io::Result<Option<StreamFrame>> {
        loop {
            if let Some(frame) = self.buffer.stream_frame().map_err(io::Error::other)? {
                return Ok(Some(frame));
            }
            let mut bytes = [0; 32 << 10];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Ok(None),
                Ok(count) => self.buffer.push(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// What an attached client writes to a container.
#[derive(Debug)]
pub struct AttachWriter {
    stream: UnixStream,
    bytes: Vec<u8>,
}

impl AttachWriter {
    /// Sends a frame; waits while the container does not read.
    pub fn send(&mut self, frame: &StreamFrame) -> io::Result<()> {
        self.bytes.clear();
        frame.encode(&mut self.bytes);
        self.stream.write_all(&self.bytes)
    }
}

/// A program running in a container by [`crate::Engine::exec`].
#[derive(Debug)]
pub struct ExecSession {
    link: Link,
    process: ProcessId,
    console: Option<OwnedFd>,
}

impl ExecSession {
    /// Sends the request and waits until the program runs.
    pub(crate) fn begin(mut link: Link, request: &Request, stdio: &[OwnedFd]) -> Result<Self, LinkError> {
        let handles: Vec<BorrowedFd<'_>> = stdio.iter().map(AsFd::as_fd).collect();
        match link.call_within(request, &handles, Some(ANSWER_TIMEOUT))? {
            Response::ExecStarted { process, .. } => {
                let console = link.take_handle();
                Ok(Self { link, process, console })
            }
            _ => Err(link.unexpected("exec")),
        }
    }

    /// The program.
    pub fn process(&self) -> ProcessId {
        self.process
    }

    /// The controlling side of its terminal, if it has one; given once.
    pub fn take_console(&mut self) -> Option<OwnedFd> {
        self.console.take()
    }

    /// What ends the program and the wait for it when shut down.
    pub(crate) fn closer(&self) -> Result<UnixStream, LinkError> {
        self.link.closer()
    }

    /// Waits until it ends.
    pub fn wait(mut self) -> io::Result<carrack_words::Exit> {
        match self.link.answer_whenever() {
            Ok(Response::ExecExited { exit, .. }) => Ok(exit),
            Ok(_) => Err(io::Error::other(self.link.unexpected("exec"))),
            Err(LinkError::Broken { source, .. }) => Err(source),
            Err(other) => Err(io::Error::other(other)),
        }
    }
}
