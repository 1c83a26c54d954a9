//! bpf(2), as far as programs of type CGROUP_DEVICE need it: load, attach to a cgroup, replace, find, detach.
//!
//! Attribute structs are the leading members of `union bpf_attr` in `<linux/bpf.h>`; the kernel takes the rest as zero.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// One instruction of extended BPF, `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BpfInstruction {
    /// Operation.
    pub code: u8,
    /// Destination register in the low half, source register in the high half.
    pub registers: u8,
    /// Jump or memory offset.
    pub offset: i16,
    /// Operand.
    pub immediate: i32,
}

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;

const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 1 << 1;
const REPLACE: u32 = 1 << 2;

#[repr(C)]
struct LoadAttribute {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
struct AttachAttribute {
    target_fd: u32,
    program_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replaced_fd: u32,
}

#[repr(C)]
struct QueryAttribute {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    program_ids: u64,
    program_count: u32,
    padding: u32,
}

#[repr(C)]
struct ByIdAttribute {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// Loads a program of type CGROUP_DEVICE. A program that the verifier refuses is an error which carries the verifier's last words.
pub fn load_device_program(instructions: &[BpfInstruction]) -> io::Result<OwnedFd> {
    match load(instructions, &mut []) {
        Err(refused) if matches!(refused.raw_os_error(), Some(libc::EINVAL | libc::EACCES)) => {
            let mut log = vec![0_u8; 64 * 1024];
            load(instructions, &mut log).map_err(|again| {
                let text = String::from_utf8_lossy(log.split(|byte| *byte == 0).next().unwrap_or_default());
                io::Error::new(again.kind(), format!("{again}: {}", text.trim_end()))
            })
        }
        other => other,
    }
}

fn load(instructions: &[BpfInstruction], log: &mut [u8]) -> io::Result<OwnedFd> {
    let mut name = [0_u8; 16];
    name[..15].copy_from_slice(b"carrack_devices");
    let attribute = LoadAttribute {
        kind: TYPE_CGROUP_DEVICE,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: log.len() as u32,
        log: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
        kernel_version: 0,
        flags: 0,
        name,
    };
    // SAFETY: the pointers in `attribute` lead to `instructions`, a static C string and `log`, whose lengths stand beside them.
    let raw = unsafe { call(PROG_LOAD, &attribute) }?;
    // SAFETY: the kernel returned this descriptor (close-on-exec) on the line above, so this is its only owner.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Attaches a device program to a cgroup of version 2, beside those already there, or in place of `replaced` in one step.
pub fn attach_device_program(
    group: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let attribute = AttachAttribute {
        target_fd: group.as_raw_fd() as u32,
        program_fd: program.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        attach_flags: ALLOW_MULTI | if replaced.is_some() { REPLACE } else { 0 },
        replaced_fd: replaced.map_or(0, |fd| fd.as_raw_fd() as u32),
    };
    // SAFETY: `attribute` holds descriptors and flags only, no pointer.
    unsafe { call(PROG_ATTACH, &attribute) }.map(drop)
}

/// Takes a device program off a cgroup.
pub fn detach_device_program(group: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let attribute = AttachAttribute {
        target_fd: group.as_raw_fd() as u32,
        program_fd: program.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        attach_flags: 0,
        replaced_fd: 0,
    };
    // SAFETY: `attribute` holds descriptors and flags only, no pointer.
    unsafe { call(PROG_DETACH, &attribute) }.map(drop)
}

/// The device programs attached to this very cgroup, oldest first.
pub fn attached_device_programs(group: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    // The kernel lets 64 programs be attached to one group, so one call sees them all.
    let mut ids = [0_u32; 64];
    let mut attribute = QueryAttribute {
        target_fd: group.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        program_ids: ids.as_mut_ptr() as u64,
        program_count: ids.len() as u32,
        padding: 0,
    };
    // SAFETY: `program_ids` leads to `program_count` numbers that the kernel may write; both live through the call, and the
    // kernel writes the count back into `attribute`, which is borrowed exclusively.
    unsafe { call_mut(PROG_QUERY, &mut attribute) }?;
    ids[..attribute.program_count as usize].iter().map(|id| program_by_id(*id)).collect()
}

fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    let attribute = ByIdAttribute { id, next_id: 0, open_flags: 0 };
    // SAFETY: `attribute` holds numbers only, no pointer.
    let raw = unsafe { call(PROG_GET_FD_BY_ID, &attribute) }?;
    // SAFETY: the kernel returned this descriptor (close-on-exec) on the line above, so this is its only owner.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// # Safety
/// Each pointer in `attribute` must lead to memory that this command may read or write for the length of the call.
unsafe fn call<T>(command: libc::c_int, attribute: &T) -> io::Result<i32> {
    // SAFETY: the caller vouches for what `attribute` points to; its own size is given, and these commands only read it.
    answer(unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attribute, size_of::<T>()) })
}

/// # Safety
/// As [`call`]; for commands that write into `attribute`.
unsafe fn call_mut<T>(command: libc::c_int, attribute: &mut T) -> io::Result<i32> {
    // SAFETY: the caller vouches for what `attribute` points to; its own size is given and it is borrowed exclusively.
    answer(unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attribute, size_of::<T>()) })
}

fn answer(raw: libc::c_long) -> io::Result<i32> {
    if raw < 0 { Err(io::Error::last_os_error()) } else { Ok(raw as i32) }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn structs_have_the_kernels_layout() {
        assert_eq!(size_of::<BpfInstruction>(), 8);
        assert_eq!(offset_of!(BpfInstruction, immediate), 4);
        assert_eq!(offset_of!(LoadAttribute, license), 16);
        assert_eq!(offset_of!(LoadAttribute, log), 32);
        assert_eq!(offset_of!(LoadAttribute, name), 48);
        assert_eq!(offset_of!(AttachAttribute, replaced_fd), 16);
        assert_eq!(offset_of!(QueryAttribute, program_ids), 16);
        assert_eq!(offset_of!(QueryAttribute, program_count), 24);
    }

    #[test]
    fn root_the_verifier_takes_a_program_and_tells_why_it_refuses_one() {
        let ret = BpfInstruction { code: 0x95, registers: 0, offset: 0, immediate: 0 };
        let allow = BpfInstruction { code: 0xb7, registers: 0, offset: 0, immediate: 1 };
        load_device_program(&[allow, ret]).expect("a program that allows everything");
        let refused = load_device_program(&[ret]).expect_err("a program that returns an unset register");
        assert!(refused.to_string().contains("R0 !read_ok"), "{refused}");
    }
}
