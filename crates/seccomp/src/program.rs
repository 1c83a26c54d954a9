//! From a profile to a program, and into the kernel.

use std::io;
use std::os::fd::OwnedFd;

use carrack_oci_config::{LinuxSeccomp, LinuxSeccompArg};
use carrack_sys::seccomp::{self as kernel, SockFilter};
use carrack_words::Kind;

use crate::action::{ActionFault, Verdict};
use crate::arch::{self, Arch};
use crate::assembly::{ARCH, Assembly, Test};
use crate::condition::ConditionFault;
use crate::rules::{self, Calls};
use crate::support::{FLAGS, KernelSupport};
use crate::tree::{self, Fallback};

/// A filter that is ready to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The instructions; at least one, at most 4096.
    pub filter: Vec<SockFilter>,
    /// `SECCOMP_FILTER_FLAG_*` to load it with.
    pub flags: u32,
    /// Some rule says NOTIFY: loading yields a descriptor, which belongs to the profile's `listenerPath`.
    pub needs_listener: bool,
}

/// Why a profile cannot be compiled.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// Not an action of the specification.
    #[error("seccomp profile: unknown action {action:?}")]
    UnknownAction {
        /// What the profile says.
        action: String,
    },
    /// Only ERRNO and TRACE take one.
    #[error("seccomp profile: action {action} takes no errno, but errnoRet is {errno}")]
    ErrnoNotTaken {
        /// The action.
        action: String,
        /// The errno beside it.
        errno: u32,
    },
    /// Not an operator of the specification.
    #[error("seccomp profile: unknown operator {operator:?}")]
    UnknownOperator {
        /// What the profile says.
        operator: String,
    },
    /// System calls have six arguments.
    #[error("seccomp profile: a system call has no argument {index}")]
    NoSuchArgument {
        /// What the profile says.
        index: u32,
    },
    /// Not an architecture of the specification.
    #[error("seccomp profile: unknown architecture {architecture:?}")]
    UnknownArchitecture {
        /// What the profile says.
        architecture: String,
    },
    /// Not a flag of the specification.
    #[error("seccomp flag {flag:?} is not known")]
    UnknownFlag {
        /// What the profile says.
        flag: String,
    },
    /// The kernel is too old for a flag.
    #[error("seccomp flag {flag} is not supported by this kernel (it needs {since})")]
    FlagNotSupported {
        /// The flag.
        flag: &'static str,
        /// The first kernel that has it.
        since: &'static str,
    },
    /// A rule without a name.
    #[error("empty string is not a valid syscall")]
    EmptyName,
    /// Two rules with equal conditions differ in their action.
    #[error("seccomp profile: two rules for {syscall} have the same conditions and different actions")]
    Contradiction {
        /// The system call.
        syscall: String,
    },
    /// The listener would have to answer before it is told of itself.
    #[error("SCMP_ACT_NOTIFY cannot be used as default action")]
    NotifyByDefault,
    /// As [`Self::NotifyByDefault`], for the call that hands the listener over.
    #[error("SCMP_ACT_NOTIFY cannot be used for the write syscall")]
    NotifyOnWrite,
    /// NOTIFY without anybody to ask.
    #[error("seccomp listenerPath is not set")]
    NoListener,
    /// Longer than the kernel takes.
    #[error("seccomp profile: the program has {instructions} instructions, the kernel takes {most} at most")]
    TooLong {
        /// Its length.
        instructions: usize,
        /// The kernel's bound.
        most: usize,
    },
}

/// The kernel did not take a program.
#[derive(Debug, thiserror::Error)]
#[error("load seccomp filter of {instructions} instructions")]
pub struct LoadError {
    /// Length of the program.
    pub instructions: usize,
    /// The kernel's answer; EACCES means that neither no_new_privs nor CAP_SYS_ADMIN was there.
    pub source: io::Error,
}

impl CompileError {
    /// The class of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::FlagNotSupported { .. } => Kind::Unsupported,
            Self::UnknownAction { .. }
            | Self::ErrnoNotTaken { .. }
            | Self::UnknownOperator { .. }
            | Self::NoSuchArgument { .. }
            | Self::UnknownArchitecture { .. }
            | Self::UnknownFlag { .. }
            | Self::EmptyName
            | Self::Contradiction { .. }
            | Self::NotifyByDefault
            | Self::NotifyOnWrite
            | Self::NoListener
            | Self::TooLong { .. } => Kind::Invalid,
        }
    }

    pub(crate) fn action(fault: ActionFault, action: &str, errno: Option<u32>) -> Self {
        match fault {
            ActionFault::Unknown => Self::UnknownAction { action: action.to_owned() },
            ActionFault::TakesNoErrno => {
                Self::ErrnoNotTaken { action: action.to_owned(), errno: errno.unwrap_or_default() }
            }
        }
    }

    pub(crate) fn condition(fault: ConditionFault, wire: &LinuxSeccompArg) -> Self {
        match fault {
            ConditionFault::UnknownOperator => Self::UnknownOperator { operator: wire.op.clone() },
            ConditionFault::NoSuchArgument => Self::NoSuchArgument { index: wire.index },
        }
    }
}

impl LoadError {
    /// The class of this failure.
    pub fn kind(&self) -> Kind {
        match self.source.kind() {
            io::ErrorKind::PermissionDenied => Kind::Denied,
            _ => Kind::Internal,
        }
    }
}

impl Program {
    /// Puts the calling thread under this filter, for good; returns the notify descriptor if [`Self::needs_listener`].
    ///
    /// Needs no_new_privs or CAP_SYS_ADMIN. Whatever the thread still does afterwards must be among what the filter allows.
    pub fn load(&self) -> Result<Option<OwnedFd>, LoadError> {
        kernel::install(&self.filter, self.flags)
            .map_err(|source| LoadError { instructions: self.filter.len(), source })
    }
}

/// Compiles a profile for a host.
pub fn compile(profile: &LinuxSeccomp, host: Arch, support: &KernelSupport) -> Result<Program, CompileError> {
    let default = Verdict::parse(&profile.default_action, profile.default_errno_ret)
        .map_err(|fault| CompileError::action(fault, &profile.default_action, profile.default_errno_ret))?;
    if default == Verdict::NOTIFY {
        return Err(CompileError::NotifyByDefault);
    }
    let abis = arch::select(host, &profile.architectures)
        .map_err(|unknown| CompileError::UnknownArchitecture { architecture: unknown.to_owned() })?;
    let calls = rules::decide(profile, &abis, default)?;
    let needs_listener = profile.syscalls.iter().any(|entry| entry.action == "SCMP_ACT_NOTIFY");
    if needs_listener && profile.listener_path.is_empty() {
        return Err(CompileError::NoListener);
    }
    let filter = assemble(&calls, default);
    if filter.len() > kernel::MAX_INSTRUCTIONS {
        return Err(CompileError::TooLong { instructions: filter.len(), most: kernel::MAX_INSTRUCTIONS });
    }
    Ok(Program { filter, flags: flags(profile, needs_listener, support)?, needs_listener })
}

fn flags(profile: &LinuxSeccomp, needs_listener: bool, support: &KernelSupport) -> Result<u32, CompileError> {
    let mut flags = if needs_listener { kernel::FLAG_NEW_LISTENER } else { 0 };
    let Some(names) = &profile.flags else {
        // As runc does: the mitigation of speculative store bypass would slow the container down, and it can still ask for it.
        return Ok(flags | kernel::FLAG_SPEC_ALLOW);
    };
    for name in names {
        let Some((flag, bit)) = FLAGS.iter().find(|(known, _)| known == name) else {
            return Err(CompileError::UnknownFlag { flag: name.clone() });
        };
        if *bit == kernel::FLAG_WAIT_KILLABLE_RECV && !support.wait_killable_recv {
            return Err(CompileError::FlagNotSupported { flag, since: "Linux 5.19" });
        }
        flags |= bit;
    }
    if needs_listener {
        // The kernel answers both with one number and so refuses them together. The process that loads has one thread anyway.
        flags &= !kernel::FLAG_TSYNC;
    } else {
        // Without a listener this flag has nothing to act on, and the kernel refuses it.
        flags &= !kernel::FLAG_WAIT_KILLABLE_RECV;
    }
    Ok(flags)
}

fn assemble(calls: &[Calls], default: Verdict) -> Vec<SockFilter> {
    let fallback = Fallback {
        default,
        // As runc does: programs try a new call and fall back on ENOSYS; any other answer to what is newer than the profile breaks them.
        newer: if default.is_permissive() { default } else { Verdict::ENOSYS },
        // libseccomp's "bad architecture" action.
        foreign: Verdict::KILL_THREAD,
    };
    let mut assembly = Assembly::new();
    let mut next = assembly.verdict(fallback.foreign);
    // Written backwards: the host's own ABI last, so that its test comes first.
    let groups: Vec<&[Calls]> = calls.chunk_by(|one, other| one.abi.audit() == other.abi.audit()).collect();
    for group in groups.into_iter().rev() {
        let search = tree::write(&mut assembly, group, fallback);
        next = assembly.branch(Test::Equal, group[0].abi.audit(), search, next);
    }
    assembly.load(ARCH, next);
    assembly.finish()
}
