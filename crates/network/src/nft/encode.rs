//! Tables, chains, rules and elements as nfnetlink batches, and reading some of them back.

use super::element::Element;
use super::expression::Rule;
use super::ruleset::{ChainKind, Datum, Hook, Ruleset};
use carrack_netlink::{Batch, Message, NetlinkError, Reply, Socket, attributes, text, u32_be};

/// `NFNL_MSG_BATCH_BEGIN` and `_END`.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// `NFNL_SUBSYS_NFTABLES`: the upper byte of each message's type.
const NFTABLES: u16 = 10;
/// `NFPROTO_INET`: both IPv4 and IPv6.
const INET: u8 = 1;
/// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
const IPV4: u8 = 2;
const IPV6: u8 = 10;

const NEWTABLE: u16 = NFTABLES << 8;
const GETTABLE: u16 = NEWTABLE + 1;
const DELTABLE: u16 = NEWTABLE + 2;
const NEWCHAIN: u16 = NEWTABLE + 3;
const GETCHAIN: u16 = NEWTABLE + 4;
const NEWRULE: u16 = NEWTABLE + 6;
const GETRULE: u16 = NEWTABLE + 7;
const DELRULE: u16 = NEWTABLE + 8;
const NEWSET: u16 = NEWTABLE + 9;
const NEWSETELEM: u16 = NEWTABLE + 12;
const GETSETELEM: u16 = NEWTABLE + 13;
const DELSETELEM: u16 = NEWTABLE + 14;

/// `NLM_F_CREATE`, `NLM_F_EXCL`, `NLM_F_APPEND`.
const CREATE: u16 = 0x400;
const EXCLUSIVE: u16 = 0x200;
const APPEND: u16 = 0x800;
/// `NLM_F_ROOT | NLM_F_MATCH`.
const DUMP: u16 = 0x300;

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_USERDATA: u16 = 6;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_HANDLE: u16 = 3;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_RULE_USERDATA: u16 = 7;
const NFTA_SET_TABLE: u16 = 1;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_DATA_TYPE: u16 = 6;
const NFTA_SET_DATA_LEN: u16 = 7;
const NFTA_SET_ID: u16 = 10;
const NFTA_SET_USERDATA: u16 = 13;
/// `NFT_SET_MAP`.
const MAP: u32 = 8;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;

/// `NF_ACCEPT`.
const ACCEPT: u32 = 1;
/// `NF_DROP`.
const DROP: u32 = 0;

/// `struct nfgenmsg`: family, version 0, and a resource which is the subsystem in frames and 0 elsewhere.
fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

fn in_a_batch(requests: impl FnOnce(&mut Batch)) -> Batch {
    let mut batch = Batch::new();
    batch.frame("begin", BATCH_BEGIN, &header(0, NFTABLES));
    requests(&mut batch);
    batch.frame("end", BATCH_END, &header(0, NFTABLES));
    batch
}

/// Makes the table with its rules and these elements in it; a table of that name that was there before goes. `comment` is kept with the table.
pub(crate) fn replace_table(ruleset: &Ruleset, comment: &str, elements: &[Element]) -> Batch {
    in_a_batch(|batch| {
        let table = ruleset.table.as_str();
        // Making it first lets the removal succeed in any case.
        for name in ["declare table", "create table"] {
            batch.request(name, NEWTABLE, CREATE, &header(INET, 0), |m| {
                m.text(NFTA_TABLE_NAME, table);
                m.put(NFTA_TABLE_USERDATA, &comment_bytes(comment));
            });
            if name == "declare table" {
                batch.request("remove table", DELTABLE, 0, &header(INET, 0), |m| m.text(NFTA_TABLE_NAME, table));
            }
        }
        write_rules(batch, ruleset);
        write_elements(batch, table, elements, 0);
    })
}

fn write_rules(batch: &mut Batch, ruleset: &Ruleset) {
    let table = ruleset.table.as_str();
    for (index, set) in ruleset.sets.iter().enumerate() {
        batch.request("create set", NEWSET, CREATE, &header(INET, 0), |m| {
            m.text(NFTA_SET_TABLE, table);
            m.text(NFTA_SET_NAME, set.name);
            m.word_be(NFTA_SET_FLAGS, if set.value.is_empty() { 0 } else { MAP });
            m.word_be(NFTA_SET_KEY_TYPE, type_number(&set.key));
            m.word_be(NFTA_SET_KEY_LEN, length(&set.key));
            if !set.value.is_empty() {
                m.word_be(NFTA_SET_DATA_TYPE, type_number(&set.value));
                m.word_be(NFTA_SET_DATA_LEN, length(&set.value));
            }
            m.word_be(NFTA_SET_ID, index as u32 + 1);
            if set.key == [Datum::Interface] {
                m.put(NFTA_SET_USERDATA, &host_byte_order());
            }
        });
        let elements = set.elements.iter().map(|key| Element { set: set.name, key: key.clone(), value: vec![] });
        write_elements(batch, table, &elements.collect::<Vec<_>>(), 0);
    }
    for chain in &ruleset.chains {
        batch.request("create chain", NEWCHAIN, CREATE, &header(INET, 0), |m| {
            m.text(NFTA_CHAIN_TABLE, table);
            m.text(NFTA_CHAIN_NAME, chain.name);
            if let Some(base) = chain.base {
                m.nest(NFTA_CHAIN_HOOK, |m| {
                    m.word_be(NFTA_HOOK_HOOKNUM, base.hook as u32);
                    m.word_be(NFTA_HOOK_PRIORITY, base.priority as u32);
                });
                m.word_be(NFTA_CHAIN_POLICY, ACCEPT);
                m.text(
                    NFTA_CHAIN_TYPE,
                    match base.kind {
                        ChainKind::Filter => "filter",
                        ChainKind::Nat => "nat",
                    },
                );
            }
        });
    }
    for chain in &ruleset.chains {
        for rule in &chain.rules {
            batch.request("create rule", NEWRULE, CREATE | APPEND, &header(INET, 0), |m| {
                m.text(NFTA_RULE_TABLE, table);
                m.text(NFTA_RULE_CHAIN, chain.name);
                m.nest(NFTA_RULE_EXPRESSIONS, |m| rule.iter().for_each(|expression| expression.encode(m)));
            });
        }
    }
}

/// A note for `nft list`, without which it cannot print names: type 0 (the key's byte order), length 4, 1 for the host's.
fn host_byte_order() -> Vec<u8> {
    [&[0, 4][..], &1_u32.to_ne_bytes()].concat()
}

/// nft's number for several data in a row: six bits each.
fn type_number(data: &[Datum]) -> u32 {
    data.iter().fold(0, |number, datum| number << 6 | datum.number())
}

/// Each datum fills whole registers of four bytes.
fn length(data: &[Datum]) -> u32 {
    data.iter().map(|datum| datum.length().next_multiple_of(4) as u32).sum()
}

/// nft's form of a comment: type 0, length, text and a zero byte.
fn comment_bytes(comment: &str) -> Vec<u8> {
    let mut bytes = vec![0, comment.len() as u8 + 1];
    bytes.extend(comment.as_bytes());
    bytes.push(0);
    bytes
}

/// Adds elements; one that is there already makes the kernel refuse them all.
pub(crate) fn add_elements(table: &str, elements: &[Element]) -> Batch {
    in_a_batch(|batch| write_elements(batch, table, elements, EXCLUSIVE))
}

fn write_elements(batch: &mut Batch, table: &str, elements: &[Element], flags: u16) {
    for element in elements {
        batch
            .request("add element", NEWSETELEM, CREATE | flags, &header(INET, 0), |m| write_element(m, table, element));
    }
}

fn write_element(m: &mut Message, table: &str, element: &Element) {
    m.text(NFTA_SET_ELEM_LIST_TABLE, table);
    m.text(NFTA_SET_ELEM_LIST_SET, element.set);
    m.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |m| {
        m.nest(NFTA_LIST_ELEM, |m| {
            m.nest(NFTA_SET_ELEM_KEY, |m| m.put(NFTA_DATA_VALUE, &element.key));
            if !element.value.is_empty() {
                m.nest(NFTA_SET_ELEM_DATA, |m| m.put(NFTA_DATA_VALUE, &element.value));
            }
        });
    });
}

/// Removes elements, whatever their values; if one is absent the kernel refuses and removes none.
pub(crate) fn delete_elements(table: &str, elements: &[Element]) -> Batch {
    in_a_batch(|batch| {
        for element in elements {
            let key = Element { value: vec![], ..element.clone() };
            batch.request("delete element", DELSETELEM, 0, &header(INET, 0), |m| write_element(m, table, &key));
        }
    })
}

/// Removes the table and all in it; the kernel refuses if it is absent.
pub(crate) fn delete_table(table: &str) -> Batch {
    in_a_batch(|batch| batch.request("delete table", DELTABLE, 0, &header(INET, 0), |m| m.text(NFTA_TABLE_NAME, table)))
}

/// The table's comment; `None`: there is no such table. A table without a comment has an empty one.
pub(crate) fn table_comment(socket: &Socket, table: &str) -> Result<Option<String>, NetlinkError> {
    let mut batch = Batch::new();
    batch.request("look up table", GETTABLE, 0, &header(INET, 0), |m| m.text(NFTA_TABLE_NAME, table));
    match socket.exchange(&batch) {
        Ok(replies) => Ok(replies.iter().find(|reply| reply.kind == NEWTABLE).map(|reply| {
            let comment = reply.attributes(4).find(|(kind, _)| *kind == NFTA_TABLE_USERDATA);
            comment.and_then(|(_, value)| value.get(2..)).map(text).unwrap_or_default()
        })),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}

/// A base chain of somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForeignChain {
    family: u8,
    pub(crate) table: String,
    name: String,
    /// Whether it drops packets that no rule of it decides.
    pub(crate) drops: bool,
}

impl ForeignChain {
    /// Family, table and name, as `nft list chain` takes them.
    pub(crate) fn path(&self) -> String {
        let family = match self.family {
            INET => "inet",
            IPV4 => "ip",
            _ => "ip6",
        };
        format!("{family} {} {}", self.table, self.name)
    }
}

/// All base chains on the host that see forwarded IP packets.
pub(crate) fn forward_chains(socket: &Socket) -> Result<Vec<ForeignChain>, NetlinkError> {
    let mut batch = Batch::new();
    batch.request("list chains", GETCHAIN, DUMP, &header(0, 0), |_| {});
    Ok(socket.exchange(&batch)?.iter().filter(|reply| reply.kind == NEWCHAIN).filter_map(forward_chain).collect())
}

fn forward_chain(reply: &Reply) -> Option<ForeignChain> {
    let family = *reply.body.first().filter(|family| [INET, IPV4, IPV6].contains(family))?;
    let find = |wanted: u16| reply.attributes(4).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let hook = attributes(find(NFTA_CHAIN_HOOK)?).find(|(kind, _)| *kind == NFTA_HOOK_HOOKNUM)?.1;
    if u32_be(hook)? != Hook::Forward as u32 {
        return None;
    }
    let drops = find(NFTA_CHAIN_POLICY).and_then(u32_be) == Some(DROP);
    Some(ForeignChain { family, table: text(find(NFTA_CHAIN_TABLE)?), name: text(find(NFTA_CHAIN_NAME)?), drops })
}

/// The handles of the chain's rules that have this comment.
pub(crate) fn rules_with(socket: &Socket, chain: &ForeignChain, comment: &str) -> Result<Vec<Vec<u8>>, NetlinkError> {
    let mut batch = Batch::new();
    batch.request("list rules", GETRULE, DUMP, &header(chain.family, 0), |m| {
        m.text(NFTA_RULE_TABLE, &chain.table);
        m.text(NFTA_RULE_CHAIN, &chain.name);
    });
    let wanted = comment_bytes(comment);
    let handle = |reply: &Reply| {
        let find = |wanted: u16| reply.attributes(4).find(|(kind, _)| *kind == wanted).map(|(_, value)| value.to_vec());
        find(NFTA_RULE_USERDATA).filter(|comment| *comment == wanted).and_then(|_| find(NFTA_RULE_HANDLE))
    };
    Ok(socket.exchange(&batch)?.iter().filter(|reply| reply.kind == NEWRULE).filter_map(handle).collect())
}

/// Puts rules at the head of somebody's chain, marked by a comment.
pub(crate) fn insert_rules(chain: &ForeignChain, rules: &[Rule], comment: &str) -> Batch {
    in_a_batch(|batch| {
        for rule in rules {
            batch.request("insert rule", NEWRULE, CREATE, &header(chain.family, 0), |m| {
                m.text(NFTA_RULE_TABLE, &chain.table);
                m.text(NFTA_RULE_CHAIN, &chain.name);
                m.nest(NFTA_RULE_EXPRESSIONS, |m| rule.iter().for_each(|expression| expression.encode(m)));
                m.put(NFTA_RULE_USERDATA, &comment_bytes(comment));
            });
        }
    })
}

/// Removes rules by their handles.
pub(crate) fn delete_rules(chain: &ForeignChain, handles: &[Vec<u8>]) -> Batch {
    in_a_batch(|batch| {
        for handle in handles {
            batch.request("delete rule", DELRULE, 0, &header(chain.family, 0), |m| {
                m.text(NFTA_RULE_TABLE, &chain.table);
                m.text(NFTA_RULE_CHAIN, &chain.name);
                m.put(NFTA_RULE_HANDLE, handle);
            });
        }
    })
}

/// The elements of a set; none if there is no such table.
pub(crate) fn list_elements(socket: &Socket, table: &str, set: &'static str) -> Result<Vec<Element>, NetlinkError> {
    let mut batch = Batch::new();
    batch.request("list elements", GETSETELEM, DUMP, &header(INET, 0), |m| {
        m.text(NFTA_SET_ELEM_LIST_TABLE, table);
        m.text(NFTA_SET_ELEM_LIST_SET, set);
    });
    match socket.exchange(&batch) {
        Ok(replies) => {
            Ok(replies.iter().filter(|reply| reply.kind == NEWSETELEM).flat_map(|r| read_elements(r, set)).collect())
        }
        Err(error) if error.is_absent() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn read_elements(reply: &Reply, set: &'static str) -> Vec<Element> {
    let lists = reply.attributes(4).filter(|(kind, _)| *kind == NFTA_SET_ELEM_LIST_ELEMENTS);
    let each = lists.flat_map(|(_, list)| attributes(list));
    each.map(|(_, element)| {
        let value_of = |wanted: u16| {
            let data = attributes(element).find(|(kind, _)| *kind == wanted)?.1;
            attributes(data).find(|(kind, _)| *kind == NFTA_DATA_VALUE).map(|(_, value)| value.to_vec())
        };
        Element {
            set,
            key: value_of(NFTA_SET_ELEM_KEY).unwrap_or_default(),
            value: value_of(NFTA_SET_ELEM_DATA).unwrap_or_default(),
        }
    })
    .collect()
}

impl Ruleset {
    /// A text that changes whenever the rules do; kept with the table, so that another version of the program replaces them.
    pub(crate) fn fingerprint(&self) -> String {
        let mut batch = Batch::new();
        write_rules(&mut batch, self);
        let (bytes, _) = batch.sealed();
        // FNV-1a: a fingerprint against accidents, not against malice.
        let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        format!("carrack rules {hash:016x}")
    }
}
