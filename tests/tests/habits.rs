//! What people try who know docker: it works as they know it, or is refused by its name.

#![forbid(unsafe_code)]

use carrack_tests::node::with_busybox;
use serde_json::json;

#[test]
fn root_flags_are_read_as_docker_reads_them() {
    let (node, _registry, image) = with_busybox("flag-habits");
    let run = |flags: &[&str], command: &[&str]| {
        let mut arguments = vec!["run"];
        arguments.extend(flags);
        arguments.push(&image);
        arguments.extend(command);
        node.ok(&arguments)
    };
    assert_eq!(run(&["--rm", "-h", "flagship"], &["hostname"]), "flagship");
    // The last value counts, and a switch may be turned off again.
    run(
        &["--rm", "--rm=false", "--name", "a", "--name", "ship", "-m", "1g", "--memory", "64MB", "--cpus", ".5"],
        &["true"],
    );
    let ship = node.inspect("ship");
    assert_eq!(ship["HostConfig"]["Memory"], 64 << 20, "{ship}");
    assert_eq!(ship["HostConfig"]["CpuQuota"], 50_000, "{ship}");
    node.run(&["inspect", "a"]).fails(1, "no such");
    node.ok(&["rm", "ship"]);
    // No limit.
    run(&["--rm=true", "-m", "0", "--cpus", "0"], &["true"]);
    for (flag, value, want) in [
        ("--rm", "maybe", "want true or false"),
        ("--memory", "64x", "want at least 6m"),
        ("--memory", "1m", "want at least 6m"),
        ("--cpus", "two", "want a number"),
        ("--pids-limit", "several", "want a whole number"),
    ] {
        let ran = node.run(&["run", "--rm", &format!("{flag}={value}"), &image, "true"]);
        ran.fails(125, &format!("invalid {flag} {value:?}")).fails(125, want);
    }
    // A number below zero is no flag.
    for (flag, want) in [("--memory", "want at least 6m"), ("-m", "want at least 6m"), ("--cpus", "want a number")] {
        node.run(&["run", "--rm", flag, "-1", &image, "true"]).fails(125, "\"-1\"").fails(125, want);
    }
    node.finish();
}

#[test]
fn root_commands_that_docker_has_are_refused_by_name_and_help_is_there() {
    let (node, _registry, _image) = with_busybox("command-habits");
    for verb in ["build", "cp", "restart", "network", "volume", "compose", "push"] {
        let said = format!("carrack: `carrack {verb}` is not offered yet");
        node.run(&[verb, "x"]).fails(1, &said);
        node.run(&["help", verb]).fails(1, &said);
    }
    node.run(&["embark"]).fails(1, "there is no command \"embark\"");
    node.run(&["ps", "--filter", "status=exited"]).fails(1, "--filter is not offered yet by `carrack ps`");
    node.run(&["ps", "--no-such"]).fails(1, "`carrack ps` has no flag --no-such");
    node.run(&["run"]).fails(125, "`carrack run` needs IMAGE");
    assert!(node.ok(&["help", "run"]).contains("--env-file"));
    assert_eq!(node.ok(&["help"]), node.ok(&["--help"]));
    assert!(node.ok(&["-v"]).starts_with("carrack "));
    // Without anything: all commands, on standard error, and no failure.
    let bare = node.run(&[]);
    assert_eq!((bare.code, bare.stdout.as_str()), (0, ""), "{bare}");
    for verb in ["run", "ps", "teardown", "load"] {
        assert!(bare.stderr.lines().any(|line| line.trim_start().starts_with(&format!("{verb} "))), "{verb}: {bare}");
    }
    node.finish();
}

#[test]
fn root_an_environment_file_s_mistakes_have_a_line() {
    let (node, _registry, image) = with_busybox("env-file");
    let file = node.place().file("variables", "A=1\n\nB C=2\n");
    let file = file.to_string_lossy();
    let ran = node.run(&["run", "--rm", "--env-file", &file, &image, "env"]);
    ran.fails(125, &format!("{file}, line 3: the name has a blank in it"));
    let missing = node.place().join("missing").display().to_string();
    let ran = node.run(&["run", "--rm", "--env-file", &missing, &image, "env"]);
    ran.fails(125, &format!("{missing}: No such file"));
    node.finish();
}

#[test]
fn root_two_mounts_on_one_place_are_refused() {
    let (node, _registry, image) = with_busybox("one-place");
    let ran = node.run(&["run", "--rm", "-v", "/tmp:/hold", "-v", "cargo:/./hold/", &image, "true"]);
    ran.fails(125, "duplicate mount point").fails(125, "/hold");
    node.finish();
}

#[test]
fn root_lists_and_inspect_show_what_docker_s_users_look_for() {
    let (node, _registry, image) = with_busybox("columns");
    let directory = node.place().directory("shared").display().to_string();
    let bind = format!("{directory}:/mnt:ro");
    node.ok(&[
        "run",
        "-d",
        "--name",
        "ship",
        "-h",
        "flagship",
        "-p",
        "8080:80",
        "-p",
        "127.0.0.1:9000-9001:90-91",
        "-v",
        &bind,
        "-v",
        "hold:/cargo",
        "-e",
        "A=1",
        "-w",
        "/tmp",
        "-u",
        "0:0",
        "--cpus",
        "0.5",
        "--restart",
        "on-failure:3",
        &image,
        "sleep",
        "1000",
    ]);
    let list = node.ok(&["ps"]);
    assert!(list.contains("0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, 127.0.0.1:9000-9001->90-91/tcp"), "{list}");
    assert!(list.contains("\"sleep 1000\""), "{list}");
    let ship = node.inspect("ship");
    for (path, want) in [
        ("/State/Status", json!("running")),
        ("/State/Running", json!(true)),
        ("/State/ExitCode", json!(0)),
        ("/Config/Hostname", json!("flagship")),
        ("/Config/Cmd", json!(["sleep", "1000"])),
        ("/Config/WorkingDir", json!("/tmp")),
        ("/Config/User", json!("0:0")),
        ("/HostConfig/NanoCpus", json!(500_000_000)),
        ("/HostConfig/NetworkMode", json!("bridge")),
        ("/HostConfig/RestartPolicy", json!({ "Name": "on-failure", "MaximumRetryCount": 3 })),
        ("/HostConfig/PortBindings/91~1tcp/0", json!({ "HostIp": "127.0.0.1", "HostPort": "9001" })),
        ("/NetworkSettings/Ports/80~1tcp/0", json!({ "HostIp": "0.0.0.0", "HostPort": "8080" })),
        ("/NetworkSettings/Ports/80~1tcp/1/HostIp", json!("::")),
        ("/Mounts/0/Type", json!("bind")),
        ("/Mounts/0/Source", json!(directory)),
        ("/Mounts/0/RW", json!(false)),
        ("/Mounts/1/Name", json!("hold")),
        ("/Mounts/1/Destination", json!("/cargo")),
    ] {
        assert_eq!(ship.pointer(path), Some(&want), "{path}: {ship:#}");
    }
    let env = ship["Config"]["Env"].as_array().unwrap();
    assert!(
        env.contains(&json!("A=1")) && env.iter().any(|text| text.as_str().unwrap().starts_with("PATH=")),
        "{ship}"
    );
    let address = &ship["NetworkSettings"]["Networks"]["bridge"]["IPAddress"];
    assert!(address.as_str().is_some_and(|text| !text.is_empty()) && *address == ship["NetworkSettings"]["IPAddress"]);
    node.ok(&["stop", "-t", "0", "ship"]);
    let ship = node.inspect("ship");
    assert_eq!((&ship["NetworkSettings"]["IPAddress"], &ship["NetworkSettings"]["Ports"]), (&json!(""), &json!({})));
    let list = node.ok(&["ps", "-a"]);
    assert!(list.contains("Exited (137)") && !list.contains("8080"), "{list}");
    // The same size everywhere: what the image takes unpacked.
    let size = node.inspect(&image)["Size"].clone();
    let listed: serde_json::Value = serde_json::from_str(&node.ok(&["images", "--format", "json"])).unwrap();
    assert_eq!(listed["Size"], size);
    let megabytes = format!("{:.2}MB", size.as_f64().unwrap() / 1e6);
    assert!(node.ok(&["images"]).contains(&megabytes), "{megabytes}: {}", node.ok(&["images"]));
    node.ok(&["rm", "ship"]);
    node.finish();
}

#[test]
fn root_what_is_not_there_is_named_and_where_to_look() {
    let (node, _registry, _image) = with_busybox("missing");
    for verb in [&["rm", "ghost"][..], &["stop", "ghost"], &["logs", "ghost"], &["start", "-a", "ghost"]] {
        let code = if verb.contains(&"-a") { 125 } else { 1 };
        node.run(verb).fails(code, "carrack: no such container: ghost (`carrack ps -a` lists all)");
    }
    node.run(&["exec", "ghost", "true"]).fails(125, "carrack: no such container: ghost (`carrack ps -a` lists all)");
    node.run(&["inspect", "ghost"]).fails(1, "carrack: no such container or image: ghost");
    for verb in [&["rmi", "ghost"][..], &["tag", "ghost", "other"]] {
        node.run(verb).fails(1, "carrack: no such image: ghost:latest (`carrack images` lists all)");
    }
    node.finish();
}
