//! Carries out [`MountStep`]s, in the container's mount namespace, before the root is changed.
//!
//! A destination is resolved by handle inside the root and mounted on by handle, so that no link or rename leads outside (CVE-2021-30465).

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use carrack_rooted::{CopyError, Root, copy_tree};
use carrack_sys::mount_attr::{Depth, MountAttr};
use carrack_sys::rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, fchmod, fchown, fstat, fstatfs, mkdirat, openat, statat, symlinkat,
};
use carrack_sys::rustix::io::Errno;
use carrack_words::Kind;

use crate::describe::describe;
use crate::mounting::{self, FileSystem, MAX_VALUE_BYTES};
use crate::plan::mount::{MountKind, MountStep};
use crate::plan::mount_option::{MountOptions, SLAVE};
use crate::step::{Doing, StepError};

const PROC_MAGIC: i64 = 0x9fa0;
/// Of the top directory of every procfs.
const PROC_ROOT_INODE: u64 = 1;
/// Files of procfs that something may be bound over: they only inform (lxcfs provides them).
const PROC_FILES: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// How the container's cgroups can be shown to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupView {
    /// The unified hierarchy, and where it is mounted on the host.
    Unified(PathBuf),
    /// Hierarchies of version 1: the name of each under `/sys/fs/cgroup`, and the container's directory in it on the host.
    Separate(Vec<(String, PathBuf)>),
}

/// What mounting hands on.
#[derive(Debug, Default)]
pub struct Mounted {
    /// File systems that become read-only when all mounts are made.
    pub readonly_later: Vec<OwnedFd>,
    /// The container's own devpts.
    pub devpts: Option<OwnedFd>,
}

/// What mounts need besides what each one says of itself.
#[derive(Debug, Clone, Copy)]
pub struct MountContext<'a> {
    /// How cgroups are shown.
    pub cgroups: Option<&'a CgroupView>,
    /// SELinux label of everything in file systems that are made, or empty.
    pub label: &'a str,
}

/// Makes all mounts. `sources` holds the tree of each bind mount, taken on the host, at the number of its step.
pub fn apply_mounts(
    root: &Root,
    steps: &[MountStep],
    mut sources: Vec<Option<OwnedFd>>,
    context: MountContext<'_>,
) -> Result<Mounted, StepError> {
    let mut mounted = Mounted::default();
    for (index, step) in steps.iter().enumerate() {
        match &step.what {
            MountKind::Bind { .. } => {
                let tree = sources[index].take().ok_or_else(|| {
                    StepError::refused(Kind::Internal, format!("mount {}: its source was not opened", step.destination))
                })?;
                apply_bind(root, step, &tree)?;
            }
            MountKind::FileSystem { kind, source } => {
                apply_file_system(root, step, (kind, source), context.label, &mut mounted)?
            }
            MountKind::Cgroups => apply_cgroups(root, step, context, &mut mounted)?,
        }
    }
    Ok(mounted)
}

fn mounting_failed(step: &MountStep, source: &str) -> String {
    format!("error mounting {source:?} to rootfs at {:?}", step.destination)
}

fn apply_bind(root: &Root, step: &MountStep, tree: &OwnedFd) -> Result<(), StepError> {
    let MountKind::Bind { source, .. } = &step.what else { return Ok(()) };
    let failed = || mounting_failed(step, &source.display().to_string());
    let stat = fstat(tree).doing(failed)?;
    let is_directory = file_type(&stat) == FileType::Directory;
    let is_proc = |handle: &OwnedFd| Ok::<_, StepError>(fstatfs(handle).doing(failed)?.f_type as i64 == PROC_MAGIC);
    let refused = |why: &str| {
        StepError::refused(
            Kind::Invalid,
            format!("{}: {:?} cannot be mounted because it is {why}", failed(), step.destination),
        )
    };
    let place = ProcPlace::of(&step.destination);
    // The host's procfs in place of the container's own forges nothing.
    let is_procfs = stat.st_ino == PROC_ROOT_INODE && is_proc(tree)?;
    match place {
        ProcPlace::Top if !is_procfs => return Err(refused("not of type proc")),
        ProcPlace::Below => return Err(refused("inside /proc")),
        ProcPlace::Top | ProcPlace::Informing | ProcPlace::Elsewhere => {}
    }
    let target = if is_directory {
        root.create_dir_all(&step.destination, 0o755)
    } else {
        root.create_file(&step.destination, 0o644)
    };
    // Callers look for the words about mounting, and people for the source.
    let target = target.map_err(|error| {
        let message = format!("{}: {}", failed(), describe(&error));
        StepError::refused(crate::step::kind_of_io(error.io()), message)
    })?;
    // A link of the image may have led there all the same.
    if place == ProcPlace::Elsewhere {
        match is_slash_proc(root, &target).doing(failed)? {
            true if !is_procfs => return Err(refused("not of type proc")),
            false if is_proc(&target)? => return Err(refused("inside /proc")),
            _ => {}
        }
    }
    mounting::attach(tree, &target).doing(failed)?;
    apply_options(tree, &step.options, true).doing(failed)
}

/// Whether it is the container's `/proc`, by whatever name.
fn is_slash_proc(root: &Root, target: &OwnedFd) -> std::io::Result<bool> {
    let Ok(proc) = root.resolve("/proc") else { return Ok(false) };
    let (proc, target) = (fstat(&proc)?, fstat(target)?);
    Ok((proc.st_dev, proc.st_ino) == (target.st_dev, target.st_ino))
}

/// Where a destination is, as seen from `/proc`, by its words alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProcPlace {
    /// `/proc` itself: only a procfs may be there.
    Top,
    /// One of [`PROC_FILES`].
    Informing,
    /// Anything else in it: what labels, limits and sysctls are written to could be forged.
    Below,
    Elsewhere,
}

impl ProcPlace {
    fn of(destination: &str) -> Self {
        let mut path = PathBuf::from("/");
        for component in Path::new(destination).components() {
            match component {
                Component::Normal(name) => path.push(name),
                Component::ParentDir => drop(path.pop()),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        if path == Path::new("/proc") {
            Self::Top
        } else if PROC_FILES.iter().any(|file| path == Path::new(file)) {
            Self::Informing
        } else if path.starts_with("/proc") {
            Self::Below
        } else {
            Self::Elsewhere
        }
    }
}

/// Attributes and propagation, after attaching. A bind mount that says nothing about propagation gets events of the host and sends none, as with
/// existing runtimes.
fn apply_options(tree: &OwnedFd, options: &MountOptions, is_bind: bool) -> std::io::Result<()> {
    if is_bind && options.propagation.is_empty() {
        mounting::change(tree.as_fd(), Depth::All, MountAttr { propagation: SLAVE, ..MountAttr::default() })?;
    }
    for &(propagation, depth) in &options.propagation {
        mounting::change(tree.as_fd(), depth, MountAttr { propagation, ..MountAttr::default() })?;
    }
    if is_bind && (options.attr.set != 0 || options.attr.clear != 0) {
        mounting::change(tree.as_fd(), Depth::One, options.attr)?;
    }
    if options.recursive != MountAttr::default() {
        mounting::change(tree.as_fd(), Depth::All, options.recursive)?;
    }
    Ok(())
}

fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn apply_file_system(
    root: &Root,
    step: &MountStep,
    (kind, source): (&str, &str),
    label: &str,
    mounted: &mut Mounted,
) -> Result<(), StepError> {
    let failed = || mounting_failed(step, source);
    let existing = match root.resolve_last(&step.destination) {
        Ok(handle) => Some((statat(&handle, "", AtFlags::EMPTY_PATH).doing(failed)?, handle)),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error.into()),
    };
    let is_existing = existing.is_some();
    let directory = existing.filter(|(stat, _)| file_type(stat) == FileType::Directory);
    // Behind a link, `/proc` could be a directory of the image full of forged files.
    if matches!(kind, "proc" | "sysfs") && is_existing && directory.is_none() {
        let message = format!("filesystem {kind:?} must be mounted on ordinary directory");
        return Err(StepError::refused(Kind::Invalid, message));
    }
    let target = match directory {
        Some((_, handle)) => handle,
        None => root.create_dir_all(&step.destination, 0o755)?,
    };
    let mut data = step.options.data.clone();
    let is_tmpfs = kind == "tmpfs";
    // A tmpfs takes over the mode of the directory that it covers; images count on that for /tmp.
    if is_tmpfs && is_existing && !data.iter().any(|one| one.starts_with("mode=")) {
        let below = statat(&target, "", AtFlags::EMPTY_PATH).doing(failed)?;
        data.push(format!("mode={:o}", below.st_mode & 0o7777));
    }
    let is_readonly = step.options.attr.set & MountAttr::RDONLY != 0;
    let mut attributes = step.options.attr.set;
    if is_tmpfs {
        // Later mounts may need directories in it.
        attributes &= !MountAttr::RDONLY;
    }
    // These have labels of their own for what they show.
    let label = if matches!(kind, "proc" | "sysfs" | "mqueue") { "" } else { label };
    let values = data.iter().map(String::as_str).chain([source, label]);
    let handle = if values.into_iter().any(|one| one.len() > MAX_VALUE_BYTES) {
        // The label's own commas are none between options.
        data.extend((!label.is_empty()).then(|| format!("context=\"{label}\"")));
        mounting::mount_over_root(kind, source, &data, attributes).doing(failed)?
    } else {
        let mut flags = step.options.flags.clone();
        flags.extend((is_readonly && !is_tmpfs).then_some("ro"));
        configure(kind, source, &flags, &data)
            .and_then(|ready| ready.set_label(label).and_then(|()| ready.mount(attributes)))
            .doing(failed)?
    };
    if step.options.copy_up && is_existing {
        copy_up(&target, &handle, &step.options.data).map_err(|error| {
            StepError::refused(
                crate::step::kind_of_io(&error.source),
                format!("{}: tmpcopyup: {}", failed(), describe(&error)),
            )
        })?;
    }
    mounting::attach(&handle, &target).doing(failed)?;
    apply_options(&handle, &step.options, false).doing(failed)?;
    if kind == "devpts" && step.destination.trim_end_matches('/') == "/dev/pts" {
        mounted.devpts = Some(handle);
    } else if is_tmpfs && is_readonly {
        mounted.readonly_later.push(handle);
    }
    Ok(())
}

fn configure(kind: &str, source: &str, flags: &[&str], data: &[String]) -> std::io::Result<FileSystem> {
    let file_system = FileSystem::open(kind)?;
    file_system.set("source", source)?;
    flags.iter().try_for_each(|flag| file_system.set_flag(flag))?;
    data.iter().try_for_each(|one| match one.split_once('=') {
        Some((key, value)) => file_system.set(key, value),
        None => file_system.set_flag(one),
    })?;
    Ok(file_system)
}

/// Fills a new tmpfs with what lies below it. What its options say about the directory itself stays.
fn copy_up(below: &OwnedFd, tmpfs: &OwnedFd, options: &[String]) -> Result<(), CopyError> {
    let failed = |errno: Errno| CopyError { path: PathBuf::new(), source: errno.into() };
    let open = |at: &OwnedFd| {
        openat(at, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)
    };
    let top = open(tmpfs)?;
    let asked = fstat(&top).map_err(failed)?;
    copy_tree(open(below)?, &top)?;
    let is_asked = |key: &str| options.iter().any(|one| one.starts_with(key));
    let uid = is_asked("uid=").then(|| Uid::from_raw(asked.st_uid));
    let gid = is_asked("gid=").then(|| Gid::from_raw(asked.st_gid));
    fchown(&top, uid, gid).map_err(failed)?;
    if is_asked("mode=") {
        fchmod(&top, Mode::from(asked.st_mode & 0o7777)).map_err(failed)?;
    }
    Ok(())
}

fn apply_cgroups(
    root: &Root,
    step: &MountStep,
    context: MountContext<'_>,
    mounted: &mut Mounted,
) -> Result<(), StepError> {
    let failed = || mounting_failed(step, "cgroup");
    let target = root.create_dir_all(&step.destination, 0o755)?;
    match context.cgroups {
        None => Err(StepError::refused(Kind::Unsupported, format!("{}: this host has no cgroups", failed()))),
        Some(CgroupView::Unified(on_host)) => match unified(step, context.label) {
            Ok(handle) => {
                mounting::attach(&handle, &target).doing(failed)?;
                apply_options(&handle, &step.options, false).doing(failed)
            }
            // A user namespace without a cgroup namespace of its own may not mount what is the host's; as with runc it sees the host's mount.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                let tree = mounting::clone_host_tree(on_host, Depth::One).doing(failed)?;
                mounting::attach(&tree, &target).doing(failed)?;
                apply_options(&tree, &step.options, true).doing(failed)
            }
            Err(error) => Err(error).doing(failed),
        },
        Some(CgroupView::Separate(hierarchies)) => {
            let tmpfs = FileSystem::open("tmpfs").doing(failed)?;
            tmpfs.set("source", "tmpfs").doing(failed)?;
            tmpfs.set("mode", "755").doing(failed)?;
            tmpfs.set_label(context.label).doing(failed)?;
            let parent = tmpfs.mount(step.options.attr.set & !MountAttr::RDONLY).doing(failed)?;
            mounting::attach(&parent, &target).doing(failed)?;
            for (name, directory) in hierarchies {
                bind_hierarchy(&parent, name, directory, step)?;
            }
            if step.options.attr.set & MountAttr::RDONLY != 0 {
                mounted.readonly_later.push(parent);
            }
            Ok(())
        }
    }
}

fn unified(step: &MountStep, label: &str) -> std::io::Result<OwnedFd> {
    let file_system = FileSystem::open("cgroup2")?;
    file_system.set("source", "cgroup")?;
    file_system.set_label(label)?;
    file_system.mount(step.options.attr.set)
}

/// Binds the container's own directory of one hierarchy: with or without a cgroup namespace that is all it may see of it.
fn bind_hierarchy(parent: &OwnedFd, name: &str, directory: &Path, step: &MountStep) -> Result<(), StepError> {
    let failed = || mounting_failed(step, &directory.display().to_string());
    mkdirat(parent, name, Mode::from(0o755)).doing(failed)?;
    let target =
        openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).doing(failed)?;
    let tree = mounting::clone_host_tree(directory, Depth::One).doing(failed)?;
    mounting::attach(&tree, &target).doing(failed)?;
    mounting::change(tree.as_fd(), Depth::One, MountAttr { propagation: SLAVE, ..step.options.attr }).doing(failed)?;
    // Programs look for each controller by its own name.
    for controller in name.split(',').filter(|controller| *controller != name) {
        match symlinkat(name, parent, controller) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error).doing(failed),
        }
    }
    Ok(())
}

/// Makes read-only what had to wait until all mounts were made.
pub fn finish_readonly(mounted: &Mounted) -> Result<(), StepError> {
    for handle in &mounted.readonly_later {
        mounting::change(handle.as_fd(), Depth::One, MountAttr { set: MountAttr::RDONLY, ..MountAttr::default() })
            .doing(|| "make a tmpfs read-only")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_proc_are_known_by_their_words() {
        for (destination, place) in [
            ("/proc", ProcPlace::Top),
            ("proc/", ProcPlace::Top),
            ("/./proc//", ProcPlace::Top),
            ("/proc/x", ProcPlace::Below),
            ("/proc/sys", ProcPlace::Below),
            ("/x/../proc/1", ProcPlace::Below),
            ("/proc/meminfo", ProcPlace::Informing),
            ("/proc//sys/kernel/ns_last_pid", ProcPlace::Informing),
            ("/process", ProcPlace::Elsewhere),
            ("/x/proc", ProcPlace::Elsewhere),
        ] {
            assert_eq!(ProcPlace::of(destination), place, "{destination}");
        }
    }
}
