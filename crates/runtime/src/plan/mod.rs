//! What config.json asks for, checked and put in order, before anything is done.
//!
//! Pure: a [`Plan`] is made from the configuration and the [`HostFacts`]. What this runtime does not offer is refused here by name, never ignored.

pub mod capability;
pub mod device;
pub mod memory_policy;
pub mod mount;
pub mod mount_option;
pub mod namespace;
pub mod net_device;
pub mod number_set;
pub mod process;
pub mod rlimit;
pub mod sysctl;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use carrack_oci_config::{Hooks, LinuxIntelRdt, LinuxResources, LinuxSeccomp, Spec};
use carrack_sys::mount_attr::Depth;
use carrack_sys::namespace::Namespaces;
use carrack_words::{ContainerId, Kind};

use crate::facts::HostFacts;
use crate::plan::device::{DevicePlanError, DeviceStep, plan_devices};
use crate::plan::mount::{MountPlanError, MountStep, binds_dev, plan_mounts};
use crate::plan::mount_option::MountOptions;
use crate::plan::namespace::{NamespacePlan, NamespacePlanError};
use crate::plan::net_device::{NetDevicePlanError, NetDeviceStep, plan_net_devices};
use crate::plan::process::{ProcessPlan, ProcessPlanError, Shared};
use crate::plan::sysctl::{Sysctl, SysctlError, plan_sysctls};
use crate::stage::{NamespaceType, Rootfs};

/// The root file system of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootPlan {
    /// Where it comes from.
    pub source: RootSource,
    /// Made read-only at the end.
    pub readonly: bool,
    /// Propagation of its mount.
    pub propagation: Vec<(u64, Depth)>,
}

/// Where the root file system comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootSource {
    /// A directory of the host.
    Directory(PathBuf),
    /// An overlay of directories of the host.
    Overlay {
        /// The topmost first.
        lowers: Vec<PathBuf>,
        /// What is written.
        upper: PathBuf,
        /// Overlayfs's own.
        work: PathBuf,
        /// Never synced.
        volatile: bool,
    },
}

/// A container, decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Its root.
    pub root: RootPlan,
    /// Its namespaces.
    pub namespaces: NamespacePlan,
    /// Its mounts, in order.
    pub mounts: Vec<MountStep>,
    /// Its device nodes; `None` if `/dev` is the host's.
    pub devices: Option<Vec<DeviceStep>>,
    /// SELinux label of everything in the file systems that are made for it, or empty.
    pub mount_label: String,
    /// Hidden paths.
    pub masked_paths: Vec<String>,
    /// Read-only paths.
    pub readonly_paths: Vec<String>,
    /// Kernel parameters.
    pub sysctls: Vec<Sysctl>,
    /// Network devices that move in.
    pub net_devices: Vec<NetDeviceStep>,
    /// Host name, or empty.
    pub hostname: String,
    /// Domain name, or empty.
    pub domainname: String,
    /// Its process.
    pub process: ProcessPlan,
    /// Its hooks.
    pub hooks: Hooks,
    /// Metadata for the state.
    pub annotations: BTreeMap<String, String>,
    /// The cgroup as config.json spells it, or empty.
    pub cgroups_path: String,
    /// Limits of the cgroup.
    pub resources: LinuxResources,
    /// Shares of cache and memory bandwidth.
    pub intel_rdt: Option<LinuxIntelRdt>,
    /// The filter of system calls.
    pub seccomp: Option<LinuxSeccomp>,
}

/// Why config.json is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A field that must be there.
    #[error("config.json: {field} must not be empty")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// A field that this runtime does not offer.
    #[error("config.json: {field} is not supported here")]
    Unsupported {
        /// The field.
        field: &'static str,
    },
    /// A field with a value we do not know.
    #[error("config.json: invalid {field}: {value:?}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// As given.
        value: String,
    },
    /// Namespaces.
    #[error(transparent)]
    Namespace(#[from] NamespacePlanError),
    /// Mounts.
    #[error(transparent)]
    Mount(#[from] MountPlanError),
    /// Devices.
    #[error(transparent)]
    Device(#[from] DevicePlanError),
    /// Network devices.
    #[error(transparent)]
    NetDevice(#[from] NetDevicePlanError),
    /// Kernel parameters.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// The process.
    #[error(transparent)]
    Process(#[from] ProcessPlanError),
}

impl PlanError {
    /// Its class.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Unsupported { .. } | Self::Namespace(NamespacePlanError::NoMount | NamespacePlanError::JoinMount) => {
                Kind::Unsupported
            }
            _ => Kind::Invalid,
        }
    }
}

/// What of a request, besides config.json, a plan depends on.
#[derive(Debug, Clone, Copy)]
pub struct PlanRequest<'a> {
    /// The container.
    pub id: &'a ContainerId,
    /// Absolute path of the bundle.
    pub bundle: &'a Path,
    /// Where the root comes from.
    pub rootfs: &'a Rootfs,
    /// Namespaces to join instead.
    pub join: &'a [(NamespaceType, PathBuf)],
}

impl Plan {
    /// Decides about a whole config.json.
    pub fn new(spec: Spec, request: PlanRequest<'_>, facts: &HostFacts) -> Result<Self, PlanError> {
        let warning = foreign_version(&spec.oci_version);
        if spec.vm.is_some() {
            return Err(PlanError::Unsupported { field: "vm" });
        }
        let linux = spec.linux.unwrap_or_default();
        let namespaces = NamespacePlan::new(&linux, request.join)?;
        let own = namespaces.own();
        for (field, value) in [("hostname", &spec.hostname), ("domainname", &spec.domainname)] {
            if !value.is_empty() && !own.contains(Namespaces::UTS) {
                return Err(NamespacePlanError::Shared { field, kind: "UTS" }.into());
            }
        }
        let process = spec.process.ok_or(PlanError::Missing { field: "process" })?;
        // In a user namespace of its own a process has every capability, however few we have.
        let available = if namespaces.has_user() { capability::KNOWN } else { facts.capabilities };
        let mounts = plan_mounts(&spec.mounts, request.bundle, namespaces.has_user())?;
        let devices = if binds_dev(&mounts) { None } else { Some(plan_devices(&linux.devices)?) };
        let root = plan_root(spec.root, request, &linux.rootfs_propagation)?;
        let shared = Shared { personality: linux.personality.as_ref(), memory_policy: linux.memory_policy.as_ref() };
        let mut planned = ProcessPlan::new(&process, shared, available)?;
        planned.warnings.extend(warning);
        Ok(Self {
            root,
            sysctls: plan_sysctls(&linux.sysctl, own)?,
            net_devices: plan_net_devices(&linux.net_devices, own.contains(Namespaces::NETWORK))?,
            namespaces,
            mounts,
            devices,
            mount_label: linux.mount_label,
            masked_paths: linux.masked_paths,
            readonly_paths: linux.readonly_paths,
            hostname: spec.hostname,
            domainname: spec.domainname,
            process: planned,
            hooks: spec.hooks.unwrap_or_default(),
            annotations: spec.annotations,
            cgroups_path: linux.cgroups_path,
            resources: in_todays_words(linux.resources.unwrap_or_default(), &spec.oci_version),
            intel_rdt: linux.intel_rdt,
            seccomp: linux.seccomp,
        })
    }
}

/// The first two numbers of a version.
fn version_numbers(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split(['.', '-', '+']).map(|part| part.parse().ok());
    Some((numbers.next()??, numbers.next().flatten().unwrap_or(0)))
}

/// Existing runtimes take every version, and none. Only the first number matters: the specification promises that 1.x stays compatible.
fn foreign_version(version: &str) -> Option<String> {
    match version_numbers(version) {
        Some((0 | 1, _)) => None,
        None if version.is_empty() => None,
        _ => Some(format!(
            "config.json: ociVersion {version:?} is unknown here; it is read as {}",
            carrack_oci_config::VERSION
        )),
    }
}

/// Limits as the present version of the specification puts them. Until 1.3 a limit of 0 tasks was written by programs that had none to give.
pub fn in_todays_words(mut resources: LinuxResources, version: &str) -> LinuxResources {
    if version_numbers(version).is_none_or(|version| version < (1, 3)) {
        resources.pids = resources.pids.filter(|pids| pids.limit != Some(0));
    }
    resources
}

fn plan_root(
    root: Option<carrack_oci_config::Root>,
    request: PlanRequest<'_>,
    propagation: &str,
) -> Result<RootPlan, PlanError> {
    let readonly = root.as_ref().is_some_and(|root| root.readonly);
    let source = match request.rootfs {
        Rootfs::Config => match root {
            Some(root) if !root.path.is_empty() => RootSource::Directory(request.bundle.join(root.path)),
            _ => return Err(PlanError::Missing { field: "root.path" }),
        },
        Rootfs::Overlay { lowers, upper, work, volatile } => {
            if lowers.is_empty() {
                return Err(PlanError::Missing { field: "lowers of the root overlay" });
            }
            RootSource::Overlay {
                lowers: lowers.clone(),
                upper: upper.clone(),
                work: work.clone(),
                volatile: *volatile,
            }
        }
    };
    let options = if propagation.is_empty() { vec![] } else { vec![propagation] };
    let parsed = MountOptions::parse(&options);
    if parsed.propagation.len() != options.len() {
        return Err(PlanError::Invalid { field: "linux.rootfsPropagation", value: propagation.to_owned() });
    }
    // The word is about the whole tree, with or without its r.
    let propagation = parsed.propagation.into_iter().map(|(bit, _)| (bit, Depth::All)).collect();
    Ok(RootPlan { source, readonly, propagation })
}

#[cfg(test)]
mod tests {
    use super::*;
    use carrack_sys::signal::SignalSet;

    fn plan(json: &str) -> Result<Plan, PlanError> {
        let spec = Spec::from_json(json.as_bytes()).unwrap();
        let id = ContainerId::new("c").unwrap();
        let request = PlanRequest { id: &id, bundle: Path::new("/b"), rootfs: &Rootfs::Config, join: &[] };
        Plan::new(spec, request, &HostFacts { capabilities: 0, bounding: 0, ignored_signals: SignalSet::NONE })
    }

    const PROCESS: &str = r#""process":{"cwd":"/","user":{"uid":0,"gid":0},"args":["x"]},"root":{"path":"rootfs"}"#;

    fn with(linux: &str, rest: &str) -> String {
        format!(r#"{{"ociVersion":"1.0.2",{PROCESS},"linux":{{"namespaces":[{{"type":"mount"}}]{linux}}}{rest}}}"#)
    }

    #[test]
    fn the_smallest_container_has_a_root_below_its_bundle_and_the_default_devices() {
        let plan = plan(&with("", "")).unwrap();
        assert_eq!(plan.root.source, RootSource::Directory("/b/rootfs".into()));
        assert_eq!(plan.devices.unwrap().len(), 6);
    }

    #[test]
    fn what_is_not_offered_is_refused_by_name() {
        for (linux, rest, text) in [
            ("", r#","vm":{}"#, "config.json: vm is not supported here"),
            (r#","netDevices":{"eth0":{}}"#, "", "unable to move network devices without a NET namespace"),
            ("", r#","hostname":"x""#, "unable to set hostname without a new UTS namespace"),
            (r#","rootfsPropagation":"ro""#, "", "config.json: invalid linux.rootfsPropagation: \"ro\""),
            (r#","sysctl":{"kernel.panic":"1"}"#, "", "sysctl \"kernel.panic\" is not in a separate kernel namespace"),
        ] {
            assert_eq!(plan(&with(linux, rest)).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn every_version_is_taken_and_an_unknown_one_told() {
        let warnings = |version: &str| plan(&with("", "").replace("\"1.0.2\"", version)).unwrap().process.warnings;
        for version in ["\"1.0\"", "\"1.9.9\"", "\"0.5.0\"", "\"1.0.0-rc5+x\"", "\"\"", "null", "\"1\""] {
            assert_eq!(warnings(version), Vec::<String>::new(), "{version}");
        }
        for version in ["\"2.0.0\"", "\"abc\"", "\"v1.0\""] {
            assert_eq!(
                warnings(version),
                [format!("config.json: ociVersion {version} is unknown here; it is read as 1.3.0")]
            );
        }
    }

    #[test]
    fn no_tasks_at_all_means_so_only_since_the_specification_says_it() {
        let limit = |version: &str| {
            let text = with(r#","resources":{"pids":{"limit":0}}"#, "").replace("1.0.2", version);
            plan(&text).unwrap().resources.pids.and_then(|pids| pids.limit)
        };
        for (version, want) in
            [("1.0.2", None), ("1.2.1-dev", None), ("", None), ("1.3.0", Some(0)), ("1.10.0", Some(0))]
        {
            assert_eq!(limit(version), want, "{version}");
        }
    }

    #[test]
    fn a_root_that_is_shared_is_so_with_its_whole_tree() {
        let plan = plan(&with(r#","rootfsPropagation":"shared""#, "")).unwrap();
        assert_eq!(plan.root.propagation, [(1 << 20, Depth::All)]);
    }
}
