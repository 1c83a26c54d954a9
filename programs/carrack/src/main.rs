//! The command line and the daemon.

#![forbid(unsafe_code)]

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use carrack_engine::Engine;
use carrack_sys::rustix::fs::Mode;
use carrack_sys::rustix::process::umask;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    // What a container sees of its files and volumes must not hang on who called, so the caller's umask does not count; what only root may
    // see has a mode that says so where it is made. It holds for the whole process, so it comes before any thread.
    umask(Mode::WGRP | Mode::WOTH);
    carrack_cli::main(serve)
}

/// The daemon: recovers what an earlier one left, then serves until it is told to end. Pods go on without it.
fn serve(engine: Arc<Engine>, socket: PathBuf) -> io::Result<()> {
    tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).init();
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        // The socket first: two daemons over one directory would both recover it.
        let (listener, _socket_file) = carrack_cri::listen(&socket).map_err(io::Error::other)?;
        let recovered = tokio::task::spawn_blocking({
            let engine = Arc::clone(&engine);
            move || engine.recover()
        })
        .await?
        .map_err(io::Error::other)?;
        tracing::info!(
            socket = %socket.display(),
            released = recovered.released.len(),
            restarted = recovered.restarted.len(),
            "serving CRI v1"
        );
        for failure in &recovered.failures {
            tracing::warn!("recovery: {failure}");
        }
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let told_to_end = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        carrack_cri::serve(engine, listener, told_to_end).await.map_err(io::Error::other)
    });
    // An exec that a client waits for may take for ever; nothing is lost by leaving it.
    runtime.shutdown_background();
    served
}

/// Each call in flight needs some handles; the usual soft limit of 1024 is for programs that use select(2).
fn raise_open_files() {
    use carrack_sys::rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(errno) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!("raise the limit of open files: {errno}");
    }
}
