//! Removing a group.

use std::io;
use std::time::{Duration, Instant};

use carrack_sys::rustix::fs::{self, AtFlags};
use carrack_sys::rustix::io::Errno;

use crate::error::{CgroupError, RemoveError, RemoveFailure};
use crate::freezer;
use crate::group::{Group, Member};
use crate::host::Host;

pub(crate) fn remove(group: &Group, patience: Duration) -> Result<(), RemoveError> {
    let deadline = Instant::now() + patience;
    let failures: Vec<RemoveFailure> = group
        .members
        .iter()
        .filter_map(|member| {
            let source = remove_member(&group.host, member, deadline).err()?;
            Some(RemoveFailure { path: member.path(&group.host), source })
        })
        .collect();
    if failures.is_empty() { Ok(()) } else { Err(RemoveError { failures }) }
}

/// EBUSY means a process inside, which may be a zombie or on its way out, or a group below.
fn remove_member(host: &Host, member: &Member, deadline: Instant) -> io::Result<()> {
    loop {
        match remove_directory(host, member) {
            Err(Errno::BUSY) => {}
            other => return Ok(other?),
        }
        remove_below(host, member)?;
        match remove_directory(host, member) {
            Err(Errno::BUSY) if Instant::now() < deadline => freezer::pause(),
            other => return Ok(other?),
        }
    }
}

/// The deepest first; one that is still busy is left to the next round.
fn remove_below(host: &Host, member: &Member) -> io::Result<()> {
    let all = member.with_descendants(host).map_err(|error| match error {
        CgroupError::Read { source, .. } => source,
        other => io::Error::other(other.to_string()),
    })?;
    for below in all.iter().skip(1).rev() {
        match remove_directory(host, below) {
            Ok(()) | Err(Errno::BUSY) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// One directory; that it is gone already is success.
pub(crate) fn remove_directory(host: &Host, member: &Member) -> Result<(), Errno> {
    match fs::unlinkat(host.root(member.hierarchy), &member.group, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}
