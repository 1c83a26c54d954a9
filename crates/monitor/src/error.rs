//! What a monitor can fail of, as a whole and in one request.

use std::io;
use std::path::PathBuf;

use carrack_monitor_proto::{PROTOCOL_VERSION, PodConfigError};
use carrack_runtime::SealError;
use carrack_words::{ContainerId, ExecId, Kind, PodId};

use crate::launch::LaunchError;
use crate::lifecycle::Refused;
use crate::log::LogFileError;
use crate::namespaces::NamespacesError;
use crate::own_group::OwnGroupError;
use crate::streams::StreamsError;

/// A monitor cannot start, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// Its program cannot be sealed.
    #[error("seal the monitor's program")]
    Seal {
        /// Why.
        source: SealError,
    },
    /// A file of the run directory cannot be used.
    #[error("{action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The pod's configuration cannot be used.
    #[error("read {path}")]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        source: PodConfigError,
    },
    /// There is one already.
    #[error("pod {pod} already has a monitor")]
    AlreadyRunning {
        /// The pod.
        pod: PodId,
    },
    /// The pod's namespaces cannot be made.
    #[error("prepare pod {pod}")]
    Namespaces {
        /// The pod.
        pod: PodId,
        /// Why.
        source: NamespacesError,
    },
    /// The monitor's control group cannot be entered.
    #[error("set up the control groups of pod {pod}")]
    OwnGroup {
        /// The pod.
        pod: PodId,
        /// Why.
        source: OwnGroupError,
    },
    /// A call that cannot fail failed.
    #[error("{action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl MonitorError {
    /// The class of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            MonitorError::Seal { source } => source.kind(),
            MonitorError::File { source, .. } if source.kind() == io::ErrorKind::NotFound => Kind::NotFound,
            MonitorError::File { .. } | MonitorError::System { .. } => Kind::Internal,
            MonitorError::Config { source, .. } => source.kind(),
            MonitorError::AlreadyRunning { .. } => Kind::AlreadyExists,
            MonitorError::Namespaces { source, .. } => source.kind(),
            MonitorError::OwnGroup { source, .. } => source.kind(),
        }
    }
}

/// One request cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The client does not begin with a hello.
    #[error("the first message must be a hello")]
    HelloExpected,
    /// The client speaks another protocol.
    #[error("the client speaks version {version} of the protocol, this monitor speaks {PROTOCOL_VERSION}")]
    Version {
        /// The client's.
        version: u32,
    },
    /// There is no such container here.
    #[error("container {id} does not exist")]
    UnknownContainer {
        /// The container.
        id: ContainerId,
    },
    /// There is one already.
    #[error("container {id} already exists")]
    ContainerExists {
        /// The container.
        id: ContainerId,
    },
    /// An exec of that name runs already.
    #[error("exec {id} already exists")]
    ExecExists {
        /// The exec.
        id: ExecId,
    },
    /// The container's phase does not allow it.
    #[error(transparent)]
    Refused {
        /// Why.
        source: Refused,
    },
    /// It has no terminal.
    #[error("container {id} has no terminal")]
    NoTerminal {
        /// The container.
        id: ContainerId,
    },
    /// Its terminal does not take the size.
    #[error("resize the terminal of container {id}")]
    Resize {
        /// The container.
        id: ContainerId,
        /// Why.
        source: io::Error,
    },
    /// It has no log.
    #[error("container {id} has no log")]
    NoLog {
        /// The container.
        id: ContainerId,
    },
    /// The log cannot be opened.
    #[error(transparent)]
    Log {
        /// Why.
        source: LogFileError,
    },
    /// The streams cannot be made.
    #[error(transparent)]
    Streams {
        /// Why.
        source: StreamsError,
    },
    /// The terminal of an exec cannot be taken over.
    #[error("take the terminal over")]
    Console {
        /// Why.
        source: io::Error,
    },
    /// The request did not bring the handles it needs.
    #[error("the request brings {got} handles, it needs {want}")]
    Handles {
        /// How many came.
        got: usize,
        /// How many were needed.
        want: usize,
    },
    /// The runtime failed.
    #[error(transparent)]
    Launch {
        /// Why.
        source: LaunchError,
    },
    /// The process of an exec cannot be signalled.
    #[error("signal exec {id}")]
    SignalExec {
        /// The exec.
        id: ExecId,
        /// Why.
        source: io::Error,
    },
    /// A container is still there.
    #[error("container {id} has not exited")]
    NotExited {
        /// The container.
        id: ContainerId,
    },
    /// The monitor is about to end.
    #[error("the monitor of pod {pod} is ending")]
    Ending {
        /// The pod.
        pod: PodId,
    },
    /// The monitor's own process cannot be looked up.
    #[error("look up the monitor's own process")]
    Own {
        /// Why.
        source: io::Error,
    },
}

impl RequestError {
    /// The class of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            RequestError::HelloExpected | RequestError::Handles { .. } => Kind::Invalid,
            RequestError::Version { .. } => Kind::Unsupported,
            RequestError::UnknownContainer { .. } => Kind::NotFound,
            RequestError::ContainerExists { .. } | RequestError::ExecExists { .. } => Kind::AlreadyExists,
            RequestError::Refused { source } => source.kind(),
            RequestError::NoTerminal { .. } | RequestError::NoLog { .. } | RequestError::NotExited { .. } => {
                Kind::Precondition
            }
            RequestError::Log { source } => source.kind(),
            RequestError::Launch { source } => source.kind(),
            RequestError::Streams { .. }
            | RequestError::Console { .. }
            | RequestError::Resize { .. }
            | RequestError::SignalExec { .. }
            | RequestError::Own { .. } => Kind::Internal,
            RequestError::Ending { .. } => Kind::Unavailable,
        }
    }
}
