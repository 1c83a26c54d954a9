//! The profile of a container that brings none.
//!
//! As strict as the field's default (Moby's and containerd's, 2026): a list of what is allowed, everything else is EPERM. What is
//! allowed more to a container with a capability depends on its *bounding* set, since a program may regain what that holds. Not
//! allowed to anybody: io_uring (more of the kernel than any other call, and unseen by filters), AF_ALG and AF_VSOCK sockets (host
//! kernel bugs, host services), keyrings, userfaultfd, swap, module and clock calls without their capability. New namespaces by
//! `clone` need CAP_SYS_ADMIN; `clone3` hides its flags in memory, so without the capability it is ENOSYS, upon which C libraries
//! fall back to `clone`.
//!
//! On i386 `socketcall` hides the family of a socket, and programs cannot do without it: there a security module has to refuse
//! AF_ALG.
//!
//! Pure.

use carrack_oci_config::{LinuxSeccomp, LinuxSeccompArg, LinuxSyscall};

use crate::arch::Arch;

/// The running kernel, as far as a profile depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// The 5 of 5.10.
    pub major: u32,
    /// The 10 of 5.10.
    pub minor: u32,
}

#[rustfmt::skip]
const ALWAYS: &[&str] = &[
    "accept", "accept4", "access", "adjtimex", "alarm", "bind", "brk", "cachestat", "capget", "capset", "chdir",
    "chmod", "chown", "chown32", "clock_adjtime", "clock_adjtime64", "clock_getres", "clock_getres_time64",
    "clock_gettime", "clock_gettime64", "clock_nanosleep", "clock_nanosleep_time64", "close", "close_range", "connect",
    "copy_file_range", "creat", "dup", "dup2", "dup3", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old",
    "epoll_pwait", "epoll_pwait2", "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2", "execve", "execveat", "exit",
    "exit_group", "faccessat", "faccessat2", "fadvise64", "fadvise64_64", "fallocate", "fanotify_mark", "fchdir",
    "fchmod", "fchmodat", "fchmodat2", "fchown", "fchown32", "fchownat", "fcntl", "fcntl64", "fdatasync", "fgetxattr",
    "flistxattr", "flock", "fork", "fremovexattr", "fsetxattr", "fstat", "fstat64", "fstatat64", "fstatfs", "fstatfs64",
    "fsync", "ftruncate", "ftruncate64", "futex", "futex_requeue", "futex_time64", "futex_wait", "futex_waitv",
    "futex_wake", "futimesat", "getcpu", "getcwd", "getdents", "getdents64", "getegid", "getegid32", "geteuid",
    "geteuid32", "getgid", "getgid32", "getgroups", "getgroups32", "getitimer", "getpeername", "getpgid", "getpgrp",
    "getpid", "getppid", "getpriority", "getrandom", "getresgid", "getresgid32", "getresuid", "getresuid32",
    "getrlimit", "get_robust_list", "getrusage", "getsid", "getsockname", "getsockopt", "get_thread_area", "gettid",
    "gettimeofday", "getuid", "getuid32", "getxattr", "getxattrat", "inotify_add_watch", "inotify_init",
    "inotify_init1", "inotify_rm_watch", "io_cancel", "ioctl", "io_destroy", "io_getevents", "io_pgetevents",
    "io_pgetevents_time64", "ioprio_get", "ioprio_set", "io_setup", "io_submit", "ipc", "kill", "landlock_add_rule",
    "landlock_create_ruleset", "landlock_restrict_self", "lchown", "lchown32", "lgetxattr", "link", "linkat", "listen",
    "listmount", "listxattr", "listxattrat", "llistxattr", "_llseek", "lremovexattr", "lseek", "lsetxattr", "lstat",
    "lstat64", "madvise", "map_shadow_stack", "membarrier", "memfd_create", "memfd_secret", "mincore", "mkdir",
    "mkdirat", "mknod", "mknodat", "mlock", "mlock2", "mlockall", "mmap", "mmap2", "mprotect", "mq_getsetattr",
    "mq_notify", "mq_open", "mq_timedreceive", "mq_timedreceive_time64", "mq_timedsend", "mq_timedsend_time64",
    "mq_unlink", "mremap", "mseal", "msgctl", "msgget", "msgrcv", "msgsnd", "msync", "munlock", "munlockall", "munmap",
    "name_to_handle_at", "nanosleep", "newfstatat", "_newselect", "open", "openat", "openat2", "pause", "pidfd_open",
    "pidfd_send_signal", "pipe", "pipe2", "pkey_alloc", "pkey_free", "pkey_mprotect", "poll", "ppoll", "ppoll_time64",
    "prctl", "pread64", "preadv", "preadv2", "prlimit64", "process_mrelease", "pselect6", "pselect6_time64", "pwrite64",
    "pwritev", "pwritev2", "read", "readahead", "readlink", "readlinkat", "readv", "recv", "recvfrom", "recvmmsg",
    "recvmmsg_time64", "recvmsg", "remap_file_pages", "removexattr", "removexattrat", "rename", "renameat", "renameat2",
    "restart_syscall", "riscv_hwprobe", "rmdir", "rseq", "rt_sigaction", "rt_sigpending", "rt_sigprocmask",
    "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_sigtimedwait_time64",
    "rt_tgsigqueueinfo", "sched_getaffinity", "sched_getattr", "sched_getparam", "sched_get_priority_max",
    "sched_get_priority_min", "sched_getscheduler", "sched_rr_get_interval", "sched_rr_get_interval_time64",
    "sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler", "sched_yield", "seccomp", "select",
    "semctl", "semget", "semop", "semtimedop", "semtimedop_time64", "send", "sendfile", "sendfile64", "sendmmsg",
    "sendmsg", "sendto", "setfsgid", "setfsgid32", "setfsuid", "setfsuid32", "setgid", "setgid32", "setgroups",
    "setgroups32", "setitimer", "setpgid", "setpriority", "setregid", "setregid32", "setresgid", "setresgid32",
    "setresuid", "setresuid32", "setreuid", "setreuid32", "setrlimit", "set_robust_list", "setsid", "setsockopt",
    "set_thread_area", "set_tid_address", "setuid", "setuid32", "setxattr", "setxattrat", "shmat", "shmctl", "shmdt",
    "shmget", "shutdown", "sigaltstack", "signalfd", "signalfd4", "sigprocmask", "sigreturn", "socketcall",
    "socketpair", "splice", "stat", "stat64", "statfs", "statfs64", "statmount", "statx", "symlink", "symlinkat",
    "sync", "sync_file_range", "syncfs", "sysinfo", "tee", "tgkill", "time", "timer_create", "timer_delete",
    "timer_getoverrun", "timer_gettime", "timer_gettime64", "timer_settime", "timer_settime64", "timerfd_create",
    "timerfd_gettime", "timerfd_gettime64", "timerfd_settime", "timerfd_settime64", "times", "tkill", "truncate",
    "truncate64", "ugetrlimit", "umask", "uname", "unlink", "unlinkat", "uretprobe", "utime", "utimensat",
    "utimensat_time64", "utimes", "vfork", "vmsplice", "wait4", "waitid", "waitpid", "write", "writev",
];

/// Since 4.8 a traced call passes the filter again after its tracer, so that tracing is no way around it.
const TRACING: &[&str] = &["process_vm_readv", "process_vm_writev", "ptrace"];
const TRACING_IS_SAFE: KernelVersion = KernelVersion { major: 4, minor: 8 };

const ARM: &[&str] =
    &["arm_fadvise64_64", "arm_sync_file_range", "sync_file_range2", "breakpoint", "cacheflush", "set_tls"];
const X86: &[&str] = &["arch_prctl", "modify_ldt"];

/// What a capability adds.
const BY_CAPABILITY: &[(&str, &[&str])] = &[
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    (
        "CAP_SYS_ADMIN",
        &[
            "bpf",
            "clone",
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "lsm_get_self_attr",
            "lsm_list_modules",
            "lsm_set_self_attr",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "syslog",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    ("CAP_SYS_BOOT", &["reboot"]),
    ("CAP_SYS_CHROOT", &["chroot"]),
    ("CAP_SYS_MODULE", &["delete_module", "init_module", "finit_module"]),
    ("CAP_SYS_PACCT", &["acct"]),
    ("CAP_SYS_PTRACE", &["kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace"]),
    ("CAP_SYS_RAWIO", &["iopl", "ioperm"]),
    ("CAP_SYS_TIME", &["settimeofday", "stime", "clock_settime", "clock_settime64"]),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
    ("CAP_SYS_NICE", &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    ("CAP_SYSLOG", &["syslog"]),
    ("CAP_BPF", &["bpf"]),
    ("CAP_PERFMON", &["perf_event_open"]),
];

const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;

/// Execution domains that change nothing which matters to security: Linux, Linux32, each with UNAME26, and the question.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}.
const NEW_NAMESPACES: u64 = 0x7e02_0000;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// The default profile for a container whose bounding set is `capabilities` (`CAP_*` names).
pub fn default_profile(capabilities: &[impl AsRef<str>], arch: Arch, kernel: KernelVersion) -> LinuxSeccomp {
    let has = |capability: &str| capabilities.iter().any(|held| held.as_ref() == capability);
    let mut syscalls = vec![allow(ALWAYS, &[])];
    if kernel >= TRACING_IS_SAFE {
        syscalls.push(allow(TRACING, &[]));
    }
    syscalls.push(allow(&["socket"], &[condition(0, "SCMP_CMP_LT", AF_ALG, None)]));
    syscalls.push(allow(&["socket"], &[condition(0, "SCMP_CMP_EQ", AF_ALG + 1, None)]));
    syscalls.push(allow(&["socket"], &[condition(0, "SCMP_CMP_GT", AF_VSOCK, None)]));
    syscalls.extend(PERSONALITIES.map(|domain| allow(&["personality"], &[condition(0, "SCMP_CMP_EQ", domain, None)])));
    syscalls.push(match arch {
        Arch::X86_64 => allow(X86, &[]),
        Arch::Aarch64 => allow(ARM, &[]),
    });
    if !has("CAP_SYS_ADMIN") {
        syscalls.push(allow(&["clone"], &[condition(0, "SCMP_CMP_MASKED_EQ", NEW_NAMESPACES, Some(0))]));
        syscalls.push(refuse(&["clone3"], ENOSYS));
    }
    syscalls.extend(BY_CAPABILITY.iter().filter(|(capability, _)| has(capability)).map(|(_, names)| allow(names, &[])));
    LinuxSeccomp {
        default_action: "SCMP_ACT_ERRNO".to_owned(),
        default_errno_ret: Some(EPERM),
        architectures: arch.names().map(str::to_owned).collect(),
        syscalls,
        ..LinuxSeccomp::default()
    }
}

fn allow(names: &[&str], args: &[LinuxSeccompArg]) -> LinuxSyscall {
    LinuxSyscall { names: owned(names), action: "SCMP_ACT_ALLOW".to_owned(), errno_ret: None, args: args.to_vec() }
}

fn refuse(names: &[&str], errno: u32) -> LinuxSyscall {
    LinuxSyscall { names: owned(names), action: "SCMP_ACT_ERRNO".to_owned(), errno_ret: Some(errno), args: Vec::new() }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn condition(index: u32, operator: &str, value: u64, value_two: Option<u64>) -> LinuxSeccompArg {
    LinuxSeccompArg { index, value, value_two, op: operator.to_owned() }
}
