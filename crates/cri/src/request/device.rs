//! Devices of a container.

use carrack_cri_proto::v1;
use carrack_engine::request::DeviceRequest;

use super::{RequestError, absolute_path, invalid};

/// The devices, in the caller's order.
pub(super) fn devices(devices: &[v1::Device], field: &str) -> Result<Vec<DeviceRequest>, RequestError> {
    devices.iter().enumerate().map(|(index, given)| device(given, &format!("{field}[{index}]"))).collect()
}

fn device(device: &v1::Device, field: &str) -> Result<DeviceRequest, RequestError> {
    let letters = &device.permissions;
    let repeated = letters.char_indices().any(|(at, letter)| letters[..at].contains(letter));
    if letters.is_empty() || repeated || !letters.chars().all(|letter| "rwm".contains(letter)) {
        let reason = format!("{letters:?} is not made of r, w and m, each at most once");
        return Err(invalid(format!("{field}.permissions"), reason));
    }
    Ok(DeviceRequest {
        host_path: absolute_path(&device.host_path, &format!("{field}.host_path"))?,
        container_path: absolute_path(&device.container_path, &format!("{field}.container_path"))?,
        permissions: letters.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fuse(permissions: &str) -> v1::Device {
        let path = "/dev/fuse".to_owned();
        v1::Device { container_path: path.clone(), host_path: path, permissions: permissions.into() }
    }

    #[test]
    fn devices_arrive_and_their_letters_are_checked() {
        let wanted = |permissions: &str| {
            vec![DeviceRequest {
                host_path: "/dev/fuse".into(),
                container_path: "/dev/fuse".into(),
                permissions: permissions.into(),
            }]
        };
        for good in ["r", "rw", "rwm", "mr"] {
            assert_eq!(devices(&[fuse(good)], "d"), Ok(wanted(good)));
        }
        for bad in ["", "x", "rr", "rwmr", "RW"] {
            let error = devices(&[fuse("r"), fuse(bad)], "d").expect_err(bad);
            assert!(matches!(&error, RequestError::Invalid { field, .. } if field == "d[1].permissions"), "{error}");
        }
        assert!(devices(&[v1::Device { host_path: "fuse".into(), ..fuse("r") }], "d").is_err());
        assert!(devices(&[v1::Device { container_path: "/dev/../etc".into(), ..fuse("r") }], "d").is_err());
    }
}
