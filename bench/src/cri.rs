//! Through CRI: pod and container, against Debian's containerd with runc.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use carrack_tests::cri::{Cri, container_config, pod_config};
use carrack_tests::image::{self, Builder, Packing};
use carrack_tests::place::Place;
use carrack_tests::programs;
use carrack_tests::registry::CannedRegistry;

use crate::carrack::Carrack;
use crate::containerd::Containerd;
use crate::measure::{Contender, Sample, race};
use crate::table::{self, Target};

/// What is timed, in the order of a pod's life.
const STAGES: &[&str] = &[
    "pod plus container",
    "RunPodSandbox",
    "CreateContainer",
    "StartContainer",
    "ExecSync",
    "StopContainer",
    "removal of the pod",
];

const ROUNDS: usize = 20;

/// Runs whole lives of pods on both, in turns, and prints one table for each stage.
pub fn run_suite() {
    let place = Place::new("bench-cri");
    let registry = CannedRegistry::serve(TcpListener::bind("127.0.0.1:0").expect("loopback has free ports"));
    let image = registry.publish("bench/busybox", "latest", &image::busybox());
    let pause = Builder::default()
        .set("Cmd", serde_json::json!(["sleep", "1000000"]))
        .layer(Packing::Gzip, image::busybox_layer())
        .build();
    let pause = registry.publish("bench/pause", "latest", &pause);

    let mut carrack = Carrack::new(&place.directory("carrack"));
    let mut servers = vec![("carrack", Server::new(&carrack.serve(), &image, &place))];
    let containerd =
        programs::is_installed("containerd").then(|| Containerd::start(&place.directory("containerd"), &pause));
    match &containerd {
        Some(containerd) => servers.push(("containerd", Server::new(&containerd.socket, &image, &place))),
        None => println!("containerd is not installed: left out"),
    }

    // One life gives one sample of every stage; they are kept by stage and replayed into the tables.
    let mut lives: Vec<BTreeMap<&str, Vec<Duration>>> = servers.iter().map(|_| BTreeMap::new()).collect();
    for round in 0..ROUNDS + 2 {
        for (server, stages) in servers.iter().zip(&mut lives) {
            let life = server.1.live(round);
            // Two lives to warm up.
            if round >= 2 {
                life.into_iter().for_each(|(stage, took)| stages.entry(stage).or_default().push(took));
            }
        }
    }
    for stage in STAGES {
        let mut contenders: Vec<Contender<'_>> = servers
            .iter()
            .zip(&lives)
            .map(|((name, _), stages)| {
                let times = &stages[stage];
                Contender::work(name, move |run| Sample { took: times[run % times.len()], ..Sample::default() })
            })
            .collect();
        race(&mut contenders, ROUNDS, 1, Duration::ZERO);
        let targets = if *stage == STAGES[0] { &[Target { peer: "containerd", at_most: 1.0 / 6.0 }][..] } else { &[] };
        table::print(&format!("{stage}, image there, one after the other"), &contenders, targets);
    }
}

/// A CRI server with the image pulled.
struct Server {
    cri: Cri,
    image: String,
    logs: std::path::PathBuf,
}

impl Server {
    fn new(socket: &Path, image: &str, place: &Place) -> Self {
        let cri = Cri::connect(socket).unwrap_or_else(|error| panic!("connect to {}: {error}", socket.display()));
        cri.pull(image).unwrap_or_else(|status| panic!("pull {image}: {status}"));
        Self { cri, image: image.to_owned(), logs: place.directory("logs") }
    }

    /// One pod from its making to its removal.
    fn live(&self, round: usize) -> Vec<(&'static str, Duration)> {
        let pod_config = pod_config(&format!("bench-{round}"), &self.logs);
        let container = container_config("sleeper", &self.image, &["sleep", "100000"]);
        let [pod, created, started, exec, stopped, removed] =
            [STAGES[1], STAGES[2], STAGES[3], STAGES[4], STAGES[5], STAGES[6]];
        let begin = Instant::now();
        let mut life = vec![];
        let (id, took) = time(|| self.cri.run_pod(&pod_config));
        life.push((pod, took));
        let (container, took) = time(|| self.cri.create(&id, container.clone(), &pod_config));
        life.push((created, took));
        let ((), took) = time(|| self.cri.start(&container));
        life.push((started, took));
        life.push((STAGES[0], begin.elapsed()));
        let (_, took) = time(|| self.cri.exec(&container, &["true"], 10));
        life.push((exec, took));
        let ((), took) = time(|| self.cri.stop(&container, 0));
        life.push((stopped, took));
        let ((), took) = time(|| self.cri.remove_pod(&id));
        life.push((removed, took));
        life
    }
}

fn time<T>(call: impl FnOnce() -> Result<T, tonic::Status>) -> (T, Duration) {
    let started = Instant::now();
    let value = call().unwrap_or_else(|status| panic!("a call of CRI failed: {status}"));
    (value, started.elapsed())
}
