//! What the kernel schedules a process by, and what it tells it of itself: CPUs, policy, I/O priority, execution domain, clocks.

mod common;

use std::fs;

use common::Bundle;
use serde_json::json;

/// Nice value, real-time priority and policy from stat, read by the shell itself: another process may have others.
const SCHEDULING: &str = "read line </proc/self/stat; set -- ${line##*)}; echo nice ${17} priority ${38} policy ${39}";

#[test]
fn root_scheduling_is_as_asked_for_run_and_exec() {
    need_root!("root_scheduling_is_as_asked_for_run_and_exec");
    let mut bundle = Bundle::new(&format!("{SCHEDULING}; busybox ionice -p $$"));
    for (scheduler, want) in [
        (json!({"policy": "SCHED_BATCH", "nice": 5}), "nice 5 priority 0 policy 3"),
        (
            json!({"policy": "SCHED_OTHER", "nice": -3, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}),
            "nice -3 priority 0 policy 0",
        ),
        (json!({"policy": "SCHED_IDLE"}), "nice 0 priority 0 policy 5"),
        (json!({"policy": "SCHED_FIFO", "priority": 7}), "nice 0 priority 7 policy 1"),
        (json!({"policy": "SCHED_RR", "priority": 3}), "nice 0 priority 3 policy 2"),
        (
            json!({"policy": "SCHED_DEADLINE", "runtime": 1_000_000, "deadline": 100_000_000, "period": 100_000_000,
                   "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN"]}),
            "nice 0 priority 0 policy 6",
        ),
    ] {
        // The root group has real time to give, a new one has none, nor has the group in which the test's groups lie.
        let is_real_time = matches!(scheduler["policy"].as_str(), Some("SCHED_FIFO" | "SCHED_RR"));
        if is_real_time && fs::exists("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").unwrap() {
            eprintln!("SKIPPED: {}: this kernel's cgroups ration real time", scheduler["policy"]);
            continue;
        }
        bundle.config["process"]["scheduler"] = scheduler;
        bundle.config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
        let said = bundle.run();
        assert_eq!((said.out, said.err.as_str()), (format!("{want}\nbest-effort: prio 6\n"), ""));
    }
    // An exec that says nothing has what the container has.
    bundle.config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 5});
    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    bundle.write();
    let id = bundle.id();
    assert_eq!(bundle.oci(&["run", "-d", &id]).code, 0);
    let script = format!("{SCHEDULING}; busybox ionice -p $$");
    let said = bundle.oci(&["exec", &id, "sh", "-c", &script]);
    assert_eq!(said.out, "nice 5 priority 0 policy 3\nbest-effort: prio 6\n", "{said:?}");
    let process = json!({
        "cwd": "/", "args": ["sh", "-c", script], "env": ["PATH=/bin"],
        "scheduler": {"policy": "SCHED_OTHER", "nice": 2}, "ioPriority": {"class": "IOPRIO_CLASS_IDLE"}
    });
    fs::write(bundle.directory.join("process.json"), process.to_string()).unwrap();
    let said = bundle.oci(&["exec", "--process", "process.json", &id]);
    assert_eq!(said.out, "nice 2 priority 0 policy 0\nidle\n", "{said:?}");
    assert_eq!(bundle.oci(&["delete", "-f", &id]).code, 0);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_an_exec_runs_on_the_cpus_that_it_asks_for() {
    need_root!("root_an_exec_runs_on_the_cpus_that_it_asks_for");
    let mut bundle = Bundle::new("grep Cpus_allowed_list /proc/self/status >/own; exec sleep 1000");
    bundle.config["process"]["execCPUAffinity"] = json!({"initial": "0", "final": "0"});
    bundle.write();
    let id = bundle.id();
    assert_eq!(bundle.oci(&["run", "-d", &id]).code, 0);
    let cpus = |affinity: serde_json::Value| {
        let process = json!({
            "cwd": "/", "args": ["grep", "Cpus_allowed_list", "/proc/self/status"], "env": ["PATH=/bin"],
            "execCPUAffinity": affinity
        });
        fs::write(bundle.directory.join("process.json"), process.to_string()).unwrap();
        let said = bundle.oci(&["exec", "--process", "process.json", &id]);
        (said.code, said.out.trim_start_matches("Cpus_allowed_list:\t").trim().to_owned(), said.err)
    };
    // Nothing of its own: the container's, which is for execs only.
    assert_eq!(cpus(json!(null)), (0, "0".into(), String::new()));
    let all = cpus(json!({"final": "0-1000"})).1;
    assert_eq!(fs::read_to_string(bundle.inside("own")).unwrap().trim(), format!("Cpus_allowed_list:\t{all}"));
    let last = all.rsplit(['-', ',']).next().unwrap().to_owned();
    assert_eq!(cpus(json!({"initial": "0", "final": last})), (0, last.clone(), String::new()));
    // After the way into the cgroup the kernel decides: a choice that was made before it survives or not.
    let initial = cpus(json!({"initial": last}));
    assert!(initial.0 == 0 && (initial.1 == last || initial.1 == all), "{initial:?}");
    let invalid = "CPU affinity: invalid argument\n";
    assert_eq!(cpus(json!({"initial": "60000"})), (255, String::new(), format!("error setting initial {invalid}")));
    assert_eq!(cpus(json!({"final": "60000"})), (255, String::new(), format!("error setting final {invalid}")));
    assert_eq!(cpus(json!({"final": "3-1"})).2, "invalid process.execCPUAffinity.final: \"invalid range: 3-1\"\n");
    assert_eq!(bundle.oci(&["delete", "-f", &id]).code, 0);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_memory_is_where_the_container_says_for_run_and_exec() {
    let name = "root_memory_is_where_the_container_says_for_run_and_exec";
    need_root!(name);
    if !fs::exists("/proc/self/numa_maps").unwrap() {
        eprintln!("SKIPPED: {name}: this kernel knows no memory nodes");
        return;
    }
    const SHOW: &str = "read address policy rest </proc/self/numa_maps; echo $policy";
    let mut bundle = Bundle::new(SHOW);
    for (policy, want) in [
        (json!({"mode": "MPOL_DEFAULT"}), "default"),
        (json!({"mode": "MPOL_LOCAL"}), "local"),
        (json!({"mode": "MPOL_INTERLEAVE", "nodes": "0"}), "interleave:0"),
        (json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}), "bind=static:0"),
        (json!({"mode": "MPOL_PREFERRED_MANY", "nodes": "0"}), "prefer (many):0"),
    ] {
        bundle.config["linux"]["memoryPolicy"] = policy;
        let said = bundle.run();
        assert!(want.starts_with(said.out.trim_end()) && said.out.len() > 4, "{want}: {said:?}");
        assert_eq!(said.err, "");
    }
    let policy = json!({"mode": "MPOL_PREFERRED", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]});
    bundle.config["linux"]["memoryPolicy"] = policy;
    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    bundle.write();
    let id = bundle.id();
    assert_eq!(bundle.oci(&["run", "-d", &id]).code, 0);
    assert_eq!(bundle.oci(&["exec", &id, "sh", "-c", SHOW]).out, "prefer=relative:0\n");
    assert_eq!(bundle.oci(&["delete", "-f", &id]).code, 0);
    bundle.config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "1000"});
    assert_eq!(bundle.run().err, "set_mempolicy: invalid argument\n");
    bundle.config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND"});
    assert_eq!(bundle.run().err, "memory policy mode requires at least one node but got 0\n");
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_shares_of_the_processor_that_it_cannot_give_are_refused() {
    let name = "root_shares_of_the_processor_that_it_cannot_give_are_refused";
    need_root!(name);
    if fs::exists("/sys/fs/resctrl/schemata").unwrap() {
        eprintln!("SKIPPED: {name}: this host has resctrl");
        return;
    }
    let mut bundle = Bundle::new("echo it ran");
    bundle.config["linux"]["intelRdt"] = json!({"closID": "gold", "schemata": ["L3:0=f"]});
    let said = bundle.run();
    let words = "intelRdt is specified in config, but Intel RDT is not enabled\n";
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (1, "", words));
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_the_execution_domain_and_the_clocks_are_the_containers_own() {
    need_root!("root_the_execution_domain_and_the_clocks_are_the_containers_own");
    let mut bundle = Bundle::new("cat /proc/self/personality; read up rest </proc/uptime; echo ${up%.*}");
    bundle.config["linux"]["personality"] = json!({"domain": "LINUX32"});
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
    bundle.config["linux"]["timeOffsets"] =
        json!({"monotonic": {"secs": 1_000_000}, "boottime": {"secs": 5_000_000, "nanosecs": 7}});
    let said = bundle.run();
    let lines: Vec<_> = said.out.lines().collect();
    assert_eq!((lines.first(), said.err.as_str()), (Some(&"00000008"), ""));
    assert!(lines[1].parse::<u64>().unwrap() >= 5_000_000, "{said:?}");
    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    bundle.write();
    let id = bundle.id();
    assert_eq!(bundle.oci(&["run", "-d", &id]).code, 0);
    let said =
        bundle.oci(&["exec", &id, "sh", "-c", "cat /proc/self/personality; read up rest </proc/uptime; echo ${up%.*}"]);
    let lines: Vec<_> = said.out.lines().collect();
    assert_eq!((lines.first(), said.err.as_str()), (Some(&"00000008"), ""));
    assert!(lines[1].parse::<u64>().unwrap() >= 5_000_000, "{said:?}");
    assert_eq!(bundle.oci(&["delete", "-f", &id]).code, 0);
    bundle.config["linux"]["timeOffsets"] = json!({"realtime": {"secs": 1}});
    let said = bundle.run();
    assert!(said.err.starts_with("time offset of unknown clock \"realtime\""), "{said:?}");
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}
