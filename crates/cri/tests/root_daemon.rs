//! The daemon itself: what it offers, and that nothing depends on it.

mod fixture;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use carrack_cri_proto::v1;
use carrack_tests::cri::{container_config, pod_config};
use carrack_tests::log::parse;
use carrack_tests::wait::wait_until;
use fixture::{PATIENCE, with_daemon, with_node};
use tonic::Code;

#[test]
fn root_the_daemon_tells_what_it_is() {
    with_daemon("identity", |stage| {
        let cri = stage.cri();
        let version =
            cri.runtime(async |mut client| client.version(v1::VersionRequest::default()).await).expect("a version");
        assert_eq!((version.runtime_name.as_str(), version.runtime_api_version.as_str()), ("carrack", "v1"));
        let status = cri.runtime(async |mut client| client.status(v1::StatusRequest { verbose: true }).await);
        let status = status.expect("a status");
        let conditions = status.status.expect("conditions").conditions;
        for name in ["RuntimeReady", "NetworkReady"] {
            let condition = conditions.iter().find(|condition| condition.r#type == name).expect(name);
            assert!(condition.status, "{condition:?}");
        }
        assert!(status.info.contains_key("config"), "{:?}", status.info);
        assert!(status.runtime_handlers.iter().any(|handler| handler.name.is_empty()), "{:?}", status.runtime_handlers);
        assert!(status.features.expect("features").supplemental_groups_policy);
        let config = cri.runtime(async |mut client| client.runtime_config(v1::RuntimeConfigRequest {}).await);
        let linux = config.expect("a configuration").linux.expect("for Linux");
        assert_eq!(linux.cgroup_driver(), v1::CgroupDriver::Cgroupfs);

        let mode = fs::metadata(&stage.daemon.socket).expect("the socket").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let socket = stage.daemon.socket.to_string_lossy().into_owned();
        let second = stage.node.run(&["serve", "--socket", &socket]);
        assert!(second.code != 0, "a second daemon took the socket");
        assert!(second.stderr.contains("in use"), "{}", second.stderr);
        cri.pods().expect("the first one still answers");
    });
}

#[test]
fn root_what_is_not_offered_says_so_by_name() {
    with_daemon("not-offered", |stage| {
        let cri = stage.cri();
        let refused = |rpc: &str, status: tonic::Status| {
            assert_eq!(status.code(), Code::Unimplemented, "{rpc}: {status:?}");
            assert!(status.message().contains(rpc), "{rpc}: {status:?}");
        };
        macro_rules! not_offered {
            ($($name:literal $call:ident $request:ident),* $(,)?) => {
                $(
                    let answer = cri.runtime(async |mut client| client.$call(v1::$request::default()).await);
                    refused($name, answer.map(drop).expect_err($name));
                )*
            };
        }
        not_offered! {
            "UpdateContainerResources" update_container_resources UpdateContainerResourcesRequest,
            "UpdatePodSandboxResources" update_pod_sandbox_resources UpdatePodSandboxResourcesRequest,
            "UpdateRuntimeConfig" update_runtime_config UpdateRuntimeConfigRequest,
            "Exec" exec ExecRequest,
            "Attach" attach AttachRequest,
            "PortForward" port_forward PortForwardRequest,
            "ContainerStats" container_stats ContainerStatsRequest,
            "ListContainerStats" list_container_stats ListContainerStatsRequest,
            "PodSandboxStats" pod_sandbox_stats PodSandboxStatsRequest,
            "ListPodSandboxStats" list_pod_sandbox_stats ListPodSandboxStatsRequest,
            "CheckpointContainer" checkpoint_container CheckpointContainerRequest,
            "ListMetricDescriptors" list_metric_descriptors ListMetricDescriptorsRequest,
            "ListPodSandboxMetrics" list_pod_sandbox_metrics ListPodSandboxMetricsRequest,
            "StreamPodSandboxes" stream_pod_sandboxes StreamPodSandboxesRequest,
            "StreamContainers" stream_containers StreamContainersRequest,
            "StreamContainerStats" stream_container_stats StreamContainerStatsRequest,
            "StreamPodSandboxStats" stream_pod_sandbox_stats StreamPodSandboxStatsRequest,
            "StreamPodSandboxMetrics" stream_pod_sandbox_metrics StreamPodSandboxMetricsRequest,
            "GetContainerEvents" get_container_events GetEventsRequest,
        }
        let images = cri.images(async |mut client| client.stream_images(v1::StreamImagesRequest::default()).await);
        refused("StreamImages", images.map(drop).expect_err("StreamImages"));
    });
}

#[test]
fn root_a_killed_daemon_loses_nothing() {
    with_node("killed-daemon", |node, _registry, image| {
        let daemon = node.serve();
        daemon.cri.pull(image).expect("the registry has it");
        let logs = node.place().join("logs");
        let config = pod_config("lasting", &logs);
        let pod = daemon.cri.run_pod(&config).expect("a pod");
        let run = |name: &str, script: &str| {
            let made = daemon.cri.create(&pod, container_config(name, image, &["sh", "-c", script]), &config);
            let id = made.expect("a container");
            daemon.cri.start(&id).expect("it starts");
            id
        };
        let counter = run("counter", "i=0; while true; do i=$((i+1)); echo $i; sleep 0.01; done");
        // It ends when the file appears: after the daemon was killed.
        let mortal = run("mortal", "until [ -e /tmp/end ]; do sleep 0.05; done; exit 7");
        let counted = || parse(&fs::read_to_string(logs.join("counter.log")).unwrap_or_default()).len();
        let before = daemon.cri.status(&counter).expect("its status");
        wait_until("it counts", PATIENCE, || counted() > 10);
        daemon.kill();

        let at_kill = counted();
        wait_until("it counts on without a daemon", PATIENCE, || counted() > at_kill + 20);
        let touched = node.run(&["exec", &mortal, "touch", "/tmp/end"]);
        assert!(touched.code == 0, "{}", touched.stderr);
        wait_until("the exit is on disk", PATIENCE, || {
            node.root().join("containers").join(&mortal).join("exit.json").exists()
        });

        let daemon = node.serve();
        let cri = &daemon.cri;
        let pods: Vec<String> = cri.pods().expect("a list").into_iter().map(|pod| pod.id).collect();
        assert_eq!(pods, std::slice::from_ref(&pod));
        assert_eq!(cri.pod_status(&pod).expect("its status").state(), v1::PodSandboxState::SandboxReady);
        let after = cri.status(&counter).expect("its status");
        assert_eq!((after.state(), after.started_at), (v1::ContainerState::ContainerRunning, before.started_at));
        let ended = cri.status(&mortal).expect("its status");
        assert_eq!((ended.state(), ended.exit_code), (v1::ContainerState::ContainerExited, 7), "{ended:?}");
        let exec = cri.exec(&counter, &["echo", "alive"], 10).expect("it runs on");
        assert_eq!(exec.stdout, b"alive\n");
        cri.stop(&counter, 0).expect("it stops");
        let records = parse(&fs::read_to_string(logs.join("counter.log")).expect("the log"));
        for (index, record) in records.iter().enumerate().filter(|(_, record)| record.is_full) {
            assert_eq!(record.content, (index + 1).to_string(), "a line was lost");
        }
        cri.remove_pod(&pod).expect("it goes");
        daemon.stop();
    });
}

#[test]
fn root_a_daemon_ends_soon_though_a_call_is_under_way() {
    with_node("ending-daemon", |node, _registry, image| {
        let daemon = node.serve();
        daemon.cri.pull(image).expect("the registry has it");
        let config = pod_config("busy", &node.place().join("logs"));
        let pod = daemon.cri.run_pod(&config).expect("a pod");
        let made = daemon.cri.create(&pod, container_config("app", image, &["sleep", "1000"]), &config);
        let id = made.expect("a container");
        daemon.cri.start(&id).expect("it starts");
        let socket = daemon.socket.clone();
        let endless = std::thread::spawn({
            let id = id.clone();
            move || {
                let client = carrack_tests::cri::Cri::connect(&socket).expect("the daemon answers");
                client.exec(&id, &["sleep", "777"], 0).expect_err("the daemon ends first")
            }
        });
        let ps = ["exec", &id, "ps", "-o", "args"];
        wait_until("the program runs", PATIENCE, || node.run(&ps).stdout.contains("sleep 777"));
        let begin = std::time::Instant::now();
        daemon.stop();
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
        endless.join().expect("no panic");
        let daemon = node.serve();
        daemon.cri.remove_pod(&pod).expect("it goes");
        daemon.stop();
    });
}
