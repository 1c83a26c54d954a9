//! Entering a group.
//!
//! On version 2 a process is made inside the group by `clone3(CLONE_INTO_CGROUP)` with a handle on its directory. On version 1 it
//! moves itself: writing `0` to `tasks` moves the calling thread and costs a twentieth of writing somebody's pid to `cgroup.procs`,
//! for which the kernel stops all forks on the machine.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use carrack_sys::rustix::fs::OFlags;

use crate::error::CgroupError;
use crate::file;

/// Open handles on a group, ready to enter it; close-on-exec.
#[derive(Debug)]
pub struct EnterHandles {
    /// The directory in version 2.
    pub(crate) unified: Option<(OwnedFd, PathBuf)>,
    /// `tasks` of each hierarchy of version 1.
    pub(crate) tasks: Vec<(OwnedFd, PathBuf)>,
}

impl EnterHandles {
    /// What `clone3(CLONE_INTO_CGROUP)` takes; none if the group is in version 1 only.
    pub fn unified(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(|(directory, _)| directory.as_fd())
    }

    /// Moves the calling process, which must have one thread only, into the group in all hierarchies. A repeat does nothing.
    pub fn enter_self(&self) -> Result<(), CgroupError> {
        self.enter_self_after_clone()?;
        let Some((directory, path)) = &self.unified else { return Ok(()) };
        let failed = |source| CgroupError::Enter { path: path.clone(), source };
        let processes = file::open(directory.as_fd(), "cgroup.procs", OFlags::WRONLY).map_err(failed)?;
        file::write_to(processes.as_fd(), "0").map_err(failed)
    }

    /// As [`Self::enter_self`] for a process that was made inside the group in version 2: does what is left.
    pub fn enter_self_after_clone(&self) -> Result<(), CgroupError> {
        self.tasks.iter().try_for_each(|(tasks, path)| {
            file::write_to(tasks.as_fd(), "0").map_err(|source| CgroupError::Enter { path: path.clone(), source })
        })
    }
}
