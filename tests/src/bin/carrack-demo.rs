//! The main job, shown: a pod runs through CRI, from a registry's image to its logs, and nothing of it stays.
//!
//! Started by `cargo xtask demo`, which names the programs by the environment. Everything happens on a private root and run
//! directory. The image is made on the spot of the machine's busybox and served by a registry on loopback; `--image REF` takes a
//! real one, which must have a shell.

#![forbid(unsafe_code)]

use std::fs;
use std::net::TcpListener;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use carrack_sys::rustix::process::{Pid, Signal, kill_process};
use carrack_tests::command::{Running, run, start};
use carrack_tests::cri::{Cri, container_config, pod_config};
use carrack_tests::place::Place;
use carrack_tests::registry::CannedRegistry;
use carrack_tests::wait::{wait_for, wait_until};
use carrack_tests::{image, log, programs};

const SCRIPT: &str =
    "echo \"hello from $(hostname), a container of $(uname -s) $(uname -r)\"; echo and this is stderr >&2; sleep 1000";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let wanted = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => None,
        ["--image", reference] => Some((*reference).to_owned()),
        _ => {
            eprintln!("usage: cargo xtask demo [--image REF]");
            return ExitCode::FAILURE;
        }
    };
    let place = Place::new("demo");
    let (mut job, daemon) = Job::start(&place);
    // The daemon is ended whatever happens to the job, so that even a failure leaves nothing behind.
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job.run(wanted.as_deref())));
    let stopped = job.stop(daemon);
    match result {
        Ok(()) if stopped => ExitCode::SUCCESS,
        Ok(()) | Err(_) => ExitCode::FAILURE,
    }
}

struct Job<'a> {
    place: &'a Place,
    socket: std::path::PathBuf,
    cri: Cri,
}

impl<'a> Job<'a> {
    /// Starts the service.
    fn start(place: &'a Place) -> (Self, Running) {
        println!("carrack: {}", programs::carrack().display());
        let socket = place.directory("run").join("carrack.sock");
        let timer = Instant::now();
        let daemon = start(carrack(place).arg("serve").arg("--socket").arg(&socket).stdin(Stdio::null()));
        let cri = wait_for("the service answers", Duration::from_secs(30), || Cri::connect(&socket).ok());
        tell("service answers on its socket", timer);
        (Self { place, socket, cri }, daemon)
    }

    fn run(&self, wanted: Option<&str>) {
        let cri = &self.cri;
        let registry;
        let reference = match wanted {
            Some(reference) => reference.to_owned(),
            None => {
                let timer = Instant::now();
                let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
                registry = CannedRegistry::serve(listener);
                let reference = registry.publish("demo/busybox", "latest", &image::busybox());
                tell("image made, registry serves it", timer);
                reference
            }
        };
        let timer = Instant::now();
        let id = cri.pull(&reference).unwrap_or_else(|status| panic!("pull {reference}: {status}"));
        tell(&format!("pulled and unpacked {reference}"), timer);
        println!("                   {id}");

        let logs = self.place.directory("logs");
        let pod_config = pod_config("demo", &logs);
        let timer = Instant::now();
        let pod = cri.run_pod(&pod_config).unwrap_or_else(|status| panic!("run the pod sandbox: {status}"));
        tell("pod sandbox runs", timer);
        let network = cri.pod_status(&pod).expect("the pod is there").network.unwrap_or_default();
        println!("                   {pod} at {}", network.ip);

        let timer = Instant::now();
        let config = container_config("hello", &reference, &["sh", "-c", SCRIPT]);
        let container =
            cri.create(&pod, config, &pod_config).unwrap_or_else(|status| panic!("create the container: {status}"));
        tell("container created", timer);
        let timer = Instant::now();
        cri.start(&container).unwrap_or_else(|status| panic!("start the container: {status}"));
        tell("container started", timer);

        let timer = Instant::now();
        let file = logs.join("hello.log");
        wait_until("both lines are in the log", Duration::from_secs(30), || {
            fs::read_to_string(&file).is_ok_and(|text| text.lines().count() >= 2)
        });
        tell("its output is in its log", timer);
        for record in log::parse(&fs::read_to_string(&file).expect("it was just read")) {
            println!("                   {} {}: {}", record.time, record.stream, record.content);
        }

        let timer = Instant::now();
        let answer = cri
            .exec(&container, &["cat", "/etc/hostname", "/proc/1/comm"], 10)
            .unwrap_or_else(|status| panic!("exec: {status}"));
        tell(&format!("exec ended with {}", answer.exit_code), timer);
        for line in String::from_utf8_lossy(&answer.stdout).lines() {
            println!("                   {line}");
        }

        let timer = Instant::now();
        cri.stop(&container, 0).unwrap_or_else(|status| panic!("stop the container: {status}"));
        tell("container stopped", timer);
        let timer = Instant::now();
        cri.remove_pod(&pod).unwrap_or_else(|status| panic!("remove the pod: {status}"));
        tell("pod removed", timer);
        let timer = Instant::now();
        cri.remove_image(&reference).unwrap_or_else(|status| panic!("remove the image: {status}"));
        tell("image removed", timer);
    }

    /// Ends the service, removes what it set up on the host, and tells whether anything is left.
    fn stop(&mut self, daemon: Running) -> bool {
        let timer = Instant::now();
        self.cri.close();
        let pid = i32::try_from(daemon.child.id()).ok().and_then(Pid::from_raw).expect("a child has a pid");
        kill_process(pid, Signal::TERM).expect("the service has not been waited for");
        let ended = daemon.finish(Duration::from_secs(30));
        let torn_down = run(carrack(self.place).arg("teardown"));
        tell("service ended, host as before", timer);
        let mut left = vec![];
        if self.socket.exists() {
            left.push(format!("the socket {}", self.socket.display()));
        }
        let directory = self.place.path().to_string_lossy().into_owned();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        left.extend(mounts.lines().filter(|line| line.contains(&directory)).map(|line| format!("the mount {line}")));
        left.extend(processes_with(&directory).into_iter().map(|process| format!("the process {process}")));
        for (what, ran) in [("the service", &ended), ("its teardown", &torn_down)] {
            if ran.code != 0 {
                left.push(format!("an error of {what}: {ran}"));
            }
        }
        if left.is_empty() {
            println!("nothing is left behind");
        } else {
            println!("left behind: {}", left.join("\n"));
        }
        left.is_empty()
    }
}

fn carrack(place: &Place) -> Command {
    let mut command = Command::new(programs::carrack());
    command.arg("--root").arg(place.directory("root")).arg("--run").arg(place.directory("run"));
    command
}

/// Prints a stage and the time it took.
fn tell(stage: &str, timer: Instant) {
    println!("{:>12.2} ms    {stage}", timer.elapsed().as_secs_f64() * 1e3);
}

/// The processes, but for this one and its parents, whose command line names a directory.
fn processes_with(directory: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
        .filter_map(|entry| {
            let command = fs::read(entry.path().join("cmdline")).ok()?;
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            command.contains(directory).then(|| format!("{} {command}", entry.file_name().to_string_lossy()))
        })
        .collect()
}
