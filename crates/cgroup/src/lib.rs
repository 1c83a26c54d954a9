//! Creates, limits, reads and removes cgroups of version 1, 2 and hybrid hosts.
//!
//! ```text
//! Host::probe ──▶ Host::plan (pure) ──▶ Host::create ──▶ Group ──▶ enter_handles, freeze, kill_all, stats, update, remove
//! ```
//!
//! A host has one *layout*: every controller in hierarchies of version 1, all in one hierarchy of version 2, or some here and some
//! there. A [`Group`] is one path in all hierarchies of version 1, or in the one of version 2; on a hybrid host the version 2
//! hierarchy takes part only where a setting needs it. Every access goes through a handle on a hierarchy's root and stays below it.
//!
//! Sources: kernel documentation `admin-guide/cgroup-v1/` and `admin-guide/cgroup-v2.rst`; OCI runtime specification 1.3,
//! config-linux.md, "Control groups".

#![forbid(unsafe_code)]

mod below;
mod cpuset;
mod create;
mod device;
mod device_allowance;
mod device_program;
mod enter;
mod error;
mod file;
mod freezer;
mod group;
mod host;
mod oom;
mod path;
mod plan;
mod remove;
mod setting;
mod stats;
mod update;
mod v1;
mod v2;

pub use device::base_device_rules;
pub use device_allowance::device_allowances;
pub use device_program::device_program;
pub use enter::EnterHandles;
pub use error::{CgroupError, PlanError, RemoveError};
pub use group::Group;
pub use host::{Facts, Hierarchy, Host, Layout, Version};
pub use oom::OomWatch;
pub use path::{GroupPath, GroupPathError};
pub use plan::{Choice, MemberPlan, Plan, Step};
pub use stats::{CpuStats, IoStats, MemoryStats, PidsStats, Stats};
pub use update::ChangeError;
