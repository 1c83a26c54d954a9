//! The systemd cgroup driver: a container's group as a scope of systemd's.
//!
//! Systemd makes the group around the container's first process, which waits meanwhile, and hands it over (`Delegate=`). What it can limit it is told as
//! properties, or the next `daemon-reload` would write its own idea of them; then the files are written all the same, as without systemd: they know more,
//! and the last word is ours. The device program takes the place of systemd's; where systemd has no words for the rules it is told to stay out of it
//! (`DevicePolicy=auto` without a list), since its program would decide besides ours.
//!
//! Sources: systemd.resource-control(5), org.freedesktop.systemd1(5) of systemd 252; what runc's driver sends. For cgroup v2.

use std::borrow::Cow;

use carrack_cgroup::{
    CgroupError, ChangeError, Choice, Group, Host, Layout, Plan as GroupPlan, Step, device_allowances,
};
use carrack_oci_config::{LinuxCpu, LinuxResources};
use carrack_systemd::{Manager, Property, SystemdError, Unit, Value, is_running, property_of_annotation};
use carrack_words::{ContainerId, Kind};

use crate::create::REMOVE_PATIENCE;
use crate::describe::describe;
use crate::plan::Plan;
use crate::state_dir::Record;
use crate::step::StepError;

/// The scope of a new container.
#[derive(Debug)]
pub struct Scope {
    unit: Unit,
    description: String,
    /// From annotations.
    wanted: Vec<Property>,
}

/// What the kernel takes where nothing is said.
const DEFAULT_PERIOD_USEC: u64 = 100_000;
/// Systemd's "infinity".
const UNLIMITED: u64 = u64::MAX;
/// Systemd keeps a quota in whole percents of a CPU: so many microseconds of each second.
const PERCENT_USEC: u64 = 10_000;
/// More CPUs or memory nodes than any kernel has.
const MAX_CPUS: usize = 8192;

/// Releases of systemd from which on it knows a property.
const KNOWS_QUOTA_PERIOD: u32 = 242;
const KNOWS_CPU_SETS: u32 = 244;
const KNOWS_IDLE: u32 = 252;
const KNOWS_SCOPE_OOM_POLICY: u32 = 253;

fn asked(error: SystemdError) -> StepError {
    StepError::refused(error.kind(), describe(&error))
}

fn in_group(error: CgroupError) -> StepError {
    StepError::refused(error.kind(), describe(&error))
}

impl Scope {
    /// Decides about a container's scope.
    pub fn plan(plan: &Plan, id: &ContainerId, host: &Host) -> Result<Self, StepError> {
        if !is_running() {
            return Err(asked(SystemdError::NotRunning));
        }
        if host.layout() != Layout::V2 {
            let message = "--systemd-cgroup: the systemd cgroup driver is for cgroup v2, and this host has v1";
            return Err(StepError::refused(Kind::Unsupported, message));
        }
        let unit = Unit::parse(&plan.cgroups_path, id.as_str())
            .map_err(|error| StepError::refused(error.kind(), error.to_string()))?;
        let wanted = plan.annotations.iter().filter_map(|(key, text)| property_of_annotation(key, text));
        let wanted = wanted
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| StepError::refused(error.kind(), error.to_string()))?;
        Ok(Self { unit, description: format!("carrack-oci container {id}"), wanted })
    }

    /// The unit's name.
    pub fn unit_name(&self) -> &str {
        self.unit.name()
    }

    /// The path of its group, from the root.
    pub fn group_path(&self) -> String {
        self.unit.group_path()
    }

    /// Refuses a group that others are in: it would be another container's.
    pub fn check_free(&self, group: &Group) -> Result<(), StepError> {
        let processes = group.pids().map_err(in_group)?.len();
        if processes == 0 {
            return Ok(());
        }
        let path = group.paths().into_values().next().unwrap_or_default();
        Err(in_group(CgroupError::NotEmpty { path, processes }))
    }

    /// Has systemd make the group around a process, and writes the limits that it does not know. `plan` and `resources` say the same.
    pub fn start(
        &self,
        pid: i32,
        group: &Group,
        plan: &GroupPlan,
        resources: &LinuxResources,
    ) -> Result<(), StepError> {
        let mut manager = Manager::connect().map_err(asked)?;
        let mut properties = self.place(pid);
        properties.extend(self.wanted.iter().cloned());
        properties.extend(devices(resources)?);
        properties.extend(limits(plan, &mut manager)?);
        properties.extend(oom_policy(resources, &mut manager)?);
        manager.start_scope(self.unit.name(), &properties).map_err(asked)?;
        group.update(plan).map_err(in_group)
    }

    fn place(&self, pid: i32) -> Vec<Property> {
        let named = |name: &str, value| (name.to_owned(), value);
        let pids = Value::Array { of: "u".into(), values: vec![Value::Uint32(pid.unsigned_abs())] };
        vec![
            named("Description", Value::text(self.description.clone())),
            named("Slice", Value::text(self.unit.slice())),
            named("Delegate", Value::Bool(true)),
            named("PIDs", pids),
            named("MemoryAccounting", Value::Bool(true)),
            named("CPUAccounting", Value::Bool(true)),
            named("IOAccounting", Value::Bool(true)),
            named("TasksAccounting", Value::Bool(true)),
            // Without these it is stopped before the shutdown reaches whoever cares for it.
            named("DefaultDependencies", Value::Bool(false)),
            named("CollectMode", Value::text("inactive-or-failed")),
        ]
    }
}

/// Stops a unit; one that is gone, or has gone with its systemd, is fine.
pub fn stop(unit: &str) -> Result<(), StepError> {
    match Manager::connect() {
        Err(SystemdError::NotRunning) => Ok(()),
        manager => manager.and_then(|mut manager| manager.stop(unit)).map_err(asked),
    }
}

/// Removes the group of a container without processes, and its unit.
pub fn remove_group(record: &Record, group: &Group) -> Result<(), StepError> {
    if let Some(unit) = &record.systemd_unit {
        stop(unit)?;
    }
    group.remove(REMOVE_PATIENCE).map_err(|error| StepError::refused(error.kind(), describe(&error)))
}

/// Gives a scope new limits: to systemd, and then as files. If the kernel refuses one, the files have what they had, and so has systemd.
pub fn change(unit: &str, group: &Group, mut resources: LinuxResources) -> Result<(), StepError> {
    complete_cpu(group, &mut resources);
    round_quota(&mut resources);
    let refused = |error: ChangeError| StepError::refused(error.kind(), describe(&error));
    let plan = group.plan_change(&resources).map_err(refused)?;
    // Systemd would write a limit that kills the container without asking.
    group.check_usage(&plan).map_err(in_group)?;
    let mut manager = Manager::connect().map_err(asked)?;
    let properties = limits(&plan, &mut manager)?;
    if properties.is_empty() {
        return group.update(&plan).map_err(in_group);
    }
    // Systemd writes the files that it knows at once: what they said is to be learnt before that.
    let before = present(group, &plan);
    let told = manager.set_properties(unit, &properties).map_err(asked);
    told.and_then(|()| group.update(&plan).map_err(in_group)).inspect_err(|_| {
        let version = manager.version().unwrap_or(0);
        // The failure to tell is the one before.
        let _ = manager.set_properties(unit, &properties_of(&before.iter().collect::<Vec<_>>(), version));
    })
}

/// What the files that a plan writes say now.
fn present(group: &Group, plan: &GroupPlan) -> Vec<Choice> {
    let mut files: Vec<_> = choices(plan).into_iter().map(|choice| choice.file.clone()).collect();
    // To systemd the two are one.
    if files.iter().any(|file| file == "cpu.idle") {
        files.push("cpu.weight".into());
    }
    let said = |file: Cow<'static, str>| {
        let (controller, _) = file.split_once('.')?;
        let value = group.text([controller; 2], ["", &file])?.trim().to_owned();
        Some(Choice { file, value })
    };
    files.into_iter().filter_map(said).collect()
}

/// What systemd keeps is the part of a CPU, so of quota and period one alone is completed by the present other.
fn complete_cpu(group: &Group, resources: &mut LinuxResources) {
    let Some(cpu) = &mut resources.cpu else { return };
    let is_given = (cpu.quota.is_some_and(|quota| quota != 0), cpu.period.is_some_and(|period| period != 0));
    if matches!(is_given, (true, true) | (false, false)) {
        return;
    }
    let present = group.text(["cpu"; 2], ["", "cpu.max"]).unwrap_or_default();
    let mut words = present.split_whitespace();
    let (quota, period) = (words.next().map(|quota| quota.parse().unwrap_or(-1)), words.next());
    match is_given {
        (true, _) => cpu.period = period.and_then(|period| period.parse().ok()),
        (false, _) => cpu.quota = quota,
    }
}

/// Rounds a quota up to what systemd can keep, so that it and the file say the same.
pub fn round_quota(resources: &mut LinuxResources) {
    let Some(LinuxCpu { quota: Some(quota @ 1..), period, .. }) = &mut resources.cpu else { return };
    let period = period.filter(|period| *period != 0).unwrap_or(DEFAULT_PERIOD_USEC);
    let per_second = per_second(quota.unsigned_abs(), period);
    let rounded = u128::from(per_second) * u128::from(period) / 1_000_000;
    // Never less than what was asked for.
    *quota = i64::try_from(rounded).map_or(*quota, |rounded| rounded.max(*quota));
}

/// Microseconds of each second, in whole percents.
fn per_second(quota_usec: u64, period_usec: u64) -> u64 {
    let exact = u128::from(quota_usec) * 1_000_000 / u128::from(period_usec.max(1));
    u64::try_from(exact).ok().and_then(|exact| exact.checked_next_multiple_of(PERCENT_USEC)).unwrap_or(UNLIMITED)
}

/// Device rules, in place of those that the unit has.
fn devices(resources: &LinuxResources) -> Result<Vec<Property>, StepError> {
    let list =
        device_allowances(&resources.devices).map_err(|error| StepError::refused(error.kind(), error.to_string()))?;
    let policy = if list.is_some() { "strict" } else { "auto" };
    let entry = |(path, access)| Value::Tuple(vec![Value::Text(path), Value::Text(access)]);
    let of_list = |values| ("DeviceAllow".to_owned(), Value::Array { of: "(ss)".into(), values });
    let mut properties = vec![of_list(vec![]), ("DevicePolicy".to_owned(), Value::text(policy))];
    properties.extend(list.map(|list| of_list(list.into_iter().map(entry).collect())));
    Ok(properties)
}

/// Since release 253 systemd writes `memory.oom.group` of a scope too, and takes its word for it only when the scope is made.
fn oom_policy(resources: &LinuxResources, manager: &mut Manager) -> Result<Option<Property>, StepError> {
    let policy = match resources.unified.get("memory.oom.group").map(|value| value.trim()) {
        Some("0") => "continue",
        Some("1") => "kill",
        _ => return Ok(None),
    };
    let is_known = manager.version().map_err(asked)? >= KNOWS_SCOPE_OOM_POLICY;
    Ok(is_known.then(|| ("OOMPolicy".to_owned(), Value::text(policy))))
}

/// The limits of a plan as systemd's properties; what it has none for is left to the files, and so is a value that makes no sense.
fn limits(plan: &GroupPlan, manager: &mut Manager) -> Result<Vec<Property>, StepError> {
    let choices = choices(plan);
    // An old systemd refuses what it does not know. Where nothing of that is wanted, it is not asked.
    let version =
        if choices.iter().any(|choice| needs_version(choice)) { manager.version().map_err(asked)? } else { 0 };
    Ok(properties_of(&choices, version))
}

fn choices(plan: &GroupPlan) -> Vec<&Choice> {
    let written = |step| match step {
        &Step::Write(ref choice) | &Step::WriteIfPresent(ref choice) => std::slice::from_ref(choice),
        Step::WriteFirst(choices) | Step::WriteTogether(choices) => choices.as_slice(),
        _ => &[],
    };
    plan.members.iter().flat_map(|member| member.steps.iter().flat_map(written)).collect()
}

fn needs_version(choice: &Choice) -> bool {
    matches!(choice.file.as_ref(), "cpu.max" | "cpu.idle" | "cpuset.cpus" | "cpuset.mems")
}

fn properties_of(choices: &[&Choice], version: u32) -> Vec<Property> {
    let is_idle = |choice: &Choice| choice.file == "cpu.idle" && choice.value.trim() == "1" && version >= KNOWS_IDLE;
    let has_idle = choices.iter().any(|choice| is_idle(choice));
    let mut properties = Vec::new();
    for choice in choices {
        let value = choice.value.trim();
        match choice.file.as_ref() {
            "cpu.max" => properties.extend(quota(value, version)),
            // To systemd an idle group is one without weight.
            "cpu.idle" if is_idle(choice) => properties.push(("CPUWeight".to_owned(), Value::Uint64(0))),
            "cpu.weight" if has_idle => {}
            file => properties.extend(property(file, value, version)),
        }
    }
    properties
}

/// `QUOTA PERIOD`, or `QUOTA` alone.
fn quota(value: &str, version: u32) -> Vec<Property> {
    let mut words = value.split_whitespace();
    let (quota, period) = (words.next().unwrap_or_default(), words.next());
    let period = match period.map(str::parse) {
        None => DEFAULT_PERIOD_USEC,
        Some(Ok(period)) => period,
        Some(Err(_)) => return Vec::new(),
    };
    let part = match quota.parse() {
        Ok(quota) => per_second(quota, period),
        Err(_) if quota == "max" => UNLIMITED,
        Err(_) => return Vec::new(),
    };
    let period = ("CPUQuotaPeriodUSec".to_owned(), Value::Uint64(period));
    let part = ("CPUQuotaPerSecUSec".to_owned(), Value::Uint64(part));
    if version >= KNOWS_QUOTA_PERIOD { vec![period, part] } else { vec![part] }
}

fn property(file: &str, value: &str, version: u32) -> Option<Property> {
    let (name, value) = match file {
        "memory.max" => ("MemoryMax", amount(value)?),
        "memory.high" => ("MemoryHigh", amount(value)?),
        "memory.low" => ("MemoryLow", amount(value)?),
        "memory.min" => ("MemoryMin", amount(value)?),
        "memory.swap.max" => ("MemorySwapMax", amount(value)?),
        "cpu.weight" => ("CPUWeight", amount(value)?),
        "io.weight" => ("IOWeight", amount(value)?),
        // Systemd takes no 0, and the container has a process.
        "pids.max" if value == "0" => ("TasksMax", Value::Uint64(1)),
        "pids.max" => ("TasksMax", amount(value)?),
        "cpuset.cpus" if version >= KNOWS_CPU_SETS => ("AllowedCPUs", set(value)?),
        "cpuset.mems" if version >= KNOWS_CPU_SETS => ("AllowedMemoryNodes", set(value)?),
        _ => return None,
    };
    Some((name.to_owned(), value))
}

fn amount(value: &str) -> Option<Value> {
    let number = if value == "max" { UNLIMITED } else { value.parse().ok()? };
    Some(Value::Uint64(number))
}

/// `0-2,7` as bits, the lowest first; none of them stands for no limit, in a file as with systemd.
fn set(list: &str) -> Option<Value> {
    let mut bits: Vec<u8> = Vec::new();
    for range in list.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= MAX_CPUS {
            return None;
        }
        bits.resize(bits.len().max(last / 8 + 1), 0);
        (first..=last).for_each(|number| bits[number / 8] |= 1 << (number % 8));
    }
    Some(Value::bytes(&bits))
}

#[cfg(test)]
mod tests {
    use carrack_cgroup::MemberPlan;
    use carrack_oci_config::LinuxDeviceCgroup;

    use super::*;

    fn choice(file: &'static str, value: &str) -> Choice {
        Choice { file: Cow::Borrowed(file), value: value.into() }
    }

    /// Its name, and what is written.
    type File = (&'static str, &'static str);
    /// A property's name and value.
    type Told = (&'static str, Value);

    fn properties(files: &[File], version: u32) -> Vec<(String, Value)> {
        let choices: Vec<_> = files.iter().map(|(file, value)| choice(file, value)).collect();
        properties_of(&choices.iter().collect::<Vec<_>>(), version)
    }

    fn named(list: &[(&str, Value)]) -> Vec<Property> {
        list.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    #[test]
    fn files_become_properties_where_systemd_has_one() {
        let number = Value::Uint64;
        let cases: &[(&[File], &[Told])] = &[
            (
                &[("memory.max", "100"), ("memory.low", "max")],
                &[("MemoryMax", number(100)), ("MemoryLow", number(u64::MAX))],
            ),
            (&[("memory.high", "5"), ("memory.min", "4")], &[("MemoryHigh", number(5)), ("MemoryMin", number(4))]),
            (&[("memory.swap.max", "0"), ("pids.max", "0")], &[("MemorySwapMax", number(0)), ("TasksMax", number(1))]),
            (
                &[("pids.max", "max"), ("cpu.weight", "59")],
                &[("TasksMax", number(u64::MAX)), ("CPUWeight", number(59))],
            ),
            (&[("cpu.weight", "59"), ("cpu.idle", "1")], &[("CPUWeight", number(0))]),
            (&[("cpu.idle", "0"), ("io.bfq.weight", "7"), ("io.weight", "8:0 10")], &[]),
            (
                &[("cpu.max", "50000 200000")],
                &[("CPUQuotaPeriodUSec", number(200_000)), ("CPUQuotaPerSecUSec", number(250_000))],
            ),
            (
                &[("cpu.max", "max")],
                &[("CPUQuotaPeriodUSec", number(100_000)), ("CPUQuotaPerSecUSec", number(u64::MAX))],
            ),
            (
                &[("cpuset.cpus", "0-2,9"), ("cpuset.mems", "0")],
                &[("AllowedCPUs", Value::bytes(&[7, 2])), ("AllowedMemoryNodes", Value::bytes(&[1]))],
            ),
            // What makes no sense is refused by the kernel, which knows better how to say so.
            (
                &[
                    ("memory.max", "x"),
                    ("cpu.max", "1 x"),
                    ("cpu.max", "x"),
                    ("cpuset.cpus", "3-1"),
                    ("cpuset.mems", "99999999"),
                ],
                &[],
            ),
            (&[("hugetlb.2MB.max", "1"), ("io.max", "8:0 rbps=1")], &[]),
        ];
        for (files, want) in cases {
            assert_eq!(properties(files, 252), named(want), "{files:?}");
        }
    }

    #[test]
    fn an_old_systemd_is_not_asked_for_what_it_does_not_know() {
        let files = [("cpu.max", "1000 10000"), ("cpuset.cpus", "0"), ("cpu.idle", "1"), ("cpu.weight", "3")];
        let want = [("CPUQuotaPerSecUSec", Value::Uint64(100_000)), ("CPUWeight", Value::Uint64(3))];
        assert_eq!(properties(&files, 241), named(&want));
    }

    #[test]
    fn every_written_value_of_a_plan_counts_and_nothing_else() {
        let steps = vec![
            Step::Write(choice("a", "1")),
            Step::CheckUsage { file: "memory.current", limit_bytes: 1 },
            Step::WriteTogether(vec![choice("b", "2"), choice("c", "3")]),
            Step::WriteIfPresent(choice("d", "4")),
            Step::CpuPeriod { period_usec: 9 },
            Step::WriteFirst(vec![choice("e", "5")]),
        ];
        let member = MemberPlan {
            hierarchy: 0,
            group: "x".into(),
            mount_point: "/m".into(),
            controllers: vec![],
            needed_controllers: 0,
            steps,
        };
        let plan = GroupPlan { members: vec![member] };
        let files: Vec<_> = choices(&plan).iter().map(|choice| choice.file.as_ref()).collect();
        assert_eq!(files, ["a", "b", "c", "d", "e"]);
    }

    #[test]
    fn a_quota_is_rounded_up_to_whole_percents() {
        for (quota, period, want) in [
            (Some(50_000), Some(100_000), Some(50_000)),
            (Some(50_001), None, Some(51_000)),
            (Some(1_000), Some(1_000), Some(1_000)),
            (Some(3_333), Some(10_000), Some(3_400)),
            (Some(7_500), Some(1_000_000), Some(10_000)),
            (Some(-1), Some(100_000), Some(-1)),
            (Some(0), None, Some(0)),
            (None, Some(5_000), None),
            (Some(i64::MAX), Some(1), Some(i64::MAX)),
        ] {
            let cpu = LinuxCpu { quota, period, ..LinuxCpu::default() };
            let mut resources = LinuxResources { cpu: Some(cpu), ..LinuxResources::default() };
            round_quota(&mut resources);
            assert_eq!(resources.cpu.and_then(|cpu| cpu.quota), want, "{quota:?} {period:?}");
        }
    }

    #[test]
    fn devices_are_listed_or_left_to_our_program() {
        let rule = |allow, major| LinuxDeviceCgroup {
            allow,
            kind: if allow { "c".into() } else { "a".into() },
            major,
            minor: Some(3),
            access: "rw".into(),
        };
        let told = |devices| devices_of(LinuxResources { devices, ..LinuxResources::default() });
        fn devices_of(resources: LinuxResources) -> Vec<Property> {
            devices(&resources).expect("sound rules")
        }
        let list = |values| Value::Array { of: "(ss)".into(), values };
        let null = Value::Tuple(vec![Value::text("/dev/char/1:3"), Value::text("rw")]);
        assert_eq!(
            told(vec![rule(false, None), rule(true, Some(1))]),
            named(&[
                ("DeviceAllow", list(vec![])),
                ("DevicePolicy", Value::text("strict")),
                ("DeviceAllow", list(vec![null]))
            ])
        );
        assert_eq!(
            told(vec![rule(false, None), rule(true, None)]),
            named(&[("DeviceAllow", list(vec![])), ("DevicePolicy", Value::text("auto"))])
        );
    }
}
