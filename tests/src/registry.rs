//! Registries inside a node: one of our own that misbehaves on request, and Debian's.

pub mod canned;
pub mod certificate;
pub mod debian;
pub mod http;
pub mod token;

pub use canned::{CannedRegistry, Fault};
pub use debian::DebianRegistry;
pub use token::TokenServer;
