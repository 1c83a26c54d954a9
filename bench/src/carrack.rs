//! The engine under measurement, on directories of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use carrack_sys::rustix::process::{Pid, Signal, kill_process};
use carrack_tests::command::{Running, run, start};
use carrack_tests::cri::Cri;
use carrack_tests::programs;
use carrack_tests::wait::wait_for;

/// An engine; what it set up on the host goes when it is dropped.
pub struct Carrack {
    place: PathBuf,
    daemon: Option<Running>,
}

impl Carrack {
    /// One that keeps everything below `place`. No daemon runs.
    pub fn new(place: &Path) -> Self {
        Self { place: place.to_owned(), daemon: None }
    }

    /// `carrack` with its directories.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(programs::carrack());
        command.arg("--root").arg(self.place.join("root")).arg("--run").arg(self.place.join("run")).args(arguments);
        command
    }

    /// Runs `carrack`, which must succeed.
    pub fn ok(&self, arguments: &[&str]) -> String {
        run(&mut self.command(arguments)).ok()
    }

    /// Starts the daemon, and returns its socket.
    pub fn serve(&mut self) -> PathBuf {
        let socket = self.place.join("carrack.sock");
        let mut command = self.command(&["serve", "--socket"]);
        self.daemon = Some(start(command.arg(&socket).stdin(Stdio::null())));
        wait_for("carrack serve answers", Duration::from_secs(30), || Cri::connect(&socket).ok());
        socket
    }
}

impl Drop for Carrack {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            let pid = i32::try_from(daemon.child.id()).ok().and_then(Pid::from_raw).expect("a child has a pid");
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::TERM);
            daemon.finish(Duration::from_secs(30));
        }
        run(&mut self.command(&["teardown"]));
    }
}
