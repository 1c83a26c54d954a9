//! `linux.seccomp` of config.json.

wire! {
    /// A filter of system calls.
    pub struct LinuxSeccomp {
        req {
            /// Action for calls no rule names, such as `SCMP_ACT_ERRNO`.
            default_action: String,
        }
        opt {
            /// Error number of the default action.
            default_errno_ret: Option<u32>,
            /// Such as `SCMP_ARCH_X86_64`.
            architectures: Vec<String>,
            /// Such as `SECCOMP_FILTER_FLAG_LOG`; absent is not empty: runc then takes SPEC_ALLOW, and so does Carrack.
            flags: Option<Vec<String>>,
            /// Unix socket that gets the notification handle.
            listener_path: String,
            /// Opaque text for the agent behind that socket.
            listener_metadata: String,
            /// The rules.
            syscalls: Vec<LinuxSyscall>,
        }
    }

    /// One rule.
    pub struct LinuxSyscall {
        req {
            /// Names of system calls; unknown ones are skipped.
            names: Vec<String>,
            /// Action on a match.
            action: String,
        }
        opt {
            /// Error number of `SCMP_ACT_ERRNO` or value of `SCMP_ACT_TRACE`.
            errno_ret: Option<u32>,
            /// Tests of arguments; all must hold.
            args: Vec<LinuxSeccompArg>,
        }
    }

    /// One test of an argument.
    pub struct LinuxSeccompArg {
        req {
            /// Number of the argument, 0 to 5.
            index: u32,
            /// Value to compare with, or the mask of `SCMP_CMP_MASKED_EQ`.
            value: u64,
            /// Such as `SCMP_CMP_EQ`.
            op: String,
        }
        opt {
            /// The value of `SCMP_CMP_MASKED_EQ`.
            value_two: Option<u64>,
        }
    }
}
