//! What making or changing a group takes, as a list that can be printed, compared and tested.

use std::borrow::Cow;
use std::fmt;

use carrack_oci_config::LinuxResources;
use carrack_sys::bpf::BpfInstruction;

use crate::device::DeviceList;
use crate::error::PlanError;
use crate::group::Group;
use crate::host::{Facts, Hierarchy, Version};
use crate::path::GroupPath;
use crate::setting;

/// Everything there is to do for one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// One for each hierarchy that takes part.
    pub members: Vec<MemberPlan>,
}

/// What there is to do in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberPlan {
    /// Its place among the host's hierarchies.
    pub hierarchy: usize,
    /// The group's path in it, without a slash in front.
    pub group: String,
    /// Where it is mounted, for printing.
    pub mount_point: String,
    /// Controllers to be handed down to the group (version 2). Those that settings need come first.
    pub controllers: Vec<Cow<'static, str>>,
    /// How many of them settings need; the others only count what the group uses, and may fail.
    pub needed_controllers: usize,
    /// In this order.
    pub steps: Vec<Step>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Write a value to a file of the group.
    Write(Choice),
    /// As [`Self::Write`], and nothing where the kernel lacks the file: the value is what then holds anyway.
    WriteIfPresent(Choice),
    /// Write to the first of these files that the kernel has.
    WriteFirst(Vec<Choice>),
    /// Values that limit each other, and those that are there: written in turn, one that does not fit yet again after the others.
    WriteTogether(Vec<Choice>),
    /// Version 2: a new period beside the present quota.
    CpuPeriod {
        /// Microseconds.
        period_usec: u64,
    },
    /// Refuse a limit that is below what the group holds.
    CheckUsage {
        /// The file that says what it holds.
        file: &'static str,
        /// The limit to come.
        limit_bytes: i64,
    },
    /// Version 1: the limits of memory, and of memory and swap together, in the order that the present ones allow.
    MemoryAndSwap {
        /// -1 means none.
        limit_bytes: i64,
        /// -1 means none.
        swap_bytes: i64,
    },
    /// Version 1: what a new cpuset lacks it takes from its parent, for until then it takes no process.
    InheritCpuset {
        /// Files that other steps write. Their values must be among the parent's, so that has to have some.
        except: Vec<Cow<'static, str>>,
    },
    /// Version 1: devices.
    DeviceList(DeviceList),
    /// Version 2: devices.
    DeviceProgram(Vec<BpfInstruction>),
}

/// A file of the group and what to write to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The file's name.
    pub file: Cow<'static, str>,
    /// The value.
    pub value: String,
}

impl Choice {
    pub(crate) fn new(file: impl Into<Cow<'static, str>>, value: impl ToString) -> Self {
        Self { file: file.into(), value: value.to_string() }
    }
}

impl Step {
    /// The files that it writes, but for those of devices.
    pub(crate) fn files(&self) -> Vec<&str> {
        match self {
            Self::Write(choice) | Self::WriteIfPresent(choice) => vec![&choice.file],
            Self::WriteFirst(choices) | Self::WriteTogether(choices) => {
                choices.iter().map(|choice| choice.file.as_ref()).collect()
            }
            Self::CpuPeriod { .. } => vec!["cpu.max"],
            Self::MemoryAndSwap { .. } => vec!["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"],
            Self::CheckUsage { .. } | Self::InheritCpuset { .. } | Self::DeviceList(_) | Self::DeviceProgram(_) => {
                vec![]
            }
        }
    }

    pub(crate) fn write(file: impl Into<Cow<'static, str>>, value: impl ToString) -> Self {
        Self::Write(Choice::new(file, value))
    }
}

/// Plans a group: every hierarchy of version 1 (or the one of version 2), then the settings into the hierarchies of their controllers.
pub(crate) fn plan(facts: &Facts, path: &GroupPath, resources: Option<&LinuxResources>) -> Result<Plan, PlanError> {
    let mut members: Vec<MemberPlan> = facts
        .hierarchies
        .iter()
        .enumerate()
        .map(|(index, hierarchy)| member(index, hierarchy, hierarchy.resolve(path)))
        .collect();
    if let Some(resources) = resources {
        setting::plan(facts, resources, &mut members)?;
    }
    if let Some((cpuset, hierarchy)) = facts.with_controller("cpuset")
        && hierarchy.version == Version::V1
    {
        members[cpuset].inherit_cpuset();
    }
    if let Some((unified, hierarchy)) = facts.version_two() {
        let is_alone = facts.hierarchies.len() == 1;
        if is_alone {
            members[unified].count_use(&hierarchy.controllers);
        } else if members[unified].steps.is_empty() {
            // On a hybrid host the processes are held by version 1; nothing asks for a group in version 2.
            members.remove(unified);
        }
    }
    Ok(Plan { members })
}

/// Plans a change of a group that exists.
pub(crate) fn plan_change(group: &Group, resources: &LinuxResources) -> Result<Plan, PlanError> {
    let facts = group.host.facts();
    let name =
        |index: usize| group.members.iter().find(|member| member.hierarchy == index).map(|member| member.group.clone());
    let hierarchies = facts.hierarchies.iter().enumerate();
    let mut members = hierarchies
        .map(|(index, hierarchy)| member(index, hierarchy, name(index).unwrap_or_default()))
        .collect::<Vec<_>>();
    setting::plan(facts, resources, &mut members)?;
    Ok(Plan { members })
}

fn member(index: usize, hierarchy: &Hierarchy, group: String) -> MemberPlan {
    MemberPlan {
        hierarchy: index,
        group,
        mount_point: hierarchy.mount_point.display().to_string(),
        controllers: Vec::new(),
        needed_controllers: 0,
        steps: Vec::new(),
    }
}

/// Controllers that count what a group uses, which people and the kubelet want to see without a limit too.
const COUNTING: [&str; 4] = ["cpu", "memory", "pids", "io"];

impl MemberPlan {
    pub(crate) fn need(&mut self, controller: &str) {
        if !self.controllers.iter().any(|known| known == controller) {
            self.controllers.push(Cow::Owned(controller.to_owned()));
        }
        self.needed_controllers = self.controllers.len();
    }

    fn inherit_cpuset(&mut self) {
        let written = |step: &Step| match step {
            Step::Write(choice) if choice.file.starts_with("cpuset.") => Some(choice.file.clone()),
            _ => None,
        };
        let except = self.steps.iter().filter_map(written).collect();
        self.steps.insert(0, Step::InheritCpuset { except });
    }

    fn count_use(&mut self, offered: &[String]) {
        let wanted = COUNTING.into_iter().filter(|controller| offered.iter().any(|known| known == controller));
        for controller in wanted {
            if !self.controllers.iter().any(|known| known == controller) {
                self.controllers.push(Cow::Borrowed(controller));
            }
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.members.iter().try_for_each(|member| member.fmt(out))
    }
}

impl fmt::Display for MemberPlan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.mount_point, self.group)?;
        if !self.controllers.is_empty() {
            write!(out, " [{}]", self.controllers.join(" "))?;
        }
        writeln!(out)?;
        self.steps.iter().try_for_each(|step| writeln!(out, "  {step}"))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(choice) => choice.fmt(out),
            Self::WriteIfPresent(choice) => write!(out, "{choice} (if present)"),
            Self::WriteFirst(choices) => write!(out, "{}", join(choices, " or ")),
            Self::WriteTogether(choices) => write!(out, "{}", join(choices, " and ")),
            Self::CpuPeriod { period_usec } => write!(out, "cpu.max <- (present quota) {period_usec}"),
            Self::CheckUsage { file, limit_bytes } => write!(out, "check {file} <= {limit_bytes}"),
            Self::MemoryAndSwap { limit_bytes, swap_bytes } => {
                write!(out, "memory.limit_in_bytes <- {limit_bytes} and memory.memsw.limit_in_bytes <- {swap_bytes}")
            }
            Self::InheritCpuset { .. } => write!(out, "cpuset.cpus, cpuset.mems <- (parent's, where empty)"),
            Self::DeviceList(list) => write!(out, "{list}"),
            Self::DeviceProgram(program) => write!(out, "device program of {} instructions", program.len()),
        }
    }
}

fn join(choices: &[Choice], word: &str) -> String {
    choices.iter().map(ToString::to_string).collect::<Vec<_>>().join(word)
}

impl fmt::Display for Choice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} <- {}", self.file, self.value)
    }
}

#[cfg(test)]
mod tests {
    use carrack_oci_config::{
        LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxHugepageLimit, LinuxMemory, LinuxNetwork, LinuxPids, LinuxRdma,
        LinuxThrottleDevice, LinuxWeightDevice,
    };

    use super::*;

    fn hierarchy(version: Version, controllers: &[&str], mount_point: &str) -> Hierarchy {
        Hierarchy {
            version,
            controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
            mount_point: mount_point.into(),
            mount_root: "/".to_owned(),
            own: "/".to_owned(),
        }
    }

    fn v1() -> Facts {
        let names = ["cpu", "cpuset", "memory", "devices", "freezer", "blkio", "pids"];
        Facts {
            hierarchies: names.iter().map(|name| hierarchy(Version::V1, &[name], &format!("/v1/{name}"))).collect(),
        }
    }

    fn hybrid() -> Facts {
        let mut facts = v1();
        facts.hierarchies.push(hierarchy(Version::V2, &["hugetlb"], "/v2"));
        facts
    }

    fn v2() -> Facts {
        let all = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"];
        Facts { hierarchies: vec![hierarchy(Version::V2, &all, "/v2")] }
    }

    fn planned(facts: &Facts, resources: &LinuxResources) -> Result<Plan, PlanError> {
        plan(facts, &GroupPath::parse("/a/b").expect("a path"), Some(resources))
    }

    /// The steps of all members as text.
    fn steps(facts: &Facts, resources: &LinuxResources) -> Vec<String> {
        let plan = planned(facts, resources).expect("sound resources");
        plan.members.iter().flat_map(|member| member.steps.iter().map(ToString::to_string)).collect()
    }

    /// As [`steps`], without what every group of version 1 gets.
    fn settings(facts: &Facts, resources: &LinuxResources) -> Vec<String> {
        let mut steps = steps(facts, resources);
        steps.retain(|step| !step.contains("parent's"));
        steps
    }

    fn refusal(facts: &Facts, resources: &LinuxResources) -> String {
        planned(facts, resources).expect_err("faulty resources").to_string()
    }

    fn memory(memory: LinuxMemory) -> LinuxResources {
        LinuxResources { memory: Some(memory), ..LinuxResources::default() }
    }

    fn cpu(cpu: LinuxCpu) -> LinuxResources {
        LinuxResources { cpu: Some(cpu), ..LinuxResources::default() }
    }

    #[test]
    fn a_group_without_settings_is_only_made() {
        let path = GroupPath::parse("/a/b").expect("a path");
        let plan_v1 = plan(&hybrid(), &path, None).expect("a plan");
        assert_eq!(
            plan_v1.to_string(),
            "/v1/cpu/a/b\n/v1/cpuset/a/b\n  cpuset.cpus, cpuset.mems <- (parent's, where empty)\n/v1/memory/a/b\n/v1/devices/a/b\n\
             /v1/freezer/a/b\n/v1/blkio/a/b\n/v1/pids/a/b\n"
        );
        let plan_v2 = plan(&v2(), &path, None).expect("a plan");
        assert_eq!(plan_v2.to_string(), "/v2/a/b [cpu memory pids io]\n");
        assert_eq!(plan_v2.members[0].needed_controllers, 0);
    }

    #[test]
    fn memory_limits() {
        let limits = |limit, swap, reservation| LinuxMemory { limit, swap, reservation, ..LinuxMemory::default() };
        let cases: &[(LinuxMemory, &[&str], &[&str])] = &[
            (limits(Some(100), None, None), &["memory.limit_in_bytes <- 100"], &["memory.max <- 100"]),
            (
                limits(Some(100), Some(150), Some(50)),
                &[
                    "memory.limit_in_bytes <- 100 and memory.memsw.limit_in_bytes <- 150",
                    "memory.soft_limit_in_bytes <- 50",
                ],
                &["memory.swap.max <- 50", "memory.max <- 100", "memory.low <- 50"],
            ),
            (
                limits(Some(100), Some(100), None),
                &["memory.limit_in_bytes <- 100 and memory.memsw.limit_in_bytes <- 100"],
                &["memory.swap.max <- 0 (if present)", "memory.max <- 100"],
            ),
            (
                limits(Some(-1), None, None),
                &["memory.memsw.limit_in_bytes <- -1 (if present)", "memory.limit_in_bytes <- -1"],
                &["memory.swap.max <- max (if present)", "memory.max <- max"],
            ),
            (
                limits(Some(100), Some(-1), Some(-1)),
                &[
                    "memory.limit_in_bytes <- 100 and memory.memsw.limit_in_bytes <- -1",
                    "memory.soft_limit_in_bytes <- -1",
                ],
                &["memory.swap.max <- max (if present)", "memory.max <- 100", "memory.low <- max"],
            ),
            (limits(Some(0), Some(0), Some(0)), &[], &[]),
            (
                LinuxMemory {
                    check_before_update: Some(true),
                    kernel: Some(7),
                    kernel_tcp: Some(7),
                    ..limits(Some(100), None, None)
                },
                &["check memory.usage_in_bytes <= 100", "memory.limit_in_bytes <- 100"],
                &["check memory.current <= 100", "memory.max <- 100"],
            ),
        ];
        for (limits, want_v1, want_v2) in cases {
            assert_eq!(settings(&v1(), &memory(limits.clone())), *want_v1, "{limits:?}");
            assert_eq!(settings(&v2(), &memory(limits.clone())), *want_v2, "{limits:?}");
        }
        let only_v1 = LinuxMemory {
            swappiness: Some(10),
            disable_oom_killer: Some(true),
            use_hierarchy: Some(true),
            ..LinuxMemory::default()
        };
        assert_eq!(
            settings(&v1(), &memory(only_v1)),
            ["memory.oom_control <- 1", "memory.swappiness <- 10", "memory.use_hierarchy <- 1"]
        );
    }

    #[test]
    fn memory_limits_that_make_no_sense_are_refused() {
        let limits = |limit, swap| memory(LinuxMemory { limit, swap, ..LinuxMemory::default() });
        for facts in [v1(), v2()] {
            assert_eq!(
                refusal(&facts, &limits(Some(100), Some(50))),
                "linux.resources.memory.swap: 50 is less than the memory limit, which it includes"
            );
            assert_eq!(
                refusal(&facts, &limits(Some(-2), None)),
                "linux.resources.memory.limit: -2 is neither a size nor -1"
            );
        }
        assert_eq!(
            refusal(&v2(), &limits(None, Some(50))),
            "linux.resources.memory.swap: 50 needs a memory limit beside it"
        );
        let swappiness = |value| memory(LinuxMemory { swappiness: Some(value), ..LinuxMemory::default() });
        assert_eq!(refusal(&v1(), &swappiness(101)), "linux.resources.memory.swappiness: 101 is more than 100");
        assert_eq!(refusal(&v2(), &swappiness(1)), "linux.resources.memory.swappiness is not supported on cgroup v2");
        let no_killer = memory(LinuxMemory { disable_oom_killer: Some(true), ..LinuxMemory::default() });
        assert_eq!(refusal(&v2(), &no_killer), "linux.resources.memory.disableOOMKiller is not supported on cgroup v2");
    }

    #[test]
    fn cpu_limits() {
        let cases: &[(LinuxCpu, &[&str], &[&str])] = &[
            (
                LinuxCpu { shares: Some(1024), quota: Some(50_000), period: Some(100_000), ..LinuxCpu::default() },
                &["cpu.shares <- 1024", "cpu.cfs_period_us <- 100000 and cpu.cfs_quota_us <- 50000"],
                &["cpu.weight <- 100", "cpu.max <- 50000 100000"],
            ),
            (LinuxCpu { quota: Some(-1), ..LinuxCpu::default() }, &["cpu.cfs_quota_us <- -1"], &["cpu.max <- max"]),
            (
                LinuxCpu { period: Some(5000), ..LinuxCpu::default() },
                &["cpu.cfs_period_us <- 5000"],
                &["cpu.max <- (present quota) 5000"],
            ),
            (
                LinuxCpu { quota: Some(20_000), burst: Some(10_000), idle: Some(1), ..LinuxCpu::default() },
                &["cpu.cfs_burst_us <- 10000 and cpu.cfs_quota_us <- 20000", "cpu.idle <- 1"],
                &["cpu.idle <- 1", "cpu.max.burst <- 10000 and cpu.max <- 20000"],
            ),
            (LinuxCpu { shares: Some(0), quota: Some(0), period: Some(0), ..LinuxCpu::default() }, &[], &[]),
            (
                LinuxCpu { cpus: "0-1".to_owned(), mems: "0".to_owned(), ..LinuxCpu::default() },
                &["cpuset.cpus <- 0-1", "cpuset.mems <- 0"],
                &["cpuset.cpus <- 0-1", "cpuset.mems <- 0"],
            ),
        ];
        for (limits, want_v1, want_v2) in cases {
            assert_eq!(settings(&v1(), &cpu(limits.clone())), *want_v1, "{limits:?}");
            assert_eq!(settings(&v2(), &cpu(limits.clone())), *want_v2, "{limits:?}");
        }
        let realtime =
            LinuxCpu { realtime_period: Some(1_000_000), realtime_runtime: Some(900_000), ..LinuxCpu::default() };
        assert_eq!(
            settings(&v1(), &cpu(realtime.clone())),
            ["cpu.rt_period_us <- 1000000 and cpu.rt_runtime_us <- 900000"]
        );
        assert_eq!(
            refusal(&v2(), &cpu(realtime)),
            "linux.resources.cpu.realtimeRuntime and realtimePeriod is not supported on cgroup v2"
        );
    }

    #[test]
    fn task_limits_and_0_counts_the_first_process() {
        for (limit, want) in [(100, "pids.max <- 100"), (-1, "pids.max <- max"), (0, "pids.max <- 1")] {
            let resources =
                LinuxResources { pids: Some(LinuxPids { limit: Some(limit) }), ..LinuxResources::default() };
            assert_eq!(settings(&v1(), &resources), [want]);
            assert_eq!(settings(&v2(), &resources), [want]);
        }
    }

    #[test]
    fn block_io_limits() {
        let throttle = |rate| vec![LinuxThrottleDevice { major: 8, minor: 0, rate }];
        let resources = LinuxResources {
            block_io: Some(LinuxBlockIo {
                weight: Some(500),
                weight_device: vec![LinuxWeightDevice { major: 8, minor: 16, weight: Some(10), leaf_weight: None }],
                throttle_read_bps_device: throttle(1000),
                throttle_write_iops_device: throttle(0),
                ..LinuxBlockIo::default()
            }),
            ..LinuxResources::default()
        };
        let want_v1 = [
            "blkio.weight <- 500 or blkio.bfq.weight <- 500",
            "blkio.weight_device <- 8:16 10 or blkio.bfq.weight_device <- 8:16 10",
            "blkio.throttle.read_bps_device <- 8:0 1000",
            "blkio.throttle.write_iops_device <- 8:0 0",
        ];
        let want_v2 = [
            "io.bfq.weight <- 500 or io.weight <- 4950",
            "io.bfq.weight <- 8:16 10 or io.weight <- 8:16 1",
            "io.max <- 8:0 rbps=1000",
            "io.max <- 8:0 wiops=max",
        ];
        assert_eq!(settings(&v1(), &resources), want_v1);
        assert_eq!(settings(&v2(), &resources), want_v2);
    }

    fn hugepages(page_size: &str, limit: u64) -> LinuxResources {
        let limits = vec![LinuxHugepageLimit { page_size: page_size.to_owned(), limit }];
        LinuxResources { hugepage_limits: limits, ..LinuxResources::default() }
    }

    #[test]
    fn huge_page_limits_of_zero_are_dropped_where_there_are_none() {
        assert!(settings(&v1(), &hugepages("2MB", 0)).is_empty());
        assert_eq!(
            refusal(&v1(), &hugepages("2MB", 4096)),
            "linux.resources.hugepageLimits: this host has no hugetlb cgroup controller"
        );
        assert_eq!(
            settings(&v2(), &hugepages("2MB", 4096)),
            ["hugetlb.2MB.max <- 4096", "hugetlb.2MB.rsvd.max <- 4096 (if present)"]
        );
        assert_eq!(
            settings(&v2(), &hugepages("1GB", 0)),
            ["hugetlb.1GB.max <- 0 (if present)", "hugetlb.1GB.rsvd.max <- 0 (if present)"]
        );
        for size in ["2M", "../2MB", "MB", "2MB/x"] {
            refusal(&v2(), &hugepages(size, 1));
        }
    }

    #[test]
    fn on_a_hybrid_host_a_controller_is_used_where_it_is() {
        let plan = planned(&hybrid(), &hugepages("2MB", 4096)).expect("a plan");
        let last = plan.members.last().expect("members");
        assert_eq!(
            last.to_string(),
            "/v2/a/b [hugetlb]\n  hugetlb.2MB.max <- 4096\n  hugetlb.2MB.rsvd.max <- 4096 (if present)\n"
        );
        assert_eq!(last.needed_controllers, 1);
    }

    #[test]
    fn needed_controllers_stand_before_those_that_only_count() {
        let resources = LinuxResources {
            cpu: Some(LinuxCpu { cpus: "0".to_owned(), ..LinuxCpu::default() }),
            ..memory(LinuxMemory { limit: Some(1), ..LinuxMemory::default() })
        };
        let plan = planned(&v2(), &resources).expect("a plan");
        assert_eq!(plan.members[0].controllers, ["memory", "cpuset", "cpu", "pids", "io"]);
        assert_eq!(plan.members[0].needed_controllers, 2);
    }

    #[test]
    fn a_setting_without_its_controller_is_refused_by_name() {
        let rdma = LinuxResources {
            rdma: [("mlx5_0".to_owned(), LinuxRdma { hca_handles: Some(3), hca_objects: Some(4) })].into(),
            ..LinuxResources::default()
        };
        assert_eq!(refusal(&v1(), &rdma), "linux.resources.rdma: this host has no rdma cgroup controller");
        assert_eq!(settings(&v2(), &rdma), ["rdma.max <- mlx5_0 hca_handle=3 hca_object=4"]);
        let network = LinuxResources {
            network: Some(LinuxNetwork { class_id: Some(7), priorities: vec![] }),
            ..LinuxResources::default()
        };
        assert_eq!(
            refusal(&v1(), &network),
            "linux.resources.network.classID: this host has no net_cls cgroup controller"
        );
        assert_eq!(refusal(&v2(), &network), "linux.resources.network is not supported on cgroup v2");
        let mut with_network = v1();
        with_network.hierarchies.push(hierarchy(Version::V1, &["net_cls", "net_prio"], "/v1/net"));
        assert_eq!(settings(&with_network, &network), ["net_cls.classid <- 7"]);
    }

    #[test]
    fn raw_files_come_last_and_are_names() {
        let unified = |pairs: &[(&str, &str)]| LinuxResources {
            unified: pairs.iter().map(|(file, value)| ((*file).to_owned(), (*value).to_owned())).collect(),
            ..memory(LinuxMemory { limit: Some(100), ..LinuxMemory::default() })
        };
        assert_eq!(
            settings(
                &v2(),
                &unified(&[("memory.max", "50"), ("io.max", "8:0 rbps=1\n8:16 rbps=2\n"), ("cgroup.max.depth", "3")])
            ),
            [
                "memory.max <- 100",
                "cgroup.max.depth <- 3",
                "io.max <- 8:0 rbps=1",
                "io.max <- 8:16 rbps=2",
                "memory.max <- 50"
            ]
        );
        assert_eq!(
            refusal(&v1(), &unified(&[("memory.max", "1")])),
            "linux.resources.unified is not supported on cgroup v1"
        );
        assert_eq!(
            refusal(&v2(), &unified(&[("gpu.max", "1")])),
            "linux.resources.unified gpu.max: this host has no gpu cgroup controller"
        );
        for name in ["memory", "../memory.max", "memory.max/..", ".max", "a\n.b"] {
            refusal(&v2(), &unified(&[(name, "1")]));
        }
    }

    #[test]
    fn devices_are_a_list_or_a_program() {
        let rules = vec![LinuxDeviceCgroup { allow: false, access: "rwm".to_owned(), ..LinuxDeviceCgroup::default() }];
        let resources = LinuxResources { devices: rules, ..LinuxResources::default() };
        assert_eq!(settings(&v1(), &resources), ["devices.deny <- a"]);
        assert_eq!(settings(&hybrid(), &resources), ["devices.deny <- a"]);
        assert_eq!(settings(&v2(), &resources), ["device program of 13 instructions"]);
    }
}
