//! `pod.json`: what a monitor is told when it is started.

use std::collections::BTreeMap;
use std::path::PathBuf;

use carrack_words::{Kind, PodId};

/// Name of the record in the pod's run directory.
pub const POD_CONFIG_FILE: &str = "pod.json";
/// Name of the monitor's socket in the pod's run directory.
pub const SOCKET_FILE: &str = "monitor.sock";

/// `pod.json` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PodConfigError {
    /// Not the JSON of this record.
    #[error("parse the pod's configuration")]
    Parse {
        /// What serde found.
        source: serde_json::Error,
    },
    /// Written by a later program.
    #[error("the pod's configuration has version {version}, this program knows versions up to {known}")]
    Version {
        /// What the record says.
        version: u32,
        /// [`PodConfig::VERSION`].
        known: u32,
    },
}

impl PodConfigError {
    /// The class of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            PodConfigError::Parse { .. } => Kind::Invalid,
            PodConfigError::Version { .. } => Kind::Unsupported,
        }
    }
}

/// The pod's configuration, written by the engine before it starts the monitor and never changed afterwards.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PodConfig {
    /// Version of this record; [`PodConfig::VERSION`].
    pub version: u32,
    /// The pod.
    pub id: PodId,
    /// Whether the monitor stays when no container runs, until [`Shutdown`](crate::Request::Shutdown). A pod of one container
    /// is not persistent: its monitor ends after the last exit, and runs `cleanup`.
    pub persistent: bool,
    /// State directory of the low-level runtime for the pod's containers.
    pub state_root: PathBuf,
    /// The containers' network namespace.
    pub network: NetworkMode,
    /// Whether containers share an IPC namespace that the monitor makes.
    pub ipc: IpcMode,
    /// Whether containers share a UTS namespace that the monitor makes.
    pub uts: UtsMode,
    /// Whether containers share a PID namespace that the monitor makes.
    pub pid: PidMode,
    /// Sysctls by name (`net.core.somaxconn`), set in the pod's namespaces before any container starts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// Control group the monitor moves itself to, below each hierarchy's root (`/carrack/monitors`); absent: it stays where it was
    /// started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor_cgroup: Option<PathBuf>,
    /// Control group of the first process of a shared PID namespace, as `linux.cgroupsPath` has it; absent: the monitor's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_init_cgroup: Option<PathBuf>,
    /// Program and arguments run after the last exit of a pod that is not persistent, with `CARRACK_POD` set to the pod's id.
    /// Empty: nothing is run. It may be run more than once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cleanup: Vec<String>,
}

/// The network namespace of a pod's containers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// Whatever each container's `config.json` says.
    PerContainer,
    /// The host's.
    Host,
    /// The one pinned at this path, like `/run/netns/NAME`.
    Path(PathBuf),
}

/// The IPC namespace of a pod's containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IpcMode {
    /// Whatever each container's `config.json` says.
    PerContainer,
    /// The host's.
    Host,
    /// One for the pod.
    Pod,
}

/// The UTS namespace (host name) of a pod's containers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UtsMode {
    /// Whatever each container's `config.json` says.
    PerContainer,
    /// The host's.
    Host,
    /// One for the pod, with this host name.
    Pod {
        /// The host name; at most 64 bytes.
        hostname: String,
    },
}

/// The PID namespace of a pod's containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PidMode {
    /// Whatever each container's `config.json` says.
    PerContainer,
    /// One for the pod, with a first process that reaps.
    Pod,
}

impl PodConfig {
    /// The version this program writes.
    pub const VERSION: u32 = 1;

    /// Reads the record from the bytes of `pod.json`.
    pub fn parse(bytes: &[u8]) -> Result<Self, PodConfigError> {
        #[derive(serde::Deserialize)]
        struct Versioned {
            version: u32,
        }
        let parse = |source| PodConfigError::Parse { source };
        let Versioned { version } = serde_json::from_slice(bytes).map_err(parse)?;
        if version != Self::VERSION {
            return Err(PodConfigError::Version { version, known: Self::VERSION });
        }
        serde_json::from_slice(bytes).map_err(parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> PodConfig {
        PodConfig {
            version: PodConfig::VERSION,
            id: PodId::new("p").unwrap(),
            persistent: false,
            state_root: "/run/carrack/oci".into(),
            network: NetworkMode::Path("/run/netns/p".into()),
            ipc: IpcMode::Pod,
            uts: UtsMode::Pod { hostname: "web".into() },
            pid: PidMode::PerContainer,
            sysctls: BTreeMap::from([("net.core.somaxconn".into(), "7".into())]),
            monitor_cgroup: None,
            pod_init_cgroup: None,
            cleanup: vec!["/usr/bin/carrack".into(), "cleanup".into(), "p".into()],
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let bytes = serde_json::to_vec(&config()).unwrap();
        assert_eq!(PodConfig::parse(&bytes).unwrap(), config());
    }

    #[test]
    fn a_record_of_a_later_program_is_refused_by_its_version_even_if_its_form_is_unknown() {
        let error = PodConfig::parse(br#"{"version": 2, "shape": "new"}"#).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        assert_eq!(PodConfig::parse(b"{}").unwrap_err().kind(), Kind::Invalid);
    }
}
