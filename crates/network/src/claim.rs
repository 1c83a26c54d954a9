//! Ports of the host: who may publish which.
//!
//! A claim is a file that names its pod (see [`crate::state`]). Claims are compared as sockets are: the unspecified address of a family
//! stands for all addresses of it. What a process on the host uses is found by binding to it for a moment. All under the network's
//! lock.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use carrack_sys::rustix::io::Errno;
use carrack_sys::rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use carrack_sys::rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with};
use carrack_sys::rustix::rand::{GetRandomFlags, getrandom};
use carrack_words::PodId;

use crate::error::PortHolder;
use crate::state::{Held, State, absent_is_fine, file_error};
use crate::{NetworkError, PortMapping, Protocol};

/// The kernel's own default for ports that it chooses.
const DEFAULT_RANGE: (u16, u16) = (32768, 60999);

/// Which address families the network has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Families {
    Ipv4,
    Both,
}

/// The addresses that a mapping is for; `None` in the mapping means all of every family.
pub(crate) fn host_addresses(mapping: &PortMapping, families: Families) -> Vec<IpAddr> {
    match (mapping.host_ip.map(|ip| ip.to_canonical()), families) {
        (Some(ip), _) => vec![ip],
        (None, Families::Ipv4) => vec![Ipv4Addr::UNSPECIFIED.into()],
        (None, Families::Both) => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
    }
}

/// Refuses what cannot be published at all.
pub(crate) fn check(mapping: &PortMapping, families: Families) -> Result<(), NetworkError> {
    let invalid = |reason| {
        Err(NetworkError::InvalidPort { protocol: mapping.protocol, container_port: mapping.container_port, reason })
    };
    match mapping.host_ip.map(|ip| ip.to_canonical()) {
        _ if mapping.container_port == 0 => invalid("port 0 cannot be published"),
        Some(IpAddr::V6(_)) if families == Families::Ipv4 => invalid("the network has no IPv6"),
        Some(ip) if ip.is_multicast() => invalid("a multicast address is not an address of the host"),
        _ => Ok(()),
    }
}

fn overlap(one: IpAddr, other: IpAddr) -> bool {
    one.is_ipv4() == other.is_ipv4() && (one == other || one.is_unspecified() || other.is_unspecified())
}

/// The claims of one network, whose lock is held.
#[derive(Debug)]
pub(crate) struct Claims<'a> {
    pub(crate) state: &'a State,
    pub(crate) _lock: &'a Held,
}

impl Claims<'_> {
    /// Claims all ports for the pod or none; gives the mappings with the ports that were chosen.
    pub(crate) fn take(
        &self,
        pod: &PodId,
        mappings: &[PortMapping],
        families: Families,
    ) -> Result<Vec<PortMapping>, NetworkError> {
        let mut taken = Vec::new();
        for mapping in mappings {
            match self.take_one(pod, mapping, families, &taken) {
                Ok(chosen) => taken.push(chosen),
                Err(error) => {
                    // The failure that began it is the one to tell; what stays names its pod and is found by reconciliation.
                    let _ = self.release(&taken, families);
                    return Err(error);
                }
            }
        }
        Ok(taken)
    }

    fn take_one(
        &self,
        pod: &PodId,
        mapping: &PortMapping,
        families: Families,
        taken: &[PortMapping],
    ) -> Result<PortMapping, NetworkError> {
        check(mapping, families)?;
        let addresses = host_addresses(mapping, families);
        let try_port = |host_port| {
            let chosen = PortMapping { host_port, ..*mapping };
            self.is_free(pod, &chosen, &addresses, families, taken).map(|()| chosen)
        };
        let chosen =
            if mapping.host_port != 0 { try_port(mapping.host_port)? } else { any_port(mapping.protocol, try_port)? };
        for address in &addresses {
            self.write(pod, &chosen, *address)?;
        }
        Ok(chosen)
    }

    fn is_free(
        &self,
        pod: &PodId,
        wanted: &PortMapping,
        addresses: &[IpAddr],
        families: Families,
        taken: &[PortMapping],
    ) -> Result<(), NetworkError> {
        let held = |holder, address: IpAddr| {
            let all = wanted.host_ip.is_none();
            let address = if all { "all addresses".to_owned() } else { address.to_string() };
            Err(NetworkError::PortTaken { protocol: wanted.protocol, address, port: wanted.host_port, holder })
        };
        let others = self.claims_of(wanted.protocol, wanted.host_port)?;
        for address in addresses {
            let same_port =
                |other: &&PortMapping| (other.protocol, other.host_port) == (wanted.protocol, wanted.host_port);
            let mut own = taken.iter().filter(same_port).flat_map(|other| host_addresses(other, families));
            if own.any(|other| overlap(other, *address)) {
                return held(PortHolder::SameRequest, *address);
            }
            match others.iter().find(|(other, holder)| holder != pod && overlap(*other, *address)) {
                Some((_, holder)) => return held(PortHolder::Pod(holder.clone()), *address),
                None => match probe(wanted.protocol, SocketAddr::new(*address, wanted.host_port)) {
                    Ok(()) => {}
                    Err(Errno::ADDRINUSE) => return held(PortHolder::HostProcess, *address),
                    Err(Errno::ADDRNOTAVAIL) => {
                        let (protocol, port) = (wanted.protocol, wanted.host_port);
                        return Err(NetworkError::NotOurAddress { protocol, port, address: *address });
                    }
                    Err(errno) => return Err(file_error("probe port of", &self.directory(wanted))(errno.into())),
                },
            }
        }
        Ok(())
    }

    fn claims_of(&self, protocol: Protocol, port: u16) -> Result<Vec<(IpAddr, PodId)>, NetworkError> {
        let name = format!("ports/{protocol}-{port}");
        let directory = self.state.path(&name);
        let read = |name: &String| {
            let text = fs::read_link(directory.join(name)).ok()?.into_os_string().into_string().ok()?;
            Some((name.parse().ok()?, PodId::new(text).ok()?))
        };
        Ok(self.state.names(&name)?.iter().filter_map(read).collect())
    }

    fn directory(&self, mapping: &PortMapping) -> PathBuf {
        self.state.path("ports").join(format!("{}-{}", mapping.protocol, mapping.host_port))
    }

    fn write(&self, pod: &PodId, mapping: &PortMapping, address: IpAddr) -> Result<(), NetworkError> {
        let directory = self.directory(mapping);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.map_err(file_error("create directory", &directory))?;
        let claim = directory.join(address.to_string());
        match symlink(pod.as_str(), &claim) {
            // The pod's own, from an attempt that was cut short.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            other => other.map_err(file_error("create claim", &claim)),
        }
    }

    /// Gives ports back.
    pub(crate) fn release(&self, mappings: &[PortMapping], families: Families) -> Result<(), NetworkError> {
        for mapping in mappings {
            for address in host_addresses(mapping, families) {
                let claim = self.directory(mapping).join(address.to_string());
                absent_is_fine(fs::remove_file(&claim)).map_err(file_error("remove claim", &claim))?;
            }
            remove_if_empty(&self.directory(mapping))?;
        }
        Ok(())
    }

    /// Removes what a process left that died between making a port's directory and its first claim.
    pub(crate) fn sweep(&self) -> Result<(), NetworkError> {
        let root = self.state.path("ports");
        self.state.names("ports")?.iter().try_for_each(|name| remove_if_empty(&root.join(name)))
    }

    /// All claims: what is claimed, as a mapping without a port in the pod, and by whom.
    pub(crate) fn all(&self) -> Result<Vec<(PortMapping, PodId)>, NetworkError> {
        let mut all = Vec::new();
        for name in self.state.names("ports")? {
            let Some((protocol, port)) = parse_directory(&name) else { continue };
            for (address, pod) in self.claims_of(protocol, port)? {
                let mapping = PortMapping { protocol, container_port: 0, host_port: port, host_ip: Some(address) };
                all.push((mapping, pod));
            }
        }
        Ok(all)
    }
}

fn remove_if_empty(directory: &Path) -> Result<(), NetworkError> {
    match fs::remove_dir(directory) {
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
        other => absent_is_fine(other).map_err(file_error("remove directory", directory)),
    }
}

fn parse_directory(name: &str) -> Option<(Protocol, u16)> {
    let (protocol, port) = name.split_once('-')?;
    let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|p| p.to_string() == protocol)?;
    Some((protocol, port.parse().ok()?))
}

/// Tries the ports of the kernel's ephemeral range, from a random one on.
fn any_port(
    protocol: Protocol,
    try_port: impl Fn(u16) -> Result<PortMapping, NetworkError>,
) -> Result<PortMapping, NetworkError> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let (first, last) = parse_range(&text).unwrap_or(DEFAULT_RANGE);
    let mut random = [0; 2];
    getrandom(&mut random[..], GetRandomFlags::empty()).map_err(|errno| NetworkError::File {
        doing: "choose a port at random from",
        path: "getrandom".into(),
        source: errno.into(),
    })?;
    let count = u32::from(last - first) + 1;
    let start = u32::from(u16::from_ne_bytes(random)) % count;
    for step in 0..count {
        let port = first + ((start + step) % count) as u16;
        match try_port(port) {
            Err(NetworkError::PortTaken { .. }) => {}
            other => return other,
        }
    }
    Err(NetworkError::NoPortLeft { protocol, first, last })
}

fn parse_range(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse);
    let (first, last) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (first > 0 && first <= last).then_some((first, last))
}

/// Whether a socket could be bound there now. A protocol or family that the host does not have has no users.
fn probe(protocol: Protocol, address: SocketAddr) -> Result<(), Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let socket = match socket_with(family, kind, SocketFlags::CLOEXEC, Some(number)) {
        Ok(socket) => socket,
        Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT | Errno::AFNOSUPPORT) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    if protocol != Protocol::Udp {
        // Connections that linger after their listener do not count; a listener still does.
        set_socket_reuseaddr(&socket, true)?;
    }
    if address.is_ipv6() {
        set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_overlap_as_sockets_do() {
        let overlaps = |one: &str, other: &str| overlap(one.parse().unwrap(), other.parse().unwrap());
        assert!(overlaps("0.0.0.0", "192.0.2.1") && overlaps("192.0.2.1", "192.0.2.1") && overlaps("::1", "::"));
        assert!(!overlaps("192.0.2.1", "192.0.2.2") && !overlaps("0.0.0.0", "::") && !overlaps("127.0.0.1", "::"));
    }

    #[test]
    fn a_port_range_of_no_sense_is_not_taken() {
        assert_eq!(parse_range("32768\t60999\n"), Some((32768, 60999)));
        for bad in ["", "1", "9 8", "0 9", "x y", "1 70000"] {
            assert_eq!(parse_range(bad), None, "{bad:?}");
        }
    }

    struct Fixture(State, PathBuf);

    impl Fixture {
        fn new(name: &str) -> Self {
            let run = std::env::temp_dir().join(format!("carrack-network-claim-{name}-{}", std::process::id()));
            Self(State::open(&run).unwrap(), run)
        }

        fn take(&self, pod: &str, mappings: &[PortMapping]) -> Result<Vec<PortMapping>, NetworkError> {
            let lock = self.0.lock().unwrap();
            Claims { state: &self.0, _lock: &lock }.take(&PodId::new(pod).unwrap(), mappings, Families::Both)
        }
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.1);
        }
    }

    fn on(host_ip: Option<&str>, host_port: u16) -> PortMapping {
        let host_ip = host_ip.map(|ip| ip.parse().unwrap());
        PortMapping { protocol: Protocol::Udp, container_port: 53, host_port, host_ip }
    }

    #[test]
    fn a_port_is_one_pods_and_a_failure_leaves_no_claim() {
        let fixture = Fixture::new("one");
        let chosen = fixture.take("a", &[on(None, 0)]).unwrap();
        let port = chosen[0].host_port;
        assert_ne!(port, 0);
        let failure = fixture.take("b", &[on(Some("127.0.0.1"), 0), on(Some("127.0.0.1"), port)]).unwrap_err();
        assert_eq!(failure.to_string(), format!("port {port}/udp on 127.0.0.1 is taken: pod a publishes it"));
        let lock = fixture.0.lock().unwrap();
        let claims = Claims { state: &fixture.0, _lock: &lock };
        assert_eq!(claims.all().unwrap().len(), 2, "both families of the first pod");
        claims.release(&chosen, Families::Both).unwrap();
        assert_eq!(fixture.0.names("ports").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_port_asked_for_twice_or_used_by_a_process_is_taken() {
        let fixture = Fixture::new("process");
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let failure = fixture.take("a", &[on(None, port)]).unwrap_err();
        assert_eq!(
            failure.to_string(),
            format!("port {port}/udp on all addresses is taken: a process on the host uses it")
        );
        drop(socket);
        let failure = fixture.take("a", &[on(None, port), on(Some("::1"), port)]).unwrap_err();
        assert_eq!(failure.to_string(), format!("port {port}/udp on ::1 is taken: it is asked for twice"));
        assert_eq!(failure.kind(), carrack_words::Kind::AlreadyExists);
        assert_eq!(fixture.0.names("ports").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_cannot_be_published_is_refused_by_name() {
        let fixture = Fixture::new("refused");
        let failure = fixture.take("a", &[on(Some("203.0.113.77"), 4000)]).unwrap_err();
        let text = "cannot publish port 4000/udp on 203.0.113.77: no interface of the host has that address";
        assert_eq!(failure.to_string(), text);
        let failure = fixture.take("a", &[PortMapping { container_port: 0, ..on(None, 4000) }]).unwrap_err();
        assert_eq!(failure.to_string(), "cannot publish port 0/udp: port 0 cannot be published");
        let failure = check(&on(Some("::1"), 4000), Families::Ipv4).unwrap_err();
        assert_eq!(failure.to_string(), "cannot publish port 53/udp: the network has no IPv6");
    }
}
