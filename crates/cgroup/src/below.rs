//! Groups below a container's own, for further processes of it.

use std::collections::BTreeMap;

use crate::error::CgroupError;
use crate::group::{Group, Member};
use crate::host::own_group;
use crate::path::GroupPath;

impl Group {
    /// The group below this one that paths by controller name, or one path under an empty name for all hierarchies: what `exec --cgroup` asks for.
    /// It must exist.
    pub fn below(&self, paths: &BTreeMap<String, String>) -> Result<Self, CgroupError> {
        let mut group = self.clone();
        for (controller, path) in paths {
            let below = descend(path).ok_or_else(|| CgroupError::NotBelow { path: path.clone() })?;
            let mut is_known = false;
            for (member, own) in group.members.iter_mut().zip(&self.members) {
                let mut labels = self.host.hierarchy(own.hierarchy).labels();
                if controller.is_empty() || labels.any(|label| label == controller) {
                    is_known = true;
                    member.group = own.file(&below).trim_matches('/').to_owned();
                    // On a hybrid host no process is in version 2 unless a setting needed it.
                    if own.exists(&self.host) && !member.exists(&self.host) {
                        return Err(CgroupError::NoGroup { path: member.path(&self.host) });
                    }
                }
            }
            if !is_known {
                return Err(CgroupError::NoSubController { controller: controller.clone() });
            }
        }
        Ok(group)
    }

    /// The group below this one that a process of it is in, from the text of its `/proc/PID/cgroup`. Where it has left the group, this one.
    pub fn of_process(&self, text: &str) -> Self {
        let found = |member: &Member| {
            let hierarchy = self.host.hierarchy(member.hierarchy);
            let path = hierarchy.visible(own_group(text, hierarchy)?);
            let is_below = path.strip_prefix(&member.group).is_some_and(|rest| rest.starts_with('/'));
            is_below.then(|| Member { hierarchy: member.hierarchy, group: path.to_owned() })
        };
        let members = self.members.iter().map(|member| found(member).unwrap_or_else(|| member.clone())).collect();
        Self { host: self.host.clone(), members }
    }
}

/// The path without `.` and `..`; none if it leads above where it begins.
fn descend(path: &str) -> Option<String> {
    let mut depth = 0_i32;
    for component in path.split('/') {
        depth += match component {
            "" | "." => 0,
            ".." => -1,
            _ => 1,
        };
        if depth < 0 {
            return None;
        }
    }
    if depth == 0 {
        return Some(String::new());
    }
    GroupPath::clean(path).ok().map(|path| path.below().to_owned())
}

#[cfg(test)]
mod tests {
    use super::descend;

    #[test]
    fn a_path_never_leads_above_where_it_begins() {
        for (path, want) in [
            ("sub", Some("sub")),
            ("/sub/./x/", Some("sub/x")),
            ("sub/../other", Some("other")),
            ("", Some("")),
            ("/", Some("")),
            ("sub/..", Some("")),
            ("..", None),
            ("sub/../../sub", None),
        ] {
            assert_eq!(descend(path).as_deref(), want, "{path}");
        }
    }
}
