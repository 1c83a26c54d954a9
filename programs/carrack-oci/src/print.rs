//! Answers in runc's forms: state, lists, features, version, an example configuration.

use carrack_oci_config::{
    AppArmorFeature, CgroupFeature, Features, IdMapFeature, IntelRdtFeature, LinuxFeatures, MemoryPolicyFeature,
    MountExtensions, NetDevicesFeature, SeccompFeature, SelinuxFeature, State,
};
use carrack_runtime::NamespaceType;
use carrack_runtime::plan::capability;
use carrack_runtime::plan::memory_policy;
use carrack_runtime::plan::mount_option;
use serde_json::{Value, json};

/// What `--version` prints.
pub fn version() -> String {
    format!("carrack-oci version {}\nspec: {}\n", env!("CARGO_PKG_VERSION"), carrack_oci_config::VERSION)
}

/// A table in columns as wide as their widest entry, with three blanks between, as runc's.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|text| text.len()).collect();
    for row in rows {
        for (width, text) in widths.iter_mut().zip(row) {
            *width = (*width).max(text.len());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> = cells.iter().zip(&widths).map(|(text, width)| format!("{text:<width$}")).collect();
        format!("{}\n", padded.join("   ").trim_end())
    };
    let mut text = line(header.to_vec());
    for row in rows {
        text += &line(row.iter().map(String::as_str).collect());
    }
    text
}

/// What `list` prints.
pub fn list(states: &[State]) -> String {
    let rows: Vec<_> = states
        .iter()
        .map(|state| {
            vec![
                state.id.clone(),
                state.pid.to_string(),
                state.status.to_string(),
                state.bundle.clone(),
                state.created.clone(),
                state.owner.clone().unwrap_or_default(),
            ]
        })
        .collect();
    table(&["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"], &rows)
}

fn texts<T: Into<String>>(list: impl IntoIterator<Item = T>) -> Vec<String> {
    list.into_iter().map(Into::into).collect()
}

/// What `features` prints.
pub fn features() -> Features {
    Features {
        oci_version_min: "1.0.0".into(),
        oci_version_max: carrack_oci_config::VERSION.into(),
        hooks: texts(["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]),
        mount_options: texts(mount_option::names()),
        linux: Some(LinuxFeatures {
            namespaces: texts(NamespaceType::ALL.map(NamespaceType::name)),
            capabilities: capability::names().collect(),
            cgroup: Some(CgroupFeature {
                v1: Some(true),
                v2: Some(true),
                systemd: Some(true),
                systemd_user: Some(false),
                rdma: Some(true),
            }),
            seccomp: Some(SeccompFeature {
                enabled: Some(true),
                actions: texts(carrack_seccomp::known_actions()),
                operators: texts(carrack_seccomp::known_operators()),
                archs: texts(carrack_seccomp::known_architectures()),
                known_flags: texts(carrack_seccomp::known_flags()),
                supported_flags: texts(supported_flags()),
            }),
            apparmor: Some(AppArmorFeature { enabled: Some(true) }),
            selinux: Some(SelinuxFeature { enabled: Some(true) }),
            intel_rdt: Some(IntelRdtFeature { enabled: Some(true), schemata: Some(true), monitoring: Some(true) }),
            memory_policy: Some(MemoryPolicyFeature {
                modes: texts(memory_policy::MODES),
                flags: texts(memory_policy::FLAGS),
            }),
            mount_extensions: Some(MountExtensions { idmap: Some(IdMapFeature { enabled: Some(true) }) }),
            net_devices: Some(NetDevicesFeature { enabled: Some(true) }),
        }),
        annotations: [
            ("org.opencontainers.runc.checkpoint.enabled", "false"),
            ("org.opencontainers.runc.version", env!("CARGO_PKG_VERSION")),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
        // No annotation changes what is done.
        potentially_unsafe_config_annotations: Vec::new(),
    }
}

/// The flags that this kernel takes too.
fn supported_flags() -> impl Iterator<Item = &'static str> {
    let support = carrack_seccomp::KernelSupport::probe();
    carrack_seccomp::known_flags()
        .filter(move |flag| support.wait_killable_recv || *flag != "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")
}

/// What `spec` writes: an ordinary container that runs a shell.
pub const EXAMPLE_CONFIG: &str = include_str!("example-config.json");

/// The example in a user namespace of its own, whose root is the user with these ids: without a network of its own, since nobody could connect it, and
/// without limits.
pub fn rootless_config(uid: u32, gid: u32) -> String {
    let mut config: Value = serde_json::from_str(EXAMPLE_CONFIG).expect("the example is JSON");
    let linux = &mut config["linux"];
    linux["resources"] = Value::Null;
    for (name, id) in [("uidMappings", uid), ("gidMappings", gid)] {
        linux[name] = json!([{"containerID": 0, "hostID": id, "size": 1}]);
    }
    linux["namespaces"] = json!(["pid", "ipc", "uts", "mount", "cgroup", "user"].map(|kind| json!({"type": kind})));
    for mount in config["mounts"].as_array_mut().into_iter().flatten() {
        if mount["type"] == "sysfs" {
            // A new one takes a network namespace of one's own.
            mount["type"] = json!("none");
            mount["source"] = json!("/sys");
            mount["options"] = json!(["rbind", "nosuid", "noexec", "nodev", "ro"]);
        } else if let Some(options) = mount["options"].as_array_mut() {
            // Ids that have no place in the mapping.
            options.retain(|option| {
                !option.as_str().is_some_and(|text| text.starts_with("gid=") || text.starts_with("uid="))
            });
        }
    }
    format!("{config:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_a_configuration_that_can_be_planned() {
        use carrack_oci_config::Spec;
        let spec = Spec::from_json(EXAMPLE_CONFIG.as_bytes()).unwrap();
        assert_eq!(spec.process.unwrap().args, ["sh"]);
        assert_eq!(spec.mounts.len(), 7);
    }

    #[test]
    fn the_rootless_example_has_one_id_and_no_network_of_its_own() {
        use carrack_oci_config::Spec;
        let spec = Spec::from_json(rootless_config(1000, 100).as_bytes()).unwrap();
        let linux = spec.linux.unwrap();
        let ids = [&linux.uid_mappings[0], &linux.gid_mappings[0]].map(|one| (one.container_id, one.host_id, one.size));
        assert_eq!(ids, [(0, 1000, 1), (0, 100, 1)]);
        let kinds: Vec<_> = linux.namespaces.iter().map(|namespace| namespace.kind.as_str()).collect();
        assert_eq!(kinds, ["pid", "ipc", "uts", "mount", "cgroup", "user"]);
        assert_eq!(linux.resources, None);
        assert!(spec.mounts.iter().all(|mount| !mount.options.iter().any(|option| option.contains("gid="))));
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_entry() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["long".to_owned(), "".to_owned()]];
        assert_eq!(table(&["ID", "N"], &rows), "ID     N\na      1\nlong\n");
    }

    #[test]
    fn version_begins_with_the_programs_name() {
        assert!(version().starts_with("carrack-oci version "));
    }
}
