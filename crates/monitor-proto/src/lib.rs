//! The messages between the engine and the monitor of a pod, without I/O.
//!
//! A monitor listens on `monitor.sock` in the pod's run directory. Both ends speak frames of a little-endian `u32` length
//! followed by that much JSON ([`FrameBuffer`], [`encode`]). The first message on a connection is [`Request::Hello`]. After that
//! requests are answered one after the other: while one is pending ([`Request::Wait`], [`Request::Stop`], a running
//! [`Request::Exec`]) those behind it wait, so whoever wants to do two things at once opens two connections. After
//! [`Response::Attached`] a connection carries [`StreamFrame`]s for the rest of its life.
//!
//! Handles travel by `SCM_RIGHTS` on the first byte of the frame that speaks of them: an exec without a terminal brings the three
//! standard streams, [`Response::ExecStarted`] of one with a terminal brings the terminal's controlling side back.
//!
//! The same crate defines the two records of a pod's run: [`PodConfig`] (`pod.json`), which tells the monitor what to do, and
//! [`ExitRecord`] (`exit.json` of each container), which tells the engine what has happened.

#![forbid(unsafe_code)]

mod exit_record;
mod frame;
mod message;
mod namespace;
mod pod_config;
mod restart;
mod signal;
mod state;
mod stream;

pub use exit_record::ExitRecord;
pub use frame::{FrameBuffer, FrameError, MAX_FRAME_BYTES, encode};
pub use message::{
    Attach, Create, ExecRequest, LogFormat, LogTarget, PROTOCOL_VERSION, Request, Response, Rootfs, SignalScope,
};
pub use namespace::NamespaceType;
pub use pod_config::{IpcMode, NetworkMode, POD_CONFIG_FILE, PidMode, PodConfig, PodConfigError, SOCKET_FILE, UtsMode};
pub use restart::RestartPolicy;
pub use signal::{Signal, SignalError};
pub use state::{ContainerPhase, ContainerState, PodState};
pub use stream::{MAX_STREAM_BYTES, Size, Stream, StreamFrame};
