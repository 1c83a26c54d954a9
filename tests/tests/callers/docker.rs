//! Docker 20.10: `dockerd` with carrack-oci as its default runtime, and runc beside it.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use carrack_tests::command::{Ran, Running, run, start};
use carrack_tests::image::busybox_layer;
use carrack_tests::node::Node;
use carrack_tests::pty::Terminal;
use carrack_tests::wait::{wait_for, wait_until};

use crate::accepted;
use crate::compare::{Accepted, Notes, assert_alike, look};
use crate::probe::{self, INSIDE, REFUSED};
use crate::{Runtime, has, has_all_capabilities, runtimes};

/// Debian's client: another one may stand before it on the search path.
const CLIENT: &str = "/usr/bin/docker";

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
    // Go's runtime mounts by a path of /proc/self/fd, with the host's path of the root.
    Accepted {
        at: "ends/mount-over-file/*",
        runc: "*error mounting \"/etc\" to rootfs at \"/etc/passwd\": mount /etc:/etc/passwd (via *), flags: 0x5000: not a directory: *",
        ours: "*error mounting \"/etc\" to rootfs at \"/etc/passwd\": create directory /etc/passwd: not a directory: *",
    },
    // runc 1.1 gives a tmpfs the mode of what it covers even where another one is asked for; 1.2 does not.
    Accepted { at: "flags/read-only/root", runc: "/tmp drwxrwxrwt 0:0", ours: "/tmp drwx------ 0:0" },
];

/// A daemon, and which of its runtimes is used.
struct Docker {
    node: Node,
    daemon: Option<Running>,
    runtime: Runtime,
}

impl Docker {
    fn start() -> Self {
        let [runc, ours] = runtimes();
        let node = Node::new("callers-docker");
        let place = node.place();
        let mut command = node.fixture("dockerd");
        command.arg("--data-root").arg(place.join("docker")).arg("--exec-root").arg("/run/docker");
        command.args([
            "--bridge",
            "none",
            "--iptables=false",
            "--ip6tables=false",
            "--ip-forward=false",
            "--ip-masq=false",
        ]);
        command.args(["--storage-driver", "overlay2", "--containerd", "", "--default-runtime", ours.name]);
        command.arg("--add-runtime").arg(format!("{}={}", ours.name, ours.path.display()));
        command.arg("--cgroup-parent").arg(format!("/{}", node.cgroup()));
        let daemon = start(command.stdin(Stdio::null()));
        let docker = Self { node, daemon: Some(daemon), runtime: runc };
        wait_until("dockerd answers", Duration::from_secs(60), || docker.run(&["version"]).code == 0);
        let layer = docker.node.place().file("layer.tar", busybox_layer());
        docker.run(&["import", &layer.to_string_lossy(), "box"]).ok();
        docker
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.node.inside(CLIENT);
        command.args(arguments);
        command
    }

    /// A command whose terminal sends it SIGWINCH.
    fn with_terminal(&self, arguments: &[&str]) -> Command {
        let mut command = self.node.inside_with_terminal(CLIENT);
        command.args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        run(&mut self.command(arguments))
    }

    fn ok(&self, arguments: &[&str]) -> String {
        self.run(arguments).ok().trim_end().to_owned()
    }

    /// `docker run` with the runtime; ours is the default, so that nothing is said.
    fn arguments<'a>(&self, flags: &[&'a str], program: &[&'a str]) -> Vec<&'a str> {
        let mut arguments = vec!["run"];
        if self.runtime.name == "runc" {
            arguments.extend(["--runtime", "runc"]);
        }
        if !flags.contains(&"--network") {
            arguments.extend(["--network", "none"]);
        }
        arguments.extend(["--hostname", "box"]);
        arguments.extend(flags);
        arguments.push("box");
        arguments.extend(program);
        arguments
    }

    fn container(&self, flags: &[&str], program: &[&str]) -> Ran {
        self.run(&self.arguments(flags, program))
    }

    /// A container that runs until it is removed.
    fn background(&self, name: &str, flags: &[&str]) {
        let mut all = vec!["-d", "--name", name];
        all.extend(flags);
        self.container(&all, &["sleep", "1000"]).ok();
    }

    fn inspect(&self, name: &str, format: &str) -> String {
        self.ok(&["inspect", "--format", format, name])
    }

    fn pid(&self, name: &str) -> String {
        self.inspect(name, "{{.State.Pid}}")
    }

    fn remove(&self, name: &str) {
        self.ok(&["rm", "-f", name]);
    }

    fn wait_for(&self, name: &str, format: &str, value: &str) {
        wait_until(&format!("{format} of {name} is {value}"), Duration::from_secs(30), || {
            self.inspect(name, format) == value
        });
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            self.node.kill_inside(daemon);
        }
    }
}

#[test]
fn root_docker_cannot_tell_the_runtimes_apart() {
    if !has("docker", &["dockerd", "runc"]) || !PathBuf::from(CLIENT).is_file() {
        return;
    }
    assert_alike("docker", ACCEPTED, || {
        let mut docker = Docker::start();
        let notes = runtimes().map(|runtime| {
            docker.runtime = runtime;
            look(&docker, &docker.runtime.path, SCENARIOS)
        });
        drop(docker);
        notes
    });
}

type Scenario = fn(&Docker, &mut Notes);

const SCENARIOS: &[(&str, Scenario)] = &[
    ("plain", plain),
    ("flags", flags),
    ("refused", refused),
    ("ends", ends),
    ("terminal", terminal),
    ("exec", exec),
    ("limits", limits),
    ("lifecycle", lifecycle),
    ("restart", restart),
    ("memory", memory),
    ("events", events),
    ("left", left),
];

fn plain(docker: &Docker, notes: &mut Notes) {
    notes.inside("run", &docker.container(&["--rm"], &["sh", "-c", INSIDE]));
    notes.ran("streams", &docker.container(&["--rm"], &["sh", "-c", "echo out; echo error >&2; exit 7"]));
    notes.ran(
        "input",
        &carrack_tests::command::run_with_input(
            &mut docker.command(&docker.arguments(&["--rm", "-i"], &["cat"])),
            b"through\n",
        ),
    );
}

/// A machine without all capabilities has no privileged containers with runc.
fn can_be(flags: &[&str]) -> bool {
    !flags.contains(&"--privileged") || has_all_capabilities()
}

/// Each flag changes what the caller writes into `config.json`.
fn flags(docker: &Docker, notes: &mut Notes) {
    let shared = docker.node.place().directory("shared");
    let volume = format!("{}:/shared:ro", shared.display());
    let slave = format!("{}:/slave:rw,rprivate", shared.display());
    let readonly = format!("type=bind,source={},target=/tmp,readonly", shared.display());
    let cases: &[(&str, &[&str])] = &[
        ("privileged", &["--privileged"]),
        ("no-capabilities", &["--cap-drop", "ALL"]),
        ("one-capability", &["--cap-drop", "ALL", "--cap-add", "NET_ADMIN", "--cap-add", "SYS_TIME"]),
        ("user", &["--user", "1000:1001", "--group-add", "44", "--group-add", "video"]),
        ("name", &["--user", "web"]),
        ("user-capability", &["--user", "web", "--cap-add", "NET_ADMIN"]),
        ("no-new-privileges", &["--security-opt", "no-new-privileges"]),
        ("no-seccomp", &["--security-opt", "seccomp=unconfined"]),
        ("unmasked", &["--security-opt", "systempaths=unconfined"]),
        ("read-only", &["--read-only", "--tmpfs", "/tmp:rw,size=1m,mode=700,exec", "--tmpfs", "/run"]),
        ("volumes", &["-v", &volume, "-v", &slave, "--mount", &readonly]),
        ("sysctl", &["--sysctl", "net.ipv4.ip_unprivileged_port_start=1", "--sysctl", "kernel.msgmax=9000"]),
        ("init", &["--init"]),
        ("host-pid", &["--pid", "host"]),
        ("host-ipc", &["--ipc", "host"]),
        ("private-cgroup", &["--cgroupns", "private"]),
        ("directory", &["-w", "/new/directory", "--user", "web"]),
        ("devices", &["--device", "/dev/fuse:/dev/other:rm", "--device-cgroup-rule", "c 7:* rwm"]),
        ("host-network", &["--network", "host"]),
        (
            "ulimits",
            &["--ulimit", "nofile=100:200", "--ulimit", "core=0", "--oom-score-adj", "300", "--shm-size", "1m"],
        ),
        ("names", &["--domainname", "example.org", "--add-host", "a:127.0.0.2", "-e", "A=b c", "-e", "HOME=/x"]),
    ];
    for (name, flags) in cases.iter().filter(|(_, flags)| can_be(flags)) {
        let mut all = vec!["--rm"];
        all.extend(*flags);
        notes.inside(name, &docker.container(&all, &["sh", "-c", INSIDE]));
    }
}

/// What the container may not do, by capabilities, seccomp, device rules and masks.
fn refused(docker: &Docker, notes: &mut Notes) {
    let cases: &[(&str, &[&str])] = &[
        ("plain", &[]),
        ("no-seccomp", &["--security-opt", "seccomp=unconfined"]),
        ("capabilities", &["--cap-add", "SYS_ADMIN", "--cap-add", "MKNOD", "--cap-drop", "CHOWN"]),
        ("user", &["--user", "web"]),
    ];
    for (name, flags) in cases {
        let mut all = vec!["--rm"];
        all.extend(*flags);
        notes.ran(name, &docker.container(&all, &["sh", "-c", REFUSED]));
    }
}

/// How programs that fail or cannot be started are told of.
fn ends(docker: &Docker, notes: &mut Notes) {
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("killed", &[], &["sh", "-c", "kill -9 $$"]),
        ("terminated", &["--init"], &["sh", "-c", "kill -15 $$"]),
        ("missing", &[], &["no-such-program"]),
        ("missing-path", &[], &["/no/such/program"]),
        ("not-a-program", &[], &["/etc/not-a-program"]),
        ("directory", &[], &["/etc"]),
        ("empty-argument", &[], &[""]),
        ("missing-user", &["--user", "nobody-at-all"], &["true"]),
        ("bad-sysctl", &["--sysctl", "net.no.such=1"], &["true"]),
        ("bad-device", &["--device", "/dev/no-such"], &["true"]),
        ("working-directory-is-a-file", &["-w", "/etc/passwd"], &["true"]),
        ("too-little-memory", &["--memory", "6m", "--memory-swap", "5m"], &["true"]),
        ("bad-cpus", &["--cpuset-cpus", "77"], &["true"]),
        ("hard-limit", &["--ulimit", "nofile=1000000000:1000000000"], &["true"]),
        ("mount-over-file", &["-v", "/etc:/etc/passwd"], &["true"]),
        ("mount-in-proc", &["-v", "/etc:/proc/x"], &["true"]),
        ("mount-of-proc", &["-v", "/etc:/proc"], &["true"]),
        ("missing-namespace", &["--pid", "container:no-such"], &["true"]),
    ];
    for (name, flags, program) in cases {
        let mut all = vec!["--name", "end"];
        all.extend(*flags);
        let mut ran = docker.container(&all, program);
        // The client may or may not have begun to wait by then, and tells that as well.
        ran.stderr = ran.stderr.lines().filter(|line| !line.starts_with("time=")).collect::<Vec<_>>().join("\n");
        notes.ran(name, &ran);
        let state =
            docker.run(&["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}", "end"]);
        notes.note(&format!("{name}/state"), state.stdout);
        docker.run(&["rm", "-f", "end"]);
    }
}

fn terminal(docker: &Docker, notes: &mut Notes) {
    // The client sends the size after the start: nothing says when it has arrived but the terminal in the container.
    let script = "until [ \"$(stty size 2>/dev/null)\" = '24 80' ]; do sleep 0.01; done; tty; stty -a | tail -n +2; test -t 2 && echo terminal; \
                  readlink /proc/self/fd/0; until [ \"$(stty size 2>/dev/null)\" = '33 99' ]; do sleep 0.01; done; echo resized; read line; echo got $line; exit 5";
    let mut terminal =
        Terminal::start(&mut docker.with_terminal(&docker.arguments(&["--rm", "-it"], &["sh", "-c", script])));
    terminal.wait_for("/dev/pts/0\r\n");
    terminal.wait_for("terminal");
    terminal.resize(33, 99);
    terminal.wait_for("resized");
    terminal.send("word\n");
    terminal.wait_for("got word");
    notes.note("seen", terminal.seen());
    notes.note("code", terminal.finish().to_string());
    let tty = docker.arguments(&["--rm", "-t"], &["sh", "-c", INSIDE]);
    notes.inside("inside", &run(&mut docker.command(&tty)));
}

fn exec(docker: &Docker, notes: &mut Notes) {
    docker.background("target", &["--user", "web", "--cap-add", "NET_ADMIN", "--pids-limit", "50"]);
    notes.inside("inside", &docker.run(&["exec", "target", "sh", "-c", INSIDE]));
    notes.inside("root", &docker.run(&["exec", "-u", "0", "-w", "/tmp", "-e", "A=b", "target", "sh", "-c", INSIDE]));
    if has_all_capabilities() {
        notes.inside("privileged", &docker.run(&["exec", "--privileged", "target", "sh", "-c", INSIDE]));
    }
    notes.inside("terminal", &docker.run(&["exec", "-t", "target", "sh", "-c", INSIDE]));
    notes.ran("streams", &docker.run(&["exec", "target", "sh", "-c", "echo out; echo error >&2; exit 9"]));
    notes.ran("killed", &docker.run(&["exec", "target", "sh", "-c", "kill -9 $$"]));
    notes.ran("missing", &docker.run(&["exec", "target", "no-such-program"]));
    notes.ran("missing-path", &docker.run(&["exec", "target", "/no/such"]));
    notes.ran("not-a-program", &docker.run(&["exec", "target", "/etc/not-a-program"]));
    notes.ran("directory", &docker.run(&["exec", "-w", "/no/such", "target", "true"]));
    notes.ran("user", &docker.run(&["exec", "-u", "nobody-at-all", "target", "true"]));
    let input = carrack_tests::command::run_with_input(&mut docker.command(&["exec", "-i", "target", "cat"]), b"in\n");
    notes.ran("input", &input);
    notes.ran("detached", &docker.run(&["exec", "-d", "target", "touch", "/tmp/made"]));
    wait_until("the detached program has run", Duration::from_secs(20), || {
        docker.run(&["exec", "target", "test", "-f", "/tmp/made"]).code == 0
    });
    docker.ok(&["pause", "target"]);
    notes.ran("paused", &docker.run(&["exec", "target", "true"]));
    docker.ok(&["unpause", "target"]);
    let listed = docker.ok(&["top", "target", "-o", "pid,user,args"]);
    let without_pid = listed.lines().filter_map(|line| line.trim().split_once(' ')).map(|(_, rest)| rest.trim());
    notes.note("top", without_pid.collect::<Vec<_>>().join("\n"));
    docker.remove("target");
    notes.ran("gone", &docker.run(&["exec", "target", "true"]));
}

/// Limits as the host's files have them, at first and after `docker update`.
fn limits(docker: &Docker, notes: &mut Notes) {
    let cases: &[(&str, &[&str])] = &[
        ("none", &[]),
        (
            "memory",
            &["--memory", "64m", "--memory-reservation", "32m", "--memory-swap", "128m", "--memory-swappiness", "30"],
        ),
        ("memory-only", &["--memory", "64m", "--oom-kill-disable"]),
        ("cpu", &["--cpus", "0.5", "--cpu-shares", "512", "--cpuset-cpus", "0", "--cpuset-mems", "0"]),
        ("quota", &["--cpu-period", "50000", "--cpu-quota", "20000"]),
        ("pids", &["--pids-limit", "77", "--ulimit", "nproc=500:600", "--oom-score-adj", "123"]),
        ("io", &["--blkio-weight", "300", "--device-read-bps", "/dev/vda:1mb", "--device-write-iops", "/dev/vda:100"]),
        ("devices", &["--device", "/dev/fuse", "--device-cgroup-rule", "b 7:* rmw"]),
        ("privileged", &["--privileged"]),
    ];
    for (name, flags) in cases.iter().filter(|(_, flags)| can_be(flags)) {
        docker.background("limited", flags);
        notes.note(name, probe::outside(&docker.node, &docker.pid("limited")));
        docker.remove("limited");
    }
    docker.background("limited", &["--memory", "64m"]);
    let flags = [
        "--memory",
        "128m",
        "--memory-swap",
        "256m",
        "--cpus",
        "0.3",
        "--cpu-shares",
        "100",
        "--pids-limit",
        "33",
        "--cpuset-cpus",
        "1",
    ];
    notes.ran("update", &docker.run(&[&["update"], &flags[..], &["limited"]].concat()));
    notes.note("updated", probe::outside(&docker.node, &docker.pid("limited")));
    notes.ran("bad-update", &docker.run(&["update", "--cpuset-cpus", "77", "limited"]));
    notes.ran("small-update", &docker.run(&["update", "--memory", "6m", "--memory-swap", "-1", "limited"]));
    let used = docker.ok(&["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}} {{.MemUsage}}", "limited"]);
    let limit = used.split_once('/').map_or("", |(_, limit)| limit);
    notes.note("stats", format!("{} {limit}", used.split_whitespace().take(2).collect::<Vec<_>>().join(" ")));
    docker.remove("limited");
}

fn lifecycle(docker: &Docker, notes: &mut Notes) {
    let state = "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}} {{.State.Error}}";
    let trap = "trap 'echo caught; exit 4' TERM; trap 'echo user' USR1; echo ready; while :; do sleep 0.05; done";
    docker.container(&["-d", "--name", "one"], &["sh", "-c", trap]).ok();
    wait_for("the program is ready", Duration::from_secs(20), || {
        docker.ok(&["logs", "one"]).contains("ready").then_some(())
    });
    notes.ran("pause", &docker.run(&["pause", "one"]));
    notes.note("paused", docker.inspect("one", state));
    notes.note("frozen", probe::outside(&docker.node, &docker.pid("one")));
    notes.ran("pause-again", &docker.run(&["pause", "one"]));
    notes.ran("unpause", &docker.run(&["unpause", "one"]));
    notes.ran("unpause-again", &docker.run(&["unpause", "one"]));
    notes.ran("kill", &docker.run(&["kill", "-s", "USR1", "one"]));
    wait_for("the signal arrives", Duration::from_secs(20), || {
        docker.ok(&["logs", "one"]).contains("user").then_some(())
    });
    notes.ran("stop", &docker.run(&["stop", "-t", "20", "one"]));
    notes.note("stopped", docker.inspect("one", state));
    notes.ran("logs", &docker.run(&["logs", "one"]));
    notes.ran("kill-stopped", &docker.run(&["kill", "one"]));
    notes.ran("restart", &docker.run(&["restart", "one"]));
    notes.ran("kill-hard", &docker.run(&["kill", "one"]));
    docker.wait_for("one", "{{.State.Status}}", "exited");
    notes.note("killed", docker.inspect("one", state));
    notes.ran("start", &docker.run(&["start", "one"]));
    notes.ran("rename", &docker.run(&["rename", "one", "two"]));
    notes.ran("diff", &docker.run(&["diff", "two"]));
    notes.ran("remove", &docker.run(&["rm", "-f", "two"]));
    docker.background("first", &[]);
    // A container in another's network takes that one's name, so that the usual arguments are not for it.
    let mut joined = vec!["run", "--rm", "--pid", "container:first", "--network", "container:first"];
    if docker.runtime.name == "runc" {
        joined.extend(["--runtime", "runc"]);
    }
    joined.extend(["box", "sh", "-c", INSIDE]);
    notes.inside("joined", &docker.run(&joined));
    docker.remove("first");
}

fn restart(docker: &Docker, notes: &mut Notes) {
    docker.container(&["-d", "--name", "again", "--restart", "on-failure:2"], &["sh", "-c", "echo run; exit 3"]).ok();
    docker.wait_for("again", "{{.State.Status}} {{.RestartCount}}", "exited 2");
    notes.note("state", docker.inspect("again", "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}"));
    notes.note("logs", docker.ok(&["logs", "again"]));
    docker.remove("again");
    docker.container(&["-d", "--name", "always", "--restart", "always"], &["sh", "-c", "sleep 0.2; exit 0"]).ok();
    wait_until("it was restarted", Duration::from_secs(20), || docker.inspect("always", "{{.RestartCount}}") != "0");
    notes.ran("stop", &docker.run(&["stop", "-t", "0", "always"]));
    notes.note("stopped", docker.inspect("always", "{{.State.Status}}"));
    docker.remove("always");
}

fn memory(docker: &Docker, notes: &mut Notes) {
    let hungry = ["sh", "-c", "tail /dev/zero"];
    let ran = docker.container(&["--name", "hungry", "--memory", "8m", "--memory-swap", "8m"], &hungry);
    notes.ran("run", &ran);
    notes.note("state", docker.inspect("hungry", "{{.State.ExitCode}} {{.State.OOMKilled}}"));
    docker.remove("hungry");
}

fn events(docker: &Docker, notes: &mut Notes) {
    let since = docker.ok(&["info", "--format", "{{.SystemTime}}"]);
    docker.background("seen", &["--health-cmd", "true", "--health-interval", "200ms"]);
    docker.wait_for("seen", "{{.State.Health.Status}}", "healthy");
    docker.ok(&["pause", "seen"]);
    docker.ok(&["unpause", "seen"]);
    docker.ok(&["stop", "-t", "0", "seen"]);
    docker.remove("seen");
    let until = docker.ok(&["info", "--format", "{{.SystemTime}}"]);
    let format = "{{.Action}} {{.Actor.Attributes.exitCode}} {{.Actor.Attributes.signal}}";
    let seen =
        docker.ok(&["events", "--since", &since, "--until", &until, "--filter", "container=seen", "--format", format]);
    // How often the health was looked at is a matter of time.
    let without_health = seen.lines().filter(|line| !line.starts_with("exec_") && !line.contains("health"));
    notes.note("all", without_health.collect::<Vec<_>>().join("\n"));
}

/// Nothing of a container is left in the runtime's state directory or in the host's cgroups.
fn left(docker: &Docker, notes: &mut Notes) {
    notes.note("containers", docker.ok(&["ps", "-aq"]));
    notes.note(
        "leaks",
        docker.node.leaks().into_iter().filter(|leak| leak.starts_with("cgroup")).collect::<Vec<_>>().join("\n"),
    );
    let state = run(docker.node.inside(carrack_tests::programs::busybox()).args([
        "sh",
        "-c",
        "ls /run/docker/runtime-*/moby /run/docker/*/moby | grep -v : | sort",
    ]));
    notes.note("state", state.stdout);
}
