//! `update`: limits of a container that runs.

mod common;

use std::fs;
use std::io::Write;
use std::process::Stdio;

use common::{Bundle, is_unified};
use serde_json::json;

const MIB: u64 = 1 << 20;

fn running() -> (Bundle, String) {
    let mut bundle = Bundle::new("exec sleep 1000");
    bundle.write();
    let id = bundle.id();
    assert_eq!(bundle.oci(&["run", "-d", &id]).code, 0);
    (bundle, id)
}

/// Version 1 says so of no limit.
fn unlimited() -> String {
    if is_unified() { "max".into() } else { "9223372036854771712".into() }
}

#[test]
fn root_flags_change_the_limits_of_a_running_container() {
    need_root!("root_flags_change_the_limits_of_a_running_container");
    let (bundle, id) = running();
    let update = |flags: &str| {
        let arguments: Vec<_> = ["update"].into_iter().chain(flags.split(' ')).chain([id.as_str()]).collect();
        let said = bundle.oci(&arguments);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{flags}");
    };
    let memory = || bundle.limit("memory", ["memory.limit_in_bytes", "memory.max"]);
    let swap = || bundle.limit("memory", ["memory.memsw.limit_in_bytes", "memory.swap.max"]);
    let pids = || bundle.limit("pids", ["pids.max"; 2]);
    update("--memory 40m --memory-swap 50m --pids-limit 55");
    let swapped = |both: u64, limit: u64| (if is_unified() { both - limit } else { both }).to_string();
    assert_eq!((memory(), swap(), pids()), ((40 * MIB).to_string(), swapped(50 * MIB, 40 * MIB), "55".into()));
    // Both grow beyond what the other was, and shrink again.
    update("--memory 80m --memory-swap 90m");
    assert_eq!((memory(), swap()), ((80 * MIB).to_string(), swapped(90 * MIB, 80 * MIB)));
    update("--memory 20m --memory-swap 30m");
    assert_eq!((memory(), swap()), ((20 * MIB).to_string(), swapped(30 * MIB, 20 * MIB)));
    // Alone, it counts from the limit that is there.
    update("--memory-swap 60m");
    assert_eq!((memory(), swap()), ((20 * MIB).to_string(), swapped(60 * MIB, 20 * MIB)));
    update("--memory-reservation 10m");
    assert_eq!(bundle.limit("memory", ["memory.soft_limit_in_bytes", "memory.low"]), (10 * MIB).to_string());
    update("--pids-limit 0");
    assert_eq!(pids(), "55", "none was given");
    update("--memory -1 --pids-limit -1");
    assert_eq!((memory(), pids()), (unlimited(), "max".into()));

    let quota = || match is_unified() {
        true => bundle.limit("cpu", ["", "cpu.max"]),
        false => ["cpu.cfs_quota_us", "cpu.cfs_period_us"].map(|name| bundle.limit("cpu", [name, ""])).join(" "),
    };
    update("--cpu-quota 50000");
    assert_eq!(quota(), "50000 100000");
    update("--cpu-period 200000");
    assert_eq!(quota(), "50000 200000");
    update("--cpu-quota 1000 --cpu-period 1000");
    assert_eq!(quota(), "1000 1000");
    update("--cpu-quota 400000 --cpu-period 500000 --cpu-burst 2000");
    assert_eq!(quota(), "400000 500000");
    assert_eq!(bundle.limit("cpu", ["cpu.cfs_burst_us", "cpu.max.burst"]), "2000");
    update("--cpu-share 512 --cpuset-cpus 0 --cpuset-mems 0");
    assert_eq!(bundle.limit("cpu", ["cpu.shares", "cpu.weight"]), if is_unified() { "59" } else { "512" });
    assert_eq!(bundle.limit("cpuset", ["cpuset.cpus"; 2]), "0");
    update("--cpu-idle 1");
    assert_eq!(bundle.limit("cpu", ["cpu.idle"; 2]), "1");
    assert_eq!(bundle.oci(&["delete", "-f", &id]).code, 0);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_resources_come_from_a_file_or_standard_input_and_leave_devices_alone() {
    need_root!("root_resources_come_from_a_file_or_standard_input_and_leave_devices_alone");
    let (bundle, id) = running();
    let limits = |bundle: &Bundle| {
        (bundle.limit("memory", ["memory.limit_in_bytes", "memory.max"]), bundle.limit("pids", ["pids.max"; 2]))
    };
    let resources = json!({
        "memory": {"limit": 60 * MIB, "checkBeforeUpdate": true}, "pids": {"limit": 33},
        "cpu": {"shares": 0, "quota": 0, "cpus": ""}, "devices": [{"allow": true, "access": "rwm"}], "unknown": 1
    });
    let file = bundle.directory.join("resources.json");
    fs::write(&file, resources.to_string()).unwrap();
    // With a file, flags say nothing.
    let said = bundle.oci(&["update", "-r", file.to_str().unwrap(), "--pids-limit", "9", &id]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(limits(&bundle), ((60 * MIB).to_string(), "33".into()));
    if !is_unified() {
        assert!(!bundle.limit("devices", ["devices.list", ""]).contains("a *:*"));
    }
    let mut child = bundle.command(&["update", "--resources=-", &id]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(br#"{"pids":{"limit":-1}}"#).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(limits(&bundle), ((60 * MIB).to_string(), "max".into()));

    fs::write(&file, r#"{"memory":{"limit":4096,"checkBeforeUpdate":true}}"#).unwrap();
    let said = bundle.oci(&["update", "-r", file.to_str().unwrap(), &id]);
    assert!(said.code == 1 && said.err.starts_with("unable to set memory limit to 4096 (current usage: "), "{said:?}");
    fs::write(&file, "{bad").unwrap();
    let said = bundle.oci(&["update", "-r", file.to_str().unwrap(), &id]);
    assert!(said.code == 1 && said.err.starts_with("parse "), "{said:?}");
    assert_eq!(bundle.oci(&["delete", "-f", &id]).code, 0);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_a_change_that_cannot_be_is_refused_by_name() {
    need_root!("root_a_change_that_cannot_be_is_refused_by_name");
    let (bundle, id) = running();
    for (flags, text) in [
        (
            &["--memory", "20m", "--memory-swap", "10m"][..],
            "linux.resources.memory.swap: 10485760 is less than the memory limit, which it includes",
        ),
        (
            &["--l3-cache-schema", "L3:0=f"],
            "--l3-cache-schema: Intel RDT/CAT: l3 cache schema is not enabled: it is not supported here",
        ),
        (
            &["--mem-bw-schema", "MB:0=20"],
            "--mem-bw-schema: Intel RDT/MBA: memory bandwidth schema is not enabled: it is not supported here",
        ),
        (&["--cpu-share", "x"], "invalid value for cpu-share: parsing \"x\": invalid syntax"),
        (&["-r", "/no/such/file"], "open /no/such/file: no such file or directory"),
    ] {
        let arguments: Vec<_> = ["update"].iter().chain(flags).copied().chain([id.as_str()]).collect();
        let said = bundle.oci(&arguments);
        assert_eq!((said.code, said.err), (1, format!("{text}\n")), "{flags:?}");
    }
    // What was changed before the failure is changed back.
    let memory = || bundle.limit("memory", ["memory.limit_in_bytes", "memory.max"]);
    assert_eq!(bundle.oci(&["update", "--memory", "40m", "--memory-swap", "50m", &id]).code, 0);
    for limits in [["80m", "90m"], ["20m", "30m"]] {
        let said =
            bundle.oci(&["update", "--memory", limits[0], "--memory-swap", limits[1], "--cpuset-cpus", "900-901", &id]);
        assert!(said.code == 1 && said.err.starts_with("write \"900-901\" to "), "{said:?}");
        assert_eq!(memory(), (40 * MIB).to_string());
    }
    let file = bundle.directory.join("none.json");
    fs::write(&file, r#"{"hugepageLimits":[{"pageSize":"2MB","limit":0}],"pids":{"limit":77}}"#).unwrap();
    let said = bundle.oci(&["update", "-r", file.to_str().unwrap(), &id]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(bundle.limit("pids", ["pids.max"; 2]), "77");
    let said = bundle.oci(&["update", "--kernel-memory", "100m", &id]);
    assert_eq!(
        (said.code, said.err.as_str()),
        (0, "warning: Kernel memory settings are ignored and will be removed\n")
    );
    // A paused container can be changed, one that has ended cannot.
    assert_eq!(bundle.oci(&["pause", &id]).code, 0);
    assert_eq!(bundle.oci(&["update", "--pids-limit", "12", &id]).code, 0);
    assert_eq!(bundle.oci(&["kill", &id, "KILL"]).code, 0);
    bundle.await_status(&id, "stopped");
    let said = bundle.oci(&["update", "--pids-limit", "13", &id]);
    assert_eq!((said.code, said.err.as_str()), (1, "container not running\n"));
    let said = bundle.oci(&["update", "--pids-limit", "x", "nobody"]);
    assert_eq!((said.code, said.err.as_str()), (1, "container does not exist\n"));
    assert_eq!(bundle.oci(&["delete", &id]).code, 0);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}
