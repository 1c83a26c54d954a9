//! What can fail.

use std::io;
use std::path::PathBuf;

use carrack_words::Kind;

/// Systemd could not be asked, or would not.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// There is no systemd. The words are runc's.
    #[error("systemd not running on this host, cannot use systemd cgroups manager")]
    NotRunning,
    /// Its socket cannot be reached.
    #[error("connect to systemd at {}", path.display())]
    Connect {
        /// The socket that was tried last.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It does not let us in.
    #[error("systemd refuses us: {said:?}")]
    Authenticate {
        /// Its answer.
        said: String,
    },
    /// The conversation broke off.
    #[error("talk to systemd")]
    Talk {
        /// Why.
        source: io::Error,
    },
    /// It has said nothing for too long.
    #[error("{doing}: systemd did not answer in time")]
    Late {
        /// What it was asked.
        doing: String,
    },
    /// Its answer is not one.
    #[error("{doing}: systemd answered with {what}")]
    Malformed {
        /// What it was asked.
        doing: String,
        /// What came.
        what: String,
    },
    /// It refuses.
    #[error("{doing}: {message}")]
    Refused {
        /// What it was asked.
        doing: String,
        /// The error's name on D-Bus.
        name: String,
        /// What it said.
        message: String,
    },
    /// It tried, and failed. The words are runc's.
    #[error("error creating systemd unit `{unit}`: got `{result}`")]
    Job {
        /// The unit.
        unit: String,
        /// How the job ended: `failed`, `timeout`, `canceled`, `dependency`, `skipped`.
        result: String,
    },
}

impl SystemdError {
    /// The class of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotRunning => Kind::Unsupported,
            Self::Authenticate { .. } => Kind::Denied,
            Self::Connect { .. } | Self::Talk { .. } => Kind::Unavailable,
            Self::Late { .. } => Kind::Deadline,
            Self::Malformed { .. } | Self::Job { .. } => Kind::Internal,
            Self::Refused { name, .. } => match name.rsplit('.').next() {
                Some("UnitExists") => Kind::AlreadyExists,
                Some("NoSuchUnit") => Kind::NotFound,
                Some("AccessDenied" | "InteractiveAuthorizationRequired") => Kind::Denied,
                Some("InvalidArgs" | "PropertyReadOnly" | "BadUnitSetting") => Kind::Invalid,
                _ => Kind::Internal,
            },
        }
    }
}
