//! One group, in all the hierarchies where it is.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use carrack_sys::rustix::fs::{self, OFlags};
use carrack_sys::rustix::io::Errno;
use carrack_sys::rustix::process::{Pid, Signal, kill_process};

use crate::enter::EnterHandles;
use crate::error::{CgroupError, RemoveError};
use crate::file;
use crate::freezer;
use crate::host::{Host, Version};
use crate::plan::Plan;
use crate::remove;
use crate::stats::{self, Stats};
use crate::update;

/// A group. It holds paths, not handles on the group itself: the group may go away and come again meanwhile.
#[derive(Debug, Clone)]
pub struct Group {
    pub(crate) host: Host,
    pub(crate) members: Vec<Member>,
}

/// A group in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) hierarchy: usize,
    /// Below the hierarchy's root; empty for the root itself.
    pub(crate) group: String,
}

/// How often a round of signals is repeated until no process is left that was born meanwhile.
const ROUNDS: usize = 32;

impl Group {
    pub(crate) fn new(host: &Host, members: Vec<(usize, String)>) -> Self {
        let members = members.into_iter().map(|(hierarchy, group)| Member { hierarchy, group }).collect();
        Self { host: host.clone(), members }
    }

    /// Whether the group is there in any hierarchy.
    pub fn exists(&self) -> bool {
        self.members.iter().any(|member| member.exists(&self.host))
    }

    /// Full paths by controller, and under an empty name that of version 2: what runc's state lists as `cgroup_paths`.
    /// [`Host::open_recorded`] takes them back.
    pub fn paths(&self) -> BTreeMap<String, PathBuf> {
        let labels = |member: &Member| {
            let path = member.path(&self.host);
            let hierarchy = self.host.hierarchy(member.hierarchy);
            hierarchy.labels().map(|label| (label.to_owned(), path.clone())).collect::<Vec<_>>()
        };
        self.members.iter().flat_map(labels).collect()
    }

    /// The members that a process of the group is in. On a hybrid host the group stands in version 2 only if a setting needed it there.
    fn entered(&self) -> impl Iterator<Item = &Member> {
        let is_hybrid = self.members.len() > 1;
        self.members.iter().filter(move |member| {
            let is_optional = is_hybrid && self.host.hierarchy(member.hierarchy).version == Version::V2;
            !is_optional || member.exists(&self.host)
        })
    }

    /// Opens what entering the group takes.
    pub fn enter_handles(&self) -> Result<EnterHandles, CgroupError> {
        let mut handles = EnterHandles { unified: None, tasks: Vec::with_capacity(self.members.len()) };
        for member in self.entered() {
            match self.host.hierarchy(member.hierarchy).version {
                Version::V2 => handles.unified = Some((member.open(&self.host)?, member.path(&self.host))),
                Version::V1 => {
                    let path = self.host.hierarchy(member.hierarchy).path(&member.file("tasks"));
                    let tasks = file::open(self.host.root(member.hierarchy), &member.file("tasks"), OFlags::WRONLY)
                        .map_err(|source| CgroupError::Enter { path: path.clone(), source })?;
                    handles.tasks.push((tasks, path));
                }
            }
        }
        Ok(handles)
    }

    /// Moves another process with all its threads into the group. Slow on version 1; for the engine's own processes.
    pub fn add_process(&self, pid: Pid) -> Result<(), CgroupError> {
        self.entered().try_for_each(|member| {
            let file = member.file("cgroup.procs");
            file::write(self.host.root(member.hierarchy), &file, &pid.as_raw_nonzero().to_string()).map_err(|source| {
                CgroupError::Enter { path: self.host.hierarchy(member.hierarchy).path(&file), source }
            })
        })
    }

    /// The processes in the group and in those below it, in ascending order; none if the group is gone.
    pub fn pids(&self) -> Result<Vec<Pid>, CgroupError> {
        let Some(member) = self.holder() else { return Ok(Vec::new()) };
        let mut pids = Vec::new();
        for group in member.with_descendants(&self.host)? {
            let text = match group.read(&self.host, "cgroup.procs") {
                Ok(text) => text,
                Err(CgroupError::NoGroup { .. }) => continue,
                Err(other) => return Err(other),
            };
            // A process of another pid namespace reads as 0.
            pids.extend(text.lines().filter_map(|line| line.parse().ok().and_then(Pid::from_raw)));
        }
        pids.sort_unstable_by_key(|pid| pid.as_raw_nonzero());
        pids.dedup();
        Ok(pids)
    }

    /// Sends a signal to every process in the group and below it; those born meanwhile may be missed.
    pub fn signal_all(&self, signal: Signal) -> Result<(), CgroupError> {
        for pid in self.pids()? {
            match kill_process(pid, signal) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(errno) => {
                    let path = self.holder().map_or_else(PathBuf::new, |member| member.path(&self.host));
                    let pid = pid.as_raw_nonzero().get();
                    return Err(CgroupError::Signal { pid, path, source: errno.into() });
                }
            }
        }
        Ok(())
    }

    /// Kills every process in the group and below it, also those that fork meanwhile, and those that are frozen. Does not wait for
    /// them to be gone: reap the container's first process, or give [`Self::remove`] some time.
    pub fn kill_all(&self) -> Result<(), CgroupError> {
        let Some(member) = self.holder() else { return Ok(()) };
        let is_unified = self.host.hierarchy(member.hierarchy).version == Version::V2;
        if is_unified {
            // Linux 5.14.
            match file::write(self.host.root(member.hierarchy), &member.file("cgroup.kill"), "1") {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => {
                    let path = self.host.hierarchy(member.hierarchy).path(&member.file("cgroup.kill"));
                    return Err(CgroupError::Write { path, value: "1".to_owned(), source });
                }
            }
        }
        self.kill_frozen(member)
    }

    /// What is frozen does not fork away from the signal; on version 1 it dies when it is thawed.
    fn kill_frozen(&self, member: &Member) -> Result<(), CgroupError> {
        let frozen = self.freeze();
        let signalled = match frozen {
            Ok(()) => self.signal_all(Signal::KILL),
            // No freezer, or a process that sleeps too deeply: repeat until no new one shows up.
            Err(_) => self.kill_in_rounds(member),
        };
        let thawed = if freezer::place(self).is_some() { self.thaw() } else { Ok(()) };
        signalled.and(thawed)
    }

    fn kill_in_rounds(&self, member: &Member) -> Result<(), CgroupError> {
        let mut known = Vec::new();
        for _ in 0..ROUNDS {
            self.signal_all(Signal::KILL)?;
            let now = self.pids()?;
            if now.iter().all(|pid| known.contains(pid)) {
                return Ok(());
            }
            known = now;
        }
        Err(CgroupError::Kill { path: member.path(&self.host), left: known.len() })
    }

    /// Stops every process in the group and below it, and waits until they stand; at most two seconds.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        freezer::freeze(self)
    }

    /// Lets them go on.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        freezer::thaw(self)
    }

    /// Whether they stand. False also where there is no freezer, and no group.
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        freezer::is_frozen(self)
    }

    /// How many processes of the group the kernel has killed for want of memory; none if no memory controller counts.
    pub fn oom_kill_count(&self) -> Result<Option<u64>, CgroupError> {
        stats::oom_kill_count(self)
    }

    /// The text of a file, by the names of its controller in version 1 and 2 and its own in each; nothing if the kernel has none such.
    pub fn text(&self, controllers: [&str; 2], names: [&str; 2]) -> Option<String> {
        let (member, version) = self.with_controller(controllers)?;
        let name = names[usize::from(version == Version::V2)];
        if name.is_empty() { None } else { member.read(&self.host, name).ok() }
    }

    /// What the group uses.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        stats::read(self)
    }

    /// Changes limits. The plan is one for this group; nothing is made anew.
    pub fn update(&self, plan: &Plan) -> Result<(), CgroupError> {
        update::update(self, plan)
    }

    /// Removes the group and all below it, trying again while processes are still on their way out, for as long as `patience`.
    ///
    /// Goes on after a failure and reports all; a group that is gone is success. Parents stay.
    pub fn remove(&self, patience: Duration) -> Result<(), RemoveError> {
        remove::remove(self, patience)
    }

    /// The member to find processes in. On version 1 all have the same; the freezer's are the ones that can be stopped.
    pub(crate) fn holder(&self) -> Option<&Member> {
        let existing = |member: &&Member| member.exists(&self.host);
        let freezer = freezer::place(self).map(|(member, _)| member);
        freezer.filter(existing).or_else(|| self.members.iter().find(existing))
    }

    /// The member with a controller, by its names in version 1 and 2.
    pub(crate) fn with_controller(&self, names: [&str; 2]) -> Option<(&Member, Version)> {
        self.members.iter().find_map(|member| {
            let hierarchy = self.host.hierarchy(member.hierarchy);
            let name = match hierarchy.version {
                Version::V1 => names[0],
                Version::V2 => names[1],
            };
            hierarchy.controllers.iter().any(|known| known == name).then_some((member, hierarchy.version))
        })
    }
}

impl Member {
    /// The path of a file of this group, below the hierarchy's root.
    pub(crate) fn file(&self, name: &str) -> String {
        if self.group.is_empty() { name.to_owned() } else { format!("{}/{name}", self.group) }
    }

    /// For people.
    pub(crate) fn path(&self, host: &Host) -> PathBuf {
        host.hierarchy(self.hierarchy).path(&self.group)
    }

    pub(crate) fn exists(&self, host: &Host) -> bool {
        let flags = carrack_sys::rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        fs::statat(host.root(self.hierarchy), self.path_or_dot(), flags).is_ok()
    }

    fn path_or_dot(&self) -> &str {
        if self.group.is_empty() { "." } else { &self.group }
    }

    /// A handle on the directory.
    pub(crate) fn open(&self, host: &Host) -> Result<OwnedFd, CgroupError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        file::open(host.root(self.hierarchy), self.path_or_dot(), flags)
            .map_err(|source| self.unreadable(host, "", source))
    }

    /// The text of a file; a group that is gone is [`CgroupError::NoGroup`].
    pub(crate) fn read(&self, host: &Host, name: &str) -> Result<String, CgroupError> {
        file::read(host.root(self.hierarchy), &self.file(name)).map_err(|source| self.unreadable(host, name, source))
    }

    pub(crate) fn number(&self, host: &Host, name: &str) -> Result<u64, CgroupError> {
        let text = self.read(host, name)?;
        file::parse_number(&text)
            .ok_or_else(|| CgroupError::Format { path: host.hierarchy(self.hierarchy).path(&self.file(name)), text })
    }

    fn unreadable(&self, host: &Host, name: &str, source: io::Error) -> CgroupError {
        // ENODEV: the group went away while the file was open.
        let is_gone = matches!(Errno::from_io_error(&source), Some(Errno::NODEV | Errno::NOENT)) && !self.exists(host);
        if is_gone {
            return CgroupError::NoGroup { path: self.path(host) };
        }
        CgroupError::Read { path: host.hierarchy(self.hierarchy).path(&self.file(name)), source }
    }

    /// This group and all below it, each before those below it.
    pub(crate) fn with_descendants(&self, host: &Host) -> Result<Vec<Self>, CgroupError> {
        let mut all = vec![self.clone()];
        let mut next = 0;
        while let Some(group) = all.get(next).cloned() {
            next += 1;
            match group.children(host) {
                Ok(children) => all.extend(children),
                Err(CgroupError::NoGroup { .. }) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(all)
    }

    fn children(&self, host: &Host) -> Result<Vec<Self>, CgroupError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let directory = file::open(host.root(self.hierarchy), self.path_or_dot(), flags)
            .and_then(|directory| Ok(fs::Dir::new(directory)?))
            .map_err(|source| self.unreadable(host, "", source))?;
        let mut children = Vec::new();
        for entry in directory {
            let entry = entry.map_err(|errno| self.unreadable(host, "", errno.into()))?;
            let name = entry.file_name().to_string_lossy();
            if entry.file_type() == fs::FileType::Directory && name != "." && name != ".." {
                children.push(Self { hierarchy: self.hierarchy, group: self.file(&name) });
            }
        }
        Ok(children)
    }
}
