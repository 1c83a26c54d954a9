//! Entering a group through open handles. A thread that has entered stays there, so another process plays the part.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use carrack_cgroup::CgroupError;
use carrack_oci_config::LinuxResources;

use crate::scratch::{Scratch, host, hosts};

const PATHS: &str = "CARRACK_TEST_CGROUP_ENTER";

/// The body of the process that [`root_a_process_enters_through_handles`] starts; by itself it does nothing.
#[test]
fn entering_child() {
    let Ok(recorded) = std::env::var(PATHS) else { return };
    let paths: BTreeMap<String, PathBuf> = recorded
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(label, path)| (label.replace(';', "="), path.into()))
        .collect();
    let handles = host().open_recorded(&paths).enter_handles().expect("open handles");
    assert_eq!(handles.unified().is_some(), paths.contains_key(""));
    handles.enter_self().expect("enter the group");
    handles.enter_self().expect("a repeat does nothing");
    print!("groups:{}:end", std::fs::read_to_string("/proc/thread-self/cgroup").expect("own groups"));
}

#[test]
fn root_a_process_enters_through_handles() {
    for host in hosts("root_a_process_enters_through_handles") {
        let scratch = Scratch::new(host);
        let group = scratch.create("pod/a", &LinuxResources::default());
        // A label such as name=systemd has the mark that ends it here.
        let recorded: String = group
            .paths()
            .iter()
            .map(|(label, path)| format!("{}={}\n", label.replace('=', ";"), path.display()))
            .collect();
        let output = Command::new(std::env::current_exe().expect("this test's program"))
            .args(["--exact", "enter::entering_child", "--nocapture", "--test-threads=1"])
            .env(PATHS, recorded)
            .output()
            .expect("start this test's program");
        let text = String::from_utf8_lossy(&output.stdout);
        let (_, groups) = text.split_once("groups:").unwrap_or_else(|| panic!("{output:?}"));
        let (groups, _) = groups.split_once(":end").expect("the end mark");
        let inside = scratch.below("pod/a").to_string();
        for label in group.paths().keys() {
            let line = groups.lines().find(|line| {
                let controllers = line.split(':').nth(1).expect("a line of /proc/self/cgroup");
                if label.is_empty() { controllers.is_empty() } else { controllers.split(',').any(|name| name == label) }
            });
            assert!(line.is_some_and(|line| line.ends_with(&inside)), "{label}: {groups}");
        }
    }
}

#[test]
fn root_a_group_below_is_found_by_path_and_by_the_process_in_it() {
    for host in hosts("root_a_group_below_is_found_by_path_and_by_the_process_in_it") {
        let scratch = Scratch::new(host);
        let group = scratch.create("a", &LinuxResources::default());
        let inner = scratch.create("a/x/y", &LinuxResources::default());
        let everywhere = |path: &str| [(String::new(), path.to_owned())].into();
        assert_eq!(group.below(&everywhere("x/./y")).expect("a group").paths(), inner.paths());
        assert_eq!(group.below(&everywhere("/")).expect("itself").paths(), group.paths());
        assert!(matches!(group.below(&everywhere("../a")), Err(CgroupError::NotBelow { .. })));
        assert!(matches!(group.below(&everywhere("nobody")), Err(CgroupError::NoGroup { .. })));
        let unknown = [("bogus".to_owned(), "x".to_owned())].into();
        assert!(matches!(group.below(&unknown), Err(CgroupError::NoSubController { .. })));
        // As if a process of the container had moved on.
        let line = |label: &str| format!("7:{label}:{}\n", scratch.below("a/x/y"));
        let text: String = group.paths().keys().map(|label| line(label)).collect();
        assert_eq!(group.of_process(&text).paths(), inner.paths());
        let elsewhere = text.replace("/a/x/y", "/ab");
        assert_eq!(group.of_process(&elsewhere).paths(), group.paths());
    }
}
