//! What happens in a container, as lines of JSON: what it uses, at an interval, and that its memory ran out.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use carrack_cgroup::{Group, OomWatch};
use carrack_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use carrack_sys::rustix::io::Errno;
use carrack_sys::rustix::process::{Pid, PidfdFlags, pidfd_open};
use carrack_words::{ContainerId, ProcessId};
use serde_json::{Value, json};

use crate::stats;

/// A line about what the container uses.
pub fn stats(id: &ContainerId, group: &Group) -> String {
    line("stats", id, Some(stats::read(group)))
}

fn line(kind: &str, id: &ContainerId, data: Option<Value>) -> String {
    let mut event = json!({"type": kind, "id": id.as_str()});
    if let Some(data) = data {
        event["data"] = data;
    }
    format!("{event}\n")
}

/// Watches a container until it ends.
pub struct Watch<'a> {
    group: &'a Group,
    /// Nobody, if it has just ended.
    init: Option<OwnedFd>,
    oom: Option<OomWatch>,
}

impl<'a> Watch<'a> {
    /// Watches from now on.
    pub fn open(group: &'a Group, init: ProcessId) -> Result<Self, io::Error> {
        let pid = Pid::from_raw(init.pid).ok_or(Errno::SRCH)?;
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => Some(handle),
            Err(Errno::SRCH) => None,
            Err(error) => return Err(error.into()),
        };
        let is_alive = carrack_runtime::is_alive(init)?;
        let oom = OomWatch::open(group).map_err(io::Error::other)?;
        Ok(Self { group, init: handle.filter(|_| is_alive), oom })
    }

    /// Tells everything until the container ends.
    pub fn tell_all<E>(
        mut self,
        id: &ContainerId,
        interval: Duration,
        mut tell: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E>
    where
        E: From<io::Error>,
    {
        let Some(init) = self.init.take() else { return Ok(()) };
        let mut next = Instant::now() + interval;
        loop {
            let left = next.saturating_duration_since(Instant::now());
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            let mut fds = vec![PollFd::new(&init, PollFlags::IN)];
            fds.extend(self.oom.as_ref().map(OomWatch::poll_fd));
            match poll(&mut fds, Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(io::Error::from(error).into()),
            }
            let is_over = !fds[0].revents().is_empty();
            drop(fds);
            if self.oom.as_mut().is_some_and(OomWatch::heard) {
                tell(&line("oom", id, None))?;
            }
            if is_over {
                return Ok(());
            }
            if Instant::now() >= next {
                tell(&stats(id, self.group))?;
                next = Instant::now() + interval;
            }
        }
    }
}
