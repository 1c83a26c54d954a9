//! A monitor with real containers, through the real `carrack-oci`.

#![forbid(unsafe_code)]

mod node;

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use carrack_monitor::client::{Client, ClientError};
use carrack_monitor_proto::{
    Attach, ContainerPhase, ExecRequest, IpcMode, NamespaceType, NetworkMode, PidMode, Request, Response,
    RestartPolicy, Rootfs, Signal, SignalScope, Size, Stream, StreamFrame, UtsMode,
};
use carrack_oci_config::Process;
use carrack_sys::rustix::process::{Pid, Signal as UnixSignal, kill_process};
use carrack_words::{ExecId, Exit, Kind};
use node::{
    Node, attach, attach_all, container_state, done, eventually, id, is_dead, pod_state, read_to_end, refusal, start,
    stop, wait,
};
use serde_json::json;

const SOON: Duration = Duration::from_secs(20);

#[test]
fn root_a_container_runs_and_everybody_is_told_of_its_end() {
    let Some(mut node) = Node::new("root_a_container_runs_and_everybody_is_told_of_its_end") else { return };
    let told = node.root.join("told");
    node.config.cleanup = vec![
        "/bin/sh".into(),
        "-c".into(),
        format!(
            "echo $CARRACK_POD $(grep SigBlk /proc/self/status) $(cat /proc/$$/stat | cut -d' ' -f6) = $$ > {}",
            told.display()
        ),
    ];
    let mut client = node.start();
    let monitor = client.monitor().pid;
    let create = node.create_request("c", &node.spec("c", "echo out; echo err >&2; printf unended; exit 3"));
    node.create(&mut client, create);
    let mut attached = attach(node.client(), attach_all("c"));
    start(&mut client, "c");
    let (out, err, record) = read_to_end(&mut attached);
    assert_eq!((out, err), (b"out\nunended".to_vec(), b"err\n".to_vec()));
    assert_eq!((record.exit, record.oom_killed, &record.error), (Exit::Code(3), false, &None));
    assert!(record.started_at.is_some_and(|at| at <= record.finished_at));
    assert_eq!(node.recorded_exit("c"), record);
    let mut lines = node.log_lines("c");
    lines.sort();
    assert_eq!(lines, ["stderr F err", "stdout F out", "stdout P unended"]);
    node.wait_for_end(monitor);
    eventually("the cleanup program", || {
        // The pod's id, no blocked signal, and a session of its own.
        let words = fs::read_to_string(&told).ok()?;
        let words: Vec<_> = words.split_whitespace().collect();
        let [pod, _, blocked, session, _, pid] = words[..] else { return None };
        assert_eq!((pod, blocked), (node.config.id.as_str(), "0000000000000000"));
        assert_eq!(session, pid);
        Some(())
    });
    assert!(matches!(Client::connect(&node.run_dir(), None), Err(ClientError::Connect { .. })));
}

#[test]
fn root_an_overlay_keeps_what_the_container_wrote() {
    let Some(node) = Node::new("root_an_overlay_keeps_what_the_container_wrote") else { return };
    let mut client = node.start();
    let monitor = client.monitor().pid;
    let mut create = node.create_request("c", &node.spec("c", "echo new > /tmp/file"));
    let [upper, work] = ["upper", "work"].map(|name| node.root.join(name));
    for directory in [&upper, &work] {
        fs::create_dir(directory).unwrap();
    }
    create.rootfs =
        Rootfs::Overlay { lowers: vec![node.root.join("rootfs")], upper: upper.clone(), work, volatile: false };
    node.create(&mut client, create);
    start(&mut client, "c");
    assert_eq!(wait(&mut client, "c").exit, Exit::Code(0));
    assert_eq!(fs::read_to_string(upper.join("tmp/file")).unwrap(), "new\n");
    assert!(!node.root.join("rootfs/tmp/file").exists());
    node.wait_for_end(monitor);
}

#[test]
fn root_what_cannot_be_executed_is_told_to_the_caller_and_recorded() {
    let Some(mut node) = Node::new("root_what_cannot_be_executed_is_told_to_the_caller_and_recorded") else { return };
    node.config.persistent = true;
    fs::write(node.root.join("rootfs/bin/data"), "no program").unwrap();
    let mut client = node.start();
    for (name, program, kind, code, words) in [
        ("missing", "nothing-here", Kind::NotFound, 127, "executable file not found in $PATH"),
        ("denied", "/bin/data", Kind::Denied, 126, "permission denied"),
    ] {
        let mut spec = node.spec(name, "");
        spec["process"]["args"] = json!([program]);
        let create = node.create_request(name, &spec);
        // A runtime may see it at create or at start; either way the caller is told.
        let refused = match client.call(&Request::Create(Box::new(create))) {
            Ok(Response::Created { .. }) => {
                let refused = refusal(client.call(&Request::Start { id: id(name) }));
                let record = wait(&mut client, name);
                assert_eq!((record.exit, record.started_at), (Exit::Code(code), None));
                assert!(record.error.as_ref().is_some_and(|error| error.contains(words)), "{record:?}");
                assert_eq!(node.recorded_exit(name), record);
                refused
            }
            other => refusal(other),
        };
        assert_eq!(refused.0, kind, "{refused:?}");
        assert!(refused.1.contains(words), "{refused:?}");
    }
    done(&mut client, Request::Shutdown);
    node.wait_for_end(client.monitor().pid);
}

#[test]
fn root_wrong_requests_are_refused_and_harm_nobody() {
    let Some(mut node) = Node::new("root_wrong_requests_are_refused_and_harm_nobody") else { return };
    node.config.persistent = true;
    let mut client = node.start();
    let monitor = client.monitor().pid;
    node.run(&mut client, "c", "sleep 1000");
    let kind = |result| refusal(result).0;
    let nobody = || id("nobody");
    assert_eq!(kind(client.call(&Request::Start { id: nobody() })), Kind::NotFound);
    assert_eq!(kind(client.call(&Request::Wait { id: nobody() })), Kind::NotFound);
    assert_eq!(kind(client.call(&Request::ReopenLog { id: nobody() })), Kind::NotFound);
    assert_eq!(kind(client.call(&Request::Start { id: id("c") })), Kind::Precondition);
    assert_eq!(kind(client.call(&Request::Resize { id: id("c"), rows: 1, columns: 1 })), Kind::Precondition);
    assert_eq!(kind(client.call(&Request::Shutdown)), Kind::Precondition);
    let again = node.create_request("c", &node.spec("c", "true"));
    assert_eq!(kind(client.call(&Request::Create(Box::new(again)))), Kind::AlreadyExists);
    let refused = node.try_start().unwrap_err();
    assert_eq!(refused.kind(), Kind::AlreadyExists, "a second monitor: {refused}");

    // Clients that break the rules lose their connection, and nobody else does.
    for hostile in
        [&b"\xff\xff\xff\xff"[..], b"\x02\0\0\0{}", b"\x07\0\0\0\"state\"", b"\x15\0\0\0{\"hello\":{\"version\":9}}"]
    {
        let mut socket = UnixStream::connect(node.run_dir().join("monitor.sock")).unwrap();
        socket.write_all(hostile).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap_or(0);
        assert!(answer.contains("error") || hostile.len() > 21, "{hostile:?}: {answer:?}");
    }
    // Nothing but SIGKILL ends a monitor.
    for signal in
        [UnixSignal::TERM, UnixSignal::INT, UnixSignal::HUP, UnixSignal::QUIT, UnixSignal::USR1, UnixSignal::ALARM]
    {
        kill_process(Pid::from_raw(monitor).unwrap(), signal).unwrap();
    }
    eventually("the last signal to be noted", || node.journal().contains("signal 14 from").then_some(()));
    assert!(matches!(container_state(&mut client, "c").phase, ContainerPhase::Running { .. }));
    done(&mut client, Request::Remove { id: id("c") });
    done(&mut client, Request::Remove { id: id("c") });
    assert_eq!(pod_state(&mut client).containers, []);
    done(&mut client, Request::Shutdown);
    node.wait_for_end(monitor);
}

fn exec_request(name: &str, exec: &str, script: &str) -> ExecRequest {
    let process: Process = serde_json::from_value(json!({
        "user": { "uid": 0, "gid": 0 },
        "args": ["/bin/sh", "-c", script],
        "env": ["PATH=/bin"],
        "cwd": "/",
    }))
    .unwrap();
    ExecRequest { id: id(name), exec_id: ExecId::new(exec).unwrap(), process, kill_on_disconnect: false }
}

/// Runs an exec with pipes, and returns its pid and the ends of stdin, stdout and stderr.
fn exec(
    client: &mut Client,
    request: ExecRequest,
) -> (i32, std::io::PipeWriter, std::io::PipeReader, std::io::PipeReader) {
    let (stdin, in_writer) = std::io::pipe().unwrap();
    let (out_reader, stdout) = std::io::pipe().unwrap();
    let (err_reader, stderr) = std::io::pipe().unwrap();
    let handles = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    match client.call_with_handles(&Request::Exec(Box::new(request)), &handles) {
        Ok(Response::ExecStarted { process, .. }) => (process.pid, in_writer, out_reader, err_reader),
        other => panic!("{other:?}"),
    }
}

fn exec_exit(client: &mut Client) -> Exit {
    match client.next_answer() {
        Ok(Response::ExecExited { exit, .. }) => exit,
        other => panic!("{other:?}"),
    }
}

#[test]
fn root_an_exec_has_the_callers_streams_and_its_own_exit() {
    let Some(node) = Node::new("root_an_exec_has_the_callers_streams_and_its_own_exit") else { return };
    let mut client = node.start();
    let monitor = client.monitor().pid;
    node.run(&mut client, "c", "sleep 1000");
    let mut other = node.client();
    let (_, mut stdin, mut stdout, mut stderr) = exec(&mut other, exec_request("c", "e1", "echo err >&2; cat; exit 7"));
    stdin.write_all(b"through").unwrap();
    drop(stdin);
    let (mut out, mut err) = (String::new(), String::new());
    stdout.read_to_string(&mut out).unwrap();
    stderr.read_to_string(&mut err).unwrap();
    assert_eq!((out.as_str(), err.as_str(), exec_exit(&mut other)), ("through", "err\n", Exit::Code(7)));
    // The connection is free for the next one.
    let (_, _stdin, _stdout, _stderr) = exec(&mut other, exec_request("c", "e2", "kill -9 $$"));
    assert_eq!(exec_exit(&mut other), Exit::Signal(9));

    let mut missing = exec_request("c", "e3", "");
    missing.process.args = vec!["nothing-here".into()];
    let null = fs::File::open("/dev/null").unwrap();
    let handles = [null.as_fd(); 3];
    let (kind, message) = refusal(other.call_with_handles(&Request::Exec(Box::new(missing.clone())), &handles));
    assert_eq!(kind, Kind::NotFound);
    assert!(message.contains("\"nothing-here\": executable file not found in $PATH"), "{message}");
    assert_eq!(refusal(other.call(&Request::Exec(Box::new(missing)))).0, Kind::Invalid, "no handles came");

    // Another connection can kill it, and a client that goes takes it along if it said so.
    let (_, _stdin, _stdout, _stderr) = exec(&mut other, exec_request("c", "e4", "sleep 1000"));
    let again = exec_request("c", "e4", "true");
    assert_eq!(refusal(client.call_with_handles(&Request::Exec(Box::new(again)), &handles)).0, Kind::AlreadyExists);
    done(&mut client, Request::ExecKill { exec_id: ExecId::new("e4").unwrap(), signal: Signal::KILL });
    assert_eq!(exec_exit(&mut other), Exit::Signal(9));
    done(&mut client, Request::ExecKill { exec_id: ExecId::new("e4").unwrap(), signal: Signal::KILL });
    let request = ExecRequest { kill_on_disconnect: true, ..exec_request("c", "e5", "sleep 1000") };
    let (pid, _stdin, _stdout, _stderr) = exec(&mut other, request);
    assert!(!is_dead(pid));
    drop(other);
    eventually("the exec to die with its client", || is_dead(pid).then_some(()));
    assert_eq!(stop(&mut client, "c", Duration::ZERO).exit, Exit::Signal(9));
    node.wait_for_end(monitor);
}

#[test]
fn root_an_exec_with_a_terminal_gives_the_caller_its_controlling_side() {
    let Some(node) = Node::new("root_an_exec_with_a_terminal_gives_the_caller_its_controlling_side") else { return };
    let mut client = node.start();
    let monitor = client.monitor().pid;
    node.run(&mut client, "c", "sleep 1000");
    let mut other = node.client();
    let mut request = exec_request("c", "e", "read go; stty size; test -t 0 && echo terminal");
    request.process.terminal = true;
    assert!(matches!(other.call(&Request::Exec(Box::new(request))), Ok(Response::ExecStarted { .. })));
    let console: OwnedFd = other.take_handles().pop().expect("the controlling side");
    let size = carrack_sys::rustix::termios::Winsize { ws_row: 33, ws_col: 77, ws_xpixel: 0, ws_ypixel: 0 };
    carrack_sys::rustix::termios::tcsetwinsize(&console, size).unwrap();
    let mut console = fs::File::from(console);
    console.write_all(b"go\n").unwrap();
    let mut output = Vec::new();
    // A terminal that nobody has open any more ends with EIO.
    let _ = console.read_to_end(&mut output);
    assert_eq!(String::from_utf8(output).unwrap(), "go\r\n33 77\r\nterminal\r\n");
    assert_eq!(exec_exit(&mut other), Exit::Code(0));
    stop(&mut client, "c", Duration::ZERO);
    node.wait_for_end(monitor);
}

#[test]
fn root_input_reaches_the_container_and_ends_with_the_first_client() {
    let Some(node) = Node::new("root_input_reaches_the_container_and_ends_with_the_first_client") else { return };
    let mut client = node.start();
    let monitor = client.monitor().pid;
    let mut create = node.create_request("c", &node.spec("c", "cat; echo end"));
    (create.stdin, create.stdin_once) = (true, true);
    node.create(&mut client, create);
    let mut attached = attach(node.client(), attach_all("c"));
    start(&mut client, "c");
    // More than all buffers on the way together, so that both directions have to wait for each other.
    let sent: Vec<u8> = (0..3_000_000u32).map(|i| b'a' + (i % 23) as u8).collect();
    let mut writer = attached.writer;
    let to_send = sent.clone();
    let feeder = std::thread::spawn(move || {
        writer.stdin(&to_send).unwrap();
        writer.close_stdin().unwrap();
        writer
    });
    let mut got = Vec::new();
    let record = loop {
        match attached.reader.next_frame().unwrap() {
            StreamFrame::Data { bytes, .. } => got.extend(bytes),
            StreamFrame::End(record) => break record,
            other => panic!("{other:?}"),
        }
    };
    feeder.join().unwrap();
    assert_eq!(record.exit, Exit::Code(0));
    assert!(got.len() == sent.len() + 4 && got.starts_with(&sent), "{} bytes", got.len());
    node.wait_for_end(monitor);
}

#[test]
fn root_input_that_is_not_once_outlives_its_client() {
    let Some(node) = Node::new("root_input_that_is_not_once_outlives_its_client") else { return };
    let mut client = node.start();
    let monitor = client.monitor().pid;
    let mut create = node.create_request("c", &node.spec("c", "read a; echo got $a; read b; echo got $b"));
    create.stdin = true;
    node.create(&mut client, create);
    start(&mut client, "c");
    let mut first = attach(node.client(), attach_all("c"));
    first.writer.stdin(b"one\n").unwrap();
    first.writer.close_stdin().unwrap();
    drop(first);
    eventually("the first line", || node.log("c").contains("got one").then_some(()));
    let mut second = attach(node.client(), attach_all("c"));
    second.writer.stdin(b"two\n").unwrap();
    let (out, _, _) = read_to_end(&mut second);
    assert_eq!(out, b"got two\n");
    node.wait_for_end(monitor);
}

#[test]
fn root_a_terminal_has_the_size_it_was_given_before_the_start() {
    let Some(node) = Node::new("root_a_terminal_has_the_size_it_was_given_before_the_start") else { return };
    let mut client = node.start();
    let monitor = client.monitor().pid;
    let mut spec = node.spec("c", "stty size; test -t 2 && echo terminal; read line; echo got $line; stty size");
    spec["process"]["terminal"] = json!(true);
    let mut create = node.create_request("c", &spec);
    create.stdin = true;
    node.create(&mut client, create);
    done(&mut client, Request::Resize { id: id("c"), rows: 20, columns: 70 });
    let mut attached = attach(node.client(), attach_all("c"));
    assert!(attached.terminal);
    start(&mut client, "c");
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("terminal\r\n") {
        match attached.reader.next_frame().unwrap() {
            StreamFrame::Data { stream: Stream::Stdout, bytes } => seen.extend(bytes),
            other => panic!("{other:?}"),
        }
    }
    attached.writer.resize(Size { rows: 30, columns: 80 }).unwrap();
    attached.writer.stdin(b"hello\r").unwrap();
    let (out, _, record) = read_to_end(&mut attached);
    seen.extend(out);
    assert_eq!(String::from_utf8(seen).unwrap(), "20 70\r\nterminal\r\nhello\r\ngot hello\r\n30 80\r\n");
    assert_eq!(record.exit, Exit::Code(0));
    assert_eq!(
        node.log_lines("c"),
        ["stdout F 20 70", "stdout F terminal", "stdout F hello", "stdout F got hello", "stdout F 30 80"]
    );
    node.wait_for_end(monitor);
}

#[test]
fn root_a_failing_container_is_restarted_as_often_as_its_policy_says() {
    let Some(node) = Node::new("root_a_failing_container_is_restarted_as_often_as_its_policy_says") else { return };
    let mut client = node.start();
    let monitor = client.monitor().pid;
    let mut create = node.create_request("c", &node.spec("c", "echo run; exit 5"));
    create.restart = RestartPolicy::OnFailure { max_retries: Some(2) };
    node.create(&mut client, create);
    let begin = Instant::now();
    let mut other = node.client();
    start(&mut client, "c");
    let last = loop {
        let record = wait(&mut other, "c");
        assert_eq!(record.exit, Exit::Code(5));
        if !record.will_restart {
            break record;
        }
    };
    assert_eq!(last.restart_count, 2);
    assert!(begin.elapsed() >= Duration::from_millis(300), "100 ms, then 200 ms");
    assert_eq!(node.log_lines("c"), ["stdout F run"; 3]);
    assert_eq!(node.recorded_exit("c"), last);
    node.wait_for_end(monitor);
}

#[test]
fn root_a_stop_ends_restarts_even_between_two_runs() {
    let Some(node) = Node::new("root_a_stop_ends_restarts_even_between_two_runs") else { return };
    let mut client = node.start();
    let monitor = client.monitor().pid;
    let mut create = node.create_request("c", &node.spec("c", "true"));
    create.restart = RestartPolicy::Always;
    node.create(&mut client, create);
    start(&mut client, "c");
    eventually("the third wait", || {
        let state = container_state(&mut client, "c");
        (state.restart_count >= 2 && matches!(state.phase, ContainerPhase::BackOff { .. })).then_some(())
    });
    let record = stop(&mut client, "c", SOON);
    assert!(!record.will_restart);
    assert_eq!(node.recorded_exit("c"), record);
    node.wait_for_end(monitor);
}

#[test]
fn root_a_stop_asks_first_and_kills_when_the_time_is_over() {
    let Some(mut node) = Node::new("root_a_stop_asks_first_and_kills_when_the_time_is_over") else { return };
    node.config.persistent = true;
    let mut client = node.start();
    let monitor = client.monitor().pid;
    node.run(&mut client, "polite", "trap 'echo bye; exit 4' TERM; echo ready; while :; do sleep 0.01; done");
    eventually("readiness", || node.log("polite").contains("ready").then_some(()));
    assert_eq!(stop(&mut client, "polite", SOON).exit, Exit::Code(4));
    assert_eq!(node.log_lines("polite"), ["stdout F ready", "stdout F bye"]);

    node.run(&mut client, "deaf", "trap 'echo asked' TERM; echo ready; while :; do sleep 0.01; done");
    eventually("readiness", || node.log("deaf").contains("ready").then_some(()));
    let mut patient = node.client();
    let stopping = std::thread::spawn(move || stop(&mut patient, "deaf", Duration::from_secs(1000)));
    eventually("the first signal", || node.log("deaf").contains("asked").then_some(()));
    let begin = Instant::now();
    assert_eq!(stop(&mut client, "deaf", Duration::from_millis(300)).exit, Exit::Signal(9));
    assert!(begin.elapsed() >= Duration::from_millis(300));
    assert_eq!(stopping.join().unwrap().exit, Exit::Signal(9), "the first stop ends with the second");
    assert_eq!(
        node.log_lines("deaf"),
        ["stdout F ready", "stdout F asked"],
        "the second one joined, and did not ask again"
    );
    assert_eq!(stop(&mut client, "deaf", SOON).exit, Exit::Signal(9), "a repeat finds the end");
    done(&mut client, Request::Shutdown);
    node.wait_for_end(monitor);
}

#[test]
fn root_no_line_is_lost_or_torn_when_the_log_is_rotated_while_the_container_writes() {
    let name = "root_no_line_is_lost_or_torn_when_the_log_is_rotated_while_the_container_writes";
    let Some(node) = Node::new(name) else { return };
    const LINES: usize = 200_000;
    let mut client = node.start();
    let monitor = client.monitor().pid;
    let mut other = node.client();
    node.run(&mut client, "c", &format!("seq 1 {LINES}"));
    let waiting = std::thread::spawn(move || wait(&mut other, "c"));
    let (path, mut rotated) = (node.log_path("c"), Vec::new());
    while !waiting.is_finished() {
        let old = path.with_extension(format!("{}", rotated.len()));
        fs::rename(&path, &old).unwrap();
        rotated.push(old.clone());
        match client.call(&Request::ReopenLog { id: id("c") }) {
            Ok(Response::Done) => {}
            // It has exited: then no file may have been made, and the caller puts the old one back.
            Err(ClientError::Refused { kind, .. }) => {
                assert!(matches!(kind, Kind::Precondition | Kind::NotFound));
                assert!(!path.exists());
                fs::rename(&old, &path).unwrap();
                rotated.pop();
            }
            Err(ClientError::Ended) => {
                fs::rename(&old, &path).unwrap();
                rotated.pop();
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(waiting.join().unwrap().exit, Exit::Code(0));
    node.wait_for_end(monitor);
    let files = rotated.iter().chain([&path]);
    let all: String = files.map(|file| fs::read_to_string(file).unwrap()).collect();
    let mut next = 1;
    for line in all.lines() {
        assert_eq!(line.split_once(' ').unwrap().1, format!("stdout F {next}"));
        next += 1;
    }
    assert_eq!(next, LINES + 1);
    assert!(rotated.len() > 1, "it was rotated {} times", rotated.len());
}

#[test]
fn root_containers_of_a_pod_share_its_namespaces() {
    let Some(mut node) = Node::new("root_containers_of_a_pod_share_its_namespaces") else { return };
    node.config.persistent = true;
    node.config.ipc = IpcMode::Pod;
    node.config.uts = UtsMode::Pod { hostname: "shared-name".into() };
    node.config.pid = PidMode::Pod;
    node.config.sysctls = [("kernel.shm_rmid_forced".to_owned(), "1".to_owned())].into();
    let mut client = node.start();
    let monitor = client.monitor().pid;
    let script = "hostname; cat /proc/sys/kernel/shm_rmid_forced; cat /proc/1/comm; exec sleep 1000";
    let mut pids = Vec::new();
    for name in ["a", "b"] {
        let create = node.create_request(name, &node.spec(name, script));
        pids.push(node.create(&mut client, create));
        start(&mut client, name);
        eventually("three lines", || (node.log(name).lines().count() == 3).then_some(()));
        let lines = node.log_lines(name);
        assert_eq!(lines[..2], ["stdout F shared-name", "stdout F 1"]);
    }
    let namespace = |pid: i32, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    let own = std::process::id() as i32;
    for kind in ["ipc", "uts", "pid"] {
        assert_eq!(namespace(pids[0], kind), namespace(pids[1], kind));
        assert_eq!(namespace(monitor, kind), namespace(own, kind), "the monitor stays in the host's");
        assert_ne!(namespace(pids[0], kind), namespace(own, kind));
    }
    for kind in ["mnt", "net"] {
        assert_ne!(namespace(pids[0], kind), namespace(pids[1], kind));
    }
    let state = pod_state(&mut client);
    let init = state.pod_init.unwrap().pid;
    assert_eq!(namespace(init, "pid"), namespace(pids[0], "pid"));
    for (kind, name) in [(NamespaceType::Ipc, "ipc"), (NamespaceType::Uts, "uts"), (NamespaceType::Pid, "pid")] {
        let (_, path) = state.namespaces.iter().find(|(other, _)| *other == kind).unwrap();
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        assert_eq!(inode(path), inode(format!("/proc/{}/ns/{name}", pids[0]).as_ref()));
    }
    // What containers see as process 1 gives nothing away, and reaps.
    assert_eq!(fs::read_dir(format!("/proc/{init}/root/")).unwrap().count(), 0);
    assert_eq!(
        fs::read_dir(format!("/proc/{init}/fd"))
            .unwrap()
            .filter(|entry| {
                !fs::read_link(entry.as_ref().unwrap().path())
                    .unwrap()
                    .to_string_lossy()
                    .starts_with("anon_inode:[signalfd]")
            })
            .count(),
        0
    );
    let status = fs::read_to_string(format!("/proc/{init}/status")).unwrap();
    for field in ["CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(status.contains(field), "{status}");
    }
    // A container of a shared pid namespace dies as a whole all the same.
    node.run(&mut client, "family", "sleep 1000 & sleep 1000 & echo ready; wait");
    eventually("its children", || node.log("family").contains("ready").then_some(()));
    let begin = Instant::now();
    assert_eq!(stop(&mut client, "family", Duration::ZERO).exit, Exit::Signal(9));
    assert!(begin.elapsed() < Duration::from_secs(2), "its streams ended with it");
    for name in ["a", "b"] {
        stop(&mut client, name, Duration::ZERO);
    }
    done(&mut client, Request::Shutdown);
    node.wait_for_end(monitor);
    assert!(is_dead(init));
}

#[test]
fn root_a_pod_joins_its_network_by_path_and_sets_sysctls_there() {
    let name = "root_a_pod_joins_its_network_by_path_and_sets_sysctls_there";
    let Some(first) = Node::new(name) else { return };
    let Some(mut second) = Node::new(name) else { return };
    let mut client = first.start();
    let create = first.create_request("c", &first.spec("c", "sleep 1000"));
    let pid = first.create(&mut client, create);
    start(&mut client, "c");
    // Any pinned namespace will do, so that of another container.
    second.config.network = NetworkMode::Path(format!("/proc/{pid}/ns/net").into());
    second.config.sysctls = [("net.ipv4.ip_local_reserved_ports".to_owned(), "4567".to_owned())].into();
    let mut other = second.start();
    let create =
        second.create_request("c", &second.spec("c", "cat /proc/sys/net/ipv4/ip_local_reserved_ports; sleep 1000"));
    let joined = second.create(&mut other, create);
    start(&mut other, "c");
    let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    assert_eq!(namespace(joined), namespace(pid));
    eventually("the value", || (second.log_lines("c") == ["stdout F 4567"]).then_some(()));
    let own = fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap();
    assert_ne!(own.trim(), "4567", "the host keeps its own");
    for (node, client) in [(&first, &mut client), (&second, &mut other)] {
        let monitor = client.monitor().pid;
        stop(client, "c", Duration::ZERO);
        node.wait_for_end(monitor);
    }
}

#[test]
fn root_a_removed_container_ends_its_pod_of_one_and_takes_an_abandoned_exec_along() {
    let name = "root_a_removed_container_ends_its_pod_of_one_and_takes_an_abandoned_exec_along";
    let Some(node) = Node::new(name) else { return };
    let mut client = node.start();
    let monitor = client.monitor().pid;
    node.run(&mut client, "c", "sleep 1000");
    let mut other = node.client();
    let (pid, _stdin, mut stdout, _stderr) = exec(&mut other, exec_request("c", "e", "echo up; sleep 1000"));
    stdout.read_exact(&mut [0; 3]).unwrap();
    drop(other);
    // The monitor has seen its client go once it answers somebody else.
    pod_state(&mut client);
    assert!(!is_dead(pid), "it goes on without its client");
    done(&mut client, Request::Remove { id: id("c") });
    assert!(is_dead(pid));
    assert_eq!(node.recorded_exit("c").exit, Exit::Signal(9));
    node.wait_for_end(monitor);
}

#[test]
fn root_a_kill_by_hand_ends_restarts() {
    let Some(node) = Node::new("root_a_kill_by_hand_ends_restarts") else { return };
    let mut client = node.start();
    let monitor = client.monitor().pid;
    let mut create = node.create_request("c", &node.spec("c", "sleep 1000"));
    create.restart = RestartPolicy::Always;
    node.create(&mut client, create);
    start(&mut client, "c");
    done(&mut client, Request::Signal { id: id("c"), signal: Signal::KILL, scope: SignalScope::Init });
    node.wait_for_end(monitor);
    let record = node.recorded_exit("c");
    assert_eq!((record.exit, record.will_restart), (Exit::Signal(9), false));
}

#[test]
fn root_an_exited_container_of_a_lasting_pod_is_started_again_by_hand() {
    let Some(mut node) = Node::new("root_an_exited_container_of_a_lasting_pod_is_started_again_by_hand") else {
        return;
    };
    node.config.persistent = true;
    let mut client = node.start();
    let monitor = client.monitor().pid;
    node.run(&mut client, "c", "echo run; exit 2");
    assert_eq!(wait(&mut client, "c").exit, Exit::Code(2));
    assert_eq!(refusal(client.call(&Request::ReopenLog { id: id("c") })).0, Kind::Precondition);
    let attached = node.client().attach(attach_all("c"));
    assert!(matches!(attached, Err(ClientError::Refused { kind: Kind::Precondition, .. })), "{attached:?}");
    start(&mut client, "c");
    assert_eq!(wait(&mut client, "c").exit, Exit::Code(2));
    assert_eq!(node.log_lines("c"), ["stdout F run"; 2]);
    done(&mut client, Request::Shutdown);
    node.wait_for_end(monitor);
}

#[test]
fn root_a_sysctl_that_is_not_the_pods_keeps_the_monitor_from_starting() {
    let Some(mut node) = Node::new("root_a_sysctl_that_is_not_the_pods_keeps_the_monitor_from_starting") else {
        return;
    };
    node.config.sysctls = [("kernel.core_pattern".to_owned(), "|/evil".to_owned())].into();
    let error = node.try_start().unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("\"kernel.core_pattern\" is not namespaced"), "{error}");
    fs::write(node.run_dir().join("pod.json"), br#"{"version": 99}"#).unwrap();
    let error = carrack_monitor::start(&node.programs.carrack_oci, &node.run_dir()).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported, "{error}");
}

#[test]
fn root_a_client_that_vanishes_or_sleeps_stops_nobody_else() {
    let Some(mut node) = Node::new("root_a_client_that_vanishes_or_sleeps_stops_nobody_else") else { return };
    node.config.persistent = true;
    let mut client = node.start();
    let monitor = client.monitor().pid;
    let create = node.create_request("c", &node.spec("c", "seq 1 100000; echo done; exec sleep 1000"));
    node.create(&mut client, create);
    let sleeper = attach(node.client(), Attach { stdin: false, lossless: false, ..attach_all("c") });
    let mut vanishing = attach(node.client(), Attach { stdin: false, ..attach_all("c") });
    start(&mut client, "c");
    vanishing.reader.next_frame().unwrap();
    // The container waits for this one, until it is gone.
    let is_done = |node: &Node| node.log("c").contains("stdout F done");
    let mut before = String::new();
    eventually("the container to wait", || {
        let now = node.log("c");
        let is_quiet = now == before && !now.is_empty();
        before = now;
        std::thread::sleep(Duration::from_millis(100));
        is_quiet.then_some(())
    });
    assert!(!is_done(&node));
    drop(vanishing);
    eventually("the rest", || is_done(&node).then_some(()));
    // The other one never read, was not waited for, and was cut off before the end.
    let mut sleeper = sleeper;
    let outcome = loop {
        match sleeper.reader.next_frame() {
            Ok(StreamFrame::Data { .. }) => {}
            other => break other,
        }
    };
    assert!(matches!(outcome, Err(ClientError::Ended)), "{outcome:?}");
    done(&mut client, Request::Signal { id: id("c"), signal: Signal::KILL, scope: SignalScope::Init });
    assert_eq!(wait(&mut client, "c").exit, Exit::Signal(9));
    done(&mut client, Request::Shutdown);
    node.wait_for_end(monitor);
}

#[test]
fn root_a_slow_client_that_is_waited_for_gets_every_byte() {
    let Some(node) = Node::new("root_a_slow_client_that_is_waited_for_gets_every_byte") else { return };
    let mut client = node.start();
    let monitor = client.monitor().pid;
    let create = node.create_request("c", &node.spec("c", "seq 1 200000"));
    node.create(&mut client, create);
    let mut attached = attach(node.client(), Attach { stdin: false, ..attach_all("c") });
    start(&mut client, "c");
    // It reads nothing until long after the buffers are full.
    eventually("the log to grow", || (node.log("c").len() > 100_000).then_some(()));
    let (out, err, record) = read_to_end(&mut attached);
    let expected: String = (1..=200_000).map(|i| format!("{i}\n")).collect();
    assert!(out == expected.as_bytes() && err.is_empty(), "{} of {} bytes", out.len(), expected.len());
    assert_eq!(record.exit, Exit::Code(0));
    assert_eq!(node.log("c").lines().count(), 200_000);
    node.wait_for_end(monitor);
}

#[test]
fn root_a_process_that_outlives_its_container_does_not_delay_the_end() {
    let Some(node) = Node::new("root_a_process_that_outlives_its_container_does_not_delay_the_end") else { return };
    let mut client = node.start();
    let monitor = client.monitor().pid;
    let mut spec = node.spec("c", "(echo child; sleep 1000) & echo parent; sleep 0.2; exit 0");
    // The host's pid namespace: its end does not end the others.
    spec["linux"]["namespaces"] = json!([{ "type": "mount" }, { "type": "ipc" }]);
    spec["mounts"][0] = json!({ "destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"] });
    let create = node.create_request("c", &spec);
    node.create(&mut client, create);
    let begin = Instant::now();
    start(&mut client, "c");
    assert_eq!(wait(&mut client, "c").exit, Exit::Code(0));
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    let mut lines = node.log_lines("c");
    lines.sort();
    assert_eq!(lines, ["stdout F child", "stdout F parent"]);
    node.wait_for_end(monitor);
}

#[test]
fn root_a_container_killed_for_memory_is_reported_so() {
    let Some(node) = Node::new("root_a_container_killed_for_memory_is_reported_so") else { return };
    let mut client = node.start();
    let monitor = client.monitor().pid;
    let mut spec = node.spec("c", "a=x; while :; do a=$a$a; done");
    spec["linux"]["resources"] = json!({ "memory": { "limit": 16 << 20, "swap": 16 << 20 } });
    let create = node.create_request("c", &spec);
    node.create(&mut client, create);
    start(&mut client, "c");
    let record = wait(&mut client, "c");
    assert!(record.oom_killed, "{record:?}\n{}", node.journal());
    assert_eq!(record.exit, Exit::Signal(9));
    node.wait_for_end(monitor);
}

#[test]
fn root_an_idle_monitor_is_small() {
    // 384 KiB with two monitors, so that pages which only copies of one program share do not count: what a pod costs the node.
    const BOUND_KIB: u64 = 384;
    let nodes = [Node::new("root_an_idle_monitor_is_small"), Node::new("root_an_idle_monitor_is_small")];
    let [Some(first), Some(second)] = nodes else { return };
    let mut clients = [first.start(), second.start()];
    for (node, client) in [&first, &second].into_iter().zip(&mut clients) {
        let create = node.create_request("c", &node.spec("c", "seq 1 50000; echo done; exec sleep 1000"));
        node.create(client, create);
        start(client, "c");
        let mut other = node.client();
        let (_, _stdin, mut stdout, _stderr) = exec(&mut other, exec_request("c", "e", "seq 1 1000"));
        let mut out = String::new();
        stdout.read_to_string(&mut out).unwrap();
        assert_eq!(exec_exit(&mut other), Exit::Code(0));
        eventually("its output", || node.log("c").contains("stdout F done").then_some(()));
    }
    for client in &mut clients {
        let pid = client.monitor().pid;
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let field = rollup.lines().find(|line| line.starts_with("Private_Dirty:")).unwrap();
        let dirty_kib: u64 = field.split_whitespace().nth(1).unwrap().parse().unwrap();
        eprintln!("private dirty memory of monitor {pid}: {dirty_kib} KiB");
        assert!(dirty_kib <= BOUND_KIB, "{rollup}");
    }
    for (node, client) in [&first, &second].into_iter().zip(&mut clients) {
        let monitor = client.monitor().pid;
        stop(client, "c", Duration::ZERO);
        node.wait_for_end(monitor);
    }
}
