//! Each limit, by a container that exceeds it. The same tests run on cgroup v1 here and on pure v2 in the virtual machine.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use carrack_tests::command::DEADLINE;
use carrack_tests::cri::{container_config, pod_config};
use carrack_tests::node::with_busybox;
use carrack_tests::wait::wait_for;

/// Fills memory: a shell variable that doubles.
const GLUTTON: &str = "x=0123456789abcdef; while :; do x=$x$x; done";

#[test]
fn root_a_container_that_exceeds_its_memory_is_killed_and_says_so() {
    let (node, _registry, image) = with_busybox("memory");
    let ran = node.run(&["run", "--name", "glutton", "--memory", "32m", &image, "sh", "-c", GLUTTON]);
    assert_eq!(ran.code, 137, "{ran}");
    let exited = node.inspect("glutton")["State"].clone();
    assert_eq!((&exited["OOMKilled"], &exited["ExitCode"]), (&true.into(), &137.into()), "{exited}");
    node.ok(&["rm", "glutton"]);
    // The same when only a child dies and the first process lives on to tell.
    let ran = node.run(&[
        "run",
        "--name",
        "parent",
        "--memory",
        "32m",
        &image,
        "sh",
        "-c",
        &format!("sh -c '{GLUTTON}'; exit 5"),
    ]);
    assert_eq!(ran.code, 5, "{ran}");
    assert_eq!(node.inspect("parent")["State"]["OOMKilled"], true);
    node.ok(&["rm", "parent"]);
    node.finish();
}

#[test]
fn root_a_container_cannot_have_more_tasks_than_allowed() {
    let (node, _registry, image) = with_busybox("pids");
    let script = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 5 & done 2>/tmp/err; wait; true";
    let ran = node.run(&["run", "--rm", "--pids-limit", "5", &image, "sh", "-c", script]);
    assert!(ran.stderr.contains("fork") || ran.code != 0, "{ran}");
    let script = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1 & done; wait; echo all";
    assert_eq!(node.ok(&["run", "--rm", "--pids-limit", "50", &image, "sh", "-c", script]), "all");
    node.finish();
}

#[test]
fn root_a_container_gets_no_more_processor_time_than_allowed() {
    let (node, _registry, image) = with_busybox("cpus");
    // The kernel's own account of the container's first process: clock ticks of user and system time, a hundred a second.
    let script = "end=$(($(date +%s) + 4)); while [ $(date +%s) -lt $end ]; do :; done; cat /proc/1/stat";
    let started = Instant::now();
    let stat = node.ok(&["run", "--rm", "--cpus", "0.2", &image, "sh", "-c", script]);
    let took = started.elapsed();
    let fields: Vec<u64> =
        stat.rsplit_once(')').unwrap().1.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // Fields 14 to 17 of proc(5): its own time, and that of the children it waited for.
    let ticks: u64 = fields[10..14].iter().sum();
    let share = ticks as f64 / 100.0 / took.as_secs_f64();
    assert!(share < 0.3, "{share:.2} of a processor were used, 0.2 are allowed");
    node.finish();
}

#[test]
fn root_a_pod_container_killed_for_memory_is_reported_as_oomkilled() {
    let (node, _registry, image) = with_busybox("cri-memory");
    let daemon = node.serve();
    daemon.cri.pull(&image).unwrap();
    let pod_config = pod_config("glutton", &node.place().directory("logs"));
    let pod = daemon.cri.run_pod(&pod_config).unwrap();
    let mut config = container_config("glutton", &image, &["sh", "-c", GLUTTON]);
    let resources =
        carrack_cri_proto::v1::LinuxContainerResources { memory_limit_in_bytes: 32 << 20, ..Default::default() };
    config.linux.as_mut().unwrap().resources = Some(resources);
    let container = daemon.cri.create(&pod, config, &pod_config).unwrap();
    daemon.cri.start(&container).unwrap();
    let status = wait_for("the container is killed", DEADLINE, || {
        let status = daemon.cri.status(&container).unwrap();
        (status.finished_at != 0).then_some(status)
    });
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
    daemon.cri.remove_pod(&pod).unwrap();
    daemon.stop();
    node.finish();
}

#[test]
fn root_limits_that_cannot_be_are_refused() {
    let (node, _registry, image) = with_busybox("bad-limits");
    for (flag, value) in [
        ("--memory", "-5"),
        ("--memory", "1x"),
        ("--cpus", "many"),
        ("--cpus", "0.0000001"),
        ("--pids-limit", "several"),
    ] {
        let ran = node.run(&["run", "--rm", &format!("{flag}={value}"), &image, "true"]);
        assert_eq!(ran.code, 125, "{flag} {value}: {ran}");
    }
    let patience = Duration::from_secs(5);
    let started = Instant::now();
    // Too little to start anything: an error or a kill, but never a hang.
    assert_ne!(node.run(&["run", "--rm", "--memory", "4096", &image, "true"]).code, 0);
    assert!(started.elapsed() < patience * 4);
    node.finish();
}
