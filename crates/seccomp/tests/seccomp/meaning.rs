//! A compiled program gives, for every number and many arguments, the verdict that its profile means.

use carrack_oci_config::{LinuxSeccomp, LinuxSeccompArg, LinuxSyscall};
use carrack_seccomp::{Abi, Arch, CompileError, KernelSupport, KernelVersion, compile, default_profile};
use proptest::prelude::*;

use crate::interpreter::{self, Data};
use crate::naive;

const ABIS: [Abi; 5] = [Abi::X86_64, Abi::X86, Abi::X32, Abi::Aarch64, Abi::Arm];
const HOSTS: [Arch; 2] = [Arch::X86_64, Arch::Aarch64];
const KERNEL: KernelVersion = KernelVersion { major: 6, minor: 1 };
const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;

/// Every number that means something, those around them, and those where the kernel's own marks begin.
fn numbers() -> Vec<u32> {
    let mut numbers: Vec<u32> = (0..600).chain(0x4000_0000..0x4000_0000 + 600).chain(0xe_fff0..0xf_0020).collect();
    numbers.extend([0x3fff_ffff, 0x7fff_ffff, 0x8000_0000, 0xc000_0000, u32::MAX - 1, u32::MAX]);
    numbers
}

/// Where arguments matter.
fn conditional_numbers(profile: &LinuxSeccomp) -> Vec<u32> {
    let names = profile.syscalls.iter().filter(|entry| !entry.args.is_empty()).flat_map(|entry| &entry.names);
    names.flat_map(|name| ABIS.into_iter().filter_map(|abi| abi.number(name))).collect()
}

/// For each audit architecture of a host, and one that no host has.
fn audits(host: Arch) -> Vec<u32> {
    let mut audits: Vec<u32> = host.abis().iter().map(|abi| abi.audit()).collect();
    audits.push(0x1234_5678);
    audits.dedup();
    audits
}

/// Values at and next to those that a profile compares with, and the same with other high halves.
fn interesting(profile: &LinuxSeccomp) -> Vec<u64> {
    let tests = profile.syscalls.iter().flat_map(|entry| &entry.args);
    let mut values = vec![0, 1, u64::MAX];
    for test in tests {
        for value in [test.value, test.value_two.unwrap_or(0)] {
            values.extend([
                value,
                value.wrapping_sub(1),
                value.wrapping_add(1),
                value ^ (1 << 32),
                value & 0xffff_ffff,
            ]);
        }
    }
    values.sort_unstable();
    values.dedup();
    values
}

fn assert_meaning(profile: &LinuxSeccomp, host: Arch, numbers: &[u32], arguments: &[[u64; 6]]) {
    let program = compile(profile, host, &KernelSupport::FULL).expect("a sound profile");
    interpreter::check(&program.filter);
    for arch in audits(host) {
        for number in numbers {
            for arguments in arguments {
                let data = Data { number: *number, arch, arguments: *arguments };
                let got = interpreter::run(&program.filter, &data).verdict;
                let want = naive::evaluate(profile, host, &data);
                assert_eq!(got, want, "got {got:#x}, want {want:#x} for {data:x?} in {profile:#?}");
            }
        }
    }
}

fn same_in_all(values: &[u64]) -> Vec<[u64; 6]> {
    values.iter().map(|value| [*value; 6]).collect()
}

#[test]
fn the_default_profile_means_what_it_says_for_every_number() {
    for host in HOSTS {
        for capabilities in [&[][..], &["CAP_SYS_ADMIN"], &["CAP_CHOWN", "CAP_SYS_PTRACE", "CAP_SYS_CHROOT", "CAP_BPF"]]
        {
            let profile = default_profile(capabilities, host, KERNEL);
            assert_meaning(&profile, host, &numbers(), &same_in_all(&[0, u64::MAX]));
            assert_meaning(&profile, host, &conditional_numbers(&profile), &same_in_all(&interesting(&profile)));
        }
    }
}

fn verdict_of(profile: &LinuxSeccomp, host: Arch, abi: Abi, name: &str, arguments: [u64; 6]) -> u32 {
    let program = compile(profile, host, &KernelSupport::FULL).expect("a sound profile");
    let number = abi.number(name).unwrap_or_else(|| panic!("{name} on {abi:?}"));
    interpreter::run(&program.filter, &Data { number, arch: abi.audit(), arguments }).verdict
}

fn first(value: u64) -> [u64; 6] {
    [value, 0, 0, 0, 0, 0]
}

#[test]
fn the_default_profile_refuses_what_the_field_refuses() {
    let profile = default_profile(&["CAP_CHOWN"], Arch::X86_64, KERNEL);
    let verdict = |name, arguments| verdict_of(&profile, Arch::X86_64, Abi::X86_64, name, arguments);
    for name in [
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "keyctl",
        "add_key",
        "request_key",
        "userfaultfd",
        "bpf",
        "mount",
        "umount2",
        "unshare",
        "setns",
        "pivot_root",
        "reboot",
        "kexec_load",
        "init_module",
        "perf_event_open",
        "open_by_handle_at",
        "swapon",
        "settimeofday",
        "chroot",
        "move_pages",
        "quotactl",
        "iopl",
        "acct",
        "syslog",
    ] {
        assert_eq!(verdict(name, [0; 6]), EPERM, "{name}");
    }
    for name in ["read", "openat", "execve", "ptrace", "seccomp", "landlock_create_ruleset", "clock_gettime", "prctl"] {
        assert_eq!(verdict(name, [0; 6]), ALLOW, "{name}");
    }
    for (family, want) in
        [(1, ALLOW), (2, ALLOW), (10, ALLOW), (16, ALLOW), (38, EPERM), (39, ALLOW), (40, EPERM), (41, ALLOW)]
    {
        assert_eq!(verdict("socket", first(family)), want, "socket family {family}");
    }
    for (domain, want) in
        [(0, ALLOW), (8, ALLOW), (0x20000, ALLOW), (0x20008, ALLOW), (0xffff_ffff, ALLOW), (0x40000, EPERM)]
    {
        assert_eq!(verdict("personality", first(domain)), want, "personality {domain:#x}");
    }
    assert_eq!(verdict("clone", first(0x003d_0f00)), ALLOW, "a thread");
    for bit in [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000] {
        assert_eq!(verdict("clone", first(0x11 | bit)), EPERM, "clone {bit:#x}");
    }
    assert_eq!(verdict("clone3", [0; 6]), ENOSYS);
}

#[test]
fn capabilities_widen_the_default_profile() {
    let admin = default_profile(&["CAP_SYS_ADMIN"], Arch::X86_64, KERNEL);
    for name in ["clone3", "mount", "unshare", "setns", "bpf"] {
        assert_eq!(verdict_of(&admin, Arch::X86_64, Abi::X86_64, name, [0; 6]), ALLOW, "{name}");
    }
    assert_eq!(verdict_of(&admin, Arch::X86_64, Abi::X86_64, "clone", first(0x1000_0000)), ALLOW);
    assert_eq!(verdict_of(&admin, Arch::X86_64, Abi::X86_64, "io_uring_setup", [0; 6]), EPERM);
    let time = default_profile(&["CAP_SYS_TIME", "CAP_SYS_NICE"], Arch::Aarch64, KERNEL);
    for name in ["clock_settime", "mbind"] {
        assert_eq!(verdict_of(&time, Arch::Aarch64, Abi::Aarch64, name, [0; 6]), ALLOW, "{name}");
    }
    assert_eq!(verdict_of(&time, Arch::Aarch64, Abi::Arm, "set_tls", [0; 6]), ALLOW);
}

fn rule(names: &[&str], action: &str, errno: Option<u32>, args: Vec<LinuxSeccompArg>) -> LinuxSyscall {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    LinuxSyscall { names, action: action.to_owned(), errno_ret: errno, args }
}

fn test(index: u32, op: &str, value: u64) -> LinuxSeccompArg {
    LinuxSeccompArg { index, value, op: op.to_owned(), value_two: None }
}

fn profile(default_action: &str, syscalls: Vec<LinuxSyscall>) -> LinuxSeccomp {
    LinuxSeccomp { default_action: default_action.to_owned(), syscalls, ..LinuxSeccomp::default() }
}

#[test]
fn a_rule_without_conditions_wins_over_conditional_ones_wherever_it_stands() {
    let narrow = || rule(&["kill"], "SCMP_ACT_ERRNO", Some(5), vec![test(1, "SCMP_CMP_EQ", 9)]);
    let wide = || rule(&["kill"], "SCMP_ACT_ERRNO", Some(6), vec![]);
    for order in [vec![narrow(), wide()], vec![wide(), narrow()]] {
        let profile = profile("SCMP_ACT_ALLOW", order);
        assert_eq!(verdict_of(&profile, Arch::X86_64, Abi::X86_64, "kill", [9; 6]), 0x0005_0006);
    }
}

#[test]
fn of_two_rules_without_conditions_the_first_stays_and_one_like_the_default_never_counts() {
    let like_default = rule(&["kill"], "SCMP_ACT_ALLOW", None, vec![]);
    let first_rule = rule(&["kill"], "SCMP_ACT_ERRNO", Some(6), vec![]);
    let second = rule(&["kill"], "SCMP_ACT_KILL_PROCESS", None, vec![]);
    let profile = profile("SCMP_ACT_ALLOW", vec![like_default, first_rule, second]);
    assert_eq!(verdict_of(&profile, Arch::X86_64, Abi::X86_64, "kill", [0; 6]), 0x0005_0006);
}

#[test]
fn conditions_on_different_arguments_must_all_hold_and_on_one_argument_any() {
    let both = vec![test(0, "SCMP_CMP_EQ", 1), test(1, "SCMP_CMP_EQ", 2)];
    let either = vec![test(0, "SCMP_CMP_EQ", 1), test(0, "SCMP_CMP_EQ", 2)];
    let profile = profile(
        "SCMP_ACT_ALLOW",
        vec![rule(&["kill"], "SCMP_ACT_ERRNO", None, both), rule(&["dup2"], "SCMP_ACT_ERRNO", None, either)],
    );
    let verdict = |name, arguments| verdict_of(&profile, Arch::X86_64, Abi::X86_64, name, arguments);
    assert_eq!(verdict("kill", [1, 2, 0, 0, 0, 0]), EPERM);
    assert_eq!(verdict("kill", [1, 3, 0, 0, 0, 0]), ALLOW);
    assert_eq!(verdict("dup2", first(2)), EPERM);
    assert_eq!(verdict("dup2", first(3)), ALLOW);
}

#[test]
fn the_most_severe_of_several_matching_rules_wins() {
    let profile = profile(
        "SCMP_ACT_ALLOW",
        vec![
            rule(&["kill"], "SCMP_ACT_LOG", None, vec![test(0, "SCMP_CMP_GT", 0)]),
            rule(&["kill"], "SCMP_ACT_KILL_PROCESS", None, vec![test(0, "SCMP_CMP_GT", 10)]),
            rule(&["kill"], "SCMP_ACT_ERRNO", None, vec![test(0, "SCMP_CMP_GT", 5)]),
        ],
    );
    for (value, want) in [(0, ALLOW), (3, 0x7ffc_0000), (7, EPERM), (11, 0x8000_0000)] {
        assert_eq!(verdict_of(&profile, Arch::X86_64, Abi::X86_64, "kill", first(value)), want, "{value}");
    }
}

#[test]
fn a_call_newer_than_the_profile_is_enosys_unless_the_default_lets_it_pass() {
    let rules = || vec![rule(&["read"], "SCMP_ACT_LOG", None, vec![])];
    for (default, want) in [
        ("SCMP_ACT_ERRNO", ENOSYS),
        ("SCMP_ACT_KILL_PROCESS", ENOSYS),
        ("SCMP_ACT_ALLOW", ALLOW),
        ("SCMP_ACT_TRACE", 0x7ff0_0001),
    ] {
        let profile = profile(default, rules());
        assert_eq!(verdict_of(&profile, Arch::X86_64, Abi::X86_64, "write", [0; 6]), want, "{default}");
    }
}

#[test]
fn calls_of_an_abi_that_is_not_listed_kill() {
    let profile = profile("SCMP_ACT_ALLOW", vec![]);
    assert_eq!(verdict_of(&profile, Arch::X86_64, Abi::X32, "read", [0; 6]), 0);
    assert_eq!(verdict_of(&profile, Arch::X86_64, Abi::X86, "read", [0; 6]), 0);
    assert_eq!(verdict_of(&profile, Arch::Aarch64, Abi::Arm, "read", [0; 6]), 0);
}

/// Podman's profile guards the audit netlink socket with overlapping conditions on two arguments.
#[test]
fn podmans_audit_socket_rules_keep_their_meaning() {
    let errno =
        rule(&["socket"], "SCMP_ACT_ERRNO", Some(22), vec![test(0, "SCMP_CMP_EQ", 16), test(2, "SCMP_CMP_EQ", 9)]);
    let other_protocol = || rule(&["socket"], "SCMP_ACT_ALLOW", None, vec![test(2, "SCMP_CMP_NE", 9)]);
    let other_family = rule(&["socket"], "SCMP_ACT_ALLOW", None, vec![test(0, "SCMP_CMP_NE", 16)]);
    let mut profile = profile("SCMP_ACT_ERRNO", vec![errno, other_protocol(), other_family, other_protocol()]);
    profile.default_errno_ret = Some(38);
    let verdict =
        |family, protocol| verdict_of(&profile, Arch::X86_64, Abi::X86_64, "socket", [family, 0, protocol, 0, 0, 0]);
    assert_eq!([verdict(16, 9), verdict(16, 0), verdict(2, 9), verdict(2, 0)], [0x0005_0016, ALLOW, ALLOW, ALLOW]);
}

const NAMES: &[&str] = &[
    "read",
    "write",
    "socket",
    "bind",
    "accept",
    "recv",
    "semop",
    "shmat",
    "socketcall",
    "ipc",
    "clone",
    "set_tls",
    "cacheflush",
    "readv",
    "statmount",
    "no_such_call",
    "personality",
    "mseal",
];
const ACTIONS: &[&str] = &[
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_LOG",
    "SCMP_ACT_ALLOW",
];
const OPERATORS: &[&str] =
    &["SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"];
const VALUES: &[u64] = &[0, 1, 5, 0xff, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, 0x7fff_ffff_ffff_ffff, u64::MAX];
const LISTED: &[&str] = &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_ARM", "SCMP_ARCH_PPC64"];

fn any_argument() -> impl Strategy<Value = LinuxSeccompArg> {
    let values = prop::sample::select(VALUES);
    (0_u32..3, values.clone(), prop::option::of(values), prop::sample::select(OPERATORS))
        .prop_map(|(index, value, value_two, op)| LinuxSeccompArg { index, value, value_two, op: op.to_owned() })
}

fn any_action() -> impl Strategy<Value = (String, Option<u32>)> {
    (prop::sample::select(ACTIONS), prop::option::of(0_u32..3)).prop_map(|(action, errno)| {
        let takes_errno = matches!(action, "SCMP_ACT_ERRNO" | "SCMP_ACT_TRACE");
        (action.to_owned(), errno.filter(|_| takes_errno))
    })
}

fn any_rule() -> impl Strategy<Value = LinuxSyscall> {
    let names = prop::collection::vec(prop::sample::select(NAMES).prop_map(str::to_owned), 1..4);
    (names, any_action(), prop::collection::vec(any_argument(), 0..4))
        .prop_map(|(names, (action, errno_ret), args)| LinuxSyscall { names, action, errno_ret, args })
}

fn any_profile() -> impl Strategy<Value = LinuxSeccomp> {
    let architectures = prop::sample::subsequence(LISTED, 0..LISTED.len());
    (any_action(), architectures, prop::collection::vec(any_rule(), 0..12)).prop_map(
        |((default_action, default_errno_ret), architectures, syscalls)| LinuxSeccomp {
            default_action,
            default_errno_ret,
            architectures: architectures.into_iter().map(str::to_owned).collect(),
            syscalls,
            ..LinuxSeccomp::default()
        },
    )
}

/// The numbers of all names in play and their neighbours.
fn numbers_in_play() -> Vec<u32> {
    let known = NAMES.iter().flat_map(|name| ABIS.into_iter().filter_map(|abi| abi.number(name)));
    let mut numbers: Vec<u32> = known.flat_map(|number| [number.wrapping_sub(1), number, number + 1]).collect();
    numbers.extend([0, 0x3fff_ffff, 0x4000_0000, 0xf_0000, 0xf_000f, 0xf_0010, u32::MAX]);
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_profile_means_what_it_says(profile in any_profile(), seeds in prop::collection::vec(any::<[u8; 6]>(), 12)) {
        for host in HOSTS {
            match compile(&profile, host, &KernelSupport::FULL) {
                Ok(_) => {}
                Err(CompileError::Contradiction { .. }) => return Ok(()),
                Err(other) => panic!("{other}"),
            }
            let values = interesting(&profile);
            let mut arguments = same_in_all(&[0, 1, 5, u64::MAX]);
            arguments.extend(seeds.iter().map(|seed| seed.map(|pick| values[usize::from(pick) % values.len()])));
            assert_meaning(&profile, host, &numbers_in_play(), &arguments);
        }
    }
}
