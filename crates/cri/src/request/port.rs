//! Port mappings of a pod sandbox.

use carrack_cri_proto::v1;
use carrack_engine::request::{NetworkMode, PortMapping, Protocol};

use super::{RequestError, given, invalid, known};

/// The ports to publish. A mapping without a host port asks for nothing (never for a random port), and in the host's network
/// every port is the host's already.
pub(super) fn ports(
    mappings: &[v1::PortMapping],
    network: NetworkMode,
    field: &str,
) -> Result<Vec<PortMapping>, RequestError> {
    let mut ports = Vec::new();
    for (index, mapping) in mappings.iter().enumerate() {
        let port = port(mapping, &format!("{field}[{index}]"))?;
        if port.host_port != 0 && network == NetworkMode::Bridge {
            ports.push(port);
        }
    }
    Ok(ports)
}

fn port(mapping: &v1::PortMapping, field: &str) -> Result<PortMapping, RequestError> {
    let number = |value: i32, least: u16, name: &str| {
        u16::try_from(value).ok().filter(|port| *port >= least).ok_or_else(|| {
            invalid(format!("{field}.{name}"), format!("{value} is not a port: want {least} to {}", u16::MAX))
        })
    };
    let protocol = match known(mapping.protocol, &format!("{field}.protocol"))? {
        v1::Protocol::Tcp => Protocol::Tcp,
        v1::Protocol::Udp => Protocol::Udp,
        v1::Protocol::Sctp => Protocol::Sctp,
    };
    let host_ip = given(&mapping.host_ip)
        .map(|text| {
            text.parse().map_err(|_| invalid(format!("{field}.host_ip"), format!("{text:?} is not an IP address")))
        })
        .transpose()?;
    Ok(PortMapping {
        protocol,
        container_port: number(mapping.container_port, 1, "container_port")?,
        host_port: number(mapping.host_port, 0, "host_port")?,
        host_ip,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(protocol: i32, container_port: i32, host_port: i32, host_ip: &str) -> v1::PortMapping {
        v1::PortMapping { protocol, container_port, host_port, host_ip: host_ip.into() }
    }

    #[test]
    fn ports_become_the_engines_and_host_port_zero_publishes_nothing() {
        let given =
            [mapping(0, 80, 8080, ""), mapping(1, 53, 53, "127.0.0.1"), mapping(2, 9, 9, "::1"), mapping(0, 81, 0, "")];
        let wanted = vec![
            PortMapping { protocol: Protocol::Tcp, container_port: 80, host_port: 8080, host_ip: None },
            PortMapping {
                protocol: Protocol::Udp,
                container_port: 53,
                host_port: 53,
                host_ip: Some("127.0.0.1".parse().expect("an address")),
            },
            PortMapping {
                protocol: Protocol::Sctp,
                container_port: 9,
                host_port: 9,
                host_ip: Some("::1".parse().expect("an address")),
            },
        ];
        assert_eq!(ports(&given, NetworkMode::Bridge, "p"), Ok(wanted));
        assert_eq!(ports(&given, NetworkMode::Host, "p"), Ok(vec![]));
    }

    #[test]
    fn wrong_ports_are_refused_with_their_place() {
        for (wrong, field) in [
            (mapping(0, 0, 80, ""), "p[1].container_port"),
            (mapping(0, 65536, 80, ""), "p[1].container_port"),
            (mapping(0, 80, -1, ""), "p[1].host_port"),
            (mapping(0, 80, 65536, ""), "p[1].host_port"),
            (mapping(3, 80, 80, ""), "p[1].protocol"),
            (mapping(0, 80, 80, "localhost"), "p[1].host_ip"),
        ] {
            let error = ports(&[mapping(0, 1, 1, ""), wrong], NetworkMode::Bridge, "p").expect_err("refused");
            assert!(matches!(&error, RequestError::Invalid { field: at, .. } if at == field), "{error}");
        }
    }
}
