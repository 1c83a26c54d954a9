//! Requests of clients.

use std::os::fd::OwnedFd;
use std::time::Duration;

use carrack_monitor_proto::{
    Attach, ContainerPhase, Create, ExecRequest, PROTOCOL_VERSION, PodState, Request, Response, Signal, Size, Stream,
    StreamFrame,
};
use carrack_sys::rustix::io::ioctl_fionbio;
use carrack_words::{ContainerId, ExecId, ProcessId};

use crate::connection::{Connection, Role};
use crate::container::{Container, ContainerKey, Exec};
use crate::error::RequestError;
use crate::journal::chain;
use crate::lifecycle::{Event, Failure, Lifecycle, Phase, Refused, StartMode, StartedBy};
use crate::log::LogFile;
use crate::pod::{ConnectionKey, Pod};
use crate::process;
use crate::streams::{InputWanted, Streams};

/// How a request is answered.
enum Reply {
    /// At once.
    Now(Response),
    /// At once, and the connection is for something else from now on.
    Become(Response, Option<OwnedFd>, Role),
    /// At once, and the connection carries streams from now on.
    Streams(Response, ContainerKey, Attach),
    /// When something has happened.
    Later(Role),
}

/// A container that was created.
struct Launched {
    process: ProcessId,
    streams: Streams,
    log: Option<LogFile>,
}

impl Pod {
    /// Works on what a connection has received, as far as its role allows.
    pub(crate) fn serve(&mut self, key: ConnectionKey) {
        while let Some(connection) = self.connections.get_mut(&key) {
            let is_greeting = match &connection.role {
                Role::Greeting => true,
                Role::Idle => false,
                Role::Attached { .. } => return self.take_stream_frames(key),
                Role::Waiting { .. } | Role::Removing { .. } | Role::Executing { .. } | Role::Closing => return,
            };
            let request = match connection.input.message::<Request>() {
                Ok(Some(request)) => request,
                Ok(None) => return,
                Err(error) => {
                    connection.answer(&Response::Error { kind: error.kind(), message: chain(&error) }, None);
                    connection.role = Role::Closing;
                    return;
                }
            };
            let handles = connection.take_handles();
            let reply = if is_greeting { self.greet(request) } else { self.carry_out_request(key, request, handles) };
            let Some(connection) = self.connections.get_mut(&key) else { return };
            match reply {
                Ok(Reply::Now(response)) => connection.answer(&response, None),
                Ok(Reply::Become(response, handle, role)) => {
                    connection.answer(&response, handle);
                    connection.role = role;
                }
                Ok(Reply::Streams(response, container, attach)) => {
                    connection.answer(&response, None);
                    connection.attach(container, attach);
                }
                Ok(Reply::Later(role)) => connection.role = role,
                Err(error) => {
                    connection.answer(&Response::Error { kind: error.kind(), message: chain(&error) }, None);
                    if is_greeting {
                        connection.role = Role::Closing;
                    }
                }
            }
        }
    }

    /// Forgets a connection, and does what its client wanted done in that case.
    pub(crate) fn drop_connection(&mut self, key: ConnectionKey) {
        let Some(Connection { role, .. }) = self.connections.remove(&key) else { return };
        match role {
            Role::Executing { exec_id, kill_on_disconnect: true } => {
                if let Err(error) = self.signal_exec(&exec_id, Signal::KILL) {
                    self.journal.note_error(&error);
                }
            }
            Role::Attached { container, attach } if attach.stdin => self.input_ended(container),
            Role::Greeting
            | Role::Idle
            | Role::Waiting { .. }
            | Role::Removing { .. }
            | Role::Executing { .. }
            | Role::Attached { .. }
            | Role::Closing => {}
        }
    }

    fn greet(&self, request: Request) -> Result<Reply, RequestError> {
        let Request::Hello { version } = request else { return Err(RequestError::HelloExpected) };
        if version != PROTOCOL_VERSION {
            return Err(RequestError::Version { version });
        }
        let monitor = process::own().map_err(|source| RequestError::Own { source })?;
        Ok(Reply::Become(Response::Hello { version: PROTOCOL_VERSION, monitor }, None, Role::Idle))
    }

    fn carry_out_request(
        &mut self,
        key: ConnectionKey,
        request: Request,
        handles: Vec<OwnedFd>,
    ) -> Result<Reply, RequestError> {
        match request {
            Request::Hello { .. } => self.greet(request),
            Request::State => self.tell_state(),
            Request::Create(create) => self.create(*create),
            Request::Start { id } => self.start(&id),
            Request::Signal { id, signal, scope } => {
                let key = self.containers[self.running(&id)?].key;
                self.launcher.kill(&id, signal, scope).map_err(|source| RequestError::Launch { source })?;
                if signal == Signal::KILL {
                    self.happen(key, Event::KilledByHand);
                }
                Ok(Reply::Now(Response::Done))
            }
            Request::Stop { id, signal, timeout } => self.stop(key, &id, signal, timeout),
            Request::Wait { id } => self.wait_for_exit(&id),
            Request::Exec(request) => self.exec(*request, handles),
            Request::ExecKill { exec_id, signal } => {
                self.signal_exec(&exec_id, signal)?;
                Ok(Reply::Now(Response::Done))
            }
            Request::ExecDetach { exec_id } => self.detach_exec(&exec_id, handles),
            Request::Attach(attach) => self.attach(attach),
            Request::Resize { id, rows, columns } => self.resize(&id, Size { rows, columns }),
            Request::ReopenLog { id } => self.reopen_log(&id),
            Request::UpdateRestart { id, policy } => {
                let key = self.containers[self.find(&id)?].key;
                self.happen(key, Event::PolicyChanged { policy });
                Ok(Reply::Now(Response::Done))
            }
            Request::Remove { id } => self.remove(key, &id),
            Request::Shutdown => self.shut_down(),
        }
    }

    fn find(&self, id: &ContainerId) -> Result<usize, RequestError> {
        self.containers
            .iter()
            .position(|container| container.create.id == *id)
            .ok_or_else(|| RequestError::UnknownContainer { id: id.clone() })
    }

    /// Where a container stands in the list, if it has a living process.
    fn running(&self, id: &ContainerId) -> Result<usize, RequestError> {
        let at = self.find(id)?;
        match self.containers[at].life.init() {
            Some(_) => Ok(at),
            None => Err(RequestError::Refused { source: Refused::NotRunning { id: id.clone() } }),
        }
    }

    fn tell_state(&self) -> Result<Reply, RequestError> {
        Ok(Reply::Now(Response::State(Box::new(PodState {
            id: self.config.id.clone(),
            monitor: process::own().map_err(|source| RequestError::Own { source })?,
            pod_init: self.namespaces.pod_init,
            namespaces: self.namespaces.paths(),
            containers: self.containers.iter().map(|container| container.life.state()).collect(),
        }))))
    }

    fn create(&mut self, create: Create) -> Result<Reply, RequestError> {
        if self.ending.is_some() {
            return Err(RequestError::Ending { pod: self.config.id.clone() });
        }
        if self.find(&create.id).is_ok() {
            return Err(RequestError::ContainerExists { id: create.id });
        }
        let Launched { process, streams, log } = self.launch(&create)?;
        self.containers.push(Container {
            key: ContainerKey(self.next_container),
            life: Lifecycle::new(create.id.clone(), process, create.restart),
            create,
            streams,
            log,
            drain_until: None,
        });
        self.next_container += 1;
        Ok(Reply::Now(Response::Created { process }))
    }

    /// Opens log and streams of a container and has the runtime create it.
    fn launch(&self, create: &Create) -> Result<Launched, RequestError> {
        let log = create.log.as_ref().map(|log| LogFile::open(&log.path)).transpose();
        let log = log.map_err(|source| RequestError::Log { source })?;
        let input = if create.stdin { InputWanted::Yes } else { InputWanted::No };
        let of_streams = |source| RequestError::Streams { source };
        let (streams, sides) = if create.terminal {
            (Streams::default(), Streams::sides_for_terminal().map_err(of_streams)?)
        } else {
            Streams::make_pipes(&self.run_dir.streams_of(&create.id), input).map_err(of_streams)?
        };
        let of_launch = |source| RequestError::Launch { source };
        let staged = self.launcher.create(create, self.namespaces.paths(), &sides).map_err(of_launch)?;
        for warning in &staged.warnings {
            self.journal.note(format_args!("container {}: {warning}", create.id));
        }
        let streams = match staged.console {
            Some(console) => Streams::of_terminal(console, input).map_err(of_streams)?,
            None => streams,
        };
        Ok(Launched { process: staged.process, streams, log })
    }

    /// Creates a container that has exited once more.
    pub(crate) fn recreate(&mut self, at: usize, by: StartedBy) -> Result<(), RequestError> {
        let Launched { process, streams, log } = self.launch(&self.containers[at].create)?;
        let container = &mut self.containers[at];
        container.streams = streams;
        container.log = log;
        let key = container.key;
        self.happen(key, Event::Recreated { init: process, by });
        Ok(())
    }

    fn start(&mut self, id: &ContainerId) -> Result<Reply, RequestError> {
        let at = self.find(id)?;
        let container = &self.containers[at];
        let key = container.key;
        match container.life.start_mode().map_err(|source| RequestError::Refused { source })? {
            StartMode::Release => {}
            StartMode::Recreate if self.ending.is_some() => {
                return Err(RequestError::Ending { pod: self.config.id.clone() });
            }
            StartMode::Recreate => self.recreate(at, StartedBy::Hand)?,
        }
        self.release(key)?;
        let started = self.containers[self.find(id)?].life.state();
        match started.phase {
            ContainerPhase::Running { process, since } => Ok(Reply::Now(Response::Started { at: since, process })),
            ContainerPhase::Created { .. } | ContainerPhase::BackOff { .. } | ContainerPhase::Exited { .. } => {
                Err(RequestError::Refused { source: Refused::NotRunning { id: id.clone() } })
            }
        }
    }

    /// Lets a created container run its program.
    pub(crate) fn release(&mut self, key: ContainerKey) -> Result<(), RequestError> {
        let Some(at) = self.position(key) else { return Ok(()) };
        match self.launcher.start(&self.containers[at].create.id) {
            Ok(()) => {
                self.happen(key, Event::Started);
                Ok(())
            }
            Err(source) => {
                let failure = Failure::new(source.kind(), chain(&source));
                self.happen(key, Event::StartFailed(failure));
                Err(RequestError::Launch { source })
            }
        }
    }

    fn stop(
        &mut self,
        connection: ConnectionKey,
        id: &ContainerId,
        signal: Signal,
        timeout: Duration,
    ) -> Result<Reply, RequestError> {
        let key = self.containers[self.find(id)?].key;
        // The role comes first: what has ended already is announced within the event.
        self.become_waiting(connection, Role::Waiting { container: key });
        self.happen(key, Event::StopAsked { signal, timeout });
        match self.connections.get(&connection).map(|connection| &connection.role) {
            Some(Role::Waiting { .. }) => self.wait_for_exit(id),
            _ => Ok(Reply::Later(Role::Idle)),
        }
    }

    fn become_waiting(&mut self, connection: ConnectionKey, role: Role) {
        if let Some(connection) = self.connections.get_mut(&connection) {
            connection.role = role;
        }
    }

    fn wait_for_exit(&self, id: &ContainerId) -> Result<Reply, RequestError> {
        let container = &self.containers[self.find(id)?];
        match container.life.phase() {
            Phase::Exited { last } => Ok(Reply::Become(Response::Exited(last.clone()), None, Role::Idle)),
            Phase::Created { .. } | Phase::Running { .. } | Phase::Ending { .. } | Phase::BackOff { .. } => {
                Ok(Reply::Later(Role::Waiting { container: container.key }))
            }
        }
    }

    fn exec(&mut self, request: ExecRequest, handles: Vec<OwnedFd>) -> Result<Reply, RequestError> {
        let ExecRequest { id, exec_id, process, kill_on_disconnect } = request;
        let container = &self.containers[self.find(&id)?];
        match container.life.phase() {
            Phase::Running { .. } => {}
            Phase::Created { .. } | Phase::Ending { .. } | Phase::BackOff { .. } | Phase::Exited { .. } => {
                return Err(RequestError::Refused { source: Refused::NotRunning { id } });
            }
        }
        if self.execs.iter().any(|exec| exec.id == exec_id) {
            return Err(RequestError::ExecExists { id: exec_id });
        }
        let stdio = if process.terminal { null_handles()? } else { exec_handles(handles)? };
        let staged = self.launcher.exec(&id, process, &stdio).map_err(|source| RequestError::Launch { source })?;
        self.execs.push(Exec { id: exec_id.clone(), pid: staged.process.pid, pidfd: staged.pidfd, console: None });
        let response = Response::ExecStarted { exec_id: exec_id.clone(), process: staged.process };
        Ok(Reply::Become(response, staged.console, Role::Executing { exec_id, kill_on_disconnect }))
    }

    fn signal_exec(&self, exec_id: &ExecId, signal: Signal) -> Result<(), RequestError> {
        let Some(exec) = self.execs.iter().find(|exec| exec.id == *exec_id) else { return Ok(()) };
        use std::os::fd::AsFd;
        match carrack_sys::signal::send(exec.pidfd.as_fd(), signal.number()) {
            // It has died, and is not reaped yet.
            Err(error) if error.raw_os_error() == Some(carrack_sys::rustix::io::Errno::SRCH.raw_os_error()) => Ok(()),
            Err(source) => Err(RequestError::SignalExec { id: exec_id.clone(), source }),
            Ok(()) => Ok(()),
        }
    }

    fn detach_exec(&mut self, exec_id: &ExecId, mut handles: Vec<OwnedFd>) -> Result<Reply, RequestError> {
        for connection in self.connections.values_mut() {
            if let Role::Executing { exec_id: running, kill_on_disconnect } = &mut connection.role
                && running == exec_id
            {
                *kill_on_disconnect = false;
            }
        }
        if let Some(exec) = self.execs.iter_mut().find(|exec| exec.id == *exec_id)
            && let Some(console) = handles.pop()
        {
            ioctl_fionbio(&console, true).map_err(|errno| RequestError::Console { source: errno.into() })?;
            exec.console = Some(console);
        }
        Ok(Reply::Now(Response::Done))
    }

    fn attach(&mut self, attach: Attach) -> Result<Reply, RequestError> {
        let container = &self.containers[self.find(&attach.id)?];
        if container.life.has_exited() {
            return Err(RequestError::Refused { source: Refused::NotRunning { id: attach.id } });
        }
        let response = Response::Attached { terminal: container.create.terminal };
        Ok(Reply::Streams(response, container.key, attach))
    }

    fn resize(&mut self, id: &ContainerId, size: Size) -> Result<Reply, RequestError> {
        let container = &self.containers[self.running(id)?];
        if !container.streams.is_terminal() {
            return Err(RequestError::NoTerminal { id: id.clone() });
        }
        container.streams.resize(size).map_err(|source| RequestError::Resize { id: id.clone(), source })?;
        Ok(Reply::Now(Response::Done))
    }

    fn reopen_log(&mut self, id: &ContainerId) -> Result<Reply, RequestError> {
        let at = self.running(id)?;
        // Between two requests every record is whole, so the change comes between two lines.
        match &mut self.containers[at].log {
            Some(log) => log.reopen().map_err(|source| RequestError::Log { source })?,
            None => return Err(RequestError::NoLog { id: id.clone() }),
        }
        Ok(Reply::Now(Response::Done))
    }

    fn remove(&mut self, connection: ConnectionKey, id: &ContainerId) -> Result<Reply, RequestError> {
        let Ok(at) = self.find(id) else { return Ok(Reply::Now(Response::Done)) };
        let container = &self.containers[at];
        if container.life.has_exited() {
            self.containers.remove(at);
            return Ok(Reply::Now(Response::Done));
        }
        let key = container.key;
        self.become_waiting(connection, Role::Removing { container: key });
        self.happen(key, Event::StopAsked { signal: Signal::KILL, timeout: Duration::ZERO });
        match self.position(key) {
            Some(_) => Ok(Reply::Later(Role::Removing { container: key })),
            // It was waiting for a restart: its end was announced within the event, and this connection answered.
            None => Ok(Reply::Later(Role::Idle)),
        }
    }

    fn shut_down(&mut self) -> Result<Reply, RequestError> {
        if let Some(container) = self.containers.iter().find(|container| !container.life.has_exited()) {
            return Err(RequestError::NotExited { id: container.create.id.clone() });
        }
        self.begin_end(crate::cleanup::RunCleanup::No);
        Ok(Reply::Now(Response::Done))
    }

    /// What an attached client sends.
    fn take_stream_frames(&mut self, key: ConnectionKey) {
        loop {
            let Some(connection) = self.connections.get_mut(&key) else { return };
            let Role::Attached { container: container_key, attach } = &connection.role else { return };
            let (container_key, brings_stdin) = (*container_key, attach.stdin);
            let frame = match connection.input.stream_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => return,
                Err(error) => {
                    self.journal.note_error(&error);
                    return self.drop_connection(key);
                }
            };
            let Some(at) = self.position(container_key) else { return };
            let streams = &mut self.containers[at].streams;
            match frame {
                StreamFrame::Data { stream: Stream::Stdin, bytes } if brings_stdin => {
                    streams.input.push(&bytes);
                    streams.input.flush();
                }
                StreamFrame::StdinClosed if brings_stdin => self.input_ended(container_key),
                StreamFrame::Resize(size) => {
                    // The container may have no terminal, or none yet; a client cannot know, and has nobody to tell.
                    let _ = streams.resize(size);
                }
                StreamFrame::Data { .. } | StreamFrame::StdinClosed | StreamFrame::End(_) => {
                    self.journal.note("an attached client sent a frame that it may not send");
                    return self.drop_connection(key);
                }
            }
        }
    }

    /// The input of a client that brought one has ended. A terminal stays usable for the next client.
    fn input_ended(&mut self, key: ContainerKey) {
        let Some(at) = self.position(key) else { return };
        let container = &mut self.containers[at];
        if container.create.stdin_once && !container.create.terminal {
            container.streams.input.close();
        }
    }
}

fn exec_handles(handles: Vec<OwnedFd>) -> Result<[OwnedFd; 3], RequestError> {
    let got = handles.len();
    handles.try_into().map_err(|_| RequestError::Handles { got, want: 3 })
}

/// What a stage gets in place of the streams of a process with a terminal.
fn null_handles() -> Result<[OwnedFd; 3], RequestError> {
    let sides =
        || Streams::sides_for_terminal().map(|sides| sides.stdin).map_err(|source| RequestError::Streams { source });
    Ok([sides()?, sides()?, sides()?])
}
