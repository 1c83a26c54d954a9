//! The pair of interfaces that connects a pod with the bridge.
//!
//! The pair is made from inside the pod's namespace, through a netlink socket that was opened there by a thread of its own: so the
//! inner interface's index can be asked for and need not be looked up, and the outer one is born on the host. Then one datagram inside gives
//! addresses and routes, and one outside makes the outer end a port of the bridge.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use carrack_sys::namespace::{self, Namespaces};

use crate::host::{Bridge, kernel, mac};
use crate::pinned::{NetnsError, in_a_thread};
use crate::route::{self, Preference, VethPair};
use crate::{Attachment, InterfaceName, MacAddress, NetworkError, setting};
use carrack_netlink::{Batch, NetlinkError, Socket};

/// The first index after loopback's. In a namespace where it is taken (kernel modules for tunnels put interfaces into each), the
/// kernel chooses.
const USUAL_INDEX: u32 = 2;
/// How long attaching waits at most for the kernel to start the pod's link.
const OPERATIONAL_WITHIN: Duration = Duration::from_millis(200);
/// The first two bytes of every hardware address of a pod (see [`mac`]).
const POD_MAC: [u8; 2] = [0x02, 0xca];

/// The name of a pod's interface on the host: it follows from the address, so it is nobody else's while the address is leased.
pub(crate) fn host_interface(ip: Ipv4Addr) -> InterfaceName {
    let [a, b, c, d] = ip.octets();
    InterfaceName::new(format!("veth{a:02x}{b:02x}{c:02x}{d:02x}")).expect("twelve letters and digits")
}

/// High, so that the bridge would not take it for its own even if it had none.
fn host_mac(attachment: &Attachment) -> MacAddress {
    let MacAddress([_, _, a, b, c, d]) = attachment.mac;
    mac(0xfe, [a, b, c, d])
}

/// Opens a socket in the pod's namespace, from a thread that ends there, and guards the namespace.
pub(crate) fn enter(path: &Path, namespace: &File) -> Result<Socket, NetworkError> {
    let enter = |source| NetworkError::Netns { path: path.to_owned(), source };
    let entered = in_a_thread(|| {
        namespace::join(namespace.as_fd(), Namespaces::NETWORK).map_err(enter)?;
        setting::guard_new_interfaces()?;
        Socket::route().map_err(kernel("look at the pod's interfaces"))
    });
    match entered {
        Ok(socket) => socket,
        Err(NetnsError::Step { source, .. }) => Err(enter(source)),
        Err(other) => Err(enter(std::io::Error::other(other.to_string()))),
    }
}

/// Connects the namespace behind `inside` with the bridge.
pub(crate) fn connect(
    attachment: &Attachment,
    bridge: Bridge,
    inside: &Socket,
    links: &Socket,
) -> Result<(), NetworkError> {
    let doing =
        || format!("connect {} of the pod with {} on the bridge", attachment.interface, attachment.host_interface);
    let made = match make_pair(attachment, inside) {
        Err(error) if error.is_present() => {
            remove_left_over(attachment, inside, links).map_err(kernel(doing()))?;
            make_pair(attachment, inside)
        }
        other => other,
    };
    let index = made.map_err(kernel(doing()))?;
    let mut batch = Batch::new();
    for address in &attachment.addresses {
        route::add_address(&mut batch, index, address.ip, address.prefix, Preference::Normal);
        route::add_default_route(&mut batch, index, address.gateway);
    }
    inside.exchange(&batch).map_err(kernel(doing()))?;
    let mut batch = Batch::new();
    route::add_port(&mut batch, attachment.host_interface.as_str(), bridge.index);
    links.exchange(&batch).map_err(kernel(doing()))?;
    wait_until_operational(inside, index).map_err(kernel(doing()))?;
    // A bridge works once it has its first port.
    if bridge.is_operational { Ok(()) } else { wait_until_operational(links, bridge.index).map_err(kernel(doing())) }
}

/// Waits until a link takes packets.
///
/// The end that is brought up first has no carrier yet. The other end gives it one, but the kernel starts its queue later, from a work queue
/// (`linkwatch_do_dev`), and drops its packets until then: one pod in four would lose its first packet and send it again a second later. Since Linux
/// 6.8 looking at the link starts the queue; before that it is a matter of less than a millisecond as a rule. The wait is bounded: a pod
/// whose link is late is better than none.
fn wait_until_operational(inside: &Socket, index: u32) -> Result<(), NetlinkError> {
    let deadline = Instant::now() + OPERATIONAL_WITHIN;
    while Instant::now() < deadline {
        match route::link_at(inside, index)? {
            Some(link) if !link.is_operational => thread::yield_now(),
            _ => break,
        }
    }
    Ok(())
}

/// Makes the pair and gives the inner end's index.
fn make_pair(attachment: &Attachment, inside: &Socket) -> Result<u32, NetlinkError> {
    match make_pair_at(attachment, inside, USUAL_INDEX) {
        Err(error) if error.is_busy() => {
            make_pair_at(attachment, inside, 0)?;
            let link = route::link_named(inside, attachment.interface.as_str())?;
            Ok(link.ok_or(NetlinkError::Malformed { request: "look up link" })?.index)
        }
        other => other.map(|()| USUAL_INDEX),
    }
}

fn make_pair_at(attachment: &Attachment, inside: &Socket, index: u32) -> Result<(), NetlinkError> {
    let here = File::open("/proc/thread-self/ns/net")
        .map_err(|source| NetlinkError::Socket { doing: "find this network namespace for a", source })?;
    let pair = VethPair {
        name: attachment.interface.as_str(),
        mac: attachment.mac,
        index,
        mtu: attachment.mtu,
        peer_name: attachment.host_interface.as_str(),
        peer_mac: host_mac(attachment),
        peer_namespace: here.as_fd(),
    };
    let mut batch = Batch::new();
    route::create_veth(&mut batch, &pair);
    inside.exchange(&batch).map(drop)
}

/// Removes what is in the way: the outer name is ours by our lease, the inner one only if it has a hardware address of our making.
fn remove_left_over(attachment: &Attachment, inside: &Socket, links: &Socket) -> Result<(), NetlinkError> {
    let outer = attachment.host_interface.as_str();
    if route::link_named(links, outer)?.is_some_and(|link| link.kind == "veth") {
        delete(links, outer)?;
    }
    let inner = attachment.interface.as_str();
    if route::link_named(inside, inner)?.is_some_and(|link| link.kind == "veth" && link.mac.starts_with(&POD_MAC)) {
        delete(inside, inner)?;
    }
    Ok(())
}

fn delete(socket: &Socket, name: &str) -> Result<(), NetlinkError> {
    let mut batch = Batch::new();
    route::delete_link(&mut batch, name);
    match socket.exchange(&batch) {
        Err(error) if error.is_absent() => Ok(()),
        other => other.map(drop),
    }
}

/// Removes the pair, both ends.
pub(crate) fn disconnect(name: &InterfaceName, links: &Socket) -> Result<(), NetworkError> {
    delete(links, name.as_str()).map_err(kernel(format!("remove {name}")))
}

/// Lets the bridge send back through the pod's port what came from there: behind br_netfilter a pod's call of its own published
/// port is rewritten within the bridge.
pub(crate) fn make_hairpin(name: &InterfaceName, links: &Socket) -> Result<(), NetworkError> {
    let doing = || format!("let {name} hear itself");
    let link = route::link_named(links, name.as_str()).map_err(kernel(doing()))?;
    let index = link.ok_or(NetlinkError::Malformed { request: "look up link" }).map_err(kernel(doing()))?.index;
    route::set_hairpin(links, index).map_err(kernel(doing()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_hardware_addresses_follow_from_the_address() {
        assert_eq!(host_interface(Ipv4Addr::new(10, 114, 0, 2)).as_str(), "veth0a720002");
        assert_eq!(mac(0x02, [10, 114, 0, 2]).to_string(), "02:ca:0a:72:00:02");
        let MacAddress(bytes) = mac(0x02, [10, 114, 0, 2]);
        assert!(bytes.starts_with(&POD_MAC));
    }
}
