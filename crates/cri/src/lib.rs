//! The CRI edge: gRPC in, engine calls out.
//!
//! Serves the Kubernetes Container Runtime Interface v1 (cri-api 0.36.3) on a unix socket. It translates and never decides:
//! [`request`] turns messages into the engine's requests and refuses by name what the engine does not have, [`status`] turns
//! the engine's views into answers, both pure; between them the services call the engine on threads that may block.
//! An rpc that is not offered answers `UNIMPLEMENTED` with its name.
//!
//! Runs in the daemon, with the daemon's privilege. What arrives is what the kubelet or root asks for: the socket is for root
//! only. Secrets are never logged.

#![forbid(unsafe_code)]

mod calls;
mod facts;
mod fault;
mod image_service;
mod request;
mod runtime_service;
mod server;
mod signal;
mod socket;
mod status;
mod workers;

pub use server::{ServeError, serve};
pub use socket::{DEFAULT_SOCKET, SocketError, SocketFile, listen};
