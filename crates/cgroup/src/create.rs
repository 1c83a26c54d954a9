//! Carries out a plan: makes the groups, then takes its steps.

use std::io;
use std::os::fd::AsFd;

use carrack_sys::bpf;
use carrack_sys::rustix::fs::{self, Mode, OFlags};
use carrack_sys::rustix::io::Errno;

use crate::cpuset;
use crate::device::DeviceList;
use crate::error::CgroupError;
use crate::file;
use crate::group::{Group, Member};
use crate::host::{Host, Version};
use crate::plan::{Choice, MemberPlan, Plan, Step};
use crate::remove;

/// When a step is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// The group is new, or empty.
    Create,
    /// Processes may be in it.
    Update,
}

pub(crate) fn create(host: &Host, plan: &Plan) -> Result<Group, CgroupError> {
    let mut made = Vec::with_capacity(plan.members.len());
    let group = Group::new(host, plan.members.iter().map(|member| (member.hierarchy, member.group.clone())).collect());
    let outcome = plan.members.iter().zip(&group.members).try_for_each(|(plan, member)| {
        if make(host, plan, member)? == Made::New {
            made.push(member);
        }
        take_steps(host, plan, member, Occasion::Create)
    });
    match outcome {
        Ok(()) => Ok(group),
        Err(error) => {
            for member in made {
                // Best effort: the first error is the one to tell, and nobody has entered.
                let _ = remove::remove_directory(host, member);
            }
            Err(error)
        }
    }
}

pub(crate) fn take_steps(
    host: &Host,
    plan: &MemberPlan,
    member: &Member,
    occasion: Occasion,
) -> Result<(), CgroupError> {
    plan.steps.iter().try_for_each(|step| Taker { host, member }.take(step, occasion))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    New,
    TakenOver,
}

fn make(host: &Host, plan: &MemberPlan, member: &Member) -> Result<Made, CgroupError> {
    let made = match make_directory(host, member.hierarchy, &member.group)? {
        Made::New => Made::New,
        Made::TakenOver => {
            let processes = member.read(host, "cgroup.procs")?.lines().count();
            if processes > 0 {
                return Err(CgroupError::NotEmpty { path: member.path(host), processes });
            }
            Made::TakenOver
        }
    };
    if host.hierarchy(member.hierarchy).version == Version::V2 && !plan.controllers.is_empty() {
        hand_down(host, plan, member).inspect_err(|_| {
            if made == Made::New {
                let _ = remove::remove_directory(host, member);
            }
        })?;
    }
    Ok(made)
}

/// Makes a group and those around it. Mostly only the last is missing, so that is tried first.
fn make_directory(host: &Host, hierarchy: usize, group: &str) -> Result<Made, CgroupError> {
    let root = host.root(hierarchy);
    let make = |group: &str| match fs::mkdirat(root, group, Mode::from_raw_mode(0o755)) {
        Ok(()) => Ok(Some(Made::New)),
        Err(Errno::EXIST) => Ok(Some(Made::TakenOver)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(CgroupError::Create { path: host.hierarchy(hierarchy).path(group), source: errno.into() }),
    };
    if let Some(made) = make(group)? {
        return Ok(made);
    }
    for (end, _) in group.match_indices('/') {
        make(&group[..end])?;
    }
    make(group)?.ok_or_else(|| CgroupError::Create {
        path: host.hierarchy(hierarchy).path(group),
        source: io::ErrorKind::NotFound.into(),
    })
}

/// Enables controllers in every group above, from the top (version 2).
pub(crate) fn hand_down(host: &Host, plan: &MemberPlan, member: &Member) -> Result<(), CgroupError> {
    let has = |text: &str, controller: &str| text.split_whitespace().any(|known| known == controller);
    let present = member.read(host, "cgroup.controllers")?;
    if plan.controllers.iter().all(|controller| has(&present, controller)) {
        return Ok(());
    }
    let ends = member.group.match_indices('/').map(|(end, _)| end);
    for end in std::iter::once(0).chain(ends) {
        let above = Member { hierarchy: member.hierarchy, group: member.group[..end].to_owned() };
        let enabled = above.read(host, "cgroup.subtree_control")?;
        for (index, controller) in plan.controllers.iter().enumerate().filter(|(_, name)| !has(&enabled, name)) {
            match file::write(
                host.root(above.hierarchy),
                &above.file("cgroup.subtree_control"),
                &format!("+{controller}"),
            ) {
                Ok(()) => {}
                // Only counts what is used; a group without it still works.
                Err(_) if index >= plan.needed_controllers => {}
                Err(source) => {
                    return Err(CgroupError::Enable {
                        controller: controller.to_string(),
                        path: above.path(host),
                        source,
                    });
                }
            }
        }
    }
    Ok(())
}

struct Taker<'a> {
    host: &'a Host,
    member: &'a Member,
}

impl Taker<'_> {
    fn take(&self, step: &Step, occasion: Occasion) -> Result<(), CgroupError> {
        match step {
            Step::Write(choice) => self.write(choice).map_err(|source| self.failed(choice, source)),
            Step::WriteIfPresent(choice) => match self.write(choice) {
                Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other.map_err(|source| self.failed(choice, source)),
            },
            Step::WriteFirst(choices) => self.write_first(choices),
            Step::WriteTogether(choices) => self.write_together(choices),
            Step::CpuPeriod { period_usec } => {
                let present = self.member.read(self.host, "cpu.max")?;
                let quota = present.split_whitespace().next().unwrap_or("max");
                let choice = Choice::new("cpu.max", format!("{quota} {period_usec}"));
                self.write(&choice).map_err(|source| self.failed(&choice, source))
            }
            Step::CheckUsage { file, limit_bytes } => self.check_usage(file, *limit_bytes),
            Step::MemoryAndSwap { limit_bytes, swap_bytes } => self.memory_and_swap(*limit_bytes, *swap_bytes),
            Step::InheritCpuset { except } => match occasion {
                Occasion::Create => cpuset::inherit(self.host, self.member, except),
                Occasion::Update => Ok(()),
            },
            Step::DeviceList(list) => self.device_list(list, occasion),
            Step::DeviceProgram(program) => self.device_program(program),
        }
    }

    fn write(&self, choice: &Choice) -> io::Result<()> {
        file::write(self.host.root(self.member.hierarchy), &self.member.file(&choice.file), &choice.value)
    }

    /// Tells a file that the kernel lacks, a limit below what is in use, and everything else apart.
    fn failed(&self, choice: &Choice, source: io::Error) -> CgroupError {
        let path = self.host.hierarchy(self.member.hierarchy).path(&self.member.file(&choice.file));
        if source.kind() == io::ErrorKind::NotFound {
            return CgroupError::NoFile { paths: vec![path], value: choice.value.clone() };
        }
        if choice.file == "memory.limit_in_bytes"
            && source.kind() == io::ErrorKind::ResourceBusy
            && let Ok(limit_bytes) = choice.value.parse()
            && let Ok(usage_bytes) = self.member.number(self.host, "memory.usage_in_bytes")
        {
            return CgroupError::BelowUsage { limit_bytes, usage_bytes };
        }
        CgroupError::Write { path, value: choice.value.clone(), source }
    }

    fn write_first(&self, choices: &[Choice]) -> Result<(), CgroupError> {
        for choice in choices {
            match self.write(choice) {
                Err(source) if source.kind() == io::ErrorKind::NotFound => {}
                other => return other.map_err(|source| self.failed(choice, source)),
            }
        }
        let paths = choices
            .iter()
            .map(|choice| self.host.hierarchy(self.member.hierarchy).path(&self.member.file(&choice.file)))
            .collect();
        Err(CgroupError::NoFile { paths, value: choices.first().map_or(String::new(), |choice| choice.value.clone()) })
    }

    fn write_together(&self, choices: &[Choice]) -> Result<(), CgroupError> {
        let mut left: Vec<&Choice> = choices.iter().collect();
        loop {
            let count = left.len();
            let mut fault = None;
            left.retain(|choice| match self.write(choice) {
                Ok(()) => false,
                Err(source) => {
                    // Only EINVAL may be cured by what is written after it.
                    if fault.is_none() || source.kind() != io::ErrorKind::InvalidInput {
                        fault = Some((*choice, source));
                    }
                    true
                }
            });
            match fault {
                None => return Ok(()),
                Some((choice, source)) if left.len() == count || source.kind() != io::ErrorKind::InvalidInput => {
                    return Err(self.failed(choice, source));
                }
                Some(_) => {}
            }
        }
    }

    fn check_usage(&self, file: &str, limit_bytes: i64) -> Result<(), CgroupError> {
        let usage_bytes = self.member.number(self.host, file)?;
        if usage_bytes > limit_bytes.unsigned_abs() {
            return Err(CgroupError::BelowUsage { limit_bytes, usage_bytes });
        }
        Ok(())
    }

    /// The kernel keeps "memory" at or below "memory and swap" at every moment: when both grow, the outer one goes first.
    fn memory_and_swap(&self, limit_bytes: i64, swap_bytes: i64) -> Result<(), CgroupError> {
        let limit = Choice::new("memory.limit_in_bytes", limit_bytes);
        let swap = Choice::new("memory.memsw.limit_in_bytes", swap_bytes);
        let present = self.member.number(self.host, "memory.limit_in_bytes")?;
        let is_growing = swap_bytes == -1 || present < swap_bytes.unsigned_abs();
        let order = if is_growing { [swap, limit] } else { [limit, swap] };
        order.iter().try_for_each(|choice| self.write(choice).map_err(|source| self.failed(choice, source)))
    }

    fn device_list(&self, list: &DeviceList, occasion: Occasion) -> Result<(), CgroupError> {
        let writes = match occasion {
            Occasion::Create => list.writes_anew(),
            Occasion::Update => {
                let text = self.member.read(self.host, "devices.list")?;
                let present = DeviceList::parse(&text).ok_or_else(|| CgroupError::Format {
                    path: self.host.hierarchy(self.member.hierarchy).path(&self.member.file("devices.list")),
                    text,
                })?;
                list.writes_from(&present)
            }
        };
        // A file is opened once for all that goes into it in a row.
        let root = self.host.root(self.member.hierarchy);
        for run in writes.chunk_by(|one, other| one.0 == other.0) {
            let failed = |value: &str, source| self.failed(&Choice::new(run[0].0, value), source);
            let file =
                file::open(root, &self.member.file(run[0].0), OFlags::WRONLY).map_err(|source| failed("", source))?;
            for (_, value) in run {
                file::write_to(file.as_fd(), value).map_err(|source| failed(value, source))?;
            }
        }
        Ok(())
    }

    /// In place of a program attached before, in one step; beside nothing else of ours, for then the stricter would win.
    fn device_program(&self, program: &[bpf::BpfInstruction]) -> Result<(), CgroupError> {
        let failed = |source| CgroupError::Devices { path: self.member.path(self.host), source };
        let loaded = bpf::load_device_program(program).map_err(failed)?;
        let group = self.member.open(self.host)?;
        let mut present = bpf::attached_device_programs(group.as_fd()).map_err(failed)?;
        // A crash between attaching and detaching of an older kernel's replacement may have left more than one.
        let replaced = present.pop();
        bpf::attach_device_program(group.as_fd(), loaded.as_fd(), replaced.as_ref().map(|old| old.as_fd()))
            .map_err(failed)?;
        present.iter().try_for_each(|old| bpf::detach_device_program(group.as_fd(), old.as_fd()).map_err(failed))
    }
}
