//! The command line and the daemon.

#![forbid(unsafe_code)]

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use carrack_engine::Engine;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    carrack_cli::main(serve)
}

/// The daemon: recovers what an earlier one left, then serves until it is told to end. Pods go on without it.
fn serve(engine: Arc<Engine>, socket: PathBuf) -> io::Result<()> {
    tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
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
    })
}
