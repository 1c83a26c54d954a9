//! `linux.resources` of config.json, and the file that `update` takes.

use std::collections::BTreeMap;

wire! {
    /// Settings of the cgroup.
    pub struct LinuxResources {
        opt {
            /// Access rules for devices, in order.
            devices: Vec<LinuxDeviceCgroup>,
            /// Memory.
            memory: Option<LinuxMemory>,
            /// CPU time and CPU sets.
            cpu: Option<LinuxCpu>,
            /// Number of tasks.
            pids: Option<LinuxPids>,
            /// Block I/O.
            #[serde(rename = "blockIO")]
            block_io: Option<LinuxBlockIo>,
            /// Huge pages.
            hugepage_limits: Vec<LinuxHugepageLimit>,
            /// Network tags (version 1).
            network: Option<LinuxNetwork>,
            /// RDMA limits by device.
            rdma: BTreeMap<String, LinuxRdma>,
            /// Files of cgroup version 2, written as they are.
            unified: BTreeMap<String, String>,
        }
    }

    /// One access rule for devices.
    pub struct LinuxDeviceCgroup {
        req {
            /// Allow or deny.
            allow: bool,
        }
        opt {
            /// a, c or b; empty is a.
            #[serde(rename = "type")]
            kind: String,
            /// Absent means all.
            major: Option<i64>,
            /// Absent means all.
            minor: Option<i64>,
            /// Letters of rwm.
            access: String,
        }
    }

    /// Memory; bytes, -1 is unlimited.
    pub struct LinuxMemory {
        opt {
            /// The limit.
            limit: Option<i64>,
            /// The soft limit.
            reservation: Option<i64>,
            /// Memory plus swap.
            swap: Option<i64>,
            /// Old limit of kernel memory; ignored.
            kernel: Option<i64>,
            /// Old limit of kernel TCP memory.
            #[serde(rename = "kernelTCP")]
            kernel_tcp: Option<i64>,
            /// 0 to 100 (version 1).
            swappiness: Option<u64>,
            /// Switches the OOM killer off (version 1).
            #[serde(rename = "disableOOMKiller")]
            disable_oom_killer: Option<bool>,
            /// Hierarchical accounting (version 1).
            use_hierarchy: Option<bool>,
            /// Refuses a limit below the present use.
            check_before_update: Option<bool>,
        }
    }

    /// CPU time and CPU sets.
    pub struct LinuxCpu {
        opt {
            /// Relative weight on the scale of version 1, 2 to 262144.
            shares: Option<u64>,
            /// Microseconds of run time in a period.
            quota: Option<i64>,
            /// Microseconds on top, once.
            burst: Option<u64>,
            /// Period in microseconds.
            period: Option<u64>,
            /// Real-time microseconds in a period (version 1).
            realtime_runtime: Option<i64>,
            /// Real-time period in microseconds (version 1).
            realtime_period: Option<u64>,
            /// List of CPUs.
            cpus: String,
            /// List of memory nodes.
            mems: String,
            /// 1 marks the group idle.
            idle: Option<i64>,
        }
    }

    /// Number of tasks.
    pub struct LinuxPids {
        opt {
            /// The most tasks; -1 is unlimited.
            limit: Option<i64>,
        }
    }

    /// Block I/O.
    pub struct LinuxBlockIo {
        opt {
            /// Default weight, 10 to 1000.
            weight: Option<u16>,
            /// Weight against children (version 1).
            leaf_weight: Option<u16>,
            /// Weights by device.
            weight_device: Vec<LinuxWeightDevice>,
            /// Bytes read in a second.
            throttle_read_bps_device: Vec<LinuxThrottleDevice>,
            /// Bytes written in a second.
            throttle_write_bps_device: Vec<LinuxThrottleDevice>,
            /// Reads in a second.
            #[serde(rename = "throttleReadIOPSDevice")]
            throttle_read_iops_device: Vec<LinuxThrottleDevice>,
            /// Writes in a second.
            #[serde(rename = "throttleWriteIOPSDevice")]
            throttle_write_iops_device: Vec<LinuxThrottleDevice>,
        }
    }

    /// Weight of one device.
    pub struct LinuxWeightDevice {
        req {
            /// Major number.
            major: i64,
            /// Minor number.
            minor: i64,
        }
        opt {
            /// Weight.
            weight: Option<u16>,
            /// Weight against children (version 1).
            leaf_weight: Option<u16>,
        }
    }

    /// Limit of one device.
    pub struct LinuxThrottleDevice {
        req {
            /// Major number.
            major: i64,
            /// Minor number.
            minor: i64,
            /// Units in a second.
            rate: u64,
        }
    }

    /// Limit of one size of huge pages.
    pub struct LinuxHugepageLimit {
        req {
            /// Such as 2MB.
            page_size: String,
            /// Bytes.
            limit: u64,
        }
    }

    /// Network tags (version 1).
    pub struct LinuxNetwork {
        opt {
            /// Tag of net_cls.
            #[serde(rename = "classID")]
            class_id: Option<u32>,
            /// Priorities by interface.
            priorities: Vec<LinuxInterfacePriority>,
        }
    }

    /// Priority of one interface.
    pub struct LinuxInterfacePriority {
        req {
            /// Interface in the runtime's network namespace.
            name: String,
            /// Priority.
            priority: u32,
        }
    }

    /// RDMA limits of one device.
    pub struct LinuxRdma {
        opt {
            /// The most handles.
            hca_handles: Option<u32>,
            /// The most objects.
            hca_objects: Option<u32>,
        }
    }
}
