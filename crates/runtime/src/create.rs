//! Creates a container: the part outside.
//!
//! ```text
//!  read config.json ─▶ plan ─▶ state directory (intent) ─▶ cgroup ─▶ open everything of the host ─▶ clone3
//!   ─▶ record the process ─▶ serve it until it is ready ─▶ [Pending] ─▶ finish: it may go on
//! ```
//!
//! Until [`Pending::finish`] returns, dropping what is there undoes everything: process, cgroup, state directory.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use carrack_cgroup::{EnterHandles, Group, GroupPath, Host, Layout, Version, base_device_rules};
use carrack_oci_config::{LinuxDeviceCgroup, LinuxResources, Spec, State, Status};
use carrack_seccomp::{Arch, KernelSupport, Program};
use carrack_sys::clone::{ChildOf, CloneRequest, Cloned, clone3};
use carrack_sys::namespace::{self, Namespaces};
use carrack_sys::rustix::fs::{CWD, Mode, OFlags, openat};
use carrack_sys::rustix::io::Errno;
use carrack_sys::rustix::process::{DumpableBehavior, Pid, WaitId, WaitIdOptions, set_dumpable_behavior, waitid};
use carrack_sys::signal;
use carrack_words::{Kind, ProcessId, Timestamp};

use crate::channel::{self, FromInside, Outside};
use crate::describe::describe;
use crate::facts::HostFacts;
use crate::hook::{HookError, run_all_hooks, run_hooks};
use crate::inside::credentials::{Inherited, raise_limits, set_oom_score};
use crate::inside::init::{self, InitOrder, Luggage};
use crate::inside::mounts::CgroupView;
use crate::inside::root::Leave;
use crate::listener::Agent;
use crate::net_device::move_net_devices;
use crate::notify;
use crate::origin::{self, Copied};
use crate::plan::{Plan, PlanError, PlanRequest, RootSource};
use crate::process_stat;
use crate::procfs::Procfs;
use crate::resctrl::{Resctrl, ResctrlGroup};
use crate::scope::{self, Scope};
use crate::selinux;
use crate::stage::{CreateRequest, NamespaceType};
use crate::state_dir::{FilterRecord, ProcessDefaults, RECORD_VERSION, Record, StateDir, StateDirError};
use crate::step::{Doing, StepError};
use crate::user_namespace::map_ids;

/// A container could not be created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// config.json cannot be read.
    #[error("open {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// config.json is no configuration.
    #[error("parse {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// config.json asks for something wrong.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateDirError),
    /// A cgroup.
    #[error("{message}")]
    Cgroup {
        /// Class.
        kind: Kind,
        /// The whole chain.
        message: String,
    },
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
    /// The process inside vanished.
    #[error("the container's first process died before it was ready: {how}")]
    Died {
        /// How, as far as known.
        how: String,
    },
}

impl CreateError {
    /// Its class.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read { source, .. } => crate::step::kind_of_io(source),
            Self::Parse { .. } => Kind::Invalid,
            Self::Plan(error) => error.kind(),
            Self::State(error) => error.kind(),
            Self::Step(error) => error.kind(),
            Self::Cgroup { kind, .. } | Self::Inside { kind, .. } => *kind,
            Self::Died { .. } => Kind::Internal,
        }
    }
}

macro_rules! cgroup_failed {
    () => {
        |error| CreateError::Cgroup { kind: error.kind(), message: describe(&error) }
    };
}

/// When the user's program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartMode {
    /// When somebody calls `start`.
    Wait,
    /// As soon as everything is recorded.
    Now,
}

/// How to create, besides what.
#[derive(Debug, Clone, Copy)]
pub struct CreateOptions {
    /// Whose child the first process becomes.
    pub child_of: ChildOf,
    /// When the program runs.
    pub start: StartMode,
    /// How the host's tree is left.
    pub leave: Leave,
    /// Whether there is somebody to take a terminal.
    pub terminal: TerminalUse,
}

/// Whether a terminal has somewhere to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TerminalUse {
    /// With or without.
    Either,
    /// There is a socket for it, so there must be one.
    Required,
    /// Nobody is there to take one.
    Impossible,
}

impl TerminalUse {
    /// Checks it against what the process wants; the words are runc's.
    pub(crate) fn check(self, has_terminal: bool) -> Result<(), StepError> {
        let message = match (self, has_terminal) {
            (Self::Required, false) => "cannot use console socket if runc will not detach or allocate tty",
            (Self::Impossible, true) => "cannot allocate tty if runc will detach without setting console socket",
            (Self::Either, _) | (Self::Required, true) | (Self::Impossible, false) => return Ok(()),
        };
        Err(StepError::refused(Kind::Invalid, message))
    }
}

/// A container that is ready, and held back until [`Pending::finish`].
#[derive(Debug)]
pub struct Pending {
    /// Its first process.
    pub process: ProcessId,
    /// Its terminal.
    pub console: Option<OwnedFd>,
    /// What was left out or clamped.
    pub warnings: Vec<String>,
    /// Its record.
    pub record: Record,
    channel: Outside,
    undo: Undo,
    /// Whether it has said that it is prepared; otherwise that is still to be heard.
    is_ready: bool,
}

/// A container that exists.
#[derive(Debug)]
pub struct Created {
    /// Its first process.
    pub process: ProcessId,
    /// A handle on it.
    pub pidfd: OwnedFd,
    /// What is remembered of it.
    pub record: Record,
    state: StateDir,
    group: Group,
}

impl Created {
    /// Removes the container after its first process was waited for; what `delete` does, without looking everything up again. Returns the failures
    /// of poststop hooks, which only warn.
    pub fn delete_ended(self) -> Result<Vec<HookError>, CreateError> {
        let Self { record, state, group, .. } = self;
        // With its first process a pid namespace ends, and all others in it. Without one of its own, they go on.
        if !record.has_own_pids {
            group.kill_all().map_err(cgroup_failed!())?;
        }
        scope::remove_group(&record, &group)?;
        record.remove_resctrl()?;
        let stopped = State { status: Status::Stopped, ..hook_state(&record) };
        let failures = run_all_hooks("poststop", &record.poststop, &stopped, &record.bundle);
        state.remove()?;
        Ok(failures)
    }
}

/// How long a group may stay busy after its last process was killed.
pub(crate) const REMOVE_PATIENCE: Duration = Duration::from_secs(10);

/// What exists so far of a container; dropped, it is undone.
#[derive(Debug)]
struct Undo {
    state: Option<StateDir>,
    group: Option<Group>,
    resctrl: Option<ResctrlGroup>,
    /// The unit that the group belongs to, from when systemd is asked for it.
    unit: Option<String>,
    init: Option<OwnedFd>,
}

impl Undo {
    fn state(&self) -> &StateDir {
        self.state.as_ref().expect("it is set when an Undo is made, and taken only by its end")
    }

    /// Nothing is undone any more; what exists is handed over.
    fn disarm(mut self) -> Option<(StateDir, Group, OwnedFd)> {
        self.resctrl = None;
        self.unit = None;
        Some((self.state.take()?, self.group.take()?, self.init.take()?))
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        // Each step goes on after a failure: what is left is found again by `delete`, as the state directory goes last.
        if let Some(init) = &self.init {
            let _ = signal::send(init.as_fd(), 9);
            wait_dead(init);
        }
        let mut is_clean = self.unit.as_deref().is_none_or(|unit| scope::stop(unit).is_ok());
        if let Some(group) = &self.group {
            is_clean &= group.remove(REMOVE_PATIENCE).is_ok();
        }
        is_clean &= self.resctrl.as_ref().is_none_or(|group| group.remove().is_ok());
        if let (Some(state), true) = (&self.state, is_clean) {
            let _ = state.remove();
        }
    }
}

/// Waits until a killed process is dead; if it is our child, for good.
fn wait_dead(pidfd: &OwnedFd) {
    match waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
        Ok(_) => {}
        // Not our child: the handle becomes readable when it has ended.
        Err(_) => {
            use carrack_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
            let timeout = Timespec { tv_sec: 10, tv_nsec: 0 };
            let _ = poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&timeout));
        }
    }
}

/// Creates a container up to the point where its program could run.
pub fn begin_create(request: &CreateRequest, options: CreateOptions) -> Result<Pending, CreateError> {
    let facts = HostFacts::ask().doing(|| "read /proc/self/status")?;
    let mut spec = read_spec(&request.bundle)?;
    let oci_version = spec.oci_version.clone();
    let process_defaults =
        spec.process.as_ref().map(|process| ProcessDefaults::of(process, spec.linux.as_ref())).unwrap_or_default();
    if let (Some(process), 1..) = (&mut spec.process, request.listen_fds) {
        // Its own pid, unless the pid namespace is the host's; runc says 1 then too.
        process.env.extend([format!("LISTEN_FDS={}", request.listen_fds), "LISTEN_PID=1".to_owned()]);
    }
    let state = StateDir::create(&request.state_root, &request.id)?;
    let mut undo = Undo { state: Some(state), group: None, resctrl: None, unit: None, init: None };
    if request.notify {
        undo.state().make_notify_directory()?;
        notify::add_to(&mut spec, undo.state());
    }
    let plan_request =
        PlanRequest { id: &request.id, bundle: &request.bundle, rootfs: &request.rootfs, join: &request.join };
    let plan = Plan::new(spec, plan_request, &facts)?;
    options.terminal.check(plan.process.terminal.is_some())?;
    selinux::require_for(&plan.process.selinux_label)?;
    let filter = compile_filter(&plan)?;
    let host = Host::probe().map_err(cgroup_failed!())?;
    let scope = request.systemd_cgroup.then(|| Scope::plan(&plan, &request.id, &host)).transpose()?;
    let group_path = plan_group_path(&plan, request, scope.as_ref())?;
    let mut resources = resources_with_base_devices(&plan.resources);
    if scope.is_some() {
        scope::round_quota(&mut resources);
    }
    let group_plan = host.plan(&group_path, Some(&resources)).map_err(cgroup_failed!())?;
    let origins = origin::open(&plan)?;
    let intended = host.open(&group_path);
    if let Some(scope) = &scope {
        scope.check_free(&intended)?;
    }
    let mut record = Record {
        version: RECORD_VERSION,
        oci_version,
        id: request.id.clone(),
        bundle: request.bundle.clone(),
        rootfs: rootfs_path(&plan, &request.bundle),
        created: Timestamp::now(),
        annotations: plan.annotations.clone(),
        cgroups: intended.paths(),
        resctrl: plan_resctrl(&plan, request)?,
        systemd_unit: scope.as_ref().map(|scope| scope.unit_name().to_owned()),
        init: None,
        is_ready: false,
        namespaces: plan.namespaces.own().bits(),
        has_own_pids: plan.namespaces.new.contains(Namespaces::PID),
        filter: filter.as_ref().map(|program| record_filter(program, &plan, &request.bundle)),
        new_keyring: !request.no_new_keyring,
        process: process_defaults,
        poststart: plan.hooks.poststart.clone(),
        poststop: plan.hooks.poststop.clone(),
    };
    undo.state().write(&record)?;
    undo.resctrl.clone_from(&record.resctrl);
    let (group, enter) = match &scope {
        None => {
            let group = host.create(&group_plan).map_err(cgroup_failed!())?;
            let enter = group.enter_handles().map_err(cgroup_failed!())?;
            (group, Some(enter))
        }
        // Systemd makes it, around a process.
        Some(_) => (intended, None),
    };
    record.cgroups = group.paths();
    let view = cgroup_view(&host, &group);
    undo.group = Some(group);
    let start_socket = match options.start {
        StartMode::Wait => Some(UnixListener::bind(undo.state().start_socket()).doing(|| "make the start socket")?),
        StartMode::Now => None,
    };

    let procfs = Procfs::open_host().doing(|| "open /proc")?;
    let joins = open_joins(&plan)?;
    let (outside, inside) = channel::pair().doing(|| "make a socket pair")?;
    let mut namespace_of_children = ChildNamespaces::prepare(&plan, &joins)?;
    let hook_state = hook_state(&record);
    let keyring = keyring_name(request.id.as_str());
    let order = InitOrder {
        plan: &plan,
        cgroup_view: view.as_ref(),
        filter: filter.as_ref(),
        state: &hook_state,
        bundle: &request.bundle,
        inherited: Inherited { ignored_signals: facts.ignored_signals, bounding: bounding_inside(&plan, &facts) },
        leave: options.leave,
        keyring: (!request.no_new_keyring).then_some(keyring.as_c_str()),
        preserve_fds: request.preserve_fds,
        is_moved: scope.is_some(),
    };
    // Nothing in the container may look into this process or its copies (CVE-2016-9962); exec ends it.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).doing(|| "become non-dumpable")?;
    let joins_user = plan.namespaces.joins(NamespaceType::User);
    let new = plan.namespaces.new.without(Namespaces::CGROUP).without(Namespaces::TIME);
    let clone = CloneRequest {
        // With a joined user namespace, the process makes them itself once it is in it.
        new: if joins_user { Namespaces::empty() } else { new },
        child_of: if joins_user { ChildOf::Caller } else { options.child_of },
        into_cgroup: enter.as_ref().and_then(EnterHandles::unified),
    };
    let cloned = clone3(&clone).doing(|| "create the container's namespaces")?;
    let Cloned::Parent { pid, pidfd } = cloned else {
        drop(outside);
        let luggage = Luggage { origins, procfs, joins, start_socket, cgroups: enter, channel: inside };
        init::run(&order, luggage)
    };
    undo.init = Some(pidfd);
    namespace_of_children.restore()?;
    drop((inside, joins, start_socket, enter));

    if let (Some(scope), Some(group)) = (&scope, &undo.group) {
        let started = scope.start(pid, group, &group_plan, &resources);
        match &started {
            // It is another's.
            Err(error) if error.kind() == Kind::AlreadyExists => undo.group = None,
            _ => undo.unit = Some(scope.unit_name().to_owned()),
        }
        started?;
        outside.go_on().doing(|| "talk to the container")?;
    }

    let mut served = Served { pid, console: None, warnings: plan.process.warnings.clone() };
    if plan.namespaces.new.contains(Namespaces::USER) {
        map_ids(&procfs, pid, &plan.namespaces.users, &plan.namespaces.groups)?;
        raise_limits(pid, &plan.process.limits)?;
        outside.go_on().doing(|| "talk to the container")?;
    }
    if joins_user {
        serve_move(&outside, &mut undo, &mut served)?;
    }
    if plan.namespaces.has_user() {
        let container = Copied::open(&procfs, served.pid).doing(|| "open the container's mounts")?;
        if undo.init.as_ref().is_some_and(|init| signal::send(init.as_fd(), 0).is_err()) {
            // The number may be another process's by now.
            return Err(died(&undo));
        }
        origin::lend(&origins, &plan, &container, &outside)?;
    }
    drop(origins);
    move_devices(&plan, &procfs, served.pid)?;
    if let (Some(group), Some(wanted)) = (&record.resctrl, &plan.intel_rdt) {
        Resctrl::of_host()?.apply(group, wanted, served.pid)?;
    }
    if let Some(score) = plan.process.oom_score_adj {
        served.warnings.extend(set_oom_score(&procfs, served.pid, score)?);
    }
    let process = process_stat::identify(served.pid)
        .doing(|| "read the start time of the container")?
        .ok_or_else(|| CreateError::Died { how: "no such process".into() })?;
    record.init = Some(process);
    undo.state().add_process(process, &record.cgroups)?;
    // Nobody has to hear from the process before it may go on: then it is not made to wait for us twice.
    let is_ready =
        options.start == StartMode::Wait || plan.process.terminal.is_some() || plan.hooks.has_runtime_hooks();
    if is_ready {
        serve(&outside, &plan, &hook_state, &request.bundle, &undo, &mut served)?;
        undo.state().mark_ready()?;
    }
    let Served { console, warnings, .. } = served;
    Ok(Pending { process, console, warnings, record, channel: outside, undo, is_ready })
}

fn plan_resctrl(plan: &Plan, request: &CreateRequest) -> Result<Option<ResctrlGroup>, StepError> {
    let plan_one = |wanted| Resctrl::of_host()?.plan(wanted, request.id.as_str());
    plan.intel_rdt.as_ref().map(plan_one).transpose()
}

/// Into a network namespace by its path if it has one, since the container's process may still be on its way there; else into the one that it was born
/// into.
fn move_devices(plan: &Plan, procfs: &Procfs, pid: i32) -> Result<(), StepError> {
    if plan.net_devices.is_empty() {
        return Ok(());
    }
    let joined = plan.namespaces.join.iter().find(|(kind, _)| *kind == NamespaceType::Network);
    let namespace = match joined {
        Some(join) => open_join(join)?,
        None => procfs.open_namespace_of(pid, "net").doing(|| "open the container's network namespace")?,
    };
    move_net_devices(&plan.net_devices, namespace.as_fd())
}

struct Served {
    pid: i32,
    console: Option<OwnedFd>,
    warnings: Vec<String>,
}

impl Pending {
    /// Lets the process go on. Returns when it waits for `start`, or with [`StartMode::Now`] when the program is executed, or says
    /// why it is not. `meanwhile` is done while the process works.
    pub fn finish(self, meanwhile: impl FnOnce()) -> Result<Created, CreateError> {
        let Self { process, channel, undo, record, is_ready, .. } = self;
        channel.go_on().doing(|| "talk to the container")?;
        meanwhile();
        if !is_ready {
            hear_ready(&channel, &undo)?;
            undo.state().mark_ready()?;
        }
        // The end of the stream is the exec, which closes the handle, or the process giving the handle up to wait for `start`.
        loop {
            match (channel.next().doing(|| "hear from the container")?, record.agent(), &undo.init) {
                (None, ..) => break,
                (Some((FromInside::Listener { number }, _)), Some(agent), Some(init)) => {
                    let state = State { pid: process.pid, ..hook_state(&record) };
                    agent.introduce(init.as_fd(), process.pid, number, state)?;
                    channel.go_on().doing(|| "talk to the container")?;
                }
                (Some((FromInside::Failed { kind, message }, _)), ..) => {
                    return Err(CreateError::Inside { kind, message });
                }
                (Some((other, _)), ..) => return Err(unexpected(&other)),
            }
        }
        undo.state().unlock()?;
        let (state, group, pidfd) = undo.disarm().ok_or_else(|| CreateError::Died { how: "no handle".into() })?;
        Ok(Created { process, pidfd, record, state, group })
    }

    /// A handle on the first process.
    pub fn pidfd(&self) -> Option<&OwnedFd> {
        self.undo.init.as_ref()
    }
}

/// The word of the process that it is prepared; without it, the end of the stream is no exec but a death.
fn hear_ready(outside: &Outside, undo: &Undo) -> Result<(), CreateError> {
    match outside.next().doing(|| "hear from the container")? {
        Some((FromInside::Ready, _)) => Ok(()),
        Some((FromInside::Failed { kind, message }, _)) => Err(CreateError::Inside { kind, message }),
        Some((other, _)) => Err(unexpected(&other)),
        None => Err(died(undo)),
    }
}

fn unexpected(message: &FromInside) -> CreateError {
    StepError::refused(Kind::Internal, format!("unexpected message from the container: {message:?}")).into()
}

fn serve_move(outside: &Outside, undo: &mut Undo, served: &mut Served) -> Result<(), CreateError> {
    match outside.next().doing(|| "hear from the container")? {
        Some((FromInside::Moved { pid }, Some(pidfd))) => {
            // The first process has done its work; it is ours to wait for.
            if let Some(first) = undo.init.replace(pidfd) {
                wait_dead(&first);
            }
            served.pid = pid;
            Ok(())
        }
        Some((FromInside::Failed { kind, message }, _)) => Err(CreateError::Inside { kind, message }),
        Some((other, _)) => Err(unexpected(&other)),
        None => Err(died(undo)),
    }
}

fn serve(
    outside: &Outside,
    plan: &Plan,
    state: &State,
    bundle: &Path,
    undo: &Undo,
    served: &mut Served,
) -> Result<(), CreateError> {
    loop {
        match outside.next().doing(|| "hear from the container")? {
            Some((FromInside::Ready, _)) => return Ok(()),
            Some((FromInside::Console, Some(console))) => served.console = Some(console),
            Some((FromInside::RuntimeHooks, _)) => {
                let state = State { pid: served.pid, ..state.clone() };
                run_hooks("prestart", &plan.hooks.prestart, &state, bundle).map_err(StepError::from)?;
                run_hooks("createRuntime", &plan.hooks.create_runtime, &state, bundle).map_err(StepError::from)?;
                outside.go_on().doing(|| "talk to the container")?;
            }
            Some((FromInside::Failed { kind, message }, _)) => return Err(CreateError::Inside { kind, message }),
            Some((other, _)) => return Err(unexpected(&other)),
            None => return Err(died(undo)),
        }
    }
}

/// How the first process ended, if it is our child; a memory limit that is too small for the runtime itself shows here.
fn died(undo: &Undo) -> CreateError {
    let status = undo.init.as_ref().and_then(|init| {
        waitid(WaitId::PidFd(init.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).ok().flatten()
    });
    let how = match status.map(|status| (status.exit_status(), status.terminating_signal())) {
        Some((Some(code), _)) => format!("exit status {code}"),
        Some((_, Some(9))) => "killed, perhaps because the memory limit is too low".to_owned(),
        Some((_, Some(signal))) => format!("signal {signal}"),
        _ => "reason unknown".to_owned(),
    };
    CreateError::Died { how }
}

fn read_spec(bundle: &Path) -> Result<Spec, CreateError> {
    let path = bundle.join("config.json");
    match fs::read(&path) {
        Ok(text) => Spec::from_json(&text).map_err(|source| CreateError::Parse { path, source }),
        Err(source) => Err(CreateError::Read { path, source }),
    }
}

#[cfg(target_arch = "x86_64")]
const HOST_ARCH: Arch = Arch::X86_64;
#[cfg(target_arch = "aarch64")]
const HOST_ARCH: Arch = Arch::Aarch64;

fn compile_filter(plan: &Plan) -> Result<Option<Program>, CreateError> {
    let Some(profile) = &plan.seccomp else { return Ok(None) };
    let program = carrack_seccomp::compile(profile, HOST_ARCH, &KernelSupport::probe())
        .map_err(|error| StepError::refused(error.kind(), format!("seccomp: {}", describe(&error))))?;
    Ok(Some(program))
}

fn record_filter(program: &Program, plan: &Plan, bundle: &Path) -> FilterRecord {
    use std::fmt::Write;
    let mut text = String::with_capacity(program.filter.len() * 16);
    for one in &program.filter {
        write!(text, "{:04x}{:02x}{:02x}{:08x}", one.code, one.jt, one.jf, one.k)
            .expect("writing to a String cannot fail");
    }
    let profile = plan.seccomp.as_ref().filter(|_| program.needs_listener);
    FilterRecord { flags: program.flags, program: text, agent: profile.map(|profile| Agent::of(profile, bundle)) }
}

/// runc's rule: where nothing is said, a group of the container's name next to our own.
fn plan_group_path(plan: &Plan, request: &CreateRequest, scope: Option<&Scope>) -> Result<GroupPath, CreateError> {
    if let Some(scope) = scope {
        return GroupPath::parse(&scope.group_path()).map_err(cgroup_failed!());
    }
    let text = if plan.cgroups_path.is_empty() { request.id.as_str() } else { &plan.cgroups_path };
    GroupPath::clean(text).map_err(cgroup_failed!())
}

/// Devices are denied unless a rule allows them, and every container may make nodes and use the ones that it always has.
fn resources_with_base_devices(resources: &LinuxResources) -> LinuxResources {
    let mut resources = resources.clone();
    if resources.devices.is_empty() {
        resources.devices.push(LinuxDeviceCgroup {
            allow: false,
            access: "rwm".into(),
            ..LinuxDeviceCgroup::default()
        });
    }
    resources.devices.extend(base_device_rules());
    resources
}

fn rootfs_path(plan: &Plan, bundle: &Path) -> PathBuf {
    match &plan.root.source {
        RootSource::Directory(path) => path.clone(),
        RootSource::Overlay { .. } => bundle.join("rootfs"),
    }
}

fn cgroup_view(host: &Host, group: &Group) -> Option<CgroupView> {
    match host.layout() {
        Layout::V2 => {
            let unified = host.facts().hierarchies.iter().find(|hierarchy| hierarchy.version == Version::V2)?;
            Some(CgroupView::Unified(unified.mount_point.clone()))
        }
        Layout::V1 | Layout::Hybrid => {
            let paths = group.paths();
            let separate = host.facts().hierarchies.iter().filter(|hierarchy| hierarchy.version == Version::V1);
            let named = separate.filter_map(|hierarchy| {
                let name = hierarchy.mount_point.file_name()?.to_str()?.to_owned();
                Some((name, paths.get(hierarchy.controllers.first()?)?.clone()))
            });
            Some(CgroupView::Separate(named.collect()))
        }
    }
}

/// The session keyring's name is runc's, since people look for it.
pub fn keyring_name(id: &str) -> CString {
    CString::new(format!("_ses.{id}")).expect("an id has no zero byte")
}

/// What hooks are told.
pub fn hook_state(record: &Record) -> State {
    State {
        oci_version: record.oci_version.clone(),
        id: record.id.to_string(),
        pid: 0,
        status: Status::Creating,
        bundle: record.bundle.display().to_string(),
        rootfs: String::new(),
        created: String::new(),
        annotations: record.annotations.clone(),
        owner: None,
    }
}

/// In a new user namespace a process has every capability that exists, in its bounding set too.
fn bounding_inside(plan: &Plan, facts: &HostFacts) -> u64 {
    if plan.namespaces.has_user() { crate::plan::capability::KNOWN } else { facts.bounding }
}

fn open_joins(plan: &Plan) -> Result<Vec<(NamespaceType, OwnedFd)>, StepError> {
    plan.namespaces.join.iter().map(|join| Ok((join.0, open_join(join)?))).collect()
}

fn open_join((kind, path): &(NamespaceType, PathBuf)) -> Result<OwnedFd, StepError> {
    openat(CWD, path, OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
        .doing(|| format!("open {} namespace {}", kind.name(), path.display()))
}

/// Namespaces that a process gives to its children instead of entering them itself: pid, if joined, and time, if new.
pub(crate) struct ChildNamespaces {
    own_pid: Option<OwnedFd>,
}

impl ChildNamespaces {
    fn prepare(plan: &Plan, joins: &[(NamespaceType, OwnedFd)]) -> Result<Self, StepError> {
        if plan.namespaces.new.contains(Namespaces::TIME) {
            namespace::unshare(Namespaces::TIME).doing(|| "create a time namespace")?;
            if !plan.namespaces.time_offsets.is_empty() {
                fs::write("/proc/self/timens_offsets", &plan.namespaces.time_offsets)
                    .doing(|| "set the time offsets")?;
            }
        }
        let Some((_, pid)) = joins.iter().find(|(kind, _)| *kind == NamespaceType::Pid) else {
            return Ok(Self { own_pid: None });
        };
        Self::give_pid(pid.as_fd())
    }

    /// Children are born in this pid namespace until [`Self::restore`].
    pub(crate) fn give_pid(pid: std::os::fd::BorrowedFd<'_>) -> Result<Self, StepError> {
        let own = fs::File::open("/proc/self/ns/pid").doing(|| "open the own pid namespace")?;
        namespace::join(pid, Namespaces::PID).doing(|| "join the pid namespace")?;
        Ok(Self { own_pid: Some(own.into()) })
    }

    /// The same for the pid namespace of a process, if it has one of its own.
    pub(crate) fn give_pid_of(process: std::os::fd::BorrowedFd<'_>, own: Namespaces) -> Result<Self, StepError> {
        if own.contains(Namespaces::PID) { Self::give_pid(process) } else { Ok(Self { own_pid: None }) }
    }

    /// Hooks and whatever else is started later belong to the host.
    pub(crate) fn restore(&mut self) -> Result<(), StepError> {
        match self.own_pid.take() {
            Some(own) => namespace::join(own.as_fd(), Namespaces::PID).doing(|| "return to the own pid namespace"),
            None => Ok(()),
        }
    }
}

/// A pid as rustix wants it.
pub fn pid_of(process: ProcessId) -> Result<Pid, StepError> {
    Pid::from_raw(process.pid).ok_or(Errno::SRCH).doing(|| format!("find process {}", process.pid))
}
