//! Requests about links, addresses and routes (rtnetlink(7); `linux/rtnetlink.h`, `linux/if_link.h`, `linux/if_addr.h`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::MacAddress;
use carrack_netlink::{Batch, Message, NetlinkError, Reply, Socket, attributes, text, u32_ne};

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const GETLINK: u16 = 18;
const SETLINK: u16 = 19;
const NEWADDR: u16 = 20;
const NEWROUTE: u16 = 24;
const GETROUTE: u16 = 26;

/// `NLM_F_EXCL | NLM_F_CREATE`.
const CREATE_NEW: u16 = 0x600;
/// `NLM_F_REPLACE | NLM_F_CREATE`.
const CREATE_OR_REPLACE: u16 = 0x500;
/// `NLM_F_ROOT | NLM_F_MATCH`.
const DUMP: u16 = 0x300;

const AF_UNSPEC: u8 = 0;
const AF_INET: u8 = 2;
const AF_BRIDGE: u8 = 7;
const AF_INET6: u8 = 10;

const IFF_UP: u32 = 1;

const IF_OPER_UP: u8 = 6;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_BR_FORWARD_DELAY: u16 = 1;
const IFLA_BR_MCAST_SNOOPING: u16 = 23;
const IFLA_BRPORT_MODE: u16 = 4;
const VETH_INFO_PEER: u16 = 1;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
/// No duplicate address detection: we know who has the address.
const IFA_F_NODAD: u32 = 2;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RTN_UNICAST: u8 = 1;

/// The length of `struct ifinfomsg`.
const LINK_HEADER: usize = 16;
/// The length of `struct rtmsg`.
const ROUTE_HEADER: usize = 12;
/// The loopback interface is the first one of every namespace.
const LOOPBACK: u32 = 1;

fn link_header(family: u8, index: u32, flags: u32, change: u32) -> [u8; LINK_HEADER] {
    let mut header = [0; LINK_HEADER];
    header[0] = family;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

/// What is known of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mtu: u32,
    pub(crate) mac: Vec<u8>,
    pub(crate) is_up: bool,
    /// Whether packets pass: its operational state (RFC 2863) is "up".
    pub(crate) is_operational: bool,
    /// Whether it is a part of another link, such as a bridge.
    pub(crate) is_port: bool,
    /// The free text that `ip link` shows as alias; empty: none.
    pub(crate) alias: String,
    /// The kind of a virtual link, such as `bridge`; empty: none.
    pub(crate) kind: String,
}

fn link(reply: &Reply) -> Option<Link> {
    let word = |at: usize| reply.body.get(at..).and_then(u32_ne);
    let (index, flags) = (word(4)?, word(8)?);
    let mut link = Link {
        index,
        name: String::new(),
        mtu: 0,
        mac: Vec::new(),
        is_up: flags & IFF_UP != 0,
        is_operational: false,
        is_port: false,
        alias: String::new(),
        kind: String::new(),
    };
    for (kind, value) in reply.attributes(LINK_HEADER) {
        match kind {
            IFLA_IFNAME => link.name = text(value),
            IFLA_ADDRESS => link.mac = value.to_vec(),
            IFLA_MTU => link.mtu = u32_ne(value)?,
            IFLA_OPERSTATE => link.is_operational = value.first() == Some(&IF_OPER_UP),
            IFLA_MASTER => link.is_port = true,
            IFLA_IFALIAS => link.alias = text(value),
            IFLA_LINKINFO => {
                let name = attributes(value).find(|(kind, _)| *kind == IFLA_INFO_KIND);
                link.kind = name.map(|(_, value)| text(value)).unwrap_or_default();
            }
            _ => {}
        }
    }
    Some(link)
}

/// The link with this name; `None`: there is none.
pub(crate) fn link_named(socket: &Socket, name: &str) -> Result<Option<Link>, NetlinkError> {
    get_link(socket, 0, Some(name))
}

/// The link with this index; `None`: there is none.
pub(crate) fn link_at(socket: &Socket, index: u32) -> Result<Option<Link>, NetlinkError> {
    get_link(socket, index, None)
}

fn get_link(socket: &Socket, index: u32, name: Option<&str>) -> Result<Option<Link>, NetlinkError> {
    let mut batch = Batch::new();
    batch.request("look up link", GETLINK, 0, &link_header(AF_UNSPEC, index, 0, 0), |m| {
        name.into_iter().for_each(|name| m.text(IFLA_IFNAME, name));
    });
    match socket.exchange(&batch) {
        Ok(replies) => Ok(replies.iter().filter(|reply| reply.kind == NEWLINK).find_map(link)),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}

/// All links of the namespace.
pub(crate) fn links(socket: &Socket) -> Result<Vec<Link>, NetlinkError> {
    let mut batch = Batch::new();
    batch.request("list links", GETLINK, DUMP, &link_header(AF_UNSPEC, 0, 0, 0), |_| {});
    Ok(socket.exchange(&batch)?.iter().filter(|reply| reply.kind == NEWLINK).filter_map(link).collect())
}

/// A route of the main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) destination: IpAddr,
    pub(crate) prefix: u8,
    pub(crate) interface: u32,
}

/// The unicast routes of the main table, default routes included, that leave through one interface.
pub(crate) fn routes(socket: &Socket) -> Result<Vec<Route>, NetlinkError> {
    let mut routes = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let mut header = [0; ROUTE_HEADER];
        header[0] = family;
        let mut batch = Batch::new();
        batch.request("list routes", GETROUTE, DUMP, &header, |_| {});
        match socket.exchange(&batch) {
            Ok(replies) => routes.extend(replies.iter().filter(|reply| reply.kind == NEWROUTE).filter_map(route)),
            // A kernel without IPv6 has no routes of it.
            Err(error) if error.kind() == carrack_words::Kind::Unsupported => {}
            Err(error) => return Err(error),
        }
    }
    Ok(routes)
}

fn route(reply: &Reply) -> Option<Route> {
    let [family, prefix, _, _, table, _, _, kind] = *reply.body.first_chunk::<8>()?;
    if table != RT_TABLE_MAIN || kind != RTN_UNICAST {
        return None;
    }
    let any = if family == AF_INET { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { IpAddr::from(Ipv6Addr::UNSPECIFIED) };
    let mut route = Route { destination: any, prefix, interface: 0 };
    for (kind, value) in reply.attributes(ROUTE_HEADER) {
        match kind {
            RTA_DST => route.destination = address(value)?,
            RTA_OIF => route.interface = u32_ne(value)?,
            _ => {}
        }
    }
    (route.interface != 0).then_some(route)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// Brings up the loopback interface of the calling thread's network namespace.
pub(crate) fn loopback_up() -> Result<(), NetlinkError> {
    let mut batch = Batch::new();
    batch.request("bring up loopback", SETLINK, 0, &link_header(AF_UNSPEC, LOOPBACK, IFF_UP, IFF_UP), |_| {});
    Socket::route()?.exchange(&batch).map(drop)
}

/// Makes a bridge that is up.
pub(crate) fn create_bridge(batch: &mut Batch, name: &str, mac: MacAddress, mtu: u32) {
    batch.request("create bridge", NEWLINK, CREATE_NEW, &link_header(AF_UNSPEC, 0, IFF_UP, IFF_UP), |m| {
        m.text(IFLA_IFNAME, name);
        m.word(IFLA_MTU, mtu);
        // Said aloud, or the bridge takes the lowest address of its ports and changes it as pods come and go.
        m.put(IFLA_ADDRESS, &mac.0);
        m.nest(IFLA_LINKINFO, |m| {
            m.text(IFLA_INFO_KIND, "bridge");
            m.nest(IFLA_INFO_DATA, |m| {
                m.word(IFLA_BR_FORWARD_DELAY, 0);
                // No querier is there to keep a snooping bridge informed; IPv6 needs its multicast.
                m.byte(IFLA_BR_MCAST_SNOOPING, 0);
            });
        });
    });
}

/// Brings up a link that exists.
pub(crate) fn bring_up(batch: &mut Batch, index: u32) {
    batch.request("bring up link", SETLINK, 0, &link_header(AF_UNSPEC, index, IFF_UP, IFF_UP), |_| {});
}

/// Gives a link a free text. Taken only at a link that exists.
pub(crate) fn set_alias(batch: &mut Batch, name: &str, alias: &str) {
    batch.request("name owner of bridge", SETLINK, 0, &link_header(AF_UNSPEC, 0, 0, 0), |m| {
        m.text(IFLA_IFNAME, name);
        m.put(IFLA_IFALIAS, alias.as_bytes());
    });
}

/// Removes a link.
pub(crate) fn delete_link(batch: &mut Batch, name: &str) {
    batch.request("delete link", DELLINK, 0, &link_header(AF_UNSPEC, 0, 0, 0), |m| m.text(IFLA_IFNAME, name));
}

/// A pair of links, made from inside a pod's namespace: one end here, which is up, the other in the host's namespace. The other end cannot
/// be brought up in the same request: `veth_open` refuses (`ENOTCONN`) until both ends know each other.
pub(crate) struct VethPair<'a> {
    pub(crate) name: &'a str,
    pub(crate) mac: MacAddress,
    /// The index of the end that is here; 0: the kernel chooses.
    pub(crate) index: u32,
    pub(crate) mtu: u32,
    pub(crate) peer_name: &'a str,
    pub(crate) peer_mac: MacAddress,
    pub(crate) peer_namespace: BorrowedFd<'a>,
}

/// Makes the pair: one request does it all.
pub(crate) fn create_veth(batch: &mut Batch, pair: &VethPair<'_>) {
    let namespace = pair.peer_namespace.as_raw_fd() as u32;
    let end = |m: &mut Message, name: &str, mac: MacAddress| {
        m.text(IFLA_IFNAME, name);
        m.word(IFLA_MTU, pair.mtu);
        m.put(IFLA_ADDRESS, &mac.0);
    };
    batch.request("create veth pair", NEWLINK, CREATE_NEW, &link_header(AF_UNSPEC, pair.index, IFF_UP, IFF_UP), |m| {
        end(m, pair.name, pair.mac);
        m.nest(IFLA_LINKINFO, |m| {
            m.text(IFLA_INFO_KIND, "veth");
            m.nest(IFLA_INFO_DATA, |m| {
                m.nest_with(VETH_INFO_PEER, &link_header(AF_UNSPEC, 0, 0, 0), |m| {
                    end(m, pair.peer_name, pair.peer_mac);
                    m.word(IFLA_NET_NS_FD, namespace);
                });
            });
        });
    });
}

/// Makes a link a port of a bridge, and brings it up.
pub(crate) fn add_port(batch: &mut Batch, name: &str, bridge: u32) {
    batch.request("add port to bridge", SETLINK, 0, &link_header(AF_UNSPEC, 0, IFF_UP, IFF_UP), |m| {
        m.text(IFLA_IFNAME, name);
        m.word(IFLA_MASTER, bridge);
    });
}

/// Lets a bridge send a packet back through the port it came from.
pub(crate) fn set_hairpin(socket: &Socket, port: u32) -> Result<(), NetlinkError> {
    let mut batch = Batch::new();
    batch.request("set hairpin mode", SETLINK, 0, &link_header(AF_BRIDGE, port, 0, 0), |m| {
        m.nest(IFLA_PROTINFO, |m| m.byte(IFLA_BRPORT_MODE, 1));
    });
    socket.exchange(&batch).map(drop)
}

/// For what the kernel may use an address on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Preference {
    /// As the source of connections.
    Normal,
    /// For nothing: it serves only who names it (RFC 4862, "deprecated").
    OnlyWhenNamed,
}

/// Gives a link an address; a repeat changes nothing.
pub(crate) fn add_address(batch: &mut Batch, interface: u32, ip: IpAddr, prefix: u8, preference: Preference) {
    let family = if ip.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut header = [family, prefix, 0, 0, 0, 0, 0, 0];
    header[4..8].copy_from_slice(&interface.to_ne_bytes());
    batch.request("add address", NEWADDR, CREATE_OR_REPLACE, &header, |m| {
        match ip {
            IpAddr::V4(ip) => {
                let host_bits = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
                m.put(IFA_LOCAL, &ip.octets());
                m.put(IFA_ADDRESS, &ip.octets());
                m.put(IFA_BROADCAST, &(u32::from(ip) | host_bits).to_be_bytes());
            }
            IpAddr::V6(ip) => {
                m.put(IFA_ADDRESS, &ip.octets());
                m.word(IFA_FLAGS, IFA_F_NODAD);
            }
        }
        if preference == Preference::OnlyWhenNamed {
            // `struct ifa_cacheinfo`: preferred for 0 seconds, valid for ever, two time stamps.
            let mut lifetime = [0; 16];
            lifetime[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
            m.put(IFA_CACHEINFO, &lifetime);
        }
    });
}

/// The way to everywhere else; a repeat changes nothing.
pub(crate) fn add_default_route(batch: &mut Batch, interface: u32, gateway: IpAddr) {
    let family = if gateway.is_ipv4() { AF_INET } else { AF_INET6 };
    let header = [family, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, 0, RTN_UNICAST, 0, 0, 0, 0];
    batch.request("add default route", NEWROUTE, CREATE_OR_REPLACE, &header, |m| {
        match gateway {
            IpAddr::V4(ip) => m.put(RTA_GATEWAY, &ip.octets()),
            IpAddr::V6(ip) => m.put(RTA_GATEWAY, &ip.octets()),
        }
        m.word(RTA_OIF, interface);
    });
}
