//! Names of capabilities, and the five sets of a process (capabilities(7)).

use carrack_oci_config::LinuxCapabilities;

/// Names by number, without `CAP_`, as of `linux/capability.h` in Linux 6.18.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// All that have a name.
pub const KNOWN: u64 = (1 << NAMES.len()) - 1;
/// The bit of `CAP_SYS_ADMIN`.
pub const SYS_ADMIN: u64 = 1 << 21;

/// The bit of a capability by name; case and a leading `CAP_` do not matter.
pub fn bit(name: &str) -> Option<u64> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES.iter().position(|known| *known == short).map(|number| 1 << number)
}

/// All names, with `CAP_`.
pub fn names() -> impl Iterator<Item = String> {
    NAMES.iter().map(|name| format!("CAP_{name}"))
}

fn name_of(bit: u64) -> String {
    NAMES
        .get(bit.trailing_zeros() as usize)
        .map_or_else(|| format!("capability {}", bit.trailing_zeros()), |name| format!("CAP_{name}"))
}

fn each(bits: u64) -> impl Iterator<Item = u64> {
    (0..64).map(|number| 1 << number).filter(move |bit| bits & bit != 0)
}

/// The five sets, bit by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CapabilitySets {
    /// What can ever be gained.
    pub bounding: u64,
    /// What counts now.
    pub effective: u64,
    /// What a program with inheritable file capabilities keeps.
    pub inheritable: u64,
    /// What can be made effective.
    pub permitted: u64,
    /// What survives the execution of an ordinary program without being root.
    pub ambient: u64,
}

impl CapabilitySets {
    /// The sets asked for, of what is `available` to us, and what had to be left out as sentences. Absent means none, so nothing is
    /// inheritable unless it is asked for (CVE-2022-29162).
    pub fn plan(wanted: Option<&LinuxCapabilities>, available: u64) -> (Self, Vec<String>) {
        let mut warnings = Vec::new();
        let Some(wanted) = wanted else { return (Self::default(), warnings) };
        let mut missing = 0;
        let mut parse = |names: &[String]| {
            let mut bits = 0;
            for name in names {
                match bit(name) {
                    Some(one) if available & one != 0 => bits |= one,
                    Some(one) => missing |= one,
                    None => {
                        let text = format!("ignoring unknown capability {name}");
                        if !warnings.contains(&text) {
                            warnings.push(text);
                        }
                    }
                }
            }
            bits
        };
        let mut sets = Self {
            bounding: parse(&wanted.bounding),
            effective: parse(&wanted.effective),
            inheritable: parse(&wanted.inheritable),
            permitted: parse(&wanted.permitted),
            ambient: parse(&wanted.ambient),
        };
        warnings
            .extend(each(missing).map(|one| format!("ignoring {}: this host does not grant it to us", name_of(one))));
        // The kernel refuses sets that do not contain each other so (capset(2), prctl(2)).
        let mut shrink = |set: &mut u64, within: u64, what: &str, why: &str| {
            warnings
                .extend(each(*set & !within).map(|one| format!("ignoring {what} {}: it is not {why}", name_of(one))));
            *set &= within;
        };
        shrink(&mut sets.effective, sets.permitted, "effective", "permitted");
        // No warning: `runc spec` itself writes an ambient set without an inheritable one, and runc passes over it in silence.
        sets.ambient &= sets.permitted & sets.inheritable;
        (sets, warnings)
    }

    /// Adds the capabilities to all sets but the ambient and inheritable ones: what `exec --cap` and `--privileged` mean.
    pub fn grant(config: &mut LinuxCapabilities, names: &[String]) {
        for set in [&mut config.bounding, &mut config.effective, &mut config.permitted] {
            set.extend(names.iter().cloned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn names_are_known_in_every_spelling() {
        assert_eq!(bit("CAP_CHOWN"), Some(1));
        assert_eq!(bit("chown"), Some(1));
        assert_eq!(bit("CAP_SYS_ADMIN"), Some(SYS_ADMIN));
        assert_eq!(bit("CAP_CHECKPOINT_RESTORE"), Some(1 << 40));
        assert_eq!(bit("CAP_FLY"), None);
    }

    #[test]
    fn absent_capabilities_are_none_at_all() {
        assert_eq!(CapabilitySets::plan(None, KNOWN), (CapabilitySets::default(), vec![]));
    }

    #[test]
    fn what_is_unknown_or_not_ours_or_not_contained_is_left_out_with_a_warning() {
        let wanted = LinuxCapabilities {
            bounding: names(&["CAP_CHOWN", "CAP_FLY", "CAP_SYS_RESOURCE"]),
            effective: names(&["CAP_CHOWN", "CAP_KILL"]),
            permitted: names(&["CAP_CHOWN", "CAP_FLY"]),
            inheritable: vec![],
            ambient: names(&["CAP_CHOWN"]),
        };
        let (sets, warnings) = CapabilitySets::plan(Some(&wanted), KNOWN & !(1 << 24));
        assert_eq!(sets, CapabilitySets { bounding: 1, effective: 1, permitted: 1, inheritable: 0, ambient: 0 });
        assert_eq!(
            warnings,
            [
                "ignoring unknown capability CAP_FLY",
                "ignoring CAP_SYS_RESOURCE: this host does not grant it to us",
                "ignoring effective CAP_KILL: it is not permitted",
            ]
        );
    }
}
