//! Which namespaces are new, and which are joined.

use std::path::PathBuf;

use carrack_oci_config::{Linux, LinuxIdMapping};
use carrack_sys::namespace::Namespaces;

use crate::stage::NamespaceType;

impl NamespaceType {
    /// All types, in the order in which they are joined: a user namespace first, since it may give the rights for the others.
    pub const ALL: [Self; 8] =
        [Self::User, Self::Cgroup, Self::Ipc, Self::Uts, Self::Network, Self::Pid, Self::Time, Self::Mount];

    /// The kernel's bit.
    pub fn bit(self) -> Namespaces {
        match self {
            Self::Pid => Namespaces::PID,
            Self::Network => Namespaces::NETWORK,
            Self::Mount => Namespaces::MOUNT,
            Self::Ipc => Namespaces::IPC,
            Self::Uts => Namespaces::UTS,
            Self::User => Namespaces::USER,
            Self::Cgroup => Namespaces::CGROUP,
            Self::Time => Namespaces::TIME,
        }
    }

    /// Its name in config.json.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pid => "pid",
            Self::Network => "network",
            Self::Mount => "mount",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::User => "user",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }

    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// The namespaces of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NamespacePlan {
    /// Those that are made.
    pub new: Namespaces,
    /// Those that are joined, in the order of joining.
    pub join: Vec<(NamespaceType, PathBuf)>,
    /// Ids of a new user namespace.
    pub users: Vec<LinuxIdMapping>,
    /// Ids of a new user namespace.
    pub groups: Vec<LinuxIdMapping>,
    /// Lines for `timens_offsets` of a new time namespace.
    pub time_offsets: String,
}

/// Why namespaces are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NamespacePlanError {
    /// No such type.
    #[error("namespace type {name:?} does not exist")]
    Unknown {
        /// As given.
        name: String,
    },
    /// A type twice.
    #[error("duplicated namespace {name:?}")]
    Twice {
        /// The type.
        name: &'static str,
    },
    /// The container would change the mounts of the host.
    #[error(
        "a container without a mount namespace of its own is not supported: add {{\"type\": \"mount\"}} to linux.namespaces"
    )]
    NoMount,
    /// A mount namespace cannot be joined by `create`.
    #[error("joining a mount namespace by path is not supported")]
    JoinMount,
    /// A new user namespace without ids.
    #[error("user namespaces enabled, but no uid mappings or no gid mappings found")]
    NoMappings,
    /// Ids without a user namespace.
    #[error("uid or gid mappings are given, but no new user namespace")]
    UnusedMappings,
    /// Something is set in a namespace that the container shares with the host.
    #[error("unable to set {field} without a new {kind} namespace")]
    Shared {
        /// The field of config.json.
        field: &'static str,
        /// The type.
        kind: &'static str,
    },
    /// A clock that cannot be shifted.
    #[error("time offset of unknown clock {clock:?}: only monotonic and boottime can be shifted")]
    Clock {
        /// As given.
        clock: String,
    },
}

impl NamespacePlan {
    /// Plans them; a path in `overrides` wins over what `linux.namespaces` says of that type.
    pub fn new(linux: &Linux, overrides: &[(NamespaceType, PathBuf)]) -> Result<Self, NamespacePlanError> {
        let mut plan = Self::default();
        let mut seen = Namespaces::empty();
        let mut join = overrides.to_vec();
        for namespace in &linux.namespaces {
            let kind = NamespaceType::of(&namespace.kind)
                .ok_or_else(|| NamespacePlanError::Unknown { name: namespace.kind.clone() })?;
            if seen.contains(kind.bit()) {
                return Err(NamespacePlanError::Twice { name: kind.name() });
            }
            seen = seen.with(kind.bit());
            if overrides.iter().any(|(other, _)| *other == kind) {
                continue;
            }
            if namespace.path.is_empty() {
                plan.new = plan.new.with(kind.bit());
            } else {
                join.push((kind, PathBuf::from(&namespace.path)));
            }
        }
        for kind in NamespaceType::ALL {
            plan.join.extend(join.iter().filter(|(other, _)| *other == kind).cloned());
        }
        if plan.joins(NamespaceType::Mount) {
            return Err(NamespacePlanError::JoinMount);
        }
        if !plan.new.contains(Namespaces::MOUNT) {
            return Err(NamespacePlanError::NoMount);
        }
        plan.take_mappings(linux)?;
        plan.take_time_offsets(linux)?;
        Ok(plan)
    }

    fn take_mappings(&mut self, linux: &Linux) -> Result<(), NamespacePlanError> {
        let is_empty = linux.uid_mappings.is_empty() || linux.gid_mappings.is_empty();
        if self.new.contains(Namespaces::USER) {
            if is_empty {
                return Err(NamespacePlanError::NoMappings);
            }
        } else if !is_empty && !self.joins(NamespaceType::User) {
            return Err(NamespacePlanError::UnusedMappings);
        }
        self.users.clone_from(&linux.uid_mappings);
        self.groups.clone_from(&linux.gid_mappings);
        Ok(())
    }

    fn take_time_offsets(&mut self, linux: &Linux) -> Result<(), NamespacePlanError> {
        for (clock, offset) in &linux.time_offsets {
            if !matches!(clock.as_str(), "monotonic" | "boottime") {
                return Err(NamespacePlanError::Clock { clock: clock.clone() });
            }
            if !self.new.contains(Namespaces::TIME) {
                return Err(NamespacePlanError::Shared { field: "timeOffsets", kind: "time" });
            }
            let (seconds, nanoseconds) = (offset.secs.unwrap_or(0), offset.nanosecs.unwrap_or(0));
            self.time_offsets += &format!("{clock} {seconds} {nanoseconds}\n");
        }
        Ok(())
    }

    /// Whether a namespace of this type is joined by path.
    pub fn joins(&self, kind: NamespaceType) -> bool {
        self.join.iter().any(|(other, _)| *other == kind)
    }

    /// Those that are not the runtime's own: new or joined.
    pub fn own(&self) -> Namespaces {
        self.join.iter().fold(self.new, |all, (kind, _)| all.with(kind.bit()))
    }

    /// Whether the container's ids are those of a user namespace.
    pub fn has_user(&self) -> bool {
        self.own().contains(Namespaces::USER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use carrack_oci_config::LinuxNamespace;

    fn linux(namespaces: &[(&str, &str)]) -> Linux {
        let one = |(kind, path): &(&str, &str)| LinuxNamespace { kind: (*kind).into(), path: (*path).into() };
        Linux { namespaces: namespaces.iter().map(one).collect(), ..Linux::default() }
    }

    #[test]
    fn user_is_joined_first_and_an_override_wins() {
        let config = linux(&[("mount", ""), ("network", "/n"), ("user", "/u"), ("ipc", ""), ("pid", "/p")]);
        let plan = NamespacePlan::new(&config, &[(NamespaceType::Ipc, "/i".into())]).unwrap();
        assert_eq!(plan.new, Namespaces::MOUNT);
        let order: Vec<_> = plan.join.iter().map(|(kind, path)| (kind.name(), path.to_str().unwrap())).collect();
        assert_eq!(order, [("user", "/u"), ("ipc", "/i"), ("network", "/n"), ("pid", "/p")]);
        assert!(plan.has_user());
    }

    #[test]
    fn wrong_namespaces_are_refused() {
        let error = |namespaces: &[(&str, &str)]| NamespacePlan::new(&linux(namespaces), &[]).unwrap_err();
        assert_eq!(error(&[("mount", ""), ("mount", "")]), NamespacePlanError::Twice { name: "mount" });
        assert_eq!(error(&[("net", "")]), NamespacePlanError::Unknown { name: "net".into() });
        assert_eq!(error(&[("pid", "")]), NamespacePlanError::NoMount);
        assert_eq!(error(&[("mount", "/x")]), NamespacePlanError::JoinMount);
        assert_eq!(error(&[("mount", ""), ("user", "")]), NamespacePlanError::NoMappings);
    }
}
