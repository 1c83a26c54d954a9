//! Stopping and continuing all processes of a group.
//!
//! Version 1 answers FREEZING until all stand, and each reading of the file tries again; it may stay so if a task forks at the
//! wrong moment, which thawing and freezing anew cures. Version 2 tells by an event on `cgroup.events`.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use carrack_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use carrack_sys::rustix::fs::OFlags;
use carrack_sys::rustix::io::Errno;
use carrack_sys::rustix::thread::nanosleep;

use crate::error::CgroupError;
use crate::file;
use crate::group::{Group, Member};
use crate::host::Version;

/// A process in the middle of a long system call stands late.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks at version 1, which has no event to wait for.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000 };
/// Looks after which version 1 is thawed and frozen anew.
const LOOKS: u32 = 50;

/// Where the group's freezer is: every group of version 2 has one.
pub(crate) fn place(group: &Group) -> Option<(&Member, Version)> {
    let member = |member: &&Member| {
        let hierarchy = group.host.hierarchy(member.hierarchy);
        hierarchy.version == Version::V2 || hierarchy.controllers.iter().any(|name| name == "freezer")
    };
    let found = group.members.iter().find(member)?;
    Some((found, group.host.hierarchy(found.hierarchy).version))
}

pub(crate) fn freeze(group: &Group) -> Result<(), CgroupError> {
    let (member, version) = place(group).ok_or(CgroupError::NoFreezer)?;
    let deadline = Instant::now() + PATIENCE;
    let outcome = match version {
        Version::V1 => freeze_v1(group, member, deadline),
        Version::V2 => {
            write(group, member, "cgroup.freeze", "1")?;
            wait_v2(group, member, 1, deadline)
        }
    };
    // Half frozen is worse than not frozen.
    outcome.inspect_err(|_| {
        let _ = thaw(group);
    })
}

fn freeze_v1(group: &Group, member: &Member, deadline: Instant) -> Result<(), CgroupError> {
    loop {
        write(group, member, "freezer.state", "FROZEN")?;
        for _ in 0..LOOKS {
            if member.read(&group.host, "freezer.state")?.trim() == "FROZEN" {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(CgroupError::Freezer { path: member.path(&group.host), wanted: "frozen" });
            }
            pause();
        }
        write(group, member, "freezer.state", "THAWED")?;
    }
}

pub(crate) fn thaw(group: &Group) -> Result<(), CgroupError> {
    let (member, version) = place(group).ok_or(CgroupError::NoFreezer)?;
    match version {
        Version::V1 => write(group, member, "freezer.state", "THAWED"),
        Version::V2 => {
            write(group, member, "cgroup.freeze", "0")?;
            wait_v2(group, member, 0, Instant::now() + PATIENCE)
        }
    }
}

pub(crate) fn is_frozen(group: &Group) -> Result<bool, CgroupError> {
    let Some((member, version)) = place(group) else { return Ok(false) };
    let answer = match version {
        Version::V1 => member.read(&group.host, "freezer.state").map(|text| text.trim() != "THAWED"),
        Version::V2 => member.read(&group.host, "cgroup.freeze").map(|text| text.trim() == "1"),
    };
    match answer {
        Err(CgroupError::NoGroup { .. }) => Ok(false),
        other => other,
    }
}

fn wait_v2(group: &Group, member: &Member, wanted: u64, deadline: Instant) -> Result<(), CgroupError> {
    let path = || group.host.hierarchy(member.hierarchy).path(&member.file("cgroup.events"));
    let unreadable = |source| CgroupError::Read { path: path(), source };
    let events = file::open(group.host.root(member.hierarchy), &member.file("cgroup.events"), OFlags::RDONLY)
        .map_err(unreadable)?;
    loop {
        let mut text = [0; 256];
        let count = carrack_sys::rustix::io::pread(&events, &mut text, 0).map_err(|errno| unreadable(errno.into()))?;
        let text = String::from_utf8_lossy(&text[..count]);
        if file::field(&text, "frozen") == Some(wanted) {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let wanted = if wanted == 1 { "frozen" } else { "thawed" };
            return Err(CgroupError::Freezer { path: member.path(&group.host), wanted });
        }
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::from_borrowed_fd(events.as_fd(), PollFlags::PRI)], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(unreadable(errno.into())),
        }
    }
}

fn write(group: &Group, member: &Member, name: &str, value: &str) -> Result<(), CgroupError> {
    file::write(group.host.root(member.hierarchy), &member.file(name), value).map_err(|source| {
        if !member.exists(&group.host) {
            return CgroupError::NoGroup { path: member.path(&group.host) };
        }
        let path = group.host.hierarchy(member.hierarchy).path(&member.file(name));
        CgroupError::Write { path, value: value.to_owned(), source }
    })
}

pub(crate) fn pause() {
    // An interruption only makes the pause shorter.
    let _ = nanosleep(&PAUSE);
}
