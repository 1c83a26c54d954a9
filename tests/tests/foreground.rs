//! A person with a container in the foreground: leaving it, coming back, losing the terminal, wanting out.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use carrack_sys::rustix::process::Signal;
use carrack_tests::command::{DEADLINE, run, run_with_input};
use carrack_tests::node::{Node, with_busybox};
use carrack_tests::pty::Terminal;
use carrack_tests::wait::wait_until;

const DETACH: &str = "\u{10}\u{11}";

fn processes(node: &Node) -> String {
    run(node.fixture("ps").arg("-eo").arg("args")).ok()
}

#[test]
fn root_the_detach_keys_say_what_was_left_and_attach_comes_back() {
    let (node, _registry, image) = with_busybox("detach-attach");
    let mut terminal =
        Terminal::start(&mut node.carrack_with_terminal(&["run", "-it", "--name", "ship", &image, "sh"]));
    terminal.wait_for("# ");
    terminal.send("course=north\n");
    terminal.send(DETACH);
    terminal.wait_for("\ndetached: container ");
    terminal.wait_until_cooked();
    let short = node.inspect("ship")["Id"].as_str().unwrap()[..12].to_owned();
    assert!(terminal.seen().contains(&short), "{}", terminal.seen());
    assert_eq!(terminal.finish(), 0);
    let mut terminal = Terminal::start(&mut node.carrack_with_terminal(&["attach", &short]));
    terminal.send("echo course is $course\n");
    terminal.wait_for("course is north");
    terminal.send("exit 4\n");
    assert_eq!(terminal.finish(), 4);
    // And a stopped one can be started in the foreground.
    let mut terminal = Terminal::start(&mut node.carrack_with_terminal(&["start", "-ai", "ship"]));
    terminal.send("echo course is [$course]\n");
    terminal.wait_for("course is []");
    terminal.send("exit 5\n");
    assert_eq!(terminal.finish(), 5);
    node.run(&["attach", "ship"]).fails(125, "not a terminal");
    node.run(&["attach", "--no-stdin", "ship"]).fails(125, "not running");
    node.ok(&["rm", "ship"]);
    node.finish();
}

#[test]
fn root_start_and_attach_without_a_terminal_pass_streams_and_the_exit_code() {
    let (node, _registry, image) = with_busybox("start-attach");
    assert_eq!(node.run(&["run", "--name", "ship", &image, "sh", "-c", "echo out; echo err >&2; exit 3"]).code, 3);
    let ran = node.run(&["start", "-a", "ship"]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (3, "out\n", "err\n"), "{ran}");
    node.ok(&["rm", "ship"]);
    node.ok(&["run", "-d", "-i", "--name", "ship", &image, "sh", "-c", "read line; echo got $line; exit 6"]);
    let ran = run_with_input(&mut node.carrack(&["attach", "ship"]), b"orders\n");
    assert_eq!((ran.code, ran.stdout.as_str()), (6, "got orders\n"), "{ran}");
    node.ok(&["rm", "ship"]);
    node.finish();
}

#[test]
fn root_detaching_from_an_exec_leaves_its_command_running() {
    let (node, _registry, image) = with_busybox("exec-detach");
    node.ok(&["run", "-d", "--name", "ship", &image, "sleep", "1000"]);
    let mut terminal = Terminal::start(&mut node.carrack_with_terminal(&["exec", "-it", "ship", "sh"]));
    terminal.wait_for("# ");
    // Far more than a terminal holds is written after nobody reads it any more.
    terminal.send("(until [ -e /go ]; do sleep 0.1; done; seq 1 20000; echo done > /done; sleep 1000)\n");
    wait_until("the command runs", DEADLINE, || node.ok(&["exec", "ship", "ps", "-o", "args"]).contains("sleep 0.1"));
    terminal.send(DETACH);
    terminal.wait_for("\ndetached: the command runs on in container ship");
    terminal.wait_until_cooked();
    assert_eq!(terminal.finish(), 0);
    node.ok(&["exec", "ship", "touch", "/go"]);
    wait_until("the command goes on", DEADLINE, || node.run(&["exec", "ship", "cat", "/done"]).stdout == "done\n");
    assert!(processes(&node).contains("sleep 1000"));
    // The monitor ends with its container all the same.
    node.ok(&["rm", "-f", "ship"]);
    node.finish();
}

#[test]
fn root_a_closed_terminal_ends_the_client_and_the_container_gets_sighup() {
    let (node, _registry, image) = with_busybox("hang-up");
    let client_is_gone = || wait_until("the client is gone", DEADLINE, || !processes(&node).contains(" run -it"));
    let script = "trap 'echo hung up; exit 7' HUP; echo ready; while :; do sleep 0.1; done";
    let terminal =
        Terminal::start(&mut node.carrack_with_terminal(&["run", "-it", "--name", "ship", &image, "sh", "-c", script]));
    terminal.wait_for("ready");
    let mut child = terminal.hang_up();
    client_is_gone();
    child.wait().unwrap();
    node.wait_for_state("ship", "exited");
    assert_eq!(node.inspect("ship")["State"]["ExitCode"], 7);
    assert!(node.ok(&["logs", "ship"]).contains("hung up"));
    node.ok(&["rm", "ship"]);
    // One that does not care goes on, though it writes to its terminal; a first process need not even say so.
    for trap in ["trap '' HUP; ", ""] {
        let script = format!("{trap}while :; do echo ready; sleep 0.1; done");
        let arguments = ["run", "-it", "--name", "ship", &image, "sh", "-c", &script];
        let terminal = Terminal::start(&mut node.carrack_with_terminal(&arguments));
        terminal.wait_for("ready");
        let mut child = terminal.hang_up();
        client_is_gone();
        child.wait().unwrap();
        let lines = || node.ok(&["logs", "ship"]).lines().count();
        let before = lines();
        wait_until("it goes on", DEADLINE, || lines() > before + 3);
        assert_eq!(node.state("ship"), "running");
        node.ok(&["rm", "-f", "ship"]);
    }
    node.finish();
}

#[test]
fn root_the_third_interrupt_leaves_a_container_that_does_not_end() {
    let (node, _registry, image) = with_busybox("third-interrupt");
    let script = "trap 'echo no' INT; echo ready; while :; do sleep 0.1; done";
    let running = node.start(&["run", "--name", "ship", &image, "sh", "-c", script]);
    running.wait_for_output("ready");
    for nth in 1..=2 {
        node.signal_inside(&running, Signal::INT);
        wait_until("it is refused", DEADLINE, || running.stdout().matches("no\n").count() == nth);
    }
    node.signal_inside(&running, Signal::INT);
    let ran = running.finish(DEADLINE).fails(130, "carrack kill ");
    assert!(ran.stderr.contains("does not end"), "{ran}");
    assert_eq!(node.state("ship"), "running");
    node.ok(&["rm", "-f", "ship"]);
    node.finish();
}

#[test]
fn root_several_containers_are_stopped_at_once() {
    let (node, _registry, image) = with_busybox("stop-several");
    let names = ["one", "two", "three", "four"];
    for name in names {
        // The first process of a container ignores what it does not handle.
        node.ok(&["run", "-d", "--name", name, &image, "sleep", "1000"]);
    }
    let started = Instant::now();
    let mut arguments = vec!["stop", "-t", "4"];
    arguments.extend(names);
    assert_eq!(node.ok(&arguments).lines().collect::<Vec<_>>(), names);
    assert!(started.elapsed() < Duration::from_secs(14), "one after the other takes 16 s: {:?}", started.elapsed());
    let ran = node.run(&["rm", "one", "missing", "two", "three", "four"]);
    assert_eq!(ran.stdout, "one\ntwo\nthree\nfour\n", "{ran}");
    ran.fails(1, "no such container: missing");
    node.finish();
}
