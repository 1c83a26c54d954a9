//! From a privileged process in the container to the user's program: ids, capabilities, limits, filter, exec.
//!
//! ```text
//!  prepare                          wait for start            become
//!  ├ limits, groups, ids            (only `create`)           ├ filter, if it needs CAP_SYS_ADMIN
//!  ├ working directory                                        ├ capabilities
//!  ├ find the program                                         ├ no_new_privs, filter
//!  └ mark handles close-on-exec                               └ execve
//! ```
//!
//! The filter comes as late as possible, so that it need not allow what we do ourselves.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use carrack_rooted::{Root, RootedError};
use carrack_seccomp::Program;
use carrack_sys::descriptor::{CloseOnExec, close_on_exec_from, set_close_on_exec};
use carrack_sys::exec::{Strings, execve};
use carrack_sys::rustix::fs::{Gid, Mode, OFlags, Uid};
use carrack_sys::rustix::io::Errno;
use carrack_sys::rustix::process::{chdir, fchdir, getcwd, umask};
use carrack_sys::rustix::thread::{
    CapabilitySet, CapabilitySets as KernelSets, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};
use carrack_sys::signal::{self, SignalSet};
use carrack_sys::task;
use carrack_words::Kind;

use crate::describe::{describe, describe_io};
use crate::inside::console::give_streams_to;
use crate::inside::program::{exec_failed, find_program};
use crate::inside::user::home_of;
use crate::plan::capability::SYS_ADMIN;
use crate::plan::number_set::NumberSet;
use crate::plan::process::{CpuPlan, ProcessPlan};
use crate::plan::rlimit::{ResourceLimit, name_of};
use crate::procfs::Procfs;
use crate::step::{Doing, StepError};

/// What the process was born with and has to lose.
#[derive(Debug, Clone, Copy)]
pub struct Inherited {
    /// Signals that are ignored.
    pub ignored_signals: SignalSet,
    /// Its bounding set.
    pub bounding: u64,
}

/// Undoes what the process inherited from whoever called the runtime: mask and dispositions of signals.
pub fn reset(inherited: Inherited) -> Result<(), StepError> {
    signal::reset(inherited.ignored_signals).doing(|| "reset signals")?;
    signal::block(SignalSet::NONE).doing(|| "unblock signals")?;
    Ok(())
}

/// Undoes the caller's choice of CPUs, which is not the container's; its cpuset, entered before, still holds. A choice for this process is kept instead.
pub fn reset_cpus(wanted: Option<&CpuPlan>) -> Result<(), StepError> {
    match wanted {
        None => task::allow_all_cpus().doing(|| "reset the CPU affinity"),
        Some(CpuPlan { last: Some(cpus), .. }) => {
            task::set_cpus(cpus.words()).doing(|| "error setting final CPU affinity")
        }
        Some(CpuPlan { last: None, .. }) => Ok(()),
    }
}

/// Raises hard limits that need the host's rights, while we have them.
pub fn raise_limits(pid: i32, limits: &[ResourceLimit]) -> Result<(), StepError> {
    for limit in limits {
        let failed = || format!("raise {} to {}", name_of(limit.resource), limit.hard);
        let (soft, hard) = task::resource_limit(pid, limit.resource).doing(failed)?;
        if limit.hard > hard {
            task::set_resource_limit(pid, limit.resource, soft, limit.hard).doing(failed)?;
        }
    }
    Ok(())
}

/// A process that is ready to become the user's program.
#[derive(Debug)]
pub struct Prepared {
    path: CString,
    arguments: Strings,
    environment: Strings,
}

/// Where the process is.
#[derive(Debug)]
pub struct Place<'a> {
    /// The container's root, which is this process's root.
    pub root: &'a Root,
    /// The host's procfs.
    pub procfs: &'a Procfs,
    /// What has to be lost.
    pub inherited: Inherited,
    /// How many handles from 3 on are the program's.
    pub preserve_fds: u32,
}

/// Everything that can be done before `start`.
pub fn prepare(process: &ProcessPlan, place: &Place<'_>) -> Result<Prepared, StepError> {
    let mut environment = process.environment.clone();
    if process.variable("HOME").is_none_or(<[u8]>::is_empty) {
        let home = format!("HOME={}", home_of(place.root, process.uid));
        environment.retain(|entry| !entry.as_bytes().starts_with(b"HOME="));
        environment.push(CString::new(home).expect("a home with control characters is not taken"));
    }
    write_labels(process, place.procfs)?;
    set_task(process)?;
    let is_in_cwd = enter_cwd(process, place.root)?;
    if process.terminal.is_none() {
        give_streams_to(process.uid)?;
    }
    become_user(process, place.inherited.bounding)?;
    if !is_in_cwd && !enter_cwd(process, place.root)? {
        return Err(cwd_failed(process, Errno::ACCESS.into()));
    }
    verify_cwd()?;
    umask(Mode::from(process.umask));
    let path = find_program(process)?;
    let first_of_ours = 3 + place.preserve_fds as i32;
    for number in 3..first_of_ours {
        set_close_on_exec(number, CloseOnExec::No).doing(|| format!("preserve handle {number}"))?;
    }
    close_on_exec_from(first_of_ours).doing(|| "mark handles close-on-exec")?;
    Ok(Prepared { path, arguments: Strings::new(process.arguments.clone()), environment: Strings::new(environment) })
}

/// The labels that exec gives, through a procfs that is the host's for certain.
fn write_labels(process: &ProcessPlan, procfs: &Procfs) -> Result<(), StepError> {
    if !process.selinux_label.is_empty() {
        procfs
            .write("thread-self/attr/exec", &process.selinux_label)
            .doing(|| format!("set SELinux label {:?}", process.selinux_label))?;
    }
    if process.apparmor_profile.is_empty() {
        return Ok(());
    }
    let failed = || format!("set AppArmor profile {:?}", process.apparmor_profile);
    let value = format!("exec {}", process.apparmor_profile);
    match procfs.write("thread-self/attr/apparmor/exec", &value) {
        // Before Linux 5.8, or with no other security module, only the common file is there.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            match procfs.write("thread-self/attr/exec", &value) {
                Ok(()) => Ok(()),
                // Without AppArmor everything is unconfined.
                Err(_) if process.apparmor_profile == "unconfined" => Ok(()),
                Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                    let message = "apparmor: config provided but apparmor not supported";
                    Err(StepError::refused(Kind::Unsupported, message))
                }
                Err(error) => Err(error).doing(failed),
            }
        }
        other => other.doing(failed),
    }
}

fn set_task(process: &ProcessPlan) -> Result<(), StepError> {
    if let Some(scheduler) = process.scheduler {
        task::set_scheduler(scheduler).doing(|| "set the scheduler")?;
    }
    if let Some((class, level)) = process.io_priority {
        task::set_io_priority(class, level).doing(|| "set the I/O priority")?;
    }
    if let Some(domain) = process.personality {
        task::set_personality(domain).doing(|| "set the personality")?;
    }
    if let Some(policy) = &process.memory_policy {
        let nodes = policy.nodes.as_ref().map_or(&[][..], NumberSet::words);
        task::set_memory_policy(policy.mode, nodes).doing(|| "set_mempolicy")?;
    }
    for limit in &process.limits {
        task::set_resource_limit(0, limit.resource, limit.soft, limit.hard)
            .doing(|| format!("error setting rlimit type {} ({})", limit.resource, name_of(limit.resource)))?;
    }
    Ok(())
}

fn cwd_failed(process: &ProcessPlan, source: std::io::Error) -> StepError {
    let doing = format!("chdir to cwd ({:?}) set in config.json failed", process.cwd);
    StepError::Failed { doing, source }
}

/// As root first: the user may lack a right on a parent. Where root is refused, as on some network file systems, the user is tried later. The way
/// there leads over no magic link: `/proc/self/fd/7` as a working directory once led to a directory of the host that had been left open
/// (CVE-2024-21626).
fn enter_cwd(process: &ProcessPlan, root: &Root) -> Result<bool, StepError> {
    if process.cwd == "/" {
        return chdir("/").map(|()| true).map_err(|error| cwd_failed(process, error.into()));
    }
    let failed = |error: RootedError| match error {
        RootedError::Open { source, .. }
        | RootedError::CreateDirectory { source, .. }
        | RootedError::CreateFile { source, .. } => source,
    };
    let entered = root
        .open(&process.cwd, OFlags::PATH | OFlags::DIRECTORY)
        .map_err(failed)
        .and_then(|directory| Ok(fchdir(&directory)?));
    match entered {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(Errno::ACCESS.raw_os_error()) => Ok(false),
        Err(error) => Err(cwd_failed(process, error)),
    }
}

/// The working directory must be inside the root, however it was reached. The kernel tells by refusing to name a directory that the
/// root does not contain.
fn verify_cwd() -> Result<(), StepError> {
    match getcwd(Vec::with_capacity(256)) {
        Ok(path) if path.as_bytes().starts_with(b"/") => Ok(()),
        Ok(_) | Err(Errno::NOENT) => Err(StepError::refused(
            Kind::Denied,
            "current working directory is outside of container mount namespace root -- possible container breakout detected",
        )),
        Err(error) => Err(error).doing(|| "verify the working directory"),
    }
}

fn become_user(process: &ProcessPlan, bounding: u64) -> Result<(), StepError> {
    for number in 0..64 {
        let bit = 1 << number;
        if bounding & bit != 0 && process.capabilities.bounding & bit == 0 {
            remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(bit))
                .doing(|| format!("drop capability {number} from the bounding set"))?;
        }
    }
    let groups: Vec<_> = process.groups.iter().map(|&group| Gid::from_raw(group)).collect();
    set_thread_groups(&groups).doing(|| "set the additional groups")?;
    let gid = Gid::from_raw(process.gid);
    set_thread_res_gid(gid, gid, gid).doing(|| format!("become group {}", process.gid))?;
    // What is permitted must survive until the sets are final.
    if process.uid != 0 {
        set_keep_capabilities(true).doing(|| "keep capabilities")?;
    }
    let uid = Uid::from_raw(process.uid);
    set_thread_res_uid(uid, uid, uid).doing(|| format!("become user {}", process.uid))
}

/// Whom the listener of a filter is offered to.
pub type Offer<'a> = &'a dyn Fn(OwnedFd) -> Result<(), StepError>;

/// Becomes the user's program. Returns only if that failed.
pub fn become_program(
    prepared: &Prepared,
    process: &ProcessPlan,
    filter: Option<&Program>,
    offer: Offer<'_>,
) -> StepError {
    if let Err(error) = finish(process, filter, offer) {
        return error;
    }
    let source = execve(&prepared.path, &prepared.arguments, &prepared.environment);
    exec_failed(&prepared.path.to_string_lossy(), &source)
}

fn finish(process: &ProcessPlan, filter: Option<&Program>, offer: Offer<'_>) -> Result<(), StepError> {
    let load = || match filter.map(Program::load) {
        None | Some(Ok(None)) => Ok(()),
        // At once: what is still to be done may be among what the filter asks about.
        Some(Ok(Some(listener))) => offer(listener),
        Some(Err(error)) => Err(StepError::refused(error.kind(), describe(&error))),
    };
    if filter.is_some() && !process.no_new_privileges {
        if process.uid != 0 {
            // Becoming another user took what was effective; what is permitted was kept.
            let sets = KernelSets {
                effective: CapabilitySet::from_bits_retain(SYS_ADMIN),
                permitted: CapabilitySet::from_bits_retain(SYS_ADMIN | process.capabilities.permitted),
                inheritable: CapabilitySet::empty(),
            };
            set_capabilities(None, sets).doing(|| "keep CAP_SYS_ADMIN for loading the seccomp filter")?;
        }
        load()?;
    }
    let sets = &process.capabilities;
    let kernel = KernelSets {
        effective: CapabilitySet::from_bits_retain(sets.effective),
        permitted: CapabilitySet::from_bits_retain(sets.permitted),
        inheritable: CapabilitySet::from_bits_retain(sets.inheritable),
    };
    set_capabilities(None, kernel).doing(|| "set the capabilities")?;
    for number in (0..64).filter(|number| sets.ambient >> number & 1 == 1) {
        configure_capability_in_ambient_set(CapabilitySet::from_bits_retain(1 << number), true)
            .doing(|| format!("set ambient capability {number}"))?;
    }
    if process.no_new_privileges {
        set_no_new_privs(true).doing(|| "set no_new_privs")?;
        load()?;
    }
    Ok(())
}

/// Writes how readily a process is killed when memory is short. Without CAP_SYS_RESOURCE the present value cannot be undercut: it stays,
/// and the answer is a warning.
pub fn set_oom_score(procfs: &Procfs, pid: i32, score: i32) -> Result<Option<String>, StepError> {
    let file = format!("{pid}/oom_score_adj");
    match procfs.write(&file, &score.to_string()) {
        Ok(()) => Ok(None),
        Err(error) if error.raw_os_error() == Some(Errno::ACCESS.raw_os_error()) => {
            let present = present_oom_score(procfs, &file).unwrap_or_else(|| "the inherited value".to_owned());
            Ok(Some(format!("oom_score_adj {score} is below {present}, which stays: {}", describe_io(&error))))
        }
        Err(error) => Err(error).doing(|| format!("set oom_score_adj to {score}")),
    }
}

fn present_oom_score(procfs: &Procfs, file: &str) -> Option<String> {
    let handle = procfs.open(file, OFlags::RDONLY).ok()?;
    let mut text = [0; 16];
    let length = carrack_sys::rustix::io::read(&handle, &mut text).ok()?;
    Some(String::from_utf8_lossy(&text[..length]).trim().to_owned())
}
