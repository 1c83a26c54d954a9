//! What the monitor asks of the runtime.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use carrack_monitor_proto::{self as proto, Create, Signal, SignalScope};
use carrack_oci_config::Process;
use carrack_runtime::{
    CreateRequest, DeleteError, ExecRequest, Force, HookError, KillScope, NamespaceType, Rootfs, Sealed, SignalError,
    StageError, StageRequest, StageStdio, Staged, StartError, spawn_stage,
};
use carrack_words::{ContainerId, Kind};

use crate::streams::ContainerSides;

/// The runtime refused or failed. Its words are passed on as they are, since callers show them.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// To create, or to run a further process.
    #[error(transparent)]
    Stage {
        /// Why.
        source: StageError,
    },
    /// To start.
    #[error(transparent)]
    Start {
        /// Why.
        source: StartError,
    },
    /// To signal.
    #[error(transparent)]
    Kill {
        /// Why.
        source: SignalError,
    },
    /// To delete.
    #[error(transparent)]
    Delete {
        /// Why.
        source: DeleteError,
    },
}

impl LaunchError {
    /// The class of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            LaunchError::Stage { source } => source.kind(),
            LaunchError::Start { source } => source.kind(),
            LaunchError::Kill { source } => source.kind(),
            LaunchError::Delete { source } => source.kind(),
        }
    }
}

/// The runtime, for the containers of one pod.
#[derive(Debug)]
pub struct Launcher {
    /// Our own program, from which stages run.
    pub sealed: Sealed,
    /// State directory of the runtime.
    pub state_root: PathBuf,
}

impl Launcher {
    /// Creates a container whose first process then waits for [`start`](Self::start).
    pub fn create(
        &self,
        create: &Create,
        pod: Vec<(proto::NamespaceType, PathBuf)>,
        sides: &ContainerSides,
    ) -> Result<Staged, LaunchError> {
        // What the request names replaces what the pod has.
        let of_pod = pod.iter().filter(|(kind, _)| create.join.iter().all(|(other, _)| other != kind));
        let join = of_pod.chain(&create.join).map(|(kind, path)| (namespace_type(*kind), path.clone())).collect();
        let request = StageRequest::Create(CreateRequest {
            id: create.id.clone(),
            bundle: create.bundle.clone(),
            state_root: self.state_root.clone(),
            rootfs: rootfs(&create.rootfs),
            join,
            no_new_keyring: create.no_new_keyring,
            preserve_fds: 0,
            listen_fds: 0,
            notify: false,
            systemd_cgroup: false,
        });
        let stdio = StageStdio { stdin: sides.stdin.as_fd(), stdout: sides.stdout(), stderr: sides.stderr() };
        spawn_stage(&self.sealed, &request, stdio).map_err(|source| LaunchError::Stage { source })
    }

    /// Runs a further process in a container, with these three standard streams.
    pub fn exec(&self, id: &ContainerId, process: Process, stdio: &[OwnedFd; 3]) -> Result<Staged, LaunchError> {
        let request = StageRequest::Exec(ExecRequest {
            id: id.clone(),
            state_root: self.state_root.clone(),
            process,
            ignore_paused: false,
            sub_groups: Default::default(),
            preserve_fds: 0,
        });
        let stdio = StageStdio { stdin: stdio[0].as_fd(), stdout: stdio[1].as_fd(), stderr: stdio[2].as_fd() };
        spawn_stage(&self.sealed, &request, stdio).map_err(|source| LaunchError::Stage { source })
    }

    /// Releases a created container, and waits until its program was executed.
    pub fn start(&self, id: &ContainerId) -> Result<(), LaunchError> {
        carrack_runtime::start(&self.state_root, id).map_err(|source| LaunchError::Start { source })
    }

    /// Sends a signal.
    pub fn kill(&self, id: &ContainerId, signal: Signal, scope: SignalScope) -> Result<(), LaunchError> {
        let scope = match scope {
            SignalScope::Init => KillScope::Init,
            SignalScope::All => KillScope::All,
        };
        carrack_runtime::kill(&self.state_root, id, signal.number(), scope)
            .map_err(|source| LaunchError::Kill { source })
    }

    /// Whether the kernel killed a process of the container for want of memory. Asked before [`delete`](Self::delete).
    pub fn oom_killed(&self, id: &ContainerId) -> bool {
        carrack_runtime::oom_killed(&self.state_root, id)
    }

    /// Kills what is left of a container, and removes its control groups and runtime state. Gives the failures of hooks, which only warn.
    pub fn delete(&self, id: &ContainerId) -> Result<Vec<HookError>, LaunchError> {
        carrack_runtime::delete(&self.state_root, id, Force::Yes).map_err(|source| LaunchError::Delete { source })
    }
}

fn rootfs(rootfs: &proto::Rootfs) -> Rootfs {
    match rootfs {
        proto::Rootfs::Config => Rootfs::Config,
        proto::Rootfs::Overlay { lowers, upper, work, volatile } => {
            Rootfs::Overlay { lowers: lowers.clone(), upper: upper.clone(), work: work.clone(), volatile: *volatile }
        }
    }
}

fn namespace_type(kind: proto::NamespaceType) -> NamespaceType {
    match kind {
        proto::NamespaceType::Pid => NamespaceType::Pid,
        proto::NamespaceType::Network => NamespaceType::Network,
        proto::NamespaceType::Mount => NamespaceType::Mount,
        proto::NamespaceType::Ipc => NamespaceType::Ipc,
        proto::NamespaceType::Uts => NamespaceType::Uts,
        proto::NamespaceType::User => NamespaceType::User,
        proto::NamespaceType::Cgroup => NamespaceType::Cgroup,
        proto::NamespaceType::Time => NamespaceType::Time,
    }
}
