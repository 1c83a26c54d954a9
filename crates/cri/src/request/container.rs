//! `CreateContainerRequest` → [`ContainerRequest`], and the requests about a container.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use carrack_cri_proto::v1;
use carrack_engine::request::{ContainerRequest, ExecRequest, PodRequest};
use carrack_words::Digest;

use super::{HostFacts, RequestError, given, invalid, known, non_empty, required, unsupported, without_zero};
use super::{device, mount, namespace, resources, security, user};
use crate::signal;

/// The engine's request for this container in a pod made by `pod`. `image` is what [`image_name`]'s name stands for.
///
/// The repeated `sandbox_config` is not read: the sandbox itself is known.
pub(crate) fn container_request(
    request: &v1::CreateContainerRequest,
    pod: &PodRequest,
    image: Digest,
    host: &HostFacts,
) -> Result<ContainerRequest, RequestError> {
    let config = required(request.config.as_ref(), "config")?;
    refuse_foreign(config)?;
    let metadata = required(config.metadata.as_ref(), "config.metadata")?;
    let linux = config.linux.clone().unwrap_or_default();
    let context = linux.security_context.as_ref();
    let context_field = "config.linux.security_context";
    Ok(ContainerRequest {
        name: Some(non_empty(&metadata.name, "config.metadata.name")?.to_owned()),
        attempt: metadata.attempt,
        entrypoint: words(&config.command, "config.command")?,
        args: words(&config.args, "config.args")?,
        env: environment(&config.envs)?,
        working_dir: working_dir(&config.working_dir)?,
        user: user::user(&context.cloned().unwrap_or_default(), context_field)?,
        mounts: mount::mounts(&config.mounts, host, "config.mounts")?,
        devices: device::devices(&config.devices, "config.devices")?,
        terminal: config.tty,
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        resources: resources::resources(linux.resources.as_ref(), "config.linux.resources")?,
        security: security::security(context, pod, host, context_field)?,
        pid: namespace::container_pid(
            context.and_then(|context| context.namespace_options.as_ref()),
            pod,
            &format!("{context_field}.namespace_options"),
        )?,
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        // A path below no directory is no log, as in every runtime.
        log_path: log_path(&config.log_path)?.filter(|_| pod.log_directory.is_some()),
        stop_signal: signal::number(known(config.stop_signal, "config.stop_signal")?),
        ..ContainerRequest::of_image(image, shown_image_name(required(config.image.as_ref(), "config.image")?))
    })
}

/// The name under which the image is looked up; the kubelet gives the id that the pull answered.
pub(crate) fn image_name(spec: Option<&v1::ImageSpec>, field: &str) -> Result<String, RequestError> {
    let spec = required(spec, field)?;
    if !spec.runtime_handler.is_empty() {
        let name = &spec.runtime_handler;
        return Err(invalid(format!("{field}.runtime_handler"), format!("there is no handler {name:?}")));
    }
    Ok(non_empty(&spec.image, &format!("{field}.image"))?.to_owned())
}

/// The name that is shown again in statuses: what the user wrote, if the caller tells it.
fn shown_image_name(spec: &v1::ImageSpec) -> &str {
    given(&spec.user_specified_image).unwrap_or(&spec.image)
}

fn refuse_foreign(config: &v1::ContainerConfig) -> Result<(), RequestError> {
    if config.windows.is_some() {
        return Err(unsupported("config.windows", "Windows is not supported"));
    }
    if let Some(device) = config.cdi_devices.first() {
        let reason = format!("CDI devices are not supported yet: {:?}", device.name);
        return Err(unsupported("config.CDI_devices", reason));
    }
    Ok(())
}

fn words(words: &[String], field: &str) -> Result<Option<Vec<String>>, RequestError> {
    for (index, word) in words.iter().enumerate() {
        without_zero(word, || format!("{field}[{index}]"))?;
    }
    Ok((!words.is_empty()).then(|| words.to_vec()))
}

/// Values are bytes in the interface, but `config.json` is text.
fn environment(variables: &[v1::KeyValue]) -> Result<Vec<String>, RequestError> {
    let one = |(index, variable): (usize, &v1::KeyValue)| {
        let field = |part: &str| format!("config.envs[{index}].{part}");
        let key = non_empty(&variable.key, &field("key"))?;
        if key.contains(['=', '\0']) {
            return Err(invalid(field("key"), format!("{key:?} contains = or a zero byte")));
        }
        // The value itself is not shown: it may be a secret.
        let value = str::from_utf8(&variable.value)
            .map_err(|_| invalid(field("value"), format!("the value of {key} is not UTF-8")))?;
        without_zero(value, || field("value"))?;
        Ok(format!("{key}={value}"))
    };
    variables.iter().enumerate().map(one).collect()
}

fn working_dir(path: &str) -> Result<Option<String>, RequestError> {
    let field = "config.working_dir";
    match given(path) {
        None => Ok(None),
        Some(path) if !path.starts_with('/') => Err(invalid(field, format!("{path:?} is not an absolute path"))),
        Some(path) => without_zero(path, || field.to_owned()).map(|()| Some(path.to_owned())),
    }
}

/// Relative and going down only: the log is written by the host's root (CVE-2025-0750).
fn log_path(path: &str) -> Result<Option<PathBuf>, RequestError> {
    let Some(path) = given(path) else { return Ok(None) };
    without_zero(path, || "config.log_path".to_owned())?;
    let descends = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if !descends {
        return Err(invalid("config.log_path", format!("{path:?} is not a path below the pod's log directory")));
    }
    Ok(Some(PathBuf::from(path)))
}

/// The program of an `ExecSync`.
pub(crate) fn exec_request(cmd: &[String]) -> Result<ExecRequest, RequestError> {
    let args = words(cmd, "cmd")?.ok_or_else(|| invalid("cmd", "is empty"))?;
    Ok(ExecRequest { args, ..Default::default() })
}

/// Zero means without end.
pub(crate) fn exec_timeout(seconds: i64) -> Result<Option<Duration>, RequestError> {
    match seconds {
        0 => Ok(None),
        1.. => Ok(Some(whole_seconds(seconds))),
        _ => Err(invalid("timeout", format!("{seconds} is negative"))),
    }
}

/// Zero, and what is less, means to kill at once.
pub(crate) fn stop_timeout(seconds: i64) -> Duration {
    whole_seconds(seconds.max(0))
}

/// At most 136 years, so that a deadline can be reckoned from it.
fn whole_seconds(seconds: i64) -> Duration {
    Duration::from_secs(u32::try_from(seconds).unwrap_or(u32::MAX).into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use carrack_engine::request::{NamespaceMode, ResourceRequest, SeccompRequest, SecurityRequest, UserRequest};

    use super::*;

    const HOST: HostFacts = HostFacts { apparmor: false, selinux: false, recursive_readonly: true };
    const IMAGE: Digest = Digest::from_sha256([7; 32]);

    fn minimal() -> v1::ContainerConfig {
        v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata { name: "app".into(), attempt: 1 }),
            image: Some(v1::ImageSpec { image: "busybox".into(), ..Default::default() }),
            ..Default::default()
        }
    }

    fn logging_pod() -> PodRequest {
        PodRequest { log_directory: Some("/var/log/pods/p".into()), ..Default::default() }
    }

    fn translated(config: v1::ContainerConfig) -> Result<ContainerRequest, RequestError> {
        let request = v1::CreateContainerRequest { config: Some(config), ..Default::default() };
        container_request(&request, &logging_pod(), IMAGE, &HOST)
    }

    #[test]
    fn a_container_with_only_a_name_and_an_image_gets_the_defaults() {
        let wanted = ContainerRequest {
            name: Some("app".into()),
            attempt: 1,
            security: SecurityRequest { seccomp: SeccompRequest::Unconfined, ..Default::default() },
            ..ContainerRequest::of_image(IMAGE, "busybox")
        };
        assert_eq!(translated(minimal()), Ok(wanted));
    }

    #[test]
    fn every_field_arrives() {
        let strings = |words: &[&str]| words.iter().map(|word| word.to_string()).collect::<Vec<_>>();
        let labels = BTreeMap::from([("l".to_owned(), "1".to_owned())]);
        let config = v1::ContainerConfig {
            image: Some(v1::ImageSpec {
                image: "sha256:77".into(),
                user_specified_image: "busybox:1.36".into(),
                ..Default::default()
            }),
            command: strings(&["/bin/sh", "-c"]),
            args: strings(&["exit 3", ""]),
            working_dir: "/srv".into(),
            envs: vec![
                v1::KeyValue { key: "A".into(), value: b"1=2\n".to_vec() },
                v1::KeyValue { key: "EMPTY".into(), value: vec![] },
            ],
            labels: labels.clone(),
            annotations: labels.clone(),
            log_path: "app/0.log".into(),
            stdin: true,
            stdin_once: true,
            tty: true,
            stop_signal: v1::Signal::Sigint.into(),
            linux: Some(v1::LinuxContainerConfig {
                resources: Some(v1::LinuxContainerResources { cpu_shares: 2, ..Default::default() }),
                security_context: Some(v1::LinuxContainerSecurityContext {
                    run_as_user: Some(v1::Int64Value { value: 65534 }),
                    namespace_options: Some(v1::NamespaceOption {
                        pid: v1::NamespaceMode::Container.into(),
                        ..Default::default()
                    }),
                    seccomp: Some(v1::SecurityProfile::default()),
                    ..Default::default()
                }),
            }),
            ..minimal()
        };
        let wanted = ContainerRequest {
            name: Some("app".into()),
            attempt: 1,
            image_name: "busybox:1.36".into(),
            entrypoint: Some(strings(&["/bin/sh", "-c"])),
            args: Some(strings(&["exit 3", ""])),
            env: strings(&["A=1=2\n", "EMPTY="]),
            working_dir: Some("/srv".into()),
            user: UserRequest { user: Some("65534".into()), ..Default::default() },
            terminal: true,
            stdin: true,
            stdin_once: true,
            resources: ResourceRequest { cpu_shares: Some(2), oom_score_adj: Some(0), ..Default::default() },
            security: SecurityRequest {
                masked_paths: Some(vec![]),
                readonly_paths: Some(vec![]),
                ..Default::default()
            },
            pid: Some(NamespaceMode::Container),
            labels: labels.clone(),
            annotations: labels,
            log_path: Some("app/0.log".into()),
            stop_signal: Some(2),
            ..ContainerRequest::of_image(IMAGE, "")
        };
        assert_eq!(translated(config), Ok(wanted));
    }

    #[test]
    fn a_log_path_needs_a_directory_and_stays_below_it() {
        let with = |path: &str| v1::ContainerConfig { log_path: path.into(), ..minimal() };
        for bad in ["/etc/passwd", "../x", "a/../../x", "./a", "a\0b"] {
            let error = translated(with(bad)).expect_err(bad);
            assert!(matches!(&error, RequestError::Invalid { field, .. } if field == "config.log_path"), "{error}");
        }
        let request = v1::CreateContainerRequest { config: Some(with("a.log")), ..Default::default() };
        let silent = container_request(&request, &PodRequest::default(), IMAGE, &HOST).expect("nothing to refuse");
        assert_eq!(silent.log_path, None);
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_field() {
        let env = |key: &str, value: &[u8]| v1::ContainerConfig {
            envs: vec![v1::KeyValue { key: key.into(), value: value.to_vec() }],
            ..minimal()
        };
        for (config, wanted) in [
            (v1::ContainerConfig { metadata: None, ..minimal() }, "config.metadata: is missing"),
            (v1::ContainerConfig { metadata: Some(Default::default()), ..minimal() }, "config.metadata.name: is empty"),
            (
                v1::ContainerConfig { windows: Some(Default::default()), ..minimal() },
                "config.windows: Windows is not supported",
            ),
            (
                v1::ContainerConfig { cdi_devices: vec![v1::CdiDevice { name: "v.com/gpu=0".into() }], ..minimal() },
                r#"config.CDI_devices: CDI devices are not supported yet: "v.com/gpu=0""#,
            ),
            (env("", b"x"), "config.envs[0].key: is empty"),
            (env("A=B", b"x"), r#"config.envs[0].key: "A=B" contains = or a zero byte"#),
            (env("A", b"\xff"), "config.envs[0].value: the value of A is not UTF-8"),
            (env("A", b"a\0b"), "config.envs[0].value: contains a zero byte"),
            (
                v1::ContainerConfig { command: vec!["a".into(), "b\0".into()], ..minimal() },
                "config.command[1]: contains a zero byte",
            ),
            (
                v1::ContainerConfig { working_dir: "srv".into(), ..minimal() },
                r#"config.working_dir: "srv" is not an absolute path"#,
            ),
            (v1::ContainerConfig { stop_signal: 66, ..minimal() }, "config.stop_signal: unknown value 66"),
        ] {
            assert_eq!(translated(config).expect_err(wanted).to_string(), wanted);
        }
    }

    #[test]
    fn images_are_named_and_no_handler_is_known() {
        let spec = |image: &str, runtime_handler: &str| v1::ImageSpec {
            image: image.into(),
            runtime_handler: runtime_handler.into(),
            ..Default::default()
        };
        assert_eq!(image_name(Some(&spec("busybox", "")), "image"), Ok("busybox".into()));
        assert_eq!(image_name(None, "image"), Err(invalid("image", "is missing")));
        assert_eq!(image_name(Some(&spec("", "")), "image"), Err(invalid("image.image", "is empty")));
        assert!(image_name(Some(&spec("busybox", "kata")), "image").is_err());
    }

    #[test]
    fn times_and_commands_of_calls_are_checked() {
        assert_eq!(stop_timeout(i64::MAX), Duration::from_secs(u64::from(u32::MAX)));
        assert_eq!(exec_timeout(0), Ok(None));
        assert_eq!(exec_timeout(5), Ok(Some(Duration::from_secs(5))));
        assert_eq!(exec_timeout(-1), Err(invalid("timeout", "-1 is negative")));
        assert_eq!((stop_timeout(30), stop_timeout(-1)), (Duration::from_secs(30), Duration::ZERO));
        assert_eq!(exec_request(&[]), Err(invalid("cmd", "is empty")));
        let args = vec!["ls".to_owned(), "-l".to_owned()];
        assert_eq!(exec_request(&args), Ok(ExecRequest { args: args.clone(), ..Default::default() }));
    }
}
