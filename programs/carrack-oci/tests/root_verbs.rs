//! The verbs as callers use them: exit codes, state, error texts.

mod common;

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use common::Bundle;
use serde_json::json;

#[test]
fn root_run_passes_the_exit_code_and_leaves_nothing() {
    need_root!("root_run_passes_the_exit_code_and_leaves_nothing");
    let mut bundle = Bundle::new("echo out; echo err >&2; exit 7");
    let said = bundle.run();
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (7, "out\n", "err\n"));
    // The first process of a pid namespace cannot be killed from inside, so it goes on.
    bundle.config["process"]["args"] = json!(["sh", "-c", "kill -9 $$; exit 1"]);
    assert_eq!(bundle.run().code, 1);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_a_container_is_created_started_seen_killed_and_deleted() {
    need_root!("root_a_container_is_created_started_seen_killed_and_deleted");
    let mut bundle = Bundle::new("touch /started; exec sleep 1000");
    bundle.config["annotations"] = json!({"a.b": "c"});
    bundle.write();
    let id = bundle.id();
    let pid_file = bundle.directory.join("pid");
    let said = bundle.oci(&["create", "--pid-file", pid_file.to_str().unwrap(), &id]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let state = bundle.state(&id);
    assert_eq!(state["status"], "created");
    assert_eq!(state["annotations"], json!({"a.b": "c"}));
    assert_eq!(state["bundle"], bundle.directory.to_str().unwrap());
    assert_eq!(state["pid"].to_string(), fs::read_to_string(&pid_file).unwrap());
    assert!(!bundle.inside("started").exists());

    assert_eq!(bundle.oci(&["create", &id]).err, "container with given ID already exists\n");
    assert_eq!(bundle.oci(&["start", &id]).code, 0);
    bundle.await_status(&id, "running");
    let said = bundle.oci(&["start", &id]);
    assert_eq!((said.code, said.err.as_str()), (1, "cannot start an already running container\n"));
    let said = bundle.oci(&["delete", &id]);
    assert_eq!(said.err, format!("cannot delete container {id} that is not stopped: running\n"));
    assert!(bundle.oci(&["list"]).out.contains(&id));
    assert_eq!(bundle.oci(&["list", "-q"]).out, format!("{id}\n"));
    let list: serde_json::Value = serde_json::from_str(&bundle.oci(&["list", "--format", "json"]).out).unwrap();
    assert_eq!(list[0]["owner"], "root");

    assert_eq!(bundle.oci(&["kill", &id, "KILL"]).code, 0);
    bundle.await_status(&id, "stopped");
    assert_eq!(bundle.state(&id)["pid"], 0);
    let said = bundle.oci(&["kill", &id, "TERM"]);
    assert_eq!((said.code, said.err.as_str()), (1, "container not running\n"));
    assert_eq!(bundle.oci(&["kill", "--all", &id, "9"]).code, 0);
    assert_eq!(bundle.oci(&["start", &id]).err, "cannot start a container that has stopped\n");
    assert_eq!(bundle.oci(&["exec", &id, "true"]).err, "cannot exec in a stopped container\n");
    assert_eq!(bundle.oci(&["delete", &id]).code, 0);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
    for (verb, code) in [("state", 1), ("start", 1), ("kill", 1), ("delete", 1), ("exec", 255)] {
        let mut arguments = vec![verb, &id];
        arguments.extend((verb == "exec").then_some("true"));
        let said = bundle.oci(&arguments);
        assert_eq!((said.code, said.err.as_str()), (code, "container does not exist\n"), "{verb}");
    }
    assert_eq!(bundle.oci(&["delete", "--force", &id]).code, 0);
    assert_eq!(bundle.oci(&["list", "--format", "json"]).out, "null\n");
}

#[test]
fn root_a_created_container_is_deleted_without_force() {
    need_root!("root_a_created_container_is_deleted_without_force");
    let mut bundle = Bundle::new("true");
    bundle.write();
    let id = bundle.id();
    assert_eq!(bundle.oci(&["create", &id]).code, 0);
    assert_eq!(bundle.oci(&["delete", &id]).code, 0);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_wrong_requests_are_refused_with_the_words_that_callers_know() {
    need_root!("root_wrong_requests_are_refused_with_the_words_that_callers_know");
    let mut bundle = Bundle::new("true");
    fs::write(bundle.inside("etc/data"), "no program").unwrap();
    fs::write(bundle.inside("bin/script"), "#!/no/interpreter\n").unwrap();
    fs::set_permissions(bundle.inside("bin/script"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for (args, text) in [
        (json!(["nope"]), "exec: \"nope\": executable file not found in $PATH"),
        (json!(["/nope"]), "exec: \"/nope\": stat /nope: no such file or directory"),
        (json!(["/etc/data"]), "exec: \"/etc/data\": permission denied"),
        (json!(["/etc"]), "exec: \"/etc\": permission denied"),
        (json!(["/bin/script"]), "exec /bin/script: no such file or directory"),
        (json!([]), "process.args must not be empty"),
    ] {
        bundle.config["process"]["args"] = args;
        let said = bundle.run();
        assert_eq!((said.code, said.err), (1, format!("{text}\n")));
    }
    bundle.config["process"]["args"] = json!(["true"]);
    bundle.config["process"]["terminal"] = json!(true);
    bundle.write();
    let id = bundle.id();
    assert_eq!(
        bundle.oci(&["create", &id]).err,
        "cannot allocate tty if runc will detach without setting console socket\n"
    );
    for (arguments, text) in [
        (vec!["create", "a/b"], "invalid container ID format: \"a/b\"\n"),
        (vec!["create", "--nope", "x"], "flag provided but not defined: -nope\n"),
        (vec!["create"], "\"create\" requires exactly 1 argument\n"),
        (vec!["checkpoint", "x"], "container does not exist\n"),
        (
            vec!["create", "--bundle", "/proc/no-such", "x"],
            "open /proc/no-such/config.json: no such file or directory\n",
        ),
    ] {
        let said = bundle.oci(&arguments);
        assert_eq!((said.code, said.err.as_str()), (1, text));
    }
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_without_systemd_its_driver_is_refused_with_the_words_that_callers_know() {
    need_root!("root_without_systemd_its_driver_is_refused_with_the_words_that_callers_know");
    if fs::metadata("/run/systemd/system").is_ok() {
        return eprintln!(
            "SKIPPED: root_without_systemd_its_driver_is_refused_with_the_words_that_callers_know: systemd runs here"
        );
    }
    let mut bundle = Bundle::new("true");
    bundle.config["linux"]["cgroupsPath"] = json!("system.slice:carrack:x");
    bundle.write();
    let id = bundle.id();
    let said = bundle.oci(&["--systemd-cgroup", "create", &id]);
    assert_eq!(
        (said.code, said.err.as_str()),
        (1, "systemd not running on this host, cannot use systemd cgroups manager\n")
    );
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn what_cannot_be_printed_is_an_error_and_no_crash() {
    let bundle = Bundle::new("true");
    for arguments in [&["--version"][..], &["help"], &["features"]] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let said = bundle.command(arguments).stdout(full).output().unwrap();
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        assert_eq!((said.status.code(), text.as_str()), (Some(1), "write the answer: no space left on device\n"));
    }
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert_eq!(bundle.command(&["state", "nobody"]).stderr(full).status().unwrap().code(), Some(1));
}

#[test]
fn root_the_log_has_the_error_as_json() {
    need_root!("root_the_log_has_the_error_as_json");
    let bundle = Bundle::new("true");
    let log = bundle.directory.join("log.json");
    let said = bundle.oci(&["--log", log.to_str().unwrap(), "--log-format", "json", "state", "nobody"]);
    assert_eq!((said.code, said.err.as_str()), (1, "container does not exist\n"));
    let line: serde_json::Value = serde_json::from_str(fs::read_to_string(log).unwrap().trim()).unwrap();
    assert_eq!((&line["level"], &line["msg"]), (&json!("error"), &json!("container does not exist")));
}

#[test]
fn root_exec_joins_everything_and_passes_its_exit_code() {
    need_root!("root_exec_joins_everything_and_passes_its_exit_code");
    let mut bundle = Bundle::new("exec sleep 1000");
    bundle.write();
    let id = bundle.id();
    assert_eq!(bundle.oci(&["run", "-d", &id]).code, 0);
    let said = bundle.oci(&[
        "exec",
        "-e",
        "A=1",
        "--cwd",
        "/bin",
        "-u",
        "5:6",
        "-g",
        "7",
        &id,
        "sh",
        "-c",
        "id; pwd; echo $A; hostname; exit 5",
    ]);
    assert_eq!((said.code, said.out.as_str()), (5, "uid=5 gid=6 groups=7\n/bin\n1\ninside\n"));
    let pid = bundle.state(&id)["pid"].to_string();
    let said = bundle.oci(&[
        "exec",
        &id,
        "sh",
        "-c",
        "for n in mnt pid net ipc uts cgroup user; do readlink /proc/self/ns/$n; done; cat /proc/self/cgroup",
    ]);
    let mut want = String::new();
    for name in ["mnt", "pid", "net", "ipc", "uts", "cgroup", "user"] {
        want += &format!("{}\n", fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap().display());
    }
    assert!(said.out.starts_with(&want), "{} is not {want}", said.out);
    assert!(said.out.lines().skip(7).all(|line| line.ends_with(":/")), "{}", said.out);
    for (command, text) in [
        ("nope", "exec: \"nope\": executable file not found in $PATH\n"),
        ("/etc", "exec: \"/etc\": permission denied\n"),
    ] {
        let said = bundle.oci(&["exec", &id, command]);
        assert_eq!((said.code, said.err.as_str()), (255, text));
    }
    let process = bundle.directory.join("process.json");
    fs::write(&process, json!({"user": {"uid": 3, "gid": 4}, "cwd": "/", "args": ["/bin/id", "-u"]}).to_string())
        .unwrap();
    assert_eq!(bundle.oci(&["exec", "--process", process.to_str().unwrap(), &id]).out, "3\n");
    let said = bundle.oci(&["exec", &id, "sh", "-c", "kill -TERM $$"]);
    assert_eq!(said.code, 128 + 15);
    assert_eq!(bundle.oci(&["delete", "-f", &id]).code, 0);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_an_exec_that_fails_says_so_by_its_code_and_a_wrong_command_line_by_another() {
    need_root!("root_an_exec_that_fails_says_so_by_its_code_and_a_wrong_command_line_by_another");
    let mut bundle = Bundle::new("exec sleep 1000");
    bundle.write();
    let id = bundle.id();
    assert_eq!(bundle.oci(&["run", "-d", &id]).code, 0);
    let number = "strconv.Atoi: parsing";
    for (arguments, code, text) in [
        (vec!["exec"], 1, "\"exec\" requires a minimum of 1 argument".to_owned()),
        (vec!["exec", "--nope", &id, "true"], 1, "flag provided but not defined: -nope".into()),
        (vec!["exec", "--preserve-fds", "x", &id, "true"], 1, "invalid value \"x\" for flag -preserve-fds".into()),
        (vec!["exec", "-g", "x", &id, "true"], 1, "invalid value \"x\" for flag -additional-gids: not a number".into()),
        (vec!["exec", &id], 255, "process args cannot be empty".into()),
        (
            vec!["exec", "--user", "root", &id, "id"],
            255,
            format!("parsing root as int for uid failed: {number} \"root\": invalid syntax"),
        ),
        (
            vec!["exec", "--user", "a:b", &id, "id"],
            255,
            format!("parsing b as int for gid failed: {number} \"b\": invalid syntax"),
        ),
        (
            vec!["exec", &id, "/bin/busybox/x"],
            255,
            "exec: \"/bin/busybox/x\": stat /bin/busybox/x: not a directory".into(),
        ),
    ] {
        let said = bundle.oci(&arguments);
        assert_eq!((said.code, said.err), (code, format!("{text}\n")), "{arguments:?}");
        assert_eq!(said.out.contains("usage:"), code == 1, "{arguments:?}");
    }
    assert_eq!(bundle.oci(&["delete", "-f", &id]).code, 0);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_a_state_that_is_half_made_is_nobodys_and_a_damaged_one_is_told() {
    need_root!("root_a_state_that_is_half_made_is_nobodys_and_a_damaged_one_is_told");
    let mut bundle = Bundle::new("exec sleep 1000");
    bundle.write();
    let id = bundle.id();
    let state = bundle.state_root();
    let half = state.join(&id);
    let gone = "container does not exist\n";
    let make_half = || {
        fs::create_dir_all(&half).unwrap();
        fs::set_permissions(&half, fs::Permissions::from_mode(0o700)).unwrap();
    };
    for verb in ["state", "start", "kill", "ps", "pause", "resume", "delete"] {
        make_half();
        let said = bundle.oci(&[verb, &id]);
        assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (1, "", gone), "{verb}");
        assert_eq!(half.exists(), verb != "delete", "{verb}");
    }
    make_half();
    assert_eq!(bundle.oci(&["exec", &id, "true"]).err, gone);
    assert_eq!(bundle.oci(&["delete", "--force", &id]).code, 0);
    assert!(!half.exists());
    make_half();
    let said = bundle.oci(&["create", &id]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));

    fs::create_dir(state.join("junk")).unwrap();
    fs::write(state.join("junk/state.json"), "{bad\n").unwrap();
    fs::create_dir(state.join("no id")).unwrap();
    fs::write(state.join("file"), "").unwrap();
    let said = bundle.oci(&["list", "-q"]);
    assert_eq!((said.code, said.out), (0, format!("{id}\n")));
    assert!(said.err.starts_with("warning: load container junk: read record "), "{}", said.err);
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    for verb in ["state", "kill", "delete"] {
        let said = bundle.oci(&[verb, "junk"]);
        assert_eq!((said.code, said.err.starts_with("read record ")), (1, true), "{verb}: {}", said.err);
        assert!(bundle.oci(&[verb, "file"]).err.ends_with(": not a directory\n"), "{verb}");
    }
    assert_eq!(bundle.oci(&["create", "file"]).err, "container with given ID already exists\n");
    assert_eq!(bundle.oci(&["delete", "-f", &id]).code, 0);
    fs::remove_dir_all(state).unwrap();
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_kill_takes_any_number_and_the_kernel_says_which_it_has() {
    need_root!("root_kill_takes_any_number_and_the_kernel_says_which_it_has");
    let mut bundle = Bundle::new("trap 'exit 3' TERM; while true; do sleep 0.01; done");
    bundle.write();
    let id = bundle.id();
    assert_eq!(bundle.oci(&["run", "-d", &id]).code, 0);
    for (signal, code, text) in [
        ("-1", 1, "unable to signal init: invalid argument\n"),
        ("65", 1, "unable to signal init: invalid argument\n"),
        ("9999999999", 1, "unable to signal init: invalid argument\n"),
        ("NOPE", 1, "unknown signal \"NOPE\"\n"),
        ("0", 0, ""),
    ] {
        let said = bundle.oci(&["kill", &id, signal]);
        assert_eq!((said.code, said.err.as_str()), (code, text), "{signal}");
    }
    assert_eq!(bundle.oci(&["kill", "nobody", "NOPE"]).err, "container does not exist\n");
    assert_eq!(bundle.oci(&["kill", &id, ""]).code, 0);
    bundle.await_status(&id, "stopped");
    assert_eq!(bundle.oci(&["kill", &id, "0"]).err, "container not running\n");
    assert_eq!(bundle.oci(&["delete", &id]).code, 0);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_exec_runs_in_a_group_below_the_containers() {
    need_root!("root_exec_runs_in_a_group_below_the_containers");
    let mut bundle = Bundle::new("exec sleep 1000");
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "cgroup");
    bundle.write();
    let id = bundle.id();
    assert_eq!(bundle.oci(&["run", "-d", &id]).code, 0);
    let group = bundle.config["linux"]["cgroupsPath"].as_str().unwrap().to_owned();
    let own = |place: &str| bundle.oci(&["exec", "--cgroup", place, &id, "cat", "/proc/self/cgroup"]);
    let missing = own("sub");
    assert_eq!(missing.code, 255);
    assert!(missing.err.ends_with(&format!("{group}/sub does not exist\n")), "{}", missing.err);
    let made: Vec<_> = common::cgroup_mounts()
        .into_iter()
        .map(|mount| mount.join(group.trim_start_matches('/')))
        .filter(|own| own.exists())
        .map(|own| own.join("sub"))
        .collect();
    for sub in &made {
        fs::create_dir(sub).unwrap();
        // Until it has some, a group of version 1 takes no process.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let (false, Ok(value)) = (common::is_unified(), fs::read_to_string(sub.parent().unwrap().join(file))) {
                fs::write(sub.join(file), value.trim()).unwrap();
            }
        }
    }
    let counted = |place: &str, path: &str| own(place).out.lines().filter(|line| line.ends_with(path)).count();
    let all = made.len();
    assert_eq!(counted("/sub/../sub", &format!("{group}/sub")), all);
    assert_eq!(counted("/", &group), all);
    if !common::is_unified() {
        assert_eq!(own("pids,memory:sub").out.matches(&format!("{group}/sub\n")).count(), 2);
        assert_eq!(counted("pids:", &group), all);
    }
    if common::is_unified() {
        // As a manager inside does: its group hands a controller down, and takes no process any more.
        let own = made[0].parent().unwrap();
        fs::write(made[0].join("cgroup.procs"), bundle.state(&id)["pid"].to_string()).unwrap();
        fs::write(own.join("cgroup.subtree_control"), "+pids").unwrap();
        let said = bundle.oci(&["exec", &id, "cat", "/proc/self/cgroup"]);
        assert_eq!((said.err.as_str(), said.out), ("", format!("0::{group}/sub\n")));
    }
    for (place, text) in
        [("../x", "../x is not a sub cgroup path\n"), ("bogus:sub", "unknown controller bogus in SubCgroupPaths\n")]
    {
        let said = own(place);
        assert_eq!((said.code, said.err.as_str()), (255, text));
    }
    let said = bundle.oci(&["exec", "--cgroup", "sub", "--cgroup", "pids:sub", &id, "true"]);
    assert_eq!(said.err, "invalid --cgroup argument: sub (missing <controller>: prefix)\n");
    assert_eq!(bundle.oci(&["delete", "-f", &id]).code, 0);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_exec_into_a_paused_container_waits_for_it_and_a_process_file_needs_no_flags() {
    need_root!("root_exec_into_a_paused_container_waits_for_it_and_a_process_file_needs_no_flags");
    let mut bundle = Bundle::new("exec sleep 1000");
    bundle.write();
    let id = bundle.id();
    assert_eq!(bundle.oci(&["run", "-d", &id]).code, 0);
    let file = bundle.directory.join("process.json");
    fs::write(&file, json!({"user": {"uid": 3}, "cwd": "/", "args": ["/bin/id", "-u"]}).to_string()).unwrap();
    let file = file.to_str().unwrap().to_owned();
    // The file says everything: flags that say the same, and a command, count for nothing.
    let said = bundle.oci(&["exec", "--process", &file, "--user", "9", "-t", "--cwd", "/no", &id, "false"]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "3\n", ""));
    assert_eq!(bundle.oci(&["pause", &id]).code, 0);
    let mut waiting = bundle
        .command(&["exec", "--ignore-paused", "--process", &file, &id])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while serde_json::from_str::<Vec<i32>>(&bundle.oci(&["ps", "-f", "json", &id]).out).unwrap().len() < 2 {
        assert!(std::time::Instant::now() < deadline, "nobody enters the paused container");
        assert!(waiting.try_wait().unwrap().is_none(), "it did not wait");
    }
    assert!(waiting.try_wait().unwrap().is_none(), "it did not wait");
    assert_eq!(bundle.oci(&["resume", &id]).code, 0);
    assert!(waiting.wait().unwrap().success());
    let mut said = String::new();
    waiting.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "3\n");
    assert_eq!(bundle.oci(&["delete", "-f", &id]).code, 0);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_spec_writes_bundles_that_run_and_never_over_another() {
    need_root!("root_spec_writes_bundles_that_run_and_never_over_another");
    let mut bundle = Bundle::new("");
    let file = bundle.directory.join("config.json");
    let group = bundle.config["linux"]["cgroupsPath"].clone();
    for flags in [&["spec"][..], &["spec", "--rootless", "--bundle", "."]] {
        let said = bundle.oci(flags);
        assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "", ""));
        let said = bundle.oci(flags);
        assert_eq!((said.code, said.err.as_str()), (1, "File config.json exists. Remove it first\n"));
        let mut config: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["sh", "-c", "id -u; hostname; cat /proc/self/uid_map"]);
        config["process"]["env"] = json!(["PATH=/bin"]);
        config["linux"]["cgroupsPath"] = group.clone();
        fs::write(&file, config.to_string()).unwrap();
        let id = bundle.id();
        let said = bundle.oci(&["run", &id]);
        let map: Vec<_> = said.out.lines().last().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        assert_eq!(
            (said.code, said.err.as_str(), said.out.starts_with("0\ncontainer\n")),
            (0, "", true),
            "{}",
            said.out
        );
        assert_eq!(map == ["0", "0", "1"], flags.len() > 1);
        fs::remove_file(&file).unwrap();
    }
    let said = bundle.oci(&["spec", "-b", "missing"]);
    assert_eq!(said.err, "create config.json in missing: no such file or directory\n");
    assert_eq!(bundle.oci(&["spec", "x"]).err, "\"spec\" requires exactly 0 arguments\n");
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn features_are_told_whole_and_true() {
    let bundle = Bundle::new("");
    let said = bundle.oci(&["features"]);
    let features: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let linux = &features["linux"];
    let names: Vec<_> = linux.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "apparmor",
            "capabilities",
            "cgroup",
            "intelRdt",
            "memoryPolicy",
            "mountExtensions",
            "namespaces",
            "netDevices",
            "seccomp",
            "selinux"
        ]
    );
    assert_eq!((&features["ociVersionMin"], &features["ociVersionMax"]), (&json!("1.0.0"), &json!("1.3.0")));
    assert_eq!(linux["cgroup"], json!({"v1": true, "v2": true, "systemd": true, "systemdUser": false, "rdma": true}));
    let list = |value: &serde_json::Value| -> Vec<String> { serde_json::from_value(value.clone()).unwrap() };
    let options = list(&features["mountOptions"]);
    assert!(options.contains(&"rro".into()) && options.contains(&"tmpcopyup".into()), "{options:?}");
    assert!(options.contains(&"ridmap".into()) && linux["mountExtensions"]["idmap"]["enabled"] == json!(true));
    assert!(list(&linux["seccomp"]["actions"]).contains(&"SCMP_ACT_NOTIFY".into()));
    assert!(list(&linux["namespaces"]).contains(&"time".into()));
    assert_eq!(linux["selinux"]["enabled"], json!(true));
    assert_eq!(list(&linux["memoryPolicy"]["modes"]).len(), 7);
    assert!(list(&linux["memoryPolicy"]["flags"]).contains(&"MPOL_F_STATIC_NODES".into()));
    assert_eq!(linux["netDevices"]["enabled"], json!(true));
    assert_eq!(linux["intelRdt"], json!({"enabled": true, "schemata": true, "monitoring": true}));
    assert_eq!(features["annotations"]["org.opencontainers.runc.checkpoint.enabled"], "false");
}

#[test]
fn checkpoint_and_restore_name_what_is_missing() {
    let bundle = Bundle::new("");
    let said = bundle.oci(&["checkpoint", "--leave-running", "--image-path", "/x", "nobody"]);
    assert_eq!((said.code, said.err.as_str()), (1, "container does not exist\n"));
    let mut restore = bundle.command(&["restore", "--image-path", "/x", "-d", "nobody"]);
    let said = restore.env("PATH", "/no/such/directory").output().unwrap();
    let text = String::from_utf8(said.stderr).unwrap();
    assert_eq!(text, "CRIU version check failed: exec: \"criu\": executable file not found in $PATH\n");
    assert_eq!(bundle.oci(&["restore", "--nope", "x"]).err, "flag provided but not defined: -nope\n");
}

/// A bundle beside this one, with a group of its own.
fn second(bundle: &Bundle) -> String {
    let directory = bundle.directory.join("second");
    fs::create_dir_all(&directory).unwrap();
    let mut config = bundle.config.clone();
    config["root"]["path"] = json!(bundle.directory.join("rootfs"));
    let group = config["linux"]["cgroupsPath"].as_str().unwrap().to_owned();
    config["linux"]["cgroupsPath"] = json!(format!("{group}-second"));
    fs::write(directory.join("config.json"), config.to_string()).unwrap();
    directory.display().to_string()
}

#[test]
fn root_a_paused_container_is_listed_so_and_refuses_exec() {
    need_root!("root_a_paused_container_is_listed_so_and_refuses_exec");
    let mut bundle = Bundle::new("exec sleep 1000");
    bundle.write();
    let id = bundle.id();
    assert_eq!(bundle.oci(&["run", "-d", &id]).code, 0);
    assert_eq!(bundle.oci(&["resume", &id]).err, "container not paused\n");
    let created = bundle.id();
    assert_eq!(bundle.oci(&["create", "--bundle", &second(&bundle), &created]).code, 0);
    for id in [&id, &created] {
        let before = bundle.state(id)["status"].clone();
        assert_eq!(bundle.oci(&["pause", id]).code, 0);
        assert_eq!(bundle.state(id)["status"], "paused");
        assert_eq!(bundle.oci(&["pause", id]).err, "container not running\n");
        assert_eq!(bundle.oci(&["resume", id]).code, 0);
        assert_eq!(bundle.state(id)["status"], before);
    }
    assert_eq!(bundle.oci(&["kill", &created, "KILL"]).code, 0);
    bundle.await_status(&created, "stopped");
    for (verb, text) in [("pause", "container not running\n"), ("resume", "container not paused\n")] {
        let said = bundle.oci(&[verb, &created]);
        assert_eq!((said.code, said.err.as_str()), (1, text));
    }
    assert_eq!(bundle.oci(&["ps", "-f", "json", &created]).out, "null\n");
    assert_eq!(bundle.oci(&["delete", &created]).code, 0);
    assert_eq!(bundle.oci(&["pause", &id]).code, 0);
    assert_eq!(bundle.state(&id)["status"], "paused");
    let said = bundle.oci(&["exec", &id, "true"]);
    assert_eq!(
        (said.code, said.err.as_str()),
        (255, "cannot exec in a paused container (use --ignore-paused to override)\n")
    );
    assert_eq!(bundle.oci(&["resume", &id]).code, 0);
    let pids: Vec<i32> = serde_json::from_str(&bundle.oci(&["ps", "--format", "json", &id]).out).unwrap();
    assert_eq!(pids, [bundle.state(&id)["pid"].as_i64().unwrap() as i32]);
    assert_eq!(bundle.oci(&["pause", &id]).code, 0);
    assert_eq!(bundle.oci(&["kill", &id, "KILL"]).code, 0);
    bundle.await_status(&id, "stopped");
    assert_eq!(bundle.oci(&["delete", &id]).code, 0);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_an_exec_that_says_little_has_what_the_container_has() {
    need_root!("root_an_exec_that_says_little_has_what_the_container_has");
    let mut bundle = Bundle::new("exec sleep 1000");
    bundle.config["process"]["oomScoreAdj"] = json!(901);
    bundle.config["process"].as_object_mut().unwrap().remove("user");
    bundle.write();
    let id = bundle.id();
    assert_eq!(bundle.oci(&["run", "-d", &id]).code, 0);
    let process = bundle.directory.join("process.json");
    let script = "id -u; id -g; grep CapBnd /proc/self/status; cat /proc/self/oom_score_adj";
    fs::write(&process, json!({"cwd": "/", "args": ["/bin/sh", "-c", script], "env": ["PATH=/bin"]}).to_string())
        .unwrap();
    let said = bundle.oci(&["exec", "--process", process.to_str().unwrap(), &id]);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("0\n0\nCapBnd:\t0000000000000020\n901\n", ""));
    assert_eq!(bundle.oci(&["delete", "-f", &id]).code, 0);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_a_paused_container_is_deleted_by_force() {
    need_root!("root_a_paused_container_is_deleted_by_force");
    let mut bundle = Bundle::new("sleep 1000 & exec sleep 1000");
    bundle.write();
    let id = bundle.id();
    assert_eq!(bundle.oci(&["run", "-d", &id]).code, 0);
    assert_eq!(bundle.oci(&["pause", &id]).code, 0);
    let said = bundle.oci(&["delete", "--force", &id]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_of_two_variables_of_one_name_the_last_counts() {
    need_root!("root_of_two_variables_of_one_name_the_last_counts");
    let mut bundle = Bundle::new("exec sleep 1000");
    bundle.config["process"]["env"] = json!(["PATH=/bin", "A=1", "B=2", "A=3"]);
    bundle.write();
    let id = bundle.id();
    assert_eq!(bundle.oci(&["run", "-d", &id]).code, 0);
    let said = bundle.oci(&["exec", "-e", "B=4", &id, "env"]);
    let mut lines: Vec<_> = said.out.lines().filter(|line| line.starts_with(['A', 'B'])).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A=3", "B=4"]);
    assert_eq!(bundle.oci(&["delete", "-f", &id]).code, 0);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

/// Takes one handle from a console socket.
fn receive(listener: &UnixListener) -> (String, fs::File) {
    let (stream, _) = listener.accept().unwrap();
    let mut handles = Vec::new();
    let mut name = [0; 64];
    let flags = carrack_sys::rustix::net::RecvFlags::empty();
    let length = carrack_sys::fd_passing::receive(&stream, &mut name, &mut handles, flags).unwrap();
    (String::from_utf8_lossy(&name[..length]).into_owned(), handles.remove(0).into())
}

#[test]
fn root_a_terminal_goes_to_the_console_socket_and_is_the_containers_own() {
    need_root!("root_a_terminal_goes_to_the_console_socket_and_is_the_containers_own");
    let mut bundle = Bundle::new("tty; stty size; ls -l /dev/console; echo done; read line; echo got $line");
    bundle.config["process"]["terminal"] = json!(true);
    bundle.config["process"]["consoleSize"] = json!({"height": 33, "width": 77});
    bundle.write();
    let id = bundle.id();
    let socket = bundle.directory.join("console");
    let listener = UnixListener::bind(&socket).unwrap();
    let said = bundle.oci(&["create", "--console-socket", socket.to_str().unwrap(), &id]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let (_, mut console) = receive(&listener);
    assert_eq!(bundle.oci(&["start", &id]).code, 0);
    let mut text = String::new();
    let mut buffer = [0; 1024];
    while !text.contains("done") {
        let length = console.read(&mut buffer).unwrap();
        text += &String::from_utf8_lossy(&buffer[..length]);
    }
    assert!(text.starts_with("/dev/pts/0\r\n33 77\r\n"), "{text}");
    assert!(text.contains("crw--w----"), "{text}");
    use std::io::Write;
    console.write_all(b"hello\n").unwrap();
    while let Ok(length) = console.read(&mut buffer) {
        if length == 0 {
            break;
        }
        text += &String::from_utf8_lossy(&buffer[..length]);
    }
    assert!(text.contains("got hello"), "{text}");
    bundle.await_status(&id, "stopped");
    assert_eq!(bundle.oci(&["delete", &id]).code, 0);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_exec_with_a_terminal_gets_one_of_the_containers_devpts() {
    need_root!("root_exec_with_a_terminal_gets_one_of_the_containers_devpts");
    let mut bundle = Bundle::new("exec sleep 1000");
    bundle.write();
    let id = bundle.id();
    assert_eq!(bundle.oci(&["run", "-d", &id]).code, 0);
    // Our own input is no terminal: what the process writes to its terminal comes out all the same.
    let said = bundle.oci(&["exec", "-t", &id, "sh", "-c", "tty; ls /proc/self/fd | wc -l; exit 9"]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (9, "/dev/pts/0\r\n4\r\n", ""));
    assert_eq!(bundle.oci(&["delete", "-f", &id]).code, 0);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_run_forwards_signals() {
    need_root!("root_run_forwards_signals");
    let mut bundle = Bundle::new("trap 'exit 42' TERM; touch /ready; while true; do sleep 0.01; done");
    bundle.write();
    let id = bundle.id();
    let mut child = bundle.command(&["run", &id]).spawn().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !bundle.inside("ready").exists() {
        assert!(std::time::Instant::now() < deadline, "the container does not get ready");
        std::thread::yield_now();
    }
    let pid = carrack_sys::rustix::process::Pid::from_child(&child);
    carrack_sys::rustix::process::kill_process(pid, carrack_sys::rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(42));
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_two_creates_of_one_id_exclude_each_other() {
    need_root!("root_two_creates_of_one_id_exclude_each_other");
    let mut bundle = Bundle::new("exec sleep 1000");
    bundle.write();
    let id = bundle.id();
    let children: Vec<_> = (0..4)
        .map(|_| bundle.command(&["create", &id]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
        .collect();
    let codes: Vec<_> = children.into_iter().map(|mut child| child.wait().unwrap().code()).collect();
    assert_eq!(codes.iter().filter(|code| **code == Some(0)).count(), 1, "{codes:?}");
    assert_eq!(bundle.oci(&["delete", "-f", &id]).code, 0);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_hooks_run_in_order_with_the_state_on_standard_input() {
    need_root!("root_hooks_run_in_order_with_the_state_on_standard_input");
    let mut bundle = Bundle::new("true");
    let log = bundle.directory.join("hooks.log");
    let host = |name: &str| json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("read s; echo {name} $s >> {}", log.display())]}]);
    bundle.config["hooks"] = json!({
        "prestart": host("prestart"), "createRuntime": host("createRuntime"), "createContainer": host("createContainer"),
        "startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "read s; echo $s > /start-hook"]}],
        "poststart": host("poststart"), "poststop": host("poststop"),
    });
    let said = bundle.run();
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let text = fs::read_to_string(&log).unwrap();
    let names: Vec<_> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]);
    for line in text.lines() {
        let state: serde_json::Value = serde_json::from_str(line.split_once(' ').unwrap().1).unwrap();
        assert_eq!(state["bundle"], bundle.directory.to_str().unwrap());
    }
    let state: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(bundle.inside("start-hook")).unwrap()).unwrap();
    assert_eq!((&state["status"], &state["pid"]), (&json!("created"), &json!(1)));
    bundle.config["hooks"]["createRuntime"] =
        json!([{"path": "/bin/sh", "args": ["sh", "-c", "echo bad >&2; exit 3"]}]);
    let said = bundle.run();
    assert_eq!(said.code, 1);
    assert!(
        said.err.contains("error running createRuntime hook #0: /bin/sh: exit status: 3, output: bad"),
        "{}",
        said.err
    );
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_an_orphan_of_the_container_does_not_outlive_it() {
    need_root!("root_an_orphan_of_the_container_does_not_outlive_it");
    let mut bundle = Bundle::new("setsid sleep 1000 & sleep 0.1; exit 3");
    assert_eq!(bundle.run().code, 3);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_nobody_joins_a_container_that_is_still_being_created() {
    need_root!("root_nobody_joins_a_container_that_is_still_being_created");
    let mut bundle = Bundle::new("sleep 1000");
    let (reached, gate) = (bundle.directory.join("reached"), bundle.directory.join("gate"));
    // The hook runs when the first process has its namespaces, and the host's file tree still.
    let script = format!("touch {}; while ! test -e {}; do sleep 0.01; done", reached.display(), gate.display());
    bundle.config["hooks"] = json!({ "createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", script]}] });
    bundle.write();
    for verb in ["create", "run"] {
        let id = bundle.id();
        let mut arguments = vec![verb, &id];
        if verb == "run" {
            arguments.insert(1, "--detach");
        }
        let mut creating = bundle.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while !reached.exists() {
            assert!(creating.try_wait().unwrap().is_none(), "{verb} ended before its hook");
            std::thread::yield_now();
        }
        assert_eq!(bundle.state(&id)["status"], "creating", "{verb}");
        let said = bundle.oci(&["exec", &id, "/bin/sh", "-c", "echo entered"]);
        let told = (said.code, said.out.as_str(), said.err.as_str());
        assert_eq!(told, (255, "", "cannot exec in a container that is being created\n"), "{verb}");
        fs::write(&gate, "").unwrap();
        assert!(creating.wait().unwrap().success(), "{verb}");
        bundle.await_status(&id, if verb == "run" { "running" } else { "created" });
        assert_eq!(bundle.oci(&["exec", &id, "echo", "entered"]).out, "entered\n");
        assert_eq!(bundle.oci(&["delete", "--force", &id]).code, 0);
        fs::remove_file(&gate).unwrap();
        fs::remove_file(&reached).unwrap();
    }
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_delete_by_force_does_not_wait_for_a_hook_that_never_ends() {
    need_root!("root_delete_by_force_does_not_wait_for_a_hook_that_never_ends");
    let mut bundle = Bundle::new("sleep 1000");
    let reached = bundle.directory.join("reached");
    let script = format!("touch {}; sleep 1000", reached.display());
    bundle.config["hooks"] = json!({ "createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", script]}] });
    bundle.write();
    let id = bundle.id();
    let mut creating = bundle.command(&["create", &id]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !reached.exists() {
        assert!(creating.try_wait().unwrap().is_none(), "create ended before its hook");
        std::thread::yield_now();
    }
    let said = bundle.oci(&["delete", "--force", &id]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(!creating.wait().unwrap().success());
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_a_joined_pid_namespace_does_not_end_with_the_container_and_its_processes_do() {
    need_root!("root_a_joined_pid_namespace_does_not_end_with_the_container_and_its_processes_do");
    let mut first = Bundle::new("sleep 1000");
    first.write();
    let id = first.id();
    assert_eq!(first.oci(&["run", "--detach", &id]).code, 0);
    let mut second = Bundle::new("sleep 1000 & exit 4");
    second.config["linux"]["namespaces"][0]["path"] = json!(format!("/proc/{}/ns/pid", first.state(&id)["pid"]));
    let said = second.run();
    assert_eq!((said.code, said.err.as_str()), (4, ""));
    assert_eq!(second.leftovers(), Vec::<String>::new());
    assert_eq!(first.state(&id)["status"], "running");
    assert_eq!(first.oci(&["delete", "--force", &id]).code, 0);
    assert_eq!(first.leftovers(), Vec::<String>::new());
}

#[test]
fn root_the_callers_files_are_not_the_containers() {
    need_root!("root_the_callers_files_are_not_the_containers");
    let mut bundle =
        Bundle::new("readlink /proc/self/fd/1 >&2; cat; echo out; head -c 300000 /dev/zero | tr '\\0' x; echo; exit 3");
    std::os::unix::fs::symlink("busybox", bundle.inside("bin/tr")).unwrap();
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    bundle.write();
    let input = bundle.directory.join("in");
    fs::write(&input, "words\n".repeat(20_000)).unwrap();
    let check = |verb: &[&str]| {
        let (out, err) = (bundle.directory.join("out"), bundle.directory.join("err"));
        let file = |path: &std::path::Path| fs::File::create(path).unwrap();
        let mut command = bundle.command(verb);
        let status =
            command.stdin(fs::File::open(&input).unwrap()).stdout(file(&out)).stderr(file(&err)).status().unwrap();
        assert_eq!(status.code(), Some(3), "{}", fs::read_to_string(&err).unwrap());
        let expected = "words\n".repeat(20_000) + "out\n" + &"x".repeat(300_000) + "\n";
        assert!(fs::read_to_string(&out).unwrap() == expected, "{verb:?}");
        assert!(fs::read_to_string(&err).unwrap().starts_with("pipe:["), "{verb:?}");
        use std::os::unix::fs::MetadataExt;
        assert_eq!(fs::metadata(&out).unwrap().uid(), 0);
        // A reader that leaves early ends the process by SIGPIPE, not us.
        let mut command = bundle.command(verb);
        command.stdin(fs::File::open(&input).unwrap()).stdout(std::process::Stdio::piped()).stderr(file(&err));
        let mut running = command.spawn().unwrap();
        drop(running.stdout.take());
        assert!(running.wait().unwrap().code().is_some());
    };
    check(&["run", "files"]);
    let script = bundle.config["process"]["args"][2].as_str().unwrap().to_owned();
    let mut sleeper = Bundle::new("sleep 1000");
    std::os::unix::fs::symlink("busybox", sleeper.inside("bin/tr")).unwrap();
    sleeper.write();
    let id = sleeper.id();
    let root = sleeper.state_root();
    assert_eq!(sleeper.oci(&["run", "--detach", &id]).code, 0);
    check(&["--root", root.to_str().unwrap(), "exec", "--user", "1000:1000", &id, "sh", "-c", &script]);
    assert_eq!(sleeper.oci(&["delete", "--force", &id]).code, 0);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}
