//! seccomp(2): installing a filter, and asking what the kernel offers.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// One instruction of classic BPF, `struct sock_filter` of `<linux/filter.h>`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SockFilter {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when a test holds.
    pub jt: u8,
    /// Instructions to skip when a test fails.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// The kernel refuses longer programs (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// `SECCOMP_FILTER_FLAG_TSYNC`: the filter reaches all threads of the process.
pub const FLAG_TSYNC: u32 = 1 << 0;
/// `SECCOMP_FILTER_FLAG_LOG`: actions other than ALLOW are logged.
pub const FLAG_LOG: u32 = 1 << 1;
/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`: no mitigation of speculative store bypass is switched on.
pub const FLAG_SPEC_ALLOW: u32 = 1 << 2;
/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`: a notify descriptor is wanted.
pub const FLAG_NEW_LISTENER: u32 = 1 << 3;
/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`: only fatal signals interrupt a call that the listener has taken (Linux 5.19).
pub const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

const SET_MODE_FILTER: libc::c_uint = 1;
const GET_ACTION_AVAIL: libc::c_uint = 2;

/// `struct sock_fprog` of `<linux/filter.h>`.
#[repr(C)]
struct SockFprog {
    len: libc::c_ushort,
    filter: *const SockFilter,
}

/// Puts the calling thread under a filter, for good; returns the notify descriptor if [`FLAG_NEW_LISTENER`] is among the flags.
///
/// Needs no_new_privs or CAP_SYS_ADMIN. A program which is empty or too long is EINVAL, as it is to the kernel.
pub fn install(filter: &[SockFilter], flags: u32) -> io::Result<Option<OwnedFd>> {
    if filter.is_empty() || filter.len() > MAX_INSTRUCTIONS {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let program = SockFprog { len: filter.len() as libc::c_ushort, filter: filter.as_ptr() };
    // SAFETY: `program` points to `filter.len()` instructions which outlive the call; the kernel copies them and keeps no pointer.
    let raw = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, &raw const program) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    if flags & FLAG_NEW_LISTENER == 0 {
        // With TSYNC alone, a positive answer is the thread that could not be brought along.
        return if raw == 0 { Ok(None) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) };
    }
    // SAFETY: with NEW_LISTENER a non-negative answer is a new descriptor (close-on-exec), and this is its only owner.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(raw as i32) }))
}

/// Whether the kernel knows an action (`SECCOMP_RET_*`, Linux 4.14).
pub fn is_action_available(action: u32) -> bool {
    // SAFETY: the kernel reads four bytes from `action`, which lives through the call.
    unsafe { libc::syscall(libc::SYS_seccomp, GET_ACTION_AVAIL, 0, &raw const action) == 0 }
}

/// Whether the kernel knows all of these filter flags.
pub fn are_flags_available(flags: u32) -> bool {
    // SAFETY: a null program installs nothing: the kernel checks the flags first (EINVAL), then fails to read it (EFAULT).
    let raw = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, std::ptr::null::<SockFprog>()) };
    raw < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structs_have_the_kernels_layout() {
        assert_eq!(size_of::<SockFilter>(), 8);
        assert_eq!(std::mem::offset_of!(SockFilter, k), 4);
        assert_eq!(size_of::<SockFprog>(), size_of::<libc::sock_fprog>());
        assert_eq!(std::mem::offset_of!(SockFprog, filter), std::mem::offset_of!(libc::sock_fprog, filter));
    }

    #[test]
    fn the_kernel_knows_old_flags_and_not_invented_ones() {
        assert!(are_flags_available(FLAG_LOG | FLAG_SPEC_ALLOW));
        assert!(!are_flags_available(1 << 30));
        assert!(is_action_available(0x7fff_0000));
        assert!(!is_action_available(0x1234_0000));
    }

    #[test]
    fn an_empty_program_is_refused() {
        assert_eq!(install(&[], 0).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
