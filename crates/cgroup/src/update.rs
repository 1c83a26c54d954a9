//! Changing the limits of a group in use.

use crate::create::{Occasion, take_steps};
use crate::error::CgroupError;
use crate::group::Group;
use crate::plan::Plan;

/// Takes the steps of each member of the plan that is part of the group.
pub(crate) fn update(group: &Group, plan: &Plan) -> Result<(), CgroupError> {
    for member_plan in plan.members.iter().filter(|member| !member.steps.is_empty()) {
        let member = group.members.iter().find(|member| member.hierarchy == member_plan.hierarchy);
        let member = member.filter(|member| member.exists(&group.host));
        let missing =
            || CgroupError::NoGroup { path: group.host.hierarchy(member_plan.hierarchy).path(&member_plan.group) };
        let member = member.ok_or_else(missing)?;
        take_steps(&group.host, member_plan, member, Occasion::Update)?;
    }
    Ok(())
}
