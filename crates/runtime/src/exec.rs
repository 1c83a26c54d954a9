//! Runs one more process in a container.
//!
//! The process is born in the container's pid namespace and joins the others itself, in one call, through a handle on the first process (Linux
//! 5.8). It leaves its memory and handles behind by exec; until then it is non-dumpable, so that nothing in the container
//! looks into it (CVE-2016-9962), and runs from a sealed program (CVE-2019-5736).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use carrack_cgroup::{EnterHandles, Group, Host};
use carrack_oci_config::{State, Status};
use carrack_rooted::Root;
use carrack_seccomp::{Program, SockFilter};
use carrack_sys::clone::{ChildOf, CloneRequest, Cloned, clone3, exit_now};
use carrack_sys::namespace::{self, Namespaces};
use carrack_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use carrack_sys::rustix::fs::Mode;
use carrack_sys::rustix::process::{
    DumpableBehavior, PidfdFlags, WaitId, WaitIdOptions, chdir, pidfd_open, set_dumpable_behavior, setsid, umask,
    waitid,
};
use carrack_sys::signal;
use carrack_sys::task;
use carrack_words::{Kind, ProcessId};

use crate::channel::{self, FromInside, Inside, Outside};
use crate::create::{ChildNamespaces, hook_state, keyring_name, pid_of};
use crate::describe::describe;
use crate::facts::HostFacts;
use crate::inside::console::Console;
use crate::inside::credentials::{
    Inherited, Place, become_program, prepare, raise_limits, reset, reset_cpus, set_oom_score,
};
use crate::inside::init::{become_root, join_keyring};
use crate::plan::capability;
use crate::plan::process::{ProcessPlan, ProcessPlanError, TerminalPlan};
use crate::process_stat;
use crate::procfs::{Procfs, read_text};
use crate::selinux;
use crate::stage::ExecRequest;
use crate::state::status_of;
use crate::state_dir::{FilterRecord, Record, StateDir, StateDirError};
use crate::step::{Doing, StepError};

/// A process could not be run.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateDirError),
    /// The container's state does not allow it.
    #[error("{message}")]
    WrongState {
        /// What is wrong.
        message: &'static str,
    },
    /// The process is wrong.
    #[error(transparent)]
    Plan(#[from] ProcessPlanError),
    /// A step outside.
    #[error(transparent)]
    Step(#[from] StepError),
    /// A step inside.
    #[error("{message}")]
    Inside {
        /// Class.
        kind: Kind,
        /// The whole chain.
        message: String,
    },
}

impl ExecError {
    /// Its class.
    pub fn kind(&self) -> Kind {
        match self {
            Self::State(error) => error.kind(),
            Self::WrongState { .. } => Kind::Precondition,
            Self::Plan(_) => Kind::Invalid,
            Self::Step(error) => error.kind(),
            Self::Inside { kind, .. } => *kind,
        }
    }
}

/// A process that is ready, and held back until [`PendingExec::finish`]; dropped before, it is killed.
#[derive(Debug)]
pub struct PendingExec {
    /// The process.
    pub process: ProcessId,
    /// Its terminal.
    pub console: Option<OwnedFd>,
    /// What was left out or clamped.
    pub warnings: Vec<String>,
    channel: Outside,
    child: Child,
    record: Record,
}

/// Kills the process when dropped.
#[derive(Debug)]
struct Child {
    pidfd: Option<OwnedFd>,
}

impl Drop for Child {
    fn drop(&mut self) {
        let Some(pidfd) = &self.pidfd else { return };
        // Dead already is as good.
        let _ = signal::send(pidfd.as_fd(), 9);
        if waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).is_err() {
            let timeout = Timespec { tv_sec: 10, tv_nsec: 0 };
            let _ = poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&timeout));
        }
    }
}

impl PendingExec {
    /// Lets it become the program; returns when it has, with a handle on it. `meanwhile` is done while the process works.
    pub fn finish(self, meanwhile: impl FnOnce()) -> Result<OwnedFd, ExecError> {
        let Self { process, channel, mut child, record, .. } = self;
        channel.go_on().doing(|| "talk to the process")?;
        meanwhile();
        loop {
            match (channel.next().doing(|| "hear from the process")?, record.agent(), &child.pidfd) {
                (None, ..) => break,
                (Some((FromInside::Listener { number }, _)), Some(agent), Some(pidfd)) => {
                    let pid = record.init.map_or(0, |init| init.pid);
                    let state = State { pid, status: Status::Running, ..hook_state(&record) };
                    agent.introduce(pidfd.as_fd(), process.pid, number, state)?;
                    channel.go_on().doing(|| "talk to the process")?;
                }
                (Some((FromInside::Failed { kind, message }, _)), ..) => {
                    return Err(ExecError::Inside { kind, message });
                }
                (Some((other, _)), ..) => return Err(unexpected(&other)),
            }
        }
        child.pidfd.take().ok_or(ExecError::WrongState { message: "the process has no handle" })
    }

    /// A handle on the process.
    pub fn pidfd(&self) -> Option<&OwnedFd> {
        self.child.pidfd.as_ref()
    }
}

fn unexpected(message: &FromInside) -> ExecError {
    StepError::refused(Kind::Internal, format!("unexpected message from the process: {message:?}")).into()
}

/// Prepares the process in the container up to the point where it could be executed.
pub fn begin_exec(request: &ExecRequest, child_of: ChildOf) -> Result<PendingExec, ExecError> {
    let state = StateDir::open(&request.state_root, &request.id)?;
    let record = state.read()?.ok_or_else(|| StateDirError::NotFound { id: request.id.clone() })?;
    let host = Host::probe().map_err(|error| StepError::refused(error.kind(), describe(&error)))?;
    let group = host.open_recorded(&record.cgroups);
    let init = match (status_of(&state, &record, Some(&group))?, record.init) {
        (Status::Created | Status::Running, Some(init)) => init,
        (Status::Paused, Some(init)) if request.ignore_paused => init,
        (Status::Paused, _) => {
            let message = "cannot exec in a paused container (use --ignore-paused to override)";
            return Err(ExecError::WrongState { message });
        }
        // A create that died before there was a process. One that came to its end between the two looks has a process now.
        (Status::Creating, None) if !state.is_locked()? && state.read()?.is_none_or(|record| record.init.is_none()) => {
            return Err(ExecError::WrongState { message: "cannot exec in a stopped container" });
        }
        // Its first process, if there is one, still stands in the host's file tree.
        (Status::Creating, _) => {
            return Err(ExecError::WrongState { message: "cannot exec in a container that is being created" });
        }
        _ => return Err(ExecError::WrongState { message: "cannot exec in a stopped container" }),
    };
    let facts = HostFacts::ask().doing(|| "read /proc/self/status")?;
    let own = Namespaces::from_bits(record.namespaces);
    let has_user = own.contains(Namespaces::USER);
    let available = if has_user { capability::KNOWN } else { facts.capabilities };
    let plan = ProcessPlan::new(&record.process.complete(&request.process), record.process.shared(), available)?;
    selinux::require_for(&plan.selinux_label)?;
    let filter = record.filter.as_ref().map(read_filter).transpose()?;
    let procfs = Procfs::open_host().doing(|| "open /proc")?;
    let first = pidfd_open(pid_of(init)?, PidfdFlags::empty()).doing(|| "open the container's first process")?;
    // The handle may be on somebody who got the pid since; only now is it certain to stay with whom it is.
    if !process_stat::is_alive(init).doing(|| "look at the container's first process")? {
        return Err(ExecError::WrongState { message: "cannot exec in a stopped container" });
    }
    let handles =
        |group: &Group| group.enter_handles().map_err(|error| StepError::refused(error.kind(), describe(&error)));
    let group = group.below(&request.sub_groups).map_err(|error| StepError::refused(error.kind(), describe(&error)))?;
    let mut enter = handles(&group)?;
    let keyring = keyring_name(request.id.as_str());
    let (outside, inside) = channel::pair().doing(|| "make a socket pair")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).doing(|| "become non-dumpable")?;
    if let Some(cpus) = plan.cpus.as_ref().and_then(|cpus| cpus.initial.as_ref()) {
        // The process inherits it, and nothing else of us is worth other CPUs.
        task::set_cpus(cpus.words()).doing(|| "error setting initial CPU affinity")?;
    }
    let mut children = ChildNamespaces::give_pid_of(first.as_fd(), own)?;
    let clone = |enter: &EnterHandles| {
        clone3(&CloneRequest { new: Namespaces::empty(), child_of, into_cgroup: enter.unified() })
    };
    let mut cloned = clone(&enter);
    // A container that has a manager of its own hands controllers down, and then its group takes no process (version 2); the first process's does.
    if matches!(&cloned, Err(error) if error.kind() == io::ErrorKind::ResourceBusy) && request.sub_groups.is_empty() {
        let text = read_text(&format!("/proc/{}/cgroup", init.pid)).doing(|| "read the group of the first process")?;
        enter = handles(&group.of_process(&text))?;
        cloned = clone(&enter);
    }
    let Cloned::Parent { pid, pidfd } = cloned.doing(|| "make a process")? else {
        drop(outside);
        let bounding = if has_user { capability::KNOWN } else { facts.bounding };
        let order = ExecOrder {
            plan: &plan,
            filter: filter.as_ref(),
            inherited: Inherited { ignored_signals: facts.ignored_signals, bounding },
            keyring: record.new_keyring.then_some(keyring.as_c_str()),
            preserve_fds: request.preserve_fds,
            own,
        };
        run(&order, &first, enter, procfs, &inside)
    };
    let child = Child { pidfd: Some(pidfd) };
    children.restore()?;
    drop((inside, enter, first));
    let mut warnings = plan.warnings.clone();
    if let Some(score) = plan.oom_score_adj {
        warnings.extend(set_oom_score(&procfs, pid, score)?);
    }
    if let Some(group) = &record.resctrl {
        group.add(pid).doing(|| "intelrdt")?;
    }
    let console = serve(&outside)?;
    let process = process_stat::identify(pid)
        .doing(|| "read the start time of the process")?
        .ok_or(ExecError::WrongState { message: "the process died before it was ready" })?;
    Ok(PendingExec { process, console, warnings, channel: outside, child, record })
}

fn serve(outside: &Outside) -> Result<Option<OwnedFd>, ExecError> {
    let mut console = None;
    loop {
        match outside.next().doing(|| "hear from the process")? {
            Some((FromInside::Ready, _)) => return Ok(console),
            Some((FromInside::Console, Some(handle))) => console = Some(handle),
            Some((FromInside::Failed { kind, message }, _)) => return Err(ExecError::Inside { kind, message }),
            Some((other, _)) => return Err(unexpected(&other)),
            None => return Err(ExecError::WrongState { message: "the process died before it was ready" }),
        }
    }
}

struct ExecOrder<'a> {
    plan: &'a ProcessPlan,
    filter: Option<&'a Program>,
    inherited: Inherited,
    keyring: Option<&'a std::ffi::CStr>,
    preserve_fds: u32,
    own: Namespaces,
}

/// The new process, from the clone to the program.
fn run(order: &ExecOrder<'_>, first: &OwnedFd, enter: EnterHandles, procfs: Procfs, channel: &Inside) -> ! {
    let error = match enter_container(order, first, enter, &procfs, channel) {
        Ok(prepared) => match channel.tell(&FromInside::Ready, None).and_then(|()| channel.wait()) {
            Ok(()) => become_program(&prepared, order.plan, order.filter, &|listener| channel.offer(listener)),
            Err(error) => error,
        },
        Err(error) => error,
    };
    channel.fail(&error);
    exit_now(1)
}

fn enter_container(
    order: &ExecOrder<'_>,
    first: &OwnedFd,
    enter: EnterHandles,
    procfs: &Procfs,
    channel: &Inside,
) -> Result<crate::inside::credentials::Prepared, StepError> {
    enter.enter_self_after_clone().map_err(|error| StepError::refused(error.kind(), describe(&error)))?;
    let has_user = order.own.contains(Namespaces::USER);
    if has_user {
        raise_limits(0, &order.plan.limits)?;
    }
    namespace::join_those_of(first.as_fd(), order.own.without(Namespaces::PID))
        .doing(|| "join the container's namespaces")?;
    if has_user {
        become_root()?;
    }
    reset(order.inherited)?;
    reset_cpus(order.plan.cpus.as_ref())?;
    umask(Mode::empty());
    setsid().doing(|| "create a session")?;
    if let Some(name) = order.keyring {
        join_keyring(name)?;
    }
    chdir("/").doing(|| "enter /")?;
    let root = Root::open_host(std::path::Path::new("/"))?;
    if let Some(terminal) = order.plan.terminal {
        take_terminal(&root, terminal, order.plan.uid, channel)?;
    }
    let place = Place { root: &root, procfs, inherited: order.inherited, preserve_fds: order.preserve_fds };
    prepare(order.plan, &place)
}

fn take_terminal(root: &Root, plan: TerminalPlan, uid: u32, channel: &Inside) -> Result<(), StepError> {
    let console = Console::open_below(root)?;
    channel.tell(&FromInside::Console, Some(console.master.as_fd()))?;
    console.take(plan, uid)
}

/// The filter as it was recorded.
fn read_filter(record: &FilterRecord) -> Result<Program, StepError> {
    let broken = || StepError::refused(Kind::DataLoss, "the recorded seccomp filter is broken");
    let bytes = record.program.as_bytes();
    let number = |text: &[u8]| {
        std::str::from_utf8(text).ok().and_then(|text| u32::from_str_radix(text, 16).ok()).ok_or_else(broken)
    };
    if !bytes.len().is_multiple_of(16) {
        return Err(broken());
    }
    let filter = bytes
        .chunks_exact(16)
        .map(|one| {
            Ok(SockFilter {
                code: number(&one[..4])? as u16,
                jt: number(&one[4..6])? as u8,
                jf: number(&one[6..8])? as u8,
                k: number(&one[8..])?,
            })
        })
        .collect::<Result<Vec<_>, StepError>>()?;
    Ok(Program { filter, flags: record.flags, needs_listener: record.agent.is_some() })
}

/// The capabilities that `exec` adds by name, given to a process of config.json.
pub fn grant(process: &mut carrack_oci_config::Process, names: &[String]) {
    let mut sets = process.capabilities.take().unwrap_or_default();
    capability::CapabilitySets::grant(&mut sets, names);
    process.capabilities = Some(sets);
}

/// The process of a container's config.json: what `exec` without a file of its own starts from.
pub fn process_of_bundle(record: &Record) -> io::Result<carrack_oci_config::Process> {
    let text = std::fs::read(record.bundle.join("config.json"))?;
    let spec = carrack_oci_config::Spec::from_json(&text)?;
    spec.process.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "config.json has no process"))
}
