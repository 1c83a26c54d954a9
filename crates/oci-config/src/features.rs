//! What a runtime offers (features.md).

use std::collections::BTreeMap;

wire! {
    /// What `features` prints.
    pub struct Features {
        req {
            /// Oldest version of the specification understood.
            oci_version_min: String,
            /// Newest version of the specification understood.
            oci_version_max: String,
        }
        opt {
            /// Names of hooks.
            hooks: Vec<String>,
            /// Mount options that have a meaning of their own.
            mount_options: Vec<String>,
            /// What only Linux has.
            linux: Option<LinuxFeatures>,
            /// Free metadata.
            annotations: BTreeMap<String, String>,
            /// Annotations of config.json that change behaviour; a trailing dot marks a prefix.
            potentially_unsafe_config_annotations: Vec<String>,
        }
    }

    /// What only Linux has.
    pub struct LinuxFeatures {
        opt {
            /// Types of namespaces.
            namespaces: Vec<String>,
            /// Names of capabilities.
            capabilities: Vec<String>,
            /// Cgroups.
            cgroup: Option<CgroupFeature>,
            /// System call filters.
            seccomp: Option<SeccompFeature>,
            /// AppArmor.
            apparmor: Option<AppArmorFeature>,
            /// SELinux.
            selinux: Option<SelinuxFeature>,
            /// Resctrl.
            intel_rdt: Option<IntelRdtFeature>,
            /// NUMA memory policy.
            memory_policy: Option<MemoryPolicyFeature>,
            /// Mount extensions.
            mount_extensions: Option<MountExtensions>,
            /// Network devices.
            net_devices: Option<NetDevicesFeature>,
        }
    }

    /// Cgroups.
    pub struct CgroupFeature {
        opt {
            /// Version 1.
            v1: Option<bool>,
            /// Version 2.
            v2: Option<bool>,
            /// Through systemd.
            systemd: Option<bool>,
            /// Through a user's systemd.
            systemd_user: Option<bool>,
            /// The rdma controller.
            rdma: Option<bool>,
        }
    }

    /// System call filters.
    pub struct SeccompFeature {
        opt {
            /// Offered at all.
            enabled: Option<bool>,
            /// Names of actions.
            actions: Vec<String>,
            /// Names of operators.
            operators: Vec<String>,
            /// Names of architectures.
            archs: Vec<String>,
            /// Flags the runtime knows.
            known_flags: Vec<String>,
            /// Flags the kernel takes too.
            supported_flags: Vec<String>,
        }
    }

    /// AppArmor.
    pub struct AppArmorFeature {
        opt {
            /// Offered at all.
            enabled: Option<bool>,
        }
    }

    /// SELinux.
    pub struct SelinuxFeature {
        opt {
            /// Offered at all.
            enabled: Option<bool>,
        }
    }

    /// Resctrl.
    pub struct IntelRdtFeature {
        opt {
            /// Offered at all.
            enabled: Option<bool>,
            /// The field `schemata`.
            schemata: Option<bool>,
            /// The field `enableMonitoring`.
            monitoring: Option<bool>,
        }
    }

    /// NUMA memory policy.
    pub struct MemoryPolicyFeature {
        opt {
            /// Names of modes.
            modes: Vec<String>,
            /// Names of flags.
            flags: Vec<String>,
        }
    }

    /// Mount extensions.
    pub struct MountExtensions {
        opt {
            /// Mounts with mapped ids.
            idmap: Option<IdMapFeature>,
        }
    }

    /// Mounts with mapped ids.
    pub struct IdMapFeature {
        opt {
            /// Offered at all.
            enabled: Option<bool>,
        }
    }

    /// Network devices.
    pub struct NetDevicesFeature {
        opt {
            /// Offered at all.
            enabled: Option<bool>,
        }
    }
}
