//! Buildah 1.28: `run` and `bud` with `--runtime`.

use std::process::Command;

use carrack_tests::command::{Ran, run};
use carrack_tests::image::busybox_layer;
use carrack_tests::node::Node;

use crate::accepted;
use crate::compare::{Accepted, Notes, assert_alike};
use crate::probe::INSIDE;
use crate::{Runtime, has, runtimes};

const ACCEPTED: &[Accepted] = &[
    accepted::IGNORED_SIGNAL,
    accepted::MASK,
    accepted::UNIFIED_INSIDE,
    // On standard error runc says the line that it would log; carrack-oci says the message.
    Accepted {
        at: "*/error",
        runc: "error running container: from <runtime> creating container for [*]: time=*level=error msg=\"exec: *: permission denied\"",
        ours: "error running container: from <runtime> creating container for [*]: exec: *: permission denied",
    },
    Accepted {
        at: "*/error",
        runc: "error running container: from <runtime> creating container for [*]: time=*level=error msg=\"exec: *: executable file not found in $PATH\"",
        ours: "error running container: from <runtime> creating container for [*]: exec: *: executable file not found in $PATH",
    },
];

/// Each instruction shows something of where it runs.
const DOCKERFILE: &str = r#"FROM base
RUN id && pwd && umask && grep -E 'Cap|Seccomp|NoNew' /proc/self/status
USER web
WORKDIR /home/web
ENV A="b c"
RUN id && pwd && echo "$A" && touch made && ls -l made | cut -c1-10
USER root
RUN ["sh", "-c", "echo plain; ulimit -n; cat /proc/self/oom_score_adj"]
"#;

const FAILING: &str = "FROM base\nRUN echo before && exit 9\n";

const MISSING: &str = "FROM base\nRUN [\"no-such-program\"]\n";

struct Buildah {
    node: Node,
    runtime: Runtime,
}

impl Buildah {
    fn new() -> Self {
        let [runc, _] = runtimes();
        let buildah = Self { node: Node::new("callers-buildah"), runtime: runc };
        let layer = buildah.node.place().file("layer.tar", busybox_layer());
        buildah.ok(&["from", "--name", "first", "scratch"]);
        buildah.ok(&["add", "first", &layer.to_string_lossy(), "/"]);
        buildah.ok(&["commit", "--quiet", "first", "base"]);
        buildah
    }

    fn command(&self) -> Command {
        let mut command = self.node.fixture("buildah");
        command.arg("--root").arg(self.node.place().join("buildah")).arg("--runroot").arg("/run/buildah");
        command.args(["--storage-driver", "overlay"]).env("TMPDIR", self.node.place().directory("tmp"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        run(self.command().args(arguments))
    }

    fn ok(&self, arguments: &[&str]) -> String {
        self.run(arguments).ok().trim_end().to_owned()
    }

    /// `buildah run` in the working container `work`.
    fn step(&self, flags: &[&str], program: &[&str]) -> Ran {
        let mut command = self.command();
        command.args(["run", "--isolation", "oci", "--runtime"]).arg(&self.runtime.path);
        if !flags.contains(&"--network") {
            command.args(["--network", "none"]);
        }
        command.args(flags).args(["work", "--"]).args(program);
        run(&mut command)
    }

    fn build(&self, name: &str, text: &str, flags: &[&str]) -> Ran {
        let file = self.node.place().file(name, text);
        let context = self.node.place().directory("context");
        let mut command = self.command();
        command.args(["bud", "--no-cache", "--pull-never", "--isolation", "oci", "--network", "none", "--runtime"]);
        command
            .arg(&self.runtime.path)
            .arg("--cgroup-parent")
            .arg(format!("/{}", self.node.cgroup()))
            .args(flags)
            .arg("-f")
            .arg(file)
            .arg(context);
        run(&mut command)
    }
}

#[test]
fn root_buildah_cannot_tell_the_runtimes_apart() {
    if !has("buildah", &["buildah", "runc"]) {
        return;
    }
    assert_alike("buildah", ACCEPTED, || {
        let mut buildah = Buildah::new();
        let notes = runtimes().map(|runtime| {
            buildah.runtime = runtime;
            let mut notes = Notes::new(&buildah.runtime.path);
            let parent = format!("/{}", buildah.node.cgroup());
            buildah.ok(&["from", "--cgroup-parent", &parent, "--name", "work", "base"]);
            notes.begin("run");
            steps(&buildah, &mut notes);
            buildah.ok(&["rm", "work"]);
            notes.begin("bud");
            notes.ran("plain", &buildah.build("Plain", DOCKERFILE, &[]));
            notes.ran("limits", &buildah.build("Plain", DOCKERFILE, &["--memory", "64m", "--cpu-shares", "100"]));
            notes.ran("failing", &buildah.build("Failing", FAILING, &[]));
            notes.ran("missing", &buildah.build("Missing", MISSING, &[]));
            notes.begin("left");
            let groups = buildah.node.leaks().into_iter().filter(|leak| leak.starts_with("cgroup"));
            notes.note("groups", groups.collect::<Vec<_>>().join("\n"));
            notes.note("state", run(buildah.node.inside("ls").arg(format!("/run/{}", buildah.runtime.name))).stdout);
            notes
        });
        drop(buildah);
        notes
    });
}

fn steps(buildah: &Buildah, notes: &mut Notes) {
    let shared = buildah.node.place().directory("shared");
    let volume = format!("{}:/shared:ro", shared.display());
    let cases: &[(&str, &[&str])] = &[
        ("plain", &[]),
        ("user", &["--user", "web"]),
        ("capabilities", &["--cap-drop", "CAP_CHOWN", "--cap-add", "CAP_NET_ADMIN"]),
        ("volume", &["--volume", &volume, "--workingdir", "/tmp", "--env", "A=b"]),
        ("terminal", &["--tty"]),
        ("host-network", &["--network", "host"]),
    ];
    for (name, flags) in cases {
        notes.inside(name, &buildah.step(flags, &["sh", "-c", INSIDE]));
    }
    notes.ran("streams", &buildah.step(&[], &["sh", "-c", "echo out; echo error >&2; exit 7"]));
    notes.ran("killed", &buildah.step(&[], &["sh", "-c", "kill -9 $$"]));
    notes.ran("missing", &buildah.step(&[], &["no-such-program"]));
    notes.ran("not-a-program", &buildah.step(&[], &["/etc/not-a-program"]));
}
