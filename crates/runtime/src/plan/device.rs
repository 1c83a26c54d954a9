//! Device nodes and links that a container finds in `/dev` (config-linux.md, "Default Devices").

use carrack_oci_config::LinuxDevice;

/// What kind of node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// c or u.
    Character,
    /// b.
    Block,
    /// p.
    Fifo,
}

/// One node to make, or in a user namespace to bind from the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceStep {
    /// Absolute path in the container.
    pub path: String,
    /// What kind.
    pub kind: DeviceKind,
    /// Major number; 0 for a FIFO.
    pub major: u32,
    /// Minor number; 0 for a FIFO.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner in the container.
    pub uid: u32,
    /// Group in the container.
    pub gid: u32,
}

/// Why a device is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DevicePlanError {
    /// Not one of the letters.
    #[error("device {path}: unknown type {kind:?}")]
    UnknownType {
        /// Where.
        path: String,
        /// As given.
        kind: String,
    },
    /// A number is missing or out of range.
    #[error("device {path}: major and minor number must be given, and not be negative")]
    Numbers {
        /// Where.
        path: String,
    },
    /// There is no path.
    #[error("a device has no path")]
    NoPath,
}

/// Nodes that every container has.
const DEFAULT: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/random", 1, 8),
    ("/dev/full", 1, 7),
    ("/dev/tty", 5, 0),
    ("/dev/zero", 1, 5),
    ("/dev/urandom", 1, 9),
];

/// The memory of the kernel: there is a link to it only where there is such a file.
pub const KCORE: &str = "/proc/kcore";

/// Links that every container has: target and path.
pub const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    (KCORE, "/dev/core"),
];

/// The default nodes and the wanted ones; a wanted one takes the place of a default one with the same path.
pub fn plan_devices(wanted: &[LinuxDevice]) -> Result<Vec<DeviceStep>, DevicePlanError> {
    let wanted = wanted.iter().map(plan_one).collect::<Result<Vec<_>, _>>()?;
    let mut steps: Vec<DeviceStep> = DEFAULT
        .iter()
        .filter(|(path, ..)| !wanted.iter().any(|step| step.path == *path))
        .map(|&(path, major, minor)| DeviceStep {
            path: path.to_owned(),
            kind: DeviceKind::Character,
            major,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
        .collect();
    steps.extend(wanted);
    Ok(steps)
}

fn plan_one(device: &LinuxDevice) -> Result<DeviceStep, DevicePlanError> {
    // As with runc a relative path starts at the root; it is resolved inside like every other.
    let path = format!("/{}", device.path.trim_start_matches('/'));
    if path == "/" {
        return Err(DevicePlanError::NoPath);
    }
    let kind = match device.kind.as_str() {
        "c" | "u" => DeviceKind::Character,
        "b" => DeviceKind::Block,
        "p" => DeviceKind::Fifo,
        other => return Err(DevicePlanError::UnknownType { path, kind: other.to_owned() }),
    };
    let number = |number: Option<i64>| match (kind, number) {
        (DeviceKind::Fifo, _) => Ok(0),
        (_, Some(number)) => u32::try_from(number).map_err(|_| DevicePlanError::Numbers { path: path.clone() }),
        (_, None) => Err(DevicePlanError::Numbers { path: path.clone() }),
    };
    let (major, minor) = (number(device.major)?, number(device.minor)?);
    let mode = device.file_mode.unwrap_or(0o666) & 0o7777;
    Ok(DeviceStep { path, kind, major, minor, mode, uid: device.uid.unwrap_or(0), gid: device.gid.unwrap_or(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(path: &str, kind: &str, major: Option<i64>, minor: Option<i64>) -> LinuxDevice {
        LinuxDevice { path: path.into(), kind: kind.into(), major, minor, ..LinuxDevice::default() }
    }

    #[test]
    fn a_wanted_device_takes_the_place_of_a_default_one() {
        let steps =
            plan_devices(&[device("/dev/null", "c", Some(9), Some(9)), device("/dev/f", "p", None, None)]).unwrap();
        assert_eq!(steps.len(), 7);
        assert_eq!(
            steps.iter().filter(|step| step.path == "/dev/null").map(|step| step.major).collect::<Vec<_>>(),
            [9]
        );
        assert_eq!(
            steps[6],
            DeviceStep {
                path: "/dev/f".into(),
                kind: DeviceKind::Fifo,
                major: 0,
                minor: 0,
                mode: 0o666,
                uid: 0,
                gid: 0
            }
        );
    }

    #[test]
    fn a_relative_path_starts_at_the_root() {
        let steps = plan_devices(&[device("dev/null", "c", Some(9), Some(9))]).unwrap();
        assert_eq!(steps.last().map(|step| (step.path.as_str(), step.major)), Some(("/dev/null", 9)));
        assert_eq!(steps.len(), 6);
    }

    #[test]
    fn a_device_without_numbers_or_with_an_unknown_type_is_refused() {
        for (bad, text) in [
            (
                device("/dev/x", "c", None, Some(1)),
                "device /dev/x: major and minor number must be given, and not be negative",
            ),
            (
                device("/dev/x", "c", Some(-1), Some(1)),
                "device /dev/x: major and minor number must be given, and not be negative",
            ),
            (device("/dev/x", "q", Some(1), Some(1)), "device /dev/x: unknown type \"q\""),
            (device("", "c", Some(1), Some(1)), "a device has no path"),
        ] {
            assert_eq!(plan_devices(&[bad]).unwrap_err().to_string(), text);
        }
    }
}
