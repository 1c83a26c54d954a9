//! `linux` of config.json.

use std::collections::BTreeMap;

use crate::{LinuxResources, LinuxSeccomp};

wire! {
    /// What only Linux has.
    pub struct Linux {
        opt {
            /// User ids of the user namespace.
            uid_mappings: Vec<LinuxIdMapping>,
            /// Group ids of the user namespace.
            gid_mappings: Vec<LinuxIdMapping>,
            /// Kernel parameters that belong to a namespace of the container.
            sysctl: BTreeMap<String, String>,
            /// Settings of the cgroup.
            resources: Option<LinuxResources>,
            /// Where the cgroup is.
            cgroups_path: String,
            /// New or joined namespaces, each type at most once.
            namespaces: Vec<LinuxNamespace>,
            /// Device nodes to provide.
            devices: Vec<LinuxDevice>,
            /// Network devices to move in, by their name on the host.
            net_devices: BTreeMap<String, LinuxNetDevice>,
            /// The filter of system calls.
            seccomp: Option<LinuxSeccomp>,
            /// Propagation of the root mount: shared, slave, private or unbindable.
            rootfs_propagation: String,
            /// Paths hidden inside.
            masked_paths: Vec<String>,
            /// Paths made read-only inside.
            readonly_paths: Vec<String>,
            /// SELinux context of mounts.
            mount_label: String,
            /// Settings of resctrl.
            intel_rdt: Option<LinuxIntelRdt>,
            /// NUMA memory policy.
            memory_policy: Option<LinuxMemoryPolicy>,
            /// Execution domain.
            personality: Option<LinuxPersonality>,
            /// Offsets of the time namespace, by clock: monotonic or boottime.
            time_offsets: BTreeMap<String, LinuxTimeOffset>,
        }
    }

    /// One namespace.
    pub struct LinuxNamespace {
        req {
            /// pid, network, mount, ipc, uts, user, cgroup or time.
            #[serde(rename = "type")]
            kind: String,
        }
        opt {
            /// The file to join; empty makes a new one.
            path: String,
        }
    }

    /// A range of ids.
    pub struct LinuxIdMapping {
        req {
            /// First id inside.
            #[serde(rename = "containerID")]
            container_id: u32,
            /// First id outside.
            #[serde(rename = "hostID")]
            host_id: u32,
            /// How many.
            size: u32,
        }
    }

    /// Offset of one clock.
    pub struct LinuxTimeOffset {
        opt {
            /// Seconds.
            secs: Option<i64>,
            /// Nanoseconds.
            nanosecs: Option<u32>,
        }
    }

    /// One device node.
    pub struct LinuxDevice {
        req {
            /// Full path in the container.
            path: String,
            /// c, b, u or p.
            #[serde(rename = "type")]
            kind: String,
        }
        opt {
            /// Major number; not for p.
            major: Option<i64>,
            /// Minor number; not for p.
            minor: Option<i64>,
            /// Permission bits.
            file_mode: Option<u32>,
            /// Owner in the container.
            uid: Option<u32>,
            /// Group in the container.
            gid: Option<u32>,
        }
    }

    /// A network device that moves into the container.
    pub struct LinuxNetDevice {
        opt {
            /// Its new name; absent keeps the old one.
            name: String,
        }
    }

    /// Settings of resctrl.
    pub struct LinuxIntelRdt {
        opt {
            /// Name of the class; `/` is the default class.
            #[serde(rename = "closID")]
            clos_id: String,
            /// Lines written last.
            schemata: Vec<String>,
            /// Line written first.
            #[serde(rename = "l3CacheSchema")]
            l3_cache_schema: String,
            /// Line written second.
            mem_bw_schema: String,
            /// Makes a monitoring group.
            enable_monitoring: bool,
        }
    }

    /// NUMA memory policy (set_mempolicy(2)).
    pub struct LinuxMemoryPolicy {
        req {
            /// Name, such as `MPOL_BIND`.
            mode: String,
        }
        opt {
            /// List of nodes.
            nodes: String,
            /// Names, such as `MPOL_F_STATIC_NODES`.
            flags: Vec<String>,
        }
    }

    /// Execution domain (personality(2)).
    pub struct LinuxPersonality {
        req {
            /// LINUX or LINUX32.
            domain: String,
        }
        opt {
            /// None is defined.
            flags: Vec<String>,
        }
    }
}
