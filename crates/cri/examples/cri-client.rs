//! A small client of the container runtime interface, for looking at any runtime's socket and for measuring it.
//!
//! ```text
//! cargo run -p carrack-cri --example cri-client -- --socket /run/carrack/carrack.sock ps
//! ```

#![forbid(unsafe_code)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use carrack_cri_proto::v1;
use carrack_tests::cri::{Cri, container_config, pod_config};

const USAGE: &str = "\
cri-client [--socket PATH] VERB

  version                          name and versions of the runtime
  status                           its conditions
  runp NAME [host]                 run a pod sandbox, with the host's network if so said; prints its id
  create POD IMAGE NAME [CMD...]   make a container; prints its id
  start ID                         start it
  exec ID CMD...                   run a program in it; prints its output and ends with its exit code
  stop ID [SECONDS]                stop it (10 seconds)
  rm ID                            remove it
  stopp POD                        stop a pod sandbox
  rmp POD                          remove it
  pull IMAGE                       pull; prints the image's id
  rmi IMAGE                        remove an image
  images | ps | pods               lists
  bench IMAGE [ROUNDS] [host]      time each step of a pod with one container (20 rounds)
";

/// A failure in one sentence.
type Failure = String;

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut socket = PathBuf::from(carrack_cri::DEFAULT_SOCKET);
    if arguments.first().is_some_and(|first| first == "--socket") && arguments.len() > 1 {
        socket = PathBuf::from(&arguments[1]);
        arguments.drain(..2);
    }
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match carry_out(&socket, &words) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("cri-client: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(socket: &Path, words: &[&str]) -> Result<ExitCode, Failure> {
    if matches!(words, [] | ["help" | "-h" | "--help", ..]) {
        print!("{USAGE}");
        return Ok(ExitCode::SUCCESS);
    }
    let cri = Cri::connect(socket)?;
    let told = |status: tonic::Status| format!("{:?}: {}", status.code(), status.message());
    match words {
        ["version"] => version(&cri).map_err(told)?,
        ["status"] => status(&cri).map_err(told)?,
        ["runp", name, network @ ..] => println!("{}", cri.run_pod(&pod(name, network)).map_err(told)?),
        ["create", pod_id, image, name, command @ ..] => {
            let made = cri.create(pod_id, container_config(name, image, command), &pod(name, &[]));
            println!("{}", made.map_err(told)?);
        }
        ["start", id] => cri.start(id).map_err(told)?,
        ["exec", id, command @ ..] => return exec(&cri, id, command).map_err(told),
        ["stop", id] => cri.stop(id, 10).map_err(told)?,
        ["stop", id, seconds] => {
            let seconds = seconds.parse().map_err(|_| format!("{seconds:?} is not a number of seconds"))?;
            cri.stop(id, seconds).map_err(told)?;
        }
        ["rm", id] => cri.remove(id).map_err(told)?,
        ["stopp", id] => stop_pod(&cri, id).map_err(told)?,
        ["rmp", id] => remove_pod(&cri, id).map_err(told)?,
        ["pull", image] => println!("{}", cri.pull(image).map_err(told)?),
        ["rmi", image] => cri.remove_image(image).map_err(told)?,
        ["images"] => images(&cri).map_err(told)?,
        ["ps"] => containers(&cri).map_err(told)?,
        ["pods"] => pods(&cri).map_err(told)?,
        ["bench", image, rest @ ..] => {
            let rounds = rest.first().and_then(|word| word.parse().ok()).unwrap_or(20);
            bench(&cri, image, rounds, rest).map_err(told)?;
        }
        _ => return Err(format!("cannot make out {words:?}\n{USAGE}")),
    }
    Ok(ExitCode::SUCCESS)
}

/// A sandbox as the kubelet asks for it: containers have their own pid namespaces.
fn pod(name: &str, network: &[&str]) -> v1::PodSandboxConfig {
    let mode = if network.contains(&"host") { v1::NamespaceMode::Node } else { v1::NamespaceMode::Pod };
    let options =
        v1::NamespaceOption { network: mode.into(), pid: v1::NamespaceMode::Container.into(), ..Default::default() };
    let logs = std::env::temp_dir().join("cri-client-logs").join(name);
    let context = v1::LinuxSandboxSecurityContext { namespace_options: Some(options), ..Default::default() };
    v1::PodSandboxConfig {
        linux: Some(v1::LinuxPodSandboxConfig { security_context: Some(context), ..Default::default() }),
        ..pod_config(name, &logs)
    }
}

fn version(cri: &Cri) -> Result<(), tonic::Status> {
    let answer = cri.runtime(async |mut client| client.version(v1::VersionRequest::default()).await)?;
    println!("{} {} (CRI {})", answer.runtime_name, answer.runtime_version, answer.runtime_api_version);
    Ok(())
}

fn status(cri: &Cri) -> Result<(), tonic::Status> {
    let answer = cri.runtime(async |mut client| client.status(v1::StatusRequest { verbose: true }).await)?;
    for condition in answer.status.unwrap_or_default().conditions {
        println!("{} {} {} {}", condition.r#type, condition.status, condition.reason, condition.message);
    }
    for (name, text) in answer.info {
        println!("{name} {text}");
    }
    Ok(())
}

fn exec(cri: &Cri, id: &str, command: &[&str]) -> Result<ExitCode, tonic::Status> {
    let answer = cri.exec(id, command, 0)?;
    // Whoever closed our output does not want it.
    let _ = std::io::stdout().write_all(&answer.stdout);
    let _ = std::io::stderr().write_all(&answer.stderr);
    Ok(ExitCode::from(u8::try_from(answer.exit_code).unwrap_or(u8::MAX)))
}

fn stop_pod(cri: &Cri, id: &str) -> Result<(), tonic::Status> {
    let request = v1::StopPodSandboxRequest { pod_sandbox_id: id.into() };
    cri.runtime(async |mut client| client.stop_pod_sandbox(request).await).map(drop)
}

fn remove_pod(cri: &Cri, id: &str) -> Result<(), tonic::Status> {
    let request = v1::RemovePodSandboxRequest { pod_sandbox_id: id.into() };
    cri.runtime(async |mut client| client.remove_pod_sandbox(request).await).map(drop)
}

fn images(cri: &Cri) -> Result<(), tonic::Status> {
    for image in cri.list_images()? {
        println!("{} {} {}", image.id, image.size, image.repo_tags.join(" "));
    }
    Ok(())
}

fn containers(cri: &Cri) -> Result<(), tonic::Status> {
    for container in cri.containers()? {
        let name = container.metadata.as_ref().map(|metadata| metadata.name.clone()).unwrap_or_default();
        println!("{} {} {} {name}", container.id, container.pod_sandbox_id, container.state().as_str_name());
    }
    Ok(())
}

fn pods(cri: &Cri) -> Result<(), tonic::Status> {
    for pod in cri.pods()? {
        let metadata = pod.metadata.clone().unwrap_or_default();
        println!("{} {} {}/{}", pod.id, pod.state().as_str_name(), metadata.namespace, metadata.name);
    }
    Ok(())
}

/// The steps of a pod's life, each timed in every round.
struct Steps(Vec<(&'static str, Vec<Duration>)>);

impl Steps {
    fn time<T>(
        &mut self,
        name: &'static str,
        step: impl FnOnce() -> Result<T, tonic::Status>,
    ) -> Result<T, tonic::Status> {
        let begin = Instant::now();
        let done = step()?;
        let took = begin.elapsed();
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, times)) => times.push(took),
            None => self.0.push((name, vec![took])),
        }
        Ok(done)
    }
}

/// Prints `STEP MEDIAN MINIMUM MAXIMUM`, in milliseconds, a line for each step.
fn bench(cri: &Cri, image: &str, rounds: u32, words: &[&str]) -> Result<(), tonic::Status> {
    let mut steps = Steps(vec![]);
    for round in 0..rounds {
        let config = pod(&format!("bench-{}-{round}", std::process::id()), words);
        let pod_id = steps.time("RunPodSandbox", || cri.run_pod(&config))?;
        let container = container_config("main", image, &["sleep", "1000"]);
        let id = steps.time("CreateContainer", || cri.create(&pod_id, container, &config))?;
        steps.time("StartContainer", || cri.start(&id))?;
        steps.time("ExecSync", || cri.exec(&id, &["true"], 10))?;
        steps.time("ContainerStatus", || cri.status(&id))?;
        steps.time("StopContainer", || cri.stop(&id, 0))?;
        steps.time("RemoveContainer", || cri.remove(&id))?;
        steps.time("StopPodSandbox", || stop_pod(cri, &pod_id))?;
        steps.time("RemovePodSandbox", || remove_pod(cri, &pod_id))?;
    }
    for (name, mut times) in steps.0 {
        times.sort();
        let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
        let (least, median, most) = (times[0], times[times.len() / 2], times[times.len() - 1]);
        println!("{name} {:.2} {:.2} {:.2}", milliseconds(median), milliseconds(least), milliseconds(most));
    }
    Ok(())
}
