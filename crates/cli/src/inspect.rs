//! `carrack inspect`: what docker's users look for, under docker's names.

use std::net::IpAddr;

use carrack_engine::request::{NetworkMode, PortMapping, Propagation};
use carrack_engine::view::{ContainerView, MountView, Phase};
use carrack_engine::{Engine, RestartPolicy};
use carrack_image::Image;
use carrack_words::{Kind, Timestamp};
use serde_json::{Map, Value, json};

use crate::args::{Format, Inspect};
use crate::failure::Failure;
use crate::ports;
use crate::print::say;

const NEVER: &str = "0001-01-01T00:00:00Z";

/// `carrack inspect`.
pub fn inspect(engine: &Engine, flags: &Inspect) -> Result<u8, Failure> {
    if flags.format != Format::Json {
        return Err(Failure::usage("inspect prints JSON only"));
    }
    let mut found = Vec::new();
    for name in &flags.names {
        match engine.find_shown_container(name) {
            Ok(id) => found.push(container(&engine.container(&id)?)),
            Err(error) if error.kind() == Kind::NotFound => match engine.find_image(name) {
                Ok(image) => found.push(of_image(&image)),
                Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Invalid) => {
                    return Err(Failure::usage(format!("no such container or image: {name}")));
                }
                Err(error) => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        }
    }
    say!("{}", serde_json::to_string_pretty(&found).expect("the values have string keys only"))?;
    Ok(0)
}

fn container(container: &ContainerView) -> Value {
    let request = &container.request;
    let resources = &request.resources;
    let nano_cpus = match (resources.cpu_quota_usec, resources.cpu_period_usec) {
        (Some(quota @ 1..), Some(period @ 1..)) => i128::from(quota) * 1_000_000_000 / i128::from(period),
        _ => 0,
    };
    json!({
        "Id": container.id, "Name": container.name, "Pod": container.pod, "Created": container.created_at.to_string(),
        "Path": container.args.first(), "Args": container.args.iter().skip(1).collect::<Vec<_>>(),
        "State": state(&container.phase),
        "Image": container.image, "RestartCount": container.restart_count, "LogPath": container.log_path, "Driver": "overlay",
        "Platform": "linux", "Mounts": container.mounts.iter().map(mount).collect::<Vec<_>>(),
        "Config": {
            "Hostname": container.hostname, "Image": request.image_name, "Entrypoint": container.process.entrypoint,
            "Cmd": container.process.command, "Env": container.process.env, "WorkingDir": container.process.working_dir,
            "User": container.process.user, "Tty": request.terminal, "OpenStdin": request.stdin, "StdinOnce": request.stdin_once,
            "Labels": container.labels, "StopSignal": container.stop_signal,
        },
        "HostConfig": {
            "AutoRemove": request.auto_remove, "Privileged": request.security.privileged, "ReadonlyRootfs": request.security.readonly_rootfs,
            "NetworkMode": network_name(container.network), "PortBindings": bindings(&container.wanted_ports),
            "Memory": resources.memory_bytes.unwrap_or(0), "NanoCpus": nano_cpus as i64, "CpuQuota": resources.cpu_quota_usec.unwrap_or(0),
            "CpuPeriod": resources.cpu_period_usec.unwrap_or(0), "PidsLimit": resources.pids,
            "CapAdd": request.security.capabilities.add, "CapDrop": request.security.capabilities.drop,
            "RestartPolicy": restart_policy(request.restart),
        },
        "NetworkSettings": network_settings(container),
    })
}

fn state(phase: &Phase) -> Value {
    let time = |time: Option<Timestamp>| time.map_or(NEVER.to_owned(), |time| time.to_string());
    let (pid, started, ended) = match phase {
        Phase::Created | Phase::Unknown => (0, None, None),
        Phase::Running { process, started_at } => (process.pid, Some(*started_at), None),
        Phase::Restarting { last } | Phase::Exited(last) => (0, last.started_at, Some(last)),
    };
    let error = match (phase, ended) {
        (Phase::Unknown, _) => "its monitor was killed: its process may run on".to_owned(),
        (_, ended) => ended.and_then(|ended| ended.message.clone()).unwrap_or_default(),
    };
    json!({
        "Status": phase.name(), "Running": matches!(phase, Phase::Running { .. } | Phase::Restarting { .. }), "Paused": false,
        "Restarting": matches!(phase, Phase::Restarting { .. }), "Dead": false, "Pid": pid,
        "ExitCode": ended.map_or(0, |ended| ended.code), "OOMKilled": ended.is_some_and(|ended| ended.oom_killed),
        "Error": error,
        "StartedAt": time(started), "FinishedAt": time(ended.map(|ended| ended.finished_at)),
    })
}

fn mount(mount: &MountView) -> Value {
    let propagation = match mount.propagation {
        Propagation::Private => "rprivate",
        Propagation::HostToContainer => "rslave",
        Propagation::Bidirectional => "rshared",
    };
    let (kind, name) = match (&mount.volume, &mount.host_path) {
        (Some(name), _) => ("volume", Some(name)),
        (None, Some(_)) => ("bind", None),
        (None, None) => ("tmpfs", None),
    };
    let mut value = json!({
        "Type": kind, "Source": mount.host_path, "Destination": mount.destination, "RW": !mount.readonly,
        "Mode": if mount.readonly { "ro" } else { "" }, "Propagation": propagation,
    });
    if let Some(name) = name {
        value["Name"] = json!(name);
    }
    value
}

/// A port's bindings under `80/tcp`, as docker groups them.
fn bindings(ports: &[PortMapping]) -> Map<String, Value> {
    let mut bindings = Map::new();
    for port in ports {
        let list = bindings.entry(format!("{}/{}", port.container_port, port.protocol)).or_insert_with(|| json!([]));
        for address in ports::addresses(port) {
            if let Value::Array(list) = list {
                list.push(json!({ "HostIp": address.to_string(), "HostPort": port.host_port.to_string() }));
            }
        }
    }
    bindings
}

fn network_name(network: NetworkMode) -> &'static str {
    match network {
        NetworkMode::Bridge => "bridge",
        NetworkMode::Host => "host",
        NetworkMode::None => "none",
    }
}

fn restart_policy(policy: RestartPolicy) -> Value {
    let (name, max) = match policy {
        RestartPolicy::No => ("no", 0),
        RestartPolicy::Always => ("always", 0),
        RestartPolicy::UnlessStopped => ("unless-stopped", 0),
        RestartPolicy::OnFailure { max_retries } => ("on-failure", max_retries.unwrap_or(0)),
    };
    json!({ "Name": name, "MaximumRetryCount": max })
}

/// Addresses and ports are a running container's; while none runs they are free for others.
fn network_settings(container: &ContainerView) -> Value {
    let runs = matches!(container.phase, Phase::Running { .. } | Phase::Restarting { .. });
    let address = |wanted: fn(&IpAddr) -> bool| {
        let found = container.addresses.iter().find(|address| wanted(address)).filter(|_| runs);
        found.map(IpAddr::to_string).unwrap_or_default()
    };
    let (v4, v6) = (address(IpAddr::is_ipv4), address(IpAddr::is_ipv6));
    json!({
        "IPAddress": v4, "GlobalIPv6Address": v6,
        "Ports": if runs { bindings(&container.ports) } else { Map::new() },
        "Networks": { network_name(container.network): { "IPAddress": v4, "GlobalIPv6Address": v6 } },
    })
}

fn of_image(image: &Image) -> Value {
    let names = |list: &[carrack_words::ImageRef]| list.iter().map(|name| name.familiar()).collect::<Vec<_>>();
    let run = image.run_defaults();
    let set = |list: &[String]| -> Map<String, Value> { list.iter().map(|name| (name.clone(), json!({}))).collect() };
    json!({
        "Id": image.id, "RepoTags": names(&image.repo_tags), "RepoDigests": names(&image.repo_digests),
        "Created": image.created.map(|time| time.to_string()), "Size": image.unpacked_bytes, "Os": image.platform.os,
        "Architecture": image.platform.architecture, "Variant": image.platform.variant, "Digest": image.manifest_digest,
        "Config": {
            "Entrypoint": run.entrypoint, "Cmd": run.cmd, "Env": run.env, "User": run.user, "WorkingDir": run.working_dir,
            "Volumes": set(&run.volumes), "ExposedPorts": set(&run.exposed_ports), "Labels": run.labels, "StopSignal": run.stop_signal,
        },
        "RootFS": { "Type": "layers", "Layers": image.config.diff_ids },
    })
}
