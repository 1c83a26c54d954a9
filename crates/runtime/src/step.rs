//! A step of making a container failed: what was tried, on what, and why.

use std::io;

use carrack_rooted::RootedError;
use carrack_words::Kind;

use crate::hook::HookError;
use crate::overlay::OverlayError;

/// A step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The system refused something.
    #[error("{doing}")]
    Failed {
        /// What was tried, and on what.
        doing: String,
        /// Why.
        source: io::Error,
    },
    /// We refuse something.
    #[error("{message}")]
    Refused {
        /// Class.
        kind: Kind,
        /// What, and why.
        message: String,
    },
    /// The layers of the root.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    /// A path inside the root.
    #[error(transparent)]
    Rooted(#[from] RootedError),
    /// A hook.
    #[error(transparent)]
    Hook(#[from] HookError),
}

impl StepError {
    /// A refusal.
    pub fn refused(kind: Kind, message: impl Into<String>) -> Self {
        Self::Refused { kind, message: message.into() }
    }

    /// Its class.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Failed { source, .. } => kind_of_io(source),
            Self::Overlay(OverlayError::Open { source, .. } | OverlayError::Mount { source, .. }) => kind_of_io(source),
            Self::Rooted(error) => kind_of_io(error.io()),
            Self::Refused { kind, .. } => *kind,
            Self::Hook(error) => error.kind(),
        }
    }
}

/// The class of what the system says.
pub fn kind_of_io(error: &io::Error) -> Kind {
    match error.kind() {
        io::ErrorKind::NotFound => Kind::NotFound,
        io::ErrorKind::PermissionDenied => Kind::Denied,
        io::ErrorKind::StorageFull | io::ErrorKind::OutOfMemory | io::ErrorKind::QuotaExceeded => Kind::Exhausted,
        io::ErrorKind::Unsupported => Kind::Unsupported,
        _ => Kind::Internal,
    }
}

/// Says what was tried.
pub trait Doing<T> {
    /// Turns the system's error into a step's; the words are made only then.
    fn doing<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T, StepError>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T, StepError> {
        self.map_err(|error| StepError::Failed { doing: what().into(), source: error.into() })
    }
}
