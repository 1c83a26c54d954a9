//! Sends each setting to the hierarchy that has its controller, in the form of that hierarchy's version.

use carrack_oci_config::LinuxResources;

use crate::device::DeviceList;
use crate::device_program::device_program;
use crate::error::PlanError;
use crate::host::{Facts, Version};
use crate::plan::{MemberPlan, Step};
use crate::{v1, v2};

type Steps = Result<Vec<Step>, PlanError>;

/// Adds the steps of all settings to the members; these stand in the order of the host's hierarchies.
pub(crate) fn plan(facts: &Facts, resources: &LinuxResources, members: &mut [MemberPlan]) -> Result<(), PlanError> {
    let mut planner = Planner { facts, members };
    if let Some(memory) = &resources.memory {
        planner.add("memory", ["memory"; 2], || v1::memory(memory), || v2::memory(memory))?;
    }
    if let Some(cpu) = &resources.cpu {
        planner.add("cpu", ["cpu"; 2], || v1::cpu(cpu), || v2::cpu(cpu))?;
        planner.add("cpu.cpus and mems", ["cpuset"; 2], || Ok(cpuset(cpu)), || Ok(cpuset(cpu)))?;
    }
    if let Some(limit) = resources.pids.as_ref().and_then(|pids| pids.limit) {
        planner.add("pids", ["pids"; 2], || Ok(pids(limit)), || Ok(pids(limit)))?;
    }
    if let Some(block_io) = &resources.block_io {
        planner.add("blockIO", ["blkio", "io"], || v1::block_io(block_io), || v2::block_io(block_io))?;
    }
    planner.add_hugepages(resources)?;
    planner.add("rdma", ["rdma"; 2], || rdma(resources), || rdma(resources))?;
    planner.add_network(resources)?;
    planner.add_devices(resources)?;
    planner.add_unified(resources)
}

struct Planner<'a> {
    facts: &'a Facts,
    members: &'a mut [MemberPlan],
}

impl Planner<'_> {
    /// `controllers` are the names in version 1 and in version 2.
    fn add(
        &mut self,
        setting: &str,
        controllers: [&str; 2],
        v1: impl FnOnce() -> Steps,
        v2: impl FnOnce() -> Steps,
    ) -> Result<(), PlanError> {
        let found = controllers.iter().find_map(|controller| self.facts.with_controller(controller));
        let steps = match found.map(|(_, hierarchy)| hierarchy.version) {
            Some(Version::V2) => v2()?,
            Some(Version::V1) | None => v1()?,
        };
        if steps.is_empty() {
            return Ok(());
        }
        let Some((index, hierarchy)) = found else {
            return Err(PlanError::NoController {
                setting: format!("linux.resources.{setting}"),
                controller: controllers[0].to_owned(),
            });
        };
        if hierarchy.version == Version::V2 {
            self.members[index].need(controllers[1]);
        }
        self.members[index].steps.extend(steps);
        Ok(())
    }

    /// The kubelet sends a limit of 0 for every size, whether or not the host has huge pages.
    fn add_hugepages(&mut self, resources: &LinuxResources) -> Result<(), PlanError> {
        let is_offered = self.facts.with_controller("hugetlb").is_some();
        let limits: Vec<_> = resources.hugepage_limits.iter().filter(|limit| is_offered || limit.limit != 0).collect();
        if limits.is_empty() {
            return Ok(());
        }
        let steps = |limit_file: &'static str| {
            let mut steps = Vec::with_capacity(2 * limits.len());
            for limit in &limits {
                let size = page_size(&limit.page_size)?;
                let file = format!("hugetlb.{size}.{limit_file}");
                steps.push(match limit.limit {
                    // A size that the host has no pages of cannot be used anyway.
                    0 => Step::WriteIfPresent(crate::plan::Choice::new(file, 0)),
                    bytes => Step::write(file, bytes),
                });
                let reserved = format!("hugetlb.{size}.rsvd.{limit_file}");
                // Since Linux 5.7; what is not reserved is limited all the same.
                steps.push(Step::WriteIfPresent(crate::plan::Choice::new(reserved, limit.limit)));
            }
            Ok(steps)
        };
        self.add("hugepageLimits", ["hugetlb"; 2], || steps("limit_in_bytes"), || steps("max"))
    }

    fn add_network(&mut self, resources: &LinuxResources) -> Result<(), PlanError> {
        let Some(network) = &resources.network else { return Ok(()) };
        let class = network.class_id.filter(|class| *class != 0);
        let has_v1 = self.facts.hierarchies.iter().any(|hierarchy| hierarchy.version == Version::V1);
        if !has_v1 && (class.is_some() || !network.priorities.is_empty()) {
            return Err(PlanError::NotInVersion { setting: "linux.resources.network".to_owned(), version: "v2" });
        }
        // Version 2 has neither controller, so they can only be found in version 1.
        let none = || Ok(Vec::new());
        if let Some(class) = class {
            let steps = || Ok(vec![Step::write("net_cls.classid", class)]);
            self.add("network.classID", ["net_cls"; 2], steps, none)?;
        }
        self.add("network.priorities", ["net_prio"; 2], || v1::network_priorities(network), none)
    }

    fn add_devices(&mut self, resources: &LinuxResources) -> Result<(), PlanError> {
        if resources.devices.is_empty() {
            return Ok(());
        }
        // Version 2 has no such controller: a program is attached to the group, which every group takes.
        let place = self.facts.with_controller("devices").or_else(|| self.facts.version_two());
        let Some((index, hierarchy)) = place else {
            return Err(PlanError::NoController {
                setting: "linux.resources.devices".to_owned(),
                controller: "devices".to_owned(),
            });
        };
        let step = match hierarchy.version {
            Version::V1 => Step::DeviceList(DeviceList::from_rules(&resources.devices)?),
            Version::V2 => Step::DeviceProgram(device_program(&resources.devices)?),
        };
        self.members[index].steps.push(step);
        Ok(())
    }

    /// Last, so that it has the last word; in the map's order.
    fn add_unified(&mut self, resources: &LinuxResources) -> Result<(), PlanError> {
        if resources.unified.is_empty() {
            return Ok(());
        }
        let Some((index, hierarchy)) = self.facts.version_two() else {
            return Err(PlanError::NotInVersion { setting: "linux.resources.unified".to_owned(), version: "v1" });
        };
        for (file, value) in &resources.unified {
            let controller = v2::controller_of(file)?;
            if controller != "cgroup" {
                if !hierarchy.controllers.iter().any(|known| known == controller) {
                    return Err(PlanError::NoController {
                        setting: format!("linux.resources.unified {file}"),
                        controller: controller.to_owned(),
                    });
                }
                self.members[index].need(controller);
            }
            // A file with a line for each device takes one line at a time.
            let lines = value.lines().filter(|line| !line.is_empty());
            self.members[index].steps.extend(lines.map(|line| Step::write(file.clone(), line)));
        }
        Ok(())
    }
}

fn cpuset(cpu: &carrack_oci_config::LinuxCpu) -> Vec<Step> {
    [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)]
        .into_iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(file, list)| Step::write(file, list))
        .collect()
}

/// 0 becomes 1: the container's own first process counts, and on version 2 it is made inside the group, where 0 would stop it.
fn pids(limit: i64) -> Vec<Step> {
    let value = if limit < 0 { "max".to_owned() } else { limit.max(1).to_string() };
    vec![Step::write("pids.max", value)]
}

fn rdma(resources: &LinuxResources) -> Steps {
    let mut steps = Vec::with_capacity(resources.rdma.len());
    for (device, limits) in &resources.rdma {
        if device.is_empty() || device.contains(char::is_whitespace) {
            return Err(PlanError::Invalid {
                setting: "linux.resources.rdma",
                value: device.clone(),
                reason: "is no name of a device",
            });
        }
        let mut value = device.clone();
        if let Some(handles) = limits.hca_handles {
            value += &format!(" hca_handle={handles}");
        }
        if let Some(objects) = limits.hca_objects {
            value += &format!(" hca_object={objects}");
        }
        if value != *device {
            steps.push(Step::write("rdma.max", value));
        }
    }
    Ok(steps)
}

/// Digits and a unit as the kernel names its files: it becomes part of a file's name.
fn page_size(text: &str) -> Result<&str, PlanError> {
    let number = text.strip_suffix("KB").or_else(|| text.strip_suffix("MB")).or_else(|| text.strip_suffix("GB"));
    match number {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => Ok(text),
        _ => Err(PlanError::Invalid {
            setting: "linux.resources.hugepageLimits.pageSize",
            value: text.to_owned(),
            reason: "is no size of huge pages (such as 2MB)",
        }),
    }
}
