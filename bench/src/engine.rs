//! Without a daemon: `run --rm` and `exec`, warm, against Podman.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use carrack_tests::command::run;
use carrack_tests::image;
use carrack_tests::place::Place;
use carrack_tests::programs;
use carrack_tests::registry::CannedRegistry;

use crate::carrack::Carrack;
use crate::measure::{Contender, race};
use crate::table::{self, Target};

/// Podman asks for more files and processes than some machines may give.
const PODMAN_LIMITS: &[&str] = &["--ulimit", "nofile=1024:20000", "--ulimit", "nproc=1024:20000"];

const TARGETS: &[Target] = &[Target { peer: "podman", at_most: 0.1 }];

/// Measures with a network and without.
pub fn run_suite() {
    let place = Place::new("bench-engine");
    let registry = CannedRegistry::serve(TcpListener::bind("127.0.0.1:0").expect("loopback has free ports"));
    let image = registry.publish("bench/busybox", "latest", &image::busybox());
    let carrack = Carrack::new(&place.directory("carrack"));
    carrack.ok(&["pull", &image]);
    let podman = Podman::new(&place, &image);

    // The target is for what a user gets who says nothing.
    let networks = [("with a network", "bridge", "podman", TARGETS), ("without a network", "none", "none", &[])];
    for (title, ours, theirs, targets) in networks {
        let mut contenders = vec![Contender::program("carrack", |_| {
            carrack.command(&["run", "--rm", "--network", ours, &image, "true"])
        })];
        if let Some(podman) = &podman {
            contenders
                .push(Contender::program("podman", move |_| podman.run(&["--rm", "--network", theirs], &["true"])));
        }
        race(&mut contenders, 30, 5, Duration::ZERO);
        table::print(&format!("run --rm IMAGE true, {title}, image there, back to back"), &contenders, targets);
    }

    let name = format!("bench-{}", std::process::id());
    carrack.ok(&["run", "-d", "--name", &name, &image, "sleep", "100000"]);
    let mut contenders = vec![Contender::program("carrack", |_| carrack.command(&["exec", &name, "true"]))];
    if let Some(podman) = &podman {
        run(&mut podman.run(&["-d", "--name", &name], &["sleep", "100000"])).ok();
        let name = name.clone();
        contenders.push(Contender::program("podman", move |_| podman.command(&["exec", &name, "true"])));
    }
    race(&mut contenders, 60, 10, Duration::ZERO);
    table::print("exec CONTAINER true, back to back", &contenders, &[]);
    drop(contenders);
    carrack.ok(&["rm", "-f", &name]);
    if let Some(podman) = &podman {
        run(&mut podman.command(&["rm", "-f", "-t", "0", &name])).ok();
    }
}

/// Podman on directories of its own, with the image pulled.
struct Podman<'a> {
    place: &'a Place,
    image: String,
    had_bridge: bool,
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        if !self.had_bridge {
            run(Command::new("ip").args(["link", "delete", "cni-podman0"]));
        }
    }
}

impl<'a> Podman<'a> {
    fn new(place: &'a Place, image: &str) -> Option<Self> {
        if !programs::is_installed("podman") {
            println!("podman is not installed: left out");
            return None;
        }
        let podman = Self { place, image: image.to_owned(), had_bridge: Path::new(Self::BRIDGE).exists() };
        run(&mut podman.command(&["pull", "--quiet", "--tls-verify=false", image])).ok();
        Some(podman)
    }

    /// What Podman calls the bridge of its default network.
    const BRIDGE: &'static str = "/sys/class/net/cni-podman0";

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("podman");
        command.arg("--root").arg(self.place.join("podman/root")).arg("--runroot").arg(self.place.join("podman/run"));
        command.args(["--cgroup-manager", "cgroupfs"]).args(arguments);
        command
    }

    fn run(&self, flags: &[&str], program: &[&str]) -> Command {
        let mut command = self.command(&["run"]);
        command.args(PODMAN_LIMITS).args(flags).arg(&self.image).args(program);
        command
    }
}
