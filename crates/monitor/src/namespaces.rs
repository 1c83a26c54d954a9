//! Makes and holds the namespaces that a pod's containers share.
//!
//! The monitor stays in the host's namespaces. A short-lived copy of it leaves them, sets host name and sysctls where it is then,
//! starts the first process of a shared pid namespace, and sends handles on all of it back. The handles keep the namespaces alive;
//! containers join them as `/proc/MONITOR/fd/N`.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use carrack_cgroup::{CgroupError, Group};
use carrack_monitor_proto::{IpcMode, NamespaceType, NetworkMode, PidMode, PodConfig, UtsMode};
use carrack_runtime::Sealed;
use carrack_sys::clone::{ChildOf, CloneRequest, Cloned, clone3, exit_now};
use carrack_sys::exec::{Strings, execve_handle};
use carrack_sys::namespace::{Namespaces, join, unshare};
use carrack_sys::rustix::io::Errno;
use carrack_sys::rustix::net::{RecvFlags, SendFlags};
use carrack_sys::rustix::process::{Pid, WaitOptions, waitpid};
use carrack_sys::rustix::system::sethostname;
use carrack_sys::{fd_passing, fork};
use carrack_words::{Kind, ProcessId};

use crate::journal::chain;
use crate::own_group::{self, OwnGroupError};
use crate::process::start_time;
use crate::sysctl::{SysctlError, SysctlStep, plan_sysctls};

/// The verb of `carrack-oci` that runs [`crate::pod_init`].
const POD_INIT_VERB: &std::ffi::CStr = c"pod-init";

/// The pod's namespaces could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NamespacesError {
    /// A sysctl is not the pod's to set.
    #[error("plan the pod's sysctls")]
    Sysctl {
        /// Which, and why.
        source: SysctlError,
    },
    /// The group of the pid namespace's first process cannot be made.
    #[error("make the control group of the pod's first process")]
    Group {
        /// Why.
        source: OwnGroupError,
    },
    /// The copy could not be started or talked to.
    #[error("start the process that makes the pod's namespaces")]
    Start {
        /// Why.
        source: io::Error,
    },
    /// The copy failed.
    #[error("make the pod's namespaces: {reason}")]
    Make {
        /// What it said.
        reason: String,
    },
}

impl NamespacesError {
    /// The class of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            NamespacesError::Sysctl { source } => source.kind(),
            NamespacesError::Group { source } => source.kind(),
            NamespacesError::Start { .. } | NamespacesError::Make { .. } => Kind::Internal,
        }
    }
}

/// What all containers of a pod join.
#[derive(Debug)]
pub struct PodNamespaces {
    held: Vec<(NamespaceType, OwnedFd)>,
    network: Option<PathBuf>,
    /// First process of the shared pid namespace, while it is not known to be dead.
    pub pod_init: Option<ProcessId>,
    /// The control group that was made for it.
    pub pod_init_group: Option<Group>,
}

impl PodNamespaces {
    /// Makes the namespaces that `config` wants for the pod.
    pub fn make(config: &PodConfig, sealed: &Sealed) -> Result<Self, NamespacesError> {
        let plan = Plan::new(config).map_err(|source| NamespacesError::Sysctl { source })?;
        let network = plan.network.clone();
        let mut made = Self { held: Vec::new(), network, pod_init: None, pod_init_group: None };
        if let (true, Some(path)) = (plan.pod_init, &config.pod_init_cgroup) {
            made.pod_init_group = Some(own_group::make(path).map_err(|source| NamespacesError::Group { source })?);
        }
        if !plan.is_empty() {
            made.hold(&plan, sealed)?;
        }
        Ok(made)
    }

    /// The namespaces with paths that live as long as this process.
    pub fn paths(&self) -> Vec<(NamespaceType, PathBuf)> {
        let own = std::process::id();
        let held =
            self.held.iter().map(|(kind, handle)| (*kind, format!("/proc/{own}/fd/{}", handle.as_raw_fd()).into()));
        held.chain(self.network.iter().map(|path| (NamespaceType::Network, path.clone()))).collect()
    }

    fn hold(&mut self, plan: &Plan, sealed: &Sealed) -> Result<(), NamespacesError> {
        let failed = |source| NamespacesError::Start { source };
        let (here, there) = UnixStream::pair().map_err(failed)?;
        let child = fork::fork(|| {
            match plan.carry_out(sealed, self.pod_init_group.as_ref()).and_then(|made| made.send(&there)) {
                Ok(()) => 0,
                Err(error) => {
                    // The parent reads a number or a reason; if it reads neither, it says so.
                    let _ = (&there).write_all(chain(&error).as_bytes());
                    1
                }
            }
        })
        .map_err(failed)?;
        drop(there);
        let answer = Answer::receive(&here);
        wait_for(child);
        let answer = answer.map_err(failed)?;
        let pid: i32 = answer.text.parse().map_err(|_| NamespacesError::Make { reason: answer.text.clone() })?;
        self.held = plan.kinds().into_iter().zip(answer.handles).collect();
        if pid != 0 {
            self.pod_init = Some(ProcessId { pid, start_time: start_time(pid).map_err(failed)? });
        }
        Ok(())
    }
}

fn wait_for(child: Pid) {
    // It is our child and only we wait for it; a failure means that it is gone already.
    while matches!(waitpid(Some(child), WaitOptions::empty()), Err(Errno::INTR)) {}
}

/// What the copy is to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    network: Option<PathBuf>,
    ipc: bool,
    hostname: Option<String>,
    sysctls: Vec<SysctlStep>,
    pod_init: bool,
}

#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error("open namespace {path}")]
    Open { path: PathBuf, source: io::Error },
    #[error("join network namespace {path}")]
    Join { path: PathBuf, source: io::Error },
    #[error("make new namespaces")]
    Unshare { source: io::Error },
    #[error("set host name {hostname:?}")]
    Hostname { hostname: String, source: io::Error },
    #[error("write {value:?} to {path}")]
    Sysctl { path: PathBuf, value: String, source: io::Error },
    #[error("start the first process of the pod's pid namespace")]
    PodInit { source: io::Error },
    #[error("open the control group of the pod's first process")]
    Group { source: CgroupError },
    #[error("send the namespaces")]
    Send { source: io::Error },
}

/// What the copy made.
struct Made {
    handles: Vec<File>,
    pod_init: i32,
}

impl Plan {
    fn new(config: &PodConfig) -> Result<Self, SysctlError> {
        Ok(Self {
            network: match &config.network {
                NetworkMode::Path(path) => Some(path.clone()),
                NetworkMode::PerContainer | NetworkMode::Host => None,
            },
            ipc: config.ipc == IpcMode::Pod,
            hostname: match &config.uts {
                UtsMode::Pod { hostname } => Some(hostname.clone()),
                UtsMode::PerContainer | UtsMode::Host => None,
            },
            sysctls: plan_sysctls(config)?,
            pod_init: config.pid == PidMode::Pod,
        })
    }

    fn is_empty(&self) -> bool {
        self.kinds().is_empty() && self.sysctls.is_empty()
    }

    /// The namespaces whose handles are sent, in that order.
    fn kinds(&self) -> Vec<NamespaceType> {
        let all = [
            (self.ipc, NamespaceType::Ipc),
            (self.hostname.is_some(), NamespaceType::Uts),
            (self.pod_init, NamespaceType::Pid),
        ];
        all.into_iter().filter(|(wanted, _)| *wanted).map(|(_, kind)| kind).collect()
    }

    /// Runs in the copy.
    fn carry_out(&self, sealed: &Sealed, pod_init_group: Option<&Group>) -> Result<Made, StepError> {
        if let Some(path) = &self.network {
            let namespace = open(path)?;
            join(namespace.as_fd(), Namespaces::NETWORK)
                .map_err(|source| StepError::Join { path: path.clone(), source })?;
        }
        let mut new = Namespaces::empty();
        if self.ipc {
            new = new.with(Namespaces::IPC);
        }
        if self.hostname.is_some() {
            new = new.with(Namespaces::UTS);
        }
        unshare(new).map_err(|source| StepError::Unshare { source })?;
        if let Some(hostname) = &self.hostname {
            sethostname(hostname.as_bytes())
                .map_err(|error| StepError::Hostname { hostname: hostname.clone(), source: error.into() })?;
        }
        // After the namespaces: a sysctl's file is that of whoever opens it.
        for SysctlStep { path, value } in &self.sysctls {
            fs::write(path, value).map_err(|source| StepError::Sysctl {
                path: path.clone(),
                value: value.clone(),
                source,
            })?;
        }
        let pod_init = if self.pod_init { start_pod_init(sealed, pod_init_group)? } else { 0 };
        let handles =
            self.kinds().into_iter().map(|kind| open(&own_namespace(kind, pod_init))).collect::<Result<_, _>>()?;
        Ok(Made { handles, pod_init })
    }
}

impl Made {
    fn send(&self, socket: &UnixStream) -> Result<(), StepError> {
        let handles: Vec<_> = self.handles.iter().map(AsFd::as_fd).collect();
        let text = self.pod_init.to_string();
        match fd_passing::send(socket, text.as_bytes(), &handles, SendFlags::empty()) {
            Ok(_) => Ok(()),
            Err(error) => Err(StepError::Send { source: error.into() }),
        }
    }
}

/// What the copy sent: the pid of the first process of the pid namespace (0: none) and handles, or a reason.
struct Answer {
    text: String,
    handles: Vec<OwnedFd>,
}

impl Answer {
    fn receive(mut socket: &UnixStream) -> io::Result<Self> {
        let (mut buffer, mut handles) = ([0; 512], Vec::new());
        let count = fd_passing::receive(socket, &mut buffer, &mut handles, RecvFlags::empty())?;
        let mut bytes = buffer[..count].to_vec();
        socket.read_to_end(&mut bytes)?;
        Ok(Self { text: String::from_utf8_lossy(&bytes).into_owned(), handles })
    }
}

fn own_namespace(kind: NamespaceType, pod_init: i32) -> PathBuf {
    match kind {
        // The copy itself is not in it.
        NamespaceType::Pid => format!("/proc/{pod_init}/ns/pid").into(),
        other => format!("/proc/self/ns/{}", other.name()).into(),
    }
}

fn open(path: &Path) -> Result<File, StepError> {
    File::open(path).map_err(|source| StepError::Open { path: path.to_owned(), source })
}

/// Starts the first process of a new pid namespace as a child of the monitor.
fn start_pod_init(sealed: &Sealed, group: Option<&Group>) -> Result<i32, StepError> {
    let handles = group.map(Group::enter_handles).transpose().map_err(|source| StepError::Group { source })?;
    let request = CloneRequest { new: Namespaces::PID, child_of: ChildOf::Parent, into_cgroup: None };
    match clone3(&request).map_err(|source| StepError::PodInit { source })? {
        Cloned::Parent { pid, pidfd: _ } => Ok(pid),
        Cloned::Child => {
            if handles.is_some_and(|handles| handles.enter_self().is_err()) {
                exit_now(126);
            }
            let arguments = Strings::new(vec![CString::from(c"carrack-oci"), CString::from(POD_INIT_VERB)]);
            execve_handle(sealed.as_fd(), &arguments, &Strings::new(vec![]));
            // The monitor sees it die, and containers that cannot join its namespace.
            exit_now(127)
        }
    }
}
