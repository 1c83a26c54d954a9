//! Plans the mounts of a container's root file system.
//!
//! Turns `mounts` of config.json (config.md, "Mounts") into [`MountStep`]s, in the listed order as the specification demands. Pure. A
//! destination stays a path here; it is resolved inside the root when the step is applied.

use std::path::{Path, PathBuf};

use carrack_oci_config::{LinuxIdMapping, Mount};
use carrack_sys::mount_attr::Depth;

use crate::plan::mount_option::MountOptions;

/// One mount to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountStep {
    /// Path in the container.
    pub destination: String,
    /// What is mounted there.
    pub what: MountKind,
    /// How.
    pub options: MountOptions,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// Something of the host.
    Bind {
        /// Path on the host.
        source: PathBuf,
        /// Whether what is mounted below it comes along.
        depth: Depth,
        /// Maps ids by these; empty means by the container's user namespace, if `options.idmap` is set at all.
        mappings: Option<Mappings>,
    },
    /// A file system.
    FileSystem {
        /// Its type.
        kind: String,
        /// What it is made from, or its label.
        source: String,
    },
    /// The container's own cgroups, whatever version the host has.
    Cgroups,
}

/// Ids of one mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mappings {
    /// Of users.
    pub users: Vec<LinuxIdMapping>,
    /// Of groups.
    pub groups: Vec<LinuxIdMapping>,
}

/// Why a mount is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountPlanError {
    /// A bind mount of nothing.
    #[error("mount {destination}: a bind mount needs a source")]
    NoSource {
        /// Where.
        destination: String,
    },
    /// Neither a type nor `bind`.
    #[error("mount {destination}: neither a type nor the option bind is given")]
    NoType {
        /// Where.
        destination: String,
    },
    /// An option that makes no sense with another.
    #[error("mount {destination}: {why}")]
    Contradiction {
        /// Where.
        destination: String,
        /// What does not fit.
        why: &'static str,
    },
}

/// Plans all mounts; a relative source starts at the bundle.
pub fn plan_mounts(mounts: &[Mount], bundle: &Path) -> Result<Vec<MountStep>, MountPlanError> {
    mounts.iter().map(|mount| plan_one(mount, bundle)).collect()
}

fn plan_one(mount: &Mount, bundle: &Path) -> Result<MountStep, MountPlanError> {
    let options = MountOptions::parse(&mount.options);
    let destination = mount.destination.clone();
    if options.copy_up && mount.kind != "tmpfs" {
        return Err(MountPlanError::Contradiction { destination, why: "tmpcopyup is only for a tmpfs" });
    }
    let has_mappings = !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty();
    let depth = match (options.bind, mount.kind.as_str()) {
        (Some(depth), _) => Some(depth),
        (None, "bind") => Some(Depth::One),
        (None, "rbind") => Some(Depth::All),
        (None, _) => None,
    };
    let what = match (depth, mount.kind.as_str()) {
        (Some(depth), _) => {
            if mount.source.is_empty() {
                return Err(MountPlanError::NoSource { destination });
            }
            let mappings = (has_mappings || options.idmap.is_some())
                .then(|| Mappings { users: mount.uid_mappings.clone(), groups: mount.gid_mappings.clone() });
            MountKind::Bind { source: bundle.join(&mount.source), depth, mappings }
        }
        (None, _) if has_mappings || options.idmap.is_some() => {
            return Err(MountPlanError::Contradiction { destination, why: "only a bind mount can have mapped ids" });
        }
        (None, "") => return Err(MountPlanError::NoType { destination }),
        (None, "cgroup" | "cgroup2") => MountKind::Cgroups,
        (None, kind) => {
            let source = if mount.source.is_empty() { kind } else { &mount.source };
            MountKind::FileSystem { kind: kind.to_owned(), source: source.to_owned() }
        }
    };
    Ok(MountStep { destination, what, options })
}

/// Whether `/dev` comes from the host as a whole, so that no nodes and links are made in it.
pub fn binds_dev(steps: &[MountStep]) -> bool {
    steps
        .iter()
        .any(|step| matches!(step.what, MountKind::Bind { .. }) && step.destination.trim_end_matches('/') == "/dev")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
        Mount {
            destination: destination.into(),
            kind: kind.into(),
            source: source.into(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            ..Mount::default()
        }
    }

    #[test]
    fn the_type_or_an_option_makes_a_bind_mount_and_a_relative_source_starts_at_the_bundle() {
        let bundle = Path::new("/b");
        for (kind, options, want) in [
            ("bind", &[][..], Depth::One),
            ("none", &["bind"], Depth::One),
            ("", &["rbind"], Depth::All),
            ("bind", &["rbind", "ro"], Depth::All),
        ] {
            let step = plan_one(&mount("/x", kind, "data", options), bundle).unwrap();
            assert_eq!(step.what, MountKind::Bind { source: "/b/data".into(), depth: want, mappings: None });
        }
    }

    #[test]
    fn a_file_system_without_source_is_labelled_by_its_type() {
        let step = plan_one(&mount("/t", "tmpfs", "", &["size=1k"]), Path::new("/b")).unwrap();
        assert_eq!(step.what, MountKind::FileSystem { kind: "tmpfs".into(), source: "tmpfs".into() });
        assert_eq!(step.options.data, ["size=1k"]);
    }

    #[test]
    fn wrong_mounts_are_refused_with_their_place() {
        for (bad, text) in [
            (mount("/x", "bind", "", &[]), "mount /x: a bind mount needs a source"),
            (mount("/x", "", "y", &[]), "mount /x: neither a type nor the option bind is given"),
            (mount("/x", "proc", "", &["tmpcopyup"]), "mount /x: tmpcopyup is only for a tmpfs"),
            (mount("/x", "tmpfs", "", &["idmap"]), "mount /x: only a bind mount can have mapped ids"),
        ] {
            assert_eq!(plan_one(&bad, Path::new("/b")).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn dev_of_the_host_is_recognised() {
        let plan = |destination| plan_mounts(&[mount(destination, "bind", "/dev", &[])], Path::new("/b")).unwrap();
        assert!(binds_dev(&plan("/dev")) && binds_dev(&plan("/dev/")));
        assert!(!binds_dev(&plan("/dev/shm")));
    }
}
