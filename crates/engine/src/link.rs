//! Talks to the monitors of pods.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use carrack_monitor::client::{Client, ClientError};
use carrack_monitor_proto::{Request, Response};
use carrack_words::{ExecId, Exit, ProcessId};

/// A monitor that does not answer a plain request for so long is taken for hung.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Connects to the monitor of the pod with this run directory; its answers are waited for a bounded time.
pub(crate) fn connect(directory: &Path) -> Result<Client, ClientError> {
    Client::connect(directory, Some(ANSWER_TIMEOUT))
}

/// Asks, and waits for the answer as long as it takes.
pub(crate) fn call_patiently(client: &mut Client, request: &Request) -> Result<Response, ClientError> {
    client.set_deadline(None)?;
    client.call(request)
}

/// Whether the error says that there is no monitor, or not any more: what it recorded counts.
pub(crate) fn is_absent(error: &ClientError) -> bool {
    match error {
        ClientError::Ended => true,
        // Want of handles or memory of our own says nothing about the monitor.
        ClientError::Connect { source, .. } => {
            matches!(source.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused)
        }
        _ => false,
    }
}

/// A program running in a container by [`crate::Engine::exec`]. It is killed when this is dropped before its end, unless
/// [`crate::Engine::detach_exec`] was called.
#[derive(Debug)]
pub struct ExecSession {
    client: Client,
    exec_id: ExecId,
    process: ProcessId,
    console: Option<OwnedFd>,
}

impl ExecSession {
    /// Sends the request and waits until the program runs.
    pub(crate) fn begin(mut client: Client, request: &Request, stdio: &[OwnedFd]) -> Result<Self, ClientError> {
        let handles: Vec<BorrowedFd<'_>> = stdio.iter().map(AsFd::as_fd).collect();
        match client.call_with_handles(request, &handles)? {
            Response::ExecStarted { process, exec_id } => {
                let console = client.take_handles().pop();
                Ok(Self { client, exec_id, process, console })
            }
            other => Err(ClientError::other_answer(&other)),
        }
    }

    /// Its name, for [`crate::Engine::detach_exec`].
    pub fn id(&self) -> &ExecId {
        &self.exec_id
    }

    /// The program.
    pub fn process(&self) -> ProcessId {
        self.process
    }

    /// The controlling side of its terminal, if it has one; given once.
    pub fn take_console(&mut self) -> Option<OwnedFd> {
        self.console.take()
    }

    /// Whether its end is known already.
    pub(crate) fn has_ended(&self) -> bool {
        self.client.has_input()
    }

    /// Waits until it ends.
    pub fn wait(mut self) -> Result<Exit, ClientError> {
        self.client.set_deadline(None)?;
        match self.client.next_answer()? {
            Response::ExecExited { exit, .. } => Ok(exit),
            other => Err(ClientError::other_answer(&other)),
        }
    }
}

impl AsFd for ExecSession {
    /// Readable once the program has ended, unless [`ExecSession::has_ended`] was true before.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.client.as_fd()
    }
}
