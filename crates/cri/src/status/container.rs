//! [`ContainerView`] → `Container` and `ContainerStatus`.

use carrack_cri_proto::v1;
use carrack_engine::request::{Propagation, ResourceRequest};
use carrack_engine::view::{ContainerView, Ended, MountView, Phase};

use crate::signal;

/// The container in a list.
pub(crate) fn container(container: &ContainerView) -> v1::Container {
    v1::Container {
        id: container.id.to_string(),
        pod_sandbox_id: container.pod.to_string(),
        metadata: metadata(container),
        image: Some(image_spec(container)),
        image_ref: container.image.to_string(),
        state: container_state(&container.phase).into(),
        created_at: container.created_at.nanoseconds(),
        labels: container.request.labels.clone(),
        annotations: container.request.annotations.clone(),
        image_id: container.image.to_string(),
    }
}

/// The container by itself. `image_ref` is the image's name with its digest in a registry, if it has one.
pub(crate) fn container_status(container: &ContainerView, image_ref: Option<String>) -> v1::ContainerStatus {
    let life = Life::of(&container.phase);
    let groups = container.user.groups.iter().map(|group| i64::from(*group)).collect();
    v1::ContainerStatus {
        id: container.id.to_string(),
        metadata: metadata(container),
        state: container_state(&container.phase).into(),
        created_at: container.created_at.nanoseconds(),
        started_at: life.started_at,
        finished_at: life.finished_at,
        exit_code: life.exit_code,
        image: Some(image_spec(container)),
        image_ref: image_ref.unwrap_or_else(|| container.image.to_string()),
        reason: life.reason.to_owned(),
        message: life.message,
        labels: container.request.labels.clone(),
        annotations: container.request.annotations.clone(),
        mounts: container.mounts.iter().map(mount).collect(),
        log_path: container.log_path.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
        resources: Some(v1::ContainerResources { linux: Some(resources(&container.request.resources)), windows: None }),
        image_id: container.image.to_string(),
        user: Some(v1::ContainerUser {
            linux: Some(v1::LinuxContainerUser {
                uid: container.user.uid.into(),
                gid: container.user.gid.into(),
                supplemental_groups: groups,
            }),
        }),
        stop_signal: signal::named(container.stop_signal).into(),
    }
}

/// The state's name in the interface, which has none for the pause before a restart: nothing runs then.
pub(crate) fn container_state(phase: &Phase) -> v1::ContainerState {
    match phase {
        Phase::Created => v1::ContainerState::ContainerCreated,
        Phase::Running { .. } => v1::ContainerState::ContainerRunning,
        Phase::Restarting { .. } | Phase::Exited(_) => v1::ContainerState::ContainerExited,
        Phase::Unknown => v1::ContainerState::ContainerUnknown,
    }
}

fn metadata(container: &ContainerView) -> Option<v1::ContainerMetadata> {
    Some(v1::ContainerMetadata { name: container.name.clone(), attempt: container.request.attempt })
}

fn image_spec(container: &ContainerView) -> v1::ImageSpec {
    let name = container.request.image_name.clone();
    v1::ImageSpec { image: name.clone(), user_specified_image: name, ..Default::default() }
}

/// What a status tells of a container's course so far.
#[derive(Debug, Default, PartialEq, Eq)]
struct Life {
    started_at: i64,
    finished_at: i64,
    exit_code: i32,
    reason: &'static str,
    message: String,
}

impl Life {
    fn of(phase: &Phase) -> Self {
        match phase {
            Phase::Created => Self::default(),
            Phase::Running { started_at, .. } => Self { started_at: started_at.nanoseconds(), ..Self::default() },
            Phase::Restarting { last: ended } | Phase::Exited(ended) => Self {
                started_at: ended.started_at.map_or(0, |at| at.nanoseconds()),
                finished_at: ended.finished_at.nanoseconds(),
                exit_code: ended.code,
                reason: reason(ended),
                message: ended.message.clone().unwrap_or_default(),
            },
            Phase::Unknown => Self { reason: "Unknown", ..Self::default() },
        }
    }
}

/// What the engine shows for a container that could not be started.
const START_FAILED: i32 = 128;

/// One of the five words which callers know.
fn reason(ended: &Ended) -> &'static str {
    match ended {
        Ended { oom_killed: true, .. } => "OOMKilled",
        Ended { code: START_FAILED, started_at: None, .. } => "StartError",
        Ended { exit: None, .. } => "Unknown",
        Ended { code: 0, .. } => "Completed",
        Ended { .. } => "Error",
    }
}

fn mount(mount: &MountView) -> v1::Mount {
    let propagation = match mount.propagation {
        Propagation::Private => v1::MountPropagation::PropagationPrivate,
        Propagation::HostToContainer => v1::MountPropagation::PropagationHostToContainer,
        Propagation::Bidirectional => v1::MountPropagation::PropagationBidirectional,
    };
    v1::Mount {
        container_path: mount.destination.display().to_string(),
        host_path: mount.host_path.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
        readonly: mount.readonly,
        propagation: propagation.into(),
        recursive_read_only: mount.recursive_readonly,
        ..Default::default()
    }
}

/// The limits that hold, so that a caller can compare them with what it wants.
fn resources(resources: &ResourceRequest) -> v1::LinuxContainerResources {
    let unsigned = |value: Option<u64>| value.map_or(0, |value| i64::try_from(value).unwrap_or(i64::MAX));
    let page = |(page_size, limit): &(String, u64)| v1::HugepageLimit { page_size: page_size.clone(), limit: *limit };
    v1::LinuxContainerResources {
        cpu_period: unsigned(resources.cpu_period_usec),
        cpu_quota: resources.cpu_quota_usec.unwrap_or(0),
        cpu_shares: unsigned(resources.cpu_shares),
        memory_limit_in_bytes: resources.memory_bytes.unwrap_or(0),
        oom_score_adj: resources.oom_score_adj.unwrap_or(0).into(),
        cpuset_cpus: resources.cpuset_cpus.clone().unwrap_or_default(),
        cpuset_mems: resources.cpuset_mems.clone().unwrap_or_default(),
        hugepage_limits: resources.hugepages.iter().map(page).collect(),
        unified: resources.unified.clone(),
        memory_swap_limit_in_bytes: resources.memory_swap_bytes.unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use carrack_engine::request::ContainerRequest;
    use carrack_engine::view::UserView;
    use carrack_words::{ContainerId, Digest, Exit, PodId, ProcessId, Timestamp};

    use super::*;

    fn at(nanoseconds: i64) -> Timestamp {
        Timestamp::from_nanoseconds(nanoseconds)
    }

    fn ended(exit: Option<Exit>, code: i32) -> Ended {
        Ended { exit, code, oom_killed: false, started_at: Some(at(20)), finished_at: at(30), message: None }
    }

    fn view(phase: Phase) -> ContainerView {
        let image = Digest::from_sha256([1; 32]);
        let labels = BTreeMap::from([("l".to_owned(), "1".to_owned())]);
        let request = ContainerRequest {
            attempt: 2,
            labels: labels.clone(),
            annotations: BTreeMap::from([("a".to_owned(), "2".to_owned())]),
            resources: ResourceRequest {
                cpu_shares: Some(512),
                memory_bytes: Some(1 << 20),
                hugepages: vec![("2MB".into(), 0)],
                oom_score_adj: Some(-5),
                ..Default::default()
            },
            ..ContainerRequest::of_image(image, "busybox:1.36")
        };
        ContainerView {
            id: ContainerId::new("c1").expect("an id"),
            name: "app".into(),
            pod: PodId::new("p1").expect("an id"),
            sandboxed: true,
            request,
            image,
            phase,
            created_at: at(10),
            restart_count: 0,
            args: vec!["sh".into()],
            process: Default::default(),
            user: UserView { uid: 1000, gid: 100, groups: vec![5, 7] },
            mounts: vec![MountView {
                host_path: Some("/var/lib/kubelet/t".into()),
                volume: None,
                destination: "/dev/termination-log".into(),
                readonly: true,
                recursive_readonly: true,
                propagation: Propagation::Private,
            }],
            log_path: Some("/var/log/pods/p/app/2.log".into()),
            stop_signal: 15,
            addresses: vec![],
            ports: vec![],
            wanted_ports: vec![],
            network: Default::default(),
            hostname: String::new(),
            labels,
        }
    }

    #[test]
    fn a_status_tells_everything() {
        let id = format!("sha256:{}", "01".repeat(32));
        let image = v1::ImageSpec {
            image: "busybox:1.36".into(),
            user_specified_image: "busybox:1.36".into(),
            ..Default::default()
        };
        let wanted = v1::ContainerStatus {
            id: "c1".into(),
            metadata: Some(v1::ContainerMetadata { name: "app".into(), attempt: 2 }),
            state: v1::ContainerState::ContainerExited.into(),
            created_at: 10,
            started_at: 20,
            finished_at: 30,
            exit_code: 3,
            image: Some(image.clone()),
            image_ref: "docker.io/library/busybox@sha256:aa".into(),
            reason: "Error".into(),
            message: String::new(),
            labels: BTreeMap::from([("l".into(), "1".into())]),
            annotations: BTreeMap::from([("a".into(), "2".into())]),
            mounts: vec![v1::Mount {
                container_path: "/dev/termination-log".into(),
                host_path: "/var/lib/kubelet/t".into(),
                readonly: true,
                recursive_read_only: true,
                ..Default::default()
            }],
            log_path: "/var/log/pods/p/app/2.log".into(),
            resources: Some(v1::ContainerResources {
                linux: Some(v1::LinuxContainerResources {
                    cpu_shares: 512,
                    memory_limit_in_bytes: 1 << 20,
                    hugepage_limits: vec![v1::HugepageLimit { page_size: "2MB".into(), limit: 0 }],
                    oom_score_adj: -5,
                    ..Default::default()
                }),
                windows: None,
            }),
            image_id: id.clone(),
            user: Some(v1::ContainerUser {
                linux: Some(v1::LinuxContainerUser { uid: 1000, gid: 100, supplemental_groups: vec![5, 7] }),
            }),
            stop_signal: v1::Signal::Sigterm.into(),
        };
        let exited = view(Phase::Exited(ended(Some(Exit::Code(3)), 3)));
        assert_eq!(container_status(&exited, Some("docker.io/library/busybox@sha256:aa".into())), wanted);
        assert_eq!(container_status(&exited, None).image_ref, id);
        let listed = v1::Container {
            id: "c1".into(),
            pod_sandbox_id: "p1".into(),
            metadata: Some(v1::ContainerMetadata { name: "app".into(), attempt: 2 }),
            image: Some(image),
            image_ref: id.clone(),
            state: v1::ContainerState::ContainerExited.into(),
            created_at: 10,
            labels: BTreeMap::from([("l".into(), "1".into())]),
            annotations: BTreeMap::from([("a".into(), "2".into())]),
            image_id: id,
        };
        assert_eq!(container(&exited), listed);
    }

    #[test]
    fn every_end_has_its_reason() {
        let oom = Ended { oom_killed: true, ..ended(Some(Exit::Signal(9)), 137) };
        let child_oom = Ended { oom_killed: true, ..ended(Some(Exit::Code(0)), 0) };
        let unstarted = Ended { started_at: None, message: Some("no such file".into()), ..ended(None, 128) };
        for (end, wanted) in [
            (ended(Some(Exit::Code(0)), 0), ("Completed", 0, 20)),
            (ended(Some(Exit::Code(1)), 1), ("Error", 1, 20)),
            (ended(Some(Exit::Signal(9)), 137), ("Error", 137, 20)),
            (ended(Some(Exit::Signal(15)), 143), ("Error", 143, 20)),
            (oom, ("OOMKilled", 137, 20)),
            (child_oom, ("OOMKilled", 0, 20)),
            (unstarted, ("StartError", 128, 0)),
            (ended(None, 255), ("Unknown", 255, 20)),
            (Ended { started_at: None, ..ended(None, 255) }, ("Unknown", 255, 0)),
        ] {
            let life = Life::of(&Phase::Exited(end.clone()));
            assert_eq!((life.reason, life.exit_code, life.started_at), wanted, "{end:?}");
            assert_eq!(life.message, end.message.unwrap_or_default());
        }
    }

    #[test]
    fn times_are_zero_until_they_happen() {
        let running = Phase::Running { process: ProcessId { pid: 7, start_time: 9 }, started_at: at(20) };
        for (phase, state, times) in [
            (Phase::Created, v1::ContainerState::ContainerCreated, (0, 0)),
            (running, v1::ContainerState::ContainerRunning, (20, 0)),
            (Phase::Unknown, v1::ContainerState::ContainerUnknown, (0, 0)),
        ] {
            let status = container_status(&view(phase), None);
            assert_eq!((status.state(), (status.started_at, status.finished_at)), (state, times));
        }
    }
}
