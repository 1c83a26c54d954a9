//! Podman 4.3 with `--runtime`, the cgroup manager `cgroupfs`, and conmon as it starts it.

use std::process::Command;
use std::time::Duration;

use carrack_tests::command::{Ran, run, run_with_input};
use carrack_tests::image::busybox_layer;
use carrack_tests::node::Node;
use carrack_tests::pty::Terminal;
use carrack_tests::wait::wait_until;

use crate::accepted;
use crate::compare::{Accepted, Notes, assert_alike, look};
use crate::probe::{self, INSIDE, REFUSED};
use crate::{Runtime, has, has_all_capabilities, runtimes};

const ACCEPTED: &[Accepted] = &[
    accepted::IGNORED_SIGNAL,
    accepted::MASK,
    accepted::CGROUP_TMPFS,
    accepted::CGROUP_TMPFS_DENIED,
    accepted::CGROUP_TMPFS_WRITTEN,
    accepted::UNIFIED_INSIDE,
    accepted::UNIFIED_OUTSIDE,
    accepted::TUN,
    accepted::NAMED_HIERARCHY,
    accepted::SYSCTL,
    accepted::LIMIT,
    accepted::PROC,
    // The mode of what a tmpfs covers is given to it when it is made, and so is shown.
    Accepted {
        at: "flags/read-only/mountinfo",
        runc: "/root / rw,nosuid,nodev,relatime - tmpfs tmpfs rw,size=1024k",
        ours: "/root / rw,nosuid,nodev,relatime - tmpfs tmpfs rw,size=1024k,mode=755",
    },
    // The kernel makes the file system of the queues with the ipc namespace, for who is user then.
    Accepted {
        at: "flags/mapped*/dev",
        runc: "/dev/mqueue drwxrwxrwt 0:65534 0,0",
        ours: "/dev/mqueue drwxrwxrwt 65534:65534 0,0",
    },
    // runc 1.1 does not know `linux.personality`; 1.2 does.
    Accepted { at: "flags/personality/personality", runc: "00000000", ours: "00000008" },
    Accepted { at: "limits/bad-update/error", runc: "time=*warning*Setting back cgroup configs failed*", ours: "" },
    Accepted {
        at: "limits/bad-update/error",
        runc: "time=*failed to write \\\"77\\\": write /sys/fs/cgroup/cpuset/*/cpuset.cpus: numerical result out of range\"",
        ours: "write \"77\" to /sys/fs/cgroup/cpuset/*/cpuset.cpus: numerical result out of range",
    },
];

/// A machine may lack the right to raise limits to what Podman asks for.
const LIMITS: &[&str] = &["--ulimit", "nofile=1024:20000", "--ulimit", "nproc=1024:20000"];

struct Podman {
    node: Node,
    runtime: Runtime,
}

impl Podman {
    fn new() -> Self {
        let [runc, _] = runtimes();
        let podman = Self { node: Node::new("callers-podman"), runtime: runc };
        let layer = podman.node.place().file("layer.tar", busybox_layer());
        podman.run(&["import", &layer.to_string_lossy(), "box"]).ok();
        podman
    }

    fn fill(&self, command: &mut Command, arguments: &[&str]) {
        let place = self.node.place();
        command.arg("--root").arg(place.join("podman")).arg("--runroot").arg("/run/podman");
        command.args(["--cgroup-manager", "cgroupfs", "--events-backend", "file", "--storage-driver", "overlay"]);
        command.arg("--tmpdir").arg("/run/libpod").arg("--runtime").arg(&self.runtime.path).args(arguments);
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.node.fixture("podman");
        self.fill(&mut command, arguments);
        command
    }

    fn with_terminal(&self, arguments: &[&str]) -> Command {
        let mut command = self.node.inside_with_terminal("podman");
        self.fill(&mut command, arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        run(&mut self.command(arguments))
    }

    fn ok(&self, arguments: &[&str]) -> String {
        self.run(arguments).ok().trim_end().to_owned()
    }

    fn arguments(&self, flags: &[&str], program: &[&str]) -> Vec<String> {
        let mut arguments = vec!["run"];
        let is_in_a_pod = flags.contains(&"--pod");
        if !flags.contains(&"--network") && !is_in_a_pod {
            arguments.extend(["--network", "none"]);
        }
        if !is_in_a_pod {
            arguments.extend(["--hostname", "box"]);
        }
        let parent = format!("/{}", self.node.cgroup());
        if !is_in_a_pod {
            arguments.extend(["--cgroup-parent", &parent]);
        }
        arguments.extend(LIMITS);
        arguments.extend(flags);
        arguments.push("box");
        arguments.extend(program);
        arguments.into_iter().map(str::to_owned).collect()
    }

    fn container(&self, flags: &[&str], program: &[&str]) -> Ran {
        let arguments = self.arguments(flags, program);
        self.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn background(&self, name: &str, flags: &[&str]) {
        let mut all = vec!["-d", "--name", name];
        all.extend(flags);
        self.container(&all, &["sleep", "1000"]).ok();
    }

    fn inspect(&self, name: &str, format: &str) -> String {
        self.ok(&["container", "inspect", "--format", format, name])
    }

    fn pid(&self, name: &str) -> String {
        self.inspect(name, "{{.State.Pid}}")
    }

    fn remove(&self, name: &str) {
        self.ok(&["rm", "-f", "-t", "0", name]);
    }

    fn wait_for(&self, name: &str, format: &str, value: &str) {
        wait_until(&format!("{format} of {name} is {value}"), Duration::from_secs(30), || {
            self.inspect(name, format) == value
        });
    }
}

#[test]
fn root_podman_cannot_tell_the_runtimes_apart() {
    if !has("podman", &["podman", "conmon", "runc"]) {
        return;
    }
    assert_alike("podman", ACCEPTED, || {
        let mut podman = Podman::new();
        runtimes().map(|runtime| {
            podman.runtime = runtime;
            look(&podman, &podman.runtime.path, SCENARIOS)
        })
    });
}

type Scenario = fn(&Podman, &mut Notes);

const SCENARIOS: &[(&str, Scenario)] = &[
    ("plain", plain),
    ("flags", flags),
    ("refused", refused),
    ("ends", ends),
    ("terminal", terminal),
    ("exec", exec),
    ("limits", limits),
    ("pod", pod),
    ("lifecycle", lifecycle),
    ("health", health),
    ("memory", memory),
    ("left", left),
];

fn plain(podman: &Podman, notes: &mut Notes) {
    notes.inside("run", &podman.container(&["--rm"], &["sh", "-c", INSIDE]));
    notes.ran("streams", &podman.container(&["--rm"], &["sh", "-c", "echo out; echo error >&2; exit 7"]));
    let arguments = podman.arguments(&["--rm", "-i"], &["cat"]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    notes.ran("input", &run_with_input(&mut podman.command(&arguments), b"through\n"));
}

fn flags(podman: &Podman, notes: &mut Notes) {
    let shared = podman.node.place().directory("shared");
    let volume = format!("{}:/shared:ro", shared.display());
    let cases: &[(&str, &[&str])] = &[
        ("privileged", &["--privileged"]),
        ("capabilities", &["--cap-drop", "ALL", "--cap-add", "NET_ADMIN"]),
        ("user", &["--user", "1000:1001", "--group-add", "44"]),
        ("user-capability", &["--user", "web", "--cap-add", "NET_ADMIN"]),
        ("no-new-privileges", &["--security-opt", "no-new-privileges", "--security-opt", "unmask=ALL"]),
        ("no-seccomp", &["--security-opt", "seccomp=unconfined", "--security-opt", "mask=/sys/kernel:/etc/passwd"]),
        ("read-only", &["--read-only", "--tmpfs", "/root:size=1m", "-v", &volume]),
        ("sysctl", &["--sysctl", "net.ipv4.ip_unprivileged_port_start=1", "--sysctl", "kernel.msgmax=9000"]),
        ("host-pid", &["--pid", "host", "--ipc", "host"]),
        ("private-cgroup", &["--cgroupns", "private"]),
        ("host-cgroup", &["--cgroupns", "host"]),
        ("mapped", &["--uidmap", "0:100000:2000", "--gidmap", "0:200000:2000"]),
        (
            "mapped-user",
            &["--uidmap", "0:100000:2000", "--gidmap", "0:200000:2000", "--user", "web", "--cap-add", "NET_RAW"],
        ),
        ("no-cgroups", &["--cgroups", "disabled"]),
        ("no-conmon-cgroup", &["--cgroups", "no-conmon"]),
        ("devices", &["--device", "/dev/fuse:/dev/other:rm", "--device-cgroup-rule", "c 7:* rwm"]),
        ("host-network", &["--network", "host"]),
        (
            "names",
            &["--oom-score-adj", "300", "--shm-size", "1m", "--umask", "0077", "-w", "/new/place", "--env", "A=b c"],
        ),
        ("personality", &["--personality", "LINUX32"]),
    ];
    for (name, flags) in cases.iter().filter(|(_, flags)| !flags.contains(&"--privileged") || has_all_capabilities()) {
        let mut all = vec!["--rm"];
        all.extend(*flags);
        notes.inside(name, &podman.container(&all, &["sh", "-c", INSIDE]));
    }
}

/// What the container may not do, by capabilities, seccomp, device rules and masks.
fn refused(podman: &Podman, notes: &mut Notes) {
    let cases: &[(&str, &[&str])] = &[
        ("plain", &[]),
        ("no-seccomp", &["--security-opt", "seccomp=unconfined"]),
        ("capabilities", &["--cap-add", "SYS_ADMIN", "--cap-add", "MKNOD", "--cap-drop", "CHOWN"]),
        ("user", &["--user", "web"]),
        ("mapped", &["--uidmap", "0:100000:2000", "--gidmap", "0:200000:2000"]),
    ];
    for (name, flags) in cases {
        let mut all = vec!["--rm"];
        all.extend(*flags);
        notes.ran(name, &podman.container(&all, &["sh", "-c", REFUSED]));
    }
}

fn ends(podman: &Podman, notes: &mut Notes) {
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("killed", &[], &["sh", "-c", "kill -9 $$"]),
        ("missing", &[], &["no-such-program"]),
        ("missing-path", &[], &["/no/such/program"]),
        ("not-a-program", &[], &["/etc/not-a-program"]),
        ("directory", &[], &["/etc"]),
        ("missing-user", &["--user", "nobody-at-all"], &["true"]),
        ("bad-sysctl", &["--sysctl", "net.no.such=1"], &["true"]),
        ("bad-cpus", &["--cpuset-cpus", "77"], &["true"]),
        ("hard-limit", &["--ulimit", "nofile=1000000000:1000000000"], &["true"]),
        ("mount-of-proc", &["-v", "/etc:/proc"], &["true"]),
    ];
    for (name, flags, program) in cases {
        let mut all = vec!["--name", "end"];
        all.extend(*flags);
        notes.ran(name, &podman.container(&all, program));
        let state = podman.run(&["container", "inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "end"]);
        notes.note(&format!("{name}/state"), state.stdout);
        podman.run(&["rm", "-f", "end"]);
    }
}

fn terminal(podman: &Podman, notes: &mut Notes) {
    let script = "until [ \"$(stty size 2>/dev/null)\" = '24 80' ]; do sleep 0.01; done; tty; \
                  until [ \"$(stty size)\" = '33 99' ]; do sleep 0.01; done; echo resized; read line; echo got $line; exit 5";
    let arguments = podman.arguments(&["--rm", "-it"], &["sh", "-c", script]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut terminal = Terminal::start(&mut podman.with_terminal(&arguments));
    terminal.wait_for("/dev/pts/0\r\n");
    terminal.resize(33, 99);
    terminal.wait_for("resized");
    terminal.send("word\n");
    terminal.wait_for("got word");
    notes.note("seen", terminal.seen());
    notes.note("code", terminal.finish().to_string());
    notes.inside("inside", &podman.container(&["--rm", "-t"], &["sh", "-c", INSIDE]));
}

fn exec(podman: &Podman, notes: &mut Notes) {
    podman.background("target", &["--user", "web", "--cap-add", "NET_ADMIN", "--pids-limit", "50"]);
    notes.inside("inside", &podman.run(&["exec", "target", "sh", "-c", INSIDE]));
    notes.inside("root", &podman.run(&["exec", "-u", "0", "-w", "/tmp", "-e", "A=b", "target", "sh", "-c", INSIDE]));
    notes.inside("terminal", &podman.run(&["exec", "-t", "target", "sh", "-c", INSIDE]));
    notes.ran("streams", &podman.run(&["exec", "target", "sh", "-c", "echo out; echo error >&2; exit 9"]));
    notes.ran("killed", &podman.run(&["exec", "target", "sh", "-c", "kill -9 $$"]));
    notes.ran("missing", &podman.run(&["exec", "target", "no-such-program"]));
    notes.ran("missing-path", &podman.run(&["exec", "target", "/no/such"]));
    notes.ran("not-a-program", &podman.run(&["exec", "target", "/etc/not-a-program"]));
    notes.ran("directory", &podman.run(&["exec", "-w", "/no/such", "target", "true"]));
    notes.ran("user", &podman.run(&["exec", "-u", "nobody-at-all", "target", "true"]));
    notes.ran("input", &run_with_input(&mut podman.command(&["exec", "-i", "target", "cat"]), b"in\n"));
    notes.ran("detached", &podman.run(&["exec", "-d", "target", "touch", "/tmp/made"]));
    wait_until("the detached program has run", Duration::from_secs(20), || {
        podman.run(&["exec", "target", "test", "-f", "/tmp/made"]).code == 0
    });
    podman.ok(&["pause", "target"]);
    notes.ran("paused", &podman.run(&["exec", "target", "true"]));
    podman.ok(&["unpause", "target"]);
    notes.note("top", podman.ok(&["top", "target", "user", "args", "capeff", "seccomp"]));
    podman.remove("target");
}

fn limits(podman: &Podman, notes: &mut Notes) {
    let cases: &[(&str, &[&str])] = &[
        ("none", &[]),
        (
            "memory",
            &["--memory", "64m", "--memory-reservation", "32m", "--memory-swap", "128m", "--memory-swappiness", "30"],
        ),
        ("cpu", &["--cpus", "0.5", "--cpu-shares", "512", "--cpuset-cpus", "0", "--cpuset-mems", "0"]),
        ("pids", &["--pids-limit", "77", "--oom-score-adj", "123", "--oom-kill-disable", "--memory", "64m"]),
        ("no-conmon", &["--cgroups", "no-conmon"]),
    ];
    for (name, flags) in cases {
        podman.background("limited", flags);
        notes.note(name, probe::outside(&podman.node, &podman.pid("limited")));
        podman.remove("limited");
    }
    podman.background("limited", &["--memory", "64m"]);
    let flags =
        ["--memory", "128m", "--memory-swap", "256m", "--cpus", "0.3", "--pids-limit", "33", "--cpuset-cpus", "1"];
    notes.ran("update", &podman.run(&[&["update"], &flags[..], &["limited"]].concat()));
    notes.note("updated", probe::outside(&podman.node, &podman.pid("limited")));
    notes.ran("bad-update", &podman.run(&["update", "--cpuset-cpus", "77", "limited"]));
    let used = podman.ok(&["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}} {{.MemUsage}}", "limited"]);
    let limit = used.split_once('/').map_or("", |(_, limit)| limit);
    notes.note("stats", format!("{} {limit}", used.split_whitespace().take(2).collect::<Vec<_>>().join(" ")));
    notes.ran("checkpoint", &podman.run(&["container", "checkpoint", "limited"]));
    podman.remove("limited");
}

fn pod(podman: &Podman, notes: &mut Notes) {
    let parent = format!("/{}", podman.node.cgroup());
    let create =
        ["pod", "create", "--name", "peas", "--network", "none", "--hostname", "pod", "--share", "ipc,net,uts,pid"];
    let infra = ["--infra-image", "box", "--infra-command", "/bin/sleep 1000", "--cgroup-parent", &parent];
    notes.ran("create", &podman.run(&[&create[..], &infra[..]].concat()));
    notes.inside("member", &podman.container(&["--rm", "--pod", "peas"], &["sh", "-c", INSIDE]));
    podman.background("one", &["--pod", "peas"]);
    notes.note("outside", probe::outside(&podman.node, &podman.pid("one")));
    notes.ran("pause", &podman.run(&["pod", "pause", "peas"]));
    notes.note("paused", podman.inspect("one", "{{.State.Status}}"));
    notes.ran("unpause", &podman.run(&["pod", "unpause", "peas"]));
    // Podman stops the containers in any order: those whose pid namespace ended with the first one may be told of as not running.
    notes.note("stop", podman.run(&["pod", "stop", "-t", "0", "peas"]).code.to_string());
    notes.note("stopped", podman.inspect("one", "{{.State.Status}} {{.State.ExitCode}}"));
    notes.ran("remove", &podman.run(&["pod", "rm", "-f", "-t", "0", "peas"]));
}

fn lifecycle(podman: &Podman, notes: &mut Notes) {
    let state = "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}} {{.State.Error}}";
    let trap = "trap 'echo caught; exit 4' TERM; trap 'echo user' USR1; echo ready; while :; do sleep 0.05; done";
    podman.container(&["-d", "--name", "one"], &["sh", "-c", trap]).ok();
    let logs = |text: &str| {
        wait_until(&format!("{text} is logged"), Duration::from_secs(20), || {
            podman.ok(&["logs", "one"]).contains(text)
        });
    };
    logs("ready");
    notes.ran("pause", &podman.run(&["pause", "one"]));
    notes.note("paused", podman.inspect("one", state));
    notes.note("frozen", probe::outside(&podman.node, &podman.pid("one")));
    notes.ran("pause-again", &podman.run(&["pause", "one"]));
    notes.ran("unpause", &podman.run(&["unpause", "one"]));
    notes.ran("kill", &podman.run(&["kill", "-s", "USR1", "one"]));
    logs("user");
    notes.ran("stop", &podman.run(&["stop", "-t", "20", "one"]));
    notes.note("stopped", podman.inspect("one", state));
    notes.ran("logs", &podman.run(&["logs", "one"]));
    notes.ran("kill-stopped", &podman.run(&["kill", "one"]));
    notes.ran("restart", &podman.run(&["restart", "one"]));
    notes.ran("kill-hard", &podman.run(&["kill", "one"]));
    podman.wait_for("one", "{{.State.Status}}", "exited");
    notes.note("killed", podman.inspect("one", state));
    notes.ran("start", &podman.run(&["start", "one"]));
    notes.ran("diff", &podman.run(&["diff", "one"]));
    notes.ran("remove", &podman.run(&["rm", "-f", "-t", "0", "one"]));
    podman.container(&["-d", "--name", "again", "--restart", "on-failure:2"], &["sh", "-c", "echo run; exit 3"]).ok();
    podman.wait_for("again", "{{.State.Status}} {{.RestartCount}}", "exited 2");
    notes.note("restarts", podman.ok(&["logs", "again"]));
    podman.remove("again");
}

fn health(podman: &Podman, notes: &mut Notes) {
    podman.background(
        "patient",
        &["--health-cmd", "test -f /tmp/well", "--health-interval", "disable", "--health-retries", "1"],
    );
    notes.ran("ill", &podman.run(&["healthcheck", "run", "patient"]));
    podman.ok(&["exec", "patient", "touch", "/tmp/well"]);
    notes.ran("well", &podman.run(&["healthcheck", "run", "patient"]));
    notes.note("state", podman.inspect("patient", "{{.State.Health.Status}} {{.State.Health.FailingStreak}}"));
    podman.remove("patient");
}

fn memory(podman: &Podman, notes: &mut Notes) {
    let hungry = ["sh", "-c", "tail /dev/zero"];
    notes.ran("run", &podman.container(&["--name", "hungry", "--memory", "8m", "--memory-swap", "8m"], &hungry));
    notes.note("state", podman.inspect("hungry", "{{.State.ExitCode}} {{.State.OOMKilled}}"));
    podman.remove("hungry");
}

/// Nothing of a container is left in the runtime's state directory or in the host's cgroups. The group of a pod stays in hierarchies that Podman
/// does not know.
fn left(podman: &Podman, notes: &mut Notes) {
    notes.note("containers", podman.ok(&["ps", "-aq"]));
    let groups = podman.node.leaks().into_iter().filter(|leak| leak.contains("/libpod-"));
    notes.note("groups", groups.collect::<Vec<_>>().join("\n"));
    let state = format!("ls /run/{}", podman.runtime.name);
    notes.note("state", run(podman.node.inside(carrack_tests::programs::busybox()).args(["sh", "-c", &state])).stdout);
}
