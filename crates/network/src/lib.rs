//! Attaches network namespaces to the built-in bridge and detaches them.
//!
//! A pod's network namespace is pinned by name ([`create_netns`]) and connected with a bridge by a pair of virtual interfaces
//! ([`Network::attach`]). Static nftables rules masquerade what leaves, and lead published ports to pods by maps whose elements come and go
//! with the pods. No program is run; the kernel is spoken to over netlink.
//!
//! ```text
//! pinned   namespaces pinned under /run/netns         host     bridge, rules and settings that all pods share
//! network  attach, detach, reconcile, teardown        wire     one pod's pair of interfaces
//! lease    addresses                                  claim    ports of the host
//! state    the files of all that                      setting  kernel settings, planned and put back
//! netlink  messages, sockets, links and routes        nft      rules and elements as values, and their encoding
//! flow     forgetting tracked connections             resolv, hosts   files inside the pod (pure)
//! ```
//!
//! All is synchronous and may be called from several processes at once. Needs CAP_NET_ADMIN and CAP_SYS_ADMIN.

#![forbid(unsafe_code)]

mod attachment;
mod claim;
mod config;
mod error;
mod flow;
mod host;
mod hosts;
mod lease;
mod network;
mod nft;
mod pinned;
mod resolv;
mod route;
mod setting;
mod state;
mod wire;

pub use attachment::{
    AttachRequest, Attached, Attachment, Change, InterfaceAddress, MacAddress, PortMapping, Protocol,
};
pub use carrack_netlink::NetlinkError;
pub use config::{ConfigError, InterfaceName, NetworkConfig, Subnet4, Subnet6};
pub use error::{NetworkError, PortHolder};
pub use hosts::{HostsFile, hostname_file, hosts_file};
pub use network::Network;
pub use pinned::{NETNS_DIRECTORY, NetnsError, create_netns, netns_names, remove_netns};
pub use resolv::{DnsOverride, HostResolvFiles, ResolvConf, ResolvNote, resolv_conf};
