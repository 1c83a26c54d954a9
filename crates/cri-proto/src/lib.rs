//! The wire types of the Kubernetes Container Runtime Interface v1.
//!
//! Generated at build time from `proto/api.proto` (cri-api 0.36.3): messages, and a client and a server for each of the two
//! services. Maps are ordered, so that equal messages are equal bytes.

#![forbid(unsafe_code)]

mod secret;

/// Package `runtime.v1` of the interface.
pub mod v1 {
    #![allow(missing_docs, clippy::all)]
    tonic::include_proto!("runtime.v1");
}
