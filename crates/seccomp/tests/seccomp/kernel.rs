//! The real kernel takes the programs and does what they say. A filter holds for one thread, so each test spends one.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use carrack_oci_config::{LinuxSeccomp, LinuxSyscall};
use carrack_seccomp::{Arch, KernelSupport, KernelVersion, compile, default_profile};
use carrack_sys::rustix::io::Errno;
use carrack_sys::rustix::net::{AddressFamily, SocketType, socket};
use carrack_sys::rustix::{process, system, thread};

fn under<T: Send + 'static>(profile: LinuxSeccomp, act: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::spawn(move || {
        load(&profile);
        act()
    })
    .join()
    .expect("the filtered thread ends by itself")
}

fn load(profile: &LinuxSeccomp) -> Option<std::os::fd::OwnedFd> {
    thread::set_no_new_privs(true).expect("no_new_privs");
    let program = compile(profile, Arch::NATIVE, &KernelSupport::probe()).expect("a sound profile");
    program.load().expect("the kernel takes the program")
}

fn rule(name: &str, action: &str, errno_ret: Option<u32>) -> LinuxSyscall {
    LinuxSyscall { names: vec![name.to_owned()], action: action.to_owned(), errno_ret, args: vec![] }
}

fn allow_but(syscalls: Vec<LinuxSyscall>) -> LinuxSeccomp {
    LinuxSeccomp { default_action: "SCMP_ACT_ALLOW".to_owned(), syscalls, ..LinuxSeccomp::default() }
}

#[test]
fn an_errno_rule_answers_with_its_number() {
    let profile = allow_but(vec![rule("getsid", "SCMP_ACT_ERRNO", Some(95)), rule("getpgid", "SCMP_ACT_ERRNO", None)]);
    let (sid, pgid, ppid) =
        under(profile, || (process::getsid(None).err(), process::getpgid(None).err(), process::getppid()));
    assert_eq!((sid, pgid), (Some(Errno::OPNOTSUPP), Some(Errno::PERM)));
    assert!(ppid.is_some());
}

#[test]
fn a_program_lives_under_the_default_profile_and_meets_its_bounds() {
    let profile = default_profile(&["CAP_CHOWN"], Arch::NATIVE, KernelVersion { major: 5, minor: 10 });
    let (vsock, alg, inet, host_name, chroot, spawned) = under(profile, || {
        let family = |number| socket(AddressFamily::from_raw(number), SocketType::STREAM, None).err();
        // A C library starts a thread by clone3, hears ENOSYS, and takes clone.
        let spawned = std::thread::spawn(|| 7).join().ok();
        let host_name = system::sethostname(b"never").err();
        (family(40), family(38), family(2), host_name, process::chroot("/").err(), spawned)
    });
    assert_eq!((vsock, alg, inet), (Some(Errno::PERM), Some(Errno::PERM), None));
    assert_eq!((host_name, chroot), (Some(Errno::PERM), Some(Errno::PERM)));
    assert_eq!(spawned, Some(7));
}

#[test]
fn a_notify_rule_yields_a_descriptor() {
    let mut profile = allow_but(vec![rule("getsid", "SCMP_ACT_NOTIFY", None)]);
    profile.listener_path = "/run/agent.sock".to_owned();
    let listener = std::thread::spawn(move || load(&profile)).join().expect("the filtered thread ends by itself");
    assert!(listener.is_some());
}

#[test]
fn every_instruction_the_compiler_can_write_is_known_to_the_kernel() {
    let operators = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
    let syscalls = operators.iter().enumerate().map(|(index, operator)| {
        let mut rule = rule("vhangup", "SCMP_ACT_ERRNO", Some(index as u32));
        rule.args = serde_json::from_value(serde_json::json!([
            {"index": index % 6, "value": 0x1_0000_00ff_u64, "valueTwo": 0xf, "op": format!("SCMP_CMP_{operator}")}
        ]))
        .expect("an argument");
        rule
    });
    under(allow_but(syscalls.collect()), || ());
}

const KILLED: &str = "CARRACK_TEST_SECCOMP_KILLED";

/// The body of the process that [`a_kill_rule_ends_the_process_with_sigsys`] starts; by itself it does nothing.
#[test]
fn killed_child() {
    if std::env::var_os(KILLED).is_some() {
        load(&allow_but(vec![rule("getsid", "SCMP_ACT_KILL_PROCESS", None)]));
        let _ = process::getsid(None);
    }
}

#[test]
fn a_kill_rule_ends_the_process_with_sigsys() {
    let program = std::env::current_exe().expect("this test's program");
    let output = Command::new(program)
        .args(["--exact", "kernel::killed_child", "--test-threads=1"])
        .env(KILLED, "1")
        .output()
        .expect("start this test's program");
    assert_eq!(output.status.signal(), Some(carrack_sys::rustix::process::Signal::SYS.as_raw()), "{output:?}");
}
