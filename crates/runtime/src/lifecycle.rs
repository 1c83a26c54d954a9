//! The verbs after `create`: start, kill, pause, resume, delete.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use carrack_cgroup::Group;
use carrack_oci_config::{LinuxResources, State, Status};
use carrack_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use carrack_sys::rustix::io::Errno;
use carrack_sys::rustix::process::{PidfdFlags, pidfd_open};
use carrack_sys::signal;
use carrack_words::{ContainerId, Kind, ProcessId};

use crate::channel::{FromInside, ToInside};
use crate::create::{hook_state, pid_of};
use crate::describe::describe;
use crate::hook::{HookError, run_all_hooks, run_hooks};
use crate::listener::Agent;
use crate::plan::in_todays_words;
use crate::process_stat;
use crate::scope;
use crate::stage::{DEADLINE, receive_message, send_message, wait_readable};
use crate::state::{group_of, status_of};
use crate::state_dir::{Record, StateDir, StateDirError};
use crate::step::{Doing, StepError};

/// `start` failed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateDirError),
    /// The container's state does not allow it.
    #[error("{message}")]
    WrongState {
        /// What is wrong.
        message: String,
    },
    /// A step outside.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The program could not be executed, or a hook inside failed.
    #[error("{message}")]
    Inside {
        /// Class.
        kind: Kind,
        /// The whole chain.
        message: String,
    },
}

impl StartError {
    /// Its class.
    pub fn kind(&self) -> Kind {
        match self {
            Self::State(error) => error.kind(),
            Self::WrongState { .. } => Kind::Precondition,
            Self::Step(error) => error.kind(),
            Self::Inside { kind, .. } => *kind,
        }
    }
}

fn record_of(directory: &StateDir) -> Result<Record, StateDirError> {
    directory.read()?.ok_or_else(|| StateDirError::NotFound { id: directory.id().clone() })
}

/// Runs the program of a created container. Returns when it is executed, or tells why it is not; then the container is stopped.
pub fn start(state_root: &Path, id: &ContainerId) -> Result<(), StartError> {
    start_after(state_root, id, |_| Ok(()))
}

/// The same; `prepare` is done before, when it is certain that the container has not been started, and nobody else can start it.
pub fn start_after<T>(
    state_root: &Path,
    id: &ContainerId,
    prepare: impl FnOnce(&StateDir) -> Result<T, StepError>,
) -> Result<T, StartError> {
    let directory = StateDir::open_locked(state_root, id)?;
    let record = record_of(&directory)?;
    let wrong = |message: String| Err(StartError::WrongState { message });
    match status_of(&directory, &record, None)? {
        Status::Created => {}
        Status::Stopped => return wrong("cannot start a container that has stopped".into()),
        Status::Running | Status::Paused => return wrong("cannot start an already running container".into()),
        Status::Creating => return wrong("cannot start a container in the creating state".into()),
    }
    let prepared = prepare(&directory)?;
    let mut connection = match UnixStream::connect(directory.start_socket()) {
        Ok(connection) => connection,
        // The last `start` died between the exec and removing the socket.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            directory.remove_start_socket()?;
            return wrong("cannot start an already running container".into());
        }
        Err(error) => return Err(error).doing(|| "connect to the container's first process").map_err(Into::into),
    };
    connection.write_all(b"s").doing(|| "tell the container to start")?;
    let answer = loop {
        // Whoever shares its pid namespace could have stopped the container's first process; SIGKILL ends a stopped one too.
        if wait_readable(&connection, Instant::now() + DEADLINE)
            .doing(|| "wait for the container's first process")?
            .is_none()
        {
            let group = group_of(&record)?;
            if group.is_frozen().unwrap_or(false) {
                return wrong("cannot start a container in the paused state".into());
            }
            if let Some(init) = record.init {
                kill_and_wait(init, &group)?;
            }
            directory.remove_start_socket()?;
            return wrong("the container's first process did not start its program in time".into());
        }
        let answer = receive_message::<FromInside>(&connection);
        let (Ok((FromInside::Listener { number }, _)), Some(agent), Some(init)) =
            (&answer, record.agent(), record.init)
        else {
            break answer;
        };
        let introduced = introduce(agent, init, *number, &record)
            .and_then(|()| send_message(&connection, &ToInside::Continue, &[]).doing(|| "tell the container to go on"));
        if let Err(error) = introduced {
            // Under its filter, with nobody to answer, it could not even end by itself.
            kill_and_wait(init, &group_of(&record)?)?;
            directory.remove_start_socket()?;
            return Err(error.into());
        }
    };
    directory.remove_start_socket()?;
    match answer {
        Ok((FromInside::Failed { kind, message }, _)) => Err(StartError::Inside { kind, message }),
        Ok((other, _)) => wrong(format!("unexpected message from the container: {other:?}")),
        // The handle is closed by the exec.
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset) =>
        {
            run_poststart(&record).map(|()| prepared)
        }
        Err(error) => Err(error).doing(|| "hear from the container").map_err(Into::into),
    }
}

/// Makes the first process known to the agent of its filter.
fn introduce(agent: &Agent, init: ProcessId, number: i32, record: &Record) -> Result<(), StepError> {
    let pidfd = pidfd_open(pid_of(init)?, PidfdFlags::empty()).doing(|| "open the container's first process")?;
    // It waits for us, so it is still the one that has the number.
    let state = State { pid: init.pid, status: Status::Created, ..hook_state(record) };
    agent.introduce(pidfd.as_fd(), init.pid, number, state)
}

/// Runs the poststart hooks; if one fails the container is killed, as with existing runtimes.
pub fn run_poststart(record: &Record) -> Result<(), StartError> {
    if record.poststart.is_empty() {
        return Ok(());
    }
    let pid = record.init.map_or(0, |init| init.pid);
    let state = State { pid, status: Status::Running, ..hook_state(record) };
    run_hooks("poststart", &record.poststart, &state, &record.bundle).map_err(|error| {
        if let Some(init) = record.init {
            // The hook's failure is what is told.
            let _ = send(init, 9);
        }
        StepError::from(error).into()
    })
}

/// Whom a signal goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillScope {
    /// The first process.
    Init,
    /// Every process of the container's cgroup.
    All,
}

/// `kill`, `pause`, `resume`, `update` or `ps` failed.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateDirError),
    /// The container does not run.
    #[error("container not running")]
    NotRunning,
    /// The container is not paused.
    #[error("container not paused")]
    NotPaused,
    /// A step.
    #[error(transparent)]
    Step(#[from] StepError),
}

impl SignalError {
    /// Its class.
    pub fn kind(&self) -> Kind {
        match self {
            Self::State(error) => error.kind(),
            Self::NotRunning | Self::NotPaused => Kind::Precondition,
            Self::Step(error) => error.kind(),
        }
    }
}

/// Sends a signal to a process if it is still that one.
fn send(process: ProcessId, number: i32) -> Result<(), SignalError> {
    let handle = match pidfd_open(pid_of(process)?, PidfdFlags::empty()) {
        Err(Errno::SRCH) => return Err(SignalError::NotRunning),
        other => other.doing(|| "open the container's first process")?,
    };
    if !process_stat::is_alive(process).doing(|| "look at the container's first process")? {
        return Err(SignalError::NotRunning);
    }
    match signal::send(handle.as_fd(), number) {
        Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Err(SignalError::NotRunning),
        other => Ok(other.doing(|| "unable to signal init")?),
    }
}

fn cgroup_step<E: std::error::Error + 'static>(kind: impl Fn(&E) -> Kind) -> impl Fn(E) -> StepError {
    move |error| StepError::refused(kind(&error), describe(&error))
}

/// Sends a signal. Of a stopped container, only [`KillScope::All`] is fine: there is nobody left.
///
/// A container without a pid namespace of its own does not end with its first process, so SIGKILL goes to all of it.
pub fn kill(state_root: &Path, id: &ContainerId, number: i32, scope: KillScope) -> Result<(), SignalError> {
    let directory = StateDir::open(state_root, id)?;
    let record = record_of(&directory)?;
    if scope == KillScope::All {
        return kill_group(&group_of(&record)?, number);
    }
    let Some(init) = record.init else { return Err(SignalError::NotRunning) };
    if number == 9 && !record.has_own_pids && process_stat::is_alive(init).doing(|| "look at the container")? {
        return kill_group(&group_of(&record)?, number);
    }
    let sent = send(init, number);
    if sent.is_ok() && number == 9 {
        thaw_killed(&group_of(&record)?)?;
    }
    sent
}

/// A frozen process dies only when it is thawed (version 1).
fn thaw_killed(group: &Group) -> Result<(), StepError> {
    if !group.is_frozen().unwrap_or(false) {
        return Ok(());
    }
    match group.thaw() {
        // It went away with the last process.
        Err(error) if error.kind() == Kind::NotFound => Ok(()),
        other => other.map_err(cgroup_step(carrack_cgroup::CgroupError::kind)),
    }
}

fn kill_group(group: &Group, number: i32) -> Result<(), SignalError> {
    let failed = cgroup_step(carrack_cgroup::CgroupError::kind);
    if number == 9 {
        return Ok(group.kill_all().map_err(failed)?);
    }
    for pid in group.pids().map_err(failed)?.into_iter().map(|pid| pid.as_raw_nonzero().get()) {
        let Some(process) = process_stat::identify(pid).doing(|| format!("look at process {pid}"))? else { continue };
        match send(process, number) {
            Ok(()) | Err(SignalError::NotRunning) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Freezes all processes of the container.
pub fn pause(state_root: &Path, id: &ContainerId) -> Result<(), SignalError> {
    let directory = StateDir::open_locked(state_root, id)?;
    let record = record_of(&directory)?;
    let group = group_of(&record)?;
    match status_of(&directory, &record, Some(&group))? {
        Status::Running | Status::Created => {
            Ok(group.freeze().map_err(cgroup_step(carrack_cgroup::CgroupError::kind))?)
        }
        Status::Paused | Status::Stopped | Status::Creating => Err(SignalError::NotRunning),
    }
}

/// Lets them go on.
pub fn resume(state_root: &Path, id: &ContainerId) -> Result<(), SignalError> {
    let directory = StateDir::open_locked(state_root, id)?;
    let record = record_of(&directory)?;
    let group = group_of(&record)?;
    match group.is_frozen() {
        Ok(true) => Ok(group.thaw().map_err(cgroup_step(carrack_cgroup::CgroupError::kind))?),
        _ => Err(SignalError::NotPaused),
    }
}

/// Changes the limits of a living container. Where `resources` says nothing they stay as they are; its devices stay in any case, since others may
/// have changed them.
pub fn update(state_root: &Path, id: &ContainerId, resources: LinuxResources) -> Result<(), SignalError> {
    let directory = StateDir::open_locked(state_root, id)?;
    let record = record_of(&directory)?;
    let group = group_of(&record)?;
    match status_of(&directory, &record, Some(&group))? {
        Status::Created | Status::Running | Status::Paused => {}
        Status::Creating | Status::Stopped => return Err(SignalError::NotRunning),
    }
    let mut resources = in_todays_words(resources, &record.oci_version);
    resources.devices.clear();
    let changed = match &record.systemd_unit {
        None => group.change(&resources).map_err(cgroup_step(carrack_cgroup::ChangeError::kind)),
        Some(unit) => scope::change(unit, &group, resources),
    };
    Ok(changed?)
}

/// The pids of all processes of the container, as the caller sees them.
pub fn processes(state_root: &Path, id: &ContainerId) -> Result<Vec<i32>, SignalError> {
    let directory = StateDir::open(state_root, id)?;
    let record = record_of(&directory)?;
    let pids = group_of(&record)?.pids().map_err(cgroup_step(carrack_cgroup::CgroupError::kind))?;
    Ok(pids.into_iter().map(|pid| pid.as_raw_nonzero().get()).collect())
}

/// Whether the kernel killed a process of the container because its memory limit was reached. To be asked before `delete`.
pub fn oom_killed(state_root: &Path, id: &ContainerId) -> bool {
    let ask = || -> Option<u64> {
        let record = StateDir::open(state_root, id).ok()?.read().ok()??;
        group_of(&record).ok()?.oom_kill_count().ok()?
    };
    ask().is_some_and(|count| count > 0)
}

/// Whether a living container may be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// It may not.
    No,
    /// It is killed first; one that does not exist is deleted already.
    Yes,
}

/// `delete` failed.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateDirError),
    /// The container lives.
    #[error("cannot delete container {id} that is not stopped: {status}")]
    NotStopped {
        /// The container.
        id: ContainerId,
        /// Where it is in its life.
        status: Status,
    },
    /// It does not die.
    #[error("container {id} did not die within {} s of SIGKILL", DEATH_SECONDS)]
    DoesNotDie {
        /// The container.
        id: ContainerId,
    },
    /// Somebody else is at work on it, and goes on without its first process: a hook of theirs does not end.
    #[error("container {id} is being created or started by another process, which has not given up within {} s", GIVE_UP_PATIENCE.as_secs())]
    Busy {
        /// The container.
        id: ContainerId,
    },
    /// A step.
    #[error(transparent)]
    Step(#[from] StepError),
}

impl DeleteError {
    /// Its class.
    pub fn kind(&self) -> Kind {
        match self {
            Self::State(error) => error.kind(),
            Self::NotStopped { .. } => Kind::Precondition,
            Self::DoesNotDie { .. } | Self::Busy { .. } => Kind::Deadline,
            Self::Step(error) => error.kind(),
        }
    }
}

const DEATH_SECONDS: i64 = 10;
/// How long somebody may take to undo what was begun.
const GIVE_UP_PATIENCE: Duration = Duration::from_secs(10);

/// Removes everything of a container. A created one is killed; a running one only with [`Force::Yes`]. Returns the failures of poststop hooks, which
/// only warn.
pub fn delete(state_root: &Path, id: &ContainerId, force: Force) -> Result<Vec<HookError>, DeleteError> {
    let directory = match force {
        Force::No => StateDir::open_locked(state_root, id)?,
        Force::Yes => match take_by_force(state_root, id) {
            Err(DeleteError::State(StateDirError::NotFound { .. })) => return Ok(Vec::new()),
            other => other?,
        },
    };
    // Whoever created it died before it had made anything: nobody else knows of the container, but its id is to be free.
    let Some(record) = directory.read()? else {
        // What somebody else keeps under such a name is theirs.
        let is_leftover = directory.is_leftover()?;
        if is_leftover {
            directory.remove()?;
        }
        return match force {
            Force::Yes if is_leftover => Ok(Vec::new()),
            _ => Err(StateDirError::NotFound { id: id.clone() }.into()),
        };
    };
    let group = group_of(&record)?;
    let status = status_of(&directory, &record, Some(&group))?;
    match (status, force) {
        (Status::Stopped | Status::Created | Status::Creating, _) | (_, Force::Yes) => {}
        (status, Force::No) => return Err(DeleteError::NotStopped { id: id.clone(), status }),
    }
    end_processes(&record, &group)?;
    scope::remove_group(&record, &group)?;
    record.remove_resctrl()?;
    let state = carrack_oci_config::State { status: Status::Stopped, ..hook_state(&record) };
    let failures = run_all_hooks("poststop", &record.poststop, &state, &record.bundle);
    directory.remove()?;
    Ok(failures)
}

/// Waits for nobody who is creating or starting the container: without its first process they give up.
fn take_by_force(state_root: &Path, id: &ContainerId) -> Result<StateDir, DeleteError> {
    if let Some(directory) = StateDir::open_locked_until(state_root, id, Instant::now())? {
        return Ok(directory);
    }
    if let Some(record) = StateDir::open(state_root, id)?.read()?
        && let Some(init) = record.init
    {
        kill_and_wait(init, &group_of(&record)?)?;
    }
    let deadline = Instant::now() + GIVE_UP_PATIENCE;
    StateDir::open_locked_until(state_root, id, deadline)?.ok_or_else(|| DeleteError::Busy { id: id.clone() })
}

fn end_processes(record: &Record, group: &Group) -> Result<(), DeleteError> {
    if let Some(init) = record.init {
        match kill_and_wait(init, group) {
            Ok(true) => {}
            Ok(false) => return Err(DeleteError::DoesNotDie { id: record.id.clone() }),
            Err(error) => return Err(error.into()),
        }
    }
    // Without a pid namespace of its own, and after a create that died, others may be left.
    match group.kill_all() {
        // A create that died may have made the group in some hierarchies only; processes enter when it is in all.
        Err(error) if error.kind() == Kind::NotFound => Ok(()),
        other => Ok(other.map_err(cgroup_step(carrack_cgroup::CgroupError::kind))?),
    }
}

/// Kills a process, and waits until it is dead or a zombie; whether it is.
fn kill_and_wait(process: ProcessId, group: &Group) -> Result<bool, StepError> {
    let handle = match pidfd_open(pid_of(process)?, PidfdFlags::empty()) {
        Err(Errno::SRCH | Errno::INVAL) => return Ok(true),
        other => other.doing(|| "open the container's first process")?,
    };
    if !process_stat::is_alive(process).doing(|| "look at the container's first process")? {
        return Ok(true);
    }
    match signal::send(handle.as_fd(), 9) {
        Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => return Ok(true),
        other => other.doing(|| "kill the container's first process")?,
    }
    thaw_killed(group)?;
    let timeout = Timespec { tv_sec: DEATH_SECONDS, tv_nsec: 0 };
    let ready =
        poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&timeout)).doing(|| "wait for the container's end")?;
    Ok(ready > 0)
}
