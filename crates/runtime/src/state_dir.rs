//! The state directory: what outlives the command that created a container.
//!
//! ```text
//! <root>/<id>/            0700; locked (flock) by whoever changes the container's state
//!    state.json           a Record on the first line; on the second, once there is a process, a RecordEnd; READY on the third, once that
//!                         process has nothing left to do but to execute the program
//!    notify/notify.sock   there if the container may say that it is ready; the directory is mounted into it
//!    start.sock           there while the container waits for `start`: its first process listens on it
//! ```
//!
//! The directory is made first, so that two creates of one id exclude each other, and removed last. A record without a process is the
//! intent of a create: it names the cgroups, so that `delete` finds them if the create died. The process is appended, not
//! written into a new file: a reader who sees half of the line sees a container that is still being created, which it was. Until the
//! third line stands there, the process is in the host's file tree in part, so nobody may join it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use carrack_oci_config::{
    CpuAffinity, Hook, Linux, LinuxCapabilities, LinuxIoPriority, LinuxMemoryPolicy, LinuxPersonality, PosixRlimit,
    Process, Scheduler,
};
use carrack_sys::rustix::fs::{
    AtFlags, Dir, FlockOperation, Mode, OFlags, fchmod, flock, fstat, mkdirat, open, openat, rmdir, statat, unlinkat,
};
use carrack_sys::rustix::io::Errno;
use carrack_sys::rustix::process::geteuid;
use carrack_words::{ContainerId, Kind, ProcessId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::listener::Agent;
use crate::plan::process::Shared;
use crate::resctrl::ResctrlGroup;
use crate::step::StepError;

const RECORD: &str = "state.json";
/// The third line.
const READY: &str = "ready";
const NOTIFY_DIRECTORY: &str = "notify";
/// In that directory.
pub(crate) const NOTIFY_SOCKET: &str = "notify.sock";
const START_SOCKET: &str = "start.sock";
/// A record is a few kilobytes, or some dozen with a large filter.
const MAX_RECORD_BYTES: u64 = 4 << 20;

/// What is remembered of a container. Version 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Of this format.
    pub version: u32,
    /// Of the specification that its config.json follows.
    pub oci_version: String,
    /// The container.
    pub id: ContainerId,
    /// Absolute path.
    pub bundle: PathBuf,
    /// Absolute path of the root file system.
    pub rootfs: PathBuf,
    /// When it was created.
    pub created: Timestamp,
    /// From config.json.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Its groups, by hierarchy.
    pub cgroups: BTreeMap<String, PathBuf>,
    /// The unit of systemd's that its group belongs to, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub systemd_unit: Option<String>,
    /// Its first process; absent while it is being created.
    #[serde(skip)]
    pub init: Option<ProcessId>,
    /// Whether the first process is wholly in the container.
    #[serde(skip)]
    pub is_ready: bool,
    /// Its groups of resctrl.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resctrl: Option<ResctrlGroup>,
    /// Namespaces that are not the host's, as the bits of clone(2).
    pub namespaces: u32,
    /// Whether its pid namespace was made for it, and so ends with its first process.
    pub has_own_pids: bool,
    /// Its filter of system calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<FilterRecord>,
    /// Whether its processes get a session keyring of their own.
    pub new_keyring: bool,
    /// What a further process has where it says nothing.
    #[serde(default)]
    pub process: ProcessDefaults,
    /// Hooks that are still to run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<Hook>,
    /// Hooks that are still to run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<Hook>,
}

/// Of the container's own process: what an `exec` with a sparse process.json goes by, as with runc.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessDefaults {
    /// Its capabilities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<LinuxCapabilities>,
    /// Its limits of resources.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rlimits: Vec<PosixRlimit>,
    /// Its AppArmor profile.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub apparmor_profile: String,
    /// Its SELinux label.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub selinux_label: String,
    /// Its badness when memory is short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// Its scheduling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// Its I/O class and level.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<LinuxIoPriority>,
    /// CPUs, which are a further process's only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec_cpu_affinity: Option<CpuAffinity>,
    /// Execution domain of the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub personality: Option<LinuxPersonality>,
    /// Where the container's memory is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_policy: Option<LinuxMemoryPolicy>,
}

impl ProcessDefaults {
    /// Those of a container with this process.
    pub fn of(process: &Process, linux: Option<&Linux>) -> Self {
        Self {
            capabilities: process.capabilities.clone(),
            rlimits: process.rlimits.clone(),
            apparmor_profile: process.apparmor_profile.clone(),
            selinux_label: process.selinux_label.clone(),
            oom_score_adj: process.oom_score_adj,
            scheduler: process.scheduler.clone(),
            io_priority: process.io_priority.clone(),
            exec_cpu_affinity: process.exec_cpu_affinity.clone(),
            personality: linux.and_then(|linux| linux.personality.clone()),
            memory_policy: linux.and_then(|linux| linux.memory_policy.clone()),
        }
    }

    /// What it says of every process.
    pub fn shared(&self) -> Shared<'_> {
        Shared { personality: self.personality.as_ref(), memory_policy: self.memory_policy.as_ref() }
    }

    /// The process with what it leaves open filled in.
    pub fn complete(&self, process: &Process) -> Process {
        let mut whole = process.clone();
        whole.capabilities = whole.capabilities.or_else(|| self.capabilities.clone());
        whole.oom_score_adj = whole.oom_score_adj.or(self.oom_score_adj);
        whole.scheduler = whole.scheduler.or_else(|| self.scheduler.clone());
        whole.io_priority = whole.io_priority.or_else(|| self.io_priority.clone());
        whole.exec_cpu_affinity = whole.exec_cpu_affinity.or_else(|| self.exec_cpu_affinity.clone());
        if whole.rlimits.is_empty() {
            whole.rlimits.clone_from(&self.rlimits);
        }
        if whole.apparmor_profile.is_empty() {
            whole.apparmor_profile.clone_from(&self.apparmor_profile);
        }
        if whole.selinux_label.is_empty() {
            whole.selinux_label.clone_from(&self.selinux_label);
        }
        whole
    }
}

/// What is known only when there is a first process.
#[derive(Debug, Serialize, Deserialize)]
struct RecordEnd<'a> {
    init: ProcessId,
    cgroups: Cow<'a, BTreeMap<String, PathBuf>>,
}

/// The version of [`Record`] that is written.
pub const RECORD_VERSION: u32 = 1;

/// A compiled filter: eight bytes for each instruction, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterRecord {
    /// Of seccomp(2).
    pub flags: u32,
    /// The program.
    pub program: String,
    /// Who answers for what it asks about, if it asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Agent>,
}

impl Record {
    /// Removes its groups of resctrl, if it has any.
    pub(crate) fn remove_resctrl(&self) -> Result<(), StepError> {
        self.resctrl.as_ref().map_or(Ok(()), ResctrlGroup::remove)
    }

    /// Who answers for what its filter asks about.
    pub(crate) fn agent(&self) -> Option<&Agent> {
        self.filter.as_ref()?.agent.as_ref()
    }
}

/// The state directory failed us.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// The id is taken.
    #[error("container with given ID already exists")]
    Exists {
        /// The id.
        id: ContainerId,
    },
    /// There is no such container.
    #[error("container does not exist")]
    NotFound {
        /// The id.
        id: ContainerId,
    },
    /// Something could not be done.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The record is not one.
    #[error("read record {}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The record is of a newer runtime.
    #[error("record {} has version {version}, this program knows {RECORD_VERSION}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
}

impl StateDirError {
    /// Its class.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Exists { .. } => Kind::AlreadyExists,
            Self::NotFound { .. } => Kind::NotFound,
            Self::Io { source, .. } => crate::step::kind_of_io(source),
            Self::Record { .. } => Kind::DataLoss,
            Self::Version { .. } => Kind::Unsupported,
        }
    }
}

/// The directory of one container.
#[derive(Debug)]
pub struct StateDir {
    id: ContainerId,
    path: PathBuf,
    handle: OwnedFd,
}

impl AsFd for StateDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// How often a lock that may be waited for only so long is tried.
const LOCK_INTERVAL: Duration = Duration::from_millis(5);
/// Those who only look have a lock for less.
const LOOK_PATIENCE: Duration = Duration::from_millis(50);

impl StateDir {
    /// Makes the directory of a new container, and locks it.
    pub fn create(root: &Path, id: &ContainerId) -> Result<Self, StateDirError> {
        let path = root.join(id.as_str());
        let failed = |doing, error: Errno| StateDirError::Io { doing, path: path.clone(), source: error.into() };
        let parent = match open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT) => {
                let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(root);
                made.map_err(|source| StateDirError::Io { doing: "create", path: root.to_owned(), source })?;
                open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            }
            other => other,
        }
        .map_err(|error| failed("open the parent of", error))?;
        let exists = || StateDirError::Exists { id: id.clone() };
        let is_new = match mkdirat(&parent, id.as_str(), Mode::from(0o700)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(failed("create", error)),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = match openat(&parent, id.as_str(), flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(exists()),
            other => other.map_err(|error| failed("open", error))?,
        };
        // A caller's umask may have taken more than group and others.
        if is_new && fstat(&handle).map_err(|error| failed("open", error))?.st_mode & 0o777 != 0o700 {
            fchmod(&handle, Mode::from(0o700)).map_err(|error| failed("set the mode of", error))?;
        }
        // A directory without a record and without a lock is what a create left that died at once. Whoever finds it may have it, and so may somebody
        // who came between our making it and our locking it. Others may only be looking whether it is locked.
        let directory = Self { id: id.clone(), handle, path: path.clone() };
        if !directory.lock_until(Instant::now() + LOOK_PATIENCE)? {
            return Err(exists());
        }
        if directory.has_no_record()? && (is_new || directory.is_leftover()?) { Ok(directory) } else { Err(exists()) }
    }

    /// Whether it is there, and nobody has written a record into it.
    fn has_no_record(&self) -> Result<bool, StateDirError> {
        let looked = match statat(&self.handle, RECORD, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => fstat(&self.handle).map(|stat| stat.st_nlink > 0),
            other => other.map(|_| false),
        };
        self.failing("look into", looked)
    }

    /// Whether it is there, ours, and has nothing in it but what a create makes.
    pub fn is_leftover(&self) -> Result<bool, StateDirError> {
        self.failing("look into", self.look_for_strangers())
    }

    fn look_for_strangers(&self) -> Result<bool, Errno> {
        let stat = fstat(&self.handle)?;
        if stat.st_nlink == 0 || stat.st_mode & 0o777 != 0o700 || stat.st_uid != geteuid().as_raw() {
            return Ok(false);
        }
        for entry in Dir::read_from(&self.handle)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if ![".", "..", RECORD, START_SOCKET, NOTIFY_DIRECTORY].iter().any(|own| own.as_bytes() == name) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Opens the directory of a container that exists.
    pub fn open(root: &Path, id: &ContainerId) -> Result<Self, StateDirError> {
        let path = root.join(id.as_str());
        match open_directory(&path) {
            Ok(handle) => Ok(Self { id: id.clone(), path, handle }),
            Err(Errno::NOENT) => Err(StateDirError::NotFound { id: id.clone() }),
            Err(error) => Err(StateDirError::Io { doing: "open", path, source: error.into() }),
        }
    }

    /// Opens it and waits until nobody else changes the container's state.
    pub fn open_locked(root: &Path, id: &ContainerId) -> Result<Self, StateDirError> {
        let directory = Self::open(root, id)?;
        directory.failing("lock", flock(&directory.handle, FlockOperation::LockExclusive))?;
        directory.if_still_there()
    }

    /// The same, but only until `deadline`; `None` if somebody else still changes the state then.
    pub fn open_locked_until(root: &Path, id: &ContainerId, deadline: Instant) -> Result<Option<Self>, StateDirError> {
        let directory = Self::open(root, id)?;
        if directory.lock_until(deadline)? { directory.if_still_there().map(Some) } else { Ok(None) }
    }

    /// Whether the lock could be had.
    fn lock_until(&self, deadline: Instant) -> Result<bool, StateDirError> {
        loop {
            match flock(&self.handle, FlockOperation::NonBlockingLockExclusive) {
                // flock(2) knows no deadline.
                Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(LOCK_INTERVAL),
                Err(Errno::WOULDBLOCK) => return Ok(false),
                other => return self.failing("lock", other).map(|()| true),
            }
        }
    }

    /// Whoever had the lock may have deleted the container.
    fn if_still_there(self) -> Result<Self, StateDirError> {
        match self.failing("open", fstat(&self.handle))?.st_nlink {
            0 => Err(StateDirError::NotFound { id: self.id }),
            _ => Ok(self),
        }
    }

    /// Whether somebody changes the container's state now. For one who does not do so.
    pub fn is_locked(&self) -> Result<bool, StateDirError> {
        match flock(&self.handle, FlockOperation::NonBlockingLockShared) {
            Ok(()) => self.unlock().map(|()| false),
            Err(Errno::WOULDBLOCK) => Ok(true),
            Err(error) => self.failing("lock", Err(error)),
        }
    }

    /// Lets others change the state, although a copy of this handle may live on in another process.
    pub fn unlock(&self) -> Result<(), StateDirError> {
        self.failing("unlock", flock(&self.handle, FlockOperation::Unlock))
    }

    fn failing<T>(&self, doing: &'static str, result: Result<T, Errno>) -> Result<T, StateDirError> {
        result.map_err(|error| StateDirError::Io { doing, path: self.path.clone(), source: error.into() })
    }

    /// The container's id.
    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    /// Writes the record of a container that has no process yet.
    pub fn write(&self, record: &Record) -> Result<(), StateDirError> {
        self.append(OFlags::CREATE | OFlags::TRUNC, record)
    }

    /// Adds what is known when the first process is there.
    pub fn add_process(&self, init: ProcessId, cgroups: &BTreeMap<String, PathBuf>) -> Result<(), StateDirError> {
        self.append(OFlags::APPEND, &RecordEnd { init, cgroups: Cow::Borrowed(cgroups) })
    }

    /// Says that the first process is wholly in the container.
    pub fn mark_ready(&self) -> Result<(), StateDirError> {
        self.append(OFlags::APPEND, &READY)
    }

    fn append<T: Serialize>(&self, flags: OFlags, line: &T) -> Result<(), StateDirError> {
        let mut text = serde_json::to_vec(line)
            .map_err(|source| StateDirError::Record { path: self.path.join(RECORD), source })?;
        text.push(b'\n');
        let flags = flags | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self.failing("write the record in", openat(&self.handle, RECORD, flags, Mode::from(0o600)))?;
        fs::File::from(file).write_all(&text).map_err(|source| StateDirError::Io {
            doing: "write the record in",
            path: self.path.clone(),
            source,
        })
    }

    /// The record; `None` if a create died before it wrote one.
    pub fn read(&self) -> Result<Option<Record>, StateDirError> {
        let path = self.path.join(RECORD);
        let file =
            match openat(&self.handle, RECORD, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
                Ok(file) => fs::File::from(file),
                Err(Errno::NOENT) => return Ok(None),
                Err(error) => return Err(StateDirError::Io { doing: "open", path, source: error.into() }),
            };
        let mut text = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, MAX_RECORD_BYTES), &mut text)
            .map_err(|source| StateDirError::Io { doing: "read", path: path.clone(), source })?;
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        if text.is_empty() {
            return Ok(None);
        }
        let mut lines = text.split(|&byte| byte == b'\n');
        let mut next = || lines.next().unwrap_or(&[]);
        let (first, second, third) = (next(), next(), next());
        let is_ready = serde_json::from_slice::<&str>(third).is_ok_and(|word| word == READY);
        match serde_json::from_slice::<Record>(first) {
            // A second line that is cut off was never finished: the process waits for us, and ends when we are gone.
            Ok(record) if record.version == RECORD_VERSION => match serde_json::from_slice::<RecordEnd<'_>>(second) {
                Ok(end) => {
                    Ok(Some(Record { init: Some(end.init), is_ready, cgroups: end.cgroups.into_owned(), ..record }))
                }
                Err(_) => Ok(Some(record)),
            },
            Ok(record) => Err(StateDirError::Version { path, version: record.version }),
            Err(source) => match serde_json::from_slice::<Versioned>(first) {
                Ok(Versioned { version }) if version != RECORD_VERSION => Err(StateDirError::Version { path, version }),
                // The first line, cut off: the create died while writing it, and had made nothing yet.
                _ if source.is_eof() => Ok(None),
                _ => Err(StateDirError::Record { path, source }),
            },
        }
    }

    /// A path for the socket on which the container waits, short enough for a socket's address.
    pub fn start_socket(&self) -> PathBuf {
        carrack_rooted::path_of(&self.handle).join(START_SOCKET)
    }

    /// Whether the container waits for `start`.
    pub fn has_start_socket(&self) -> Result<bool, StateDirError> {
        match statat(&self.handle, START_SOCKET, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => self.failing("look into", Err(error)),
        }
    }

    /// Says that the container has been started.
    pub fn remove_start_socket(&self) -> Result<(), StateDirError> {
        match unlinkat(&self.handle, START_SOCKET, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => self.failing("remove the start socket from", Err(error)),
        }
    }

    /// Makes the directory of the socket on which the container says that it is ready.
    pub fn make_notify_directory(&self) -> Result<(), StateDirError> {
        // A create that died may have left one.
        self.remove_notify_directory()?;
        self.failing("make a directory in", mkdirat(&self.handle, NOTIFY_DIRECTORY, Mode::from(0o755)))?;
        let made = self.failing("open a directory in", open_directory(&self.notify_directory()))?;
        self.failing("set the mode of a directory in", fchmod(&made, Mode::from(0o755)))
    }

    /// That directory.
    pub fn notify_directory(&self) -> PathBuf {
        self.path.join(NOTIFY_DIRECTORY)
    }

    /// The socket in it, by a path that is short enough for a socket's address.
    pub fn notify_socket(&self) -> PathBuf {
        carrack_rooted::path_of(&self.handle).join(NOTIFY_DIRECTORY).join(NOTIFY_SOCKET)
    }

    /// The container may have got write access to it.
    fn remove_notify_directory(&self) -> Result<(), StateDirError> {
        let path = self.notify_directory();
        carrack_rooted::remove_tree(&path).map_err(|source| StateDirError::Io {
            doing: "remove the directory of the notify socket",
            path,
            source,
        })
    }

    /// Removes the directory: from here on the id is free. What is gone already is fine.
    pub fn remove(&self) -> Result<(), StateDirError> {
        let gone = |removed: Result<(), Errno>| match removed {
            Err(Errno::NOENT) => Ok(()),
            other => other,
        };
        // The record goes last of what is in it: without it, nobody would find what is left.
        self.remove_start_socket()?;
        if statat(&self.handle, NOTIFY_DIRECTORY, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            self.remove_notify_directory()?;
        }
        self.failing("remove a file from", gone(unlinkat(&self.handle, RECORD, AtFlags::empty())))?;
        self.failing("remove", gone(rmdir(&self.path)))
    }
}

/// The ids of all containers, sorted.
pub fn list_ids(root: &Path) -> Result<Vec<ContainerId>, StateDirError> {
    let failed = |source| StateDirError::Io { doing: "list", path: root.to_owned(), source };
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut ids = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let name = entry.file_name();
        ids.extend(name.to_str().and_then(|name| ContainerId::new(name).ok()));
    }
    ids.sort();
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("carrack-state-{}-{name}", std::process::id()))
    }

    fn record(id: &ContainerId) -> Record {
        Record {
            version: RECORD_VERSION,
            oci_version: "1.0.2".into(),
            id: id.clone(),
            bundle: "/b".into(),
            rootfs: "/b/r".into(),
            created: Timestamp::from_nanoseconds(5),
            annotations: BTreeMap::new(),
            cgroups: BTreeMap::from([("cpu".into(), "/x".into())]),
            resctrl: None,
            systemd_unit: Some("a-b.scope".into()),
            init: None,
            is_ready: false,
            namespaces: 7,
            has_own_pids: true,
            filter: Some(FilterRecord {
                flags: 2,
                program: "06000000".into(),
                agent: Some(Agent { path: "/run/agent.sock".into(), metadata: "m".into() }),
            }),
            new_keyring: true,
            process: ProcessDefaults { oom_score_adj: Some(7), ..ProcessDefaults::default() },
            poststart: vec![],
            poststop: vec![],
        }
    }

    #[test]
    fn a_record_is_kept_and_an_id_is_taken_only_once() {
        let root = root("once");
        let id = ContainerId::new("c").unwrap();
        let directory = StateDir::create(&root, &id).unwrap();
        assert!(matches!(StateDir::create(&root, &id), Err(StateDirError::Exists { .. })));
        assert_eq!(directory.read().unwrap(), None);
        directory.write(&record(&id)).unwrap();
        assert_eq!(directory.read().unwrap(), Some(record(&id)));
        let process = ProcessId { pid: 1, start_time: 2 };
        let cgroups = BTreeMap::from([("cpu".to_owned(), PathBuf::from("/y"))]);
        directory.add_process(process, &cgroups).unwrap();
        let later = Record { init: Some(process), cgroups, ..record(&id) };
        assert_eq!(StateDir::open(&root, &id).unwrap().read().unwrap(), Some(later.clone()));
        let text = fs::read(root.join("c").join(RECORD)).unwrap();
        directory.mark_ready().unwrap();
        assert_eq!(directory.read().unwrap(), Some(Record { is_ready: true, ..later }));
        fs::write(root.join("c").join(RECORD), &text[..text.len() - 2]).unwrap();
        assert_eq!(directory.read().unwrap(), Some(record(&id)));
        assert_eq!(list_ids(&root).unwrap(), std::slice::from_ref(&id));
        directory.remove().unwrap();
        directory.remove().unwrap();
        assert!(matches!(StateDir::open(&root, &id), Err(StateDirError::NotFound { .. })));
        fs::remove_dir(root).unwrap();
    }

    #[test]
    fn what_a_process_says_counts_more_than_what_the_container_has() {
        let container = Process {
            capabilities: Some(LinuxCapabilities { bounding: vec!["CAP_KILL".into()], ..LinuxCapabilities::default() }),
            apparmor_profile: "p".into(),
            oom_score_adj: Some(5),
            rlimits: vec![PosixRlimit { kind: "RLIMIT_CORE".into(), hard: 1, soft: 1 }],
            ..Process::default()
        };
        let defaults = ProcessDefaults::of(&container, None);
        assert_eq!(defaults.complete(&Process::default()), container);
        let own = Process {
            capabilities: Some(LinuxCapabilities::default()),
            apparmor_profile: "own".into(),
            oom_score_adj: Some(0),
            rlimits: vec![PosixRlimit { kind: "RLIMIT_NOFILE".into(), hard: 9, soft: 9 }],
            ..Process::default()
        };
        assert_eq!(defaults.complete(&own), own);
    }

    #[test]
    fn a_record_that_was_cut_off_counts_as_none_and_a_newer_one_is_refused() {
        let root = root("cut");
        let id = ContainerId::new("c").unwrap();
        let directory = StateDir::create(&root, &id).unwrap();
        let text = serde_json::to_string(&record(&id)).unwrap();
        fs::write(root.join("c").join(RECORD), &text[..text.len() / 2]).unwrap();
        assert_eq!(directory.read().unwrap(), None);
        fs::write(root.join("c").join(RECORD), text.replace("\"version\":1", "\"version\":2")).unwrap();
        assert!(matches!(directory.read(), Err(StateDirError::Version { version: 2, .. })));
        directory.remove().unwrap();
        fs::remove_dir(root).unwrap();
    }
}
