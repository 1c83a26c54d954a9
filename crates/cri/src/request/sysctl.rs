//! Kernel parameters of a pod sandbox: only those that belong to a namespace of its own.

use std::collections::BTreeMap;

use carrack_engine::request::{NamespaceMode, NetworkMode};

use super::{RequestError, invalid};

/// What belongs to the IPC namespace beside `fs.mqueue` (ipc_namespaces(7)).
const IPC: [&str; 8] = ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];

/// Checks every name and value; the map is passed on unchanged.
///
/// A parameter outside the pod's own namespaces would change the node. A line break or `+` in a value has been used to write
/// further parameters (CVE-2022-0811): the value becomes one write, and a line break is refused.
pub(super) fn sysctls(
    asked: &BTreeMap<String, String>,
    network: NetworkMode,
    ipc: &NamespaceMode,
    field: &str,
) -> Result<BTreeMap<String, String>, RequestError> {
    for (name, value) in asked {
        let refuse = |reason: &str| Err(invalid(format!("{field}[{name:?}]"), reason));
        if value.contains(['\n', '\0']) {
            return refuse("the value contains a line break or a zero byte");
        }
        match namespace_of(name) {
            None => return refuse("is not a kernel parameter of a namespace"),
            Some(Namespace::Network) if network == NetworkMode::Host => {
                return refuse("would change the node: the pod sandbox uses the node's network namespace");
            }
            Some(Namespace::Ipc) if *ipc == NamespaceMode::Host => {
                return refuse("would change the node: the pod sandbox uses the node's IPC namespace");
            }
            Some(_) => {}
        }
    }
    Ok(asked.clone())
}

enum Namespace {
    Network,
    Ipc,
}

/// Parts are divided by dots or, where a part holds a dot itself (`net/ipv4/conf/eth0.1/forwarding`), by slashes.
fn namespace_of(name: &str) -> Option<Namespace> {
    let divider = if name.contains('/') { '/' } else { '.' };
    let parts: Vec<&str> = name.split(divider).collect();
    let legal = |c: char| c.is_ascii_alphanumeric() || "_-.:@".contains(c);
    if parts.iter().any(|part| part.is_empty() || *part == "." || *part == ".." || !part.chars().all(legal)) {
        return None;
    }
    match parts[..] {
        ["net", _, ..] => Some(Namespace::Network),
        ["fs", "mqueue", _, ..] => Some(Namespace::Ipc),
        ["kernel", name] if IPC.contains(&name) => Some(Namespace::Ipc),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn parameters_of_the_pods_own_namespaces_pass_unchanged() {
        for name in [
            "net.ipv4.ip_unprivileged_port_start",
            "net/ipv4/conf/eth0.1/forwarding",
            "kernel.shm_rmid_forced",
            "kernel.sem",
            "kernel/msgmax",
            "fs.mqueue.msg_max",
        ] {
            let asked = one(name, "1 2 3");
            assert_eq!(sysctls(&asked, NetworkMode::Bridge, &NamespaceMode::Pod, "s"), Ok(asked.clone()), "{name}");
        }
    }

    #[test]
    fn parameters_of_the_node_are_refused() {
        for (name, value) in [
            ("kernel.core_pattern", "|/evil"),
            ("kernel.shm_next_id", "1"),
            ("kernel.semaphore", "1"),
            ("vm.overcommit_memory", "1"),
            ("net", "1"),
            ("net.", "1"),
            ("net..ipv4", "1"),
            ("net/../kernel/core_pattern", "|/evil"),
            ("net/./x", "1"),
            ("fs.mqueue", "1"),
            ("", "1"),
            ("net.ipv4.x+kernel.core_pattern", "1"),
            ("net.ipv4.ip_forward", "1\nkernel.core_pattern=|/evil"),
        ] {
            let error = sysctls(&one(name, value), NetworkMode::Bridge, &NamespaceMode::Pod, "s").expect_err(name);
            assert!(error.to_string().starts_with(&format!("s[{name:?}]: ")), "{error}");
        }
    }

    #[test]
    fn a_namespace_shared_with_the_node_has_no_parameters() {
        let (net, shm) = (one("net.core.somaxconn", "1"), one("kernel.shmmax", "1"));
        assert!(sysctls(&net, NetworkMode::Host, &NamespaceMode::Pod, "s").is_err());
        assert!(sysctls(&shm, NetworkMode::Host, &NamespaceMode::Pod, "s").is_ok());
        assert!(sysctls(&shm, NetworkMode::Bridge, &NamespaceMode::Host, "s").is_err());
        assert!(sysctls(&net, NetworkMode::Bridge, &NamespaceMode::Host, "s").is_ok());
    }
}
