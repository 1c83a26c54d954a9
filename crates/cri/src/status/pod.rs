//! [`PodView`] → `PodSandbox` and `PodSandboxStatus`.

use carrack_cri_proto::v1;
use carrack_engine::request::{NamespaceMode, NetworkMode, PodRequest};
use carrack_engine::view::PodView;

/// The pod in a list.
pub(crate) fn pod_sandbox(pod: &PodView) -> v1::PodSandbox {
    v1::PodSandbox {
        id: pod.id.to_string(),
        metadata: metadata(&pod.request),
        state: state(pod).into(),
        created_at: pod.created_at.nanoseconds(),
        labels: pod.request.labels.clone(),
        annotations: pod.request.annotations.clone(),
        runtime_handler: pod.request.runtime_handler.clone(),
    }
}

/// The pod by itself.
pub(crate) fn pod_sandbox_status(pod: &PodView) -> v1::PodSandboxStatus {
    let mut addresses = pod.addresses.iter().map(|address| address.to_string());
    let ip = addresses.next().unwrap_or_default();
    let additional_ips = addresses.map(|ip| v1::PodIp { ip }).collect();
    v1::PodSandboxStatus {
        id: pod.id.to_string(),
        metadata: metadata(&pod.request),
        state: state(pod).into(),
        created_at: pod.created_at.nanoseconds(),
        network: Some(v1::PodSandboxNetworkStatus { ip, additional_ips }),
        linux: Some(v1::LinuxPodSandboxStatus {
            namespaces: Some(v1::Namespace { options: Some(namespace_options(&pod.request)) }),
        }),
        labels: pod.request.labels.clone(),
        annotations: pod.request.annotations.clone(),
        runtime_handler: pod.request.runtime_handler.clone(),
    }
}

fn metadata(request: &PodRequest) -> Option<v1::PodSandboxMetadata> {
    request.metadata.clone().map(|metadata| v1::PodSandboxMetadata {
        name: metadata.name,
        uid: metadata.uid,
        namespace: metadata.namespace,
        attempt: metadata.attempt,
    })
}

fn state(pod: &PodView) -> v1::PodSandboxState {
    if pod.ready { v1::PodSandboxState::SandboxReady } else { v1::PodSandboxState::SandboxNotready }
}

fn namespace_options(request: &PodRequest) -> v1::NamespaceOption {
    let network = match request.network {
        // The interface has no word for a pod with nothing but loopback; it is the pod's own, too.
        NetworkMode::Bridge | NetworkMode::None => v1::NamespaceMode::Pod,
        NetworkMode::Host => v1::NamespaceMode::Node,
    };
    v1::NamespaceOption {
        network: network.into(),
        pid: mode(&request.pid).into(),
        ipc: mode(&request.ipc).into(),
        target_id: String::new(),
        userns_options: None,
    }
}

fn mode(mode: &NamespaceMode) -> v1::NamespaceMode {
    match mode {
        NamespaceMode::Pod => v1::NamespaceMode::Pod,
        NamespaceMode::Container => v1::NamespaceMode::Container,
        NamespaceMode::Host => v1::NamespaceMode::Node,
        NamespaceMode::Target(_) => v1::NamespaceMode::Target,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use carrack_engine::request::PodMetadata;
    use carrack_words::{PodId, Timestamp};

    use super::*;

    fn view() -> PodView {
        let text = |key: &str| BTreeMap::from([(key.to_owned(), "\u{e9}\n".to_owned())]);
        let metadata = PodMetadata { name: "web".into(), uid: "u".into(), namespace: "ns".into(), attempt: 3 };
        PodView {
            id: PodId::new("abc").expect("an id"),
            request: PodRequest {
                metadata: Some(metadata),
                labels: text("l"),
                annotations: text("a"),
                pid: NamespaceMode::Container,
                ..Default::default()
            },
            ready: true,
            created_at: Timestamp::from_nanoseconds(42),
            addresses: vec!["10.88.0.2".parse().expect("an address"), "fd00::2".parse().expect("an address")],
            ports: vec![],
            network_namespace: None,
            monitor: None,
        }
    }

    #[test]
    fn a_status_tells_everything() {
        let metadata =
            v1::PodSandboxMetadata { name: "web".into(), uid: "u".into(), namespace: "ns".into(), attempt: 3 };
        let options = v1::NamespaceOption { pid: v1::NamespaceMode::Container.into(), ..Default::default() };
        let wanted = v1::PodSandboxStatus {
            id: "abc".into(),
            metadata: Some(metadata.clone()),
            state: v1::PodSandboxState::SandboxReady.into(),
            created_at: 42,
            network: Some(v1::PodSandboxNetworkStatus {
                ip: "10.88.0.2".into(),
                additional_ips: vec![v1::PodIp { ip: "fd00::2".into() }],
            }),
            linux: Some(v1::LinuxPodSandboxStatus { namespaces: Some(v1::Namespace { options: Some(options) }) }),
            labels: view().request.labels,
            annotations: view().request.annotations,
            runtime_handler: String::new(),
        };
        assert_eq!(pod_sandbox_status(&view()), wanted);
        let listed = v1::PodSandbox {
            id: "abc".into(),
            metadata: Some(metadata),
            state: v1::PodSandboxState::SandboxReady.into(),
            created_at: 42,
            labels: view().request.labels,
            annotations: view().request.annotations,
            runtime_handler: String::new(),
        };
        assert_eq!(pod_sandbox(&view()), listed);
    }

    #[test]
    fn a_stopped_pod_on_the_hosts_network_has_no_address() {
        let mut pod = view();
        pod.ready = false;
        pod.addresses.clear();
        pod.request.network = NetworkMode::Host;
        let status = pod_sandbox_status(&pod);
        assert_eq!(status.state(), v1::PodSandboxState::SandboxNotready);
        assert_eq!(status.network, Some(v1::PodSandboxNetworkStatus::default()));
        assert_eq!(namespace_options(&pod.request).network(), v1::NamespaceMode::Node);
    }
}
