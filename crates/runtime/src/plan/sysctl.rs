//! Kernel parameters of a container: only those that belong to one of its own namespaces.

use std::collections::BTreeMap;

use carrack_sys::namespace::Namespaces;

/// One parameter as a file below `/proc/sys`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysctl {
    /// Path below `/proc/sys`: no part is empty, `.` or `..`.
    pub file: String,
    /// What is written.
    pub value: String,
}

/// Why a parameter is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SysctlError {
    /// It belongs to no namespace.
    #[error("sysctl \"{name}\" is not in a separate kernel namespace")]
    NotNamespaced {
        /// As given.
        name: String,
    },
    /// It belongs to a namespace that the container shares.
    #[error("sysctl \"{name}\" is not allowed in the hosts {kind} namespace")]
    SharedNamespace {
        /// As given.
        name: String,
        /// The type of namespace.
        kind: &'static str,
    },
    /// A field of config.json sets it.
    #[error("sysctl \"{name}\" is not allowed as it conflicts with the OCI \"{field}\" field")]
    HasField {
        /// As given.
        name: String,
        /// The field.
        field: &'static str,
    },
    /// The name or value could mean something else than it seems to.
    #[error("sysctl {name:?} has an invalid name or value")]
    Malformed {
        /// As given.
        name: String,
    },
}

const IPC: [&str; 10] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
    "kernel/msg_next_id",
    "kernel/sem_next_id",
];

/// The file of a parameter. Dots separate, unless the first separator is a slash: then a dot is part of a name, as in an interface
/// called `eth0.1` (sysctl.d(5)).
fn file_of(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(first) if name.as_bytes()[first] == b'/' => name.to_owned(),
        _ => name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
    }
}

/// Checks the parameters against the namespaces that are the container's `own`.
pub fn plan_sysctls(wanted: &BTreeMap<String, String>, own: Namespaces) -> Result<Vec<Sysctl>, SysctlError> {
    wanted.iter().map(|(name, value)| plan_one(name, value, own)).collect()
}

fn plan_one(name: &str, value: &str, own: Namespaces) -> Result<Sysctl, SysctlError> {
    let file = file_of(name);
    let legal = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(|b| b.is_ascii_graphic());
    // A newline in a value would be a second write to some files, and to none is it a value (CVE-2022-0811 smuggled one in).
    if !file.split('/').all(legal) || value.contains(['\0', '\n']) {
        return Err(SysctlError::Malformed { name: name.chars().take(80).collect() });
    }
    let needs = |namespace, kind| match own.contains(namespace) {
        true => Ok(()),
        false => Err(SysctlError::SharedNamespace { name: name.to_owned(), kind }),
    };
    match file.as_str() {
        "kernel/hostname" => return Err(SysctlError::HasField { name: name.to_owned(), field: "hostname" }),
        "kernel/domainname" => needs(Namespaces::UTS, "UTS")?,
        file if IPC.contains(&file) || file.starts_with("fs/mqueue/") => needs(Namespaces::IPC, "IPC")?,
        file if file.starts_with("net/") => needs(Namespaces::NETWORK, "network")?,
        file if file.starts_with("user/") => needs(Namespaces::USER, "user")?,
        _ => return Err(SysctlError::NotNamespaced { name: name.to_owned() }),
    }
    Ok(Sysctl { file, value: value.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(name: &str, value: &str, own: Namespaces) -> Result<Sysctl, SysctlError> {
        plan_one(name, value, own)
    }

    #[test]
    fn a_parameter_of_an_own_namespace_becomes_its_file() {
        let all = Namespaces::IPC.with(Namespaces::NETWORK).with(Namespaces::UTS);
        for (name, file) in [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4/conf/eth0.1/rp_filter", "net/ipv4/conf/eth0.1/rp_filter"),
            ("net.ipv4.conf.eth0/1.rp_filter", "net/ipv4/conf/eth0.1/rp_filter"),
            ("kernel.shmmax", "kernel/shmmax"),
            ("fs.mqueue.msg_max", "fs/mqueue/msg_max"),
            ("kernel.domainname", "kernel/domainname"),
        ] {
            assert_eq!(plan(name, "1", all), Ok(Sysctl { file: file.into(), value: "1".into() }));
        }
    }

    #[test]
    fn what_is_the_hosts_is_refused() {
        for name in ["kernel.core_pattern", "kernel.panic", "vm.swappiness", "fs.file-max", "net", "kernel.shmmax.x"] {
            let own = Namespaces::IPC.with(Namespaces::NETWORK);
            assert_eq!(plan(name, "1", own), Err(SysctlError::NotNamespaced { name: name.into() }));
        }
        assert_eq!(
            plan("net.ipv4.ip_forward", "1", Namespaces::IPC).unwrap_err().to_string(),
            "sysctl \"net.ipv4.ip_forward\" is not allowed in the hosts network namespace"
        );
        assert!(matches!(plan("kernel.hostname", "x", Namespaces::UTS), Err(SysctlError::HasField { .. })));
    }

    #[test]
    fn no_name_climbs_and_no_value_has_two_lines() {
        let own = Namespaces::NETWORK;
        for (name, value) in [
            ("net/../kernel/core_pattern", "|/x"),
            ("net//x", "1"),
            ("net/./x", "1"),
            ("net.ipv4.ip_forward", "1\n2"),
            ("net.ipv4.x y", "1"),
            ("", "1"),
            ("net..ipv4", "1"),
            ("net/x/", "1"),
        ] {
            assert_eq!(plan(name, value, own), Err(SysctlError::Malformed { name: name.into() }), "{name:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_planned_file_never_climbs(name in "(net|kernel|fs|user)[./][a-z./]{0,20}") {
            let own = Namespaces::NETWORK.with(Namespaces::IPC).with(Namespaces::USER).with(Namespaces::UTS);
            if let Ok(sysctl) = plan(&name, "1", own) {
                proptest::prop_assert!(!sysctl.file.starts_with('/'));
                proptest::prop_assert!(sysctl.file.split('/').all(|part| !matches!(part, "" | "." | "..")));
            }
        }
    }
}
