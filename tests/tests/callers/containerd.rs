//! containerd 1.6, driven by `ctr run --runc-binary`.

use std::process::{Command, Stdio};
use std::time::Duration;

use carrack_tests::command::{Ran, Running, run, run_with_input, start};
use carrack_tests::image;
use carrack_tests::node::Node;
use carrack_tests::pty::Terminal;
use carrack_tests::wait::wait_until;

use crate::accepted;
use crate::compare::{Accepted, Notes, assert_alike, look};
use crate::probe::{self, INSIDE};
use crate::{Runtime, has, has_all_capabilities, runtimes};

const ACCEPTED: &[Accepted] =
    &[accepted::IGNORED_SIGNAL, accepted::MASK, accepted::UNIFIED_INSIDE, accepted::UNIFIED_OUTSIDE, accepted::TUN];

const IMAGE: &str = "docker.io/library/box:latest";

struct Containerd {
    node: Node,
    daemon: Option<Running>,
    runtime: Runtime,
}

impl Containerd {
    fn start() -> Self {
        let [runc, _] = runtimes();
        let node = Node::new("callers-containerd");
        let place = node.place();
        let config = place.file(
            "containerd.toml",
            format!(
                "version = 2\nroot = \"{}\"\nstate = \"/run/containerd\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
                 [grpc]\n  address = \"/run/containerd/containerd.sock\"\n",
                place.join("containerd").display()
            ),
        );
        let daemon = start(node.fixture("containerd").arg("--config").arg(config).stdin(Stdio::null()));
        let containerd = Self { node, daemon: Some(daemon), runtime: runc };
        wait_until("containerd answers", Duration::from_secs(60), || containerd.run(&["version"]).code == 0);
        let layout = containerd.node.place().directory("layout");
        image::busybox().write_layout(&layout, IMAGE);
        let archive = containerd.node.place().join("layout.tar");
        run(Command::new("tar").arg("-C").arg(&layout).arg("-cf").arg(&archive).arg(".")).ok();
        // The daemon collects garbage right after its start, and that has been seen to take what was just imported.
        let import = ["images", "import", "--index-name", IMAGE, &archive.to_string_lossy()];
        wait_until("the image is imported", Duration::from_secs(30), || containerd.run(&import).code == 0);
        containerd
    }

    fn fill(&self, command: &mut Command, arguments: &[&str]) {
        command.args(["--address", "/run/containerd/containerd.sock"]).args(arguments);
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.node.inside("ctr");
        self.fill(&mut command, arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        run(&mut self.command(arguments))
    }

    fn ok(&self, arguments: &[&str]) -> String {
        self.run(arguments).ok().trim_end().to_owned()
    }

    fn arguments(&self, id: &str, flags: &[&str], program: &[&str]) -> Vec<String> {
        let mut arguments = vec!["run".to_owned(), "--runc-binary".into(), self.runtime.path.display().to_string()];
        arguments.extend(["--cgroup".into(), format!("/{}/{id}", self.node.cgroup())]);
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        arguments.extend([IMAGE.to_owned(), id.to_owned()]);
        arguments.extend(program.iter().map(|word| (*word).to_owned()));
        arguments
    }

    fn container(&self, id: &str, flags: &[&str], program: &[&str]) -> Ran {
        run(self.command(&[]).args(self.arguments(id, flags, program)))
    }

    fn pid(&self, id: &str) -> String {
        let listed = self.ok(&["tasks", "list"]);
        let line = listed.lines().find(|line| line.split_whitespace().next() == Some(id)).expect("the task is listed");
        line.split_whitespace().nth(1).expect("a task has a pid").to_owned()
    }

    fn status(&self, id: &str) -> String {
        let listed = self.ok(&["tasks", "list"]);
        let line = listed.lines().find(|line| line.split_whitespace().next() == Some(id));
        line.and_then(|line| line.split_whitespace().nth(2)).unwrap_or("none").to_owned()
    }

    fn wait_for(&self, id: &str, status: &str) {
        wait_until(&format!("{id} is {status}"), Duration::from_secs(30), || self.status(id) == status);
    }

    fn remove(&self, id: &str) {
        self.run(&["tasks", "kill", "-s", "KILL", id]);
        wait_until(&format!("{id} is stopped"), Duration::from_secs(30), || {
            ["STOPPED", "none"].contains(&self.status(id).as_str())
        });
        self.run(&["tasks", "delete", id]);
        self.ok(&["containers", "delete", id]);
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            self.node.kill_inside(daemon);
        }
    }
}

#[test]
fn root_containerd_cannot_tell_the_runtimes_apart() {
    if !has("containerd", &["containerd", "ctr", "runc"]) {
        return;
    }
    assert_alike("containerd", ACCEPTED, || {
        let mut containerd = Containerd::start();
        let notes = runtimes().map(|runtime| {
            containerd.runtime = runtime;
            look(&containerd, &containerd.runtime.path, SCENARIOS)
        });
        drop(containerd);
        notes
    });
}

type Scenario = fn(&Containerd, &mut Notes);

const SCENARIOS: &[(&str, Scenario)] = &[
    ("plain", plain),
    ("ends", ends),
    ("terminal", terminal),
    ("exec", exec),
    ("tasks", tasks),
    ("memory", memory),
    ("left", left),
];

fn plain(containerd: &Containerd, notes: &mut Notes) {
    let cases: &[(&str, &[&str])] = &[
        ("run", &[]),
        ("seccomp", &["--seccomp", "--cap-add", "CAP_NET_ADMIN", "--cap-drop", "CAP_CHOWN"]),
        ("read-only", &["--read-only", "--mount", "type=bind,src=/etc,dst=/tmp,options=rbind:ro"]),
        ("host-network", &["--net-host", "--cwd", "/tmp", "--env", "A=b c"]),
        ("mapped", &["--uidmap", "0:100000:2000", "--gidmap", "0:200000:2000"]),
        ("privileged", &["--privileged"]),
        ("device", &["--device", "/dev/fuse", "--allow-new-privs"]),
    ];
    for (name, flags) in cases.iter().filter(|(_, flags)| !flags.contains(&"--privileged") || has_all_capabilities()) {
        let mut all = vec!["--rm"];
        all.extend(*flags);
        notes.inside(name, &containerd.container("one", &all, &["sh", "-c", INSIDE]));
    }
    notes.ran("streams", &containerd.container("one", &["--rm"], &["sh", "-c", "echo out; echo error >&2; exit 7"]));
    let mut command = containerd.command(&[]);
    // This client does not tell the end of its input.
    command.args(containerd.arguments("one", &["--rm"], &["head", "-n", "1"]));
    notes.ran("input", &run_with_input(&mut command, b"through\n"));
}

fn ends(containerd: &Containerd, notes: &mut Notes) {
    let cases: &[(&str, &[&str])] = &[
        ("killed", &["sh", "-c", "kill -9 $$"]),
        ("missing", &["no-such-program"]),
        ("missing-path", &["/no/such/program"]),
        ("not-a-program", &["/etc/not-a-program"]),
        ("directory", &["/etc"]),
    ];
    for (name, program) in cases {
        notes.ran(name, &containerd.container("end", &["--rm"], program));
        containerd.run(&["tasks", "delete", "end"]);
        containerd.run(&["containers", "delete", "end"]);
    }
}

fn terminal(containerd: &Containerd, notes: &mut Notes) {
    let script = "until [ \"$(stty size 2>/dev/null)\" = '24 80' ]; do sleep 0.01; done; tty; \
                  until [ \"$(stty size)\" = '33 99' ]; do sleep 0.01; done; echo resized; read line; echo got $line; exit 5";
    let mut command = containerd.node.inside_with_terminal("ctr");
    containerd.fill(&mut command, &[]);
    command.args(containerd.arguments("one", &["--rm", "--tty"], &["sh", "-c", script]));
    let mut terminal = Terminal::start(&mut command);
    terminal.wait_for("/dev/pts/0");
    terminal.resize(33, 99);
    terminal.wait_for("resized");
    terminal.send("word\n");
    terminal.wait_for("got word");
    notes.note("seen", terminal.seen());
    notes.note("code", terminal.finish().to_string());
}

fn exec(containerd: &Containerd, notes: &mut Notes) {
    containerd.container("target", &["-d", "--cap-add", "CAP_NET_ADMIN"], &["sleep", "1000"]).ok();
    let exec = |flags: &[&str], program: &[&str]| {
        let mut arguments = vec!["tasks", "exec", "--exec-id", "first"];
        arguments.extend(flags);
        arguments.push("target");
        arguments.extend(program);
        containerd.run(&arguments)
    };
    notes.inside("inside", &exec(&[], &["sh", "-c", INSIDE]));
    notes.inside("user", &exec(&["--user", "1000:1001", "--cwd", "/tmp"], &["sh", "-c", INSIDE]));
    notes.ran("streams", &exec(&[], &["sh", "-c", "echo out; echo error >&2; exit 9"]));
    notes.ran("killed", &exec(&[], &["sh", "-c", "kill -9 $$"]));
    for (name, program) in [
        ("missing", "no-such-program"),
        ("missing-path", "/no/such"),
        ("not-a-program", "/etc/not-a-program"),
        ("directory", "/etc"),
    ] {
        notes.ran(name, &exec(&[], &[program]));
    }
    notes.ran("cwd", &exec(&["--cwd", "/no/such"], &["true"]));
    containerd.ok(&["tasks", "pause", "target"]);
    notes.ran("paused", &exec(&[], &["true"]));
    containerd.ok(&["tasks", "resume", "target"]);
    containerd.remove("target");
}

fn tasks(containerd: &Containerd, notes: &mut Notes) {
    let trap = "trap 'exit 4' TERM; while :; do sleep 0.05; done";
    let limits = ["-d", "--memory-limit", "67108864", "--cpus", "0.5", "--cpu-shares", "300"];
    containerd.container("one", &limits, &["sh", "-c", trap]).ok();
    notes.note("outside", probe::outside(&containerd.node, &containerd.pid("one")));
    notes.ran("pause", &containerd.run(&["tasks", "pause", "one"]));
    notes.note("paused", containerd.status("one"));
    notes.note("frozen", probe::outside(&containerd.node, &containerd.pid("one")));
    notes.ran("pause-again", &containerd.run(&["tasks", "pause", "one"]));
    notes.ran("resume", &containerd.run(&["tasks", "resume", "one"]));
    notes.note("resumed", containerd.status("one"));
    notes.ran("checkpoint", &containerd.run(&["tasks", "checkpoint", "--image-path", "/run/checkpoint", "one"]));
    let metrics = containerd.ok(&["tasks", "metrics", "one"]);
    let names = metrics.lines().filter_map(|line| line.split_whitespace().next());
    notes.note("metrics", names.collect::<Vec<_>>().join("\n"));
    let listed = containerd.ok(&["tasks", "ps", "one"]);
    // A shell may be waiting for its child or not.
    notes.note("ps", listed.lines().next().unwrap_or_default());
    notes.ran("delete-running", &containerd.run(&["tasks", "delete", "one"]));
    notes.ran("kill", &containerd.run(&["tasks", "kill", "-s", "TERM", "one"]));
    containerd.wait_for("one", "STOPPED");
    notes.ran("kill-stopped", &containerd.run(&["tasks", "kill", "-s", "TERM", "one"]));
    notes.ran("delete", &containerd.run(&["tasks", "delete", "one"]));
    notes.ran("delete-again", &containerd.run(&["tasks", "delete", "one"]));
    containerd.ok(&["containers", "delete", "one"]);
    containerd.container("all", &["-d"], &["sh", "-c", "sleep 1000 & sleep 1000 & wait"]).ok();
    notes.ran("kill-all", &containerd.run(&["tasks", "kill", "--all", "-s", "KILL", "all"]));
    containerd.wait_for("all", "STOPPED");
    containerd.remove("all");
}

/// The event of memory that ran out comes from the shim, which watches the cgroup that the runtime has made.
fn memory(containerd: &Containerd, notes: &mut Notes) {
    let events = start(containerd.command(&["events"]).stdin(Stdio::null()));
    // Subscribed, as soon as something is told.
    wait_until("events are told", Duration::from_secs(30), || {
        containerd.run(&["namespaces", "create", "here"]);
        containerd.run(&["namespaces", "remove", "here"]);
        events.stdout().contains("/namespaces/")
    });
    let hungry = ["sh", "-c", "tail /dev/zero"];
    notes.ran("run", &containerd.container("hungry", &["--rm", "--memory-limit", "8388608"], &hungry));
    let has_ended =
        || events.stdout().lines().any(|line| line.contains("/containers/delete") && line.contains("hungry"));
    wait_until("the container's end is told", Duration::from_secs(30), has_ended);
    let topics = events.stdout();
    let topics = topics
        .lines()
        .filter(|line| line.contains("hungry"))
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    notes.note("topics", topics.collect::<Vec<_>>().join("\n"));
    containerd.node.kill_inside(events);
}

fn left(containerd: &Containerd, notes: &mut Notes) {
    notes.note("containers", containerd.ok(&["containers", "list", "-q"]));
    let groups = containerd.node.leaks().into_iter().filter(|leak| leak.starts_with("cgroup"));
    notes.note("groups", groups.collect::<Vec<_>>().join("\n"));
    let mut list = containerd.node.inside(carrack_tests::programs::busybox());
    notes.note("state", run(list.args(["ls", "/run/containerd/runc/default"])).stdout);
}
