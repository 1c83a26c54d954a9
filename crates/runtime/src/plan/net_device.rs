//! Network devices of the host that move into a container (config-linux.md, "Network Devices").

use std::collections::BTreeMap;

use carrack_oci_config::LinuxNetDevice;

/// The longest name that the kernel takes (`IFNAMSIZ` less the zero byte).
const LONGEST_NAME: usize = 15;

/// One device to move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetDeviceStep {
    /// Its name on the host.
    pub name: String,
    /// Its name in the container.
    pub new_name: String,
}

/// Why devices are refused; the words are runc's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetDevicePlanError {
    /// They would move to where they are.
    #[error("unable to move network devices without a NET namespace")]
    NoNamespace,
    /// No name of a device.
    #[error("invalid network device name {name:?}")]
    Name {
        /// As given.
        name: String,
    },
    /// Two devices would have one name.
    #[error("two network devices would be called {name:?}")]
    Twice {
        /// The name.
        name: String,
    },
}

/// Plans the moves.
pub fn plan_net_devices(
    devices: &BTreeMap<String, LinuxNetDevice>,
    has_namespace: bool,
) -> Result<Vec<NetDeviceStep>, NetDevicePlanError> {
    if !devices.is_empty() && !has_namespace {
        return Err(NetDevicePlanError::NoNamespace);
    }
    let mut steps: Vec<NetDeviceStep> = Vec::with_capacity(devices.len());
    for (name, device) in devices {
        let new_name = if device.name.is_empty() { name } else { &device.name };
        if let Some(bad) = [name, new_name].into_iter().find(|name| !is_name(name)) {
            return Err(NetDevicePlanError::Name { name: bad.clone() });
        }
        if steps.iter().any(|step| step.new_name == *new_name) {
            return Err(NetDevicePlanError::Twice { name: new_name.clone() });
        }
        steps.push(NetDeviceStep { name: name.clone(), new_name: new_name.clone() });
    }
    Ok(steps)
}

/// As the kernel says (`dev_valid_name`); a `%` would have it make up a number.
fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && name.len() <= LONGEST_NAME
        && !name.contains(|c: char| matches!(c, '/' | ':' | '%' | '\0') || c.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(devices: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
        let devices = devices
            .iter()
            .map(|(name, new)| ((*name).to_owned(), LinuxNetDevice { name: (*new).to_owned() }))
            .collect();
        let steps = plan_net_devices(&devices, true).map_err(|error| error.to_string())?;
        Ok(steps.into_iter().map(|step| (step.name, step.new_name)).collect())
    }

    #[test]
    fn a_device_keeps_its_name_or_gets_another_that_the_kernel_takes() {
        let pair = |one: &str, other: &str| (one.to_owned(), other.to_owned());
        assert_eq!(plan(&[("eth1", ""), ("eth2", "net0")]), Ok(vec![pair("eth1", "eth1"), pair("eth2", "net0")]));
        assert_eq!(plan(&[("eth1", "eth2"), ("eth2", "eth1")]), Ok(vec![pair("eth1", "eth2"), pair("eth2", "eth1")]));
        for bad in ["..", "a/b", "a b", "eth%d", "a:b", "sixteenletterslo"] {
            assert_eq!(plan(&[("eth0", bad)]), Err(format!("invalid network device name {bad:?}")));
        }
        assert_eq!(plan(&[("", "x")]), Err("invalid network device name \"\"".to_owned()));
        assert_eq!(plan(&[("a", "c"), ("b", "c")]), Err("two network devices would be called \"c\"".to_owned()));
    }

    #[test]
    fn without_a_namespace_there_is_nowhere_to_move_to() {
        let one = BTreeMap::from([("a".to_owned(), LinuxNetDevice::default())]);
        assert_eq!(plan_net_devices(&one, false), Err(NetDevicePlanError::NoNamespace));
        assert_eq!(plan_net_devices(&BTreeMap::new(), false), Ok(vec![]));
    }
}
