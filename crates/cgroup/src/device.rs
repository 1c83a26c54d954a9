//! Rules about devices: what they say, and the list of exceptions that version 1 keeps.
//!
//! `linux.resources.devices` is read in order, a later rule wins, and nothing is allowed before the first: runc starts so, and the
//! kernel's own start (whatever the parent allows) would let a list of allowances mean nothing. A rule of type `a` sets everything,
//! whatever its numbers.

use std::fmt;

use carrack_oci_config::LinuxDeviceCgroup;

use crate::error::PlanError;

/// Block or character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Block,
    Character,
}

/// Bits of `BPF_DEVCG_ACC_*` in `<linux/bpf.h>`.
pub(crate) const MKNOD: u8 = 1;
pub(crate) const READ: u8 = 2;
pub(crate) const WRITE: u8 = 4;
pub(crate) const ALL: u8 = MKNOD | READ | WRITE;

/// A rule that has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Type `a`: forget what was before.
    Everything {
        allow: bool,
    },
    Some {
        allow: bool,
        devices: Devices,
        access: u8,
    },
}

/// Which devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Devices {
    pub(crate) kind: Kind,
    /// Absent means all.
    pub(crate) major: Option<u32>,
    /// Absent means all.
    pub(crate) minor: Option<u32>,
}

/// What version 1 keeps: one answer for all devices, and exceptions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceList {
    pub(crate) allows_by_default: bool,
    pub(crate) exceptions: Vec<(Devices, u8)>,
}

impl Rule {
    pub(crate) fn parse(wire: &LinuxDeviceCgroup) -> Result<Self, PlanError> {
        let kind = match wire.kind.as_str() {
            "" | "a" => return Ok(Self::Everything { allow: wire.allow }),
            "b" => Kind::Block,
            "c" => Kind::Character,
            other => return Err(invalid("linux.resources.devices.type", other, "is not a, b or c")),
        };
        let number = |setting: &'static str, number: Option<i64>| match number {
            None | Some(-1) => Ok(None),
            Some(number) => u32::try_from(number)
                .map(Some)
                .map_err(|_| invalid(setting, &number.to_string(), "is no device number")),
        };
        let major = number("linux.resources.devices.major", wire.major)?;
        let minor = number("linux.resources.devices.minor", wire.minor)?;
        let access = parse_access(&wire.access)?;
        Ok(Self::Some { allow: wire.allow, devices: Devices { kind, major, minor }, access })
    }
}

fn parse_access(text: &str) -> Result<u8, PlanError> {
    let mut access = 0;
    for letter in text.chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            _ => return Err(invalid("linux.resources.devices.access", text, "has a letter other than r, w and m")),
        };
    }
    Ok(if access == 0 { ALL } else { access })
}

fn invalid(setting: &'static str, value: &str, reason: &'static str) -> PlanError {
    PlanError::Invalid { setting, value: value.to_owned(), reason }
}

impl DeviceList {
    /// Plays the rules through as the kernel would.
    pub(crate) fn from_rules(rules: &[LinuxDeviceCgroup]) -> Result<Self, PlanError> {
        let mut list = Self { allows_by_default: false, exceptions: Vec::new() };
        for wire in rules {
            match Rule::parse(wire)? {
                Rule::Everything { allow } => list = Self { allows_by_default: allow, exceptions: Vec::new() },
                Rule::Some { allow, devices, access } if allow == list.allows_by_default => {
                    list.take_back(allow, devices, access)?;
                }
                Rule::Some { devices, access, .. } => list.except(devices, access),
            }
        }
        Ok(list)
    }

    fn except(&mut self, devices: Devices, access: u8) {
        match self.exceptions.iter_mut().find(|(known, _)| *known == devices) {
            Some((_, known)) => *known |= access,
            None => self.exceptions.push((devices, access)),
        }
    }

    /// A rule that says what holds by default anyway: it only matters to exceptions made before.
    fn take_back(&mut self, allow: bool, devices: Devices, access: u8) -> Result<(), PlanError> {
        for (known, known_access) in &mut self.exceptions {
            if devices.covers(known) {
                *known_access &= !access;
            } else if *known_access & access != 0 && devices.overlaps(known) {
                return Err(PlanError::DeviceHole {
                    rule: format!("{} {}", if allow { "allow" } else { "deny" }, line(&devices, access)),
                    exception: line(known, *known_access),
                });
            }
        }
        self.exceptions.retain(|(_, access)| *access != 0);
        Ok(())
    }

    /// From the text of `devices.list`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut list = Self { allows_by_default: false, exceptions: Vec::new() };
        for line in text.lines() {
            let mut fields = line.split([' ', ':']);
            let (kind, major, minor, access) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            let kind = match kind {
                "a" => {
                    list.allows_by_default = true;
                    continue;
                }
                "b" => Kind::Block,
                "c" => Kind::Character,
                _ => return None,
            };
            let number = |text: &str| if text == "*" { Some(None) } else { text.parse().ok().map(Some) };
            let devices = Devices { kind, major: number(major)?, minor: number(minor)? };
            list.exceptions.push((devices, parse_access(access).ok()?));
        }
        Some(list)
    }

    /// What to write into an empty group, whatever it has from its parent: files and values, in order.
    pub(crate) fn writes_anew(&self) -> Vec<(&'static str, String)> {
        let (reset, except) = self.files();
        let mut writes = vec![(reset, "a".to_owned())];
        writes.extend(self.exceptions.iter().map(|(devices, access)| (except, line(devices, *access))));
        writes
    }

    /// What to write into a group in use. Within one default nothing is taken that is not given elsewhere, so processes never
    /// find a device gone for a moment.
    pub(crate) fn writes_from(&self, present: &Self) -> Vec<(&'static str, String)> {
        if self.allows_by_default != present.allows_by_default {
            return self.writes_anew();
        }
        let (take_back, except) = self.files();
        let more = self.exceptions.iter().filter_map(|(devices, access)| {
            let missing = access & !present.access_of(devices);
            (missing != 0).then(|| (except, line(devices, missing)))
        });
        let less = present.exceptions.iter().filter_map(|(devices, access)| {
            let surplus = access & !self.access_of(devices);
            (surplus != 0).then(|| (take_back, line(devices, surplus)))
        });
        // Allowing comes first, whichever of the two it is.
        if self.allows_by_default { less.chain(more).collect() } else { more.chain(less).collect() }
    }

    fn access_of(&self, devices: &Devices) -> u8 {
        self.exceptions.iter().find(|(known, _)| known == devices).map_or(0, |(_, access)| *access)
    }

    /// The file that sets the default, and the one that makes exceptions from it.
    fn files(&self) -> (&'static str, &'static str) {
        if self.allows_by_default { ("devices.allow", "devices.deny") } else { ("devices.deny", "devices.allow") }
    }
}

impl Devices {
    fn covers(&self, other: &Self) -> bool {
        let number = |wide: Option<u32>, narrow: Option<u32>| wide.is_none() || wide == narrow;
        self.kind == other.kind && number(self.major, other.major) && number(self.minor, other.minor)
    }

    fn overlaps(&self, other: &Self) -> bool {
        let number = |one: Option<u32>, two: Option<u32>| one.is_none() || two.is_none() || one == two;
        self.kind == other.kind && number(self.major, other.major) && number(self.minor, other.minor)
    }
}

/// As the files of version 1 read and print it.
fn line(devices: &Devices, access: u8) -> String {
    let kind = match devices.kind {
        Kind::Block => 'b',
        Kind::Character => 'c',
    };
    let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
    let mut text = format!("{kind} {}:{} ", number(devices.major), number(devices.minor));
    for (bit, letter) in [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')] {
        if access & bit != 0 {
            text.push(letter);
        }
    }
    text
}

impl fmt::Display for DeviceList {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let writes: Vec<String> =
            self.writes_anew().into_iter().map(|(file, value)| format!("{file} <- {value}")).collect();
        write!(out, "{}", writes.join(", "))
    }
}

/// What a container needs beside its own rules, to be appended to them: any node may be made (but not opened), and the devices that
/// every container has. The same as runc's.
pub fn base_device_rules() -> Vec<LinuxDeviceCgroup> {
    const BASE: [(&str, Option<i64>, Option<i64>, &str); 10] = [
        ("c", None, None, "m"),
        ("b", None, None, "m"),
        ("c", Some(1), Some(3), "rwm"),
        ("c", Some(1), Some(8), "rwm"),
        ("c", Some(1), Some(7), "rwm"),
        ("c", Some(5), Some(0), "rwm"),
        ("c", Some(1), Some(5), "rwm"),
        ("c", Some(1), Some(9), "rwm"),
        ("c", Some(136), None, "rwm"),
        ("c", Some(5), Some(2), "rwm"),
    ];
    let rule = |(kind, major, minor, access): (&str, _, _, &str)| LinuxDeviceCgroup {
        allow: true,
        kind: kind.to_owned(),
        major,
        minor,
        access: access.to_owned(),
    };
    BASE.map(rule).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn rule(allow: bool, kind: &str, major: i64, minor: i64, access: &str) -> LinuxDeviceCgroup {
        let number = |number: i64| (number >= 0).then_some(number);
        LinuxDeviceCgroup {
            allow,
            kind: kind.to_owned(),
            major: number(major),
            minor: number(minor),
            access: access.to_owned(),
        }
    }

    fn writes(rules: &[LinuxDeviceCgroup]) -> Vec<String> {
        let list = DeviceList::from_rules(rules).expect("sound rules");
        list.writes_anew().into_iter().map(|(file, value)| format!("{file} {value}")).collect()
    }

    #[test]
    fn an_ordinary_container_denies_all_and_allows_a_few() {
        let rules = [
            rule(false, "a", -1, -1, "rwm"),
            rule(true, "c", 1, 3, "rw"),
            rule(true, "c", 1, 3, "m"),
            rule(true, "b", 8, -1, ""),
        ];
        assert_eq!(writes(&rules), ["devices.deny a", "devices.allow c 1:3 rwm", "devices.allow b 8:* rwm"]);
    }

    #[test]
    fn a_privileged_container_allows_all_whatever_is_appended() {
        let mut rules = vec![rule(true, "", -1, -1, "rwm")];
        rules.extend(base_device_rules());
        assert_eq!(writes(&rules), ["devices.allow a"]);
    }

    #[test]
    fn a_later_rule_takes_back_an_earlier_one() {
        assert_eq!(
            writes(&[
                rule(true, "c", 1, 3, "rwm"),
                rule(false, "c", 1, 3, "w"),
                rule(true, "c", 1, 5, "r"),
                rule(false, "c", -1, 5, "r")
            ]),
            ["devices.deny a", "devices.allow c 1:3 rm"]
        );
        assert_eq!(
            writes(&[rule(true, "a", -1, -1, ""), rule(false, "c", 10, 200, "rwm")]),
            ["devices.allow a", "devices.deny c 10:200 rwm"]
        );
    }

    #[test]
    fn a_hole_in_an_allowance_is_refused_by_name() {
        let fault = DeviceList::from_rules(&[rule(true, "c", 5, -1, "rw"), rule(false, "c", 5, 1, "rwm")]);
        let text = "device rule deny c 5:1 rwm: cgroup v1 cannot cut a hole into the earlier c 5:* rw";
        assert_eq!(fault.expect_err("a hole").to_string(), text);
    }

    #[test]
    fn faulty_rules_are_named() {
        for (faulty, text) in [
            (rule(true, "p", 1, 1, ""), "linux.resources.devices.type: p is not a, b or c"),
            (rule(true, "c", 1 << 40, 1, ""), "linux.resources.devices.major: 1099511627776 is no device number"),
            (rule(true, "c", 1, 1, "rx"), "linux.resources.devices.access: rx has a letter other than r, w and m"),
        ] {
            assert_eq!(DeviceList::from_rules(&[faulty]).expect_err("a fault").to_string(), text);
        }
    }

    #[test]
    fn a_group_in_use_is_changed_by_the_difference() {
        let present = DeviceList::parse("c 1:3 rwm\nc *:* m\nb 8:0 r\n").expect("a list");
        let target = DeviceList::from_rules(&[
            rule(true, "c", -1, -1, "m"),
            rule(true, "c", 1, 3, "rm"),
            rule(true, "c", 1, 5, "rwm"),
        ]);
        let writes = target.expect("sound rules").writes_from(&present);
        let want = [("devices.allow", "c 1:5 rwm"), ("devices.deny", "c 1:3 w"), ("devices.deny", "b 8:0 r")];
        assert_eq!(writes, want.map(|(file, value)| (file, value.to_owned())));
        assert!(present.writes_from(&present).is_empty());
    }
}
