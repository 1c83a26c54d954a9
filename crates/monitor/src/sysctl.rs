//! Plans a pod's sysctls: which files below `/proc/sys` get which values, in namespaces of the pod and nowhere else.
//!
//! A sysctl that is not namespaced, or whose namespace is the host's, would change the node, so it is refused. Each name and value
//! stands by itself; nothing in them is a list (CVE-2022-0811 smuggled further sysctls into a value).

use std::path::{Path, PathBuf};

use carrack_monitor_proto::{IpcMode, NetworkMode, PodConfig, UtsMode};
use carrack_words::Kind;

const ROOT: &str = "/proc/sys";
/// The sysctls of an IPC namespace (ipc_namespaces(7)), besides `fs.mqueue.*`.
const IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

/// A sysctl that a pod cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SysctlError {
    /// No file can have this name.
    #[error("invalid sysctl name {name:?}")]
    Name {
        /// The name.
        name: String,
    },
    /// It would change the host.
    #[error("sysctl {name:?} is not allowed: the pod has no {namespace} namespace of its own")]
    HostNamespace {
        /// The name.
        name: String,
        /// The namespace it belongs to.
        namespace: &'static str,
    },
    /// It belongs to no namespace.
    #[error("sysctl {name:?} is not namespaced: it would change the whole node")]
    NotNamespaced {
        /// The name.
        name: String,
    },
}

impl SysctlError {
    /// The class of this failure.
    pub fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

/// One file to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SysctlStep {
    /// The file.
    pub path: PathBuf,
    /// Its new content.
    pub value: String,
}

/// The files to be written for the pod's sysctls.
pub fn plan_sysctls(config: &PodConfig) -> Result<Vec<SysctlStep>, SysctlError> {
    config.sysctls.iter().map(|(name, value)| plan_sysctl(name, value, config)).collect()
}

fn plan_sysctl(name: &str, value: &str, config: &PodConfig) -> Result<SysctlStep, SysctlError> {
    // As sysctl(8): the first separator says whether `.` or `/` separates; the other one is then part of a name
    // (`net/ipv4/conf/eth0.1/forwarding` and `net.ipv4.conf.eth0/1.forwarding` are the same).
    let path = match name.find(['.', '/']).map(|at| name.as_bytes()[at]) {
        Some(b'/') => name.to_owned(),
        _ => name
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
    };
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) || path.contains('\0') {
        return Err(SysctlError::Name { name: name.to_owned() });
    }
    let host = |namespace| Err(SysctlError::HostNamespace { name: name.to_owned(), namespace });
    if path.starts_with("net/") {
        if !matches!(config.network, NetworkMode::Path(_)) {
            return host("network");
        }
    } else if IPC.contains(&path.as_str()) || path.starts_with("fs/mqueue/") {
        if config.ipc != IpcMode::Pod {
            return host("IPC");
        }
    } else if path == "kernel/domainname" {
        if !matches!(config.uts, UtsMode::Pod { .. }) {
            return host("UTS");
        }
    } else {
        return Err(SysctlError::NotNamespaced { name: name.to_owned() });
    }
    Ok(SysctlStep { path: Path::new(ROOT).join(path), value: value.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use carrack_monitor_proto::PidMode;
    use carrack_words::PodId;

    fn config(network: NetworkMode, ipc: IpcMode) -> PodConfig {
        PodConfig {
            version: PodConfig::VERSION,
            id: PodId::new("p").unwrap(),
            persistent: true,
            state_root: "/run".into(),
            network,
            ipc,
            uts: UtsMode::Host,
            pid: PidMode::PerContainer,
            sysctls: Default::default(),
            monitor_cgroup: None,
            pod_init_cgroup: None,
            cleanup: vec![],
        }
    }

    #[test]
    fn a_namespaced_sysctl_becomes_a_file_below_proc_sys() {
        let pod = config(NetworkMode::Path("/run/netns/p".into()), IpcMode::Pod);
        for (name, path) in [
            ("net.core.somaxconn", "/proc/sys/net/core/somaxconn"),
            ("net/ipv4/conf/eth0.1/forwarding", "/proc/sys/net/ipv4/conf/eth0.1/forwarding"),
            ("net.ipv4.conf.eth0/1.forwarding", "/proc/sys/net/ipv4/conf/eth0.1/forwarding"),
            ("kernel.shm_rmid_forced", "/proc/sys/kernel/shm_rmid_forced"),
            ("fs.mqueue.msg_max", "/proc/sys/fs/mqueue/msg_max"),
        ] {
            let step = SysctlStep { path: path.into(), value: "1".into() };
            assert_eq!(plan_sysctl(name, "1", &pod), Ok(step), "{name}");
        }
    }

    #[test]
    fn a_sysctl_of_the_host_is_refused_by_name() {
        let pod = config(NetworkMode::Path("/run/netns/p".into()), IpcMode::Pod);
        let host = config(NetworkMode::Host, IpcMode::Host);
        let name = |name: &str| SysctlError::Name { name: name.into() };
        let foreign = |name: &str| SysctlError::NotNamespaced { name: name.into() };
        let shared = |name: &str, namespace| SysctlError::HostNamespace { name: name.into(), namespace };
        for (config, given, error) in [
            (&pod, "kernel.core_pattern", foreign("kernel.core_pattern")),
            (&pod, "vm.swappiness", foreign("vm.swappiness")),
            (&pod, "net/../kernel/core_pattern", name("net/../kernel/core_pattern")),
            // Here `/` stands for `.`, so the second part is `..`.
            (&pod, "net.//.kernel", name("net.//.kernel")),
            (&pod, "net..core", name("net..core")),
            (&pod, "/net/core/somaxconn", name("/net/core/somaxconn")),
            (&pod, "", name("")),
            (&host, "net.core.somaxconn", shared("net.core.somaxconn", "network")),
            (&host, "kernel.sem", shared("kernel.sem", "IPC")),
            (&host, "kernel.domainname", shared("kernel.domainname", "UTS")),
        ] {
            assert_eq!(plan_sysctl(given, "1", config), Err(error), "{given}");
        }
    }
}
