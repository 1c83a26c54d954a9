//! What black-box and root tests over the built programs stand on.
//!
//! A test gets a [`node::Node`]: a private host (network, mount and pid namespaces of its own) with a private root and run
//! directory, in which it runs the two programs as a user would. Images come from [`image`], registries from [`registry`], and
//! [`node::Node::finish`] proves that nothing is left over. Everything a fixture starts ends with it, by its pid.

#![forbid(unsafe_code)]

pub mod bundle;
pub mod command;
pub mod cri;
pub mod image;
pub mod leak;
pub mod log;
pub mod node;
pub mod place;
pub mod programs;
pub mod pty;
pub mod registry;
pub mod tree;
pub mod wait;

/// Says aloud that a test cannot run here, in the words that `cargo xtask test` counts.
pub fn skip(test: &str, reason: &str) {
    eprintln!("SKIPPED: {test}: {reason}");
}
