//! The built-in network, by real sockets.

#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream, UdpSocket};
use std::time::Duration;

use carrack_tests::command::{DEADLINE, run};
use carrack_tests::cri::pod_config;
use carrack_tests::node::{Node, with_busybox};
use carrack_tests::programs;
use carrack_tests::skip;
use carrack_tests::wait::{wait_for, wait_until};

/// The program that is the other end, brought into each container.
const PEER: &str = env!("CARGO_BIN_EXE_carrack-peer");

/// Starts a container which says hello, with its own name, to whoever connects to port 80.
fn serve(node: &Node, name: &str, image: &str, flags: &[&str]) {
    let mount = format!("{PEER}:/peer:ro");
    let text = format!("hello from {name}");
    let mut arguments = vec!["run", "-d", "--name", name, "-v", &mount];
    arguments.extend(flags);
    arguments.extend([image, "/peer", "say", "80", &text]);
    node.ok(&arguments);
}

/// Starts a container that does nothing but can be asked to connect.
fn idle(node: &Node, name: &str, image: &str) {
    node.ok(&["run", "-d", "--name", name, "-v", &format!("{PEER}:/peer:ro"), image, "sleep", "1000"]);
}

/// What a container is answered at an address, once there is an answer.
fn heard_in(node: &Node, container: &str, address: &str) -> String {
    wait_for(&format!("an answer from {address} in {container}"), DEADLINE, || {
        let ran = node.run(&["exec", container, "/peer", "ask", address]);
        (ran.code == 0).then_some(ran.stdout)
    })
}

/// Connects from the node's own network, and returns what is answered.
fn ask(node: &Node, address: &str) -> Option<String> {
    let address = address.to_owned();
    node.in_network(move || {
        let mut stream = TcpStream::connect_timeout(&address.parse().ok()?, Duration::from_secs(2)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        (!answer.is_empty()).then_some(answer)
    })
}

/// The same, until somebody answers.
fn answer(node: &Node, address: &str) -> String {
    wait_for(&format!("an answer from {address}"), DEADLINE, || ask(node, address))
}

/// Another host on a link: it is 192.0.2.2, and the node 192.0.2.1.
fn neighbour(node: &Node) -> Node {
    let other = Node::new("neighbour");
    let ip = |inside: &Node, arguments: &str| run(inside.fixture("ip").args(arguments.split(' '))).ok();
    // A link is given to another network by a pid, which only means something out here: so it is made out here, in both networks.
    let mut make = std::process::Command::new("nsenter");
    make.args(["-t", &node.pid().to_string(), "-n", "ip"]);
    make.args(["link", "add", "out0", "type", "veth", "peer", "name", "out1", "netns", &other.pid().to_string()]);
    run(&mut make).ok();
    ip(node, "address add 192.0.2.1/24 dev out0");
    ip(node, "link set out0 up");
    ip(node, "route add default via 192.0.2.2");
    ip(&other, "address add 192.0.2.2/24 dev out1");
    ip(&other, "link set out1 up");
    other
}

#[test]
fn root_containers_get_addresses_of_their_own_and_reach_each_other() {
    let (node, _registry, image) = with_busybox("addresses");
    serve(&node, "one", &image, &[]);
    idle(&node, "two", &image);
    let (one, two) = (node.address("one"), node.address("two"));
    assert_ne!(one, two);
    assert_eq!(heard_in(&node, "two", &format!("{one}:80")), "hello from one\n");
    // Addresses are given round robin: a freed one is not the next.
    node.ok(&["rm", "-f", "two"]);
    idle(&node, "three", &image);
    assert_ne!(node.address("three"), two);
    node.ok(&["rm", "-f", "one", "three"]);
    node.finish();
}

#[test]
fn root_a_published_port_is_reached_from_everywhere() {
    let (node, _registry, image) = with_busybox("publish");
    serve(&node, "web", &image, &["-p", "8080:80"]);
    let hello = "hello from web\n";
    let address = node.address("web");
    assert_eq!(answer(&node, &format!("{address}:80")), hello);
    assert_eq!(answer(&node, "127.0.0.1:8080"), hello);
    assert_eq!(answer(&node, "[::1]:8080"), hello);
    // From another container, and from the container itself, through the host's address on the bridge.
    let route = node.ok(&["exec", "web", "sh", "-c", "ip route | grep default"]);
    let through_host = format!("{}:8080", route.split(' ').nth(2).unwrap());
    idle(&node, "other", &image);
    assert_eq!(heard_in(&node, "other", &through_host), hello);
    assert_eq!(heard_in(&node, "web", &through_host), hello);
    // The port is taken now, by name.
    node.run(&["run", "-d", "-p", "8080:80", &image, "true"]).fails(125, "8080");
    node.ok(&["rm", "-f", "web", "other"]);
    assert_eq!(ask(&node, "127.0.0.1:8080"), None);
    serve(&node, "next", &image, &["-p", "127.0.0.1:8080:80"]);
    assert_eq!(answer(&node, "127.0.0.1:8080"), "hello from next\n");
    node.ok(&["rm", "-f", "next"]);
    node.finish();
}

#[test]
fn root_a_port_that_a_process_of_the_host_has_is_refused() {
    let (node, _registry, image) = with_busybox("port-taken");
    let (_listener, address) = node.listen("0.0.0.0:0");
    let port = address.port().to_string();
    node.run(&["run", "--rm", "-p", &format!("{port}:80"), &image, "true"]).fails(125, &port);
    node.finish();
}

#[test]
fn root_datagrams_are_published_too() {
    let (node, _registry, image) = with_busybox("udp");
    let mount = format!("{PEER}:/peer:ro");
    node.ok(&["run", "-d", "--name", "echo", "-v", &mount, "-p", "9999:9998/udp", &image, "/peer", "echo-udp", "9998"]);
    let heard = wait_for("a datagram comes back", DEADLINE, || {
        node.in_network(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").ok()?;
            socket.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
            socket.send_to(b"ahoy", "127.0.0.1:9999").ok()?;
            let mut buffer = [0; 16];
            let (length, _) = socket.recv_from(&mut buffer).ok()?;
            Some(buffer[..length].to_vec())
        })
    });
    assert_eq!(heard, b"ahoy");
    node.ok(&["rm", "-f", "echo"]);
    node.finish();
}

#[test]
fn root_the_outside_is_reached_with_the_hosts_address_and_reaches_published_ports() {
    if !programs::is_installed("ip") {
        return skip(
            "root_the_outside_is_reached_with_the_hosts_address_and_reaches_published_ports",
            "ip is not installed",
        );
    }
    let (node, _registry, image) = with_busybox("outside");
    let outside = neighbour(&node);
    let (listener, _) = outside.listen("192.0.2.2:7000");
    let server = std::thread::spawn(move || {
        let (mut stream, from) = listener.accept().expect("somebody connects");
        stream.write_all(b"land ahoy\n").expect("the connection is open");
        from.ip()
    });
    let mount = format!("{PEER}:/peer:ro");
    assert_eq!(node.ok(&["run", "--rm", "-v", &mount, &image, "/peer", "ask", "192.0.2.2:7000"]), "land ahoy");
    assert_eq!(server.join().unwrap(), "192.0.2.1".parse::<IpAddr>().unwrap());

    serve(&node, "web", &image, &["-p", "8080:80"]);
    assert_eq!(answer(&outside, "192.0.2.1:8080"), "hello from web\n");
    node.ok(&["rm", "-f", "web"]);
    node.finish();
}

#[test]
fn root_the_other_network_modes_are_the_hosts_and_nothing() {
    let (node, _registry, image) = with_busybox("modes");
    let interfaces = |mode: &str| {
        node.ok(&["run", "--rm", "--network", mode, &image, "sh", "-c", "ls /sys/class/net | sort | tr '\\n' ' '"])
    };
    assert_eq!(interfaces("none").trim(), "lo");
    assert_eq!(interfaces("bridge").trim(), "eth0 lo");
    // In the host's network a server of the host is just there; in another it is not.
    let (listener, address) = node.listen("127.0.0.1:0");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            // The answer matters to who is asked, not to us.
            let _ = stream.write_all(b"here\n");
        }
    });
    let mount = format!("{PEER}:/peer:ro");
    let asked = |mode: &str| {
        node.run(&["run", "--rm", "--network", mode, "-v", &mount, &image, "/peer", "ask", &address.to_string()]).code
    };
    assert_eq!((asked("host"), asked("bridge"), asked("none")), (0, 1, 1));
    // Loopback works where there is nothing else.
    let script = "/peer say 5 alone & while ! /peer ask 127.0.0.1:5 2>/dev/null; do sleep 0.05; done";
    assert_eq!(node.ok(&["run", "--rm", "--network", "none", "-v", &mount, &image, "sh", "-c", script]), "alone");
    node.finish();
}

#[test]
fn root_resolv_conf_names_the_hosts_real_servers() {
    let (node, _registry, image) = with_busybox("resolv");
    let plain = node.run(&["run", "--rm", &image, "cat", "/etc/resolv.conf"]);
    assert!(plain.stdout.contains("nameserver 192.0.2.53") && !plain.stderr.contains("warning"), "{plain}");
    // Behind a local stub the servers that it asks are named, for nobody in a container could ask the stub.
    let script = "mkdir -p /run/systemd/resolve && echo 'nameserver 198.51.100.7' > /run/systemd/resolve/resolv.conf";
    run(node.inside(programs::busybox()).args(["sh", "-c", script])).ok();
    std::fs::write(node.place().join("resolv.conf"), "nameserver 127.0.0.53\noptions edns0\n").unwrap();
    let seen = node.ok(&["run", "--rm", &image, "cat", "/etc/resolv.conf"]);
    assert!(seen.contains("nameserver 198.51.100.7") && !seen.contains("127.0.0.53"), "{seen}");
    let hosts = node.ok(&["run", "--rm", "--hostname", "flagship", &image, "cat", "/etc/hosts"]);
    assert!(hosts.contains("127.0.0.1") && hosts.contains("flagship"), "{hosts}");
    node.finish();
}

#[test]
fn root_a_host_without_a_name_server_in_reach_is_told_of() {
    let (node, _registry, image) = with_busybox("no-name-server");
    std::fs::write(node.place().join("resolv.conf"), "nameserver 127.0.0.53\n").unwrap();
    let warning = "carrack: warning: names will not resolve: the host's /etc/resolv.conf names only 127.0.0.53, which a \
                   container cannot reach; name servers in reach there, or use the host's network (--network host)\n";
    let run = |network: &str| node.run(&["run", "--rm", "--network", network, &image, "cat", "/etc/resolv.conf"]);
    let bridged = run("bridge");
    assert_eq!((bridged.code, bridged.stdout.as_str()), (0, ""), "{bridged}");
    assert!(bridged.stderr.contains(warning), "{bridged}");
    let of_host = run("host");
    assert_eq!(of_host.stdout, "nameserver 127.0.0.53\n", "{of_host}");
    for quiet in [of_host, run("none")] {
        assert!(!quiet.stderr.contains("warning"), "{quiet}");
    }
    // The daemon's log has it too.
    let daemon = node.serve();
    let pod = daemon.cri.run_pod(&pod_config("fleet", &node.place().directory("logs"))).unwrap();
    wait_until("the daemon warns", DEADLINE, || daemon.log().contains("names only 127.0.0.53"));
    daemon.cri.remove_pod(&pod).unwrap();
    daemon.stop();
    node.finish();
}
