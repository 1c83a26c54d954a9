//! What a container finds inside: mounts, devices, rights, limits, namespaces.

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::{Command, Stdio};

use carrack_sys::rustix::fs::{StatVfsMountFlags, statvfs};
use common::{Bundle, HostMount, busybox, cgroup_mounts, is_unified};
use serde_json::json;

#[test]
fn root_only_the_standard_streams_are_open_after_run_and_exec() {
    need_root!("root_only_the_standard_streams_are_open_after_run_and_exec");
    // The fourth one is the directory that ls itself reads.
    let mut bundle = Bundle::new("ls /proc/self/fd; touch /ready; exec sleep 1000");
    bundle.write();
    let id = bundle.id();
    let out = bundle.directory.join("own");
    let status = bundle.command(&["run", "-d", &id]).stdout(fs::File::create(&out).unwrap()).status().unwrap();
    assert!(status.success());
    let said = bundle.oci(&["exec", &id, "ls", "/proc/self/fd"]);
    assert_eq!(said.out, "0\n1\n2\n3\n");
    let pid = bundle.state(&id)["pid"].to_string();
    bundle.oci(&["exec", &id, "sh", "-c", "while ! test -e /ready; do :; done"]);
    assert_eq!(fs::read_to_string(out).unwrap(), "0\n1\n2\n3\n");
    let open: Vec<_> =
        fs::read_dir(format!("/proc/{pid}/fd")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(open.len(), 3, "{open:?}");
    bundle.oci(&["delete", "-f", &id]);
}

#[test]
fn root_a_created_container_holds_no_handle_on_the_host_and_shows_a_sealed_program() {
    need_root!("root_a_created_container_holds_no_handle_on_the_host_and_shows_a_sealed_program");
    let mut bundle = Bundle::new("true");
    bundle.write();
    let id = bundle.id();
    assert_eq!(bundle.oci(&["create", &id]).code, 0);
    let pid = bundle.state(&id)["pid"].to_string();
    let mut open: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| fs::read_link(entry.unwrap().path()).unwrap().display().to_string())
        .collect();
    open.sort();
    // Its streams, and the socket on which it waits.
    assert_eq!(open.iter().filter(|target| target.starts_with("socket:")).count(), 1, "{open:?}");
    assert_eq!(open.len(), 4, "{open:?}");
    let error = fs::OpenOptions::new().write(true).open(format!("/proc/{pid}/exe")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(30), "the program must be on a read-only file system: {error}");
    assert_eq!(fs::metadata(format!("/proc/{pid}/ns")).unwrap().uid(), 0);
    bundle.oci(&["delete", "-f", &id]);
}

#[test]
fn root_a_container_that_executes_its_own_exe_gets_nothing_it_can_write() {
    need_root!("root_a_container_that_executes_its_own_exe_gets_nothing_it_can_write");
    // CVE-2019-5736: the user's program is a script whose interpreter is the runtime itself.
    let mut bundle = Bundle::new("true");
    fs::write(bundle.inside("bin/trap"), "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(bundle.inside("bin/trap"), fs::Permissions::from_mode(0o755)).unwrap();
    bundle.config["process"]["args"] = json!(["/bin/trap"]);
    let before = fs::read(common::program()).unwrap();
    let said = bundle.run();
    assert_ne!(said.code, 0);
    assert!(fs::read(common::program()).unwrap() == before);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_a_working_directory_outside_is_refused() {
    need_root!("root_a_working_directory_outside_is_refused");
    // CVE-2024-21626: a number of a handle that the runtime had open on the host.
    let mut bundle = Bundle::new("pwd; ls");
    bundle.write();
    for number in 0..24 {
        bundle.config["process"]["cwd"] = json!(format!("/proc/self/fd/{number}"));
        let said = bundle.run();
        assert_ne!(said.code, 0, "/proc/self/fd/{number} was entered: {}", said.out);
    }
    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    bundle.config["process"]["cwd"] = json!("/");
    bundle.write();
    let id = bundle.id();
    assert_eq!(bundle.oci(&["run", "-d", &id]).code, 0);
    for number in 0..24 {
        let said = bundle.oci(&["exec", "--cwd", &format!("/proc/self/fd/{number}"), &id, "pwd"]);
        assert_eq!(said.code, 255, "/proc/self/fd/{number} was entered: {}", said.out);
    }
    bundle.oci(&["delete", "-f", &id]);
}

#[test]
fn root_mounts_have_their_options_and_modes() {
    need_root!("root_mounts_have_their_options_and_modes");
    let mut bundle = Bundle::new(
        "cat /merged/which /proc/self/mountinfo; stat -c '%a %n' /dev/shm /dev/mqueue /tmp /dev/null; cat /bound/file /bound-file; echo x > /bound/y; echo x > /read-only",
    );
    fs::create_dir(bundle.inside("tmp")).unwrap();
    fs::set_permissions(bundle.inside("tmp"), fs::Permissions::from_mode(0o1770)).unwrap();
    let source = bundle.directory.join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "content").unwrap();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.push(
        json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "noexec", "size=64k"]}),
    );
    mounts.push(json!({"destination": "/bound", "type": "bind", "source": source, "options": ["rbind", "ro", "nodev", "noatime"]}));
    mounts.push(json!({"destination": "/bound-file", "source": source.join("file"), "options": ["bind"]}));
    // More than fsconfig(2) takes in one value.
    let layers = ["a", "b"].map(|name| bundle.directory.join(name.repeat(200)));
    for (layer, content) in layers.iter().zip(["upper\n", "lower\n"]) {
        fs::create_dir(layer).unwrap();
        fs::write(layer.join("which"), content).unwrap();
    }
    let lowers = format!("lowerdir={}:{}", layers[0].display(), layers[1].display());
    mounts.push(
        json!({"destination": "/merged", "type": "overlay", "source": "overlay", "options": ["nosuid", "ro", lowers]}),
    );
    bundle.config["root"]["readonly"] = json!(true);
    let said = bundle.run();
    let line = |point: &str| {
        let found = said.out.lines().find(|line| line.split(' ').nth(4) == Some(point));
        found.unwrap_or_else(|| panic!("{point} is not mounted: {}", said.out)).split(' ').nth(5).unwrap().to_owned()
    };
    // A bind keeps what the mount that it is taken from forbids: a /tmp of its own often has some.
    let own = statvfs(&bundle.directory).unwrap().f_flag;
    let flags = [(StatVfsMountFlags::NOSUID, "nosuid,"), (StatVfsMountFlags::NODEV, "nodev,")];
    let kept: String = flags.into_iter().filter(|(flag, _)| own.contains(*flag)).map(|(_, name)| name).collect();
    assert_eq!(line("/"), format!("ro,{kept}relatime"));
    assert_eq!(line("/proc"), "rw,nosuid,nodev,noexec,relatime");
    assert_eq!(line("/proc/sys"), "ro,nosuid,nodev,noexec,relatime");
    assert_eq!(line("/sys"), "ro,nosuid,nodev,noexec,relatime");
    assert_eq!(line("/tmp"), "rw,nosuid,noexec,relatime");
    let kept = if kept.contains("nosuid") { "nosuid," } else { "" };
    assert_eq!(line("/bound"), format!("ro,{kept}nodev,noatime"));
    assert_eq!(line("/merged"), "ro,nosuid,relatime");
    assert!(said.out.starts_with("upper\n"), "{}", said.out);
    assert!(
        said.out.contains("1777 /dev/shm\n1777 /dev/mqueue\n1770 /tmp\n666 /dev/null\ncontentcontent"),
        "{}",
        said.out
    );
    assert_eq!(said.err.matches("Read-only file system").count(), 2, "{}", said.err);
    assert!(bundle.inside("bound").is_dir());
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_without_pivot_root_a_container_sees_its_own_root_only() {
    need_root!("root_without_pivot_root_a_container_sees_its_own_root_only");
    let script = "ls /; cat /etc/only-here; ls -d /proc/1/root/etc/only-here; grep -c ' / / ' /proc/self/mountinfo";
    let mut bundle = Bundle::new(script);
    fs::write(bundle.inside("etc/only-here"), "inside\n").unwrap();
    bundle.write();
    let id = bundle.id();
    let said = bundle.oci(&["run", "--no-pivot", &id]);
    assert_eq!(said.err, "");
    assert!(said.out.starts_with("bin\ndev\netc\nproc\nsys\ninside\n/proc/1/root/etc/only-here\n"), "{}", said.out);
    // An exec enters the same root.
    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    bundle.write();
    let id = bundle.id();
    assert_eq!(bundle.oci(&["run", "-d", "--no-pivot", &id]).code, 0);
    assert_eq!(bundle.oci(&["exec", &id, "cat", "/etc/only-here"]).out, "inside\n");
    let pid = bundle.state(&id)["pid"].to_string();
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    assert_eq!(
        mounts.lines().filter(|line| line.contains(" - proc ") && line.contains(" / /proc ")).count(),
        1,
        "{mounts}"
    );
    assert_eq!(bundle.oci(&["delete", "-f", &id]).code, 0);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_without_pivot_root_a_user_namespace_works_too() {
    need_root!("root_without_pivot_root_a_user_namespace_works_too");
    let mut bundle = Bundle::new("cat /etc/only-here; ls /proc/self/fd/0");
    fs::write(bundle.inside("etc/only-here"), "inside\n").unwrap();
    bundle.open_for_user_namespace();
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    bundle.write();
    let id = bundle.id();
    let said = bundle.oci(&["run", "--no-pivot", &id]);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("inside\n/proc/self/fd/0\n", ""));
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_a_tmpfs_is_filled_with_what_lies_below_it() {
    need_root!("root_a_tmpfs_is_filled_with_what_lies_below_it");
    let mut bundle = Bundle::new(
        "cd /data; stat -c '%A %u:%g %Y %n' . file sub sub/link out fifo; cat file; readlink out; echo more > file; ls /given; stat -c '%a %u' /given",
    );
    let data = bundle.inside("data");
    fs::create_dir_all(data.join("sub")).unwrap();
    fs::create_dir_all(bundle.inside("given")).unwrap();
    fs::write(bundle.inside("given/one"), "").unwrap();
    fs::write(data.join("file"), "content\n").unwrap();
    symlink("../file", data.join("sub/link")).unwrap();
    // A link out of the root is copied as a link, and what it leads to on the host stays there.
    symlink("/etc/hostname", data.join("out")).unwrap();
    assert!(Command::new(busybox()).arg("mkfifo").arg(data.join("fifo")).status().unwrap().success());
    for (name, mode) in [("file", 0o4711), ("sub", 0o1770), ("fifo", 0o640), ("", 0o2750)] {
        std::os::unix::fs::lchown(data.join(name), Some(5), Some(6)).unwrap();
        fs::set_permissions(data.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    assert!(
        Command::new("touch")
            .args(["-h", "-d", "@1000"])
            .args(["file", "sub/link", "sub", "out", "fifo", "."])
            .current_dir(&data)
            .status()
            .unwrap()
            .success()
    );
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}));
    mounts.push(json!({"destination": "/given", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "mode=711", "uid=9"]}));
    bundle.config["process"]["capabilities"] =
        json!({"bounding": ["CAP_DAC_OVERRIDE"], "effective": ["CAP_DAC_OVERRIDE"], "permitted": ["CAP_DAC_OVERRIDE"]});
    let said = bundle.run();
    assert_eq!(said.err, "");
    let want = [
        "drwxr-s--- 5:6 1000 .",
        "-rws--x--x 5:6 1000 file",
        "drwxrwx--T 5:6 1000 sub",
        "lrwxrwxrwx 0:0 1000 sub/link",
        "lrwxrwxrwx 0:0 1000 out",
        "prw-r----- 5:6 1000 fifo",
        "content",
        "/etc/hostname",
        "one",
        "711 9",
    ];
    assert_eq!(said.out.lines().collect::<Vec<_>>(), want);
    assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "content\n", "what lies below stays as it is");
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_the_hosts_procfs_may_lie_on_proc_and_a_source_may_be_long() {
    need_root!("root_the_hosts_procfs_may_lie_on_proc_and_a_source_may_be_long");
    let mut bundle =
        Bundle::new("test -d /proc/self/fd && grep -c long-source /proc/self/mountinfo; cat /proc/1/comm; true");
    let source = format!("long-source-{}", "x".repeat(400));
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/long", "type": "tmpfs", "source": source, "options": ["ro"]}));
    let said = bundle.run();
    assert_eq!((said.out.as_str(), said.err.as_str()), ("1\nsh\n", ""));
    // On the one that the container got before.
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/proc/", "type": "bind", "source": "/proc", "options": ["rbind"]}));
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "pid");
    let said = bundle.run();
    let first = fs::read_to_string("/proc/1/comm").unwrap();
    assert_eq!((said.out, said.err.as_str()), (format!("1\n{first}"), ""));
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_a_container_stays_below_its_cgroup_root_and_its_tasks_are_counted_as_its_version_says() {
    need_root!("root_a_container_stays_below_its_cgroup_root_and_its_tasks_are_counted_as_its_version_says");
    let mut bundle = Bundle::new("grep -m1 -E 'pids|^0:' /proc/self/cgroup; (echo another task); true");
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "cgroup");
    let group = bundle.config["linux"]["cgroupsPath"].as_str().unwrap().to_owned();
    bundle.config["linux"]["cgroupsPath"] = json!(format!("/../..{group}/x/.././"));
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 0});
    let said = bundle.run();
    assert!(said.out.contains(&format!(":{group}\nanother task\n")), "{said:?}");
    bundle.config["ociVersion"] = json!("1.3.0");
    let said = bundle.run();
    assert!(!said.out.contains("another task"), "{said:?}");
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": -5});
    bundle.config["ociVersion"] = json!("nonsense");
    let said = bundle.run();
    assert!(said.out.ends_with("another task\n"), "{said:?}");
    assert!(said.err.contains("ociVersion \"nonsense\" is unknown here"), "{said:?}");
    bundle.config["linux"]["cgroupsPath"] = json!("/..");
    let said = bundle.run();
    assert_eq!((said.code, said.err.as_str()), (1, "cgroup path \"/\" names no group\n"));
    bundle.config["linux"]["cgroupsPath"] = json!(group);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_a_device_with_a_relative_path_is_made_below_the_root_and_nowhere_else() {
    need_root!("root_a_device_with_a_relative_path_is_made_below_the_root_and_nowhere_else");
    let mut bundle = Bundle::new("stat -c '%n %t:%T' /dev/foo /tmp/up");
    let device = |path: &str| json!({"path": path, "type": "c", "major": 1, "minor": 3, "fileMode": 0o666});
    bundle.config["linux"]["devices"] = json!([device("dev/foo"), device("../../tmp/up")]);
    let said = bundle.run();
    assert_eq!((said.out.as_str(), said.err.as_str()), ("/dev/foo 1:3\n/tmp/up 1:3\n", ""));
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_only_procfs_lies_on_proc() {
    need_root!("root_only_procfs_lies_on_proc");
    let mut bundle = Bundle::new("echo started");
    let forged = bundle.directory.join("forged");
    fs::create_dir(&forged).unwrap();
    symlink("proc", bundle.inside("elsewhere")).unwrap();
    let plain = bundle.config["mounts"].clone();
    for (place, with_proc) in [("/proc", false), ("/proc", true), ("/elsewhere", false), ("//proc/.", true)] {
        let mut mounts = plain.clone();
        if !with_proc {
            mounts.as_array_mut().unwrap().retain(|mount| mount["destination"] != "/proc");
        }
        let forged = json!({"destination": place, "type": "bind", "source": forged, "options": ["rbind"]});
        mounts.as_array_mut().unwrap().push(forged);
        bundle.config["mounts"] = mounts;
        let said = bundle.run();
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{place}");
        assert!(said.err.contains("cannot be mounted because it is not of type proc"), "{place}: {}", said.err);
    }
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_a_file_can_be_bound_where_a_link_of_the_image_leads_nowhere() {
    need_root!("root_a_file_can_be_bound_where_a_link_of_the_image_leads_nowhere");
    let mut bundle = Bundle::new("cat /etc/resolv.conf /run/systemd/stub");
    symlink("../run/systemd/stub", bundle.inside("etc/resolv.conf")).unwrap();
    let file = bundle.directory.join("resolv.conf");
    fs::write(&file, "nameserver\n").unwrap();
    bundle.config["mounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"destination": "/etc/resolv.conf", "type": "bind", "source": file, "options": ["rbind", "ro"]}));
    let said = bundle.run();
    assert_eq!((said.out.as_str(), said.err.as_str()), ("nameserver\nnameserver\n", ""));
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_masked_paths_are_empty_and_readonly_paths_refuse() {
    need_root!("root_masked_paths_are_empty_and_readonly_paths_refuse");
    let mut bundle = Bundle::new(
        "cat /proc/keys /proc/kcore; ls /proc/acpi /sys/firmware; stat -c '%t:%T' /proc/keys; echo 1 > /proc/sys/net/ipv4/ip_forward",
    );
    let said = bundle.run();
    assert!(said.out.contains("1:3"), "{}", said.out);
    assert!(said.err.contains("Read-only file system"), "{}", said.err);
    assert!(!said.out.contains("keyring"), "{}", said.out);
}

#[test]
fn root_a_link_in_the_image_leads_no_mount_or_device_outside() {
    need_root!("root_a_link_in_the_image_leads_no_mount_or_device_outside");
    // CVE-2021-30465, CVE-2026-41579: destinations behind links to the host.
    let mut bundle = Bundle::new("ls /escape /target; cat /target/inside/file");
    let outside = bundle.directory.join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, bundle.inside("escape")).unwrap();
    symlink("../../../../../../../target", bundle.inside("up")).unwrap();
    fs::create_dir(bundle.directory.join("source")).unwrap();
    fs::write(bundle.directory.join("source/file"), "content").unwrap();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["destination"] == "/proc");
    mounts.push(json!({"destination": "/up/inside", "type": "bind", "source": "source", "options": ["rbind"]}));
    mounts.push(json!({"destination": "/escape/inside", "type": "tmpfs", "source": "tmpfs"}));
    symlink(&outside, bundle.inside("dev")).unwrap();
    bundle.config["linux"]["maskedPaths"] = json!([]);
    let said = bundle.run();
    assert!(said.out.contains("content"), "{said:?}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "something was made on the host");
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_a_forged_null_device_masks_nothing() {
    need_root!("root_a_forged_null_device_masks_nothing");
    // CVE-2025-31133: what is masked would be replaced by what the link points to.
    let mut bundle = Bundle::new("cat /proc/keys");
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["destination"] == "/proc");
    mounts.push(json!({"destination": "/dev", "type": "bind", "source": "fake-dev", "options": ["rbind"]}));
    fs::create_dir(bundle.directory.join("fake-dev")).unwrap();
    symlink("/proc/sysrq-trigger", bundle.directory.join("fake-dev/null")).unwrap();
    let said = bundle.run();
    assert_eq!((said.code, said.err.as_str()), (1, "/dev/null of the container is not the null device\n"));
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_proc_must_be_a_directory_and_nothing_else_is_bound_into_it() {
    need_root!("root_proc_must_be_a_directory_and_nothing_else_is_bound_into_it");
    let mut bundle = Bundle::new("true");
    symlink("/etc", bundle.inside("proc")).unwrap();
    assert_eq!(bundle.run().err, "filesystem \"proc\" must be mounted on ordinary directory\n");
    fs::remove_file(bundle.inside("proc")).unwrap();
    let bind = |destination: &str, source: &str| json!({"destination": destination, "type": "bind", "source": source, "options": ["rbind"]});
    let mounts = bundle.config["mounts"].as_array().unwrap().clone();
    for destination in ["/proc/self/attr", "/proc/no-such", "/proc/sys"] {
        bundle.config["mounts"] = mounts.clone().into_iter().chain([bind(destination, "/tmp")]).collect();
        let said = bundle.run();
        assert!(said.err.contains("cannot be mounted because it is inside /proc"), "{}", said.err);
    }
    // In the place of the container's own one, as Docker has it for a volume on /proc.
    let without_proc = mounts.into_iter().filter(|mount| mount["destination"] != "/proc");
    bundle.config["mounts"] = without_proc.chain([bind("/proc", "/tmp")]).collect();
    let said = bundle.run();
    assert!(said.err.contains("\"/proc\" cannot be mounted because it is not of type proc"), "{}", said.err);
    bundle.config["mounts"].as_array_mut().unwrap().pop();
    bundle.config["mounts"].as_array_mut().unwrap().push(bind("/proc", "/proc"));
    assert_eq!(bundle.run().code, 0);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_capabilities_ids_limits_and_masks_are_as_asked() {
    need_root!("root_capabilities_ids_limits_and_masks_are_as_asked");
    let mut bundle = Bundle::new(
        "grep -E '^(Cap|NoNew|Uid|Gid|Groups|Sig(Ign|Blk)|Seccomp:)' /proc/self/status; grep 'open files' /proc/self/limits; umask; env; cat /proc/self/oom_score_adj",
    );
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 6], "umask": 0o027});
    bundle.config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
    bundle.config["process"]["oomScoreAdj"] = json!(321);
    bundle.config["process"]["capabilities"] = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"],
        "inheritable": ["CAP_CHOWN"], "ambient": ["CAP_CHOWN"]
    });
    fs::write(bundle.inside("etc/passwd"), "root:x:0:0::/root:\nuser:x:1000:1001::/home/user:/bin/sh\n").unwrap();
    let said = bundle.run();
    for line in [
        "Uid:\t1000\t1000\t1000\t1000",
        "Gid:\t1001\t1001\t1001\t1001",
        "Groups:\t5 6 ",
        "CapInh:\t0000000000000001",
        "CapPrm:\t0000000000000001",
        "CapEff:\t0000000000000001",
        "CapBnd:\t0000000000000021",
        "CapAmb:\t0000000000000001",
        "NoNewPrivs:\t1",
        "SigIgn:\t0000000000000000",
        "SigBlk:\t0000000000000000",
        "0027",
        "HOME=/home/user",
        "321",
    ] {
        assert!(said.out.lines().any(|one| one == line), "{line:?} is not in {}", said.out);
    }
    let limits = said.out.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(limits.split_whitespace().collect::<Vec<_>>()[3..5], ["100", "200"]);
}

#[test]
fn root_without_capabilities_there_are_none() {
    need_root!("root_without_capabilities_there_are_none");
    let mut bundle = Bundle::new("grep ^Cap /proc/self/status");
    bundle.config["process"].as_object_mut().unwrap().remove("capabilities");
    let said = bundle.run();
    assert_eq!(said.out.matches("0000000000000000").count(), 5, "{}", said.out);
}

#[test]
fn root_a_filter_holds_for_run_and_exec_with_and_without_no_new_privileges() {
    need_root!("root_a_filter_holds_for_run_and_exec_with_and_without_no_new_privileges");
    for (no_new_privileges, uid) in [(true, 0), (false, 0), (false, 1000)] {
        let mut bundle =
            Bundle::new("mkdir /tmp/x; echo $?; grep Seccomp: /proc/self/status; touch /tmp/ready; exec sleep 1000");
        fs::create_dir(bundle.inside("tmp")).unwrap();
        fs::set_permissions(bundle.inside("tmp"), fs::Permissions::from_mode(0o777)).unwrap();
        bundle.config["process"]["user"]["uid"] = json!(uid);
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        bundle.config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]
        });
        bundle.write();
        let id = bundle.id();
        let out = bundle.directory.join("own");
        let status = bundle.command(&["run", "-d", &id]).stdout(fs::File::create(&out).unwrap()).status().unwrap();
        assert!(status.success());
        let said = bundle.oci(&["exec", &id, "sh", "-c", "while ! test -e /tmp/ready; do :; done; mkdir /tmp/y"]);
        assert!(said.err.contains("Operation not supported"), "{said:?}");
        assert_eq!(fs::read_to_string(out).unwrap(), "1\nSeccomp:\t2\n");
        bundle.oci(&["delete", "-f", &id]);
    }
}

#[test]
fn root_sysctls_of_own_namespaces_are_written_and_others_refused() {
    need_root!("root_sysctls_of_own_namespaces_are_written_and_others_refused");
    let mut bundle =
        Bundle::new("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni /proc/sys/kernel/domainname");
    bundle.config["linux"]["sysctl"] =
        json!({"net.ipv4.ip_forward": "1", "kernel.shmmni": "77", "kernel.domainname": "example"});
    let said = bundle.run();
    assert_eq!((said.code, said.out.as_str()), (0, "1\n77\nexample\n"), "{}", said.err);
    bundle.config["linux"]["sysctl"] = json!({"kernel.core_pattern": "|/evil"});
    assert_eq!(bundle.run().err, "sysctl \"kernel.core_pattern\" is not in a separate kernel namespace\n");
}

#[test]
fn root_namespaces_are_joined_by_path() {
    need_root!("root_namespaces_are_joined_by_path");
    let names = [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid")];
    let mut owner = Bundle::new("exec sleep 1000");
    owner.write();
    let id = owner.id();
    assert_eq!(owner.oci(&["run", "-d", &id]).code, 0);
    let pid = owner.state(&id)["pid"].to_string();
    let mut guest = Bundle::new("for n in net ipc uts pid mnt; do readlink /proc/self/ns/$n; done; ps");
    let mut namespaces = vec![json!({"type": "mount"})];
    namespaces.extend(names.map(|(kind, file)| json!({"type": kind, "path": format!("/proc/{pid}/ns/{file}")})));
    guest.config["linux"]["namespaces"] = json!(namespaces);
    guest.config.as_object_mut().unwrap().remove("hostname");
    let said = guest.run();
    let inode = |file: &str| fs::read_link(format!("/proc/{pid}/ns/{file}")).unwrap().display().to_string();
    let lines: Vec<_> = said.out.lines().collect();
    assert_eq!(lines[..4], [inode("net"), inode("ipc"), inode("uts"), inode("pid")]);
    assert_ne!(lines[4], inode("mnt"));
    // Both containers see the same processes.
    assert!(said.out.contains("sleep 1000"), "{}", said.out);
    guest.config["linux"]["namespaces"][1]["path"] = json!("/proc/no-such-file");
    assert_eq!(guest.run().err, "open network namespace /proc/no-such-file: no such file or directory\n");
    owner.oci(&["delete", "-f", &id]);
    assert_eq!(guest.leftovers(), Vec::<String>::new());
    assert_eq!(owner.leftovers(), Vec::<String>::new());
}

#[test]
fn root_in_a_user_namespace_what_the_host_has_hidden_or_locked_stays_so() {
    need_root!("root_in_a_user_namespace_what_the_host_has_hidden_or_locked_stays_so");
    let mut bundle = Bundle::new(
        "mount -o remount,bind,rw /data; echo x > /data/file; umount /data/covered; cat /data/covered/secret; ls /data/covered; echo x > /other/file && cat /other/file",
    );
    bundle.open_for_user_namespace();
    // Nobody but the host's root may enter the place where the sources are.
    let outside = bundle.directory.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o700)).unwrap();
    for name in ["data", "other"] {
        fs::create_dir(outside.join(name)).unwrap();
    }
    symlink("other", outside.join("link")).unwrap();
    let data = HostMount::new(&outside.join("data"), "mode=777");
    fs::create_dir(outside.join("data/covered")).unwrap();
    fs::write(outside.join("data/covered/secret"), "secret\n").unwrap();
    let cover = HostMount::new(&outside.join("data/covered"), "mode=755");
    fs::write(outside.join("data/covered/cover"), "").unwrap();
    let other = HostMount::new(&outside.join("other"), "mode=777");
    let remount = Command::new("mount").args(["-o", "remount,bind,ro"]).arg(outside.join("data")).status().unwrap();
    assert!(remount.success());
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    let all = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
    bundle.config["process"]["capabilities"] = json!({"bounding": all, "effective": all, "permitted": all});
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/data", "type": "bind", "source": outside.join("data"), "options": ["rbind"]}));
    // By a link, and with a flag of the caller's own.
    mounts.push(
        json!({"destination": "/other", "type": "bind", "source": outside.join("link"), "options": ["rbind", "rw", "nosuid"]}),
    );
    let said = bundle.run();
    assert_eq!(said.out, "cover\nx\n", "{}", said.err);
    for refusal in
        ["mount: ", "can't create /data/file: Read-only file system", "umount: ", "can't open '/data/covered/secret'"]
    {
        assert!(said.err.contains(refusal), "{}", said.err);
    }
    drop((cover, data, other));
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_an_apparmor_profile_confines_and_one_that_is_missing_is_refused() {
    let name = "root_an_apparmor_profile_confines_and_one_that_is_missing_is_refused";
    need_root!(name);
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.trim() == "Y");
    let with_profile = |profile: &str| {
        let mut bundle = Bundle::new("cat /proc/self/attr/apparmor/current; echo x > /forbidden && echo written");
        bundle.config["process"]["apparmorProfile"] = json!(profile);
        let said = bundle.run();
        assert_eq!(bundle.leftovers(), Vec::<String>::new());
        said
    };
    let missing = with_profile("carrack-no-such-profile");
    assert_ne!(missing.code, 0, "it ran without the profile that it asked for: {missing:?}");
    let unconfined = with_profile("unconfined");
    assert!(unconfined.out.ends_with("written\n"), "{unconfined:?}");
    if !enabled {
        assert!(missing.err.contains("apparmor not supported"), "{missing:?}");
        eprintln!("SKIPPED: {name}: this host has no AppArmor, only the refusal was tested");
        return;
    }
    assert!(missing.err.contains("carrack-no-such-profile"), "{missing:?}");
    assert_eq!(unconfined.out, "unconfined\nwritten\n", "{unconfined:?}");
    let profile = format!("carrack-test-{}", std::process::id());
    let policy = format!("profile {profile} flags=(attach_disconnected) {{ file, capability, deny /forbidden w, }}\n");
    if !apparmor_parser("--replace", &policy) {
        eprintln!("SKIPPED: {name}: apparmor_parser is not installed, so no profile was enforced");
        return;
    }
    let confined = with_profile(&profile);
    assert!(apparmor_parser("--remove", &policy));
    assert_eq!(confined.out, format!("{profile} (enforce)\n"), "{confined:?}");
    assert!(confined.err.contains("Permission denied"), "{confined:?}");
}

#[test]
fn root_a_selinux_label_is_never_ignored() {
    let name = "root_a_selinux_label_is_never_ignored";
    need_root!(name);
    if fs::exists("/sys/fs/selinux/enforce").unwrap() {
        eprintln!("SKIPPED: {name}: this host has SELinux, what is refused without it was not tested");
        return;
    }
    let label = "system_u:system_r:container_t:s0:c1,c2";
    let words = "selinux label is specified in config, but selinux is disabled or not supported\n";
    let mut bundle = Bundle::new("exec sleep 1000");
    bundle.config["process"]["selinuxLabel"] = json!(label);
    let said = bundle.run();
    assert_eq!((said.code, said.err.as_str()), (1, words));
    bundle.config["process"]["selinuxLabel"] = json!("");
    bundle.write();
    let id = bundle.id();
    assert_eq!(bundle.oci(&["run", "-d", &id]).code, 0);
    let said = bundle.oci(&["exec", "--process-label", label, &id, "true"]);
    assert_eq!((said.code, said.err.as_str()), (255, words));
    assert_eq!(bundle.oci(&["delete", "-f", &id]).code, 0);
    // The kernel is asked to label what is in a new file system, and says that it cannot.
    bundle.config["linux"]["mountLabel"] = json!("system_u:object_r:container_file_t:s0:c1,c2");
    let said = bundle.run();
    assert_eq!(said.code, 1);
    assert!(said.err.starts_with("error mounting \"tmpfs\" to rootfs at \"/dev\": invalid "), "{said:?}");
    assert!(said.err.contains("'context'"), "{said:?}");
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

/// Gives a policy to apparmor_parser(8); false where there is none.
fn apparmor_parser(action: &str, policy: &str) -> bool {
    let parser = Command::new("apparmor_parser")
        .args([action, "--skip-cache", "--skip-read-cache"])
        .stdin(Stdio::piped())
        .spawn();
    let Ok(mut parser) = parser else { return false };
    parser.stdin.take().unwrap().write_all(policy.as_bytes()).unwrap();
    assert!(parser.wait().unwrap().success(), "{policy}");
    true
}

#[test]
fn root_a_user_namespace_maps_ids_and_binds_devices() {
    need_root!("root_a_user_namespace_maps_ids_and_binds_devices");
    let mut bundle = Bundle::new(
        "id -u; cat /proc/self/uid_map; echo x > /dev/null; head -c 3 /dev/zero | wc -c; hostname; grep CapEff /proc/self/status; touch /made; exec sleep 1000",
    );
    bundle.open_for_user_namespace();
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    bundle.config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 50, "hard": 60}]);
    bundle.write();
    let id = bundle.id();
    let out = bundle.directory.join("own");
    let file = fs::File::create(&out).unwrap();
    let status = bundle.command(&["run", "-d", &id]).stdout(file.try_clone().unwrap()).stderr(file).status().unwrap();
    assert!(status.success(), "{}", fs::read_to_string(out).unwrap());
    let said = bundle.oci(&[
        "exec",
        &id,
        "sh",
        "-c",
        "while ! test -e /made; do :; done; id -u; readlink /proc/1/ns/user; readlink /proc/self/ns/user",
    ]);
    let lines: Vec<_> = said.out.lines().collect();
    assert_eq!((lines[0], lines[1]), ("0", lines[2]), "{said:?}");
    let text = fs::read_to_string(out).unwrap();
    let words: Vec<_> = text.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "100000", "65536", "3", "inside", "CapEff:", "0000000000000020"], "{text}");
    assert_eq!(fs::metadata(bundle.inside("made")).unwrap().uid(), 100_000);
    // Another container joins its user namespace, and makes its own others in it.
    let pid = bundle.state(&id)["pid"].to_string();
    let mut guest =
        Bundle::new("id -u; readlink /proc/self/ns/user; ps | wc -l; mount -t tmpfs none /mnt 2>&1; exit 4");
    guest.open_for_user_namespace();
    guest.config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .extend([json!({"type": "user", "path": format!("/proc/{pid}/ns/user")})]);
    let said = guest.run();
    let user = fs::read_link(format!("/proc/{pid}/ns/user")).unwrap().display().to_string();
    assert_eq!(said.out.lines().take(2).collect::<Vec<_>>(), ["0", user.as_str()], "{said:?}");
    assert_eq!(said.code, 4, "{said:?}");
    bundle.oci(&["delete", "-f", &id]);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
    assert_eq!(guest.leftovers(), Vec::<String>::new());
}

#[test]
fn root_limits_are_written_to_the_cgroup() {
    need_root!("root_limits_are_written_to_the_cgroup");
    let mut bundle = Bundle::new("exec sleep 1000");
    bundle.config["linux"]["resources"] =
        json!({"memory": {"limit": 33_554_432}, "pids": {"limit": 17}, "cpu": {"shares": 512}});
    bundle.write();
    let id = bundle.id();
    assert_eq!(bundle.oci(&["run", "-d", &id]).code, 0);
    let group = bundle.config["linux"]["cgroupsPath"].as_str().unwrap().trim_start_matches('/').to_owned();
    let read = |file: &str| {
        let found = cgroup_mounts().into_iter().map(|base| base.join(&group).join(file)).find(|path| path.exists());
        fs::read_to_string(found.unwrap_or_else(|| panic!("no {file}"))).unwrap().trim().to_owned()
    };
    let memory = if is_unified() { "memory.max" } else { "memory.limit_in_bytes" };
    assert_eq!((read(memory).as_str(), read("pids.max").as_str()), ("33554432", "17"));
    let pid = bundle.state(&id)["pid"].to_string();
    assert_eq!(read("cgroup.procs"), pid);
    bundle.oci(&["delete", "-f", &id]);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_devices_that_no_rule_allows_cannot_be_opened() {
    need_root!("root_devices_that_no_rule_allows_cannot_be_opened");
    let mut bundle = Bundle::new("head -c 1 /dev/kmsg > /dev/null; head -c 4 /dev/zero | wc -c");
    bundle.config["linux"]["devices"] =
        json!([{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666}]);
    let said = bundle.run();
    assert!(said.err.contains("Operation not permitted"), "{said:?}");
    assert_eq!(said.out, "4\n");
}

#[test]
fn root_preserved_handles_reach_the_program_and_others_do_not() {
    need_root!("root_preserved_handles_reach_the_program_and_others_do_not");
    let mut bundle = Bundle::new("ls /proc/self/fd; cat <&3");
    fs::write(bundle.directory.join("given"), "given").unwrap();
    bundle.write();
    let id = bundle.id();
    let line = format!(
        "exec 3<{0}/given 4</etc/passwd; exec {1} --root {0}/state run --preserve-fds 1 {id}",
        bundle.directory.display(),
        common::program().display()
    );
    let output = Command::new("sh").args(["-c", &line]).current_dir(&bundle.directory).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n1\n2\n3\n4\ngiven", "{output:?}");
}

#[test]
fn root_a_handle_that_is_not_open_cannot_be_preserved() {
    need_root!("root_a_handle_that_is_not_open_cannot_be_preserved");
    let mut bundle = Bundle::new("ls /proc/self/fd");
    bundle.write();
    let id = bundle.id();
    let said = bundle.oci(&["run", "--preserve-fds", "200", &id]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.starts_with("--preserve-fds 200: handle "), "{said:?}");
}

#[test]
fn root_a_standard_handle_that_is_closed_is_the_null_device_and_none_of_ours() {
    need_root!("root_a_standard_handle_that_is_closed_is_the_null_device_and_none_of_ours");
    let mut bundle = Bundle::new("ls -l /proc/self/fd/0");
    bundle.write();
    let id = bundle.id();
    let line =
        format!("exec <&-; exec {} --root {}/state run {id}", common::program().display(), bundle.directory.display());
    let output = Command::new("sh").args(["-c", &line]).current_dir(&bundle.directory).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).ends_with(" -> /dev/null\n"), "{output:?}");
}

#[test]
fn root_a_create_that_dies_at_any_system_call_is_deleted_without_a_trace() {
    need_root!("root_a_create_that_dies_at_any_system_call_is_deleted_without_a_trace");
    if Command::new("strace").arg("-V").output().is_err() {
        eprintln!(
            "SKIPPED: root_a_create_that_dies_at_any_system_call_is_deleted_without_a_trace: strace is not installed"
        );
        return;
    }
    let mut bundle = Bundle::new("true");
    bundle.write();
    let id = bundle.id();
    let mut created = 0;
    // Every call that changes something outside, and some between them.
    for (call, most) in [
        ("mkdirat", 12),
        ("openat", 40),
        ("write", 24),
        ("clone3", 1),
        ("renameat", 1),
        ("sendmsg", 4),
        ("bind", 1),
        ("recvmsg", 4),
    ] {
        for number in (1..=most).step_by(if most > 12 { 3 } else { 1 }) {
            let status = Command::new("strace")
                .args(["-o", "/dev/null", "-e", &format!("inject={call}:signal=SIGKILL:when={number}")])
                .arg(common::program())
                .arg("--root")
                .arg(bundle.state_root())
                .args(["create", &id])
                .current_dir(&bundle.directory)
                .stdin(std::process::Stdio::null())
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .status()
                .unwrap();
            created += u32::from(status.success());
            let said = bundle.oci(&["delete", "--force", &id]);
            assert_eq!((said.code, said.err.as_str()), (0, ""), "after a death at {call} {number}");
            assert_eq!(bundle.leftovers(), Vec::<String>::new(), "after a death at {call} {number}");
        }
    }
    assert!(created < 40, "most of these creates must have died, {created} did not");
}
