//! Making, finding, stopping, killing and removing groups.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use carrack_cgroup::CgroupError;
use carrack_oci_config::{LinuxBlockIo, LinuxPids, LinuxResources};
use carrack_sys::rustix::process::Signal;
use carrack_words::Kind;

use crate::child::Waiting;
use crate::scratch::{PATIENCE, Scratch, chain, eventually, host, hosts, unified};

#[test]
fn root_a_group_is_made_found_again_and_removed_everywhere() {
    for host in hosts("root_a_group_is_made_found_again_and_removed_everywhere") {
        let scratch = Scratch::new(host);
        let group = scratch.create("pod/container", &LinuxResources::default());
        let paths = group.paths();
        assert!(paths.values().all(|path| path.is_dir()), "{paths:?}");
        assert!(
            paths
                .values()
                .all(|path| path.ends_with(scratch.below("pod/container").to_string().trim_start_matches('/')))
        );
        assert!(scratch.host.open(&scratch.below("pod/container")).exists());
        assert_eq!(scratch.host.open_recorded(&paths).paths(), paths);
        group.remove(Duration::ZERO).expect("an empty group goes at once");
        assert!(paths.values().all(|path| !path.exists()));
        group.remove(Duration::ZERO).expect("what is gone is removed");
        assert_eq!(group.pids().expect("no group, no processes"), []);
        group.kill_all().expect("no group, nobody to kill");
    }
}

#[test]
fn root_an_empty_group_is_taken_over_and_one_in_use_is_not() {
    let scratch = Scratch::new(host());
    let plan = scratch.host.plan(&scratch.below("a"), None).expect("a plan");
    scratch.host.create(&plan).expect("a new group");
    let group = scratch.host.create(&plan).expect("an empty group is taken over");
    let shell = Waiting::in_group(&group, "exit 0");
    let error = scratch.host.create(&plan).expect_err("a process is inside");
    assert!(error.to_string().starts_with("container's cgroup is not empty: 1 process(es) found in "), "{error}");
    assert_eq!(error.kind(), Kind::Precondition);
    assert!(group.exists(), "what was there before stays");
    shell.run();
}

#[test]
fn root_a_failure_in_the_middle_leaves_no_group() {
    let scratch = Scratch::new(host());
    let faulty = LinuxResources {
        block_io: Some(LinuxBlockIo {
            throttle_read_bps_device: vec![carrack_oci_config::LinuxThrottleDevice { major: 0, minor: 0, rate: 1 }],
            ..LinuxBlockIo::default()
        }),
        ..LinuxResources::default()
    };
    let plan = scratch.host.plan(&scratch.below("a"), Some(&faulty)).expect("a plan");
    let error = scratch.host.create(&plan).expect_err("there is no device 0:0");
    assert!(matches!(error, CgroupError::Write { .. }), "{}", chain(&error));
    assert!(!scratch.host.open(&scratch.below("a")).exists());
}

#[test]
fn root_processes_are_listed_with_those_of_groups_below() {
    for host in hosts("root_processes_are_listed_with_those_of_groups_below") {
        let scratch = Scratch::new(host);
        let outer = scratch.create("outer", &LinuxResources::default());
        // On version 2 a group that hands controllers down holds no processes itself.
        let inner =
            ["one", "two/three"].map(|name| scratch.create(&format!("outer/{name}"), &LinuxResources::default()));
        let shells = [Waiting::in_group(&inner[0], "exit 3"), Waiting::in_group(&inner[1], "exit 4")];
        let mut want = [shells[0].pid(), shells[1].pid()];
        want.sort_unstable_by_key(|pid| pid.as_raw_nonzero());
        assert_eq!(outer.pids().expect("processes"), want);
        assert_eq!(inner[1].pids().expect("processes"), [shells[1].pid()]);
        outer.signal_all(Signal::TERM).expect("both get it");
        for shell in shells {
            assert_eq!(shell.wait().status.signal(), Some(Signal::TERM.as_raw()));
        }
    }
}

#[test]
fn root_a_frozen_group_stands_until_thawed() {
    for host in hosts("root_a_frozen_group_stands_until_thawed") {
        let scratch = Scratch::new(host);
        let group = scratch.create("a", &LinuxResources::default());
        let mut shell = Waiting::in_group(&group, "echo done");
        assert!(!group.is_frozen().expect("a state"));
        group.freeze().expect("a group with a waiting shell freezes");
        assert!(group.is_frozen().expect("a state"));
        shell.go();
        group.freeze().expect("a repeat changes nothing");
        assert_eq!(group.pids().expect("processes"), [shell.pid()]);
        group.thaw().expect("it thaws");
        assert!(!group.is_frozen().expect("a state"));
        assert_eq!(shell.wait().stdout, b"done\n");
        assert!(!scratch.host.open(&scratch.below("none")).is_frozen().expect("no group is not frozen"));
        let error = scratch.host.open(&scratch.below("none")).freeze().expect_err("no group");
        assert_eq!(error.kind(), Kind::NotFound, "{error}");
    }
}

#[test]
fn root_killing_reaches_processes_that_fork_all_the_time() {
    for host in hosts("root_killing_reaches_processes_that_fork_all_the_time") {
        let scratch = Scratch::new(host);
        let group = scratch.create("a", &LinuxResources::default());
        let mut shell = Waiting::in_group(&group, "while :; do sleep 0.01 & done");
        shell.go();
        eventually("it forks", || group.pids().expect("processes").len() > 3);
        group.kill_all().expect("all are killed");
        assert_eq!(shell.wait().status.signal(), Some(Signal::KILL.as_raw()));
        group.remove(PATIENCE).expect("the dead leave the group");
    }
}

#[test]
fn root_killing_reaches_a_frozen_group() {
    for host in hosts("root_killing_reaches_a_frozen_group") {
        let scratch = Scratch::new(host);
        let group = scratch.create("a", &LinuxResources::default());
        let shell = Waiting::in_group(&group, "exit 0");
        group.freeze().expect("it freezes");
        group.kill_all().expect("all are killed");
        assert_eq!(shell.wait().status.signal(), Some(Signal::KILL.as_raw()));
    }
}

#[test]
fn root_removing_takes_groups_below_along_and_names_what_is_busy() {
    for host in hosts("root_removing_takes_groups_below_along_and_names_what_is_busy") {
        let scratch = Scratch::new(host);
        let group = scratch.create("a", &LinuxResources::default());
        let deep = scratch.create("a/b/c", &LinuxResources::default());
        let shell = Waiting::in_group(&deep, "exit 0");
        let error = group.remove(Duration::from_millis(20)).expect_err("a process is inside");
        assert_eq!(error.kind(), Kind::Busy, "{error}");
        assert!(error.to_string().contains("/a: "), "{error}");
        shell.run();
        group.remove(PATIENCE).expect("all is empty now");
        assert!(!group.exists());
    }
}

#[test]
fn root_a_limit_of_a_controller_that_is_not_there_names_it() {
    let host = host();
    let has_rdma =
        host.facts().hierarchies.iter().any(|hierarchy| hierarchy.controllers.iter().any(|name| name == "rdma"));
    if has_rdma {
        eprintln!("SKIPPED: root_a_limit_of_a_controller_that_is_not_there_names_it: this host has rdma");
        return;
    }
    let resources = LinuxResources {
        rdma: [("mlx5_0".to_owned(), carrack_oci_config::LinuxRdma { hca_handles: Some(1), hca_objects: None })].into(),
        pids: Some(LinuxPids { limit: Some(5) }),
        ..LinuxResources::default()
    };
    let path = carrack_cgroup::GroupPath::parse("/carrack-test-never").expect("a path");
    let error = host.plan(&path, Some(&resources)).expect_err("no rdma");
    assert_eq!(error.to_string(), "linux.resources.rdma: this host has no rdma cgroup controller");
}

#[test]
fn root_a_group_with_processes_hands_no_controller_down_and_the_error_says_why() {
    const NAME: &str = "root_a_group_with_processes_hands_no_controller_down_and_the_error_says_why";
    let Some(host) = unified(NAME) else { return };
    let Some(controller) =
        host.facts().hierarchies[0].controllers.iter().find(|name| *name != "cpu" && *name != "cpuset").cloned()
    else {
        eprintln!("SKIPPED: {NAME}: cgroup v2 has no controller here");
        return;
    };
    let scratch = Scratch::new(host);
    let outer = scratch.create("outer", &LinuxResources::default());
    let shell = Waiting::in_group(&outer, "exit 0");
    let mut plan = scratch.host.plan(&scratch.below("outer/inner"), None).expect("a plan");
    plan.members[0].controllers = vec![controller.clone().into()];
    plan.members[0].needed_controllers = 1;
    let error = scratch.host.create(&plan).expect_err("a process is in the outer group");
    let text = error.to_string();
    assert!(text.starts_with(&format!("enable the {controller} controller in ")), "{text}");
    assert!(
        text.ends_with("/outer (cgroup v2 hands controllers down only from groups that hold no processes themselves)"),
        "{text}"
    );
    assert_eq!(error.kind(), Kind::Precondition);
    assert!(!scratch.host.open(&scratch.below("outer/inner")).exists(), "nothing is left");
    plan.members[0].needed_controllers = 0;
    scratch.host.create(&plan).expect("a controller that only counts may be missing");
    shell.run();
}
