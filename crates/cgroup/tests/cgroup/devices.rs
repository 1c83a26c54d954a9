//! Device rules, met by a child: as files on version 1, as a program on version 2.

use carrack_cgroup::{Group, base_device_rules};
use carrack_oci_config::{LinuxDeviceCgroup, LinuxResources};

use crate::child::Waiting;
use crate::scratch::{Scratch, chain, hosts};

fn rule(allow: bool, kind: &str, major: Option<i64>, minor: Option<i64>, access: &str) -> LinuxDeviceCgroup {
    LinuxDeviceCgroup { allow, kind: kind.to_owned(), major, minor, access: access.to_owned() }
}

fn devices(devices: Vec<LinuxDeviceCgroup>) -> LinuxResources {
    LinuxResources { devices, ..LinuxResources::default() }
}

/// Whether a process in the group may open a device for reading.
fn reads(group: &Group, device: &str) -> bool {
    let script = format!("exec 2>&1; (: < {device}) && echo yes || echo no");
    let output = Waiting::in_group(group, &script).run();
    match output.stdout.trim_ascii_end() {
        [.., b'y', b'e', b's'] => true,
        [.., b'n', b'o'] => false,
        _ => panic!("{output:?}"),
    }
}

#[test]
fn root_a_group_reads_the_devices_it_may_and_no_other() {
    for host in hosts("root_a_group_reads_the_devices_it_may_and_no_other") {
        let scratch = Scratch::new(host);
        let deny_all = || rule(false, "a", None, None, "rwm");
        let null = || rule(true, "c", Some(1), Some(3), "rwm");
        let zero = || rule(true, "c", Some(1), Some(5), "r");
        let group = scratch.create("a", &devices(vec![deny_all(), null(), zero()]));
        assert!(reads(&group, "/dev/zero"));
        assert!(!reads(&group, "/dev/urandom"));

        let update = |rules: Vec<LinuxDeviceCgroup>| {
            let plan = scratch.host.plan(&scratch.below("a"), Some(&devices(rules))).expect("sound rules");
            group.update(&plan).unwrap_or_else(|error| panic!("{}", chain(&error)));
        };
        update(vec![deny_all(), null(), rule(true, "c", Some(1), Some(9), "r")]);
        assert!(!reads(&group, "/dev/zero"));
        assert!(reads(&group, "/dev/urandom"));

        let mut base = vec![deny_all()];
        base.extend(base_device_rules());
        update(base.clone());
        update(base);
        assert!(reads(&group, "/dev/zero") && reads(&group, "/dev/urandom"));
        assert!(!reads(&group, "/dev/kmsg"));

        update(vec![rule(true, "a", None, None, "rwm")]);
        assert!(reads(&group, "/dev/kmsg"));
    }
}

#[test]
fn root_a_group_makes_any_node_with_the_base_rules_and_none_without() {
    for host in hosts("root_a_group_makes_any_node_with_the_base_rules_and_none_without") {
        let scratch = Scratch::new(host);
        let directory = std::env::temp_dir().join(format!("carrack-test-{}-nodes", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let node = directory.join("node");
        let makes = |group: &Group| {
            let script = format!("mknod {0} b 8 0 2>/dev/null && rm {0} && echo made", node.display());
            Waiting::in_group(group, &script).run().stdout == b"made\n"
        };
        let null = rule(true, "c", Some(1), Some(3), "rw");
        let without = scratch.create("without", &devices(vec![rule(false, "a", None, None, ""), null]));
        assert!(!makes(&without));
        let with = scratch.create("with", &devices(base_device_rules()));
        assert!(makes(&with));
        std::fs::remove_dir_all(&directory).expect("the directory goes");
    }
}
