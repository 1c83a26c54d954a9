//! The low-level runtimes: `run` of a bundle whose program is `/bin/true`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use carrack_seccomp::{Arch, KernelVersion, default_profile};
use carrack_sys::rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use carrack_tests::bundle::Bundle;
use carrack_tests::place::Place;
use carrack_tests::programs;
use serde_json::Value;

use crate::measure::{Contender, count_system_calls, race};
use crate::table::{self, Target};

const TARGETS: &[Target] = &[
    Target { peer: "crun", at_most: 0.5 },
    Target { peer: "runc", at_most: 0.2 },
    Target { peer: "floor", at_most: 1.6 },
];

/// Pause, runs, runs in one turn, and how it is called.
const CADENCES: &[(Duration, usize, usize, &str)] =
    &[(Duration::ZERO, 200, 20, "back to back"), (Duration::from_millis(200), 30, 1, "one every 0.2 s")];

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
        for (pause, rounds, block, cadence) in CADENCES {
            let mut contenders = contenders(&place, &bundle.path);
            race(&mut contenders, *rounds, *block, *pause);
            // The targets are for the bare container, back to back; the other tables tell where it changes.
            let targets = if pause.is_zero() && bundle.path == plain.path { TARGETS } else { &[] };
            table::print(&format!("run /bin/true, {words}, {cadence}"), &contenders, targets);
        }
    }
    println!("\nsystem calls of one run, without seccomp");
    for (name, command) in commands(&place, &plain.path) {
        println!("  {name:<24} {:>10}", count_system_calls(&command("strace"), place.path()));
    }
    unmount(place.join(STATE), UnmountFlags::DETACH).expect("it was mounted above");
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
    let runtimes = [("carrack-oci", programs::carrack_oci()), ("crun", "crun".into()), ("runc", "runc".into())];
    for (name, program) in runtimes {
        if name != "carrack-oci" && !programs::is_installed(name) {
            println!("{name} is not installed: left out");
            continue;
        }
        let state = place.directory(&format!("{STATE}/{name}"));
        commands.push((name, Box::new(move |suffix| run_command(&program, &state, bundle, suffix))));
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

fn run_command(program: &Path, state: &Path, bundle: &Path, suffix: &str) -> Command {
    let mut command = Command::new(program);
    command
        .arg("--root")
        .arg(state)
        .args(["run", "--bundle"])
        .arg(bundle)
        .arg(format!("bench-{}-{suffix}", std::process::id()));
    command
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
