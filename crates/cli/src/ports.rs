//! Published ports, as docker shows them. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use carrack_engine::request::PortMapping;

/// The host's addresses on which a port is published.
pub fn addresses(port: &PortMapping) -> Vec<IpAddr> {
    match port.host_ip {
        Some(address) => vec![address],
        None => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
    }
}

/// `0.0.0.0:8080->80/tcp, [::]:8080->80/tcp`: neighbours of one address are a range.
pub fn list(ports: &[PortMapping]) -> String {
    let mut bound: Vec<(IpAddr, PortMapping)> =
        ports.iter().flat_map(|port| addresses(port).into_iter().map(|address| (address, *port))).collect();
    bound.sort_by_key(|(address, port)| (*address, port.protocol, port.container_port, port.host_port));
    let mut ranges: Vec<(IpAddr, PortMapping, u16)> = Vec::new();
    for (address, port) in bound {
        match ranges.last_mut() {
            Some((same, first, more))
                if *same == address
                    && first.protocol == port.protocol
                    && u32::from(first.container_port) + u32::from(*more) + 1 == u32::from(port.container_port)
                    && u32::from(first.host_port) + u32::from(*more) + 1 == u32::from(port.host_port) =>
            {
                *more += 1;
            }
            _ => ranges.push((address, port, 0)),
        }
    }
    ranges.sort_by_key(|(address, first, _)| (first.container_port, first.protocol, *address));
    let texts: Vec<String> = ranges.iter().map(|(address, first, more)| text(*address, first, *more)).collect();
    texts.join(", ")
}

fn text(address: IpAddr, first: &PortMapping, more: u16) -> String {
    let address = match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    let range = |port: u16| match more {
        0 => port.to_string(),
        more => format!("{port}-{}", port + more),
    };
    format!("{address}:{}->{}/{}", range(first.host_port), range(first.container_port), first.protocol)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::publish;

    #[test]
    fn ports_are_shown_as_docker_shows_them() {
        for (flags, want) in [
            (&["8080:80"][..], "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"),
            (&["127.0.0.1:53:53/udp"], "127.0.0.1:53->53/udp"),
            (&["[::1]:8080:80"], "[::1]:8080->80/tcp"),
            (&["127.0.0.1:9000-9002:90-92", "127.0.0.1:99:93"], "127.0.0.1:9000-9002->90-92/tcp, 127.0.0.1:99->93/tcp"),
            (
                &["127.0.0.1:81:81", "127.0.0.1:80:80", "127.0.0.1:81:81/udp"],
                "127.0.0.1:80-81->80-81/tcp, 127.0.0.1:81->81/udp",
            ),
            (&[], ""),
        ] {
            let ports: Vec<PortMapping> = flags.iter().flat_map(|flag| publish(flag).unwrap()).collect();
            assert_eq!(list(&ports), want, "{flags:?}");
        }
    }
}
