//! A published port as elements of the table's maps. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Protocol;

/// Ports on all IPv4 addresses of the host.
pub(crate) const ANY4: &str = "any4";
/// Ports on one IPv4 address.
pub(crate) const AT4: &str = "at4";
/// Ports on all IPv6 addresses of the host.
pub(crate) const ANY6: &str = "any6";
/// Ports on one IPv6 address.
pub(crate) const AT6: &str = "at6";
/// Ports that `::1` reaches.
pub(crate) const LOOPBACK6: &str = "loopback6";

/// One port on one address, or on all of a family, and where it leads. Both addresses are of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PublishedPort {
    pub(crate) protocol: Protocol,
    /// The unspecified address of a family stands for all its addresses.
    pub(crate) host_ip: IpAddr,
    pub(crate) host_port: u16,
    pub(crate) pod_ip: IpAddr,
    pub(crate) pod_port: u16,
}

/// An element of a map of the table, or of a set if it has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) set: &'static str,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

/// The elements that publish the port.
pub(crate) fn elements(port: &PublishedPort) -> Vec<Element> {
    let suffix = [vec![port.protocol.number(), 0, 0, 0], padded(port.host_port)].concat();
    let value = [octets(port.pod_ip), padded(port.pod_port)].concat();
    let at = |ip: &[u8]| [ip, &suffix].concat();
    let stand_in = Element { set: LOOPBACK6, key: suffix.clone(), value: vec![] };
    match port.host_ip {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => vec![Element { set: ANY4, key: suffix, value }],
        IpAddr::V4(ip) => vec![Element { set: AT4, key: at(&ip.octets()), value }],
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => vec![Element { set: ANY6, key: suffix, value }, stand_in],
        IpAddr::V6(Ipv6Addr::LOCALHOST) => {
            vec![Element { set: AT6, key: at(&Ipv6Addr::LOCALHOST.octets()), value }, stand_in]
        }
        IpAddr::V6(ip) => vec![Element { set: AT6, key: at(&ip.octets()), value }],
    }
}

/// A part of a key fills whole registers of four bytes.
fn padded(port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    vec![high, low, 0, 0]
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(host_ip: &str, pod_ip: &str) -> PublishedPort {
        PublishedPort {
            protocol: Protocol::Tcp,
            host_ip: host_ip.parse().unwrap(),
            host_port: 0x1f90,
            pod_ip: pod_ip.parse().unwrap(),
            pod_port: 80,
        }
    }

    #[test]
    fn a_port_on_all_addresses_is_keyed_by_transport_and_port() {
        let value = vec![10, 114, 0, 2, 0, 80, 0, 0];
        let key = vec![6, 0, 0, 0, 0x1f, 0x90, 0, 0];
        assert_eq!(elements(&port("0.0.0.0", "10.114.0.2")), [Element { set: ANY4, key, value }]);
    }

    #[test]
    fn a_port_on_one_address_has_the_address_first() {
        let value = vec![10, 114, 0, 2, 0, 80, 0, 0];
        let key = vec![192, 0, 2, 2, 6, 0, 0, 0, 0x1f, 0x90, 0, 0];
        assert_eq!(elements(&port("192.0.2.2", "10.114.0.2")), [Element { set: AT4, key, value }]);
    }

    #[test]
    fn only_what_the_ipv6_loopback_reaches_gets_the_stand_in() {
        let sets = |host_ip| elements(&port(host_ip, "fd00::2")).iter().map(|e| e.set).collect::<Vec<_>>();
        assert_eq!(sets("::"), [ANY6, LOOPBACK6]);
        assert_eq!(sets("::1"), [AT6, LOOPBACK6]);
        assert_eq!(sets("2001:db8::1"), [AT6]);
    }
}
