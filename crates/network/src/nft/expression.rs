//! The expressions that rules are made of. Pure.
//!
//! An expression works on registers of four bytes, numbered from 0 here; a failed comparison or look-up ends the rule.

use carrack_netlink::Message;

/// The address family of a packet (`NFPROTO_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Ipv4 => 2,
            Self::Ipv6 => 10,
        }
    }

    fn address(self, side: Side) -> Field {
        match (self, side) {
            (Self::Ipv4, Side::Source) => Field { base: NETWORK_HEADER, offset: 12, length: 4 },
            (Self::Ipv4, Side::Destination) => Field { base: NETWORK_HEADER, offset: 16, length: 4 },
            (Self::Ipv6, Side::Source) => Field { base: NETWORK_HEADER, offset: 8, length: 16 },
            (Self::Ipv6, Side::Destination) => Field { base: NETWORK_HEADER, offset: 24, length: 16 },
        }
    }

    /// How many registers an address fills.
    pub(crate) fn registers(self) -> u32 {
        match self {
            Self::Ipv4 => 1,
            Self::Ipv6 => 4,
        }
    }
}

/// Which of a packet's two addresses, or of its two interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Source,
    Destination,
}

/// `NFT_PAYLOAD_NETWORK_HEADER`.
const NETWORK_HEADER: u32 = 1;
/// `NFT_PAYLOAD_TRANSPORT_HEADER`.
const TRANSPORT_HEADER: u32 = 2;
/// The destination port is at the same place in TCP, UDP and SCTP.
const DESTINATION_PORT: Field = Field { base: TRANSPORT_HEADER, offset: 2, length: 2 };

/// A part of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field {
    base: u32,
    offset: u32,
    length: u32,
}

/// What is known of a packet besides its bytes (`NFT_META_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meta {
    InputName = 6,
    OutputName = 7,
    Family = 15,
    Transport = 16,
}

/// What connection tracking knows of a packet (`NFT_CT_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tracked {
    State = 0,
    Direction = 1,
    Status = 2,
}

/// `NFT_CT_STATE_BIT(IP_CT_ESTABLISHED) | NFT_CT_STATE_BIT(IP_CT_RELATED)`.
const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
/// `IPS_DST_NAT`: the destination was rewritten.
const DESTINATION_REWRITTEN: u32 = 1 << 5;
/// `RTN_LOCAL` of `linux/rtnetlink.h`: an address of the host.
const LOCAL: u32 = 2;

/// How a comparison has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Is {
    Equal = 0,
    Different = 1,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Drop,
    Accept,
    Jump(&'static str),
}

/// One step of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expression {
    LoadMeta {
        what: Meta,
        to: u32,
    },
    LoadTracked {
        what: Tracked,
        to: u32,
    },
    LoadField {
        field: Field,
        to: u32,
    },
    /// Writes into the packet and sets the checksum of its transport right.
    StoreField {
        field: Field,
        from: u32,
    },
    LoadBytes {
        bytes: Vec<u8>,
        to: u32,
    },
    /// The kind of the destination address: the host's own, broadcast, …
    LoadDestinationKind {
        to: u32,
    },
    And {
        register: u32,
        mask: Vec<u8>,
    },
    Compare {
        register: u32,
        is: Is,
        with: Vec<u8>,
    },
    /// Goes on only if the key is in the set; a map's value is put where `value` says.
    Lookup {
        set: &'static str,
        key: u32,
        value: Option<u32>,
    },
    RewriteDestination {
        family: Family,
        address: u32,
        port: u32,
    },
    Masquerade,
    Decide(Verdict),
}

use Expression as X;

/// A rule, in order.
pub(crate) type Rule = Vec<Expression>;

/// Goes on only for packets of the family; it has to come before any look at addresses.
pub(crate) fn family(family: Family) -> Rule {
    vec![X::LoadMeta { what: Meta::Family, to: 0 }, compare(Is::Equal, vec![family.number()])]
}

/// Goes on only if the packet came in from (`Source`) or goes out to (`Destination`) the interface, or not that one.
pub(crate) fn interface(side: Side, is: Is, name: &str) -> Rule {
    vec![X::LoadMeta { what: name_of(side), to: 0 }, compare(is, interface_key(name))]
}

/// Goes on only if the interface is in a set.
pub(crate) fn interface_in(side: Side, set: &'static str) -> Rule {
    vec![X::LoadMeta { what: name_of(side), to: 0 }, X::Lookup { set, key: 0, value: None }]
}

fn name_of(side: Side) -> Meta {
    match side {
        Side::Source => Meta::InputName,
        Side::Destination => Meta::OutputName,
    }
}

/// An interface's name as comparisons and sets have it: `IFNAMSIZ` bytes.
pub(crate) fn interface_key(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

/// Goes on only if the address is in the network.
pub(crate) fn address_in(family: Family, side: Side, network: &[u8], mask: &[u8]) -> Rule {
    vec![
        X::LoadField { field: family.address(side), to: 0 },
        X::And { register: 0, mask: mask.to_vec() },
        compare(Is::Equal, network.to_vec()),
    ]
}

/// Goes on only if the address is this one.
pub(crate) fn address_is(family: Family, side: Side, address: &[u8]) -> Rule {
    vec![X::LoadField { field: family.address(side), to: 0 }, compare(Is::Equal, address.to_vec())]
}

/// Goes on only for packets to an address of the host itself.
pub(crate) fn to_this_host() -> Rule {
    vec![X::LoadDestinationKind { to: 0 }, compare(Is::Equal, LOCAL.to_ne_bytes().to_vec())]
}

/// Goes on only if the packet belongs to a connection that was accepted before.
pub(crate) fn known_connection() -> Rule {
    has_bits(Tracked::State, ESTABLISHED_OR_RELATED)
}

/// Goes on only if the connection's destination was rewritten: it came in by a published port.
pub(crate) fn published_connection() -> Rule {
    has_bits(Tracked::Status, DESTINATION_REWRITTEN)
}

/// Goes on only for packets in this direction of their connection.
pub(crate) fn direction(direction: Direction) -> Rule {
    vec![X::LoadTracked { what: Tracked::Direction, to: 0 }, compare(Is::Equal, vec![direction as u8])]
}

/// `IP_CT_DIR_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Original = 0,
    Reply = 1,
}

fn has_bits(what: Tracked, bits: u32) -> Rule {
    vec![
        X::LoadTracked { what, to: 0 },
        X::And { register: 0, mask: bits.to_ne_bytes().to_vec() },
        compare(Is::Different, vec![0; 4]),
    ]
}

fn compare(is: Is, with: Vec<u8>) -> Expression {
    X::Compare { register: 0, is, with }
}

/// Loads transport and destination port, as the maps of published ports begin or end with them.
pub(crate) fn transport_and_port(to: u32) -> Rule {
    vec![X::LoadMeta { what: Meta::Transport, to }, X::LoadField { field: DESTINATION_PORT, to: to + 1 }]
}

/// Loads an address of the packet.
pub(crate) fn load_address(family: Family, side: Side, to: u32) -> Rule {
    vec![X::LoadField { field: family.address(side), to }]
}

/// Overwrites an address of the packet.
pub(crate) fn set_address(family: Family, side: Side, address: &[u8]) -> Rule {
    vec![X::LoadBytes { bytes: address.to_vec(), to: 0 }, X::StoreField { field: family.address(side), from: 0 }]
}

/// `NFT_REG32_00`: the number of register 0.
const FIRST_REGISTER: u32 = 8;
/// `NFT_REG_VERDICT`.
const VERDICT_REGISTER: u32 = 0;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;
/// `NFT_PAYLOAD_L4CSUM_PSEUDOHDR`.
const FIX_TRANSPORT_CHECKSUM: u32 = 1;
/// `NFTA_FIB_F_DADDR`.
const BY_DESTINATION: u32 = 2;
/// `NFT_FIB_RESULT_ADDRTYPE`.
const ADDRESS_TYPE: u32 = 3;
/// `NFT_NAT_DNAT`.
const DNAT: u32 = 1;
/// `NF_NAT_RANGE_PROTO_RANDOM_FULLY`: without it two packets at once may pick one port, and one of them is dropped.
const RANDOM_PORTS: u32 = 1 << 4;

impl Expression {
    /// Writes it as an element of a rule's list.
    pub(super) fn encode(&self, list: &mut Message) {
        let register = |number: u32| FIRST_REGISTER + number;
        let mut expression = |name: &str, data: &dyn Fn(&mut Message)| {
            list.nest(NFTA_LIST_ELEM, |m| {
                m.text(NFTA_EXPR_NAME, name);
                m.nest(NFTA_EXPR_DATA, data);
            });
        };
        let value = |m: &mut Message, kind: u16, bytes: &[u8]| m.nest(kind, |m| m.put(NFTA_DATA_VALUE, bytes));
        match self {
            // NFTA_META_DREG, NFTA_META_KEY.
            Self::LoadMeta { what, to } => expression("meta", &|m| {
                m.word_be(1, register(*to));
                m.word_be(2, *what as u32);
            }),
            // NFTA_CT_DREG, NFTA_CT_KEY.
            Self::LoadTracked { what, to } => expression("ct", &|m| {
                m.word_be(1, register(*to));
                m.word_be(2, *what as u32);
            }),
            // NFTA_PAYLOAD_DREG, _BASE, _OFFSET, _LEN.
            Self::LoadField { field, to } => expression("payload", &|m| {
                m.word_be(1, register(*to));
                m.word_be(2, field.base);
                m.word_be(3, field.offset);
                m.word_be(4, field.length);
            }),
            // NFTA_PAYLOAD_BASE, _OFFSET, _LEN, _SREG, _CSUM_TYPE (none: IPv6 has no checksum of its own), _CSUM_OFFSET, _CSUM_FLAGS.
            Self::StoreField { field, from } => expression("payload", &|m| {
                m.word_be(2, field.base);
                m.word_be(3, field.offset);
                m.word_be(4, field.length);
                m.word_be(5, register(*from));
                m.word_be(6, 0);
                m.word_be(7, 0);
                m.word_be(8, FIX_TRANSPORT_CHECKSUM);
            }),
            // NFTA_IMMEDIATE_DREG, NFTA_IMMEDIATE_DATA.
            Self::LoadBytes { bytes, to } => expression("immediate", &|m| {
                m.word_be(1, register(*to));
                value(m, 2, bytes);
            }),
            // NFTA_FIB_DREG, _RESULT, _FLAGS.
            Self::LoadDestinationKind { to } => expression("fib", &|m| {
                m.word_be(1, register(*to));
                m.word_be(2, ADDRESS_TYPE);
                m.word_be(3, BY_DESTINATION);
            }),
            // NFTA_BITWISE_SREG, _DREG, _LEN, _MASK, _XOR.
            Self::And { register: number, mask } => expression("bitwise", &|m| {
                m.word_be(1, register(*number));
                m.word_be(2, register(*number));
                m.word_be(3, mask.len() as u32);
                value(m, 4, mask);
                value(m, 5, &vec![0; mask.len()]);
            }),
            // NFTA_CMP_SREG, _OP, _DATA.
            Self::Compare { register: number, is, with } => expression("cmp", &|m| {
                m.word_be(1, register(*number));
                m.word_be(2, *is as u32);
                value(m, 3, with);
            }),
            // NFTA_LOOKUP_SET, _SREG, _DREG.
            Self::Lookup { set, key, value } => expression("lookup", &|m| {
                m.text(1, set);
                m.word_be(2, register(*key));
                value.iter().for_each(|value| m.word_be(3, register(*value)));
            }),
            // NFTA_NAT_TYPE, _FAMILY, _REG_ADDR_MIN, _REG_PROTO_MIN.
            Self::RewriteDestination { family, address, port } => expression("nat", &|m| {
                m.word_be(1, DNAT);
                m.word_be(2, u32::from(family.number()));
                m.word_be(3, register(*address));
                m.word_be(5, register(*port));
            }),
            // NFTA_MASQ_FLAGS.
            Self::Masquerade => expression("masq", &|m| m.word_be(1, RANDOM_PORTS)),
            // NFTA_IMMEDIATE_DREG, NFTA_IMMEDIATE_DATA.
            Self::Decide(verdict) => expression("immediate", &|m| {
                m.word_be(1, VERDICT_REGISTER);
                m.nest(2, |m| {
                    m.nest(NFTA_DATA_VERDICT, |m| {
                        let (code, chain) = match verdict {
                            Verdict::Drop => (0, None),
                            Verdict::Accept => (1, None),
                            // NFT_JUMP is -3.
                            Verdict::Jump(chain) => (u32::MAX - 2, Some(chain)),
                        };
                        m.word_be(NFTA_VERDICT_CODE, code);
                        chain.into_iter().for_each(|chain| m.text(NFTA_VERDICT_CHAIN, chain));
                    });
                });
            }),
        }
    }
}
