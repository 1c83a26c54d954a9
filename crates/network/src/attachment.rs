//! What is asked of the network for a pod, and what the pod then has.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use carrack_words::PodId;
use serde::{Deserialize, Serialize};

use crate::InterfaceName;

/// The transport of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The number in the IP header (IANA protocol numbers).
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// One published port: what reaches the host there goes to the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortMapping {
    /// The transport.
    pub protocol: Protocol,
    /// The port in the pod; not 0.
    pub container_port: u16,
    /// The port on the host; 0: a free one is chosen, and [`Attachment::ports`] tells which.
    pub host_port: u16,
    /// The host's address to publish on; `None`: all of both families; `0.0.0.0` or `::`: all of that family.
    pub host_ip: Option<IpAddr>,
}

/// What a pod needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachRequest {
    /// The pod; one pod has one attachment.
    pub id: PodId,
    /// The pinned network namespace, see [`crate::create_netns`].
    pub netns: PathBuf,
    /// The interface's name inside; `eth0` as a rule.
    pub interface: InterfaceName,
    /// The ports to publish.
    pub ports: Vec<PortMapping>,
}

/// An address of a pod's interface and the way out of its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceAddress {
    /// The address.
    pub ip: IpAddr,
    /// The length of the network's prefix in bits.
    pub prefix: u8,
    /// The next hop of the default route: the bridge.
    pub gateway: IpAddr,
}

/// A hardware address; prints as `02:ca:0a:72:00:02`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// What a pod has once it is attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The interface's name inside.
    pub interface: InterfaceName,
    /// Its hardware address.
    pub mac: MacAddress,
    /// Its largest packet.
    pub mtu: u32,
    /// The name of its other end, on the host's bridge.
    pub host_interface: InterfaceName,
    /// Its addresses: IPv4 first, then IPv6 if the network has it.
    pub addresses: Vec<InterfaceAddress>,
    /// The published ports, each with the host port that it really has.
    pub ports: Vec<PortMapping>,
}

/// Something that was changed on the host so that pods can be reached; for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The bridge was made.
    Bridge {
        /// Its name.
        name: InterfaceName,
        /// Its largest packet.
        mtu: u32,
    },
    /// The nftables table was made, or replaced because its rules were of another version.
    Rules {
        /// Its name, in the family `inet`.
        table: String,
        /// How many published ports were put back into it.
        restored_ports: usize,
    },
    /// A kernel setting was changed. [`crate::Network::teardown`] puts it back.
    Setting {
        /// Its name as `sysctl` has it.
        name: String,
        /// What it was.
        from: String,
        /// What it is now.
        to: String,
    },
    /// Rules that let the bridge's packets pass were put at the head of somebody's chain which drops forwarded packets by default (as
    /// Docker sets it): an accepting rule in our table cannot overrule it. [`crate::Network::teardown`] removes them.
    LetThrough {
        /// The chain's family, table and name.
        chain: String,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bridge { name, mtu } => write!(f, "made bridge {name} with mtu {mtu}"),
            Self::Rules { table, restored_ports } => {
                write!(f, "made nftables table inet {table} with {restored_ports} published ports")
            }
            Self::Setting { name, from, to } => write!(f, "set {name} from {from} to {to}"),
            Self::LetThrough { chain } => {
                write!(f, "let pods through chain {chain}, which drops forwarded packets by default")
            }
        }
    }
}

/// The result of [`crate::Network::attach`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// What the pod has.
    pub attachment: Attachment,
    /// What had to be changed on the host first; empty but for the first pod.
    pub changes: Vec<Change>,
}
