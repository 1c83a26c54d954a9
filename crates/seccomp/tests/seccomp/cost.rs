//! What the default profile costs: instructions for each call, and the size that the kernel has to take in at each start.

use carrack_seccomp::{Abi, Arch, KernelSupport, KernelVersion, compile, default_profile};

use crate::interpreter::{self, Data};

fn steps(name: &str) -> usize {
    let profile = default_profile(&["CAP_CHOWN", "CAP_SYS_CHROOT"], Arch::X86_64, KernelVersion { major: 6, minor: 1 });
    let program = compile(&profile, Arch::X86_64, &KernelSupport::FULL).expect("the default profile");
    let number = Abi::X86_64.number(name).expect("a call of x86_64");
    interpreter::run(&program.filter, &Data { number, arch: Abi::X86_64.audit(), arguments: [1; 6] }).steps
}

/// The binary tree of libseccomp 2.5.4 takes 11 to 16 for these, and 15.6 on average over all calls.
#[test]
fn frequent_calls_take_ten_instructions_at_most() {
    for name in
        ["read", "write", "futex", "epoll_wait", "sendto", "recvfrom", "close", "openat", "clock_gettime", "mmap"]
    {
        assert!(steps(name) <= 10, "{name} takes {}", steps(name));
    }
}

#[test]
fn no_call_takes_more_than_sixteen_instructions_but_those_with_conditions() {
    let profile = default_profile(&["CAP_CHOWN"], Arch::X86_64, KernelVersion { major: 6, minor: 1 });
    let program = compile(&profile, Arch::X86_64, &KernelSupport::FULL).expect("the default profile");
    let conditional = ["socket", "personality", "clone"].map(|name| Abi::X86_64.number(name));
    for number in (0..500).filter(|number| !conditional.contains(&Some(*number))) {
        let data = Data { number, arch: Abi::X86_64.audit(), arguments: [1; 6] };
        let steps = interpreter::run(&program.filter, &data).steps;
        assert!(steps <= 16, "call {number} takes {steps}");
    }
}

/// libseccomp 2.5.4 writes 1,246 for the same profile and the three ABIs of x86_64.
#[test]
fn the_default_program_is_short() {
    for host in [Arch::X86_64, Arch::Aarch64] {
        let profile = default_profile(&["CAP_CHOWN"], host, KernelVersion { major: 6, minor: 1 });
        let program = compile(&profile, host, &KernelSupport::FULL).expect("the default profile");
        assert!(program.filter.len() < 450, "{host:?}: {} instructions", program.filter.len());
    }
}
