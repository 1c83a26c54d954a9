//! Compiles seccomp profiles to BPF programs.
//!
//! Source: OCI runtime specification 1.3, config-linux.md, "Seccomp"; what it leaves open is decided as libseccomp and runc do
//! (see the module `rules`). [`compile`] is pure; [`Program::load`] is the one call that changes the calling thread.
//!
//! ```text
//! LinuxSeccomp ──rules──▶ outcome per ABI and number ──tree──▶ ranges ──assembly──▶ SockFilter
//! ```

#![forbid(unsafe_code)]

mod action;
mod arch;
mod assembly;
mod condition;
mod multiplexer;
mod profile;
mod program;
mod rules;
mod support;
mod table;
mod tree;

pub use action::Verdict;
pub use arch::{Abi, Arch};
pub use carrack_sys::seccomp::SockFilter;
pub use profile::{KernelVersion, default_profile};
pub use program::{CompileError, LoadError, Program, compile};
pub use support::{KernelSupport, known_actions, known_architectures, known_flags, known_operators};
