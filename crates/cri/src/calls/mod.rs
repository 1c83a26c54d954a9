//! The calls themselves: a message and the engine in, an answer out. They block, and run on [`crate::workers`].

pub(crate) mod container;
pub(crate) mod pod;
pub(crate) mod runtime;

use carrack_engine::{Engine, EngineError};
use carrack_words::{ContainerId, Kind, PodId};

use crate::fault::Fault;
use crate::request::non_empty;

/// The sandbox with this id or unique prefix.
fn pod_id(engine: &Engine, text: &str) -> Result<PodId, Fault> {
    Ok(engine.find_pod(non_empty(text, "pod_sandbox_id")?)?)
}

/// The container with this id or unique prefix.
fn container_id(engine: &Engine, text: &str) -> Result<ContainerId, Fault> {
    Ok(engine.find_container(non_empty(text, "container_id")?)?)
}

/// `None` if the object is not there: what is gone is stopped and removed, and matches no filter.
fn if_there<T>(found: Result<T, Fault>) -> Result<Option<T>, Fault> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(fault) if fault.kind() == Kind::NotFound => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// Success also if the object went away while the call was at work on it. That it is gone is asked again, since a missing file
/// or program is "not found", too.
fn done_or_gone<T>(done: Result<(), EngineError>, again: impl FnOnce() -> Result<T, EngineError>) -> Result<(), Fault> {
    match done {
        Err(error) if error.kind() == Kind::NotFound => match again() {
            Err(gone) if gone.kind() == Kind::NotFound => Ok(()),
            _ => Err(error.into()),
        },
        done => Ok(done?),
    }
}
