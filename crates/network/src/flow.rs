//! Connections that the kernel remembers for ports which are published or no longer published.
//!
//! The kernel rewrites a UDP "connection" as it did for its first packet, for as long as packets keep coming. A client that sent before its
//! port was published, or that goes on after the pod is gone, would never reach the (next) pod. So entries of a published UDP port are
//! forgotten when that port comes and goes. TCP needs none of this: its connections end with their ends.
//! Source: `linux/netfilter/nfnetlink_conntrack.h`.

use crate::{PortMapping, Protocol};
use carrack_netlink::{Batch, Message, NetlinkError, Pool, Reply, Socket, attributes, u16_be};

/// `NFNL_SUBSYS_CTNETLINK`.
const CONNTRACK: u16 = 1;
const NEW: u16 = CONNTRACK << 8;
const GET: u16 = NEW + 1;
const DELETE: u16 = NEW + 2;
/// `NLM_F_ROOT | NLM_F_MATCH`.
const DUMP: u16 = 0x300;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
/// `CTA_FILTER_F_CTA_PROTO_NUM | CTA_FILTER_F_CTA_PROTO_DST_PORT`.
const BY_PROTOCOL_AND_DESTINATION_PORT: u32 = 1 << 3 | 1 << 5;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;
/// `struct nfgenmsg`.
const HEADER: usize = 4;

/// Forgets what the kernel remembers of the UDP ports among these.
pub(crate) fn forget(sockets: &Pool, ports: &[PortMapping]) -> Result<(), NetlinkError> {
    let udp: Vec<u16> = ports.iter().filter(|port| port.protocol == Protocol::Udp).map(|port| port.host_port).collect();
    if udp.is_empty() {
        return Ok(());
    }
    let socket = sockets.netfilter()?;
    for port in udp {
        for family in [2, 10] {
            for entry in entries(&socket, family, port)? {
                match socket.exchange(&removal(family, &entry)) {
                    // It timed out meanwhile.
                    Err(error) if error.is_absent() => {}
                    other => drop(other?),
                }
            }
        }
    }
    Ok(())
}

fn protocol_and_port(m: &mut Message, port: u16) {
    m.nest(CTA_TUPLE_PROTO, |m| {
        m.byte(CTA_PROTO_NUM, Protocol::Udp.number());
        m.put(CTA_PROTO_DST_PORT, &port.to_be_bytes());
    });
}

/// The entries of connections to the port. The kernel filters (Linux 5.8); an entry that it should not have given is left out.
fn entries(socket: &Socket, family: u8, port: u16) -> Result<Vec<Reply>, NetlinkError> {
    let mut batch = Batch::new();
    batch.request("list tracked connections", GET, DUMP, &[family, 0, 0, 0], |m| {
        m.nest(CTA_TUPLE_ORIG, |m| protocol_and_port(m, port));
        m.nest(CTA_FILTER, |m| {
            m.word(CTA_FILTER_ORIG_FLAGS, BY_PROTOCOL_AND_DESTINATION_PORT);
            m.word(CTA_FILTER_REPLY_FLAGS, 0);
        });
    });
    let replies = socket.exchange(&batch)?;
    Ok(replies
        .into_iter()
        .filter(|reply| reply.kind == NEW && destination(reply) == Some((Protocol::Udp.number(), port)))
        .collect())
}

/// Transport and destination port of the connection's first direction.
fn destination(entry: &Reply) -> Option<(u8, u16)> {
    let tuple = entry.attributes(HEADER).find(|(kind, _)| *kind == CTA_TUPLE_ORIG)?.1;
    let transport = attributes(tuple).find(|(kind, _)| *kind == CTA_TUPLE_PROTO)?.1;
    let find = |wanted| attributes(transport).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    Some((*find(CTA_PROTO_NUM)?.first()?, u16_be(find(CTA_PROTO_DST_PORT)?)?))
}

/// Removes the very entry: the kernel compares its id, too.
fn removal(family: u8, entry: &Reply) -> Batch {
    let mut batch = Batch::new();
    batch.request("forget tracked connection", DELETE, 0, &[family, 0, 0, 0], |m| {
        for (kind, value) in entry.attributes(HEADER) {
            match kind {
                CTA_TUPLE_ORIG => m.put(kind | 0x8000, value),
                CTA_ID | CTA_ZONE => m.put(kind, value),
                _ => {}
            }
        }
    });
    batch
}
