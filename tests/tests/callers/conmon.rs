//! conmon alone, as Podman and CRI-O start it: once for a container and once for each exec.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use carrack_tests::bundle::Bundle;
use carrack_tests::command::{Ran, run};
use carrack_tests::node::Node;
use carrack_tests::wait::wait_until;
use serde_json::json;

use crate::compare::{Accepted, Notes, assert_alike, look};
use crate::{Runtime, has, runtimes};

/// On standard error runc says the line that it would log; carrack-oci says the message.
const ACCEPTED: &[Accepted] = &[Accepted {
    at: "fails/state/error",
    runc: "time=\"<time>\" level=error msg=\"container does not exist\"",
    ours: "container does not exist",
}];

/// One runtime's directory.
struct Conmon<'a> {
    node: &'a Node,
    runtime: Runtime,
    place: PathBuf,
}

impl Conmon<'_> {
    /// conmon for the container `id`; it returns when the runtime has made its part.
    fn command(&self, id: &str, bundle: &Bundle) -> Command {
        let exits = self.place.join("exits");
        fs::create_dir_all(&exits).expect("the test's directory is writable");
        let mut command = self.node.fixture("conmon");
        command.args(["--api-version", "1", "--cid", id, "--cuuid", id, "--name", id, "--bundle"]).arg(&bundle.path);
        command.arg("--runtime").arg(&self.runtime.path).arg("--runtime-arg").arg(format!("--root={}", self.state()));
        command.arg("--container-pidfile").arg(self.place.join(format!("{id}.pid")));
        command.arg("--log-path").arg(format!("k8s-file:{}", self.place.join(format!("{id}.log")).display()));
        command.arg("--exit-dir").arg(exits).args(["--socket-dir-path", "/run/conmon", "--log-level", "error"]);
        command
    }

    /// Has a container made. conmon's first process ends before that, and who has no pipe of its own from it must look.
    fn create(&self, id: &str, bundle: &Bundle, flags: &[&str]) -> Ran {
        let ran = run(self.command(id, bundle).args(flags));
        wait_until(&format!("{id} is made"), Duration::from_secs(30), || {
            self.runtime(&["state", id]).stdout.contains("\"created\"")
        });
        ran
    }

    fn state(&self) -> String {
        self.place.join("state").display().to_string()
    }

    /// Runs one of the runtime's own verbs, as conmon's caller does.
    fn runtime(&self, arguments: &[&str]) -> Ran {
        run(self.node.inside(&self.runtime.path).arg("--root").arg(self.state()).args(arguments))
    }

    /// The code that conmon writes when the container's process ends.
    fn exit(&self, id: &str) -> String {
        let path = self.place.join("exits").join(id);
        wait_until(&format!("conmon tells the end of {id}"), Duration::from_secs(30), || {
            fs::read_to_string(&path).is_ok_and(|text| !text.is_empty())
        });
        fs::read_to_string(&path).expect("it was there on the line above")
    }

    /// The log, where only the times differ.
    fn log(&self, id: &str) -> String {
        fs::read_to_string(self.place.join(format!("{id}.log"))).unwrap_or_default()
    }

    fn bundle(&self, id: &str, args: &[&str]) -> Bundle {
        let mut bundle = Bundle::new(&self.place.join("bundles").join(id), args);
        let group = format!("/{}/{id}", self.node.cgroup());
        bundle.change(|config| config["linux"]["cgroupsPath"] = group.into());
        bundle
    }
}

#[test]
fn root_conmon_cannot_tell_the_runtimes_apart() {
    if !has("conmon", &["conmon", "runc"]) {
        return;
    }
    assert_alike("conmon", ACCEPTED, || {
        let node = Node::new("callers-conmon");
        run(node.inside("mkdir").arg("/run/conmon")).ok();
        let notes = runtimes().map(|runtime| {
            let place = node.place().directory(runtime.name);
            let conmon = Conmon { node: &node, runtime, place };
            let mut notes = look(&conmon, &conmon.runtime.path, SCENARIOS);
            notes.begin("left");
            notes.note("state", run(node.inside("ls").arg(conmon.state())).stdout);
            notes
        });
        node.finish();
        notes
    });
}

type Scenario = fn(&Conmon<'_>, &mut Notes);

const SCENARIOS: &[(&str, Scenario)] =
    &[("streams", streams), ("terminal", terminal), ("exec", exec), ("fails", fails)];

fn streams(conmon: &Conmon<'_>, notes: &mut Notes) {
    let bundle = conmon.bundle("one", &["sh", "-c", "echo out; echo error >&2; printf unfinished; exit 3"]);
    notes.ran("conmon", &conmon.create("one", &bundle, &[]));
    notes.ran("start", &conmon.runtime(&["start", "one"]));
    notes.note("exit", conmon.exit("one"));
    // Which of the two streams is read first is a matter of time.
    let log = conmon.log("one");
    let mut lines: Vec<&str> = log.lines().collect();
    lines.sort_by_key(|line| line.split_once(' ').map(|(_, rest)| rest.to_owned()));
    notes.note("log", lines.join("\n"));
    notes.ran("delete", &conmon.runtime(&["delete", "one"]));
}

fn terminal(conmon: &Conmon<'_>, notes: &mut Notes) {
    let mut bundle =
        conmon.bundle("tty", &["sh", "-c", "readlink /proc/self/fd/0; readlink /proc/self/fd/2; echo shown"]);
    bundle.change(|config| {
        config["process"]["terminal"] = true.into();
        config["process"]["consoleSize"] = json!({ "height": 30, "width": 100 });
    });
    notes.ran("conmon", &conmon.create("tty", &bundle, &["--terminal"]));
    notes.ran("start", &conmon.runtime(&["start", "tty"]));
    notes.note("exit", conmon.exit("tty"));
    notes.note("log", conmon.log("tty"));
    notes.ran("delete", &conmon.runtime(&["delete", "tty"]));
}

fn exec(conmon: &Conmon<'_>, notes: &mut Notes) {
    let bundle = conmon.bundle("long", &["sleep", "1000"]);
    notes.ran("conmon", &conmon.create("long", &bundle, &[]));
    notes.ran("start", &conmon.runtime(&["start", "long"]));
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["sh", "-c", "echo from exec; exit 6"]);
    let specification = conmon.place.join("process.json");
    fs::write(&specification, process.to_string()).expect("the test's directory is writable");
    // The exec writes its own end where the container would, so that conmon gets another directory for it.
    let exits = conmon.place.join("exec-exits");
    fs::create_dir_all(&exits).expect("the test's directory is writable");
    let mut command = conmon.command("long", &bundle);
    command.args(["--exec", "--exec-process-spec"]).arg(&specification).arg("--exit-dir").arg(&exits);
    command.arg("--container-pidfile").arg(conmon.place.join("exec.pid"));
    command.arg("--log-path").arg(format!("k8s-file:{}", conmon.place.join("exec.log").display()));
    notes.ran("exec", &run(&mut command));
    wait_until("conmon tells the end of the exec", Duration::from_secs(30), || {
        fs::read_dir(&exits).is_ok_and(|entries| entries.count() == 1)
    });
    notes.note("exec-log", conmon.log("exec"));
    notes.ran("kill", &conmon.runtime(&["kill", "long", "KILL"]));
    notes.note("exit", conmon.exit("long"));
    notes.ran("delete", &conmon.runtime(&["delete", "long"]));
}

/// conmon hands on what the runtime logs.
fn fails(conmon: &Conmon<'_>, notes: &mut Notes) {
    let bundle = conmon.bundle("bad", &["no-such-program"]);
    notes.ran("missing", &run(conmon.command("bad", &bundle).arg("--sync")));
    notes.note("log", conmon.log("bad"));
    notes.ran("state", &conmon.runtime(&["state", "bad"]));
}
