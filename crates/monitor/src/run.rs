//! Starting a monitor.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use carrack_monitor_proto::Response;
use carrack_runtime::Sealed;
use carrack_sys::descriptor::close_all_from_except;
use carrack_sys::rustix::fs::{Mode, OFlags, open};
use carrack_sys::rustix::process::{chdir, setsid, umask};
use carrack_sys::rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use carrack_sys::signal_queue::SignalQueue;
use carrack_sys::task::set_child_subreaper;
use carrack_sys::{fork, heap, inherited};

use crate::error::MonitorError;
use crate::journal::{Journal, chain};
use crate::launch::Launcher;
use crate::namespaces::PodNamespaces;
use crate::own_group;
use crate::pod::{Parts, Pod};
use crate::run_dir::RunDir;

/// SIGCHLD.
pub(crate) const SIGCHLD: i32 = 17;
/// SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM and SIGTSTP: only SIGKILL ends a monitor, so that nothing that goes to a
/// group, a session or by mistake cuts containers off from their logs.
const IGNORED_SIGNALS: [i32; 8] = [1, 2, 3, 10, 12, 14, 15, 20];
/// The handle on which whoever started the monitor reads `ready`, or why there is no monitor.
pub(crate) const READY_NUMBER: i32 = 3;
/// What a monitor that is ready says there.
pub const READY: &str = "ready\n";
/// The kernel kills others first when memory is short: without the monitor its containers' exits are lost.
const OOM_SCORE: &str = "-999";
/// Memory from this size on goes back to the kernel when it is freed.
const SMALL_BYTES: i32 = 16 << 10;

/// Runs the monitor of the pod in `directory`: returns at once in the process that was called, while a process of its own goes on.
///
/// To be called first thing in `main`. Handle 3, if it is open, is told how the start went: [`READY`], or the JSON of a
/// [`Response::Error`].
pub fn run(directory: &Path) -> Result<(), MonitorError> {
    // Executes the program anew if need be, so it comes before everything else.
    let mut sealed = Sealed::enter().map_err(|source| MonitorError::Seal { source })?;
    sealed.close_mount();
    let failed = |action| move |source| MonitorError::System { action, source };
    let ready = inherited::take(READY_NUMBER).map_err(failed("take the handle of whoever starts the monitor"))?;
    let mut kept: Vec<i32> = ready.iter().map(AsRawFd::as_raw_fd).collect();
    kept.push(sealed.as_fd().as_raw_fd());
    // Handles that were left open by mistake would stay open as long as the pod.
    close_all_from_except(READY_NUMBER, &mut kept).map_err(failed("close inherited handles"))?;
    let ready = ready.map(File::from);
    fork::fork(|| match serve(directory, sealed, ready) {
        Ok(()) => 0,
        Err(_) => 1,
    })
    .map_err(failed("start the monitor's process"))?;
    Ok(())
}

/// The monitor's process.
fn serve(directory: &Path, sealed: Sealed, mut ready: Option<File>) -> Result<(), MonitorError> {
    let prepared = prepare(directory, sealed);
    // Nobody may listen any more; the monitor does its work all the same.
    if let Some(mut ready) = ready.take() {
        let _ = match &prepared {
            Ok(_) => ready.write_all(READY.as_bytes()),
            Err(error) => ready.write_all(&refusal(error)),
        };
    }
    prepared?.run()
}

/// In this order: the lock before anything is replaced; the group before memory is used and processes are started; the namespaces
/// before signals are blocked, since the first process of a pid namespace inherits the mask; the socket last, as it says that
/// requests are welcome.
fn prepare(directory: &Path, sealed: Sealed) -> Result<Pod, MonitorError> {
    let failed = |action| move |source| MonitorError::System { action, source };
    heap::keep_small(SMALL_BYTES);
    let run_dir = RunDir::open(directory)?;
    let config = run_dir.config()?;
    run_dir.lock(&config)?;
    setsid().map_err(|error| failed("begin a session")(error.into()))?;
    let journal = Journal::open(run_dir.path()).map_err(|source| MonitorError::File {
        action: "open the log in",
        path: run_dir.path().to_owned(),
        source,
    })?;
    replace_standard_streams(&journal).map_err(failed("replace the standard streams"))?;
    chdir("/").map_err(|error| failed("leave the working directory")(error.into()))?;
    // The modes of logs and of their directories are given in full where they are made.
    umask(Mode::WGRP | Mode::WOTH);
    set_child_subreaper(true).map_err(failed("become a subreaper"))?;
    let of_group = |source| MonitorError::OwnGroup { pod: config.id.clone(), source };
    if let Some(path) = &config.monitor_cgroup {
        own_group::enter(path).map_err(of_group)?;
    }
    if let Err(error) = fs::write("/proc/self/oom_score_adj", OOM_SCORE) {
        // Without CAP_SYS_RESOURCE the score cannot be lowered.
        journal.note(format_args!("lower oom_score_adj to {OOM_SCORE}: {error}"));
    }
    let namespaces = PodNamespaces::make(&config, &sealed)
        .map_err(|source| MonitorError::Namespaces { pod: config.id.clone(), source })?;
    let mut numbers = IGNORED_SIGNALS.to_vec();
    numbers.push(SIGCHLD);
    let signals = SignalQueue::open(&numbers).map_err(failed("queue signals"))?;
    let listener = run_dir.listen()?;
    let launcher = Launcher { sealed, state_root: config.state_root.clone() };
    Ok(Pod::new(Parts { config, run_dir, launcher, namespaces, journal, signals, listener }))
}

/// What the starter reads in place of [`READY`].
fn refusal(error: &MonitorError) -> Vec<u8> {
    let response = Response::Error { kind: error.kind(), message: chain(error) };
    serde_json::to_vec(&response).unwrap_or_else(|_| chain(error).into_bytes())
}

fn replace_standard_streams(journal: &Journal) -> io::Result<()> {
    let null: OwnedFd = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    // A panic's message goes there.
    dup2_stderr(journal.file())?;
    Ok(())
}
