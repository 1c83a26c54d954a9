//! The top of config.json.

use std::collections::BTreeMap;

use crate::{Hooks, Linux, LinuxIdMapping, Process};

wire! {
    /// A whole `config.json`.
    pub struct Spec {
        opt {
            /// The version of the specification the bundle follows; nothing if absent, as with existing runtimes, though the specification wants it.
            oci_version: String,
            /// The first process; needed by `start`.
            process: Option<Process>,
            /// The root file system.
            root: Option<Root>,
            /// Host name in the UTS namespace.
            hostname: String,
            /// Domain name in the UTS namespace.
            domainname: String,
            /// Further mounts, in the order of mounting.
            mounts: Vec<Mount>,
            /// Programs run at points of the life cycle.
            hooks: Option<Hooks>,
            /// Free metadata, copied to the state.
            annotations: BTreeMap<String, String>,
            /// What only Linux has.
            linux: Option<Linux>,
            /// Carried, not applied on Linux.
            solaris: Option<serde_json::Value>,
            /// Carried, not applied on Linux.
            windows: Option<serde_json::Value>,
            /// Carried; for runtimes that start virtual machines.
            vm: Option<serde_json::Value>,
            /// Carried, not applied on Linux.
            zos: Option<serde_json::Value>,
            /// Carried, not applied on Linux.
            freebsd: Option<serde_json::Value>,
        }
    }

    /// The root file system.
    pub struct Root {
        req {
            /// Absolute, or relative to the bundle.
            path: String,
        }
        opt {
            /// Makes the root read-only.
            readonly: bool,
        }
    }

    /// One mount.
    pub struct Mount {
        req {
            /// Where, inside the container.
            destination: String,
        }
        opt {
            /// Type of file system; anything for a bind mount.
            #[serde(rename = "type")]
            kind: String,
            /// Device, path or label; a relative path starts at the bundle.
            source: String,
            /// Flags, propagation, and data of the file system.
            options: Vec<String>,
            /// Ids of this mount, together with `gid_mappings`.
            uid_mappings: Vec<LinuxIdMapping>,
            /// Ids of this mount, together with `uid_mappings`.
            gid_mappings: Vec<LinuxIdMapping>,
        }
    }
}

impl Spec {
    /// Parses a `config.json`.
    pub fn from_json(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_and_nulls_are_tolerated_and_absent_ones_are_not_written() {
        let text = br#"{"ociVersion":"1.0.2","future":{"x":1},"mounts":null,"process":{"cwd":"/","user":{"uid":1,"gid":2},"args":null},
            "linux":{"namespaces":[{"type":"pid"}],"uidMappings":[{"containerID":0,"hostID":5,"size":1}],
                     "resources":{"blockIO":{"throttleReadIOPSDevice":[{"major":1,"minor":2,"rate":3}]},"memory":{"disableOOMKiller":true,"kernelTCP":1}}}}"#;
        let spec = Spec::from_json(text).unwrap();
        assert_eq!(spec.process.as_ref().unwrap().user.gid, 2);
        let again = serde_json::to_string(&spec).unwrap();
        assert_eq!(
            again,
            concat!(
                r#"{"ociVersion":"1.0.2","process":{"user":{"uid":1,"gid":2},"cwd":"/"},"#,
                r#""linux":{"uidMappings":[{"containerID":0,"hostID":5,"size":1}],"#,
                r#""resources":{"memory":{"kernelTCP":1,"disableOOMKiller":true},"blockIO":{"throttleReadIOPSDevice":[{"major":1,"minor":2,"rate":3}]}},"#,
                r#""namespaces":[{"type":"pid"}]}}"#
            )
        );
        assert_eq!(Spec::from_json(again.as_bytes()).unwrap(), spec);
    }

    #[test]
    fn a_missing_required_field_is_named() {
        let error = Spec::from_json(br#"{"ociVersion":"1.0.2","root":{}}"#).unwrap_err();
        assert!(error.to_string().contains("path"), "{error}");
    }
}
