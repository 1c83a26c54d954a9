//! Hearing that the kernel ran out of a group's memory.
//!
//! Version 1 counts on an eventfd that is registered with `memory.oom_control`, and signals it also when the group goes away
//! (`admin-guide/cgroup-v1/memory.rst`, 10). Version 2 makes `memory.events` pollable.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use carrack_sys::rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};
use carrack_sys::rustix::fs::OFlags;
use carrack_sys::rustix::io::{pread, read};

use crate::error::CgroupError;
use crate::file;
use crate::group::Group;
use crate::host::Version;

/// Watches a group.
#[derive(Debug)]
pub struct OomWatch {
    group: Group,
    version: Version,
    handle: OwnedFd,
    /// Version 2: kills that were told.
    known: u64,
}

impl OomWatch {
    /// Watches from now on; nothing if no memory controller counts.
    pub fn open(group: &Group) -> Result<Option<Self>, CgroupError> {
        let Some((member, version)) = group.with_controller(["memory"; 2]) else { return Ok(None) };
        let host = &group.host;
        let open = |name: &str, flags| {
            let path = member.file(name);
            file::open(host.root(member.hierarchy), &path, flags)
                .map_err(|source| CgroupError::Read { path: host.hierarchy(member.hierarchy).path(&path), source })
        };
        let (handle, known) = match version {
            Version::V1 => {
                let control = open("memory.oom_control", OFlags::RDONLY)?;
                let path = host.hierarchy(member.hierarchy).path(&member.file("cgroup.event_control"));
                let failed =
                    |value: &str, source| CgroupError::Write { path: path.clone(), value: value.to_owned(), source };
                let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                    .map_err(|errno| failed("an eventfd", errno.into()))?;
                let order = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
                file::write(host.root(member.hierarchy), &member.file("cgroup.event_control"), &order)
                    .map_err(|source| failed(&order, source))?;
                (event, 0)
            }
            // What happened before is nobody's news.
            Version::V2 => (open("memory.events", OFlags::RDONLY)?, group.oom_kill_count()?.unwrap_or(0)),
        };
        Ok(Some(Self { group: group.clone(), version, handle, known }))
    }

    /// To be polled; [`Self::heard`] says what there is.
    pub fn poll_fd(&self) -> PollFd<'_> {
        let flags = match self.version {
            Version::V1 => PollFlags::IN,
            Version::V2 => PollFlags::PRI,
        };
        PollFd::from_borrowed_fd(self.handle.as_fd(), flags)
    }

    /// Whether memory ran out since it was asked last. Does not wait.
    pub fn heard(&mut self) -> bool {
        match self.version {
            Version::V1 => {
                let mut count = [0; 8];
                let times = read(&self.handle, &mut count).map_or(0, |_| u64::from_ne_bytes(count));
                // One of them says that the group is gone.
                times > u64::from(!self.group.exists())
            }
            Version::V2 => {
                let mut text = [0; 512];
                let length = pread(&self.handle, &mut text, 0).unwrap_or(0);
                let count = file::field(&String::from_utf8_lossy(&text[..length]), "oom_kill").unwrap_or(0);
                let is_more = count > self.known;
                self.known = self.known.max(count);
                is_more
            }
        }
    }
}
