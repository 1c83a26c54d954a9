//! The first process of a pod whose containers share a pid namespace: it keeps the namespace alive and reaps orphans.
//!
//! Containers of the pod see it as process 1, so it is as poor as a process can be before the first of them starts: an empty
//! read-only root in a mount namespace of its own, no handle, no capability, not dumpable.

use std::io;

use carrack_sys::descriptor::close_all_from_except;
use carrack_sys::namespace::{Namespaces, unshare};
use carrack_sys::rustix::event::{PollFd, PollFlags, poll};
use carrack_sys::rustix::io::Errno;
use carrack_sys::rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use carrack_sys::rustix::process::{
    DumpableBehavior, WaitOptions, chdir, getpid, pivot_root, set_dumpable_behavior, wait,
};
use carrack_sys::rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};
use carrack_sys::signal_queue::SignalQueue;
use carrack_words::Kind;

const SIGCHLD: i32 = 17;
/// A directory that every host has; the empty root is mounted there for a moment.
const STAGING: &str = "/proc";

/// The first process of a pid namespace cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum PodInitError {
    /// It was started by hand.
    #[error("pod-init is process {pid}: it works only as process 1 of a pod, started by a monitor")]
    NotFirst {
        /// What it is.
        pid: i32,
    },
    /// A step failed.
    #[error("{step}")]
    Step {
        /// Which.
        step: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl PodInitError {
    /// The class of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            PodInitError::NotFirst { .. } => Kind::Precondition,
            PodInitError::Step { .. } => Kind::Internal,
        }
    }
}

type Step = (&'static str, fn() -> io::Result<()>);

/// In this order: the root needs capabilities, and the handles are closed last so that an error can be told.
const STEPS: &[Step] = &[
    ("leave the host's mount namespace", leave_mounts),
    ("enter an empty root", enter_empty_root),
    ("forbid new privileges", || Ok(set_no_new_privs(true)?)),
    ("drop all capabilities", drop_capabilities),
    ("forbid inspection", || Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)),
    ("close all handles", || close_all_from_except(0, &mut [])),
];

/// Makes itself poor, then reaps until it is killed; returns only with an error.
pub fn run() -> Result<std::convert::Infallible, PodInitError> {
    let pid = getpid().as_raw_nonzero().get();
    if pid != 1 {
        return Err(PodInitError::NotFirst { pid });
    }
    for (step, carry_out) in STEPS {
        carry_out().map_err(|source| PodInitError::Step { step, source })?;
    }
    reap().map_err(|source| PodInitError::Step { step: "reap", source })
}

fn leave_mounts() -> io::Result<()> {
    unshare(Namespaces::MOUNT)?;
    Ok(mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?)
}

fn enter_empty_root() -> io::Result<()> {
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("none", STAGING, "tmpfs", flags, c"mode=0555,size=4k,nr_inodes=1")?;
    chdir(STAGING)?;
    // With the same directory twice, the old root comes to lie over the new one, and is taken off there (pivot_root(2)).
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    Ok(chdir("/")?)
}

fn drop_capabilities() -> io::Result<()> {
    let none = CapabilitySet::empty();
    Ok(set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?)
}

fn reap() -> io::Result<std::convert::Infallible> {
    let queue = SignalQueue::open(&[SIGCHLD])?;
    loop {
        while queue.next()?.is_some() {}
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) | Err(Errno::CHILD) => break,
                Err(error) => return Err(error.into()),
            }
        }
        match poll(&mut [PollFd::new(&queue, PollFlags::IN)], None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
