//! What can go wrong while attaching and detaching.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use carrack_words::{Kind, PodId};

use crate::{InterfaceName, Protocol};
use carrack_netlink::NetlinkError;

/// Who has a port of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortHolder {
    /// Another pod publishes it.
    Pod(PodId),
    /// The same request names it twice.
    SameRequest,
    /// A process on the host listens there.
    HostProcess,
}

impl fmt::Display for PortHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(pod) => write!(f, "pod {pod} publishes it"),
            Self::SameRequest => f.write_str("it is asked for twice"),
            Self::HostProcess => f.write_str("a process on the host uses it"),
        }
    }
}

/// A failure of the built-in network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A port of the host is taken.
    #[error("port {port}/{protocol} on {address} is taken: {holder}")]
    PortTaken {
        /// The transport.
        protocol: Protocol,
        /// The address on the host, or `all addresses`.
        address: String,
        /// The port on the host.
        port: u16,
        /// Who has it.
        holder: PortHolder,
    },
    /// No port of the ephemeral range is free.
    #[error("no free {protocol} port between {first} and {last} on the host")]
    NoPortLeft {
        /// The transport.
        protocol: Protocol,
        /// The range's first port.
        first: u16,
        /// The range's last port.
        last: u16,
    },
    /// A port mapping cannot be done at all.
    #[error("cannot publish port {container_port}/{protocol}: {reason}")]
    InvalidPort {
        /// The transport.
        protocol: Protocol,
        /// The port in the pod.
        container_port: u16,
        /// Why not.
        reason: &'static str,
    },
    /// A port was to be published on an address that no interface of the host has.
    #[error("cannot publish port {port}/{protocol} on {address}: no interface of the host has that address")]
    NotOurAddress {
        /// The transport.
        protocol: Protocol,
        /// The port on the host.
        port: u16,
        /// The address.
        address: IpAddr,
    },
    /// All addresses of the subnet are leased.
    #[error("no address is left in {subnet}: {leased} are leased")]
    NoAddressLeft {
        /// The subnet.
        subnet: String,
        /// How many leases there are.
        leased: u32,
    },
    /// The subnet would shadow one that the host is already connected to.
    #[error("subnet {subnet} of the built-in network overlaps {route}, which the host reaches through {interface}")]
    SubnetInUse {
        /// Our subnet.
        subnet: String,
        /// The other one.
        route: String,
        /// The other one's interface.
        interface: String,
    },
    /// The bridge was made by another engine, or by somebody else.
    #[error("interface {bridge} exists and belongs to {owner}")]
    ForeignBridge {
        /// The bridge's name.
        bridge: InterfaceName,
        /// The other engine's run directory, or what else is known.
        owner: String,
    },
    /// The pod's network namespace cannot be entered.
    #[error("enter network namespace {path}")]
    Netns {
        /// Where it is pinned.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The pod is attached already, in a namespace that still exists, with other ports or another interface name.
    #[error("pod {pod} is attached already, with other ports or another interface")]
    OtherAttachment {
        /// The pod.
        pod: PodId,
    },
    /// The kernel refused a change of links, addresses, routes or rules.
    #[error("{doing}")]
    Kernel {
        /// What was tried, on what.
        doing: String,
        /// The cause.
        source: NetlinkError,
    },
    /// A file of the network's own state, or a kernel setting.
    #[error("{doing} {path}")]
    File {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A record on disk is not what this program writes.
    #[error("read record {path}")]
    Record {
        /// The record.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
    /// A clean-up went on after failures; these are all of them.
    #[error("clean up the network: {}", join(.failures))]
    CleanUp {
        /// Each failure, with its causes.
        failures: Vec<NetworkError>,
    },
}

fn join(failures: &[NetworkError]) -> String {
    let chain = |failure: &NetworkError| {
        let mut text = failure.to_string();
        let mut cause = std::error::Error::source(failure);
        while let Some(error) = cause {
            text += &format!(": {error}");
            cause = error.source();
        }
        text
    };
    failures.iter().map(chain).collect::<Vec<_>>().join("; ")
}

impl NetworkError {
    /// Its class.
    pub fn kind(&self) -> Kind {
        match self {
            Self::PortTaken { .. } | Self::OtherAttachment { .. } => Kind::AlreadyExists,
            Self::InvalidPort { .. } | Self::NotOurAddress { .. } => Kind::Invalid,
            Self::NoAddressLeft { .. } | Self::NoPortLeft { .. } => Kind::Exhausted,
            Self::SubnetInUse { .. } | Self::ForeignBridge { .. } => Kind::Precondition,
            Self::Netns { source, .. } if source.kind() == io::ErrorKind::NotFound => Kind::NotFound,
            Self::File { source, .. } | Self::Netns { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => Kind::Denied,
                io::ErrorKind::StorageFull => Kind::Exhausted,
                _ => Kind::Internal,
            },
            Self::Kernel { source, .. } => source.kind(),
            Self::Record { .. } => Kind::DataLoss,
            Self::CleanUp { failures } => failures.first().map_or(Kind::Internal, Self::kind),
        }
    }
}
