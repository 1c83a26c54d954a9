//! What can fail.

use std::io;
use std::path::PathBuf;

use carrack_sys::rustix::io::Errno;
use carrack_words::Kind;

/// Why a plan cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The host does not offer a controller that a setting needs.
    #[error("{setting}: this host has no {controller} cgroup controller")]
    NoController {
        /// What was asked for, as config.json calls it.
        setting: String,
        /// The controller.
        controller: String,
    },
    /// The host's cgroup version has nothing like this setting.
    #[error("{setting} is not supported on cgroup {version}")]
    NotInVersion {
        /// What was asked for.
        setting: String,
        /// `v1` or `v2`.
        version: &'static str,
    },
    /// A value makes no sense.
    #[error("{setting}: {value} {reason}")]
    Invalid {
        /// What was asked for.
        setting: &'static str,
        /// The value.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Version 1 keeps one list of exceptions and cannot take a part out of one of them.
    #[error("device rule {rule}: cgroup v1 cannot cut a hole into the earlier {exception}")]
    DeviceHole {
        /// The rule.
        rule: String,
        /// The exception it would cut.
        exception: String,
    },
}

/// Why an operation on a group failed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// What the host has could not be read.
    #[error("read {path}")]
    Probe {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file of the kernel reads unlike any that we know.
    #[error("{path}: cannot understand {text:?}")]
    Format {
        /// The file.
        path: PathBuf,
        /// The line or value.
        text: String,
    },
    /// No cgroup filesystem is mounted.
    #[error("no cgroup filesystem is mounted on this host")]
    NotMounted,
    /// Making a group failed.
    #[error("create cgroup {path}")]
    Create {
        /// The group.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The group is there already and processes are in it.
    #[error("container's cgroup is not empty: {processes} process(es) found in {path}")]
    NotEmpty {
        /// The group.
        path: PathBuf,
        /// How many.
        processes: usize,
    },
    /// A controller cannot be handed down (version 2).
    #[error("enable the {controller} controller in {path}{}", hint(.source))]
    Enable {
        /// The controller.
        controller: String,
        /// The group that would hand it down.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A setting could not be written.
    #[error("write {value:?} to {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What was written.
        value: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel lacks the file of a setting.
    #[error("write {value:?}: this kernel has no {}", list(.paths))]
    NoFile {
        /// The files that would do.
        paths: Vec<PathBuf>,
        /// What would have been written.
        value: String,
    },
    /// A file could not be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The group holds more memory than the new limit.
    #[error("unable to set memory limit to {limit_bytes} (current usage: {usage_bytes})")]
    BelowUsage {
        /// The limit asked for.
        limit_bytes: i64,
        /// What the group holds.
        usage_bytes: u64,
    },
    /// The device program was not accepted.
    #[error("attach the device program to {path}")]
    Devices {
        /// The group.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The calling thread could not enter.
    #[error("enter {path}")]
    Enter {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The group is not there.
    #[error("cgroup {path} does not exist")]
    NoGroup {
        /// The group.
        path: PathBuf,
    },
    /// A group below another was asked for by a path that leads elsewhere.
    #[error("{path} is not a sub cgroup path")]
    NotBelow {
        /// The path.
        path: String,
    },
    /// A group below another was asked for in a hierarchy that is not there.
    #[error("unknown controller {controller} in SubCgroupPaths")]
    NoSubController {
        /// The name.
        controller: String,
    },
    /// Freezing needs the freezer.
    #[error("this host has no freezer cgroup controller")]
    NoFreezer,
    /// Some process cannot be frozen or thawed now.
    #[error("{path} did not become {wanted} in time")]
    Freezer {
        /// The group.
        path: PathBuf,
        /// The state it should take.
        wanted: &'static str,
    },
    /// Processes go on appearing or cannot die.
    #[error("kill the processes of {path}: {left} left")]
    Kill {
        /// The group.
        path: PathBuf,
        /// How many are left.
        left: usize,
    },
    /// A process could not be signalled.
    #[error("send a signal to process {pid} of {path}")]
    Signal {
        /// The process.
        pid: i32,
        /// Its group.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// What removing a group left behind.
#[derive(Debug, thiserror::Error)]
#[error("remove cgroup: {}", .failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct RemoveError {
    /// One for each hierarchy that failed.
    pub failures: Vec<RemoveFailure>,
}

/// One group that stays.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct RemoveFailure {
    /// The group.
    pub path: PathBuf,
    /// The kernel's last answer; EBUSY means that processes are in it.
    pub source: io::Error,
}

fn hint(source: &io::Error) -> &'static str {
    match Errno::from_io_error(source) {
        Some(Errno::BUSY) => " (cgroup v2 hands controllers down only from groups that hold no processes themselves)",
        Some(Errno::OPNOTSUPP) => " (that group is threaded)",
        _ => "",
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" nor ")
}

impl PlanError {
    /// The class of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NoController { .. } | Self::NotInVersion { .. } | Self::DeviceHole { .. } => Kind::Unsupported,
            Self::Invalid { .. } => Kind::Invalid,
        }
    }
}

impl CgroupError {
    /// The class of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotMounted | Self::NoFile { .. } | Self::NoFreezer => Kind::Unsupported,
            Self::NotEmpty { .. } | Self::BelowUsage { .. } => Kind::Precondition,
            Self::NotBelow { .. } | Self::NoSubController { .. } => Kind::Invalid,
            Self::NoGroup { .. } => Kind::NotFound,
            Self::Freezer { .. } | Self::Kill { .. } => Kind::Busy,
            Self::Probe { source, .. }
            | Self::Create { source, .. }
            | Self::Read { source, .. }
            | Self::Devices { source, .. }
            | Self::Signal { source, .. }
            | Self::Enter { source, .. } => kind_of(source, Kind::Internal),
            // What the hint says: the group above is used in a way that does not allow it.
            Self::Enable { source, .. } if !hint(source).is_empty() => Kind::Precondition,
            Self::Enable { source, .. } | Self::Write { source, .. } => kind_of(source, Kind::Internal),
            Self::Format { .. } => Kind::Internal,
        }
    }
}

impl RemoveError {
    /// The class of this failure.
    pub fn kind(&self) -> Kind {
        if self.failures.iter().all(|failure| failure.source.kind() == io::ErrorKind::ResourceBusy) {
            Kind::Busy
        } else {
            Kind::Internal
        }
    }
}

fn kind_of(source: &io::Error, otherwise: Kind) -> Kind {
    match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Kind::Denied,
        // The kernel says EINVAL or ERANGE to a value that makes no sense on this host.
        io::ErrorKind::InvalidInput => Kind::Invalid,
        io::ErrorKind::ResourceBusy => Kind::Busy,
        _ => otherwise,
    }
}
