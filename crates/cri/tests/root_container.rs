//! Containers: programs, ends, rights, limits and logs.

mod fixture;

use std::fs;
use std::time::{Duration, Instant};

use carrack_cri_proto::v1;
use carrack_tests::log::stream;
use carrack_tests::wait::{wait_for, wait_until};
use fixture::{PATIENCE, with_daemon};
use tonic::Code;

#[test]
fn root_exec_sync_tells_code_and_output_and_keeps_its_deadline() {
    with_daemon("exec-sync", |stage| {
        let cri = stage.cri();
        let pod = stage.run_pod("exec");
        let id = stage.run(&pod, stage.container_config("app", &["sleep", "1000"]));

        let answer = cri.exec(&id, &["sh", "-c", "echo out; echo err >&2; exit 3"], 10).expect("it runs");
        assert_eq!((&*answer.stdout, &*answer.stderr, answer.exit_code), (&b"out\n"[..], &b"err\n"[..], 3));
        let killed = cri.exec(&id, &["sh", "-c", "kill -9 $$"], 10).expect("it runs");
        assert_eq!(killed.exit_code, 137);

        let begin = Instant::now();
        let late = cri.exec(&id, &["sh", "-c", "sleep 500 & sleep 600"], 1).expect_err("its time is over");
        assert_eq!(late.code(), Code::DeadlineExceeded, "{late:?}");
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
        wait_until("what the late program started is gone", PATIENCE, || {
            !stage.shell(&id, "ps -o args").contains("sleep 600")
        });

        // A child that is left behind with the pipes open does not hold the answer up.
        let begin = Instant::now();
        let left = cri.exec(&id, &["sh", "-c", "sleep 30 & echo done"], 25).expect("it runs");
        assert_eq!((&*left.stdout, left.exit_code), (&b"done\n"[..], 0));
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());

        let flood =
            "dd if=/dev/zero bs=1M count=40 2>/dev/null; dd if=/dev/zero bs=1M count=40 2>/dev/null >&2; exit 5";
        let cut = cri.exec(&id, &["sh", "-c", flood], 60).expect("the answer fits into a message");
        assert_eq!(cut.exit_code, 5, "the program was not disturbed");
        let kept = cut.stdout.len() + cut.stderr.len();
        assert!((15 << 20..=16 << 20).contains(&kept), "{kept}");

        let missing = cri.exec(&id, &["no-such-program"], 10).expect_err("there is none");
        assert!(missing.message().contains("executable file not found"), "{missing:?}");
        assert_eq!(cri.exec(&id, &[], 10).expect_err("no program").code(), Code::InvalidArgument);
        assert_eq!(cri.exec(&id, &["true"], -1).expect_err("no such time").code(), Code::InvalidArgument);
        cri.stop(&id, 0).expect("it stops");
        assert_eq!(cri.exec(&id, &["true"], 10).expect_err("it does not run").code(), Code::FailedPrecondition);
        cri.remove_pod(&pod).expect("it goes");
    });
}

#[test]
fn root_every_end_has_its_reason_code_and_times() {
    with_daemon("ends", |stage| {
        let cri = stage.cri();
        let pod = stage.run_pod("ends");
        let ended = |name: &str, command: &[&str]| {
            let id = stage.run(&pod, stage.container_config(name, command));
            stage.exited(&id)
        };
        let fine = ended("fine", &["true"]);
        assert_eq!((fine.reason.as_str(), fine.exit_code), ("Completed", 0));
        assert!(
            0 < fine.created_at && fine.created_at <= fine.started_at && fine.started_at <= fine.finished_at,
            "{fine:?}"
        );
        let failed = ended("failed", &["sh", "-c", "exit 42"]);
        assert_eq!((failed.reason.as_str(), failed.exit_code), ("Error", 42));

        let id = stage.run(&pod, stage.container_config("stopped", &["sleep", "1000"]));
        let running = cri.status(&id).expect("its status");
        assert_eq!((running.state(), running.finished_at), (v1::ContainerState::ContainerRunning, 0));
        assert!(running.started_at > 0);
        let begin = Instant::now();
        cri.stop(&id, 1).expect("it stops");
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
        // The first process of a pid namespace ignores SIGTERM unless it asks for it.
        let stopped = stage.exited(&id);
        assert_eq!((stopped.reason.as_str(), stopped.exit_code), ("Error", 137));

        let mut polite =
            stage.container_config("polite", &["sh", "-c", "trap 'exit 9' INT; while true; do sleep 0.05; done"]);
        polite.stop_signal = v1::Signal::Sigint.into();
        let id = stage.run(&pod, polite);
        assert_eq!(cri.status(&id).expect("its status").stop_signal(), v1::Signal::Sigint);
        // Until the shell has set its trap the signal does nothing.
        wait_until("the trap is set", PATIENCE, || {
            let caught = stage.shell(&id, "grep SigCgt /proc/1/status");
            let mask = caught.split_whitespace().last().and_then(|mask| u64::from_str_radix(mask, 16).ok());
            mask.is_some_and(|mask| mask & 2 != 0)
        });
        cri.stop(&id, 30).expect("it stops");
        assert_eq!(stage.exited(&id).exit_code, 9);

        let id = stage.create(&pod, stage.container_config("unstartable", &["/etc/not-there"])).expect("made");
        let created = cri.status(&id).expect("its status");
        assert_eq!((created.state(), created.started_at), (v1::ContainerState::ContainerCreated, 0));
        let refused = cri.start(&id).expect_err("there is no such program");
        assert!(refused.message().contains("/etc/not-there"), "{refused:?}");
        let status = stage.exited(&id);
        assert_eq!((status.reason.as_str(), status.exit_code, status.started_at), ("StartError", 128, 0), "{status:?}");
        assert!(status.message.contains("/etc/not-there"), "{status:?}");

        let mut hungry = stage.container_config("hungry", &["sh", "-c", "tail /dev/zero"]);
        let limit = v1::LinuxContainerResources { memory_limit_in_bytes: 24 << 20, ..Default::default() };
        hungry.linux = Some(v1::LinuxContainerConfig { resources: Some(limit.clone()), security_context: None });
        let id = stage.run(&pod, hungry);
        let status = stage.exited(&id);
        assert_eq!((status.reason.as_str(), status.exit_code), ("OOMKilled", 137), "{status:?}");
        let told = status.resources.and_then(|resources| resources.linux).expect("the limits are told");
        assert_eq!(told.memory_limit_in_bytes, limit.memory_limit_in_bytes);
        cri.remove_pod(&pod).expect("it goes");
    });
}

#[test]
fn root_what_the_kubelet_asks_for_reaches_the_process() {
    with_daemon("kubelet", |stage| {
        let cri = stage.cri();
        let pod = stage.run_pod("kubelet");
        let host_file = stage.node.place().file("termination", "");
        let page = |size: &str| v1::HugepageLimit { page_size: size.into(), limit: 0 };
        let mut config = stage.container_config("app", &["sleep", "1000"]);
        config.envs = vec![v1::KeyValue { key: "GREETING".into(), value: "gr\u{fc}\u{df}e = all".into() }];
        config.working_dir = "/tmp/work".into();
        config.mounts = vec![
            v1::Mount {
                container_path: "/dev/termination-log".into(),
                host_path: host_file.to_string_lossy().into_owned(),
                ..Default::default()
            },
            v1::Mount {
                container_path: "/mnt/ro".into(),
                host_path: stage.node.place().path().to_string_lossy().into_owned(),
                readonly: true,
                ..Default::default()
            },
        ];
        config.linux = Some(v1::LinuxContainerConfig {
            resources: Some(v1::LinuxContainerResources {
                cpu_shares: 2,
                memory_limit_in_bytes: 64 << 20,
                oom_score_adj: 985,
                hugepage_limits: vec![page("2MB"), page("1GB"), page("64KB")],
                ..Default::default()
            }),
            security_context: Some(v1::LinuxContainerSecurityContext {
                run_as_user: Some(v1::Int64Value { value: 1000 }),
                run_as_group: Some(v1::Int64Value { value: 5000 }),
                supplemental_groups: vec![7000],
                capabilities: Some(v1::Capability { drop_capabilities: vec!["ALL".into()], ..Default::default() }),
                no_new_privs: true,
                readonly_rootfs: true,
                seccomp: Some(v1::SecurityProfile::default()),
                masked_paths: vec!["/proc/kcore".into()],
                readonly_paths: vec!["/proc/sys".into()],
                namespace_options: Some(v1::NamespaceOption {
                    pid: v1::NamespaceMode::Container.into(),
                    ..Default::default()
                }),
                ..Default::default()
            }),
        });
        let id = stage.run(&pod, config);
        assert_eq!(
            stage.shell(&id, "echo $GREETING; pwd; id -u; id -g"),
            "gr\u{fc}\u{df}e = all\n/tmp/work\n1000\n5000"
        );
        // The user's groups in the image and those that were listed.
        assert_eq!(stage.shell(&id, "grep Groups: /proc/1/status | tr -s '\\t ' ' '"), "Groups: 44 7000");
        let field = |name: &str| stage.shell(&id, &format!("grep ^{name}: /proc/1/status | cut -f2"));
        assert_eq!((field("CapBnd").as_str(), field("NoNewPrivs").as_str()), ("0000000000000000", "1"));
        assert_eq!(field("Seccomp"), "2");
        assert_eq!(stage.shell(&id, "cat /proc/1/oom_score_adj"), "985");
        assert_eq!(stage.shell(&id, "head -c1 /proc/kcore | wc -c"), "0");
        for path in ["/mnt/ro/x", "/x", "/proc/sys/kernel/hostname"] {
            let answer = cri.exec(&id, &["sh", "-c", &format!("echo x > {path}")], 10).expect("the shell runs");
            assert_ne!(answer.exit_code, 0, "{path} is writable");
        }

        let status = cri.status(&id).expect("its status");
        let user = status.user.and_then(|user| user.linux).expect("a user");
        assert_eq!((user.uid, user.gid, user.supplemental_groups), (1000, 5000, vec![44, 7000]));
        let mounted = status.mounts.iter().find(|mount| mount.container_path == "/dev/termination-log");
        assert_eq!(mounted.map(|mount| mount.host_path.clone()), Some(host_file.to_string_lossy().into_owned()));
        assert_eq!(status.log_path, stage.logs().join("kubelet/app.log").to_string_lossy());
        assert_eq!(status.image_id, stage.image);
        cri.remove_pod(&pod).expect("it goes");
    });
}

#[test]
fn root_what_cannot_be_is_refused_and_leaves_nothing() {
    with_daemon("refusals", |stage| {
        let cri = stage.cri();
        let pod = stage.run_pod("refusals");
        let config = || stage.container_config("app", &["true"]);
        let context = |context: v1::LinuxContainerSecurityContext| {
            let linux = v1::LinuxContainerConfig { resources: None, security_context: Some(context) };
            v1::ContainerConfig { linux: Some(linux), ..config() }
        };
        type Context = v1::LinuxContainerSecurityContext;
        for (wrong, code, said) in [
            (context(Context { privileged: true, ..Default::default() }), Code::InvalidArgument, "not privileged"),
            (
                context(Context { run_as_username: "nobody-there".into(), ..Default::default() }),
                Code::InvalidArgument,
                "nobody-there",
            ),
            (
                context(Context { run_as_group: Some(v1::Int64Value { value: 1 }), ..Default::default() }),
                Code::InvalidArgument,
                "run_as_group",
            ),
            (
                v1::ContainerConfig { log_path: "../../etc/cron.d/x".into(), ..config() },
                Code::InvalidArgument,
                "log_path",
            ),
            (
                v1::ContainerConfig { cdi_devices: vec![v1::CdiDevice { name: "v/c=1".into() }], ..config() },
                Code::Unimplemented,
                "CDI",
            ),
            (
                v1::ContainerConfig {
                    image: Some(v1::ImageSpec { image: "no-such-image".into(), ..Default::default() }),
                    ..config()
                },
                Code::NotFound,
                "no-such-image",
            ),
        ] {
            let refused = stage.create(&pod, wrong).expect_err(said);
            assert_eq!(refused.code(), code, "{refused:?}");
            assert!(refused.message().contains(said), "{refused:?}");
        }
        assert_eq!(stage.create("no-such-pod", config()).expect_err("unknown").code(), Code::NotFound);
        assert!(cri.containers().expect("a list").is_empty());
        // The name is still free.
        stage.create(&pod, config()).expect("made");
        cri.remove_pod(&pod).expect("it goes");
    });
}

#[test]
fn root_logs_are_in_the_interfaces_format_and_survive_rotation() {
    with_daemon("logs", |stage| {
        let cri = stage.cri();
        let pod = stage.run_pod("logs");
        let id =
            stage.run(&pod, stage.container_config("brief", &["sh", "-c", "echo one; echo two >&2; printf three"]));
        stage.exited(&id);
        let records = wait_for("the log is whole", PATIENCE, || {
            let records = stage.log("logs", "brief.log");
            (records.len() == 3).then_some(records)
        });
        assert_eq!((stream(&records, "stdout").as_str(), stream(&records, "stderr").as_str()), ("one\nthree", "two\n"));

        let reopen = |id: &str| {
            let request = v1::ReopenContainerLogRequest { container_id: id.into() };
            cri.runtime(async |mut client| client.reopen_container_log(request).await)
        };
        let brief = stage.logs().join("logs/brief.log");
        fs::rename(&brief, brief.with_extension("old")).expect("a rotation");
        assert_eq!(reopen(&id).expect_err("it does not run").code(), Code::FailedPrecondition);
        assert!(!brief.exists());

        let count = "i=0; while true; do i=$((i+1)); echo $i; done";
        let id = stage.run(&pod, stage.container_config("counter", &["sh", "-c", count]));
        let log = stage.logs().join("logs/counter.log");
        let mut rotated = Vec::new();
        for turn in 0..5 {
            wait_until("the log grows", PATIENCE, || fs::metadata(&log).is_ok_and(|facts| facts.len() > 1000));
            let old = stage.logs().join(format!("logs/counter.log.{turn}"));
            fs::rename(&log, &old).expect("a rotation");
            reopen(&id).expect("the log continues at its path");
            assert!(log.exists());
            rotated.push(old);
        }
        cri.stop(&id, 0).expect("it stops");
        rotated.push(log);
        let mut next = 1;
        for path in rotated {
            let text = fs::read_to_string(&path).expect("a log");
            for record in carrack_tests::log::parse(&text) {
                // The last line may have been cut short by the kill.
                if record.is_full {
                    assert_eq!(record.content, next.to_string(), "in {}", path.display());
                    next += 1;
                }
            }
        }
        assert!(next > 1000, "{next}");
        cri.remove_pod(&pod).expect("it goes");
        assert!(stage.logs().join("logs/counter.log").exists(), "logs stay");
    });
}
