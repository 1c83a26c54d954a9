//! Differences that every caller meets and that are meant; `docs/conformance/runc.md` tells people why.

use crate::compare::Accepted;

/// A signal that the caller ignores: glibc's `posix_spawn` leaves its internal signal 32 so.
pub const IGNORED_SIGNAL: Accepted =
    Accepted { at: "*/status", runc: "SigIgn:\t0000000080000004", ours: "SigIgn:\t0000000000000004" };

/// A masked directory is covered by one tmpfs for all.
pub const MASK: Accepted = Accepted {
    at: "*/mountinfo",
    runc: "* / ro,relatime - tmpfs tmpfs ro*",
    ours: "* / ro,nosuid,nodev,noexec,relatime - tmpfs tmpfs ro,size=4k,nr_inodes=1*",
};

/// The directory of the hierarchies is read-only where that was asked for.
pub const CGROUP_TMPFS: Accepted = Accepted {
    at: "*/mountinfo",
    runc: "/sys/fs/cgroup / rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw,mode=755*",
    ours: "/sys/fs/cgroup / ro,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw,mode=755*",
};

/// So that root in the container cannot make files there.
pub const CGROUP_TMPFS_WRITTEN: Accepted =
    Accepted { at: "*/writes", runc: "", ours: "sh: can't create /sys/fs/cgroup/x: Read-only file system" };

/// And another user hears why.
pub const CGROUP_TMPFS_DENIED: Accepted = Accepted {
    at: "*/writes",
    runc: "sh: can't create /sys/fs/cgroup/x: Permission denied",
    ours: "sh: can't create /sys/fs/cgroup/x: Read-only file system",
};

/// On a hybrid host nothing is done in the unified hierarchy unless a setting needs it.
pub const UNIFIED_INSIDE: Accepted = Accepted { at: "*/cgroup", runc: "0::/*", ours: "0::/" };

/// The same, from outside.
pub const UNIFIED_OUTSIDE: Accepted = Accepted { at: "*", runc: "unified *", ours: "" };

/// runc 1.1 lets every container open /dev/net/tun; 1.2 does not.
pub const TUN: Accepted = Accepted { at: "*", runc: "devices devices.list: c 10:200 rwm", ours: "" };

/// What a mount of the named hierarchy says it is mounted from.
pub const NAMED_HIERARCHY: Accepted = Accepted {
    at: "*/mountinfo",
    runc: "/sys/fs/cgroup/systemd / *,relatime - cgroup systemd rw,name=systemd",
    ours: "/sys/fs/cgroup/systemd / *,relatime - cgroup cgroup rw,name=systemd",
};

/// A sysctl that does not exist: the name and the value are told.
pub const SYSCTL: Accepted = Accepted {
    at: "*/bad-sysctl/*",
    runc: "*: open /proc/sys/net/no/such: no such file or directory*",
    ours: "*: write sysctl net/no/such = \"1\": no such file or directory*",
};

/// A limit that may not be raised: it is told by its name.
pub const LIMIT: Accepted = Accepted {
    at: "*/hard-limit/*",
    runc: "*: error setting rlimits for ready process: error setting rlimit type 7: operation not permitted*",
    ours: "*: error setting rlimit type 7 (RLIMIT_NOFILE): operation not permitted*",
};

/// The container's path is told, not the host's.
pub const PROC: Accepted = Accepted {
    at: "*/mount-*-proc/*",
    runc: "*error mounting \"/etc\" to rootfs at \"/proc*\": \"*/merged/proc*\" cannot be mounted because it is *",
    ours: "*error mounting \"/etc\" to rootfs at \"/proc*\": \"/proc*\" cannot be mounted because it is *",
};

/// Differences that are there only now and then, with every caller.
pub const RACES: &[Accepted] = &[
    // Go raises its own soft limit and puts it back when it executes a program; runc 1.1 sets the limits of an exec while that goes on.
    Accepted {
        at: "exec/*/limits",
        runc: "Max open files            20000                20000                files     ",
        ours: "Max open files            1024                 20000                files     ",
    },
    // Docker's client, when a container cannot be started: it may or may not have begun to wait for its end.
    Accepted { at: "*/error", runc: DOCKER_WAITS, ours: "" },
    Accepted { at: "*/error", runc: "", ours: DOCKER_WAITS },
];

const DOCKER_WAITS: &str = "*error waiting for container: context canceled*";
