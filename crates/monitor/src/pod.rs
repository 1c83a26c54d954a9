//! The loop of one pod.
//!
//! One thread waits for whatever happens next: a signal (a child has died), a client, output of a container, room in a container's input, a
//! deadline. Nothing it does waits for a client or for a container's program. Creating, starting and executing wait for a stage: some
//! milliseconds, with hooks as long as those take.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use carrack_monitor_proto::PodConfig;
use carrack_sys::heap;
use carrack_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use carrack_sys::rustix::io::{Errno, read};
use carrack_sys::rustix::net::{SocketFlags, accept_with};
use carrack_sys::signal_queue::SignalQueue;
use carrack_words::Timestamp;

use crate::cleanup::Ending;
use crate::connection::{Connection, LAST_OUTPUT_BOUND_BYTES, OUTPUT_BOUND_BYTES, Peer, Role};
use crate::container::{Container, ContainerKey, Exec, Recorder};
use crate::error::MonitorError;
use crate::journal::Journal;
use crate::launch::Launcher;
use crate::lifecycle::Now;
use crate::namespaces::PodNamespaces;
use crate::run_dir::RunDir;

/// More clients than this at once are turned away.
const MAX_CONNECTIONS: usize = 512;
/// How much of an output is read at once.
const READ_BYTES: usize = 16 << 10;

/// Names a connection within the monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConnectionKey(u64);

/// Something that is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Signals,
    Listener,
    Connection(ConnectionKey),
    Output(ContainerKey, usize),
    Input(ContainerKey),
    /// The terminal of the exec with this pid.
    Console(i32),
}

/// What the loop works on.
pub(crate) struct Pod {
    pub(crate) config: PodConfig,
    pub(crate) run_dir: RunDir,
    pub(crate) launcher: Launcher,
    pub(crate) namespaces: PodNamespaces,
    pub(crate) journal: Journal,
    pub(crate) signals: SignalQueue,
    /// Absent once the monitor is ending.
    pub(crate) listener: Option<OwnedFd>,
    pub(crate) containers: Vec<Container>,
    pub(crate) execs: Vec<Exec>,
    pub(crate) connections: BTreeMap<ConnectionKey, Connection>,
    pub(crate) recorder: Recorder,
    pub(crate) buffer: Box<[u8; READ_BYTES]>,
    pub(crate) ending: Option<Ending>,
    pub(crate) next_container: u32,
    next_connection: u64,
    epoch: Instant,
    /// Whether memory was used that the allocator may now give back.
    has_worked: bool,
}

/// What a [`Pod`] begins with.
pub(crate) struct Parts {
    pub(crate) config: PodConfig,
    pub(crate) run_dir: RunDir,
    pub(crate) launcher: Launcher,
    pub(crate) namespaces: PodNamespaces,
    pub(crate) journal: Journal,
    pub(crate) signals: SignalQueue,
    pub(crate) listener: OwnedFd,
}

impl Pod {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { config, run_dir, launcher, namespaces, journal, signals, listener } = parts;
        Self {
            config,
            run_dir,
            launcher,
            namespaces,
            journal,
            signals,
            listener: Some(listener),
            containers: Vec::new(),
            execs: Vec::new(),
            connections: BTreeMap::new(),
            recorder: Recorder::default(),
            buffer: Box::new([0; READ_BYTES]),
            ending: None,
            next_container: 0,
            next_connection: 0,
            epoch: Instant::now(),
            has_worked: true,
        }
    }

    /// Works until the pod is over.
    pub(crate) fn run(mut self) -> Result<(), MonitorError> {
        // Nobody is left to return it to.
        self.work().inspect_err(|error| self.journal.note_error(error))
    }

    fn work(&mut self) -> Result<(), MonitorError> {
        loop {
            self.pass_time();
            self.serve_waiting_requests();
            self.end_if_over();
            self.flush_connections();
            if self.may_leave() {
                self.leave();
                return Ok(());
            }
            if std::mem::take(&mut self.has_worked) {
                heap::trim();
            }
            for (source, happened) in self.wait()? {
                self.handle(source, happened)?;
            }
        }
    }

    pub(crate) fn now(&self) -> Now {
        Now { wall: Timestamp::now(), monotonic: self.epoch.elapsed() }
    }

    /// Where a container stands in the list; containers go away, so it is asked anew each time.
    pub(crate) fn position(&self, key: ContainerKey) -> Option<usize> {
        self.containers.iter().position(|container| container.key == key)
    }

    fn wait(&self) -> Result<Vec<(Source, PollFlags)>, MonitorError> {
        let mut sources = Vec::new();
        let mut polled = vec![PollFd::new(&self.signals, PollFlags::IN)];
        sources.push(Source::Signals);
        if let Some(listener) = &self.listener {
            sources.push(Source::Listener);
            polled.push(PollFd::new(listener, PollFlags::IN));
        }
        for (key, connection) in &self.connections {
            sources.push(Source::Connection(*key));
            polled.push(PollFd::new(connection, self.interest(connection)));
        }
        for container in &self.containers {
            self.watch(container, &mut sources, &mut polled);
        }
        for exec in &self.execs {
            if let Some(console) = &exec.console {
                sources.push(Source::Console(exec.pid));
                polled.push(PollFd::new(console, PollFlags::IN));
            }
        }
        let timeout = self.timeout().map(timespec);
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(vec![]),
            Err(error) => return Err(MonitorError::System { action: "wait for events", source: error.into() }),
        }
        let happened = sources.into_iter().zip(polled.iter().map(PollFd::revents));
        // Signals come last, so that what a container wrote is read before its death is looked at.
        let mut happened: Vec<_> = happened.filter(|(_, flags)| !flags.is_empty()).collect();
        happened.sort_by_key(|(source, _)| *source == Source::Signals);
        Ok(happened)
    }

    /// What is awaited of a connection. One that reads nothing now is still told when its peer has gone.
    fn interest(&self, connection: &Connection) -> PollFlags {
        let mut flags = match &connection.role {
            Role::Greeting | Role::Idle => PollFlags::IN,
            Role::Attached { container, .. } => {
                let input_bytes = self.position(*container).map_or(0, |at| self.containers[at].streams.input.len());
                if input_bytes < OUTPUT_BOUND_BYTES { PollFlags::IN } else { PollFlags::empty() }
            }
            Role::Waiting { .. } | Role::Removing { .. } | Role::Executing { .. } => PollFlags::RDHUP,
            Role::Closing => PollFlags::empty(),
        };
        if connection.output_bytes() > 0 {
            flags |= PollFlags::OUT;
        }
        flags
    }

    fn watch<'a>(&'a self, container: &'a Container, sources: &mut Vec<Source>, polled: &mut Vec<PollFd<'a>>) {
        if let Some(writer) = container.streams.input.writer() {
            sources.push(Source::Input(container.key));
            polled.push(PollFd::from_borrowed_fd(writer, PollFlags::OUT));
        }
        // Once the container is dead its output is bounded, and nobody may delay the record of its end.
        let is_held_back = container.drain_until.is_none()
            && self.connections.values().any(|connection| connection.holds_back(container.key));
        if is_held_back {
            return;
        }
        for (index, output) in container.streams.outputs.iter().enumerate() {
            if let Some(reader) = output.reader() {
                sources.push(Source::Output(container.key, index));
                polled.push(PollFd::from_borrowed_fd(reader, PollFlags::IN));
            }
        }
    }

    /// How long nothing can happen by itself.
    fn timeout(&self) -> Option<Duration> {
        let lives = self.containers.iter().filter_map(|container| container.life.deadline());
        let drains = self.containers.iter().filter_map(|container| container.drain_until);
        let ending = self.ending.as_ref().map(Ending::deadline);
        let next = lives.chain(drains).chain(ending).min()?;
        Some(next.saturating_sub(self.epoch.elapsed()))
    }

    fn handle(&mut self, source: Source, happened: PollFlags) -> Result<(), MonitorError> {
        match source {
            Source::Signals => self.read_signals()?,
            Source::Listener => self.accept(),
            Source::Connection(key) => self.handle_connection(key, happened),
            Source::Output(key, index) => {
                if let Some(at) = self.position(key) {
                    self.read_output(at, index);
                    self.finish_drain_if_over(at);
                }
                return Ok(());
            }
            Source::Console(pid) => {
                self.read_console(pid);
                return Ok(());
            }
            Source::Input(key) => {
                if let Some(at) = self.position(key) {
                    self.containers[at].streams.input.flush();
                }
            }
        }
        self.has_worked = true;
        Ok(())
    }

    /// Throws away what an exec writes to a terminal that nobody looks at any more, so that it does not wait for a reader.
    fn read_console(&mut self, pid: i32) {
        let Some(exec) = self.execs.iter_mut().find(|exec| exec.pid == pid) else { return };
        let Some(console) = &exec.console else { return };
        match read(console, &mut self.buffer[..]) {
            Ok(1..) | Err(Errno::AGAIN | Errno::INTR) => {}
            // Nobody has the other side open.
            Ok(0) | Err(_) => exec.console = None,
        }
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        match accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(socket) if self.connections.len() < MAX_CONNECTIONS => {
                self.connections.insert(ConnectionKey(self.next_connection), Connection::new(socket));
                self.next_connection += 1;
            }
            Ok(_) => self.journal.note("a client is turned away: there are too many"),
            // The client may have gone again; when handles are short, it tries again.
            Err(error) => self.journal.note(format_args!("accept a client: {error}")),
        }
    }

    fn handle_connection(&mut self, key: ConnectionKey, happened: PollFlags) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        let mut peer = Peer::Here;
        if happened.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::RDHUP) {
            connection.receive_rest();
            peer = Peer::Gone;
        } else if happened.contains(PollFlags::IN) {
            peer = connection.receive();
        }
        self.serve(key);
        if peer == Peer::Gone {
            self.drop_connection(key);
        }
    }

    /// Requests that came while another one of their connection was pending.
    fn serve_waiting_requests(&mut self) {
        let waiting = self.connections.iter().filter(|(_, connection)| {
            matches!(connection.role, Role::Idle | Role::Attached { .. }) && !connection.input.is_empty()
        });
        let waiting: Vec<_> = waiting.map(|(key, _)| *key).collect();
        for key in waiting {
            self.serve(key);
        }
    }

    /// Sends what can be sent, and drops clients that have gone, are done, or do not keep up.
    fn flush_connections(&mut self) {
        let mut dropped = Vec::new();
        for (key, connection) in &mut self.connections {
            let peer = connection.flush();
            let is_done = matches!(connection.role, Role::Closing) && connection.output_bytes() == 0;
            let is_slow = match &connection.role {
                Role::Attached { container, attach } => {
                    let mut draining = self.containers.iter().filter(|other| other.drain_until.is_some());
                    let bound = match draining.any(|other| other.key == *container) {
                        true => LAST_OUTPUT_BOUND_BYTES,
                        false => OUTPUT_BOUND_BYTES,
                    };
                    !attach.lossless && connection.output_bytes() > bound
                }
                Role::Greeting
                | Role::Idle
                | Role::Waiting { .. }
                | Role::Removing { .. }
                | Role::Executing { .. }
                | Role::Closing => false,
            };
            if peer == Peer::Gone || is_done || is_slow {
                dropped.push(*key);
            }
        }
        for key in dropped {
            self.drop_connection(key);
        }
    }

    fn read_signals(&mut self) -> Result<(), MonitorError> {
        let failed = |source| MonitorError::System { action: "read a signal", source };
        while let Some(signal) = self.signals.next().map_err(failed)? {
            if signal.number != crate::run::SIGCHLD {
                // Whoever wants the pod gone stops it; a stray signal must not cut containers off from their logs.
                self.journal
                    .note(format_args!("signal {} from process {} is ignored", signal.number, signal.sender_pid));
            }
        }
        self.reap();
        Ok(())
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}
