//! `process` of config.json, and the file that `exec --process` takes.

wire! {
    /// The process to run.
    pub struct Process {
        req {
            /// Ids to run as; root if absent, as with existing runtimes, though the specification wants it.
            #[serde(default, deserialize_with = "crate::wire::null_is_default")]
            user: User,
            /// Absolute working directory in the container.
            cwd: String,
        }
        opt {
            /// Gives the process a terminal.
            terminal: bool,
            /// First size of the terminal.
            console_size: Option<ConsoleSize>,
            /// The arguments; the first is searched in `PATH`.
            args: Vec<String>,
            /// Carried; for Windows only.
            command_line: String,
            /// The whole environment, `NAME=value`.
            env: Vec<String>,
            /// The five capability sets; absent means none.
            capabilities: Option<LinuxCapabilities>,
            /// Resource limits, each name at most once.
            rlimits: Vec<PosixRlimit>,
            /// Sets `no_new_privs`.
            no_new_privileges: bool,
            /// AppArmor profile on exec.
            apparmor_profile: String,
            /// `oom_score_adj`; untouched if absent.
            oom_score_adj: Option<i32>,
            /// Scheduling policy.
            scheduler: Option<Scheduler>,
            /// SELinux label on exec.
            selinux_label: String,
            /// I/O class and level.
            io_priority: Option<LinuxIoPriority>,
            /// CPUs of processes started by `exec`.
            #[serde(rename = "execCPUAffinity")]
            exec_cpu_affinity: Option<CpuAffinity>,
        }
    }

    /// Size of a terminal.
    pub struct ConsoleSize {
        req {
            /// Rows.
            height: u32,
            /// Columns.
            width: u32,
        }
    }

    /// Ids inside the container.
    pub struct User {
        req {
            /// User id; 0 if absent.
            #[serde(default, deserialize_with = "crate::wire::null_is_default")]
            uid: u32,
            /// Group id; 0 if absent.
            #[serde(default, deserialize_with = "crate::wire::null_is_default")]
            gid: u32,
        }
        opt {
            /// File mode creation mask; inherited if absent.
            umask: Option<u32>,
            /// Supplementary groups.
            additional_gids: Vec<u32>,
            /// Carried; for Windows only.
            username: String,
        }
    }

    /// Capability sets, by names such as `CAP_CHOWN`.
    pub struct LinuxCapabilities {
        opt {
            /// The bounding set.
            bounding: Vec<String>,
            /// The effective set.
            effective: Vec<String>,
            /// The inheritable set.
            inheritable: Vec<String>,
            /// The permitted set.
            permitted: Vec<String>,
            /// The ambient set.
            ambient: Vec<String>,
        }
    }

    /// One resource limit.
    pub struct PosixRlimit {
        req {
            /// Name, such as `RLIMIT_NOFILE`.
            #[serde(rename = "type")]
            kind: String,
            /// The ceiling.
            hard: u64,
            /// The enforced value.
            soft: u64,
        }
    }

    /// Scheduling policy (sched_setattr(2)).
    pub struct Scheduler {
        req {
            /// Name, such as `SCHED_BATCH`.
            policy: String,
        }
        opt {
            /// Nice value.
            nice: Option<i32>,
            /// Static real-time priority.
            priority: Option<i32>,
            /// Names, such as `SCHED_FLAG_RESET_ON_FORK`.
            flags: Vec<String>,
            /// Deadline policy: run time in nanoseconds.
            runtime: Option<u64>,
            /// Deadline policy: absolute deadline in nanoseconds.
            deadline: Option<u64>,
            /// Deadline policy: period in nanoseconds.
            period: Option<u64>,
        }
    }

    /// I/O priority (ioprio_set(2)).
    pub struct LinuxIoPriority {
        req {
            /// Name, such as `IOPRIO_CLASS_BE`.
            class: String,
        }
        opt {
            /// 0 is highest, 7 lowest; absent is 0.
            priority: Option<i32>,
        }
    }

    /// CPUs of processes started by `exec`.
    pub struct CpuAffinity {
        opt {
            /// List of CPUs before the cgroup is entered.
            initial: String,
            /// List of CPUs afterwards; the kernel decides if empty.
            #[serde(rename = "final")]
            final_: String,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_a_user_is_roots() {
        for text in [r#"{"cwd":"/"}"#, r#"{"cwd":"/","user":null}"#, r#"{"cwd":"/","user":{}}"#] {
            let process: Process = serde_json::from_str(text).unwrap();
            assert_eq!((process.user.uid, process.user.gid), (0, 0), "{text}");
            assert_eq!(serde_json::to_string(&process).unwrap(), r#"{"user":{"uid":0,"gid":0},"cwd":"/"}"#);
        }
    }
}
