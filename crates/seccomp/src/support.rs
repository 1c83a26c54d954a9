//! What the kernel and this compiler offer.

use carrack_sys::seccomp as kernel;

use crate::{action, arch, condition};

/// What the kernel offers above the floor of 5.10, which has every action and every flag but one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelSupport {
    /// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV` (Linux 5.19).
    pub wait_killable_recv: bool,
}

impl KernelSupport {
    /// A kernel that has all there is.
    pub const FULL: Self = Self { wait_killable_recv: true };

    /// Asks the kernel: one system call.
    pub fn probe() -> Self {
        let flags = kernel::FLAG_NEW_LISTENER | kernel::FLAG_WAIT_KILLABLE_RECV;
        Self { wait_killable_recv: kernel::are_flags_available(flags) }
    }
}

/// Flags by name. SPEC_ALLOW is also what an absent list means.
pub(crate) const FLAGS: &[(&str, u32)] = &[
    ("SECCOMP_FILTER_FLAG_TSYNC", kernel::FLAG_TSYNC),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", kernel::FLAG_SPEC_ALLOW),
    ("SECCOMP_FILTER_FLAG_LOG", kernel::FLAG_LOG),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", kernel::FLAG_WAIT_KILLABLE_RECV),
];

/// Actions that [`crate::compile`] knows, for `features`.
pub fn known_actions() -> impl Iterator<Item = &'static str> {
    action::NAMES.iter().copied()
}

/// Operators that [`crate::compile`] knows, for `features`.
pub fn known_operators() -> impl Iterator<Item = &'static str> {
    condition::OPERATORS.iter().map(|(name, _)| *name)
}

/// Architectures that [`crate::compile`] accepts, for `features`.
pub fn known_architectures() -> impl Iterator<Item = &'static str> {
    arch::names()
}

/// Flags that [`crate::compile`] knows, for `features`.
pub fn known_flags() -> impl Iterator<Item = &'static str> {
    FLAGS.iter().map(|(name, _)| *name)
}
