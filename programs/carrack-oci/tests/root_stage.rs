//! Containers and execs started through stages, as the monitor does, with an overlay as the root file system.

mod common;

use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::PathBuf;

use carrack_runtime::{
    CreateRequest, ExecRequest, Force, KillScope, Rootfs, Sealed, StageError, StageRequest, StageStdio, Staged,
    spawn_stage,
};
use carrack_sys::rustix::process::{WaitId, WaitIdOptions, waitid};
use carrack_words::{ContainerId, Kind};
use common::Bundle;
use serde_json::json;

/// What a test's stage needs besides the request.
struct Stage {
    sealed: Sealed,
    null: fs::File,
    out: PathBuf,
}

impl Stage {
    fn new(bundle: &Bundle) -> Self {
        // Its children come to this process when the stage ends.
        carrack_sys::task::set_child_subreaper(true).unwrap();
        let sealed = Sealed::of_program(&common::program()).unwrap();
        Self { sealed, null: fs::File::open("/dev/null").unwrap(), out: bundle.directory.join("stage-out") }
    }

    fn run(&self, request: &StageRequest) -> Result<Staged, StageError> {
        let out = fs::File::create(&self.out).unwrap();
        let stdio = StageStdio { stdin: self.null.as_fd(), stdout: out.as_fd(), stderr: out.as_fd() };
        spawn_stage(&self.sealed, request, stdio)
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.out).unwrap()
    }
}

/// Waits for the process as its parent: that is what a monitor must be.
fn wait(staged: &Staged) -> Option<i32> {
    waitid(WaitId::PidFd(staged.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap().exit_status()
}

fn overlay(bundle: &Bundle, layers: usize) -> Rootfs {
    let base = &bundle.directory;
    let mut lowers: Vec<_> = (0..layers - 1).rev().map(|number| base.join(format!("layer-{number:0>60}"))).collect();
    for (number, layer) in lowers.iter().rev().enumerate() {
        fs::create_dir(layer).unwrap();
        fs::write(layer.join("which"), number.to_string()).unwrap();
        fs::write(layer.join(format!("only-{number}")), "").unwrap();
    }
    lowers.push(base.join("rootfs"));
    for name in ["upper", "work"] {
        fs::create_dir(base.join(name)).unwrap();
    }
    Rootfs::Overlay { lowers, upper: base.join("upper"), work: base.join("work"), volatile: true }
}

fn create_request(bundle: &mut Bundle, rootfs: Rootfs) -> CreateRequest {
    CreateRequest {
        id: ContainerId::new(bundle.id()).unwrap(),
        bundle: bundle.directory.clone(),
        state_root: bundle.state_root(),
        rootfs,
        join: Vec::new(),
        no_new_keyring: false,
        preserve_fds: 0,
        listen_fds: 0,
        notify: false,
        systemd_cgroup: false,
    }
}

#[test]
fn root_a_stage_makes_a_container_on_an_overlay_of_many_layers_that_the_host_does_not_see() {
    need_root!("root_a_stage_makes_a_container_on_an_overlay_of_many_layers_that_the_host_does_not_see");
    for layers in [2, 40] {
        let mut bundle = Bundle::new("cat /which; ls -d /only-*|wc -l; echo new > /written; exec sleep 1000");
        bundle.config["root"] = json!({"path": "no-such-directory"});
        bundle.write();
        let rootfs = overlay(&bundle, layers);
        let request = create_request(&mut bundle, rootfs);
        let (id, root) = (request.id.clone(), request.state_root.clone());
        let stage = Stage::new(&bundle);
        let staged = stage.run(&StageRequest::Create(request)).unwrap();
        assert_eq!(staged.warnings, Vec::<String>::new());
        assert!(staged.console.is_none());
        carrack_runtime::start(&root, &id).unwrap();
        let exec = ExecRequest {
            id: id.clone(),
            state_root: root.clone(),
            process: serde_json::from_value(json!({
                "user": {"uid": 0, "gid": 0}, "cwd": "/", "env": ["PATH=/bin"],
                "args": ["sh", "-c", "while ! test -e /written; do :; done; cat /written; exit 6"]
            }))
            .unwrap(),
            ignore_paused: false,
            sub_groups: Default::default(),
            preserve_fds: 0,
        };
        // Before the exec truncates what the container said.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !bundle.directory.join("upper/written").exists() {
            assert!(std::time::Instant::now() < deadline, "{}", stage.said());
            std::thread::yield_now();
        }
        assert_eq!(stage.said(), format!("{}{}\n", layers - 2, layers - 1));
        let ran = stage.run(&StageRequest::Exec(exec.clone())).unwrap();
        assert_eq!(wait(&ran), Some(6));
        assert_eq!(stage.said(), "new\n");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&bundle.directory.display().to_string()), "the host sees a mount");
        let mut missing = exec;
        missing.process.args = vec!["nope".into()];
        match stage.run(&StageRequest::Exec(missing)) {
            Err(StageError::Refused { kind: Kind::NotFound, message }) => {
                assert_eq!(message, "exec: \"nope\": executable file not found in $PATH");
            }
            other => panic!("{other:?}"),
        }
        assert!(!carrack_runtime::oom_killed(&root, &id));
        carrack_runtime::kill(&root, &id, 9, KillScope::Init).unwrap();
        assert_eq!(wait(&staged), None, "it was killed by a signal");
        assert!(carrack_runtime::delete(&root, &id, Force::No).unwrap().is_empty());
        assert_eq!(bundle.leftovers(), Vec::<String>::new());
    }
}

#[test]
fn root_a_stage_hands_its_terminal_over() {
    need_root!("root_a_stage_hands_its_terminal_over");
    let mut bundle = Bundle::new("tty");
    bundle.config["process"]["terminal"] = json!(true);
    bundle.write();
    let request = create_request(&mut bundle, Rootfs::Config);
    let (id, root) = (request.id.clone(), request.state_root.clone());
    let stage = Stage::new(&bundle);
    let mut staged = stage.run(&StageRequest::Create(request)).unwrap();
    let mut console = fs::File::from(staged.console.take().unwrap());
    carrack_runtime::start(&root, &id).unwrap();
    let mut text = Vec::new();
    // The end of a terminal is an error (EIO).
    let _ = console.read_to_end(&mut text);
    assert_eq!(String::from_utf8_lossy(&text), "/dev/pts/0\r\n");
    assert_eq!(wait(&staged), Some(0));
    carrack_runtime::delete(&root, &id, Force::No).unwrap();
}

#[test]
fn root_a_stage_that_fails_says_why_and_leaves_nothing() {
    need_root!("root_a_stage_that_fails_says_why_and_leaves_nothing");
    let mut bundle = Bundle::new("true");
    bundle.config["process"]["args"] = json!(["nope"]);
    bundle.write();
    let request = create_request(&mut bundle, Rootfs::Config);
    let stage = Stage::new(&bundle);
    match stage.run(&StageRequest::Create(request)) {
        Err(StageError::Refused { kind: Kind::NotFound, message }) => {
            assert_eq!(message, "exec: \"nope\": executable file not found in $PATH");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_a_container_out_of_memory_is_told() {
    need_root!("root_a_container_out_of_memory_is_told");
    let mut bundle = Bundle::new("dd if=/dev/zero of=/dev/null bs=64M count=1; exit 3");
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 16_777_216, "swap": 16_777_216});
    bundle.write();
    let request = create_request(&mut bundle, Rootfs::Config);
    let (id, root) = (request.id.clone(), request.state_root.clone());
    let stage = Stage::new(&bundle);
    let staged = stage.run(&StageRequest::Create(request)).unwrap();
    carrack_runtime::start(&root, &id).unwrap();
    assert_eq!(wait(&staged), Some(3), "{}", stage.said());
    assert!(carrack_runtime::oom_killed(&root, &id));
    carrack_runtime::delete(&root, &id, Force::No).unwrap();
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}
