//! Device rules as systemd.resource-control(5) takes them, `DeviceAllow=`: a list of what is allowed beside nothing.

use carrack_oci_config::LinuxDeviceCgroup;

use crate::device::{DeviceList, Devices, Kind, MKNOD, READ, WRITE};
use crate::error::PlanError;

/// Paths or patterns of devices, and letters of `rwm`. None where systemd has no words for the rules: what it would make of them would be stricter,
/// or nothing at all where everything is allowed.
pub fn device_allowances(rules: &[LinuxDeviceCgroup]) -> Result<Option<Vec<(String, String)>>, PlanError> {
    let list = match DeviceList::from_rules(rules) {
        Err(PlanError::DeviceHole { .. }) => return Ok(None),
        other => other?,
    };
    if list.allows_by_default {
        return Ok(None);
    }
    let one = |(devices, access): &(Devices, u8)| Some((pattern(devices)?, letters(*access)));
    Ok(list.exceptions.iter().map(one).collect())
}

/// There is none for a minor number of every major.
fn pattern(devices: &Devices) -> Option<String> {
    let kind = match devices.kind {
        Kind::Block => "block",
        Kind::Character => "char",
    };
    match (devices.major, devices.minor) {
        (None, None) => Some(format!("{kind}-*")),
        // Systemd 240; an older one knows only the names of /proc/devices.
        (Some(major), None) => Some(format!("{kind}-{major}")),
        (Some(major), Some(minor)) => Some(format!("/dev/{kind}/{major}:{minor}")),
        (None, Some(_)) => None,
    }
}

fn letters(access: u8) -> String {
    let all = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
    all.iter().filter(|(bit, _)| access & bit != 0).map(|(_, letter)| letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base_device_rules;

    fn rule(allow: bool, kind: &str, major: Option<i64>, minor: Option<i64>, access: &str) -> LinuxDeviceCgroup {
        LinuxDeviceCgroup { allow, kind: kind.into(), major, minor, access: access.into() }
    }

    fn allowances(rules: &[LinuxDeviceCgroup]) -> Option<Vec<String>> {
        let list = device_allowances(rules).expect("sound rules")?;
        Some(list.into_iter().map(|(path, access)| format!("{path} {access}")).collect())
    }

    #[test]
    fn an_ordinary_container_has_a_list() {
        let mut rules = vec![rule(false, "", None, None, "rwm"), rule(true, "b", Some(8), None, "rw")];
        rules.extend(base_device_rules());
        let want = [
            "block-8 rw",
            "char-* m",
            "block-* m",
            "/dev/char/1:3 rwm",
            "/dev/char/1:8 rwm",
            "/dev/char/1:7 rwm",
            "/dev/char/5:0 rwm",
            "/dev/char/1:5 rwm",
            "/dev/char/1:9 rwm",
            "char-136 rwm",
            "/dev/char/5:2 rwm",
        ];
        assert_eq!(allowances(&rules), Some(want.map(str::to_owned).into()));
    }

    #[test]
    fn what_systemd_has_no_words_for_has_none() {
        for rules in [
            vec![rule(true, "a", None, None, "")],
            vec![rule(true, "a", None, None, ""), rule(false, "c", Some(1), Some(3), "w")],
            vec![rule(true, "c", None, Some(3), "r")],
            vec![rule(true, "c", Some(5), None, "rw"), rule(false, "c", Some(5), Some(1), "rwm")],
        ] {
            assert_eq!(allowances(&rules), None, "{rules:?}");
        }
        device_allowances(&[rule(true, "p", None, None, "")]).expect_err("no such type");
    }
}
