//! What a profile must not say, and the words in which it is told.

use carrack_oci_config::{LinuxSeccomp, LinuxSeccompArg, LinuxSyscall};
use carrack_seccomp::{Arch, CompileError, KernelSupport, compile};

fn rule(name: &str, action: &str) -> LinuxSyscall {
    LinuxSyscall { names: vec![name.to_owned()], action: action.to_owned(), ..LinuxSyscall::default() }
}

fn profile(default: &str, syscalls: Vec<LinuxSyscall>) -> LinuxSeccomp {
    LinuxSeccomp { default_action: default.to_owned(), syscalls, ..LinuxSeccomp::default() }
}

fn refusal(profile: &LinuxSeccomp) -> String {
    let old = KernelSupport { wait_killable_recv: false };
    compile(profile, Arch::X86_64, &old).expect_err("a faulty profile").to_string()
}

fn test(index: u32, op: &str) -> LinuxSeccompArg {
    LinuxSeccompArg { index, value: 0, value_two: None, op: op.to_owned() }
}

#[test]
fn each_fault_is_named() {
    let with_args = |args: Vec<LinuxSeccompArg>| LinuxSyscall { args, ..rule("kill", "SCMP_ACT_ERRNO") };
    let with_flags =
        |flag: &str| LinuxSeccomp { flags: Some(vec![flag.to_owned()]), ..profile("SCMP_ACT_ALLOW", vec![]) };
    let cases = [
        (profile("SCMP_ACT_PANIC", vec![]), "seccomp profile: unknown action \"SCMP_ACT_PANIC\""),
        (profile("SCMP_ACT_NOTIFY", vec![]), "SCMP_ACT_NOTIFY cannot be used as default action"),
        (
            LinuxSeccomp { default_errno_ret: Some(5), ..profile("SCMP_ACT_ALLOW", vec![]) },
            "seccomp profile: action SCMP_ACT_ALLOW takes no errno, but errnoRet is 5",
        ),
        (
            LinuxSeccomp { architectures: vec!["SCMP_ARCH_VAX".to_owned()], ..profile("SCMP_ACT_ALLOW", vec![]) },
            "seccomp profile: unknown architecture \"SCMP_ARCH_VAX\"",
        ),
        (with_flags("SECCOMP_FILTER_FLAG_FAST"), "seccomp flag \"SECCOMP_FILTER_FLAG_FAST\" is not known"),
        (
            with_flags("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"),
            "seccomp flag SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV is not supported by this kernel (it needs Linux 5.19)",
        ),
        (profile("SCMP_ACT_ALLOW", vec![rule("", "SCMP_ACT_ERRNO")]), "empty string is not a valid syscall"),
        (
            profile("SCMP_ACT_ALLOW", vec![rule("write", "SCMP_ACT_NOTIFY")]),
            "SCMP_ACT_NOTIFY cannot be used for the write syscall",
        ),
        (profile("SCMP_ACT_ALLOW", vec![rule("kill", "SCMP_ACT_NOTIFY")]), "seccomp listenerPath is not set"),
        (
            profile("SCMP_ACT_ALLOW", vec![with_args(vec![test(6, "SCMP_CMP_EQ")])]),
            "seccomp profile: a system call has no argument 6",
        ),
        (
            profile("SCMP_ACT_ALLOW", vec![with_args(vec![test(0, "SCMP_CMP_LIKE")])]),
            "seccomp profile: unknown operator \"SCMP_CMP_LIKE\"",
        ),
        (
            profile(
                "SCMP_ACT_ALLOW",
                vec![
                    with_args(vec![test(0, "SCMP_CMP_EQ")]),
                    LinuxSyscall { args: vec![test(0, "SCMP_CMP_EQ")], ..rule("kill", "SCMP_ACT_LOG") },
                ],
            ),
            "seccomp profile: two rules for kill have the same conditions and different actions",
        ),
    ];
    for (profile, want) in cases {
        assert_eq!(refusal(&profile), want);
    }
}

#[test]
fn a_program_longer_than_the_kernel_takes_is_refused_with_its_length() {
    let rules = (0..3000).map(|value| LinuxSyscall {
        args: vec![LinuxSeccompArg { index: 0, value: value * 2, value_two: None, op: "SCMP_CMP_EQ".to_owned() }],
        ..rule("kill", "SCMP_ACT_ERRNO")
    });
    let fault = compile(&profile("SCMP_ACT_ALLOW", rules.collect()), Arch::X86_64, &KernelSupport::FULL);
    match fault {
        Err(CompileError::TooLong { instructions, most }) => {
            assert!(instructions > 9000 && most == 4096, "{instructions}")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn flags_follow_the_profile_and_an_absent_list_means_spec_allow() {
    let flags = |flags: Option<&[&str]>, rules: Vec<LinuxSyscall>| {
        let flags = flags.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        let profile =
            LinuxSeccomp { flags, listener_path: "/run/agent".to_owned(), ..profile("SCMP_ACT_ALLOW", rules) };
        compile(&profile, Arch::X86_64, &KernelSupport::FULL).expect("a sound profile").flags
    };
    let notify = || vec![rule("kill", "SCMP_ACT_NOTIFY")];
    const TSYNC: &str = "SECCOMP_FILTER_FLAG_TSYNC";
    const LOG: &str = "SECCOMP_FILTER_FLAG_LOG";
    const WAIT: &str = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV";
    assert_eq!(flags(None, vec![]), 4);
    assert_eq!(flags(Some(&[]), vec![]), 0);
    assert_eq!(flags(Some(&[TSYNC, LOG]), vec![]), 3);
    assert_eq!(flags(Some(&[TSYNC, LOG, WAIT]), notify()), 2 | 8 | 32);
    assert_eq!(flags(Some(&[WAIT]), vec![]), 0);
    assert_eq!(flags(None, notify()), 4 | 8);
}
