//! Network devices of the host that move into a container.

mod common;

use std::fs;
use std::process::Command;

use common::Bundle;
use serde_json::json;

/// A pair of connected devices on the host, of which one may move away.
struct Pair {
    name: String,
    peer: String,
}

impl Pair {
    fn new(letter: char) -> Self {
        let name = format!("ct{}{letter}", std::process::id());
        let pair = Self { peer: format!("{name}p"), name };
        ip(&["link", "add", &pair.name, "type", "veth", "peer", "name", &pair.peer]);
        ip(&["link", "set", &pair.name, "mtu", "1400", "up"]);
        pair
    }

    /// A device without a peer.
    fn bridge(letter: char) -> Self {
        let name = format!("ct{}{letter}", std::process::id());
        ip(&["link", "add", &name, "up", "type", "bridge"]);
        Self { peer: name.clone(), name }
    }

    fn is_on_host(&self) -> bool {
        fs::exists(format!("/sys/class/net/{}", self.name)).unwrap()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // It mostly ended with a namespace.
        let _ = Command::new("ip").args(["link", "delete", &self.peer]).stderr(std::process::Stdio::null()).status();
    }
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().unwrap();
    assert!(status.success(), "ip {arguments:?}");
}

/// Says so where this host has no program for making devices.
fn cannot(name: &str) -> bool {
    let is_missing = Command::new("ip").arg("-V").stdout(std::process::Stdio::null()).status().is_err();
    if is_missing {
        eprintln!("SKIPPED: {name}: there is no ip program");
    }
    is_missing
}

const SHOW: &str = "ip addr show eth7; cat /sys/class/net/eth7/mtu; ip link";

#[test]
fn root_a_device_moves_in_with_its_addresses_under_a_new_name() {
    let name = "root_a_device_moves_in_with_its_addresses_under_a_new_name";
    need_root!(name);
    if cannot(name) {
        return;
    }
    let mut bundle = Bundle::new(SHOW);
    for has_user in [false, true] {
        let (pair, other) = (Pair::new('a'), Pair::new('b'));
        ip(&[
            "addr",
            "add",
            "10.213.7.5/24",
            "broadcast",
            "10.213.7.255",
            "dev",
            &pair.name,
            "label",
            &format!("{}:x", pair.name),
        ]);
        ip(&["addr", "add", "10.213.7.6", "peer", "10.213.9.1/32", "dev", &pair.name]);
        ip(&["addr", "add", "fd00:7::5/64", "dev", &pair.name]);
        ip(&["addr", "add", "169.254.3.3/16", "scope", "link", "dev", &pair.name]);
        if has_user {
            bundle.open_for_user_namespace();
            bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        }
        bundle.config["linux"]["netDevices"] = json!({(pair.name.clone()): {"name": "eth7"}, (other.name.clone()): {}});
        let said = bundle.run();
        assert_eq!((said.code, said.err.as_str()), (0, ""));
        for part in [
            "inet 10.213.7.5/24 brd 10.213.7.255 scope global eth7",
            "inet 10.213.7.6 peer 10.213.9.1/32 scope global eth7",
            "inet6 fd00:7::5/64 scope global",
            "\n1400\n",
            &format!("{}@", other.name),
        ] {
            assert!(said.out.contains(part), "{part} is not in {}", said.out);
        }
        assert!(!said.out.contains("169.254.3.3") && !said.out.contains(&format!("{}@", pair.name)), "{}", said.out);
        assert!(said.out.contains(",UP"), "{}", said.out);
        assert!(!pair.is_on_host() && !other.is_on_host());
        assert_eq!(bundle.leftovers(), Vec::<String>::new());
    }
}

#[test]
fn root_a_device_moves_into_a_joined_namespace_before_the_hooks_and_stays_there() {
    let name = "root_a_device_moves_into_a_joined_namespace_before_the_hooks_and_stays_there";
    need_root!(name);
    if cannot(name) {
        return;
    }
    let mut owner = Bundle::new("exec sleep 1000");
    owner.write();
    let id = owner.id();
    assert_eq!(owner.oci(&["run", "-d", &id]).code, 0);
    let pair = Pair::new('j');
    let mut guest = Bundle::new("ip link show eth7");
    let path = format!("/proc/{}/ns/net", owner.state(&id)["pid"]);
    for namespace in guest.config["linux"]["namespaces"].as_array_mut().unwrap() {
        if namespace["type"] == "network" {
            namespace["path"] = json!(path);
        }
    }
    let seen = guest.directory.join("seen");
    let hook = format!("nsenter --net={path} ip link show eth7 >{}", seen.display());
    guest.config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", hook], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}]});
    guest.config["linux"]["netDevices"] = json!({(pair.name.clone()): {"name": "eth7"}});
    let said = guest.run();
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(said.out.contains("eth7"), "{said:?}");
    assert!(fs::read_to_string(seen).unwrap().contains("eth7"));
    assert!(owner.oci(&["exec", &id, "ip", "link", "show", "eth7"]).out.contains("eth7"));
    assert_eq!(owner.oci(&["delete", "-f", &id]).code, 0);
    assert_eq!((owner.leftovers(), guest.leftovers()), (vec![], vec![]));
}

#[test]
fn root_a_device_that_cannot_move_is_named() {
    let name = "root_a_device_that_cannot_move_is_named";
    need_root!(name);
    if cannot(name) {
        return;
    }
    // A bridge belongs to its namespace for ever, like the loopback device, which all others here need.
    let bridge = Pair::bridge('r');
    let mut bundle = Bundle::new("true");
    for (devices, words) in [
        (json!({"ctnosuchdev": {}}), "link not found for interface ctnosuchdev on runtime namespace\n".to_owned()),
        (json!({(bridge.name.clone()): {"name": "eth0"}}), format!("move network device {}: move link", bridge.name)),
        (json!({(bridge.name.clone()): {"name": "a/b"}}), "invalid network device name \"a/b\"\n".to_owned()),
    ] {
        bundle.config["linux"]["netDevices"] = devices;
        let said = bundle.run();
        assert_eq!(said.code, 1);
        assert!(said.err.starts_with(&words), "{words}: {said:?}");
        let flags = fs::read_to_string(format!("/sys/class/net/{}/flags", bridge.name)).unwrap();
        let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).unwrap();
        assert_eq!(flags & 1, 1, "a device that cannot move is as it was: up");
    }
    let pair = Pair::new('x');
    bundle.config["linux"]["netDevices"] = json!({(pair.name.clone()): {"name": "lo"}});
    let said = bundle.run();
    assert!(said.err.starts_with(&format!("move network device {}: move link", pair.name)), "{said:?}");
    bundle.config["linux"]["netDevices"] = json!({(bridge.name.clone()): {}});
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "network");
    assert_eq!(bundle.run().err, "unable to move network devices without a NET namespace\n");
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}
