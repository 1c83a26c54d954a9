//! The first process of a container, from the clone to the user's program.
//!
//! ```text
//!  enter cgroups ─▶ join namespaces ─▶ (ids mapped) ─▶ attach root ─▶ mounts, devices, terminal ─▶ (runtime hooks)
//!   ─▶ createContainer hooks ─▶ network, names, kernel parameters ─▶ leave the host's tree ─▶ hide paths
//!   ─▶ prepare the process ─▶ Ready ─▶ (wait for start) ─▶ startContainer hooks ─▶ exec
//! ```
//!
//! The order has reasons: cgroups first, since a cgroup namespace is rooted where its maker is; mounts before the host's tree is
//! left, since procfs may be mounted in a user namespace only where another one is visible; hidden paths last, since kernel
//! parameters lie below one of them.

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use carrack_cgroup::EnterHandles;
use carrack_oci_config::{State, Status};
use carrack_rooted::Root;
use carrack_seccomp::Program;
use carrack_sys::clone::{ChildOf, CloneRequest, Cloned, clone3, exit_now};
use carrack_sys::descriptor::close_all_from_except;
use carrack_sys::loopback;
use carrack_sys::namespace::{self, Namespaces};
use carrack_sys::rustix::fs::{Gid, Mode, Uid};
use carrack_sys::rustix::io::Errno;
use carrack_sys::rustix::process::{setsid, umask};
use carrack_sys::rustix::system::{setdomainname, sethostname};
use carrack_sys::rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use carrack_sys::task::{self, Keyring};

use crate::channel::{self, FromInside, Inside};
use crate::describe::describe;
use crate::hook::run_hooks;
use crate::inside::console::Console;
use crate::inside::credentials::{
    Inherited, Place, Prepared, become_program, prepare, raise_limits, reset, reset_cpus,
};
use crate::inside::devices::{NodeSource, apply_devices};
use crate::inside::mounts::{CgroupView, MountContext, Mounted, apply_mounts, finish_readonly};
use crate::inside::root::{
    Leave, apply_masked_paths, apply_readonly_paths, attach_root, finish_root, move_into, stop_propagation,
};
use crate::origin::{self, Origins};
use crate::plan::Plan;
use crate::procfs::Procfs;
use crate::stage::NamespaceType;
use crate::step::{Doing, StepError};

/// What the process takes along from outside.
#[derive(Debug)]
pub struct Luggage {
    /// The trees of its mounts.
    pub origins: Origins,
    /// The host's procfs.
    pub procfs: Procfs,
    /// Namespaces to join.
    pub joins: Vec<(NamespaceType, OwnedFd)>,
    /// Where `start` connects; `None` if nobody has to say it.
    pub start_socket: Option<UnixListener>,
    /// The way into the cgroups that could not be taken by being born there.
    pub cgroups: Option<EnterHandles>,
    /// The way to talk to the runtime.
    pub channel: Inside,
}

/// What the process has to know.
#[derive(Debug)]
pub struct InitOrder<'a> {
    /// The container.
    pub plan: &'a Plan,
    /// How its cgroups are shown.
    pub cgroup_view: Option<&'a CgroupView>,
    /// The compiled filter.
    pub filter: Option<&'a Program>,
    /// The state for hooks, without a pid.
    pub state: &'a State,
    /// The bundle, where hooks run.
    pub bundle: &'a Path,
    /// What has to be lost.
    pub inherited: Inherited,
    /// How the host's tree is left.
    pub leave: Leave,
    /// The name of a new session keyring.
    pub keyring: Option<&'a std::ffi::CStr>,
    /// How many handles from 3 on are the program's.
    pub preserve_fds: u32,
    /// Whether somebody else moves this process into its group, and the runtime says when that is done.
    pub is_moved: bool,
}

/// Runs in the new process, and does not return.
pub fn run(order: &InitOrder<'_>, luggage: Luggage) -> ! {
    let Luggage { origins, procfs, joins, start_socket, cgroups, channel } = luggage;
    let result = enter_namespaces(order, joins, cgroups, &channel)
        .and_then(|()| build(order, origins, procfs, &channel))
        .and_then(|prepared| {
            channel.tell(&FromInside::Ready, None)?;
            Ok(prepared)
        });
    let prepared = match result {
        Ok(prepared) => prepared,
        Err(error) => {
            channel.fail(&error);
            exit_now(1)
        }
    };
    if let Some(listener) = start_socket {
        wait_and_start(order, &prepared, listener, channel)
    }
    let error = match channel.wait().and_then(|()| run_start_hooks(order)) {
        Ok(()) => become_program(&prepared, &order.plan.process, order.filter, &|listener| channel.offer(listener)),
        Err(error) => error,
    };
    channel.fail(&error);
    exit_now(1)
}

/// Gives up everything but the socket, and waits for `start`. Whoever looks at this process meanwhile finds no handle on the host.
fn wait_and_start(order: &InitOrder<'_>, prepared: &Prepared, listener: UnixListener, channel: Inside) -> ! {
    let mut keep: Vec<i32> = (3..3 + order.preserve_fds as i32).collect();
    keep.extend([listener.as_raw_fd(), channel.as_fd().as_raw_fd()]);
    if let Err(source) = close_all_from_except(3, &mut keep) {
        channel.fail(&StepError::Failed { doing: "close the host's handles".into(), source });
        exit_now(1)
    }
    if channel.wait().is_err() {
        // The runtime died before it had recorded this process.
        exit_now(1)
    }
    drop(channel);
    loop {
        let Ok((mut connection, _)) = listener.accept() else { exit_now(1) };
        // A connection that ends without a word only asked whether somebody is there.
        if !matches!(connection.read(&mut [0]), Ok(1)) {
            continue;
        }
        let error = match run_start_hooks(order) {
            Ok(()) => {
                let offer = |listener| channel::offer(connection.as_fd(), listener);
                become_program(prepared, &order.plan.process, order.filter, &offer)
            }
            Err(error) => error,
        };
        let message = FromInside::Failed { kind: error.kind(), message: describe(&error) };
        // If `start` is gone, nobody has to know.
        let _ = crate::stage::send_message(&connection, &message, &[]);
        let _ = connection.flush();
        exit_now(1)
    }
}

fn enter_namespaces(
    order: &InitOrder<'_>,
    joins: Vec<(NamespaceType, OwnedFd)>,
    cgroups: Option<EnterHandles>,
    channel: &Inside,
) -> Result<(), StepError> {
    let namespaces = &order.plan.namespaces;
    if order.is_moved {
        channel.wait()?;
    }
    if let Some(handles) = cgroups {
        handles.enter_self_after_clone().map_err(|error| StepError::refused(error.kind(), describe(&error)))?;
    }
    let joins_user = namespaces.joins(NamespaceType::User);
    if joins_user {
        raise_limits(0, &order.plan.process.limits)?;
    }
    join_all(&joins)?;
    drop(joins);
    if joins_user {
        clone_again(namespaces.new.without(Namespaces::CGROUP), channel)?;
    }
    if namespaces.new.contains(Namespaces::USER) {
        channel.wait()?;
    }
    if namespaces.has_user() {
        become_root()?;
    }
    if namespaces.new.contains(Namespaces::CGROUP) {
        namespace::unshare(Namespaces::CGROUP).doing(|| "create a cgroup namespace")?;
    }
    reset(order.inherited)?;
    reset_cpus(None)?;
    // Modes of what is made from here on are exact.
    umask(Mode::empty());
    setsid().doing(|| "create a session")?;
    match order.keyring {
        Some(name) => make_keyring(name),
        None => Ok(()),
    }
}

/// What the kernel gives a new session keyring: all to who possesses it; its user may see, read and link it.
const NEW_KEYRING: u32 = 0x3f13_0000;
const USER_SEARCHES: u32 = 0x0008_0000;

/// A session keyring of the container's own, which a later exec finds by its name: its user must be allowed to search it.
fn make_keyring(name: &std::ffi::CStr) -> Result<(), StepError> {
    let Some(keyring) = join_keyring(name)? else { return Ok(()) };
    task::set_keyring_permissions(keyring, NEW_KEYRING | USER_SEARCHES)
        .doing(|| "open the session keyring to later execs")
}

/// The session keyring with this name; a kernel without keyrings has nothing to separate.
pub fn join_keyring(name: &std::ffi::CStr) -> Result<Option<Keyring>, StepError> {
    match task::join_session_keyring(name) {
        Err(error) if error.raw_os_error() == Some(Errno::NOSYS.raw_os_error()) => Ok(None),
        other => other.map(Some).doing(|| "join a session keyring"),
    }
}

/// Joins all but the pid namespace, which counts only for children and was joined outside. The user namespace comes last, as the host's rights open
/// the others; what even those do not open is tried again with the rights that it gives.
fn join_all(joins: &[(NamespaceType, OwnedFd)]) -> Result<(), StepError> {
    let join = |(kind, handle): &(NamespaceType, OwnedFd)| namespace::join(handle.as_fd(), kind.bit());
    let failed = |kind: NamespaceType| move || format!("join the {} namespace", kind.name());
    let mut refused = Vec::new();
    for one in joins.iter().filter(|(kind, _)| !matches!(kind, NamespaceType::User | NamespaceType::Pid)) {
        match join(one) {
            Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => refused.push(one),
            other => other.doing(failed(one.0))?,
        }
    }
    for one in joins.iter().filter(|(kind, _)| *kind == NamespaceType::User).chain(refused) {
        join(one).doing(failed(one.0))?;
    }
    Ok(())
}

/// New namespaces that must belong to a joined user namespace can only be made from inside it; a pid namespace then takes another process. It
/// becomes a sibling of this one, which ends here.
fn clone_again(new: Namespaces, channel: &Inside) -> Result<(), StepError> {
    let request = CloneRequest { new, child_of: ChildOf::Parent, into_cgroup: None };
    match clone3(&request).doing(|| "create namespaces inside the joined user namespace")? {
        Cloned::Child => Ok(()),
        Cloned::Parent { pid, pidfd } => {
            // If the runtime is gone, the new process notices that itself.
            let _ = channel.tell(&FromInside::Moved { pid }, Some(pidfd.as_fd()));
            exit_now(0)
        }
    }
}

/// Root of the user namespace, if that has one: what follows makes files and mounts.
pub fn become_root() -> Result<(), StepError> {
    let ignore_unmapped = |result: Result<(), Errno>| match result {
        Err(Errno::INVAL | Errno::PERM) => Ok(()),
        other => other,
    };
    ignore_unmapped(set_thread_groups(&[])).doing(|| "drop the groups of the host")?;
    ignore_unmapped(set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT))
        .doing(|| "become group 0 of the user namespace")?;
    ignore_unmapped(set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)).doing(|| "become user 0 of the user namespace")
}

fn build(order: &InitOrder<'_>, origins: Origins, procfs: Procfs, channel: &Inside) -> Result<Prepared, StepError> {
    let plan = order.plan;
    let Origins { root, binds } =
        if plan.namespaces.has_user() { origin::borrow(origins, plan, channel)? } else { origins };
    stop_propagation()?;
    let root = Root::from(attach_root(root)?);
    let context = MountContext { cgroups: order.cgroup_view, label: &plan.mount_label };
    let mounted = apply_mounts(&root, &plan.mounts, binds, context)?;
    if let Some(devices) = &plan.devices {
        let source = if plan.namespaces.has_user() { NodeSource::Host } else { NodeSource::Make };
        apply_devices(&root, devices, source)?;
    }
    let console = open_console(plan, &root, &mounted)?;
    finish_readonly(&mounted)?;
    drop(mounted);
    if plan.hooks.has_runtime_hooks() {
        channel.tell(&FromInside::RuntimeHooks, None)?;
        channel.wait()?;
    }
    let state = own_state(order, Status::Creating);
    run_hooks("createContainer", &plan.hooks.create_container, &state, order.bundle)?;
    set_up_names(plan, &procfs)?;
    move_into(&root, order.leave)?;
    if plan.process.cwd != "/" && root.resolve(&plan.process.cwd).is_err() {
        // It is made before the root becomes read-only. If that fails, entering it tells why.
        let _ = root.create_dir_all(&plan.process.cwd, 0o755);
    }
    apply_readonly_paths(&root, &plan.readonly_paths)?;
    apply_masked_paths(&root, &plan.masked_paths, &plan.mount_label)?;
    finish_root(&root, &plan.root)?;
    if let Some(console) = console {
        channel.tell(&FromInside::Console, Some(console.master.as_fd()))?;
        console.take(
            plan.process.terminal.unwrap_or(crate::plan::process::TerminalPlan { size: None }),
            plan.process.uid,
        )?;
    }
    let place = Place { root: &root, procfs: &procfs, inherited: order.inherited, preserve_fds: order.preserve_fds };
    prepare(&plan.process, &place)
}

fn open_console(plan: &Plan, root: &Root, mounted: &Mounted) -> Result<Option<Console>, StepError> {
    if plan.process.terminal.is_none() {
        return Ok(None);
    }
    let console = match &mounted.devpts {
        Some(devpts) => Console::open_in(devpts)?,
        None => Console::open_below(root)?,
    };
    if plan.devices.is_some() {
        console.bind_console(root)?;
    }
    Ok(Some(console))
}

fn set_up_names(plan: &Plan, procfs: &Procfs) -> Result<(), StepError> {
    if plan.namespaces.new.contains(Namespaces::NETWORK) {
        loopback::switch_on().doing(|| "switch the loopback device on")?;
    }
    if !plan.hostname.is_empty() {
        sethostname(plan.hostname.as_bytes()).doing(|| format!("set hostname {:?}", plan.hostname))?;
    }
    if !plan.domainname.is_empty() {
        setdomainname(plan.domainname.as_bytes()).doing(|| format!("set domainname {:?}", plan.domainname))?;
    }
    for sysctl in &plan.sysctls {
        procfs
            .write(&format!("sys/{}", sysctl.file), &sysctl.value)
            .doing(|| format!("write sysctl {} = {:?}", sysctl.file, sysctl.value))?;
    }
    Ok(())
}

/// The state as seen from inside.
fn own_state(order: &InitOrder<'_>, status: Status) -> State {
    State { pid: carrack_sys::rustix::process::getpid().as_raw_nonzero().get(), status, ..order.state.clone() }
}

fn run_start_hooks(order: &InitOrder<'_>) -> Result<(), StepError> {
    if order.plan.hooks.start_container.is_empty() {
        return Ok(());
    }
    let state = own_state(order, Status::Created);
    Ok(run_hooks("startContainer", &order.plan.hooks.start_container, &state, Path::new("/"))?)
}
