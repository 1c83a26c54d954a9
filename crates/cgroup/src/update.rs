//! Changing the limits of a group in use.

use std::borrow::Cow;

use carrack_oci_config::LinuxResources;

use crate::create::{Occasion, hand_down, take_steps};
use crate::error::CgroupError;
use crate::file::{self, parse_number};
use crate::group::{Group, Member};
use crate::host::Version;
use crate::plan::{self, MemberPlan, Plan, Step};

/// What may keep a group from being changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The limits are wrong, or this host has none such.
    #[error(transparent)]
    Plan(#[from] crate::error::PlanError),
    /// The kernel refused something.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
}

impl ChangeError {
    /// The class of this failure.
    pub fn kind(&self) -> carrack_words::Kind {
        match self {
            Self::Plan(error) => error.kind(),
            Self::Cgroup(error) => error.kind(),
        }
    }
}

impl Group {
    /// Gives the group these limits; where they say nothing, it keeps what it has.
    pub fn change(&self, resources: &LinuxResources) -> Result<(), ChangeError> {
        Ok(update(self, &self.plan_change(resources)?)?)
    }

    /// Decides what such a change takes; [`Group::update`] carries it out.
    pub fn plan_change(&self, resources: &LinuxResources) -> Result<Plan, ChangeError> {
        let resources = with_present_limit(self, resources)?;
        Ok(plan::plan_change(self, &resources)?)
    }

    /// Refuses limits that are below what the group holds, where the plan says so, and changes nothing.
    pub fn check_usage(&self, plan: &Plan) -> Result<(), CgroupError> {
        let is_check = |step: &Step| matches!(step, Step::CheckUsage { .. });
        let members = plan.members.iter().map(|member| MemberPlan {
            controllers: Vec::new(),
            steps: member.steps.iter().filter(|step| is_check(step)).cloned().collect(),
            ..member.clone()
        });
        update(self, &Plan { members: members.collect() })
    }
}

/// Version 2 limits swap alone, so what a limit of memory and swap means depends on the limit of memory: the present one if there is no new one.
fn with_present_limit<'a>(
    group: &Group,
    resources: &'a LinuxResources,
) -> Result<Cow<'a, LinuxResources>, CgroupError> {
    let is_swap_alone = resources
        .memory
        .as_ref()
        .is_some_and(|memory| memory.swap.is_some_and(|swap| swap > 0) && memory.limit.unwrap_or(0) == 0);
    let Some((member, Version::V2)) = group.with_controller(["memory"; 2]).filter(|_| is_swap_alone) else {
        return Ok(Cow::Borrowed(resources));
    };
    let mut resources = resources.clone();
    if let (Some(memory), Some(limit)) = (&mut resources.memory, parse_number(&member.read(&group.host, "memory.max")?))
    {
        memory.limit = i64::try_from(limit).ok();
    }
    Ok(Cow::Owned(resources))
}

/// Takes the steps of each member of the plan that is part of the group. After a failure the files have what they had before, as far as the kernel
/// takes it.
pub(crate) fn update(group: &Group, plan: &Plan) -> Result<(), CgroupError> {
    let before = Before::read(group, plan);
    change_all(group, plan).inspect_err(|_| before.restore(group))
}

/// What files said.
struct Before<'a>(Vec<(&'a Member, &'a str, String)>);

impl<'a> Before<'a> {
    fn read(group: &'a Group, plan: &'a Plan) -> Self {
        let mut texts = Vec::new();
        for member_plan in &plan.members {
            let Some(member) = group.members.iter().find(|member| member.hierarchy == member_plan.hierarchy) else {
                continue;
            };
            for name in member_plan.steps.iter().flat_map(Step::files) {
                // One that is not there has nothing to be given back.
                texts.extend(member.read(&group.host, name).ok().map(|text| (member, name, text)));
            }
        }
        Self(texts)
    }

    /// Twice: some values fit only after others. The failure to tell is the one before.
    fn restore(&self, group: &Group) {
        for (member, name, text) in self.0.iter().rev().chain(&self.0) {
            for line in text.lines().filter(|line| !line.is_empty()) {
                let _ = file::write(group.host.root(member.hierarchy), &member.file(name), line);
            }
        }
    }
}

fn change_all(group: &Group, plan: &Plan) -> Result<(), CgroupError> {
    for member_plan in plan.members.iter().filter(|member| !member.steps.is_empty()) {
        let member = group.members.iter().find(|member| member.hierarchy == member_plan.hierarchy);
        let member = member.filter(|member| member.exists(&group.host));
        // On a hybrid host the group is in version 2 only if a setting needed it there; no huge pages at all need nothing.
        if member.is_none() && member_plan.steps.iter().all(|step| matches!(step, Step::WriteIfPresent(_))) {
            continue;
        }
        let missing =
            || CgroupError::NoGroup { path: group.host.hierarchy(member_plan.hierarchy).path(&member_plan.group) };
        let member = member.ok_or_else(missing)?;
        // A controller that nothing needed before may not have been handed down yet.
        if group.host.hierarchy(member.hierarchy).version == Version::V2 && !member_plan.controllers.is_empty() {
            hand_down(&group.host, member_plan, member)?;
        }
        take_steps(&group.host, member_plan, member, Occasion::Update)?;
    }
    Ok(())
}
