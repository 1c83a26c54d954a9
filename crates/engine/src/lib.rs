//! Pods, containers, exec and recovery over one store: what every front end calls.
//!
//! An [`Engine`] is a set of handles. Everything it knows is on disk ([`record`]) or in the kernel, so that the command line needs no daemon, a daemon
//! may be killed at any instant, and all of them may work at the same time: each pod has a lock between processes. All calls block.

#![forbid(unsafe_code)]

mod config;
mod container;
mod defaults;
mod engine;
mod error;
mod exec;
mod facts;
mod images;
mod link;
mod names;
mod orphan;
mod pairing;
mod pod;
mod record;
mod recover;
pub mod request;
mod rootfs;
mod seccomp;
mod signal;
mod spec;
mod table;
mod user;
pub mod view;

pub use carrack_monitor::client::{AttachReader, AttachWriter, ClientError};
pub use carrack_monitor_proto::{ExitRecord, RestartPolicy, Size, Stream, StreamFrame};
pub use config::EngineConfig;
pub use container::{AttachRequest, Force, RemoveOptions};
pub use engine::Engine;
pub use error::EngineError;
pub use exec::ExecStdio;
pub use images::{DiskUsage, RemoveNames};
pub use link::ExecSession;
pub use recover::Recovered;
pub use rootfs::ViewError;
pub use signal::signal_number;
pub use spec::SpecError;
pub use user::UserError;
