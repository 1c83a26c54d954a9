//! The network's static rules. Pods only add and remove elements of its maps.
//!
//! ```text
//! raw-prerouting  (before connection tracking)  loopback addresses from elsewhere: drop
//! raw-output      (before connection tracking)  ::1 to a published port: stand-in address as source
//! prerouting      (nat)   to the host itself: published-ports
//! output          (nat)   to the host itself: published-ports
//! published-ports         map look-up, destination rewritten to the pod
//! postrouting     (nat)   out of the bridge, back into it, or from the host's loopback: masquerade
//! forward                 into the bridge only what was asked for; interfaces that were apart stay apart
//! input           (after nat)  answers to the stand-in address: back to ::1
//! ```
//!
//! The host's 127.0.0.1 reaches pods because the bridge has `route_localnet`: the destination is rewritten on output, the source after routing.
//! `raw-prerouting` keeps others from using that door (CVE-2020-8558): nothing from an interface may name a loopback address, neither
//! pods nor the host's neighbours.
//!
//! IPv6 has no `route_localnet`, and an answer to ::1 that comes in on the bridge is dropped before any rule could restore it
//! (`ip6_rcv_core`, or, behind br_netfilter, right after the bridge's own hook has). So a connection from ::1 to ::1 and a published port gets a *stand-in* source
//! address before it is tracked; the bridge has that address, as a deprecated one that the kernel never picks by itself. The answer's source is
//! restored to ::1 by the tracked rewriting at the input hook, and right behind that the stand-in destination becomes ::1 again, before a socket
//! is looked up. Packets to the stand-in that do not answer such a connection are dropped.

use super::element::{ANY4, ANY6, AT4, AT6, LOOPBACK6};
use super::expression::{
    Direction, Expression, Family, Is, Rule, Side, Verdict, address_in, address_is, direction, family, interface,
    interface_in, interface_key, known_connection, load_address, published_connection, set_address, to_this_host,
    transport_and_port,
};
use crate::{InterfaceName, NetworkConfig};

/// Where a chain hangs (`NF_INET_*`, the same numbers as in the kernel).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// What a base chain may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChainKind {
    Filter,
    Nat,
}

/// A place in the packet's way through the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) kind: ChainKind,
    pub(crate) hook: Hook,
    pub(crate) priority: i32,
}

/// A chain of rules; without a base, other chains jump to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    pub(crate) base: Option<Base>,
    pub(crate) rules: Vec<Rule>,
}

/// A part of a set's key or of a map's value, with the number by which `nft` knows how to print it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Datum {
    Ipv4,
    Ipv6,
    Transport,
    Port,
    Interface,
}

impl Datum {
    /// The length in bytes.
    pub(crate) fn length(self) -> usize {
        match self {
            Self::Ipv4 => 4,
            Self::Ipv6 | Self::Interface => 16,
            Self::Transport => 1,
            Self::Port => 2,
        }
    }

    /// `enum datatypes` of nft.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Ipv4 => 7,
            Self::Ipv6 => 8,
            Self::Transport => 12,
            Self::Port => 13,
            Self::Interface => 41,
        }
    }
}

/// A set; with a value, a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) name: &'static str,
    pub(crate) key: Vec<Datum>,
    pub(crate) value: Vec<Datum>,
    /// Elements that are there from the beginning.
    pub(crate) elements: Vec<Vec<u8>>,
}

/// All that stands in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ruleset {
    pub(crate) table: String,
    pub(crate) sets: Vec<Set>,
    pub(crate) chains: Vec<Chain>,
}

/// The sets whose elements are pods' published ports.
pub(crate) const MAPS: [&str; 5] = [ANY4, AT4, ANY6, AT6, LOOPBACK6];

const APART4: &str = "apart4";
const APART6: &str = "apart6";
const PUBLISHED_PORTS: &str = "published-ports";

/// Interfaces between which the host did not forward before forwarding was turned on for pods; it still does not. Empty: it forwarded already.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Apart {
    pub(crate) ipv4: Vec<InterfaceName>,
    pub(crate) ipv6: Vec<InterfaceName>,
}

/// The rules for a network.
pub(crate) fn plan(config: &NetworkConfig, apart: &Apart) -> Ruleset {
    let filter = |hook, priority| Some(Base { kind: ChainKind::Filter, hook, priority });
    let nat = |hook, priority| Some(Base { kind: ChainKind::Nat, hook, priority });
    let chain = |name, base, rules| Chain { name, base, rules };
    // The kernel's own steps: connection tracking at -200, destination rewriting at -100, source rewriting at 100.
    let chains = vec![
        chain(PUBLISHED_PORTS, None, published_ports(config)),
        chain("raw-prerouting", filter(Hook::Prerouting, -300), raw_prerouting(config)),
        chain("raw-output", filter(Hook::Output, -300), raw_output(config)),
        chain("prerouting", nat(Hook::Prerouting, -100), vec![to_published_ports()]),
        chain("output", nat(Hook::Output, -100), vec![to_published_ports()]),
        chain("postrouting", nat(Hook::Postrouting, 100), postrouting(config)),
        chain("forward", filter(Hook::Forward, 0), forward(config, apart)),
        chain("input", filter(Hook::Input, 200), input(config)),
    ];
    Ruleset { table: config.bridge.as_str().to_owned(), sets: sets(apart), chains }
}

/// What lets the bridge's packets pass a chain of somebody else that drops what it does not know. Our own chains decide about them.
pub(crate) fn pass(bridge: &InterfaceName) -> Vec<Rule> {
    let by = |side| rule(&[interface(side, Is::Equal, bridge.as_str())], decide(Verdict::Accept));
    vec![by(Side::Source), by(Side::Destination)]
}

fn sets(apart: &Apart) -> Vec<Set> {
    use Datum::{Interface, Ipv4, Ipv6, Port, Transport};
    let map =
        |name, key: &[Datum], value: &[Datum]| Set { name, key: key.to_vec(), value: value.to_vec(), elements: vec![] };
    let names = |name, interfaces: &[InterfaceName]| Set {
        name,
        key: vec![Interface],
        value: vec![],
        elements: interfaces.iter().map(|name| interface_key(name.as_str())).collect(),
    };
    vec![
        map(ANY4, &[Transport, Port], &[Ipv4, Port]),
        map(AT4, &[Ipv4, Transport, Port], &[Ipv4, Port]),
        map(ANY6, &[Transport, Port], &[Ipv6, Port]),
        map(AT6, &[Ipv6, Transport, Port], &[Ipv6, Port]),
        map(LOOPBACK6, &[Transport, Port], &[]),
        names(APART4, &apart.ipv4),
        names(APART6, &apart.ipv6),
    ]
}

fn rule(parts: &[Rule], last: Expression) -> Rule {
    parts.iter().flatten().cloned().chain([last]).collect()
}

fn decide(verdict: Verdict) -> Expression {
    Expression::Decide(verdict)
}

const LOOPBACK4: ([u8; 4], [u8; 4]) = ([127, 0, 0, 0], [255, 0, 0, 0]);
const LOOPBACK: [u8; 16] = std::net::Ipv6Addr::LOCALHOST.octets();

fn raw_prerouting(config: &NetworkConfig) -> Vec<Rule> {
    let elsewhere = || interface(Side::Source, Is::Different, "lo");
    let loopback4 = |side| address_in(Family::Ipv4, side, &LOOPBACK4.0, &LOOPBACK4.1);
    let drop4 = |side| rule(&[family(Family::Ipv4), elsewhere(), loopback4(side)], decide(Verdict::Drop));
    let drop6 = |side, address: [u8; 16]| {
        rule(&[family(Family::Ipv6), elsewhere(), address_is(Family::Ipv6, side, &address)], decide(Verdict::Drop))
    };
    let mut rules = vec![drop4(Side::Source), drop4(Side::Destination)];
    rules.extend([drop6(Side::Source, LOOPBACK), drop6(Side::Destination, LOOPBACK)]);
    rules.extend(config.subnet6.map(|subnet| drop6(Side::Source, subnet.loopback_stand_in().octets())));
    rules
}

fn raw_output(config: &NetworkConfig) -> Vec<Rule> {
    let Some(subnet) = config.subnet6 else { return vec![] };
    let from_and_to_itself = [
        family(Family::Ipv6),
        address_is(Family::Ipv6, Side::Source, &LOOPBACK),
        address_is(Family::Ipv6, Side::Destination, &LOOPBACK),
        transport_and_port(0),
        vec![Expression::Lookup { set: LOOPBACK6, key: 0, value: None }],
    ];
    let stand_in = set_address(Family::Ipv6, Side::Source, &subnet.loopback_stand_in().octets());
    vec![[from_and_to_itself.concat(), stand_in].concat()]
}

fn to_published_ports() -> Rule {
    rule(&[to_this_host()], decide(Verdict::Jump(PUBLISHED_PORTS)))
}

/// A port on one address counts before the same port on all addresses (which claims keep from being two pods').
fn published_ports(config: &NetworkConfig) -> Vec<Rule> {
    let publish = |of: Family, set, key: Rule| {
        let rewrite = Expression::RewriteDestination { family: of, address: 0, port: of.registers() };
        rule(&[family(of), key, vec![Expression::Lookup { set, key: 0, value: Some(0) }]], rewrite)
    };
    let at = |of: Family| [load_address(of, Side::Destination, 0), transport_and_port(of.registers())].concat();
    let mut rules =
        vec![publish(Family::Ipv4, AT4, at(Family::Ipv4)), publish(Family::Ipv4, ANY4, transport_and_port(0))];
    if config.subnet6.is_some() {
        rules
            .extend([publish(Family::Ipv6, AT6, at(Family::Ipv6)), publish(Family::Ipv6, ANY6, transport_and_port(0))]);
    }
    rules
}

fn postrouting(config: &NetworkConfig) -> Vec<Rule> {
    let bridge = config.bridge.as_str();
    let out = |is| interface(Side::Destination, is, bridge);
    let masquerade = |parts: &[Rule]| rule(parts, Expression::Masquerade);
    let pods4 = || {
        let (network, mask) = (config.subnet4.network().octets(), config.subnet4.mask().octets());
        [family(Family::Ipv4), address_in(Family::Ipv4, Side::Source, &network, &mask)].concat()
    };
    let host4 = [family(Family::Ipv4), address_in(Family::Ipv4, Side::Source, &LOOPBACK4.0, &LOOPBACK4.1)].concat();
    let mut rules = vec![
        masquerade(&[pods4(), out(Is::Different)]),
        // A pod that calls a pod by a port of the host has to be answered by the host, or it would not know the sender.
        masquerade(&[pods4(), out(Is::Equal), published_connection()]),
        masquerade(&[host4, out(Is::Equal)]),
    ];
    if let Some(subnet) = config.subnet6 {
        let stand_in = subnet.loopback_stand_in().octets();
        let host6 = [family(Family::Ipv6), address_is(Family::Ipv6, Side::Source, &stand_in)].concat();
        let pods6 = || {
            let (network, mask) = (subnet.network().octets(), subnet.mask().octets());
            [family(Family::Ipv6), address_in(Family::Ipv6, Side::Source, &network, &mask)].concat()
        };
        rules.extend([
            rule(&[host6, out(Is::Equal)], decide(Verdict::Accept)),
            masquerade(&[pods6(), out(Is::Different)]),
            masquerade(&[pods6(), out(Is::Equal), published_connection()]),
        ]);
    }
    rules
}

fn forward(config: &NetworkConfig, apart: &Apart) -> Vec<Rule> {
    let bridge = config.bridge.as_str();
    let into = || interface(Side::Destination, Is::Equal, bridge);
    let between = |of, set| {
        rule(
            &[family(of), interface_in(Side::Source, set), interface_in(Side::Destination, set)],
            decide(Verdict::Drop),
        )
    };
    let mut rules = vec![];
    rules.extend((!apart.ipv4.is_empty()).then(|| between(Family::Ipv4, APART4)));
    rules.extend((!apart.ipv6.is_empty()).then(|| between(Family::Ipv6, APART6)));
    rules.extend([
        rule(&[into(), known_connection()], decide(Verdict::Accept)),
        rule(&[into(), published_connection()], decide(Verdict::Accept)),
        // Behind br_netfilter, packets between two pods come by here as well: these come from the bridge.
        rule(&[into(), interface(Side::Source, Is::Different, bridge)], decide(Verdict::Drop)),
    ]);
    rules
}

fn input(config: &NetworkConfig) -> Vec<Rule> {
    let Some(subnet) = config.subnet6 else { return vec![] };
    let to_stand_in = || {
        let address = subnet.loopback_stand_in().octets();
        [family(Family::Ipv6), address_is(Family::Ipv6, Side::Destination, &address)].concat()
    };
    let answer = [to_stand_in(), direction(Direction::Reply), published_connection()].concat();
    vec![
        rule(&[answer, set_address(Family::Ipv6, Side::Destination, &LOOPBACK)], decide(Verdict::Accept)),
        // Neighbour discovery is not tracked and has no direction: it passes.
        rule(&[to_stand_in(), direction(Direction::Original)], decide(Verdict::Drop)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules_of(ruleset: &Ruleset, chain: &str) -> usize {
        ruleset.chains.iter().find(|c| c.name == chain).unwrap().rules.len()
    }

    #[test]
    fn every_set_and_chain_that_a_rule_names_is_there() {
        let apart = Apart { ipv4: vec![InterfaceName::new("eth0").unwrap()], ..Default::default() };
        let ruleset = plan(&NetworkConfig::default(), &apart);
        for expression in ruleset.chains.iter().flat_map(|chain| chain.rules.iter().flatten()) {
            match expression {
                Expression::Lookup { set, .. } => assert!(ruleset.sets.iter().any(|s| s.name == *set), "{set}"),
                Expression::Decide(Verdict::Jump(to)) => assert!(ruleset.chains.iter().any(|c| c.name == *to), "{to}"),
                _ => {}
            }
        }
        for map in MAPS {
            assert!(ruleset.sets.iter().any(|set| set.name == map));
        }
    }

    #[test]
    fn without_ipv6_no_rule_looks_at_it_but_the_guard_of_loopback() {
        let ruleset = plan(&NetworkConfig { subnet6: None, ..Default::default() }, &Apart::default());
        assert_eq!(rules_of(&ruleset, "raw-prerouting"), 4);
        assert_eq!(rules_of(&ruleset, "raw-output"), 0);
        assert_eq!(rules_of(&ruleset, PUBLISHED_PORTS), 2);
        assert_eq!(rules_of(&ruleset, "postrouting"), 3);
        assert_eq!(rules_of(&ruleset, "input"), 0);
    }

    #[test]
    fn interfaces_are_kept_apart_only_where_forwarding_was_off() {
        let eth = |n: u8| InterfaceName::new(format!("eth{n}")).unwrap();
        let count = |apart: &Apart| rules_of(&plan(&NetworkConfig::default(), apart), "forward");
        assert_eq!(count(&Apart::default()), 3);
        assert_eq!(count(&Apart { ipv4: vec![eth(0), eth(1)], ipv6: vec![] }), 4);
        assert_eq!(count(&Apart { ipv4: vec![eth(0)], ipv6: vec![eth(0)] }), 5);
    }
}
