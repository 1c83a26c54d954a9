//! Resource limits by name (getrlimit(2)).

use carrack_oci_config::PosixRlimit;

/// One limit for the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceLimit {
    /// Number of the resource.
    pub resource: u32,
    /// The enforced value.
    pub soft: u64,
    /// The ceiling.
    pub hard: u64,
}

/// Why a limit is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResourceLimitError {
    /// No such resource.
    #[error("wrong rlimit value: {name}")]
    Unknown {
        /// As given.
        name: String,
    },
    /// The same resource twice.
    #[error("duplicated rlimit {name}")]
    Twice {
        /// As given.
        name: String,
    },
    /// The soft limit is above the hard one.
    #[error("rlimit {name}: soft limit {soft} is above hard limit {hard}")]
    Order {
        /// As given.
        name: String,
        /// The enforced value.
        soft: u64,
        /// The ceiling.
        hard: u64,
    },
}

/// Names by number, without `RLIMIT_`, as of `asm-generic/resource.h`.
const NAMES: [&str; 16] = [
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
];

/// The name of a resource.
pub fn name_of(resource: u32) -> String {
    format!("RLIMIT_{}", NAMES.get(resource as usize).unwrap_or(&"?"))
}

/// Checks the limits.
pub fn plan_resource_limits(wanted: &[PosixRlimit]) -> Result<Vec<ResourceLimit>, ResourceLimitError> {
    let mut limits: Vec<ResourceLimit> = Vec::with_capacity(wanted.len());
    for one in wanted {
        let name = one.kind.clone();
        let resource = one
            .kind
            .strip_prefix("RLIMIT_")
            .and_then(|short| NAMES.iter().position(|known| *known == short))
            .ok_or_else(|| ResourceLimitError::Unknown { name: name.clone() })? as u32;
        if limits.iter().any(|limit| limit.resource == resource) {
            return Err(ResourceLimitError::Twice { name });
        }
        if one.soft > one.hard {
            return Err(ResourceLimitError::Order { name, soft: one.soft, hard: one.hard });
        }
        limits.push(ResourceLimit { resource, soft: one.soft, hard: one.hard });
    }
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(kind: &str, soft: u64, hard: u64) -> PosixRlimit {
        PosixRlimit { kind: kind.into(), soft, hard }
    }

    #[test]
    fn names_become_numbers() {
        let got = plan_resource_limits(&[limit("RLIMIT_NOFILE", 1, 2), limit("RLIMIT_CPU", u64::MAX, u64::MAX)]);
        assert_eq!(
            got,
            Ok(vec![
                ResourceLimit { resource: 7, soft: 1, hard: 2 },
                ResourceLimit { resource: 0, soft: u64::MAX, hard: u64::MAX }
            ])
        );
    }

    #[test]
    fn unknown_doubled_and_upside_down_limits_are_refused() {
        let error = |list: &[PosixRlimit]| plan_resource_limits(list).unwrap_err().to_string();
        assert_eq!(error(&[limit("RLIMIT_X", 1, 1)]), "wrong rlimit value: RLIMIT_X");
        assert_eq!(error(&[limit("NOFILE", 1, 1)]), "wrong rlimit value: NOFILE");
        assert_eq!(error(&[limit("RLIMIT_CPU", 1, 1), limit("RLIMIT_CPU", 1, 1)]), "duplicated rlimit RLIMIT_CPU");
        assert_eq!(error(&[limit("RLIMIT_CPU", 2, 1)]), "rlimit RLIMIT_CPU: soft limit 2 is above hard limit 1");
    }
}
