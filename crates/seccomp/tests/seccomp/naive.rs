//! The meaning of a profile, said as plainly as possible and without anything of the compiler but the table of numbers.

use carrack_oci_config::{LinuxSeccomp, LinuxSeccompArg, LinuxSyscall};
use carrack_seccomp::{Abi, Arch};

use crate::interpreter::Data;

const ENOSYS: u32 = 0x0005_0026;
const KILL_THREAD: u32 = 0;
const ABIS: [Abi; 5] = [Abi::X86_64, Abi::X86, Abi::X32, Abi::Aarch64, Abi::Arm];

/// Selectors of i386's multiplexers that the tests use.
const MULTIPLEXED: &[(&str, u32, u64)] = &[
    ("socket", 102, 1),
    ("bind", 102, 2),
    ("accept", 102, 5),
    ("socketpair", 102, 8),
    ("recv", 102, 10),
    ("recvfrom", 102, 12),
    ("sendmsg", 102, 16),
    ("semop", 117, 1),
    ("semget", 117, 2),
    ("shmat", 117, 21),
    ("shmget", 117, 23),
];

pub fn evaluate(profile: &LinuxSeccomp, host: Arch, data: &Data) -> u32 {
    let default = verdict(&profile.default_action, profile.default_errno_ret);
    let Some(abi) = abi(profile, host, data) else {
        let is_skipped = data.arch == Abi::X86_64.audit() && data.number == u32::MAX;
        return if is_skipped { default } else { KILL_THREAD };
    };
    let newer = if severity(default) >= severity(verdict("SCMP_ACT_TRACE", None)) { default } else { ENOSYS };
    if is_newer(profile, abi, data.number) {
        return newer;
    }
    if let Some(always) = unconditional(profile, abi, data.number, default) {
        return always;
    }
    let mut matching = Vec::new();
    for entry in &profile.syscalls {
        let verdict = verdict(&entry.action, entry.errno_ret);
        let is_certain = entry.args.is_empty() || severity(verdict) < severity(default);
        for name in &entry.names {
            let is_direct = abi.number(name) == Some(data.number) && holds(entry, abi, data);
            let is_hidden = abi == Abi::X86 && is_certain && is_inside(name, data);
            if verdict != default && (is_direct || is_hidden) {
                matching.push(verdict);
            }
        }
    }
    matching.into_iter().min_by_key(|verdict| severity(*verdict)).unwrap_or(default)
}

fn abi(profile: &LinuxSeccomp, host: Arch, data: &Data) -> Option<Abi> {
    let native = if host == Arch::X86_64 { Abi::X86_64 } else { Abi::Aarch64 };
    let runs = |abi: Abi| match host {
        Arch::X86_64 => matches!(abi, Abi::X86_64 | Abi::X86 | Abi::X32),
        Arch::Aarch64 => matches!(abi, Abi::Aarch64 | Abi::Arm),
    };
    let is_listed = |abi: Abi| abi == native || profile.architectures.iter().any(|name| name == abi.name());
    let is_x32 = data.arch == Abi::X86_64.audit() && data.number >= 0x4000_0000;
    ABIS.into_iter()
        .filter(|abi| runs(*abi) && is_listed(*abi) && abi.audit() == data.arch)
        .find(|abi| (*abi == Abi::X32) == is_x32)
}

fn is_newer(profile: &LinuxSeccomp, abi: Abi, number: u32) -> bool {
    let all = profile.syscalls.iter().flat_map(|entry| &entry.names).filter_map(|name| abi.number(name));
    let Some(highest) = all.filter(|known| *known < 0xf_0000 || abi != Abi::Arm).max() else { return false };
    let is_private = abi == Abi::Arm && (0xf_0000..0xf_0010).contains(&number);
    number > highest && !is_private
}

fn unconditional(profile: &LinuxSeccomp, abi: Abi, number: u32, default: u32) -> Option<u32> {
    profile
        .syscalls
        .iter()
        .filter(|entry| entry.args.is_empty() && entry.names.iter().any(|name| abi.number(name) == Some(number)))
        .map(|entry| verdict(&entry.action, entry.errno_ret))
        .find(|verdict| *verdict != default)
}

fn is_inside(name: &str, data: &Data) -> bool {
    let selector = u64::from(data.arguments[0] as u32);
    MULTIPLEXED.iter().any(|(inner, number, at)| *inner == name && *number == data.number && *at == selector)
}

fn holds(entry: &LinuxSyscall, abi: Abi, data: &Data) -> bool {
    let mut results = entry.args.iter().map(|test| test_holds(test, abi, data));
    let repeats = (0..6).any(|index| entry.args.iter().filter(|test| test.index == index).count() > 1);
    if repeats { results.any(|result| result) } else { results.all(|result| result) }
}

fn test_holds(test: &LinuxSeccompArg, abi: Abi, data: &Data) -> bool {
    let width = if matches!(abi, Abi::X86_64 | Abi::Aarch64) { u64::MAX } else { 0xffff_ffff };
    let argument = data.arguments[test.index as usize] & width;
    let value = test.value & width;
    match test.op.as_str() {
        "SCMP_CMP_NE" => argument != value,
        "SCMP_CMP_LT" => argument < value,
        "SCMP_CMP_LE" => argument <= value,
        "SCMP_CMP_EQ" => argument == value,
        "SCMP_CMP_GE" => argument >= value,
        "SCMP_CMP_GT" => argument > value,
        "SCMP_CMP_MASKED_EQ" => argument & value == test.value_two.unwrap_or(0) & width,
        other => panic!("operator {other}"),
    }
}

fn verdict(action: &str, errno: Option<u32>) -> u32 {
    let number = errno.unwrap_or(1) & 0xffff;
    match action {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_ERRNO" => 0x0005_0000 + number,
        "SCMP_ACT_NOTIFY" => 0x7fc0_0000,
        "SCMP_ACT_TRACE" => 0x7ff0_0000 + number,
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        "SCMP_ACT_ALLOW" => 0x7fff_0000,
        other => panic!("action {other}"),
    }
}

/// Smaller is more severe.
fn severity(verdict: u32) -> u32 {
    match verdict >> 16 {
        0x8000 => 0,
        0x0000 => 1,
        other => 1 + other,
    }
}
