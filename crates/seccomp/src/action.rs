//! What a filter answers for a call.

/// An answer as the kernel takes it: `SECCOMP_RET_*` of `<linux/seccomp.h>` with its data in the low sixteen bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Verdict(pub(crate) u32);

/// Errno of an action that names none (runc, libseccomp-golang).
const EPERM: u16 = 1;
const ENOSYS: u16 = 38;

/// Why an action cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ActionFault {
    Unknown,
    /// The specification wants an error when an action that has no errno is given one.
    TakesNoErrno,
}

/// Names in a profile, most severe first: the order of the kernel's precedence.
pub(crate) const NAMES: &[&str] = &[
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_KILL",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_LOG",
    "SCMP_ACT_ALLOW",
];

impl Verdict {
    /// Kill the process.
    pub const KILL_PROCESS: Self = Self(0x8000_0000);
    /// Kill the thread.
    pub const KILL_THREAD: Self = Self(0x0000_0000);
    /// Send SIGSYS.
    pub const TRAP: Self = Self(0x0003_0000);
    /// Ask the listener.
    pub const NOTIFY: Self = Self(0x7fc0_0000);
    /// Log and allow.
    pub const LOG: Self = Self(0x7ffc_0000);
    /// Allow.
    pub const ALLOW: Self = Self(0x7fff_0000);
    /// Fail with ENOSYS.
    pub const ENOSYS: Self = Self::errno(ENOSYS);

    /// Fail with an errno.
    pub const fn errno(number: u16) -> Self {
        Self(0x0005_0000 | number as u32)
    }

    /// Tell the tracer, with a message for it.
    pub const fn trace(message: u16) -> Self {
        Self(0x7ff0_0000 | message as u32)
    }

    /// The number the kernel takes.
    pub const fn raw(self) -> u32 {
        self.0
    }

    pub(crate) fn parse(name: &str, errno: Option<u32>) -> Result<Self, ActionFault> {
        // As libseccomp: sixteen bits are kept.
        let number = errno.map_or(EPERM, |errno| errno as u16);
        let plain = match name {
            "SCMP_ACT_ERRNO" => return Ok(Self::errno(number)),
            "SCMP_ACT_TRACE" => return Ok(Self::trace(number)),
            "SCMP_ACT_ALLOW" => Self::ALLOW,
            "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Self::KILL_THREAD,
            "SCMP_ACT_KILL_PROCESS" => Self::KILL_PROCESS,
            "SCMP_ACT_TRAP" => Self::TRAP,
            "SCMP_ACT_LOG" => Self::LOG,
            "SCMP_ACT_NOTIFY" => Self::NOTIFY,
            _ => return Err(ActionFault::Unknown),
        };
        if errno.is_some() { Err(ActionFault::TakesNoErrno) } else { Ok(plain) }
    }

    /// Smaller is more severe. The kernel compares actions as signed numbers, so that KILL_PROCESS comes first.
    pub(crate) fn severity(self) -> i32 {
        (self.0 & 0xffff_0000) as i32
    }

    /// Whether unknown calls pass, or reach a tracer that answers for itself; then nobody needs to hear ENOSYS.
    pub(crate) fn is_permissive(self) -> bool {
        self.severity() >= Self::trace(0).severity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_specification_parses_and_the_list_runs_from_severe_to_mild() {
        let verdicts: Vec<_> = NAMES.iter().map(|name| Verdict::parse(name, None).expect("a listed name")).collect();
        assert!(verdicts.is_sorted_by_key(|verdict| verdict.severity()));
        assert_eq!(Verdict::parse("SCMP_ACT_PANIC", None), Err(ActionFault::Unknown));
    }

    #[test]
    fn errno_belongs_to_errno_and_trace_only() {
        assert_eq!(Verdict::parse("SCMP_ACT_ERRNO", None), Ok(Verdict(0x0005_0001)));
        assert_eq!(Verdict::parse("SCMP_ACT_ERRNO", Some(38)), Ok(Verdict::ENOSYS));
        assert_eq!(Verdict::parse("SCMP_ACT_TRACE", Some(7)), Ok(Verdict(0x7ff0_0007)));
        assert_eq!(Verdict::parse("SCMP_ACT_ALLOW", Some(1)), Err(ActionFault::TakesNoErrno));
    }
}
