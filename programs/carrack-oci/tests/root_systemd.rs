//! `--systemd-cgroup`: a container's group is a scope of systemd's. For a machine whose first process is systemd, with cgroup v2.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::Bundle;
use serde_json::json;

const MIB: u64 = 1 << 20;

/// Returns from a test for a machine that this is not, after saying so.
macro_rules! need_systemd {
    ($name:expr) => {
        need_root!($name);
        if fs::metadata("/run/systemd/system").is_err() {
            eprintln!("SKIPPED: {}: systemd is not the first process here", $name);
            return;
        }
    };
}

/// A bundle whose group is `SLICE:carrack:NAME`, and that name's unit.
fn bundle(script: &str, slice: &str) -> (Bundle, String) {
    let mut bundle = Bundle::new(script);
    let number = bundle.id();
    bundle.config["linux"]["cgroupsPath"] = json!(format!("{slice}:carrack:{number}"));
    (bundle, format!("carrack-{number}.scope"))
}

fn systemctl(arguments: &[&str]) -> String {
    let output = Command::new("systemctl").args(arguments).output().expect("systemctl runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// Properties of a unit, as `Name=value`, in the order of their names.
fn properties(unit: &str, names: &[&str]) -> Vec<String> {
    let text = systemctl(&["show", "-p", &names.join(","), unit]);
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Its group, by the path where it must be.
fn group_of(slices: &str, unit: &str) -> PathBuf {
    Path::new("/sys/fs/cgroup").join(slices).join(unit)
}

fn file(group: &Path, name: &str) -> String {
    let path = group.join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

/// Waits for what the other side does in its own time.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

/// Nothing of the container, its unit and its group is there any more.
fn assert_gone(bundle: &Bundle, unit: &str, group: &Path) {
    assert_eq!(properties(unit, &["LoadState"]), ["LoadState=not-found"]);
    assert!(!group.exists(), "{}", group.display());
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

fn ok(bundle: &Bundle, arguments: &[&str]) -> String {
    let said = bundle.oci(arguments);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{arguments:?}");
    said.out
}

const LIMITS: [&str; 9] = [
    "AllowedCPUs",
    "AllowedMemoryNodes",
    "CPUQuotaPerSecUSec",
    "CPUQuotaPeriodUSec",
    "CPUWeight",
    "MemoryLow",
    "MemoryMax",
    "MemorySwapMax",
    "TasksMax",
];

#[test]
fn root_systemd_a_container_is_a_scope_with_its_limits_from_create_to_delete() {
    need_systemd!("root_systemd_a_container_is_a_scope_with_its_limits_from_create_to_delete");
    let (mut bundle, unit) = bundle("cat /proc/self/cgroup; exec sleep 1000", "carracktest-a.slice");
    let resources = &mut bundle.config["linux"]["resources"];
    resources["memory"] = json!({"limit": 64 * MIB, "swap": 80 * MIB, "reservation": 16 * MIB});
    resources["cpu"] = json!({"shares": 512, "quota": 50_001, "period": 100_000, "cpus": "0", "mems": "0"});
    resources["pids"] = json!({"limit": 40});
    resources["unified"] = json!({"memory.high": "50331648", "cgroup.max.depth": "7"});
    bundle.write();
    let id = bundle.id();
    let group = group_of("carracktest.slice/carracktest-a.slice", &unit);
    ok(&bundle, &["--systemd-cgroup", "create", &id]);

    let place = ["CollectMode", "DefaultDependencies", "Delegate", "Slice", "Description", "ActiveState"];
    assert_eq!(
        properties(&unit, &place),
        [
            "ActiveState=active".to_owned(),
            "CollectMode=inactive-or-failed".to_owned(),
            "DefaultDependencies=no".to_owned(),
            "Delegate=yes".to_owned(),
            format!("Description=carrack-oci container {id}"),
            "Slice=carracktest-a.slice".to_owned(),
        ]
    );
    let limits = [
        "AllowedCPUs=0",
        "AllowedMemoryNodes=0",
        "CPUQuotaPerSecUSec=510ms",
        "CPUQuotaPeriodUSec=100ms",
        "CPUWeight=59",
        "MemoryLow=16777216",
        "MemoryMax=67108864",
        "MemorySwapMax=16777216",
        "TasksMax=40",
    ];
    let files = [
        ("memory.max", "67108864"),
        ("memory.high", "50331648"),
        ("memory.low", "16777216"),
        ("memory.swap.max", "16777216"),
        ("cpu.max", "51000 100000"),
        ("cpu.weight", "59"),
        ("pids.max", "40"),
        ("cpuset.cpus", "0"),
        ("cpuset.mems", "0"),
        ("cgroup.max.depth", "7"),
    ];
    let check = |when: &str| {
        assert_eq!(properties(&unit, &LIMITS), limits, "{when}");
        for (name, want) in files {
            assert_eq!(file(&group, name), want, "{name} {when}");
        }
    };
    check("after create");
    systemctl(&["daemon-reload"]);
    check("after daemon-reload");

    let pid = bundle.state(&id)["pid"].to_string();
    let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(own, format!("0::/carracktest.slice/carracktest-a.slice/{unit}\n"));
    ok(&bundle, &["start", &id]);
    // The namespace of its groups begins at its own.
    assert_eq!(ok(&bundle, &["exec", &id, "cat", "/proc/self/cgroup"]), "0::/\n");
    assert_eq!(bundle.state(&id)["status"], "running");
    ok(&bundle, &["pause", &id]);
    assert_eq!(bundle.state(&id)["status"], "paused");
    ok(&bundle, &["resume", &id]);
    ok(&bundle, &["delete", "--force", &id]);
    assert_gone(&bundle, &unit, &group);
}

#[test]
fn root_systemd_update_tells_systemd_too_and_a_reload_undoes_nothing() {
    need_systemd!("root_systemd_update_tells_systemd_too_and_a_reload_undoes_nothing");
    let (mut bundle, unit) = bundle("exec sleep 1000", "system.slice");
    bundle.write();
    let id = bundle.id();
    let group = group_of("system.slice", &unit);
    ok(&bundle, &["--systemd-cgroup", "run", "-d", &id]);
    assert_eq!(file(&group, "memory.max"), "max");

    // The container remembers whose it is: callers do not say it again.
    let update =
        |flags: &str| ok(&bundle, &[&["update"], flags.split(' ').collect::<Vec<_>>().as_slice(), &[&id]].concat());
    let told = |names: &[&str]| properties(&unit, names);
    update("--memory 40m --memory-swap 50m --pids-limit 55 --cpuset-cpus 0-1 --cpu-share 2048");
    assert_eq!(
        told(&["MemoryMax", "MemorySwapMax", "TasksMax", "AllowedCPUs", "CPUWeight"]),
        ["AllowedCPUs=0-1", "CPUWeight=174", "MemoryMax=41943040", "MemorySwapMax=10485760", "TasksMax=55"]
    );
    let quota = ["CPUQuotaPerSecUSec", "CPUQuotaPeriodUSec"];
    update("--cpu-quota 50000");
    assert_eq!(
        (told(&quota), file(&group, "cpu.max").as_str()),
        (vec!["CPUQuotaPerSecUSec=500ms".into(), "CPUQuotaPeriodUSec=100ms".into()], "50000 100000")
    );
    // Of the two one may come alone; the other stays.
    update("--cpu-period 200000");
    assert_eq!(
        (told(&quota), file(&group, "cpu.max").as_str()),
        (vec!["CPUQuotaPerSecUSec=250ms".into(), "CPUQuotaPeriodUSec=200ms".into()], "50000 200000")
    );
    update("--cpu-quota 33333");
    assert_eq!(
        (told(&quota), file(&group, "cpu.max").as_str()),
        (vec!["CPUQuotaPerSecUSec=170ms".into(), "CPUQuotaPeriodUSec=200ms".into()], "34000 200000")
    );
    update("--memory-reservation 10m");
    systemctl(&["daemon-reload"]);
    for (name, want) in [
        ("memory.max", "41943040"),
        ("memory.swap.max", "10485760"),
        ("memory.low", "10485760"),
        ("pids.max", "55"),
        ("cpuset.cpus", "0-1"),
        ("cpu.weight", "174"),
        ("cpu.max", "34000 200000"),
    ] {
        assert_eq!(file(&group, name), want, "{name}");
    }
    update("--cpu-quota -1 --memory -1 --pids-limit -1");
    assert_eq!(
        told(&["MemoryMax", "TasksMax", "CPUQuotaPerSecUSec"]),
        ["CPUQuotaPerSecUSec=infinity", "MemoryMax=infinity", "TasksMax=infinity"]
    );
    assert_eq!(["memory.max", "pids.max"].map(|name| file(&group, name)), ["max", "max"]);
    update("--cpu-idle 1");
    assert_eq!((told(&["CPUWeight"]), file(&group, "cpu.idle").as_str()), (vec!["CPUWeight=idle".into()], "1"));

    // A limit that would kill the container reaches neither systemd nor the kernel.
    let resources = bundle.directory.join("resources.json");
    fs::write(&resources, r#"{"memory":{"limit":4096,"checkBeforeUpdate":true}}"#).unwrap();
    let said = bundle.oci(&["update", "-r", resources.to_str().unwrap(), &id]);
    assert!(said.code == 1 && said.err.starts_with("unable to set memory limit to 4096 (current usage: "), "{said:?}");
    assert_eq!((told(&["MemoryMax"]), file(&group, "memory.max").as_str()), (vec!["MemoryMax=infinity".into()], "max"));
    // Nor does systemd keep what the kernel refuses.
    update("--cpu-idle 0 --cpuset-cpus 0");
    let said = bundle.oci(&["update", "--memory", "77m", "--memory-swap", "77m", "--cpuset-cpus", "700", &id]);
    assert!(said.code == 1 && said.err.contains("cpuset.cpus"), "{said:?}");
    let names = ["MemoryMax", "MemorySwapMax", "AllowedCPUs"];
    assert_eq!(told(&names), ["AllowedCPUs=0", "MemoryMax=infinity", "MemorySwapMax=infinity"]);
    systemctl(&["daemon-reload"]);
    assert_eq!(["memory.max", "memory.swap.max", "cpuset.cpus"].map(|name| file(&group, name)), ["max", "max", "0"]);
    ok(&bundle, &["delete", "-f", &id]);
    assert_gone(&bundle, &unit, &group);
}

/// Opens each device once a file `go` is there; says which it could.
const OPEN_DEVICES: &str = "
    mknod /zero c 1 5; mknod /vda b 254 0; mknod /kmsg c 1 11
    n=1
    while test $n -le 3; do
        while ! test -e /go-$n; do sleep 0.05; done
        for device in zero vda kmsg; do
            if (: < /$device); then echo $device yes; else echo $device no; fi
        done > /said-$n.part 2>/dev/null
        ln /said-$n.part /said-$n
        n=$((n + 1))
    done
    exec sleep 1000";

#[test]
fn root_systemd_device_rules_hold_after_a_reload_whether_systemd_has_words_for_them_or_not() {
    need_systemd!("root_systemd_device_rules_hold_after_a_reload_whether_systemd_has_words_for_them_or_not");
    let nothing = json!({"allow": false, "access": "rwm"});
    let everything = json!({"allow": true, "access": "rwm"});
    let kernel_log = json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rw"});
    let of_any_major = json!({"allow": true, "type": "c", "minor": 11, "access": "r"});
    let no_disk = json!({"allow": false, "type": "b", "major": 254, "access": "rwm"});
    for (rules, policy, allowed) in [
        (json!([nothing]), "strict", "zero yes\nvda no\nkmsg no\n"),
        (json!([nothing, kernel_log]), "strict", "zero yes\nvda no\nkmsg yes\n"),
        (json!([nothing, of_any_major]), "auto", "zero yes\nvda no\nkmsg yes\n"),
        (json!([everything, no_disk]), "auto", "zero yes\nvda no\nkmsg yes\n"),
        (json!([everything]), "auto", "zero yes\nvda yes\nkmsg yes\n"),
    ] {
        let (mut bundle, unit) = bundle(OPEN_DEVICES, "system.slice");
        symlink("busybox", bundle.inside("bin/mknod")).unwrap();
        let capabilities = json!(["CAP_MKNOD", "CAP_SYS_ADMIN", "CAP_SYSLOG"]);
        bundle.config["process"]["capabilities"] =
            json!({"bounding": capabilities, "effective": capabilities, "permitted": capabilities});
        bundle.config["linux"]["resources"]["devices"] = rules.clone();
        bundle.write();
        let id = bundle.id();
        ok(&bundle, &["--systemd-cgroup", "run", "-d", &id]);
        assert_eq!(properties(&unit, &["DevicePolicy"]), [format!("DevicePolicy={policy}")], "{rules}");
        let opened = |number: u32| {
            fs::write(bundle.inside(&format!("go-{number}")), "").unwrap();
            let said = bundle.inside(&format!("said-{number}"));
            until("the container says what it could open", || said.exists());
            fs::read_to_string(said).unwrap()
        };
        assert_eq!(opened(1), allowed, "{rules}");
        systemctl(&["daemon-reload"]);
        assert_eq!(opened(2), allowed, "{rules} after daemon-reload");
        // Systemd applies all of a unit's settings anew when one of them changes.
        ok(&bundle, &["update", "--pids-limit", "30", "--memory", "90m", &id]);
        systemctl(&["set-property", "--runtime", &unit, "CPUWeight=50", "IOWeight=50"]);
        assert_eq!(opened(3), allowed, "{rules} after other changes");
        ok(&bundle, &["delete", "-f", &id]);
        assert_gone(&bundle, &unit, &group_of("system.slice", &unit));
    }
}

#[test]
fn root_systemd_annotations_set_properties_and_faulty_ones_leave_nothing() {
    need_systemd!("root_systemd_annotations_set_properties_and_faulty_ones_leave_nothing");
    let (mut bundle, unit) = bundle("exec sleep 1000", "");
    bundle.config["annotations"] = json!({
        "org.systemd.property.TimeoutStopSec": "uint64 7",
        "org.systemd.property.CollectMode": "'inactive'",
        "org.systemd.property.After": "['basic.target']",
        "unrelated": "["
    });
    bundle.write();
    let id = bundle.id();
    ok(&bundle, &["--systemd-cgroup", "run", "-d", &id]);
    assert_eq!(
        properties(&unit, &["TimeoutStopUSec", "CollectMode", "Slice"]),
        ["CollectMode=inactive", "Slice=system.slice", "TimeoutStopUSec=7s"]
    );
    assert!(properties(&unit, &["After"])[0].contains("basic.target"));
    ok(&bundle, &["delete", "-f", &id]);
    let group = group_of("system.slice", &unit);
    assert_gone(&bundle, &unit, &group);

    for (annotation, text, want) in [
        ("NoSuchThing", "1", format!("start unit {unit}: Cannot set property NoSuchThing, or unknown property.\n")),
        ("KillMode", "5", format!("start unit {unit}: ")),
        ("Kill", "[", "annotation org.systemd.property.Kill=[ value parse error: a value is missing\n".to_owned()),
    ] {
        bundle.config["annotations"] = json!({ (format!("org.systemd.property.{annotation}")): text });
        bundle.write();
        let said = bundle.oci(&["--systemd-cgroup", "create", &id]);
        assert!(said.code == 1 && said.err.starts_with(&want), "{said:?}");
        assert_gone(&bundle, &unit, &group);
    }
}

#[test]
fn root_systemd_a_unit_that_lives_is_left_alone_and_one_that_ended_makes_room() {
    need_systemd!("root_systemd_a_unit_that_lives_is_left_alone_and_one_that_ended_makes_room");
    let (mut bundle, unit) = bundle("exec sleep 1000", "system.slice");
    bundle.write();
    let (first, second) = (bundle.id(), bundle.id());
    let group = group_of("system.slice", &unit);
    ok(&bundle, &["--systemd-cgroup", "run", "-d", &first]);
    let said = bundle.oci(&["--systemd-cgroup", "run", "-d", &second]);
    let want = format!("container's cgroup is not empty: 1 process(es) found in {}\n", group.display());
    assert_eq!((said.code, said.err), (1, want));
    assert_eq!(bundle.state(&first)["status"], "running");
    assert_eq!(properties(&unit, &["ActiveState"]), ["ActiveState=active"]);
    // When the last process has ended, systemd removes the scope by itself.
    ok(&bundle, &["kill", &first, "KILL"]);
    until("systemd forgets the unit", || properties(&unit, &["LoadState"]) == ["LoadState=not-found"]);
    bundle.await_status(&first, "stopped");
    ok(&bundle, &["--systemd-cgroup", "run", "-d", &second]);
    ok(&bundle, &["delete", "-f", &second]);
    ok(&bundle, &["delete", &first]);
    assert_gone(&bundle, &unit, &group);

    // The same name in another slice: the group is free, the unit is not.
    ok(&bundle, &["--systemd-cgroup", "run", "-d", &first]);
    let name = unit.trim_start_matches("carrack-").trim_end_matches(".scope").to_owned();
    bundle.config["linux"]["cgroupsPath"] = json!(format!("carracktest-b.slice:carrack:{name}"));
    bundle.write();
    let said = bundle.oci(&["--systemd-cgroup", "run", "-d", &second]);
    assert!(said.code == 1 && said.err.starts_with(&format!("start unit {unit}: Unit {unit} ")), "{said:?}");
    assert_eq!(bundle.state(&first)["status"], "running");
    assert_eq!(bundle.oci(&["state", &second]).err, "container does not exist\n");
    ok(&bundle, &["delete", "-f", &first]);
    assert_gone(&bundle, &unit, &group);
}

#[test]
fn root_systemd_runs_in_the_foreground_and_failures_leave_no_unit() {
    need_systemd!("root_systemd_runs_in_the_foreground_and_failures_leave_no_unit");
    let (mut bundle, unit) = bundle("cat /proc/self/cgroup; exit 7", "system.slice");
    let group = group_of("system.slice", &unit);
    // The tightest limit of all: systemd's own part in it must not need a process.
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 1});
    bundle.config["process"]["args"] = json!(["cat", "/proc/self/cgroup"]);
    bundle.write();
    let id = bundle.id();
    for _ in 0..3 {
        assert_eq!(ok(&bundle, &["--systemd-cgroup", "run", &id]), "0::/\n");
        assert_gone(&bundle, &unit, &group);
    }
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 10});
    bundle.config["process"]["args"] = json!(["sh", "-c", "exit 7"]);
    bundle.write();
    assert_eq!(bundle.oci(&["--systemd-cgroup", "run", &id]).code, 7);
    assert_gone(&bundle, &unit, &group);
    // Without a pid namespace of its own, others may outlive the first process: the scope goes with them.
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|one| one["type"] != "pid");
    bundle.config["process"]["args"] = json!(["sh", "-c", "sleep 1000 & exit 6"]);
    bundle.write();
    assert_eq!(bundle.oci(&["--systemd-cgroup", "run", &id]).code, 6);
    assert_gone(&bundle, &unit, &group);

    bundle.config["process"]["args"] = json!(["nope"]);
    bundle.write();
    let said = bundle.oci(&["--systemd-cgroup", "run", &id]);
    assert_eq!((said.code, said.err.as_str()), (1, "exec: \"nope\": executable file not found in $PATH\n"));
    assert_gone(&bundle, &unit, &group);
    for (path, want) in [
        (
            "/a/b",
            "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got \"/a/b\" instead\n",
        ),
        ("a--b.slice:x:y", "invalid slice name: a--b.slice\n"),
    ] {
        bundle.config["linux"]["cgroupsPath"] = json!(path);
        bundle.write();
        let said = bundle.oci(&["--systemd-cgroup", "create", &id]);
        assert_eq!((said.code, said.err.as_str()), (1, want));
    }
    bundle.config["linux"]["cgroupsPath"] = json!("");
    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    bundle.write();
    ok(&bundle, &["--systemd-cgroup", "create", &id]);
    let unit = format!("runc-{id}.scope");
    assert_eq!(properties(&unit, &["Slice"]), ["Slice=system.slice"]);
    ok(&bundle, &["delete", &id]);
    // What is left over is looked for by the path.
    bundle.config["linux"]["cgroupsPath"] = json!(unit);
    assert_gone(&bundle, &unit, &group_of("system.slice", &unit));
}

#[test]
fn root_systemd_a_create_that_is_killed_leaves_what_delete_removes_without_a_trace() {
    need_systemd!("root_systemd_a_create_that_is_killed_leaves_what_delete_removes_without_a_trace");
    let (mut bundle, unit) = bundle("exec sleep 1000", "system.slice");
    bundle.write();
    let group = group_of("system.slice", &unit);
    let id = bundle.id();
    let record = bundle.state_root().join(&id).join("state.json");
    let limits = group.join("pids.max");
    // When it is intended; when systemd makes it; when there is a process in it.
    let moments: [&dyn Fn() -> bool; 3] = [&|| record.exists(), &|| limits.exists(), &|| {
        fs::read_to_string(group.join("cgroup.procs")).is_ok_and(|pids| !pids.is_empty())
    }];
    for (number, is_there) in moments.iter().enumerate() {
        let mut create = bundle.command(&["--systemd-cgroup", "create", &id]).spawn().unwrap();
        until(&format!("moment {number}"), is_there);
        create.kill().unwrap();
        create.wait().unwrap();
        ok(&bundle, &["delete", "--force", &id]);
        assert_gone(&bundle, &unit, &group);
    }
}

/// Its files belong to the root of a user namespace.
fn open_for_root_inside(bundle: &Bundle) {
    let chown = Command::new("chown").args(["-R", "100000:100000"]).arg(bundle.directory.join("rootfs")).status();
    assert!(chown.expect("chown runs").success());
    fs::set_permissions(&bundle.directory, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn root_systemd_a_user_namespace_and_joined_namespaces_live_in_a_scope() {
    need_systemd!("root_systemd_a_user_namespace_and_joined_namespaces_live_in_a_scope");
    let (mut bundle, unit) = bundle("exec sleep 1000", "system.slice");
    let group = group_of("system.slice", &unit);
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({"type": "user"}));
    bundle.config["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    bundle.config["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    bundle.write();
    open_for_root_inside(&bundle);
    let id = bundle.id();
    ok(&bundle, &["--systemd-cgroup", "run", "-d", &id]);
    let pid = bundle.state(&id)["pid"].to_string();
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap(), format!("0::/system.slice/{unit}\n"));
    assert_eq!(file(&group, "cgroup.procs"), pid);
    let (mut other, other_unit) = self::bundle("cat /proc/self/uid_map; exec sleep 1000", "system.slice");
    let mut config = bundle.config.clone();
    config["linux"]["cgroupsPath"] = other.config["linux"]["cgroupsPath"].clone();
    config["linux"]["uidMappings"] = json!([]);
    config["linux"]["gidMappings"] = json!([]);
    for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
        if namespace["type"] == "user" {
            namespace["path"] = json!(format!("/proc/{pid}/ns/user"));
        }
    }
    other.config = config;
    other.write();
    open_for_root_inside(&other);
    let joined = other.id();
    ok(&other, &["--systemd-cgroup", "run", "-d", &joined]);
    let other_group = group_of("system.slice", &other_unit);
    assert_eq!(file(&other_group, "cgroup.procs"), other.state(&joined)["pid"].to_string());
    ok(&other, &["delete", "-f", &joined]);
    assert_gone(&other, &other_unit, &other_group);
    ok(&bundle, &["delete", "-f", &id]);
    assert_gone(&bundle, &unit, &group);
}
