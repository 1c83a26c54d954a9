//! `carrack run` and the commands around it, as a person uses them.

#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use carrack_cri_proto::v1 as proto;
use carrack_sys::rustix::process::Signal;
use carrack_tests::command::{DEADLINE, run, run_with_input, start};
use carrack_tests::cri::{container_config, pod_config};
use carrack_tests::node::{Node, with_busybox};
use carrack_tests::pty::Terminal;
use carrack_tests::wait::wait_until;
use carrack_tests::{programs, skip};

#[test]
fn root_run_pulls_prints_and_passes_the_exit_code() {
    let (node, _registry, image) = with_busybox("run");
    let ran = node.run(&["run", "--rm", &image, "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (7, "out\n"), "{ran}");
    assert!(ran.stderr.contains("err\n") && ran.stderr.contains("\n1 layer, "), "{ran}");
    // Output that is no terminal gets plain lines of progress, on standard error.
    assert!(!ran.stderr.contains('\u{1b}'), "{ran}");
    // A program that a signal ends has 128 and the signal's number; the container's first process ignores what it does not handle.
    assert_eq!(node.run(&["run", "--rm", &image, "sh", "-c", "sh -c 'kill -TERM $$'; exit $?"]).code, 143);
    node.finish();
}

#[test]
fn root_exit_codes_tell_what_could_not_be_run() {
    let (node, _registry, image) = with_busybox("exit-codes");
    node.run(&["run", "--rm", &image, "no-such-program"]).fails(127, "no-such-program");
    node.run(&["run", "--rm", &image, "/etc/not-a-program"]).fails(126, "/etc/not-a-program");
    node.run(&["run", "--rm", &image, "/etc"]).fails(126, "/etc");
    // What is recorded agrees with what `run` ended with.
    for (command, code) in [(&["no-such-program"][..], 127), (&["/etc/not-a-program"], 126), (&["true"], 125)] {
        let mut arguments =
            vec!["run", "--name", "ship", "-w", if code == 125 { "/etc/not-a-program" } else { "/" }, &image];
        arguments.extend(command);
        assert_eq!(node.run(&arguments).code, code);
        assert_eq!(node.ok(&["wait", "ship"]), code.to_string());
        assert_eq!(node.inspect("ship")["State"]["ExitCode"], code);
        assert!(node.ok(&["ps", "-a"]).contains(&format!("Exited ({code})")));
        node.run(&["start", "ship"]).fails(1, "");
        node.run(&["start", "-a", "ship"]).fails(code, "");
        node.ok(&["rm", "ship"]);
    }
    node.run(&["run", "--rm", "--no-such-flag", &image]).fails(125, "--no-such-flag");
    node.run(&["run", "--rm", "--memory", "lots", &image]).fails(125, "lots");
    node.run(&["run", "--rm", "--cpus", "-1", &image]).fails(125, "-1");
    node.run(&["run", "--rm", "--cap-add", "CAP_OF_ADMIRAL", &image]).fails(125, "CAP_OF_ADMIRAL");
    node.run(&["run", "--rm", "--network", "subspace", &image]).fails(125, "subspace");
    // A path that is not there is made, as docker does.
    let made = format!("{}/made/for/me:/mnt", node.place().join("source").display());
    node.ok(&["run", "--rm", "-v", &made, &image, "true"]);
    node.run(&["run", "--rm", "-p", "70000:80", &image]).fails(125, "70000");
    node.run(&["run", "--rm", "--user", "nobody-here", &image]).fails(125, "nobody-here");
    node.finish();
}

#[test]
fn root_a_flag_that_docker_users_know_is_refused_by_name() {
    let (node, _registry, image) = with_busybox("unknown-flags");
    for flag in [
        "--gpus=all",
        "--mount=type=bind,src=/,dst=/mnt",
        "--link=db",
        "--health-cmd=true",
        "--security-opt=seccomp=unconfined",
    ] {
        let name = flag.split('=').next().unwrap();
        node.run(&["run", "--rm", flag, &image, "true"]).fails(125, name);
    }
    node.finish();
}

#[test]
fn root_flags_of_run_reach_the_container() {
    let (node, _registry, image) = with_busybox("flags");
    let file = node.place().file("variables", "# comment\nFROM_FILE=1\n\nQUOTED=\"as it is\"\n");
    let file = file.to_string_lossy();
    let sh = |flags: &[&str], script: &str| {
        let mut arguments = vec!["run", "--rm"];
        arguments.extend(flags);
        arguments.extend([image.as_str(), "sh", "-c", script]);
        node.ok(&arguments)
    };
    assert_eq!(sh(&["-e", "A=1 2", "-e", "B="], "echo \"[$A][$B]\""), "[1 2][]");
    assert_eq!(sh(&["--env-file", &file], "echo \"$FROM_FILE $QUOTED\""), "1 \"as it is\"");
    assert_eq!(sh(&["-w", "/tmp"], "pwd"), "/tmp");
    assert_eq!(sh(&["-w", "/made/for/me"], "pwd"), "/made/for/me");
    assert_eq!(sh(&["-u", "web"], "id -u; id -g; id -G"), "1000\n1001\n1001 44");
    assert_eq!(sh(&["-u", "12:34"], "id -u; id -g"), "12\n34");
    assert_eq!(sh(&["--hostname", "flagship"], "hostname; cat /etc/hostname"), "flagship\nflagship");
    assert_eq!(sh(&["--read-only"], "touch /x 2>/dev/null || echo refused"), "refused");
    assert_eq!(node.ok(&["run", "--rm", "--entrypoint", "echo", &image, "instead"]), "instead");
    assert_eq!(sh(&[], "cat /proc/1/comm; true"), "sh");
    node.finish();
}

#[test]
fn root_rights_are_few_unless_more_are_given() {
    let (node, _registry, image) = with_busybox("rights");
    let bounding = |flags: &[&str]| {
        let mut arguments = vec!["run", "--rm"];
        arguments.extend(flags);
        arguments.extend([image.as_str(), "grep", "CapBnd", "/proc/self/status"]);
        let line = node.ok(&arguments);
        u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap()
    };
    let (net_admin, chown) = (1 << 12, 1 << 0);
    let usual = bounding(&[]);
    assert_eq!(usual & net_admin, 0);
    assert_eq!(usual & chown, chown);
    assert_eq!(bounding(&["--cap-add", "NET_ADMIN"]), usual | net_admin);
    assert_eq!(bounding(&["--cap-drop", "CAP_CHOWN"]), usual & !chown);
    assert_eq!(bounding(&["--cap-drop", "all"]), 0);
    assert!(bounding(&["--privileged"]) > usual);
    // A filter is on, but not for the privileged.
    let seccomp = |flags: &[&str]| {
        let mut arguments = vec!["run", "--rm"];
        arguments.extend(flags);
        arguments.extend([image.as_str(), "grep", "Seccomp:", "/proc/self/status"]);
        node.ok(&arguments)
    };
    assert!(seccomp(&[]).ends_with('2'));
    assert!(seccomp(&["--privileged"]).ends_with('0'));
    assert_eq!(
        node.ok(&["run", "--rm", &image, "sh", "-c", "mount -t tmpfs t /tmp 2>/dev/null || echo refused"]),
        "refused"
    );
    node.finish();
}

#[test]
fn root_volumes_keep_what_is_written() {
    let (node, _registry, image) = with_busybox("volumes");
    let directory = node.place().directory("shared");
    fs::write(directory.join("from-host"), "host").unwrap();
    let bind = format!("{}:/mnt", directory.display());
    assert_eq!(
        node.ok(&[
            "run",
            "--rm",
            "-v",
            &bind,
            &image,
            "sh",
            "-c",
            "cat /mnt/from-host; echo back > /mnt/from-container"
        ]),
        "host"
    );
    assert_eq!(fs::read_to_string(directory.join("from-container")).unwrap(), "back\n");
    let read_only = format!("{bind}:ro");
    assert_eq!(
        node.ok(&["run", "--rm", "-v", &read_only, &image, "sh", "-c", "touch /mnt/x 2>/dev/null || echo refused"]),
        "refused"
    );
    node.ok(&["run", "--rm", "-v", "hold:/cargo", &image, "sh", "-c", "echo kept > /cargo/file"]);
    assert_eq!(node.ok(&["run", "--rm", "-v", "hold:/cargo", &image, "cat", "/cargo/file"]), "kept");
    // A new named volume starts with what the image has at that place.
    assert_eq!(node.ok(&["run", "--rm", "-v", "fresh:/etc", &image, "cat", "/etc/not-a-program"]), "text");
    node.finish();
}

#[test]
fn root_the_callers_umask_is_not_the_containers() {
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for umask in ["077", "027", "000"] {
        let (node, _registry, image) = with_busybox("umask");
        let command = ["cat", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];
        let mut arguments = vec!["run", "--rm", "-u", "web", "-v", "hold:/cargo", &image];
        arguments.extend(command);
        run(&mut node.carrack_with_umask(umask, &arguments)).ok();
        assert_eq!(mode(&node.root().join("volumes/hold/_data")), 0o755, "{umask}");
        // What containers are given as their environment is in the database.
        assert_eq!(mode(&node.root().join("carrack.db")), 0o600, "{umask}");

        let daemon = node.serve_with_umask(umask);
        let pod_config = pod_config("fleet", &node.place().directory("logs"));
        let pod = daemon.cri.run_pod(&pod_config).unwrap();
        let mut config = container_config("ship", &image, &["sleep", "1000"]);
        config.linux.as_mut().unwrap().security_context.as_mut().unwrap().run_as_user =
            Some(proto::Int64Value { value: 1000 });
        let container = daemon.cri.create(&pod, config, &pod_config).unwrap();
        daemon.cri.start(&container).unwrap();
        let read = daemon.cri.exec(&container, &command, 10).unwrap();
        assert_eq!(read.exit_code, 0, "{umask}: {}", String::from_utf8_lossy(&read.stderr));
        assert_eq!(mode(&daemon.socket), 0o600, "{umask}");
        daemon.cri.remove_pod(&pod).unwrap();
        daemon.stop();
        node.finish();
    }
}

#[test]
fn root_standard_input_is_passed_with_i_and_is_empty_without() {
    let (node, _registry, image) = with_busybox("stdin");
    let ran = run_with_input(&mut node.carrack(&["run", "-i", "--rm", &image, "cat"]), b"through and through");
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "through and through"), "{ran}");
    let ran = run_with_input(&mut node.carrack(&["run", "--rm", &image, "cat"]), b"not passed");
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{ran}");
    // A megabyte each way arrives whole.
    let much = vec![b'x'; 1 << 20];
    let ran = run_with_input(&mut node.carrack(&["run", "-i", "--rm", &image, "cat"]), &much);
    assert_eq!(ran.stdout.len(), much.len(), "{}", ran.stderr);
    node.finish();
}

#[test]
fn root_a_terminal_is_real() {
    let (node, _registry, image) = with_busybox("terminal");
    let mut terminal = Terminal::start(&mut node.carrack_with_terminal(&["run", "-it", "--rm", &image, "sh"]));
    terminal.wait_for("# ");
    terminal.send("tty; stty size\n");
    terminal.wait_for("/dev/pts/0");
    terminal.wait_for("24 80");
    terminal.resize(50, 132);
    terminal.send("while ! stty size | grep 132; do sleep 0.1; done; echo resiz''ed\n");
    terminal.wait_for("50 132");
    terminal.wait_for("resized");
    terminal.send("sleep 1000\n");
    wait_until("sleep runs", DEADLINE, || {
        !run(node.fixture("ps").arg("-eo").arg("args")).stdout.lines().all(|line| line.trim() != "sleep 1000")
    });
    terminal.send("\u{3}");
    terminal.send("echo interrupted=$?\n");
    terminal.wait_for("interrupted=130");
    terminal.send("exit 5\n");
    assert_eq!(terminal.finish(), 5);
    node.finish();
}

#[test]
fn root_detach_keys_leave_the_container_running() {
    let (node, _registry, image) = with_busybox("detach");
    let mut terminal =
        Terminal::start(&mut node.carrack_with_terminal(&["run", "-it", "--name", "ship", &image, "sh"]));
    terminal.wait_for("# ");
    // Ctrl-P Ctrl-Q, as the field has it.
    terminal.send("\u{10}\u{11}");
    assert_eq!(terminal.finish(), 0);
    assert_eq!(node.state("ship"), "running");
    node.ok(&["rm", "-f", "ship"]);
    node.finish();
}

#[test]
fn root_signals_are_forwarded() {
    let (node, _registry, image) = with_busybox("signals");
    let script = "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    let running = node.start(&["run", "--rm", &image, "sh", "-c", script]);
    running.wait_for_output("ready");
    node.signal_inside(&running, Signal::TERM);
    let ran = running.finish(DEADLINE);
    assert_eq!((ran.code, ran.stdout.as_str()), (3, "ready\ncaught\n"), "{ran}");
    node.finish();
}

#[test]
fn root_a_detached_container_lives_on_and_is_logged() {
    let (node, _registry, image) = with_busybox("detached");
    let id = node.ok(&[
        "run",
        "-d",
        "--name",
        "ship",
        &image,
        "sh",
        "-c",
        "for i in 1 2 3; do echo line $i; done; sleep 1000",
    ]);
    assert_eq!(id.len(), 64, "{id}");
    wait_until("the output is logged", DEADLINE, || node.ok(&["logs", "ship"]) == "line 1\nline 2\nline 3");
    assert_eq!(node.ok(&["logs", "--tail", "1", "ship"]), "line 3");
    assert!(node.ok(&["ps"]).contains("ship"));
    node.run(&["run", "-d", "--name", "ship", &image, "true"]).fails(125, "ship");
    node.run(&["rm", "ship"]).fails(1, "running");
    assert_eq!(node.ok(&["exec", "ship", "sh", "-c", "echo in $0"]), "in sh");
    assert_eq!(node.run(&["exec", "ship", "sh", "-c", "exit 9"]).code, 9);
    node.run(&["exec", "ship", "no-such-program"]).fails(127, "no-such-program");
    node.run(&["exec", "ship", "/etc/not-a-program"]).fails(126, "/etc/not-a-program");
    let ran = run_with_input(&mut node.carrack(&["exec", "-i", "ship", "cat"]), b"typed");
    assert_eq!(ran.stdout, "typed");
    node.ok(&["stop", "-t", "1", "ship"]);
    assert_eq!(node.state("ship"), "exited");
    assert!(!node.ok(&["ps"]).contains("ship"));
    assert!(node.ok(&["ps", "-a"]).contains("ship"));
    assert_eq!(node.ok(&["wait", "ship"]), "137");
    node.ok(&["start", "ship"]);
    assert_eq!(node.state("ship"), "running");
    node.ok(&["kill", "-s", "KILL", "ship"]);
    node.wait_for_state("ship", "exited");
    node.ok(&["rm", "ship"]);
    node.run(&["inspect", "ship"]).fails(1, "ship");
    node.finish();
}

#[test]
fn root_logs_follow_until_the_end() {
    let (node, _registry, image) = with_busybox("follow");
    node.ok(&[
        "run",
        "-d",
        "--name",
        "ship",
        &image,
        "sh",
        "-c",
        "i=0; while [ $i -lt 50 ]; do echo line $i; i=$((i+1)); sleep 0.02; done",
    ]);
    let followed = node.start(&["logs", "-f", "ship"]).finish(DEADLINE);
    let want: String = (0..50).map(|number| format!("line {number}\n")).collect();
    assert_eq!(followed.stdout, want, "{followed}");
    node.ok(&["rm", "ship"]);
    node.finish();
}

#[test]
fn root_exec_with_a_terminal_is_real() {
    let (node, _registry, image) = with_busybox("exec-terminal");
    node.ok(&["run", "-d", "--name", "ship", &image, "sleep", "1000"]);
    let mut terminal = Terminal::start(&mut node.carrack_with_terminal(&["exec", "-it", "ship", "sh"]));
    terminal.wait_for("# ");
    terminal.send("stty size; exit 4\n");
    terminal.wait_for("24 80");
    assert_eq!(terminal.finish(), 4);
    node.ok(&["rm", "-f", "ship"]);
    node.finish();
}

#[test]
fn root_rm_happens_though_nobody_watches() {
    let (node, _registry, image) = with_busybox("auto-remove");
    node.ok(&["run", "-d", "--rm", "--name", "ship", &image, "sleep", "0.2"]);
    wait_until("the container is gone", DEADLINE, || !node.ok(&["ps", "-a"]).contains("ship"));
    node.finish();
}

/// Its monitor has it removed at the same time: whoever was slower said that there is no such container, or found its name in use.
#[test]
fn root_a_stop_of_a_container_that_removes_itself_returns_when_it_is_gone() {
    let (node, _registry, image) = with_busybox("stop-rm");
    for attempt in 0..8 {
        node.ok(&["run", "-d", "--rm", "--name", "ship", &image, "sleep", "1000"]);
        assert_eq!(node.ok(&["stop", "-t", "0", "ship"]), "ship", "attempt {attempt}");
        assert_eq!(node.ok(&["ps", "-aq"]), "", "attempt {attempt}");
    }
    // It may end by itself at any moment of the stop.
    for attempt in 0..8 {
        node.ok(&["run", "-d", "--rm", "--name", "ship", &image, "sleep", "0.1"]);
        let stopped = node.run(&["stop", "ship"]);
        assert!(stopped.code == 0 || stopped.stderr.contains("no such container: ship"), "{attempt}: {stopped:?}");
    }
    node.run(&["rm", "-f", "ship"]);
    node.finish();
}

/// It returned as soon as the signal was sent, when the container often was still there.
#[test]
fn root_a_container_that_was_killed_has_ended_when_kill_returns() {
    let (node, _registry, image) = with_busybox("kill-waits");
    for attempt in 0..6 {
        node.ok(&["run", "-d", "--name", "ship", &image, "sleep", "1000"]);
        assert_eq!(node.ok(&["kill", "ship"]), "ship");
        assert_eq!(node.run(&["rm", "ship"]).ok(), "ship\n", "attempt {attempt}");
    }
    for attempt in 0..6 {
        node.ok(&["run", "-d", "--rm", "--name", "ship", &image, "sleep", "1000"]);
        node.ok(&["kill", "ship"]);
        assert_eq!(node.ok(&["ps", "-aq"]), "", "attempt {attempt}");
    }
    // Other signals are only sent, and a policy of restarts does not bring back what was killed.
    node.ok(&["run", "-d", "--name", "ship", "--restart", "always", &image, "sleep", "1000"]);
    node.ok(&["kill", "-s", "USR1", "ship"]);
    assert_eq!(node.state("ship"), "running");
    node.ok(&["kill", "ship"]);
    assert_eq!(node.state("ship"), "exited");
    node.ok(&["rm", "ship"]);
    node.finish();
}

/// Whether the engine's bridge is there.
fn has_bridge(node: &Node) -> bool {
    let links = fs::read_to_string(format!("/proc/{}/net/dev", node.pid())).unwrap();
    links.contains(&node.cgroup().replace("carrack-", "ck"))
}

/// It stopped at the first container that was removed meanwhile, and left the bridge, the rules and the groups.
#[test]
fn root_teardown_goes_on_where_containers_remove_themselves() {
    let (node, _registry, image) = with_busybox("teardown-rm");
    for attempt in 0..4 {
        for _ in 0..4 {
            node.ok(&["run", "-d", "--rm", &image, "sleep", "0.1"]);
        }
        assert!(has_bridge(&node));
        node.ok(&["teardown"]);
        assert!(!has_bridge(&node), "attempt {attempt}");
        assert!(node.engine_groups().is_empty(), "attempt {attempt}: {:?}", node.engine_groups());
    }
    node.finish();
}

/// What cannot be removed is told in the end, and does not keep the rest.
#[test]
fn root_teardown_goes_on_after_a_failure() {
    let (node, _registry, image) = with_busybox("teardown-fails");
    let names = ["one", "two"];
    let ids = names.map(|name| node.ok(&["run", "-d", "--name", name, &image, "sleep", "1000"]));
    let stuck = ids.each_ref().map(|id| node.root().join("pods").join(id).join("stuck"));
    for path in &stuck {
        fs::create_dir(path).unwrap();
        run(node.fixture("mount").args(["-t", "tmpfs", "tmpfs"]).arg(path)).ok();
    }
    let failed = node.run(&["teardown"]).fails(1, &ids[0]).fails(1, &ids[1]);
    assert_eq!(failed.stderr.lines().count(), 1, "{failed:?}");
    assert!(!has_bridge(&node));
    assert!(node.engine_groups().is_empty(), "{:?}", node.engine_groups());
    assert_eq!(names.map(|name| node.state(name)), ["exited", "exited"]);
    for path in &stuck {
        run(node.fixture("umount").arg(path)).ok();
    }
    node.ok(&["teardown"]);
    node.ok(&["rm", "one", "two"]);
    node.finish();
}

#[test]
fn root_restarts_happen_though_nobody_watches() {
    let (node, _registry, image) = with_busybox("restart");
    node.ok(&["run", "-d", "--restart", "on-failure:2", "--name", "ship", &image, "sh", "-c", "echo start; exit 1"]);
    wait_until("all three starts happen", Duration::from_secs(60), || {
        node.ok(&["logs", "ship"]) == "start\nstart\nstart"
    });
    node.wait_for_state("ship", "exited");
    assert_eq!(node.inspect("ship")["RestartCount"], 2);
    node.ok(&["rm", "ship"]);
    node.ok(&["run", "-d", "--restart", "always", "--name", "ship", &image, "sh", "-c", "echo start; sleep 0.1"]);
    wait_until("it starts again", Duration::from_secs(60), || node.ok(&["logs", "ship"]).lines().count() >= 2);
    node.ok(&["stop", "-t", "1", "ship"]);
    assert_eq!(node.state("ship"), "exited");
    node.ok(&["rm", "ship"]);
    node.finish();
}

#[test]
fn root_a_user_who_is_not_root_is_told_why_not() {
    let (node, _registry, image) = with_busybox("not-root");
    if !programs::is_installed("setpriv") {
        return skip("root_a_user_who_is_not_root_is_told_why_not", "setpriv is not installed");
    }
    // Where the program was built may be out of this user's reach.
    let copy = node.place().join("carrack");
    fs::copy(programs::carrack(), &copy).unwrap();
    let mut command = node.inside("setpriv");
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&copy)
        .args(["run", "--rm", &image, "true"]);
    let ran = start(command.stdin(Stdio::null())).finish(DEADLINE);
    assert_ne!(ran.code, 0);
    assert!(ran.stderr.contains("root"), "{ran}");
    node.finish();
}

#[test]
fn root_lists_are_for_people_and_for_programs() {
    let (node, _registry, image) = with_busybox("lists");
    node.ok(&["run", "-d", "--name", "ship", &image, "sleep", "1000"]);
    for verb in [&["ps"][..], &["images"], &["info"], &["version"]] {
        let mut arguments = verb.to_vec();
        assert!(!node.ok(&arguments).is_empty());
        arguments.extend(["--format", "json"]);
        let text = node.ok(&arguments);
        // A list has an object on each line.
        let is_json = |line: &str| serde_json::from_str::<serde_json::Value>(line).is_ok();
        assert!(is_json(&text) || text.lines().all(is_json), "{verb:?}: {text}");
    }
    for verb in [
        "run", "ps", "logs", "exec", "stop", "kill", "start", "rm", "wait", "inspect", "pull", "images", "tag", "rmi",
        "info", "version", "serve",
    ] {
        let help = node.ok(&[verb, "--help"]);
        assert!(help.contains("Usage:"), "{help}");
    }
    node.ok(&["rm", "-f", "ship"]);
    node.finish();
}

#[test]
fn root_output_that_cannot_be_written_is_told_and_never_a_panic() {
    let (node, _registry, image) = with_busybox("output");
    node.ok(&["run", "-d", "--name", "ship", &image, "sh", "-c", "seq 1 100000; sleep 1000"]);
    let full = "carrack: write standard output: No space left on device";
    let to = |redirection: &str, arguments: &[&str]| {
        let mut words = vec!["--root".to_owned(), node.root().display().to_string()];
        words.extend(["--run".to_owned(), node.run_directory().display().to_string()]);
        words.extend(arguments.iter().map(|word| (*word).to_owned()));
        let script = format!("exec \"$0\" \"$@\" {redirection}");
        run(node.inside("sh").args(["-c", &script]).arg(programs::carrack()).args(words))
    };
    for verb in
        [&["ps"][..], &["version"], &["images"], &["info"], &["inspect", "ship"], &["logs", "ship"], &["--help"]]
    {
        to(">/dev/full", verb).fails(1, full);
    }
    to(">/dev/full", &["run", "--rm", &image, "echo", "hello"]).fails(125, full);
    to(">/dev/full", &["exec", "ship", "echo", "hello"]).fails(125, full);
    // The reader of this pipe is gone before a word is written.
    for verb in [&["ps"][..], &["version"], &["logs", "ship"]] {
        let script = "mkfifo \"$FIFO\"; exec 3<>\"$FIFO\"; exec 4>\"$FIFO\"; exec 3<&-; exec \"$0\" \"$@\" >&4";
        let fifo = node.place().join(format!("fifo-{}", verb[0]));
        let mut command = node.inside("sh");
        command.env("FIFO", fifo).args(["-c", script]).arg(programs::carrack());
        command.arg("--root").arg(node.root()).arg("--run").arg(node.run_directory()).args(verb);
        let ran = run(&mut command);
        assert_eq!((ran.code, ran.stderr.as_str()), (141, ""), "{ran}");
    }
    node.ok(&["rm", "-f", "ship"]);
    node.finish();
}

#[test]
fn root_a_root_is_refused_with_another_run_directory_while_the_first_is_there() {
    let (node, _registry, image) = with_busybox("other-run");
    let id = node.ok(&["run", "-d", "--name", "ship", &image, "sleep", "1000"]);
    let (first, other) = (node.run_directory().display().to_string(), node.place().join("other-run"));
    let with_other = |arguments: &[&str]| {
        let mut command = node.inside(programs::carrack());
        run(command.arg("--root").arg(node.root()).arg("--run").arg(&other).args(arguments))
    };
    with_other(&["ps", "-a"]).fails(1, &first).fails(1, "--run");
    with_other(&["rm", "ship"]).fails(1, &other.display().to_string());
    assert_eq!(node.state("ship"), "running");
    assert!(!other.exists());
    // What ended there may go on here.
    node.ok(&["teardown"]);
    assert!(with_other(&["ps", "-a"]).ok().contains("Exited"));
    node.run(&["ps"]).fails(1, &other.display().to_string());
    with_other(&["rm", "ship"]).ok();
    with_other(&["teardown"]).ok();
    // A monitor whose records are gone is ended too.
    let lost = node.ok(&["run", "-d", "--name", "ship", &image, "sleep", "1000"]);
    assert_ne!(id, lost);
    for file in ["carrack.db", "carrack.db-wal", "carrack.db-shm"] {
        let _ = fs::remove_file(node.root().join(file));
    }
    node.ok(&["teardown"]);
    assert!(!node.run_directory().join("pods").join(&lost).exists());
    // What it wrote stays, as that of all containers.
    fs::remove_dir_all(node.root().join("containers").join(&lost)).unwrap();
    node.finish();
}

#[test]
fn root_an_image_that_a_running_container_uses_cannot_be_removed_by_force() {
    let (node, _registry, image) = with_busybox("image-in-use");
    node.ok(&["run", "-d", "--name", "ship", &image, "sleep", "1000"]);
    node.run(&["rmi", &image]).fails(1, "ship").fails(1, "stop and remove it first");
    node.run(&["rmi", "-f", &image]).fails(1, "ship").fails(1, "has not exited");
    node.ok(&["kill", "ship"]);
    node.wait_for_state("ship", "exited");
    node.run(&["rmi", &image]).fails(1, "ship").fails(1, "force");
    node.ok(&["rmi", "-f", &image]);
    assert!(!node.ok(&["images"]).contains("busybox"));
    // The container keeps the layers, and can do what others can.
    assert_eq!(node.inspect("ship")["Config"]["Image"], image);
    node.ok(&["start", "ship"]);
    assert_eq!(node.ok(&["exec", "ship", "cat", "/etc/not-a-program"]), "text");
    node.ok(&["rm", "-f", "ship"]);
    node.finish();
}
