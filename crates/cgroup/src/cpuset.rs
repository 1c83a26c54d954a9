//! CPUs and memory nodes of a new group in version 1.
//!
//! A new cpuset is empty and takes no process until it has both. What a setting did not give is taken from the parent, which may
//! itself be new.

use std::borrow::Cow;

use crate::error::CgroupError;
use crate::file;
use crate::group::Member;
use crate::host::Host;

/// Fills the group, but for the files in `except`, and all groups above it.
pub(crate) fn inherit(host: &Host, member: &Member, except: &[Cow<'static, str>]) -> Result<(), CgroupError> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let is_given = except.iter().any(|given| given == name);
        let group = if is_given { parent(&member.group) } else { &member.group };
        filled(host, member.hierarchy, group, name)?;
    }
    Ok(())
}

/// What a group has, after it was given what its parent has if it had nothing. The root's group always has something.
fn filled(host: &Host, hierarchy: usize, group: &str, name: &str) -> Result<String, CgroupError> {
    let member = Member { hierarchy, group: group.to_owned() };
    let present = member.read(host, name)?;
    if !present.trim().is_empty() || group.is_empty() {
        return Ok(present);
    }
    let value = filled(host, hierarchy, parent(group), name)?;
    file::write(host.root(hierarchy), &member.file(name), value.trim()).map_err(|source| CgroupError::Write {
        path: host.hierarchy(hierarchy).path(&member.file(name)),
        value: value.trim().to_owned(),
        source,
    })?;
    Ok(value)
}

fn parent(group: &str) -> &str {
    group.rsplit_once('/').map_or("", |(parent, _)| parent)
}
