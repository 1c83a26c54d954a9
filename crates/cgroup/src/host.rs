//! What cgroups the host has.
//!
//! [`Facts`] are read from text and can be made up in a test; a [`Host`] has real hierarchies open beside them.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use carrack_oci_config::LinuxResources;
use carrack_sys::rustix::fs::{self, CWD, Mode, OFlags};

use crate::error::{CgroupError, PlanError};
use crate::group::Group;
use crate::path::GroupPath;
use crate::plan::{self, Plan};
use crate::{create, file};

/// Of a hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One of many.
    V1,
    /// The unified one.
    V2,
}

/// Of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Version 1 only.
    V1,
    /// Version 2 only.
    V2,
    /// Version 1, with version 2 mounted beside it; each controller is in one of them.
    Hybrid,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its version.
    pub version: Version,
    /// Version 1: the controllers, or `name=systemd` for a hierarchy without any. Version 2: what the root offers.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// The group that stands at the mount point; not the root in a container without a cgroup namespace.
    pub mount_root: String,
    /// The caller's own group.
    pub own: String,
}

/// What cgroups a host has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Version 1 hierarchies in the order of their mounts, then the one of version 2.
    pub hierarchies: Vec<Hierarchy>,
}

/// A host's hierarchies, open. Clones share the handles, which are close-on-exec; drop them before anything of a container runs.
#[derive(Debug, Clone)]
pub struct Host {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) facts: Facts,
    /// One for each hierarchy.
    roots: Vec<OwnedFd>,
}

/// Controllers of version 1, to tell them from other mount options.
const V1_CONTROLLERS: &[&str] = &[
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "debug",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "misc",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
    "rdma",
];

const UNIFIED: &str = "/sys/fs/cgroup";
const V2_MAGIC: u64 = 0x6367_7270;

impl Host {
    /// Asks the kernel what is mounted, and opens it.
    pub fn probe() -> Result<Self, CgroupError> {
        let own = read("/proc/self/cgroup")?;
        let facts = if magic(Path::new(UNIFIED)) == Some(V2_MAGIC) {
            // The ordinary case on a node; a mount table can be long, so it is not read for it.
            Facts::unified(&own)
        } else {
            Facts::parse(&read("/proc/self/mountinfo")?, &own)
        };
        Self::open_facts(facts)
    }

    /// Opens these hierarchies only; what version 2 offers is read anew.
    pub fn open_facts(mut facts: Facts) -> Result<Self, CgroupError> {
        if facts.hierarchies.is_empty() {
            return Err(CgroupError::NotMounted);
        }
        let mut roots = Vec::with_capacity(facts.hierarchies.len());
        for hierarchy in &mut facts.hierarchies {
            let path = &hierarchy.mount_point;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = fs::openat(CWD, path, flags, Mode::empty())
                .map_err(|errno| CgroupError::Probe { path: path.clone(), source: errno.into() })?;
            if hierarchy.version == Version::V2 {
                let offered = file::read(root.as_fd(), "cgroup.controllers")
                    .map_err(|source| CgroupError::Probe { path: path.join("cgroup.controllers"), source })?;
                hierarchy.controllers = offered.split_whitespace().map(str::to_owned).collect();
            }
            roots.push(root);
        }
        Ok(Self { inner: Arc::new(Inner { facts, roots }) })
    }

    /// What the host has.
    pub fn facts(&self) -> &Facts {
        &self.inner.facts
    }

    /// The host's layout.
    pub fn layout(&self) -> Layout {
        self.inner.facts.layout()
    }

    /// Decides what making a group with these limits takes. Pure.
    pub fn plan(&self, path: &GroupPath, resources: Option<&LinuxResources>) -> Result<Plan, PlanError> {
        plan::plan(&self.inner.facts, path, resources)
    }

    /// Makes the group of a plan in every hierarchy that takes part, and writes its limits.
    ///
    /// An empty group that is there already is taken over. After a failure the groups made here are gone again, their parents are
    /// not: others may be using them by now.
    pub fn create(&self, plan: &Plan) -> Result<Group, CgroupError> {
        create::create(self, plan)
    }

    /// The group of a path, wherever it exists. Nothing is checked or changed.
    pub fn open(&self, path: &GroupPath) -> Group {
        let hierarchies = self.inner.facts.hierarchies.iter().enumerate();
        Group::new(self, hierarchies.map(|(index, hierarchy)| (index, hierarchy.resolve(path))).collect())
    }

    /// The group whose [`Group::paths`] were recorded, perhaps by a process with other groups of its own.
    pub fn open_recorded(&self, paths: &BTreeMap<String, PathBuf>) -> Group {
        let hierarchies = self.inner.facts.hierarchies.iter().enumerate();
        let members = hierarchies.filter_map(|(index, hierarchy)| {
            let recorded = hierarchy.labels().find_map(|label| paths.get(label))?;
            let below = recorded.strip_prefix(&hierarchy.mount_point).ok()?.to_str()?;
            // Checked like any other path: the record is a file.
            let path = GroupPath::parse(&format!("/{below}")).ok()?;
            Some((index, path.below().to_owned()))
        });
        Group::new(self, members.collect())
    }

    pub(crate) fn root(&self, hierarchy: usize) -> BorrowedFd<'_> {
        self.inner.roots[hierarchy].as_fd()
    }

    pub(crate) fn hierarchy(&self, index: usize) -> &Hierarchy {
        &self.inner.facts.hierarchies[index]
    }
}

impl Facts {
    /// From the texts of `/proc/self/mountinfo` and `/proc/self/cgroup`. What version 2 offers is not in them.
    pub fn parse(mountinfo: &str, own: &str) -> Self {
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        for mount in mountinfo.lines().filter_map(parse_mount) {
            let is_known = hierarchies.iter().any(|known| {
                known.version == mount.version
                    && (mount.version == Version::V2 || known.controllers == mount.controllers)
            });
            // A hierarchy may be mounted many times; the first is the host's.
            if !is_known {
                hierarchies.push(mount);
            }
        }
        hierarchies.sort_by_key(|hierarchy| hierarchy.version == Version::V2);
        for hierarchy in &mut hierarchies {
            hierarchy.own = own_group(own, hierarchy).unwrap_or("/").to_owned();
        }
        Self { hierarchies }
    }

    fn unified(own: &str) -> Self {
        let mut hierarchy = Hierarchy {
            version: Version::V2,
            controllers: Vec::new(),
            mount_point: PathBuf::from(UNIFIED),
            mount_root: "/".to_owned(),
            own: String::new(),
        };
        hierarchy.own = own_group(own, &hierarchy).unwrap_or("/").to_owned();
        Self { hierarchies: vec![hierarchy] }
    }

    /// The host's layout.
    pub fn layout(&self) -> Layout {
        let has = |version| self.hierarchies.iter().any(|hierarchy| hierarchy.version == version);
        match (has(Version::V1), has(Version::V2)) {
            (true, true) => Layout::Hybrid,
            (true, false) => Layout::V1,
            (false, _) => Layout::V2,
        }
    }

    /// The hierarchy with a controller.
    pub(crate) fn with_controller(&self, controller: &str) -> Option<(usize, &Hierarchy)> {
        let mut hierarchies = self.hierarchies.iter().enumerate();
        hierarchies.find(|(_, hierarchy)| hierarchy.controllers.iter().any(|known| known == controller))
    }

    pub(crate) fn version_two(&self) -> Option<(usize, &Hierarchy)> {
        self.hierarchies.iter().enumerate().find(|(_, hierarchy)| hierarchy.version == Version::V2)
    }
}

impl Hierarchy {
    /// The group of a path in this hierarchy, counted from the mount point, without a slash in front.
    pub(crate) fn resolve(&self, path: &GroupPath) -> String {
        if path.is_absolute() {
            return path.below().to_owned();
        }
        let visible = self.visible(&self.own);
        let base = match self.version {
            Version::V1 => visible,
            Version::V2 => visible.rsplit_once('/').map_or("", |(parent, _)| parent),
        };
        if base.is_empty() { path.below().to_owned() } else { format!("{base}/{}", path.below()) }
    }

    /// A group of `/proc/PID/cgroup`, counted from the mount point, without a slash in front.
    pub(crate) fn visible<'a>(&self, group: &'a str) -> &'a str {
        match group.strip_prefix(self.mount_root.trim_end_matches('/')) {
            Some(below) if below.is_empty() || below.starts_with('/') => below.trim_matches('/'),
            // Outside of what is mounted here.
            _ => "",
        }
    }

    /// The names under which a record lists this hierarchy: its controllers, or nothing for version 2 (as runc's state does).
    pub(crate) fn labels(&self) -> impl Iterator<Item = &str> {
        let unified = (self.version == Version::V2).then_some("");
        let controllers = (self.version == Version::V1).then(|| self.controllers.iter().map(String::as_str));
        unified.into_iter().chain(controllers.into_iter().flatten())
    }

    /// The path of a group or a file of it, for people.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.mount_point.join(below)
    }
}

/// One line of mountinfo, `proc_pid_mountinfo(5)`: id parent device root mount-point options [tags…] - type source super-options.
fn parse_mount(line: &str) -> Option<Hierarchy> {
    let (front, back) = line.split_once(" - ")?;
    let mut back = back.split(' ');
    let version = match back.next()? {
        "cgroup" => Version::V1,
        "cgroup2" => Version::V2,
        _ => return None,
    };
    let mut front = front.split(' ').skip(3);
    let (mount_root, mount_point) = (unescape(front.next()?), unescape(front.next()?));
    let options = back.nth(1)?;
    let controllers = match version {
        Version::V1 => options
            .split(',')
            .filter(|option| V1_CONTROLLERS.contains(option) || option.starts_with("name="))
            .map(str::to_owned)
            .collect(),
        Version::V2 => Vec::new(),
    };
    Some(Hierarchy { version, controllers, mount_point: mount_point.into(), mount_root, own: String::new() })
}

/// Space, tab, newline and backslash stand as three octal digits.
fn unescape(field: &str) -> String {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    if !field.contains('\\') {
        return field.to_owned();
    }
    escapes.iter().fold(field.to_owned(), |text, (escape, plain)| text.replace(escape, plain))
}

/// The path in the line of `/proc/PID/cgroup` that belongs to a hierarchy: `id:controller,controller:path`.
pub(crate) fn own_group<'a>(own: &'a str, hierarchy: &Hierarchy) -> Option<&'a str> {
    own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let is_its = match hierarchy.version {
            Version::V2 => controllers.is_empty(),
            Version::V1 => controllers.split(',').any(|name| hierarchy.controllers.iter().any(|known| known == name)),
        };
        is_its.then_some(path)
    })
}

fn read(path: &str) -> Result<String, CgroupError> {
    fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Into::into)
        .and_then(|file| file::read_all(&file))
        .map_err(|source| CgroupError::Probe { path: path.into(), source })
}

fn magic(path: &Path) -> Option<u64> {
    Some(fs::statfs(path).ok()?.f_type as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID_MOUNTS: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/unified rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate
33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 /docker/abc /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
35 31 0:32 / /sys/fs/cgroup/with\\040space rw,relatime - cgroup systemd rw,xattr,name=systemd
36 31 0:31 /docker/abc /elsewhere/memory rw,relatime - cgroup cgroup rw,memory
";
    const HYBRID_OWN: &str =
        "12:memory:/docker/abc/inner\n4:cpu,cpuacct:/user.slice\n1:name=systemd:/init:x\n0::/user.slice/a\n";

    fn path(text: &str) -> GroupPath {
        GroupPath::parse(text).expect("a path")
    }

    #[test]
    fn a_hybrid_host_is_read_from_its_mounts_and_groups() {
        let facts = Facts::parse(HYBRID_MOUNTS, HYBRID_OWN);
        let hierarchy = |version, controllers: &[&str], mount_point: &str, mount_root: &str, own: &str| Hierarchy {
            version,
            controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
            mount_point: mount_point.into(),
            mount_root: mount_root.to_owned(),
            own: own.to_owned(),
        };
        let want = vec![
            hierarchy(Version::V1, &["cpu", "cpuacct"], "/sys/fs/cgroup/cpu,cpuacct", "/", "/user.slice"),
            hierarchy(Version::V1, &["memory"], "/sys/fs/cgroup/memory", "/docker/abc", "/docker/abc/inner"),
            hierarchy(Version::V1, &["name=systemd"], "/sys/fs/cgroup/with space", "/", "/init:x"),
            hierarchy(Version::V2, &[], "/sys/fs/cgroup/unified", "/", "/user.slice/a"),
        ];
        assert_eq!(facts, Facts { hierarchies: want });
        assert_eq!(facts.layout(), Layout::Hybrid);
    }

    #[test]
    fn a_relative_path_counts_from_the_own_group_or_on_version_2_from_its_parent() {
        let facts = Facts::parse(HYBRID_MOUNTS, HYBRID_OWN);
        let resolved: Vec<String> = facts.hierarchies.iter().map(|hierarchy| hierarchy.resolve(&path("a/b"))).collect();
        assert_eq!(resolved, ["user.slice/a/b", "inner/a/b", "init:x/a/b", "user.slice/a/b"]);
        assert!(facts.hierarchies.iter().all(|hierarchy| hierarchy.resolve(&path("/a/b")) == "a/b"));
    }

    #[test]
    fn layouts_follow_from_what_is_mounted() {
        let v1 = "33 31 0:30 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
        let v2 = "33 31 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(Facts::parse(v1, "").layout(), Layout::V1);
        assert_eq!(Facts::parse(v2, "0::/\n").layout(), Layout::V2);
        assert!(Facts::parse("", "").hierarchies.is_empty());
    }

    #[test]
    fn root_this_host_has_cgroups() {
        let host = Host::probe().expect("cgroups");
        assert!(host.facts().with_controller("memory").is_some(), "{:?}", host.facts());
    }
}
