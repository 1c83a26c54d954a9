//! Shares of the processor's cache and of the way to memory: groups of resctrl (config-linux.md, "IntelRdt"; the kernel's
//! filesystems/resctrl.rst).
//!
//! ```text
//! /sys/fs/resctrl/                  the default class, which is `closID` "/"
//!    info/L3, info/MB               what this processor can share
//!    info/last_cmd_status           why the last write was refused
//!    <closID or the container's id>/
//!       schemata, tasks
//!       mon_groups/<the container's id>/tasks
//! ```
//!
//! A class that is named belongs to whoever names it, and stays. One that was made for the container alone goes with it.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use carrack_oci_config::LinuxIntelRdt;
use carrack_sys::rustix::fs::statfs;
use carrack_words::Kind;
use serde::{Deserialize, Serialize};

use crate::step::{Doing, StepError};

const PLACE: &str = "/sys/fs/resctrl";
/// `RDTGROUP_SUPER_MAGIC` of `<linux/magic.h>`.
const MAGIC: i64 = 0x0765_5821;

/// The groups of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResctrlGroup {
    /// Its class.
    class: PathBuf,
    /// Whether that is its own.
    is_own: bool,
    /// Where it is watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    monitoring: Option<PathBuf>,
}

/// The resctrl file system of the host.
#[derive(Debug)]
pub struct Resctrl {
    root: PathBuf,
}

impl Resctrl {
    /// That of this host; an error in runc's words if it has none.
    pub fn of_host() -> Result<Self, StepError> {
        if statfs(PLACE).is_ok_and(|found| found.f_type == MAGIC) {
            return Ok(Self { root: PLACE.into() });
        }
        Err(StepError::refused(Kind::Unsupported, "intelRdt is specified in config, but Intel RDT is not enabled"))
    }

    /// Checks what is wanted and names the groups; nothing is made yet.
    pub fn plan(&self, wanted: &LinuxIntelRdt, id: &str) -> Result<ResctrlGroup, StepError> {
        let class = wanted.clos_id.as_str();
        if matches!(class, "." | "..") || class.len() > 1 && class.contains('/') || class.contains('\0') {
            return Err(StepError::refused(Kind::Invalid, format!("invalid intelRdt.ClosID {class:?}")));
        }
        for (schema, info, field, name) in [
            (&wanted.l3_cache_schema, "info/L3", "l3CacheSchema", "CAT"),
            (&wanted.mem_bw_schema, "info/MB", "memBwSchema", "MBA"),
        ] {
            if !schema.is_empty() && !self.root.join(info).exists() {
                let message = format!("intelRdt.{field} is specified in config, but Intel RDT/{name} is not enabled");
                return Err(StepError::refused(Kind::Unsupported, message));
            }
        }
        let path = match class {
            "" => self.root.join(id),
            "/" => self.root.clone(),
            name => self.root.join(name),
        };
        let is_there = path.exists();
        if !is_there && !class.is_empty() && lines(wanted).is_empty() {
            let message = format!(
                "clos dir not accessible (must be pre-created when schemata, l3CacheSchema and memBwSchema are empty): stat {}: no such file or directory",
                path.display()
            );
            return Err(StepError::refused(Kind::NotFound, message));
        }
        Ok(ResctrlGroup {
            is_own: class.is_empty() && !is_there,
            monitoring: wanted.enable_monitoring.then(|| path.join("mon_groups").join(id)),
            class: path,
        })
    }

    /// Makes the groups and puts the container's first process into them.
    pub fn apply(&self, group: &ResctrlGroup, wanted: &LinuxIntelRdt, pid: i32) -> Result<(), StepError> {
        let made = make(&group.class).and_then(|()| match lines(wanted) {
            text if text.is_empty() => Ok(()),
            text => write(&group.class.join("schemata"), &text),
        });
        let made = made.and_then(|()| group.monitoring.as_deref().map_or(Ok(()), make));
        made.and_then(|()| group.add(pid)).map_err(|error| self.explain(error)).doing(|| "intelrdt")
    }

    /// Adds what the kernel says of its refusal.
    fn explain(&self, error: io::Error) -> io::Error {
        match fs::read_to_string(self.root.join("info/last_cmd_status")) {
            Ok(said) => {
                let text = crate::describe::describe_io(&error);
                io::Error::new(error.kind(), format!("{text}, last_cmd_status: {}", said.trim()))
            }
            Err(_) => error,
        }
    }
}

impl ResctrlGroup {
    /// Puts a process into the groups; its children follow it.
    pub fn add(&self, pid: i32) -> io::Result<()> {
        for group in [Some(&self.class), self.monitoring.as_ref()].into_iter().flatten() {
            write(&group.join("tasks"), &format!("{pid}\n"))?;
        }
        Ok(())
    }

    /// Removes what was made for the container. What is gone is well removed.
    pub fn remove(&self) -> Result<(), StepError> {
        let monitoring = self.monitoring.as_deref();
        // What watches a class of its own goes with that.
        let Some(path) = (if self.is_own { Some(self.class.as_path()) } else { monitoring }) else { return Ok(()) };
        match fs::remove_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).doing(|| format!("remove resctrl group {}", path.display()))
            }
            _ => Ok(()),
        }
    }
}

/// In the order of the specification.
fn lines(wanted: &LinuxIntelRdt) -> String {
    let all = [&wanted.l3_cache_schema, &wanted.mem_bw_schema].into_iter().chain(&wanted.schemata);
    all.filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect()
}

fn make(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// In one piece, which the kernel takes as one request.
fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ordinary directories in its place; the files of a group are there before it, which the kernel does for real ones.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str, groups: &[&str]) -> Self {
            let root = std::env::temp_dir().join(format!("carrack-resctrl-{}-{name}", std::process::id()));
            for info in ["info/L3", "info/MB"] {
                fs::create_dir_all(root.join(info)).unwrap();
            }
            for group in groups {
                fs::create_dir_all(root.join(group)).unwrap();
                for file in ["schemata", "tasks"] {
                    fs::write(root.join(group).join(file), "").unwrap();
                }
            }
            Self(root)
        }

        fn resctrl(&self) -> Resctrl {
            Resctrl { root: self.0.clone() }
        }

        fn text(&self, path: &str) -> String {
            fs::read_to_string(self.0.join(path)).unwrap()
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn wanted(class: &str) -> LinuxIntelRdt {
        LinuxIntelRdt { clos_id: class.into(), ..LinuxIntelRdt::default() }
    }

    #[test]
    fn a_named_class_gets_its_lines_in_order_and_stays() {
        let tree = Tree::new("named", &["gold", "gold/mon_groups/c"]);
        let mut rdt = wanted("gold");
        rdt.schemata = vec!["L2:0=f".into()];
        rdt.mem_bw_schema = "MB:0=70".into();
        rdt.l3_cache_schema = "L3:0=ff".into();
        rdt.enable_monitoring = true;
        let group = tree.resctrl().plan(&rdt, "c").unwrap();
        tree.resctrl().apply(&group, &rdt, 77).unwrap();
        assert_eq!(tree.text("gold/schemata"), "L3:0=ff\nMB:0=70\nL2:0=f\n");
        assert_eq!((tree.text("gold/tasks"), tree.text("gold/mon_groups/c/tasks")), ("77\n".into(), "77\n".into()));
        for file in ["schemata", "tasks"] {
            fs::remove_file(tree.0.join("gold/mon_groups/c").join(file)).unwrap();
        }
        group.remove().unwrap();
        assert!(tree.0.join("gold").exists() && !tree.0.join("gold/mon_groups/c").exists());
        group.remove().unwrap();
    }

    #[test]
    fn without_a_name_the_class_is_the_containers_own_and_goes_with_it_unless_it_was_there() {
        let tree = Tree::new("own", &["there"]);
        let own = tree.resctrl().plan(&wanted(""), "c").unwrap();
        assert!(own.is_own);
        fs::create_dir(&own.class).unwrap();
        own.remove().unwrap();
        assert!(!tree.0.join("c").exists());
        let other = tree.resctrl().plan(&wanted(""), "there").unwrap();
        other.remove().unwrap();
        assert!(!other.is_own && tree.0.join("there").exists());
        let default = tree.resctrl().plan(&wanted("/"), "c").unwrap();
        assert_eq!((default.class, default.is_own), (tree.0.clone(), false));
    }

    #[test]
    fn what_cannot_be_is_refused_in_runcs_words() {
        let tree = Tree::new("wrong", &[]);
        let error = |rdt: &LinuxIntelRdt| tree.resctrl().plan(rdt, "c").unwrap_err().to_string();
        for class in [".", "..", "a/b", "../x", "//"] {
            assert_eq!(error(&wanted(class)), format!("invalid intelRdt.ClosID {class:?}"));
        }
        assert!(error(&wanted("gone")).starts_with("clos dir not accessible (must be pre-created"));
        fs::remove_dir(tree.0.join("info/MB")).unwrap();
        let rdt = LinuxIntelRdt { mem_bw_schema: "MB:0=70".into(), ..wanted("") };
        assert_eq!(error(&rdt), "intelRdt.memBwSchema is specified in config, but Intel RDT/MBA is not enabled");
    }

    #[test]
    fn a_refusal_comes_with_what_the_kernel_says_of_it() {
        let tree = Tree::new("refused", &[]);
        fs::write(tree.0.join("info/last_cmd_status"), "ok is not\n").unwrap();
        let group = tree.resctrl().plan(&wanted(""), "c").unwrap();
        // A directory that is no group has no file for tasks.
        let error = tree.resctrl().apply(&group, &wanted(""), 7).unwrap_err();
        assert_eq!(
            crate::describe::describe(&error),
            "intelrdt: no such file or directory, last_cmd_status: ok is not"
        );
        group.remove().unwrap();
    }
}
