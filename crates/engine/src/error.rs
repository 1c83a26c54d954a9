//! Why the engine did not do what was asked.

use std::io;
use std::path::PathBuf;

use carrack_words::{ContainerId, Kind};

use crate::rootfs::ViewError;
use crate::spec::SpecError;
use crate::user::UserError;

/// The engine refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The container cannot be made as asked.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// Its user cannot be resolved.
    #[error(transparent)]
    User(#[from] UserError),
    /// Its image's layers cannot be read.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] carrack_store::StoreError),
    /// An image could not be found or changed.
    #[error(transparent)]
    Image(#[from] carrack_image::ImageError),
    /// A pull failed.
    #[error(transparent)]
    Pull(#[from] carrack_image::PullError),
    /// An image could not be loaded.
    #[error(transparent)]
    Load(#[from] carrack_image::LoadError),
    /// The network failed.
    #[error(transparent)]
    Network(#[from] carrack_network::NetworkError),
    /// A network namespace could not be made or removed.
    #[error(transparent)]
    Netns(#[from] carrack_network::NetnsError),
    /// A volume failed.
    #[error(transparent)]
    Volume(#[from] carrack_volume::VolumeError),
    /// The monitor of a pod could not be started.
    #[error(transparent)]
    MonitorStart(#[from] carrack_monitor::StartError),
    /// The monitor of a pod failed or refused.
    #[error(transparent)]
    Monitor(#[from] carrack_monitor::client::ClientError),
    /// A container's program could not be executed; `message` has the runtime's words.
    #[error("container {container}: {message}")]
    Program {
        /// The container.
        container: String,
        /// [`Kind::NotFound`]: no such program; [`Kind::Denied`]: it cannot be executed; others: something else failed.
        kind: Kind,
        /// Why.
        message: String,
    },
    /// The name is another container's.
    #[error("container name {name:?} is in use by container {holder}: remove that one, or choose another name")]
    NameTaken {
        /// The name.
        name: String,
        /// Short id of the container that has it.
        holder: String,
    },
    /// The root is used with another run directory, where something may run.
    #[error(
        "{} is in use with the run directory {}: give that one (--run {}) instead of {}, or end first what runs there (carrack --root {} --run {} teardown)",
        root.display(), noted.display(), noted.display(), run.display(), root.display(), noted.display()
    )]
    OtherRun {
        /// The persistent directory.
        root: PathBuf,
        /// The run directory that was given.
        run: PathBuf,
        /// The one that it is used with.
        noted: PathBuf,
    },
    /// There is no such object.
    #[error("no such {what}: {name}")]
    NotFound {
        /// Kind of object.
        what: &'static str,
        /// As it was named.
        name: String,
    },
    /// The object is in a state that does not allow the request.
    #[error("{what} {name} {state}")]
    State {
        /// Kind of object.
        what: &'static str,
        /// Its name or id.
        name: String,
        /// Why it cannot be, and what to do.
        state: String,
    },
    /// Not offered.
    #[error("{what} is not supported")]
    Unsupported {
        /// What was asked.
        what: String,
    },
    /// The request makes no sense.
    #[error("{message}")]
    Invalid {
        /// Why.
        message: String,
    },
    /// A program in a container took longer than it was given.
    #[error("command {command:?} in container {container} timed out after {seconds} s")]
    TimedOut {
        /// The container.
        container: String,
        /// The program.
        command: String,
        /// The limit.
        seconds: u64,
    },
    /// A record on disk cannot be understood.
    #[error("the record of {what} {id} is damaged")]
    Damaged {
        /// Kind of object.
        what: &'static str,
        /// Its id.
        id: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The system failed.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Several things failed while an object was taken down; all were tried.
    #[error("{what} {name} was not wholly removed: {failures}")]
    Teardown {
        /// Kind of object.
        what: &'static str,
        /// Its name or id.
        name: String,
        /// What failed.
        failures: String,
    },
}

impl EngineError {
    /// The class of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            EngineError::Spec(_) | EngineError::User(_) | EngineError::Invalid { .. } => Kind::Invalid,
            EngineError::View(_) | EngineError::Damaged { .. } => Kind::DataLoss,
            EngineError::Store(error) => error.kind(),
            EngineError::Image(error) => error.kind(),
            EngineError::Pull(error) => error.kind(),
            EngineError::Load(error) => error.kind(),
            EngineError::Network(error) => error.kind(),
            EngineError::Netns(error) => error.kind(),
            EngineError::Volume(error) => error.kind(),
            EngineError::MonitorStart(error) => error.kind(),
            EngineError::Monitor(error) => error.kind(),
            EngineError::Program { .. } => Kind::Precondition,
            EngineError::NameTaken { .. } => Kind::AlreadyExists,
            EngineError::NotFound { .. } => Kind::NotFound,
            EngineError::State { .. } | EngineError::OtherRun { .. } => Kind::Precondition,
            EngineError::Unsupported { .. } => Kind::Unsupported,
            EngineError::TimedOut { .. } => Kind::Deadline,
            EngineError::Io { source, .. } => io_kind(source),
            EngineError::Teardown { .. } => Kind::Internal,
        }
    }

    /// If a program could not be executed: why.
    pub fn program_failure(&self) -> Option<Kind> {
        match self {
            EngineError::Program { kind, .. } => match kind {
                Kind::NotFound | Kind::Denied => Some(*kind),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether it says just that there is no such container.
    pub fn is_no_container(&self, id: &ContainerId) -> bool {
        matches!(self, EngineError::NotFound { what: "container", name } if name == id.as_str())
    }

    /// An error of the system for [`Result::map_err`].
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> EngineError {
        move |source| EngineError::Io { action, path: path.into(), source }
    }
}

fn io_kind(error: &io::Error) -> Kind {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Kind::Exhausted,
        io::ErrorKind::NotFound => Kind::NotFound,
        io::ErrorKind::PermissionDenied => Kind::Denied,
        _ => Kind::Internal,
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}
