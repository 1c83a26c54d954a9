//! Limits, each exceeded by a child.

use std::os::unix::process::ExitStatusExt;

use carrack_cgroup::{Layout, Step};
use carrack_oci_config::{LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxPids, LinuxResources};
use carrack_sys::rustix::process::Signal;
use carrack_words::Kind;

use crate::child::Waiting;
use crate::scratch::{Scratch, chain, eventually, host, text, unified};

const MIB: i64 = 1 << 20;

fn memory(limit: i64, swap: Option<i64>) -> LinuxResources {
    let memory = LinuxMemory { limit: Some(limit), swap, ..LinuxMemory::default() };
    LinuxResources { memory: Some(memory), ..LinuxResources::default() }
}

#[test]
fn root_a_process_that_takes_too_much_memory_is_killed_and_counted() {
    let scratch = Scratch::new(host());
    let group = scratch.create("a", &memory(16 * MIB, Some(16 * MIB)));
    assert_eq!(group.oom_kill_count().expect("a count"), Some(0));
    // tail keeps the last line, which never ends.
    let output = Waiting::in_group(&group, "exec tail /dev/zero").run();
    assert_eq!(output.status.signal(), Some(Signal::KILL.as_raw()), "{output:?}");
    assert_eq!(group.oom_kill_count().expect("a count"), Some(1));
    let stats = group.stats().expect("stats").memory.expect("memory is counted");
    assert_eq!((stats.limit_bytes, stats.oom_kills), (Some(16 << 20), 1));
    assert!(stats.peak_bytes.is_none_or(|peak| peak > 8 << 20), "{stats:?}");
}

#[test]
fn root_a_process_that_forks_too_often_is_refused() {
    let scratch = Scratch::new(host());
    let resources = LinuxResources { pids: Some(LinuxPids { limit: Some(3) }), ..LinuxResources::default() };
    let group = scratch.create("a", &resources);
    let output = Waiting::in_group(&group, "s() { sleep 60 > /dev/null 2>&1 & }; s; s; s; echo all").run();
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    let stats = group.stats().expect("stats").pids.expect("tasks are counted");
    assert_eq!(stats.limit, Some(3));
    group.kill_all().expect("the sleepers end");
}

#[test]
fn root_a_process_that_computes_too_much_is_throttled() {
    let scratch = Scratch::new(host());
    let cpu = LinuxCpu { shares: Some(512), quota: Some(2000), period: Some(20_000), ..LinuxCpu::default() };
    let group = scratch.create("a", &LinuxResources { cpu: Some(cpu), ..LinuxResources::default() });
    let mut shell = Waiting::in_group(&group, "while :; do :; done");
    shell.go();
    let cpu = || group.stats().expect("stats").cpu.expect("time is counted");
    eventually("the shell is throttled", || cpu().throttled_periods > 2);
    let stats = cpu();
    assert!(stats.usage_nsec > 0 && stats.throttled_nsec > 0 && stats.periods >= stats.throttled_periods, "{stats:?}");
    match scratch.host.layout() {
        Layout::V2 => {
            assert_eq!(text(&group, ["cpu"; 2], "cpu.weight"), "59");
            assert_eq!(text(&group, ["cpu"; 2], "cpu.max"), "2000 20000");
        }
        Layout::V1 | Layout::Hybrid => assert_eq!(text(&group, ["cpu"; 2], "cpu.shares"), "512"),
    }
    group.kill_all().expect("the shell ends");
    shell.wait();
}

#[test]
fn root_a_process_runs_on_its_processors_only() {
    let scratch = Scratch::new(host());
    let cpu = LinuxCpu { cpus: "0".to_owned(), ..LinuxCpu::default() };
    let group = scratch.create("pod/a", &LinuxResources { cpu: Some(cpu), ..LinuxResources::default() });
    let output = Waiting::in_group(&group, "grep Cpus_allowed_list /proc/self/status").run();
    assert_eq!(String::from_utf8_lossy(&output.stdout).split_whitespace().last(), Some("0"));
    if scratch.host.layout() != Layout::V2 {
        assert!(!text(&group, ["cpuset"; 2], "cpuset.mems").is_empty(), "inherited from the parent");
    }
}

#[test]
fn root_memory_limits_of_a_group_in_use_go_up_and_down() {
    let scratch = Scratch::new(host());
    let group = scratch.create("a", &memory(32 * MIB, Some(64 * MIB)));
    let shell = Waiting::in_group(&group, "exit 0");
    let limit = || group.stats().expect("stats").memory.expect("memory is counted").limit_bytes;
    let update = |resources: &LinuxResources| {
        let plan = scratch.host.plan(&scratch.below("a"), Some(resources)).expect("sound resources");
        group.update(&plan).unwrap_or_else(|error| panic!("{}", chain(&error)));
    };
    for (limit_mib, swap_mib) in [(128, 128), (16, 16), (64, 256), (16, 32)] {
        update(&memory(limit_mib * MIB, Some(swap_mib * MIB)));
        assert_eq!(limit(), Some((limit_mib * MIB) as u64));
    }
    update(&memory(-1, None));
    assert_eq!(limit(), None);
    shell.run();
}

#[test]
fn root_processor_limits_of_a_group_in_use_go_up_and_down() {
    let scratch = Scratch::new(host());
    let cpu = |quota, period, burst| {
        let cpu = LinuxCpu { quota, period, burst, ..LinuxCpu::default() };
        LinuxResources { cpu: Some(cpu), ..LinuxResources::default() }
    };
    let group = scratch.create("a", &cpu(Some(50_000), Some(100_000), None));
    let limits = || match scratch.host.layout() {
        Layout::V2 => text(&group, ["cpu"; 2], "cpu.max"),
        _ => format!(
            "{} {}",
            text(&group, ["cpu"; 2], "cpu.cfs_quota_us"),
            text(&group, ["cpu"; 2], "cpu.cfs_period_us")
        ),
    };
    let cases = [
        (cpu(Some(5000), Some(10_000), None), "5000 10000"),
        (cpu(Some(400_000), Some(1_000_000), Some(200_000)), "400000 1000000"),
        (cpu(Some(5000), Some(10_000), Some(1000)), "5000 10000"),
        (cpu(None, Some(20_000), None), "5000 20000"),
    ];
    for (resources, want) in cases {
        let plan = scratch.host.plan(&scratch.below("a"), Some(&resources)).expect("sound resources");
        group.update(&plan).unwrap_or_else(|error| panic!("{plan}{}", chain(&error)));
        assert_eq!(limits(), want);
    }
}

#[test]
fn root_a_limit_below_what_is_in_use_is_refused_when_that_is_asked_for() {
    let scratch = Scratch::new(host());
    let group = scratch.create("a", &memory(64 * MIB, None));
    // The shell's own pages are charged to its group while it waits.
    let mut shell = Waiting::in_group(&group, "x=$(head -c 4000000 /dev/zero | tr '\\0' x); read end");
    shell.go();
    eventually("the shell holds memory", || {
        group.stats().expect("stats").memory.expect("memory").usage_bytes > 2 << 20
    });
    let mut resources = memory(MIB, None);
    resources.memory.as_mut().expect("set above").check_before_update = Some(true);
    let plan = scratch.host.plan(&scratch.below("a"), Some(&resources)).expect("sound resources");
    let error = group.update(&plan).expect_err("more is in use");
    assert!(error.to_string().starts_with("unable to set memory limit to 1048576 (current usage: "), "{error}");
    assert_eq!(error.kind(), Kind::Precondition);
    group.kill_all().expect("the shell ends");
    shell.wait();
}

#[test]
fn root_updating_a_group_that_is_gone_says_so() {
    let scratch = Scratch::new(host());
    let plan = scratch.host.plan(&scratch.below("none"), Some(&memory(MIB, None))).expect("sound resources");
    let error = scratch.host.open(&scratch.below("none")).update(&plan).expect_err("no group");
    assert_eq!(error.kind(), Kind::NotFound, "{error}");
}

/// The kubelet's zeroes for every size must not stop a pod, and a limit must arrive.
#[test]
fn root_huge_page_limits_are_set_where_the_controller_is() {
    let Some(host) = unified("root_huge_page_limits_are_set_where_the_controller_is") else { return };
    if !host.facts().hierarchies[0].controllers.iter().any(|name| name == "hugetlb") {
        eprintln!(
            "SKIPPED: root_huge_page_limits_are_set_where_the_controller_is: cgroup v2 has no hugetlb controller here"
        );
        return;
    }
    let scratch = Scratch::new(host);
    let limit = |page_size: &str, limit| LinuxHugepageLimit { page_size: page_size.to_owned(), limit };
    let resources = LinuxResources {
        hugepage_limits: vec![limit("2MB", 4 << 20), limit("64KB", 0), limit("512GB", 0)],
        ..LinuxResources::default()
    };
    let plan = scratch.host.plan(&scratch.below("a"), Some(&resources)).expect("sound resources");
    let group = match scratch.host.create(&plan) {
        Ok(group) => group,
        Err(error) => panic!("{}", chain(&error)),
    };
    assert_eq!(text(&group, ["hugetlb"; 2], "hugetlb.2MB.max"), (4 << 20).to_string());
    assert!(plan.members[0].steps.iter().any(|step| matches!(step, Step::WriteIfPresent(_))));
}
