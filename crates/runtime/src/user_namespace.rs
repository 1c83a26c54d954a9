//! Ids of user namespaces (user_namespaces(7)).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use carrack_oci_config::LinuxIdMapping;
use carrack_sys::clone::{ChildOf, CloneRequest, Cloned, clone3, exit_now};
use carrack_sys::namespace::Namespaces;
use carrack_sys::rustix::io::{read, retry_on_intr};
use carrack_sys::rustix::pipe::{PipeFlags, pipe_with};
use carrack_sys::rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::procfs::Procfs;
use crate::step::{Doing, StepError};

/// Gives ids to the new user namespace of a process.
pub fn map_ids(
    procfs: &Procfs,
    pid: i32,
    users: &[LinuxIdMapping],
    groups: &[LinuxIdMapping],
) -> Result<(), StepError> {
    let lines = |mappings: &[LinuxIdMapping]| -> String {
        mappings.iter().map(|one| format!("{} {} {}\n", one.container_id, one.host_id, one.size)).collect()
    };
    procfs.write(&format!("{pid}/uid_map"), &lines(users)).doing(|| "write the uid mappings")?;
    procfs.write(&format!("{pid}/gid_map"), &lines(groups)).doing(|| "write the gid mappings")
}

/// A user namespace with these ids and no process in it: it exists as long as the handle, or a mount that uses it.
pub fn make_empty(users: &[LinuxIdMapping], groups: &[LinuxIdMapping]) -> Result<OwnedFd, StepError> {
    let failed = || "make a user namespace";
    let procfs = Procfs::open_host().doing(|| "open /proc")?;
    let (waiting, go) = pipe_with(PipeFlags::CLOEXEC).doing(failed)?;
    let request = CloneRequest { new: Namespaces::USER, child_of: ChildOf::Caller, into_cgroup: None };
    let Cloned::Parent { pid, pidfd } = clone3(&request).doing(failed)? else {
        drop(go);
        // Until the other end is closed, by us here or by our death.
        let _ = retry_on_intr(|| read(&waiting, &mut [0]));
        exit_now(0)
    };
    let namespace = map_ids(&procfs, pid, users, groups)
        .and_then(|()| procfs.open_namespace_of(pid, "user").doing(|| "open the new user namespace"));
    drop(go);
    retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED))
        .map_err(io::Error::from)
        .doing(|| "wait for the maker of a user namespace")?;
    namespace
}
