//! Failures of paths inside a root.

use std::io;
use std::path::PathBuf;

/// A path inside a root could not be used.
#[derive(Debug, thiserror::Error)]
pub enum RootedError {
    /// Resolving or opening failed.
    #[error("open {}", path.display())]
    Open {
        /// As given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Making a directory failed.
    #[error("create directory {}", path.display())]
    CreateDirectory {
        /// As given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Making a file failed.
    #[error("create file {}", path.display())]
    CreateFile {
        /// As given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl RootedError {
    /// The system's answer.
    pub fn io(&self) -> &io::Error {
        match self {
            Self::Open { source, .. } | Self::CreateDirectory { source, .. } | Self::CreateFile { source, .. } => {
                source
            }
        }
    }

    /// Whether the path does not exist.
    pub fn is_not_found(&self) -> bool {
        self.io().kind() == io::ErrorKind::NotFound
    }
}
