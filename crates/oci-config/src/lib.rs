//! The wire types of the OCI runtime specification: config.json, state and features.
//!
//! Source: OCI runtime specification 1.3, config.md, config-linux.md, runtime.md, features.md. Wire types follow it to the letter:
//! field names are its names, values are not judged. Unknown fields are ignored, as the specification demands. Names of
//! capabilities, limits, actions and so on stay text, because runtimes differ in which unknown ones they only warn about; whoever
//! uses them checks them. `null` stands for an absent value, since programs written in Go print empty lists so.

#![forbid(unsafe_code)]

#[macro_use]
mod wire;

mod features;
mod hooks;
mod linux;
mod process;
mod resources;
mod seccomp;
mod spec;
mod state;

pub use features::{
    AppArmorFeature, CgroupFeature, Features, IdMapFeature, IntelRdtFeature, LinuxFeatures, MemoryPolicyFeature,
    MountExtensions, NetDevicesFeature, SeccompFeature, SelinuxFeature,
};
pub use hooks::{Hook, Hooks};
pub use linux::{
    Linux, LinuxDevice, LinuxIdMapping, LinuxIntelRdt, LinuxMemoryPolicy, LinuxNamespace, LinuxNetDevice,
    LinuxPersonality, LinuxTimeOffset,
};
pub use process::{
    ConsoleSize, CpuAffinity, LinuxCapabilities, LinuxIoPriority, PosixRlimit, Process, Scheduler, User,
};
pub use resources::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxHugepageLimit, LinuxInterfacePriority, LinuxMemory, LinuxNetwork,
    LinuxPids, LinuxRdma, LinuxResources, LinuxThrottleDevice, LinuxWeightDevice,
};
pub use seccomp::{LinuxSeccomp, LinuxSeccompArg, LinuxSyscall};
pub use spec::{Mount, Root, Spec};
pub use state::{ContainerProcessState, State, Status};

/// The version of the specification these types follow.
pub const VERSION: &str = "1.3.0";
