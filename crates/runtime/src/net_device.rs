//! Moves network devices of the host into the container's network namespace, with their addresses.
//!
//! ```text
//!  host                                                container's namespace
//!  look up ─▶ read addresses ─▶ move, renamed ─────▶ look up ─▶ addresses ─▶ up
//! ```
//!
//! The device is not taken down before, as runc does: the kernel does it with the move, and does nothing to one that cannot move, such as the host's
//! loopback device. Moving and renaming are one request, so that a name is never taken in between. If a later step fails, the namespace ends with the
//! container, and a device that exists by itself comes back to the host.

use std::os::fd::{AsRawFd, BorrowedFd};

use carrack_netlink::{Batch, NetlinkError, Reply, Socket, u32_ne};
use carrack_sys::namespace::{self, Namespaces};
use carrack_words::Kind;

use crate::delegate::by_child;
use crate::describe::describe;
use crate::plan::net_device::NetDeviceStep;
use crate::step::{Doing, StepError};

const NEWLINK: u16 = 16;
const GETLINK: u16 = 18;
const NEWADDR: u16 = 20;
const GETADDR: u16 = 22;
/// `NLM_F_ROOT | NLM_F_MATCH`.
const DUMP: u16 = 0x300;
/// `NLM_F_REPLACE | NLM_F_CREATE`.
const CREATE_OR_REPLACE: u16 = 0x500;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFF_UP: u32 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
/// Nobody has learnt it for a time only.
const IFA_F_PERMANENT: u32 = 0x80;
/// The device had the address until now: nobody else can have it.
const IFA_F_NODAD: u32 = 2;
const SCOPE_UNIVERSE: u8 = 0;
/// The length of `struct ifinfomsg`.
const LINK_HEADER: usize = 16;
/// The length of `struct ifaddrmsg`.
const ADDRESS_HEADER: usize = 8;

/// An address of a device: `struct ifaddrmsg`'s family and prefix, and the attributes that make the address.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Address {
    family: u8,
    prefix: u8,
    attributes: Vec<(u16, Vec<u8>)>,
}

/// Moves all of them into the namespace behind the handle.
pub fn move_net_devices(devices: &[NetDeviceStep], namespace: BorrowedFd<'_>) -> Result<(), StepError> {
    if devices.is_empty() {
        return Ok(());
    }
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: NetlinkError| StepError::refused(error.kind(), format!("{what}: {}", describe(&error)))
    };
    let host = Socket::route().map_err(failed("look for network devices"))?;
    let open_there = || {
        namespace::join(namespace, Namespaces::NETWORK)?;
        Ok(Socket::route().map_err(std::io::Error::other)?.into_handle())
    };
    let there = by_child(open_there).and_then(|made| made).doing(|| "enter the container's network namespace")?;
    let there = Socket::from_handle(there);
    for device in devices {
        let NetDeviceStep { name, new_name } = device;
        let not_found = |name: &str, place: &str| {
            StepError::refused(Kind::NotFound, format!("link not found for interface {name} on {place} namespace"))
        };
        let failed = || failed(&format!("move network device {name}"));
        let index = index_of(&host, name).map_err(failed())?.ok_or_else(|| not_found(name, "runtime"))?;
        let addresses = addresses_of(&host, index).map_err(failed())?;
        host.exchange(&leave(index, new_name, namespace)).map_err(failed())?;
        let index = index_of(&there, new_name).map_err(failed())?.ok_or_else(|| not_found(new_name, "container"))?;
        there.exchange(&arrive(index, &addresses)).map_err(failed())?;
    }
    Ok(())
}

fn link_header(index: u32, flags: u32, change: u32) -> [u8; LINK_HEADER] {
    let mut header = [0; LINK_HEADER];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

fn index_of(socket: &Socket, name: &str) -> Result<Option<u32>, NetlinkError> {
    let mut batch = Batch::new();
    batch.request("look up link", GETLINK, 0, &link_header(0, 0, 0), |m| m.text(IFLA_IFNAME, name));
    match socket.exchange(&batch) {
        Ok(replies) => {
            let link = replies.iter().find(|reply| reply.kind == NEWLINK);
            Ok(link.and_then(|link| link.body.get(4..).and_then(u32_ne)))
        }
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}

fn addresses_of(socket: &Socket, index: u32) -> Result<Vec<Address>, NetlinkError> {
    let mut batch = Batch::new();
    batch.request("list addresses", GETADDR, DUMP, &[0; ADDRESS_HEADER], |_| {});
    let replies = socket.exchange(&batch)?;
    Ok(replies.iter().filter(|reply| reply.kind == NEWADDR).filter_map(|reply| kept_address(reply, index)).collect())
}

/// The address if it is one of this device that moves with it, as with runc: given for good, and known everywhere.
fn kept_address(reply: &Reply, index: u32) -> Option<Address> {
    let [family, prefix, flags, scope] = *reply.body.first_chunk()?;
    if u32_ne(reply.body.get(4..)?)? != index || scope != SCOPE_UNIVERSE {
        return None;
    }
    let all = || reply.attributes(ADDRESS_HEADER);
    // The longer field repeats what fits into the header.
    let flags = all().find(|(kind, _)| *kind == IFA_FLAGS).and_then(|(_, value)| u32_ne(value)).unwrap_or(flags.into());
    if flags & IFA_F_PERMANENT == 0 {
        return None;
    }
    let attributes = all()
        .filter(|(kind, _)| matches!(*kind, IFA_ADDRESS | IFA_LOCAL | IFA_BROADCAST))
        .map(|(kind, value)| (kind, value.to_vec()));
    Some(Address { family, prefix, attributes: attributes.collect() })
}

fn leave(index: u32, new_name: &str, namespace: BorrowedFd<'_>) -> Batch {
    let mut batch = Batch::new();
    batch.request("move link", NEWLINK, 0, &link_header(index, 0, 0), |m| {
        m.text(IFLA_IFNAME, new_name);
        m.word(IFLA_NET_NS_FD, namespace.as_raw_fd() as u32);
    });
    batch
}

fn arrive(index: u32, addresses: &[Address]) -> Batch {
    let mut batch = Batch::new();
    for address in addresses {
        let mut header = [address.family, address.prefix, 0, SCOPE_UNIVERSE, 0, 0, 0, 0];
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        batch.request("set up address", NEWADDR, CREATE_OR_REPLACE, &header, |m| {
            address.attributes.iter().for_each(|(kind, value)| m.put(*kind, value));
            m.word(IFA_FLAGS, IFA_F_NODAD);
        });
    }
    batch.request("set link up", NEWLINK, 0, &link_header(index, IFF_UP, IFF_UP), |_| {});
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(scope: u8, index: u32, flags: u32) -> Reply {
        let mut body = vec![2, 24, 0, scope];
        body.extend(index.to_ne_bytes());
        for (kind, value) in [(IFA_ADDRESS, [10, 0, 0, 1]), (3, *b"eth\0"), (IFA_FLAGS, flags.to_ne_bytes())] {
            body.extend(8u16.to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(value);
        }
        Reply { kind: NEWADDR, body }
    }

    #[test]
    fn lasting_addresses_of_global_scope_move_and_their_labels_do_not() {
        let address = Address { family: 2, prefix: 24, attributes: vec![(IFA_ADDRESS, vec![10, 0, 0, 1])] };
        assert_eq!(kept_address(&reply(0, 7, IFA_F_PERMANENT), 7), Some(address));
        for other in [reply(0, 8, IFA_F_PERMANENT), reply(253, 7, IFA_F_PERMANENT), reply(0, 7, 0)] {
            assert_eq!(kept_address(&other, 7), None);
        }
        assert_eq!(kept_address(&Reply { kind: NEWADDR, body: vec![2, 24] }, 7), None);
    }
}
