//! Plans the process of a container or an exec: what it runs, as whom, with which rights.

use std::collections::HashSet;
use std::ffi::CString;

use carrack_oci_config::{ConsoleSize, LinuxMemoryPolicy, LinuxPersonality, Process};
use carrack_sys::task::SchedulerAttr;

use crate::plan::capability::CapabilitySets;
use crate::plan::memory_policy::{MemoryPolicy, plan_memory_policy};
use crate::plan::number_set::NumberSet;
use crate::plan::rlimit::{ResourceLimit, ResourceLimitError, plan_resource_limits};

/// A process to become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessPlan {
    /// The arguments; at least one.
    pub arguments: Vec<CString>,
    /// The environment. `HOME` is added later if it lacks that, since only the container knows it.
    pub environment: Vec<CString>,
    /// Absolute working directory.
    pub cwd: String,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups, without the group itself unless it was listed.
    pub groups: Vec<u32>,
    /// File mode creation mask.
    pub umask: u32,
    /// The five sets.
    pub capabilities: CapabilitySets,
    /// Limits of resources.
    pub limits: Vec<ResourceLimit>,
    /// Whether exec can no longer gain rights.
    pub no_new_privileges: bool,
    /// AppArmor profile; empty for none.
    pub apparmor_profile: String,
    /// SELinux label; empty for none.
    pub selinux_label: String,
    /// Badness for the killer of processes when memory is short.
    pub oom_score_adj: Option<i32>,
    /// The terminal, if it has one, with its first size.
    pub terminal: Option<TerminalPlan>,
    /// Scheduling.
    pub scheduler: Option<SchedulerAttr>,
    /// Class and level.
    pub io_priority: Option<(u8, u8)>,
    /// CPUs, if it is an exec.
    pub cpus: Option<CpuPlan>,
    /// Execution domain.
    pub personality: Option<u32>,
    /// Where its memory is.
    pub memory_policy: Option<MemoryPolicy>,
    /// What was left out or clamped.
    pub warnings: Vec<String>,
}

/// What `linux` of config.json says of every process of a container.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shared<'a> {
    /// Execution domain.
    pub personality: Option<&'a LinuxPersonality>,
    /// Where memory is.
    pub memory_policy: Option<&'a LinuxMemoryPolicy>,
}

/// A terminal to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalPlan {
    /// Rows and columns.
    pub size: Option<(u16, u16)>,
}

/// CPUs of a process that enters a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuPlan {
    /// Where it runs until it is in the container's cgroup.
    pub initial: Option<NumberSet>,
    /// Where it runs from then on; if nothing is said, the kernel decides.
    pub last: Option<NumberSet>,
}

/// Why a process is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProcessPlanError {
    /// There is nothing to run.
    #[error("process.args must not be empty")]
    NoArguments,
    /// A string cannot be handed to the kernel.
    #[error("process.{field} contains a zero byte")]
    ZeroByte {
        /// Which field.
        field: &'static str,
    },
    /// An environment entry without a name.
    #[error("invalid environment variable {entry:?}: it must be NAME=value")]
    Environment {
        /// As given, shortened.
        entry: String,
    },
    /// What the kernel takes for "as it is", so that the program would stay root.
    #[error("process.user.{field} {NOBODY_AT_ALL} is no id")]
    NoId {
        /// Which field.
        field: &'static str,
    },
    /// The working directory is not absolute.
    #[error("Cwd must be an absolute path")]
    RelativeCwd,
    /// A limit is wrong.
    #[error(transparent)]
    Limit(#[from] ResourceLimitError),
    /// The policy for memory is wrong.
    #[error("{message}")]
    MemoryPolicy {
        /// In runc's words.
        message: String,
    },
    /// A field with a value we do not know.
    #[error("invalid process.{field}: {value:?}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// As given.
        value: String,
    },
}

/// The id -1 (setresuid(2)).
const NOBODY_AT_ALL: u32 = u32::MAX;
/// What runs if nobody says.
const DEFAULT_UMASK: u32 = 0o022;
/// Where programs are looked for if the environment has no `PATH`; what Go's runtimes use.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl ProcessPlan {
    /// Plans a process; `available` are the capabilities that can be given away.
    pub fn new(process: &Process, shared: Shared<'_>, available: u64) -> Result<Self, ProcessPlanError> {
        if process.args.is_empty() {
            return Err(ProcessPlanError::NoArguments);
        }
        if !process.cwd.starts_with('/') {
            return Err(ProcessPlanError::RelativeCwd);
        }
        let user = &process.user;
        for (field, ids) in [("uid", &[user.uid][..]), ("gid", &[user.gid]), ("additionalGids", &user.additional_gids)]
        {
            if ids.contains(&NOBODY_AT_ALL) {
                return Err(ProcessPlanError::NoId { field });
            }
        }
        if process.selinux_label.contains('\0') {
            return Err(ProcessPlanError::ZeroByte { field: "selinuxLabel" });
        }
        let (capabilities, warnings) = CapabilitySets::plan(process.capabilities.as_ref(), available);
        Ok(Self {
            arguments: strings(&process.args, "args")?,
            environment: plan_environment(&process.env)?,
            cwd: process.cwd.clone(),
            uid: process.user.uid,
            gid: process.user.gid,
            groups: process.user.additional_gids.clone(),
            umask: process.user.umask.unwrap_or(DEFAULT_UMASK) & 0o777,
            capabilities,
            limits: plan_resource_limits(&process.rlimits)?,
            no_new_privileges: process.no_new_privileges,
            apparmor_profile: process.apparmor_profile.clone(),
            selinux_label: process.selinux_label.clone(),
            oom_score_adj: plan_oom(process.oom_score_adj)?,
            terminal: process.terminal.then(|| TerminalPlan { size: process.console_size.as_ref().and_then(size) }),
            scheduler: plan_scheduler(process)?,
            io_priority: plan_io_priority(process)?,
            cpus: plan_cpus(process)?,
            personality: plan_personality(shared.personality)?,
            memory_policy: shared
                .memory_policy
                .map(plan_memory_policy)
                .transpose()
                .map_err(|message| ProcessPlanError::MemoryPolicy { message })?,
            warnings,
        })
    }

    /// The value of a variable of the environment; the last one counts, as for a shell.
    pub fn variable(&self, name: &str) -> Option<&[u8]> {
        self.environment
            .iter()
            .rev()
            .find_map(|entry| entry.as_bytes().strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")))
    }
}

fn size(console: &ConsoleSize) -> Option<(u16, u16)> {
    Some((u16::try_from(console.height).ok()?, u16::try_from(console.width).ok()?))
}

fn strings(list: &[String], field: &'static str) -> Result<Vec<CString>, ProcessPlanError> {
    list.iter().map(|text| CString::new(text.as_str()).map_err(|_| ProcessPlanError::ZeroByte { field })).collect()
}

fn plan_environment(list: &[String]) -> Result<Vec<CString>, ProcessPlanError> {
    if let Some(bad) = list.iter().find(|entry| entry.find('=').is_none_or(|at| at == 0)) {
        return Err(ProcessPlanError::Environment { entry: bad.chars().take(64).collect() });
    }
    strings(&last_of_each(list), "env")
}

/// Programs differ in which of two entries of one name they see, getenv(3) takes the first: so only the last is left, at its place.
fn last_of_each(list: &[String]) -> Vec<String> {
    let name = |entry: &String| entry.split('=').next().unwrap_or_default().to_owned();
    let mut seen = HashSet::with_capacity(list.len());
    let mut kept: Vec<String> = list.iter().rev().filter(|entry| seen.insert(name(entry))).cloned().collect();
    kept.reverse();
    kept
}

fn plan_oom(score: Option<i32>) -> Result<Option<i32>, ProcessPlanError> {
    match score {
        Some(score) if !(-1000..=1000).contains(&score) => {
            Err(ProcessPlanError::Invalid { field: "oomScoreAdj", value: score.to_string() })
        }
        other => Ok(other),
    }
}

fn plan_scheduler(process: &Process) -> Result<Option<SchedulerAttr>, ProcessPlanError> {
    let Some(wanted) = &process.scheduler else { return Ok(None) };
    let number = |list: &[&str], name: &str, field| {
        list.iter()
            .position(|known| !known.is_empty() && *known == name)
            .ok_or_else(|| ProcessPlanError::Invalid { field, value: name.to_owned() })
    };
    const POLICIES: [&str; 7] =
        ["SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE"];
    const FLAGS: [&str; 7] = [
        "SCHED_FLAG_RESET_ON_FORK",
        "SCHED_FLAG_RECLAIM",
        "SCHED_FLAG_DL_OVERRUN",
        "SCHED_FLAG_KEEP_POLICY",
        "SCHED_FLAG_KEEP_PARAMS",
        "SCHED_FLAG_UTIL_CLAMP_MIN",
        "SCHED_FLAG_UTIL_CLAMP_MAX",
    ];
    let mut flags = 0;
    for name in &wanted.flags {
        flags |= 1 << number(&FLAGS, name, "scheduler.flags")?;
    }
    let invalid = |field, value: i64| Err(ProcessPlanError::Invalid { field, value: value.to_string() });
    let policy = wanted.policy.as_str();
    let (nice, priority) = (wanted.nice.unwrap_or(0), wanted.priority.unwrap_or(0));
    if matches!(policy, "SCHED_OTHER" | "SCHED_BATCH") && !(-20..=19).contains(&nice) {
        return invalid("scheduler.nice", nice.into());
    }
    if priority < 0 || priority != 0 && !matches!(policy, "SCHED_FIFO" | "SCHED_RR") {
        return invalid("scheduler.priority", priority.into());
    }
    if policy != "SCHED_DEADLINE" {
        for (field, value) in [
            ("scheduler.runtime", wanted.runtime),
            ("scheduler.deadline", wanted.deadline),
            ("scheduler.period", wanted.period),
        ] {
            if let Some(value @ 1..) = value {
                return Err(ProcessPlanError::Invalid { field, value: value.to_string() });
            }
        }
    }
    let mut attr = SchedulerAttr::default();
    attr.policy = number(&POLICIES, policy, "scheduler.policy")? as u32;
    attr.flags = flags;
    attr.nice = nice;
    attr.priority = priority.unsigned_abs();
    attr.runtime = wanted.runtime.unwrap_or(0);
    attr.deadline = wanted.deadline.unwrap_or(0);
    attr.period = wanted.period.unwrap_or(0);
    Ok(Some(attr))
}

fn plan_io_priority(process: &Process) -> Result<Option<(u8, u8)>, ProcessPlanError> {
    let Some(wanted) = &process.io_priority else { return Ok(None) };
    let class = match wanted.class.as_str() {
        "IOPRIO_CLASS_RT" => 1,
        "IOPRIO_CLASS_BE" => 2,
        "IOPRIO_CLASS_IDLE" => 3,
        other => return Err(ProcessPlanError::Invalid { field: "ioPriority.class", value: other.to_owned() }),
    };
    match wanted.priority.unwrap_or(0) {
        level @ 0..=7 => Ok(Some((class, level as u8))),
        level => Err(ProcessPlanError::Invalid { field: "ioPriority.priority", value: level.to_string() }),
    }
}

fn plan_cpus(process: &Process) -> Result<Option<CpuPlan>, ProcessPlanError> {
    let Some(wanted) = &process.exec_cpu_affinity else { return Ok(None) };
    let set = |list: &str, field| NumberSet::parse(list).map_err(|why| ProcessPlanError::Invalid { field, value: why });
    let plan = CpuPlan {
        initial: set(&wanted.initial, "execCPUAffinity.initial")?,
        last: set(&wanted.final_, "execCPUAffinity.final")?,
    };
    Ok((plan.initial.is_some() || plan.last.is_some()).then_some(plan))
}

fn plan_personality(wanted: Option<&LinuxPersonality>) -> Result<Option<u32>, ProcessPlanError> {
    match wanted.map(|wanted| (wanted.domain.as_str(), wanted.flags.is_empty())) {
        None => Ok(None),
        Some(("LINUX", true)) => Ok(Some(0)),
        Some(("LINUX32", true)) => Ok(Some(8)),
        Some((domain, _)) => Err(ProcessPlanError::Invalid { field: "personality", value: domain.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use carrack_oci_config::{CpuAffinity, LinuxIoPriority, Scheduler, User};

    fn process() -> Process {
        Process {
            args: vec!["sh".into()],
            env: vec!["PATH=/a".into(), "PATH=/b".into(), "PATHX=/c".into()],
            cwd: "/".into(),
            user: User { uid: 7, gid: 8, additional_gids: vec![9], ..User::default() },
            ..Process::default()
        }
    }

    #[test]
    fn what_is_not_said_gets_its_default() {
        let plan = ProcessPlan::new(&process(), Shared::default(), 0).unwrap();
        assert_eq!((plan.uid, plan.gid, plan.groups.as_slice(), plan.umask), (7, 8, &[9][..], 0o022));
        assert_eq!((plan.oom_score_adj, plan.terminal, plan.scheduler), (None, None, None));
    }

    #[test]
    fn the_last_value_of_a_variable_counts_and_names_are_compared_whole() {
        let plan = ProcessPlan::new(&process(), Shared::default(), 0).unwrap();
        assert_eq!(plan.variable("PATH"), Some(&b"/b"[..]));
        assert_eq!(plan.variable("PAT"), None);
        assert_eq!(plan.environment, [c"PATH=/b".to_owned(), c"PATHX=/c".to_owned()]);
    }

    #[test]
    fn wrong_processes_are_refused() {
        type Change = fn(&mut Process);
        let cases: [(Change, &str); 16] = [
            (|p| p.args.clear(), "process.args must not be empty"),
            (|p| p.args.push("a\0b".into()), "process.args contains a zero byte"),
            (|p| p.env.push("noequals".into()), "invalid environment variable \"noequals\": it must be NAME=value"),
            (|p| p.cwd = "here".into(), "Cwd must be an absolute path"),
            (|p| p.oom_score_adj = Some(1001), "invalid process.oomScoreAdj: \"1001\""),
            (|p| p.user.uid = u32::MAX, "process.user.uid 4294967295 is no id"),
            (|p| p.user.gid = u32::MAX, "process.user.gid 4294967295 is no id"),
            (|p| p.user.additional_gids = vec![1, u32::MAX], "process.user.additionalGids 4294967295 is no id"),
            (|p| p.selinux_label = "a\0b".into(), "process.selinuxLabel contains a zero byte"),
            (
                |p| p.scheduler = Some(Scheduler { policy: "SCHED_X".into(), ..Scheduler::default() }),
                "invalid process.scheduler.policy: \"SCHED_X\"",
            ),
            (
                |p| {
                    p.scheduler =
                        Some(Scheduler { policy: "SCHED_BATCH".into(), nice: Some(20), ..Scheduler::default() })
                },
                "invalid process.scheduler.nice: \"20\"",
            ),
            (
                |p| {
                    p.scheduler =
                        Some(Scheduler { policy: "SCHED_FIFO".into(), priority: Some(-5), ..Scheduler::default() })
                },
                "invalid process.scheduler.priority: \"-5\"",
            ),
            (
                |p| {
                    p.scheduler = Some(Scheduler { policy: "SCHED_RR".into(), period: Some(1), ..Scheduler::default() })
                },
                "invalid process.scheduler.period: \"1\"",
            ),
            (
                |p| p.exec_cpu_affinity = Some(CpuAffinity { initial: "3-1".into(), ..CpuAffinity::default() }),
                "invalid process.execCPUAffinity.initial: \"invalid range: 3-1\"",
            ),
            (
                |p| p.io_priority = Some(LinuxIoPriority { class: "IOPRIO_CLASS_BE".into(), priority: Some(8) }),
                "invalid process.ioPriority.priority: \"8\"",
            ),
            (|p| p.env.push("=x".into()), "invalid environment variable \"=x\": it must be NAME=value"),
        ];
        for (change, text) in cases {
            let mut process = process();
            change(&mut process);
            assert_eq!(ProcessPlan::new(&process, Shared::default(), 0).unwrap_err().to_string(), text);
        }
    }
}
