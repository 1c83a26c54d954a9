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
        /// How the owners of its files look, if not as they are.
        ids: Option<MappedIds>,
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
pub struct MappedIds {
    /// Whether what is mounted below it is mapped too.
    pub depth: Depth,
    /// By what.
    pub by: Mappings,
}

/// From an id of the file system to one of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mappings {
    /// As in the container's user namespace: what looks like root's on the file system looks like root's inside.
    Container,
    /// As the mount says.
    Own {
        /// Of users.
        users: Vec<LinuxIdMapping>,
        /// Of groups.
        groups: Vec<LinuxIdMapping>,
    },
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

/// Plans all mounts; a relative source starts at the bundle. `has_user` tells whether the container has ids of its own.
pub fn plan_mounts(mounts: &[Mount], bundle: &Path, has_user: bool) -> Result<Vec<MountStep>, MountPlanError> {
    mounts.iter().map(|mount| plan_one(mount, bundle, has_user)).collect()
}

fn plan_one(mount: &Mount, bundle: &Path, has_user: bool) -> Result<MountStep, MountPlanError> {
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
            // Mappings alone ask for it too, as with runc.
            let mapped = options.idmap.or(has_mappings.then_some(Depth::One));
            let by = plan_mappings(mount, has_user);
            let contradiction = |why| MountPlanError::Contradiction { destination: destination.clone(), why };
            let ids = mapped.map(|depth| Ok(MappedIds { depth, by: by.map_err(contradiction)? })).transpose()?;
            MountKind::Bind { source: bundle.join(&mount.source), depth, ids }
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

fn plan_mappings(mount: &Mount, has_user: bool) -> Result<Mappings, &'static str> {
    match (mount.uid_mappings.is_empty(), mount.gid_mappings.is_empty()) {
        (true, true) if has_user => Ok(Mappings::Container),
        (true, true) => {
            Err("id-mapped mounts enabled but no mappings provided, and the container has no user namespace")
        }
        (false, false) => Ok(Mappings::Own { users: mount.uid_mappings.clone(), groups: mount.gid_mappings.clone() }),
        _ => Err("an id-mapped mount needs both uidMappings and gidMappings"),
    }
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
            let step = plan_one(&mount("/x", kind, "data", options), bundle, false).unwrap();
            assert_eq!(step.what, MountKind::Bind { source: "/b/data".into(), depth: want, ids: None });
        }
    }

    #[test]
    fn a_file_system_without_source_is_labelled_by_its_type() {
        let step = plan_one(&mount("/t", "tmpfs", "", &["size=1k"]), Path::new("/b"), false).unwrap();
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
            (
                mount("/x", "bind", "y", &["idmap"]),
                "mount /x: id-mapped mounts enabled but no mappings provided, and the container has no user namespace",
            ),
            (
                Mount { uid_mappings: vec![LinuxIdMapping::default()], ..mount("/x", "bind", "y", &["idmap"]) },
                "mount /x: an id-mapped mount needs both uidMappings and gidMappings",
            ),
        ] {
            assert_eq!(plan_one(&bad, Path::new("/b"), false).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn ids_are_mapped_by_the_mounts_own_mappings_or_the_containers() {
        let own = vec![LinuxIdMapping { container_id: 0, host_id: 5, size: 1 }];
        let with = |options: &[&str]| Mount {
            uid_mappings: own.clone(),
            gid_mappings: own.clone(),
            ..mount("/x", "bind", "y", options)
        };
        let by_own = || Mappings::Own { users: own.clone(), groups: own.clone() };
        for (mount, want) in [
            (with(&[]), MappedIds { depth: Depth::One, by: by_own() }),
            (with(&["rbind", "idmap"]), MappedIds { depth: Depth::One, by: by_own() }),
            (with(&["rbind", "ridmap"]), MappedIds { depth: Depth::All, by: by_own() }),
            (mount("/x", "bind", "y", &["ridmap"]), MappedIds { depth: Depth::All, by: Mappings::Container }),
        ] {
            let step = plan_one(&mount, Path::new("/b"), true).unwrap();
            assert!(matches!(step.what, MountKind::Bind { ids: Some(ids), .. } if ids == want), "{mount:?}");
        }
    }

    #[test]
    fn dev_of_the_host_is_recognised() {
        let plan =
            |destination| plan_mounts(&[mount(destination, "bind", "/dev", &[])], Path::new("/b"), false).unwrap();
        assert!(binds_dev(&plan("/dev")) && binds_dev(&plan("/dev/")));
        assert!(!binds_dev(&plan("/dev/shm")));
    }
}
