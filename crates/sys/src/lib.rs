//! Safe functions over system calls, one call each; all unsafe code of Carrack is here.

#![allow(unsafe_code)]

pub mod bpf;
pub mod clone;
pub mod descriptor;
pub mod detached;
pub mod entry;
pub mod exec;
pub mod fd_passing;
pub mod file_lock;
pub mod fork;
pub mod heap;
pub mod inherited;
pub mod loopback;
pub mod mount_attr;
pub mod namespace;
pub mod netlink;
pub mod seccomp;
pub mod seccomp_listener;
pub mod signal;
pub mod signal_queue;
pub mod sparse_copy;
pub mod task;
pub mod thread_files;
pub mod usage;

pub use rustix;
