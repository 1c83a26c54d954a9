//! Serves both services on one socket.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use carrack_cri_proto::v1::image_service_server::ImageServiceServer;
use carrack_cri_proto::v1::runtime_service_server::RuntimeServiceServer;
use carrack_engine::Engine;
use carrack_words::Kind;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::time::Sleep;
use tonic::codegen::tokio_stream::Stream;
use tonic::transport::Server;

use crate::image_service::Images;
use crate::request::HostFacts;
use crate::runtime_service::Runtime;
use crate::workers::Workers;

/// The largest message either way: what the kubelet and crictl send and take.
pub(crate) const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// Calls that one connection may have open; further ones wait at the client.
const MAX_CONCURRENT_CALLS: u32 = 512;

/// How much of a large message travels before it is acknowledged.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// How long calls that are under way at the end have to finish.
const DRAIN: Duration = Duration::from_secs(5);

/// How long to wait when a connection cannot be accepted, for want of handles or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The service ended with a failure.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The transport failed.
    #[error("serve the container runtime interface")]
    Transport {
        /// Why.
        source: tonic::transport::Error,
    },
}

impl ServeError {
    /// Its class.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Transport { .. } => Kind::Internal,
        }
    }
}

/// Serves CRI v1 on `listener` until `shutdown` completes.
///
/// Calls that are under way then have five seconds to finish. What they do to pods goes on or is taken up by the next engine;
/// nothing depends on this process.
pub async fn serve(
    engine: Arc<Engine>,
    listener: UnixListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let workers = Workers::new();
    let runtime = RuntimeServiceServer::new(Runtime::new(engine.clone(), workers.clone(), HostFacts::probe()))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let images = ImageServiceServer::new(Images::new(engine, workers))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let (ended, draining) = oneshot::channel();
    let shutdown = async move {
        shutdown.await;
        // Nobody listens if the server failed meanwhile.
        let _ = ended.send(());
    };
    let serving = Server::builder()
        .max_concurrent_streams(MAX_CONCURRENT_CALLS)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .add_service(runtime)
        .add_service(images)
        .serve_with_incoming_shutdown(Accepting { listener, pause: None }, shutdown);
    let too_late = async {
        if draining.await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = serving => served.map_err(|source| ServeError::Transport { source }),
        () = too_late => Ok(()),
    }
}

/// Accepts connections. A failure to accept one is no reason to end: it is told, and tried again after a pause.
struct Accepting {
    listener: UnixListener,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Stream for Accepting {
    type Item = io::Result<UnixStream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match ready!(self.listener.poll_accept(cx)) {
                Ok((connection, _)) => return Poll::Ready(Some(Ok(connection))),
                Err(error) => {
                    tracing::warn!(%error, "accept a CRI connection");
                    self.pause = Some(Box::pin(tokio::time::sleep(ACCEPT_PAUSE)));
                }
            }
        }
    }
}
