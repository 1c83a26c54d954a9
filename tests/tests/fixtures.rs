//! The fixtures themselves: a leak check that sees nothing would prove nothing.

#![forbid(unsafe_code)]

use std::fs;
use std::process::Stdio;

use carrack_tests::command::{DEADLINE, run, start};
use carrack_tests::image::{self, peers};
use carrack_tests::node::{Node, children_of, kill, wait_until_dead};
use carrack_tests::place::Place;
use carrack_tests::pty::Terminal;
use carrack_tests::registry::debian::{PASSWORD, USER};
use carrack_tests::registry::{CannedRegistry, DebianRegistry, Fault, TokenServer};
use carrack_tests::wait::wait_until;
use carrack_tests::{programs, skip};

#[test]
fn root_a_node_sees_what_was_left_in_it() {
    let node = Node::new("leaks");
    assert_eq!(node.leaks(), Vec::<String>::new());

    run(node.inside("mount").args(["-t", "tmpfs", "tmpfs", "/mnt"])).ok();
    assert_eq!(node.leaks(), ["mount /mnt tmpfs tmpfs"]);
    run(node.inside("umount").arg("/mnt")).ok();

    let sleeper = start(node.inside("sleep").arg("1000").stdin(Stdio::null()));
    wait_until("the process is seen", DEADLINE, || matches!(&*node.leaks(), [leak] if leak.contains("sleep 1000")));
    children_of(sleeper.child.id()).into_iter().for_each(|pid| {
        kill(pid);
        wait_until_dead(pid);
    });
    sleeper.kill();

    fs::create_dir_all(node.root().join("containers/forgotten")).unwrap();
    assert_eq!(node.leaks(), ["entry root/containers/forgotten"]);
    fs::remove_dir_all(node.root().join("containers")).unwrap();
    node.finish();
}

#[test]
fn root_a_node_sees_interfaces_and_nftables_elements() {
    if !programs::is_installed("nft") || !programs::is_installed("ip") {
        return skip("root_a_node_sees_interfaces_and_nftables_elements", "nft or ip is not installed");
    }
    let node = Node::new("leaks-network");
    run(node.inside("ip").args(["link", "add", "vethleft", "type", "veth", "peer", "name", "vethpeer"])).ok();
    run(node.inside("nft").arg("add table ip t; add set ip t s { type ipv4_addr; }; add element ip t s { 10.0.0.1 }"))
        .ok();
    let leaks = node.leaks();
    assert_eq!(leaks.len(), 3, "{leaks:?}");
    assert!(leaks.iter().any(|leak| leak == "interface vethleft"), "{leaks:?}");
    assert!(leaks.iter().any(|leak| leak.contains("10.0.0.1")), "{leaks:?}");
}

#[test]
fn root_a_reboot_ends_every_process_and_every_mount() {
    let mut node = Node::new("reboot");
    let sleeper = start(node.inside("sleep").arg("1000").stdin(Stdio::null()));
    run(node.inside("mount").args(["-t", "tmpfs", "tmpfs", "/mnt"])).ok();
    fs::write(node.run_directory().join("volatile"), "").unwrap();
    fs::write(node.root().join("persistent"), "").unwrap();
    node.reboot();
    assert_eq!(sleeper.finish(DEADLINE).code, 137);
    assert!(!node.run_directory().join("volatile").exists());
    assert!(node.root().join("persistent").exists());
    assert_eq!(node.leaks(), Vec::<String>::new());
}

#[test]
fn root_a_terminal_is_the_controlling_terminal_of_its_program() {
    let node = Node::new("terminal");
    let mut terminal = Terminal::start(node.inside_with_terminal(programs::busybox()).args([
        "sh",
        "-c",
        "echo ready; read line; echo got $line; sleep 1000",
    ]));
    terminal.wait_for("ready");
    terminal.send("words\n");
    terminal.wait_for("got words");
    // Interrupt from the keyboard reaches only a program that has this terminal for its controlling one.
    terminal.send("\u{3}");
    assert_ne!(terminal.finish(), 0);
    node.finish();
}

#[test]
fn root_the_registry_of_our_own_serves_what_skopeo_accepts() {
    if !programs::is_installed("skopeo") {
        return skip("root_the_registry_of_our_own_serves_what_skopeo_accepts", "skopeo is not installed");
    }
    let node = Node::new("canned");
    let registry = CannedRegistry::start(&node);
    let busybox = image::busybox();
    let reference = registry.publish("boxes/busybox", "1", &busybox);
    let copy = |to: &str| {
        let to = format!("dir:{}", node.place().join(to).display());
        run(node.fixture("skopeo").args([
            "copy",
            "--insecure-policy",
            "--src-tls-verify=false",
            &format!("docker://{reference}"),
            &to,
        ]))
    };
    copy("good").ok();
    registry.fault(Fault::Corrupt { digest: busybox.layers[0].clone() });
    assert_ne!(copy("bad").code, 0);
    assert!(registry.blob_requests(&busybox.layers[0]) >= 2);
}

#[test]
fn root_debians_registry_takes_passwords_and_tokens() {
    if !programs::is_installed("docker-registry") {
        return skip("root_debians_registry_takes_passwords_and_tokens", "docker-registry is not installed");
    }
    let node = Node::new("debian-registry");
    let layout = node.place().directory("layout");
    image::busybox().write_layout(&layout, "v1");
    let tokens = TokenServer::start(&node);
    let registries = [
        DebianRegistry::plain(&node),
        DebianRegistry::with_password(&node),
        DebianRegistry::with_tokens(&node, &tokens),
    ];
    let inspect = |reference: &str, credentials: &str| {
        let mut command = node.fixture("skopeo");
        command.args(["inspect", "--tls-verify=false"]);
        if !credentials.is_empty() {
            command.args(["--creds", credentials]);
        }
        run(command.arg(format!("docker://{reference}"))).code
    };
    for (registry, is_open) in registries.iter().zip([true, false, false]) {
        let reference = registry.push(&node, &layout, "v1", "boxes/busybox:v1");
        assert_eq!(inspect(&reference, &format!("{USER}:{PASSWORD}")), 0, "{}", registry.log());
        assert_ne!(inspect(&reference, &format!("{USER}:wrong")) == 0, !is_open);
        assert_eq!(inspect(&reference, "") == 0, is_open);
    }
    assert!(!tokens.requests().is_empty());
}

#[test]
fn root_umoci_unpacks_the_images_that_it_made() {
    if !programs::is_installed("umoci") {
        return skip("root_umoci_unpacks_the_images_that_it_made", "umoci is not installed");
    }
    let place = Place::new("umoci");
    let tree = place.directory("tree");
    fs::create_dir(tree.join("d")).unwrap();
    fs::write(tree.join("d/file"), "content").unwrap();
    let layout = place.join("layout");
    peers::umoci_image(&place, &tree, &layout, &["/d/file"]);
    let unpacked = peers::umoci_unpack(&layout, "latest", &place.join("bundle"));
    assert_eq!(fs::read_to_string(unpacked.join("d/file")).unwrap(), "content");
}
