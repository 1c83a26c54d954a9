//! The low-level runtime's command line, as its callers use it. Each test drives Carrack's program and then runc, the reference:
//! where both differ from each other, the test says so.

#![forbid(unsafe_code)]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use carrack_tests::bundle::Bundle;
use carrack_tests::command::{DEADLINE, Ran, run, start};
use carrack_tests::node::Node;
use carrack_tests::wait::wait_until;
use carrack_tests::{programs, skip};
use serde_json::Value;

/// One runtime with a state directory and a bundle of its own.
struct Runtime<'a> {
    node: &'a Node,
    name: &'static str,
    program: PathBuf,
    bundle: Bundle,
}

impl Runtime<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.node.inside(&self.program);
        command.arg("--root").arg(self.node.place().join(format!("state-{}", self.name))).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        run(&mut self.command(arguments))
    }

    /// `run` or `create` with this bundle.
    fn with_bundle(&self, verb: &str, flags: &[&str], id: &str) -> Ran {
        let bundle = self.bundle.path.to_string_lossy();
        let mut arguments = vec![verb, "--bundle", &bundle];
        arguments.extend(flags);
        arguments.push(id);
        self.run(&arguments)
    }

    fn state(&self, id: &str) -> Value {
        serde_json::from_str(&self.run(&["state", id]).ok()).expect("a state is JSON")
    }

    fn wait_for(&self, id: &str, status: &str) {
        wait_until(&format!("{id} of {} is {status}", self.name), DEADLINE, || self.state(id)["status"] == status);
    }
}

/// Runs `test` with Carrack's program, and with runc where it is installed.
fn with_runtimes(name: &str, args: &[&str], test: impl Fn(&mut Runtime<'_>)) {
    let node = Node::new(name);
    let runtimes = [("carrack-oci", programs::carrack_oci()), ("runc", PathBuf::from("runc"))];
    for (runtime, program) in runtimes {
        if runtime == "runc" && !programs::is_installed("runc") {
            skip(&format!("{name} with runc"), "runc is not installed");
            continue;
        }
        let mut bundle = Bundle::new(&node.place().directory(&format!("bundle-{runtime}")), args);
        // Not a name that the tests beside this one use.
        bundle.change(|config| config["linux"]["cgroupsPath"] = format!("/{}/{runtime}", node.cgroup()).into());
        test(&mut Runtime { node: &node, name: runtime, program, bundle });
    }
    node.finish();
}

#[test]
fn root_oci_run_passes_output_and_exit_code() {
    with_runtimes("oci-run", &["sh", "-c", "echo out; echo err >&2; exit 7"], |runtime| {
        let ran = runtime.with_bundle("run", &[], "one");
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (7, "out\n", "err\n"), "{ran}");
        runtime.run(&["state", "one"]).fails(1, "does not exist");
    });
}

#[test]
fn root_oci_create_start_kill_delete() {
    with_runtimes("oci-verbs", &["sleep", "1000"], |runtime| {
        let pid_file = runtime.node.place().join(format!("pid-{}", runtime.name));
        runtime.with_bundle("create", &["--pid-file", &pid_file.to_string_lossy()], "one").ok();
        let state = runtime.state("one");
        assert_eq!((&state["id"], &state["status"]), (&"one".into(), &"created".into()), "{state}");
        assert_eq!(fs::read_to_string(&pid_file).unwrap(), state["pid"].to_string());
        assert_eq!(state["bundle"], &*runtime.bundle.path.to_string_lossy());
        runtime.with_bundle("create", &[], "one").fails(1, "already exists");
        runtime.run(&["start", "one"]).ok();
        runtime.wait_for("one", "running");
        assert_ne!(runtime.run(&["start", "one"]).code, 0);
        runtime.run(&["delete", "one"]).fails(1, "one");
        let listed: Value = serde_json::from_str(&runtime.run(&["list", "--format", "json"]).ok()).unwrap();
        assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
        runtime.run(&["kill", "one", "KILL"]).ok();
        runtime.wait_for("one", "stopped");
        runtime.run(&["kill", "one", "TERM"]).fails(1, "");
        runtime.run(&["delete", "one"]).ok();
        runtime.run(&["delete", "one"]).fails(1, "does not exist");
        runtime.run(&["delete", "--force", "one"]).ok();
        assert_eq!(runtime.run(&["list", "--format", "json"]).ok().trim(), "null");
    });
}

#[test]
fn root_oci_exec_enters_the_same_container() {
    with_runtimes("oci-exec", &["sleep", "1000"], |runtime| {
        runtime.with_bundle("run", &["--detach"], "one").ok();
        let ran = runtime.run(&[
            "exec",
            "one",
            "sh",
            "-c",
            "echo $$ $(readlink /proc/1/ns/pid) $(readlink /proc/self/ns/pid); exit 3",
        ]);
        assert_eq!(ran.code, 3, "{ran}");
        let words: Vec<&str> = ran.stdout.split_whitespace().collect();
        assert_ne!(words[0], "1");
        assert_eq!(words[1], words[2]);
        let ran = runtime.run(&[
            "exec",
            "--cwd",
            "/tmp",
            "--env",
            "A=b",
            "--user",
            "5:6",
            "one",
            "sh",
            "-c",
            "pwd; echo $A; id -u; id -g",
        ]);
        assert_eq!(ran.stdout, "/tmp\nb\n5\n6\n", "{ran}");
        // runc answers 255 where a program cannot be run at all.
        let missing = runtime.run(&["exec", "one", "no-such-program"]);
        assert_ne!(missing.code, 0);
        // runc quotes its own message once more.
        let said = missing.stderr.replace("\\\"", "\"");
        assert!(said.contains("exec: \"no-such-program\": executable file not found in $PATH"), "{missing}");
        runtime.run(&["delete", "--force", "one"]).ok();
        assert_ne!(runtime.run(&["exec", "one", "true"]).code, 0);
    });
}

#[test]
fn root_oci_an_exec_has_the_session_keyring_of_the_container() {
    with_runtimes("oci-keyring", &["sleep", "1000"], |runtime| {
        let maps = Value::from(vec![serde_json::json!({ "containerID": 0, "hostID": 100_000, "size": 1000 })]);
        let namespaces = runtime.bundle.config["linux"]["namespaces"].clone();
        for (id, user) in [("keys", false), ("mapped-keys", true)] {
            // Keyrings are known by name on the whole host.
            let id = format!("{id}-{}-{}", runtime.name, std::process::id());
            runtime.bundle.change(|config| {
                // /proc/keys is masked otherwise.
                config["linux"]["maskedPaths"] = Value::Null;
                if user {
                    let mut namespaces = namespaces.as_array().expect("a bundle has namespaces").clone();
                    namespaces.push(serde_json::json!({ "type": "user" }));
                    config["linux"]["namespaces"] = namespaces.into();
                    config["linux"]["uidMappings"] = maps.clone();
                    config["linux"]["gidMappings"] = maps.clone();
                }
            });
            runtime.with_bundle("run", &["--detach"], &id).ok();
            let listed = runtime.run(&["exec", &id, "cat", "/proc/keys"]).ok();
            let mine: Vec<&str> = listed.lines().filter(|line| line.contains(&format!("_ses.{id}:"))).collect();
            // In a user namespace runc lets all others search the keyring, but not its user, so that each exec gets another one.
            let wanted = if user && runtime.name == "runc" { 2 } else { 1 };
            assert_eq!(mine.len(), wanted, "{}: {listed}", runtime.name);
            runtime.run(&["delete", "--force", &id]).ok();
        }
    });
}

#[test]
fn root_oci_errors_are_told_on_stderr_and_in_the_log() {
    with_runtimes("oci-errors", &["no-such-program"], |runtime| {
        let log = runtime.node.place().join(format!("log-{}", runtime.name));
        let flags = ["--log", &*log.to_string_lossy(), "--log-format", "json"].map(str::to_owned);
        let mut command = runtime.node.inside(&runtime.program);
        command.args(&flags).arg("--root").arg(runtime.node.place().join("state-errors"));
        command.args(["run", "--bundle"]).arg(&runtime.bundle.path).arg("one");
        let ran = run(&mut command);
        assert_ne!(ran.code, 0);
        let text = "exec: \"no-such-program\": executable file not found in $PATH";
        assert!(ran.stderr.contains(text), "{ran}");
        let lines = fs::read_to_string(&log).unwrap();
        let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
        assert_eq!(last["level"], "error");
        assert!(last["msg"].as_str().unwrap().contains(text), "{last}");
        runtime.run(&["state", "never"]).fails(1, "does not exist");
        assert_ne!(runtime.with_bundle("run", &[], "../evil").code, 0);
        runtime.bundle.change(|config| config["process"]["args"] = Value::Null);
        assert_ne!(runtime.with_bundle("run", &[], "two").code, 0);
    });
}

#[test]
fn root_oci_the_container_is_what_its_configuration_says() {
    let script = "hostname; cat /proc/self/status | grep -E 'NoNewPrivs|CapEff|Seccomp:' | tr -d '\\t '; \
                  ulimit -n; ls /proc/kcore -l | cut -c1; cat /proc/acpi/* 2>&1 | head -1; echo 1 2>/dev/null > /proc/sys/kernel/pid_max || echo refused; \
                  readlink /dev/fd; readlink /dev/ptmx; cat /proc/self/cgroup | wc -l";
    with_runtimes("oci-config", &["sh", "-c", script], |runtime| {
        runtime.bundle.change(|config| config["process"]["oomScoreAdj"] = 500.into());
        let ran = runtime.with_bundle("run", &[], "one");
        let lines: Vec<&str> = ran.stdout.lines().collect();
        assert_eq!(lines[0], "carrack", "{ran}");
        assert!(lines.contains(&"CapEff:0000000020000420"), "{ran}");
        assert!(lines.contains(&"NoNewPrivs:1"), "{ran}");
        assert!(lines.contains(&"1024") && lines.contains(&"refused"), "{ran}");
        assert!(lines.contains(&"/proc/self/fd") && lines.contains(&"pts/ptmx"), "{ran}");
    });
}

#[test]
fn root_oci_files_that_the_caller_has_open_do_not_reach_the_container() {
    with_runtimes("oci-files", &["sh", "-c", "ls /proc/$$/fd; true"], |runtime| {
        // A shell opens a file and hands it down, as a careless caller does.
        let bundle = runtime.bundle.path.to_string_lossy().into_owned();
        let mut command = runtime.node.inside(programs::busybox());
        let script = format!(
            "exec 7</etc/hostname 9</; exec {} --root {} run --bundle {bundle} one",
            runtime.program.display(),
            runtime.node.place().join(format!("state-{}", runtime.name)).display()
        );
        command.args(["sh", "-c", &script]);
        let ran = run(&mut command);
        assert_eq!(ran.stdout, "0\n1\n2\n", "{ran}");
    });
}

#[test]
fn root_oci_a_terminal_is_handed_over_the_console_socket() {
    use std::io::Read;
    use std::os::unix::net::UnixListener;
    with_runtimes("oci-console", &["sh", "-c", "tty; test -t 0 && echo terminal"], |runtime| {
        runtime.bundle.change(|config| config["process"]["terminal"] = true.into());
        let path = runtime.node.place().join(format!("console-{}", runtime.name));
        let listener = UnixListener::bind(&path).unwrap();
        let receiver = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut master = receive_file(&stream);
            let mut seen = Vec::new();
            let mut buffer = [0; 256];
            while let Ok(count @ 1..) = master.read(&mut buffer) {
                seen.extend_from_slice(&buffer[..count]);
            }
            String::from_utf8_lossy(&seen).into_owned()
        });
        runtime.with_bundle("run", &["--detach", "--console-socket", &path.to_string_lossy()], "one").ok();
        assert_eq!(receiver.join().unwrap(), "/dev/pts/0\r\nterminal\r\n");
        runtime.run(&["delete", "--force", "one"]).ok();
        // Without a socket there is nobody to give the terminal to.
        assert_ne!(runtime.with_bundle("create", &[], "two").code, 0);
    });
}

fn receive_file(stream: &std::os::unix::net::UnixStream) -> fs::File {
    use carrack_sys::rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    use std::io::IoSliceMut;
    use std::mem::MaybeUninit;
    let mut space = [MaybeUninit::uninit(); 64];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut payload = [0; 256];
    recvmsg(stream, &mut [IoSliceMut::new(&mut payload)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        .expect("a message comes");
    let files = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    fs::File::from(files.expect("the message carries a file"))
}

#[test]
fn root_oci_foreground_run_forwards_signals() {
    use carrack_sys::rustix::process::Signal;
    with_runtimes(
        "oci-signals",
        &["sh", "-c", "trap 'echo caught; exit 4' TERM; echo ready; while :; do sleep 0.1; done"],
        |runtime| {
            let bundle = runtime.bundle.path.to_string_lossy().into_owned();
            let running = start(runtime.command(&["run", "--bundle", &bundle, "one"]).stdin(Stdio::null()));
            running.wait_for_output("ready");
            runtime.node.signal_inside(&running, Signal::TERM);
            let ran = running.finish(DEADLINE);
            assert_eq!((ran.code, ran.stdout.as_str()), (4, "ready\ncaught\n"), "{ran}");
        },
    );
}
