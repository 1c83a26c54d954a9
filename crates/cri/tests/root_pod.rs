//! Pod sandboxes, over the real socket of the real daemon.

mod fixture;

use carrack_cri_proto::v1;
use carrack_tests::cri::Cri;
use fixture::{list, list_pods, stop_pod, with_daemon};
use tonic::Code;

#[test]
fn root_two_containers_share_network_ipc_and_name_but_not_processes() {
    with_daemon("two-containers", |stage| {
        let pod = stage.run_pod("web");
        let serve = "while true; do echo from-one | nc -l -p 9000; done";
        let one = stage.run(&pod, stage.container_config("one", &["sh", "-c", serve]));
        let two = stage.run(&pod, stage.container_config("two", &["sleep", "1000"]));
        for (namespace, is_shared) in [("net", true), ("ipc", true), ("uts", true), ("pid", false), ("mnt", false)] {
            let link = format!("readlink /proc/self/ns/{namespace}");
            let (first, second) = (stage.shell(&one, &link), stage.shell(&two, &link));
            assert_eq!(first == second, is_shared, "{namespace}: {first} and {second}");
            let own = std::fs::read_link(format!("/proc/self/ns/{namespace}")).expect("a namespace");
            assert_ne!(own.to_string_lossy(), first, "{namespace} is the host's");
        }
        let ask = "for i in $(seq 200); do nc 127.0.0.1 9000 </dev/null && exit; sleep 0.05; done; exit 1";
        assert_eq!(stage.shell(&two, ask), "from-one");
        stage.shell(&one, "echo shared > /dev/shm/note");
        assert_eq!(stage.shell(&two, "cat /dev/shm/note"), "shared");
        assert_eq!(stage.shell(&two, "hostname"), "web");
        assert_eq!(stage.shell(&two, "ps -o comm | grep -c nc || true"), "0");
        stage.cri().remove_pod(&pod).expect("it goes with what runs in it");
    });
}

#[test]
fn root_containers_of_a_pod_with_one_pid_namespace_see_each_other() {
    with_daemon("shared-pids", |stage| {
        let config = v1::PodSandboxConfig { linux: None, ..stage.pod_config("shared") };
        let pod = stage.cri().run_pod(&config).expect("a pod");
        let one = stage.run(&pod, stage.container_config("one", &["sleep", "4321"]));
        let two = stage.run(&pod, stage.container_config("two", &["sleep", "1000"]));
        let link = "readlink /proc/self/ns/pid";
        assert_eq!(stage.shell(&one, link), stage.shell(&two, link));
        assert!(stage.shell(&two, "ps -o args").contains("sleep 4321"));
        stage.cri().remove_pod(&pod).expect("it goes");
    });
}

#[test]
fn root_a_pod_on_the_hosts_network_has_no_address_of_its_own() {
    with_daemon("host-network", |stage| {
        let mut config = stage.pod_config("hostnet");
        let context = config.linux.as_mut().and_then(|linux| linux.security_context.as_mut());
        let options = context.and_then(|context| context.namespace_options.as_mut());
        options.expect("the fixture says which namespaces").network = v1::NamespaceMode::Node.into();
        config.hostname.clear();
        let pod = stage.cri().run_pod(&config).expect("a pod");
        let status = stage.cri().pod_status(&pod).expect("its status");
        assert_eq!(status.network, Some(v1::PodSandboxNetworkStatus::default()));
        let id = stage.run(&pod, stage.container_config("app", &["sleep", "1000"]));
        let own = std::fs::read_link(format!("/proc/{}/ns/net", stage.node.pid())).expect("a namespace");
        assert_eq!(stage.shell(&id, "readlink /proc/self/ns/net"), own.to_string_lossy());
        stage.cri().remove_pod(&pod).expect("it goes");
    });
}

#[test]
fn root_status_and_lists_tell_all_and_filter() {
    with_daemon("lists", |stage| {
        let cri = stage.cri();
        let mut config = stage.pod_config("first");
        config.annotations = [("note".to_owned(), "any \u{e9}\n text".to_owned())].into();
        let first = cri.run_pod(&config).expect("a pod");
        let second = stage.run_pod("second");

        let status = cri.pod_status(&first).expect("its status");
        assert_eq!(status.id, first);
        assert_eq!(status.metadata, config.metadata);
        assert_eq!((status.labels, status.annotations), (config.labels.clone(), config.annotations.clone()));
        assert!(status.created_at > 1_700_000_000_000_000_000, "{}", status.created_at);
        let ip = status.network.expect("a network").ip;
        assert!(ip.parse::<std::net::Ipv4Addr>().is_ok(), "{ip}");
        assert_eq!(status.state, i32::from(v1::PodSandboxState::SandboxReady));

        let mut running = stage.container_config("app", &["sleep", "1000"]);
        running.labels = [("tier".to_owned(), "front".to_owned()), ("app".to_owned(), "x".to_owned())].into();
        running.annotations = config.annotations.clone();
        let running_id = stage.run(&first, running.clone());
        let created = stage.create(&first, stage.container_config("later", &["true"])).expect("made");
        let ended = stage.run(&second, stage.container_config("brief", &["true"]));
        stage.exited(&ended);

        let ids = |filter: v1::ContainerFilter| -> Vec<String> {
            let mut ids: Vec<String> = list(cri, filter).into_iter().map(|container| container.id).collect();
            ids.sort();
            ids
        };
        let sorted = |ids: &[&String]| -> Vec<String> {
            let mut ids: Vec<String> = ids.iter().map(|id| (*id).clone()).collect();
            ids.sort();
            ids
        };
        let in_state = |state: v1::ContainerState| Some(v1::ContainerStateValue { state: state.into() });
        type Filter = v1::ContainerFilter;
        for (filter, wanted) in [
            (Filter::default(), vec![&running_id, &created, &ended]),
            (Filter { pod_sandbox_id: first.clone(), ..Default::default() }, vec![&running_id, &created]),
            (Filter { pod_sandbox_id: first[..13].into(), ..Default::default() }, vec![&running_id, &created]),
            (Filter { pod_sandbox_id: "nosuchpod".into(), ..Default::default() }, vec![]),
            (Filter { id: running_id[..12].into(), ..Default::default() }, vec![&running_id]),
            (Filter { id: "nosuchid".into(), ..Default::default() }, vec![]),
            (Filter { id: running_id.clone(), pod_sandbox_id: second.clone(), ..Default::default() }, vec![]),
            (Filter { state: in_state(v1::ContainerState::ContainerRunning), ..Default::default() }, vec![&running_id]),
            (Filter { state: in_state(v1::ContainerState::ContainerCreated), ..Default::default() }, vec![&created]),
            (Filter { state: in_state(v1::ContainerState::ContainerExited), ..Default::default() }, vec![&ended]),
            (Filter { label_selector: running.labels.clone(), ..Default::default() }, vec![&running_id]),
            (Filter { label_selector: [("tier".into(), "back".into())].into(), ..Default::default() }, vec![]),
        ] {
            assert_eq!(ids(filter.clone()), sorted(&wanted), "{filter:?}");
        }
        let listed = list(cri, Filter { id: running_id.clone(), ..Default::default() }).remove(0);
        assert_eq!((listed.labels, listed.annotations), (running.labels, running.annotations));
        assert_eq!((listed.pod_sandbox_id, listed.metadata), (first.clone(), running.metadata));
        assert_eq!((&listed.image_id, &listed.image_ref), (&stage.image, &stage.image));

        stop_pod(cri, &second).expect("it stops");
        let pods = |filter: v1::PodSandboxFilter| -> Vec<String> {
            list_pods(cri, filter).into_iter().map(|pod| pod.id).collect()
        };
        let ready = |state: v1::PodSandboxState| Some(v1::PodSandboxStateValue { state: state.into() });
        type PodFilter = v1::PodSandboxFilter;
        for (filter, wanted) in [
            (PodFilter::default(), vec![&first, &second]),
            (PodFilter { state: ready(v1::PodSandboxState::SandboxReady), ..Default::default() }, vec![&first]),
            (PodFilter { state: ready(v1::PodSandboxState::SandboxNotready), ..Default::default() }, vec![&second]),
            (PodFilter { id: first[..10].into(), ..Default::default() }, vec![&first]),
            (PodFilter { id: "nosuchpod".into(), ..Default::default() }, vec![]),
            (PodFilter { label_selector: config.labels, ..Default::default() }, vec![&first]),
        ] {
            let mut found = pods(filter.clone());
            found.sort();
            assert_eq!(found, sorted(&wanted), "{filter:?}");
        }
        for pod in [first, second] {
            cri.remove_pod(&pod).expect("it goes");
        }
        assert!(cri.containers().expect("a list").is_empty());
    });
}

#[test]
fn root_repeats_find_what_the_first_call_made() {
    with_daemon("repeats", |stage| {
        let cri = stage.cri();
        let config = stage.pod_config("twice");
        // Eight clients at once want the same pod.
        let ids: Vec<String> = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let client = Cri::connect(&stage.daemon.socket).expect("the daemon answers");
                        client.run_pod(&config).unwrap_or_else(|status| panic!("{status:?}"))
                    })
                })
                .collect();
            clients.into_iter().map(|client| client.join().expect("no panic")).collect()
        });
        let pod = ids[0].clone();
        assert!(ids.iter().all(|id| *id == pod), "{ids:?}");
        assert_eq!(cri.pods().expect("a list").len(), 1);
        let other = v1::PodSandboxConfig { hostname: "other".into(), ..config.clone() };
        assert_eq!(cri.run_pod(&other).expect_err("the name is taken").code(), Code::AlreadyExists);

        let container = stage.container_config("app", &["sleep", "1000"]);
        let id = stage.create(&pod, container.clone()).expect("made");
        assert_eq!(stage.create(&pod, container.clone()).expect("found"), id);
        let other = v1::ContainerConfig { args: vec!["1".into()], ..container };
        assert_eq!(stage.create(&pod, other).expect_err("the name is taken").code(), Code::AlreadyExists);
        cri.start(&id).expect("it starts");
        assert_eq!(cri.start(&id).expect_err("it runs").code(), Code::FailedPrecondition);

        for _ in 0..2 {
            cri.stop(&id, 0).expect("stopped");
        }
        for _ in 0..2 {
            cri.remove(&id).expect("removed");
        }
        for _ in 0..2 {
            stop_pod(cri, &pod).expect("stopped");
        }
        let refused = stage.create(&pod, stage.container_config("late", &["true"])).expect_err("the pod is stopped");
        assert_eq!(refused.code(), Code::FailedPrecondition);
        for _ in 0..2 {
            cri.remove_pod(&pod).expect("removed");
        }
    });
}

#[test]
fn root_unknown_ids_are_not_found_or_gone_already() {
    with_daemon("unknown-ids", |stage| {
        let cri = stage.cri();
        let unknown = "0123456789abcdef";
        assert_eq!(cri.pod_status(unknown).expect_err("unknown").code(), Code::NotFound);
        assert_eq!(cri.status(unknown).expect_err("unknown").code(), Code::NotFound);
        assert_eq!(cri.start(unknown).expect_err("unknown").code(), Code::NotFound);
        assert_eq!(cri.exec(unknown, &["true"], 1).expect_err("unknown").code(), Code::NotFound);
        cri.stop(unknown, 0).expect("gone is stopped");
        cri.remove(unknown).expect("gone is removed");
        cri.remove_pod(unknown).expect("gone is removed");
        assert_eq!(cri.stop("", 0).expect_err("no id").code(), Code::InvalidArgument);
        assert_eq!(cri.pod_status("").expect_err("no id").code(), Code::InvalidArgument);
    });
}
