//! Translates what the engine tells into the interface's answers. Pure.
//!
//! Source: cri-api 0.36.3, and what the kubelet rejects an answer without. Times are nanoseconds since 1970, 0 for "not yet".

mod container;
mod exec;
mod image;
mod pod;
mod runtime;

pub(crate) use container::{container, container_state, container_status};
pub(crate) use exec::exec_sync_response;
pub(crate) use image::{filesystem_usage, image};
pub(crate) use pod::{pod_sandbox, pod_sandbox_status};
pub(crate) use runtime::{condition, runtime_features, runtime_handlers};
