//! CRI, by a client that knows nothing of Carrack.

#![forbid(unsafe_code)]

use std::fs;
use std::time::{Duration, Instant};

use carrack_cri_proto::v1 as proto;
use carrack_tests::command::DEADLINE;
use carrack_tests::cri::{container_config, pod_config};
use carrack_tests::log;
use carrack_tests::node::with_busybox;
use carrack_tests::wait::{wait_for, wait_until};
use tonic::Code;

#[test]
fn root_a_pod_with_two_containers_from_image_to_removal() {
    let (node, _registry, image) = with_busybox("cri");
    let daemon = node.serve();
    let cri = &daemon.cri;
    let version = cri.runtime(async |mut client| client.version(proto::VersionRequest::default()).await).unwrap();
    assert_eq!((version.runtime_name.as_str(), version.runtime_api_version.as_str()), ("carrack", "v1"));
    let status = cri.runtime(async |mut client| client.status(proto::StatusRequest { verbose: true }).await).unwrap();
    let conditions = status.status.unwrap().conditions;
    assert!(conditions.iter().all(|condition| condition.status), "{conditions:?}");
    assert_eq!(conditions.len(), 2, "{conditions:?}");

    let reference = cri.pull(&image).unwrap();
    let logs = node.place().directory("logs");
    let pod_config = pod_config("fleet", &logs);
    let pod = cri.run_pod(&pod_config).unwrap();
    let first = cri
        .create(
            &pod,
            container_config(
                "first",
                &image,
                &["sh", "-c", "echo out; echo err >&2; nc -l -p 7 -e echo shared; sleep 1000"],
            ),
            &pod_config,
        )
        .unwrap();
    let second = cri.create(&pod, container_config("second", &image, &["sleep", "1000"]), &pod_config).unwrap();
    cri.start(&first).unwrap();
    cri.start(&second).unwrap();

    // One network and one IPC namespace for both, but not one root.
    let namespace = |container: &str, kind: &str| {
        let answer = cri.exec(container, &["readlink", &format!("/proc/self/ns/{kind}")], 10).unwrap();
        String::from_utf8(answer.stdout).unwrap()
    };
    for kind in ["net", "ipc", "uts"] {
        assert_eq!(namespace(&first, kind), namespace(&second, kind), "{kind}");
    }
    for kind in ["mnt", "pid"] {
        assert_ne!(namespace(&first, kind), namespace(&second, kind), "{kind}");
    }
    let heard = wait_for("the first answers the second", DEADLINE, || {
        let answer = cri.exec(&second, &["nc", "127.0.0.1", "7"], 5).ok()?;
        (answer.exit_code == 0).then_some(answer.stdout)
    });
    assert_eq!(heard, b"shared\n");

    // Logs in the CRI format.
    let log_file = logs.join("first.log");
    wait_until("both lines are logged", DEADLINE, || {
        fs::read_to_string(&log_file).is_ok_and(|text| text.lines().count() == 2)
    });
    let records = log::parse(&fs::read_to_string(&log_file).unwrap());
    assert_eq!(
        (log::stream(&records, "stdout").as_str(), log::stream(&records, "stderr").as_str()),
        ("out\n", "err\n")
    );

    // Status and lists.
    let status = cri.status(&first).unwrap();
    assert_eq!(status.state(), proto::ContainerState::ContainerRunning);
    assert_eq!(
        (status.image_id.as_str(), status.log_path.as_str()),
        (reference.as_str(), &*log_file.to_string_lossy())
    );
    assert!(status.started_at >= status.created_at && status.created_at > 1_600_000_000_000_000_000);
    let pod_status = cri.pod_status(&pod).unwrap();
    assert_eq!(pod_status.state(), proto::PodSandboxState::SandboxReady);
    assert!(!pod_status.network.unwrap().ip.is_empty());
    let filter = proto::ContainerFilter { pod_sandbox_id: pod.clone(), ..Default::default() };
    let listed = cri
        .runtime(async |mut client| client.list_containers(proto::ListContainersRequest { filter: Some(filter) }).await)
        .unwrap();
    assert_eq!(listed.containers.len(), 2);
    let filter = proto::PodSandboxFilter {
        label_selector: [("app".to_owned(), "other".to_owned())].into(),
        ..Default::default()
    };
    let listed = cri
        .runtime(async |mut client| {
            client.list_pod_sandbox(proto::ListPodSandboxRequest { filter: Some(filter) }).await
        })
        .unwrap();
    assert!(listed.items.is_empty());
    // People see the pod's containers too, or at least their images.
    assert!(node.ok(&["images"]).contains("boxes/busybox"));

    cri.stop(&first, 0).unwrap();
    let status = cri.status(&first).unwrap();
    assert_eq!((status.state(), status.exit_code), (proto::ContainerState::ContainerExited, 137));
    cri.remove(&first).unwrap();
    // What is gone may be stopped and removed again.
    cri.stop(&first, 0).unwrap();
    cri.remove(&first).unwrap();
    assert_eq!(cri.status(&first).unwrap_err().code(), Code::NotFound);
    cri.remove_pod(&pod).unwrap();
    cri.remove_pod(&pod).unwrap();
    assert_eq!(cri.pod_status(&pod).unwrap_err().code(), Code::NotFound);
    assert!(cri.containers().unwrap().is_empty());
    cri.remove_image(&image).unwrap();
    cri.remove_image(&image).unwrap();
    assert!(cri.list_images().unwrap().is_empty());
    daemon.stop();
    node.finish();
}

#[test]
fn root_the_command_line_takes_a_container_of_a_pod_by_the_name_that_it_shows() {
    let (node, _registry, image) = with_busybox("shown-name");
    let logs = node.place().directory("logs");
    let daemon = node.serve();
    daemon.cri.pull(&image).unwrap();
    let make = |pod: &str, names: &[&str]| {
        let pod_config = pod_config(pod, &logs);
        let pod = daemon.cri.run_pod(&pod_config).unwrap();
        let made = names.iter().map(|name| {
            let config = container_config(name, &image, &["sleep", "1000"]);
            let id = daemon.cri.create(&pod, config, &pod_config).unwrap();
            daemon.cri.start(&id).unwrap();
            id
        });
        (made.collect::<Vec<_>>(), pod.clone())
    };
    let (first, one) = make("one", &["alpha", "both", "ship"]);
    let (second, two) = make("two", &["both"]);
    assert!(node.ok(&["ps"]).contains("alpha"));
    assert_eq!(node.ok(&["exec", "alpha", "echo", "here"]), "here");
    assert_eq!(node.inspect("alpha")["Id"], first[0]);
    let refused = node.run(&["rm", "-f", "both"]).fails(1, &first[1][..12]);
    assert!(refused.stderr.contains(&second[0][..12]), "{refused:?}");
    // A name that was given with `run` is its container's alone.
    let ship = node.ok(&["run", "-d", "--name", "ship", &image, "sleep", "1000"]);
    assert_eq!(node.inspect("ship")["Id"], ship);
    node.ok(&["rm", "-f", "ship", "alpha"]);
    assert_eq!(node.inspect("ship")["Id"], first[2]);
    // The kubelet names ids only.
    assert_eq!(daemon.cri.status("ship").unwrap_err().code(), Code::NotFound);
    daemon.cri.remove_pod(&one).unwrap();
    assert_eq!(node.ok(&["rm", "-f", "both"]), "both");
    daemon.cri.remove_pod(&two).unwrap();
    daemon.stop();
    node.finish();
}

#[test]
fn root_exec_sync_keeps_codes_deadlines_and_bounds() {
    let (node, _registry, image) = with_busybox("exec-sync");
    let daemon = node.serve();
    let cri = &daemon.cri;
    cri.pull(&image).unwrap();
    let pod_config = pod_config("exec", &node.place().directory("logs"));
    let pod = cri.run_pod(&pod_config).unwrap();
    let container = cri.create(&pod, container_config("one", &image, &["sleep", "1000"]), &pod_config).unwrap();
    // Not before it runs.
    assert!(cri.exec(&container, &["true"], 5).is_err());
    cri.start(&container).unwrap();
    let answer = cri.exec(&container, &["sh", "-c", "echo out; echo err >&2; exit 42"], 10).unwrap();
    assert_eq!((answer.exit_code, &*answer.stdout, &*answer.stderr), (42, &b"out\n"[..], &b"err\n"[..]));
    let started = Instant::now();
    let refused = cri.exec(&container, &["sleep", "1000"], 1).unwrap_err();
    assert_eq!(refused.code(), Code::DeadlineExceeded);
    assert!(started.elapsed() < Duration::from_secs(10));
    wait_until("the overdue program is killed", DEADLINE, || {
        let ps = cri.exec(&container, &["ps"], 5).unwrap();
        String::from_utf8_lossy(&ps.stdout).matches("sleep 1000").count() == 1
    });
    // A child that holds the pipe does not hold the call.
    let started = Instant::now();
    assert_eq!(cri.exec(&container, &["sh", "-c", "sleep 1000 & exit 0"], 20).unwrap().exit_code, 0);
    assert!(started.elapsed() < Duration::from_secs(15));
    // Twenty megabytes do not fill the daemon's memory, nor the message.
    let answer = cri.exec(&container, &["dd", "if=/dev/zero", "bs=1M", "count=20"], 60);
    if let Ok(answer) = answer {
        assert!(answer.stdout.len() <= 16 << 20, "{}", answer.stdout.len());
    }
    cri.remove_pod(&pod).unwrap();
    daemon.stop();
    node.finish();
}

#[test]
fn root_a_log_is_reopened_without_losing_a_line() {
    let (node, _registry, image) = with_busybox("reopen");
    let daemon = node.serve();
    let cri = &daemon.cri;
    cri.pull(&image).unwrap();
    let logs = node.place().directory("logs");
    let pod_config = pod_config("reopen", &logs);
    let pod = cri.run_pod(&pod_config).unwrap();
    let script = "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done";
    let container = cri.create(&pod, container_config("one", &image, &["sh", "-c", script]), &pod_config).unwrap();
    cri.start(&container).unwrap();
    let file = logs.join("one.log");
    wait_until("the log begins", DEADLINE, || fs::metadata(&file).is_ok_and(|metadata| metadata.len() > 0));
    let rotated = logs.join("one.log.1");
    fs::rename(&file, &rotated).unwrap();
    let reopen = proto::ReopenContainerLogRequest { container_id: container.clone() };
    let answer = cri.runtime(async |mut client| client.reopen_container_log(reopen).await);
    wait_until("the container ends", DEADLINE, || cri.status(&container).unwrap().finished_at != 0);
    let mut text = fs::read_to_string(&rotated).unwrap();
    if answer.is_ok() {
        text.push_str(&fs::read_to_string(&file).unwrap());
    }
    let want: String = (0..2000).map(|number| format!("line {number}\n")).collect();
    assert_eq!(log::stream(&log::parse(&text), "stdout"), want);
    // A container that does not run has no log to reopen.
    let reopen = proto::ReopenContainerLogRequest { container_id: container.clone() };
    assert!(cri.runtime(async |mut client| client.reopen_container_log(reopen).await).is_err());
    cri.remove_pod(&pod).unwrap();
    daemon.stop();
    node.finish();
}

#[test]
fn root_what_is_not_due_is_unimplemented_by_name() {
    let (node, _registry, _image) = with_busybox("unimplemented");
    let daemon = node.serve();
    let refused =
        daemon.cri.runtime(async |mut client| client.attach(proto::AttachRequest::default()).await).unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    assert!(refused.message().contains("Attach"), "{}", refused.message());
    daemon.stop();
    node.finish();
}

#[test]
fn root_the_socket_is_private_and_its_end_leaves_none() {
    use std::os::unix::fs::PermissionsExt;
    let (node, _registry, _image) = with_busybox("socket");
    let daemon = node.serve();
    let socket = daemon.socket.clone();
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let second = node.run(&["serve", "--socket", &socket.to_string_lossy()]);
    assert_ne!(second.code, 0, "a second daemon took the socket of the first: {second}");
    daemon.stop();
    assert!(!socket.exists());
    node.finish();
}
