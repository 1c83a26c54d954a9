//! What an operator chooses about the built-in network.
//!
//! The defaults stay clear of Docker (172.17.0.0/16 and up, 192.168.0.0/16), Podman (10.88.0.0/16, 10.89.0.0/16 and up), and the
//! usual Kubernetes pod and service networks (10.42, 10.43, 10.96, 10.128 and up, 10.244).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// A value of the configuration is not usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The kernel would refuse the name, or it could not stand in a path of `/proc/sys`.
    #[error("invalid interface name {text:?}: 1 to 15 characters of A-Z a-z 0-9 _ - . and not . or ..")]
    InterfaceName {
        /// What was given, shortened to 64 characters.
        text: String,
    },
    /// The IPv4 subnet has no room or is no network address.
    #[error("invalid IPv4 subnet {address}/{prefix}: a network address with a prefix of 8 to 29 bits is wanted")]
    Subnet4 {
        /// The address as given.
        address: Ipv4Addr,
        /// The prefix length as given.
        prefix: u8,
    },
    /// The IPv6 subnet has no room or is no network address.
    #[error("invalid IPv6 subnet {address}/{prefix}: a network address with a prefix of 16 to 96 bits is wanted")]
    Subnet6 {
        /// The address as given.
        address: Ipv6Addr,
        /// The prefix length as given.
        prefix: u8,
    },
}

impl ConfigError {
    /// Its class: always [`carrack_words::Kind::Invalid`].
    pub fn kind(&self) -> carrack_words::Kind {
        carrack_words::Kind::Invalid
    }
}

/// The name of a network interface; at most 15 bytes, as the kernel has it (`IFNAMSIZ`), and a safe file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceName(String);

impl InterfaceName {
    /// Checks `text`.
    pub fn new(text: impl Into<String>) -> Result<Self, ConfigError> {
        let text = text.into();
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
        if text.is_empty() || text.len() > 15 || text == "." || text == ".." || !text.bytes().all(legal) {
            return Err(ConfigError::InterfaceName { text: text.chars().take(64).collect() });
        }
        Ok(Self(text))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for InterfaceName {
    type Error = ConfigError;
    fn try_from(text: String) -> Result<Self, ConfigError> {
        Self::new(text)
    }
}

impl From<InterfaceName> for String {
    fn from(name: InterfaceName) -> String {
        name.0
    }
}

/// An IPv4 network, from which every pod gets one address; the first one is the bridge's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet4 {
    network: Ipv4Addr,
    prefix: u8,
}

impl Subnet4 {
    /// Checks that `network` has no host bits and that there is room for a gateway and some pods.
    pub fn new(network: Ipv4Addr, prefix: u8) -> Result<Self, ConfigError> {
        let room = (8..=29).contains(&prefix);
        if !room || u32::from(network) & !mask4(prefix) != 0 {
            return Err(ConfigError::Subnet4 { address: network, prefix });
        }
        Ok(Self { network, prefix })
    }

    /// The network address.
    pub fn network(self) -> Ipv4Addr {
        self.network
    }

    /// The length of the prefix in bits.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The mask as an address.
    pub fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from(mask4(self.prefix))
    }

    /// The bridge's own address: the first one.
    pub fn gateway(self) -> Ipv4Addr {
        self.at(1)
    }

    /// The directed broadcast address: the last one.
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) | !mask4(self.prefix))
    }

    /// The address with host number `index`.
    pub(crate) fn at(self, index: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) + index)
    }

    /// The greatest host number that a pod may have; the one after it is the broadcast address.
    pub(crate) fn last_index(self) -> u32 {
        !mask4(self.prefix) - 1
    }

    /// Whether `address` is in this network.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask4(self.prefix) == u32::from(self.network)
    }
}

fn mask4(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

/// An IPv6 network; a pod has the same host number in it as in the IPv4 network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet6 {
    network: Ipv6Addr,
    prefix: u8,
}

impl Subnet6 {
    /// Checks that `network` has no host bits and leaves at least 32 of them.
    pub fn new(network: Ipv6Addr, prefix: u8) -> Result<Self, ConfigError> {
        if !(16..=96).contains(&prefix) || u128::from(network) & (u128::MAX >> prefix) != 0 {
            return Err(ConfigError::Subnet6 { address: network, prefix });
        }
        Ok(Self { network, prefix })
    }

    /// The network address.
    pub fn network(self) -> Ipv6Addr {
        self.network
    }

    /// The length of the prefix in bits.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The mask as an address.
    pub fn mask(self) -> Ipv6Addr {
        Ipv6Addr::from(!(u128::MAX >> self.prefix))
    }

    /// The bridge's own address: the first one.
    pub fn gateway(self) -> Ipv6Addr {
        self.at(1)
    }

    /// The address that stands in for `::1` as the source of connections from the host to a published port (see [`crate`]).
    pub fn loopback_stand_in(self) -> Ipv6Addr {
        self.at(u32::MAX)
    }

    /// The address with host number `index`.
    pub(crate) fn at(self, index: u32) -> Ipv6Addr {
        Ipv6Addr::from(u128::from(self.network) | u128::from(index))
    }
}

/// What the built-in network of one engine looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkConfig {
    /// The bridge, and the name of the nftables table; two engines on one host need two names.
    pub bridge: InterfaceName,
    /// The addresses of pods; two engines on one host need two networks.
    pub subnet4: Subnet4,
    /// The IPv6 addresses of pods; `None`: pods have no IPv6, and published ports are not reachable through `::1`.
    /// A host without IPv6 behaves as with `None`.
    pub subnet6: Option<Subnet6>,
    /// The largest packet; `None`: that of the interface with the host's default route when the bridge is made, else 1500.
    pub mtu: Option<u32>,
}

impl Default for NetworkConfig {
    /// `carrack0`, 10.114.0.0/16 and a unique local IPv6 network (RFC 4193), which is never seen outside the host.
    fn default() -> Self {
        Self {
            bridge: InterfaceName("carrack0".to_owned()),
            subnet4: Subnet4 { network: Ipv4Addr::new(10, 114, 0, 0), prefix: 16 },
            subnet6: Some(Subnet6 { network: Ipv6Addr::new(0xfdca, 0x44ac, 0x6b00, 0, 0, 0, 0, 0), prefix: 64 }),
            mtu: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_subnets_pass_their_own_checks() {
        let config = NetworkConfig::default();
        assert_eq!(Subnet4::new(config.subnet4.network, config.subnet4.prefix), Ok(config.subnet4));
        let subnet6 = config.subnet6.unwrap();
        assert_eq!(Subnet6::new(subnet6.network, subnet6.prefix), Ok(subnet6));
        assert_eq!(InterfaceName::new(config.bridge.as_str()), Ok(config.bridge));
    }

    #[test]
    fn a_subnet_with_host_bits_or_without_room_is_refused() {
        let v4 = |text: &str, prefix| Subnet4::new(text.parse().unwrap(), prefix).is_ok();
        assert!(v4("10.1.0.0", 16) && v4("10.1.2.8", 29) && v4("10.0.0.0", 8));
        assert!(!v4("10.1.0.1", 16) && !v4("10.1.2.4", 30) && !v4("0.0.0.0", 0) && !v4("10.1.2.0", 33));
        let v6 = |text: &str, prefix| Subnet6::new(text.parse().unwrap(), prefix).is_ok();
        assert!(v6("fd00::", 64) && v6("fd00::", 96));
        assert!(!v6("fd00::1", 64) && !v6("fd00::", 97) && !v6("::", 0) && !v6("fd00::", 129));
    }

    #[test]
    fn first_and_last_addresses_are_where_they_belong() {
        let subnet = Subnet4::new("10.1.2.8".parse().unwrap(), 29).unwrap();
        assert_eq!(subnet.mask().to_string(), "255.255.255.248");
        assert_eq!(subnet.gateway().to_string(), "10.1.2.9");
        assert_eq!(subnet.at(subnet.last_index()).to_string(), "10.1.2.14");
        assert_eq!(subnet.broadcast().to_string(), "10.1.2.15");
        let subnet = Subnet6::new("fd00:1::".parse().unwrap(), 64).unwrap();
        assert_eq!(subnet.gateway().to_string(), "fd00:1::1");
        assert_eq!(subnet.loopback_stand_in().to_string(), "fd00:1::ffff:ffff");
        assert_eq!(subnet.mask().to_string(), "ffff:ffff:ffff:ffff::");
    }

    #[test]
    fn an_interface_name_is_what_the_kernel_takes_and_a_safe_file_name() {
        for bad in ["", ".", "..", "a/b", "a b", "sixteen-letters-", "a\0", "ü", "eth0:1"] {
            assert!(InterfaceName::new(bad).is_err(), "{bad:?}");
        }
        for good in ["eth0", "carrack0", "fifteen-letters", "br-1.2_x"] {
            assert_eq!(InterfaceName::new(good).unwrap().as_str(), good);
        }
    }
}
