//! `events`: what a container uses, and that its memory ran out.

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use common::{Bundle, is_unified};
use serde_json::{Value, json};

#[test]
fn root_stats_tell_what_the_container_uses() {
    need_root!("root_stats_tell_what_the_container_uses");
    let mut bundle =
        Bundle::new("dd if=/dev/zero of=/dev/null bs=1M count=500 2>/dev/null; touch /done; exec sleep 1000");
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 44});
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
    bundle.config["linux"]["resources"]["cpu"] = json!({"cpus": "0", "quota": 9000, "period": 10000});
    bundle.write();
    let id = bundle.id();
    assert_eq!(bundle.oci(&["run", "-d", &id]).code, 0);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !bundle.inside("done").exists() {
        assert!(std::time::Instant::now() < deadline, "the container does not get on");
        std::thread::yield_now();
    }
    let said = bundle.oci(&["events", "--stats", &id]);
    assert_eq!((said.code, said.err.as_str(), said.out.lines().count()), (0, "", 1));
    let event: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(id)));
    let data = &event["data"];
    let keys: Vec<_> = data.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["blkio", "cpu", "cpuset", "hugetlb", "intel_rdt", "memory", "network_interfaces", "pids"]);
    assert_eq!(data["pids"]["limit"], 44);
    assert!(matches!(data["pids"]["current"].as_u64(), Some(1 | 2)), "the one that says it is done may still be there");
    let (usage, swap) = (&data["memory"]["usage"], &data["memory"]["swap"]);
    assert_eq!((&usage["limit"], &usage["failcnt"]), (&json!(64 << 20), &json!(0)));
    // Read one after the other, they may differ by what was freed meanwhile.
    assert!(usage["usage"].as_u64() > Some(0) && swap["usage"].as_u64() > Some(0), "{data}");
    assert!(data["memory"]["raw"]["pgfault"].as_u64().unwrap() > 0);
    let cpu = &data["cpu"]["usage"];
    let [total, kernel, user] = ["total", "kernel", "user"].map(|name| cpu[name].as_u64().unwrap());
    assert!(total > 1_000_000 && (kernel + user).abs_diff(total) < total / 5 + 20_000_000, "{cpu}");
    assert!(data["cpu"]["throttling"]["periods"].as_u64().unwrap() > 0, "{}", data["cpu"]);
    if !is_unified() {
        assert_eq!((&data["cpuset"]["cpus"], &data["cpuset"]["sched_load_balance"]), (&json!([0]), &json!(1)));
        let each: Vec<u64> = serde_json::from_value(cpu["percpu"].clone()).unwrap();
        assert_eq!(each.iter().sum::<u64>(), total, "only one processor was used meanwhile");
    }
    assert_eq!((&data["intel_rdt"], &data["network_interfaces"]), (&json!({}), &json!(null)));

    assert_eq!(bundle.oci(&["events", "--interval", "0s", &id]).err, "duration interval must be greater than 0\n");
    let said = bundle.oci(&["events", "--interval", "soon", &id]);
    assert_eq!(said.err, "invalid value \"soon\" for flag -interval: time: invalid duration\n");
    assert_eq!(bundle.oci(&["kill", &id, "KILL"]).code, 0);
    bundle.await_status(&id, "stopped");
    let said = bundle.oci(&["events", "--stats", &id]);
    assert_eq!((said.code, said.err), (1, format!("container with id {id} is not running\n")));
    assert_eq!(bundle.oci(&["events", "nobody"]).err, "container does not exist\n");
    assert_eq!(bundle.oci(&["delete", &id]).code, 0);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_events_tell_of_every_interval_and_of_memory_that_ran_out_until_the_end() {
    need_root!("root_events_tell_of_every_interval_and_of_memory_that_ran_out_until_the_end");
    let mut bundle = Bundle::new(
        "while ! test -e /go; do sleep 0.01; done; dd if=/dev/zero of=/dev/null bs=64M count=1; while ! test -e /stop; do sleep 0.01; done",
    );
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 16 << 20, "swap": 16 << 20});
    bundle.write();
    let id = bundle.id();
    assert_eq!(bundle.oci(&["run", "-d", &id]).code, 0);
    let mut child = bundle.command(&["events", "--interval", "20ms", &id]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || lines.next().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let first = next().unwrap();
    assert_eq!((&first["type"], &first["data"]["memory"]["usage"]["limit"]), (&json!("stats"), &json!(16 << 20)));
    fs::write(bundle.inside("go"), "").unwrap();
    let oom = loop {
        let event = next().expect("the container goes on");
        if event["type"] != "stats" {
            break event;
        }
    };
    assert_eq!(oom, json!({"type": "oom", "id": id}));
    assert_eq!(next().unwrap()["type"], "stats", "it is told once");
    fs::write(bundle.inside("stop"), "").unwrap();
    while let Some(event) = next() {
        assert_eq!(event["type"], "stats");
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(bundle.oci(&["delete", &id]).code, 0);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}
