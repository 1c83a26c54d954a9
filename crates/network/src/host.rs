//! The host's side that all pods share: bridge, rules, settings.
//!
//! Made by whoever attaches the first pod, looked at by each who attaches another, and made again where somebody took it away (a
//! firewall that flushes all rules, an administrator who reloads settings).

use std::net::IpAddr;
use std::path::Path;

use carrack_words::PodId;

use crate::claim::{Families, host_addresses};
use crate::nft::{self, Apart, Element, PublishedPort};
use crate::route::{self, Link, Preference};
use crate::setting::{self, Forwarding, HostInterface};
use crate::state::{Held, Record, State};
use crate::{Change, InterfaceName, MacAddress, NetworkConfig, NetworkError};
use carrack_netlink::{Batch, NetlinkError, Pool, Socket};

/// How a bridge's alias begins; the run directory follows.
const OWNER: &str = "carrack:";
/// `IFALIASZ` is 256.
const MAX_ALIAS: usize = 255;
const DEFAULT_MTU: u32 = 1500;
/// IPv6 is not possible with less.
const LEAST_MTU: u32 = 1280;

/// One engine's part of the host.
#[derive(Debug)]
pub(crate) struct Host<'a> {
    pub(crate) config: &'a NetworkConfig,
    pub(crate) state: &'a State,
    /// The run directory, by which the bridge knows its engine.
    pub(crate) owner: &'a Path,
    pub(crate) sockets: &'a Pool,
}

/// The bridge, when all is in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bridge {
    pub(crate) index: u32,
    pub(crate) mtu: u32,
    pub(crate) is_operational: bool,
}

impl From<Link> for Bridge {
    fn from(link: Link) -> Self {
        Self { index: link.index, mtu: link.mtu, is_operational: link.is_operational }
    }
}

/// Somebody's chain, and the handles of our rules in it.
type Passage = (nft::ForeignChain, Vec<Vec<u8>>);

pub(crate) fn kernel(doing: impl Into<String>) -> impl FnOnce(NetlinkError) -> NetworkError {
    move |source| NetworkError::Kernel { doing: doing.into(), source }
}

impl Host<'_> {
    /// Which families pods get.
    pub(crate) fn families(&self) -> Families {
        if self.config.subnet6.is_some() { Families::Both } else { Families::Ipv4 }
    }

    /// Looks whether all is in place: a few short questions, since every attachment asks them.
    pub(crate) fn find(&self, links: &Socket) -> Result<Option<Bridge>, NetworkError> {
        let link = match self.own_link(links) {
            // Between two requests of its maker, who has the lock, a new bridge has no owner yet.
            Err(NetworkError::ForeignBridge { .. }) => None,
            other => other?,
        };
        let Some(link) = link.filter(|link| link.is_up) else { return Ok(None) };
        if !Forwarding::load()?.is_on(self.config.subnet6.is_some()) {
            return Ok(None);
        }
        let rules = nft::plan(self.config, &setting::recorded(self.state)?.apart);
        Ok(self.has_table(&rules)?.then(|| link.into()))
    }

    fn has_table(&self, rules: &nft::Ruleset) -> Result<bool, NetworkError> {
        let socket = self.sockets.netfilter().map_err(kernel("look at nftables"))?;
        let comment =
            nft::table_comment(&socket, &rules.table).map_err(kernel(format!("look at table {}", rules.table)))?;
        Ok(comment.is_some_and(|comment| comment == rules.fingerprint()))
    }

    /// Our bridge, if it is there. One of somebody else is an error.
    fn own_link(&self, links: &Socket) -> Result<Option<Link>, NetworkError> {
        let name = &self.config.bridge;
        let Some(link) = route::link_named(links, name.as_str()).map_err(kernel(format!("look up {name}")))? else {
            return Ok(None);
        };
        let foreign = |owner: String| Err(NetworkError::ForeignBridge { bridge: name.clone(), owner });
        match link.alias.strip_prefix(OWNER) {
            _ if link.alias == self.alias() => Ok(Some(link)),
            // Left over from an engine whose state is gone for good.
            Some(other) if link.kind == "bridge" && !Path::new(other).join("network").exists() => Ok(Some(link)),
            Some(other) => foreign(format!("the engine with run directory {other}")),
            None => foreign("somebody else".to_owned()),
        }
    }

    fn alias(&self) -> String {
        let mut alias = format!("{OWNER}{}", self.owner.display());
        while alias.len() > MAX_ALIAS {
            alias.pop();
        }
        alias
    }

    /// Makes what is missing. The order: bridge; rules, which keep apart what forwarding would join; forwarding.
    pub(crate) fn ensure(&self, links: &Socket, lock: &Held) -> Result<(Bridge, Vec<Change>), NetworkError> {
        let mut changes = Vec::new();
        let with_ipv6 = self.config.subnet6.is_some();
        let (bridge, made) = self.ensure_bridge(links)?;
        changes.extend(made);
        for (path, value) in setting::of_bridge(&self.config.bridge, with_ipv6) {
            changes.extend(setting::set(&path, value)?);
        }
        let interfaces = self.other_interfaces(links)?;
        let earlier = setting::recorded(self.state)?;
        let (steps, settings) = setting::plan(&earlier, &Forwarding::load()?, with_ipv6, &interfaces);
        if settings != earlier {
            setting::record(self.state, &settings)?;
        }
        changes.extend(self.ensure_rules(&settings.apart, lock)?);
        changes.extend(self.ensure_passage(lock)?);
        changes.extend(setting::apply(&steps)?);
        Ok((bridge, changes))
    }

    fn ensure_bridge(&self, links: &Socket) -> Result<(Bridge, Option<Change>), NetworkError> {
        let name = &self.config.bridge;
        let mut batch = Batch::new();
        let mut change = None;
        match self.own_link(links)? {
            Some(link) => route::bring_up(&mut batch, link.index),
            None => {
                let mtu = self.choose_mtu(links)?;
                let gateway = self.config.subnet4.gateway().octets();
                route::create_bridge(&mut batch, name.as_str(), mac(0x02, gateway), mtu);
                change = Some(Change::Bridge { name: name.clone(), mtu });
            }
        }
        route::set_alias(&mut batch, name.as_str(), &self.alias());
        links.exchange(&batch).map_err(kernel(format!("make bridge {name}")))?;
        let link = self.own_link(links)?.ok_or_else(|| {
            let source = std::io::Error::from(std::io::ErrorKind::NotFound);
            NetworkError::File { doing: "find the bridge just made:", path: name.as_str().into(), source }
        })?;
        self.give_addresses(links, link.index)?;
        Ok((link.into(), change))
    }

    fn give_addresses(&self, links: &Socket, bridge: u32) -> Result<(), NetworkError> {
        let mut batch = Batch::new();
        let subnet4 = self.config.subnet4;
        let mut add = |ip, prefix, preference| route::add_address(&mut batch, bridge, ip, prefix, preference);
        add(subnet4.gateway().into(), subnet4.prefix(), Preference::Normal);
        if let Some(subnet6) = self.config.subnet6 {
            add(subnet6.gateway().into(), subnet6.prefix(), Preference::Normal);
            add(subnet6.loopback_stand_in().into(), 128, Preference::OnlyWhenNamed);
        }
        links.exchange(&batch).map(drop).map_err(kernel(format!("give addresses to {}", self.config.bridge)))
    }

    /// Refuses a subnet that the host reaches elsewhere, and finds the size of packets that fits the way out.
    fn choose_mtu(&self, links: &Socket) -> Result<u32, NetworkError> {
        let routes = route::routes(links).map_err(kernel("look at the host's routes"))?;
        let link_of = |index| route::link_at(links, index).map_err(kernel("look up an interface of the host"));
        if let Some((subnet, other)) = conflict(self.config, &routes) {
            let link = link_of(other.interface)?;
            return Err(NetworkError::SubnetInUse {
                subnet,
                route: format!("{}/{}", other.destination, other.prefix),
                interface: link.map(|link| link.name).unwrap_or_else(|| other.interface.to_string()),
            });
        }
        let way_out = match routes.iter().find(|route| route.prefix == 0) {
            Some(route) => link_of(route.interface)?.map(|link| link.mtu),
            None => None,
        };
        Ok(self.config.mtu.unwrap_or_else(|| way_out.unwrap_or(DEFAULT_MTU).clamp(LEAST_MTU, 65535)))
    }

    /// The interfaces of the host that forward, but for loopback and the bridge.
    fn other_interfaces(&self, links: &Socket) -> Result<Vec<HostInterface>, NetworkError> {
        let mut interfaces = Vec::new();
        for link in route::links(links).map_err(kernel("list the host's interfaces"))? {
            let Ok(name) = InterfaceName::new(link.name) else { continue };
            // A port of a bridge has no part in forwarding, and comes and goes.
            if link.is_port || name == self.config.bridge || name.as_str() == "lo" {
                continue;
            }
            let accept_ra = setting::accept_ra(&name)?;
            interfaces.push(HostInterface { name, accept_ra });
        }
        Ok(interfaces)
    }

    fn ensure_rules(&self, apart: &Apart, _lock: &Held) -> Result<Vec<Change>, NetworkError> {
        let rules = nft::plan(self.config, apart);
        if self.has_table(&rules)? {
            return Ok(Vec::new());
        }
        let records = self.state.records()?;
        let ports: Vec<PublishedPort> =
            records.iter().flat_map(|record| published_ports(record, self.families())).collect();
        let elements: Vec<Element> = ports.iter().flat_map(nft::elements).collect();
        let socket = self.sockets.netfilter().map_err(kernel("make rules"))?;
        let batch = nft::replace_table(&rules, &rules.fingerprint(), &elements);
        socket.exchange(&batch).map_err(kernel(format!("make nftables table inet {}", rules.table)))?;
        Ok(vec![Change::Rules { table: rules.table.clone(), restored_ports: ports.len() }])
    }

    /// Lets pods pass where somebody drops forwarded packets by default. Chains of the old iptables, not kept by nftables, are out of
    /// sight.
    fn ensure_passage(&self, _lock: &Held) -> Result<Vec<Change>, NetworkError> {
        let socket = self.sockets.netfilter().map_err(kernel("look for other forwarding rules"))?;
        let rules = nft::pass(&self.config.bridge);
        let mut changes = Vec::new();
        for (chain, handles) in self.passages(&socket)? {
            if chain.drops && handles.len() != rules.len() {
                self.close_passage(&socket, &chain, &handles)?;
                let doing = kernel(format!("let pods through chain {}", chain.path()));
                socket.exchange(&nft::insert_rules(&chain, &rules, &self.mark())).map_err(doing)?;
                changes.push(Change::LetThrough { chain: chain.path() });
            }
        }
        Ok(changes)
    }

    /// Everybody else's chains for forwarded packets.
    fn passages(&self, socket: &Socket) -> Result<Vec<Passage>, NetworkError> {
        let doing = || kernel("look for other forwarding rules");
        let chains = nft::forward_chains(socket).map_err(doing())?;
        let foreign = chains.into_iter().filter(|chain| chain.table != self.config.bridge.as_str());
        foreign
            .map(|chain| {
                let handles = nft::rules_with(socket, &chain, &self.mark()).map_err(doing())?;
                Ok((chain, handles))
            })
            .collect()
    }

    fn close_passage(
        &self,
        socket: &Socket,
        chain: &nft::ForeignChain,
        handles: &[Vec<u8>],
    ) -> Result<(), NetworkError> {
        if handles.is_empty() {
            return Ok(());
        }
        match socket.exchange(&nft::delete_rules(chain, handles)) {
            Err(error) if error.is_absent() => Ok(()),
            other => other.map(drop).map_err(kernel(format!("remove our rules from chain {}", chain.path()))),
        }
    }

    /// The comment by which we know our rules among somebody's.
    fn mark(&self) -> String {
        format!("carrack: {}", self.config.bridge)
    }

    /// Publishes ports. Claims make them ours, so an element that is in the way is a left-over and gives way.
    pub(crate) fn publish(&self, record: &Record, _lock: &Held) -> Result<(), NetworkError> {
        let table = self.config.bridge.as_str();
        let elements: Vec<Element> = published_ports(record, self.families()).iter().flat_map(nft::elements).collect();
        if elements.is_empty() {
            return Ok(());
        }
        let doing = || format!("publish ports of pod {}", record.pod);
        let socket = self.sockets.netfilter().map_err(kernel(doing()))?;
        match socket.exchange(&nft::add_elements(table, &elements)) {
            Err(error) if error.is_present() => {
                self.remove_elements(&socket, &elements, &record.pod)?;
                socket.exchange(&nft::add_elements(table, &elements)).map(drop).map_err(kernel(doing()))
            }
            other => other.map(drop).map_err(kernel(doing())),
        }
    }

    /// Takes ports back; what is gone already is fine.
    pub(crate) fn unpublish(&self, record: &Record) -> Result<(), NetworkError> {
        let elements: Vec<Element> = published_ports(record, self.families()).iter().flat_map(nft::elements).collect();
        if elements.is_empty() {
            return Ok(());
        }
        let socket = self.sockets.netfilter().map_err(kernel(format!("take back ports of pod {}", record.pod)))?;
        self.remove_elements(&socket, &elements, &record.pod)
    }

    fn remove_elements(&self, socket: &Socket, elements: &[Element], pod: &PodId) -> Result<(), NetworkError> {
        let table = self.config.bridge.as_str();
        let doing = || kernel(format!("take back ports of pod {pod}"));
        match socket.exchange(&nft::delete_elements(table, elements)) {
            // Some are there, perhaps: one at a time then, as one that is absent makes the kernel refuse them all.
            Err(error) if error.is_absent() && elements.len() > 1 => {
                elements.chunks(1).try_for_each(|one| self.remove_elements(socket, one, pod))
            }
            Err(error) if error.is_absent() => Ok(()),
            other => other.map(drop).map_err(doing()),
        }
    }

    /// Removes map elements that no record names.
    pub(crate) fn sweep_elements(&self, _lock: &Held) -> Result<(), NetworkError> {
        let table = self.config.bridge.as_str();
        let socket = self.sockets.netfilter().map_err(kernel("look for left-over ports"))?;
        let records = self.state.records()?;
        let wanted: Vec<Element> = records
            .iter()
            .flat_map(|record| published_ports(record, self.families()))
            .flat_map(|port| nft::elements(&port))
            .collect();
        for map in nft::MAPS {
            let found = nft::list_elements(&socket, table, map).map_err(kernel("look for left-over ports"))?;
            for element in found.iter().filter(|element| !wanted.contains(element)) {
                match socket.exchange(&nft::delete_elements(table, std::slice::from_ref(element))) {
                    Err(error) if error.is_absent() => {}
                    other => drop(other.map_err(kernel("remove a left-over port"))?),
                }
            }
        }
        Ok(())
    }

    /// Removes rules and bridge, and puts the settings back.
    pub(crate) fn remove(&self, links: &Socket, _lock: &Held) -> Result<(), NetworkError> {
        let name = &self.config.bridge;
        if let Some(link) = self.own_link(links)? {
            let mut batch = Batch::new();
            route::delete_link(&mut batch, &link.name);
            links.exchange(&batch).map_err(kernel(format!("remove bridge {name}")))?;
        }
        setting::restore(&setting::recorded(self.state)?)?;
        let socket = self.sockets.netfilter().map_err(kernel("remove rules"))?;
        for (chain, handles) in self.passages(&socket)? {
            self.close_passage(&socket, &chain, &handles)?;
        }
        match socket.exchange(&nft::delete_table(name.as_str())) {
            Err(error) if error.is_absent() => Ok(()),
            other => other.map(drop).map_err(kernel(format!("remove nftables table inet {name}"))),
        }
    }
}

/// The record's ports, each on each address of the host, with the pod's address of the same family.
pub(crate) fn published_ports(record: &Record, families: Families) -> Vec<PublishedPort> {
    let pod_address = |host_ip: IpAddr| {
        let mut addresses = record.attachment.addresses.iter().map(|address| address.ip);
        addresses.find(|ip| ip.is_ipv4() == host_ip.is_ipv4())
    };
    let mut published = Vec::new();
    for port in &record.attachment.ports {
        for host_ip in host_addresses(port, families) {
            let Some(pod_ip) = pod_address(host_ip) else { continue };
            let (protocol, host_port, pod_port) = (port.protocol, port.host_port, port.container_port);
            published.push(PublishedPort { protocol, host_ip, host_port, pod_ip, pod_port });
        }
    }
    published
}

/// A hardware address of our own making: locally administered, and the IPv4 address in it.
pub(crate) fn mac(first: u8, ip: [u8; 4]) -> MacAddress {
    let [a, b, c, d] = ip;
    MacAddress([first, 0xca, a, b, c, d])
}

/// The host's route that one of our subnets overlaps, unless it is a default route.
fn conflict<'a>(config: &NetworkConfig, routes: &'a [route::Route]) -> Option<(String, &'a route::Route)> {
    let mut subnets = vec![(IpAddr::from(config.subnet4.network()), config.subnet4.prefix())];
    subnets.extend(config.subnet6.map(|subnet| (subnet.network().into(), subnet.prefix())));
    subnets.into_iter().find_map(|(network, prefix)| {
        let found = routes
            .iter()
            .find(|route| route.prefix > 0 && overlap((network, prefix), (route.destination, route.prefix)))?;
        Some((format!("{network}/{prefix}"), found))
    })
}

fn overlap(one: (IpAddr, u8), other: (IpAddr, u8)) -> bool {
    let bits = u32::from(one.1.min(other.1));
    match (one.0, other.0) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u32::from(a) ^ u32::from(b)).checked_shr(32 - bits).unwrap_or(0) == 0,
        (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a) ^ u128::from(b)).checked_shr(128 - bits).unwrap_or(0) == 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> (IpAddr, u8) {
        let (address, prefix) = text.split_once('/').unwrap();
        (address.parse().unwrap(), prefix.parse().unwrap())
    }

    #[test]
    fn networks_overlap_if_one_holds_the_other() {
        let overlaps = |one, other| overlap(network(one), network(other));
        assert!(overlaps("10.114.0.0/16", "10.0.0.0/8") && overlaps("10.114.0.0/16", "10.114.3.0/24"));
        assert!(overlaps("10.114.0.0/16", "10.114.0.0/16") && overlaps("fd00::/64", "fd00::/8"));
        assert!(!overlaps("10.114.0.0/16", "10.115.0.0/16") && !overlaps("fd00::/64", "fd00:0:0:1::/64"));
        assert!(!overlaps("10.114.0.0/16", "fd00::/8"));
    }

    #[test]
    fn a_default_route_is_no_conflict() {
        let route = |text| {
            let (destination, prefix) = network(text);
            route::Route { destination, prefix, interface: 7 }
        };
        let config = NetworkConfig::default();
        assert_eq!(conflict(&config, &[route("0.0.0.0/0"), route("192.0.2.0/24"), route("::/0")]), None);
        let taken = [route("0.0.0.0/0"), route("10.0.0.0/8")];
        assert_eq!(conflict(&config, &taken), Some(("10.114.0.0/16".to_owned(), &taken[1])));
    }
}
