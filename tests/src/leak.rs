//! What a test leaves behind: mounts, network namespaces, cgroups, interfaces, nftables elements, processes, directories.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::command::run;
use crate::node::{FIXTURE, Node};
use crate::programs::is_installed;

/// Directories of the engine that are empty when there is no pod and no container.
const EMPTY_WITHOUT_PODS: &[&str] = &[
    "run/pods",
    "run/oci",
    "run/network/leases",
    "run/network/attached",
    "run/network/attaching",
    "run/network/ports",
    "root/containers",
    "root/ingest",
    "root/layers/active",
    "root/layers/trash",
];

/// Everything in `node` that a host on which nothing runs would not have.
pub fn of_node(node: &Node, mounts_before: &BTreeSet<String>) -> Vec<String> {
    let mut found = vec![];
    let pid = node.pid();
    found.extend(mounts(pid).difference(mounts_before).map(|mount| format!("mount {mount}")));
    found.extend(
        names(&PathBuf::from(format!("/proc/{pid}/root/run/netns"))).map(|name| format!("network namespace {name}")),
    );
    found.extend(processes(pid).into_iter().map(|process| format!("process {process}")));
    found.extend(interfaces(pid).into_iter().map(|name| format!("interface {name}")));
    found.extend(nftables_elements(node).into_iter().map(|element| format!("nftables {element}")));
    for group in cgroups(node.cgroup()) {
        found.push(format!("cgroup {}", group.display()));
    }
    for directory in EMPTY_WITHOUT_PODS {
        let path = node.place().join(directory);
        found.extend(names(&path).map(|name| format!("entry {directory}/{name}")));
    }
    found
}

/// The mounts that a process sees, each as its place, its type and what is mounted.
pub fn mounts(pid: u32) -> BTreeSet<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let (fields, kind) = line.split_once(" - ")?;
            let place = fields.split(' ').nth(4)?;
            // `/run/netns` itself becomes a mount on first use, as with iproute2, and stays.
            (place != "/run/netns")
                .then(|| format!("{place} {}", kind.split(' ').take(2).collect::<Vec<_>>().join(" ")))
        })
        .collect()
}

/// The living processes of a node that are not fixtures.
pub fn processes(holder: u32) -> Vec<String> {
    let proc = PathBuf::from(format!("/proc/{holder}/root/proc"));
    names(&proc)
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .map(|name| proc.join(name))
        .filter(|process| !is_dead(process))
        .filter_map(|process| {
            let environment = fs::read(process.join("environ")).ok()?;
            let command = fs::read(process.join("cmdline")).ok()?;
            let mark = format!("{FIXTURE}=");
            let is_fixture = environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(mark.as_bytes()));
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            (!is_fixture)
                .then(|| format!("{} {command}", process.file_name().expect("a path of /proc").to_string_lossy()))
        })
        .collect()
}

/// Whether the process with this directory of /proc is gone, or only waits to be reaped.
pub fn is_dead(process: &Path) -> bool {
    let Ok(stat) = fs::read_to_string(process.join("stat")) else { return true };
    stat.rsplit_once(')').is_none_or(|(_, rest)| matches!(rest.trim_start().chars().next(), Some('Z' | 'X') | None))
}

/// Interfaces but loopback, what tests name `out…`, and bridges: a bridge stays once it was made.
fn interfaces(holder: u32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{holder}/net/dev")).unwrap_or_default();
    text.lines()
        .skip(2)
        .filter_map(|line| line.split_once(':').map(|(name, _)| name.trim().to_owned()))
        .filter(|name| name != "lo" && !name.starts_with("out") && !is_bridge(name))
        .filter(|name| {
            !["sit0", "tunl0", "ip6tnl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "ip6gre0"]
                .contains(&name.as_str())
        })
        .collect()
}

/// The bridge of an engine: `carrack0`, or for directories that are not the default `ck` and eight hexadecimal digits.
fn is_bridge(name: &str) -> bool {
    let digits = name.strip_prefix("ck");
    name == "carrack0"
        || digits.is_some_and(|digits| digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Elements of sets and maps. The rules are static; what belongs to a pod is an element.
fn nftables_elements(node: &Node) -> Vec<String> {
    if !is_installed("nft") {
        return vec![];
    }
    let listed = run(node.fixture("nft").args(["-j", "list", "ruleset"]));
    // A network without a table prints nothing on some versions.
    let Ok(ruleset) = serde_json::from_str::<Value>(&listed.stdout) else { return vec![] };
    let mut found = vec![];
    for object in ruleset["nftables"].as_array().into_iter().flatten() {
        for kind in ["map", "set"] {
            let set = &object[kind];
            let is_constant = set["flags"].as_array().into_iter().flatten().any(|flag| flag == "constant");
            // These name the host's own interfaces, not pods.
            let is_of_the_host = set["name"] == "apart4" || set["name"] == "apart6";
            if !is_constant && !is_of_the_host {
                found.extend(
                    set["elem"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .map(|element| format!("{kind} {}: {element}", set["name"])),
                );
            }
        }
    }
    found
}

/// The groups below the engine's own, but for that of the monitors, over all hierarchies.
fn cgroups(name: &str) -> Vec<PathBuf> {
    let mut found = vec![];
    for top in engine_groups(name) {
        let mut all = vec![];
        groups_below(&top, &mut all);
        found.extend(all.into_iter().filter(|group| *group != top.join("monitors")));
    }
    found
}

/// Removes the engine's groups, the deepest first. All processes in them are dead already.
pub fn remove_cgroups(name: &str) {
    for top in engine_groups(name) {
        let mut all = vec![top.clone()];
        groups_below(&top, &mut all);
        for group in all.iter().rev() {
            // A group whose last process is just being reaped refuses for a moment.
            for _ in 0..100 {
                if fs::remove_dir(group).is_ok() || !group.exists() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
    }
}

/// An engine's own groups, over all hierarchies.
pub fn engine_groups(name: &str) -> Vec<PathBuf> {
    let base = Path::new("/sys/fs/cgroup");
    let hierarchies = names(base).map(|hierarchy| base.join(hierarchy).join(name));
    hierarchies.chain([base.join(name)]).filter(|path| path.is_dir()).collect()
}

fn groups_below(group: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
            groups_below(&entry.path(), found);
        }
    }
}

fn names(directory: &Path) -> impl Iterator<Item = String> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
}
