//! Filters that ask: the agent behind `listenerPath` hears of a process, and its answers are what the process's calls return.

mod common;

use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::thread::{self, JoinHandle};

use carrack_sys::fd_passing;
use carrack_sys::rustix::net::RecvFlags;
use carrack_sys::seccomp_listener::{self, Answer};
use common::Bundle;
use serde_json::{Value, json};

const EOPNOTSUPP: i32 = 95;

/// Takes one connection; answers `questions` questions with an error of its own, and returns what it was told.
fn agent(bundle: &Bundle, questions: usize) -> JoinHandle<Value> {
    let path = bundle.directory.join("agent.sock");
    let _ = fs::remove_file(&path);
    let socket = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        let (mut connection, _) = socket.accept().unwrap();
        let (mut text, mut handles) = (vec![0; 1 << 16], Vec::new());
        let length = fd_passing::receive(&connection, &mut text, &mut handles, RecvFlags::empty()).unwrap();
        text.truncate(length);
        connection.read_to_end(&mut text).unwrap();
        assert_eq!(handles.len(), 1);
        for _ in 0..questions {
            let question = seccomp_listener::receive(handles[0].as_fd()).unwrap();
            seccomp_listener::answer(handles[0].as_fd(), question.id, Answer::Error(EOPNOTSUPP)).unwrap();
        }
        serde_json::from_slice(&text).unwrap()
    })
}

/// A container whose directories somebody else has to allow.
fn asking(script: &str) -> Bundle {
    let mut bundle = Bundle::new(script);
    fs::create_dir(bundle.inside("tmp")).unwrap();
    fs::set_permissions(bundle.inside("tmp"), fs::Permissions::from_mode(0o777)).unwrap();
    bundle.config["annotations"] = json!({"of": "a test"});
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "agent.sock", "listenerMetadata": "some text",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]
    });
    bundle
}

/// The fourth handle is the directory that ls itself reads: the agent's is nobody's here.
const ASK: &str = "mkdir /tmp/x; test -e /tmp/x; echo $?; ls /proc/self/fd | wc -l";

#[test]
fn root_an_agent_answers_for_a_container_that_runs_at_once() {
    need_root!("root_an_agent_answers_for_a_container_that_runs_at_once");
    for (no_new_privileges, uid) in [(true, 0), (false, 0), (false, 1000)] {
        let mut bundle = asking(ASK);
        bundle.config["process"]["user"]["uid"] = json!(uid);
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        let agent = agent(&bundle, 1);
        let said = bundle.run();
        assert!(said.err.contains("Operation not supported"), "{said:?}");
        assert_eq!(said.out, "1\n4\n", "the kernel was not asked");
        let told = agent.join().unwrap();
        assert_eq!((&told["fds"], &told["metadata"]), (&json!(["seccompFd"]), &json!("some text")));
        assert_eq!((&told["ociVersion"], &told["state"]["ociVersion"]), (&json!("1.3.0"), &json!("1.0.2")));
        assert_eq!((&told["state"]["status"], &told["state"]["pid"]), (&json!("creating"), &told["pid"]));
        assert_eq!(told["state"]["annotations"], json!({"of": "a test"}));
        assert_eq!(told["state"]["bundle"], json!(bundle.directory));
        assert_eq!(bundle.leftovers(), Vec::<String>::new());
    }
}

#[test]
fn root_an_agent_answers_from_start_on_and_for_each_exec() {
    need_root!("root_an_agent_answers_from_start_on_and_for_each_exec");
    let mut bundle = asking("while ! mkdir /tmp/x 2>/tmp/err; do test -s /tmp/err && break; done; exec sleep 1000");
    bundle.write();
    let id = bundle.id();
    // Nobody listens yet, and nobody has to.
    assert_eq!(bundle.oci(&["create", &id]).code, 0);
    let pid = bundle.state(&id)["pid"].clone();
    let first = agent(&bundle, 1);
    let said = bundle.oci(&["start", &id]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let told = first.join().unwrap();
    assert_eq!((&told["pid"], &told["state"]["pid"]), (&pid, &pid));
    assert_eq!(told["state"]["status"], "created");
    let second = agent(&bundle, 1);
    let said = bundle.oci(&["exec", &id, "mkdir", "/tmp/y"]);
    assert!(said.err.contains("Operation not supported"), "{said:?}");
    let told = second.join().unwrap();
    assert_ne!(told["pid"], pid);
    assert_eq!((&told["state"]["pid"], &told["state"]["status"]), (&pid, &json!("running")));
    assert_eq!(bundle.oci(&["delete", "-f", &id]).code, 0);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_what_is_asked_about_after_loading_is_answered_and_only_fatal_signals_interrupt() {
    need_root!("root_what_is_asked_about_after_loading_is_answered_and_only_fatal_signals_interrupt");
    if !carrack_seccomp::KernelSupport::probe().wait_killable_recv {
        eprintln!("SKIPPED: root_what_is_asked_about_after_loading: this kernel has no WAIT_KILLABLE_RECV (5.19)");
        return;
    }
    // The calls by which the runtime itself goes on to the program.
    let mut bundle = asking("true");
    bundle.config["process"]["noNewPrivileges"] = json!(false);
    bundle.config["linux"]["seccomp"]["flags"] = json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]);
    let asked = ["read", "close", "sendmsg", "recvmsg", "capset", "prctl", "execve", "exit_group"];
    bundle.config["linux"]["seccomp"]["syscalls"][0]["names"] = json!(asked);
    let path = bundle.directory.join("agent.sock");
    let socket = UnixListener::bind(&path).unwrap();
    let agent = thread::spawn(move || {
        let (connection, _) = socket.accept().unwrap();
        let (mut text, mut handles) = (vec![0; 1 << 16], Vec::new());
        fd_passing::receive(&connection, &mut text, &mut handles, RecvFlags::empty()).unwrap();
        let mut count = 0;
        // Until the container has ended.
        while let Ok(question) = seccomp_listener::receive(handles[0].as_fd()) {
            seccomp_listener::answer(handles[0].as_fd(), question.id, Answer::Continue).unwrap();
            count += 1;
            if question.number == EXIT_GROUP {
                break;
            }
        }
        count
    });
    let said = bundle.run();
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(agent.join().unwrap() > 3);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

/// By which a program ends.
const EXIT_GROUP: i32 = if cfg!(target_arch = "x86_64") { 231 } else { 94 };

#[test]
fn root_without_an_agent_nothing_runs_and_nothing_is_left() {
    need_root!("root_without_an_agent_nothing_runs_and_nothing_is_left");
    let mut bundle = asking("echo it ran");
    let want = format!(
        "failed to connect with seccomp agent specified in the seccomp profile: {}: no such file or directory\n",
        bundle.directory.join("agent.sock").display()
    );
    let said = bundle.run();
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (1, "", want.as_str()));
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
    let id = bundle.id();
    assert_eq!(bundle.oci(&["create", &id]).code, 0);
    let said = bundle.oci(&["start", &id]);
    assert_eq!((said.code, said.err.as_str()), (1, want.as_str()));
    assert_eq!(bundle.state(&id)["status"], "stopped");
    assert_eq!(bundle.oci(&["delete", &id]).code, 0);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_a_profile_that_could_never_ask_is_refused() {
    need_root!("root_a_profile_that_could_never_ask_is_refused");
    let mut bundle = asking("true");
    for (key, value, words) in [
        ("listenerPath", json!(""), "seccomp listenerPath is not set"),
        ("defaultAction", json!("SCMP_ACT_NOTIFY"), "SCMP_ACT_NOTIFY cannot be used as default action"),
        (
            "syscalls",
            json!([{"names": ["write"], "action": "SCMP_ACT_NOTIFY"}]),
            "SCMP_ACT_NOTIFY cannot be used for the write syscall",
        ),
    ] {
        let before = bundle.config["linux"]["seccomp"][key].clone();
        bundle.config["linux"]["seccomp"][key] = value;
        let said = bundle.run();
        assert_eq!((said.code, said.err), (1, format!("seccomp: {words}\n")));
        bundle.config["linux"]["seccomp"][key] = before;
    }
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}
