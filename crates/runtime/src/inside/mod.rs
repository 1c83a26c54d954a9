//! What happens in the container's own process: from the first instruction after the clone until the user's program.
//!
//! Everything here runs in a process that dies on the first error after telling the runtime outside, over [`crate::channel`].

pub mod console;
pub mod credentials;
pub mod devices;
pub mod init;
pub mod mounts;
pub mod program;
pub mod root;
pub mod user;
