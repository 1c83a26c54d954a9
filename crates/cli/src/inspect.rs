//! `carrack inspect`: what docker's users look for, under docker's names.

use carrack_engine::Engine;
use carrack_engine::view::{ContainerView, Phase};
use carrack_image::Image;
use carrack_words::{Kind, Timestamp};
use serde_json::{Map, Value, json};

use crate::args::{Format, Inspect};
use crate::failure::Failure;
use crate::print::say;

const NEVER: &str = "0001-01-01T00:00:00Z";

/// `carrack inspect`.
pub fn inspect(engine: &Engine, flags: &Inspect) -> Result<u8, Failure> {
    if flags.format != Format::Json {
        return Err(Failure::usage("inspect prints JSON only"));
    }
    let mut found = Vec::new();
    for name in &flags.names {
        match engine.find_container(name) {
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
    let time = |time: Option<Timestamp>| time.map_or(NEVER.to_owned(), |time| time.to_string());
    let (pid, started, ended) = match &container.phase {
        Phase::Created | Phase::Unknown => (0, None, None),
        Phase::Running { process, started_at } => (process.pid, Some(*started_at), None),
        Phase::Restarting { last } | Phase::Exited(last) => (0, last.started_at, Some(last)),
    };
    let mut ports = Map::new();
    for port in &container.ports {
        let host_ip = port.host_ip.map_or("0.0.0.0".to_owned(), |ip| ip.to_string());
        let binding = json!({ "HostIp": host_ip, "HostPort": port.host_port.to_string() });
        let list = ports.entry(format!("{}/{}", port.container_port, port.protocol)).or_insert_with(|| json!([]));
        if let Value::Array(list) = list {
            list.push(binding);
        }
    }
    let mounts: Vec<Value> = container
        .mounts
        .iter()
        .map(|mount| {
            json!({
                "Type": match (&mount.volume, &mount.host_path) { (Some(_), _) => "volume", (None, Some(_)) => "bind", (None, None) => "tmpfs" },
                "Name": mount.volume, "Source": mount.host_path, "Destination": mount.destination, "RW": !mount.readonly,
            })
        })
        .collect();
    let resources = &request.resources;
    json!({
        "Id": container.id, "Name": container.name, "Pod": container.pod, "Created": container.created_at.to_string(),
        "Path": container.args.first(), "Args": container.args.iter().skip(1).collect::<Vec<_>>(),
        "State": {
            "Status": container.phase.name(), "Running": matches!(container.phase, Phase::Running { .. }),
            "Restarting": matches!(container.phase, Phase::Restarting { .. }), "Pid": pid,
            "ExitCode": ended.map_or(0, |ended| ended.code), "OOMKilled": ended.is_some_and(|ended| ended.oom_killed),
            "Error": ended.and_then(|ended| ended.message.clone()).unwrap_or_default(),
            "StartedAt": time(started), "FinishedAt": time(ended.map(|ended| ended.finished_at)),
        },
        "Image": container.image, "RestartCount": container.restart_count, "LogPath": container.log_path, "Mounts": mounts,
        "Config": {
            "Image": request.image_name, "Env": request.env, "Tty": request.terminal, "OpenStdin": request.stdin,
            "User": request.user.user, "WorkingDir": request.working_dir, "Labels": container.labels, "StopSignal": container.stop_signal,
        },
        "HostConfig": {
            "AutoRemove": request.auto_remove, "Privileged": request.security.privileged, "ReadonlyRootfs": request.security.readonly_rootfs,
            "Memory": resources.memory_bytes, "CpuQuota": resources.cpu_quota_usec, "CpuPeriod": resources.cpu_period_usec,
            "PidsLimit": resources.pids, "CapAdd": request.security.capabilities.add, "CapDrop": request.security.capabilities.drop,
            "RestartPolicy": request.restart,
        },
        "NetworkSettings": {
            "IPAddress": container.addresses.iter().find(|address| address.is_ipv4()),
            "GlobalIPv6Address": container.addresses.iter().find(|address| address.is_ipv6()), "Ports": ports,
        },
    })
}

fn of_image(image: &Image) -> Value {
    let names = |list: &[carrack_words::ImageRef]| list.iter().map(|name| name.familiar()).collect::<Vec<_>>();
    let run = image.run_defaults();
    let set = |list: &[String]| -> Map<String, Value> { list.iter().map(|name| (name.clone(), json!({}))).collect() };
    json!({
        "Id": image.id, "RepoTags": names(&image.repo_tags), "RepoDigests": names(&image.repo_digests),
        "Created": image.created.map(|time| time.to_string()), "Size": image.size_bytes(), "Os": image.platform.os,
        "Architecture": image.platform.architecture, "Variant": image.platform.variant, "Digest": image.manifest_digest,
        "Config": {
            "Entrypoint": run.entrypoint, "Cmd": run.cmd, "Env": run.env, "User": run.user, "WorkingDir": run.working_dir,
            "Volumes": set(&run.volumes), "ExposedPorts": set(&run.exposed_ports), "Labels": run.labels, "StopSignal": run.stop_signal,
        },
        "RootFS": { "Type": "layers", "Layers": image.config.diff_ids },
    })
}
