//! Debian's containerd with runc, on directories of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use carrack_sys::rustix::process::{Pid, Signal, kill_process};
use carrack_tests::command::{Running, run, start};
use carrack_tests::cri::Cri;
use carrack_tests::wait::wait_for;

const BRIDGE: &str = "cnibench0";

/// A running daemon.
pub struct Containerd {
    /// Where it serves CRI.
    pub socket: PathBuf,
    running: Option<Running>,
}

impl Containerd {
    /// Starts one that keeps everything below `place`; its pods' first container is `pause`.
    pub fn start(place: &Path, pause: &str) -> Self {
        let networks = place.join("networks");
        fs::create_dir_all(&networks).expect("the benchmark's directory is writable");
        fs::write(networks.join("10-bench.conflist"), network(place)).expect("the benchmark's directory is writable");
        let socket = place.join("containerd.sock");
        let config = place.join("config.toml");
        fs::write(&config, configuration(place, &socket, &networks, pause))
            .expect("the benchmark's directory is writable");
        let running = start(Command::new("containerd").arg("--config").arg(&config).stdin(Stdio::null()));
        let mut daemon = Self { socket, running: Some(running) };
        daemon.wait();
        daemon
    }

    fn wait(&mut self) {
        wait_for("containerd answers", Duration::from_secs(60), || Cri::connect(&self.socket).ok());
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            let pid = i32::try_from(running.child.id()).ok().and_then(Pid::from_raw).expect("a child has a pid");
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::TERM);
            running.finish(Duration::from_secs(30));
            // The plugin makes the bridge and leaves it.
            run(Command::new("ip").args(["link", "delete", BRIDGE]));
        }
    }
}

/// `restrict_oom_score_adj`: a machine may lack the right to lower scores.
fn configuration(place: &Path, socket: &Path, networks: &Path, pause: &str) -> String {
    format!(
        r#"version = 2
root = "{root}"
state = "{state}"
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  disable_tcp_service = true
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{networks}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"#,
        root = place.join("root").display(),
        state = place.join("state").display(),
        socket = socket.display(),
        networks = networks.display(),
    )
}

/// The network of the CNI project's own examples: a bridge with masquerading, addresses on disk, and port mappings.
fn network(place: &Path) -> String {
    serde_json::json!({
        "cniVersion": "0.4.0",
        "name": "bench",
        "plugins": [
            {
                "type": "bridge", "bridge": BRIDGE, "isGateway": true, "ipMasq": true,
                "ipam": { "type": "host-local", "dataDir": place.join("addresses"), "ranges": [[{ "subnet": "10.199.0.0/16" }]],
                    "routes": [{ "dst": "0.0.0.0/0" }] }
            },
            { "type": "portmap", "capabilities": { "portMappings": true } }
        ]
    })
    .to_string()
}
