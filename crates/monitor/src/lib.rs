//! The loop of one pod: streams, logs, exits, exec, attach.
//!
//! [`run`] is the program `carrack-oci monitor DIRECTORY`: one process per pod, parent and subreaper of its containers. It reads
//! `pod.json` from the directory and serves `monitor.sock` there (see `carrack-monitor-proto`). It starts containers through stages, owns
//! their standard streams, writes their logs, records each exit before it announces it, restarts by the recorded policy, and
//! after the last exit of a pod that is not persistent runs the engine's cleanup program and ends.
//!
//! It runs as root on the host, in a control group of the engine's, and is single-threaded. [`client`] is the other end, for the engine.

#![forbid(unsafe_code)]

mod back_off;
mod cleanup;
pub mod client;
mod connection;
mod container;
mod error;
mod exit_file;
mod journal;
mod launch;
mod lifecycle;
mod log;
mod namespaces;
mod own_group;
mod pod;
pub mod pod_init;
mod process;
mod requests;
mod run;
mod run_dir;
mod start;
mod streams;
mod supervise;
mod sysctl;
#[cfg(test)]
mod test_dir;

pub use error::MonitorError;
pub use run::{READY, run};
pub use run_dir::Vacant;
pub use start::{StartError, start};
