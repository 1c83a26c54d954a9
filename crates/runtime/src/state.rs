//! The state of a container, from its record and what the kernel says now.

use std::path::Path;

use carrack_cgroup::{Group, Host};
use carrack_oci_config::{State, Status};
use carrack_words::{ContainerId, Kind, ProcessId};

use crate::describe::describe;
use crate::process_stat;
use crate::state_dir::{Record, StateDir, StateDirError, list_ids};
use crate::step::{Doing, StepError};

/// The state cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The state directory.
    #[error(transparent)]
    Directory(#[from] StateDirError),
    /// The kernel.
    #[error(transparent)]
    Step(#[from] StepError),
}

impl StateError {
    /// Its class.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Directory(error) => error.kind(),
            Self::Step(error) => error.kind(),
        }
    }
}

/// The state of one container.
pub fn state(state_root: &Path, id: &ContainerId) -> Result<State, StateError> {
    let directory = StateDir::open(state_root, id)?;
    match directory.read()? {
        Some(record) => {
            let status = match status_of(&directory, &record, None)? {
                Status::Created if group_of(&record)?.is_frozen().unwrap_or(false) => Status::Paused,
                status => status,
            };
            Ok(show(&record, status))
        }
        None if directory.is_locked()? => Ok(nothing_yet(id)),
        // It may have come to its end between the two looks.
        None if directory.read()?.is_some() => state(state_root, id),
        // A create died before it had made anything.
        None => Err(StateDirError::NotFound { id: id.clone() }.into()),
    }
}

/// All containers.
#[derive(Debug, Default)]
pub struct Listing {
    /// Those whose state can be told.
    pub states: Vec<State>,
    /// Those whose state cannot, and why.
    pub failures: Vec<(ContainerId, StateError)>,
}

/// The states of all containers. One that vanishes meanwhile is left out.
pub fn list(state_root: &Path) -> Result<Listing, StateError> {
    let mut listing = Listing::default();
    for id in list_ids(state_root)? {
        match state(state_root, &id) {
            Ok(state) => listing.states.push(state),
            Err(StateError::Directory(StateDirError::NotFound { .. })) => {}
            Err(error) => listing.failures.push((id, error)),
        }
    }
    Ok(listing)
}

/// The group and the first process of a container that has not ended; `None` if it has.
pub fn living(state_root: &Path, id: &ContainerId) -> Result<Option<(Group, ProcessId)>, StateError> {
    let directory = StateDir::open(state_root, id)?;
    let record = directory.read()?.ok_or_else(|| StateDirError::NotFound { id: id.clone() })?;
    let Some(init) = record.init else { return Ok(None) };
    let is_alive = process_stat::is_alive(init).doing(|| "look at the container's first process")?;
    Ok(if is_alive { Some((group_of(&record)?, init)) } else { None })
}

/// The group of a record.
pub fn group_of(record: &Record) -> Result<Group, StepError> {
    let host = Host::probe().map_err(|error| StepError::refused(error.kind(), describe(&error)))?;
    Ok(host.open_recorded(&record.cgroups))
}

/// Where the container is in its life. `group` saves looking for it; without it a created container is not asked whether it is paused, which takes
/// as long as to start it.
pub fn status_of(directory: &StateDir, record: &Record, group: Option<&Group>) -> Result<Status, StepError> {
    let Some(init) = record.init else { return Ok(Status::Creating) };
    if !process_stat::is_alive(init).doing(|| "look at the container's first process")? {
        return Ok(Status::Stopped);
    }
    if !record.is_ready {
        return Ok(Status::Creating);
    }
    let is_created =
        directory.has_start_socket().map_err(|error| StepError::refused(error.kind(), describe(&error)))?;
    match group {
        Some(group) if is_created && group.is_frozen().unwrap_or(false) => return Ok(Status::Paused),
        _ if is_created => return Ok(Status::Created),
        _ => {}
    }
    let found;
    let group = match group {
        Some(group) => group,
        None => {
            found = group_of(record)?;
            &found
        }
    };
    match group.is_frozen() {
        Ok(true) => Ok(Status::Paused),
        // Without a freezer nothing is ever paused.
        Ok(false) | Err(_) => Ok(Status::Running),
    }
}

/// What `state` prints.
pub fn show(record: &Record, status: Status) -> State {
    let pid = match status {
        Status::Stopped | Status::Creating => 0,
        Status::Created | Status::Running | Status::Paused => record.init.map_or(0, |init| init.pid),
    };
    State {
        oci_version: record.oci_version.clone(),
        id: record.id.to_string(),
        pid,
        status,
        bundle: record.bundle.display().to_string(),
        rootfs: record.rootfs.display().to_string(),
        created: record.created.to_string(),
        annotations: record.annotations.clone(),
        owner: Some(String::new()),
    }
}

/// A create has not written a record yet: there is an id, and nothing else.
fn nothing_yet(id: &ContainerId) -> State {
    State {
        oci_version: carrack_oci_config::VERSION.to_owned(),
        id: id.to_string(),
        pid: 0,
        status: Status::Creating,
        bundle: String::new(),
        rootfs: String::new(),
        created: String::new(),
        annotations: Default::default(),
        owner: Some(String::new()),
    }
}
