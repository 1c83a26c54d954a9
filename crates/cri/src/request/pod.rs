//! `RunPodSandboxRequest` → [`PodRequest`].

use carrack_cri_proto::v1;
use carrack_engine::request::{PodMetadata, PodRequest};

use super::{HostFacts, RequestError, absolute_path, given, invalid, non_empty, required, unsupported};
use super::{dns, namespace, port, security, sysctl, user};

/// The engine's request for this sandbox.
///
/// Two groups of fields have no meaning here and are read by nobody: user, groups, seccomp and root filesystem of the sandbox
/// (they are for a pause container, and there is none), and `overhead` and `resources` (sums for runtimes that are virtual
/// machines).
pub(crate) fn pod_request(request: &v1::RunPodSandboxRequest, host: &HostFacts) -> Result<PodRequest, RequestError> {
    if !request.runtime_handler.is_empty() {
        let name = &request.runtime_handler;
        return Err(invalid(
            "runtime_handler",
            format!("there is no handler {name:?}: only the default, with no name"),
        ));
    }
    let config = required(request.config.as_ref(), "config")?;
    if config.windows.is_some() {
        return Err(unsupported("config.windows", "Windows is not supported"));
    }
    let linux = config.linux.clone().unwrap_or_default();
    let context = linux.security_context.unwrap_or_default();
    let context_field = "config.linux.security_context";
    if context.run_as_group.is_some() && context.run_as_user.is_none() {
        return Err(invalid(format!("{context_field}.run_as_group"), "needs run_as_user"));
    }
    user::supplemental_groups(&context.supplemental_groups, &format!("{context_field}.supplemental_groups"))?;
    security::no_selinux(context.selinux_options.as_ref(), host, &format!("{context_field}.selinux_options"))?;
    let namespaces =
        namespace::pod_namespaces(context.namespace_options.as_ref(), &format!("{context_field}.namespace_options"))?;
    let log_directory =
        given(&config.log_directory).map(|path| absolute_path(path, "config.log_directory")).transpose()?;
    let sysctls = sysctl::sysctls(&linux.sysctls, namespaces.network, &namespaces.ipc, "config.linux.sysctls")?;
    Ok(PodRequest {
        metadata: Some(metadata(config.metadata.as_ref())?),
        hostname: given(&config.hostname).map(str::to_owned),
        ports: port::ports(&config.port_mappings, namespaces.network, "config.port_mappings")?,
        network: namespaces.network,
        ipc: namespaces.ipc,
        pid: namespaces.pid,
        dns: dns::dns(config.dns_config.as_ref(), "config.dns_config")?,
        extra_hosts: Vec::new(),
        sysctls,
        cgroup_parent: cgroup_parent(&linux.cgroup_parent)?,
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        log_directory,
        shm_size_bytes: None,
        privileged: context.privileged,
        runtime_handler: String::new(),
    })
}

/// Callers cannot read a status without name, namespace and uid, so a sandbox without them is not made.
fn metadata(metadata: Option<&v1::PodSandboxMetadata>) -> Result<PodMetadata, RequestError> {
    let metadata = required(metadata, "config.metadata")?;
    Ok(PodMetadata {
        name: non_empty(&metadata.name, "config.metadata.name")?.to_owned(),
        uid: non_empty(&metadata.uid, "config.metadata.uid")?.to_owned(),
        namespace: non_empty(&metadata.namespace, "config.metadata.namespace")?.to_owned(),
        attempt: metadata.attempt,
    })
}

/// The kubelet gives an absolute path below the cgroup mount; older configurations leave the first slash away.
fn cgroup_parent(parent: &str) -> Result<Option<String>, RequestError> {
    let Some(parent) = given(parent) else { return Ok(None) };
    let path = absolute_path(&format!("/{}", parent.trim_start_matches('/')), "config.linux.cgroup_parent")?;
    Ok(Some(path.to_str().expect("it was made from a str").to_owned()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use carrack_engine::request::{DnsConfig, NamespaceMode, NetworkMode, PortMapping, Protocol};

    use super::*;

    const HOST: HostFacts = HostFacts { apparmor: false, selinux: false, recursive_readonly: true };

    fn minimal() -> v1::PodSandboxConfig {
        let metadata =
            v1::PodSandboxMetadata { name: "web".into(), uid: "u1".into(), namespace: "default".into(), attempt: 2 };
        v1::PodSandboxConfig { metadata: Some(metadata), ..Default::default() }
    }

    fn translated(config: v1::PodSandboxConfig) -> Result<PodRequest, RequestError> {
        pod_request(&v1::RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() }, &HOST)
    }

    fn text(key: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(key.to_owned(), value.to_owned())])
    }

    #[test]
    fn a_sandbox_with_only_a_name_gets_the_defaults() {
        let metadata = PodMetadata { name: "web".into(), uid: "u1".into(), namespace: "default".into(), attempt: 2 };
        assert_eq!(translated(minimal()), Ok(PodRequest { metadata: Some(metadata), ..Default::default() }));
    }

    #[test]
    fn every_field_arrives() {
        let config = v1::PodSandboxConfig {
            hostname: "web-0".into(),
            log_directory: "/var/log/pods/default_web_u1".into(),
            dns_config: Some(v1::DnsConfig { servers: vec!["10.0.0.10".into()], ..Default::default() }),
            port_mappings: vec![v1::PortMapping { container_port: 80, host_port: 8080, ..Default::default() }],
            labels: text("app", "web"),
            annotations: text("note", "\u{0}any bytes\n"),
            linux: Some(v1::LinuxPodSandboxConfig {
                cgroup_parent: "kubepods/podu1".into(),
                security_context: Some(v1::LinuxSandboxSecurityContext {
                    namespace_options: Some(v1::NamespaceOption {
                        pid: v1::NamespaceMode::Container.into(),
                        ..Default::default()
                    }),
                    privileged: true,
                    run_as_user: Some(v1::Int64Value { value: 1000 }),
                    run_as_group: Some(v1::Int64Value { value: 1000 }),
                    ..Default::default()
                }),
                sysctls: text("net.core.somaxconn", "1024"),
                overhead: Some(Default::default()),
                resources: Some(Default::default()),
            }),
            ..minimal()
        };
        let wanted = PodRequest {
            metadata: Some(PodMetadata {
                name: "web".into(),
                uid: "u1".into(),
                namespace: "default".into(),
                attempt: 2,
            }),
            hostname: Some("web-0".into()),
            network: NetworkMode::Bridge,
            ports: vec![PortMapping { protocol: Protocol::Tcp, container_port: 80, host_port: 8080, host_ip: None }],
            ipc: NamespaceMode::Pod,
            pid: NamespaceMode::Container,
            dns: Some(DnsConfig { servers: vec!["10.0.0.10".into()], ..Default::default() }),
            sysctls: text("net.core.somaxconn", "1024"),
            cgroup_parent: Some("/kubepods/podu1".into()),
            labels: text("app", "web"),
            annotations: text("note", "\u{0}any bytes\n"),
            log_directory: Some("/var/log/pods/default_web_u1".into()),
            privileged: true,
            ..Default::default()
        };
        assert_eq!(translated(config), Ok(wanted));
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_field() {
        let with_metadata = |change: fn(&mut v1::PodSandboxMetadata)| {
            let mut config = minimal();
            change(config.metadata.as_mut().expect("the minimal configuration has it"));
            config
        };
        let with_context = |context: v1::LinuxSandboxSecurityContext| v1::PodSandboxConfig {
            linux: Some(v1::LinuxPodSandboxConfig { security_context: Some(context), ..Default::default() }),
            ..minimal()
        };
        for (config, wanted) in [
            (v1::PodSandboxConfig::default(), "config.metadata: is missing"),
            (with_metadata(|m| m.name.clear()), "config.metadata.name: is empty"),
            (with_metadata(|m| m.uid.clear()), "config.metadata.uid: is empty"),
            (with_metadata(|m| m.namespace.clear()), "config.metadata.namespace: is empty"),
            (
                v1::PodSandboxConfig { log_directory: "logs".into(), ..minimal() },
                r#"config.log_directory: "logs" is not an absolute path"#,
            ),
            (
                v1::PodSandboxConfig { log_directory: "/var/log/../../etc".into(), ..minimal() },
                r#"config.log_directory: "/var/log/../../etc" contains .."#,
            ),
            (
                v1::PodSandboxConfig {
                    linux: Some(v1::LinuxPodSandboxConfig { cgroup_parent: "../..".into(), ..Default::default() }),
                    ..minimal()
                },
                r#"config.linux.cgroup_parent: "/../.." contains .."#,
            ),
            (
                v1::PodSandboxConfig { windows: Some(Default::default()), ..minimal() },
                "config.windows: Windows is not supported",
            ),
            (
                with_context(v1::LinuxSandboxSecurityContext {
                    run_as_group: Some(v1::Int64Value { value: 5 }),
                    ..Default::default()
                }),
                "config.linux.security_context.run_as_group: needs run_as_user",
            ),
        ] {
            assert_eq!(translated(config).expect_err(wanted).to_string(), wanted);
        }
        let handler = v1::RunPodSandboxRequest { config: Some(minimal()), runtime_handler: "kata".into() };
        assert_eq!(
            pod_request(&handler, &HOST).expect_err("refused").to_string(),
            r#"runtime_handler: there is no handler "kata": only the default, with no name"#
        );
        assert!(pod_request(&v1::RunPodSandboxRequest::default(), &HOST).is_err());
    }
}
