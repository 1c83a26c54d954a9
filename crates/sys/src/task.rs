//! What a process carries along besides handles and ids: keyring, I/O priority, scheduling, execution domain.

use std::ffi::CStr;
use std::io;

fn check(code: libc::c_long) -> io::Result<()> {
    if code == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A keyring's serial number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keyring(libc::c_int);

/// Makes the keyring with this name the session keyring of this process: one that it may search, else a new one (keyctl(2)).
pub fn join_session_keyring(name: &CStr) -> io::Result<Keyring> {
    const JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: keyctl(2) reads a null-terminated string, which lives for the call.
    let serial = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name.as_ptr()) };
    check(serial)?;
    // A serial number is a positive int.
    Ok(Keyring(serial as libc::c_int))
}

/// Sets who may do what with a keyring (keyctl(2), keyrings(7)): a byte each for the possessor, its user, its group and all others.
pub fn set_keyring_permissions(keyring: Keyring, permissions: u32) -> io::Result<()> {
    const SETPERM: libc::c_int = 5;
    // SAFETY: keyctl(2) takes integers for this command.
    check(unsafe { libc::syscall(libc::SYS_keyctl, SETPERM, keyring.0, permissions) })
}

/// Sets the I/O priority of this process: class 1 real time, 2 best effort, 3 idle, and a level from 0 to 7 (ioprio_set(2)).
pub fn set_io_priority(class: u8, level: u8) -> io::Result<()> {
    const WHO_PROCESS: libc::c_int = 1;
    let value = libc::c_int::from(class) << 13 | libc::c_int::from(level);
    // SAFETY: ioprio_set(2) takes integers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, value) })
}

/// Scheduling of a process (sched_setattr(2)).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SchedulerAttr {
    size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// Nice value.
    pub nice: i32,
    /// Static real-time priority.
    pub priority: u32,
    /// Deadline policy: run time in nanoseconds.
    pub runtime: u64,
    /// Deadline policy: deadline in nanoseconds.
    pub deadline: u64,
    /// Deadline policy: period in nanoseconds.
    pub period: u64,
    /// The least utilisation that is assumed; taken only with its flag (Linux 5.3, as the next one).
    pub least_utilisation: u32,
    /// The greatest.
    pub greatest_utilisation: u32,
}

/// Sets the scheduling of this process.
pub fn set_scheduler(attr: SchedulerAttr) -> io::Result<()> {
    let attr = SchedulerAttr { size: size_of::<SchedulerAttr>() as u32, ..attr };
    // SAFETY: the call reads the structure, whose first field is its size; it lives for the call.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) })
}

/// Lets this process run on these CPUs only, one bit each (sched_setaffinity(2)). `EINVAL` if none of them may be used here.
pub fn set_cpus(cpus: &[u64]) -> io::Result<()> {
    // SAFETY: the call reads the bytes of `cpus`; the kernel ignores bits of CPUs it does not have.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(cpus), cpus.as_ptr()) })
}

/// Lets this process run on every CPU that its cgroup allows (sched_setaffinity(2)).
pub fn allow_all_cpus() -> io::Result<()> {
    set_cpus(&[u64::MAX; 128])
}

/// Sets where the memory of this process is, by `MPOL_*` and nodes, one bit each (set_mempolicy(2)).
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> io::Result<()> {
    let (address, bits) = if nodes.is_empty() { (std::ptr::null(), 0) } else { (nodes.as_ptr(), nodes.len() * 64 + 1) };
    // SAFETY: the call reads one bit less than `bits`, which are those of `nodes`, or nothing.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, address, bits) })
}

/// Sets the execution domain (personality(2)).
pub fn set_personality(domain: u32) -> io::Result<()> {
    // SAFETY: personality(2) takes an integer.
    check(libc::c_long::from(unsafe { libc::personality(libc::c_ulong::from(domain)) }))
}

/// Makes this process the one that inherits orphans among its descendants, or no longer (prctl(2)).
pub fn set_child_subreaper(is_reaper: bool) -> io::Result<()> {
    // SAFETY: prctl(2) with PR_SET_CHILD_SUBREAPER takes integers.
    check(libc::c_long::from(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, libc::c_ulong::from(is_reaper)) }))
}

/// One resource limit of a process by number (prlimit(2)); `pid` 0 is this process.
pub fn set_resource_limit(pid: i32, resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: prlimit64(2) reads the structure, which lives for the call, and writes nothing as the last pointer is null.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, pid, resource, &raw const limit, std::ptr::null_mut::<libc::rlimit64>())
    })
}

/// The soft and hard value of a resource limit of a process by number (prlimit(2)); `pid` 0 is this process.
pub fn resource_limit(pid: i32, resource: u32) -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: prlimit64(2) writes the structure, which lives for the call, and reads nothing as the first pointer is null.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, pid, resource, std::ptr::null::<libc::rlimit64>(), &raw mut limit)
    })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}
