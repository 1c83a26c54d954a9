//! The low-level runtimes: `run` of a bundle whose program is `/bin/true`, the verbs that callers use in its place, `exec`, and what a filter costs inside.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use carrack_seccomp::{Arch, KernelVersion, default_profile};
use carrack_sys::rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use carrack_tests::bundle::Bundle;
use carrack_tests::place::Place;
use carrack_tests::programs;
use serde_json::Value;

use crate::measure::{Contender, Sample, count_system_calls, race, time_program, time_together};
use crate::table::{self, Target};

const TARGETS: &[Target] = &[
    Target { peer: "crun", at_most: 0.5 },
    Target { peer: "runc", at_most: 0.2 },
    Target { peer: "floor", at_most: 1.4 },
];
const SPACED_TARGETS: &[Target] = &[Target { peer: "crun", at_most: 0.25 }, Target { peer: "runc", at_most: 0.2 }];
const FILTER_TARGETS: &[Target] = &[Target { peer: "runc", at_most: 1.0 }];

/// Pause, runs, runs in one turn, and how it is called.
const CADENCES: &[(Duration, usize, usize, &str, &[Target])] = &[
    (Duration::ZERO, 200, 20, "back to back", TARGETS),
    (Duration::from_millis(200), 30, 1, "one every 0.2 s", SPACED_TARGETS),
];

/// How many containers are run at a time in the test of many.
const AT_A_TIME: usize = 8;

/// How many bytes the program under a filter copies one by one: two system calls each.
const COPIED_BYTES: &str = "count=500000";

/// The directory of all state directories.
const STATE: &str = "state";

/// Measures back to back and at a cadence, without and with a seccomp profile.
pub fn run_suite() {
    let place = Place::new("bench-runtime");
    // Where a runtime keeps its state is a tmpfs on a node (/run); on a disk, its file system would be measured too.
    mount_tmpfs(&place.directory(STATE));
    let plain = Bundle::new(&place.directory("plain"), &["/bin/true"]);
    let mut filtered = Bundle::new(&place.directory("filtered"), &["/bin/true"]);
    filtered.change(|config| config["linux"]["seccomp"] = profile(config));

    for (bundle, words) in [(&plain, "without seccomp"), (&filtered, "with the default seccomp profile")] {
        for (pause, rounds, block, cadence, targets) in CADENCES {
            let mut contenders = contenders(&place, &bundle.path);
            race(&mut contenders, *rounds, *block, *pause);
            // The floor program has no filter.
            let targets = targets.iter().filter(|target| bundle.path == plain.path || target.peer != "floor");
            let targets: Vec<Target> = targets.copied().collect();
            table::print(&format!("run /bin/true, {words}, {cadence}"), &contenders, &targets);
        }
    }
    verbs_suite(&place, &filtered.path);
    filter_suite(&place);
    println!("\nsystem calls of one run, without seccomp");
    for (name, command) in commands(&place, &plain.path) {
        println!("  {name:<24} {:>10}", count_system_calls(&command("strace"), place.path()));
    }
    unmount(place.join(STATE), UnmountFlags::DETACH).expect("it was mounted above");
}

/// What containerd, Podman and the kubelet call: the verbs one by one, many at a time, and `exec`. With the default profile, as there.
fn verbs_suite(place: &Place, bundle: &Path) {
    let runtimes = runtimes(place);
    let mut contenders: Vec<_> = runtimes
        .iter()
        .map(|runtime| {
            Contender::work(runtime.name, move |number| {
                let id = unique(&format!("life-{number}"));
                let create = runtime.command(&["create", "--bundle", &bundle.display().to_string(), &id]);
                let calls = [create, runtime.command(&["start", &id]), runtime.command(&["delete", "--force", &id])];
                calls.into_iter().fold(Sample::default(), |sum, mut call| sum.plus(time_program(&mut call)))
            })
        })
        .collect();
    race(&mut contenders, 60, 10, Duration::ZERO);
    table::print("create, start and delete, with the default seccomp profile", &contenders, &TARGETS[..2]);

    let mut contenders: Vec<_> = runtimes
        .iter()
        .map(|runtime| {
            Contender::work(runtime.name, move |number| {
                let commands = (0..AT_A_TIME).map(|one| {
                    let id = unique(&format!("many-{number}-{one}"));
                    runtime.command(&["run", "--bundle", &bundle.display().to_string(), &id])
                });
                time_together(commands)
            })
        })
        .collect();
    race(&mut contenders, 20, 5, Duration::ZERO);
    table::print(&format!("{AT_A_TIME} runs at a time, with the default seccomp profile"), &contenders, &TARGETS[..2]);

    let waiting = Bundle::new(&place.directory("waiting"), &["/bin/sleep", "100000"]);
    // A cgroup has the name of its container: no two may have the same.
    let id = |runtime: &Runtime| unique(&format!("exec-{}", runtime.name));
    for runtime in &runtimes {
        let bundle = waiting.path.display().to_string();
        time_program(&mut runtime.command(&["run", "--detach", "--bundle", &bundle, &id(runtime)]));
    }
    let mut contenders: Vec<_> = runtimes
        .iter()
        .map(|runtime| {
            let id = id(runtime);
            Contender::program(runtime.name, move |_| runtime.command(&["exec", &id, "/bin/true"]))
        })
        .collect();
    race(&mut contenders, 100, 20, Duration::ZERO);
    table::print("exec /bin/true", &contenders, &TARGETS[..2]);
    println!("\nsystem calls of one exec");
    for runtime in &runtimes {
        let id = id(runtime);
        let calls = count_system_calls(&runtime.command(&["exec", &id, "/bin/true"]), place.path());
        println!("  {:<24} {calls:>10}", runtime.name);
        time_program(&mut runtime.command(&["delete", "--force", &id]));
    }
}

/// What the filter costs a program that does nothing but system calls. The containers' start is in it, and small beside it.
fn filter_suite(place: &Place) {
    let copy = ["/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=1", COPIED_BYTES];
    let plain = Bundle::new(&place.directory("busy"), &copy);
    let mut filtered = Bundle::new(&place.directory("busy-filtered"), &copy);
    filtered.change(|config| config["linux"]["seccomp"] = profile(config));
    let runtimes = runtimes(place);
    let mut contenders: Vec<_> = runtimes
        .iter()
        .map(|runtime| (runtime, runtime.name.to_owned(), &filtered))
        .chain(runtimes.first().map(|ours| (ours, format!("{} unfiltered", ours.name), &plain)))
        .map(|(runtime, name, bundle)| {
            let path = bundle.path.display().to_string();
            Contender::program(&name, move |number| {
                runtime.command(&["run", "--bundle", &path, &unique(&format!("busy-{number}"))])
            })
        })
        .collect();
    race(&mut contenders, 12, 3, Duration::ZERO);
    table::print("a million cheap system calls under the default seccomp profile", &contenders, FILTER_TARGETS);
}

/// An OCI runtime with a state directory of its own.
struct Runtime {
    name: &'static str,
    program: PathBuf,
    state: PathBuf,
}

impl Runtime {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.state).args(arguments);
        command
    }
}

/// Ours first, and those of the peers' that are installed.
fn runtimes(place: &Place) -> Vec<Runtime> {
    [("carrack-oci", programs::carrack_oci()), ("crun", "crun".into()), ("runc", "runc".into())]
        .into_iter()
        .filter(|(name, _)| *name == "carrack-oci" || programs::is_installed(name))
        .map(|(name, program)| Runtime { name, program, state: place.directory(&format!("{STATE}/{name}")) })
        .collect()
}

fn unique(suffix: &str) -> String {
    format!("bench-{}-{suffix}", std::process::id())
}

/// In this program's own mount namespace.
fn mount_tmpfs(directory: &Path) {
    mount("tmpfs", directory, "tmpfs", MountFlags::empty(), None).expect("benchmarks are run as root");
}

fn contenders<'a>(place: &'a Place, bundle: &'a Path) -> Vec<Contender<'a>> {
    commands(place, bundle)
        .into_iter()
        .map(|(name, command)| Contender::program(name, move |number| command(&number.to_string())))
        .collect()
}

type MakeCommand<'a> = Box<dyn Fn(&str) -> Command + 'a>;

/// How each contender is called; the argument makes the container's id unique.
fn commands<'a>(place: &'a Place, bundle: &'a Path) -> Vec<(&'static str, MakeCommand<'a>)> {
    let mut commands: Vec<(&'static str, MakeCommand<'a>)> = vec![];
    for runtime in runtimes(place) {
        let bundle = bundle.display().to_string();
        let name = runtime.name;
        commands.push((name, Box::new(move |suffix| runtime.command(&["run", "--bundle", &bundle, &unique(suffix)]))));
    }
    let floor = std::env::var_os("CARRACK_FLOOR").map(PathBuf::from).expect("cargo xtask bench sets CARRACK_FLOOR");
    commands.push((
        "floor",
        Box::new(move |_| {
            let mut command = Command::new(&floor);
            command.arg(bundle.join("rootfs")).arg("/bin/true");
            command
        }),
    ));
    commands
}

/// Carrack's default profile, as every runtime reads it out of `config.json`.
fn profile(config: &Value) -> Value {
    let bounding: Vec<String> = config["process"]["capabilities"]["bounding"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect();
    let profile = default_profile(&bounding, Arch::X86_64, KernelVersion { major: 5, minor: 10 });
    serde_json::to_value(profile).expect("a profile is plain data")
}
