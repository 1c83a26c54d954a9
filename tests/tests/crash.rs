//! Kill anything at any time: nothing is lost, and nothing is left.

#![forbid(unsafe_code)]

use std::fs;

use carrack_cri_proto::v1 as proto;
use carrack_tests::command::{DEADLINE, run};
use carrack_tests::cri::{container_config, pod_config};
use carrack_tests::log;
use carrack_tests::node::{kill, with_busybox};
use carrack_tests::wait::wait_until;
use serde_json::Value;

#[test]
fn root_pods_outlive_a_killed_daemon_and_the_next_one_takes_them_back() {
    let (node, _registry, image) = with_busybox("killed-daemon");
    let logs = node.place().directory("logs");
    let pod_config = pod_config("survivor", &logs);
    let daemon = node.serve();
    daemon.cri.pull(&image).unwrap();
    let pod = daemon.cri.run_pod(&pod_config).unwrap();
    let talker = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; exit 17";
    let create = |name: &str, script: &str| {
        daemon.cri.create(&pod, container_config(name, &image, &["sh", "-c", script]), &pod_config).unwrap()
    };
    let (talking, waiting) = (create("talking", talker), create("waiting", "sleep 1000"));
    daemon.cri.start(&waiting).unwrap();
    daemon.cri.start(&talking).unwrap();
    let process = daemon.cri.status(&waiting).unwrap();
    daemon.kill();
    // It talks on and ends while there is no daemon.
    let file = logs.join("talking.log");
    wait_until("all lines are logged", DEADLINE, || {
        fs::read_to_string(&file).unwrap_or_default().contains("line 2999")
    });
    let want: String = (0..3000).map(|number| format!("line {number}\n")).collect();
    assert_eq!(log::stream(&log::parse(&fs::read_to_string(&file).unwrap()), "stdout"), want);

    let daemon = node.serve();
    wait_until("the end is known", DEADLINE, || {
        daemon.cri.status(&talking).unwrap().state() == proto::ContainerState::ContainerExited
    });
    let talked = daemon.cri.status(&talking).unwrap();
    assert_eq!((talked.exit_code, talked.reason.as_str()), (17, "Error"));
    let waited = daemon.cri.status(&waiting).unwrap();
    assert_eq!(waited.state(), proto::ContainerState::ContainerRunning);
    assert_eq!(waited.started_at, process.started_at);
    assert_eq!(daemon.cri.exec(&waiting, &["echo", "alive"], 10).unwrap().stdout, b"alive\n");
    assert_eq!(daemon.cri.pod_status(&pod).unwrap().state(), proto::PodSandboxState::SandboxReady);
    daemon.cri.remove_pod(&pod).unwrap();
    daemon.stop();
    node.finish();
}

#[test]
fn root_after_a_reboot_containers_are_exited_and_names_and_addresses_are_free() {
    let (mut node, _registry, image) = with_busybox("after-reboot");
    node.ok(&["run", "-d", "--name", "ship", "-p", "8080:80", &image, "sleep", "1000"]);
    node.ok(&["run", "-d", "--name", "boat", "--rm", &image, "sleep", "1000"]);
    let before = node.inspect("ship");
    node.reboot();
    let state = node.inspect("ship")["State"].clone();
    assert_eq!(state["Status"], "exited");
    assert_eq!(state["Error"], "the host was restarted while it ran");
    // It was asked for after it was made, and a moment before its program ran.
    let times = [&before["Created"], &state["StartedAt"], &before["State"]["StartedAt"]].map(Value::as_str);
    assert!(times.is_sorted(), "{times:?}");
    assert!(state["FinishedAt"].as_str() >= state["StartedAt"].as_str(), "{state}");
    // The port and the address can be had again; a container that is to be removed at its end is.
    node.ok(&["run", "-d", "--name", "next", "-p", "8080:80", &image, "sleep", "1000"]);
    assert!(!node.ok(&["ps", "-a"]).contains("boat"));
    node.ok(&["rm", "-f", "next"]);
    node.ok(&["start", "ship"]);
    assert_eq!(node.state("ship"), "running");
    assert_eq!(node.ok(&["exec", "ship", "echo", "again"]), "again");
    node.ok(&["rm", "-f", "ship"]);
    node.finish();
}

#[test]
fn root_a_daemon_finds_its_pods_dead_after_a_reboot() {
    let (mut node, _registry, image) = with_busybox("pods-after-reboot");
    let pod_config = pod_config("sunk", &node.place().directory("logs"));
    let daemon = node.serve();
    daemon.cri.pull(&image).unwrap();
    let pod = daemon.cri.run_pod(&pod_config).unwrap();
    let container = daemon.cri.create(&pod, container_config("one", &image, &["sleep", "1000"]), &pod_config).unwrap();
    daemon.cri.start(&container).unwrap();
    daemon.kill();
    node.reboot();
    let daemon = node.serve();
    assert_eq!(daemon.cri.pod_status(&pod).unwrap().state(), proto::PodSandboxState::SandboxNotready);
    assert_eq!(daemon.cri.status(&container).unwrap().state(), proto::ContainerState::ContainerExited);
    // The kubelet makes the next attempt beside the dead one.
    let mut next = pod_config.clone();
    next.metadata.as_mut().unwrap().attempt = 1;
    let again = daemon.cri.run_pod(&next).unwrap();
    daemon.cri.remove_pod(&pod).unwrap();
    daemon.cri.remove_pod(&again).unwrap();
    daemon.stop();
    node.finish();
}

#[test]
fn root_ten_callers_at_once_agree() {
    let (node, _registry, image) = with_busybox("ten-callers");
    let daemon = node.serve();
    let names: Vec<String> = (0..10).map(|number| format!("ship-{number}")).collect();
    let runs: Vec<_> =
        names.iter().map(|name| node.start(&["run", "-d", "--name", name, &image, "sleep", "1000"])).collect();
    for run in runs {
        run.finish(DEADLINE).ok();
    }
    let addresses: std::collections::BTreeSet<String> = names.iter().map(|name| node.address(name)).collect();
    assert_eq!(addresses.len(), 10);
    let listed = node.ok(&["ps"]);
    assert!(names.iter().all(|name| listed.contains(name.as_str())), "{listed}");
    let removals: Vec<_> = names.iter().map(|name| node.start(&["rm", "-f", name])).collect();
    for removal in removals {
        removal.finish(DEADLINE).ok();
    }
    daemon.stop();
    node.finish();
}

#[test]
fn root_of_two_creates_of_one_name_one_succeeds() {
    let (node, _registry, image) = with_busybox("one-name");
    node.ok(&["pull", &image]);
    let runs: Vec<_> = (0..4).map(|_| node.start(&["run", "-d", "--name", "ship", &image, "sleep", "1000"])).collect();
    let results: Vec<_> = runs.into_iter().map(|run| run.finish(DEADLINE)).collect();
    let lucky = results.iter().filter(|ran| ran.code == 0).count();
    assert_eq!(lucky, 1, "{results:?}");
    assert!(
        results.iter().filter(|ran| ran.code != 0).all(|ran| ran.code == 125 && ran.stderr.contains("ship")),
        "{results:?}"
    );
    node.ok(&["rm", "-f", "ship"]);
    node.finish();
}

#[test]
fn root_a_command_killed_at_any_moment_leaves_nothing_in_the_way() {
    let (node, _registry, image) = with_busybox("killed-create");
    node.ok(&["pull", &image]);
    // Ever later moments, until the command has done its work before it is killed.
    for delay in (0..24).map(|step| std::time::Duration::from_millis(step * step / 2 + step)) {
        let running = node.start(&["run", "-d", "--name", "ship", &image, "sleep", "1000"]);
        std::thread::sleep(delay);
        node.kill_inside(running);
        // Whatever stage it had reached: the name can be freed and used.
        let removed = node.run(&["rm", "-f", "ship"]);
        assert!(removed.code == 0 || removed.stderr.contains("ship"), "after {delay:?}: {removed}");
        assert_eq!(node.ok(&["run", "--rm", "--name", "ship", &image, "echo", "works"]), "works", "after {delay:?}");
    }
    wait_until("nothing is listed", DEADLINE, || !node.ok(&["ps", "-a"]).contains("ship"));
    node.finish();
}

#[test]
fn root_a_killed_attached_command_leaves_its_container_running() {
    let (node, _registry, image) = with_busybox("killed-attached");
    let running = node.start(&["run", "--name", "ship", &image, "sh", "-c", "echo ready; sleep 1000"]);
    running.wait_for_output("ready");
    node.kill_inside(running);
    assert_eq!(node.state("ship"), "running");
    assert_eq!(node.ok(&["logs", "ship"]), "ready");
    node.ok(&["rm", "-f", "ship"]);
    node.finish();
}

#[test]
fn root_a_container_whose_monitor_was_killed_is_told_of_stopped_and_started() {
    let (node, _registry, image) = with_busybox("orphan");
    let script = "trap 'echo stopping; sleep 1; exit 0' TERM; while :; do sleep 0.1; done";
    node.ok(&["run", "-d", "--name", "ship", "-p", "8080:80", &image, "sh", "-c", script]);
    let kill_monitor = || {
        let list = run(node.fixture("ps").arg("-eo").arg("pid,args")).ok();
        let line = list.lines().find(|line| line.contains(" monitor ")).unwrap_or_else(|| panic!("{list}"));
        let pid: u32 = line.split_whitespace().next().unwrap().parse().unwrap();
        kill(node.pid_outside(pid));
        node.wait_for_state("ship", "unknown");
    };
    let processes = || run(node.fixture("ps").arg("-eo").arg("args")).ok().matches("trap").count();
    kill_monitor();
    assert!(node.ok(&["ps"]).contains("Unknown (its monitor does not answer)"));
    assert!(node.inspect("ship")["State"]["Error"].as_str().unwrap().contains("monitor was killed"));
    for verb in [&["exec", "ship", "true"][..], &["attach", "ship"]] {
        node.run(verb).fails(125, "has lost its monitor");
    }
    node.run(&["rm", "ship"]).fails(1, "stop it first");
    assert_eq!(processes(), 1);
    // It ends by its own handler, not after the minute that it may take.
    let started = std::time::Instant::now();
    node.ok(&["stop", "-t", "60", "ship"]);
    assert!(started.elapsed().as_secs() < 40, "{:?}", started.elapsed());
    assert_eq!((node.state("ship").as_str(), processes()), ("exited", 0));
    node.ok(&["start", "ship"]);
    // Started anew without having been stopped; only one of it runs.
    kill_monitor();
    node.ok(&["start", "ship"]);
    assert_eq!((node.state("ship").as_str(), processes()), ("running", 1));
    assert_eq!(node.ok(&["exec", "ship", "echo", "alive"]), "alive");
    // Who waits for it is told when it ends, though nobody saw how.
    kill_monitor();
    let waiting = node.start(&["wait", "ship"]);
    node.ok(&["kill", "-s", "TERM", "ship"]);
    assert_eq!(waiting.finish(DEADLINE).ok(), "255\n");
    // Whoever is connected when it happens is told; a stop that waits goes on without it.
    let attached = node.start(&["start", "-a", "ship"]);
    node.wait_for_state("ship", "running");
    let stopping = node.start(&["stop", "-t", "20", "ship"]);
    wait_until("it is stopping", DEADLINE, || node.ok(&["logs", "ship"]).ends_with("stopping"));
    kill_monitor();
    attached.finish(DEADLINE).fails(125, "was killed, so its output and its exit are lost");
    stopping.finish(DEADLINE).ok();
    assert_eq!((node.state("ship").as_str(), processes()), ("exited", 0));
    node.ok(&["start", "ship"]);
    kill_monitor();
    node.ok(&["rm", "-f", "ship"]);
    assert_eq!(processes(), 0);
    node.finish();
}
